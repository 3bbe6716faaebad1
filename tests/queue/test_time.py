"""What is due, and what has lapsed, is ready: by the server's clock, and before anybody got it."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis

from helpers import snapshot, within
from saferedisqueue import SafeRedisQueue
from servers import Server

NOW = 1_800_000_000_000  # ms


def at(queue: Any, ms: int) -> None:
    """By the clock that the queue's scripts go by."""
    queue._at = str(NOW + ms)


def names(queue: Any) -> list[str]:
    """Of all that can be got, in the order of that."""
    found: list[str] = []
    while items := queue.get_many(10_000, -1):
        found += [str(item.uid) for item in items]
    return found


# -- what is due when it is put --------------------------------------------------------------------

OVER: list[dict[str, Any]] = [
    {"delay": 0},
    {"at": 1},
    {"at": datetime.now(UTC) - timedelta(days=1)},
]


@pytest.mark.parametrize("when", OVER, ids=["no delay", "long ago", "yesterday"])
def test_what_is_due_when_it_is_put_is_put_as_any_other(
    queue: Any, client: redis.Redis, when: dict[str, Any]
) -> None:
    queue.put("first", uid="first")
    queue.put("due", uid="due", **when)
    many = queue.put_many(["due too"] * 3, **when)
    queue.put("last", uid="last")
    assert client.exists("srq:test:delayed", "srq:test:meta") == 0
    assert [str(item.uid) for item in queue.peek(9)] == ["first", "due", *many, "last"]
    assert queue.stats()[:3] == (6, 0, 0)
    assert names(queue) == ["first", "due", *many, "last"]


def test_what_is_due_when_it_is_put_with_a_priority_has_that(queue: Any) -> None:
    queue.put("a", uid="a")
    queue.put("b", uid="b", priority=1, delay=0)
    queue.put("c", uid="c", priority=-1, at=1)
    assert names(queue) == ["b", "a", "c"]


def test_whether_it_is_due_is_told_by_the_server_s_clock(queue: Any, client: redis.Redis) -> None:
    at(queue, 0)
    queue.put("due", uid="due", at=NOW / 1000)
    queue.put("not yet", uid="not yet", at=(NOW + 1) / 1000)
    assert client.lrange("srq:test:queue", 0, -1) == [b"", b"due"]
    assert client.zrange("srq:test:delayed", 0, -1) == [b"not yet"]
    real = time.time()
    queue._at = ""
    queue.put("over", uid="over", at=real - 0.001)
    assert client.zscore("srq:test:delayed", "over") is None


def test_a_full_queue_refuses_also_what_is_due(many: Any) -> None:
    queue = many(maxsize=1)
    queue.put("a", delay=0)
    with pytest.raises(Exception, match="maxsize"):
        queue.put("b", delay=0)


# -- what is due, or has lapsed, and nobody has got ------------------------------------------------


def test_what_is_due_or_has_lapsed_counts_as_ready(queue: Any, client: redis.Redis) -> None:
    at(queue, 0)
    lapsing = queue.put("lapsing")
    queue.get(-1, lease=5)
    due = queue.put("due", delay=4)
    at(queue, 3999)
    assert queue.stats()[:3] == (0, 1, 1)
    assert (queue.qsize(), queue.empty(), queue.peek(9)) == (0, True, [])
    assert queue.stats().oldest is None
    at(queue, 4000)
    assert queue.stats()[:3] == (1, 1, 0)
    assert [item.uid for item in queue.peek(9)] == [due]
    at(queue, 5000)
    before = {key: client.dump(key) for key in client.keys("srq:test:*")}
    assert queue.stats()[:5] == (2, 0, 0, 0, 2)
    assert (queue.qsize(), queue.empty()) == (2, False)
    assert [item.uid for item in queue.peek(9)] == [lapsing, due]
    assert {key: client.dump(key) for key in client.keys("srq:test:*")} == before
    assert names(queue) == [lapsing, due]


def test_it_is_behind_what_is_in_the_list_and_before_what_has_a_priority_below_zero(
    queue: Any,
) -> None:
    at(queue, 0)
    queue.put("due", uid="due", delay=1)
    queue.put("low", uid="low", priority=-1)
    queue.put("high", uid="high", priority=1)
    queue.put("plain", uid="plain")
    at(queue, 1000)
    expected = ["high", "plain", "due", "low"]
    assert [str(item.uid) for item in queue.peek(9)] == expected
    assert [str(item.uid) for item in queue.peek(3)] == expected[:3]
    assert names(queue) == expected


def test_the_oldest_is_what_lapsed_where_nothing_else_is_ready(queue: Any) -> None:
    queue.put("a")
    uid = queue.get(-1, lease=60).uid
    at(queue, 0)  # some months from now
    age = NOW / 1000 - int(uid[:8] + uid[9:13], 16) / 1000
    assert queue.stats().oldest == pytest.approx(age)


