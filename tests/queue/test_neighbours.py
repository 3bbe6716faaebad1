"""What others do to the keys and to the server: nothing else is harmed, and the loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import servers
from helpers import Face, Make, check_places, drain, eventually, seed, snapshot
from saferedisqueue import AsyncSafeRedisQueue, SafeRedisQueue, SafeRedisQueueError
from servers import Server, free_port
from topologies import elsewhere

NOW = 1_700_000_000_000
KEYS = (
    *("items", "queue", "ackbuf", "backup", "backuplock", "meta", "leases", "delayed", "priority"),
    *("handed", "held", "dead", "reasons", "paused", "watch"),
)
OF_A_SLOT = ("call:*", "said:*", "last:*")


def seed_each_state(client: redis.Redis) -> set[str]:
    """Items in each state and of some priority; the uids of all that is not dead."""
    client.flushdb()
    uids = {"ready", "next", "out", "older", "leased", "lapsed", "later", "due", "low", "high"}
    uids |= {"front", "kept"}
    seed(client, items=dict.fromkeys([*uids, "died"], "payload"), queue=["ready", "next"])
    seed(client, handed=["front"], held={"kept": NOW}, watch=f"{NOW + 1}")
    seed(client, ackbuf=["out"], backup=["older"])
    seed(client, leases={"leased": NOW + 60_000, "lapsed": NOW - 1})
    seed(client, delayed={"later": NOW + 60_000, "due": NOW - 1})
    scores = {"low": 3 * 2**43 + NOW, "high": -3 * 2**43 + NOW}
    seed(client, priority=scores, dead={"died": NOW}, reasons={"died": "why"})
    seed(client, meta=dict.fromkeys(("out", "older", "leased", "lapsed"), "1 5 tok:1 "))
    seed(client, meta={uid: f"0 0 - {score}" for uid, score in scores.items()})
    seed(client, meta={"died": "3 5 - ", "kept": "0 0 - "})
    return uids


def drain_later(queue: Any, client: redis.Redis) -> list[str]:
    """As drain, when all leases and delays are over, nobody pauses, and nothing is held."""
    client.delete("srq:test:paused")
    queue._at = NOW + 10**8
    try:
        for uid in client.zrange("srq:test:held", 0, -1):
            queue.release(uid.decode())
        return drain(queue, client)
    finally:
        queue._at = NOW


# -- keys of the wrong type ------------------------------------------------------------------------

USES: dict[str, Callable[[Any], Any]] = {
    "put": lambda q: q.put("new", uid="new"),
    "put later": lambda q: q.put("new", uid="new", delay=5),
    "put held": lambda q: q.put("new", uid="new", held=True),
    "put with a priority": lambda q: q.put("new", uid="new", priority=3),
    "get": lambda q: q.get(-1),
    "get leased": lambda q: q.get_many(3, -1),
    "wait": lambda q: q.get(0.01),
    "ack": lambda q: q.ack("out"),
    "fail": lambda q: q.fail("leased"),
    "fail later": lambda q: q.fail("out", 60),
    "touch": lambda q: q.touch("out"),
    "bury": lambda q: q.bury("out"),
    "release": lambda q: q.release("kept"),
    "reschedule": lambda q: q.reschedule("later", delay=9),
    "remove": lambda q: q.remove("out"),
    "forward": lambda q: q.forward("out", "another", "new"),
    "dead": lambda q: q.dead(),
    "revive": lambda q: q.revive("died"),
    "peek": lambda q: q.peek(9),
    "stats": lambda q: q.stats(),
    "pause": lambda q: q.pause(),
    "resume": lambda q: q.resume(),
}
GONE = {"ack", "remove", "forward"}  # after which "out" is
KINDS = {"items": "hash", "meta": "hash", "reasons": "hash", "backuplock": "string"}
KINDS |= dict.fromkeys(("paused", "watch"), "string")
KINDS |= dict.fromkeys(("queue", "handed", "ackbuf", "backup"), "list")
# Uses that are refused to who may not touch a key; by default a get.
CLAIMS, LOOKS = {"get", "get leased", "wait"}, {"dead", "peek", "stats", "pause"}
NEED = {"reasons": {"bury", "dead"}, "paused": {"get", "pause", "resume"}, "last:*": CLAIMS}
NEED |= dict.fromkeys(("call:*", "said:*"), set(USES) - CLAIMS - LOOKS)


def check_uses(queue: Any, client: redis.Redis, disturb: Callable[[], Callable[[], Any]]) -> None:
    """Each use of a queue that is disturbed for a while works or raises, and loses nothing."""
    for name, use in USES.items():
        uids = seed_each_state(client)
        stop = disturb()
        with contextlib.suppress(redis.ResponseError, SafeRedisQueueError):
            use(queue)
        stop()
        items = snapshot(client)["items"].keys()
        assert items >= uids - ({"out"} if name in GONE else set()), name
        died = snapshot(client).get("dead", {}).keys()
        assert sorted(drain_later(queue, client)) == sorted(items - died), name
        assert died - {"out"} <= {"died"}, name
        check_places(client)


@pytest.mark.parametrize("key", KEYS)
def test_a_key_of_the_wrong_type_is_told_and_harms_nothing_else(
    make: Make, client: redis.Redis, key: str
) -> None:
    queue = make(autoclean_interval=3600)
    queue._at = NOW
    full = f"srq:test:{key}"

    def disturb() -> Callable[[], Any]:
        was = client.dump(full)
        client.delete(full)
        if KINDS.get(key) == "hash":
            client.rpush(full, "next", "out")
        else:
            client.hset(full, "next", "out")
        return lambda: mend(was)

    def mend(was: bytes | None) -> None:
        for each in KEYS:
            kind = client.type(f"srq:test:{each}").decode()
            if kind not in ("none", KINDS.get(each, "zset")):
                client.delete(f"srq:test:{each}")
        if was is not None:
            client.restore(full, 0, was, replace=True)

    check_uses(queue, client, disturb)


@pytest.mark.parametrize("key", ["items", "queue", "ackbuf", "meta", "leases", "priority"])
def test_a_loop_that_meets_a_key_of_the_wrong_type_goes_on_when_it_is_mended(
    face: Face, server: Server, client: redis.Redis, key: str
) -> None:
    often = {
        "wait_slice": 0.05,
        "autoclean_interval": 0.1,
        "lease": 60 if key == "leases" else None,
    }
    queue = face.queue(url=server.url, name="test", max_attempts=1, **often)
    errors: list[str] = []

    def loop() -> Any:
        while True:
            try:
                item = queue.get(60)
                return item, queue.ack(item.uid)
            except redis.ResponseError as error:
                errors.append(str(error))

    waiting = elsewhere(loop)
    eventually(lambda: client.info("clients")["blocked_clients"])
    pipe = client.pipeline().set(f"srq:test:{key}", "a string")
    if key != "items":
        pipe.hset("srq:test:items", "a", "A")
    if key != "queue":
        pipe.rpush("srq:test:queue", "a")
    pipe.execute()
    eventually(lambda: len(errors) > 3 or waiting.done())
    assert not waiting.done(), waiting.exception()
    pipe.delete(f"srq:test:{key}")
    if key == "items":
        pipe.hset("srq:test:items", "a", "A")
    if key == "queue":
        pipe.rpush("srq:test:queue", "a")
    pipe.execute()
    item, acked = waiting.result(60)
    assert (item, item.attempts, acked) == (("a", b"A"), 1, True)
    assert all("WRONGTYPE" in error for error in errors)


# -- what happens between any two commands ---------------------------------------------------------


def before_each_command(queue: Any, disturb: Callable[[int], Any]) -> Callable[[], int]:
    """Calls disturb with the number of each command, before it; returns one that tells how many."""
    queue = queue.__dict__.get("wrapped", queue)
    hook = "_send" if isinstance(queue, AsyncSafeRedisQueue) else "_exchange"
    send, sent = getattr(queue, hook), itertools.count()

    def disturbed(*call: Any) -> Any:
        disturb(next(sent))
        return send(*call)

    setattr(queue, hook, disturbed)
    return lambda: next(sent)


def live(queue: Any) -> list[Any]:
    """A bit of everything, and what came of it."""
    queue.put_many([*"ab"])
    queue.put("later", delay=60)
    first, second = queue.get(-1), queue.get(-1, lease=60)
    came = [first.payload, second.payload, queue.touch(first.uid or "x"), len(queue.peek())]
    came += [queue.fail(second.uid or "x"), queue.ack(first.uid or "x"), queue.stats().total]
    came += [queue.bury(queue.get(-1).uid or "x"), len(queue.dead()), queue.revive()]
    queue.put("high", priority=1)
    with queue.consume(prefetch=2, timeout=-1, renew=False) as items:
        came += [item.payload for item in items]
    queue.put("c")
    came += [queue.forward(queue.get(0.05).uid or "x", "another", "d") is not None]
    return [*came, queue.get(0.01), queue.purge_dead(), queue.exists("x")]


def test_scripts_may_be_forgotten_between_any_two_commands(
    face: Face, server: Server, client: redis.Redis
) -> None:
    def lived(disturb: Callable[[int], Any]) -> tuple[list[Any], int]:
        client.flushall()
        queue = face.queue(url=server.url, name="test", autoclean_interval=3600)
        commands = before_each_command(queue, disturb)
        return live(queue), commands()

    expected, commands = lived(lambda _: None)
    assert expected[:3] == [b"a", b"b", True]
    assert b"high" in expected
    for k in range(commands):
        forgetful, _ = lived(lambda n, k=k: n == k and client.script_flush())
        assert forgetful == expected
    forgetful, _ = lived(lambda _: client.script_flush())
    assert forgetful == expected


def check_vanishing(queue: Callable[[], Any], client: redis.Redis, key: str, how: str) -> None:
    """Before each command in turn a key is gone: afterwards the queue is as good as new."""

    def vanish() -> None:
        for each in client.keys(f"srq:test:{key}"):
            if how == "delete":
                client.delete(each)
            else:
                client.rename(each, b"moved:" + each)

    for k in itertools.count():
        client.flushall()
        living = queue()
        sent = before_each_command(living, lambda n, k=k: n == k and vanish())
        live(living)
        if sent() <= k:
            break
        living.purge()
        uid = living.put("new")
        item = living.get(-1)
        assert item == (uid, b"new")
        assert living.ack(uid)
        assert living.get(-1) == (None, None)
        assert snapshot(client).keys() <= {"backuplock"}
    assert k > 20


@pytest.mark.parametrize(
    ("key", "how"), [*((key, "delete") for key in (*OF_A_SLOT, "*")), ("*", "rename")]
)
def test_keys_may_vanish_between_any_two_commands(
    many: Callable[..., Any], client: redis.Redis, key: str, how: str
) -> None:
    check_vanishing(lambda: many(autoclean_interval=3600), client, key, how)


@pytest.mark.parametrize("key", KEYS)
def test_a_single_key_may_vanish_between_any_two_commands(
    make: Make, client: redis.Redis, key: str
) -> None:
    """What that does is done within scripts, which are the same for each face."""
    check_vanishing(lambda: make(autoclean_interval=3600), client, key, "delete")


# -- garbage ---------------------------------------------------------------------------------------

MEMBERS = [b"", b"ghost", b"\xff\xfe", b"\0\r\n", b"g" * 100_000, b"%s %d", b"-1", b"nan", b"{g}"]
SCORES = [math.inf, -math.inf, 0, -1, 1e308, -1e308, 5e-324, NOW, 2**53, -(2**53), 8796093022207]
ABOUTS = [
    *(
        b"",
        b" ",
        b"garbage",
        b"1",
        b"1 2",
        b"1 2 3",
        b"a b c d",
        b"-1 5 tok:1 ",
        b"1 5 tok:1",
        b"\xff",
    ),
    *(
        b"1 5 tok:1 nan",
        b"1 5 tok:1 inf",
        b"1 5 tok:1 1e999",
        b"1 5 tok:1 x",
        b"9" * 5000,
        b"%d %s",
    ),
    *(
        b"1e400 x y z",
        b"9" * 400 + b" 5 tok:1 " + b"9" * 400,
        b"1 5 tok:1 - -",
        b"0 0 - -5.5",
        b"0 0 -  g",
        b"0 0 -  g0",
        b"0 0 -  g1",
        b"0 0 -  g-1",
        b"0 0 -  g999999999",
        b"0 0 -  g" + b"9" * 50,
        b"0 0 < ",
        b"1 0 tok:1  g2",
        b"  ",
    ),
]
LISTS = ("queue", "handed", "ackbuf", "backup")
ZSETS = ("leases", "delayed", "priority", "held", "dead")
MEMBER = st.sampled_from(MEMBERS) | st.binary(max_size=5).map(b"g".__add__)
ABOUT = st.sampled_from(ABOUTS) | st.binary(max_size=30)
GARBAGE = st.one_of(
    st.tuples(st.sampled_from(["LPUSH", "RPUSH"]), st.sampled_from(LISTS), MEMBER),
    st.tuples(
        st.just("ZADD"),
        st.sampled_from(ZSETS),
        (st.sampled_from(SCORES) | st.floats(allow_nan=False)).map(repr),
        MEMBER,
    ),
    st.tuples(st.just("HSET"), st.sampled_from(["items", "meta", "reasons"]), MEMBER, ABOUT),
    st.tuples(
        st.just("HSET"),
        st.just("meta"),
        st.sampled_from(["out", "older", "leased", "lapsed", "high", "died", "next"]),
        ABOUT,
    ),
    st.tuples(
        st.just("SET"),
        st.sampled_from(["paused", "backuplock", "watch", "last", "call", "said"]),
        ABOUT,
    ),
)


def clean(client: redis.Redis, garbage: list[tuple[Any, ...]], uids: set[str]) -> None:
    """Remove the garbage, wherever it stands now."""
    client.delete("srq:test:paused", "srq:test:backuplock", "srq:test:watch")
    for keys in OF_A_SLOT:
        client.delete("none", *client.keys(f"srq:test:{keys}"))
    for command, _key, *rest in garbage:
        member = rest[0] if command == "HSET" else rest[-1]
        client.hdel("srq:test:meta", member)
        if command == "SET" or member in {*uids, "died"}:
            continue
        for key in ZSETS:
            client.zrem(f"srq:test:{key}", member)
        for key in LISTS:
            client.lrem(f"srq:test:{key}", 0, member)
        for key in ("items", "reasons"):
            client.hdel(f"srq:test:{key}", member)


@hypothesis_settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    garbage=st.lists(GARBAGE, min_size=1, max_size=4),
    uses=st.lists(st.sampled_from(list(USES)), min_size=1, max_size=4),
)
def test_garbage_in_the_keys_harms_no_item(
    make: Make, client: redis.Redis, garbage: list[tuple[Any, ...]], uses: list[str]
) -> None:
    queue = make(autoclean_interval=3600)
    queue.stats()
    queue._at = NOW
    uids = seed_each_state(client)
    for command, key, *rest in garbage:
        if key in ("last", "call", "said"):
            key = f"{key}:{queue._slots[-1].name.decode()}"
        client.execute_command(command, f"srq:test:{key}", *rest)
    for use in uses:
        with contextlib.suppress(redis.ResponseError, SafeRedisQueueError):
            USES[use](queue)
    clean(client, garbage, uids)
    items = snapshot(client)["items"].keys()
    assert items >= uids - ({"out"} if GONE & set(uses) else set())
    died = snapshot(client).get("dead", {}).keys()
    assert died <= {"died", "out"}
    check_places(client)
    assert sorted(drain_later(queue, client)) == sorted(items - died)


@pytest.mark.parametrize("about", ABOUTS, ids=range(len(ABOUTS)))
def test_meta_that_does_not_parse_keeps_nobody_from_anything(
    make: Make, client: redis.Redis, about: bytes
) -> None:
    """Not even the item that it is about."""
    queue = make(autoclean_interval=3600)
    queue._at = NOW
    uids = seed_each_state(client)
    seed(client, meta=dict.fromkeys([*uids, "died"], about))
    assert queue.fail("out")
    assert queue.fail("leased", 1)
    assert [letter.uid for letter in queue.dead()] == ["died"]
    assert len(queue.peek(9)) > 1
    assert queue.revive() == 1
    assert sorted(drain_later(queue, client)) == sorted(uids | {"died"})


def test_an_item_without_a_uid_is_not_delivered(make: Make, client: redis.Redis) -> None:
    """The empty string is the bell; an item of that name could be neither acked nor failed."""
    queue = make()
    seed(client, items={"": "foreign", "a": "A"}, queue=["", "a", ""])
    assert drain(queue, client) == ["a"]
    assert queue.purge() == 1


@pytest.mark.parametrize("key", ["ackbuf", "leases"])
def test_a_claim_that_fails_is_no_delivery(make: Make, client: redis.Redis, key: str) -> None:
    queue = make(max_attempts=1, lease=60 if key == "leases" else None)
    uid = queue.put("a")
    client.set(f"srq:test:{key}", "a string")
    for _ in range(3):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            queue.get(-1)
    client.delete(f"srq:test:{key}")
    item = queue.get(-1)
    assert (item.uid, item.attempts) == (uid, 1)


TOUCHED = {
    "put": ("items", "queue"),
    "put, later": ("items", "meta"),
    "get": ("items", "queue", "meta"),
    "ack": ("items", "meta"),
}


@pytest.mark.parametrize(("use", "key"), [(use, key) for use in TOUCHED for key in TOUCHED[use]])
def test_an_error_of_a_wrong_type_names_the_queue_and_the_key_and_what_to_do(
    face: Face, server: Server, client: redis.Redis, key: str, use: str
) -> None:
    queue = face.queue(url=server.url, name="my orders", autoclean_interval=3600)
    calls = {
        "put": lambda: queue.put("b"),
        "get": lambda: queue.get(-1),
        "ack": lambda: queue.ack(uid),
        "put, later": lambda: queue.put("b", delay=60),
    }
    uid = queue.put("a")
    if use == "ack":
        uid = queue.get(-1).uid
    client.delete(f"srq:my orders:{key}")
    client.set(f"srq:my orders:{key}", "a string")
    kind = {"items": "hash", "queue": "list", "meta": "hash"}[key]
    with pytest.raises(redis.ResponseError) as raised:
        calls[use]()
    told = f"queue 'my orders': srq:my orders:{key} is a string where a {kind} belongs: "
    text = str(raised.value)
    assert text.startswith(told), text
    assert "WRONGTYPE" in text
    assert text.endswith("""; run "saferedisqueue doctor --name 'my orders'\"""")
    assert type(raised.value) is redis.ResponseError
    assert isinstance(raised.value.__cause__, redis.ResponseError)
    assert "my orders" not in str(raised.value.__cause__)


