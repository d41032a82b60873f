"""Administration by unmodified clients: settings, partitions, records, groups and quotas, and what each call refuses."""

import asyncio
import time

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions as AIONewPartitions, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource as AIOConfigResource
from aiokafka.admin.config_resource import ConfigResourceType as AIOConfigResourceType
from aiokafka.structs import TopicPartition as AIOTopicPartition
from confluent_kafka import Consumer, ConsumerGroupState, ConsumerGroupTopicPartitions, ElectionType, IsolationLevel
from confluent_kafka import KafkaException, Producer, TopicCollection, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource, NewPartitions,
                                   OffsetSpec, ResourceType)
from kafka import KafkaAdminClient
from kafka import TopicPartition as KTopicPartition
from kafka.admin import ConfigResource as KConfigResource
from kafka.admin import ConfigResourceType as KConfigResourceType
from kafka.errors import (GroupIdNotFoundError, InvalidPartitionsError, NoError, OffsetOutOfRangeError,
                          UnknownTopicOrPartitionError)
from kafka.structs import OffsetAndMetadata
from millrace_tests import wire
from millrace_tests.server import run


@pytest.fixture
def admin(server):
    return AdminClient({"bootstrap.servers": server.bootstrap})


@pytest.fixture
def kadmin(server):
    one = KafkaAdminClient(bootstrap_servers=server.bootstrap)
    yield one
    one.close()


@pytest.fixture
def with_aio(server):
    """Runs a coroutine with an aiokafka admin client."""

    def call(body):
        async def main():
            client = AIOKafkaAdminClient(bootstrap_servers=server.bootstrap)
            await client.start()
            try:
                return await body(client)
            finally:
                await client.close()

        return asyncio.run(main())

    return call


@pytest.fixture
def fill(server):
    """Appends records to partition 0 of a topic."""

    def call(topic, count):
        producer = Producer({"bootstrap.servers": server.bootstrap})
        for number in range(count):
            producer.produce(topic, b"%d" % number, partition=0, timestamp=1000 * (number + 1))
        assert producer.flush(20) == 0

    return call


def refused(future):
    """The name of Kafka's error and its text."""
    with pytest.raises(KafkaException) as raised:
        future.result(20)
    return raised.value.args[0].name(), raised.value.args[0].str()


def one(futures):
    (future,) = futures.values()
    return future


# Settings


def settings(admin, kind, name):
    return one(admin.describe_configs([ConfigResource(kind, name)])).result(20)


def alter(admin, kind, name, *changes):
    resource = ConfigResource(kind, name, incremental_configs=[
        ConfigEntry(key, value, incremental_operation=operation) for key, operation, value in changes])
    return one(admin.incremental_alter_configs([resource]))


def test_librdkafka_changes_a_topics_settings(admin, create_topic, topic):
    create_topic(topic)
    alter(admin, ResourceType.TOPIC, topic, ("retention.ms", AlterConfigOpType.SET, "7200000"),
          ("cleanup.policy", AlterConfigOpType.APPEND, "compact")).result(20)
    found = settings(admin, ResourceType.TOPIC, topic)
    assert found["retention.ms"].value == "7200000"
    assert found["retention.ms"].source == ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    assert found["cleanup.policy"].value == "delete,compact"
    alter(admin, ResourceType.TOPIC, topic, ("retention.ms", AlterConfigOpType.DELETE, None),
          ("cleanup.policy", AlterConfigOpType.SUBTRACT, "delete")).result(20)
    found = settings(admin, ResourceType.TOPIC, topic)
    assert found["retention.ms"].is_default and found["cleanup.policy"].value == "compact"


def test_librdkafkas_older_call_takes_back_what_it_does_not_name(admin, create_topic, topic):
    create_topic(topic, configs=[("segment.ms", "5000")])
    one(admin.alter_configs([ConfigResource(ResourceType.TOPIC, topic, set_config={"retention.ms": "9"})])).result(20)
    found = settings(admin, ResourceType.TOPIC, topic)
    assert found["retention.ms"].value == "9" and found["segment.ms"].is_default


