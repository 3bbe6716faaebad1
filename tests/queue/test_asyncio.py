"""What only asyncio can do to a queue: cancel, run many tasks at once, change the event loop."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from helpers import Make, check_places, command_of, eventually, seed, snapshot, within
from lines import until
from saferedisqueue import UNDO, AsyncSafeRedisQueue, SafeRedisQueue, WrongClient
from servers import Server

Use = Callable[[AsyncSafeRedisQueue[bytes]], Any]


class Held(AsyncSafeRedisQueue[Any]):
    """A queue whose next reply, or that many replies on, is read and never given."""

    hold = 0

    async def _send(self, call: Any, slot: Any) -> Any:
        reply = await super()._send(call, slot)
        if self.hold and slot is not None:  # a script
            self.hold -= 1
            if not self.hold:
                self.read.set()
                await asyncio.sleep(3600)
        return reply


async def cancelled(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_no_cancellation_is_lost_whenever_it_comes(server: Server, client: redis.Redis) -> None:
    async def work(queue: AsyncSafeRedisQueue[bytes]) -> None:
        while True:
            await queue.put(b"a")
            await queue.ack((await queue.get()).uid or "")

    async def test() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test") as queue:
            for steps in range(100):
                task = asyncio.create_task(work(queue))
                for _ in range(steps % 50):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task], timeout=10)
                assert task.cancelled(), f"the cancellation after {steps} steps was lost"

    asyncio.run(test())


@pytest.mark.parametrize("use", ["get", "get_many", "consume", "processing"])
def test_a_cancelled_claim_is_undone_at_once(server: Server, client: redis.Redis, use: str) -> None:
    async def take(queue: Held) -> None:
        if use == "get":
            await queue.get()
        elif use == "get_many":
            await queue.get_many(2)
        elif use == "consume":
            await queue.consume(prefetch=2).__anext__()
        else:
            await queue.processing().__aenter__()

    async def test() -> None:
        async with Held(url=server.url, name="test") as queue:
            uids = await queue.put_many([b"a", b"b", b"c"])
            await queue.get(-1)  # the slot and the script are known by now
            queue.read, queue.hold = asyncio.Event(), 1
            task = asyncio.create_task(take(queue))
            await queue.read.wait()
            await cancelled(task)
            assert snapshot(client)["queue"] == [uids[2], uids[1]]
            assert "leases" not in snapshot(client)
            check_places(client)
            item = await queue.get(-1)
            assert (item.uid, item.payload, item.attempts) == (uids[1], b"b", 1)

    asyncio.run(test())


def test_a_batch_that_is_cancelled_half_way_is_handed_back_whole(
    server: Server, client: redis.Redis
) -> None:
    async def test() -> None:
        async with Held(url=server.url, name="test") as queue:
            uids = await queue.put_many(b"%d" % n for n in range(300))
            await queue.stats()
            assert await queue.get(-1)  # the script is known by now
            queue.read, queue.hold = asyncio.Event(), 2
            task = asyncio.create_task(queue.get_many(299))
            await queue.read.wait()
            assert len(snapshot(client)["leases"]) == 299
            await cancelled(task)
            assert snapshot(client)["queue"] == uids[:0:-1]
            assert "leases" not in snapshot(client)

    asyncio.run(test())


def test_a_get_that_is_cancelled_twice_is_undone_all_the_same(
    server: Server, client: redis.Redis
) -> None:
    class Slow(Held):
        """The undo is not sent before the test says so."""

        async def _send(self, call: Any, slot: Any) -> Any:
            if getattr(call, "script", None) is UNDO:
                self.undoing.set()
                await self.go_on.wait()
            return await super()._send(call, slot)

    async def test() -> None:
        async with Slow(url=server.url, name="test") as queue:
            queue.read, queue.undoing, queue.go_on = (asyncio.Event() for _ in range(3))
            uid = await queue.put(b"a")
            queue.hold = 1
            task = asyncio.create_task(queue.get())
            await queue.read.wait()
            task.cancel()
            await queue.undoing.wait()
            await cancelled(task)
            queue.go_on.set()
        assert snapshot(client)["queue"] == [uid]

    asyncio.run(test())


def test_a_cancelled_call_of_any_kind_leaves_no_reply_behind(
    server: Server, client: redis.Redis
) -> None:
    """Between sending and reading, where a reply is certain to come."""

    class Cut(redis.asyncio.UnixDomainSocketConnection):
        cut = False

        async def read_response(self, *args: Any, **kw: Any) -> Any:
            if Cut.cut:
                Cut.cut = False
                raise asyncio.CancelledError
            return await super().read_response(*args, **kw)

    async def test() -> None:
        pool = redis.asyncio.ConnectionPool(connection_class=Cut, path=server.socket)
        own = redis.asyncio.Redis(connection_pool=pool)
        async with AsyncSafeRedisQueue[bytes](client=own, name="test") as queue:
            await queue.put(b"a")
            uses: list[Use] = [
                lambda queue: queue.put(b"b"),
                lambda queue: queue.ack("x"),
                lambda queue: queue.stats(),
                lambda queue: queue.get(9),
            ]
            for use in uses:
                Cut.cut = True
                with pytest.raises(asyncio.CancelledError):
                    await use(queue)
                assert (await queue.stats()).total in (1, 2)
                assert await queue.fail("nobody") is False
        await pool.disconnect()

    asyncio.run(test())


def test_what_a_cancelled_wait_has_claimed_is_back_at_once(
    server: Server, client: redis.Redis
) -> None:
    class Claimed(AsyncSafeRedisQueue[Any]):
        """Has items as soon as it waits; its reply is kept back until the test says so."""

        async def _talk(self, *args: Any) -> Any:
            call = args[1]
            if command_of(call) != "BLMOVE":
                return await super()._talk(*args)
            seed(client, items={"a": "A", "b": "B"}, queue=["b", "a"])
            reply = await super()._talk(*args)
            self.claimed.set()
            await self.go_on.wait()
            return reply

    async def test() -> None:
        async with Claimed(url=server.url, name="test") as queue:
            queue.claimed, queue.go_on = asyncio.Event(), asyncio.Event()
            task = asyncio.create_task(queue.get())
            await queue.claimed.wait()
            assert snapshot(client)["ackbuf"] == ["a"]
            asyncio.get_running_loop().call_later(0.1, queue.go_on.set)
            await cancelled(task)
            assert snapshot(client)["queue"] == ["b", "a"]
            check_places(client)
            item = await queue.get(-1)
            assert (item.uid, item.attempts) == ("a", 1)

    asyncio.run(test())


# Where a connection is opened, asked for its name, waits, has an item, has claimed it.
@pytest.mark.parametrize("is_open", [False, True])
def test_what_is_put_about_when_a_wait_is_cancelled_is_ready_at_once_in_order_and_uncounted(
    server: Server, client: redis.Redis, make: Make, is_open: bool
) -> None:
    other = make()

    async def test(turns: int, comes_before: bool) -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test", wait_slice=30) as queue:
            if is_open:
                assert (await queue.get(0.02)).uid is None
            task = asyncio.create_task(queue.get())
            for turn in range(turns):
                await asyncio.sleep(0 if turn % 3 else 0.0005)
            uids = [other.put("a"), other.put("b")] if comes_before else []
            task.cancel()
            await asyncio.wait((task,))
            if task.cancelled():
                uids = uids or [other.put("a"), other.put("b")]
                assert other.stats().ready == 2
            else:  # it had been answered
                assert other.ack(task.result().uid)
                uids = uids[1:]
            items = [other.get(-1) for _ in uids]
            assert [(item.uid, item.attempts) for item in items] == [(uid, 1) for uid in uids]
            check_places(client)
            assert other.ack_many(item.uid for item in items) == len(uids)
            assert "handed" not in snapshot(client)

    for turns in range(40):
        asyncio.run(test(turns, comes_before=turns % 2 > 0))


@pytest.mark.parametrize("may", ["+@all", "-client|unblock", "-client|id", "-client"])
def test_what_comes_is_with_a_live_get_at_once_behind_many_that_were_cancelled(
    own_server: Server, may: str
) -> None:
    """Also where the server may not be asked to end their waits."""

    async def test() -> None:
        settings: dict[str, Any] = {"url": f"unix://worker:any@{own_server.socket}", "name": "test"}
        queue, live = (AsyncSafeRedisQueue[bytes](wait_slice=30, **settings) for _ in "ab")
        async with queue, live:
            waits = [asyncio.create_task(queue.get()) for _ in range(15)]
            await until(lambda: blocked() == 15)
            waiting = asyncio.create_task(live.get())
            await until(lambda: blocked() == 16)
            for each in waits:
                each.cancel()
            await until(lambda: undone() == 15)
            with within(0.2):
                uid = await live.put(b"a")
                item = await waiting
            assert (item.uid, item.attempts) == (uid, 1)
            assert await live.ack(item.uid or "")
            await asyncio.wait(waits)

    with own_server.client() as client:

        def blocked() -> int:
            return int(client.info("clients")["blocked_clients"])

        def undone() -> int:
            return len(client.keys("srq:test:last:*"))

        rules = ("on", ">any", "~*", "+@all", may)
        client.execute_command("ACL", "SETUSER", "worker", *rules)
        SafeRedisQueue[bytes](client=client, name="test").get(-1)  # the script is known by now
        client.delete(*client.keys("srq:test:last:*"))
        asyncio.run(test())


def test_a_cancelled_wait_loses_nothing_and_leaves_no_reply_behind(
    server: Server, client: redis.Redis
) -> None:
    chance = random.Random(7)

    got: list[bytes] = []
    acks: list[asyncio.Task[bool]] = []  # of their own: the work of a task is not what is cancelled

    async def consume(queue: AsyncSafeRedisQueue[bytes]) -> None:
        item = await queue.get()
        if item.uid is not None:
            assert item.attempts == 1
            got.append(item.payload)
            acks.append(asyncio.create_task(queue.ack(item.uid)))

    async def test() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test", wait_slice=0.2) as queue:
            put = [b"%d" % n for n in range(150)]
            for payload in put:
                tasks = [asyncio.create_task(consume(queue)) for _ in range(2)]
                await asyncio.sleep(chance.uniform(0, 0.004))
                await queue.put(payload)
                await asyncio.sleep(chance.uniform(0, 0.004))
                for task in tasks:
                    task.cancel()
                await asyncio.wait(tasks)
                for task in tasks:
                    if not task.cancelled():
                        assert task.exception() is None
            assert all(await asyncio.gather(*acks))
        # close() has waited for what went on in the background.
        check_places(client)
        keys = snapshot(client)
        assert not keys.keys() & {"ackbuf", "backup", "leases"}
        async with AsyncSafeRedisQueue(url=server.url, name="test") as queue:
            while (item := await queue.get(-1)).uid is not None:
                got.append(item.payload)
        assert sorted(got) == sorted(put)

    asyncio.run(test())


# Nobody closes the queue, and redis-py says so when its connections go, before version 6 by errors.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.usefixtures("_left_to_no_other_test")
def test_a_loop_that_ends_with_waiting_tasks_strands_nothing(
    server: Server, client: redis.Redis
) -> None:
    async def wait() -> None:
        queue = AsyncSafeRedisQueue[bytes](url=server.url, name="test")
        waiting = [asyncio.create_task(queue.get()) for _ in range(5)]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in waiting)

    async def put() -> str | None:
        async with AsyncSafeRedisQueue(url=server.url, name="test") as queue:
            return await queue.put(b"a")

    asyncio.run(wait())  # cancels the tasks
    gc.collect()
    eventually(lambda: client.info("clients")["blocked_clients"] == 0)
    uid = asyncio.run(put())
    assert snapshot(client)["queue"] == [uid]


def test_many_tasks_get_an_item_each(server: Server, client: redis.Redis) -> None:
    async def test() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test") as queue:
            waiting = [asyncio.create_task(queue.get()) for _ in range(150)]
            uids = await queue.put_many(b"%d" % n for n in range(150))
            items = await asyncio.gather(*waiting)
            assert {item.uid for item in items} == set(uids)
            assert {item.payload for item in items} == {b"%d" % n for n in range(150)}

    asyncio.run(test())


def test_connections_and_keys_are_as_many_as_tasks_however_many_calls(
    server: Server, client: redis.Redis
) -> None:
    before = client.info("stats")["total_connections_received"]
    tasks = 20

    async def work(queue: AsyncSafeRedisQueue[bytes]) -> None:
        await queue.put(b"a")
        await queue.ack((await queue.get(60)).uid or "")

    async def test() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test") as queue:
            for _ in range(20):
                await asyncio.gather(*(work(queue) for _ in range(tasks)))

    asyncio.run(test())
    assert client.info("stats")["total_connections_received"] - before <= 3 * tasks
    assert len(client.keys("srq:test:last:*")) <= tasks


# What the first loop leaves nobody closes.
@pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
@pytest.mark.usefixtures("_left_to_no_other_test")
def test_one_queue_works_in_one_event_loop_after_another(
    server: Server, client: redis.Redis
) -> None:
    async def test(queue: AsyncSafeRedisQueue[bytes]) -> None:
        uid = await queue.put(b"a")
        item = await queue.get(1)
        assert item.uid == uid
        assert await queue.ack(item.uid or "")

    async def last(queue: AsyncSafeRedisQueue[bytes]) -> None:
        async with queue:
            await test(queue)

    queue = AsyncSafeRedisQueue[bytes](url=server.url, name="test")
    asyncio.run(test(queue))
    asyncio.run(last(queue))
    gc.collect()


@pytest.mark.parametrize(
    ("use", "socket_timeout"),
    [(lambda queue: queue.put(b"a"), 1), (lambda queue: queue.get(1), 120)],
)
def test_a_server_that_stops_answering_holds_no_call(
    own_server: Server, use: Use, socket_timeout: float
) -> None:
    """A put is given up after the client's time-out, a get after its own, which is shorter here."""

    async def test() -> None:
        settings: dict[str, Any] = {
            "socket_timeout": socket_timeout,
            "retry": Retry(NoBackoff(), 0),
        }
        async with AsyncSafeRedisQueue(url=own_server.url, name="test", **settings) as queue:
            await queue.empty()  # connected with the client's time-out
            os.kill(own_server.pid, signal.SIGSTOP)
            try:
                with pytest.raises(
                    redis.TimeoutError, match="did not answer in time: .*'test' on "
                ):
                    await asyncio.wait_for(use(queue), 60)
            finally:
                os.kill(own_server.pid, signal.SIGCONT)

    asyncio.run(test())


@pytest.mark.parametrize("method", ["close", "aclose"])
def test_a_client_of_the_caller_s_is_left_open(
    server: Server, client: redis.Redis, method: str
) -> None:
    async def test() -> None:
        own = redis.asyncio.Redis(unix_socket_path=server.socket)
        await own.ping()
        queue = AsyncSafeRedisQueue[bytes](client=own, name="test")
        await queue.put(b"a")
        await getattr(queue, method)()
        assert own.connection_pool._available_connections[0].is_connected
        await own.aclose()

    asyncio.run(test())


def test_a_blocking_client_is_refused_at_once() -> None:
    with pytest.raises(WrongClient, match=r"needs a redis\.asyncio\.Redis"):
        AsyncSafeRedisQueue(client=redis.Redis())
