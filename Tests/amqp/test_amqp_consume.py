"""Delivery and settling: consumers and their options, prefetch, acknowledgements, returns to the queue, direct reply-to."""

import re

import pytest
from millrace_tests.amqp import beginning, channel_error, connection_error
from millrace_tests.differences import ERLANG, differs


@pytest.fixture
def queue(channel, name):
    return channel.queue(name(), exclusive=True)


def bodies(messages):
    return [one.body.decode() for one in messages]


# get

def test_get_tells_how_many_are_left(channel, queue):
    assert channel.call("basic.get", queue=queue).name == "basic.get_empty"
    channel.fill(queue, "abc")
    got = [channel.get(queue, no_ack=False) for _ in "abc"]
    assert [(one.body, one.message_count, one.delivery_tag, one.redelivered) for one in got] == [
        (b"a", 2, 1, False), (b"b", 1, 2, False), (b"c", 0, 3, False)]


def test_get_without_acknowledgement_is_done_at_once(connection, channel, queue):
    channel.fill(queue, ["a"])
    channel.get(queue, no_ack=True)
    with channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 1", "basic.ack"):
        channel.ack(1)
        channel.fence()
    assert connection.channel().get(queue) is None


# Consumers

def test_consumers_get_what_is_there_and_what_comes(channel, queue):
    channel.fill(queue, "ab")
    tag = channel.consume(queue)
    channel.fill(queue, "c")
    got = channel.deliveries(3)
    assert bodies(got) == ["a", "b", "c"]
    assert {one.consumer_tag for one in got} == {tag}
    assert [one.delivery_tag for one in got] == [1, 2, 3]
    assert (got[0].exchange, got[0].routing_key, got[0].redelivered) == ("", queue, False)


def test_an_empty_consumer_tag_gets_one_from_the_server(channel, queue):
    one, two = channel.consume(queue), channel.consume(queue)
    assert one != two
    assert all(re.fullmatch(r"amq\.ctag-[A-Za-z0-9_-]{22}", tag) for tag in (one, two))


def test_consume_ok_comes_before_the_first_delivery(channel, queue):
    channel.fill(queue, "a")
    channel.send("basic.consume", queue=queue, consumer_tag="t")
    assert channel.wait("basic.consume_ok", "basic.deliver").name == "basic.consume_ok"


def test_nowait_consumes_and_cancels_without_an_answer(channel, queue):
    channel.send("basic.consume", queue=queue, consumer_tag="t", nowait=True)
    channel.fill(queue, "a")
    assert channel.deliver().consumer_tag == "t"
    channel.send("basic.cancel", consumer_tag="t", nowait=True)
    channel.fill(queue, "b")
    assert channel.counts(queue) == (1, 0)
    assert channel.inbox == []


def test_a_consumer_tag_is_used_once_in_a_channel(connection, queue):
    one, two = connection.channel(), connection.channel()
    one.consume(queue, consumer_tag="t")
    two.consume(queue, consumer_tag="t")
    with connection_error(530, "NOT_ALLOWED - attempt to reuse consumer tag 't'", "basic.consume"):
        one.consume(queue, consumer_tag="t")


def test_cancelling_keeps_what_is_unacknowledged(connection, channel, queue):
    channel.fill(queue, "ab")
    channel.call("basic.qos", prefetch_count=1)
    tag = channel.consume(queue)
    held = channel.deliver()
    channel.call("basic.cancel", consumer_tag=tag)
    assert channel.counts(queue) == (1, 0)
    channel.ack(held.delivery_tag)
    channel.close()
    assert connection.channel().drain(queue) == ["b"]


def test_cancelling_an_unknown_tag_is_answered(channel):
    assert channel.call("basic.cancel", consumer_tag="never").consumer_tag == "never"


