"""Clusters, Sentinel, TLS and ACLs: the queue works where servers are more than one, or careful."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.sentinel
import redis.sentinel

import servers
from helpers import Asyncio, Face, eventually, lapse, run_alone, seed
from permissions import DURABLE, PLAIN, REST
from saferedisqueue import AsyncSafeRedisQueue, NotDurable, SafeRedisQueue
from topologies import Cluster, Watched, ask, elsewhere, go_on, hang, identity, info

# What a caller meets in an outage, and sends again.
OUTAGE = (redis.RedisError, redis.exceptions.RedisClusterException, NotDurable)


def flavour(face: Face) -> Any:
    return redis.asyncio if isinstance(face, Asyncio) else redis


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test opens, the latest first."""
    with ExitStack() as opened:
        yield opened


def closing(stack: ExitStack, face: Face, client: Any) -> Any:
    """A client of the face, closed at the end."""
    if isinstance(face, Asyncio):
        stack.callback(lambda: face.loop.run_until_complete(client.aclose()))
    else:
        stack.callback(client.close)
    return client


def insist(put: Callable[[], Any]) -> Any:
    """Put, with the same uid again and again until it is answered: what a careful caller does."""

    def answered() -> bool:
        try:
            put()
        except OUTAGE:
            return False
        return True

    eventually(answered)


# -- cluster ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A cluster that the tests leave as it was."""
    with Cluster(servers.find()) as running:
        yield running


@pytest.fixture
def own_cluster() -> Iterator[Cluster]:
    """A cluster of the test's own, to lose nodes."""
    with Cluster(servers.find()) as running:
        yield running


Clustered = Callable[..., Any]


@pytest.fixture
def clustered(face: Face, stack: ExitStack) -> Clustered:
    """Makes queues on a cluster."""

    def queue(cluster: Cluster, name: str = "test", settings: Any = (), **kw: Any) -> Any:
        known = {"host": "127.0.0.1", "port": cluster.nodes[0].port, "socket_timeout": 2}
        client = closing(stack, face, flavour(face).RedisCluster(**known, **dict(settings)))
        return face.queue(client=client, name=name, **kw)

    return queue


@pytest.mark.parametrize(
    ("name", "prefix"), [("a", "srq:{a}:"), ("a{b}c", "srq:a{b}c:"), ("{a}", "srq:{a}:")]
)
def test_in_a_cluster_a_name_is_its_own_hash_tag_unless_it_has_one(
    clustered: Clustered, cluster: Cluster, name: str, prefix: str
) -> None:
    queue = clustered(cluster, name)
    node = cluster.master_of(prefix)
    with node.client(decode_responses=True) as client:
        before = set(client.keys("srq:*"))  # of the tests before
        uid = queue.put("x")
        assert client.hkeys(f"{prefix}items") == [uid]
        assert all(key.startswith(prefix) for key in set(client.keys("srq:*")) - before)
        assert {cluster.slot_of(key) for key in client.keys(f"{prefix}*")} == {
            cluster.slot_of(prefix)
        }
    assert queue.purge() == 1


