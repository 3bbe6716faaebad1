"""No command holds the server for 10 ms, however much is queued; an item takes little memory."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import redis

import saferedisqueue
import servers
from costs import LIMIT, bytes_per_item, cpu, show_bytes, show_costs, slowest
from saferedisqueue import SafeRedisQueue


@pytest.mark.timeout(600)  # three rounds on a slow machine
def test_no_command_holds_the_server_for_10_ms_with_a_million_items(server: servers.Server) -> None:
    costs = slowest(server)
    show_costs(costs)
    too_slow = {name: cost for name, cost in costs.items() if cost >= LIMIT}
    assert not too_slow


def test_the_largest_payload_by_default_holds_the_server_for_less_than_10_ms(
    server: servers.Server, client: redis.Redis
) -> None:
    def held(use: Callable[[], Any], limit: float = 0) -> float:
        """The ms of processor time that it takes the server, the least of some times.

        Where others use the same caches it takes more: what is too much is measured again.
        """
        took = []
        while len(took) < 5 or (min(took) >= limit > 0 and len(took) < 50):
            before = cpu(server)
            use()
            took.append(cpu(server) - before)
        return min(took)

    largest = bytes(saferedisqueue._MAX_PAYLOAD)
    numbers = itertools.count()
    store = client.register_script("return redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])")
    # Where a script that only stores it takes as long, it is the machine that is slow.
    limit = max(LIMIT, 2 * held(lambda: store(["plain"], [next(numbers), largest])))
    with SafeRedisQueue[bytes](url=server.url, name="test") as queue:
        costs = {
            "put": held(lambda: queue.put(largest), limit),
            "put, later": held(lambda: queue.put(largest, delay=60), limit),
            "get": held(lambda: queue.get(-1)),
        }
        queue.put_many([largest] * 5)
        costs["ack"] = held(lambda: queue.ack(queue.get(-1, lease=60).uid or ""))
        for _ in range(4):
            queue.put_many([largest] * 5)
        queue._house_kept = float("inf")  # on the quick way, which takes many at once
        costs["get many"] = held(lambda: queue.claim(250, -1, 60))
        queue.purge()
    assert {name: cost for name, cost in costs.items() if cost >= limit} == {}


def test_an_item_takes_no_more_memory_than_one_of_3_0_0(server: servers.Server) -> None:
    found = bytes_per_item(server)
    show_bytes(found)
    assert found["queued"] < 1.1 * found["queued by 3.0.0"]
    assert found["in flight with a lease"] < 3 * found["queued"]
    assert found["in flight"] < 3 * found["queued"]
