"""From ledgers to a judgement, and the trigger that kills behind a promise."""

import multiprocessing
import signal
import subprocess

import pytest
from millrace_tests.killer import Trigger
from queue_client import MOVED, body_of, text_of
from queue_ledgers import QUEUES, judge, read_ledger, still_delayed


def whole():
    """Ledgers of one confirmed message for each kind of queue and what is left, without anything wrong."""
    kinds = ["direct", "fan", "priority", "quorum", "work"]
    sent = [line for kind in kinds for line in (["sent", f"p0.{kind}:0"], ["ok", f"p0.{kind}:0", "1010"])]
    ledgers = {
        "p0": [["session"], *sent, ["sent", "p0.later:0", "100", "1000"], ["ok", "p0.later:0", "1010"]],
        "p1": [["session"]],
        "p2": [["session"], ["sent", "p2.plain:0"], ["closed"], ["session"], ["sent", "p2.plain:1"]],
        "consumer": [["open", "direct"], ["got", "direct", "p0.direct:0", "0", "1020"],
                     ["ack", "direct", "p0.direct:0"], ["settled", "direct", "p0.direct:0"]],
        "rejecter": [["open", "work"], ["got", "work", "p0.work:0", "0", "1020"], ["reject", "work", "p0.work:0"],
                     ["settled", "work", "p0.work:0"]],
        "forth": [["open"], ["got", "m:0@0"], ["rollback"], ["try", "m:0@0"], ["moved"]], "back": [["open"]]}
    left = {queue: [] for queue in [*QUEUES, "dead", "in", "out"]}
    for queue, text in [("fan.a", "p0.fan:0"), ("fan.b", "p0.fan:0"), ("priority", "p0.priority:0"),
                        ("quorum", "p0.quorum:0"), ("plain", "p2.plain:0"), ("later", "p0.later:0"), ("out", "m:0@1")]:
        left[queue].append((text, {}, 1100))
    left["dead"].append(("p0.work:0", {"x-death": [{"queue": "work", "reason": "rejected", "count": 1}]}, 1100))
    left["in"] = [(f"m:{number}@0", {}, 1100) for number in range(1, MOVED)]
    return ledgers, left


def test_ledgers_that_agree_with_what_is_left_pass():
    ledgers, left = whole()
    broken, figures = judge(ledgers, left)
    assert broken == []
    assert [figures[one] for one in ("confirmed", "settled", "transactions", "channels closed")] == [6, 2, 1, 1]
    assert still_delayed(ledgers) == {"p0.later:0"}


@pytest.mark.parametrize("queue", ["fan.a", "fan.b", "priority", "quorum", "plain", "later", "dead", "in", "out"])
def test_a_message_that_is_missing_in_any_queue_is_found(queue):
    ledgers, left = whole()
    left[queue].pop()
    broken, _ = judge(ledgers, left)
    assert len(broken) == 1 and ": lost: " in broken[0], broken


@pytest.mark.parametrize("change,words", [
    (lambda ledgers, left: left["direct"].append(("p0.direct:0", {}, 1100)), "direct: undone: "),
    (lambda ledgers, left: left["later"].__setitem__(0, ("p0.later:0", {}, 1099)), "later: early: "),
    (lambda ledgers, left: left["dead"].__setitem__(0, ("p0.work:0", {}, 1100)), "work: death: "),
    (lambda ledgers, left: left["out"].append(("m:1@1", {}, 1100)), "moves: twice: "),
    (lambda ledgers, left: ledgers["p1"].append(["error", "was", "refused"]), "p1: error: was refused"),
    (lambda ledgers, left: left["quorum"].__setitem__(0, (text_of(body_of("p0.quorum:0")[:-1]), {}, 1100)),
     "quorum: unknown: "),
], ids=["back", "early", "x-death", "twice", "error", "body"])
def test_what_is_wrong_in_a_ledger_or_queue_is_found(change, words):
    ledgers, left = whole()
    change(ledgers, left)
    broken, _ = judge(ledgers, left)
    assert any(line.startswith(words) for line in broken), broken


def test_a_line_that_was_cut_counts_for_nothing(tmp_path):
    path = tmp_path / "ledger"
    path.write_bytes(b"session\nsent p2.plain:0\nok p2.pl")
    assert read_ledger(path) == [["session"], ["sent", "p2.plain:0"]]


def test_the_trigger_kills_behind_a_promise_of_its_kind_and_only_once_armed():
    trigger = Trigger(multiprocessing.get_context("spawn"), ["confirm", "closed"])
    with subprocess.Popen(["sleep", "60"]) as process:
        try:
            trigger.promised("closed")
            trigger.arm(process.pid, "closed")
            trigger.promised("confirm")
            trigger.disarm()
            trigger.promised("closed")
            assert process.poll() is None
            trigger.arm(process.pid, "closed")
            trigger.promised("closed")
            assert process.wait(20) == -signal.SIGKILL
        finally:
            process.kill()
