"""A short run of random calls of every public method: see machine.py, which also runs for long."""

from __future__ import annotations

import time

import pytest

import saferedisqueue
import servers
from disturbed import DISTURBED
from machine import GRACE, SHORT, Fleet, run


@pytest.mark.timeout(900)  # for the search of the shortest program that fails
@pytest.mark.parametrize("name", DISTURBED)
def test_whatever_is_called_all_is_as_a_user_may_expect(
    name: str, server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saferedisqueue, "_GRACE", GRACE)
    for name_of_uids in ("_new_uid", "_new_uids"):
        monkeypatch.setattr(saferedisqueue, name_of_uids, None)  # put back afterwards
    monkeypatch.setattr(saferedisqueue.log, "disabled", True)
    with servers.Server(server.binary) as own, own.client() as client, DISTURBED[name]() as face:
        fleet, end = Fleet(own, client, face), time.monotonic() + 15
        for batch in range(12):
            if batch == 0 or time.monotonic() < end:  # fewer where the machine is slow
                run(fleet, batch, SHORT)
