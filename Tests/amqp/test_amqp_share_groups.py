"""Share groups by AMQP: pika as a member of a group of KIP-932, alone and beside an unmodified ShareConsumer of Kafka's."""

import contextlib
import socket
import threading
import time
from collections import Counter

import pika
import pytest
from confluent_kafka import Producer, ShareConsumer
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType)

PATIENCE_SECONDS = 30


@pytest.fixture(scope="module")
def server(request, tmp_path_factory):
    if request.config.getoption("--amqp-backend") != "millrace":
        pytest.skip("RabbitMQ has no share groups")
    from millrace_tests.server import Server
    with Server(tmp_path_factory.mktemp("shared"), amqp=True,
                arguments=["--set", "group.share.min.record.lock.duration.ms=500"]) as one:
        yield one.start()
        if one.running:
            one.stop()


def prepare(server, topic, partitions=1, **settings):
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(20)
    resource = ConfigResource(ResourceType.GROUP, topic, incremental_configs=[
        ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
        for name, value in {"share.auto.offset.reset": "earliest", **settings}.items()])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(20)


def produce(server, topic, values):
    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 0})
    for value in values:
        producer.produce(topic, value.encode())
    assert producer.flush(PATIENCE_SECONDS) == 0


class Member:
    """A consumer of pika's on a connection of its own."""

    def __init__(self, server, topic, prefetch=10, **arguments):
        self.connection = pika.BlockingConnection(pika.ConnectionParameters(server.amqp_host, server.amqp_port))
        self.channel = self.connection.channel()
        self.channel.basic_qos(prefetch_count=prefetch)
        self.got = []
        self.tag = self.channel.basic_consume(
            topic, lambda _, method, properties, body: self.got.append((method, properties, body.decode())),
            arguments={"x-share-group": topic, **arguments})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(pika.exceptions.AMQPError):
            if self.connection.is_open:
                self.connection.close()

    def wait(self, count):
        end = time.monotonic() + PATIENCE_SECONDS
        while len(self.got) < count:
            assert time.monotonic() < end, f"{len(self.got)} of {count} came"
            self.connection.process_data_events(0.1)
        taken, self.got = self.got, []
        return taken

    def stays_silent(self, seconds=1.0):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.connection.process_data_events(0.1)
        return self.got == []


def summary(deliveries):
    return [(body, method.redelivered, (properties.headers or {}).get("x-delivery-count", 0))
            for method, properties, body in deliveries]


def test_acknowledge_requeue_and_reject(server, topic):
    prepare(server, topic)
    produce(server, topic, ["accepted", "nacked", "returned", "rejected"])
    with Member(server, topic) as member:
        first = member.wait(4)
        assert summary(first) == [(one, False, 0) for one in ("accepted", "nacked", "returned", "rejected")]
        assert [properties.headers["x-stream-offset"] for _, properties, _ in first] == [0, 1, 2, 3]
        tags = [method.delivery_tag for method, _, _ in first]
        member.channel.basic_ack(tags[0])
        member.channel.basic_nack(tags[1], requeue=True)
        member.channel.basic_reject(tags[2], requeue=True)
        member.channel.basic_reject(tags[3], requeue=False)
        again = member.wait(2)
        assert summary(again) == [("nacked", True, 1), ("returned", True, 1)]
        member.channel.basic_ack(again[-1][0].delivery_tag, multiple=True)
        assert member.stays_silent()
    with Member(server, topic) as member:
        produce(server, topic, ["next"])
        assert summary(member.wait(1)) == [("next", False, 0)]


def test_the_prefetch_bounds_what_a_member_has(server, topic):
    prepare(server, topic)
    produce(server, topic, ["a", "b", "c", "d"])
    with Member(server, topic, prefetch=2) as one:
        held = one.wait(2)
        assert [body for _, _, body in held] == ["a", "b"]
        with Member(server, topic) as two:
            assert [body for _, _, body in two.wait(2)] == ["c", "d"]
        assert one.stays_silent(0.5)
        one.channel.basic_ack(held[0][0].delivery_tag)
        # What the other one left.
        assert summary(one.wait(1)) == [("c", True, 1)]


@pytest.mark.parametrize("way", ["channel", "connection", "socket", "cancel"])
def test_what_a_member_leaves_goes_to_others(server, topic, way):
    prepare(server, topic)
    produce(server, topic, ["a", "b"])
    with Member(server, topic) as one, Member(server, topic) as two:
        member, other = (one, two)
        end = time.monotonic() + PATIENCE_SECONDS
        while not (one.got or two.got) and time.monotonic() < end:
            one.connection.process_data_events(0.05)
            two.connection.process_data_events(0.05)
        if two.got:
            member, other = (two, one)
        held = member.wait(2 - len(other.got))
        others = len(other.got)
        if way == "channel":
            member.channel.close()
        elif way == "connection":
            member.connection.close()
        elif way == "socket":
            # As when its program is killed.
            member.connection._impl._transport._sock.shutdown(socket.SHUT_RDWR)
        else:
            # A cancelled consumer still settles.
            member.channel.basic_cancel(member.tag)
            member.channel.basic_nack(held[-1][0].delivery_tag, multiple=True, requeue=True)
            member.connection.process_data_events(0.1)
        assert summary(other.wait(len(held) + others))[others:] == [(body, True, 1) for _, _, body in held]


