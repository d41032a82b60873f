"""The judgement of the queue crash test: sound histories pass, and each kind of violation is found."""

import copy

import pytest
from queue_judge import Delayed, QueueHistory, judge_delays, judge_moves, judge_queue


def got(*numbers, redelivered=False):
    return [("got", f"p:{number}", redelivered) for number in numbers]


def each(what, *numbers):
    return [(what, f"p:{number}") for number in numbers]


def ids(*numbers):
    return [f"p:{number}" for number in numbers]


def changed(history, changes):
    for name, value in changes.items():
        setattr(history, name, value(getattr(history, name)) if callable(value) else value)
    return history


def queue(**changes):
    """Two channels publish 0–5 and 6–9. 5 was lost with the first, 0–3 are done for good, 4 perhaps, 6 was returned."""
    history = QueueHistory(
        "q", sessions=[ids(*range(6)), ids(*range(6, 10))], promised=set(ids(0, 1, 2, 3, 6, 7)),
        events=[("open",), *got(0, 1, 2, 3), *each("ack", 0, 1), *each("settled", 0, 1),
                ("open",), *got(2, 3, 4), *each("ack", 2, 3), *each("settled", 2, 3), *got(6), *each("requeue", 6),
                *got(6, redelivered=True), *each("ack", 4)],
        left=ids(4, 6, 7, 8))
    return changed(history, changes)


def letters(**changes):
    """0 and 1 were rejected, 0 for good; 2 was acknowledged, 3 never delivered, the rejection of 4 was undone."""
    history = QueueHistory(
        "work", sessions=[ids(*range(6))], promised=set(ids(*range(5))),
        events=[("open",), *got(0, 1, 2), *each("reject", 0), *each("settled", 0), *each("ack", 2), *each("reject", 1),
                *got(4), *each("reject", 4), ("open",), *got(4)],
        left=ids(2, 3, 4), dead=ids(0, 1))
    return changed(history, changes)


@pytest.mark.parametrize("history", [
    queue(), letters(),
    queue(left=ids(6, 7, 8)),  # an acknowledgement may have counted
    queue(left=ids(4, 6, 7, 8, 9)),  # a message may have survived
    letters(left=ids(1, 2, 3, 4), dead=ids(0)), letters(left=ids(3, 4)),
    QueueHistory("fresh", sessions=[ids(0, 1, 2)]),
    QueueHistory("later", sessions=[ids(0, 1, 2)], events=[("open",), *got(2, 0)], left=ids(1, 0, 2), is_ordered=False),
    QueueHistory("priority", sessions=[ids(0, 1, 2, 3)], events=[("open",), *got(1, 0)], left=ids(1, 3, 0),
                 priority=lambda identity: int(identity[2:]) % 2),
], ids=["queue", "letters", "acknowledged", "survived", "undone", "gone", "nothing", "unordered", "priority"])
def test_what_is_allowed_passes(history):
    assert judge_queue(history) == []


@pytest.mark.parametrize("history,words", [
    (queue(left=ids(4, 6, 8)), "lost: p:7 was promised"),
    (queue(left=ids(4, 7, 8)), "lost: p:6 was delivered, and not acknowledged"),
    (queue(promised=lambda promised: promised | {"p:5"}), "lost: p:5 was promised"),
    (queue(left=ids(2, 4, 6, 7, 8)), "undone: p:2 is in the queue, its ack was promised"),
    (queue(events=lambda events: [*events, ("open",), *got(0)]), "undone: p:0 was delivered again"),
    (queue(left=ids(4, 6, 7, 7, 8)), "twice: p:7 is left in the queue 2 times"),
    (queue(left=ids(4, 6, 7, 8, 12)), "unknown: p:12 is left"),
    (queue(events=lambda events: [*events, *got(12)]), "unknown: p:12 was delivered"),
    (queue(left=ids(4, 7, 6, 8)), "order: p:6 is left behind p:7"),
    (queue(events=lambda events: [("open",), *got(1, 0), *events[2:]]), "order: p:0 was delivered after p:1"),
    (queue(events=lambda events: [("open",), *got(1), ("open",), *got(0), *events]),
     "order: p:0 was delivered for the first time after p:1"),
    (queue(events=lambda events: [*events, *got(7, 7)]), "twice: p:7 was delivered twice on one channel"),
    (queue(events=lambda events: [*events, *each("requeue", 6), *got(6)]), "unmarked: p:6"),
    (queue(left=ids(4, 6, 7, 9)), "gap: p:9 is there, p:8"),
    (QueueHistory("plain", sessions=[ids(0, 1, 2)], left=ids(0, 2)), "gap: p:2 is there, p:1"),
    (QueueHistory("priority", sessions=[ids(0, 1)], left=ids(0, 1), priority=lambda identity: int(identity[2:])),
     "order: p:1 of priority 1 is left behind"),
    (letters(left=ids(2, 4)), "lost: p:3"),
    (letters(dead=ids(0)), "lost: p:1 was rejected, and is neither"),
    (letters(dead=ids(1)), "lost: p:0 was rejected"),
    (letters(left=ids(0, 2, 3, 4), dead=ids(1)), "lost: p:0 is not among the dead letters, its rejection was promised"),
    (letters(left=ids(1, 2, 3, 4)), "twice: p:1 is in the queue and among its dead letters"),
    (letters(dead=ids(0, 1, 1)), "twice: p:1 is among the dead letters 2 times"),
    (letters(dead=ids(0, 1, 2)), "dead: p:2"),
    (letters(dead=ids(0, 1, 3), left=ids(2, 4)), "dead: p:3"),
    (letters(dead=ids(0, 1, 4), left=ids(2, 3)), "dead: p:4 is among the dead letters, its last delivery was not"),
    (letters(dead=ids(0, 1, 12)), "unknown: p:12 is among the dead letters"),
], ids=lambda one: one if isinstance(one, str) else "")
def test_what_is_broken_is_found(history, words):
    assert any(words in line for line in judge_queue(history)), judge_queue(history)