@pytest.mark.parametrize("key, operation, value, name", [
    ("retention.ms", AlterConfigOpType.SET, "soon", "INVALID_CONFIG"),
    ("no.such.setting", AlterConfigOpType.SET, "1", "INVALID_CONFIG"),
    ("retention.ms", AlterConfigOpType.APPEND, "1", "INVALID_CONFIG"),
    ("cleanup.policy", AlterConfigOpType.SET, "burn", "INVALID_CONFIG"),
], ids=["value", "name", "no-list", "word"])
def test_a_setting_that_cannot_be_is_refused_by_its_name(admin, create_topic, topic, key, operation, value, name):
    create_topic(topic)
    found, text = refused(alter(admin, ResourceType.TOPIC, topic, (key, operation, value)))
    assert found == name and (key in text or value in text)


def test_settings_of_what_is_not_there(admin, create_topic, topic):
    future = alter(admin, ResourceType.TOPIC, "never.made", ("retention.ms", AlterConfigOpType.SET, "1"))
    assert refused(future)[0] == "UNKNOWN_TOPIC_OR_PART"
    assert refused(one(admin.describe_configs([ConfigResource(ResourceType.TOPIC, "never.made")])))[0] \
        == "UNKNOWN_TOPIC_OR_PART"


def test_the_brokers_settings_change_and_survive_a_kill(own_server):
    admin = AdminClient({"bootstrap.servers": own_server.bootstrap})
    alter(admin, ResourceType.BROKER, "0", ("num.partitions", AlterConfigOpType.SET, "5"),
          ("auto.create.topics.enable", AlterConfigOpType.SET, "false")).result(20)
    with wire.Wire(own_server) as connection:
        assert wire.create_topic(connection, "five", -1) == 0
    assert len(admin.list_topics(timeout=10).topics["five"].partitions) == 5
    name, text = refused(alter(admin, ResourceType.BROKER, "0",
                               ("socket.request.max.bytes", AlterConfigOpType.SET, "9000000")))
    assert name == "INVALID_REQUEST" and "socket.request.max.bytes" in text
    own_server.kill()
    own_server.start()
    admin = AdminClient({"bootstrap.servers": own_server.bootstrap})
    found = settings(admin, ResourceType.BROKER, "0")
    assert found["num.partitions"].value == "5" and not found["num.partitions"].is_read_only
    assert found["num.partitions"].source == ConfigSource.DYNAMIC_BROKER_CONFIG.value
    assert found["socket.request.max.bytes"].is_read_only
    assert found["auto.create.topics.enable"].value == "false"


def test_kafka_python_changes_settings(kadmin, create_topic, topic):
    create_topic(topic)
    resource = KConfigResource(KConfigResourceType.TOPIC, topic, {"retention.ms": "7200000"})
    assert kadmin.alter_configs([resource])["topic"][topic] == "OK"
    found = kadmin.describe_configs([KConfigResource(KConfigResourceType.TOPIC, topic)])
    assert found["topic"][topic]["retention.ms"]["value"] == "7200000"
    assert kadmin.reset_configs([KConfigResource(KConfigResourceType.TOPIC, topic, {"retention.ms": None})])["topic"][
        topic] == "OK"
    found = kadmin.describe_configs([KConfigResource(KConfigResourceType.TOPIC, topic)])
    assert "retention.ms" not in found["topic"][topic]
    bad = kadmin.alter_configs([KConfigResource(KConfigResourceType.TOPIC, topic, {"retention.ms": "soon"})])
    assert "soon" in bad["topic"][topic]
    dry = KConfigResource(KConfigResourceType.TOPIC, topic, {"retention.ms": "5"})
    assert kadmin.alter_configs([dry], validate_only=True)["topic"][topic] == "OK"
    assert "retention.ms" not in kadmin.describe_configs([KConfigResource(KConfigResourceType.TOPIC, topic)])["topic"][
        topic]


def test_kafka_python_lists_what_has_settings(kadmin, create_topic, topic):
    create_topic(topic)
    group = KConfigResource(KConfigResourceType.GROUP, topic, {"consumer.session.timeout.ms": "50000"})
    assert kadmin.alter_configs([group])["group"][topic] == "OK"
    listed = kadmin.list_config_resources()
    assert topic in listed["topic"] and topic in listed["group"] and listed["broker"] == ["0"]
    assert set(kadmin.list_config_resources(["GROUP"])) == {"group"}


