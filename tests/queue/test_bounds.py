"""No command holds the server for 10 ms, however much is queued; an item takes little memory."""

from __future__ import annotations

import pytest

import servers
from costs import LIMIT, bytes_per_item, show_bytes, show_costs, slowest


@pytest.mark.timeout(600)  # three rounds on a slow machine
def test_no_command_holds_the_server_for_10_ms_with_a_million_items(server: servers.Server) -> None:
    costs = slowest(server)
    show_costs(costs)
    too_slow = {name: cost for name, cost in costs.items() if cost >= LIMIT}
    assert not too_slow


def test_an_item_takes_no_more_memory_than_one_of_3_0_0(server: servers.Server) -> None:
    found = bytes_per_item(server)
    show_bytes(found)
    assert found["queued"] < 1.1 * found["queued by 3.0.0"]
    assert found["in flight with a lease"] < 3 * found["queued"]
    assert found["in flight"] < 3 * found["queued"]
