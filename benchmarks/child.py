"""The process of one subject: reads what to do, in lines of JSON, does it, and answers in lines.

Here it is timed, and counted: every payload that was put must come out once.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import os
import random
import re
import socket
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import redis.asyncio

from .adapter import NUMBER, Adapter, Place

BY = 100  # so many at a time; so many tasks at once

# Each move, and what of an adapter it needs.
NEEDS = {
    "put": "put",
    "take": "take",
    "put_many": "put_many",
    "take_many": "take_many",
    "consume": "consume",
    "consume_100": "consume",
    "tasks_put": "put",
    "tasks_take": "take",
    "settle": "hold",
    "wait": "wait",
    "work": "work",
    "step": "steps",
}


# What no item has for its number.
END, LAST = 10 ** (NUMBER - 1), 10 ** (NUMBER - 1) + 1


def payload(number: int) -> str:
    return f"{number:0{NUMBER}d}".ljust(100, "x")


def number_in(text: Any) -> int | None:
    try:
        return int(text[:NUMBER])
    except (TypeError, ValueError):
        return None


class Child:
    def __init__(self, adapter: Adapter) -> None:
        self.adapter: Any = adapter
        self.numbers = 0
        self.steps: Iterator[tuple[str, int]] | None = None
        self.loop = asyncio.new_event_loop()
        asyncio.set_event_loop(self.loop)
        self.is_async = adapter.is_async

    def has(self) -> list[str]:
        """The moves that this subject has."""
        found = [move for move, need in NEEDS.items() if hasattr(self.adapter, need)]
        if not self.adapter.has_tasks:
            found = [move for move in found if not move.startswith("tasks_")]
        if hasattr(self.adapter, "echo") or hasattr(self.adapter, "echoes"):
            found.append("echo")
        if "put" in found and not self.is_async:
            found.append("memory")
        if "wait" in found and self.adapter.has_tasks:
            found.append("idle")
        return found

    def wait_for(self, result: Any) -> Any:
        return self.loop.run_until_complete(result) if inspect.isawaitable(result) else result

    # -- what it is told ------------------------------------------------------------------------

    def prepare(self, count: int) -> None:
        self.wait_for(self.adapter.prepare(count))

    def fill(self, count: int) -> None:
        """Put so many, not timed."""
        self.run("put_many" if hasattr(self.adapter, "put_many") else "put", count)

    def run(self, move: str, count: int) -> dict[str, Any]:
        """Do a move with so many items; seconds and CPU, and what was lost or doubled."""
        puts = "put" in move or move == "echo"
        payloads = [payload(self.numbers + number) for number in range(count)] if puts else []
        moves = _Asyncio(self.adapter) if self.is_async else _Blocking(self.adapter)
        run = getattr(moves, move)
        cpu, start = time.process_time(), time.perf_counter()
        out = self.wait_for(run(payloads if puts else count))
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        if isinstance(out, float):  # it has told its own time
            return {"seconds": out}
        found = {"seconds": seconds, "cpu": cpu}
        if puts:
            self.numbers += count if move != "echo" else 0
            return found
        return found | missing(map(number_in, out), range(self.numbers - count, self.numbers))

    def settle(self, held: int, count: int) -> dict[str, Any]:
        """Ack so many, at random, while about so many are out."""
        spent, lost = 0.0, 0
        for _ in range(0, count, held):
            self.fill(held)
            out = self.wait_for(self.adapter.hold(held))
            lost += held - len(out)
            random.shuffle(out)
            measured = out[: min(count, held)]
            start = time.perf_counter()
            for each in measured:
                self.adapter.settle(each)
            spent += time.perf_counter() - start
            for each in out[len(measured) :]:
                self.adapter.settle(each)
        return {"seconds": spent, "lost": lost}

    def idle(self, count: int, seconds: float) -> dict[str, Any]:
        """What the server does for so many that wait for an item, none of which comes."""
        return self.loop.run_until_complete(self._idle(count, seconds))

    async def _idle(self, count: int, seconds: float) -> dict[str, Any]:
        waiting = []
        for _ in range(count):
            waiting.append(asyncio.create_task(self.adapter.wait()))
            await asyncio.sleep(2 / count)  # so that they do not look all at once
        before, start = await self._server_cpu(), time.perf_counter()
        await asyncio.sleep(seconds)
        took, server = time.perf_counter() - start, await self._server_cpu() - before
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        return {"seconds": took, "server": server}

    async def _server_cpu(self) -> float:
        client = redis.asyncio.Redis(host=self.adapter.place.host, port=self.adapter.place.port)
        async with client:
            seen = await client.info("cpu")
        return float(seen["used_cpu_user"] + seen["used_cpu_sys"])

    def turn(self, count: int) -> dict[str, Any]:
        """Take so many of a long queue, and put as many back, not timed."""
        moves = _Blocking(self.adapter)
        start = time.perf_counter()
        out = moves.take(count)
        seconds = time.perf_counter() - start
        self.fill(count)
        numbers = set(map(number_in, out)) - {None}
        return {"seconds": seconds, "lost": count - len(numbers)}

    def step(self) -> tuple[str, int]:
        """Do the next step; what it was, and how many calls: none when all are done."""
        self.steps = self.steps or self.adapter.steps(payload(0))
        done = next(self.steps, ("", 0))
        if not done[1]:
            self.steps = None
        return done

    def send(self, count: int, fewer: bool = False) -> None:
        """Put items that say when, each once somebody waits; fewer: each time one fewer does."""
        for sent in range(count):
            self._until_waiting(count - sent if fewer else 1)
            time.sleep(random.uniform(0.001, 0.003))
            self.wait_for(self.adapter.put(payload(time.monotonic_ns())))

    def _until_waiting(self, consumers: int) -> None:
        """Some never do, but look again and again: those get a moment."""
        end = time.monotonic() + 0.1
        with socket.create_connection((self.adapter.place.host, self.adapter.place.port)) as server:
            blocked = -1
            while blocked != consumers and time.monotonic() < end:
                server.sendall(b"INFO clients\r\n")
                found = re.search(rb"blocked_clients:(\d+)", server.recv(65536))
                blocked = int(found[1]) if found else blocked

    def receive(self, count: int) -> list[float]:
        """Wait for so many items; for each the seconds since its put began."""
        late = []
        for _ in range(count):
            text, held = self.wait_for(self.adapter.wait())
            late.append((time.monotonic_ns() - int(text[:NUMBER])) / 1e9)
            self.wait_for(self.adapter.settle(held))
        return late

    def produce(self, seconds: float, first: int) -> dict[str, Any]:
        """Put for so long; how many."""
        end, number, cpu = time.monotonic() + seconds, first, time.process_time()
        while time.monotonic() < end:
            self.adapter.put(payload(number))
            number += 1
        return {"count": number - first, "cpu": time.process_time() - cpu}

    def collect(self) -> dict[str, Any]:
        """Wait for items and ack them until one says that it is the end; the numbers got."""
        got: list[int | None] = []
        cpu = time.process_time()
        while True:
            text, held = self.adapter.wait()
            self.adapter.settle(held)
            if (number := number_in(text)) == END:
                return {"got": got, "cpu": time.process_time() - cpu}
            got.append(number)

    def end(self, count: int) -> None:
        """End so many that collect."""
        for _ in range(count):
            self.adapter.put(payload(END))

    def rest(self) -> list[int | None]:
        """Take all that is left; the numbers got."""
        got: list[int | None] = []
        self.adapter.put(payload(LAST))
        while (number := number_in(self.adapter.take())) != LAST:
            got.append(number)
        return got

    def receive_when(self, count: int) -> int:
        """Wait for so many items; when the last came."""
        self.receive(count)
        return time.monotonic_ns()

    def alternate(self, seconds: float) -> dict[str, Any]:
        """Put and take in turns for so long; how many."""
        end, got, cpu = time.monotonic() + seconds, [], time.process_time()
        while time.monotonic() < end:
            self.adapter.put(payload(len(got)))
            got.append(number_in(self.adapter.take()))
        cpu = time.process_time() - cpu
        return {"count": len(got), "cpu": cpu, **missing(got, range(len(got)))}

    def work(self) -> None:
        self.wait_for(self.adapter.work())


def missing(got: Iterable[int | None], expected: Sequence[int]) -> dict[str, int]:
    """How many were lost, and how many came too often (or were never put)."""
    times = Counter(got)
    times.pop(None, None)
    lost = sum(number not in times for number in expected)
    return {"lost": lost, "doubled": sum(times.values()) - (len(expected) - lost)}


# -- the moves ---------------------------------------------------------------------------------


class _Blocking:
    """Each loop as one would write it; nothing else is inside, as it is timed."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter

    def put(self, payloads: list[str]) -> None:
        put = self.adapter.put
        for each in payloads:
            put(each)

    def take(self, count: int) -> list[Any]:
        take = self.adapter.take
        return [take() for _ in range(count)]

    def put_many(self, payloads: list[str]) -> None:
        for at in range(0, len(payloads), BY):
            self.adapter.put_many(payloads[at : at + BY])

    def take_many(self, count: int) -> list[Any]:
        out: list[Any] = []
        while len(out) < count:
            got = self.adapter.take_many(min(BY, count - len(out)))
            out += got or [None] * count
        return out

    def consume(self, count: int, prefetch: int = 1) -> list[Any]:
        return list(self.adapter.consume(prefetch))

    def consume_100(self, count: int) -> list[Any]:
        return self.consume(count, BY)

    def echo(self, payloads: list[str]) -> Any:
        if hasattr(self.adapter, "echoes"):
            return self.adapter.echoes(len(payloads))
        echo = self.adapter.echo
        for each in payloads:
            echo(each)


