"""Transactions with unmodified clients: commit, abort, zombies, time-outs, restarts, and what tools see of them.

librdkafka, kafka-python and aiokafka speak the first transaction protocol (partitions are added before they are written).
The second one (KIP-890), which Kafka's own Java client speaks, is tested request by request at the end.
"""

import asyncio
import struct
import time

import aiokafka
import confluent_kafka
import kafka
import kafka.errors
import pytest
from confluent_kafka import TopicPartition
from millrace_tests import wire
from millrace_tests.batches import Record, decode, encode
from millrace_tests.wire import Wire, compact_string, string

TIMEOUT_MS = 30_000


# Three clients behind one small interface. A producer has `send`, `flush`, `begin`, `commit`, `abort`, `offsets`, `close`.


class ConfluentProducer:
    def __init__(self, server, transactional_id, timeout_ms=TIMEOUT_MS):
        self.producer = confluent_kafka.Producer({
            "bootstrap.servers": server.bootstrap, "transactional.id": transactional_id,
            "transaction.timeout.ms": timeout_ms, "linger.ms": 0, "message.timeout.ms": min(timeout_ms, 20_000)})
        self.producer.init_transactions(20)

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, partition, value):
        self.producer.produce(topic, value, partition=partition)

    def flush(self):
        assert self.producer.flush(20) == 0

    def offsets(self, group, positions):
        # Outside a group: no member, no generation.
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.bootstrap_of(), "group.id": group})
        try:
            self.producer.send_offsets_to_transaction(
                [TopicPartition(topic, partition, offset) for (topic, partition), offset in positions.items()],
                consumer.consumer_group_metadata(), 20)
        finally:
            consumer.close()

    def bootstrap_of(self):
        brokers = self.producer.list_topics(timeout=10).brokers
        (one,) = brokers.values()
        return f"{one.host}:{one.port}"

    def commit(self):
        self.producer.commit_transaction(20)

    def abort(self):
        self.producer.abort_transaction(20)

    def close(self):
        del self.producer


class KafkaPythonProducer:
    def __init__(self, server, transactional_id, timeout_ms=TIMEOUT_MS):
        self.producer = kafka.KafkaProducer(
            bootstrap_servers=server.bootstrap, transactional_id=transactional_id, transaction_timeout_ms=timeout_ms,
            enable_idempotence=True, acks="all")
        self.producer.init_transactions()
        self.sent = []

    def begin(self):
        self.producer.begin_transaction()

    def send(self, topic, partition, value):
        self.sent.append(self.producer.send(topic, value, partition=partition))

    def flush(self):
        self.producer.flush(20)
        for one in self.sent:
            one.get(20)
        self.sent = []

    def offsets(self, group, positions):
        self.producer.send_offsets_to_transaction(
            {kafka.TopicPartition(*place): kafka.structs.OffsetAndMetadata(offset, "", -1)
             for place, offset in positions.items()}, group)

    def commit(self):
        self.producer.commit_transaction()

    def abort(self):
        self.producer.abort_transaction()

    def close(self):
        self.producer.close(timeout=5)


class AiokafkaProducer:
    def __init__(self, server, transactional_id, timeout_ms=TIMEOUT_MS):
        self.loop = asyncio.new_event_loop()

        async def start():
            self.producer = aiokafka.AIOKafkaProducer(
                bootstrap_servers=server.bootstrap, transactional_id=transactional_id,
                transaction_timeout_ms=timeout_ms)
            await self.producer.start()

        self.run(start())

    def run(self, work):
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    def begin(self):
        self.run(self.producer.begin_transaction())

    def send(self, topic, partition, value):
        self.run(self.producer.send(topic, value, partition=partition))

    def flush(self):
        self.run(self.producer.flush())

    def offsets(self, group, positions):
        self.run(self.producer.send_offsets_to_transaction(
            {aiokafka.TopicPartition(*place): offset for place, offset in positions.items()}, group))

    def commit(self):
        self.run(self.producer.commit_transaction())

    def abort(self):
        self.run(self.producer.abort_transaction())

    def close(self):
        try:
            self.run(self.producer.stop())
        except Exception as error:  # a fenced producer cannot stop cleanly
            assert "enced" in type(error).__name__ or "poch" in type(error).__name__, error
        self.loop.close()


