"""Failover: a replica that was behind takes over, and no durable put that returned is lost."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

import servers
from helpers import FACES
from producers import Producers, consumed
from topologies import Replicated, ask, go_on, hang


def stop(pair: Replicated) -> None:
    hang(pair.replica)


def cut_link(pair: Replicated) -> None:
    """The replica hangs, and what was on its way to it is gone."""
    hang(pair.replica)
    with pair.primary.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "replica")


def fail_over(pair: Replicated) -> None:
    """The primary is dead; the replica, as far as it came, takes over with its address."""
    pair.primary.kill()
    go_on(pair.replica)
    ask(pair.replica, "REPLICAOF", "NO", "ONE")
    os.replace(pair.replica.socket, pair.primary.socket)


@pytest.mark.parametrize(
    ("label", "durable"),
    [("valkey-9.1", 1), ("redis-8.2", 1), ("redis-6.2", 1), ("valkey-9.1", None)],
)
def test_only_durable_puts_survive_the_failover_to_a_replica_that_was_behind(
    label: str, durable: int | None
) -> None:
    with Replicated(servers.find(label)) as pair:
        settings: Any = {"url": pair.primary.url, "name": "test"}
        with Producers(**settings, durable=durable, durable_timeout=0.1) as producers:
            for interrupt in (stop, cut_link, stop, cut_link):
                producers.wait_for(random.randint(1, 30))
                interrupt(pair)
                time.sleep(random.random() / 5)
                go_on(pair.replica)
            producers.wait_for(10)
            cut_link(pair)
            if durable:
                producers.wait_for_refusals(4)  # each over a connection of its own
            else:
                producers.wait_for(20)
            fail_over(pair)
            if durable:
                producers.wait_for_refusals(1)  # it has no replica of its own
            else:
                producers.wait_for(1)
        left = consumed(**settings)
        for kind in FACES:
            assert bool(producers.lost(kind, left)) == (not durable)
