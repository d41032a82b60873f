"""HTTP/1.1 on the wire: what clients of every kind do, and what nobody may do."""

import socket

import pytest


def exchange(client, data, pieces=1):
    """Sends bytes and reads until the server closes, or nothing more comes."""
    with client.raw() as connection:
        for start in range(0, len(data), max(1, len(data) // pieces)):
            connection.sendall(data[start:start + max(1, len(data) // pieces)])
        connection.shutdown(socket.SHUT_WR)
        received = b""
        while True:
            part = connection.recv(65536)
            if not part:
                return received
            received += part


def test_pipelined_requests_are_answered_in_order(client):
    requests = b"".join(b"GET /nothing/%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % n for n in range(300))
    for pieces in (1, 7):
        received = exchange(client, requests, pieces)
        found = [part.split(b'"')[0] for part in received.split(b"there is nothing at /nothing/")[1:]]
        assert found == [b"%d" % n for n in range(300)]


@pytest.mark.parametrize("data,status", [
    (b"GET / HTTP/1.1\r\n\r\n", 400), (b"GET / HTTP/1.1\nHost: a\n\n", 400), (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\n", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n123456", 400),
    (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n", 400),
    (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", 404),
    (b"GET /a%00 HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: a\x00b\r\n\r\n", 400),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70000 + b"\r\n\r\n", 431),
    (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431),
    (b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n", 501), (b"GET / HTTP/0.9\r\nHost: a\r\n\r\n", 505),
    (b"GET /api/v1/topics HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421),
    (b"PUT /api/v1/topics/x HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n", 403),
])
def test_what_is_no_request_is_refused(client, data, status):
    received = exchange(client, data)
    assert received.startswith(b"HTTP/1.1 %d " % status), received[:200]
    assert received.count(b"HTTP/1.1 %d " % status) == 1 and received.count(b"\r\n\r\n") == 1, received


def test_nothing_a_client_sends_becomes_a_field(client):
    received = exchange(client, b"GET /x%0d%0aSet-Cookie:%20a=b HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = received.split(b"\r\n\r\n")[0]
    assert b"set-cookie" not in head.lower() and received.startswith(b"HTTP/1.1 404 ")


def test_chunks_and_continue(client):
    client.do("PUT", "/api/v1/topics/chunks", expect=201)
    with client.raw() as connection:
        connection.sendall(b"POST /api/v1/topics/chunks/records HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                           b"Expect: 100-continue\r\nContent-Type: text/plain\r\n\r\n")
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        for piece in (b"5\r\nhello\r\n", b"6;x=y\r\n world\r\n", b"0\r\nT: 1\r\n\r\n"):
            connection.sendall(piece)
        assert connection.recv(4096).startswith(b"HTTP/1.1 201 ")
    status, _, value = client.ask("GET", "/api/v1/topics/chunks/partitions/0/records/0/value")
    assert (status, value) == (200, b"hello world")


def test_too_large_is_said_though_the_client_goes_on_sending(client):
    """The answer arrives, although most of the body was never read."""
    client.do("PUT", "/api/v1/topics/large", expect=201)
    status, _, body = client.ask("POST", "/api/v1/topics/large/records", b"x" * 2_000_000, {"Content-Type": "text/plain"})
    assert status == 413, body


def test_half_open_connections_are_ended_and_others_served(client):
    """Hundreds of clients that never finish their heads keep nobody out, and are gone after some seconds."""
    slow = []
    try:
        for _ in range(300):
            connection = client.raw()
            connection.sendall(b"GET / HT")
            slow.append(connection)
        assert client.get("/health/ready")["status"] == "ready"
        slow[0].settimeout(20)
        assert slow[0].recv(100).startswith(b"HTTP/1.1 408 ")
    finally:
        for connection in slow:
            connection.close()
