"""The list of breakages fits the module, and what runs it tells the caught from the others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import mutation
from mutants import MUTANTS
from mutation import MODULE, ROOT


def test_each_breakage_can_be_made_and_names_a_test() -> None:
    source = MODULE.read_text()
    for mutant in MUTANTS:
        assert mutation.mutate(source, mutant) != source
        path, test = mutant.test.partition("[")[0].split("::")
        assert f"\ndef {test}(" in (ROOT / path).read_text(), mutant


def test_no_breakage_is_listed_twice() -> None:
    assert len({(mutant.of, mutant.name) for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.of, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


LIST = """
import sys
from mutation import Mutant, main
poll, fails, other = (f"{sys.argv[1]}::test_{each}" for each in ("poll", "fails", "skipped"))
sys.exit(main([
    Mutant("one", "_POLL", "0.1", "0.2", poll),
    Mutant("two", "_POLL", "seconds between", "seconds  between", poll),
    Mutant("three", "_POLL", "0.3", "0.4", poll),
    Mutant("four", "_NO_SUCH", "0.1", "0.2", poll),
    Mutant("five", "_POLL", "0.1", "0.2", fails),
    Mutant("six", "_POLL", "0.1", "0.2", other),
    Mutant("seven", "_POLL", "0.1", "no_such_name", poll),
], sys.argv[2:]))
"""

TESTS = """
import os, pytest, saferedisqueue, subprocess, sys
def test_poll():
    assert saferedisqueue._POLL == 0.1
    code = "import saferedisqueue; print(saferedisqueue.__file__)"
    found = subprocess.check_output([sys.executable, "-c", code], cwd="/", text=True)
    assert found.strip() == saferedisqueue.__file__
def test_fails():
    assert saferedisqueue._POLL == 0.5
def test_skipped():
    pytest.skip("no")
"""


def run(tmp_path: Path, *arguments: str) -> tuple[int, str]:
    """The status, and what was said, of a list of seven breakages of seven kinds."""
    tests = tmp_path / "test_it.py"
    tests.write_text(TESTS)
    done = subprocess.run(
        [sys.executable, "-c", LIST, str(tests), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_what_catches_nothing_is_told(tmp_path: Path) -> None:
    status, said = run(tmp_path, "-j", "2")
    verdicts = {
        line[16:].removeprefix("_POLL: "): line[:16].rstrip()
        for line in said.partition("\n\n")[0].splitlines()
        if line[:1] != " "
    }
    assert verdicts == {
        "one": "caught",
        "two": "SURVIVED",
        "three": "does not apply",
        "_NO_SUCH: four": "does not apply",
        "five": "proves nothing",
        "six": "proves nothing",
        "seven": "no test",
    }
    assert "_POLL has 0 times, not once: '0.3'" in said
    assert "the module has no part named _NO_SUCH" in said
    assert status == 1


def test_all_is_well_where_each_is_caught(tmp_path: Path) -> None:
    status, said = run(tmp_path, "one")
    assert status == 0
    assert said.splitlines()[0] == "caught          _POLL: one"
    assert said.splitlines()[-1] == "1 caught"
