"""A small AMQP 0-9-1 client for tests: it sends what it is told, keeps what arrives in order, and shows every close.

One thread uses a connection. Nothing is read but while a caller waits, so what a test sees does not depend on timing.
"""

import contextlib
import re
import socket
import struct
import time

from . import amqp_codec as codec
from .amqp_codec import Method

WAIT_SECONDS = 20


class Closed(Exception):
    """The connection ended without a word."""


class ErrorClose(Exception):
    """The server closed a channel or a connection with a code and a text."""

    def __init__(self, method):
        self.code, self.text = method.reply_code, method.reply_text
        self.method = codec.NAMES.get((method.class_id, method.method_id), (method.class_id, method.method_id))
        super().__init__(f"{type(self).__name__}: {self.code} {self.text!r} for {self.method}")


class ChannelClosed(ErrorClose):
    pass


class ConnectionClosed(ErrorClose):
    pass


def shortened(text):
    """A short string holds 255 bytes: RabbitMQ cuts what is longer, and ends it with three dots."""
    return text if len(text.encode()) <= 255 else text[:252] + "..."


@contextlib.contextmanager
def _error(kind, code, text, method):
    try:
        yield
    except ErrorClose as got:
        assert type(got) is kind, f"expected {kind.__name__}, got {got}"
        matches = got.text == shortened(text) if isinstance(text, str) else text.fullmatch(got.text)
        assert got.code == code and matches, f"expected {code} {text!r}, got {got.code} {got.text!r}"
        if method is not None:
            assert got.method == method, f"the close names {got.method}, expected {method}"
    else:
        raise AssertionError(f"expected {kind.__name__} {code} {text!r}, nothing was closed")


def beginning(text):
    """A pattern for texts that begin so."""
    return re.compile(re.escape(text) + ".+")


def channel_error(code, text, method=None):
    """What runs inside must close the channel with this code, this text (a string or a compiled pattern) and method."""
    return _error(ChannelClosed, code, text, method)


def connection_error(code, text, method=None):
    """What runs inside must close the whole connection so."""
    return _error(ConnectionClosed, code, text, method)


CAPABILITIES = {"publisher_confirms": True, "exchange_exchange_bindings": True, "basic.nack": True,
                "consumer_cancel_notify": True, "connection.blocked": True, "authentication_failure_close": True}


