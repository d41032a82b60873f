"""Ordinary queues at the ends of stream jobs: each message once for pika, though the server is killed while the job runs."""

import os
import subprocess
import time
from pathlib import Path

import pika
from confluent_kafka import Consumer
from confluent_kafka.admin import AdminClient, NewTopic

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(os.environ.get("MILLRACE_CRASH_WORKER", ROOT / ".build" / "release" / "CrashWorker"))
PATIENCE_SECONDS = 60
KILLS = 4


def connect(server):
    connection = pika.BlockingConnection(pika.ConnectionParameters(server.amqp_host, server.amqp_port))
    channel = connection.channel()
    channel.confirm_delivery()
    return connection, channel


def make_topics(server, *names):
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    for done in admin.create_topics([NewTopic(name, 2 if name == "orders" else 1) for name in names]).values():
        done.result(20)


def drain(channel, queue):
    """Everything that is ready in a queue, acknowledged: body and properties."""
    messages = []
    while True:
        method, properties, body = channel.basic_get(queue)
        if method is None:
            return messages
        channel.basic_ack(method.delivery_tag)
        messages.append((body.decode(), properties))


def publish(connection, queue, messages):
    """Publishes durably, a hundred messages in a transaction."""
    channel = connection.channel()
    channel.tx_select()
    for number, (body, properties) in enumerate(messages, 1):
        channel.basic_publish("", queue, body.encode(), properties)
        if number % 100 == 0:
            channel.tx_commit()
    channel.tx_commit()


def length(channel, queue):
    return channel.queue_declare(queue, passive=True).method.message_count


def kill_while(server, queue, count):
    """Kills the server whenever the job has put another part of `count` messages into a queue; returns once all are there."""
    seen = []
    for kill in range(1, KILLS + 1):
        wait_for(server, queue, count * kill // (KILLS + 1), count, seen)
        server.kill()
        server.start()
    assert seen[0] < count, "every kill came too late"
    wait_for(server, queue, count, count, seen)


def wait_for(server, queue, wanted, most, seen):
    """Waits until a queue has so many messages; notes how many those were."""
    connection, channel = connect(server)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while (found := length(channel, queue)) < wanted:
        assert time.monotonic() < deadline, f"{found} messages of {wanted}: {server.log_tail()}"
        time.sleep(0.001)
    assert found <= most, f"{found} messages of {most}"
    seen.append(found)
    connection.close()


def test_what_a_job_writes_is_there_once_and_the_queue_has_its_features(server):
    make_topics(server, "orders")
    connection, channel = connect(server)
    channel.queue_declare("work", durable=True, arguments={"x-max-priority": 9})
    count = 3000
    publish(connection, "orders", [(f"{number % 10} order {number} {'x' * (number % 50)}", None) for number in range(count)])
    connection.close()
    worker = subprocess.Popen([WORKER, server.data, "orders"])
    try:
        kill_while(server, "work", count)
        connection, channel = connect(server)
        taken = drain(channel, "work")
        numbers = [int(body.split()[2]) for body, _ in taken]
        assert sorted(numbers) == list(range(count))
        priorities = [properties.priority for _, properties in taken]
        assert priorities == sorted(priorities, reverse=True), "higher priorities go first"
        assert [int(body[0]) for body, _ in taken] == priorities
        assert {properties.delivery_mode for _, properties in taken} == {2}
        connection.close()
    finally:
        worker.terminate()
        worker.wait()


def test_length_limits_and_dead_letters_apply_to_what_a_job_writes(server):
    make_topics(server, "orders")
    connection, channel = connect(server)
    channel.queue_declare("over", durable=True)
    channel.queue_declare("work", durable=True, arguments={
        "x-max-length": 10, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "over"})
    worker = subprocess.Popen([WORKER, server.data, "orders"])
    try:
        for number in range(40):
            channel.basic_publish("", "orders", f"0 order {number}".encode())
        deadline = time.monotonic() + PATIENCE_SECONDS
        while length(channel, "over") < 30:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        kept, over = drain(channel, "work"), drain(channel, "over")
        assert len(kept) == 10
        assert sorted(int(body.split()[2]) for body, _ in kept + over) == list(range(40))
        assert {properties.headers["x-death"][0]["reason"] for _, properties in over} == {"maxlen"}
        connection.close()
    finally:
        worker.terminate()
        worker.wait()


def test_what_a_job_reads_leaves_its_queue_with_what_it_led_to(server):
    make_topics(server, "seen")
    connection, channel = connect(server)
    channel.queue_declare("inbox", durable=True)
    channel.queue_declare("outbox", durable=True)
    count = 3000
    publish(connection, "inbox", [
        (f"message {number}", pika.BasicProperties(delivery_mode=2, message_id=f"m{number}", headers={"number": number}))
        for number in range(count)])
    connection.close()
    worker = subprocess.Popen([WORKER, server.data, "inbox"])
    try:
        kill_while(server, "outbox", count)
        worker.terminate()
        worker.wait()
        # Nothing is in flight any more, and nothing comes again after a restart.
        server.kill()
        server.start()
        connection, channel = connect(server)
        assert length(channel, "inbox") == 0
        taken = drain(channel, "outbox")
        assert sorted(int(body.split()[1]) for body, _ in taken) == list(range(count))
        assert all(properties.message_id == f"m{body.split()[1]}" for body, properties in taken)
        assert all(properties.headers == {"number": int(body.split()[1])} for body, properties in taken)
        connection.close()
        assert newest(server, "seen") == count
    finally:
        worker.kill()
        worker.wait()


def newest(server, topic):
    """The value of the last record of a topic with one partition."""
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "judge", "auto.offset.reset": "earliest",
                         "enable.partition.eof": True})
    consumer.subscribe([topic])
    value = None
    while True:
        message = consumer.poll(PATIENCE_SECONDS)
        assert message is not None, "the consumer waits in vain"
        if message.error():
            consumer.close()
            return int(value)
        value = message.value()


def test_what_a_job_has_taken_goes_to_others_once_it_ends(server):
    connection, channel = connect(server)
    channel.queue_declare("inbox", durable=True)
    channel.queue_declare("outbox", durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    make_topics(server, "seen")
    channel.basic_publish("", "outbox", b"full")
    for number in range(500):
        channel.basic_publish("", "inbox", f"message {number}".encode())
    worker = subprocess.Popen([WORKER, server.data, "inbox"])
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while length(channel, "inbox") > 0:
            assert time.monotonic() < deadline, "the job takes nothing"
            time.sleep(0.05)
        assert length(channel, "outbox") == 1, "the queue is full, and the step waits"
        worker.kill()
        worker.wait()
        while length(channel, "inbox") < 500:
            assert time.monotonic() < deadline, "the job keeps what it took"
            time.sleep(0.05)
        assert [body for body, _ in drain(channel, "outbox")] == ["full"]
        assert sorted(int(body.split()[1]) for body, _ in drain(channel, "inbox")) == list(range(500))
        connection.close()
    finally:
        worker.kill()
        worker.wait()
