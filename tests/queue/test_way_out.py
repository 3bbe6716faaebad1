"""The way out is short where nobody answers; and what a get took and did not return goes back."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis

import saferedisqueue
from helpers import Asyncio, Face, check_places, eventually, snapshot, within
from proxy import Proxy
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue
from servers import Server
from silence import HANG, LOST, at_once, ended, stalls_of
from topologies import elsewhere, go_on, hang

BUDGET = 2  # seconds that the way out may take in all
LEASE = 2  # seconds after which what was not given back is there again
LARGE = b"x" * 10_000  # no other reply is as large


def warnings(caplog: pytest.LogCaptureFixture, name: str = "test") -> list[str]:
    """What is in the log of the queue of this name."""
    logged = [each for each in caplog.records if each.name == "saferedisqueue"]
    assert all(each.levelno == logging.WARNING for each in logged)
    return [text for each in logged if f" {name}:" in (text := each.getMessage())]


def comes_back(server: Server, uid: str | None, name: str = "test") -> None:
    with SafeRedisQueue(url=server.url, name=name) as other:
        assert other.get(60).uid == uid


# -- leaving a block -------------------------------------------------------------------------------


def leave(block: Any, error: BaseException | None) -> None:
    """End a block that was entered, as by this error in its body."""
    with ExitStack() as stack:
        stack.push(block)
        if error is not None:
            raise error


ENDS: dict[str, type[BaseException] | None] = {
    "Ctrl-C": KeyboardInterrupt,
    "exception": ValueError,
    "the end": None,
}


def test_a_block_is_left_in_time_however_it_ends_and_one_warning_says_what_was_not_given_back(
    face: Face, server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    def check(name: str, use: str, kind: type[BaseException] | None) -> None:
        with Proxy(server) as proxy, type(face)() as own:
            queue = own.queue(url=proxy.url, name=name)
            uid = queue.put("a")
            block = getattr(queue, use)(lease=LEASE)
            item = next(block) if use == "consume" else block.__enter__()
            assert item.uid == uid
            proxy.go_silent(for_good=True)
            if kind is None:
                left = ended(BUDGET, lambda: leave(block, None))
                assert left is None or isinstance(left, LOST)
            else:
                error = kind("of the body")
                with pytest.raises(kind) as raised:
                    ended(BUDGET, lambda: leave(block, error))
                assert raised.value is error
            assert len(warnings(caplog, name)) == 1
            comes_back(server, uid, name)

    uses = ("consume", "processing")
    at_once(check, [(f"{use} {end}", use, ENDS[end]) for use in uses for end in ENDS])


class Credentials(redis.CredentialProvider):
    """Of the default user, until they are not to be had."""

    gone = False

    def get_credentials(self) -> tuple[str, str]:
        if self.gone:
            raise LookupError("no credentials")
        return "default", "any"

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()


class Interrupting(Credentials):
    """And a serializer in which the process is told to end, and cannot connect any more."""

    def __init__(self, proxy: Proxy) -> None:
        self._proxy = proxy

    def dumps(self, item: str) -> str:
        return item

    def loads(self, payload: bytes) -> Any:
        self._proxy.drop()
        self.gone = True
        raise KeyboardInterrupt


class Interrupted(list[Any]):
    """The free slots of a queue: whoever returns one is interrupted, after another has used it."""

    use: Callable[[], Any] | None = None

    def append(self, slot: Any) -> None:
        super().append(slot)
        if self.use is not None:
            use, self.use = self.use, None
            use()
            raise KeyboardInterrupt


def test_a_get_that_is_interrupted_at_its_very_end_undoes_no_get_of_another(
    server: Server, client: redis.Redis
) -> None:
    with SafeRedisQueue[bytes](url=server.url, name="test") as queue:
        queue.put_many([*"ab"])
        items: list[Any] = []
        queue._slots = slots = Interrupted(queue._slots)
        slots.use = lambda: items.append(queue.get(-1))
        with pytest.raises(KeyboardInterrupt):
            queue.get(-1)
        (item,) = items
        assert item.payload == b"b"
        assert queue.ack(item.uid)


@pytest.mark.parametrize("use", ["get", "block"])
def test_what_ends_a_get_or_a_block_is_not_replaced_by_whatever_the_way_out_meets(
    server: Server, client: redis.Redis, use: str
) -> None:
    def interrupted() -> None:
        if use == "get":
            queue.get(1)
        with queue.consume(timeout=1) as items:
            queue.serializer = None
            next(items)
            interrupting.loads(b"")

    with Proxy(server) as proxy:
        interrupting = Interrupting(proxy)
        with SafeRedisQueue[Any](
            url=proxy.url, name="test", credential_provider=interrupting, serializer=interrupting
        ) as queue:
            queue.put("a")
            with pytest.raises(KeyboardInterrupt):
                interrupted()


def test_a_loop_is_left_in_time_while_its_helper_awaits_a_reply_and_acks_are_due(
    face: Face, server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    with Proxy(server) as proxy:
        queue = face.queue(url=proxy.url, name="test", socket_timeout=None)
        queue.put_many([*"abcd"])
        items = queue.consume(prefetch=4, lease=LEASE)
        assert [next(items).payload for _ in range(2)] == [b"a", b"b"]  # done, and in hand
        proxy.go_silent(for_good=True)
        before = len(proxy.commands)

        def renewing() -> bool:
            face.work(0.01)
            return len(proxy.commands) > before

        eventually(renewing)
        with pytest.raises(KeyboardInterrupt):
            ended(BUDGET, lambda: leave(items, KeyboardInterrupt()))
        assert warnings(caplog), "the helper's own is perhaps there too"
    with SafeRedisQueue(url=server.url, name="test") as other:
        back = {other.get(60).payload for _ in range(other.stats().total)}
    assert back | {b"a"} == {b"a", b"b", b"c", b"d"}  # which may have been acked in time


def test_a_block_is_left_in_time_when_the_server_hangs(
    face: Face, own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    queue = face.queue(url=own_server.url, name="test")
    uid = queue.put("a")
    items = queue.consume(lease=LEASE)
    next(items)
    hang(own_server)
    try:
        with pytest.raises(KeyboardInterrupt):
            ended(BUDGET, lambda: leave(items, KeyboardInterrupt()))
    finally:
        go_on(own_server)
    assert len(warnings(caplog)) == 1
    comes_back(own_server, uid)


# -- out of a get ----------------------------------------------------------------------------------


def mend(proxy: Proxy) -> None:
    """So that what hangs on its silence ends, and fails."""
    proxy.come_back()
    proxy.drop()


class Line:
    """One that goes silent for good when a get has come to its claim, or to its wait.

    The server runs the claim, and only the reply is lost; the wait ends there without an item.
    """

    def __init__(self, proxy: Proxy, server: Server, moment: str) -> None:
        self.proxy, self._server, self._moment = proxy, server, moment
        with SafeRedisQueue(url=server.url, name="test") as other:
            other.get(-1)  # the server knows the script
            if moment == "claim":
                self._uid = other.put(LARGE)
                proxy.befall("silence after", len(LARGE))

    def lost(self) -> None:
        """Wait for that moment."""
        if self._moment == "claim":
            assert self.proxy.befell.wait(60)
        else:
            eventually(lambda: b"BLMOVE" in self.proxy.commands)
        self.proxy.go_silent(for_good=True)

    def check(self, caplog: pytest.LogCaptureFixture) -> None:
        """What a get that was ended meanwhile has left behind."""
        assert len(warnings(caplog)) == 1
        if self._moment == "claim":
            comes_back(self._server, self._uid)


@pytest.fixture(params=["claim", "wait"])
def line(request: pytest.FixtureRequest, server: Server, client: redis.Redis) -> Iterator[Line]:
    with Proxy(server) as proxy:
        yield Line(proxy, server, request.param)


@pytest.fixture
def interrupt() -> Iterator[Callable[[], None]]:
    """As Ctrl-C does, to the main thread."""
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    main = threading.main_thread().ident
    assert main is not None
    yield lambda: signal.pthread_kill(main, signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, before)


def test_ctrl_c_ends_a_get_in_time_also_where_the_server_is_silent(
    line: Line, interrupt: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def press() -> None:
        line.lost()
        with within(BUDGET):
            interrupt()
            if not over.wait(HANG):
                mend(line.proxy)

    with SafeRedisQueue(url=line.proxy.url, name="test") as queue:
        pressed = elsewhere(press)
        with pytest.raises(KeyboardInterrupt):
            queue.get(60, lease=LEASE)
        over.set()
        pressed.result()
        line.check(caplog)


async def cancel(task: asyncio.Task[Any], proxy: Proxy) -> None:
    """Cancel the task, which must end in time."""
    with within(BUDGET):
        task.cancel()
        if not (await asyncio.wait([task], timeout=HANG))[0]:
            mend(proxy)
            await asyncio.wait([task])
    assert task.cancelled()


def test_a_cancelled_get_ends_in_time_also_where_the_server_is_silent(
    line: Line, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async with AsyncSafeRedisQueue(url=line.proxy.url, name="test") as queue:
            task = asyncio.create_task(queue.get(lease=LEASE))
            await asyncio.to_thread(line.lost)
            await cancel(task, line.proxy)
            await asyncio.to_thread(line.check, caplog)
            with within(BUDGET):
                await queue.close()

    asyncio.run(test())


def test_a_body_that_is_cancelled_leaves_its_loop_in_time(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    async def work(queue: AsyncSafeRedisQueue[bytes], begun: asyncio.Event) -> None:
        async with queue.consume(lease=LEASE) as items:
            async for _ in items:
                begun.set()
                await asyncio.sleep(60)

    async def test(proxy: Proxy) -> None:
        async with AsyncSafeRedisQueue[bytes](url=proxy.url, name="test") as queue:
            uid = str(await queue.put(b"a"))
            begun = asyncio.Event()
            task = asyncio.create_task(work(queue, begun))
            await begun.wait()
            proxy.go_silent(for_good=True)
            await cancel(task, proxy)
            assert len(warnings(caplog)) == 1
            await asyncio.to_thread(comes_back, server, uid)

    with Proxy(server) as proxy:
        asyncio.run(test(proxy))


# -- out of time -----------------------------------------------------------------------------------


TAKES: dict[str, Callable[[Any], Any]] = {
    "get": lambda queue: queue.get(0.3),
    "get at once": lambda queue: queue.get(-1),
    "get with a lease": lambda queue: queue.get(0.3, lease=60),
    "get many": lambda queue: queue.get_many(2, 0.3),
    "consume": lambda queue: next(queue.consume(prefetch=2, timeout=0.3)),
    "processing": lambda queue: queue.processing(0.3).__enter__(),
}


def test_what_a_get_claimed_whose_reply_did_not_come_in_time_is_back_uncounted_and_in_order(
    face: Face, server: Server, client: redis.Redis
) -> None:
    def check(name: str, fault: str, take: Callable[[Any], Any]) -> None:
        with Proxy(server) as proxy, type(face)() as own:
            queue = own.queue(url=proxy.url, name=name, autoclean_interval=3600, max_attempts=1)
            uids = queue.put_many([LARGE, LARGE, LARGE])
            proxy.befall(fault, len(LARGE))
            failed = ended(1.3, lambda: take(queue))
            assert isinstance(failed, LOST), failed
            with within(1):
                eventually(lambda: snapshot(client, name).get("queue") == uids[::-1], HANG)
            check_places(client, name)
            proxy.come_back()
            items = queue.get_many(3, 60)
            assert [(item.uid, item.attempts) for item in items] == [(uid, 1) for uid in uids]

    faults = ("silence after", *stalls_of(face))
    at_once(check, [(f"{fault} {use}", fault, TAKES[use]) for fault in faults for use in TAKES])


def test_a_large_reply_that_is_still_coming_in_when_the_time_is_over_is_awaited(
    face: Face, server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    if saferedisqueue.hiredis is None and isinstance(face, Asyncio):
        return  # where redis-py reads, it has one time for the whole
    # It begins before the time is over, however busy the machine.
    monkeypatch.setattr(saferedisqueue, "_GRACE", 2)

    def check(name: str, timeout: float, lease: float | None) -> None:
        with Proxy(server) as proxy, type(face)() as own:
            payload = b"x" * 6_000_000
            queue = own.queue(url=proxy.url, name=name, max_payload=len(payload))
            queue.put(payload)
            proxy.rate = 2_000_000
            begun = time.monotonic()
            item = queue.get(timeout, lease)
            assert time.monotonic() - begun >= 2.9
            assert item.payload == payload
            assert item.attempts == 1
            proxy.rate = 1e12
            assert queue.ack(item.uid)

    at_once(check, [("waits", 0.3, None), ("at once", -1, None), ("leased", 0.3, 60)])
