"""What comes on a connection although nobody asked for it is never taken for a reply."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from helpers import Face, Make, check_places, eventually, within
from lines import Lines, crowd
from proxy import Proxy
from servers import Server
from topologies import elsewhere

ON = {"autoclean_interval": 3600}


@pytest.fixture
def proxy(server: Server, client: redis.Redis) -> Iterator[Proxy]:
    with Proxy(server) as running:
        yield running


def check_answers(queue: Any) -> None:
    """One call after the other, each of which would show the reply of the one before."""
    for n in ("first", "second"):
        assert queue.put("x", uid=n) == n
        assert queue.put("x", uid=n) is None
        assert queue.exists(n) is True
        assert queue.exists("nobody") is False
        item = queue.get(-1)
        assert (item.uid, item.payload, item.attempts) == (n, b"x", 1)
        assert queue.get(-1).uid is None
        assert queue.ack(item.uid) is True
        assert queue.ack(item.uid) is False
        assert queue.get(0.01).uid is None
        assert queue.stats().total == 0


STRAYS = {
    "number": (2, b":0\r\n"),
    "two replies": (2, b":1\r\n*0\r\n"),
    "nil": (2, b"$-1\r\n"),
    "number in RESP 3": (3, b":0\r\n"),
    "error": (2, b"-ERR idle for too long\r\n"),
    "half a reply": (2, b"$5\r\nab"),
    "half a reply in RESP 3": (3, b"$5\r\nab"),
    "one byte": (2, b"*"),
    "no RESP": (2, b"HTTP/1.1 408 Request Timeout\r\n\r\n"),
}


@pytest.mark.parametrize("stray", STRAYS)
def test_bytes_on_an_idle_connection_are_answers_to_nothing(
    face: Face, proxy: Proxy, stray: str
) -> None:
    protocol, data = STRAYS[stray]
    queue = face.queue(url=proxy.url, name="test", protocol=protocol, **ON)
    check_answers(queue)
    before = proxy.connections
    proxy.say(data)
    face.work(0.01)  # in which an event loop sees what has come
    with within(1):
        check_answers(queue)
    assert proxy.connections > before, "the connection goes on being used"


def test_what_is_pushed_on_an_idle_connection_is_an_answer_to_nothing(
    face: Face, proxy: Proxy
) -> None:
    """As RESP 3 allows: the connection may go on being used."""
    queue = face.queue(url=proxy.url, name="test", protocol=3, **ON)
    check_answers(queue)
    for data in (b">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n", b">1\r\n:0\r\n"):
        proxy.say(data)
        face.work(0.01)
        check_answers(queue)


def test_a_settling_after_bytes_came_while_the_item_was_worked_on_is_truly_reported(
    face: Face, proxy: Proxy, client: redis.Redis
) -> None:
    queue = face.queue(url=proxy.url, name="test", protocol=2, **ON)
    uids = queue.put_many(["a", "b", "c"])
    for n, item in enumerate(queue.consume(timeout=-1)):
        assert item.uid == uids[n]
        proxy.say(b":0\r\n")
        face.work(0.01)
    assert queue.stats().total == 0
    check_places(client)


def test_bytes_on_many_idle_connections_are_answers_to_nothing(
    face: Face, proxy: Proxy, lines: Lines, make: Make
) -> None:
    queue = face.queue(url=proxy.url, name="test", protocol=2, **ON, **lines.named)

    async def wait_and_ack(queue: Any) -> Any:
        item = await queue.get(10)
        assert await queue.ack(item.uid)
        return item.uid

    for _ in range(2):
        waits = elsewhere(lambda: crowd(face, queue, 5, wait_and_ack))
        eventually(lambda: lines.waiting == 5, 10)
        uids = make().put_many([*"abcde"])
        assert sorted(waits.result(60)) == sorted(uids)
        proxy.say(b":0\r\n")
        face.work(0.01)
    check_answers(queue)


# -- while the reply is awaited --------------------------------------------------------------------

# A call whose connection is known by now, and what cannot be the reply to what it sends first.
WRONG: dict[str, tuple[Callable[[Any], Any], list[bytes]]] = {
    "put": (lambda queue: queue.put("a", uid="a"), [b"*0\r\n", b"$2\r\nhi\r\n", b"+OK\r\n"]),
    "put_many": (lambda queue: queue.put_many(["a", "b"]), [b"$2\r\nhi\r\n", b"$-1\r\n"]),
    "get": (lambda queue: queue.get(-1), [b":0\r\n", b"*0\r\n", b"$-1\r\n", b"+OK\r\n"]),
    "wait": (lambda queue: queue.get(0.05), [b":0\r\n", b"*2\r\n:0\r\n$1\r\na\r\n"]),
    "ack": (lambda queue: queue.ack("a"), [b"*0\r\n", b"$-1\r\n", b"$5\r\nhello\r\n"]),
    "fail": (lambda queue: queue.fail("a"), [b"*0\r\n", b"$-1\r\n"]),
    "exists": (lambda queue: queue.exists("a"), [b"*0\r\n", b"$5\r\nhello\r\n"]),
    "stats": (lambda queue: queue.stats(), [b":0\r\n", b"*1\r\n:0\r\n", b"$-1\r\n"]),
    "no RESP": (lambda queue: queue.exists("a"), [b"HTTP/1.1 408 Request Timeout\r\n\r\n"]),
}


@pytest.mark.parametrize("call", WRONG)
def test_a_reply_of_a_wrong_shape_is_the_last_of_its_connection(
    face: Face, proxy: Proxy, client: redis.Redis, call: str
) -> None:
    """The call itself may end in an error of redis-py's, if not in what is right."""
    use, shapes = WRONG[call]
    queue = face.queue(url=proxy.url, name="test", protocol=2, **ON)
    check_answers(queue)
    if call == "wait":
        queue.get(0.01)
    for shape in shapes:
        before = proxy.connections
        proxy.stray = shape
        proxy.fail_at(1 if call == "wait" else 0, "stray reply")
        with contextlib.suppress(redis.RedisError):
            use(queue)
        assert proxy.failed
        queue.purge()
        check_answers(queue)
        assert proxy.connections > before, "the connection goes on being used"
