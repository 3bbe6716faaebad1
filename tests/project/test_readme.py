"""README.rst: every example in it is run, and what it names exists; CHANGES.rst goes along."""

from __future__ import annotations

import doctest
import functools
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import docutils.core
import pytest
import redis
from docutils import nodes

import permissions
import saferedisqueue
import servers
from helpers import Awaited, Face
from saferedisqueue import (
    AsyncSafeRedisQueue,
    Consumer,
    DeadItem,
    Delivery,
    Item,
    NoItem,
    SafeRedisQueue,
    SafeRedisQueueError,
    Stats,
)

CHECKOUT = Path(__file__).parents[2]
README = (CHECKOUT / "README.rst").read_text(encoding="utf-8")

# The server that examples name; they are run on a private one.
SERVER_URL = "redis://localhost:6379/0"

# How an example begins that installs: what follows is run, in the environment of the tests.
SET_UP = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install -q (\S+)\s+(?:\\\n\s*)?&& ")

# Code blocks that are not run, by their first line, and why.
NOT_RUN = {
    "$ python3 -m venv .venv && .venv/bin/pip install -q tox && .venv/bin/tox": (
        "it runs these tests; that continuous integration runs it is tested below"
    ),
    "def work(item):": "threads are of the blocking face alone: test_loops_end.py does this",
    "from redis.cluster import RedisCluster": "the tests of clusters do this",
    "user worker on >secret ~srq:*": "compared with what is tested, below",
    "+hlen +ltrim +lrange +pexpire +zadd +zrevrangebyscore +zcount +zcard": "the same",
    "+wait +config|get +info": "the same",
    '$ python -m pip install -e ".[bench]"': "the tests of the benchmarks do this, without others",
}

# What is of redis-py in the examples has a twin in asyncio.
ASYNCIO = {
    "redis.sentinel": "redis.asyncio.sentinel",
    "redis.retry": "redis.asyncio.retry",
}


def parsed() -> nodes.document:
    settings = {"syntax_highlight": "none", "report_level": 5}
    return docutils.core.publish_doctree(README, settings_overrides=settings)


def title_of(node: nodes.Node) -> str:
    while not isinstance(node, nodes.section):
        node = node.parent
    return node.next_node(nodes.title).astext()


def blocks() -> Iterator[tuple[str, str, str]]:
    """All code blocks: section, language, text."""
    for node in parsed().findall(lambda n: isinstance(n, nodes.FixedTextElement)):
        if isinstance(node, nodes.comment):
            continue
        if isinstance(node, nodes.doctest_block):
            yield title_of(node), "doctest", node.astext()
        else:
            yield title_of(node), " ".join(node["classes"]), node.astext()


BLOCKS = list(blocks())
CONSOLE = [
    (section, text)
    for section, language, text in BLOCKS
    if language == "code console" and text.partition("\n")[0] not in NOT_RUN
]


def literals() -> set[str]:
    return {node.astext() for node in parsed().findall(nodes.literal)}


def terms(section: str) -> set[str]:
    """What the definition lists of a section define."""
    return {
        literal.astext()
        for node in parsed().findall(nodes.term)
        if title_of(node) == section
        for literal in node.findall(nodes.literal)
    }


UUID7 = re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b")


