"""Kills the word count at random moments and holds its counts against an independent count of the same text.

    count_crash.py --cycles 200 [--seed N] [--megabytes 4]

Rounds of two kinds until `--cycles` lives of the server were ended: files read by `millrace demo --input`, and lines that
kafka-python produces into the topic `lines` of a running demo. When a round's input has ended, the topic `counts` is read
from its first record by an unmodified consumer: the latest value of every word must equal the independent count, and the
values of a word must grow from record to record. Each life counts with another number of workers. Exit code 0 only when every
round is exact.
"""

import argparse
import random
import shutil
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from confluent_kafka import Consumer, TopicPartition  # noqa: E402
from kafka import KafkaProducer  # noqa: E402

from millrace_tests.killer import Killer  # noqa: E402
from millrace_tests.server import ROOT, Server, ServerFailed  # noqa: E402
from words import corpus, count, write_awkward  # noqa: E402


class CountReader:
    """Reads a topic from its beginning, keeping the latest value of each key and what is wrong with their order."""

    def __init__(self, bootstrap, topic="counts"):
        self.consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "count-check",
                                  "enable.auto.commit": False, "auto.offset.reset": "earliest"})
        self.topic = topic
        self.latest = {}
        self.problems = []
        self.records = 0

    def ends(self, topic=None):
        """The end offset of each partition; empty while the topic is not there."""
        topic = topic or self.topic
        found = self.consumer.list_topics(topic, timeout=10).topics[topic]
        if found.error is not None:
            return {}
        return {p: self.consumer.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1]
                for p in found.partitions}

    def read(self):
        """Reads everything up to the present end."""
        ends = self.ends()
        self.consumer.assign([TopicPartition(self.topic, p, 0) for p in ends])
        left = {p for p, end in ends.items() if end > 0}
        deadline = time.monotonic() + 60
        while left:
            if time.monotonic() > deadline:
                raise TimeoutError(f"partitions {sorted(left)} of {ends} could not be read to their end")
            for message in self.consumer.consume(10_000, timeout=1):
                if message.error() is not None:
                    continue
                self.take(message.key().decode(), int(message.value()), message.partition(), message.offset())
                if message.offset() + 1 >= ends[message.partition()]:
                    left.discard(message.partition())

    def take(self, word, value, partition, offset):
        self.records += 1
        if value <= self.latest.get(word, 0):
            self.problems.append(f"{word!r} falls from {self.latest[word]} to {value} at {partition}@{offset}")
        self.latest[word] = value

    def close(self):
        self.consumer.close()


def differences(expected, actual, limit=10):
    """The words whose counts differ, as sentences."""
    every = sorted(w for w in expected.keys() | actual.keys() if expected.get(w, 0) != actual.get(w, 0))
    lines = [f"{word!r}: counted {actual.get(word, 0)}, the input has {expected.get(word, 0)}" for word in every[:limit]]
    return lines + ([f"… and {len(every) - limit} more words"] if len(every) > limit else [])


def await_quiet(server, quiet_seconds=1.5, timeout_seconds=120):
    """Returns once neither lines nor counts have grown for a while."""
    reader = CountReader(server.bootstrap)
    try:
        last, since, deadline = None, time.monotonic(), time.monotonic() + timeout_seconds
        while True:
            server.drain_output()
            now = (reader.ends("lines"), reader.ends("counts"))
            if now != last:
                last, since = now, time.monotonic()
            if now[1] and time.monotonic() - since > quiet_seconds:
                return
            if time.monotonic() > deadline:
                raise ServerFailed(f"still busy after {timeout_seconds} s at {now}{server.log_tail()}")
            time.sleep(0.1)
    finally:
        reader.close()


def judge(server, expected):
    """What is wrong with the counts that a running server holds."""
    await_quiet(server)
    reader = CountReader(server.bootstrap)
    try:
        reader.read()
    finally:
        reader.close()
    return reader.problems[:10] + differences(expected, reader.latest), reader.records


def lines_produced(server):
    """The number of records in `lines`, to tell whether the feeder has come to its end."""
    reader = CountReader(server.bootstrap)
    try:
        return sum(reader.ends("lines").values())
    finally:
        reader.close()


