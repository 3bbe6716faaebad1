"""What tools may use of the module: scripts of their own, claims with acks, and holding."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from typing import Any

import pytest
import redis

import saferedisqueue
from helpers import Asyncio, Face, eventually, run_alone, snapshot
from saferedisqueue import (
    AsyncConsumer,
    AsyncDelivery,
    AsyncHolding,
    AsyncProcessing,
    AsyncSafeRedisQueue,
    Consumer,
    Delivery,
    Holding,
    LeaseLost,
    Processing,
    SafeRedisQueue,
    Script,
    _State,
)
from servers import Server

NOW = 1_800_000_000_000  # ms; given to the scripts, so that nothing sleeps

SWAP = Script(
    "items queue meta priority",
    "uid",
    """
-- needs: ready
-- Make ready what stands nowhere, once however often it is sent. Returns what was told before.
if repeated then return told end
make_ready(uid, redis.call('HGET', meta, uid))
answer('done')
return 'new'
""",
)


def test_a_script_of_one_s_own_is_a_numbered_call(queue: Any, client: redis.Redis) -> None:
    client.hset("srq:test:items", "u", "1")
    assert queue.run_script(SWAP, "u") == b"new"
    assert snapshot(client)["queue"] == ["u"]
    assert queue.get(-1).uid == "u"


def test_a_piece_is_there_once_with_those_it_needs() -> None:
    both = Script(
        "items queue handed meta leases ackbuf backup priority",
        "",
        "-- needs: in_flight give_back\n",
    )
    for name in ("meta", "token", "in_flight", "ready", "ring", "front", "give_back"):
        assert both.text.count(saferedisqueue.PIECES[name]) == 1
    order = [both.text.index(saferedisqueue.PIECES[n]) for n in ("meta", "in_flight", "give_back")]
    assert order == sorted(order)


def test_a_claim_acks_others_in_the_same_call(queue: Any, client: redis.Redis) -> None:
    queue.put_many([*"abc"])
    (first,), _ = queue.claim(1, -1, lease=60)
    (second, third), _ = queue.claim(2, -1, lease=60, acks=[first.uid])
    assert snapshot(client)["items"].keys() == {second.uid, third.uid}
    assert queue.hand_back([third.uid, second.uid]) == 2
    again = queue.get(-1)
    assert (again.uid, again.attempts) == (second.uid, 1)


def test_commands_and_keys(queue: Any, client: redis.Redis) -> None:
    queue.put("a")
    assert queue.ask("HLEN", queue.key("items")) == 1
    assert queue.key("items") == b"srq:test:items"


def test_what_is_held_is_renewed_until_it_is_settled(
    face: Face, queue: Any, client: redis.Redis
) -> None:
    queue.put_many([*"abcd"])
    raw = getattr(queue, "wrapped", queue)
    raw._at = str(NOW)

    def run(step: Any) -> Any:
        return face.run(step) if isinstance(raw, AsyncSafeRedisQueue) else step

    def keep(holding: Any) -> None:
        turn = holding._keep()
        face.run(turn) if isinstance(raw, AsyncSafeRedisQueue) else saferedisqueue._run(turn)

    holding: Any = (AsyncHolding if isinstance(raw, AsyncSafeRedisQueue) else Holding)(raw, 3000)
    a, b, c, d = run(holding.fetch(4, -1))
    run(a.ack())
    run(b.fail(reason="no"))
    run(c.hand_back())
    raw._at = str(NOW + 1_000_000)
    keep(holding)
    assert snapshot(client)["leases"] == {d.uid: NOW + 4_000_000}
    thief = face.queue(client=raw._redis, name="test")
    thief._at = str(NOW + 5_000_000)
    while thief.get(-1).uid is not None:
        pass
    keep(holding)
    assert d.lost
    with pytest.raises(LeaseLost):
        run(d.hand_back())
    leave = holding.__aexit__ if isinstance(raw, AsyncSafeRedisQueue) else holding.__exit__
    run(leave(None, None, None))


def test_an_item_is_handed_back_once_and_does_not_count(queue: Any, client: redis.Redis) -> None:
    queue.put_many([*"ab"])
    with queue.consume() as items:
        item = next(items)
        item.hand_back()
        with pytest.raises(LeaseLost):
            item.hand_back()
        assert item.lost is False
    again = queue.get(-1)
    assert (again.uid, again.attempts) == (item.uid, 1)


def lapsed(queue: Any) -> None:
    """All leases are over; nobody has got the items anew."""
    queue._at = str(int(queue._at) + 4_000_000)
    queue.put("whose get brings back what has lapsed", priority=1)
    first = queue.get(-1)
    assert first.attempts == 1
    queue.ack(first.uid)


def keep(face: Face, items: Any) -> None:
    """A turn of the helper."""
    turn = items._keep()
    if turn is not None:  # of the blocking face, which has no method for it
        saferedisqueue._run(turn)


@pytest.mark.parametrize("how", ["ack", "fail", "bury", "hand_back", "touch"])
@pytest.mark.parametrize("going_on", [False, True])
def test_an_item_of_which_somebody_was_told_that_it_is_lost_is_not_acked(
    queue: Any, client: redis.Redis, how: str, going_on: bool
) -> None:
    uid = queue.put("a")
    queue._at = str(NOW)
    with queue.consume(lease=3000, renew=False, timeout=-1) as items:
        item = next(items)
        lapsed(queue)
        if how == "ack":  # it may succeed, until somebody else has got the item
            client.hset("srq:test:meta", uid, "2 1 else:1 ")
        with pytest.raises(LeaseLost):
            getattr(item, how)()
        assert item.lost is True
        client.delete("srq:test:meta")
        queue.pause()
        if going_on:
            assert next(items, None) is None
    queue.resume()
    assert queue.get(-1).uid == uid


def test_an_item_lost_and_done_is_acked_if_nobody_else_has_got_it(
    face: Face, queue: Any, client: redis.Redis
) -> None:
    queue.put("a")
    queue._at = str(NOW)
    with queue.consume(lease=3000, timeout=-1) as items:
        item = next(items)
        lapsed(queue)
        keep(face, items)
        assert item.lost
        assert next(items, None) is None
    assert queue.stats().total == 0


def test_an_item_lost_in_hand_is_not_acked_by_who_leaves_the_loop(
    face: Face, queue: Any, client: redis.Redis
) -> None:
    uid = queue.put("a")
    queue._at = str(NOW)
    with queue.consume(lease=3000) as items:
        item = next(items)
        lapsed(queue)
        keep(face, items)
    assert item.lost
    assert queue.get(-1).uid == uid


def test_an_item_that_lapsed_ahead_is_not_acked_though_its_renewal_comes_late(
    face: Face, queue: Any, client: redis.Redis
) -> None:
    _, second = queue.put_many([*"ab"])
    queue._at = str(NOW)
    with queue.consume(prefetch=2, lease=3000, timeout=-1) as items:
        next(items).ack()
        (ahead,) = items._in_state(_State.AHEAD)
        lapsed(queue)
        ahead._until = 0
        queue.pause()
        assert next(items, None) is None
        ahead._renewed(0, 0)  # the answer to a turn of the helper that began before
        assert next(items, None) is None
    queue.resume()
    assert queue.get(-1).uid == second


def test_an_item_acked_while_it_is_renewed_is_not_told_to_be_lost(
    face: Face, queue: Any, client: redis.Redis
) -> None:
    queue.put("a")
    with queue.consume(timeout=-1) as items:
        item = next(items)
        item.ack()
        item._renewed(0, 0)
        assert item.lost is False


def test_a_loop_that_was_left_is_gone_though_its_item_is_kept(
    face: Face, queue: Any, client: redis.Redis
) -> None:
    queue.put("a")
    items = queue.consume()
    item = next(items)
    gone = weakref.ref(getattr(items, "wrapped", items))
    del items
    assert gone() is None, "nobody renews the lease any more"
    assert item.uid


FORKED = """if 1:
    import os, sys
    from saferedisqueue import SafeRedisQueue, SafeRedisQueueError
    queue = SafeRedisQueue(url=sys.argv[1], name="test")
    uids = queue.put_many([*"abc"])
    with queue.processing(renew=False) as first, queue.consume(prefetch=2, renew=False) as items:
        second = next(items)
        child = os.fork()
        if not child:
            try:
                next(items)
            except SafeRedisQueueError as error:
                assert "forked" in str(error)
                if sys.argv[2] == "close":
                    items.close()
                if sys.argv[2] != "end":
                    sys.exit()  # leaves both blocks
        else:
            assert os.waitpid(child, 0)[1] == 0
            assert queue.stats().in_flight == 3, queue.stats()
            first.ack()
            second.ack()
    if not child:
        os._exit(0)
    (left,) = queue.peek(9)
    assert (left.uid, left.attempts) == (uids[2], 0), left