def test_an_exclusive_consumer_is_alone(connection, queue):
    one = connection.channel()
    tag = one.consume(queue, exclusive=True)
    with channel_error(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", "basic.consume"):
        connection.channel().consume(queue)
    one.call("basic.cancel", consumer_tag=tag)
    two = connection.channel()
    two.consume(queue)
    with channel_error(403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use", "basic.consume"):
        one.consume(queue, exclusive=True)


def test_deleting_the_queue_cancels_its_consumers(connection, name):
    consumer, other = connection.channel(), connection.channel()
    queue = consumer.queue(name(), durable=True)
    tag = consumer.consume(queue)
    other.call("queue.delete", queue=queue)
    assert consumer.wait("basic.cancel").consumer_tag == tag
    consumer.fence()


def test_who_did_not_announce_the_capability_is_not_told(connect, name):
    consumer, other = connect(capabilities={}).channel(), connect().channel()
    queue = consumer.queue(name(), durable=True)
    consumer.consume(queue)
    other.call("queue.delete", queue=queue)
    consumer.fence()
    consumer.fence()
    assert consumer.inbox == []


def test_consumers_take_turns(connection, queue):
    channels = [connection.channel() for _ in range(3)]
    for one in channels:
        one.call("basic.qos", prefetch_count=2)
        one.consume(queue)
    publisher = connection.channel()
    publisher.fill(queue, "abcdef")
    publisher.counts(queue)
    assert sorted(sum((bodies(one.deliveries(2)) for one in channels), [])) == list("abcdef")


def test_no_local_is_not_obeyed(channel, queue):
    channel.consume(queue, no_local=True)
    channel.fill(queue, "a")
    assert channel.deliver().body == b"a"


# Prefetch

def test_prefetch_bounds_the_unacknowledged_of_each_consumer(connection, queue):
    channel = connection.channel()
    channel.call("basic.qos", prefetch_count=2)
    one, two = channel.consume(queue), channel.consume(queue)
    connection.channel().fill(queue, "abcdefgh")
    assert channel.counts(queue)[0] == 4
    got = channel.delivered()
    assert sorted(one.consumer_tag for one in got) == sorted([one, one, two, two])
    channel.ack(got[0].delivery_tag)
    more = channel.deliver()
    assert more.consumer_tag == got[0].consumer_tag


def test_global_prefetch_bounds_the_channel(connection, queue):
    channel = connection.channel()
    channel.call("basic.qos", prefetch_count=3, global_=True)
    channel.consume(queue), channel.consume(queue)
    connection.channel().fill(queue, "abcdefgh")
    got = channel.deliveries(3)
    assert channel.counts(queue)[0] == 5
    assert channel.delivered() == []
    channel.ack(got[-1].delivery_tag, multiple=True)
    channel.deliveries(3)


def test_prefetch_does_not_bound_consumers_without_acknowledgement(channel, queue):
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue, no_ack=True)
    channel.fill(queue, "abc")
    assert bodies(channel.deliveries(3)) == ["a", "b", "c"]


def test_prefetch_zero_is_unlimited(channel, queue):
    channel.call("basic.qos", prefetch_count=0)
    channel.consume(queue)
    channel.fill(queue, [str(n) for n in range(500)])
    assert len(channel.deliveries(500)) == 500


@differs("a change of prefetch on a channel with consumers (global=false)", "applies to later consumers only", "as 3.10",
         "applies to the channel's consumers at once, which Celery relies on")
def test_a_changed_prefetch(connection, amqp_server, queue):
    channel = connection.channel()
    channel.call("basic.qos", prefetch_count=1)
    channel.consume(queue)
    connection.channel().fill(queue, "abcd")
    channel.deliver()
    channel.call("basic.qos", prefetch_count=3)
    assert channel.counts(queue)[0] == amqp_server.either(three=3, millrace=1)


def test_a_prefetch_size_is_not_implemented(channel):
    with connection_error(540, "NOT_IMPLEMENTED - prefetch_size!=0 (1000)", "basic.qos"):
        channel.call("basic.qos", prefetch_size=1000)


# Priorities of consumers, single active consumer

def test_the_consumer_of_higher_priority_comes_first(connection, queue):
    low, high = connection.channel(), connection.channel()
    for one, priority in ((low, 0), (high, 5)):
        one.call("basic.qos", prefetch_count=2)
        one.consume(queue, arguments={"x-priority": priority})
    connection.channel().fill(queue, "abc")
    low.counts(queue), high.counts(queue)
    assert bodies(high.delivered()) == ["a", "b"]
    assert bodies(low.delivered()) == ["c"]


@pytest.mark.parametrize("value", ["high", True])
@ERLANG
def test_a_consumer_priority_must_be_a_number(channel, amqp_server, queue, value):
    begin = f"PRECONDITION_FAILED - invalid arg 'x-priority' for queue '{queue}' in vhost '/': "
    text = f'{begin}"expected integer, got {"bool" if value is True else "longstr"}"'
    with channel_error(406, amqp_server.either(three=text, millrace=beginning(begin)), "basic.consume"):
        channel.consume(queue, arguments={"x-priority": value})


@pytest.mark.parametrize("type", ["classic", "quorum"])
def test_a_single_active_consumer_hands_over(connection, name, type):
    first, second = connection.channel(), connection.channel()
    queue = first.queue(name(), durable=True, arguments={"x-single-active-consumer": True, "x-queue-type": type})
    tag = first.consume(queue)
    second.consume(queue)
    publisher = connection.channel()
    publisher.fill(queue, "ab")
    got = first.deliveries(2)
    assert bodies(got) == ["a", "b"]
    publisher.counts(queue)
    assert second.delivered() == []
    first.ack(got[-1].delivery_tag, multiple=True)
    first.call("basic.cancel", consumer_tag=tag)
    publisher.fill(queue, "c")
    assert second.deliver().body == b"c"


# Settling

def test_ack_multiple_takes_all_before(connection, channel, queue):
    channel.fill(queue, "abcd")
    channel.consume(queue)
    got = channel.deliveries(4)
    channel.ack(got[2].delivery_tag, multiple=True)
    channel.fence()
    channel.close()
    assert connection.channel().drain(queue) == ["d"]


def test_tag_0_with_multiple_takes_all(connection, channel, queue):
    channel.fill(queue, "abcd")
    channel.consume(queue)
    channel.deliveries(4)
    channel.ack(0, multiple=True)
    channel.fence()
    channel.close()
    assert connection.channel().drain(queue) == []


@pytest.mark.parametrize("settle", ["ack", "reject", "nack"])
def test_an_unknown_delivery_tag_closes_the_channel_with_406(channel, settle):
    getattr(channel, settle)(7)
    with channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 7", f"basic.{settle}"):
        channel.fence()


def test_settling_twice_closes_the_channel_with_406(channel, queue):
    channel.fill(queue, "a")
    tag = channel.get(queue, no_ack=False).delivery_tag
    channel.ack(tag)
    channel.ack(tag)
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}", "basic.ack"):
        channel.fence()


