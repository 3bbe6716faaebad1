"""What tests share: faces, snapshots of the keys, 3.0.0 re-stated, and clients that fail."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import redis

import saferedisqueue
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue, _Steps
from servers import Server

Value = Any
Make = Callable[..., SafeRedisQueue[Any]]  # the fixture of that name

# What a caller may set on a client, and the queue must work with. RESP 2 is the default of redis-py
# up to 7, RESP 3 that of 8.
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "decode": {"decode_responses": True},
    "resp2": {"protocol": 2},
    "resp3": {"protocol": 3},
    "resp2-decode": {"protocol": 2, "decode_responses": True},
    "resp3-decode": {"protocol": 3, "decode_responses": True},
}


# -- faces -----------------------------------------------------------------------------------------


class Face:
    """A class of queues, driven by blocking calls: the contract is written once for all faces."""

    queue_class: type[Any]

    def __enter__(self) -> Face:
        self._made: list[Any] = []
        return self

    def __exit__(self, *exc: object) -> None:
        for queue in self._made:
            queue.close()

    def queue(self, *args: Any, kind: type[Any] | None = None, **kw: Any) -> Any:
        """One of this face's class, or of another ``kind`` of it."""
        self._made.append(self.driven((kind or self.queue_class)(*args, **kw)))
        return self._made[-1]

    def driven(self, queue: Any) -> Any:
        """The queue, driven by blocking calls."""
        return queue

    def work(self, seconds: float) -> None:
        """What the body of a loop does: for so long others may go on."""
        time.sleep(seconds)


class Blocking(Face):
    queue_class = SafeRedisQueue


class Asyncio(Face):
    """The asyncio face, each call of which runs to its end in the face's own event loop."""

    queue_class = AsyncSafeRedisQueue

    def __enter__(self) -> Face:
        self.loop = asyncio.new_event_loop()
        return super().__enter__()

    def __exit__(self, *exc: object) -> None:
        try:
            super().__exit__(*exc)
            self.loop.run_until_complete(asyncio.sleep(0))  # what is closing is closed then
        finally:
            self.loop.close()

    def driven(self, queue: Any) -> Any:
        return Awaited(queue, self.run)

    def work(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    def run(self, coroutine: Any) -> Any:
        self.task = self.loop.create_task(coroutine)  # to be cancelled by those who like
        return self.loop.run_until_complete(self.task)


WRAPPED = ("AsyncSafeRedisQueue", "AsyncDelivery", "AsyncConsumer", "AsyncProcessing")


class Awaited:
    """An object of the asyncio face whose coroutines are run when called."""

    def __init__(self, wrapped: Any, run: Callable[[Any], Any]) -> None:
        self.__dict__.update(wrapped=wrapped, run=run)

    def __getattr__(self, name: str) -> Any:
        return self._run_and_wrap(getattr(self.wrapped, name))

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.wrapped, name, value)

    def _run_and_wrap(self, value: Any) -> Any:
        if inspect.iscoroutine(value):
            value = self.run(value)
        if type(value).__name__ in WRAPPED:
            return Awaited(value, self.run)
        if inspect.ismethod(value) or inspect.isfunction(value):
            return lambda *args, **kw: self._run_and_wrap(value(*args, **kw))
        return value

    def __iter__(self) -> Any:
        if not hasattr(self.wrapped, "__aiter__"):
            return iter(self.wrapped)
        return self

    def __next__(self) -> Any:
        try:
            return self._run_and_wrap(self.wrapped.__anext__())
        except StopAsyncIteration:
            raise StopIteration from None

    def __enter__(self) -> Any:
        return self._run_and_wrap(self.wrapped.__aenter__())

    def __exit__(self, *exc: Any) -> Any:
        return self._run_and_wrap(self.wrapped.__aexit__(*exc))


FACES: dict[str, type[Face]] = {"blocking": Blocking, "asyncio": Asyncio}


# -- keys ------------------------------------------------------------------------------------------


# How the keys of numbered calls begin: they expire, and say only what was answered.
OF_A_SLOT = ("call:", "said:", "last:")


def snapshot(client: redis.Redis, name: str = "test") -> dict[str, Value]:
    """The keys of a queue by their short names, without those of numbered calls.

    Lists from left to right, hashes and zsets as dicts; uids and payloads as latin-1 text.
    """
    found: dict[str, Value] = {}
    prefix = f"srq:{name}:".encode()
    for key in client.scan_iter(match=prefix + b"*"):
        short = key.removeprefix(prefix).decode()
        if not short.startswith(OF_A_SLOT):
            found[short] = _read(client, key)
    return found


