"""The protocol byte by byte: what clients trip over, and what hostile or broken peers send."""

import re
import socket
import struct
import time

import pytest
from millrace_tests import wire
from millrace_tests.batches import Record, crc32c, decode, encode
from millrace_tests.server import ROOT
from millrace_tests.wire import Closed, Wire

UNSUPPORTED_VERSION = 35
UNKNOWN_TOPIC_OR_PARTITION = 3
CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_ID = 100


@pytest.fixture
def connection(server):
    with Wire(server) as one:
        yield one


def assert_serving(server):
    """A fresh connection is answered: the server went on."""
    with Wire(server) as another:
        assert wire.api_versions(another)


# ApiVersions and the ranges it advertises


@pytest.mark.parametrize("version", [5, 6, 99, 32767])
def test_an_unknown_apiversions_version_is_answered_in_version_0(connection, version):
    # Whatever follows the header is of a version we cannot know; the reply is version 0 with error 35 and says
    # which versions of ApiVersions there are. Source: KIP-511.
    connection.send("ApiVersions", version, b"\x01\x02\x03", flexible=True)
    correlation, fields = connection.receive()
    assert correlation == 1
    assert fields.int16() == UNSUPPORTED_VERSION
    ranges = {fields.int16(): (fields.int16(), fields.int16()) for _ in range(fields.int32())}
    fields.end()
    assert ranges[18][0] == 0 and ranges[18][1] >= 3
    # and the connection goes on
    assert 18 in wire.api_versions(connection)


@pytest.mark.parametrize("version", [3, 4])
def test_a_flexible_apiversions_response_has_a_header_without_tags(connection, version):
    body = wire.compact_string("client") + wire.compact_string("1.0") + b"\0"
    fields = connection.call("ApiVersions", version, body, flexible=True, flexible_response=False)
    assert fields.int16() == 0
    keys = []
    for _ in range(fields.uvarint() - 1):
        keys.append(fields.int16())
        low, high = fields.int16(), fields.int16()
        assert 0 <= low <= high
        fields.tags()
    fields.int32()
    fields.tags()
    fields.end()
    assert len(keys) == len(set(keys)) and 18 in keys


def test_the_advertised_ranges(connection):
    ranges = wire.api_versions(connection)
    assert ranges[0][0] == 0, "librdkafka stops compressing when Produce does not begin at 0 (KAFKA-18659)"
    assert ranges[0][1] >= 9
    assert ranges[3][0] == 0 and ranges[11][0] == 0, "Metadata and JoinGroup begin at 0 (KAFKA-19444)"
    assert 71 not in ranges and 72 not in ranges, "librdkafka would send telemetry at once"
    for key, (low, high) in {1: (4, 11), 2: (1, 7), 8: (2, 8), 9: (1, 8), 10: (0, 4), 12: (0, 4), 13: (0, 5),
                             14: (0, 5), 18: (0, 4), 19: (2, 7), 20: (1, 6), 22: (0, 4), 23: (2, 4),
                             32: (1, 4)}.items():
        assert key in ranges, f"API {key} is missing"
        assert ranges[key][0] <= low and ranges[key][1] >= high, f"API {key} is advertised as {ranges[key]}"


def test_the_reference_page_lists_what_is_advertised(connection):
    page = (ROOT / "docs" / "reference" / "protocol.md").read_text()
    listed = {int(key): (int(low), int(high))
              for key, low, high in re.findall(r"^\| (\d+) \| \w+ \| (\d+)–(\d+) \|", page, re.MULTILINE)}
    assert listed == wire.api_versions(connection)


# Acknowledgements


def test_acks_0_gets_no_reply(server, connection, create_topic, topic):
    create_topic(topic)
    connection.send("Produce", 7, wire.produce_body(topic, 0, encode([Record(b"k", b"v")]), acks=0))
    after = connection.send("ApiVersions", 0, b"")
    assert connection.receive()[0] == after, "the next reply belongs to the next request"
    _, _, found = wire.fetch(connection, [(topic, 0, 0)], max_wait_ms=2000)
    assert [r.value for b in decode(found[topic, 0][2]) for r in b.records] == [b"v"]


