"""Queues at both ends of a stream job: what pika publishes to an exchange is counted, and the counts are consumed one by one."""

import os
import subprocess
import time
from pathlib import Path

import pika
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType)

ROOT = Path(__file__).resolve().parents[2]
WORKER = Path(os.environ.get("MILLRACE_CRASH_WORKER", ROOT / ".build" / "release" / "CrashWorker"))
PATIENCE_SECONDS = 30


def test_a_job_reads_what_an_exchange_routes_and_its_results_are_consumed_as_a_queue(server):
    """The job is the word count of Tests/crash/worker, from `lines` to `counts`; one consumer refuses the first count."""
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    for done in admin.create_topics([NewTopic("lines", 2), NewTopic("counts", 2)]).values():
        done.result(20)
    begin = ConfigResource(ResourceType.GROUP, "billing", incremental_configs=[
        ConfigEntry("share.auto.offset.reset", "earliest", incremental_operation=AlterConfigOpType.SET)])
    for done in admin.incremental_alter_configs([begin]).values():
        done.result(20)
    connection = pika.BlockingConnection(pika.ConnectionParameters(server.amqp_host, server.amqp_port))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.exchange_declare("texts", "topic")
    channel.queue_bind("lines", "texts", "english.#")
    worker = subprocess.Popen([WORKER, server.data], stdout=subprocess.PIPE, text=True)
    try:
        for number in range(100):
            channel.basic_publish("texts", f"english.{number}", b"to be or not to be")
            channel.basic_publish("texts", f"german.{number}", b"sein oder nicht sein")
        refused, taken, counts = [], [], {}
        channel.basic_qos(prefetch_count=10)

        def take(_, method, properties, body):
            word = method.routing_key
            if not refused:
                refused.append((word, body))
                return channel.basic_nack(method.delivery_tag, requeue=True)
            counts[word] = max(counts.get(word, 0), int(body))
            taken.append((word, body))
            channel.basic_ack(method.delivery_tag)

        channel.basic_consume("counts", take, arguments={"x-share-group": "billing"})
        expected = {"to": 200, "be": 200, "or": 100, "not": 100}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while counts != expected or refused[0] not in taken:
            assert time.monotonic() < deadline, (counts, refused)
            connection.process_data_events(0.1)
        assert len(taken) == len(set(taken)), "a count came twice"
        connection.close()
    finally:
        worker.terminate()
        worker.wait()