def test_each_of_the_puts_that_are_pending_together_is_told_of_the_wrong_key(
    server: Server, client: redis.Redis
) -> None:
    client.set("srq:test:items", "a string")

    async def put_all() -> list[Any]:
        async with AsyncSafeRedisQueue(url=server.url, name="test") as queue:
            puts = (queue.put(str(n)) for n in range(5))
            return await asyncio.gather(*puts, return_exceptions=True)

    errors = asyncio.run(put_all())
    assert len(set(map(id, errors))) == 5
    assert {type(error) for error in errors} == {redis.ResponseError}
    assert all("srq:test:items is a string" in str(error) for error in errors)
    assert all(isinstance(error.__cause__, redis.ResponseError) for error in errors)


def test_an_error_of_a_wrong_type_names_the_key_of_the_other_queue(
    make: Make, client: redis.Redis
) -> None:
    queue = make()
    queue.put("a")
    item = queue.get(-1)
    client.set("srq:other:items", "a string")
    with pytest.raises(redis.ResponseError, match="srq:other:items is a string where a hash"):
        queue.forward(item.uid, "other", "b")


def test_where_it_cannot_be_asked_which_key_is_wrong_the_error_says_so(
    face: Face, server: Server, client: redis.Redis
) -> None:
    client.set("srq:test:items", "a string")
    rules = ("reset", "on", "nopass", "~srq:*", "+@all", "-type")
    client.execute_command("ACL", "SETUSER", "limited", *rules)
    try:
        queue = face.queue(url=f"unix://limited:any@{server.socket}", name="test")
        with pytest.raises(redis.ResponseError, match=r"could not be asked: .*WRONGTYPE.*doctor"):
            queue.put("a")
    finally:
        client.execute_command("ACL", "DELUSER", "limited")