def _read(client: redis.Redis, key: bytes) -> Value:
    def text(value: bytes) -> str:
        return value.decode("latin-1")

    kind = client.type(key)
    if kind == b"list":
        return [text(v) for v in client.lrange(key, 0, -1)]
    if kind == b"hash":
        return {text(k): text(v) for k, v in client.hgetall(key).items()}
    if kind == b"zset":
        return {text(k): v for k, v in client.zrange(key, 0, -1, withscores=True)}
    return text(client.get(key) or b"")  # it may just have expired


def seed(client: redis.Redis, name: str = "test", **keys: Value) -> None:
    """Write keys of a queue: the reverse of snapshot."""
    for short, value in keys.items():
        key = f"srq:{name}:{short}"
        if isinstance(value, list):
            client.rpush(key, *value)
        elif isinstance(value, str):
            client.set(key, value)
        elif short in ("dead", "leases", "delayed", "priority", "held"):
            client.zadd(key, value)
        else:
            client.hset(key, mapping=value)


# An entry in one of these may be a ghost: so many of a uid as meta says.
LISTED = ("handed", "queue")
PLACES = (*LISTED, "ackbuf", "backup", "priority", "delayed", "held", "leases", "dead")


def check_places(client: redis.Redis, name: str = "test") -> None:
    """Invariant 1: every uid in items stands in one place, but for the ghosts that meta counts."""
    keys = snapshot(client, name)
    standing: dict[str, list[str]] = {}
    for place in PLACES:
        for uid in keys.get(place, ()):
            standing.setdefault(uid, []).append(place)
    for uid in keys.get("items", {}):
        places = standing.get(uid, [])
        noted = re.search(" g([0-9]+)$", keys.get("meta", {}).get(uid, ""))
        ghosts = min(int(noted[1]) if noted else 0, sum(p in LISTED for p in places))
        assert 1 <= len(places) <= 1 + ghosts, f"{uid} stands in {places or 'no place'}: {keys}"


def lapse(client: redis.Redis, name: str = "test") -> None:
    """An autoclean interval is over: its lock has run out."""
    client.delete(f"srq:{name}:backuplock")


# -- 3.0.0 -----------------------------------------------------------------------------------------


class Release3:
    """What saferedisqueue 3.0.0 sends, command for command, on a client of today."""

    def __init__(self, client: redis.Redis, name: str = "test", interval: int = 60) -> None:
        self.client = client
        self.interval = interval
        self.items, self.queue, self.ackbuf, self.backup, self.lock = (
            f"srq:{name}:{key}" for key in ("items", "queue", "ackbuf", "backup", "backuplock")
        )

    def put(self, uid: str, payload: bytes | str) -> None:
        self.client.pipeline().hset(self.items, uid, payload).lpush(self.queue, uid).execute()

    def get(self) -> tuple[str | None, bytes | None]:
        self.autoclean()
        uid = self.client.execute_command("RPOPLPUSH", self.queue, self.ackbuf)
        if uid is None:
            return None, None
        return uid.decode(), self.client.hget(self.items, uid)

    def autoclean(self, dies: bool = False) -> None:
        if self.client.exists(self.lock):
            return
        if not self.client.exists(self.backup):
            if self.client.exists(self.ackbuf):
                self.client.renamenx(self.ackbuf, self.backup)
            self.client.execute_command("SETEX", self.lock, self.interval, 1)
        elif self.client.execute_command("SETNX", self.lock, 1):
            while self.client.execute_command("RPOPLPUSH", self.backup, self.queue):
                if dies:
                    return
            if self.client.exists(self.ackbuf):
                self.client.rename(self.ackbuf, self.backup)
            self.client.expire(self.lock, self.interval)

    def ack(self, uid: str) -> None:
        pipe = self.client.pipeline()
        pipe.lrem(self.ackbuf, 0, uid).lrem(self.backup, 0, uid).hdel(self.items, uid).execute()

    def fail(self, uid: str) -> None:
        pipe = self.client.pipeline()
        pipe.lrem(self.ackbuf, 0, uid).lrem(self.backup, 0, uid).lpush(self.queue, uid).execute()


# -- clients that fail -----------------------------------------------------------------------------


