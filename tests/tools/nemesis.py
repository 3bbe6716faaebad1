"""The faults of a soak: what befalls processes, connections and the server."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from helpers import eventually
from history import Recorder
from saferedisqueue import SafeRedisQueue
from servers import Server
from workers import CONSUMERS, NAME, Settings, spawn


@dataclass
class Process:
    kind: str
    who: str
    pid: int

    @property
    def consumes(self) -> bool:
        return self.kind in CONSUMERS


class Fleet:
    """The processes that run; one that ends by a fault is started anew."""

    def __init__(self, settings: Settings, record: Recorder, kinds: tuple[str, ...]) -> None:
        self.settings, self.record = settings, record
        self.running: list[Process] = []
        self._count = 0
        self._guard = spawn("server", "server", settings)
        for kind in kinds:
            self.start(kind)

    def start(self, kind: str) -> None:
        self._count += 1
        who = f"{kind}.{self._count}"
        self.running.append(Process(kind, who, spawn(kind, who, self.settings)))

    def end(self, processes: list[Process], number: signal.Signals = signal.SIGTERM) -> None:
        """End processes, and wait until they are gone."""
        for process in processes:
            os.kill(process.pid, number)
        for process in processes:
            self._wait(process)
            self.running.remove(process)

    def _wait(self, process: Process) -> None:
        deadline = time.monotonic() + 30
        while os.waitpid(process.pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                self.record("amiss", process.who, "did not end when told to")
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)
                return
            time.sleep(0.01)

    def close(self) -> None:
        """Kill what still runs."""
        self.end(list(self.running), signal.SIGKILL)
        os.kill(self._guard, signal.SIGKILL)
        os.waitpid(self._guard, 0)


class Nemesis:
    """Brings about faults of the given names, one after another."""

    def __init__(self, server: Server, fleet: Fleet, settings: Settings, seed: str) -> None:
        self.server, self.fleet, self.settings = server, fleet, settings
        self.random = random.Random(seed)
        self.record = Recorder(settings.directory, "nemesis")

    def bring_about(self, name: str) -> None:
        (FAULTS | CLUSTER_FAULTS)[name](self, name)

    def _hit(self, name: str, do: Callable[[], Any], whom: str = "*") -> None:
        self.record("fault", name, whom)
        do()
        self.record("over", name, whom)

    def _one(self, consumes: bool) -> Process:
        return self.random.choice([p for p in self.fleet.running if p.consumes == consumes])

    def _admin(self, *commands: tuple[Any, ...]) -> None:
        with self.server.client() as client:
            for command in commands:
                client.execute_command(*command)

    # -- processes

    def _end(self, name: str, process: Process, number: signal.Signals) -> None:
        self._hit(name, lambda: self.fleet.end([process], number), process.who)
        self.fleet.start(process.kind)

    def kill_consumer(self, name: str) -> None:
        self._end(name, self._one(consumes=True), signal.SIGKILL)

    def term_consumer(self, name: str) -> None:
        self._end(name, self._one(consumes=True), signal.SIGTERM)

    def kill_producer(self, name: str) -> None:
        self._end(name, self._one(consumes=False), signal.SIGKILL)

    def stop_consumer(self, name: str) -> None:
        """It sleeps for three leases, and goes on as if nothing had happened."""
        process = self._one(consumes=True)

        def stop() -> None:
            os.kill(process.pid, signal.SIGSTOP)
            time.sleep(3 * self.settings.lease)
            os.kill(process.pid, signal.SIGCONT)

        self._hit(name, stop, process.who)

    # -- the server

    def kill_server(self, name: str) -> None:
        def kill() -> None:
            self.server.kill()
            time.sleep(self.random.uniform(0, 0.5))
            self.server.start()

        self._hit(name, kill)

    def restart_server(self, name: str) -> None:
        def restart() -> None:
            self.server.stop()
            self.server.start()

        self._hit(name, restart)

    def cut_connections(self, name: str) -> None:
        self._hit(name, lambda: self._admin(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")))

    def cut_again(self, name: str) -> None:
        """Each 20 ms, for some time: what connects anew is cut too."""

        def cut() -> None:
            until = time.monotonic() + self.random.uniform(0.1, self.settings.lease)
            while time.monotonic() < until:
                self._admin(("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
                time.sleep(0.02)

        self._hit(name, cut)

    def fail_over(self, name: str) -> None:
        """In a cluster: the replica takes over, with all that was put, and later gives it back."""

        def swap() -> None:
            with self.server.client() as client:
                port = client.info("replication")["slave0"]["port"]
            with redis.Redis(port=port) as replica, self.server.client() as master:
                for next_one in (replica, master):
                    _take_over(next_one)
                    time.sleep(self.random.uniform(0, self.settings.lease))

        self._hit(name, swap)

    def flush_scripts(self, name: str) -> None:
        self._hit(name, lambda: self._admin(("SCRIPT", "FLUSH")))

    def pause_clients(self, name: str) -> None:
        seconds = self.random.uniform(0.1, 1.5 * self.settings.lease)

        def pause() -> None:
            self._admin(("CLIENT", "PAUSE", int(seconds * 1000)))
            time.sleep(seconds)

        self._hit(name, pause)

    def read_only(self, name: str) -> None:
        """For a while a replica of nobody, as the old primary after a fail-over."""

        def demote() -> None:
            self._admin(("REPLICAOF", "127.0.0.1", 1))
            time.sleep(self.random.uniform(0.1, self.settings.lease))
            self._admin(("REPLICAOF", "NO", "ONE"))

        self._hit(name, demote)

    def full_memory(self, name: str) -> None:
        """Until the consumers have emptied the queue, which they must be able to."""

        def fill() -> None:
            self._admin(("CONFIG", "SET", "maxmemory", 1))
            deadline = time.monotonic() + 60
            with SafeRedisQueue(url=self.server.url, name=NAME) as queue:
                while queue.stats().total:
                    if time.monotonic() > deadline:
                        self.record("amiss", "the full server could not be emptied")
                        break
                    time.sleep(0.05)
            self._admin(("CONFIG", "SET", "maxmemory", 0))

        self._hit(name, fill)


FAULTS: dict[str, Callable[[Nemesis, str], None]] = {
    "kill-consumer": Nemesis.kill_consumer,
    "stop-consumer": Nemesis.stop_consumer,
    "term-consumer": Nemesis.term_consumer,
    "kill-producer": Nemesis.kill_producer,
    "kill-server": Nemesis.kill_server,
    "restart-server": Nemesis.restart_server,
    "cut-connections": Nemesis.cut_connections,
    "cut-again": Nemesis.cut_again,
    "flush-scripts": Nemesis.flush_scripts,
    "pause-clients": Nemesis.pause_clients,
    "read-only": Nemesis.read_only,
    "full-memory": Nemesis.full_memory,
}
# Of a cluster alone.
CLUSTER_FAULTS: dict[str, Callable[[Nemesis, str], None]] = {"fail-over": Nemesis.fail_over}


def _take_over(node: redis.Redis) -> None:
    """Have a replica of a cluster be its master, when it has all that the master has."""

    def asks() -> bool:
        if node.info("replication")["role"] == "master":
            return True
        with contextlib.suppress(redis.ResponseError):  # not yet, after the one before
            node.execute_command("CLUSTER", "FAILOVER")
        time.sleep(0.1)
        return False

    eventually(asks)
