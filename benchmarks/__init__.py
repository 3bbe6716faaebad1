"""How fast the queue is, beside other queues on Redis, and what the server and a client can do.

    python -m benchmarks setup                      install the other queues, each on its own
    python -m benchmarks run --out results.json     measure, in turns
    python -m benchmarks draw results.json          tables in RST; --plot draws a picture

The parts:

    subjects.py       what is measured, and what each needs
    peers/            how each is driven: adapters, in short files
    adapter.py        what an adapter may have
    child.py          the process of a subject: does what it is told, and times it
    environments.py   the subjects' own environments and processes
    measure.py        the sections of a run
    crowd.py          those with many clients
    results.py        medians and spread, and the aims
    draw.py           the tables and the picture
"""

import sys
from pathlib import Path

# The servers, the cluster and 3.0.0's commands are those of the tests.
_TESTS = str(Path(__file__).parents[1] / "tests/tools")
if _TESTS not in sys.path:
    sys.path.append(_TESTS)
