"""The processes of a soak: producers and consumers of every kind, which record what they do.

A consumer records an item as soon as it has it, before it works and acks.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any, NoReturn

import redis

from helpers import Release3
from history import Recorder, payload_of
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue

NAME = "{soak}"  # in a cluster and elsewhere its keys are the same
STALL = 0.1  # of a lease: so much delay within one may, with the network's, lose it
ERRORS = (redis.RedisError, OSError)


@dataclass(frozen=True)
class Settings:
    """What all processes of a mode are told."""

    url: str
    directory: Path
    seed: int
    lease: float
    interval: float
    rate: float  # items a second that each producer puts
    slow: float  # part of the items on which work takes longer than the lease
    fails: float = 0.05  # part of the deliveries that are failed
    cluster: int = 0  # the port of a node of the cluster of which url is the master, if it is one


class Worker:
    """What a kind of process needs: its queue, its own randomness, and what it records."""

    def __init__(self, settings: Settings, who: str) -> None:
        self.settings = settings
        self.record = Recorder(settings.directory, who)
        self.random = random.Random(f"{settings.seed} {who}")
        self.lease: float | None = settings.lease
        self.next = 0

    def queue(self) -> SafeRedisQueue[bytes]:
        interval = self.settings.interval
        if not self.settings.cluster:
            return SafeRedisQueue(url=self.settings.url, name=NAME, autoclean_interval=interval)
        known: Any = {"host": "127.0.0.1", "port": self.settings.cluster, "socket_timeout": 5}
        client = redis.RedisCluster(**known)
        return SafeRedisQueue(client=client, name=NAME, autoclean_interval=interval)

    def old_queue(self) -> Release3:
        client = redis.Redis.from_url(self.settings.url)
        return Release3(client, NAME, interval=int(self.settings.interval))

    def stumbled(self, error: BaseException) -> None:
        self.record("error", type(error).__name__)
        self.end_if_told()
        time.sleep(0.02)

    def end_if_told(self) -> None:
        """An error while a consumer closes takes the place of what made it close."""
        if self.told_to_end:
            sys.exit()

    told_to_end = False

    def end(self, *_: Any) -> NoReturn:
        """The handler of SIGTERM."""
        self.told_to_end = True
        sys.exit()

    # -- put

    def put(self, count: int, put: Callable[[list[bytes]], Any], *options: object) -> None:
        """Put the next items, and record what became of that."""
        first, self.next = self.next, self.next + count
        payloads = [payload_of(f"{self.record.who}:{first + i}") for i in range(count)]
        self.record("put", first, count, *(options or (0, 0)))
        try:
            put(payloads)
        except ERRORS as error:
            self.record("raised", first, type(error).__name__)
            time.sleep(0.05)
        else:
            self.record("ok", first)

    def rest(self, items: int) -> None:
        """Sleep as the rate asks for; at times not at all, so that the queue grows."""
        if self.random.random() < 0.9:
            time.sleep(self.random.expovariate(self.settings.rate / items) / 0.9)

    # -- get

    def got(self, uid: str, payload: bytes, begun: float, attempts: int, until: float) -> str:
        """Record a delivery; the name of the item."""
        item = payload.split(b" ", 1)[0].decode("latin-1")
        intact = payload == payload_of(item)
        self.record(
            "got", item or "?", uid[-8:], attempts, f"{until:.3f}", f"{begun:.6f}", int(intact)
        )
        return item

    def work(self, item: str, attempts: int) -> float:
        """Seconds that an item takes: a few ms, and some items, at first, longer than the lease.

        So that of these the first consumer acks while the second has them.
        """
        if attempts < 3 and random.Random(item).random() < self.settings.slow:
            return self.settings.lease * 1.5
        return self.random.uniform(0, 0.006)

    def settle(self, queue: Any, uid: str, item: str, attempts: int) -> None:
        """Ack an item, or fail it."""
        try:
            if attempts < 5 and self.random.random() < self.settings.fails:
                delay = self.random.choice([0, 0, 0.2])
                self.record("fail", item, delay)
                self.record("failed", item, int(queue.fail(uid, delay)))
            else:
                self.record("ack", item)
                self.record("acked", item, int(queue.ack(uid)))
        except ERRORS as error:
            self.stumbled(error)


# ---- producers -----------------------------------------------------------------------------------


def put_one(queue: SafeRedisQueue[bytes], payloads: list[bytes], **options: Any) -> None:
    queue.put(payloads[0], **options)


def put(worker: Worker) -> None:
    queue = worker.queue()
    while True:
        worker.put(1, partial(put_one, queue))
        worker.rest(1)


def put_many(worker: Worker) -> None:
    queue = worker.queue()
    while True:
        count = worker.random.randint(1, 200)
        worker.put(count, queue.put_many)
        worker.rest(count)


def put_urgent(worker: Worker) -> None:
    """With priorities, and some with a delay."""
    queue = worker.queue()
    while True:
        priority = worker.random.choice([-5, 0, 0, 5, 5])
        delay = worker.random.choice([0, 0, 0, 0.3])
        options = {"priority": priority, "delay": delay or None}
        worker.put(1, partial(put_one, queue, **options), priority, delay)
        worker.rest(1)


def put_3(worker: Worker) -> None:
    old = worker.old_queue()
    while True:
        worker.put(1, lambda payloads: old.put(str(uuid.uuid4()), payloads[0]))
        worker.rest(1)


# ---- consumers -----------------------------------------------------------------------------------


def get(worker: Worker) -> None:
    """Blocking get, work, ack or fail; with a lease or without."""
    queue = worker.queue()
    while True:
        begun = time.time()
        try:
            item = queue.get(0.5, worker.lease)
        except ERRORS as error:
            worker.stumbled(error)
            continue
        if item.uid is None:
            continue
        name = worker.got(item.uid, item.payload, begun, item.attempts, item.deadline or 0)
        time.sleep(worker.work(name, item.attempts))
        worker.settle(queue, item.uid, name, item.attempts)


def get_many(worker: Worker) -> None:
    queue = worker.queue()
    while True:
        begun = time.time()
        try:
            items = queue.get_many(20, 0.5, worker.lease)
        except ERRORS as error:
            worker.stumbled(error)
            continue
        names = [
            worker.got(item.uid, item.payload, begun, item.attempts, item.deadline or 0)
            for item in items
        ]
        time.sleep(max([worker.work(n, i.attempts) for n, i in zip(names, items)], default=0))
        for name in names:
            worker.record("ack", name)
        try:
            acked = queue.ack_many(item.uid for item in items)
        except ERRORS as error:
            worker.stumbled(error)
            continue
        for name in names if acked in (0, len(names)) else ():  # else it is not known which
            worker.record("acked", name, int(acked > 0))


def consume(worker: Worker, prefetch: int = 1) -> None:
    queue = worker.queue()
    while True:
        try:
            with queue.consume(prefetch=prefetch, lease=worker.lease) as items:
                begun = time.time()
                try:
                    for item in items:
                        name = worker.got(
                            item.uid, item.payload, begun, item.attempts, item.deadline or 0
                        )
                        time.sleep(worker.work(name, item.attempts))
                        worker.record("ack", name)
                        begun = time.time()
                except BaseException:
                    worker.record("closing")
                    raise
        except ERRORS as error:
            worker.stumbled(error)


def consume_ahead(worker: Worker) -> None:
    consume(worker, prefetch=50)


def consume_async(worker: Worker) -> None:
    """The asyncio face; SIGTERM cancels it."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task

        def end() -> None:
            worker.told_to_end = True
            task.cancel()

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end)
        interval = worker.settings.interval
        queue: AsyncSafeRedisQueue[bytes] = AsyncSafeRedisQueue(
            url=worker.settings.url, name=NAME, autoclean_interval=interval
        )
        while True:
            try:
                async with queue.consume(prefetch=10, lease=worker.lease) as items:
                    await loop(items)
            except ERRORS as error:
                worker.record("error", type(error).__name__)
                worker.end_if_told()
                await asyncio.sleep(0.02)

    async def loop(items: Any) -> None:
        begun = time.time()
        try:
            async for item in items:
                name = worker.got(item.uid, item.payload, begun, item.attempts, item.deadline or 0)
                await asyncio.sleep(worker.work(name, item.attempts))
                worker.record("ack", name)
                begun = time.time()
        except BaseException:
            worker.record("closing")
            raise

    try:
        asyncio.run(main())
    except asyncio.CancelledError:
        sys.exit()


