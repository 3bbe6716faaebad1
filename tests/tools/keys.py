"""The keys of a queue as plain Python, what a command does to them, and what a 3.0.0 does.

Every write is one of the methods of Keys, so that a script can be made to fail at each of them.

Not modelled: when `call:<slot>`, `said:<slot>` and `last:<slot>` expire, and limits in bytes.
"""

from __future__ import annotations

from typing import Any, NamedTuple

FOREVER = float("inf")  # when a lock without expiry ends


class Limits(NamedTuple):
    """What a script moves or looks through at most, and for how long at least a lock is mended."""

    clean: int = 100
    due: int = 100
    skip: int = 1000
    searches: int = 4
    passed: int = 100  # what was handed back before
    reach: int = 1000  # from either end of the list, to take out what is removed
    proof: int = 10_000  # from the front, to find the other entry of a uid
    mended: int = 600_000
    uid: str = "[0-9a-f-]{14}7.{21}"  # the form of one of the queue's own


LIMITS = Limits()
OVER, HANDED_BACK = "-", "<"  # tokens of no delivery: it has ended, or was none


class Meta(NamedTuple):
    deliveries: int
    time: int  # 0 is BACK
    token: str
    score: int | None = None
    ghosts: int = 0

    def __str__(self) -> str:
        score = "" if self.score is None else self.score
        ghosts = f" g{self.ghosts}" if self.ghosts else ""
        return f"{self.deliveries} {self.time} {self.token} {score}{ghosts}"


NEW = Meta(0, 0, OVER)  # what is read where there is none


class StoppedError(Exception):
    """A command of the script failed."""


class SupersededError(Exception):
    """The caller has made a later call."""


NONE = frozenset[Any]()


class _Frozen(NamedTuple):
    items: Any = NONE  # of pairs, as all hashes, zsets, and keys of slots
    queue: tuple[str, ...] = ()
    handed: tuple[str, ...] = ()
    ackbuf: tuple[str, ...] = ()
    backup: tuple[str, ...] = ()
    meta: Any = NONE
    leases: Any = NONE
    delayed: Any = NONE
    priority: Any = NONE
    held: Any = NONE
    dead: Any = NONE
    reasons: Any = NONE
    call: Any = NONE  # slot -> number
    said: Any = NONE  # slot -> number, answer
    last: Any = NONE  # slot -> number, uids
    to: Any = NONE
    watch: int | None = None  # until when it is there
    lock: float | None = None  # when backuplock expires
    paused: bool = False
    now: int = 0


class Frozen(_Frozen):
    """The keys as a value, which knows its hash."""

    def __hash__(self) -> int:
        if "hash" not in self.__dict__:
            self.hash = tuple.__hash__(self)
        return self.hash


EMPTY = Frozen()


