"""Every command of every operation lost, and its reply lost, cut, late or never coming."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis
import redis.asyncio
import redis.asyncio.retry
import redis.backoff
import redis.retry

import saferedisqueue
from helpers import FACES, FAILING, Blocking, Face
from operations import (
    OPERATIONS,
    Operation,
    Run,
    check_answers,
    check_what_is_left,
    places,
    undisturbed,
)
from proxy import DROPS, SILENCES, Proxy
from saferedisqueue import SafeRedisQueue
from servers import Server

FAULTS = (*DROPS, *SILENCES)
PATIENCE = 0.4  # seconds, the callers' socket_timeout
DATABASES = 16  # of a server: so many runs at a time
HANG = 100  # seconds after which what has not returned will not
LOST = (redis.ConnectionError, redis.TimeoutError)

# Each kind of move once: what silence is tried with, unless everything is asked for.
KINDS = (
    *(
        "put",
        "put many",
        "get",
        "get with a lease",
        "get that waits",
        "get that waits at a server without its script",
        "get many",
        "ack",
        "ack many",
    ),
    *("fail", "touch", "bury", "forward", "revive", "remove", "purge", "join"),
    *("consume and prefetch", "consume and raise", "processing"),
)
# What is tried with clients that send again otherwise, or not at all.
FEW = ("put", "put many", "get", "get that waits", "ack", "fail", "consume one by one")


@pytest.fixture(autouse=True)
def small_chunks_and_little_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few items are several chunks, and get gives a connection up as soon as its caller would."""
    monkeypatch.setattr(saferedisqueue, "_CHUNK_ITEMS", 2)
    monkeypatch.setattr(saferedisqueue, "_TRY_SECONDS", PATIENCE)
    # What is given back on leaving is tried again until it is, however busy the machine.
    monkeypatch.setattr(saferedisqueue, "_WAY_OUT", 20)


# -- clients, as users make them -------------------------------------------------------------------


def by_url(face: Face, proxy: Proxy, db: int, settings: dict[str, Any]) -> Any:
    url = f"{proxy.url}/{db}"
    kind = FAILING[type(face)]
    return face.queue(kind=kind, url=url, name="test", socket_timeout=PATIENCE, **settings)


def by_client(face: Face, proxy: Proxy, db: int, settings: dict[str, Any]) -> Any:
    """A client with what this redis-py does by default when a connection is lost."""
    flavour: Any = redis if isinstance(face, Blocking) else redis.asyncio
    client = flavour.Redis(host="127.0.0.1", port=proxy.port, db=db, socket_timeout=PATIENCE)
    return face.queue(kind=FAILING[type(face)], client=client, name="test", **settings)


def without_retries(face: Face, proxy: Proxy, db: int, settings: dict[str, Any]) -> Any:
    """Whose calls raise where others send again after a while."""
    flavour: Any = redis if isinstance(face, Blocking) else redis.asyncio
    never = flavour.retry.Retry(redis.backoff.NoBackoff(), 0)
    return by_url(face, proxy, db, {**settings, "retry": never})


CLIENTS: dict[str, Callable[..., Any]] = {
    "url": by_url,
    "client": by_client,
    "without retries": without_retries,
}
each_client = pytest.mark.parametrize("made", CLIENTS.values(), ids=list(CLIENTS))
each_face = pytest.mark.parametrize("kind", FACES.values(), ids=list(FACES))


# -- every operation -------------------------------------------------------------------------------


def settled(where: dict[str, str]) -> dict[str, str]:
    """Places, where those are one between which autoclean moves, and what waits are handed."""
    one = {"backup": "ackbuf", "handed": "queue"}
    return {payload: one.get(place, place) for payload, place in where.items()}


def check_every_loss(
    operation: Operation, kind: type[Face], made: Any, server: Server, db: int, fault: str
) -> int:
    """Run it again and again, on one queue, until no command meets the fault; how many did."""
    with Proxy(server) as proxy, server.client(db=db) as client, kind() as face:
        queue = made(face, proxy, db, operation.settings)
        after = patiently(lambda: undisturbed(operation, queue, client))
        for k in range(100):
            run = patiently(lambda: Run(operation, queue, client))
            proxy.fail_at(k, fault)
            raised = False
            try:
                run.go_on()
            except LOST:
                raised = True
            reached = proxy.failed
            proxy.release()
            if raised or run.may.fewer:
                check_what_is_left(run, after, client)
            else:
                assert settled(places(client)) == settled(after), f"at {proxy.commands[: k + 1]}"
            if "durable" not in operation.settings:  # whose puts all raise
                patiently(lambda: check_answers(queue, client))
            if not reached:
                return k
    raise AssertionError("it has no end")


