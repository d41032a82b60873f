"""A mixed load through librdkafka, whose own statistics must show nothing unexpected.

    soak.py --minutes 10 [--seed N]     or     soak.py --seconds 10

Producers (plain, idempotent, every codec), a group of two members that commits, readers by assignment that start from the
beginning again and again, and transactions when the server knows them. Every client reports librdkafka's statistics each
second; at the end no client may have seen a lost or second connection, a failed or timed-out or repeated request, or an
error of its own, and every record must have reached the group exactly once. Exit code 0 only when all of it holds.
"""

import argparse
import json
import logging
import random
import re
import shutil
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from confluent_kafka import Consumer, Producer, TopicPartition  # noqa: E402
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from millrace_tests.server import ROOT, Server  # noqa: E402
from millrace_tests.wire import Wire, api_versions  # noqa: E402

TOPIC, PAID = "soak", "soak-paid"
PARTITIONS = 4
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
ADD_PARTITIONS_TO_TXN = 24  # Source: Kafka protocol, API keys
# Counters of a broker's entry that must stay 0. Source: librdkafka, STATISTICS.md
BAD = ["txerrs", "txretries", "rxerrs", "rxcorriderrs", "rxpartial", "req_timeouts", "disconnects"]
# librdkafka counts an attempt in `connects` before it looks for an address. A coordinator is a broker of its own without one until
# FindCoordinator is answered; each time its thread wakes up meanwhile, one attempt is counted and none is made. Only the debug
# log tells them apart. Source: librdkafka, rd_kafka_broker_connect
NO_ATTEMPT = re.compile(r"(\w+)(?:/\d+)?: broker has no address yet: postponing connect")


class Watch(logging.Handler):
    """What one client reports: librdkafka's statistics and errors, and of its debug log the attempts that were none."""

    def __init__(self, name):
        super().__init__()
        self.name = name
        self.reports = 0
        self.errors = []
        self.brokers = {}
        self.no_attempts = {}
        self.log = logging.Logger(name, logging.DEBUG)
        self.log.addHandler(self)

    def settings(self, bootstrap, **more):
        return {"bootstrap.servers": bootstrap, "client.id": self.name, "statistics.interval.ms": 1000,
                "stats_cb": self.statistics, "error_cb": lambda error: self.errors.append(str(error)),
                "debug": "broker", "logger": self.log, **more}

    def emit(self, record):
        if found := NO_ATTEMPT.search(record.getMessage()):
            self.no_attempts[found[1]] = self.no_attempts.get(found[1], 0) + 1

    def statistics(self, text):
        self.reports += 1
        for name, broker in json.loads(text)["brokers"].items():
            self.brokers[name] = broker

    def problems(self):
        found = [f"{self.name}: {error}" for error in self.errors]
        if self.reports < 2:
            found.append(f"{self.name}: only {self.reports} reports")
        for name, broker in self.brokers.items():
            found += [f"{self.name}, broker {name}: {counter} = {broker[counter]}" for counter in BAD
                      if broker.get(counter, 0)]
            if (connects := broker.get("connects", 0) - self.no_attempts.get(name, 0)) > 1:
                found.append(f"{self.name}, broker {name}: {connects} connections")
        return found


