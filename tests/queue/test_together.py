"""Tasks that share a connection: what becomes of one call, good or bad, is its own affair."""

from __future__ import annotations

import asyncio
import json
import random
import tracemalloc
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import redis
import redis.asyncio

import saferedisqueue
from helpers import check_places, snapshot, within
from lines import until
from proxy import DROPS, Proxy
from saferedisqueue import AsyncSafeRedisQueue, PayloadTooLarge, QueueFull
from servers import Server

Queue = AsyncSafeRedisQueue[Any]


def run_with(test: Callable[[Queue], Coroutine[Any, Any, None]], **kw: Any) -> None:
    async def run() -> None:
        async with Queue(**{"name": "test", "autoclean_interval": 3600, **kw}) as queue:
            await queue.stats()  # there is a connection
            await test(queue)

    asyncio.run(run())


async def outcomes(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    """The result or error of each; of one that was cancelled, None."""
    await asyncio.wait(tasks)
    return [None if each.cancelled() else each.exception() or each.result() for each in tasks]


def begun(calls: list[Coroutine[Any, Any, Any]]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(each) for each in calls]


# -- tasks that are cancelled ----------------------------------------------------------------------


class Census:
    """What tasks put, got and acked, and whether each reply was that of its call."""

    def __init__(self) -> None:
        self.tried: set[str] = set()
        self.confirmed: set[str] = set()
        self.got: list[str] = []
        self.acked: set[str] = set()

    async def work(self, queue: Queue, task: int) -> None:
        own, payload = f"own {task}", f"payload {task}"
        assert await queue.put("x", uid=own, delay=3600) == own
        assert await queue.exists(own) is True
        assert await queue.put("x", uid=own) is None
        assert await queue.exists(f"not {own}") is False
        assert await queue.remove(own) is True
        assert await queue.remove(own) is False
        self.tried.add(payload)
        assert await queue.put(payload)
        self.confirmed.add(payload)
        item = await queue.get(-1)
        assert item.uid is not None, "each puts one before it gets one"
        self.got.append(item.payload.decode())
        assert await queue.ack(item.uid) is True
        self.acked.add(item.payload.decode())
        assert await queue.ack(item.uid) is False

    def check(self, client: redis.Redis) -> None:
        keys = snapshot(client)
        there = Counter(keys.get("items", {}).values())
        del there["x"]
        got = Counter(self.got)
        assert self.confirmed - there.keys() - got.keys() == set(), "lost"
        assert there.keys() | got.keys() <= self.tried, "invented"
        assert [each for counts in (there, got) for each, n in counts.items() if n > 1] == []
        assert there.keys() & self.acked == set(), "acked, and there"
        assert "leases" not in keys
        check_places(client)


@pytest.mark.parametrize("seed", range(4))
def test_tasks_that_are_cancelled_disturb_none_of_the_others(
    server: Server, client: redis.Redis, seed: int
) -> None:
    chance, census = random.Random(seed), Census()

    async def test(queue: Queue) -> None:
        tasks = begun([census.work(queue, n) for n in range(200)])
        doomed = chance.sample(tasks, 100)
        for each in doomed:
            for _ in range(chance.randrange(4)):
                await asyncio.sleep(0)
            each.cancel()
        for each, outcome in zip(tasks, await outcomes(tasks)):
            assert outcome is None, "an error"
            assert not each.cancelled() or each in doomed

    run_with(test, url=server.url)
    census.check(client)


@pytest.mark.parametrize("turns", range(0, 16, 3))
def test_of_puts_that_are_begun_together_each_is_stored_once_though_some_are_cancelled(
    server: Server, client: redis.Redis, turns: int
) -> None:
    async def test(queue: Queue) -> None:
        puts = begun([queue.put(f"{n}") for n in range(120)])
        for _ in range(turns):
            await asyncio.sleep(0)
        for each in puts[::3]:
            each.cancel()
        uids = await outcomes(puts)
        for n, uid in enumerate(uids):
            assert uid is not None or n % 3 == 0, "it was not cancelled"
        # What is sent after them is answered after them.
        total = (await queue.stats()).total
        items = snapshot(client)["items"]
        assert total == len(items)
        assert {uid: f"{n}" for n, uid in enumerate(uids) if uid}.items() <= items.items()
        assert [each for each, n in Counter(items.values()).items() if n > 1] == []
        check_places(client)

    run_with(test, url=server.url)


def test_a_put_that_is_cancelled_before_it_is_sent_is_not_sent_with_the_number_of_another(
    server: Server, client: redis.Redis
) -> None:
    """Where each call has its own connection, and its opening swallows a cancellation."""

    async def test(queue: Queue) -> None:
        await queue.put("first", uid="first")  # the server has the script
        pool: Any = queue._here.pool
        pool.shares, other, sent = False, asyncio.Event(), pool.take

        async def take(end: float) -> Any:
            pool.take = sent
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                await other.wait()
            return await sent(end)

        pool.take = take
        (put,) = begun([queue.put("cancelled", uid="cancelled")])
        await asyncio.sleep(0.01)
        put.cancel()
        await outcomes([put])
        seen = queue._send

        async def send(call: Any, slot: Any) -> Any:
            other.set()
            await asyncio.sleep(0.05)
            return await seen(call, slot)

        # Of this queue alone, from here on: a subclass would be slow in the put before too.
        queue._send = send  # type: ignore[method-assign]
        assert await queue.put("a", uid="own")
        assert await queue.exists("own")

    run_with(test, url=server.url)


def test_a_put_that_is_cancelled_before_it_was_begun_puts_nothing(
    server: Server, client: redis.Redis
) -> None:
    async def test(queue: Queue) -> None:
        puts = begun([queue.put(f"{n}") for n in range(50)])
        for each in puts[::2]:
            each.cancel()
        uids = [each for each in await outcomes(puts) if each]
        assert len(uids) == 25
        assert sorted(snapshot(client)["items"]) == sorted(uids)

    run_with(test, url=server.url)


# -- bad ones among good ones ----------------------------------------------------------------------


class Moody:
    """A serializer that does not like everything."""

    @staticmethod
    def dumps(item: Any) -> bytes:
        if item == "unlucky":
            raise ZeroDivisionError("what the serializer raised")
        return json.dumps(item).encode()

    loads = staticmethod(json.loads)


def test_puts_that_cannot_be_are_refused_alone(server: Server, client: redis.Redis) -> None:
    async def test(queue: Queue) -> None:
        calls: list[Coroutine[Any, Any, Any]] = []
        for n in range(20):
            calls += [
                queue.put(f"{n}"),
                queue.put("large" * 1000),
                queue.put(f"own {n}", uid=f"own {n}"),
                queue.put("unlucky"),
                queue.put(f"twice {n}", uid="twice"),
                queue.put("a", delay=-1),
                queue.put("a", priority=1_000_000),
            ]
        kinds = [str, PayloadTooLarge, str, ZeroDivisionError, None, ValueError, ValueError]
        twice = []
        for number, outcome in enumerate(await outcomes(begun(calls))):
            kind = kinds[number % len(kinds)]
            if kind is None:
                twice.append(outcome)
            else:
                assert isinstance(outcome, kind), outcome
        assert Counter(twice) == {"twice": 1, None: 19}
        items = snapshot(client)["items"]
        assert len(items) == 20 + 20 + 1
        assert {f'"{n}"' for n in range(20)} <= set(items.values())
        assert all(items[f"own {n}"] == f'"own {n}"' for n in range(20))
        check_places(client)

    run_with(test, url=server.url, serializer=Moody, max_payload=1000)


def test_a_full_queue_takes_as_many_of_puts_begun_together_as_there_is_room_for(
    server: Server, client: redis.Redis
) -> None:
    async def test(queue: Queue) -> None:
        puts = await outcomes(begun([queue.put(f"{n}") for n in range(50)]))
        stored = [each for each in puts if isinstance(each, str)]
        assert len(stored) == 10
        assert sum(isinstance(each, QueueFull) for each in puts) == 40
        assert sorted(snapshot(client)["items"]) == sorted(stored)

    run_with(test, url=server.url, maxsize=10)


def test_puts_begun_together_keep_their_priorities_and_delays(
    server: Server, client: redis.Redis
) -> None:
    async def test(queue: Queue) -> None:
        calls = [queue.put(f"{n}", priority=n % 3) for n in range(30)]
        calls += [queue.put("later", delay=3600) for _ in range(5)]
        uids = await outcomes(begun(calls))
        assert len(set(uids)) == 35
        stats = await queue.stats()
        assert (stats.ready, stats.delayed) == (30, 5)
        got = [await queue.get(-1) for _ in range(30)]
        assert [int(item.payload) % 3 for item in got] == [2] * 10 + [1] * 10 + [0] * 10
        assert (await queue.get(-1)).uid is None

    run_with(test, url=server.url)


def test_an_error_of_the_server_reaches_each_put_and_nothing_else(own_server: Server) -> None:
    with own_server.client() as client:

        async def test(queue: Queue) -> None:
            uids = await queue.put_many(f"{n}" for n in range(20))
            client.config_set("maxmemory", 1)
            calls: list[Coroutine[Any, Any, Any]] = []
            for uid in uids:
                calls += [queue.put("a"), queue.exists(uid), queue.exists("nobody")]
            for n, outcome in enumerate(await outcomes(begun(calls))):
                if n % 3 == 0:
                    assert isinstance(outcome, redis.ResponseError), outcome
                    assert "maxmemory" in str(outcome)
                else:
                    assert outcome is (n % 3 == 1)
            client.config_set("maxmemory", 0)
            more = await outcomes(begun([queue.put("b") for _ in range(20)]))
            assert sorted(snapshot(client)["items"]) == sorted([*uids, *more])

        run_with(test, url=own_server.url)


class VaultError(Exception):
    """As errors that cannot be copied: they are made of other arguments than they have."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code}: {text}")


class Sealed(redis.asyncio.UnixDomainSocketConnection):
    def __init__(self, **kw: Any) -> None:
        super().__init__(**kw)
        if kw.get("client_name") == "sealed":
            raise VaultError(503, "it is sealed")


def test_an_error_of_puts_that_go_together_is_that_of_each(server: Server) -> None:
    async def test() -> None:
        pool = redis.asyncio.ConnectionPool(connection_class=Sealed, path=server.socket)
        async with redis.asyncio.Redis(connection_pool=pool) as client:
            queue = Queue(client=client, name="test")
            queue._like.settings["client_name"] = "sealed"
            puts = begun([queue.put("a") for _ in range(4)])
            async with asyncio.timeout(20):
                assert [type(each) for each in await outcomes(puts)] == [VaultError] * 4

    asyncio.run(test())


def test_puts_whose_task_in_the_background_is_cancelled_are_cancelled(
    server: Server, client: redis.Redis
) -> None:
    """By one that cancels all there are, at an exit perhaps, but those that it awaits."""

    async def test(queue: Queue) -> None:
        proxy.go_silent()
        puts = begun([queue.put("a") for _ in range(4)])
        for _ in range(5):
            await asyncio.sleep(0)
        for each in asyncio.all_tasks() - {*puts, asyncio.current_task()}:
            each.cancel()
        puts[0].cancel()
        async with asyncio.timeout(20):
            assert await outcomes(puts) == [None] * 4

    with Proxy(server) as proxy:
        run_with(test, url=proxy.url)


# -- what the connection does ----------------------------------------------------------------------


@pytest.mark.parametrize("fault", DROPS)
def test_a_connection_that_is_lost_under_many_calls_costs_none_of_them(
    server: Server, client: redis.Redis, fault: str
) -> None:
    census = Census()

    async def test(queue: Queue) -> None:
        for number, k in enumerate((0, 1, 3, 9)):
            proxy.fail_at(k, fault)
            tasks = begun([census.work(queue, 50 * number + n) for n in range(50)])
            assert await outcomes(tasks) == [None] * 50
            assert proxy.failed

    with Proxy(server) as proxy:
        run_with(test, url=proxy.url)
    census.check(client)
    assert len(census.got) == len(census.acked) == 200


@pytest.mark.parametrize("doomed", [0, 1, 2])
def test_a_reply_that_nobody_awaits_any_more_is_not_taken_for_the_next(
    server: Server, client: redis.Redis, doomed: int
) -> None:
    async def test(queue: Queue) -> None:
        await queue.put("a", uid="there")
        proxy.fail_at(0, "late reply")
        uids = ("there", "nobody", "there", "nobody")
        calls = begun([queue.exists(uid) for uid in uids])
        await until(lambda: proxy.failed)
        calls[doomed].cancel()
        await asyncio.sleep(0)
        calls += begun([queue.exists(uid) for uid in uids])
        await asyncio.sleep(0)
        proxy.release()
        answers = await outcomes(calls)
        del answers[doomed]  # it may have been answered before
        expected = [uid == "there" for uid in uids * 2]
        del expected[doomed]
        assert answers == expected

    with Proxy(server) as proxy:
        run_with(test, url=proxy.url)


def test_a_large_payload_that_is_cancelled_half_way_leaves_the_line_in_order(
    server: Server, client: redis.Redis
) -> None:
    """Cut off in a command, the server would take the next for the rest of it."""

    async def test(queue: Queue) -> None:
        proxy.takes_payloads.clear()
        large = asyncio.create_task(queue.put(b"x" * 20_000_000))
        small = begun([queue.put(f"{n}") for n in range(10)])
        for _ in range(20):
            await asyncio.sleep(0)
        large.cancel()
        with within(2):
            assert await outcomes([large]) == [None]
        proxy.takes_payloads.set()
        uids = await outcomes(small)
        items = snapshot(client)["items"]
        for n, uid in enumerate(uids):
            assert items[uid] == f"{n}"
        assert len(items) in (10, 11)
        assert await queue.exists(uids[0]) is True
        assert await queue.exists("nobody") is False

    with Proxy(server) as proxy:
        run_with(test, url=proxy.url, max_payload=20_000_000)


def test_many_large_payloads_on_a_slow_line_are_not_all_copied_at_once(
    server: Server, client: redis.Redis
) -> None:
    """200 MB are put, all of them the same bytes; the line takes none of them for a while."""
    payload = b"x" * 1_000_000

    async def test(queue: Queue) -> None:
        proxy.takes_payloads.clear()
        tracemalloc.start()
        puts = begun([queue.put(payload) for _ in range(200)])
        asyncio.get_running_loop().call_later(0.3, proxy.takes_payloads.set)
        uids = await outcomes(puts)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len({uid for uid in uids if isinstance(uid, str)}) == 200
        assert client.hlen("srq:test:items") == 200
        assert {client.hstrlen("srq:test:items", uid) for uid in uids} == {len(payload)}
        assert most < 120_000_000 or not saferedisqueue.hiredis  # redis-py's writes have no bound
        assert await queue.purge() == 200

    with Proxy(server) as proxy:
        run_with(test, url=proxy.url)


def test_a_line_that_is_lost_while_it_takes_no_more_costs_no_put(
    server: Server, client: redis.Redis
) -> None:
    payload = b"x" * 1_000_000

    async def test(queue: Queue) -> None:
        proxy.takes_payloads.clear()
        puts = begun([queue.put(payload, uid=f"{n}") for n in range(40)])
        await asyncio.sleep(0.3)
        proxy.drop()
        proxy.takes_payloads.set()
        assert [each for each in await outcomes(puts) if not isinstance(each, str | None)] == []
        assert (await queue.stats()).total == 40

    with Proxy(server) as proxy:
        run_with(test, url=proxy.url)
