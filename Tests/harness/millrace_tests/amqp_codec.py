"""AMQP 0-9-1 values, methods and frames, written from the protocol alone so that wrong ones can be sent too.

A frame is type (1), channel (2), size (4), payload, end (1, 0xCE). A method's payload is class id (2), method id (2) and its
arguments; consecutive bits share octets. Types in the table below: octet, short, long, longlong, shortstr, longstr, bit,
timestamp, table.
"""

import struct
from dataclasses import dataclass, field

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END = 0xCE
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"

# class.method ids arguments; `=` gives the value that is sent when the caller names none.
_METHODS = """
connection.start 10.10 version_major:octet version_minor:octet server_properties:table mechanisms:longstr locales:longstr
connection.start_ok 10.11 client_properties:table={} mechanism:shortstr=PLAIN response:longstr locale:shortstr=en_US
connection.secure 10.20 challenge:longstr
connection.secure_ok 10.21 response:longstr
connection.tune 10.30 channel_max:short frame_max:long heartbeat:short
connection.tune_ok 10.31 channel_max:short=0 frame_max:long=0 heartbeat:short=0
connection.open 10.40 virtual_host:shortstr=/ capabilities:shortstr= insist:bit=0
connection.open_ok 10.41 known_hosts:shortstr
connection.close 10.50 reply_code:short=200 reply_text:shortstr= class_id:short=0 method_id:short=0
connection.close_ok 10.51
connection.blocked 10.60 reason:shortstr
connection.unblocked 10.61
connection.update_secret 10.70 new_secret:longstr reason:shortstr=
connection.update_secret_ok 10.71
channel.open 20.10 out_of_band:shortstr=
channel.open_ok 20.11 channel_id:longstr
channel.flow 20.20 active:bit
channel.flow_ok 20.21 active:bit
channel.close 20.40 reply_code:short=200 reply_text:shortstr= class_id:short=0 method_id:short=0
channel.close_ok 20.41
access.request 30.10 realm:shortstr=/data exclusive:bit=0 passive:bit=1 active:bit=1 write:bit=1 read:bit=1
access.request_ok 30.11 ticket:short
exchange.declare 40.10 ticket:short=0 exchange:shortstr type:shortstr=direct passive:bit=0 durable:bit=0 auto_delete:bit=0 internal:bit=0 nowait:bit=0 arguments:table={}
exchange.declare_ok 40.11
exchange.delete 40.20 ticket:short=0 exchange:shortstr if_unused:bit=0 nowait:bit=0
exchange.delete_ok 40.21
exchange.bind 40.30 ticket:short=0 destination:shortstr source:shortstr routing_key:shortstr= nowait:bit=0 arguments:table={}
exchange.bind_ok 40.31
exchange.unbind 40.40 ticket:short=0 destination:shortstr source:shortstr routing_key:shortstr= nowait:bit=0 arguments:table={}
exchange.unbind_ok 40.51
queue.declare 50.10 ticket:short=0 queue:shortstr= passive:bit=0 durable:bit=0 exclusive:bit=0 auto_delete:bit=0 nowait:bit=0 arguments:table={}
queue.declare_ok 50.11 queue:shortstr message_count:long consumer_count:long
queue.bind 50.20 ticket:short=0 queue:shortstr= exchange:shortstr routing_key:shortstr= nowait:bit=0 arguments:table={}
queue.bind_ok 50.21
queue.purge 50.30 ticket:short=0 queue:shortstr= nowait:bit=0
queue.purge_ok 50.31 message_count:long
queue.delete 50.40 ticket:short=0 queue:shortstr= if_unused:bit=0 if_empty:bit=0 nowait:bit=0
queue.delete_ok 50.41 message_count:long
queue.unbind 50.50 ticket:short=0 queue:shortstr= exchange:shortstr routing_key:shortstr= arguments:table={}
queue.unbind_ok 50.51
basic.qos 60.10 prefetch_size:long=0 prefetch_count:short=0 global_:bit=0
basic.qos_ok 60.11
basic.consume 60.20 ticket:short=0 queue:shortstr= consumer_tag:shortstr= no_local:bit=0 no_ack:bit=0 exclusive:bit=0 nowait:bit=0 arguments:table={}
basic.consume_ok 60.21 consumer_tag:shortstr
basic.cancel 60.30 consumer_tag:shortstr nowait:bit=0
basic.cancel_ok 60.31 consumer_tag:shortstr
basic.publish 60.40 ticket:short=0 exchange:shortstr= routing_key:shortstr= mandatory:bit=0 immediate:bit=0
basic.return 60.50 reply_code:short reply_text:shortstr exchange:shortstr routing_key:shortstr
basic.deliver 60.60 consumer_tag:shortstr delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr
basic.get 60.70 ticket:short=0 queue:shortstr= no_ack:bit=0
basic.get_ok 60.71 delivery_tag:longlong redelivered:bit exchange:shortstr routing_key:shortstr message_count:long
basic.get_empty 60.72 cluster_id:shortstr
basic.ack 60.80 delivery_tag:longlong=0 multiple:bit=0
basic.reject 60.90 delivery_tag:longlong requeue:bit=1
basic.recover_async 60.100 requeue:bit=0
basic.recover 60.110 requeue:bit=0
basic.recover_ok 60.111
basic.nack 60.120 delivery_tag:longlong=0 multiple:bit=0 requeue:bit=1
confirm.select 85.10 nowait:bit=0
confirm.select_ok 85.11
tx.select 90.10
tx.select_ok 90.11
tx.commit 90.20
tx.commit_ok 90.21
tx.rollback 90.30
tx.rollback_ok 90.31
"""
WITH_CONTENT = {"basic.publish", "basic.return", "basic.deliver", "basic.get_ok"}
PROPERTIES = [
    ("content_type", "shortstr"), ("content_encoding", "shortstr"), ("headers", "table"), ("delivery_mode", "octet"),
    ("priority", "octet"), ("correlation_id", "shortstr"), ("reply_to", "shortstr"), ("expiration", "shortstr"),
    ("message_id", "shortstr"), ("timestamp", "timestamp"), ("type", "shortstr"), ("user_id", "shortstr"),
    ("app_id", "shortstr"), ("cluster_id", "shortstr"),
]
_STRUCTS = {"octet": ">B", "short": ">H", "long": ">I", "longlong": ">Q", "timestamp": ">Q"}
_TABLE_STRUCTS = {"t": ">?", "b": ">b", "B": ">B", "s": ">h", "u": ">H", "I": ">i", "i": ">I", "l": ">q", "f": ">f",
                  "d": ">d", "T": ">Q"}


