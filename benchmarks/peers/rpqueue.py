"""rpqueue's Data: json, a visibility timeout for each item."""

from __future__ import annotations

from typing import Any

import rpqueue

from ..adapter import Adapter, Place


class Data(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        rpqueue.set_redis_connection_settings(host=place.host, port=place.port)
        self.data = rpqueue.Data(name.encode(), attempts=5, vis_timeout=60)

    def put(self, payload: str) -> None:
        self.data.put_data([payload])

    def put_many(self, payloads: list[str]) -> None:
        self.data.put_data(payloads)

    def take(self) -> Any:
        ((uid, payload),) = self.data.get_data(1).items()
        self.data.done_data([uid])
        return payload

    def take_many(self, count: int) -> list[Any]:
        got = self.data.get_data(count)
        self.data.done_data(list(got))
        return list(got.values())

    def hold(self, count: int) -> list[str]:
        held: list[str] = []
        while len(held) < count:
            held += self.data.get_data(count - len(held))
        return held

    def settle(self, held: str) -> None:
        self.data.done_data([held])

    def wait(self) -> Any:
        ((uid, payload),) = self.data.get_data(1, get_timeout=20).items()
        return payload, uid
