"""What the scripts share, in the model of them (model.py), and the rules of them all.

Each rule that the design rests on has a name, and can be left out: `without`.
"""

from __future__ import annotations

import math
import re
from typing import Any

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

RULES = {
    # of all calls
    "put is numbered": "put sent again is answered as before, an older one refused",
    "claim is numbered": "the same for claim",
    "ack is numbered": "the same for ack, so that what it returns is the truth",
    "fail is numbered": "the same for fail",
    "the rest is numbered": "the same for what else moves items",
    "a late count is taken back": "an older call that comes late does not use up a number",
    "a failed count is taken back": "who sends a call again that failed is not told it was done",
    "ack is fenced": "ack acts only while its token is that of the latest delivery",
    "fail is fenced": "so do fail, touch, bury and hand back",
    "tokens, not counts": "a token is unique, a count of deliveries is not",
    "tokens are retired": "fail, bury, hand back and revive end the delivery",
    "only what is in flight": "fail, touch, bury, hand back need the item to be out",
    "place before payload": "put stopped in between leaves a ghost, not an item without a place",
    "add before remove": "a move stopped in between leaves a uid twice, not nowhere",
    # of put, and of what is removed while it is ready
    "put drops old meta": "a 3.0.0 acked the item of that uid, and left the token of its holder",
    "delayed has meta": "a ghost of that uid in queue is then known to be a second copy",
    "ghosts are counted": "the entry of what is removed may be too deep in the list to be found",
    "put keeps ghosts": "a uid put again has one entry, and its ghosts",
    "ghosts are proven": "an item is not dropped for a ghost that somebody else has taken",
    # of claim
    "handed first": "what those who wait were handed is the front of the queue",
    "wakes another": "a claim that is refused had taken the wake-up of one who waits",
    "nothing is noted": "a claim sent again that took nothing: its first copy may be to come",
    "alone": "what killed its holder does not take what was got with it along",
    "rename when backup is empty": "autoclean replaces no backup that has entries",
    "lock after rename": "an autoclean that was not finished is resumed at once",
    "lock expires": "autoclean goes on without the one who set the lock",
    "mended lock is long": "the 3.0.0 that set a lock without expiry may be alive",
    "time ends with lease": "what came back is not taken for out",
    "time tells copies": "what is out anew is not in backup, but a second copy of it may be",
    "second copies": "3.0.0's fail, or a script stopped, leave a uid twice",
    "ghosts are skipped": "a uid without an item is not handed out",
    "left keys are dropped": "when the queue is found empty",
    # of bells: who waits sees only the list queue
    "bell": "for a priority",
    "taker rings on": "two priority puts, one bell",
    "bell for the next due": "who waits does not know of a delay that is set meanwhile",
    "bell at the back": "those whom the items before it wake may all be gone when it is due",
    "one watches": "not all who wait need wake when something is due",
    "an earlier one is watched": "who watches for a later time comes too late",
    "a watch ends": "who stops watching is not taken for watching",
    "who watches looks": "though nothing is there: else it is taken for watching still",
    "a watch is passed on": "who stops watching leaves it to another",
    "a bell is passed on": "who takes a bell, and an item, does not wait for what it rang for",
    # of the others
    "to the front": "what is handed back is taken next",
    "in order of put": "several hand back what they got, one after the other",
    "front after handed": "what is handed back goes before what others were handed meanwhile",
    "resume empties handed": "those who were handed something in a pause wait again",
    "undo is numbered": "a claim that comes after its undo is refused",
    "undo is uncounted": "nobody had what is undone",
    "revive forgets": "what was revived is as if never delivered",
    "revive writes meta": "stopped before it leaves dead, the item in queue is a second copy",
}


# -- what every script begins and ends with --------------------------------------------------------


def counted(k: Keys, slot: str, number: int, rule: str) -> bool:
    """Count this call, if it is the next of its slot. False: that is for the general way to see."""
    if not k.rule(rule):
        return False
    try:
        count = k.count(slot)
    except StoppedError:
        return False
    if count != number and k.rule("a late count is taken back"):
        k.uncount(slot)
    return count == number


def told(
    k: Keys, slot: str, number: int, rule: str = "the rest is numbered", every: Any = None
) -> Any:
    """What this very call was answered, `every` if that was not noted; None if it is new."""
    latest = k.call.get(slot, 0)
    if not k.rule(rule):
        return None
    if latest > number:
        raise SupersededError
    if latest < number:
        return None
    of, answer = k.said.get(slot, (0, None))
    return answer if of == number else every


def answer(k: Keys, slot: str, number: int, answer: Any, every: Any = None) -> Any:
    if answer != every:
        k.set(k.said, (slot, (number, answer)))
    k.set(k.call, (slot, number))
    return answer


