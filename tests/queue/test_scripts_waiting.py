"""What waits: the front list that a wait is handed, bells, and who watches for what is due next."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import redis

from helpers import Make, call, check_places, seed, snapshot
from moves import (
    NOW,
    OUT,
    SLICE,
    claim,
    claim_many,
    claiming,
    new_slot,
    noted,
    put_terms,
)
from saferedisqueue import CLAIM, FAIL, HAND_BACK, PUT, RESUME, UNDO

HOUR = 3_600_000  # ms


@pytest.fixture
def queue(make: Make) -> Any:
    queue = make()
    queue._at = NOW
    return queue


def wait(client: redis.Redis) -> bytes | None:
    """What stands before the claim of one who waits."""
    moved: bytes | None = client.blmove("srq:test:queue", "srq:test:handed", 0.01, "RIGHT", "LEFT")
    return moved


def lists(client: redis.Redis) -> tuple[list[str], list[str]]:
    """queue and handed, from left to right: what is next stands last."""
    keys = snapshot(client)
    return keys.get("queue", []), keys.get("handed", [])


# -- the front list --------------------------------------------------------------------------------

EACH_HOW = pytest.mark.parametrize("how", ["", "w", "g", "gw", "b", "bw", "gb", "gbw", "ab"])


@EACH_HOW
def test_every_claim_takes_first_what_a_wait_was_handed(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items=dict.fromkeys("abcd", ""), queue=["d", "c"], handed=["b", "a"])
    assert [claim(queue, "new", how)[0] for _ in "abcd"] == [b"a", b"b", b"c", b"d"]


@EACH_HOW
def test_a_batch_begins_with_what_a_wait_was_handed(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items=dict.fromkeys("abcd", ""), queue=["d", "c"], handed=["b", "a"])
    taken = []
    while batch := claim_many(queue, 3, "new", how):
        taken += batch
    assert taken == [*"abcd"]
    check_places(client)


@pytest.mark.parametrize("lease", ["", 5000])
def test_a_claim_behind_its_wait_takes_what_that_was_handed(
    queue: Any, client: redis.Redis, lease: Any
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b", "a"])
    assert wait(client) == b"a"
    assert lists(client) == (["b"], ["a"])
    check_places(client)
    assert claim(queue, "new", "bw", lease=lease) == [b"a", b"", 1]
    assert lists(client) == (["b"], [])
    assert set(snapshot(client)["leases" if lease else "ackbuf"]) == {"a"}


def test_whoever_claims_takes_the_oldest_whatever_its_own_wait_was_handed(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"])
    assert [wait(client), wait(client), wait(client)] == [b"a", b"b", b"c"]
    assert lists(client) == ([], [*"cba"])
    assert [claim(queue, "new", "bw")[0] for _ in "abc"] == [b"a", b"b", b"c"]


def test_what_a_waiter_that_died_was_handed_is_ready_for_any_claim(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b", "a"])
    wait(client)
    assert (queue.qsize(), queue.stats().in_flight) == (2, 0)
    assert [item.uid for item in queue.peek(9)] == ["a", "b"]
    assert claim(queue, "new", "") == [b"a", b"", 1]


def test_a_higher_priority_is_taken_before_what_was_handed_and_a_lower_one_after(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("abhl", ""), queue=["b"], handed=["a"])
    seed(client, priority={"h": -5, "l": 5})
    assert [claim(queue, "new", "bw")[0] for _ in "habl"] == [b"h", b"a", b"b", b"l"]


def test_a_wait_that_ended_without_an_item_takes_from_the_queue(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": ""}, queue=["a"])
    assert claim(queue, "new", "bw") == [b"a", b"", 1]


@pytest.mark.parametrize("handed", ["", "ghost"])
def test_what_was_handed_and_is_no_item_is_dropped(
    queue: Any, client: redis.Redis, handed: str
) -> None:
    seed(client, items={"a": ""}, queue=["a"], handed=[handed])
    if handed:
        seed(client, meta={handed: "0 0 -  g1"})
    assert claim(queue, "new", "bw") == [b"a", b"", 1]
    assert snapshot(client).keys() == {"items", "ackbuf", "meta"}
    assert snapshot(client)["meta"].keys() == {"a"}


def test_in_a_pause_what_was_handed_and_every_bell_stay(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["", "b"], handed=["", "a"], paused="1")
    before = snapshot(client)
    for how in ("", "w", "g", "bw", "gbw"):
        assert claim(queue, "new", how, interval=60_000, watching=NOW) == [-2]
    assert snapshot(client) == before


# -- a wake-up is passed on ------------------------------------------------------------------------


def claim_again(queue: Any, slot: Any, number: int) -> Any:
    """The claim of this number of the slot, behind a wait."""
    slot.claims = number
    return call(queue, CLAIM, *claiming(slot.token, "bw"), slot=slot)


@pytest.fixture
def at_two(queue: Any, client: redis.Redis) -> Any:
    """A slot whose claim 2 has taken "x"."""
    slot = queue._take_slot()
    seed(client, items={"x": ""}, queue=["x"])
    slot.claims = 2
    assert call(queue, CLAIM, *claiming(slot.token, ""), slot=slot)[3] == b"x"
    seed(client, items=dict.fromkeys("abc", ""), queue=["c"], handed=["b", "a"])
    return slot


def test_a_refused_claim_behind_a_wait_passes_its_wake_up_on(
    queue: Any, client: redis.Redis, at_two: Any
) -> None:
    """Once: others may wait behind it, and it was woken in their place."""
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        claim_again(queue, at_two, 1)
    assert lists(client) == (["c", "b"], ["a"])
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        claim_again(queue, at_two, 1)
    assert lists(client) == (["c", "b", "a"], [])
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        claim_again(queue, at_two, 1)
    assert lists(client) == (["c", "b", "a"], [])


def test_a_repeated_claim_behind_a_wait_passes_its_wake_up_on(
    queue: Any, client: redis.Redis, at_two: Any
) -> None:
    assert claim_again(queue, at_two, 2)[3:] == [b"x", b"", 1]
    assert lists(client) == (["c", "b"], ["a"])


def test_one_that_stands_behind_no_wait_passes_none_on(
    queue: Any, client: redis.Redis, at_two: Any
) -> None:
    assert call(queue, CLAIM, *claiming(at_two.token, "gaw"), slot=at_two)[3] == b"x"
    at_two.claims = 1
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        call(queue, CLAIM, *claiming(at_two.token, "gaw"), slot=at_two)
    assert lists(client) == (["c"], ["b", "a"])


@pytest.mark.parametrize("number", [1, 2])
def test_in_a_pause_no_wake_up_is_passed_on(
    queue: Any, client: redis.Redis, at_two: Any, number: int
) -> None:
    """It would wake a next one, whose claim is handed nothing, and so on for ever."""
    client.set("srq:test:paused", 1)
    with contextlib.suppress(redis.ResponseError):  # the first is refused
        claim_again(queue, at_two, number)
    assert lists(client) == (["c"], ["b", "a"])


def test_the_order_stays_whatever_is_passed_on_and_handed_again(
    queue: Any, client: redis.Redis, at_two: Any
) -> None:
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        claim_again(queue, at_two, 1)
    assert wait(client) == b"b"
    assert [claim(queue, "new", "bw")[0] for _ in "abc"] == [b"a", b"b", b"c"]


FRONT: dict[str, Callable[[Any], Any]] = {
    "resume": lambda queue: call(queue, RESUME),
    "hand back": lambda queue: call(queue, HAND_BACK, 1, "x", "tok"),
}


@pytest.mark.parametrize("move", FRONT)
def test_what_goes_to_the_front_puts_back_first_what_was_handed(
    queue: Any, client: redis.Redis, move: str
) -> None:
    seed(client, items=dict.fromkeys("abcdx", ""), queue=["d"], handed=[*"cba"])
    seed(client, ackbuf=["x"], meta={"x": OUT["a"]})
    FRONT[move](queue)
    assert lists(client) == (["d", "c", "b", "a", *(["x"] if move == "hand back" else [])], [])


# -- undo ------------------------------------------------------------------------------------------


def undo(queue: Any, slot: Any, watching: str = "") -> int:
    """Of the claim that this slot has counted last."""
    token = slot.token
    return int(call(queue, UNDO, token, watching, SLICE, slot=slot.count(UNDO)))


@pytest.mark.parametrize("lease", ["", 5000])
@pytest.mark.parametrize("how", ["", "g"])
def test_an_undone_delivery_was_none_and_its_items_are_next(
    queue: Any, client: redis.Redis, how: str, lease: Any
) -> None:
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"])
    slot = new_slot(queue, CLAIM)
    assert claim_many(queue, 2, slot.token, how, lease=lease, slot=slot) == ["a", "b"]
    assert undo(queue, slot) == 1
    assert snapshot(client) == {
        "items": dict.fromkeys("abc", ""),
        "queue": [*"cba"],
        "meta": dict.fromkeys("ab", "0 0 < "),
    }
    assert noted(client, slot) == {"last": "2  "}
    assert claim_many(queue, 9, lease=5000) == [*"abc"], "they are as if they had not been got"


def test_an_undo_puts_back_first_what_was_handed(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abc", ""), queue=["a"])
    slot = new_slot(queue, CLAIM)
    assert claim(queue, slot.token, slot=slot)[0] == b"a"
    seed(client, queue=["c"], handed=["b"])
    undo(queue, slot)
    assert lists(client) == ([*"cba"], [])


def test_an_undo_sent_again_does_nothing(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b", "a"])
    slot = new_slot(queue, CLAIM)
    claim(queue, slot.token, slot=slot)
    token = slot.token
    slot.count(UNDO)
    assert call(queue, UNDO, token, "", SLICE, slot=slot) == 1
    assert claim(queue, token, "") == [b"a", b"", 1]
    before = snapshot(client)
    assert call(queue, UNDO, token, "", SLICE, slot=slot) == 1
    assert snapshot(client) == before, "the token alone would say that it is still its own"


def test_an_undo_of_what_was_settled_or_claimed_by_another_undoes_nothing(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"])
    slot = new_slot(queue, CLAIM)
    assert claim_many(queue, 3, slot.token, lease=5000, slot=slot) == [*"abc"]
    call(queue, FAIL, "", "", SLICE, "a", slot.token, 0)
    queue.ack("b")
    seed(client, meta={"c": f"2 {NOW} other "})
    before = snapshot(client)
    assert undo(queue, slot) == 1
    assert snapshot(client) == before


@pytest.mark.parametrize("how", ["", "g", "bw", "a"])
def test_a_claim_that_comes_after_its_undo_is_refused(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items={"a": "A"}, queue=["a"])
    slot = new_slot(queue, CLAIM)
    assert undo(queue, slot) == 1
    slot.claims = 1
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        claim(queue, "new", how, slot=slot)
    assert snapshot(client) == {"items": {"a": "A"}, "queue": ["a"]}


def test_an_undo_of_a_claim_that_never_came_undoes_no_other(
    queue: Any, client: redis.Redis
) -> None:
    """What is noted is of the claim before it, whose items their holder may still have."""
    seed(client, items={"a": ""}, queue=["a"])
    slot = new_slot(queue, CLAIM)
    claim(queue, slot.token, slot=slot)
    slot.claims = 2
    before = snapshot(client)
    assert undo(queue, slot) == 1
    assert snapshot(client) == before


# -- an empty claim --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["", "w", "g", "gw", "bw", "gbw"])
@pytest.mark.parametrize("paused", [False, True])
def test_a_claim_that_took_nothing_writes_nothing(
    queue: Any, client: redis.Redis, how: str, paused: bool
) -> None:
    if paused:
        seed(client, paused="1")
    slot = new_slot(queue, CLAIM)
    assert claim(queue, slot.token, how, slot=slot) == [-2 if paused else -1]
    assert noted(client, slot) == {}


@pytest.mark.parametrize("how", ["a", "aw", "ag", "abw"])
@pytest.mark.parametrize("paused", [False, True])
def test_one_that_was_sent_before_is_noted_so_that_its_first_copy_takes_nothing_for_nobody(
    queue: Any, client: redis.Redis, how: str, paused: bool
) -> None:
    if paused:
        seed(client, paused="1")
    slot = new_slot(queue, CLAIM)
    assert claim(queue, slot.token, how, slot=slot) == [-2 if paused else -1]
    assert noted(client, slot) == {"last": "1  "}
    client.delete("srq:test:paused")
    seed(client, items={"a": ""}, queue=["a"])
    for late in ("", "bw", "g"):
        assert claim(queue, slot.token, late, slot=slot) == [0], "the first copy"
    assert lists(client) == (["a"], [])


# -- bells -----------------------------------------------------------------------------------------


def delayed_put(queue: Any, client: redis.Redis, delay: int, uid: str = "new") -> None:
    call(queue, PUT, *put_terms(delay=delay), uid, "")


def failed_later(queue: Any, client: redis.Redis, delay: int) -> None:
    seed(client, items={"out": ""}, ackbuf=["out"], meta={"out": OUT["a"]})
    call(queue, FAIL, "", "", SLICE, "out", "tok", delay)


LATER = pytest.mark.parametrize("later", [delayed_put, failed_later])


@LATER
@pytest.mark.parametrize(("delay", "rings"), [(1, True), (SLICE, True), (SLICE + 1, False)])
def test_a_new_first_due_within_a_slice_rings(
    queue: Any, client: redis.Redis, later: Any, delay: int, rings: bool
) -> None:
    """Beyond a slice nobody need watch yet: each who waits looks once a slice."""
    seed(client, items={"far": ""}, delayed={"far": NOW + 10**7})
    later(queue, client, delay)
    assert snapshot(client).get("queue", []) == [""] * rings


@LATER
@pytest.mark.parametrize(("first", "rings"), [(499, False), (500, False), (501, True)])
def test_what_is_not_the_first_rings_not(
    queue: Any, client: redis.Redis, later: Any, first: int, rings: bool
) -> None:
    seed(client, items={"first": ""}, delayed={"first": NOW + first})
    later(queue, client, 500)
    assert snapshot(client).get("queue", []) == [""] * rings


@LATER
def test_the_bell_stands_at_the_back_and_there_is_one_at_most(
    queue: Any, client: redis.Redis, later: Any
) -> None:
    """What stands before it wakes others first; also where the queue is not empty."""
    seed(client, items=dict.fromkeys("ab", ""), queue=["b", "a"])
    for delay in (500, 400, 300):
        later(queue, client, delay)
    assert snapshot(client)["queue"] == ["", "b", "a"]
    seed(client, items={"c": ""})
    client.lpush("srq:test:queue", "c")
    delayed_put(queue, client, 100, "earlier")
    assert snapshot(client)["queue"] == ["", "c", "", "b", "a"]


@pytest.mark.parametrize("terms", [{"level": 5}, {"level": -5}])
def test_a_priority_rings_by_the_same_rule(queue: Any, client: redis.Redis, terms: Any) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b", "a"])
    for uid in ("c", "d"):
        call(queue, PUT, *put_terms(**terms), uid, "")
    assert snapshot(client)["queue"] == ["", "b", "a"]


def test_many_that_are_put_later_ring_once(queue: Any, client: redis.Redis) -> None:
    call(queue, PUT, *put_terms(delay=500), *itertools.chain(*((f"{n}", "") for n in range(9))))
    assert snapshot(client)["queue"] == [""]


def test_what_is_held_or_only_leased_rings_not(queue: Any, client: redis.Redis) -> None:
    call(queue, PUT, *put_terms(hold="1"), "a", "")
    seed(client, items={"b": ""}, queue=["b"])
    assert claim(queue, "new", "", lease=10)[0] == b"b"
    assert "queue" not in snapshot(client)


# -- who watches -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("times", "verdict"),
    [
        ({"leases": {"a": NOW + 500}}, 500),
        ({"delayed": {"a": NOW + 500}}, 500),
        ({"delayed": {"a": NOW + 0.5}}, 1),
        ({"delayed": {"a": NOW + SLICE}}, SLICE),
        ({"delayed": {"a": NOW + SLICE + 0.5}}, -1),
        ({"leases": {"a": NOW + SLICE + 1}}, -1),
        ({"leases": {"a": NOW + 700}, "delayed": {"b": NOW + 300}}, 300),
        ({"leases": {"a": NOW + 300}, "delayed": {"b": NOW + 700}}, 300),
        ({}, -1),
    ],
)
def test_one_who_waits_is_told_to_watch_for_what_is_next_within_a_slice(
    queue: Any, client: redis.Redis, times: Any, verdict: int
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), **times)
    assert claim(queue, "new", "gw") == [verdict]
    watch, left = snapshot(client).get("watch"), client.pttl("srq:test:watch")
    assert watch == (f"{NOW + verdict}" if verdict > 100 else watch)
    assert (left == -2) if verdict < 0 else (left != -1 and left <= verdict)


@pytest.mark.parametrize(
    ("watched", "verdict"), [(NOW + 400, -1), (NOW + 500, -1), (NOW + 501, 500)]
)
def test_a_second_one_watches_only_for_an_earlier_time(
    queue: Any, client: redis.Redis, watched: int, verdict: int
) -> None:
    seed(client, items={"a": ""}, delayed={"a": NOW + 500}, watch=f"{watched}")
    assert claim(queue, "new", "gw") == [verdict]
    assert snapshot(client)["watch"] == f"{min(watched, NOW + 500)}"


def test_who_will_not_wait_is_not_told_to_watch(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": ""}, delayed={"a": NOW + 500})
    before = snapshot(client)
    assert claim(queue, "new", "g") == [-1]
    assert snapshot(client) == before


def test_who_watches_and_waits_on_is_told_again(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": ""}, delayed={"a": NOW + 500})
    assert claim(queue, "new", "gw") == [500]
    queue._at = NOW + 100
    assert claim(queue, "new", "gw", watching=NOW + 500) == [400]
    assert snapshot(client)["watch"] == f"{NOW + 500}"
    assert "queue" not in snapshot(client), "no bell: it watches itself"


def watching(client: redis.Redis, **keys: Any) -> int:
    """A queue on which somebody was told to watch; the time."""
    seed(client, items=dict.fromkeys("ab", ""), delayed={"a": NOW + 500}, **keys)
    client.set("srq:test:watch", NOW + 500, px=60_000)
    return NOW + 500


def test_who_watches_and_takes_an_item_leaves_it_to_another(
    queue: Any, client: redis.Redis
) -> None:
    watched = watching(client, queue=["b"])
    assert claim(queue, "new", "gw", watching=watched)[0] == b"b"
    keys = snapshot(client)
    assert (keys["queue"], "watch" in keys) == ([""], False)


def test_who_watches_and_gives_up_leaves_it_to_another(queue: Any, client: redis.Redis) -> None:
    watched = watching(client)
    assert claim(queue, "new", "g", watching=watched) == [-1]
    keys = snapshot(client)
    assert (keys["queue"], "watch" in keys) == ([""], False)


def test_who_watches_and_is_undone_leaves_it_to_another(queue: Any, client: redis.Redis) -> None:
    watched = watching(client)
    assert undo(queue, new_slot(queue, CLAIM), f"{watched}") == 1
    keys = snapshot(client)
    assert (keys["queue"], "watch" in keys) == ([""], False)


@pytest.mark.parametrize("leave", ["claim", "undo"])
def test_who_was_told_of_another_time_does_not_end_that_watch(
    queue: Any, client: redis.Redis, leave: str
) -> None:
    """It was overridden: somebody else watches, and no bell is due."""
    watching(client)
    if leave == "claim":
        assert claim(queue, "new", "g", watching=NOW + 900) == [-1]
    else:
        undo(queue, new_slot(queue, CLAIM), f"{NOW + 900}")
    keys = snapshot(client)
    assert ("queue" in keys, keys["watch"]) == (False, f"{NOW + 500}")


@pytest.mark.parametrize("leave", ["claim", "undo"])
def test_who_does_not_know_whether_it_watches_ends_the_watch(
    queue: Any, client: redis.Redis, leave: str
) -> None:
    """Its reply was lost: two who watch are better than none."""
    watching(client)
    if leave == "claim":
        assert claim(queue, "new", "g", watching="any") == [-1]
    else:
        undo(queue, new_slot(queue, CLAIM), "any")
    keys = snapshot(client)
    assert (keys["queue"], "watch" in keys) == ([""], False)


@pytest.mark.parametrize("how", ["", "g"])
def test_who_drops_a_bell_and_takes_an_item_rings_again(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), delayed={"a": NOW + 500}, queue=["b", ""])
    assert claim(queue, "new", how)[0] == b"b"
    assert snapshot(client)["queue"] == [""]


def test_who_drops_a_bell_and_waits_watches_itself(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": ""}, delayed={"a": NOW + 500}, handed=[""])
    assert claim(queue, "new", "bw") == [500]
    keys = snapshot(client)
    assert ("queue" in keys, "handed" in keys, keys["watch"]) == (False, False, f"{NOW + 500}")


def test_who_drops_a_bell_and_will_not_wait_rings_again(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": ""}, delayed={"a": NOW + 500}, handed=[""])
    assert claim(queue, "new", "b") == [-1]
    assert lists(client) == ([""], [])


@pytest.mark.parametrize("watched", [NOW + 400, NOW + 500, None])
@pytest.mark.parametrize("due", [500, SLICE + 1])
def test_a_bell_is_not_rung_again_where_somebody_watches_or_nothing_is_due(
    queue: Any, client: redis.Redis, due: int, watched: int | None
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), delayed={"a": NOW + due}, queue=["b", ""])
    if watched:
        seed(client, watch=f"{watched}")
    assert claim(queue, "new", "g")[0] == b"b"
    assert snapshot(client).get("queue", []) == ([""] if due == 500 and not watched else [])


def test_a_lease_that_ends_next_is_watched_for_but_rings_no_bell(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), leases={"a": NOW + 500}, queue=["b", ""])
    assert claim(queue, "new", "g")[0] == b"b"
    assert "queue" not in snapshot(client)


def test_a_bell_for_a_priority_is_passed_on_to_another(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), priority={"a": -5, "b": -4}, handed=[""])
    assert claim(queue, "new", "bw")[0] == b"a"
    assert snapshot(client)["queue"] == [""]
    assert claim(queue, "new", "bw")[0] == b"b"


def test_who_takes_a_priority_leaves_to_another_what_its_wait_was_handed(
    queue: Any, client: redis.Redis
) -> None:
    """Else that stands in no list that those see who wait."""
    seed(client, items=dict.fromkeys("abc", ""), priority={"a": -5}, handed=["c", "b"])
    assert claim(queue, "new", "bw")[0] == b"a"
    assert lists(client) == (["c"], ["b"]), "the order stays"


def test_who_takes_a_priority_leaves_to_another_what_its_bell_was_for(
    queue: Any, client: redis.Redis
) -> None:
    """One bell may be for both, a priority and what is due."""
    seed(client, items=dict.fromkeys("ab", ""), priority={"a": -5}, handed=[""])
    seed(client, delayed={"b": NOW + 500})
    assert claim(queue, "new", "bw")[0] == b"a"
    assert lists(client) == ([""], [])


@pytest.mark.parametrize("how", ["w", "bw"])
def test_a_bell_that_was_handed_is_dropped_with_the_priority_it_was_for(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items={"a": ""}, priority={"a": -5}, handed=[""])
    assert claim(queue, "new", how)[0] == b"a"
    assert lists(client) == ([], [""] if how == "w" else [])


def test_bells_do_not_circulate(queue: Any, client: redis.Redis) -> None:
    """Nothing is due within a slice: who is woken drops it, and it is gone."""
    seed(client, items={"a": ""}, delayed={"a": NOW + 10**6}, queue=[""])
    assert wait(client) == b""
    assert claim(queue, "new", "bw") == [-1]
    assert lists(client) == ([], [])


def test_once_a_get_has_found_a_queue_empty_no_key_without_expiry_is_left(
    queue: Any, client: redis.Redis
) -> None:
    """Whatever was used before: also lists of waits, bells, watches, and keys of slots."""
    for uid in (queue.put("a"), queue.put("b", delay=0.5), queue.put("c", priority=3)):
        assert queue.remove(uid)
    queue.put("d", held=True)
    queue.put("e", uid="e")
    queue.fail(queue.get(-1).uid)
    queue.ack(queue.get(-1, lease=9).uid)
    held = client.zrange("srq:test:held", 0, -1)[0].decode()
    assert queue.release(held)
    queue.bury(queue.get(-1).uid)
    assert queue.purge_dead() == 1
    client.lpush("srq:test:handed", "", "ghost")
    client.lpush("srq:test:queue", "", "ghost")
    queue._at = NOW + 10_000
    assert queue.get(-1) == (None, None)
    assert [key for key in client.keys("*") if client.ttl(key) < 0] == []


# -- the clock of the server is set ----------------------------------------------------------------


def test_when_the_clock_is_set_back_what_is_due_first_then_is_watched_for(
    queue: Any, client: redis.Redis
) -> None:
    call(queue, PUT, *put_terms(delay=900), "a", "A")
    assert claim(queue, "one", "gw") == [900]
    queue._at = NOW - HOUR
    assert claim(queue, "two", "gw") == [-1]
    call(queue, PUT, *put_terms(delay=400), "b", "B")
    assert lists(client)[0] == [""], "it wakes who waits"
    assert claim(queue, "two", "gw") == [400]
    assert snapshot(client)["watch"] == f"{NOW - HOUR + 400}"
    queue._at = NOW - HOUR + 400
    assert claim(queue, "one", "gw", watching=NOW + 900)[0] == b"b"


def test_when_the_clock_is_set_forward_what_is_delayed_is_due_at_once(
    queue: Any, client: redis.Redis
) -> None:
    call(queue, PUT, *put_terms(delay=900), "a", "A")
    assert claim(queue, "one", "gw") == [900]
    queue._at = NOW + HOUR
    assert claim(queue, "two", "gw")[0] == b"a"
    assert claim(queue, "one", "gw", watching=NOW + 900) == [-1]
    assert "watch" not in snapshot(client)


def test_what_comes_back_after_the_clock_was_set_back_is_delivered(
    queue: Any, client: redis.Redis
) -> None:
    meta = dict.fromkeys("ab", f"1 {NOW} tok ")
    seed(client, items={"a": "", "b": ""}, backup=["a"], leases={"b": NOW - HOUR}, meta=meta)
    queue._at = NOW - HOUR
    got = {claim(queue, holder, interval=1000)[0] for holder in ("one", "two")}
    assert got == {b"a", b"b"}
    check_places(client)


# -- who notes nothing, and who wakes nobody -------------------------------------------------------


@pytest.mark.parametrize("how", ["g", "gw", "gb", "gbw"])
def test_a_claim_that_takes_nothing_notes_nothing_also_the_last_of_a_get(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items={"a": "A"}, held={"a": NOW})
    before = snapshot(client)
    assert claim(queue, "new", how) == [-1]
    assert snapshot(client) == before
    assert client.keys("srq:test:last:*") == []


def test_a_claim_sent_again_without_a_wait_before_it_wakes_nobody(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["a"])
    slot = new_slot(queue, CLAIM)
    args = claiming("new", "g")
    call(queue, CLAIM, *args, slot=slot)
    seed(client, handed=["b"])
    call(queue, CLAIM, *args, slot=slot)
    assert lists(client) == ([], ["b"]), "who was handed it will claim"
