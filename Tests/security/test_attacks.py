"""What strangers may do to a server without keeping others from it: `make attacks` does more of it, and tells what others noticed."""

import contextlib
import http.client
import resource
import socket
import struct
import time

import pytest
from attackers import HalfOpen, Honest, apart, basic, bounded_memory, flood, frame, metrics
from kafka import KafkaProducer
from millrace_tests import wire
from millrace_tests.batches import Record, encode
from millrace_tests.secure import ADMIN

MIB = 1 << 20


@pytest.fixture(scope="module", autouse=True)
def many_files():
    """This process has as many sockets as it makes the server have."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def attacked(make_secure):
    """A server with fewer places than there are attackers."""
    return make_secure(
        listeners=["kafka+tls://127.0.0.1:0?auth=plain,scram", "kafka://127.0.0.1:0?auth=scram",
                   "amqps://127.0.0.1:0?auth=plain", "https://127.0.0.1:0?auth=plain"],
        arguments=["--set", "max.connections=3000", "--set", "auto.create.topics.enable=true"])


def producer(secure, **options):
    return KafkaProducer(
        bootstrap_servers=secure.address("kafka"), security_protocol="SASL_PLAINTEXT", sasl_mechanism="SCRAM-SHA-256",
        sasl_plain_username=ADMIN, sasl_plain_password=secure.admin_password, **options)


@contextlib.contextmanager
def https(secure):
    import ssl
    host, port = secure.server.addresses["https"]
    connection = http.client.HTTPSConnection(
        host, port, timeout=30, context=ssl.create_default_context(cafile=secure.certificates.ca))
    try:
        yield connection
    finally:
        connection.close()


def figures(secure):
    with https(secure) as connection:
        return metrics(connection, basic(ADMIN, secure.admin_password))


RECORD = encode([Record(b"k", b"v")])


def asks(secure, topic):
    """An honest producer: a durable record after the other, over TLS."""
    def ask(connection):
        error, _ = wire.produce(connection, topic, 0, RECORD)
        assert error == 0, f"producing was answered with error {error}"
    return Honest(secure.wire, ask)


def calm_figures(honest):
    """What an honest producer notices of nothing."""
    time.sleep(1)
    honest.quantiles()
    time.sleep(2)
    return honest.quantiles()


def tell(what, before, meanwhile, after, memory):
    """For `make attacks`: what an honest producer noticed. A time is never what a test is about."""
    print(f"\n{what}: a durable record of others took, before, meanwhile and afterwards, p50 "
          f"{before[0]:.2f}, {meanwhile[0]:.2f}, {after[0]:.2f} ms, p99 {before[1]:.2f}, {meanwhile[1]:.2f}, {after[1]:.2f} ms ("
          f"{before[2]}, {meanwhile[2]}, {after[2]} records); the server held {memory[0] / MIB:.0f} MiB before and "
          f"{max(memory) / MIB:.0f} MiB at most")


def test_ten_thousand_half_open_connections_keep_nobody_out(attacked, many_files):
    count = min(10_000, many_files - 1000)
    targets = [(attacked.server.addresses["kafka"], b"\0\0\0"),
               (attacked.server.addresses["kafka+tls"], b"\x16\x03\x01\x02\0\x01"),
               (attacked.server.addresses["amqps"], b"\x16\x03\x01"),
               (attacked.server.addresses["https"], b"\x16")]
    client = producer(attacked, retries=0)
    client.send("attacked", b"first").get(30)
    client.close()
    with asks(attacked, "attacked") as honest:
        calm = calm_figures(honest)
        with bounded_memory(attacked.server, 400 * MIB) as memory, HalfOpen(targets, count) as attack:
            # Newcomers who say who they are get in, on each of the listeners.
            for _ in range(3):
                newcomer = producer(attacked)
                newcomer.send("attacked", b"newcomer").get(30)
                newcomer.close()
            found = figures(attacked)
            memory.append(attacked.server.resident_bytes())
            assert found["millrace_connections_unauthenticated"] > 1000
            # Those that have just been sent away are closed with the end of the turn in which 4 came on each listener.
            assert sum(found[f'millrace_connections{{protocol="{one}"}}'] for one in ("kafka", "amqp", "http")) <= 3000 + 4 * 4
            assert found["millrace_connections_displaced_total"] > 0
            assert found["millrace_connections_limit"] == 3000
            under_attack = honest.quantiles()
        after = calm_figures(honest)
    assert attack.closed > count - 3000
    tell(f"{count} half-open connections ({attack.made} made)", calm, under_attack, after, memory)


def test_floods_of_failed_logins_keep_nobody_out(make_secure, request):
    count = request.config.getoption("--attempts")
    secure = make_secure(
        listeners=["kafka+tls://127.0.0.1:0?auth=plain", "kafka://127.0.0.1:0?auth=scram", "http://127.0.0.1:0?auth=plain"])
    address = secure.server.addresses["http"]

    def attempt(number):
        wrong = basic(f"{ADMIN if number % 2 else 'nobody'}", f"wrong-{number}")
        return f"GET /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nAuthorization: {wrong}\r\n\r\n".encode()

    client = producer(secure, retries=0)
    client.send("logins", b"first").get(30)
    client.close()
    with asks(secure, "logins") as honest:
        calm = calm_figures(honest)
        with bounded_memory(secure.server, 200 * MIB) as memory:
            began = time.monotonic()
            apart(flood, address, count, attempt)
            seconds = time.monotonic() - began
            under_attack = honest.quantiles()
            # Who has the right password comes in meanwhile, and is not taken for one of them.
            newcomer = producer(secure)
            newcomer.send("logins", b"newcomer").get(30)
            newcomer.close()
        after = calm_figures(honest)
    connection = http.client.HTTPConnection(*address, timeout=30)
    found = metrics(connection, basic(ADMIN, secure.admin_password))
    connection.close()
    answered = found['millrace_http_requests_total{code="4xx"}']
    assert 0 < answered <= count
    audit = secure.server.log_text()
    assert "login refused" in audit and len(audit) < 2 * MIB
    tell(f"{count} failed logins in {seconds:.1f} s", calm, under_attack, after, memory)


def nested_table(depth):
    """AMQP's field table in a field table in …"""
    table = b""
    for _ in range(depth):
        table = b"\x01aF" + struct.pack(">I", len(table)) + table
    return struct.pack(">I", len(table)) + table


