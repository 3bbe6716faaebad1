"""Explores all states of a small world of the model, breadth first, and checks every one.

A world is two or three items and processes, and how often at most time goes on, a process is
killed, a script is stopped half-way, a reply or a command is lost, or comes late. Between any two
commands of a process all others may act, so every process may stall anywhere.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import model
from model import CALLS, COMMANDS, FOREVER, NONE, Frozen, Keys, Limits

INTERVAL = 1  # time goes on by one; so lasts an autoclean interval
START = 100
SMALL = Limits(clean=1, due=2, skip=3, scans=2, mended=10)
Proc = tuple[Any, ...]


class Budget(NamedTuple):
    ticks: int
    crashes: int
    stops: int
    faults: int


class Hold(NamedTuple):
    delivery: str
    until: float  # the time it is promised for
    away: bool = False  # since then a BLMOVE moved the item


Holds = dict[str, Hold]


class State(NamedTuple):
    keys: Frozen
    procs: tuple[Proc, ...]
    wire: tuple[Any, ...]  # calls on their way, whose processes do not wait for them
    ever: frozenset[str]  # payloads that were put
    holds: frozenset[tuple[str, Hold]]  # uid -> its latest delivery, unless that is over
    hits: frozenset[tuple[str, int]]  # slot, number of what settled something, and was not answered
    budget: Budget


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
    stopped: tuple[str, ...] = tuple(CALLS)  # of these
    faults: int = 0  # replies and commands lost or late


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
    """A script, or with number 0 a command; `delivery`: uid, payload and id, if there is one."""

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
        self.checked: set[Frozen] = set()
        self.callers = len(world.callers)
        self.consumers = len(world.consumers)
        hurt = world.old or world.crashes or world.stops or world.faults or world.ticks
        self.calm = not hurt and self.callers == 1 and "undo" not in " ".join(world.consumers)
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
        budget = Budget(w.ticks, w.crashes, w.stops, w.faults)
        return State(keys.freeze(), tuple(procs), (), NONE, NONE, NONE, budget)

    def options(self, i: int, proc: Proc, keys: Frozen) -> Iterator[Option]:
        kind, gen, n, *rest = proc
        slot = f"{i}.{gen}"
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
            if keys.queue:
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
            elif step != "take" or keys.queue or keys.lock is None:
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
                uid, payload, _, token = found
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
        """What can happen, and the state after it."""
        keys, budget = state.keys, state.budget
        if budget.ticks:
            k = Keys(keys)
            k.advance(1)
            spent = budget._replace(ticks=budget.ticks - 1)
            yield "time goes on", state._replace(keys=k.freeze(), budget=spent)
        for call in dict.fromkeys(state.wire):
            if call.name != "blmove" or keys.queue:
                left = list(state.wire)
                left.remove(call)
                after = self.done(state._replace(wire=tuple(left)), call, None)
                yield f"{call.name} of {call.process} comes late", after
        for i, proc in enumerate(state.procs):
            kind, gen, n, *rest = proc
            who = f"{kind} {i}"
            if budget.crashes and kind != "dead":
                spent = budget._replace(crashes=budget.crashes - 1)
                yield f"{who} dies", become(state, i, ("dead", 0, 0))._replace(budget=spent)
            awake = (kind == "wait" and keys.now > rest[0]) or (kind == "pause" and not keys.paused)
            if awake or (kind == "pause" and keys.now > rest[0]):
                yield f"{who}: its slice ends", become(state, i, ("claim", gen, n, None, rest[0]))
            for label, call, then in self.options(i, proc, keys):
                if call is None:
                    yield f"{who}: {label}", become(state, i, then(None))
                    continue
                yield f"{who}: {label}", self.done(state, call, then)
                before = gen if kind == "again" else proc
                for what, after in self.gone_wrong(state, i, before, label, call):
                    yield f"{who}: {label}{what}", after

    def gone_wrong(
        self, state: State, i: int, proc: Proc, label: str, call: Call
    ) -> Iterator[tuple[str, State]]:
        """What may become of a call but that it is made and answered."""
        kind, gen, n, *rest = proc
        budget = state.budget
        is_cancelled = call.name == "claim" and kind == "claim" and "undo" in self.ops(i)
        undo = ("undo", gen, n + 1, call.args[0], *rest) if is_cancelled else proc
        if is_cancelled:
            yield ", cancelled", self.done(become(state, i, undo), call, None)
        if budget.faults and (call.number or call.name == "blmove"):
            state = state._replace(budget=budget._replace(faults=budget.faults - 1))
            again: Proc = ("again", label, proc)
            if call.name == "blmove":
                again = ("claim", gen, n, None, rest[0])
            yield ", its reply is lost", self.done(become(state, i, again), call, None)
            late = state._replace(wire=(*state.wire, call))
            yield ", late", become(late, i, again)
            if call.number:
                yield ", late and given up", become(late, i, self.given_up(proc))
            if is_cancelled:
                yield ", late and cancelled", become(late, i, undo)
        if budget.stops and call.number and call.name in self.world.stopped:
            state = state._replace(budget=budget._replace(stops=budget.stops - 1))
            if call.delivery is not None and call.delivery[0] in dict(state.holds):
                # What its holder has now is not certain.
                holds = dict(state.holds)
                uid = call.delivery[0]
                holds[uid] = Hold(holds[uid].delivery, 0, True)
                state = state._replace(holds=frozenset(holds.items()))
            for writes in range(1, 99):
                half, reply = self.run(state.keys, call, writes)
                if reply != "stopped":
                    break
                ever = state.ever | {payload for _, payload in half.items}
                for new in (("dead", 0, 0), self.given_up(proc)):
                    after = become(state, i, new)._replace(keys=half, ever=ever)
                    yield f", stopped after {writes} writes", after

    def given_up(self, proc: Proc) -> Proc:
        kind, gen, _, *rest = proc
        if kind == "calls":
            return (kind, gen + 1, 1, rest[0] + 1)
        if kind in ("claim", "undo"):
            return ("claim", gen + 1, 1, None, 0)
        return (kind, gen + 1, 1, *rest)

    # -- what must hold -------------------------------------------------------------------------

    def done(self, state: State, call: Call, then: Callable[[Any], Proc] | None) -> State:
        """The state after a call; `then` is what its process makes of the reply, if it gets it."""
        before, hits, holds = state.keys, state.hits, dict(state.holds)
        after, reply = self.run(before, call)
        self.latest = f"({call.name} {' '.join(map(str, call.args))} of {call.process}: {reply})"
        hit = self.judge(state, after, call, reply, holds, then is not None)
        its = (call.slot, call.number)
        if call.name in ("ack", "fail"):
            if then is None:
                hits |= {its} if hit else NONE
            elif bool(reply) != (hit or its in hits):
                broken(f"{call.name} returned {reply}, which is not the truth")
            else:
                hits -= {its}
        elif call.name in ("purge", "revive"):
            if its in hits and changed(before, after):
                broken(f"a {call.name} sent again changes something")
            hits |= {its}
        if then is not None:
            state = become(state, call.process, then(reply))
        ever = state.ever | {payload for _, payload in after.items}
        kept = frozenset(holds.items())
        return State(after, state.procs, state.wire, ever, kept, hits, state.budget)

    def judge(
        self, state: State, after: Frozen, call: Call, reply: Any, holds: Holds, answered: bool
    ) -> bool:
        """Check one call; whether it settled something. Leaves in holds who has what after it."""
        before, name, hit = state.keys, call.name, False
        if reply == "refused":
            if answered:
                broken("a call that is the caller's latest was refused")
            if changed(before, after):
                broken("a refused call changes something")
            return False
        added, removed = after.items - before.items, before.items - after.items
        for uid, payload in added:
            if payload in state.ever:
                broken(f"{payload} is put twice")
            holds.pop(uid, None)
        may_go: Any = set()
        if call.delivery is not None:
            uid, payload, delivery = call.delivery
            mine = uid in holds and holds[uid].delivery == delivery
            mine = mine and (uid, payload) in before.items
            if mine and name in ("ack", "claim"):
                may_go, hit = {(uid, payload)}, bool(removed)
                if may_go != removed and not self.world.stops:  # then a stop may have ended it
                    broken(f"{name} by the holder of {uid} does not ack it")
            elif mine and name == "touch" and reply[0]:
                holds[uid] = Hold(delivery, reply[0])
            elif mine and name != "touch" and reply:
                hit = True
                if name == "hand_back" and uid not in (*after.queue[-1:], *dict(after.priority)):
                    broken("what is handed back is not next")
            elif uid in dict(before.items) and name != "claim" and changed(before, after):
                broken(f"a stale {name} changes something")
            if hit:
                holds.pop(uid, None)
        elif name in ("ack", "old_ack"):  # by somebody without a delivery
            may_go = {each for each in removed if each[0] == call.args[0]}
            hit = bool(removed)
        elif name == "purge":
            may_go = removed
        elif name == "bury" and reply:
            holds.pop(call.args[0], None)
        if removed - may_go:
            broken(f"{name} loses {sorted(removed - may_go)}")
        if name == "revive":
            meta = dict(after.meta)
            for uid, _ in before.dead - after.dead:
                holds.pop(uid, None)
                if uid in meta and meta[uid].deliveries:
                    broken(f"{uid} is revived, and its deliveries count")
        elif name == "undo" and changed(before, after):
            for uid in [uid for uid, hold in holds.items() if hold.delivery == call.args[0]]:
                del holds[uid]
        elif name == "blmove" and reply in holds:
            holds[reply] = holds[reply]._replace(away=True)
        elif name == "claim":
            self.judge_claim(state, after, call, reply, holds, answered)
        return hit

    def judge_claim(
        self, state: State, after: Frozen, call: Call, reply: Any, holds: Holds, answered: bool
    ) -> None:
        before, w = state.keys, self.world
        delivery, woken, moved = call.args[0], *call.args[5:7]
        for uid, payload, count in zip(*[iter(reply[3:])] * 3):
            if (uid, payload) not in after.items:
                broken(f"handed out: {(uid, payload)}")
            hold = holds.get(uid, Hold("", 0))
            if hold.delivery != delivery:
                its = state.procs[call.process]
                its = its[2] if its[0] == "again" else its
                gone_on = its[0] not in ("undo", "dead") and its[2] > call.number
                if not answered and gone_on and f"{call.process}.{its[1]}" == call.slot:
                    broken("a late claim takes an item for nobody")
                if before.now < hold.until:
                    broken(f"{uid} is handed out while {hold.delivery} has it")
                if dict(before.delayed).get(uid, 0) > before.now:
                    broken(f"{uid} comes early")
                if any(each.delivery == delivery for each in holds.values()):
                    broken("one get takes two items")
                if self.calm and count == 1:
                    self.judge_order(before, uid)
            # 3.0.0 promises nothing for what is out without a lease.
            holds[uid] = Hold(delivery, reply[2] or (0 if w.old else before.now + INTERVAL))
        still_there = woken and moved in after.ackbuf and moved in dict(after.items)
        if still_there and not self.copies and (moved not in holds or holds[moved].away):
            broken(f"{moved}, moved for this claim, was not claimed by it")

    def judge_order(self, before: Frozen, uid: str) -> None:
        meta = dict(before.meta)

        def level(uid: str) -> int:
            about = meta.get(uid)
            return 0 if about is None or about.score is None else about.score // model.BAND

        for other in (*before.queue, *dict(before.priority)):
            new = other not in meta or (meta[other].score and meta[other].deliveries == 0)
            if other in dict(before.items) and new and (level(other), other) < (level(uid), uid):
                broken(f"{uid} is handed out before {other}")

    def check(self, state: State) -> None:
        keys, w = state.keys, self.world
        if keys not in self.checked:
            self.checked.add(keys)
            self.check_places(keys)
            self.drain(keys)
        unhurt = state.budget[1:] == (w.crashes, w.stops, w.faults)
        if self.bells and unhurt and keys.priority and not keys.queue and not keys.paused:
            kinds = {proc[0] for proc in state.procs}
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
        labels = [f"{what}: {show(state.keys)}", self.latest]
        while came[state] is not None:
            state, label = came[state]
            labels.append(label)
        return "\n  ".join(["", *reversed(labels)])


def become(state: State, i: int, proc: Proc) -> State:
    return state._replace(procs=(*state.procs[:i], proc, *state.procs[i + 1 :]))


def changed(before: Frozen, after: Frozen) -> bool:
    """Whether anything changed beside last."""
    return before._replace(last=NONE) != after._replace(last=NONE)


def show(keys: Frozen) -> dict[str, Any]:
    return {name: value for name, value in vars(Keys(keys)).items() if value}
