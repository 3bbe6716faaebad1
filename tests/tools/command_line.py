"""Runs the command line as a user does: as a process, with pipes or a terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

import saferedisqueue
from helpers import eventually
from saferedisqueue import SafeRedisQueue

MODULE = str(Path(saferedisqueue.__file__).resolve())
PROGRAM = ("-m", "saferedis")
SIGNALS = (signal.SIGINT, signal.SIGTERM)

Queue = SafeRedisQueue[Any]


class CommandLine:
    """Runs commands as processes, with the URL given in the environment.

    program: what Python is to run, the package or a copy of the module.
    """

    def __init__(self, url: str | None, *program: str) -> None:
        self.program = program or PROGRAM
        self.environment = dict(os.environ)
        for name in ("SAFEREDISQUEUE_URL", "REDIS_URL", "PYTHONUNBUFFERED"):
            self.environment.pop(name, None)
        if url is not None:
            self.environment["SAFEREDISQUEUE_URL"] = url

    @contextmanager
    def start(self, *arguments: str, **streams: Any) -> Iterator[subprocess.Popen[bytes]]:
        """The running command, all streams piped; killed in the end if it is still there."""
        for stream in ("stdin", "stdout", "stderr"):
            streams.setdefault(stream, subprocess.PIPE)
        command = [sys.executable, *self.program, *arguments]
        with subprocess.Popen(command, env=self.environment, **streams) as process:
            try:
                yield process
            finally:
                process.kill()

    def run(
        self, *arguments: str, put: bytes = b"", status: int = 0, said: str = "", **streams: Any
    ) -> bytes:
        """What the command printed; its exit status and what it said on stderr are checked."""
        with self.start(*arguments, **streams) as process:
            out, err = process.communicate(put if process.stdin else None, timeout=60)
        errors = "" if err is None else err.decode()
        assert process.returncode == status, errors
        assert re.fullmatch(said, errors.strip()), errors
        return out or b""

    def sh(self, script: str) -> tuple[str, str]:
        """What a shell printed and said that runs the command as "$@"."""
        done = subprocess.run(
            ["sh", "-c", script, "sh", sys.executable, *self.program],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        return done.stdout, done.stderr


def stalled(process: subprocess.Popen[bytes]) -> None:
    """Wait until the process writes to its standard output more than we have read."""
    assert process.stdout
    pipe = process.stdout.fileno()
    eventually(lambda: any(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))))


def waiting(client: redis.Redis) -> None:
    """Wait until a consumer waits for an item."""
    eventually(lambda: client.info("clients")["blocked_clients"])


def payloads(queue: Queue) -> list[bytes]:
    """The payloads of all items that are ready."""
    got = iter(queue.get_nowait, (None, None))
    return [item.payload for item in got]


@contextmanager
def terminal(typed: bytes = b"") -> Iterator[tuple[int, Callable[[], str]]]:
    """A terminal's descriptor for a process, and what was written to it so far."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    os.write(ours, typed)

    def shown() -> str:
        os.close(theirs)
        text = b""
        try:
            while block := os.read(ours, 65536):
                text += block
        except OSError:  # Linux reports the other end closed as an I/O error
            pass
        return text.decode()

    try:
        yield theirs, shown
    finally:
        os.close(ours)