# -- meta ------------------------------------------------------------------------------------------


def is_latest(token: str, about: Meta | None) -> bool:
    return about is not None and about.token == token


def retire(k: Keys, uid: str, token: str = OVER, uncounted: int = 0) -> None:
    about = k.meta.get(uid)
    if about is not None and k.rule("tokens are retired"):
        deliveries = max(about.deliveries - uncounted, 0)
        k.set(k.meta, (uid, about._replace(deliveries=deliveries, time=0, token=token)))


def forget_meta(k: Keys, uid: str, ghosts: int) -> None:
    """Of a uid whose item is gone, or new."""
    if ghosts:
        k.set(k.meta, (uid, NEW._replace(ghosts=ghosts)))
    else:
        k.drop(k.meta, uid)


# -- places that items go to and come from ---------------------------------------------------------


def ring(k: Keys) -> None:
    at_back = k.rule("bell at the back") or not k.queue
    if k.queue[:1] != [""] and at_back:
        k.push("LPUSH", k.queue, "")


def make_ready(k: Keys, uid: str) -> None:
    about = k.meta.get(uid)
    if about is None or about.score is None:
        k.push("LPUSH", k.queue, uid)
    else:
        k.set(k.priority, (uid, about.score))
        if k.rule("bell"):
            ring(k)


def delay_until(k: Keys, due: float, uid: str, slice_: int) -> None:
    is_first = not k.delayed or due < min(k.delayed.values())
    latest = max((each for each in k.delayed.values() if due <= each < due + 1), default=None)
    k.set(k.delayed, (uid, due if latest is None else latest + 1 / 4096))
    if is_first and due <= k.now + slice_ and k.rule("bell for the next due"):
        ring(k)


def in_flight(k: Keys, uid: str, token: str) -> Any:
    """Where an item is out, if the token (unless '') is that of its latest delivery."""
    if token and k.rule("fail is fenced") and not is_latest(token, k.meta.get(uid)):
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


def empty_handed(k: Keys) -> None:
    while k.handed:
        k.lmove(k.handed, k.queue, "LEFT RIGHT")


def is_before(k: Keys, entry: str, uid: str) -> bool:
    """Whether this entry of the list was handed back, and put before `uid`."""
    tells_time = re.compile(k.limits.uid).fullmatch
    if not (tells_time(entry) and tells_time(uid)) or entry > uid:
        return False
    return is_latest(HANDED_BACK, k.meta.get(entry)) and entry in k.items


def make_next(k: Keys, uid: str) -> None:
    about = k.meta.get(uid)
    if not k.rule("to the front") or (about is not None and about.score is not None):
        make_ready(k, uid)
        return
    if k.rule("front after handed"):
        empty_handed(k)
    passed: list[str] = []
    for entry in reversed(k.queue[-k.limits.passed :] if k.rule("in order of put") else []):
        if not is_before(k, entry, uid):
            break
        passed.append(entry)
    # Each moves on by a place, so that none is ever without one.
    for i, entry in enumerate([*passed, uid]):
        if i == 0:
            k.push("RPUSH", k.queue, entry)
        else:
            k.lset(k.queue, -1 - i, entry)


def give_back(k: Keys, uid: str, token: str, uncounted: int) -> int:
    place = in_flight(k, uid, token)
    if place is None:
        return 0
    retire(k, uid, HANDED_BACK, uncounted)
    make_next(k, uid)
    leave(k, place, uid)
    return 1


# -- what is forgotten -----------------------------------------------------------------------------


def settle_out(k: Keys, deliveries: tuple[str, ...]) -> int | None:
    """Forget items if all of them are out, and have neither a priority nor ghosts: how many."""
    uids, tokens = deliveries[::2], deliveries[1::2]
    for uid, token in zip(uids, tokens):
        about = k.meta.get(uid)
        if about is None or about.score is not None or about.ghosts or about.time == 0:
            return None
        if about.token != token or not k.rule("ack is fenced"):
            return None
    try:
        there = k.drop(k.items, *uids)
    except StoppedError:
        return None
    alone = k.drop(k.leases, *uids) < len(uids) and len(uids) == 1
    found = not alone or k.lrem(k.ackbuf, uids[0]) or k.lrem(k.backup, uids[0])
    if found or not there:
        k.drop(k.meta, *uids)
    else:
        forget_meta(k, uids[0], 1)  # a 3.0.0 requeued it
    return there


def theirs(k: Keys, deliveries: tuple[str, ...]) -> list[tuple[str, Meta | None]]:
    """Of uids and tokens in turn those of which the token is the latest, or ''; with their meta."""
    mine = []
    for uid, token in zip(deliveries[::2], deliveries[1::2]):
        about = k.meta.get(uid)
        if not (token and k.rule("ack is fenced")) or is_latest(token, about):
            mine.append((uid, about))
    return mine


