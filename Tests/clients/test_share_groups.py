"""Share groups (KIP-932) with unmodified librdkafka: sharing, acknowledging, locks, deaths of both sides; and what only raw
requests can say."""

import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter

import pytest
from confluent_kafka import AcknowledgeType, Consumer, KafkaException, Producer, ShareConsumer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from millrace_tests import wire

#: Kafka's standard lock is 30 s and its shortest 15 s; tests want it to end sooner, and members to be missed sooner.
QUICK = ["--set", "group.share.min.record.lock.duration.ms=500", "--set", "group.share.min.session.timeout.ms=1000",
         "--set", "group.share.session.timeout.ms=4000", "--set", "group.share.min.heartbeat.interval.ms=100",
         "--set", "group.share.heartbeat.interval.ms=300"]
PATIENCE_SECONDS = 30
ACCEPT, RELEASE, REJECT = AcknowledgeType.ACCEPT, AcknowledgeType.RELEASE, AcknowledgeType.REJECT
INVALID_RECORD_STATE, SESSION_NOT_FOUND, INVALID_SESSION_EPOCH, INVALID_REQUEST = 121, 122, 123, 42
GROUP_ID_NOT_FOUND, UNKNOWN_TOPIC_ID, NON_EMPTY_GROUP, INCONSISTENT_GROUP_PROTOCOL = 69, 100, 68, 23


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A server for all tests here that do not end it."""
    from millrace_tests.server import Server
    with Server(tmp_path_factory.mktemp("quick"), arguments=QUICK) as server:
        yield server.start()
        if server.running:
            server.stop()


def configure(server, group, **settings):
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    resource = ConfigResource(ResourceType.GROUP, group, incremental_configs=[
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in {"share_auto_offset_reset": "earliest", **settings}.items()])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(20)


def produce(server, topic, values):
    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 0})
    failures = []
    for value in values:
        producer.produce(topic, value.encode(), on_delivery=lambda error, _: error and failures.append(error))
    assert producer.flush(PATIENCE_SECONDS) == 0 and not failures


class Member:
    """A share consumer that is closed with the test."""

    def __init__(self, server, group, topics, explicit=True):
        self.consumer = ShareConsumer({
            "bootstrap.servers": server.bootstrap, "group.id": group,
            "share.acknowledgement.mode": "explicit" if explicit else "implicit"})
        self.consumer.subscribe([topics] if isinstance(topics, str) else topics)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.consumer.close()

    def get(self, seconds=1.0):
        messages = list(self.consumer.poll(seconds))
        assert not [one.error() for one in messages if one.error()]
        return messages

    def get_some(self):
        """What comes first, within patience."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            messages = self.get()
            if messages:
                return messages
        raise AssertionError("no records came")

    def settle(self, messages, kind=ACCEPT):
        """Acknowledges and waits until that is durable; gives the errors."""
        for message in messages:
            self.consumer.acknowledge(message, kind)
        return [error.args[0].code() for error in self.consumer.commit_sync(PATIENCE_SECONDS).values() if error]


def values(messages):
    return [one.value().decode() for one in messages]


def drain(member, count):
    """Accepts until `count` different records have come; gives all that came."""
    got = []
    end = time.monotonic() + PATIENCE_SECONDS
    while len(set(got)) < count:
        assert time.monotonic() < end, f"{len(set(got))} of {count} records came"
        messages = member.get()
        got += values(messages)
        if messages:
            assert member.settle(messages) == []
    return got


def test_two_members_share_one_partition_and_each_record_goes_to_one(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic)
    sent = [f"v{index}" for index in range(4000)]
    got = [[], []]
    stop = threading.Event()

    def run(index):
        with Member(quick, topic, topic) as member:
            while not stop.is_set():
                messages = member.get(0.2)
                if messages:
                    assert member.settle(messages) == []
                    got[index] += values(messages)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for first in range(0, len(sent), 200):
        produce(quick, topic, sent[first:first + 200])
    end = time.monotonic() + PATIENCE_SECONDS
    while sum(map(len, got)) < len(sent) and time.monotonic() < end:
        time.sleep(0.05)
    stop.set()
    for thread in threads:
        thread.join()
    assert Counter(got[0] + got[1]) == Counter(sent)
    assert got[0] and got[1], "both had a part of it"