def test_multiple_needs_something_to_settle(connection, channel, queue):
    channel.ack(0, multiple=True)  # tag 0 means all, also when there are none
    channel.fence()
    channel.ack(5, multiple=True)
    with channel_error(406, "PRECONDITION_FAILED - unknown delivery tag 5", "basic.ack"):
        channel.fence()


def test_a_delivery_tag_is_the_channels_own(connection, channel, queue):
    channel.fill(queue, "a")
    tag = channel.get(queue, no_ack=False).delivery_tag
    other = connection.channel()
    other.ack(tag)
    with channel_error(406, f"PRECONDITION_FAILED - unknown delivery tag {tag}"):
        other.fence()
    channel.ack(tag)
    channel.fence()


@pytest.mark.parametrize("settle", ["reject", "nack"])
def test_what_goes_back_keeps_its_place_and_is_marked(channel, queue, settle):
    channel.fill(queue, "abc")
    first = channel.get(queue, no_ack=False)
    getattr(channel, settle)(first.delivery_tag, requeue=True)
    again = channel.get(queue)
    assert (again.body, again.redelivered) == (b"a", True)
    rest = [channel.get(queue) for _ in "bc"]
    assert [(one.body, one.redelivered) for one in rest] == [(b"b", False), (b"c", False)]


def test_nack_multiple_returns_all_in_order(channel, queue):
    channel.fill(queue, "abcd")
    got = [channel.get(queue, no_ack=False) for _ in "abc"]
    channel.nack(got[-1].delivery_tag, multiple=True)
    assert channel.drain(queue) == list("abcd")


@pytest.mark.parametrize("settle", ["reject", "nack"])
def test_without_requeue_it_is_dropped(connection, channel, queue, settle):
    channel.fill(queue, "ab")
    getattr(channel, settle)(channel.get(queue, no_ack=False).delivery_tag, requeue=False)
    assert channel.drain(queue) == ["b"]


def test_a_returned_message_goes_to_another_consumer(connection, queue):
    one, two = connection.channel(), connection.channel()
    one.call("basic.qos", prefetch_count=1)
    one.consume(queue)
    connection.channel().fill(queue, "a")
    held = one.deliver()
    two.consume(queue)
    one.close()
    again = two.deliver()
    assert (again.body, again.redelivered, held.redelivered) == (b"a", True, False)


def test_recover_with_requeue_gives_all_back(channel, queue):
    channel.fill(queue, "abc")
    for _ in "ab":
        channel.get(queue, no_ack=False)
    channel.call("basic.recover", requeue=True)
    got = [channel.get(queue) for _ in "abc"]
    assert [(one.body, one.redelivered) for one in got] == [(b"a", True), (b"b", True), (b"c", False)]


def test_recover_async_has_no_answer(channel, queue):
    channel.fill(queue, "a")
    channel.get(queue, no_ack=False)
    channel.send("basic.recover_async", requeue=True)
    assert channel.get(queue).redelivered is True
    assert channel.inbox == []


@pytest.mark.parametrize("method", ["basic.recover", "basic.recover_async"])
def test_recover_without_requeue_is_not_implemented(channel, method):
    with connection_error(540, "NOT_IMPLEMENTED - requeue=false", method):
        channel.send(method, requeue=False)
        channel.fence()


def test_unacknowledged_messages_do_not_count_as_ready(channel, queue):
    channel.fill(queue, "abc")
    channel.get(queue, no_ack=False)
    assert channel.counts(queue) == (2, 0)


# Direct reply-to

