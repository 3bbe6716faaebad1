"""The benchmarks run, lose no item, and draw what they found; how fast it is is not a test."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import docutils.core
import pytest

import servers

CHECKOUT = Path(__file__).parents[1]
SMALLEST = {"own", "streams", "list", "release3"}


@pytest.fixture(scope="module")
def benchmarks() -> Any:
    """The command line of the benchmarks, which are no part of what is installed."""
    sys.path.append(str(CHECKOUT))
    try:
        from benchmarks.__main__ import main
    finally:
        sys.path.remove(str(CHECKOUT))
    return main


@pytest.fixture(scope="module")
def results(benchmarks: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the smallest run, without the sections for many processes."""
    servers.find()  # which skips, where there is none
    path = tmp_path_factory.mktemp("benchmarks") / "results.json"
    sections = ["moves", "wake-up", "in-flight", "memory", "import", "queued"]
    benchmarks(["run", "--tiny", "--quiet", "--out", str(path), "--only", *SMALLEST, *sections])
    return path


def test_every_subject_is_measured(results: Path) -> None:
    found = json.loads(results.read_text())
    assert set(found["subjects"]) == SMALLEST
    assert {each["subject"] for each in found["rounds"]} == SMALLEST
    for name, about in found["subjects"].items():
        assert not [key for key in about if key.startswith(("cannot", "unavailable"))], (
            name,
            about,
        )


def test_no_item_is_lost_or_doubled(results: Path) -> None:
    rounds = json.loads(results.read_text())["rounds"]
    counted = [each for each in rounds if "lost" in each]
    assert {each["subject"] for each in counted} == SMALLEST
    assert [each for each in counted if each["lost"] or each.get("doubled")] == []


def test_every_aim_is_measured_and_the_tables_render(
    results: Path, benchmarks: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmarks(["draw", str(results)])
    drawn = capsys.readouterr().out
    # Those of asyncio compare with a subject that is not in the smallest run.
    assert drawn.count("not measured") == 2
    warnings = io.StringIO()
    settings = {"report_level": 1, "warning_stream": warnings}
    docutils.core.publish_string(drawn, writer="html5", settings_overrides=settings)
    assert warnings.getvalue() == ""


def test_the_picture_is_drawn(results: Path, benchmarks: Any, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "speed.svg"
    benchmarks(["draw", str(results), "--plot", str(picture)])
    assert "<svg" in picture.read_text()


def test_a_missing_item_and_one_that_comes_twice_are_counted(benchmarks: Any) -> None:
    from benchmarks.child import missing

    assert missing([3, 1, 2], range(1, 4)) == {"lost": 0, "doubled": 0}
    assert missing([1, 1, None, 9], range(1, 4)) == {"lost": 2, "doubled": 2}
