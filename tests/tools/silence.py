"""Where nobody answers, and calls that must end there all the same."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import wait
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import pytest
import redis

import saferedisqueue
from helpers import Blocking, Face, within
from proxy import STALLS
from topologies import elsewhere

LOST = (redis.ConnectionError, redis.TimeoutError)
HANG = 20  # seconds after which what has not returned will not


def stalls_of(face: Face) -> tuple[str, ...]:
    """What a deadline bounds: where redis-py reads, in blocking code, only each piece alone."""
    reads_by_itself = saferedisqueue.hiredis is None and isinstance(face, Blocking)
    return ("half reply",) if reads_by_itself else STALLS


def ended(seconds: float, use: Callable[[], Any]) -> Any:
    """What a call returns, or the outage that it raises, which must come within so many seconds."""
    with within(seconds):
        call = elsewhere(use)  # so that one which hangs for ever fails its own test, and no more
        wait([call], HANG)
        assert call.done(), f"it has not ended after {HANG} s"
    try:
        return call.result()
    except LOST as error:
        return error


def at_once(check: Callable[..., object], cases: Iterable[tuple[Any, ...]]) -> None:
    """Check all cases at the same time: each of them spends its time waiting."""
    running = [elsewhere(partial(check, *case)) for case in cases]
    wrong = [error for each in running if (error := each.exception())]
    if wrong:
        raise BaseExceptionGroup("of some cases", wrong)


@contextmanager
def swallowing() -> Iterator[int]:
    """The port of a listener whose queue is full: who connects waits, and is not refused."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(10):
            filling = stack.enter_context(socket.socket())
            filling.settimeout(0.1)
            try:
                filling.connect(listener.getsockname())
            except TimeoutError:
                break
        else:
            pytest.skip("here a full listener takes connections all the same")
        yield listener.getsockname()[1]


class Names:
    """What the name server says of ``name``, for as long as the test runs."""

    name = "queues.test"

    def __init__(self, monkeypatch: pytest.MonkeyPatch, answer: Callable[[], list[int]]) -> None:
        """answer: the ports on this machine to which the name leads; it may take its time."""
        self._answer, self._others = answer, socket.getaddrinfo
        monkeypatch.setattr(socket, "getaddrinfo", self._look_up)

    def _look_up(self, host: Any, *args: Any, **kw: Any) -> list[Any]:
        if host not in (self.name, self.name.encode()):
            return self._others(host, *args, **kw)
        kind = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [(*kind, ("127.0.0.1", port)) for port in self._answer()]
