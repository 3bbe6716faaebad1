"""Threads that share one queue object while its connections are lost: no call harms another's."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

import saferedisqueue
import servers
from helpers import check_places, snapshot
from saferedisqueue import QueueFull, SafeRedisQueue
from servers import Server
from topologies import Cluster, info, stranger

THREADS = 8
KILLS = 100  # 20 ms apart


@pytest.fixture(autouse=True)
def _many_turns() -> Iterator[None]:
    """Threads take turns between any two steps, not only where one waits."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class Census:
    """What threads put and got, by payload."""

    def __init__(self) -> None:
        self.tried: set[str] = set()
        self.confirmed: set[str] = set()
        self.got: list[str] = []
        self.acked: set[str] = set()
        self.refused: set[str] = set()  # by an ack that returned False

    def work(self, queue: Any, thread: int, done: threading.Event) -> None:
        """Put, get and ack until it is done; all but a lost connection is raised."""
        number = 0
        while not done.is_set():
            payload = f"{thread} {number}"
            number += 1
            try:
                self.tried.add(payload)
                assert queue.put(payload)
                self.confirmed.add(payload)
                item = queue.get(-1)
                if item.uid is not None:
                    self.got.append(item.payload.decode())
                    if number % 2:  # the others stay out: for the count at the end
                        acked = self.acked if queue.ack(item.uid) else self.refused
                        acked.add(item.payload.decode())
            except (redis.ConnectionError, redis.TimeoutError):
                pass  # the outcome of that call is not known

    def check(self, client: redis.Redis, name: str = "test") -> None:
        there = Counter(snapshot(client, name).get("items", {}).values())
        got = Counter(self.got)
        assert self.confirmed - there.keys() - got.keys() == set(), "lost"
        assert there.keys() | got.keys() <= self.tried, "invented"
        assert [each for counts in (there, got) for each, n in counts.items() if n > 1] == []
        assert self.refused == set(), "what was held could not be acked"
        assert there.keys() & self.acked == set(), "acked, and there"
        check_places(client, name)


def disturb(queue: Any, kill: Callable[[], object]) -> Census:
    """What the threads did while all connections were lost again and again."""
    census, done = Census(), threading.Event()
    with ThreadPoolExecutor(THREADS) as pool:
        working = [pool.submit(census.work, queue, n, done) for n in range(THREADS)]
        try:
            for _ in range(KILLS):
                time.sleep(0.02)
                kill()
        finally:
            done.set()
    for each in working:
        each.result()
    return census


def kill_connections(client: redis.Redis) -> Callable[[], object]:
    """Cuts all the others' connections to the client's server."""
    return lambda: client.client_kill_filter(_type="normal", skipme=True)


def test_threads_that_lose_their_connections_lose_nothing_else(
    server: Server, client: redis.Redis
) -> None:
    with SafeRedisQueue(url=server.url, name="test", autoclean_interval=3600) as queue:
        disturb(queue, kill_connections(client)).check(client)


def test_in_a_cluster_threads_that_lose_their_connections_never_reach_another_server() -> None:
    with stranger(servers.find()) as other, Cluster(servers.find()) as cluster:
        known = {"host": "127.0.0.1", "port": cluster.nodes[0].port, "socket_timeout": 5}
        with (
            redis.RedisCluster(**known) as of_cluster,
            SafeRedisQueue(client=of_cluster, name="test", autoclean_interval=3600) as queue,
            cluster.master_of(queue.ITEMS_KEY).client() as client,
        ):
            before = info(other, "stats")["total_connections_received"]
            census = disturb(queue, kill_connections(client))
            # Each time it is asked is a connection, and that of now is one.
            assert info(other, "stats")["total_connections_received"] == before + 1
            assert "db0" not in info(other, "keyspace")
            census.check(client, "{test}")


# -- one step after another ------------------------------------------------------------------------


class Guarded(redis.UnixDomainSocketConnection):
    """Fails and pauses as told, and notes who closes it while another thread awaits its reply."""

    fails_for: threading.Thread | None = None  # its next command is not sent
    pauses_for: threading.Thread | None = None  # its next command is sent, and its reply not read,
    sent, go_on = threading.Event(), threading.Event()  # until it may go on
    taken_away = False
    user: threading.Thread | None = None

    def send_packed_command(self, *args: Any, **kw: Any) -> None:
        self.user = threading.current_thread()
        if self.user is Guarded.fails_for:
            Guarded.fails_for = None
            raise redis.ConnectionError("the test cut the connection")
        super().send_packed_command(*args, **kw)

    def read_response(self, *args: Any, **kw: Any) -> Any:
        if self.user is Guarded.pauses_for:
            Guarded.pauses_for = None
            self.sent.set()
            self.go_on.wait()
        try:
            return super().read_response(*args, **kw)
        finally:
            self.user = None

    def disconnect(self, *args: Any) -> None:
        if self.user not in (None, threading.current_thread()):
            Guarded.taken_away = True
        super().disconnect(*args)
        self.user = None


