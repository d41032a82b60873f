"""What leaves a queue by itself: expiry, limits of length, priorities, and where it goes (dead-lettering)."""

import pytest
from millrace_tests.differences import differs

TYPES = ["classic", "quorum"]


@pytest.fixture
def dead(channel, name):
    """A queue for dead letters, and the arguments that send them there."""
    queue = channel.queue(name("dead"), durable=True)
    return queue, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": queue}


@pytest.fixture
def declare(channel, name):
    def declare(type="classic", **arguments):
        named = {"x-" + key.replace("_", "-"): value for key, value in arguments.items()}
        return channel.queue(name(), durable=True, arguments={"x-queue-type": type} | named)

    return declare


def arguments_of(dead):
    return {key[2:].replace("-", "_"): value for key, value in dead[1].items()}


# Expiry

@pytest.mark.parametrize("type", TYPES)
def test_a_queues_ttl_removes_and_dead_letters(channel, declare, dead, type):
    queue = declare(type, message_ttl=50, **arguments_of(dead))
    channel.fill(queue, "abc")
    got = [channel.get_soon(dead[0]) for _ in "abc"]
    assert [one.body for one in got] == [b"a", b"b", b"c"]
    assert got[0].headers["x-death"][0]["reason"] == "expired"
    assert channel.drain(queue) == []


@pytest.mark.parametrize("type", TYPES)
def test_an_expiration_of_0_reaches_a_consumer_that_waits(channel, connection, declare, type):
    queue = declare(type)
    publisher = connection.channel()
    channel.consume(queue, no_ack=True)
    for number in range(1000):
        publisher.publish(f"{number}", queue, expiration="0", delivery_mode=2)
        assert channel.deliver().body.decode() == f"{number}"


@pytest.mark.parametrize("type", TYPES)
def test_a_messages_ttl_removes_it_at_the_head(channel, declare, dead, type):
    queue = declare(type, **arguments_of(dead))
    channel.fill(queue, ["short"], expiration="30")
    channel.fill(queue, ["stays"])
    message = channel.get_soon(dead[0])
    assert message.body == b"short"
    assert "expiration" not in message.properties  # or it would expire again
    assert message.headers["x-death"][0]["original-expiration"] == "30"
    assert channel.drain(queue) == ["stays"]


def test_the_shorter_ttl_counts(channel, declare, dead):
    queue = declare(message_ttl=50, **arguments_of(dead))
    channel.fill(queue, ["a"], expiration="600000")
    assert channel.get_soon(dead[0]).body == b"a"
    queue = declare(message_ttl=600_000, **arguments_of(dead))
    channel.fill(queue, ["b"], expiration="50")
    assert channel.get_soon(dead[0]).body == b"b"


def test_ttl_0_reaches_a_waiting_consumer_or_expires(channel, declare, dead):
    queue = declare(message_ttl=0, **arguments_of(dead))
    channel.fill(queue, ["expires"])
    assert channel.get_soon(dead[0]).body == b"expires"
    channel.consume(queue, no_ack=True)
    channel.fill(queue, ["arrives"])
    assert channel.deliver().body == b"arrives"


def test_an_unacknowledged_message_does_not_expire(channel, declare, dead):
    queue, clock = declare(message_ttl=100, **arguments_of(dead)), declare(message_ttl=200, **arguments_of(dead))
    channel.fill(queue, ["held"])
    held = channel.get(queue, no_ack=False)
    channel.fill(clock, ["later"])
    assert channel.get_soon(dead[0]).body == b"later"  # the other's time is over as well
    channel.nack(held.delivery_tag)
    assert channel.get_soon(dead[0]).body == b"held"  # back in the queue, it expires


# Limits of length

@pytest.mark.parametrize("type", TYPES)
def test_drop_head_drops_the_oldest(channel, declare, dead, type):
    queue = declare(type, max_length=3, **arguments_of(dead))
    channel.fill(queue, "abcde")
    got = [channel.get_soon(dead[0]) for _ in "ab"]
    assert [one.body for one in got] == [b"a", b"b"]
    assert got[0].headers["x-death"][0]["reason"] == "maxlen"
    assert channel.drain(queue) == list("cde")


def test_reject_publish_refuses_the_newest_with_a_nack(channel, declare, dead):
    queue = declare(max_length=2, overflow="reject-publish", **arguments_of(dead))
    channel.confirms()
    assert [channel.publish_confirmed(body, queue) for body in "abcd"] == ["ack", "ack", "nack", "nack"]
    assert channel.drain(queue) == ["a", "b"]
    assert channel.drain(dead[0]) == []
    assert channel.publish_confirmed("e", queue) == "ack"