def test_a_call_that_succeeds_asks_for_no_types(
    face: Face, server: Server, client: redis.Redis
) -> None:
    queue = face.queue(url=server.url, name="test")
    client.config_resetstat()
    queue.put("a")
    assert queue.ack(queue.get(-1).uid)
    assert "cmdstat_type" not in client.info("commandstats")


# -- permissions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [*KEYS, *OF_A_SLOT])
def test_a_user_who_may_not_touch_a_key_is_told_so_and_changes_nothing(
    face: Face, server: Server, client: redis.Redis, key: str
) -> None:
    others = [f"~srq:test:{each}" for each in [*KEYS, *OF_A_SLOT] if each != key]
    client.execute_command("ACL", "SETUSER", "limited", "reset", "on", "nopass", "+@all", *others)
    try:
        url = f"unix://limited:any@{server.socket}"
        queue = face.queue(url=url, name="test", autoclean_interval=3600)
        queue._at = NOW
        refused = set()
        for name, use in USES.items():
            seed_each_state(client)
            before = snapshot(client)
            try:
                use(queue)
            except redis.ResponseError as error:
                refused.add((name, type(error)))
                assert snapshot(client) == before
        assert {name for name, _ in refused} >= NEED.get(key, {"get", "wait"})
        assert {kind for _, kind in refused} == {redis.exceptions.NoPermissionError}
        client.execute_command("ACL", "SETUSER", "limited", "~*")
        assert queue.get(-1).payload == b"payload", "it goes on when it may"
    finally:
        client.execute_command("ACL", "DELUSER", "limited")


