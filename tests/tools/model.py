"""The queue's protocol as plain Python: what each script does to the keys, command for command.

A specification to be explored (worlds.py) and compared with the scripts themselves on a server
(conformance.py). Every write can fail, and ends the script, unless that is looked for.

Not modelled: scripts that only read, limits in bytes, and writes only made so that those after
them need no memory.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from keys import (
    FOREVER,
    HANDED_BACK,
    NEW,
    OVER,
    Keys,
    Meta,
    StoppedError,
    SupersededError,
    in_order,
)
from pieces import (
    answer,
    counted,
    delay_until,
    empty_handed,
    forget,
    forget_meta,
    give_back,
    in_flight,
    keep_house,
    leave,
    make_ready,
    pass_on,
    retire,
    ring,
    settle_out,
    stop_watching,
    theirs,
    to_watch,
    told,
)

BAND = 8796093022208  # scores of one priority: 2^43 ms

# -- put -------------------------------------------------------------------------------------------


def put_new(k: Keys, slot: str, number: int, *fields: str) -> Any:
    pairs, rule = list(zip(fields[::2], fields[1::2])), "put is numbered"
    if counted(k, slot, number, rule):
        pushed = False
        try:
            k.push("LPUSH", k.queue, *fields[::2])
            pushed = True
            k.set(k.items, *pairs)
        except StoppedError:
            for uid, _ in pairs if pushed else ():
                k.lrem(k.queue, uid, last=False)
            if k.rule("a failed count is taken back"):
                k.uncount(slot)
            raise
        return len(pairs)
    if told(k, slot, number, rule, len(pairs)) is None:
        k.push("LPUSH", k.queue, *fields[::2])
        k.set(k.items, *pairs)
    return answer(k, slot, number, len(pairs), len(pairs))


def put(
    k: Keys, slot: str, number: int, delay: int | None, due: float | None, level: int,
    maxsize: int | None, hold: bool, slice_: int, *fields: str,
) -> Any:  # fmt: skip
    every = len(fields) // 2
    said = told(k, slot, number, "put is numbered", every)
    if said is not None:
        return answer(k, slot, number, said, every)
    pairs = [each for each in zip(fields[::2], fields[1::2]) if each[0] not in k.items]
    if maxsize is not None and pairs and len(k.items) + len(pairs) > maxsize:
        return answer(k, slot, number, -1)
    if not pairs:
        return answer(k, slot, number, 0)
    if not k.rule("place before payload"):
        k.set(k.items, *pairs)
    base = -level * BAND
    top = max((score for score in k.priority.values() if base <= score < base + BAND), default=base)
    if delay is not None:
        due = k.now + delay
    if due is not None and due <= k.now:
        due = None
    for i, (uid, _) in enumerate(pairs):
        ghosts = k.meta.get(uid, NEW).ghosts if k.rule("put keeps ghosts") else 0
        score = max(base + k.now, int(top)) + i + 1 if level else None
        if level == 0 and due is None and not hold:
            k.push("LPUSH", k.queue, uid)
            if k.rule("put drops old meta"):
                forget_meta(k, uid, ghosts)
            continue
        if level or k.rule("delayed has meta"):
            k.set(k.meta, (uid, NEW._replace(score=score, ghosts=ghosts)))
        if hold:
            k.set(k.held, (uid, k.now))
        elif due is not None:
            delay_until(k, due, uid, slice_)
        else:
            k.set(k.priority, (uid, score))
    k.set(k.items, *pairs)
    if level and due is None and not hold and k.rule("bell"):
        ring(k)
    return answer(k, slot, number, len(pairs), every)


# -- claim -----------------------------------------------------------------------------------------


class Terms(NamedTuple):
    """What only the general way of a claim needs."""

    watching: int | str | None  # the due time that its caller was told to watch for, or 'any'
    slice: int
    interval: int | None
    most: int | None


def claim(
    k: Keys, slot: str, number: int, about: Meta, how: str, terms: Terms, count: int,
    lease: int | None, *acks: str,
) -> Any:  # fmt: skip
    """Now, verdict, deadline, and uid, payload, deliveries of each delivery; below zero of a death.

    about: meta of a first delivery. how: letters: g the general way is due, b a BLMOVE stands
    before this, a this was sent before, w who calls will wait, h who calls has others already.
    """
    this = Claim(k, slot, number, about, how, terms, count, lease)
    if number > this.latest:
        if acks and settle_out(k, acks) is None:
            forget(k, *theirs(k, acks))
        reply = this.quick() if how in ("", "w", "h", "b", "bw") else None
        if reply is not None:
            return reply
        must_look = "a" in how or (terms.watching is not None and k.rule("who watches looks"))
        if not must_look and is_bare(k):
            return (k.now, -1, 0)
    return this.general()


def is_bare(k: Keys) -> bool:
    """Where there is nothing at all, there is nothing to look after."""
    keys = (k.items, k.queue, k.handed, k.ackbuf, k.backup, k.meta, k.leases, k.delayed)
    return not any((*keys, k.priority, k.held, k.dead, k.reasons, k.paused, k.lock == FOREVER))


class Claim:
    def __init__(
        self, k: Keys, slot: str, number: int, about: Meta, how: str, terms: Terms, count: int,
        lease: int | None,
    ) -> None:  # fmt: skip
        self.k, self.slot, self.number, self.about, self.how = k, slot, number, about, how
        self.terms, self.count, self.lease = terms, count, lease
        self.latest, self.known = k.last.get(slot, (0, ()))
        if not k.rule("claim is numbered"):
            self.latest = 0
        self.ends = 0 if lease is None else k.now + lease
        self.taken: list[str] = []
        self.found: list[Any] = []
        self.searches = 0
        self.took_entry = False  # whether of the list

    def note(self, *uids: str) -> None:
        self.k.set(self.k.last, (self.slot, (self.number, uids)))

    # What was never delivered, from the front of the list, if nothing rarely used is in use.

    def quick(self) -> Any:
        k, rare = self.k, bool(self.k.priority or self.k.paused)
        if "b" in self.how:
            return self.take_one(k.handed) if self.count == 1 and not rare else None
        if rare or (k.handed and k.rule("handed first")):
            return None
        return self.take_one(k.queue) if self.count == 1 else self.take_some()

    def first(self, deliveries: int = 1) -> Meta:
        token = self.about.token if self.k.rule("tokens, not counts") else str(deliveries)
        return self.about._replace(token=token)

    def out(self, *uids: str) -> None:
        """To where they are out."""
        if self.lease is None:
            self.k.push("LPUSH", self.k.ackbuf, *uids)
        else:
            self.k.set(self.k.leases, *((uid, self.ends) for uid in uids))

    def take_one(self, place: list[str]) -> Any:
        k, uid = self.k, place[-1] if place else ""
        payload = k.items.get(uid) if uid else None
        if payload is None or uid in k.meta:
            return None
        try:
            k.set(k.meta, (uid, self.first()))
        except StoppedError:
            return None
        if not k.rule("add before remove"):
            k.rpop(place)
        try:
            if self.lease is None and k.rule("add before remove"):
                k.lmove(place, k.ackbuf, "RIGHT LEFT")
            else:
                self.out(uid)
        except StoppedError:
            k.drop(k.meta, uid)
            raise
        self.note(uid)
        if self.lease is not None and k.rule("add before remove"):
            k.rpop(place)
        return (0, 0, self.ends, uid, payload, 1)

    def take_some(self) -> Any:
        k, uids = self.k, self.k.queue[: -self.count - 1 : -1]
        odd = any(not uid or uid not in k.items or uid in k.meta for uid in uids)
        if not uids or odd:
            return None
        found = [part for uid in uids for part in (uid, k.items[uid], 1)]
        try:
            k.set(k.meta, *((uid, self.first()) for uid in uids))
        except StoppedError:
            return None
        if len(set(uids)) < len(uids):  # one stands in the list twice
            k.drop(k.meta, *uids)
            return None
        if not k.rule("add before remove"):
            k.rpop(k.queue, len(uids))
        try:
            self.out(*uids)
        except StoppedError:
            k.drop(k.meta, *uids)
            raise
        self.note(*uids)
        if k.rule("add before remove"):
            k.rpop(k.queue, len(uids))
        return (0, -1 if len(uids) < self.count else 0, self.ends, *found)

    # All else.

    def general(self) -> Any:
        k = self.k
        if self.latest >= self.number:
            if "b" in self.how and not k.paused and k.rule("wakes another"):
                k.lmove(k.handed, k.queue, "LEFT RIGHT")
            if self.latest > self.number:
                raise SupersededError
            return self.repeated()
        stop_watching(k, self.terms.watching)
        if k.paused:
            return self.took_nothing(-2)
        keep_house(k, self.terms.interval)
        return self.hand_out()

    def reply(self, verdict: int) -> Any:
        return (self.k.now, verdict, self.ends, *self.found)

    def repeated(self) -> Any:
        k = self.k
        for uid in self.known:
            place = in_flight(k, uid, self.about.token)
            if place is k.leases:
                self.ends = place[uid]
            if place is not None:
                self.found += [uid, k.items[uid], k.meta[uid].deliveries]
        return self.reply(-1 if self.found else 0)

    def took_nothing(self, verdict: int) -> Any:
        if "a" in self.how and self.k.rule("nothing is noted"):
            self.note()
        return self.reply(verdict)

    def next_ready(self, ranked: bool) -> tuple[Any, str | None]:
        """Where the next uid stands, and it: of a priority above zero, in the list, below zero."""
        k = self.k
        first = in_order(k.priority)[:1] if ranked else []
        if first and k.priority[first[0]] <= 0:
            return k.priority, first[0]
        for place in (k.handed, k.queue):
            if place:
                return place, place[-1]
        return k.priority, first[0] if first else None

    def take_away(self, place: Any, uid: str) -> None:
        if place is self.k.priority:
            self.k.drop(self.k.priority, uid)
        else:
            self.took_entry = True
            self.k.rpop(place)

    def stands_elsewhere(self, place: Any, uid: str, time: int) -> bool:
        k = self.k
        if not k.rule("second copies"):
            return False
        if any(uid in zset for zset in (k.leases, k.delayed, k.held, k.dead)):
            return True
        if place is not k.priority and uid in k.priority:
            return True
        if time == 0:
            return False
        self.searches += 1
        return uid in k.ackbuf or uid in k.backup

    def is_copy(self, place: Any, uid: str, about: Meta) -> tuple[bool, int]:
        """Whether this entry is a second copy, and how many ghosts there are without it."""
        k, far = self.k, self.k.limits.proof
        copy = self.stands_elsewhere(place, uid, about.time)
        if place is k.priority or not about.ghosts:
            return copy, about.ghosts
        if not copy:
            count = sum(min(each[-far:].count(uid), 2) for each in (k.handed, k.queue))
            copy = count > 1 or not k.rule("ghosts are proven")
            self.searches += 1
        if copy:
            return True, about.ghosts - 1
        return False, 0 if max(len(k.handed), len(k.queue)) <= far else about.ghosts

    def deliver(self, place: Any, uid: str, known: Meta | None, ghosts: int) -> None:
        k, about = self.k, known or NEW
        deliveries = about.deliveries + 1
        token = self.first(deliveries).token
        k.set(k.meta, (uid, Meta(deliveries, k.now, token, about.score, ghosts)))
        if not k.rule("add before remove"):
            self.take_away(place, uid)
        try:
            self.out(uid)
        except StoppedError:  # it was no delivery
            if known is None:
                k.drop(k.meta, uid)
            else:
                k.set(k.meta, (uid, known))
            raise
        if k.rule("add before remove"):
            self.take_away(place, uid)
        self.taken.append(uid)
        self.found += [uid, k.items.get(uid), deliveries]

    def hand_out(self) -> Any:
        k, (watching, slice_, _, most) = self.k, self.terms
        ranked = bool(k.priority)
        looked, bell, verdict = 0, False, 0
        while (
            len(self.taken) < self.count
            and looked < k.limits.skip
            and self.searches < k.limits.searches
        ):
            place, uid = self.next_ready(ranked)
            if uid is None:
                verdict = -1
                break
            looked += 1
            known, there = k.meta.get(uid), uid in k.items
            about = known or NEW
            copy, ghosts = False, about.ghosts
            if there and known is not None:
                copy, ghosts = self.is_copy(place, uid, known)
            alone = about.token not in (OVER, HANDED_BACK) and k.rule("alone")
            if not uid or not (there or not k.rule("ghosts are skipped")):
                bell = bell or not uid
                if known is not None:
                    forget_meta(k, uid, max(about.ghosts - 1, 0))
                self.take_away(place, uid)
            elif copy:
                if ghosts != about.ghosts:
                    k.set(k.meta, (uid, about._replace(ghosts=ghosts)))
                self.take_away(place, uid)
            elif most is not None and about.deliveries >= most:
                k.set(k.meta, (uid, about._replace(time=0, ghosts=ghosts)))
                k.set(k.reasons, (uid, f"delivered {most} times"))
                k.set(k.dead, (uid, k.now))
                self.take_away(place, uid)
                self.found += [uid, "", -about.deliveries]
            elif alone and (self.taken or "h" in self.how):
                verdict = -1
                break
            else:
                self.deliver(place, uid, known, ghosts)
                if alone:
                    verdict = -1
                    break
        if verdict == -1 and not self.taken:
            if not k.items and k.rule("left keys are dropped"):
                k.unlink(
                    k.handed, k.ackbuf, k.backup, k.meta, k.leases, k.delayed, k.priority, k.held,
                    k.dead, k.reasons,
                )  # fmt: skip
            if "w" in self.how:
                return self.took_nothing(to_watch(k, slice_))
        self.leave_to_another(ranked, bell, watching, slice_)
        if not self.taken:
            return self.took_nothing(verdict)
        self.note(*self.taken)
        return self.reply(verdict)

    def leave_to_another(self, ranked: bool, bell: bool, watching: Any, slice_: int) -> None:
        """What a bell, or its watch, was for; and what it was handed, where it took a priority."""
        k = self.k
        if self.taken and not self.took_entry and "b" in self.how:
            if k.handed and not k.handed[0]:
                k.lrem(k.handed, "", last=False)
                bell = True
            else:
                k.lmove(k.handed, k.queue, "LEFT RIGHT")
        if ranked and self.taken and k.priority and k.rule("taker rings on"):
            ring(k)
        if (bell and k.rule("a bell is passed on")) or (
            watching is not None and k.rule("a watch is passed on")
        ):
            pass_on(k, slice_)


# -- what a holder does ----------------------------------------------------------------------------


def ack(k: Keys, slot: str, number: int, *deliveries: str) -> Any:
    every, rule = len(deliveries) // 2, "ack is numbered"
    if counted(k, slot, number, rule):
        there = settle_out(k, deliveries)
        if there is not None:
            if there < every:
                k.set(k.said, (slot, (number, there)))
            return there
        k.uncount(slot)
    said = told(k, slot, number, rule, every)
    if said is not None:
        return said
    return answer(k, slot, number, forget(k, *theirs(k, deliveries)), every)


def touch(k: Keys, slot: str, number: int, lease: int, *deliveries: str) -> Any:
    told(k, slot, number)
    deadlines = []
    for uid, token in zip(deliveries[::2], deliveries[1::2]):
        place = in_flight(k, uid, token)
        deadlines.append(0 if place is None else k.now + lease)
        if place is not None:
            k.set(k.leases, (uid, k.now + lease))
            if place is not k.leases:
                leave(k, place, uid)
    answer(k, slot, number, 0, 0)
    return tuple(deadlines)


def fail(
    k: Keys, slot: str, number: int, most: int | None, reason: str, slice_: int, *deliveries: Any
) -> Any:
    every = len(deliveries) // 3
    said = told(k, slot, number, "fail is numbered", every)
    if said is not None:
        return said
    settled = 0
    for uid, token, delay in zip(*[iter(deliveries)] * 3):
        place, about = in_flight(k, uid, token), k.meta.get(uid, NEW)
        if place is None:
            continue
        retire(k, uid)
        if not k.rule("add before remove"):
            leave(k, place, uid)
        if most is not None and about.deliveries >= most:
            k.set(k.reasons, (uid, reason or f"failed {most} times"))
            k.set(k.dead, (uid, k.now))
        elif delay > 0:
            delay_until(k, k.now + delay, uid, slice_)
        else:
            make_ready(k, uid)
        if k.rule("add before remove"):
            leave(k, place, uid)
        settled += 1
    return answer(k, slot, number, settled, every)


def hand_back(k: Keys, slot: str, number: int, uncounted: int, *deliveries: str) -> Any:
    every = len(deliveries) // 2
    said = told(k, slot, number, every=every)
    if said is not None:
        return said
    pairs = zip(deliveries[::2], deliveries[1::2])
    settled = sum([give_back(k, *pair, uncounted) for pair in pairs])
    return answer(k, slot, number, settled, every)


def undo(
    k: Keys, slot: str, number: int, token: str, watching: int | str | None, slice_: int
) -> Any:
    """Undo the claim before this, which is numbered as claims are."""
    latest, known = k.last.get(slot, (0, ()))
    if latest >= number and k.rule("claim is numbered"):
        return 1
    for uid in reversed(known if latest == number - 1 else ()):
        give_back(k, uid, token, int(k.rule("undo is uncounted")))
    if k.rule("undo is numbered"):
        k.set(k.last, (slot, (number, ())))
    if watching is not None:
        stop_watching(k, watching)
        if k.rule("a watch is passed on"):
            pass_on(k, slice_)
    return 1


def bury(k: Keys, slot: str, number: int, uid: str, token: str, reason: str) -> Any:
    said = told(k, slot, number, every=1)
    if said is not None:
        return said
    place = in_flight(k, uid, token)
    if place is not None:
        retire(k, uid)
        k.set(k.reasons, (uid, reason))
        k.set(k.dead, (uid, k.now))
        leave(k, place, uid)
    return answer(k, slot, number, int(place is not None), 1)


def release(k: Keys, slot: str, number: int, uid: str) -> Any:
    said = told(k, slot, number, every=1)
    if said is not None:
        return said
    is_there = uid in k.held and uid in k.items
    if is_there:
        make_ready(k, uid)
    if uid in k.held:
        k.drop(k.held, uid)
    return answer(k, slot, number, int(is_there), 1)


def reschedule(
    k: Keys, slot: str, number: int, uid: str, delay: int | None, due: float | None, slice_: int
) -> Any:
    said = told(k, slot, number, every=1)
    if said is not None:
        return said
    is_there = uid in k.delayed and uid in k.items
    if uid in k.delayed and not is_there:
        k.drop(k.delayed, uid)
    if delay is not None:
        due = k.now + delay
    if is_there and due is not None and due > k.now:
        delay_until(k, due, uid, slice_)
    elif is_there:
        make_ready(k, uid)
        k.drop(k.delayed, uid)
    return answer(k, slot, number, int(is_there), 1)


def forward(
    k: Keys, slot: str, number: int, uid: str, token: str, to_uid: str, payload: str
) -> Any:
    said = told(k, slot, number, "ack is numbered", 1)
    if said is not None:
        return said
    mine = theirs(k, (uid, token)) if uid in k.items else []
    if mine:
        k.set(k.to, (to_uid, payload))
        forget(k, *mine)
    return answer(k, slot, number, len(mine), 1)


# -- what anybody may do ---------------------------------------------------------------------------


def revive(k: Keys, slot: str, number: int, *named: str) -> Any:
    said = told(k, slot, number)
    if said is not None:
        return said
    revived, uids = 0, named or tuple(in_order(k.dead)[:100])
    for uid in uids:
        if uid in k.dead:
            about = k.meta.get(uid)
            if uid in k.items:
                if about is not None or k.rule("revive writes meta"):
                    about = about or NEW
                    count = 0 if k.rule("revive forgets") else about.deliveries
                    k.set(k.meta, (uid, about._replace(deliveries=count, time=0, token=OVER)))
                make_ready(k, uid)
                revived += 1
            k.drop(k.dead, uid)
            k.drop(k.reasons, uid)
    return answer(k, slot, number, (len(uids), revived))


def purge_dead(k: Keys, slot: str, number: int, keep: int | None, older: int | None) -> Any:
    said = told(k, slot, number)
    if said is not None:
        return said
    dead = in_order(k.dead)
    uids = dead[: max(len(dead) - keep, 0)] if keep is not None else dead if older is None else []
    if not uids and older is not None:
        uids = [uid for uid in dead if k.dead[uid] <= k.now - older]
    uids = uids[:100]
    if uids:
        k.drop(k.items, *uids)
        for uid, about in [(uid, k.meta.get(uid, NEW)) for uid in uids]:
            forget_meta(k, uid, about.ghosts)
        k.drop(k.reasons, *uids)
        k.drop(k.dead, *uids)
    return answer(k, slot, number, len(uids))


def purge(k: Keys, slot: str, number: int) -> Any:
    said = told(k, slot, number)
    if said is not None:
        return said
    dropped = len(k.items)
    k.unlink(
        k.items, k.queue, k.handed, k.ackbuf, k.backup, k.meta, k.leases, k.delayed, k.priority,
        k.held, k.dead, k.reasons,
    )  # fmt: skip
    return answer(k, slot, number, dropped)


def resume(k: Keys, slot: str, number: int) -> Any:
    if told(k, slot, number, every=1) is not None:
        return 1
    k.set_paused(False)
    if k.rule("resume empties handed"):
        empty_handed(k)
    return answer(k, slot, number, 1, 1)


CALLS: dict[str, Any] = {
    each.__name__: each
    for each in (
        put_new, put, claim, ack, touch, fail, hand_back, undo, bury, release, reschedule, forward,
        revive, purge_dead, purge, resume,
    )
}  # fmt: skip
