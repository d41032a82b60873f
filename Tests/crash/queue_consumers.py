"""The consumers of the queue crash test: they acknowledge, return, reject, move, and have it promised."""

import select
import time

import pika

from millrace_tests import amqp
from queue_client import body_of, close, milliseconds, text_of


class Desk:
    """One queue's consumer on a pika connection: it settles what it gets, and from time to time has it promised."""

    def __init__(self, work, connection, queue, prefetch, is_transactional):
        self.work, self.connection, self.queue, self.prefetch = work, connection, queue, prefetch
        self.is_transactional = is_transactional
        self.open()

    def open(self):
        self.channel = self.connection.channel()
        self.channel.add_on_cancel_callback(lambda _: self.work.note(f"error {self.queue} was cancelled"))
        if self.is_transactional:
            self.channel.tx_select()
        self.channel.basic_qos(prefetch_count=self.prefetch)
        self.outstanding, self.acknowledged = [], []
        self.work.note(f"open {self.queue}")
        # What pika still has of a channel that was closed is not looked at; it comes again.
        outstanding = self.outstanding
        self.channel.basic_consume(self.queue, lambda *delivery: self.got(outstanding, *delivery))

    def got(self, outstanding, _, method, properties, body):
        del properties
        if outstanding is self.outstanding:
            identity = text_of(body)
            self.work.note(f"got {self.queue} {identity} {int(method.redelivered)} {milliseconds()}")
            outstanding.append((method.delivery_tag, identity))

    def turn(self):
        choices = self.work.choices
        if self.outstanding:
            count = choices.randrange(1, len(self.outstanding) + 1)
            if not self.is_transactional and choices.random() < 0.1:
                tag, identity = self.outstanding.pop(choices.randrange(len(self.outstanding)))
                self.work.note(f"requeue {self.queue} {identity}")
                self.channel.basic_nack(tag, requeue=True)
            elif choices.random() < 0.5:
                some, self.outstanding[:count] = self.outstanding[:count], []
                self.acknowledge([identity for _, identity in some])
                self.channel.basic_ack(some[-1][0], multiple=True)
            else:
                some = choices.sample(self.outstanding, count)
                self.acknowledge([identity for _, identity in some])
                for one in some:
                    self.outstanding.remove(one)
                    self.channel.basic_ack(one[0])
        if self.acknowledged and choices.random() < (0.3 if self.is_transactional else 0.1):
            self.have_it_promised()

    def acknowledge(self, identities):
        """Notes what is about to be acknowledged; in a transaction that happens, and is noted, with its commit."""
        self.acknowledged += identities
        if not self.is_transactional:
            self.work.note(*[f"ack {self.queue} {one}" for one in identities])

    def have_it_promised(self):
        lines = [f"settled {self.queue} {one}" for one in self.acknowledged]
        if self.is_transactional:
            self.work.note(*[f"ack {self.queue} {one}" for one in self.acknowledged])
            self.channel.tx_commit()
            self.acknowledged = []
            self.work.promised("settled", *lines)
        else:
            close(self.channel)
            self.work.promised("closed", *lines)
            self.open()


def consume(work):
    """One connection that works on five queues."""

    def session():
        connection = pika.BlockingConnection(work.parameters())
        prefetch = lambda: work.choices.choice([1, 5, 20, 100])  # noqa: E731
        desks = [Desk(work, connection, "direct", prefetch(), True), Desk(work, connection, "fan.a", prefetch(), False),
                 Desk(work, connection, "priority", prefetch(), work.choices.random() < 0.5),
                 Desk(work, connection, "quorum", prefetch(), work.choices.random() < 0.5),
                 Desk(work, connection, "later", 0, work.choices.random() < 0.5)]
        while not work.stop.is_set():
            connection.process_data_events(0.01)
            for desk in desks:
                desk.turn()
        for desk in desks:
            if desk.acknowledged:
                desk.have_it_promised()
        connection.close()

    work.until_stopped(session)