def file_round(directory, choices, most_cycles, files, expected):
    """Kills a demo that reads `files` until they were read to their end; returns (cycles, problems, records)."""
    with Server(directory, command="demo", arguments=["--input", *files]) as server:
        killer = Killer(server, choices, shortest_seconds=0.002, longest_seconds=0.5)
        before, still = -1, 0
        while killer.kills + killer.clean_stops < most_cycles:
            server.arguments = ["--workers", str(choices.choice([1, 1, 2, 3])), "--input", *map(str, files)]
            killer.cycle()
            if (killer.kills + killer.clean_stops) % 10 == 0:
                # Two looks without a new line in between: the input has ended, further kills would show little.
                server.start()
                now = lines_produced(server)
                server.kill()
                still = still + 1 if now == before else 0
                before = now
                if still >= 2:
                    break
        server.start()
        problems, records = judge(server, expected)
        server.stop()
    return killer.kills + killer.clean_stops, problems, records


def producer_round(directory, choices, most_cycles, lines):
    """Kills a demo whose lines come from kafka-python; returns (cycles, problems, records)."""
    directory.mkdir(parents=True, exist_ok=True)
    empty = directory / "empty.txt"
    empty.write_bytes(b"")
    with Server(directory, command="demo", arguments=["--input", empty]) as server:
        server.start()
        producer = KafkaProducer(bootstrap_servers=server.bootstrap, acks="all", enable_idempotence=True,
                                 delivery_timeout_ms=300_000, reconnect_backoff_ms=10,
                                 reconnect_backoff_max_ms=100, linger_ms=2)
        sent, failed, stop = [], [], threading.Event()

        def send():
            while not stop.is_set():
                line = choices_of_lines.choice(lines)
                sent.append(line)
                producer.send("lines", line).add_errback(lambda error: failed.append(repr(error)))
                if len(sent) % 20 == 0:
                    time.sleep(0.01)

        choices_of_lines = random.Random(choices.randrange(1 << 32))
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        time.sleep(0.3)
        server.kill()
        killer = Killer(server, choices)
        while killer.kills + killer.clean_stops < most_cycles:
            server.arguments = ["--workers", str(choices.choice([1, 1, 2, 3])), "--input", str(empty)]
            killer.cycle()
        server.start()
        stop.set()
        sender.join(60)
        producer.flush(timeout=120)
        producer.close()
        problems, records = judge(server, count(sent))
        problems += [f"kafka-python: {failed.count(reason)} sends failed: {reason}" for reason in sorted(set(failed))]
        server.stop()
    return killer.kills + killer.clean_stops, problems, records


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--megabytes", type=float, default=4)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "crash" / "count")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"count crash test: seed={seed} (repeat with: make crash CYCLES={options.cycles} SEED={seed})", flush=True)
    choices = random.Random(seed)
    shutil.rmtree(options.directory, ignore_errors=True)

    files = corpus(int(options.megabytes * 1e6)) + write_awkward(options.directory / "input")
    contents = [path.read_bytes() for path in files]
    expected = count(contents)
    lines = [line for data in contents for line in data.split(b"\n") if 0 < len(line) < 500][:20_000]

    done = rounds = records = 0
    problems = []
    while done < options.cycles and not problems:
        directory = options.directory / f"round-{rounds}"
        left = options.cycles - done
        if rounds % 2 == 0:
            # At least half of what is left, so that both kinds of round run even when there are few cycles.
            most = left if left < 4 else max(left // 2, 2)
            cycles, problems, seen = file_round(directory, choices, most, files, expected)
        else:
            cycles, problems, seen = producer_round(directory, choices, min(left, 25), lines)
        problems = [f"round {rounds}: {line}" for line in problems]
        done, rounds, records = done + cycles, rounds + 1, records + seen
        if not problems:
            shutil.rmtree(directory, ignore_errors=True)
    for line in problems:
        print(line)
    print(f"CYCLES={done} rounds={rounds} words={sum(expected.values())} distinct={len(expected)} "
          f"count records={records} wrong={len(problems)}", flush=True)
    if problems:
        print(f"FAILED; data and server log are in {options.directory}")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
