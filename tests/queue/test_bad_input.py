"""Whatever a caller gives is taken as it is, or refused by a clear error that changes nothing."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, assume, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from helpers import Face, check_places, seed, snapshot
from saferedisqueue import PayloadTooLarge, SafeRedisQueue, from_receipt
from servers import Server

NOW = 1_700_000_000_000
Use = Callable[[Any, Any], Any]


def fuzz(examples: int) -> hypothesis_settings:
    """So many examples, the same on every run."""
    return hypothesis_settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.fixture
def queue(face: Face, server: Server, client: redis.Redis) -> Any:
    queue = face.queue(url=server.url, name="test", autoclean_interval=3600)
    queue._at = NOW
    return queue


def kind_of(value: object) -> str:
    return type(value).__name__


def seed_each_state(client: redis.Redis) -> None:
    """Nothing but an item in each state; that which is out without a lease has the uid "out"."""
    client.flushdb()
    seed(client, items=dict.fromkeys(["next", "out", "leased", "later", "died"], "payload"))
    seed(client, queue=["next"], ackbuf=["out"], leases={"leased": NOW + 60_000})
    seed(client, delayed={"later": NOW + 60_000}, dead={"died": NOW}, reasons={"died": "why"})
    seed(client, meta={"out": "1 5 tok:1 ", "leased": "1 5 tok:2 ", "died": "3 5 - "})


@contextlib.contextmanager
def nothing_changes(client: redis.Redis) -> Iterator[None]:
    """To a queue with an item in each state, nor to another."""
    seed_each_state(client)
    before = snapshot(client)
    yield
    assert snapshot(client) == before
    assert snapshot(client, "another") == {}


# -- payloads --------------------------------------------------------------------------------------


class Tagged(bytes):
    """Bytes that stay of their kind when they are made bytes."""

    def __bytes__(self) -> bytes:
        return self


KINDS: dict[str, Callable[[bytes], Any]] = {
    "bytes": bytes,
    "a subclass of bytes": Tagged,
    "bytearray": bytearray,
    "memoryview": memoryview,
    "a view of every other byte": lambda payload: memoryview(payload)[::2],
}


@fuzz(60)
@given(payload=st.binary(max_size=300), kind=st.sampled_from(list(KINDS)))
@example(payload=bytes(range(256)), kind="bytes")
@example(payload=b"a", kind="a subclass of bytes")
def test_every_payload_of_bytes_comes_back_byte_for_byte(
    queue: Any, payload: bytes, kind: str
) -> None:
    item = KINDS[kind](payload)
    uid = queue.put(item)
    assert queue.peek()[0].payload == bytes(item)
    assert queue.get(-1) == (uid, bytes(item))
    assert queue.ack(uid)


@fuzz(60)
@given(text=st.text())
@example(text="\udcff")
@example(text="\r\n$-1\r\n\0")
def test_every_text_comes_back_as_utf_8_or_cannot_be_encoded(
    queue: Any, client: redis.Redis, text: str
) -> None:
    client.flushdb()
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        for put in (queue.put, lambda item: queue.put_many(["fine", item])):
            with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
                put(text)
        assert snapshot(client) == {}
    else:
        uid = queue.put(text)
        assert queue.get(-1) == (uid, encoded)


NOT_PAYLOADS = [
    *(None, 17, 1.5, True, Decimal(1), object(), ["a"], ("a",), {"a": "b"}, {"a"}, ...),
    *(range(3), iter("a"), Exception("a"), int, datetime.now()),
]


@pytest.mark.parametrize("item", NOT_PAYLOADS, ids=kind_of)
def test_what_is_no_payload_is_refused_and_nothing_changes(
    queue: Any, client: redis.Redis, item: Any
) -> None:
    error = f"not {type(item).__name__}: .*serializer=json"
    with nothing_changes(client):
        for use in (
            lambda: queue.put(item),
            lambda: queue.put(item, uid="x", priority=1),
            lambda: queue.put_many([b"fine", item]),
            lambda: queue.forward("out", "another", item),
        ):
            with pytest.raises(TypeError, match=error):
                use()


@pytest.mark.parametrize("items", [None, 1, object()])
def test_what_cannot_be_iterated_cannot_be_put(queue: Any, client: redis.Redis, items: Any) -> None:
    with pytest.raises(TypeError, match="not iterable"):
        queue.put_many(items)
    assert snapshot(client) == {}


def test_a_payload_of_64_megabytes_comes_back_and_one_more_byte_is_not_sent(
    face: Face, server: Server, client: redis.Redis
) -> None:
    size = 64 * 2**20
    queue = face.queue(url=server.url, name="test", max_payload=size)
    payload = os.urandom(2**16) * (size // 2**16)
    queue.put(payload)
    item = queue.get()  # asks again if the transfer takes longer than an answer may
    assert item.payload == payload
    assert queue.ack(item.uid)
    del item
    payload += b"x"
    received = client.info("stats")["total_net_input_bytes"]
    for use in (
        lambda: queue.put(payload),
        lambda: queue.put_many([payload]),
        lambda: queue.forward("out", "another", payload),
    ):
        with pytest.raises(PayloadTooLarge, match=f"{size + 1} bytes; max_payload is {size}"):
            use()
    assert client.info("stats")["total_net_input_bytes"] - received < 10_000


# -- serializers -----------------------------------------------------------------------------------


class Serializer:
    """Its functions return what they are told to, or raise it."""

    dumped: Any = b"payload"
    loaded: Any = "item"

    def dumps(self, item: Any) -> Any:
        return self._result(self.dumped)

    def loads(self, payload: Any) -> Any:
        return self._result(self.loaded)

    def _result(self, result: Any) -> Any:
        if isinstance(result, BaseException):
            raise result
        return result


@pytest.fixture
def serializer() -> Serializer:
    return Serializer()


@pytest.fixture
def serialized(face: Face, server: Server, client: redis.Redis, serializer: Serializer) -> Any:
    return face.queue(url=server.url, name="test", serializer=serializer)


@pytest.mark.parametrize("wrong", [object(), "json"])
def test_what_is_no_serializer_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="serializer"):
        SafeRedisQueue(serializer=wrong)


@pytest.mark.parametrize("dumped", [None, 1, ["a"], bytearray(b"a"), memoryview(b"a"), "\ud800"])
def test_what_a_serializer_may_not_return_is_refused(
    serialized: Any, client: redis.Redis, serializer: Serializer, dumped: Any
) -> None:
    serializer.dumped = dumped
    for use in (
        lambda: serialized.put("a"),
        lambda: serialized.put_many([*"ab"]),
        lambda: serialized.forward("x", "another", "a"),
    ):
        with pytest.raises((TypeError, ValueError), match="dumps must return|surrogates"):
            use()
    assert client.keys("srq:*") == []


@pytest.mark.parametrize("error", [ValueError("no"), KeyError("a"), StopIteration(), MemoryError()])
def test_what_dumps_raises_is_raised_and_nothing_is_put(
    serialized: Any, client: redis.Redis, serializer: Serializer, error: BaseException
) -> None:
    serializer.dumped = error
    with pytest.raises((type(error), RuntimeError)) as caught:
        serialized.put("a")
    assert error in (caught.value, caught.value.__cause__)
    assert client.keys("srq:*") == []


@pytest.mark.parametrize("loaded", [None, (), ("a", "b"), ..., ValueError, object(), b"", 0])
def test_whatever_loads_returns_is_the_payload(
    serialized: Any, serializer: Serializer, loaded: Any
) -> None:
    serializer.loaded = loaded
    uid = serialized.put("a")
    item = serialized.get(-1)
    assert item == (uid, loaded)
    assert serialized.ack(item.uid)


class Color(Enum):
    GREEN = "green"


class Colors:
    """A serializer of an enum's members."""

    @staticmethod
    def dumps(color: str) -> bytes:
        return color.encode()

    @staticmethod
    def loads(payload: bytes) -> Color:
        return Color(payload.decode())


