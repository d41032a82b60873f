"""Wrong frames, sent raw: each ends the connection with the protocol's code, and never more than the connection."""

import contextlib
import random
import re
import struct

import pytest
from millrace_tests import amqp_codec as codec
from millrace_tests.amqp import Closed, ConnectionClosed, channel_error, connection_error
from millrace_tests.differences import differs

ANY = re.compile(".*", re.S)


@pytest.fixture
def healthy(connect, name):
    """Another connection, which must go on whatever is sent on the first."""
    channel = connect().channel()
    queue = channel.queue(name("healthy"), exclusive=True)
    yield channel
    channel.fill(queue, ["still"])
    assert channel.drain(queue) == ["still"]


@contextlib.contextmanager
def ends_connection(amqp_server, *codes):
    """Bytes that cannot be understood crash RabbitMQ's parser: it ends the connection, mostly without a word."""
    with pytest.raises(ConnectionClosed if amqp_server.is_millrace else (ConnectionClosed, Closed)) as caught:
        yield
    assert getattr(caught.value, "code", codes[0]) in codes + (() if amqp_server.is_millrace else (541, 501))


CRASHES = differs("methods and tables that cannot be read, unknown methods", "the connection ends, mostly without a word",
                  "as 3.10", "connection.close: 501 or 502 (cannot be read), 503 or 540 (unknown method)")


def header(size, class_id=60, weight=0, flags=0, rest=b""):
    return struct.pack(">HHQH", class_id, weight, size, flags) + rest


def test_a_wrong_frame_end_is_a_frame_error(connection, healthy):
    connection.send_frame(codec.METHOD, 1, codec.method_payload("channel.open"), end=0)
    with connection_error(501, ANY):
        connection.expect_close()


def test_an_unknown_frame_type_ends_the_connection(connection, healthy):
    connection.send_frame(4, 0, b"x")
    with connection_error(501, ANY):
        connection.expect_close()


def test_a_frame_beyond_the_negotiated_size_is_a_frame_error(connect, healthy):
    connection = connect(frame_max=8192)
    channel = connection.channel()
    channel.send("basic.publish", routing_key="x")
    channel.connection.send_frame(codec.HEADER, channel.number, header(20_000))
    channel.connection.send_frame(codec.BODY, channel.number, bytes(8193))
    with connection_error(501, ANY):
        channel.fence()


def test_a_frame_that_announces_two_gigabytes_is_refused_before_they_come(connection, healthy):
    connection.send_raw(struct.pack(">BHI", codec.BODY, 1, 0x7FFFFFFF))
    with connection_error(501, ANY):
        connection.expect_close()


@CRASHES
@pytest.mark.parametrize("ids", [(99, 1), (60, 99), (85, 20), (10, 99)], ids=str)
def test_an_unknown_method_ends_the_connection(connection, amqp_server, healthy, ids):
    connection.channel(1)
    connection.send_frame(codec.METHOD, 1, struct.pack(">HH", *ids))
    with ends_connection(amqp_server, 540, 503):
        connection.expect_close()


@pytest.mark.parametrize("payload", [
    b"", b"\0", b"\0\x3c", struct.pack(">HH", 50, 10), struct.pack(">HH", 50, 10) + b"\0\0\x05ab",
    codec.method_payload("queue.declare", queue="q")[:-5],
    struct.pack(">HH", 50, 10) + b"\0\0" + codec.shortstr("q") + b"\0" + struct.pack(">I", 0xFFFFFFF0) + b"abc",
], ids=["empty", "one byte", "class only", "no arguments", "short string cut", "table cut", "table longer than the frame"])
def test_a_method_that_ends_early_ends_the_connection(connection, amqp_server, healthy, payload):
    connection.channel(1)
    connection.send_frame(codec.METHOD, 1, payload)
    with ends_connection(amqp_server, 501, 502):
        connection.expect_close()


