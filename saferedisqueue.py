"""A reliable FIFO queue on Redis or Valkey: work that was put is not lost.

A consumer *gets* an item, works, then *acks* or *fails* it. Whatever dies in between (the consumer,
its host, the connection, the server with its append-only file on), the item comes back to the queue
by itself. Delivery is at least once.

    from saferedisqueue import SafeRedisQueue

    queue = SafeRedisQueue(name="orders", url="redis://localhost:6379/0")
    queue.put(b"order 17")

    uid, payload = queue.get()          # waits for an item; its uid and its payload
    try:
        work(payload)
    except Exception:
        queue.fail(uid)                 # to the back of the queue, for another try
        raise
    queue.ack(uid)                      # done: the item is gone

States of an item, and what moves it:

    put --> ready --get--> in flight --ack--> gone
              ^               |
              +--autoclean----+  its holder went away
              +--fail---------+
              dead <----------+  its payload could not be decoded

Keys, all beginning with ``srq:<name>:``; the first five are those of saferedisqueue 3.0.0:

    items       hash    uid -> payload, from put until ack
    queue       list    uids that are ready: put pushes left, get takes right
    ackbuf      list    uids out with a consumer
    backup      list    uids out with a consumer for longer than an interval: next to be requeued
    backuplock  string  expires; set while this interval's autoclean has been done
    meta        hash    uid -> deliveries, time and token of the latest one
    dead        zset    uid -> when it died, in ms
    reasons     hash    uid -> why it died
    last:<slot> string  expires; a caller's latest numbered call and its answer

To vendor it, copy this file: it needs Python 3.10 or later and the package ``redis``, nothing else.
"""

from __future__ import annotations

import copy
import hashlib
import logging
import os
import random
import secrets
import time
import warnings
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from functools import wraps
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    NamedTuple,
    ParamSpec,
    Protocol,
    Tuple,
    TypeVar,
    Union,
    cast,
    overload,
)
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TimeoutError,
)
from redis.retry import Retry

if TYPE_CHECKING:
    from types import TracebackType

__all__ = [
    "Item",
    "NoItem",
    "SafeRedisQueue",
    "SafeRedisQueueError",
    "Serializer",
    "Stats",
]
__version__ = "4.0.0.dev0"

log = logging.getLogger("saferedisqueue")

T = TypeVar("T")
R = TypeVar("R")
P = ParamSpec("P")
S = TypeVar("S")


# ---- Errors ------------------------------------------------------------------------------------


class SafeRedisQueueError(Exception):
    """Root of this module's own errors; those of redis-py pass through as they are."""


class WrongClient(SafeRedisQueueError, TypeError):
    """A client of the wrong kind was given, asyncio's to the blocking queue for example."""


# ---- Items and the serializer ------------------------------------------------------------------


class Serializer(Protocol[T]):
    """What turns items into payloads and back: a module like json or pickle, a class, an object."""

    @property
    def dumps(self) -> Callable[[T], str | bytes]: ...

    @property
    def loads(self) -> Callable[[Any], T]: ...


class _Uid(str):
    """A uid that carries the token of its delivery, so that `ack` and `fail` are fenced."""

    __slots__ = ("token",)
    token: str


def _uid(uid: str, token: str) -> _Uid:
    fenced = _Uid(uid)
    fenced.token = token
    return fenced


def _token(uid: str) -> str:
    return getattr(uid, "token", "")


# Tuple and Union of typing: these are evaluated, and Python 3.10 has no generic tuple to inherit
# from besides typing's.
class Item(Tuple[str, T]):  # noqa: UP006
    """What get returns: a tuple ``(uid, payload)`` that knows more about the delivery.

    uid       str, to be given to ack or fail; it carries the token of this delivery
    payload   what was put, after the serializer
    attempts  int, how many times the item was delivered, this time included
    """

    uid: str
    payload: T
    attempts: int

    def __new__(cls, uid: str, payload: T, attempts: int) -> Item[T]:
        item = super().__new__(cls, (uid, payload))  # type: ignore[type-var]  # self is generic
        item.uid = uid
        item.payload = payload
        item.attempts = attempts
        return item

    @property
    def put_at(self) -> float | None:
        """Seconds since the epoch by the putter's clock, or None if the uid does not tell."""
        return _put_at(self.uid)

    def __repr__(self) -> str:
        return f"Item(uid={self.uid!r}, payload={self.payload!r}, attempts={self.attempts})"


class NoItem(Tuple[None, None]):  # noqa: UP006
    """What get returns when there was nothing: the tuple ``(None, None)``."""

    uid: None = None
    payload: None = None

    def __repr__(self) -> str:
        return "NoItem()"


_NO_ITEM: Final = NoItem((None, None))


class Stats(NamedTuple):
    """How many items are where, at one moment.

    ready      items that a get may take now
    in_flight  items out with a consumer, neither acked nor failed yet
    dead       items whose payload could not be decoded
    total      all of them
    oldest     age in seconds of the item that is next, or None: no such item, or a uid without time
    """

    ready: int
    in_flight: int
    dead: int
    total: int
    oldest: float | None