class _Asyncio:
    """The same for asyncio."""

    def __init__(self, adapter: Any) -> None:
        self.adapter = adapter

    async def put(self, payloads: list[str]) -> None:
        put = self.adapter.put
        for each in payloads:
            await put(each)

    async def take(self, count: int) -> list[Any]:
        take = self.adapter.take
        return [await take() for _ in range(count)]

    async def put_many(self, payloads: list[str]) -> None:
        for at in range(0, len(payloads), BY):
            await self.adapter.put_many(payloads[at : at + BY])

    async def take_many(self, count: int) -> list[Any]:
        out: list[Any] = []
        while len(out) < count:
            got = await self.adapter.take_many(min(BY, count - len(out)))
            out += got or [None] * count
        return out

    async def consume(self, count: int, prefetch: int = 1) -> list[Any]:
        return [each async for each in self.adapter.consume(prefetch)]

    async def consume_100(self, count: int) -> list[Any]:
        return await self.consume(count, BY)

    async def tasks_put(self, payloads: list[str]) -> None:
        await asyncio.gather(*(self.put(payloads[task::BY]) for task in range(BY)))

    async def tasks_take(self, count: int) -> list[Any]:
        shares = [len(range(task, count, BY)) for task in range(BY)]
        return [each for got in await asyncio.gather(*map(self.take, shares)) for each in got]


# -- the process -------------------------------------------------------------------------------


def main(name: str, adapter: str, requires: list[str], place: list[Any], working: bool) -> None:
    """Called in the process of its own."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        module, _, kind = adapter.partition(":")
        imported = importlib.import_module(f"benchmarks.peers.{module}")
        child = Child(getattr(imported, kind)(Place(*place), name))
        if working:
            child.work()
            return
        versions = {each: version(each) for each in map(_distribution, requires)}
        answer: Any = {"result": {"moves": child.has(), "versions": versions}}
    except Exception as error:
        traceback.print_exc()
        answer = {"error": _said(error)}
    print(json.dumps(answer), file=answers)
    for line in sys.stdin:
        what, arguments = json.loads(line)
        try:
            answer = {"result": getattr(child, what)(*arguments)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": _said(error)}
        print(json.dumps(answer), file=answers)


def _distribution(requirement: str) -> str:
    return requirement.partition("[")[0].partition("=")[0].partition("<")[0]


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
