"""Every operation of a queue, prepared and then run once: for the tests that disturb it.

An operation is a generator: it prepares the queue, yields what it May do, and goes on to do it,
checking what it is told. Payloads are single letters, put in the order of the alphabet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import redis

import saferedisqueue
from helpers import PLACES, check_places, drained, seed, snapshot
from saferedisqueue import SafeRedisQueue

NOW = 1_700_000_000_000  # ms, the time that is given to the scripts
LEASE = 60  # seconds: every lease and delay ends so much later

OTHER = "other"  # the queue that forward puts into
Queue = Any


@dataclass
class May:
    """What may change: by how much, if an operation is stopped half-way, is not known."""

    new: Iterable[str] = ""  # is put, in this order
    gone: Iterable[str] = ""  # is acked or dropped
    dies: Iterable[str] = ""  # becomes a dead letter
    whole: bool = True  # it is one script: done wholly or not at all
    takes: bool = False  # what it takes goes back if the caller is not told of it,
    counts: bool = False  # but it may have been in hand, which is a delivery
    fewer: bool = False  # it is content with what it has when the server does not answer


@dataclass
class Operation:
    run: Callable[[Queue, redis.Redis], Iterator[May]]
    settings: dict[str, Any] = field(default_factory=dict)


OPERATIONS: dict[str, Operation] = {}


def operation(**settings: Any) -> Callable[[Callable[..., Iterator[May]]], None]:
    """Lists an operation, on a queue of these settings, by its name in words."""

    def add(run: Callable[..., Iterator[May]]) -> None:
        OPERATIONS[run.__name__.strip("_").replace("_", " ")] = Operation(run, settings)

    return add


def places(client: redis.Redis) -> dict[str, str]:
    """Where each payload is: queue, ackbuf, ...; of the other queue with its name before it."""
    found: dict[str, str] = {}
    for name, before in (("test", ""), (OTHER, f"{OTHER} ")):
        keys = snapshot(client, name)
        for uid, payload in keys.get("items", {}).items():
            where = [place for place in PLACES if uid in keys.get(place, ())]
            found[payload] = before + " ".join(where)
    return found


# -- one run, and what is left of it ---------------------------------------------------------------


class Run:
    """One run of an operation: prepared, then to be gone on with."""

    def __init__(self, operation: Operation, queue: Any, client: redis.Redis) -> None:
        client.flushdb()
        queue._at = NOW
        self._steps = operation.run(queue, client)
        self.may: May = next(self._steps)
        self.before = places(client)

    def go_on(self) -> None:
        for _ in self._steps:
            raise AssertionError("an operation has one yield")


def check_what_is_left(run: Run, after: dict[str, str], client: redis.Redis) -> list[Any]:
    """Invariants 1 to 6 after a run that was cut off; ``after`` is of one that was not.

    The items as a fresh consumer got them.
    """
    may = run.may
    for name in ("test", OTHER):
        check_places(client, name)
    left = places(client)
    assert left.keys() >= run.before.keys() - set(may.gone), "an item was lost"
    assert left.keys() <= run.before.keys() | set(may.new), "an item was invented"
    put = [payload for payload in may.new if payload in left]
    assert put == list(may.new)[: len(put)], "the later was put, the earlier not"
    dead = {payload for payload, place in left.items() if place == "dead"}
    assert all(run.before.get(each) == "dead" for each in dead - set(may.dies))
    if may.whole:
        assert left in (run.before, after), "it was done by halves"
    delivered = deliveries(client, "test")
    if snapshot(client, OTHER):
        delivered += deliveries(client, OTHER)
    assert sorted(item.payload.decode() for item in delivered) == sorted(left)
    return delivered


def deliveries(client: redis.Redis, name: str) -> list[Any]:
    """What a fresh consumer gets when all leases and two autoclean intervals are over."""
    with SafeRedisQueue(client=client, name=name) as fresh:
        fresh.resume()
        fresh._at = str(NOW + LEASE * 1000)
        items = drained(fresh, client, intervals=2)
        first = [item.payload for item in items if item.attempts == 1]
        assert first == sorted(first), "out of order"
        dead = snapshot(client, name).get("dead", {})
        assert snapshot(client, name).get("items", {}).keys() == dead.keys(), "never delivered"
        assert fresh.revive() == len(dead)
        items += drained(fresh, client, intervals=0)
        assert fresh.get(-1) == (None, None)
        assert snapshot(client, name).keys() <= {"backuplock"}
    return items


def check_answers(queue: Any, client: redis.Redis) -> None:
    """Nobody reads another's reply: calls with answers of different kinds get their own."""
    count = client.hlen("srq:test:items")
    uid = queue.put("tag")
    assert len(uid) == 36
    assert client.hget("srq:test:items", uid) == b"tag"
    assert queue.exists(uid) is True
    assert queue.stats().total == count + 1
    assert queue.remove(uid) is True
    assert queue.remove(uid) is False