PRODUCERS = {"confluent": ConfluentProducer, "kafka-python": KafkaPythonProducer, "aiokafka": AiokafkaProducer}


def read_confluent(server, topic, partitions, isolation, expected, patience):
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": server.bootstrap, "group.id": "reader", "isolation.level": isolation,
        "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, one, 0) for one in range(partitions)])
    found = {one: [] for one in range(partitions)}
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            if sum(map(len, found.values())) >= expected:
                break
            continue
        assert message.error() is None, message.error()
        found[message.partition()].append(message.value())
    consumer.close()
    return found


def read_kafka_python(server, topic, partitions, isolation, expected, patience):
    consumer = kafka.KafkaConsumer(
        bootstrap_servers=server.bootstrap, isolation_level=isolation, auto_offset_reset="earliest",
        enable_auto_commit=False)
    consumer.assign([kafka.TopicPartition(topic, one) for one in range(partitions)])
    found = {one: [] for one in range(partitions)}
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        got = consumer.poll(timeout_ms=300)
        if not got and sum(map(len, found.values())) >= expected:
            break
        for place, records in got.items():
            found[place.partition] += [one.value for one in records]
    consumer.close()
    return found


def read_aiokafka(server, topic, partitions, isolation, expected, patience):
    async def work():
        consumer = aiokafka.AIOKafkaConsumer(
            bootstrap_servers=server.bootstrap, isolation_level=isolation, auto_offset_reset="earliest",
            enable_auto_commit=False)
        await consumer.start()
        consumer.assign([aiokafka.TopicPartition(topic, one) for one in range(partitions)])
        found = {one: [] for one in range(partitions)}
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            got = await consumer.getmany(timeout_ms=300)
            if not got and sum(map(len, found.values())) >= expected:
                break
            for place, records in got.items():
                found[place.partition] += [one.value for one in records]
        await consumer.stop()
        return found

    return asyncio.run(work())


READERS = {"confluent": read_confluent, "kafka-python": read_kafka_python, "aiokafka": read_aiokafka}


def read(server, topic, partitions=1, isolation="read_committed", expected=0, patience=10, reader="confluent"):
    """The values of each partition, in order, once `expected` have come and no more follow for a moment."""
    return READERS[reader](server, topic, partitions, isolation, expected, patience)


@pytest.fixture(params=PRODUCERS)
def make_producer(request):
    made = []

    def make(server, transactional_id, **options):
        made.append(PRODUCERS[request.param](server, transactional_id, **options))
        return made[-1]

    make.name = request.param
    yield make
    for one in made:
        one.close()


def write(producer, topic, values, partitions=1):
    for number, value in enumerate(values):
        producer.send(topic, number % partitions, value)
    producer.flush()


def values(name, count):
    return [b"%s %d" % (name.encode(), number) for number in range(count)]


@pytest.mark.parametrize("consumer", READERS)
def test_committed_records_are_seen_and_aborted_ones_are_not(server, make_producer, create_topic, topic, consumer):
    create_topic(topic, 3)
    producer = make_producer(server, topic)
    for name, commit in (("first", True), ("void", False), ("second", True), ("void again", False)):
        producer.begin()
        write(producer, topic, values(name, 6), 3)
        producer.commit() if commit else producer.abort()
    found = read(server, topic, 3, expected=12, reader=consumer)
    assert sorted(sum(found.values(), [])) == sorted(values("first", 6) + values("second", 6))
    for partition in range(3):
        assert [one.split()[0] for one in found[partition]] == [b"first"] * 2 + [b"second"] * 2
    found = read(server, topic, 3, isolation="read_uncommitted", expected=24, reader=consumer)
    assert sum(map(len, found.values())) == 24


