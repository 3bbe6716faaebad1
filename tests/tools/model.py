"""The queue's protocol as plain Python: what each script does to the keys, command for command.

A specification to be explored (worlds.py) and compared with the scripts themselves on a server
(conformance.py). Every write is one of the methods of Keys, so that a script can be stopped
after each. Each rule that the design rests on has a name, and can be left out: `without`.

Not modelled: that `last:<slot>` expires after an hour, limits in bytes, scripts that only read.
"""

from __future__ import annotations

from typing import Any, NamedTuple

BAND = 8796093022208  # scores of one priority: 2^43 ms
FOREVER = float("inf")  # when a lock without expiry ends

RULES = {
    # of all calls
    "put is numbered": "put sent again is answered as before, an older one refused",
    "claim is numbered": "the same for claim",
    "ack is numbered": "the same for ack, so that what it returns is the truth",
    "fail is numbered": "the same for fail",
    "the rest is numbered": "the same for what else moves items",
    "ack is fenced": "ack acts only while its token is that of the latest delivery",
    "fail is fenced": "so do fail, touch, bury and hand back",
    "tokens, not counts": "a token is unique, a count of deliveries is not",
    "tokens are retired": "fail, bury, hand back and revive end the delivery",
    "only what is in flight": "fail, touch, bury, hand back need the item to be out",
    "place before payload": "put stopped in between leaves a ghost, not an item without a place",
    "add before remove": "a move stopped in between leaves a uid twice, not nowhere",
    # of put
    "put drops old meta": "a 3.0.0 acked the item of that uid, and left the token of its holder",
    "delayed has meta": "a ghost of that uid in queue is then known to be a second copy",
    # of claim
    "rename when backup is empty": "autoclean replaces no backup that has entries",
    "lock after rename": "an autoclean that was not finished is resumed at once",
    "lock expires": "autoclean goes on without the one who set the lock",
    "mended lock is long": "the 3.0.0 that set a lock without expiry may be alive",
    "moved, not claimed since": "what a BLMOVE moved may have been requeued and claimed meanwhile",
    "paused claim puts back": "what a BLMOVE moved during a pause",
    "time ends with lease": "what came back is not taken for claimed since",
    "time tells copies": "what is out anew is not in backup, but a second copy of it may be",
    "second copies": "3.0.0's fail, or a script stopped, leave a uid twice",
    "ghosts are skipped": "a uid without an item is not handed out",
    "left keys are dropped": "when the queue is found empty",
    "bell": "who waits sees only the list queue",
    "taker rings on": "two priority puts, one bell",
    # of the others
    "to the front": "what is handed back is taken next",
    "undo is numbered": "a claim that comes after its undo is refused",
    "revive forgets": "what was revived is as if never delivered",
    "revive writes meta": "stopped before it leaves dead, the item in queue is a second copy",
}


class Limits(NamedTuple):
    """What one claim moves at most, and for how long at least a lock is mended."""

    clean: int = 100
    due: int = 100
    skip: int = 1000
    scans: int = 4
    mended: int = 600_000


LIMITS = Limits()


class Meta(NamedTuple):
    deliveries: int
    time: int
    token: str
    score: int | None

    def __str__(self) -> str:
        return (
            f"{self.deliveries} {self.time} {self.token} {'' if self.score is None else self.score}"
        )


class StoppedError(Exception):
    """The script was stopped before its next write."""


class SupersededError(Exception):
    """The caller has made a later call."""


class Frozen(NamedTuple):
    """The keys as a value. `to`: items and queue in one, of the queue forwarded to."""

    items: Any = frozenset()  # of pairs, as all hashes and zsets
    queue: tuple[str, ...] = ()
    ackbuf: tuple[str, ...] = ()
    backup: tuple[str, ...] = ()
    meta: Any = frozenset()
    leases: Any = frozenset()
    delayed: Any = frozenset()
    priority: Any = frozenset()
    dead: Any = frozenset()
    reasons: Any = frozenset()
    last: Any = frozenset()
    to: Any = frozenset()
    lock: float | None = None  # when backuplock expires
    paused: bool = False
    now: int = 0


EMPTY, NONE = Frozen(), frozenset[Any]()


