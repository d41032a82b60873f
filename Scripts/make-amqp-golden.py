#!/usr/bin/env python3
"""Writes Tests/MillraceAMQPProtocolTests/GoldenFrames.swift: frames and tables as pika, pamqp and py-amqp encode them.

usage: pip install pika==1.4.4 pamqp==4.0.1 amqp==5.4.2; make-amqp-golden.py

Every method three times with seeded random fields, content headers with random properties, and a table with each type that
an encoder chooses by itself.
"""

import datetime
import decimal
import pathlib
import random
import re

import amqp.basic_message
import amqp.serialization
import pamqp.commands
import pamqp.encode
import pamqp.frame
import pamqp.header
import pika.data
import pika.frame
import pika.spec

OUTPUT = pathlib.Path(__file__).resolve().parent.parent / "Tests" / "MillraceAMQPProtocolTests" / "GoldenFrames.swift"
CLASSES = ("Connection", "Channel", "Access", "Exchange", "Queue", "Basic", "Confirm", "Tx")
# Fields whose names differ between encoders.
SAME = {"exchange_type": "type", "global_": "global"}
WORDS = ("", "a", "orders", "amq.rabbitmq.reply-to", "größe", "日本", "x" * 255)
TIMESTAMP = 1_700_000_000

# pamqp does not have class access.
ACCESS = {
    "Request": {"realm": "shortstr", "exclusive": "bit", "passive": "bit", "active": "bit", "write": "bit", "read": "bit"},
    "RequestOk": {"ticket": "short"},
}


def table(chance, depth=0):
    """A table of types that every encoder writes alike."""
    out = {}
    for number in range(chance.randrange(4)):
        values = [chance.choice(WORDS), chance.random() < 0.5, None, chance.randrange(-(2**62), -(2**32))]
        if depth < 2:
            values += [table(chance, depth + 1), [chance.choice(WORDS), None]]
        out[f"x-{number}{chance.choice('abc')}"] = chance.choice(values)
    return out


def value(kind, chance):
    widths = {"octet": 8, "short": 16, "long": 32, "longlong": 63}
    if kind in widths:
        return chance.choice((0, 1, 2 ** widths[kind] - 1, chance.randrange(2 ** widths[kind])))
    return {
        "bit": lambda: chance.random() < 0.5,
        "shortstr": lambda: chance.choice(WORDS),
        "longstr": lambda: chance.choice(WORDS) * chance.randrange(1, 4),
        "table": lambda: table(chance),
        "timestamp": lambda: TIMESTAMP + chance.randrange(10**6),
    }[kind]()


def encoded_table(values):
    pieces = []
    pika.data.encode_table(pieces, values)
    return b"".join(pieces)[4:]


def text(kind, given):
    if kind == "bit":
        return "true" if given else "false"
    if kind == "table":
        return encoded_table(given).hex() or "-"
    return (given.encode().hex() or "-") if isinstance(given, str) else str(given)


def types_of(cls, name):
    if cls == "Access":
        return ACCESS[name]
    made = getattr(getattr(pamqp.commands, cls), name)
    return {SAME.get(field, field): made.amqp_type(field) for field in made.attributes()}


def dashed(name):
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", name).lower()


def methods():
    chance = random.Random(91)
    for cls in CLASSES:
        for name in sorted(n for n in dir(getattr(pika.spec, cls)) if n[0].isupper() and not n.isupper()):
            types = types_of(cls, name)
            for turn in range(3):
                fields = {field: value(kind, chance) for field, kind in types.items()}
                channel = chance.choice((0, 1, 2047, 65535))
                described = [f"channel={channel}"] + [f"{f}={text(types[f], v)}" for f, v in fields.items()]
                made = getattr(getattr(pika.spec, cls), name)(**{"global_qos" if f == "global" else f: v for f, v in fields.items()})
                # An empty table is None to pika's constructor, and an empty one again to its encoder.
                yield "pika", "method", f"{cls.lower()}.{dashed(name)}", described, pika.frame.Method(channel, made).marshal()
                if cls != "Access":
                    other = getattr(getattr(pamqp.commands, cls), name)
                    other.validate = lambda self: None  # It refuses what is reserved.
                    back = {own: given for own, given in SAME.items()}
                    named = {
                        next((own for own, given in back.items() if given == f and own in other.attributes()), f): v
                        for f, v in fields.items()
                    }
                    frame = pamqp.frame.marshal(other(**named), channel)
                    yield "pamqp", "method", f"{cls.lower()}.{dashed(name)}", described, frame


