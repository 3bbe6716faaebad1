"""With fakeredis, in users' own tests, a queue works as long as nobody waits."""

from __future__ import annotations

from typing import Any

import pytest

from helpers import Asyncio, Face

fakeredis = pytest.importorskip("fakeredis")
pytest.importorskip("lupa")  # without it there are no scripts


@pytest.fixture
def fake(face: Face) -> Any:
    """Makes queues on one server that there is not."""
    server = fakeredis.FakeServer()
    kind = fakeredis.FakeAsyncRedis if isinstance(face, Asyncio) else fakeredis.FakeRedis
    return lambda **kw: face.queue(client=kind(server=server), name="test", **kw)


def test_with_fakeredis_items_are_put_got_acked_and_failed(fake: Any) -> None:
    queue = fake()
    first, second, third = queue.put("a"), *queue.put_many([*"bc"])
    item = queue.get(-1)
    assert (item.uid, item.payload, item.attempts) == (first, b"a", 1)
    assert queue.stats()[:5] == (2, 1, 0, 0, 3)
    assert (queue.ack(item.uid), queue.ack(item.uid)) == (True, False)
    failed = queue.get(-1)
    assert queue.fail(failed.uid)
    assert [(item.uid, item.attempts) for item in (queue.get(-1), queue.get(-1))] == [
        (third, 1),
        (second, 2),
    ]
    assert queue.get(-1) == (None, None)
    assert queue.stats()[:5] == (0, 2, 0, 0, 2)
    assert queue.purge() == 2


def test_with_fakeredis_items_have_leases_priorities_and_dead_letters(fake: Any) -> None:
    queue = fake(max_attempts=1, lease=60)
    queue.put_many([*"ab"])
    urgent = queue.put("c", priority=5)
    queue.put("d", delay=3600)
    first, *rest = queue.get_many(3, -1)
    assert first.uid == urgent
    assert queue.touch(urgent)
    assert queue.fail(urgent, reason="no")
    assert [(dead.uid, dead.reason) for dead in queue.dead()] == [(urgent, "no")]
    assert queue.ack_many(item.uid for item in rest) == 2
    assert queue.stats()[:5] == (0, 0, 1, 1, 2)


def test_with_fakeredis_a_loop_ends_where_there_is_nothing(fake: Any) -> None:
    queue = fake()
    queue.put_many([*"ab"])
    with queue.consume(timeout=-1) as items:
        assert [item.payload for item in items] == [b"a", b"b"]
    queue.put("c")
    with queue.processing(-1) as item:
        assert item.payload == b"c"
    assert queue.stats().total == 0


def test_with_fakeredis_several_queues_share_a_server(fake: Any) -> None:
    producer, consumer = fake(), fake()
    uid = producer.put("a")
    item = consumer.get(-1)
    assert item.uid == uid
    assert not producer.exists("b")
    assert producer.stats().in_flight == 1
    assert consumer.ack(item.uid)
