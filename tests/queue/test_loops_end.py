"""Loops that are ended from outside, and loops that many work on."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from helpers import check_places, eventually, run_alone, within
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue, SafeRedisQueueError
from servers import Server

# -- stop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ack", [True, False])
@pytest.mark.parametrize("prefetch", [1, 3])
def test_a_loop_that_is_stopped_ends_before_the_next_item(
    many: Any, client: redis.Redis, prefetch: int, ack: bool
) -> None:
    queue = many()
    uids = queue.put_many([*"abcde"])
    with queue.consume(prefetch, ack=ack) as items:
        first = next(items)
        items.stop()
        assert list(items) == []
        check_places(client)
        if not ack:
            assert queue.stats().in_flight == 1
            first.ack()
    assert [str(item.uid) for item in queue.get_many(9, -1)] == uids[1:]
    assert queue.stats().in_flight == 4


def test_what_was_ahead_is_back_uncounted(many: Any) -> None:
    queue = many()
    queue.put_many([*"abc"])
    items = queue.consume(3)
    next(items)
    items.stop()
    assert list(items) == []
    assert [item.attempts for item in queue.get_many(9, -1)] == [1, 1]


def test_one_stopped_before_it_began_takes_nothing(many: Any) -> None:
    queue = many()
    queue.put("a")
    items = queue.consume()
    items.stop()
    assert list(items) == []
    assert queue.stats()[:2] == (1, 0)


def test_a_loop_that_waits_ends_within_a_slice(server: Server, client: redis.Redis) -> None:
    with SafeRedisQueue(url=server.url, name="test", wait_slice=0.2) as queue:
        items = queue.consume()
        stopping = threading.Timer(0.3, items.stop)
        stopping.start()
        with within(0.3 + 0.2):
            assert list(items) == []
        stopping.join()


def test_so_does_one_in_asyncio(server: Server, client: redis.Redis) -> None:
    async def main() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test", wait_slice=0.2) as queue:
            items = queue.consume()
            asyncio.get_running_loop().call_later(0.3, items.stop)
            with within(0.3 + 0.2):
                assert [item async for item in items] == []

    asyncio.run(main())


STOPPED = """
import signal, sys
from saferedisqueue import SafeRedisQueue

with SafeRedisQueue(url=sys.argv[1], name="test") as queue, queue.consume() as items:
    signal.signal(signal.SIGTERM, lambda *_: items.stop())
    for item in items:
        queue.put("done", uid="done")
        signal.raise_signal(signal.SIGTERM)
        assert next(items, None) is None
"""


def test_the_handler_of_a_signal_may_stop_it(server: Server, client: redis.Redis) -> None:
    client.flushall()
    with SafeRedisQueue(url=server.url, name="test") as queue:
        queue.put_many(["a", "b"], uids=["a", "b"])
        run_alone(STOPPED, server)
        assert [str(item.uid) for item in queue.peek(9)] == ["b", "done"]
        assert queue.stats().total == 2


WAITING = """
import os, signal, sys, threading
from saferedisqueue import SafeRedisQueue

queue = SafeRedisQueue(url=sys.argv[1], name="test", wait_slice=0.2)
with queue, queue.consume() as items:
    signal.signal(signal.SIGTERM, lambda *_: items.stop())
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
    assert list(items) == []
