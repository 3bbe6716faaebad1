"""What the results say, as tables in RST and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from .results import Results, Spread, aims

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
        f"Items lost: {_total(results, 'lost')}. Items doubled: {_total(results, 'doubled')}.",
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
        best = "" if aim.best is None else f"{aim.best:.2f}"
        both = [_shown(each, "{:.2f}") for each in (aim.reached, aim.by_cpu)]
        rows.append([aim.title, *both, best, bound, aim.met])
    return _rst(["aim", "reached", "by CPU time", "best rounds", "wanted", "met"], rows)


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
            cells.append(_shown(results.spread(subject, "order", "share", clients=size), "{:.2f}"))
            if any(cells):
                rows.append([about["title"], str(size), *cells])
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


def _total(results: Results, what: str) -> int:
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
    """Bars with their spread; this queue's are of another colour."""
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
        if max(middles) > 20 * min(middles):
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