class Put:
    """A put in a thread of its own."""

    def __init__(self, queue: SafeRedisQueue[bytes]) -> None:
        self.queue, self.uid = queue, None
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        self.uid = self.queue.put(b"a")

    def pause(self) -> None:
        """Begin, and go on only when told: when its command was sent, or cannot be now."""
        Guarded.sent.clear()
        Guarded.go_on.clear()
        Guarded.pauses_for = self.thread
        self.thread.start()
        Guarded.sent.wait(0.1)  # where the other has a lock it comes later

    def end(self) -> str | None:
        Guarded.go_on.set()
        self.thread.join()
        return self.uid


class LosingPut(Put):
    """One whose connection is lost, and which has another put begin at step k of what it does."""

    def __init__(self, queue: SafeRedisQueue[bytes], k: int) -> None:
        super().__init__(queue)
        self.left, self.other = k, Put(queue)

    def run(self) -> None:
        Guarded.fails_for = self.thread
        sys.settrace(self._trace)  # of this thread alone
        super().run()
        sys.settrace(None)

    def _trace(self, frame: Any, event: str, _: Any) -> Any:
        if frame.f_code.co_filename != saferedisqueue.__file__:
            return None
        if event == "line":
            self.left -= 1
            if self.left == -1:
                self.other.pause()
        return self._trace


def test_at_every_step_of_a_put_that_lost_its_connection_another_thread_may_begin_one(
    server: Server, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Guarded, "taken_away", False)
    pool = redis.ConnectionPool(connection_class=Guarded, path=server.socket)
    with (
        redis.Redis(connection_pool=pool) as mine,
        SafeRedisQueue[bytes](client=mine, name="test") as queue,
    ):
        put, steps = [], 0
        while True:
            beside = Put(queue)  # so that there are two connections
            beside.pause()
            put += [queue.put(b"a"), beside.end()]
            losing = LosingPut(queue, steps)
            losing.thread.start()
            losing.thread.join()
            put.append(losing.uid)
            assert not Guarded.fails_for, "the connection was not lost"
            if losing.left >= 0:  # it has no such step
                break
            put.append(losing.other.end())
            assert not Guarded.taken_away, f"at step {steps} a connection in use was closed"
            steps += 1
    assert steps > 20
    assert sorted(map(str, put)) == sorted(snapshot(client)["items"])


# -- slots -----------------------------------------------------------------------------------------


class Meeting(SafeRedisQueue[bytes]):
    """In its next call, already counted and not yet sent, another thread puts something."""

    meets = False

    def _exchange(self, call: Any, slot: Any) -> Any:
        if self.meets:
            self.meets = False
            other = threading.Thread(target=self.put, args=(b"other",))
            other.start()
            other.join()
        return super()._exchange(call, slot)


class Interrupting(str):
    """A uid with which a handler raises as the result of its put is made, at its very end."""

    __slots__ = ()

    def __str__(self) -> str:
        raise KeyboardInterrupt


def full(queue: SafeRedisQueue[bytes]) -> None:
    queue._maxsize = 0
    for _ in range(2):  # the first sends its script once more
        with pytest.raises(QueueFull):
            queue.put(b"too much")
    queue._maxsize = None


def interrupted(queue: SafeRedisQueue[bytes]) -> None:
    with pytest.raises(KeyboardInterrupt):
        queue.put(b"interrupted", uid=Interrupting("interrupted"))


@pytest.mark.parametrize("ended", [full, interrupted])
def test_after_a_put_that_raised_what_it_was_answered_threads_put_at_once(
    server: Server, client: redis.Redis, ended: Callable[[Any], None]
) -> None:
    """Its slot is not given back twice: the calls of both had one number, and one was not done."""
    with Meeting(url=server.url, name="test") as queue:
        ended(queue)
        queue.meets = True
        queue.put(b"mine")
        there = snapshot(client)["items"]
        assert {"mine", "other"} <= set(there.values())
