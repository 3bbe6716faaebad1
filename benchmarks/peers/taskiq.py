"""taskiq: asyncio, its broker on Redis Streams, which acks."""

from __future__ import annotations

from taskiq.api import run_receiver_task
from taskiq_redis import RedisStreamBroker

from ..adapter import Adapter, Place, done


async def task(payload: str) -> None:
    done(payload)


class Taskiq(Adapter):
    is_async = True

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        # "0": also what was put before the worker came.
        self.broker = RedisStreamBroker(place.url, queue_name=name, consumer_id="0")
        self.task = self.broker.task("task")(task)
        self.put = self.task.kiq

    async def work(self) -> None:
        self.broker.is_worker_process = True
        await run_receiver_task(self.broker, run_startup=True)