class Keys:
    """The keys, which a script changes through the methods here; `left` writes until it stops."""

    def __init__(
        self, frozen: Frozen = EMPTY, without: str = "", limits: Limits = LIMITS, left: int = -1
    ) -> None:
        (items, queue, ackbuf, backup, meta, leases, delayed, priority, dead, reasons, last, to,
         self.lock, self.paused, self.now) = frozen  # fmt: skip
        self.items: dict[str, str] = dict(items)
        self.queue, self.ackbuf, self.backup = list(queue), list(ackbuf), list(backup)
        self.meta: dict[str, Meta] = dict(meta)
        self.leases, self.delayed = dict(leases), dict(delayed)
        self.priority, self.dead = dict(priority), dict(dead)
        self.reasons, self.last = dict(reasons), dict(last)
        self.to: dict[str, str] = dict(to)  # items and queue in one, of the queue forwarded to
        self.without, self.limits, self.left = without, limits, left

    def freeze(self) -> Frozen:
        lists = (tuple(self.queue), tuple(self.ackbuf), tuple(self.backup))
        hashes = (
            self.meta, self.leases, self.delayed, self.priority, self.dead, self.reasons,
            self.last, self.to,
        )  # fmt: skip
        frozen = [frozenset(each.items()) if each else NONE for each in hashes]
        rest = (self.lock, self.paused, self.now)
        return Frozen(frozenset(self.items.items()), *lists, *frozen, *rest)

    def rule(self, name: str) -> bool:
        return self.without != name

    def advance(self, ms: int) -> None:
        """Time goes on, and a lock may run out."""
        self.now += ms
        if self.lock is not None and self.lock <= self.now:
            self.lock = None

    # -- what a server does -------------------------------------------------------------------

    def _write(self) -> None:
        if self.left == 0:
            raise StoppedError
        self.left -= 1

    def push(self, end: str, values: list[str], *uids: str) -> None:
        self._write()
        for uid in uids:
            values.insert(0 if end == "LPUSH" else len(values), uid)

    def rpop(self, values: list[str], count: int = 1) -> None:
        """RPOP, or of several LTRIM."""
        self._write()
        del values[-count:]

    def lrem(self, values: list[str], uid: str, last: bool = True) -> bool:
        """LREM of one: the last (-1), or the first (1)."""
        self._write()
        if uid not in values:
            return False
        del values[len(values) - 1 - values[::-1].index(uid) if last else values.index(uid)]
        return True

    def set(self, mapping: dict[str, Any], *pairs: tuple[str, Any]) -> None:
        """HSET or ZADD."""
        self._write()
        mapping.update(pairs)

    def drop(self, mapping: dict[str, Any], *uids: str) -> int:
        """HDEL or ZREM; how many there were."""
        self._write()
        return sum(mapping.pop(uid, None) is not None for uid in uids)

    def rename(self) -> None:
        self._write()
        self.backup, self.ackbuf = self.ackbuf, []

    def set_lock(self, until: float | None) -> None:
        self._write()
        self.lock = until

    # -- what every script begins and ends with -------------------------------------------------

    def said(self, slot: str, number: int, rule: str = "the rest is numbered") -> tuple[Any, Any]:
        """What this very call was answered, and what the call before was; or None."""
        latest, answer = self.last.get(slot, (0, ()))
        if not self.rule(rule):
            return None, None
        if latest > number:
            raise SupersededError
        return (answer if latest == number else None), (answer if latest == number - 1 else None)

    def answer(self, slot: str, number: int, answer: Any) -> Any:
        self.set(self.last, (slot, (number, answer)))
        return answer


# -- places that items go to and come from ---------------------------------------------------------


def in_order(zset: dict[str, float]) -> list[str]:
    return sorted(zset, key=lambda uid: (zset[uid], uid))


def ring(k: Keys) -> None:
    if not k.queue and k.rule("bell"):
        k.push("RPUSH", k.queue, "")


def make_ready(k: Keys, uid: str, about: Meta | None, end: str = "LPUSH") -> None:
    if about is None or about.score is None:
        k.push(end, k.queue, uid)
    else:
        k.set(k.priority, (uid, about.score))
        ring(k)


def is_token_of(token: str, about: Meta | None) -> bool:
    return about is not None and about.token == token


