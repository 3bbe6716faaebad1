"""The command line of a copied file: it moves items, and says where the other commands are."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest

from command_line import MODULE, CommandLine, Queue


@pytest.fixture
def alone(cli: CommandLine, tmp_path: Path) -> CommandLine:
    """The command line of a copy, beside which no package is installed."""
    copied = CommandLine(None, shutil.copy(MODULE, tmp_path))
    copied.environment = {**cli.environment}
    (tmp_path / "saferedis.py").write_text("raise ImportError('not installed')")
    return copied


def test_it_moves_items(alone: CommandLine, queue: Queue) -> None:
    assert alone.run("producer", put=b"one\ntwo\n") == b""
    assert alone.run("consumer", "--drain", "--no-uid") == b"one\ntwo\n"
    assert b"no item was lost" in alone.run("demo")
    assert queue.stats().total == 0


@pytest.mark.parametrize(
    "arguments", ["doctor", "stats", "consumer -- true", "consumer --", "consumer -j 2"]
)
def test_it_says_where_the_other_commands_are(
    alone: CommandLine, queue: Queue, arguments: str
) -> None:
    queue.put(b"1")
    advice = re.escape('more commands: pip install "saferedisqueue>=4", python -m saferedis')
    assert alone.run(*arguments.split(), status=2, said=f".*error: .*{advice}.*") == b""
    assert re.search(advice, alone.run("--help").decode())
    assert queue.stats().ready == 1


def test_without_the_package_an_embedded_server_says_what_to_install(alone: CommandLine) -> None:
    said = '.*pip install "saferedisqueue.server.>=4".*'
    alone.run("producer", "--embedded", status=1, said=said)


def test_examples_are_shown_as_they_can_be_typed(alone: CommandLine) -> None:
    (copy,) = alone.program
    examples = alone.run("consumer", "--help").decode().partition("\nexamples")[2]
    assert f"python {copy} --drain" not in examples
    assert f"python {copy} consumer --drain" in examples


def test_an_optimising_python_may_run_it(alone: CommandLine, queue: Queue) -> None:
    queue.put(b"1")
    out, err = alone.sh('"$1" -OO "$2" consumer --drain --no-uid')
    assert (out, err) == ("1\n", "")
    assert os.path.basename(alone.program[0]) == "saferedisqueue.py"
