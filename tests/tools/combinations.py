"""Which server, settings of a client and face are tried together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

from helpers import FACES, SETTINGS
from servers import ALL

AXES = ("server", "settings", "face")
Row: TypeAlias = "tuple[str | None, str, str]"

# On one server, the first there is: any two of protocol, decoding and face.
FIRST: tuple[Row, ...] = (
    (None, "resp2", "blocking"),
    (None, "resp3-decode", "blocking"),
    (None, "resp2-decode", "asyncio"),
    (None, "resp3", "asyncio"),
)
# Any two of server, protocol, decoding and face.
PAIRS: tuple[Row, ...] = (
    ("valkey-9.1", "resp2", "blocking"),
    ("valkey-9.1", "resp3-decode", "asyncio"),
    ("redis-8.2", "resp3", "blocking"),
    ("redis-8.2", "resp2-decode", "asyncio"),
    ("redis-7.0", "resp3-decode", "blocking"),
    ("redis-7.0", "resp2", "asyncio"),
    ("redis-6.2", "resp2-decode", "blocking"),
    ("redis-6.2", "resp3", "asyncio"),
)
ROWS: dict[str, tuple[Row, ...]] = {
    "first": FIRST,
    "pairs": PAIRS,
    "all": tuple(itertools.product(ALL, SETTINGS, FACES)),
}


def combinations(how: str, names: Sequence[str]) -> list[Any]:
    """What is to be tried of those axes (in their order) of which a test has the names."""
    wanted = [AXES.index(name) for name in names]
    return list(dict.fromkeys(tuple(row[axis] for axis in wanted) for row in ROWS[how]))