def test_a_failing_acks_0_closes_the_connection(server, connection):
    # The only way to tell a producer that waits for no answer.
    connection.send("Produce", 7, wire.produce_body("never.made.here", 9, encode([Record(b"k", b"v")]), acks=0))
    assert connection.is_closed()
    assert_serving(server)


@pytest.mark.parametrize("acks", [2, -2, 100])
def test_other_acks_are_refused(connection, create_topic, topic, acks):
    create_topic(topic)
    error, _ = wire.produce(connection, topic, 0, encode([Record(b"k", b"v")]), acks=acks)
    assert error == 21  # INVALID_REQUIRED_ACKS


# What is not a request


def refused(connection):
    """The server closes, or answers once and closes."""
    try:
        connection.receive()
    except (Closed, TimeoutError):
        return connection.is_closed()
    return connection.is_closed()


@pytest.mark.parametrize("size", [0x7FFFFFFF, 0x10000000, -1, -0x80000000])
def test_an_absurd_frame_size_closes_without_memory(server, connection, size):
    before = server.resident_bytes()
    connection.send_raw(struct.pack(">i", size) + b"\0" * 64)
    assert connection.is_closed()
    assert server.resident_bytes() - before < 16 << 20
    assert_serving(server)


@pytest.mark.parametrize("frame", [b"", b"\0", b"\0\x12\0\0\0\0", b"\0\x12\0\0\0\0\0\1\0\x20ab"],
                         ids=["empty", "one byte", "no correlation id", "client id cut"])
def test_a_cut_header_closes(server, connection, frame):
    connection.send_raw(struct.pack(">i", len(frame)) + frame)
    assert connection.is_closed()
    assert_serving(server)


@pytest.mark.parametrize("api", [4, 7, 71, 94, 999, -1])
def test_an_unknown_api_closes(server, connection, api):
    connection.send(api, 0, b"")
    assert refused(connection)
    assert_serving(server)


@pytest.mark.parametrize("api", ["Produce", "Fetch", "Metadata", "JoinGroup", "OffsetCommit", "CreateTopics"])
def test_an_unsupported_version_closes(server, connection, api):
    connection.send(api, 99, b"\0" * 40)
    assert refused(connection)
    assert_serving(server)


@pytest.mark.parametrize("api,version", [("Produce", 7), ("Fetch", 11), ("ListOffsets", 2), ("Metadata", 4),
                                         ("OffsetCommit", 3), ("OffsetFetch", 3), ("FindCoordinator", 1),
                                         ("JoinGroup", 5), ("SyncGroup", 3), ("CreateTopics", 4),
                                         ("DescribeConfigs", 1)])
@pytest.mark.parametrize("body", [b"", b"\x7f\xff\xff\xff", b"\x7f\xff" * 8, b"\xff" * 60],
                         ids=["empty", "long array", "long strings", "all ones"])
def test_a_body_that_is_no_such_request_closes_or_is_answered(server, connection, api, version, body):
    connection.send(api, version, body)
    try:
        connection.receive()
    except (Closed, TimeoutError):
        pass
    assert_serving(server)


def test_every_cut_of_a_produce_request_leaves_the_server_serving(server, create_topic, topic):
    create_topic(topic)
    body = wire.produce_body(topic, 0, encode([Record(b"key", b"value", [("h", b"x")])]))
    for length in range(0, len(body), 3):
        with Wire(server, timeout_seconds=5) as cut:
            cut.send("Produce", 7, body[:length])
            with pytest.raises((Closed, TimeoutError)):
                cut.receive()
                cut.receive()
    assert_serving(server)


@pytest.mark.parametrize("size", [1024, 1025])
def test_the_first_frame_may_be_as_large_as_the_limit_and_no_larger(make_server, size):
    server = make_server(arguments=["--set", "socket.request.max.bytes=1024"]).start()
    with Wire(server) as connection:
        header = struct.pack(">hhi", 18, 0, 7) + wire.string("x" * (size - 10))
        connection.send_raw(struct.pack(">i", size) + header)
        if size <= 1024:
            assert connection.receive()[0] == 7
        else:
            assert connection.is_closed()
            assert "1025 bytes" in logged(server, "1025 bytes")
    assert_serving(server)


