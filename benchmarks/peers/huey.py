"""huey: pickle, one worker thread, no results kept."""

from __future__ import annotations

from huey import RedisHuey

from ..adapter import Adapter, Place, done


class Huey(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.huey = RedisHuey(name, url=place.url, results=False)
        self.put = self.huey.task()(done)

    def work(self) -> None:
        self.huey.create_consumer(workers=1).run()
