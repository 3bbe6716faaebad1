"""Which tests may notice a mutant: measured once, with coverage's contexts, and put in order.

Coverage does not see Lua: there it is the tests that run the script, or one that the changed piece
is part of.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import coverage

from mutant_rules import Mutant

# Not of use here. Long by design: many crashes, losses or random orders, or whole deployments; and
# what does not run the code: its types, its packaging, its documentation.
LEFT_OUT = {
    "test_asking.py",
    "test_benchmarks.py",
    "test_bounds.py",
    "test_conformance.py",
    "test_failover.py",
    "test_lost_replies.py",
    "test_model.py",
    "test_mutant_rules.py",
    "test_mutants.py",
    "test_packaging.py",
    "test_power.py",
    "test_readme.py",
    "test_shutdown.py",
    "test_signals.py",
    "test_soak.py",
    "test_states.py",
    "test_way_out.py",
}

# In times that a test takes on average, so that a slow machine chooses as a quick one does; there
# it is 0.1 s. What takes longer waits for something that a mutant need not change.
LONGEST = 30  # of a test
BUDGET = 200  # of all the tests of one mutant

# Where Lua is tested most directly, for scripts of which nothing was measured.
LUA_TESTS = (
    "test_scripts.py",
    "test_scripts_calls.py",
    "test_scripts_claim.py",
    "test_scripts_ghosts.py",
    "test_scripts_stopped.py",
    "test_scripts_waiting.py",
    "test_building.py",
    "test_primitive.py",
    "test_recovery.py",
    "test_contract.py",
)

SETTINGS = """
[run]
branch = false
parallel = true
include = {include}
data_file = {data}
context = ${{PYTEST_CURRENT_TEST-}}
sigterm = true
"""


class Measured(NamedTuple):
    """What the tests run. A test is a number: its place in ``tests`` and ``seconds``."""

    sources: dict[str, str]  # a digest of each file, to tell whether it is the same
    tests: list[str]
    seconds: list[float]
    lines: dict[str, dict[str, list[int]]]  # by file and line
    scripts: dict[str, list[int]]
    failed: list[str]

    def save(self, path: Path) -> None:
        path.write_text(json.dumps(self._asdict()))

    @classmethod
    def load(cls, path: Path) -> Measured:
        return cls(**json.loads(path.read_text()))


def digests(root: Path, files: Iterable[str]) -> dict[str, str]:
    """Of these and of the tests."""
    tests = (path.relative_to(root).as_posix() for path in (root / "tests").rglob("*.py"))
    every = sorted({*files, *tests})
    return {file: hashlib.sha256((root / file).read_bytes()).hexdigest() for file in every}


def test_files(root: Path) -> list[str]:
    found = [p for p in (root / "tests").glob("*/test_*.py") if p.name not in LEFT_OUT]
    return sorted(str(path.relative_to(root)) for path in found)


def measure(
    root: Path,
    files: Sequence[str],
    tests: Sequence[str],
    environment: Mapping[str, str],
    jobs: int,
) -> Measured:
    """Run the tests there once; the ``files`` are those of which coverage is wanted."""
    with tempfile.TemporaryDirectory(prefix="srq-") as directory:
        settings, notes = Path(directory, "settings.ini"), Path(directory, "notes")
        include = "".join(f"\n    {root / file}" for file in files)
        data = Path(directory, "coverage")
        settings.write_text(SETTINGS.format(root=root, include=include, data=data))
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
        command += ["-p", "pytest_timeout", "-p", "mutant_plugin"]
        if jobs > 1:
            command += ["-p", "xdist", "-n", str(jobs)]
        measuring = {"COVERAGE_PROCESS_START": str(settings), "SRQ_MEASURED": str(notes)}
        tools = os.pathsep.join([environment["PYTHONPATH"], str(Path(__file__).parent)])
        done = subprocess.run(
            command,
            cwd=root,
            env={**environment, **measuring, "PYTHONPATH": tools},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode not in (0, 1):
            raise SystemExit(f"the tests cannot be run:\n{done.stdout[-4000:]}")
        return _measured(root, files, settings, notes)


def _measured(root: Path, files: Sequence[str], settings: Path, notes: Path) -> Measured:
    seconds: dict[str, float] = {}
    outcomes: dict[str, set[str]] = {}
    scripts: dict[str, set[str]] = {}
    for note in map(json.loads, notes.read_text().splitlines()):
        if "script" in note:
            scripts.setdefault(note["script"], set()).update(note["tests"])
            continue
        seconds[note["test"]] = seconds.get(note["test"], 0) + note["seconds"]
        outcomes.setdefault(note["test"], set()).add(note["outcome"])
    passed = [test for test in seconds if outcomes[test] == {"passed"}]
    longest = LONGEST * _mean([seconds[test] for test in passed])
    of_use = sorted(test for test in passed if seconds[test] <= longest)
    number = {test: n for n, test in enumerate(of_use)}

    # Named, or the file of who measures us would be taken.
    measured = coverage.Coverage(str(settings.with_name("coverage")), config_file=str(settings))
    measured.combine()
    lines: dict[str, dict[str, list[int]]] = {}
    for file in files:
        by_line = measured.get_data().contexts_by_lineno(str(root / file))
        for line, contexts in by_line.items():
            of_line = {re.sub(r" \((?:setup|call|teardown)\)$", "", each) for each in contexts}
            known = sorted(number[test] for test in of_line if test in number)
            lines.setdefault(file, {})[str(line)] = known
    return Measured(
        digests(root, files),
        of_use,
        [round(seconds[test], 3) for test in of_use],
        lines,
        {k: sorted(number[t] for t in v if t in number) for k, v in scripts.items()},
        sorted(test for test in outcomes if "failed" in outcomes[test]),
    )


def _mean(seconds: Sequence[float]) -> float:
    return sum(seconds) / max(len(seconds), 1)


class Chooser:
    """Orders the tests of a mutant: those that look at little else first, and the quick ones."""

    def __init__(self, measured: Measured, scripts_of: Mapping[tuple[str, int], Sequence[str]]):
        self.measured = measured
        self.scripts_of = scripts_of  # by file and line, the scripts that have this line of Lua
        width = [0] * len(measured.tests)
        for by_line in measured.lines.values():
            for tests in by_line.values():
                for test in tests:
                    width[test] += 1
        self.budget = BUDGET * _mean(measured.seconds)
        self.cost = [
            (self.budget / 400 + seconds) * (50 + lines)
            for seconds, lines in zip(measured.seconds, width)
        ]

    def tests(self, mutant: Mutant, source: bytes) -> list[str]:
        """Their ids, as many as the budget allows; none if no test comes near it."""
        if mutant.lua:
            found = self._of_scripts(self.scripts_of.get((mutant.file, mutant.line(source)), ()))
        else:
            found = self._of_lines(mutant)
        chosen, spent = [], 0.0
        for test in self._in_order(found):
            spent += self.measured.seconds[test]
            if spent > self.budget and chosen:
                break
            chosen.append(self.measured.tests[test])
        return chosen

    def one_of_each_file(self) -> list[str]:
        by_file: dict[str, str] = {}
        for test in self._in_order(range(len(self.measured.tests))):
            name = self.measured.tests[test]
            by_file.setdefault(name.partition("::")[0], name)
        return list(by_file.values())

    def seconds(self, tests: Iterable[str]) -> list[float]:
        number = {test: n for n, test in enumerate(self.measured.tests)}
        return [self.measured.seconds[number[test]] for test in tests]

    def _of_lines(self, mutant: Mutant) -> set[int]:
        by_line = self.measured.lines.get(mutant.file, {})
        found = {test for line in mutant.lines for test in by_line.get(str(line), ())}
        if found or any(by_line.get(str(line)) for line in mutant.function):
            return found
        # A function of which nothing is known: of a process that did not end in good order.
        return {test for tests in by_line.values() for test in tests}

    def _of_scripts(self, scripts: Iterable[str]) -> set[int]:
        found = {test for name in scripts for test in self.measured.scripts.get(name, ())}
        if found:
            return found
        names = enumerate(self.measured.tests)
        return {n for n, test in names if test.partition("::")[0].endswith(LUA_TESTS)}

    def _in_order(self, tests: Iterable[int]) -> list[int]:
        """Each function once before any of them with other parameters."""
        seen: dict[str, int] = {}
        rounds: dict[int, int] = {}
        for test in sorted(tests, key=lambda each: self.cost[each]):
            function = self.measured.tests[test].partition("[")[0]
            rounds[test] = seen.get(function, 0)
            seen[function] = rounds[test] + 1
        return sorted(rounds, key=lambda each: (min(rounds[each], 1), self.cost[each]))


# Says of each mutant's line of Lua which scripts have it: the lines are marked, and looked for.
FIND_SCRIPTS = """
import importlib, json, sys
marks = json.loads(sys.stdin.read())
found = {}
for module in marks:
    for name, value in vars(importlib.import_module(module)).items():
        text = getattr(value, "text", None)
        if not isinstance(value, type) and isinstance(text, str):
            for mark in marks[module]:
                if mark in text:
                    found.setdefault(mark, []).append(name)
