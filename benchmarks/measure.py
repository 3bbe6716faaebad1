"""A run: the sections, each of which lets the subjects take turns, round by round.

The result is a dict for JSON: `about` the machine and the run, `subjects` (what they are, or why
they could not be measured), and `rounds`, one flat record for each turn, with all that was seen.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import redis
from tqdm import tqdm

from saferedisqueue import __version__
from servers import Server, available, free_port

from .adapter import Place
from .environments import Process, UnavailableError
from .subjects import SUBJECTS

# What is put by the first move is taken by the second.
COURSES: tuple[tuple[str, str | None], ...] = (
    ("put", "take"),
    ("put_many", "take_many"),
    ("fill", "consume"),
    ("fill", "consume_100"),
    ("tasks_put", "tasks_take"),
    ("echo", None),
    ("put", None),  # of task queues
)


# Those whose queue can be long: their puts of many are fast.
PLAIN = ("own", "streams", "list")

# Where the server and its clients run.
CORES = {
    "one": "the client and the server on one processor",
    "two": "the client and the server on a processor each",
    "any": "wherever the system lets them run",
}
# What the server counts of us, and of who connects.
NOT_COUNTED = ("config|resetstat", "config", "info", "hello", "client|setinfo", "client")


class Settings(NamedTuple):
    """How much is measured; most are numbers of items.

    seconds: of a turn of the slower move. passes: over the steps that the server's time is told of.
    """

    rounds: int = 7
    seconds: float = 0.25
    most: int = 20_000
    wake_ups: int = 100
    worker: int = 1000
    held: tuple[int, int] = (10, 10_000)
    queued: tuple[int, int] = (1000, 1_000_000)
    stored: int = 10_000
    clients: tuple[int, ...] = (1, 4, 16)
    waiting: int = 1000
    idle_seconds: float = 5.0
    crowd_seconds: float = 1.0
    queues: tuple[int, ...] = (3, 12)
    passes: int = 20


QUICK = Settings(
    5, 0.05, 2000, 20, 50, (10, 1000), (1000, 20_000), 10_000, (1, 4), crowd_seconds=0.5,
    queues=(3,), passes=5,
)  # fmt: skip
TINY = Settings(
    2, 0.002, 30, 3, 10, (10, 30), (10, 30), 30, (1, 2), 10, 0.1, crowd_seconds=0.1, queues=(3,),
    passes=1,
)  # fmt: skip


class Bench:
    """The server, the processes of the subjects, and what was measured so far."""

    def __init__(
        self,
        binary: Path,
        names: list[str],
        settings: Settings,
        folder: Path,
        quiet: bool,
    ) -> None:
        self.settings, self.folder, self.quiet = settings, folder, quiet
        self.binary, self.names = binary, names
        self.records: list[dict[str, Any]] = []
        self.subjects: dict[str, dict[str, Any]] = {}
        self.processes: dict[str, Process] = {}
        self.idle: dict[str, float] = {}
        self.processors = sorted(os.sched_getaffinity(0))
        self.client_cores = set(self.processors)
        self.cores = "any"
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        with ExitStack() as stack:
            self.temporary = Path(
                stack.enter_context(tempfile.TemporaryDirectory(prefix="srq-benchmarks-"))
            )
            self.errors = stack.enter_context((self.temporary / "errors").open("w+"))
            self.server = stack.enter_context(Server(self.binary, port=free_port()))
            self.client = stack.enter_context(self.server.client())
            self.place = Place(self.server.port, self.server.socket)
            # What looking costs, to be taken off.
            idle = [self.watched(dict) for _ in range(20)]
            self.idle = {key: statistics.median(each[key] for each in idle) for key in idle[0]}
            self._open(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def use_cores(self, how: str) -> None:
        """Where the server and its clients run from now on: see CORES."""
        every, first, last = set(self.processors), {self.processors[0]}, {self.processors[-1]}
        places = {"any": (every, every), "one": (last, last), "two": (first, last)}
        server, self.client_cores = places[how]
        os.sched_setaffinity(self.server.pid, server)
        for process in self.processes.values():
            process.use(self.client_cores)
        self.cores = how

    def process(self, subject: str, place: Place | None = None, **more: Any) -> Process:
        """One that has been started, and is to be opened."""
        return Process(
            subject, place or self.place, self.folder, self.errors, cores=self.client_cores, **more
        )

    def started(
        self, stack: ExitStack, names: Sequence[str], place: Place | None = None, **more: Any
    ) -> list[Process]:
        """Further processes of the subjects, until the stack ends."""
        processes = [stack.enter_context(self.process(name, place, **more)) for name in names]
        return [process.opened() for process in processes]

    def _open(self, stack: ExitStack) -> None:
        for name in self.names:
            about = self.subjects[name] = {"title": SUBJECTS[name].title}
            try:
                self.processes[name] = stack.enter_context(self.process(name))
            except UnavailableError as reason:
                about["unavailable"] = str(reason)
        for name, process in list(self.processes.items()):
            about = self.subjects[name]
            try:
                process.opened()
                about.update(moves=process.moves, versions=process.versions)
            except UnavailableError as reason:
                about["unavailable"] = str(reason)
                del self.processes[name]

    # -- turns ----------------------------------------------------------------------------------

    def having(self, *moves: str | None) -> list[str]:
        return [
            name
            for name, process in self.processes.items()
            if all(move in (None, "fill", *process.moves) for move in moves)
        ]

    def turns(
        self, names: list[str], what: str, rounds: int | None = None
    ) -> Iterator[tuple[int, str]]:
        """Every subject in every round; round 0, which is not kept, warms up."""
        for number, name, _ in self.turns_of([(name, what) for name in names], what, rounds):
            yield number, name

    def turns_of(
        self, steps: list[tuple[str, str]], title: str, rounds: int | None = None
    ) -> Iterator[tuple[int, str, str]]:
        """Every step, of a subject and what it does, in every round."""
        rounds = self.settings.rounds if rounds is None else rounds
        turns = [(number, *step) for number in range(rounds + 1) for step in steps]
        for number, name, what in tqdm(turns, title, leave=False, disable=self.quiet):
            # An earlier turn may have shown that it cannot.
            if f"cannot {what}" not in self.subjects[name]:
                yield number, name, what

    @contextmanager
    def turn(self, name: str, what: str) -> Iterator[None]:
        """Of a subject that fails in it, note why, and leave it out from then on."""
        try:
            yield
        except UnavailableError as reason:
            self.subjects[name][f"cannot {what}"] = str(reason)

    def record(self, number: int, subject: str, move: str, **measured: Any) -> None:
        if number:
            about = {"subject": subject, "move": move, "round": number, "cores": self.cores}
            self.records.append({**about, **measured})

    def emptied(self, *names: str, count: int = 1) -> None:
        self.client.flushall()
        for name in names:
            self.processes[name].ask("prepare", count)

    def watched(self, step: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a step measured, and what the server saw of it."""
        before = self._seen()
        measured = step()
        after = self._seen()
        return {
            **measured,
            **{key: after[key] - before[key] - self.idle.get(key, 0) for key in after},
        }

    def _seen(self) -> dict[str, float]:
        info = self.client.info("all")
        calls = (each["calls"] for key, each in info.items() if key.startswith("cmdstat_"))
        return {
            "server": info["used_cpu_user"] + info["used_cpu_sys"],
            "commands": sum(calls),
            "packets": info.get("total_reads_processed", 0),
            "unused": unused(),
        }

    # -- sections -------------------------------------------------------------------------------

    def moves(self) -> None:
        """Items a second of each move, with the CPU of both sides, commands and packets."""
        courses = {", ".join(filter(None, course)): course for course in COURSES}
        # Rounds around courses: what is compared is measured within seconds.
        steps = [
            (name, what)
            for what, course in courses.items()
            for name in self.having(*course)
            if what != "put" or name not in self.having("take")
        ]
        counts: dict[tuple[str, str], int] = {}
        for number, name, what in self.turns_of(steps, "moves"):
            count = counts.get((name, what), min(20, self.settings.most))
            with self.turn(name, what):
                slowest = self._course(number, name, courses[what], count)
                if number < 2:  # the first knows little: it was not warm
                    wanted = int(self.settings.seconds / slowest)
                    counts[name, what] = min(max(wanted, 20), self.settings.most)

    def _course(self, number: int, name: str, moves: tuple[str, str | None], count: int) -> float:
        """The seconds an item of the slower move."""
        process, slowest = self.processes[name], 1e-6  # what tells its own time may say none
        self.emptied(name, count=count)
        for move in filter(None, moves):
            if move == "fill":
                process.ask("fill", count)
                continue
            measured = self.watched(partial(process.ask, "run", move, count))
            self.record(number, name, move, count=count, **measured)
            slowest = max(slowest, measured["seconds"] / count)
        return slowest

    def served(self) -> None:
        """The server's microseconds for each call, and for each command that runs in it."""
        for number, name in self.turns(self.having("step"), "server"):
            with self.turn(name, "server"):
                self.emptied(name)
                spent: dict[str, tuple[list[int], dict[str, list[int]]]] = {}
                for _ in range(self.settings.passes if number else 1):
                    while True:
                        self.client.config_resetstat()
                        step, calls = self.processes[name].ask("step")
                        if not calls:
                            break
                        if step:
                            counts, commands = spent.setdefault(step, ([], {}))
                            counts.append(calls)
                            self._add_commands(commands)
                for step, (counts, commands) in spent.items():
                    self.record(number, name, "step", step=step, count=sum(counts), ran=commands)

    def _add_commands(self, commands: dict[str, list[int]]) -> None:
        """Add how often each command ran, and the microseconds of it."""
        for key, about in self.client.info("commandstats").items():
            command = key.removeprefix("cmdstat_")
            if command not in NOT_COUNTED:
                before = commands.get(command, [0, 0])
                commands[command] = [before[0] + about["calls"], before[1] + about["usec"]]

    def wake_up(self) -> None:
        """Seconds from the begin of a put until a consumer that waits in another process has it."""
        counts: dict[str, int] = {}
        with ExitStack() as stack:
            names = self.having("wait")
            others = dict(zip(names, self.started(stack, names)))
            for number, name in self.turns(names, "wake-up"):
                with self.turn(name, "wake-up"):
                    self.emptied(name)
                    many = counts.get(name, 3)
                    others[name].tell("receive", many)
                    self.processes[name].ask("send", many)
                    late = others[name].hear()
                    counts[name] = counts.get(name, self._many_wake_ups(late))
                    self._late(number, name, "wake_up", late)

    def _many_wake_ups(self, late: list[float]) -> int:
        """Fewer of those that look again and again."""
        most = self.settings.wake_ups
        return min(max(int(10 * self.settings.seconds / min(late)), 5), most)

    def _late(self, number: int, name: str, move: str, late: list[float]) -> None:
        p99 = sorted(late)[int(len(late) * 0.99)]
        self.record(number, name, move, p50=statistics.median(late), p99=p99, late=late)

    def idle_consumers(self) -> None:
        """What a server does for consumers that wait, while nothing comes."""
        count, seconds = self.settings.waiting, self.settings.idle_seconds
        for number, name in self.turns(self.having("idle"), "idle", 1):
            with self.turn(name, "idle"):
                self.emptied(name)
                measured = self.processes[name].ask("idle", count, seconds)
                self.record(number, name, "idle", clients=count, **measured)

    def settle(self) -> None:
        """Acks a second with few and with many items out."""
        count = min(1000, *self.settings.held[1:])
        for number, name in self.turns(self.having("settle"), "settle"):
            for held in self.settings.held:
                with self.turn(name, "settle"):
                    self.emptied(name)
                    some = count if number else 10
                    measured = self.processes[name].ask("settle", held, some)
                    self.record(number, name, "settle", held=held, count=some, **measured)

    def queued(self) -> None:
        """Get and ack with few and with many items queued, in turns."""
        few, many = self.settings.queued
        for name in (name for name in self.having("put_many", "take") if name in PLAIN):
            self.client.flushall()
            with ExitStack() as stack, self.turn(name, "queued"):
                queues = {}
                for size in (few, many):
                    (queues[size],) = self.started(stack, [name], name=f"queue-{size}")
                    queues[size].ask("prepare", 1)
                    queues[size].ask("fill", size)
                for number, _ in self.turns([name], f"{many:,} queued"):
                    for size, queue in queues.items():
                        count = min(few, 500)
                        measured = queue.ask("turn", count)
                        self.record(number, name, "queued", queued=size, count=count, **measured)

    def memory(self) -> None:
        """Bytes of the server's memory for each item that is queued."""
        count = self.settings.stored
        for number, name in self.turns(self.having("put", "memory"), "memory", 1):
            with self.turn(name, "memory"):
                self.emptied(name)
                self.processes[name].ask("fill", 10)
                before = self.client.info("memory")["used_memory"]
                self.processes[name].ask("fill", count)
                used = (self.client.info("memory")["used_memory"] - before) / count
                self.record(number, name, "memory", count=count, bytes=used)

    def imports(self) -> None:
        """What importing the module costs, beyond importing redis."""
        code = (
            "import redis, redis.asyncio; from time import perf_counter, process_time;"
            "seconds, cpu = perf_counter(), process_time(); import saferedisqueue;"
            "print(perf_counter() - seconds, process_time() - cpu)"
        )
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            # Compiled once, as an installed module is: by the round that warms up.
            "PYTHONDONTWRITEBYTECODE": "",
            "PYTHONPYCACHEPREFIX": str(self.temporary),
        }
        for number, _ in self.turns(["own"], "import"):
            command = [sys.executable, "-c", code]
            said = subprocess.run(
                command, capture_output=True, text=True, check=True, env=environment
            )
            seconds, cpu = map(float, said.stdout.split())
            self.record(number, "own", "import", seconds=seconds, cpu=cpu)

    def workers(self) -> None:
        """Of task queues: from queued to run with an empty task, in one worker process."""
        counts: dict[str, int] = {}
        wake_ups: dict[str, int] = {}
        for number, name in self.turns(self.having("work"), "worker"):
            with self.turn(name, "worker"):
                count = counts.get(name, 50 if number == 0 else self.settings.worker)
                self.emptied(name)
                self.processes[name].ask("fill", count)
                done = self.temporary / f"done-{name}-{number}"
                with self.process(name, done=done):
                    lines = self._lines(done, count)
                    stamps = [stamp for stamp, _ in lines]
                    seconds = (stamps[-1] - stamps[0]) / 1e9
                    different = len({item for _, item in lines})
                    self.record(
                        number, name, "worker", count=count - 1, seconds=seconds,
                        lost=count - different, doubled=len(lines) - different,
                    )  # fmt: skip
                    if number < 3:  # some work in bursts: the fewer, the slower they seem
                        wanted = int(count / seconds * self.settings.seconds * 8)
                        counts[name] = min(max(wanted, 50), self.settings.worker)
                    many = wake_ups.get(name, 3)
                    self.processes[name].ask("send", many)
                    woken = self._lines(done, len(lines) + many)[len(lines) :]
                    late = [(got - put) / 1e9 for got, put in woken]
                    wake_ups[name] = wake_ups.get(name, self._many_wake_ups(late))
                    self._late(number, name, "worker_wake_up", late)

    def _lines(self, done: Path, count: int) -> list[tuple[int, int]]:
        """What the tasks of a worker wrote, once it is so many lines: when, and the number."""
        deadline = time.monotonic() + 60
        while True:
            text = done.read_text() if done.exists() else ""
            if text.count("\n") >= count:
                return [
                    (int(stamp), int(item)) for stamp, item in map(str.split, text.splitlines())
                ]
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"{text.count(chr(10))} of {count} tasks were run in a minute"
                )
            time.sleep(0.02)

    def about(self) -> dict[str, Any]:
        checkout = Path(__file__).parents[1]
        revision = subprocess.run(
            ["git", "-C", str(checkout), "describe", "--always", "--dirty"],
            capture_output=True,
            text=True,
        ).stdout.strip()
        return {
            "date": time.strftime("%Y-%m-%d %H:%M %Z"),
            "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.platform()}",
            "load": os.getloadavg(),
            "python": platform.python_version(),
            "redis-py": redis.__version__,
            "hiredis": _hiredis(),
            "server": next(label for label, path in available().items() if path == self.binary),
            "saferedisqueue": f"{__version__} {revision}".strip(),
            "processors": len(self.processors),
            "settings": self.settings._asdict(),
        }

    def result(self, about: dict[str, Any]) -> dict[str, Any]:
        return {"about": about, "subjects": self.subjects, "rounds": self.records}


def unused() -> float:
    """Seconds that this machine's processors had nothing to do, in sum."""
    idle, waiting = Path("/proc/stat").read_text().split()[4:6]
    return (int(idle) + int(waiting)) / os.sysconf("SC_CLK_TCK")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _hiredis() -> str:
    try:
        from hiredis import __version__ as installed
    except ImportError:
        return "not installed"
    return str(installed)
