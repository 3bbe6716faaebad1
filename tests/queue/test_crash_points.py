"""A client that dies, or is cancelled, at its k-th command, for every k of every operation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis

import saferedisqueue
from helpers import FAILING, AsyncFailing, Asyncio, Face
from operations import (
    OPERATIONS,
    May,
    Operation,
    Run,
    check_answers,
    check_what_is_left,
    places,
    undisturbed,
)
from servers import Server, find

HELD = {"ackbuf", "backup", "leases"}

each_operation = pytest.mark.parametrize("operation", OPERATIONS.values(), ids=list(OPERATIONS))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a few items are several chunks."""
    monkeypatch.setattr(saferedisqueue, "_CHUNK_ITEMS", 2)


class Killed(BaseException):
    """The process is no more."""


# -- killed ----------------------------------------------------------------------------------------


def check_every_death(operation: Operation, face: Face, server: Server) -> None:
    """For the server, to die after a command is to die before the next one."""
    with server.client() as client:

        def queue() -> Any:
            settings = {"url": server.url, "name": "test", **operation.settings}
            return face.queue(kind=FAILING[type(face)], **settings)

        after = undisturbed(operation, queue(), client)
        for k in range(100):
            dying = queue()
            run = Run(operation, dying, client)
            client.script_flush()  # so that between EVALSHA and EVAL it may die too
            dying.fail_at(k, lost_reply=False, error=Killed, for_good=True)
            try:
                run.go_on()
            except Killed:
                pass
            reached = dying.failed
            check_what_is_left(run, after, client)
            if not reached:
                break
        assert 0 < k < 99


@each_operation
def test_a_client_that_dies_between_any_commands_loses_nothing(
    face: Face, server: Server, operation: Operation
) -> None:
    check_every_death(operation, face, server)


@pytest.fixture(scope="module")
def durable_server() -> Iterator[Server]:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    with Server(find(), None, *options) as running:
        yield running


def put_durably(queue: Any, client: redis.Redis) -> Iterator[May]:
    yield May(new="x")
    assert queue.put("x") is not None


def test_a_client_that_dies_in_a_durable_put_loses_nothing(
    face: Face, durable_server: Server
) -> None:
    check_every_death(Operation(put_durably, {"durable": "fsync"}), face, durable_server)


# -- cancelled -------------------------------------------------------------------------------------


class Cancelling(AsyncFailing):
    """A queue whose user's task is cancelled at the k-th command."""

    _left = -1

    def cancel_at(self, k: int, when: str, face: Asyncio) -> None:
        """when: before the command is sent, while it is under way, or when its reply was read."""
        self._left, self._when, self._face = k, when, face

    @property
    def cancelled(self) -> bool:
        return self._left < 0

    async def _send(self, *call: Any) -> Any:
        self._left -= 1
        when = self._when if self._left == -1 else ""
        if when == "during":
            self._face.task.cancel()
        elif when == "before":
            await self._cancel()
        try:
            return await super()._send(*call)
        finally:
            if when == "after":
                await self._cancel()

    async def _cancel(self) -> None:
        self._face.task.cancel()
        if asyncio.current_task() is self._face.task:  # not in the background
            await asyncio.sleep(0)


@each_operation
@pytest.mark.parametrize("when", ["before", "during", "after"])
def test_a_task_that_is_cancelled_at_any_command_loses_nothing_and_keeps_nothing(
    server: Server, client: redis.Redis, operation: Operation, when: str
) -> None:
    with Asyncio() as face:

        def queue() -> Any:
            return face.queue(kind=Cancelling, url=server.url, name="test", **operation.settings)

        after = undisturbed(operation, queue(), client)
        for k in range(100):
            cancelling = queue()
            run = Run(operation, cancelling, client)
            client.script_flush()
            cancelling.cancel_at(k, when, face)
            try:
                run.go_on()
            except asyncio.CancelledError:
                assert cancelling.cancelled
            else:
                assert not cancelling.cancelled, "the cancellation was swallowed"
            reached = cancelling.cancelled
            while (here := cancelling._loops.get(face.loop)) and here.background:
                face.run(asyncio.wait({*here.background}))
            if reached and "durable" not in operation.settings:  # whose puts all raise
                check_answers(cancelling, client)
            cancelling.close()
            if run.may.takes and reached:
                out = {payload for payload, place in places(client).items() if place in HELD}
                assert not out, f"not handed back: {out}"
            items = check_what_is_left(run, after, client)
            if run.may.takes and not run.may.counts and reached:
                assert all(item.attempts == 1 for item in items), "it counted as a delivery"
            if not reached:
                break
        assert 0 < k < 99
