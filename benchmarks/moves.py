"""How fast the moves of a queue are, beside a bare ECHO on the same client in the same run.

    python benchmarks/moves.py [--url URL] [--count N] [--rounds N]

Prints for each move the median of the rounds, in items a second and as a multiple of the time of an
ECHO of the same payload; a ratio below 1 is faster than one ECHO an item. The moves take turns in
every round, so that what else the machine does falls on all of them. Compare ratios, not rates.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from saferedisqueue import SafeRedisQueue

PAYLOAD = b"x" * 100


def moves(queue: SafeRedisQueue[bytes], count: int) -> dict[str, Callable[[], object]]:
    """What is measured, in an order in which each finds what it needs."""

    def echo() -> None:
        for _ in range(count):
            queue._redis.echo(PAYLOAD)

    def put() -> None:
        for _ in range(count):
            queue.put(PAYLOAD)

    def get_and_ack() -> None:
        for _ in range(count):
            queue.ack(queue.get(-1).uid or "")

    def put_many() -> None:
        queue.put_many(PAYLOAD for _ in range(count))

    def get_many_and_ack_many() -> None:
        for _ in range(0, count, 100):
            queue.ack_many([item.uid for item in queue.get_many(100, -1)])

    def consume(prefetch: int) -> None:
        with queue.consume(prefetch=prefetch, timeout=-1) as items:
            for _ in items:
                pass

    return {
        "echo": echo,
        "put": put,
        "get, ack": get_and_ack,
        "put_many": put_many,
        "get_many, ack_many by 100": get_many_and_ack_many,
        "(put_many)": put_many,
        "consume": lambda: consume(1),
        "(put_many) ": put_many,
        "consume, prefetch 100": lambda: consume(100),
    }


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--url", default="embedded:")
    parser.add_argument("--count", type=int, default=5000, help="items a round")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args(argv)
    with SafeRedisQueue(url=args.url, name="benchmark") as queue:
        queue.purge()
        measured = moves(queue, args.count)
        seconds: dict[str, list[float]] = {move: [] for move in measured}
        for _ in range(args.rounds):
            for move, run in measured.items():
                start = time.perf_counter()
                run()
                seconds[move].append(time.perf_counter() - start)
            left = queue.stats().total
            if left:
                raise SystemExit(f"{left} items are left: the moves do not add up")
    bare = statistics.median(seconds["echo"])
    print(f"{'':26} {'items/s':>10} {'x echo':>7}   spread")
    for move, times in seconds.items():
        if not move.startswith("("):
            middle = statistics.median(times)
            spread = (max(times) - min(times)) / middle
            print(f"{move:26} {args.count / middle:10,.0f} {middle / bare:7.2f}   {spread:.0%}")


if __name__ == "__main__":
    main()
