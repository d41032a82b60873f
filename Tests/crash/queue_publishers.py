"""The publishers of the queue crash test: pipelined, one by one, and without confirms."""

import time
from functools import partial
from types import SimpleNamespace

import pika
from pika import exceptions

from queue_client import KINDS, LONGEST_DELAY, body_of, close, declare, milliseconds, priority_of


def properties_of(work, kind, identity):
    properties = pika.BasicProperties(delivery_mode=2)
    if kind == "priority":
        properties.priority = priority_of(identity)
    if kind == "later":
        properties.headers = {"x-delay": work.choices.randrange(LONGEST_DELAY)}
    return properties


def sent_line(kind, identity, properties):
    delay = f" {properties.headers['x-delay']} {milliseconds()}" if kind == "later" else ""
    return f"sent {identity}{delay}"


def publish_one_by_one(work):
    """pika's BlockingConnection, which waits for each confirm."""

    def session():
        connection = pika.BlockingConnection(work.parameters())
        declare(connection)
        channel = connection.channel()
        channel.confirm_delivery()
        work.note("session")
        while not work.stop.is_set():
            for kind, (exchange, key) in KINDS.items():
                identity = work.next_identity(kind)
                properties = properties_of(work, kind, identity)
                work.note(sent_line(kind, identity, properties))
                channel.basic_publish(exchange, key, body_of(identity), properties, mandatory=True)
                work.promised("confirm", f"ok {identity} {milliseconds()}")
            time.sleep(0.005)
        connection.close()

    work.until_stopped(session)


def publish_pipelined(work):
    """pika's SelectConnection, with many messages on their way."""
    most_open = 200

    def session():
        unanswered, found = {}, SimpleNamespace(tag=0, error=None)

        def opened(connection):
            connection.channel(on_open_callback=partial(channel_opened, connection))

        def channel_opened(connection, channel):
            channel.confirm_delivery(answered, callback=lambda _: burst(connection, channel))
            work.note("session")

        def burst(connection, channel):
            if work.stop.is_set():
                if not unanswered:
                    return connection.close()
            elif len(unanswered) < most_open:
                for kind, (exchange, key) in list(KINDS.items()) * 2:
                    identity = work.next_identity(kind)
                    properties = properties_of(work, kind, identity)
                    work.note(sent_line(kind, identity, properties))
                    found.tag += 1
                    unanswered[found.tag] = identity
                    channel.basic_publish(exchange, key, body_of(identity), properties)
            connection.ioloop.call_later(0.01, lambda: channel.is_open and burst(connection, channel))

        def answered(frame):
            method, now = frame.method, milliseconds()
            tags = [tag for tag in unanswered
                    if tag == method.delivery_tag or method.multiple and tag < method.delivery_tag]
            if isinstance(method, pika.spec.Basic.Nack):
                work.note(*[f"error {unanswered.pop(tag)} was refused" for tag in tags])
            else:
                work.promised("confirm", *[f"ok {unanswered.pop(tag)} {now}" for tag in tags])

        def ended(connection, error):
            found.error = error
            connection.ioloop.stop()

        connection = pika.SelectConnection(work.parameters(), on_open_callback=opened, on_open_error_callback=ended,
                                           on_close_callback=ended)
        connection.ioloop.start()
        if not isinstance(found.error, exceptions.ConnectionClosedByClient):
            raise found.error

    work.until_stopped(session)


def publish_unconfirmed(work):
    """No confirms: a prefix of what each channel published survives, and all of it after an orderly close."""

    def session():
        connection = pika.BlockingConnection(work.parameters())
        while not work.stop.is_set():
            channel = connection.channel()
            work.note("session")
            for _ in range(work.choices.randrange(1, 20)):
                for _ in range(10):
                    identity = work.next_identity("plain")
                    work.note(f"sent {identity}")
                    channel.basic_publish("", "plain", body_of(identity), pika.BasicProperties(delivery_mode=2))
                connection.sleep(0.01)
                if work.stop.is_set():
                    break
            close(channel)
            work.promised("closed", "closed")
        connection.close()

    work.until_stopped(session)
