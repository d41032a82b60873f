"""Consumer groups: hand-over between members, commits, static membership, the default of a new group."""

import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from drivers import CLIENTS
from drivers.kafka_python import GROUP_POLL_MS, KafkaPython
from kafka import KafkaConsumer, KafkaProducer
from millrace_tests.batches import Record

CONFLUENT = CLIENTS[1]


class Flow:
    """Sends numbered records into every partition of a topic, at a steady pace, until told to stop."""

    def __init__(self, bootstrap, topic, partitions, per_second=800):
        self.sent = 0
        self._stop = threading.Event()
        self._paused = threading.Lock()
        self._producer = KafkaProducer(bootstrap_servers=bootstrap, linger_ms=2)

        def run():
            while not self._stop.is_set():
                with self._paused:
                    for partition in range(partitions):
                        self._producer.send(topic, b"%d" % self.sent, key=b"%d" % partition, partition=partition)
                        self.sent += 1
                time.sleep(partitions / per_second)
            self._producer.flush(timeout=30)
            self._producer.close()

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    @contextmanager
    def paused(self):
        """Sends nothing inside; gives how many were sent."""
        with self._paused:
            yield self.sent

    def stop(self):
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive()
        return self.sent


def complete(sent, *members):
    """Whether every number arrived somewhere; cheap while it cannot be so."""
    return (sum(len(member.records) for member in members) >= sent
            and len({one.value for member in members for one in list(member.records)}) >= sent)


def assert_each_once_in_order(sent, *members):
    """Every number from 0 arrived at exactly one member, and each partition's in order at each member."""
    seen = Counter(int(one.value) for member in members for one in member.records)
    lost = [number for number in range(sent) if number not in seen]
    repeated = [number for number, times in seen.items() if times > 1]
    assert not lost and not repeated, f"of {sent}: lost {lost[:10]} ({len(lost)}), repeated {repeated[:10]} ({len(repeated)})"
    for member in members:
        newest = {}
        for one in member.records:
            assert one.offset > newest.get(one.partition, -1)
            newest[one.partition] = one.offset


def test_two_members_hand_over_without_loss_or_repetition(server, create_topic, topic, client):
    create_topic(topic, partitions=4)
    with client.member(server.bootstrap, topic, topic) as first:
        first.wait_assigned(4)
        flow = Flow(server.bootstrap, topic, 4)
        first.wait_records(50)
        with client.member(server.bootstrap, topic, topic) as second:
            second.wait_assigned(2)
            first.wait_assigned(2)
            second.wait_records(100)
            if client.drops_at_exit:
                with flow.paused() as sent:
                    second.wait(lambda: complete(sent, first, second), what=f"{sent} records before the hand-over")
                    first.leave()
            else:
                first.leave()
            assert {one.partition for one in second.records} != set(range(4))
            second.wait_assigned(4)
            second.wait(lambda: {one.partition for one in second.records} == set(range(4)), what="all partitions")
            sent = flow.stop()
            second.wait(lambda: complete(sent, first, second), what=f"{sent} records in all")
            second.leave()
            assert_each_once_in_order(sent, first, second)


def test_members_of_different_libraries_share_a_group(server, create_topic, topic):
    # aiokafka's default assignor is roundrobin, which librdkafka also offers.
    create_topic(topic, partitions=4)
    with CONFLUENT.member(server.bootstrap, topic, topic) as first:
        first.wait_assigned(4)
        flow = Flow(server.bootstrap, topic, 4)
        with CLIENTS[2].member(server.bootstrap, topic, topic) as second:
            second.wait_assigned(2)
            first.wait_assigned(2)
            second.wait_records(100)
            second.leave()
            first.wait_assigned(4)
            sent = flow.stop()
            first.wait(lambda: complete(sent, first, second), what=f"{sent} records in all")
            first.leave()
            assert_each_once_in_order(sent, first, second)


def test_a_group_goes_on_where_it_left(server, create_topic, topic, client):
    create_topic(topic, partitions=2)
    for partition in range(2):
        CONFLUENT.produce(server.bootstrap, topic, [Record(b"k", b"a%d" % n) for n in range(20)], partition=partition)
    with client.member(server.bootstrap, topic, topic) as before:
        before.wait_records(40).leave()
    for partition in range(2):
        CONFLUENT.produce(server.bootstrap, topic, [Record(b"k", b"b%d" % n) for n in range(5)], partition=partition)
    with client.member(server.bootstrap, topic, topic) as after:
        after.wait_records(10)
        time.sleep(0.3)  # anything repeated would come with the same fetch
        after.leave()
        assert sorted(one.value for one in after.records) == sorted([b"b%d" % n for n in range(5)] * 2)


def test_commits_survive_a_restart(own_server, topic, create_topic, client):
    create_topic(topic, on=own_server)
    CONFLUENT.produce(own_server.bootstrap, topic, [Record(b"k", b"%d" % n) for n in range(30)])
    with client.member(own_server.bootstrap, topic, topic) as before:
        before.wait_records(30).leave()
    own_server.stop()
    own_server.start()
    CONFLUENT.produce(own_server.bootstrap, topic, [Record(b"k", b"after")])
    with client.member(own_server.bootstrap, topic, topic) as after:
        after.wait_records(1)
        time.sleep(0.3)
        after.leave()
        assert [(one.offset, one.value) for one in after.records] == [(30, b"after")]


