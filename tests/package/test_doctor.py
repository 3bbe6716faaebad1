"""The doctor: what it finds, what it repairs, and that it disturbs nothing."""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import servers
from command_line import CommandLine
from helpers import LISTED, PLACES, call, check_places, eventually, lapse, seed, snapshot
from permissions import PLAIN
from saferedis import doctor
from saferedis.doctor import Finding, examine
from saferedisqueue import SafeRedisQueue

Queue = SafeRedisQueue[Any]

LISTS = (*LISTED, "ackbuf", "backup")

# What the tests' servers cannot help: they keep no log, and some of them are old.
EXPECTED = ("no-append-only-file", "known-weakness")


@pytest.fixture
def queue(make: Callable[..., Queue]) -> Queue:
    return make()


@pytest.fixture
def own_server() -> Iterator[servers.Server]:
    """With a log that reaches the disk, as the doctor asks for."""
    with servers.Server(servers.find(), None, "--appendonly", "yes") as running:
        yield running


@pytest.fixture
def healthy(own_server: servers.Server) -> Iterator[tuple[redis.Redis, Queue]]:
    """A client of a server with an append-only file, and a queue there."""
    with own_server.client() as client, SafeRedisQueue(url=own_server.url, name="test") as queue:
        yield client, queue


def found(queue: Queue, **options: Any) -> list[Finding]:
    """What is found beyond what is expected."""
    return [each for each in examine(queue, **options) if each.name not in EXPECTED]


def names(queue: Queue) -> list[str]:
    return [each.name for each in examine(queue) if each.name != "known-weakness"]


# -- the server ------------------------------------------------------------------------------------


def test_nothing_is_found_where_all_is_well(healthy: tuple[redis.Redis, Queue]) -> None:
    client, queue = healthy
    uids = queue.put_many([b"%d" % n for n in range(20)])
    queue.put(b"later", delay=1000)
    queue.put(b"first", priority=1)
    queue.put(b"not yet", held=True)
    queue.get_many(3, lease=60)
    queue.get()
    queue.bury(queue.get()[0] or "")
    queue.pause()
    assert len(uids) == 20
    assert names(queue) == []
    before = snapshot(client)
    assert [each for each in examine(queue, repair=True) if each.name != "known-weakness"] == []
    assert snapshot(client) == before


@pytest.mark.parametrize(
    ("setting", "value", "name", "text"),
    [
        ("maxmemory-policy", "allkeys-lru", "evicts-keys", "allkeys-lru.*noeviction"),
        ("maxmemory-policy", "volatile-ttl", "evicts-keys", "volatile-ttl.*noeviction"),
        ("appendonly", "no", "no-append-only-file", "append-only file.*appendonly yes"),
        ("appendfsync", "no", "append-only-file-late", "disk.*everysec"),
        ("maxmemory", "10mb", None, ""),
    ],
)
def test_a_setting_that_endangers_items_is_told_with_what_to_do(
    healthy: tuple[redis.Redis, Queue], setting: str, value: str, name: str | None, text: str
) -> None:
    client, queue = healthy
    client.config_set(setting, value)
    assert names(queue) == ([name] if name else [])
    if name:
        (finding,) = (each for each in examine(queue) if each.name == name)
        assert re.search(text, f"{finding.problem}: {finding.advice}")


def test_a_server_that_is_nearly_full_is_told(healthy: tuple[redis.Redis, Queue]) -> None:
    client, queue = healthy
    client.config_set("maxmemory", int(client.info("memory")["used_memory"] * 1.05))
    (finding,) = (each for each in examine(queue) if each.name != "known-weakness")
    assert finding.name == "memory-nearly-full"
    assert re.match(r"(9|10)\d% of the server's memory", finding.problem)


def test_a_replica_is_told_and_can_be_looked_at(
    healthy: tuple[redis.Redis, Queue], own_server: servers.Server
) -> None:
    client, queue = healthy
    seed(client, items={"lost": "1"})
    client.replicaof("127.0.0.1", servers.free_port())
    assert names(queue) == ["replica", "items-nowhere"]
    *_, finding = examine(queue, repair=True)
    assert finding.name == "not-examined"
    assert "READONLY" in finding.problem or "read only" in finding.problem


