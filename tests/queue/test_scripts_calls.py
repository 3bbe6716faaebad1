"""Numbered calls: what is noted of them, one that is sent again or arrives late, and the short way
of the most frequent ones, which ends as any other.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import saferedisqueue
from helpers import Make, call, seed, snapshot
from moves import (
    ARGS,
    HOUSE,
    NOW,
    OUT,
    PLAIN,
    SLICE,
    check_expiry,
    claim,
    claim_many,
    claimed,
    claiming,
    each_call,
    failure,
    key_of,
    new_slot,
    noted,
    put_terms,
    seed_for,
    seed_little,
    slot_for,
    used_slot,
)
from saferedisqueue import (
    ACK,
    BURY,
    CLAIM,
    FAIL,
    HAND_BACK,
    PURGE,
    PUT,
    PUT_NEW,
    RELEASE,
    REVIVE,
    UNDO,
    Script,
    claim_script,
)


@pytest.fixture
def queue(make: Make) -> Any:
    queue = make()
    queue._at = NOW
    return queue


def test_every_script_is_among_these_calls() -> None:
    scripts = {name for name, value in vars(saferedisqueue).items() if isinstance(value, Script)}
    called = [script for script, _args, _gone in ARGS.values()]
    assert {name for name in scripts if getattr(saferedisqueue, name) not in called} == set()


# -- sent again, or late ---------------------------------------------------------------------------


@each_call("move")
def test_a_call_sent_again_gets_the_same_answer_and_changes_nothing(
    queue: Any, client: redis.Redis, move: str
) -> None:
    uids = seed_for(client, move)
    script, args, _gone = ARGS[move]
    slot = slot_for(queue, client, move)
    answer = call(queue, script, *args, slot=slot)
    before = snapshot(client)
    again = call(queue, script, *args, slot=slot)
    if script is CLAIM:  # how to go on, and from when on, may have changed; what it took has not
        assert (claimed(again)[1], again[2]) == (claimed(answer)[1], answer[2])
    else:
        assert again == answer
    after = snapshot(client)
    if move == "claim after a wait":  # it passes on what its wait was handed: the order is the same
        for keys in (before, after):
            keys["queue"] = [*keys["queue"], *keys.pop("handed", [])]
    assert after == before
    assert uids
    check_expiry(client)


@each_call("move")
def test_an_earlier_call_that_arrives_late_is_refused(
    queue: Any, client: redis.Redis, move: str
) -> None:
    script, args, _gone = ARGS[move]
    if not script.slot:
        return  # it only looks
    slot = slot_for(queue, client, move)
    late = copy.copy(slot)
    if script.slot == ["last"]:
        call(queue, UNDO, "none", "", SLICE, slot=slot.count(UNDO))
    else:
        call(queue, ACK, "nobody", "", slot=slot.count(ACK))
    seed_for(client, move)
    if script is UNDO:
        assert call(queue, script, *args, slot=late) == 1
        return
    before = snapshot(client)
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        call(queue, script, *args, slot=late)
    after = snapshot(client)
    for keys in (before, after):  # one behind a wait passes on what that was handed
        keys["queue"] = [*keys["queue"], *keys.pop("handed", [])]
    assert after == before


def test_a_claim_sent_again_later_tells_the_same_deadline(queue: Any, client: redis.Redis) -> None:
    for how in ("", "g"):
        client.flushall()
        queue._at = NOW
        seed(client, items={"a": "A"}, queue=["a"])
        slot = new_slot(queue, CLAIM)
        args = claiming("new", how, lease=5000)
        first = call(queue, CLAIM, *args, slot=slot)
        queue._at = NOW + 2000
        # Whether it was handed out alone is not known any more: so nothing is to be added to it.
        assert call(queue, CLAIM, *args, slot=slot) == [NOW + 2000, -1, *first[2:]]
        assert first[2] == snapshot(client)["leases"]["a"] == NOW + 5000


@pytest.mark.parametrize("how", ["", "g"])
def test_a_claim_sent_again_after_its_item_was_settled_does_not_hand_it_out(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b", "a"])
    slot = new_slot(queue, CLAIM)
    assert claim(queue, "new", how, slot=slot)[0] == b"a"
    call(queue, FAIL, "", "", SLICE, "a", "new", 0)
    assert claim(queue, "new", how, slot=slot) == [0]
    call(queue, ACK, "a", "")
    assert claim(queue, "new", how, slot=slot) == [0]
    assert snapshot(client)["queue"] == ["b"], "b was taken by a call that was answered"


@pytest.mark.parametrize("how", ["", "g"])
def test_a_claim_sent_again_hands_out_what_of_it_is_still_held(
    queue: Any, client: redis.Redis, how: str
) -> None:
    uids = ["a", "b\0,9", "7 c", "d" * 5000]
    seed(client, items=dict.fromkeys(uids, ""), queue=[*uids[::-1]])
    slot = new_slot(queue, CLAIM)
    assert claim_many(queue, 4, "new", how, lease=9, slot=slot) == uids
    queue.ack(uids[1])
    assert claim_many(queue, 4, "new", how, lease=9, slot=slot) == [uids[0], *uids[2:]]


# -- what is noted ---------------------------------------------------------------------------------


def test_of_a_call_that_did_all_only_its_number_is_noted(queue: Any, client: redis.Redis) -> None:
    slot = queue._take_slot()
    for script, args in (
        (PUT, (*PLAIN, "a", "A", "b", "B")),
        (PUT_NEW, ("c", "C")),
        (PUT, (*put_terms(hold="1"), "d", "D")),
        (RELEASE, ("d",)),
        (ACK, ("d", "")),
    ):
        call(queue, script, *args, slot=slot.count(script))
        assert noted(client, slot) == {"call": f"{slot.calls}"}
    assert claim_many(queue, 9, "tok") == [*"abc"]
    for script, args in (
        (FAIL, ("", "", SLICE, "a", "tok", 0)),
        (HAND_BACK, (1, "b", "tok")),
        (BURY, ("c", "tok", "why")),
    ):
        assert call(queue, script, *args, slot=slot.count(script)) == 1
        assert noted(client, slot) == {"call": f"{slot.calls}"}


# What is not done, or not all of it: the call, and its answer.
PARTLY: dict[str, tuple[Script, tuple[Any, ...], Any]] = {
    "put of what is there": (PUT, (*PLAIN, "a", "A"), 0),
    "put of two": (PUT, (*PLAIN, "a", "A", "new", "N"), 1),
    "put into a full queue": (PUT, (*put_terms(maxsize=1), "new", "N"), -1),
    "ack": (ACK, ("nobody", ""), 0),
    "ack of two": (ACK, ("a", "tok", "nobody", ""), 1),
    "fail": (FAIL, ("", "", SLICE, "a", "other", 0), 0),
    "fail of two": (FAIL, ("", "", SLICE, "a", "tok", 0, "b", "", 0), 1),
    "hand back": (HAND_BACK, (1, "a", "other"), 0),
    "bury": (BURY, ("a", "other", "why"), 0),
    "release": (RELEASE, ("a",), 0),
    "purge": (PURGE, (), 2),
    "revive": (REVIVE, ("a", "b"), [2, 0]),
}


@pytest.mark.parametrize("case", PARTLY)
@pytest.mark.parametrize("used", [False, True])
def test_of_a_call_that_did_not_all_its_answer_is_noted(
    queue: Any, client: redis.Redis, case: str, used: bool
) -> None:
    script, args, answer = PARTLY[case]
    seed(client, items=dict.fromkeys("ab", ""), ackbuf=["a"], queue=["b"], meta=OUT)
    slot = used_slot(queue, client, script) if used else new_slot(queue, script)
    assert call(queue, script, *args, slot=slot) == answer
    number, told = noted(client, slot)["said"].split(" ", 1)
    assert number == noted(client, slot)["call"] == f"{slot.calls}"
    assert told == (" ".join(map(str, answer)) if isinstance(answer, list) else f"{answer}")
    seed(client, items={"nobody": ""})  # whatever comes, the answer stays
    assert call(queue, script, *args, slot=slot) == answer


def test_an_answer_is_not_taken_for_that_of_a_later_call(queue: Any, client: redis.Redis) -> None:
    slot = used_slot(queue, client, ACK)
    assert call(queue, ACK, "nobody", "", slot=slot) == 0
    assert noted(client, slot)["said"] == "8 0"
    slot.count(PUT_NEW)
    assert [call(queue, PUT_NEW, "a", "A", slot=slot) for _ in "12"] == [1, 1]
    assert noted(client, slot)["said"] == "8 0"


def test_what_is_noted_is_kept_for_a_while_only(queue: Any, client: redis.Redis) -> None:
    slot = queue._take_slot()
    for uid in "abcd":
        if uid == "c":
            client.delete(*client.keys("srq:test:call:*"))
        call(queue, PUT_NEW, uid, uid, slot=slot.count(PUT_NEW))
        assert noted(client, slot)["call"] == f"{slot.calls}"
        call(queue, CLAIM, *claiming(slot.token, ""), slot=slot.count(CLAIM))
        assert noted(client, slot).keys() == {"call", "last"}


def test_a_slot_is_used_for_half_an_hour(queue: Any) -> None:
    queue.put("a")
    (slot,) = queue._slots
    slot.old -= 1700
    queue.put("b")
    assert queue._slots == [slot]
    slot.old -= 200
    queue.put("c")
    (another,) = queue._slots
    assert another.name != slot.name
    assert (another.calls, another.claims) == (2, 0)


def test_a_get_that_waits_for_long_changes_its_slot(
    queue: Any, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = []
    young = queue._young
    monkeypatch.setattr(queue, "_young", lambda slot: names.append(slot.name) or young(slot))
    monkeypatch.setattr(saferedisqueue, "_SLOT_SECONDS", 0)
    assert queue.get(timeout=0.1).uid is None
    assert len(set(names)) == len(names) > 1


# -- the short way ---------------------------------------------------------------------------------


def commands(client: redis.Redis, use: Callable[[], Any]) -> set[str]:
    """What the server was made to do meanwhile."""
    client.config_resetstat()
    use()
    stats = client.info("commandstats")
    return {name.removeprefix("cmdstat_") for name in stats} - {
        "config",
        "config|resetstat",
        "info",
    }


def test_the_first_call_of_a_slot_and_one_whose_key_is_lost_is_not_counted_up(
    queue: Any, client: redis.Redis
) -> None:
    """A key without expiry would be left."""
    for script, args in ((PUT_NEW, ("a", "A")), (ACK, ("a", ""))):
        slot = new_slot(queue, script)
        assert slot.calls == 2, "what a counter begins at is no call's number"
        assert call(queue, script, *args, slot=slot) == 1
        assert noted(client, slot) == {"call": "2"}
        client.delete(key_of(slot, "call"))
        slot.calls = 8
        assert call(queue, script, *args, slot=slot) in (0, 1)
        assert noted(client, slot)["call"] == "8"


@pytest.mark.parametrize("script", [PUT_NEW, ACK])
@pytest.mark.parametrize("latest", [None, 1, 5, 9, 40])
def test_what_is_counted_up_and_is_not_the_next_is_taken_back(
    queue: Any, client: redis.Redis, script: Script, latest: int | None
) -> None:
    """Whether it is older, sent again, or after one that never came; of no key none is made."""
    slot = new_slot(queue, script)
    key = key_of(slot, "call")
    if latest is not None:
        client.set(key, latest, px=60_000)
    seed(client, items={"b": ""}, queue=["b"])
    before = snapshot(client)
    slot.calls = 9
    args = ("a", "A") if script is PUT_NEW else ("nobody", "")
    if latest is not None and latest > 9:
        with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
            call(queue, script, *args, slot=slot)
        assert noted(client, slot) == {"call": f"{latest}"}
        assert snapshot(client) == before
    elif latest == 9:
        assert call(queue, script, *args, slot=slot) == 1, "it was done, as is noted"
        assert noted(client, slot) == {"call": "9"}
        assert snapshot(client) == before
    else:
        assert call(queue, script, *args, slot=slot) == (script is PUT_NEW)
        assert noted(client, slot)["call"] == "9"


def test_a_slot_goes_on_after_a_late_copy_of_an_earlier_call(
    queue: Any, client: redis.Redis
) -> None:
    slot = new_slot(queue, PUT_NEW)
    call(queue, PUT_NEW, "a", "A", slot=slot)
    late = copy.copy(slot)
    call(queue, PUT_NEW, "b", "B", slot=slot.count(PUT_NEW))
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
            call(queue, PUT_NEW, "a", "A", slot=late)
    assert call(queue, PUT_NEW, "c", "C", slot=slot.count(PUT_NEW)) == 1
    assert snapshot(client)["queue"] == [*"cba"]


@pytest.mark.parametrize("broken", ["queue", "items"])
@pytest.mark.parametrize("used", [False, True])
def test_a_put_that_fails_is_not_noted_and_can_be_made_again(
    queue: Any, client: redis.Redis, broken: str, used: bool
) -> None:
    """Else the second try would be answered that all was done."""
    slot = used_slot(queue, client, PUT_NEW) if used else new_slot(queue, PUT_NEW)
    seed(client, **{broken: "a string"})
    before, count = snapshot(client), noted(client, slot)
    for _ in range(2):
        error = failure(queue, PUT_NEW, "a", "A", "b", "B", slot=slot)
        assert "WRONGTYPE" in str(error)
        if used:
            assert snapshot(client) == before
        assert noted(client, slot) == count
    client.delete(f"srq:test:{broken}", "srq:test:queue")
    assert call(queue, PUT_NEW, "a", "A", "b", "B", slot=slot) == 2
    assert snapshot(client) == {"items": {"a": "A", "b": "B"}, "queue": ["b", "a"]}
    assert noted(client, slot) == {"call": f"{slot.calls}"}


@pytest.mark.parametrize("broken", ["meta", "items"])
def test_an_ack_that_cannot_look_is_not_noted_and_can_be_made_again(
    queue: Any, client: redis.Redis, broken: str
) -> None:
    seed(client, leases={"a": NOW + 1})
    seed(client, **({"meta": OUT} if broken == "items" else {"items": {"a": ""}}))
    seed(client, **{broken: "a string"})
    slot = used_slot(queue, client, ACK)
    for _ in range(2):
        assert "WRONGTYPE" in str(failure(queue, ACK, "a", "tok", slot=slot))
        assert noted(client, slot) == {"call": "7"}
    client.delete(f"srq:test:{broken}")
    seed(client, **({"meta": OUT} if broken == "meta" else {"items": {"a": ""}}))
    assert call(queue, ACK, "a", "tok", slot=slot) == 1
    assert snapshot(client) == {}


@pytest.fixture
def full(client: redis.Redis) -> Iterator[Callable[[bool], None]]:
    """Makes the server refuse whatever needs memory, or lets it."""
    client.config_set("maxmemory-policy", "noeviction")
    yield lambda on: client.config_set("maxmemory", int(on))
    client.config_set("maxmemory", 0)


@pytest.mark.parametrize("used", [False, True])
@pytest.mark.parametrize("put", [(PUT, *PLAIN), (PUT_NEW,)])
def test_a_put_that_a_full_server_refuses_can_be_made_again(
    queue: Any,
    client: redis.Redis,
    full: Callable[[bool], None],
    used: bool,
    put: tuple[Any, ...],
) -> None:
    slot = (used_slot if used else lambda q, _, s: new_slot(q, s))(queue, client, put[0])
    before = noted(client, slot)
    full(True)
    for _ in range(2):
        assert "command not allowed" in str(failure(queue, *put, "a", "A", slot=slot))
        assert (snapshot(client), noted(client, slot)) == ({}, before)
    full(False)
    assert call(queue, *put, "a", "A", slot=slot) == 1
    assert snapshot(client) == {"items": {"a": "A"}, "queue": ["a"]}


def test_the_short_ways_do_no_more_than_they_must(queue: Any, client: redis.Redis) -> None:
    """What each writes and asks for, when nothing is special."""
    seed_little(client)
    queue.exists("x")  # it is connected from then on
    put, ack = used_slot(queue, client, PUT_NEW), used_slot(queue, client, ACK)
    got = new_slot(queue, CLAIM)
    many, lease = new_slot(queue, CLAIM), new_slot(queue, CLAIM)
    script = {"evalsha", "eval"}

    def run(*args: Any, slot: Any) -> set[str]:
        return commands(client, lambda: call(queue, *args, slot=slot)) - script

    assert run(PUT_NEW, "x", "X", slot=put) == {"incr", "lpush", "hset"}
    looks = {"get", "exists", "lindex", "hget", "hsetnx", "set"}
    assert run(CLAIM, *claiming("t:1", ""), slot=got) == {*looks, "lmove"}
    assert run(CLAIM, *claiming("t:1", "w", lease=9), slot=lease) == {*looks, "zadd", "rpop"}
    assert run(ACK, "h", "tok", slot=ack) == {"incr", "hmget", "hdel", "zrem"}
    batch = {"get", "exists", "lrange", "hmget", "hset", "set", "zadd", "ltrim"}
    assert run(CLAIM, *claiming("t:1", "", count=9, lease=9), slot=many) == batch


SPECIAL: dict[str, dict[str, Any]] = {
    "nothing": {},
    "delivered before": {"meta": {"f": "3 0 - "}},
    "left by a holder": {"meta": {"f": "3 0 tok "}},
    "handed back": {"meta": {"f": "3 0 < "}},
    "noted of a ghost": {"meta": {"f": "0 0 -  g1"}},
    "out already": {"meta": {"f": "3 5 tok "}, "leases": {"f": NOW + 1}},
    "of a priority": {"meta": {"f": "0 0 - 5"}, "priority": {"f": 5}},
    "urgent": {"items": {"i": ""}, "priority": {"i": -(2**43)}},
    "paused": {"paused": "1"},
    "handed": {"items": {"i": ""}, "handed": ["i"]},
    "a bell that was handed": {"handed": [""]},
    "a bell": {"queue": [""]},
    "an item of the empty uid": {"items": {"": "foreign"}, "queue": [""]},
    "a ghost": {"queue": ["ghost"]},
    "a noted ghost": {"queue": ["ghost"], "meta": {"ghost": "0 0 -  g2"}},
    "twice": {"queue": ["f"]},
    "empty": {"queue": None},
    "watched": {"watch": f"{NOW + 500}", "items": {"i": ""}, "delayed": {"i": NOW + 500}},
    "long": {"items": {f"{n}": "" for n in range(300)}, "queue": [f"{n}" for n in range(300)]},
    "large": {"items": {f"{n}": "x" * 300_000 for n in range(9)}, "queue": [*"012345678"]},
}


def both_ways(
    queue: Any, client: redis.Redis, prepare: Callable[[], Any], run: Callable[[str], Any]
) -> list[Any]:
    """What comes of it the short way and the general way."""
    ends = []
    for way in ("", "g"):
        client.flushall()
        prepare()
        ends.append((run(way), snapshot(client)))
    return ends


def seed_special(client: redis.Redis, special: str) -> None:
    seed_little(client)
    for key, value in SPECIAL[special].items():
        if value is None:
            client.delete(f"srq:test:{key}")
        else:
            seed(client, **{key: value})


@pytest.mark.parametrize(
    "acks",
    [(), ("a", "tok"), ("a", "x"), ("h", "tok"), ("h", "tok", "n", "tok"), ("h", "tok", "a", "x")],
)
@pytest.mark.parametrize("lease", ["", 5000])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("special", SPECIAL)
def test_a_quick_claim_ends_as_any_other(
    queue: Any, client: redis.Redis, special: str, count: int, lease: Any, acks: tuple[str, ...]
) -> None:
    def run(way: str) -> Any:
        slot = new_slot(queue, CLAIM)
        args = (*claiming("t:1", way, count=count, lease=lease, **HOUSE), *acks)
        _, _, ends, *found = call(queue, CLAIM, *args, slot=slot)
        return ends, found, noted(client, slot)

    first, second = both_ways(queue, client, lambda: seed_special(client, special), run)
    assert first == second


@pytest.mark.parametrize("how", ["b", "bw"])
@pytest.mark.parametrize("lease", ["", 5000])
@pytest.mark.parametrize("special", SPECIAL)
def test_a_quick_claim_behind_a_wait_ends_as_any_other(
    queue: Any, client: redis.Redis, special: str, lease: Any, how: str
) -> None:
    def prepare() -> None:
        seed_special(client, special)
        client.blmove("srq:test:queue", "srq:test:handed", 0.01, "RIGHT", "LEFT")

    def run(way: str) -> Any:
        slot = new_slot(queue, CLAIM)
        args = claiming("t:1", how + way, lease=lease, **HOUSE)
        _, verdict, ends, *found = call(queue, CLAIM, *args, slot=slot)
        return found or verdict, ends, noted(client, slot)

    first, second = both_ways(queue, client, prepare, run)
    assert first == second


OUT_X = "1 5 tok "
ENDS = {
    "with a lease": {"leases": {"x": NOW + 1}, "meta": {"x": OUT_X}},
    "without one": {"ackbuf": ["x"], "meta": {"x": OUT_X}},
    "without one for long": {"backup": ["x"], "meta": {"x": OUT_X}},
    "of a priority": {"leases": {"x": NOW + 1}, "meta": {"x": "1 5 tok 17"}},
    "with ghosts": {"leases": {"x": NOW + 1}, "meta": {"x": "1 5 tok  g2"}},
    "come back": {"queue": ["x"], "meta": {"x": "1 0 tok "}},
    "come back, of a priority": {"priority": {"x": 17}, "meta": {"x": "1 0 tok 17"}},
    "come back, and a second copy": {"queue": ["x"], "ackbuf": ["x"], "meta": {"x": "1 0 tok "}},
    "come back by a 3.0.0": {"queue": ["x"], "meta": {"x": OUT_X}},
    "somebody else's": {"leases": {"x": NOW + 1}, "meta": {"x": "2 5 other "}},
    "failed": {"queue": ["x"], "meta": {"x": "1 0 - "}},
    "handed back": {"queue": ["x"], "meta": {"x": "0 0 < "}},
    "dead": {"dead": {"x": 1}, "reasons": {"x": "why"}, "meta": {"x": "1 0 - "}},
    "acked by a 3.0.0": {"meta": {"x": OUT_X}, "items": None},
    "gone": {"items": None},
}


@pytest.mark.parametrize("special", ENDS)
@pytest.mark.parametrize("with_claim", [False, True])
def test_a_quick_ack_ends_as_any_other(
    queue: Any, client: redis.Redis, special: str, with_claim: bool
) -> None:
    def prepare() -> None:
        seed(client, items={"b": ""}, leases={"b": NOW + 9}, meta={"b": "1 5 b:1 "})
        for key, value in {"items": {"x": ""}, **ENDS[special]}.items():
            if value is not None:
                seed(client, **{key: value})

    def run(way: str) -> Any:
        if with_claim:  # it settles before it looks for anything
            return call(queue, CLAIM, *claiming("t:1", way, lease=9), "x", "tok")[3:]
        slot = new_slot(queue, ACK) if way else used_slot(queue, client, ACK)
        answer = call(queue, ACK, "x", "tok", slot=slot)
        assert call(queue, ACK, "x", "tok", slot=slot) == answer
        return answer, noted(client, slot).get("said", "").partition(" ")[2]

    first, second = both_ways(queue, client, prepare, run)
    if special == "come back by a 3.0.0" and not with_claim:
        # It does not look through the list, and notes what it leaves there.
        assert first[1].pop("queue") == ["x"]
        assert first[1]["meta"].pop("x") == "0 0 -  g1"
    if special == "acked by a 3.0.0" and not with_claim:
        assert second[1]["meta"].pop("x") == OUT_X, "what a 3.0.0 leaves stays"
    assert first == second


def test_a_late_ack_finds_what_came_back(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, meta={"a": "1 0 tok 5"}, priority={"a": 5}, ackbuf=["a"])
    assert call(queue, ACK, "a", "tok", slot=used_slot(queue, client, ACK)) == 1
    assert snapshot(client) == {}


# -- a claim that settles in a way of its own ------------------------------------------------------

SETTLE = """
for _, uid in ipairs((theirs(rest))) do
  redis.call('RPUSH', done, uid)
  forget({uid}, {redis.call('HGET', meta, uid)})