def _new_uid() -> str:
    """A UUID of version 7: its first 48 bits are the time in ms (RFC 9562, section 5.7)."""
    bits = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    bits = bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _put_at(uid: str) -> float | None:
    if len(uid) != 36 or uid[14] != "7" or uid[8] + uid[13] + uid[18] + uid[23] != "----":
        return None
    try:
        return int(uid[:8] + uid[9:13], 16) / 1000
    except ValueError:
        return None


# ---- Keys --------------------------------------------------------------------------------------


def _checked_name(name: object) -> str:
    """The name as text, if it can stand in keys; ValueError or TypeError that says why not."""
    if isinstance(name, int):
        name = str(name)
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}: {name!r}")
    if not 1 <= len(name) <= 200:
        raise ValueError(f"name must have 1 to 200 characters, not {len(name)}")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 for c in name):
        raise ValueError(f"name must not contain control characters: {name!r}")
    braces = "".join(c for c in name if c in "{}")
    if braces not in ("", "{}") or "{}" in name:
        raise ValueError(f"name may contain braces only as one hash tag, as in 'a{{b}}': {name!r}")
    return name


# ---- Scripts -----------------------------------------------------------------------------------

_COMMON = """
local function clock()
  if at ~= '' then return tonumber(at) end
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

-- What this very call was answered before, if it was sent before; an older call is refused.
local said = redis.call('GET', last)
if said then
  local latest, text = string.match(said, '^(%d+) (.*)$')
  if tonumber(latest) > tonumber(number) then
    return redis.error_reply('SUPERSEDED the caller has made a later call')
  end
  said = tonumber(latest) == tonumber(number) and text
end

local function answer(text)
  redis.call('SET', last, number .. ' ' .. text, 'PX', 3600000)
end

-- meta of a uid is 'deliveries time token ': the token is '-' once the delivery is over.
local function is_token_of(token, about)
  return about and string.find(about, ' ' .. token .. ' ', 1, true)
end
"""

# For the scripts that end a delivery.
_HELD = """
-- The list that holds `uid` while it is in flight, and its meta; nil if it is not, or if `token`
-- (unless '') is not the token of its latest delivery.
local function held(uid, token)
  local about = redis.call('HGET', meta, uid)
  if token ~= '' and not is_token_of(token, about) then return nil end
  if redis.call('HEXISTS', items, uid) == 0 then return nil end
  for _, place in ipairs({ackbuf, backup}) do
    if redis.call('LPOS', place, uid, 'RANK', -1) then return place, about end
  end
end

local function retire(uid, about, uncounted)
  if not about then return end
  local attempts = tonumber(string.match(about, '^%d+')) - uncounted
  redis.call('HSET', meta, uid, attempts .. ' 0 - ')
end

-- A write that needs no memory: after it the server refuses none of ours for want of memory, so
-- that everything below can add before it removes, and a full server can be emptied.
redis.call('HDEL', meta, '')
"""


class Script:
    """A move of an item: one Lua script, which the server runs atomically.

    ``keys`` and ``args`` name KEYS and ARGV for the body. The last key is always ``last``, the
    caller's; the first two arguments are always ``number``, that of the call, and ``at``, the time
    in ms or '' for the server's own; what follows the named arguments begins at ARGV[rest].

    A script that errors half-way is not rolled back. So each adds a place before it removes the
    other: stopped after any of its commands it leaves a uid twice, or one without an item, and get
    drops both; never an item without a place.
    """

    def __init__(self, keys: str, args: str, body: str) -> None:
        self.keys = keys.split()
        names = ["number", "at", *args.split()]
        arguments = ", ".join(f"ARGV[{i}]" for i in range(1, len(names) + 1))
        self.text = (
            f"local {', '.join([*self.keys, 'last'])} = unpack(KEYS)\n"
            f"local {', '.join(names)}, rest = {arguments}, {len(names) + 1}\n{_COMMON}{body}"
        )
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


PUT = Script(
    "items queue",
    "",
    """
-- Queue the items of ARGV[rest], uid and payload in turn, that are not there yet.
-- Returns how many were put.
if said then return tonumber(said) end
local uids, fields = {}, {}
for i = rest, #ARGV, 2 do
  if redis.call('HEXISTS', items, ARGV[i]) == 0 then
    uids[#uids + 1] = ARGV[i]
    fields[#fields + 1] = ARGV[i]
    fields[#fields + 1] = ARGV[i + 1]
  end
end
if #uids > 0 then
  redis.call('LPUSH', queue, unpack(uids))
  redis.call('HSET', items, unpack(fields))
end
answer(#uids)
return #uids
""",
)