@pytest.mark.parametrize(
    ("kind", "version", "advice"),
    [
        ("redis", "6.0.16", "6.2.20 or later, unless"),
        ("redis", "6.2.19", "6.2.20"),
        ("redis", "6.2.20", None),
        ("redis", "7.0.15", "7.2.11 or later, unless"),
        ("redis", "7.2.4", "7.2.11"),
        ("redis", "7.4.6", None),
        ("redis", "8.0.2", "8.0.4 or later, unless"),  # as Debian 13 has it, and repairs it
        ("redis", "8.2.1", "8.2.2"),
        ("redis", "8.2.2", None),
        ("redis", "8.4.0", None),
        ("redis", "255.255.255", None),
        ("valkey", "7.2.10", "7.2.11"),
        ("valkey", "8.0.6", None),
        ("valkey", "8.1.3", "8.1.4"),
        ("valkey", "9.0.0", None),
        ("redis", "unstable", None),
    ],
)
def test_versions_with_known_faults_in_lua_are_told(
    kind: str, version: str, advice: str | None
) -> None:
    info = {"redis_version": "7.2.4", f"{kind}_version": version}
    findings = list(doctor._of_version(info))
    expected = [] if advice is None else [("known-weakness", "warning")]
    assert [(each.name, each.severity) for each in findings] == expected
    if advice:
        assert f"upgrade to {advice}" in findings[0].advice


def test_the_version_of_the_server_is_looked_at(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "REPAIRED", {"redis": {(99, 0): 1}, "valkey": {(99, 0): 1}})
    assert "known-weakness" in {finding.name for finding in doctor.examine(queue)}


def test_what_may_not_be_asked_is_told_and_the_rest_is_looked_at(
    own_server: servers.Server,
) -> None:
    with own_server.client() as client:
        client.execute_command(
            "ACL", "SETUSER", "limited", "on", ">x", "~srq:*", "+@all", "-info", "-config", "-scan"
        )
        seed(client, items={"lost": "1"})
    url = own_server.url.replace("unix://", "unix://limited:x@")
    with SafeRedisQueue(url=url, name="test") as queue:
        findings = examine(queue)
    assert [each.name for each in findings] == [
        "not-examined",
        "not-examined",
        "items-nowhere",
        "not-examined",
    ]
    for finding, what in zip(findings, ("INFO", "CONFIG", "lost", "unknown keys"), strict=True):
        assert what in f"{finding.problem} {finding.uids}"


# -- the rights ------------------------------------------------------------------------------------


@pytest.fixture
def limited(server: servers.Server, client: redis.Redis) -> Iterator[Callable[..., list[Finding]]]:
    """What is found for a user of these rules who may look at rights."""
    queues: list[Queue] = []

    def examined(*rules: str, name: str = "test") -> list[Finding]:
        user = ("ACL", "SETUSER", "worker", "reset", "on", ">secret", *rules)
        client.execute_command(*user, "+acl|whoami", "+acl|dryrun")
        url = f"unix://worker:secret@{server.socket}"
        queues.append(SafeRedisQueue[bytes](url=url, name=name))
        return [each for each in examine(queues[-1]) if each.name.startswith("missing-rights")]

    if client.info("server")["redis_version"].startswith("6."):
        pytest.skip("the server has no ACL DRYRUN")
    yield examined
    for queue in queues:
        queue.close()
    client.execute_command("ACL", "DELUSER", "worker")


ALLOWED = tuple(f"+{command}" for command in PLAIN)


def test_the_rights_looked_at_are_those_that_a_user_needs() -> None:
    assert [each.split()[0] for each in doctor.RIGHTS] == list(PLAIN)


def test_a_user_who_may_do_what_the_readme_lists_misses_nothing(
    limited: Callable[..., list[Finding]],
) -> None:
    assert limited("~srq:*", *ALLOWED) == []
    assert limited("~srq:test:*", *ALLOWED) == []
    assert limited(r"~srq:a\[b\]\*:*", *ALLOWED, name="a[b]*") == []


@pytest.mark.parametrize("command", PLAIN)
def test_a_command_that_a_user_may_not_run_is_told_with_the_rule_that_grants_it(
    limited: Callable[..., list[Finding]], command: str
) -> None:
    rules = ("~srq:*", *(rule for rule in ALLOWED if rule != f"+{command}"))
    (finding,) = limited(*rules)
    spared = command in ("blmove", "incr", "hsetnx")
    assert finding.severity == ("warning" if spared else "error")
    assert finding.problem == f"the user worker may not run {command.upper()}"
    assert finding.advice == f"ACL SETUSER worker +{command}"
    assert finding.queue == "test"
    assert limited(*rules, f"+{command}") == []


