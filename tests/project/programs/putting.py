"""What put takes: what the serializer does, without one bytes or str."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import assert_type

from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue


@dataclass
class Order:
    number: int


class Orders:
    def dumps(self, item: Order) -> bytes:
        return str(item.number).encode()

    def loads(self, payload: bytes) -> Order:
        return Order(int(payload))


def orders() -> Iterator[Order]:
    yield Order(1)


def blocking(plain: SafeRedisQueue[bytes], text: SafeRedisQueue[str]) -> None:
    assert_type(plain.put("a"), "str | None")
    plain.put(b"a", uid="a", delay=1, priority=3, timeout=1)
    plain.put(b"a", at=datetime.now(UTC), held=True)
    text.put(b"a")
    text.put("a")
    assert_type(plain.put_many(["a", b"b"], delay=1), list[str])
    text.put_many(["abc"], uids=["a"])
    queue = SafeRedisQueue(serializer=Orders())
    assert_type(queue.put(Order(1), uid="order-1"), "str | None")
    assert_type(queue.put_many([Order(1), Order(2)]), list[str])
    queue.put_many(orders(), priority=1)
    queue.push(Order(1))
    plain.push("a")
    SafeRedisQueue(serializer=json).put({"number": 1})
    SafeRedisQueue(serializer=json).put_many([1, None, "a"])
    plain.put(1)  # wrong
    plain.put(None)  # wrong
    text.put(Order(1))  # wrong
    plain.put_many([1, 2])  # wrong
    plain.push(1)  # wrong
    queue.put(b"1")  # wrong
    queue.put("1")  # wrong
    queue.put_many([b"1"])  # wrong
    queue.put_many("1")  # wrong
    queue.push("1")  # wrong
    queue.put(Order(1), dely=3)  # wrong
    queue.put(Order(1), delay="3")  # wrong
    plain.put("a", priority=1.5)  # wrong
    plain.put_many(["a"], uid="a")  # wrong
    plain.put_many(["a"], uids=[1])  # wrong
    plain.put()  # wrong


async def asynchronous(plain: AsyncSafeRedisQueue[bytes], text: AsyncSafeRedisQueue[str]) -> None:
    assert_type(await plain.put("a"), "str | None")
    await text.put(b"a", uid="a")
    assert_type(await text.put_many(["a"], held=True), list[str])
    queue = AsyncSafeRedisQueue(serializer=Orders())
    assert_type(await queue.put(Order(1), delay=3), "str | None")
    await queue.put_many(orders())
    await AsyncSafeRedisQueue(serializer=json).put([1])
    await plain.put(1)  # wrong
    await text.put_many([1])  # wrong
    await queue.put(b"1")  # wrong
    await queue.put("1")  # wrong
    await queue.put_many(["1"])  # wrong
    await queue.put(Order(1), dely=3)  # wrong
