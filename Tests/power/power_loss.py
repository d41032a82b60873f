"""Power loss of the real server: its writes are recorded under load, cut at random, and what is left is served again.

    power_loss.py --cuts 20 [--seconds 4] [--seed N] [--canary]

The server records every change of its data directory (MILLRACE_RECORD_IO). Producers and a consumer group work meanwhile;
with each acknowledgement the ledger keeps the recording's size, so that what had been recorded before it is known. Then the
recording is cut at random operations: `Simulator replay` rebuilds the directory, un-flushed writes lost or torn as a seed
decides, and the real server starts on it. Everything acknowledged before the cut must be there: records at their offsets,
no idempotent record twice, no gaps, and no committed offset that has gone back. Exit code 0 only when all of it holds.
With --canary everything counts as acknowledged before every cut, which must be noticed, or the check is worth nothing.
"""

import argparse
import os
import random
import shutil
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "crash"))

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402

from log_crash import TOPIC, create_topic, read_log  # noqa: E402
from millrace_tests.ledger import check  # noqa: E402
from millrace_tests.server import ROOT, Server, ServerFailed, environment  # noqa: E402

SIMULATOR = Path(os.environ.get("MILLRACE_SIMULATOR", ROOT / ".build" / "release" / "Simulator"))
GROUP = "power"
# A recording begins with 12 bytes; then entries of length (uint32), checksum (uint32) and as many bytes.
HEAD_BYTES, ENTRY_PREFIX_BYTES = 12, 8


class Promises:
    """What the server acknowledged, each with the size the recording had by then."""

    def __init__(self, recording):
        self.recording = recording
        self.records = []
        self.commits = []
        self.attempted = {}
        self.lock = threading.Lock()

    def size(self):
        return os.stat(self.recording).st_size

    def record(self, identity, partition, offset):
        with self.lock:
            self.records.append((identity, partition, offset, self.size()))

    def committed(self, partition, offset):
        with self.lock:
            self.commits.append((partition, offset, self.size()))


def produce(name, bootstrap, partitions, idempotent, seed, promises, stop, failures):
    """Sends numbered records until `stop`, then waits for every answer."""
    choices = random.Random(seed)

    def delivered(error, message):
        if error is not None:
            failures.append(f"{name}: {error}")
        else:
            identity = message.value().split(b" ", 1)[0].decode()
            promises.record(identity, message.partition(), message.offset())

    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": idempotent, "acks": "all", "linger.ms": 1})
    sequence = 0
    while not stop.is_set():
        for _ in range(30):
            rest = choices.randbytes(choices.randrange(40_000)) if choices.random() < 0.1 else b"x" * choices.randrange(300)
            producer.produce(TOPIC, f"{name}:{sequence} ".encode() + rest, partition=choices.randrange(partitions),
                             on_delivery=delivered)
            sequence += 1
        producer.poll(0.01)
    if producer.flush(60):
        failures.append(f"{name}: some records were never answered")