def get_3(worker: Worker) -> None:
    """A consumer of 3.0.0, which knows neither leases nor whether its ack came too late."""
    old = worker.old_queue()
    while True:
        begun = time.time()
        try:
            uid, payload = old.get()
        except redis.ResponseError as error:  # its rename, when an ack has emptied ackbuf
            worker.stumbled(error)
            continue
        if uid is None:
            time.sleep(0.02)
            continue
        if payload is None:  # a uid that is gone: of an ack or a fail that came too late
            old.ack(uid)
            continue
        name = worker.got(uid, payload, begun, 0, 0)
        time.sleep(worker.work(name, 1))
        if worker.random.random() < worker.settings.fails:
            worker.record("fail", name, 0)
            old.fail(uid)
            worker.record("failed", name, 1)
        else:
            worker.record("ack", name)
            old.ack(uid)
            worker.record("acked", name, 1)


# ---- threads -------------------------------------------------------------------------------------


class Sharing(Worker):
    """A thread of a process whose threads share a queue object."""

    def __init__(self, process: Worker, number: int, shared: SafeRedisQueue[bytes]) -> None:
        super().__init__(process.settings, f"{process.record.who}-{number}")
        self.shared = shared

    def queue(self) -> SafeRedisQueue[bytes]:
        return self.shared


