"""Redis Streams by hand: XADD, XREADGROUP, then XACK and XDEL in one round trip."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis
import redis.asyncio

from ..adapter import FEW, Adapter, Place

GROUP, CONSUMER = "workers", "one"


class Blocking(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.client = redis.Redis(host=place.host, port=place.port)

    def prepare(self, count: int) -> None:
        try:
            self.client.xgroup_create(self.name, GROUP, mkstream=True)
        except redis.ResponseError:  # another process was first
            pass

    def put(self, payload: str) -> None:
        self.client.xadd(self.name, {"p": payload})

    def _read(self, count: int, block: int | None = None) -> list[Any]:
        read = self.client.xreadgroup(GROUP, CONSUMER, {self.name: ">"}, count=count, block=block)
        return _entries(read)

    def _settle(self, *ids: bytes) -> None:
        pipe = self.client.pipeline(transaction=False)
        pipe.xack(self.name, GROUP, *ids)
        pipe.xdel(self.name, *ids)
        pipe.execute()

    def take(self) -> bytes:
        ((uid, fields),) = self._read(1)
        self._settle(uid)
        return fields[b"p"]

    def put_many(self, payloads: list[str]) -> None:
        pipe = self.client.pipeline(transaction=False)
        for payload in payloads:
            pipe.xadd(self.name, {"p": payload})
        pipe.execute()

    def take_many(self, count: int) -> list[bytes]:
        entries = self._read(count)
        self._settle(*(uid for uid, _ in entries))
        return [fields[b"p"] for _, fields in entries]

    def hold(self, count: int) -> list[bytes]:
        return [uid for uid, _ in self._read(count)]

    def settle(self, held: bytes) -> None:
        self._settle(held)

    def steps(self, payload: str) -> Iterator[tuple[str, int]]:
        for _ in range(FEW):
            self.put(payload)
        yield "put", FEW
        ids = [self._read(1)[0][0] for _ in range(FEW)]
        yield "get", FEW
        for each in ids:
            self._settle(each)
        yield "ack", FEW
        self.put_many([payload] * 100)
        yield "put 100", 1
        ids = self.hold(100)
        yield "get 100", 1
        self._settle(*ids)
        yield "ack 100", 1

    def wait(self) -> tuple[bytes, bytes]:
        # Shorter waits than the client's time-out, after which an item might be lost.
        for _ in range(20):
            for uid, fields in self._read(1, block=1000):
                return fields[b"p"], uid
        raise TimeoutError


def _entries(read: Any) -> list[Any]:
    """With RESP 3 redis-py answers in a dict, and in one more list."""
    if isinstance(read, dict):
        return [entry for lists in read.values() for entries in lists for entry in entries]
    return [entry for _, entries in read or () for entry in entries]


class Asyncio(Adapter):
    is_async = has_tasks = True

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.client = redis.asyncio.Redis(host=place.host, port=place.port)

    async def prepare(self, count: int) -> None:
        await self.client.xgroup_create(self.name, GROUP, mkstream=True)

    async def put(self, payload: str) -> None:
        await self.client.xadd(self.name, {"p": payload})

    async def take(self) -> bytes:
        read = await self.client.xreadgroup(GROUP, CONSUMER, {self.name: ">"}, count=1)
        ((uid, fields),) = _entries(read)
        pipe = self.client.pipeline(transaction=False)
        pipe.xack(self.name, GROUP, uid)
        pipe.xdel(self.name, uid)
        await pipe.execute()
        return fields[b"p"]