def test_direct_reply_to_answers_without_a_queue(connect, name):
    client, worker = connect().channel(), connect().channel()
    queue = worker.queue(name(), exclusive=True)
    worker.consume(queue, no_ack=True)
    client.consume("amq.rabbitmq.reply-to", no_ack=True, consumer_tag="replies")
    client.publish("question", queue, reply_to="amq.rabbitmq.reply-to", correlation_id="1")
    question = worker.deliver()
    address = question.properties["reply_to"]
    assert address.startswith("amq.rabbitmq.reply-to.")
    assert worker.call("queue.declare", queue=address, passive=True).queue == address
    worker.publish("answer", address, correlation_id="1")
    answer = client.deliver()
    assert (answer.body, answer.consumer_tag, answer.exchange, answer.routing_key, answer.properties["correlation_id"]) == (
        b"answer", "replies", "", address, "1")


def test_a_reply_that_nobody_waits_for_is_dropped_or_returned(connect, name):
    client, worker = connect(), connect().channel()
    channel = client.channel()
    queue = worker.queue(name(), exclusive=True)
    channel.consume("amq.rabbitmq.reply-to", no_ack=True)
    channel.publish("question", queue, reply_to="amq.rabbitmq.reply-to")
    address = worker.get_soon(queue).properties["reply_to"]
    client.close()
    with channel_error(404, f"NOT_FOUND - no queue '{address}' in vhost '/'", "queue.declare"):
        worker.counts(address)


def test_direct_reply_to_wants_no_acknowledgements(channel):
    with channel_error(406, "PRECONDITION_FAILED - reply consumer cannot acknowledge", "basic.consume"):
        channel.consume("amq.rabbitmq.reply-to", no_ack=False)


def test_direct_reply_to_has_one_consumer_a_channel(channel):
    channel.consume("amq.rabbitmq.reply-to", no_ack=True)
    with channel_error(406, "PRECONDITION_FAILED - reply consumer already set", "basic.consume"):
        channel.consume("amq.rabbitmq.reply-to", no_ack=True)


def test_direct_reply_to_needs_its_consumer_before_publishing(channel, queue):
    channel.publish("question", queue, reply_to="amq.rabbitmq.reply-to")
    with channel_error(406, "PRECONDITION_FAILED - fast reply consumer does not exist", "basic.publish"):
        channel.fence()


# Quorum queues

@pytest.fixture
def quorum(channel, name):
    return channel.queue(name(), durable=True, arguments={"x-queue-type": "quorum"})


def test_a_quorum_queue_counts_deliveries(channel, quorum):
    channel.fill(quorum, ["a"])
    channel.consume(quorum)
    seen = []
    for _ in range(3):
        message = channel.deliver()
        seen.append((message.redelivered, message.headers.get("x-delivery-count")))
        channel.reject(message.delivery_tag)
    assert seen == [(False, None), (True, 1), (True, 2)] or seen == [(False, 0), (True, 1), (True, 2)]


@differs("nack with requeue in a quorum queue", "raises x-delivery-count", "does not raise it; reject does (from 4.3 on)", "as 4.3")
def test_nack_and_the_delivery_count(channel, amqp_server, quorum):
    channel.fill(quorum, ["a"])
    channel.consume(quorum)
    for _ in range(2):
        channel.nack(channel.deliver().delivery_tag)
    assert channel.deliver().headers.get("x-delivery-count", 0) == amqp_server.either(three=2, millrace=0)


def test_a_delivery_limit_dead_letters(channel, name):
    dead = channel.queue(name("dead"), durable=True)
    queue = channel.queue(name(), durable=True, arguments={
        "x-queue-type": "quorum", "x-delivery-limit": 2, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
    channel.fill(queue, ["a"])
    channel.consume(queue)
    for _ in range(3):
        channel.reject(channel.deliver().delivery_tag)
    message = channel.get_soon(dead)
    assert (message.body, message.headers["x-death"][0]["reason"]) == (b"a", "delivery_limit")


@differs("a quorum queue declared without x-delivery-limit", "no limit", "20", "20")
def test_the_standard_delivery_limit(channel, amqp_server, quorum):
    channel.fill(quorum, ["a"])
    channel.consume(quorum)
    for _ in range(21):
        channel.reject(channel.deliver().delivery_tag)
    if amqp_server.is_millrace:
        channel.eventually(quorum, 0)
        assert channel.delivered() == []
    else:
        assert channel.deliver().body == b"a"


def test_a_quorum_queue_refuses_a_global_prefetch(channel, quorum):
    channel.call("basic.qos", prefetch_count=2, global_=True)
    with connection_error(540, f"NOT_IMPLEMENTED - queue '{quorum}' in vhost '/' does not support global qos",
                          "basic.consume"):
        channel.consume(quorum)