@pytest.mark.parametrize("key", [*doctor.KEYS, "call:*", "said:*", "last:*"])
def test_a_key_that_a_user_may_not_use_is_told_with_the_rule_that_grants_it(
    limited: Callable[..., list[Finding]], key: str
) -> None:
    keys = [*doctor.KEYS, "call:*", "said:*", "last:*"]
    (finding,) = limited(*(f"~srq:test:{each}" for each in keys if each != key), *ALLOWED)
    assert (finding.name, finding.severity) == ("missing-rights", "error")
    assert f"'srq:test:{key.rstrip('*')}" in finding.problem
    assert (finding.key or "").startswith(f"srq:test:{key.rstrip('*')}")
    assert finding.advice == "ACL SETUSER worker ~srq:test:*"


def test_all_that_a_user_misses_is_told_at_once(limited: Callable[..., list[Finding]]) -> None:
    commands, speed = limited("~srq:other:*")
    assert (commands.severity, speed.severity) == ("error", "warning")
    assert all(each.upper() in f"{commands.problem} {speed.problem}" for each in PLAIN)
    (keys,) = limited("~srq:other:*", *ALLOWED)
    assert keys.problem.endswith("'srq:test:backup', 'srq:test:backuplock', ...")
    assert keys.key is None
    (keys,) = limited("%R~srq:test:*", *ALLOWED)
    assert keys.advice == "ACL SETUSER worker ~srq:test:*"


def test_rights_that_may_not_be_asked_for_are_a_notice(
    server: servers.Server, client: redis.Redis
) -> None:
    rules = ("reset", "on", ">secret", "~srq:*", *ALLOWED)
    client.execute_command("ACL", "SETUSER", "worker", *rules)
    try:
        url = f"unix://worker:secret@{server.socket}"
        with SafeRedisQueue[bytes](url=url, name="test") as queue:
            told = [each for each in examine(queue) if "rights" in each.problem]
    finally:
        client.execute_command("ACL", "DELUSER", "worker")
    assert [(each.name, each.severity) for each in told] == [("not-examined", "notice")]


@pytest.mark.parametrize("protocol", [2, 3])
def test_before_redis_7_a_user_who_may_do_all_is_known_to(protocol: int) -> None:
    with (
        servers.Server(servers.find("redis-6.2")) as old,
        old.client() as client,
        SafeRedisQueue[bytes](url=old.url, name="test", protocol=protocol) as queue,
    ):
        assert not [each for each in examine(queue) if "rights" in each.problem]
        client.execute_command("ACL", "SETUSER", "default", "-flushall")
        (finding,) = (each for each in examine(queue) if "rights" in each.problem)
        assert finding.name == "not-examined"


# -- the keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", doctor.KEYS)
def test_a_key_of_the_wrong_type_is_told(queue: Queue, client: redis.Redis, key: str) -> None:
    client.xadd(f"srq:test:{key}", {"a": 1})
    findings = found(queue, repair=True)
    assert [each.name for each in findings] == ["wrong-type"]
    assert f"srq:test:{key} is a stream, not a {doctor.KEYS[key]}" in findings[0].problem


def test_the_names_of_the_keys_are_those_of_the_scripts() -> None:
    import saferedisqueue

    scripts = [each for each in vars(saferedisqueue).values() if hasattr(each, "keys")]
    names = {
        key for each in scripts if isinstance(each, saferedisqueue.Script) for key in each.keys
    }
    assert {name for name in names if not name.startswith("to_")} == set(doctor.KEYS)


def test_a_lock_that_does_not_expire_is_told(queue: Queue, client: redis.Redis) -> None:
    client.set("srq:test:backuplock", 1, ex=60)
    assert found(queue) == []
    client.persist("srq:test:backuplock")
    assert [each.name for each in found(queue)] == ["lock-without-expiry"]


def test_unknown_keys_below_the_prefix_are_told_but_not_those_of_other_queues(
    make: Callable[..., Queue], client: redis.Redis
) -> None:
    queue = make(name="a[b]*")
    for other in ("a[b]*:c", "ab", "a[b]*d"):
        make(name=other).put(b"1")
    queue.put(b"1")
    client.set("srq:ab:mine", 1)
    assert found(queue) == []
    client.set("srq:a[b]*:mine", 1)
    client.set("srq:a[b]*:items2", 1)
    (finding,) = found(queue)
    assert finding.name == "unknown-keys"
    assert "2 keys ('srq:a[b]*:items2', 'srq:a[b]*:mine')" in finding.problem


