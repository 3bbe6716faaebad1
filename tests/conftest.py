"""Fixtures: a private server for the session, client settings, faces, and queues on them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import redis

import saferedisqueue
import servers
from helpers import FACES, SETTINGS, Face, Make


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--servers",
        choices=("first", "all"),
        default="first",
        help="all: the contract on every server, with every protocol and decoding",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    everything = metafunc.config.getoption("--servers") == "all"
    if "server" in metafunc.fixturenames:
        labels = servers.ALL if everything else (None,)
        metafunc.parametrize("server", labels, indirect=True, scope="session")
    if "settings" in metafunc.fixturenames:
        names = list(SETTINGS) if everything else ["default", "decode"]
        metafunc.parametrize("settings", names, indirect=True)
    if "face" in metafunc.fixturenames:
        metafunc.parametrize("face", list(FACES), indirect=True)


@pytest.fixture(scope="session")
def server(request: pytest.FixtureRequest) -> Iterator[servers.Server]:
    """The server that the tests of a session share."""
    with servers.Server(servers.find(request.param)) as running:
        yield running


@pytest.fixture
def own_server() -> Iterator[servers.Server]:
    """A server of the test's own, to be killed; its data outlives that."""
    with servers.Server(servers.find(), None, "--appendonly", "yes") as running:
        yield running


@pytest.fixture
def client(server: servers.Server) -> Iterator[redis.Redis]:
    """A plain client of the server, which is empty."""
    with server.client() as plain:
        plain.flushall()
        yield plain


@pytest.fixture
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SETTINGS[request.param]


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
def queue(face: Face, server: servers.Server, client: redis.Redis, settings: dict[str, Any]) -> Any:
    return face.queue(url=server.url, name="test", **settings)
