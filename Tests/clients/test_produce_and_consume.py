"""Every client writes, every client reads: codecs, acknowledgements, headers, keys, nulls, sizes."""

import pytest
from confluent_kafka import KafkaException, Producer
from drivers import CLIENTS
from kafka import KafkaProducer
from kafka.errors import MessageSizeTooLargeError
from millrace_tests import wire
from millrace_tests.batches import CODECS, Record, decode, encode

RECORDS = [
    Record(b"key", b"value", []),
    Record(None, b"no key", []),
    Record(b"tombstone", None, []),
    Record(b"umlaut", "Mühlgraben".encode(), []),
    Record(b"headers", b"two", [("trace", b"abc"), ("trace", b"def")]),
    Record(b"long", b"all work and no play " * 500, [("h", b"1")]),
]
BEYOND_TEXT = [
    Record(b"", b"empty key", []),
    Record(b"empty value", b"", []),
    Record(b"\x00\xff", bytes(range(256)), [("binary", b"\x00\x80\xff")]),
]
NULL_HEADER = [Record(b"null header", b"value", [("nothing", None), ("something", b"1")])]


def contents(records):
    return [(one.key, one.value, one.headers) for one in records]


@pytest.mark.parametrize("codec", CODECS)
def test_each_client_reads_what_any_wrote_in_any_codec(server, create_topic, topic, writer, codec):
    create_topic(topic)
    sent = RECORDS + (NULL_HEADER if writer.null_headers else []) + ([] if writer.text_only else BEYOND_TEXT)
    offsets = writer.produce(server.bootstrap, topic, sent, codec=codec)
    if not writer.text_only:
        assert offsets == list(range(len(sent)))
    for reader in CLIENTS:
        expected = RECORDS if reader.text_only else sent
        got = reader.read(server.bootstrap, topic, count=len(expected))
        assert contents(got) == contents(expected), f"{reader} reads what {writer} wrote with {codec}"
        assert [one.offset for one in got] == list(range(len(expected)))


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_stays_in_the_codec_it_was_sent_in(server, create_topic, topic, codec):
    create_topic(topic)
    CLIENTS[1].produce(server.bootstrap, topic, [Record(b"k", b"squeeze me " * 400)] * 5, codec=codec)
    with wire.Wire(server) as connection:
        _, _, found = wire.fetch(connection, [(topic, 0, 0)], max_wait_ms=500)
    batches = decode(found[topic, 0][2])
    assert {batch.attributes & 7 for batch in batches} == {CODECS[codec]}


@pytest.mark.parametrize("acks", [0, 1, "all"])
def test_every_kind_of_acknowledgement(server, create_topic, topic, client, acks):
    create_topic(topic)
    client.produce(server.bootstrap, topic, RECORDS, acks=acks)
    assert contents(CLIENTS[1].read(server.bootstrap, topic, count=len(RECORDS))) == contents(RECORDS)


def test_idempotent_producers_number_their_batches(server, create_topic, topic, client):
    create_topic(topic)
    sent = [Record(b"k", b"%d" % number) for number in range(500)]
    client.produce(server.bootstrap, topic, sent, idempotent=True)
    assert contents(CLIENTS[1].read(server.bootstrap, topic, count=500)) == contents(sent)
    with wire.Wire(server) as connection:
        _, _, found = wire.fetch(connection, [(topic, 0, 0)], max_wait_ms=500)
    batches = decode(found[topic, 0][2])
    assert batches and all(batch.producer_id >= 0 and batch.base_sequence >= 0 for batch in batches)


def test_a_sent_batch_that_is_sent_again_is_stored_once(server, create_topic, topic):
    create_topic(topic)
    with wire.Wire(server) as connection:
        fields = connection.call("InitProducerId", 0, wire.string(None) + b"\0\0\xea\x60")
        fields.int32()
        assert fields.int16() == 0
        producer, epoch = fields.int64(), fields.int16()

        def send(sequence):
            batch = encode([Record(b"k", b"%d" % sequence)], producer=(producer, epoch, sequence))
            return wire.produce(connection, topic, 0, batch)

        assert [send(sequence) for sequence in range(6)] == [(0, offset) for offset in range(6)]
        # The last five are remembered with their offsets; a repeated one is answered with its old offset.
        assert send(5) == (0, 5) and send(1) == (0, 1)
        # A hole in the numbers is refused: OUT_OF_ORDER_SEQUENCE_NUMBER.
        assert send(7)[0] == 45
        assert send(6) == (0, 6)
        # A producer with an older epoch is fenced off: INVALID_PRODUCER_EPOCH.
        newer = encode([Record(b"k", b"newer")], producer=(producer, epoch + 1, 0))
        assert wire.produce(connection, topic, 0, newer) == (0, 7)
        assert send(8)[0] == 47


