"""Commands of the command line beyond those that the module saferedisqueue has of its own.

The module adds them to its parser when this package is installed. The docstring of a command is its
--help.
"""

from __future__ import annotations

import base64
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from itertools import islice
from threading import Event, Thread
from typing import Any

from redis.exceptions import RedisError

from saferedis.doctor import examine
from saferedisqueue import (
    DeadItem,
    Item,
    SafeRedisQueue,
    _encode_uid,
    _open_queue,
    _outlast,
    _run,
    _Signals,
    _take,
    _tell,
)

Queue = SafeRedisQueue[bytes]
Command = Callable[[Namespace], "int | None"]

TICK = 0.1  # seconds between two looks at what is asked of a command that runs
MOMENT = 2.0  # seconds that a command which is to end has for it


def add_to(command: Callable[[Command], ArgumentParser], consumer: ArgumentParser) -> None:
    """Add the commands, by means of ``command``, and to ``consumer`` what works on items."""
    add = consumer.add_argument_group("to run a command once an item").add_argument
    what = "instead of printing an item, run this with the payload as its standard input"
    add("work", nargs="*", metavar="-- command", help=what)
    add("-j", "--jobs", type=int, metavar="N", help="run N at a time (default: 1)")
    add("--shell", action="store_true", help="the command is one string, for the shell")
    lease = "renewed while the command runs; killed, its item comes back S seconds later (60)"
    add("--lease", type=float, metavar="S", help=lease)
    most = "an item whose command has failed so often is a dead letter (default: no limit)"
    add("--max-attempts", type=int, metavar="N", help=most)
    later = "before an item whose command failed is taken again (default: 0)"
    add("--retry-delay", type=float, metavar="S", help=later)
    consumer.set_defaults(run=work, print_items=consumer.get_default("run"))
    consumer.epilog = f"{consumer.epilog}\n{_WORK_EXAMPLES}"

    uids: dict[str, Any] = {"nargs": "*", "metavar": "uid"}
    parser = command(dead)
    parser.add_argument(
        "--json", action="store_true", help="a line of JSON each, payload unabridged"
    )
    parser.add_argument("-c", "--count", type=int, metavar="N", help="N of them (default: all)")
    parser = command(revive)
    parser.add_argument("uids", **uids)
    parser.add_argument("--all", action="store_true", help="all dead letters")
    command(remove).add_argument("uids", **{**uids, "nargs": "+"})
    command(pause)
    command(resume)
    parser = command(peek)
    parser.add_argument("-c", "--count", type=int, metavar="N", default=1, help="N items (1)")
    parser.add_argument("--no-uid", action="store_true", help="print the payload alone")
    null = "a NUL byte ends an item"
    parser.add_argument(
        "-0", "--null", dest="separator", action="store_const", const=b"\0", help=null
    )
    parser.set_defaults(separator=b"\n")
    parser = command(doctor)
    parser.add_argument("--repair", action="store_true", help="make ready what stands nowhere")
    limit = "do not look at single items if there are more than N (default: 1000000)"
    parser.add_argument("--limit", type=int, metavar="N", default=1_000_000, help=limit)


# ---- consumer -- command -----------------------------------------------------------------------

_WORK_EXAMPLES = """
work on items:
  %(prog)s -- ./resize --width 300
  %(prog)s -j 4 --max-attempts 3 --retry-delay 60 -- curl --fail --data-binary @- https://...
  %(prog)s --drain --shell -- 'gzip > "$SAFEREDISQUEUE_UID.gz"'

The environment of the command has SAFEREDISQUEUE_UID, SAFEREDISQUEUE_ATTEMPT (1 the first time) and
SAFEREDISQUEUE_QUEUE. Its exit status 0 acks the item; any other, a signal too, fails it. SIGINT and
SIGTERM let the commands that run finish; a second one ends them and gives their items back."""


def work(args: Namespace) -> None:
    """Run the command once an item, or print the items if there is none."""
    if not args.work:
        if args.shell or {args.jobs, args.lease, args.max_attempts, args.retry_delay} != {None}:
            raise ValueError("--jobs, --shell, --lease, ... are for a command: name it behind --")
        args.print_items(args)
        return
    jobs = 1 if args.jobs is None else args.jobs
    lease = 60 if args.lease is None else args.lease
    if jobs < 1:
        raise ValueError("--jobs must be at least 1")
    if args.shell and len(args.work) > 1:
        raise ValueError("--shell takes the command as one string: put it in quotes")
    settings = {"max_attempts": args.max_attempts, "retry_delay": args.retry_delay or 0}
    with _open_queue(args, lease=lease, **settings) as queue:
        signals = _Signals()
        command = args.work[0] if args.shell else args.work
        running: set[Future[None]] = set()
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for item in _take(queue, args, signals):
                    running.add(pool.submit(_work_on, item, queue, command, lease, signals))
                    while len(running) == jobs:
                        done, running = wait(running, TICK, FIRST_COMPLETED)
                        for each in done:
                            each.result()
            finally:
                while wait(running, TICK).not_done:
                    pass  # a signal may reach another thread, and is handled when this one wakes
        for each in running:
            each.result()
        if signals.seen > 1:
            raise KeyboardInterrupt


