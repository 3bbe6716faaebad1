"""Deployments for the tests: bad lines, and servers replicated, under Sentinel, in a cluster."""

from __future__ import annotations

import os
import signal
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import redis

from helpers import eventually
from servers import Server, free_port

# A replica is fed at once, not after the five seconds in which others might come.
QUICK = ("--repl-diskless-sync-delay", "0")


def hang(server: Server) -> None:
    """Stop the server as a hung machine does: its connections stay open, and nobody answers."""
    os.kill(server.pid, signal.SIGSTOP)


def go_on(server: Server) -> None:
    os.kill(server.pid, signal.SIGCONT)


@contextmanager
def stranger(binary: Path) -> Iterator[Server]:
    """A server that listens where a connection goes of which nothing is told.

    That is a port which nobody has, and not 6379: what runs there is none of the tests'.
    """
    init = redis.Connection.__init__
    with Server(binary, port=free_port()) as running:

        def lead_astray(connection: Any, *args: Any, **kw: Any) -> None:
            if len(args) < 2:
                kw.setdefault("port", running.port)
            init(connection, *args, **kw)

        redis.Connection.__init__ = lead_astray
        try:
            assert redis.Connection().port == running.port
            yield running
        finally:
            redis.Connection.__init__ = init


def elsewhere(step: Callable[[], Any]) -> Future[Any]:
    """The step's result, to come from another thread; nobody else may use its face meanwhile."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(step())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return result


class Relay:
    """Between a replica and its primary; may go silent on the connections it has."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._links: list[socket.socket] = []
        self._silent: set[socket.socket] = set()
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def go_silent(self) -> None:
        self._silent.update(self._links)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            try:
                far.connect(self._server.socket)
            except OSError:  # as the server would refuse it
                near.close()
                far.close()
                continue
            self._links += [near, far]
            for pair in ((near, far), (far, near)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if source not in self._silent:
                    target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *exc: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in (self._listener, *self._links):
            each.close()


class _Deployment:
    """Servers that end together."""

    def __init__(self, binary: Path, folder: Path | None = None) -> None:
        self.binary, self.folder = binary, folder
        self._stack = ExitStack()
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise

    def _start(self) -> None:
        raise NotImplementedError

    def _server(self, *options: str, binary: Path | None = None, port: int = 0) -> Server:
        port = port or free_port()
        server = Server(binary or self.binary, None, *QUICK, *options, port=port)
        return self._stack.enter_context(server)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()


class Replicated(_Deployment):
    """A primary and a replica that is in step with it."""

    def _start(self) -> None:
        self.primary = self._server()
        self.replica = self._server("--replicaof", "127.0.0.1", str(self.primary.port))
        eventually(lambda: is_linked(self.replica))


class Watched(Replicated):
    """A primary and a replica, and three sentinels (in the folder) that know each other."""

    name = "primary-of-the-tests"

    def _start(self) -> None:
        super()._start()
        self.sentinels = [self._sentinel() for _ in range(3)]
        eventually(lambda: all(map(self._knows_all, self.sentinels)))

    def _sentinel(self) -> Server:
        # A sentinel keeps what it knows in its configuration file, so there must be one.
        folder = Path(mkdtemp(dir=self.folder))
        configuration, program = folder / "sentinel.conf", folder / "sentinel"
        configuration.write_text(
            f"sentinel monitor {self.name} 127.0.0.1 {self.primary.port} 2\n"
            f"sentinel down-after-milliseconds {self.name} 1000\n"
            f"sentinel failover-timeout {self.name} 3000\n"
        )
        program.write_text(f'#!/bin/sh\nexec {self.binary} {configuration} "$@" --sentinel\n')
        program.chmod(stat.S_IRWXU)
        return self._server(binary=program)

    def _knows_all(self, sentinel: Server) -> bool:
        reply = ask(sentinel, "SENTINEL", "MASTER", self.name)
        about = dict(zip(reply[::2], reply[1::2]))
        return (int(about["num-other-sentinels"]), int(about["num-slaves"])) == (2, 1)

    @property
    def addresses(self) -> list[tuple[str, int]]:
        return [("127.0.0.1", sentinel.port) for sentinel in self.sentinels]


class Cluster(_Deployment):
    """Three masters and a replica of each."""

    def _start(self) -> None:
        self.nodes = [self._node() for _ in range(6)]
        masters, replicas = self.nodes[:3], self.nodes[3:]
        for number, node in enumerate(self.nodes):
            ask(node, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for master, slots in zip(masters, (range(5500), range(5500, 11000), range(11000, 16384))):
            ask(master, "CLUSTER", "ADDSLOTS", *slots)
        for other in self.nodes[1:]:
            ask(self.nodes[0], "CLUSTER", "MEET", "127.0.0.1", other.port)
        eventually(lambda: all(_cluster(n)["cluster_known_nodes"] == "6" for n in self.nodes))
        for master, replica in zip(masters, replicas):
            ask(replica, "CLUSTER", "REPLICATE", identity(master))
        eventually(lambda: all(_cluster(node)["cluster_state"] == "ok" for node in self.nodes))
        eventually(lambda: all(is_linked(replica) for replica in replicas))
        eventually(lambda: len(self._masters()) == 3)

    def _node(self) -> Server:
        while not _is_free((port := free_port()) + 10_000):  # where the cluster's bus is
            pass
        options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1500")
        return self._server(*options, port=port)

    def _masters(self, of: Server | None = None) -> list[tuple[int, int, int]]:
        """First and last slot of each range, and the port of its master."""
        reply = ask(of or self.nodes[0], "CLUSTER", "SLOTS")
        return [(first, last, master[1]) for first, last, master, *_ in reply]

    def slot_of(self, key: str) -> int:
        slot: int = ask(self.nodes[0], "CLUSTER", "KEYSLOT", key)
        return slot

    def master_of(self, key: str) -> Server:
        """The node that has the slot of a key, as the first node sees it."""
        slot = self.slot_of(key)
        (port,) = (port for first, last, port in self._masters() if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def other_master(self, than: Server) -> Server:
        ports = {port for _, _, port in self._masters()} - {than.port}
        return next(node for node in self.nodes if node.port in ports)

    def replica_of(self, master: Server) -> Server:
        return self.nodes[self.nodes.index(master) + 3]


def _is_free(port: int) -> bool:
    """Whether a server can listen on it, as far as can be told before."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except (OSError, OverflowError):
        return False
    return True


def ask(server: Server, *command: Any) -> Any:
    """What a server answers to a command, as text."""
    with server.client(decode_responses=True, protocol=2) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command)


def info(server: Server, section: str = "default") -> dict[str, Any]:
    with server.client() as client:
        found: dict[str, Any] = client.info(section)
    return found


def identity(node: Server) -> str:
    found: str = ask(node, "CLUSTER", "MYID")
    return found


def _cluster(node: Server) -> dict[str, str]:
    lines = ask(node, "CLUSTER", "INFO").split()
    return dict(line.split(":", 1) for line in lines)


def is_linked(replica: Server) -> bool:
    return info(replica, "replication")["master_link_status"] == "up"
