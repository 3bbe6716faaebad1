"""Power loss: what a server had not synced is gone, and a durable put does not return before."""

from __future__ import annotations

from typing import Any

import pytest

import servers
from helpers import FACES, Face, check_places, eventually
from powercut import Machine
from producers import Producers, consumed
from topologies import info

DURABLE: Any = {"durable": "fsync", "durable_timeout": 3}


def settings(server: servers.Server) -> dict[str, Any]:
    return {"url": server.url, "name": "test"}


# -- put -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "fsync"),
    [*((label, "always") for label in servers.ALL), ("redis-8.2", "everysec")],
)
def test_no_durable_put_that_returned_is_lost(label: str, fsync: str) -> None:
    # A server syncs twice as it starts; then once for each write, or once a second.
    with Machine(label, fsync, syncs=40 if fsync == "always" else 4) as server:
        with Producers(**settings(server), **DURABLE) as producers:
            producers.wait(lambda: server.is_stuck)
            if fsync == "everysec":  # it goes on answering
                producers.wait_for_refusals(1)
            assert server.cut_power() > 0
            assert any(producers.returned.values())
            server.start()
            producers.wait_for(1)  # perhaps what was under way
        left = consumed(**settings(server))
        for kind in FACES:
            assert producers.lost(kind, left) == set()


@pytest.mark.parametrize("label", servers.ALL)
def test_of_other_puts_those_since_the_last_sync_are_lost(label: str) -> None:
    with Machine(label, "everysec", syncs=2) as server:
        with Producers(**settings(server)) as producers:
            producers.wait(lambda: server.is_stuck)
            producers.wait_for(20)
            assert server.cut_power() > 0
            server.start()
        left = consumed(**settings(server))
        for kind in FACES:
            assert producers.lost(kind, left)


@pytest.mark.parametrize(
    ("label", "fsync"),
    [("valkey-9.1", "everysec"), ("redis-7.0", "everysec"), ("redis-8.2", "no")],
)
def test_where_the_server_cannot_tell_no_durable_put_returns(label: str, fsync: str) -> None:
    with (
        Machine(label, fsync, syncs=2) as server,
        Producers(**settings(server), **DURABLE) as producers,
    ):
        producers.wait(
            lambda: min(producers.refused.values()) > 3 or any(producers.returned.values())
        )
        assert not any(producers.returned.values())
        server.cut_power()
        server.start()
        assert consumed(**settings(server)) == {}


def test_valkey_says_that_a_write_is_on_disk_before_it_is() -> None:
    # When this fails, see whether Valkey may be trusted under everysec.
    with Machine("valkey-9.1", "everysec", syncs=2) as server:
        confirmed = 0
        with server.client() as client:
            while not server.is_stuck:
                number = client.incr("writes")
                if client.execute_command("WAITAOF", 1, 0, 1000) == [1, 0]:
                    confirmed = number
        assert server.cut_power() > 0
        server.start()
        with server.client() as client:
            assert int(client.get("writes")) < confirmed


@pytest.mark.parametrize(
    ("label", "fsync"),
    [("valkey-9.1", "always"), ("redis-8.2", "everysec"), ("redis-6.2", "always")],
)
def test_a_log_that_is_rewritten_meanwhile_loses_no_durable_put(label: str, fsync: str) -> None:
    with Machine(label, fsync) as server:
        with Producers(**settings(server), **DURABLE) as producers:
            with server.client() as client:
                for _ in range(2):
                    producers.wait_for(1)
                    client.bgrewriteaof()
                    eventually(lambda: not rewrites(server))
                client.config_set("rdb-key-save-delay", 100)
                client.bgrewriteaof()
            producers.wait_for(1)
            server.cut_power()
            server.start()
        left = consumed(**settings(server))
        for kind in FACES:
            assert producers.lost(kind, left) == set()


def rewrites(server: servers.Server) -> bool:
    about = info(server, "persistence")
    return bool(about["aof_rewrite_in_progress"] or about["aof_rewrite_scheduled"])


# -- what follows a put ----------------------------------------------------------------------------


def test_whatever_is_undone_of_a_delivery_the_item_is_there(face: Face) -> None:
    with Machine("redis-8.2", "everysec", syncs=2) as server:
        queue = face.queue(**settings(server), durable="fsync", durable_timeout=60)
        uids = queue.put_many(["acked", "failed", "in hand", "ready"])
        hurried = face.queue(url=server.url, name="other")
        eventually(lambda: hurried.put("more") and server.is_stuck)
        acked, failed, in_hand = (queue.get(-1) for _ in range(3))
        assert queue.ack(acked.uid)
        assert queue.fail(failed.uid)
        assert server.cut_power() > 0
        server.start()
        with server.client() as client:
            check_places(client)
        again = [queue.get(-1) for _ in uids]
        assert [item.uid for item in again] == uids
        assert [item.attempts for item in again] == [1, 1, 1, 1]
        # The deliveries that were undone are over.
        assert [queue.ack(item.uid) for item in (acked, failed, in_hand)] == [False] * 3
        assert queue.ack_many([item.uid for item in again]) == 4


@pytest.mark.parametrize("label", servers.ALL)
def test_where_each_write_is_synced_a_delivery_outlasts_a_power_cut(face: Face, label: str) -> None:
    with Machine(label, "always") as server:
        queue = face.queue(**settings(server), durable="fsync")
        uids = queue.put_many(["acked", "failed", "in hand", "ready"])
        acked, failed, in_hand = (queue.get(-1) for _ in range(3))
        assert queue.ack(acked.uid)
        assert queue.fail(failed.uid)
        server.cut_power()
        server.start()
        with server.client() as client:
            check_places(client)
            assert [queue.get(-1).uid for _ in range(2)] == [uids[3], uids[1]]
            assert queue.ack(in_hand.uid)
            assert not queue.ack(acked.uid)
        assert queue.stats().total == 2


# -- the process alone -----------------------------------------------------------------------------


@pytest.mark.parametrize("label", servers.ALL)
def test_without_a_power_cut_a_killed_server_loses_no_put_at_all(label: str) -> None:
    log = ("--appendonly", "yes", "--appendfsync", "no")
    with servers.Server(servers.find(label), None, *log) as server:
        with Producers(**settings(server)) as producers:
            producers.wait_for(50)
            server.kill()
            before = {kind: len(producers.returned[kind]) for kind in FACES}
            server.start()
            producers.wait_for(1)
        left = consumed(**settings(server))
        for kind in FACES:
            assert before[kind] >= 50
            assert producers.lost(kind, left) == set()


def test_without_a_log_a_killed_server_goes_back_to_its_last_snapshot(face: Face) -> None:
    with servers.Server(servers.find()) as server:
        queue = face.queue(**settings(server))
        uids = queue.put_many(["acked later", "ready"])
        with server.client() as client:
            client.save()
        queue.put("put later")
        assert queue.ack(queue.get().uid)
        server.kill()
        server.start()
        again = queue.get_many(9, -1)
        assert [item.uid for item in again] == uids
        assert queue.ack_many(item.uid for item in again) == 2
