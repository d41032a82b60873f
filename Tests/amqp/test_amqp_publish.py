"""Publishing: properties, sizes, mandatory and immediate, confirms, CC and BCC, user ids, expirations, transactions."""

import pytest
from millrace_tests.amqp import beginning, channel_error, connection_error
from millrace_tests.amqp_codec import Typed
from millrace_tests.differences import ERLANG

PROPERTIES = dict(content_type="text/plain", content_encoding="gzip", delivery_mode=2, priority=5, correlation_id="c",
                  reply_to="somewhere", message_id="m", timestamp=1_700_000_000, type="t", app_id="a", cluster_id="k",
                  headers={"text": "ü", "number": 7, "big": 1 << 40, "negative": -3, "float": 1.5, "yes": True, "no": False,
                           "nothing": None, "bytes": b"\0\xff", "list": [1, "two", [3]], "table": {"deep": {"er": 1}}})


@pytest.fixture
def queue(channel, name):
    return channel.queue(name(), exclusive=True)


def test_all_properties_arrive_as_sent(channel, queue):
    channel.fill(queue, ["body"], **PROPERTIES)
    message = channel.get(queue)
    assert message.properties == PROPERTIES
    assert message.body == b"body"


def test_every_type_of_header_arrives_as_sent(channel, queue):
    typed = {code: Typed(code, value) for code, value in
             {"b": -5, "B": 200, "s": -300, "u": 40_000, "I": -70_000, "i": 3_000_000_000, "l": -(1 << 50), "f": 0.5, "d": 0.1,
              "T": 1_700_000_000, "t": True}.items()}
    channel.fill(queue, ["x"], headers=typed)
    assert channel.get(queue).headers == {code: one.value for code, one in typed.items()}


def test_a_message_without_properties_has_none(channel, queue):
    channel.fill(queue, ["x"])
    assert channel.get(queue).properties == {}