# ApiVersions 3: a client id, then the header's tags, then two compact strings and tags.
@pytest.mark.parametrize("rest", [b"\xff" * 10, b"\xff\xff\xff\xff\x0f", b"\x01\x00\xff\xff\xff\xff\x0f", b"\x80" * 9 + b"\x01",
                                  b"\0" + b"\xff\xff\xff\xff\x0f", b"\0" + b"\x02", b"\0\x01\x01" + b"\xff" * 5],
                         ids=["endless tag count", "4 billion tags", "4 billion bytes of a tag", "number of 64 bits",
                              "4 billion bytes of a name", "name cut", "endless tags of the body"])
def test_lengths_that_are_too_long_close_without_memory(server, connection, rest):
    before = server.resident_bytes()
    header = struct.pack(">hhi", 18, 3, 7) + wire.string("wire") + rest
    connection.send_raw(struct.pack(">i", len(header)) + header)
    assert connection.is_closed()
    assert server.resident_bytes() - before < 16 << 20
    assert_serving(server)


def logged(server, text):
    """The server's log, once it holds `text`, or after five seconds."""
    deadline = time.monotonic() + 5
    while text not in server.log_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    return server.log_text()


@pytest.mark.parametrize("api,version,text", [(999, 0, "unknown API 999"), ("Metadata", 99, "Metadata version 99"),
                                              ("Fetch", -1, "Fetch version -1")])
def test_the_log_names_the_api_and_version_that_are_not_served(own_server, api, version, text):
    with Wire(own_server) as connection:
        connection.send(api, version, b"")
        assert connection.is_closed()
    assert text in logged(own_server, text)


# The end of a client


def test_what_was_asked_for_before_the_peers_end_is_answered(connection, create_topic, topic):
    create_topic(topic)
    sent = [connection.send("Produce", 7, wire.produce_body(topic, 0, encode([Record(b"k", b"%d" % number)])))
            for number in range(20)]
    connection.socket.shutdown(socket.SHUT_WR)
    assert [connection.receive()[0] for _ in sent] == sent
    assert connection.is_closed()


def test_a_peers_end_ends_its_long_polls(connection, create_topic, topic):
    create_topic(topic)
    sent = [connection.send("Fetch", 11, wire.fetch_body([(topic, 0, 0)], max_wait_ms=200_000)) for _ in range(3)]
    sent.append(connection.send("ApiVersions", 0, b""))
    assert connection.is_silent(0.2)
    connection.socket.shutdown(socket.SHUT_WR)
    assert [connection.receive()[0] for _ in sent] == sent
    assert connection.is_closed()


def test_connections_beyond_their_rate_are_closed_after_a_wait_and_do_not_count(own_server):
    with Wire(own_server) as admin:
        assert wire.alter_client_quotas(admin, [("ip", "127.0.0.1")], {"connection_creation_rate": 1}) == 0
        served = turned_away = 0
        for _ in range(50):
            with Wire(own_server) as one:
                one.send("ApiVersions", 0, b"")
                try:
                    assert one.receive()[0] == 1
                    served += 1
                except Closed:
                    turned_away += 1
            if served == 3:
                break
        assert served == 3 and turned_away > 0


def test_a_peer_that_goes_away_inside_a_frame_is_forgotten(server):
    for _ in range(50):
        with Wire(server) as going:
            going.send_raw(struct.pack(">i", 5000) + b"\0\x12\0\0")
    assert_serving(server)


def test_a_request_that_comes_byte_by_byte_is_answered(connection):
    frame = struct.pack(">hhi", 18, 0, 77) + wire.string("slow")
    for byte in struct.pack(">i", len(frame)) + frame:
        connection.send_raw(bytes([byte]))
        time.sleep(0.002)
    assert connection.receive()[0] == 77


def test_pipelined_requests_are_answered_in_their_order(connection, create_topic, topic):
    create_topic(topic)
    sent = []
    for number in range(100):
        if number % 3 == 0:
            sent.append(connection.send("ApiVersions", 0, b""))
        else:
            batch = encode([Record(b"k", b"%d" % number)])
            sent.append(connection.send("Produce", 7, wire.produce_body(topic, 0, batch)))
    assert [connection.receive()[0] for _ in sent] == sent