@pytest.mark.parametrize(
    "of_client",
    [{"protocol": 2, "decode_responses": True}, {"protocol": 3}],
    ids=["resp2", "resp3"],
)
def test_every_method_works_in_a_cluster(
    clustered: Clustered, cluster: Cluster, of_client: dict[str, Any]
) -> None:
    queue = clustered(cluster, "every", of_client, max_attempts=2, maxsize=1000)
    text = str if of_client.get("decode_responses") else str.encode
    queue.purge()

    first = queue.put("a")
    more = queue.put_many(str(n) for n in range(600))
    assert queue.put("again", uid=first) is None
    assert [each.uid for each in queue.peek(2)] == [first, more[0]]
    assert queue.get() == (first, text("a"))
    assert queue.touch(first, 60) is True
    assert queue.ack(first) is True
    got = queue.get_many(600)
    assert [item.uid for item in got] == more
    assert queue.fail(got[0].uid) is True
    assert queue.fail(queue.get_nowait().uid, reason="twice") is True
    assert [(dead.uid, dead.reason) for dead in queue.dead()] == [(more[0], "twice")]
    assert queue.revive() == 1
    assert queue.bury(queue.get().uid, "why") is True
    assert queue.purge_dead() == 1
    assert queue.fail_many([got[1].uid]) == 1
    assert queue.ack_many(item.uid for item in got[2:]) == 598
    assert (queue.qsize(), queue.empty(), queue.exists(more[1])) == (1, False, True)
    assert queue.remove(more[1]) is True
    assert queue.join(-1) is True

    queue.pause()
    urgent, late = queue.put("urgent", priority=9), queue.put("late", delay=3600)
    assert queue.get(-1) == (None, None)
    queue.resume()
    assert queue.get(30).uid == urgent
    stats = queue.stats()
    assert (stats.ready, stats.in_flight, stats.delayed, stats.total) == (0, 1, 1, 2)
    assert queue.remove(late) is True
    queue.ack(urgent)

    with queue.processing(30) if queue.put("b") else None as item:
        assert item.payload == text("b")
    queue.put_many([*"cde"])
    with queue.consume(prefetch=2, timeout=-1) as items:
        assert [item.payload for item in items] == [text(each) for each in "cde"]
    assert queue.stats() == (0, 0, 0, 0, 0, False, None, 0)
    assert queue.get(0.05) == (None, None)
    assert queue.purge() == 0


def test_in_a_cluster_forward_needs_a_common_hash_tag(
    clustered: Clustered, cluster: Cluster
) -> None:
    source, target = clustered(cluster, "a{tag}"), clustered(cluster, "b{tag}")
    source.put("a")
    uid, _ = source.get()
    with pytest.raises(ValueError, match="hash tag"):
        source.forward(uid, "b{other}", "b")
    with pytest.raises(ValueError, match="hash tag"):
        source.forward(uid, "b", "b")
    assert source.stats().in_flight == source.stats().total == 1
    new = source.forward(uid, "b{tag}", "b")
    assert target.get(-1) == (new, b"b")
    assert target.ack(new) is True
    assert source.stats().total == 0


def test_in_a_cluster_forward_finds_a_name_that_is_its_own_tag(
    clustered: Clustered, cluster: Cluster
) -> None:
    source, target = clustered(cluster, "{tag}:high"), clustered(cluster, "tag")
    for queue, to in ((source, "tag"), (target, "{tag}:high")):
        queue.put("a")
        new = queue.forward(queue.get(-1).uid, to, "b")
        assert [target, source][queue is target].get(-1) == (new, b"b")
        assert queue.stats().total == 0
        source.purge(), target.purge()


def test_nothing_confirmed_is_lost_when_a_master_is_killed(
    clustered: Clustered, own_cluster: Cluster
) -> None:
    master = own_cluster.master_of("{test}")
    replica = own_cluster.replica_of(master)
    handled: list[bytes] = []
    done = threading.Event()

    def consume() -> None:
        known: Any = {"host": "127.0.0.1", "port": master.port, "socket_timeout": 2}
        # What a wait had moved when its connection broke comes back after two intervals.
        of: Any = {"name": "test", "autoclean_interval": 1}
        with redis.RedisCluster(**known) as client, SafeRedisQueue(client=client, **of) as q:
            while not (done.is_set() and q.stats().total == 0):  # acks may have been lost
                try:
                    with q.consume(prefetch=5, lease=3, timeout=0.5) as items:
                        handled.extend(item.payload for item in items)
                except OUTAGE:  # at the end of the timeout it still went on
                    continue

    consumer = elsewhere(consume)
    # Until the kill a put must have reached the replica; after it there is none.
    careful, plain = clustered(own_cluster, durable=1, durable_timeout=2), clustered(own_cluster)
    confirmed = set()
    number = 0
    try:
        while number < 300:
            if number == 150:
                eventually(lambda: len(handled) > 50)
                master.kill()
            careful.put(f"{number}", uid=f"{number}")
            confirmed.add(b"%d" % number)
            number += 1
    except OUTAGE:
        pass
    assert 150 <= number < 300
    for later in range(number, number + 50):
        insist(lambda each=later: plain.put(f"{each}", uid=f"{each}"))
        confirmed.add(b"%d" % later)
    done.set()
    assert consumer.exception(60) is None
    assert confirmed <= set(handled)
    assert info(replica, "replication")["role"] == "master"
    # It had never seen the scripts.
    assert info(replica, "commandstats")["cmdstat_eval"]["calls"] > 0


