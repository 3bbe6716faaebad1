"""The sections with many clients: throughput, who starves, who is served first, a cluster."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from functools import partial
from typing import Any

from helpers import eventually

from .adapter import Place
from .child import missing
from .environments import Process
from .measure import Bench

APART = 10**9  # between the numbers of two producers
CROWDED = ("own", "streams", "list", "release3_itself", "rpqueue")


def crowds(bench: Bench) -> None:
    """1 to 16 producers and as many consumers, all at once, until all is consumed."""
    names = [name for name in bench.having("put", "wait") if name in CROWDED]
    for size in bench.settings.clients:
        what = f"{size} to {size}"
        with ExitStack() as stack:
            everybody = {name: bench.started(stack, [name] * 2 * size) for name in names}
            for number, name in bench.turns(names, what, min(bench.settings.rounds, 3)):
                with bench.turn(name, what):
                    bench.emptied(name)
                    measured = bench.watched(partial(_crowd, bench, everybody[name], name))
                    measured["server_share"] = measured["server"] / measured["seconds"]
                    bench.record(number, name, "crowd", clients=size, **measured)


def _crowd(bench: Bench, everybody: list[Process], name: str) -> dict[str, Any]:
    half = len(everybody) // 2
    producers, consumers = everybody[:half], everybody[half:]
    seconds = bench.settings.crowd_seconds
    start = time.monotonic()
    for consumer in consumers:
        consumer.tell("collect")
    for number, producer in enumerate(producers):
        producer.tell("produce", seconds, number * APART)
    put = [producer.hear() for producer in producers]
    bench.processes[name].ask("end", half)
    got = [consumer.hear() for consumer in consumers]
    took = time.monotonic() - start
    taken = [each for numbers in got for each in numbers if each is not None]
    rest = bench.processes[name].ask("rest")
    expected = [n * APART + k for n, many in enumerate(put) for k in range(many)]
    counts = sorted(map(len, got))
    return {
        "seconds": took,
        "count": len(taken),
        "slowest": counts[0] * half / max(sum(counts), 1),
        **missing([*taken, *rest], expected),
    }


def first_served(bench: Bench) -> None:
    """Consumers that began to wait one after another: which share is served in that order."""
    names = [name for name in bench.having("put", "wait") if name in CROWDED]
    size = max(min(8, *bench.settings.clients[1:]), 2)
    for name in names:
        with ExitStack() as stack:
            waiting = bench.started(stack, [name] * size)
            for number, _ in bench.turns([name], "order", min(bench.settings.rounds, 5)):
                with bench.turn(name, "order"):
                    bench.emptied(name)
                    for before, process in enumerate(waiting):
                        process.tell("receive_when", 1)
                        eventually(partial(_waiting, bench, before + 1))
                    bench.processes[name].ask("send", size, True)
                    served = [process.hear() for process in waiting]
                    right = sum(a < b for a, b in itertools.pairwise(served))
                    bench.record(number, name, "order", share=right / (size - 1), clients=size)


def _waiting(bench: Bench, count: int) -> bool:
    return int(bench.client.info("clients")["blocked_clients"]) >= count


def cluster(bench: Bench) -> None:
    """Many queues on one server, and on a cluster of three masters."""
    from topologies import Cluster

    queues = bench.settings.queues
    with Cluster(bench.binary) as nodes:
        places = {
            "one": bench.place,
            "three": Place(nodes.nodes[0].port, nodes.nodes[0].socket, cluster=True),
        }
        with ExitStack() as stack:
            crowd = {
                kind: [
                    bench.started(stack, ["own"], place, name=f"queue-{number}")[0]
                    for number in range(queues)
                ]
                for kind, place in places.items()
            }
            for number, _ in bench.turns(["own"], "cluster", min(bench.settings.rounds, 3)):
                for kind, members in crowd.items():
                    for member in members:
                        member.tell("alternate", bench.settings.crowd_seconds)
                    counts = [member.hear() for member in members]
                    bench.record(
                        number, "own", "cluster", masters=kind, queues=queues, count=sum(counts),
                        seconds=bench.settings.crowd_seconds,
                    )  # fmt: skip
