"""A soak: producers and consumers as processes on one server, and faults that befall them.

    python tests/tools/soak.py --minutes 30 --history FILE    all modes, one after another
    python tests/tools/soak.py --modes kill-server --minutes 1 --seed 7
    python tests/tools/soak.py judge FILE                     judges a history, without a server

Each process records what it does; checker.py judges the history: nothing may be lost or invented,
and each second delivery must be explained by a fault, a lease that ended, or a fail. Prints a
table, and exits with 1 if something is wrong, keeping the history.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import redis

import checker
import history
from history import Recorder
from nemesis import FAULTS, Fleet, Nemesis
from saferedis.doctor import examine
from saferedisqueue import SafeRedisQueue
from servers import Server, available
from topologies import Cluster, info, stranger
from workers import NAME, PRODUCERS, Settings

LEASED = ("get-lease", "get-many", "consume")
FLEET = ("put", "put-many", "put-urgent", "get-plain", *LEASED, "consume-50", "async")
# 3.0.0 knows no priorities, and would be handed bells.
MIXED_FLEET = ("put", "put-many", "put-3", "get-plain", *LEASED, "release3", "release3")
MODES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "quiet": ((), FLEET),
    **{name: ((name,), FLEET) for name in FAULTS},
    "everything": (tuple(FAULTS), FLEET),
    "mixed-fleet": (("kill-consumer", "stop-consumer", "kill-producer"), MIXED_FLEET),
    # On a cluster, and beside it a stranger that listens where a connection may go astray.
    "threads": (("cut-again", "fail-over"), ("put-threads", "get-threads")),
}
DRAIN = 60  # seconds in which everything must have been consumed in the end


def run(mode: str, seconds: float, server_binary: Path, settings: Settings) -> list[str]:
    """Run one mode; its history."""
    faults, kinds = MODES[mode]
    is_mixed = "release3" in kinds
    with tempfile.TemporaryDirectory(prefix="srq-") as directory, ExitStack() as stack:
        settings = replace(settings, directory=Path(directory))
        if is_mixed:
            settings = replace(settings, interval=1.0)  # whole seconds, as 3.0.0 has them
        on = _in_cluster if mode == "threads" else _alone
        server, settings, astray = on(server_binary, settings, stack)
        record = Recorder(settings.directory, "soak")
        record("mode", mode, settings.interval, "mixed" if is_mixed else 4)
        fleet = Fleet(settings, record, kinds)
        try:
            nemesis = Nemesis(server, fleet, settings, f"{settings.seed} {mode}")
            _trouble(nemesis, faults, seconds)
            _finish(fleet, record, settings, astray)
        finally:
            fleet.close()
        return history.merge(settings.directory)


# The server that faults befall, what all processes are told, and what counts connections astray.
Place: TypeAlias = "tuple[Server, Settings, Callable[[], int]]"


def _alone(binary: Path, settings: Settings, stack: ExitStack) -> Place:
    options = ("--appendonly", "yes", "--appendfsync", "always")
    server = stack.enter_context(Server(binary, None, *options))
    return server, replace(settings, url=server.url), lambda: 0


def _in_cluster(binary: Path, settings: Settings, stack: ExitStack) -> Place:
    """On the master that has the queue, beside a stranger, to whom nobody may ever connect."""
    other = stack.enter_context(stranger(binary))
    cluster = stack.enter_context(Cluster(binary))
    server = cluster.master_of(NAME)
    settings = replace(settings, url=server.url, cluster=cluster.nodes[0].port)

    def connections() -> int:
        count: int = info(other, "stats")["total_connections_received"]
        return count

    before = connections()
    return server, settings, lambda: connections() - before - 1  # that of now is one


def _trouble(nemesis: Nemesis, faults: tuple[str, ...], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if not faults:
            time.sleep(left)
            break
        time.sleep(min(left, nemesis.random.uniform(0.2, nemesis.settings.lease)))
        nemesis.bring_about(nemesis.random.choice(faults))


def _finish(fleet: Fleet, record: Recorder, settings: Settings, astray: Callable[[], int]) -> None:
    """End the producers, let the consumers empty the queue, and see what is left."""
    old = [process for process in fleet.running if process.kind == "release3"]
    fleet.end([process for process in fleet.running if process.kind in PRODUCERS] + old)
    with (
        redis.Redis.from_url(settings.url) as client,
        SafeRedisQueue(url=settings.url, name=NAME) as queue,
    ):
        if old:
            client.delete(queue.BACKUP_LOCK)  # as doctor advises when no 3.0.0 is running
        _drain(queue, client, record)
        fleet.end(list(fleet.running))
        queue.get(-1)
        for payload in client.hvals(queue.ITEMS_KEY):
            record("still", payload.split(b" ", 1)[0].decode("latin-1"))
        if count := astray():
            record("amiss", f"{count} connections to a stranger")
        keys = [key for key in client.scan_iter("srq:*") if client.pttl(key) == -1]
        record("left", len(keys))


def _drain(queue: SafeRedisQueue[bytes], client: redis.Redis, record: Recorder) -> None:
    begun = time.monotonic()
    while queue.stats().total and time.monotonic() < begun + DRAIN:
        time.sleep(0.05)
        if time.monotonic() < begun + 5:
            continue
        for finding in examine(queue, repair=True):
            for uid in finding.uids if finding.name == "items-nowhere" else ():
                payload = client.hget(queue.ITEMS_KEY, uid) or b"?"
                record("stranded", payload.split(b" ", 1)[0].decode("latin-1"))


# ---- the command ---------------------------------------------------------------------------------


def report(verdicts: list[checker.Verdict]) -> int:
    """Print what was found; the exit code."""
    print(checker.table(verdicts))
    for verdict in verdicts:
        faults = ", ".join(f"{count} {name}" for name, count in sorted(verdict.faults.items()))
        why = ", ".join(f"{count} {why}" for why, count in verdict.explained.most_common())
        print(f"\n{verdict.mode}: {faults or 'no faults'}")
        print(f"    explained: {why or 'nothing'}")
        for problem in verdict.problems[:20]:
            print(f"    WRONG: {problem}")
        if len(verdict.problems) > 20:
            print(f"    WRONG: and {len(verdict.problems) - 20} more")
    return 0 if all(verdict.fine for verdict in verdicts) else 1


def judge(path: Path) -> int:
    with path.open() as lines:
        return report([checker.judge(mode) for mode in history.read(lines)])


def main(argv: list[str]) -> int:
    if len(argv) == 2 and argv[0] == "judge":
        return judge(Path(argv[1]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=5, help="of all modes together")
    parser.add_argument("--modes", default=",".join(MODES), help="some of: %(default)s")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--server", choices=list(available()), help="by default the first")
    parser.add_argument("--history", type=Path, help="where to keep it, also if all is well")
    parser.add_argument("--lease", type=float, default=1.5, help="seconds")
    parser.add_argument("--interval", type=float, default=1.0, help="of autoclean, in seconds")
    parser.add_argument("--rate", type=float, default=60, help="items a second of each producer")
    parser.add_argument(
        "--slow", type=float, default=0.004, help="part of the items that outlast their lease"
    )
    args = parser.parse_args(argv)
    modes = args.modes.split(",")
    if unknown := set(modes) - set(MODES):
        parser.error(f"no such mode: {', '.join(unknown)}")
    label = args.server or next(iter(available()))
    settings = Settings("", Path(), args.seed, args.lease, args.interval, args.rate, args.slow)
    path = args.history or Path(tempfile.mkstemp(prefix="soak-", suffix=".history")[1])

    begun = time.monotonic()
    verdicts = []
    with path.open("w") as file:
        for mode in modes:
            seconds = args.minutes * 60 / len(modes)
            lines = run(mode, seconds, available()[label], settings)
            file.writelines(f"{line}\n" for line in lines)
            verdicts += [checker.judge(each) for each in history.read(lines)]
            print(f"{mode}: {'fine' if verdicts[-1].fine else 'WRONG'}", file=sys.stderr)
    rate = sum(verdict.delivered for verdict in verdicts) / (time.monotonic() - begun)
    said = subprocess.run([available()[label], "--version"], capture_output=True, text=True)
    server = " ".join(said.stdout.split()[:3])
    print(f"seed {args.seed}, {server}, redis-py {redis.__version__}, {rate:.0f} deliveries/s\n")
    code = report(verdicts)
    if code or args.history:
        print(f"\nThe history is in {path}")
    else:
        path.unlink()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
