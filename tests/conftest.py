"""Fixtures: a private server for the session, client settings, faces, and queues on them."""

from __future__ import annotations

import itertools
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
        choices=("first", "pairs", "all"),
        default="first",
        help="all: the contract on every server, with every protocol and decoding; pairs: a part of"
        " that, in which each two of server, protocol, decoding and face meet",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    everything = metafunc.config.getoption("--servers") != "first"
    if "server" in metafunc.fixturenames:
        labels = servers.ALL if everything else (None,)
        metafunc.parametrize("server", labels, indirect=True, scope="session")
    if "settings" in metafunc.fixturenames:
        names = list(SETTINGS) if everything else ["default", "decode"]
        metafunc.parametrize("settings", names, indirect=True)
    if "face" in metafunc.fixturenames:
        metafunc.parametrize("face", list(FACES), indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--servers") != "pairs":
        return
    rows = [dict(zip(("server", "settings", "face"), row)) for row in pairs()]

    def is_wanted(item: pytest.Item) -> bool:
        given = item.callspec.params if hasattr(item, "callspec") else {}
        return any(all(given.get(name, row[name]) == row[name] for name in row) for row in rows)

    kept = [item for item in items if is_wanted(item)]
    left_out = [item for item in items if not is_wanted(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = kept


def pairs() -> Iterator[tuple[str, str, str]]:
    """Few combinations of server, settings and face: any two values meet in one of them."""

    def met(row: tuple[str, str, str]) -> set[Any]:
        server, name, face = row
        protocol, decode = map(SETTINGS[name].get, ("protocol", "decode_responses"))
        return set(itertools.combinations(enumerate((server, protocol, decode, face)), 2))

    rows = list(itertools.product(servers.ALL, SETTINGS, FACES))
    left = set().union(*map(met, rows))
    while left:
        best = max(rows, key=lambda row: len(met(row) & left))
        yield best
        left -= met(best)


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
