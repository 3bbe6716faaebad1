"""What happened in a soak: the history that its processes write; checker.py judges it.

A line is ``<time> <who> <event> <arguments>``, with times in seconds since the epoch. Events:

    mode NAME INTERVAL FLEET           of "soak": here a mode begins; FLEET is 4 or mixed
    start KIND LEASE RENEWS            a process begins; LEASE 0: without, RENEWS 1: by a helper
    end CODE                           it ends by itself; CODE 0 unless an error ended it
    closing                            what it holds is given back now
    put FIRST COUNT PRIORITY DELAY     a put of items <who>:FIRST and so on begins,
    ok FIRST, raised FIRST ERROR       returned, raised (the items are there, or not)
    got ITEM UID ATTEMPTS DEADLINE BEGUN INTACT     delivered by a get that began at BEGUN
    ack ITEM, acked ITEM 0|1           an ack begins, returned; that of consume returns nothing
    fail ITEM DELAY, failed ITEM 0|1
    error NAME                         a call raised an error of redis-py's
    stall SECONDS                      it, or "server", was slow to run within the last seconds
    fault NAME WHOM, over NAME WHOM    of "nemesis"; WHOM is * for what hits all
    amiss TEXT                         what somebody saw that must not be
    stranded ITEM                      of "soak": doctor found it in no place
    still ITEM                         of "soak": in the queue at the end
    left KEYS                          of "soak": here a mode ends, with so many keys without expiry
"""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path


def payload_of(item: str) -> bytes:
    """The payload of an item, of 40 to 520 bytes, all of which its name tells."""
    digest = hashlib.sha256(item.encode()).hexdigest()
    return f"{item} {digest * (int(digest[0], 16) // 2 + 1)}"[
        : 40 + int(digest[:2], 16) * 2
    ].encode()