def test_aiokafka_changes_settings(with_aio, create_topic, topic):
    create_topic(topic)

    async def body(client):
        resource = AIOConfigResource(AIOConfigResourceType.TOPIC, topic, {"retention.ms": "7200000"})
        await client.alter_configs([resource])
        (answer,) = await client.describe_configs([AIOConfigResource(AIOConfigResourceType.TOPIC, topic)])
        return {entry[0]: entry[1] for entry in answer.resources[0][4]}

    assert with_aio(body)["retention.ms"] == "7200000"


# Partitions


def test_partitions_are_added_by_every_client_and_read_by_a_running_consumer(server, admin, kadmin, with_aio,
                                                                             create_topic, topic):
    create_topic(topic)
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": topic, "auto.offset.reset": "earliest",
                         "topic.metadata.refresh.interval.ms": 300})
    consumer.subscribe([topic])
    one(admin.create_partitions([NewPartitions(topic, 2)])).result(20)
    kadmin.create_partitions({topic: 3})

    async def body(client):
        await client.create_partitions({topic: AIONewPartitions(4)})

    with_aio(body)
    assert sorted(admin.list_topics(topic, timeout=10).topics[topic].partitions) == [0, 1, 2, 3]
    producer = Producer({"bootstrap.servers": server.bootstrap})
    for partition in range(4):
        producer.produce(topic, b"%d" % partition, partition=partition)
    assert producer.flush(20) == 0
    found, until = set(), time.monotonic() + 30
    while len(found) < 4 and time.monotonic() < until:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            found.add(message.partition())
    consumer.close()
    assert found == {0, 1, 2, 3}


def test_partitions_that_cannot_be_added(admin, kadmin, create_topic, topic):
    create_topic(topic, 3)
    for total in (3, 2):
        name, text = refused(one(admin.create_partitions([NewPartitions(topic, total)])))
        assert name == "INVALID_PARTITIONS" and topic in text and "3" in text
    name, text = refused(one(admin.create_partitions([NewPartitions("never.made", 2)])))
    assert name == "UNKNOWN_TOPIC_OR_PART" and "never.made" in text
    name, _ = refused(one(admin.create_partitions([NewPartitions(topic, 4, replica_assignment=[[7]])])))
    assert name == "INVALID_REPLICA_ASSIGNMENT"
    with pytest.raises(InvalidPartitionsError):
        kadmin.create_partitions({topic: 1})
    one(admin.create_partitions([NewPartitions(topic, 9)], validate_only=True)).result(20)
    assert len(admin.list_topics(topic, timeout=10).topics[topic].partitions) == 3


# Records


def test_records_are_deleted_by_every_client(admin, kadmin, with_aio, create_topic, topic, fill):
    create_topic(topic)
    fill(topic, 10)
    assert one(admin.delete_records([TopicPartition(topic, 0, 3)])).result(20).low_watermark == 3
    (answer,) = kadmin.delete_records({KTopicPartition(topic, 0): 5}).values()
    assert answer["low_watermark"] == 5

    async def body(client):
        return await client.delete_records({AIOTopicPartition(topic, 0): RecordsToDelete(before_offset=7)})

    assert with_aio(body) == {AIOTopicPartition(topic, 0): 7}
    earliest = one(admin.list_offsets({TopicPartition(topic, 0): OffsetSpec.earliest()})).result(20)
    assert earliest.offset == 7
    assert one(admin.delete_records([TopicPartition(topic, 0, -1)])).result(20).low_watermark == 10


