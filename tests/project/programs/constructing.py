"""What the constructors take, and what type the queue then has."""

from __future__ import annotations

import json
import pickle
from typing import Any, assert_type

import redis
import redis.asyncio

from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue, exponential_backoff

URL = "redis://localhost"


class Numbers:
    @staticmethod
    def dumps(item: int) -> str:
        return str(item)

    @staticmethod
    def loads(payload: bytes) -> int:
        return int(payload)


class Own(SafeRedisQueue[bytes]):
    AUTOCLEAN_INTERVAL = 1000


class Late(SafeRedisQueue[str]):
    def __init__(self, **settings: Any) -> None:
        super().__init__(decode_responses=True, **settings)


def blocking(client: redis.Redis, cluster: redis.RedisCluster, maybe: redis.Redis | None) -> None:
    assert_type(SafeRedisQueue(), SafeRedisQueue[bytes])
    assert_type(SafeRedisQueue(client=client), SafeRedisQueue[bytes])
    assert_type(SafeRedisQueue(client=maybe), SafeRedisQueue[bytes])
    assert_type(SafeRedisQueue(client=cluster, decode_responses=True), SafeRedisQueue[str])
    assert_type(SafeRedisQueue(url=URL, decode_responses=True), SafeRedisQueue[str])
    assert_type(SafeRedisQueue(serializer=Numbers), SafeRedisQueue[int])
    assert_type(SafeRedisQueue(serializer=Numbers(), client=cluster), SafeRedisQueue[int])
    assert_type(SafeRedisQueue(serializer=json), SafeRedisQueue[Any])
    assert_type(SafeRedisQueue(serializer=pickle, decode_responses=True), SafeRedisQueue[Any])
    SafeRedisQueue(
        url=None,
        name="orders",
        client=None,
        serializer=None,
        lease=60,
        max_attempts=3,
        retry_delay=exponential_backoff(),
        maxsize=1000,
        max_payload=1024,
        durable="fsync",
        durable_timeout=0.5,
        wait_slice=2,
        autoclean_interval=None,
    )
    SafeRedisQueue(host="localhost", port=6379, db=1, ssl=True, socket_timeout=3, retry=None)
    Own(name="a", lease=1)
    Late(name="a")
    SafeRedisQueue(lease="60")  # wrong
    SafeRedisQueue(max_attempts="3")  # wrong
    SafeRedisQueue(retry_delay="3")  # wrong
    SafeRedisQueue(retry_delay=lambda attempts: str(attempts))  # wrong
    SafeRedisQueue(durable="disk")  # wrong
    SafeRedisQueue(url=b"redis://localhost")  # wrong
    SafeRedisQueue(name=b"a")  # wrong
    SafeRedisQueue(maxsize=1.5)  # wrong
    SafeRedisQueue(max_payload=None)  # wrong
    SafeRedisQueue(durable_timeout=None)  # wrong
    SafeRedisQueue(wait_slice="1")  # wrong
    SafeRedisQueue(autoclean_interval="60")  # wrong
    SafeRedisQueue(serializer=3)  # wrong
    SafeRedisQueue(nmae="a")  # wrong
    SafeRedisQueue(max_attempt=3)  # wrong
    SafeRedisQueue(url=URL, max_attempt=3)  # wrong
    SafeRedisQueue(serializer=Numbers, max_attempt=3)  # wrong
    SafeRedisQueue(host=1)  # wrong
    SafeRedisQueue("orders")  # wrong
    SafeRedisQueue("localhost", 6379)  # wrong
    SafeRedisQueue(client=redis.asyncio.Redis())  # wrong
    SafeRedisQueue(client=redis.asyncio.Redis(), serializer=Numbers)  # wrong
    SafeRedisQueue(client=redis.asyncio.RedisCluster("localhost"))  # wrong
    Own(max_attempt=3)  # wrong


async def asynchronous(client: redis.asyncio.Redis, cluster: redis.asyncio.RedisCluster) -> None:
    assert_type(AsyncSafeRedisQueue(), AsyncSafeRedisQueue[bytes])
    assert_type(AsyncSafeRedisQueue(client=client), AsyncSafeRedisQueue[bytes])
    text = AsyncSafeRedisQueue(client=cluster, decode_responses=True)
    assert_type(text, AsyncSafeRedisQueue[str])
    assert_type(AsyncSafeRedisQueue(serializer=Numbers), AsyncSafeRedisQueue[int])
    AsyncSafeRedisQueue(name="orders", lease=60, max_attempts=3, host="localhost", port=6379)
    AsyncSafeRedisQueue(lease="60")  # wrong
    AsyncSafeRedisQueue(durable="disk")  # wrong
    AsyncSafeRedisQueue(nmae="a")  # wrong
    AsyncSafeRedisQueue(max_attempt=3)  # wrong
    AsyncSafeRedisQueue("orders")  # wrong
    AsyncSafeRedisQueue(client=redis.Redis())  # wrong
    AsyncSafeRedisQueue(client=redis.RedisCluster("localhost"), serializer=Numbers)  # wrong


def settings_of_ones_own(settings: dict[str, Any]) -> None:
    SafeRedisQueue(**settings)
    SafeRedisQueue(name="a", **settings)
    AsyncSafeRedisQueue(**settings)
