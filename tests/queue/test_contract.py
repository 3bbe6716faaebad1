"""What every face promises, with whatever settings its client has, on whatever server."""

from __future__ import annotations

import itertools
import json
import pickle
import uuid
from collections.abc import Sequence
from typing import Any

import pytest
import redis

import saferedisqueue
import servers
from combinations import ROWS
from helpers import FACES, SETTINGS, Face, check_places, eventually, lapse, snapshot
from saferedisqueue import Item, NoItem
from servers import Server

# What is read of a reply besides the payload: with whatever protocol and decoding.
any_settings = pytest.mark.usefixtures("settings")


def test_what_is_put_is_got_in_order(queue: Any, payload: Any) -> None:
    uids = [queue.put(text) for text in "abc"]
    assert [queue.get() for _ in uids] == [(u, payload(t)) for u, t in zip(uids, "abc")]


def test_a_uid_is_a_uuid_of_version_7_and_str(queue: Any) -> None:
    uid = queue.put("a")
    assert type(uid) is str
    assert len(uid) == 36
    assert uuid.UUID(uid).version == 7
    assert uuid.UUID(uid).variant == uuid.RFC_4122
    assert isinstance(queue.get().uid, str)


@any_settings
def test_uids_are_ordered_by_time_and_tell_it(queue: Any) -> None:
    uid = queue.put("a")
    later = eventually(lambda: (new := queue.put("b"))[:13] != uid[:13] and new)
    assert uid < later
    item = queue.get()
    assert abs(item.put_at - int(uid[:8] + uid[9:13], 16) / 1000) < 0.001


def test_an_item_tells_what_it_is(queue: Any, payload: Any) -> None:
    put = queue.put("a")
    item = queue.get()
    uid, load = item
    assert isinstance(item, Item)
    assert (item.uid, item.payload, item.attempts) == (uid, load, 1) == (put, payload("a"), 1)
    assert item.deadline is None
    assert "attempts=1" in repr(item)


@any_settings
def test_an_empty_queue_gives_none_and_none(queue: Any) -> None:
    for nothing in (queue.get(-1), queue.get(0.01), queue.get_nowait()):
        assert nothing == (None, None)
        assert isinstance(nothing, NoItem)
        assert nothing.uid is None
        assert nothing.payload is None


@any_settings
def test_an_acked_item_is_gone_and_settled_once(queue: Any, client: redis.Redis) -> None:
    queue.put("a")
    uid, _ = queue.get()
    assert queue.ack(uid) is True
    assert queue.ack(uid) is False
    assert queue.get(-1) == (None, None)
    assert snapshot(client).keys() <= {"backuplock"}


def test_a_failed_item_goes_to_the_back_of_the_queue(queue: Any, payload: Any) -> None:
    queue.put("a")
    queue.put("b")
    uid, _ = queue.get()
    assert queue.fail(uid) is True
    assert queue.get().payload == payload("b")
    again = queue.get()
    assert again == (uid, payload("a"))
    assert again.attempts == 2


def test_only_an_item_in_flight_can_fail(queue: Any, client: redis.Redis) -> None:
    ready = queue.put("a")
    before = snapshot(client)
    assert queue.fail(ready) is False
    assert queue.fail("no such uid") is False
    assert snapshot(client) == before
    uid, _ = queue.get()
    assert queue.fail(uid) is True
    assert queue.fail(uid) is False
    assert snapshot(client)["queue"] == [ready]


@any_settings
def test_a_stale_holder_changes_nothing(queue: Any, client: redis.Redis) -> None:
    queue.put("a")
    stale, _ = queue.get()
    queue.fail(stale)
    fresh, _ = queue.get()
    before = snapshot(client)
    assert fresh == stale
    assert queue.ack(stale) is False
    assert queue.fail(stale) is False
    assert snapshot(client) == before
    assert queue.ack(fresh) is True


def test_a_plain_uid_is_not_fenced(queue: Any) -> None:
    queue.put("a")
    uid, _ = queue.get()
    assert queue.fail(str(uid)) is True
    queue.get()
    assert queue.ack(str(uid)) is True


@any_settings
def test_a_fenced_uid_survives_pickle(queue: Any) -> None:
    queue.put("a")
    stale = pickle.loads(pickle.dumps(queue.get().uid))
    queue.fail(stale)
    queue.get()
    assert queue.ack(stale) is False


@any_settings
def test_an_orphan_comes_back_after_two_intervals(queue: Any, client: redis.Redis) -> None:
    uid = queue.put("a")
    queue.get()
    assert snapshot(client)["ackbuf"] == [uid]
    lapse(client)
    assert queue.get(-1) == (None, None)
    assert snapshot(client)["backup"] == [uid]
    lapse(client)
    again = queue.get(-1)
    assert again.uid == uid
    assert again.attempts == 2
    check_places(client)


