"""What the results say: medians and their spread, and whether the aims are met."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """The median of the rounds, the least and the most."""

    middle: float
    least: float
    most: float


class Served(NamedTuple):
    """Of a call: how often a command runs, and the microseconds of all of it."""

    times: float
    micros: Spread


# Of a script: all of it, what runs in it, and what is neither.
EVALSHA, COMMANDS, REST = "evalsha", "commands", "rest"


class Aim(NamedTuple):
    """What the queue is to reach: a ratio, or a number; at least the bound, or at most.

    What else runs on the machine disturbs less: by_cpu, the same of the CPU time that client and
    server spent, and best, that of the best round of each.
    """

    title: str
    reached: Spread | None
    bound: float
    at_least: bool = True
    by_cpu: Spread | None = None
    best: float | None = None

    @property
    def met(self) -> str:
        if self.reached is None:
            return "not measured"
        over = self.reached.middle - self.bound
        return "yes" if over == 0 or (over > 0) is self.at_least else "no"


class Results:
    def __init__(self, results: dict[str, Any]) -> None:
        self.about: dict[str, Any] = results["about"]
        self.subjects: dict[str, dict[str, Any]] = results["subjects"]
        self.records: list[dict[str, Any]] = results["rounds"]

    def rounds(self, subject: str, move: str, what: str, **where: Any) -> dict[int, float]:
        """A number by round: an entry of the records, `rate`, or an entry for each item or second.

        count/busiest: items for each second of CPU of the server that was the busiest.
        """
        return {
            each["round"]: _value(each, what)
            for each in self.records
            if each["subject"] == subject
            and each["move"] == move
            and all(each[key] == value for key, value in where.items())
            and (what == "rate" or what.partition("/")[0] in each)
        }

    def spread(self, subject: str, move: str, what: str, **where: Any) -> Spread | None:
        return _spread(self.rounds(subject, move, what, **where).values())

    def ratio(self, above: dict[int, float], below: dict[int, float]) -> Spread | None:
        """Of what was measured in the same rounds."""
        return _spread([above[each] / below[each] for each in above if below.get(each)])

    def served(self, subject: str) -> dict[str, dict[str, Served]]:
        """Of each step, what ran on the server for a call; the most costly command is first."""
        found: dict[str, dict[str, Served]] = {}
        steps = [each for each in self.records if each["move"] == "step"]
        for step in dict.fromkeys(each["step"] for each in steps if each["subject"] == subject):
            rounds = [each for each in steps if (each["subject"], each["step"]) == (subject, step)]
            ran = {command for each in rounds for command in each["ran"]}
            commands = [(command, _served(rounds, [command])) for command in ran]
            found[step] = dict(sorted(commands, key=lambda each: -each[1].micros.middle))
            within = ran - {EVALSHA}
            if EVALSHA in ran:
                found[step][REST] = _served(rounds, [EVALSHA], within)
            found[step][COMMANDS] = _served(rounds, within)
        return found


def _served(
    rounds: list[dict[str, Any]], commands: Iterable[str], without: Iterable[str] = ()
) -> Served:
    """Calls and microseconds of some commands, less those of others, for a call of the queue."""

    def of(each: dict[str, Any], place: int) -> float:
        more, less = (
            sum(each["ran"].get(command, (0, 0))[place] for command in some)
            for some in (commands, without)
        )
        return float((more - less) / each["count"])

    micros = [of(each, 1) for each in rounds]
    spread = Spread(statistics.median(micros), min(micros), max(micros))
    return Served(statistics.median(of(each, 0) for each in rounds), spread)


def _value(record: dict[str, Any], what: str) -> float:
    if what == "rate":
        return float(record["count"] / record["seconds"])
    above, _, below = what.partition("/")
    if above == what:
        return float(record[what])
    return float(record[above] / record[{"item": "count", "second": "seconds"}.get(below, below)])


def _spread(values: Iterable[float]) -> Spread | None:
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found)) if found else None


class _Against:
    """Makes aims of a run; a ratio is of what took turns in the same rounds."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def faster(self, title: str, bound: float, own: tuple[str, str], other: tuple[str, str]) -> Aim:
        results = self.results
        rates = [results.rounds(*each, "rate") for each in (own, other)]
        spent = [_sum(results, each[0], [each[1]], "cpu", "server") for each in (other, own)]
        return Aim(
            title, results.ratio(*rates), bound, True, results.ratio(*spent), _best(max, *rates)
        )

    def as_fast(self, title: str, bound: float, move: str, key: str, sizes: tuple[int, int]) -> Aim:
        rates = [self.results.rounds("own", move, "rate", **{key: size}) for size in sizes]
        return Aim(title, self.results.ratio(*rates), bound, best=_best(max, *rates))

    def cheaper(self, title: str, bound: float, *moves: str) -> Aim:
        own = _sum(self.results, "own", moves, "server")
        streams = _sum(self.results, "streams", ("put", "take"), "server")
        ratio = self.results.ratio(own, streams)
        return Aim(title, ratio, bound, False, best=_best(min, own, streams))

    def lower(self, title: str, bound: float, move: str, what: str, other: str) -> Aim:
        both = [self.results.rounds(subject, move, what) for subject in ("own", other)]
        return Aim(title, self.results.ratio(*both), bound, False, best=_best(min, *both))

    def lower_of(
        self, title: str, bound: float, own: tuple[str, str], other: tuple[str, str], what: str
    ) -> Aim:
        both = [_sum(self.results, subject, [move], what) for subject, move in (own, other)]
        return Aim(title, self.results.ratio(*both), bound, False, best=_best(min, *both))