def test_the_log_says_why_a_connection_was_closed(own_server):
    with Wire(own_server) as hostile:
        hostile.send_raw(struct.pack(">i", 0x7FFFFFFF))
        assert hostile.is_closed()
    deadline = time.monotonic() + 5
    while "2147483647" not in own_server.log_text() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "2147483647" in own_server.log_text()


# Record batches


@pytest.mark.parametrize("magic", [0, 1, 3])
def test_other_formats_than_magic_2_are_refused(connection, create_topic, topic, magic):
    create_topic(topic)
    error, _ = wire.produce(connection, topic, 0, encode([Record(b"k", b"v")], magic=magic))
    # UNSUPPORTED_FOR_MESSAGE_FORMAT 43, CORRUPT_MESSAGE 2 or INVALID_RECORD 87: refused, whatever the words.
    assert error in (43, CORRUPT_MESSAGE, 87)
    assert wire.produce(connection, topic, 0, encode([Record(b"k", b"v")])) == (0, 0)


def test_a_flipped_bit_is_refused_as_corrupt(connection, create_topic, topic):
    create_topic(topic)
    whole = encode([Record(b"key", b"value")])
    for position in range(17, len(whole)):
        broken = bytearray(whole)
        broken[position] ^= 0x10
        assert wire.produce(connection, topic, 0, bytes(broken))[0] == CORRUPT_MESSAGE, f"byte {position}"
    assert wire.produce(connection, topic, 0, whole) == (0, 0)


@pytest.mark.parametrize("change", ["length too long", "length too short", "cut", "no bytes"])
def test_a_batch_of_the_wrong_length_is_refused(connection, create_topic, topic, change):
    create_topic(topic)
    batch = bytearray(encode([Record(b"key", b"value")]))
    if change == "length too long":
        batch[8:12] = struct.pack(">i", 1 << 30)
    elif change == "length too short":
        batch[8:12] = struct.pack(">i", 5)
    elif change == "cut":
        batch = batch[:30]
    else:
        batch = b""
    error, _ = wire.produce(connection, topic, 0, bytes(batch))
    assert error in (CORRUPT_MESSAGE, 87, 42), error
    assert wire.produce(connection, topic, 0, encode([Record(b"k", b"v")])) == (0, 0)


def test_a_record_count_that_lies_is_refused(connection, create_topic, topic):
    create_topic(topic)
    # Offsets are assigned from the header, so a last offset delta that disagrees with the count would leave a gap.
    honest = encode([Record(b"k", b"v")] * 3)
    checked = bytearray(honest[21:])
    checked[2:6] = struct.pack(">i", 41)  # last offset delta
    lying = honest[:17] + struct.pack(">I", crc32c(checked)) + bytes(checked)
    assert wire.produce(connection, topic, 0, lying)[0] in (CORRUPT_MESSAGE, 87)


def test_clients_may_not_write_control_batches(connection, create_topic, topic):
    create_topic(topic)
    assert wire.produce(connection, topic, 0, encode([Record(b"k", b"v")], attributes=0x20))[0] in (2, 87)


def test_produce_to_what_is_not_there(connection, create_topic, topic):
    create_topic(topic)
    batch = encode([Record(b"k", b"v")])
    assert wire.produce(connection, topic, 99, batch)[0] == UNKNOWN_TOPIC_OR_PARTITION
    assert wire.produce(connection, "never.made.here", 0, batch)[0] == UNKNOWN_TOPIC_OR_PARTITION


# Fetch


def fill(connection, topic, count, size=10):
    for number in range(count):
        assert wire.produce(connection, topic, 0, encode([Record(b"k", b"%d" % number + b"x" * size)])) == (0, number)


def test_the_first_batch_is_returned_even_when_it_exceeds_the_limits(connection, create_topic, topic):
    create_topic(topic)
    fill(connection, topic, 2, size=50_000)
    for limits in ({"max_bytes": 1}, {"partition_max_bytes": 1}, {"max_bytes": 1, "partition_max_bytes": 1}):
        _, _, found = wire.fetch(connection, [(topic, 0, 0)], **limits)
        (batch,) = decode(found[topic, 0][2])  # whole: the checksum was verified
        assert batch.base_offset == 0


