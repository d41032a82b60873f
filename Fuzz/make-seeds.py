#!/usr/bin/env python3
"""Writes seeds that a fuzzer does not make itself: make-seeds.py TARGET DIRECTORY

Requests are the golden messages of the protocol's tests behind a header, and what capture.py recorded of real clients; record
batches are built here. AMQP's frames are those of the protocol's tests.
"""

import pathlib
import re
import struct
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TESTS = ROOT / "Tests" / "MillraceKafkaProtocolTests"
GOLDEN = (TESTS / "GoldenMessages.swift", TESTS / "GoldenGroupMessages.swift")
AMQP = ROOT / "Tests" / "MillraceAMQPProtocolTests" / "GoldenFrames.swift"
CAPTURED = ROOT / "Fuzz" / "captured.txt"
KEYS = ROOT / "Sources" / "MillraceKafkaProtocol" / "APIKey.swift"
SCHEMA = ROOT / "Scripts" / "kafka-messages.txt"


def requests():
    """Golden requests and responses as bodies of request frames."""
    apis = {
        name: (int(key), None if flexible == "none" else int(flexible))
        for name, key, flexible in re.findall(r"(?m)^(\w+) key=(\d+) valid=\S+ flexible=(\w+)", SCHEMA.read_text())
    }
    golden = "".join(file.read_text() for file in GOLDEN)
    for name, version, body in re.findall(r"(?m)^  (\w+) (\d+) \w+\n((?:    [0-9a-f]+\n)*)", golden):
        key, flexible = apis[name]
        header = struct.pack(">hhih", key, int(version), 1, 4) + b"fuzz"
        if flexible is not None and int(version) >= flexible:
            header += b"\0"
        yield f"{name}-{version}", header + bytes.fromhex(body.replace(" ", "").replace("\n", ""))


def captured():
    """What real clients and the server said to each other: client, direction, API key, version, frame."""
    for line in CAPTURED.read_text().splitlines():
        client, direction, key, version, frame = line.split()
        yield client, direction, int(key), int(version), bytes.fromhex(frame)


def captured_requests():
    for client, direction, key, version, frame in captured():
        if direction == "request":
            yield f"{client}-{key}-{version}", frame


def captured_responses():
    """Behind two bytes that choose the API, by its place among all, and the version."""
    keys = [int(key) for key in re.findall(r"(?m)^  case \w+ = (\d+)$", KEYS.read_text())]
    for client, direction, key, version, frame in captured():
        if direction == "response" and key in keys:
            for choice in range(version + 1):
                yield f"{client}-{key}-{version}-{choice}", bytes([keys.index(key), choice]) + frame


def captured_streams():
    """All requests of a client as it would send them on one connection."""
    streams = {}
    for client, direction, _, _, frame in captured():
        if direction == "request":
            streams[client] = streams.get(client, b"\0") + struct.pack(">i", len(frame)) + frame
    yield from streams.items()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def varint(value):
    raw, out = value << 1 if value >= 0 else (-value << 1) - 1, bytearray()
    while raw >= 0x80:
        out.append(raw & 0x7F | 0x80)
        raw >>= 7
    return bytes(out) + bytes([raw])


def field(data):
    return varint(-1) if data is None else varint(len(data)) + data


def batch(records, attributes=0, producer=(-1, -1, -1)):
    body = b""
    for index, (key, value, headers) in enumerate(records):
        one = b"\0" + varint(index * 5) + varint(index) + field(key) + field(value) + varint(len(headers))
        for name, content in headers:
            one += field(name) + field(content)
        body += varint(len(one)) + one
    count = len(records)
    tail = struct.pack(">hiqqqhii", attributes, count - 1, 1000, 1000 + 5 * count, *producer, count) + body
    return struct.pack(">qiibI", 0, len(tail) + 9, -1, 2, crc32c(tail)) + tail


