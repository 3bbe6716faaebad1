"""What those who wait cost a server, how soon they have what is due, and in which order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import pytest
import redis

from helpers import Asyncio, Face, Make, check_places, eventually, snapshot, within
from lines import Lines, crowd
from saferedisqueue import QueueClosed, SafeRedisQueue
from servers import Server
from topologies import elsewhere

FOR_EVER = 3600  # seconds: a slice that does not end in a test


async def get(queue: Any) -> Any:
    return await queue.get(600)


@contextmanager
def waiting(face: Face, queue: Any, count: int, lines: Lines) -> Iterator[Future[list[Any]]]:
    """So many gets that wait, and their outcomes; those that still do then are given something."""
    outcomes = elsewhere(lambda: crowd(face, queue, count, get))
    eventually(lambda: lines.waiting == count)
    yield outcomes
    with SafeRedisQueue[bytes](client=lines.client, name=queue.name) as other:
        other.resume()
        eventually(lambda: outcomes.done() or (lines.waiting and other.put("the end") and False))
    outcomes.result()


# -- what they cost --------------------------------------------------------------------------------


def written(client: redis.Redis) -> tuple[int, int]:
    """What the server has changed so far, and logged."""
    info = client.info("persistence")
    return info["rdb_changes_since_last_save"], info["aof_current_size"]


def test_consumers_that_wait_for_nothing_write_nothing(face: Face, own_server: Server) -> None:
    lines = Lines(own_server)
    queue = face.queue(url=own_server.url, name="test", wait_slice=0.1, **lines.named)
    assert queue.get(-1).uid is None  # the server knows the script now
    with waiting(face, queue, 5, lines):
        before = written(lines.client)
        lines.scripts()
        scripts = 0
        while scripts < 40:  # several slices of each
            time.sleep(0.05)
            scripts += lines.scripts()
        assert written(lines.client) == before
        assert lines.keys() <= 1
    lines.close()


def test_a_due_time_wakes_a_few_and_not_all_who_wait(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines
) -> None:
    waiters, items = 30, 15
    queue, other = many(wait_slice=FOR_EVER, **lines.named), make(wait_slice=FOR_EVER)
    with waiting(face, queue, waiters, lines):
        lines.scripts()
        for n in range(items):
            other.put("a", delay=0.3 + n / 50)
        eventually(lambda: lines.client.hlen("srq:test:meta") == items and not delayed(lines))
        # One that was woken to watch, one that had the item, and who rang for it: and a put each.
        assert lines.scripts() <= 6 * items


def delayed(lines: Lines) -> int:
    """How many are delayed, or ready."""
    return int(lines.client.zcard("srq:test:delayed") + lines.client.llen("srq:test:queue"))


def test_who_waits_in_a_pause_looks_ever_more_seldom(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines
) -> None:
    waiters, seconds = 10, 3
    queue, other = many(**lines.named), make()
    other.pause()
    begun = time.monotonic()
    outcomes = elsewhere(lambda: crowd(face, queue, waiters, get))
    lines.scripts()
    time.sleep(seconds)
    looks, took = lines.scripts(), time.monotonic() - begun
    assert looks >= waiters, "each looks"
    assert looks <= waiters * (6 + took / 0.9), "not ten times a second"
    other.put_many(str(n) for n in range(waiters))
    other.resume()
    with within(1):
        assert len(outcomes.result()) == waiters


# -- how soon --------------------------------------------------------------------------------------


@pytest.mark.parametrize("wait_slice", [0.5, 5, FOR_EVER])
@pytest.mark.parametrize("delay", [0.001, 0.25])
def test_what_is_delayed_is_with_one_who_waits_within_20_ms_of_its_time(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines, wait_slice: float, delay: float
) -> None:
    """By the server's clock, which tells when it was due and when it was claimed."""
    queue, other = many(wait_slice=wait_slice, **lines.named), make(wait_slice=wait_slice)

    def late() -> float:
        with waiting(face, queue, 1, lines) as outcomes:
            before = server_ms(lines.client)
            uid = other.put("a", delay=delay)
            (item,) = outcomes.result()
        assert item.uid == uid
        claimed = int(snapshot(lines.client)["meta"][uid].split()[1])
        assert other.ack(uid)
        assert claimed >= before + delay * 1000
        return claimed - server_ms_of(uid, before) - delay * 1000

    # One machine is late now and then: not each time.
    eventually(lambda: late() <= 20, 30)