def test_implicit_acknowledgement_accepts_with_the_next_poll(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic)
    produce(quick, topic, ["a", "b"])
    with Member(quick, topic, topic, explicit=False) as member:
        got = []
        while len(got) < 2:
            got += values(member.get())
        member.get(0.5)
    with Member(quick, topic, topic, explicit=False) as member:
        produce(quick, topic, ["c"])
        assert values(member.get_some()) == ["c"]


def test_accept_release_and_reject(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic)
    produce(quick, topic, ["accepted", "released", "rejected"])
    with Member(quick, topic, topic) as member:
        messages = member.get_some()
        assert values(messages) == ["accepted", "released", "rejected"]
        assert [one.delivery_count() for one in messages] == [1, 1, 1]
        for message, kind in zip(messages, (ACCEPT, RELEASE, REJECT)):
            member.consumer.acknowledge(message, kind)
        member.consumer.commit_sync(PATIENCE_SECONDS)
        again = member.get_some()
        assert values(again) == ["released"] and again[0].delivery_count() == 2
        assert member.settle(again) == []
        assert member.get(1.0) == []


def test_a_lock_ends_and_what_is_said_after_it_is_refused(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic, **{"share.record.lock.duration.ms": "700"})
    produce(quick, topic, ["slow"])
    with Member(quick, topic, topic) as slow, Member(quick, topic, topic) as other:
        held = slow.get_some()
        again = other.get_some()
        assert values(again) == ["slow"] and again[0].delivery_count() == 2
        assert other.settle(again) == []
        assert slow.settle(held) == [INVALID_RECORD_STATE]
        assert other.get(1.0) == []


def test_deliveries_end(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic, **{"share.delivery.count.limit": "3"})
    produce(quick, topic, ["poison"])
    with Member(quick, topic, topic) as member:
        for count in (1, 2, 3):
            messages = member.get_some()
            assert values(messages) == ["poison"] and messages[0].delivery_count() == count
            assert member.settle(messages, RELEASE) == []
        assert member.get(1.0) == []
        produce(quick, topic, ["good"])
        assert values(member.get_some()) == ["good"]


CRASHING = """
import sys, time
from confluent_kafka import ShareConsumer
consumer = ShareConsumer({"bootstrap.servers": sys.argv[1], "group.id": sys.argv[2]})
consumer.subscribe([sys.argv[2]])
while True:
    if len(consumer.poll(1.0)):
        print("got", flush=True)
        time.sleep(1000)
"""