@pytest.mark.parametrize("fields", [
    b"\x01a?", b"\x01aS\xff\xff\xff\xff", b"\x01aF\0\0\0\x10", b"\xffabc", b"\x01aI\0\0", b"\x01aA\0\0\0\x05S\0\0\0\x02",
], ids=["unknown type", "string beyond", "table beyond", "key beyond", "number cut", "array cut"])
def test_a_broken_table_ends_the_connection(connection, amqp_server, healthy, fields):
    connection.channel(1)
    payload = struct.pack(">HH", 50, 10) + b"\0\0" + codec.shortstr("q") + b"\x04" + codec.longstr(fields)
    connection.send_frame(codec.METHOD, 1, payload)
    with ends_connection(amqp_server, 501, 502):
        connection.expect_close()


def test_a_method_that_only_servers_send_ends_the_connection(connection, amqp_server, healthy):
    connection.channel(1)
    connection.send_frame(codec.METHOD, 1, codec.method_payload("queue.declare_ok", queue="q", message_count=0, consumer_count=0))
    with ends_connection(amqp_server, 540, 503):
        connection.expect_close()


def test_a_connection_method_that_only_servers_send_ends_the_connection(connection, healthy):
    connection.send_frame(codec.METHOD, 0, codec.method_payload("connection.open_ok", known_hosts=""))
    with connection_error(504, "CHANNEL_ERROR - unexpected method in connection state running", "connection.open_ok"):
        connection.expect_close()


def test_a_channel_method_on_channel_0_ends_the_connection(connection, healthy):
    connection.send_frame(codec.METHOD, 0, codec.method_payload("queue.declare", queue="q"))
    with connection_error(504, "CHANNEL_ERROR - unexpected method in connection state running", "queue.declare"):
        connection.expect_close()


@pytest.mark.parametrize("kind, payload, text", [
    (codec.HEADER, header(1), "UNEXPECTED_FRAME - expected method frame, got non method frame instead"),
    (codec.BODY, b"x", "UNEXPECTED_FRAME - expected method frame, got non method frame instead"),
])
def test_content_without_a_method_is_an_unexpected_frame(connection, healthy, kind, payload, text):
    connection.channel(1)
    connection.send_frame(kind, 1, payload)
    with connection_error(505, text):
        connection.expect_close()


def test_a_method_where_a_header_was_due_is_an_unexpected_frame(connection, healthy):
    channel = connection.channel(1)
    channel.send("basic.publish", routing_key="x")
    channel.send("basic.publish", routing_key="x")
    with connection_error(505, "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead",
                          "basic.publish"):
        connection.expect_close()


def test_a_header_of_another_class_is_an_unexpected_frame(connection, healthy):
    channel = connection.channel(1)
    channel.send("basic.publish", routing_key="x")
    connection.send_frame(codec.HEADER, 1, header(1, class_id=50))
    with connection_error(505, "UNEXPECTED_FRAME - expected content header for class 60, got one for class 50 instead",
                          "basic.publish"):
        connection.expect_close()


def test_a_method_inside_a_body_is_an_unexpected_frame(connection, healthy):
    channel = connection.channel(1)
    channel.send("basic.publish", routing_key="x")
    connection.send_frame(codec.HEADER, 1, header(10))
    connection.send_frame(codec.BODY, 1, b"12345")
    channel.send("channel.flow", active=True)
    with connection_error(505, "UNEXPECTED_FRAME - expected content body, got non content body frame instead", "basic.publish"):
        connection.expect_close()


def test_a_body_longer_than_announced_ends_the_connection(connection, amqp_server, healthy):
    channel = connection.channel(1)
    channel.send("basic.publish", routing_key="x")
    connection.send_frame(codec.HEADER, 1, header(3))
    connection.send_frame(codec.BODY, 1, b"12345")
    with ends_connection(amqp_server, 501, 502, 505):
        channel.fence()


