"""Each script alone: the keys before, one call, the keys after."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
import redis

from helpers import Make, call, check_places, seed, snapshot
from moves import NOW, OUT, PLAIN, SLICE, claim, claim_many, put_terms, used_slot
from saferedisqueue import (
    ACK,
    BURY,
    FAIL,
    HAND_BACK,
    PEEK,
    PURGE,
    PURGE_DEAD,
    PUT,
    RELEASE,
    RESUME,
    REVIVE,
    STATS,
    Script,
)


@pytest.fixture
def queue(make: Make) -> Any:
    queue = make()
    queue._at = NOW
    return queue


# -- put -------------------------------------------------------------------------------------------


def test_put_adds_at_the_left(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a"])
    assert call(queue, PUT, *PLAIN, "b", "B", "c", "C") == 2
    assert snapshot(client) == {"items": {"a": "A", "b": "B", "c": "C"}, "queue": ["c", "b", "a"]}


def test_put_leaves_an_item_that_is_there_as_it_is(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"])
    assert call(queue, PUT, *PLAIN, "a", "other", "b", "B") == 1
    assert snapshot(client) == {"items": {"a": "A", "b": "B"}, "queue": ["b"], "ackbuf": ["a"]}


# -- ack, fail, hand back, bury --------------------------------------------------------------------


ZSETS = ("leases", "delayed", "priority", "held", "dead")


@pytest.mark.parametrize("place", ["queue", "handed", "ackbuf", "backup", *ZSETS])
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
    assert "a" not in keys[place]
    assert place != "dead" or keys["reasons"] == {"b": "r"}


def test_ack_of_what_is_not_in_the_list_counts_a_ghost_there_that_goes_too(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["a", "b"], delayed={"a": 1})
    seed(client, meta={"a": "0 0 -  g1"})
    assert call(queue, ACK, "a", "") == 1
    assert snapshot(client) == {"items": {"b": ""}, "queue": ["b"]}


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
    "fail": (FAIL, ("", "", SLICE), (0,)),
    "fail later": (FAIL, ("", "", SLICE), (1000,)),
    "fail for good": (FAIL, (1, "", SLICE), (0,)),
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
    assert call(queue, ACK, "a", "a.b_c:17", slot=used_slot(queue, client, ACK)) == 0
    assert call(queue, ACK, "a", "a-b_c:17", slot=used_slot(queue, client, ACK)) == 1
    assert "ackbuf" not in snapshot(client)


def test_the_short_way_of_an_ack_finds_what_an_interval_has_moved(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": "A"}, backup=["a"], meta={"a": f"1 {NOW} tok "}, reasons={"a": "old"})
    assert call(queue, ACK, "a", "tok", slot=used_slot(queue, client, ACK)) == 1
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
    ("script", "ready", "about"),
    [("fail", ["a", "z"], "1 0 - "), ("hand back", ["z", "a"], "0 0 < ")],
)
def test_fail_goes_to_the_back_and_hand_back_to_the_front(
    queue: Any, client: redis.Redis, place: str, script: str, ready: list[str], about: str
) -> None:
    seed(client, items=dict.fromkeys("abz", ""), queue=["z"], meta=OUT)
    seed(client, **{place: ["b", "a"]})
    assert fenced(queue, script, "tok") == 1
    keys = snapshot(client)
    assert (keys["queue"], keys[place]) == (ready, ["b"])
    assert keys["meta"] == {"a": about}
    assert fenced(queue, script, "tok") == 0


def test_fail_needs_no_token_and_no_meta(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"])
    assert call(queue, FAIL, "", "", SLICE, "a", "", 0) == 1
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
    assert call(queue, PURGE_DEAD, "", "") == 100
    keys = snapshot(client)
    assert (keys["queue"], list(keys["dead"])) == (uids[99::-1], uids[200:])


def test_what_is_shorter_than_a_millisecond_is_not_early(queue: Any, client: redis.Redis) -> None:
    uid = queue.put("a", delay=0.0011)
    assert snapshot(client)["delayed"] == {uid: NOW + 2}


# -- the front of the queue ------------------------------------------------------------------------


def uid_of(n: int) -> str:
    """A uid of 36 characters, as the queue makes them: in the order of time."""
    return f"{n:08d}-0000-7000-8000-000000000000"


def hand_back(queue: Any, *uids: str, uncounted: int = 1) -> int:
    return int(call(queue, HAND_BACK, uncounted, *(part for uid in uids for part in (uid, ""))))


A, B, C, D, E = (uid_of(n) for n in range(5))


@pytest.mark.parametrize("order", [*itertools.permutations((A, B, C))])
def test_what_is_handed_back_stands_in_the_order_of_put(
    queue: Any, client: redis.Redis, order: tuple[str, ...]
) -> None:
    """Whoever hands back first: so does each of several consumers that end."""
    seed(client, items=dict.fromkeys((A, B, C, D, E), ""), queue=[E, D], ackbuf=[A, B, C])
    seed(client, meta=dict.fromkeys((A, B, C), OUT["a"]))
    for uid in order:
        assert hand_back(queue, uid) == 1
        check_places(client)
    assert snapshot(client)["queue"] == [E, D, C, B, A]
    assert snapshot(client)["meta"] == dict.fromkeys((A, B, C), "0 0 < ")


def test_a_hand_back_passes_only_what_was_handed_back(queue: Any, client: redis.Redis) -> None:
    """What was put before it, and never got or failed since, has no place before it."""
    for about in ("1 0 - ", "1 5 tok ", None):
        client.flushall()
        seed(client, items=dict.fromkeys((A, B, C), ""), queue=[C, A], ackbuf=[B])
        seed(client, meta={B: OUT["a"], **({A: about} if about else {})})
        assert hand_back(queue, B) == 1
        assert snapshot(client)["queue"] == [C, A, B]


@pytest.mark.parametrize("ends", ["", "ghost", "own"])
def test_a_hand_back_goes_before_a_bell_a_ghost_and_a_callers_own_uid(
    queue: Any, client: redis.Redis, ends: str
) -> None:
    seed(client, items={A: "", "own": "", B: ""}, queue=[A, ends], ackbuf=[B])
    seed(client, meta={A: "0 0 < ", "own": "0 0 < ", B: OUT["a"], "ghost": "0 0 < "})
    assert hand_back(queue, B) == 1
    assert snapshot(client)["queue"] == [A, ends, B]


def test_a_uid_of_the_callers_own_goes_to_the_very_front(queue: Any, client: redis.Redis) -> None:
    """There is no order to go by."""
    seed(client, items={A: "", "b": "", "c": ""}, queue=["c", A], ackbuf=["b"])
    seed(client, meta={A: "0 0 < ", "b": OUT["a"]})
    assert hand_back(queue, "b") == 1
    assert snapshot(client)["queue"] == ["c", A, "b"]


def test_what_is_handed_back_under_random_uids_stands_in_the_order_in_which_it_was_got(
    queue: Any, client: redis.Redis
) -> None:
    """A uid of 36 characters tells a time only if it is a UUID of version 7."""
    uids = [f"{n:08x}-0000-4000-8000-000000000000" for n in (3, 1, 4, 2, 5)]
    seed(client, items=dict.fromkeys(uids, ""), ackbuf=uids[::-1])
    seed(client, meta=dict.fromkeys(uids, OUT["a"]))
    assert call(queue, HAND_BACK, 1, *(part for uid in uids[::-1] for part in (uid, "tok"))) == 5
    assert snapshot(client)["queue"] == uids[::-1]


@pytest.mark.parametrize(
    ("first", "second"), [(A.replace("-7", "-4"), B), (A, B.replace("-7", "-4")), ("a" * 36, B)]
)
def test_36_characters_that_are_no_uuid_of_version_7_tell_no_time(
    queue: Any, client: redis.Redis, first: str, second: str
) -> None:
    seed(client, items={first: "", second: ""}, queue=[first], ackbuf=[second])
    seed(client, meta={first: "0 0 < ", second: OUT["a"]})
    assert hand_back(queue, second) == 1
    assert snapshot(client)["queue"] == [first, second]


def test_a_hand_back_passes_a_hundred_at_most(queue: Any, client: redis.Redis) -> None:
    uids = [uid_of(n) for n in range(150)]
    late = uid_of(200)
    seed(client, items=dict.fromkeys([*uids, late], ""), queue=uids[::-1], ackbuf=[late])
    seed(client, meta={**dict.fromkeys(uids, "0 0 < "), late: OUT["a"]})
    assert hand_back(queue, late) == 1
    assert snapshot(client)["queue"] == [*uids[:99:-1], late, *uids[99::-1]]


@pytest.mark.parametrize("seed_of_chance", range(30))
def test_many_that_are_handed_back_in_one_call_end_as_one_by_one(
    queue: Any, client: redis.Redis, seed_of_chance: int
) -> None:
    """Also callers' own uids, of a priority, settled meanwhile, named twice, or in any order."""
    chance = random.Random(seed_of_chance)
    uids = [uid_of(n) if chance.random() < 0.9 else f"own{n}" for n in range(300)]
    out = set(chance.sample(uids, chance.randrange(1, 150)))
    listed = [uid for uid in uids if uid not in out]
    metas = {uid: "0 0 < " if chance.random() < 0.95 else "1 0 - " for uid in listed}
    metas |= {uid: chance.choice([OUT["a"]] * 9 + [f"{OUT['a']}5", "2 5 x "]) for uid in out}
    back = chance.choice([sorted(out, reverse=True), [*out, *chance.sample([*out], 1)]])
    ends = []
    for size in (len(back), 1):
        client.flushall()
        seed(client, items=dict.fromkeys(uids, ""), queue=listed[::-1], meta=metas)
        seed(client, leases=dict.fromkeys(out, NOW + 5))
        count = 0
        for i in range(0, len(back), size):
            args = (part for uid in back[i : i + size] for part in (uid, "tok"))
            count += call(queue, HAND_BACK, 1, *args)
        check_places(client)
        ends.append((count, snapshot(client)))
    assert ends[0] == ends[1]