print(json.dumps(found))
"""


def scripts_by_line(
    root: Path, mutants: Iterable[Mutant], environment: Mapping[str, str]
) -> dict[tuple[str, int], list[str]]:
    """By file and line of the Lua that mutants are made of, the names of the scripts with it.

    The files there are changed for it, and changed back.
    """
    lines: dict[str, dict[int, int]] = {}  # of a file, where the code on a line ends
    sources: dict[str, bytes] = {}
    for mutant in mutants:
        if mutant.lua:
            source = sources.setdefault(mutant.file, (root / mutant.file).read_bytes())
            ends = lines.setdefault(mutant.file, {})
            line = mutant.line(source)
            ends[line] = max(ends.get(line, 0), mutant.end)
    marks: dict[str, tuple[str, int]] = {}
    for number, (file, ends) in enumerate(lines.items()):
        text = sources[file]
        for line, end in sorted(ends.items(), reverse=True):
            mark = f"--[[{number}:{line}]]"
            marks[mark] = (file, line)
            text = text[:end] + mark.encode() + text[end:]
        (root / file).write_bytes(text)
    modules = {file: file.removesuffix(".py").replace("/", ".") for file in lines}
    everything = {module: list(marks) for module in modules.values()}
    try:
        done = subprocess.run(
            [sys.executable, "-B", "-c", FIND_SCRIPTS],
            input=json.dumps(everything),
            cwd=root,
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    finally:
        for file in lines:
            (root / file).write_bytes(sources[file])
    return {marks[mark]: sorted(set(names)) for mark, names in json.loads(done.stdout).items()}