@pytest.mark.parametrize("command", ["evalsha", "eval", "hset", "set"])
def test_an_error_of_a_missing_right_names_it_and_where_the_rights_are(
    face: Face, server: Server, client: redis.Redis, command: str
) -> None:
    rules = ("reset", "on", "nopass", "~srq:*", "+@all", f"-{command}")
    client.execute_command("ACL", "SETUSER", "limited", *rules)
    client.script_flush()
    kinds: list[Any] = [redis.ResponseError]
    if command.startswith("eval"):
        kinds = [redis.exceptions.NoPermissionError]

    def use() -> None:
        queue = face.queue(url=f"unix://limited:any@{server.socket}", name="test")
        queue.put("a")
        queue.fail(queue.get(-1).uid)

    try:
        with pytest.raises(redis.ResponseError) as raised:
            use()
    finally:
        client.execute_command("ACL", "DELUSER", "limited")
    assert type(raised.value) in kinds
    cause, text = str(raised.value.__cause__), str(raised.value)
    assert text.startswith(f"queue 'test': {cause}; the README lists, under ACLs, ")
    assert text.endswith('run "saferedisqueue doctor --name test"')
    # Before Redis 7.2 a server does not tell which command of a script it refuses.
    assert f"'{command}'" in cause or "can't run this command" in cause


