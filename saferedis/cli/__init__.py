"""The command line ``saferedisqueue``, also ``python -m saferedis``: one parser, a file a family.

    moving    producer, consumer, demo: items in and out
    working   consumer -- command: a command once an item
    looking   stats, peek, dead, doctor
    mending   revive, release, remove, pause, resume, purge

What all of them share, and the commands that a copied file needs too, is in ``saferedisqueue``.
"""

from __future__ import annotations

from collections.abc import Sequence

from saferedis.cli import looking, mending, moving, working
from saferedisqueue import CommandLine

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that the arguments name, by default those of this process; exit status."""
    line = CommandLine()
    for family in (moving, working, looking, mending):
        family.add_to(line)
    return line.run(argv)
