"""Lets tox find every Python that pyenv has installed, and tell in the end what was skipped."""

import atexit
import os
import re
from pathlib import Path

from tox.config.cli.parser import ToxParser
from tox.execute import Outcome
from tox.plugin import impl
from tox.tox_env.api import ToxEnv

# As pytest -rs says it, perhaps in colours.
SKIPPED = re.compile(
    r"^(?:\x1b\[\d+m)*SKIPPED(?:\x1b\[\d+m)* \[\d+\] (?:\.\./)*(.*?)\s*$", re.MULTILINE
)

skipped: dict[str, list[str]] = {}  # the environments of each test and reason


@impl
def tox_add_option(parser: ToxParser) -> None:  # called before any Python is looked for
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    # Appended, not put in front: tox itself, and what is on PATH already, stay what they are.
    found = [str(path) for path in sorted(root.glob("versions/3.*/bin"))]
    os.environ["PATH"] = os.pathsep.join([*os.get_exec_path(), *found])


@impl
def tox_after_run_commands(tox_env: ToxEnv, exit_code: int, outcomes: list[Outcome]) -> None:
    for outcome in outcomes:
        for test in SKIPPED.findall(outcome.out):
            skipped.setdefault(test, []).append(tox_env.name)


@atexit.register  # below the table of environments, which names those that were skipped as a whole
def tell() -> None:
    if skipped:
        print("Tests skipped:")
    for test, environments in sorted(skipped.items()):
        print(f"  {test} ({', '.join(environments)})")
