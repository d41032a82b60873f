"""confluent-kafka, which brings its own librdkafka."""

import time

from confluent_kafka import TIMESTAMP_CREATE_TIME, Consumer, KafkaException, Producer, TopicPartition

from millrace_tests.batches import Record

from .base import Driver, Member


def _record(message):
    kind, timestamp = message.timestamp()
    return Record(message.key(), message.value(), list(message.headers() or []),
                  timestamp if kind == TIMESTAMP_CREATE_TIME else -1, message.offset(), message.partition())


class Confluent(Driver):
    name = "confluent-kafka"

    def produce(self, bootstrap, topic, records, codec="none", acks="all", idempotent=False, partition=0):
        producer = Producer({"bootstrap.servers": bootstrap, "acks": acks, "enable.idempotence": idempotent,
                             "compression.type": codec, "linger.ms": 5, "message.timeout.ms": 30_000})
        offsets, errors = {}, []

        def delivered(number):
            def report(error, message):
                if error is not None:
                    errors.append(error)
                else:
                    offsets[number] = message.offset()
            return report

        for number, one in enumerate(records):
            producer.produce(topic, value=one.value, key=one.key, headers=one.headers, partition=partition,
                             timestamp=one.timestamp, on_delivery=delivered(number))
            producer.poll(0)
        producer.flush(30)
        if errors:
            raise KafkaException(errors[0])
        return [offsets[number] for number in range(len(records))]

    def read(self, bootstrap, topic, partition=0, first=0, count=1, timeout_seconds=20):
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused", "enable.auto.commit": False,
                             "auto.offset.reset": "error", "check.crcs": True})
        try:
            consumer.assign([TopicPartition(topic, partition, first)])
            found, deadline = [], time.monotonic() + timeout_seconds
            while len(found) < count and time.monotonic() < deadline:
                for message in consumer.consume(count - len(found), timeout=0.5):
                    if message.error() is not None:
                        raise KafkaException(message.error())
                    found.append(_record(message))
            return found
        finally:
            consumer.close()

    def offset_for_time(self, bootstrap, topic, partition, milliseconds):
        consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "unused"})
        try:
            (found,) = consumer.offsets_for_times([TopicPartition(topic, partition, milliseconds)], timeout=20)
            return None if found.offset < 0 else found.offset
        finally:
            consumer.close()

    def member(self, bootstrap, group, topic, **options):
        return _Member(bootstrap, group, topic, **options).start()


class _Member(Member):
    def _run(self):
        options = {"bootstrap.servers": self.bootstrap, "group.id": self.group, "enable.auto.commit": True,
                   "auto.commit.interval.ms": 200, "session.timeout.ms": self.session_timeout_ms,
                   "heartbeat.interval.ms": 500, "fetch.wait.max.ms": 100,
                   "auto.offset.reset": "earliest" if self.from_beginning else "latest"}
        if self.instance:
            options["group.instance.id"] = self.instance
        consumer = Consumer(options)

        def on_assign(_, places):
            self._got_assignment(place.partition for place in places)

        def on_revoke(_, places):
            del places
            self.assigned = None

        consumer.subscribe([self.topic], on_assign=on_assign, on_revoke=on_revoke)
        try:
            while not self.stopping.is_set():
                message = consumer.poll(0.1)
                if message is None:
                    continue
                if message.error() is not None:
                    raise KafkaException(message.error())
                self._received(_record(message))
        finally:
            consumer.close()


class ConsumerProtocolMember(Member):
    """A member of a group of KIP-848's protocol. Partitions are (topic, partition) here, since a subscription may be an
    expression, and `assigned` is what it has now, since assignments come in steps. With `classic`, a strategy, it speaks
    the classic protocol instead."""

    def __init__(self, bootstrap, group, topics, assignor=None, commit_each=False, classic=None, **options):
        super().__init__(bootstrap, group, topics, **options)
        self.assignor, self.commit_each, self.classic = assignor, commit_each, classic
        self.assigned = set()
        self.revocations = 0
        self.errors = []
        #: By (topic, partition): the offset of the last commit that was acknowledged.
        self.committed = {}

    def wait_assigned(self, count=None, timeout_seconds=30):
        return self.wait(lambda: len(self.assigned) == count if count is not None else self.assigned, timeout_seconds,
                         f"an assignment of {count} partitions")

    def _run(self):
        options = {"bootstrap.servers": self.bootstrap, "group.id": self.group,
                   "group.protocol": "classic" if self.classic else "consumer", "enable.auto.commit": not self.commit_each, "auto.commit.interval.ms": 200,
                   "fetch.wait.max.ms": 100,
                   "auto.offset.reset": "earliest" if self.from_beginning else "latest",
                   "topic.metadata.refresh.interval.ms": 1000, "error_cb": self.errors.append}
        if self.instance:
            options["group.instance.id"] = self.instance
        if self.classic:
            options |= {"partition.assignment.strategy": self.classic, "session.timeout.ms": self.session_timeout_ms,
                        "heartbeat.interval.ms": 300}
        if self.assignor:
            options["group.remote.assignor"] = self.assignor
        consumer = Consumer(options)

        def on_assign(_, places):
            self.assignments += 1
            self.assigned = self.assigned | {(place.topic, place.partition) for place in places}

        def on_revoke(_, places):
            self.revocations += 1
            self.assigned = self.assigned - {(place.topic, place.partition) for place in places}

        consumer.subscribe(self.topic if isinstance(self.topic, list) else [self.topic], on_assign=on_assign,
                           on_revoke=on_revoke, on_lost=on_revoke)
        try:
            while not self.stopping.is_set():
                message = consumer.poll(0.1)
                if message is None:
                    continue
                if message.error() is not None:
                    raise KafkaException(message.error())
                self._received(_record(message))
                if self.commit_each:
                    self._commit(consumer, message)
        finally:
            consumer.close()

    def _commit(self, consumer, message):
        try:
            consumer.commit(message, asynchronous=False)
        except KafkaException as error:
            # A commit that fails, for example while the broker is away, is no commit; the record may come again.
            self.errors.append(error.args[0])
        else:
            self.committed[message.topic(), message.partition()] = message.offset() + 1