def test_a_body_in_many_small_frames_and_empty_ones_arrives_whole(channel, name):
    queue = channel.queue(name(), exclusive=True)
    channel.confirms()
    channel.send("basic.publish", routing_key=queue)
    channel.connection.send_frame(codec.HEADER, channel.number, header(6))
    for part in (b"a", b"", b"bcd", b"", b"ef"):
        channel.connection.send_frame(codec.BODY, channel.number, part)
    channel.published = 1
    assert channel.settle(1) == ["ack"]
    assert channel.get(queue).body == b"abcdef"


def test_frames_of_two_channels_may_alternate(connection, name):
    one, two = connection.channel(), connection.channel()
    queue = one.queue(name(), exclusive=True)
    for channel in (one, two):
        channel.confirms()
        channel.send("basic.publish", routing_key=queue)
    for channel in (two, one):
        connection.send_frame(codec.HEADER, channel.number, header(4))
    for part in (b"AB", b"CD"):
        for channel in (one, two):
            connection.send_frame(codec.BODY, channel.number, part)
    for channel in (one, two):
        channel.published = 1
        assert channel.settle(1) == ["ack"]
    assert one.drain(queue) == ["ABCD", "ABCD"]


def test_every_byte_may_come_alone(connect, name):
    connection = connect()
    channel = connection.channel(1)
    queue = channel.queue(name(), exclusive=True)
    data = (codec.frame(codec.METHOD, 1, codec.method_payload("basic.publish", routing_key=queue)) +
            codec.frame(codec.HEADER, 1, codec.header_payload(5, {"message_id": "7"})) + codec.frame(codec.BODY, 1, b"hello"))
    for at in range(len(data)):
        connection.send_raw(data[at:at + 1])
    message = channel.get_soon(queue)
    assert (message.body, message.properties) == (b"hello", {"message_id": "7"})


@differs("the largest body of a message", "128 MiB", "16 MiB", "16 MiB, or what the setting amqp.max.message.size says")
def test_a_body_above_the_size_limit_is_refused_with_406(connect, amqp_server, healthy, name):
    channel = connect().channel()
    queue = channel.queue(name(), exclusive=True)
    limit = amqp_server.either(three=128 << 20, millrace=16 << 20)
    channel.send("basic.publish", routing_key=queue)
    channel.connection.send_frame(codec.HEADER, channel.number, header(limit + 1))
    part = codec.frame(codec.BODY, channel.number, bytes(131064))
    for _ in range(limit // 131064):
        channel.connection.send_raw(part)
    channel.connection.send_frame(codec.BODY, channel.number, bytes(limit + 1 - limit // 131064 * 131064))
    with channel_error(406, f"PRECONDITION_FAILED - message size {limit + 1} is larger than configured max size {limit}",
                       "basic.publish"):
        channel.fence()


def test_an_unfinished_body_disturbs_nobody(connect, healthy):
    channel = connect().channel()
    channel.send("basic.publish", routing_key="x")
    channel.connection.send_frame(codec.HEADER, channel.number, header(1 << 62))
    channel.connection.send_frame(codec.BODY, channel.number, b"only this")
    channel.connection.drop()


def test_random_bytes_end_connections_only(connect, healthy):
    choose = random.Random(7)
    for _ in range(50):
        connection = connect()
        connection.send_raw(choose.randbytes(choose.randrange(1, 400)))
        connection.drop()


def test_damaged_publications_end_connections_only(connect, healthy, name):
    choose = random.Random(11)
    whole = (codec.frame(codec.METHOD, 1, codec.method_payload("channel.open")) +
             codec.frame(codec.METHOD, 1, codec.method_payload("basic.publish", routing_key=name())) +
             codec.frame(codec.HEADER, 1, codec.header_payload(5, {"headers": {"a": 1, "b": [1, {"c": "d"}]}, "type": "t"})) +
             codec.frame(codec.BODY, 1, b"hello"))
    for _ in range(100):
        damaged = bytearray(whole)
        damaged[choose.randrange(len(whole))] ^= 1 << choose.randrange(8)
        connection = connect()
        connection.send_raw(damaged)
        connection.drop()
