"""The claim alone: which items it takes, in which order, and what it does to the rest."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from helpers import FAILING, Face, Make, call, check_places, seed, snapshot
from moves import NOW, OUT, claim, claim_many, put_terms
from saferedisqueue import ACK, PUT
from servers import Server


@pytest.fixture
def queue(make: Make) -> Any:
    queue = make()
    queue._at = NOW
    return queue


# -- claim -----------------------------------------------------------------------------------------


def test_claim_takes_from_the_right(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A", "b": "B"}, queue=["b", "a"], backuplock="1")
    client.expire("srq:test:backuplock", 9)
    assert claim(queue) == [b"a", b"A", 1]
    assert snapshot(client) == {
        "items": {"a": "A", "b": "B"},
        "queue": ["b"],
        "ackbuf": ["a"],
        "meta": {"a": f"1 {NOW} new "},
        "backuplock": "1",
    }


def test_claim_counts_deliveries_and_writes_a_new_token(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a"], meta={"a": "7 5 old "})
    assert claim(queue) == [b"a", b"A", 8]
    assert snapshot(client)["meta"] == {"a": f"8 {NOW} new "}


def test_claim_on_nothing_leaves_nothing(queue: Any, client: redis.Redis) -> None:
    assert claim(queue) == [-1]
    assert snapshot(client) == {}


def test_claim_sets_the_lock_with_its_expiry(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": ""}, queue=["a"])
    claim(queue, interval=60_000)
    assert 50_000 < client.pttl("srq:test:backuplock") <= 60_000


def test_claim_drops_what_is_left_of_a_queue_without_items(queue: Any, client: redis.Redis) -> None:
    seed(client, queue=["g"], ackbuf=["h"], backup=["i"], meta={"h": "1 2 t ", "j": "1 2 t "})
    seed(client, dead={"k": 1}, reasons={"k": "r"})
    seed(client, handed=["l"], held={"m": 1}, delayed={"n": NOW + 1}, leases={"o": NOW + 1})
    assert claim(queue) == [-1]
    assert snapshot(client) == {}


def test_claim_keeps_what_is_in_flight_or_dead(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A", "b": "B"}, ackbuf=["a"], meta=OUT, dead={"b": 1})
    before = snapshot(client)
    assert claim(queue) == [-1]
    assert snapshot(client) == before


@pytest.mark.parametrize("place", ["ackbuf", "backup", "leases", "delayed", "held", "dead"])
def test_claim_drops_a_second_copy(queue: Any, client: redis.Redis, place: str) -> None:
    held: Any = ["a"] if place in ("ackbuf", "backup") else {"a": NOW + 1}
    seed(client, items={"a": "A", "b": "B"}, queue=["b", "a"], meta=OUT)
    seed(client, **{place: held})
    assert claim(queue)[0] == b"b"
    check_places(client)
    assert set(snapshot(client)[place]) >= {"a"}


def test_claim_drops_a_second_copy_that_comes_back_before_its_holders_time_is_over(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items={"a": "A"}, ackbuf=["a"], backup=["a"], meta={"a": f"2 {NOW - 1} tok "})
    assert claim(queue, interval=60_000) == [-1]
    check_places(client)
    assert call(queue, ACK, "a", "tok") == 1


@pytest.mark.parametrize("place", ["delayed", "dead", "held", "priority"])
@pytest.mark.parametrize("copy", ["ackbuf", "backup"])
def test_ack_finds_an_item_behind_a_second_copy(
    queue: Any, client: redis.Redis, place: str, copy: str
) -> None:
    for acks in (("a", ""), ("a", "tok"), ("b", "stale", "a", "tok")):
        seed(client, items={"a": "A"}, meta={"a": "2 0 tok ", "b": "1 1 other "})
        seed(client, **{copy: ["a"], place: {"a": NOW + 1}})
        assert call(queue, ACK, *acks) == 1
        assert snapshot(client) == {"meta": {"b": "1 1 other "}}


@pytest.mark.parametrize("copy", ["ackbuf", "backup"])
def test_a_second_copy_is_not_counted(queue: Any, client: redis.Redis, copy: str) -> None:
    seed(client, items={"a": "A"}, meta=OUT, leases={"a": NOW + 1}, **{copy: ["a"]})
    stats = queue.stats()
    assert (stats.total, stats.ready, stats.in_flight) == (1, 0, 1)


def test_what_lapsed_can_be_acked_by_its_holder_until_somebody_else_has_it(
    queue: Any, client: redis.Redis
) -> None:
    for holder in ("tok", "new"):
        client.flushall()
        seed(client, items=dict.fromkeys("ab", ""), queue=["b"], leases={"a": NOW}, meta=OUT)
        assert claim_many(queue, 1) == ["b"]
        assert snapshot(client)["queue"] == ["a"]
        if holder == "new":
            assert claim_many(queue, 1) == ["a"]
        assert call(queue, ACK, "a", "tok") == (holder == "tok")


def test_claim_skips_uids_without_an_item(queue: Any, client: redis.Redis) -> None:
    seed(client, items={"a": "A"}, queue=["a", "", "\n", "ghost"], meta={"ghost": "1 2 t "})
    assert claim(queue)[0] == b"a"
    keys = snapshot(client)
    assert keys["ackbuf"] == ["a"]
    assert keys["meta"].keys() == {"a"}


def test_a_ghost_of_its_uid_does_not_make_a_delayed_item_early(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, queue=["a"])
    assert call(queue, PUT, *put_terms(delay=1000), "a", "A") == 1
    assert claim(queue, "new", "gw") == [1000]
    check_places(client)


@pytest.mark.parametrize("count", [1, 100])
def test_claim_skips_a_thousand_uids_a_call_at_most(
    queue: Any, client: redis.Redis, count: int
) -> None:
    seed(client, items={"a": "A"}, queue=["a", *(f"ghost {n}" for n in range(1500))])
    assert claim_many(queue, count) == []
    assert len(snapshot(client)["queue"]) == 501
    assert claim_many(queue, count) == ["a"]


# -- claim: batches --------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["", "g"])
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6])
def test_a_batch_is_taken_from_the_right_in_order(
    queue: Any, client: redis.Redis, count: int, how: str
) -> None:
    seed(client, items=dict.fromkeys("abcde", ""), queue=[*"edcba"])
    assert claim_many(queue, count, "new", how) == [*"abcde"][:count]
    keys = snapshot(client)
    assert (keys.get("queue", []), keys["ackbuf"]) == ([*"edcba"][:-count], [*"edcba"][-count:])
    assert keys["meta"] == dict.fromkeys("abcde"[:count], f"1 {NOW} new ")


@pytest.mark.parametrize("how", ["", "g"])
def test_a_batch_has_as_many_as_asked_for_each_once(
    queue: Any, client: redis.Redis, how: str
) -> None:
    """Also where it meets a second copy of a new item, and uids without an item."""
    seed(client, items=dict.fromkeys("abcde", ""), queue=["e", "d", "c", "b", "ghost", "a", "a"])
    assert claim_many(queue, 3, "new", how, lease=5000) == ["a", "b", "c"]
    keys = snapshot(client)
    assert (keys["queue"], keys["leases"]) == (["e", "d"], dict.fromkeys("abc", NOW + 5000))


@pytest.mark.parametrize("how", ["", "g"])
def test_a_batch_ends_when_it_is_large(queue: Any, client: redis.Redis, how: str) -> None:
    seed(client, items=dict.fromkeys("abcdef", "x" * 600_000), queue=["f", "e", "d", "c", "b", "a"])
    assert claim_many(queue, 4, "new", how) == ["a", "b"]
    assert snapshot(client)["queue"] == ["f", "e", "d", "c"]
    client.rpush("srq:test:queue", "", "", "", "")
    assert claim_many(queue, 4, "new", how) == ["c", "d"], "also in a later round"


def test_a_claim_searches_the_lists_four_times_at_most(queue: Any, client: redis.Redis) -> None:
    """They may be long, and a second copy is looked for in all of them."""
    uids = [f"{n}" for n in range(20)]
    seed(client, items=dict.fromkeys(uids, ""), queue=uids, ackbuf=uids)
    seed(client, meta=dict.fromkeys(uids, OUT["a"]))
    for count, left in ((1, 16), (9, 12)):
        assert claim_many(queue, count) == []
        assert snapshot(client)["queue"] == uids[:left]


def test_what_was_failed_is_taken_without_a_search(queue: Any, client: redis.Redis) -> None:
    uids = [f"{n}" for n in range(20)]
    seed(client, items=dict.fromkeys(uids, ""), queue=uids, meta=dict.fromkeys(uids, "1 0 - "))
    assert claim_many(queue, 20) == uids[::-1]


# -- claim: what may have killed its holder --------------------------------------------------------

LEFT = "1 0 tok "  # meta of an item whose holder neither settled it nor gave it back


def test_a_batch_ends_before_an_item_whose_last_holder_died(
    queue: Any, client: redis.Redis
) -> None:
    """Which is handed out alone: the next one that it kills takes no other with it."""
    seed(client, items=dict.fromkeys("abcde", ""), queue=[*"edcba"], meta={"c": LEFT})
    batches = [claim_many(queue, 9) for _ in range(4)]
    assert batches == [["a", "b"], ["c"], ["d", "e"], []]


@pytest.mark.parametrize("how", ["", "g"])
def test_a_batch_that_begins_with_such_an_item_is_that_item(
    queue: Any, client: redis.Redis, how: str
) -> None:
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"], meta={"a": LEFT, "b": LEFT})
    assert [claim_many(queue, 9, "new", how) for _ in "abc"] == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("about", ["1 0 - ", "1 0 < ", "0 0 - ", "3 5 - ", "3 5 < ", "garbage"])
def test_what_was_failed_or_handed_back_is_one_of_a_batch(
    queue: Any, client: redis.Redis, about: str
) -> None:
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"], meta={"b": about})
    assert claim_many(queue, 9) == [*"abc"]


def test_what_a_3_0_0_brought_back_from_a_holder_that_died_is_alone(
    queue: Any, client: redis.Redis
) -> None:
    """Its autoclean leaves meta as it is: with the time of the delivery."""
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"], meta={"b": OUT["a"]})
    assert [claim_many(queue, 9) for _ in "abc"] == [["a"], ["b"], ["c"]]


def test_of_a_priority_too_it_is_alone(queue: Any, client: redis.Redis) -> None:
    scores = {"b": -(2**43), "c": -(2**43) + 1}
    seed(client, items=dict.fromkeys("abc", ""), queue=["a"], priority=scores)
    seed(client, meta={uid: f"1 0 tok {score}" for uid, score in scores.items()})
    assert [claim_many(queue, 9) for _ in "abc"] == [["b"], ["c"], ["a"]]


def test_an_item_that_is_dropped_or_dead_ends_no_batch(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcd", ""), queue=[*"dcba"], leases={"b": NOW + 1})
    seed(client, meta={"b": LEFT, "c": "5 0 tok "})
    assert claim_many(queue, 9, most=5) == ["a", "d"]
    assert list(snapshot(client)["dead"]) == ["c"]


def test_get_many_ends_before_it_too(queue: Any, client: redis.Redis) -> None:
    """Else a holder that it kills would hold what the claims before and after have brought."""
    seed(client, items=dict.fromkeys("abcde", ""), queue=[*"edcba"], meta={"c": LEFT})
    batches = [[item.uid for item in queue.get_many(9, -1)] for _ in range(4)]
    assert batches == [["a", "b"], ["c"], ["d", "e"], []]


def test_get_many_adds_nothing_to_what_was_alone_when_the_reply_is_lost(
    face: Face, server: Server, client: redis.Redis
) -> None:
    """Sent again, the claim cannot tell why it took no more."""
    queue = face.queue(kind=FAILING[type(face)], url=server.url, name="test")
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"], meta={"a": LEFT})
    queue.fail_at(0, lost_reply=True)
    assert [item.uid for item in queue.get_many(9, 1)] == ["a"]


def test_a_loop_holds_it_alone_too(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcde", ""), queue=[*"edcba"], meta={"c": LEFT})
    held: list[tuple[str, set[str]]] = []
    with queue.consume(prefetch=9, timeout=-1, renew=False) as items:
        held += [(str(item.uid), set(snapshot(client)["leases"])) for item in items]
    # What was worked on is acked with the next fetch.
    assert [uid for uid, _ in held] == [*"abcde"]
    assert held[2] == ("c", {"c"})
    assert all("c" not in leased for uid, leased in held if uid != "c")


def test_of_a_batch_whose_holder_died_each_is_alone_and_only_one_that_kills_dies(
    queue: Any, client: redis.Redis
) -> None:
    seed(client, items=dict.fromkeys("abc", ""), queue=[*"cba"])
    deaths = 0
    while batch := claim_many(queue, 9, f"t:{queue._at}", lease=1000, most=2):
        if "b" in batch:  # it kills, and all that was held comes back
            deaths += 1
            queue._at += 1000
        else:
            call(queue, ACK, *(part for uid in batch for part in (uid, "")))
    assert deaths == 2
    assert snapshot(client)["dead"].keys() == {"b"}
    assert snapshot(client)["items"].keys() == {"b"}, "no other was taken along"


# -- claim: autoclean ------------------------------------------------------------------------------


def test_autoclean_requeues_backup_and_renames_ackbuf(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abcd", ""), queue=["a"], backup=["b"], ackbuf=["d", "c"])
    assert claim(queue, interval=60_000)[0] == b"a"
    keys = snapshot(client)
    assert (keys["queue"], keys["backup"], keys["ackbuf"]) == (["b"], ["d", "c"], ["a"])


def test_autoclean_keeps_the_order_of_what_comes_back(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("abc", ""), backup=["c", "b", "a"])
    assert [claim(queue, interval=60_000)[0] for _ in "abc"] == [b"a", b"b", b"c"]


def test_autoclean_does_nothing_while_locked_or_off(queue: Any, client: redis.Redis) -> None:
    seed(client, items=dict.fromkeys("ab", ""), backup=["a"], ackbuf=["b"], meta=OUT)
    assert claim(queue) == [-1]
    client.set("srq:test:backuplock", 1, ex=60)
    assert claim(queue, interval=60_000) == [-1]
    keys = snapshot(client)
    assert (keys["backup"], keys["ackbuf"]) == (["a"], ["b"])


@pytest.mark.parametrize("orphans", [99, 100, 101, 250])
def test_autoclean_moves_a_hundred_a_call_and_is_resumed(
    queue: Any, client: redis.Redis, orphans: int
) -> None:
    uids = [f"{n:03}" for n in range(orphans)]
    seed(client, items=dict.fromkeys([*uids, "held"], ""), backup=uids[::-1], ackbuf=["held"])
    left = orphans
    while left > 100:
        claim(queue, interval=60_000)
        left -= 100
        keys = snapshot(client)
        assert len(keys["backup"]) == left
        assert "held" in keys["ackbuf"], "renamed over a backup that is not empty"
        assert "backuplock" not in keys, "the next claim must go on"
    claim(queue, interval=60_000)
    keys = snapshot(client)
    assert "held" in keys["backup"]
    assert keys["backuplock"] == "1"
    check_places(client)


@pytest.mark.parametrize(("interval", "given"), [(60_000, 600_000), (120_000, 1_200_000)])
def test_a_lock_without_expiry_gets_a_long_one(
    queue: Any, client: redis.Redis, interval: int, given: int
) -> None:
    seed(client, items={"a": "A"}, backup=["a"], backuplock="1")
    assert claim(queue, interval=interval) == [-1]
    assert given - 60_000 < client.pttl("srq:test:backuplock") <= given
    assert snapshot(client)["backup"] == ["a"]