def batches():
    yield "one", batch([(b"k", b"v", [])])
    yield "nulls", batch([(None, None, []), (b"", b"", [])])
    yield "headers", batch([(None, b"v", [(b"h", b"1"), (b"h", None)])])
    yield "many", batch([(b"key%d" % n, b"value" * n, []) for n in range(20)])
    yield "idempotent", batch([(b"k", b"v", [])], producer=(7, 1, 100))
    yield "transactional", batch([(b"k", b"v", [])], attributes=0x10, producer=(7, 1, 100))
    yield "control", batch([(b"\0\0\0\1", b"\0\0\0\0\0\0", [])], attributes=0x30, producer=(7, 1, -1))
    yield "log-append-time", batch([(b"k", b"v", [])], attributes=8)
    for codec in range(1, 8):
        yield f"codec{codec}", batch([(b"k", b"v", [])], attributes=codec)


def amqp_golden():
    """What AMQP's clients encode: kind, name, bytes."""
    entries = re.findall(r"(?m)^  \w+ (\w+) (\S+)\n(?:    :.*\n)*((?:    [0-9a-f]+\n)*)", AMQP.read_text())
    for number, (kind, name, digits) in enumerate(entries):
        yield kind, f"{name}-{number}", bytes.fromhex(digits.replace(" ", "").replace("\n", ""))


def amqp_payloads(kind):
    """Frames' payloads; tables have no frame around them."""
    for found, name, data in amqp_golden():
        if found == kind:
            yield name, data if kind == "table" else data[7:-1]


def amqp_tables():
    yield from amqp_payloads("table")
    # Nested as deep as allowed, and one deeper.
    for depth in (64, 65):
        data = b""
        for _ in range(depth - 1):
            data = b"\1kF" + struct.pack(">I", len(data)) + data
        yield f"deep-{depth}", data


def amqp_streams():
    """A first byte that allows large frames, the protocol header, frames."""
    start = b"\xffAMQP\0\0\x09\1"
    frames = [(kind, name, data) for kind, name, data in amqp_golden() if kind != "table"]
    for kind, name, data in frames:
        if kind == "method":
            yield name, start + data
    publish = b"\0\x3c\0\x28\0\0\0\1q\0"
    for _, name, data in [frame for frame in frames if frame[0] == "header"][::3]:
        method = b"\1\0\7" + struct.pack(">I", len(publish)) + publish + b"\xce"
        header = data[:11] + struct.pack(">Q", 6) + data[19:]
        body = b"".join(b"\3\0\7\0\0\0\3" + part + b"\xce" for part in (b"abc", b"def"))
        yield f"content-{name}", start + b"\x08\0\0\0\0\0\0\xce" + method + header + body


def configurations():
    """The examples of the guides, as files."""
    for guide in ("configuration", "security"):
        text = (ROOT / "docs" / "guides" / f"{guide}.md").read_text()
        for number, block in enumerate(re.findall(r"(?s)```(?:properties|text)\n(.*?)```", text)):
            yield f"{guide}-{number}", block.encode()


def listener_urls():
    text = "".join((ROOT / "docs" / "guides" / f"{guide}.md").read_text() for guide in ("configuration", "security"))
    for number, url in enumerate(sorted(set(re.findall(r"(?:kafka|amqp|http)s?(?:\+tls)?://[^\s'`,|)]+", text)))):
        yield f"guide-{number}", url.encode()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    directory = pathlib.Path(sys.argv[2])
    directory.mkdir(parents=True, exist_ok=True)
    for name, data in KINDS.get(sys.argv[1], tuple)():
        (directory / name).write_bytes(data)


KINDS = {
    "request-frames": lambda: [*requests(), *captured_requests()],
    "record-batches": batches,
    "client-frames": captured_responses,
    "connection": captured_streams,
    "amqp-frames": amqp_streams,
    "amqp-methods": lambda: amqp_payloads("method"),
    "amqp-tables": amqp_tables,
    "amqp-content-headers": lambda: amqp_payloads("header"),
    "configuration-files": configurations,
    "listener-urls": listener_urls,
}

if __name__ == "__main__":
    main()
