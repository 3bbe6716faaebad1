"""Asking where the server is, who we are and what it can: a hung node or a refusal ends no call."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ConstantBackoff
from redis.retry import Retry

import saferedisqueue
import servers
from helpers import Asyncio, Face, eventually, within
from lines import Lines
from proxy import Proxy
from saferedisqueue import AsyncSafeRedisQueue, NotDurable, SafeRedisQueue
from servers import Server
from topologies import Cluster, Watched, elsewhere, go_on, hang

LONG = 30  # seconds in which what does not hang has come back
TIME_OUTS = pytest.mark.parametrize("seconds", [None, 2.0])  # of the client


def flavour(face: Face) -> Any:
    return redis.asyncio if isinstance(face, Asyncio) else redis


def time_outs(seconds: float | None) -> dict[str, float | None]:
    """None must be said: in redis-py 8 it is not the default."""
    return {"socket_timeout": seconds, "socket_connect_timeout": seconds}


def in_time(call: Callable[[], Any], face: Face | None = None) -> Any:
    """The result of a call that is to come back; one that hangs fails, and is cancelled."""
    reply = elsewhere(call)
    try:
        return reply.result(LONG)
    finally:
        if not reply.done() and isinstance(face, Asyncio):  # others use its loop after this
            face.loop.call_soon_threadsafe(face.task.cancel)
            reply.exception(LONG)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what a test opens, the latest first."""
    with ExitStack() as opened:
        yield opened


def closing(stack: ExitStack, face: Face, *clients: Any) -> Any:
    """The last of some clients, which are closed at the end."""
    for client in clients:
        if isinstance(face, Asyncio):
            stack.callback(lambda each=client: face.loop.run_until_complete(each.aclose()))
        else:
            stack.callback(client.close)
    return clients[-1]


def check_calls(face: Face, make: Callable[[], Any], near: Any) -> None:
    """Get, put, and get without end, each of a queue that must ask; ``near`` need not."""
    near.purge()
    uid = near.put("a")
    queue = make()
    with within(2):  # its timeout, and a second
        assert in_time(lambda: queue.get(1), face).uid == uid
    queue = make()
    uid = in_time(lambda: queue.put("b"), face)
    queue = make()
    assert in_time(lambda: queue.get(0), face).uid == uid


# -- Sentinel --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A primary of which the first of three sentinels hangs."""
    with Watched(servers.find(), tmp_path_factory.mktemp("sentinels")) as running:
        hang(running.sentinels[0])
        yield running
        go_on(running.sentinels[0])


def sentinel_of(module: Any, watched: Watched, seconds: float | None) -> Any:
    """One that asks that first which hangs."""
    limits = time_outs(seconds)
    return module.sentinel.Sentinel(watched.addresses, sentinel_kwargs=limits, **limits)


@pytest.fixture
def make_watched(face: Face, stack: ExitStack, watched: Watched) -> Callable[..., Any]:
    """Makes queues of clients that know the sentinels."""

    def make(seconds: float | None) -> Any:
        sentinel = sentinel_of(flavour(face), watched, seconds)
        client = closing(stack, face, *sentinel.sentinels, sentinel.master_for(watched.name))
        return face.queue(client=client, name="test")

    return make


@TIME_OUTS
def test_a_sentinel_that_hangs_holds_up_no_call(
    face: Face, watched: Watched, make_watched: Callable[..., Any], seconds: float | None
) -> None:
    near = face.queue(url=watched.primary.url, name="test")
    check_calls(face, lambda: make_watched(seconds), near)


def test_a_sentinel_that_did_not_answer_is_not_asked_first_again(
    face: Face, make_watched: Callable[..., Any]
) -> None:
    """A put of a client without time-outs would give it five seconds."""
    queue = make_watched(None)
    queue.get(1)
    queue.close()  # so that they are asked again
    with within(0):
        assert in_time(lambda: queue.put("a"), face)
    queue.purge()