CLAIM = Script(
    "items queue ackbuf backup backuplock meta dead reasons",
    "token interval woken moved seen",
    """
-- Bring back what its holders left, then hand out the next ready uid as the delivery `token`.
-- woken '1': a BLMOVE put `moved` into ackbuf for this caller, whose latest answer is of `seen`.
-- interval: ms between two autocleans, '' for none.
-- Returns {now, uid, payload, attempts}; {now, 0} if there may be more to find; else {now}.
local now = clock()
if said == '' then return {now} end
if said then
  local payload, about = redis.call('HGET', items, said), redis.call('HGET', meta, said)
  if payload and is_token_of(token, about) then
    return {now, said, payload, tonumber(string.match(about, '^%d+'))}
  end
  return {now, 0}
end

-- A write that needs no memory: see HELD.
redis.call('HDEL', meta, '')

-- Put the moved uid back to where it was, unless it has been requeued and claimed meanwhile.
if woken == '1' then
  local claimed, holder = string.match(redis.call('HGET', meta, moved) or '', '^%d+ (%d+) (%S+) ')
  local taken = holder and holder ~= '-' and tonumber(claimed) >= tonumber(seen)
  if not taken and redis.call('LPOS', ackbuf, moved) then
    redis.call('RPUSH', queue, moved)
    redis.call('LREM', ackbuf, 1, moved)
  end
end

-- Autoclean: backup is emptied into queue, then takes over ackbuf, and only then the lock is set.
local ttl = interval ~= '' and redis.call('PTTL', backuplock)
if ttl == -1 then
  -- Of a 3.0.0 that died while it requeued, or of one that is just slow: give it time.
  redis.call('PEXPIRE', backuplock, math.max(10 * interval, 600000))
elseif ttl == -2 then
  local moves = 0
  while moves < 100 and redis.call('LMOVE', backup, queue, 'RIGHT', 'LEFT') do
    moves = moves + 1
  end
  if redis.call('EXISTS', backup) == 0 then
    if redis.call('EXISTS', ackbuf) == 1 then redis.call('RENAME', ackbuf, backup) end
    redis.call('SET', backuplock, 1, 'PX', interval)
  end
end

-- A uid that was delivered before may be a second copy: 3.0.0's fail makes such.
local function stands_elsewhere(uid)
  return redis.call('LPOS', ackbuf, uid, 'RANK', 2) or redis.call('LPOS', backup, uid)
    or redis.call('ZSCORE', dead, uid)
end

for _ = 1, 1000 do
  local uid = redis.call('LMOVE', queue, ackbuf, 'RIGHT', 'LEFT')
  if not uid then
    if redis.call('EXISTS', items) == 0 then
      redis.call('UNLINK', ackbuf, backup, meta, dead, reasons)
    end
    answer('')
    return {now}
  end
  local payload, about = redis.call('HGET', items, uid), redis.call('HGET', meta, uid)
  if payload and not (about and stands_elsewhere(uid)) then
    local attempts = (about and tonumber(string.match(about, '^%d+')) or 0) + 1
    redis.call('HSET', meta, uid, string.format('%d %.0f %s ', attempts, now, token))
    answer(uid)
    return {now, uid, payload, attempts}
  end
  if not payload and about then redis.call('HDEL', meta, uid) end
  redis.call('LPOP', ackbuf)
end
answer('')
return {now, 0}
""",
)

ACK = Script(
    "items ackbuf backup meta dead reasons",
    "uid token",
    """
-- Forget an item, wherever its uid stands: what stays in queue is skipped by get.
-- With a token only if that is of the latest delivery. Returns 1 if this call settled it, else 0.
if said then return tonumber(said) end
local settled = 0
if token == '' or is_token_of(token, redis.call('HGET', meta, uid)) then
  settled = redis.call('HDEL', items, uid)
  redis.call('HDEL', meta, uid)
  if redis.call('LREM', ackbuf, -1, uid) == 0 and redis.call('LREM', backup, -1, uid) == 0 then
    redis.call('ZREM', dead, uid)
    redis.call('HDEL', reasons, uid)
  end
end
answer(settled)
return settled
""",
)

FAIL = Script(
    "items queue ackbuf backup meta",
    "uid token",
    f"""
-- An item in flight goes to the back of the queue. Returns 1 if this call did it, else 0.
if said then return tonumber(said) end
{_HELD}
local place, about = held(uid, token)
if place then
  retire(uid, about, 0)
  redis.call('LPUSH', queue, uid)
  redis.call('LREM', place, -1, uid)
end
answer(place and 1 or 0)
return place and 1 or 0
""",
)

HAND_BACK = Script(
    "items queue ackbuf backup meta",
    "uid token",
    f"""
-- An item in flight goes back to the front as if it had not been got. Returns 1 if so, else 0.
if said then return tonumber(said) end
{_HELD}
local place, about = held(uid, token)
if place then
  retire(uid, about, 1)
  redis.call('RPUSH', queue, uid)
  redis.call('LREM', place, -1, uid)
end
answer(place and 1 or 0)
return place and 1 or 0
""",
)

