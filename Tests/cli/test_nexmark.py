"""`millrace nexmark generate`: what it writes, where to, and what it refuses. What the events are, unit tests say. And files of events as input."""

import json
import subprocess

import pytest
from millrace_tests.server import BINARY, ROOT, environment, run

GOLDEN = (ROOT / "Tests" / "nexmark" / "first-100.jsonl").read_text()


def generate(*arguments, expect=0):
    done = run("nexmark", "generate", *map(str, arguments))
    assert done.returncode == expect, f"{arguments} ended with {done.returncode}: {done.stderr}"
    return done


def time_of(line):
    (event,) = json.loads(line).values()
    return event["date_time"]


def test_the_first_events_are_those_of_nexmark_rs():
    for times in ([], ["--exact-times"], ["--float-times"]):
        assert generate("--events", 100, *times).stdout == GOLDEN
    assert generate("--events", 100, "--output", "-").stderr == ""


def test_a_range_holds_what_the_whole_holds_there():
    lines = GOLDEN.splitlines(keepends=True)
    assert generate("--events", 1, "--from", 99).stdout == lines[99]
    assert generate("--events", 30, "--from", 41).stdout == "".join(lines[41:71])


def test_a_file_is_replaced_and_said_to_be_there(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_text("x" * 1_000_000)
    done = generate("--events", 100, "--output", path)
    assert path.read_text() == GOLDEN
    assert "100 events" in done.stdout and str(path) in done.stdout
    assert "1 event," in generate("--events", 1, "--output", path).stdout


def test_many_portions_are_written_without_a_gap(tmp_path):
    path = tmp_path / "events.jsonl"
    generate("--events", 30_000, "--output", path)
    text = path.read_text()
    assert text == generate("--events", 30_000).stdout
    assert text.startswith(GOLDEN)
    lines = text.splitlines()
    assert len(lines) == 30_000
    times = [time_of(line) for line in lines]
    assert times == sorted(times) and times[-1] - times[0] == 3000


def test_the_rate_and_the_kind_of_times_decide_when_an_event_happens():
    base = time_of(GOLDEN.splitlines()[0])
    assert time_of(generate("--events", 1, "--from", 4000, "--rate", 1000).stdout) == base + 4000
    last = ["--events", 1, "--from", 671_105]
    assert time_of(generate(*last).stdout) == base + 67_111
    assert time_of(generate(*last, "--float-times").stdout) == base + 67_110
    far = 2**50 - 1
    assert time_of(generate("--events", 1, "--from", far).stdout) == base + (far + 5) // 10


@pytest.mark.parametrize("arguments, part", [
    ([], "--events"), (["--events", "0"], "--events"), (["--events", "many"], "many"),
    (["--events", "1", "--rate", "0"], "--rate"), (["--events", "1", "--rate", "2000000000"], "--rate"),
    (["--events", "1", "--from", "-1"], "--from"), (["--events", "2", "--from", str(2**50 - 1)], "--from"),
    (["--events", "1", "--exact-times", "--float-times"], "exclude"), (["--events", "1", "more"], "more"),
    (["--events", "1", "--output", ""], "--output"),
], ids=lambda one: " ".join(one) if isinstance(one, list) else "")
def test_wrong_usage_ends_with_64_and_names_what_is_wrong(arguments, part):
    done = generate(*arguments, expect=64)
    assert part in done.stderr and done.stdout == ""


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    path = tmp_path / "missing" / "events.jsonl"
    assert str(path) in generate("--events", 1, "--output", path, expect=1).stderr
    assert "/dev/full" in generate("--events", 1, "--output", "/dev/full", expect=1).stderr


def test_a_reader_that_has_enough_ends_it_quietly():
    done = subprocess.run(["bash", "-c", f"set -o pipefail; '{BINARY}' nexmark generate --events 1000000000 | head -100"],
                          capture_output=True, text=True, timeout=30, env=environment())
    assert (done.returncode, done.stdout, done.stderr) == (0, GOLDEN, "")


def test_a_query_over_files_gives_what_it_gives_over_the_same_events(tmp_path):
    """`millrace nexmark QUERY --input`: files one after the other."""
    generate("--events", 3000, "--output", tmp_path / "a.jsonl")
    generate("--from", 3000, "--events", 2000, "--output", tmp_path / "b.jsonl")
    made = run("nexmark", "q4", "--events", "5000", "--output", "-")
    read = run("nexmark", "q4", "--input", tmp_path / "a.jsonl", "--input", tmp_path / "b.jsonl", "--output", "-")
    assert (read.returncode, read.stdout) == (0, made.stdout) and made.stdout
    assert "5,000 events" in read.stderr and "with reading the events" in read.stderr


def test_files_of_something_else_are_refused(tmp_path):
    (tmp_path / "events.jsonl").write_text(GOLDEN + '{"Offer":{"id":1}}\n')
    done = run("nexmark", "q0", "--input", tmp_path / "events.jsonl")
    assert done.returncode == 1 and '{"Offer":{"id":1}}' in done.stderr
    done = run("nexmark", "q0", "--input", tmp_path / "missing.jsonl")
    assert done.returncode == 1 and "missing.jsonl" in done.stderr
    for arguments in [[], ["--events", "5", "--input", "x"], ["--input", "x", "--from", "3"], ["--input", "x", "--rate", "3"]]:
        assert run("nexmark", "q0", *arguments).returncode == 64
