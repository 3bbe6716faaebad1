"""Alarms that go off in a call of the queue, and whose handler raises: what test_signals.py runs.

Each in a process of its own, because pytest-timeout uses the alarm of pytest's.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import random
import signal
import sys
import threading
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from types import FrameType, SimpleNamespace
from typing import Any

import redis

import saferedisqueue
from helpers import FACES, within
from proxy import Proxy
from saferedisqueue import NoItem, SafeRedisQueue


class LimitError(Exception):
    """As that of a worker's time limit."""


class Stop(BaseException):
    """What no `except Exception` is to catch."""


class Swallowed(BaseException):
    """Raised some seconds after an error of an alarm that did not come out."""


KINDS = (TimeoutError, OSError, ConnectionError, LimitError, Stop, KeyboardInterrupt)
OVERDUE = 5  # seconds
# Functions of redis-py and Python in which, or under which, what is raised is lost, and the handler
# itself: where the machine is slow, the next alarm comes before it has returned.
DEAF = (
    "__del__",
    "_socket_is_closed",
    "can_read",
    "disconnect",
    "get_lib_version",
    "ring",
    "start",
)

wrong: Counter[str] = Counter()  # what went wrong, and how often
unraisable: list[Any] = []  # raised in a finalizer, out of which nothing can come


def main(name: str, url: str) -> None:
    """Do what stands below under this name."""
    logging.disable()
    sys.unraisablehook = lambda info: unraisable.append(info.exc_value)
    # Python says so when a handler raises between a call of a coroutine and its first step.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
    # Out of what is collected nothing can come either: that is done between the calls.
    gc.freeze()
    gc.disable()
    globals()[name](url)
    sys.exit(f"{name}: {dict(wrong)}" if wrong else 0)


class Alarm:
    """Raises an error of this kind, once, in a call of the queue, and after that nothing."""

    def __init__(self, kind: type[BaseException]) -> None:
        self.name, self.rang, self.is_over = kind.__name__, False, False
        self.error: BaseException = kind("the alarm")

    def ring(self, _: int, frame: FrameType | None) -> None:
        if self.is_over:
            return
        around = list(frames(frame))
        if any(each.f_code.co_name in DEAF for each in around):
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 2e-4), OVERDUE)
        elif any(each.f_code.co_filename == saferedisqueue.__file__ for each in around):
            if self.rang:
                raise Swallowed
            self.rang = True
            raise self.error

    def during(self, call: Callable[[], Any], seconds: float = 0) -> Any:
        """The result of the call, or None if an error came out of it.

        The alarm goes off after so many seconds; 0: the call itself sets it off.
        """
        signal.signal(signal.SIGALRM, self.ring)
        signal.setitimer(signal.ITIMER_REAL, seconds, OVERDUE)
        try:
            result = call()
        except BaseException as error:
            if error is not self.error:
                wrong[f"{self.name} came out as {type(error).__name__}"] += 1
            return None
        finally:
            self.is_over = True
            signal.setitimer(signal.ITIMER_REAL, 0)
        if self.rang and self.error not in unraisable:
            wrong[f"{self.name} was swallowed"] += 1
        return result

    def left(self, queue: SafeRedisQueue[Any], *expected: int) -> bool:
        """Whether so many items are ready, in flight, delayed and dead."""
        stats = queue.stats()
        if stats[:4] == expected:
            return True
        wrong[f"{self.name} left {stats}"] += 1
        return False

    def found(self, item: Any, attempts: int) -> bool:
        """Whether the call returned an item, delivered so often."""
        if item.uid is not None and item.attempts == attempts:
            return True
        wrong[f"{self.name}, but it returned {item}"] += 1
        return False