def test_the_limit_holds_beyond_the_first_batch(connection, create_topic, topic):
    create_topic(topic)
    fill(connection, topic, 20, size=10_000)
    _, _, found = wire.fetch(connection, [(topic, 0, 0)], max_bytes=35_000)
    assert 1 <= len(decode(found[topic, 0][2])) <= 4


def test_an_empty_fetch_waits_its_full_time(connection, create_topic, topic):
    create_topic(topic)
    began = time.monotonic()
    error, _, found = wire.fetch(connection, [(topic, 0, 0)], max_wait_ms=400)
    assert error == 0 and found[topic, 0] == (0, 0, b"")
    assert 0.35 < time.monotonic() - began < 2


def test_a_waiting_fetch_returns_as_soon_as_there_are_data(server, connection, create_topic, topic):
    create_topic(topic)
    began = time.monotonic()
    sent = connection.send("Fetch", 11, wire.fetch_body([(topic, 0, 0)], max_wait_ms=10_000))
    assert connection.is_silent(0.2)
    with Wire(server) as other:
        assert wire.produce(other, topic, 0, encode([Record(b"k", b"now")])) == (0, 0)
    got, fields = connection.receive()
    assert got == sent and time.monotonic() - began < 3
    _, _, found = wire.read_fetch(fields)
    assert decode(found[topic, 0][2])[0].records[0].value == b"now"


def test_min_bytes_holds_a_fetch_back(server, connection, create_topic, topic):
    create_topic(topic)
    connection.send("Fetch", 11, wire.fetch_body([(topic, 0, 0)], max_wait_ms=10_000, min_bytes=5000))
    with Wire(server) as other:
        assert wire.produce(other, topic, 0, encode([Record(b"k", b"small")])) == (0, 0)
        assert connection.is_silent(0.3)
        assert wire.produce(other, topic, 0, encode([Record(b"k", b"x" * 6000)])) == (0, 1)
    _, _, found = wire.read_fetch(connection.receive()[1])
    assert len(decode(found[topic, 0][2])) == 2


def test_a_waiting_fetch_does_not_hold_up_other_connections(server, connection, create_topic, topic):
    create_topic(topic)
    connection.send("Fetch", 11, wire.fetch_body([(topic, 0, 0)], max_wait_ms=5000))
    began = time.monotonic()
    assert_serving(server)
    assert time.monotonic() - began < 1


def test_offsets_out_of_range(connection, create_topic, topic):
    create_topic(topic)
    fill(connection, topic, 3)
    for offset in (4, 1000, -1):
        _, _, found = wire.fetch(connection, [(topic, 0, offset)])
        assert found[topic, 0][0] == 1  # OFFSET_OUT_OF_RANGE
    _, _, found = wire.fetch(connection, [(topic, 0, 3)])
    assert found[topic, 0] == (0, 3, b"")


def test_fetch_from_the_middle_of_a_batch_returns_the_whole_batch(connection, create_topic, topic):
    create_topic(topic)
    assert wire.produce(connection, topic, 0, encode([Record(b"k", b"%d" % n) for n in range(10)])) == (0, 0)
    _, _, found = wire.fetch(connection, [(topic, 0, 7)])
    (batch,) = decode(found[topic, 0][2])
    assert (batch.base_offset, batch.last_offset) == (0, 9)


def test_fetch_of_unknown_topics(connection, server):
    _, _, found = wire.fetch(connection, [("never.made.here", 0, 0)])
    assert found["never.made.here", 0][0] == UNKNOWN_TOPIC_OR_PARTITION
    if wire.api_versions(connection)[1][1] < 13:
        return
    body = struct.pack(">iiibii", 0, 1, 1 << 20, 0, 0, -1)  # wait, min, max, isolation, session
    if wire.api_versions(connection)[1][1] < 15:
        body = struct.pack(">i", -1) + body
    version = min(16, wire.api_versions(connection)[1][1])
    body += b"\x02" + b"\x42" * 16 + b"\x02"
    body += struct.pack(">iiqiqi", 0, -1, 0, -1, -1, 1 << 20) + b"\0" + b"\0" + b"\x01" + b"\x01" + b"\0"
    fields = connection.call("Fetch", version, body, flexible=True)
    fields.int32()
    top = fields.int16()
    assert top in (0, UNKNOWN_TOPIC_ID)
    if top == 0:
        fields.int32()
        assert fields.uvarint() == 2 and fields.take(16) == b"\x42" * 16 and fields.uvarint() == 2
        fields.int32()
        assert fields.int16() == UNKNOWN_TOPIC_ID


