"""Queues that machine.py disturbs: commands sent twice or never, gets stopped in the middle."""

from __future__ import annotations

import asyncio
import copy
import hashlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import saferedisqueue
from expected import PROOF, REACH
from helpers import Asyncio, Blocking, Raw, command_of
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue, Script, _Claim


class Interrupted(BaseException):
    """A consumer is stopped, as by Ctrl-C."""


class Parked:
    """A get that is stopped in the middle. If it waits, ``caught`` is what it has been handed.

    claim: what it sends behind its wait, should nobody await that any more
    seconds: that it waits
    """

    def __init__(self, claim: Raw | None = None, seconds: float = 0, future: Any = None) -> None:
        self.claim, self.seconds, self.future = claim, seconds, future
        self.waits, self.caught = claim is not None, None

    @property
    def catches(self) -> bool:
        return self.waits and self.caught is None

    def __await__(self) -> Any:
        return (yield self) if self.future is None else (yield from self.future)


class Sent(NamedTuple):
    """A command that may arrive once more: its script, slot and number there, and its bytes."""

    script: Script
    slot: bytes
    number: int
    data: bytes


# Lists here are short. So that they are long, what is done near their ends ends soon; and a watch
# must not end by the server's clock.
SHORTER = (
    ("math.max(math.floor(1000 / #uids), 10)", str(REACH)),
    ("'COUNT', 2, 'MAXLEN', 10000)", f"'COUNT', 2, 'MAXLEN', {PROOF})"),
    ("<= 10000", f"<= {PROOF}"),
    ("'PX', wait)", "'PX', 3600000)"),
)


def _nearsighted(script: Script) -> Script:
    short = copy.copy(script)
    for long, near in SHORTER:
        short.text = short.text.replace(long, near)
    short.sha = hashlib.sha1(short.text.encode()).hexdigest()
    return short


SCRIPTS = {
    each: _nearsighted(each) for each in vars(saferedisqueue).values() if isinstance(each, Script)
}
TEXTS = "".join(script.text for script in SCRIPTS)
assert all(long in TEXTS for long, _ in SHORTER)


def waits(call: Any) -> bool:
    return command_of(call) == "BLMOVE"


class Disturbed:
    """Of both faces: a command is sent twice or not at all, and waits are the machine's to end.

    trick, of the next command:

    twice       its first reply is lost
    late        it is sent again before it arrives, and may do so at any time
    unanswered  who has sent it is stopped before its reply comes
    unsent      who sends it is stopped before it arrives
    """

    sent: list[Sent]
    trick = ""
    keeps_house = False  # whether the latest claim that kept house was a moment ago

    @property
    def _house_kept(self) -> float:
        return math.inf if self.keeps_house else -math.inf

    @_house_kept.setter
    def _house_kept(self, when: float) -> None:
        self.keeps_house = when > 0

    def _trick(self, call: Any, slot: Any) -> str:
        """What is to be done with this command."""
        if slot is None:  # no script
            return ""
        call.script = SCRIPTS.get(call.script, call.script)
        trick, self.trick = self.trick, ""
        claim = isinstance(call, _Claim)
        if trick or not claim:  # a claim that is sent once, and answered, does not arrive again
            before = claim and call._sent
            self.sent.append(
                Sent(call.script, slot.name, slot.number(call.script), call.data(slot))
            )
            if claim and trick not in ("late", "unsent"):
                call._sent = before
        if trick == "unsent":
            raise Interrupted
        return trick

    def _claim_alone(self, call: Any, slot: Any) -> Raw:
        """What is sent behind a wait, which is the machine's."""
        call.script = SCRIPTS.get(call.script, call.script)
        call._wait_command = lambda seconds: b""
        call._sent = False
        return Raw(self, call.data(slot))

    async def _sleep(self, seconds: float) -> None:
        await self._park()

    async def _park(self, claim: Raw | None = None, seconds: float = 0) -> Any:
        raise NotImplementedError


class DisturbedQueue(Disturbed, SafeRedisQueue[Any]):
    async def _send(self, call: Any, slot: Any) -> Any:
        if not waits(call):
            return self._exchange(call, slot)
        caught = await self._park(self._claim_alone(call, slot), call.wait)
        return [caught, super()._exchange(self._claim_alone(call, slot), None)]

    def _exchange(self, call: Any, slot: Any) -> Any:
        trick = self._trick(call, slot)
        reply = super()._exchange(call, slot)
        if trick == "unanswered":
            raise Interrupted
        return super()._exchange(call, slot) if trick == "twice" else reply

    async def _park(self, claim: Raw | None = None, seconds: float = 0) -> Any:
        return await Parked(claim, seconds)


class DisturbedAsyncQueue(Disturbed, AsyncSafeRedisQueue[Any]):
    parked: Parked | None = None

    async def _send(self, call: Any, slot: Any) -> Any:
        if waits(call):
            caught = await self._park(self._claim_alone(call, slot), call.wait)
            return [caught, await super()._send(self._claim_alone(call, slot), None)]
        trick = self._trick(call, slot)
        reply = await super()._send(call, slot)
        if trick == "unanswered":
            raise Interrupted
        return await super()._send(call, slot) if trick == "twice" else reply

    async def _park(self, claim: Raw | None = None, seconds: float = 0) -> Any:
        future = asyncio.get_running_loop().create_future()
        self.parked = Parked(claim, seconds, future)
        return await self.parked


class Waiting:
    """A get without a timeout, on the blocking face: it runs to the next stop and no further."""

    parked: Parked | None
    item: Any = None
    told: int | str = ""  # the time for which it is to watch
    ends = 0.0  # when its wait is over
    was_behind = False  # a wait

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
