"""What close() does to those who wait, to what is under way, and to a queue that is used again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections.abc import Callable
from concurrent.futures import wait as wait_for_all
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio

from helpers import Asyncio, Face, Make, check_places, eventually, seed, snapshot, within
from lines import AsIfAsync, Lines, Work, in_thread, until
from proxy import Proxy
from saferedis.server import EmbeddedServer, ServerNotFound
from saferedis.server import _find_binary as find_binary
from saferedisqueue import AsyncSafeRedisQueue, QueueClosed, _Pool
from servers import Server
from topologies import elsewhere

HANG = 10  # seconds after which what has not returned will not


@pytest.fixture
def name() -> str:
    """Of the test's queue: what another test could not end does not disturb it."""
    return secrets.token_hex(8)


@pytest.fixture
def queue(many: Callable[..., Any], name: str, lines: Lines) -> Any:
    return many(name=name, wait_slice=5, autoclean_interval=3600, **lines.named)


class Closing:
    """Works with a queue in threads or tasks, and closes it meanwhile."""

    def __init__(self, face: Face, queue: Any, *works: Work, apart: float = 0) -> None:
        self._face, self._queue, self._works, self._apart = face, queue, works, apart
        self.ready: Callable[[int], Any] = lambda begun: True  # whether so many are under way
        self.closed: Callable[[], Any] = lambda: None  # called when it is

    def outcomes(self) -> list[Any]:
        """What became of each: its result or error, within a second of the close, as that."""
        if isinstance(self._face, Asyncio):
            return self._face.run(self._in_tasks())
        return self._in_threads()

    def _in_threads(self) -> list[Any]:
        results = []
        for work in self._works:
            results.append(elsewhere(lambda work=work: in_thread(work, self._queue)))
            eventually(lambda: self.ready(len(results)), HANG)
            time.sleep(self._apart)
        with within(1):
            self._queue.close()
        self.closed()
        with within(1):
            done, _ = wait_for_all(results, timeout=HANG)
        return [each.exception() or each.result() for each in results if each in done]

    async def _in_tasks(self) -> list[Any]:
        tasks: list[asyncio.Task[Any]] = []
        try:
            for work in self._works:
                tasks.append(asyncio.create_task(work(self._queue.wrapped)))
                await until(lambda: self.ready(len(tasks)), HANG)
                await asyncio.sleep(self._apart)
            with within(1):
                await asyncio.wait_for(self._queue.wrapped.close(), HANG)
            self.closed()
            with within(1):
                done, _ = await asyncio.wait(tasks, timeout=HANG)
            return [
                each.exception() or each.result() if each in done else "waits" for each in tasks
            ]
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.wait(tasks)


async def get(queue: Any) -> Any:
    return await queue.get()


async def get_within_a_minute(queue: Any) -> Any:
    return await queue.get(60)


async def get_many(queue: Any) -> Any:
    return await queue.get_many(3)


async def join(queue: Any) -> Any:
    return await queue.join()


async def consume(queue: Any) -> Any:
    async for item in queue.consume():
        return item


async def consume_in_a_block(queue: Any) -> Any:
    async with queue.consume(prefetch=10) as items:
        async for item in items:
            return item


async def processing(queue: Any) -> Any:
    async with queue.processing() as item:
        return item


# -- what waits ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "waits", [get, get_within_a_minute, get_many, consume, consume_in_a_block, processing]
)
def test_what_waits_for_an_item_ends_as_the_queue_is_closed(
    face: Face, queue: Any, lines: Lines, waits: Work
) -> None:
    closing = Closing(face, queue, waits)
    closing.ready = lambda begun: lines.waiting == begun
    (outcome,) = closing.outcomes()
    assert isinstance(outcome, QueueClosed), outcome
    assert queue.name in str(outcome)
    eventually(lambda: lines.now == 0, HANG)


