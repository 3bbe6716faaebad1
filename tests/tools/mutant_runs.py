"""Runs tests on copies of the checkout, each with one mutant, and tells how it ended.

A run is a child forked from a process that has imported pytest and redis but nothing of this
project. What it starts, it and its children, ends with it.
"""

from __future__ import annotations

import asyncio  # noqa: F401 -- imported once, for all children
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn

import pytest
import redis.asyncio  # noqa: F401 -- likewise

from mutant_rules import Mutant

# Bounds for what has run wild. A machine may be ten times as slow as when the tests were measured.
SLOWER = 10
TEST_SECONDS = 15  # of a test, at least
RUN_SECONDS = 60
CPU_SECONDS = 300  # of any process
MEMORY = 8 << 30
FILE_SIZE = 1 << 30

MARK = "SRQ_MUTANT"  # in the environment of all that a run starts


class Verdict(NamedTuple):
    """How a run ended.

    how: "caught", "survived", "hung" (caught too, by a time-out), "no program" if no test could be
    run, "no test" if there is none to run.
    why: the test that failed, or what was said.
    cpu, seconds: what the run took.
    """

    how: str
    why: str = ""
    cpu: float = 0
    seconds: float = 0
    tests: int = 0


class Copy:
    """A copy of the checkout, in a directory of its own, with a home and a place for files."""

    def __init__(self, root: Path, directory: Path) -> None:
        self.directory, self.root = directory, directory / "c"
        shutil.copytree(root, self.root, ignore=_not_of_the_program)
        self.ticks = 1_000_000_000  # of 2001: no file that was written otherwise has such a time
        self.clear()

    @property
    def environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(self.root), MARK: str(self.directory)}
        own["TMPDIR"] = own["HOME"] = str(self.directory / "t")
        for name, value in os.environ.items():
            if not name.startswith(("COV", "PYTEST_", "XDG_", "PYTHON")):
                own.setdefault(name, value)
        own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        return own

    def write(self, file: str, source: bytes) -> None:
        """With another time each time: by it Python knows whether its compiled file is old."""
        (self.root / file).write_bytes(source)
        self.ticks += 1
        os.utime(self.root / file, (self.ticks, self.ticks))

    def clear(self) -> None:
        """End what was left behind, and remove its files."""
        for pid in _marked(f"{MARK}={self.directory}"):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it went by itself
        shutil.rmtree(self.directory / "t", ignore_errors=True)
        (self.directory / "t").mkdir(exist_ok=True)


def _not_of_the_program(directory: str, names: list[str]) -> list[str]:
    """What is hidden, built or installed."""
    of_python = ("__pycache__", "build", "dist")
    return [
        name
        for name in names
        if name.startswith(".") or name in of_python or Path(directory, name, "pyvenv.cfg").exists()
    ]


def _marked(mark: str) -> Iterator[int]:
    """The processes that have this in their environment; on Linux only."""
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark.encode() in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)
        except OSError:
            pass  # gone, or somebody else's


class _Notes:
    """Notes the test that failed first, the one that was begun last, and how many passed."""

    def __init__(self) -> None:
        self.failed, self.passed, self.timed_out, self.begun = "", 0, False, ""

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.begun = nodeid

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed
        if report.failed and not self.failed:
            self.failed = report.nodeid
            self.timed_out = "Failed: Timeout" in str(report.longrepr)


class Run:
    """A run under way."""

    def __init__(
        self,
        copy: Copy,
        mutant: Mutant | None,
        source: bytes,
        tests: Sequence[str],
        seconds: Sequence[float],
    ) -> None:
        self.copy, self.mutant, self.source, self.tests = copy, mutant, source, tests
        longest, all_of_them = max(seconds, default=0), sum(seconds)
        if mutant is not None:
            copy.write(mutant.file, mutant.apply(source))
        self.begun = time.monotonic()
        self.deadline = self.begun + RUN_SECONDS + SLOWER * all_of_them
        limit = max(TEST_SECONDS, SLOWER * longest)
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _run(copy, [*tests, "-o", f"timeout={limit:.0f}"])

    def verdict(self) -> Verdict | None:
        """None while it goes on."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        late = pid == 0 and time.monotonic() > self.deadline
        if late:
            os.killpg(self.pid, signal.SIGKILL)
            _, status, usage = os.wait4(self.pid, 0)
        elif pid == 0:
            return None
        seconds = time.monotonic() - self.begun
        try:
            notes = json.loads((self.copy.directory / "t" / "notes").read_text())
        except (FileNotFoundError, ValueError):
            notes = {}
        said = (self.copy.directory / "said").read_text(errors="replace")
        self._clean_up()
        code = os.waitstatus_to_exitcode(status)
        cpu = usage.ru_utime + usage.ru_stime
        failed, passed = notes.get("failed", ""), notes.get("passed", 0)
        if late or notes.get("timed_out"):
            how, why = "hung", failed or "killed at the end of its time"
        elif code == 0:
            how, why = "survived" if passed else "no test", ""
        elif code == 1 or code < 0 or notes.get("begun"):
            how, why = "caught", failed or f"{notes.get('begun')} ended it all ({code})"
        else:
            how, why = "no program", said.strip()[-2000:]
        return Verdict(how, why, cpu, seconds, passed)

    def _clean_up(self) -> None:
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it left nobody behind
        self.copy.clear()
        if self.mutant is not None:
            self.copy.write(self.mutant.file, self.source)

    def stop(self) -> None:
        os.killpg(self.pid, signal.SIGKILL)
        os.wait4(self.pid, 0)
        self._clean_up()


def _run(copy: Copy, arguments: Sequence[str]) -> NoReturn:
    """In the child: become another program, as far as that goes without starting one."""
    code = 70
    notes = _Notes()
    try:
        os.setsid()
        said = os.open(copy.directory / "said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (said, 1), (said, 2)):
            os.dup2(source, target)
        for what, most in (
            (resource.RLIMIT_CPU, CPU_SECONDS),
            (resource.RLIMIT_AS, MEMORY),
            (resource.RLIMIT_FSIZE, FILE_SIZE),
        ):
            resource.setrlimit(what, (most, most))
        os.chdir(copy.root)
        os.environ.clear()
        os.environ.update(copy.environment)
        tools = str(Path(__file__).parent)
        sys.path[:] = [str(copy.root), *(path for path in sys.path if path not in (tools, ""))]
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sys.argv = ["pytest"]
        options = ["-x", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
        code = int(pytest.main([*options, *arguments], plugins=[notes]))
    finally:
        try:
            Path(copy.directory, "t", "notes").write_text(json.dumps(vars(notes)))
        finally:
            os._exit(code)


def run_all(
    copies: Sequence[Copy],
    todo: Sequence[tuple[Mutant | None, bytes, Sequence[str], Sequence[float]]],
) -> Iterator[tuple[int, Verdict]]:
    """Try each mutant with its tests, one on each copy at a time; which of them ended, and how."""
    waiting = list(enumerate(todo))[::-1]
    free = list(copies)
    running: dict[int, Run] = {}
    try:
        while waiting or running:
            while waiting and free:
                number, (mutant, source, tests, seconds) = waiting.pop()
                if not tests:
                    yield number, Verdict("no test")
                    continue
                running[number] = Run(free.pop(), mutant, source, tests, seconds)
            for number, run in list(running.items()):
                verdict = run.verdict()
                if verdict is not None:
                    free.append(run.copy)
                    del running[number]
                    yield number, verdict
            time.sleep(0.02)
    finally:
        for run in running.values():
            run.stop()