class Checker(doctest.OutputChecker):
    """Takes one UUID of version 7 for another, and one face for the other."""

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        want, got = (UUID7.sub("uid", text).replace("<Async", "<") for text in (want, got))
        return super().check_output(want, got, optionflags)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory."""
    for name in [name for name in os.environ if name.startswith("XDG_") or name == "REDIS_URL"]:
        monkeypatch.delenv(name)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return home


# ---- the examples ------------------------------------------------------------------------------


def test_every_code_block_is_run_or_has_a_reason_not_to_be() -> None:
    not_run = [
        text
        for _, language, text in BLOCKS
        if language not in ("doctest", "code python", "code console")
        or text.partition("\n")[0] in NOT_RUN
    ]
    assert [text.partition("\n")[0] for text in not_run] == list(NOT_RUN)


class Shown(Awaited):
    """A queue of asyncio that looks like a blocking one, also after with, and when shown."""

    @classmethod
    def of(cls, face: Face, *args: Any, **kw: Any) -> Shown:
        queue = face.queue(*args, **kw)
        return cls(queue.wrapped, queue.run)

    def __enter__(self) -> Shown:
        self.run(self.wrapped.__aenter__())
        return self

    def __repr__(self) -> str:
        return repr(self.wrapped)


def test_the_python_examples_do_what_they_show_on_both_faces(
    face: Face,
    server: servers.Server,
    client: redis.Redis,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In their order and in one namespace, as somebody who types them along."""
    names: dict[str, Any] = {"__name__": "readme"}
    report = io.StringIO()
    runner = doctest.DocTestRunner(Checker(), optionflags=doctest.ELLIPSIS)
    twins = {SERVER_URL: server.url}
    if face.queue_class is not SafeRedisQueue:
        # The examples find the other face under the name of the blocking one, each call awaited.
        twin = functools.partial(Shown.of, face)
        monkeypatch.setattr(saferedisqueue, "SafeRedisQueue", twin)
        twins |= ASYNCIO
    made: list[SafeRedisQueue[Any]] = []
    for _, language, text in BLOCKS:
        if text.partition("\n")[0] in NOT_RUN:
            continue
        code = text
        for here, there in twins.items():
            code = code.replace(here, there)
        if language == "code python":
            exec(compile(code, "README.rst", "exec"), names)
        elif language == "doctest":
            line = README[: README.index(text.partition("\n")[0])].count("\n")
            test = doctest.DocTestParser().get_doctest(code, names, "README", "README.rst", line)
            runner.run(test, out=report.write, clear_globs=False)
            names = test.globs
        made += [queue for queue in names.values() if isinstance(queue, SafeRedisQueue)]
    for queue in made:
        queue.close()
    assert runner.tries > 20
    assert not runner.failures, report.getvalue()


def commands(text: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, and the output shown for each."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        length = 1
        while lines[length - 1].endswith("\\\n"):
            length += 1
        yield "".join(lines[:length]).rstrip("\n"), "".join(lines[length:])


@pytest.mark.parametrize(("section", "text"), CONSOLE, ids=[s.lower() for s, _ in CONSOLE])
def test_the_shell_examples_print_what_they_show(
    section: str,
    text: str,
    server: servers.Server,
    client: redis.Redis,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    programs = home.parent / ".venv/bin"
    programs.mkdir(parents=True)
    provide_command(programs / "saferedisqueue")
    monkeypatch.setenv("PATH", str(programs), prepend=os.pathsep)
    # Whatever an example leaves out: nothing may reach a server of the machine.
    monkeypatch.setenv("SAFEREDISQUEUE_URL", server.url)
    examples = [(command, SET_UP.sub("", command), shown) for command, shown in commands(text)]
    script = "\n".join(
        f"{to_run.replace(SERVER_URL, server.url)}\n_status=$?; printf '\\036'; (exit $_status)"
        for _, to_run, _ in examples
    )
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=home.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
    )
    outputs = done.stdout.split("\036")
    assert len(outputs) == len(examples) + 1
    for (command, _, shown), printed in zip(examples, outputs):
        # Nobody sees in the README whether the last line ended.
        same = Checker().check_output(shown.rstrip(), printed.rstrip(), doctest.ELLIPSIS)
        assert same, f"$ {command}\nprints\n{printed}\nand not\n{shown}"


def provide_command(target: Path) -> None:
    """The command that is installed; for a module that is not, one that runs it."""
    module = Path(saferedisqueue.__file__)
    installed = shutil.which("saferedisqueue", path=sysconfig.get_path("scripts"))
    if installed and module.parent != CHECKOUT:
        target.symlink_to(installed)
    else:
        target.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m saferedis \"$@\"\n")
        target.chmod(0o700)


