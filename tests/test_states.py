"""All that can happen to small queues: the model explored breadth first, and every state checked.

A world is two or three items and processes, and how often at most time goes on, a process is
killed, a script is stopped half-way, a reply or a command is lost, or comes late. Between any two
commands of a process all others may act, so that every process may stall anywhere.

Where the invariants of the design are checked:

 1  nothing lost       `Drain`: from every state on, each item comes out, and once; `places`
 2  nothing invented   `judge`: what is handed out was put, and has its payload
 3  numbered calls     `judge`: nothing is put twice; one get, one delivery; no claim for nobody;
                       what ack and fail return is the truth
 4  valid deliveries   `judge`: none to a second one while the first is held; stale calls change nothing
 5  order              `judge`: first claims in order of put (in calm worlds), hand-backs to the front
 6  orphans            `Drain`: within their lease, or two intervals; `judge`: what a BLMOVE moved
                       is handed out by the claim that follows; `unseen`: bells
 7  delays             `judge`: not early; `Drain`: not late
 8  timeouts           is about connections: test_connections.py
 9  no keys are left   `Drain`: at its end
10  undecodable items  `Drain`: it buries them and goes on

Each rule of the model is left out in turn, and must be missed: a violation is found. `python
tests/test_states.py` explores larger worlds, and prints a table.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import model
from model import CALLS, COMMANDS, FOREVER, Frozen, Keys, Limits, Meta

INTERVAL = 1  # time goes on by one; so lasts an autoclean interval
START = 100
SMALL = Limits(clean=1, due=2, skip=3, scans=2, mended=10)
Proc = tuple[Any, ...]
State = tuple[Any, ...]


class World(NamedTuple):
    """Processes and their programs, and how often what goes wrong may go wrong."""

    name: str
    callers: tuple[tuple[tuple[Any, ...], ...], ...] = ()  # calls one after the other
    consumers: tuple[str, ...] = ()  # what each may do with an item
    calls: int = 6  # of a consumer at most
    old: tuple[str, ...] = ()  # 3.0.0 consumers
    lease: int | None = None
    most: int | None = None
    ticks: int = 0
    crashes: int = 0  # a process is killed between two commands
    stops: int = 0  # and in the middle of a script
    faults: int = 0  # replies and commands lost or late
    restarts: int = 0


def put(uid: str, payload: str, level: int = 0, delay: int | None = None) -> tuple[Any, ...]:
    return ("put", delay, None, level, None, uid, payload)



# What a consumer may do with an item: the script, and its arguments but for the item.
ENDS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "ack": ("ack", ()),
    "fail": ("fail", (0,)),
    "delay": ("fail", (1,)),
    "touch": ("touch", (INTERVAL,)),
    "hand_back": ("hand_back", (1,)),
    "bury": ("bury", ()),
}
PLACES = ("queue", "priority", "delayed", "ackbuf", "backup", "leases", "dead")


class ViolationError(AssertionError):
    """An invariant does not hold."""


def broken(what: str) -> None:
    raise ViolationError(what)


# -- what a process may do next --------------------------------------------------------------------
#
# A process is a tuple: what it is about, the generation of its slot and the number of its next
# call, and what it knows:
#
#   calls  index                             a caller, before the call of that index
#   claim  moved, seen                       a consumer in get; what woke it, and its latest answer
#   wait, pause  seen                        in get, blocked or asleep
#   out    uid, payload, token, delivery     with an item
#   over   the same                          still thinking it has it
#   undo   token, moved, seen                in a get that was cancelled
#   old    step, uid                         3.0.0, in get, or with an item
#   again  label, process                    about to send that again
#   dead


class Call(NamedTuple):
    """A script, or with number 0 a single command; `delivery`: uid, payload and id, if it has one."""

    process: int
    name: str
    slot: str
    number: int
    args: tuple[Any, ...]
    delivery: tuple[str, str, str] | None = None


Option = tuple[str, Call | None, Callable[[Any], Proc]]


class Explorer:
    """The states of a world, without one of the rules or with all of them."""

    def __init__(self, world: World, without: str = "") -> None:
        self.world, self.without = world, without
        self.run = functools.cache(self.run_script)
        self.checked: dict[Frozen, str] = {}
        self.callers = len(world.callers)
        self.consumers = len(world.consumers)
        hurt = world.old or world.crashes or world.stops or world.faults or world.ticks
        self.calm = not hurt and "undo" not in " ".join(world.consumers)
        calls = [call for calls in world.callers for call in calls]
        puts = [call[5] for call in calls if call[0] == "put"]
        # Where a uid stands twice at times, get drops the second copy.
        self.copies = bool(world.old or world.stops or len(set(puts)) < len(puts))
        self.copies |= any(call[0] == "ack" for call in calls)
        self.bells = any(call[0] == "put" and call[3] for call in calls)

    def start(self) -> State:
        keys = Keys()
        keys.now = START
        procs: list[Proc] = [("calls", 0, 1, 0)] * self.callers
        procs += [("claim", 0, 1, None, 0)] * self.consumers
        procs += [("old", 0, 0, "lock?", None)] * len(self.world.old)
        w = self.world
        budget = (w.ticks, w.crashes, w.stops, w.faults)
        empty: Any = frozenset()
        return (keys.freeze(), tuple(procs), (), empty, empty, empty, budget)

    def options(self, i: int, proc: Proc, keys: Frozen) -> Iterator[Option]:
        kind, gen, n, *rest = proc
        slot, now = f"{i}.{gen}", keys[-1]
        if kind == "again":
            label, before = gen, n
            yield from (each for each in self.options(i, before, keys) if each[0] == label)
        elif kind == "calls":
            calls = self.world.callers[i]
            if rest[0] < len(calls):
                name, *args = calls[rest[0]]
                number = 0 if name in COMMANDS else n
                then = ("calls", gen, n + 1, rest[0] + 1)
                yield name, Call(i, name, slot, number, tuple(args)), lambda _: then
        elif kind == "claim" and n <= self.world.calls:
            yield "claim", self.claim(i, slot, n, *rest), self.claimed(slot, gen, n)
        elif kind == "wait" and n <= self.world.calls:
            if keys[1]:
                move = Call(i, "blmove", slot, 0, ())
                yield "blmove", move, lambda moved: ("claim", gen, n, moved, rest[0])
                if "undo" in self.ops(i):
                    yield "cancel", move, lambda moved: ("undo", gen, n, "", moved, rest[0])
        elif kind in ("out", "over"):
            uid, payload, token, delivery = rest
            about = (uid, payload, delivery)
            for op in ("bury",) if payload == "bad" else self.ops(i):
                if op == "drop" and kind == "out" and n <= self.world.calls:
                    yield op, None, lambda _: ("claim", gen, n, None, 0)
                elif op in ENDS and (kind == "out" or op in ("ack", "fail")):
                    name, args = ENDS[op]
                    if name == "fail":
                        args = (self.world.most, "", uid, token, *args)
                    else:
                        args = (*args, uid, token) if name != "bury" else (uid, token, "bad")
                    after: Proc = ("claim", gen, n + 1, None, 0)
                    if name == "touch":
                        if n > self.world.calls:
                            continue
                        after = (kind, gen, n + 1, *rest)
                    elif kind == "out" and "over" in self.ops(i):
                        after = ("over", gen, n + 1, *rest)
                    call = Call(i, name, slot, n, args, about)
                    yield op, call, functools.partial(lambda after, _: after, after)
                elif op == "next" and kind == "out" and n <= self.world.calls:
                    call = self.claim(i, slot, n, None, 0, (uid, token))._replace(delivery=about)
                    yield op, call, self.claimed(slot, gen, n)
        elif kind == "undo":
            token, moved, seen = rest
            args = (token, int(moved is not None), moved or "", seen)
            after = ("claim", gen, n + 1, None, 0)
            yield "undo", Call(i, "undo", slot, n, args), lambda _: after
        elif kind == "old":
            step, uid = rest
            if uid is not None:
                for op in self.world.old[i - self.callers - self.consumers].split():
                    call = Call(i, f"old_{op}", slot, 0, (uid,))
                    yield f"old {op}", call, lambda _: ("old", 0, 0, "lock?", None)
            elif step != "take" or keys[1] or keys[-3] is None:
                call = Call(i, "old_get", slot, 0, (step, INTERVAL))
                yield f"old {step}", call, lambda said: ("old", 0, 0, *said)

    def ops(self, i: int) -> list[str]:
        return self.world.consumers[i - self.callers].split()

    def claim(
        self, i: int, slot: str, n: int, moved: str | None, seen: int, acks: tuple[str, ...] = ()
    ) -> Call:
        w = self.world
        woken = (int(moved is not None), moved or "", seen)
        args = (f"{slot}:{n}", INTERVAL, w.lease, 1, w.most, *woken, *acks)
        return Call(i, "claim", slot, n, args)

    def claimed(self, slot: str, gen: int, n: int) -> Callable[[Any], Proc]:
        def then(reply: Any) -> Proc:
            now, verdict, _, *found = reply
            if found:
                uid, payload, count, token = found
                return ("out", gen, n + 1, uid, payload, token, f"{slot}:{n}")
            if verdict == 0:
                return ("claim", gen, n + 1, None, now)
            return ("pause" if verdict == -2 else "wait", gen, n + 1, now)

        return then

    def run_script(self, keys: Frozen, call: Call, left: int = -1) -> tuple[Frozen, Any]:
        """The keys after a call and its reply; None for keys if it ended before `left` writes."""
        k = Keys(keys, self.without, SMALL, left)
        name, args = call.name, call.args
        if call.number == 0:
            reply = COMMANDS[name](k, *args)
        else:
            try:
                reply = CALLS[name](k, call.slot, call.number, *args)
            except model.SupersededError:
                reply = "refused"
            except model.StoppedError:
                return k.freeze(), "stopped"
        if name == "claim" and reply != "refused" and len(reply) > 3:
            reply = (*reply, k.meta[reply[3]].token)
        return k.freeze(), reply

    def next(self, state: State) -> Iterator[tuple[str, State]]:
        keys, procs, wire, ever, owner, hits, budget = state
        ticks, crashes, stops, faults = budget
        if ticks:
            k = Keys(keys)
            k.advance(1)
            rest = (ticks - 1, crashes, stops, faults)
            yield "time goes on", (k.freeze(), procs, wire, ever, owner, hits, rest)
        for each in dict.fromkeys(wire):
            if each.name == "blmove" and not keys[1]:
                continue
            left = list(wire)
            left.remove(each)
            done = self.done(state, each, None, procs)
            yield f"{each.name} of {each.process} comes late", (*done[:2], tuple(left), *done[3:])
        for i, proc in enumerate(procs):
            who = f"{proc[0]} {i}"

            def become(new: Proc, i: int = i) -> tuple[Proc, ...]:
                return (*procs[:i], new, *procs[i + 1 :])

            kind = proc[0]
            if kind == "dead":
                continue
            if crashes and not (kind == "calls" and proc[3] == len(self.world.callers[i])):
                rest = (ticks, crashes - 1, stops, faults)
                yield f"{who} dies", (keys, become(("dead",)), wire, ever, owner, hits, rest)
            if kind in ("wait", "pause") and (
                keys[-1] > proc[3] or (kind == "pause" and not keys[-2])
            ):
                new = ("claim", proc[1], proc[2], None, proc[3])
                yield f"{who}: its slice ends", (keys, become(new), *state[2:])
            for label, call, then in self.options(i, proc, keys):
                before = proc[2] if kind == "again" else proc
                if call is None:
                    yield f"{who}: {label}", (keys, become(then(None)), *state[2:])
                    continue
                yield f"{who}: {label}", self.done(state, call, then, procs)
                is_old = kind == "old" or (kind == "calls" and call.number == 0)
                if faults and not is_old:
                    rest = (ticks, crashes, stops, faults - 1)
                    again = become(("again", label, before))
                    if call.name == "blmove":
                        again = become(("claim", proc[1], proc[2], None, proc[3]))
                    lost = self.done(state, call, None, again)
                    yield f"{who}: {label}, its reply is lost", (*lost[:-1], rest)
                    late = (*wire, call)
                    yield f"{who}: {label} is late", (keys, again, late, *state[3:-1], rest)
                    if call.name != "blmove":
                        gone = become(self.given_up(before))
                        yield f"{who}: {label} is late and given up", (
                            keys, gone, late, *state[3:-1], rest,
                        )  # fmt: skip
                if call.name == "claim" and "undo" in self.ops(i) and before[0] == "claim":
                    _, gen, n, moved, seen = before
                    undo = become(("undo", gen, n + 1, call.args[0], moved, seen))
                    done = self.done(state, call, None, undo)
                    yield f"{who}: cancelled in {label}", done
                    if faults:
                        yield f"{who}: cancelled, {label} is late", (
                            keys, undo, (*wire, call), *state[3:-1],
                            (ticks, crashes, stops, faults - 1),
                        )  # fmt: skip
                if stops and call.number:
                    rest = (ticks, crashes, stops - 1, faults)
                    for left in range(1, 99):
                        half, reply = self.run(keys, call, left)
                        if reply != "stopped":
                            break
                        told = f"{who}: {label} stops after {left} writes"
                        new_ever = ever | {p for _, p in half[0]}
                        if call.delivery is not None:  # what it has now is not certain
                            owner = frozenset(
                                (uid, (entry[0], 0, True) if uid == call.delivery[0] else entry)
                                for uid, entry in owner
                            )
                        for new in (("dead",), self.given_up(before)):
                            yield told, (half, become(new), wire, new_ever, owner, hits, rest)

    def given_up(self, proc: Proc) -> Proc:
        kind, gen, _, *rest = proc
        if kind == "calls":
            return (kind, gen + 1, 1, rest[0] + 1)
        if kind in ("claim", "undo"):
            return ("claim", gen + 1, 1, None, 0)
        return (kind, gen + 1, 1, *rest)

    # -- what must hold -------------------------------------------------------------------------

    def done(
        self, state: State, call: Call, then: Callable[[Any], Proc] | None, procs: tuple[Proc, ...]
    ) -> State:
        """The state after a call; `then` is what its process makes of the reply, if it gets it."""
        keys, _, wire, ever, owner, hits, budget = state
        after, reply = self.run(keys, call)
        self.latest = f"({call.name} {' '.join(map(str, call.args))} of {call.process}: {reply})"
        owner, hit = self.judge(keys, after, call, reply, dict(owner), ever, then, state[1])
        ever |= {payload for _, payload in after[0]}
        its = (call.slot, call.number)
        if call.name in ("ack", "fail"):
            if then is None:
                hits |= {its} if hit else frozenset()
            elif bool(reply) != (hit or its in hits):
                broken(f"{call.name} returned {reply}, which is not the truth")
            else:
                hits -= {its}
        elif call.name in ("purge", "revive"):
            if its in hits and changed(keys, after):
                broken(f"a {call.name} sent again changes something")
            hits |= {its}
        if then is not None:
            new = then(reply)
            procs = (*procs[: call.process], new, *procs[call.process + 1 :])
        return (after, procs, wire, ever, frozenset(owner.items()), hits, budget)

    def judge(
        self,
        before: Frozen,
        after: Frozen,
        call: Call,
        reply: Any,
        owner: dict[str, Any],
        ever: frozenset[str],
        then: Any,
        procs: tuple[Proc, ...],
    ) -> tuple[dict[str, Any], bool]:
        """Check one call; who has what after it, and whether it settled something."""
        name, now, hit = call.name, before[-1], False
        if reply == "refused":
            if then is not None:
                broken("a call that is the caller's latest was refused")
            if changed(before, after):
                broken("a refused call changes something")
            return owner, False
        added, removed = after[0] - before[0], before[0] - after[0]
        for uid, payload in added:
            if payload in ever:
                broken(f"{payload} is put twice")
            owner.pop(uid, None)
        may_go: set[tuple[str, str]] = set()
        if call.delivery is not None:
            uid, payload, delivery = call.delivery
            mine = owner.get(uid, ("",))[0] == delivery and (uid, payload) in before[0]
            if mine and name in ("ack", "claim"):
                may_go = {(uid, payload)}
                if may_go != removed:
                    broken(f"{name} by the holder of {uid} does not ack it")
                hit = True
            elif mine and name == "touch" and reply[0]:
                owner[uid] = (delivery, reply[0], False)
            elif mine and name != "touch" and reply:
                hit = True
                if name == "hand_back" and before[5 + 2] == after[5 + 2] and after[1][-1] != uid:
                    broken("what is handed back is not next")
            elif uid in dict(before[0]) and name != "claim" and changed(before, after):
                broken(f"a stale {name} changes something")
            if hit:
                owner.pop(uid, None)
        elif name == "old_ack":
            may_go = {(uid, payload) for uid, payload in removed if uid == call.args[0]}
        elif name == "ack":  # remove
            may_go = {(uid, payload) for uid, payload in removed if uid == call.args[0]}
            hit = bool(removed)
        elif name == "purge":
            may_go = removed
        if removed - may_go:
            broken(f"{name} loses {sorted(removed - may_go)}")
        if name == "revive":
            for uid, _ in before[8]:
                owner.pop(uid, None)
        elif name == "undo" and call.args[0]:
            for uid, entry in list(owner.items()):
                if entry[0] == call.args[0] and changed(before, after):
                    del owner[uid]
        elif name == "blmove" and reply in owner:
            owner[reply] = (*owner[reply][:2], True)
        elif name == "claim":
            self.judge_claim(before, after, call, reply, owner, ever, then, procs, now)
        return owner, hit

    def judge_claim(
        self,
        before: Frozen,
        after: Frozen,
        call: Call,
        reply: Any,
        owner: dict[str, Any],
        ever: frozenset[str],
        then: Any,
        procs: tuple[Proc, ...],
        now: int,
    ) -> None:
        delivery, w = call.args[0], self.world
        for uid, payload, count in zip(*[iter(reply[3:])] * 3):
            if (uid, payload) not in after[0]:
                broken(f"handed out: {(uid, payload)}")
            held_by, until, _ = owner.get(uid, ("", 0, False))
            if held_by != delivery:
                its = procs[call.process]
                its = its[2] if its[0] == "again" else its
                if then is None and its[0] not in ("undo", "dead"):
                    if f"{call.process}.{its[1]}" == call.slot and its[2] > call.number:
                        broken("a late claim takes an item for nobody")
                if now < until:
                    broken(f"{uid} is handed out while {held_by} has it")
                if dict(before[6]).get(uid, 0) > now:
                    broken(f"{uid} comes early")
                if any(entry[0] == delivery for entry in owner.values()):
                    broken("one get takes two items")
                if self.calm and count == 1:
                    self.judge_order(before, uid)
            held_until = reply[2] or (0 if self.world.old else now + INTERVAL)
            owner[uid] = (delivery, held_until, False)
        _, _, _, _, _, woken, moved, *_ = call.args
        if woken and not (w.old or w.stops) and moved in after[2] and moved in dict(after[0]):
            if owner.get(moved, ("", 0, True))[2]:
                broken(f"{moved}, moved for this claim, was not claimed by it")

    def judge_order(self, before: Frozen, uid: str) -> None:
        meta = dict(before[4])

        def level(uid: str) -> int:
            about = meta.get(uid)
            return 0 if about is None or about.score is None else about.score // model.BAND

        for other in (*before[1], *dict(before[7])):
            new = other not in meta or (meta[other].score and meta[other].deliveries == 0)
            if other in dict(before[0]) and new and (level(other), other) < (level(uid), uid):
                broken(f"{uid} is handed out before {other}")

    def check(self, state: State) -> None:
        keys, procs = state[0], state[1]
        if keys not in self.checked:
            self.checked[keys] = ""
            self.check_places(keys)
            self.drain(keys)
        unhurt = state[-1][1:] == (self.world.crashes, self.world.stops, self.world.faults)
        if self.bells and unhurt and keys[7] and not keys[1] and not keys[-2]:
            kinds = {proc[0] for proc in procs}
            if "wait" in kinds and "claim" not in kinds:
                broken("items are ready, and those who wait do not see them")

    def check_places(self, keys: Frozen) -> None:
        k = Keys(keys)
        for uid in k.items:
            standing = [name for name in PLACES for each in getattr(k, name) if each == uid]
            if not standing:
                broken(f"{uid} stands nowhere")
            if len(standing) > 1 and not self.copies:
                broken(f"{uid} stands in {standing}")

    def drain(self, keys: Frozen) -> None:
        """All processes are dead: what one consumer gets that looks all the time."""
        k = Keys(keys, self.without, SMALL)
        k.paused = False
        now, bounds = k.now, {}
        cleaned = now + 2 * INTERVAL
        if self.world.old and k.lock is not None:
            cleaned = max(cleaned, (now + 10 if k.lock == FOREVER else k.lock) + INTERVAL)
        for uid in k.items:
            bound: float = now
            if uid in k.ackbuf or uid in k.backup:
                bound = cleaned
            bounds[uid] = max(bound, k.leases.get(uid, 0), k.delayed.get(uid, 0))
        for uid in k.dead:
            bounds.pop(uid, None)
        number = 0
        while True:
            number += 2
            if number > 100:
                broken("a claim comes to no end")
            args = (f"drain:{number}", INTERVAL, None, 1, self.world.most, 0, "", 0)
            reply = model.claim(k, "drain", number, *args)
            for uid in k.dead:
                bounds.pop(uid, None)
            if len(reply) > 3:
                uid, payload = reply[3:5]
                if bounds.pop(uid, -1) < k.now:
                    broken(f"{uid} comes again, or late")
                if payload == "bad":
                    model.bury(k, "drain", number + 1, uid, k.meta[uid].token, "bad")
                else:
                    model.ack(k, "drain", number + 1, uid, k.meta[uid].token)
            elif reply[1] != 0:
                if not bounds:
                    break
                if k.lock is None:  # autoclean goes on at the end of a slice
                    continue
                if k.now >= max(bounds.values()):
                    broken(f"{sorted(bounds)} did not come in time")
                k.advance(1)
        if not k.items:
            left = [name for name in (*PLACES, "meta", "reasons") if getattr(k, name)]
            if left or k.lock == FOREVER:
                broken(f"the queue is empty, and left are {left or 'a lock'}")

    # -- breadth first ----------------------------------------------------------------------------

    def explore(self, most: int = 10**9) -> int:
        """The number of states; ViolationError with the shortest trace to what must not be."""
        start = self.start()
        came: dict[State, Any] = {start: None}
        frontier = [start]
        while frontier:
            later = []
            for state in frontier:
                steps = self.next(state)
                while True:
                    step = None
                    try:
                        step = next(steps, None)
                        if step is None:
                            break
                        label, new = step
                        if new in came:
                            continue
                        came[new] = (state, label)
                        later.append(new)
                        self.check(new)
                    except ViolationError as error:
                        at = state if step is None or step[1] not in came else step[1]
                        raise ViolationError(self.trace(came, at, str(error))) from None
            if len(came) > most:
                break
            frontier = later
        return len(came)

    def trace(self, came: dict[State, Any], state: State, what: str) -> str:
        labels = [f"{what}: {show(state[0])}", self.latest]
        while came[state] is not None:
            state, label = came[state]
            labels.append(label)
        return "\n  ".join(["", *reversed(labels)])


def changed(before: Frozen, after: Frozen) -> bool:
    """Whether anything changed beside last."""
    return before[:10] != after[:10] or before[11:] != after[11:]


def show(keys: Frozen) -> dict[str, Any]:
    return {name: value for name, value in vars(Keys(keys)).items() if value}


A, B, A2 = put("a", "a1"), put("b", "b1"), put("a", "a2")
HIGH, LOW = put("a", "a1", 1), put("c", "c1", -1)
REMOVE = ("ack", "a", "")

WORLDS = (
    World("crash", ((A, B),), ("ack", "ack fail"), calls=4, ticks=2, crashes=1),
    World("order", ((A, B),), ("ack hand_back", "ack"), calls=4),
    World("undo", ((A, B),), ("ack undo", "ack"), calls=3, faults=1),
    World("faults", ((A, B),), ("ack", "fail"), calls=3, faults=1),
    World("lease", ((A, B),), ("ack touch drop", "fail"), lease=1, calls=4, ticks=2),
    World("put again", ((A, A2),), ("ack drop", "ack"), lease=1, calls=4, ticks=2),
    World("stale", ((A, B),), ("ack fail over", "ack"), calls=4, ticks=1),
    World("stop", ((A, B),), ("ack", "fail"), calls=3, ticks=1, stops=1),
    World("three", ((A, B, put("c", "c1")),), ("drop",), calls=4, ticks=2),
    World("3.0.0", ((A, B),), ("ack",), old=("ack fail",), calls=4, ticks=2),
    World("3.0.0 lease", ((A, B),), ("ack", "drop"), old=("fail",), lease=2, calls=3, ticks=2),
    World("3.0.0 again", ((A, A2),), ("ack",), old=("ack",), lease=1, calls=4, ticks=1),
    World("3.0.0 stalls", ((A, B),), ("drop",), old=("ack",), calls=5, ticks=3),
    World("priority", ((HIGH, put("b", "b1", 1), LOW),), ("ack", "ack"), calls=5),
    World("priority crash", ((HIGH, B),), ("ack drop", "ack"), calls=4, ticks=2, crashes=1),
    World("delay", ((put("a", "a1", 0, 1), B),), ("ack delay", "ack"), calls=4, ticks=2),
    World("ghost", ((A, REMOVE, put("a", "a2", 0, 1)),), ("ack", "ack"), calls=3, ticks=1),
    World("pause", ((A, ("pause",), ("resume",)), (put("b", "bad"),)), ("ack", "ack"), calls=4),
    World("dead", ((A, ("revive",)),), ("ack bury", "fail"), calls=4, ticks=2, most=2),
    World("revive stops", ((A, ("revive",)),), ("bury drop", "ack"), calls=4, ticks=1, stops=1),
    World("purge", ((A, ("purge",), B),), ("ack", "next"), calls=3, faults=1),
)

# The world in which each rule is missed soonest.
MISSED = {
    "put is numbered": "faults",
    "claim is numbered": "faults",
    "ack is numbered": "faults",
    "fail is numbered": "faults",
    "the rest is numbered": "purge",
    "ack is fenced": "lease",
    "fail is fenced": "lease",
    "tokens, not counts": "put again",
    "tokens are retired": "stale",
    "only what is in flight": "lease",
    "place before payload": "stop",
    "add before remove": "stop",
    "put drops old meta": "3.0.0 again",
    "delayed has meta": "ghost",
    "rename when backup is empty": "three",
    "lock after rename": "three",
    "lock expires": "order",
    "mended lock is long": "3.0.0 stalls",
    "moved, not claimed since": "crash",
    "paused claim puts back": "pause",
    "time ends with lease": "lease",
    "second copies": "3.0.0 lease",
    "ghosts are skipped": "ghost",
    "left keys are dropped": "3.0.0",
    "bell": "priority",
    "taker rings on": "priority",
    "to the front": "order",
    "undo is numbered": "undo",
    "revive writes meta": "revive stops",
}


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_no_state_breaks_an_invariant(world: World) -> None:
    begun = time.process_time()
    states = Explorer(world).explore()
    print(f"{world.name}: {states} states in {time.process_time() - begun:.1f} s")


@pytest.mark.parametrize("rule", model.RULES)
def test_without_the_rule_an_invariant_is_broken(rule: str) -> None:
    world = next(world for world in WORLDS if world.name == MISSED[rule])
    with pytest.raises(ViolationError) as error:
        Explorer(world, without=rule).explore()
    print(f"without {rule!r}, {model.RULES[rule]}:{error.value}")


if __name__ == "__main__":
    for world in [w for w in WORLDS if w.name in sys.argv[1:] or not sys.argv[1:]]:
        begun = time.process_time()
        try:
            n = Explorer(world).explore(100000)
        except ViolationError as e:
            print(world.name, e); continue
        print(f"{world.name:30} {n:9} {time.process_time() - begun:6.1f} s", flush=True)
