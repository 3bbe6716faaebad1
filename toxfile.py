"""Lets tox find every Python that pyenv has installed, not only the selected one."""

import os
from pathlib import Path

from tox.config.cli.parser import ToxParser
from tox.plugin import impl


@impl
def tox_add_option(parser: ToxParser) -> None:  # called before any Python is looked for
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    # Appended, not put in front: tox itself, and what is on PATH already, stay what they are.
    found = [str(path) for path in sorted(root.glob("versions/3.*/bin"))]
    os.environ["PATH"] = os.pathsep.join([*os.get_exec_path(), *found])
