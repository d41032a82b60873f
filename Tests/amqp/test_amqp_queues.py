"""Queues: declaration with its flags, arguments and errors, ownership, expiry, purging and deletion."""

import re

import pytest
from millrace_tests.amqp import ChannelClosed, beginning, channel_error, connection_error
from millrace_tests.amqp_codec import Typed
from millrace_tests.differences import ERLANG, differs


def missing(queue):
    return f"NOT_FOUND - no queue '{queue}' in vhost '/'"


def test_declaring_tells_messages_and_consumers(channel, name):
    queue = name()
    answer = channel.call("queue.declare", queue=queue, exclusive=True)
    assert (answer.queue, answer.message_count, answer.consumer_count) == (queue, 0, 0)
    channel.fill(queue, "abc")
    assert channel.counts(queue) == (3, 0)
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue)
    channel.deliver()
    answer = channel.call("queue.declare", queue=queue, exclusive=True)
    assert (answer.message_count, answer.consumer_count) == (2, 1)  # ready ones only


def test_an_empty_name_gets_one_from_the_server(channel):
    one, two = channel.queue(exclusive=True), channel.queue(exclusive=True)
    assert one != two
    for queue in (one, two):
        assert re.fullmatch(r"amq\.gen-[A-Za-z0-9_-]{22}", queue)


