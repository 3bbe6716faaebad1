"""A script and a claim of a user's own, as README.rst shows them: an ack with an answer."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import saferedisqueue
import servers
from helpers import FAILING, Face, call, seed, snapshot
from saferedisqueue import FAIL, Script, uids_and_tokens
from topologies import Cluster

README = (Path(__file__).parents[2] / "README.rst").read_text(encoding="utf-8")

NOW = 1_800_000_000_000  # ms; given to the scripts, so that nothing sleeps


class Shown:
    """The names of the example."""

    ANSWER: Script
    CLAIM_ANSWERED: Script
    KEEP: str
    answer: Callable[..., bool]
    answer_all: Callable[..., None]
    answer_key: Callable[..., bytes]
    arguments: Callable[..., tuple[list[bytes], tuple[Any, ...]]]


@pytest.fixture(scope="module")
def shown() -> Any:
    _, _, section = README.partition("\nBuilding on the queue\n====")
    block = re.search(r"code-block:: python\n\n((?: {3}.*\n|\n)+)", section)
    assert block
    names: dict[str, Any] = {}
    exec(compile(textwrap.dedent(block[1]), "README.rst", "exec"), names)
    return type(
        "Names", (Shown,), {k: staticmethod(v) if callable(v) else v for k, v in names.items()}
    )


def answers(client: redis.Redis, shown: Any, queue: Any, *uids: str) -> list[bytes | None]:
    return [client.get(shown.answer_key(queue, uid)) for uid in uids]


def claim(queue: Any, shown: Any, given: list[tuple[str, str]], count: int = 1) -> list[Any]:
    keys, settling = shown.arguments(queue, given)
    script, args = shown.CLAIM_ANSWERED, (60,)
    items: list[Any]
    items, _ = queue.claim(
        count, -1, 3600, script=script, args=args, settling=settling, more_keys=keys
    )
    return items


@pytest.mark.usefixtures("settings")
def test_the_answer_is_there_exactly_when_the_item_is_acked(
    queue: Any, client: redis.Redis, shown: Any
) -> None:
    uid = queue.put("a")
    item = queue.get(-1)
    assert answers(client, shown, queue, uid) == [None]
    assert shown.answer(queue, item.uid, "yes", 60) is True
    assert answers(client, shown, queue, uid) == [b"yes"]
    assert 59 <= client.ttl(shown.answer_key(queue, uid)) <= 60
    assert not snapshot(client).keys() & {"items", "meta", "ackbuf"}
    assert shown.answer(queue, item.uid, "no", 60) is False
    assert shown.answer(queue, str(uid), "no", 60) is False, "it carries no delivery"
    assert answers(client, shown, queue, uid) == [b"yes"]


def test_answers_travel_with_the_next_claim(queue: Any, client: redis.Redis, shown: Any) -> None:
    uids = queue.put_many([*"abcde"])
    first, second, third = claim(queue, shown, [], 3)
    assert queue.fail(second.uid)
    (fourth,) = claim(queue, shown, [(i.uid, i.payload.decode()) for i in (first, second, third)])
    assert answers(client, shown, queue, *uids) == [b"a", None, b"c", None, None]
    assert snapshot(client)["items"].keys() == {uids[1], uids[3], uids[4]}
    shown.answer_all(queue, lambda payload: payload.decode() * 2)
    assert answers(client, shown, queue, *uids) == [b"a", b"bb", b"c", None, b"ee"]
    assert snapshot(client)["items"].keys() == {fourth.uid}


@pytest.mark.parametrize("way", ["acked", "failed", "delivered anew", "removed", "put again"])
@pytest.mark.parametrize("travels", [False, True])
def test_a_stale_holder_changes_nothing(
    queue: Any, client: redis.Redis, shown: Any, way: str, travels: bool
) -> None:
    queue._at = str(NOW)
    uid = queue.put("a", uid="u")
    item = queue.get(-1, lease=10)
    if way == "acked":
        queue.ack(item.uid)
    elif way == "failed":
        queue.fail(item.uid, delay=100)
    elif way == "delivered anew":
        queue._at = str(NOW + 10_000)
        assert queue.get(-1, lease=10).attempts == 2
    else:
        queue.remove(uid)
    if way == "put again":
        queue.put("b", uid="u")
        queue.get(-1)
    before = snapshot(client)
    if travels:
        assert claim(queue, shown, [(item.uid, "late")]) == []
    else:
        assert shown.answer(queue, item.uid, "late") is False
    assert answers(client, shown, queue, uid) == [None]
    if "items" in before:  # else a get that finds nothing clears up
        assert snapshot(client) == before


def test_who_lost_its_lease_may_answer_until_somebody_else_has_the_item(
    queue: Any, client: redis.Redis, shown: Any
) -> None:
    queue._at = str(NOW)
    uid = queue.put("a")
    item = queue.get(-1, lease=10)
    queue._at = str(NOW + 10_000)
    queue.put("b", priority=1)
    assert queue.get(-1).payload == b"b"
    assert shown.answer(queue, item.uid, "late") is True
    assert answers(client, shown, queue, uid) == [b"late"]
    assert uid not in snapshot(client)["queue"], "nor is it left in the list, to which it came back"


@pytest.mark.parametrize("lost_reply", [False, True])
def test_a_lost_reply_changes_nothing_and_the_answer_is_the_same(
    face: Face, server: servers.Server, client: redis.Redis, shown: Any, lost_reply: bool
) -> None:
    queue = face.queue(kind=FAILING[type(face)], url=server.url, name="test")
    uids = queue.put_many([*"abc"])
    item = queue.get(-1, lease=60)
    shown.answer(queue, "none", "")  # loads the script
    queue.fail_at(0, lost_reply=lost_reply)
    assert shown.answer(queue, item.uid, "a") is True
    assert queue.failed
    (second,) = claim(queue, shown, [])
    queue.fail_at(0, lost_reply=lost_reply)
    (third,) = claim(queue, shown, [(second.uid, "b")])
    assert third.uid == uids[2]
    queue.fail_at(0, lost_reply=lost_reply)
    assert claim(queue, shown, [(third.uid, "c")]) == []
    assert queue.failed
    assert answers(client, shown, queue, *uids) == [b"a", b"b", b"c"]
    assert "items" not in snapshot(client)


def test_a_call_that_arrives_once_more_is_answered_as_before(
    make: Callable[..., Any], client: redis.Redis, shown: Any
) -> None:
    queue = make()
    uid = queue.put("a")
    item = queue.get(-1)
    raw = (60, *uids_and_tokens([item.uid]), "yes")
    keys = [queue.key(name) for name in shown.ANSWER.keys]
    slot = queue._take_slot().count(shown.ANSWER)
    first = saferedisqueue._Numbered(queue, shown.ANSWER, raw, int, None, keys)
    first.more = [shown.answer_key(queue, uid)]
    assert first.send_in_full()
    assert queue._exchange(first, slot) == 1
    client.delete(shown.answer_key(queue, uid))
    assert queue._exchange(first, slot) == 1
    assert answers(client, shown, queue, uid) == [None], "it was not done again"
    slot.count(shown.ANSWER)
    late, older = saferedisqueue._Slot(slot.prefix), slot.calls
    late.name, late.calls = slot.name, older - 1
    assert call(queue, FAIL, "", "", 1000, slot=slot) == 0
    with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
        queue._exchange(first, late)


def test_a_full_server_can_be_emptied_with_answers(
    face: Face, own_server: servers.Server, shown: Any
) -> None:
    with own_server.client() as client:
        queue = face.queue(url=own_server.url, name="test")
        uids = queue.put_many([*"abc"])
        (first,) = claim(queue, shown, [])
        shown.answer(queue, "none", "")
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            queue.put("d")
        assert shown.answer(queue, first.uid, "a") is True
        shown.answer_all(queue, lambda payload: payload.decode())
        assert answers(client, shown, queue, *uids) == [b"a", b"b", b"c"]
        assert queue.stats().total == 0
        client.config_set("maxmemory", 0)


@pytest.mark.parametrize("before", ["redis.call('SET', KEYS", "kept = kept", "return answer"])
def test_stopped_before_any_write_it_leaves_the_item_or_the_answer(
    make: Callable[..., Any], client: redis.Redis, shown: Any, before: str
) -> None:
    """Where both are there it is answered once more."""
    queue = make()
    uid = queue.put("a")
    item = queue.get(-1)
    body = f"-- needs: forget unlimited\nlift_memory_limit()\n{shown.KEEP}\nreturn answer(kept)\n"
    stopped = body.replace(before, f"error('stopped')\n{before}")
    script = Script(" ".join(shown.ANSWER.keys), "seconds", stopped)
    keys, settling = shown.arguments(queue, [(item.uid, "yes")])
    with pytest.raises(redis.ResponseError, match="stopped"):
        queue.run_script(script, 60, *settling, more_keys=keys)
    there = "items" in snapshot(client)
    assert there is (before != "return answer")
    assert there or answers(client, shown, queue, uid) == [b"yes"]
    assert shown.answer(queue, item.uid, "yes") is there
    assert answers(client, shown, queue, uid) == [b"yes"]


def test_it_works_in_a_cluster(face: Face, shown: Any) -> None:
    """The key of an answer stands in the slot of the queue."""
    with Cluster(servers.find()) as cluster:
        module = redis if face.queue_class is saferedisqueue.SafeRedisQueue else redis.asyncio
        nodes = {"host": "127.0.0.1", "port": cluster.nodes[0].port, "socket_timeout": 2}
        client: Any = module.RedisCluster(**nodes)
        queue = face.queue(client=client, name="test")
        one, two = queue.put_many([*"ab"])
        item = queue.get(-1, lease=60)
        assert shown.answer(queue, item.uid, "a") is True
        shown.answer_all(queue, lambda payload: payload.decode())
        with cluster.master_of(queue.key("")).client() as node:
            assert answers(node, shown, queue, one, two) == [b"a", b"b"]
        if module is redis:
            client.close()
        else:
            face.run(client.aclose())


def test_keys_of_one_s_own_are_given_by_their_names(queue: Any, client: redis.Redis) -> None:
    mark = Script("items marks", "uid", "redis.call('SADD', marks, uid)\nreturn answer(1, 1)\n")
    assert queue.run_script(mark, "u", keys={"marks": b"mine"}) == 1
    assert client.smembers("mine") == {b"u"}
    assert queue.run_script(mark, "v", timeout=5) == 1
    assert client.smembers("srq:test:marks") == {b"v"}
    for wrong in ({"mark": b"x"}, {"call": b"x"}):
        with pytest.raises(TypeError, match=f"names no such keys: {next(iter(wrong))}"):
            queue.run_script(mark, "w", keys=wrong)
        with pytest.raises(TypeError, match="names no such keys"):
            queue.claim(1, -1, script=saferedisqueue.CLAIM, keys=wrong)


def test_a_claim_keeps_its_arguments_while_it_waits(queue: Any, client: redis.Redis) -> None:
    """What it settles is settled once, and its items come with the arguments at their places."""
    counted = saferedisqueue.claim_script(
        "marks",
        "mark",
        "redis.call('INCRBY', marks, mark)\nredis.call('RPUSH', KEYS[more], ARGV[rest])\n",
    )
    queue.put("a", delay=0.3)
    (item,), _ = queue.claim(
        1,
        5,
        script=counted,
        args=(3,),
        settling=("done",),
        keys={"marks": b"marks"},
        more_keys=[b"more"],
    )
    assert item.payload == b"a"
    assert (client.get("marks"), client.lrange("more", 0, -1)) == (b"3", [b"done"])


def test_uids_and_tokens_are_those_of_deliveries(queue: Any, client: redis.Redis) -> None:
    queue.put("a", uid="odd \udcff")
    item = queue.get(-1)
    token = item.receipt.partition("/")[0]
    assert uids_and_tokens([item.uid, "plain"]) == (b"odd \xff", token, b"plain", "")
    wrong: Any
    for wrong in ("", 3):
        with pytest.raises((TypeError, ValueError)):
            uids_and_tokens([wrong])


def test_what_is_noted_of_ghosts_is_no_delivery(
    queue: Any, client: redis.Redis, shown: Any
) -> None:
    seed(client, items={"u": "1"}, queue=["u"], meta={"u": "0 0 -  g1"})
    before = snapshot(client)
    assert shown.answer(queue, "u", "no") is False
    assert snapshot(client) == before
