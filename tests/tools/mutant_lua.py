"""Mutants of the Lua that stands as strings in Python source.

A string of several lines is Lua if it calls Redis or begins a local variable. It is read line by
line: in an f-string braces are doubled, and pieces stand in braces, which no rule touches.

Not made: of comments; a ``local`` that is never set and a piece that is left out, whose names are
unknown then, another index, ``a or b or c`` for ``a and b or c``: errors in every test; and, as in
Python, of numbers above ten.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from mutant_rules import LARGEST, Mutant, flipped

IS_LUA = re.compile(r"\bredis\.p?call\(|^local ", re.M)

# What ends or begins a line that is only a part of a statement.
GOES_ON = re.compile(r"(?:[,({=+*/<>~-]|\.\.|\b(?:and|or|not))$")
CONTINUES = re.compile(r"(?:and|or)\b|[)}.+*/,]")

# A line that is a statement, or a block of one line; not one that sets a local variable.
STATEMENT = re.compile(
    r"(?:redis\.p?call\(.*\)|[a-z_]\w*\(.*\)|[a-z_][\w.]*(?:\[.*?\])?(?:, ?[a-z_]\w*(?:\[.*?\])?)*"
    r" = .*|return\b.*|break|(?:if|for|while)\b.*\bend)$"
)
CONDITION = re.compile(r"\b(?:if|elseif|while)\s+(.*?)(?=\s+(?:then|do)\b)", re.S)
UNTIL = re.compile(r"\buntil\s+(.*?)(?=\s*$)", re.M)
COMPARISON = re.compile(r"(?<![<>=~])([<>]=?)(?!=)")
EQUALITY = re.compile(r"==|~=")
NUMBER = re.compile(r"(?<![\w.#'%])(\d+)(?![\w.'])|'(-?\d+)'")
INDEX = re.compile(r"\[[^][]*\Z")  # what stands before a number that is one
BOOLEAN = re.compile(r"\b(?:true|false)\b")
CHOICE = re.compile(r"\band(?= (?:\w+|''|\{+[^{}]*\}+) or )")  # the first half of "and b or c"
LOGICAL = re.compile(r"\b(?:and|or)\b")


def mutants(file: str, source: bytes) -> Iterator[Mutant]:
    """Of the Lua of a file of Python."""
    for name, start, end in strings(source):
        yield from _of_script(file, name, source, start, end)


def strings(source: bytes) -> Iterator[tuple[str, int, int]]:
    """The strings that are Lua: what name they are given, and from and to which byte they stand."""
    begins = [0]
    for line in source.splitlines(keepends=True):
        begins.append(begins[-1] + len(line))
    for statement in ast.parse(source).body:
        for name, node in _outermost_strings(statement, _name(statement)):
            start = begins[node.lineno - 1] + node.col_offset
            end = begins[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
            text = source[start:end].decode()
            if "\n" in text and IS_LUA.search(text):
                yield name, start, end


def _outermost_strings(
    node: ast.AST, name: str
) -> Iterator[tuple[str, ast.Constant | ast.JoinedStr]]:
    """With the name of each: what it is assigned to, or its key in a dictionary."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return  # a docstring
    if isinstance(node, ast.JoinedStr | ast.Constant):
        if isinstance(node, ast.JoinedStr) or isinstance(node.value, str):
            yield name, node
        return
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values):
            own = key.value if isinstance(key, ast.Constant) else name
            yield from _outermost_strings(value, str(own))
        return
    for child in ast.iter_child_nodes(node):
        yield from _outermost_strings(child, name)


def _name(statement: ast.stmt) -> str:
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement]
    return next((t.id for t in ast.walk(targets[0]) if isinstance(t, ast.Name)), "")