@pytest.mark.parametrize("consumer", READERS)
def test_an_open_transaction_holds_committed_readers_back(server, make_producer, create_topic, topic, consumer):
    create_topic(topic)
    producer = make_producer(server, topic)
    producer.begin()
    write(producer, topic, [b"open"])
    with Wire(server) as connection:
        assert wire.produce(connection, topic, 0, encode([Record(None, b"plain")])) == (0, 1)
        assert latest(connection, topic, isolation=1) == 0 and latest(connection, topic, isolation=0) == 2
        assert read(server, topic, expected=0, patience=1, reader=consumer)[0] == []
        found = read(server, topic, isolation="read_uncommitted", expected=2, reader=consumer)
        assert found[0] == [b"open", b"plain"]
        producer.commit()
        assert latest(connection, topic, isolation=1) == 3
    assert read(server, topic, expected=2, reader=consumer)[0] == [b"open", b"plain"]


def latest(connection, topic, isolation):
    body = struct.pack(">ibi", -1, isolation, 1) + string(topic) + struct.pack(">iiq", 1, 0, -1)
    fields = connection.call("ListOffsets", 2, body)
    fields.int32(), fields.int32(), fields.string(), fields.int32(), fields.int32()
    assert fields.int16() == 0
    fields.int64()
    return fields.int64()


def test_a_waiting_committed_reader_is_woken_by_the_commit(server, make_producer, create_topic, topic):
    create_topic(topic)
    producer = make_producer(server, topic)
    producer.begin()
    write(producer, topic, [b"one"])
    with Wire(server) as connection:
        body = bytearray(wire.fetch_body([(topic, 0, 0)], max_wait_ms=9000))
        body[16] = 1  # the isolation level
        connection.send("Fetch", 11, bytes(body))
        assert connection.is_silent(0.3)
        began = time.monotonic()
        producer.commit()
        _, _, found = wire.read_fetch(connection.receive()[1])
        assert time.monotonic() - began < 3
        data, marker = decode(found[topic, 0][2])
        assert data.attributes == 0x10 and data.records[0].value == b"one"
        assert marker.attributes == 0x30 and marker.records[0].key == b"\0\0\0\1" and marker.base_offset == 1


def test_an_empty_transaction_ends(server, make_producer, create_topic, topic):
    create_topic(topic)
    producer = make_producer(server, topic)
    for commit in (True, False, True):
        producer.begin()
        producer.commit() if commit else producer.abort()
    producer.begin()
    write(producer, topic, [b"after"])
    producer.commit()
    assert read(server, topic, expected=1)[0] == [b"after"]


def test_offsets_are_committed_with_the_records_or_not_at_all(server, make_producer, create_topic, topic):
    source, sink, group = f"{topic}.in", f"{topic}.out", f"{topic}.group"
    create_topic(source)
    create_topic(sink)
    producer = make_producer(server, topic)
    producer.begin()
    write(producer, sink, [b"void"])
    producer.offsets(group, {(source, 0): 5})
    with Wire(server) as connection:
        # Nobody sees the offset yet, and whoever wants a stable one has to wait.
        assert committed(connection, group, source, stable=False) == (0, -1)
        assert committed(connection, group, source, stable=True)[0] == 88  # UNSTABLE_OFFSET_COMMIT
        producer.abort()
        assert committed(connection, group, source, stable=True) == (0, -1)
        producer.begin()
        write(producer, sink, [b"valid"])
        producer.offsets(group, {(source, 0): 7})
        producer.commit()
        assert committed(connection, group, source, stable=True) == (0, 7)
    assert read(server, sink, expected=1)[0] == [b"valid"]


def committed(connection, group, topic, stable):
    """Error and offset of an OffsetFetch of version 7."""
    body = compact_string(group) + b"\x02" + compact_string(topic) + b"\x02" + struct.pack(">i", 0) + b"\0"
    fields = connection.call("OffsetFetch", 7, body + (b"\1" if stable else b"\0") + b"\0", flexible=True)
    fields.int32()
    assert fields.uvarint() == 2 and fields.compact_string() == topic and fields.uvarint() == 2
    fields.int32()
    offset = fields.int64()
    fields.int32(), fields.compact_string()
    return fields.int16(), offset