def reject(work):
    """Rejects most of `work`, so that it goes to `dead`. The harness's client can close a connection and no channel."""

    def session():
        connection = amqp.Connection(work)
        try:
            channel = connection.channel()
            is_transactional = work.choices.random() < 0.5
            if is_transactional:
                channel.call("tx.select")
            channel.call("basic.qos", prefetch_count=work.choices.choice([1, 5, 20, 100]))
            work.note("open work")
            channel.consume("work")
            asked, outstanding = [], []
            for _ in range(work.choices.randrange(3, 60)):
                if work.stop.is_set():
                    break
                arrived(connection)
                for one in channel.delivered():
                    identity = text_of(one.body)
                    work.note(f"got work {identity} {int(one.redelivered)} {milliseconds()}")
                    outstanding.append((one.delivery_tag, identity))
                settle_some(work, channel, outstanding, asked, is_transactional)
                if is_transactional and asked and work.choices.random() < 0.3:
                    work.note(*[f"{what} work {identity}" for what, identity in asked])
                    channel.call("tx.commit")
                    work.promised("settled", *[f"settled work {identity}" for _, identity in asked])
                    asked.clear()
            if not is_transactional:
                if work.choices.random() < 0.5:
                    connection.zero.call("connection.close", reply_text="bye")
                else:
                    channel.close()
                work.promised("closed", *[f"settled work {identity}" for what, identity in asked if what != "requeue"])
        finally:
            connection.drop()

    work.until_stopped(session)


def arrived(connection):
    """Reads the frames that are there, or waits a moment for one; none is read by half."""
    wait = 0.02
    while connection.buffer or select.select([connection.socket], [], [], wait)[0]:
        connection.receive(time.monotonic() + 20)
        wait = 0


def settle_some(work, channel, outstanding, asked, is_transactional):
    if not outstanding:
        return
    count = work.choices.randrange(1, len(outstanding) + 1)
    what = work.choices.choices(["reject", "ack", "requeue"], [6, 3, 0 if is_transactional else 1])[0]
    some = outstanding[:count] if what == "reject" else outstanding[:1]
    del outstanding[:len(some)]
    asked += [(what, identity) for _, identity in some]
    if not is_transactional:
        work.note(*[f"{what} work {identity}" for _, identity in some])
    last = some[-1][0]
    if what == "ack":
        channel.ack(last)
    elif what == "requeue":
        channel.nack(last)
    elif work.choices.random() < 0.5:
        channel.nack(last, multiple=True, requeue=False)
    else:
        for tag, _ in some:
            channel.reject(tag, requeue=False)


def move(work, source, target):
    """Consumes, transforms, publishes: a transaction takes messages off one queue and puts them into another."""

    def session():
        connection = pika.BlockingConnection(work.parameters())
        channel = connection.channel()
        channel.tx_select()
        channel.basic_qos(prefetch_count=work.choices.choice([1, 4, 12]))
        work.note("open")
        outstanding = []

        def got(_, method, properties, body):
            del properties
            message = text_of(body)
            work.note(f"got {message}")
            outstanding.append((method.delivery_tag, message))

        channel.basic_consume(source, got)
        while not work.stop.is_set():
            connection.process_data_events(0 if outstanding else 0.05)
            some = outstanding[:work.choices.randrange(1, 9)]
            if not some:
                continue
            for tag, message in work.choices.sample(some, len(some)):
                name, _, hops = message.partition("@")
                body = body_of(f"{name}@{int(hops) + 1}")
                if work.choices.random() < 0.5:
                    channel.basic_ack(tag)
                    channel.basic_publish("", target, body, pika.BasicProperties(delivery_mode=2))
                else:
                    channel.basic_publish("", target, body, pika.BasicProperties(delivery_mode=2))
                    channel.basic_ack(tag)
            if (what := work.choices.random()) < 0.1:
                channel.tx_rollback()  # its acknowledgements are open again
                work.note("rollback")
            elif what < 0.15:
                return close(channel), connection.close()  # with all of it undone
            else:
                work.note("try " + " ".join(message for _, message in some))
                channel.tx_commit()
                del outstanding[:len(some)]
                work.promised("moved", "moved")
        connection.close()

    work.until_stopped(session)
