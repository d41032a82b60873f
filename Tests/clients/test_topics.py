"""Topics: made, deleted, listed, described by every admin client; made on first use only where that was asked for."""

import time

import pytest
from confluent_kafka import Consumer, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from drivers import CLIENTS
from kafka import KafkaAdminClient, KafkaConsumer
from kafka.admin import ConfigResource as KafkaPythonConfigResource
from kafka.admin import ConfigResourceType
from kafka.errors import TopicAlreadyExistsError, UnknownTopicOrPartitionError
from millrace_tests import wire
from millrace_tests.batches import Record


@pytest.fixture
def admin(server):
    return AdminClient({"bootstrap.servers": server.bootstrap})


@pytest.fixture
def kafka_python_admin(server):
    one = KafkaAdminClient(bootstrap_servers=server.bootstrap)
    yield one
    one.close()


def error_name(future):
    with pytest.raises(KafkaException) as raised:
        future.result(20)
    return raised.value.args[0].name()


def test_librdkafka_makes_lists_and_deletes_a_topic(admin, topic):
    admin.create_topics([NewTopic(topic, 5, 1)])[topic].result(20)
    found = admin.list_topics(timeout=10).topics[topic]
    assert sorted(found.partitions) == [0, 1, 2, 3, 4]
    assert all(one.leader == 0 and one.replicas == [0] and one.isrs == [0] for one in found.partitions.values())
    admin.delete_topics([topic])[topic].result(20)
    assert topic not in admin.list_topics(timeout=10).topics


def test_kafka_python_makes_lists_and_deletes_a_topic(kafka_python_admin, topic):
    kafka_python_admin.create_topics({topic: {"num_partitions": 3, "replication_factor": 1}})
    assert topic in kafka_python_admin.list_topics()
    (found,) = kafka_python_admin.describe_topics([topic])
    assert len(found["partitions"]) == 3
    kafka_python_admin.delete_topics([topic])
    assert topic not in kafka_python_admin.list_topics()


def test_the_errors_of_making_and_deleting(admin, kafka_python_admin, topic):
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    assert error_name(admin.create_topics([NewTopic(topic, 1, 1)])[topic]) == "TOPIC_ALREADY_EXISTS"
    assert error_name(admin.create_topics([NewTopic("no/slash", 1, 1)])["no/slash"]) == "TOPIC_EXCEPTION"
    assert error_name(admin.create_topics([NewTopic("three", 1, 3)])["three"]) == "INVALID_REPLICATION_FACTOR"
    assert error_name(admin.create_topics([NewTopic("none", 1, 1, config={"retention.ms": "soon"})])["none"]) \
        == "INVALID_CONFIG"
    assert error_name(admin.delete_topics(["never.made"])["never.made"]) == "UNKNOWN_TOPIC_OR_PART"
    with pytest.raises(TopicAlreadyExistsError):
        kafka_python_admin.create_topics({topic: {"num_partitions": 1, "replication_factor": 1}})
    with pytest.raises(UnknownTopicOrPartitionError):
        kafka_python_admin.delete_topics(["never.made"])


def test_validate_only_makes_nothing(admin, topic):
    admin.create_topics([NewTopic(topic, 2, 1)], validate_only=True)[topic].result(20)
    assert topic not in admin.list_topics(timeout=10).topics


def test_settings_of_a_topic_are_kept_and_described(admin, kafka_python_admin, topic):
    admin.create_topics([NewTopic(topic, 1, 1, config={"retention.ms": "3600000", "cleanup.policy": "compact"})])[
        topic].result(20)
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    found = future.result(20)
    assert found["retention.ms"].value == "3600000" and not found["retention.ms"].is_default
    assert found["cleanup.policy"].value == "compact"
    assert found["max.message.bytes"].value == "1048588" and found["max.message.bytes"].is_default
    described = kafka_python_admin.describe_configs(
        [KafkaPythonConfigResource(ConfigResourceType.TOPIC, topic)], config_filter="all")
    assert "3600000" in str(described)


def test_the_servers_own_settings_are_described(admin):
    (future,) = admin.describe_configs([ConfigResource(ResourceType.BROKER, "0")]).values()
    found = future.result(20)
    assert int(found["num.partitions"].value) >= 1
    assert found["auto.create.topics.enable"].value in ("true", "false")


def test_a_topic_made_again_is_empty_and_has_a_new_id(server, admin, topic):
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    CLIENTS[1].produce(server.bootstrap, topic, [Record(b"k", b"old")])
    first = admin.describe_topics(_names(topic))[topic].result(20).topic_id
    admin.delete_topics([topic])[topic].result(20)
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    second = admin.describe_topics(_names(topic))[topic].result(20).topic_id
    assert str(first) != str(second)
    assert CLIENTS[1].produce(server.bootstrap, topic, [Record(b"k", b"new")]) == [0]
    assert [one.value for one in CLIENTS[1].read(server.bootstrap, topic)] == [b"new"]


def _names(*topics):
    return TopicCollection(list(topics))


def test_topics_and_their_settings_survive_kill_9(own_server, topic):
    admin = AdminClient({"bootstrap.servers": own_server.bootstrap})
    admin.create_topics([NewTopic(topic, 7, 1, config={"retention.ms": "1234567"})])[topic].result(20)
    before = admin.describe_topics(_names(topic))[topic].result(20).topic_id
    own_server.kill()
    own_server.start()
    admin = AdminClient({"bootstrap.servers": own_server.bootstrap})
    after = admin.describe_topics(_names(topic))[topic].result(20)
    assert len(after.partitions) == 7 and str(after.topic_id) == str(before)
    (future,) = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    assert future.result(20)["retention.ms"].value == "1234567"


def test_producing_makes_the_topic(server, admin, topic, client):
    client.produce(server.bootstrap, topic, [Record(b"k", b"first")])
    assert topic in admin.list_topics(timeout=10).topics
    assert [one.value for one in CLIENTS[1].read(server.bootstrap, topic)] == [b"first"]


def test_a_consumer_that_does_not_want_the_topic_made_does_not_make_it(server, admin, topic):
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": topic,
                         "allow.auto.create.topics": False})
    consumer.subscribe([topic])
    deadline = time.monotonic() + 10
    refusal = None
    while refusal is None and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        refusal = message and message.error()
    consumer.close()
    assert refusal is not None and refusal.name() == "UNKNOWN_TOPIC_OR_PART"
    assert topic not in admin.list_topics(timeout=10).topics


def test_a_consumer_that_wants_the_topic_made_makes_it(server, admin, topic):
    # It asks for all topics, which makes none, until it has subscribed to this one.
    consumer = KafkaConsumer(topic, bootstrap_servers=server.bootstrap, allow_auto_create_topics=True)
    deadline = time.monotonic() + 10
    while topic not in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        consumer.poll(timeout_ms=50)
    consumer.close()


def test_metadata_honours_the_flag(server):
    with wire.Wire(server) as connection:
        for allow, name in ((False, "flag.off"), (True, "flag.on")):
            body = b"\0\0\0\1" + wire.string(name) + (b"\1" if allow else b"\0")
            connection.call("Metadata", 4, body)
        fields = connection.call("Metadata", 1, b"\xff\xff\xff\xff")
        assert b"flag.on" in fields.data and b"flag.off" not in fields.data