def start_ok(properties):
    method = b"\0\x0a\0\x0b" + properties + b"\x05PLAIN" + struct.pack(">I", 12) + b"\0guest\0guest" + b"\x05en_US"
    return b"AMQP\0\0\x09\x01" + b"\x01\0\0" + struct.pack(">I", len(method)) + method + b"\xce"


BEFORE_LOGIN = {
    "kafka": {
        "a request of 2 GiB": struct.pack(">i", 0x7FFFFFFF) + b"\0" * 100,
        "a negative length": struct.pack(">i", -1),
        "a request of 65 KiB": struct.pack(">i", 65 << 10) + b"\0" * 1000,
        "two thousand million mechanisms' bytes": frame(36, 0, struct.pack(">i", 0x7FFFFFFF) + b"x"),
        "an api that is none": frame(999, 0, b""),
        "a request before it says who it is": frame(3, 1, struct.pack(">i", -1)),
        "text": b"GET / HTTP/1.1\r\n\r\n" * 10,
    },
    "amqp": {
        "another protocol": b"GET / HTTP/1.1\r\n\r\n",
        "a frame of 4 GiB": b"AMQP\0\0\x09\x01" + b"\x01\0\0\xff\xff\xff\xff",
        "a frame larger than the first ones may be": b"AMQP\0\0\x09\x01" + b"\x01\0\0" + struct.pack(">I", 1 << 20),
        "tables in tables": start_ok(nested_table(1000)),
        "a table longer than its frame": start_ok(struct.pack(">I", 0x7FFFFFFF)),
        "a frame of a channel that is not open": b"AMQP\0\0\x09\x01" + b"\x01\0\x07\0\0\0\x04\0\x14\0\x0a\xce",
    },
    "http": {
        "a head of 200 KiB": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X-A: " + b"y" * 200_000 + b"\r\n\r\n",
        "ten thousand fields": b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
        "a path of 100 KiB": b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "two lengths": b"POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "a length and chunks":
            b"POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "a line feed in a field": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-A: b\nX-C: d\rSet-Cookie: e\r\n\r\n",
        "a body of a terabyte":
            b"POST /api/v1/topics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1099511627776\r\n\r\n",
    },
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory, certificates):
    """A server whose listeners ask, without TLS, for bytes as they are."""
    from millrace_tests.secure import start_secure
    from millrace_tests.server import Server

    server = Server(tmp_path_factory.mktemp("plain"),
                    listeners=["kafka://127.0.0.1:0?auth=scram", "amqp://127.0.0.1:0?auth=plain", "http://127.0.0.1:0?auth=plain"])
    try:
        yield start_secure(server, certificates)
    finally:
        server.close()


