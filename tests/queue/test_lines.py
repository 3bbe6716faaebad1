"""How many connections a queue holds, and the keys of its calls: what is over leaves neither."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import saferedisqueue
from helpers import Asyncio, Face, Make, eventually, within
from lines import Lines, crowd, is_lack_of_connections, until
from proxy import Proxy
from saferedisqueue import AsyncSafeRedisQueue
from servers import Server
from topologies import elsewhere

CALLS = 1  # asyncio: one connection for all calls, and one more for each wait


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test opens, the latest first."""
    with ExitStack() as opened:
        yield opened


def pooled(flavour: Any, server: Server, pool: str = "ConnectionPool", **settings: Any) -> Any:
    """A client of redis or redis.asyncio, with a pool of that class."""
    kind = flavour.UnixDomainSocketConnection
    of_kind = getattr(flavour, pool)(connection_class=kind, path=server.socket, **settings)
    return flavour.Redis(connection_pool=of_kind)


Clients = Callable[..., Any]


@pytest.fixture
def client_of(face: Face, server: Server, lines: Lines, stack: ExitStack) -> Clients:
    """Makes such clients of the face's kind, whose connections are counted."""

    def make(*args: Any, **limits: Any) -> Any:
        if isinstance(face, Asyncio):
            client = pooled(redis.asyncio, server, *args, **lines.named, **limits)
            stack.callback(lambda: face.loop.run_until_complete(client.aclose()))
            return client
        return stack.enter_context(pooled(redis, server, *args, **lines.named, **limits))

    return make


# -- one that works --------------------------------------------------------------------------------


def test_who_puts_gets_waits_and_acks_holds_one_connection(
    face: Face, many: Callable[..., Any], lines: Lines
) -> None:
    """asyncio has another for what waits, since its calls share the one."""
    queue = many(**lines.named)
    for timeout in (0, -1, 1, 60):
        queue.put("a")
        assert queue.ack(queue.get(timeout).uid)
        assert queue.stats().total == 0
    assert lines.now == 1
    assert queue.get(0.02).uid is None
    queue.put("b")
    assert lines.now <= (2 if isinstance(face, Asyncio) else 1)


def test_the_queues_of_a_client_hold_one_connection_one_after_the_other(
    face: Face, client_of: Clients, lines: Lines
) -> None:
    shared = client_of()
    queues = [face.queue(client=shared, name=f"q{n}") for n in range(50)]
    for queue in queues:
        uid = queue.put(queue.name)
        item = queue.get(1)
        assert (item.uid, item.payload) == (uid, queue.name.encode())
        assert queue.ack(item.uid)
    assert lines.now == 1


def test_the_calls_of_all_tasks_share_one_connection(server: Server, lines: Lines) -> None:
    async def work(queue: AsyncSafeRedisQueue[bytes]) -> None:
        await queue.put(b"a")
        await queue.ack((await queue.get(60)).uid or "")  # which does not wait: there is one

    async def test() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test", **lines.named) as queue:
            with lines.watched():
                await asyncio.gather(*(work(queue) for _ in range(200)))
            assert (await queue.stats()).total == 0

    asyncio.run(test())
    # Where redis-py drives them each call has one while it lasts.
    assert lines.most == 1 if saferedisqueue.hiredis else lines.most <= 200


# -- as many as a client may have ------------------------------------------------------------------


async def put_get_ack(queue: Any) -> None:
    for n in range(5):
        await queue.put(b"%d" % n)
        item = await queue.get(60)
        assert await queue.ack(item.uid)


async def get_for_a_second(queue: Any) -> Any:
    return (await queue.get(1)).uid


@pytest.mark.parametrize("how", ["client", "blocking pool", "url"])
def test_twenty_at_once_work_with_as_few_connections_as_the_client_may_have(
    face: Face, client_of: Clients, many: Callable[..., Any], lines: Lines, how: str
) -> None:
    if how == "url":
        queue = many(max_connections=2, **lines.named)
    else:
        pool = "ConnectionPool" if how == "client" else "BlockingConnectionPool"
        queue = face.queue(client=client_of(pool, max_connections=2), name="test")
    with lines.watched():
        assert crowd(face, queue, 20, put_get_ack) == [None] * 20
    assert lines.most <= 2
    assert queue.stats().total == 0


