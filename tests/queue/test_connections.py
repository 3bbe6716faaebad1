"""The constructor, secrets, threads, forks, and everything a connection can do to a queue."""

from __future__ import annotations

import contextlib
import copy
import logging
import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import redis
import redis.asyncio

from helpers import (
    Face,
    Failing,
    Make,
    call,
    check_places,
    command_of,
    drain,
    eventually,
    run_alone,
    seed,
    snapshot,
    within,
)
from proxy import Proxy
from saferedisqueue import STATS, AsyncSafeRedisQueue, SafeRedisQueue, WrongClient
from servers import Server, free_port
from topologies import go_on, hang


@contextmanager
def queues(*made: Any) -> Iterator[None]:
    """Close them at the end."""
    try:
        yield
    finally:
        for queue in made:
            queue.close()


def wait_for_blocked(client: redis.Redis, consumers: int = 1) -> None:
    eventually(lambda: client.info("clients")["blocked_clients"] == consumers)


# -- the constructor -------------------------------------------------------------------------------


def test_without_a_url_arguments_are_those_of_redis_py(client: redis.Redis, server: Server) -> None:
    queue = SafeRedisQueue(unix_socket_path=server.socket, name="test", db=1)
    with queues(queue):
        queue.put("a")
        assert queue._redis.hlen(queue.ITEMS_KEY) == 1
        assert snapshot(client) == {}, "it is in database 1"


@pytest.mark.parametrize(
    "arguments",
    [
        ("example.org", 1234, 2),
        ("127.0.0.1", 6379),
        ("fe80::1%eth0", 6379),
        *((host,) for host in ("orders", "my_redis", "bücher.example", "::1", "", None)),
    ],
    ids=str,
)
def test_positional_arguments_are_those_of_redis_py_with_a_warning(arguments: Any) -> None:
    make: Any = SafeRedisQueue
    asynchronous: Any = AsyncSafeRedisQueue
    host = repr(arguments[0])
    asks = f"write host={host}; or did you mean name={host}\\?"
    with pytest.warns(DeprecationWarning, match=asks) as caught:
        queue = make(*arguments, name="a")
    assert caught[0].filename == __file__
    settings = queue._redis.connection_pool.connection_kwargs
    expected = dict(zip(("host", "port", "db"), arguments))
    assert {key: settings[key] for key in expected} == expected
    with pytest.raises(TypeError, match=f"no positional arguments: did you mean name={host}\\?"):
        asynchronous(*arguments)


@pytest.mark.parametrize(
    "first", ["my orders", "srq:orders", "{orders}", "orders/1", "a@b", "redis://:secret@host"]
)
def test_what_is_no_host_is_refused_where_one_is_expected_and_not_told(first: str) -> None:
    for kind, error in ((SafeRedisQueue, ValueError), (AsyncSafeRedisQueue, TypeError)):
        make: Any = kind
        with pytest.raises(error, match=r"did you mean name= or url=\?") as caught:
            make(first, 6379)
        assert first not in str(caught.value)


@pytest.mark.parametrize("kind", [SafeRedisQueue, AsyncSafeRedisQueue])
@pytest.mark.parametrize("beside", [{}, {"url": "redis://localhost"}, {"client": None}])
def test_what_may_be_meant_by_a_misspelt_argument_is_asked(kind: Any, beside: Any) -> None:
    client = kind._flavour.Redis()
    misspelt = {
        "nmae": "name",
        "max_attempt": "max_attempts",
        "autoclean_intervall": "autoclean_interval",
        "decode_response": "decode_responses",
        "pasword": "password",
        "max-attempts": "max_attempts",
    }
    for wrong, right in misspelt.items():
        with pytest.raises(TypeError) as caught:
            kind(**{wrong: 1}, **{key: value or client for key, value in beside.items()})
        said = f"{kind.__name__}() got an unexpected keyword argument '{wrong}': "
        assert str(caught.value) == f"{said}did you mean '{right}'?"
    with pytest.raises(TypeError, match=r"argument 'xyz'$"):
        kind(xyz=1)


def test_a_type_error_of_redis_py_about_something_else_comes_as_it_is() -> None:
    def connect(*args: Any, **kw: Any) -> Any:
        raise TypeError("f() got an unexpected keyword argument 'another'")

    with pytest.raises(TypeError, match=r"^f\(\) got"):
        SafeRedisQueue(url="redis://localhost", connection_class=connect)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("redis://example.org:1234/2", "example.org:1234 db 2"),
        ("rediss://example.org:1234/2", "example.org:1234 db 2"),
        ("unix:///tmp/some.sock?db=3", "/tmp/some.sock db 3"),
    ],
)
def test_every_scheme_of_a_url_is_taken(url: str, where: str) -> None:
    queue = SafeRedisQueue(url=url, name="orders")
    assert repr(queue) == f"<SafeRedisQueue 'orders' on {where}>"
    is_tls = queue._like.connection_class is redis.SSLConnection
    assert is_tls == url.startswith("rediss")


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "", "//localhost"])
def test_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="redis://, rediss://, valkey://, valkeys://, unix://"):
        SafeRedisQueue(url=url)


