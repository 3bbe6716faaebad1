"""What the results say: medians and their spread, the aims, tables in RST, a picture."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Spread(NamedTuple):
    """The median of the rounds, the least and the most."""

    middle: float
    least: float
    most: float


class Aim(NamedTuple):
    """What the queue is to reach: a ratio, or a number; at least the bound, or at most."""

    title: str
    reached: Spread | None
    bound: float
    at_least: bool = True

    @property
    def met(self) -> str:
        if self.reached is None:
            return "not measured"
        good = self.reached.middle >= self.bound
        return "yes" if good is self.at_least or self.reached.middle == self.bound else "no"


class Results:
    def __init__(self, results: dict[str, Any]) -> None:
        self.about: dict[str, Any] = results["about"]
        self.subjects: dict[str, dict[str, Any]] = results["subjects"]
        self.records: list[dict[str, Any]] = results["rounds"]

    def rounds(self, subject: str, move: str, what: str, **where: Any) -> dict[int, float]:
        """A number by round: an entry of the records, `rate`, or an entry for each item."""
        return {
            each["round"]: _value(each, what)
            for each in self.records
            if each["subject"] == subject
            and each["move"] == move
            and all(each[key] == value for key, value in where.items())
            and (what == "rate" or what.removesuffix("/item") in each)
        }

    def spread(self, subject: str, move: str, what: str, **where: Any) -> Spread | None:
        return _spread(self.rounds(subject, move, what, **where).values())

    def ratio(self, above: dict[int, float], below: dict[int, float]) -> Spread | None:
        """Of what was measured in the same rounds."""
        return _spread([above[each] / below[each] for each in above if below.get(each)])


def _value(record: dict[str, Any], what: str) -> float:
    if what == "rate":
        return float(record["count"] / record["seconds"])
    if what.endswith("/item"):
        return float(record[what.removesuffix("/item")] / record["count"])
    return float(record[what])


def _spread(values: Any) -> Spread | None:
    values = list(values)
    return Spread(statistics.median(values), min(values), max(values)) if values else None


def aims(results: Results) -> list[Aim]:
    """The project's aims; ratios are those of rounds, in which both took their turns."""

    def rates(subject: str, move: str) -> dict[int, float]:
        return results.rounds(subject, move, "rate")

    def cpu(subject: str, *moves: str) -> dict[int, float]:
        of_moves = [results.rounds(subject, move, "server/item") for move in moves]
        return {number: sum(each[number] for each in of_moves) for number in min(of_moves, key=len)}

    def against(own: str, other: str, move: str, by: str = "own") -> Spread | None:
        return results.ratio(rates(by, own), rates(other, move))

    def with_more(move: str, key: str) -> Spread | None:
        few, many = results.about["settings"][key]
        where = {"settle": "held"}.get(move, key)
        return results.ratio(
            results.rounds("own", move, "rate", **{where: many}),
            results.rounds("own", move, "rate", **{where: few}),
        )

    def late(what: str) -> Spread | None:
        return results.ratio(
            *(results.rounds(each, "wake_up", what) for each in ("own", "streams"))
        )

    def stored(subject: str) -> dict[int, float]:
        return results.rounds(subject, "memory", "bytes")

    called, streamed = cpu("own", "put", "take"), cpu("streams", "put", "take")
    few, many = results.about["settings"]["queued"]
    _, held = results.about["settings"]["held"]
    imported = results.rounds("own", "import", "cpu")
    return [
        Aim("put: Streams", against("put", "streams", "put"), 1.25),
        Aim("put: list pattern", against("put", "list", "put"), 1.1),
        Aim("get, ack: Streams", against("take", "streams", "take"), 1.5),
        Aim("consume: Streams one at a time", against("consume", "streams", "take"), 3.0),
        Aim(
            "consume(100): Streams by 100",
            against("consume_100", "streams", "take_many"),
            120 / 190,
        ),
        Aim("put_many by 100: Streams", against("put_many", "streams", "put_many"), 1.5),
        Aim(
            "get_many, ack_many by 100: Streams", against("take_many", "streams", "take_many"), 1.0
        ),
        Aim("wake-up, median: Streams", late("p50"), 1.0, False),
        Aim("wake-up, 99 of 100: Streams", late("p99"), 1.0, False),
        Aim("asyncio put: execute_command", against("put", "replay", "put", "own_asyncio"), 1.3),
        Aim(
            "asyncio get, ack: execute_command",
            against("take", "replay", "take", "own_asyncio"),
            1.3,
        ),
        Aim(f"get, ack of {many:,} queued: of {few:,}", with_more("queued", "queued"), 0.95),
        Aim(f"ack with {held:,} out: with 10", with_more("settle", "held"), 0.9),
        Aim(
            "server CPU, put, consume: Streams",
            results.ratio(cpu("own", "put", "consume"), streamed),
            1.2,
            False,
        ),
        Aim("server CPU, put, get, ack: Streams", results.ratio(called, streamed), 1.6, False),
        Aim("bytes an item: 3.0.0", results.ratio(stored("own"), stored("release3")), 1.0, False),
        Aim(
            "import beyond redis, ms",
            _spread([1000 * each for each in imported.values()]),
            10,
            False,
        ),
    ]


