"""The checker itself: every kind of planted fault must be found, or its silence means nothing."""

from millrace_tests.ledger import Ledger, check, read_ledger

LOG = {0: [(0, "a:0"), (1, "b:0"), (2, "a:2")], 1: [(0, "a:1")]}
LEDGER = [("a:0", 0, 0), ("b:0", 0, 1), ("a:1", 1, 0), ("a:2", 0, 2)]


def always(_):
    return True


def never(_):
    return False


def test_a_log_that_keeps_its_promises_is_clean():
    verdict = check(LEDGER, LOG, always)
    assert verdict.clean and verdict.summary() == "acknowledged=4 lost=0 duplicates=0"


def test_records_beyond_what_was_acknowledged_are_allowed():
    assert check(LEDGER[:1], LOG, always).clean


def test_a_planted_loss_is_reported():
    verdict = check(LEDGER + [("b:1", 0, 3)], LOG, always)
    assert len(verdict.lost) == 1 and "b:1" in verdict.lost[0] and not verdict.clean


def test_an_acknowledged_record_at_another_offset_is_a_loss():
    verdict = check([("a:1", 1, 7)], LOG, always)
    assert len(verdict.lost) == 1 and "1@0" in verdict.lost[0]


def test_an_offset_promised_twice_is_a_loss():
    verdict = check([("a:0", 0, 0), ("b:0", 0, 0)], LOG, always)
    assert any("promised to" in line for line in verdict.lost)


def test_a_planted_duplicate_is_reported_only_under_idempotence():
    log = {0: LOG[0] + [(3, "a:2")], 1: LOG[1]}
    verdict = check(LEDGER, log, always)
    assert len(verdict.duplicates) == 1 and "0@2 and 0@3" in verdict.duplicates[0]
    plain = check(LEDGER, log, never)
    assert plain.clean and plain.repeats_allowed == 1


def test_a_duplicate_in_another_partition_is_reported():
    assert len(check(LEDGER, {0: LOG[0], 1: [(0, "a:1"), (1, "a:0")]}, always).duplicates) == 1


def test_a_gap_is_reported():
    verdict = check([], {0: [(0, "a:0"), (2, "a:1")]}, always)
    assert verdict.gaps == ["partition 0: offset 2 follows where 1 should"]


def test_a_log_that_begins_late_has_a_gap():
    assert check([], {0: [(1, "a:0")]}, always).gaps


def test_disorder_of_one_producer_is_reported():
    verdict = check([], {0: [(0, "a:1"), (1, "a:0")]}, always)
    assert verdict.disorder == ["partition 0: a:0 stands after a:1"]


def test_a_ledger_survives_a_cut_last_line(tmp_path):
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    ledger.acknowledged("a:0", 0, 0)
    ledger.acknowledged_all([("a:1", 0, 1)])
    ledger.close()
    with open(path, "ab") as file:
        file.write(b"a:2 0")
    assert read_ledger(path) == [("a:0", 0, 0), ("a:1", 0, 1)]