def test_positional_arguments_are_ignored_beside_a_url_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="positional arguments are ignored") as caught:
        queue = SafeRedisQueue("elsewhere", 1, url="redis://example.org:1234")
    assert "example.org:1234" in repr(queue)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    "arguments",
    [
        {"no_such_argument": 1},
        {"url": "redis://localhost", "no_such_argument": 1},
        {"url": "redis://localhost", "host": "elsewhere"},
        {"url": "redis://localhost", "port": 1},
        {"url": "redis://localhost", "unix_socket_path": "/tmp/some.sock"},
        {"client": redis.Redis(), "url": "redis://localhost"},
        {"client": redis.Redis(), "host": "localhost"},
        {"client": redis.Redis(), "decode_responses": True},
    ],
    ids=lambda arguments: " ".join(arguments),
)
def test_unknown_and_contradictory_arguments_are_refused_at_once(arguments: Any) -> None:
    with pytest.raises(TypeError) as caught:
        SafeRedisQueue(**arguments)
    assert list(arguments)[-1] in str(caught.value)


@pytest.mark.parametrize("decodes", [False, True])
def test_decode_responses_beside_a_client_must_be_the_clients(decodes: bool) -> None:
    for module, kind in ((redis, SafeRedisQueue), (redis.asyncio, AsyncSafeRedisQueue)):
        make: Any = kind
        client = module.Redis(decode_responses=decodes)
        assert make(client=client, decode_responses=decodes)._decode is decodes
        for other in (not decodes, None, "yes"):
            with pytest.raises(TypeError, match="decode_responses cannot be given too"):
                make(client=client, decode_responses=other)


@pytest.mark.parametrize("name", ["0", "a" * 200, "{a}", "a{b}c", "a:b *?[c]", "ä", "%s"])
def test_every_other_name_is_taken_and_is_a_queue_of_its_own(
    make: Make, client: redis.Redis, name: str
) -> None:
    queue = make(name=name)
    uid = queue.put("a")
    assert make(name="another").get(-1) == (None, None)
    assert f"srq:{name}:items" == queue.ITEMS_KEY
    assert client.hkeys(queue.ITEMS_KEY) == [uid.encode()]
    assert queue.get(-1).uid == uid


def test_the_name_is_0_by_default_and_a_number_is_text() -> None:
    assert SafeRedisQueue().name == "0"
    assert SafeRedisQueue(name=7).name == "7"


def test_the_attributes_of_3_0_0_are_there() -> None:
    serializer: Any = pickle
    queue = SafeRedisQueue(name="orders", autoclean_interval=17, serializer=serializer)
    assert queue.ITEMS_KEY == "srq:orders:items"
    assert queue.QUEUE_KEY == "srq:orders:queue"
    assert queue.ACKBUF_KEY == "srq:orders:ackbuf"
    assert queue.BACKUP == "srq:orders:backup"
    assert queue.BACKUP_LOCK == "srq:orders:backuplock"
    assert queue.AUTOCLEAN_INTERVAL == 17
    assert queue.serializer is pickle
    assert isinstance(queue._redis, redis.Redis)
    assert SafeRedisQueue.AUTOCLEAN_INTERVAL == SafeRedisQueue().AUTOCLEAN_INTERVAL == 60


def test_a_subclass_may_have_an_interval_of_its_own(make: Make, client: redis.Redis) -> None:
    class Slow(SafeRedisQueue[bytes]):
        AUTOCLEAN_INTERVAL = 1000

    queue = make(Slow)
    queue.put("a")
    assert queue.get(-1).uid
    assert client.ttl("srq:test:backuplock") > 900
    assert make(Slow, autoclean_interval=3).AUTOCLEAN_INTERVAL == 3
    assert make(Slow, autoclean_interval=None).AUTOCLEAN_INTERVAL is None


def test_push_and_pop_are_put_and_get_and_say_so_to_the_caller(make: Make) -> None:
    queue = make()
    with pytest.warns(DeprecationWarning, match=r"put.*5\.0") as pushed:
        uid = queue.push("a")
    with pytest.warns(DeprecationWarning, match=r"get.*5\.0") as popped:
        assert queue.pop(timeout=1) == (uid, b"a")
    assert {pushed[0].filename, popped[0].filename} == {__file__}


def test_what_get_returns_can_be_copied_and_sent_to_another_process(make: Make) -> None:
    queue = make()
    queue.put("a")
    item = queue.get()
    for other in (pickle.loads(pickle.dumps(item)), copy.copy(item), copy.deepcopy(item)):
        assert (type(other), other, other.attempts) == (type(item), item, 1)
    nothing = queue.get(-1)
    assert pickle.loads(pickle.dumps(nothing)) == nothing
    queue.fail(item.uid)
    queue.get()
    assert queue.ack(pickle.loads(pickle.dumps(item)).uid) is False, "the delivery is not its own"


