"""The model is about this code: the same random calls to both, and the same keys and replies.

Each trace is made from its seed, which a failure names. With new seeds for so long:
`python tests/tools/conformance.py SECONDS`
"""

from __future__ import annotations

import random
import sys
import time
from typing import Any

import redis

import keys
import model
import saferedisqueue
import servers
from helpers import Release3
from keys import Meta
from model import Terms

START = 1_700_000_000_000
INTERVAL = 60_000
STEPS = 100  # of a trace
ERRORS = ("SUPERSEDED", "WRONGTYPE")
Args = tuple[Any, ...]


class Trace:
    """Random steps on a model and on a server, compared after each."""

    def __init__(self, client: redis.Redis, seed: int) -> None:
        self.random = random.Random(seed)
        self.client, self.old = client, Release3(client, "test", INTERVAL // 1000)
        self.model = keys.Keys()
        self.model.now = START
        self.lock: tuple[Any, float] = (None, 0)
        # Most traces with few uids, so that they meet often; some with more than a call may move.
        many = self.random.choice((2, 4, 4, 4, 300))
        # By UUIDs of version 7 the queue can tell which was put first.
        forms = ("u{}", "{:08x}-0000-4", "{:08x}-0000-7", "{:08x}-0000-7", "{:08x}-0000-7")
        self.uids = [self.random.choice(forms).format(n) for n in range(many)]
        self.uids = [uid.ljust(36, "-") if "-" in uid else uid for uid in self.uids]
        self.is_long = self.random.random() < 0.1
        self.calls: dict[str, list[tuple[str, Args] | None]] = {"s": [], "t": [], "slot": []}
        self.claims: dict[str, list[tuple[str, Args] | None]] = {"s": [], "t": [], "slot": []}
        self.deliveries: list[tuple[str, str]] = [("u0", "")]
        self.old_step = "lock?"
        self.steps: list[Any] = []
        if self.is_long and self.random.random() < 0.2:
            self.fill(10_050)

    def run(self, steps: int) -> None:
        kinds = [name for name in dir(self) if name.startswith("do_")]
        weights = [3 if name in ("do_claim", "do_put") else 1 for name in kinds]
        for _ in range(steps):
            getattr(self, self.random.choices(kinds, weights)[0])()
            self.compare()

    # -- the steps ------------------------------------------------------------------------------

    def script(self, name: str, *args: Any) -> Any:
        """Call a script as the next of a slot; at times repeat an earlier call instead."""
        slot, chance = self.random.choice(list(self.calls)), self.random.random()
        calls = (self.claims if name in ("claim", "undo") else self.calls)[slot]
        if calls and chance < 0.15:
            i = len(calls) - 1 if chance < 0.1 else self.random.randrange(len(calls))
            earlier = calls[i]
            if earlier is not None:
                return self.send(*earlier, slot, self.number(calls, i))
        if chance > 0.97:
            calls.append(None)  # one that never comes
        calls.append((name, args))
        return self.send(name, args, slot, self.number(calls, len(calls) - 1))

    def number(self, calls: Any, i: int) -> int:
        return i + (1 if any(calls is each for each in self.claims.values()) else 2)

    def send(self, name: str, args: Args, slot: str, number: int) -> Any:
        self.steps.append((name, slot, number, args, self.model.now))
        try:
            reply = self.evaluate(name, args, slot, number)
        except redis.ResponseError as error:
            reply = next((word for word in ERRORS if word in str(error)), str(error))
        try:
            said = model.CALLS[name](self.model, slot, number, *args)
        except keys.SupersededError:
            said = "SUPERSEDED"
        except keys.StoppedError:
            said = "WRONGTYPE"
        assert text(reply) == text(said), self.told(f"{reply}, and was to be {said}")
        return said

    def evaluate(self, name: str, args: Args, slot: str, number: int) -> Any:
        script = getattr(saferedisqueue, name.upper())
        named = [f"srq:test:{key}" for key in script.keys]
        if name == "forward":
            named[-2:] = ["srq:other:items", "srq:other:queue"]
        named += [f"srq:test:{key}:{slot}" for key in script.slot]
        sent = [as_sent(arg) for arg in args]
        return self.client.eval(script.text, len(named), *named, number, self.model.now, *sent)

    def some(self, most: int = 3) -> list[str]:
        return self.random.sample(self.uids, self.random.randint(1, min(most, len(self.uids))))

    def held(self) -> list[tuple[str, str]]:
        """Deliveries, mostly the latest ones; at times with a wrong token, or with none."""
        some = [self.random.choice(self.deliveries[-6:]) for _ in range(self.random.randint(1, 3))]
        if self.random.random() < 0.1:
            some[0] = (some[0][0], self.random.choice(("", "x:1", "-")))
        return some

    def flat(self, pairs: list[tuple[str, str]]) -> Args:
        return tuple(part for pair in pairs for part in pair)

    def do_put(self) -> None:
        uids = self.some(150 if len(self.uids) > 100 else 3)
        delay, due = self.random.choice(((None, None),) * 4 + ((50_000, None), (0, None)))
        if self.random.random() < 0.1:
            delay, due = None, self.model.now + self.random.choice((-5, 30_000))
        level = self.random.choice((0, 0, 0, 1, -1, 1000, -1000))
        maxsize = self.random.choice((None, None, None, 3))
        hold, slice_ = self.random.random() < 0.1, self.slice()
        new = self.random.random() < 0.3
        if new:
            uids = [f"n{len(self.steps)}.{i}" for i in range(len(uids))]
        fields = [part for uid in uids for part in (uid, f"{uid} {len(self.steps)}")]
        if new:
            self.script("put_new", *fields)
        else:
            self.script("put", delay, due, level, maxsize, hold, slice_, *fields)

    def slice(self) -> int:
        return self.random.choice((10_000, 30_000, 60_000))

    def do_fill(self) -> None:
        """So long that what is before it and after it is deep in the list."""
        if self.is_long and self.random.random() < 0.5:
            self.fill(1_100)

    def fill(self, count: int) -> None:
        uids = [f"f{len(self.steps)}.{i}" for i in range(count)]
        self.steps.append(("filled with", count))
        self.model.queue[:0] = reversed(uids)
        self.model.items.update(zip(uids, uids))
        self.client.lpush("srq:test:queue", *uids)
        self.client.hset("srq:test:items", mapping=dict(zip(uids, uids)))

    def do_haunt(self) -> None:
        """A ghost is noted, as of what stood too deep in the list to be found: there, or not."""
        if self.random.random() < 0.3:
            uid = self.random.choice(self.uids)
            about = self.model.meta.get(uid, keys.NEW)
            self.model.meta[uid] = about._replace(ghosts=about.ghosts + 1)
            self.client.hset("srq:test:meta", uid, str(self.model.meta[uid]))
            if self.random.random() < 0.7:
                self.model.queue.append(uid)
                self.client.rpush("srq:test:queue", uid)
            self.steps.append(("a ghost of", uid, self.model.queue[-1:]))

    def do_claim(self, acks: Args = ()) -> None:
        # The caller's own estimate of the time may be wrong.
        about = Meta(1, self.model.now + self.random.choice((0, 0, -7)), f"c:{len(self.steps) + 1}")
        chances = (("g", 0.3), ("b", 0.3), ("a", 0.2), ("w", 0.5))
        how = "".join(letter for letter, chance in chances if self.random.random() < chance)
        if not how and self.random.random() < 0.5:
            how = "h"
        watching = self.random.choice((None, None, "any", self.model.watch, self.model.now + 1))
        interval, most = self.random.choice((INTERVAL, INTERVAL, None)), None
        if self.random.random() < 0.3:
            most = 2
        terms = Terms(watching, self.slice(), interval, most)
        lease = self.random.choice((None, None, 30_000, 90_000))
        count = self.random.choice(
            (1, 1, 1, 2, 3, 250) if not self.is_long else (1, 1, 1, 1, 3, 250)
        )
        said = self.script("claim", about, how, terms, count, lease, *acks)
        if isinstance(said, tuple):
            # Of a call sent again the token is that of its first sending.
            for uid in said[3::3]:
                self.deliveries.append((uid, self.model.meta.get(uid, about).token))

    def do_next(self) -> None:
        self.do_claim(self.flat(self.held()))

    def do_ack(self) -> None:
        self.script("ack", *self.flat(self.held()))

    def do_touch(self) -> None:
        self.script("touch", 70_000, *self.flat(self.held()))

    def do_fail(self) -> None:
        most, reason = self.random.choice((None, None, 1, 2)), self.random.choice(("", "why"))
        triples = [(*pair, self.random.choice((0, 0, 20_000))) for pair in self.held()]
        self.script("fail", most, reason, self.slice(), *self.flat(triples))

    def do_hand_back(self) -> None:
        self.script("hand_back", self.random.randrange(2), *self.flat(self.held()))

    def do_undo(self) -> None:
        slot = self.random.choice(list(self.claims))
        if not self.claims[slot]:
            return  # there is always a claim before it
        name, args = self.claims[slot][-1] or ("", ())
        token = args[0].token if name == "claim" else "x:1"
        watching = self.random.choice((None, None, "any", self.model.watch, self.model.now + 1))
        undone = ("undo", (token, watching, self.slice()))
        self.claims[slot].append(undone)
        self.send(*undone, slot, len(self.claims[slot]))

    def do_release(self) -> None:
        self.script("release", self.random.choice(list(self.model.held) or self.uids))

    def do_reschedule(self) -> None:
        uid = self.random.choice(list(self.model.delayed) or self.uids)
        delay, due = self.random.choice(
            ((0, None), (3, None), (None, 0), (None, self.model.now + 2))
        )
        self.script("reschedule", uid, delay, due, self.slice())

    def do_broken(self) -> None:
        """A command fails in the middle: a key is of the wrong type."""
        slot, way = self.random.choice(list(self.calls)), self.random.choice(("queue", "items"))
        name, args = "put_new", (f"b{len(self.steps)}", "broken")
        if self.random.random() < 0.5:
            name, args, way = "ack", self.deliveries[-1], "items"
            if not model.theirs(self.model, args):
                return  # it has nothing to write
        self.calls[slot].append((name, args))
        self.model.broken = getattr(self.model, way)
        broken, aside = f"srq:test:{way}", "srq:test:aside"
        is_there = self.client.exists(broken) and self.client.rename(broken, aside)
        self.client.set(broken, 1)
        self.send(name, args, slot, self.number(self.calls[slot], len(self.calls[slot]) - 1))
        self.client.delete(broken)
        if is_there:
            self.client.rename(aside, broken)
        self.model.broken = None

    def do_bury(self) -> None:
        self.script("bury", *self.held()[0], "why")

    def do_forward(self) -> None:
        self.script("forward", *self.held()[0], f"f{len(self.steps)}", "forwarded")

    def do_revive(self) -> None:
        self.script("revive", *self.random.choice(((), (), tuple(self.some()))))

    def do_purge_dead(self) -> None:
        if self.random.random() < 0.3:
            limits = ((None, None), (1, None), (None, 5), (2, 1))
            self.script("purge_dead", *self.random.choice(limits))

    def do_purge(self) -> None:
        if self.random.random() < 0.1:
            self.script("purge")

    def do_time(self) -> None:
        self.model.advance(self.random.choice((0, 1, 10_000, 60_000, 600_000)))
        self.steps.append(("now", self.model.now))
        self.expire()

    def expire(self) -> None:
        if self.model.watch is not None and self.model.watch < self.model.now + 5_000:
            self.model.watch = None  # may run out at any moment
        for key, value in (("backuplock", self.model.lock), ("watch", self.model.watch)):
            if value is None:
                self.client.delete(f"srq:test:{key}")

    def do_wait(self) -> None:
        """LMOVE is what a BLMOVE does when there is something."""
        self.steps.append(("blmove", self.model.queue[-1:]))
        args = ("srq:test:queue", "srq:test:handed", "RIGHT", "LEFT")
        moved = self.client.execute_command("LMOVE", *args)
        assert text(moved) == keys.blmove(self.model), self.told()

    def do_pause(self) -> None:
        if self.random.random() < 0.3:
            self.steps.append("pause")
            keys.pause(self.model)
            self.client.set("srq:test:paused", 1)

    def do_resume(self) -> None:
        self.script("resume")

    def do_old_call(self) -> None:
        uid, kind = self.some()[0], self.random.choice(("put", "ack", "fail"))
        if kind == "fail" and uid not in self.model.items:
            return
        args = (uid, "old") if kind == "put" else (uid,)
        self.steps.append((f"old_{kind}", args))
        getattr(self.old, kind)(*args)
        keys.COMMANDS[f"old_{kind}"](self.model, *args)

    def do_old_get(self) -> None:
        """Its commands one by one, among what others do."""
        for _ in range(self.random.randint(1, 5)):
            before = self.old_step
            self.steps.append(("old_get", before))
            real = self.one_of_old(before)
            self.old_step, uid = keys.old_get(self.model, before, INTERVAL)
            assert real == (uid if before == "take" else self.old_step), self.told()
            self.compare()

    def one_of_old(self, step: str) -> str | None:
        """The step of helpers.Release3.autoclean and get of that name; the step that follows."""
        client, old = self.client, self.old
        if step == "lock?":
            return "take" if client.exists(old.lock) else "backup?"
        if step == "backup?":
            return "setnx" if client.exists(old.backup) else "ackbuf?"
        if step == "ackbuf?":
            return "renamenx" if client.exists(old.ackbuf) else "setex"
        if step == "renamenx":
            try:
                client.renamenx(old.ackbuf, old.backup)
            except redis.ResponseError:
                return "lock?"
            return "setex"
        if step == "setex":
            client.execute_command("SETEX", old.lock, old.interval, 1)
            return "take"
        if step == "setnx":
            return "move" if client.execute_command("SETNX", old.lock, 1) else "take"
        if step == "move":
            moved = client.execute_command("RPOPLPUSH", old.backup, old.queue)
            return "any ackbuf?" if moved is None else "move"
        if step == "any ackbuf?":
            return "rename" if client.exists(old.ackbuf) else "expire"
        if step == "rename":
            try:
                client.rename(old.ackbuf, old.backup)
            except redis.ResponseError:
                return "lock?"
            return "expire"
        if step == "expire":
            client.expire(old.lock, old.interval)
            return "take"
        return text(client.execute_command("RPOPLPUSH", old.queue, old.ackbuf))

    # -- the comparison -----------------------------------------------------------------------

    def compare(self) -> None:
        self.expire()
        m, pipe = self.model, self.client.pipeline(transaction=False)
        lists = {name: getattr(m, name) for name in ("queue", "handed", "ackbuf", "backup")}
        zsets = {
            name: getattr(m, name) for name in ("leases", "delayed", "priority", "held", "dead")
        }
        meta = {uid: str(about) for uid, about in m.meta.items()}
        hashes = {"items": m.items, "meta": meta, "reasons": m.reasons}
        texts = {f"call:{slot}": str(number) for slot, number in m.call.items()}
        texts |= {f"said:{slot}": said(*latest) for slot, latest in m.said.items()}
        texts |= {f"last:{slot}": noted(*latest) for slot, latest in m.last.items()}
        texts |= {} if m.watch is None else {"watch": str(m.watch)}
        for name in lists:
            pipe.lrange(f"srq:test:{name}", 0, -1)
        for name in hashes:
            pipe.hgetall(f"srq:test:{name}")
        for name in zsets:
            pipe.zrange(f"srq:test:{name}", 0, -1, withscores=True)
        for name in (*texts, "paused"):
            pipe.get(f"srq:test:{name}")
        pipe.hgetall("srq:other:items").lrange("srq:other:queue", 0, -1)
        for name in texts:
            pipe.pttl(f"srq:test:{name}")
        pipe.pttl("srq:test:backuplock").dbsize()
        found = pipe.execute()
        *found, ttl, size = found
        found, ttls = found[: len(found) - len(texts)], found[len(found) - len(texts) :]
        read: list[Any] = [text(each) for each in found]
        for i in range(7, 12):
            read[i] = {text(uid): score for uid, score in found[i]}
        expected = [*lists.values(), *hashes.values(), *zsets.values(), *texts.values()]
        expected += ["1" if m.paused else None, m.to, list(m.to)[::-1]]
        for name, real, ours in zip((*lists, *hashes, *zsets, *texts), read, expected):
            assert real == ours, self.told(f"{name} is {real}, and was to be {ours}")
        assert read == expected, self.told()
        count = sum(bool(each) for each in expected) + (m.lock is not None)
        assert size == count, self.told("there are other keys")
        assert all(each > 0 for each in ttls), self.told(f"{list(texts)} expire in {ttls}")
        if self.lock[0] != m.lock:
            self.lock = (m.lock, (m.lock or 0) - m.now)
        if m.lock in (None, keys.FOREVER):
            assert ttl == (-1 if m.lock else -2), self.told("the lock")
        else:
            assert self.lock[1] - INTERVAL < ttl <= self.lock[1], self.told("the lock")

    def told(self, what: str = "") -> str:
        return "\n".join([what, *map(str, self.steps[-12:])])


def as_sent(arg: Any) -> Any:
    if isinstance(arg, Terms):
        return " ".join(str(as_sent(each)) for each in arg)
    if isinstance(arg, bool):
        return "1" if arg else ""
    return "" if arg is None else str(arg)


def said(number: int, answer: Any) -> str:
    """An answer as it stands in said:<slot>."""
    return " ".join(map(str, (number, *answer) if isinstance(answer, tuple) else (number, answer)))


def noted(number: int, uids: tuple[str, ...]) -> str:
    """What a claim took, as it stands in last:<slot>."""
    return f"{number} {','.join(str(len(uid)) for uid in uids)} {''.join(uids)}"


def text(reply: Any) -> Any:
    if isinstance(reply, (list, tuple)):
        return [text(each) for each in reply]
    if isinstance(reply, dict):
        return {text(key): text(value) for key, value in reply.items()}
    return reply.decode("latin-1") if isinstance(reply, bytes) else reply


def go_on(seconds: float) -> None:
    end, seed = time.monotonic() + seconds, random.randrange(10**9)
    with servers.Server(servers.find()) as server, server.client() as client:
        while time.monotonic() < end:
            client.flushall()
            Trace(client, seed).run(STEPS)
            seed += 1


if __name__ == "__main__":
    go_on(float(sys.argv[1]))
