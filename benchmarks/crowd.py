"""The sections with many clients: throughput, who starves, who is served first, a cluster."""

from __future__ import annotations

import itertools
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from servers import Server

from .adapter import Place
from .child import missing
from .environments import Process, UnavailableError
from .measure import Bench, unused

if TYPE_CHECKING:
    from topologies import Cluster

ROUNDS = 5  # at most: they take long
APART = 10**9  # between the numbers of two producers
CROWDED = ("own", "streams", "list", "release3_itself", "rpqueue")


def crowds(bench: Bench) -> None:
    """Some producers and as many consumers, all at once, until all is consumed."""
    names = [name for name in bench.having("put", "wait") if name in CROWDED]
    sizes = bench.settings.clients
    with ExitStack() as stack:
        everybody = {name: bench.started(stack, [name] * 2 * max(sizes)) for name in names}
        for size in sizes:
            for number, name in bench.turns(names, "crowd", min(bench.settings.rounds, ROUNDS)):
                with bench.turn(name, "crowd"):
                    bench.emptied(name)
                    crowd = everybody[name][: 2 * size]
                    measured = bench.watched(partial(_crowd, bench, crowd, name))
                    measured["busiest"] = measured["server"]
                    bench.record(number, name, "crowd", clients=size, **measured)


def _crowd(bench: Bench, everybody: list[Process], name: str) -> dict[str, Any]:
    half = len(everybody) // 2
    producers, consumers = everybody[:half], everybody[half:]
    start = time.monotonic()
    for consumer in consumers:
        consumer.tell("collect")
    for number, producer in enumerate(producers):
        producer.tell("produce", bench.settings.crowd_seconds, number * APART)
    put = [producer.hear() for producer in producers]
    bench.processes[name].ask("end", half)
    got = [consumer.hear() for consumer in consumers]
    took = time.monotonic() - start
    taken = [each for consumed in got for each in consumed["got"] if each is not None]
    rest = bench.processes[name].ask("rest")
    expected = [n * APART + k for n, many in enumerate(put) for k in range(many["count"])]
    counts = [len(consumed["got"]) for consumed in got]
    return {
        "seconds": took,
        "count": len(taken),
        "slowest": min(counts) * half / max(sum(counts), 1),
        "clients_cpu": sum(each["cpu"] for each in (*put, *got)),
        **missing([*taken, *rest], expected),
    }


def first_served(bench: Bench) -> None:
    """Consumers that began to wait one after another: which share is served in that order."""
    names = [name for name in bench.having("put", "wait") if name in CROWDED]
    size = max(bench.settings.clients)
    for name in names:
        with ExitStack() as stack:
            waiting = bench.started(stack, [name] * size)
            for number, _ in bench.turns([name], "order", min(bench.settings.rounds, 5)):
                with bench.turn(name, "order"):
                    bench.emptied(name)
                    for before, process in enumerate(waiting):
                        process.tell("receive_when", 1)
                        _until_waiting(bench, before + 1)
                    bench.processes[name].ask("send", size, True)
                    served = [process.hear() for process in waiting]
                    right = sum(a < b for a, b in itertools.pairwise(served))
                    bench.record(number, name, "order", share=right / (size - 1), clients=size)


def _until_waiting(bench: Bench, count: int) -> None:
    end = time.monotonic() + 5
    while int(bench.client.info("clients")["blocked_clients"]) < count:
        if time.monotonic() > end:
            raise UnavailableError("its consumers look again and again, and do not wait in turn")
        time.sleep(0.001)


def cluster(bench: Bench) -> None:
    """Many queues on one server, and on a cluster of three masters, without their replicas."""
    from topologies import Cluster

    most = max(bench.settings.queues)
    with Cluster(bench.binary) as nodes, ExitStack() as stack:
        masters = nodes.nodes[:3]
        names = _spread(nodes, most)
        for replica in nodes.nodes[3:]:  # they would take of the masters' processors
            replica.stop()
        places = {
            1: ([bench.server], bench.place),
            3: (masters, Place(masters[0].port, masters[0].socket, cluster=True)),
        }
        clients = {
            kind: [bench.started(stack, ["own"], place, name=name)[0] for name in names]
            for kind, (_, place) in places.items()
        }
        for queues in bench.settings.queues:
            for number, _ in bench.turns(["own"], "cluster", min(bench.settings.rounds, ROUNDS)):
                for kind, (servers, _) in places.items():
                    measured = _alternate(bench, clients[kind][:queues], servers)
                    bench.record(number, "own", "cluster", masters=kind, queues=queues, **measured)


def _spread(nodes: Cluster, count: int) -> list[str]:
    """Names of so many queues, which are on the masters in turn."""
    names: list[str] = []
    for number in itertools.count():
        name = f"queue-{number}"
        if nodes.master_of(name) is nodes.nodes[len(names) % 3]:
            names.append(name)
            if len(names) == count:
                return names
    raise AssertionError


def _alternate(bench: Bench, clients: list[Process], servers: list[Server]) -> dict[str, Any]:
    before, idle = [_cpu(server) for server in servers], unused()
    for client in clients:
        client.tell("alternate", bench.settings.crowd_seconds)
    done = [client.hear() for client in clients]
    spent = [_cpu(server) - earlier for server, earlier in zip(servers, before)]
    idle = unused() - idle
    total = {key: sum(each[key] for each in done) for key in ("count", "lost", "doubled")}
    return {
        **total,
        "seconds": bench.settings.crowd_seconds,
        "server": sum(spent),
        "busiest": max(spent),
        "clients_cpu": sum(each["cpu"] for each in done),
        "unused": idle,
    }


def _cpu(server: Server) -> float:
    with server.client() as client:
        seen = client.info("cpu")
    return float(seen["used_cpu_user"] + seen["used_cpu_sys"])