class Load:
    """All clients of a run, each on a thread, until `stop`."""

    def __init__(self, bootstrap, choices, transactions):
        self.bootstrap = bootstrap
        self.transactions = transactions
        self.members_done = threading.Event()
        self.stop = threading.Event()
        self.producers_done = threading.Event()
        self.watches, self.threads, self.broken = [], [], []
        self.sent, self.received = set(), {}
        self.lock = threading.Lock()
        self.counts = {"produced": 0, "received": 0, "read again": 0, "transactions": 0}
        self.seeds = [choices.randrange(1 << 32) for _ in range(16)]

    def start(self, function, name, *arguments):
        watch = Watch(name)
        self.watches.append(watch)

        def run():
            try:
                function(watch, *arguments)
            except Exception as error:  # noqa: BLE001 (whatever it is, the run has failed)
                self.broken.append(f"{name}: {error!r}")

        thread = threading.Thread(target=run, name=name)
        self.threads.append(thread)
        thread.start()
        return thread

    def count(self, what, by=1):
        with self.lock:
            self.counts[what] += by

    def produce(self, watch, index):
        choices = random.Random(self.seeds[index])
        producer = Producer(watch.settings(self.bootstrap, **{
            "enable.idempotence": index % 2 == 0, "compression.type": CODECS[index % len(CODECS)], "linger.ms": 5}))

        def delivered(error, message):
            if error is not None:
                self.broken.append(f"{watch.name}: {error}")
                return
            with self.lock:
                self.sent.add(message.key())
                self.counts["produced"] += 1

        number = 0
        while not self.stop.is_set():
            for _ in range(choices.randrange(1, 60)):
                producer.produce(TOPIC, choices.randbytes(choices.choice([10, 100, 1000])), key=f"{watch.name}:{number}",
                                 partition=choices.randrange(PARTITIONS), on_delivery=delivered)
                number += 1
            producer.poll(0)
            time.sleep(choices.random() * 0.1)
        if left := producer.flush(30):
            self.broken.append(f"{watch.name}: {left} records were never answered")

    def consume_in_group(self, watch):
        consumer = Consumer(watch.settings(self.bootstrap, **{
            "group.id": "soak", "auto.offset.reset": "earliest", "enable.auto.commit": False,
            "partition.assignment.strategy": "cooperative-sticky"}))
        consumer.subscribe([TOPIC])
        quiet_since = None
        while True:
            messages = consumer.consume(500, timeout=0.2)
            for message in messages:
                if message.error() is not None:
                    self.broken.append(f"{watch.name}: {message.error()}")
                    continue
                with self.lock:
                    self.received[message.key()] = self.received.get(message.key(), 0) + 1
                    self.counts["received"] += 1
            if messages:
                consumer.commit(asynchronous=False)
            if self.producers_done.is_set():
                with self.lock:
                    everything = self.sent <= self.received.keys()
                quiet_since = quiet_since or time.monotonic()
                if everything or time.monotonic() - quiet_since > 30:
                    break
        self.group_leaves(consumer)

    def group_leaves(self, consumer):
        # Both members stay until the end, so that the first one's leaving moves no partition while records are checked.
        self.members_done.wait(60)
        consumer.close()

    def read_again(self, watch):
        consumer = Consumer(watch.settings(self.bootstrap, **{
            "group.id": "unused", "enable.auto.commit": False, "auto.offset.reset": "error", "check.crcs": True}))
        while not self.stop.is_set():
            consumer.assign([TopicPartition(TOPIC, partition, 0) for partition in range(PARTITIONS)])
            end = time.monotonic() + 5
            while time.monotonic() < end and not self.stop.is_set():
                messages = consumer.consume(1000, timeout=0.2)
                for message in messages:
                    if message.error() is not None:
                        self.broken.append(f"{watch.name}: {message.error()}")
                self.count("read again", len(messages))
        consumer.close()

    def transact(self, watch):
        producer = Producer(watch.settings(self.bootstrap, **{"transactional.id": "soak-0", "linger.ms": 1}))
        producer.init_transactions(10)
        number = 0
        while not self.stop.is_set():
            producer.begin_transaction()
            for _ in range(10):
                producer.produce(PAID, f"{number}")
                number += 1
            if self.counts["transactions"] % 7 == 6:
                producer.abort_transaction(10)
            else:
                producer.commit_transaction(10)
            self.count("transactions")
            time.sleep(0.05)

    def run(self, seconds):
        members = [self.start(self.consume_in_group, f"member-{index}") for index in range(2)]
        others = [self.start(self.produce, f"producer-{index}", index) for index in range(5)]
        others.append(self.start(self.read_again, "reader"))
        if self.transactions:
            others.append(self.start(self.transact, "transactions"))
        else:
            print("the server advertises no transactions; they are left out", flush=True)
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.broken:
            time.sleep(0.2)
        self.stop.set()
        for thread in others:
            thread.join(60)
        self.producers_done.set()
        deadline = time.monotonic() + 40
        while not self.sent <= self.received.keys() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(0.5)
        self.members_done.set()
        for thread in members:
            thread.join(90)

    def problems(self):
        found = list(self.broken)
        for watch in self.watches:
            found += watch.problems()
        if missing := self.sent - self.received.keys():
            found.append(f"{len(missing)} records never reached the group")
        if twice := [key for key, count in self.received.items() if count > 1]:
            found.append(f"{len(twice)} records reached the group more than once, such as {twice[:3]}")
        return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "soak")
    options = parser.parse_args()
    seconds = options.seconds if options.seconds is not None else options.minutes * 60
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"soak: {seconds:g} s, seed={seed}", flush=True)
    shutil.rmtree(options.directory, ignore_errors=True)
    with Server(options.directory, arguments=["--set", "group.initial.rebalance.delay.ms=1000",
                                              # What a client does not use for ten minutes would otherwise count as lost.
                                              "--set", "connections.max.idle.ms=86400000"]) as server:
        server.start()
        admin = AdminClient({"bootstrap.servers": server.bootstrap, "log_level": 0})
        for future in admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1), NewTopic(PAID, 1, 1)]).values():
            future.result(30)
        knows_transactions = ADD_PARTITIONS_TO_TXN in api_versions(Wire(server))
        load = Load(server.bootstrap, random.Random(seed), knows_transactions)
        load.run(seconds)
        problems = load.problems()
        resident = server.resident_bytes()
        log = [line for line in server.log_text().splitlines() if " warning " in line or " error " in line]
        problems += log[:10]
        server.stop()
    for line in problems[:40]:
        print(line)
    requests = sum(broker.get("tx", 0) for watch in load.watches for broker in watch.brokers.values())
    print(", ".join(f"{name} {count}" for name, count in load.counts.items()) +
          f"; {requests} requests by {len(load.watches)} clients, {resident >> 20} MB resident at the end")
    print(f"SECONDS={seconds:g} problems={len(problems)}", flush=True)
    if problems:
        print(f"FAILED; data and server log are in {options.directory}")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
