"""SAQ: asyncio, json."""

from __future__ import annotations

from typing import Any

from saq import Queue, Worker

from ..adapter import Adapter, Place, done


async def task(context: Any, *, payload: str) -> None:
    done(payload)


class Saq(Adapter):
    is_async = True

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.queue = Queue.from_url(place.url, name=name)

    async def put(self, payload: str) -> None:
        await self.queue.enqueue("task", payload=payload)

    async def work(self) -> None:
        await self.queue.connect()
        await Worker(self.queue, [task]).start()
