"""pika's BlockingConnection in the shapes of the well-known tutorial: hello, work queue, logs, severities, topics, RPC, confirms."""

import uuid

import pika
import pytest


@pytest.fixture
def connect_pika(amqp_server):
    made = []

    def connect():
        parameters = pika.URLParameters(amqp_server.uri)
        parameters.socket_timeout = parameters.blocked_connection_timeout = 20
        made.append(pika.BlockingConnection(parameters))
        return made[-1]

    yield connect
    for one in made:
        if one.is_open:
            one.close()


@pytest.fixture
def producer(connect_pika):
    return connect_pika().channel()


@pytest.fixture
def consumer(connect_pika):
    return connect_pika().channel()


def receive(channel, queue, count, auto_ack=True):
    """Consumes as the tutorials do, and stops after a number of messages."""
    got = []

    def callback(ch, method, properties, body):
        got.append((method, properties, body.decode()))
        if not auto_ack:
            ch.basic_ack(delivery_tag=method.delivery_tag)
        if len(got) == count:
            ch.stop_consuming()

    channel.connection.call_later(20, channel.stop_consuming)
    channel.basic_consume(queue=queue, on_message_callback=callback, auto_ack=auto_ack)
    channel.start_consuming()
    assert len(got) == count
    return got


def test_1_hello_world(producer, consumer, name):
    queue = name()
    producer.queue_declare(queue=queue)
    producer.basic_publish(exchange="", routing_key=queue, body="Hello World!")
    consumer.queue_declare(queue=queue)
    [(method, _, body)] = receive(consumer, queue, 1)
    assert (body, method.routing_key, method.redelivered) == ("Hello World!", queue, False)


def test_2_a_work_queue(producer, connect_pika, name):
    queue = name()
    producer.queue_declare(queue=queue, durable=True)
    for n in range(10):
        producer.basic_publish("", queue, f"task {n}", pika.BasicProperties(delivery_mode=pika.DeliveryMode.Persistent))
    workers = [connect_pika().channel() for _ in range(2)]
    for one in workers:
        one.basic_qos(prefetch_count=1)
    done = [body for one in workers for _, _, body in receive(one, queue, 5, auto_ack=False)]
    assert sorted(done) == [f"task {n}" for n in range(10)]


def test_3_publish_and_subscribe(producer, consumer, name):
    logs = name("logs")
    queues = []
    for channel in (producer, consumer):
        channel.exchange_declare(exchange=logs, exchange_type="fanout")
        queues.append(channel.queue_declare(queue="", exclusive=True).method.queue)
        channel.queue_bind(exchange=logs, queue=queues[-1])
    producer.basic_publish(exchange=logs, routing_key="", body="info: hello")
    for channel, queue in zip((producer, consumer), queues):
        assert receive(channel, queue, 1)[0][2] == "info: hello"


def test_4_routing_by_severity(producer, consumer, name):
    logs = name("direct_logs")
    consumer.exchange_declare(exchange=logs, exchange_type="direct")
    queue = consumer.queue_declare(queue="", exclusive=True).method.queue
    for severity in ("warning", "error"):
        consumer.queue_bind(exchange=logs, queue=queue, routing_key=severity)
    for severity in ("info", "warning", "error"):
        producer.basic_publish(exchange=logs, routing_key=severity, body=severity)
    assert [body for _, _, body in receive(consumer, queue, 2)] == ["warning", "error"]


def test_5_topics(producer, consumer, name):
    logs = name("topic_logs")
    consumer.exchange_declare(exchange=logs, exchange_type="topic")
    queue = consumer.queue_declare(queue="", exclusive=True).method.queue
    for key in ("kern.*", "*.critical"):
        consumer.queue_bind(exchange=logs, queue=queue, routing_key=key)
    for key in ("kern.info", "cron.info", "cron.critical", "kern.critical"):
        producer.basic_publish(exchange=logs, routing_key=key, body=key)
    assert [body for _, _, body in receive(consumer, queue, 3)] == ["kern.info", "cron.critical", "kern.critical"]


def test_6_rpc(producer, consumer, name):
    queue = name("rpc")
    consumer.queue_declare(queue=queue)
    consumer.basic_qos(prefetch_count=1)
    replies = producer.queue_declare(queue="", exclusive=True).method.queue
    correlation = str(uuid.uuid4())
    producer.basic_publish("", queue, "30", pika.BasicProperties(reply_to=replies, correlation_id=correlation))
    [(_, properties, body)] = receive(consumer, queue, 1, auto_ack=False)
    consumer.basic_publish("", properties.reply_to, str(int(body) * 2),
                           pika.BasicProperties(correlation_id=properties.correlation_id))
    [(_, properties, body)] = receive(producer, replies, 1)
    assert (body, properties.correlation_id) == ("60", correlation)


def test_7_publisher_confirms(producer, name):
    queue = producer.queue_declare(queue=name(), exclusive=True).method.queue
    producer.confirm_delivery()
    for n in range(50):
        producer.basic_publish("", queue, str(n), mandatory=True)  # raises when it is returned or refused
    assert producer.queue_declare(queue=queue, passive=True).method.message_count == 50
    with pytest.raises(pika.exceptions.UnroutableError):
        producer.basic_publish("", "nowhere", "lost", mandatory=True)


def test_a_nack_is_raised(producer, name):
    queue = producer.queue_declare(queue=name(), durable=True,
                                   arguments={"x-max-length": 1, "x-overflow": "reject-publish"}).method.queue
    producer.confirm_delivery()
    producer.basic_publish("", queue, "fits")
    with pytest.raises(pika.exceptions.NackError):
        producer.basic_publish("", queue, "does not")


def test_a_consume_generator_with_a_timeout(producer, consumer, name):
    queue = producer.queue_declare(queue=name()).method.queue
    for body in "abc":
        producer.basic_publish("", queue, body)
    got = []
    for method, _, body in consumer.consume(queue, inactivity_timeout=20):
        got.append(body)
        consumer.basic_ack(method.delivery_tag)
        if len(got) == 3:
            break
    assert (got, consumer.cancel()) == ([b"a", b"b", b"c"], 0)


def test_errors_are_pikas_own(connect_pika):
    connection = connect_pika()
    with pytest.raises(pika.exceptions.ChannelClosedByBroker) as caught:
        connection.channel().queue_declare(queue="missing", passive=True)
    assert (caught.value.reply_code, caught.value.reply_text) == (404, "NOT_FOUND - no queue 'missing' in vhost '/'")
    assert connection.is_open


@pytest.mark.parametrize("change, error", [
    ({"credentials": pika.PlainCredentials("guest", "wrong")}, "ProbableAuthenticationError"),
    ({"virtual_host": "nowhere"}, "ProbableAccessDeniedError"),
], ids=["password", "vhost"])
def test_a_refused_login_is_recognized(amqp_server, change, error):
    parameters = pika.URLParameters(amqp_server.uri)
    for key, value in change.items():
        setattr(parameters, key, value)
    with pytest.raises(pika.exceptions.AMQPConnectionError) as caught:
        pika.BlockingConnection(parameters)
    assert type(caught.value).__name__ in (error, "ConnectionClosedByBroker", "AMQPConnectionError")