def _work_on(
    item: Item[bytes], queue: Queue, command: str | list[str], lease: float, signals: _Signals
) -> None:
    """Run the command for an item, and settle it."""
    status, why = None, ""
    try:
        if not signals.seen:  # else it came together with the signal
            with _renewed(queue, item.uid, lease) as lost:

                def is_to_end() -> bool:
                    return lost.is_set() or signals.seen > 1

                status, why = _execute(command, item, queue.name, is_to_end)
        settled: int | None
        if status is None:
            settled = _run(queue._hand_back((item.uid,)))
        elif status == 0:
            settled = _outlast(partial(queue.ack, item.uid), signals, enough=2)
        else:
            settled = _outlast(partial(queue.fail, item.uid, reason=why), signals, enough=2)
            _tell(f"item {item.uid} failed: {why}")
        if settled is not None and not settled:
            _tell(f"item {item.uid} was taken away: its lease was lost, or it was removed")
    except BaseException:
        signals.seen = max(signals.seen, 1)  # nothing new is taken, and the error is told
        raise


@contextmanager
def _renewed(queue: Queue, uid: str, lease: float) -> Iterator[Event]:
    """Renews the lease of an item; sets the event when it finds it lost."""
    lost, done = Event(), Event()

    def renew() -> None:
        while not (done.wait(lease / 3) or lost.is_set()):
            with suppress(RedisError, OSError):  # the server may be back before the lease ends
                if not queue.touch(uid, lease):
                    lost.set()

    Thread(target=renew, daemon=True).start()
    try:
        yield lost
    finally:
        done.set()


