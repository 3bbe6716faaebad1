"""Celery: json, the solo pool, no results kept, acks after the task."""

from __future__ import annotations

import celery

from ..adapter import Adapter, Place, done


class Celery(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.app = celery.Celery(name, broker=place.url)
        self.app.conf.update(task_ignore_result=True, task_acks_late=True)
        self.task = self.app.task(done, name="done")
        self.put = self.task.delay

    def work(self) -> None:
        self.app.worker_main(["worker", "--pool=solo", "--concurrency=1", "--loglevel=ERROR"])
