"""A full disk: producers are told, readers go on, deletion gives space back, and nothing acknowledged is lost."""

import errno
import threading
import time

import pytest
from confluent_kafka import Producer

from millrace_tests.batches import Record, decode, encode
from millrace_tests.faults import free_bytes, small_disk
from millrace_tests.ledger import Ledger, check, read_ledger
from millrace_tests.wire import Wire, create_topic, delete_topic, fetch, produce

DISK_BYTES = 96 << 20
STORAGE_ERROR = 56  # KAFKA_STORAGE_ERROR. Source: Kafka protocol, error codes
KEPT = "kept"


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", DISK_BYTES) as mounted:
        yield mounted


class SteadyProducer(threading.Thread):
    """librdkafka, idempotent, without a time-out: it has to get every record through, whatever the disk does."""

    def __init__(self, bootstrap, ledger):
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self.ledger = ledger
        self.failed = []
        self.errors = []
        self.producer = Producer({
            "bootstrap.servers": bootstrap, "enable.idempotence": True, "message.timeout.ms": 0, "linger.ms": 5,
            "retry.backoff.ms": 20, "retry.backoff.max.ms": 100, "error_cb": lambda error: self.errors.append(str(error)),
        })

    def delivered(self, error, message):
        if error is not None:
            self.failed.append(str(error))
        else:
            self.ledger.acknowledged(message.value().split(b" ", 1)[0].decode(), message.partition(), message.offset())

    def run(self):
        sequence = 0
        while not self.stopping.is_set():
            self.producer.produce(KEPT, f"p:{sequence} {'x' * 100}", partition=0, on_delivery=self.delivered)
            sequence += 1
            self.producer.poll(0)
            time.sleep(0.005)
        if left := self.producer.flush(60):
            self.failed.append(f"{left} records were never answered")


def fill(wire, topic, batches, first=0):
    """Produces until not even the last of `batches` has room, offset after offset; returns the error code."""
    for batch in batches:
        for _ in range(100_000):
            error, base = produce(wire, topic, 0, batch)
            if error:
                break
            assert base == first
            first += 1
        else:
            raise AssertionError("100,000 batches fit on a small disk")
    return error


def read_all(wire, topic):
    """Every record: [(offset, value)]."""
    records, offset, end = [], 0, 1
    while offset < end:
        error, _, found = fetch(wire, [(topic, 0, offset)], max_bytes=4 << 20, partition_max_bytes=4 << 20)
        part_error, end, data = found[topic, 0]
        assert error == part_error == 0
        for batch in decode(data):
            records += [(one.offset, one.value) for one in batch.records if one.offset >= offset]
        offset = records[-1][0] + 1 if records else 0
    return records


def await_room(wire, batch, topic, seconds=20):
    """Produces until a batch is accepted, as a client that tries again would."""
    start = time.monotonic()
    while True:
        error, _ = produce(wire, topic, 0, batch)
        if error == 0:
            return
        assert error == STORAGE_ERROR
        assert time.monotonic() < start + seconds, "it did not resume though there is space"
        time.sleep(0.02)


def test_a_full_disk_stops_producers_only_and_ends_with_it(make_server, disk, tmp_path, full):
    cycles = 100 if full else 5
    server = make_server()
    server.data = disk / "data"
    server.start()
    wire = Wire(server)
    assert create_topic(wire, KEPT) == 0
    ledger = Ledger(tmp_path / "ledger")
    steady = SteadyProducer(server.bootstrap, ledger)
    steady.start()
    while not read_ledger(tmp_path / "ledger"):
        time.sleep(0.01)
    large, *_ = batches = [encode([Record(value=b"y" * size)]) for size in (900_000, 30_000, 10)]
    slowest = 0
    for cycle in range(cycles):
        filler = f"filler-{cycle}"
        assert create_topic(wire, filler) == 0, server.log_tail()
        ballast = disk / "ballast"
        by_others = cycle % 2 == 1
        if by_others:
            # Another program takes the space, and gives it back.
            for _ in range(3):
                assert produce(wire, filler, 0, large)[0] == 0
            try:
                with open(ballast, "wb", buffering=0) as file:
                    while (left := free_bytes(disk)) > 0:
                        file.write(bytes(min(left, 1 << 20)))
            except OSError as error:
                # The server may have taken the rest between the question and the writing.
                assert error.errno == errno.ENOSPC
        assert fill(wire, filler, batches, 3 if by_others else 0) == STORAGE_ERROR
        # The connection stays, other requests are served, and readers get everything that was acknowledged.
        for topic in (KEPT, filler):
            error, _, found = fetch(wire, [(topic, 0, 0)], partition_max_bytes=1)
            assert error == 0 and found[topic, 0][0] == 0
            assert decode(found[topic, 0][2])[0].base_offset == 0
        # Space comes back.
        if by_others:
            ballast.unlink()
        assert delete_topic(wire, filler) == 0
        start = time.monotonic()
        while (error := create_topic(wire, f"after-{cycle}")) != 0:
            assert error == STORAGE_ERROR and time.monotonic() < start + 20
            time.sleep(0.02)
        await_room(wire, large, f"after-{cycle}")
        slowest = max(slowest, time.monotonic() - start)
        assert delete_topic(wire, f"after-{cycle}") == 0
    steady.stopping.set()
    steady.join(90)
    assert not steady.is_alive() and steady.failed == []
    # A connection that drops is reported as an error by librdkafka.
    assert steady.errors == []
    lines = server.log_text().splitlines()
    assert len(lines) < 200 + 40 * cycles, "a full disk floods the log"
    server.stop()
    server.start()
    wire = Wire(server)
    log = {0: [(offset, value.split(b" ", 1)[0].decode()) for offset, value in read_all(wire, KEPT)]}
    verdict = check(read_ledger(tmp_path / "ledger"), log, idempotent=lambda _: True)
    assert verdict.acknowledged > 50 and verdict.clean, verdict.problems()
    print(f"{cycles} cycles, {verdict.summary()}, resumed within {slowest:.2f} s")
