"""Random calls of every public method, compared after each with what a user may expect.

A short run is a test, in test_model.py. A long one, on every server it finds or one of them:

    python tests/tools/machine.py --minutes 10 --seed 7 [--server redis-6.2] [--face asyncio]

It prints the seed of each batch; a failure is shrunk to the shortest program that shows it.

Time is given to the scripts, so nothing sleeps: all times here are hours, lest a slow machine
reaches the end of one for real. The lock of autoclean, which the server's own clock ends, is
deleted when its time is over, and so is a watch. A get that waits is stopped in the middle: the
machine then does, as steps of their own, what BLMOVE would, and lets it go on, or not; what was on
its way then arrives later.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import random
import sys
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
import redis
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import saferedisqueue
import servers
from disturbed import DISTURBED, SCRIPTS, Interrupted, Parked, Sent
from expected import NOTHING, Claimed, Delivered, Expected, Kept, Terms
from helpers import Raw
from saferedisqueue import (
    ACK,
    TOUCH,
    UNDO,
    LeaseLost,
    QueueFull,
    SafeRedisQueue,
    _State,
    from_receipt,
)

HOUR = 3600
NOW = 1_800_000_000_000
SLICE = 2 * HOUR  # of a wait
CALL = ACK.slot
GONE = Kept(b"")
NEVER = float("inf")

# Longer than any machine stands still: a get must not give up because the machine is slow.
GRACE = 600.0


# -- the queues -----------------------------------------------------------------------------------


class Picky:
    """A serializer that cannot load everything."""

    @staticmethod
    def dumps(item: bytes) -> bytes:
        return item

    @staticmethod
    def loads(payload: bytes) -> bytes:
        if b"?" in payload:
            raise ValueError("a question")
        return payload


class Habits(NamedTuple):
    """How a consumer's queue is made."""

    autoclean_interval: float | None
    lease: float | None = None
    max_attempts: int | None = None
    retry_delay: Any = 0
    maxsize: int | None = None
    serializer: Any = None


FLEET = (
    Habits(10 * HOUR),
    Habits(3 * HOUR, HOUR, 2, lambda attempts: attempts * HOUR, 7, Picky),
    Habits(None, None, 3, 2 * HOUR),
)


# -- one look at all keys --------------------------------------------------------------------------

HASHES = ("items", "meta", "reasons")
LISTS = ("handed", "queue", "ackbuf", "backup")
ZSETS = ("leases", "delayed", "priority", "held", "dead")
EXPIRING = ("paused", "backuplock", "watch")
KEYS = (*HASHES, *LISTS, *ZSETS, *EXPIRING)
KINDS = tuple(map(len, (HASHES, LISTS, ZSETS, KEYS)))
LOOK = """
local found, hashes, lists, zsets, all = {}, unpack(ARGV)
for i, key in ipairs(KEYS) do
  local kind = (i - 1) % all - hashes
  if kind < 0 then found[i] = redis.call('HGETALL', key)
  elseif kind < lists + 0 then found[i] = redis.call('LRANGE', key, 0, -1)
  elseif kind < lists + zsets then found[i] = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  else found[i] = {redis.call('PTTL', key), redis.call('GET', key)} end
end
return found
"""


def text(value: bytes) -> str:
    return value.decode("utf-8", "surrogateescape")


def encode(uid: str) -> bytes:
    return uid.encode("utf-8", "surrogateescape")


def by_uid(flat: list[bytes]) -> dict[str, bytes]:
    return {text(uid): value for uid, value in zip(flat[::2], flat[1::2])}


class Seen:
    """The keys of a queue at one moment."""

    def __init__(self, found: list[Any]) -> None:
        self.found = dict(zip(KEYS, found))
        self.payloads, meta, self.reasons = map(by_uid, found[:3])
        self.meta = {uid: value.decode() for uid, value in meta.items()}
        self.handed, self.line, self.lately, self.before = (
            [text(uid) for uid in reversed(names)] for names in found[3:7]
        )
        self.leases, self.delayed, self.ranked, self.held, self.dead = (
            {uid: float(score) for uid, score in by_uid(flat).items()} for flat in found[7:12]
        )
        (self.paused, *_), (self.locked, *_), (self.watch_ends, watched) = found[12:]
        self.watched = None if watched is None else int(watched)

    @property
    def places(self) -> dict[str, Any]:
        return {
            "handed": self.handed,
            "queue": self.line,
            "priority": self.ranked,
            "delayed": self.delayed,
            "ackbuf": self.lately,
            "backup": self.before,
            "leases": self.leases,
            "held": self.held,
            "dead": self.dead,
        }

    def lasting(self) -> list[str]:
        """The keys that do not expire."""
        return [key for key in KEYS[:-3] if self.found[key]] + ["paused"] * (self.paused == -1)


# -- the machine -----------------------------------------------------------------------------------

