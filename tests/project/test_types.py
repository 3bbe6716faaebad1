"""What type checkers make of programs, and that what is declared for them is what there is."""

import ast
import inspect
import shutil
from pathlib import Path

import pytest
import redis
import redis.asyncio

import saferedisqueue
from type_checkers import mypy, pyright, wrong

MODULE = Path(saferedisqueue.__file__)
PROGRAMS = Path(__file__).parent / "programs"


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_what_is_wrong_in_a_program_is_found_and_nothing_else(checker, tmp_path):
    shutil.copy(MODULE, tmp_path)
    for path in PROGRAMS.glob("*.py"):
        shutil.copy(path, tmp_path)
    programs = sorted(path.name for path in PROGRAMS.glob("*.py"))
    assert len(programs) >= 2
    assert checker(tmp_path, *programs) == wrong(tmp_path, *programs)


def declared(name):
    """The keywords in a class of the module that only type checkers see, and in its bases."""
    for node in ast.walk(ast.parse(MODULE.read_text())):
        if isinstance(node, ast.ClassDef) and node.name == name:
            own = {each.target.id for each in node.body if isinstance(each, ast.AnnAssign)}
            return own.union(*(declared(base.id) for base in node.bases))
    return set()


def keywords(function):
    kinds = inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = inspect.signature(function).parameters.items()
    return {name for name, each in parameters if each.kind in kinds}


@pytest.mark.parametrize("flavour", [redis, redis.asyncio])
def test_every_keyword_of_redis_py_is_declared(flavour):
    in_overloads = {"decode_responses"}
    assert keywords(flavour.Redis) - in_overloads - declared("_Keywords") == set()


def test_every_keyword_of_the_queue_is_declared():
    in_overloads = {"client", "serializer"}
    assert keywords(saferedisqueue.SafeRedisQueue) == declared("_Settings") | in_overloads
    assert keywords(saferedisqueue.SafeRedisQueue.put) - {"self", "item"} == declared("_Terms")
    own = keywords(saferedisqueue.SafeRedisQueue.put_many) - {"self", "items"}
    assert own == declared("_ManyTerms")
