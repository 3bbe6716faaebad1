"""Imports run one way, no underscore name crosses a file's border, and the scripts are sound Lua.

Tests and their tools may look inside: that is what they are for.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import saferedis.doctor
import saferedisqueue
from saferedisqueue import PIECES, Script

CHECKOUT = Path(__file__).parents[2]

# What each may import of the project; what stands below a name is meant too. An asterisk: only on
# use, inside a function.
ARROWS = {
    "saferedisqueue": ["*saferedis.server"],
    "saferedis": [],
    "saferedis.server": [],
    "saferedis.doctor": ["saferedisqueue"],
    "saferedis.cli": ["saferedisqueue", "saferedis.cli", "saferedis.doctor"],
    "saferedis.__main__": ["saferedis.cli"],
}


PATHS = [CHECKOUT / "saferedisqueue.py", *sorted((CHECKOUT / "saferedis").rglob("*.py"))]

# The project's own modules, by name.
SOURCES = {
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PATHS
}


def imported(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """What a module imports, and whether it does at once, when it is imported itself."""
    inside = {
        id(each)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for each in ast.walk(function)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            # A module's name may be what is imported, or where it is imported from.
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            yield name, id(node) not in inside


def is_allowed(name: str, at_once: bool, arrows: list[str]) -> bool:
    targets = [arrow for arrow in arrows if not arrow.startswith("*")]
    targets += [arrow[1:] for arrow in arrows if arrow.startswith("*") and not at_once]
    # "from saferedis import doctor" names the package too, which has nothing in it.
    return any(name == each or name.startswith(f"{each}.") for each in targets) or any(
        name == "saferedis" and each.startswith("saferedis.") for each in targets
    )


def arrows_of(name: str) -> list[str]:
    return ARROWS[max((each for each in ARROWS if f"{name}.".startswith(f"{each}.")), key=len)]


@pytest.mark.parametrize("name", SOURCES)
def test_imports_run_one_way(name: str) -> None:
    own = [
        (each, at_once)
        for each, at_once in imported(ast.parse(SOURCES[name].read_text()))
        if each.partition(".")[0] in ("saferedis", "saferedisqueue", "benchmarks")
    ]
    assert [each for each in own if not is_allowed(*each, arrows_of(name))] == []


def test_what_goes_against_an_arrow_is_found() -> None:
    def wrong(name: str, text: str) -> bool:
        found = imported(ast.parse(text))
        return not all(is_allowed(*each, arrows_of(name)) for each in found)

    assert wrong("saferedisqueue", "import saferedis.server")
    assert not wrong("saferedisqueue", "def f():\n    from saferedis.server import EmbeddedServer")
    assert wrong("saferedisqueue", "def f():\n    import saferedis.cli")
    assert wrong("saferedis.doctor", "from saferedis import cli")
    assert wrong("saferedis.server", "from saferedisqueue import SafeRedisQueue")
    assert not wrong("saferedis.cli.looking", "from saferedis.doctor import examine")


def test_the_module_needs_nothing_but_redis_and_the_standard_library() -> None:
    tree = ast.parse((CHECKOUT / "saferedisqueue.py").read_text())
    roots = {name.partition(".")[0] for name, at_once in imported(tree) if at_once}
    assert roots - set(sys.stdlib_module_names) == {"redis"}


def private(text: str) -> set[str]:
    """The underscore names that a file takes from elsewhere."""
    tree = ast.parse(text)
    of_its_own = set(re.findall(r"\b(?:def|class) (_\w+)", text))
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute):
            if isinstance(node.ctx, ast.Store):
                of_its_own.add(node.attr)
            used.add(node.attr)
        elif isinstance(node, ast.AnnAssign | ast.Assign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            of_its_own |= {each.id for each in targets if isinstance(each, ast.Name)}
    return {name for name in used - of_its_own if re.match("_[^_]", name)}


# Of others: what a NamedTuple has by this name is public.
PUBLIC = {"_asdict", "_replace", "_fields", "_make"}
# Of redis-py's connections: where they are missing, its public calls are used.
BORROWED = {"_sock", "_reader", "_writer"}


@pytest.mark.parametrize("name", SOURCES)
def test_no_underscore_name_crosses_a_file_s_border(name: str) -> None:
    assert private(SOURCES[name].read_text()) - PUBLIC - BORROWED == set()


def test_an_underscore_name_of_another_file_is_found() -> None:
    assert private("from saferedisqueue import _Steps\nqueue._call(x)") == {"_Steps", "_call"}
    assert private("class A:\n    _b = 1\n    def f(self): self._c = self._b + self._c") == set()


# ---- Lua -----------------------------------------------------------------------------------------

SCRIPTS = {
    name: each
    for module in (saferedisqueue, saferedis.doctor)
    for name, each in vars(module).items()
    if isinstance(each, Script)
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_has_each_piece_once_and_names_all_that_it_uses(name: str, tmp_path: Path) -> None:
    text = SCRIPTS[name].text
    # What a claim settles with it makes its functions only if there is something to settle.
    for part in text.split(saferedisqueue._CLAIM_QUICK):
        assert [piece for piece, lua in PIECES.items() if part.count(lua) > 1] == []
    compiler = shutil.which("luac5.1") or shutil.which("luac")
    if compiler is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no luac 5.1 on this machine")
    (tmp_path / "script.lua").write_text(text)
    listing = subprocess.check_output([compiler, "-l", "-p", tmp_path / "script.lua"], text=True)
    used = set(re.findall(r"[GS]ETGLOBAL.*; (\w+)", listing))
    known = {"KEYS", "ARGV", "redis", "string", "table", "math", "unpack", "ipairs", "pairs"}
    assert used <= known | {"select", "tonumber", "type"}


def test_each_piece_is_used() -> None:
    used = [lua for lua in PIECES.values() if any(lua in each.text for each in SCRIPTS.values())]
    assert used == list(PIECES.values())