names = st.sampled_from(["a", "b", "ü", "surrogate \udcff"])
members = st.integers(0, len(FLEET) - 1)
seconds = st.sampled_from([1, HOUR, 2 * HOUR, 5 * HOUR])
PASSING = (0.001, 0.001, 1, HOUR // 2, HOUR, 3 * HOUR, 10 * HOUR, 30 * HOUR)
priorities = st.sampled_from([0, 0, 0, 1, 5, -2])
tricks = st.sampled_from(["", "", "", "twice", "late"])
recent = st.integers(0, 12)
forms = st.sampled_from(["as got", "as got", "receipt", "plain"])


# What those do who wait, and others beside them.
WAITS = (
    *("begin", "begin", "put", "put", "wake", "go on", "leave", "arrive"),
    *("take", "time", "hand back"),
)
# Delay and priority of what is put meanwhile.
PUTS: tuple[tuple[int | None, int], ...] = (
    *((None, 0), (None, 0), (None, 1), (None, 1), (None, 5), (None, -2)),
    *((1, 0), (HOUR // 2, 0), (HOUR, 0), (HOUR, 0), (HOUR, 1), (2 * HOUR, 0), (5 * HOUR, 0)),
)
# Of all that they may do: something goes to the front, and two bells are one.
SCENES = [
    [(what, int(i)) for what, _, i in (step.rpartition(" ") for step in scene.split(", "))]
    for scene in (
        "put 0, take 0, begin 0, put 0, wake 0, hand back 0, go on 0",
        "take 0, begin 0, begin 0, put 8, put 2, wake 0, go on 0",
    )
]


class Loop:
    """A consumer that is in its loop."""

    def __init__(self, member: int, consumer: Any, prefetch: int, lease: float) -> None:
        self.member, self.consumer = member, consumer
        self.prefetch, self.lease = prefetch, lease
        self.item: Any = None  # in hand
        self.current: Delivered | None = None
        self.ahead: list[tuple[Any, Delivered]] = []
        self.done: list[Delivered] = []

    @property
    def settled(self) -> bool:
        """Whether the item in hand is settled already."""
        return self.item is not None and self.item._state is _State.SETTLED


class Fleet:
    """A server with nothing else on it, and the queues of one face, used for run after run."""

    def __init__(self, server: servers.Server, client: redis.Redis, face: Any) -> None:
        self.client, self.face = client, face
        for script in SCRIPTS.values():
            self.client.script_load(script.text)
        self.look = self.client.register_script(LOOK)
        self.queues = [
            face.queue(
                url=server.url, name="test", socket_timeout=GRACE, wait_slice=SLICE,
                **habits._asdict(),
            )
            for habits in FLEET
        ]  # fmt: skip

    def begin(self) -> list[Sent]:
        """Begin with nothing; what will list the commands sent from now on."""
        self.client.flushall()
        # A program that is run again must do the same again, and uids are what sorts equals.
        numbers = itertools.count()
        saferedisqueue._LOADS_IN_A_ROW = 1_000_000_000
        saferedisqueue._new_uid = lambda: f"018bcfe5-6800-7000-8000-{next(numbers):012x}"
        saferedisqueue._new_uids = lambda count: [saferedisqueue._new_uid() for _ in range(count)]
        sent: list[Sent] = []
        for queue in self.queues:
            queue._slots.clear()
            queue.sent, queue.trick, queue.keeps_house, queue._server_ms = sent, "", False, 0
        return sent


class QueueMachine(RuleBasedStateMachine):
    fleet: Fleet
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.sent = self.fleet.begin()
        self.client, self.queues = self.fleet.client, self.fleet.queues
        self.model, self.there = Expected(NOW, SLICE * 1000), Expected(NOW)
        self.got: list[tuple[Any, Delivered]] = []  # every delivery, also those that are over
        self.tokens: dict[tuple[str, str], int] = {}  # the number of a delivery in the model
        self.keep_house: set[int] = set()  # whose latest claim that kept house was just now
        self.server_ms = dict.fromkeys(range(len(FLEET)), 0)  # what time they know it is
        self.waiting: list[tuple[int, Any]] = []
        self.left: list[Parked] = []  # waits that nobody awaits any more
        self.loops: list[Loop] = []
        self.copied: set[str] = set()
        self.payloads = 0
        self._set_time(NOW)

    # -- time ------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from(PASSING))
    def time_goes_on(self, seconds: float) -> None:
        self._set_time(self.model.now + int(seconds * 1000))

    @rule(member=members)
    def a_day_passes(self, member: int) -> None:
        """Whoever stands still for so long finds that others have what was its own."""
        for _ in range(2):
            self._set_time(self.model.now + 12 * HOUR * 1000)
            self.get(member, None, "")

    def _set_time(self, now: int) -> None:
        passed = now - self.model.now
        self.model.now = self.there.now = now
        for queue in self.queues:
            queue._at = str(now)
        if passed >= 1000 * saferedisqueue._KEEP_HOUSE:
            self.keep_house.clear()
            for queue in self.queues:
                queue.keeps_house = False
        if self.model.watched is not None and self.model.watched <= now:
            self.model.watched = None
            self.client.delete("srq:test:watch")
        if self.model.cleaned_until is not None and self.model.cleaned_until <= now:
            self.model.cleaned_until = None
            self.client.delete("srq:test:backuplock")

    # -- put -------------------------------------------------------------------------------------

    def _payload(self, content: bytes) -> bytes:
        self.payloads += 1
        return content + b"%d" % self.payloads

    @rule(
        member=members,
        content=st.sampled_from([b"", b"\x00\xff\r\n", b"?"]),
        uid=st.none() | names,
        delay=st.none() | st.just(0) | seconds,
        at=st.none() | st.none() | st.sampled_from([-10 * HOUR, 0, HOUR]),
        aware=st.booleans(),
        priority=priorities,
        held=st.sampled_from([False, False, True]),
        trick=tricks,
    )
    def put(
        self,
        member: int,
        content: bytes,
        uid: str | None,
        delay: float | None,
        at: int | None,
        aware: bool,
        priority: int,
        held: bool,
        trick: str,
    ) -> None:
        queue, payload = self._member(member, trick), self._payload(content)
        when: dict[str, Any] = {}
        due = None
        if held:
            when["held"] = True
        elif at is not None:
            stamp = self.model.now // 1000 + at
            when["at"] = datetime.fromtimestamp(stamp, UTC) if aware else stamp
            due = stamp * 1000
        elif delay is not None:
            when["delay"] = delay
            due = self.model.now + int(delay * 1000)
        if self.model.full([uid or "new"], FLEET[member].maxsize):
            with pytest.raises(QueueFull):
                queue.put(payload, uid=uid, priority=priority, **when)
            return
        put = queue.put(payload, uid=uid, priority=priority, **when)
        if self.model.put([(uid or put, payload)], due, priority, held):
            assert put == uid if uid else type(put) is str
        else:
            assert put is None

    @rule(
        member=members,
        contents=st.lists(st.sampled_from([b"", b"?"]), max_size=4),
        delay=st.none() | seconds,
        priority=priorities,
        held=st.sampled_from([False, False, True]),
        trick=tricks,
    )
    def put_many(
        self,
        member: int,
        contents: list[bytes],
        delay: int | None,
        priority: int,
        held: bool,
        trick: str,
    ) -> None:
        delay = None if held else delay
        queue, payloads = self._member(member, trick), [self._payload(each) for each in contents]
        if self.model.full(["new"] * len(payloads), FLEET[member].maxsize):
            with pytest.raises(QueueFull):
                queue.put_many(payloads, delay=delay, priority=priority, held=held)
            return
        uids = queue.put_many(payloads, delay=delay, priority=priority, held=held)
        due = None if delay is None else self.model.now + delay * 1000
        assert self.model.put(list(zip(uids, payloads)), due, priority, held) == len(payloads)

    @rule(member=members, i=recent, trick=tricks)
    def release(self, member: int, i: int, trick: str) -> None:
        held = [uid for uid, kept in self.model.items.items() if kept.held is not None]
        uids = held if i % 4 and held else [*self.model.items, "a"]
        uid = uids[i % len(uids)]
        assert self._member(member, trick).release(uid) is self.model.release(uid)

    @rule(member=members, i=recent, delay=st.just(0) | seconds, trick=tricks)
    def reschedule(self, member: int, i: int, delay: int, trick: str) -> None:
        delayed = [uid for uid, kept in self.model.items.items() if kept.due is not None]
        uids = delayed if i % 4 and delayed else [*self.model.items, "a"]
        uid = uids[i % len(uids)]
        done = self.model.reschedule(uid, self.model.now + delay * 1000)
        assert self._member(member, trick).reschedule(uid, delay=delay) is done

    def _member(self, member: int, trick: str = "") -> Any:
        """A queue, whose next command is disturbed."""
        self.queues[member].trick = trick
        return self.queues[member]

    # -- get -------------------------------------------------------------------------------------

    def _claimed(
        self, member: int, wanted: int, lease: float | None, how: str, trick: str,
        watching: int | str = "",
    ) -> Claimed:  # fmt: skip
        """What the model says of one claim, and of the one that is sent again."""
        habits = FLEET[member]
        terms = Terms(
            milliseconds(lease), habits.max_attempts, milliseconds(habits.autoclean_interval),
            self.server_ms[member],
        )  # fmt: skip
        again = how.replace("g", "") + "ag"
        if trick == "late":
            claimed = self.model.claim(wanted, terms, again, "any")
        else:
            kept = "b" in how or member in self.keep_house
            claimed = self.model.claim(
                wanted, terms, how if kept and watching == "" else how + "g", watching
            )
            if trick == "twice":
                if claimed.out:  # what it has may be alone
                    claimed = Claimed(claimed.out, NOTHING, True)
                else:
                    claimed = self.model.claim(wanted, terms, again, "any")
        if claimed.kept_house:
            self.keep_house.add(member)
            self.server_ms[member] = self.model.now
        return claimed

    def _fetched(
        self, member: int, wanted: int, lease: float | None, trick: str = "",
        waiting: Any = None, how: str = "",
    ) -> tuple[list[Delivered], int]:  # fmt: skip
        """What the model says a consumer fetches, and the verdict.

        What it cannot load it puts aside.
        """
        watching: int | str = ""
        if waiting is not None:
            watching, how = waiting.told, "w"
        while True:
            behind = "b" if waiting is not None and waiting.was_behind else ""
            out, verdict, _ = self._claimed(member, wanted, lease, behind + how, trick, watching)
            trick = watching = ""
            if waiting is not None:
                waiting.was_behind = False
            loaded = out
            if FLEET[member].serializer is not None:
                loaded = [each for each in out if b"?" not in each.payload]
            for each in out:
                if each not in loaded:
                    delay = self._retry_delay(member, each.uid, "as got", each)
                    reason = "undecodable: ValueError: a question"
                    most = FLEET[member].max_attempts
                    assert self.model.fail(each.uid, each.number, delay, most, reason)
            if waiting is not None:
                waiting.told = self.model.now + verdict if verdict > 0 else ""
            if loaded or (not out and verdict):
                return loaded, verdict

    def _delivered(self, items: list[Any], expected: list[Delivered]) -> None:
        assert [each.uid for each in items] == [each.uid for each in expected]
        assert len(expected) < 2 or not any(each.alone for each in expected)
        for item, each in zip(items, expected):
            assert tuple(item) == (each.uid, each.payload)
            assert item.attempts == each.attempts
            assert item.deadline == (None if each.deadline is None else each.deadline / 1000)
            token = (each.uid, item.uid.token)
            assert token not in self.tokens, "two deliveries with one token"
            self.tokens[token] = each.number
            self.got.append((item, each))
        if not items and not self.model.items and not self.model.paused:
            assert not self._look()[0].lasting()

    @rule(member=members, lease=st.none() | seconds, trick=tricks)
    def get(self, member: int, lease: float | None, trick: str = "") -> None:
        item = self._member(member, trick).get(-1, lease=lease)
        lease = FLEET[member].lease if lease is None else lease
        expected, _ = self._fetched(member, 1, lease, trick)
        self._delivered([item] if item.uid else [], expected)

    @rule(member=members, count=st.integers(1, 6), lease=st.none() | seconds, trick=tricks)
    def get_many(self, member: int, count: int, lease: float | None, trick: str) -> None:
        items = self._member(member, trick).get_many(count, -1, lease=lease)
        lease = next(each for each in (lease, FLEET[member].lease, 60) if each is not None)
        more, verdict = self._fetched(member, count, lease, trick)
        expected = more
        while more and len(expected) < count and verdict == 0:
            more, verdict = self._fetched(member, count - len(expected), lease, how="h")
            expected = expected + more
        self._delivered(items, expected)

    @rule(member=members, count=st.integers(1, 3), unsent=st.booleans())
    def get_is_interrupted(self, member: int, count: int, unsent: bool) -> None:
        queue = self._member(member, "unsent" if unsent else "unanswered")
        with pytest.raises(Interrupted):
            queue.get_many(count, -1, lease=HOUR)
        kept, before = set(self.keep_house), dict(self.server_ms)
        out = [] if unsent else self._claimed(member, count, HOUR, "", "").out
        self.keep_house, self.server_ms = kept, before  # it was told nothing
        self.model.undo(out, "any")

    @rule(
        members=st.tuples(members, members),
        count=st.integers(1, 4),
        contents=st.lists(st.sampled_from([b"", b"?"]), max_size=2),
        wanted=st.integers(1, 4),
        trick=tricks,
    )
    def a_holder_dies(
        self,
        members: tuple[int, int],
        count: int,
        contents: list[bytes],
        wanted: int,
        trick: str,
    ) -> None:
        """What it held may have killed it: that is behind others now."""
        self.get_many(members[0], count, HOUR, "")
        self.put_many(0, contents, None, 0, False, "")
        self._set_time(self.model.now + HOUR * 1000)
        self.all_is_as_expected()
        self.get_many(members[1], wanted, HOUR, trick)

    # -- a get that waits --------------------------------------------------------------------------

    @precondition(lambda self: len(self.waiting) < 3)
    @rule(member=members)
    def a_get_begins(self, member: int) -> None:
        self._member(member)
        waiting = self.fleet.face.waiting(self.queues[member])
        self._went_on(member, waiting)

    def _went_on(self, member: int, waiting: Any) -> None:
        """It has found something, or waits."""
        expected, verdict = self._fetched(member, 1, FLEET[member].lease, waiting=waiting)
        self._delivered([] if waiting.parked else [waiting.item], expected)
        if waiting.parked is None:
            return
        self.waiting.append((member, waiting))
        wait = SLICE if verdict <= 0 else min(SLICE, verdict / 1000 - saferedisqueue._TICK)
        assert waiting.parked.waits is (verdict != -2 and wait >= 0.01)
        if waiting.parked.waits:
            assert waiting.parked.seconds == wait
            waiting.ends = self.model.now + wait * 1000
            assert not self.client.exists("srq:test:handed", "srq:test:queue"), "what wakes it?"

    @precondition(lambda self: any(waiting.parked.catches for _, waiting in self.waiting))
    @rule(count=st.integers(0, 3))
    def a_waiting_get_is_woken(self, count: int) -> None:
        """What BLMOVE does, after some are put: for the consumer that has waited longest."""
        self.put_many(0, [b""] * count, None, 0, False, "")
        self._is_handed(next(w.parked for _, w in self.waiting if w.parked.catches))

    def _is_handed(self, parked: Parked) -> None:
        parked.caught = self.client.lmove("srq:test:queue", "srq:test:handed", "RIGHT", "LEFT")
        caught = self.model.catch()
        assert caught == (None if parked.caught is None else text(parked.caught))
        self.look(0, 2)

    @precondition(lambda self: self.waiting)
    @rule(i=recent, late=st.booleans())
    def a_waiting_get_goes_on(self, i: int, late: bool) -> None:
        if late:
            self.a_day_passes(0)
        member, waiting = self.waiting.pop(i % len(self.waiting))
        waiting.was_behind = waiting.parked.waits
        waiting.wake()
        self._went_on(member, waiting)

    @precondition(lambda self: self.waiting)
    @rule(i=recent)
    def a_waiting_get_is_interrupted(self, i: int) -> None:
        _, waiting = self.waiting.pop(i % len(self.waiting))
        parked = waiting.parked
        waiting.interrupt()
        if parked.waits:
            self.model.undo([], "any")
            self.left.append(parked)
        elif waiting.told != "":
            self.model.undo([], waiting.told)

    @precondition(lambda self: self.left)
    @rule(i=recent, handed=st.booleans())
    def what_an_interrupted_wait_has_sent_arrives(self, i: int, handed: bool) -> None:
        """Its connection is half-open: it may still be handed something, but takes nothing."""
        parked = self.left.pop(i % len(self.left))
        if handed and parked.catches:
            self._is_handed(parked)
        with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
            self.send(parked.claim.data(None))
        self.model.pass_on()

    @rule(
        steps=st.lists(st.tuples(st.sampled_from(WAITS), recent), min_size=4, max_size=12)
        | st.sampled_from(SCENES)
    )
    def those_who_wait(self, steps: list[tuple[str, int]]) -> None:
        """For some time nothing else happens."""
        for what, i in steps:
            if what == "take":
                while any(uid in self.model.items for uid in self.model.ready()):
                    before = len(self.got)
                    self.get_many(0, 6, 5 * HOUR, "")
                    if len(self.got) == before:
                        break
            elif what == "begin" and len(self.waiting) < 3:
                self.a_get_begins(i % len(FLEET))
            elif what == "put":
                self.put_many(0, [b""], *PUTS[i], False, "")
            elif what == "hand back" and self.got:
                self.hand_back(0, [(i, "as got")], True, "")
            elif what == "wake" and any(w.parked.catches for _, w in self.waiting):
                self.a_waiting_get_is_woken(0)
            elif what == "go on" and self.waiting:
                self.a_waiting_get_goes_on(i, False)
            elif what == "leave" and self.waiting:
                self.a_waiting_get_is_interrupted(i)
            elif what == "arrive" and self.left:
                self.what_an_interrupted_wait_has_sent_arrives(i, i % 2 == 1)
            elif what == "time":
                self.time_goes_on((1, HOUR // 2, HOUR)[i % 3])
            self.all_is_as_expected()

    # -- settling ----------------------------------------------------------------------------------

    def _delivery(self, i: int, form: str) -> tuple[str, int | None, Any]:
        """A delivery, perhaps one that is over: the uid to settle it by, its number, and itself."""
        there = [(item, each) for item, each in self.got if each.uid in self.model.items]
        choice = there if i % 3 and there else self.got
        item, each = choice[-1 - i // 3 % len(choice)]
        if form == "plain":
            return str(item.uid), None, each
        return (from_receipt(item.receipt) if form == "receipt" else item.uid), each.number, each

    def _retry_delay(self, member: int, uid: str, form: str, each: Delivered) -> int:
        retry = FLEET[member].retry_delay
        if not callable(retry):
            return int(retry * 1000)
        kept = self.model.items.get(each.uid)
        known = each.attempts if form == "as got" else (kept.deliveries if kept else 0) or 1
        return int(retry(known) * 1000)

    def _is_quick(self, member: int) -> bool:
        """Whether its next call may be: the first one of a slot is not."""
        slots = self.queues[member]._slots
        return bool(slots) and slots[-1].calls > 1

    @precondition(lambda self: self.got)
    @rule(member=members, i=recent, form=forms, trick=tricks)
    def ack(self, member: int, i: int, form: str, trick: str) -> None:
        uid, number, _ = self._delivery(i, form)
        quick = self._is_quick(member)
        acked = self._member(member, trick).ack(uid)
        assert acked is self.model.ack(uid, number, quick=quick)

    @precondition(lambda self: self.got)
    @rule(member=members, which=st.lists(st.tuples(recent, forms), max_size=4), trick=tricks)
    def ack_many(self, member: int, which: list[tuple[int, str]], trick: str) -> None:
        chosen = [self._delivery(*each) for each in which]
        quick = self._is_quick(member)
        settled = self._member(member, trick).ack_many(uid for uid, *_ in chosen)
        assert settled == sum(
            self.model.ack(uid, number, quick=quick or i > 0)
            for i, (uid, number, _) in enumerate(chosen)
        )

    @precondition(lambda self: self.got)
    @rule(
        member=members,
        i=recent,
        form=forms,
        delay=st.none() | st.just(0) | seconds,
        reason=st.sampled_from(["", "why \udcff"]),
        trick=tricks,
    )
    def fail(
        self, member: int, i: int, form: str, delay: int | None, reason: str, trick: str
    ) -> None:
        uid, number, each = self._delivery(i, form)
        wait = self._retry_delay(member, uid, form, each) if delay is None else delay * 1000
        failed = self._member(member, trick).fail(uid, delay, reason)
        why = reason.encode("utf-8", "backslashreplace").decode()
        assert failed is self.model.fail(uid, number, wait, FLEET[member].max_attempts, why)

    @precondition(lambda self: self.got)
    @rule(member=members, which=st.lists(st.tuples(recent, forms), max_size=4), trick=tricks)
    def fail_many(self, member: int, which: list[tuple[int, str]], trick: str) -> None:
        chosen = []
        for i, form in which:
            uid, number, each = self._delivery(i, form)
            chosen.append((uid, number, self._retry_delay(member, uid, form, each)))
        failed = self._member(member, trick).fail_many([uid for uid, *_ in chosen])
        most = FLEET[member].max_attempts
        assert failed == sum(self.model.fail(*each, most) for each in chosen)

    @precondition(lambda self: self.got)
    @rule(member=members, i=recent, form=forms, lease=st.none() | seconds, trick=tricks)
    def touch(self, member: int, i: int, form: str, lease: float | None, trick: str) -> None:
        uid, number, _ = self._delivery(i, form)
        touched = self._member(member, trick).touch(uid, lease)
        lease = next(each for each in (lease, FLEET[member].lease, 60) if each is not None)
        assert touched is self.model.touch(uid, number, int(lease * 1000))

    @precondition(lambda self: self.got)
    @rule(member=members, i=recent, form=forms, trick=tricks)
    def bury(self, member: int, i: int, form: str, trick: str) -> None:
        uid, number, _ = self._delivery(i, form)
        buried = self._member(member, trick).bury(uid, "no use")
        assert buried is self.model.bury(uid, number, "no use")

    @precondition(lambda self: self.got)
    @rule(
        member=members,
        which=st.lists(st.tuples(recent, forms), max_size=4),
        uncounted=st.booleans(),
        trick=tricks,
    )
    def hand_back(
        self, member: int, which: list[tuple[int, str]], uncounted: bool, trick: str
    ) -> None:
        """In whatever order: each has its place."""
        chosen = [self._delivery(*each) for each in which]
        back = self._member(member, trick).hand_back([uid for uid, *_ in chosen], uncounted)
        # With a lease it is one call for all that follow each other.
        calls = itertools.groupby(chosen, lambda each: getattr(each[0], "leased", False) or each)
        assert back == sum(
            self.model.hand_back(*(each[:2] for each in call), uncounted=uncounted)
            for _, call in calls
        )

    @rule(order=st.permutations(range(4)), apart=st.booleans())
    def several_hand_back(self, order: list[int], apart: bool) -> None:
        before = len(self.got)
        for _ in range(4):
            self.get(0, HOUR)
        for i, place in enumerate(order):
            if place < len(self.got) - before:
                item, each = self.got[before + place]
                back = self.queues[i % len(FLEET)].hand_back([item.uid])
                assert back == self.model.hand_back((each.uid, each.number), uncounted=True)
                if apart:
                    self.get(2, None)

    @precondition(lambda self: self.got)
    @rule(member=members, i=recent, form=forms, trick=tricks)
    def forward(self, member: int, i: int, form: str, trick: str) -> None:
        uid, number, _ = self._delivery(i, form)
        payload = self._payload(b"on")
        new = self._member(member, trick).forward(uid, "there", payload)
        assert (new is not None) is self.model.ack(uid, number, quick=False)
        if new is not None:
            assert self.there.put([(new, payload)]) == 1

    @rule(member=members, uid=names, what=st.sampled_from(["remove", "ack"]), trick=tricks)
    def remove(self, member: int, uid: str, what: str, trick: str) -> None:
        queue = self._member(member)
        if self.model.in_flight(uid, None) is None:
            assert not queue.fail(uid)
            assert not queue.touch(uid)
            assert not queue.bury(uid)
        queue.trick = trick
        assert getattr(queue, what)(uid) is self.model.ack(uid)

    @rule(uid=names, before=st.integers(0, 3), behind=st.integers(0, 3), again=st.booleans())
    def a_name_is_removed_among_others(
        self, uid: str, before: int, behind: int, again: bool
    ) -> None:
        """Far from both ends it leaves a ghost."""
        terms = (None, None, True, 0, False, "")
        self.put_many(0, [b""] * before, None, 0, False, "")
        self.put(0, b"", uid, *terms)
        self.put_many(0, [b""] * behind, None, 0, False, "")
        self.remove(0, uid, "remove", "")
        if again:
            self.put(2, b"", uid, *terms)

    # -- dead letters ------------------------------------------------------------------------------

    @rule(member=members, one=st.booleans(), i=recent, trick=tricks)
    def revive(self, member: int, one: bool, i: int, trick: str) -> None:
        dead, queue = self.model.dead(), self._member(member, trick)
        if one:
            uids = dead or [*self.model.items, "a"]
            uid = uids[i % len(uids)]
            assert queue.revive(uid) == self.model.revive(uid)
        else:
            assert queue.revive() == self.model.revive(*dead)

    @precondition(lambda self: self.model.dead())
    @rule(member=members, trick=tricks)
    def purge_dead(self, member: int, trick: str) -> None:
        assert self._member(member, trick).purge_dead() == self.model.purge_dead()

    # -- looking, and looking after ----------------------------------------------------------------

    @rule(member=members, count=st.integers(1, 8))
    def look(self, member: int, count: int) -> None:
        queue, model = self._member(member), self.model
        expected = [(uid, model.items[uid].payload) for uid in model.to_be_seen()]
        same("peek", queue.peek(count), expected[:count])
        assert queue.exists("a") is ("a" in model.items)
        dead = [(uid, model.items[uid]) for uid in model.dead()]
        letters = [(u, k.payload, k.reason, k.deliveries, (k.died or 0) / 1000) for u, k in dead]
        same("dead", queue.dead(), letters)
        assert queue.dead(1, 1) == letters[1:2]
        stats = queue.stats()
        *counts, held = model.counts()
        same("stats", stats[:4], tuple(counts))
        same("stats", stats[4:6], (len(model.items), model.paused))
        same("held", stats.held, held)
        first = next(iter(model.to_be_seen()), "")
        put_at = int(first.replace("-", "")[:12], 16) if len(first) == 36 else None
        same("oldest", stats.oldest, put_at and model.now / 1000 - put_at / 1000)

    @rule(member=members, paused=st.booleans())
    def pause_or_resume(self, member: int, paused: bool) -> None:
        self._member(member).pause() if paused else self._member(member).resume()
        self.model.paused = paused
        if not paused:
            self.model.put_handed_back()

    @precondition(lambda self: len(self.model.items) > 7)
    @rule(member=members, trick=tricks)
    def purge(self, member: int, trick: str) -> None:
        assert self._member(member, trick).purge() == len(self.model.items)
        self.model.purge()

    # -- foreign names, and late commands ----------------------------------------------------------

    @rule(where=st.sampled_from(["queue", "ackbuf", "backup"]), uid=st.just("nobody's \udcfe"))
    def a_foreign_name_appears(self, where: str, uid: str) -> None:
        self.client.lpush(f"srq:test:{where}", encode(uid))
        model = self.model
        {"queue": model.line, "ackbuf": model.lately, "backup": model.before}[where].append(uid)

    @precondition(lambda self: self.got)
    @rule(i=recent)
    def a_second_copy_appears(self, i: int) -> None:
        """As 3.0.0's fail makes of an item that has a lease."""
        item, _ = self.got[-1 - i % len(self.got)]
        if self.model.in_flight(str(item.uid), None) is not None:
            self.client.lpush("srq:test:queue", encode(item.uid))
            self.model.line.append(str(item.uid))
            self.copied.add(str(item.uid))

    @precondition(lambda self: self.sent)
    @rule(i=st.integers(0, 40))
    def a_command_arrives_once_more(self, i: int) -> None:
        """However late: it changes nothing, and is refused after a later call of its slot."""
        command = self.sent[-1 - i % len(self.sent)]
        if "last" in command.script.slot:
            noted = self.client.get(b"srq:test:last:" + command.slot)
            assert noted is not None
            latest = int(noted.split(b" ")[0])
            assert command.number <= latest, "it would be done once more"
            refused = command.number < latest and command.script is not SCRIPTS[UNDO]
        else:
            calls = [s for s in self.sent if s.slot == command.slot and s.script.slot == CALL]
            latest = max((each.number for each in calls), default=0)
            refused = command.number < latest and command.script.slot == CALL
        if refused:
            with pytest.raises(redis.ResponseError, match="SUPERSEDED"):
                self.send(command.data)
        elif command.script is not SCRIPTS[TOUCH]:  # which renews, as often as it comes
            self.send(command.data)

    def send(self, data: bytes) -> None:
        """Send a command of a queue as it is."""
        with SafeRedisQueue(client=self.client) as plain:
            plain._exchange(Raw(plain, data), None)

    # -- loops -------------------------------------------------------------------------------------

    @precondition(lambda self: len(self.loops) < 2)
    @rule(member=members, prefetch=st.integers(1, 4), lease=st.sampled_from([HOUR, 5 * HOUR]))
    def a_loop_begins(self, member: int, prefetch: int, lease: float) -> None:
        consumer = self.queues[member].consume(prefetch, lease, renew=False, timeout=-1)
        self.loops.append(Loop(member, consumer, prefetch, lease))

    def _work_is_done(self, loop: Loop) -> None:
        if loop.current is not None and not loop.settled:
            loop.done.append(loop.current)
        loop.current = None

    def _acked(self, loop: Loop) -> None:
        for each in loop.done:
            self.model.ack(each.uid, each.number)
        loop.done.clear()

    @precondition(lambda self: self.loops)
    @rule(i=recent, trick=tricks)
    def a_loop_goes_on(self, i: int, trick: str) -> None:
        loop = self.loops[i % len(self.loops)]
        self._work_is_done(loop)
        self._member(loop.member, "" if loop.ahead else trick)
        loop.item = next(loop.consumer, None)
        self._acked(loop)
        if not loop.ahead:
            expected, _ = self._fetched(loop.member, loop.prefetch, loop.lease, trick)
            fetched = (
                [] if loop.item is None else [loop.item, *loop.consumer._in_state(_State.AHEAD)]
            )
            self._delivered(fetched, expected)
            loop.ahead = list(zip(fetched, expected))
        if loop.ahead:
            item, loop.current = loop.ahead.pop(0)
            assert item.uid == loop.item.uid

    @precondition(lambda self: any(loop.current for loop in self.loops))
    @rule(how=st.sampled_from(["ack", "fail", "bury", "touch"]))
    def an_item_of_a_loop_is_settled(self, how: str) -> None:
        loop = next(loop for loop in self.loops if loop.current)
        each, habits = loop.current, FLEET[loop.member]
        assert each
        expected = {
            "ack": lambda: self.model.ack(each.uid, each.number),
            "fail": lambda: self.model.fail(
                each.uid, each.number, self._retry_delay(loop.member, each.uid, "as got", each),
                habits.max_attempts,
            ),
            "bury": lambda: self.model.bury(each.uid, each.number, "buried"),
            "touch": lambda: self.model.touch(each.uid, each.number, int(loop.lease * 1000)),
        }[how]()  # fmt: skip
        try:
            getattr(loop.item, how)()
        except LeaseLost:
            assert not expected
        else:
            assert expected

    @precondition(lambda self: self.loops)
    @rule(i=recent, error=st.booleans())
    def a_loop_ends(self, i: int, error: bool) -> None:
        loop = self.loops.pop(i % len(self.loops))
        settled = loop.settled
        loop.consumer.__exit__(*((ValueError, ValueError("no"), None) if error else (None,) * 3))
        self._acked(loop)
        ahead = [(each.uid, each.number) for _, each in reversed(loop.ahead)]
        self.model.hand_back(*ahead, uncounted=True)
        each = loop.current
        if each is None or settled:
            return
        if error:
            delay = self._retry_delay(loop.member, each.uid, "as got", each)
            most = FLEET[loop.member].max_attempts
            self.model.fail(each.uid, each.number, delay, most, "ValueError: no")
        else:
            self.model.hand_back((each.uid, each.number), uncounted=False)

    @rule(member=members, error=st.booleans())
    def processing(self, member: int, error: bool) -> None:
        block = self._member(member).processing(-1, HOUR, renew=False)
        expected, _ = self._fetched(member, 1, HOUR)
        with contextlib.suppress(ZeroDivisionError), block as item:
            self._delivered([item] if item is not None else [], expected)
            if error:
                raise ZeroDivisionError("no")
        for each in expected:
            if error:
                delay = self._retry_delay(member, each.uid, "as got", each)
                most = FLEET[member].max_attempts
                self.model.fail(each.uid, each.number, delay, most, "ZeroDivisionError: no")
            else:
                self.model.ack(each.uid, each.number)

    # -- after every step --------------------------------------------------------------------------

    @invariant()
    def all_is_as_expected(self) -> None:
        QueueMachine.steps += 1
        seen, seen_there = self._look()
        self._check_invariants(seen)
        self._check_those_who_wait(seen)
        self._compare(seen, self.model)
        self._compare(seen_there, self.there)

    def _look(self) -> list[Seen]:
        keys = [f"srq:{name}:{key}" for name in ("test", "there") for key in KEYS]
        found = self.fleet.look(keys, KINDS)
        return [Seen(found[: len(KEYS)]), Seen(found[len(KEYS) :])]

    def _check_invariants(self, seen: Seen) -> None:
        places = seen.places
        for uid in seen.payloads:
            standing = [place for place, uids in places.items() for each in uids if each == uid]
            assert standing, f"{uid} is lost"
            if uid not in self.copied:
                most = 1 + self.model.ghosts.get(uid, 0)
                assert len(standing) <= most, f"{uid} stands in {standing}"
        for uids in (seen.leases, seen.delayed, seen.held, seen.dead, seen.reasons):
            assert uids.keys() <= seen.payloads.keys(), "an item that is gone left something"
        assert seen.reasons.keys() == seen.dead.keys()

    def _check_those_who_wait(self, seen: Seen) -> None:
        """None sleeps while there is something, and one awakes in time for what is due."""
        asleep = [waiting for _, waiting in self.waiting if waiting.parked.catches]
        awake = [waiting for _, waiting in self.waiting if not waiting.parked.catches]
        woken = [parked for parked in self.left if parked.caught is not None]
        if not asleep or awake or woken or seen.line or self.model.paused:
            return
        ready = [*seen.ranked, *(uid for uid in seen.handed if uid in seen.payloads)]
        assert not ready, "those who wait do not see what there is"
        due = max(min(seen.delayed.values(), default=NEVER), self.model.now)
        if due <= self.model.now + SLICE * 1000:
            assert any(each.ends <= due for each in asleep), "nobody awakes in time"

    def _compare(self, seen: Seen, model: Expected) -> None:
        items = model.items
        same("payloads", seen.payloads, {uid: kept.payload for uid, kept in items.items()})
        for name in ("handed", "line", "lately", "before", "watched"):
            same(name, getattr(seen, name), getattr(model, name))
        same("ranked", list(seen.ranked), [*itertools.chain(*model.by_priority())])
        for found, name in (
            (seen.leases, "lease"),
            (seen.delayed, "due"),
            (seen.held, "held"),
            (seen.dead, "died"),
        ):
            have = {uid: getattr(kept, name) for uid, kept in items.items()}
            same(name, found, {uid: value for uid, value in have.items() if value is not None})
        reasons = {uid: kept.reason for uid, kept in items.items() if kept.died is not None}
        same("reasons", {uid: why.decode() for uid, why in seen.reasons.items()}, reasons)
        same("meta", {*seen.meta}, {uid for uid in items if items[uid].noted} | {*model.ghosts})
        for uid, value in seen.meta.items():
            kept = items.get(uid, GONE)
            count, got, token, score, *ghosts = value.split(" ")
            same("deliveries", (uid, int(count), int(got)), (uid, kept.deliveries, kept.got))
            same("holder", (uid, self.tokens.get((uid, token))), (uid, kept.holder))
            same("handed back", (uid, token == "<"), (uid, kept.handed_back))
            same("a priority", (uid, score != ""), (uid, kept.rank is not None))
            same("ghosts", ghosts, [f"g{model.ghosts[uid]}"] if uid in model.ghosts else [])
        same("paused", seen.paused == -1, model.paused)
        same("lock", seen.locked != -2, model.cleaned_until is not None)
        assert -1 not in (seen.locked, seen.watch_ends), "for ever"

    # -- the end -----------------------------------------------------------------------------------

    def teardown(self) -> None:
        try:
            if sys.exc_info()[0] is None:
                self._drain()
        finally:
            for _, waiting in self.waiting:
                waiting.vanish()

    def _drain(self) -> None:
        """Everything comes out, once, and nothing is left behind."""
        self.pause_or_resume(0, False)
        self.revive(0, False, 0, "")
        for uid in self.model.items:
            assert self.queues[0].release(uid) is self.model.release(uid)
        left, out = sorted(self.model.items), []
        for _ in range(4):
            before = -1
            while before < len(self.got):
                before = len(self.got)
                self.get(0, None, "")
                for item, each in self.got[before:]:
                    out.append(each.uid)
                    assert self.queues[0].ack(item.uid) is self.model.ack(each.uid, each.number)
            self.all_is_as_expected()
            self._set_time(self.model.now + 100 * HOUR * 1000)
        assert sorted(out) == left
        assert not self.model.items
        with_ttl = [key for key in self.client.scan_iter("srq:test:*") if self.client.ttl(key) < 0]
        assert not with_ttl


def same(what: str, found: Any, expected: Any) -> None:
    assert found == expected, f"{what}: {found!r} instead of {expected!r}"


def milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds * 1000)


# -- short and long --------------------------------------------------------------------------------

SHORT = settings(
    max_examples=12,
    stateful_step_count=50,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
LONG = settings(SHORT, max_examples=40, stateful_step_count=80)


def run(fleet: Fleet, batch: int, how: settings) -> None:
    """A batch of runs: those of a seed are always the same."""
    kind = type("QueueMachine", (QueueMachine,), {"fleet": fleet})
    run_state_machine_as_test(seed(batch)(kind), settings=how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--server", choices=servers.available(), action="append")
    parser.add_argument("--face", choices=DISTURBED, action="append")
    args = parser.parse_args()
    saferedisqueue._GRACE = GRACE
    logging.disable()
    batch, end = args.seed, time.monotonic() + args.minutes * 60
    with contextlib.ExitStack() as stack:
        fleets = []
        for label in args.server or servers.available():
            server = stack.enter_context(servers.Server(servers.available()[label]))
            for name in args.face or DISTURBED:
                client = stack.enter_context(server.client())
                face = stack.enter_context(DISTURBED[name]())
                fleets.append((label, name, Fleet(server, client, face)))
        while time.monotonic() < end:
            label, name, fleet = fleets[batch % len(fleets)]
            start, before = time.monotonic(), QueueMachine.steps
            print(f"--seed {batch} --server {label} --face {name}", end=" ", flush=True)
            run(fleet, batch, LONG)
            taken, steps = time.monotonic() - start, QueueMachine.steps - before
            print(f"{steps} steps, {steps / taken:.0f} a second")
            batch += 1


if __name__ == "__main__":
    main()
