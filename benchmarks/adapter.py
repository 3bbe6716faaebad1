"""What an adapter may have: a method that it lacks is a move that its library does not have.

Payloads are texts of 100 characters that begin with the item's number; adapters give and take them
in whatever their library is fed with, and their `take` and the like return them.

    put(payload)              one
    take()                    get and ack one; its payload
    put_many(payloads)
    take_many(count)          get and ack so many at once; their payloads
    consume(prefetch)         iterator over payloads, until all are taken; it acks on the way
    hold(count)               get so many without acking; what `settle` needs for each
    settle(held)              ack one
    wait()                    wait for an item, at most some seconds: (payload, what settle needs)
    echo(payload)             of limits: one exchange
    echoes(count)             of a limit that tells its own time: the seconds of so many
    steps(payload)            iterator that does step after step; of each what it was, and how many
                              calls; one without a name only prepares the next
    work()                    of task queues: be a worker whose tasks call `done`, until killed

With `is_async` all of them are coroutines; `consume` is an asynchronous iterator.
"""

from __future__ import annotations

import functools
import os
import time
from typing import Any, NamedTuple


class Place(NamedTuple):
    """Where the server is."""

    port: int
    socket: str
    host: str = "127.0.0.1"
    cluster: bool = False

    @property
    def url(self) -> str:
        return f"redis://{self.host}:{self.port}/0"


class Adapter:
    """Opened on an empty server."""

    is_async = False  # for asyncio
    has_tasks = False  # for many tasks of asyncio at once

    def __init__(self, place: Place, name: str) -> None:
        self.place, self.name = place, name

    def prepare(self, count: int) -> Any:
        """Before moves of so many items, on an emptied server."""


FEW = 50  # calls of a step: enough to be warm, and few enough items out to be like a few workers
HUNDRED = "100 EXISTS in a script"  # a step that shows what a command in a script costs
NUMBER = 20  # digits of the number that a payload begins with


def done(payload: str | bytes) -> None:
    """Of a worker's task: note that it was run, and when."""
    text = payload if isinstance(payload, str) else payload.decode()
    os.write(_notes(), f"{time.monotonic_ns():{NUMBER}d} {text[:NUMBER]}\n".encode())


@functools.cache
def _notes() -> int:
    return os.open(os.environ["BENCHMARK_DONE"], os.O_APPEND | os.O_WRONLY | os.O_CREAT)
