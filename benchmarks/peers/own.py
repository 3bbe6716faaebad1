"""This queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import redis

from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue

from ..adapter import Adapter, Place


class Blocking(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.queue: SafeRedisQueue[Any]
        if place.cluster:
            client = redis.RedisCluster(host=place.host, port=place.port)
            self.queue = SafeRedisQueue(client=client, name=name)
        else:
            self.queue = SafeRedisQueue(url=place.url, name=name)
        self.put = self.queue.put
        self.put_many = self.queue.put_many
        self.settle = self.queue.ack

    def take(self) -> bytes:
        uid, payload = self.queue.get(-1)
        self.queue.ack(uid)
        return payload

    def take_many(self, count: int) -> list[bytes]:
        items = self.queue.get_many(count, -1)
        self.queue.ack_many([item.uid for item in items])
        return [item.payload for item in items]

    def consume(self, prefetch: int) -> Iterator[bytes]:
        with self.queue.consume(prefetch=prefetch, timeout=-1) as items:
            for item in items:
                yield item.payload

    def hold(self, count: int) -> list[str]:
        held: list[str] = []
        while len(held) < count:
            held += [item.uid for item in self.queue.get_many(count - len(held), -1, lease=600)]
        return held

    def wait(self) -> tuple[bytes, str]:
        uid, payload = self.queue.get(20)
        return payload, uid


class Asyncio(Adapter):
    is_async = has_tasks = True

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.queue: AsyncSafeRedisQueue[Any] = AsyncSafeRedisQueue(url=place.url, name=name)
        self.put = self.queue.put
        self.put_many = self.queue.put_many
        self.settle = self.queue.ack

    async def take(self) -> bytes:
        uid, payload = await self.queue.get(-1)
        await self.queue.ack(uid)
        return payload

    async def take_many(self, count: int) -> list[bytes]:
        items = await self.queue.get_many(count, -1)
        await self.queue.ack_many([item.uid for item in items])
        return [item.payload for item in items]

    async def consume(self, prefetch: int) -> AsyncIterator[bytes]:
        async with self.queue.consume(prefetch=prefetch, timeout=-1) as items:
            async for item in items:
                yield item.payload

    async def wait(self) -> tuple[bytes, str]:
        uid, payload = await self.queue.get(20)
        return payload, uid
