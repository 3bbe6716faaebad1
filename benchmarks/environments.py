"""The subjects' own environments, and their processes."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from .adapter import Place
from .subjects import SUBJECTS

PATIENCE = 120.0  # seconds in which a process must have done what it was told

HERE = Path(__file__).parent
ENVIRONMENTS = HERE / ".envs"

START = """
import json, sys
path, replace, arguments = json.loads(sys.argv.pop())
sys.path[:] = path if replace else sys.path[1:] + path
from benchmarks.child import main
main(*arguments)
"""


class UnavailableError(Exception):
    """A subject that cannot be measured here, and why."""


class HungError(Exception):
    """A process that did not answer: what was measured meanwhile means nothing."""


def set_up(names: list[str], folder: Path) -> None:
    """Install what the subjects require, each in an environment of its own; say what failed."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        if SUBJECTS[name].requires:
            print(f"{name}: ", end="", flush=True)
            failed = _failed(name, folder)
            failed.unlink(missing_ok=True)
            log = folder / f"{name}.log"
            with log.open("w") as output:
                try:
                    for command in _commands(name, folder / name):
                        subprocess.run(command, check=True, stdout=output, stderr=output)
                except OSError:
                    failed.write_text(f"needs Python {SUBJECTS[name].python}")
                except subprocess.CalledProcessError:
                    failed.write_text(log.read_text().strip().splitlines()[-1])
            print(failed.read_text() if failed.exists() else "installed")


def _commands(name: str, home: Path) -> Iterator[list[str]]:
    version = SUBJECTS[name].python
    yield [f"python{version}" if version else sys.executable, "-m", "venv", "--clear", str(home)]
    pip = [str(home / "bin/python"), "-m", "pip", "install", "-q"]
    # hiredis, because this environment may have it.
    yield [*pip, *SUBJECTS[name].requires, "hiredis"]


def _failed(name: str, folder: Path) -> Path:
    """Where it says why a subject could not be installed."""
    return folder / f"{name}.failed"


def _python(name: str, folder: Path) -> str:
    if not SUBJECTS[name].requires:
        return sys.executable
    failed, python = _failed(name, folder), folder / name / "bin/python"
    if failed.exists():
        raise UnavailableError(f"cannot be installed: {failed.read_text()}")
    if not python.exists():
        raise UnavailableError("not installed: python -m benchmarks setup")
    return str(python)


class Process:
    """A subject's process, which does what it is told, once it is opened (see child.py)."""

    def __init__(
        self,
        subject: str,
        place: Place,
        folder: Path,
        errors: IO[Any],
        name: str = "benchmark",
        cores: set[int] | None = None,
        done: Path | None = None,
    ) -> None:
        """done: be a worker, whose tasks write to that file."""
        about = SUBJECTS[subject]
        own, checkout = not about.requires, str(HERE.parent)
        arguments = (name, about.adapter, about.requires, place, done is not None)
        # Ours are imported from where we were; others must not find what we have.
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        start = json.dumps([[*sys.path, checkout] if own else [checkout], own, arguments])
        self._process = subprocess.Popen(
            [_python(subject, folder), "-c", START, start],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**environment, "BENCHMARK_DONE": str(done)},
            start_new_session=True,
        )
        self.subject = subject
        if cores is not None:
            self.use(cores)
        self.moves: list[str] = []
        self.versions: dict[str, str] = {}

    def opened(self) -> Process:
        """Wait until it is there: processes can be started together."""
        about = self.hear()
        self.moves, self.versions = about["moves"], about["versions"]
        return self

    def use(self, cores: set[int]) -> None:
        """Run on these processors, with all that is started from now on."""
        os.sched_setaffinity(self._process.pid, cores)

    def tell(self, what: str, *arguments: Any) -> None:
        """Have it do something; `hear` waits for what it answers."""
        assert self._process.stdin
        print(json.dumps([what, arguments]), file=self._process.stdin, flush=True)

    def hear(self, patience: float = PATIENCE) -> Any:
        assert self._process.stdout
        if not select.select([self._process.stdout], [], [], patience)[0]:
            raise HungError(f"a process of {self.subject} did not answer in {patience:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise UnavailableError(f"its process ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise UnavailableError(answer["error"])
        return answer["result"]

    def ask(self, what: str, *arguments: Any) -> Any:
        self.tell(what, *arguments)
        return self.hear()

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()
        try:
            os.killpg(self._process.pid, signal.SIGKILL)  # with those that a worker has forked
        except ProcessLookupError:
            pass
        self._process.wait()

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