# ---- tables ------------------------------------------------------------------------------------

RATES = {
    "put": "put",
    "take": "get, ack",
    "consume": "consume",
    "consume_100": "consume, prefetch 100",
    "put_many": "put by 100",
    "take_many": "get, ack by 100",
    "tasks_put": "put, 100 tasks",
    "tasks_take": "get, ack, 100 tasks",
    "worker": "worker",
    "echo": "echo",
}
COSTS = {
    "put": "put",
    "take": "get, ack",
    "consume": "consume",
    "consume_100": "consume, prefetch 100",
    "put_many": "put by 100",
    "take_many": "get, ack by 100",
}


def table(results: Results) -> str:
    """All tables, in RST."""
    about, left_out = results.about, list(_left_out(results))
    said = [
        f"{about['date']}, {about['machine']}; Python {about['python']}, "
        f"redis-py {about['redis-py']}, hiredis {about['hiredis']}, {about['server']}, "
        f"saferedisqueue {about['saferedisqueue']}; load {about['load'][0]:.1f}"
        + (", pinned to a core each." if about["pinned"] else "."),
        "The medians of the rounds, and in brackets the least and the most.",
        f"Items lost: {_sum(results, 'lost')}. Items doubled: {_sum(results, 'doubled')}.",
        "Aims\n----",
        _aims(results),
        "Items a second\n--------------",
        *_rates(results),
        "Wake-up\n-------",
        _wake_ups(results),
        "Costs of an item\n----------------",
        _costs(results),
        "Many in flight, many queued\n---------------------------",
        _lengths(results),
        "Many clients\n------------",
        _crowds(results),
        "Not measured\n------------",
        "\n".join(f"- {reason}" for reason in left_out) or "Nothing was left out.",
    ]
    return "\n\n".join(each for each in said if each) + "\n"


def _aims(results: Results) -> str:
    rows = []
    for aim in aims(results):
        bound = f"{'≥' if aim.at_least else '≤'} {aim.bound:.2f}"
        rows.append([aim.title, _shown(aim.reached, "{:.2f}"), bound, aim.met])
    return _rst(["what", "reached", "aim", "met"], rows)


def _rates(results: Results) -> Iterator[str]:
    """A table for the moves of one, another for those of many, so that they are not too broad."""
    for moves in (("put", "take", "consume", "worker", "echo"), tuple(RATES)[3:8]):
        rows = []
        for subject, about in results.subjects.items():
            cells = [_shown(results.spread(subject, move, "rate"), "{:,.0f}") for move in moves]
            if any(cells):
                rows.append([about["title"], *cells])
        if rows:
            yield _rst(["items a second", *(RATES[move] for move in moves)], rows)


def _wake_ups(results: Results) -> str:
    rows = []
    for subject, about in results.subjects.items():
        late = [results.spread(subject, "wake_up", what) for what in ("p50", "p99")]
        cells = [_shown(each, "{:.2f}", 1000) for each in late]
        if any(cells):
            rows.append([about["title"], *cells])
    return _rst(["ms", "median", "99 of 100"], rows) if rows else ""


def _costs(results: Results) -> str:
    rows = []
    for subject, about in results.subjects.items():
        for move, title in COSTS.items():
            cells = [
                _shown(
                    results.spread(subject, move, what),
                    "{:.2f}" if factor == 1 else "{:.0f}",
                    factor,
                )
                for what, factor in (
                    ("cpu/item", 1e6),
                    ("server/item", 1e6),
                    ("commands/item", 1),
                    ("packets/item", 1),
                )
            ]
            if any(cells):
                stored = results.spread(subject, "memory", "bytes") if move == "put" else None
                rows.append([about["title"], title, *cells, _shown(stored, "{:.0f}")])
    heads = ["queue", "move", "client µs", "server µs", "commands", "round trips", "bytes"]
    return _rst(heads, rows) if rows else ""


