"""The soak in its short form, that it bites, and what its checker finds in made-up histories."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import checker
import history
import saferedisqueue
import servers
from checker import Verdict
from soak import MODES

SOAK = Path(__file__).with_name("soak.py")
SOURCE = Path(saferedisqueue.__file__)


def soak(mode: str, kept: Path, *path: Path, seconds: float = 1.5) -> tuple[int, Verdict]:
    """Soak for a moment, in a process of its own; its exit code, and what is in its history."""
    servers.find()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*path, SOURCE.parent]))}
    options = ["--minutes", f"{seconds / 60}", "--lease", "0.8", "--interval", "0.5", "--slow", "0"]
    command = [sys.executable, str(SOAK), "--modes", mode, "--history", str(kept), *options]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(ended.stdout, ended.stderr)  # for whoever reads of a failure, with the seed
    assert kept.exists(), ended.stderr
    with kept.open() as lines:
        (read,) = history.read(lines)
    return ended.returncode, checker.judge(read)


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_lost_and_each_second_delivery_is_explained(mode: str, tmp_path: Path) -> None:
    code, verdict = soak(mode, tmp_path / "history")
    assert (code, verdict.problems) == (0, [])
    assert verdict.delivered >= verdict.put > 0
    assert sum(verdict.faults.values()) > 0 or mode == "quiet"


BREAKAGES = {
    "a failed item is gone": (
        "      make_ready(uid, about)\n    end\n    leave(place, uid)",
        "      redis.call('HDEL', items, uid)\n    end\n    leave(place, uid)",
        "lost",
    ),
    "a lease is over at once": (
        "redis.pcall('ZADD', leases, ends, uid)\n    end\n",
        "redis.pcall('ZADD', leases, 1, uid)\n    end\n",
        "unexplained",
    ),
    "the latest item is next": (
        "local uid = redis.call('LINDEX', from, '-1')",
        "redis.call('LMOVE', from, from, 'LEFT', 'RIGHT') "
        "local uid = redis.call('LINDEX', from, '-1')",
        "out_of_order",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_queue_that_is_broken_is_found_out(breakage: str, tmp_path: Path) -> None:
    whole, broken, count = BREAKAGES[breakage]
    text = SOURCE.read_text()
    assert text.count(whole) == 1
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / SOURCE.name).write_text(text.replace(whole, broken))
    for attempt in range(3):  # on a machine that stalls there may be too few items for it to show
        code, verdict = soak("quiet", tmp_path / f"history{attempt}", copy)
        if getattr(verdict, count) > 0:
            break
    assert getattr(verdict, count) > 0
    assert code == 1


# -- the checker -----------------------------------------------------------------------------------

# Two consumers with a lease of 1 s, one of which renews it, one without, and one of 3.0.0.
CONSUMERS = """
    0 a start get-lease 1 0
    0 b start get-lease 1 0
    0 r start consume 1 1
    0 n start get-plain 0 0
    0 o start release3 0 0