@dataclass(frozen=True)
class Typed:
    """A table value of a given type code, where Python's type alone would choose another."""
    code: str
    value: object


@dataclass
class Method:
    """A decoded method; its arguments are attributes. `properties` and `body` are set when content came with it."""
    name: str
    arguments: dict
    properties: dict = field(default_factory=dict)
    body: bytes = b""

    def __getattr__(self, key):
        try:
            return self.__dict__["arguments"][key]
        except KeyError:
            raise AttributeError(f"{self.name} has no {key}") from None

    @property
    def headers(self):
        return self.properties.get("headers", {})


def _parse_methods():
    found = {}
    for line in _METHODS.strip().splitlines():
        name, ids, *arguments = line.split(" ")
        fields = []
        for one in arguments:
            key, _, rest = one.partition(":")
            kind, equals, default = rest.partition("=")
            if kind == "table":
                default = {}
            elif kind not in ("shortstr", "longstr"):
                default = int(default or 0)
            fields.append((key, kind, default if equals else None))
        class_id, method_id = map(int, ids.split("."))
        found[name] = (class_id, method_id, fields)
    return found


METHODS = _parse_methods()
NAMES = {(one[0], one[1]): name for name, one in METHODS.items()}


def shortstr(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">B", len(data)) + data


def longstr(text):
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">I", len(data)) + data


def table(values):
    return longstr(b"".join(shortstr(key) + table_value(value) for key, value in values.items()))


def table_value(value):
    if isinstance(value, Typed):
        if value.code in _TABLE_STRUCTS:
            return value.code.encode() + struct.pack(_TABLE_STRUCTS[value.code], value.value)
        return value.code.encode() + value.value
    if value is None:
        return b"V"
    if isinstance(value, bool):
        return b"t" + struct.pack(">?", value)
    if isinstance(value, int):
        return b"I" + struct.pack(">i", value) if -2**31 <= value < 2**31 else b"l" + struct.pack(">q", value)
    if isinstance(value, float):
        return b"d" + struct.pack(">d", value)
    if isinstance(value, str):
        return b"S" + longstr(value)
    if isinstance(value, bytes):
        return b"x" + longstr(value)
    if isinstance(value, dict):
        return b"F" + table(value)
    if isinstance(value, (list, tuple)):
        return b"A" + longstr(b"".join(map(table_value, value)))
    raise TypeError(f"no table type for {value!r}")