def patiently(attempt: Callable[[], Any]) -> Any:
    """What the attempt returns; a slow machine may let some of them time out."""
    for _ in range(9):
        try:
            return attempt()
        except LOST:
            pass
    return attempt()


@each_face
@each_client
@pytest.mark.parametrize("fault", FAULTS)
def test_every_operation_is_done_once_and_truly_reported_whatever_is_lost(
    pytestconfig: pytest.Config, kind: type[Face], made: Any, server: Server, fault: str
) -> None:
    names = FEW if made is not by_url else KINDS if fault not in DROPS[:2] else tuple(OPERATIONS)
    if pytestconfig.getoption("--servers") == "all":
        names = tuple(OPERATIONS)
    databases = list(range(DATABASES))

    def check(name: str) -> int:
        db = databases.pop()
        try:
            return check_every_loss(OPERATIONS[name], kind, made, server, db, fault)
        except Exception as error:
            raise AssertionError(f"{name}: {error!r}") from error
        finally:
            databases.append(db)

    with ThreadPoolExecutor(DATABASES) as pool:
        for each in [pool.submit(check, name) for name in names]:
            assert each.result(HANG) > 0


# -- settling twice, and opening a connection ------------------------------------------------------

SETTLE: dict[str, Callable[[Any, Any], Any]] = {
    "ack": lambda queue, uid: queue.ack(uid),
    "ack many": lambda queue, uid: queue.ack_many([uid]) == 1,
    "fail": lambda queue, uid: queue.fail(uid),
    "bury": lambda queue, uid: queue.bury(uid),
    "remove": lambda queue, uid: queue.remove(uid),
    "forward": lambda queue, uid: queue.forward(uid, "other", "x") is not None,
}


@each_face
@pytest.mark.parametrize("fault", FAULTS)
def test_what_is_settled_twice_is_settled_once_and_the_second_is_told_so(
    kind: type[Face], server: Server, client: redis.Redis, fault: str
) -> None:
    with Proxy(server) as proxy, kind() as face:
        queue = by_url(face, proxy, 0, {})
        for settle in SETTLE.values():
            queue.purge()
            queue.put("a")
            item = queue.get(30)
            proxy.fail_at(0, fault)
            assert settle(queue, item.uid) is True
            assert settle(queue, item.uid) is False
            proxy.release()
            assert settle(queue, item.uid) is False


@each_face
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_lost_while_a_connection_is_opened_a_put_is_one_item_and_a_get_one_delivery(
    kind: type[Face], server: Server, client: redis.Redis, fault: str
) -> None:
    with Proxy(server) as proxy, kind() as face:
        for k in range(100):
            client.flushall()
            putting, getting = (by_url(face, proxy, 0, {}) for _ in range(2))
            proxy.fail_at(k, fault)
            uid = putting.put("a")
            reached = proxy.failed
            proxy.release()
            proxy.fail_at(k, fault)
            item = getting.get()
            reached = reached or proxy.failed
            proxy.release()
            assert (item.uid, item.payload, item.attempts) == (uid, b"a", 1)
            check_answers(getting, client)
            assert getting.ack(item.uid) is True
            assert putting.stats().total == 0
            if not reached:
                break
        assert k > 1


@each_face
def test_what_a_wait_took_whose_reply_was_lost_is_handed_back_when_the_next_look_is_refused(
    kind: type[Face], server: Server, client: redis.Redis
) -> None:
    """That this copy was refused says nothing of the one before."""
    with kind() as face, SafeRedisQueue(url=server.url, name="test") as other:
        queue = face.queue(kind=FAILING[kind], url=server.url, name="test")
        queue.get_nowait()  # the server has the scripts

        def lost() -> BaseException:
            queue.fail_at(0, lost_reply=False, error=lambda: redis.ResponseError("refused"))
            return redis.ConnectionError("the test cut the connection")

        queue.before_wait = lambda: other.put("b")
        queue.fail_at(1, lost_reply=True, error=lost)
        with pytest.raises(redis.ResponseError, match="refused"):
            queue.get(30)
        assert queue.get_nowait().attempts == 1
