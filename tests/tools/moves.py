"""The calls of each script, what they meet, and a script that is stopped half-way."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import redis

from helpers import PLACES, call, drain, seed, snapshot
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
    RELEASE,
    RESCHEDULE,
    RESUME,
    REVIVE,
    STATS,
    TOUCH,
    UNDO,
    Script,
)

NOW = 1_700_000_000_000  # ms, the time given to the scripts
SLICE = 1000  # ms, of those who wait
BEFORE = 1_699_999_999_000
OUT = {"a": f"1 {BEFORE} tok "}  # meta of an item that is out with "tok"


def put_terms(
    delay: Any = "", due: Any = "", level: int = 0, maxsize: Any = "", hold: str = ""
) -> tuple[Any, ...]:
    """The arguments of PUT before uids and payloads."""
    return (delay, due, level, maxsize, hold, SLICE)


PLAIN = put_terms()


def claiming(
    token: str = "new",
    how: str = "g",
    *,
    count: int = 1,
    lease: Any = "",
    interval: Any = "",
    most: Any = "",
    watching: Any = "",
) -> tuple[Any, ...]:
    """The arguments of CLAIM before what is settled; by default it goes the general way."""
    terms = f"{watching} {SLICE} {interval} {most}"
    return (f"1 {NOW} {token} ", how, terms, count, lease)


def claim(queue: Any, *args: Any, slot: Any = None, **kw: Any) -> list[Any]:
    """Claim one item: uid, payload and deliveries, or else the verdict."""
    verdict, found = claimed(call(queue, CLAIM, *claiming(*args, **kw), slot=slot))
    return list(*found) or [verdict]


def claim_many(queue: Any, count: int, *args: Any, slot: Any = None, **kw: Any) -> list[str]:
    """Claim so many; the uids."""
    _, found = claimed(call(queue, CLAIM, *claiming(*args, count=count, **kw), slot=slot))
    return [uid.decode() for uid, _, _ in found]


def claimed(reply: list[Any]) -> tuple[int, list[tuple[Any, ...]]]:
    """The verdict, and what was delivered: not what died instead."""
    _, verdict, _, *found = reply
    return verdict, [each for each in zip(*[iter(found)] * 3) if each[2] >= 0]


# -- slots -----------------------------------------------------------------------------------------


def new_slot(queue: Any, script: Script) -> Any:
    """A slot whose first call is one of this script."""
    return queue._take_slot().count(script)


def key_of(slot: Any, kind: str) -> str:
    return f"srq:test:{kind}:{slot.name.decode()}"


def used_slot(queue: Any, client: redis.Redis, script: Script) -> Any:
    """A slot that has been used: only of such a one calls are quick."""
    slot = queue._take_slot()
    slot.calls = 7
    client.set(key_of(slot, "call"), 7, px=60_000)
    return slot.count(script)


def noted(client: redis.Redis, slot: Any) -> dict[str, str]:
    """What the server keeps of a slot; every key of it expires within an hour."""
    found = {}
    for kind in ("call", "said", "last"):
        key = key_of(slot, kind)
        if (value := client.get(key)) is not None:
            assert 0 < client.pttl(key) <= 3_600_000
            found[kind] = value.decode()
    return found


# -- calls -----------------------------------------------------------------------------------------

NEW = ("new", "N", "other", "O")
FRESH, HOUSE = ("fresh",), {"interval": 60_000}

# Arguments, and the uids of what is gone after it.
ARGS: dict[str, tuple[Script, tuple[Any, ...], str]] = {
    "put": (PUT, (*PLAIN, *NEW), ""),
    "put of new uids": (PUT_NEW, NEW, ""),
    "put later": (PUT, (*put_terms(delay=5000), *NEW), ""),
    "put soon": (PUT, (*put_terms(delay=500), *NEW), ""),
    "put with a priority": (PUT, (*put_terms(level=7), *NEW), ""),
    "put with a priority later": (PUT, (*put_terms(5000, level=7), *NEW), ""),
    "put held": (PUT, (*put_terms(hold="1"), *NEW), ""),
    "claim": (CLAIM, claiming(*FRESH, **HOUSE), ""),
    "claim after a wait": (CLAIM, claiming(*FRESH, "gbw", **HOUSE), ""),
    "claim of one who watches": (CLAIM, claiming(*FRESH, "w", watching="any", **HOUSE), ""),
    "claim with a lease": (CLAIM, claiming(*FRESH, lease=5000, **HOUSE), ""),
    "claim many": (CLAIM, claiming(*FRESH, lease=5000, count=9, **HOUSE), ""),
    "claim many at most once": (
        CLAIM,
        claiming(*FRESH, lease=5000, count=9, most=1, **HOUSE),
        "",
    ),
    "ack and claim": (CLAIM, (*claiming(*FRESH, lease=5000, **HOUSE), "a", "tok"), "a"),
    "ack": (ACK, ("a", "tok"), "a"),
    "ack many": (ACK, ("a", "tok", "h", "tok", "b", "wrong"), "ah"),
    "ack from backup": (ACK, ("c", ""), "c"),
    "quick put": (PUT_NEW, NEW, ""),
    "quick claim": (CLAIM, claiming(*FRESH, ""), ""),
    "quick claim with a lease": (CLAIM, claiming(*FRESH, "w", lease=5000), ""),
    "quick claim many": (CLAIM, claiming(*FRESH, "", count=2), ""),
    "quick claim many with a lease": (CLAIM, claiming(*FRESH, "", count=9, lease=5000), ""),
    "quick claim after a wait": (CLAIM, claiming(*FRESH, "bw"), ""),
    "quick ack and claim": (CLAIM, (*claiming(*FRESH, "", lease=5000), "a", "tok"), "a"),
    "quick ack": (ACK, ("a", "tok"), "a"),
    "quick ack of a leased one": (ACK, ("h", "tok"), "h"),
    "quick ack of two leased ones": (ACK, ("h", "tok", "n", "tok"), "hn"),
    "ack of a dead one": (ACK, ("d", ""), "d"),
    "ack of a leased one": (ACK, ("h", "tok"), "h"),
    "ack of a delayed one": (ACK, ("i", ""), "i"),
    "ack of a ready one": (ACK, ("j", ""), "j"),
    "ack of a held one": (ACK, ("o", ""), "o"),
    "ack of one that was handed": (ACK, ("p", ""), "p"),
    "ack of one with ghosts": (ACK, ("q", "tok"), "q"),
    "touch": (TOUCH, (5000, "a", "tok", "h", "tok"), ""),
    "fail": (FAIL, ("", "", SLICE, "a", "tok", 0), ""),
    "fail a leased one": (FAIL, ("", "", SLICE, "h", "tok", 0), ""),
    "fail with a priority": (FAIL, ("", "", SLICE, "l", "tok", 0), ""),
    "fail later": (FAIL, ("", "", SLICE, "a", "tok", 5000), ""),
    "fail soon": (FAIL, ("", "", SLICE, "a", "tok", 500), ""),
    "fail for good": (FAIL, (1, "why", SLICE, "a", "tok", 0), ""),
    "hand back": (HAND_BACK, (1, "a", "tok"), ""),
    "hand back a leased one": (HAND_BACK, (0, "h", "tok"), ""),
    "undo": (UNDO, ("none", "", SLICE), ""),
    "undo of one who watches": (UNDO, ("none", "any", SLICE), ""),
    "bury": (BURY, ("a", "tok", "why"), ""),
    "release": (RELEASE, ("o",), ""),
    "reschedule": (RESCHEDULE, ("i", 7000, "", SLICE), ""),
    "reschedule to now": (RESCHEDULE, ("i", 0, "", SLICE), ""),
    "forward": (FORWARD, ("a", "tok", "new", "N"), "a"),
    "revive": (REVIVE, ("d",), ""),
    "revive all": (REVIVE, (), ""),
    "purge the dead": (PURGE_DEAD, ("", ""), "d"),
    "resume": (RESUME, (), ""),
    "purge": (PURGE, (), "abcdefghijklmnopq"),
    "dead": (DEAD, (0, 9), ""),
    "peek": (PEEK, (0, 9), ""),
    "stats": (STATS, (), ""),
}


def each_call(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(name, ARGS)


def seed_for(client: redis.Redis, move: str) -> set[str]:
    """What a call meets; the uids. What is quick needs a queue on which nothing is special."""
    if move.startswith("quick"):
        uids = seed_little(client)
        if move == "quick claim after a wait":
            client.lmove("srq:test:queue", "srq:test:handed", "RIGHT", "LEFT")
        return uids
    uids = seed_everything(client)
    if move == "resume":
        seed(client, paused="1")
    return uids


def seed_little(client: redis.Redis) -> set[str]:
    """New items, and some in flight."""
    uids = set("abefhmn")
    seed(client, items=dict.fromkeys(uids, "payload"), queue=["e", "f"])
    seed(client, leases={"h": NOW + 900, "n": NOW + 901})
    seed(client, ackbuf=["b", "a"], backup=["m"])
    seed(client, meta=dict.fromkeys("abhmn", OUT["a"]))
    client.set("srq:test:backuplock", 1, px=60_000)
    return uids


def seed_everything(client: redis.Redis) -> set[str]:
    """An item in every place, second copies, a bell, and ghosts, noted or not; the uids."""
    uids = set("abcdefghijklmnopq")
    seed(client, items=dict.fromkeys(uids, "payload"))
    seed(client, queue=["", "n", "f", "q", "c", "e", "ghost"], handed=["p", "ghost"])
    seed(client, ackbuf=["b", "ghost", "a", "q"], backup=["c", "m"])
    seed(client, dead={"d": 1}, reasons={"d": "r"}, held={"o": NOW - 5})
    seed(client, leases={"g": NOW - 1, "h": NOW + 1, "l": NOW + 1}, delayed={"i": NOW - 1})
    seed(client, priority={"j": -3 * 2**43 + NOW, "k": 3 * 2**43 + NOW})
    tok = OUT["a"]
    seed(client, meta={"a": tok, "h": tok, "l": f"{tok}{-(2**43) + NOW}", "c": "1 5 t "})
    seed(client, meta={"j": f"0 0 - {-3 * 2**43 + NOW}", "k": f"0 0 - {3 * 2**43 + NOW}"})
    seed(client, meta={"g": "1 5 t ", "ghost": "1 5 t ", "o": "0 0 - ", "n": "2 0 t "})
    seed(client, meta={"q": f"{tok} g1"})
    return uids


def slot_for(queue: Any, client: redis.Redis, move: str) -> Any:
    script = ARGS[move][0]
    if move.startswith("quick"):
        return used_slot(queue, client, script)
    if script is UNDO:
        return new_slot(queue, CLAIM).count(UNDO)
    return new_slot(queue, script)


def drain_later(queue: Any, client: redis.Redis) -> list[str]:
    """As drain, when all leases and delays are over, and what is held is released."""
    queue._at = NOW + 60_000
    try:
        client.delete("srq:test:paused")
        for uid in client.zrange("srq:test:held", 0, -1):
            queue.release(uid.decode())
        return drain(queue, client)
    finally:
        queue._at = NOW


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


def check_expiry(client: redis.Redis) -> None:
    """Every key of a slot expires."""
    for kind in ("call", "said", "last"):
        for key in client.keys(f"srq:test:{kind}:*"):
            assert client.ttl(key) > 0, f"{key} stays"


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
        "local function tried(...)\n"
        "  if fails() then error('stopped by the test') end\n"
        "  return redis.call(...)\n"
        "end\n"
        "local function caught(...)\n"
        "  if fails() then return {err = 'stopped by the test'} end\n"
        "  return redis.pcall(...)\n"
        "end\n"
    ) + script.text.replace("redis.call(", "tried(").replace("redis.pcall(", "caught(")
    cut.sha = f"{k:040}"
    return cut


def is_stopped(client: redis.Redis) -> bool:
    """Whether the script did not come to its end before the command that fails."""
    return client.delete("stopped") == 1
