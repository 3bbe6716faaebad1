"""The benchmark runs, and its moves add up; how fast they are is not a test."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import redis

from servers import Server

MOVES = Path(__file__).parents[1] / "benchmarks" / "moves.py"


def test_the_benchmark_of_the_moves_runs(
    server: Server, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    runpy.run_path(str(MOVES))["main"](["--url", server.url, "--count", "100", "--rounds", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line[:10].strip() for line in lines[1:]] == [
        "echo",
        "put",
        "get, ack",
        "put_many",
        "get_many,",
        "consume",
        "consume, p",
    ]