def test_records_that_cannot_be_deleted(admin, kadmin, create_topic, topic, fill):
    create_topic(topic)
    fill(topic, 2)
    assert refused(one(admin.delete_records([TopicPartition(topic, 0, 3)])))[0] == "OFFSET_OUT_OF_RANGE"
    with pytest.raises(OffsetOutOfRangeError):
        kadmin.delete_records({KTopicPartition(topic, 0): 99})
    with pytest.raises(UnknownTopicOrPartitionError):
        kadmin.delete_records({KTopicPartition("never.made", 0): 0})
    alter(admin, ResourceType.TOPIC, topic, ("cleanup.policy", AlterConfigOpType.SET, "compact")).result(20)
    assert refused(one(admin.delete_records([TopicPartition(topic, 0, 1)])))[0] == "POLICY_VIOLATION"


def test_offsets_are_listed_by_end_and_time(admin, create_topic, topic, fill):
    create_topic(topic)
    fill(topic, 5)
    for spec, offset in ((OffsetSpec.earliest(), 0), (OffsetSpec.latest(), 5), (OffsetSpec.for_timestamp(2500), 2),
                         (OffsetSpec.max_timestamp(), 4)):
        found = one(admin.list_offsets({TopicPartition(topic, 0): spec},
                                       isolation_level=IsolationLevel.READ_COMMITTED)).result(20)
        assert found.offset == offset


# The cluster


def test_the_cluster_and_its_topics_are_described(server, admin, kadmin, create_topic, topic, fill):
    create_topic(topic, 3)
    fill(topic, 3)
    cluster = admin.describe_cluster(include_authorized_operations=True).result(20)
    assert [node.id for node in cluster.nodes] == [0] and cluster.controller.id == 0 and cluster.authorized_operations
    described = one(admin.describe_topics(TopicCollection([topic]), include_authorized_operations=True)).result(20)
    assert len(described.partitions) == 3 and described.authorized_operations
    assert kadmin.describe_cluster()["cluster_id"] == cluster.cluster_id
    first = kadmin.describe_topic_partitions([topic], response_partition_limit=2)
    assert [p["partition_index"] for p in first["topics"][0]["partitions"]] == [0, 1]
    rest = kadmin.describe_topic_partitions([topic], cursor=first["next_cursor"])
    assert [p["partition_index"] for p in rest["topics"][0]["partitions"]] == [2] and not rest["next_cursor"]
    (logs,) = kadmin.describe_log_dirs()
    sizes = {p["partition_index"]: p["partition_size"]
             for one_topic in logs["log_dirs"][0]["topics"] if one_topic["name"] == topic
             for p in one_topic["partitions"]}
    assert set(sizes) == {0, 1, 2} and sizes[0] > 0 and sizes[1] == 0


def test_one_node_neither_elects_nor_moves(admin, kadmin, create_topic, topic):
    create_topic(topic)
    partition = TopicPartition(topic, 0)
    answer = admin.elect_leaders(ElectionType.PREFERRED, [partition]).result(20)
    assert answer[partition].name() == "ELECTION_NOT_NEEDED"
    assert admin.elect_leaders(ElectionType.PREFERRED, None).result(20) == {}
    moved = kadmin.alter_partition_reassignments({KTopicPartition(topic, 0): [0]})
    assert "NoError" in str(moved) or all(not error for error in moved.values())
    assert "InvalidReplic" in str(kadmin.alter_partition_reassignments({KTopicPartition(topic, 0): [1]}))
    assert not kadmin.list_partition_reassignments()


# Groups


def commit(admin, group, *offsets):
    return one(admin.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, list(offsets))])).result(20)


def test_a_groups_life_by_librdkafka(admin, create_topic, topic, fill):
    create_topic(topic, 2)
    fill(topic, 5)
    commit(admin, topic, TopicPartition(topic, 0, 2), TopicPartition(topic, 1, 0))
    listed = {g.group_id: g.state for g in admin.list_consumer_groups(states={ConsumerGroupState.EMPTY}).result(20).valid}
    assert listed[topic] == ConsumerGroupState.EMPTY
    assert topic not in {g.group_id for g in
                         admin.list_consumer_groups(states={ConsumerGroupState.STABLE}).result(20).valid}
    described = one(admin.describe_consumer_groups([topic], include_authorized_operations=True)).result(20)
    assert described.state == ConsumerGroupState.EMPTY and described.authorized_operations
    found = one(admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(topic)])).result(20)
    assert {p.partition: p.offset for p in found.topic_partitions} == {0: 2, 1: 0}
    one(admin.delete_consumer_groups([topic])).result(20)
    assert refused(one(admin.delete_consumer_groups([topic])))[0] == "GROUP_ID_NOT_FOUND"