def held(k: Keys, uid: str, token: str) -> Any:
    """The place of an item in flight, if the token (unless '') is that of its latest delivery."""
    if token and k.rule("fail is fenced") and not is_token_of(token, k.meta.get(uid)):
        return None
    if uid not in k.items:
        return None
    if uid in k.leases:
        return k.leases
    for place in (k.ackbuf, k.backup):
        if uid in place:
            return place
    return None if k.rule("only what is in flight") else []


def leave(k: Keys, place: Any, uid: str) -> None:
    if place is k.leases:
        k.drop(k.leases, uid)
    else:
        k.lrem(place, uid)


def retire(k: Keys, uid: str, about: Meta | None, deliveries: int) -> None:
    if about is not None and k.rule("tokens are retired"):
        k.set(k.meta, (uid, Meta(deliveries, 0, "-", about.score)))


def count_of(about: Meta | None) -> int:
    return about.deliveries if about is not None else 0


def forget(k: Keys, *deliveries: str) -> int:
    mine = [
        uid
        for uid, token in zip(deliveries[::2], deliveries[1::2])
        if not (token and k.rule("ack is fenced")) or is_token_of(token, k.meta.get(uid))
    ]
    if not mine:
        return 0
    there, about = k.drop(k.items, *mine), k.meta.get(mine[0])
    k.drop(k.meta, *mine)
    # In a list it may stay: get drops a uid without an item. But to look for one is quick.
    if not there or k.drop(k.leases, *mine) == len(mine):
        return there
    found = not mine[1:] and (k.lrem(k.ackbuf, mine[0]) or k.lrem(k.backup, mine[0]))
    if not found or (about is not None and about.time == 0):
        for mapping in (k.delayed, k.priority, k.dead, k.reasons):
            k.drop(mapping, *mine)
    return there


def give_back(k: Keys, uid: str, token: str, uncounted: int) -> int:
    place, about = held(k, uid, token), k.meta.get(uid)
    if place is None:
        return 0
    retire(k, uid, about, max(count_of(about) - uncounted, 0))
    make_ready(k, uid, about, "RPUSH" if k.rule("to the front") else "LPUSH")
    leave(k, place, uid)
    return 1


def give_moved_back(k: Keys, uid: str, seen: int) -> None:
    about = k.meta.get(uid)
    claimed = about is not None and about.token != "-" and about.time >= seen
    if claimed and k.rule("moved, not claimed since"):
        return
    for place in (k.ackbuf, k.backup):
        if uid in place:
            k.push("RPUSH", k.queue, uid)
            k.lrem(place, uid, last=False)
            return


# -- the scripts -----------------------------------------------------------------------------------


