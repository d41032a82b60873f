"""Moves money between accounts while workers and server are killed; every total that is ever read must be 0.

    balance_crash.py [--transfers 200000] [--cycles 10] [--accounts 1000] [--seed N]

librdkafka produces transfers, each from one account to another. A job with two workers keeps the balances and hands on, with each
commit, the balances that it changed and what all of them add up to (Tests/crash/worker/Transfers.swift). It and the server
are killed, replaced, suspended and stopped as in worker_crash.py, at moments spread over the transfers. All along an unmodified
consumer reads what is committed:

- every total is 0, and so are, at the end of every commit, the balances that were read up to there;
- whoever has read a commit's total finds the balances of that commit;
- each balance that is taken back is the one that was there;
- in the end the balances are those that Python has kept beside.
"""

import argparse
import json
import multiprocessing
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from balances import Balances  # noqa: E402
from millrace_tests.server import ROOT, Server  # noqa: E402
from txn_crash import PATIENT  # noqa: E402
from worker_crash import Cycles, Failed  # noqa: E402

TRANSFERS, CHANGES, TOTALS = "transfers", "changes", "totals"
PARTITIONS = 4


def feed(bootstrap, transfers, accounts, seed, allowed, reports):
    """Produces transfers, never more than `allowed` says; reports the balances that they lead to, and what failed."""
    draw = random.Random(seed).random
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 2, "compression.type": "none",
                         "message.timeout.ms": 600_000, "queue.buffering.max.messages": 200_000, **PATIENT})
    balances, failed = [0] * accounts, []
    touched = bytearray(accounts)

    def delivered(error, _):
        if error is not None:
            failed.append(str(error))

    for number in range(transfers):
        while number >= allowed.value:
            producer.poll(0.005)
        source, target, amount = int(draw() * accounts), int(draw() * accounts), int(draw() * 1000)
        balances[source] -= amount
        balances[target] += amount
        touched[source] = touched[target] = 1
        while True:
            try:
                producer.produce(TRANSFERS, b"%d %d %d" % (source, target, amount), partition=number // 64 % PARTITIONS,
                                 on_delivery=delivered)
                break
            except BufferError:
                producer.poll(0.01)
        if number % 256 == 0:
            producer.poll(0)
    if producer.flush(600):
        failed.append("not everything was delivered in time")
    reports.put(({a: balance for a, balance in enumerate(balances) if touched[a]}, failed))


def read(bootstrap, expected, reports):
    """Reads changes and totals until `expected` brings the balances of the end; reports what was found, as text."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "balances", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "isolation.level": "read_committed", "check.crcs": True,
                         "fetch.queue.backoff.ms": 10, **PATIENT})
    places = [TopicPartition(TOTALS, 0, 0), TopicPartition(CHANGES, 0, 0)]
    consumer.assign(places)
    found, looks, end, final = Balances(), 0, None, None
    deadline = None
    while end is None or (found.commits, found.changes) < end:
        if deadline is not None and time.monotonic() > deadline:
            found.problems.append(f"after {found.commits} of {end[0]} totals and {found.changes} of {end[1]} changes nothing more came")
            break
        messages = consumer.consume(10_000, timeout=0.1)
        for message in messages:
            if message.error() is not None:
                if not (message.error().retriable() or message.error().code() in (-187, -195)):  # all down, transport
                    raise SystemExit(f"the reader was told {message.error()}")
            elif message.topic() == TOTALS:
                found.take_total(*map(int, message.value().split()))
            else:
                found.take_change(*map(int, message.value().split()))
        try:
            # Whoever knows the total can read the balances of that commit.
            if messages and found.said > found.changes:
                known = consumer.get_watermark_offsets(places[1], timeout=5, cached=False)[1]
                looks += 1
                if known < found.said:
                    found.problems.append(f"a total speaks of {found.said} changes, and readers may see {known}")
            if end is None and not expected.empty():
                final = expected.get()
                end = tuple(consumer.get_watermark_offsets(place, timeout=30, cached=False)[1] for place in places)
                deadline = time.monotonic() + 120
        except KafkaException as error:
            if not error.args[0].retriable() and error.args[0].code() not in (-185, -187, -195):  # timed out
                raise
    found.finish(final)
    consumer.close()
    reports.put((found.problems, found.commits, found.changes, looks))


def await_end(cycles, transfers, deadline):
    """Returns once the job has read and committed all transfers."""
    while True:
        cycles.worker.await_running()
        positions = json.loads(cycles.job("show", "--json"))["positions"]
        if sum(one["position"] for one in positions) == transfers and all(one["lag"] == 0 for one in positions):
            return
        cycles.worker.expect_alive()
        if time.monotonic() > deadline:
            raise Failed(f"the job is still at {positions}")
        time.sleep(0.1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--transfers", type=int, default=200_000)
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--accounts", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "crash" / "balances")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"balance crash test: seed={seed} (repeat with: make transfers TRANSFERS={options.transfers} CYCLES={options.cycles} "
          f"SEED={seed})", flush=True)
    choices = random.Random(seed)
    shutil.rmtree(options.directory, ignore_errors=True)
    begun = time.monotonic()

    context = multiprocessing.get_context("spawn")
    allowed, expected, sent, reports = context.Value("q", 0), context.Queue(), context.Queue(), context.Queue()
    problems, cycles, commits, changes, looks = [], None, 0, 0, 0
    with Server(options.directory) as server:
        server.start()
        admin = AdminClient({"bootstrap.servers": server.bootstrap, **PATIENT})
        topics = [NewTopic(TRANSFERS, PARTITIONS, 1), NewTopic(CHANGES, 1, 1), NewTopic(TOTALS, 1, 1)]
        for one in admin.create_topics(topics).values():
            one.result(30)
        children = [
            context.Process(target=feed, daemon=True, args=(
                server.bootstrap, options.transfers, options.accounts, choices.randrange(1 << 32), allowed, sent)),
            context.Process(target=read, daemon=True, args=(server.bootstrap, expected, reports)),
        ]
        for child in children:
            child.start()
        try:
            cycles = Cycles(server, choices, job="transfers", arguments=["transfers"])
            for cycle in range(options.cycles):
                allowed.value = options.transfers * (cycle + 1) // (options.cycles + 1)
                cycles.cycle()
            allowed.value = options.transfers
            balances, failed = sent.get(timeout=1200)
            problems += [f"librdkafka: {failed.count(reason)} transfers failed: {reason}" for reason in sorted(set(failed))]
            await_end(cycles, options.transfers, time.monotonic() + 600)
            expected.put(balances)
            found, commits, changes, looks = reports.get(timeout=600)
            problems += found
            cycles.worker.expect_alive()
        except Failed as failure:
            problems.append(str(failure))
        finally:
            if cycles is not None:
                cycles.close()
            for child in children:
                child.kill()
        server.stop()
    for line in problems:
        print(line)
    done = cycles.done if cycles is not None else {}
    what = ", ".join(f"{kind} {number}" for kind, number in done.items())
    print(f"CYCLES={sum(done.values())} ({what}) transfers={options.transfers} commits read={commits} balances read={changes} "
          f"looks at one topic from the other={looks} wrong={len(problems)} seconds={time.monotonic() - begun:.0f}", flush=True)
    if problems:
        print(f"FAILED; data and logs are in {options.directory}")
        return 1
    if not commits:
        print("FAILED; nothing was read")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