class Keys:
    """The keys, which a script changes through the methods here; the write after `left` fails."""

    def __init__(
        self, frozen: Frozen = EMPTY, without: str = "", limits: Limits = LIMITS, left: int = -1
    ) -> None:
        (items, queue, handed, ackbuf, backup, meta, leases, delayed, priority, held, dead,
         reasons, call, said, last, to, self.watch, self.lock, self.paused,
         self.now) = frozen  # fmt: skip
        self.items: dict[str, str] = dict(items)
        self.queue, self.handed = list(queue), list(handed)
        self.ackbuf, self.backup = list(ackbuf), list(backup)
        self.meta: dict[str, Meta] = dict(meta)
        self.leases, self.delayed, self.held = dict(leases), dict(delayed), dict(held)
        self.priority, self.dead, self.reasons = dict(priority), dict(dead), dict(reasons)
        self.call: dict[str, int] = dict(call)
        self.said: dict[str, tuple[int, Any]] = dict(said)
        self.last: dict[str, tuple[int, tuple[str, ...]]] = dict(last)
        self.to: dict[str, str] = dict(to)  # items and queue in one, of the queue forwarded to
        self.without, self.limits, self.left = without, limits, left
        self.broken: Any = None  # the key on which all writes fail

    def freeze(self) -> Frozen:
        lists = (self.queue, self.handed, self.ackbuf, self.backup)
        mappings = (
            self.meta, self.leases, self.delayed, self.priority, self.held, self.dead,
            self.reasons, self.call, self.said, self.last, self.to,
        )  # fmt: skip
        frozen = [frozenset(each.items()) if each else NONE for each in mappings]
        rest = (self.watch, self.lock, self.paused, self.now)
        return Frozen._make([frozenset(self.items.items()), *map(tuple, lists), *frozen, *rest])

    def rule(self, name: str) -> bool:
        return self.without != name

    def advance(self, ms: int) -> None:
        """Time goes on, and what has an expiry may go."""
        self.now += ms
        if self.lock is not None and self.lock <= self.now:
            self.lock = None
        if self.watch is not None and self.watch <= self.now:
            self.watch = None

    # -- what a server does -------------------------------------------------------------------

    def _write(self, key: Any = None) -> None:
        if key is not None and key is self.broken:
            raise StoppedError
        if self.left == 0:
            self.left = -2  # the commands after it do not fail, should the script go on
            raise StoppedError
        if self.left > 0:
            self.left -= 1

    @property
    def has_failed(self) -> bool:
        return self.left == -2

    def push(self, end: str, values: list[str], *uids: str) -> None:
        self._write(values)
        for uid in uids:
            values.insert(0 if end == "LPUSH" else len(values), uid)

    def rpop(self, values: list[str], count: int = 1) -> None:
        """RPOP, or of several LTRIM."""
        self._write(values)
        del values[-count:]

    def lrem(self, values: list[str], uid: str, last: bool = True) -> bool:
        """LREM of one: the last (-1), or the first (1)."""
        self._write(values)
        if uid not in values:
            return False
        del values[len(values) - 1 - values[::-1].index(uid) if last else values.index(uid)]
        return True

    def lmove(self, source: list[str], target: list[str], way: str) -> None:
        """LMOVE: 'RIGHT LEFT', or 'LEFT RIGHT'."""
        self._write()
        if source and way == "RIGHT LEFT":
            target.insert(0, source.pop())
        elif source:
            target.append(source.pop(0))

    def lset(self, values: list[str], index: int, uid: str) -> None:
        self._write()
        values[index] = uid

    def set(self, mapping: dict[str, Any], *pairs: tuple[str, Any]) -> None:
        """HSET, ZADD, or SET of a slot's key."""
        self._write(mapping)
        mapping.update(pairs)

    def drop(self, mapping: dict[str, Any], *uids: str) -> int:
        """HDEL or ZREM; how many there were."""
        self._write(mapping)
        return sum(mapping.pop(uid, None) is not None for uid in uids)

    def count(self, slot: str) -> int:
        """INCR."""
        self._write()
        self.call[slot] = self.call.get(slot, 0) + 1
        return self.call[slot]

    def uncount(self, slot: str) -> None:
        """DECR, and DEL of what would not expire. After a write it does not fail."""
        self.call[slot] -= 1
        if self.call[slot] <= 0:
            del self.call[slot]

    def rename(self) -> None:
        self._write()
        self.backup, self.ackbuf = self.ackbuf, []

    def set_lock(self, until: float | None) -> None:
        self._write()
        self.lock = until

    def set_watch(self, until: int | None) -> None:
        self._write()
        self.watch = until

    def set_paused(self, paused: bool) -> None:
        self._write()
        self.paused = paused

    def unlink(self, *keys: Any) -> None:
        self._write()
        for key in keys:
            key.clear()


def in_order(zset: dict[str, float]) -> list[str]:
    return sorted(zset, key=lambda uid: (zset[uid], uid))


# -- single commands -------------------------------------------------------------------------------


def blmove(k: Keys) -> str | None:
    """The end of a wait: the front of queue is that of handed."""
    return rpoplpush(k.queue, k.handed)


def rpoplpush(source: list[str], target: list[str]) -> str | None:
    if not source:
        return None
    target.insert(0, source.pop())
    return target[0]


def pause(k: Keys) -> None:
    k.paused = True


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


COMMANDS: dict[str, Any] = {
    each.__name__: each for each in (blmove, pause, old_put, old_ack, old_fail, old_get)
}
