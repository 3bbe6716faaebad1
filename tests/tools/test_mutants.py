"""Whole runs, on a small program: what catches mutants and what does not is told apart."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import mutant_runs
from mutants import LOTS, ROOT, SURVIVORS, known_survivors, lot, mutants_of, seed_of, sources

PROGRAM = '''
"""A module."""

__version__ = "1.0"


class Script:
    def __init__(self, text):
        self.text = text
        self.sha = str(len(text))


MOVE = Script("""
redis.call('DEL', a)
""")


def caught(a):
    return a - 1


def weak(a, seen):
    seen.append(a)
    return a < 100


def hangs():
    count = 3
    while count:
        count -= 1


def unseen(a=False):
    if a:
        return 1


def moved():
    return MOVE.sha, MOVE.text


SHARE = 6 // (1 - 0)


def share():
    return SHARE
'''

TESTS = """
import pytest
import saferedisqueue
def test_caught():
    assert saferedisqueue.caught(2) == 1
def test_weak():
    seen = []
    assert saferedisqueue.weak(2, seen)
    assert seen == [2]
def test_hangs():
    saferedisqueue.hangs()
def test_moved():
    assert "DEL" in saferedisqueue.moved()[1]
def test_share():
    assert saferedisqueue.share() == 6
def test_unseen():
    saferedisqueue.unseen()
def test_fails():
    assert saferedisqueue.weak(2, []) is None
def test_skipped():
    pytest.skip("no")
"""

# The bounds are for whole runs of real tests; of these each takes no time at all.
RUN = """
import sys, pathlib, mutant_runs, mutants
mutant_runs.TEST_SECONDS = 5
mutants.SURVIVORS = pathlib.Path(sys.argv[1], "survivors.txt")
sys.exit(mutants.main(sys.argv[2:], pathlib.Path(sys.argv[1])))
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    (tmp_path / "saferedisqueue.py").write_text(PROGRAM)
    (tmp_path / "pyproject.toml").write_text("[tool.pytest.ini_options]\n")
    (tmp_path / "tests" / "queue").mkdir(parents=True)
    (tmp_path / "tests" / "queue" / "test_it.py").write_text(TESTS)
    return tmp_path


def environment() -> dict[str, str]:
    """Ours, but that who measures us does not measure what is tried there."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    return {**own, "PYTHONPATH": str(ROOT / "tests" / "tools")}


def run(program: Path, *arguments: str) -> tuple[int, str, dict[str, list[str]]]:
    """The status, what was said, and of each scope and rule how its mutants ended."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(program), *arguments],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    ended: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        how, found, rest = line.partition(" saferedisqueue.py:")
        if found:
            scope, rule = rest.split()[1:3]
            ended.setdefault(f"{scope} {rule}", []).append(how.strip())
    return done.returncode, done.stdout, {key: sorted(ends) for key, ends in ended.items()}


def test_what_was_compiled_before_is_not_taken_for_a_mutant(
    program: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Python goes by the second of a file's time and by its size, which a mutant may share."""
    copy = mutant_runs.Copy(program, tmp_path_factory.mktemp("copy"))
    file = copy.root / "saferedisqueue.py"
    times = [file.stat().st_mtime]
    for _ in range(3):
        copy.write("saferedisqueue.py", PROGRAM.encode())
        times.append(file.stat().st_mtime)
    assert len(set(map(int, times))) == 4
    assert max(times[1:]) < times[0] - 86400, "near to now, what is written otherwise may meet it"


def test_how_mutants_end_is_told_apart(program: Path) -> None:
    status, said, ended = run(program, "--all", "-j", "2")
    assert ended == {
        "MOVE drop": ["caught"],
        "caught shift": ["caught"],
        "weak drop": ["caught"],
        "weak shift": ["survived"],
        "hangs negate": ["survived"],
        "hangs drop": ["hung"],
        "hangs shift": ["hung", "survived"],
        "unseen swap": ["survived"],
        "unseen drop": ["no test"],
        "unseen shift": ["no test"],
        "SHARE shift": ["caught", "caught", "no program"],
    }
    assert "- return a < 100\n+ return a <= 100\n" in said
    assert "not used, it does not pass: tests/queue/test_it.py::test_fails" in said
    assert "14 mutants: " in said
    assert status == 1  # less than the floor


def test_listed_survivors_are_not_tried_and_all_is_well_without_others(program: Path) -> None:
    weak = "saferedisqueue.py: weak: shift\n- return a < 100\n+ return a <= 100"
    gone = "saferedisqueue.py: weak: shift\n- return a < 5\n+ return a <= 5"
    reason = "Nobody has a hundred.\nNot yet."
    (program / "survivors.txt").write_text(f"# How.\n\n{weak}\n{reason}\n\n{gone}\nGone.\n")
    status, said, ended = run(program, "weak")
    assert ended == {"weak drop": ["caught"]}
    assert f"no longer there:\n{gone}\n" in said
    assert "100.0% of those that are programs were caught" in said
    assert status == 0


def test_what_was_measured_serves_until_the_program_changes(program: Path) -> None:
    kept = program / "kept.json"
    _, _, first = run(program, "--coverage", str(kept), "share")
    _, said, again = run(program, "--coverage", str(kept), "share")
    assert " tests, which take" not in said
    assert again == first
    (program / "saferedisqueue.py").write_text(PROGRAM + "\n")
    _, said, _ = run(program, "--coverage", str(kept), "share")
    assert " tests, which take" in said


def test_a_part_is_tried_that_the_commit_chooses(program: Path) -> None:
    files = sources(ROOT)
    identities = [mutant.identity(files[mutant.file]) for mutant in mutants_of(files)]
    lots = [[each for each in identities if lot(each) == number] for number in range(LOTS)]
    assert sum(map(len, lots)) == len(identities)
    for each in lots:
        assert len(identities) / LOTS * 0.5 < len(each) < len(identities) / LOTS * 1.5
    # Another commit, another lot: within so many each has had its turn.
    assert {lot(f"commit {number}") for number in range(1000)} == set(range(LOTS))


def test_without_a_checkout_the_version_chooses(program: Path) -> None:
    assert seed_of(program) == "1.0"


def test_nothing_is_tried_for_a_list(program: Path) -> None:
    status, said, ended = run(program, "--list", "--all")
    assert status == 0
    assert ended == {}
    assert said.endswith("14 of 14 mutants\n")
    status, said, _ = run(program, "--list", "weak")
    assert said.endswith("2 of 14 mutants\n")


def test_the_list_of_survivors_has_a_reason_for_each() -> None:
    known = known_survivors(SURVIVORS.read_text())
    assert all(known.values())


def test_words_that_choose_none_are_an_error(program: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(program), "nonesuch"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.endswith("no mutant is of such a file, function or script\n")


def test_nothing_is_said_of_mutants_where_the_tests_fail_anyway(program: Path) -> None:
    measured_only = "import os\ndef test_it():\n    assert 'SRQ_MEASURED' in os.environ\n"
    (program / "tests" / "queue" / "test_it.py").write_text(measured_only)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(program), "weak"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "without a mutant too: caught tests/queue/test_it.py::test_it\n"