def test_a_key_that_should_expire_and_does_not_is_told_and_repaired(
    make: Callable[..., Queue], client: redis.Redis
) -> None:
    """As what was stopped, or restored without times, may have left; a queue may be named so."""
    for other in ("test:call", "test:last:abcdefghijkl"):
        make(name=other).put(b"1")
    queue = make(wait_slice=30)
    queue.put(b"1")
    queue.get(-1)
    queue.put(b"2", delay=20)
    assert queue.get(0.01).uid is None
    keys = [key for key in client.scan_iter(match="srq:test:*") if client.ttl(key) > 0]
    kinds = {key.split(b":")[2] for key in keys}
    assert kinds == {b"call", b"last", b"backuplock"}
    client.set("srq:test:watch", 1)
    client.set("srq:test:said:abcdefghijkl", "2 0")
    for key in keys:
        if b"backuplock" not in key:
            client.persist(key)
    (finding,) = found(queue)
    assert finding.name == "key-without-expiry"
    assert finding.problem.startswith("4 keys ('srq:test:call:")
    assert client.ttl("srq:test:watch") == -1
    (finding,) = found(queue, repair=True)
    assert "now" in finding.advice
    assert 0 < client.pttl("srq:test:watch") <= 1000
    assert 3590 < client.ttl("srq:test:said:abcdefghijkl") <= 3600
    assert found(queue) == []


# -- the items -------------------------------------------------------------------------------------


@pytest.mark.parametrize("meta", [{}, {"lost": "2 17 slot:1 ", "high": "1 17 - -5"}])
def test_items_that_stand_nowhere_are_told_and_repaired(
    queue: Queue, client: redis.Redis, meta: dict[str, str]
) -> None:
    seed(client, items={"lost": "1", "high": "2", "there": "3"}, queue=["there"])
    if meta:
        seed(client, meta=meta)
    before = snapshot(client)
    (finding,) = found(queue)
    assert (finding.name, set(finding.uids)) == ("items-nowhere", {"lost", "high"})
    assert "2 items ('high', 'lost') stand in no place" in finding.problem
    assert "--repair" in finding.advice
    assert snapshot(client) == before
    assert [each.name for each in found(queue, repair=True)] == ["items-nowhere"]
    check_places(client)
    assert found(queue, repair=True) == []
    assert {queue.get(-1).payload for _ in range(3)} == {b"1", b"2", b"3"}