# -- the caller's client ---------------------------------------------------------------------------


def test_the_caller_s_client_is_used_and_left_open(server: Server, client: redis.Redis) -> None:
    with server.client() as mine:
        connection = mine.client_id()
        with SafeRedisQueue(client=mine, name="test") as queue:
            assert queue._redis is mine
            queue.put("a")
            assert queue.get() == (snapshot(client)["ackbuf"][0], b"a")
        assert mine.client_id() == connection


def test_a_queue_closes_its_connections_and_can_be_used_again(
    server: Server, client: redis.Redis
) -> None:
    before = client.info("clients")["connected_clients"]
    queue = SafeRedisQueue(url=server.url, name="test")
    for _ in range(2):
        with queue:
            queue.put("a")
            queue.get()
            assert client.info("clients")["connected_clients"] > before
        eventually(lambda: client.info("clients")["connected_clients"] == before)


def test_a_queue_can_be_closed_while_another_thread_begins_to_use_it(
    server: Server, client: redis.Redis
) -> None:
    class Eventful(redis.UnixDomainSocketConnection):
        def disconnect(self, *args: Any) -> None:
            super().disconnect(*args)
            if closing:
                closing.clear()
                with ThreadPoolExecutor() as pool:
                    pool.submit(queue.get, -1).result()

    closing: list[bool] = []
    pool = redis.ConnectionPool(connection_class=Eventful, path=server.socket)
    queue: Any = SafeRedisQueue(client=redis.Redis(connection_pool=pool), name="test")
    queue.put("a")
    closing.append(True)
    queue.close()
    queue.close()


@pytest.mark.parametrize("kind", ["asyncio", "pool", "url", "class"])
def test_a_client_of_the_wrong_kind_is_refused_at_once(kind: str) -> None:
    wrong: Any = {
        "asyncio": redis.asyncio.Redis(),
        "pool": redis.ConnectionPool(),
        "url": "redis://localhost",
        "class": redis.Redis,
    }[kind]
    with pytest.raises(WrongClient, match=r"needs a redis\.Redis") as caught:
        SafeRedisQueue(client=wrong)
    assert isinstance(caught.value, TypeError)


# -- secrets ---------------------------------------------------------------------------------------

SECRET = "hunter2"


def no_secret_in(*said: object) -> None:
    for each in said:
        if isinstance(each, BaseException):
            text = "".join(traceback.format_exception(each)) + repr(each)
            text = "\n".join(line for line in text.splitlines() if "SECRET" not in line)
        else:
            text = str(each)
        assert SECRET not in text