"""


def test_also_while_it_waits(server: Server, client: redis.Redis) -> None:
    run_alone(WAITING, server)


# -- a bound on the work ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["consume", "processing"])
def test_what_is_in_hand_for_too_long_is_somebody_else_s(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    with SafeRedisQueue(url=server.url, name="test") as queue:
        uid = queue.put("a")
        if how == "consume":
            loop: Any = queue.consume(lease=0.3, time_limit=0.2)
            item = next(loop)
        else:
            loop = queue.processing(lease=0.3, time_limit=0.2)
            item = loop.__enter__()
        other = queue.get(60, lease=60)
        assert (other.uid, other.attempts) == (uid, 2)
        eventually(lambda: item.lost)
        told = [each for each in caplog.messages if "in hand for more than 0.2 s" in each]
        assert len(told) == 1
        assert uid in told[0]
        assert queue.ack(other.uid)
        loop.__exit__(None, None, None)


def test_what_waits_ahead_is_not_in_hand(server: Server, client: redis.Redis) -> None:
    with (
        SafeRedisQueue(url=server.url, name="test") as queue,
        queue.consume(2, lease=0.6, time_limit=0.2) as items,
    ):
        queue.put_many([*"ab"])
        first = next(items)
        eventually(lambda: first.lost)
        second = next(items)
        assert (second.payload, second.attempts, second.lost) == (b"b", 1, False)


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError)])
def test_a_time_limit_is_some_seconds(queue: Any, wrong: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="time_limit"):
        queue.consume(time_limit=wrong)


# -- many threads ----------------------------------------------------------------------------------


def test_another_thread_may_not_ask_for_the_next_while_one_has_an_item_in_hand(
    server: Server, client: redis.Redis
) -> None:
    with (
        SafeRedisQueue(url=server.url, name="test") as queue,
        ThreadPoolExecutor(1) as pool,
        queue.consume(timeout=-1) as items,
    ):
        queue.put_many([*"abc"])
        item = next(items)
        with pytest.raises(SafeRedisQueueError, match=item.uid):
            pool.submit(next, items).result()
        assert queue.exists(item.uid)
        item.ack()
        assert pool.submit(next, items).result().payload == b"b"
        with pytest.raises(SafeRedisQueueError, match="another thread"):
            next(items)


def test_without_acks_a_loop_may_look_ahead(many: Any, payload: Any) -> None:
    queue = many()
    queue.put_many([*"abc"])
    with queue.consume(10, timeout=-1, ack=False) as items:
        found = list(items)
        assert [item.payload for item in found] == [payload(each) for each in "abc"]
        assert queue.stats().in_flight == 3
        found[1].ack()
        found[2].fail()
    assert queue.stats()[:2] == (2, 0)
    assert [item.attempts for item in queue.get_many(9, -1)] == [2, 2]


def test_so_many_are_out_at_once_as_are_asked_for(many: Any) -> None:
    queue = many()
    queue.put_many([*"abcde"])
    items = queue.consume(2, timeout=-1, ack=False)
    found = [next(items), next(items)]
    assert queue.stats()[:2] == (3, 2)
    with within(0.3):
        start = time.monotonic()
        threading.Timer(0.3, items.stop).start()
        assert next(items, None) is None
        assert time.monotonic() - start >= 0.25
    found[0].ack()
    assert queue.stats()[:2] == (3, 1)
    more = queue.consume(2, timeout=-1, ack=False)
    for item in more:
        item.ack()
    assert queue.stats()[:2] == (0, 1)


def test_many_threads_work_on_one_loop(server: Server, client: redis.Redis) -> None:
    """Each item is worked on once, at most so many at a time, and all of them in the end."""
    done: list[bytes] = []
    out = most = 0
    lock = threading.Lock()

    def work(item: Any) -> None:
        nonlocal out, most
        with lock:
            out += 1
            most = max(most, out)
        time.sleep(0.001)
        done.append(item.payload)
        with lock:
            out -= 1
        item.ack()

    with SafeRedisQueue(url=server.url, name="test") as queue:
        queue.put_many(map(str, range(200)))
        with queue.consume(8, timeout=-1, ack=False) as items, ThreadPoolExecutor(4) as pool:
            for item in items:
                pool.submit(work, item)
        assert sorted(done) == sorted(b"%d" % n for n in range(200))
        assert 1 < most <= 4
        assert queue.stats().total == 0


def test_many_tasks_work_on_one_loop(server: Server, client: redis.Redis) -> None:
    done: list[bytes] = []

    async def work(item: Any) -> None:
        await asyncio.sleep(0)
        done.append(item.payload)
        await item.ack()

    async def main() -> None:
        async with AsyncSafeRedisQueue(url=server.url, name="test") as queue:
            await queue.put_many(map(str, range(100)))
            async with (
                queue.consume(8, timeout=-1, ack=False) as items,
                asyncio.TaskGroup() as tasks,
            ):
                async for item in items:
                    tasks.create_task(work(item))
            assert (await queue.stats()).total == 0

    asyncio.run(main())
    assert sorted(done) == sorted(b"%d" % n for n in range(100))