def code_of(line: str) -> str:
    """A line of Lua without its comment; quotes may contain what else begins one."""
    quoted = ""
    for i, letter in enumerate(line):
        if quoted:
            quoted = "" if letter == quoted else quoted
        elif letter in "'\"":
            quoted = letter
        elif line.startswith("--", i):
            return line[:i].rstrip()
    return line.rstrip()


def _of_script(file: str, name: str, source: bytes, start: int, end: int) -> Iterator[Mutant]:
    text = source[start:end].decode()
    opening = re.match(r"""[a-zA-Z]*("{3}|'{3}|"|')""", text)
    assert opening is not None
    first, last = opening.end(), len(text) - len(opening[1])
    # The same text, comments blank and all else where it was.
    blank = " " * first + "\n".join(
        code_of(line).ljust(len(line)) for line in text[first:last].split("\n")
    )
    inside = _in_quotes(blank)

    def mutant(rule: str, at: int, to: int, new: str) -> Mutant:
        a, b = (start + len(text[:i].encode()) for i in (at, to))
        return Mutant(file, name, rule, a, b, new, (), lua=True)

    statements = list(_statements(blank))
    for at, to in statements:
        yield mutant("drop", at, to, "do end" if blank[at:to] != "break" else "")
    tests = [*CONDITION.finditer(blank), *UNTIL.finditer(blank)]
    for match in tests:
        at, to = match.span(1)
        if any(begin < at < end for begin, end in statements):
            continue  # all that it decides is dropped
        if match[1] not in ("true", "false") and match[1].count("(") == match[1].count(")"):
            yield mutant("negate", at, to, f"not ({text[at:to].strip()})")
    for match in COMPARISON.finditer(blank):
        if not inside[match.start()]:
            yield mutant("shift", *match.span(), flipped(match[0]))
    for match in EQUALITY.finditer(blank):
        is_all = any(
            test.start(1) <= match.start() < test.end(1) and not LOGICAL.search(test[1])
            for test in tests
        )
        if not inside[match.start()] and not is_all:
            yield mutant("negate", *match.span(), "~=" if match[0] == "==" else "==")
    for match in NUMBER.finditer(blank):
        group = 1 if match[1] else 2
        is_index = INDEX.search(blank[: match.start()].rpartition("\n")[2]) is not None
        if is_index or int(match[group]) > LARGEST:
            continue
        if group == 2 or not inside[match.start()]:
            yield mutant("shift", *match.span(group), str(int(match[group]) + 1))
    for match in BOOLEAN.finditer(blank):
        if not inside[match.start()]:
            yield mutant("swap", *match.span(), "false" if match[0] == "true" else "true")
    choices = {match.start() for match in CHOICE.finditer(blank)}
    for match in LOGICAL.finditer(blank):
        if not inside[match.start()] and match.start() not in choices:
            yield mutant("swap", *match.span(), "or" if match[0] == "and" else "and")


def _in_quotes(text: str) -> list[bool]:
    """Of each letter, whether it stands between quotes; none goes on over a line's end."""
    inside, quoted = [], ""
    for letter in text:
        if letter == "\n":
            quoted = ""
        if quoted:
            inside.append(True)
            quoted = "" if letter == quoted else quoted
        else:
            inside.append(False)
            quoted = letter if letter in "'\"" else ""
    return inside


def _statements(text: str) -> Iterator[tuple[int, int]]:
    """The lines that are whole statements."""
    lines = text.split("\n")
    at = 0
    before = ""
    for number, line in enumerate(lines):
        code = line.strip()
        after = next((each.strip() for each in lines[number + 1 :] if each.strip()), "")
        whole = not GOES_ON.search(before) and not GOES_ON.search(code)
        if whole and not CONTINUES.match(after) and _is_balanced(code) and STATEMENT.match(code):
            begin = at + line.index(code)
            yield begin, begin + len(code)
        before = code or before
        at += len(line) + 1


def _is_balanced(code: str) -> bool:
    return all(code.count(a) == code.count(b) for a, b in ("()", "{}", "[]"))
