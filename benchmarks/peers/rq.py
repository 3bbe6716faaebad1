"""RQ: its usual worker, which forks for every job."""

from __future__ import annotations

import redis
import rq

from ..adapter import Adapter, Place, done


class Rq(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.client = redis.Redis(host=place.host, port=place.port)
        self.queue = rq.Queue(name, connection=self.client)

    def put(self, payload: str) -> None:
        self.queue.enqueue(done, payload)

    def work(self) -> None:
        rq.Worker([self.queue], connection=self.client).work(logging_level="WARNING")
