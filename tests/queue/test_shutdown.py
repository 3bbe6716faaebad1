"""Where no thread can be had, at a limit or while the interpreter ends, the queue goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

import servers
from helpers import FACES, Face, eventually, run_alone, snapshot
from saferedisqueue import LeaseLost, SafeRedisQueue
from servers import Server, free_port


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with Server(servers.find(), port=free_port()) as started:
        yield started


@pytest.fixture
def on_tcp(running: Server) -> Server:
    """A server, empty, that can be reached by unix socket and by TCP."""
    with running.client() as client:
        client.flushall()
    return running


@pytest.fixture
def refuse_threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From when this is called, none can be started."""

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    return lambda: monkeypatch.setattr("threading.Thread.start", refuse)


def use(make: Callable[[], Any]) -> None:
    """Put and take in every way, each on a connection of its own."""
    uid = make().put("a")
    assert make().get(1).uid == uid
    queue = make()
    assert queue.fail(uid)
    assert queue.get(0).uid == uid
    assert make().ack(uid)
    assert make().get(0.05).uid is None
    queue.put_many([*"bcd"])
    assert [item.payload for item in make().get_many(1, 1)] == [b"b"]
    with make().processing(1) as item:
        assert item.payload == b"c"
    with make().consume(timeout=0.05) as items:
        assert [item.payload for item in items] == [b"d"]
    assert queue.purge() == 1


@pytest.mark.parametrize("where", ["unix socket", "address"])
def test_without_threads_a_queue_can_be_used(
    face: Face, on_tcp: Server, refuse_threads: Callable[[], None], where: str
) -> None:
    url = on_tcp.url if where == "unix socket" else f"redis://127.0.0.1:{on_tcp.port}"
    refuse_threads()
    use(lambda: face.queue(url=url, name="test"))


def test_without_threads_a_name_is_looked_up(
    on_tcp: Server, refuse_threads: Callable[[], None]
) -> None:
    """On the blocking face: asyncio itself needs a thread for that."""
    refuse_threads()
    with SafeRedisQueue[bytes](url=f"redis://localhost:{on_tcp.port}", name="test") as queue:
        assert queue.get(0.05).uid is None
        uid = queue.put(b"a")
        assert queue.get(1).uid == uid
        assert queue.ack(uid)


def test_without_threads_an_outage_is_waited_out(
    face: Face, own_server: Server, refuse_threads: Callable[[], None]
) -> None:
    queue = face.queue(url=own_server.url, name="test")
    queue.put("a")
    refuse_threads()
    own_server.kill()
    with pytest.raises((redis.ConnectionError, redis.TimeoutError)):
        queue.get(0.2)
    own_server.start()
    assert queue.get(30).payload == b"a"


# -- at an exit ------------------------------------------------------------------------------------

# Python 3.12 starts no thread any more when the main thread is done; later ones none in atexit.
AT_EXIT = """
import asyncio, atexit, logging, sys, threading
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue

logging.disable()  # that leases are not renewed may be said
_, url, when, face = sys.argv
own = {"url": url, "name": "test"}

def blocking():
    # Each of these connects.
    assert SafeRedisQueue(**own).put("a")
    queue = SafeRedisQueue(**own)
    assert queue.ack(queue.get(1).uid)
    assert SafeRedisQueue(**own).get(0.05).uid is None
    queue.put_many([*"bc"])
    with SafeRedisQueue(**own).processing(1) as item:
        assert item.payload == b"b"
    with SafeRedisQueue(**own).consume(timeout=0.05) as items:
        assert [item.payload for item in items] == [b"c"]
    queue.put("done")

async def asynchronous():
    async with AsyncSafeRedisQueue(**own) as queue:
        assert (await queue.get(0.05)).uid is None
    async with AsyncSafeRedisQueue(**own) as queue:
        await queue.put_many([*"ab"])
        async with queue.processing(1) as item:
            assert item.payload == b"a"
        async with queue.consume(timeout=0.05) as items:
            assert [item.payload async for item in items] == [b"b"]
        await queue.put("done")

use = blocking if face == "blocking" else lambda: asyncio.run(asynchronous())
if when == "in atexit":
    atexit.register(use)
else:
    main = threading.main_thread()
    threading.Thread(target=lambda: (main.join(), use())).start()
"""


@pytest.mark.parametrize("kind", FACES)
@pytest.mark.parametrize("when", ["in atexit", "in a thread that outlasts the main one"])
def test_at_the_exit_of_the_interpreter_a_queue_can_be_used(
    server: Server, client: redis.Redis, when: str, kind: str
) -> None:
    run_alone(AT_EXIT, server, when, kind)
    assert list(snapshot(client)["items"].values()) == ["done"]


LOOPING_AT_EXIT = """
import atexit, logging, sys
from saferedisqueue import SafeRedisQueue

logging.disable()
queue = SafeRedisQueue(url=sys.argv[1], name="test")
queue.put_many([*"abc"])
items = queue.consume(prefetch=2)
assert next(items).payload == b"a"

@atexit.register
def end():
    for _ in range(int(sys.argv[2])):
        next(items)
    items.close()
"""


@pytest.mark.parametrize(("more", "left"), [(0, "abc"), (2, "c")])
def test_a_loop_is_ended_at_the_exit_of_the_interpreter(
    server: Server, client: redis.Redis, more: int, left: str
) -> None:
    run_alone(LOOPING_AT_EXIT, server, str(more))
    keys = snapshot(client)
    assert sorted(keys["items"].values()) == list(left)
    assert "leases" not in keys


# -- the helper that renews ------------------------------------------------------------------------


class Broken(redis.CredentialProvider):
    """Fails while it is told to, as one whose service is down."""

    fails = False

    def get_credentials(self) -> tuple[str, str]:
        if self.fails:
            raise RuntimeError("no token")
        return "default", "any"


def test_a_lease_that_ended_while_no_credentials_could_be_had_is_told_to_be_lost(
    face: Face, server: Server, client: redis.Redis
) -> None:
    provider = Broken()
    queue = face.queue(url=server.url, name="test", credential_provider=provider)
    other = face.queue(url=server.url, name="test")
    uid = queue.put("a")
    with queue.consume(lease=0.3) as items:
        item = next(items)
        provider.fails = True
        client.client_kill_filter(_type="normal", skipme=True)
        taken = eventually(lambda: (face.work(0.02), other.get(-1))[1].uid)
        provider.fails = False
        assert taken == uid
        assert eventually(lambda: (face.work(0.02), item.lost)[1])
        with pytest.raises(LeaseLost):
            item.ack()
        assert other.ack(taken)
