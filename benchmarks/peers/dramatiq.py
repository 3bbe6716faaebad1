"""dramatiq: its Redis broker, one worker thread."""

from __future__ import annotations

import time

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from ..adapter import Adapter, Place, done


class Dramatiq(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.broker = RedisBroker(url=place.url)
        dramatiq.set_broker(self.broker)
        self.actor = dramatiq.actor(done, queue_name=name)
        self.put = self.actor.send

    def work(self) -> None:
        dramatiq.Worker(self.broker, worker_threads=1).start()
        while True:
            time.sleep(60)