@pytest.mark.parametrize(
    "arguments",
    [
        {"url": f"redis://user:{SECRET}@localhost:1/0"},
        {"url": f"redis://:{SECRET}@localhost:1/0"},
        {"url": f"rediss://user:{SECRET}@localhost:1/0"},
        {"url": f"unix://user:{SECRET}@/tmp/some.sock"},
        {"url": f"redis://localhost:1?password={SECRET}"},
        {"password": SECRET, "port": 1},
        {"client": redis.Redis(port=1, username="user", password=SECRET)},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_no_password_is_in_a_repr_an_error_or_the_log(
    arguments: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    queue: Any = SafeRedisQueue(**arguments)
    with pytest.raises(redis.ConnectionError) as caught:
        queue.get(0.2)
    no_secret_in(repr(queue), str(queue), caught.value, caplog.text)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://user:{SECRET}@host:port",
        f"redis://user:{SECRET}/2@host:6379",
        f"redis://user:{SECRET}?@host:6379?",
        f"redis://user:a/{SECRET}@host",
        f"redis://[user:{SECRET}@host",
        f"redis://host:{SECRET}",
        f"redis://host?socket_timeout={SECRET}",
        f"redis:/user:{SECRET}@host",
        f"redis//:{SECRET}@host",
        f"user:{SECRET}@host",
        f"{SECRET}@host",
        f"{SECRET}@host:6379/0",
        f"{SECRET}",
        f"http://user:{SECRET}@host",
        f"embedded://user:{SECRET}@host",
    ],
)
def test_no_password_is_in_an_error_about_a_malformed_url(url: str) -> None:
    queue: Any = None
    try:
        queue = SafeRedisQueue(url=url)
        queue.get(-1)
    except Exception as error:
        no_secret_in(error)
    no_secret_in(repr(queue))


def test_no_password_is_in_an_error_about_the_arguments() -> None:
    with pytest.raises(TypeError) as caught:
        SafeRedisQueue("localhost", 6379, 0, SECRET, client=redis.Redis())
    no_secret_in(caught.value)
    with pytest.raises(TypeError) as caught:
        SafeRedisQueue(client=redis.Redis(), password=SECRET)
    no_secret_in(caught.value)
    with pytest.raises(TypeError) as caught:
        SafeRedisQueue(pass_word=SECRET)
    no_secret_in(caught.value)
    with pytest.warns(UserWarning, match="positional") as warned:
        SafeRedisQueue("localhost", 6379, 0, SECRET, url="redis://localhost")
    no_secret_in(*(each.message for each in warned))


def test_a_password_is_sent_and_not_told_when_the_connection_is_lost(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with own_server.client() as plain:
        plain.execute_command("ACL", "SETUSER", "me", "on", f">{SECRET}", "~*", "+@all")
    queue = SafeRedisQueue(url=f"unix://me:{SECRET}@{own_server.socket}", name="test")
    caplog.set_level(logging.DEBUG)
    with queues(queue):
        queue.put("a")
        own_server.kill()
        with pytest.raises(redis.ConnectionError) as caught:
            queue.get(0.5)
        assert "trying again" in caplog.text
        assert "the server answers again" not in caplog.text
        no_secret_in(caplog.text, caught.value)


def test_that_an_outage_is_over_is_told_too(
    face: Face, own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    queue = face.queue(url=own_server.url, name="test")
    queue.put("a", uid="a")
    own_server.kill()
    starting = threading.Timer(0.5, own_server.start)
    starting.start()
    assert queue.get(60).uid == "a"
    starting.join()
    assert "trying again" in caplog.text
    assert caplog.text.count("the server answers again") == 1


def test_a_wrong_password_is_told_at_once_and_not_shown(
    server: Server, client: redis.Redis, caplog: pytest.LogCaptureFixture
) -> None:
    queue = SafeRedisQueue(url=f"unix://nobody:{SECRET}@{server.socket}", name="test")
    caplog.set_level(logging.DEBUG)
    for use in (queue.get, lambda: queue.put("a"), lambda: queue.ack("a"), queue.stats):
        with pytest.raises(redis.AuthenticationError) as caught:
            use()
        no_secret_in(caught.value, caplog.text)


# -- threads, forks --------------------------------------------------------------------------------


def test_sixteen_threads_put_and_get_and_each_item_is_got_once(make: Make) -> None:
    queue = make()
    start = threading.Barrier(16)

    def work(thread: int) -> list[bytes]:
        start.wait()
        got = []
        for n in range(40):
            queue.put(f"{thread} {n}")
            item = queue.get(60)
            assert queue.ack(item.uid) is True
            got.append(item.payload)
        return got

    with ThreadPoolExecutor(16) as pool:
        got = Counter(payload for each in pool.map(work, range(16)) for payload in each)
    assert got == Counter(f"{t} {n}".encode() for t in range(16) for n in range(40))
    assert queue.stats().total == 0


def test_threads_that_wait_get_an_item_each(make: Make, client: redis.Redis) -> None:
    queue = make()
    with ThreadPoolExecutor(8) as pool:
        waiting = [pool.submit(queue.get, 60) for _ in range(8)]
        wait_for_blocked(client, 8)
        uids = queue.put_many(str(n) for n in range(8))
        assert {each.result().uid for each in waiting} == set(uids)
    check_places(client)


def test_connections_and_keys_are_as_many_as_threads_however_many_calls(
    make: Make, client: redis.Redis
) -> None:
    """A thread has three connections at most: a limit of time has one of its own."""
    queue, threads = make(), 8
    before = client.info("stats")["total_connections_received"]

    def work(_: int) -> None:
        for n in range(50):
            queue.put(f"{n}")
            queue.ack(queue.get(60).uid)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    assert client.info("stats")["total_connections_received"] - before <= 3 * threads
    assert len(client.keys("srq:test:last:*")) <= threads


FORK = """
import os, sys
from saferedisqueue import SafeRedisQueue
queue = SafeRedisQueue(url=sys.argv[1], name="test", decode_responses=True)
queue.put("first")                      # so that there is a connection, and a slot
queue.ack(queue.get().uid)
out, inn = os.pipe()
child = os.fork()
who = "parent" if child else "child"
got = []
for n in range(200):
    uid = queue.put(f"{who} {n}")
    assert len(uid) == 36
    item = queue.get(60)
    assert queue.ack(item.uid) is True
    got.append(item.payload)
if not child:
    os.write(inn, "\\n".join(got).encode())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
os.close(inn)
with os.fdopen(out) as pipe:
    got += pipe.read().split("\\n")
assert sorted(got) == sorted(f"{w} {n}" for w in ("parent", "child") for n in range(200)), got
assert queue.get(-1) == (None, None)
queue.close()
"""


def test_parent_and_child_use_one_queue_object_at_the_same_time(
    server: Server, client: redis.Redis
) -> None:
    run_alone(FORK, server)


def test_a_child_that_closes_the_queue_leaves_the_parent_s_connections_alone(
    server: Server, client: redis.Redis
) -> None:
    code = """if 1:
        import os, sys
        import redis
        from saferedisqueue import SafeRedisQueue
        class Counting(redis.UnixDomainSocketConnection):
            made = 0
            def connect(self):
                Counting.made += 1
                return super().connect()
        pool = redis.ConnectionPool(connection_class=Counting, path=sys.argv[1].partition("://")[2])
        queue = SafeRedisQueue(client=redis.Redis(connection_pool=pool), name="test")
        queue.put("a")
        child = os.fork()
        if not child:
            queue.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        queue.put("b")
        assert Counting.made == 1, Counting.made
        """
    run_alone(code, server)


def test_a_child_closes_the_queue_whatever_another_thread_was_doing_with_it(
    server: Server, client: redis.Redis
) -> None:
    """A lock that was held at the fork is held in the child for ever."""
    code = """if 1:
        import os, signal, sys, threading, warnings
        from saferedisqueue import SafeRedisQueue
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork beside threads
        queue = SafeRedisQueue(url=sys.argv[1], name="test")
        queue.put("a")
        (pool,) = queue._pools.values()
        held, over = threading.Event(), threading.Event()
        def hold():
            with pool._lock:
                held.set()
                over.wait()
        threading.Thread(target=hold).start()
        held.wait()
        child = os.fork()
        if not child:
            signal.alarm(30)
            queue.close()
            assert queue.put("b")
            queue.close()
            os._exit(0)
        over.set()
        assert os.waitpid(child, 0)[1] == 0
        assert queue.stats().total == 2
        """
    run_alone(code, server)


# -- lost replies ----------------------------------------------------------------------------------

CUTS = [(k, lost_reply) for k in range(4) for lost_reply in (False, True)]
ERRORS: list[Callable[[], BaseException]] = [
    lambda: redis.ConnectionError("the test cut the connection"),
    lambda: redis.TimeoutError("the test let it time out"),
]


@pytest.fixture(params=CUTS, ids=lambda cut: f"{cut[0]}-{'reply' if cut[1] else 'command'}")
def cut(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=ERRORS, ids=["lost", "timeout"])
def failing(request: pytest.FixtureRequest, make: Make, cut: Any) -> Iterator[Any]:
    """A queue to be told `fail()`, which then fails once, at the command that cut tells."""
    policy = redis.retry.Retry(redis.backoff.NoBackoff(), 3)
    queue: Any = make(Failing, retry=policy, wait_slice=0.02)
    k, lost_reply = cut
    queue.fail_now = lambda: queue.fail_at(k, lost_reply=lost_reply, error=request.param)
    return queue


def test_one_put_is_one_item_whatever_is_lost(failing: Any, client: redis.Redis) -> None:
    client.script_flush()
    failing.fail_now()
    uid = failing.put("a")
    assert snapshot(client) == {"items": {uid: "a"}, "queue": [uid]}


def test_put_many_puts_each_item_once_in_order_whatever_is_lost(
    failing: Any, client: redis.Redis
) -> None:
    failing.fail_now()
    uids = failing.put_many(str(n) for n in range(1200))
    assert snapshot(client)["queue"] == uids[::-1]
    assert len(snapshot(client)["items"]) == 1200


def test_one_get_is_one_delivery_whatever_is_lost(failing: Any, client: redis.Redis) -> None:
    uids = failing.put_many([*"abc"])
    client.script_flush()
    failing.fail_now()
    item = failing.get(30)
    assert (item.uid, item.attempts) == (uids[0], 1)
    assert snapshot(client)["ackbuf"] == [uids[0]]
    assert failing.ack(item.uid) is True


class LostAndRefused(SafeRedisQueue[bytes]):
    """What it sends first is carried out, and the reply lost; then the server refuses it once."""

    sent = 0

    def _exchange(self, call: Any, slot: Any) -> Any:
        self.sent += 1
        if self.sent == 2:
            raise redis.ReadOnlyError("READONLY it is a replica now")
        reply = super()._exchange(call, slot)
        if self.sent == 1:
            raise redis.ConnectionError("the connection was lost")
        return reply


def test_a_get_that_was_lost_and_then_refused_takes_nothing(
    make: Make, client: redis.Redis
) -> None:
    queue = make()
    uid = queue.put("a")
    assert queue.fail(queue.get(-1).uid)  # the server knows the script
    with pytest.raises(redis.ReadOnlyError):
        make(LostAndRefused).get(-1)
    assert queue.stats()[:4] == (1, 0, 0, 0)
    assert queue.get(-1) == (uid, b"a")


def test_a_get_that_waits_gets_its_item_whatever_is_lost(
    make: Make, failing: Any, client: redis.Redis
) -> None:
    failing.fail_now()
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(failing.get, 60)
        eventually(lambda: failing.commands > 0)
        uid = make().put("a")
        item = waiting.result()
    assert (item.uid, item.attempts) == (uid, 1)
    check_places(client)
    assert failing.ack(item.uid) is True


@pytest.mark.parametrize("move", ["ack", "fail"])
def test_settling_is_done_once_and_truly_reported_whatever_is_lost(
    failing: Any, client: redis.Redis, move: str
) -> None:
    uids = failing.put_many([*"ab"])
    item = failing.get()
    client.script_flush()
    failing.fail_now()
    settle = getattr(failing, move)
    assert settle(item.uid) is True
    assert settle(item.uid) is False
    if move == "ack":
        assert list(snapshot(client)["items"]) == [uids[1]]
    else:
        assert snapshot(client)["queue"] == uids


def test_purge_is_done_once_and_truly_reported_whatever_is_lost(
    failing: Any, client: redis.Redis
) -> None:
    failing.put_many([*"abc"])
    failing.get()
    client.script_flush()
    failing.fail_now()
    assert failing.purge() == 3
    assert failing.purge() == 0


@pytest.mark.parametrize("lost_reply", [True, False])
def test_a_loss_while_an_undecodable_item_is_put_aside_does_not_end_the_loop(
    make: Make, client: redis.Redis, lost_reply: bool
) -> None:
    policy = redis.retry.Retry(redis.backoff.NoBackoff(), 0)
    queue: Any = make(Failing, retry=policy, decode_responses=True, max_attempts=1)
    bad, good = queue.put_many([b"\xff", b"good"])
    queue.fail_at(1, lost_reply=lost_reply, error=ERRORS[1])
    item = queue.get(30)
    assert item == (good, "good")
    assert queue.ack(item.uid)
    assert drain(queue, client) == []
    assert snapshot(client)["dead"].keys() == {bad}


def test_a_call_that_was_given_up_does_not_lend_its_number(make: Make, client: redis.Redis) -> None:
    """The command of a call that raised may still come, and must not be taken for another."""
    queue: Any = make(Failing, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))
    queue.put("a")
    queue.fail_at(0, lost_reply=True, error=ERRORS[1])
    with pytest.raises(redis.TimeoutError):
        queue.put("b")
    uid = queue.put("c")
    assert uid in snapshot(client)["items"]
    assert len(drain(queue, client)) == 3


# -- connections that are lost ---------------------------------------------------------------------


def test_idle_connections_that_the_server_closed_are_not_noticed(
    make: Make, client: redis.Redis
) -> None:
    queue = make(retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0))
    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(queue.get, 60) for _ in range(4)]
        wait_for_blocked(client, 4)
        queue.put_many([*"abcd"])
        got = [each.result() for each in waiting]
    for use in (lambda: queue.put("e"), lambda: queue.fail(got[0].uid), lambda: queue.get(-1)):
        client.client_kill_filter(_type="normal", skipme=True)
        assert use()
    assert queue.stats().total == 5