class Connection:
    """One connection. `steps` says how far the constructor goes: "tcp", "start", "tune" or "open"."""

    def __init__(self, server, user="guest", password="guest", vhost="/", steps="open", channel_max=0, frame_max=None,
                 heartbeat=0, capabilities=None, header=codec.PROTOCOL_HEADER, mechanism="PLAIN", response=None):
        self.socket = socket.create_connection((server.host, server.port), timeout=WAIT_SECONDS)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()
        self.channels = {}
        self.closed_by = None
        self.heartbeats = 0
        self.frame_sizes = []  # payload sizes of the body frames that came
        self.frame_max = 131072
        self.zero = Channel(self, 0)
        if steps == "tcp":
            return
        self.send_raw(header)
        self.start = self.zero.wait("connection.start")
        if steps == "start":
            return
        if response is None:
            response = f"\0{user}\0{password}"
        self.zero.send("connection.start_ok", mechanism=mechanism, response=response, client_properties={
            "product": "tests", "capabilities": CAPABILITIES if capabilities is None else capabilities})
        self.tune = self.zero.wait("connection.tune")
        if steps == "tune":
            return
        self.frame_max = self.tune.frame_max if frame_max is None else frame_max
        self.zero.send("connection.tune_ok", channel_max=channel_max or self.tune.channel_max, frame_max=self.frame_max,
                       heartbeat=heartbeat)
        self.opened = self.zero.call("connection.open", virtual_host=vhost)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        """Closes as the protocol asks, when that can still be done."""
        if self.closed_by is None and self.socket.fileno() >= 0:
            with contextlib.suppress(Closed, OSError, ErrorClose):
                self.zero.call("connection.close", reply_text="bye")
        self.socket.close()

    def drop(self):
        """Ends the TCP connection without a word."""
        self.socket.close()

    def channel(self, number=None):
        number = number or next(n for n in range(1, 65536) if n not in self.channels)
        channel = Channel(self, number)
        channel.call("channel.open")
        return channel

    # Raw frames

    def send_raw(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            # The reason may have arrived before; whoever waits next will see it, or that nothing came.
            pass

    def send_frame(self, kind, channel, payload, end=codec.FRAME_END):
        self.send_raw(codec.frame(kind, channel, payload, end))

    def exactly(self, count, deadline=None):
        deadline = deadline or time.monotonic() + WAIT_SECONDS
        while len(self.buffer) < count:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            try:
                part = self.socket.recv(1 << 18)
            except ConnectionResetError as error:
                raise Closed("reset") from error
            if not part:
                raise Closed(f"ended, with {bytes(self.buffer)!r} unread")
            self.buffer += part
        data = bytes(self.buffer[:count])
        del self.buffer[:count]
        return data

    def read_frame(self, deadline=None):
        """The next frame: (type, channel, payload)."""
        kind, channel, size = struct.unpack(">BHI", self.exactly(7, deadline))
        payload = self.exactly(size + 1, deadline)
        assert payload[-1] == codec.FRAME_END, f"a frame ends with {payload[-1]:#x}"
        return kind, channel, payload[:-1]

    def read_until_closed(self):
        """What the server still sends before it ends the connection."""
        data = bytes(self.buffer)
        self.buffer.clear()
        self.socket.settimeout(WAIT_SECONDS)
        while True:
            try:
                part = self.socket.recv(65536)
            except ConnectionResetError:
                return data
            if not part:
                return data
            data += part

    def expect_close(self):
        """Waits for the server's connection.close, which is raised."""
        self.zero.wait("never")

    # Dispatch

    def receive(self, deadline):
        """Takes one frame and hands it to its channel."""
        if self.closed_by is not None:
            raise self.closed_by
        kind, number, payload = self.read_frame(deadline)
        if kind == codec.HEARTBEAT:
            self.heartbeats += 1
            return
        channel = self.zero if number == 0 else self.channels.get(number)
        assert channel is not None, f"a frame came for channel {number}, which is not open"
        if kind == codec.METHOD:
            method = codec.read_method(payload)
            if method.name == "connection.close":
                self.closed_by = ConnectionClosed(method)
                self.send_frame(codec.METHOD, 0, codec.method_payload("connection.close_ok"))
                raise self.closed_by
            if method.name == "channel.close":
                channel.closed_by = ChannelClosed(method)
                channel.send("channel.close_ok")
                self.channels.pop(number, None)
                return
        else:
            method = None
            if kind == codec.BODY:
                self.frame_sizes.append(len(payload))
        channel.take(kind, method, payload)


class Channel:
    """One channel: what arrived and nobody waited for yet stands in `inbox`, in order."""

    def __init__(self, connection, number):
        self.connection, self.number = connection, number
        self.inbox = []
        self.closed_by = None
        self.published = 0
        self._open = None  # the method whose content is arriving, and the bytes still missing
        self._missing = 0
        if number:
            connection.channels[number] = self

    def send(self, name, **arguments):
        self.connection.send_frame(codec.METHOD, self.number, codec.method_payload(name, **arguments))

    def call(self, name, **arguments):
        """Sends a method and returns its answer."""
        self.send(name, **arguments)
        if name == "basic.get":
            return self.wait("basic.get_ok", "basic.get_empty")
        answer = self.wait(name + "_ok")
        if name in ("channel.close",):
            self.connection.channels.pop(self.number, None)
        return answer

    def take(self, kind, method, payload):
        if kind == codec.METHOD:
            assert self._open is None, f"{method.name} came inside the content of {self._open.name}"
            if method.name in codec.WITH_CONTENT:
                self._open, self._missing = method, None
            else:
                self.inbox.append(method)
            return
        assert self._open is not None, "content came without a method"
        if kind == codec.HEADER:
            self._missing, self._open.properties = codec.read_header(payload)
            self._parts = []
        else:
            self._parts.append(payload)
            self._missing -= len(payload)
        if self._missing == 0:
            self._open.body = b"".join(self._parts)
            self.inbox.append(self._open)
            self._open = None

    def find(self, *names):
        for at, one in enumerate(self.inbox):
            if one.name in names:
                return self.inbox.pop(at)
        return None

    def wait(self, *names, seconds=WAIT_SECONDS):
        """The next method of one of these names; a close is raised instead."""
        deadline = time.monotonic() + seconds
        while True:
            found = self.find(*names)
            if found is not None:
                return found
            if self.closed_by is not None:
                raise self.closed_by
            try:
                self.connection.receive(deadline)
            except TimeoutError:
                raise AssertionError(f"no {' or '.join(names)} within {seconds} s; there were "
                                     f"{[one.name for one in self.inbox]}") from None

    def fence(self):
        """Whatever the server had to say to the methods sent before has arrived afterwards."""
        self.call("channel.flow", active=True)

    # Shorthands

    def queue(self, name="", **options):
        return self.call("queue.declare", queue=name, **options).queue

    def counts(self, queue):
        """(ready messages, consumers); every delivery that the queue made before has arrived afterwards.

        In RabbitMQ the question overtakes messages that are not confirmed, and its answer overtakes deliveries on their
        way through the channel: so publish with confirms first, and the fence makes the second round trip.
        """
        answer = self.call("queue.declare", queue=queue, passive=True)
        self.fence()
        return answer.message_count, answer.consumer_count

    def publish(self, body, key="", exchange="", mandatory=False, immediate=False, **properties):
        data = body if isinstance(body, bytes) else body.encode()
        frames = [codec.frame(codec.METHOD, self.number, codec.method_payload(
            "basic.publish", exchange=exchange, routing_key=key, mandatory=mandatory, immediate=immediate)),
            codec.frame(codec.HEADER, self.number, codec.header_payload(len(data), properties))]
        room = self.connection.frame_max - 8
        frames += [codec.frame(codec.BODY, self.number, data[at:at + room]) for at in range(0, len(data), room)]
        self.connection.send_raw(b"".join(frames))
        self.published += 1
        return self.published

    def publish_confirmed(self, body, key="", exchange="", **options):
        """Publishes on a channel with confirms and waits for the answer to this message: "ack" or "nack"."""
        return self.settle(self.publish(body, key, exchange, **options))[0]

    def fill(self, queue, bodies, exchange="", **options):
        """Publishes the bodies with confirms and returns once all are answered; none may be refused."""
        self.confirms()
        for body in bodies:
            last = self.publish(body, queue, exchange, **options)
        assert set(self.settle(last)) == {"ack"}

    def fill_exchange(self, exchange, keys, **properties):
        """Publishes each key, as body too, with confirms and returns once all are answered."""
        self.confirms()
        for key in keys:
            last = self.publish(key, key, exchange, **properties)
        assert set(self.settle(last)) == {"ack"}

    def confirms(self):
        """Turns confirms on, once; the numbers that `publish` returns count from here."""
        if hasattr(self, "outcomes"):
            return self
        self.call("confirm.select")
        self.published, self.outcomes, self._settled = 0, {}, 0
        return self

    def settle(self, upto):
        """Waits until every message up to number `upto` is answered; returns what was answered to those that were open."""
        while any(n not in self.outcomes for n in range(self._settled + 1, upto + 1)):
            answer = self.wait("basic.ack", "basic.nack")
            first = self._settled + 1 if answer.multiple else answer.delivery_tag
            for n in range(first, answer.delivery_tag + 1):
                self.outcomes.setdefault(n, answer.name.removeprefix("basic."))
        found = [self.outcomes[n] for n in range(self._settled + 1, upto + 1)]
        self._settled = upto
        return found

    def get(self, queue, no_ack=True):
        """One message, or None."""
        answer = self.call("basic.get", queue=queue, no_ack=no_ack)
        return answer if answer.name == "basic.get_ok" else None

    def drain(self, queue):
        """All bodies that are ready, in order."""
        bodies = []
        while (message := self.get(queue)) is not None:
            bodies.append(message.body.decode())
        return bodies

    def consume(self, queue, **options):
        return self.call("basic.consume", queue=queue, **options).consumer_tag

    def deliver(self, seconds=WAIT_SECONDS):
        return self.wait("basic.deliver", seconds=seconds)

    def eventually(self, queue, ready, seconds=WAIT_SECONDS):
        """Waits until the queue has this many ready messages."""
        deadline = time.monotonic() + seconds
        while (count := self.counts(queue)[0]) != ready:
            assert time.monotonic() < deadline, f"{queue} has {count} ready messages, expected {ready}"
            time.sleep(0.01)

    def get_soon(self, queue, seconds=WAIT_SECONDS, **options):
        """The next message, which is still on its way."""
        deadline = time.monotonic() + seconds
        while (message := self.get(queue, **options)) is None:
            assert time.monotonic() < deadline, f"nothing arrived in {queue} within {seconds} s"
            time.sleep(0.01)
        return message

    def deliveries(self, count):
        return [self.deliver() for _ in range(count)]

    def delivered(self):
        """The deliveries that have arrived already; nothing is read."""
        found = []
        while (one := self.find("basic.deliver")) is not None:
            found.append(one)
        return found

    def ack(self, tag=0, multiple=False):
        self.send("basic.ack", delivery_tag=tag, multiple=multiple)

    def nack(self, tag=0, multiple=False, requeue=True):
        self.send("basic.nack", delivery_tag=tag, multiple=multiple, requeue=requeue)

    def reject(self, tag, requeue=True):
        self.send("basic.reject", delivery_tag=tag, requeue=requeue)

    def close(self):
        self.call("channel.close")


__all__ = ["Channel", "ChannelClosed", "Closed", "Connection", "ConnectionClosed", "ErrorClose", "Method", "beginning",
           "channel_error", "connection_error"]