def test_consume_transform_produce_is_exact_although_every_third_step_fails(server, create_topic, topic):
    # With librdkafka, as a group member: the transaction carries the member's generation.
    source, sink = f"{topic}.in", f"{topic}.out"
    create_topic(source)
    create_topic(sink)
    feeder = confluent_kafka.Producer({"bootstrap.servers": server.bootstrap})
    for number in range(60):
        feeder.produce(source, b"%d" % number)
    assert feeder.flush(20) == 0
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": server.bootstrap, "group.id": topic, "enable.auto.commit": False,
        "auto.offset.reset": "earliest", "isolation.level": "read_committed"})
    consumer.subscribe([source])
    producer = ConfluentProducer(server, topic).producer
    done = step = 0
    while done < 60:
        batch = consumer.consume(7, timeout=1) or consumer.consume(1, timeout=10)
        assert batch, "nothing came"
        step += 1
        producer.begin_transaction()
        for message in batch:
            assert message.error() is None
            producer.produce(sink, b"%d" % (int(message.value()) * 2))
        positions = consumer.position(consumer.assignment())
        producer.send_offsets_to_transaction(positions, consumer.consumer_group_metadata(), 20)
        if step % 3 == 0:
            producer.abort_transaction(20)
            for place in consumer.committed(consumer.assignment(), 10):
                consumer.seek(TopicPartition(place.topic, place.partition, max(0, place.offset)))
        else:
            producer.commit_transaction(20)
            done += len(batch)
    consumer.close()
    assert read(server, sink, expected=60)[0] == [b"%d" % (2 * number) for number in range(60)]
    with Wire(server) as connection:
        assert committed(connection, topic, source, stable=True) == (0, 60)


def test_offsets_of_an_old_generation_are_refused(server, create_topic, topic):
    create_topic(topic)
    consumer = confluent_kafka.Consumer({
        "bootstrap.servers": server.bootstrap, "group.id": topic, "enable.auto.commit": False})
    consumer.subscribe([topic])
    deadline = time.monotonic() + 20
    while not consumer.assignment() and time.monotonic() < deadline:
        consumer.poll(0.2)
    stale = consumer.consumer_group_metadata()
    consumer.close()
    producer = ConfluentProducer(server, topic).producer
    producer.begin_transaction()
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        producer.send_offsets_to_transaction([TopicPartition(topic, 0, 1)], stale, 10)
    assert refused.value.args[0].txn_requires_abort(), refused.value
    producer.abort_transaction(20)


FENCED = ("enced", "poch", "FENCED", "EPOCH")


def test_a_zombie_is_fenced_and_its_transaction_is_aborted(server, make_producer, create_topic, topic):
    create_topic(topic)
    zombie = make_producer(server, topic)
    zombie.begin()
    write(zombie, topic, [b"zombie"])
    heir = make_producer(server, topic)
    with pytest.raises(Exception) as refused:
        zombie.send(topic, 0, b"too late")
        zombie.flush()
        zombie.commit()
    assert any(word in f"{type(refused.value).__name__} {refused.value}" for word in FENCED), refused.value
    heir.begin()
    write(heir, topic, [b"heir"])
    heir.commit()
    assert read(server, topic, expected=1)[0] == [b"heir"]


def test_a_transaction_that_takes_too_long_is_aborted(server, make_producer, create_topic, topic):
    create_topic(topic)
    producer = make_producer(server, topic, timeout_ms=1500)
    producer.begin()
    write(producer, topic, [b"slow"])
    with Wire(server) as connection:
        assert latest(connection, topic, isolation=1) == 0
        deadline = time.monotonic() + 10
        while latest(connection, topic, isolation=1) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert latest(connection, topic, isolation=1) == 2, "the record and the marker"
    with pytest.raises(Exception) as refused:
        producer.commit()
    assert any(word in f"{type(refused.value).__name__} {refused.value}" for word in FENCED), refused.value
    heir = make_producer(server, topic)
    heir.begin()
    write(heir, topic, [b"again"])
    heir.commit()
    assert read(server, topic, expected=1)[0] == [b"again"]


