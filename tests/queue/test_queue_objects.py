"""What a queue object says of itself, where its URL leads, and that it cannot be copied."""

from __future__ import annotations

import copy
import functools
import pickle
import re
import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis
import redis.asyncio

from helpers import Asyncio, Face
from proxy import Proxy
from servers import Server
from topologies import elsewhere

COPIES: tuple[Callable[[Any], Any], ...] = (
    copy.deepcopy,
    *(
        functools.partial(pickle.dumps, protocol=protocol)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
)


def undriven(queue: Any) -> Any:
    """The queue itself, not what drives it."""
    return getattr(queue, "wrapped", queue)


@pytest.mark.parametrize("of", ["url", "client"])
def test_a_queue_is_not_copied_and_says_what_to_do(
    face: Face, server: Server, client: redis.Redis, of: str
) -> None:
    if of == "url":
        queue = face.queue(url=server.url, name="test")
    else:
        flavour: Any = redis.asyncio if isinstance(face, Asyncio) else redis
        queue = face.queue(client=flavour.Redis(unix_socket_path=server.socket), name="test")
    kind = type(undriven(queue)).__name__
    for payload in ("a", "b"):  # new, and used
        for how in COPIES:
            with pytest.raises(TypeError, match=rf"{kind}.*\bmake\b"):
                how(undriven(queue))
        assert queue.put(payload)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_uid_is_that_of_its_delivery_after_any_pickle(
    face: Face, many: Callable[..., Any], protocol: int
) -> None:
    queue = many()
    uid = queue.put("a")

    def sent(value: Any) -> Any:
        return pickle.loads(pickle.dumps(value, protocol))

    late = queue.get(-1)
    for each in (sent(late.uid), sent(late).uid, sent([late.uid])[0]):
        assert (type(each), each) == (type(late.uid), uid)
    assert queue.fail(sent(late.uid)) is True
    item = queue.get(-1)
    assert queue.ack(sent(late.uid)) is False, "it has been delivered again"
    assert queue.ack(sent(sent(item.uid))) is True


# -- URLs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://", "localhost:6379 db 0"),
        ("redis://example.org", "example.org:6379 db 0"),
        ("redis://:1234", "localhost:1234 db 0"),
        ("redis:///2", "localhost:6379 db 2"),
        ("rediss://", "localhost:6379 db 0"),
        ("valkey://", "localhost:6379 db 0"),
        ("valkey://example.org:1234/2", "example.org:1234 db 2"),
        ("valkeys://user:secret@example.org:1234/2", "example.org:1234 db 2"),
        ("VALKEY://example.org:1234", "example.org:1234 db 0"),
    ],
)
def test_a_queue_says_where_it_is(face: Face, url: str, where: str) -> None:
    queue = undriven(face.queue(url=url, name="test"))
    assert repr(queue) == f"<{type(queue).__name__} 'test' on {where}>"


def test_without_any_argument_it_is_where_redis_py_would_go(face: Face) -> None:
    assert "on localhost:6379 db 0" in repr(undriven(face.queue(name="test")))


def test_a_valkey_url_leads_to_the_server(face: Face, server: Server, client: redis.Redis) -> None:
    with Proxy(server) as proxy:
        queue = face.queue(url=f"valkey://127.0.0.1:{proxy.port}/3?protocol=2", name="test")
        uid = queue.put("a")
        with server.client(db=3) as there:
            assert there.hkeys("srq:test:items") == [uid.encode()]


@pytest.mark.parametrize(
    ("scheme", "first"),
    [("redis", b"*"), ("valkey", b"*"), ("rediss", b"\x16"), ("valkeys", b"\x16")],
)
def test_what_ends_in_s_speaks_tls(face: Face, scheme: str, first: bytes) -> None:
    """The first byte says it: that of a command, or of a TLS handshake."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        queue = face.queue(url=url, name="test", socket_timeout=5)
        trying = elsewhere(lambda: queue.get(0.01))
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1) == first
        listener.close()
        with pytest.raises(redis.RedisError):
            trying.result(60)


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("redis://localhost/abc", "database by its number, as in /0, not 'abc'"),
        ("rediss://localhost/1/2", "database by its number, as in /0, not '1/2'"),
        ("valkey://localhost/-1", "database by its number, as in /0, not '-1'"),
        ("redis://localhost/%61", "database by its number, as in /0, not 'a'"),
        ("redis://localhost/0?foo=bar", "an option that does not exist, 'foo'"),
        ("unix:///tmp/no.sock?path_of=x", "an option that does not exist, 'path_of'"),
        ("redis://localhost/0?self=bar", "an option that does not exist, 'self'"),
        ("redis://localhost/0?foo", "an option that does not exist, 'foo'"),
        ("redis://localhost/0?socket_timeout=long", "cannot be used: socket_timeout"),
        ("redis://localhost?db=abc", "cannot be used: db"),
        # Of passwords that are not encoded:
        ("redis://:1?sec=ret@localhost", "an option that does not exist, one: "),
        ("redis://:1?secret@localhost", "percent-encoded"),
        ("redis://:1#secret@localhost", "percent-encoded"),
        ("redis://:1/secret@localhost", "percent-encoded"),
    ],
)
def test_a_url_that_would_be_taken_for_another_is_refused(face: Face, url: str, text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)) as caught:
        face.queue(url=url, name="test")
    assert "sec" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "number"),
    [
        ("redis://localhost", 0),
        ("redis://localhost/", 0),
        ("redis://localhost/3", 3),
        ("redis://localhost/3/", 3),
        ("redis://localhost?db=3&client_name=a@b&max_connections=7", 3),
        ("unix:///tmp/no@where.sock?db=3&decode_responses=True", 3),
    ],
)
def test_the_database_of_a_url_is_told(face: Face, url: str, number: int) -> None:
    queue = undriven(face.queue(url=url, name="test"))
    assert repr(queue).endswith(f" db {number}>")


@pytest.mark.parametrize("url", ["valkey:", "valkey:/localhost", "valkeyss://localhost", "valkey"])
def test_what_only_resembles_such_a_url_is_refused(face: Face, url: str) -> None:
    with pytest.raises(ValueError, match="valkey://"):
        face.queue(url=url, name="test")
