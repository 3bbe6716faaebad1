"""saferedisqueue 3.0.0 as it was released, with the last redis-py that it works with."""

from __future__ import annotations

from typing import Any

from saferedisqueue import SafeRedisQueue

from ..adapter import Adapter, Place


class Original(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.queue = SafeRedisQueue(url=place.url, name=name)
        self.put, self.settle = self.queue.put, self.queue.ack

    def take(self) -> Any:
        uid, payload = self.queue.get(timeout=-1)
        self.queue.ack(uid)
        return payload

    def hold(self, count: int) -> list[Any]:
        return [self.queue.get(timeout=-1)[0] for _ in range(count)]

    def wait(self) -> Any:
        uid, payload = self.queue.get(timeout=20)
        return payload, uid