def test_a_time_out_beyond_the_limit_is_refused(server):
    with pytest.raises(confluent_kafka.KafkaException) as refused:
        ConfluentProducer(server, "greedy", timeout_ms=900_001)
    assert refused.value.args[0].code() == confluent_kafka.KafkaError.INVALID_TRANSACTION_TIMEOUT


@pytest.mark.parametrize("way", ["kill -9", "restart"])
def test_an_open_transaction_outlives_the_server(own_server, make_producer, create_topic, topic, way):
    create_topic(topic, 2, on=own_server)
    producer = make_producer(own_server, topic)
    producer.begin()
    write(producer, topic, values("kept", 6), 2)
    own_server.kill() if way == "kill -9" else own_server.stop()
    own_server.start()
    with Wire(own_server) as connection:
        assert latest(connection, topic, isolation=1) == 0
    producer.send(topic, 0, b"kept 6")
    producer.flush()
    producer.commit()
    own_server.kill() if way == "kill -9" else own_server.stop()
    own_server.start()
    found = read(own_server, topic, 2, expected=7)
    assert sorted(sum(found.values(), [])) == values("kept", 7)
    producer.begin()
    write(producer, topic, [b"void"])
    own_server.kill()
    own_server.start()
    heir = make_producer(own_server, topic)
    heir.begin()
    write(heir, topic, [b"heir"])
    heir.commit()
    found = read(own_server, topic, 2, expected=8)
    assert sorted(sum(found.values(), [])) == sorted(values("kept", 7) + [b"heir"])


def test_a_transaction_that_is_left_behind_by_a_killed_server_times_out(own_server, create_topic, topic):
    create_topic(topic, on=own_server)
    producer = ConfluentProducer(own_server, topic, timeout_ms=2000)
    producer.begin()
    write(producer, topic, [b"left"])
    own_server.kill()
    own_server.start()
    with Wire(own_server) as connection:
        deadline = time.monotonic() + 10
        while latest(connection, topic, isolation=1) == 0 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert latest(connection, topic, isolation=1) == 2
    assert read(own_server, topic, expected=0, patience=1)[0] == []


def test_the_command_line_leaves_out_what_is_not_committed(server, create_topic, topic):
    from millrace_tests.server import run

    create_topic(topic)
    producer = ConfluentProducer(server, topic)
    for value, commit in ((b"void", False), (b"valid", True)):
        producer.begin()
        write(producer, topic, [value])
        producer.commit() if commit else producer.abort()
    producer.begin()
    write(producer, topic, [b"open"])
    arguments = ["consume", topic, "--bootstrap", server.bootstrap, "--from", "earliest", "--timeout", "1"]
    assert run(*arguments).stdout == "valid\n"
    assert run(*arguments, "--isolation", "read_uncommitted").stdout == "void\nvalid\nopen\n"
    producer.abort()


# Tools, with kafka-python's administration client