def consume(bootstrap, partitions, promises, stop, failures):
    """Commits rising offsets, one after the other."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP, "enable.auto.commit": False})
    offset = 0
    try:
        while not stop.is_set():
            offset += 1
            partition = offset % partitions
            promises.attempted[partition] = offset
            consumer.commit(offsets=[TopicPartition(TOPIC, partition, offset)], asynchronous=False)
            promises.committed(partition, offset)
            time.sleep(0.01)
    except KafkaException as error:
        failures.append(f"commit: {error}")
    consumer.close()


def record(directory, partitions, seconds, choices):
    """Runs the server under load while it records, kills it, and returns the promises."""
    recording = directory / "recording"
    promises, stop, failures = Promises(recording), threading.Event(), []
    os.environ["MILLRACE_RECORD_IO"] = str(recording)
    try:
        with Server(directory / "recorded") as server:
            server.start()
            create_topic(server.bootstrap, partitions)
            workers = [threading.Thread(target=produce, args=(
                f"p{index}", server.bootstrap, partitions, index < 2, choices.randrange(1 << 32), promises, stop, failures))
                for index in range(3)]
            workers.append(threading.Thread(
                target=consume, args=(server.bootstrap, partitions, promises, stop, failures)))
            for worker in workers:
                worker.start()
            time.sleep(seconds)
            stop.set()
            for worker in workers:
                worker.join()
            server.kill()
    finally:
        del os.environ["MILLRACE_RECORD_IO"]
    if failures:
        raise SystemExit("\n".join(["recording failed:", *failures[:10]]))
    return promises


def entry_ends(recording):
    """Where each whole entry of the recording ends, in bytes."""
    ends, at, size = [], HEAD_BYTES, os.stat(recording).st_size
    with open(recording, "rb") as file:
        while at + ENTRY_PREFIX_BYTES <= size:
            file.seek(at)
            at += ENTRY_PREFIX_BYTES + struct.unpack(">I", file.read(4))[0]
            if at <= size:
                ends.append(at)
    return ends


def committed_offsets(bootstrap, partitions):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": GROUP})
    found = consumer.committed([TopicPartition(TOPIC, p) for p in range(partitions)], timeout=30)
    consumer.close()
    return {one.partition: one.offset for one in found}


def check_cut(directory, partitions, promises, prefix, size, seed):
    """Serves what a power loss after `prefix` operations left. Returns what is wrong, and what had been promised."""
    problems = []
    with Server(directory) as server:
        subprocess.run([SIMULATOR, "replay", promises.recording, str(prefix), str(seed), str(server.data)], check=True,
                       env=environment())
        ledger = [(identity, p, offset) for identity, p, offset, bound in promises.records if bound <= size]
        commits = {}
        for p, offset, bound in promises.commits:
            if bound <= size:
                commits[p] = max(offset, commits.get(p, -1))
        try:
            server.start()
        except ServerFailed as error:
            return [f"it does not start: {error}"], len(ledger)
        if not ledger and not commits:
            # The topic itself may not be there yet.
            server.stop()
            return [], 0
        try:
            log = read_log(server.bootstrap, partitions)
        except KafkaException as error:
            server.stop()
            return [f"{len(ledger)} records were acknowledged, and the topic cannot be read: {error}"], len(ledger)
        verdict = check(ledger, log, idempotent=lambda name: name != "p2")
        problems += verdict.problems()
        for p, offset in committed_offsets(server.bootstrap, partitions).items():
            if not commits.get(p, -1001) <= offset <= promises.attempted.get(p, -1001):
                problems.append(f"partition {p}: offset {commits.get(p)} was committed, now it is {offset}")
        server.stop()
    return problems, len(ledger)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--canary", action="store_true")
    parser.add_argument("--partitions", type=int, default=3)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "power")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"power loss test: seed={seed}", flush=True)
    choices = random.Random(seed)
    shutil.rmtree(options.directory, ignore_errors=True)
    options.directory.mkdir(parents=True)

    promises = record(options.directory, options.partitions, options.seconds, choices)
    ends = entry_ends(promises.recording)
    shutil.rmtree(options.directory / "recorded")
    broken = held = 0
    for number in range(options.cuts):
        # The beginning and the end are cut, too; between them anywhere.
        prefix = [len(ends), choices.randrange(1, 40)][number] if number < 2 else choices.randrange(1, len(ends))
        cut_seed = choices.randrange(1 << 32)
        directory = options.directory / f"cut-{number}"
        problems, acknowledged = check_cut(
            directory, options.partitions, promises, prefix, ends[-1 if options.canary else prefix - 1], cut_seed)
        held += acknowledged
        for problem in problems if not options.canary else []:
            print(f"cut {number} after {prefix} operations, replay seed {cut_seed}: {problem}")
        broken += bool(problems)
        if not problems:
            shutil.rmtree(directory)
        if sys.stdout.isatty():
            print(f"\rcut {number + 1} of {options.cuts}", end="", flush=True)
    print(f"CUTS={options.cuts} operations={len(ends)} acknowledged={len(promises.records)} "
          f"commits={len(promises.commits)} promises held={held} broken={broken}", flush=True)
    if options.canary:
        shutil.rmtree(options.directory, ignore_errors=True)
        print("the canary was noticed" if broken else "FAILED: the canary was not noticed")
        return 0 if broken else 1
    if broken:
        print(f"FAILED; the recording and the directories are in {options.directory}")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
