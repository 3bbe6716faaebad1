"""``consumer -- command``: a command once an item, which is settled by its exit status."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from functools import partial
from threading import Thread

from saferedisqueue import (
    CommandLine,
    Delivery,
    Holding,
    LeaseLost,
    Signals,
    exponential_backoff,
    open_queue,
    outlast,
    take_items,
    tell,
)

TICK = 0.1  # seconds between two looks at what is asked of a command that runs
MOMENT = 2.0  # seconds that a command which is to end has for it
LONGEST_DELAY = 600  # seconds before another attempt, where nothing else is asked for

# Exit statuses.
ALL_FAILED = 3
NOT_STARTED = 127  # as shells have it


class StartError(Exception):
    """The command cannot be started, which is no fault of the item."""


def add_to(line: CommandLine) -> None:
    """Add to the consumer what works on items."""
    consumer = line.parsers["consumer"]
    what = "-- command: instead of printing an item, run this with the payload as standard input"
    add = consumer.add_argument_group("to run a command once an item", what).add_argument
    add("-j", "--jobs", type=int, metavar="N", help="run N at a time (default: 1)")
    add("--shell", action="store_true", help="the command is one string, for the shell")
    lease = "renewed while the command runs; killed, its item comes back S seconds later (60)"
    add("--lease", type=float, metavar="S", help=lease)
    most = "an item whose command has failed so often is a dead letter (default: no limit)"
    add("--max-attempts", type=int, metavar="N", help=most)
    later = (
        "seconds before an item whose command failed is taken again (default: 1 after the first "
    )
    later += "attempt, then 2, 4, ... up to 600, of which up to a half is taken off at random)"
    add("--retry-delay", type=float, metavar="S", help=later)
    consumer.usage = "%(prog)s [options] [-- command ...]"
    consumer.set_defaults(run=work, print_items=consumer.get_default("run"))
    consumer.epilog = f"{consumer.epilog}\n{_WORK_EXAMPLES}"


_WORK_EXAMPLES = """
work on items:
  %(prog)s -- ./resize --width 300
  %(prog)s -j 4 --max-attempts 3 --retry-delay 60 -- curl --fail --data-binary @- https://...
  %(prog)s --drain --shell -- 'gzip > "$SAFEREDISQUEUE_UID.gz"'

The environment of the command has SAFEREDISQUEUE_UID, SAFEREDISQUEUE_ATTEMPT (1 the first time) and
SAFEREDISQUEUE_QUEUE. Its exit status 0 acks the item; any other, a signal too, fails it. SIGINT and
SIGTERM let the commands that run finish; a second one ends them and gives their items back.

exit status with a command: 3 if commands ran and all of them failed; 127 if it cannot be started,
its item is given back uncounted then; else as above"""


def work(args: Namespace) -> int:
    """Run the command once an item, or print the items if there is none."""
    if args.work is None:
        if args.shell or {args.jobs, args.lease, args.max_attempts, args.retry_delay} != {None}:
            raise ValueError("--jobs, --shell, --lease, ... are for a command: name it behind --")
        args.print_items(args)
        return 0
    if not "".join(args.work):
        raise ValueError("no command stands behind --: name one, or leave -- out to print items")
    if args.jobs is not None and args.jobs < 1:
        raise ValueError("--jobs must be at least 1")
    if args.shell and len(args.work) > 1:
        raise ValueError("--shell takes the command as one string: put it in quotes")
    try:
        return _run_commands(args)
    except StartError as error:
        tell(
            f"error: the command cannot be started: {error}; its item was given back: name a "
            "program that is on PATH, or with its path, and that can be executed"
        )
        return NOT_STARTED


def _run_commands(args: Namespace) -> int:
    """Run the command for items until they end; the exit status."""
    jobs = 1 if args.jobs is None else args.jobs
    lease = 60 if args.lease is None else args.lease
    delay = (
        exponential_backoff(most=LONGEST_DELAY) if args.retry_delay is None else args.retry_delay
    )
    settings = {"max_attempts": args.max_attempts, "retry_delay": delay}
    with open_queue(args, lease=lease, **settings) as queue, Holding[bytes](queue) as holding:
        signals = Signals()
        command = args.work[0] if args.shell else args.work
        commands = _Commands(signals)
        with ThreadPoolExecutor(jobs) as pool:
            try:
                for item in take_items(queue, args, signals, partial(holding.fetch, 1)):
                    future = pool.submit(_work_on, item, queue.name, command, signals)
                    commands.running.add(future)
                    while len(commands.running) == jobs:
                        commands.wait()
                        commands.collect()
            finally:
                while commands.wait():
                    pass  # a signal may reach another thread, and is handled when this one wakes
        commands.collect()
        if signals.seen > 1:
            raise KeyboardInterrupt
        return ALL_FAILED if commands.outcomes - {None} == {False} else 0


class _Commands:
    """Those that run, and what became of the others: True if one of them succeeded, ..."""

    def __init__(self, signals: Signals) -> None:
        self.running: set[Future[bool | None]] = set()
        self.outcomes: set[bool | None] = set()
        self._signals = signals
        self._told = False

    def wait(self) -> bool:
        """Wait a moment until one ends; whether any goes on. Tell people who want an end."""
        left = wait(self.running, TICK, FIRST_COMPLETED).not_done
        if left and self._signals.seen == 1 and not self._told:
            self._told = True
            what = f"{len(left)} commands that run" if len(left) > 1 else "the command that runs"
            tell(f"waiting for {what}: a second Ctrl-C or SIGTERM ends it, and gives its item back")
        return bool(left)

    def collect(self) -> None:
        """Note how those that are over have ended. Raises what one of them has raised."""
        over = {each for each in self.running if each.done()}
        self.running -= over
        self.outcomes.update([each.result() for each in over])


def _work_on(
    item: Delivery[bytes], queue_name: str, command: str | list[str], signals: Signals
) -> bool | None:
    """Run the command for an item, and settle it; whether it succeeded, None if it was ended."""
    status, why = None, ""
    try:
        if not signals.seen:  # else it came together with the signal

            def is_to_end() -> bool:
                return item.lost or signals.seen > 1

            try:
                status, why = _execute(command, item, queue_name, is_to_end)
            except StartError:
                with suppress(LeaseLost):  # then it is back already
                    item.hand_back()
                raise
        taken_away = False
        try:
            if status is None:
                item.hand_back()
            elif status == 0:
                outlast(item.ack, signals, enough=2)
            else:
                outlast(partial(item.fail, reason=why), signals, enough=2)
        except LeaseLost:
            taken_away = True
        if status:
            tell(f"item {item.uid} failed: {why}")
        if taken_away:
            tell(f"item {item.uid} was taken away: its lease was lost, or it was removed")
        return None if status is None else status == 0
    except BaseException:
        signals.seen = max(signals.seen, 1)  # nothing new is taken, and the error is told
        raise


def _execute(
    command: str | list[str], item: Delivery[bytes], queue_name: str, is_to_end: Callable[[], bool]
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
    except ValueError as error:  # a uid with a NUL byte
        return NOT_STARTED, f"not started: {error}"
    except OSError as error:
        if error.errno == errno.E2BIG:  # a uid that no environment has room for
            return NOT_STARTED, f"not started: {error}"
        raise StartError(str(error)) from error
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
