"""This queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import redis

from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue

from ..adapter import FEW, Adapter, Place, done


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

    def work(self) -> None:
        with self.queue.consume() as items:
            for item in items:
                done(item.payload)

    def steps(self, payload: str) -> Iterator[tuple[str, int]]:
        queue, many = self.queue, [payload] * 100
        for suffix, lease in (("", None), (", leased", 60)):
            for _ in range(FEW):
                queue.put(payload)
            yield "put", FEW
            uids = [queue.get(-1, lease=lease)[0] for _ in range(FEW)]
            yield f"get{suffix}", FEW
            for uid in uids:
                queue.ack(uid)
            yield f"ack{suffix}", FEW
        queue.put_many(many)
        yield "put 100", 1
        items = queue.get_many(100, -1, lease=60)
        yield "get 100, leased", 1
        queue.ack_many([item.uid for item in items])
        yield "ack 100, leased", 1
        # Not the first, which has nothing to ack yet, nor the last.
        for prefetch, calls, title in (
            (1, FEW, "consume"),
            (100, 5, "consume 100"),
        ):
            for _ in range(0, prefetch * (calls + 1), 100):
                queue.put_many(many)
            with queue.consume(prefetch=prefetch, timeout=-1) as consumed:
                for _ in range(prefetch):
                    next(consumed)
                yield "", 1
                for _ in range(calls * prefetch):
                    next(consumed)
                yield title, calls
            queue.purge()
            yield "", 1


class Asyncio(Adapter):
    is_async = has_tasks = True

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        # As many as wait at once: each has a connection, as each process would have.
        url = f"{place.url}?max_connections=2000"
        self.queue: AsyncSafeRedisQueue[Any] = AsyncSafeRedisQueue(url=url, name=name)
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
