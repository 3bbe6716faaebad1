"""What becomes of an item that failed, and what is told of it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
import redis

from helpers import FAILING, Face
from saferedisqueue import (
    PayloadTooLarge,
    QueueFull,
    Undecodable,
    exponential_backoff,
    from_receipt,
)

LONG = 1_000_000  # characters
NOW = 1_800_000_000_000  # ms


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]


# -- retry_delay -----------------------------------------------------------------------------------


class BrokenError(Exception):
    """Of a function of the user's."""


def broken(attempt: int) -> float:
    raise BrokenError(f"attempt {attempt}")


def test_an_item_is_failed_although_retry_delay_raises(
    many: Any, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    queue = many(retry_delay=broken)
    queue.put("a")
    uid = queue.get(-1).uid
    assert queue.fail(uid, reason="why") is True
    assert queue.stats()[:4] == (0, 0, 1, 0)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "BrokenError: attempt 1" in record.getMessage()
    assert str(uid) in record.getMessage()


def test_it_does_not_replace_the_body_s_own_error(many: Any) -> None:
    queue = many(retry_delay=broken)
    queue.put("a")
    with pytest.raises(ZeroDivisionError), queue.processing(-1):
        raise ZeroDivisionError
    queue.put("b")
    with pytest.raises(ZeroDivisionError), queue.consume(timeout=-1) as items:
        raise ZeroDivisionError(next(items))
    assert queue.stats()[:4] == (0, 0, 2, 0)


def test_it_is_not_asked_of_what_dies(many: Any) -> None:
    asked: list[int] = []
    queue = many(max_attempts=2, retry_delay=lambda attempt: asked.append(attempt) or 0)
    queue.put("a")
    queue.fail(queue.get(-1).uid)
    queue.fail(queue.get(-1).uid)
    assert asked == [1]
    assert queue.stats().dead == 1


@pytest.mark.parametrize(
    ("name", "wrong", "error"),
    [
        ("first", -1, ValueError),
        ("first", "1", TypeError),
        ("factor", 0.5, ValueError),
        ("factor", True, TypeError),
        ("most", float("nan"), ValueError),
        ("most", None, TypeError),
        ("jitter", 1.1, ValueError),
        ("jitter", -0.1, ValueError),
        ("jitter", float("nan"), ValueError),
    ],
)
def test_exponential_backoff_checks_its_arguments(
    name: str, wrong: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        exponential_backoff(**{name: wrong})


@pytest.mark.parametrize("factor", [1, 1.0001, 10, 1e300])
def test_exponential_backoff_does_not_overflow(factor: float) -> None:
    delay = exponential_backoff(first=1, factor=factor, most=1000, jitter=0)
    assert delay(10**6) == (1 if factor == 1 else 1000)
    assert exponential_backoff(first=0, factor=factor, jitter=0)(10**9) == 0


# -- reasons, and what is told of the dead ---------------------------------------------------------


def test_of_a_long_reason_the_end_is_kept(many: Any, client: redis.Redis) -> None:
    queue = many(max_attempts=1)
    queue.put_many(["a", "b", "c"])
    queue.fail(queue.get(-1).uid, reason=f"{'x' * LONG} the end")
    queue.bury(queue.get(-1).uid, f"{'x' * LONG} the end")
    with pytest.raises(ValueError, match="the end"), queue.processing(-1):
        raise ValueError(f"{'x' * LONG} the end")
    for each in queue.dead(3):
        assert len(each.reason) == 4096
        assert each.reason.startswith("... x")
        assert each.reason.endswith(" the end")


def test_what_dies_of_failing_is_told_once(many: Any, caplog: pytest.LogCaptureFixture) -> None:
    queue = many(max_attempts=2)
    queue.put("a", uid="a")
    queue.fail(queue.get(-1).uid, reason="first")
    assert warnings_of(caplog) == []
    uid = queue.get(-1).uid
    assert queue.fail(uid, reason="second") is True
    (text,) = warnings_of(caplog)
    assert text == "queue test: item 'a' is a dead letter after 2 deliveries: second"
    assert queue.fail(uid, reason="third") is False
    assert len(warnings_of(caplog)) == 1


def test_of_many_that_fail_each_that_dies_is_told(
    many: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queue = many(max_attempts=2)
    queue.put_many(["a", "b"], uids=["a", "b"])
    queue.fail_many(item.uid for item in queue.get_many(2, -1))
    queue.put_many(["c", "d"], uids=["c", "d"])
    items = [item for _ in range(4) for item in queue.get_many(1, -1)]
    lost = next(item.uid for item in items if item.uid == "b")
    assert queue.bury(from_receipt(f"{lost.token}/b"))
    assert queue.fail_many([item.uid for item in items], delay=0) == 3
    assert [text[:40] for text in warnings_of(caplog)] == [
        "queue test: item 'a' is a dead letter af"
    ]
    assert queue.stats()[:4] == (2, 0, 0, 2)


def test_what_dies_because_its_holders_did_is_told(
    many: Any, caplog: pytest.LogCaptureFixture
) -> None:
    queue = many(max_attempts=1)
    queue._at = "1800000000000"
    queue.put("a", uid="a")
    queue.get(-1, lease=1)
    queue._at = "1800000001000"
    assert queue.get(-1) == (None, None)
    (text,) = warnings_of(caplog)
    assert text == "queue test: item 'a' is a dead letter after 1 deliveries: delivered 1 times"
    assert queue.get(-1) == (None, None)
    assert len(warnings_of(caplog)) == 1


# -- what the serializer cannot load ---------------------------------------------------------------


class Missing:
    """The serializer of a process that lacks something."""

    dumps = staticmethod(str)

    def loads(self, payload: bytes) -> Any:
        raise ModuleNotFoundError("No module named 'orders'")


def test_what_one_process_cannot_load_comes_back_for_another(
    many: Any, caplog: pytest.LogCaptureFixture
) -> None:
    broken, sound = many(serializer=Missing()), many()
    uid = sound.put("a")
    for queue in (broken, sound):
        queue._at = str(NOW)
    assert broken.get(-1) == (None, None)
    assert sound.stats()[:4] == (0, 0, 1, 0)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert f"item '{uid}' comes back in 10 s, delivery 1 of 5" in record.getMessage()
    assert "No module named 'orders'" in record.getMessage()
    sound._at = str(NOW + 10_000)
    item = sound.get(-1)
    assert (item.uid, item.attempts) == (uid, 2)
    assert sound.ack(item.uid)


@pytest.mark.parametrize(("most", "deliveries"), [(None, 5), (3, 3), (1, 1)])
def test_it_is_dead_after_some_deliveries_with_longer_and_longer_delays(
    many: Any, caplog: pytest.LogCaptureFixture, most: int | None, deliveries: int
) -> None:
    queue = many(serializer=Missing(), max_attempts=most)
    now = NOW
    queue._at = str(now)
    many().put("a", uid="a")
    for n in range(deliveries - 1):
        assert queue.get(-1) == (None, None)
        now += 10_000 * 2**n - 1
        queue._at = str(now)
        assert queue.stats()[:4] == (0, 0, 1, 0)
        now += 1
        queue._at = str(now)
        assert queue.stats()[:4] == (1, 0, 0, 0)
    assert queue.get(-1) == (None, None)
    (letter,) = queue.dead()
    assert letter.attempts == deliveries
    assert letter.reason == "undecodable: ModuleNotFoundError: No module named 'orders'"
    (text,) = warnings_of(caplog)
    assert text.startswith(f"queue test: item 'a' is a dead letter after {deliveries} deliveries")


def test_a_longer_retry_delay_holds_for_it_too(many: Any) -> None:
    queue = many(serializer=Missing(), retry_delay=100)
    queue._at = str(NOW)
    many().put("a")
    queue.get(-1)
    queue._at = str(NOW + 99_999)
    assert queue.stats().delayed == 1
    queue._at = str(NOW + 100_000)
    assert queue.stats().ready == 1


def take(queue: Any, how: str) -> None:
    if how == "consume":
        next(queue.consume(20, timeout=-1))
    elif how == "get":
        queue.get(-1)
    else:
        queue.get_many(20, -1)


@pytest.mark.parametrize("how", ["get", "get_many", "consume"])
def test_who_cannot_load_many_in_a_row_is_told_loudly(many: Any, how: str) -> None:
    broken, sound = many(serializer=Missing()), many()
    sound.put_many(map(str, range(100)))
    for left in (90, 80):
        with pytest.raises(Undecodable, match="No module named 'orders'") as raised:
            take(broken, how)
        assert isinstance(raised.value.__cause__, ModuleNotFoundError)
        assert sound.stats()[:4] == (left, 0, 100 - left, 0)
    assert {item.attempts for item in sound.get_many(100, -1)} == {1}


def test_one_that_is_loaded_ends_the_row(many: Any) -> None:
    queue, plain = many(serializer=json), many()
    for _ in range(3):
        plain.put_many([*(["{"] * 9), "1"])
    assert [queue.get(-1).payload for _ in range(3)] == [1, 1, 1]
    assert queue.get(-1) == (None, None)


# -- many that are put -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["abc", b"abc", bytearray(b"abc")])
def test_one_text_is_no_list_of_items(queue: Any, text: Any) -> None:
    with pytest.raises(TypeError, match="a list of items is needed, not one"):
        queue.put_many(text)
    assert queue.stats().total == 0


def test_all_are_checked_before_the_first_is_sent(many: Any) -> None:
    queue = many(max_payload=10)
    for wrong, error in ((1, TypeError), ("x" * 11, PayloadTooLarge)):
        with pytest.raises(error):
            queue.put_many([*(str(n) for n in range(1000)), wrong])
        assert queue.stats().total == 0


def test_uids_may_be_the_caller_s_own(queue: Any, payload: Any) -> None:
    queue.put("0", uid="n 3")
    uids = [f"n {n}" for n in range(600)]
    assert queue.put_many(map(str, range(600)), uids=uids) == uids
    assert queue.put_many(map(str, range(600)), uids=iter(uids)) == uids
    items = queue.get_many(601, -1)
    assert [str(item.uid) for item in items] == ["n 3", *uids[:3], *uids[4:]]
    assert [item.payload for item in items[:3]] == [payload("0"), payload("0"), payload("1")]


@pytest.mark.parametrize(
    ("uids", "error", "text"),
    [
        (["a"], ValueError, "1 uids were given for 2 items"),
        (["a", "b", "c"], ValueError, "3 uids were given for 2 items"),
        (["a", "a"], ValueError, "the uid 'a' was given twice"),
        (["a", ""], ValueError, "must not be empty"),
        (["a", 1], TypeError, "a uid is a str"),
        ("ab", TypeError, "a list of uids is needed, not one"),
    ],
)
def test_uids_that_do_not_fit_are_refused(
    queue: Any, uids: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        queue.put_many(["1", "2"], uids=uids)
    assert queue.stats().total == 0


def test_what_is_raised_tells_which_are_there(many: Any, payload: Any) -> None:
    queue = many(maxsize=600)
    with pytest.raises(QueueFull) as raised:
        queue.put_many(map(str, range(1000)))
    assert len(raised.value.uids) == 500
    assert [item.uid for item in queue.get_many(1000, -1)] == raised.value.uids


@pytest.mark.parametrize("lost_reply", [False, True])
def test_so_does_the_loss_of_the_server(face: Face, many: Any, lost_reply: bool) -> None:
    failing = many(kind=FAILING[type(face)])
    failing.put("first", uid="first")  # loads the script
    failing.fail_at(1, lost_reply=lost_reply, for_good=True)
    uids = [f"n {n}" for n in range(600)]
    with pytest.raises(redis.ConnectionError) as raised:
        failing.put_many(map(str, range(600)), uids=uids)
    assert raised.value.uids == uids[:250]
    queue = many()
    assert queue.stats().total == (501 if lost_reply else 251)
    assert queue.put_many(map(str, range(600)), uids=uids) == uids
    assert [str(item.uid) for item in queue.get_many(999, -1)][1:] == uids


# -- keeping only so many, or so old, dead letters -------------------------------------------------


@pytest.fixture
def dying(many: Any) -> Any:
    """A queue with 250 dead letters, one died each second, the last one now."""
    queue = many(max_attempts=1)
    uids = [f"{n:03}" for n in range(250)]
    queue.put_many(uids, uids=uids)
    for n, item in enumerate(queue.get_many(250, -1)):
        queue._at = str(NOW + 1000 * n)
        queue.fail(item.uid)
    return queue


@pytest.mark.parametrize(
    ("how", "left"),
    [
        ({}, 0),
        ({"keep": 0}, 0),
        ({"keep": 1}, 1),
        ({"keep": 130}, 130),
        ({"keep": 250}, 250),
        ({"keep": 1000}, 250),
        ({"older_than": 0}, 0),
        ({"older_than": 10}, 10),
        ({"older_than": 10.001}, 11),
        ({"older_than": 220}, 220),
        ({"older_than": 1e9}, 250),
        ({"keep": 20, "older_than": 10}, 10),
        ({"keep": 10, "older_than": 20}, 10),
        ({"keep": 180, "older_than": 20}, 20),
    ],
)
def test_dead_letters_are_kept_by_number_and_age(
    dying: Any, client: redis.Redis, how: dict[str, Any], left: int
) -> None:
    assert dying.purge_dead(**how) == 250 - left
    assert [str(letter.uid) for letter in dying.dead(300)] == [
        f"{n:03}" for n in range(250 - left, 250)
    ]
    assert client.hlen("srq:test:items") == client.hlen("srq:test:reasons") == left
    assert dying.purge_dead(**how) == 0


@pytest.mark.parametrize(
    ("name", "wrong", "error"),
    [("keep", -1, ValueError), ("keep", 1.5, TypeError), ("older_than", -1, ValueError)],
)
def test_what_is_no_number_or_age_is_refused(
    dying: Any, name: str, wrong: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=name):
        dying.purge_dead(**{name: wrong})
    assert dying.stats().dead == 250
