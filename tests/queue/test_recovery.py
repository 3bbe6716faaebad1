"""What comes back when its holder went away, and what 3.0.0 got wrong or leaves behind."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

import saferedisqueue
from helpers import (
    Make,
    Release3,
    call,
    check_places,
    command_of,
    drain,
    eventually,
    lapse,
    seed,
    snapshot,
    within,
)
from saferedisqueue import CLAIM, PUT, UNDO, SafeRedisQueue


@pytest.fixture
def queue(make: Make) -> Any:
    return make()


@pytest.fixture
def old(client: redis.Redis) -> Release3:
    return Release3(client)


def claim(queue: Any, how: str = "g", slot: Any = None) -> Any:
    """What a claim of one item is answered, for which nobody waits any more; how: as in CLAIM."""
    return call(queue, CLAIM, "1 0 dead:1 ", how, " 1000 60000 ", 1, "", slot=slot)


def wait_for_blocked(client: redis.Redis, consumers: int = 1) -> None:
    eventually(lambda: client.info("clients")["blocked_clients"] == consumers)


# -- orphans ---------------------------------------------------------------------------------------


def test_orphans_come_back_while_every_consumer_is_blocked_in_get(make: Make) -> None:
    orphans = make(autoclean_interval=0.1)
    uid = orphans.put("a")
    orphans.get()
    with ThreadPoolExecutor() as pool:
        consumers = [make(autoclean_interval=0.1, wait_slice=0.05) for _ in range(3)]
        waiting = [pool.submit(consumer.get, 30) for consumer in consumers]
        assert any(eventually(lambda: [each.result() for each in waiting if each.done()]))
        for _ in range(2):
            orphans.put("b")
        assert uid in [each.result().uid for each in waiting]


def test_an_orphan_comes_back_after_one_to_two_intervals(make: Make, client: redis.Redis) -> None:
    queue = make(autoclean_interval=0.3, wait_slice=0.05)
    queue.put("a")
    got = queue.get(-1)
    taken = client.time()
    again = queue.get(60)
    back = client.time()
    assert (again, again.attempts) == (got, 2)
    assert (back[0] - taken[0]) + (back[1] - taken[1]) / 1e6 > 0.29


def test_orphans_stay_out_when_autoclean_is_off(make: Make, client: redis.Redis) -> None:
    queue = make(autoclean_interval=None)
    uid = queue.put("a")
    queue.get()
    assert queue.get(0.3) == (None, None)
    assert snapshot(client)["ackbuf"] == [uid]
    assert "backuplock" not in snapshot(client)


def test_a_wait_without_autoclean_finds_what_is_put(make: Make) -> None:
    queue, producer = make(autoclean_interval=None), make()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.get, 60)
        uid = producer.put("a")
        assert waiting.result() == (uid, b"a")


def test_a_wait_in_a_pause_moves_nothing(make: Make, client: redis.Redis) -> None:
    queue = make()
    queue.put("a")
    queue.pause()
    client.config_resetstat()
    assert queue.get(0.5) == (None, None)
    assert "cmdstat_blmove" not in client.info("commandstats")


class Waiting(SafeRedisQueue[Any]):
    """Notes how long its waits are, in seconds; before the first, another puts what it is told."""

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)
        self.waits: list[float] = []
        self.put_first: Any = None

    def _exchange(self, call: Any, slot: Any) -> Any:
        if command_of(call) == "BLMOVE":
            self.waits.append(call.wait)
            if self.put_first is not None:
                with SafeRedisQueue(client=self._redis, name=self.name) as other:
                    other.put(self.put_first)
                self.put_first = None
        return super()._exchange(call, slot)


@pytest.mark.parametrize(("wait_slice", "longest"), [(0.05, 0.05), (3, 0.5)])
def test_a_wait_is_a_slice_and_ends_when_something_is_due(
    make: Make, wait_slice: float, longest: float
) -> None:
    queue: Any = make(Waiting, wait_slice=wait_slice)
    uid = queue.put("a", delay=0.5)
    assert queue.get(60).uid == uid
    assert all(wait <= longest for wait in queue.waits)


def test_a_very_short_wait_is_not_left_to_the_server(make: Make) -> None:
    """Redis 6.2 takes it for a wait without end."""
    queue: Any = make(Waiting)
    assert queue.get(0.005) == (None, None)
    assert queue.waits == []


def test_what_wakes_a_wait_is_claimed_next(make: Make) -> None:
    queue: Any = make(Waiting)
    queue.put_first = "a"
    assert queue.get(3).payload == b"a"
    assert len(queue.waits) == 1


def test_a_thousand_orphans_come_back_each_once(queue: Any, client: redis.Redis) -> None:
    uids = queue.put_many(str(n) for n in range(1000))
    for _ in uids:
        queue.get(-1)
    lapse(client)
    assert queue.get(-1) == (None, None)
    lapse(client)
    assert drain(queue, client) == uids


def test_a_cleaner_that_dies_half_way_is_followed_by_the_next(
    queue: Any, client: redis.Redis
) -> None:
    uids = [f"{n:03}" for n in range(150)]
    seed(client, items=dict.fromkeys(uids, "x"), backup=uids[::-1])
    # Killed after its call: nothing but the keys is left of it.
    assert claim(queue)[3] == b"000"
    check_places(client)
    assert sorted(drain(queue, client)) == uids


def test_a_renamed_ackbuf_never_replaces_a_backup(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abc", "x"), backup=["a"], ackbuf=["b"], queue=["c"])
    for _ in range(3):
        lapse(client)
        queue.get(-1)
        check_places(client)


def test_a_queue_found_empty_leaves_no_key_without_expiry(queue: Any, client: redis.Redis) -> None:
    queue.put_many([*"abc"])
    queue.fail(queue.get().uid)
    drain(queue, client)
    queue.get(-1)
    assert [key for key in client.scan_iter() if client.ttl(key) == -1] == []


def test_a_queue_drained_by_two_generations_of_orphans_leaves_nothing(
    queue: Any, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saferedisqueue, "_KEEP_HOUSE", 0)  # each get does
    queue.put_many([*"abc"])
    first, second = queue.get().uid, queue.get().uid
    lapse(client)
    third = queue.get(-1).uid
    assert snapshot(client)["backup"] == [second, first]
    assert [queue.ack(uid) for uid in (third, second, first)] == [True] * 3
    assert queue.get(-1) == (None, None)
    assert snapshot(client).keys() == {"backuplock"}


# -- a consumer that waits, and is stopped ---------------------------------------------------------


def hand(client: redis.Redis, waits: int = 1) -> None:
    """Waits are served, whose claims have not come yet."""
    for _ in range(waits):
        client.blmove("srq:test:queue", "srq:test:handed", 1, "RIGHT", "LEFT")


@pytest.mark.parametrize("interval", [60, None])
def test_what_a_wait_was_handed_is_ready_at_once_in_its_place_and_uncounted(
    make: Make, client: redis.Redis, interval: float | None
) -> None:
    queue = make(autoclean_interval=interval)
    uids = queue.put_many([*"abcd"])
    hand(client, waits=2)
    check_places(client)
    assert queue.stats().ready == 4
    assert [item.uid for item in queue.peek(9)] == uids
    items = [queue.get(-1) for _ in uids]
    assert [(item.uid, item.attempts) for item in items] == [(uid, 1) for uid in uids]
    check_places(client)
    assert queue.ack_many(item.uid for item in items) == 4


@pytest.mark.parametrize("how", ["b", "bw", "bg"])
def test_a_claim_behind_a_wait_takes_what_is_next_whoever_was_handed_what(
    queue: Any, client: redis.Redis, how: str
) -> None:
    uids = queue.put_many([*"abc"])
    hand(client, waits=2)
    assert queue.get(-1).uid == uids[0]
    assert claim(queue, how)[3] == uids[1].encode()
    assert claim(queue, how)[3] == uids[2].encode()
    assert len(claim(queue, how)) == 3
    assert "handed" not in snapshot(client)
    check_places(client)


def test_what_somebody_who_died_was_handed_wakes_those_who_wait_within_a_slice(
    make: Make, client: redis.Redis
) -> None:
    queue = make(wait_slice=0.1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.get, 60)
        wait_for_blocked(client)
        seed(client, items={"a": "A"}, handed=["a"])
        item = waiting.result()
    assert (item.uid, item.attempts) == ("a", 1)


def test_a_claim_that_is_refused_hands_what_its_wait_was_handed_to_another(
    make: Make, client: redis.Redis
) -> None:
    queue, other = make(), make(wait_slice=30)
    slot = queue._take_slot().count(CLAIM).count(CLAIM)
    call(queue, UNDO, "dead:1", "", 1000, slot=slot)  # it was given up before it came
    slot.claims -= 1
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(other.get, 20)
        wait_for_blocked(client)
        seed(client, items={"a": "A"}, handed=["a"])
        with within(0), pytest.raises(redis.ResponseError, match="SUPERSEDED"):
            claim(queue, "bw", slot=slot)
        with within(0):
            assert waiting.result().uid == "a"


def test_a_claim_that_is_refused_in_a_pause_leaves_what_its_wait_was_handed_until_its_end(
    make: Make, client: redis.Redis
) -> None:
    queue = make()
    uids = queue.put_many([*"abc"])
    slot = queue._take_slot().count(CLAIM).count(CLAIM)
    call(queue, UNDO, "dead:1", "", 1000, slot=slot)
    slot.claims -= 1
    queue.pause()
    hand(client, waits=2)
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        claim(queue, "bw", slot=slot)
    assert snapshot(client)["handed"] == [uids[1], uids[0]]
    assert [item.uid for item in queue.peek(9)] == uids
    queue.resume()
    assert snapshot(client)["queue"] == uids[::-1]
    assert [queue.get(-1).uid for _ in uids] == uids


def test_what_is_handed_back_goes_before_what_waits_were_handed(
    queue: Any, client: redis.Redis
) -> None:
    uids = queue.put_many([*"abc"])
    item = queue.get(-1)
    hand(client)
    queue.hand_back([item.uid])
    check_places(client)
    assert [queue.get(-1).uid for _ in uids] == uids


def test_a_waiter_gets_an_orphan_that_somebody_else_brought_back(
    make: Make, client: redis.Redis
) -> None:
    dead, queue = make(), make(wait_slice=30)
    dead._at = 1000  # long ago
    uid = dead.put("a")
    dead.get()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.get, 20)
        wait_for_blocked(client)
        client.lmove("srq:test:ackbuf", "srq:test:queue", "RIGHT", "LEFT")
        item = waiting.result()
    assert (item.uid, item.attempts) == (uid, 2)


# -- numbered calls --------------------------------------------------------------------------------


def test_a_put_sent_again_after_its_item_was_acked_stores_nothing(
    queue: Any, client: redis.Redis
) -> None:
    slot = queue._take_slot().count(PUT)
    assert call(queue, PUT, "", "", "0", "", "", 1000, "a", "A", slot=slot) == 1
    assert queue.ack(queue.get(-1).uid) is True
    assert call(queue, PUT, "", "", "0", "", "", 1000, "a", "A", slot=slot) == 1
    assert queue.get(-1) == (None, None)
    assert "items" not in snapshot(client)
    assert "queue" not in snapshot(client)


def test_a_claim_sent_again_gets_the_same_item(queue: Any, client: redis.Redis) -> None:
    queue.put_many([*"ab"])
    slot = queue._take_slot().count(CLAIM)
    answers = [claim(queue, how, slot) for how in ("", "a", "ag")]
    assert len({tuple(answer[3:]) for answer in answers}) == 1
    assert answers[-1][-1] == 1, "counted once"
    assert len(snapshot(client)["ackbuf"]) == 1


# -- what 3.0.0 got wrong --------------------------------------------------------------------------


def test_a_lock_without_expiry_runs_out_and_the_orphans_come_back(
    queue: Any, old: Release3, client: redis.Redis
) -> None:
    for uid in "ab":
        old.put(uid, uid)
        old.get()
    lapse(client)
    old.autoclean()
    lapse(client)
    old.autoclean(dies=True)
    assert client.ttl("srq:test:backuplock") == -1
    queue.get(-1)
    assert client.ttl("srq:test:backuplock") > 60
    client.pexpire("srq:test:backuplock", 1)
    eventually(lambda: not client.exists("srq:test:backuplock"))
    assert sorted(drain(queue, client)) == ["a", "b"]


def test_a_slow_3_0_0_that_holds_the_lock_is_not_disturbed(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abc", "x"), backup=["a", "b"], ackbuf=["c"], backuplock="1")
    client.lmove("srq:test:backup", "srq:test:queue", "RIGHT", "LEFT")
    assert queue.get(-1).uid == "b"
    assert snapshot(client)["backup"] == ["a"], "moved while 3.0.0 moves too"
    check_places(client)


def test_what_died_after_3_0_0_requeued_it_is_acked_from_the_dead_letters(
    make: Make, client: redis.Redis
) -> None:
    """Its holder lives, and says so late; 3.0.0 does not note that an item has come back."""
    queue, old = make(max_attempts=1), Release3(client)
    queue.put("a")
    uid = queue.get(-1).uid
    for _ in range(2):
        lapse(client)
        old.autoclean()
    assert queue.get(-1).uid is None
    assert [each.uid for each in queue.dead()] == [uid]
    assert queue.ack(uid)
    queue.put("b")
    assert (queue.dead(), queue.qsize()) == ([], 1)


@pytest.mark.parametrize("token", [True, False], ids=["fenced", "plain"])
def test_a_fail_that_comes_too_late_adds_neither_ghost_nor_copy(
    queue: Any, client: redis.Redis, token: bool
) -> None:
    queue.put("a")
    uid = queue.get().uid
    uid = uid if token else str(uid)
    assert queue.fail(uid) is True
    before = snapshot(client)
    assert queue.fail(uid) is False
    assert queue.fail("unknown") is False
    assert snapshot(client) == before
    assert queue.ack(queue.get(-1).uid) is True
    assert queue.fail(uid) is False
    assert queue.get(-1) == (None, None)


def test_a_fail_after_the_item_went_to_somebody_else_takes_nothing_from_them(
    queue: Any, client: redis.Redis
) -> None:
    queue.put("a")
    stale = queue.get().uid
    for _ in range(2):
        lapse(client)
        item = queue.get(-1)
    assert queue.fail(stale) is False
    assert queue.ack(stale) is False
    assert snapshot(client)["ackbuf"] == [stale]
    assert queue.ack(item.uid) is True


def test_a_second_copy_made_by_3_0_0_is_not_delivered_beside_the_first(
    queue: Any, old: Release3, client: redis.Redis
) -> None:
    queue.put("a")
    uid = queue.get().uid
    queue.fail(uid)
    old.fail(uid)
    assert snapshot(client)["queue"] == [uid, uid]
    item = queue.get(-1)
    assert queue.get(-1) == (None, None)
    check_places(client)
    assert queue.ack(item.uid) is True
    assert queue.get(-1) == (None, None)


def test_a_second_copy_of_a_new_item_is_not_delivered_beside_the_first(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": "A"}, queue=["a", "a"])
    assert queue.get(-1).uid == "a"
    assert queue.get(-1) == (None, None)
    check_places(client)


def test_3_0_0_failing_what_it_lost_does_not_undo_the_new_delivery(
    queue: Any, old: Release3, client: redis.Redis
) -> None:
    uid = queue.put("a")
    old.get()
    client.lmove("srq:test:ackbuf", "srq:test:queue", "RIGHT", "LEFT")
    item = queue.get(-1)
    old.fail(uid)
    assert queue.ack(item.uid) is True
    assert queue.get(-1) == (None, None)
    assert snapshot(client).keys() <= {"backuplock"}


def test_what_3_0_0_s_ack_leaves_is_dropped_when_the_queue_is_empty(
    queue: Any, old: Release3, client: redis.Redis
) -> None:
    queue.put("a")
    old.ack(queue.get().uid)
    assert snapshot(client)["meta"]
    assert queue.get(-1) == (None, None)
    assert snapshot(client).keys() == {"backuplock"}


def test_an_item_of_a_uid_that_3_0_0_acked_is_a_new_one(queue: Any, old: Release3) -> None:
    queue.put("a", uid="x")
    queue.put("b")
    old.ack(queue.get().uid)
    queue.put("c", uid="x")
    queue.get(-1)
    assert queue.get(-1).attempts == 1


def test_a_uid_without_an_item_is_never_handed_out(
    queue: Any, old: Release3, client: redis.Redis
) -> None:
    old.fail("ghost")
    queue.put("a")
    assert queue.get(-1).payload == b"a"
    old.fail("ghost")
    assert queue.get(0.05) == (None, None)
    assert "queue" not in snapshot(client)


@pytest.mark.parametrize("foreign", ["", " ", "\n", "%s", "a" * 9999, b"\xff\x00", "{}", "-1"])
def test_foreign_strings_in_the_lists_end_no_loop(
    queue: Any, client: redis.Redis, foreign: Any
) -> None:
    seed(client, queue=[foreign], ackbuf=[foreign], backup=[foreign])
    uid = queue.put("a")
    assert drain(queue, client) == [uid]
    assert snapshot(client).keys() <= {"backuplock"}


def test_a_foreign_item_of_the_empty_uid_is_not_handed_out(queue: Any, client: redis.Redis) -> None:
    """It could be neither acked nor failed, and its uid is the bell."""
    seed(client, items={"": "E"}, queue=[""])
    uid = queue.put("a")
    assert drain(queue, client) == [uid]


def test_a_foreign_string_wakes_a_waiting_get_and_it_waits_on(
    make: Make, client: redis.Redis
) -> None:
    queue = make()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.get, 60)
        for foreign in ("", b"\xff", "ghost"):
            wait_for_blocked(client)
            client.lpush("srq:test:queue", foreign)
            eventually(lambda: not client.exists("srq:test:queue"))
        uid = queue.put("a")
        assert waiting.result() == (uid, b"a")


def test_a_uid_of_another_kind_can_be_acked_and_failed(queue: Any, client: redis.Redis) -> None:
    uids = [b"\xff\x00", "ä\n".encode(), b"1" * 5000]
    for uid in uids:
        client.hset("srq:test:items", uid, b"x")
        client.lpush("srq:test:queue", uid)
    for _ in uids:
        assert queue.fail(queue.get(-1).uid)
    got = drain(queue, client)
    assert [uid.encode("utf-8", "surrogateescape") for uid in got] == uids


# -- data of 3.0.0, and a fleet of both ------------------------------------------------------------


def test_a_data_set_left_by_3_0_0_is_consumed_completely_and_each_item_once(
    queue: Any, client: redis.Redis
) -> None:
    uids = [f"uid {n}" for n in range(400)]
    seed(client, items={uid: f"payload of {uid}" for uid in uids})
    seed(client, queue=uids[:100], ackbuf=uids[100:250], backup=uids[250:], backuplock="1")
    batch = [queue.get(-1) for _ in range(101)]
    assert [item.payload for item in batch[:-1]] == [
        f"payload of {uid}".encode() for uid in uids[99::-1]
    ]
    assert batch[-1] == (None, None)
    for item in batch[:-1]:
        assert queue.ack(item.uid)
    # The lock was given an expiry, which is over now.
    assert client.pttl("srq:test:backuplock") > 0
    lapse(client)
    assert Counter(drain(queue, client)) == Counter(uids[100:])
    assert snapshot(client).keys() <= {"backuplock"}


def test_a_consumer_of_each_release_share_a_queue(
    queue: Any, old: Release3, client: redis.Redis
) -> None:
    for n in range(20):
        old.put(f"old {n}", "x")
        queue.put("y")
    done: Counter[str] = Counter()
    for turn in range(80):
        uid, payload = old.get() if turn % 2 else queue.get(-1)
        if uid is not None:
            assert payload in (b"x", b"y")
            consumer = old if turn % 2 else queue
            if turn % 5 == 0:
                consumer.fail(uid)
            else:
                consumer.ack(uid)
                done[uid] += 1
        if turn % 7 == 0:
            lapse(client)
        check_places(client)
    assert set(done.values()) == {1}
    done += Counter(drain(queue, client))
    assert set(done.values()) == {1}
    assert len(done) == 40


def test_each_release_acks_and_fails_what_the_other_got(queue: Any, old: Release3) -> None:
    old.put("a", "A")
    uid, _ = old.get()
    assert uid
    assert queue.fail(uid) is True
    assert queue.get(-1) == ("a", b"A")
    old.fail("a")
    assert old.get() == ("a", b"A")
    assert queue.ack("a") is True
    assert old.get() == (None, None)


def test_a_3_0_0_consumer_gets_what_is_put_now(
    queue: Any, old: Release3, client: redis.Redis
) -> None:
    uid = queue.put("a")
    assert old.get() == (uid, b"a")
    old.ack(uid)
    assert snapshot(client).keys() <= {"backuplock"}


def test_the_orphans_of_each_release_are_brought_back_by_the_other(
    queue: Any, old: Release3, client: redis.Redis
) -> None:
    uid = queue.put("a")
    queue.get()
    for _ in range(2):
        lapse(client)
        old.autoclean()
    assert old.get() == (uid, b"a")
    for _ in range(2):
        lapse(client)
        item = queue.get(-1)
    assert (item.uid, item.attempts) == (uid, 2)


# -- payloads that cannot be decoded ---------------------------------------------------------------


class Raising:
    """Loads "bad" with a given error, all else as it is."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def dumps(self, item: str) -> str:
        return item

    def loads(self, payload: bytes) -> bytes:
        if payload == b"bad":
            raise self.error
        return payload


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("no"),
        ValueError("ä €"),
        ValueError("a" * 100_000),
        StopIteration(),
        UnprintableError(),
        redis.ConnectionError("not ours"),
        RecursionError(),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error.args)[:20]}",
)
def test_whatever_a_serializer_raises_the_loop_lives(
    make: Make, client: redis.Redis, error: BaseException
) -> None:
    queue = make(serializer=Raising(error), max_attempts=1)
    bad, good = queue.put("bad"), queue.put("good")
    assert queue.get(-1) == (good, b"good")
    assert snapshot(client)["dead"].keys() == {bad}


