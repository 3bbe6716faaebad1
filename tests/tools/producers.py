"""Producers that put all the time, through outages too, and remember what their puts returned."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from helpers import FACES, Face, eventually
from saferedisqueue import _OUTAGE, NotDurable, SafeRedisQueue
from topologies import elsewhere


class Producers:
    """A thread for each face, which puts single items and several at a time.

    The threads end, and have met no error but outages, when the context is left.

    returned: uid -> payload of everything whose put returned, by face; refused: puts not confirmed.
    A single put that failed is made again, with its uid, over a connection that wrote nothing yet.
    """

    def __init__(self, **settings: Any) -> None:
        self._settings = settings
        self._done = threading.Event()
        self.returned: dict[str, dict[str, bytes]] = {kind: {} for kind in FACES}
        self.refused = dict.fromkeys(FACES, 0)

    def __enter__(self) -> Producers:
        self._threads = [elsewhere(lambda kind=kind: self._produce(kind)) for kind in FACES]
        return self

    def __exit__(self, *exc: object) -> None:
        self._done.set()
        for thread in self._threads:
            thread.result(60)

    def _produce(self, kind: str) -> None:
        with FACES[kind]() as face:
            queue = self._queue(face)
            while not self._done.is_set():
                payloads = [_payload() for _ in range(random.choice((1, 5)))]
                uid = os.urandom(8).hex() if len(payloads) == 1 else None
                while not self._done.is_set() and not self._put(queue, kind, payloads, uid):
                    queue.close()
                    self._done.wait(0.01)
                    queue = self._queue(face)
                    if uid is None:
                        break  # several at a time have no uids to repeat

    def _queue(self, face: Face) -> Any:
        return face.queue(**self._settings)

    def _put(self, queue: Any, kind: str, payloads: list[bytes], uid: str | None) -> bool:
        try:
            if uid is None:
                uids = queue.put_many(payloads)
            else:
                queue.put(payloads[0], uid=uid)  # None, if it was there: confirmed too
                uids = [uid]
        except NotDurable:
            self.refused[kind] += 1
            return False
        except _OUTAGE:
            return False
        self.returned[kind].update(zip(uids, payloads, strict=True))
        return True

    def wait(self, condition: Callable[[], Any]) -> None:
        """Until the condition is true; fails at once when a producer does."""

        def ended() -> list[Future[Any]]:
            return [thread for thread in self._threads if thread.done()]

        eventually(lambda: ended() or condition())
        for thread in ended():
            thread.result()

    def wait_for(self, more: int) -> None:
        """Until so many more items were put by each face."""
        before = {kind: len(self.returned[kind]) for kind in FACES}
        self.wait(lambda: all(len(self.returned[k]) >= before[k] + more for k in FACES))

    def wait_for_refusals(self, more: int) -> None:
        """Until so many more puts of each face were refused."""
        before = self.refused.copy()
        self.wait(lambda: all(self.refused[kind] >= before[kind] + more for kind in FACES))

    def lost(self, kind: str, left: dict[str, bytes]) -> set[str]:
        """What was put, but is not left as it was put."""
        return {uid for uid, payload in self.returned[kind].items() if left.get(uid) != payload}


def _payload() -> bytes:
    return os.urandom(random.choice((0, 30, 300, 3000)))


def consumed(**settings: Any) -> dict[str, bytes]:
    """Everything that the queue delivers, each item once."""
    left: dict[str, bytes] = {}
    with SafeRedisQueue[bytes](**settings) as queue:
        while items := queue.get_many(1000, timeout=-1):
            for item in items:
                assert item.uid not in left, f"{item.uid} was delivered twice"
                left[item.uid] = item.payload
    return left
