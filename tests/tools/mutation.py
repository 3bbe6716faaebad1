"""Runs tests on copies of the module, each with one breakage: what no test catches is a hole."""

from __future__ import annotations

import argparse
import functools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "saferedisqueue.py"

# A line that begins a part of the module: a class, a function or method, a script.
BEGINS = re.compile(r"^(?:class (\w+)|( *)(?:async )?def (\w+)|([A-Z_]+)(?:: Final)? = )", re.M)

# What a test says of a change that left no program behind.
NO_PROGRAM = re.compile(r"\b(SyntaxError|NameError|Error compiling script|nonexistent global)\b")


class Mutant(NamedTuple):
    """A breakage: in the part ``of`` the module, ``old`` becomes ``new``, and ``test`` fails.

    of: a class, function, method (``SafeRedisQueue._do``) or script, by its name.
    old: text that stands there exactly once.
    test: its node id, as pytest takes it.
    """

    name: str
    of: str
    old: str
    new: str
    test: str


class DoesNotApplyError(Exception):
    """The text to be replaced is not there, or more than once."""


@functools.cache
def parts(source: str) -> list[tuple[str, int, int]]:
    """The parts of the module: name, begin and end. A class ends where its first method begins."""
    found = [match for match in BEGINS.finditer(source) if len(match[2] or "") in (0, 4)]
    ends = [match.start() for match in found[1:]] + [len(source)]
    named = []
    of_class = ""
    for match, end in zip(found, ends):
        name = match[1] or match[3] or match[4]
        if not match[2]:
            of_class = f"{name}." if match[1] else ""
        named.append((of_class + name if match[2] else name, match.start(), end))
    return named


def mutate(source: str, mutant: Mutant) -> str:
    """The module with the change; DoesNotApplyError tells what is amiss in the list."""
    places = [(begin, end) for name, begin, end in parts(source) if name == mutant.of]
    if not places:
        raise DoesNotApplyError(f"the module has no part named {mutant.of}")
    count = sum(source.count(mutant.old, begin, end) for begin, end in places)
    if count != 1:
        raise DoesNotApplyError(f"{mutant.of} has {count} times, not once: {mutant.old!r}")
    begin, end = next(each for each in places if mutant.old in source[slice(*each)])
    return source[:begin] + source[begin:end].replace(mutant.old, mutant.new) + source[end:]


def run(source: str, tests: Iterable[str], options: Sequence[str] = ("-x",)) -> tuple[str, str]:
    """Run tests on a module of this text: "passed", "failed" or another word; what they said."""
    command = ["-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-p", "pytest_timeout"]
    command += ["--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *options]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    with tempfile.TemporaryDirectory(prefix="srq-mutant-") as directory:
        Path(directory, MODULE.name).write_text(source)
        # Before all else, there and in processes that a test starts.
        environment["PYTHONPATH"] = os.pathsep.join([directory, str(ROOT)])
        command += [str(ROOT / test) for test in tests]
        try:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                timeout=300,
            )
        except subprocess.TimeoutExpired:
            return "hangs", ""
    if done.returncode == 0:
        return "passed" if " passed" in done.stdout else "skipped", done.stdout
    return "failed" if done.returncode == 1 else "no test", done.stdout


def try_mutant(source: str, mutant: Mutant) -> tuple[str, str]:
    """The verdict, and more to say of it."""
    try:
        broken = mutate(source, mutant)
    except DoesNotApplyError as error:
        return "does not apply", str(error)
    begun = time.monotonic()
    outcome, said = run(broken, [mutant.test])
    took = time.monotonic() - begun
    why = re.search(r"^E +(.*)", said, re.M)
    told = why[1] if why else said[-2000:]
    if outcome == "passed":
        return "SURVIVED", f"{mutant.test} passes"
    if outcome == "failed":
        return ("is no program" if NO_PROGRAM.search(said) else "caught"), f"{took:.1f} s: {told}"
    return outcome, told


def failing(source: str, tests: Sequence[str]) -> dict[str, str]:
    """The tests that do not pass on the module as it is, and why."""
    if not tests or run(source, tests, ())[0] == "passed":
        return {}
    alone = {test: run(source, [test]) for test in tests}
    return {test: f"{how} {said[-2000:]}" for test, (how, said) in alone.items() if how != "passed"}


def main(mutants: Sequence[Mutant], arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Break the module on purpose, and see tests fail.")
    parser.add_argument("names", nargs="*", help="words of the names of the breakages to try")
    parser.add_argument("-k", action="append", default=[], metavar="WORD", help="the same")
    parser.add_argument("-j", type=int, default=1, metavar="JOBS", help="as many at a time")
    parser.add_argument("-v", action="store_true", help="tell how each was caught")
    parser.add_argument("--list", action="store_true", help="only tell what there is")
    options = parser.parse_args(arguments)

    words = [word.lower() for word in (*options.names, *options.k)]
    chosen = [
        m for m in mutants if not words or any(w in f"{m.of} {m.name}".lower() for w in words)
    ]
    if not chosen:
        parser.error("no breakage has such a name")
    if options.list:
        print_table(chosen)
        return 0

    source = MODULE.read_text()
    verdicts: Counter[str] = Counter()
    with ThreadPoolExecutor(options.j) as pool:
        tests = sorted({mutant.test for mutant in chosen})
        lots = [tests[number :: options.j] for number in range(options.j)]
        bad = {
            k: v for lot in pool.map(failing, [source] * options.j, lots) for k, v in lot.items()
        }
        trying = [pool.submit(try_mutant, source, mutant) for mutant in chosen]
        for mutant, each in zip(chosen, trying):
            verdict, told = each.result()
            if mutant.test in bad:
                verdict, told = "proves nothing", f"also without the change: {bad[mutant.test]}"
            verdicts[verdict] += 1
            print(f"{verdict:15} {mutant.of}: {mutant.name}", flush=True)
            if verdict != "caught" or options.v:
                print("                " + told.strip().replace("\n", "\n                "))
    print()
    print_table(chosen)
    print("\n" + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items()))
    return 0 if set(verdicts) == {"caught"} else 1


def print_table(mutants: Sequence[Mutant]) -> None:
    names = [f"{mutant.of}: {mutant.name}" for mutant in mutants]
    width = max(map(len, names))
    for name, mutant in zip(names, mutants):
        print(f"{name:{width}}  {mutant.test.replace('tests/', '')}")
