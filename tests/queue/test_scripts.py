"""Each script alone: the keys before, one call, the keys after; also stopped half-way."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import saferedisqueue
from helpers import PLACES, Make, call, check_places, drain, lapse, seed, snapshot
from saferedisqueue import (
    ACK,
    BURY,
    CLAIM,
    DEAD,
    FAIL,
    FORWARD,
    HAND_BACK,
    PEEK,
    PURGE,
    PURGE_DEAD,
    PUT,
    PUT_NEW,
    REVIVE,
    STATS,
    TOUCH,
    UNDO,
    Script,
    _uid,
)

NOW = 1_700_000_000_000  # ms, the time given to the scripts
PLAIN = ("", "", "0", "")  # of PUT: no delay, no time, no priority, no maxsize
OUT = {"a": "1 1699999999000 tok "}  # meta of an item that is out with "tok"
NOT_WOKEN, WOKEN = (0, "", 0), (1, "b", NOW)  # of CLAIM: no wait before it, or one that moved b


@pytest.fixture
def queue(make: Make) -> Any:
    queue = make()
    queue._at = NOW
    return queue


def claim(
    queue: Any, token: str = "new", moved: str | None = None, seen: int = 0, **kw: Any
) -> Any:
    """Claim one item: now, and uid, payload and deliveries, or the verdict unless it is -1."""
    interval, most = kw.pop("interval", 60_000), kw.pop("most", "")
    woken = (int(moved is not None), moved or "", seen)
    now, verdict, _, *found = call(queue, CLAIM, token, interval, "", 1, most, *woken, **kw)
    return [now, *(found or [verdict] * (verdict != -1))]


def claim_many(queue: Any, count: int, lease: int | str = "", **kw: Any) -> list[str]:
    """Claim so many; the uids."""
    reply = call(queue, CLAIM, "new", "", lease, count, "", *NOT_WOKEN, **kw)
    return [uid.decode() for uid in reply[3::3]]


# -- put -------------------------------------------------------------------------------------------


def test_put_adds_at_the_left(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a"])
    assert call(queue, PUT, *PLAIN, "b", "B", "c", "C") == 2
    assert snapshot(client) == {"items": {"a": "A", "b": "B", "c": "C"}, "queue": ["c", "b", "a"]}


def test_put_leaves_an_item_that_is_there_as_it_is(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"])
    assert call(queue, PUT, *PLAIN, "a", "other", "b", "B") == 1
    assert snapshot(client) == {"items": {"a": "A", "b": "B"}, "queue": ["b"], "ackbuf": ["a"]}


# -- claim -----------------------------------------------------------------------------------------


def test_claim_takes_from_the_right(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A", "b": "B"}, queue=["b", "a"], backuplock="1")
    client.expire("srq:test:backuplock", 9)
    assert claim(queue) == [NOW, b"a", b"A", 1]
    assert snapshot(client) == {
        "items": {"a": "A", "b": "B"},
        "queue": ["b"],
        "ackbuf": ["a"],
        "meta": {"a": f"1 {NOW} new "},
        "backuplock": "1",
    }


def test_claim_counts_deliveries_and_writes_a_new_token(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a"], meta={"a": "7 5 old "})
    assert claim(queue) == [NOW, b"a", b"A", 8]
    assert snapshot(client)["meta"] == {"a": f"8 {NOW} new "}


def test_claim_on_nothing_leaves_nothing(queue: Any, client: redis.Redis) -> None:
    assert claim(queue, interval="") == [NOW]
    assert snapshot(client) == {}


def test_claim_sets_the_lock_with_its_expiry(queue: Any, client: redis.Redis) -> None:
    claim(queue, interval=60_000)
    assert 50_000 < client.pttl("srq:test:backuplock") <= 60_000


def test_claim_drops_what_is_left_of_a_queue_without_items(queue: Any, client: redis.Redis) -> None:
    seed(client, queue=["g"], ackbuf=["h"], backup=["i"], meta={"h": "1 2 t ", "j": "1 2 t "})
    seed(client, dead={"k": 1}, reasons={"k": "r"})
    assert claim(queue, interval="") == [NOW]
    assert snapshot(client) == {}


def test_claim_keeps_what_is_in_flight_or_dead(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A", "b": "B"}, ackbuf=["a"], meta=OUT, dead={"b": 1})
    before = snapshot(client)
    assert claim(queue, interval="") == [NOW]
    assert snapshot(client) == before


@pytest.mark.parametrize("place", ["ackbuf", "backup", "leases", "delayed", "dead"])
def test_claim_drops_a_second_copy(queue: Any, client: redis.Redis, place: str) -> None:
    held: Any = ["a"] if place in ("ackbuf", "backup") else {"a": NOW + 1}
    seed(client, items={"a": "A", "b": "B"}, queue=["b", "a"], meta=OUT)
    seed(client, **{place: held})
    assert claim(queue, interval="")[1] == b"b"
    check_places(client)
    assert set(snapshot(client)[place]) >= {"a"}


def test_claim_drops_a_second_copy_that_comes_back_before_its_holders_time_is_over(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"], backup=["a"], meta={"a": f"2 {NOW - 1} tok "})
    assert claim(queue) == [NOW]
    check_places(client)
    assert call(queue, ACK, "a", "tok") == 1


@pytest.mark.parametrize("place", ["delayed", "dead", "priority"])
@pytest.mark.parametrize("copy", ["ackbuf", "backup"])
def test_ack_finds_an_item_behind_a_second_copy(
    queue: Any, client: redis.Redis, place: str, copy: str
) -> None:
    for acks in (("a", ""), ("a", "tok"), ("b", "stale", "a", "tok")):
        seed(client, items={"a": "A"}, meta={"a": "2 0 tok ", "b": "1 1 other "})
        seed(client, **{copy: ["a"], place: {"a": NOW + 1}})
        assert call(queue, ACK, *acks) == 1
        assert snapshot(client) == {"meta": {"b": "1 1 other "}}


@pytest.mark.parametrize("copy", ["ackbuf", "backup"])
def test_a_second_copy_is_not_counted(queue: Any, client: redis.Redis, copy: str) -> None:
    seed(client, items={"a": "A"}, meta=OUT, leases={"a": NOW + 1}, **{copy: ["a"]})
    stats = queue.stats()
    assert (stats.total, stats.ready, stats.in_flight) == (1, 0, 1)


def test_what_lapsed_can_be_acked_by_its_holder_until_somebody_else_has_it(
    queue: Any, client: redis.Redis
) -> None:
    for holder in ("tok", "new"):
        client.flushall()
        seed(client, items=dict.fromkeys("ab", ""), queue=["b"], leases={"a": NOW}, meta=OUT)
        assert claim_many(queue, 1) == ["b"]
        assert snapshot(client)["queue"] == ["a"]
        if holder == "new":
            assert claim_many(queue, 1) == ["a"]
        assert call(queue, ACK, "a", "tok") == (holder == "tok")


def test_claim_skips_uids_without_an_item(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a", "", "\n", "ghost"], meta={"ghost": "1 2 t "})
    assert claim(queue, interval="")[1] == b"a"
    keys = snapshot(client)
    assert keys["ackbuf"] == ["a"]
    assert keys["meta"].keys() == {"a"}


def test_a_ghost_of_its_uid_does_not_make_a_delayed_item_early(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, queue=["a"])
    assert call(queue, PUT, 1000, "", "0", "", "a", "A") == 1
    assert claim(queue, interval="") == [NOW, 1000]
    check_places(client)


@pytest.mark.parametrize(
    ("times", "wait"),
    [
        ({"leases": {"a": NOW + 5000}}, 5000),
        ({"delayed": {"a": NOW + 5000}}, 5000),
        ({"delayed": {"a": NOW + 0.5}}, 1),
        ({"leases": {"a": NOW + 7000}, "delayed": {"b": NOW + 3000}}, 3000),
        ({"leases": {"a": NOW + 3000}, "delayed": {"b": NOW + 7000}}, 3000),
    ],
)
def test_claim_tells_how_long_to_wait_for_what_is_due_next(
    queue: Any, client: redis.Redis, times: Any, wait: int
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), **times)
    assert claim(queue, interval="") == [NOW, wait]


@pytest.mark.parametrize("count", [1, 100])
def test_claim_skips_a_thousand_uids_a_call_at_most(
    queue: Any, client: redis.Redis, count: int
) -> None:
    seed(client, items={"a": "A"}, queue=["a", *(f"ghost {n}" for n in range(1500))])
    assert claim_many(queue, count) == []
    assert len(snapshot(client)["queue"]) == 501
    assert claim_many(queue, count) == ["a"]


# -- claim: batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_a_batch_is_taken_from_the_right_in_order(
    queue: Any, client: redis.Redis, count: int
) -> None:
    seed(client, items=dict.fromkeys("abcde", ""), queue=[*"edcba"])
    assert claim_many(queue, count) == [*"abcde"][:count]
    keys = snapshot(client)
    assert (keys.get("queue", []), keys["ackbuf"]) == ([*"edcba"][:-count], [*"edcba"][-count:])
    assert keys["meta"] == dict.fromkeys("abcde"[:count], f"1 {NOW} new ")


def test_a_batch_has_as_many_as_asked_for_each_once(queue: Any, client: redis.Redis) -> None:
    """Also where it meets a second copy of a new item, and uids without an item."""
    seed(client, items=dict.fromkeys("abcde", ""), queue=["e", "d", "c", "b", "ghost", "a", "a"])
    assert claim_many(queue, 3, lease=5000) == ["a", "b", "c"]
    keys = snapshot(client)
    assert (keys["queue"], keys["leases"]) == (["e", "d"], dict.fromkeys("abc", NOW + 5000))


def test_a_batch_ends_when_it_is_large(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcdef", "x" * 600_000), queue=["f", "e", "d", "c", "b", "a"])
    assert claim_many(queue, 4) == ["a", "b"]
    assert snapshot(client)["queue"] == ["f", "e", "d", "c"]
    client.rpush("srq:test:queue", "", "", "", "")
    assert claim_many(queue, 4) == ["c", "d"], "also in a later round"


def test_a_claim_searches_the_lists_four_times_at_most(queue: Any, client: redis.Redis) -> None:
    """They may be long, and a second copy is looked for in all of them."""
    uids = [f"{n}" for n in range(20)]
    seed(client, items=dict.fromkeys(uids, ""), queue=uids, ackbuf=uids)
    seed(client, meta=dict.fromkeys(uids, OUT["a"]))
    for count, left in ((1, 16), (9, 12)):
        assert claim_many(queue, count) == []
        assert snapshot(client)["queue"] == uids[:left]


def test_what_was_failed_is_taken_without_a_search(queue: Any, client: redis.Redis) -> None:
    uids = [f"{n}" for n in range(20)]
    seed(client, items=dict.fromkeys(uids, ""), queue=uids, meta=dict.fromkeys(uids, "1 0 - "))
    assert claim_many(queue, 20) == uids[::-1]


# -- claim: autoclean ------------------------------------------------------------------------------


def test_autoclean_requeues_backup_and_renames_ackbuf(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcd", ""), queue=["a"], backup=["b"], ackbuf=["d", "c"])
    assert claim(queue)[1] == b"a"
    keys = snapshot(client)
    assert (keys["queue"], keys["backup"], keys["ackbuf"]) == (["b"], ["d", "c"], ["a"])


def test_autoclean_keeps_the_order_of_what_comes_back(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abc", ""), backup=["c", "b", "a"])
    assert [claim(queue)[1] for _ in "abc"] == [b"a", b"b", b"c"]


def test_autoclean_does_nothing_while_locked_or_off(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), backup=["a"], ackbuf=["b"], meta=OUT)
    assert claim(queue, interval="") == [NOW]
    client.set("srq:test:backuplock", 1, ex=60)
    assert claim(queue) == [NOW]
    keys = snapshot(client)
    assert (keys["backup"], keys["ackbuf"]) == (["a"], ["b"])


@pytest.mark.parametrize("orphans", [99, 100, 101, 250])
def test_autoclean_moves_a_hundred_a_call_and_is_resumed(
    queue: Any, client: redis.Redis, orphans: int
) -> None:
    uids = [f"{n:03}" for n in range(orphans)]
    seed(client, items=dict.fromkeys([*uids, "held"], ""), backup=uids[::-1], ackbuf=["held"])
    left = orphans
    while left > 100:
        claim(queue)
        left -= 100
        keys = snapshot(client)
        assert len(keys["backup"]) == left
        assert "held" in keys["ackbuf"], "renamed over a backup that is not empty"
        assert "backuplock" not in keys, "the next claim must go on"
    claim(queue)
    keys = snapshot(client)
    assert "held" in keys["backup"]
    assert keys["backuplock"] == "1"
    check_places(client)


@pytest.mark.parametrize(("interval", "given"), [(60_000, 600_000), (120_000, 1_200_000)])
def test_a_lock_without_expiry_gets_a_long_one(
    queue: Any, client: redis.Redis, interval: int, given: int
) -> None:
    seed(client, items={"a": "A"}, backup=["a"], backuplock="1")
    assert claim(queue, interval=interval) == [NOW]
    assert given - 60_000 < client.pttl("srq:test:backuplock") <= given
    assert snapshot(client)["backup"] == ["a"]


# -- claim: what BLMOVE moved ----------------------------------------------------------------------


def test_a_moved_uid_goes_back_to_the_front_and_is_claimed(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b"], ackbuf=["a"])
    assert claim(queue, moved="a", seen=NOW, interval="")[1] == b"a"
    keys = snapshot(client)
    assert (keys["queue"], keys["ackbuf"]) == (["b"], ["a"])


def test_a_moved_uid_does_not_wait_for_an_interval_when_autoclean_came_in_between(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b"], backup=["a"])
    assert claim(queue, moved="a", seen=NOW, interval="")[1] == b"a"
    keys = snapshot(client)
    assert (keys["queue"], keys["ackbuf"], "backup" in keys) == (["b"], ["a"], False)
    check_places(client)


def test_a_moved_uid_that_was_requeued_is_not_added_again(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["a", "b"])
    assert claim(queue, moved="a", seen=NOW, interval="")[1] == b"b"
    assert snapshot(client)["queue"] == ["a"]


@pytest.mark.parametrize("claimed", [NOW, NOW + 1])
def test_a_moved_uid_that_was_claimed_since_stays_with_its_holder(
    queue: Any, client: redis.Redis, claimed: int
) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"], meta={"a": f"1 {claimed} other "})
    assert claim(queue, moved="a", seen=NOW, interval="") == [NOW]
    assert snapshot(client)["meta"] == {"a": f"1 {claimed} other "}


def test_a_moved_uid_whose_delivery_is_older_or_over_is_claimed(
    queue: Any, client: redis.Redis
) -> None:
    for about in (f"1 {NOW - 1} other ", "1 0 - "):
        client.flushall()
        seed(client, items={"a": "A"}, ackbuf=["a"], meta={"a": about})
        assert claim(queue, moved="a", seen=NOW, interval="") == [NOW, b"a", b"A", 2]
        check_places(client)


def test_the_empty_string_can_wake_and_is_not_no_uid(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a"], ackbuf=[""])
    assert claim(queue, moved="", seen=NOW, interval="")[1] == b"a"
    assert snapshot(client)["ackbuf"] == ["a"]


# -- ack, fail, hand back, bury --------------------------------------------------------------------


ZSETS = ("leases", "delayed", "priority", "dead")


@pytest.mark.parametrize("place", ["queue", "ackbuf", "backup", *ZSETS])
def test_ack_removes_an_item_wherever_it_stands(
    queue: Any, client: redis.Redis, place: str
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), meta={**OUT, "b": "2 3 t "})
    if place == "dead":
        seed(client, reasons={"a": "r", "b": "r"})
    held: Any = {"a": 1, "b": 2} if place in ZSETS else ["b", "a"]
    seed(client, **{place: held})
    assert call(queue, ACK, "a", "tok") == 1
    keys = snapshot(client)
    assert keys["items"].keys() == keys["meta"].keys() == {"b"}
    assert "b" in keys[place]
    assert place == "queue" or "a" not in keys[place]
    assert place != "dead" or keys["reasons"] == {"b": "r"}


def test_ack_of_many_is_fenced_for_each_and_leaves_nothing_of_them(
    queue: Any, client: redis.Redis
) -> None:
    """a and b are leased, c is somebody else's by now, d is delayed, e is nobody's."""
    seed(client, items=dict.fromkeys("abcd", ""), leases=dict.fromkeys("abc", NOW))
    seed(client, meta={"a": OUT["a"], "b": f"1 {NOW} tok2 ", "c": f"2 {NOW} other "})
    seed(client, delayed={"d": NOW + 1})
    tokens = {"a": "tok", "c": "tok", "d": "", "e": "tok", "b": "tok2"}
    assert call(queue, ACK, *(part for pair in tokens.items() for part in pair)) == 3
    assert snapshot(client) == {
        "items": {"c": ""},
        "leases": {"c": NOW},
        "meta": {"c": f"2 {NOW} other "},
    }


# Of what is fenced: the arguments before uid and token, and those after.
FENCED: dict[str, tuple[Script, tuple[Any, ...], tuple[Any, ...]]] = {
    "ack": (ACK, (), ()),
    "fail": (FAIL, ("", ""), (0,)),
    "fail later": (FAIL, ("", ""), (1000,)),
    "fail for good": (FAIL, (1, ""), (0,)),
    "hand back": (HAND_BACK, (1,), ()),
    "bury": (BURY, (), ("reason",)),
}


def fenced(queue: Any, move: str, token: str, **kw: Any) -> Any:
    script, before, after = FENCED[move]
    return call(queue, script, *before, "a", token, *after, **kw)


@pytest.mark.parametrize("script", FENCED)
@pytest.mark.parametrize("about", ["1 2 other ", "1 0 - ", "1 2 tok2 ", "1 2 xtok ", None])
def test_a_token_that_is_not_the_latest_changes_nothing(
    queue: Any, client: redis.Redis, script: str, about: str | None
) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"], **({"meta": {"a": about}} if about else {}))
    before = snapshot(client)
    assert fenced(queue, script, "tok") == 0
    assert snapshot(client) == before


@pytest.mark.parametrize("script", FENCED)
def test_a_token_is_no_pattern(queue: Any, client: redis.Redis, script: str) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"], meta={"a": f"1 {NOW} a-b_c:17 "})
    assert fenced(queue, script, "a-b_c:17") == 1
    assert "ackbuf" not in snapshot(client)


def test_the_short_way_of_an_ack_takes_a_token_as_no_pattern(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"], meta={"a": f"1 {NOW} a-b_c:17 "})
    client.set("srq:test:backuplock", 1, px=60_000)
    assert call(queue, ACK, "a", "a.b_c:17", slot=used_slot(queue, client)) == 0
    assert call(queue, ACK, "a", "a-b_c:17", slot=used_slot(queue, client)) == 1
    assert "ackbuf" not in snapshot(client)


def test_the_short_way_of_an_ack_finds_what_an_interval_has_moved(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": "A"}, backup=["a"], meta={"a": f"1 {NOW} tok "}, reasons={"a": "old"})
    assert call(queue, ACK, "a", "tok", slot=used_slot(queue, client)) == 1
    assert snapshot(client).keys() <= {"reasons"}, "in flight it has no reason to look for one"


def test_only_an_item_with_a_priority_has_a_score(queue: Any, client: redis.Redis) -> None:
    plain = queue.put("a", delay=60)
    high = queue.put("b", delay=60, priority=1)
    meta = snapshot(client)["meta"]
    assert meta[plain] == "0 0 - "
    assert meta[high] > "0 0 - "


@pytest.mark.parametrize("script", [move for move in FENCED if move != "ack"])
@pytest.mark.parametrize("token", ["tok", ""])
@pytest.mark.parametrize("place", ["queue", "dead", "no place", "ghost"])
def test_what_is_not_in_flight_stays_as_it_is(
    queue: Any, client: redis.Redis, script: str, token: str, place: str
) -> None:
    where: dict[str, Any] = {"queue": {"queue": ["a"]}, "dead": {"dead": {"a": 1}}}
    seed(client, meta=OUT, **where.get(place, {}))
    if place == "ghost":
        seed(client, ackbuf=["a"])
    else:
        seed(client, items={"a": "A"})
    before = snapshot(client)
    assert fenced(queue, script, token) == 0
    assert snapshot(client) == before


@pytest.mark.parametrize("place", ["ackbuf", "backup"])
@pytest.mark.parametrize(
    ("script", "ready", "attempts"), [("fail", ["a", "z"], 1), ("hand back", ["z", "a"], 0)]
)
def test_fail_goes_to_the_back_and_hand_back_to_the_front(
    queue: Any, client: redis.Redis, place: str, script: str, ready: list[str], attempts: int
) -> None:
    seed(client, items=dict.fromkeys("abz", ""), queue=["z"], meta=OUT)
    seed(client, **{place: ["b", "a"]})
    assert fenced(queue, script, "tok") == 1
    keys = snapshot(client)
    assert (keys["queue"], keys[place]) == (ready, ["b"])
    assert keys["meta"] == {"a": f"{attempts} 0 - "}
    assert fenced(queue, script, "tok") == 0


def test_fail_needs_no_token_and_no_meta(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"])
    assert call(queue, FAIL, "", "", "a", "", 0) == 1
    assert snapshot(client) == {"items": {"a": "A"}, "queue": ["a"]}


@pytest.mark.parametrize("move", ["fail", "hand back"])
def test_an_item_of_a_priority_that_comes_back_rings_the_bell(
    queue: Any, client: redis.Redis, move: str
) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"], meta={"a": f"{OUT['a']}-17"})
    assert fenced(queue, move, "tok") == 1
    keys = snapshot(client)
    assert (keys["queue"], keys["priority"]) == ([""], {"a": -17})


def test_bury_keeps_the_item_with_time_and_reason(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"], meta=OUT)
    assert call(queue, BURY, "a", "tok", "why") == 1
    assert snapshot(client) == {
        "items": {"a": "A"},
        "meta": {"a": "1 0 - "},
        "dead": {"a": NOW},
        "reasons": {"a": "why"},
    }


def test_of_the_dead_a_hundred_a_call_are_moved_at_most(queue: Any, client: redis.Redis) -> None:
    uids = [f"{n:03}" for n in range(250)]
    seed(client, items=dict.fromkeys(uids, ""), dead={uid: NOW + n for n, uid in enumerate(uids)})
    assert call(queue, REVIVE) == [100, 100]
    assert call(queue, PURGE_DEAD) == 100
    keys = snapshot(client)
    assert (keys["queue"], list(keys["dead"])) == (uids[99::-1], uids[200:])


def test_what_is_shorter_than_a_millisecond_is_not_early(queue: Any, client: redis.Redis) -> None:
    uid = queue.put("a", delay=0.0011)
    assert snapshot(client)["delayed"] == {uid: NOW + 2}


# -- stats, purge ----------------------------------------------------------------------------------


def test_stats_tell_the_numbers_and_the_next_uid(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcdef", ""), queue=["b", "a"], ackbuf=["c"], backup=["d"])
    seed(client, dead={"e": 1, "f": 2})
    assert call(queue, STATS) == [NOW, 6, 2, 0, 2, 0, b"a"]


def test_stats_count_a_long_list_as_a_whole(queue: Any, client: redis.Redis) -> None:
    uids = [f"u{n}" for n in range(1001)]
    seed(client, items=dict.fromkeys(uids, ""), ackbuf=uids)
    assert call(queue, STATS)[1:3] == [1001, 1001]
    client.lpush("srq:test:ackbuf", "ghost")
    assert call(queue, STATS)[2] == 1002, "ghosts of a long list are not looked for"


def test_an_uid_without_an_item_does_not_hide_one_that_is_ready(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": "A"}, queue=["a"], ackbuf=["ghost"])
    assert not queue.empty()
    assert queue.stats()[:5] == (1, 0, 0, 0, 1)


def test_purge_leaves_the_lock_only(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["a"], ackbuf=["b"], backup=["c"], meta=OUT)
    seed(client, dead={"e": 1}, reasons={"e": "r"}, backuplock="1")
    seed(client, name="other", items={"a": "A"})
    assert call(queue, PURGE) == 2
    assert snapshot(client) == {"backuplock": "1"}
    assert snapshot(client, "other") == {"items": {"a": "A"}}


# -- numbered calls --------------------------------------------------------------------------------

# Arguments, and the uids of what is gone after it.
ARGS: dict[str, tuple[Script, tuple[Any, ...], str]] = {
    "put": (PUT, (*PLAIN, "new", "N", "other", "O"), ""),
    "put of new uids": (PUT_NEW, ("new", "N", "other", "O"), ""),
    "put later": (PUT, (5000, "", "0", "", "new", "N", "other", "O"), ""),
    "put with a priority": (PUT, ("", "", "7", "", "new", "N", "other", "O"), ""),
    "put with a priority later": (PUT, (5000, "", "7", "", "new", "N", "other", "O"), ""),
    "claim": (CLAIM, ("fresh", 60_000, "", 1, "", *NOT_WOKEN), ""),
    "claim after a wait": (CLAIM, ("fresh", 60_000, "", 1, "", *WOKEN), ""),
    "claim with a lease": (CLAIM, ("fresh", 60_000, 5000, 1, "", *NOT_WOKEN), ""),
    "claim many": (CLAIM, ("fresh", 60_000, 5000, 9, "", *NOT_WOKEN), ""),
    "claim many at most once": (CLAIM, ("fresh", 60_000, 5000, 9, 1, *NOT_WOKEN), ""),
    "ack and claim": (CLAIM, ("fresh", 60_000, 5000, 1, "", *NOT_WOKEN, "a", "tok"), "a"),
    "ack": (ACK, ("a", "tok"), "a"),
    "ack many": (ACK, ("a", "tok", "h", "tok", "b", "wrong"), "ah"),
    "ack from backup": (ACK, ("c", ""), "c"),
    "quick put": (PUT_NEW, ("new", "N", "other", "O"), ""),
    "quick claim": (CLAIM, ("fresh", 60_000, "", 1, "", *NOT_WOKEN), ""),
    "quick claim with a lease": (CLAIM, ("fresh", 60_000, 5000, 1, "", *NOT_WOKEN), ""),
    "quick ack and claim": (CLAIM, ("fresh", 60_000, 5000, 1, "", *NOT_WOKEN, "a", "tok"), "a"),
    "quick ack": (ACK, ("a", "tok"), "a"),
    "quick ack of a leased one": (ACK, ("h", "tok"), "h"),
    "ack of a dead one": (ACK, ("d", ""), "d"),
    "ack of a leased one": (ACK, ("h", "tok"), "h"),
    "ack of a delayed one": (ACK, ("i", ""), "i"),
    "ack of a ready one": (ACK, ("j", ""), "j"),
    "touch": (TOUCH, (5000, "a", "tok", "h", "tok"), ""),
    "fail": (FAIL, ("", "", "a", "tok", 0), ""),
    "fail a leased one": (FAIL, ("", "", "h", "tok", 0), ""),
    "fail with a priority": (FAIL, ("", "", "l", "tok", 0), ""),
    "fail later": (FAIL, ("", "", "a", "tok", 5000), ""),
    "fail for good": (FAIL, (1, "why", "a", "tok", 0), ""),
    "hand back": (HAND_BACK, (1, "a", "tok"), ""),
    "hand back a leased one": (HAND_BACK, (0, "h", "tok"), ""),
    "undo a wait": (UNDO, ("none", *WOKEN), ""),
    "bury": (BURY, ("a", "tok", "why"), ""),
    "forward": (FORWARD, ("a", "tok", "new", "N"), "a"),
    "revive": (REVIVE, ("d",), ""),
    "revive all": (REVIVE, (), ""),
    "purge the dead": (PURGE_DEAD, (), "d"),
    "purge": (PURGE, (), "abcdefghijklm"),
    "dead": (DEAD, (0, 9), ""),
    "peek": (PEEK, (0, 9), ""),
    "stats": (STATS, (), ""),
}


def test_every_script_is_among_these_calls() -> None:
    scripts = {name for name, value in vars(saferedisqueue).items() if isinstance(value, Script)}
    called = [script for script, _args, _gone in ARGS.values()]
    assert {name for name in scripts if getattr(saferedisqueue, name) not in called} == set()


def seed_for(client: redis.Redis, move: str) -> set[str]:
    """What a call meets; the uids. What is quick needs a queue on which nothing is special."""
    return (seed_little if move.startswith("quick") else seed_everything)(client)


def seed_little(client: redis.Redis) -> set[str]:
    """New items, and some in flight."""
    uids = set("abefhm")
    seed(client, items=dict.fromkeys(uids, "payload"), queue=["e", "f"], leases={"h": NOW + 1})
    seed(client, ackbuf=["b", "a"], backup=["m"])
    seed(client, meta=dict.fromkeys("abhm", "1 1699999999000 tok "))
    client.set("srq:test:backuplock", 1, px=60_000)
    return uids


def seed_everything(client: redis.Redis) -> set[str]:
    """An item in every place, a second copy, and ghosts; the uids."""
    uids = set("abcdefghijklm")
    seed(client, items=dict.fromkeys(uids, "payload"), queue=["f", "c", "e", "ghost"])
    seed(client, ackbuf=["b", "ghost", "a"], backup=["c", "m"], dead={"d": 1}, reasons={"d": "r"})
    seed(client, leases={"g": NOW - 1, "h": NOW + 1, "l": NOW + 1}, delayed={"i": NOW - 1})
    seed(client, priority={"j": -3 * 2**43 + NOW, "k": 3 * 2**43 + NOW})
    tok = "1 1699999999000 tok "
    seed(client, meta={"a": tok, "h": tok, "l": f"{tok}{-(2**43) + NOW}", "c": "1 5 t "})
    seed(client, meta={"j": f"0 0 - {-3 * 2**43 + NOW}", "k": f"0 0 - {3 * 2**43 + NOW}"})
    seed(client, meta={"g": "1 5 t ", "ghost": "1 5 t "})
    return uids


def drain_later(queue: Any, client: redis.Redis) -> list[str]:
    """As drain, when all leases and delays are over."""
    queue._at = NOW + 60_000
    try:
        return drain(queue, client)
    finally:
        queue._at = NOW


def slot_for(queue: Any, client: redis.Redis, move: str) -> Any:
    return used_slot(queue, client) if move.startswith("quick") else queue._take_slot()


def used_slot(queue: Any, client: redis.Redis) -> Any:
    """A slot that has been used: only of such a one calls are quick."""
    slot = queue._take_slot()
    client.set(slot.key, f"{slot.number} ", px=60_000)
    slot.number += 1
    return slot


def each_call(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(name, ARGS)


@each_call("move")
def test_a_call_sent_again_gets_the_same_answer_and_changes_nothing(
    queue: Any, client: redis.Redis, move: str
) -> None:
    seed_for(client, move)
    script, args, _gone = ARGS[move]
    slot = slot_for(queue, client, move)
    answer = call(queue, script, *args, slot=slot)
    before = snapshot(client)
    assert call(queue, script, *args, slot=slot) == answer
    assert snapshot(client) == before


@each_call("move")
def test_an_earlier_call_that_arrives_late_is_refused(
    queue: Any, client: redis.Redis, move: str
) -> None:
    script, args, _gone = ARGS[move]
    slot = queue._take_slot()
    late = copy.copy(slot)
    slot.number += 1
    call(queue, ACK, "nobody", "", slot=slot)
    seed_for(client, move)
    before = snapshot(client)
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        call(queue, script, *args, slot=late)
    assert snapshot(client) == before


def test_a_claim_sent_again_later_tells_the_same_deadline(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a"])
    slot = queue._take_slot()
    claiming = (CLAIM, "new", "", 5000, 1, "", *NOT_WOKEN)
    first = call(queue, *claiming, slot=slot)
    queue._at = NOW + 2000
    assert call(queue, *claiming, slot=slot) == [NOW + 2000, *first[1:]]
    assert first[2] == snapshot(client)["leases"]["a"] == NOW + 5000


def test_a_claim_sent_again_after_its_item_was_settled_does_not_hand_it_out(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b", "a"])
    slot = queue._take_slot()
    assert claim(queue, slot=slot)[1] == b"a"
    call(queue, FAIL, "", "", "a", "new", 0)
    assert claim(queue, slot=slot) == [NOW, 0]
    call(queue, ACK, "a", "")
    assert claim(queue, slot=slot) == [NOW, 0]
    assert snapshot(client)["queue"] == ["a", "b"], "b was taken by a call that was answered"


def test_a_claim_that_comes_after_its_undo_is_refused(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a"])
    slot = queue._take_slot()
    late = copy.copy(slot)
    slot.number += 1
    assert call(queue, UNDO, "new", *NOT_WOKEN, slot=slot) == 1
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        claim(queue, slot=late)
    assert snapshot(client) == {"items": {"a": "A"}, "queue": ["a"]}


def after_a_put(queue: Any, calls: int) -> Any:
    """A slot for the so manieth call after one that put "a"."""
    slot = queue._take_slot()
    call(queue, PUT, *PLAIN, "a", "A", slot=slot)
    slot.number += calls
    return slot


def test_an_undo_of_a_claim_that_never_came_undoes_nothing_else(
    queue: Any, client: redis.Redis
) -> None:
    """What the slot was answered last is not what that claim would have been answered."""
    slot = after_a_put(queue, 2)
    assert call(queue, UNDO, "new", *NOT_WOKEN, slot=slot) == 1
    assert snapshot(client) == {"items": {"a": "A"}, "queue": ["a"]}


def test_an_undo_of_a_wait_alone_does_not_mind_what_the_call_before_was(
    queue: Any, client: redis.Redis
) -> None:
    slot = after_a_put(queue, 1)
    seed(client, items={"b": "B"}, ackbuf=["b"])
    assert call(queue, UNDO, "", *WOKEN, slot=slot) == 1
    assert snapshot(client)["queue"] == ["a", "b"]


def test_answers_are_kept_for_a_while_only(queue: Any, client: redis.Redis) -> None:
    slot = queue._take_slot()
    for uid in "abcd":
        if uid == "c":
            client.delete(slot.key)
        call(queue, PUT_NEW, uid, uid, slot=slot)
        assert 0 < client.ttl(slot.key) <= 3600
        slot.number += 1


def test_a_slot_is_used_for_half_an_hour(queue: Any) -> None:
    queue.put("a")
    (slot,) = queue._slots
    slot.old -= 1700
    queue.put("b")
    assert queue._slots == [slot]
    slot.old -= 200
    queue.put("c")
    assert queue._slots[0].key != slot.key
    assert queue._slots[0].number == 1


def test_a_get_that_waits_for_long_changes_its_slot(
    queue: Any, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saferedisqueue, "_SLOT_SECONDS", 0)
    assert queue.get(timeout=0.1).uid is None
    assert len(client.keys("srq:test:last:*")) > 1


# -- the short way of the most frequent calls ------------------------------------------------------

SPECIAL: dict[str, dict[str, Any]] = {
    "nothing": {},
    "delivered before": {"meta": {"f": "3 0 - "}},
    "out already": {"meta": {"f": "3 5 tok "}, "leases": {"f": NOW + 1}},
    "due": {"items": {"i": ""}, "delayed": {"i": NOW}},
    "urgent": {"items": {"i": ""}, "priority": {"i": -(2**43)}},
    "paused": {"paused": "1"},
    "lapsed": {"leases": {"h": NOW}},
    "autoclean": {"backuplock": None},
    "an item of the empty uid": {"items": {"": "foreign"}, "queue": [""]},
    "a ghost": {"queue": ["ghost"]},
    "empty": {"queue": None},
}


@pytest.mark.parametrize(
    "acks", [(), ("a", "tok"), ("a", "x"), ("h", "tok"), ("h", "tok", "a", "tok")]
)
@pytest.mark.parametrize("lease", ["", 5000])
@pytest.mark.parametrize("special", SPECIAL)
def test_a_quick_claim_ends_as_any_other(
    queue: Any, client: redis.Redis, special: str, lease: Any, acks: tuple[str, ...]
) -> None:
    ends = []
    for a_slot in (lambda: queue._take_slot(), lambda: used_slot(queue, client)):
        client.flushall()
        seed_little(client)
        for key, value in SPECIAL[special].items():
            if value is None:
                client.delete(f"srq:test:{key}")
            else:
                seed(client, **{key: value})
        args = ("fresh", 60_000, lease, 1, "", *NOT_WOKEN, *acks)
        ends.append((call(queue, CLAIM, *args, slot=a_slot()), snapshot(client)))
    assert ends[0] == ends[1]


def test_a_late_ack_finds_what_came_back(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, meta={"a": "1 0 tok 5"}, priority={"a": 5}, ackbuf=["a"])
    assert call(queue, ACK, "a", "tok", slot=used_slot(queue, client)) == 1
    assert snapshot(client) == {}


def test_an_ack_of_what_3_0_0_acked_is_answered_the_same_again(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, meta=OUT)
    slot = used_slot(queue, client)
    assert [call(queue, ACK, "a", "tok", slot=slot) for _ in range(2)] == [0, 0]


# -- a script that is stopped ----------------------------------------------------------------------


def stopped(script: Script, k: int) -> Script:
    """The script, whose inner command k fails; what is_stopped asks of is set then."""
    cut = copy.copy(script)
    cut.text = (
        f"local left = {k}\n"
        "local function fails()\n"
        "  left = left - 1\n"
        "  return left == -1 and redis.call('SET', 'stopped', 1)\n"
        "end\n"
        "local function call(...)\n"
        "  if fails() then error('stopped by the test') end\n"
        "  return redis.call(...)\n"
        "end\n"
        "local function pcall(...)\n"
        "  if fails() then return {err = 'stopped by the test'} end\n"
        "  return redis.pcall(...)\n"
        "end\n"
    ) + script.text.replace("redis.", "").replace("error_reply", "redis.error_reply")
    cut.sha = f"{k:040}"
    return cut


def is_stopped(client: redis.Redis) -> bool:
    """Whether the script did not come to its end before the command that fails."""
    return client.delete("stopped") == 1


def failure(queue: Any, script: Script, *args: Any, **kw: Any) -> str | None:
    """What the server said instead of an answer; None if the call was answered."""
    try:
        call(queue, script, *args, **kw)
    except redis.ResponseError as error:
        return str(error)
    return None


def check_nothing_lost(client: redis.Redis, uids: set[str]) -> None:
    keys = snapshot(client)
    for uid in uids & keys.get("items", {}).keys():
        assert any(uid in keys.get(place, ()) for place in PLACES), f"{uid} has no place: {keys}"


@each_call("move")
def test_stopped_at_any_command_a_script_loses_nothing(
    queue: Any, client: redis.Redis, move: str
) -> None:
    script, args, gone = ARGS[move]
    for k in range(1000):
        client.flushall()
        uids = seed_for(client, move)
        slot = slot_for(queue, client, move)
        error = failure(queue, stopped(script, k), *args, slot=slot)
        if not is_stopped(client):
            break
        assert "stopped by the test" in (error or "stopped by the test")
        check_nothing_lost(client, uids | {"new", "other"})
        keys = snapshot(client)
        assert keys.get("items", {}).keys() >= uids - set(gone), f"lost at command {k}"
        left = set(keys.get("items", ())) - keys.get("dead", {}).keys()
        assert sorted(drain_later(queue, client)) == sorted(left), f"after a stop at command {k}"
        check_places(client)
    assert k > 1


def test_a_forward_that_is_stopped_loses_nothing(queue: Any, client: redis.Redis) -> None:
    for k in range(1000):
        client.flushall()
        seed(client, items={"a": "A"}, ackbuf=["a"], meta=OUT)
        failure(queue, stopped(FORWARD, k), "a", "tok", "new", "N")
        if not is_stopped(client):
            break
        keys = snapshot(client)
        assert "a" in keys.get("items", {}) or "new" in keys["to_items"], f"lost at command {k}"
        assert "new" not in keys.get("to_items", {}) or "new" in keys["to_queue"]
    assert k > 1


@each_call("move")
def test_stopped_at_any_command_a_call_can_be_made_again(
    queue: Any, client: redis.Redis, move: str
) -> None:
    script, args, gone = ARGS[move]
    for k in range(1000):
        client.flushall()
        uids = seed_for(client, move)
        slot = slot_for(queue, client, move)
        failure(queue, stopped(script, k), *args, slot=slot)
        if not is_stopped(client):
            break
        call(queue, script, *args, slot=slot)
        more = {"new", "other"} if script in (PUT, PUT_NEW) else set()
        keys = snapshot(client)
        assert keys.get("items", {}).keys() == uids - set(gone) | more
        check_nothing_lost(client, uids | more)
    assert k > 1


@each_call("move")
def test_a_command_that_is_not_permitted_loses_nothing(
    queue: Any, make: Make, client: redis.Redis, move: str
) -> None:
    """Each of those that the script calls: wherever it is refused, the script stops."""
    script, args, gone = ARGS[move]
    for command in sorted(set(re.findall(r"redis\.p?call\('(\w+)'", script.text))):
        client.flushall()
        uids, slot = seed_for(client, move), slot_for(queue, client, move)
        user = ("ACL", "SETUSER", "limited", "on", "nopass", "~*", "+@all", f"-{command.lower()}")
        client.execute_command(*user)
        try:
            limited = make(username="limited", password="any")
            limited._at = NOW
            error = failure(limited, script, *args, slot=slot)
        finally:
            client.execute_command("ACL", "DELUSER", "limited")
        check_nothing_lost(client, uids | {"new", "other"})
        assert "permission" in (error or "permission") or "can't run this command" in str(error)
        keys = snapshot(client)
        assert keys.get("items", {}).keys() >= uids - set(gone)
        left = set(keys.get("items", ())) - keys.get("dead", {}).keys()
        assert sorted(drain_later(queue, client)) == sorted(left), f"without {command}"


@each_call("move")
@pytest.mark.parametrize(
    "broken", ["ackbuf", "backup", "backuplock", "meta", "dead", "reasons", "leases"]
)
def test_a_key_of_the_wrong_type_loses_nothing(
    queue: Any, client: redis.Redis, move: str, broken: str
) -> None:
    uids = seed_for(client, move)
    key = f"srq:test:{broken}"
    lost = set(client.lrange(key, 0, -1)) if broken in ("ackbuf", "backup") else set()
    lost |= set(client.zrange(key, 0, -1)) if broken == "leases" else set()
    kept = uids - {uid.decode() for uid in lost} - ({"d"} if broken == "dead" else set())
    client.delete(key)
    if broken in ("ackbuf", "backup"):
        client.set(key, "a string")
    else:
        client.rpush(key, "a list")
    script, args, gone = ARGS[move]
    error = failure(queue, script, *args, slot=slot_for(queue, client, move))
    assert "WRONGTYPE" in (error or "WRONGTYPE")
    keys = snapshot(client)
    assert keys.get("items", {}).keys() >= kept - set(gone)
    check_nothing_lost(client, kept | {"new", "other"})


@pytest.mark.parametrize("broken", ["items", "queue"])
@pytest.mark.parametrize("move", ["put", "quick put", "fail", "hand back"])
def test_nothing_moves_while_items_or_queue_are_no_hash_or_list(
    queue: Any, client: redis.Redis, move: str, broken: str
) -> None:
    slot = slot_for(queue, client, move)
    seed(client, items={"a": "A"}, ackbuf=["a"], meta=OUT)
    client.delete(f"srq:test:{broken}")
    seed(client, **{broken: "a string"})
    before = snapshot(client)
    script, args, _gone = ARGS[move]
    assert "WRONGTYPE" in (failure(queue, script, *args, slot=slot) or "")
    after = snapshot(client)
    assert after.pop("meta").keys() == before.pop("meta").keys()
    assert after == before


# -- a full server ---------------------------------------------------------------------------------


@pytest.fixture
def fill(client: redis.Redis) -> Iterator[Callable[[], None]]:
    """Call it, and the server refuses whatever needs memory."""
    before = client.config_get("maxmemory*")

    def full() -> None:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)

    yield full
    client.config_set("maxmemory", before["maxmemory"])
    client.config_set("maxmemory-policy", before["maxmemory-policy"])


def test_a_full_server_refuses_a_put_and_stores_nothing(
    queue: Any, client: redis.Redis, fill: Callable[[], None]
) -> None:
    fill()
    with pytest.raises(redis.ResponseError, match="command not allowed"):
        queue.put("a")
    with pytest.raises(redis.ResponseError, match="command not allowed"):
        queue.put_many(["a", "b"])
    assert snapshot(client) == {}


@each_call("move")
def test_on_a_full_server_only_what_adds_an_item_is_refused_and_that_changes_nothing(
    queue: Any, client: redis.Redis, fill: Callable[[], None], move: str
) -> None:
    seed_for(client, move)
    before = snapshot(client)
    script, args, _gone = ARGS[move]
    slot = slot_for(queue, client, move)
    fill()
    error = failure(queue, script, *args, slot=slot)
    if script in (PUT, PUT_NEW, FORWARD):
        assert "command not allowed" in str(error)
        assert snapshot(client) == before
    else:
        assert error is None
        check_nothing_lost(client, set("abcdefghijkl"))


@pytest.mark.parametrize("put", [(PUT, *PLAIN), (PUT_NEW,)])
def test_a_put_sent_again_to_a_full_server_is_answered(
    queue: Any, client: redis.Redis, fill: Callable[[], None], put: tuple[Any, ...]
) -> None:
    slot = used_slot(queue, client)
    assert call(queue, *put, "a", "A", slot=slot) == 1
    fill()
    assert call(queue, *put, "a", "A", slot=slot) == 1
    assert snapshot(client) == {"items": {"a": "A"}, "queue": ["a"]}


def test_a_full_server_can_be_emptied(
    queue: Any, client: redis.Redis, fill: Callable[[], None]
) -> None:
    uids = queue.put_many(str(n) for n in range(20))
    orphans = [queue.get(-1).uid for _ in range(5)]
    lapse(client)
    fill()
    failed = [queue.get(-1).uid for _ in range(5)]
    assert [queue.fail(uid) for uid in failed] == [True] * 5
    lapse(client)
    assert orphans + failed == uids[:10]
    assert drain(queue, client) == uids[10:] + failed + orphans
    assert snapshot(client).keys() <= {"backuplock"}


def test_stale_calls_and_purge_are_answered_on_a_full_server(
    queue: Any, fill: Callable[[], None]
) -> None:
    queue.put("a")
    stale = queue.get(-1).uid
    queue.fail(stale)
    fill()
    assert queue.fail(stale) is False
    assert queue.ack(_uid("nobody's", "tok", 1)) is False
    assert queue.ack(stale) is False
    assert queue.stats().total == 1
    assert queue.purge() == 1


def test_a_full_server_does_not_end_a_get_that_waits(queue: Any, fill: Callable[[], None]) -> None:
    fill()
    assert queue.get(0.5) == (None, None)


def test_an_undecodable_item_is_put_aside_on_a_full_server(
    make: Make, client: redis.Redis, fill: Callable[[], None]
) -> None:
    queue = make(decode_responses=True)
    seed(client, items={"a": b"\xff", "b": b"good"}, queue=["b", "a"])
    fill()
    assert queue.get(-1) == ("b", "good")
    assert snapshot(client)["dead"].keys() == {"a"}