def _execute(
    command: str | list[str], item: Item[bytes], queue_name: str, is_to_end: Callable[[], bool]
) -> tuple[int | None, str]:
    """Run the command; its status, None if it was ended here, and what there is to say of it.

    In a session of its own: what a terminal's Ctrl-C reaches is this process, which decides.
    """
    environment = {
        **os.environ,
        "SAFEREDISQUEUE_UID": item.uid,
        "SAFEREDISQUEUE_ATTEMPT": str(item.attempts),
        "SAFEREDISQUEUE_QUEUE": queue_name,
    }
    try:
        # A file, not a pipe: whether and when it is read, and by whom, is of no concern then.
        with tempfile.TemporaryFile() as stdin:
            stdin.write(item.payload)
            stdin.seek(0)
            process = subprocess.Popen(
                command,
                shell=isinstance(command, str),
                stdin=stdin,
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
    except (OSError, ValueError) as error:
        return 127, f"not started: {error}"
    stderr = _Stderr(process)
    kill_at: float | None = None
    while process.poll() is None:
        stderr.pass_on(TICK)
        if kill_at is None and is_to_end():
            kill_at = time.monotonic() + MOMENT
            _signal_group(process, signal.SIGTERM)
        elif kill_at is not None and time.monotonic() > kill_at:
            _signal_group(process, signal.SIGKILL)
    last_line = stderr.finish()
    if kill_at is not None:
        _signal_group(process, signal.SIGKILL)  # its children may have outlived it
        return None, ""
    status = process.returncode
    how = f"exit status {status}" if status >= 0 else f"ended by {_signal_name(-status)}"
    return status, f"{how}: {last_line}" if last_line else how


class _Stderr:
    """What a command says, passed on to our own standard error."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr
        self._process, self._pipe = process, process.stderr
        self._poll = select.poll()
        self._poll.register(self._pipe, select.POLLIN)
        self._tail = b""
        self._ended = False

    def pass_on(self, seconds: float | None) -> bool:
        """Pass on what comes next, within so many seconds or at all; False if nothing came."""
        if self._ended:  # but not the command: it has closed it
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
            return False
        if not self._poll.poll(None if seconds is None else seconds * 1000):
            return False
        block = os.read(self._pipe.fileno(), 65536)
        self._ended = not block
        self._tail = (self._tail + block)[-4096:]
        with suppress(OSError):  # that nobody listens is no fault of the item
            while block:
                block = block[os.write(sys.stderr.fileno(), block) :]
        return not self._ended

    def finish(self) -> str:
        """Pass on the rest; the last line that the command, which has ended, has said."""
        if self.pass_on(0):  # all that the pipe holds; more can only be of children that it left
            self.pass_on(0)
        lines = self._tail.decode("utf-8", "backslashreplace").splitlines()
        if not self._ended:
            Thread(target=self._follow, daemon=True).start()
        return next((line.strip()[-500:] for line in reversed(lines) if line.strip()), "")

    def _follow(self) -> None:
        while self.pass_on(None):
            pass


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


# ---- looking, and looking after ----------------------------------------------------------------


def dead(args: Namespace) -> None:
    """List the dead letters: uid, deliveries, when and why it died, and its payload, shortened.

    examples:
      %(prog)s --name mails
      %(prog)s --name mails --json | jq -r .uid
    """
    with _open_queue(args) as queue:
        for letter in islice(_letters(queue), args.count):
            if args.json:
                _print(json.dumps(_as_json(letter)))
                continue
            died = datetime.fromtimestamp(letter.died_at).isoformat(" ", "seconds")
            payload = _shorten(letter.payload.decode("utf-8", "replace"), 60)
            reason = _shorten(letter.reason, 200)
            _print(f"{letter.uid} {letter.attempts} {died} {reason} | {payload}")


def _letters(queue: Queue) -> Iterator[DeadItem]:
    offset = 0
    while page := queue.dead(100, offset):
        yield from page
        offset += len(page)


def _as_json(letter: DeadItem) -> dict[str, Any]:
    """With the payload as text if it is UTF-8, else in base 64."""
    facts = letter._asdict()
    try:
        facts["payload"] = letter.payload.decode()
    except UnicodeDecodeError:
        del facts["payload"]
        facts["payload_base64"] = base64.b64encode(letter.payload).decode()
    return facts


def _shorten(text: str, most: int) -> str:
    """On one line, and nothing in it that a terminal would act on."""
    text = "".join(c if c.isprintable() else " " for c in text[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."


def _print(line: str) -> None:
    sys.stdout.buffer.write(line.encode("utf-8", "surrogateescape") + b"\n")


def revive(args: Namespace) -> int:
    """Make dead letters ready again, as if they had never been delivered.

    examples:
      %(prog)s 019a3c61-04bf-7a86-8b7d-3f02c96e15d8
      %(prog)s --name mails --all

    exit status: 1 if one that was named is no dead letter
    """
    if bool(args.uids) == args.all:
        raise ValueError("name the uids, or --all")
    with _open_queue(args) as queue:
        revived = queue.revive(*args.uids)
    print(f"{revived} items revived")
    return int(revived < len(args.uids))


def remove(args: Namespace) -> int:
    """Drop items wherever they stand, also out of a consumer's hands.

    examples:
      %(prog)s --name mails 019a3c61-04bf-7a86-8b7d-3f02c96e15d8

    exit status: 1 if one of them was not there
    """
    with _open_queue(args) as queue:
        removed = sum([queue.remove(uid) for uid in args.uids])
    print(f"{removed} items removed")
    return int(removed < len(args.uids))


def pause(args: Namespace) -> None:
    """Let no consumer get an item until resume; put, ack and fail go on.

    examples:
      %(prog)s --name mails
    """
    with _open_queue(args) as queue:
        queue.pause()


def resume(args: Namespace) -> None:
    """End a pause: consumers that wait see it within a second.

    examples:
      %(prog)s --name mails
    """
    with _open_queue(args) as queue:
        queue.resume()


def peek(args: Namespace) -> None:
    """Print the items that are next, as the consumer does, without taking them.

    examples:
      %(prog)s --name mails
      %(prog)s --name mails --count 10 --no-uid
    """
    with _open_queue(args) as queue:
        for uid, payload in queue.peek(args.count):
            before = b"" if args.no_uid else _encode_uid(uid) + b" "
            sys.stdout.buffer.write(before + payload + args.separator)


def doctor(args: Namespace) -> int:
    """Tell what of this server, and in the keys of this queue, endangers its items.

    examples:
      %(prog)s --name mails
      %(prog)s --name mails --repair

    exit status: 0 if all is well, 1 if something was found
    """
    with _open_queue(args) as queue:
        findings = examine(queue, args.limit, args.repair)
    for finding in findings:
        _print(f"{finding.problem}: {finding.advice}")
    if not findings:
        print("nothing was found that endangers items")
    return int(bool(findings))
