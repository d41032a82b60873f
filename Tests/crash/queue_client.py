"""What every process of the queue crash test has: messages, the ledger, sessions that end with the server, promises.

A ledger is a file of lines, each handed to the operating system before the client goes on. What a client asks for is
noted before it is sent, what it is promised after the answer came; then the server may be killed at once (`Trigger`).
"""

import logging
import random
import time
import zlib

import pika
from pika import exceptions

from millrace_tests import amqp

# Where a message goes: (exchange, routing key). Each publisher has numbers of its own for each kind.
KINDS = {"direct": ("", "direct"), "fan": ("fan", ""), "priority": ("", "priority"), "quorum": ("", "quorum"),
         "work": ("", "work"), "later": ("later.x", "later")}
PRIORITIES = 4
LONGEST_DELAY = 1500  # ms
MOVED = 300
PROMISES = ["confirm", "settled", "closed", "moved"]


def priority_of(identity):
    return zlib.crc32(identity.encode()) % PRIORITIES


def body_of(text):
    """A message's body: its text, and bytes that follow from it; most are small, some large."""
    head = text.encode() + b" "
    check = zlib.crc32(head)
    return head + (b"%08x" % check) * (check % 25 if check % 40 else check % 4000)


def text_of(body):
    """The text of a body, or what no judge knows when a byte of it is wrong."""
    text = body.split(b" ", 1)[0].decode(errors="replace")
    return text if body == body_of(text) else f"?{text}:0"


def milliseconds():
    return int(time.time() * 1000)


class Work:
    """What every process of the test has: the server's address, its choices, its ledger, the sign to stop."""

    def __init__(self, name, host, port, seed, path, stop, trigger):
        logging.disable(logging.CRITICAL)  # pika tells every lost connection at length
        self.name, self.host, self.port, self.stop, self.trigger = name, host, port, stop, trigger
        self.choices = random.Random(seed)
        self.ledger = open(path, "ab", buffering=0)
        self.numbers = dict.fromkeys([*KINDS, "plain"], 0)

    def note(self, *lines):
        self.ledger.write("".join(f"{line}\n" for line in lines).encode())

    def promised(self, kind, *lines):
        self.note(*lines)
        self.trigger.promised(kind)

    def next_identity(self, kind):
        self.numbers[kind] += 1
        return f"{self.name}.{kind}:{self.numbers[kind] - 1}"

    def parameters(self):
        return pika.ConnectionParameters(self.host, self.port, socket_timeout=20, stack_timeout=30)

    def until_stopped(self, session):
        """Calls `session` over and over; each ends when it is told to stop or when the server goes."""
        while not self.stop.is_set():
            try:
                session()
            except (exceptions.AMQPError, OSError, amqp.Closed, amqp.ErrorClose) as error:
                if not is_loss(error):
                    self.note(f"error {error!r}")
                time.sleep(0.01)
            except AssertionError as error:  # the harness's client: no answer in time, or one that makes no sense
                self.note(f"error {error!r}")
        self.note("end")


def is_loss(error):
    """Whether a connection was lost, or closed because the server was stopping; anything else must not happen."""
    if isinstance(error, (exceptions.ConnectionClosedByBroker, amqp.ConnectionClosed)):
        return (error.reply_code if isinstance(error, exceptions.AMQPError) else error.code) == 320
    return isinstance(error, (exceptions.AMQPConnectionError, exceptions.ChannelWrongStateError, OSError, amqp.Closed))


def close(channel):
    """An orderly close with its answer: pika may also find a channel closed because the connection was lost."""
    channel.close()
    reason = channel._impl._closing_reason
    if not isinstance(reason, exceptions.ChannelClosedByClient):
        raise exceptions.StreamLostError(f"closed otherwise: {reason!r}")


def declare(connection):
    """Everything that the test needs. Said again after a restart, it must fit what is there."""
    channel = connection.channel()
    for queue, arguments in {
            "direct": None, "fan.a": None, "fan.b": None, "plain": None, "in": None, "out": None, "dead": None,
            "later": None,
            "priority": {"x-max-priority": PRIORITIES},
            # Kills count as failed deliveries, and there may be many of them.
            "quorum": {"x-queue-type": "quorum", "x-delivery-limit": 1_000_000},
            "work": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}}.items():
        channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.exchange_declare("fan", "fanout", durable=True)
    channel.exchange_declare("later.x", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"})
    channel.queue_bind("fan.a", "fan")
    channel.queue_bind("fan.b", "fan")
    channel.queue_bind("later", "later.x", "later")
    channel.close()