# ---- the set-up --------------------------------------------------------------------------------


def test_what_the_examples_install_is_there_to_install() -> None:
    extras = re.findall(r'^ {8}"(\w+)":', (CHECKOUT / "setup.py").read_text(), re.MULTILINE)
    installed = [name for _, text in CONSOLE for name in SET_UP.findall(text)]
    assert len(installed) == 1
    for name in installed:
        wanted = re.fullmatch(r'"\.\[([\w,]+)\]"', name)
        assert wanted, name
        assert set(wanted[1].split(",")) <= set(extras)


def test_continuous_integration_runs_the_test_command_shown() -> None:
    (command,) = (text for text in NOT_RUN if text.endswith("tox"))
    assert command.removeprefix("$ ") in (CHECKOUT / ".ci/run").read_text().splitlines()


# ---- names -------------------------------------------------------------------------------------


def test_the_arguments_of_the_constructor_are_those_described() -> None:
    named = {
        name
        for name, parameter in inspect.signature(saferedisqueue._Steps.__init__).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    assert terms("The constructor") == named | {"autoclean_interval"}


@pytest.mark.parametrize(
    "kind",
    [SafeRedisQueue, AsyncSafeRedisQueue, Item, NoItem, Stats, DeadItem, Delivery, Consumer],
)
def test_whatever_is_public_is_described(kind: type[Any]) -> None:
    inherited = {*dir(tuple), "push", "pop"}
    public = {name for name in dir(kind) if name[0] != "_"} - inherited
    public |= {name for name in kind.__annotations__ if name[0] != "_"}
    assert not_described(public) == set()


def test_whatever_the_module_exports_is_described() -> None:
    assert not_described(saferedisqueue.__all__) == set()


def not_described(names: Iterable[str]) -> set[str]:
    described = " ".join(literals() | {text for _, _, text in BLOCKS})
    return {name for name in names if not re.search(rf"\b{name}\b", described)}


def test_the_methods_that_are_named_exist() -> None:
    calls = (re.fullmatch(r"(queue|item|items)?\.?(\w+)\(.*\)", each) for each in literals())
    methods = {(call[1], call[2]) for call in calls if call} - {(None, "str")}
    classes = {None: SafeRedisQueue, "queue": SafeRedisQueue, "item": Delivery, "items": Consumer}
    found = {(on, name) for on, name in methods if hasattr(classes[on], name)}
    lua = re.findall(r"local function (\w+)", "".join(saferedisqueue.PIECES.values()))
    found |= {(None, name) for name in ("aclose", *saferedisqueue.__all__, *lua)}
    assert methods - found == set()


def test_the_errors_are_those_of_the_module() -> None:
    table = next(t for t in parsed().findall(nodes.table) if title_of(t) == "Errors")
    described = {text.astext() for row in table.findall(nodes.row) for text in row[0].findall()}
    errors = {
        name
        for name, value in vars(saferedisqueue).items()
        if isinstance(value, type) and issubclass(value, SafeRedisQueueError)
    }
    assert len(errors) > 4
    assert errors <= described


def test_the_commands_that_a_user_must_be_allowed_are_those_tested() -> None:
    shown = [text for _, language, text in BLOCKS if language == "code text"]
    tested = [permissions.PLAIN, permissions.REST, permissions.DURABLE]
    assert [sorted(re.findall(r"\+(\S+)", text)) for text in shown] == list(map(sorted, tested))


def test_the_table_of_keys_is_that_of_the_scripts() -> None:
    scripts = [s for s in vars(saferedisqueue).values() if isinstance(s, saferedisqueue.Script)]
    table = next(t for t in parsed().findall(nodes.table) if title_of(t) == "Keys")
    described = [row[0].astext() for row in table.findall(nodes.row)][1:]
    keys = {key.removeprefix("to_") for script in scripts for key in script.keys}
    assert set(described) == keys | {"call:<id>", "said:<id>", "last:<id>"}


def test_the_options_that_are_named_exist() -> None:
    def help_of(*command: str) -> str:
        run = [sys.executable, "-m", "saferedis", *command, "--help"]
        return subprocess.run(run, check=True, capture_output=True, text=True, timeout=60).stdout

    first = ("producer", "consumer", "demo", "stats", "purge")
    further = ("dead", "revive", "release", "remove", "peek", "pause", "resume", "doctor")
    everything = " ".join(map(help_of, (*first, *further)))
    lines = [line for _, text in CONSOLE for line in text.splitlines() if "saferedisqueue" in line]
    named = {
        option
        for text in [*literals(), *lines]
        if not text.startswith(("python ", "tox "))
        for option in re.findall(r"(?<![\w-])(?:--[a-z-]+|-[a-z0])\b", SET_UP.sub("", text))
    }
    assert len(named) > 10
    assert {name for name in named if not re.search(rf"(?<![\w-]){name}\b", everything)} == set()


def test_the_versions_are_those_of_the_tests() -> None:
    (table,) = (t for t in parsed().findall(nodes.table) if title_of(t) == "Versions tested")
    said = table.astext()
    tox = (CHECKOUT / "tox.ini").read_text()
    for minor in re.findall(r"\bpy3(\d+)", tox):
        assert f"3.{minor}" in said
    for label in servers.ALL:
        assert label.rpartition("-")[2] in said
    for release in re.findall(r"redis==([\d.]+)", tox):
        assert release in said


# ---- the tests named ---------------------------------------------------------------------------

TEST = re.compile(r"(test_\w+\.py)(?::\s+(test_\w+))?")


def named_tests(node: nodes.Node) -> list[tuple[str, str | None]]:
    """File and function of each test named there."""
    matches = (TEST.fullmatch(literal.astext()) for literal in node.findall(nodes.literal))
    return [(match[1], match[2]) for match in matches if match]


def test_the_tests_that_are_named_exist() -> None:
    named = named_tests(parsed())
    assert len(named) > 50
    for file, function in named:
        (path,) = (CHECKOUT / "tests").rglob(file)
        defined = re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
        assert function is None or function in defined, f"{file}: {function}"


def test_the_files_of_tests_that_are_named_exist() -> None:
    named = {
        path
        for text in literals()
        for path in re.findall(r"\b(?:tests|benchmarks)/[\w/]+\.py", text)
    }
    assert len(named) > 10
    assert {path for path in named if not (CHECKOUT / path).exists()} == set()


def test_each_promise_and_each_failure_names_a_test() -> None:
    section = next(
        node for node in parsed().findall(nodes.section) if title_of(node) == "What is promised"
    )
    promises = list(section.findall(nodes.list_item))
    table = next(t for t in parsed().findall(nodes.table) if title_of(t) == "If something dies")
    failures = list(table.findall(nodes.row))[1:]
    assert len(promises) == 11
    assert len(failures) > 25
    assert [each.astext() for each in promises + failures if not named_tests(each)] == []


# ---- rendering ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["README.rst", "CHANGES.rst"])
def test_it_renders_without_warnings(name: str) -> None:
    warnings = io.StringIO()
    docutils.core.publish_string(
        (CHECKOUT / name).read_text(encoding="utf-8"),
        writer="html5",
        settings_overrides={
            "report_level": 1,
            "syntax_highlight": "none",
            "warning_stream": warnings,
        },
    )
    assert warnings.getvalue() == ""


def test_the_changes_begin_with_this_version() -> None:
    titles = re.findall(r"^(\S+) \(.*\)\n=+$", (CHECKOUT / "CHANGES.rst").read_text(), re.MULTILINE)
    assert titles[0] == saferedisqueue.__version__