def test_where_all_sentinels_hang_calls_keep_their_timeouts(
    face: Face, watched: Watched, stack: ExitStack, make_watched: Callable[..., Any]
) -> None:
    for each in watched.sentinels[1:]:
        hang(each)
        stack.callback(go_on, each)
    queue = make_watched(None)
    outage = (redis.ConnectionError, redis.TimeoutError)
    with within(1.5), pytest.raises(outage):
        in_time(lambda: queue.get(0.5), face)
    with within(0.5), pytest.raises(outage):
        in_time(lambda: queue.put("a", timeout=0.5), face)


# What the first loop leaves nobody closes.
LEFT_BY_A_LOOP = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def check_loops(queue: AsyncSafeRedisQueue[bytes]) -> None:
    """The queue is used in one event loop, and then in another."""

    async def turn() -> None:
        uid = await queue.put(b"a")
        assert (await queue.get(2)).uid == uid
        assert await queue.ack(uid or "")

    for _ in range(2):
        in_time(lambda: asyncio.run(turn()))


@LEFT_BY_A_LOOP
@pytest.mark.usefixtures("_left_to_no_other_test")
def test_a_sentinel_that_hangs_holds_up_no_second_event_loop(watched: Watched) -> None:
    client = sentinel_of(redis.asyncio, watched, None).master_for(watched.name)
    check_loops(AsyncSafeRedisQueue(client=client, name="loops"))


# -- cluster ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with Cluster(servers.find()) as running:
        yield running