class Recorder:
    """Writes the events of one process, each by one write: SIGKILL loses none that is recorded."""

    def __init__(self, directory: Path, who: str) -> None:
        self.who = who
        self._file = os.open(directory / who, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def __call__(self, event: str, *arguments: object) -> None:
        line = " ".join([f"{time.time():.6f}", self.who, event, *map(str, arguments)])
        os.write(self._file, line.encode() + b"\n")

    def close(self) -> None:
        os.close(self._file)


def merge(directory: Path) -> list[str]:
    """The lines of all processes, in the order of time."""
    lines = [line for path in sorted(directory.iterdir()) for line in path.read_text().splitlines()]
    return sorted(lines, key=lambda line: float(line.split(" ", 1)[0]))


# ---- reading -------------------------------------------------------------------------------------


@dataclass(slots=True)
class Put:
    who: str
    begun: float
    priority: int
    delay: float
    returned: float | None = None


@dataclass(slots=True)
class Delivery:
    """An item in somebody's hands; it was claimed between ``lo`` and ``hi``."""

    who: str
    kind: str
    uid: str
    attempts: int
    deadline: float
    begun: float
    at: float
    lo: float
    hi: float
    renews: bool
    ack_begun: float | None = None
    acked: bool | None = None  # None: not known
    settled_at: float = float("inf")
    fail_begun: float | None = None
    failed: bool | None = None
    delay: float = 0.0

    @property
    def may_be_acked(self) -> bool:
        return self.ack_begun is not None and self.acked is not False


@dataclass
class Mode:
    """What the history tells of one mode."""

    name: str
    begun: float
    interval: float
    mixed: bool
    ended: float = 0.0
    kinds: dict[str, tuple[str, float, bool]] = field(default_factory=dict)
    puts: dict[str, Put] = field(default_factory=dict)
    deliveries: dict[str, list[Delivery]] = field(default_factory=lambda: defaultdict(list))
    # When something hit a process, or all of them (*): begin and end.
    hits: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    stalls: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: defaultdict(list))
    closed: dict[str, float] = field(default_factory=dict)
    ends: dict[str, float] = field(default_factory=dict)
    last: dict[str, Delivery] = field(default_factory=dict)
    stranded: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    amiss: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    still: set[str] = field(default_factory=set)

    def add(self, at: float, who: str, event: str, arguments: list[str]) -> None:
        reader = getattr(self, f"_{event}", None)
        if reader is None:
            raise ValueError(f"the history has an event unknown: {event}")
        reader(at, who, *arguments)
        self.ended = at

    # -- of processes

    def _start(self, at: float, who: str, kind: str, lease: str, renews: str) -> None:
        self.kinds[who] = (kind, float(lease), renews == "1")

    def _end(self, at: float, who: str, code: str) -> None:
        self.ends[who] = at
        if code != "0":
            self.amiss.append(f"{who} was ended by an error of its own")

    def _closing(self, at: float, who: str) -> None:
        self.closed[who] = at

    def _error(self, at: float, who: str, name: str) -> None:
        pass

    def _stall(self, at: float, who: str, seconds: str) -> None:
        self.stalls["*" if who == "server" else who].append((at - float(seconds), at))

    # -- of items

    def _put(self, at: float, who: str, first: str, count: str, priority: str, delay: str) -> None:
        for number in range(int(first), int(first) + int(count)):
            self.puts[f"{who}:{number}"] = Put(who, at, int(priority), float(delay))

    def _ok(self, at: float, who: str, first: str) -> None:
        number = int(first)
        while (put := self.puts.get(f"{who}:{number}")) is not None:
            put.returned = at
            number += 1

    def _raised(self, at: float, who: str, first: str, error: str) -> None:
        pass

    def _got(
        self,
        at: float,
        who: str,
        item: str,
        uid: str,
        attempts: str,
        deadline: str,
        begun: str,
        intact: str,
    ) -> None:
        kind, lease, renews = self.kinds[who]
        lo, hi = float(begun), at
        if float(deadline):
            # Exact, but when the lease was renewed before the item was handed out.
            hi = float(deadline) - lease
            lo = hi if not renews else float(begun) if kind == "consume" else float("-inf")
        delivery = Delivery(
            who=who,
            kind=kind,
            uid=uid,
            attempts=int(attempts),
            deadline=float(deadline),
            begun=float(begun),
            at=at,
            lo=lo,
            hi=hi,
            renews=renews,
        )
        self.deliveries[item].append(delivery)
        self.last[who] = delivery
        if intact != "1":
            self.changed.append(item)

    def _held(self, who: str, item: str) -> Delivery:
        return next(d for d in reversed(self.deliveries[item]) if d.who == who)

    def _ack(self, at: float, who: str, item: str) -> None:
        self._held(who, item).ack_begun = at

    def _acked(self, at: float, who: str, item: str, result: str) -> None:
        held = self._held(who, item)
        held.acked, held.settled_at = result == "1", at

    def _fail(self, at: float, who: str, item: str, delay: str) -> None:
        held = self._held(who, item)
        held.fail_begun, held.delay = at, float(delay)

    def _failed(self, at: float, who: str, item: str, result: str) -> None:
        held = self._held(who, item)
        held.failed, held.settled_at = result == "1", at

    # -- of the nemesis, and of the end

    def _fault(self, at: float, who: str, name: str, whom: str) -> None:
        self.faults[name] += 1
        # Nothing is excused by a loss of scripts or of memory: nobody may notice.
        if name not in ("flush-scripts", "full-memory"):
            self.hits[whom].append((at, float("inf")))

    def _over(self, at: float, who: str, name: str, whom: str) -> None:
        if name not in ("flush-scripts", "full-memory"):
            begun, _ = self.hits[whom].pop()
            self.hits[whom].append((begun, at))

    def _amiss(self, at: float, who: str, *text: str) -> None:
        self.amiss.append(" ".join(text))

    def _stranded(self, at: float, who: str, item: str) -> None:
        self.stranded.append(item)

    def _still(self, at: float, who: str, item: str) -> None:
        self.still.add(item)

    def _left(self, at: float, who: str, keys: str) -> None:
        if int(keys):
            self.amiss.append(f"{keys} keys without expiry were left")

    def hit(self, begun: float, end: float, *whom: str) -> bool:
        """Whether a fault hit one of them, or all, within this time."""
        return _within(self.hits, begun, end, whom)

    def stalled(self, begun: float, end: float, *whom: str) -> bool:
        """Whether one of them, or the server, was slow to run within this time."""
        return _within(self.stalls, begun, end, whom)


def _within(
    times: dict[str, list[tuple[float, float]]], begun: float, end: float, whom: tuple[str, ...]
) -> bool:
    found = (time for each in (*whom, "*") for time in times.get(each, ()))
    return any(start <= end and over >= begun for start, over in found)


def read(lines: Iterable[str]) -> Iterator[Mode]:
    """The modes of a history, one after another."""
    mode: Mode | None = None
    for line in lines:
        time_of, who, event, *arguments = line.split()
        at = float(time_of)
        if event == "mode":
            name, interval, fleet = arguments
            mode = Mode(name, at, float(interval), fleet == "mixed")
            continue
        if mode is None:
            raise ValueError(f"the history does not begin with a mode: {line!r}")
        mode.add(at, who, event, arguments)
        if event == "left":
            yield mode
            mode = None
    if mode is not None:
        raise ValueError(f"the history of {mode.name} has no end")
