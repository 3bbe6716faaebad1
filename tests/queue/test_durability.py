"""A durable queue: put returns when replicas, or the disk, have the item, and not before."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from typing import Any

import pytest

import servers
from helpers import Face, eventually, within
from lines import crowd
from proxy import Proxy
from saferedisqueue import AsyncSafeRedisQueue, NotDurable, QueueFull
from topologies import Replicated, elsewhere, go_on, hang, info

PROTOCOLS = pytest.mark.parametrize("protocol", [2, 3], ids=["resp2", "resp3"])


# -- replicas --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running() -> Iterator[Replicated]:
    with Replicated(servers.find()) as replicated:
        yield replicated


@pytest.fixture
def replicated(running: Replicated) -> Iterator[Replicated]:
    """A primary, empty, and a replica in step with it."""
    with running.primary.client() as client:
        client.flushall()
        assert client.wait(1, 60_000) == 1
    yield running
    go_on(running.replica)


@PROTOCOLS
def test_what_was_put_is_on_the_replica_when_put_returns(
    face: Face, replicated: Replicated, protocol: int
) -> None:
    queue = face.queue(url=replicated.primary.url, name="test", durable=1, protocol=protocol)
    with replicated.replica.client(decode_responses=True) as replica:
        for number in range(20):
            uid = queue.put(f"{number}")
            assert replica.hget("srq:test:items", uid) == f"{number}"
        uids = queue.put_many(map(str, range(1200)))
        assert set(uids) < set(replica.hkeys("srq:test:items"))
        assert queue.put("late", delay=60) in replica.zrange("srq:test:delayed", 0, -1)


@PROTOCOLS
def test_a_put_that_no_replica_confirms_in_time_raises_and_the_item_is_there(
    face: Face, replicated: Replicated, protocol: int
) -> None:
    queue = face.queue(
        url=replicated.primary.url, durable=1, durable_timeout=0.3, protocol=protocol
    )
    hang(replicated.replica)
    begun = time.monotonic()
    with within(0.3), pytest.raises(NotDurable, match=r"1 replicas within 0.3 s \(0 of 1\)"):
        queue.put("a", uid="a")
    assert time.monotonic() - begun >= 0.3
    with pytest.raises(NotDurable, match="1 replicas"):
        queue.put_many([*"bc"])
    assert queue.exists("a")
    assert queue.qsize() == 3


def test_of_puts_that_are_begun_together_each_is_confirmed(
    face: Face, replicated: Replicated
) -> None:
    queue = face.queue(url=replicated.primary.url, name="test", durable=2, durable_timeout=0.1)

    async def put(queue: Any) -> Any:
        return await queue.put("a")

    outcomes = crowd(face, queue, 4, put)
    assert [type(each) for each in outcomes] == [NotDurable] * 4, outcomes
    assert queue.qsize() == 4


def test_a_confirmation_may_take_longer_than_the_socket_timeout(
    face: Face, replicated: Replicated
) -> None:
    queue = face.queue(
        url=replicated.primary.url, durable=2, durable_timeout=1.3, socket_timeout=1, retry=None
    )
    with pytest.raises(NotDurable, match=r"2 replicas within 1.3 s \(1 of 2\)"):
        queue.put("a")


def test_as_many_replicas_as_asked_for_must_have_it(face: Face, replicated: Replicated) -> None:
    queue = face.queue(url=replicated.primary.url, durable=2, durable_timeout=0.1)
    with pytest.raises(NotDurable, match=r"2 replicas within 0.1 s \(1 of 2\)"):
        queue.put("a")


def test_a_put_that_is_repeated_is_confirmed_only_when_the_item_is_there(
    face: Face, replicated: Replicated
) -> None:
    hang(replicated.replica)
    # Each on a connection that has written nothing else.
    for _ in range(2):
        queue = face.queue(url=replicated.primary.url, durable=1, durable_timeout=0.2)
        with pytest.raises(NotDurable):
            queue.put("a", uid="a")
    go_on(replicated.replica)
    queue = face.queue(url=replicated.primary.url, durable=1, durable_timeout=60)
    assert queue.put("a", uid="a") is None
    with replicated.replica.client() as replica:
        assert replica.hget("srq:0:items", "a") == b"a"
    assert queue.stats().total == 1


@pytest.mark.parametrize("replica_recovers", [False, True])
def test_a_connection_lost_while_the_put_waits_confirms_nothing(
    face: Face, replicated: Replicated, replica_recovers: bool
) -> None:
    seconds = 60 if replica_recovers else 3
    queue = face.queue(url=replicated.primary.url, durable=1, durable_timeout=seconds)
    hang(replicated.replica)
    put = elsewhere(lambda: queue.put("a", uid="a"))
    with replicated.primary.client() as client:

        def waiting() -> list[Any]:
            return [c["id"] for c in client.client_list() if c["cmd"] == "wait"]

        first = eventually(waiting)
        client.client_kill_filter(_id=first[0])
        # It was sent again, over another connection, and waits again.
        assert eventually(lambda: put.done() or (waiting() and waiting() != first)) is True
        assert not put.done()
    if replica_recovers:
        go_on(replicated.replica)
        assert put.result(60) == "a"
        with replicated.replica.client() as replica:
            assert replica.hexists("srq:0:items", "a")
    else:
        assert isinstance(put.exception(60), NotDurable)
    assert queue.stats().total == 1


def test_a_put_that_loses_its_connection_leaves_no_error_that_nobody_awaits(
    replicated: Replicated, caplog: pytest.LogCaptureFixture
) -> None:
    async def put() -> None:
        async with AsyncSafeRedisQueue[bytes](url=proxy.url, durable=1) as queue:
            await queue.put("a")
            proxy.fail_at(0, "lost reply")
            await queue.put("b")
            assert proxy.failed

    with Proxy(replicated.primary) as proxy:
        asyncio.run(put())
        gc.collect()
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def test_a_full_queue_is_told_as_such(face: Face, replicated: Replicated) -> None:
    queue = face.queue(url=replicated.primary.url, durable=1, maxsize=1)
    queue.put("a")
    with pytest.raises(QueueFull):
        queue.put("b")


# -- disk ------------------------------------------------------------------------------------------


def on_disk(label: str, *policy: str) -> servers.Server:
    appendonly, fsync, *options = policy
    log = ("--appendonly", appendonly, "--appendfsync", fsync)
    return servers.Server(servers.find(label), None, *log, *options)


def calls(server: servers.Server, command: str) -> int:
    stats = info(server, "commandstats").get(f"cmdstat_{command}", {"calls": 0})
    number: int = stats["calls"]
    return number


@PROTOCOLS
@pytest.mark.parametrize("label", servers.ALL)
def test_where_each_write_is_synced_the_answer_to_a_put_suffices(
    face: Face, label: str, protocol: int
) -> None:
    with on_disk(label, "yes", "always") as server:
        asked = "config" if label == "redis-6.2" else "config|get"
        before = calls(server, asked)
        queue = face.queue(url=server.url, name="test", durable="fsync", protocol=protocol)
        uids = [queue.put("a"), *queue.put_many([*"bc"])]
        assert calls(server, asked) == before + 1
        assert calls(server, "waitaof") == 0
        server.kill()
        server.start()
        assert [queue.get(-1).uid for _ in uids] == uids


@PROTOCOLS
def test_where_the_log_is_synced_every_second_redis_8_is_waited_for(
    face: Face, protocol: int
) -> None:
    with on_disk("redis-8.2", "yes", "everysec") as server, server.client() as client:
        patient, hasty = (
            face.queue(url=server.url, durable="fsync", durable_timeout=each, protocol=protocol)
            for each in (60, 0.2)
        )
        assert patient.put("a", uid="a") == "a"
        assert len(patient.put_many([*"bc"])) == 2
        # It goes with the put, also with the first of each script, which the server does not know.
        assert calls(server, "waitaof") == 4

        # Nothing is synced while the log is rewritten, which takes seconds.
        client.config_set("no-appendfsync-on-rewrite", "yes")
        client.config_set("rdb-key-save-delay", 500_000)
        client.bgrewriteaof()
        eventually(lambda: client.info("persistence")["aof_rewrite_in_progress"])
        with pytest.raises(NotDurable, match=r"its disk within 0.2 s \(0 of 1\)"):
            hasty.put("d", uid="d")
        assert hasty.exists("d")
        assert client.info("persistence")["aof_rewrite_in_progress"]
        assert patient.put("d", uid="d") is None
        assert not client.info("persistence")["aof_rewrite_in_progress"]


@pytest.mark.parametrize(
    ("label", "policy", "message"),
    [
        ("valkey-9.1", ("yes", "everysec"), "appendfsync always"),
        ("redis-7.0", ("yes", "everysec"), "appendfsync always"),
        ("redis-6.2", ("yes", "everysec"), "appendfsync always"),
        ("valkey-9.1", ("yes", "no"), "appendfsync always"),
        ("redis-8.2", ("yes", "no"), "appendfsync always"),
        ("valkey-9.1", ("no", "always"), "appendonly yes"),
        ("redis-8.2", ("no", "everysec"), "appendonly yes"),
        ("redis-6.2", ("no", "always"), "appendonly yes"),
        (
            "valkey-9.1",
            ("yes", "always", "--no-appendfsync-on-rewrite", "yes"),
            "no-appendfsync-on-rewrite no",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_a_server_that_cannot_tell_what_is_on_its_disk_is_refused(
    face: Face, label: str, policy: tuple[str, ...], message: str
) -> None:
    with on_disk(label, *policy) as server:
        queue = face.queue(url=server.url, durable="fsync")
        for _ in range(2):
            with pytest.raises(NotDurable, match=message):
                queue.put("a")
        assert queue.stats().total == 0


def test_after_an_outage_the_server_is_asked_anew_how_it_keeps_its_log(face: Face) -> None:
    with on_disk("valkey-9.1", "yes", "always") as server:
        queue = face.queue(url=server.url, durable="fsync")
        queue.put("a")
        server.kill()
        server._options = ("--appendonly", "yes", "--appendfsync", "everysec")
        server.start()
        with pytest.raises(NotDurable, match="appendfsync always"):
            queue.put("b")
        assert queue.stats().total == 1


@pytest.mark.parametrize("limits", [{}, {"max_connections": 1}], ids=["many", "one"])
def test_a_put_that_finds_another_server_than_was_asked_is_confirmed_by_that(
    face: Face, limits: dict[str, int]
) -> None:
    """As after a fail-over: between what is asked and the put its queue is told of another one."""
    log = ("--appendonly", "yes", "--appendfsync")
    first = servers.Server(servers.find("valkey-9.1"), None, *log, "always")
    with first, servers.Server(servers.find("valkey-9.1"), None, *log, "everysec") as second:
        queue = face.queue(url=first.url, name="test", durable="fsync", **limits)
        queue.put("a")
        face.queue(url=second.url, name="test").put("b")  # it knows the script
        inner = getattr(queue, "wrapped", queue)
        ask = inner._confirmation

        async def ask_and_fail_over(until: Any) -> Any:
            inner._confirmation = ask
            told = await ask(until)
            settings = {**inner._target.settings, "path": second.socket}
            inner._target, inner._pool = inner._target._replace(settings=settings), None
            return told

        inner._confirmation = ask_and_fail_over
        with pytest.raises(NotDurable, match="appendfsync always"):
            queue.put("c")
        with second.client() as client:
            assert client.hlen("srq:test:items") == 1