def test_twenty_that_wait_with_few_connections_end_with_their_timeouts(
    face: Face, client_of: Clients, lines: Lines
) -> None:
    """Who got none may say so, instead of that there was nothing; and a second later, as ever."""
    queue = face.queue(client=client_of(max_connections=2), name="test")
    with lines.watched(), within(2):
        outcomes = crowd(face, queue, 20, get_for_a_second)
    lacking = [outcome for outcome in outcomes if outcome is not None]
    assert [repr(each) for each in lacking if not is_lack_of_connections(each)] == []
    assert lines.most <= 2
    assert queue.put("a") == queue.get(1).uid


@pytest.mark.parametrize("most", [1, 2])
def test_gets_that_wait_do_not_keep_puts_from_the_only_connections(
    face: Face, client_of: Clients, lines: Lines, most: int
) -> None:
    queue = face.queue(client=client_of(max_connections=most), name="test", wait_slice=0.1)
    number = itertools.count()

    async def get_or_put(queue: Any) -> Any:
        if next(number) < 4:
            return (await queue.get(60)).uid
        return await queue.put("a")

    with lines.watched():
        uids = crowd(face, queue, 8, get_or_put)
    assert Counter(Counter(uids).values()) == {2: 4}, "each was put once and got once"
    assert lines.most <= most


def test_a_blocking_pool_s_timeout_is_the_longest_that_a_call_waits_for_a_connection(
    server: Server, lines: Lines, make: Make
) -> None:
    """Of threads: the calls of tasks share one, which is always there."""
    with pooled(
        redis, server, "BlockingConnectionPool", max_connections=1, timeout=0.2, **lines.named
    ) as few:
        queue, other = make(client=few, wait_slice=30), make(client=few, name="other")
        waiting = elsewhere(lambda: queue.get(60))
        eventually(lambda: lines.waiting == 1)
        for use in (lambda: queue.put("a"), lambda: other.put("a"), lambda: other.get(-1)):
            start = time.monotonic()
            with pytest.raises(redis.ConnectionError, match="max_connections"), within(0.2):
                use()
            assert time.monotonic() - start >= 0.15
        assert lines.now == 1
        uid = make().put("a")
        assert waiting.result(60).uid == uid
        assert queue.ack(uid), "the connection is there again"


@pytest.mark.parametrize("pool", ["ConnectionPool", "BlockingConnectionPool"])
def test_a_call_waits_for_a_connection_that_comes_in_time(
    server: Server, lines: Lines, make: Make, pool: str
) -> None:
    with pooled(redis, server, pool, max_connections=1, **lines.named) as few:
        queue = make(client=few, wait_slice=30)
        waiting = elsewhere(lambda: queue.get(0.5))
        eventually(lambda: lines.waiting == 1)
        with lines.watched():
            assert make(client=few, name="other").put("a")
        assert waiting.result(60).uid is None
        assert lines.most == 1


def test_what_is_lost_while_another_is_being_opened_keeps_no_place(
    server: Server, lines: Lines
) -> None:
    async def test() -> None:
        client = pooled(redis.asyncio, server, max_connections=1, **lines.named)
        queue = AsyncSafeRedisQueue[bytes](client=client, name="test")
        for turns in range(10):
            put = asyncio.create_task(queue.put(b"a"))
            for _ in range(turns):
                await asyncio.sleep(0)
            await queue.close()  # it may meet the opening
            await put
            for each in lines.all():
                lines.client.client_kill_filter(_id=each["id"])
            with within(2):
                await queue.put(b"b")
            await queue.close()
        await client.aclose()

    asyncio.run(test())


# -- what is idle ----------------------------------------------------------------------------------