def test_ten_thousand_records_keep_their_order(server, create_topic, topic, client):
    create_topic(topic)
    sent = [Record(b"key", b"number %d" % number) for number in range(10_000)]
    client.produce(server.bootstrap, topic, sent, codec="lz4", idempotent=True)
    got = client.read(server.bootstrap, topic, count=10_000)
    assert [one.value for one in got] == [one.value for one in sent]


def test_a_record_just_below_the_limit_passes(server, create_topic, topic, client):
    create_topic(topic)
    # A batch may have 1 MiB + 12 bytes; the clients' own limit (1 MiB, 1,000,000 in librdkafka) counts their overhead.
    value = b"m" * 990_000
    client.produce(server.bootstrap, topic, [Record(b"large", value)])
    for reader in CLIENTS:
        (got,) = reader.read(server.bootstrap, topic)
        assert got.value == value


def test_a_batch_over_the_limit_is_refused_and_the_connection_lives(server, create_topic, topic):
    create_topic(topic)
    with wire.Wire(server) as connection:
        error, _ = wire.produce(connection, topic, 0, encode([Record(None, b"m" * (1 << 20))]))
        assert error == 10  # MESSAGE_TOO_LARGE
        assert wire.produce(connection, topic, 0, encode([Record(None, b"m")])) == (0, 0)


def test_librdkafka_learns_that_a_record_is_too_large(server, create_topic, topic):
    create_topic(topic)
    reports = []
    producer = Producer({"bootstrap.servers": server.bootstrap, "message.max.bytes": 4_000_000})
    producer.produce(topic, b"m" * 2_000_000, on_delivery=lambda error, _: reports.append(error))
    producer.flush(30)
    assert [error.name() for error in reports] == ["MSG_SIZE_TOO_LARGE"]


def test_kafka_python_learns_that_a_record_is_too_large(server, create_topic, topic):
    create_topic(topic)
    producer = KafkaProducer(bootstrap_servers=server.bootstrap, max_request_size=4_000_000, retries=1)
    try:
        with pytest.raises(MessageSizeTooLargeError):
            producer.send(topic, b"m" * 2_000_000).get(timeout=30)
    finally:
        producer.close()


def test_a_topic_may_allow_larger_batches(server, create_topic, topic):
    create_topic(topic, configs=[("max.message.bytes", "3000000")])
    producer = Producer({"bootstrap.servers": server.bootstrap, "message.max.bytes": 4_000_000})
    failed = []
    producer.produce(topic, b"m" * 2_000_000, on_delivery=lambda error, _: error and failed.append(error))
    producer.flush(30)
    if failed:
        raise KafkaException(failed[0])
    (got,) = CLIENTS[1].read(server.bootstrap, topic)
    assert len(got.value) == 2_000_000


def test_seek_by_time(server, create_topic, topic, client):
    create_topic(topic)
    base = 1_750_000_000_000
    for number in range(5):
        CLIENTS[1].produce(server.bootstrap, topic,
                           [Record(b"k", b"%d.%d" % (number, one), timestamp=base + number * 1000 + one)
                            for one in range(3)])
    ask = lambda time: client.offset_for_time(server.bootstrap, topic, 0, time)  # noqa: E731
    assert ask(base) == 0
    assert ask(base - 86_400_000) == 0
    assert ask(base + 2000) == 6
    assert ask(base + 2001) == 7
    assert ask(base + 2003) == 9
    # Past the last record there is none; librdkafka 2.16 and kcat report the end instead.
    assert ask(base + 10_000_000) in (None, -1, 15)