def test_what_a_killed_consumer_had_goes_to_others_at_once(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic, **{"share.record.lock.duration.ms": "60000"})
    produce(quick, topic, ["a", "b"])
    with subprocess.Popen([sys.executable, "-c", CRASHING, quick.bootstrap, topic], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "got\n"
        process.kill()
    with Member(quick, topic, topic) as member:
        messages = member.get_some()
        assert values(messages) == ["a", "b"]
        assert [one.delivery_count() for one in messages] == [2, 2]


@pytest.mark.parametrize("way", ["stop", "kill"])
def test_acknowledgements_outlast_the_server(make_server, create_topic, topic, way):
    server = make_server(arguments=QUICK).start()
    create_topic(topic, on=server)
    configure(server, topic)
    produce(server, topic, [f"v{index}" for index in range(10)])
    with Member(server, topic, topic) as member:
        messages = member.get_some()
        assert len(messages) == 10
        for message in messages:
            member.consumer.acknowledge(message, (ACCEPT, REJECT, RELEASE)[message.offset() % 3])
        assert not any(member.consumer.commit_sync(PATIENCE_SECONDS).values())
        (server.stop if way == "stop" else server.kill)()
        server.start()
        left = {}
        end = time.monotonic() + PATIENCE_SECONDS
        while len(left) < 3 and time.monotonic() < end:
            messages = member.get()
            left.update({one.offset(): one.delivery_count() for one in messages})
            if messages:
                assert member.settle(messages) == []
    assert left == {2: 2, 5: 2, 8: 2}


def test_beside_an_ordinary_group_on_the_same_topic(quick, create_topic, topic):
    create_topic(topic, partitions=3, on=quick)
    configure(quick, f"{topic}-share")
    sent = [f"v{index}" for index in range(300)]
    produce(quick, topic, sent)
    consumer = Consumer({"bootstrap.servers": quick.bootstrap, "group.id": f"{topic}-plain", "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    with Member(quick, f"{topic}-share", topic) as member:
        assert sorted(drain(member, 300)) == sorted(sent)
    plain = []
    while len(plain) < 300:
        plain += [one.value().decode() for one in consumer.consume(100, 1.0) if not one.error()]
    consumer.close()
    assert sorted(plain) == sorted(sent)


def test_several_partitions_are_divided_and_new_ones_taken_up(quick, create_topic, topic):
    create_topic(topic, partitions=4, on=quick)
    configure(quick, topic)
    with Member(quick, topic, topic) as one, Member(quick, topic, topic) as two:
        produce(quick, topic, [f"v{index}" for index in range(400)])
        got = []
        end = time.monotonic() + PATIENCE_SECONDS
        while len(got) < 400 and time.monotonic() < end:
            for member in (one, two):
                messages = member.get(0.2)
                got += values(messages)
                if messages:
                    assert member.settle(messages) == []
        assert sorted(got) == sorted(f"v{index}" for index in range(400))
        admin = AdminClient({"bootstrap.servers": quick.bootstrap})
        from confluent_kafka.admin import NewPartitions
        admin.create_partitions([NewPartitions(topic, 5)])[topic].result(20)
        producer = Producer({"bootstrap.servers": quick.bootstrap})
        producer.produce(topic, b"new", partition=4)
        assert producer.flush(PATIENCE_SECONDS) == 0
        new = []
        end = time.monotonic() + PATIENCE_SECONDS
        while not new and time.monotonic() < end:
            for member in (one, two):
                messages = member.get(0.2)
                new += values(messages)
                if messages:
                    member.settle(messages)
        assert new == ["new"]


def test_a_topic_that_does_not_exist_yet(quick, create_topic, topic):
    configure(quick, topic)
    with Member(quick, topic, topic) as member:
        member.consumer.poll(1.0)
        create_topic(topic, on=quick)
        produce(quick, topic, ["first"])
        got = []
        end = time.monotonic() + PATIENCE_SECONDS
        while not got and time.monotonic() < end:
            got = [one for one in member.consumer.poll(1.0) if not one.error()]
        assert values(got) == ["first"]


def test_only_what_is_committed_when_the_group_says_so(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic, **{"share.isolation.level": "read_committed"})
    for outcome in ("abort", "commit", "abort"):
        producer = Producer({"bootstrap.servers": quick.bootstrap, "transactional.id": f"{topic}-{outcome}"})
        producer.init_transactions(PATIENCE_SECONDS)
        producer.begin_transaction()
        producer.produce(topic, outcome.encode())
        getattr(producer, f"{outcome}_transaction")(PATIENCE_SECONDS)
    with Member(quick, topic, topic) as member:
        messages = member.get_some()
        assert values(messages) == ["commit"]
        assert member.settle(messages) == []
        assert member.get(1.0) == []


# What the client does not show: raw requests.

def heartbeat(connection, group, member, epoch, topics=None):
    body = wire.compact_string(group) + wire.compact_string(member) + epoch.to_bytes(4, "big", signed=True) + b"\0"
    if topics is None:
        body += b"\0"
    else:
        body += wire.uvarint(len(topics) + 1) + b"".join(map(wire.compact_string, topics))
    answer = connection.call(76, 1, body + b"\0", flexible=True)
    answer.int32()
    error, reason = answer.int16(), answer.compact_string()
    answer.compact_string()
    return error, answer.int32(), reason


def batches(acknowledged):
    out = wire.uvarint(len(acknowledged) + 1)
    for first, last, kinds in acknowledged:
        out += first.to_bytes(8, "big", signed=True) + last.to_bytes(8, "big", signed=True)
        out += wire.uvarint(len(kinds) + 1) + bytes(kinds) + b"\0"
    return out


def share_fetch(connection, group, member, epoch, topics, records=500, wait_ms=0, renew=False, version=2, mode=1, forget=()):
    """`topics`: by id, by partition, what is acknowledged. Gives the error and each partition's answer."""
    body = wire.compact_string(group) + wire.compact_string(member)
    for number in (epoch, 0 if renew else wait_ms, 0 if renew else 1, 0 if renew else 1 << 20, 0 if renew else records, 500):
        body += number.to_bytes(4, "big", signed=True)
    if version >= 2:
        body += bytes([mode, renew])
    body += wire.uvarint(len(topics) + 1)
    for topic, partitions in topics.items():
        body += topic + wire.uvarint(len(partitions) + 1)
        for index, acknowledged in partitions.items():
            body += index.to_bytes(4, "big") + batches(acknowledged) + b"\0"
        body += b"\0"
    body += wire.uvarint(len(forget) + 1)
    for topic in forget:
        body += topic + b"\x02" + bytes(4) + b"\0"
    answer = connection.call(78, version, body + b"\0", flexible=True)
    answer.int32()
    error = answer.int16()
    answer.compact_string()
    lock = answer.int32()
    found = {}
    for _ in range(answer.uvarint() - 1):
        answer.take(16)
        for _ in range(answer.uvarint() - 1):
            index, code = answer.int32(), answer.int16()
            answer.compact_string()
            acknowledged = answer.int16()
            answer.compact_string()
            answer.take(8)
            answer.tags()
            answer.compact_bytes()
            acquired = []
            for _ in range(answer.uvarint() - 1):
                acquired.append((answer.int64(), answer.int64(), answer.int16()))
                answer.tags()
            answer.tags()
            found[index] = (code, acknowledged, acquired)
        answer.tags()
    return error, found, lock


def share_acknowledge(connection, group, member, epoch, topics, renew=False, version=2):
    body = wire.compact_string(group) + wire.compact_string(member) + epoch.to_bytes(4, "big", signed=True)
    if version >= 2:
        body += bytes([renew])
    body += wire.uvarint(len(topics) + 1)
    for topic, partitions in topics.items():
        body += topic + wire.uvarint(len(partitions) + 1)
        for index, acknowledged in partitions.items():
            body += index.to_bytes(4, "big") + batches(acknowledged) + b"\0"
        body += b"\0"
    answer = connection.call(79, version, body + b"\0", flexible=True)
    answer.int32()
    error = answer.int16()
    answer.compact_string()
    if version >= 2:
        answer.int32()
    found = {}
    for _ in range(answer.uvarint() - 1):
        answer.take(16)
        for _ in range(answer.uvarint() - 1):
            index, code = answer.int32(), answer.int16()
            answer.compact_string()
            answer.take(8)
            answer.tags()
            answer.tags()
            found[index] = code
        answer.tags()
    return error, found


def topic_id(server, topic):
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    from confluent_kafka import TopicCollection
    one = admin.describe_topics(TopicCollection([topic]))[topic].result(20).topic_id
    return (one.get_most_significant_bits() % (1 << 64)).to_bytes(8, "big") + (
        one.get_least_significant_bits() % (1 << 64)).to_bytes(8, "big")


def test_share_sessions_go_by_their_epochs(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic)
    produce(quick, topic, ["a", "b", "c"])
    one = topic_id(quick, topic)
    with wire.Wire(quick) as connection:
        assert heartbeat(connection, topic, "m", 0, [topic])[0] == 0
        assert share_fetch(connection, topic, "m", 3, {})[0] == SESSION_NOT_FOUND
        assert share_acknowledge(connection, topic, "m", 1, {})[0] == SESSION_NOT_FOUND
        assert share_fetch(connection, topic, "m", -1, {})[0] == SESSION_NOT_FOUND
        assert share_acknowledge(connection, topic, "m", 0, {})[0] == INVALID_SESSION_EPOCH
        assert share_fetch(connection, topic, "m", 0, {one: {0: [(0, 0, [1])]}})[0] == INVALID_REQUEST
        assert share_fetch(connection, topic, "", 0, {})[0] == INVALID_REQUEST
        error, found, lock = share_fetch(connection, topic, "m", 0, {one: {0: []}}, records=2, wait_ms=5000)
        assert (error, found, lock) == (0, {0: (0, 0, [(0, 1, 1)])}, 30_000)
        assert share_fetch(connection, topic, "m", 2, {})[0] == INVALID_SESSION_EPOCH
        assert share_acknowledge(connection, topic, "m", 1, {one: {0: [(0, 0, [1])]}}) == (0, {0: 0})
        error, found, _ = share_fetch(connection, topic, "m", 2, {one: {0: [(1, 1, [2])]}})
        # What was released comes again, in the same answer.
        assert (error, found) == (0, {0: (0, 0, [(1, 1, 2), (2, 2, 1)])})
        # Whoever closes a session gives back what it had, and that was no delivery.
        assert share_acknowledge(connection, topic, "m", -1, {one: {0: [(2, 2, [1])]}}) == (0, {0: 0})
        assert share_fetch(connection, topic, "n", 0, {one: {0: []}})[1] == {0: (0, 0, [(1, 1, 2)])}


def test_wrong_words_are_refused_and_change_nothing(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic)
    produce(quick, topic, ["a", "b", "c"])
    one, missing = topic_id(quick, topic), bytes(15) + b"\1"
    with wire.Wire(quick) as connection:
        assert share_fetch(connection, topic, "m", 0, {one: {0: []}}, wait_ms=5000)[1] == {0: (0, 0, [(0, 2, 1)])}
        epoch = 0

        def said(*acknowledged, renew=False, topics=None):
            nonlocal epoch
            epoch += 1
            return share_acknowledge(connection, topic, "m", epoch, topics or {one: {0: list(acknowledged)}}, renew=renew)

        assert said((0, 3, [1])) == (0, {0: INVALID_RECORD_STATE})
        assert said((1, 0, [1])) == (0, {0: INVALID_REQUEST})
        assert said((0, 2, [1, 1])) == (0, {0: INVALID_REQUEST})
        assert said((0, 0, [9])) == (0, {0: INVALID_REQUEST})
        assert said((0, 0, [])) == (0, {0: INVALID_REQUEST})
        assert said((-1, 2, [1])) == (0, {0: INVALID_REQUEST})
        assert said((0, (1 << 63) - 1, [1])) == (0, {0: INVALID_REQUEST})
        assert said((1, 1, [1]), (0, 0, [1])) == (0, {0: INVALID_REQUEST})
        assert said((0, 0, [4])) == (0, {0: INVALID_REQUEST}), "a lock is renewed by requests that say so"
        assert said(topics={missing: {0: [(0, 0, [1])]}}) == (0, {0: UNKNOWN_TOPIC_ID})
        assert said(topics={one: {7: [(0, 0, [1])]}}) == (0, {7: 3})
        assert said((0, 0, [4]), renew=True) == (0, {0: 0})
        # One bad word undoes all of a partition's.
        assert said((0, 1, [1]), (5, 5, [1])) == (0, {0: INVALID_RECORD_STATE})
        assert said((0, 2, [1])) == (0, {0: 0})
        assert said((0, 2, [1])) == (0, {0: INVALID_RECORD_STATE})


def test_a_renewed_lock_lasts_longer(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic, **{"share.record.lock.duration.ms": "1500"})
    produce(quick, topic, ["a", "b"])
    one = topic_id(quick, topic)
    with wire.Wire(quick) as connection, wire.Wire(quick) as other:
        assert share_fetch(connection, topic, "m", 0, {one: {0: []}}, wait_ms=5000)[1] == {0: (0, 0, [(0, 1, 1)])}
        for epoch in range(1, 7):
            time.sleep(0.5)
            assert share_fetch(connection, topic, "m", epoch, {one: {0: [(0, 0, [4])]}}, renew=True)[:2] == (
                0, {0: (0, 0, [])})
        # The other one's lock has ended by now, or will.
        assert share_fetch(other, topic, "n", 0, {one: {0: []}}, wait_ms=20_000)[1] == {0: (0, 0, [(1, 1, 2)])}
        assert share_acknowledge(connection, topic, "m", 7, {one: {0: [(0, 0, [1])]}}) == (0, {0: 0})
        assert share_fetch(connection, topic, "m", 8, {}, renew=True, version=2)[0] == 0


def test_whole_batches_or_not_beyond_the_number_of_records(quick, create_topic, topic):
    create_topic(topic, on=quick)
    one = topic_id(quick, topic)
    for group, mode, expected in ((f"{topic}-batches", 0, [(0, 9, 1)]), (f"{topic}-records", 1, [(0, 3, 1)])):
        configure(quick, group)
    from millrace_tests.batches import Record, encode
    with wire.Wire(quick) as connection:
        assert wire.produce(connection, topic, 0, encode([Record(value=b"x") for _ in range(10)]))[0] == 0
        for group, mode, expected in ((f"{topic}-batches", 0, [(0, 9, 1)]), (f"{topic}-records", 1, [(0, 3, 1)])):
            assert share_fetch(connection, group, "m", 0, {one: {0: []}}, records=4, wait_ms=5000, mode=mode)[1] == {
                0: (0, 0, expected)}


def test_names_belong_to_one_kind_of_group(quick, create_topic, topic):
    create_topic(topic, on=quick)
    configure(quick, topic)
    produce(quick, topic, ["a"])
    with Member(quick, topic, topic) as member:
        assert member.settle(member.get_some()) == []
        admin = AdminClient({"bootstrap.servers": quick.bootstrap})
        with pytest.raises(KafkaException) as refused:
            Consumer({"bootstrap.servers": quick.bootstrap, "group.id": topic}).commit(
                offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
        assert refused.value.args[0].code() == GROUP_ID_NOT_FOUND
        with pytest.raises(KafkaException) as refused:
            admin.delete_consumer_groups([topic])[topic].result(20)
        assert refused.value.args[0].code() == NON_EMPTY_GROUP
    admin.delete_consumer_groups([topic])[topic].result(20)
    plain = f"{topic}-plain"
    Consumer({"bootstrap.servers": quick.bootstrap, "group.id": plain}).commit(
        offsets=[TopicPartition(topic, 0, 1)], asynchronous=False)
    with wire.Wire(quick) as connection:
        assert heartbeat(connection, plain, "m", 0, [topic])[0] == GROUP_ID_NOT_FOUND


def test_heartbeats_that_are_wrong(quick, create_topic, topic):
    create_topic(topic, on=quick)
    with wire.Wire(quick) as connection:
        assert heartbeat(connection, "", "m", 0, [topic])[0] == INVALID_REQUEST
        assert heartbeat(connection, topic, "", 0, [topic])[0] == INVALID_REQUEST
        assert heartbeat(connection, topic, "m" * 37, 0, [topic])[0] == INVALID_REQUEST
        assert heartbeat(connection, topic, "m", -2, [topic])[0] == INVALID_REQUEST
        assert heartbeat(connection, topic, "m", 0)[0] == INVALID_REQUEST
        assert heartbeat(connection, topic, "m", 5)[0] == 25
        assert heartbeat(connection, topic, "m", 0, [topic])[:2] == (0, 1)
        assert heartbeat(connection, topic, "m", 5)[0] == 110
        assert heartbeat(connection, topic, "m", 1)[:2] == (0, 1)
        assert heartbeat(connection, topic, "m", -1)[:2] == (0, -1)
        assert heartbeat(connection, topic, "m", 1)[0] == 25
