"""A proxy between a client and its server that loses, cuts, delays and swallows, as told."""

from __future__ import annotations

import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO

from servers import Server

# What can happen to a command. The connection goes with the first three; it stays, and the client
# has to find out by itself, with the others.
DROPS = ("lost command", "lost reply", "cut reply")
SILENCES = ("silence before", "silence after", "late command", "late reply")


class Proxy:
    """Counts the commands that pass, and does to the k-th what it was told by fail_at.

    lost command    the connection is dropped before the server has seen it
    lost reply      after the server has run it
    cut reply       in the middle of the reply
    silence before  from this command on nothing is forwarded on its connection, which stays
    silence after   from its reply on
    late command    nothing is forwarded until release: then the server gets it, late
    late reply      the reply waits for release
    """

    def __init__(self, server: Server) -> None:
        self.delay = 0.0  # seconds, of each reply
        self.server = server
        self.commands: list[bytes] = []  # the names of those since fail_at
        self._at: tuple[int, str] = (-1, "")
        self._released = threading.Event()
        self._lock = threading.Lock()
        self._links: list[_Link] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}"
        self._accepting = _in_thread(self._accept)

    def fail_at(self, k: int, fault: str) -> None:
        """Do this to command k (0 is the next), once."""
        with self._lock:
            self.commands = []
            self._released = threading.Event()
            self._at = (k, fault)

    @property
    def failed(self) -> bool:
        """Whether that command was reached."""
        return len(self.commands) > self._at[0]

    def release(self) -> None:
        """Let what is late arrive, and wait until the server has answered it."""
        self._released.set()
        with self._lock:
            links = list(self._links)
        for link in links:
            assert not link.late or link.answered.wait(60), "the server did not answer"

    @property
    def connections(self) -> int:
        """How many there have been."""
        return len(self._links)

    def go_silent(self) -> None:
        """Forward nothing more on the connections that there are."""
        with self._lock:
            for link in self._links:
                link.silent = True

    def fault_of(self, command: bytes) -> tuple[str, threading.Event]:
        """What is to happen to this command, which counts; and what ends its being late."""
        with self._lock:
            self.commands.append(command)
            k, fault = self._at
            return fault if len(self.commands) == k + 1 else "", self._released

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            link = _Link(self, near)
            with self._lock:
                self._links.append(link)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._released.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listener.close()
        for link in self._links:
            link.close()


class _Link:
    """One connection of the client, and that to the server behind it."""

    def __init__(self, proxy: Proxy, near: socket.socket) -> None:
        self._proxy = proxy
        self._near, self._far = near, socket.socket(socket.AF_UNIX)
        self._far.connect(proxy.server.socket)
        self._awaited: deque[str] = deque()  # the faults of the commands that await their replies
        self.silent = self.late = False
        self.answered = threading.Event()
        self._threads = [_in_thread(self._forward), _in_thread(self._return)]

    def _forward(self) -> None:
        commands = self._near.makefile("rb")
        try:
            while True:
                command = _read(commands)
                fault, released = self._proxy.fault_of(_name_of(command))
                if fault == "lost command":
                    break
                if fault == "silence before":
                    self.silent = True
                if fault == "late command":
                    self.late = self.silent = True
                    released.wait()
                elif self.silent:
                    continue
                if fault == "late reply":
                    self.late, self._released = True, released
                self._awaited.append(fault)
                self._far.sendall(command)
        except (OSError, EOFError):
            pass
        if not self.silent and not self.late:
            self._shut()

    def _return(self) -> None:
        replies = self._far.makefile("rb")
        try:
            while True:
                reply = _read(replies)
                fault = "" if reply.startswith(b">") else self._awaited.popleft()
                if fault == "silence after":
                    self.silent = True
                if fault == "late reply":
                    self._released.wait()
                if fault.startswith("late"):
                    self.answered.set()
                if fault == "cut reply":
                    self._near.sendall(reply[: len(reply) // 2])
                if fault in DROPS:
                    break
                time.sleep(self._proxy.delay)
                if not self.silent:
                    self._near.sendall(reply)
        except (OSError, EOFError):
            pass
        self.answered.set()
        self._shut()

    def _shut(self) -> None:
        for end in (self._near, self._far):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self._shut()
        for thread in self._threads:
            thread.join()
        self._near.close()
        self._far.close()


def _in_thread(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def _read(stream: IO[bytes]) -> bytes:
    """One command or reply, byte for byte, of RESP 2 or 3."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    kind, rest = line[:1], line[1:-2]
    if kind in b"$=!" and rest != b"-1":
        text = stream.read(int(rest) + 2)
        if len(text) < int(rest) + 2:
            raise EOFError
        return line + text
    if kind in b"*~>%" and rest != b"-1":
        count = int(rest) * (2 if kind == b"%" else 1)
        return line + b"".join(_read(stream) for _ in range(count))
    return line


def _name_of(command: bytes) -> bytes:
    return command.split(b"\r\n", 3)[2]