def aims(results: Results) -> list[Aim]:
    """The project's aims."""
    few, many = results.about["settings"]["queued"]
    less, more = results.about["settings"]["held"]
    against = _Against(results)
    waiting = results.about["settings"]["waiting"]
    idle = [
        100 * each["server"] / each["seconds"]
        for each in results.records
        if each["move"] == "idle" and each["subject"] == "own_asyncio"
    ]
    imported = [1000 * each for each in results.rounds("own", "import", "cpu").values()]
    return [
        against.faster("put, of Streams", 1.4, ("own", "put"), ("streams", "put")),
        against.faster("put, of the list pattern", 1.1, ("own", "put"), ("list", "put")),
        against.faster("get, ack, of Streams", 1.7, ("own", "take"), ("streams", "take")),
        against.faster(
            "consume, of Streams one by one", 3, ("own", "consume"), ("streams", "take")
        ),
        against.faster(
            "consume(prefetch=100), of Streams by 100",
            1.2,
            ("own", "consume_100"),
            ("streams", "take_many"),
        ),
        against.faster(
            "put_many, of Streams by 100", 2.5, ("own", "put_many"), ("streams", "put_many")
        ),
        against.faster(
            "get_many, ack_many, of Streams by 100",
            1.1,
            ("own", "take_many"),
            ("streams", "take_many"),
        ),
        against.lower("wake-up, median, of Streams", 0.85, "wake_up", "p50", "streams"),
        against.lower("wake-up, 99 of 100, of Streams", 1, "wake_up", "p99", "streams"),
        against.lower_of(
            "client's CPU of a put, of an ECHO's", 15 / 9, ("own", "put"), ("socket", "echo"), "cpu"
        ),
        *(
            against.faster(f"asyncio {title}, of Streams", bound, *((each, move) for each in both))
            for title, bound, move in (
                ("put", 1.6, "put"),
                ("get, ack", 2, "take"),
                ("put, 100 tasks", 4, "tasks_put"),
                ("get, ack, 100 tasks", 5, "tasks_take"),
            )
            for both in [("own_asyncio", "streams_asyncio")]
        ),
        against.faster(
            "asyncio put, of execute_command", 1.3, ("own_asyncio", "put"), ("replay", "put")
        ),
        against.faster(
            "asyncio get, ack, of execute_command", 1.3, ("own_asyncio", "take"), ("replay", "take")
        ),
        against.as_fast(
            f"get, ack, {many:,} of {few:,} queued", 0.9, "queued", "queued", (many, few)
        ),
        against.as_fast(f"ack, {more:,} of {less:,} out", 0.9, "settle", "held", (more, less)),
        against.cheaper("server CPU, put, consume, of Streams", 1, "put", "consume"),
        against.cheaper("server CPU, put, get, ack, of Streams", 1.2, "put", "take"),
        Aim(f"server CPU, {waiting:,} idle consumers, % of a core", _spread(idle), 2, False),
        against.lower("bytes an item, of 3.0.0", 1, "memory", "bytes", "release3"),
        Aim("import beyond redis, ms", _spread(imported), 10, False),
    ]


def _best(
    best: Callable[[Iterable[float]], float], above: dict[int, float], below: dict[int, float]
) -> float | None:
    return best(above.values()) / best(below.values()) if above and below else None


def _sum(results: Results, subject: str, moves: Sequence[str], *whats: str) -> dict[int, float]:
    """For each item and round, the sum of what was measured of several moves."""
    parts = [results.rounds(subject, move, f"{what}/item") for move in moves for what in whats]
    rounds = set.intersection(*map(set, parts))
    return {number: sum(part[number] for part in parts) for number in sorted(rounds)}
