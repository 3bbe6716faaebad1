"""What the results say, as tables in RST and as a picture."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from .adapter import HUNDRED
from .measure import CORES
from .results import COMMANDS, EVALSHA, REST, Results, Served, Spread, aims

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
    "echo": "echo",
}
COSTS = {
    move: RATES[move] for move in ("put", "take", "consume", "consume_100", "put_many", "take_many")
}

# What a command of a script is for, in calls that begin with that word, or in all.
BUYS = {
    ("", "get"): "a lost reply does no harm",
    ("", "set"): "a lost reply does no harm",
    ("put", "lpush"): "its place in the queue",
    ("put", "hset"): "the payload",
    ("get", "time"): "all times are the server's",
    ("get", "zcount"): "what lapsed comes back to the second",
    ("get", "exists"): "delay, priority and pause",
    ("get", "pttl"): "what 3.0.0 or a get without a lease left comes back",
    ("get", "lindex"): "the next in the queue",
    ("get", "lrange"): "the next in the queue",
    ("get", "hmget"): "deliveries are counted; a second copy is found",
    ("get", "hget"): "the payload; deliveries are counted",
    ("get", "lpush"): "in flight",
    ("get", "zadd"): "in flight, to the second",
    ("get", "hset"): "who holds it: the token, and the count",
    ("get", "rpop"): "out of the queue",
    ("get", "ltrim"): "out of the queue",
    ("get", "hdel"): "a server that is full can be emptied",
    ("ack", "hget"): "only who holds it acks it: the token",
    ("ack", "hmget"): "only who holds it acks it: the token",
    ("ack", "hdel"): "the payload and the note are gone",
    ("ack", "zrem"): "not in flight",
    ("ack", "lrem"): "not in flight",
    ("consume", "hdel"): "the payload and the note are gone",
    ("consume", "hget"): "the payload; the token; deliveries are counted",
    ("consume", "hmget"): "the tokens; deliveries are counted",
}


def table(results: Results) -> str:
    """All tables, in RST."""
    about, left_out = results.about, list(_left_out(results))
    said = [
        f"{about['date']}, {about['machine']}; Python {about['python']}, "
        f"redis-py {about['redis-py']}, hiredis {about['hiredis']}, {about['server']}, "
        f"saferedisqueue {about['saferedisqueue']}; load {about['load'][0]:.1f}"
        + f", {about['processors']} processors.",
        *_cores(results),
        "The medians of the rounds, and in brackets the least and the most.",
        f"Items lost: {_total(results, 'lost')}. Items doubled: {_total(results, 'doubled')}.",
        "Aims\n----",
        _aims(results),
        "Items a second\n--------------",
        *_rates(results),
        "Wake-up\n-------",
        _wake_ups(results),
        "Workers\n-------",
        _workers(results),
        "Costs of an item\n----------------",
        _costs(results),
        "What each microsecond buys\n--------------------------",
        *_microseconds(results),
        "Many in flight, many queued\n---------------------------",
        _lengths(results),
        "Many clients\n------------",
        _crowds(results),
        "Many queues\n-----------",
        _clusters(results),
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
    for moves in (("put", "take", "consume", "echo"), tuple(RATES)[3:8]):
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


def _workers(results: Results) -> str:
    rows = []
    for subject, about in results.subjects.items():
        rate = _shown(results.spread(subject, "worker", "rate"), "{:,.0f}")
        late = [results.spread(subject, "worker_wake_up", what) for what in ("p50", "p99")]
        if rate:
            rows.append([about["title"], rate, *(_shown(each, "{:.2f}", 1000) for each in late)])
    heads = ["worker with an empty task", "items a second", "wake-up, ms", "99 of 100"]
    return _rst(heads, rows) if rows else ""


def _microseconds(results: Results) -> Iterator[str]:
    """A table of the whole calls, and one of the commands in them."""
    queues = {subject: found for subject in results.subjects if (found := results.served(subject))}
    own = queues.pop("own", {})
    if not own:
        return
    empty = queues.pop("evalsha", {})
    heads = ["server's µs a call", "this queue", "its commands", "Lua, values", "empty script"]
    rows, parts = [], []
    for step, ran in own.items():
        row = [step, *(_micros(ran.get(what)) for what in (EVALSHA, COMMANDS, REST))]
        row.append(_micros(empty.get(step, {}).get(EVALSHA)))
        others = [found.get(step.partition(",")[0], {}) for found in queues.values()]
        rows.append([*row, *(_micros(each.get(COMMANDS)) for each in others)])
        parts += [[f"*{step}*", *_part(ran, EVALSHA), ""]]
        for command, served in ran.items():
            if command not in (EVALSHA, COMMANDS, REST) and served.times >= 0.5:
                parts.append([command.upper(), *_part(ran, command), _bought(step, command)])
        parts.append(["Lua, values", *_part(ran, REST), "to and from the commands"])
    yield _rst([*heads, *(results.subjects[subject]["title"] for subject in queues)], rows)
    for subject, found in queues.items():
        for step, ran in found.items():
            commands = " ".join(command.upper() for command in ran if command != COMMANDS)
            title = f"*{step}*, {results.subjects[subject]['title']}"
            parts.append([title, *_part(ran, COMMANDS), commands])
    if HUNDRED in empty:
        ran = empty[HUNDRED]
        parts.append([f"*{HUNDRED}*", *_part(ran, EVALSHA), ""])
        parts.append(["EXISTS", *_part(ran, COMMANDS), "nothing"])
        parts.append(["Lua, values", *_part(ran, REST), "to and from the commands"])
    yield _rst(["call, and what runs in it", "times", "µs", "for"], parts)


def _part(ran: dict[str, Served], what: str) -> list[str]:
    times = "" if what == REST else f"{ran[what].times:.0f}"
    return [times, f"{ran[what].micros.middle:.1f}"]


def _micros(served: Served | None) -> str:
    return _shown(served and served.micros, "{:.1f}")


def _bought(step: str, command: str) -> str:
    first = step.replace(",", " ").split()[0]
    kinds = ("consume", "get", "ack", "") if first == "consume" else (first, "")
    return next((BUYS[kind, command] for kind in kinds if (kind, command) in BUYS), "")


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
            cells = _many(results, subject, "crowd", clients=size)
            slowest = results.spread(subject, "crowd", "slowest", clients=size)
            first = results.spread(subject, "order", "share", clients=size)
            cells += [_shown(slowest, "{:.2f}"), _shown(first, "{:.2f}")]
            if any(cells):
                rows.append([about["title"], str(size), *cells])
    heads = ["queue", "pairs", *MANY, "slowest consumer", "first served"]
    return _rst(heads, rows) if rows else ""


def _clusters(results: Results) -> str:
    rows = []
    for queues in results.about["settings"]["queues"]:
        for masters in (1, 3):
            cells = _many(results, "own", "cluster", masters=masters, queues=queues)
            if any(cells):
                rows.append([str(queues), str(masters), *cells])
    return _rst(["queues", "masters", *MANY], rows) if rows else ""


# CPU in processors; the last, what the busiest server would do with a processor of its own.
MANY = {
    "items/s": ("rate", "{:,.0f}"),
    "servers' CPU": ("server/second", "{:.2f}"),
    "clients' CPU": ("clients_cpu/second", "{:.2f}"),
    "idle": ("unused/second", "{:.2f}"),
    "items/s a server's CPU": ("count/busiest", "{:,.0f}"),
    "the limit": ("", ""),
}


def _many(results: Results, subject: str, move: str, **where: Any) -> list[str]:
    """The cells of MANY."""

    def spread(what: str) -> Spread | None:
        return results.spread(subject, move, what, **where)

    busiest, idle = spread("busiest/second"), spread("unused/second")
    cells = [_shown(spread(what), shape) for what, shape in list(MANY.values())[:-1]]
    if not busiest or not idle:
        return [*cells, ""]
    busy = idle.middle < 0.1 * results.about["processors"]
    return [*cells, "server" if busiest.middle > 0.9 else "processors" if busy else "waiting"]


def _left_out(results: Results) -> Iterator[str]:
    for about in results.subjects.values():
        for key, reason in about.items():
            if key == "unavailable":
                yield f"{about['title']}: {_escaped(reason)}"
            elif key.startswith("cannot "):
                yield f"{about['title']}, {key.removeprefix('cannot ')}: {_escaped(reason)}"


def _escaped(text: str) -> str:
    return "".join("\\" + each if each in "\\*`_|" else each for each in " ".join(text.split()))


def _cores(results: Results) -> Iterator[str]:
    """Where it was measured."""
    moves: dict[str, list[str]] = {}
    for each in results.records:
        moves.setdefault(each["cores"], []).append(each["move"].replace("_", "-"))
    for how, measured in moves.items():
        yield f"{CORES[how].capitalize()}: {', '.join(dict.fromkeys(measured))}."


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
    more = {"consume": ", consume"} if move == "take" else {}
    found = []
    for subject, about in results.subjects.items():
        for each, suffix in {move: "", **more}.items():
            spread = results.spread(subject, each, what)
            if spread:
                scaled = Spread(*(factor * number for number in spread))
                found.append((about["title"] + suffix, subject.startswith("own"), scaled))
    return sorted(found, key=lambda bar: bar[2].middle, reverse=factor == 1)
