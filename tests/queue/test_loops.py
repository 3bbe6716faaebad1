"""One asyncio queue in several event loops, one after the other or at once, whatever its client."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel

import servers
from lines import Lines
from saferedisqueue import AsyncSafeRedisQueue, QueueClosed
from servers import Server
from topologies import Cluster, Watched

# What an ended loop has left nobody closes, and redis-py before version 6 says so by errors.
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.usefixtures("_left_to_no_other_test"),
]

Queue = AsyncSafeRedisQueue[bytes]


# -- whatever the client ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder: Path = tmp_path_factory.mktemp("sentinels")
    with Watched(servers.find(), folder) as running:
        yield running


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(servers.find()) as running:
        yield running


def of_url(request: pytest.FixtureRequest) -> Any:
    server: Server = request.getfixturevalue("server")
    return {"url": server.url}


def of_client(request: pytest.FixtureRequest) -> Any:
    server: Server = request.getfixturevalue("server")
    return {"client": redis.asyncio.Redis(unix_socket_path=server.socket)}


def of_sentinel(request: pytest.FixtureRequest) -> Any:
    watched: Watched = request.getfixturevalue("watched")
    sentinel = redis.asyncio.sentinel.Sentinel(
        watched.addresses, socket_timeout=5, sentinel_kwargs={"socket_timeout": 5}
    )
    return {"client": sentinel.master_for(watched.name)}


def of_cluster(request: pytest.FixtureRequest) -> Any:
    cluster: Cluster = request.getfixturevalue("cluster")
    port = cluster.nodes[0].port
    return {"client": redis.asyncio.RedisCluster(host="127.0.0.1", port=port, socket_timeout=5)}


@pytest.fixture(params=[of_url, of_client, of_sentinel, of_cluster])
def queue(request: pytest.FixtureRequest, server: Server, client: redis.Redis) -> Queue:
    """One object for all the loops, made where there is none."""
    made = Queue(name="test", autoclean_interval=3600, **request.param(request))

    async def empty() -> None:
        await made.purge()

    asyncio.run(empty())
    return made


async def use(queue: Queue) -> None:
    uid = await queue.put(b"a")
    assert (await queue.peek())[0].uid == uid
    assert await queue.exists(uid or "")
    item = await queue.get(5)
    assert item.uid == uid
    assert await queue.ack(item.uid or "")
    assert (await queue.get(0.02)).uid is None


def test_a_queue_works_in_one_event_loop_after_the_other(queue: Queue) -> None:
    for _ in range(3):
        asyncio.run(use(queue))
        gc.collect()  # of what the ended loop has left, nothing is missed


def test_a_queue_that_was_closed_works_in_the_next_event_loop(queue: Queue) -> None:
    async def use_and_close() -> None:
        async with queue:
            await use(queue)

    for _ in range(3):
        asyncio.run(use_and_close())


def test_a_loop_that_ends_while_a_get_waits_leaves_the_next_loop_a_queue_that_works(
    queue: Queue,
) -> None:
    async def leave_waiting() -> None:
        waiting = asyncio.create_task(queue.get())
        await queue.stats()
        await asyncio.sleep(0.02)
        assert not waiting.done()

    for _ in range(2):
        asyncio.run(leave_waiting())  # which cancels the task
        gc.collect()
        asyncio.run(use(queue))


@pytest.fixture
def _many_turns() -> Iterator[None]:
    """Threads take turns between any two steps, not only where one waits."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("_many_turns")
def test_event_loops_of_two_threads_use_a_queue_at_once(queue: Queue) -> None:
    together = threading.Barrier(2)
    put: list[bytes] = []
    got: list[bytes] = []

    async def work(who: str) -> None:
        for n in range(15):
            payload = f"{who} {n}".encode()
            assert await queue.put(payload)
            put.append(payload)
            item = await queue.get(60)
            assert item.uid is not None
            got.append(item.payload)
            assert await queue.ack(item.uid)
            assert not await queue.exists("nobody")

    async def tasks(thread: int) -> None:
        await asyncio.gather(*(work(f"{thread} {task}") for task in range(6)))

    def run(thread: int) -> None:
        together.wait()
        asyncio.run(tasks(thread))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, range(2)))
    assert len(put) == 2 * 6 * 15
    assert sorted(got) == sorted(put)


def test_a_get_in_one_event_loop_gets_what_was_put_in_another(queue: Queue) -> None:
    async def result(waiting: asyncio.Task[Any]) -> Any:
        return await waiting

    with asyncio.Runner() as one, asyncio.Runner() as other:
        for here, there in [(one, other), (other, one)] * 3:
            waiting = here.get_loop().create_task(queue.get(60))
            here.run(asyncio.sleep(0.03))  # in which it begins to wait
            uid = there.run(queue.put(b"a"))
            item = here.run(result(waiting))
            assert item.uid == uid
            assert there.run(queue.ack(item.uid or "")) is True
        for runner in (one, other):
            runner.run(queue.close())


def test_a_get_in_one_event_loop_ends_as_the_queue_is_closed_in_another(
    server: Server, client: redis.Redis
) -> None:
    queue = Queue(url=server.url, name="test", wait_slice=0.1)

    async def error_of(waiting: asyncio.Task[Any]) -> Any:
        await asyncio.wait([waiting], timeout=10)
        return waiting.exception()

    with asyncio.Runner() as one, asyncio.Runner() as other:
        waiting = one.get_loop().create_task(queue.get())
        one.run(asyncio.sleep(0.03))
        other.run(queue.close())
        assert isinstance(one.run(error_of(waiting)), QueueClosed)
        one.run(queue.close())


# -- what a loop leaves ----------------------------------------------------------------------------


def test_another_event_loop_goes_on_with_the_keys_of_the_one_before(
    server: Server, lines: Lines
) -> None:
    queue = AsyncSafeRedisQueue[bytes](url=server.url, name="test", **lines.named)

    async def test() -> None:
        await queue.put(b"a")
        assert await queue.ack((await queue.get(1)).uid or "")

    for _ in range(10):
        asyncio.run(test())
    assert lines.keys() <= 3


def test_event_loops_that_take_turns_hold_a_connection_and_a_key_each(
    server: Server, lines: Lines
) -> None:
    queue = AsyncSafeRedisQueue[bytes](url=server.url, name="test", **lines.named)
    with asyncio.Runner() as one, asyncio.Runner() as other:
        for _ in range(15):
            for runner in (one, other):
                runner.run(queue.put(b"a"))
        assert lines.now <= 2
        assert lines.keys() <= 2
        for runner in (one, other):
            runner.run(queue.close())