def test_a_hand_back_puts_what_was_handed_behind_it(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcde", ""), handed=["c", "b"], queue=["e", "d"])
    seed(client, ackbuf=["a"], meta=OUT)
    assert hand_back(queue, "a") == 1
    keys = snapshot(client)
    assert (keys["queue"], "handed" in keys) == ([*"edcba"], False)


@pytest.mark.parametrize(("uncounted", "about"), [(1, "2 0 < "), (0, "3 0 < ")])
def test_a_hand_back_is_a_delivery_or_none(
    queue: Any, client: redis.Redis, uncounted: int, about: str
) -> None:
    seed(client, items={"a": ""}, leases={"a": NOW + 1}, meta={"a": "3 5 tok "})
    assert hand_back(queue, "a", uncounted=uncounted) == 1
    assert snapshot(client) == {"items": {"a": ""}, "queue": ["a"], "meta": {"a": about}}


def test_resume_puts_back_what_was_handed_in_the_pause(queue: Any, client: redis.Redis) -> None:
    seed(client, paused="1", items=dict.fromkeys("abcd", ""), handed=["b", "a"], queue=["d", "c"])
    assert call(queue, RESUME) == 1
    assert snapshot(client) == {"items": dict.fromkeys("abcd", ""), "queue": [*"dcba"]}


# -- held ------------------------------------------------------------------------------------------


def test_what_is_held_is_not_got_until_it_is_released(queue: Any, client: redis.Redis) -> None:
    assert call(queue, PUT, *put_terms(hold="1"), "a", "A") == 1
    assert snapshot(client) == {"items": {"a": "A"}, "held": {"a": NOW}, "meta": {"a": "0 0 - "}}
    assert claim(queue) == [-1]
    queue.put("b", uid="b")
    assert call(queue, RELEASE, "a") == 1
    assert snapshot(client)["queue"] == ["a", "b"], "at the back from then on"
    check_places(client)
    assert claim_many(queue, 9) == ["b", "a"]


def test_a_release_of_what_is_not_held_does_nothing(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b"], ackbuf=["a"], meta=OUT)
    before = snapshot(client)
    for uid in ("a", "b", "nobody"):
        assert call(queue, RELEASE, uid) == 0
    assert snapshot(client) == before


def test_a_release_of_what_is_gone_says_so_and_leaves_nothing(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, held={"a": 1})
    assert call(queue, RELEASE, "a") == 0
    assert snapshot(client) == {}


def test_what_is_released_is_of_its_priority(queue: Any, client: redis.Redis) -> None:
    assert call(queue, PUT, *put_terms(level=3, hold="1"), "a", "A") == 1
    assert snapshot(client).keys() == {"items", "meta", "held"}, "it rings no bell"
    queue.put("b")
    assert call(queue, RELEASE, "a") == 1
    keys = snapshot(client)
    assert (list(keys["priority"]), keys["queue"][0], "held" in keys) == (["a"], "", False)
    assert claim(queue)[0] == b"a"


def test_what_is_held_exists_and_can_be_removed(queue: Any, client: redis.Redis) -> None:
    queue.put("a", uid="a", held=True)
    assert queue.put("again", uid="a") is None
    assert queue.exists("a")
    assert queue.peek(9) == []
    assert queue.stats() == (0, 0, 0, 0, 1, False, None, 1)
    assert queue.join(-1) is True
    for settle in (queue.fail, queue.touch, queue.bury):
        assert settle("a") is False, "it is not in flight"
    assert queue.remove("a") is True
    assert snapshot(client) == {}
    queue.put("b", held=True)
    assert queue.purge() == 1
    assert snapshot(client) == {}


# -- looking ---------------------------------------------------------------------------------------


def test_peek_shows_what_was_handed_before_the_queue(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcdhl", ""), handed=["", "b", "ghost", "a"])
    seed(client, queue=["d", "", "c"], priority={"h": -5, "l": 5})
    places = ["h", "a", None, "b", None, "c", None, "d", "l"]
    for first, count in itertools.product(range(10), (1, 2, 9)):
        looked, found = call(queue, PEEK, first, count)
        shown = places[first : first + count]
        assert looked == len(shown)
        assert [uid.decode() for uid in found[::3]] == [uid for uid in shown if uid]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"handed": ["b", "a"], "queue": ["c"]}, b"a"),
        ({"handed": [""], "queue": ["c", "a"]}, b"a"),
        ({"handed": ["ghost"], "queue": ["a"]}, b"a"),
        ({"handed": ["a"], "priority": {"b": -5}}, b"b"),
        ({"handed": ["a"], "priority": {"b": 5}}, b"a"),
    ],
)
def test_stats_tell_of_what_was_handed_as_ready(
    queue: Any, client: redis.Redis, keys: Any, expected: bytes
) -> None:
    seed(client, items=dict.fromkeys("abc", ""), **keys)
    assert call(queue, STATS) == [NOW, 3, 0, 0, 0, 0, 0, expected]
    assert queue.qsize() == 3


# -- stats, purge ----------------------------------------------------------------------------------


def test_stats_tell_the_numbers_and_the_next_uid(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcdef", ""), queue=["b", "a"], ackbuf=["c"], backup=["d"])
    seed(client, dead={"e": 1, "f": 2})
    assert call(queue, STATS) == [NOW, 6, 2, 0, 0, 2, 0, b"a"]


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
    seed(client, handed=["f"], held={"g": 1}, priority={"h": 1}, delayed={"i": 1}, leases={"j": 1})
    seed(client, name="other", items={"a": "A"})
    assert call(queue, PURGE) == 2
    assert snapshot(client) == {"backuplock": "1"}
    assert snapshot(client, "other") == {"items": {"a": "A"}}
