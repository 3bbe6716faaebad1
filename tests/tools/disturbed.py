"""Queues that machine.py disturbs: commands sent twice or never, gets stopped in the middle."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

from helpers import Asyncio, Blocking, command_of
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue


class Interrupted(BaseException):
    """A consumer is stopped, as by Ctrl-C."""


class Parked:
    """A wait that is stopped in the middle; `caught` is what its BLMOVE has moved."""

    def __init__(self, waits: bool, future: Any = None) -> None:
        self.waits, self.future = waits, future
        self.caught: bytes | None = None

    @property
    def catches(self) -> bool:
        return self.waits and self.caught is None

    def __await__(self) -> Any:
        return (yield self) if self.future is None else (yield from self.future)


class Sent(NamedTuple):
    """A command that a queue has sent: the sha of its script, its slot, its number, its bytes."""

    sha: str
    slot: bytes
    number: int
    data: bytes


def waits(call: Any) -> bool:
    return command_of(call) == "BLMOVE"


class Disturbed:
    """Of both faces: a command is sent twice or not at all, and waits are the machine's to end."""

    sent: list[Sent]
    trick = ""  # for the next command

    def _trick(self, call: Any, slot: Any) -> str:
        """What is to be done with this command."""
        if slot is None:  # no script
            return ""
        trick, self.trick = self.trick, ""
        self.sent.append(Sent(call.script.sha, slot.key, slot.number, call.data(slot)))
        if trick == "unsent":
            raise Interrupted
        return trick

    async def _sleep(self, seconds: float) -> None:
        await self._park(False)

    async def _park(self, waits: bool) -> Any:
        raise NotImplementedError


class DisturbedQueue(Disturbed, SafeRedisQueue[Any]):
    async def _send(self, call: Any, slot: Any) -> Any:
        return await self._park(True) if waits(call) else self._exchange(call, slot)

    def _exchange(self, call: Any, slot: Any) -> Any:
        trick = self._trick(call, slot)
        reply = super()._exchange(call, slot)
        if trick == "unanswered":
            raise Interrupted
        return super()._exchange(call, slot) if trick == "twice" else reply

    async def _park(self, waits: bool) -> Any:
        return await Parked(waits)


class DisturbedAsyncQueue(Disturbed, AsyncSafeRedisQueue[Any]):
    parked: Parked | None = None

    async def _send(self, call: Any, slot: Any) -> Any:
        if waits(call):
            call.task = self.parked = self._new_stop(True)
            return await call.task
        trick = self._trick(call, slot)
        reply = await super()._send(call, slot)
        if trick == "unanswered":
            raise Interrupted
        return await super()._send(call, slot) if trick == "twice" else reply

    async def _end_wait(self, wait: Any, claim: Any) -> Any:
        return wait.task.caught

    async def _park(self, waits: bool) -> Any:
        self.parked = self._new_stop(waits)
        return await self.parked

    def _new_stop(self, waits: bool) -> Parked:
        return Parked(waits, asyncio.get_running_loop().create_future())


class Waiting:
    """A get without a timeout, on the blocking face: it runs to the next stop and no further."""

    seen: int  # when it last found nothing
    parked: Parked | None
    item: Any = None
    hands_back = False  # what it has caught, when it is interrupted

    def __init__(self, queue: Any) -> None:
        self._step = queue._carry_out(queue._get(0))
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
