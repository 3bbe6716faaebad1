"""What each command takes of the server's time, however much is queued, and an item of its memory;
and what it takes to find strays among a million items and to repair them.

`python tests/tools/costs.py` prints the figures.
"""

from __future__ import annotations

import itertools
import random
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import redis

import servers
from helpers import call, eventually, lapse
from moves import NOW, claiming, new_slot
from saferedis.doctor import examine
from saferedisqueue import CLAIM, Item, SafeRedisQueue

LIMIT = 10.0  # ms
MILLION = 1_000_000
HOUR = 3_600_000

# Fills a place with ARGV[4] items from number ARGV[3] on, and their score, if it is a sorted set.
FILL = """
local items, meta, place = unpack(KEYS)
local kind, about, first, count, score, step = unpack(ARGV)
for n = first, first + count - 1, 500 do
  local fields, abouts, members = {}, {}, {}
  for i = n, math.min(n + 499, first + count - 1) do
    local uid = string.format('%036d', i)
    fields[#fields + 1], fields[#fields + 2] = uid, 'a payload of some length'
    abouts[#abouts + 1], abouts[#abouts + 2] = uid, about
    if kind == 'zset' then members[#members + 1] = string.format('%.0f', score + i * step) end
    members[#members + 1] = uid
  end
  redis.call('HSET', items, unpack(fields))
  if about ~= '' then redis.call('HSET', meta, unpack(abouts)) end
  redis.call(kind == 'zset' and 'ZADD' or 'LPUSH', place, unpack(members))
end
"""
OUT = f"1 {NOW - 1} tok:1 "


def cpu(server: servers.Server) -> float:
    """ms of processor time that the server's main thread has had; waiting for one is none."""
    nanoseconds = Path(f"/proc/{server.pid}/schedstat").read_text().split()[0]
    return int(nanoseconds) / 1e6


class Costs:
    """The ms of the slowest command that a queue has sent."""

    def __init__(self, server: servers.Server, queue: Any) -> None:
        self.slowest = 0.0
        send = queue._exchange

        def measured(*call: Any) -> Any:
            before = cpu(server)
            reply = send(*call)
            self.slowest = max(self.slowest, cpu(server) - before)
            return reply

        queue._exchange = measured


