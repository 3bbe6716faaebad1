"""The benchmarks run, lose no item, and draw what they found; how fast it is is not a test."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from pathlib import Path
from typing import Any

import docutils.core
import pytest

import servers

CHECKOUT = Path(__file__).parents[2]
SMALLEST = {"own", "streams", "list", "release3"}
# Those with many processes take longer: one subject will do.
MANY = ["worker", "crowd", "order", "cluster"]


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The command line of the benchmarks, which are no part of what is installed."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(CHECKOUT)])
    from benchmarks import __main__

    return __main__


def test_the_smallest_run_loses_nothing_and_is_drawn(
    benchmarks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.find()  # which skips where there is none
    results, picture = tmp_path / "results.json", tmp_path / "speed.svg"
    sections = set(benchmarks.SECTIONS) - set(MANY)
    found = run(benchmarks, results, *SMALLEST, *sections)
    assert {each["subject"] for each in found if "lost" in each} == SMALLEST

    drawing = ["--plot", str(picture)] if importlib.util.find_spec("matplotlib") else []
    benchmarks.main(["draw", str(results), *drawing])
    drawn = capsys.readouterr().out
    # Those of asyncio, and of a bare ECHO, compare with subjects that are not in the smallest run.
    assert drawn.count("not measured") == 8
    assert warnings_of(drawn) == ""
    assert not drawing or "<svg" in picture.read_text()
    # Each step of the queue ran one script, in which are commands.
    steps = [each for each in found if each["move"] == "step" and each["subject"] == "own"]
    assert [each["ran"]["evalsha"][0] for each in steps] == [each["count"] for each in steps]
    assert "a lost reply does no harm" in drawn


def run(benchmarks: Any, results: Path, *what: str) -> list[dict[str, Any]]:
    """What a run found; nothing is lost, doubled or left out."""
    benchmarks.main(["run", "--tiny", "--quiet", "--out", str(results), "--only", *what])
    found = json.loads(results.read_text())
    reasons = [key for about in found["subjects"].values() for key in about if "cannot" in key]
    assert reasons == []
    rounds: list[dict[str, Any]] = found["rounds"]
    assert [each for each in rounds if each.get("lost") or each.get("doubled")] == []
    return rounds


def test_many_processes_lose_nothing_and_are_drawn(
    benchmarks: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    servers.find()
    results = tmp_path / "results.json"
    found = run(benchmarks, results, "own", *MANY)
    counted = {each["move"] for each in found if "lost" in each}
    assert counted == {"worker", "crowd", "cluster"}
    assert {each["masters"] for each in found if each["move"] == "cluster"} == {1, 3}
    benchmarks.main(["draw", str(results)])
    assert warnings_of(capsys.readouterr().out) == ""


def test_a_process_that_hangs_ends_the_run(benchmarks: Any, tmp_path: Path) -> None:
    from benchmarks.adapter import Place
    from benchmarks.environments import HungError, Process

    with (
        (tmp_path / "errors").open("w") as errors,
        Process("own", Place(1, ""), tmp_path, errors) as process,
    ):
        process.opened()
        with pytest.raises(HungError):
            process.hear(0.1)  # it was told nothing


def warnings_of(text: str) -> str:
    """What docutils complains of."""
    warnings = io.StringIO()
    settings = {"report_level": 1, "warning_stream": warnings}
    docutils.core.publish_string(text, writer="html5", settings_overrides=settings)
    return warnings.getvalue()


def test_what_is_missing_and_what_comes_twice_is_counted(benchmarks: Any) -> None:
    from benchmarks.child import missing

    assert missing([3, 1, 2], range(1, 4)) == {"lost": 0, "doubled": 0}
    assert missing([1, 1, None, 9], range(1, 4)) == {"lost": 2, "doubled": 2}