PUBLICATIONS = {"p:0": Delayed(500, 1000, 1010), "p:1": Delayed(100, 1005, 1015), "p:2": Delayed(490, 1012, 1020),
                "p:3": Delayed(0, 1030, None)}


def test_delayed_messages_come_after_their_time_and_in_its_order():
    # 0 and 2 may have arrived so that either is due first; of 3 it is not known when it arrived.
    assert judge_delays(PUBLICATIONS, [("p:1", 1106), ("p:2", 1502), ("p:0", 1502), ("p:3", 1510), ("p:1", 1511)]) == []


@pytest.mark.parametrize("deliveries,words", [
    ([("p:1", 1104)], "early: p:1 was delivered 1 ms"),
    ([("p:0", 1500), ("p:1", 1501)], "time: p:1 was delivered after p:0, which was due at least 385 ms later"),
    ([("p:2", 1502), ("p:1", 1503)], "time: p:1 was delivered after p:2, which was due at least 387 ms later"),
])
def test_delayed_messages_that_come_at_the_wrong_time_are_found(deliveries, words):
    assert any(words in line for line in judge_delays(PUBLICATIONS, deliveries))


def test_what_is_overdue_together_may_be_allowed_to_come_in_the_order_of_its_publication():
    assert judge_delays(PUBLICATIONS, [("p:0", 1510), ("p:1", 1510), ("p:2", 1510)], overdue_by_time=False) == []
    broken = judge_delays(PUBLICATIONS, [("p:2", 1510), ("p:1", 1510)], overdue_by_time=False)
    assert broken == ["time: p:1 was delivered after p:2, which was due at least 387 ms later"]


SEEDED = ["a", "b", "c"]
# a and b went forth for sure, then a came back; then nobody knows whether b and c went anywhere, and they did not.
MOVES = {"forth": [("got", "a@0"), ("got", "b@0"), ("try", "a@0", "b@0"), ("moved",), ("got", "a@2"), ("got", "c@0"),
                   ("try", "a@2", "c@0"), ("got", "a@2"), ("got", "c@0")],
         "back": [("got", "a@1"), ("got", "b@1"), ("try", "a@1"), ("moved",), ("try", "b@1")]}
LEFT = (["a@2", "c@0"], ["b@1"])


@pytest.mark.parametrize("left", [LEFT, (["a@2", "c@0", "b@2"], [])], ids=["did not", "did"])
def test_whole_moves_pass(left):
    assert judge_moves(SEEDED, MOVES, left) == []


@pytest.mark.parametrize("change,words", [
    (lambda forth, back, first, second: first.remove("c@0"), "lost: c"),
    (lambda forth, back, first, second: second.append("a@3"), "twice: a"),
    (lambda forth, back, first, second: first.append("x@0"), "unknown: x"),
    (lambda forth, back, first, second: (first.remove("c@0"), second.append("c@0")), "queue: c@0 is in queue 1"),
    (lambda forth, back, first, second: (second.remove("b@1"), first.append("b@4")), "unasked: b has moved 4 times"),
    (lambda forth, back, first, second: (second.remove("b@1"), first.append("b@0")), "undone: b@0 is back"),
    (lambda forth, back, first, second: forth.append(("got", "b@0")), "undone: b@0 was delivered after its move"),
    (lambda forth, back, first, second: back.extend([("got", "c@3"), ("got", "c@1")]), "delivered after c@3"),
    (lambda forth, back, first, second: (first.remove("c@0"), second.append("c@1"), forth.pop()),
     "half: of one transaction a@2 is not moved, c@0 is moved"),
], ids=["lost", "twice", "unknown", "wrong queue", "unasked", "back", "delivered", "older", "half"])
def test_broken_moves_are_found(change, words):
    ledgers, left = copy.deepcopy(MOVES), copy.deepcopy(LEFT)
    change(ledgers["forth"], ledgers["back"], *left)
    assert any(words in line for line in judge_moves(SEEDED, ledgers, left)), judge_moves(SEEDED, ledgers, left)
