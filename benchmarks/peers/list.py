"""The list pattern by hand: LPUSH, LMOVE to a second list, LREM. Bare payloads, no redelivery."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from ..adapter import FEW, Adapter, Place


class List(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.client = redis.Redis(host=place.host, port=place.port)
        self.held = f"{name}:held"

    def put(self, payload: str) -> None:
        self.client.lpush(self.name, payload)

    def take(self) -> Any:
        payload = self.client.lmove(self.name, self.held, "RIGHT", "LEFT")
        self.client.lrem(self.held, 1, payload)
        return payload

    def put_many(self, payloads: list[str]) -> None:
        self.client.lpush(self.name, *payloads)

    def take_many(self, count: int) -> list[Any]:
        held = self.hold(count)
        pipe = self.client.pipeline(transaction=False)
        for payload in held:
            pipe.lrem(self.held, -1, payload)
        pipe.execute()
        return held

    def hold(self, count: int) -> list[Any]:
        pipe = self.client.pipeline(transaction=False)
        for _ in range(count):
            pipe.lmove(self.name, self.held, "RIGHT", "LEFT")
        return pipe.execute()

    def settle(self, held: bytes) -> None:
        self.client.lrem(self.held, 1, held)

    def steps(self, payload: str) -> Iterator[tuple[str, int]]:
        for title, many, calls in (("", 1, FEW), (" 100", 100, 1)):
            for _ in range(calls):
                self.put_many([payload] * many)
            yield f"put{title}", calls
            held = [self.hold(many) for _ in range(calls)]
            yield f"get{title}", calls
            for payloads in held:
                for each in payloads:
                    self.settle(each)
            yield f"ack{title}", calls

    def wait(self) -> Any:
        for _ in range(20):
            payload = self.client.blmove(self.name, self.held, 1, "RIGHT", "LEFT")
            if payload is not None:
                return payload, payload
        raise TimeoutError