def test_reject_publish_dlx_refuses_and_dead_letters(channel, declare, dead):
    queue = declare(max_length=2, overflow="reject-publish-dlx", **arguments_of(dead))
    channel.confirms()
    assert [channel.publish_confirmed(body, queue) for body in "abc"] == ["ack", "ack", "nack"]
    message = channel.get_soon(dead[0])
    assert (message.body, message.headers["x-death"][0]["reason"]) == (b"c", "maxlen")
    assert channel.drain(queue) == ["a", "b"]


def test_a_message_that_one_of_two_queues_refuses_is_refused(channel, declare):
    full, open_ = declare(max_length=1, overflow="reject-publish"), declare()
    for queue in (full, open_):
        channel.call("queue.bind", queue=queue, exchange="amq.direct", routing_key=full)
    channel.confirms()
    assert [channel.publish_confirmed(body, full, exchange="amq.direct") for body in "ab"] == ["ack", "nack"]
    assert (channel.drain(full), channel.drain(open_)) == (["a"], ["a", "b"])


def test_a_limit_in_bytes_counts_bodies(channel, declare):
    queue = declare(max_length_bytes=10)
    channel.fill(queue, ["aaaa", "bbbb", "cccc"], headers={"long": "x" * 1000})
    assert channel.drain(queue) == ["bbbb", "cccc"]
    channel.fill(queue, ["much longer than all the queue may hold"])
    assert channel.drain(queue) == []


def test_unacknowledged_messages_do_not_count_for_the_limit(channel, declare):
    queue = declare(max_length=2)
    channel.fill(queue, "ab")
    held = [channel.get(queue, no_ack=False) for _ in "ab"]
    channel.fill(queue, "cd")
    assert channel.counts(queue)[0] == 2
    channel.nack(held[-1].delivery_tag, multiple=True)
    channel.eventually(queue, 2)
    assert channel.drain(queue) == ["c", "d"]  # the head, where the returned ones stand, is dropped


def test_a_length_of_zero_holds_nothing_but_delivers(channel, declare):
    queue = declare(max_length=0)
    channel.fill(queue, "a")
    assert channel.counts(queue)[0] == 0
    channel.consume(queue, no_ack=True)
    channel.fill(queue, "b")
    assert channel.deliver().body == b"b"


# Priorities

def test_higher_priorities_come_first_and_each_in_order(channel, declare):
    queue = declare(max_priority=5)
    for body, priority in (("a", 0), ("b", 5), ("c", None), ("d", 1), ("e", 9), ("f", 5), ("g", 1)):
        channel.fill(queue, [body], priority=priority)
    assert channel.drain(queue) == list("befdgac")  # none is 0, and what is above the maximum is the maximum


def test_a_returned_message_keeps_its_priority_and_place(channel, declare):
    queue = declare(max_priority=2)
    for body, priority in (("a", 1), ("b", 1), ("c", 2)):
        channel.fill(queue, [body], priority=priority)
    got = [channel.get(queue, no_ack=False) for _ in "ca"]
    channel.nack(got[-1].delivery_tag, multiple=True)
    assert channel.drain(queue) == list("cab")


def test_drop_head_drops_the_next_to_be_delivered_whatever_its_priority(channel, declare):
    queue = declare(max_priority=2, max_length=2)
    for body, priority in (("high", 2), ("low", 0), ("middle", 1)):
        channel.fill(queue, [body], priority=priority)
    assert channel.drain(queue) == ["middle", "low"]


@differs("priorities in a quorum queue", "ignored", "0 to 4 normal, above high, 2:1 (4.0); 32 strict levels (4.3)", "as 4.3")
def test_priorities_in_a_quorum_queue(channel, amqp_server, declare):
    queue = declare("quorum")
    for body, priority in (("low", 0), ("high", 9)):
        channel.fill(queue, [body], priority=priority)
    assert channel.drain(queue) == amqp_server.either(three=["low", "high"], millrace=["high", "low"])


# Dead-lettering

@pytest.mark.parametrize("type", TYPES)
def test_a_rejected_message_tells_its_history(channel, declare, dead, type):
    queue = declare(type, **arguments_of(dead))
    channel.call("queue.bind", queue=queue, exchange="amq.topic", routing_key=f"{queue}.*")
    channel.confirms()
    channel.publish("a", key=f"{queue}.x", exchange="amq.topic", headers={"mine": 1}, message_id="7")
    channel.settle(channel.published)
    channel.reject(channel.get_soon(queue, no_ack=False).delivery_tag, requeue=False)
    message = channel.get_soon(dead[0])
    assert (message.exchange, message.routing_key, message.body) == ("", dead[0], b"a")
    assert (message.headers["mine"], message.properties["message_id"]) == (1, "7")
    [death] = message.headers["x-death"]
    assert isinstance(death.pop("time"), int)
    assert death == {"count": 1, "reason": "rejected", "queue": queue, "exchange": "amq.topic",
                     "routing-keys": [f"{queue}.x"]}
    assert {key: message.headers[key] for key in message.headers if key.startswith("x-first")} == {
        "x-first-death-reason": "rejected", "x-first-death-queue": queue, "x-first-death-exchange": "amq.topic"}