# -- the server ------------------------------------------------------------------------------------

TOO_SLOW = "while true do end"


@contextlib.contextmanager
def read_only(client: redis.Redis, **settings: Any) -> Iterator[None]:
    for name, value in settings.items():
        client.config_set(name, value)
    client.replicaof("127.0.0.1", free_port())
    yield
    client.replicaof("NO", "ONE")


@contextlib.contextmanager
def configured(client: redis.Redis, name: str) -> Iterator[None]:
    client.config_set(name, 1)
    yield
    client.config_set(name, 0)


@contextlib.contextmanager
def busy(client: redis.Redis) -> Iterator[None]:
    client.config_set("lua-time-limit", 100)
    script = elsewhere(lambda: client.eval(TOO_SLOW, 0))
    eventually(lambda: is_busy(client))
    yield
    client.script_kill()
    assert "killed" in str(script.exception(60)).lower()


def is_busy(client: redis.Redis) -> bool:
    try:
        return not client.ping()
    except redis.ResponseError as error:
        return str(error).startswith("BUSY")


@contextlib.contextmanager
def unable_to_save(client: redis.Redis) -> Iterator[None]:
    """Its directory is gone, as on a disk that was lost or is full."""
    directory = Path(client.config_get("dir")["dir"])
    shutil.rmtree(directory)
    client.config_set("save", "3600 1")
    client.bgsave()
    eventually(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err")
    yield
    client.config_set("save", "")


STATES = {
    "READONLY|read only": read_only,
    # A replica that has lost its master.
    "MASTERDOWN|Link with MASTER": partial(read_only, **{"replica-serve-stale-data": "no"}),
    "OOM|command not allowed": partial(configured, name="maxmemory"),
    "BUSY": busy,
    "NOREPLICAS": partial(configured, name="min-replicas-to-write"),
    "MISCONF": unable_to_save,
}


@pytest.fixture
def troubled(tmp_path: Path) -> Iterator[Server]:
    directory = tmp_path / "data"
    directory.mkdir()
    with Server(servers.find(), directory) as running:
        yield running


def refusals(client: redis.Redis) -> int:
    """How often the server has refused to let somebody wait."""
    return int(client.info("commandstats").get("cmdstat_blmove", {}).get("rejected_calls", 0))


@pytest.mark.parametrize("empty", [True, False])
@pytest.mark.parametrize("said", STATES)
def test_a_get_waits_until_the_server_is_itself_again_and_a_put_is_told(
    face: Face, troubled: Server, said: str, empty: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """In an empty queue a look needs no write: there only the wait may be refused."""
    waiter = face.queue(url=troubled.url, name="test", wait_slice=0.05)
    with (
        troubled.client(socket_timeout=100) as client,
        SafeRedisQueue(url=troubled.url, name="test", retry=None) as putter,
    ):
        if not empty:
            putter.put("later", delay=3600)
        waiting = elsewhere(lambda: waiter.get(100))
        eventually(lambda: client.info("clients")["blocked_clients"])
        with STATES[said](client):
            with pytest.raises(redis.RedisError, match=said):
                putter.put("lost")
            if said.startswith("OOM") or (empty and said in ("NOREPLICAS", "MISCONF")):
                eventually(lambda: refusals(client) > 0)
            else:
                eventually(lambda: re.search(said, caplog.text) or waiting.done())
            assert not waiting.done(), waiting.exception()
        uid = putter.put("a")
        assert waiting.result(60) == (uid, b"a")


def test_a_get_waits_until_the_server_has_loaded_its_data(
    face: Face, caplog: pytest.LogCaptureFixture
) -> None:
    slowly = ("--key-load-delay", "200", "--loading-process-events-interval-bytes", "1024")
    with Server(servers.find(), None, *slowly) as server, server.client() as client:
        queue = face.queue(url=server.url, name="test")
        queue.put("a")
        client.eval("for i = 1, 20000 do redis.call('SET', i, string.rep('x', 99)) end", 0)
        client.save()
        server.kill()
        restart = elsewhere(server.start)
        eventually(lambda: is_loading(client))
        waiting = elsewhere(lambda: queue.get(100))
        eventually(lambda: "loading the dataset" in caplog.text or waiting.done())
        assert not waiting.done()
        client.config_set("key-load-delay", 0)
        assert waiting.result(60).payload == b"a"
        restart.result(60)


def is_loading(client: redis.Redis) -> bool:
    try:
        return not client.ping()
    except redis.BusyLoadingError:
        return True
    except redis.ConnectionError:
        return False