PROPERTIES = {
    "content_type": "shortstr", "content_encoding": "shortstr", "headers": "table", "delivery_mode": "octet",
    "priority": "octet", "correlation_id": "shortstr", "reply_to": "shortstr", "expiration": "shortstr",
    "message_id": "shortstr", "timestamp": "timestamp", "type": "shortstr", "user_id": "shortstr", "app_id": "shortstr",
    "cluster_id": "shortstr",
}  # fmt: skip


def contents():
    chance = random.Random(92)
    names = list(PROPERTIES)
    for turn in range(24):
        chosen = names if turn == 0 else [] if turn == 1 else [n for n in names if chance.random() < 0.5]
        given = {name: value(PROPERTIES[name], chance) for name in chosen}
        given = {name: v if v != "" and v != {} else ("y" if v == "" else {"k": "v"}) for name, v in given.items()}
        size = chance.choice((0, 1, 2**40, chance.randrange(2**32)))
        described = ["channel=7", f"body_size={size}"] + [f"{n}={text(PROPERTIES[n], v)}" for n, v in given.items()]
        frame = pika.frame.Header(7, size, pika.spec.BasicProperties(**given)).marshal()
        yield "pika", "header", "basic", described, frame
        timed = dict(given)
        if "timestamp" in timed:
            timed["timestamp"] = datetime.datetime.fromtimestamp(timed["timestamp"], datetime.timezone.utc)
        made = {SAME_PROPERTY.get(n, n): v for n, v in timed.items()}
        header = pamqp.header.ContentHeader(0, size, pamqp.commands.Basic.Properties(**made))
        yield "pamqp", "header", "basic", described, pamqp.frame.marshal(header, 7)
        if "cluster_id" in given:
            # py-amqp writes it as others do, but takes it for granted that nobody sets it.
            continue
        named = {("application_headers" if n == "headers" else n): v for n, v in given.items()}
        flags = amqp.basic_message.Message("", **named)._serialize_properties()
        payload = b"\0\x3c\0\0" + size.to_bytes(8, "big") + flags
        yield "amqp", "header", "basic", described, b"\2\0\7" + len(payload).to_bytes(4, "big") + payload + b"\xce"


pamqp.commands.Basic.Properties.validate = lambda self: None

SAME_PROPERTY = {"type": "message_type"}

EVERY_TYPE = {
    "text": "größe", "yes": True, "no": False, "small": 5, "negative": -5, "wide": 2**40, "low": -(2**62), "void": None,
    "decimal": decimal.Decimal("-12.34"), "time": datetime.datetime(2023, 11, 14, 22, 13, 20, tzinfo=datetime.timezone.utc),
    "table": {"inner": {"deep": 1}}, "array": ["a", 1, None, [True], {"k": "v"}], "float": 1.5, "bytes": b"\0\xff",
}  # fmt: skip


def tables():
    values = {k: v for k, v in EVERY_TYPE.items() if k != "float"}
    yield "pika", "table", "every-type", [], b"T" + encoded_table(values)
    yield "pamqp", "table", "every-type", [], b"T" + pamqp.encode.field_table({**EVERY_TYPE, "bytes": bytearray(b"\0\xff")})[4:]
    yield "amqp", "table", "every-type", [], b"T" + amqp.serialization.dumps("F", [EVERY_TYPE])[4:]


def main():
    lines = []
    for encoder, kind, name, fields, data in [*methods(), *contents(), *tables()]:
        if kind == "table":
            data = data[1:]
        lines.append(f"  {encoder} {kind} {name}")
        told = ";".join(fields)
        lines += ["    :" + told[i : i + 111] for i in range(0, len(told), 111)]
        digits = data.hex()
        lines += ["    " + digits[i : i + 112] for i in range(0, len(digits), 112)]
    head = [
        "// GoldenFrames: frames and tables as pika 1.4.4, pamqp 4.0.1 and py-amqp 5.4.2 encode them.",
        "// Generated by Scripts/make-amqp-golden.py.",
        "",
        "/// Each: encoder, kind and name; behind colons its fields (text and tables in hexadecimal, - is empty); then its",
        "/// bytes.",
        'let goldenFrames = """',
    ]
    OUTPUT.write_text("\n".join([*head, *lines, '  """', ""]))


if __name__ == "__main__":
    main()
