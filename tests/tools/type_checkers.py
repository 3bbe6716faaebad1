"""mypy --strict and pyright, run on programs: the lines in which they find errors.

A line that ends with ``# wrong`` is one in which an error must be found.
"""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# In this environment of tox they are installed: there nothing may be skipped.
ARE_THERE = os.environ.get("TOX_ENV_NAME") == "types"


def mypy(directory, *programs):
    """The errors, as (program, line)."""
    found = check("mypy", "--strict", *programs, cwd=directory)
    return errors(re.findall(r"^(\S+\.py):(\d+): error", found, re.M), programs)


def pyright(directory, *programs):
    """The errors, as (program, line)."""
    found = check("pyright", "--pythonpath", sys.executable, *programs, cwd=directory)
    return errors(re.findall(r"(\S+\.py):(\d+):\d+ - error", found), programs)


def check(tool, *arguments, cwd):
    if ARE_THERE:
        importlib.import_module(tool)
    else:
        pytest.importorskip(tool)
    command = [sys.executable, "-m", tool, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=100, cwd=cwd)
    print(done.stdout)
    assert done.returncode in (0, 1), "the checker itself has failed"
    return done.stdout


def errors(found, programs):
    """Each line once, of these programs and not of what they import."""
    named = {(Path(path).name, int(line)) for path, line in found}
    return {(name, line) for name, line in named if name in programs}


def wrong(directory, *programs):
    """The errors that must be found, as (program, line)."""
    return {
        (name, number)
        for name in programs
        for number, line in enumerate((directory / name).read_text().splitlines(), 1)
        if line.endswith("# wrong")
    }
