"""redis-message-queue, with its defaults: a visibility timeout, no deduplication."""

from __future__ import annotations

from typing import Any

import redis
from redis_message_queue import RedisMessageQueue

from ..adapter import Adapter, Place


class Queue(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        client = redis.Redis(host=place.host, port=place.port)
        self.queue = RedisMessageQueue(name, client=client)
        self.put = self.queue.publish

    def take(self) -> Any:
        with self.queue.process_message() as payload:
            return payload

    def wait(self) -> Any:
        for _ in range(20):
            payload = self.take()
            if payload is not None:
                return payload, None
        raise TimeoutError

    def settle(self, held: None) -> None:
        """It was, at the end of its block."""