@pytest.mark.parametrize("size", [0, 1, 131064, 131065, 1_000_000])
def test_bodies_of_any_size_arrive_in_frames_within_the_limit(channel, queue, size):
    body = bytes(n * 7 % 251 for n in range(size))
    channel.fill(queue, [body])
    assert channel.get(queue).body == body
    assert all(one <= 131064 for one in channel.connection.frame_sizes)
    assert len(channel.connection.frame_sizes) == -(-size // 131064)


def test_a_smaller_frame_max_holds_in_both_directions(connect, name):
    channel = connect(frame_max=8192).channel()
    queue = channel.queue(name(), exclusive=True)
    channel.fill(queue, [bytes(20_000)])
    assert channel.get(queue).body == bytes(20_000)
    assert channel.connection.frame_sizes == [8184, 8184, 3632]


# Mandatory and immediate

def test_mandatory_returns_what_no_queue_takes(channel, name):
    key = name("nowhere")
    channel.publish("lost", exchange="amq.direct", key=key)
    channel.publish("returned", exchange="amq.direct", key=key, mandatory=True, message_id="7")
    returned = channel.wait("basic.return")
    assert (returned.reply_code, returned.reply_text, returned.exchange, returned.routing_key, returned.body,
            returned.properties) == (312, "NO_ROUTE", "amq.direct", key, b"returned", {"message_id": "7"})
    channel.fence()
    assert channel.inbox == []


def test_mandatory_is_silent_about_what_was_routed(channel, queue):
    channel.confirms()
    channel.publish("x", queue, mandatory=True)
    assert channel.settle(1) == ["ack"]
    assert channel.inbox == []


def test_a_return_comes_before_its_confirm(channel):
    channel.confirms()
    channel.publish("x", "nowhere", mandatory=True)
    assert channel.wait("basic.return", "basic.ack").name == "basic.return"
    assert channel.wait("basic.ack").delivery_tag == 1


def test_immediate_is_not_implemented(channel, queue):
    channel.publish("x", queue, immediate=True)
    with connection_error(540, "NOT_IMPLEMENTED - immediate=true", "basic.publish"):
        channel.fence()


# Confirms

def test_every_message_is_confirmed_in_numbers_from_1(channel, queue):
    channel.confirms()
    for n in range(1, 201):
        assert channel.publish(str(n), queue, delivery_mode=2) == n
    assert channel.settle(200) == ["ack"] * 200
    assert channel.drain(queue) == [str(n) for n in range(1, 201)]


def test_messages_that_nobody_takes_are_confirmed_too(channel, name):
    channel.confirms()
    assert channel.publish_confirmed("x", name("nowhere")) == "ack"
    assert channel.publish_confirmed("x", name("nowhere"), exchange="amq.fanout") == "ack"


def test_selecting_confirms_again_keeps_the_numbers(channel, queue):
    channel.confirms()
    assert channel.publish_confirmed("1", queue) == "ack"
    channel.call("confirm.select")
    channel.publish("2", queue)
    assert channel.settle(2) == ["ack"]


def test_nowait_selects_confirms_without_an_answer(channel, queue):
    channel.send("confirm.select", nowait=True)
    channel.outcomes, channel._settled = {}, 0
    assert channel.publish_confirmed("1", queue) == "ack"
    assert channel.inbox == []


def test_numbers_are_the_channels_own(connection, queue):
    for one in (connection.channel(), connection.channel()):
        one.confirms()
        one.publish("x", queue)
        assert one.settle(1) == ["ack"]


def test_confirms_and_transactions_exclude_each_other(connection):
    channel = connection.channel()
    channel.call("tx.select")
    with channel_error(406, "PRECONDITION_FAILED - cannot switch from tx to confirm mode", "confirm.select"):
        channel.call("confirm.select")
    channel = connection.channel()
    channel.call("confirm.select")
    with channel_error(406, "PRECONDITION_FAILED - cannot switch from confirm to tx mode", "tx.select"):
        channel.call("tx.select")


def test_order_holds_for_one_channel_through_several_exchanges(channel, queue, name):
    channel.call("queue.bind", queue=queue, exchange="amq.direct", routing_key=queue)
    channel.call("queue.bind", queue=queue, exchange="amq.topic", routing_key=queue)
    channel.confirms()
    for n in range(99):
        channel.publish(str(n), queue, exchange=("", "amq.direct", "amq.topic")[n % 3], delivery_mode=1 + n % 2)
    channel.settle(99)
    assert channel.drain(queue) == [str(n) for n in range(99)]


# CC, BCC

def test_cc_and_bcc_add_routing_keys_and_bcc_is_taken_out(channel, name):
    to, cc, bcc = (channel.queue(name(what), exclusive=True) for what in ("to", "cc", "bcc"))
    channel.fill(to, ["x"], headers={"CC": [cc, to], "BCC": [bcc], "kept": 1})
    for queue in (to, cc, bcc):
        message = channel.get(queue)
        assert message.headers == {"CC": [cc, to], "kept": 1}
        assert message.routing_key == to
        assert channel.get(queue) is None


@pytest.mark.parametrize("value, kind", [("text", "longstr"), (7, "signedint")])
@ERLANG
def test_cc_must_be_an_array(channel, amqp_server, queue, value, kind):
    channel.publish("x", queue, headers={"CC": value})
    begin = "PRECONDITION_FAILED - invalid message: "
    text = begin + f'{{unacceptable_type_in_header,"CC",{kind}}}'
    with channel_error(406, amqp_server.either(three=text, millrace=beginning(begin)), "basic.publish"):
        channel.fence()


# User ids

def test_the_publishers_own_user_id_is_accepted(channel, queue):
    channel.fill(queue, ["x"], user_id="guest")
    assert channel.get(queue).properties == {"user_id": "guest"}


def test_another_user_id_is_refused_with_406(channel, queue):
    channel.publish("x", queue, user_id="somebody")
    with channel_error(406, "PRECONDITION_FAILED - user_id property set to 'somebody' but authenticated user was 'guest'",
                       "basic.publish"):
        channel.fence()


# Expiration

@pytest.mark.parametrize("value, text", [
    ("-1", "{value_negative,-1}"),
    ("soon", "no_integer"),
    ("10.5", "{leftover_string,\".5\"}"),
    ("100s", "{leftover_string,\"s\"}"),
    ("", "no_integer"),
])
@ERLANG
def test_a_wrong_expiration_is_refused_with_406(channel, amqp_server, queue, value, text):
    channel.publish("x", queue, expiration=value)
    begin = f"PRECONDITION_FAILED - invalid expiration '{value}': "
    with channel_error(406, amqp_server.either(three=begin + text, millrace=beginning(begin)), "basic.publish"):
        channel.fence()


def test_priorities_outside_a_priority_queue_mean_nothing(channel, queue):
    channel.confirms()
    for n, priority in enumerate((0, 200, 3, None)):
        channel.publish(str(n), queue, priority=priority)
    channel.settle(4)
    assert channel.drain(queue) == ["0", "1", "2", "3"]


# Transactions

def test_a_transactions_messages_appear_with_its_commit(connection, queue):
    channel, other = connection.channel(), connection.channel()
    channel.call("tx.select")
    for body in "abc":
        channel.publish(body, queue)
    channel.fence()
    assert other.get(queue) is None
    channel.call("tx.commit")
    assert other.drain(queue) == ["a", "b", "c"]


def test_a_rolled_back_transaction_leaves_nothing(connection, queue):
    channel, other = connection.channel(), connection.channel()
    channel.call("tx.select")
    channel.publish("never", queue)
    channel.call("tx.rollback")
    channel.publish("kept", queue)
    channel.call("tx.commit")
    assert other.drain(queue) == ["kept"]


def test_acknowledgements_take_part_in_a_transaction(connection, queue):
    channel, other = connection.channel(), connection.channel()
    channel.fill(queue, "abc")
    worker = connection.channel()
    worker.call("tx.select")
    tags = [worker.get(queue, no_ack=False).delivery_tag for _ in "abc"]
    worker.ack(tags[0])
    worker.call("tx.commit")
    worker.ack(tags[1])
    worker.nack(tags[2], requeue=False)
    worker.call("tx.rollback")
    worker.fence()
    worker.close()  # what was not committed comes back
    assert other.drain(queue) == ["b", "c"]


def test_a_rolled_back_acknowledgement_may_be_given_again(connection, queue):
    worker = connection.channel()
    connection.channel().fill(queue, ["a"])
    worker.call("tx.select")
    tag = worker.get(queue, no_ack=False).delivery_tag
    worker.ack(tag)
    worker.call("tx.rollback")
    worker.ack(tag)
    worker.call("tx.commit")
    worker.close()
    assert connection.channel().get(queue) is None


def test_mandatory_in_a_transaction_returns_at_the_commit(channel):
    channel.call("tx.select")
    channel.publish("x", "nowhere", mandatory=True)
    channel.fence()
    channel.call("tx.commit")
    assert channel.wait("basic.return").reply_text == "NO_ROUTE"


@pytest.mark.parametrize("method", ["tx.commit", "tx.rollback"])
def test_a_channel_without_transactions_cannot_end_one(channel, method):
    with channel_error(406, "PRECONDITION_FAILED - channel is not transactional", method):
        channel.call(method)


def test_closing_the_channel_rolls_back(connection, queue):
    channel = connection.channel()
    channel.call("tx.select")
    channel.publish("never", queue)
    channel.close()
    assert connection.channel().get(queue) is None
