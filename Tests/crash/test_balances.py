"""The judgement of the balance crash test: what it must find, it finds."""

import pytest
from balances import Balances

# Two commits: 1 pays 5 to 2; 2 pays 3 to 3.
CHANGES = [(1, -5, 1), (2, 5, 1), (2, 5, -1), (2, 2, 1), (3, 3, 1)]
TOTALS = [(2, 0), (5, 0)]
EXPECTED = {1: -5, 2: 2, 3: 3}


def judge(changes, totals, expected, totals_first):
    found = Balances()
    for reading in [(found.take_total, totals), (found.take_change, changes)][::1 if totals_first else -1]:
        for one in reading[1]:
            reading[0](*one)
    found.finish(expected)
    return found


@pytest.mark.parametrize("totals_first", [True, False])
def test_commits_that_add_up_are_in_order(totals_first):
    found = judge(CHANGES, TOTALS, EXPECTED, totals_first)
    assert (found.problems, found.commits, found.changes, found.said) == ([], 2, 5, 5)


@pytest.mark.parametrize("totals_first", [True, False])
@pytest.mark.parametrize("change,word", [
    (lambda c, t, e: t.__setitem__(0, (2, 1)), "the total is 1"),
    (lambda c, t, e: t.__setitem__(0, (1, 0)), "the balances after 1 changes, where a commit ends, add up to -5"),
    (lambda c, t, e: c.__setitem__(3, (2, 1, 1)), "add up to -1"),
    (lambda c, t, e: t.append((5, 0)), "a total follows 5 changes, and the one before it 5"),
    (lambda c, t, e: c.pop(), "there are 4 changes"),
    (lambda c, t, e: c.append((4, 0, 1)), "there are 6 changes"),
    (lambda c, t, e: c.__setitem__(2, (2, 4, -1)), "takes 4 of account 2 back, which has 5"),
    (lambda c, t, e: c.__setitem__(3, (3, 2, 1)), "brings account 3 a second balance"),
    (lambda c, t, e: c.__setitem__(3, (2, 1, 2)), "has the weight 2"),
    (lambda c, t, e: e.update({3: 4}), "account 3 has 3, not 4"),
], ids=["total", "half a commit", "sum", "total twice", "change lost", "change without total", "wrong old", "two balances",
        "weight", "final"])
def test_what_is_broken_is_found(change, word, totals_first):
    changes, totals, expected = list(CHANGES), list(TOTALS), dict(EXPECTED)
    change(changes, totals, expected)
    problems = judge(changes, totals, expected, totals_first).problems
    assert any(word in line for line in problems), problems
