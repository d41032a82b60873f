"""Groups of KIP-848's protocol, with unmodified librdkafka: hand-over, expressions, static members, crashes of both sides."""

import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import ConsumerGroupState, ConsumerGroupType, KafkaException
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType
from drivers import CLIENTS
from drivers.aio import AioKafka
from drivers.confluent import ConsumerProtocolMember
from drivers.kafka_python import KafkaPython
from millrace_tests.batches import Record
from test_groups import Flow, assert_each_once_in_order, complete

CONFLUENT = CLIENTS[1]
#: Kafka's standard is 45 s and 5 s; tests want members to be missed, and to learn of things, sooner.
QUICK = ["--set", "group.consumer.min.session.timeout.ms=1000", "--set", "group.consumer.session.timeout.ms=4000",
         "--set", "group.consumer.min.heartbeat.interval.ms=100", "--set", "group.consumer.heartbeat.interval.ms=300"]


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A server for all tests here that do not end it."""
    from millrace_tests.server import Server
    with Server(tmp_path_factory.mktemp("quick"), arguments=QUICK) as server:
        yield server.start()
        if server.running:
            server.stop()


def member(server, group, topics, **options):
    return ConsumerProtocolMember(server.bootstrap, group, topics, **options).start()


def groups(server, **filters):
    """The groups that the server lists, by name: state and type."""
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    listed = admin.list_consumer_groups(request_timeout=20, **filters).result()
    assert not listed.errors
    return {one.group_id: (one.state, one.type) for one in listed.valid}


@pytest.mark.parametrize("assignor", ["uniform", "range"])
def test_three_members_hand_over_without_loss_or_repetition(quick, create_topic, topic, assignor):
    create_topic(topic, partitions=6, on=quick)
    with member(quick, topic, topic, assignor=assignor) as first:
        first.wait_assigned(6)
        flow = Flow(quick.bootstrap, topic, 6)
        first.wait_records(50)
        with member(quick, topic, topic, assignor=assignor) as second:
            second.wait_assigned(3)
            first.wait_assigned(3)
            kept = set(first.assigned)
            second.wait_records(50)
            with member(quick, topic, topic, assignor=assignor) as third:
                third.wait_assigned(2)
                first.wait_assigned(2)
                second.wait_assigned(2)
                if assignor == "uniform":
                    assert first.assigned < kept, "what it keeps, it never had to give up"
                third.wait_records(50)
                first.leave()
                second.wait_assigned(3)
                third.wait_assigned(3)
                third.leave()
                second.wait_assigned(6)
                sent = flow.stop()
                second.wait(lambda: complete(sent, first, second, third), what=f"{sent} records in all")
                second.leave()
                assert_each_once_in_order(sent, first, second, third)


def test_the_group_is_listed_and_described_by_its_type(quick, create_topic, topic):
    create_topic(topic, partitions=2, on=quick)
    with member(quick, topic, topic, instance="one") as only:
        only.wait_assigned(2)
        assert groups(quick)[topic] == (ConsumerGroupState.STABLE, ConsumerGroupType.CONSUMER)
        assert topic in groups(quick, types={ConsumerGroupType.CONSUMER})
        assert topic not in groups(quick, types={ConsumerGroupType.CLASSIC})
        assert topic not in groups(quick, states={ConsumerGroupState.EMPTY})
        CONFLUENT.produce(quick.bootstrap, topic, [Record(b"k", b"v")])
        only.wait_records(1).leave()
    with member(quick, topic, topic) as other:
        other.wait_assigned()
        other.leave()


def test_an_expression_covers_topics_that_are_made_later(quick, create_topic, topic):
    create_topic(f"{topic}.a", on=quick)
    create_topic(f"x.{topic}", on=quick)
    with member(quick, topic, [f"^{topic}\\..*"]) as first:
        first.wait_assigned(1)
        create_topic(f"{topic}.b", partitions=2, on=quick)
        first.wait_assigned(3)
        for name in (f"{topic}.a", f"{topic}.b", f"x.{topic}"):
            CONFLUENT.produce(quick.bootstrap, name, [Record(b"k", name.encode())])
        first.wait_records(2).leave()
        assert {one.value.decode() for one in first.records} == {f"{topic}.a", f"{topic}.b"}


def test_an_expression_that_cannot_be_read_is_refused(quick, topic):
    # librdkafka compiles expressions itself first; this one is good in its own engine, but not in RE2.
    with member(quick, topic, ["^(a)\\1"]) as refused:
        refused.wait(lambda: refused.error is not None or refused.errors, what="a refusal")
        assert "regular expression" in f"{refused.error} {refused.errors}".lower()


def test_a_static_member_restarts_without_a_rebalance(quick, create_topic, topic):
    create_topic(topic, partitions=4, on=quick)
    with member(quick, topic, topic, instance="watching") as watching, member(quick, topic, topic, instance="coming") as coming:
        watching.wait_assigned(2)
        coming.wait_assigned(2)
        held, seen = set(coming.assigned), (watching.assignments, watching.revocations)
        coming.leave()
        with member(quick, topic, topic, instance="coming") as back:
            back.wait_assigned(2)
            time.sleep(1)  # three heartbeats, in which a rebalance would show
            assert back.assigned == held
            assert (watching.assignments, watching.revocations) == seen
            back.leave()
        # Not back within its session this time.
        watching.wait_assigned(4, timeout_seconds=20)
        watching.leave()


def test_a_member_that_is_killed_is_replaced_after_its_session(quick, create_topic, topic):
    create_topic(topic, partitions=4, on=quick)
    script = Path(__file__).parent / "consumer_process.py"
    with member(quick, topic, topic, commit_each=True) as heir:
        heir.wait_assigned(4)
        victim = subprocess.Popen([sys.executable, script, quick.bootstrap, topic, topic], stdout=subprocess.PIPE, text=True)
        lines = []
        reading = threading.Thread(target=lambda: lines.extend(victim.stdout), daemon=True)
        reading.start()
        try:
            heir.wait_assigned(2)
            flow = Flow(quick.bootstrap, topic, 4, per_second=200)
            heir.wait(lambda: sum(line.startswith("record") for line in list(lines)) > 50, what="the other's records")
        finally:
            victim.kill()
            victim.wait()
        killed = time.monotonic()
        heir.wait_assigned(4)
        assert time.monotonic() - killed > 2, "a member is missed after its session only"
        sent = flow.stop()
        reading.join(10)
        theirs = [int(line.split()[1]) for line in lines if line.startswith("record")]
        heir.wait(lambda: len({int(one.value) for one in list(heir.records)} | set(theirs)) >= sent, what=f"{sent} records")
        heir.leave()
    seen = Counter(theirs) + Counter(int(one.value) for one in heir.records)
    # Killed between its line and its commit: at most one record comes again.
    assert sum(times - 1 for times in seen.values()) <= 1 and set(seen) == set(range(sent))


def test_commits_survive_a_restart(make_server, create_topic, topic):
    server = make_server(arguments=QUICK).start()
    create_topic(topic, on=server)
    CONFLUENT.produce(server.bootstrap, topic, [Record(b"k", b"%d" % n) for n in range(30)])
    with member(server, topic, topic) as before:
        before.wait_records(30).leave()
    server.stop()
    server.start()
    assert groups(server)[topic] == (ConsumerGroupState.EMPTY, ConsumerGroupType.CONSUMER)
    CONFLUENT.produce(server.bootstrap, topic, [Record(b"k", b"after")])
    with member(server, topic, topic) as after:
        after.wait_records(1)
        time.sleep(0.3)
        after.leave()
        assert [one.value for one in after.records] == [b"after"]


def test_members_outlive_a_crash_of_the_broker(make_server, create_topic, topic):
    server = make_server(arguments=QUICK).start()
    create_topic(topic, partitions=4, on=server)
    with member(server, topic, topic, commit_each=True) as first, member(server, topic, topic, commit_each=True) as second:
        first.wait_assigned(2)
        second.wait_assigned(2)
        flow = Flow(server.bootstrap, topic, 4, per_second=400)
        marks = []
        for _ in range(2):
            first.wait_records(len(first.records) + 100)
            server.kill()
            time.sleep(0.5)
            marks.append((len(first.records), len(second.records), {**first.committed, **second.committed}))
            server.start()
            first.wait_records(len(first.records) + 100, timeout_seconds=60)
            second.wait_records(len(second.records) + 100, timeout_seconds=60)
        sent = flow.stop()
        first.wait(lambda: complete(sent, first, second), timeout_seconds=60, what=f"{sent} records in all")
        first.wait_assigned(2)
        second.wait_assigned(2)
        first.leave()
        second.leave()
        seen = {int(one.value) for one in first.records} | {int(one.value) for one in second.records}
        # A record whose acknowledgement was lost may be in the log twice; each offset counts once.
        assert seen == set(range(sent)), f"lost {sorted(set(range(sent)) - seen)[:10]}"
        for mark_first, mark_second, committed in marks:
            later = first.records[mark_first:] + second.records[mark_second:]
            again = [(one.partition, one.offset) for one in later if one.offset < committed.get((topic, one.partition), 0)]
            assert not again, f"delivered again although they were committed: {again[:10]}"


@pytest.mark.parametrize("strategy", ["range", "cooperative-sticky"])
def test_members_change_to_the_consumer_protocol_one_by_one_and_back(quick, create_topic, topic, strategy):
    create_topic(topic, partitions=6, on=quick)
    with ExitStack() as stack:
        everyone = []

        def join(**options):
            everyone.append(stack.enter_context(member(quick, topic, topic, **options)))
            return everyone[-1]

        present = [join(classic=strategy) for _ in range(3)]
        for one in present:
            one.wait_assigned(2)
        assert groups(quick)[topic][1] == ConsumerGroupType.CLASSIC
        flow = Flow(quick.bootstrap, topic, 6)
        for options, kind in (({}, ConsumerGroupType.CONSUMER), ({"classic": strategy}, ConsumerGroupType.CLASSIC)):
            for _ in range(3):
                present.pop(0).leave()
                present.append(join(**options))
                for one in present:
                    one.wait_assigned(2, timeout_seconds=60)
                present[-1].wait_records(50)
            assert groups(quick)[topic][1] == kind
        sent = flow.stop()
        present[0].wait(lambda: complete(sent, *everyone), timeout_seconds=60, what=f"{sent} records in all")
        for one in present:
            one.leave()
        assert_each_once_in_order(sent, *everyone)


def test_a_client_without_the_consumer_protocol_shares_a_group_with_one_that_has_it(quick, create_topic, topic):
    create_topic(topic, partitions=6, on=quick)
    with KafkaPython().member(quick.bootstrap, topic, topic) as classic:
        classic.wait_assigned(6)
        flow = Flow(quick.bootstrap, topic, 6)
        classic.wait_records(50)
        with member(quick, topic, topic) as modern:
            modern.wait_assigned(3, timeout_seconds=60)
            classic.wait_assigned(3)
            assert groups(quick)[topic][1] == ConsumerGroupType.CONSUMER
            modern.wait_records(100)
            modern.leave()
        classic.wait_assigned(6, timeout_seconds=60)
        assert groups(quick)[topic][1] == ConsumerGroupType.CLASSIC
        sent = flow.stop()
        classic.wait(lambda: complete(sent, classic, modern), timeout_seconds=60, what=f"{sent} records in all")
        classic.leave()
        assert_each_once_in_order(sent, classic, modern)


def test_a_static_member_changes_its_protocol_under_its_instance_id(quick, create_topic, topic):
    create_topic(topic, partitions=4, on=quick)
    with member(quick, topic, topic, classic="range", instance="watching", session_timeout_ms=30_000) as watching, \
            member(quick, topic, topic, classic="range", instance="coming", session_timeout_ms=30_000) as coming:
        watching.wait_assigned(2)
        coming.wait_assigned(2)
        coming.leave()  # librdkafka's static members do not say good-bye
        with member(quick, topic, topic, instance="coming") as back:
            back.wait_assigned(2)
            watching.wait_assigned(2)
            assert not back.assigned & watching.assigned
            back.leave()
        watching.leave()


def test_an_empty_group_takes_either_protocol_and_keeps_its_offsets(quick, create_topic, topic):
    create_topic(topic, on=quick)
    done = 0
    for options in ({"classic": "range"}, {}, {"classic": "range"}, {}):
        CONFLUENT.produce(quick.bootstrap, topic, [Record(b"k", b"%d" % n) for n in range(10)])
        with member(quick, topic, topic, **options) as one:
            one.wait_records(10)
            time.sleep(0.3)  # anything repeated would come with the same fetch
            one.leave()
            assert [record.offset for record in one.records] == list(range(done, done + 10))
        done += 10


def test_a_groups_own_settings_count_for_its_members(quick, create_topic, topic):
    create_topic(topic, on=quick)
    admin = AdminClient({"bootstrap.servers": quick.bootstrap})

    def alter(**values):
        entries = [ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
                   for name, value in values.items()]
        (future,) = admin.incremental_alter_configs(
            [ConfigResource(ResourceType.GROUP, topic, incremental_configs=entries)]).values()
        future.result(20)

    alter(consumer_session_timeout_ms="60000", consumer_heartbeat_interval_ms="200")
    (found,) = admin.describe_configs([ConfigResource(ResourceType.GROUP, topic)]).values()
    described = {name: entry.value for name, entry in found.result(20).items()}
    assert described["consumer.session.timeout.ms"] == "60000"
    assert described["consumer.heartbeat.interval.ms"] == "200"
    with pytest.raises(KafkaException) as refused:
        alter(consumer_session_timeout_ms="60001")
    assert refused.value.args[0].name() == "INVALID_CONFIG" and "60000" in refused.value.args[0].str()
    script = Path(__file__).parent / "consumer_process.py"
    process = subprocess.Popen([sys.executable, script, quick.bootstrap, topic, topic], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "assigned 1\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(6)  # longer than the server's standard session, 4 s
        assert groups(quick)[topic] == (ConsumerGroupState.STABLE, ConsumerGroupType.CONSUMER), "it is still a member"
        process.send_signal(signal.SIGCONT)
        CONFLUENT.produce(quick.bootstrap, topic, [Record(b"k", b"after")])
        assert process.stdout.readline() == "record after\n", "nothing was assigned anew"
    finally:
        process.kill()
        process.wait()


def test_classic_members_are_undisturbed_beside_it(quick, create_topic, topic):
    create_topic(topic, partitions=4, on=quick)
    classic = [KafkaPython().member(quick.bootstrap, f"{topic}.python", topic),
               AioKafka().member(quick.bootstrap, f"{topic}.aio", topic)]
    with classic[0], classic[1], member(quick, f"{topic}.modern", topic) as first:
        for one in classic:
            one.wait_assigned(4)
        first.wait_assigned(4)
        flow = Flow(quick.bootstrap, topic, 4)
        assignments = [one.assignments for one in classic]
        with member(quick, f"{topic}.modern", topic) as second:
            second.wait_assigned(2)
            second.wait_records(100)
            second.leave()
        first.wait_assigned(4)
        sent = flow.stop()
        for one in classic:
            one.wait(lambda one=one: complete(sent, one), what=f"{sent} records")
        assert [one.assignments for one in classic] == assignments
        for one in classic:
            one.leave()
        first.wait(lambda: complete(sent, first, second), what=f"{sent} records").leave()
        assert_each_once_in_order(sent, first, second)
        for one in classic:
            assert_each_once_in_order(sent, one)