def test_a_get_that_is_interrupted_leaves_no_reply_behind_and_keeps_nothing(
    make: Make, client: redis.Redis
) -> None:
    queue = make()

    class Interrupted(BaseException):
        pass

    def interrupt(*args: Any) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        for n in range(5):
            with ThreadPoolExecutor() as pool:
                killer = pool.submit(kill_when_blocked, client)
                with pytest.raises(Interrupted):
                    queue.get(60)
                killer.result()
            # The server may not know yet that nobody waits.
            uid = queue.put(str(n))
            assert len(uid) == 36
            assert queue.stats()[:5] == (1, 0, 0, 0, 1)
            item = queue.get(-1)
            assert (item, item.attempts) == ((uid, str(n).encode()), 1)
            assert queue.ack(uid) is True
            check_places(client)
    finally:
        signal.signal(signal.SIGUSR1, before)


def kill_when_blocked(client: redis.Redis) -> None:
    wait_for_blocked(client)
    os.kill(os.getpid(), signal.SIGUSR1)


def test_an_interrupted_call_of_any_kind_leaves_no_reply_behind(
    make: Make, client: redis.Redis
) -> None:
    """Between sending and reading, where a reply is certain to come."""

    class Cut(redis.UnixDomainSocketConnection):
        cut = False

        def read_response(self, *args: Any, **kw: Any) -> Any:
            if Cut.cut:
                Cut.cut = False
                raise KeyboardInterrupt
            return super().read_response(*args, **kw)

    path = client.connection_pool.connection_kwargs["path"]
    pool = redis.ConnectionPool(connection_class=Cut, path=path)
    queue = make(client=redis.Redis(connection_pool=pool))
    uid = queue.put("a")
    for use in (lambda: queue.put("b"), lambda: queue.ack("x"), queue.stats, lambda: queue.get(9)):
        Cut.cut = True
        with pytest.raises(KeyboardInterrupt):
            use()
        assert queue.stats().total in (1, 2)
        assert queue.fail("nobody") is False
    assert uid in drain(queue, client)


