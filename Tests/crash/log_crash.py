"""Kills the server under load and holds what is left against what was acknowledged.

    log_crash.py --cycles 200 [--seed N] [--producers 3] [--partitions 4]

Producers (librdkafka; all but the last one idempotent) send numbered records the whole time, through every restart. After
each acknowledgement they write (id, partition, offset) to a ledger. At the end the whole log is read by a consumer and
checked: every acknowledged id at its offset, no idempotent id twice, order per producer and partition, no gap in offsets.
Exit code 0 only when all of it holds.
"""

import argparse
import multiprocessing
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from millrace_tests.killer import Killer  # noqa: E402
from millrace_tests.ledger import Ledger, check, read_ledger  # noqa: E402
from millrace_tests.server import ROOT, Server  # noqa: E402

TOPIC = "crash"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]


def produce(name, bootstrap, partitions, idempotent, codec, seed, ledger_path, stop, failures):
    """One producer process: sends until `stop`, then waits for every answer. What failed goes to `failures`."""
    choices = random.Random(seed)
    ledger = Ledger(ledger_path)
    failed = []

    def delivered(error, message):
        if error is not None:
            failed.append(str(error))
        else:
            identity = message.value().split(b" ", 1)[0].decode()
            ledger.acknowledged(identity, message.partition(), message.offset())

    producer = Producer({
        "bootstrap.servers": bootstrap,
        "enable.idempotence": idempotent,
        "acks": "all",
        "compression.type": codec,
        "linger.ms": 2,
        "message.timeout.ms": 0,
        "reconnect.backoff.ms": 10,
        "reconnect.backoff.max.ms": 100,
        "retry.backoff.ms": 10,
        "log_level": 0,
    })
    sequence = 0
    while not stop.is_set():
        for _ in range(40):
            # Most are small; some are large enough to make the journal go through its files.
            rest = b"x" * choices.randrange(200) if choices.random() < 0.98 else choices.randbytes(choices.randrange(60_000))
            value = f"{name}:{sequence} ".encode() + rest
            try:
                producer.produce(TOPIC, value, key=name, partition=choices.randrange(partitions), on_delivery=delivered)
                sequence += 1
            except BufferError:
                producer.poll(0.05)
        producer.poll(0)
        time.sleep(0.008)
    left = producer.flush(60)
    if left:
        failed.append(f"{left} records were never answered")
    ledger.close()
    failures.put((name, sequence, failed))


def read_log(bootstrap, partitions):
    """The whole topic: {partition: [(offset, id), …]}, read to the end that the server names."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "crash-check", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "enable.partition.eof": True, "check.crcs": True})
    ends = {p: consumer.get_watermark_offsets(TopicPartition(TOPIC, p), timeout=30) for p in range(partitions)}
    consumer.assign([TopicPartition(TOPIC, p, low) for p, (low, _) in ends.items()])
    log = {p: [] for p in range(partitions)}
    open_partitions = {p for p, (low, high) in ends.items() if high > low}
    deadline = time.monotonic() + 120
    while open_partitions:
        if time.monotonic() > deadline:
            raise TimeoutError(f"partitions {sorted(open_partitions)} of {ends} could not be read to their end")
        for message in consumer.consume(10_000, timeout=1):
            if message.error() is not None:
                if message.error().code() == -191:  # partition EOF
                    if message.offset() >= ends[message.partition()][1]:
                        open_partitions.discard(message.partition())
                    continue
                raise KafkaException(message.error())
            log[message.partition()].append((message.offset(), message.value().split(b" ", 1)[0].decode()))
            deadline = time.monotonic() + 120
    consumer.close()
    return log


def create_topic(bootstrap, partitions):
    admin = AdminClient({"bootstrap.servers": bootstrap})  # must outlive the answer
    admin.create_topics([NewTopic(TOPIC, partitions, 1)])[TOPIC].result(30)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--producers", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "crash" / "log")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"log crash test: seed={seed} (repeat with: make crash CYCLES={options.cycles} SEED={seed})", flush=True)
    choices = random.Random(seed)
    shutil.rmtree(options.directory, ignore_errors=True)

    with Server(options.directory) as server:
        server.start()
        create_topic(server.bootstrap, options.partitions)
        context = multiprocessing.get_context("spawn")
        stop, failures = context.Event(), context.Queue()
        plain = f"p{options.producers - 1}"
        workers, ledgers = [], []
        for index in range(options.producers):
            name = f"p{index}"
            ledgers.append(options.directory / f"ledger-{name}")
            workers.append(context.Process(target=produce, daemon=True, args=(
                name, server.bootstrap, options.partitions, name != plain, CODECS[index % len(CODECS)],
                choices.randrange(1 << 32), ledgers[-1], stop, failures)))
            workers[-1].start()
        while not all(path.exists() and path.stat().st_size for path in ledgers):
            if not all(worker.is_alive() for worker in workers):
                raise SystemExit("a producer ended before its first acknowledgement")
            time.sleep(0.05)
        server.kill()

        killer = Killer(server, choices)
        for cycle in range(options.cycles):
            killer.cycle()
            if sys.stdout.isatty():
                print(f"\rcycle {cycle + 1} of {options.cycles}", end="", flush=True)
        server.start()
        stop.set()
        reports = [failures.get(timeout=120) for _ in workers]
        for worker in workers:
            worker.join(30)
        if sys.stdout.isatty():
            print()

        ledger = [entry for path in ledgers for entry in read_ledger(path)]
        log = read_log(server.bootstrap, options.partitions)
        verdict = check(ledger, log, idempotent=lambda producer: producer != plain)
        server.stop()

    broken = verdict.problems()
    for name, sent, failed in sorted(reports):
        for reason in sorted(set(failed)):
            broken.append(f"{name}: {failed.count(reason)} of {sent} records: {reason}")
    for line in broken:
        print(line)
    print(f"kills={killer.kills} (while starting: {killer.kills_while_starting}) clean stops={killer.clean_stops} "
          f"records={verdict.records} repeats without idempotence={verdict.repeats_allowed}")
    print(f"CYCLES={options.cycles} {verdict.summary()}", flush=True)
    if broken:
        print(f"FAILED; data, ledgers and server log are in {options.directory}")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
