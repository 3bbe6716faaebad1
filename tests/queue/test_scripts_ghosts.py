"""Ghosts: entries of the list that an item left there when it was removed from deep inside."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import redis

from helpers import Make, call, check_places, seed, snapshot
from moves import NOW, OUT, PLAIN, claim, claim_many, put_terms, used_slot
from saferedisqueue import (
    ACK,
    BURY,
    FAIL,
    FORWARD,
    HAND_BACK,
    PURGE_DEAD,
    PUT,
    RELEASE,
    REVIVE,
    TOUCH,
)

REACH, PROOF = 1000, 10_000  # places from an end: of a removal, and of a search for a second copy


@pytest.fixture
def queue(make: Make) -> Any:
    queue = make()
    queue._at = NOW
    return queue


def fill(client: redis.Redis, left: int, right: int, uid: str = "a") -> None:
    """So many others behind an item, and so many before it."""
    names = [*(f"l{n}" for n in range(left)), uid, *(f"r{n}" for n in range(right))]
    seed(client, items=dict.fromkeys(names, ""), queue=names)


def entries(client: redis.Redis, uid: str = "a") -> int:
    """How often it stands in the list."""
    return sum(
        client.lrange(f"srq:test:{key}", 0, -1).count(uid.encode()) for key in ("queue", "handed")
    )


def about(client: redis.Redis, uid: str = "a") -> str | None:
    return snapshot(client).get("meta", {}).get(uid)


def remove(queue: Any, uid: str = "a") -> int:
    return int(call(queue, ACK, uid, ""))


def put(queue: Any, uid: str = "a", **terms: Any) -> int:
    return int(call(queue, PUT, *put_terms(**terms), uid, uid.upper()))


# -- removed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("left", "right"), [(REACH - 1, 3000), (3000, REACH - 1), (0, 0), (5, 5)])
def test_what_is_removed_near_an_end_leaves_nothing(
    queue: Any, client: redis.Redis, left: int, right: int
) -> None:
    fill(client, left, right)
    assert remove(queue) == 1
    assert (entries(client), about(client)) == (0, None)
    assert client.llen("srq:test:queue") == left + right


def test_what_is_removed_from_deep_inside_leaves_a_ghost_that_is_noted(
    queue: Any, client: redis.Redis
) -> None:
    """A list is searched only near its ends, however long it is."""
    fill(client, REACH, REACH)
    assert remove(queue) == 1
    assert (entries(client), about(client)) == (1, "0 0 -  g1")
    assert not queue.exists("a")
    assert remove(queue) == 0
    assert about(client) == "0 0 -  g1"


def test_a_ghost_is_no_item(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"b": "B"}, queue=["b", "a"], meta={"a": "0 0 -  g1"})
    assert (queue.qsize(), [item.uid for item in queue.peek(9)]) == (1, ["b"])
    for settle in (queue.ack, queue.fail, queue.touch, queue.bury, queue.release, queue.remove):
        assert settle("a") is False
    assert queue.stats().oldest is None
    assert about(client) == "0 0 -  g1"


@pytest.mark.parametrize("how", ["", "g"])
def test_a_ghost_at_the_front_is_dropped_with_its_note(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items={"b": ""}, queue=["b", "a"], meta={"a": "0 0 -  g1"})
    assert claim(queue, "new", how)[0] == b"b"
    assert (entries(client), about(client)) == (0, None)


def test_of_several_ghosts_one_at_a_time_is_dropped(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("bcd", ""), queue=["d", "a", "c", "a", "b", "a"])
    seed(client, meta={"a": "0 0 -  g3"})
    for uid, left in (("b", "0 0 -  g2"), ("c", "0 0 -  g1"), ("d", None)):
        assert claim(queue)[0] == uid.encode()
        assert about(client) == left


def test_what_waits_is_handed_can_be_removed(queue: Any, client: redis.Redis) -> None:
    fill(client, 3000, 0, uid="b")
    seed(client, items={"a": ""}, handed=["a"])
    assert remove(queue) == 1
    assert (entries(client), about(client)) == (0, None)


def test_of_many_that_are_acked_late_each_is_looked_for_near_the_ends(
    queue: Any, client: redis.Redis
) -> None:
    """They are leased no more: their leases are over, and nobody has got them since."""
    seed(client, items=dict.fromkeys([*"abc", *map(str, range(3000))], ""))
    seed(client, queue=["a", *map(str, range(1500)), "b", *map(str, range(1500, 3000)), "c"])
    seed(client, meta=dict.fromkeys("abc", "1 0 tok "))
    assert call(queue, ACK, "a", "tok", "b", "tok", "c", "tok") == 3
    assert snapshot(client)["meta"] == {"b": "0 0 -  g1"}
    assert [entries(client, uid) for uid in "abc"] == [0, 1, 0]


# -- put again -------------------------------------------------------------------------------------

TERMS: dict[str, dict[str, Any]] = {
    "": {},
    "later": {"delay": 60_000},
    "with a priority": {"level": 3},
    "held": {"hold": "1"},
}


def left_ghost(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"b": "", "c": ""}, queue=["b", "a", "c"], meta={"a": "0 0 -  g1"})


@pytest.mark.parametrize("terms", TERMS)
def test_a_put_of_that_uid_keeps_the_note(queue: Any, client: redis.Redis, terms: str) -> None:
    left_ghost(queue, client)
    assert put(queue, **TERMS[terms]) == 1
    assert (about(client) or "").endswith(" g1")
    check_places(client)


@pytest.mark.parametrize("how", ["", "g"])
def test_an_item_that_was_put_again_is_delivered_once_and_at_its_own_place(
    queue: Any, client: redis.Redis, how: str
) -> None:
    left_ghost(queue, client)
    put(queue)
    assert [claim(queue, f"t:{n}", how)[0] for n in range(3)] == [b"c", b"b", b"a"]
    assert about(client) == f"1 {NOW} t:2 "
    assert claim(queue) == [-1]
    check_places(client)


@pytest.mark.parametrize("terms", [terms for terms in TERMS if terms])
def test_a_ghost_does_not_make_what_is_elsewhere_ready(
    queue: Any, client: redis.Redis, terms: str
) -> None:
    left_ghost(queue, client)
    put(queue, **TERMS[terms])
    taken = claim_many(queue, 9)
    expected = ["a", "c", "b"] if terms == "with a priority" else ["c", "b"]
    assert taken == expected
    assert entries(client) == 0
    check_places(client)
    if terms != "with a priority":
        assert about(client) == "0 0 - "


@pytest.mark.parametrize("place", ["ackbuf", "backup", "leases", "dead", "delayed", "held"])
def test_a_ghost_is_dropped_while_its_item_stands_elsewhere(
    queue: Any, client: redis.Redis, place: str
) -> None:
    standing: Any = ["a"] if place in ("ackbuf", "backup") else {"a": NOW + 5}
    seed(client, items={"a": "", "b": ""}, queue=["b", "a"], **{place: standing})
    seed(client, meta={"a": f"{OUT['a']} g2"})
    assert claim(queue)[0] == b"b"
    assert (entries(client), about(client)) == (0, f"{OUT['a']} g1")
    assert set(snapshot(client)[place]) >= {"a"}


def test_a_ghost_that_is_not_proven_to_be_one_is_the_item(queue: Any, client: redis.Redis) -> None:
    """The note may be wrong, where a 3.0.0 has dropped the ghost: the item is not lost by it."""
    for how in ("", "g"):
        client.flushall()
        seed(client, items={"a": ""}, queue=["a"], meta={"a": "0 0 -  g1"})
        assert claim(queue, "new", how) == [b"a", b"", 1]
        assert about(client) == f"1 {NOW} new ", "the lists were looked through: there is none"


@pytest.mark.parametrize("between", [PROOF - 3, PROOF + 500])
def test_a_ghost_is_looked_for_ten_thousand_places_deep(
    queue: Any, client: redis.Redis, between: int
) -> None:
    """In a longer list an item keeps its note: it may be the ghost that is taken for it."""
    names = [f"{n}" for n in range(between)]
    seed(client, items=dict.fromkeys(["a", *names], ""), queue=["a", *names, "a"])
    seed(client, meta={"a": "0 0 -  g1"})
    near = between < PROOF
    assert claim(queue)[0] == (b"%d" % (between - 1) if near else b"a")
    assert about(client) == ("0 0 - " if near else f"1 {NOW} new  g1")
    if not near:
        assert remove(queue) == 1, "acked"
        assert about(client) == "0 0 -  g1", "the other one is the ghost now"
        check_places(client)


def test_a_long_list_keeps_the_note_of_what_stands_once(queue: Any, client: redis.Redis) -> None:
    names = [f"{n}" for n in range(PROOF + 5)]
    seed(client, items=dict.fromkeys(["a", *names], ""), queue=[*names, "a"])
    seed(client, meta={"a": "0 0 -  g1"})
    assert claim(queue)[0] == b"a"
    assert about(client) == f"1 {NOW} new  g1"


def test_what_was_handed_and_its_ghost_in_the_queue_are_two(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": "", "b": ""}, queue=["a", "b"], handed=["a"])
    seed(client, meta={"a": "0 0 -  g1"})
    assert [claim(queue)[0] for _ in "ba"] == [b"b", b"a"]
    assert claim(queue) == [-1]
    check_places(client)


# -- a note goes with its item ---------------------------------------------------------------------

MOVES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "fail": (FAIL, ("", "", 1000, "a", "tok", 0)),
    "fail later": (FAIL, ("", "", 1000, "a", "tok", 5000)),
    "fail for good": (FAIL, (1, "", 1000, "a", "tok", 0)),
    "hand back": (HAND_BACK, (1, "a", "tok")),
    "touch": (TOUCH, (5000, "a", "tok")),
    "bury": (BURY, ("a", "tok", "why")),
    "ack": (ACK, ("a", "tok")),
    "forward": (FORWARD, ("a", "tok", "new", "N")),
}


@pytest.mark.parametrize("move", MOVES)
@pytest.mark.parametrize("place", ["ackbuf", "backup", "leases"])
def test_a_note_outlasts_every_move_of_its_item(
    queue: Any, client: redis.Redis, move: str, place: str
) -> None:
    script, args = MOVES[move]
    held: Any = {"a": NOW + 5} if place == "leases" else ["a"]
    for a_slot in (lambda: None, lambda: used_slot(queue, client, script)):
        client.flushall()
        seed(client, items={"a": ""}, meta={"a": f"{OUT['a']} g2"}, **{place: held})
        keys = None
        if script is FORWARD:
            keys = [*(queue.key(k) for k in FORWARD.keys[:-2]), b"srq:to:items", b"srq:to:queue"]
        call(queue, script, *args, slot=a_slot(), keys=keys)
        assert (about(client) or "").endswith(" g2"), snapshot(client)
        assert place == "leases" or move == "touch" or place not in snapshot(client)


def test_a_note_outlasts_dead_letters_and_releases(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abc", ""), dead={"a": 1, "b": 2}, held={"c": 3})
    seed(client, meta={"a": "3 5 -  g1", "b": "3 5 - 7 g2", "c": "0 0 -  g3"})
    assert call(queue, REVIVE, "a") == [1, 1]
    assert call(queue, PURGE_DEAD, "", "") == 1
    assert call(queue, RELEASE, "c") == 1
    assert snapshot(client)["meta"] == {"a": "0 0 -  g1", "b": "0 0 -  g2", "c": "0 0 -  g3"}


def test_a_note_outlasts_a_lease_that_lapses(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "", "b": ""}, queue=["b"], leases={"a": NOW - 1})
    seed(client, meta={"a": "1 5 tok  g1"})
    assert claim(queue)[0] == b"b"
    assert about(client) == "1 0 tok  g1"


def test_an_item_out_that_a_3_0_0_brought_back_leaves_a_ghost_when_it_is_acked(
    queue: Any, client: redis.Redis
) -> None:
    """Its autoclean moves the uid into the queue and leaves meta as it is."""
    seed(client, items={"a": "", "b": ""}, queue=["a", "b"], meta=OUT)
    assert call(queue, ACK, "a", "tok", slot=used_slot(queue, client, ACK)) == 1
    assert (entries(client), about(client)) == (1, "0 0 -  g1")
    assert put(queue) == 1
    assert [claim(queue)[0] for _ in "ba"] == [b"b", b"a"]
    assert claim(queue) == [-1]


# -- nothing grows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("others", [0, 1500])
def test_what_is_put_and_removed_again_and_again_leaves_nothing(
    queue: Any, client: redis.Redis, others: int
) -> None:
    if others:
        fill(client, 0, others, uid="front")
    before = snapshot(client)
    for n in range(50):
        uid = queue.put("a") if n % 2 else queue.put("a", uid="own")
        assert queue.remove(uid)
    assert snapshot(client) == before


def test_what_is_removed_and_put_again_deep_inside_leaves_a_ghost_a_thousand_places_at_most(
    queue: Any, client: redis.Redis
) -> None:
    """One that is near the end is taken out: so it must have gone in by as many places before."""
    fill(client, 0, REACH, uid="front")
    for n in range(4):
        put(queue)
        others = [f"{n}-{i}" for i in range(REACH)]
        seed(client, items=dict.fromkeys(others, ""))
        client.lpush("srq:test:queue", *others)
        remove(queue)
    assert entries(client) == 4
    assert about(client) == "0 0 -  g4"
    while claim_many(queue, 250, lease=9):
        pass
    assert (entries(client), about(client)) == (0, None)


def test_whatever_is_removed_and_put_again_is_delivered_exactly_once(
    queue: Any, client: redis.Redis
) -> None:
    """Wherever it stood, in any order of two uids."""
    for order in itertools.product("ab", repeat=4):
        client.flushall()
        fill(client, REACH, REACH, uid="a")
        client.linsert("srq:test:queue", "AFTER", "a", "b")
        seed(client, items={"b": ""})
        for uid in order:
            remove(queue, uid)
            assert call(queue, PUT, *PLAIN, uid, "") == 1
        taken: list[str] = []
        while batch := claim_many(queue, 250, lease=9):
            taken += batch
        assert sorted(uid for uid in taken if len(uid) == 1) == ["a", "b"]
        assert len(taken) == 2 * REACH + 2
        check_places(client)
