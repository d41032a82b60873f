"""kombu and, below it, py-amqp: producers, consumers, simple queues, confirms, and how they see the server."""

import queue as standard_queue
import socket

import amqp
import kombu
import pytest
from kombu.pools import producers
from millrace_tests.differences import differs


@pytest.fixture
def connection(amqp_server):
    with kombu.Connection(amqp_server.uri, connect_timeout=20) as connection:
        yield connection


def test_a_producer_and_a_consumer(connection, name):
    exchange = kombu.Exchange(name("tasks"), type="direct")
    queue = kombu.Queue(name(), exchange, routing_key="k")
    producer = connection.Producer()
    for n in range(10):
        producer.publish({"n": n}, exchange=exchange, routing_key="k", declare=[queue], serializer="json", retry=True)
    got = []

    def receive(body, message):
        got.append((body["n"], message.content_type, message.delivery_info["routing_key"]))
        message.ack()

    with connection.Consumer(queue, callbacks=[receive], prefetch_count=3):
        while len(got) < 10:
            connection.drain_events(timeout=20)
    assert got == [(n, "application/json", "k") for n in range(10)]


def test_a_simple_queue(connection, name):
    with connection.SimpleQueue(name()) as queue:
        queue.put({"hello": "world"}, compression="zlib")
        message = queue.get(timeout=20)
        assert message.payload == {"hello": "world"}
        message.ack()
        with pytest.raises(standard_queue.Empty):
            queue.get(block=False)


def test_requeue_and_reject(connection, name):
    queue = kombu.Queue(name(), durable=False, auto_delete=True)(connection.channel())
    queue.declare()
    kombu.Producer(queue.channel).publish("x", routing_key=queue.name)
    first = queue.get()
    first.requeue()
    second = queue.get()
    assert second.delivery_info["redelivered"] is True
    second.reject()
    assert queue.get() is None


def test_a_pool_of_producers_with_confirms(amqp_server, name):
    with kombu.Connection(amqp_server.uri, transport_options={"confirm_publish": True}) as connection:
        queue = kombu.Queue(name())(connection.channel())
        queue.declare()
        for n in range(5):
            with producers[connection].acquire(block=True) as producer:
                producer.publish(n, routing_key=queue.name)
        assert queue.queue_declare(passive=True).message_count == 5
        queue.delete()
    kombu.pools.reset()


@differs("what kombu makes of the server", "global prefetch, as for RabbitMQ 3.3 to 3.x", "prefetch for each consumer", "as 4")
def test_how_kombu_sees_the_prefetch(connection, amqp_server):
    connection.connect()
    assert connection.qos_semantics_matches_spec is amqp_server.either(three=False, millrace=True)


def test_broadcasts_reach_everybody(connection, name):
    exchange = kombu.Exchange(name("news"), type="fanout")
    queues = [kombu.Queue("", exchange, exclusive=True)(connection.channel()) for _ in range(3)]
    for queue in queues:
        queue.declare()
    connection.Producer().publish("hello", exchange=exchange)
    connection.default_channel.queue_declare(queues[0].name, passive=True)
    for queue in queues:
        while (message := queue.get(no_ack=True)) is None:
            pass
        assert message.payload == "hello"


# py-amqp

@pytest.fixture
def plain(amqp_server):
    with amqp.Connection(f"{amqp_server.host}:{amqp_server.port}", "guest", "guest", confirm_publish=True) as connection:
        yield connection


def test_py_amqp_publishes_gets_and_consumes(plain, name):
    channel, queue = plain.channel(), name()
    channel.queue_declare(queue, exclusive=True)
    channel.basic_publish(amqp.Message("a", application_headers={"n": [1, {"x": "y"}]}), routing_key=queue)
    message = channel.basic_get(queue, no_ack=True)
    assert (message.body, message.headers) == ("a", {"n": [1, {"x": "y"}]})
    got = []
    channel.basic_consume(queue, callback=lambda one: (got.append(one.body), channel.basic_ack(one.delivery_tag)))
    for body in "bc":
        channel.basic_publish(amqp.Message(body), routing_key=queue)
    while len(got) < 2:
        plain.drain_events(timeout=20)
    assert got == ["b", "c"]


def test_py_amqp_raises_the_reply(plain):
    with pytest.raises(amqp.NotFound) as caught:
        plain.channel().queue_declare("missing", passive=True)
    assert caught.value.reply_text == "NOT_FOUND - no queue 'missing' in vhost '/'"
    plain.channel().close()


def test_py_amqp_returns_a_refused_message(plain, name):
    channel, queue = plain.channel(), name()
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.basic_publish(amqp.Message("fits"), routing_key=queue)
    with pytest.raises(amqp.exceptions.MessageNacked):
        channel.basic_publish(amqp.Message("does not"), routing_key=queue)


def test_py_amqp_keeps_heartbeats(amqp_server):
    with amqp.Connection(f"{amqp_server.host}:{amqp_server.port}", "guest", "guest", heartbeat=1) as connection:
        before = connection.bytes_recv
        while connection.bytes_recv < before + 3:
            connection.send_heartbeat()
            try:
                connection.drain_events(timeout=0.1)  # the server sends one every half interval
            except socket.timeout:
                pass
        connection.channel().close()
