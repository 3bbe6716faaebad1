"""A timeout bounds the whole call, whatever the line, the name server and the server do."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio.retry
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from helpers import Face, check_places, eventually, snapshot
from proxy import STALLS, Proxy
from saferedisqueue import SafeRedisQueue
from servers import Server, free_port
from silence import LOST, Names, at_once, ended, stalls_of, swallowing
from topologies import elsewhere, go_on, hang

Use = Callable[..., Any]

# Each call that takes timeout=, with arguments for which nothing need be there.
USES: dict[str, Use] = {
    "put": lambda queue, **kw: queue.put("b", **kw),
    "put_many": lambda queue, **kw: queue.put_many(["b", "c"], **kw),
    "forward": lambda queue, **kw: queue.forward("nobody", "another", "b", **kw),
    "ack": lambda queue, **kw: queue.ack("nobody", **kw),
    "ack_many": lambda queue, **kw: queue.ack_many(["nobody"], **kw),
    "fail": lambda queue, **kw: queue.fail("nobody", **kw),
    "fail_many": lambda queue, **kw: queue.fail_many(["nobody"], **kw),
    "touch": lambda queue, **kw: queue.touch("nobody", **kw),
    "bury": lambda queue, **kw: queue.bury("nobody", **kw),
    "exists": lambda queue, **kw: queue.exists("nobody", **kw),
    "remove": lambda queue, **kw: queue.remove("nobody", **kw),
    "peek": lambda queue, **kw: queue.peek(**kw),
    "stats": lambda queue, **kw: queue.stats(**kw),
    "qsize": lambda queue, **kw: queue.qsize(**kw),
    "empty": lambda queue, **kw: queue.empty(**kw),
}
LARGE = b"x" * 10_000  # no other reply is as large
PATIENCE: tuple[float | None, ...] = (None, 5)  # a client's socket_timeout
# With the name of a queue for each.
CASES = [(f"{fault} {each}", fault, each) for fault in STALLS for each in PATIENCE]


def opened(face: Face, url: str, **kw: Any) -> Any:
    """A queue that is empty, with a connection, and with a server that knows its scripts."""
    queue = face.queue(url=url, name="test", **kw)
    queue.put("a")
    queue.put("b", uid="b")
    queue.purge()
    return queue


# -- what a timeout may be -------------------------------------------------------------------------


def test_a_call_with_time_enough_does_what_it_does_without(queue: Any) -> None:
    time: dict[str, float] = {"timeout": 60}
    assert (queue.empty(**time), queue.qsize(**time)) == (True, 0)
    uids = [queue.put("a", **time), *queue.put_many([*"bcdefg"], **time)]
    assert queue.stats(**time).total == 7
    assert queue.peek(1, **time)[0].uid == uids[0]
    items = queue.get_many(6, -1)
    assert [item.uid for item in items] == uids[:6]
    assert queue.touch(items[0].uid, **time)
    assert queue.ack(items[0].uid, **time)
    assert queue.ack_many([items[1].uid], **time) == 1
    assert queue.fail(items[2].uid, **time)
    assert queue.fail_many([items[3].uid], **time) == 1
    assert queue.bury(items[4].uid, **time)
    assert queue.forward(items[5].uid, "another", "h", **time)
    assert queue.remove(uids[6], **time)
    assert [uid for uid in uids if queue.exists(uid, **time)] == uids[2:5]


def test_none_is_no_timeout(queue: Any) -> None:
    for use in USES.values():
        use(queue, timeout=None)


@pytest.mark.parametrize("use", USES.values(), ids=list(USES))
def test_what_is_no_time_is_refused_by_name_and_nothing_changes(
    queue: Any, client: redis.Redis, use: Use
) -> None:
    queue.put("a")
    before = snapshot(client)
    for number in (0, 0.0, -1, -0.5, math.nan, -math.inf):
        with pytest.raises(ValueError, match="^timeout must be"):
            use(queue, timeout=number)
    for other in ("1", b"1", True, False, Decimal(1), [], object()):
        with pytest.raises(TypeError, match="^timeout must be a number of seconds, not"):
            use(queue, timeout=other)
    assert snapshot(client) == before


# -- half a reply, and a drip ----------------------------------------------------------------------


def test_get_keeps_its_timeout_when_the_reply_to_its_claim_stops_half_way(
    face: Face, server: Server, client: redis.Redis
) -> None:
    def check(name: str, fault: str, patience: float | None) -> None:
        with Proxy(server) as proxy, type(face)() as own:
            queue = own.queue(url=proxy.url, name=name, socket_timeout=patience)
            queue.put(LARGE)
            proxy.befall(fault, len(LARGE))
            assert isinstance(ended(1.3, lambda: queue.get(0.3)), LOST)
        check_places(client, name)

    at_once(check, [case for case in CASES if case[1] in stalls_of(face)])


def test_get_keeps_its_timeout_when_the_reply_to_its_wait_stops_half_way(
    face: Face, server: Server, client: redis.Redis
) -> None:
    def check(name: str, fault: str, patience: float | None) -> None:
        with Proxy(server) as proxy, type(face)() as own:
            queue = own.queue(url=proxy.url, name=name, socket_timeout=patience)
            assert not queue.exists("nobody")
            getting = elsewhere(lambda: ended(1.6, lambda: queue.get(0.6)))
            eventually(lambda: b"BLMOVE" in proxy.commands)
            proxy.befall(fault)
            with SafeRedisQueue(url=server.url, name=name) as other:
                uid = other.put("a")
            got = getting.result()  # it may get the item another way, or find it gone
            assert isinstance(got, LOST) or got.uid in (uid, None)
            assert uid in snapshot(client, name)["items"]
        check_places(client, name)

    at_once(check, [case for case in CASES if case[1] in stalls_of(face)])


@pytest.mark.parametrize(("fault", "patience"), [case[1:] for case in CASES])
def test_put_keeps_its_timeout_when_its_reply_stops_half_way_and_is_one_item(
    face: Face, server: Server, client: redis.Redis, fault: str, patience: float | None
) -> None:
    if fault not in stalls_of(face):
        return
    with Proxy(server) as proxy:
        queue = opened(face, proxy.url, socket_timeout=patience)
        proxy.befall(fault)
        assert isinstance(ended(0.3, lambda: queue.put("a", timeout=0.3)), LOST)
        assert len(snapshot(client)["items"]) == 1
        proxy.come_back()
        assert queue.get(10).attempts == 1


# -- names -----------------------------------------------------------------------------------------


def test_a_timeout_is_for_all_the_addresses_of_a_name_together(
    face: Face, monkeypatch: pytest.MonkeyPatch
) -> None:
    with swallowing() as port:
        names = Names(monkeypatch, lambda: [port] * 6)
        queue = face.queue(host=names.name, name="test")
        assert isinstance(ended(1.2, lambda: queue.get(0.2)), LOST)
        assert isinstance(ended(0.2, lambda: queue.put("a", timeout=0.2)), LOST)


def test_a_timeout_is_also_for_looking_a_name_up(
    face: Face, server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(server) as proxy:
        answers = threading.Event()

        def slowly() -> list[int]:
            answers.wait(60)
            return [proxy.port]

        queue = face.queue(host=Names(monkeypatch, slowly).name, name="test")
        try:
            assert isinstance(ended(1.2, lambda: queue.get(0.2)), LOST)
            assert isinstance(ended(0.2, lambda: queue.put("a", timeout=0.2)), LOST)
        finally:
            answers.set()
        uid = queue.put("b")
        assert queue.get(10).uid == uid
        assert list(snapshot(client)["items"]) == [uid], "a put that was over arrived late"


# -- where nobody answers, or too late -------------------------------------------------------------


def silent_line(face: Face, stack: ExitStack, server: Server) -> Any:
    proxy = stack.enter_context(Proxy(server))
    queue = opened(face, proxy.url)
    proxy.go_silent(for_good=True)
    return queue


def listener_that_says_nothing(face: Face, stack: ExitStack, server: Server) -> Any:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    return face.queue(url=f"redis://127.0.0.1:{listener.getsockname()[1]}")


def port_that_swallows(face: Face, stack: ExitStack, server: Server) -> Any:
    return face.queue(url=f"redis://127.0.0.1:{stack.enter_context(swallowing())}")


def port_that_refuses(face: Face, stack: ExitStack, server: Server) -> Any:
    return face.queue(url=f"redis://127.0.0.1:{free_port()}")


def server_that_hangs(face: Face, stack: ExitStack, server: Server) -> Any:
    queue = opened(face, server.url)
    hang(server)
    stack.callback(go_on, server)
    return queue


def server_that_hung_before(face: Face, stack: ExitStack, server: Server) -> Any:
    hang(server)
    stack.callback(go_on, server)
    return face.queue(url=server.url)


def slow_line(face: Face, stack: ExitStack, server: Server) -> Any:
    """Each step of opening a connection takes less than the timeout, and all of them more."""
    proxy = stack.enter_context(Proxy(server))
    proxy.delay = 0.15
    return face.queue(url=f"{proxy.url}/1", username="default", password="any", client_name="me")


def reply_that_drips(face: Face, stack: ExitStack, server: Server) -> Any:
    proxy = stack.enter_context(Proxy(server))
    proxy.befall("drip")
    return face.queue(url=proxy.url)


PLACES: dict[str, Callable[..., Any]] = {
    place.__name__.replace("_", " "): place
    for place in (
        *(silent_line, listener_that_says_nothing, port_that_swallows, port_that_refuses),
        *(server_that_hangs, server_that_hung_before, slow_line, reply_that_drips),
    )
}


@pytest.mark.parametrize("place", PLACES.values(), ids=list(PLACES))
def test_a_call_ends_in_an_outage_within_its_timeout(
    face: Face, own_server: Server, place: Callable[..., Any]
) -> None:
    for name in ("put", "ack", "exists"):
        with ExitStack() as stack:
            queue = place(face, stack, own_server)
            assert isinstance(ended(0.2, partial(USES[name], queue, timeout=0.2)), LOST), name


def test_every_call_that_takes_a_timeout_ends_within_it(face: Face, own_server: Server) -> None:
    with ExitStack() as stack:
        queue = silent_line(face, stack, own_server)
        for name, use in USES.items():
            assert isinstance(ended(0.1, partial(use, queue, timeout=0.1)), LOST), name


@pytest.mark.parametrize("timeout", [-1, 0.3])
def test_join_keeps_its_timeout_where_the_server_is_silent(
    face: Face, own_server: Server, timeout: float
) -> None:
    with ExitStack() as stack:
        queue = silent_line(face, stack, own_server)
        assert isinstance(ended(max(timeout, 0) + 1, lambda: queue.join(timeout)), LOST)


def test_a_put_that_nobody_reads_ends_within_its_timeout(face: Face, own_server: Server) -> None:
    queue = opened(face, own_server.url, socket_timeout=None, max_payload=10_000_000)
    large = b"x" * 5_000_000  # more than is on its way
    hang(own_server)
    try:
        assert isinstance(ended(0.3, lambda: queue.put(large, timeout=0.3)), LOST)
    finally:
        go_on(own_server)


def test_a_large_batch_has_one_timeout_for_all_its_chunks(
    face: Face, server: Server, client: redis.Redis
) -> None:
    with Proxy(server) as proxy:
        queue = opened(face, proxy.url)
        proxy.delay = 0.3  # less than the timeout, for each of four
        items = ["a"] * 1000
        assert isinstance(ended(0.7, lambda: queue.put_many(items, timeout=0.7)), LOST)
        nobody = ["nobody"] * 4
        assert isinstance(ended(0.7, lambda: queue.ack_many(nobody, timeout=0.7)), LOST)
    check_places(client)


def test_a_call_whose_server_answers_again_in_time_succeeds(face: Face, own_server: Server) -> None:
    queue = opened(face, own_server.url)
    hang(own_server)
    soon = threading.Timer(0.3, go_on, (own_server,))
    soon.start()
    try:
        uid = queue.put("a", timeout=60)
    finally:
        soon.join()
    assert queue.exists(uid, timeout=60)
    assert queue.stats().total == 1


# -- afterwards ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", ["silence after", "half reply"])
def test_what_timed_out_is_not_stored_twice_when_it_is_put_again_with_its_uid(
    face: Face, server: Server, client: redis.Redis, fault: str
) -> None:
    with Proxy(server) as proxy:
        queue = opened(face, proxy.url)
        proxy.befall(fault)
        with pytest.raises(LOST):
            queue.put("a", uid="order-17", timeout=0.3)
        proxy.come_back()
        assert queue.put("a", uid="order-17", timeout=60) is None, "it was stored"
        assert snapshot(client) == {"items": {"order-17": "a"}, "queue": ["order-17"]}


def test_a_put_that_arrives_after_its_timeout_is_not_stored_beside_the_one_put_again(
    face: Face, server: Server, client: redis.Redis
) -> None:
    with Proxy(server) as proxy:
        queue = opened(face, proxy.url)
        proxy.fail_at(0, "late command")
        with pytest.raises(LOST):
            queue.put("a", uid="order-17", timeout=0.3)
        assert queue.put("a", uid="order-17", timeout=60) == "order-17"
        proxy.release()
        assert snapshot(client) == {"items": {"order-17": "a"}, "queue": ["order-17"]}


def test_after_a_timeout_the_next_call_reads_its_own_reply(
    face: Face, server: Server, client: redis.Redis
) -> None:
    with Proxy(server) as proxy:
        queue = opened(face, proxy.url)
        for _ in range(3):
            proxy.delay = 0.4
            with pytest.raises(LOST):
                queue.stats(timeout=0.2)
            proxy.delay = 0.0
            uid = queue.put("a", timeout=60)
            assert queue.exists(uid, timeout=60) is True
            assert queue.ack("nobody", timeout=60) is False
            assert queue.remove(uid, timeout=60) is True


# -- outages that last -----------------------------------------------------------------------------


class EnoughError(Exception):
    """So many tries are enough."""


def never_sleeps(kind: type[Any]) -> Any:
    """A kind of queue whose pauses cost nothing, until there were many of them."""

    # Of either face: which one is known only when it is made.
    class Sleepless(kind):  # type: ignore[misc]
        pauses = 0

        async def _sleep(self, seconds: float) -> None:
            assert 0 <= seconds <= 1
            self.pauses += 1
            if self.pauses == 1200:
                raise EnoughError

    return Sleepless


def test_an_outage_may_last_for_any_number_of_tries(face: Face) -> None:
    """The pauses between them double, up to a limit; a float does not go on for ever."""
    retry = Retry if face.queue_class is SafeRedisQueue else redis.asyncio.retry.Retry
    endless = retry(ExponentialBackoff(cap=1, base=0.01), -1)
    queue = face.queue(
        kind=never_sleeps(face.queue_class), port=free_port(), name="test", retry=endless
    )
    for use in (queue.get, lambda: queue.put("a")):
        queue.pauses = 0
        with pytest.raises(EnoughError):
            use()
