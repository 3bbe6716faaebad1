"""What the processes of a small world may do, and what may go wrong: every step from a state.

Between any two steps of a process all others may act, so every process may stall anywhere. A wait
is two steps, BLMOVE and the claim behind it. What a process has sent, and awaits no longer, comes
at any later time or never: as what a half-open connection holds, or one that is closed.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from keys import COMMANDS, NONE, Frozen, Keys, Limits, Meta, StoppedError, SupersededError
from model import CALLS, Terms

INTERVAL = 1  # time goes on by one; so lasts an autoclean interval
START = 100
# What is removed while it is ready is too deep in the list to be found: there is always a ghost.
SMALL = Limits(clean=1, due=3, skip=3, searches=2, reach=0, mended=10, uid=".")


class Budget(NamedTuple):
    ticks: int
    crashes: int
    stops: int
    faults: int


class Hold(NamedTuple):
    delivery: str
    until: float  # the time it is promised for


class World(NamedTuple):
    """Processes and their programs, and how often what goes wrong may go wrong."""

    name: str
    callers: tuple[tuple[tuple[Any, ...], ...], ...] = ()  # calls one after the other
    consumers: tuple[str, ...] = ()  # what each may do with an item, and with its get
    calls: int = 6  # claims of a consumer at most
    old: tuple[str, ...] = ()  # 3.0.0 consumers
    lease: int | None = None
    most: int | None = None
    count: int = 1  # of items that a consumer wants at once
    slice: int = 1
    prompt: bool = False  # time stands still while a consumer has something to do at once
    ticks: int = 0
    crashes: int = 0  # a process is killed between two commands
    stops: int = 0  # a command of a script fails
    stopped: tuple[str, ...] = tuple(CALLS)  # of these
    faults: int = 0  # replies and commands lost or late


# What a consumer may do with an item: the script, and its arguments but for the item.
ENDS: dict[str, tuple[str, tuple[Any, ...]]] = {
    "ack": ("ack", ()),
    "fail": ("fail", (0,)),
    "delay": ("fail", (1,)),
    "touch": ("touch", (INTERVAL,)),
    "hand back": ("hand_back", (1,)),
    "bury": ("bury", ()),
}


class Proc(NamedTuple):
    """A process: what it is about, and what it knows.

    calls   index                            a caller, before the call of that index
    claim   watching                         a consumer in get
    wait    until, watching                  in get, its BLMOVE blocked
    behind  watching, is_last                in get, its BLMOVE over, the claim behind that to come
    pause   since                            in get, asleep
    out     uid, payload, token, delivery    with items, each of these
    over    the same                         still thinking it has one
    undo    token, watching                  in a get that was cancelled
    old     step, uid                        3.0.0, in get, or with an item
    again   label, process                   about to send that again
    gone, dead
    """

    kind: str
    gen: int = 0  # of its slot
    claims: int = 1  # the number of its next claim
    calls: int = 2  # and of its next call of another script
    about: tuple[Any, ...] = ()

    def then(self, kind: str, *about: Any) -> Proc:
        return self._replace(kind=kind, about=about)


class Call(NamedTuple):
    """A script, or with number 0 a command; of each delivery uid, payload and id."""

    process: int
    name: str
    slot: str
    number: int
    args: tuple[Any, ...]
    deliveries: tuple[tuple[str, str, str], ...] = ()
    waits: bool = False  # it stands behind a BLMOVE that is not over

    def with_how(self, more: str) -> Call:
        """A claim, with more letters that say how."""
        about, how, *rest = self.args
        return self._replace(args=(about, more + how, *rest))

    def sent_again(self) -> Call:
        """A claim: never behind a BLMOVE, and what it was told to watch for is not known."""
        about, how, terms, *rest = self.args
        how = "ag" + ("w" if "w" in how else "")
        return self._replace(args=(about, how, terms._replace(watching="any"), *rest))


class State(NamedTuple):
    keys: Frozen
    procs: tuple[Proc, ...]
    wire: tuple[Call, ...]  # on their way, and no process awaits their replies
    ever: tuple[str, ...]  # payloads that were put, in that order
    holds: frozenset[tuple[str, Hold]]  # uid -> its latest delivery, unless that is over
    hits: frozenset[tuple[str, int]]  # slot, number of what settled something, and was not answered
    budget: Budget


Option = tuple[str, Call | None, Callable[[Any], Proc]]
Step = tuple[str, State]


def become(state: State, i: int, proc: Proc) -> State:
    return state._replace(procs=(*state.procs[:i], proc, *state.procs[i + 1 :]))


class Processes:
    """The steps of a world, without one of the rules or with all of them."""

    def __init__(self, world: World, without: str = "") -> None:
        self.world, self.without = world, without
        self.run = functools.cache(self.run_script)
        self.callers = len(world.callers)
        self.consumers = len(world.consumers)

    def start(self) -> State:
        keys, w = Keys(), self.world
        keys.now = START
        # Their slots have been in use, so that the next call may go the quick way; the first of
        # those that they take later cannot.
        keys.call = {f"{i}.0": 1 for i in range(self.callers + self.consumers)}
        procs = [Proc("calls", about=(0,))] * self.callers
        procs += [Proc("claim", about=(None,))] * self.consumers
        procs += [Proc("old", about=("lock?", None))] * len(w.old)
        budget = Budget(w.ticks, w.crashes, w.stops, w.faults)
        return State(keys.freeze(), tuple(procs), (), (), NONE, NONE, budget)

    def ops(self, i: int) -> list[str]:
        return [op.replace("_", " ") for op in self.world.consumers[i - self.callers].split()]

    def may_claim(self, proc: Proc) -> bool:
        return proc.claims <= self.world.calls

    def is_awake(self, proc: Proc, keys: Frozen) -> bool:
        """Whether a consumer has something to do at once."""
        if proc.kind == "wait":
            return self.may_claim(proc) and (bool(keys.queue) or keys.now >= proc.about[0])
        if proc.kind == "pause":
            return self.may_claim(proc) and not keys.paused
        if proc.kind in ("claim", "behind"):
            return self.may_claim(proc)
        return proc.kind in ("again", "undo")

    # -- what a process does next ---------------------------------------------------------------

    def options(self, i: int, proc: Proc, keys: Frozen) -> Iterator[Option]:
        kind, about, slot = proc.kind, proc.about, f"{i}.{proc.gen}"
        if kind == "again":
            label, before = about
            for each, call, then in self.options(i, before, keys):
                if each == label and call is not None:
                    yield label, call.sent_again() if call.name == "claim" else call, then
        elif kind == "calls":
            calls = self.world.callers[i]
            if about[0] < len(calls):
                name, *args = calls[about[0]]
                number = 0 if name in COMMANDS else proc.calls
                after = proc._replace(calls=proc.calls + 1, about=(about[0] + 1,))
                yield name, Call(i, name, slot, number, tuple(args)), lambda _: after
        elif kind == "claim" and self.may_claim(proc):
            yield from self.claims(i, proc, "w", about[0])
        elif kind == "behind" and self.may_claim(proc):
            yield from self.claims(i, proc, "b" if about[1] else "bw", about[0])
        elif kind == "wait" and self.may_claim(proc):
            after = proc.then("behind", about[1], False)
            if keys.queue:
                yield "BLMOVE", Call(i, "blmove", slot, 0, ()), lambda _: after
            elif keys.now >= about[0]:
                yield "its slice ends", None, lambda _: after
            if "leave" in self.ops(i):
                yield "its time is over", None, lambda _: proc.then("behind", about[1], True)
        elif kind == "pause" and self.may_claim(proc):
            if not keys.paused or keys.now > about[0]:
                yield "looks again", None, lambda _: proc.then("claim", None)
            if "leave" in self.ops(i):
                yield "its time is over", None, lambda _: proc.then("gone")
        elif kind in ("out", "over"):
            yield from self.ends(i, proc)
        elif kind == "undo":
            args = (about[0], about[1], self.world.slice)
            after = proc._replace(claims=proc.claims + 1).then("claim", None)
            yield "undo", Call(i, "undo", slot, proc.claims, args), lambda _: after
        elif kind == "old":
            yield from self.old(i, *about, keys)

    def claims(
        self, i: int, proc: Proc, how: str, watching: int | str | None, *acks: str
    ) -> Iterator[Option]:
        """One that goes the lean way, if it can, and one that goes the general way."""
        w, slot, n = self.world, f"{i}.{proc.gen}", proc.claims
        about, terms = Meta(1, START, f"{slot}:{n}"), Terms(watching, w.slice, INTERVAL, w.most)
        call = Call(i, "claim", slot, n, (about, how, terms, w.count, w.lease, *acks))

        def then(reply: Any) -> Proc:
            now, verdict, _, *found = reply
            after = proc._replace(claims=n + 1)
            if found:
                return after.then("out", *((*each[:2], each[3], f"{slot}:{n}") for each in found))
            if verdict == 0:
                return after.then("claim", None)
            if verdict == -2:
                return after.then("pause", now)
            if "w" not in how:
                return after.then("gone")
            to_watch = now + verdict if verdict > 0 else None
            return after.then("wait", to_watch or now + w.slice, to_watch)

        if watching is None:
            yield "claim", call, then
        yield "claim, keeping house", call.with_how("g"), then

    def ends(self, i: int, proc: Proc) -> Iterator[Option]:
        (uid, payload, token, delivery), *rest = proc.about
        about = ((uid, payload, delivery),)
        if payload == "poison":
            yield "is killed by it", None, lambda _: Proc("claim", proc.gen + 1, about=(None,))
            return
        for op in ("bury",) if payload == "bad" else self.ops(i):
            if op == "drop" and proc.kind == "out" and self.may_claim(proc):
                yield op, None, lambda _: proc.then("claim", None)
            elif op in ENDS and (proc.kind == "out" or op in ("ack", "fail")):
                name, args = ENDS[op]
                if name == "fail":
                    args = (self.world.most, "", self.world.slice, uid, token, *args)
                else:
                    args = (*args, uid, token) if name != "bury" else (uid, token, "bad")
                after = proc._replace(calls=proc.calls + 1)
                if name == "touch" and proc.calls > self.world.calls:
                    continue
                if name != "touch" and rest:
                    after = after.then("out", *rest)
                elif name != "touch" and proc.kind == "out" and "over" in self.ops(i):
                    after = after.then("over", *proc.about)
                elif name != "touch":
                    after = after.then("claim", None)
                call = Call(i, name, f"{i}.{proc.gen}", proc.calls, args, about)
                yield op, call, functools.partial(lambda after, _: after, after)
            elif op == "ack all" and proc.kind == "out" and rest:
                args = tuple(part for each in proc.about for part in (each[0], each[2]))
                every = tuple((each[0], each[1], each[3]) for each in proc.about)
                after = proc._replace(calls=proc.calls + 1).then("claim", None)
                call = Call(i, "ack", f"{i}.{proc.gen}", proc.calls, args, every)
                yield op, call, functools.partial(lambda after, _: after, after)
            elif op == "next" and proc.kind == "out" and self.may_claim(proc):
                for label, call, then in self.claims(i, proc, "w", None, uid, token):
                    assert call is not None
                    yield f"ack and {label}", call._replace(deliveries=about), then

    def old(self, i: int, step: str, uid: str | None, keys: Frozen) -> Iterator[Option]:
        again = Proc("old", about=("lock?", None))
        if uid is not None and uid not in dict(keys.items):
            yield "old: nothing", None, lambda _: again
        elif uid is not None:
            for op in self.world.old[i - self.callers - self.consumers].split():
                yield f"old {op}", Call(i, f"old_{op}", "", 0, (uid,)), lambda _: again
        elif step != "take" or keys.queue or keys.lock is None:
            call = Call(i, "old_get", "", 0, (step, INTERVAL))
            yield f"old {step}", call, lambda said: Proc("old", about=said)

    # -- what happens then -----------------------------------------------------------------------

    def run_script(self, keys: Frozen, call: Call, left: int = -1) -> tuple[Frozen, Any, bool]:
        """The keys after a call, its reply, and whether the write after so many failed."""
        k = Keys(keys, self.without, SMALL, left)
        name, args = call.name, call.args
        if call.number == 0:
            reply = COMMANDS[name](k, *args)
        else:
            if name == "claim":
                args = (args[0]._replace(time=k.now), *args[1:])
            try:
                reply = CALLS[name](k, call.slot, call.number, *args)
            except SupersededError:
                reply = "refused"
            except StoppedError:
                reply = "stopped"
        if name == "claim" and reply not in ("refused", "stopped"):
            found = [each for each in zip(*[iter(reply[3:])] * 3) if each[2] >= 0]
            reply = (k.now, *reply[1:3], *((*each, token_of(k, each[0])) for each in found))
        return k.freeze(), reply, k.has_failed

    def next(self, state: State) -> Iterator[Step]:
        """What can happen, and the state after it."""
        keys, budget = state.keys, state.budget
        is_quiet = not any(self.is_awake(proc, keys) for proc in state.procs)
        if budget.ticks and (is_quiet or not self.world.prompt):
            yield "time goes on", self.later(state)
        for call in dict.fromkeys(state.wire):
            left = list(state.wire)
            left.remove(call)
            who = f"{call.name} of {call.process}"
            if call.waits:
                arrived = state._replace(wire=(*left, call._replace(waits=False)))
                if keys.queue:
                    move = Call(call.process, "blmove", call.slot, 0, ())
                    yield f"the BLMOVE before {who}", self.done(arrived, move, None)
                yield f"the BLMOVE before {who} ends", arrived
                continue
            hows = ("", "g") if call.name == "claim" and "g" not in call.args[1] else ("",)
            for how in hows:
                sent = call.with_how(how) if how else call
                after = self.done(state._replace(wire=tuple(left)), sent, None)
                yield f"{who} comes late{how and ', keeping house'}", after
        for i, proc in enumerate(state.procs):
            who = f"{proc.kind} {i}"
            if budget.crashes and proc.kind not in ("dead", "gone"):
                spent = state._replace(budget=budget._replace(crashes=budget.crashes - 1))
                yield f"{who} dies", become(self.left_alone(spent, i, proc), i, Proc("dead"))
            if proc.kind in ("wait", "behind") and self.may_claim(proc):
                for what, after in self.interrupted(state, i, proc):
                    yield f"{who}{what}", after
            for label, call, then in self.options(i, proc, keys):
                if call is None:
                    yield f"{who}: {label}", become(state, i, then(None))
                    continue
                yield f"{who}: {label}", self.done(state, call, then)
                before = proc.about[1] if proc.kind == "again" else proc
                if call.number and proc.kind != "behind":
                    for what, after in self.gone_wrong(state, i, before, label, call):
                        yield f"{who}: {label}{what}", after

    def later(self, state: State) -> State:
        k = Keys(state.keys)
        k.advance(1)
        spent = state.budget._replace(ticks=state.budget.ticks - 1)
        return state._replace(keys=k.freeze(), budget=spent)

    def left_alone(self, state: State, i: int, proc: Proc) -> State:
        """What a process that waits has sent is still to come."""
        if proc.kind not in ("wait", "behind") or not self.may_claim(proc):
            return state
        waits = proc.kind == "wait"
        watching, how = proc.about[waits], "b" if not waits and proc.about[1] else "bw"
        call = next(iter(self.claims(i, proc, how, watching)))[1]
        assert call is not None
        return state._replace(wire=(*state.wire, call._replace(waits=waits)))

    def interrupted(self, state: State, i: int, proc: Proc) -> Iterator[Step]:
        """What may become of a wait but that it ends, and is answered."""
        watching = proc.about[proc.kind == "wait"]
        if "undo" in self.ops(i):
            token = f"{i}.{proc.gen}:{proc.claims}"
            undo = proc._replace(claims=proc.claims + 1).then("undo", token, "any")
            yield " is cancelled", become(self.left_alone(state, i, proc), i, undo)
        if state.budget.faults:
            state = state._replace(budget=state.budget._replace(faults=state.budget.faults - 1))
            state = self.left_alone(state, i, proc)
            again = proc.then("again", "claim, keeping house", proc.then("claim", watching))
            yield " hears nothing", become(state, i, again)
            yield " gives up", become(state, i, given_up(proc))

    def gone_wrong(
        self, state: State, i: int, proc: Proc, label: str, call: Call
    ) -> Iterator[Step]:
        """What may become of a call but that it is made and answered."""
        budget = state.budget
        is_cancelled = call.name == "claim" and proc.kind == "claim" and "undo" in self.ops(i)
        undo = proc
        if is_cancelled:
            token = f"{i}.{proc.gen}:{proc.claims}"
            undo = proc._replace(claims=proc.claims + 1).then("undo", token, "any")
            yield ", cancelled", self.done(become(state, i, undo), call, None)
        if budget.faults:
            state = state._replace(budget=budget._replace(faults=budget.faults - 1))
            again = proc.then("again", label, proc)
            yield ", its reply is lost", self.done(become(state, i, again), call, None)
            late = state._replace(wire=(*state.wire, call))
            yield ", late", become(late, i, again)
            yield ", late and given up", become(late, i, given_up(proc))
            if is_cancelled:
                yield ", late and cancelled", become(late, i, undo)
        if budget.stops and call.name in self.world.stopped:
            state = state._replace(budget=budget._replace(stops=budget.stops - 1))
            yield from self.failed(state, i, proc, label, call)

    def failed(self, state: State, i: int, proc: Proc, label: str, call: Call) -> Iterator[Step]:
        """A command of the script fails."""
        again = proc.then("again", label, proc)  # that it failed is lost, too
        for writes in range(99):
            half, reply, has_failed = self.run(state.keys, call, writes)
            if not has_failed:
                break
            if reply == "stopped":
                # What a holder has now is not certain. Nor is what all have whose time would only
                # have begun with the lock that autoclean did not set.
                uncertain = {uid for uid, _, _ in call.deliveries}
                uncertain |= set(half.backup) if half.lock is None else set()
                holds = [
                    (uid, hold._replace(until=0) if uid in uncertain else hold)
                    for uid, hold in state.holds
                ]
                added = [each for _, each in sorted(half.items) if each not in state.ever]
                left = state._replace(keys=half, ever=(*state.ever, *added), holds=frozenset(holds))
                may_retry = call.name in ("put", "put_new") and not added
                for after in (Proc("dead"), given_up(proc), *[again] * may_retry):
                    yield f", write {writes + 1} fails", become(left, i, after)

    def done(self, state: State, call: Call, then: Callable[[Any], Proc] | None) -> State:
        raise NotImplementedError


def given_up(proc: Proc) -> Proc:
    """With another slot, whatever becomes of what it has sent."""
    fresh = Proc(proc.kind, proc.gen + 1, about=proc.about)
    if proc.kind == "calls":
        return fresh._replace(about=(proc.about[0] + 1,))
    if proc.kind in ("claim", "undo", "wait", "behind"):
        return fresh.then("claim", None)
    return fresh


def token_of(k: Keys, uid: str) -> str:
    return k.meta[uid].token if uid in k.meta else ""
