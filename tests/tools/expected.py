"""What a user may expect of a queue, in plain Python: the oracle of machine.py.

It knows items and the order they stand in, and nothing of Redis. Time is in ms and given.

Names are uids. An item that is ready has its name in `line`, or in `ranked` if it has a priority.
A name may outlive its item, when that was removed while it was ready, or stand there twice, when
it was put again after that: who takes from the line skips a name whose item is not to be had.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple


@dataclass
class Kept:
    """An item in the queue."""

    payload: bytes
    rank: tuple[int, int] | None = None  # of an item with a priority: the least is next
    deliveries: int = 0
    holder: int | None = None  # the delivery that may still settle it
    got: int = 0  # when that was got; 0 once it is over
    lease: float | None = None
    due: float | None = None
    died: int | None = None
    reason: str = ""

    @property
    def put_aside(self) -> bool:
        return self.lease is not None or self.due is not None or self.died is not None


class Delivered(NamedTuple):
    """What a get hands out."""

    uid: str
    payload: bytes
    attempts: int
    deadline: int | None
    number: int  # no two deliveries have the same


def _order(uid: str) -> bytes:
    return uid.encode("utf-8", "surrogateescape")


@dataclass
class Expected:
    now: int
    items: dict[str, Kept] = field(default_factory=dict)
    line: list[str] = field(default_factory=list)  # ready, the next one first
    ranked: dict[str, tuple[int, int]] = field(default_factory=dict)  # ready, with a priority
    lately: list[str] = field(default_factory=list)  # out without a lease, the first one first
    before: list[str] = field(default_factory=list)  # the same, since before the last autoclean
    cleaned_until: int | None = None  # no autoclean until then
    paused: bool = False

    def __post_init__(self) -> None:
        self._numbers = count(1)

    # -- put -----------------------------------------------------------------------------------

    def full(self, uids: Sequence[str], maxsize: int | None) -> bool:
        new = sum(uid not in self.items for uid in uids)
        return maxsize is not None and new > 0 and len(self.items) + new > maxsize

    def put(
        self, pairs: Iterable[tuple[str, bytes]], due: float | None = None, priority: int = 0
    ) -> int:
        """To the back of the queue; or not before `due`. How many were not there yet."""
        new = [(uid, payload) for uid, payload in pairs if uid not in self.items]
        # A rank is the time of put, and after all that are ready with that priority.
        latest = max([self.now, *(at for level, at in self.ranked.values() if level == -priority)])
        for i, (uid, payload) in enumerate(new):
            item = self.items[uid] = Kept(payload)
            if priority:
                item.rank = (-priority, latest + i + 1)
            if due is not None:
                item.due = due + i / 1000  # those put together stay in order
            else:
                self._make_ready(uid)
        return len(new)

    def _make_ready(self, uid: str, front: bool = False) -> None:
        item = self.items.get(uid)
        if item is not None and item.rank is not None:
            self.ranked[uid] = item.rank
        else:
            self.line.insert(0 if front else len(self.line), uid)

    # -- get -----------------------------------------------------------------------------------

    def claim(
        self,
        wanted: int,
        lease: int | None,
        most: int | None,
        interval: int | None,
        woken: str | None = None,
        seen: int = 0,
    ) -> list[Delivered]:
        """Up to `wanted` items for a consumer with these settings.

        woken: the name that a wait has caught for it, whose latest answer was at `seen`.
        """
        if woken is not None:
            self.give_caught_back(woken, seen)
        self._bring_back()
        self._autoclean(interval)
        out: list[Delivered] = []
        while not self.paused and len(out) < wanted and (uid := self._first()) is not None:
            item = self.items.get(uid)
            if item is not None and not self._is_elsewhere(uid, item):
                if most is not None and item.deliveries >= most:
                    item.died, item.reason = self.now, f"delivered {most} times"
                else:
                    out.append(self._deliver(uid, item, lease))
            self._take(uid)
        if not self.items and not self.paused:
            self.lately, self.before = [], []  # names of nothing
        return out

    def _bring_back(self) -> None:
        """What is due and what its holders left is ready again, at the back of the queue."""
        for end in ("lease", "due"):
            ended = [
                (getattr(item, end), _order(uid), uid)
                for uid, item in self.items.items()
                if getattr(item, end) is not None and getattr(item, end) <= self.now
            ]
            for _, _, uid in sorted(ended):
                setattr(self.items[uid], end, None)
                self.items[uid].got = 0  # its last holder may still ack it
                self._make_ready(uid)

    def _autoclean(self, interval: int | None) -> None:
        """Once an interval; so what is out without a lease comes back after one to two of them."""
        if interval is None or self.cleaned_until is not None:
            return
        for uid in self.before:
            if uid in self.items:
                self.items[uid].got = 0
            self._make_ready(uid)
        self.before, self.lately = self.lately, []
        self.cleaned_until = self.now + interval

    def _first(self) -> str | None:
        return next(iter(self.ready()), None)

    def _take(self, uid: str) -> None:
        """Take the first name off where it stands."""
        if (
            self.line
            and uid == self.line[0]
            and min(self.ranked.values(), default=(0, 0)) >= (0, 0)
        ):
            self.line.pop(0)
        else:
            del self.ranked[uid]

    def _is_elsewhere(self, uid: str, item: Kept) -> bool:
        return item.put_aside or bool(item.got and uid in self.lately + self.before)

    def _deliver(self, uid: str, item: Kept, lease: int | None) -> Delivered:
        item.deliveries += 1
        item.holder, item.got = next(self._numbers), self.now
        if lease is None:
            self.lately.append(uid)
        else:
            item.lease = self.now + lease
        deadline = None if lease is None else self.now + lease
        return Delivered(uid, item.payload, item.deliveries, deadline, item.holder)

    def catch(self) -> str | None:
        """A consumer that waits takes a name off the line, which is not a delivery yet."""
        if not self.line:
            return None
        self.lately.append(self.line.pop(0))
        return self.lately[-1]

    def give_caught_back(self, uid: str, seen: int) -> None:
        item = self.items.get(uid)
        claimed_since = item is not None and item.holder is not None and item.got >= seen
        if claimed_since:
            return
        for out in (self.lately, self.before):  # autoclean may have come in between
            if uid in out:
                _remove_last(out, uid)
                self.line.insert(0, uid)
                return

    # -- ack, fail and other ends of a delivery --------------------------------------------------
    #
    # holder: the number of the delivery, or None for who has only a uid, and is not fenced.

    def ack(self, uid: str, holder: int | None = None) -> bool:
        """Gone, wherever it stood: also for a late holder, unless somebody else got it."""
        item = self.items.get(uid)
        if item is None or (holder is not None and item.holder != holder):
            return False
        del self.items[uid]
        if item.lease is None and not self._take_out_of_hands(uid):
            self.ranked.pop(uid, None)
        return True

    def _take_out_of_hands(self, uid: str) -> bool:
        for out in (self.lately, self.before):
            if uid in out:
                out.remove(uid)
                return True
        return False

    def held(self, uid: str, holder: int | None) -> Kept | None:
        """The item, if it is in flight, and with that holder."""
        item = self.items.get(uid)
        if item is None or (holder is not None and item.holder != holder):
            return None
        return item if item.lease is not None or uid in self.lately + self.before else None

    def _end(self, uid: str, item: Kept) -> None:
        """The delivery is over: its holder can do nothing more."""
        item.holder, item.got = None, 0
        if item.lease is not None:
            item.lease = None
        else:
            self._take_out_of_hands(uid)

    def fail(
        self,
        uid: str,
        holder: int | None,
        delay: int = 0,
        most: int | None = None,
        reason: str = "",
    ) -> bool:
        item = self.held(uid, holder)
        if item is None:
            return False
        self._end(uid, item)
        if most is not None and item.deliveries >= most:
            item.died, item.reason = self.now, reason or f"failed {most} times"
        elif delay:
            item.due = self.now + delay
        else:
            self._make_ready(uid)
        return True

    def bury(self, uid: str, holder: int | None, reason: str) -> bool:
        item = self.held(uid, holder)
        if item is None:
            return False
        self._end(uid, item)
        item.died, item.reason = self.now, reason
        return True

    def touch(self, uid: str, holder: int | None, lease: int) -> bool:
        item = self.held(uid, holder)
        if item is None:
            return False
        if item.lease is None:
            self._take_out_of_hands(uid)
        item.lease = self.now + lease
        return True

    def hand_back(self, uid: str, holder: int | None, uncounted: bool) -> bool:
        """To the front of the queue; uncounted: as if it had not been got."""
        item = self.held(uid, holder)
        if item is None:
            return False
        self._end(uid, item)
        item.deliveries = max(item.deliveries - uncounted, 0)
        self._make_ready(uid, front=True)
        return True

    # -- dead letters --------------------------------------------------------------------------

    def dead(self) -> list[str]:
        dying = [(k.died, _order(uid), uid) for uid, k in self.items.items() if k.died is not None]
        return [uid for _, _, uid in sorted(dying)]

    def revive(self, *uids: str) -> int:
        """Ready again as if never delivered."""
        revived = 0
        for uid in uids:
            item = self.items.get(uid)
            if item is not None and item.died is not None:
                item.died, item.reason, item.deliveries = None, "", 0
                item.holder, item.got = None, 0
                self._make_ready(uid)
                revived += 1
        return revived

    def purge_dead(self) -> int:
        dead = self.dead()
        for uid in dead:
            del self.items[uid]
        return len(dead)

    # -- looking -------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """The names in the order they will be taken, also those that will be skipped."""
        ranked = self.by_priority()
        high = [uid for uid in ranked if self.ranked[uid] < (0, 0)]
        return high + self.line + ranked[len(high) :]

    def by_priority(self) -> list[str]:
        return sorted(self.ranked, key=lambda uid: (self.ranked[uid], _order(uid)))


def _remove_last(names: list[str], uid: str) -> None:
    del names[len(names) - 1 - names[::-1].index(uid)]