BURY = Script(
    "items ackbuf backup meta dead reasons",
    "uid token reason",
    f"""
-- An item in flight goes to the dead letters. Returns 1 if this call did it, else 0.
if said then return tonumber(said) end
{_HELD}
local place, about = held(uid, token)
if place then
  retire(uid, about, 0)
  redis.call('HSET', reasons, uid, reason)
  redis.call('ZADD', dead, clock(), uid)
  redis.call('LREM', place, -1, uid)
end
answer(place and 1 or 0)
return place and 1 or 0
""",
)

STATS = Script(
    "items queue ackbuf backup dead",
    "",
    """
-- Returns {now, items, in flight, dead, next uid}.
return {
  clock(), redis.call('HLEN', items), redis.call('LLEN', ackbuf) + redis.call('LLEN', backup),
  redis.call('ZCARD', dead), redis.call('LINDEX', queue, -1),
}
""",
)

PURGE = Script(
    "items queue ackbuf backup meta dead reasons",
    "",
    """
-- Drop every item, also those in flight. Returns how many.
if said then return tonumber(said) end
local dropped = redis.call('HLEN', items)
redis.call('UNLINK', items, queue, ackbuf, backup, meta, dead, reasons)
answer(dropped)
return dropped
""",
)


# ---- The steps ---------------------------------------------------------------------------------


class _Slot:
    """Who calls: one at a time uses it, and counts its calls, so that each has a number."""

    __slots__ = ("key", "name", "number")

    def __init__(self, prefix: bytes) -> None:
        self.name = secrets.token_urlsafe(9)
        self.key = prefix + self.name.encode()
        self.number = 0


# An outage ends by itself: a lost connection, a restart, a fail-over.
_OUTAGE = (ConnectionError, TimeoutError, ReadOnlyError)
_GRACE: Final = 0.9  # seconds after its timeout in which a get must have given up on a connection
_POLL: Final = 0.1  # seconds between two looks where a wait cannot be left to the server
_CHUNK_ITEMS: Final = 500
_CHUNK_BYTES: Final = 1_000_000