def test_an_error_whose_text_cannot_be_encoded_ends_no_loop(make: Make) -> None:
    queue = make(serializer=Raising(ValueError("\udcff")))
    queue.put("bad")
    queue.put("good")
    try:
        payload = queue.get(-1).payload
    except UnicodeEncodeError:
        payload = "an error"  # not let through: pytest-xdist could not report it
    assert payload == b"good"


def test_a_get_that_meets_only_what_it_cannot_load_keeps_its_timeout(make: Make) -> None:
    class Slow:
        dumps = staticmethod(str)

        def loads(self, payload: bytes) -> Any:
            time.sleep(0.4)
            raise ValueError("no")

    queue = make(serializer=Slow())
    queue.put_many(range(10))
    assert queue.get(-1) == (None, None)
    assert queue.stats().dead < 10


def test_an_undecodable_payload_is_put_aside_and_logged(
    make: Make, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    queue = make(serializer=json, max_attempts=1)
    uids = make().put_many(["{", "1", b"\xff"])
    with caplog.at_level(logging.WARNING, logger="saferedisqueue"):
        assert queue.get(-1) == (uids[1], 1)
        assert queue.get(-1) == (None, None)
    keys = snapshot(client)
    assert keys["dead"].keys() == keys["reasons"].keys() == {uids[0], uids[2]}
    assert keys["items"][uids[0]] == "{", "the payload is kept"
    assert "JSONDecodeError" in keys["reasons"][uids[0]]
    assert [uid in caplog.text for uid in uids] == [True, False, True]
    assert queue.stats()[:5] == (0, 1, 0, 2, 3)


def test_what_was_put_aside_does_not_come_back_and_can_be_acked(
    make: Make, client: redis.Redis
) -> None:
    queue = make(serializer=json, max_attempts=1)
    uid = make().put("{")
    for _ in range(3):
        assert queue.get(-1) == (None, None)
        lapse(client)
    check_places(client)
    assert queue.ack(uid) is True
    assert queue.get(-1) == (None, None)
    assert snapshot(client).keys() <= {"backuplock"}


def test_a_waiting_get_puts_the_undecodable_aside_and_waits_on(
    make: Make, client: redis.Redis
) -> None:
    queue = make(decode_responses=True, max_attempts=1)
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.get, 60)
        wait_for_blocked(client)
        make().put(b"\xff")
        eventually(lambda: client.exists("srq:test:dead"))
        make().put("ä")
        assert waiting.result().payload == "ä"


