"""Kills the server in the middle of transactions and looks for halves of them.

    txn_crash.py --cycles 200 [--seed N] [--producers 3] [--partitions 4]

Producers (librdkafka, one transactional id each) move amounts between partitions: a transaction holds the two records of one
transfer, in two partitions, and the producer's number of the next transfer as an offset of its own group. One in five
is aborted. Through every restart they do what librdkafka asks them to; what they were told is written to a ledger. A reader
of committed records reads along the whole time. At the end:

- every transfer is there with both its records or with none, and their sum is 0;
- every transfer whose commit was acknowledged is there once, none whose abort was acknowledged;
- each group's offset is the number behind the last transfer of its producer that is there;
- the reader that read along has seen exactly what is there, in the same order.

Exit code 0 only when all of it holds.
"""

import argparse
import multiprocessing
import random
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from millrace_tests.killer import Killer  # noqa: E402
from millrace_tests.server import ROOT, Server  # noqa: E402

TOPIC = "transfers"
SOURCE = "source"
# Without a recovery strategy, because librdkafka 2.16 otherwise lets go of the only broker while it is down, and a
# send_offsets_to_transaction that waits for it never returns.
PATIENT = {"reconnect.backoff.ms": 10, "reconnect.backoff.max.ms": 100, "retry.backoff.ms": 10, "log_level": 0,
           "metadata.recovery.strategy": "none"}


class Lost(Exception):
    """The producer cannot go on; what became of its transaction it does not know."""


def settled(call, retry_seconds=60):
    """Calls until it is done. Returns whether the transaction has to be aborted; raises `Lost` when the producer is over."""
    deadline = time.monotonic() + retry_seconds
    while True:
        try:
            call()
            return False
        except KafkaException as error:
            reason = error.args[0]
            if reason.txn_requires_abort():
                return True
            if not reason.retriable() or time.monotonic() > deadline:
                raise Lost(str(reason)) from error
            time.sleep(0.01)


def new_producer(bootstrap, name):
    while True:
        producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": name, "linger.ms": 1,
                             "transaction.timeout.ms": 20_000, "message.timeout.ms": 19_000, **PATIENT})
        try:
            settled(lambda one=producer: one.init_transactions(10))
            return producer
        except Lost:
            time.sleep(0.05)


def transfer(name, bootstrap, partitions, seed, path, stop, reports):
    """One producer process: transfers until `stop`. The ledger's lines: `commit N`, `abort N`."""
    choices = random.Random(seed)
    producer = new_producer(bootstrap, name)
    group = Consumer({"bootstrap.servers": bootstrap, "group.id": name, **PATIENT})
    membership = group.consumer_group_metadata()
    sequence = lost = 0
    with open(path, "ab", buffering=0) as ledger:
        while not stop.is_set():
            source, target = choices.sample(range(partitions), 2)
            amount = choices.randrange(1, 1000)
            give_up = choices.random() < 0.2
            pad = b"x" * choices.randrange(300)
            try:
                must_abort = settled(producer.begin_transaction)
                producer.produce(TOPIC, b"%s:%d %d %s" % (name.encode(), sequence, -amount, pad), partition=source)
                producer.produce(TOPIC, b"%s:%d %d %s" % (name.encode(), sequence, amount, pad), partition=target)
                if not give_up:
                    offset = [TopicPartition(SOURCE, 0, sequence + 1)]
                    must_abort = settled(
                        lambda: producer.send_offsets_to_transaction(offset, membership, 5)) or must_abort
                if not (give_up or must_abort):
                    must_abort = settled(lambda: producer.commit_transaction(5))
                    if not must_abort:
                        ledger.write(b"commit %d\n" % sequence)
                if give_up or must_abort:
                    if settled(lambda: producer.abort_transaction(5)):
                        raise Lost("an abort that asks for an abort")
                    ledger.write(b"abort %d\n" % sequence)
            except Lost:
                lost += 1
                producer = new_producer(bootstrap, name)
            sequence += 1
    group.close()
    reports.put((name, sequence, lost))