def test_a_get_that_has_just_got_its_connection_ends_as_the_queue_is_closed(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = make(wait_slice=30)
    queue.get(-1)
    take, taken = _Pool.take, []

    def take_and_close(pool: _Pool, end: float) -> Any:
        taken.append(take(pool, end))
        if len(taken) == 2:  # the first is for the claim
            queue.close()
        return taken[-1]

    monkeypatch.setattr(_Pool, "take", take_and_close)
    with within(1), pytest.raises(QueueClosed):
        queue.get(15)


@pytest.mark.parametrize("wait_slice", [0.5, 30])
def test_gets_that_were_begun_apart_end_as_the_queue_is_closed(
    face: Face, many: Callable[..., Any], name: str, lines: Lines, wait_slice: float
) -> None:
    queue = many(name=name, wait_slice=wait_slice, **lines.named)
    closing = Closing(face, queue, *[get] * 5, apart=0.1)
    closing.ready = lambda begun: wait_slice < 1 or lines.waiting == begun
    outcomes = closing.outcomes()
    assert [type(each) for each in outcomes] == [QueueClosed] * 5
    eventually(lambda: lines.now == 0, HANG)


def test_a_join_that_waits_ends_as_the_queue_is_closed(
    face: Face, queue: Any, lines: Lines, client: redis.Redis
) -> None:
    seed(client, queue.name, items={"a": "A"}, queue=["a"])
    closing = Closing(face, queue, join, apart=0.05)
    closing.ready = lambda begun: lines.now >= begun
    (outcome,) = closing.outcomes()
    assert isinstance(outcome, QueueClosed), outcome
    assert snapshot(client, queue.name)["queue"] == ["a"]


def test_a_get_that_waits_for_a_server_that_is_away_ends_as_the_queue_is_closed(
    face: Face, own_server: Server
) -> None:
    queue = face.queue(url=own_server.url, name="test")
    queue.put("a")
    own_server.kill()
    (outcome,) = Closing(face, queue, get, apart=0.3).outcomes()
    assert isinstance(outcome, QueueClosed), outcome


def test_a_get_that_waits_while_the_queue_is_paused_ends_as_the_queue_is_closed(
    face: Face, queue: Any
) -> None:
    queue.put("a")
    queue.pause()
    (outcome,) = Closing(face, queue, get, apart=0.3).outcomes()
    assert isinstance(outcome, QueueClosed), outcome
    queue.resume()
    assert queue.get(-1).attempts == 1


def test_a_wait_of_another_queue_of_the_same_client_goes_on(
    face: Face, server: Server, name: str, lines: Lines, make: Make
) -> None:
    settings: dict[str, Any] = {"unix_socket_path": server.socket, **lines.named}
    of_asyncio = isinstance(face, Asyncio)
    client: Any = redis.asyncio.Redis(**settings) if of_asyncio else redis.Redis(**settings)
    queue, other = (face.queue(client=client, name=each) for each in (name, f"{name} too"))

    async def get_of_other(_: Any) -> Any:
        return await (other.wrapped if of_asyncio else AsIfAsync(other)).get(60)

    closing = Closing(face, queue, get_of_other, get)
    closing.ready = lambda begun: lines.waiting == begun
    closing.closed = lambda: make(name=other.name).put("a", uid="a")
    item, outcome = closing.outcomes()
    assert isinstance(outcome, QueueClosed), outcome
    assert item.uid == "a"
    assert other.ack(item.uid)
    if isinstance(face, Asyncio):
        face.run(client.aclose())
    else:
        client.close()


def test_what_comes_as_the_queue_is_closed_is_delivered_or_back_uncounted(
    face: Face, queue: Any, lines: Lines, make: Make, client: redis.Redis
) -> None:
    other = make(name=queue.name)
    for n in range(20):
        uid, puts = str(n), []

        def put(after: float = n / 10_000, uid: str = uid) -> None:
            time.sleep(after)  # now before the close, now after it
            other.put(uid, uid=uid)

        closing = Closing(face, queue, get)
        closing.ready = lambda begun, put=put, puts=puts: (
            lines.waiting == begun and puts.append(elsewhere(put)) is None
        )
        (outcome,) = closing.outcomes()
        puts[0].result(HANG)
        if isinstance(outcome, QueueClosed):
            eventually(lambda uid=uid: snapshot(client, queue.name).get("queue") == [uid], HANG)
            outcome = other.get(-1)
        assert (outcome.uid, outcome.attempts) == (uid, 1)
        check_places(client, queue.name)
        assert other.ack(outcome.uid)


# -- and afterwards --------------------------------------------------------------------------------


def test_a_queue_that_was_closed_while_a_get_waited_works_again(
    face: Face, queue: Any, lines: Lines
) -> None:
    for n in ("first", "second"):
        closing = Closing(face, queue, get)
        closing.ready = lambda begun: lines.waiting == begun
        (outcome,) = closing.outcomes()
        assert isinstance(outcome, QueueClosed), outcome
        assert queue.put("a", uid=n) == n
        assert queue.get(1).uid == n
        assert queue.ack(n) is True
        assert queue.get(0.02).uid is None


def test_close_may_be_called_again(face: Face, queue: Any, lines: Lines) -> None:
    queue.close()
    uid = queue.put("a")
    for _ in range(3):
        with within(1):
            queue.close()
    eventually(lambda: lines.now == 0, HANG)
    assert queue.get(-1).uid == uid


def test_two_may_close_at_once_while_gets_wait(face: Face, queue: Any, lines: Lines) -> None:
    async def close(queue: Any) -> str:
        await queue.close()
        return "closed"

    closing = Closing(face, queue, get, get, close)
    closing.ready = lambda begun: begun == 3 or lines.waiting == begun
    *gets, closed = closing.outcomes()
    assert [type(each) for each in gets] == [QueueClosed] * 2
    assert closed == "closed"


@pytest.mark.parametrize("goes_on", [False, True], ids=["is silent", "goes on"])
def test_a_connection_that_nobody_awaits_any_more_is_not_opened_after_the_close(
    server: Server, lines: Lines, name: str, goes_on: bool
) -> None:
    """Nor is its task left to the event loop, if it has lost a cancellation.

    With Python 3.11 redis-py loses one that comes as it sends: wait_for has it return as usual.
    """
    tries = 0
    never = asyncio.Event()

    class Loses(redis.asyncio.UnixDomainSocketConnection):
        async def connect(self) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                with contextlib.suppress(asyncio.CancelledError):
                    await never.wait()
                if goes_on:
                    return await super().connect()
            await never.wait()

    async def test() -> None:
        pool = redis.asyncio.ConnectionPool(
            connection_class=Loses, path=server.socket, **lines.named
        )
        queue = AsyncSafeRedisQueue[bytes](
            client=redis.asyncio.Redis(connection_pool=pool), name=name
        )
        putting = asyncio.create_task(queue.put(b"a"))
        await until(lambda: tries, HANG)
        putting.cancel()
        await asyncio.wait([putting])
        with within(0.1):
            await queue.close()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert tries == 1
        await until(lambda: lines.now == 0, HANG)

    asyncio.run(test())


def test_a_put_under_way_is_stored_if_it_says_so_and_close_does_not_wait_for_it(
    face: Face, server: Server, client: redis.Redis, name: str
) -> None:
    async def put(queue: Any) -> Any:
        return await queue.put("a")

    with Proxy(server) as proxy:
        queue = face.queue(url=proxy.url, name=name)
        assert queue.stats().total == 0
        proxy.fail_at(0, "late reply")
        closing = Closing(face, queue, put)
        closing.ready = lambda _: proxy.failed
        closing.closed = proxy.release
        (outcome,) = closing.outcomes()
        if isinstance(outcome, Exception):
            assert isinstance(outcome, (QueueClosed, redis.ConnectionError, redis.TimeoutError))
            assert len(snapshot(client, name).get("items", {})) <= 1
        else:
            assert snapshot(client, name)["items"] == {outcome: "a"}
        uid = queue.put("b")
        assert uid in snapshot(client, name)["queue"]
        check_places(client, name)


# -- the embedded server ---------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of an embedded server, which ends by itself after those who use it."""
    try:
        find_binary()
    except ServerNotFound as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))
    return tmp_path / "d"