class _Steps(Generic[T]):
    """The algorithm, once: coroutines that do their I/O through ``_do``, ``_sleep``, ``_resend``.

    ``_do`` sends one command and reads its reply once, in bytes; whether it is sent again is
    decided here, because only the numbered calls may be.
    """

    ITEMS_KEY: str
    QUEUE_KEY: str
    ACKBUF_KEY: str
    BACKUP: str
    BACKUP_LOCK: str
    AUTOCLEAN_INTERVAL: float | None = 60
    serializer: Serializer[T] | None

    def _set_up(
        self,
        name: object,
        autoclean_interval: float | None,
        serializer: Serializer[T] | None,
        wait_slice: float,
        encoding: tuple[str, str, bool],
    ) -> None:
        self.name = _checked_name(name)
        prefix = f"srq:{self.name}:"
        self.ITEMS_KEY = f"{prefix}items"
        self.QUEUE_KEY = f"{prefix}queue"
        self.ACKBUF_KEY = f"{prefix}ackbuf"
        self.BACKUP = f"{prefix}backup"
        self.BACKUP_LOCK = f"{prefix}backuplock"
        if autoclean_interval is not None:
            _check_seconds("autoclean_interval", autoclean_interval, least=0.001)
        self.AUTOCLEAN_INTERVAL = autoclean_interval
        if serializer is not None and not (
            callable(getattr(serializer, "dumps", None))
            and callable(getattr(serializer, "loads", None))
        ):
            raise TypeError(f"serializer must have the functions dumps and loads: {serializer!r}")
        self.serializer = serializer
        _check_seconds("wait_slice", wait_slice, least=0.01)
        self._wait_slice = wait_slice
        self._encoding, self._encoding_errors, self._decode = encoding
        self._prefix = prefix.encode(self._encoding, self._encoding_errors)
        self._at = ""  # the time given to scripts, in ms; '' is the server's
        self._slots: list[_Slot] = []
        self._pid = os.getpid()

    # -- I/O ------------------------------------------------------------------------------------

    async def _do(
        self, *command: Any, timeout: float | None = None, limit: float | None = None
    ) -> Any:
        """Send a command, once; its reply, in bytes.

        timeout: seconds to wait for the reply; limit: seconds for each step of connecting. None is
        what the client was configured with.
        """
        raise NotImplementedError

    async def _sleep(self, seconds: float) -> None:
        raise NotImplementedError

    async def _resend(self, error: Exception, send: Callable[[], Coroutine[Any, Any, R]]) -> R:
        """Send again as the client's own retry policy says, ``error`` being the first failure."""
        raise NotImplementedError

    def _drop_idle(self) -> None:
        """Forget idle connections: their server is not the one that answers now."""
        raise NotImplementedError

    def _forget_parent(self) -> None:
        """In a forked child: connections and call numbers belong to the parent."""
        self._slots = []
        self._pid = os.getpid()

    def _take_slot(self) -> _Slot:
        if self._pid != os.getpid():
            self._forget_parent()
        try:
            slot = self._slots.pop()
        except IndexError:
            slot = _Slot(self._prefix + b"last:")
        slot.number += 1
        return slot

    async def _eval(self, script: Script, slot: _Slot, args: tuple[Any, ...], **io: Any) -> Any:
        keys = [self._prefix + key.encode() for key in script.keys]
        rest = (len(keys) + 1, *keys, slot.key, slot.number, self._at, *args)
        try:
            return await self._do("EVALSHA", script.sha, *rest, **io)
        except NoScriptError:
            return await self._do("EVAL", script.text, *rest, **io)

    async def _call(self, script: Script, *args: Any) -> Any:
        """Run a numbered script; sent again if the connection was lost, it changes nothing more."""
        slot = self._take_slot()

        async def send() -> Any:
            return await self._eval(script, slot, args)

        try:
            reply = await send()
        except AuthenticationError:
            raise
        except ConnectionError:
            # The server may have closed a connection that was idle: at once once more.
            self._drop_idle()
            try:
                reply = await send()
            except (ConnectionError, TimeoutError) as error:
                reply = await self._resend(error, send)
        except TimeoutError as error:
            reply = await self._resend(error, send)
        # Not reached when the outcome is unknown: this slot's call may then still arrive.
        self._slots.append(slot)
        return reply

    # -- payloads -------------------------------------------------------------------------------

    def _dump(self, item: object) -> bytes:
        payload: object = item
        if self.serializer is not None:
            payload = self.serializer.dumps(cast(T, item))
            if not isinstance(payload, (bytes, str)):
                raise TypeError(
                    f"the serializer's dumps must return str or bytes, not {type(payload).__name__}"
                )
        if isinstance(payload, str):
            return payload.encode(self._encoding, self._encoding_errors)
        if isinstance(payload, (bytes, bytearray, memoryview)):
            return bytes(payload)
        raise TypeError(
            f"without a serializer an item must be bytes or str, not {type(item).__name__}: "
            "give the queue a serializer, for example serializer=json"
        )

    def _load(self, payload: bytes) -> T:
        if not self._decode:
            return cast(T, payload) if self.serializer is None else self.serializer.loads(payload)
        if self.serializer is None:
            return cast(T, payload.decode(self._encoding, self._encoding_errors))
        # With decode_responses a serializer gets str, as in 3.0.0; but one that wrote bytes (pickle
        # does) needs bytes.
        try:
            return self.serializer.loads(payload.decode(self._encoding, self._encoding_errors))
        except Exception:
            return self.serializer.loads(payload)

    def _encode_uid(self, uid: object) -> bytes:
        if not isinstance(uid, str):
            raise TypeError(f"a uid is a str, as get returns it, not {type(uid).__name__}: {uid!r}")
        return uid.encode("utf-8", "surrogateescape")

    # -- moves, in the order of an item's life ---------------------------------------------------

    async def _put(self, item: T | str | bytes) -> str:
        """Add an item to the back of the queue; its uid, a str of 36 characters.

        item: what the serializer takes, or without one bytes or str. When put returns, the server
        has the item. If put raises ConnectionError or TimeoutError it may be there or not.

        Raises TypeError for an item that cannot be stored, and redis-py's errors.
        """
        payload = self._dump(item)
        uid = _new_uid()
        await self._call(PUT, uid, payload)
        return uid

    async def _put_many(self, items: Iterable[T | str | bytes]) -> list[str]:
        """Add items in the order given; their uids.

        Takes them from any iterable and sends them in chunks of at most 500 items or about a
        megabyte. A chunk is stored whole or not at all; when put_many raises, the chunks before are
        in the queue.

        Raises TypeError for an item that cannot be stored, and redis-py's errors.
        """
        uids: list[str] = []
        for chunk in _chunks(map(self._dump, items)):
            pairs = [(_new_uid(), payload) for payload in chunk]
            await self._call(PUT, *(field for pair in pairs for field in pair))
            uids.extend(uid for uid, _ in pairs)
        return uids

    async def _get(self, timeout: float | None = 0) -> Item[T] | NoItem:
        """Take the next item, waiting for one if there is none: ``(uid, payload)``.

        timeout: seconds. 0 or None waits for ever (unlike queue.Queue, where 0 does not wait), a
        positive number waits that long, a negative one not at all. ``(None, None)`` when it is over.

        The item is then in flight until it is acked or failed. If neither happens, because the
        consumer was killed for example, it comes back after one to two autoclean intervals.
        An item whose payload the serializer cannot load is put aside and logged, not returned.

        While it waits it outlasts lost connections, restarts and fail-overs of the server; it
        raises redis-py's error when the timeout ends in one, at once without a timeout to wait for.
        """
        if timeout is not None:
            _check_seconds("timeout", timeout)
        start = time.monotonic()
        deadline = None if not timeout else start + max(timeout, 0)
        slot = self._take_slot()
        moved: bytes | None = None
        seen = 0
        while True:
            now, *found = await self._claim(slot, moved, seen, deadline)
            if len(found) == 3:
                item = await self._open(*found, token=f"{slot.name}:{slot.number}")
                if item is not None:
                    self._slots.append(slot)
                    return item
            moved, seen = None, now
            if not found:
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    self._slots.append(slot)
                    return _NO_ITEM
                moved = await self._wait(self._wait_slice if left is None else left, deadline)
            slot.number += 1

    async def _claim(
        self, slot: _Slot, moved: bytes | None, seen: int, deadline: float | None
    ) -> list[Any]:
        """CLAIM, sent again under its number until it is answered or the deadline is over."""
        interval = "" if self.AUTOCLEAN_INTERVAL is None else int(self.AUTOCLEAN_INTERVAL * 1000)
        token = f"{slot.name}:{slot.number}"
        args = (token, interval, int(moved is not None), moved or b"", seen)
        failures = 0
        while True:
            try:
                return cast(
                    "list[Any]", await self._eval(CLAIM, slot, args, **self._limits(deadline))
                )
            except AuthenticationError:
                raise
            except _OUTAGE as error:
                left = None if deadline is None else deadline - time.monotonic()
                self._drop_idle()
                failures += 1
                if failures > 1 or isinstance(error, TimeoutError):
                    if left is not None and left <= 0:
                        raise
                    pause = min(0.05 * 2**failures, 1.0) * random.uniform(0.5, 1)
                    log.warning("queue %s: %s; trying again", self.name, error)
                    await self._sleep(pause if left is None else min(pause, left))

    def _limits(self, deadline: float | None, wait: float = 0) -> dict[str, float]:
        """How long a command that waits ``wait`` seconds may take in a get with this deadline."""
        if deadline is None:
            return {"timeout": wait + 5, "limit": 5}
        return {"timeout": max(deadline + _GRACE - time.monotonic(), 0.01), "limit": _GRACE}

    async def _wait(self, seconds: float, deadline: float | None) -> bytes | None:
        """Wait at most a slice for the queue to have something; what was moved to ackbuf then.

        If this process dies now, or the reply is lost, the uid moved stays in ackbuf and comes back
        by autoclean.
        """
        seconds = min(seconds, self._wait_slice)
        if self.AUTOCLEAN_INTERVAL is None or seconds < 0.01:
            # With autoclean off nothing would bring back what is moved when the reply is lost.
            await self._sleep(min(seconds, _POLL))
            return None
        queue, ackbuf = self._prefix + b"queue", self._prefix + b"ackbuf"
        command = ("BLMOVE", queue, ackbuf, "RIGHT", "LEFT", f"{seconds:.3f}")
        try:
            return cast(
                "bytes | None", await self._do(*command, **self._limits(deadline, wait=seconds))
            )
        except AuthenticationError:
            raise
        except _OUTAGE:
            return None  # the next claim meets the same outage, and deals with it
        except ResponseError as error:
            if not str(error).startswith("UNBLOCKED"):  # a fail-over, or CLIENT UNBLOCK
                raise
            return None

    async def _open(self, uid: bytes, payload: bytes, attempts: int, token: str) -> Item[T] | None:
        """The item of a delivery, or None if it had to be put aside."""
        fenced = _uid(uid.decode("utf-8", "surrogateescape"), token)
        try:
            return Item(fenced, self._load(payload), attempts)
        except Exception as error:  # whatever a serializer raises must not end the consumer's loop
            log.error(
                "queue %s: item %s cannot be decoded and is put aside: %r", self.name, uid, error
            )
            await self._call(BURY, uid, token, f"undecodable: {type(error).__name__}: {error}")
            return None

    async def _get_nowait(self) -> Item[T] | NoItem:
        """``get(timeout=-1)``: the next item, or ``(None, None)`` at once."""
        return await self._get(-1)

    async def _ack(self, uid: str) -> bool:
        """Forget an item that was worked on; True if this call settled it.

        uid: as get returned it. Fenced by the delivery it carries: after the item was delivered
        anew to somebody else this changes nothing and returns False. A plain str is not fenced.
        """
        return bool(await self._call(ACK, self._encode_uid(uid), _token(uid)))

    async def _fail(self, uid: str) -> bool:
        """Put an item in flight to the back of the queue; True if this call did it.

        uid: as get returned it, fenced as in ack. An item that is not in flight stays as it is.
        """
        return bool(await self._call(FAIL, self._encode_uid(uid), _token(uid)))

    async def _hand_back(self, uid: str) -> bool:
        return bool(await self._call(HAND_BACK, self._encode_uid(uid), _token(uid)))

    async def _qsize(self) -> int:
        """How many items are ready to be got."""
        return (await self._stats()).ready

    async def _empty(self) -> bool:
        """True if no item is ready to be got; some may be in flight."""
        return await self._qsize() == 0

    async def _stats(self) -> Stats:
        """How many items are ready, in flight, dead and in total, and the age of the next one."""
        now, total, in_flight, dead, uid = await self._call(STATS)
        put_at = _put_at((uid or b"").decode("utf-8", "surrogateescape"))
        oldest = None if put_at is None else max(now / 1000 - put_at, 0.0)
        return Stats(max(total - in_flight - dead, 0), in_flight, dead, total, oldest)

    async def _purge(self) -> int:
        """Drop every item, also those in flight and the dead; how many there were."""
        return int(await self._call(PURGE))