def test_fetch_sessions_report_only_what_changed(connection, create_topic, topic):
    other = f"{topic}.other"
    create_topic(topic)
    create_topic(other)
    fill(connection, topic, 1)
    error, session, found = wire.fetch(connection, [(topic, 0, 0), (other, 0, 0)], session=(0, 0))
    assert error == 0 and session != 0 and set(found) == {(topic, 0), (other, 0)}
    # Nothing new: nothing is reported.
    error, same, found = wire.fetch(connection, [(topic, 0, 1)], session=(session, 1))
    assert (error, same, found) == (0, session, {})
    # New data in a partition that this request does not name: it is remembered.
    assert wire.produce(connection, other, 0, encode([Record(b"k", b"new")])) == (0, 0)
    error, _, found = wire.fetch(connection, [], session=(session, 2), max_wait_ms=1000)
    assert error == 0 and set(found) == {(other, 0)}
    # Forgotten partitions are no longer reported.
    error, _, found = wire.fetch(connection, [], session=(session, 3), forgotten=[(other, 0)])
    assert error == 0 and (other, 0) not in found


def test_fetch_session_errors(connection, create_topic, topic):
    create_topic(topic)
    error, _, _ = wire.fetch(connection, [(topic, 0, 0)], session=(123456789, 1))
    assert error == 70  # FETCH_SESSION_ID_NOT_FOUND
    error, session, _ = wire.fetch(connection, [(topic, 0, 0)], session=(0, 0))
    assert error == 0
    error, _, _ = wire.fetch(connection, [], session=(session, 7))
    assert error == 71  # INVALID_FETCH_SESSION_EPOCH


# The other requests, where no client shows the whole of it


def list_offset(connection, topic, timestamp, partition=0):
    body = struct.pack(">ibi", -1, 0, 1) + wire.string(topic) + struct.pack(">iiq", 1, partition, timestamp)
    fields = connection.call("ListOffsets", 2, body)
    fields.int32()
    fields.int32(), fields.string(), fields.int32(), fields.int32()
    error, _, offset = fields.int16(), fields.int64(), fields.int64()
    fields.end()
    return error, offset


def test_list_offsets_knows_first_and_last(connection, create_topic, topic):
    create_topic(topic)
    fill(connection, topic, 4)
    assert list_offset(connection, topic, -1) == (0, 4)
    assert list_offset(connection, topic, -2) == (0, 0)
    assert list_offset(connection, topic, -1, partition=5)[0] == UNKNOWN_TOPIC_OR_PARTITION


def test_leader_epochs_grow_with_every_start(own_server, create_topic, topic):
    create_topic(topic, on=own_server)

    def end_of_epoch(connection, epoch):
        body = struct.pack(">ii", -1, 1) + wire.string(topic) + struct.pack(">iiii", 1, 0, -1, epoch)
        fields = connection.call("OffsetForLeaderEpoch", 3, body)
        fields.int32(), fields.int32(), fields.string(), fields.int32()
        return fields.int16(), fields.int32(), fields.int32(), fields.int64()

    with Wire(own_server) as connection:
        fill(connection, topic, 3)
        _, _, found = wire.fetch(connection, [(topic, 0, 0)])
        first = decode(found[topic, 0][2])[0].leader_epoch
    own_server.kill()
    own_server.start()
    with Wire(own_server) as connection:
        assert wire.produce(connection, topic, 0, encode([Record(b"k", b"later")])) == (0, 3)
        _, _, found = wire.fetch(connection, [(topic, 0, 3)])
        second = decode(found[topic, 0][2])[0].leader_epoch
        assert second > first >= 0
        assert end_of_epoch(connection, first) == (0, 0, first, 3)
        assert end_of_epoch(connection, second) == (0, 0, second, 4)


def test_a_thousand_connections_are_served(server):
    connections = [Wire(server) for _ in range(1000)]
    try:
        for one in connections:
            one.send("ApiVersions", 0, b"")
        for one in connections:
            assert one.receive()[0] == 1
    finally:
        for one in connections:
            one.socket.close()
    assert_serving(server)
