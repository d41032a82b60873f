"""The queries that Millrace runs against the oracle: each result row by row, over slow and fast events, and through a crash."""

import re

import compare
import oracle
import postgres
import pytest
from millrace_tests.server import run

# Events, events a second, after how many the job crashes, on how many threads it runs, and the memory for its state.
SETTINGS = [(20_000, 100, None, 1, None), (20_000, 10_000, 9_000, 1, 1000), (200_000, 1_000, 130_000, 2, 100_000),
            (200_000, 10_000, None, 1, None)]
# Queries whose state is more than that memory.
SPILLING = {"q3", "q4", "q9", "q17", "q18", "q19", "q20"}


@pytest.fixture(scope="module")
def database():
    """A running PostgreSQL."""
    if postgres.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres.Postgres() as server:
        yield oracle.Oracle(server)


@pytest.fixture(scope="module", params=SETTINGS, ids=lambda one: "-".join(map(str, one)))
def setting(database, request):
    """The oracle with the setting's events, and the setting."""
    events, rate, *_ = request.param
    with oracle.generated("--events", events, "--rate", rate) as lines:
        assert database.load(lines) == events
    return database, *request.param


@pytest.mark.parametrize("query", oracle.QUERIES)
def test_a_query_gives_what_postgres_gives(setting, query):
    loaded, events, rate, crash, workers, memory = setting
    arguments = ["--events", events, "--rate", rate, "--workers", workers, *(["--state-memory", memory] if memory else [])]
    expected = loaded.answer(query)
    assert len(expected) > 0
    ours, told = compare.run(query, *arguments, *(["--crash-at", crash] if crash else []))
    assert compare.difference(ours, expected) is None
    if crash:
        # It lost something that it had done, and not everything.
        position = int(re.search(r"from event ([\d,]+) on", told).group(1).replace(",", ""))
        assert 0 < position < crash
    if memory is None or query in SPILLING:
        assert ("state in files" in told) == (memory is not None), told


def test_prepared_events_give_the_same_as_those_made_on_the_way():
    arguments = ["--events", 50_000, "--rate", 5_000]
    for query in ("q1", "q5", "q17"):
        assert compare.run(query, *arguments)[0] == compare.run(query, *arguments, "--prepared")[0]


def test_a_range_of_events_begins_where_it_is_told_to(database):
    with oracle.generated("--events", 20_000, "--from", 3_000_000) as lines:
        database.load(lines)
    ours, _ = compare.run("q5", "--events", 20_000, "--from", 3_000_000)
    assert compare.difference(ours, database.answer("q5")) is None


def test_standard_error_tells_what_it_took_and_a_file_holds_the_result(tmp_path):
    path = tmp_path / "q2.jsonl"
    path.write_text("x" * 1_000_000)
    done = run("nexmark", "q2", "--events", 20_000, "--output", path)
    assert done.returncode == 0 and done.stdout == ""
    assert re.fullmatch(
        r"q2: 20,000 events in \d+\.\d{3} s, [\d,]+ rows handed on; processor time \d+\.\d{3} s \(\d+\.\d{3} million events/s\), "
        r"with making the events \d+\.\d{3} s \(\d+\.\d{3} million events/s\)\n", done.stderr), done.stderr
    assert path.read_bytes().splitlines() == compare.run("q2", "--events", 20_000)[0]
    # Without a place for them the rows are only counted.
    assert run("nexmark", "q2", "--events", 20_000).stdout == ""


@pytest.mark.parametrize("arguments, part", [
    (["q99", "--events", "1"], "q99"), (["q0"], "--events"), (["--events", "1"], "QUERY"),
    (["q0", "--events", "10", "--crash-at", "11"], "--crash-at"), (["q0", "--events", "2", "--from", str(2**50 - 1)], "--from"),
    (["q0", "q1", "--events", "1"], "q1"),
], ids=lambda one: " ".join(one) if isinstance(one, list) else "")
def test_wrong_usage_ends_with_64_and_names_what_is_wrong(arguments, part):
    done = run("nexmark", *arguments)
    assert done.returncode == 64 and part in done.stderr and done.stdout == ""