def test_what_is_no_member_of_an_enum_is_a_dead_letter_and_get_goes_on(
    face: Face, server: Server, client: redis.Redis
) -> None:
    queue = face.queue(url=server.url, name="test", serializer=Colors, max_attempts=1)
    queue.put("gren")
    uid = queue.put("green")
    assert queue.get(-1) == (uid, Color.GREEN)
    assert queue.stats().dead == 1


@pytest.mark.parametrize("many", [False, True])
def test_who_is_interrupted_while_loading_gives_everything_back(
    server: Server, client: redis.Redis, serializer: Serializer, many: bool
) -> None:
    serializer.loaded = KeyboardInterrupt()
    with SafeRedisQueue(url=server.url, name="test", serializer=serializer) as queue:
        uids = queue.put_many([*"ab"])
        with pytest.raises(KeyboardInterrupt):
            queue.get_many(2, -1) if many else queue.get(-1)
        serializer.loaded = "item"
        items = [queue.get(-1) for _ in uids]
    assert [item.uid for item in items] == uids
    assert [getattr(item, "attempts", 0) for item in items] == [1, 1]


# -- uids and receipts -----------------------------------------------------------------------------

STRANGE = [
    *("\0", "\n", "\r\n$3\r\nfoo\r\n", " ", "a b", "%", "%d%s", "{a}", "*", "?[a]", "'", '"', "/"),
    *("0", "-", "-1", "nan", "nil", "\u200b", "\udcff", "a" * 100_000, "3:a", "srq:test:items"),
]
UIDS = st.sampled_from(STRANGE) | st.text(min_size=1)


