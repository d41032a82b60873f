"""Wire: a raw connection to the Kafka port, and readers and writers of the few messages the wire tests need."""

import socket
import struct

API = {
    "Produce": 0, "Fetch": 1, "ListOffsets": 2, "Metadata": 3, "OffsetCommit": 8, "OffsetFetch": 9,
    "FindCoordinator": 10, "JoinGroup": 11, "Heartbeat": 12, "LeaveGroup": 13, "SyncGroup": 14, "SaslHandshake": 17, "ApiVersions": 18,
    "CreateTopics": 19, "DeleteTopics": 20, "InitProducerId": 22, "OffsetForLeaderEpoch": 23, "DescribeConfigs": 32,
    "SaslAuthenticate": 36, "DescribeClientQuotas": 48, "AlterClientQuotas": 49,
}


class Closed(Exception):
    """The server closed the connection."""


class Fields:
    """Reads a response field by field."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError(f"{count} bytes wanted at {self.at}, the response has {len(self.data)}")
        part = self.data[self.at:self.at + count]
        self.at += count
        return part

    def _number(self, layout):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def int8(self):
        return self._number(">b")

    def int16(self):
        return self._number(">h")

    def int32(self):
        return self._number(">i")

    def int64(self):
        return self._number(">q")

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def string(self):
        length = self.int16()
        return None if length < 0 else self.take(length).decode()

    def compact_string(self):
        length = self.uvarint() - 1
        return None if length < 0 else self.take(length).decode()

    def bytes32(self):
        length = self.int32()
        return None if length < 0 else self.take(length)

    def compact_bytes(self):
        length = self.uvarint() - 1
        return None if length < 0 else self.take(length)

    def tags(self):
        return {self.uvarint(): self.take(self.uvarint()) for _ in range(self.uvarint())}

    def end(self):
        if self.at != len(self.data):
            raise ValueError(f"{len(self.data) - self.at} bytes are left over after byte {self.at}")


def uvarint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(text):
    return struct.pack(">h", -1) if text is None else struct.pack(">h", len(text.encode())) + text.encode()


def compact_string(text):
    return b"\0" if text is None else uvarint(len(text.encode()) + 1) + text.encode()


class Wire:
    """One connection; requests go out as given, so that wrong ones can be sent too."""

    def __init__(self, server, timeout_seconds=10):
        self.socket = socket.create_connection((server.host, server.port), timeout=timeout_seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_raw(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed() from error

    def send(self, api, version, body, flexible=False, client="wire"):
        """Sends one framed request and returns its correlation id; `flexible` ends its header with tags."""
        self.correlation += 1
        header = struct.pack(">hhi", API.get(api, api), version, self.correlation) + string(client)
        if flexible:
            header += b"\0"
        frame = header + body
        self.send_raw(struct.pack(">i", len(frame)) + frame)
        return self.correlation

    def _exactly(self, count):
        data = b""
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionResetError as error:
                raise Closed() from error
            if not part:
                raise Closed()
            data += part
        return data

    def receive(self, flexible=False):
        """The next response: its correlation id and its fields after the header."""
        size = struct.unpack(">i", self._exactly(4))[0]
        fields = Fields(self._exactly(size))
        correlation = fields.int32()
        if flexible:
            fields.tags()
        return correlation, fields

    def call(self, api, version, body, flexible=False, flexible_response=None):
        """Sends a request and returns its response's fields."""
        sent = self.send(api, version, body, flexible)
        got, fields = self.receive(flexible if flexible_response is None else flexible_response)
        if got != sent:
            raise ValueError(f"response {got} came for request {sent}")
        return fields

    def is_closed(self):
        """Whether the server closes the connection without another byte."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def is_silent(self, seconds):
        """Whether nothing arrives, and the connection stays open, for `seconds`."""
        before = self.socket.gettimeout()
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(1)
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(before)


def api_versions(wire):
    """The advertised ranges, by API key."""
    fields = wire.call("ApiVersions", 0, b"")
    error = fields.int16()
    ranges = {key: (low, high) for key, low, high in
              ((fields.int16(), fields.int16(), fields.int16()) for _ in range(fields.int32()))}
    fields.end()
    if error:
        raise ValueError(f"ApiVersions answered error {error}")
    return ranges


def log_in(wire, user, password):
    """Says who the client is, by PLAIN; returns the error."""
    fields = wire.call("SaslHandshake", 1, string("PLAIN"))
    assert fields.int16() == 0
    message = b"\0" + user.encode() + b"\0" + password.encode()
    return wire.call("SaslAuthenticate", 0, struct.pack(">i", len(message)) + message).int16()


def produce_body(topic, partition, batch, acks=-1, timeout_ms=10_000):
    """A Produce request of versions 3 to 8."""
    return (string(None) + struct.pack(">hi", acks, timeout_ms) + struct.pack(">i", 1) + string(topic) +
            struct.pack(">iii", 1, partition, len(batch)) + batch)


def produce(wire, topic, partition, batch, acks=-1, version=7):
    """Sends one batch; returns (error, base offset)."""
    fields = wire.call("Produce", version, produce_body(topic, partition, batch, acks))
    assert fields.int32() == 1 and fields.string() == topic and fields.int32() == 1
    assert fields.int32() == partition
    error, base = fields.int16(), fields.int64()
    return error, base


def fetch_body(partitions, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, partition_max_bytes=1 << 20, session=(0, -1),
               forgotten=()):
    """A Fetch request of version 11; partitions are (topic, partition, offset), forgotten (topic, partition)."""
    body = struct.pack(">iiiib", -1, max_wait_ms, min_bytes, max_bytes, 0) + struct.pack(">ii", *session)
    body += struct.pack(">i", len(partitions))
    for topic, partition, offset in partitions:
        body += string(topic) + struct.pack(">i", 1)
        body += struct.pack(">iiqqi", partition, -1, offset, -1, partition_max_bytes)
    body += struct.pack(">i", len(forgotten))
    for topic, partition in forgotten:
        body += string(topic) + struct.pack(">ii", 1, partition)
    return body + string("")


def read_fetch(fields):
    """A Fetch response of version 11: (error, session id, {(topic, partition): (error, high watermark, records)})."""
    fields.int32()
    error, session = fields.int16(), fields.int32()
    found = {}
    for _ in range(fields.int32()):
        topic = fields.string()
        for _ in range(fields.int32()):
            partition, partition_error = fields.int32(), fields.int16()
            high_watermark, _, _ = fields.int64(), fields.int64(), fields.int64()
            for _ in range(max(0, fields.int32())):
                fields.take(16)
            fields.int32()
            found[topic, partition] = (partition_error, high_watermark, fields.bytes32() or b"")
    fields.end()
    return error, session, found


def fetch(wire, partitions, **options):
    """Sends a Fetch request of version 11 and reads its response; see `fetch_body` and `read_fetch`."""
    return read_fetch(wire.call("Fetch", 11, fetch_body(partitions, **options)))


def create_topic(wire, topic, partitions=1, configs=()):
    """Creates a topic; returns its error code (36 is: exists)."""
    body = struct.pack(">i", 1) + string(topic) + struct.pack(">ihii", partitions, 1, 0, len(configs))
    for name, value in configs:
        body += string(name) + string(value)
    body += struct.pack(">i?", 10_000, False)
    fields = wire.call("CreateTopics", 4, body)
    fields.int32()
    assert fields.int32() == 1 and fields.string() == topic
    return fields.int16()


def delete_topic(wire, topic):
    """Deletes a topic; returns its error code."""
    fields = wire.call("DeleteTopics", 3, struct.pack(">i", 1) + string(topic) + struct.pack(">i", 10_000))
    fields.int32()
    assert fields.int32() == 1 and fields.string() == topic
    return fields.int16()


def alter_client_quotas(wire, entity, limits):
    """Sets quotas of an entity, a list of (type, name); returns the error code."""
    body = struct.pack(">ii", 1, len(entity)) + b"".join(string(kind) + string(name) for kind, name in entity)
    body += struct.pack(">i", len(limits))
    body += b"".join(string(key) + struct.pack(">d?", value, False) for key, value in limits.items()) + b"\0"
    fields = wire.call("AlterClientQuotas", 0, body)
    assert (fields.int32(), fields.int32()) == (0, 1)
    error = fields.int16()
    fields.string()
    for _ in range(fields.int32()):
        fields.string(), fields.string()
    fields.end()
    return error


def describe_client_quotas(wire, kind, name):
    """The quotas of exactly one entity with one part."""
    body = struct.pack(">i", 1) + string(kind) + b"\0" + string(name) + b"\1"
    fields = wire.call("DescribeClientQuotas", 0, body)
    assert (fields.int32(), fields.int16()) == (0, 0)
    fields.string()
    found = {}
    for _ in range(fields.int32()):
        for _ in range(fields.int32()):
            fields.string(), fields.string()
        for _ in range(fields.int32()):
            key = fields.string()
            (found[key],) = struct.unpack(">d", fields.take(8))
    fields.end()
    return found
