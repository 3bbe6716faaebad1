"""Scripts that are stopped half-way: by an error of any of their commands, or a full server."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from helpers import Make, call, check_places, drain, lapse, seed, snapshot
from moves import (
    ARGS,
    NOW,
    OUT,
    PLAIN,
    check_nothing_lost,
    claim_many,
    claiming,
    drain_later,
    each_call,
    failure,
    is_stopped,
    new_slot,
    noted,
    seed_for,
    slot_for,
    stopped,
    used_slot,
)
from saferedisqueue import CLAIM, FORWARD, HAND_BACK, PUT, PUT_NEW, _uid


@pytest.fixture
def queue(make: Make) -> Any:
    queue = make()
    queue._at = NOW
    return queue


# -- an error of a command -------------------------------------------------------------------------


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


def test_a_hand_back_of_many_among_others_that_is_stopped_loses_nothing(
    queue: Any, client: redis.Redis
) -> None:
    """They change places in the list: each entry is written nearer to the front, then over."""
    uids = [f"{n:08d}-0000-7000-8000-000000000000" for n in range(12)]
    others, back = uids[::2], uids[1::2]
    for k in range(1000):
        client.flushall()
        seed(client, items=dict.fromkeys(uids, ""), queue=others[::-1], ackbuf=back)
        seed(client, meta=dict.fromkeys(others, "0 0 < ") | dict.fromkeys(back, OUT["a"]))
        slot = new_slot(queue, HAND_BACK)
        args = [1, *(part for uid in back[::-1] for part in (uid, "tok"))]
        failure(queue, stopped(HAND_BACK, k), *args, slot=slot)
        if not is_stopped(client):
            break
        check_nothing_lost(client, set(uids))
        assert sorted(drain_later(queue, client)) == uids, f"after a stop at command {k}"
    assert snapshot(client)["queue"] == uids[::-1]
    assert k > 30


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


LISTS = ("ackbuf", "backup", "handed")


@each_call("move")
@pytest.mark.parametrize(
    "broken",
    ["ackbuf", "backup", "backuplock", "meta", "dead", "reasons", "leases", "handed", "held"],
)
def test_a_key_of_the_wrong_type_loses_nothing(
    queue: Any, client: redis.Redis, move: str, broken: str
) -> None:
    uids = seed_for(client, move)
    key = f"srq:test:{broken}"
    lost = set(client.lrange(key, 0, -1)) if broken in LISTS else set()
    lost |= set(client.zrange(key, 0, -1)) if broken in ("leases", "held", "dead") else set()
    kept = uids - {uid.decode() for uid in lost}
    client.delete(key)
    if broken in LISTS:
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


@pytest.mark.parametrize("how", ["", "b", "g"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("lease", ["", 5000])
@pytest.mark.parametrize("about", [None, "2 0 - "])
def test_a_claim_that_cannot_hand_out_is_no_delivery(
    queue: Any, client: redis.Redis, how: str, count: int, lease: Any, about: str | None
) -> None:
    """Else an item would die, after some of them, that nobody has ever had."""
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"])
    if about:
        seed(client, meta={"a": about})
    if how == "b":
        client.lmove("srq:test:queue", "srq:test:handed", "RIGHT", "LEFT")
    before = snapshot(client)
    place = "leases" if lease else "ackbuf"
    seed(client, **{place: "a string"})
    slot = new_slot(queue, CLAIM)
    for _ in range(3):
        args = claiming("t:1", how, count=count, lease=lease, most=3)
        assert "WRONGTYPE" in str(failure(queue, CLAIM, *args, slot=slot))
    client.delete(f"srq:test:{place}")
    assert (snapshot(client), noted(client, slot)) == (before, {})
    assert claim_many(queue, 3, lease=5) == [*"abc"]


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
    slot = used_slot(queue, client, put[0])
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
    queue = make(decode_responses=True, max_attempts=1)
    seed(client, items={"a": b"\xff", "b": b"good"}, queue=["b", "a"])
    fill()
    assert queue.get(-1) == ("b", "good")
    assert snapshot(client)["dead"].keys() == {"a"}