@fuzz(50)
@given(uids=st.lists(UIDS, min_size=1, max_size=3, unique=True))
def test_a_uid_may_be_any_text_that_can_be_encoded(
    queue: Any, client: redis.Redis, uids: list[str]
) -> None:
    client.flushdb()
    for uid in uids:
        try:
            uid.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            with pytest.raises(ValueError, match="a uid must be text that can be encoded"):
                queue.put("a", uid=uid)
            return
    assert [queue.put("a", uid=uid) for uid in uids] == uids
    assert [queue.put("b", uid=uid) for uid in uids] == [None] * len(uids)
    assert all(queue.exists(uid) for uid in uids)
    assert [item.uid for item in queue.peek(9)] == uids
    held = queue.get_many(9, -1)
    assert [item.uid for item in held] == uids
    for item in held:
        assert queue.touch(item.uid)
        assert queue.fail(item.uid)
    for uid in uids:
        item = queue.get(-1)
        assert item.uid == uid
        assert queue.bury(from_receipt(item.receipt))
    assert sorted(letter.uid for letter in queue.dead()) == sorted(uids)
    assert queue.revive(*uids) == len(uids)
    check_places(client)
    first = queue.get(-1).uid
    assert queue.forward(first, "another", "a")
    assert [queue.remove(uid) for uid in uids] == [uid != first for uid in uids]
    assert queue.get(-1) == (None, None)
    assert snapshot(client).keys() <= {"backuplock"}


@pytest.mark.parametrize(
    "uid", [None, 1, True, b"out", bytearray(b"out"), 1.5, object(), ("out",)], ids=kind_of
)
def test_what_is_no_uid_is_refused_and_nothing_changes(
    queue: Any, client: redis.Redis, uid: Any
) -> None:
    uses: list[Callable[[Any], Any]] = [
        *(queue.ack, queue.fail, queue.touch, queue.bury, queue.exists, queue.remove),
        *(lambda u: queue.ack_many([u]), lambda u: queue.fail_many([u])),
        *(lambda u: queue.forward(u, "another", b"a"), lambda u: queue.revive("died", u)),
    ]
    uses += [] if uid is None else [lambda u: queue.put(b"a", uid=u)]
    with nothing_changes(client):
        for use in uses:
            with pytest.raises(TypeError, match=f"uid .* not {type(uid).__name__}"):
                use(uid)


def test_what_is_no_list_of_uids_is_refused_and_nothing_changes(
    queue: Any, client: redis.Redis
) -> None:
    with nothing_changes(client):
        for several in (queue.ack_many, queue.fail_many):
            with pytest.raises(TypeError):
                several(1)
            with pytest.raises(TypeError, match="a list of uids is needed"):
                several("out")


@pytest.mark.parametrize("use", ["ack", "fail", "touch", "bury", "exists", "remove", "put"])
def test_an_empty_uid_is_refused(queue: Any, client: redis.Redis, use: str) -> None:
    with pytest.raises(ValueError, match="uid"):
        queue.put("a", uid="") if use == "put" else getattr(queue, use)("")
    assert snapshot(client) == {}


@fuzz(60)
@given(data=st.data())
def test_a_garbled_receipt_settles_nothing(
    queue: Any, client: redis.Redis, data: st.DataObject
) -> None:
    seed_each_state(client)
    receipt = "tok:1/out"
    start = data.draw(st.integers(0, len(receipt)))
    stop = data.draw(st.integers(start, len(receipt)))
    garbled = receipt[:start] + data.draw(st.text(max_size=3)) + receipt[stop:]
    assume(garbled != receipt)
    before = snapshot(client)
    for settle in (queue.fail, queue.touch, queue.bury, queue.ack):
        with contextlib.suppress(ValueError):  # of from_receipt, or of a uid that is no text
            assert not settle(from_receipt(garbled))
    assert snapshot(client) == before
    assert queue.ack(from_receipt(receipt))


