"""The command line's further commands: one command an item, dead letters, and looking after."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis

import servers
from command_line import SIGNALS, CommandLine, Queue, payloads, terminal, waiting
from helpers import check_places, eventually, snapshot
from saferedisqueue import SafeRedisQueue

# Tells that it runs, and its process id, and ends when the test says so, or is long over.
UNTIL_TOLD = """
echo $$ > "$0/$SAFEREDISQUEUE_UID"
until [ -e "$0/go" ] || [ $((looks += 1)) -gt 3000 ]; do sleep 0.02; done
"""


def running(directory: Path, *uids: str) -> list[int]:
    """The process ids of the commands UNTIL_TOLD for these items, once all of them run."""

    def told() -> list[str]:
        files = [directory / uid for uid in uids]
        texts = [file.read_text() if file.exists() else "" for file in files]
        return texts if all(text.endswith("\n") for text in texts) else []

    return [int(text) for text in eventually(told)]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


# -- consumer -- command ---------------------------------------------------------------------------


def test_a_command_gets_the_payload_and_is_told_uid_attempt_and_queue(
    cli: CommandLine, make: Callable[..., Queue]
) -> None:
    queue = make(name="mails")
    payload = b"\0\xff no newline"
    uid = queue.put(payload)
    queue.fail(queue.get()[0])
    echo = "echo $SAFEREDISQUEUE_UID $SAFEREDISQUEUE_ATTEMPT $SAFEREDISQUEUE_QUEUE; cat"
    out = cli.run("consumer", "-n", "mails", "-c", "1", "--", "sh", "-c", echo)
    assert out == f"{uid} 2 mails\n".encode() + payload
    assert queue.stats().total == 0


def test_options_behind_the_dashes_are_those_of_the_command(cli: CommandLine, queue: Queue) -> None:
    queue.put(b"1")
    out = cli.run("consumer", "--drain", "--", "printf", "%s ", "-c", "--", "--drain", "$HOME")
    assert out == b"-c -- --drain $HOME "


@pytest.mark.parametrize(
    ("script", "said", "reason"),
    [
        ("exit 3", "", "exit status 3"),
        ("echo one >&2; echo ' last  ' >&2; echo >&2; exit 1", "one last ", "exit status 1: last"),
        ("printf 'no newline' >&2; exit 1", "no newline", "exit status 1: no newline"),
        ("echo early >&2; exec 2>&-; exit 4", "early ", "exit status 4: early"),
        ("kill -9 $$", "", "ended by SIGKILL"),
    ],
)
def test_a_command_that_fails_fails_its_item_and_says_why(
    cli: CommandLine, queue: Queue, script: str, said: str, reason: str
) -> None:
    uid = queue.put(b"1")
    work = ("--max-attempts=2", "--retry-delay=0", "--", "sh", "-c", script)
    with cli.start("consumer", "--drain", *work) as process:
        out, err = process.communicate(timeout=60)
    told = f"{said}saferedisqueue: item {uid} failed: {reason} "
    assert " ".join(err.decode().split()) == (" ".join((told * 2).split()))
    assert (out, process.returncode) == (b"", 3)
    (letter,) = queue.dead()
    assert (letter.uid, letter.reason, letter.attempts) == (uid, reason, 2)


@pytest.mark.parametrize("command", ["/no/such/command", "no-such-command-{}", "/etc/passwd", "/"])
def test_a_command_that_cannot_be_started_is_no_fault_of_its_item(
    cli: CommandLine, queue: Queue, command: str
) -> None:
    queue.put_many([b"1", b"2"])
    said = "saferedisqueue: error: the command cannot be started: .*; its item was given back: .*"
    cli.run("consumer", "--drain", "--max-attempts=1", "--", command, status=127, said=said)
    items = [queue.get_nowait(), queue.get_nowait()]
    assert [(item.payload, item.attempts) for item in items] == [(b"1", 1), (b"2", 1)]


@pytest.mark.parametrize("uid", ["a\0b", "a" * 200_000])
def test_a_uid_that_no_environment_can_hold_is_a_fault_of_its_item(
    cli: CommandLine, queue: Queue, uid: str
) -> None:
    queue.put(b"1", uid=uid)
    said = "saferedisqueue: item a.* failed: not started: .*"
    cli.run("consumer", "--drain", "--max-attempts=1", "--", "true", status=3, said=said)
    assert queue.dead()[0].reason.startswith("not started: ")


@pytest.mark.parametrize(("attempts", "least", "most"), [(0, 0.5, 1), (3, 4, 8), (20, 300, 600)])
def test_what_failed_is_delayed_longer_each_time_up_to_a_bound(
    cli: CommandLine, queue: Queue, client: redis.Redis, attempts: int, least: float, most: float
) -> None:
    uid = queue.put(b"1")
    for _ in range(attempts):
        queue.fail(queue.get_nowait()[0])
    begun = client.time()[0]
    cli.run("consumer", "-c", "1", "--", "false", status=3, said=".* failed: exit status 1")
    due = client.zscore("srq:test:delayed", uid) / 1000
    assert begun + least <= due <= client.time()[0] + 1 + most


@pytest.mark.parametrize(("seconds", "stats"), [("0", (1, 0, 0)), ("100", (0, 0, 1))])
def test_what_failed_is_delayed_as_long_as_asked_for(
    cli: CommandLine, queue: Queue, seconds: str, stats: tuple[int, int, int]
) -> None:
    queue.put(b"1")
    failed = ("--retry-delay", seconds, "--", "false")
    cli.run("consumer", "-c", "1", *failed, status=3, said=".* failed: exit status 1")
    assert queue.stats()[:3] == stats


@pytest.mark.parametrize(
    ("payloads", "status"),
    [([], 0), ([b"0"], 0), ([b"1"], 3), ([b"1", b"2"], 3), ([b"1", b"0"], 0)],
)
def test_the_exit_status_tells_when_every_command_failed(
    cli: CommandLine, queue: Queue, payloads: list[bytes], status: int
) -> None:
    queue.put_many(payloads)
    work = ("--max-attempts=1", "--drain", "--shell", "--", "exit $(cat)")
    cli.run("consumer", *work, status=status, said=r"(.*failed: exit status \d\s*)*")


def test_a_shell_reads_the_command_only_when_asked_to(cli: CommandLine, queue: Queue) -> None:
    queue.put_many([b"1", b"2"])
    assert (
        cli.run("consumer", "-c", "1", "--", "echo", "$((1 + 1)); false") == b"$((1 + 1)); false\n"
    )
    assert cli.run("consumer", "-c", "1", "--shell", "--", "echo $((1 + 1)); true") == b"2\n"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ("--shell -- echo 1", "--shell takes the command as one string.*"),
        ("-j 0 -- true", "--jobs must be at least 1"),
        ("-c=-1 -- true", ".*--count: must be a whole number, 0 or more, not '-1'.*"),
        ("--timeout=-1 -- true", "--timeout must be 0 or more, not -1.0"),
        ("--lease 0 -- true", "lease must be.*"),
        ("--max-attempts 0 -- true", "max_attempts must be.*"),
        ("--retry-delay=-1 -- true", "retry_delay must be.*"),
        ("-j 2", ".* are for a command: name it behind --"),
        ("--shell", ".* are for a command: name it behind --"),
        ("--", "no command stands behind --: name one, or leave -- out to print items"),
        ("-c 1 --no-uid --", "no command stands behind --.*"),
        ("--shell --", "no command stands behind --.*"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    cli: CommandLine, queue: Queue, arguments: str, text: str
) -> None:
    queue.put(b"1")
    said = f"saferedisqueue: error: {text}"
    assert cli.run("consumer", *arguments.split(), status=2, said=said) == b""
    assert queue.stats()[:2] == (1, 0)


def test_an_empty_string_is_no_command(cli: CommandLine, queue: Queue) -> None:
    queue.put(b"1")
    cli.run("consumer", "--", "", status=2, said=".*no command stands behind --.*")
    assert queue.stats()[:2] == (1, 0)


def test_as_many_commands_run_at_once_as_asked_for_and_no_more(
    cli: CommandLine, queue: Queue, tmp_path: Path
) -> None:
    uids = queue.put_many([b"1", b"2", b"3", b"4"])
    work = ("--", "sh", "-c", UNTIL_TOLD, str(tmp_path))
    with cli.start("consumer", "-j", "3", "--drain", *work) as process:
        running(tmp_path, *uids[:3])
        assert queue.stats()[:2] == (1, 3)
        (tmp_path / "go").touch()
        assert process.wait(60) == 0
    running(tmp_path, *uids)
    assert queue.stats().total == 0


def test_the_count_and_the_timeout_hold_for_commands_too(cli: CommandLine, queue: Queue) -> None:
    queue.put_many([b"1", b"2", b"3"])
    assert cli.run("consumer", "-c", "2", "--", "cat") == b"12"
    assert cli.run("consumer", "--timeout", "0.2", "--", "cat") == b"3"
    queue.put(b"4")
    queue.get()
    assert cli.run("consumer", "--drain=ready", "--", "cat") == b""


@pytest.mark.parametrize("command", ["true", "head -c 3", "wc -c", "exec 0<&-"])
def test_a_large_payload_may_be_read_or_not(cli: CommandLine, queue: Queue, command: str) -> None:
    queue.put_many([b"abc" + b"x" * 4_000_000, b"abc"])
    out = cli.run("consumer", "--drain", "--shell", "--", command)
    assert out.split() == {"wc -c": [b"4000003", b"3"], "head -c 3": [b"abcabc"]}.get(command, [])
    assert queue.stats().total == 0


def test_children_that_a_command_leaves_hold_nothing_up(
    cli: CommandLine, queue: Queue, tmp_path: Path
) -> None:
    left, next_one = queue.put_many([b"1", b"2"])
    leave = f"echo said >&2; ({UNTIL_TOLD} echo late >&2) > /dev/null & "
    script = f"if [ $SAFEREDISQUEUE_UID = {left} ]; then {leave} else {UNTIL_TOLD} fi"
    work = ("sh", "-c", script.replace("/go", "/go-$SAFEREDISQUEUE_UID"), str(tmp_path))
    with cli.start("consumer", "--drain", "--", *work) as process:
        running(tmp_path, left, next_one)  # the first child goes on, and its item is done
        assert queue.stats().total == 1
        assert process.stderr
        assert process.stderr.readline() == b"said\n"
        (tmp_path / f"go-{left}").touch()
        assert process.stderr.readline() == b"late\n"
        (tmp_path / f"go-{next_one}").touch()
        assert process.wait(60) == 0
    assert queue.stats().total == 0


def test_what_a_command_says_may_be_heard_by_nobody(cli: CommandLine, queue: Queue) -> None:
    queue.put_many([b"1", b"2"])
    with cli.start("consumer", "--drain", "--shell", "--", "cat; echo heard? >&2") as process:
        assert process.stderr
        process.stderr.close()
        assert process.stdout
        assert process.stdout.read() == b"12"
        assert process.wait(60) == 0
    assert queue.stats().total == 0


def test_a_child_that_goes_on_talking_holds_nothing_up(cli: CommandLine, queue: Queue) -> None:
    queue.put(b"1")
    work = ("--", "sh", "-c", "yes >&2 &")
    with cli.start("consumer", "-c", "1", *work, stderr=subprocess.DEVNULL) as process:
        assert process.wait(60) == 0
    assert queue.stats().total == 0


def test_a_lease_is_renewed_while_the_command_runs(
    cli: CommandLine, queue: Queue, client: redis.Redis, tmp_path: Path
) -> None:
    uid = queue.put(b"1")
    work = ("--", "sh", "-c", UNTIL_TOLD, str(tmp_path))
    with cli.start("consumer", "--lease", "3", "--drain", *work) as process:
        running(tmp_path, uid)
        deadlines: set[float] = set()
        eventually(
            lambda: deadlines.add(client.zscore("srq:test:leases", uid)) or len(deadlines) > 3
        )
        assert queue.get_nowait().uid is None  # by now the first lease is over
        (tmp_path / "go").touch()
        assert process.wait(60) == 0
        assert process.stderr
        assert process.stderr.read() == b""
    assert max(deadlines) - min(deadlines) > 2500
    assert queue.stats().total == 0


def test_a_command_whose_item_was_taken_away_is_ended(
    cli: CommandLine, queue: Queue, tmp_path: Path
) -> None:
    uid = queue.put(b"1")
    work = ("--", "sh", "-c", UNTIL_TOLD, str(tmp_path))
    with cli.start("consumer", "--lease", "0.5", "--drain", *work) as process:
        (pid,) = running(tmp_path, uid)
        queue.remove(uid)
        _, err = process.communicate(timeout=60)
    assert re.fullmatch(rf"saferedisqueue: item {uid} was taken away: .*\n", err.decode())
    assert process.returncode == 0
    assert is_gone(pid)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_lets_commands_finish_and_takes_nothing_new(
    cli: CommandLine, queue: Queue, client: redis.Redis, tmp_path: Path, number: signal.Signals
) -> None:
    uids = queue.put_many([b"1", b"2", b"3"])
    work = ("--", "sh", "-c", UNTIL_TOLD, str(tmp_path))
    with cli.start("consumer", "-j", "2", *work, start_new_session=True) as process:
        running(tmp_path, *uids[:2])
        os.killpg(process.pid, number)  # as a terminal does with Ctrl-C
        assert process.stderr
        said = process.stderr.readline().decode()
        assert re.match("saferedisqueue: waiting for 2 commands that run: a second Ctrl-C ", said)
        assert process.poll() is None
        (tmp_path / "go").touch()
        _, err = process.communicate(timeout=60)
    assert (err, process.returncode) == (b"", 0)
    assert queue.stats()[:2] == (1, 0)


def test_a_signal_ends_a_consumer_with_a_command_that_waits(
    cli: CommandLine, client: redis.Redis
) -> None:
    with cli.start("consumer", "--", "true") as process:
        waiting(client)
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == (b"", b"", 0)


def test_an_item_that_comes_together_with_a_signal_is_given_back(
    cli: CommandLine, queue: Queue, client: redis.Redis
) -> None:
    with cli.start("consumer", "--", "echo", "worked") as process:
        waiting(client)
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        queue.put(b"1")
        process.send_signal(signal.SIGCONT)
        out, err = process.communicate(timeout=60)
    assert (out, err, process.returncode) == (b"", b"", 0)
    item = queue.get_nowait()
    assert (item.payload, item.attempts) == (b"1", 1)


@pytest.mark.parametrize("trap", ["", "trap '' TERM;", "trap 'exit 0' TERM;"])
def test_a_second_signal_ends_the_commands_and_gives_their_items_back(
    cli: CommandLine, queue: Queue, client: redis.Redis, tmp_path: Path, trap: str
) -> None:
    uids = queue.put_many([b"1", b"2", b"3"])
    work = ("--", "sh", "-c", trap + UNTIL_TOLD, str(tmp_path))
    with cli.start("consumer", "-j", "2", *work) as process:
        pids = running(tmp_path, *uids[:2])
        for number in (signal.SIGSTOP, *SIGNALS, signal.SIGCONT):  # both at once
            process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (out, process.returncode) == (b"", 130)
    # By the shell, of what it ran; and between the two signals there may be time to tell.
    assert re.fullmatch(b"(saferedisqueue: waiting for .*\n)?(Terminated\n)*", err)
    assert all(is_gone(pid) for pid in pids)
    check_places(client)
    items = [queue.get_nowait() for _ in uids]
    assert {item.payload: item.attempts for item in items} == {b"1": 1, b"2": 1, b"3": 1}


def test_children_are_ended_with_their_command(
    cli: CommandLine, queue: Queue, tmp_path: Path
) -> None:
    uid = queue.put(b"1")
    stubborn = 'sh -c "trap \'\' TERM; $1" "$0" & wait'
    work = ("--", "sh", "-c", stubborn, str(tmp_path), UNTIL_TOLD)
    with cli.start("consumer", *work) as process:
        (pid,) = running(tmp_path, uid)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 130
    eventually(lambda: is_gone(pid))


def test_a_killed_consumer_s_item_comes_back_when_its_lease_ends(
    cli: CommandLine, queue: Queue, tmp_path: Path
) -> None:
    uid = queue.put(b"1")
    work = ("--", "sh", "-c", UNTIL_TOLD, str(tmp_path))
    with cli.start("consumer", "--lease", "1", *work) as process:
        running(tmp_path, uid)
        process.kill()
        process.wait()
    item = queue.get(timeout=30)
    (tmp_path / "go").touch()
    assert (item.uid, item.attempts) == (uid, 2)


def test_an_ack_for_a_command_outlasts_a_restart_of_the_server(
    own_server: servers.Server, tmp_path: Path
) -> None:
    with SafeRedisQueue(url=own_server.url, name="test") as queue:
        uid = queue.put(b"1")
        assert uid
        work = ("--", "sh", "-c", UNTIL_TOLD, str(tmp_path))
        with CommandLine(own_server.url).start("consumer", "-c", "1", *work) as process:
            running(tmp_path, uid)
            own_server.kill()
            (tmp_path / "go").touch()
            assert process.stderr
            assert process.stderr.readline().startswith(b"saferedisqueue: waiting for the server: ")
            own_server.start()
            assert process.wait(60) == 0
        assert queue.stats().total == 0


def test_an_error_in_one_of_many_commands_ends_the_consumer_with_it(
    own_server: servers.Server,
) -> None:
    with own_server.client() as client, SafeRedisQueue(url=own_server.url, name="test") as queue:
        client.execute_command("ACL", "SETUSER", "default", "-zrem")  # which only the ack needs
        queue.put(b"1")
        said = "saferedisqueue: error: .*(zrem|can't run this command).*"
        cli = CommandLine(own_server.url)
        with cli.start("consumer", "-j", "2", "--", "true") as process:
            _, err = process.communicate(timeout=60)
        assert process.returncode == 1
        assert re.fullmatch(said, err.decode().strip())


# -- dead, revive, remove, pause, resume, peek -----------------------------------------------------


def bury(queue: Queue, payload: bytes, reason: str) -> str:
    queue.put(payload)
    uid, _ = queue.get_nowait()
    assert uid
    queue.bury(uid, reason)
    return uid


def test_dead_letters_are_listed_for_people_and_programs(cli: CommandLine, queue: Queue) -> None:
    one = bury(queue, b"x" * 100 + b"\n", "too\nlong \x1b[31m")
    two = bury(queue, b"\xff\x00", "odd")
    lines = cli.run("dead").decode().splitlines()
    when = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
    assert re.fullmatch(rf"{one} 1 {when} too\\nlong \\x1b\[31m \| x{{57}}\.\.\.", lines[0])
    assert re.fullmatch(rf"{two} 1 {when} odd \| \ufffd\\x00", lines[1])
    first, second = (json.loads(line) for line in cli.run("dead", "--json").splitlines())
    assert first.pop("died_at") <= second.pop("died_at")
    reason = "too\nlong \x1b[31m"
    payload = "x" * 100 + "\n"
    assert first == {"uid": one, "attempts": 1, "reason": reason, "payload": payload}
    assert second == {"uid": two, "attempts": 1, "reason": "odd", "payload_base64": "/wA="}


def test_dead_letters_are_listed_to_the_last_or_as_many_as_asked_for(
    cli: CommandLine, queue: Queue, client: redis.Redis
) -> None:
    for number in range(250):
        client.hset("srq:test:items", f"u{number:03}", number)
        client.zadd("srq:test:dead", {f"u{number:03}": number})
    assert [line[:4] for line in cli.run("dead").decode().splitlines()] == [
        f"u{number:03}" for number in range(250)
    ]
    assert len(cli.run("dead", "-c", "120").splitlines()) == 120


def test_revive_takes_uids_or_all(cli: CommandLine, queue: Queue) -> None:
    one, two, three = (bury(queue, payload, "why") for payload in (b"1", b"2", b"3"))
    assert cli.run("revive", two) == b"1 items revived\n"
    assert cli.run("revive", two, one, status=1) == b"1 items revived\n"
    cli.run("revive", status=2, said=".*name the uids, or --all")
    cli.run("revive", three, "--all", status=2, said=".*name the uids, or --all")
    assert cli.run("revive", "--all") == b"1 items revived\n"
    assert cli.run("revive", "--all") == b"0 items revived\n"
    assert payloads(queue) == [b"2", b"1", b"3"]


def test_purge_dead_drops_only_the_dead(cli: CommandLine, queue: Queue) -> None:
    bury(queue, b"1", "why")
    queue.put(b"2")
    assert cli.run("purge", "--dead", "--yes") == b"1 items dropped\n"
    assert queue.stats()[:5] == (1, 0, 0, 0, 1)


def test_release_makes_held_items_ready_once(cli: CommandLine, queue: Queue) -> None:
    one, two = (str(queue.put(payload, held=True)) for payload in (b"1", b"2"))
    ready = queue.put(b"3", uid="ready")
    assert cli.run("release", one) == b"1 items released\n"
    assert cli.run("release", one, two, str(ready), status=1) == b"1 items released\n"
    cli.run("release", status=2, said=".*required: uid.*")
    assert payloads(queue) == [b"3", b"1", b"2"]


def test_remove_drops_items_wherever_they_are(cli: CommandLine, queue: Queue) -> None:
    one, two = queue.put_many([b"1", b"2"])
    queue.put(b"3", uid="-odd \udcff")
    queue.get()
    assert cli.run("remove", one, two) == b"2 items removed\n"
    assert cli.run("remove", one, "--", b"-odd \xff", status=1) == b"1 items removed\n"
    assert queue.stats().total == 0


def test_nothing_is_got_between_pause_and_resume(cli: CommandLine, queue: Queue) -> None:
    queue.put(b"1")
    cli.run("pause")
    assert json.loads(cli.run("stats", "--json"))["paused"] is True
    assert b"paused     yes" in cli.run("stats")
    assert queue.get_nowait().uid is None
    cli.run("resume")
    assert b"paused     no" in cli.run("stats")
    assert queue.get_nowait().payload == b"1"


def test_peek_prints_as_the_consumer_does_and_takes_nothing(
    cli: CommandLine, queue: Queue, client: redis.Redis
) -> None:
    one, two, _ = queue.put_many([b"1\n\xff", b"2", b"3"])
    before = snapshot(client)
    assert cli.run("peek") == f"{one} 1\n".encode() + b"\xff\n"
    assert cli.run("peek", "-c", "2", "--null") == f"{one} 1\n".encode() + b"\xff\0" + (
        f"{two} 2\0".encode()
    )
    assert cli.run("peek", "--count", "5", "--no-uid") == b"1\n\xff\n2\n3\n"
    assert snapshot(client) == before


def test_dead_letters_are_kept_by_number_and_age(cli: CommandLine, queue: Queue) -> None:
    for payload in (b"1", b"2", b"3", b"4"):
        bury(queue, payload, "why")
    purge = ("purge", "--dead", "--yes")
    assert cli.run(*purge, "--keep", "3") == b"1 items dropped\n"
    assert cli.run(*purge, "--older-than", "3600") == b"0 items dropped\n"
    assert cli.run(*purge, "--older-than", "0", "--keep", "9") == b"3 items dropped\n"


@pytest.mark.parametrize("limit", ["--keep=3", "--older-than=3", "--keep=0"])
def test_no_limit_is_of_all_items(cli: CommandLine, queue: Queue, limit: str) -> None:
    queue.put(b"a")
    assert cli.run("purge", "--yes", limit, status=2, said=".*give --dead too") == b""
    assert queue.stats().total == 1


def test_every_command_that_tells_something_tells_it_as_json_too(
    cli: CommandLine, queue: Queue, client: redis.Redis
) -> None:
    def told(*arguments: str, status: int = 0) -> list[dict[str, Any]]:
        out = cli.run(*arguments, "--json", status=status)
        return [json.loads(line) for line in out.splitlines()]

    one, two = bury(queue, b"1", "why"), bury(queue, b"2", "why")
    assert told("revive", one, two) == [{"revived": 2}]
    queue.fail(queue.get(lease=60)[0])
    assert told("remove", one, one, status=1) == [{"removed": 1}]
    held = queue.put(b"\xff", held=True)
    assert told("release", held) == [{"released": 1}]
    item, other = queue.peek(2)
    facts = {"uid": two, "attempts": 0, "put_at": item.put_at, "payload": "2"}
    raw = {"uid": held, "attempts": 0, "put_at": other.put_at, "payload_base64": "/w=="}
    assert told("peek", "-c", "3") == [facts, raw]
    client.set("srq:test:strange", "1")
    findings = told("doctor")
    assert {"name", "severity", "text", "advice"} < findings[0].keys()
    assert "unknown-keys" in [finding["name"] for finding in findings]
    assert told("purge", "--yes") == [{"dropped": 2}]
    assert told("dead") == []


# What a terminal would act on, as a uid may hold it, and how it is shown instead.
EVIL = "\x1b]0;mine\x07\n\u202e\r\u2066\x9b1m\udcff"
SHOWN = r"\x1b]0;mine\x07\n\u202e\r\u2066\x9b1m\xff"


@pytest.mark.parametrize("command", ["peek", "consumer -c 1"])
def test_a_terminal_is_given_nothing_that_it_would_act_on(
    cli: CommandLine, queue: Queue, command: str
) -> None:
    payload = EVIL.encode("utf-8", "surrogateescape")
    queue.put(payload, uid=EVIL)
    assert cli.run("peek") == payload + b" " + payload + b"\n"
    with terminal() as (stdout, shown):
        cli.run(*command.split(), stdout=stdout)
        assert shown() == f"{SHOWN} {SHOWN}\r\n"
    queue.purge()
    queue.put(b"\x1b[1mbold")
    with terminal() as (stdout, shown):
        cli.run("consumer", "--raw", "--no-uid", "-c", "1", stdout=stdout)
        assert "\x1b" in shown()


def test_lines_of_dead_letters_hold_nothing_that_a_terminal_would_act_on(
    cli: CommandLine, queue: Queue
) -> None:
    queue.put(b"1", uid=EVIL)
    queue.bury(queue.get()[0], EVIL)
    out = cli.run("dead").decode()
    assert out.startswith(SHOWN.replace("xff", "udcff"))
    assert out.removesuffix("\n").isprintable()
    (letter,) = map(json.loads, cli.run("dead", "--json").splitlines())
    assert letter["uid"] == EVIL


def test_errors_and_log_lines_hold_nothing_that_a_terminal_would_act_on(
    cli: CommandLine, queue: Queue
) -> None:
    queue.put(b"1", uid=EVIL)
    work = ("--max-attempts=1", "--shell", "--", r"printf '\033]0;\n' >&2; exit 1")
    with cli.start("consumer", "-c", "1", *work, stderr=subprocess.PIPE) as process:
        _, err = process.communicate(timeout=60)
    told = err.partition(b"saferedisqueue: ")[2].decode()
    assert told.removesuffix("\n").isprintable()
    script = (
        "import sys; from saferedisqueue import CommandLine, log; line = CommandLine()\n"
        "def fails(args):\n    'Fails.'\n    log.error('%s', args.name)\n"
        "    raise KeyError(args.name)\nline.add(fails); sys.exit(line.run())"
    )
    command = [sys.executable, "-c", script, "fails", "-n", "\x1b\n\u202e"]
    done = subprocess.run(command, env=cli.environment, capture_output=True, text=True)
    shown = r"\x1b\n\u202e"
    assert done.stderr.splitlines()[0] == f"saferedisqueue: {shown}"
    assert re.match(r"saferedisqueue: error: '.*u202e'$", done.stderr.splitlines()[1])
    assert all(line.isprintable() for line in done.stderr.splitlines())


# -- help, and broken pipes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "command", ["dead", "revive", "release", "remove", "pause", "resume", "peek", "doctor"]
)
def test_the_help_of_each_command_shows_examples(cli: CommandLine, command: str) -> None:
    examples = cli.run(command, "--help").decode().partition("\nexamples")[2]
    assert f"python -m saferedis {command}" in examples


@pytest.mark.parametrize("command", ["dead", "peek", "doctor"])
def test_further_commands_are_quiet_about_a_broken_pipe(
    cli: CommandLine, queue: Queue, command: str
) -> None:
    bury(queue, b"1", "why")
    queue.put(b"2")
    with cli.start(command) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""