@pytest.mark.parametrize("place", PLACES)
def test_an_item_that_stands_somewhere_is_left_there(
    queue: Queue, client: redis.Redis, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if it came there after the place was looked at."""
    alone = ["u"] if place in LISTS else {"u": 5}
    seed(client, items={"u": "1"}, **{place: alone})
    before = snapshot(client)
    assert found(queue, repair=True) == []
    monkeypatch.setattr(doctor, "_standing", lambda queue, place: iter(()))
    assert found(queue, repair=True) == []
    assert snapshot(client) == before


@pytest.mark.parametrize("at", [0, 3, 5, 9])
def test_in_a_long_list_what_was_moved_is_found_at_both_ends(
    queue: Queue, client: redis.Redis, at: int
) -> None:
    others = [f"u{n}" for n in range(9)]
    seed(client, items={"u": "1"}, queue=[*others[:at], "u", *others[at:]])
    stands = {most: call(queue, doctor.STANDS, "u", "", most) for most in (1, 4, 6, 10, 100)}
    seen = {0: (1, 4, 6, 10, 100), 3: (4, 6, 10, 100), 5: (6, 10, 100), 9: (1, 4, 6, 10, 100)}[at]
    assert stands == {most: [b"queue"] if most in seen else [] for most in stands}


def test_an_item_that_is_gone_is_not_brought_back(queue: Queue, client: redis.Redis) -> None:
    assert call(queue, doctor.STANDS, "gone", "lost", 100) is None
    assert snapshot(client) == {}


def test_a_repair_that_is_sent_again_changes_nothing(queue: Queue, client: redis.Redis) -> None:
    seed(client, items={"lost": "1"})
    slot = queue._take_slot()
    for _ in range(2):
        assert call(queue, doctor.STANDS, "lost", "lost", 100, slot=slot) == []
    assert snapshot(client)["queue"] == ["lost"]


@pytest.mark.parametrize("second", PLACES)
@pytest.mark.parametrize("note", [None, "1 17 slot:1 ", "1 17 slot:1 -5 g1"])
def test_items_that_stand_twice_are_told_and_repaired(
    queue: Queue, client: redis.Redis, second: str, note: str | None
) -> None:
    """With a ghost noted besides, there are three: one is no finding."""
    seed(
        client,
        items={"u": "1", "v": "2"},
        queue=["u", "v", "u"][0 if note and "g" in note else 1 :],
    )
    seed(client, **{second: ["u"] if second in LISTS else {"u": 5}})
    if note:
        seed(client, meta={"u": note})
    before = snapshot(client)
    (finding,) = found(queue)
    assert (finding.name, finding.uids) == ("items-twice", ("u",))
    assert "in two places" in finding.problem
    assert "--repair" in finding.advice
    assert snapshot(client) == before
    (finding,) = found(queue, repair=True)
    assert "is gone now" in finding.advice
    check_places(client)
    after = snapshot(client)
    assert after["queue"] == (["v", "u"] if second == "queue" else ["v"])
    if second != "queue":
        assert list(after[second]) == ["u"]
    assert after.get("meta") == ({"u": note.removesuffix(" g1")} if note else None)
    assert found(queue, repair=True) == []
    assert snapshot(client) == after


def test_items_in_two_places_of_which_none_is_the_list_are_told_and_left(
    queue: Queue, client: redis.Redis
) -> None:
    seed(client, items={"u": "1"}, ackbuf=["u"], leases={"u": 9e12})
    before = snapshot(client)
    assert [each.name for each in found(queue, repair=True)] == ["items-twice"]
    assert snapshot(client) == before


def test_a_ghost_that_is_noted_is_no_second_copy_and_repair_takes_it_out(
    queue: Queue, client: redis.Redis
) -> None:
    """Also deep in a long list, and where it is taken before the item."""
    others = [f"u{n}" for n in range(30)]
    queue_ = [*others[:10], "u", *others[10:20], "u", *others[20:]]
    seed(client, items={"u": "1", **dict.fromkeys(others, "2")}, queue=queue_)
    seed(client, meta={"u": "0 0 -  g1"})
    before = snapshot(client)
    assert found(queue) == []
    assert snapshot(client) == before
    assert found(queue, repair=True) == []
    check_places(client)
    after = snapshot(client)
    assert after["queue"] == [*others[:20], "u", *others[20:]]
    assert after["meta"] == {"u": "0 0 - "}


@pytest.mark.parametrize(("most", "left"), [(9, "0 0 - "), (3, "0 0 -  g4")])
def test_the_note_of_ghosts_stays_true_where_a_list_is_not_looked_through(
    queue: Queue, client: redis.Redis, most: int, left: str
) -> None:
    seed(client, items={"u": "1"}, queue=["u", "v", "w", "x", "u", "y"])
    seed(client, meta={"u": "0 0 -  g5"})
    call(queue, doctor.STANDS, "u", "copies", most)
    assert snapshot(client)["queue"] == ["srq:swept", "v", "w", "x", "u", "y"]
    doctor._take_out_marked(queue)
    assert snapshot(client)["queue"] == ["v", "w", "x", "u", "y"]
    assert snapshot(client)["meta"] == {"u": left}


def test_bells_are_neither_ghosts_nor_copies(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_GHOSTS", 0)
    seed(client, items={"u": "1"}, queue=["", "u", ""], handed=["", ""])
    before = snapshot(client)
    assert found(queue, repair=True) == []
    assert snapshot(client) == before


@pytest.mark.parametrize("count", [3, 800])
def test_many_ghosts_in_the_list_are_told_and_repaired(
    queue: Queue, client: redis.Redis, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In slices of the list, from whichever end; what is noted of them goes with them."""
    monkeypatch.setattr(doctor, "_GHOSTS", 2)
    ghosts = [f"gone{n}" for n in range(count)]
    items = [f"u{n}" for n in range(count)]
    mixed = [*items[1:], *ghosts, ghosts[0], "", items[0]]
    seed(client, items=dict.fromkeys(items, "1"), queue=mixed)
    seed(client, meta=dict.fromkeys(ghosts[1:], "0 0 -  g1") | {ghosts[0]: "0 0 -  g2"})
    seed(client, meta={"u1": "1 0 - ", "popped by a 3.0.0": "0 0 -  g1"})
    before = snapshot(client)
    (finding,) = found(queue)
    assert finding.name == "uids-without-item"
    assert finding.problem.startswith(
        f"{count + 1} uids of items that are gone stand in srq:test:q"
    )
    assert snapshot(client) == before
    (finding,) = found(queue, repair=True)
    assert "taken out now" in finding.advice
    after = snapshot(client)
    assert after["queue"] == [*items[1:], "", items[0]]
    assert after["meta"] == {"u1": "1 0 - "}
    assert found(queue, repair=True) == []


def commands(client: redis.Redis, use: Callable[[], Any]) -> dict[str, int]:
    """How often the server carried out each command meanwhile, inside of scripts too."""
    client.config_resetstat()
    use()
    told = client.info("commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in told.items()}


@pytest.mark.parametrize("stray", ["ghosts", "copies"])
def test_to_take_out_strays_goes_through_a_list_no_oftener_where_it_is_longer(
    queue: Queue, client: redis.Redis, stray: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A command that goes through half the list for each of them, or each part, is quadratic."""
    monkeypatch.setattr(doctor, "_GHOSTS", 2)
    through = []
    for count in (2000, 8000):
        items = [f"u{n}" for n in range(count)]
        mixed = items[:]
        strays = [f"gone{n}" if stray == "ghosts" else f"u{n}" for n in range(0, count, 10)]
        for n, each in enumerate(strays):
            mixed.insert(11 * n, each)
        client.flushall()
        seed(client, items=dict.fromkeys(items, "1"), queue=mixed)
        done = commands(client, lambda: found(queue, repair=True))
        assert snapshot(client)["queue"] == items
        through.append(done["lrem"])
    assert through[1] < 2 * through[0]


def test_second_copies_are_found_and_taken_out_also_deep_in_long_lists(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "_NEAR", 10)
    monkeypatch.setattr(doctor, "_FEW", 10)
    monkeypatch.setattr(doctor, "_OUT", 3)
    items = [f"u{n}" for n in range(2000)]
    deep = items[800:820]
    seed(client, items=dict.fromkeys(items, "1"), queue=[*items[:400], *deep, *items[400:]])
    (finding,) = found(queue)
    assert (finding.name, set(finding.uids)) == ("items-twice", set(deep))
    assert len(found(queue, repair=True)) == 1
    assert snapshot(client)["queue"] == items
    assert found(queue) == []


def test_what_has_moved_since_it_was_seen_twice_is_not_taken_for_lost(
    queue: Queue, client: redis.Redis
) -> None:
    items = [f"u{n}" for n in range(1000)]
    seed(client, items=dict.fromkeys(items, "1"), queue=items)
    assert call(queue, doctor.STANDS, "u500", "copies", 10, "queue", 900) == []
    assert snapshot(client)["queue"] == items


@pytest.mark.parametrize("moved", [0, 1, 99, -1, -99])
def test_a_copy_is_found_near_where_it_stood(queue: Queue, client: redis.Redis, moved: int) -> None:
    items = [f"u{n}" for n in range(1000)]
    seed(client, items=dict.fromkeys(items, "1"), queue=[*items, *items])
    hints = ("queue", 500 + moved, "ackbuf", 500, "queue", 1500 + moved)
    assert call(queue, doctor.STANDS, "u500", "", 10, *hints) == [b"queue"] * 2
    assert call(queue, doctor.STANDS, "u500", "", 10, *hints[:4]) == [b"queue"]


@pytest.mark.parametrize("at", [0, 3, 5, 8])
def test_marks_that_were_left_are_taken_out(
    queue: Queue, client: redis.Redis, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [f"u{n}" for n in range(8)]
    seed(client, items=dict.fromkeys(items, "1"))
    seed(client, queue=[*items[:at], "srq:swept", *items[at:]])
    assert found(queue, repair=True) == []
    assert snapshot(client)["queue"] == items


def test_a_few_ghosts_are_left_to_the_gets_that_meet_them(
    queue: Queue, client: redis.Redis
) -> None:
    seed(client, items={"u": "1"}, queue=["gone", "u", "gone"], meta={"gone": "0 0 -  g2"})
    before = snapshot(client)
    assert found(queue, repair=True) == []
    assert snapshot(client) == before


def test_a_sweep_that_is_sent_again_or_stopped_takes_out_no_more(
    queue: Queue, client: redis.Redis
) -> None:
    seed(client, items={"u": "1"}, queue=["gone", "u", "gone"])
    slot = queue._take_slot()
    assert call(queue, doctor.SWEEP, 0, 2, 1, slot=slot) == [2, 1]
    assert call(queue, doctor.SWEEP, 0, 2, 1, slot=slot) == [2, 1]
    assert snapshot(client)["queue"] == ["srq:swept", "u", "gone"]
    client.lset("srq:test:queue", 2, "srq:swept")
    assert queue.get(-1).uid == "u"
    assert queue.get(-1).uid is None
    assert "queue" not in snapshot(client)


def test_thousands_of_items_are_looked_at_in_slices(queue: Queue, client: redis.Redis) -> None:
    items = {f"u{n}": "x" * 100 for n in range(5000)}
    seed(client, items=items, queue=[uid for uid in items if not uid.endswith("77")])
    client.zadd("srq:test:leases", {uid: 9e12 for uid in items if uid.endswith("177")})
    client.config_resetstat()
    (finding,) = found(queue)
    assert finding.name == "items-nowhere"
    assert set(finding.uids) == {u for u in items if u.endswith("77") and not u.endswith("177")}
    calls = {name: each["calls"] for name, each in client.info("commandstats").items()}
    assert not {"cmdstat_keys", "cmdstat_hgetall", "cmdstat_hkeys"} & set(calls)
    assert calls["cmdstat_hscan"] >= 5
    assert calls["cmdstat_lrange"] >= 5


def test_many_that_stand_nowhere_are_looked_for_twice(
    queue: Queue, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is in motion at the first look is found at the second, also deep in a list."""
    items = {f"u{n}": "1" for n in range(4000)}
    seed(client, items={**items, "lost": "1"}, queue=list(items))
    standing, looks = doctor._standing, []

    def at_second(queue: Queue, place: str) -> Iterator[bytes]:
        looks.append(place)
        return standing(queue, place) if len(looks) > len(doctor.PLACES) else iter(())

    monkeypatch.setattr(doctor, "_standing", at_second)
    (finding,) = found(queue, repair=True)
    assert (finding.name, finding.uids) == ("items-nowhere", ("lost",))
    assert sorted(looks) == sorted(2 * doctor.PLACES)
    check_places(client)


def test_a_queue_larger_than_the_limit_is_not_looked_through(
    queue: Queue, client: redis.Redis
) -> None:
    seed(client, items={f"u{n}": "1" for n in range(10)})
    assert [each.name for each in found(queue, limit=10)] == ["items-nowhere"]
    client.config_resetstat()
    assert {each.name for each in found(queue, limit=9)} == {"not-examined"}
    assert "cmdstat_hscan" not in client.info("commandstats")
    with pytest.raises(ValueError):
        examine(queue, limit=0)


def test_nothing_in_motion_is_taken_for_lost(
    make: Callable[..., Queue], client: redis.Redis
) -> None:
    """Repairing over and over while items are put, leased, failed, delayed, acked and lapse."""
    stop = threading.Event()
    errors: list[BaseException] = []

    def use() -> None:
        dice = random.Random(6)
        try:
            with SafeRedisQueue[bytes](
                client=client, name="test", autoclean_interval=0.05
            ) as queue:
                while not stop.is_set():
                    if queue.stats().total < 500:  # or there are the more the longer it takes
                        queue.put_many([b"x"] * 20, priority=dice.choice([0, 0, 1]))
                    lease = dice.choice([0.01, 9])
                    ways = [queue.ack, queue.ack, queue.fail, *([str] if lease < 1 else [])]
                    for item in queue.get_many(25, timeout=-1, lease=lease):
                        dice.choice(ways)(item.uid)
                    if (uid := queue.get_nowait().uid) and dice.random() < 0.7:
                        queue.fail(uid, delay=dice.choice([0, 0.02]))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=use) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        queue = make()
        eventually(lambda: queue.stats().total > 200)
        for _ in range(100):
            assert found(queue, repair=True) == []
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    lapse(client)
    check_places(client)


# -- the command -----------------------------------------------------------------------------------


WELL = b"nothing was found that endangers items\n"
SHRUGGED = ("--ignore", "known-weakness")  # of the tests' servers, which may be old


def test_the_command_prints_a_line_each_and_its_status_tells(
    healthy: tuple[redis.Redis, Queue], own_server: servers.Server
) -> None:
    client, queue = healthy
    cli = CommandLine(own_server.url)
    assert WELL in cli.run("doctor", *SHRUGGED)
    seed(client, items={"lost\n": "1"})
    client.config_set("maxmemory-policy", "allkeys-lru")
    lines = cli.run("doctor", *SHRUGGED, status=1).decode().splitlines()
    assert lines[0].startswith("error evicts-keys: the server evicts")
    assert lines[0].endswith(": set maxmemory-policy noeviction")
    assert lines[1].startswith("error items-nowhere: 1 items ('lost\\n') stand in no place")
    client.config_set("maxmemory-policy", "noeviction")
    assert b"were made ready now" in cli.run("doctor", "--repair", status=1)
    cli.run("doctor")
    assert queue.get().payload == b"1"
    cli.run("doctor", "--limit", "0", status=2, said=".*limit must be at least 1.*")


def test_only_an_error_is_in_the_exit_status(
    healthy: tuple[redis.Redis, Queue], own_server: servers.Server
) -> None:
    client, _ = healthy
    client.config_set("appendonly", "no")
    client.set("srq:test:mine", 1)
    cli = CommandLine(own_server.url)
    lines = cli.run("doctor", *SHRUGGED).decode().splitlines()
    assert [line.partition(":")[0] for line in lines[:2]] == [
        "warning no-append-only-file",
        "notice unknown-keys",
    ]


def test_what_is_ignored_is_counted_and_no_finding(
    healthy: tuple[redis.Redis, Queue], own_server: servers.Server
) -> None:
    client, queue = healthy
    if any(each.name == "known-weakness" for each in examine(queue)):
        pytest.skip("the server is of a version that the doctor warns of")
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.set("srq:test:mine", 1)
    cli = CommandLine(own_server.url)
    shown = cli.run("doctor", "--ignore", "evicts-keys")
    assert [line.split()[1] for line in shown.splitlines()] == [b"unknown-keys:", b"ignored:"]
    assert shown.endswith(b"\n1 ignored: evicts-keys\n")
    shown = cli.run("doctor", "--ignore=evicts-keys", "--ignore", "unknown-keys")
    assert shown == WELL + b"2 ignored: evicts-keys, unknown-keys\n"
    assert cli.run("doctor", "--ignore", "replica", status=1).count(b"ignored") == 0


def test_a_name_to_ignore_that_is_unknown_is_refused_with_those_there_are(
    own_server: servers.Server,
) -> None:
    said = CommandLine(own_server.url)
    said.run("doctor", "--ignore", "eviction", status=2, said="(?s).*'eviction'.*evicts-keys.*")


def test_as_json_a_finding_is_a_line(
    healthy: tuple[redis.Redis, Queue], own_server: servers.Server
) -> None:
    client, _ = healthy
    cli = CommandLine(own_server.url)
    assert cli.run("doctor", "--json", *SHRUGGED, said="(.*1 ignored: known-weakness)?") == b""
    seed(client, items={"lost": "1"})
    client.set("srq:test:mine", 1)
    client.set("srq:test:backuplock", 1)
    client.config_set("appendonly", "no")
    told = cli.run("doctor", "--json", "--repair", *SHRUGGED, status=1, said=".*")
    facts = [json.loads(line) for line in told.splitlines()]
    fields = ["name", "severity", "queue", "key", "text", "advice", "repaired", "uids"]
    assert [list(each) for each in facts] == [fields] * 4
    of = {each["name"]: each for each in facts}
    assert list(of) == [
        "no-append-only-file",
        "lock-without-expiry",
        "items-nowhere",
        "unknown-keys",
    ]
    assert of["no-append-only-file"]["severity"] == "warning"
    assert of["no-append-only-file"]["queue"] is None
    assert of["lock-without-expiry"]["key"] == "srq:test:backuplock"
    assert of["items-nowhere"]["queue"] == "test"
    assert of["items-nowhere"]["uids"] == ["lost"]
    assert [each["repaired"] for each in facts] == [False, False, True, False]


def test_the_names_and_their_severities_are_those_of_the_readme() -> None:
    shown = Path(__file__).parents[2].joinpath("README.rst").read_text()
    for severity in ("error", "warning", "notice"):
        (listed,) = re.findall(rf"(?s)\n    ``{severity}``\n(.*?)\n(?:    ``|\n)", shown)
        listed = set(re.findall("``([a-z-]+)``", listed))
        assert listed == {name for name, each in doctor.NAMES.items() if each == severity}
