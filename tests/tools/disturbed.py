"""Queues that machine.py disturbs: commands sent twice or never, gets stopped in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from helpers import Asyncio, Blocking
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue


class Interrupted(BaseException):
    """A consumer is stopped, as by Ctrl-C."""


class Parked:
    """A wait that is stopped in the middle; `caught` is what its BLMOVE has moved."""

    def __init__(self, rescue: Any, future: Any = None) -> None:
        self.rescue, self.future = rescue, future
        self.caught: bytes | None = None

    @property
    def catches(self) -> bool:
        return self.rescue is not None and self.caught is None

    def __await__(self) -> Any:
        return (yield self) if self.future is None else (yield from self.future)


class Disturbed:
    """Of both faces: a command is sent twice or not at all, and waits are the machine's to end."""

    sent: list[tuple[Any, ...]]
    trick = ""  # for the next command

    async def _do(self, *command: Any, **io: Any) -> Any:
        if command[0] == "BLMOVE":
            return await self._park(io["rescue"])
        if isinstance(command[0], str):  # no script
            return await super()._do(*command, **io)
        trick, self.trick = self.trick, ""
        self.sent.append(command)
        if trick == "unsent":
            raise Interrupted
        reply = await super()._do(*command, **io)
        if trick == "unanswered":
            raise Interrupted
        return await super()._do(*command, **io) if trick == "twice" else reply

    async def _sleep(self, seconds: float) -> None:
        await self._park(None)

    async def _park(self, rescue: Any) -> Any:
        raise NotImplementedError


class DisturbedQueue(Disturbed, SafeRedisQueue[Any]):
    async def _park(self, rescue: Any) -> Any:
        return await Parked(rescue)


class DisturbedAsyncQueue(Disturbed, AsyncSafeRedisQueue[Any]):
    parked: Parked | None = None

    async def _park(self, rescue: Any) -> Any:
        parked = self.parked = Parked(rescue, asyncio.get_running_loop().create_future())
        try:
            return await parked
        except asyncio.CancelledError:
            if parked.caught is not None:
                await parked.rescue(parked.caught)
            raise


class Waiting:
    """A get without a timeout, on the blocking face: it runs to the next stop and no further."""

    seen: int  # when it last found nothing
    parked: Parked | None
    item: Any = None
    hands_back = False  # what it has caught, when it is interrupted

    def __init__(self, queue: Any) -> None:
        self._step = queue._get(0)
        self._run(lambda: self._step.send(None))

    def _run(self, go_on: Callable[[], Any]) -> None:
        self.parked = None
        try:
            self.parked = go_on()
        except StopIteration as done:
            self.item = done.value
        except Interrupted:
            pass

    def wake(self) -> None:
        assert self.parked
        caught = self.parked.caught
        self._run(lambda: self._step.send(caught))

    def interrupt(self) -> None:
        self._run(lambda: self._step.throw(Interrupted()))

    def vanish(self) -> None:
        self._step.close()


class AsyncWaiting(Waiting):
    hands_back = True

    def __init__(self, queue: Any) -> None:
        self._queue = queue
        self._task: Any = None
        queue.run(self._until_parked(lambda: None))

    async def _until_parked(self, go_on: Callable[[], Any]) -> None:
        queue = self._queue.wrapped
        self.parked = queue.parked = None
        if self._task is None:
            self._task = asyncio.create_task(queue.get(0))
        go_on()
        while queue.parked is None and not self._task.done():
            await asyncio.sleep(0)
        self.parked = queue.parked
        if self._task.done() and not self._task.cancelled():
            self.item = self._task.result()

    def wake(self) -> None:
        assert self.parked
        future, caught = self.parked.future, self.parked.caught
        self._queue.run(self._until_parked(lambda: future.set_result(caught)))

    def interrupt(self) -> None:
        self._queue.run(self._until_parked(self._task.cancel))

    vanish = interrupt


class BlockingDisturbed(Blocking):
    queue_class = DisturbedQueue
    waiting: type[Waiting] = Waiting


class AsyncioDisturbed(Asyncio):
    queue_class = DisturbedAsyncQueue
    waiting = AsyncWaiting


DISTURBED: dict[str, Any] = {"blocking": BlockingDisturbed, "asyncio": AsyncioDisturbed}