def _check_seconds(name: str, value: object, least: float = float("-inf")) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds or None, not {value!r}")
    if not least <= value < 1e10:  # also refuses NaN
        raise ValueError(f"{name} must be a number of seconds from {least} on, not {value!r}")


def _chunks(payloads: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for payload in payloads:
        chunk.append(payload)
        size += len(payload)
        if len(chunk) >= _CHUNK_ITEMS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


# ---- The blocking face -------------------------------------------------------------------------


def _run(step: Coroutine[Any, Any, R]) -> R:
    """The result of a step whose hooks never suspend."""
    try:
        step.send(None)
    except StopIteration as done:
        return cast(R, done.value)
    step.close()
    raise RuntimeError(f"the blocking step {step!r} suspended")


def _blocking(
    step: Callable[Concatenate[S, P], Coroutine[Any, Any, R]],
) -> Callable[Concatenate[S, P], R]:
    @wraps(step)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _run(step(self, *args, **kwargs))

    method.__name__ = step.__name__.lstrip("_")
    method.__qualname__ = f"SafeRedisQueue.{method.__name__}"
    return method


class SafeRedisQueue(_Steps[T]):
    """The queue for blocking code: thread-safe, and usable on both sides of a fork.

    name: of the queue, 1 to 200 characters; it stands in all keys, as ``srq:<name>:...``.
    url: ``redis://``, ``rediss://``, ``unix://`` or ``embedded:``; positional arguments are then
        ignored, with a warning. Without one all other arguments go to `redis.Redis`.
    client: a `redis.Redis` of the caller's instead, which close() leaves open. The queue takes its
        settings from it, and opens connections of its own.
    autoclean_interval: seconds; what was got and neither acked nor failed comes back after one to
        two of them. None: never.
    serializer: what has ``dumps`` and ``loads``: json, pickle, a class, an object. Without one an
        item is bytes or str, and get returns bytes (str with ``decode_responses=True``).
    wait_slice: seconds; a waiting get asks the server anew as often.

    Raises TypeError or ValueError for arguments that are unknown, contradictory or out of range.
    """

    @overload
    def __init__(
        self: SafeRedisQueue[str],
        *args: Any,
        decode_responses: Literal[True],
        serializer: None = None,
        **kw: Any,
    ) -> None: ...

    @overload
    def __init__(
        self: SafeRedisQueue[bytes], *args: Any, serializer: None = None, **kw: Any
    ) -> None: ...

    @overload
    def __init__(self, *args: Any, serializer: Serializer[T], **kw: Any) -> None: ...

    def __init__(
        self,
        *args: Any,
        url: str | None = None,
        name: str = "0",
        client: redis.Redis | None = None,
        serializer: Serializer[Any] | None = None,
        wait_slice: float = 1.0,
        **kw: Any,
    ) -> None:
        interval = kw.pop("autoclean_interval", self.AUTOCLEAN_INTERVAL)
        name = _checked_name(name)
        self._server: Any = None
        self._owns_client = client is None
        self._redis = self._make_client(args, url, client, kw)
        pool = self._redis.connection_pool
        settings = pool.connection_kwargs
        encoding = (
            settings.get("encoding", "utf-8"),
            settings.get("encoding_errors", "strict"),
            bool(settings.get("decode_responses", False)),
        )
        self._set_up(name, interval, serializer, wait_slice, encoding)
        # Connections of our own: what is sent again, and when, must be decided here, where it is
        # known whether that is safe. All else is as the client's.
        self._connection_class = pool.connection_class
        self._settings = {
            key: value
            for key, value in settings.items()
            if not key.startswith(("maint_notifications", "oss_cluster", "orig_"))
        }
        self._retry: Retry = self._connection_class(**self._settings).retry
        self._settings["retry"] = Retry(NoBackoff(), 0)
        self._idle: dict[float | None, list[Any]] = {}

    def _make_client(
        self, args: tuple[Any, ...], url: str | None, client: redis.Redis | None, kw: dict[str, Any]
    ) -> redis.Redis:
        if client is not None:
            if args or url is not None or kw:
                given = ", ".join([*map(repr, args), *(["url"] if url is not None else []), *kw])
                raise TypeError(f"client= has its settings already: {given} cannot be given too")
            if not isinstance(client, redis.Redis):
                raise WrongClient(
                    f"SafeRedisQueue needs a redis.Redis, not {type(client).__module__}."
                    f"{type(client).__qualname__}"
                )
            return client
        if url is None:
            return redis.Redis(*args, **kw)
        if args:
            warnings.warn(
                "url= was given: positional arguments are ignored", UserWarning, stacklevel=3
            )
        for key in ("host", "port", "unix_socket_path"):
            if key in kw:
                raise TypeError(f"url= says where the server is: {key}= cannot be given too")
        scheme = url.partition(":")[0].lower()
        if scheme == "embedded":
            self._server = _embedded(url)
            url = self._server.url
        elif scheme not in ("redis", "rediss", "unix"):
            raise ValueError(
                "url must begin with redis://, rediss://, unix:// or embedded:, "
                f"not with {scheme[:20]!r}"
            )
        try:
            return redis.Redis.from_url(cast(str, url), **kw)
        except ValueError:
            # redis-py's message may quote a part of the password.
            raise ValueError(
                "url is not of the form redis://user:password@host:port/db; characters such as "
                "/ # ? : @ in a password must be percent-encoded"
            ) from None

    # -- I/O ------------------------------------------------------------------------------------

    async def _do(
        self, *command: Any, timeout: float | None = None, limit: float | None = None
    ) -> Any:
        idle = self._idle.setdefault(limit, [])
        try:
            connection = idle.pop()
        except IndexError:
            connection = self._new_connection(limit)
        try:
            connection.send_command(*command)
            if timeout is not None and not connection.can_read(timeout):
                raise TimeoutError(f"no reply within {timeout:.1f} s")
            reply = connection.read_response(disable_decoding=True)
        except ReadOnlyError:
            connection.disconnect()  # the next one may reach the new primary
            raise
        except ResponseError:
            idle.append(connection)
            raise
        except BaseException:
            connection.disconnect()  # a reply may still come: nobody else must read it
            raise
        idle.append(connection)
        return reply

    def _new_connection(self, limit: float | None) -> Any:
        settings = dict(self._settings)
        if limit is not None:
            for key in ("socket_timeout", "socket_connect_timeout"):
                if key == "socket_timeout" or "path" not in settings:
                    settings[key] = min(settings.get(key) or limit, limit)
        return self._connection_class(**settings)

    async def _sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def _resend(self, error: Exception, send: Callable[[], Coroutine[Any, Any, R]]) -> R:
        first = [error]

        def again() -> R:
            if first:
                raise first.pop()
            return _run(send())

        # A copy, because a backoff counts for one call.
        return copy.deepcopy(self._retry).call_with_retry(again, lambda _: None)

    def _drop_idle(self) -> None:
        for idle in self._idle.values():
            while idle:
                try:
                    connection = idle.pop()
                except IndexError:  # another thread took it
                    break
                connection.disconnect()

    def _forget_parent(self) -> None:
        super()._forget_parent()
        # Not disconnected: that would shut the parent's connections down.
        self._parents, self._idle = self._idle, {}

    # -- the methods, in the order of an item's life ---------------------------------------------

    put = _blocking(_Steps[T]._put)
    put_many = _blocking(_Steps[T]._put_many)
    get = _blocking(_Steps[T]._get)
    get_nowait = _blocking(_Steps[T]._get_nowait)
    ack = _blocking(_Steps[T]._ack)
    fail = _blocking(_Steps[T]._fail)
    qsize = _blocking(_Steps[T]._qsize)
    empty = _blocking(_Steps[T]._empty)
    stats = _blocking(_Steps[T]._stats)
    purge = _blocking(_Steps[T]._purge)

    def push(self, item: T | str | bytes) -> str:
        """Deprecated: put."""
        warnings.warn("push is put, and goes in 5.0", DeprecationWarning, stacklevel=2)
        return self.put(item)

    def pop(self, timeout: float | None = 0) -> Item[T] | NoItem:
        """Deprecated: get."""
        warnings.warn("pop is get, and goes in 5.0", DeprecationWarning, stacklevel=2)
        return self.get(timeout)

    def close(self) -> None:
        """Close the queue's own connections, and its client if it made it; items stay as they are.

        A get that waits in another thread goes on.
        """
        self._drop_idle()
        if self._owns_client:
            self._redis.close()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> SafeRedisQueue[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        settings = self._settings
        where = settings.get("path") or f"{settings.get('host')}:{settings.get('port')}"
        return f"<SafeRedisQueue {self.name!r} on {where} db {settings.get('db') or 0}>"


def _embedded(url: str) -> Any:
    """The server behind the URL ``embedded:`` (in the user's data directory) or ``embedded:///path``."""
    try:
        from saferedis.server import EmbeddedServer
    except ImportError as error:
        raise SafeRedisQueueError(
            "the URL embedded: needs the package saferedis: "
            'pip install "saferedisqueue[server]", or give the URL of a server'
        ) from error
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment or (parts.path and parts.path[0] != "/"):
        raise ValueError(f"not of the form embedded: or embedded:///path: {url!r}")
    return EmbeddedServer(unquote(parts.path) or None)