@pytest.fixture
def hung(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A node that has no slots, which may be hung, and is asked first."""
    replica = cluster.replica_of(cluster.other_master(cluster.master_of("{test}")))
    # redis-py 8 shuffles those that it asks.
    own_order = partial(list.sort, key=lambda node: node.port != replica.port)
    monkeypatch.setattr(random, "shuffle", own_order)
    yield replica
    go_on(replica)


def of_cluster(face: Face, cluster: Cluster, hung: Server, seconds: float | None) -> Any:
    module = flavour(face)
    nodes = [module.cluster.ClusterNode("127.0.0.1", n.port) for n in (hung, *cluster.nodes[:3])]
    kept = {} if isinstance(face, Asyncio) else {"dynamic_startup_nodes": False}
    return module.RedisCluster(startup_nodes=nodes, **time_outs(seconds), **kept)


@TIME_OUTS
def test_a_node_of_another_shard_that_hangs_holds_up_no_call(
    face: Face, stack: ExitStack, cluster: Cluster, hung: Server, seconds: float | None
) -> None:
    node = cluster.master_of("{test}")
    client = closing(stack, face, of_cluster(face, cluster, hung, seconds))
    queue = face.queue(client=client, name="test")
    queue.purge()
    admin = stack.enter_context(node.client())

    def make() -> Any:
        admin.client_kill_filter(_type="normal", skipme=True)
        return queue

    near = face.queue(url=node.url, name="{test}")
    hang(hung)
    check_calls(face, make, near)


@LEFT_BY_A_LOOP
@pytest.mark.usefixtures("_left_to_no_other_test")
def test_a_node_that_hangs_holds_up_no_event_loop(cluster: Cluster, hung: Server) -> None:
    hang(hung)
    client = of_cluster(Asyncio(), cluster, hung, None)
    check_loops(AsyncSafeRedisQueue(client=client, name="loops"))


@LEFT_BY_A_LOOP
@pytest.mark.usefixtures("_left_to_no_other_test")
def test_a_client_of_a_cluster_that_is_gone_leaves_no_connection(
    stack: ExitStack, cluster: Cluster
) -> None:
    """In asyncio a client is closed, or complains."""
    gc.collect()  # what the tests before have left: an error of it would keep the client
    node = cluster.master_of("{test}")
    lines = stack.enter_context(contextlib.closing(Lines(node)))
    client = redis.RedisCluster(host="127.0.0.1", port=node.port, **time_outs(5), **lines.named)
    queue = SafeRedisQueue[bytes](client=client, name="test")
    queue.put(b"a")
    assert lines.now
    gone = weakref.ref(client)
    del client, queue

    def is_gone() -> bool:
        gc.collect()
        return gone() is None

    eventually(is_gone, 10)
    eventually(lambda: lines.now == 0, 10)


# -- who we are ------------------------------------------------------------------------------------


class Rotated(redis.CredentialProvider):
    """Gives the password that it has been given, though the server may have another by now."""

    password = "one"

    def get_credentials(self) -> tuple[str, str]:
        return "worker", self.password


class Guarded:
    """A server whose user 'worker' has a password, which changes."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.rotate("one")

    def rotate(self, password: str) -> None:
        """Another password, and whoever was let in by the one before is shown the door."""
        rules = ("reset", "on", f">{password}", "~*", "+@all")
        self.client.execute_command("ACL", "SETUSER", "worker", *rules)
        self.client.acl_log_reset()
        self.client.execute_command("CLIENT", "KILL", "USER", "worker")

    @property
    def refused(self) -> int:
        return sum(entry["count"] for entry in self.client.acl_log() if entry["reason"] == "auth")


@pytest.fixture
def guarded(client: redis.Redis) -> Iterator[Guarded]:
    yield Guarded(client)
    client.execute_command("ACL", "DELUSER", "worker")


@pytest.fixture(params=["unix socket", "TCP"])
def address(request: pytest.FixtureRequest, server: Server, stack: ExitStack) -> str:
    """Of the server; in asyncio redis-py has another code for each."""
    is_unix = request.param == "unix socket"
    return server.url if is_unix else stack.enter_context(Proxy(server)).url


def take(queue: Any) -> Any:
    with queue.consume() as items:
        return next(items)


@pytest.mark.parametrize("use", ["get", "consume"])
@pytest.mark.parametrize("repaired", ["by the provider", "by the server"])
def test_a_consumer_that_waits_outlasts_a_rotation_of_its_password(
    face: Face, server: Server, address: str, guarded: Guarded, use: str, repaired: str
) -> None:
    provider = Rotated()
    queue = face.queue(url=address, name="test", credential_provider=provider)
    assert queue.empty()
    waiting = elsewhere(lambda: queue.get(LONG) if use == "get" else take(queue))
    eventually(lambda: guarded.client.info("clients")["blocked_clients"])
    guarded.rotate("two")
    eventually(lambda: guarded.refused > 1 or waiting.done())
    if repaired == "by the provider":
        provider.password = "two"
    else:
        guarded.rotate("one")
    assert not waiting.done(), f"the rotation ended the wait: {waiting.exception()!r}"
    with SafeRedisQueue[bytes](url=server.url, name="test") as producer:
        uid = producer.put(b"a")
    assert waiting.result(LONG).uid == uid


def test_who_was_let_in_and_is_no_longer_is_told_so_when_the_timeout_is_over(
    face: Face, address: str, guarded: Guarded
) -> None:
    provider = Rotated()
    queue = face.queue(url=address, name="test", credential_provider=provider)
    assert queue.empty()
    guarded.rotate("two")
    begun = time.monotonic()
    with within(1.5), pytest.raises(redis.ConnectionError):
        queue.get(0.5)
    assert time.monotonic() - begun >= 0.5
    provider.password = "two"
    assert queue.put("a")


def test_who_was_never_let_in_is_told_so_at_once(
    face: Face, address: str, guarded: Guarded
) -> None:
    guarded.rotate("two")
    queue = face.queue(url=address, name="test", credential_provider=Rotated())
    for call in (queue.get, lambda: queue.put("a"), lambda: take(queue)):
        with within(1), pytest.raises(redis.AuthenticationError):
            in_time(call, face)


# -- how often -------------------------------------------------------------------------------------


def retry_of(face: Face, times: int) -> Any:
    return (AsyncRetry if isinstance(face, Asyncio) else Retry)(ConstantBackoff(0.01), times)


# redis-py 6 and later say that this one is deprecated, because they always do.
@pytest.mark.filterwarnings("ignore:.*retry_on_timeout:DeprecationWarning")
@pytest.mark.parametrize(
    ("more", "how", "kept"),
    [
        (0, "url", {"retry_on_timeout": False}),
        (0, "port", {"retry_on_timeout": False}),
        (0, "url", {"retry": 0}),
        (3, "url", {"retry": 3}),
        (2, "client", {"retry": 2}),
    ],
)
def test_a_call_that_times_out_is_sent_again_as_often_as_the_caller_wants(
    face: Face, own_server: Server, stack: ExitStack, more: int, how: str, kept: Any
) -> None:
    proxy = stack.enter_context(Proxy(own_server))
    given = {"socket_timeout": 0.5, **kept}
    if "retry" in kept:
        given["retry"] = retry_of(face, kept["retry"])
    given |= {"url": proxy.url} if how == "url" else {"port": proxy.port}
    if how == "client":
        given = {"client": closing(stack, face, flavour(face).Redis(**given))}
    queue = face.queue(name="test", **given)
    queue.put("a")
    before = proxy.connections
    hang(own_server)
    stack.callback(go_on, own_server)
    with pytest.raises(redis.TimeoutError):
        queue.put("b")
    eventually(lambda: proxy.connections - before >= more, 10)  # the proxy has taken them
    assert proxy.connections - before == more


def test_who_asks_sentinels_tries_as_often_as_the_client_wants_and_not_as_theirs_do(
    face: Face, server: Server, stack: ExitStack
) -> None:
    proxy = stack.enter_context(Proxy(server))  # to what is no sentinel
    sentinel = flavour(face).sentinel.Sentinel(
        [("127.0.0.1", proxy.port)], sentinel_kwargs={"retry": retry_of(face, 9)}
    )
    client = sentinel.master_for("main", retry=retry_of(face, 2))
    queue = face.queue(client=closing(stack, face, *sentinel.sentinels, client), name="test")
    with pytest.raises(redis.ConnectionError, match="nobody says"):
        queue.put("a")
    assert proxy.connections == 2 + 2, "at once, at once again, and twice more"


# -- what the server can ---------------------------------------------------------------------------


@pytest.fixture(params=["renamed away", "not allowed"])
def without_blmove(request: pytest.FixtureRequest, own_server: Server) -> Iterator[str]:
    """The address of a server that refuses the command with which it would wait."""
    if request.param == "renamed away":
        with Server(servers.find(), None, "--rename-command", "BLMOVE", "") as running:
            yield running.url
    else:
        with own_server.client() as client:
            rules = ("on", ">any", "~*", "+@all", "-blmove")
            client.execute_command("ACL", "SETUSER", "worker", *rules)
        yield f"unix://worker:any@{own_server.socket}"


def test_a_server_that_cannot_wait_is_looked_at_again_and_again(
    face: Face, without_blmove: str, caplog: pytest.LogCaptureFixture
) -> None:
    queue = face.queue(url=without_blmove, name="test")
    for _ in range(3):
        assert queue.get(0.05) == (None, None)
    waiting = elsewhere(lambda: queue.get(2))
    with SafeRedisQueue[bytes](url=without_blmove, name="test") as producer:
        time.sleep(0.3)  # of the two seconds
        with within(1):
            uid = producer.put(b"a")
            assert waiting.result(LONG).uid == uid
    warned = [each for each in caplog.records if each.name == "saferedisqueue"]
    assert [each.levelname for each in warned] == ["WARNING"]
    assert "BLMOVE" in warned[0].getMessage()


class ClosingOnWaits(Proxy):
    """As a proxy that ends the connection of who sends what it does not know."""

    def fault_of(self, command: bytes) -> tuple[str, threading.Event]:
        fault, released = super().fault_of(command)
        return "lost command" if command == b"BLMOVE" else fault, released


def test_where_each_wait_costs_its_connection_none_are_opened_without_a_pause(
    face: Face, server: Server, client: redis.Redis
) -> None:
    with ClosingOnWaits(server) as proxy:
        queue = face.queue(url=proxy.url, name="test")
        with within(1):
            assert queue.get(1) == (None, None)
        assert proxy.connections <= 30
        queue.close()


def test_a_server_that_is_told_to_sync_no_more_is_found_out(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saferedisqueue, "_CONFIRM_SECONDS", 0.05, raising=False)
    log = ("--appendonly", "yes", "--appendfsync", "always")

    def is_refused() -> bool:
        try:
            queue.put("a")
        except NotDurable:
            return True
        return False

    with Server(servers.find(), None, *log) as running, running.client() as client:
        queue = face.queue(url=running.url, name="test", durable="fsync")
        assert not is_refused()
        client.config_set("appendfsync", "no")
        eventually(is_refused, 5)
        client.config_set("appendfsync", "always")
        eventually(lambda: not is_refused(), 5)
