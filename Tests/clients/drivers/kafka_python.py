"""kafka-python 3."""

import time

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition

from millrace_tests.batches import Record

from .base import Driver, Member

# How long a poll of a group's member waits, in ms. Not 100 ms, which is when its metadata arrive: 3.0.12 forgets a group
# assignment that comes in the few milliseconds in which a poll times out, and has none from then on.
GROUP_POLL_MS = 730


def _record(message):
    return Record(message.key, message.value, list(message.headers), message.timestamp, message.offset,
                  message.partition)


class KafkaPython(Driver):
    name = "kafka-python"
    null_headers = False

    def produce(self, bootstrap, topic, records, codec="none", acks="all", idempotent=False, partition=0):
        producer = KafkaProducer(
            bootstrap_servers=bootstrap, acks=acks, enable_idempotence=idempotent, linger_ms=5,
            compression_type=None if codec == "none" else codec)
        try:
            futures = [producer.send(topic, value=one.value, key=one.key, headers=one.headers, partition=partition,
                                     timestamp_ms=one.timestamp or None) for one in records]
            producer.flush(timeout=30)
            return [future.get(timeout=30).offset for future in futures]
        finally:
            producer.close()

    def read(self, bootstrap, topic, partition=0, first=0, count=1, timeout_seconds=20):
        consumer = KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False, auto_offset_reset="none")
        try:
            place = TopicPartition(topic, partition)
            consumer.assign([place])
            consumer.seek(place, first)
            found, deadline = [], time.monotonic() + timeout_seconds
            while len(found) < count and time.monotonic() < deadline:
                for messages in consumer.poll(timeout_ms=500, max_records=count - len(found)).values():
                    found += map(_record, messages)
            return found
        finally:
            consumer.close()

    def offset_for_time(self, bootstrap, topic, partition, milliseconds):
        consumer = KafkaConsumer(bootstrap_servers=bootstrap)
        try:
            place = TopicPartition(topic, partition)
            found = consumer.offsets_for_times({place: milliseconds})[place]
            return None if found is None else found.offset
        finally:
            consumer.close()

    def member(self, bootstrap, group, topic, **options):
        return _Member(bootstrap, group, topic, **options).start()


class _Member(Member):
    def _run(self):
        consumer = KafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.group, group_instance_id=self.instance,
            auto_offset_reset="earliest" if self.from_beginning else "latest", enable_auto_commit=True,
            auto_commit_interval_ms=200, session_timeout_ms=self.session_timeout_ms, heartbeat_interval_ms=500,
            fetch_max_wait_ms=100)
        member = self

        class Listener(ConsumerRebalanceListener):
            def on_partitions_revoked(self, revoked):
                member.assigned = None

            def on_partitions_assigned(self, assigned):
                member._got_assignment(place.partition for place in assigned)

        consumer.subscribe([self.topic], listener=Listener())
        try:
            while not self.stopping.is_set():
                for messages in consumer.poll(timeout_ms=GROUP_POLL_MS).values():
                    for message in messages:
                        self._received(_record(message))
        finally:
            consumer.close()
