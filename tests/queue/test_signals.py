"""Handlers of signals: what they raise comes out of the call, and leaves no trace in the queue."""

from __future__ import annotations

from pathlib import Path

import redis

import alarms
import servers
from helpers import run_alone
from servers import Server

ALONE = """
import sys
sys.path.append(sys.argv[2])
import alarms
alarms.main(sys.argv[3], sys.argv[4])
"""


def run(name: str, server: Server, url: str = "") -> None:
    """Run what alarms.py has of this name, in a process of its own."""
    run_alone(ALONE, server, str(Path(alarms.__file__).parent), name, url or server.url)


def test_what_a_handler_raises_comes_out_of_a_get_that_waits(
    server: Server, client: redis.Redis
) -> None:
    run("waiting_get", server)


def test_an_item_is_ready_again_at_whatever_moment_a_handler_raises_in_its_get(
    server: Server, client: redis.Redis
) -> None:
    run("gets", server)


def test_an_item_that_comes_as_a_handler_raises_in_a_wait_is_ready_at_once_or_was_returned(
    server: Server, client: redis.Redis
) -> None:
    run("waits", server)


def test_the_same_is_true_over_tls(over_tls: str, certificates: Path) -> None:
    url = f"{over_tls}?ssl_ca_certs={certificates / 'ca.pem'}"
    with servers.Server(servers.find()) as elsewhere:
        run("gets_over_tls", elsewhere, url)


def test_what_a_handler_raises_in_the_serializer_makes_no_dead_letter(
    server: Server, client: redis.Redis
) -> None:
    run("loads", server)


def test_a_put_in_which_a_handler_raises_stores_at_most_one_item(
    server: Server, client: redis.Redis
) -> None:
    run("puts", server)


def test_a_loop_in_which_a_handler_raises_keeps_no_item(
    server: Server, client: redis.Redis
) -> None:
    run("loops", server)


def test_a_handler_that_does_nothing_changes_no_deadline_and_no_reply(
    server: Server, client: redis.Redis
) -> None:
    run("ticking", server)


def test_a_handler_may_use_the_queue_that_it_interrupts(
    server: Server, client: redis.Redis
) -> None:
    run("putting", server)