def test_who_lost_an_item_may_ack_it_until_somebody_else_has_it(
    queue: Any, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saferedisqueue, "_KEEP_HOUSE", 0)  # each get does
    queue.put("a")
    uid, _ = queue.get()
    for _ in range(2):
        lapse(client)
        queue.put("b")
        queue.ack(queue.get(-1).uid)
    assert snapshot(client)["queue"] == [uid]
    assert queue.ack(uid) is True
    assert queue.get(-1) == (None, None)


def test_put_many_keeps_the_order_and_takes_any_iterable(queue: Any, payload: Any) -> None:
    uids = queue.put_many(str(n) for n in range(1234))
    assert len(set(uids)) == 1234
    assert queue.put_many([]) == []
    got = [queue.get(-1) for _ in range(1235)]
    assert got == [(u, payload(str(n))) for n, u in enumerate(uids)] + [(None, None)]


@pytest.mark.parametrize("serializer", [json, pickle])
def test_modules_are_serializers_as_they_are(
    face: Face, server: Server, client: redis.Redis, settings: dict[str, Any], serializer: Any
) -> None:
    queue = face.queue(url=server.url, name="test", serializer=serializer, **settings)
    for item in (None, 17, 1.5, "ä", [1, {"a": None}], ""):
        queue.put(item)
        assert queue.get(-1).payload == item


def test_a_serializer_is_given_str_where_responses_are_decoded(
    face: Face, server: Server, client: redis.Redis, settings: dict[str, Any]
) -> None:
    class Upper:
        @staticmethod
        def dumps(item: str) -> str:
            return item.upper()

        @staticmethod
        def loads(payload: bytes | str) -> bytes | str:
            return payload

    queue = face.queue(url=server.url, name="test", serializer=Upper, **settings)
    queue.put("ä")
    assert queue.get().payload == ("Ä" if settings.get("decode_responses") else "Ä".encode())


def test_bytes_come_back_byte_for_byte(face: Face, server: Server, client: redis.Redis) -> None:
    queue = face.queue(url=server.url, name="test")
    for payload in (b"", bytes(range(256)), b"\r\n", bytearray(b"a"), memoryview(b"b")):
        queue.put(payload)
        got = queue.get().payload
        assert type(got) is bytes
        assert got == bytes(payload)


def time_of(client: redis.Redis) -> float:
    seconds, microseconds = client.time()
    return float(seconds + microseconds / 1e6)


@any_settings
def test_stats_count_items(queue: Any, client: redis.Redis) -> None:
    assert queue.stats() == (0, 0, 0, 0, 0, False, None, 0)
    assert queue.empty()
    for text in "abc":
        queue.put(text)
    queue.get()
    put_at = queue.peek()[0].put_at
    youngest = time_of(client) - put_at
    stats = queue.stats()
    assert (stats.ready, stats.in_flight, stats.dead, stats.total) == (2, 1, 0, 3)
    # By the server's clock, in ms.
    assert youngest - 0.001 <= stats.oldest <= time_of(client) - put_at + 0.001
    assert queue.qsize() == 2
    assert not queue.empty()


@any_settings
def test_purge_drops_everything(queue: Any, client: redis.Redis) -> None:
    for text in "abc":
        queue.put(text)
    uid, _ = queue.get()
    assert queue.purge() == 3
    assert queue.ack(uid) is False
    assert queue.get(-1) == (None, None)
    assert snapshot(client).keys() <= {"backuplock"}


# -- with whatever settings ------------------------------------------------------------------------


def about(row: tuple[str | None, str, str]) -> tuple[Any, ...]:
    server, settings, face = row
    client = SETTINGS[settings]
    return server, client.get("protocol"), client.get("decode_responses", False), face


@pytest.mark.parametrize(("how", "labels"), [("first", [None]), ("pairs", servers.ALL)])
def test_each_pair_of_server_protocol_decoding_and_face_is_tried(
    how: str, labels: Sequence[str | None]
) -> None:
    values: list[Sequence[Any]] = [labels, (2, 3), (False, True), list(FACES)]
    tried = [about(row) for row in ROWS[how]]
    for one, other in itertools.combinations(range(len(values)), 2):
        pairs = {(row[one], row[other]) for row in tried}
        assert pairs == set(itertools.product(values[one], values[other]))


def test_all_is_each_protocol_and_decoding_on_each_server_with_each_face() -> None:
    every = itertools.product(servers.ALL, (None, 2, 3), (False, True), FACES)
    assert sorted(map(repr, map(about, ROWS["all"]))) == sorted(map(repr, every))