def test_an_error_reply_keeps_the_connection(make: Make, client: redis.Redis) -> None:
    queue = make()
    queue.put("a")
    client.set("srq:broken:items", "a string")
    connected = client.info("stats")["total_connections_received"]
    broken = make(name="broken")
    for _ in range(5):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            broken.put("a")
    assert client.info("stats")["total_connections_received"] == connected + 1


@pytest.mark.parametrize("use", ["put", "put_many", "get", "ack", "fail", "stats", "purge"])
def test_scripts_the_server_forgot_are_sent_again(
    make: Make, client: redis.Redis, use: str
) -> None:
    queue = make()
    queue.put("a")
    client.script_flush()
    client.config_resetstat()
    args = {"put": ("b",), "put_many": (["b", "c"],), "get": (-1,), "ack": ("x",), "fail": ("x",)}
    getattr(queue, use)(*args.get(use, ()))
    assert client.info("commandstats")["cmdstat_eval"]["calls"] == 1


def test_a_read_only_server_is_waited_out_by_get_alone(
    own_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    queue = SafeRedisQueue(url=own_server.url, name="test")
    with own_server.client() as client, queues(queue), ThreadPoolExecutor() as pool:
        queue.put("a")
        client.replicaof("127.0.0.1", free_port())
        for use in (lambda: queue.put("b"), lambda: queue.ack("b"), lambda: queue.fail("b")):
            with pytest.raises(redis.ResponseError, match="read only replica"):
                use()
        waiting = pool.submit(queue.get, 60)
        eventually(lambda: "read only" in caplog.text or waiting.done())
        client.replicaof("NO", "ONE")
        assert waiting.result().payload == b"a"


def test_a_get_that_waits_outlasts_a_fail_over(own_server: Server) -> None:
    queue = SafeRedisQueue(url=own_server.url, name="test", wait_slice=30)
    with own_server.client() as client, queues(queue), ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.get, 60)
        wait_for_blocked(client)
        client.replicaof("127.0.0.1", free_port())
        wait_for_blocked(client, 0)
        client.replicaof("NO", "ONE")
        uid = queue.put("a")
        assert waiting.result() == (uid, b"a")


