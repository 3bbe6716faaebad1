"""The very commands that the asyncio queue sends, sent again through redis.asyncio's client.

They are listened to on their way to the server, which is then emptied: so they do all their work
a second time.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import redis.asyncio

from saferedisqueue import AsyncSafeRedisQueue

from ..adapter import NUMBER, Adapter, Place

Commands = list[list[bytes]]
OPENING = (b"HELLO", b"CLIENT", b"SELECT", b"SCRIPT")


class Replay(Adapter):
    is_async = True

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.client = redis.asyncio.Redis(host=place.host, port=place.port)

    async def prepare(self, count: int) -> None:
        puts, takes = await _record(self.place, self.name, count)
        self.puts, self.takes = deque(puts), deque(takes)
        self.payloads: list[str] = []
        self.each = len(takes) // count
        await self.client.flushall()

    async def put(self, payload: str) -> None:
        self.payloads.append(payload)  # whose place is the number of the payload sent instead
        await self.client.execute_command(*self.puts.popleft())

    async def take(self) -> str | None:
        replies = [
            await self.client.execute_command(*self.takes.popleft()) for _ in range(self.each)
        ]
        payload = _payload_in(replies)
        return payload and self.payloads[int(payload[:NUMBER])]


def recorded(place: Place, name: str, count: int) -> tuple[Commands, Commands]:
    """What so many puts send, and what so many gets and acks do."""
    return asyncio.run(_record(place, name, count))


def recorded_steps(
    place: Place, name: str, adapter: type[Adapter], payload: str
) -> list[tuple[str, Commands]]:
    """The steps of an adapter, each with the keys and arguments of the scripts that it calls."""

    async def record() -> list[tuple[str, Commands]]:
        found: list[tuple[str, Commands]] = []
        async with _listening(place) as (between, heard):
            subject: Any = adapter(between, name)
            for _ in range(2):  # first so that the server knows the scripts
                found = []
                steps = subject.steps(payload)
                while (step := await asyncio.to_thread(next, steps, None)) is not None:
                    sent = [command[2:] for command in _parsed(heard) if command[0] == b"EVALSHA"]
                    heard.clear()
                    if step[0]:
                        found.append((step[0], sent))
            subject.queue.close()
        return found

    return asyncio.run(record())


@asynccontextmanager
async def _listening(place: Place) -> AsyncIterator[tuple[Place, bytearray]]:
    """A place on the way to the server, and what is heard there of those who send."""
    heard = bytearray()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inward, outward = await asyncio.open_connection(place.host, place.port)
        await asyncio.gather(_pass(reader, outward, heard), _pass(inward, writer, None))

    async with await asyncio.start_server(listen, place.host) as proxy:
        yield place._replace(port=proxy.sockets[0].getsockname()[1]), heard


async def _record(place: Place, name: str, count: int) -> tuple[Commands, Commands]:
    async with _listening(place) as (between, heard):
        queue: AsyncSafeRedisQueue[Any]
        async with AsyncSafeRedisQueue(url=between.url, name=name) as queue:
            # Once before, so that the server knows the scripts.
            await queue.put("x")
            await queue.ack((await queue.get(-1)).uid)
            heard.clear()
            for number in range(count):
                await queue.put(f"{number:0{NUMBER}d}".ljust(100, "x"))
            puts = _parsed(heard)
            heard.clear()
            for _ in range(count):
                await queue.ack((await queue.get(-1)).uid)
            return puts, _parsed(heard)


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: bytearray | None
) -> None:
    while data := await reader.read(65536):
        if heard is not None:
            heard += data
        writer.write(data)
    writer.close()


def _parsed(heard: bytearray) -> Commands:
    commands: Commands = []
    at = 0

    def line() -> int:
        nonlocal at
        end = heard.index(b"\r\n", at)
        number, at = int(heard[at + 1 : end]), end + 2
        return number

    while at < len(heard):
        command = []
        for _ in range(line()):
            length = line()
            command.append(bytes(heard[at : at + length]))
            at += length + 2
        if command[0].upper() not in OPENING:
            commands.append(command)
    return commands


def _payload_in(reply: Any) -> bytes | None:
    if isinstance(reply, bytes) and len(reply) == 100:
        return reply
    if isinstance(reply, list):
        return next((found for each in reply if (found := _payload_in(each))), None)
    return None