def undisturbed(operation: Operation, queue: Any, client: redis.Redis) -> dict[str, str]:
    """Where everything is after the operation."""
    run = Run(operation, queue, client)
    run.go_on()
    after = places(client)
    assert after.keys() == run.before.keys() - set(run.may.gone) | set(run.may.new)
    assert {payload for payload in run.may.dies if after[payload] == "dead"} == set(run.may.dies)
    return after


# -- put -------------------------------------------------------------------------------------------


@operation()
def put(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"ab"])
    yield May(new="x")
    assert queue.put("x") is not None


@operation()
def put_with_a_uid(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"ab"])
    yield May(new="x")
    assert queue.put("x", uid="mine") == "mine"


@operation()
def put_with_a_delay(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"ab"])
    yield May(new="x")
    assert queue.put("x", delay=LEASE) is not None


@operation()
def put_with_a_priority(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put("a", priority=-1)
    yield May(new="x")
    assert queue.put("x", priority=-1) is not None


@operation()
def put_many(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"ab"])
    yield May(new="vwxyz", whole=False)
    assert len(queue.put_many([*"vwxyz"])) == 5


@operation(durable=1, durable_timeout=0.001)
def put_that_no_replica_confirms(queue: Queue, client: redis.Redis) -> Iterator[May]:
    yield May(new="x")
    with pytest.raises(saferedisqueue.NotDurable):
        queue.put("x")


# -- get -------------------------------------------------------------------------------------------


def check_taken(item: Any, payload: str) -> None:
    assert (item.payload, item.attempts) == (payload.encode(), 1)