def ending(address, data, seconds=20):
    """What the server answers before it closes."""
    with socket.create_connection(address, timeout=seconds) as one:
        got = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            one.sendall(data)
            # AMQP's server says why in connection.close, and waits ten seconds for an answer.
            while b"\0\x0a\0\x32" not in got and (part := one.recv(65536)):
                got += part
        return got


@pytest.mark.parametrize("protocol, what", [(p, w) for p, cases in BEFORE_LOGIN.items() for w in cases])
def test_strangers_who_send_what_is_too_large_or_too_deep_are_closed(plain, protocol, what):
    with bounded_memory(plain.server, 32 * MIB):
        answer = ending(plain.server.addresses[protocol], BEFORE_LOGIN[protocol][what])
    if protocol == "http":
        assert answer.startswith(b"HTTP/1.1 4"), answer[:200]
        assert b"Set-Cookie" not in answer.partition(b"\r\n\r\n")[0]
    assert plain.server.running
    with socket.create_connection(plain.server.addresses[protocol]) as again:
        again.sendall({"kafka": frame(18, 0, b""), "amqp": b"AMQP\0\0\x09\x01",
                       "http": b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"}[protocol])
        assert again.recv(100)


@pytest.mark.parametrize("body, status", [
    (b"[" * 100_000, 400), (b'{"a":' * 100_000, 400), (b'{"records":' + b"[" * 1000 + b"]" * 1000 + b"}", 400),
    (b'{"records":[{"value":"' + b"\\u0000" * 100_000 + b'"}]}', 201), (b"{" + b'"a":1,' * 100_000 + b'"a":1}', 400),
], ids=["open lists", "open objects", "lists in lists", "escapes", "many members"])
def test_deep_and_wide_json_of_those_who_may_send_it_costs_little(plain, body, status):
    connection = http.client.HTTPConnection(*plain.server.addresses["http"], timeout=30)
    headers = {"Authorization": basic(ADMIN, plain.admin_password), "Content-Type": "application/json"}
    connection.request("PUT", "/api/v1/topics/json", b"{}", headers)
    connection.getresponse().read()
    with bounded_memory(plain.server, 128 * MIB):
        connection.request("POST", "/api/v1/topics/json/records", body, headers)
        answer = connection.getresponse()
        assert answer.status == status, answer.read()
        answer.read()
    connection.close()


@pytest.mark.parametrize("path", [
    "/api/v1/topics/..%2f..%2fetc%2fpasswd", "/api/v1/topics/../../../etc/passwd", "/api/v1/topics/a%0d%0aSet-Cookie:%20x",
    "/api/v1/topics/%00", "//etc/passwd", "/api/v1/topics/%2e%2e", "/%c0%ae%c0%ae/", "/api/v1/topics/a%2",
])
def test_paths_lead_nowhere_but_to_routes(plain, path):
    host, port = plain.server.addresses["http"]
    head = f"PUT {path} HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: {basic(ADMIN, plain.admin_password)}\r\n" \
        "Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
    answer = ending((host, port), head.encode())
    assert answer.startswith(b"HTTP/1.1 4"), answer[:300]
    assert b"root:" not in answer and b"\r\nSet-Cookie" not in answer
    assert not list(plain.server.data.parent.glob("**/passwd"))


@pytest.mark.parametrize("fields", [
    {"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Host": "evil.example"},
])
def test_other_sites_cannot_make_a_browser_change_anything(make_server, fields):
    server = make_server(http=True).start()
    connection = http.client.HTTPConnection(server.http_host, server.http_port, timeout=20)
    connection.request("PUT", "/api/v1/topics/t", b"{}", {"Content-Type": "application/json", **fields})
    answer = connection.getresponse()
    assert answer.status in (400, 403, 421), answer.read()
    answer.read()
    connection.close()
    connection = http.client.HTTPConnection(server.http_host, server.http_port, timeout=20)
    connection.request("GET", "/api/v1/topics/t")
    assert connection.getresponse().status == 404
    connection.close()


def squeezed(codec, pieces):
    """What one codec makes of pieces of bytes."""
    if codec == "gzip":
        import zlib
        squeezer = zlib.compressobj(9, zlib.DEFLATED, 31)
        return b"".join(squeezer.compress(one) for one in pieces) + squeezer.flush()
    if codec == "zstd":
        import zstandard
        squeezer = zstandard.ZstdCompressor(level=3, write_content_size=False).compressobj()
        return b"".join(squeezer.compress(one) for one in pieces) + squeezer.flush()
    if codec == "lz4":
        import lz4.frame
        with lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX4MB) as squeezer:
            return squeezer.begin() + b"".join(squeezer.compress(one) for one in pieces) + squeezer.flush()
    import snappy
    return snappy.compress(b"".join(pieces))


def bomb(codec, mebibytes):
    """A batch of one record of so many MiB of zeros, all of it valid but for its size."""
    from millrace_tests.batches import CODECS, crc32c, varint

    size = mebibytes * MIB
    entry = b"\0" + varint(0) + varint(0) + varint(-1) + varint(size)
    length = len(entry) + size + 1
    body = squeezed(codec, [varint(length) + entry] + [bytes(MIB)] * mebibytes + [b"\0"])
    checked = struct.pack(">hiqqqhii", CODECS[codec], 0, 1_700_000_000_000, 1_700_000_000_000, -1, -1, -1, 1) + body
    return struct.pack(">qiibI", 0, 9 + len(checked), -1, 2, crc32c(checked)) + checked


@pytest.fixture(scope="module")
def open_server(tmp_path_factory):
    from millrace_tests.server import Server

    server = Server(tmp_path_factory.mktemp("bombs"), http=True)
    try:
        yield server.start()
    finally:
        server.close()


# Snappy makes nothing smaller than a twentieth: beyond what a batch may have, so its bomb needs a topic that takes larger ones.
@pytest.mark.parametrize("codec, mebibytes", [("gzip", 600), ("zstd", 1000), ("lz4", 200), ("snappy", 100)])
def test_a_decompression_bomb_harms_nobody_who_looks_into_it(open_server, codec, mebibytes):
    server = open_server
    topic = f"bomb-{codec}"
    with wire.Wire(server, timeout_seconds=60) as connection:
        assert wire.create_topic(connection, topic, 1, [("max.message.bytes", "33000000")]) == 0
        data = bomb(codec, mebibytes)
        with bounded_memory(server, 160 * MIB):
            assert wire.produce(connection, topic, 0, data) == (0, 0)
            # The server passes on what it was given, to whoever asks.
            error, found = fetched(connection, topic)
            assert error == 0 and len(found) == len(data)
        # Where the server itself has to look into it, it stops at its limit, and says so.
        with bounded_memory(server, 160 * MIB):
            one = http.client.HTTPConnection(server.http_host, server.http_port, timeout=60)
            one.request("GET", f"/api/v1/topics/{topic}/partitions/0/records")
            answer = one.getresponse()
            text = answer.read().decode()
            assert answer.status == 500 and "corrupt-data" in text and "67108864" in text, text
            one.close()
    # And so does the command that reads it.
    done = run_bounded(320, "consume", topic, "--bootstrap", server.bootstrap, "--from", "earliest", "--max", "1")
    assert done.returncode != 0 and "67108864" in done.stderr, (done.returncode, done.stderr[-500:])
    assert server.running


def fetched(connection, topic):
    """Error and records of partition 0, from the start."""
    fields = connection.call("Fetch", 11, wire.fetch_body([(topic, 0, 0)], max_bytes=64 * MIB, partition_max_bytes=64 * MIB))
    fields.take(4 + 2 + 4)
    assert fields.int32() == 1 and fields.string() == topic and fields.int32() == 1
    assert fields.int32() == 0
    error = fields.int16()
    fields.take(8 + 8 + 8)
    for _ in range(max(0, fields.int32())):
        fields.take(16)
    fields.take(4)
    return error, fields.bytes32() or b""


def run_bounded(mebibytes, *arguments):
    """Runs the program with so much memory for its data at most."""
    import subprocess

    from millrace_tests.server import BINARY, environment

    return subprocess.run(
        ["prlimit", f"--data={mebibytes * MIB}", str(BINARY), *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=environment())