def _lengths(results: Results) -> str:
    rows = []
    for subject, about in results.subjects.items():
        for move, key, title in (
            ("settle", "held", "ack, {:,} out"),
            ("queued", "queued", "get, ack, {:,} queued"),
        ):
            for size in results.about["settings"][key]:
                spread = results.spread(subject, move, "rate", **{key: size})
                if spread:
                    rows.append([about["title"], title.format(size), _shown(spread, "{:,.0f}")])
    return _rst(["queue", "move", "a second"], rows) if rows else ""


def _crowds(results: Results) -> str:
    rows = []
    for subject, about in results.subjects.items():
        for size in results.about["settings"]["clients"]:
            cells = [
                _shown(results.spread(subject, "crowd", what, clients=size), shape)
                for what, shape in (
                    ("rate", "{:,.0f}"),
                    ("server_share", "{:.2f}"),
                    ("slowest", "{:.2f}"),
                )
            ]
            if any(cells):
                order = results.spread(subject, "order", "share", clients=size)
                rows.append([about["title"], str(size), *cells, _shown(order, "{:.2f}")])
    for kind in ("one", "three"):
        spread = results.spread("own", "cluster", "rate", masters=kind)
        if spread:
            title = f"this queue, {results.about['settings']['queues']} queues, masters: {kind}"
            rows.append([title, "", _shown(spread, "{:,.0f}"), "", "", ""])
    heads = ["queue", "pairs", "items/s", "server CPU", "slowest consumer", "first served"]
    return _rst(heads, rows) if rows else ""


def _left_out(results: Results) -> Iterator[str]:
    for about in results.subjects.values():
        for key, reason in about.items():
            if key == "unavailable":
                yield f"{about['title']}: {_escaped(reason)}"
            elif key.startswith("cannot "):
                yield f"{about['title']}, {key.removeprefix('cannot ')}: {_escaped(reason)}"


def _escaped(text: str) -> str:
    return "".join("\\" + each if each in "\\*`_|" else each for each in " ".join(text.split()))


def _sum(results: Results, what: str) -> int:
    return sum(each.get(what, 0) for each in results.records)


def _shown(spread: Spread | None, shape: str, factor: float = 1) -> str:
    if spread is None:
        return ""
    middle, least, most = (shape.format(factor * each) for each in spread)
    return middle if least == most else f"{middle} ({least}-{most})"


def _rst(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    kept = [n for n, head in enumerate(heads) if n == 0 or any(row[n] for row in rows)]
    lines = [[line[n] for n in kept] for line in (heads, *rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(kept))]
    rule = "  ".join("=" * width for width in widths)
    text = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([rule, text[0], rule, *text[1:], rule])


# ---- the picture -------------------------------------------------------------------------------

PANELS = {
    "put, items a second": ("put", "rate", 1),
    "get and ack, items a second": ("take", "rate", 1),
    "wake-up, median in ms": ("wake_up", "p50", 1000),
}
OWN, OTHER = "#c0392b", "#7f8c8d"


def plot(results: Results, path: Path) -> None:
    """Bars with their spread, on logarithmic scales; this queue's are of another colour."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    shown = [(title, _bars(results, *what)) for title, what in PANELS.items()]
    shown = [(title, bars) for title, bars in shown if bars]
    heights = [len(bars) + 1 for _, bars in shown]
    figure, axes = pyplot.subplots(
        len(shown), 1, figsize=(8, 0.25 * sum(heights) + 1), squeeze=False, height_ratios=heights
    )
    for axis, (title, bars) in zip(axes[:, 0], shown):
        names = [name for name, _, _ in bars]
        middles = [spread.middle for _, _, spread in bars]
        errors = [
            [spread.middle - spread.least for _, _, spread in bars],
            [spread.most - spread.middle for _, _, spread in bars],
        ]
        colours = [OWN if own else OTHER for _, own, _ in bars]
        axis.barh(names, middles, xerr=errors, color=colours, ecolor="#555555")
        axis.set_xscale("log")
        axis.invert_yaxis()
        axis.set_title(title, loc="left", fontsize=10)
        axis.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


def _bars(results: Results, move: str, what: str, factor: float) -> list[tuple[str, bool, Spread]]:
    """Name, whether it is ours, and the spread; other ways to get and ack stand beside `take`."""
    more = {"consume": ", consume", "worker": ", worker"} if move == "take" else {}
    found = []
    for subject, about in results.subjects.items():
        for each, suffix in {move: "", **more}.items():
            spread = results.spread(subject, each, what)
            if spread:
                scaled = Spread(*(factor * number for number in spread))
                found.append((about["title"] + suffix, subject.startswith("own"), scaled))
    return sorted(found, key=lambda bar: bar[2].middle, reverse=factor == 1)
