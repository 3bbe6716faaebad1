"""A pytest plugin for measuring: tells coverage which test runs, and notes how long it took.

Children that a test starts are measured by coverage's own hook (COVERAGE_PROCESS_START), with the
test's name from pytest's PYTEST_CURRENT_TEST as their context.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from typing import Any

import coverage
import pytest

_running = ""
_scripts: dict[str, set[str]] = {}  # by script, the tests that asked for what it is


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    global _running
    _running = item.nodeid
    measuring = coverage.Coverage.current()
    if measuring is not None:
        measuring.switch_context(item.nodeid)
    return (yield)


def pytest_collection_finish() -> None:
    """Scripts are constants of modules; each use of one asks for its ``sha``."""
    names: dict[int, str] = {}
    kinds: set[Any] = set()
    for module in [m for name, m in sys.modules.items() if name.startswith("saferedis")]:
        for name, value in vars(module).items():
            is_own = type(value).__module__.startswith("saferedis")
            if is_own and isinstance(getattr(value, "sha", None), str):
                names[id(value)] = name
                kinds.add(type(value))
    for kind in kinds:
        _watch(kind, names)


def _watch(kind: Any, names: dict[int, str]) -> None:
    usual = kind.__getattribute__

    def noting(self: Any, attribute: str) -> Any:
        if attribute == "sha" and id(self) in names:
            _scripts.setdefault(names[id(self)], set()).add(_running)
        return usual(self, attribute)

    kind.__getattribute__ = noting


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """In the process that is told by the others: how long each test took, and whether it passed."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        _note({"test": report.nodeid, "seconds": report.duration, "outcome": report.outcome})


def pytest_sessionfinish() -> None:
    for script, tests in _scripts.items():
        _note({"script": script, "tests": sorted(tests)})


def _note(what: dict[str, Any]) -> None:
    with open(os.environ["SRQ_MEASURED"], "a") as notes:
        notes.write(json.dumps(what) + "\n")
