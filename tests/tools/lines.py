"""Connections counted at the server, and crowds of threads or tasks that need some."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import redis

from helpers import Asyncio, Face
from servers import Server

Work = Callable[[Any], Coroutine[Any, Any, Any]]


class Lines:
    """The connections of the test's own queues, known by a name that the server is told."""

    def __init__(self, server: Server) -> None:
        self.client = server.client()
        # To be given to a client or a queue. What other tests have left is not counted.
        self.named = {"client_name": secrets.token_hex(8)}
        self.most = 0  # at a time, while they were watched
        self._scripts = 0  # that had been run when that was last asked

    def all(self) -> list[dict[str, str]]:
        name = self.named["client_name"]
        return [each for each in self.client.client_list() if each["name"] == name]

    @property
    def now(self) -> int:
        """How many there are."""
        return len(self.all())

    @property
    def waiting(self) -> int:
        """How many of them the server makes wait, for an item."""
        return sum("b" in each["flags"] for each in self.all())

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Find out how many there are at a time in this block."""
        self.most, done = self.now, threading.Event()

        def watch() -> None:
            while not done.wait(0.003):
                self.most = max(self.most, self.now)

        watching = threading.Thread(target=watch)
        watching.start()
        try:
            yield
        finally:
            done.set()
            watching.join()
            self.most = max(self.most, self.now)

    def scripts(self) -> int:
        """How many scripts the server has run since it was last asked, for whomever."""
        stats = self.client.info("commandstats")
        before, self._scripts = self._scripts, 0
        for name, each in stats.items():
            self._scripts += each["calls"] if name.startswith("cmdstat_eval") else 0
        return self._scripts - before

    def keys(self, queue: str = "test") -> int:
        """How many keys of numbered calls a queue has left."""
        return len(self.client.keys(f"srq:{queue}:last:*"))

    def close(self) -> None:
        self.client.close()


class AsIfAsync:
    """A blocking queue in the words of the asyncio face: what is awaited is done at once."""

    def __init__(self, queue: Any) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **kw: Any) -> Any:
            return getattr(self._queue, name)(*args, **kw)

        return call

    def consume(self, *args: Any, **kw: Any) -> Any:
        return _AsIfAsyncLoop(self._queue.consume(*args, **kw))

    def processing(self, *args: Any, **kw: Any) -> Any:
        return _AsIfAsyncLoop(self._queue.processing(*args, **kw))


class _AsIfAsyncLoop:
    """What the blocking consume and processing return, in those words."""

    def __init__(self, items: Any) -> None:
        self._items = items

    async def __aenter__(self) -> Any:
        entered = self._items.__enter__()
        return self if entered is self._items else entered

    async def __aexit__(self, *exc: Any) -> Any:
        return self._items.__exit__(*exc)

    def __aiter__(self) -> Any:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self._items)
        except StopIteration:
            raise StopAsyncIteration from None


def in_thread(work: Work, queue: Any) -> Any:
    """The result of work on a blocking queue, in this thread."""
    try:
        work(AsIfAsync(queue)).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the work awaits what is no method of the queue")


def crowd(face: Face, queue: Any, count: int, work: Work) -> list[Any]:
    """What ``work(queue)`` returned or raised, in so many threads or tasks at once."""
    if isinstance(face, Asyncio):
        return face.run(_tasks(queue.wrapped, count, work))

    def outcome(_: int) -> Any:
        try:
            return in_thread(work, queue)
        except Exception as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(outcome, range(count)))


async def _tasks(queue: Any, count: int, work: Work) -> list[Any]:
    return await asyncio.gather(*(work(queue) for _ in range(count)), return_exceptions=True)


async def until(condition: Callable[[], Any], seconds: float = 60) -> None:
    """As helpers.eventually, in an event loop that goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        await asyncio.sleep(0.01)


def is_lack_of_connections(error: object) -> bool:
    """Whether it says that all the connections a client may have are in use."""
    return isinstance(error, redis.ConnectionError) and "max_connections" in str(error)
