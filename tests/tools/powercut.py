"""A server whose machine can lose its power: what was written and not synced is gone then.

What was synced is observed, not assumed: strace notes every write, sync and rename of the server.
It also plays a disk that from some moment on completes no sync, so that a cut has much to take.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import servers
from topologies import info

# The server dies with strace, so that it is not left behind when the tests are killed. The delay of
# a sync, in microseconds, outlasts any test.
TRACED = """#!/bin/sh
exec {strace} -f -y -qq -s 0 -e signal=none -o {trace} \\
    -e trace=write,writev,fsync,fdatasync,'?rename,?renameat,?renameat2' {disk} \\
    setpriv --pdeathsig KILL {binary} "$@"
"""
STUCK = "-e inject=fdatasync:delay_enter=600000000:when={}+"

# "17 write(5</path>, ...) = 9", which may come in two lines, the first ending in <unfinished ...>
# and the second beginning with "17 <... write resumed>".
CALL = re.compile(r"(?P<thread>\d+) +(?P<call>\w+)\((?:\d+<(?P<path>[^>]*)>)?")
SYNC = re.compile(r"^(\d+) +fdatasync\(", re.MULTILINE)
RESULT = re.compile(r"\) += (-1|\d+|\?)")


def strace() -> str:
    """The program; where there is none, a failure in CI, else a skipped test."""
    found = shutil.which("strace")
    if found is None:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("no strace on this machine, so nobody sees what a server syncs")
    return found


class Disk:
    """What the files of a server hold, and how much of that lasts, replayed from a trace.

    A rename is taken to last: the servers sync the file before it, and the folder after it.
    """

    def __init__(self, trace: str, folder: str) -> None:
        self.written: Counter[str] = Counter()
        self.synced: Counter[str] = Counter()
        self.under_way: dict[str, tuple[str, str, int, str]] = {}
        for line in trace.splitlines():
            if "deleted)" not in line:  # a file that another one has replaced under its name
                self._replay(line, folder)

    def _replay(self, line: str, folder: str) -> None:
        if begun := CALL.match(line):
            thread, call, path = begun["thread"], begun["call"], begun["path"] or ""
            # A sync takes what was written before it began.
            self.under_way[thread] = call, path, self.written[path], line
        result = RESULT.search(line)
        if result is None:
            return
        call, path, before, line_begun = self.under_way.pop(line.split()[0], ("", "", 0, ""))
        if result[1] in ("-1", "?"):  # it failed, or the server died in it
            return
        if call.startswith("write"):
            self.written[path] += int(result[1])
        elif call.startswith("rename"):
            old, new = (os.path.join(folder, name) for name in re.findall('"(.*?)"', line_begun))
            for sizes in (self.written, self.synced):
                sizes[new] = sizes.pop(old, 0)
        elif call:
            self.synced[path] = max(self.synced[path], before)


class Machine(servers.Server):
    """A server with a log, on a machine of its own.

    syncs: after so many syncs by a thread the disk completes no more of them.
    """

    def __init__(self, label: str, fsync: str, *options: str, syncs: int | None = None) -> None:
        self._server: int | None = None  # a file descriptor of the process, while it is traced
        self._bare = servers.find(label)
        self._syncs = syncs
        self._folder = Path(tempfile.mkdtemp(prefix="srq-", dir="/tmp"))
        self._trace, program = self._folder / "trace", self._folder / "traced"
        disk = "" if syncs is None else STUCK.format(syncs + 1)
        program.write_text(
            TRACED.format(strace=strace(), trace=self._trace, disk=disk, binary=self._bare)
        )
        program.chmod(0o700)
        log = ("--appendonly", "yes", "--appendfsync", fsync, "--aof-load-truncated", "yes")
        super().__init__(program, None, *log, *options)
        self._server = os.pidfd_open(info(self, "server")["process_id"])

    @property
    def is_stuck(self) -> bool:
        """True once the disk has begun a sync that it does not complete."""
        begun = Counter(SYNC.findall(self._trace.read_text()))
        return any(count > (self._syncs or 0) for count in begun.values())

    def cut_power(self) -> int:
        """The machine loses its power; how many bytes of the log are gone. start goes on with it.

        Then without strace: there is one cut.
        """
        assert self._server, "the power was cut before"
        self.kill()
        self.binary = self._bare
        gone = 0
        disk = Disk(self._trace.read_text(), os.path.realpath(self.directory))
        for name, size in disk.written.items():
            path = Path(name)
            if "appendonly" in path.name and path.exists():
                assert path.stat().st_size >= size, f"{path} was not written as observed"
                os.truncate(path, disk.synced[name])
                gone += size - disk.synced[name]
        return gone

    def _end(self, how: str) -> None:
        # The server first: it does nothing more that strace has not noted.
        server, self._server = self._server, None
        if server is not None:
            signal.pidfd_send_signal(server, signal.SIGKILL)
        super()._end(
            how if server is None else "kill"
        )  # that is strace, which would wait for a stuck sync
        if server is not None:
            assert select.select([server], [], [], 20)[0], "the server outlived a kill"
            os.close(server)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Any:
        return self