def share(worker: Worker, kinds: tuple[str, ...]) -> None:
    """Have a thread of each kind on one queue object, until this process is ended."""
    sys.setswitchinterval(1e-5)  # they take turns between any two steps, or nearly
    queue = worker.queue()
    failed: SimpleQueue[str] = SimpleQueue()

    def work(own: Sharing, kind: str) -> None:
        try:
            _begin(own, kind)
        except BaseException:
            failed.put(traceback.format_exc())

    for number, kind in enumerate(kinds):
        own = Sharing(worker, number, queue)
        for target, args in ((_watch, (own, os.getppid())), (work, (own, kind))):
            threading.Thread(target=target, args=args, daemon=True).start()
    raise RuntimeError(failed.get())


def put_in_threads(worker: Worker) -> None:
    share(worker, ("put", "put", "put-many", "put-urgent"))


def get_in_threads(worker: Worker) -> None:
    share(worker, ("get-lease", "get-lease", "get-plain", "get-many", "consume", "consume-50"))


# ---- kinds and processes -------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    run: Callable[[Worker], None]
    leased: bool = False
    renews: bool = False


PRODUCERS = {
    "put": Kind(put),
    "put-many": Kind(put_many),
    "put-urgent": Kind(put_urgent),
    "put-3": Kind(put_3),
    "put-threads": Kind(put_in_threads),
}
CONSUMERS = {
    "get-lease": Kind(get, leased=True),
    "get-plain": Kind(get),
    "get-many": Kind(get_many, leased=True),
    "consume": Kind(consume, leased=True, renews=True),
    "consume-50": Kind(consume_ahead, leased=True, renews=True),
    "async": Kind(consume_async, leased=True, renews=True),
    "release3": Kind(get_3),
    "get-threads": Kind(get_in_threads),
}
KINDS = {**PRODUCERS, **CONSUMERS}


def _watch(worker: Worker, parent: int) -> None:
    """Record when this process did not get to run; end it when the soak is gone."""
    tick = worker.settings.lease / 40

    def look() -> float:
        start = time.monotonic()
        time.sleep(tick)
        if os.getppid() != parent:
            os._exit(1)
        return time.monotonic() - start - tick

    _record_stalls(worker, look)


def _watch_server(worker: Worker) -> None:
    """Record when the server did not get to run."""
    client = redis.Redis.from_url(worker.settings.url)

    def look() -> float:
        time.sleep(worker.settings.lease / 40)
        start = time.monotonic()
        try:
            client.ping()
        except ERRORS:
            pass
        return time.monotonic() - start

    _record_stalls(worker, look)


def _record_stalls(worker: Worker, look: Callable[[], float]) -> NoReturn:
    """Record when the delays that look finds within a lease are long when taken together."""
    lease = worker.settings.lease
    late, since = 0.0, time.monotonic()
    while True:
        late += look()
        passed = time.monotonic() - since
        if late > STALL * lease:
            worker.record("stall", f"{passed:.3f}")
        if late > STALL * lease or passed > lease:
            late, since = 0.0, time.monotonic()


def spawn(kind: str, who: str, settings: Settings) -> int:
    """Fork a process of this kind; its id."""
    parent = os.getpid()
    pid = os.fork()
    return pid or _child(kind, who, settings, parent)


def _begin(worker: Worker, kind: str) -> None:
    lease = worker.settings.lease if KINDS[kind].leased else 0
    worker.lease = lease or None
    worker.record("start", kind, lease, int(KINDS[kind].renews))
    KINDS[kind].run(worker)


def _child(kind: str, who: str, settings: Settings, parent: int) -> NoReturn:
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the soak
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        logging.disable(logging.WARNING)
        os.closerange(3, 256)  # not its connections, nor what tells the server's guard of it
        worker = Worker(settings, who)
        signal.signal(signal.SIGTERM, worker.end)
        threading.Thread(target=_watch, args=(worker, parent), daemon=True).start()
        if kind == "server":
            _watch_server(worker)
        _begin(worker, kind)
    except SystemExit:
        code = 0
        worker.record("end", 0)
    except BaseException:
        traceback.print_exc()
        worker.record("end", 1)
    finally:
        os._exit(code)