def read_along(bootstrap, partitions, stop, seen):
    """Reads committed records until `stop`, then to the end; hands over {partition: [(offset, value), …]}."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "along", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "isolation.level": "read_committed", "check.crcs": True,
                         **PATIENT})
    consumer.assign([TopicPartition(TOPIC, one, 0) for one in range(partitions)])
    found = {one: [] for one in range(partitions)}
    quiet = 0
    while quiet < 20:
        messages = consumer.consume(1000, timeout=0.2)
        quiet = quiet + 1 if stop.is_set() and not messages else 0
        for message in messages:
            if message.error() is None:
                found[message.partition()].append((message.offset(), message.value()))
            elif not (message.error().retriable() or message.error().code() in (-187, -195)):  # all down, transport
                seen.put(f"the reader was told {message.error()}")
                return
    consumer.close()
    seen.put(found)


def read_all(bootstrap, partitions, stop):
    queue = multiprocessing.get_context("spawn").Queue()
    stop.set()
    read_along(bootstrap, partitions, stop, queue)
    return queue.get(timeout=60)


def judge(found, ledgers, offsets):
    """Sentences about what is broken, and the number of transfers."""
    broken = []
    halves, sums, last = defaultdict(int), defaultdict(int), defaultdict(lambda: -1)
    for records in found.values():
        for _, value in records:
            identity, amount, _ = value.split(b" ", 2)
            halves[identity.decode()] += 1
            sums[identity.decode()] += int(amount)
    for identity, count in halves.items():
        if count != 2 or sums[identity] != 0:
            broken.append(f"transfer {identity} has {count} records with the sum {sums[identity]}")
        name, number = identity.split(":")
        last[name] = max(last[name], int(number))
    acknowledged = 0
    for name, lines in ledgers.items():
        for line in lines:
            what, number = line.split()
            is_there = halves[f"{name}:{number}"] > 0
            acknowledged += what == "commit"
            if is_there != (what == "commit"):
                broken.append(f"transfer {name}:{number} was {what}ed, and is {'' if is_there else 'not '}there")
        if offsets[name] != last[name] + 1:
            broken.append(f"group {name} is at {offsets[name]}, its last transfer is {last[name]}")
    return broken, acknowledged, sum(1 for count in halves.values() if count)


def committed_offset(bootstrap, group):
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False})
    (place,) = consumer.committed([TopicPartition(SOURCE, 0)], timeout=30)
    consumer.close()
    return max(0, place.offset)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--producers", type=int, default=3)
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "crash" / "transactions")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"transaction crash test: seed={seed} (repeat with: make crash CYCLES={options.cycles} SEED={seed})",
          flush=True)
    choices = random.Random(seed)
    shutil.rmtree(options.directory, ignore_errors=True)

    with Server(options.directory) as server:
        server.start()
        admin = AdminClient({"bootstrap.servers": server.bootstrap, **PATIENT})
        for one in admin.create_topics(
                [NewTopic(TOPIC, options.partitions, 1), NewTopic(SOURCE, 1, 1)]).values():
            one.result(30)
        context = multiprocessing.get_context("spawn")
        stop, stop_reading, reports, seen = context.Event(), context.Event(), context.Queue(), context.Queue()
        reader = context.Process(
            target=read_along, daemon=True, args=(server.bootstrap, options.partitions, stop_reading, seen))
        reader.start()
        ledgers = {f"t{index}": options.directory / f"ledger-t{index}" for index in range(options.producers)}
        workers = [context.Process(target=transfer, daemon=True, args=(
            name, server.bootstrap, options.partitions, choices.randrange(1 << 32), path, stop, reports))
            for name, path in ledgers.items()]
        for worker in workers:
            worker.start()
        while not all(path.exists() and path.stat().st_size for path in ledgers.values()):
            if not all(worker.is_alive() for worker in workers):
                raise SystemExit("a producer ended before its first transfer")
            time.sleep(0.05)
        server.kill()
        killer = Killer(server, choices, longest_seconds=1.5)
        for _ in range(options.cycles):
            killer.cycle()
        server.start()
        # A life without a kill: what was in doubt is settled.
        time.sleep(2)
        stop.set()
        ends = [reports.get(timeout=180) for _ in workers]
        for worker in workers:
            worker.join(30)
        # Whoever was lost in the middle left a transaction open, which its successor has aborted.
        stop_reading.set()
        along = seen.get(timeout=120)
        reader.join(30)
        found = read_all(server.bootstrap, options.partitions, context.Event())
        offsets = {name: committed_offset(server.bootstrap, name) for name in ledgers}
        server.stop()

    lines = {name: path.read_text().splitlines() for name, path in ledgers.items()}
    broken, acknowledged, transfers = judge(found, lines, offsets)
    if along != found:
        broken.append(f"the reader that read along saw something else: {along}"[:500])
    for line in broken[:20]:
        print(line)
    print(f"kills={killer.kills} (while starting: {killer.kills_while_starting}) clean stops={killer.clean_stops} "
          f"tried={sum(sent for _, sent, _ in ends)} transfers={transfers} lost producers={sum(l for _, _, l in ends)}")
    print(f"CYCLES={options.cycles} acknowledged={acknowledged} broken={len(broken)}", flush=True)
    if broken or not acknowledged:
        print(f"FAILED; data, ledgers and server log are in {options.directory}")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