@pytest.mark.parametrize(
    "wrong", [None, 1, b"tok:1/uid", ["tok:1/uid"], "", "a", "a/b", "x:1/", "/x"], ids=repr
)
def test_what_is_no_receipt_is_refused(wrong: Any) -> None:
    with pytest.raises(ValueError if isinstance(wrong, str) else TypeError, match="receipt"):
        from_receipt(wrong)


# -- names -----------------------------------------------------------------------------------------


@fuzz(60)
@given(name=st.sampled_from(STRANGE) | st.text())
@example(name="neighbour*")
@example(name="\ud800")
def test_a_name_is_that_of_a_queue_of_its_own_or_is_refused(
    face: Face, server: Server, client: redis.Redis, name: str
) -> None:
    client.flushdb()
    neighbour = face.queue(url=server.url, name="neighbour", autoclean_interval=3600)
    neighbour.put_many([*"ab"])
    uid = neighbour.get(-1).uid
    before = snapshot(client, "neighbour")
    keys = set(client.keys())
    try:
        queue = face.queue(url=server.url, name=name)
    except ValueError:
        for use in (lambda: SafeRedisQueue(name=name), lambda: neighbour.forward(uid, name, "c")):
            with pytest.raises(ValueError, match="name"):
                use()
        assert set(client.keys()) == keys
    else:
        queue.put("c")
        assert client.hlen(f"srq:{name}:items") == 1
        assert snapshot(client, "neighbour") == before
        assert neighbour.forward(uid, name, "d")
        assert [queue.get(-1).payload for _ in "cd"] == [b"c", b"d"]
        assert queue.purge() == 2
        assert neighbour.get(-1).payload == b"b"


NOT_NAMES = ["", "a" * 201, "a\n", "\0", "\x7f", "\x85"]
NOT_TAGS = ["{", "}", "a{", "{}", "a{}b", "}{", "{a}{b}", "{{a}}"]


@pytest.mark.parametrize("name", [*NOT_NAMES, *NOT_TAGS])
def test_a_name_that_cannot_stand_in_keys_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="name"):
        SafeRedisQueue(name=name)


@pytest.mark.parametrize("name", [None, b"a", bytearray(b"a"), 1.5, ("a",), object()])
def test_what_is_no_name_is_refused_and_nothing_changes(
    queue: Any, client: redis.Redis, name: Any
) -> None:
    uses = (lambda: SafeRedisQueue(name=name), lambda: queue.forward("out", name, b"a"))
    with nothing_changes(client):
        for use in uses:
            with pytest.raises(TypeError, match=f"name must be a str, not {type(name).__name__}"):
                use()


# -- numbers ---------------------------------------------------------------------------------------


class Undecided(tzinfo):
    """A time zone that does not say how far from UTC it is."""

    def utcoffset(self, at: datetime | None) -> timedelta | None:
        return None


class Level(int, Enum):
    ONE = 1


ODD = [
    *(None, True, False, "", "1", "60", "nan", b"1", [], {}, object, ..., 1j, 0j),
    *(Decimal(0), Decimal("1.5"), Decimal("nan"), Decimal("inf"), Fraction(1, 3), Level.ONE),
    *(math.nan, math.inf, -math.inf, 1e10, 1e12, 1e300, -1e300, 5e-324, -0.0, 1.5, 0, 1, -1),
    *(1000, 1001, -1000, -1001, 2**31, 2**63, -(2**63), 10**30, 10**400, -(10**400)),
    *(timedelta(1), date(2030, 1, 1), datetime(2030, 1, 1)),
    *(datetime.max.replace(tzinfo=UTC), datetime.min.replace(tzinfo=UTC)),
    datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    datetime(2030, 1, 1, tzinfo=Undecided()),
]


def odd(test: Callable[..., Any]) -> Callable[..., Any]:
    """A test of each odd value, and of some numbers."""
    tried = fuzz(20)(given(value=st.floats() | st.integers())(test))
    for value in ODD:
        tried = example(value=value)(tried)
    return tried


# Those of which there is no half.
WHOLE = {"count", "offset", "prefetch", "priority", "max_attempts", "maxsize", "max_payload"}
WHOLE |= {"durable"}


def refusal(name: str, value: Any) -> type[Exception]:
    """What a number out of range is refused by; and what is no number, or not a whole one."""
    if name == "at" and isinstance(value, datetime):
        return ValueError
    number = isinstance(value, int if name in WHOLE else (int, float))
    return ValueError if number and not isinstance(value, bool) else TypeError


Valid = Callable[[Any], bool]