"""


@pytest.mark.parametrize("way", ["close", "exit", "end"])
def test_a_forked_child_settles_nothing_of_its_parent(
    server: Server, client: redis.Redis, way: str
) -> None:
    """However it leaves the blocks: what falls out of one would have acked."""
    run_alone(FORKED, server, way)


def test_a_thread_that_cannot_be_had_ends_no_loop(
    server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    with SafeRedisQueue[bytes](url=server.url, name="test") as queue:
        queue.put_many([*"ab"])
        monkeypatch.setattr("threading.Thread.start", refuse)
        assert [item.payload for item in queue.consume(timeout=-1)] == [b"a", b"b"]
    assert not snapshot(client).get("items")


def test_a_helper_that_died_is_started_anew(
    face: Face, server: Server, client: redis.Redis
) -> None:
    def helper() -> Any:
        return getattr(items, "wrapped", items)._helper

    queue = face.queue(url=server.url, name="test")
    queue.put_many([*"ab"])
    with queue.consume() as items:
        next(items)
        dead = helper()
        if isinstance(face, Asyncio):
            dead._task.cancel()
        else:
            dead._ended.set()
        eventually(lambda: (face.work(0.01), not dead.alive)[1])
        next(items)
        assert helper() is not None
        assert helper().alive


FACES = [
    *(SafeRedisQueue, Delivery, Holding, Consumer, Processing),
    *(AsyncSafeRedisQueue, AsyncDelivery, AsyncHolding, AsyncConsumer, AsyncProcessing),
]


@pytest.mark.parametrize("kind", FACES)
def test_methods_show_the_names_they_are_called_by(kind: Any) -> None:
    methods = {
        name: method
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_")
    }
    assert methods or kind in (Processing, AsyncProcessing)
    for name, method in methods.items():
        assert method.__name__ in (name, "close")
        assert method.__qualname__ == f"{kind.__name__}.{method.__name__}"
        assert method.__doc__
        assert inspect.signature(method).return_annotation is not inspect.Signature.empty
        with pytest.raises(TypeError, match=rf"^{method.__qualname__}\(\) got an unexpected"):
            called(method(object(), no_such_argument=1))


def called(result: Any) -> None:
    if inspect.iscoroutine(result):
        asyncio.run(result)


@pytest.mark.parametrize("kind", [SafeRedisQueue, AsyncSafeRedisQueue])
def test_an_error_about_arguments_names_the_public_method(kind: Any) -> None:
    assert "max_attempts" in inspect.signature(kind).parameters
    queue = kind(name="test")
    for call in (queue.put, queue.ack, queue.get_many, queue.key, queue.forward):
        expected = rf"^{kind.__name__}\.{call.__name__}\(\) missing \d required positional argument"
        with pytest.raises(TypeError, match=expected):
            called(call())
    for holding in (Holding, AsyncHolding):
        make: Any = holding
        with pytest.raises(TypeError, match=rf"^{holding.__name__}\.__init__\(\) missing 1 req"):
            make()


def test_whatever_is_public_has_a_docstring() -> None:
    own = {
        name: each
        for name, each in vars(saferedisqueue).items()
        if getattr(each, "__module__", None) == "saferedisqueue" and not name.startswith("_")
    }
    assert {"encode_uid", "CommandLine", "producer", "Script"} <= own.keys()
    assert [name for name, each in own.items() if callable(each) and not each.__doc__] == []
