"""`make run` as a user meets it: a data path nobody has made, Ctrl-C, and again, with exact counts each time."""

import collections
import os
import re
import signal
import subprocess
import time

import pytest
from confluent_kafka import Consumer
from millrace_tests.server import BINARY, READY, ROOT, environment

TEXT = "The wheel turns, the stones turn;\nthe miller sleeps. Wheel after wheel\n" * 200


@pytest.fixture
def make_run(tmp_path):
    """Runs the recipe of `make run`, without the installation and the build before it, in a group of processes of its own."""
    if BINARY != ROOT / ".build" / "release" / "millrace":
        pytest.skip("the recipe runs the program that `make build` leaves")
    started = []

    def start(data, *options):
        log = open(tmp_path / "make.log", "ab")
        process = subprocess.Popen(
            ["make", "--no-print-directory", "-o", "setup", "-o", "build-release", "run", f"DATA={data}",
             f"DEMO={' '.join(map(str, options))}"],
            cwd=ROOT, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL, text=True, env=environment(),
            start_new_session=True)
        started.append(process)
        for line in process.stdout:
            ready = READY.match(line.strip())
            if ready:
                return process, ready["listeners"].split()[0].removeprefix("kafka="), int(ready["pid"])
        raise AssertionError(f"no ready line; {(tmp_path / 'make.log').read_text()}")

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def control_c(process, pid):
    """What a terminal does: an interrupt for the whole group. Returns once the program, not only `make`, has ended."""
    os.killpg(process.pid, signal.SIGINT)
    process.stdout.read()
    process.wait(20)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def counts(bootstrap, words, timeout_seconds=30):
    """Every value that each word has had in `counts`, in order, once as many have come as there are words."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"check-{time.monotonic_ns()}",
                         "auto.offset.reset": "earliest"})
    consumer.subscribe(["counts"])
    found, last, deadline = collections.defaultdict(list), time.monotonic(), time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            found[message.key().decode()].append(int(message.value()))
            last = time.monotonic()
        elif {word: values[-1] for word, values in found.items()} == words and time.monotonic() - last > 0.5:
            break
    consumer.close()
    return found


def test_make_run_counts_exactly_stops_on_control_c_and_goes_on(tmp_path, make_run):
    first, second = tmp_path / "first.txt", tmp_path / "second.txt"
    first.write_text(TEXT)
    second.write_text("the miller wakes\n")
    data = tmp_path / "nobody" / "has-made" / "this"
    words = collections.Counter(re.findall("[a-z]+", TEXT.lower()))

    process, bootstrap, pid = make_run(data, "--kafka", 0, "--input", first)
    found = counts(bootstrap, words)
    assert {word: values[-1] for word, values in found.items()} == words
    control_c(process, pid)

    words.update(["the", "miller", "wakes"])
    process, bootstrap, pid = make_run(data, "--kafka", 0, "--input", first, second)
    found = counts(bootstrap, words)
    assert {word: values[-1] for word, values in found.items()} == words
    for word, values in found.items():
        assert values == sorted(set(values)), f"{word} was counted again: {values}"
    control_c(process, pid)
    assert "stopping" in (tmp_path / "make.log").read_text()