def test_clients_may_not_declare_names_with_amq(channel):
    with channel_error(403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'", "queue.declare"):
        channel.call("queue.declare", queue="amq.mine")


def test_a_server_named_queue_may_be_declared_again_by_its_name(channel):
    queue = channel.queue(exclusive=True)
    assert channel.counts(queue) == (0, 0)
    with channel_error(403, f"ACCESS_REFUSED - queue name '{queue}' contains reserved prefix 'amq.*'", "queue.declare"):
        channel.call("queue.declare", queue=queue, exclusive=False, durable=True)


def test_a_passive_declaration_answers_404(channel):
    with channel_error(404, missing("missing"), "queue.declare"):
        channel.counts("missing")


def test_a_passive_declaration_ignores_flags_and_arguments(channel, name):
    queue = channel.queue(name(), exclusive=True, arguments={"x-max-length": 5})
    channel.call("queue.declare", queue=queue, passive=True, durable=True, arguments={"x-max-length": 7})


@pytest.mark.parametrize("method, arguments", [
    ("queue.purge", {}), ("queue.bind", {"exchange": "amq.direct"}), ("basic.get", {}), ("basic.consume", {}),
])
def test_a_missing_queue_is_named_with_404(channel, method, arguments):
    with channel_error(404, missing("missing"), method):
        channel.call(method, queue="missing", **arguments)


def test_deleting_a_missing_queue_is_no_error(channel, name):
    assert channel.call("queue.delete", queue=name()).message_count == 0


def test_nowait_declares_without_an_answer(channel, name):
    queue = name()
    channel.send("queue.declare", queue=queue, durable=True, nowait=True)
    channel.send("queue.bind", queue=queue, exchange="amq.direct", routing_key=queue, nowait=True)
    channel.counts(queue)
    channel.send("queue.purge", queue=queue, nowait=True)
    channel.send("queue.delete", queue=queue, nowait=True)
    with channel_error(404, missing(queue)):
        channel.counts(queue)
    assert channel.inbox == []


# Equivalence

@pytest.mark.parametrize("argument, first, second, received, current", [
    ("durable", {}, {"durable": True}, "true", "false"),
    ("durable", {"durable": True}, {}, "false", "true"),
    ("auto_delete", {"durable": True}, {"durable": True, "auto_delete": True}, "true", "false"),
])
def test_other_flags_are_refused_with_406(channel, name, argument, first, second, received, current):
    queue = channel.queue(name(), **first)
    with channel_error(406, f"PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{queue}' in vhost '/': "
                       f"received '{received}' but current is '{current}'", "queue.declare"):
        channel.call("queue.declare", queue=queue, **second)


def test_exclusive_is_part_of_equivalence_for_its_owner(channel, name):
    queue = channel.queue(name(), exclusive=True)
    with channel_error(405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could "
                       "be originally declared on another connection or the exclusive property value does not match that of "
                       "the original declaration.", "queue.declare"):
        channel.call("queue.declare", queue=queue)


@pytest.mark.parametrize("argument, value, other, kind", [
    ("x-message-ttl", 60_000, 70_000, "signedint"), ("x-expires", 600_000, 700_000, "signedint"),
    ("x-max-length", 5, 6, "signedint"), ("x-max-length-bytes", 500, 600, "signedint"),
    ("x-max-priority", 3, 4, "signedint"), ("x-dead-letter-exchange", "one", "two", "longstr"),
    ("x-overflow", "drop-head", "reject-publish", "longstr"), ("x-single-active-consumer", True, False, "bool"),
])
def test_other_arguments_are_refused_with_406(connection, name, argument, value, other, kind):
    channel = connection.channel()
    queue = channel.queue(name(), durable=True, arguments={argument: value})
    channel.queue(queue, durable=True, arguments={argument: value})
    text = f"PRECONDITION_FAILED - inequivalent arg '{argument}' for queue '{queue}' in vhost '/': received "
    shown, shown_other = (str(one).lower() if kind == "bool" else one for one in (value, other))
    with channel_error(406, f"{text}'{shown_other}' but current is '{shown}'", "queue.declare"):
        channel.call("queue.declare", queue=queue, durable=True, arguments={argument: other})
    with channel_error(406, f"{text}none but current is the value '{shown}' of type '{kind}'", "queue.declare"):
        connection.channel().call("queue.declare", queue=queue, durable=True)


def test_an_argument_that_was_not_there_is_refused_with_406(channel, name):
    queue = channel.queue(name(), durable=True)
    with channel_error(406, f"PRECONDITION_FAILED - inequivalent arg 'x-max-length' for queue '{queue}' in vhost '/': received "
                       "the value '5' of type 'signedint' but current is none", "queue.declare"):
        channel.call("queue.declare", queue=queue, durable=True, arguments={"x-max-length": 5})


def test_the_width_of_a_number_does_not_matter(channel, name):
    queue = channel.queue(name(), durable=True, arguments={"x-message-ttl": 60_000})
    for code in "Ilsi":
        value = Typed(code, 60_000) if code != "s" else Typed("u", 60_000)
        channel.queue(queue, durable=True, arguments={"x-message-ttl": value})


def test_arguments_nobody_knows_are_accepted_and_not_compared(channel, name):
    queue = channel.queue(name(), durable=True, arguments={"x-mine": 1, "other": "x"})
    channel.queue(queue, durable=True, arguments={"x-mine": 2})


# Wrong arguments

@pytest.mark.parametrize("argument, value, text", [
    ("x-message-ttl", -1, "{value_negative,-1}"),
    ("x-message-ttl", "60000", '"expected integer, got longstr"'),
    ("x-expires", 0, "{value_zero,0}"),
    ("x-expires", -1, "{value_negative,-1}"),
    ("x-max-length", -1, "{value_negative,-1}"),
    ("x-max-length", "many", '"expected integer, got longstr"'),
    ("x-max-length-bytes", -1, "{value_negative,-1}"),
    ("x-max-priority", 256, "{max_value_exceeded,256}"),
    ("x-max-priority", -1, "{value_negative,-1}"),
    ("x-overflow", "explode", "invalid_overflow"),
    ("x-single-active-consumer", "yes", "{unacceptable_type,longstr}"),
    ("x-queue-type", "nonsense", "\"unsupported queue type 'nonsense'\""),
])
@ERLANG
def test_a_wrong_argument_is_refused_with_406(channel, amqp_server, name, argument, value, text):
    queue = name()
    begin = f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/': "
    with channel_error(406, amqp_server.either(three=begin + text, millrace=beginning(begin)), "queue.declare"):
        channel.call("queue.declare", queue=queue, durable=True, arguments={argument: value})


def test_a_dead_letter_exchange_must_be_a_string(channel, name):
    queue = name()
    with channel_error(406, f"PRECONDITION_FAILED - invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue "
                       f"'{queue}' in vhost '/'", "queue.declare"):
        channel.call("queue.declare", queue=queue, durable=True, arguments={"x-dead-letter-exchange": 7})


def test_a_dead_letter_routing_key_needs_an_exchange(channel, name):
    queue = name()
    with channel_error(406, f"PRECONDITION_FAILED - invalid arg 'x-dead-letter-routing-key' for queue '{queue}' in vhost '/': "
                       "routing_key_but_no_dlx_defined", "queue.declare"):
        channel.call("queue.declare", queue=queue, arguments={"x-dead-letter-routing-key": "k"})


@pytest.mark.parametrize("arguments", [{"x-queue-mode": "lazy"}, {"x-queue-version": 1}, {"x-queue-version": 2}], ids=str)
@differs("x-queue-mode lazy, x-queue-version", "obeyed", "lazy and version 1 are refused from 4.3 on", "accepted and ignored")
def test_arguments_of_older_servers_are_accepted(channel, name, arguments):
    queue = channel.queue(name(), durable=True, arguments=arguments)
    channel.fill(queue, ["a"])
    assert channel.drain(queue) == ["a"]


@differs("a queue that is neither durable nor exclusive", "accepted", "541 from 4.3 on", "accepted")
def test_transient_queues_that_are_not_exclusive_are_accepted(connect, name):
    queue = name()
    connect().channel().queue(queue)
    other = connect().channel()
    other.fill(queue, ["a"])
    assert other.drain(queue) == ["a"]
    other.call("queue.delete", queue=queue)


# Exclusive

@pytest.mark.parametrize("method, arguments", [
    ("queue.declare", {}), ("queue.declare", {"passive": True}), ("queue.declare", {"exclusive": True}),
    ("queue.bind", {"exchange": "amq.direct"}), ("queue.purge", {}), ("queue.delete", {}), ("basic.consume", {}), ("basic.get", {}),
])
def test_another_connection_may_not_touch_an_exclusive_queue(connect, name, method, arguments):
    queue = connect().channel().queue(name(), exclusive=True)
    with channel_error(405, f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could "
                       "be originally declared on another connection or the exclusive property value does not match that of "
                       "the original declaration.", method):
        connect().channel().call(method, queue=queue, **arguments)


def test_anybody_may_publish_to_an_exclusive_queue(connect, name):
    owner = connect().channel()
    queue = owner.queue(name(), exclusive=True)
    connect().channel().fill(queue, ["a"])
    assert owner.drain(queue) == ["a"]


@pytest.mark.parametrize("how", ["close", "drop"])
def test_an_exclusive_queue_goes_with_its_connection(connect, name, how):
    first, queue = connect(), name()
    first.channel().queue(queue, exclusive=True, durable=True)
    getattr(first, how)()
    _await_gone(connect, queue)


def _await_gone(connect, queue):
    """Until 404: the end of a connection that was cut is noticed a little later, and it is locked until then."""
    connection = connect()
    while True:
        try:
            connection.channel().counts(queue)
        except ChannelClosed as error:
            if error.code == 405:
                continue
            assert (error.code, error.text) == (404, missing(queue))
            return


def test_closing_the_channel_keeps_an_exclusive_queue(connection, name):
    channel = connection.channel()
    queue = channel.queue(name(), exclusive=True)
    channel.close()
    connection.channel().counts(queue)


# Auto-delete and expiry

def test_an_auto_delete_queue_goes_with_its_last_consumer(connection, name):
    one, two = connection.channel(), connection.channel()
    queue = one.queue(name(), auto_delete=True)
    one.fill(queue, ["a"])
    assert one.get(queue, no_ack=True).body == b"a"  # get is no consumer
    first, second = one.consume(queue), two.consume(queue)
    one.call("basic.cancel", consumer_tag=first)
    assert two.counts(queue) == (0, 1)
    two.call("basic.cancel", consumer_tag=second)
    with channel_error(404, missing(queue)):
        two.counts(queue)


def test_an_auto_delete_queue_that_never_had_a_consumer_stays(connect, name):
    first = connect()
    queue = first.channel().queue(name(), auto_delete=True)
    first.close()
    connect().channel().call("queue.delete", queue=queue)


def test_an_auto_delete_queue_goes_when_the_consumers_channel_closes(connection, name):
    one, two = connection.channel(), connection.channel()
    queue = one.queue(name(), auto_delete=True)
    one.consume(queue)
    one.close()
    with channel_error(404, missing(queue)):
        while True:
            two.counts(queue)


def test_an_unused_queue_expires(connection, name):
    channel = connection.channel()
    queue = channel.queue(name(), durable=True, arguments={"x-expires": 200})
    channel.fill(queue, ["goes too"])
    # Asking passively counts as no use; the queue's end shows as 404.
    with channel_error(404, missing(queue)):
        while True:
            channel.call("queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)


def test_a_consumer_keeps_a_queue_from_expiring(connection, name):
    holder, other = connection.channel(), connection.channel()
    kept = holder.queue(name("kept"), arguments={"x-expires": 100})
    holder.consume(kept)
    short = other.queue(name("gone"), arguments={"x-expires": 300})
    with channel_error(404, missing(short)):  # an event later than the other's expiry would be
        while True:
            other.call("queue.bind", queue=short, exchange="amq.direct", routing_key=short)
    assert connection.channel().counts(kept) == (0, 1)


# Purge and delete

def test_purge_counts_what_it_removes_and_leaves_the_unacknowledged(channel, name):
    queue = channel.queue(name(), exclusive=True)
    channel.fill(queue, "abcd")
    held = channel.get(queue, no_ack=False)
    assert channel.call("queue.purge", queue=queue).message_count == 3
    assert channel.counts(queue) == (0, 0)
    channel.nack(held.delivery_tag)
    assert channel.get(queue).body == b"a"


def test_delete_counts_its_messages_and_takes_its_bindings(channel, name):
    queue = channel.queue(name(), durable=True)
    channel.call("queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)
    channel.fill(queue, "abc")
    assert channel.call("queue.delete", queue=queue).message_count == 3
    channel.queue(queue, durable=True)
    channel.confirms()
    assert channel.publish_confirmed("x", queue, exchange="amq.direct") == "ack"
    assert channel.counts(queue) == (0, 0)


def test_if_empty_keeps_a_queue_with_messages(channel, name):
    queue = channel.queue(name(), durable=True)
    channel.fill(queue, ["a"])
    with channel_error(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' not empty", "queue.delete"):
        channel.call("queue.delete", queue=queue, if_empty=True)


def test_if_unused_keeps_a_queue_with_consumers(channel, name):
    queue = channel.queue(name(), durable=True)
    channel.consume(queue)
    with channel_error(406, f"PRECONDITION_FAILED - queue '{queue}' in vhost '/' in use", "queue.delete"):
        channel.call("queue.delete", queue=queue, if_unused=True)


def test_if_empty_and_if_unused_delete_otherwise(channel, name):
    queue = channel.queue(name(), durable=True)
    channel.call("queue.delete", queue=queue, if_empty=True, if_unused=True)
    with channel_error(404, missing(queue)):
        channel.counts(queue)


# Queue types

@pytest.mark.parametrize("type", ["quorum", "stream"])
@pytest.mark.parametrize("options, what", [
    ({"durable": False}, "non-durable"), ({"exclusive": True}, "exclusive-owner"), ({"auto_delete": True}, "auto-delete"),
])
def test_replicated_types_are_durable_shared_and_lasting(channel, name, type, options, what):
    queue = name()
    with channel_error(406, f"PRECONDITION_FAILED - invalid property '{what}' for queue '{queue}' in vhost '/'",
                       "queue.declare"):
        channel.call("queue.declare", queue=queue, **({"durable": True} | options), arguments={"x-queue-type": type})


def test_replicated_types_have_names_from_clients(channel):
    with channel_error(406, "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue",
                       "queue.declare"):
        channel.call("queue.declare", queue="", durable=True, arguments={"x-queue-type": "quorum"})


def test_another_queue_type_is_not_equivalent(channel, name):
    queue = channel.queue(name(), durable=True)
    with channel_error(406, f"PRECONDITION_FAILED - inequivalent arg 'x-queue-type' for queue '{queue}' in vhost '/': received "
                       "the value 'quorum' of type 'longstr' but current is none", "queue.declare"):
        channel.call("queue.declare", queue=queue, durable=True, arguments={"x-queue-type": "quorum"})


def test_classic_may_be_said_or_left_out(channel, name):
    queue = channel.queue(name(), durable=True, arguments={"x-queue-type": "classic"})
    channel.queue(queue, durable=True)


@pytest.mark.parametrize("argument, value", [("x-max-priority", 5), ("x-queue-mode", "lazy")])
def test_a_quorum_queue_refuses_what_it_does_not_know(channel, name, argument, value):
    queue = name()
    with channel_error(406, f"PRECONDITION_FAILED - invalid arg '{argument}' for queue '{queue}' in vhost '/' of queue type "
                       "rabbit_quorum_queue", "queue.declare"):
        channel.call("queue.declare", queue=queue, durable=True, arguments={"x-queue-type": "quorum", argument: value})


def test_a_stream_is_read_from_any_offset_and_keeps_its_messages(channel, name):
    stream = channel.queue(name(), durable=True, arguments={"x-queue-type": "stream"})
    channel.fill(stream, [str(n) for n in range(10)])
    channel.call("basic.qos", prefetch_count=100)
    for offset, first in (("first", 0), (7, 7), (Typed("T", 0), 0)):
        tag = channel.consume(stream, arguments={"x-stream-offset": offset})
        got = channel.deliveries(10 - first)
        assert [one.body.decode() for one in got] == [str(n) for n in range(first, 10)]
        assert [one.headers["x-stream-offset"] for one in got] == list(range(first, 10))
        channel.ack(got[-1].delivery_tag, multiple=True)
        channel.call("basic.cancel", consumer_tag=tag)


@differs("a consumer's filter on a stream", "none", "by chunks of records: others may come, too", "exact")
def test_a_stream_is_read_through_a_filter(channel, amqp_server, name):
    if not amqp_server.is_millrace:
        return
    stream = channel.queue(name(), durable=True, arguments={"x-queue-type": "stream"})
    for number in range(12):
        headers = {"x-stream-filter-value": "abc"[number % 4]} if number % 4 < 3 else {"other": "a"}
        channel.fill(stream, [str(number)], headers=headers)
    for wanted, unfiltered, rests in (("b", None, [1]), (["a", "c"], False, [0, 2]), (["c"], True, [2, 3])):
        channel.call("basic.qos", prefetch_count=100)
        arguments = {"x-stream-offset": "first", "x-stream-filter": wanted}
        if unfiltered is not None:
            arguments["x-stream-match-unfiltered"] = unfiltered
        tag = channel.consume(stream, arguments=arguments)
        expected = [number for number in range(12) if number % 4 in rests]
        got = channel.deliveries(len(expected))
        assert [int(one.body) for one in got] == expected
        channel.ack(got[-1].delivery_tag, multiple=True)
        channel.call("basic.cancel", consumer_tag=tag)
    with channel_error(406, "PRECONDITION_FAILED - x-stream-filter must be a string or an array of strings, not [a, 5]", "basic.consume"):
        channel.call("basic.consume", queue=stream, arguments={"x-stream-filter": ["a", 5]})


def test_a_stream_from_next_gets_what_comes_later(channel, name):
    stream = channel.queue(name(), durable=True, arguments={"x-queue-type": "stream"})
    channel.fill(stream, ["before"])
    channel.call("basic.qos", prefetch_count=10)
    channel.consume(stream, arguments={"x-stream-offset": "next"})
    channel.fill(stream, ["after"])
    assert channel.deliver().body == b"after"


def test_a_stream_needs_a_prefetch_and_acknowledgements(connection, name):
    stream = connection.channel().queue(name(), durable=True, arguments={"x-queue-type": "stream"})
    with channel_error(406, f"PRECONDITION_FAILED - consumer prefetch count is not set for 'queue '{stream}' in vhost '/''",
                       "basic.consume"):
        connection.channel().consume(stream)
    with connection_error(540, f"NOT_IMPLEMENTED - basic.get not supported by stream queues queue '{stream}' in vhost '/'"):
        connection.channel().get(stream)