def test_what_lapsed_comes_back_soon_though_something_is_always_ready(
    make: Make, client: redis.Redis
) -> None:
    queue = make()
    queue.put("a")
    queue.get(-1, lease=0.1)
    queue.put("b")
    end = time.monotonic() + 5  # a claim keeps house four times a second
    while (item := queue.get(-1)).attempts == 1:
        assert time.monotonic() < end
        queue.ack(item.uid)
        queue.put("b")
    assert item.payload == b"a"


def test_what_producers_with_different_clocks_put_is_got_in_the_order_of_put(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they hand back too, of each producer."""
    behind, ahead, uids, real = make(), make(), [], time.time_ns
    for n in range(6):
        for producer, hours in ((ahead, 1), (behind, -1)):
            monkeypatch.setattr(saferedisqueue, "_latest_uid_time", 0)  # another process
            set_off = hours * 3_600_000_000_000
            monkeypatch.setattr(time, "time_ns", lambda off=set_off: real() + off)
            uids.append(producer.put(str(n)))
    items = [behind.get(-1) for _ in uids]
    assert [item.uid for item in items] == uids
    assert behind.hand_back([item.uid for item in reversed(items)]) == len(uids)
    back = [behind.get(-1).uid for _ in uids]
    for first in (0, 1):
        own = uids[first::2]
        assert [uid for uid in back if uid in own] == own
