"""A queue that code before the keys handed, held and watch has left is taken over in place."""

from __future__ import annotations

from typing import Any

import redis

from helpers import check_places, eventually, lapse, seed, snapshot
from saferedisqueue import Stats, from_receipt

NOW = 1_800_000_000_000  # ms; given to the scripts, so that nothing sleeps

HIGH, LOW = -42180465111039, 45780465111041  # scores of the priorities 5 and -5
READY = {"ready before": "0 0 - ", "a": None, "b": None}
OUT = {
    "out": f"1 {NOW} oldslot_1234:4 ",
    "leased": f"1 {NOW} oldslot_1234:6 ",
    "leased again": f"2 {NOW} oldslot_1234:9 ",
    "leased and lost": f"1 {NOW} oldslot_1234:7 ",
    # Who was handed these by a BLMOVE died before its claim.
    "moved": None,
    "moved again": "1 0 oldslot_1234:2 ",
    "orphan": f"1 {NOW} oldslot_1234:3 ",
}
RANKED = {"high": f"0 0 - {HIGH}", "low": f"0 0 - {LOW}"}
DELAYED = {"later": "0 0 - ", "failed": "1 0 - ", "failed high": f"1 0 - {HIGH + 1}"}
DEAD = {"dead": "3 0 - "}
ALL = {**READY, **OUT, **RANKED, **DELAYED, **DEAD}


def leave(client: redis.Redis) -> None:
    """Every key as that code wrote it: with one bell, where the list had been empty."""
    seed(
        client,
        items={uid: f"payload of {uid}" for uid in ALL},
        meta={uid: about for uid, about in ALL.items() if about is not None},
        queue=["b", "acked late", "a", "ready before", ""],
        ackbuf=["moved again", "moved", "out"],
        backup=["orphan"],
        leases={
            "leased": NOW + 60_000,
            "leased again": NOW + 60_000,
            "leased and lost": NOW + 10_000,
        },
        priority={"high": HIGH, "low": LOW},
        delayed={"failed": NOW + 20_000, "later": NOW + 60_000, "failed high": NOW + 30_000},
        dead={"dead": NOW - 5},
        reasons={"dead": "the printer is on fire"},
        paused="1",
    )
    client.set("srq:test:backuplock", 1, px=60_000)
    client.set("srq:test:last:oldslot_1234", "26 1", px=3_600_000)
    client.set("srq:test:last:another_5678", "7 4:high5:moved", px=3_600_000)


def test_nothing_is_lost_and_all_of_it_goes_on(queue: Any, client: redis.Redis) -> None:
    leave(client)
    check_places(client)

    def at(seconds: float) -> None:
        queue._at = str(NOW + round(seconds * 1000))

    def got() -> list[tuple[str, int]]:
        items = []
        while (item := queue.get(-1, lease=3600)).uid is not None:
            assert item.payload == f"payload of {item.uid}".encode()
            assert queue.ack(item.uid)
            items.append((str(item.uid), item.attempts))
        check_places(client)
        return items

    def came_back() -> Any:
        lapse(client)
        return got()

    at(1)
    counts = Stats(len(READY) + len(RANKED), len(OUT), len(DELAYED), 1, len(ALL), True, None, 0)
    assert queue.stats() == counts
    assert [item.uid for item in queue.peek(9)] == ["high", "ready before", "a", "b", "low"]
    (letter,) = queue.dead()
    assert (letter.uid, letter.reason, letter.attempts) == ("dead", "the printer is on fire", 3)
    before = snapshot(client)
    assert queue.get(-1).uid is None, "it is paused"
    assert snapshot(client) == before

    # Who got something before can settle it, as long as nobody else has it.
    assert queue.ack(from_receipt("oldslot_1234:3/out")) is False
    assert queue.ack(from_receipt("oldslot_1234:4/out")) is True
    assert queue.fail(from_receipt("oldslot_1234:8/leased again"), delay=100) is False
    assert queue.fail(from_receipt("oldslot_1234:9/leased again"), delay=100) is True
    assert queue.touch(from_receipt("oldslot_1234:6/leased"), 500) is True

    queue.resume()
    assert got() == [("high", 1), ("ready before", 1), ("a", 1), ("b", 1), ("low", 1)]
    assert eventually(came_back) == [("orphan", 2)]
    assert sorted(eventually(came_back)) == [("moved", 1), ("moved again", 2)]
    at(10)
    assert [(item := queue.get(-1, lease=3600)).uid, item.attempts] == ["leased and lost", 2]
    assert queue.ack(from_receipt("oldslot_1234:7/leased and lost")) is False
    assert queue.ack(item.uid) is True
    at(20)
    assert got() == [("failed", 2)]
    at(30)
    assert got() == [("failed high", 2)]
    at(60)
    assert got() == [("later", 1)]
    at(101)
    assert got() == [("leased again", 3)]
    assert queue.revive() == 1
    assert got() == [("dead", 1)]
    assert queue.ack(from_receipt("oldslot_1234:6/leased")) is True
    assert queue.get(-1).uid is None
    assert set(snapshot(client)) <= {"backuplock"}


def test_a_fleet_that_waits_gets_what_was_left(many: Any, client: redis.Redis) -> None:
    """By the bell at the right end of the list, and by what comes back."""
    leave(client)
    client.delete("srq:test:paused", "srq:test:backuplock")
    queue = many(autoclean_interval=0.05)
    gone = {"leased", "leased again", "leased and lost", *DELAYED, *DEAD}
    left = set(ALL) - gone
    queue._at = ""
    client.zadd("srq:test:leases", dict.fromkeys(OUT.keys() & gone, 9e12))
    client.zadd("srq:test:delayed", dict.fromkeys(DELAYED, 9e12))
    while left:
        item = queue.get(timeout=20, lease=60)
        assert item.uid in left
        left.discard(item.uid)
        queue.ack(item.uid)
    assert queue.get(timeout=0.2).uid is None
    assert snapshot(client)["items"].keys() == gone
    check_places(client)
