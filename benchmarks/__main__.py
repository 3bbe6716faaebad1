"""The command line: see the package's docstring."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from servers import available

from . import __doc__ as about
from . import crowd, draw, environments, measure
from .environments import HungError
from .measure import CORES, Bench
from .results import Results
from .subjects import SMALLEST, SUBJECTS

# In the order of a run, with what each does. Those of ONE_CLIENT, and of two that take turns, run
# on one processor, so that an exchange is what both sides do, without the waking of another one.
# Workers with threads of their own, and crowds, run on all.
SECTIONS: dict[str, Callable[[Bench], None]] = {
    "moves": Bench.moves,
    "server": Bench.served,
    "in-flight": Bench.settle,
    "memory": Bench.memory,
    "queued": Bench.queued,
    "wake-up": Bench.wake_up,
    "idle": Bench.idle_consumers,
    "worker": Bench.workers,
    "import": Bench.imports,
    "crowd": crowd.crowds,
    "order": crowd.first_served,
    "cluster": crowd.cluster,
}
ONE_CLIENT = ("moves", "server", "in-flight", "memory", "queued", "wake-up")
SIZES = {"full": measure.Settings(), "quick": measure.QUICK, "tiny": measure.TINY}


def setup(args: argparse.Namespace) -> None:
    environments.set_up(args.names or list(SUBJECTS), args.envs)


def run(args: argparse.Namespace) -> None:
    names = [each for each in args.only if each in SUBJECTS] or list(SUBJECTS)
    if args.size == "tiny" and not args.only:
        names = list(SMALLEST)
    sections = [each for each in args.only if each in SECTIONS] or list(SECTIONS)
    settings = SIZES[args.size]
    if args.rounds:
        settings = settings._replace(rounds=args.rounds)
    found = available()
    if not found:
        raise SystemExit("no redis-server or valkey-server on this machine")
    label = args.server or ("redis-7.0" if "redis-7.0" in found else next(iter(found)))
    names = [name for name in SUBJECTS if name in names]
    with Bench(found[label], names, settings, args.envs, args.quiet) as bench:
        said = bench.about()
        for section, measure_it in SECTIONS.items():
            if section in sections:
                bench.use_cores(args.cores if section in ONE_CLIENT else "any")
                try:
                    measure_it(bench)
                except HungError as error:
                    raise SystemExit(f"{section}: {error}") from None
                args.out.write_text(json.dumps(bench.result(said)))


def drawn(args: argparse.Namespace) -> None:
    results = Results(json.loads(args.results.read_text()))
    print(draw.table(results))
    if args.plot:
        draw.plot(results, args.plot)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=about, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(
        does: Callable[[argparse.Namespace], None], name: str, text: str
    ) -> argparse.ArgumentParser:
        added = commands.add_parser(name, help=text, description=text)
        added.set_defaults(does=does)
        return added

    def with_environments(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument(
            "--envs", type=Path, default=environments.ENVIRONMENTS, help="folder of environments"
        )
        return added

    added = with_environments(command(setup, "setup", "install what the subjects need"))
    added.add_argument("names", nargs="*", metavar="SUBJECT", help=", ".join(SUBJECTS))

    added = with_environments(command(run, "run", "measure, and write the results as JSON"))
    added.add_argument("--out", type=Path, required=True, metavar="FILE")
    sizes = added.add_mutually_exclusive_group()
    for size, text in (("quick", "a few minutes"), ("tiny", "seconds: only shows that it runs")):
        sizes.add_argument(f"--{size}", dest="size", action="store_const", const=size, help=text)
    added.set_defaults(size="full")
    added.add_argument(
        "--only",
        nargs="+",
        default=[],
        choices=[*SUBJECTS, *SECTIONS],
        metavar="WHAT",
        help=f"subjects ({', '.join(SUBJECTS)}) or sections ({', '.join(SECTIONS)})",
    )
    added.add_argument("--rounds", type=int, help="turns of each")
    added.add_argument("--server", choices=list(available()), help="default: redis-7.0, if there")
    added.add_argument(
        "--cores",
        choices=list(CORES),
        default="one",
        help="where one client and the server run (default: one): "
        + "; ".join(f"{how}: {text}" for how, text in CORES.items()),
    )
    added.add_argument("--quiet", action="store_true", help="no progress bar")

    added = command(drawn, "draw", "print the table in RST, and draw the picture")
    added.add_argument("results", type=Path)
    added.add_argument("--plot", type=Path, metavar="FILE", help="SVG or PNG; needs matplotlib")

    args = parser.parse_args(argv)
    args.does(args)


if __name__ == "__main__":
    main()
