"""All that can happen to small queues, and that every rule of the design is needed for it."""

from __future__ import annotations

import time

import pytest

from explorer import Explorer, ViolationError, World
from pieces import RULES
from worlds import MISSED, WORLDS


@pytest.mark.parametrize("world", WORLDS, ids=lambda world: world.name)
def test_no_state_breaks_an_invariant(world: World) -> None:
    begun = time.process_time()
    states = Explorer(world).explore()
    print(f"{world.name}: {states} states in {time.process_time() - begun:.1f} s")


@pytest.mark.parametrize("rule", RULES)
def test_without_the_rule_an_invariant_is_broken(rule: str) -> None:
    world = next(world for world in WORLDS if world.name == MISSED[rule])
    with pytest.raises(ViolationError) as error:
        Explorer(world, without=rule).explore()
    print(f"without {rule!r}, {RULES[rule]}:{error.value}")
