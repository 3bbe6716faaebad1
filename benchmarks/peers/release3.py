"""The commands of saferedisqueue 3.0.0, on the redis-py of today."""

from __future__ import annotations

import uuid

import redis

from helpers import Release3

from ..adapter import Adapter, Place


class Restated(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        client = redis.Redis(host=place.host, port=place.port)
        self.queue = Release3(client, name)
        self.settle = self.queue.ack

    def put(self, payload: str) -> None:
        self.queue.put(str(uuid.uuid4()), payload)

    def take(self) -> bytes | None:
        uid, payload = self.queue.get()
        self.queue.ack(uid or "")
        return payload

    def hold(self, count: int) -> list[str]:
        return [self.queue.get()[0] or "" for _ in range(count)]