def frames(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def alarms(kind: type[BaseException], times: int) -> Iterator[Alarm]:
    """One after another, until so many have rung."""
    rung = 0
    while rung < times:
        gc.collect()
        alarm = Alarm(kind)
        yield alarm
        rung += alarm.rang


def some_time(call: Callable[[], object]) -> Callable[[], float]:
    """Gives random moments, of which most are in such a call."""
    begun = time.monotonic()
    for _ in range(10):
        call()
    usual = (time.monotonic() - begun) / 10
    return lambda: random.uniform(1e-6, 2 * usual)


# -- what is alarmed -------------------------------------------------------------------------------


def waiting_get(url: str) -> None:
    """What is put as soon as it has ended is ready at once: the server may not know of it yet."""
    with two_queues(url) as (queue, near):
        for kind in KINDS * 3:
            assert Alarm(kind).during(lambda: queue.get(0), 0.1) is None
            uid = near.put(b"a")
            item = near.get(-1)
            assert (item.uid, item.attempts) == (uid, 1)
            assert near.ack(item.uid)


def waits(url: str) -> None:
    """Of an item that comes about when the alarm goes off: it is ready, or was returned."""
    with two_queues(url) as (queue, near):
        for kind in KINDS:
            for number, alarm in enumerate(alarms(kind, 20)):
                after = random.uniform(0, 0.004)
                putting = threading.Timer(after, near.put, (b"a",))
                putting.start()
                get = partial(queue.get, 1, 60 if number % 2 else None)
                item = alarm.during(get, random.uniform(0.0005, 0.004))
                putting.join()
                if item is None and alarm.left(near, 1, 0, 0, 0):
                    item = near.get(-1)
                if item is None or not (alarm.found(item, 1) and near.ack(item.uid)):
                    begin_anew(near)
                    near.purge()


def gets(url: str, times: int = 60) -> None:
    """Of one item, with a lease and without one: it is ready again, or was returned."""
    with two_queues(url) as (queue, near):

        def get_and_fail() -> None:
            assert queue.fail(queue.get(1).uid)

        near.put(b"a")
        moment, returned = some_time(get_and_fail), 10
        for kind in KINDS:
            for number, alarm in enumerate(alarms(kind, times)):
                lease = 60 if number % 2 else None
                if number % 4 < 2:
                    queue.empty()  # so that it is connected, also after an error
                item = alarm.during(partial(queue.get, 1, lease), moment())
                if item is not None:
                    returned += 1
                    fine = alarm.found(item, returned) and near.fail(item.uid)
                else:
                    fine = alarm.left(near, 1, 0, 0, 0)
                if not fine:
                    returned = begin_anew(near)


def begin_anew(queue: SafeRedisQueue[bytes]) -> int:
    """Have one item, which was delivered so often."""
    queue.purge()
    queue.put(b"a")
    return 0


def gets_over_tls(url: str) -> None:
    gets(url, times=8)


@contextlib.contextmanager
def two_queues(url: str) -> Iterator[tuple[SafeRedisQueue[bytes], SafeRedisQueue[bytes]]]:
    """One to be alarmed, and one to look."""
    with (
        SafeRedisQueue[bytes](url=url, name="test") as queue,
        SafeRedisQueue[bytes](url=url, name="test") as near,
    ):
        yield queue, near


class Alarming:
    """A serializer that sets the alarm off while it loads."""

    armed = False

    def dumps(self, item: str) -> bytes:
        return item.encode()

    def loads(self, payload: bytes) -> str:
        if self.armed:
            self.armed = False
            signal.raise_signal(signal.SIGALRM)
        return payload.decode()


def loads(url: str) -> None:
    serializer = Alarming()
    with SafeRedisQueue[str](url=url, name="test", serializer=serializer) as queue:
        for kind in KINDS:
            for get in (lambda: queue.get(1), lambda: queue.get_many(2, 1)):
                uids = queue.put_many([*"ab"])
                serializer.armed, alarm = True, Alarm(kind)
                alarm.during(get)
                if alarm.left(queue, 2, 0, 0, 0):
                    assert [each.uid for each in queue.peek(2)] == uids
                    assert [each.attempts for each in queue.peek(2)] == [0, 0]
                queue.purge()


def puts(url: str) -> None:
    """Each is stored once, or where the error came out perhaps not."""
    with two_queues(url) as (queue, near):
        moment = some_time(lambda: queue.put(b"a"))
        near.purge()
        for kind in KINDS:
            for alarm in alarms(kind, 40):
                uid = alarm.during(lambda: queue.put(b"a"), moment())
                stored = [each.uid for each in near.peek(9)]
                if stored != [uid] and (uid or len(stored) > 1):
                    wrong[f"{alarm.name}: of one put there are {len(stored)}"] += 1
                near.purge()


def loops(url: str) -> None:
    """Of one item, which each round leaves in hand if it comes."""
    with two_queues(url) as (queue, near):

        def take() -> None:
            with queue.consume(timeout=1) as items:
                next(items)

        near.put(b"a")
        moment, returned = some_time(take), 10
        for kind in KINDS:
            for alarm in alarms(kind, 25):
                with queue.consume(timeout=1) as items:
                    item = alarm.during(lambda each=items: next(each, NoItem()), moment())
                returned += item is not None
                fine = item is None or alarm.found(item, returned)
                if not alarm.left(near, 1, 0, 0, 0) or not fine:
                    returned = begin_anew(near)


# -- alarms that change nothing --------------------------------------------------------------------


def ticking(url: str) -> None:
    """An alarm each 2 ms, while there is nothing to be got, and while replies are slow."""
    ticks = 0

    def tick(*_: object) -> None:
        nonlocal ticks
        ticks += 1

    signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    server: Any = SimpleNamespace(socket=url.removeprefix("unix://"))
    for face in FACES.values():
        with Proxy(server) as proxy, face() as opened:
            queue = opened.queue(url=proxy.url, name="test")
            begun = time.monotonic()
            with within(1.3):
                assert queue.get(0.3) == (None, None)
            assert time.monotonic() - begun >= 0.3
            uid = queue.put(b"a")
            proxy.delay = 0.2
            assert queue.get(30) == (uid, b"a")
            proxy.delay = 1.6
            with within(1.3), contextlib.suppress(redis.TimeoutError):
                queue.get(0.3)
            proxy.delay = 0
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert ticks > 100


# -- handlers that use the queue themselves --------------------------------------------------------


def putting(url: str) -> None:
    """A handler puts, and now and then closes, at any moment of what the queue does meanwhile."""
    uids: list[Any] = []
    over = time.monotonic() + 4

    def put(*_: object) -> None:
        uids.append(queue.put(b"a"))
        if len(uids) % 50 == 0:
            queue.close()
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 4e-4))

    with two_queues(url) as (queue, near):
        for _ in range(3):
            uids.append(queue.put(b"a"))
        signal.signal(signal.SIGALRM, put)
        signal.setitimer(signal.ITIMER_REAL, 0.001)
        while time.monotonic() < over:
            uids.append(queue.put(b"a"))
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        assert near.qsize() == len(uids) == len(set(uids))
