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

import model
import saferedisqueue
import servers
from helpers import Release3, call
from saferedisqueue import SafeRedisQueue, _Slot

START = 1_700_000_000_000
INTERVAL = 60_000
STEPS = 100  # of a trace
Args = tuple[Any, ...]


class Trace:
    """Random steps on a model and on a queue, compared after each."""

    def __init__(self, queue: Any, client: redis.Redis, seed: int) -> None:
        self.random = random.Random(seed)
        self.queue, self.client = queue, client
        self.old = Release3(client, "test", INTERVAL // 1000)
        self.model = model.Keys()
        self.model.now = START
        self.lock: tuple[Any, float] = (None, 0)
        # Most traces with few uids, so that they meet often; some with more than a call may move.
        self.uids = [f"u{n}" for n in range(self.random.choice((2, 4, 4, 4, 300)))]
        self.calls: dict[str, list[tuple[str, Args]]] = {"s": [], "t": [], "slot": []}
        self.deliveries: list[tuple[str, str]] = [("u0", "")]
        self.moved, self.old_step = "", "lock?"
        self.steps: list[Any] = []

    def run(self, steps: int) -> None:
        kinds = [name for name in dir(self) if name.startswith("do_")]
        weights = [3 if name in ("do_claim", "do_put") else 1 for name in kinds]
        for _ in range(steps):
            getattr(self, self.random.choices(kinds, weights)[0])()
            self.compare()

    # -- the steps ------------------------------------------------------------------------------

    def script(self, name: str, *args: Any) -> Any:
        """Call a script as the next of a slot; at times repeat an earlier call instead."""
        slot = self.random.choice(list(self.calls))
        calls, chance = self.calls[slot], self.random.random()
        if calls and chance < 0.15:
            number = len(calls) if chance < 0.1 else self.random.randint(1, len(calls))
            return self.send(*calls[number - 1], slot, number)
        calls.append((name, args))
        return self.send(name, args, slot, len(calls))

    def send(self, name: str, args: Args, slot: str, number: int) -> Any:
        self.steps.append((name, slot, number, args, self.model.now))
        of = _Slot(self.queue._prefix)
        of.name, of.key, of.number = slot, self.queue._prefix + b"last:" + slot.encode(), number
        self.queue._at = self.model.now
        sent = tuple("" if arg is None else arg for arg in args)
        try:
            if name == "forward":
                keys = [self.queue._prefix + key.encode() for key in saferedisqueue.FORWARD.keys]
                keys[-2:] = [b"srq:other:items", b"srq:other:queue"]
                reply = call(self.queue, saferedisqueue.FORWARD, *sent, slot=of, keys=keys)
            else:
                reply = call(self.queue, getattr(saferedisqueue, name.upper()), *sent, slot=of)
        except redis.ResponseError as error:
            reply = str(error).split()[0]
        try:
            said = model.CALLS[name](self.model, slot, number, *args)
        except model.SupersededError:
            said = "SUPERSEDED"
        assert text(reply) == text(said), self.told()
        return said

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
        new = self.random.random() < 0.3
        if new:
            uids = [f"n{len(self.steps)}.{i}" for i in range(len(uids))]
        fields = [part for uid in uids for part in (uid, f"{uid} {len(self.steps)}")]
        if new:
            self.script("put_new", *fields)
        else:
            self.script("put", delay, due, level, maxsize, *fields)

    def do_claim(self, acks: Args = ()) -> None:
        token = f"c:{len(self.steps) + 1}"
        interval = self.random.choice((INTERVAL, INTERVAL, None))
        lease = self.random.choice((None, None, 30_000, 90_000))
        count, most = self.random.choice((1, 1, 2, 250)), self.random.choice((None, None, 2))
        woken = self.random.random() < 0.4
        moved = self.moved if self.random.random() < 0.8 else self.some()[0]
        seen = self.model.now - self.random.choice((0, 0, 1, 30_000, 10_000_000))
        args = (token, interval, lease, count, most, int(woken), moved, seen, *acks)
        said = self.script("claim", *args)
        if isinstance(said, tuple):
            # Of a call sent again the token is that of its first sending.
            token = next((meta.token for uid, meta in self.model.meta.items() if uid in said), "")
            self.deliveries += [(uid, token) for uid in said[3::3]]

    def do_next(self) -> None:
        self.do_claim(self.flat(self.held()))

    def do_ack(self) -> None:
        self.script("ack", *self.flat(self.held()))

    def do_touch(self) -> None:
        self.script("touch", 70_000, *self.flat(self.held()))

    def do_fail(self) -> None:
        most, reason = self.random.choice((None, None, 1, 2)), self.random.choice(("", "why"))
        triples = [(*pair, self.random.choice((0, 0, 20_000))) for pair in self.held()]
        self.script("fail", most, reason, *self.flat(triples))

    def do_hand_back(self) -> None:
        self.script("hand_back", self.random.randrange(2), *self.flat(self.held()))

    def do_undo(self) -> None:
        slot = self.random.choice(list(self.calls))
        name, args = (self.calls[slot] or [("", ())])[-1]
        token = args[0] if name == "claim" and self.random.random() < 0.9 else ""
        undone = (token, self.random.randrange(2), self.moved, START)
        self.calls[slot].append(("undo", undone))
        self.send("undo", undone, slot, len(self.calls[slot]))

    def do_bury(self) -> None:
        self.script("bury", *self.held()[0], "why")

    def do_forward(self) -> None:
        self.script("forward", *self.held()[0], f"f{len(self.steps)}", "forwarded")

    def do_revive(self) -> None:
        self.script("revive", *self.random.choice(((), (), tuple(self.some()))))

    def do_purge_dead(self) -> None:
        if self.random.random() < 0.3:
            self.script("purge_dead")

    def do_purge(self) -> None:
        if self.random.random() < 0.1:
            self.script("purge")

    def do_time(self) -> None:
        self.model.advance(self.random.choice((0, 1, 10_000, 60_000, 600_000)))
        if self.model.lock is None:
            self.client.delete("srq:test:backuplock")
        self.steps.append(("now", self.model.now))

    def do_wait(self) -> None:
        """LMOVE is what a BLMOVE does when there is something."""
        self.steps.append(("blmove", self.model.queue[-1:]))
        args = ("srq:test:queue", "srq:test:ackbuf", "RIGHT", "LEFT")
        moved = model.blmove(self.model)
        assert text(self.client.execute_command("LMOVE", *args)) == moved, self.told()
        self.moved = self.moved if moved is None else moved

    def do_pause(self) -> None:
        if self.random.random() < 0.3:
            self.steps.append("pause")
            model.pause(self.model)
            self.queue.ask("SET", b"srq:test:paused", 1)

    def do_resume(self) -> None:
        self.steps.append("resume")
        model.resume(self.model)
        self.queue.resume()

    def do_old_call(self) -> None:
        uid, kind = self.some()[0], self.random.choice(("put", "ack", "fail"))
        if kind == "fail" and uid not in self.model.items:
            return
        args = (uid, "old") if kind == "put" else (uid,)
        self.steps.append((f"old_{kind}", args))
        getattr(self.old, kind)(*args)
        model.COMMANDS[f"old_{kind}"](self.model, *args)

    def do_old_get(self) -> None:
        """Its commands one by one, among what others do."""
        for _ in range(self.random.randint(1, 5)):
            before = self.old_step
            self.steps.append(("old_get", before))
            real = self.one_of_old(before)
            self.old_step, uid = model.old_get(self.model, before, INTERVAL)
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
        m, pipe = self.model, self.client.pipeline(transaction=False)
        lists = {name: getattr(m, name) for name in ("queue", "ackbuf", "backup")}
        zsets = {name: getattr(m, name) for name in ("leases", "delayed", "priority", "dead")}
        meta = {uid: str(about) for uid, about in m.meta.items()}
        hashes = {"items": m.items, "meta": meta, "reasons": m.reasons}
        lasts = {f"last:{slot}": said(*latest) for slot, latest in m.last.items()}
        for name in lists:
            pipe.lrange(f"srq:test:{name}", 0, -1)
        for name in hashes:
            pipe.hgetall(f"srq:test:{name}")
        for name in zsets:
            pipe.zrange(f"srq:test:{name}", 0, -1, withscores=True)
        for name in (*lasts, "paused"):
            pipe.get(f"srq:test:{name}")
        pipe.hgetall("srq:other:items").lrange("srq:other:queue", 0, -1)
        pipe.pttl("srq:test:backuplock").dbsize()
        found = pipe.execute()
        ttl, size = found[-2:]
        read: list[Any] = [text(each) for each in found[:-2]]
        for i in range(6, 10):
            read[i] = {text(uid): score for uid, score in found[i]}
        expected = [*lists.values(), *hashes.values(), *zsets.values(), *lasts.values()]
        expected += ["1" if m.paused else None, m.to, list(m.to)[::-1]]
        assert read == [list(e) if isinstance(e, tuple) else e for e in expected], self.told()
        keys = sum(bool(each) for each in expected) + (m.lock is not None)
        assert size == keys, self.told("there are other keys")
        if self.lock[0] != m.lock:
            self.lock = (m.lock, (m.lock or 0) - m.now)
        if m.lock in (None, model.FOREVER):
            assert ttl == (-1 if m.lock else -2), self.told("the lock")
        else:
            assert self.lock[1] - INTERVAL < ttl <= self.lock[1], self.told("the lock")

    def told(self, what: str = "") -> str:
        return "\n".join([what, *map(str, self.steps[-12:])])


def said(number: int, answer: Any) -> str:
    """An answer as it stands in last:<slot>."""
    if isinstance(answer, tuple) and answer and isinstance(answer[0], int):
        answer = " ".join(map(str, answer))
    elif isinstance(answer, tuple):  # a short list of short strings in MessagePack
        count = len(answer)
        head = chr(0x90 + count) if count < 16 else "\xdc" + chr(count >> 8) + chr(count & 255)
        answer = head + "".join(chr(0xA0 + len(uid)) + uid for uid in answer) if answer else ""
    return f"{number} {answer}"


def text(reply: Any) -> Any:
    if isinstance(reply, (list, tuple)):
        return [text(each) for each in reply]
    if isinstance(reply, dict):
        return {text(key): text(value) for key, value in reply.items()}
    return reply.decode("latin-1") if isinstance(reply, bytes) else reply


def go_on(seconds: float) -> None:
    end, seed = time.monotonic() + seconds, random.randrange(10**9)
    with servers.Server(servers.find()) as server, server.client() as client:
        queue = SafeRedisQueue(url=server.url, name="test")
        while time.monotonic() < end:
            client.flushall()
            Trace(queue, client, seed).run(STEPS)
            seed += 1
        queue.close()


if __name__ == "__main__":
    go_on(float(sys.argv[1]))
