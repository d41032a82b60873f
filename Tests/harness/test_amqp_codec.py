"""The AMQP tests' own codec against pamqp, in both directions, and the ready line with and without AMQP."""

import datetime

import pamqp.base
import pamqp.commands
import pamqp.frame
import pamqp.header
import pytest
from millrace_tests import amqp_codec as codec
from millrace_tests.amqp import shortened
from millrace_tests.server import READY

VALUES = {"octet": 7, "short": 600, "long": 70_000, "longlong": 1 << 40, "shortstr": "abc", "longstr": "def",
          "table": {"a": 1, "b": "two", "c": {"d": [True, None, -5]}}}
# pamqp knows no update-secret; its access request is of another version.
OTHERS = {"connection.update_secret", "connection.update_secret_ok", "access.request", "access.request_ok"}


def theirs(name):
    return pamqp.commands.INDEX_MAPPING[codec.METHODS[name][0] << 16 | codec.METHODS[name][1]]


@pytest.mark.parametrize("name", sorted(set(codec.METHODS) - OTHERS))
def test_every_method_is_written_and_read_as_pamqp_does(name):
    ours = {}
    for at, (key, kind, _) in enumerate(codec.METHODS[name][2]):
        ours[key] = at % 2 == 0 if kind == "bit" else VALUES[kind]
    payload = codec.method_payload(name, **ours)
    _, channel, frame = pamqp.frame.unmarshal(codec.frame(codec.METHOD, 3, payload))
    assert channel == 3
    assert type(frame) is theirs(name)
    renamed = {"global_": "global_", "type": "exchange_type"}
    for key, value in ours.items():
        if key in ("ticket",):
            continue
        got = getattr(frame, renamed.get(key, key))
        assert (got.decode() if isinstance(got, bytes) else got) == value, key
    read = codec.read_method(payload)
    assert (read.name, read.arguments) == (name, ours)


def test_properties_are_read_by_pamqp_as_written():
    values = {"content_type": "text/plain", "headers": {"n": 1, "s": "x"}, "delivery_mode": 2, "priority": 5,
              "correlation_id": "c", "expiration": "10", "timestamp": 1_700_000_000, "app_id": "a"}
    payload = codec.header_payload(123, values)
    _, _, header = pamqp.frame.unmarshal(codec.frame(codec.HEADER, 1, payload))
    assert header.body_size == 123
    assert header.properties.headers == values["headers"]
    assert header.properties.timestamp == datetime.datetime.fromtimestamp(1_700_000_000, datetime.timezone.utc)
    assert (header.properties.delivery_mode, header.properties.app_id) == (2, "a")
    assert codec.read_header(payload) == (123, values)


def test_long_texts_are_cut_to_255_bytes():
    assert shortened("x" * 255) == "x" * 255
    assert shortened("x" * 256) == "x" * 252 + "..."


def test_the_ready_line_names_each_listener():
    for words in ["kafka=127.0.0.1:9092", "kafka=127.0.0.1:9092 amqp=127.0.0.1:5672", "kafka+tls=[::1]:9093 amqps=[::1]:5671"]:
        match = READY.match(f"millrace ready {words} pid=7")
        assert (match["listeners"].strip(), match["pid"]) == (words, "7")
    assert not READY.match("millrace ready pid=7")
