"""Fixtures: a private server for the session, client settings, faces, and queues on them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

import saferedisqueue
import servers
import tls
from combinations import AXES, ROWS, combinations
from helpers import FACES, SETTINGS, Face, Make
from lines import Lines


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--servers",
        choices=tuple(ROWS),
        default="first",
        help="on which servers: the first there is; every one, with any pair of protocol, decoding "
        "and face; all with all",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    names = [name for name in AXES if name in metafunc.fixturenames]
    if names:
        rows = combinations(metafunc.config.getoption("--servers"), names)
        # A server is kept for all tests that want it.
        metafunc.parametrize(names, rows, indirect=True, scope="session")


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """The server that the tests of a session share."""
    with servers.Server(servers.find(request.param)) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[servers.Server]:
    """A server of the test's own, to be killed; its data outlives that."""
    # With everysec a server whose disk is busy answers first, and writes up to two seconds later.
    log = ("--appendonly", "yes", "--appendfsync", "no")
    with servers.Server(servers.find(), None, *log) as running:
        yield running


@pytest.fixture
def lines(server: servers.Server, client: redis.Redis) -> Iterator[Lines]:
    """The connections that others have to the shared server."""
    counted = Lines(server)
    yield counted
    counted.close()


@pytest.fixture
def _left_to_no_other_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """What an ended event loop has left is collected here, and complained of in no later test."""
    yield
    request.node.funcargs.clear()  # which may have the queue, and so what its loops left
    gc.collect()


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA, a server's certificate signed by it, and another CA."""
    folder = tmp_path_factory.mktemp("certificates")
    tls.make_certificates(folder)
    return folder


@pytest.fixture(scope="session")
def over_tls(certificates: Path) -> Iterator[str]:
    """The address of a server that speaks TLS."""
    with tls.serving(certificates) as url:
        yield url


@pytest.fixture
def client(server: servers.Server) -> Iterator[redis.Redis]:
    """A plain client of the server, which is empty."""
    with server.client() as plain:
        plain.flushall()
        yield plain


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of the test's client; for tests in which they may matter."""
    return SETTINGS[request.param]


@pytest.fixture
def settings_if_wanted(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The same in a test that has settings, else none."""
    if "settings" not in request.fixturenames:
        return {}
    wanted: dict[str, Any] = request.getfixturevalue("settings")
    return wanted


@pytest.fixture
def face(request: pytest.FixtureRequest) -> Iterator[Face]:
    with FACES[request.param]() as opened:
        yield opened


@pytest.fixture
def make(server: servers.Server, client: redis.Redis) -> Iterator[Make]:
    """Makes blocking queues on the (empty) server, and closes them."""
    made: list[saferedisqueue.SafeRedisQueue[Any]] = []

    def queue(
        kind: type[saferedisqueue.SafeRedisQueue[Any]] = saferedisqueue.SafeRedisQueue, **kw: Any
    ) -> saferedisqueue.SafeRedisQueue[Any]:
        kw.setdefault("name", "test")
        if "client" not in kw:
            kw.setdefault("url", server.url)
        made.append(kind(**kw))
        return made[-1]

    yield queue
    for each in made:
        each.close()


@pytest.fixture
def payload(settings: dict[str, Any]) -> Any:
    """Of a payload in text, what get returns without a serializer."""
    return (lambda text: text) if settings.get("decode_responses") else str.encode


@pytest.fixture
def many(
    face: Face, server: servers.Server, client: redis.Redis, settings_if_wanted: dict[str, Any]
) -> Callable[..., Any]:
    """Makes queues of the face on the (empty) server, with arguments."""
    always = {"url": server.url, "name": "test", **settings_if_wanted}
    return lambda **kw: face.queue(**{**always, **kw})


@pytest.fixture
def queue(many: Callable[..., Any]) -> Any:
    return many()