end
"""
OWN = claim_script("done", "why", SETTLE)


@pytest.mark.parametrize("how", ["", "g"])
def test_a_claim_may_settle_in_a_way_of_its_own(queue: Any, client: redis.Redis, how: str) -> None:
    seed(client, items=dict.fromkeys("ab", ""), queue=["b"], leases={"a": NOW + 9}, meta=OUT)
    keys = [*(queue.key(key) for key in OWN.keys[:-1]), b"srq:test:done"]
    slot = new_slot(queue, OWN)
    args = (*claiming("t:1", how, lease=9), "why", "a", "tok", "b", "other")
    for _ in range(2):
        assert call(queue, OWN, *args, slot=slot, keys=keys)[3:] == [b"b", b"", 1]
    keys_left = snapshot(client)
    assert (keys_left["done"], keys_left["items"].keys()) == (["a"], {"b"})


def test_it_settles_in_a_pause_and_where_nothing_is_ready(queue: Any, client: redis.Redis) -> None:
    for paused in (False, True):
        client.flushall()
        seed(client, items={"a": ""}, leases={"a": NOW + 9}, meta=OUT)
        if paused:
            seed(client, paused="1")
        for _ in range(2):
            reply = call(queue, CLAIM, *claiming("t:1", ""), "a", "tok")
            assert reply[3:] == []
        assert snapshot(client) == ({"paused": "1"} if paused else {})