def test_tools_see_transactions_and_can_abort_one(server, create_topic, topic):
    create_topic(topic, 2)
    producer = ConfluentProducer(server, topic)
    admin = kafka.KafkaAdminClient(bootstrap_servers=server.bootstrap)
    try:
        (found,) = admin.describe_transactions([topic]).values()
        assert "Empty" in repr(found)
        producer.begin()
        write(producer, topic, [b"a", b"b"], 2)
        (found,) = admin.describe_transactions([topic]).values()
        assert "Ongoing" in repr(found) and topic in repr(found)
        assert topic in repr(admin.list_transactions())
        place = kafka.TopicPartition(topic, 0)
        (state,) = admin.describe_producers([place]).values()
        assert "current_txn_start_offset" in repr(state) or "current_transaction_start_offset" in repr(state)
    finally:
        admin.close()
    with Wire(server) as connection:
        producer_id, epoch, start = one_producer(connection, topic)
        assert start == 0
        # The tool's way, through one partition: all of the transaction is aborted.
        assert write_markers(connection, producer_id, epoch + 1, topic) == 47  # INVALID_PRODUCER_EPOCH
        assert write_markers(connection, producer_id, epoch, topic) == 0
        assert one_producer(connection, topic)[2] == -1
        assert write_markers(connection, producer_id, epoch, topic) == 48  # INVALID_TXN_STATE
    assert sum(map(len, read(server, topic, 2, expected=0, patience=1).values())) == 0
    with pytest.raises(confluent_kafka.KafkaException):
        producer.commit()


def one_producer(connection, topic):
    """Id, epoch and transaction start of the only producer in partition 0, by DescribeProducers."""
    body = b"\x02" + compact_string(topic) + b"\x02" + struct.pack(">i", 0) + b"\0\0"
    fields = connection.call(61, 0, body, flexible=True)
    fields.int32()
    assert fields.uvarint() == 2 and fields.compact_string() == topic and fields.uvarint() == 2
    fields.int32()
    assert fields.int16() == 0
    fields.compact_string()
    assert fields.uvarint() == 2
    producer, epoch = fields.int64(), fields.int32()
    fields.int32(), fields.int64(), fields.int32()
    return producer, epoch, fields.int64()


def write_markers(connection, producer, epoch, topic):
    """The error of an abort by WriteTxnMarkers in partition 0."""
    body = b"\x02" + struct.pack(">qhb", producer, epoch, 0) + b"\x02" + compact_string(topic) + b"\x02"
    body += struct.pack(">i", 0) + b"\0" + struct.pack(">i", 0) + b"\0\0"
    fields = connection.call(27, 1, body, flexible=True)
    assert fields.uvarint() == 2 and fields.int64() == producer and fields.uvarint() == 2
    assert fields.compact_string() == topic and fields.uvarint() == 2 and fields.int32() == 0
    return fields.int16()


# The second transaction protocol, request by request


class SecondProtocol:
    """A producer of KIP-890: writing adds the partition, every end gives a new epoch."""

    def __init__(self, connection, transactional_id):
        self.connection = connection
        self.id = transactional_id
        body = compact_string(self.id) + struct.pack(">iqh", TIMEOUT_MS, -1, -1) + b"\0"
        fields = connection.call("InitProducerId", 4, body, flexible=True)
        fields.int32()
        assert fields.int16() == 0
        self.producer, self.epoch = fields.int64(), fields.int16()
        self.sequence = 0

    def produce(self, topic, value, epoch=None):
        batch = encode([Record(None, value)], attributes=0x10,
                       producer=(self.producer, self.epoch if epoch is None else epoch, self.sequence))
        body = compact_string(self.id) + struct.pack(">hi", -1, 10_000) + b"\x02" + compact_string(topic) + b"\x02"
        body += struct.pack(">i", 0) + wire.uvarint(len(batch) + 1) + batch + b"\0\0\0"
        fields = self.connection.call("Produce", 12, body, flexible=True)
        assert fields.uvarint() == 2 and fields.compact_string() == topic and fields.uvarint() == 2
        fields.int32()
        error = fields.int16()
        if error == 0:
            self.sequence += 1
        return error

    def offset(self, group, topic, offset):
        body = compact_string(self.id) + compact_string(group) + struct.pack(">qhi", self.producer, self.epoch, -1)
        body += compact_string("") + compact_string(None) + b"\x02" + compact_string(topic) + b"\x02"
        body += struct.pack(">iqi", 0, offset, -1) + compact_string("") + b"\0\0\0"
        fields = self.connection.call(28, 5, body, flexible=True)
        fields.int32()
        assert fields.uvarint() == 2 and fields.compact_string() == topic and fields.uvarint() == 2
        fields.int32()
        return fields.int16()

    def end(self, commit, epoch=None):
        body = compact_string(self.id) + struct.pack(
            ">qhb", self.producer, self.epoch if epoch is None else epoch, commit) + b"\0"
        fields = self.connection.call(26, 5, body, flexible=True)
        fields.int32()
        error, producer, next_epoch = fields.int16(), fields.int64(), fields.int16()
        if error == 0:
            self.producer, self.epoch, self.sequence = producer, next_epoch, 0
        return error