def test_a_master_that_hangs_is_left_for_the_promoted_replica(
    clustered: Clustered, own_cluster: Cluster
) -> None:
    queue = clustered(own_cluster)
    master = own_cluster.master_of("{test}")
    replica = own_cluster.replica_of(master)
    queue.put("a", uid="a")
    with master.client() as client:
        assert client.wait(1, 60_000) == 1
    hang(master)
    insist(lambda: queue.put("b", uid="b"))
    assert info(replica, "replication")["role"] == "master"
    assert [queue.get(-1).uid for _ in "ab"] == ["a", "b"]


def test_a_cluster_that_was_never_reached_is_a_connection_error() -> None:
    class Impatient(AsyncSafeRedisQueue[bytes]):
        async def _sleep(self, seconds: float) -> None:
            pass

    async def put() -> None:
        client = redis.asyncio.RedisCluster(host="127.0.0.1", port=servers.free_port())
        try:
            await Impatient(client=client).put("a")
        finally:
            await client.aclose()

    with pytest.raises(redis.ConnectionError, match="nobody says where its server is"):
        asyncio.run(put())


def test_a_get_from_a_server_that_hangs_raises_and_reads_no_stray_reply_later(
    face: Face, own_server: servers.Server
) -> None:
    queue = face.queue(url=own_server.url, name="test")
    assert queue.get(0.05) == (None, None)
    hang(own_server)
    with pytest.raises(redis.TimeoutError):
        queue.get(0.05)
    go_on(own_server)
    uids = [queue.put("a"), queue.put("b")]
    assert [queue.get(0.05), queue.get(0.05)] == [(uids[0], b"a"), (uids[1], b"b")]