def test_a_get_that_waits_survives_a_restart_of_the_server(own_server: Server) -> None:
    """With the client's defaults: no setting is given."""
    queue = SafeRedisQueue(url=own_server.url, name="test")
    with queues(queue), ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.get, 60)
        with own_server.client() as client:
            wait_for_blocked(client)
        own_server.kill()
        own_server.start()
        with own_server.client() as client:
            wait_for_blocked(client)
        uid = queue.put("a")
        assert waiting.result() == (uid, b"a")


def test_an_old_style_consumer_loop_survives_restarts_of_the_server(own_server: Server) -> None:
    consumer = SafeRedisQueue(url=own_server.url, name="test")
    producer = SafeRedisQueue(url=own_server.url, name="test")
    done: list[bytes] = []

    def loop() -> None:
        while b"stop" not in done:
            uid, item = consumer.get()
            consumer.ack(uid)
            done.append(item)

    with queues(consumer, producer), ThreadPoolExecutor() as pool:
        looping = pool.submit(loop)
        for n in range(3):
            producer.put(str(n))
            eventually(lambda n=n: str(n).encode() in done or looping.done())
            with own_server.client() as client:
                wait_for_blocked(client)
            own_server.kill()
            own_server.start()
        producer.put("stop")
        looping.result()
    assert done == [b"0", b"1", b"2", b"stop"]


class Slices(SafeRedisQueue[bytes]):
    """Notes how each wait ended that it left to the server."""

    def __init__(self, **kw: Any) -> None:
        super().__init__(**kw)
        self.ends: list[str] = []

    def _exchange(self, call: Any, slot: Any) -> Any:
        if command_of(call) != "BLMOVE":
            return super()._exchange(call, slot)
        try:
            reply = super()._exchange(call, slot)
        except BaseException as error:
            self.ends.append(repr(error))
            raise
        self.ends.append("over" if reply[0] is None else "woken")
        return reply


@pytest.mark.parametrize("socket_timeout", [0.05, None])
def test_a_get_waits_longer_than_the_socket_timeout(
    make: Make, client: redis.Redis, socket_timeout: float | None
) -> None:
    """redis-py 8 has one of 5 seconds by default."""
    queue: Any = make(Slices, socket_timeout=socket_timeout, wait_slice=0.2)
    before = client.info("stats")["total_connections_received"]
    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(queue.get, 60)
        eventually(lambda: len(queue.ends) >= 3)
        connections = client.info("stats")["total_connections_received"] - before
        uid = make().put("a")
        assert waiting.result().uid == uid
    assert set(queue.ends[:-1]) == {"over"}, "slices were cut short and sent again"
    assert connections <= 2