@differs("x-last-death-queue, -reason and -exchange", "not set", "set", "set")
def test_the_last_death_is_told(channel, amqp_server, declare, dead):
    queue = declare(**arguments_of(dead))
    channel.fill(queue, ["a"])
    channel.nack(channel.get(queue, no_ack=False).delivery_tag, requeue=False)
    headers = channel.get_soon(dead[0]).headers
    assert {key: headers[key] for key in headers if key.startswith("x-last")} == amqp_server.either(three={}, millrace={
        "x-last-death-reason": "rejected", "x-last-death-queue": queue, "x-last-death-exchange": ""})


def test_deaths_of_one_queue_and_reason_are_counted(channel, declare, name):
    waiting = name("waiting")
    work = declare(dead_letter_exchange="", dead_letter_routing_key=waiting)
    channel.queue(waiting, durable=True, arguments={
        "x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": work})
    channel.fill(work, ["a"])
    for _ in range(3):  # the usual circle of retries
        channel.reject(channel.get_soon(work, no_ack=False).delivery_tag, requeue=False)
    deaths = channel.get_soon(work).headers["x-death"]
    assert [(one["queue"], one["reason"], one["count"]) for one in deaths] == [
        (waiting, "expired", 3), (work, "rejected", 3)]


def test_a_circle_without_a_rejection_drops_the_message(channel, declare, name):
    one = name("circle")
    channel.queue(one, durable=True, arguments={
        "x-message-ttl": 20, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": one})
    channel.fill(one, ["a"])
    channel.eventually(one, 0)


def test_without_a_key_of_its_own_the_messages_key_is_kept(channel, declare, name):
    made, dead = name("dlx"), channel.queue(name("dead"), exclusive=True)
    channel.call("exchange.declare", exchange=made, type="direct")
    queue = declare(dead_letter_exchange=made, max_length=0)
    channel.call("queue.bind", queue=dead, exchange=made, routing_key=queue)
    channel.fill(queue, ["a"])
    message = channel.get_soon(dead)
    assert (message.exchange, message.routing_key) == (made, queue)


def test_a_missing_dead_letter_exchange_drops(channel, declare):
    queue = declare(dead_letter_exchange="missing.later")
    channel.fill(queue, ["a"])
    channel.reject(channel.get(queue, no_ack=False).delivery_tag, requeue=False)
    assert channel.get(queue) is None


def test_purging_and_deleting_do_not_dead_letter(channel, declare, dead):
    queue = declare(**arguments_of(dead))
    channel.fill(queue, "ab")
    channel.call("queue.purge", queue=queue)
    channel.fill(queue, "c")
    channel.call("queue.delete", queue=queue)
    channel.fill(dead[0], ["only this"])
    assert channel.drain(dead[0]) == ["only this"]


@differs("x-death headers that a client sends", "taken as the message's history", "ignored", "ignored")
def test_a_history_that_a_client_made_up(channel, amqp_server, declare, dead):
    queue = declare(**arguments_of(dead))
    made_up = [{"queue": queue, "reason": "rejected", "count": 41, "exchange": "", "routing-keys": [queue]}]
    channel.fill(queue, ["a"], headers={"x-death": made_up})
    channel.reject(channel.get(queue, no_ack=False).delivery_tag, requeue=False)
    assert channel.get_soon(dead[0]).headers["x-death"][0]["count"] == amqp_server.either(three=42, millrace=1)


def test_at_least_once_keeps_what_cannot_be_dead_lettered(channel, declare, name):
    dlx = name("dlx")
    channel.call("exchange.declare", exchange=dlx, type="fanout", durable=True)
    queue = declare("quorum", dead_letter_exchange=dlx, dead_letter_strategy="at-least-once", overflow="reject-publish",
                    message_ttl=20)
    channel.fill(queue, ["a"])
    late = channel.queue(name("late"), durable=True)
    channel.call("queue.bind", queue=late, exchange=dlx)
    message = channel.get_soon(late)
    assert (message.body, message.headers["x-death"][0]["reason"]) == (b"a", "expired")
