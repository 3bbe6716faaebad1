"""A proxy between a client and its server that loses, cuts, delays, swallows and adds, as told."""

from __future__ import annotations

import fcntl
import math
import socket
import struct
import termios
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import IO

from helpers import eventually
from servers import Server

# What can happen to a command. The connection goes with the first three; it stays, and the client
# has to find out by itself, with the others.
DROPS = ("lost command", "lost reply", "cut reply")
SILENCES = ("silence before", "silence after", "late command", "late reply")
STALLS = ("half reply", "drip")  # it begins to be answered, and the line stays open
DRIP = 0.2  # seconds between two bytes


class Proxy:
    """Counts the commands that pass, and does to the k-th what it was told by fail_at.

    lost command    the connection is dropped before the server has seen it
    lost reply      after the server has run it
    cut reply       in the middle of the reply
    silence before  from this command on nothing is forwarded on its connection, which stays
    silence after   from its reply on
    late command    nothing is forwarded until release: then the server gets it, late
    late reply      the reply waits for release
    half reply      half of the reply comes, and then nothing more on its connection, which stays
    drip            the reply comes, a byte now and then
    stray reply     before the reply comes what nobody asked for: the bytes of `stray`
    """

    def __init__(self, server: Server) -> None:
        self.delay = 0.0  # seconds, of each reply
        self.rate = math.inf  # bytes a second, of replies
        self.stray = b""
        self.takes_payloads = threading.Event()  # clear: what is large is not read from the client
        self.takes_payloads.set()
        self.server = server
        self.commands: list[bytes] = []  # the names of those since fail_at
        self._at: tuple[int, str] = (-1, "")
        self._each: tuple[str, int] = ("", 0)
        self.befell = threading.Event()
        self.silent = False  # on connections to come
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

    def befall(self, fault: str, size: int = 0) -> None:
        """Do this to each reply of at least so many bytes from now on; befell is set by the first.

        What ends it is come_back.
        """
        with self._lock:
            self._each = (fault, size)
            self.befell.clear()

    def go_silent(self, for_good: bool = False) -> None:
        """Forward nothing more on the connections that there are; nor on new ones if for good."""
        with self._lock:
            self.silent = self.silent or for_good
            for link in self._links:
                link.silent = True

    def come_back(self) -> None:
        """All is well with the connections to come."""
        with self._lock:
            self.silent, self._each = False, ("", 0)

    def drop(self) -> None:
        """Cut the connections that there are."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.shut()

    @property
    def connections(self) -> int:
        """How many were opened until now."""
        with self._lock:
            return len(self._links)

    def say(self, data: bytes) -> None:
        """Send the client what it did not ask for, on each connection; it has come on return."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.say(data)

    def fault_of(self, command: bytes) -> tuple[str, threading.Event]:
        """What is to happen to this command, which counts; and what ends its being late."""
        with self._lock:
            self.commands.append(command)
            k, fault = self._at
            return fault if len(self.commands) == k + 1 else "", self._released

    def fault_of_reply(self, reply: bytes) -> str:
        with self._lock:
            fault, size = self._each
            if not fault or len(reply) < size:
                return ""
            self.befell.set()
            return fault

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                self._links.append(_Link(self, near))

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exc: object) -> None:
        self._released.set()
        self.takes_payloads.set()
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
        self.silent, self.late = proxy.silent, False
        self.answered, self._closed = threading.Event(), threading.Event()
        self._threads = [_in_thread(self._forward), _in_thread(self._return)]

    def say(self, data: bytes) -> None:
        try:
            self._near.sendall(data)
        except OSError:  # the client has closed it
            return
        eventually(lambda: self._has_arrived() or not self._threads[0].is_alive())

    def _has_arrived(self) -> bool:
        """Whether the other end has all that was sent, read or not."""
        unsent = fcntl.ioctl(self._near, termios.TIOCOUTQ, bytes(4))
        return struct.unpack("i", unsent) == (0,)

    def _forward(self) -> None:
        commands = self._near.makefile("rb")
        try:
            while True:
                command = _read(commands, self._proxy.takes_payloads.wait)
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
            self.shut()

    def _return(self) -> None:
        replies = self._far.makefile("rb")
        try:
            while True:
                reply = _read(replies)
                pushed = reply.startswith(b">")
                fault = "" if pushed else self._awaited.popleft()
                if not (pushed or fault):
                    fault = self._proxy.fault_of_reply(reply)
                if fault == "silence after":
                    self.silent = True
                if fault == "late reply":
                    self._released.wait()
                if fault.startswith("late"):
                    self.answered.set()
                if fault == "stray reply":
                    self._near.sendall(self._proxy.stray)
                if fault == "cut reply":
                    self._near.sendall(reply[: len(reply) // 2])
                if fault in DROPS:
                    break
                time.sleep(self._proxy.delay)
                if not self.silent:
                    self._give(reply, fault)
        except (OSError, EOFError):
            pass
        self.answered.set()
        self.shut()

    def _give(self, reply: bytes, fault: str) -> None:
        if fault == "half reply":
            self.silent = True
            self._near.sendall(reply[: len(reply) // 2])
        elif fault == "drip":
            self._pace(reply, 1, 1 / DRIP)
        elif self._proxy.rate == math.inf:
            self._near.sendall(reply)
        else:
            self._pace(reply, 10_000, self._proxy.rate)

    def _pace(self, reply: bytes, step: int, rate: float) -> None:
        """Give it in pieces, so many bytes a second."""
        begun = time.monotonic()
        for at in range(0, len(reply), step):
            self._closed.wait(max(begun + at / rate - time.monotonic(), 0))
            self._near.sendall(reply[at : at + step])

    def shut(self) -> None:
        self._closed.set()
        for end in (self._near, self._far):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        self.shut()
        for thread in self._threads:
            thread.join()
        self._near.close()
        self._far.close()


def _in_thread(function: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def _read(stream: IO[bytes], before_large: Callable[[], object] = lambda: None) -> bytes:
    """One command or reply, byte for byte, of RESP 2 or 3."""
    line = stream.readline()
    if not line.endswith(b"\r\n"):
        raise EOFError
    kind, rest = line[:1], line[1:-2]
    if kind in b"$=!" and rest != b"-1":
        if len(rest) > 5:
            before_large()
        text = stream.read(int(rest) + 2)
        if len(text) < int(rest) + 2:
            raise EOFError
        return line + text
    if kind in b"*~>%" and rest != b"-1":
        count = int(rest) * (2 if kind == b"%" else 1)
        return line + b"".join(_read(stream, before_large) for _ in range(count))
    return line


def _name_of(command: bytes) -> bytes:
    return command.split(b"\r\n", 3)[2]