def take_out(k: Keys, uid: str, reach: int) -> int:
    """Out of the list, if that is quick."""
    if uid in k.queue[:reach]:
        return k.lrem(k.queue, uid, last=False)
    if reach and uid in k.queue[-reach:]:
        return k.lrem(k.queue, uid)
    return k.lrem(k.handed, uid, last=False)


def leave_wherever(k: Keys, uid: str, about: Meta | None, reach: int) -> int:
    """How many ghosts there are more: 1 if its entry in the list stays, -1 if a ghost goes too."""
    found = int(k.lrem(k.ackbuf, uid) or k.lrem(k.backup, uid))
    if found and not (about is not None and about.time == 0):
        return 0
    # It has come back, and what was found is a second copy.
    for zset in (k.delayed, k.priority, k.held, k.dead):
        found += k.drop(zset, uid)
    k.drop(k.reasons, uid)
    more = max(1 - found - take_out(k, uid, reach), -1)
    return more if k.rule("ghosts are counted") else 0


def forget_places(k: Keys, *mine: tuple[str, Meta | None]) -> None:
    leased = k.drop(k.leases, *[uid for uid, _ in mine]) == len(mine)
    reach = max(k.limits.reach // len(mine), k.limits.reach // 100)
    gone = []
    for uid, about in mine:
        ghosts = about.ghosts if about is not None else 0
        is_out = about is not None and about.time != 0
        # Of several, what a list of those in flight has may stay: it is dropped when it comes back.
        if not leased and (len(mine) == 1 or not is_out):
            ghosts = max(ghosts + leave_wherever(k, uid, about, reach), 0)
        if ghosts:
            forget_meta(k, uid, ghosts)
        else:
            gone.append(uid)
    k.drop(k.meta, *gone)


def forget(k: Keys, *mine: tuple[str, Meta | None]) -> int:
    there = k.drop(k.items, *[uid for uid, _ in mine]) if mine else 0
    if there:
        forget_places(k, *mine)
    return there


# -- what comes back -------------------------------------------------------------------------------


def bring_back(k: Keys, uid: str, before: int) -> None:
    if uid not in k.items:
        return
    about = k.meta.get(uid)
    make_ready(k, uid)
    over = about is not None and (about.time <= before or not k.rule("time tells copies"))
    if about is not None and over and k.rule("time ends with lease"):
        k.set(k.meta, (uid, about._replace(time=0)))


def autoclean(k: Keys, interval: int) -> None:
    if k.lock == FOREVER:
        long = max(10 * interval, k.limits.mended)
        k.set_lock(k.now + (long if k.rule("mended lock is long") else interval))
    elif k.lock is None:
        until = k.now + interval if k.rule("lock expires") else FOREVER
        if not k.rule("lock after rename"):
            k.set_lock(until)
        for uid in k.backup[: -k.limits.clean - 1 : -1]:
            bring_back(k, uid, k.now - interval)
            k.rpop(k.backup)
        if not (k.backup and k.rule("rename when backup is empty")):
            if k.ackbuf:
                k.rename()
            k.set_lock(until)


def keep_house(k: Keys, interval: int | None) -> None:
    for zset in (k.leases, k.delayed):
        for uid in [uid for uid in in_order(zset) if zset[uid] <= k.now][: k.limits.due]:
            bring_back(k, uid, k.now)
            k.drop(zset, uid)
    if interval is not None:
        autoclean(k, interval)


# -- who watches for what is due -------------------------------------------------------------------


def first_of(zset: dict[str, float]) -> int | None:
    return math.ceil(min(zset.values())) if zset else None


def is_unwatched(k: Keys, due: int | None, slice_: int) -> bool:
    if due is None or due > k.now + slice_:
        return False
    if k.watch is None or not k.rule("one watches"):
        return True
    return k.watch > due and k.rule("an earlier one is watched")


def to_watch(k: Keys, slice_: int) -> int:
    times = [due for due in (first_of(k.delayed), first_of(k.leases)) if due is not None]
    due = min(times, default=None)
    if due is None or not is_unwatched(k, due, slice_):
        return -1
    wait = max(due - k.now, 1)
    k.set_watch(k.now + wait)
    return wait


def stop_watching(k: Keys, watching: int | str | None) -> None:
    """With 'any' who watches no longer does not know whether it was told to."""
    if watching in ("any", k.watch) and watching is not None and k.rule("a watch ends"):
        k.set_watch(None)


def pass_on(k: Keys, slice_: int) -> None:
    if is_unwatched(k, first_of(k.delayed), slice_):
        ring(k)