class FailingSteps(_Steps[Any]):
    """Of a queue that fails at its k-th command from now on, as told by fail_at."""

    _countdown = -1
    _lost_reply = _for_good = False
    _error: Callable[[], BaseException] = staticmethod(
        lambda: redis.ConnectionError("the test cut the connection")
    )
    commands = 0
    before_wait: Callable[[], object] | None = (
        None  # called once, when a BLMOVE is about to be sent
    )

    def fail_at(
        self,
        k: int,
        *,
        lost_reply: bool,
        error: Callable[[], BaseException] | None = None,
        for_good: bool = False,
    ) -> None:
        """At command k (0 is the next) raise: before it is sent, or after it has been run.

        for_good: nothing is sent after that, as by a process that was killed.
        """
        self._countdown = k
        self._lost_reply, self._for_good = lost_reply, for_good
        if error is not None:
            self._error = error

    @property
    def failed(self) -> bool:
        """Whether that command was reached."""
        return self._countdown < 0

    @contextlib.contextmanager
    def _counted(self, call: Any) -> Iterator[None]:
        self.commands += 1
        self._countdown -= 1
        now = self._countdown == -1
        if (now and not self._lost_reply) or (self._for_good and self._countdown < -1):
            raise self._error()
        if command_of(call) == "BLMOVE" and self.before_wait is not None:
            arrive, self.before_wait = self.before_wait, None
            arrive()
        try:
            yield
        finally:
            if now:
                raise self._error()


class Failing(FailingSteps, SafeRedisQueue[Any]):
    def _exchange(self, call: Any, slot: Any) -> Any:
        with self._counted(call):
            return super()._exchange(call, slot)


class AsyncFailing(FailingSteps, AsyncSafeRedisQueue[Any]):
    async def _send(self, call: Any, slot: Any) -> Any:
        with self._counted(call):
            return await super()._send(call, slot)


FAILING: dict[type[Face], type[FailingSteps]] = {Blocking: Failing, Asyncio: AsyncFailing}


# -- time ------------------------------------------------------------------------------------------

ALLOWANCE = 0.5  # seconds


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """What is promised within so many seconds: the block, with an allowance for a busy machine.

    That is ALLOWANCE, for the work itself and for the server, and all the time for which a thread
    beside it, which only wants to sleep 10 ms again and again, did not get to run.
    """
    late, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal late
        before = time.monotonic()
        while not done.wait(0.01):
            now = time.monotonic()
            late += now - before - 0.01
            before = now

    watching = threading.Thread(target=watch)
    watching.start()
    start = time.monotonic()
    try:
        yield
        took = time.monotonic() - start
    finally:
        done.set()
        watching.join()
    told = f"{took:.2f} s instead of {seconds}, and the machine was late by {late:.2f} s"
    assert took <= seconds + ALLOWANCE + late, told


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    """The first true result of the condition, asked again and again; fails after a long time."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.01)
    return result


# -- processes, scripts, and what is left ----------------------------------------------------------


def run_alone(code: str, server: Server, *arguments: str) -> None:
    """In a process of its own: pytest's has threads, and is not to be forked."""
    command = [sys.executable, "-c", code, server.url, *arguments]
    # Not in the checkout, so that it imports the module that is tested here.
    where = server.directory
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=where)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


def call(
    queue: Any, script: saferedisqueue.Script, *args: Any, slot: Any = None, keys: Any = None
) -> Any:
    """Run one script once, as the blocking queue does; with a slot, as the call it counted last."""
    once = saferedisqueue._Numbered(queue, script, args, lambda reply: reply, None, keys)
    slot = slot or queue._take_slot().count(script)
    try:
        return queue._exchange(once, slot)
    except redis.exceptions.NoScriptError:
        assert once.send_in_full()
        return queue._exchange(once, slot)


def command_of(call: Any) -> str:
    """The name of the command that a call sends, or of the first of two."""
    if isinstance(call, saferedisqueue._Command):
        return str(call.parts[0])
    return "BLMOVE" if isinstance(call, saferedisqueue._Claim) and call.wait else "EVALSHA"


class Raw(saferedisqueue._Command):
    """A command as it was sent before."""

    def __init__(self, queue: Any, data: bytes) -> None:
        super().__init__(queue)
        self._data = data

    def data(self, slot: Any) -> bytes:
        return self._data


def drain(queue: Any, client: redis.Redis) -> list[str]:
    """Consume everything, orphans too, and check that nobody gets what is out; the uids."""
    return [item.uid for item in drained(queue, client, intervals=3)]


def drained(queue: Any, client: redis.Redis, intervals: int) -> list[Any]:
    """The items that drain consumes, orphans of so many autoclean intervals."""
    items: list[Any] = []
    for _ in range(intervals + 1):
        out: list[Any] = []
        while (item := queue.get(-1)).uid is not None:
            out.append(item)
        uids = [item.uid for item in out]
        assert len(set(uids)) == len(uids), f"delivered to two at a time: {uids}"
        for item in out:
            assert queue.ack(item.uid), f"{item.uid} was taken from its holder"
        items += out
        lapse(client)
    return items
