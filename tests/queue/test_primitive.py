"""Leases, batches, delays, priorities, dead letters and the rest: promised by every face."""

from __future__ import annotations

import json
import math
import pickle
import queue as standard
import threading
import time
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import Any

import pytest
import redis

from helpers import FAILING, Face, Failing, check_places, eventually, lapse, snapshot, within
from saferedisqueue import (
    LeaseLost,
    PayloadTooLarge,
    QueueFull,
    SafeRedisQueue,
    _run,
    _State,
    exponential_backoff,
    from_receipt,
)
from servers import Server

NOW = 1_800_000_000_000  # ms; given to the scripts, so that nothing sleeps


def at(queue: Any, seconds: float) -> None:
    """It is so late, and the next claim keeps house."""
    queue._at = str(NOW + round(seconds * 1000))
    queue._house_kept = -math.inf


# What is read of a reply besides the payload: with whatever protocol and decoding.
any_settings = pytest.mark.usefixtures("settings")


def get_woken(queue: Any, after: float) -> Any:
    """What a get returns for which something comes after so long, in a slice of 30 s."""
    with within(after + 1):  # a second is what is promised
        return queue.get(30)


# -- leases ----------------------------------------------------------------------------------------


@any_settings
def test_a_lease_ends_to_the_millisecond(queue: Any, client: redis.Redis) -> None:
    at(queue, 0)
    uid = queue.put("a")
    item = queue.get(-1, lease=30)
    assert item.deadline == (NOW + 30_000) / 1000
    assert snapshot(client)["leases"] == {uid: NOW + 30_000}
    at(queue, 29.999)
    assert queue.get(-1) == (None, None)
    at(queue, 30)
    again = queue.get(-1, lease=30)
    assert (again.uid, again.attempts) == (uid, 2)
    check_places(client)


def test_a_lease_is_renewed_by_its_holder_only(queue: Any, client: redis.Redis) -> None:
    at(queue, 0)
    queue.put("a")
    first, _ = queue.get(-1, lease=10)
    at(queue, 9)
    assert queue.touch(first, 10) is True
    at(queue, 11)
    assert queue.get(-1) == (None, None)
    at(queue, 19)
    second, _ = queue.get(-1, lease=10)
    before = snapshot(client)
    assert queue.touch(first, 100) is False
    assert queue.fail(first) is False
    assert queue.bury(first) is False
    assert queue.ack(first) is False
    assert snapshot(client) == before
    assert queue.touch(second, 100) is True
    assert queue.ack(second) is True


def test_an_item_without_a_lease_can_be_given_one(queue: Any, client: redis.Redis) -> None:
    at(queue, 0)
    queue.put("a")
    uid, _ = queue.get(-1)
    assert queue.touch(uid, 5) is True
    assert snapshot(client)["leases"] == {uid: NOW + 5000}
    assert "ackbuf" not in snapshot(client)
    check_places(client)


def test_the_queue_may_have_a_lease_for_every_get(many: Any, client: redis.Redis) -> None:
    queue = many(lease=7)
    at(queue, 0)
    queue.put("a")
    assert queue.get(-1).deadline == (NOW + 7000) / 1000


