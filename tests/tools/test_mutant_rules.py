"""Each rule makes of a small source the mutants that it says, and no others."""

from __future__ import annotations

import ast
from textwrap import dedent

import pytest

import mutant_lua
import mutant_python


def changes(source: str, kind: str = "python") -> list[str]:
    """What is made of it: the rule, and the lines that come instead of others."""
    text = dedent(source).encode()
    found = (mutant_lua if kind == "lua" else mutant_python).mutants("m.py", text)
    made = []
    for mutant in found:
        ast.parse(mutant.apply(text))
        new = [line[2:] for line in mutant.difference(text).splitlines() if line[0] == "+"]
        made.append(f"{mutant.rule}: {' / '.join(new)}")
    return made


def of_function(body: str) -> list[str]:
    return changes("def f(a, b):\n" + "".join(f"    {line}\n" for line in body.splitlines()))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a(b)", ["drop: pass"]),
        ("a += b", ["drop: pass"]),
        ("a.x = b", ["drop: pass"]),
        ("a[b] = b", ["drop: pass"]),
        ("a = b", ["drop: pass"]),
        ("if a: return b\na()", ["drop: if a: pass", "drop: pass"]),
        ("raise a", ["drop: pass"]),
        ("a(\n  b,\n)", ["drop: pass"]),
        (
            "if a: b()\nelse: a()",
            ["negate: if (not (a)): b()", "drop: if a: pass", "drop: else: pass"],
        ),
        ("if not a:\n  b()\n  a()", ["negate: if (a):", "drop: pass", "drop: pass"]),
        ("while a: b()", ["negate: while (not (a)): b()", "drop: while a: pass"]),
        ("c = a == b", ["negate: c = a != b"]),
        ("c = a is not b", ["negate: c = a is b"]),
        ("c = a not in b", ["negate: c = a in b"]),
        ("c = [x for x in a if x]", ["negate: c = [x for x in a if (not (x))]"]),
        ("c = a < b", ["shift: c = a <= b"]),
        ("c = a >= b", ["shift: c = a > b"]),
        (
            "c = 1 < a <= b",
            ["shift: c = 1 <= a <= b", "shift: c = 1 < a < b", "shift: c = 2 < a <= b"],
        ),
        ("c = a - 1", ["shift: c = a - 2"]),
        ("c = True", ["swap: c = False"]),
        ("c = a and b", ["swap: c = a or b"]),
        ("c = 'é' if a else b", ["negate: c = 'é' if (not (a)) else b"]),
    ],
)
def test_what_is_made_of_a_statement(body: str, expected: list[str]) -> None:
    assert of_function(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        '"""1 < 2"""',
        "c: 'a < 1'",
        "import a",
        "return b",
        "time.sleep(1.0)",
        "c = f'{a < 1}'",
        "c = a[1]",
        "c = 11",
        "c = 1 + 0.5",
        "c = zip(a, strict=True)",
        "c = sys.version_info >= (3, 12)",
        "c = a",  # never set otherwise: all that uses it fails
        "raise NotImplementedError",
        "if TYPE_CHECKING:\n  a(1)",
    ],
)
def test_of_what_no_mutant_is_made(body: str) -> None:
    assert of_function(body) == []


def test_declarations_and_repr_stay_as_they_are() -> None:
    source = '''
        @overload
        def f(a: int = 1) -> None: ...
        class C:
            """Number 1."""
            a: Literal[1]
            def __init__(self):
                self.a = a
            def wait(self, for_: float = 1, *, more: float | None = 2): pass
            def __repr__(self):
                return 1
    '''
    assert changes(source) == []


def test_a_constant_is_told_by_what_reads_it_and_a_default_by_what_follows() -> None:
    source = b"A = 1\n\ndef f(a=2):\n    b = a\n    return A\n"
    found = {m.scope: m for m in mutant_python.mutants("m.py", source) if m.rule == "shift"}
    assert found["A"].lines == (5,)
    assert found["f"].lines == (4, 5)


def of_lua(body: str) -> list[str]:
    return changes(f'A = Script("""\nlocal a = b\n{body}\n""")\n', "lua")


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("redis.call('DEL', a)", ["drop: do end"]),
        ("a.b = c", ["drop: do end"]),
        ("f(a)", ["drop: do end"]),
        ("if a then return end", ["drop: do end"]),
        ("while f(a) do end", ["drop: do end"]),
        ("if a then\nlocal b = a\nend", ["negate: if not (a) then"]),
        (
            "if a\n   and b then\nlocal c = a\nend",
            ["negate: if not (a / and b) then", "swap: or b then"],
        ),
        ("repeat\nlocal c = a\nuntil a", ["negate: until not (a)"]),
        ("local c = a == b", ["negate: local c = a ~= b"]),
        ("if a == b then\nlocal c = a\nend", ["negate: if not (a == b) then"]),
        ("local c = a < b", ["shift: local c = a <= b"]),
        ("local c = a >= b", ["shift: local c = a > b"]),
        ("local c = d - 1", ["shift: local c = d - 2"]),
        ("local c = f('0')", ["shift: local c = f('1')"]),
        ("local c = true", ["swap: local c = false"]),
        ("local c = a or b", ["swap: local c = a and b"]),
        ("local c = a and b or d", ["swap: local c = a and b and d"]),
        ("local c = 1 -- 1 < 2", ["shift: local c = 2 -- 1 < 2"]),
    ],
)
def test_what_is_made_of_lua(body: str, expected: list[str]) -> None:
    assert of_lua(body) == expected


@pytest.mark.parametrize(
    "body",
    [
        "-- 1 < 2 and true",
        "-- needs: meta ready",
        "{_META}{_HELD}",
        "local c = ' < and 1 true '",
        "local c = f(a,\n  b)",
        "local c = a[1]",
        "local c = 1000",
    ],
)
def test_of_what_in_lua_no_mutant_is_made(body: str) -> None:
    assert of_lua(body) == []


def test_lua_is_known_by_its_looks() -> None:
    source = '''
        """A docstring of two lines,
        local a = 1, redis.call('DEL')."""
        TEXT = """
        an ordinary text, 1 < 2
        """
        ONE = f"""
        local a = {{}}
        redis.call('DEL', a)
        """
        TWO = Script("a", """-- needs: meta
        redis.pcall('DEL', 2)
        """)
        THREE: dict = {"four": """
        f(local_a)
        local b = redis.call('GET', c)
        """}
    '''
    text = dedent(source).encode()
    assert [(m.scope, m.rule) for m in mutant_lua.mutants("m.py", text)] == [
        ("ONE", "drop"),
        ("TWO", "drop"),
        ("TWO", "shift"),
        ("four", "drop"),
    ]
