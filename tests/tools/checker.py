"""Judges the history of a soak: what was lost, came twice, was invented, or came out of order."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from history import Delivery, Mode, Put

TICK = 0.002  # the server counts ms, the processes do not
LONG = 0.75  # seconds, longer than a get without a lease waits


@dataclass
class Verdict:
    """The counts of one mode; of ``problems`` the first are told in words."""

    mode: str
    seconds: float
    put: int = 0
    delivered: int = 0
    acked: int = 0
    lost: int = 0
    twice: int = 0
    unexplained: int = 0
    invented: int = 0
    changed: int = 0
    early: int = 0
    out_of_order: int = 0
    left: int = 0
    problems: list[str] = field(default_factory=list)
    explained: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    @property
    def fine(self) -> bool:
        return not self.problems


def judge(mode: Mode) -> Verdict:
    """What this history says of the queue."""
    verdict = Verdict(mode.name, mode.ended - mode.begun, faults=mode.faults)
    verdict.problems += mode.amiss
    verdict.put = sum(put.returned is not None for put in mode.puts.values())
    verdict.delivered = sum(map(len, mode.deliveries.values()))
    verdict.left = len(mode.still)
    verdict.problems += [f"{item} was left in the queue" for item in mode.still]
    verdict.changed = len(mode.changed)
    verdict.problems += [f"{item}: its payload was changed" for item in mode.changed]
    for item in mode.stranded:
        if mode.mixed:
            verdict.explained["stranded by 3.0.0, found by doctor"] += 1
        else:
            verdict.problems.append(f"{item} stood in no place")
    for item, deliveries in mode.deliveries.items():
        put = mode.puts.get(item)
        if put is None:
            verdict.invented += 1
            verdict.problems.append(f"{item} was delivered and never put")
            continue
        _judge_deliveries(mode, verdict, item, put, deliveries)
    for item, put in mode.puts.items():
        settled = _is_settled(mode, item)
        verdict.acked += settled
        if put.returned is not None and not settled and item not in mode.still:
            verdict.lost += 1
            verdict.problems.append(f"{item} was put and is gone, and nobody acked it")
    _judge_order(mode, verdict)
    return verdict


def _in_order(mode: Mode, deliveries: list[Delivery]) -> list[Delivery]:
    """As they were claimed. What 3.0.0 claims is not counted, and may be recorded much later."""
    if not _is_mixed(deliveries):
        return sorted(deliveries, key=lambda each: (each.attempts, each.hi))

    def claimed(each: Delivery) -> float:
        return each.lo if each.hi - each.lo > LONG and not each.deadline else each.hi

    return sorted(deliveries, key=claimed)


def _was_struck(mode: Mode, who: str, since: float, until: float) -> bool:
    """Whether a process of 3.0.0 ended, or was hit, in this time."""
    if mode.kinds[who][0] != "release3":
        return False
    hits = mode.hits.get(who, [])
    ended = mode.ends.get(who, float("inf"))
    return since <= ended <= until or any(a <= until and b >= since for a, b in hits)


def _is_mixed(deliveries: list[Delivery]) -> bool:
    return any(each.kind == "release3" for each in deliveries)


def _is_settled(mode: Mode, item: str) -> bool:
    """Whether somebody acked it who could: the latest to have it, or anyone where 3.0.0 acks."""
    deliveries = _in_order(mode, mode.deliveries.get(item, []))
    if _is_mixed(deliveries):
        return any(each.may_be_acked for each in deliveries)
    return bool(deliveries) and deliveries[-1].may_be_acked


def _judge_deliveries(
    mode: Mode, verdict: Verdict, item: str, put: Put, deliveries: list[Delivery]
) -> None:
    ordered = _in_order(mode, deliveries)
    if ordered[0].hi < put.begun + put.delay - TICK:
        verdict.early += 1
        verdict.problems.append(f"{item} came {put.begun + put.delay - ordered[0].hi:.3f} s early")
    if sum(each.acked is True for each in ordered if each.kind != "release3") > 1:
        verdict.unexplained += 1
        verdict.problems.append(f"{item} was acked twice")
    for each in ordered:
        if _is_refused(mode, each) and not _is_mixed(ordered):
            verdict.unexplained += 1
            verdict.problems.append(f"{item} was taken from {each.who}, who held it")
    for number, (one, other) in enumerate(pairwise(ordered), 1):
        verdict.twice += 1
        why, is_explained = _explain(mode, ordered[:number], one, other)
        if not is_explained and _is_mixed(ordered) and other.lo <= one.hi:
            # Which of them was first is not known.
            why, is_explained = _explain(mode, ordered[: number + 1], other, one)
        if is_explained:
            verdict.explained[why] += 1
        else:
            verdict.unexplained += 1
            verdict.problems.append(f"{item} went to {one.who}, then to {other.who}: {why}")


def _is_refused(mode: Mode, held: Delivery) -> bool:
    """Whether an ack or a fail changed nothing while nobody else could have the item."""
    until = held.deadline or held.lo + mode.interval
    return (held.acked is False or held.failed is False) and held.settled_at < until - TICK


def _explain(
    mode: Mode, before: list[Delivery], one: Delivery, other: Delivery
) -> tuple[str, bool]:
    """Why an item that ``one`` had was delivered again, and whether that may be."""
    if one.uid != other.uid:
        return "it was stored twice", False
    fails_of_3 = (
        each.fail_begun <= other.at
        for each in before
        if each.kind == "release3" and each.fail_begun is not None
    )
    if any(fails_of_3):
        return "failed by 3.0.0", True
    if one.acked and not (_is_mixed([one, other]) and other.lo <= one.settled_at):
        return "it had been acked", False
    if one.fail_begun is not None and one.failed is not False and one.fail_begun <= other.at:
        if other.hi < one.fail_begun + one.delay - TICK:
            return "earlier than it was delayed", False
        return "failed", True
    if one.renews:
        closed = mode.closed.get(one.who, float("inf"))
        if closed <= other.at and mode.last[one.who] is one:
            return "given back by a consumer that ended", True
    if one.deadline == 0:
        if other.hi >= one.lo + mode.interval - TICK:
            return "interval over", True
        # It renames ackbuf first and sets the lock then: ended or hit in between it leaves no lock.
        if any(_was_struck(mode, who, one.lo, other.hi) for who in mode.kinds):
            return "cleaned by a 3.0.0 that was struck before it set the lock", True
        return "within the interval", False
    if other.hi < one.deadline - TICK:
        return f"{one.deadline - other.hi:.3f} s before its lease ended", False
    during = (one.begun, other.at, one.who)
    if one.renews and not (mode.hit(*during) or mode.stalled(*during)):
        return "though its lease was renewed", False
    return "lease over", True


# ---- order ---------------------------------------------------------------------------------------


def _judge_order(mode: Mode, verdict: Verdict) -> None:
    """Items of one producer and one priority are first claimed in the order of put.

    What was put with a delay, or may have been claimed before the first delivery that is known, is
    left out. Nor is an order promised of an item that

    - a waiting get was handed: between that and its claim another get may take the next one, and
      itself it takes one of a higher priority that has come meanwhile; or that
    - may have been handed to somebody who was then killed, stopped, cut off, or ended, which
      cannot be seen in the history.
    """
    urgent = [
        (each.begun, each.at, each.who)
        for item, put in mode.puts.items()
        for each in mode.deliveries.get(item, ())
        if put.priority > 0
    ]
    lines: dict[tuple[str, int], list[tuple[str, Put, Delivery]]] = defaultdict(list)
    for item, put in mode.puts.items():
        deliveries = mode.deliveries.get(item)
        if put.delay or put.returned is None or not deliveries:
            continue
        first = _in_order(mode, deliveries)[0]
        if first.attempts == 1 or (first.kind == "release3" and len(deliveries) == 1):
            lines[put.who, put.priority].append((item, put, first))
    handed: set[tuple[float, str]] = set()  # a get that waits is handed one item at most
    for line in lines.values():
        for item, put, first in _overtaken(line):
            ended = any(put.begun <= at <= first.at for at in mode.closed.values())
            returned = put.returned or 0
            waiting = [(first.begun, first.who)] if first.begun <= returned else []
            waiting += [(begun, who) for begun, at, who in urgent if begun <= returned <= at]
            waited = next((get for get in waiting if get not in handed), None)
            if waited:
                handed.add(waited)
                verdict.explained["overtaken while handed to a waiting get"] += 1
            elif ended or mode.hit(put.begun, first.at, *mode.kinds):
                verdict.explained["overtaken while its holder was hit"] += 1
            else:
                verdict.out_of_order += 1
                verdict.problems.append(f"{item} came to {first.who} after a later one")


def _overtaken(
    line: list[tuple[str, Put, Delivery]],
) -> Iterable[tuple[str, Put, Delivery]]:
    """Those that were claimed after one that was put after them."""
    earliest = float("inf")  # that a later one was surely claimed
    of_consumer: dict[str, float] = {}  # the same, as each consumer recorded it
    for item, put, first in reversed(line):
        if first.lo > earliest + TICK or first.at > of_consumer.get(first.who, float("inf")):
            yield item, put, first
        earliest = min(earliest, first.hi)
        of_consumer[first.who] = min(of_consumer.get(first.who, float("inf")), first.at)


# ---- the table -----------------------------------------------------------------------------------

COLUMNS = {
    "mode": "mode",
    "seconds": "seconds",
    "put": "put",
    "delivered": "delivered",
    "acked": "acked",
    "lost": "lost",
    "twice": "twice",
    "unexplained": "unexplained",
    "invented": "invented",
    "changed": "changed",
    "early": "early",
    "out of order": "out_of_order",
    "left": "left",
}


def table(verdicts: list[Verdict]) -> str:
    """As a simple table of reStructuredText, with a row for the sum."""
    rows = [[_cell(getattr(verdict, name)) for name in COLUMNS.values()] for verdict in verdicts]
    sums = (sum(getattr(each, name) for each in verdicts) for name in list(COLUMNS.values())[1:])
    rows.append(["together", *map(_cell, sums)])
    widths = [max(map(len, column)) for column in zip(COLUMNS, *rows)]
    rule = "  ".join("=" * width for width in widths)

    def line(cells: Iterable[str]) -> str:
        first, *rest = (cell.rjust(width) for cell, width in zip(cells, widths))
        return "  ".join([first.strip().ljust(widths[0]), *rest])

    return "\n".join([rule, line(COLUMNS), rule, *map(line, rows), rule])


def _cell(value: object) -> str:
    return f"{value:,.0f}" if isinstance(value, (int, float)) else str(value)