def test_get_comes_back_when_its_timeout_is_over_and_not_before(make: Make) -> None:
    queue = make(wait_slice=0.05)
    for timeout in (0.2, 0.01, 0.005):
        start = time.monotonic()
        assert queue.get(timeout) == (None, None)
        assert time.monotonic() - start >= timeout


@pytest.mark.parametrize("timeout", [1e7, 9e9, None, 0])
def test_a_very_long_timeout_is_a_timeout(make: Make, timeout: float | None) -> None:
    queue = make()
    uid = queue.put("a")
    assert queue.get(timeout).uid == uid


# -- get keeps its timeout -------------------------------------------------------------------------


def time_out(queue: Any, timeout: float) -> None:
    """A get that has to end in an error, within a second after its timeout."""
    outage = pytest.raises((redis.ConnectionError, redis.TimeoutError))
    with within(max(timeout, 0) + 1), outage:
        queue.get(timeout)


@pytest.mark.parametrize("timeout", [-1, 0.3])
def test_get_keeps_its_timeout_when_nobody_listens(timeout: float) -> None:
    time_out(SafeRedisQueue(url=f"redis://127.0.0.1:{free_port()}"), timeout)


def test_get_keeps_its_timeout_when_the_server_is_killed_meanwhile(own_server: Server) -> None:
    with Failing(url=own_server.url, name="test") as queue:
        assert queue.empty()
        queue.before_wait = own_server.kill
        time_out(queue, 1)
        assert queue.before_wait is None


@pytest.mark.parametrize("timeout", [-1, 0.5])
def test_get_keeps_its_timeout_when_a_listener_says_nothing(timeout: float) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        queue = SafeRedisQueue(url=f"redis://127.0.0.1:{listener.getsockname()[1]}")
        with queues(queue):
            time_out(queue, timeout)


@pytest.mark.parametrize("when", ["before", "while it waits"])
def test_get_keeps_its_timeout_when_the_server_stops_answering(
    own_server: Server, when: str
) -> None:
    with Failing(url=own_server.url, name="test", socket_timeout=4) as queue:
        # On a connection with the caller's time-out, which a get may use too.
        assert queue.empty()
        if when == "before":
            hang(own_server)
        else:
            queue.before_wait = partial(hang, own_server)
        try:
            time_out(queue, 1)
            assert queue.before_wait is None
        finally:
            go_on(own_server)


def test_a_half_dead_connection_is_given_up_long_before_the_timeout(
    server: Server, client: redis.Redis
) -> None:
    with Proxy(server) as proxy:
        queue = SafeRedisQueue(url=proxy.url, name="test", wait_slice=0.05)
        with queues(queue), ThreadPoolExecutor() as pool:
            waiting = pool.submit(queue.get, 40)
            wait_for_blocked(client)
            proxy.go_silent()
            wait_for_blocked(client, 0)
            seed(client, items={"a": "A"}, queue=["a"])
            with within(6):  # 5 more than the slice, and a new connection
                assert waiting.result() == ("a", b"A")


def test_get_keeps_its_timeout_when_each_step_of_connecting_is_slow(
    server: Server, client: redis.Redis
) -> None:
    with Proxy(server) as proxy:
        proxy.delay = 0.6
        queue = SafeRedisQueue(
            url=f"{proxy.url}/1", name="test", username="default", password="any"
        )
        with queues(queue), within(1.1), contextlib.suppress(redis.RedisError):
            queue.get(0.1)


def test_numbered_calls_are_safe_where_replies_come_late(
    server: Server, client: redis.Redis
) -> None:
    """Each command is sent again and again while the server works on it."""
    with Proxy(server) as proxy:
        queue = SafeRedisQueue(
            url=proxy.url,
            name="test",
            socket_timeout=0.1,
            retry=redis.retry.Retry(redis.backoff.ConstantBackoff(0.01), 5),
        )
        with queues(queue):
            call(queue, STATS)

            def slow(use: Callable[[], Any]) -> Any:
                proxy.delay = 0.15
                threading.Timer(0.3, lambda: setattr(proxy, "delay", 0.0)).start()
                return use()

            uid = slow(lambda: queue.put("a"))
            assert snapshot(client)["queue"] == [uid]
            item = slow(lambda: queue.get(30))
            assert (item.uid, item.attempts) == (uid, 1)
            assert slow(lambda: queue.ack(item.uid)) is True
            assert queue.ack(item.uid) is False


@pytest.mark.parametrize("use", ["consume", "processing"])
def test_what_ends_a_block_is_not_replaced_by_an_outage(
    own_server: Server, face: Face, use: str
) -> None:
    queue = face.queue(url=own_server.url, name="test", retry=None)
    queue.put("a")

    def work() -> None:
        with getattr(queue, use)() as items:
            if use == "consume":
                next(items)
            own_server.kill()
            raise SystemExit

    with pytest.raises(SystemExit):
        work()