def test_commits_survive_kill_9(own_server, topic, create_topic):
    create_topic(topic, partitions=3, on=own_server)
    consumer = Consumer({"bootstrap.servers": own_server.bootstrap, "group.id": topic, "enable.auto.commit": False})
    places = [TopicPartition(topic, partition, 7 + partition, metadata=note)
              for partition, note in enumerate(("", "a note", ""))]
    consumer.commit(offsets=places, asynchronous=False)
    consumer.close()
    own_server.kill()
    own_server.start()
    consumer = Consumer({"bootstrap.servers": own_server.bootstrap, "group.id": topic})
    found = consumer.committed([TopicPartition(topic, partition) for partition in range(3)], timeout=20)
    assert [one.offset for one in found] == [7, 8, 9]
    assert found[1].metadata == "a note"
    (absent,) = consumer.committed([TopicPartition(topic, 99)], timeout=20)
    assert absent.offset < 0
    consumer.close()


def test_an_assigned_consumer_with_default_settings_receives_all_that_is_sent_after(server, create_topic):
    # The example everybody starts with: default auto_offset_reset (latest), topic and group by these very names.
    create_topic("topic")
    consumer = KafkaConsumer("topic", group_id="group1", bootstrap_servers=server.bootstrap)
    deadline = time.monotonic() + 30
    received = []
    while not consumer.assignment() and time.monotonic() < deadline:
        received += [one for batch in consumer.poll(timeout_ms=GROUP_POLL_MS).values() for one in batch]
    assert consumer.assignment() and not received
    producer = KafkaProducer(bootstrap_servers=server.bootstrap)
    for number in range(100):
        producer.send("topic", b"message %d" % number)
    producer.flush()
    while len(received) < 100 and time.monotonic() < deadline:
        received += [one for batch in consumer.poll(timeout_ms=GROUP_POLL_MS).values() for one in batch]
    consumer.close()
    producer.close()
    assert [one.value for one in received] == [b"message %d" % number for number in range(100)]


def test_a_group_is_assigned_at_once_when_the_topic_is_made_by_the_consumer(server, topic):
    # kafka-python asks for auto-creation; the group must then get the new topic's partitions and all its records.
    with KafkaPython().member(server.bootstrap, topic, topic) as member:
        member.wait_assigned()
        CONFLUENT.produce(server.bootstrap, topic, [Record(b"k", b"%d" % n) for n in range(10)])
        member.wait_records(10).leave()


@pytest.mark.parametrize("name", ["kafka-python", "confluent-kafka", "aiokafka"])
def test_a_static_member_returns_without_a_rebalance(server, create_topic, topic, name):
    client = next(one for one in CLIENTS if one.name == name)
    create_topic(topic, partitions=4)
    with CONFLUENT.member(server.bootstrap, topic, topic, instance="watching", session_timeout_ms=30_000) as watching, \
            CONFLUENT.member(server.bootstrap, topic, topic, instance="coming", session_timeout_ms=30_000) as coming:
        watching.wait_assigned(2)
        coming.wait_assigned(2)
        held, rebalances = coming.assigned, watching.assignments
        coming.leave()  # librdkafka's static members do not say good-bye
        assert watching.assigned and len(watching.assigned) == 2
        if name == "confluent-kafka":
            with client.member(server.bootstrap, topic, topic, instance="coming", session_timeout_ms=30_000) as back:
                back.wait_assigned(2)
                assert back.assigned == held
                assert watching.assignments == rebalances
                back.leave()
    if name != "confluent-kafka":
        own = f"{topic}.own"
        with client.member(server.bootstrap, own, topic, instance="one", session_timeout_ms=30_000) as member:
            member.wait_assigned(4).leave()
        with client.member(server.bootstrap, own, topic, instance="one", session_timeout_ms=30_000) as member:
            member.wait_assigned(4).leave()


def test_a_second_holder_of_an_instance_id_fences_the_first(server, create_topic, topic):
    create_topic(topic)
    errors = []

    def consumer():
        return Consumer({"bootstrap.servers": server.bootstrap, "group.id": topic, "group.instance.id": "one",
                         "session.timeout.ms": 6000, "heartbeat.interval.ms": 300,
                         "error_cb": lambda error: errors.append(error)})

    def poll_until(one, condition):
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline:
            message = one.poll(0.1)
            if message is not None and message.error() is not None:
                errors.append(message.error())
        return condition()

    first, second = consumer(), consumer()
    first.subscribe([topic])
    assert poll_until(first, first.assignment)
    second.subscribe([topic])
    assert poll_until(second, second.assignment)
    assert poll_until(first, lambda: any(one.name() in ("_FATAL", "FENCED_INSTANCE_ID") for one in errors)), errors
    first.close()
    second.close()


def test_a_member_that_hangs_is_replaced_when_it_has_not_polled_for_too_long(server, create_topic, topic):
    create_topic(topic, partitions=2)
    script = Path(__file__).parent / "stuck_process.py"
    stuck = subprocess.Popen([sys.executable, str(script), server.bootstrap, topic, topic], stdout=subprocess.PIPE, text=True)
    try:
        assert stuck.stdout.readline() == "assigned 2\n"
        with CONFLUENT.member(server.bootstrap, topic, topic) as heir:
            heir.wait_assigned(2, timeout_seconds=40)
            assert stuck.poll() is None
            heir.leave()
    finally:
        stuck.kill()
        stuck.wait()
        stuck.stdout.close()


def test_a_member_that_dies_is_replaced_after_its_session(server, create_topic, topic):
    create_topic(topic, partitions=2)
    script = Path(__file__).parent / "stuck_process.py"
    dying = subprocess.Popen([sys.executable, str(script), server.bootstrap, topic, topic], stdout=subprocess.PIPE, text=True)
    try:
        assert dying.stdout.readline() == "assigned 2\n"
    finally:
        dying.kill()
        dying.wait()
        dying.stdout.close()
    with CONFLUENT.member(server.bootstrap, topic, topic) as heir:
        heir.wait_assigned(2, timeout_seconds=40)
        heir.leave()
