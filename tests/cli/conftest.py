"""Fixtures: the command line on an empty server, and the queue that it uses."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import redis

import servers
from command_line import CommandLine, Queue
from helpers import Make


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Processes inherit an ignored SIGINT, which is what a shell gives those in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def cli(server: servers.Server, client: redis.Redis) -> CommandLine:
    """The command line, on the empty server."""
    return CommandLine(server.url)


@pytest.fixture
def queue(make: Make) -> Queue:
    """The queue that the command line uses unless a name is given."""
    return make()
