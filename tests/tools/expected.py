"""What a user may expect of a queue, in plain Python: the oracle of machine.py.

It knows items and the order they stand in, and nothing of Redis. Time is in ms and given.

Names are uids. An item that is ready has its name in `line`, or in `handed`, the front of the line,
if one who waits was handed it; or in `ranked` if it has a priority. A name may outlive its item,
when that was removed deep in the line: then it is a ghost, and counted. Or it may stand there
twice. Who takes from the line skips a name whose item is not to be had.

An empty name in the line is a bell, for those who wait; and one of them may watch for what is due
next. With both all is late by a slice of waiting at most, so it is machine.py that says when they
have to be there. Where they are, and who goes the quick way, is told here as the queue does it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple


@dataclass
class Kept:
    """An item in the queue."""

    payload: bytes
    rank: tuple[int, int] | None = None  # of an item with a priority: the least is next
    noted: bool = False  # something, at some time, that only the general way looks at
    deliveries: int = 0
    holder: int | None = None  # the delivery that may still settle it
    handed_back: bool = False  # that is how its latest delivery ended
    got: int = 0  # when that was got; 0 once it is over
    lease: int | None = None
    due: float | None = None
    held: int | None = None  # since when it is not to be got before it is released
    died: int | None = None
    reason: str = ""

    @property
    def put_aside(self) -> bool:
        return any(each is not None for each in (self.lease, self.due, self.held, self.died))


class Delivered(NamedTuple):
    """What a get hands out."""

    uid: str
    payload: bytes
    attempts: int
    deadline: int | None
    number: int  # no two deliveries have the same
    alone: bool  # its last holder may have died of it: nobody else's is put at risk with it


class Terms(NamedTuple):
    """How a consumer claims."""

    lease: int | None
    most: int | None  # deliveries
    interval: int | None  # between two autocleans
    noted_at: int = 0  # what it takes the time to be, if it goes the quick way


class Claimed(NamedTuple):
    """What came of a claim."""

    out: list[Delivered]
    verdict: int  # 0 there may be more, -1 not now, -2 paused, else watch so many ms for the next
    kept_house: bool  # the general way


NOTHING = -1
PAUSED = -2

# Of the names in the line: within so many places of an end one is found, and within so many from
# the front it is seen whether one stands there twice.
REACH = 2
PROOF = 5
SEARCHES = 4  # for other places of an item, after which a claim ends


def _order(uid: str) -> bytes:
    return uid.encode("utf-8", "surrogateescape")


@dataclass
class Expected:
    now: int
    slice: int = 1000  # ms, of those who wait
    items: dict[str, Kept] = field(default_factory=dict)
    handed: list[str] = field(default_factory=list)  # ready, the next one first
    line: list[str] = field(default_factory=list)  # ready, after those
    ghosts: dict[str, int] = field(default_factory=dict)  # names in the line whose item is gone
    ranked: dict[str, tuple[int, int]] = field(default_factory=dict)  # ready, with a priority
    lately: list[str] = field(default_factory=list)  # out without a lease, the first one first
    before: list[str] = field(default_factory=list)  # the same, since before the last autoclean
    cleaned_until: int | None = None  # no autoclean until then
    watched: int | None = None  # the time for which one who waits watches
    paused: bool = False

    def __post_init__(self) -> None:
        self._numbers = count(1)

    # -- put -----------------------------------------------------------------------------------

    def full(self, uids: Sequence[str], maxsize: int | None) -> bool:
        new = sum(uid not in self.items for uid in uids)
        return maxsize is not None and new > 0 and len(self.items) + new > maxsize

    def put(
        self,
        pairs: Iterable[tuple[str, bytes]],
        due: float | None = None,
        priority: int = 0,
        held: bool = False,
    ) -> int:
        """To the back of the queue; or not before `due`, or its release. How many were new."""
        new = [(uid, payload) for uid, payload in pairs if uid not in self.items]
        if due is not None and due <= self.now:
            due = None
        # A rank is the time of put, and after all that are ready with that priority.
        latest = max([self.now, *(at for level, at in self.ranked.values() if level == -priority)])
        for i, (uid, payload) in enumerate(new):
            item = self.items[uid] = Kept(payload)
            item.noted = priority != 0 or due is not None or held or uid in self.ghosts
            if priority:
                item.rank = (-priority, latest + i + 1)
            if held:
                item.held = self.now
            elif due is not None:
                self._delay(item, due)
            else:
                self._make_ready(uid)
        return len(new)

    def release(self, uid: str) -> bool:
        item = self.items.get(uid)
        if item is None or item.held is None:
            return False
        item.held = None
        self._make_ready(uid)
        return True

    def reschedule(self, uid: str, due: float) -> bool:
        item = self.items.get(uid)
        if item is None or item.due is None:
            return False
        if due > self.now:
            self._delay(item, due)
        else:
            item.due = None
            self._make_ready(uid)
        return True

    def _delay(self, item: Kept, due: float) -> None:
        first = self._first("due")
        # What is due in the same ms stays in order.
        same = [k.due for k in self.items.values() if k.due is not None and due <= k.due < due + 1]
        item.due = max(same) + 1 / 4096 if same else due
        if due <= self.now + self.slice and (first is None or due < first):
            self.ring()

    def _make_ready(self, uid: str) -> None:
        """To the back, or where its priority is."""
        item = self.items[uid]
        if item.rank is None:
            self.line.append(uid)
        else:
            self.ranked[uid] = item.rank
            self.ring()

    def _make_next(self, uid: str) -> None:
        """To the front, but behind what was handed back too and put before it."""
        if self.items[uid].rank is not None:
            return self._make_ready(uid)
        self.put_handed_back()
        place = 0
        while place < len(self.line) and self._is_before(self.line[place], uid):
            place += 1
        self.line.insert(place, uid)

    def _is_before(self, other: str, uid: str) -> bool:
        """By the uids of the queue's own, which tell when they were put."""
        if len(other) != 36 or len(uid) != 36 or other not in self.items:
            return False
        return self.items[other].handed_back and other <= uid

    # -- those who wait --------------------------------------------------------------------------

    def catch(self) -> str | None:
        """One who waits is handed the first name of the line, which stays at the front of it."""
        if not self.line:
            return None
        self.handed.append(self.line.pop(0))
        return self.handed[-1]

    def pass_on(self) -> None:
        """What one was handed who takes nothing may wake another."""
        if not self.paused and self.handed:
            self.line.insert(0, self.handed.pop())

    def _leave_what_was_handed(self) -> None:
        """To another, by one who took something of a priority instead."""
        if self.handed[-1:] == [""]:
            self.handed.pop()
        else:
            self.pass_on()

    def put_handed_back(self) -> None:
        self.line[:0] = self.handed
        self.handed.clear()

    def ring(self) -> None:
        if not self.line or self.line[-1] != "":
            self.line.append("")

    def _first(self, end: str) -> float | None:
        return min(
            (t for each in self.items.values() if (t := getattr(each, end)) is not None),
            default=None,
        )

    def _is_unwatched(self, due: float | None) -> bool:
        if due is None or math.ceil(due) > self.now + self.slice:
            return False
        return self.watched is None or self.watched > math.ceil(due)

    def _to_watch(self) -> int:
        ends = [each for each in map(self._first, ("due", "lease")) if each is not None]
        if not ends or not self._is_unwatched(min(ends)):
            return NOTHING
        wait = max(math.ceil(min(ends)) - self.now, 1)
        self.watched = self.now + wait
        return wait

    def _stop_watching(self, watching: int | str) -> None:
        if watching == "any" or self.watched == watching:
            self.watched = None

    def _leave_to_another(self) -> None:
        if self._is_unwatched(self._first("due")):
            self.ring()

    # -- get -----------------------------------------------------------------------------------

    def claim(self, wanted: int, terms: Terms, how: str = "g", watching: int | str = "") -> Claimed:
        """Up to `wanted` items for a consumer.

        how: letters, as the queue tells them. g: the general way is due; b: one who waited was
        handed something before this, or not; a: this was sent before; w: who claims will wait
        if there is nothing; h: it has something already.
        watching: until when it was to watch, or "any" if it does not know that.
        """
        quick = self._claim_new(wanted, terms, how)
        if quick is not None:
            return quick
        if "a" not in how and watching == "" and self._nothing_at_all:
            return Claimed([], NOTHING, True)
        self._stop_watching(watching)
        if self.paused:
            return Claimed([], PAUSED, True)
        self._bring_back()
        self._autoclean(terms.interval)
        ranked, (out, verdict, bell) = bool(self.ranked), self._take_some(wanted, terms, how)
        if verdict == NOTHING and not out and not self.items:
            for names in (self.handed, self.lately, self.before):  # names of nothing
                names.clear()
            self.ghosts.clear()
        if verdict == NOTHING and not out and "w" in how:
            return Claimed([], self._to_watch(), True)
        if out and "b" in how and not self._took_entry:
            bell = bell or self.handed[-1:] == [""]  # which it was handed, as all that it leaves
            self._leave_what_was_handed()
        if ranked and out and self.ranked:
            self.ring()
        if bell or watching != "":
            self._leave_to_another()
        return Claimed(out, verdict, True)

    @property
    def _nothing_at_all(self) -> bool:
        lines = (self.handed, self.line, self.lately, self.before)
        return not (self.items or any(lines) or self.ghosts or self.paused)

    def _claim_new(self, wanted: int, terms: Terms, how: str) -> Claimed | None:
        """What was never delivered, from the front, if nothing rarely used is in use."""
        line = self.handed if "b" in how else self.line
        special = self.ranked or self.paused or (line is self.line and self.handed)
        names = line[:wanted]
        new = all(uid in self.items and not self.items[uid].noted for uid in names)
        if "g" in how or special or not new or not names or len({*names}) < len(names):
            return None
        del line[: len(names)]
        out = [self._deliver(uid, terms, terms.noted_at) for uid in names]
        return Claimed(out, NOTHING if 1 < wanted > len(out) else 0, False)

    def _take_some(self, wanted: int, terms: Terms, how: str) -> tuple[list[Delivered], int, bool]:
        """From the front; the verdict, and whether there was a bell."""
        out: list[Delivered] = []
        bell, self._searches, self._took_entry = False, 0, False
        while len(out) < wanted and self._searches < SEARCHES:
            uid = next(iter(self.ready()), None)
            if uid is None:
                return out, NOTHING, bell
            item = self.items.get(uid)
            if item is None:
                bell = bell or not uid
                self._count_ghosts(uid, self.ghosts.get(uid, 0) - 1)
                self._take(uid)
                continue
            copy, ghosts = self._is_copy(uid, item)
            alone = item.holder is not None
            worn = terms.most is not None and item.deliveries >= terms.most
            if alone and (out or "h" in how) and not (copy or worn):
                return out, NOTHING, bell
            self._count_ghosts(uid, ghosts)
            if worn and not copy:
                item.died, item.reason = self.now, f"delivered {terms.most} times"
                item.got = 0
            elif not copy:
                out.append(self._deliver(uid, terms, self.now))
            self._take(uid)
            if out and out[-1].alone:
                return out, NOTHING, bell
        return out, 0, bell

    def _bring_back(self) -> None:
        """What is due and what its holders left is ready again, at the back of the queue."""
        for end in ("lease", "due"):
            for uid in self._ended(end):
                setattr(self.items[uid], end, None)
                self.items[uid].got = 0  # its last holder may still ack it
                self._make_ready(uid)

    def _ended(self, end: str) -> list[str]:
        """What has lapsed, or is due, in the order of that."""
        ended = [
            (getattr(item, end), _order(uid), uid)
            for uid, item in self.items.items()
            if getattr(item, end) is not None and getattr(item, end) <= self.now
        ]
        return [uid for _, _, uid in sorted(ended)]

    def _autoclean(self, interval: int | None) -> None:
        """Once an interval; so what is out without a lease comes back after one to two of them."""
        if interval is None or self.cleaned_until is not None:
            return
        for uid in self.before:
            if uid in self.items:
                self._make_ready(uid)
                if self.items[uid].got <= self.now - interval:
                    self.items[uid].got = 0  # else it is out elsewhere: this is a second copy
        self.before, self.lately = self.lately, []
        self.cleaned_until = self.now + interval

    def _where(self) -> list[str] | dict[str, tuple[int, int]]:
        """Where the first name stands."""
        high = min(self.ranked.values(), default=(0, 0)) < (0, 0)
        return self.ranked if high else self.handed or self.line or self.ranked

    def _take(self, uid: str) -> None:
        """Take the first name off where it stands."""
        where = self._where()
        if isinstance(where, list):
            where.pop(0)
            self._took_entry = True
        else:
            del where[uid]

    def _is_copy(self, uid: str, item: Kept) -> tuple[bool, int]:
        """Whether this name is a second one of its item, and how many ghosts are left.

        That is to be proven, lest an item be lost whose ghosts were counted wrongly.
        """
        ghosts, in_line = self.ghosts.get(uid, 0), self._where() is not self.ranked
        if self._is_elsewhere(uid, item, in_line):
            return True, max(ghosts - 1, 0) if in_line else ghosts
        if not in_line or not ghosts:
            return False, ghosts
        self._searches += 1
        if self.handed[:PROOF].count(uid) + self.line[:PROOF].count(uid) > 1:
            return True, ghosts - 1
        return False, 0 if max(len(self.handed), len(self.line)) <= PROOF else ghosts

    def _is_elsewhere(self, uid: str, item: Kept, in_line: bool) -> bool:
        if not item.noted:
            return False
        if item.put_aside or (in_line and uid in self.ranked):
            return True
        # With neither a delivery nor its time it may be out too.
        if item.got == 0:
            return False
        self._searches += 1
        return uid in self.lately + self.before

    def _count_ghosts(self, uid: str, ghosts: int) -> None:
        self.ghosts.pop(uid, None)
        if ghosts > 0:
            self.ghosts[uid] = ghosts
            if uid in self.items:
                self.items[uid].noted = True

    def _deliver(self, uid: str, terms: Terms, got: int) -> Delivered:
        item = self.items[uid]
        alone = item.holder is not None
        item.deliveries += 1
        item.holder, item.got, item.noted, item.handed_back = next(self._numbers), got, True, False
        deadline = None if terms.lease is None else self.now + terms.lease
        if deadline is None:
            self.lately.append(uid)
        item.lease = deadline
        return Delivered(uid, item.payload, item.deliveries, deadline, item.holder, alone)

    # -- ack, fail and other ends of a delivery --------------------------------------------------
    #
    # holder: the number of the delivery, or None for who has only a uid, and is not fenced.

    def ack(self, uid: str, holder: int | None = None, *, quick: bool = True) -> bool:
        """Gone, wherever it stood: also for a late holder, unless somebody else got it."""
        item = self.items.get(uid)
        if item is None or (holder is not None and item.holder != holder):
            return False
        del self.items[uid]
        if item.lease is not None:
            return True
        out = self._take_out_of_hands(uid)
        if out and item.got:
            return True
        ranked = self.ranked.pop(uid, None)
        quick = quick and holder is not None and item.rank is None and uid not in self.ghosts
        if quick and item.got:  # not looked for: its name is skipped
            self._count_ghosts(uid, 1)
        else:  # where it stood once, unless that was not found
            there = sum(map(bool, (out, item.put_aside, ranked, self._take_out(uid))))
            self._count_ghosts(uid, self.ghosts.get(uid, 0) + max(1 - there, -1))
        return True

    def _take_out(self, uid: str) -> bool:
        """Take a name out of the line, if it is found near an end."""
        if uid in self.line[-REACH:]:
            _remove_last(self.line, uid)
        elif uid in self.line[:REACH]:
            self.line.remove(uid)
        elif uid in self.handed:
            _remove_last(self.handed, uid)
        else:
            return False
        return True

    def _take_out_of_hands(self, uid: str) -> bool:
        for out in (self.lately, self.before):
            if uid in out:
                out.remove(uid)
                return True
        return False

    def in_flight(self, uid: str, holder: int | None) -> Kept | None:
        """The item, if it is in flight, and with that holder."""
        item = self.items.get(uid)
        if item is None or (holder is not None and item.holder != holder):
            return None
        return item if item.lease is not None or uid in self.lately + self.before else None

    def _end(self, uid: str, item: Kept) -> None:
        """The delivery is over: its holder can do nothing more."""
        item.holder, item.got, item.handed_back = None, 0, False
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
        item = self.in_flight(uid, holder)
        if item is None:
            return False
        self._end(uid, item)
        if most is not None and item.deliveries >= most:
            item.died, item.reason = self.now, reason or f"failed {most} times"
        elif delay:
            self._delay(item, self.now + delay)
        else:
            self._make_ready(uid)
        return True

    def bury(self, uid: str, holder: int | None, reason: str) -> bool:
        item = self.in_flight(uid, holder)
        if item is None:
            return False
        self._end(uid, item)
        item.died, item.reason = self.now, reason
        return True

    def touch(self, uid: str, holder: int | None, lease: int) -> bool:
        item = self.in_flight(uid, holder)
        if item is None:
            return False
        if item.lease is None:
            self._take_out_of_hands(uid)
        item.lease = self.now + lease
        return True

    def hand_back(self, *deliveries: tuple[str, int | None], uncounted: bool) -> int:
        """In one call, to their places at the front of the queue; how many there were.

        uncounted: as if they had not been got.
        """
        back = []
        for uid, holder in deliveries:
            item = self.in_flight(uid, holder)
            if item is not None:
                self._end(uid, item)
                item.deliveries, item.handed_back = max(item.deliveries - uncounted, 0), True
                back.append(uid)
        for uid in back:
            self._make_next(uid)
        return len(back)

    def undo(self, out: Iterable[Delivered], watching: int | str = "") -> None:
        """As if that had not been claimed."""
        back = [(each.uid, each.number) for each in reversed([*out])]
        assert self.hand_back(*back, uncounted=True) == len(back)
        if watching != "":
            self._stop_watching(watching)
            self._leave_to_another()

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
                item.holder, item.got, item.handed_back = None, 0, False
                self._make_ready(uid)
                revived += 1
        return revived

    def purge_dead(self) -> int:
        dead = self.dead()
        for uid in dead:
            del self.items[uid]
        return len(dead)

    def purge(self) -> None:
        for place in (self.items, self.ranked, self.ghosts):
            place.clear()
        for line in (self.handed, self.line, self.lately, self.before):
            line.clear()

    # -- looking -------------------------------------------------------------------------------

    def ready(self) -> list[str]:
        """The names in the order they will be taken, also those that will be skipped."""
        high, low = self.by_priority()
        return high + self.handed + self.line + low

    def counts(self) -> tuple[int, int, int, int, int]:
        """How many are ready, in flight, delayed, dead and held."""
        out = sum(self.in_flight(uid, None) is not None for uid in self.items)
        out -= len(self._ended("lease"))
        delayed = sum(each.due is not None for each in self.items.values())
        delayed -= len(self._ended("due"))
        held = sum(each.held is not None for each in self.items.values())
        dead = len(self.dead())
        return len(self.items) - out - delayed - held - dead, out, delayed, dead, held

    def to_be_seen(self) -> list[str]:
        """What is ready, without ghosts as far as that can be told."""
        high, low = self.by_priority()
        line = [uid for uid in self.handed + self.line if uid in self.items]
        line = [uid for i, uid in enumerate(line) if not self._is_ghost(uid, line[i + 1 :])]
        # What has lapsed or is due is behind the line, where the next get will put it.
        return high + line + self._ended("lease") + self._ended("due") + low

    def _is_ghost(self, uid: str, behind: list[str]) -> bool:
        item = self.items[uid]
        out = item.got or item.put_aside or uid in self.ranked or uid in behind
        return uid in self.ghosts and bool(out)

    def by_priority(self) -> tuple[list[str], list[str]]:
        """What comes before the line, and what behind it."""
        ranked = sorted(self.ranked, key=lambda uid: (self.ranked[uid], _order(uid)))
        high = sum(rank < (0, 0) for rank in self.ranked.values())
        return ranked[:high], ranked[high:]


def _remove_last(names: list[str], uid: str) -> None:
    del names[len(names) - 1 - names[::-1].index(uid)]