def server_ms(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return float(seconds * 1000 + microseconds // 1000)


def server_ms_of(uid: str, before: float) -> float:
    """When an item was put, whose uid tells that by the clock of the same machine."""
    return max(float(int(uid[:8] + uid[9:13], 16)), before)


def test_what_is_due_first_is_watched_though_it_was_put_last(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines
) -> None:
    queue, other = many(wait_slice=FOR_EVER, **lines.named), make(wait_slice=FOR_EVER)
    with waiting(face, queue, 3, lines) as outcomes:
        uids = [other.put("a", delay=delay) for delay in (1.2, 0.8, 0.4)]
        with within(1.2):
            assert {item.uid for item in outcomes.result()} == set(uids)


def test_what_is_due_is_delivered_though_who_watched_for_it_went(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines
) -> None:
    queue, leaving, other = many(wait_slice=FOR_EVER), *(make(wait_slice=FOR_EVER) for _ in "ab")
    uid = other.put("a", delay=1)
    first = elsewhere(lambda: leaving.get(0.5))  # it is the first to wait, and so watches
    eventually(lambda: lines.client.exists("srq:test:watch"))
    with within(2):
        assert queue.get(600).uid == uid
    assert first.result().uid is None


# -- in which order --------------------------------------------------------------------------------


def handed_in_a_pause(face: Face, queue: Any, other: Any, lines: Lines) -> tuple[Any, list[str]]:
    """Ten wait, a pause begins, and 25 are put: what they come to, and the uids."""
    outcomes = elsewhere(lambda: crowd(face, queue, 10, get))
    eventually(lambda: lines.waiting == 10)
    other.pause()
    uids = [other.put(str(n)) for n in range(25)]
    eventually(lambda: lines.waiting == 0)
    return outcomes, uids


def test_the_order_is_kept_where_many_waited_in_a_pause_and_then_went(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines
) -> None:
    queue, other = many(wait_slice=FOR_EVER, **lines.named), make()
    outcomes, uids = handed_in_a_pause(face, queue, other, lines)
    assert [item.uid for item in other.peek(30)] == uids
    if isinstance(face, Asyncio):
        face.loop.call_soon_threadsafe(lambda: face.loop.create_task(queue.wrapped.close()))
    else:
        queue.close()
    assert {type(each) for each in outcomes.result()} == {QueueClosed}
    check_places(lines.client)
    other.resume()
    items = [other.get(-1) for _ in uids]
    assert [(item.uid, item.attempts) for item in items] == [(uid, 1) for uid in uids]


def test_the_first_who_waited_in_a_pause_have_the_first_items_after_it(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines
) -> None:
    queue, other = many(wait_slice=FOR_EVER, **lines.named), make()
    outcomes, uids = handed_in_a_pause(face, queue, other, lines)
    other.resume()
    items = outcomes.result()
    assert sorted(item.uid for item in items) == uids[:10]
    assert {item.attempts for item in items} == {1}
    assert [other.get(-1).uid for _ in uids[10:]] == uids[10:]


# -- whatever ends a wait at the server ------------------------------------------------------------


@pytest.mark.parametrize("how", ["TIMEOUT", "ERROR"])
def test_a_get_whose_wait_is_ended_by_somebody_waits_on(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines, how: str
) -> None:
    queue = many(wait_slice=FOR_EVER, **lines.named)
    with waiting(face, queue, 1, lines) as outcomes:
        for _ in range(3):
            (blocked,) = [each["id"] for each in lines.all() if "b" in each["flags"]]
            lines.client.execute_command("CLIENT", "UNBLOCK", blocked, how)
            eventually(lambda: lines.waiting == 1)
        uid = make().put("a")
        assert [item.uid for item in outcomes.result()] == [uid]
    assert lines.now <= 2, "it cost no connection"


def test_a_get_waits_on_where_the_script_is_forgotten_while_it_waits(
    face: Face, many: Callable[..., Any], make: Make, lines: Lines
) -> None:
    queue, other = many(wait_slice=FOR_EVER, **lines.named), make()
    with waiting(face, queue, 3, lines) as outcomes:
        uids = []
        for n in range(2):
            lines.client.script_flush()
            uids.append(other.put(str(n)))
        assert not outcomes.done()
        check_places(lines.client)
    assert lines.now <= 5
