"""The judgement of the transaction crash test: what it must find, it finds."""

import pytest
from txn_crash import judge

GOOD = {0: [(0, b"a:0 -5 "), (2, b"b:1 7 ")], 1: [(0, b"a:0 5 "), (1, b"b:1 -7 ")]}
LEDGERS = {"a": ["commit 0", "abort 1"], "b": ["abort 0", "commit 1"]}
OFFSETS = {"a": 1, "b": 2}


def test_whole_transfers_are_in_order():
    assert judge(GOOD, LEDGERS, OFFSETS) == ([], 2, 2)


@pytest.mark.parametrize("change,word", [
    (lambda f, l, o: f[1].pop(0), "has 1 records"),
    (lambda f, l, o: f[1].append((9, b"a:0 5 ")), "has 3 records"),
    (lambda f, l, o: f.update({1: [(0, b"a:0 4 "), (1, b"b:1 -7 ")]}), "sum -1"),
    (lambda f, l, o: l["a"].append("commit 2"), "a:2 was commited, and is not there"),
    (lambda f, l, o: l["a"].__setitem__(0, "abort 0"), "a:0 was aborted, and is there"),
    (lambda f, l, o: o.update(b=1), "group b is at 1"),
    (lambda f, l, o: o.update(b=3), "group b is at 3"),
], ids=["half", "twice", "sum", "lost", "aborted", "offset behind", "offset ahead"])
def test_what_is_broken_is_found(change, word):
    found = {partition: list(records) for partition, records in GOOD.items()}
    ledgers = {name: list(lines) for name, lines in LEDGERS.items()}
    offsets = dict(OFFSETS)
    change(found, ledgers, offsets)
    broken, _, _ = judge(found, ledgers, offsets)
    assert any(word in line for line in broken), broken
