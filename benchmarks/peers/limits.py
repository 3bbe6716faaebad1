"""What the server, a socket and redis-py can do: nothing on top of them can be faster."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from typing import Any

import redis

from ..adapter import FEW, HUNDRED, Adapter, Place
from .own import Blocking
from .replay import recorded, recorded_steps


class Tcp(Adapter):
    """ECHO by hand over a bare socket."""

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.socket = self.connect()

    def connect(self) -> socket.socket:
        connection = socket.create_connection((self.place.host, self.place.port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def echo(self, payload: str) -> None:
        self.socket.sendall(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%s\r\n" % (len(payload), payload.encode()))
        self.socket.recv(1000)


class Unix(Tcp):
    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.place.socket)
        return connection


class RedisBenchmark(Adapter):
    """The server's own, with one connection; it tells its own time."""

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.program = shutil.which("redis-benchmark") or shutil.which("valkey-benchmark")
        if self.program is None:
            raise FileNotFoundError("neither redis-benchmark nor valkey-benchmark is here")

    def echoes(self, count: int) -> float:
        where = ["-h", self.place.host, "-p", str(self.place.port)]
        how = ["-c", "1", "-n", str(count), "--csv", "ECHO", "x" * 100]
        command = [str(self.program), *where, *how]
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        rate = said.stdout.splitlines()[-1].split('","')[1]
        return count / float(rate)


class _Client(Adapter):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.client = redis.Redis(host=place.host, port=place.port)


class RedisPy(_Client):
    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        self.echo = self.client.echo


class EvalSha(_Client):
    """A script that does nothing, with the keys and arguments of a put; or of each of its steps."""

    def __init__(self, place: Place, name: str) -> None:
        super().__init__(place, name)
        ((_, _, keys, *rest),) = recorded(place, name, 1)[0]  # what a put sends
        self.sha = self.client.script_load("return 1")
        self.hundred = self.client.script_load(
            "for _ = 1, 100 do redis.call('EXISTS', KEYS[1]) end"
        )
        self.rest = [int(keys), *rest]
        self.sent: list[tuple[str, list[list[bytes]]]] = []

    def echo(self, payload: str) -> None:
        self.client.execute_command("EVALSHA", self.sha, *self.rest)

    def steps(self, payload: str) -> Iterator[tuple[str, int]]:
        self.sent = self.sent or recorded_steps(self.place, self.name, Blocking, payload)
        yield "", 1
        for title, rests in self.sent:
            for rest in rests:
                self.client.execute_command("EVALSHA", self.sha, *rest)
            yield title, len(rests)
        for _ in range(FEW):
            self.client.execute_command("EVALSHA", self.hundred, 1, self.name)
        yield HUNDRED, FEW


class Variadic(_Client):
    """The fastest that a hundred can go in and out: nothing is kept of what is out."""

    def put_many(self, payloads: list[str]) -> None:
        self.client.lpush(self.name, *payloads)

    def take_many(self, count: int) -> Any:
        return self.client.rpop(self.name, count)