class Filled:
    """A server with a queue that holds more than a million items, and the cost of each command."""

    def __init__(self, server: servers.Server) -> None:
        self.server, self.client = server, server.client(socket_timeout=60)
        self.numbers = itertools.count()
        self.client.flushall()
        self.queue = SafeRedisQueue(url=server.url, name="test", socket_timeout=60)
        self.queue._at = NOW
        self.costs_of = Costs(server, self.queue)
        self.client.set(self.queue.BACKUP_LOCK, 1, ex=3600)  # until lapse
        self.ready = self.fill("queue", MILLION)
        self.out = self.fill("ackbuf", 100_000, OUT)
        self.fill("backup", 100_000, OUT)
        self.leased = self.fill("leases", 50_000, OUT, NOW + HOUR)
        self.fill("leases", 20_000, OUT, NOW - HOUR)
        self.delayed = self.fill("delayed", 100_000, "", NOW + HOUR)
        self.fill("delayed", 20_000, "", NOW - HOUR)
        self.handed = self.fill("handed", 1000)
        self.held = self.fill("held", 100_000, "0 0 - ", NOW)
        self.fill("priority", 50_000, "", -5 * 2**43 + NOW)
        self.fill("priority", 50_000, "", 5 * 2**43 + NOW)
        self.fill_dead()

    def fill(self, place: str, count: int, about: str = "", score: int | None = None) -> list[str]:
        """Their uids."""
        first = next(self.numbers) * 10 * MILLION
        kind = "list" if score is None else "zset"
        keys = [f"srq:test:{key}" for key in ("items", "meta", place)]
        for start in range(first, first + count, 10_000):
            some = min(10_000, first + count - start)
            self.client.eval(FILL, 3, *keys, kind, about, start, some, score or 0, 0.001)
        return [f"{n:036d}" for n in range(first, first + count)]

    def fill_dead(self) -> list[str]:
        return self.fill("dead", 100_000, "3 5 - ", NOW)

    def close(self) -> None:
        self.queue.close()
        self.client.close()

    def costs(self) -> dict[str, float]:
        """The ms of the slowest command of each operation."""
        costs: dict[str, float] = {}
        for name, step in self.operations():
            self.costs_of.slowest = 0.0
            step()
            costs[name] = max(costs.get(name, 0.0), self.costs_of.slowest)
        return costs

    def operations(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Every public one, in an order in which each finds the queue as large as can be."""
        queue, chance = self.queue, random.Random(1)
        out, leased = self.out[::-1], self.leased  # oldest last, as in the list
        scattered = chance.sample(range(1000, 99_000), 90)
        any_out = (out[n] for n in scattered)
        any_leased = iter(chance.sample(leased, 8000))
        taken: list[Item[bytes]] = []

        yield "put", lambda: [queue.put("a") for _ in range(20)]
        yield "put, there already", lambda: queue.put("a", uid=out[0])
        yield "put, later", lambda: [queue.put("a", delay=60) for _ in range(20)]
        yield "put, soon", lambda: [queue.put("a", delay=0.5) for _ in range(20)]
        yield "put, held", lambda: [queue.put("a", held=True) for _ in range(20)]
        yield "put, priority", lambda: [queue.put("a", priority=5) for _ in range(20)]
        yield "put_many 1000", lambda: queue.put_many(["a"] * 1000)
        yield "put_many 1000, later", lambda: queue.put_many(["a"] * 1000, delay=60)
        yield "put_many 1000, priority", lambda: queue.put_many(["a"] * 1000, priority=-5)
        yield "get, 20,000 due and 20,000 leases lapsed", lambda: self.get_all_that_came_back()
        yield "get", lambda: [queue.get() for _ in range(20)]
        yield "get, the short way", lambda: self.from_queue(queue.get, 20)
        yield "get_many 250, the short way", lambda: self.from_queue(lambda: queue.get_many(250), 9)
        yield "get, lease", lambda: [queue.get(0, 60) for _ in range(20)]
        yield "get_many 1000", lambda: taken.extend(queue.get_many(1000))
        yield "get, autoclean over 100,000", self.autoclean
        yield "get, 1000 ghosts", self.get_past_ghosts
        yield "get, failed by 3.0.0", self.get_past_copies
        yield "ack", lambda: [queue.ack(uid) for uid in out[:20]]
        yield "ack, any", lambda: [queue.ack(next(any_out)) for _ in range(20)]
        yield "ack, leased", lambda: [queue.ack(next(any_leased)) for _ in range(20)]
        yield "ack_many", lambda: queue.ack_many(next(any_out) for _ in range(10))
        yield "ack_many 1000, leased", lambda: queue.ack_many(item.uid for item in taken)
        yield "touch", lambda: [queue.touch(next(any_out)) for _ in range(10)]
        yield "touch, leased", lambda: [queue.touch(next(any_leased)) for _ in range(20)]
        yield "fail", lambda: [queue.fail(next(any_out)) for _ in range(10)]
        yield "fail, later", lambda: [queue.fail(next(any_out), 60) for _ in range(10)]
        yield "fail, leased", lambda: [queue.fail(next(any_leased)) for _ in range(20)]
        yield (
            "fail_many 1000, leased",
            lambda: queue.fail_many(item.uid for item in queue.get_many(1000)),
        )
        yield "bury", lambda: [queue.bury(next(any_out)) for _ in range(10)]
        yield "bury, leased", lambda: [queue.bury(next(any_leased)) for _ in range(20)]
        yield "forward", lambda: [queue.forward(next(any_out), "to", "a") for _ in range(10)]
        yield "remove", lambda: [queue.remove(next(any_out)) for _ in range(9)]
        yield "remove, deep inside", lambda: [queue.remove(uid) for uid in self.ready[5000:5020]]
        yield (
            "put, over a ghost",
            lambda: [queue.put("a", uid=uid) for uid in self.ready[5000:5020]],
        )
        yield "remove, handed", lambda: [queue.remove(uid) for uid in self.handed[500:520]]
        yield "remove, held", lambda: [queue.remove(uid) for uid in self.held[:20]]
        yield "release", lambda: [queue.release(uid) for uid in self.held[20:40]]
        yield "get, ghosts that are noted", self.get_past_noted_ghosts
        yield "hand back 250 behind 250 others", self.hand_back
        yield "remove, ready", lambda: [queue.remove(item.uid) for item in queue.peek(20)]
        yield "remove, delayed", lambda: [queue.remove(uid) for uid in self.delayed[:20]]
        yield "remove, dead", lambda: [queue.remove(letter.uid) for letter in queue.dead(20)]
        yield "peek 1000", lambda: queue.peek(1000)
        yield "exists", lambda: [queue.exists(uid) for uid in out[:20]]
        yield "stats", queue.stats
        yield "qsize", queue.qsize
        yield "join", lambda: queue.join(-1)
        yield "pause, get, resume", lambda: (queue.pause(), queue.get(0.1), queue.resume())
        yield "consume 1000", lambda: self.consume(1)
        yield "consume 1000, prefetch=100", lambda: self.consume(100)
        yield "dead 1000", lambda: queue.dead(1000)
        yield "dead, the last 1000", lambda: queue.dead(1000, 99_000)
        yield "revive one", lambda: [queue.revive(letter.uid) for letter in queue.dead(20)]
        yield "revive 100,000", queue.revive
        self.fill_dead()
        yield "purge_dead 100,000", queue.purge_dead
        yield "purge", queue.purge

    def get_all_that_came_back(self) -> None:
        ended = [f"srq:test:{key}" for key in ("leases", "delayed")]
        while any(self.client.zcount(key, "-inf", NOW) for key in ended):
            self.queue.get_many(1)

    def autoclean(self) -> None:
        lapse(self.client)
        while self.client.exists("srq:test:backup") and not self.client.exists(
            self.queue.BACKUP_LOCK
        ):
            self.queue.get(0, 60)

    def from_queue(self, use: Callable[[], Any], times: int = 1) -> None:
        """What is taken meanwhile is from the list, which is what it is without priorities."""
        aside = [f"srq:test:{key}" for key in ("priority", "handed")]
        for key in aside:
            self.client.rename(key, f"aside:{key}")
        for _ in range(times):
            use()
        for key in aside:
            self.client.rename(f"aside:{key}", key)

    def get_past_ghosts(self) -> None:
        self.client.rpush(self.queue.QUEUE_KEY, *(f"ghost {n}" for n in range(1500)))
        self.from_queue(self.queue.get)

    def get_past_copies(self) -> None:
        """3.0.0's fail leaves meta as the delivery has written it."""
        self.client.rpush(self.queue.QUEUE_KEY, *self.out[50_000:50_008])
        self.from_queue(lambda: self.queue.get_many(5))

    def get_past_noted_ghosts(self) -> None:
        """Each is looked for in ten thousand places of both lists."""
        again = self.ready[5000:5010]
        self.client.rpush(self.queue.QUEUE_KEY, *again)
        self.from_queue(lambda: self.queue.get_many(20))

    def hand_back(self) -> None:
        first, second = self.queue.put_many(["a"] * 250), self.queue.put_many(["a"] * 250)
        self.client.ltrim(self.queue.QUEUE_KEY, 500, -1)
        self.client.rpush(self.queue.QUEUE_KEY, *second[::-1], *first[::-1])
        batches: list[list[Item[bytes]]] = []
        self.from_queue(lambda: batches.append(self.queue.get_many(250)), 2)
        for items in batches:
            assert self.queue.hand_back([item.uid for item in reversed(items)]) == 250

    def consume(self, prefetch: int) -> None:
        with self.queue.consume(prefetch) as items:
            for _ in itertools.islice(items, 1000):
                pass


def slowest(server: servers.Server, rounds: int = 3) -> dict[str, float]:
    """The cost of each operation, in ms; of what takes too long, the best of some rounds.

    The processor's time of a command grows where others use the same caches.
    """
    costs: dict[str, float] = {}
    for _ in range(rounds):
        filled = Filled(server)
        try:
            for name, cost in filled.costs().items():
                costs[name] = min(cost, costs.get(name, cost))
            check_nothing_is_left(filled.client)
        finally:
            filled.close()
        if max(costs.values()) < LIMIT:
            break
    return costs


def check_nothing_is_left(client: redis.Redis) -> None:
    assert [key for key in client.scan_iter("srq:test:*") if client.ttl(key) < 0] == []


# -- memory ----------------------------------------------------------------------------------------

ITEMS, PAYLOAD = 100_000, b"x" * 100


def bytes_per_item(server: servers.Server) -> dict[str, float]:
    """What an item of 100 bytes takes of the server's memory, its payload and its uid included."""
    found: dict[str, float] = {}
    with (
        server.client(socket_timeout=60) as client,
        SafeRedisQueue(url=server.url, name="test", socket_timeout=60) as queue,
    ):
        queue.put("a")
        queue.ack(queue.get().uid)  # the scripts are known afterwards, the buffers there

        def used() -> int:
            return int(client.info("memory")["used_memory"])

        for name, step in (
            ("queued by 3.0.0", lambda: put_as_3_0_0(client)),
            ("queued", lambda: queue.put_many([PAYLOAD] * ITEMS)),
            ("in flight", lambda: claim_all(queue)),
            ("in flight with a lease", lambda: queue.get_many(ITEMS)),
        ):
            client.flushall()
            eventually(lambda: not client.info("memory")["lazyfree_pending_objects"])
            empty = used()
            if name.startswith("in flight"):
                queue.put_many([PAYLOAD] * ITEMS)
            items = step()
            found[name] = (used() - empty) / ITEMS
        queue.ack_many(item.uid for item in items)
        claim_all(queue)  # finds it empty
        check_nothing_is_left(client)
    return found


def put_as_3_0_0(client: redis.Redis) -> None:
    for _ in range(0, ITEMS, 1000):
        pipe = client.pipeline()
        for _ in range(1000):
            uid = str(uuid.uuid4())
            pipe.hset("srq:test:items", uid, PAYLOAD).lpush("srq:test:queue", uid)
        pipe.execute()


def claim_all(queue: SafeRedisQueue[bytes]) -> None:
    while True:
        slot = new_slot(queue, CLAIM)
        if not call(queue, CLAIM, *claiming(slot.token, count=250), slot=slot)[3:]:
            return


# -- repair ----------------------------------------------------------------------------------------

STRAYS = 20_000
# Fills the list, and of ARGV[4] items each makes one a stray: without its entry, with a second one,
# or with an entry alone.
FILL_WITH_STRAYS = """
local items, queue = unpack(KEYS)
local kind, first, count, every = unpack(ARGV)
for n = first, first + count - 1 do
  local uid, stray = string.format('%036d', n), n % every == 0 and kind
  if stray ~= 'uids-without-item' then redis.call('HSET', items, uid, 'a payload') end
  if stray ~= 'items-nowhere' then redis.call('LPUSH', queue, uid) end
  if stray == 'items-twice' then redis.call('LPUSH', queue, uid) end
end
"""


def repairs(server: servers.Server) -> dict[str, tuple[float, float, float]]:
    """Of 20,000 strays of each kind among a million items: the seconds of processor time of the
    server and of the doctor, and the ms of the slowest command.
    """
    found: dict[str, tuple[float, float, float]] = {}
    with server.client(socket_timeout=60) as client:
        for kind in ("items-nowhere", "items-twice", "uids-without-item"):
            client.flushall()
            keys = [f"srq:test:{key}" for key in ("items", "queue")]
            for first in range(0, MILLION, 10_000):
                client.eval(FILL_WITH_STRAYS, 2, *keys, kind, first, 10_000, MILLION // STRAYS)
            with SafeRedisQueue[bytes](url=server.url, name="test", socket_timeout=60) as queue:
                costs = Costs(server, queue)
                before, own = cpu(server), time.process_time()
                findings = examine(queue, 2 * MILLION, repair=True)
                taken = (cpu(server) - before) / 1000, time.process_time() - own, costs.slowest
                assert kind in {each.name for each in findings if each.repaired}
                assert client.llen(keys[1]) == client.hlen(keys[0]), "all are repaired"
                found[kind] = taken
        client.flushall()
    return found


def show_repairs(found: dict[str, tuple[float, float, float]]) -> None:
    print("repair of 20,000 strays: s of the server, s of the doctor, ms of the slowest command:")
    for kind, taken in found.items():
        print("".join(f"{each:8.2f}" for each in taken), kind)


def show_costs(costs: dict[str, float]) -> None:
    print("ms of the server's processor, the slowest command of each:")
    for name, cost in costs.items():
        print(f"{cost:8.2f}  {name}")


def show_bytes(found: dict[str, float]) -> None:
    print("bytes of memory for an item of 100 bytes:")
    for name, count in found.items():
        print(f"{count:8.0f}  {name}")


if __name__ == "__main__":
    with servers.Server(servers.find()) as running:
        show_costs(slowest(running, rounds=1))
        show_bytes(bytes_per_item(running))
        show_repairs(repairs(running))
