"""Memory stays bounded, and others are served, whatever a peer announces, sends, or does not read."""

import random
import socket
import struct
import time

import pytest
from millrace_tests import wire
from millrace_tests.batches import Record, encode
from millrace_tests.wire import Closed, Wire

MIB = 1 << 20


@pytest.fixture
def measured(own_server):
    """A warmed-up server with `grown()`, its resident memory in MiB beyond what it had at the start."""
    with Wire(own_server) as connection:
        wire.api_versions(connection)
        assert wire.create_topic(connection, "warm", 1) == 0
        assert wire.produce(connection, "warm", 0, encode([Record(b"k", b"v")])) == (0, 0)
        wire.fetch(connection, [("warm", 0, 0)])
    base = own_server.resident_bytes()
    own_server.grown = lambda: (own_server.resident_bytes() - base) / MIB
    return own_server


def assert_others_are_served(server, topic="warm"):
    began = time.monotonic()
    with Wire(server) as connection:
        assert wire.api_versions(connection)
        error, _ = wire.produce(connection, topic, 0, encode([Record(b"k", b"v")]))
        assert error == 0
    assert time.monotonic() - began < 5


def plain_socket(server):
    return socket.create_connection((server.host, server.port), timeout=10)


def send_until_refused(peer, data, most_bytes, patience_seconds=1.5):
    """Sends `data` over and over, never reading, until the server takes no more; returns the bytes it took."""
    peer.settimeout(patience_seconds)
    sent, view = 0, memoryview(data)
    try:
        while sent < most_bytes:
            sent += peer.send(view[sent % len(data):])
    except (TimeoutError, ConnectionError):
        pass
    return sent


def test_a_thousand_peers_that_announce_100_mb_cost_what_they_send(measured):
    peers = [plain_socket(measured) for _ in range(1000)]
    try:
        for peer in peers:
            peer.sendall(struct.pack(">ihhi", 100_000_000, 0, 7, 1) + b"\0\4wire")
        assert_others_are_served(measured)
        assert measured.grown() < 48  # 16 KiB of input buffer each, and the connections themselves
    finally:
        for peer in peers:
            peer.close()


def test_unfinished_requests_cost_a_small_multiple_of_what_came(measured):
    peers = [plain_socket(measured) for _ in range(20)]
    try:
        for peer in peers:
            peer.sendall(struct.pack(">ihhi", 100_000_000, 0, 7, 1) + b"\0" * (4 * MIB))
        assert_others_are_served(measured)
        assert measured.grown() < 3 * 80 + 32
    finally:
        for peer in peers:
            peer.close()


def test_consumers_that_never_read_hold_a_bounded_amount(measured):
    with Wire(measured) as connection:
        assert wire.create_topic(connection, "large", 1) == 0
        batch = encode([Record(None, random.Random(1).randbytes(1_000_000))])
        for number in range(300):
            assert wire.produce(connection, "large", 0, batch) == (0, number)
    before = measured.grown()
    peers = []
    try:
        for _ in range(40):
            peer = Wire(measured)
            peers.append(peer)
            for _ in range(50):  # 40 × 50 × 50 MB: 100 GB asked for
                peer.send("Fetch", 11, wire.fetch_body([("large", 0, 0)], max_bytes=50_000_000,
                                                       partition_max_bytes=50_000_000))
        peak = 0
        for _ in range(20):
            time.sleep(0.1)
            peak = max(peak, measured.grown() - before)
        assert_others_are_served(measured)
        # All answers together have 256 MiB, and each reader may have a batch beyond that.
        assert peak < 400
    finally:
        for peer in peers:
            peer.socket.close()


@pytest.mark.parametrize("what", ["produce", "metadata"])
def test_a_peer_that_never_reads_its_answers_is_not_read_either(measured, what):
    with Wire(measured) as connection:
        if what == "metadata":
            wire.create_topic(connection, "wide", 500)
        body = {"produce": lambda: wire.produce_body("warm", 0, encode([Record(b"k", b"v")]), acks=1),
                "metadata": lambda: b"\xff\xff\xff\xff"}[what]()
        connection.send({"produce": "Produce", "metadata": "Metadata"}[what], {"produce": 7, "metadata": 1}[what], body)
        connection.receive()
    header = struct.pack(">hhi", *{"produce": (0, 7), "metadata": (3, 1)}[what], 1) + wire.string("wire")
    request = struct.pack(">i", len(header + body)) + header + body
    with plain_socket(measured) as peer:
        sent = send_until_refused(peer, request * 2000, most_bytes=400 * MIB)
        assert sent < 400 * MIB, "the server reads on from a peer that does not read"
        assert measured.grown() < 320  # the recent part of the log and its index, and 16 MiB of answers
        assert_others_are_served(measured)


