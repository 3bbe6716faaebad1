"""The model is about this code: some random traces on both, the same on every run."""

from __future__ import annotations

import pytest
import redis

from conformance import STEPS, Trace


@pytest.mark.parametrize("seeds", [range(n, n + 10) for n in range(0, 40, 10)], ids=str)
def test_the_scripts_do_what_the_model_does(client: redis.Redis, seeds: range) -> None:
    for seed in seeds:
        client.flushall()
        Trace(client, seed).run(STEPS)
