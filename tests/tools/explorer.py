"""Explores all states of a small world of the model, breadth first, and checks every one."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import model
from keys import FOREVER, HANDED_BACK, NONE, Frozen, Keys, Meta
from model import Terms
from processes import (
    INTERVAL,
    SMALL,
    Call,
    Hold,
    Proc,
    Processes,
    State,
    Step,
    World,
    become,
)

PLACES = ("queue", "handed", "priority", "delayed", "held", "ackbuf", "backup", "leases", "dead")
Holds = dict[str, Hold]


class ViolationError(AssertionError):
    """An invariant does not hold."""


def broken(what: str) -> None:
    raise ViolationError(what)


class Explorer(Processes):
    """The states of a world, without one of the rules or with all of them."""

    def __init__(self, world: World, without: str = "") -> None:
        super().__init__(world, without)
        self.checked: set[Frozen] = set()
        calls = [call for calls in world.callers for call in calls]
        # Where a uid stands twice at times, get drops the second copy.
        several = any(call[0] == "ack" and call[3:] for call in calls)
        self.copies = bool(world.old or world.stops or several)
        # Not where an item goes to the back of the queue, or anywhere else, after it was put.
        names = {call[0] for call in calls}
        late = any(call[0] == "put" and (call[1] or call[5]) for call in calls)
        self.ordered = not (self.copies or late or "revive" in names)
        self.poison = any("poison" in call for call in calls)
        self.latest = ""

    # -- what must hold of a call ---------------------------------------------------------------

    def done(self, state: State, call: Call, then: Callable[[Any], Proc] | None) -> State:
        """The state after a call; `then` is what its process makes of the reply, if it gets it."""
        before, hits, holds = state.keys, state.hits, dict(state.holds)
        after, reply, _ = self.run(before, call)
        self.latest = f"({call.name} {' '.join(map(str, call.args))} of {call.process}: {reply})"
        ever = (*state.ever, *self.new_items(state, after))
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
        elif call.name == "put_new" and then is not None and call.args[1] not in ever:
            broken(f"{call.args[1]} is said to be put, and is not")
        if then is not None:
            state = become(state, call.process, then(reply))
        return State(
            after, state.procs, state.wire, ever, frozenset(holds.items()), hits, state.budget
        )

    def new_items(self, state: State, after: Frozen) -> list[str]:
        added = [payload for _, payload in sorted(after.items - state.keys.items)]
        for payload in added:
            if payload in state.ever:
                broken(f"{payload} is put twice")
        return added

    def judge(
        self, state: State, after: Frozen, call: Call, reply: Any, holds: Holds, answered: bool
    ) -> bool:
        """Check one call; whether it settled something. Leaves in holds who has what after it."""
        before, name, hit = state.keys, call.name, False
        if reply == "refused":
            if answered:
                broken("a call that is the caller's latest was refused")
            if seamless(before) != seamless(after):
                broken("a refused call changes something")
            return False
        removed = before.items - after.items
        for uid, _ in after.items - before.items:
            holds.pop(uid, None)
        may_go: Any = set()
        if call.deliveries:
            mine = {
                (uid, payload)
                for uid, payload, delivery in call.deliveries
                if uid in holds and holds[uid].delivery == delivery
            } & before.items
            uid, _, delivery = call.deliveries[0]
            if mine and name in ("ack", "claim"):
                may_go, hit = mine, bool(removed)
                if may_go != removed and not self.world.stops:  # then a stop may have ended it
                    broken(f"{name} by the holder of {mine} does not ack it")
            elif mine and name == "touch" and reply[0]:
                holds[uid] = Hold(delivery, reply[0])
            elif mine and name != "touch" and reply:
                hit = True
                if name == "hand_back" and not is_next(after, uid):
                    broken("what is handed back is not next")
            elif mine or name == "claim" or uid not in dict(before.items):
                pass
            elif changed(before, after):
                broken(f"a stale {name} changes something")
            for uid, _ in mine if hit else ():
                holds.pop(uid, None)
        elif name in ("ack", "old_ack"):  # by somebody without a delivery
            may_go = {each for each in removed if each[0] in call.args[::2]}
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
            self.judge_undo(before, after, call.args[0], holds)
        elif name == "claim":
            self.judge_claim(state, after, call, reply, holds, answered)
        return hit

    def judge_undo(self, before: Frozen, after: Frozen, token: str, holds: Holds) -> None:
        was, counts = dict(before.meta), {uid: about.deliveries for uid, about in after.meta}
        for uid in [uid for uid, hold in holds.items() if hold.delivery == token]:
            undone = uid in was and was[uid].token != dict(after.meta)[uid].token
            if undone and counts[uid] >= was[uid].deliveries:
                broken(f"what is undone of {uid} counts")
            del holds[uid]

    def judge_claim(
        self, state: State, after: Frozen, call: Call, reply: Any, holds: Holds, answered: bool
    ) -> None:
        before, w = state.keys, self.world
        delivery = f"{call.slot}:{call.number}"
        for uid, payload, count, _ in reply[3:]:
            if (uid, payload) not in after.items:
                broken(f"handed out: {(uid, payload)}")
            hold = holds.get(uid, Hold("", 0))
            if hold.delivery != delivery:
                its = state.procs[call.process]
                its = its.about[1] if its.kind == "again" else its
                gone_on = its.kind not in ("undo", "dead") and its.claims > call.number
                if not answered and gone_on and f"{call.process}.{its.gen}" == call.slot:
                    broken("a late claim takes an item for nobody")
                if before.now < hold.until:
                    broken(f"{uid} is handed out while {hold.delivery} has it")
                if dict(before.delayed).get(uid, 0) > before.now:
                    broken(f"{uid} comes early")
                if sum(each.delivery == delivery for each in holds.values()) >= w.count:
                    broken("one get takes two items")
                if self.ordered and count == 1:
                    self.judge_order(state, uid, payload, [each[0] for each in reply[3:]])
            # 3.0.0 promises nothing for what is out without a lease. To be told again of what was
            # handed out before makes no difference.
            until = 0 if w.old else before.now + INTERVAL
            if hold.delivery == delivery:
                until = hold.until
            holds[uid] = Hold(delivery, reply[2] or until)

    def judge_order(self, state: State, uid: str, payload: str, taken: list[str]) -> None:
        """Of those that are ready and were never delivered the one put first is next."""
        before = state.keys
        meta, items = dict(before.meta), dict(before.items)

        def rank(uid: str, payload: str) -> tuple[int, int]:
            about = meta.get(uid)
            level = 0 if about is None or about.score is None else about.score // model.BAND
            return level, state.ever.index(payload)

        for other in (*before.handed, *before.queue, *dict(before.priority)):
            new = other in items and not (other in meta and meta[other].deliveries)
            if new and other not in taken and rank(other, items[other]) < rank(uid, payload):
                broken(f"{uid} is handed out before {other}")

    # -- what must hold of a state ----------------------------------------------------------------

    def check(self, state: State) -> None:
        keys = essence(state.keys)
        if keys not in self.checked:
            self.checked.add(keys)
            self.check_places(keys)
            self.drain(keys)
        self.check_waiters(state)

    def check_places(self, keys: Frozen) -> None:
        k = Keys(keys)
        for uid in k.items:
            standing = [name for name in PLACES for each in getattr(k, name) if each == uid]
            if not standing:
                broken(f"{uid} stands nowhere")
            ghosts = k.meta[uid].ghosts if uid in k.meta else 0
            if len(standing) > 1 + ghosts and not self.copies:
                broken(f"{uid} stands in {standing}")
            if uid in k.dead and self.poison and k.items[uid] != "poison":
                broken(f"{uid} is dead, and killed nobody")

    def check_waiters(self, state: State) -> None:
        """None who waits sleeps while an item is ready that only a claim can see."""
        keys, procs = state.keys, state.procs
        if keys.paused or keys.queue or not (keys.handed or keys.priority):
            return
        waiting = any(proc.kind == "wait" and self.may_claim(proc) for proc in procs)
        awake = any(self.is_awake(proc, keys) for proc in procs)
        if waiting and not awake and not is_woken(state):
            items = dict(keys.items)
            if any(uid in items for uid in (*keys.handed, *dict(keys.priority))):
                broken("items are ready, and those who wait do not see them")

    def later(self, state: State) -> State:
        if self.world.prompt:
            self.check_watchers(state)
        return super().later(state)

    def check_watchers(self, state: State) -> None:
        """Nobody has anything to do at once, and time goes on."""
        keys, w = state.keys, self.world
        waiting = [proc for proc in state.procs if proc.kind == "wait"]
        if not all(map(self.may_claim, waiting)):
            return  # here the world ends
        if is_woken(state):
            return
        # One who died, or did not hear that it was to watch, may be replaced at the end of a slice.
        lost = state.budget.crashes < w.crashes or state.budget.faults < w.faults
        late = w.slice if lost else 0
        if waiting and any(math.ceil(due) <= keys.now - late for _, due in keys.delayed):
            broken("an item is due, and those who wait do not see it")
        watched = [proc.about[1] for proc in waiting if proc.about[1] is not None]
        if any(watched.count(due) > 2 for due in watched):
            broken("three watch for the same")

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
            bounds[uid] = max(bound, k.leases.get(uid, 0), math.ceil(k.delayed.get(uid, 0)))
        for uid in (*k.dead, *k.held):
            bounds.pop(uid, None)
        number = 0
        while True:
            number += 1
            if number > 100:
                broken("a claim comes to no end")
            about = Meta(1, k.now, f"drain:{number}")
            terms = Terms(None, self.world.slice, INTERVAL, self.world.most)
            reply = model.claim(k, "drain", number, about, "g", terms, 1, None)
            for uid in k.dead:
                bounds.pop(uid, None)
            found = [each for each in zip(*[iter(reply[3:])] * 3) if each[2] >= 0]
            if found:
                uid, payload, _ = found[0]
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
                    step: Step | None = None
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


def essence(keys: Frozen) -> Frozen:
    """What becomes of items does not depend on what is noted of calls."""
    return keys._replace(call=NONE, said=NONE, last=NONE, watch=None)


def seamless(keys: Frozen) -> Frozen:
    """Nor on where the front of the list ends and what was handed begins."""
    return essence(keys)._replace(queue=(*keys.queue, *keys.handed), handed=())


def is_woken(state: State) -> bool:
    """Whether the claim behind a BLMOVE that is over is to come, from one who is gone.

    It passes on what that took. If its connection is closed just then, the next slice sees it.
    """
    claims = [call for call in state.wire if call.name == "claim" and not call.waits]
    return any("b" in call.args[1] for call in claims)


def changed(before: Frozen, after: Frozen) -> bool:
    return essence(before) != essence(after)


def is_next(keys: Frozen, uid: str) -> bool:
    """At the front of the queue, or behind others that were handed back."""
    meta = dict(keys.meta)
    if uid in dict(keys.priority):
        return True
    for entry in reversed((*keys.queue, *keys.handed)):
        if entry == uid:
            return True
        if entry not in meta or meta[entry].token != HANDED_BACK:
            return False
    return False


def show(keys: Frozen) -> dict[str, Any]:
    return {name: value for name, value in vars(Keys(keys)).items() if value}
