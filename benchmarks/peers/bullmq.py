"""BullMQ for Python: asyncio, json, Lua; a job that is done is removed."""

from __future__ import annotations

import asyncio
from typing import Any

import bullmq

from ..adapter import Adapter, Place, done


async def task(job: Any, token: str) -> None:
    done(job.data["payload"])


class BullMq(Adapter):
    is_async = True
    queue = None

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.options = {"connection": {"host": place.host, "port": place.port}}

    async def put(self, payload: str) -> None:
        self.queue = self.queue or bullmq.Queue(self.name, self.options)
        await self.queue.add("task", {"payload": payload}, {"removeOnComplete": True})

    async def work(self) -> None:
        bullmq.Worker(self.name, task, self.options)
        await asyncio.Event().wait()