@pytest.mark.parametrize("delayed", [True, False])
def test_join_waits_for_what_is_due_or_has_lapsed(queue: Any, delayed: bool) -> None:
    at(queue, 0)
    queue.put("a")
    if delayed:
        queue.fail(queue.get(-1).uid, delay=5)
        assert queue.join(-1) is True
    else:
        queue.get(-1, lease=5)
        assert queue.join(-1) is False
    at(queue, 5000)
    assert queue.join(-1) is False
    queue.ack(queue.get(-1).uid)
    assert queue.join(-1) is True


# -- another time ----------------------------------------------------------------------------------


def test_what_is_delayed_may_be_given_another_time(queue: Any, client: redis.Redis) -> None:
    at(queue, 0)
    queue.put_many(["a", "b", "c"], uids=["a", "b", "c"], delay=5)
    assert queue.reschedule("a", delay=7) is True
    assert queue.reschedule("b", at=(NOW + 3000) / 1000) is True
    at(queue, 7000)
    assert names(queue) == ["b", "c", "a"]


@pytest.mark.parametrize("when", OVER, ids=["no delay", "long ago", "yesterday"])
def test_what_is_rescheduled_to_now_is_ready(
    queue: Any, client: redis.Redis, when: dict[str, Any]
) -> None:
    queue.put("a", uid="a", delay=60)
    queue.put("b", uid="b", delay=60, priority=-1)
    queue.put("c", uid="c")
    assert queue.reschedule("a", **when) is True
    assert queue.reschedule("b", **when) is True
    assert client.exists("srq:test:delayed") == 0
    assert names(queue) == ["c", "a", "b"]
    assert queue.reschedule("a", delay=1) is False


def test_only_what_is_delayed_has_another_time(queue: Any, client: redis.Redis) -> None:
    queue.put("ready", uid="ready")
    queue.put("held", uid="held", held=True)
    queue.put("out", uid="out", priority=1)
    assert queue.get(-1).uid == "out"
    before = snapshot(client)
    for uid in ("ready", "held", "out", "nobody's"):
        assert queue.reschedule(uid, delay=1) is False
    assert snapshot(client) == before


@pytest.mark.parametrize(
    ("wrong", "error"),
    [({}, TypeError), ({"delay": 1, "at": 1}, TypeError), ({"delay": -1}, ValueError)],
    ids=str,
)
def test_it_takes_a_time(queue: Any, wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"delay|at="):
        queue.reschedule("a", **wrong)


def test_who_waits_has_what_was_rescheduled_in_time(
    many: Any, server: Server, client: redis.Redis
) -> None:
    """Though it was put for a time beyond the slice, of which nobody was told."""
    queue = many(wait_slice=30)
    queue.put("a", uid="a", delay=3600)
    with SafeRedisQueue(url=server.url, name="test", wait_slice=30) as other:
        rescheduling = threading.Timer(0.3, other.reschedule, ("a",), {"delay": 0.3})
        rescheduling.start()
        with within(0.6):
            assert queue.get(20).uid == "a"
        rescheduling.join()


# -- what is due at the same time ------------------------------------------------------------------


def test_what_is_due_at_the_same_time_comes_in_the_order_of_put(queue: Any) -> None:
    at(queue, 0)
    uids = ["z", "a", "m", "b", "y"]
    for uid in uids[:3]:
        queue.put(uid, uid=uid, at=(NOW + 1000) / 1000)
    queue.put("earlier", uid="earlier", at=(NOW + 999) / 1000)
    queue.put("later", uid="later", at=(NOW + 1001) / 1000)
    at(queue, 500)
    for uid in uids[3:]:
        queue.put(uid, uid=uid, delay=0.5)
    at(queue, 1001)
    assert [str(item.uid) for item in queue.peek(9)] == ["earlier", *uids, "later"]
    assert names(queue) == ["earlier", *uids, "later"]


def test_what_failed_with_the_same_delay_comes_in_the_order_of_fail(queue: Any) -> None:
    at(queue, 0)
    uids = ["z", "a", "m"]
    for uid in uids:
        queue.put(uid, uid=uid)
    items = {str(item.uid): item.uid for item in queue.get_many(3, -1)}
    assert queue.fail_many([items[uid] for uid in "azm"], delay=1) == 3
    at(queue, 1001)
    assert names(queue) == ["a", "z", "m"]


def test_what_is_put_together_stays_in_order_and_is_due_together(queue: Any) -> None:
    at(queue, 0)
    first = queue.put_many(map(str, range(2000)), delay=1)
    second = queue.put_many(map(str, range(2000)), delay=1)
    at(queue, 999)
    assert queue.stats().ready == 0
    at(queue, 1000)
    assert queue.stats().ready == 1  # the others within this ms
    at(queue, 1001)
    assert queue.stats().ready == 4000
    assert names(queue) == first + second