def test_the_second_protocol_adds_partitions_by_writing_and_bumps_the_epoch(server, create_topic, topic):
    create_topic(topic)
    with Wire(server) as connection:
        one = SecondProtocol(connection, topic)
        assert one.produce(topic, b"first") == 0
        assert one.offset(topic, topic, 3) == 0
        assert committed(connection, topic, topic, stable=True)[0] == 88
        assert one.end(commit=True) == 0 and one.epoch == 1
        assert committed(connection, topic, topic, stable=True) == (0, 3)
        # A repeat of the end whose answer was lost gives the same epoch; what is late of the old one is refused.
        assert one.end(commit=True, epoch=0) == 0 and one.epoch == 1
        assert one.produce(topic, b"late", epoch=0) == 47  # INVALID_PRODUCER_EPOCH
        assert one.end(commit=False, epoch=0) == 90  # PRODUCER_FENCED
        assert one.produce(topic, b"void") == 0
        assert one.end(commit=False) == 0 and one.epoch == 2
        assert one.end(commit=True) == 48  # INVALID_TXN_STATE: there is nothing to commit
        assert one.end(commit=False) == 0 and one.epoch == 3
        assert one.produce(topic, b"second") == 0 and one.end(commit=True) == 0
    assert read(server, topic, expected=2)[0] == [b"first", b"second"]


def test_the_feature_of_the_second_protocol_is_finalized(server):
    with Wire(server) as connection:
        fields = connection.call("ApiVersions", 3, compact_string("c") + compact_string("1") + b"\0", flexible=True,
                                 flexible_response=False)
        assert fields.int16() == 0
        for _ in range(fields.uvarint() - 1):
            fields.take(6), fields.tags()
        fields.int32()
        tags = fields.tags()
        name = compact_string("transaction.version")
        assert name + struct.pack(">hh", 0, 2) in tags[0] and name + struct.pack(">hh", 2, 2) in tags[2]


def test_the_first_protocol_refuses_what_was_not_added(server, create_topic, topic):
    create_topic(topic)
    with Wire(server) as connection:
        one = SecondProtocol(connection, topic)
        batch = encode([Record(None, b"stray")], attributes=0x10, producer=(one.producer, 0, 0))
        body = wire.produce_body(topic, 0, batch)
        body = string(topic) + body[2:]  # the transactional id, which version 3 already has
        fields = connection.call("Produce", 7, body)
        assert fields.int32() == 1 and fields.string() == topic and fields.int32() == 1
        fields.int32()
        assert fields.int16() == 48  # INVALID_TXN_STATE
        assert wire.produce(connection, topic, 0, batch)[0] == 48, "a transactional batch without a transactional id"


def test_calls_of_unknown_producers_are_refused(server, create_topic, topic):
    create_topic(topic)
    with Wire(server) as connection:
        one = SecondProtocol(connection, topic)
        one.id = "never.came.here"
        assert one.end(commit=True) == 49  # INVALID_PRODUCER_ID_MAPPING
        assert one.produce(topic, b"x") == 49
        one.id, one.producer = topic, one.producer + 1000
        assert one.end(commit=True) == 49
        body = b"\x02" + compact_string("never.came.here") + b"\0"
        fields = connection.call(65, 0, body, flexible=True)
        fields.int32()
        assert fields.uvarint() == 2 and fields.int16() == 105  # TRANSACTIONAL_ID_NOT_FOUND