def put_new(k: Keys, slot: str, number: int, *fields: str) -> Any:
    said, _ = k.said(slot, number, "put is numbered")
    if said is not None:
        return k.answer(slot, number, said)
    k.push("LPUSH", k.queue, *fields[::2])
    k.set(k.items, *zip(fields[::2], fields[1::2]))
    return k.answer(slot, number, len(fields) // 2)


def put(
    k: Keys, slot: str, number: int, delay: int | None, due: float | None, level: int,
    maxsize: int | None, *fields: str,
) -> Any:  # fmt: skip
    said, _ = k.said(slot, number, "put is numbered")
    if said is not None:
        return k.answer(slot, number, said)
    pairs = [each for each in zip(fields[::2], fields[1::2]) if each[0] not in k.items]
    uids = [uid for uid, _ in pairs]
    if maxsize is not None and uids and len(k.items) + len(uids) > maxsize:
        return k.answer(slot, number, -1)
    if not uids:
        return k.answer(slot, number, 0)
    if not k.rule("place before payload"):
        k.set(k.items, *pairs)
    if level == 0 and delay is None and due is None:
        k.push("LPUSH", k.queue, *uids)
        if k.rule("put drops old meta"):
            k.drop(k.meta, *uids)
        k.set(k.items, *pairs)
    else:
        base = -level * BAND
        top = [score for score in k.priority.values() if base <= score < base + BAND]
        score = max(base + k.now, *top, base)
        if delay is not None:
            due = k.now + delay
        for i, uid in enumerate(uids):
            score += 1
            if due is None or k.rule("delayed has meta"):
                k.set(k.meta, (uid, Meta(0, 0, "-", score if level else None)))
            if due is not None:
                k.set(k.delayed, (uid, due + i / 1000))
            else:
                k.set(k.priority, (uid, score))
        k.set(k.items, *pairs)
        if due is None:
            ring(k)
    return k.answer(slot, number, len(uids))


def claim(
    k: Keys, slot: str, number: int, token: str, interval: int | None, lease: int | None,
    count: int, most: int | None, woken: int, moved: str, seen: int, *acks: str,
) -> Any:  # fmt: skip
    """Now, verdict, deadline, and uid, payload, deliveries of each delivery."""
    out: list[str] = []
    found: list[Any] = []
    until = 0 if lease is None else k.now + lease
    said, _ = k.said(slot, number, "claim is numbered")
    if said is not None:
        for uid in said:
            place = held(k, uid, token)
            if place is not None:
                until = place[uid] if place is k.leases else until
                found += [uid, k.items[uid], count_of(k.meta.get(uid))]
        return (k.now, 0, until, *found)
    forget(k, *acks)
    if woken and (k.rule("paused claim puts back") or not k.paused):
        give_moved_back(k, moved, seen)

    rare = bool(k.delayed or k.priority or k.paused)

    def bring_back(uid: str, before: int) -> bool:
        about = k.meta.get(uid)
        make_ready(k, uid, about)
        over = about is not None and (about.time <= before or not k.rule("time tells copies"))
        if about is not None and over and k.rule("time ends with lease"):
            k.set(k.meta, (uid, about._replace(time=0)))
        return about is not None and about.score is not None

    for zset in (k.leases, k.delayed):
        for uid in [uid for uid in in_order(zset) if zset[uid] <= k.now][: k.limits.due]:
            rare |= bring_back(uid, k.now)
            k.drop(zset, uid)

    if interval is not None and k.lock == FOREVER:
        long = max(10 * interval, k.limits.mended)
        k.set_lock(k.now + (long if k.rule("mended lock is long") else interval))
    elif interval is not None and k.lock is None:
        lock_until = k.now + interval if k.rule("lock expires") else FOREVER
        if not k.rule("lock after rename"):
            k.set_lock(lock_until)
        for uid in k.backup[: -k.limits.clean - 1 : -1]:
            rare |= bring_back(uid, k.now - interval)
            k.rpop(k.backup)
        if not (k.backup and k.rule("rename when backup is empty")):
            if k.ackbuf:
                k.rename()
            k.set_lock(lock_until)

    if rare and k.paused:
        k.answer(slot, number, ())
        return (k.now, -2, until)

    scans = 0

    def stands_elsewhere(uid: str, about: Meta) -> bool:
        nonlocal scans
        if not k.rule("second copies"):
            return False
        if uid in k.leases or uid in k.delayed or uid in k.dead:
            return True
        if about.time == 0:
            return False
        scans += 1
        return uid in k.ackbuf or uid in k.backup

    exhausted, looked, taken = False, 0, set[str]()
    while len(out) < count and looked < k.limits.skip and scans < k.limits.scans:
        first = in_order(k.priority)[:1] if rare else []
        if first and (k.priority[first[0]] <= 0 or not k.queue):
            place, uids = k.priority, first
        elif k.queue:
            place, uids = k.queue, k.queue[len(out) - count :][::-1]
        else:
            exhausted = True
            break
        round_, places, notes = [], [], []
        for uid in uids:
            round_.append(uid)
            payload, about = k.items.get(uid), k.meta.get(uid)
            if payload is None and (k.rule("ghosts are skipped") or not uid):
                if about is not None:
                    k.drop(k.meta, uid)
            elif uid not in taken and not (about is not None and stands_elsewhere(uid, about)):
                deliveries = count_of(about) + 1
                if most is not None and deliveries > most:
                    k.set(k.reasons, (uid, f"delivered {most} times"))
                    k.set(k.dead, (uid, k.now))
                else:
                    mine = token if k.rule("tokens, not counts") else str(deliveries)
                    score = about.score if about is not None else None
                    places.append(uid)
                    notes.append((uid, Meta(deliveries, k.now, mine, score)))
                    found += [uid, payload, deliveries]
                    out.append(uid)
            taken.add(uid)
            if scans == k.limits.scans:
                break
        if not k.rule("add before remove"):
            take(k, place, *round_)
        if places and lease is None:
            k.push("LPUSH", k.ackbuf, *places)
        elif places:
            k.set(k.leases, *((uid, until) for uid in places))
        if notes:
            k.set(k.meta, *notes)
        if k.rule("add before remove"):
            take(k, place, *round_)
        looked += len(round_)

    if rare and k.priority:
        if k.rule("taker rings on"):
            ring(k)
    elif rare and k.queue[-1:] == [""]:
        k.rpop(k.queue)
    verdict = 0
    if exhausted and not out:
        coming = [max(zset[uid] - k.now, 1) for zset in (k.leases, k.delayed) for uid in zset]
        verdict = int(min(coming)) if coming else -1
        if not k.items and k.rule("left keys are dropped"):
            unlink(k)
    k.answer(slot, number, tuple(out))
    return (k.now, verdict, until, *found)


def take(k: Keys, place: Any, *uids: str) -> None:
    if place is k.queue:
        k.rpop(k.queue, len(uids))
    else:
        k.drop(k.priority, *uids)


def unlink(k: Keys) -> None:
    k._write()
    for key in (k.ackbuf, k.backup, k.meta, k.leases, k.delayed, k.priority, k.dead, k.reasons):
        key.clear()


def ack(k: Keys, slot: str, number: int, *deliveries: str) -> Any:
    said, _ = k.said(slot, number, "ack is numbered")
    if said is not None:
        return said
    return k.answer(slot, number, forget(k, *deliveries))


def touch(k: Keys, slot: str, number: int, lease: int, *deliveries: str) -> Any:
    k.said(slot, number)
    deadlines = []
    for uid, token in zip(deliveries[::2], deliveries[1::2]):
        place = held(k, uid, token)
        deadlines.append(0 if place is None else k.now + lease)
        if place is not None:
            k.set(k.leases, (uid, k.now + lease))
            if place is not k.leases:
                leave(k, place, uid)
    return tuple(deadlines)


def fail(k: Keys, slot: str, number: int, most: int | None, reason: str, *deliveries: Any) -> Any:
    said, _ = k.said(slot, number, "fail is numbered")
    if said is not None:
        return said
    settled = 0
    for uid, token, delay in zip(*[iter(deliveries)] * 3):
        place, about = held(k, uid, token), k.meta.get(uid)
        if place is None:
            continue
        retire(k, uid, about, count_of(about))
        if not k.rule("add before remove"):
            leave(k, place, uid)
        if most is not None and count_of(about) >= most:
            k.set(k.reasons, (uid, reason or f"failed {most} times"))
            k.set(k.dead, (uid, k.now))
        elif delay > 0:
            k.set(k.delayed, (uid, k.now + delay))
        else:
            make_ready(k, uid, about)
        if k.rule("add before remove"):
            leave(k, place, uid)
        settled += 1
    return k.answer(slot, number, settled)


def hand_back(k: Keys, slot: str, number: int, uncounted: int, *deliveries: str) -> Any:
    said, _ = k.said(slot, number)
    if said is not None:
        return said
    pairs = zip(deliveries[::2], deliveries[1::2])
    return k.answer(slot, number, sum([give_back(k, *pair, uncounted) for pair in pairs]))


def undo(k: Keys, slot: str, number: int, token: str, woken: int, moved: str, seen: int) -> Any:
    said, before = k.said(slot, number)
    if said is not None:
        return 1
    for uid in reversed((before or ()) if token else ()):
        give_back(k, uid, token, 1)
    if woken:
        give_moved_back(k, moved, seen)
    if k.rule("undo is numbered"):
        k.answer(slot, number, ())
    return 1


def bury(k: Keys, slot: str, number: int, uid: str, token: str, reason: str) -> Any:
    said, _ = k.said(slot, number)
    if said is not None:
        return said
    place, about = held(k, uid, token), k.meta.get(uid)
    if place is not None:
        retire(k, uid, about, count_of(about))
        k.set(k.reasons, (uid, reason))
        k.set(k.dead, (uid, k.now))
        leave(k, place, uid)
    return k.answer(slot, number, int(place is not None))


def forward(
    k: Keys, slot: str, number: int, uid: str, token: str, to_uid: str, payload: str
) -> Any:
    said, _ = k.said(slot, number, "ack is numbered")
    if said is not None:
        return said
    fenced = token and k.rule("ack is fenced")
    mine = uid in k.items and (not fenced or is_token_of(token, k.meta.get(uid)))
    if mine:
        k.set(k.to, (to_uid, payload))
        forget(k, uid, token)
    return k.answer(slot, number, int(mine))


def revive(k: Keys, slot: str, number: int, *named: str) -> Any:
    said, _ = k.said(slot, number)
    if said is not None:
        return said
    revived, uids = 0, named or tuple(in_order(k.dead)[:100])
    for uid in uids:
        if uid in k.dead:
            about = k.meta.get(uid)
            if uid in k.items:
                score = about.score if about is not None else None
                if about is not None or k.rule("revive writes meta"):
                    count = 0 if k.rule("revive forgets") else count_of(about)
                    k.set(k.meta, (uid, Meta(count, 0, "-", score)))
                make_ready(k, uid, about)
                revived += 1
            k.drop(k.dead, uid)
            k.drop(k.reasons, uid)
    return k.answer(slot, number, (len(uids), revived))


def purge_dead(k: Keys, slot: str, number: int) -> Any:
    said, _ = k.said(slot, number)
    if said is not None:
        return said
    uids = in_order(k.dead)[:100]
    for mapping in (k.items, k.meta, k.reasons, k.dead) if uids else ():
        k.drop(mapping, *uids)
    return k.answer(slot, number, len(uids))


def purge(k: Keys, slot: str, number: int) -> Any:
    said, _ = k.said(slot, number)
    if said is not None:
        return said
    dropped = len(k.items)
    unlink(k)
    k.items.clear()
    k.queue.clear()
    return k.answer(slot, number, dropped)


# -- single commands -------------------------------------------------------------------------------


def blmove(k: Keys) -> str | None:
    """The end of a wait: what was moved from queue to ackbuf."""
    return rpoplpush(k.queue, k.ackbuf)


def rpoplpush(source: list[str], target: list[str]) -> str | None:
    if not source:
        return None
    target.insert(0, source.pop())
    return target[0]


def pause(k: Keys) -> None:
    k.paused = True


def resume(k: Keys) -> None:
    k.paused = False


# -- 3.0.0 -----------------------------------------------------------------------------------------


def old_put(k: Keys, uid: str, payload: str) -> None:
    k.items[uid] = payload
    k.queue.insert(0, uid)


def old_ack(k: Keys, uid: str) -> None:
    _old_leave(k, uid)
    k.items.pop(uid, None)


def old_fail(k: Keys, uid: str) -> None:
    _old_leave(k, uid)
    k.queue.insert(0, uid)


def _old_leave(k: Keys, uid: str) -> None:
    k.ackbuf = [each for each in k.ackbuf if each != uid]
    k.backup = [each for each in k.backup if each != uid]


def old_get(k: Keys, step: str, interval: int) -> tuple[str, str | None]:
    """One command of its get: the step that follows, and the uid if it was the last."""
    if step == "lock?":
        return ("backup?" if k.lock is None else "take"), None
    if step == "backup?":
        return ("setnx" if k.backup else "ackbuf?"), None
    if step == "ackbuf?":
        return ("renamenx" if k.ackbuf else "setex"), None
    if step == "renamenx":
        if not k.ackbuf:
            return "lock?", None  # an error, which ends this get
        if not k.backup:
            k.rename()
        return "setex", None
    if step in ("setex", "expire"):
        if step == "setex" or k.lock is not None:
            k.lock = k.now + interval
        return "take", None
    if step == "setnx":
        if k.lock is not None:
            return "take", None
        k.lock = FOREVER
        return "move", None
    if step == "move":
        return ("move" if rpoplpush(k.backup, k.queue) is not None else "any ackbuf?"), None
    if step == "any ackbuf?":
        return ("rename" if k.ackbuf else "expire"), None
    if step == "rename":
        if not k.ackbuf:
            return "lock?", None
        k.rename()
        return "expire", None
    return "lock?", rpoplpush(k.queue, k.ackbuf)


CALLS: dict[str, Any] = {
    each.__name__: each
    for each in (
        put_new, put, claim, ack, touch, fail, hand_back, undo, bury, forward, revive, purge_dead,
        purge,
    )
}  # fmt: skip
COMMANDS: dict[str, Any] = {
    each.__name__: each for each in (blmove, pause, resume, old_put, old_ack, old_fail, old_get)
}