def test_a_group_with_members_is_neither_deleted_nor_reset(server, admin, kadmin, create_topic, topic):
    create_topic(topic)
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": topic})
    consumer.subscribe([topic])
    until = time.monotonic() + 30
    while not consumer.assignment() and time.monotonic() < until:
        consumer.poll(0.2)
    assert consumer.assignment()
    assert refused(one(admin.delete_consumer_groups([topic])))[0] == "NON_EMPTY_GROUP"
    assert kadmin.delete_groups([topic]) == {topic: "NonEmptyGroupError"}
    (reset,) = commit(admin, topic, TopicPartition(topic, 0, 0)).topic_partitions
    assert reset.error is not None and reset.error.name() == "UNKNOWN_MEMBER_ID"
    subscribed = kadmin.delete_group_offsets(topic, [KTopicPartition(topic, 0)])
    assert subscribed[KTopicPartition(topic, 0)].__name__ == "GroupSubscribedToTopicError"
    done = run("group", "reset", topic, "--to", "earliest", "--bootstrap", server.bootstrap)
    assert done.returncode == 1 and "has members" in done.stderr
    consumer.close()


def test_a_groups_life_by_kafka_python(kadmin, create_topic, topic):
    create_topic(topic, 2)
    zero, first = KTopicPartition(topic, 0), KTopicPartition(topic, 1)
    kadmin.alter_group_offsets(topic, {zero: OffsetAndMetadata(0, "", -1), first: OffsetAndMetadata(0, "", -1)})
    assert topic in [group["group_id"] for group in kadmin.list_groups(states_filter=["Empty"])]
    assert topic not in [group["group_id"] for group in kadmin.list_groups(types_filter=["share"])]
    assert set(kadmin.list_group_offsets([topic])[topic]) == {zero, first}
    assert kadmin.delete_group_offsets(topic, [zero]) == {zero: NoError}
    assert set(kadmin.list_group_offsets([topic])[topic]) == {first}
    with pytest.raises(GroupIdNotFoundError):
        kadmin.delete_group_offsets("never.made", [zero])
    assert kadmin.delete_groups([topic, "never.made"]) == {topic: "OK", "never.made": "GroupIdNotFoundError"}


def test_groups_by_aiokafka(with_aio, kadmin, create_topic, topic):
    create_topic(topic)
    kadmin.alter_group_offsets(topic, {KTopicPartition(topic, 0): OffsetAndMetadata(0, "", -1)})

    async def body(client):
        listed = [name for name, _ in await client.list_consumer_groups()]
        offsets = await client.list_consumer_group_offsets(topic)
        return listed, offsets[AIOTopicPartition(topic, 0)].offset

    listed, offset = with_aio(body)
    assert topic in listed and offset == 0


# Quotas; no client here can set them, so the wire does.


def test_a_producer_above_its_quota_is_slowed_down(server, create_topic, topic):
    create_topic(topic)
    with wire.Wire(server) as connection:
        assert wire.alter_client_quotas(connection, [("client-id", topic)], {"producer_byte_rate": 100_000.0}) == 0
        assert wire.describe_client_quotas(connection, "client-id", topic) == {"producer_byte_rate": 100_000.0}
        assert wire.alter_client_quotas(connection, [("client-id", topic)], {"producer_byte_rate": -1.0}) == 42
    throttled = []
    producer = Producer({"bootstrap.servers": server.bootstrap, "client.id": topic, "batch.size": 20_000,
                         "throttle_cb": lambda event: throttled.append(event.throttle_time)})
    began = time.monotonic()
    for _ in range(40):
        producer.produce(topic, b"x" * 10_000, partition=0)
        producer.poll(0)
    assert producer.flush(60) == 0, "never an error"
    # 400 kB at 100 kB/s; one second's worth is free, and the last batch is acknowledged before it has to wait.
    assert time.monotonic() - began > 2
    producer.poll(0)
    assert throttled, "librdkafka was told"
