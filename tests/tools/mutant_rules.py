"""What is common to the rules that make mutants: what a mutant is, and how it is told.

A rule is one word: ``drop`` takes a statement away; ``negate`` turns a condition round; ``shift``
moves a bound by one, a number or a comparison; ``swap`` puts one constant or operator in the place
of its opposite.
"""

from __future__ import annotations

import difflib
from typing import NamedTuple

RULES = ("drop", "negate", "shift", "swap")

# One that moves by one where a test would have to count so far: those are settings, not edges.
LARGEST = 10


class Mutant(NamedTuple):
    """A file with one change: what its bytes from ``start`` to ``end`` say is ``new`` instead.

    scope: the function, ``Class.method`` or script that it stands in, or "" for none.
    lines: a test that runs one of these lines of the file may notice it; none for Lua.
    function: the lines of the function that it stands in, if any.
    """

    file: str
    scope: str
    rule: str
    start: int
    end: int
    new: str
    lines: tuple[int, ...]
    function: range = range(0)
    lua: bool = False

    def apply(self, source: bytes) -> bytes:
        return source[: self.start] + self.new.encode() + source[self.end :]

    def line(self, source: bytes) -> int:
        return source.count(b"\n", 0, self.start) + 1

    def difference(self, source: bytes) -> str:
        """The lines that go and those that come, without their indentation."""
        begin = source.rfind(b"\n", 0, self.start) + 1
        stop = (source + b"\n").index(b"\n", self.end)
        old = source[begin:stop].decode().splitlines()
        new = self.apply(source[:stop])[begin:].decode().splitlines()
        changes = [line for line in difflib.ndiff(old, new) if line[0] in "-+"]
        return "\n".join(f"{line[0]} {line[2:].strip()}" for line in changes)

    def identity(self, source: bytes) -> str:
        """What stays the same when the module is rearranged: where it stands and what changes."""
        return f"{self.file}: {self.scope}: {self.rule}\n{self.difference(source)}"


def flipped(operator: str) -> str:
    """A comparison whose bound lies one further."""
    return operator[:-1] if operator.endswith("=") else operator + "="
