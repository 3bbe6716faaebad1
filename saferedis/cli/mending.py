"""Mending: dead letters revived, items released or dropped, a queue paused."""

from __future__ import annotations

import json
import sys
from argparse import Namespace

from saferedisqueue import CommandLine, SafeRedisQueueError, natural, open_queue, printable


def add_to(line: CommandLine) -> None:
    """Add revive, release, remove, pause, resume and purge."""
    parser = line.add(revive)
    parser.add_argument("uids", nargs="*", metavar="uid")
    parser.add_argument("--all", action="store_true", help="all dead letters")
    for run in (release, remove):
        line.add(run).add_argument("uids", nargs="+", metavar="uid")
    line.add(pause)
    line.add(resume)
    parser = line.add(purge)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    parser.add_argument("--dead", action="store_true", help="only the dead letters")
    keep = "with --dead: the N that died last stay"
    parser.add_argument("--keep", type=natural, metavar="N", help=keep)
    older = "with --dead: only those that died so long ago"
    parser.add_argument("--older-than", type=float, metavar="SECONDS", help=older)
    for command in ("revive", "release", "remove", "purge"):
        json_help = "the number as a JSON object"
        line.parsers[command].add_argument("--json", action="store_true", help=json_help)


def _report(args: Namespace, done: str, count: int) -> None:
    print(json.dumps({done: count}) if args.json else f"{count} items {done}")


def revive(args: Namespace) -> int:
    """Make dead letters ready again, as if they had never been delivered.

    examples:
      %(prog)s 019a3c61-04bf-7a86-8b7d-3f02c96e15d8
      %(prog)s --name mails --all

    exit status: 1 if one that was named is no dead letter
    """
    if bool(args.uids) == args.all:
        raise ValueError("name the uids, or --all")
    with open_queue(args) as queue:
        revived = queue.revive(*args.uids)
    _report(args, "revived", revived)
    return int(revived < len(args.uids))


def release(args: Namespace) -> int:
    """Make items ready that were put to be held back until this.

    examples:
      %(prog)s --name mails 019a3c61-04bf-7a86-8b7d-3f02c96e15d8

    exit status: 1 if one of them was not held
    """
    with open_queue(args) as queue:
        released = sum([queue.release(uid) for uid in args.uids])
    _report(args, "released", released)
    return int(released < len(args.uids))


def remove(args: Namespace) -> int:
    """Drop items wherever they stand, also out of a consumer's hands.

    examples:
      %(prog)s --name mails 019a3c61-04bf-7a86-8b7d-3f02c96e15d8

    exit status: 1 if one of them was not there
    """
    with open_queue(args) as queue:
        removed = sum([queue.remove(uid) for uid in args.uids])
    _report(args, "removed", removed)
    return int(removed < len(args.uids))


def pause(args: Namespace) -> None:
    """Let no consumer get an item until resume; put, ack and fail go on.

    examples:
      %(prog)s --name mails
    """
    with open_queue(args) as queue:
        queue.pause()


def resume(args: Namespace) -> None:
    """End a pause: consumers that wait see it within a second.

    examples:
      %(prog)s --name mails
    """
    with open_queue(args) as queue:
        queue.resume()


def purge(args: Namespace) -> None:
    """Drop all items of the queue, also those that consumers have in hand, or its dead letters.

    examples:
      %(prog)s --name mails
      %(prog)s --name mails --yes
      %(prog)s --name mails --dead
      %(prog)s --name mails --dead --keep 1000 --older-than 604800 --yes

    Without --yes it asks; where there is no terminal to ask at, it drops nothing.
    """
    limits = {"keep": args.keep, "older_than": args.older_than}
    if not args.dead and any(limit is not None for limit in limits.values()):
        raise ValueError("--keep and --older-than are of dead letters: give --dead too")
    if not args.yes and not sys.stdin.isatty():
        what = "the dead letters" if args.dead else "all items"
        raise ValueError(f"nobody can be asked whether to drop {what} of {args.name!r}: give --yes")
    with open_queue(args) as queue:
        if not args.yes:
            stats = queue.stats()
            some = "some of " if any(limit is not None for limit in limits.values()) else ""
            what = f"{some}{stats.dead} dead" if args.dead else f"all {stats.total}"
            question = f"drop {what} items of {queue!r}? [y/N] "
            print(printable(question), end="", file=sys.stderr, flush=True)
            if sys.stdin.readline().strip().lower() not in ("y", "yes"):
                raise SafeRedisQueueError("nothing was dropped")
        dropped = queue.purge_dead(**limits) if args.dead else queue.purge()
    _report(args, "dropped", dropped)