def argument(kind, value):
    if kind == "shortstr":
        return shortstr(value)
    if kind == "longstr":
        return longstr(value)
    if kind == "table":
        return table(value)
    return struct.pack(_STRUCTS[kind], value)


def method_payload(name, **given):
    class_id, method_id, fields = METHODS[name]
    out, bits, bit_at = bytearray(struct.pack(">HH", class_id, method_id)), 0, 0
    for key, kind, default in fields:
        value = given.pop(key, default)
        if value is None:
            raise TypeError(f"{name} needs {key}")
        if kind == "bit":
            bits |= bool(value) << bit_at
            bit_at += 1
            continue
        if bit_at:
            out.append(bits)
            bits = bit_at = 0
        out += argument(kind, value)
    if bit_at:
        out.append(bits)
    if given:
        raise TypeError(f"{name} has no {', '.join(given)}")
    return bytes(out)


def header_payload(size, properties, class_id=60):
    known = dict(PROPERTIES)
    if wrong := set(properties) - set(known):
        raise TypeError(f"no such properties: {wrong}")
    flags, values = 0, b""
    for at, (key, kind) in enumerate(PROPERTIES):
        if properties.get(key) is not None:
            flags |= 1 << (15 - at)
            values += argument(kind, properties[key])
    return struct.pack(">HHQH", class_id, 0, size, flags) + values


def frame(kind, channel, payload, end=FRAME_END):
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + bytes([end])


class Reader:
    """Reads arguments one after the other."""

    def __init__(self, data, at=0):
        self.data, self.at = data, at

    def take(self, count):
        if self.at + count > len(self.data):
            raise ValueError(f"{count} bytes wanted at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count:self.at]

    def unpack(self, layout):
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def argument(self, kind):
        if kind == "shortstr":
            return self.take(self.unpack(">B")).decode()
        if kind == "longstr":
            return self.take(self.unpack(">I")).decode()
        if kind == "table":
            return self.table()
        return self.unpack(_STRUCTS[kind])

    def table(self):
        end = self.unpack(">I") + self.at
        values = {}
        while self.at < end:
            key = self.argument("shortstr")
            values[key] = self.table_value()
        return values

    def table_value(self):
        code = self.take(1).decode()
        if code in _TABLE_STRUCTS:
            return self.unpack(_TABLE_STRUCTS[code])
        if code == "S":
            data = self.take(self.unpack(">I"))
            try:
                return data.decode()
            except UnicodeDecodeError:
                return data
        if code == "x":
            return self.take(self.unpack(">I"))
        if code == "F":
            return self.table()
        if code == "A":
            end = self.unpack(">I") + self.at
            values = []
            while self.at < end:
                values.append(self.table_value())
            return values
        if code == "D":
            scale = self.unpack(">B")
            return self.unpack(">i") / 10 ** scale
        if code == "V":
            return None
        raise ValueError(f"unknown type code {code!r} in a table")


def read_method(payload):
    reader = Reader(payload)
    ids = (reader.unpack(">H"), reader.unpack(">H"))
    name = NAMES[ids]
    values, bits, bit_at = {}, 0, 8
    for key, kind, _ in METHODS[name][2]:
        if kind == "bit":
            if bit_at == 8:
                bits, bit_at = reader.unpack(">B"), 0
            values[key] = bool(bits >> bit_at & 1)
            bit_at += 1
        else:
            bit_at = 8
            values[key] = reader.argument(kind)
    if reader.at != len(payload):
        raise ValueError(f"{len(payload) - reader.at} bytes are left over after {name}")
    return Method(name, values)


def read_header(payload):
    """(body size, properties)"""
    reader = Reader(payload)
    reader.take(4)
    size, flags = reader.unpack(">Q"), reader.unpack(">H")
    values = {key: reader.argument(kind) for at, (key, kind) in enumerate(PROPERTIES) if flags & 1 << (15 - at)}
    if reader.at != len(payload):
        raise ValueError(f"{len(payload) - reader.at} bytes are left over after the properties")
    return size, values