USES: dict[str, Callable[[Any], Any]] = {
    "put": lambda queue: queue.put("b"),
    "put_many": lambda queue: queue.put_many([*"bc"]),
    "get": lambda queue: queue.get(),
    "get with a timeout": lambda queue: queue.get(1),
    "get_nowait": lambda queue: queue.get_nowait(),
    "ack": lambda queue: queue.ack("a"),
    "fail": lambda queue: queue.fail("a"),
    "stats": lambda queue: queue.stats(),
    "exists": lambda queue: queue.exists("a"),
    "join": lambda queue: queue.join(),
    "consume": lambda queue: next(iter(queue.consume())),
}


def test_an_embedded_queue_that_was_closed_says_so_at_once(face: Face, directory: Path) -> None:
    url = f"embedded://{directory}"
    queue = face.queue(url=url, name="test")
    assert queue.put("a", uid="a")
    queue.close()
    for use in USES.values():
        with pytest.raises(QueueClosed, match="closed"), within(0):
            use(queue)
    queue.close()
    again = face.queue(url=url, name="test")
    assert again.get(-1).uid == "a"


@pytest.mark.parametrize("waits", [get, consume])
def test_what_waits_on_an_embedded_server_ends_as_the_queue_is_closed(
    face: Face, directory: Path, waits: Work
) -> None:
    queue = face.queue(url=f"embedded://{directory}", name="test")

    def waiting() -> int:
        with EmbeddedServer(directory) as same, redis.Redis.from_url(same.url) as client:
            found: int = client.info("clients")["blocked_clients"]
            return found

    closing = Closing(face, queue, *[waits] * 3)
    closing.ready = lambda begun: waiting() == begun
    assert [type(each) for each in closing.outcomes()] == [QueueClosed] * 3
    with pytest.raises(QueueClosed), within(0):
        queue.put("a")