@operation()
def get(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abc"])
    yield May(takes=True)
    check_taken(queue.get(), "a")


@operation()
def get_with_a_lease(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abc"])
    yield May(takes=True)
    check_taken(queue.get(lease=LEASE), "a")


@operation()
def get_by_priority(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"ab"], priority=3)
    yield May(takes=True)
    check_taken(queue.get(lease=LEASE), "a")


@operation(wait_slice=0.02)
def get_of_nothing(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put("a", delay=LEASE)
    yield May()
    assert queue.get(0.03) == (None, None)


def arrive(client: redis.Redis) -> None:
    """Items are put by somebody else."""
    client.hset("srq:test:items", mapping={"first": "a", "second": "b"})
    client.lpush("srq:test:queue", "first", "second")


@operation()
def get_that_waits(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.before_wait = lambda: arrive(client)
    yield May(new="ab", whole=False, takes=True)
    check_taken(queue.get(), "a")


@operation()
def get_with_a_lease_that_waits(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.before_wait = lambda: arrive(client)
    yield May(new="ab", whole=False, takes=True)
    check_taken(queue.get(lease=LEASE), "a")


@operation()
def get_that_waits_at_a_server_without_its_script(
    queue: Queue, client: redis.Redis
) -> Iterator[May]:
    queue.before_wait = lambda: (client.script_flush(), arrive(client))
    yield May(new="ab", whole=False, takes=True)
    check_taken(queue.get(), "a")


@operation()
def get_that_requeues(queue: Queue, client: redis.Redis) -> Iterator[May]:
    """Orphans, one of a lease and one that autoclean brings back."""
    seed(client, items={"1": "a", "2": "b"}, backup=["1"], leases={"2": NOW - 1})
    seed(client, meta={"1": "1 5 t ", "2": "1 5 t "})
    yield May(whole=False)
    assert queue.get(lease=LEASE).attempts == 2


@operation()
def get_many(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abcdef"])
    yield May(whole=False, takes=True, fewer=True)
    check_first(queue.get_many(5, lease=LEASE), "abcde")


def check_first(items: list[Any], payloads: str) -> None:
    assert items
    assert [item.payload.decode() for item in items] == list(payloads[: len(items)])


def loads(payload: Any) -> Any:
    if payload == b"a":
        raise ValueError("not a's")
    return payload


class Picky:
    """A serializer that cannot load an a."""

    dumps = staticmethod(str.encode)
    loads = staticmethod(loads)


@operation(serializer=Picky, max_attempts=1)
def get_past_the_undecodable(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abc"])
    yield May(dies="a", whole=False, takes=True)
    check_taken(queue.get(), "b")


@operation(serializer=Picky, max_attempts=1)
def get_many_past_the_undecodable(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abc"])
    yield May(dies="a", whole=False, takes=True, fewer=True)
    check_first(queue.get_many(2, lease=LEASE), "bc")


# -- ack, fail and other ends of a delivery --------------------------------------------------------


def take(queue: Queue, put: str, count: int, lease: float | None = None) -> list[str]:
    """Put the payloads and get as many as told; their uids."""
    queue.put_many([*put])
    return [queue.get(-1, lease).uid for _ in range(count)]


def settling(
    name: str,
    settle: Callable[[Queue, str], bool],
    may: May,
    lease: float | None = None,
    **settings: Any,
) -> None:
    """Lists an operation on one item in flight, of two."""

    def run(queue: Queue, client: redis.Redis) -> Iterator[May]:
        (uid,) = take(queue, "ab", 1, lease)
        yield may
        assert settle(queue, uid)

    OPERATIONS[name] = Operation(run, settings)


settling("ack", lambda queue, uid: queue.ack(uid) is True, May(gone="a"))
settling("ack with a lease", lambda queue, uid: queue.ack(uid) is True, May(gone="a"), LEASE)
settling("fail", lambda queue, uid: queue.fail(uid) is True, May())
settling("fail with a delay", lambda queue, uid: queue.fail(uid, LEASE) is True, May(), LEASE)
settling(
    "fail with a delay by attempts",
    lambda queue, uid: queue.fail(str(uid)) is True,
    May(),
    retry_delay=lambda attempts: LEASE,
)
settling(
    "fail for good",
    lambda queue, uid: queue.fail(uid, reason="why") is True,
    May(dies="a"),
    max_attempts=1,
)
settling("touch", lambda queue, uid: queue.touch(uid, LEASE) is True, May())
settling("bury", lambda queue, uid: queue.bury(uid) is True, May(dies="a"))
settling(
    "forward",
    lambda queue, uid: queue.forward(uid, OTHER, "x") is not None,
    May(gone="a", new="x"),
)


@operation()
def ack_many(queue: Queue, client: redis.Redis) -> Iterator[May]:
    uids = take(queue, "abcdef", 5, LEASE)
    yield May(gone="abcde", whole=False)
    assert queue.ack_many(uids) == 5


@operation()
def fail_many(queue: Queue, client: redis.Redis) -> Iterator[May]:
    uids = take(queue, "abcdef", 5, LEASE)
    yield May(whole=False)
    assert queue.fail_many(uids) == 5


# -- dead letters, and the whole queue -------------------------------------------------------------


def bury_many(client: redis.Redis, count: int) -> list[str]:
    """Dead letters, whose uids are their payloads."""
    uids = [f"{n:03}" for n in range(count)]
    seed(client, items=dict(zip(uids, uids)), dead={uid: int(uid) for uid in uids})
    seed(client, reasons=dict.fromkeys(uids, "why"), meta=dict.fromkeys(uids, "3 0 - "))
    return uids


@operation()
def revive(queue: Queue, client: redis.Redis) -> Iterator[May]:
    bury_many(client, 5)
    yield May(whole=False)
    assert queue.revive("001", "003") == 2


@operation()
def revive_all(queue: Queue, client: redis.Redis) -> Iterator[May]:
    bury_many(client, 101)
    yield May(whole=False)
    assert queue.revive() == 101


@operation()
def purge_dead(queue: Queue, client: redis.Redis) -> Iterator[May]:
    uids = bury_many(client, 101)
    yield May(gone=uids, whole=False)
    assert queue.purge_dead() == 101


@operation()
def remove(queue: Queue, client: redis.Redis) -> Iterator[May]:
    (uid,) = take(queue, "ab", 1)
    yield May(gone="a")
    assert queue.remove(str(uid)) is True


@operation()
def look(queue: Queue, client: redis.Redis) -> Iterator[May]:
    (uid,) = take(queue, "abc", 1)
    queue.bury(uid)
    (uid,) = take(queue, "", 1)
    yield May()
    assert queue.stats()[:5] == (1, 1, 0, 1, 3)
    assert queue.exists(uid) is True
    assert [item.payload for item in queue.peek(9)] == [b"c"]
    assert [each.payload for each in queue.dead()] == [b"a"]


@operation()
def pause_and_resume(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put("a")
    yield May(whole=False)
    queue.pause()
    assert queue.get(-1) == (None, None)
    queue.resume()
    check_taken(queue.get(-1), "a")


@operation()
def purge(queue: Queue, client: redis.Redis) -> Iterator[May]:
    take(queue, "abc", 1)
    yield May(gone="abc")
    assert queue.purge() == 3


@operation()
def join(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put("a", delay=LEASE)
    yield May()
    assert queue.join(5) is True
    assert queue.join(0.01, delayed=True) is False


# -- consume and processing ------------------------------------------------------------------------


def consume(queue: Queue, put: str, **how: Any) -> Iterator[May]:
    """To the end."""
    queue.put_many([*put])
    yield May(gone=put, whole=False, takes=True, counts=True)
    with queue.consume(lease=LEASE, timeout=-1, **how) as items:
        assert b"".join(item.payload for item in items) == put.encode()


@operation()
def consume_one_by_one(queue: Queue, client: redis.Redis) -> Iterator[May]:
    yield from consume(queue, "abc")


@operation()
def consume_and_prefetch(queue: Queue, client: redis.Redis) -> Iterator[May]:
    yield from consume(queue, "abcde", prefetch=2)


@operation()
def consume_without_renewing(queue: Queue, client: redis.Redis) -> Iterator[May]:
    yield from consume(queue, "abcde", prefetch=2, renew=False)


@operation()
def consume_and_break(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abcdef"])
    yield May(gone="abc", whole=False, takes=True, counts=True)
    with queue.consume(prefetch=2, lease=LEASE) as items:
        for item in items:
            if item.payload == b"c":
                item.ack()
            if item.payload == b"d":
                break


@operation()
def consume_and_close(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abcdef"])
    yield May(gone="ab", whole=False)
    items = queue.consume(prefetch=2, lease=LEASE)
    assert [next(items).payload for _ in "abc"] == [b"a", b"b", b"c"]
    items.close()


class BrokenError(Exception):
    pass


@operation()
def consume_and_raise(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abcdef"])
    yield May(gone="a", whole=False, takes=True, counts=True)
    items = queue.consume(prefetch=3, lease=LEASE)
    with pytest.raises(BrokenError), items:
        check_second(next(items), next(items))


def check_second(first: Any, second: Any) -> None:
    assert (first.payload, second.payload) == (b"a", b"b")
    raise BrokenError


@operation()
def consume_and_settle(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abcd"])
    yield May(gone="ad", dies="b", whole=False, takes=True, counts=True)
    with queue.consume(lease=LEASE, timeout=-1) as items:
        next(items).ack()
        next(items).bury()
        item = next(items)
        item.touch()
        item.fail(delay=LEASE)
        assert [item.payload for item in items] == [b"d"]


@operation(serializer=Picky, max_attempts=1)
def consume_past_the_undecodable(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"abc"])
    yield May(gone="bc", dies="a", whole=False, takes=True, counts=True)
    with queue.consume(prefetch=2, lease=LEASE, timeout=-1) as items:
        assert [item.payload for item in items] == [b"b", b"c"]


@operation()
def processing(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"ab"])
    yield May(gone="a", whole=False, takes=True, counts=True)
    with queue.processing(lease=LEASE) as item:
        assert item.payload == b"a"


@operation()
def processing_that_raises(queue: Queue, client: redis.Redis) -> Iterator[May]:
    queue.put_many([*"ab"])
    yield May(whole=False, takes=True, counts=True)
    with pytest.raises(BrokenError), queue.processing(lease=LEASE):
        raise BrokenError