def test_locks_are_renewed_as_long_as_a_member_is_there(server, topic):
    prepare(server, topic, **{"share.record.lock.duration.ms": "600"})
    produce(server, topic, ["slow"])
    with Member(server, topic) as one:
        held = one.wait(1)
        with Member(server, topic) as other:
            assert other.stays_silent(2.5)
            one.channel.basic_ack(held[0][0].delivery_tag)
            assert other.stays_silent(1.0)


def test_without_renewal_a_lock_ends_by_its_time(server, topic):
    prepare(server, topic, **{"share.record.lock.duration.ms": "600", "share.renew.acknowledge.enable": "false"})
    produce(server, topic, ["slow"])
    with Member(server, topic) as one, Member(server, topic) as other:
        end = time.monotonic() + PATIENCE_SECONDS
        seen = []
        while len(seen) < 2 and time.monotonic() < end:
            for member in (one, other):
                member.connection.process_data_events(0.05)
                seen += summary(member.got)
                member.got = []
        assert seen[:2] == [("slow", False, 0), ("slow", True, 1)]


def test_pika_and_a_share_consumer_of_kafkas_divide_a_topic(server, topic):
    prepare(server, topic, partitions=3)
    sent = [f"v{index}" for index in range(3000)]
    by_kafka, by_amqp, stop = [], [], threading.Event()

    def kafka():
        consumer = ShareConsumer({"bootstrap.servers": server.bootstrap, "group.id": topic,
                                  "share.acknowledgement.mode": "explicit", "max.poll.records": 20})
        consumer.subscribe([topic])
        while not stop.is_set():
            messages = list(consumer.poll(0.2))
            for message in messages:
                consumer.acknowledge(message)
            if messages:
                assert not any(consumer.commit_sync(PATIENCE_SECONDS).values())
                by_kafka.extend(one.value().decode() for one in messages)
        consumer.close()

    thread = threading.Thread(target=kafka)
    thread.start()
    try:
        with Member(server, topic, prefetch=20) as member:
            for first in range(0, len(sent), 100):
                produce(server, topic, sent[first:first + 100])
                member.connection.process_data_events(0.01)
            end = time.monotonic() + PATIENCE_SECONDS
            while len(by_kafka) + len(by_amqp) < len(sent) and time.monotonic() < end:
                member.connection.process_data_events(0.05)
                for method, _, body in member.got:
                    by_amqp.append(body)
                    member.channel.basic_ack(method.delivery_tag)
                member.got = []
            assert member.stays_silent(0.5)
    finally:
        stop.set()
        thread.join()
    assert Counter(by_kafka + by_amqp) == Counter(sent)
    assert by_kafka and by_amqp, "both had a part of it"


def test_what_is_settled_by_amqp_outlasts_a_crash(make_server, topic):
    server = make_server(amqp=True).start()
    prepare(server, topic)
    produce(server, topic, ["a", "b", "c"])
    with Member(server, topic) as member:
        got = member.wait(3)
        member.channel.basic_ack(got[0][0].delivery_tag)
        member.channel.basic_reject(got[1][0].delivery_tag, requeue=False)
        # Its answer says that what came before on the channel is durable.
        member.channel.close()
        server.kill()
    server.start()
    with Member(server, topic) as member:
        assert [body for _, _, body in member.wait(1)] == ["c"]
        assert member.stays_silent()


def test_what_cannot_be_asked_for(server, topic):
    prepare(server, topic)

    def refused(queue, arguments, prefetch=10):
        connection = pika.BlockingConnection(pika.ConnectionParameters(server.amqp_host, server.amqp_port))
        try:
            channel = connection.channel()
            channel.queue_declare(f"{topic}.classic", durable=True)
            channel.basic_qos(prefetch_count=prefetch)
            with pytest.raises(pika.exceptions.ChannelClosedByBroker) as error:
                channel.basic_consume(queue, lambda *_: None, arguments=arguments)
            return error.value.reply_code, error.value.reply_text
        finally:
            connection.close()

    assert refused(topic, {"x-share-group": ""})[0] == 406
    assert refused(topic, {"x-share-group": 7})[0] == 406
    assert refused(topic, {"x-share-group": "g", "x-stream-offset": "first"})[0] == 406
    assert refused(topic, {"x-share-group": "g"}, prefetch=0)[0] == 406
    code, text = refused(f"{topic}.classic", {"x-share-group": "g"})
    assert code == 406 and "is no stream" in text


def test_members_by_amqp_are_described(server, topic):
    prepare(server, topic, partitions=2)
    with Member(server, topic):
        import subprocess
        from millrace_tests.server import BINARY
        shown = subprocess.run([BINARY, "group", "describe", topic, "--bootstrap", server.bootstrap], capture_output=True,
                               text=True, timeout=60, check=True).stdout
        assert "share" in shown and "Stable" in shown and "amqp-" in shown and f"{topic}-1" in shown
