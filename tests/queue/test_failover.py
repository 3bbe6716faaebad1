"""Failover: a replica that was behind takes over, and no durable put that returned is lost."""

from __future__ import annotations

import os
import random
import time
from typing import Any

import pytest

import servers
from helpers import FACES, eventually
from producers import Producers, consumed
from topologies import Relay, Replicated, ask, go_on, hang, is_linked


class Behind(Replicated):
    """The replica hangs on a line that may lose what is sent; the primary does not see that."""

    def _start(self) -> None:
        super()._start()
        self.line = self._stack.enter_context(Relay(self.primary))
        ask(self.replica, "REPLICAOF", "127.0.0.1", self.line.port)
        eventually(lambda: is_linked(self.replica))

    def hang_for(self, seconds: float) -> None:
        hang(self.replica)
        time.sleep(seconds)
        go_on(self.replica)

    def lose_for(self, seconds: float) -> None:
        self.line.go_silent()
        time.sleep(seconds)
        ask(self.primary, "CLIENT", "KILL", "TYPE", "replica")
        eventually(lambda: is_linked(self.replica))

    def fail_over(self) -> None:
        """The primary dies; the replica, as far as it came, takes over under its address."""
        self.primary.kill()
        ask(self.replica, "REPLICAOF", "NO", "ONE")
        os.replace(self.replica.socket, self.primary.socket)


@pytest.mark.parametrize(
    ("label", "durable"),
    [("valkey-9.1", 1), ("redis-8.2", 1), ("redis-6.2", 1), ("valkey-9.1", None)],
)
def test_only_durable_puts_survive_the_failover_to_a_replica_that_was_behind(
    label: str, durable: int | None
) -> None:
    with Behind(servers.find(label)) as pair:
        settings: Any = {"url": pair.primary.url, "name": "test"}
        with Producers(**settings, durable=durable, durable_timeout=0.1) as producers:
            for interrupt in (pair.hang_for, pair.lose_for) * 2:
                producers.wait_for(random.randint(1, 30))
                interrupt(random.random() / 4)
            producers.wait_for(10)
            pair.line.go_silent()
            if durable:
                producers.wait_for_refusals(10)  # repeated, each over a connection of its own
            else:
                producers.wait_for(20)
            pair.fail_over()
            if durable:
                producers.wait_for_refusals(1)  # it has no replica of its own
            else:
                producers.wait_for(1)
        left = consumed(**settings)
        for kind in FACES:
            assert bool(producers.lost(kind, left)) == (not durable)