def test_connections_of_a_crowd_that_is_gone_go_as_calls_go_on(
    face: Face,
    many: Callable[..., Any],
    lines: Lines,
    make: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(saferedisqueue, "_IDLE_SECONDS", 0.05)
    queue = many(**lines.named)
    gone = elsewhere(lambda: crowd(face, queue, 20, lambda queue: queue.get(60)))
    eventually(lambda: lines.waiting == 20)
    assert lines.now >= 20
    uids = make().put_many(str(n) for n in range(20))
    assert {item.uid for item in gone.result(60)} == set(uids)

    def has_shrunk() -> bool:
        queue.put("a")
        queue.ack(queue.get(1).uid)
        return lines.now <= 2

    eventually(has_shrunk, 10)


# -- waits that were cancelled ---------------------------------------------------------------------


async def cancelled(*waits: asyncio.Task[Any]) -> None:
    for each in waits:
        each.cancel()
    await asyncio.wait(waits)
    assert all(each.cancelled() for each in waits)


def test_polling_with_wait_for_leaves_neither_keys_nor_connections(
    server: Server, lines: Lines
) -> None:
    async def test() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test", **lines.named) as queue:
            with lines.watched():
                for _ in range(40):
                    with pytest.raises(asyncio.TimeoutError):
                        await asyncio.wait_for(queue.get(), 0.05)
            assert lines.keys() <= 3
            # At the server a wait may end a moment after the next began.
            assert lines.most <= CALLS + 2
            await until(lambda: lines.now <= CALLS + 1, 10)

    asyncio.run(test())


def test_who_is_cancelled_while_connections_are_closed_closes_them_all(
    server: Server, lines: Lines
) -> None:
    async def test() -> None:
        for turns in range(12):
            queue = AsyncSafeRedisQueue[bytes](url=server.url, name="test", **lines.named)
            gets = [asyncio.create_task(queue.get()) for _ in range(10)]
            await until(lambda: lines.waiting == 10, 10)
            await queue.put_many(["a"] * 10)
            await asyncio.wait(gets)
            assert lines.now >= 10
            closing = asyncio.create_task(queue.close())
            for _ in range(turns):
                await asyncio.sleep(0)
            closing.cancel()
            await asyncio.wait((closing,))
            await queue.close()
            await until(lambda: lines.now == 0, 10)

    asyncio.run(test())


def test_who_is_cancelled_while_a_connection_is_looked_at_keeps_no_place(
    server: Server, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where redis-py drives it, and is older than 8, looking takes a turn of the event loop."""
    quiet = saferedisqueue._AsyncLine.quiet

    async def after_a_turn(line: saferedisqueue._AsyncLine) -> bool:
        await asyncio.sleep(0)
        return await quiet(line)

    monkeypatch.setattr(saferedisqueue, "_reader", lambda connection: None)
    monkeypatch.setattr(saferedisqueue._AsyncLine, "quiet", after_a_turn)

    async def test() -> None:
        client = pooled(redis.asyncio, server, max_connections=1, **lines.named)
        queue = AsyncSafeRedisQueue[bytes](client=client, name="test")
        for turns in range(40):
            call = asyncio.create_task(queue.exists("a"))
            for _ in range(turns % 8):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait((call,))
            with within(2):
                assert await queue.exists("a") is False
        await queue.close()
        await client.aclose()

    asyncio.run(test())


def test_who_joins_the_opening_of_a_connection_has_its_own_time_for_it(
    server: Server, lines: Lines
) -> None:
    """A call that is sent again need not fail because the try before it was not over yet."""
    tries = 0
    late = asyncio.Event()

    class Late(redis.asyncio.UnixDomainSocketConnection):
        async def connect(self) -> None:
            nonlocal tries
            tries += 1
            if tries == 1:
                await late.wait()
                raise redis.TimeoutError
            await super().connect()

    async def test() -> None:
        once = {"retry": Retry(NoBackoff(), 0), **lines.named}
        pool = redis.asyncio.ConnectionPool(connection_class=Late, path=server.socket, **once)
        client = redis.asyncio.Redis(connection_pool=pool)
        queue = AsyncSafeRedisQueue[bytes](client=client, name="test")
        first, second = (asyncio.create_task(queue.exists("a", timeout=60)) for _ in range(2))
        await until(lambda: tries, 10)
        late.set()
        await asyncio.wait((first, second))
        assert isinstance(first.exception(), redis.TimeoutError)
        assert second.result() is False
        assert tries == 2
        await queue.close()

    asyncio.run(test())


def test_bursts_of_gets_that_are_cancelled_leave_no_more_than_one_does(
    server: Server, lines: Lines
) -> None:
    burst = 30

    async def test() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test", **lines.named) as queue:
            for _ in range(5):
                waits = [asyncio.create_task(queue.get()) for _ in range(burst)]
                await until(lambda: lines.waiting == burst)
                await cancelled(*waits)
                await until(lambda: lines.waiting == 0)
                await until(lambda: lines.now <= CALLS + 2 * burst, 10)
            assert lines.keys() <= CALLS + burst + 1

    asyncio.run(test())


def test_a_get_that_is_cancelled_ends_its_wait_at_the_server(server: Server, lines: Lines) -> None:
    async def test() -> None:
        settings: dict[str, Any] = {"wait_slice": 5, **lines.named}
        async with AsyncSafeRedisQueue(url=server.url, name="test", **settings) as queue:
            waits = [asyncio.create_task(queue.get()) for _ in range(20)]
            await until(lambda: lines.waiting == 20)
            with within(1):
                await cancelled(*waits)
                await until(lambda: lines.waiting == 0, 10)

    asyncio.run(test())


def test_a_get_that_is_cancelled_at_any_moment_ends_at_once(
    server: Server, client: redis.Redis
) -> None:
    """Also before its connection waits: first it is opened, and asked for its name."""

    async def test() -> None:
        for moment in range(14):
            async with AsyncSafeRedisQueue(url=proxy.url, name="test", wait_slice=30) as queue:
                await queue.stats()
                waiting = asyncio.create_task(queue.get())
                await asyncio.sleep(0.02 * moment)
                with within(0.1):
                    await cancelled(waiting)

    with Proxy(server) as proxy:
        proxy.delay = 0.04
        asyncio.run(test())


def test_an_item_is_with_a_live_get_at_once_after_many_that_were_given_up(
    server: Server, lines: Lines
) -> None:
    async def poll(queue: AsyncSafeRedisQueue[bytes]) -> None:
        for _ in range(5):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(queue.get(), 0.1)

    async def test() -> None:
        settings: dict[str, Any] = {"wait_slice": 5, **lines.named}
        async with AsyncSafeRedisQueue(url=server.url, name="test", **settings) as queue:
            with lines.watched():
                await asyncio.gather(*(poll(queue) for _ in range(20)))
            live = asyncio.create_task(queue.get())
            await until(lambda: lines.waiting >= 1)
            lines.scripts()
            with within(0.5):
                uid = await queue.put(b"a")
                item = await live
            assert (item.uid, item.attempts) == (uid, 1)
            assert lines.scripts() <= 6, "it went from one to the other"

    asyncio.run(test())
    assert lines.most <= CALLS + 2 * 20, "as many as wait, and as those that they took the place of"


def test_an_item_is_with_one_of_those_that_poll_at_once(server: Server, lines: Lines) -> None:
    got: asyncio.Queue[Any] = asyncio.Queue()

    async def poll(queue: AsyncSafeRedisQueue[bytes]) -> None:
        while True:
            try:
                got.put_nowait(await asyncio.wait_for(queue.get(), 0.1))
            except TimeoutError:
                pass

    async def test() -> None:
        settings: dict[str, Any] = {"wait_slice": 5, **lines.named}
        async with AsyncSafeRedisQueue(url=server.url, name="test", **settings) as queue:
            polling = [asyncio.create_task(poll(queue)) for _ in range(20)]
            with lines.watched():
                for _ in range(5):
                    await asyncio.sleep(0.23)  # out of step with those who poll
                    with within(0.5):
                        uid = await queue.put(b"a")
                        item = await got.get()
                    assert (item.uid, item.attempts) == (uid, 1)
                    assert await queue.ack(item.uid)
            await cancelled(*polling)

    asyncio.run(test())
    assert lines.most <= CALLS + 2 * 20