@pytest.mark.parametrize("call", ["put", "get", "ack"])
def test_a_queue_whose_slot_moves_goes_on(
    clustered: Clustered, cluster: Cluster, call: str
) -> None:
    queue = clustered(cluster, "moving")
    queue.purge()
    held = queue.put("held")
    assert queue.get().uid == held
    if call == "get":
        ready = queue.put("ready")
    source = cluster.master_of("{moving}")
    target = cluster.other_master(source)
    slot = cluster.slot_of("{moving}")
    ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", identity(source))
    ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", identity(target))

    calls = {
        "put": lambda: queue.put("new", uid="new") == "new",
        "get": lambda: queue.get(60).uid == ready,
        "ack": lambda: queue.ack(held),
    }
    refused = refusals(source)
    reply = elsewhere(calls[call])
    eventually(lambda: refusals(source) > refused)
    assert not reply.done()

    keys = ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100)
    ask(source, "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
    for node in (target, source):
        ask(node, "CLUSTER", "SETSLOT", slot, "NODE", identity(target))
    assert reply.result(60) is True
    with target.client() as client:
        assert client.exists("srq:{moving}:items") == (call != "ack")
    eventually(lambda: cluster.master_of("{moving}") is target)


def refusals(node: servers.Server) -> int:
    """How often a command met a slot that moves."""
    stats = info(node, "errorstats")
    return sum(
        stats.get(f"errorstat_{error}", {"count": 0})["count"] for error in ("ASK", "TRYAGAIN")
    )


# -- Sentinel --------------------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    with Watched(servers.find(), tmp_path) as running:
        yield running


def watched_queue(stack: ExitStack, watched: Watched, of: Face, name: str, **kw: Any) -> Any:
    """One whose server is found by asking the sentinels."""
    seconds = {"socket_timeout": 2}
    module = flavour(of).sentinel
    sentinel = module.Sentinel(watched.addresses, sentinel_kwargs=seconds, **seconds)
    for each in sentinel.sentinels:
        closing(stack, of, each)
    client = closing(stack, of, sentinel.master_for(watched.name))
    return of.queue(client=client, name=name, **kw)


def test_a_queue_given_by_sentinel_outlasts_a_failover(
    face: Face, stack: ExitStack, watched: Watched
) -> None:
    queue = partial(watched_queue, stack, watched)
    kept = queue(face, "kept", durable=1)
    uids = [kept.put(f"{n}") for n in range(10)]
    held, _ = kept.get()
    uids.append(kept.put("10"))  # with it the replica has the get too
    waiter, putter = queue(stack.enter_context(type(face)()), "waited"), queue(face, "waited")
    waiting = elsewhere(lambda: waiter.get(60))
    eventually(lambda: info(watched.primary, "clients")["blocked_clients"])
    watched.primary.kill()
    insist(lambda: putter.put("x", uid="x"))
    assert waiting.result(60) == ("x", b"x")
    assert info(watched.replica, "replication")["role"] == "master"

    plain = queue(face, "kept")
    assert plain.ack(held) is True
    assert [plain.get(-1).uid for _ in uids[1:]] == uids[1:]
    assert plain.get(-1) == (None, None)


def test_calls_that_all_have_little_time_leave_a_master_that_hangs(
    face: Face, stack: ExitStack, watched: Watched
) -> None:
    """Each of their errors might tell of its own impatience alone."""
    queue = watched_queue(stack, watched, face, "test")
    queue.put("a")
    hang(watched.primary)

    def put() -> Any:
        try:
            return queue.put("b", timeout=0.3)
        except OUTAGE:
            return None

    eventually(put, 30)
    assert info(watched.replica, "replication")["role"] == "master"


def test_what_a_handler_raises_is_not_taken_for_a_failure_of_a_sentinel(
    server: servers.Server, client: redis.Redis, watched: Watched
) -> None:
    run_alone(ALARMED, server, *(f"{port}" for _, port in watched.addresses), watched.name)


ALARMED = """
import os, signal, sys
import redis.sentinel
from saferedisqueue import SafeRedisQueue

def ring(*_):
    raise TimeoutError("the alarm")

ports, name = map(int, sys.argv[2:-1]), sys.argv[-1]
sentinel = redis.sentinel.Sentinel([("127.0.0.1", port) for port in ports], socket_timeout=5)
queue = SafeRedisQueue(client=sentinel.master_for(name), name="test")
first = sentinel.sentinels[0].info("server")["process_id"]
os.kill(first, signal.SIGSTOP)
signal.signal(signal.SIGALRM, ring)
signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    queue.put("a")
except TimeoutError as error:
    assert str(error) == "the alarm"
else:
    sys.exit("it was swallowed")
finally:
    os.kill(first, signal.SIGCONT)
"""


# -- TLS -------------------------------------------------------------------------------------------


def test_over_tls_the_certificate_is_verified(
    face: Face, over_tls: str, certificates: Path
) -> None:
    queue = face.queue(url=over_tls, name="tls", ssl_ca_certs=str(certificates / "ca.pem"))
    uid = queue.put("a")
    assert queue.get() == (uid, b"a")
    assert queue.ack(uid) is True
    assert queue.get(0.05) == (None, None)


def test_a_certificate_of_another_ca_is_a_clear_error(
    face: Face, over_tls: str, certificates: Path
) -> None:
    ca = str(certificates / "other.pem")
    queue = face.queue(url=over_tls, name="tls", ssl_ca_certs=ca, retry=None)

    def is_told(call: Callable[[], Any]) -> bool:
        # On a slow machine the time for connecting may be over before the certificate is seen.
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)) as error:
            call()
        return "certificate verify failed" in str(error.value).lower()

    for call in (lambda: queue.put("a"), lambda: queue.get(-1), lambda: queue.get(0.2)):
        assert any(is_told(call) for _ in range(10))


# -- ACLs ------------------------------------------------------------------------------------------