"""


def judged(lines: str, fleet: str = "4") -> Verdict:
    text = f"0 soak mode test 0.5 {fleet}\n{CONSUMERS}\n{lines}\n99 soak left 0"
    (read,) = history.read(line for line in text.splitlines() if line.strip())
    return checker.judge(read)


PUT = "1 p put 0 1 0 0\n 1.1 p ok 0\n"  # the item p:0


def test_a_delivery_that_is_acked_is_fine() -> None:
    verdict = judged(PUT + "2 a got p:0 uid 1 3 1.9 1\n 2 a ack p:0\n 2.1 a acked p:0 1")
    assert verdict.fine
    assert (verdict.put, verdict.delivered, verdict.acked, verdict.twice) == (1, 1, 1, 0)


@pytest.mark.parametrize(
    "lines",
    [
        "",
        "2 a got p:0 uid 1 3 1.9 1",
        "2 a got p:0 uid 1 3 1.9 1\n 3 a ack p:0\n 3.1 a acked p:0 0",
        # Too late to count, because somebody else had it then.
        "2 a got p:0 uid 1 3 1.9 1\n 3.1 b got p:0 uid 2 4.1 3 1\n 3.2 a ack p:0",
    ],
)
def test_an_item_that_nobody_acked_and_is_gone_is_lost(lines: str) -> None:
    assert judged(PUT + lines).lost == 1
    left = judged(PUT + lines + "\n 9 soak still p:0")
    assert (left.lost, left.left, left.fine) == (0, 1, False)


def test_an_item_whose_put_did_not_return_may_be_there_or_not() -> None:
    raised = "1 p put 0 1 0 0\n 1.1 p raised 0 ConnectionError\n 1.2 p put 1 1 0 0\n"
    assert judged(raised).fine
    assert judged(raised + "2 a got p:0 uid 1 3 1.9 1\n 2 a ack p:0\n 2.1 a acked p:0 1").fine


def test_an_ack_whose_outcome_is_unknown_may_have_been_done_or_not() -> None:
    assert judged(PUT + "2 a got p:0 uid 1 3 1.9 1\n 2 a ack p:0").fine
    again = "3 b got p:0 uid 2 4 2.9 1\n 3 b ack p:0\n 3.1 b acked p:0 1"
    assert judged(PUT + "2 a got p:0 uid 1 3 1.9 1\n 2 a ack p:0\n" + again).fine


def test_what_was_never_put_is_invented_and_a_changed_payload_is_seen() -> None:
    assert judged(PUT + "2 a got p:1 uid 1 3 1.9 1\n 2 a ack p:1").invented == 1
    assert judged(PUT + "2 a got p:0 uid 1 3 1.9 0\n 2 a ack p:0").changed == 1


ACKED = "\n {at} {who} ack p:0\n {at} {who} acked p:0 1"


@pytest.mark.parametrize(
    ("lines", "twice"),
    [
        ("2 a got p:0 uid 1 3 1.9 1\n 2.9 b got p:0 uid 2 3.9 2.8 1", "0.100 s before its lease"),
        ("2 a got p:0 uid 1 3 1.9 1\n 4 b got p:0 uid2 1 5 3.9 1", "stored twice"),
        ("2 a got p:0 uid 1 3 1.9 1\n 2 a ack p:0\n 2 a acked p:0 1\n 4 b got p:0 uid 2 5 3.9 1",
         "it had been acked"),
        ("2 a got p:0 uid 1 3 1.9 1\n 2 a fail p:0 0\n 2 a failed p:0 0\n"
         "2.5 b got p:0 uid 2 3.5 2.4 1", "before its lease ended"),
        ("2 a got p:0 uid 1 3 1.9 1\n 2 a fail p:0 1\n 2 a failed p:0 1\n"
         "2.5 b got p:0 uid 2 3.5 2.4 1", "earlier than it was delayed"),
        ("2 n got p:0 uid 1 0 1.9 1\n 2.3 b got p:0 uid 2 3.3 2.2 1", "within the interval"),
        ("2 r got p:0 uid 1 3 1.9 1\n 4 b got p:0 uid 2 5 3.9 1", "its lease was renewed"),
        # The other item is what it had in hand when it closed.
        ("2 r got p:0 uid 1 3 1.9 1\n 2.1 r got p:1 uid 1 3 1.9 1\n 2.2 r closing\n"
         "2.5 b got p:0 uid 2 3.5 2.4 1", "before its lease ended"),
        ("2 nemesis fault kill-consumer a\n 2 nemesis over kill-consumer a\n"
         "2 r got p:0 uid 1 3 1.9 1\n 4 b got p:0 uid 2 5 3.9 1", "its lease was renewed"),
    ],
)  # fmt: skip
def test_a_second_delivery_that_nothing_explains_is_found(lines: str, twice: str) -> None:
    verdict = judged(PUT + lines + ACKED.format(at=6, who="b"))
    assert verdict.twice == 1
    assert verdict.unexplained >= 1
    assert any(twice in problem for problem in verdict.problems)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("2 a got p:0 uid 1 3 1.9 1\n 3 b got p:0 uid 2 4 2.9 1", "lease over"),
        ("2 a got p:0 uid 1 3 1.9 1\n 2 a fail p:0 0\n 2.5 b got p:0 uid 2 3.5 2.4 1", "failed"),
        ("2 n got p:0 uid 1 0 1.9 1\n 2.5 b got p:0 uid 2 3.5 2.4 1", "interval over"),
        ("2 n got p:0 uid 1 0 1.9 1\n 2.1 o end 0\n 2.3 b got p:0 uid 2 3.3 2.2 1",
         "cleaned by a 3.0.0 that was struck before it set the lock"),
        ("2 r got p:0 uid 1 3 1.9 1\n 2.1 r closing\n 2.5 b got p:0 uid 2 3.5 2.4 1",
         "given back by a consumer that ended"),
        ("2 r got p:0 uid 1 3 1.9 1\n 2.1 nemesis fault kill-consumer r\n"
         "2.1 nemesis over kill-consumer r\n 4 b got p:0 uid 2 5 3.9 1", "lease over"),
        ("2 r got p:0 uid 1 3 1.9 1\n 3.5 server stall 1.5\n 4 b got p:0 uid 2 5 3.9 1",
         "lease over"),
        ("2 o got p:0 uid 0 0 1.9 1\n 2.1 o fail p:0 0\n 2.2 a got p:0 uid 1 3.2 2.1 1\n"
         "2.3 b got p:0 uid 2 3.3 2.2 1", "failed by 3.0.0"),
    ],
)  # fmt: skip
def test_a_second_delivery_is_explained_by_what_happened(lines: str, why: str) -> None:
    verdict = judged(PUT + lines + ACKED.format(at=6, who="b"), fleet="mixed")
    assert verdict.problems == []
    assert verdict.explained[why] >= 1


def test_of_two_deliveries_at_once_either_may_have_been_first() -> None:
    lines = "2 n got p:0 uid 1 0 1.5 1\n 2.1 n fail p:0 0\n 2.2 o got p:0 uid 0 0 1.4 1"
    assert judged(PUT + lines + ACKED.format(at=3, who="o"), fleet="mixed").fine


def test_an_ack_of_3_0_0_counts_also_when_somebody_else_has_the_item() -> None:
    lines = "2 o got p:0 uid 0 0 1.9 1\n 3 r got p:0 uid 1 4 2.9 1"
    acks = ACKED.format(at=3.1, who="o") + "\n 3.2 r ack p:0"
    assert judged(PUT + lines + acks, fleet="mixed").fine
    late = "2 o got p:0 uid 0 0 1.9 1" + ACKED.format(at=2, who="o")
    late += "\n 3 a got p:0 uid 1 4 2.9 1\n 3.2 a ack p:0"
    assert judged(PUT + late, fleet="mixed").unexplained == 1


def test_two_acks_that_both_count_are_found() -> None:
    lines = "2 a got p:0 uid 1 3 1.9 1\n 3 b got p:0 uid 2 4 2.9 1"
    acks = ACKED.format(at=5, who="a") + ACKED.format(at=6, who="b")
    assert "p:0 was acked twice" in judged(PUT + lines + acks).problems


@pytest.mark.parametrize("settled", ["acked", "failed"])
def test_an_item_that_is_taken_from_its_holder_is_found(settled: str) -> None:
    verb = settled.removesuffix("ed") + (" p:0 0" if settled == "failed" else " p:0")
    late = f"2 a got p:0 uid 1 3 1.9 1\n 2 a {verb}\n {{}} a {settled} p:0 0\n"
    done = "4 b got p:0 uid 2 5 3.9 1" + ACKED.format(at=4, who="b")
    assert judged(PUT + late.format(3) + done).fine
    (problem,) = judged(PUT + late.format(2.5) + done).problems
    assert problem == "p:0 was taken from a, who held it"


def test_an_item_that_comes_before_its_time_is_found() -> None:
    put = "1 p put 0 1 0 2\n 1.1 p ok 0\n"
    assert judged(put + "2.9 n got p:0 uid 1 0 2.8 1\n 3 n ack p:0").early == 1
    assert judged(put + "3.1 n got p:0 uid 1 0 2.8 1\n 3.2 n ack p:0").fine


TWO = "1 p put 0 1 0 0\n 1.1 p ok 0\n 1.2 p put 1 1 0 0\n 1.3 p ok 1\n"
LATER_FIRST = """2 a got p:1 uid 1 2.99 1.9 1\n 2 a ack p:1
    2.1 b got p:0 uid 1 3.05 {begun} 1\n 2.1 b ack p:0\n"""


def test_items_of_one_producer_out_of_order_are_found() -> None:
    assert judged(TWO + LATER_FIRST.format(begun=2)).out_of_order == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("0 1 5 0", "1 1 0 0"),  # of another priority
        ("0 1 0 0.5", "1 1 0 0"),  # delayed
    ],
)
def test_no_order_is_promised_of_what_differs(one: str, other: str) -> None:
    put = f"1 p put {one}\n 1.1 p ok 0\n 1.2 p put {other}\n 1.3 p ok 1\n"
    assert judged(put + LATER_FIRST.format(begun=2)).fine


def test_a_consumer_that_records_a_later_item_first_is_out_of_order() -> None:
    got = "2 r got p:1 uid 1 3 1.9 1\n 2 r ack p:1\n 2.1 r got p:0 uid 1 3 1.9 1\n 2.1 r ack p:0"
    assert judged(TWO + got).out_of_order == 1


def test_order_is_not_asked_for_what_a_waiting_get_or_one_that_was_hit_may_have_had() -> None:
    waited = judged(TWO + LATER_FIRST.format(begun=1.05))
    cut = "1.5 nemesis fault cut-connections *\n 1.5 nemesis over cut-connections *\n"
    hit = judged(TWO + cut + LATER_FIRST.format(begun=2))
    for verdict in (waited, hit):
        assert verdict.fine
        assert sum(verdict.explained.values()) == 1


@pytest.mark.parametrize(
    "lines", ["9 soak amiss it burns", "9 soak stranded p:0", "9 a end 1", "9 soak left 1"]
)
def test_what_else_is_amiss_is_not_passed_over(lines: str) -> None:
    done = PUT + "2 a got p:0 uid 1 3 1.9 1\n 2 a ack p:0\n"
    text = f"0 soak mode test 0.5 4\n{CONSUMERS}{done}{lines}\n"
    text += "" if "left" in lines else "99 soak left 0"
    (read,) = history.read(line for line in text.splitlines() if line.strip())
    assert not checker.judge(read).fine


def test_what_3_0_0_left_in_no_place_is_told_apart() -> None:
    done = PUT + "9 soak stranded p:0\n 10 a got p:0 uid 1 11 9.9 1\n 10 a ack p:0"
    assert judged(done, fleet="mixed").fine
    assert judged(done, fleet="mixed").explained["stranded by 3.0.0, found by doctor"] == 1


@pytest.mark.parametrize("text", ["1 a start get-lease 1 0", "0 soak mode test 1 4", "1 a gto p"])
def test_a_history_that_is_cut_off_or_unknown_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        list(history.read(text.splitlines()))