def seconds(least: float, *more: Any) -> Valid:
    def valid(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return any(value is each for each in more)
        return least <= value < 1e10 or (value == math.inf and math.inf in more)

    return valid


def count(least: int, *more: Any, most: float = math.inf) -> Valid:
    def valid(value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int):
            return any(value is each for each in more)
        return least <= value <= most

    return valid


def moment(value: Any) -> bool:
    if isinstance(value, datetime):
        return value.utcoffset() is not None and value.timestamp() < 1e10
    return seconds(-math.inf, None)(value)


DELAY, LEASE, TIMEOUT = seconds(0, None), seconds(0.001, None), seconds(-math.inf, None, math.inf)

# The name of an argument, which of its values are valid, and a use of it.
ARGUMENTS: dict[str, tuple[str, Valid, Use]] = {
    "put delay": ("delay", DELAY, lambda q, v: q.put("a", delay=v)),
    "put_many delay": ("delay", DELAY, lambda q, v: q.put_many([*"a"], delay=v)),
    "put at": ("at", moment, lambda q, v: q.put("a", at=v)),
    "put priority": ("priority", count(-1000, most=1000), lambda q, v: q.put("a", priority=v)),
    "get timeout": ("timeout", TIMEOUT, lambda q, v: q.get(v)),
    "get lease": ("lease", LEASE, lambda q, v: q.get(-1, v)),
    "get_many count": ("count", count(1), lambda q, v: q.get_many(v, -1)),
    "get_many timeout": ("timeout", TIMEOUT, lambda q, v: q.get_many(1, v)),
    "get_many lease": ("lease", LEASE, lambda q, v: q.get_many(1, -1, v)),
    "fail delay": ("delay", DELAY, lambda q, v: q.fail("out", v)),
    "fail_many delay": ("delay", DELAY, lambda q, v: q.fail_many(["out"], v)),
    "touch lease": ("lease", LEASE, lambda q, v: q.touch("leased", v)),
    "peek count": ("count", count(1), lambda q, v: q.peek(v)),
    "dead count": ("count", count(0), lambda q, v: q.dead(v)),
    "dead offset": ("offset", count(0), lambda q, v: q.dead(1, v)),
    "consume prefetch": ("prefetch", count(1), lambda q, v: q.consume(v)),
    "consume lease": ("lease", LEASE, lambda q, v: q.consume(lease=v)),
    "consume timeout": ("timeout", TIMEOUT, lambda q, v: q.consume(timeout=v)),
    "processing timeout": ("timeout", TIMEOUT, lambda q, v: q.processing(v)),
}
SETTINGS: dict[str, Valid] = {
    "autoclean_interval": seconds(0.001, None, ...),  # the latter is: not given
    "lease": LEASE,
    "max_attempts": count(1, None),
    "maxsize": count(1, None),
    "max_payload": count(0),
    "durable": count(1, None),
    "durable_timeout": seconds(0.001),
    "wait_slice": seconds(0.01),
}


@pytest.mark.parametrize("case", ARGUMENTS)
@odd
def test_a_number_is_taken_or_refused_by_name_and_then_nothing_changes(
    queue: Any, client: redis.Redis, case: str, value: Any
) -> None:
    name, valid, use = ARGUMENTS[case]
    seed_each_state(client)
    before = snapshot(client)
    if valid(value):
        use(queue, value)
    else:
        with pytest.raises(refusal(name, value), match=rf"\b{name}\b"):
            use(queue, value)
        assert snapshot(client) == before
    check_places(client)


def test_a_delay_and_a_time_are_not_both_taken(queue: Any, client: redis.Redis) -> None:
    with pytest.raises(TypeError, match="delay= and at="):
        queue.put("a", at=1, delay=1)
    assert snapshot(client) == {}


@pytest.mark.parametrize("setting", SETTINGS)
@odd
def test_a_setting_is_taken_or_refused_by_name(setting: str, value: Any) -> None:
    if SETTINGS[setting](value):
        SafeRedisQueue(**{setting: value})
    else:
        with pytest.raises(refusal(setting, value), match=setting):
            SafeRedisQueue(**{setting: value})


@odd
def test_an_item_is_failed_whatever_retry_delay_returns(
    face: Face, server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture, value: Any
) -> None:
    queue = face.queue(url=server.url, name="test", retry_delay=lambda _: value)
    seed_each_state(client)
    caplog.clear()
    assert queue.fail("out")
    if seconds(0)(value):
        assert caplog.records == []
    else:
        (record,) = caplog.records
        assert "the result of retry_delay" in record.getMessage()
        assert client.zscore("srq:test:delayed", "out")