def use_plain(make: Callable[..., Any], client: redis.Redis) -> None:
    """Take every path of put, get, ack and fail."""
    queue = make()
    queue.put_many([*"ab"])
    queue.ack(queue.get().uid)
    queue.fail(queue.get().uid)
    queue.get()  # its holder forgets it
    for _ in range(2):
        lapse(client)
        item = queue.get(-1)
    queue.ack(item.uid)
    seed(client, meta={"acked by a 3.0.0": "1 0 - "})
    assert queue.get(-1) == (None, None)
    queue.put_many([*"de"])
    for item in (queue.get(), queue.get()):
        queue.hand_back([item.uid])  # as a get does that is interrupted
    for _ in "de":
        queue.ack(queue.get().uid)
    seed(client, items={"c": "c"})  # or there would be nothing to watch for
    waiting = elsewhere(lambda: queue.get(30))
    eventually(lambda: waiting.done() or client.info("clients")["blocked_clients"])
    client.lpush("srq:test:queue", "c")
    assert waiting.result(60).payload == b"c"


def use_everything(make: Callable[..., Any], client: redis.Redis) -> None:
    """Take what paths there are besides."""
    use_plain(make, client)
    queue = make(maxsize=1000)
    queue.purge()
    client.persist("srq:test:backuplock")  # as a 3.0.0 that died leaves it
    for text in "abcd":
        queue.put(text, priority=5)
    queue.put("e", delay=0.01)
    assert {queue.get(30, lease=60).payload for _ in "abcde"} == set(map(str.encode, "abcde"))
    queue.put_many([*"fghij"])
    queue.get(lease=0.01)
    queue.touch(queue.get(lease=0.01).uid, 0.02)
    held = queue.get_many(5)
    while len(held) < 5:
        held += queue.get_many(5 - len(held), 30)
    assert queue.ack_many([held.pop().uid, held.pop().uid]) == 2
    queue.bury(held[0].uid)
    assert (len(queue.dead()), queue.revive(held[0].uid), queue.purge_dead()) == (1, 1, 0)
    queue.forward(held[1].uid, "test", "k")
    with queue.consume(timeout=-1) as items:
        next(items)
    looked = len(queue.peek(9))
    assert (looked, queue.exists(held[2].uid), queue.remove(held[2].uid)) == (2, True, True)
    queue.pause()
    queue.resume()
    queue.stats()


def use_durably(make: Callable[..., Any], client: redis.Redis) -> None:
    with pytest.raises(NotDurable, match="1 replicas"):
        make(durable=1, durable_timeout=0.001).put("a")
    with pytest.raises(NotDurable, match="appendonly"):
        make(durable="fsync").put("b")


LEVELS = {
    "plain": (PLAIN, use_plain),
    "everything": ((*PLAIN, *REST), use_everything),
    "durable": ((*PLAIN, *DURABLE), use_durably),
}


@pytest.mark.parametrize("level", LEVELS)
def test_a_user_who_is_allowed_the_listed_commands_needs_each_and_no_more(
    face: Face, server: servers.Server, client: redis.Redis, level: str
) -> None:
    commands, use = LEVELS[level]

    def use_with(allowed: Iterable[str]) -> None:
        rules = ["reset", "on", ">secret", "~srq:*", *(f"+{command}" for command in allowed)]
        client.execute_command("ACL", "SETUSER", "worker", *rules)
        client.flushall()
        client.script_flush()
        url = f"unix://worker:secret@{server.socket}"
        common = {"url": url, "name": "test", "autoclean_interval": 3600}
        use(lambda **kw: face.queue(**common, **kw), client)

    try:
        use_with(commands)
        # Without BLMOVE a get looks again and again: see test_asking.py. Without the others the
        # general ways are taken, which cost more.
        spared = {"blmove", "incr", "hsetnx"}
        for each in set(PLAIN) - spared if level == "plain" else set(commands) - set(PLAIN):
            refused = ""
            try:
                use_with(set(commands) - {each})
            except redis.ResponseError as error:
                refused = str(error)
            assert re.search("(?i)permission|can't run this command", refused), each
    finally:
        client.execute_command("ACL", "DELUSER", "worker")