def test_a_producer_without_acknowledgements_is_slowed_down_to_what_the_disk_takes(measured):
    batch = encode([Record(None, random.Random(1).randbytes(1_000_000))])
    with Wire(measured, timeout_seconds=60) as connection:
        peak = 0
        for _ in range(600):
            connection.send("Produce", 7, wire.produce_body("warm", 0, batch, acks=0))
            peak = max(peak, measured.grown())
        connection.send("ApiVersions", 0, b"")
        connection.receive()
        assert peak < 300
    assert_others_are_served(measured)


def test_answers_that_wait_behind_a_fetch_are_bounded(measured):
    with Wire(measured) as connection:
        assert wire.create_topic(connection, "large", 1) == 0
        assert wire.create_topic(connection, "empty", 1) == 0
        batch = encode([Record(None, random.Random(1).randbytes(1_000_000))])
        for number in range(60):
            assert wire.produce(connection, "large", 0, batch) == (0, number)
    before = measured.grown()
    with Wire(measured) as connection:
        connection.send("Fetch", 11, wire.fetch_body([("empty", 0, 0)], max_wait_ms=2000))
        for _ in range(20):
            connection.send("Fetch", 11, wire.fetch_body([("large", 0, 0)], max_bytes=50_000_000,
                                                         partition_max_bytes=50_000_000))
        time.sleep(0.5)
        assert measured.grown() - before < 200
        assert_others_are_served(measured)
        for number in range(1, 22):
            assert connection.receive()[0] == number
    assert measured.grown() - before < 200


def test_ten_thousand_pipelined_requests_are_answered_in_their_order(measured):
    with Wire(measured, timeout_seconds=60) as connection:
        data = b""
        for number in range(10_000):
            header = struct.pack(">hhi", 18, 0, number) + wire.string("wire")
            data += struct.pack(">i", len(header)) + header
        sent = 0
        connection.socket.setblocking(False)
        answered, received = 0, b""
        deadline = time.monotonic() + 60
        while answered < 10_000:
            assert time.monotonic() < deadline
            if sent < len(data):
                try:
                    sent += connection.socket.send(data[sent:sent + 65536])
                except BlockingIOError:
                    pass
            try:
                received += connection.socket.recv(65536)
            except BlockingIOError:
                continue
            at = 0
            while len(received) - at >= 4:
                size, = struct.unpack_from(">i", received, at)
                if len(received) - at < 4 + size:
                    break
                assert struct.unpack_from(">i", received, at + 4)[0] == answered
                answered += 1
                at += 4 + size
            received = received[at:]
    assert measured.grown() < 64


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_do_no_harm(measured, seed):
    choices = random.Random(seed)
    for _ in range(100):
        with plain_socket(measured) as peer:
            data = choices.randbytes(choices.choice([1, 7, 100, 5000, 100_000]))
            if choices.random() < 0.7:  # often enough a frame with a plausible beginning
                data = struct.pack(">ihhi", choices.choice([len(data) + 8, choices.randrange(1 << 27)]),
                                   choices.randrange(40), choices.randrange(17), 1) + data
            try:
                peer.sendall(data)
                if choices.random() < 0.5:
                    peer.shutdown(socket.SHUT_WR)
                    peer.settimeout(0.05)
                    peer.recv(65536)
            except (ConnectionError, TimeoutError, Closed):
                pass
    assert measured.running
    assert_others_are_served(measured)
    assert measured.grown() < 64


def test_unfinished_requests_of_all_connections_share_one_bound(make_server):
    server = make_server(arguments=["--set", f"queued.max.request.bytes={32 * MIB}"]).start()
    with Wire(server) as connection:
        assert wire.create_topic(connection, "t", 1) == 0
        assert wire.produce(connection, "t", 0, encode([Record(b"k", b"v")])) == (0, 0)
    base = server.resident_bytes()
    announced = struct.pack(">ihhi", 90_000_000, 0, 7, 1)
    peers = [plain_socket(server) for _ in range(100)]
    try:
        for peer in peers:
            peer.sendall(announced)
            send_until_refused(peer, b"\0" * MIB, 8 * MIB, patience_seconds=0.05)
        # 800 MB were offered. Buffers may be twice what they hold, and each peer has one besides the budget.
        assert (server.resident_bytes() - base) / MIB < 2 * 32 + 100 * 0.25 + 32
        assert "requests hold all the memory they may" in server.log_text()
        assert_others_are_served(server, "t")
        # Somebody honest with a large request is served, too, once the oldest of the unfinished are given up.
        with Wire(server, timeout_seconds=90) as connection:
            error, _ = wire.produce(connection, "t", 0, encode([Record(b"k", b"v" * 900_000)]))
            assert error == 0
        assert "stays unfinished" in server.log_text()
    finally:
        for peer in peers:
            peer.close()


def test_a_flood_of_refused_connections_fills_no_log(make_server):
    server = make_server(arguments=["--set", "max.connections=5"]).start()
    holders = [plain_socket(server) for _ in range(5)]
    try:
        for _ in range(300):
            plain_socket(server).close()
        time.sleep(0.3)
        refused = [line for line in server.log_text().splitlines() if "connection refused" in line]
        assert 1 <= len(refused) <= 30, len(refused)
    finally:
        for peer in holders:
            peer.close()
