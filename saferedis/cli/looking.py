"""Looking: what is in a queue, what is next, what died, and what endangers it."""

from __future__ import annotations

import base64
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from typing import Any

from saferedis.doctor import NAMES, Finding, examine
from saferedisqueue import (
    RAW,
    CommandLine,
    DeadItem,
    SafeRedisQueue,
    as_line,
    natural,
    open_queue,
    printable,
    tell,
)

STATS = ("ready", "in_flight", "delayed", "held", "dead", "total", "paused", "oldest")


def add_to(line: CommandLine) -> None:
    """Add stats, peek, dead and doctor."""
    line.add(stats).add_argument("--json", action="store_true", help="as one JSON object")
    parser = line.add(peek)
    parser.add_argument("-c", "--count", type=natural, metavar="N", default=1, help="N items (1)")
    parser.add_argument("--no-uid", action="store_true", help="print the payload alone")
    parser.add_argument("--raw", action="store_true", help=RAW)
    parser.add_argument("--json", action="store_true", help="a line of JSON each")
    null = "a NUL byte ends an item"
    parser.add_argument(
        "-0", "--null", dest="separator", action="store_const", const=b"\0", help=null
    )
    parser.set_defaults(separator=b"\n")
    parser = line.add(dead)
    parser.add_argument(
        "--json", action="store_true", help="a line of JSON each, payload unabridged"
    )
    parser.add_argument("-c", "--count", type=natural, metavar="N", help="N of them (default: all)")
    parser = line.add(doctor)
    parser.add_argument(
        "--repair", action="store_true", help="make ready what stands nowhere, drop second copies"
    )
    limit = "do not look at single items if there are more than N (default: 1000000)"
    parser.add_argument("--limit", type=int, metavar="N", default=1_000_000, help=limit)
    parser.add_argument("--json", action="store_true", help="a line of JSON each")
    parser.add_argument(
        "--ignore",
        action="append",
        metavar="NAME",
        choices=tuple(NAMES),
        default=[],
        help="a finding that is known: not shown, nor in the exit status (may be given again)",
    )


def stats(args: Namespace) -> None:
    """Tell how many items are where, and how old the next one is.

    examples:
      %(prog)s --name mails
      %(prog)s --json | jq .ready
    """
    with open_queue(args) as queue:
        told = queue.stats()
        facts = {"queue": queue.name, **{what: getattr(told, what) for what in STATS}}
    if told.oldest is not None:
        facts["oldest"] = round(told.oldest, 3)  # a uid tells whole milliseconds
    if args.json:
        _print(json.dumps(facts))
        return
    if facts["oldest"] is not None:
        facts["oldest"] = duration(facts["oldest"])
    facts["paused"] = "yes" if facts["paused"] else "no"
    for what, value in facts.items():
        _print(f"{what.replace('_', ' '):10} {'-' if value is None else value}")


def duration(seconds: float) -> str:
    """A time for people, in its two largest units."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, s = divmod(int(seconds), 60)
    hours, m = divmod(minutes, 60)
    days, h = divmod(hours, 24)
    return f"{days} d {h} h" if days else f"{h} h {m} min" if hours else f"{m} min {s} s"


def peek(args: Namespace) -> None:
    """Print the items that are next, as the consumer does, without taking them.

    examples:
      %(prog)s --name mails
      %(prog)s --name mails --count 10 --no-uid
    """
    with open_queue(args) as queue:
        for item in queue.peek(args.count) if args.count else ():
            if args.json:
                facts = {"uid": item.uid, "attempts": item.attempts, "put_at": item.put_at}
                _print(json.dumps({**facts, **_payload(item.payload)}))
            else:
                sys.stdout.buffer.write(as_line(item, args))


def dead(args: Namespace) -> None:
    """List the dead letters: uid, deliveries, when and why it died, and its payload, shortened.

    examples:
      %(prog)s --name mails
      %(prog)s --name mails --json | jq -r .uid
    """
    with open_queue(args) as queue:
        for letter in islice(_letters(queue), args.count):
            if args.json:
                facts = letter._asdict()
                facts.update(_payload(facts.pop("payload")))
                _print(json.dumps(facts))
                continue
            died = datetime.fromtimestamp(letter.died_at).isoformat(" ", "seconds")
            payload = _shorten(letter.payload.decode("utf-8", "replace"), 60)
            reason = _shorten(letter.reason, 200)
            _print(f"{letter.uid} {letter.attempts} {died} {reason} | {payload}")


def _letters(queue: SafeRedisQueue[bytes]) -> Iterator[DeadItem]:
    offset = 0
    while page := queue.dead(100, offset):
        yield from page
        offset += len(page)


def _payload(payload: bytes) -> dict[str, str]:
    """As text if it is UTF-8, else in base 64."""
    try:
        return {"payload": payload.decode()}
    except UnicodeDecodeError:
        return {"payload_base64": base64.b64encode(payload).decode()}


def _shorten(text: str, most: int) -> str:
    text = printable(text[: most + 1])
    return text if len(text) <= most else text[: most - 3] + "..."


def _print(line: str) -> None:
    sys.stdout.buffer.write(printable(line).encode() + b"\n")


def doctor(args: Namespace) -> int:
    """Tell what of this server, and in the keys of this queue, endangers its items.

    examples:
      %(prog)s --name mails
      %(prog)s --name mails --repair
      %(prog)s --ignore no-append-only-file --json | jq -r .text

    exit status: 1 if an error was found, which endangers items as they are; 0 otherwise
    """
    with open_queue(args) as queue:
        found = examine(queue, args.limit, args.repair)
    findings = [each for each in found if each.name not in args.ignore]
    ignored = [each.name for each in found if each.name in args.ignore]
    for each in findings:
        line = f"{each.severity} {each.name}: {each.problem}: {each.advice}"
        _print(json.dumps(_finding_as_json(each)) if args.json else line)
    if not (findings or args.json):
        _print("nothing was found that endangers items")
    if ignored:
        text = f"{len(ignored)} ignored: {', '.join(ignored)}"
        (tell if args.json else _print)(text)
    return int(any(each.severity == "error" for each in findings))


def _finding_as_json(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.name,
        "severity": finding.severity,
        "queue": finding.queue,
        "key": finding.key,
        "text": finding.problem,
        "advice": finding.advice,
        "repaired": finding.repaired,
        "uids": finding.uids,
    }
