"""arq: asyncio, pickle; it looks for jobs every half a second, as by default."""

from __future__ import annotations

from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

from ..adapter import Adapter, Place, done


async def task(context: Any, payload: str) -> None:
    done(payload)


class Arq(Adapter):
    is_async = True
    pool = None

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.settings = RedisSettings(host=place.host, port=place.port)

    async def put(self, payload: str) -> None:
        self.pool = self.pool or await create_pool(self.settings)
        await self.pool.enqueue_job("task", payload)

    async def work(self) -> None:
        await Worker([task], redis_settings=self.settings, keep_result=0).async_run()
