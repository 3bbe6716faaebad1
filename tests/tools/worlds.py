"""Small queues, to be explored for all that can happen, and which of them needs which rule.

Where the invariants of the design are checked (in explorer.py):

 1  nothing is lost     drain: from every state on each item comes out, once; check_places: and
                        stands in one place, beside the ghosts that are noted
 2  nothing invented    judge_claim: what is handed out was put, with that payload
 3  numbered calls      done, judge: nothing is put twice, ack and fail return the truth, none that
                        is its caller's latest is refused; judge_claim: one get, one delivery, and
                        none for nobody
 4  valid deliveries    judge_claim: none while another is held; judge: a stale call changes
                        nothing; judge_undo: what is undone does not count
 5  order               judge_order: first deliveries in order of put, in all worlds but those with
                        delays, 3.0.0, or commands that fail; judge: what is handed back is next
 6  orphans             drain: within their lease, or two intervals; check_waiters: who waits does
                        not sleep while an item is ready outside the list
 7  delays              judge_claim: not early; drain: not late; check_watchers: nor if all wait
 8  timeouts            are about connections: test_connections.py
 9  no keys are left    drain, at its end
10  undecodable items   drain and the world "pause": a consumer buries them, as after their last
                        delivery, and goes on

`python tests/tools/worlds.py` explores larger worlds, and prints a table; with
names, only those.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from explorer import Explorer, World


def new(uid: str, payload: str) -> tuple[Any, ...]:
    return ("put_new", uid, payload)


def put(
    uid: str, payload: str, level: int = 0, delay: int | None = None, hold: bool = False,
    slice_: int = 1,
) -> tuple[Any, ...]:  # fmt: skip
    return ("put", delay, None, level, None, hold, slice_, uid, payload)


A, B, C = new("a", "a1"), new("b", "b1"), new("c", "c1")
A1, A2 = put("a", "a1"), put("a", "a2")
HIGH, LOW = put("a", "a1", 1), put("c", "c1", -1)
REMOVE_BOTH = ("ack", "a", "", "b", "")
REMOVE, BURY, REVIVE = ("ack", "a", ""), ("bury", "a", "", "why"), ("revive",)
PAUSE, RESUME = ("pause",), ("resume",)
POISON = new("b", "poison")
SOON, LATER = put("a", "a1", 0, 1, slice_=3), put("b", "b1", 0, 2, slice_=3)
THEN = put("c", "c1", 0, 2, slice_=3)
HELD, RELEASE = put("a", "a1", hold=True), ("release", "a")
LATE, SOONER = put("a", "a1", 0, 2, slice_=3), ("reschedule", "a", None, 101, 3)
AT_ONCE = ("reschedule", "a", 0, None, 3)


def watched(name: str, *puts: Any, **more: Any) -> World:
    """One in which somebody must be awake when something is due, whoever puts it at any time."""
    return World(name, tuple((each,) for each in puts), slice=3, prompt=True, **more)


WORLDS = (
    World("crash", ((A, B),), ("ack", "fail"), calls=3, ticks=2, crashes=1),
    World("order", ((A, B),), ("ack hand_back", "ack hand_back"), calls=3),
    World("undo", ((A, B),), ("ack undo", "ack"), calls=3),
    World("faults", ((A, B),), ("ack", "fail"), calls=2, faults=1),
    World("half-open", ((A,),), ("ack undo", "ack"), calls=3, faults=1),
    World("late", ((A,),), ("ack leave",), calls=4, ticks=1, faults=1),
    World("lease", ((A, B),), ("ack touch drop",), lease=1, calls=3, ticks=2),
    World(
        "late ack",
        ((A, B, C, put("b", "b2")),),
        ("ack_all", "ack"),
        calls=2,
        count=3,
        lease=1,
        ticks=1,
    ),
    World("put again", ((A, A2),), ("ack drop", "ack"), lease=1, calls=3, ticks=2),
    World("stale", ((A, B),), ("ack fail over", "ack"), calls=3, ticks=1),
    World("stop", ((A, put("b", "b1")),), ("fail",), calls=3, ticks=1, stops=1),
    World("stopped put", ((A, B),), ("ack",), calls=2, stops=1, stopped=("put_new",)),
    World("three", ((A, B, C),), ("drop",), calls=4, ticks=2),
    World("batch", ((A, POISON, C),), ("ack",), calls=5, count=3, most=2, lease=1, ticks=2),
    World("3.0.0", ((A, B),), ("ack",), old=("ack fail",), calls=4, ticks=2),
    World("3.0.0 lease", ((A,),), ("ack", "drop"), old=("fail",), lease=2, calls=3, ticks=2),
    World("3.0.0 again", ((A, A2),), ("ack",), old=("ack",), lease=1, calls=4, ticks=2),
    World("3.0.0 stalls", ((A, B),), ("drop",), old=("ack",), calls=3, ticks=3),
    World("3.0.0 ghost", ((A, REMOVE, A2),), ("ack",), old=("fail",), calls=3, ticks=1),
    World("priority", ((HIGH, LOW, put("d", "d1", -1)),), ("ack", "ack"), calls=5),
    World("priority crash", ((HIGH, B),), ("ack", "ack"), calls=3, ticks=2, crashes=1),
    World("removed", ((A, REMOVE, A2),), ("fail", "ack drop"), calls=3, ticks=1),
    World("copies", ((A, B, REMOVE_BOTH, A2),), ("ack drop",), calls=5, ticks=2),
    World("delay", ((put("a", "a1", 0, 1), B),), ("ack delay", "ack"), calls=3, ticks=2),
    World(
        "ghost",
        ((A1, put("a", "a2", 0, 1)),),
        ("ack",),
        calls=3,
        stops=1,
        stopped=("put",),
        ticks=1,
    ),
    World("held", ((HELD, RELEASE), (REMOVE,)), ("ack", "fail"), calls=3, ticks=1),
    World("reschedule", ((LATE, SOONER, AT_ONCE), (REMOVE,)), ("ack", "delay"), calls=3, ticks=2),
    World("pause", ((PAUSE, A, RESUME), (put("b", "bad"),)), ("ack leave", "ack"), calls=3),
    World("dead", ((A, REVIVE),), ("ack bury", "fail"), calls=3, ticks=2, most=2),
    World("three wait", ((A, B, C),), ("hand_back", "undo", "ack"), calls=2),
    World("batch waits", ((A, B), (C,)), ("ack", "ack undo"), calls=3, count=2),
    World("pause undo", ((PAUSE, A, B, RESUME),), ("ack undo", "ack leave"), calls=3),
    World("pause faults", ((A, PAUSE, RESUME),), ("ack", "ack"), calls=3, faults=1),
    World("priority undo", ((HIGH, B),), ("ack undo", "ack hand_back"), calls=3),
    World("priority faults", ((HIGH, B),), ("ack", "ack"), calls=2, faults=1),
    World("removed faults", ((A1, REMOVE, A2),), ("ack",), calls=2, faults=1),
    World("most", ((A,),), ("ack undo", "fail"), calls=3, most=1, ticks=2),
    World("3.0.0 waits", ((A, B),), ("ack undo", "ack"), old=("ack",), calls=2),
    World(
        "3.0.0 revive",
        ((A, BURY, REVIVE),),
        ("ack",),
        old=("ack",),
        calls=3,
        stops=1,
        stopped=("revive",),
    ),
    World("purge", ((A, ("purge",), B),), ("ack", "next"), calls=2, faults=1),
    watched("watch", SOON, C, consumers=("ack leave", "ack leave"), calls=5, ticks=2),
    watched("watch removed", SOON, REMOVE, THEN, consumers=("ack leave", "ack"), calls=4, ticks=3),
    watched("watch undo", SOON, consumers=("ack undo", "ack"), calls=5, ticks=2),
    watched("watch crash", SOON, consumers=("ack", "ack"), calls=4, ticks=4, crashes=1),
    watched("watch faults", SOON, consumers=("ack", "ack"), calls=4, ticks=4, faults=1),
    watched("watch two", LATER, SOON, consumers=("ack leave", "ack"), calls=5, ticks=3),
    watched("watch three", SOON, consumers=("ack", "ack", "ack leave"), calls=4, ticks=2),
)

# The world in which each rule is missed soonest.
MISSED = {
    "put is numbered": "faults",
    "claim is numbered": "faults",
    "ack is numbered": "faults",
    "fail is numbered": "faults",
    "the rest is numbered": "purge",
    "a late count is taken back": "faults",
    "a failed count is taken back": "stopped put",
    "ack is fenced": "put again",
    "fail is fenced": "stale",
    "tokens, not counts": "put again",
    "tokens are retired": "stale",
    "only what is in flight": "stale",
    "place before payload": "stop",
    "add before remove": "stop",
    "put drops old meta": "3.0.0 again",
    "delayed has meta": "ghost",
    "ghosts are counted": "removed",
    "put keeps ghosts": "removed",
    "ghosts are proven": "3.0.0 ghost",
    "handed first": "undo",
    "wakes another": "half-open",
    "nothing is noted": "late",
    "alone": "batch",
    "rename when backup is empty": "three",
    "lock after rename": "three",
    "lock expires": "order",
    "mended lock is long": "3.0.0 stalls",
    "time ends with lease": "late ack",
    "time tells copies": "copies",
    "second copies": "3.0.0 lease",
    "ghosts are skipped": "removed",
    "left keys are dropped": "3.0.0",
    "bell": "priority",
    "taker rings on": "priority",
    "bell for the next due": "watch",
    "bell at the back": "watch",
    "one watches": "watch three",
    "an earlier one is watched": "watch two",
    "a watch ends": "watch",
    "who watches looks": "watch removed",
    "a watch is passed on": "watch",
    "a bell is passed on": "watch",
    "to the front": "order",
    "in order of put": "order",
    "front after handed": "order",
    "resume empties handed": "pause",
    "undo is numbered": "undo",
    "undo is uncounted": "undo",
    "revive forgets": "dead",
    "revive writes meta": "3.0.0 revive",
}


def deeper(world: World) -> World:
    return world._replace(calls=world.calls + 1, ticks=world.ticks + 1)


def main(names: list[str]) -> None:
    """A table of larger worlds: a call and a step of time more, to two million states each."""
    print(f"{'world':20} {'states':>9} {'seconds':>8}")
    for world in [world for world in WORLDS if not names or world.name in names]:
        begun = time.process_time()
        states = Explorer(deeper(world)).explore(most=2_000_000)
        print(f"{world.name:20} {states:9} {time.process_time() - begun:8.1f}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