def test_what_a_get_waited_for_on_an_empty_queue_has_the_time_of_its_delivery(
    face: Face, server: Server, client: redis.Redis
) -> None:
    """A time of 0 says that it has come back."""
    with SafeRedisQueue(url=server.url, name="test") as other:
        threading.Timer(0.5, lambda: other.put("a")).start()
        uid = face.queue(url=server.url, name="test").get(30).uid
    _, ms, _ = snapshot(client)["meta"][uid].split()
    seconds, micros = client.time()
    assert -5000 < int(ms) - (1000 * seconds + micros // 1000) <= 0


def test_a_lapsed_item_wakes_a_waiting_consumer(
    face: Face, server: Server, client: redis.Redis
) -> None:
    with SafeRedisQueue(url=server.url, name="test") as other:
        uid = other.put("a")
        other.get(lease=0.2)
    waiting = face.queue(url=server.url, name="test", wait_slice=30)
    assert get_woken(waiting, 0.2).uid == uid


@any_settings
def test_a_receipt_settles_the_delivery_in_another_process(queue: Any) -> None:
    queue.put("a")
    item = queue.get(-1, lease=10)
    stale = json.loads(json.dumps(item.receipt))
    queue.fail(item.uid)
    fresh = queue.get(-1, lease=10).receipt
    assert queue.ack(from_receipt(stale)) is False
    assert queue.ack(from_receipt(fresh)) is True


@any_settings
def test_items_survive_pickle(queue: Any) -> None:
    queue.put("a")
    item = queue.get(-1, lease=10)
    copied = pickle.loads(pickle.dumps(item))
    assert copied == item
    assert copied.deadline == item.deadline
    assert queue.touch(copied.uid) is True


# -- batches ---------------------------------------------------------------------------------------


def test_get_many_takes_what_is_there_leased(queue: Any, client: redis.Redis, payload: Any) -> None:
    uids = queue.put_many([*"abcde"])
    items = queue.get_many(3, timeout=-1)
    assert items == [(u, payload(t)) for u, t in zip(uids, "abc")]
    assert set(snapshot(client)["leases"]) == set(uids[:3])
    assert queue.get_many(10, timeout=-1) == [(u, payload(t)) for u, t in zip(uids[3:], "de")]
    assert queue.get_many(10, timeout=-1) == []
    assert queue.get_many(10, timeout=0.02) == []
    check_places(client)


@any_settings
def test_a_claim_of_many_ends_with_a_megabyte_and_the_next_goes_on(
    queue: Any, client: redis.Redis
) -> None:
    queue.put("first")
    sizes = [3, 400_000, 5, 599_992, 1, 800_000, 300_000, 2]
    queue.get(-1)  # keeps house: the next ones need not
    uids = queue.put_many("a" * size for size in sizes)
    got = [queue.claim(9, -1, 60)[0] for _ in range(3)]
    assert [[item.uid for item in batch] for batch in got] == [uids[:5], uids[5:7], uids[7:]]
    check_places(client)
    assert [item.uid for item in queue.get_many(9, -1)] == []


def test_what_may_have_killed_its_holder_is_in_no_list_with_others(
    queue: Any, client: redis.Redis
) -> None:
    """Nor is it where the list is of several claims, and it would be the first of the second."""
    uids = queue.put_many([*"a" * 260])
    client.hset("srq:test:meta", uids[250], "1 0 of:1 ")
    got = [[item.uid for item in queue.get_many(300, -1)] for _ in range(4)]
    assert got == [uids[:250], [uids[250]], uids[251:], []]


def test_batches_may_be_as_large_as_the_caller_likes(queue: Any, client: redis.Redis) -> None:
    uids = queue.put_many(map(str, range(2345)))
    items = queue.get_many(5000, timeout=-1, lease=100)
    assert [item.uid for item in items] == uids
    assert queue.fail_many(item.uid for item in items[:1100]) == 1100
    assert queue.ack_many(item.uid for item in items) == 2345 - 1100
    assert queue.ack_many([]) == queue.fail_many([]) == 0
    assert queue.stats().ready == 1100
    check_places(client)


def test_many_are_settled_in_one_call_if_they_are_leased(
    server: Server, client: redis.Redis
) -> None:
    """Others are looked for in lists: each in a call of its own, not to hold up the server."""
    with Failing(url=server.url, name="test") as queue:
        queue.put_many([*"abcdefgh"])
        assert queue.fail_many(["none"]) == queue.ack_many(["none"]) == 0  # loads the scripts
        leased = [item.uid for item in queue.get_many(4, timeout=-1)]
        others = [queue.get(-1).uid for _ in range(4)]
        for use in (queue.fail_many, queue.ack_many):
            before = queue.commands
            assert use(leased[:2]) == 2
            assert queue.commands == before + 1
            before = queue.commands
            assert use(others[:2]) == 2
            assert queue.commands == before + 2
            leased, others = leased[2:], others[2:]


def test_an_item_without_a_lease_is_taken_out_also_behind_leased_ones(
    many: Any, client: redis.Redis
) -> None:
    queue = many()
    queue.put_many(["a", "b"])
    uids = [item.uid for item in queue.get_many(1, timeout=-1)] + [queue.get(-1).uid]
    assert queue.ack_many(uids) == 2
    assert not snapshot(client).keys() & {"leases", "ackbuf", "items", "meta"}


# -- delays ----------------------------------------------------------------------------------------


def test_a_delayed_item_is_not_early(queue: Any, client: redis.Redis) -> None:
    at(queue, 0)
    uid = queue.put("a", delay=5)
    assert queue.stats().delayed == 1
    at(queue, 4.999)
    assert queue.get(-1) == (None, None)
    at(queue, 5)
    assert queue.get(-1).uid == uid
    check_places(client)


def test_while_the_server_s_clock_is_behind_leases_and_delays_last_longer(
    queue: Any, client: redis.Redis
) -> None:
    at(queue, 0)
    leased = queue.put("a")
    queue.get(-1, lease=10)
    delayed = queue.put("b", delay=20)
    at(queue, -3600)
    newer = queue.put("c")
    assert queue.get(-1, lease=10).uid == newer
    at(queue, -3580)
    assert queue.ack(queue.get(-1).uid), "its time is that of the clock as it is"
    assert queue.get(-1) == (None, None)
    check_places(client)
    at(queue, 10)
    assert queue.get(-1, lease=3600).uid == leased
    at(queue, 20)
    assert queue.get(-1).uid == delayed


def test_an_item_may_have_a_time(queue: Any) -> None:
    moment = datetime.fromtimestamp(NOW / 1000, timezone(timedelta(hours=3)))
    at(queue, -10)
    first = queue.put("a", at=moment)
    second = queue.put("b", at=NOW / 1000 + 1)
    at(queue, -0.001)
    assert queue.get(-1).uid is None
    at(queue, 0)
    assert queue.get(-1).uid == first
    at(queue, 1)
    assert queue.get(-1).uid == second


def test_a_failed_item_may_wait(queue: Any, client: redis.Redis) -> None:
    at(queue, 0)
    queue.put("a")
    uid, _ = queue.get(-1)
    assert queue.fail(uid, delay=5) is True
    assert snapshot(client)["delayed"] == {uid: NOW + 5000}
    at(queue, 5)
    assert queue.get(-1).attempts == 2


@any_settings
def test_the_delay_after_a_failure_may_depend_on_the_attempts(
    many: Any, client: redis.Redis
) -> None:
    queue = many(retry_delay=lambda attempt: attempt * 10)
    at(queue, 0)
    queue.put("a")
    uid, _ = queue.get(-1)
    queue.fail(uid)
    assert snapshot(client)["delayed"] == {uid: NOW + 10_000}
    at(queue, 10)
    uid, _ = queue.get(-1)
    queue.fail(str(uid))
    assert snapshot(client)["delayed"] == {uid: NOW + 30_000}


def test_exponential_backoff_grows_to_its_limit() -> None:
    exact = exponential_backoff(first=2, factor=3, most=100, jitter=0)
    assert [exact(n) for n in (1, 2, 3, 4, 5, 10_000)] == [2, 6, 18, 54, 100, 100]
    jittered = exponential_backoff(first=2, factor=3, most=100, jitter=0.5)
    delays = [jittered(3) for _ in range(100)]
    assert all(9 <= delay <= 18 for delay in delays)
    assert len(set(delays)) > 50


def test_a_due_item_is_a_slice_late_at_most_when_who_watched_died(
    many: Any, client: redis.Redis
) -> None:
    queue = many(wait_slice=0.5)
    uid = queue.put("a", delay=0.3)
    due = f"{client.zscore('srq:test:delayed', uid):.0f}"
    client.set("srq:test:watch", due, px=300)
    with within(0.8):
        assert queue.get(30).uid == uid


def test_a_due_item_wakes_a_waiting_consumer(face: Face, server: Server, client: Any) -> None:
    waiting = face.queue(url=server.url, name="test", wait_slice=30)
    uid = waiting.put("a", delay=0.2)
    assert get_woken(waiting, 0.2).uid == uid


def test_a_get_in_its_last_slice_waits_for_what_is_put_to_be_due_soon(
    face: Face, server: Server, client: Any
) -> None:
    """It is woken to watch for it, and does not ring on to itself again and again."""
    terms = {"url": server.url, "name": "test", "wait_slice": 30}
    waiting = face.queue(kind=FAILING[type(face)], **terms)
    with SafeRedisQueue(**terms) as other:
        threading.Timer(0.2, lambda: other.put("a", delay=0.5)).start()
        assert waiting.get(20).uid is not None
    assert waiting.commands < 50


# -- priorities ------------------------------------------------------------------------------------


def test_higher_priorities_come_first_and_equal_ones_in_order(
    queue: Any, client: redis.Redis, payload: Any
) -> None:
    at(queue, 0)
    for text, priority in [("a", 0), ("b", 5), ("c", -5), ("d", 5), ("e", 1000), ("f", 0)]:
        queue.put(text, priority=priority)
    queue.put_many([*"gh"], priority=5)
    queue.put("i", priority=-1000)
    check_places(client)
    got = [queue.get(-1).payload for _ in range(9)]
    assert got == [payload(t) for t in "ebdghafci"]
    assert queue.get(-1).uid is None


def test_equal_priorities_are_in_order_for_any_uid(queue: Any) -> None:
    at(queue, 0)
    uids = [f"{n * 7919 % 100:03}" for n in range(100)]
    for uid in uids:
        queue.put("a", uid=uid, priority=3)
    assert [queue.get(-1).uid for _ in uids] == uids


@pytest.mark.parametrize("way", ["fail", "delay", "lease", "autoclean", "revive"])
def test_an_item_that_comes_back_keeps_its_priority(
    queue: Any, client: redis.Redis, way: str
) -> None:
    at(queue, 0)
    first = queue.put("a", priority=2)
    item = queue.get(-1, lease=1 if way == "lease" else None)
    at(queue, 0.001)  # a score tells the ms of its put
    queue.put("b")
    queue.put("c", priority=2)
    if way in ("fail", "delay"):
        queue.fail(item.uid, delay=1 if way == "delay" else 0)
    elif way == "revive":
        queue.bury(item.uid)
        queue.revive(item.uid)
    elif way == "autoclean":
        lapse(client)
        assert queue.get(-1).payload in ("c", b"c")
        lapse(client)
    at(queue, 1.001)
    check_places(client)
    assert queue.get(-1).uid == first


def test_a_waiting_consumer_wakes_for_a_priority(
    face: Face, server: Server, client: redis.Redis
) -> None:
    with SafeRedisQueue(url=server.url, name="test") as other:
        threading.Timer(0.2, lambda: other.put("a", priority=-3)).start()
        waiting = face.queue(url=server.url, name="test", wait_slice=30)
        assert get_woken(waiting, 0.2).uid is not None
    assert "queue" not in snapshot(client)


@pytest.mark.parametrize("priority", [1, -1])
def test_there_is_at_most_one_bell_and_it_goes(
    queue: Any, client: redis.Redis, priority: int
) -> None:
    uids = [queue.put("a", priority=priority) for _ in range(3)]
    assert snapshot(client)["queue"] == [""]
    for uid in uids[:2]:
        assert queue.get(-1).uid == uid
        assert snapshot(client)["queue"] == [""]
    assert queue.get(-1).uid == uids[2]
    assert queue.get(-1).uid is None
    assert "queue" not in snapshot(client)


class Level(int, Enum):
    HIGH = 5
    TWO = 2


def test_a_number_may_be_a_member_of_an_enum(queue: Any, payload: Any) -> None:
    queue.put("a")
    queue.put("b", priority=Level.HIGH)
    queue.put("c", priority=5)
    items = queue.get_many(Level.TWO, timeout=-1)
    assert [item.payload for item in items] == [payload("b"), payload("c")]


# -- dead letters ----------------------------------------------------------------------------------


@any_settings
def test_after_max_attempts_failures_an_item_is_dead(many: Any, client: redis.Redis) -> None:
    queue = many(max_attempts=2)
    at(queue, 0)
    uid = queue.put("a")
    queue.fail(queue.get(-1).uid, reason="once")
    assert queue.fail(queue.get(-1).uid, reason="twice") is True
    assert queue.get(-1).uid is None
    assert queue.dead() == [(uid, b"a", "twice", 2, NOW / 1000)]
    check_places(client)


def test_crashes_count_as_attempts(many: Any, client: redis.Redis) -> None:
    queue = many(max_attempts=2)
    queue.put("a")
    for n in (0, 1):
        at(queue, n * 10)
        assert queue.get(-1, lease=1).attempts == n + 1
    at(queue, 20)
    assert queue.get(-1, lease=1).uid is None
    (dead,) = queue.dead()
    assert (dead.attempts, dead.reason) == (2, "delivered 2 times")
    check_places(client)


@any_settings
def test_dead_items_are_kept_until_revived_or_purged(queue: Any, client: redis.Redis) -> None:
    uids = []
    for n in range(250):
        at(queue, n)
        queue.put(f"{n}")
        uids.append(queue.get(-1).uid)
        assert queue.bury(uids[-1], f"reason {n}") is True
    assert [each.uid for each in queue.dead(1000)] == uids
    assert [each.payload for each in queue.dead(3, offset=120)] == [b"120", b"121", b"122"]
    assert queue.stats().dead == 250
    assert queue.get(-1).uid is None
    assert queue.revive(uids[7], uids[3], "no such") == 2
    assert [queue.get(-1).uid for _ in range(2)] == [uids[7], uids[3]]
    assert queue.purge_dead() == 248
    assert queue.dead() == []
    assert queue.stats().total == 2
    check_places(client)


def test_revive_makes_all_of_them_new_again(many: Any, client: redis.Redis) -> None:
    queue = many(max_attempts=1)
    uids = queue.put_many(map(str, range(250)))
    queue.fail_many(item.uid for item in queue.get_many(250, -1))
    assert queue.stats().dead == 250
    assert queue.revive() == 250
    items = queue.get_many(250, -1)
    assert {item.uid for item in items} == set(uids)
    assert {item.attempts for item in items} == {1}
    check_places(client)


@any_settings
def test_what_cannot_be_decoded_becomes_a_dead_letter_and_the_loop_goes_on(
    many: Any, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    many().put(b"\xff not json")
    queue = many(serializer=json, max_attempts=1)
    good = queue.put([1])
    assert queue.get(-1).uid == good
    (dead,) = queue.dead()
    assert dead.payload == b"\xff not json"
    assert dead.reason.startswith("undecodable: ")
    assert dead.uid in caplog.text


# -- uids of the caller ----------------------------------------------------------------------------


def test_a_uid_is_in_the_queue_once(queue: Any, payload: Any) -> None:
    assert queue.put("a", uid="order-17") == "order-17"
    assert queue.put("b", uid="order-17") is None
    item = queue.get(-1)
    assert item == ("order-17", payload("a"))
    assert item.put_at is None
    assert queue.put("b", uid="order-17") is None
    queue.ack(item.uid)
    assert queue.put("b", uid="order-17") == "order-17"
    assert queue.get(-1).payload == payload("b")


def test_a_stale_ack_does_not_touch_a_new_item_of_the_same_uid(queue: Any) -> None:
    queue.put("a", uid="x")
    stale, _ = queue.get(-1)
    queue.remove("x")
    queue.put("b", uid="x")
    assert queue.ack(stale) is False
    fresh, _ = queue.get(-1)
    assert queue.ack(stale) is False
    assert queue.ack(fresh) is True


@any_settings
@pytest.mark.parametrize("place", ["ready", "ackbuf", "leased", "delayed", "priority", "dead"])
def test_remove_drops_an_item_wherever_it_stands(
    queue: Any, client: redis.Redis, place: str
) -> None:
    options = {"delayed": {"delay": 10}, "priority": {"priority": 4}}
    queue.put("a", uid="x", **options.get(place, {}))
    if place in ("ackbuf", "leased", "dead"):
        uid, _ = queue.get(-1, lease=10 if place == "leased" else None)
        if place == "dead":
            queue.bury(uid)
    assert queue.exists("x") is True
    assert queue.remove("x") is True
    assert queue.exists("x") is False
    assert queue.remove("x") is False
    assert queue.get(-1).uid is None
    assert snapshot(client).keys() <= {"backuplock"}


@any_settings
def test_peek_shows_what_comes_next_and_takes_nothing(queue: Any, client: redis.Redis) -> None:
    queue.put("low", priority=-1)
    queue.put_many(map(str, range(150)))
    queue.put("high", priority=1)
    before = snapshot(client)
    expected = [b"high", *(str(n).encode() for n in range(150)), b"low"]
    assert [item.payload for item in queue.peek(1000)] == expected
    assert [item.payload for item in queue.peek(120)] == expected[:120]
    assert queue.peek()[0].payload == b"high"
    assert snapshot(client) == before


@any_settings
def test_the_age_of_what_comes_next_is_told_although_a_bell_was_rung(queue: Any) -> None:
    uid = queue.put("low", priority=-1)
    queue._at = str(int(uid.replace("-", "")[:12], 16) + 5000)
    assert queue.stats().oldest == pytest.approx(5)
    queue._at = str(int(queue.put("a").replace("-", "")[:12], 16) + 7000)
    assert queue.stats().oldest == pytest.approx(7)


# -- forward ---------------------------------------------------------------------------------------


def test_forward_moves_work_on_in_one_step(many: Any, payload: Any, client: redis.Redis) -> None:
    source, target = many(), many(name="next")
    source.put("a")
    uid, _ = source.get(-1)
    new = source.forward(uid, "next", "b")
    assert target.get(-1) == (new, payload("b"))
    assert source.stats().total == 0
    check_places(client, "next")


def test_a_stale_holder_cannot_forward(many: Any, client: redis.Redis) -> None:
    source = many()
    source.put("a")
    uid, _ = source.get(-1)
    source.fail(uid)
    source.get(-1)
    assert source.forward(uid, "next", "b") is None
    assert snapshot(client, "next") == {}
    assert source.stats().total == 1


# -- consume and processing ------------------------------------------------------------------------


def test_consume_acks_an_item_when_the_next_is_asked_for(many: Any, client: redis.Redis) -> None:
    queue = many()
    uids = queue.put_many([*"abc"])
    seen = []
    with queue.consume(timeout=-1) as items:
        for item in items:
            seen.append(item.uid)
            assert queue.stats().total == 3 - (len(seen) - 1)
            assert set(snapshot(client)["leases"]) == {item.uid}
    assert seen == uids
    assert queue.stats().total == 0


@pytest.mark.parametrize("prefetch", [1, 2, 10, 10_000])
def test_leaving_consume_gives_back_what_is_out(
    many: Any, client: redis.Redis, prefetch: int
) -> None:
    queue = many()
    uids = queue.put_many(map(str, range(20)))
    with queue.consume(prefetch=prefetch) as items:
        assert [next(items).uid for _ in range(4)] == uids[:4]
    check_places(client)
    assert queue.stats()[:2] == (17, 0)
    back = queue.get_many(20, -1)
    assert [each.uid for each in back] == uids[3:]
    assert [each.attempts for each in back] == [2] + [1] * 16


def test_an_item_acked_before_a_break_does_not_come_back(many: Any) -> None:
    queue = many()
    queue.put_many([*"ab"])
    with queue.consume() as items:
        for item in items:
            item.ack()
            break
    assert queue.stats().total == 1


def test_an_exception_in_the_body_fails_the_item(many: Any, payload: Any) -> None:
    queue = many(max_attempts=1)
    queue.put_many([*"ab"])
    with pytest.raises(ZeroDivisionError), queue.consume(prefetch=2) as items:
        raise ZeroDivisionError(next(items).payload)
    (dead,) = queue.dead()
    assert dead.payload == b"a"
    assert dead.reason == f"ZeroDivisionError: {payload('a')}"
    assert queue.get(-1).payload == payload("b")


def test_who_lost_a_lease_is_told(many: Any) -> None:
    queue = many()
    queue.put("a")
    with queue.consume(renew=False) as items:
        item = next(items)
        other = many()
        other._at = str(int((item.deadline + 1) * 1000))
        thief = other.get(-1)
        with pytest.raises(LeaseLost):
            item.touch()
        assert item.lost is True
        with pytest.raises(LeaseLost):
            item.ack()
    assert thief.attempts == 2
    assert queue.ack(thief.uid) is True


def test_what_lapsed_while_it_waited_here_is_not_handed_out(many: Any, payload: Any) -> None:
    queue = many()
    queue.put_many([*"abc"])
    with queue.consume(prefetch=3, renew=False) as items:
        next(items)
        lapsed = items._in_state(_State.AHEAD)[0]
        lapsed._until = 0
        assert next(items).payload == payload("c")
        assert lapsed.lost is True
    assert queue.get(60, lease=60).payload == payload("c"), "handed back"


@pytest.mark.parametrize("lost_reply", [False, True])
def test_a_lease_is_counted_from_when_the_server_gave_it(
    face: Face, server: Server, client: redis.Redis, lost_reply: bool
) -> None:
    """Not from before an outage in which the claim did not arrive: it would be over at once."""
    queue = face.queue(kind=FAILING[type(face)], url=server.url, name="test")
    queue.get(-1)  # the server knows the script afterwards: the first command is the claim
    queue.put("a")
    lost = []

    def error() -> redis.ConnectionError:
        lost.append(time.monotonic())
        time.sleep(0.05)
        return redis.ConnectionError("the test cut the connection")

    queue.fail_at(0, lost_reply=lost_reply, error=error)
    with queue.consume(lease=60) as items:
        lasts = next(items)._until - lost[0]
    if lost_reply:
        assert lasts <= 60
    else:
        assert lasts >= 60.04


def test_without_renewal_an_ack_does_not_wait_for_the_next_fetch(many: Any) -> None:
    queue = many()
    queue.put_many([*"abc"])
    with queue.consume(prefetch=3, renew=False) as items:
        assert [(next(items), queue.stats().total)[1] for _ in range(3)] == [3, 2, 1]


def test_an_ack_that_could_not_be_sent_goes_with_the_next_fetch(
    server: Server, client: redis.Redis
) -> None:
    with Failing(url=server.url, name="test") as queue:
        queue.put_many([*"ab"])
        with queue.consume() as items:
            next(items)
            queue.fail_at(0, lost_reply=False, error=lambda: redis.ResponseError("no"))
            with pytest.raises(redis.ResponseError, match="no"):
                next(items)
            assert queue.stats().total == 2
            assert next(items).payload == b"b"
            assert queue.stats().total == 1


@any_settings
def test_each_turn_of_the_helper_renews_what_is_in_hand_and_ahead(
    many: Any, face: Face, client: redis.Redis
) -> None:
    queue = many()
    at(queue, 0)
    uids = queue.put_many([*"abcd"])
    with queue.consume(prefetch=4, lease=3000) as items:
        next(items), next(items)
        at(queue, 1000)
        turn = items._keep()
        if turn is not None:  # of the blocking face, which has no method for it
            _run(turn)
        keys = snapshot(client)
        assert keys["items"].keys() == set(uids[1:]), "what is done is acked"
        assert keys["leases"] == dict.fromkeys(uids[1:], NOW + 4_000_000)


def test_processing_takes_no_item_but_its_own(many: Any) -> None:
    queue = many()
    queue.put_many([*"abc"])
    with queue.processing():
        assert queue.stats()[:2] == (2, 1)


@pytest.mark.parametrize("name", ["count", "offset"])
def test_dead_letters_are_counted_from_the_first(many: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 0, not -1"):
        many().dead(**{name: -1})


@pytest.mark.parametrize("method", ["consume", "processing", "get_many", "touch"])
def test_an_impossible_lease_is_refused_before_anything_is_taken(many: Any, method: str) -> None:
    queue = many()
    uid = queue.put("a")
    first = {"get_many": (1,), "touch": (uid,)}.get(method, ())
    with pytest.raises(ValueError, match=r"lease must be at least 0\.001"):
        getattr(queue, method)(*first, lease=0)
    assert queue.stats().ready == 1


def test_processing_acks_one_item_or_fails_it(many: Any, payload: Any) -> None:
    queue = many(max_attempts=2)
    with queue.processing(timeout=-1) as item:
        assert item is None
    queue.put("a")
    with queue.processing() as item:
        assert item.payload == payload("a")
    assert queue.stats().total == 0
    queue.put("b")
    with pytest.raises(ZeroDivisionError), queue.processing() as item:
        item.payload = 1 / 0
    assert queue.get(-1).attempts == 2


# -- pause, join, limits ---------------------------------------------------------------------------


@any_settings
def test_while_paused_nobody_gets_and_everything_else_goes_on(
    queue: Any, client: redis.Redis
) -> None:
    queue.put_many([*"ab"])
    uid, _ = queue.get(-1)
    queue.pause()
    assert queue.stats().paused is True
    queue.put("c")
    assert queue.get(-1).uid is None
    assert queue.get(0.05).uid is None
    assert queue.ack(uid) is True
    queue.resume()
    assert queue.get(-1).uid is not None
    check_places(client)


def test_a_pause_lasts_when_who_asked_for_it_is_gone(many: Any) -> None:
    queue, pausing = many(), many()
    uid = queue.put("a")
    pausing.pause()
    pausing.close()
    assert queue.get(0.05).uid is None
    assert many().stats().paused is True
    many().resume()
    assert queue.get(-1).uid == uid


def test_a_waiting_consumer_sees_a_resume(face: Face, server: Server, client: Any) -> None:
    waiting = face.queue(url=server.url, name="test", wait_slice=30)
    waiting.put("a")
    waiting.pause()
    with SafeRedisQueue(url=server.url, name="test") as other:
        threading.Timer(0.2, other.resume).start()
        assert get_woken(waiting, 0.2).uid is not None


@any_settings
def test_join_waits_until_nothing_is_ready_or_in_flight(
    many: Any, server: Server, client: redis.Redis
) -> None:
    queue = many()
    assert queue.join(-1) is True
    queue.put("a")
    queue.put("b", delay=100)
    assert queue.join(-1) is False
    uid, _ = queue.get(-1)
    assert queue.join(0.05) is False
    with SafeRedisQueue(url=server.url, name="test") as other:
        threading.Timer(0.2, other.ack, (uid,)).start()
        assert queue.join(60) is True
    assert queue.join(-1, delayed=True) is False


def test_a_full_queue_refuses_puts_and_takes_back_what_fails(
    many: Any, client: redis.Redis
) -> None:
    queue = many(maxsize=2)
    queue.put_many([*"ab"])
    before = snapshot(client)
    for full in (QueueFull, standard.Full):
        with pytest.raises(full, match="maxsize of 2"):
            queue.put("c")
    assert snapshot(client) == before
    uid, _ = queue.get(-1)
    with pytest.raises(QueueFull):
        queue.put("c")
    assert queue.fail(uid) is True
    queue.ack(queue.get(-1).uid)
    assert queue.put("c")
    with pytest.raises(QueueFull):
        queue.put_many([*"de"], priority=3)


def test_a_payload_may_be_too_large(many: Any, client: redis.Redis) -> None:
    queue = many(max_payload=3)
    queue.put("abc")
    with pytest.raises(PayloadTooLarge, match="4 bytes; max_payload is 3"):
        queue.put("abcd")
    assert queue.stats().total == 1


def test_a_payload_may_have_4_mib_where_nothing_else_is_said(many: Any) -> None:
    queue = many()
    largest = bytes(4 * 1024 * 1024)
    queue.put(largest)
    for put in (queue.put, lambda item: queue.put_many([b"a", item])):
        with pytest.raises(PayloadTooLarge, match="max_payload is 4194304"):
            put(largest + b"x")
    assert queue.stats().total == 1


def test_a_queue_that_only_puts_gets_and_acks_uses_few_keys(
    queue: Any, client: redis.Redis
) -> None:
    queue.put("a")
    queue.put("b")
    uid, _ = queue.get(-1)
    assert snapshot(client).keys() == {"items", "queue", "ackbuf", "backuplock", "meta"}
    queue.ack(uid)
    queue.ack(queue.get(-1).uid)
    queue.get(-1)
    assert snapshot(client).keys() == {"backuplock"}
    assert all(client.ttl(key) > 0 for key in client.keys("*"))


# -- the helper that renews ------------------------------------------------------------------------


def renewed(face: Face, client: redis.Redis, uid: str) -> None:
    """The body works until the lease of an item was renewed."""
    before = snapshot(client)["leases"][str(uid)]
    eventually(lambda: (face.work(0.02), snapshot(client)["leases"][str(uid)] > before)[1])


def test_a_helper_renews_the_lease_while_the_body_works(
    many: Any, face: Face, client: redis.Redis
) -> None:
    queue = many()
    queue.put("a")
    with queue.consume(lease=0.6) as items:
        renewed(face, client, next(items).uid)


def test_leases_are_renewed_although_acks_are_refused(
    face: Face, server: Server, client: redis.Redis
) -> None:
    def may(*keys: str) -> None:
        all_of_them = (f"~srq:test:{key}" for key in (*keys, "call:*", "said:*", "last:*"))
        client.acl_setuser("limited", enabled=True, nopass=True, reset_keys=True)
        client.execute_command("ACL", "SETUSER", "limited", "+@all", *all_of_them)

    may("*")
    try:
        queue = face.queue(url=f"unix://limited:any@{server.socket}", name="test")
        uids = queue.put_many([*"abc"])
        with queue.consume(prefetch=3, lease=0.6) as items:
            next(items), next(items)  # the first is done
            may("items", "ackbuf", "backup", "meta", "leases")  # enough to renew, not to ack
            for uid in uids[1:]:
                renewed(face, client, uid)
            assert uids[0] in snapshot(client)["items"]
            may("*")
        assert queue.stats()[:5] == (2, 0, 0, 0, 2)
    finally:
        client.acl_deluser("limited")


class Credentials(redis.CredentialProvider):
    """Those of a user that everybody may be, unless they cannot be had."""

    error: Exception | None = None
    asked = 0

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return "default", "any"


@pytest.mark.parametrize("error", [RuntimeError("no token"), redis.AuthenticationError("expired")])
def test_leases_are_renewed_when_credentials_can_be_had_again(
    face: Face, server: Server, client: redis.Redis, error: Exception
) -> None:
    provider = Credentials()
    queue = face.queue(url=server.url, name="test", credential_provider=provider)
    queue.put("a")
    with queue.consume(lease=0.6) as items:
        item = next(items)
        provider.error, asked = error, provider.asked
        client.client_kill_filter(_type="normal", skipme=True)
        eventually(lambda: (face.work(0.02), provider.asked > asked)[1])
        provider.error = None
        renewed(face, client, item.uid)
        assert item.lost is False
        item.ack()


# -- a poison item, and a uid that is used again ---------------------------------------------------


def let_leases_lapse(client: redis.Redis) -> None:
    leased = client.zrange("srq:test:leases", 0, -1)
    if leased:
        client.zadd("srq:test:leases", dict.fromkeys(leased, 0))


@pytest.mark.parametrize("prefetch", [1, 3, 10])
def test_an_item_that_kills_each_who_works_on_it_takes_none_of_its_batch_along(
    many: Any, client: redis.Redis, prefetch: int
) -> None:
    uids = many().put_many(str(n) for n in range(15))
    poison, done = uids[4], []
    for _ in range(10):
        queue = many(max_attempts=3)  # of a new process: the one before was killed
        for item in queue.consume(prefetch=prefetch, lease=60, renew=False, timeout=-1):
            if item.uid == poison:
                break  # without a word
            done.append(item.uid)
        let_leases_lapse(client)
    assert [each.uid for each in queue.dead()] == [poison]
    assert set(done) == {*uids} - {poison}
    assert queue.stats().total == 1


def test_a_uid_that_is_used_again_stands_where_it_was_put_last(
    queue: Any, client: redis.Redis, payload: Any
) -> None:
    queue.put("A", uid="a")
    queue.put("B", uid="b")
    assert queue.remove("a") is True
    queue.put("A2", uid="a")
    assert [item.uid for item in queue.peek(9)] == ["b", "a"]
    items = [queue.get(-1) for _ in range(3)]
    assert items == [("b", payload("B")), ("a", payload("A2")), (None, None)]
    assert queue.fail(items[1].uid) is True
    check_places(client)
    assert queue.get(-1).attempts == 2
    assert queue.get(-1).uid is None


def test_a_uid_that_is_used_again_deep_in_the_queue_is_delivered_once_and_last(
    queue: Any, client: redis.Redis
) -> None:
    """It is too deep to be taken out of the list when it is removed."""
    before = queue.put_many(str(n) for n in range(1200))
    queue.put("A", uid="a")
    after = queue.put_many(str(n) for n in range(1200))
    assert queue.remove("a") is True
    assert queue.put("A2", uid="a") == "a"
    assert queue.stats().ready == 2401
    assert [item.uid for item in queue.peek(3000)] == [*before, *after, "a"]
    items = []
    while more := queue.get_many(250, -1):
        items += more
    assert [item.uid for item in items] == [*before, *after, "a"]
    assert {item.attempts for item in items} == {1}
    assert queue.ack_many(item.uid for item in items) == 2401
    assert queue.get(-1).uid is None
    assert snapshot(client).keys() <= {"backuplock"}


@pytest.mark.parametrize("terms", [{"delay": 60}, {"priority": -1}, {"held": True}])
def test_a_uid_that_is_used_again_deep_in_the_queue_is_only_where_it_was_put_last(
    queue: Any, client: redis.Redis, terms: dict[str, Any]
) -> None:
    before = queue.put_many(str(n) for n in range(1100))
    queue.put("A", uid="a")
    after = queue.put_many(str(n) for n in range(1100))
    assert queue.remove("a") is True
    assert queue.put("A2", uid="a", **terms) == "a"
    last = ["a"] if "priority" in terms else []
    assert queue.stats().ready == 2200 + len(last)
    assert [item.uid for item in queue.peek(3000)] == [*before, *after, *last]
    taken = [item.uid for n in range(10) for item in queue.get_many(250, -1)]
    assert taken == [*before, *after, *last]
    assert queue.exists("a") is True
    check_places(client)


def test_what_is_put_and_removed_again_and_again_leaves_nothing(
    queue: Any, client: redis.Redis
) -> None:
    kept = queue.put("kept")
    for n in range(300):
        queue.put(f"{n}", uid="a")
        assert queue.remove("a") is True
    assert snapshot(client) == {"items": {kept: "kept"}, "queue": [kept]}


def test_a_late_ack_leaves_nothing_of_what_had_come_back(
    queue: Any, client: redis.Redis, payload: Any
) -> None:
    at(queue, 0)
    queue.put("A", uid="a")
    late = queue.get(-1, lease=1)
    queue.put("B", uid="b")
    at(queue, 2)
    assert queue.get(-1, lease=60).uid == "b"
    assert queue.stats().ready == 1, "it has come back"
    assert queue.ack(late.uid) is True
    assert "queue" not in snapshot(client)
    queue.put("A2", uid="a")
    assert queue.get(-1) == ("a", payload("A2"))
    assert queue.get(-1).uid is None
    check_places(client)
