"""Opening and closing of connections and channels: negotiation, credentials, limits, and which errors end what."""

import contextlib

import pytest
from millrace_tests import amqp_codec as codec
from millrace_tests.amqp import Closed, Connection, channel_error, connection_error
from millrace_tests.differences import differs

CAPABILITIES = {"publisher_confirms", "exchange_exchange_bindings", "basic.nack", "consumer_cancel_notify",
                "connection.blocked", "consumer_priorities", "authentication_failure_close", "per_consumer_qos",
                "direct_reply_to"}
REFUSED = ("ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. "
           "For details see the broker logfile.")


@differs("product and version announced in connection.start", "RabbitMQ, 3.10", "RabbitMQ, 4.x",
         "a version 4.x, so that clients choose the semantics of RabbitMQ 4")
def test_start_announces_versions_mechanisms_and_capabilities(connect, amqp_server):
    start = connect(steps="start").start
    assert (start.version_major, start.version_minor) == (0, 9)
    assert {"PLAIN", "AMQPLAIN"} <= set(start.mechanisms.split())
    assert "en_US" in start.locales.split()
    announced = start.server_properties["capabilities"]
    assert {one for one, on in announced.items() if on is True} >= CAPABILITIES
    assert start.server_properties["version"].startswith(amqp_server.either(three="3.10.", millrace="4."))


def test_tune_offers_2047_channels_128_kib_frames_and_60_s_heartbeats(connect):
    tune = connect(steps="tune").tune
    assert (tune.channel_max, tune.frame_max, tune.heartbeat) == (2047, 131072, 60)


@pytest.mark.parametrize("header", [b"HTTP/1.1", b"AMQP\x00\x00\x0a\x00", b"AMQP\x03\x01\x00\x00", b"GET / HT"], ids=repr)
def test_a_wrong_protocol_header_is_answered_with_the_right_one(connect, header):
    connection = connect(steps="tcp")
    connection.send_raw(header)
    assert connection.read_until_closed() == codec.PROTOCOL_HEADER


def test_a_connection_that_ends_within_the_header_disturbs_nobody(connect):
    early = connect(steps="tcp")
    early.send_raw(b"AMQP")
    early.drop()
    connect().channel().fence()


@pytest.mark.parametrize("user, password", [("guest", "wrong"), ("nobody", "guest"), ("", "")])
def test_wrong_credentials_are_refused_with_403(connect, user, password):
    with connection_error(403, REFUSED):
        connect(user=user, password=password)


def test_without_the_capability_wrong_credentials_close_the_socket(connect):
    with pytest.raises(Closed):
        connect(password="wrong", capabilities={})


@contextlib.contextmanager
def refused_in_the_handshake(amqp_server, code, text):
    """RabbitMQ says nothing to a client that it does not know yet, waits three seconds and ends the connection."""
    if amqp_server.is_millrace:
        with connection_error(code, text):
            yield
    else:
        with pytest.raises(Closed):
            yield


SILENT = differs("errors before connection.open: an unknown mechanism, a malformed response, limits above the offered",
                 "logged; the socket is closed after 3 s without a word", "as 3.10",
                 "connection.close with code and text at once")


@SILENT
@pytest.mark.parametrize("given, code, text", [
    ({"mechanism": "SECRET", "response": "x"}, 503, "COMMAND_INVALID - unknown authentication mechanism 'SECRET'"),
    ({"response": "guest"}, 403, REFUSED),
    ({"channel_max": 4000}, 530,
     "NOT_ALLOWED - negotiated channel_max = 4000 is higher than the maximum allowed value (2047)"),
    ({"frame_max": 262144}, 530,
     "NOT_ALLOWED - negotiated frame_max = 262144 is higher than the maximum allowed value (131072)"),
], ids=["mechanism", "response", "channel_max", "frame_max"])
def test_errors_of_the_handshake(connect, amqp_server, given, code, text):
    with refused_in_the_handshake(amqp_server, code, text):
        connect(**given)


def test_amqplain_logs_in(connect):
    fields = codec.table({"LOGIN": "guest", "PASSWORD": "guest"})[4:]
    connect(mechanism="AMQPLAIN", response=fields).channel().fence()


def test_an_unknown_vhost_is_refused_with_530(connect):
    with connection_error(530, "NOT_ALLOWED - vhost nowhere not found", "connection.open"):
        connect(vhost="nowhere")


def test_a_vhost_without_permission_is_refused_with_530(connect, amqp_server):
    needs_users(amqp_server)
    with connection_error(530, "NOT_ALLOWED - access to vhost 'other' refused for user 'limited'", "connection.open"):
        connect(user="limited", password="limited", vhost="other")


def needs_users(amqp_server):
    if not amqp_server.has_users:
        pytest.skip(f"the harness cannot make users and vhosts on {amqp_server.name}")


def test_vhosts_are_apart(connect, amqp_server, name):
    needs_users(amqp_server)
    queue = name()
    connect().channel().queue(queue, exclusive=True)
    with channel_error(404, f"NOT_FOUND - no queue '{queue}' in vhost 'other'", "queue.declare"):
        connect(vhost="other").channel().counts(queue)


@pytest.mark.parametrize("method, arguments, kind, what", [
    ("queue.declare", {"queue": "forbidden"}, "queue", "forbidden"),
    ("queue.delete", {"queue": "forbidden"}, "queue", "forbidden"),
    ("exchange.declare", {"exchange": "forbidden"}, "exchange", "forbidden"),
    ("exchange.delete", {"exchange": "forbidden"}, "exchange", "forbidden"),
    ("queue.bind", {"queue": "limited.q", "exchange": "amq.direct"}, "exchange", "amq.direct"),
    ("basic.consume", {"queue": "forbidden"}, "queue", "forbidden"),
    ("basic.get", {"queue": "forbidden"}, "queue", "forbidden"),
    ("queue.purge", {"queue": "forbidden"}, "queue", "forbidden"),
])
def test_what_a_user_may_not_touch_is_refused_with_403(connect, amqp_server, method, arguments, kind, what):
    needs_users(amqp_server)
    connect().channel().queue("limited.q")
    with channel_error(403, f"ACCESS_REFUSED - access to {kind} '{what}' in vhost '/' refused for user 'limited'", method):
        connect(user="limited", password="limited").channel().call(method, **arguments)


def test_a_user_may_not_publish_where_it_may_not_write(connect, amqp_server):
    needs_users(amqp_server)
    channel = connect(user="limited", password="limited").channel()
    channel.publish("x", exchange="amq.direct")
    with channel_error(403, "ACCESS_REFUSED - access to exchange 'amq.direct' in vhost '/' refused for user 'limited'",
                       "basic.publish"):
        channel.fence()


@differs("the least frame_max a client may choose", "4096", "8192 since 4.1", "8192")
def test_a_frame_max_below_the_minimum_is_refused_with_530(connect, amqp_server):
    least = amqp_server.either(three=4096, millrace=8192)
    with refused_in_the_handshake(amqp_server, 530, f"NOT_ALLOWED - negotiated frame_max = {least - 1} is lower than the "
                                  f"minimum allowed value ({least})"):
        connect(frame_max=least - 1)
    connect(frame_max=least).channel().fence()


def test_a_channel_beyond_the_negotiated_number_ends_the_connection(connect):
    connection = connect(channel_max=2)
    connection.channel(1)
    connection.channel(2)
    with connection_error(530, "NOT_ALLOWED - number of channels opened (2) has reached the negotiated channel_max (2)"):
        connection.channel(3)


def test_a_closed_channels_place_and_number_are_free_again(connect):
    connection = connect(channel_max=1)
    for _ in range(3):
        connection.channel(1).close()
    connection.channel(1).fence()


def test_the_server_sends_heartbeats_and_ends_a_silent_connection(connect):
    connection = connect(heartbeat=1)
    kind, channel, payload = connection.read_frame()
    assert (kind, channel, payload) == (codec.HEARTBEAT, 0, b"")
    left = connection.read_until_closed()
    assert left.replace(codec.frame(codec.HEARTBEAT, 0, b""), b"") == b""


def test_heartbeats_keep_a_connection(connect):
    connection = connect(heartbeat=1)
    while connection.heartbeats < 4:  # a silent client is ended after two intervals
        connection.send_frame(codec.HEARTBEAT, 0, b"")
        before = connection.heartbeats
        while connection.heartbeats == before:
            kind, _, _ = connection.read_frame()
            connection.heartbeats += kind == codec.HEARTBEAT
    connection.channel().fence()


def test_a_client_closes_its_connection(connect):
    connection = connect()
    connection.channel().send("queue.declare", queue="", exclusive=True)
    connection.zero.call("connection.close", reply_text="enough")


def test_closing_the_connection_needs_no_closing_of_channels(connect, name):
    connection = connect()
    channel = connection.channel()
    queue = channel.queue(name(), durable=True)
    for n in range(100):
        channel.publish(str(n), queue)
    connection.close()
    assert connect().channel().drain(queue) == [str(n) for n in range(100)]


def test_a_method_on_a_channel_that_is_not_open_ends_the_connection(connection):
    connection.send_frame(codec.METHOD, 7, codec.method_payload("queue.declare", queue="x"))
    with connection_error(504, "CHANNEL_ERROR - expected 'channel.open'", "queue.declare"):
        connection.expect_close()


def test_opening_a_channel_twice_ends_the_connection(connection):
    channel = connection.channel(1)
    with connection_error(504, "CHANNEL_ERROR - second 'channel.open' seen", "channel.open"):
        channel.call("channel.open")


def test_a_channel_error_leaves_the_other_channels(connection, name):
    first, second = connection.channel(), connection.channel()
    queue = second.queue(name(), exclusive=True)
    with channel_error(404, "NOT_FOUND - no queue 'missing' in vhost '/'", "queue.declare"):
        first.counts("missing")
    second.fill(queue, ["still here"])
    assert second.drain(queue) == ["still here"]
    connection.channel(first.number).fence()


def test_what_follows_a_channel_error_is_ignored(connection, name):
    channel, queue = connection.channel(), name()
    channel.send("queue.declare", queue="missing", passive=True)
    channel.send("queue.declare", queue=queue, exclusive=True)
    channel.publish("lost", queue)
    with channel_error(404, "NOT_FOUND - no queue 'missing' in vhost '/'", "queue.declare"):
        channel.wait("queue.declare_ok")
    with channel_error(404, f"NOT_FOUND - no queue '{queue}' in vhost '/'", "queue.declare"):
        connection.channel().counts(queue)


def test_closing_a_channel_gives_its_messages_back(connection, name):
    holder, other = connection.channel(), connection.channel()
    queue = holder.queue(name(), exclusive=True)
    holder.fill(queue, "abc")
    assert holder.get(queue, no_ack=False).body == b"a"
    holder.close()
    message = other.get(queue)
    assert (message.body, message.redelivered) == (b"a", True)


def test_a_dropped_connection_gives_its_messages_back(connect, name):
    first, other = connect(), connect().channel()
    queue = other.queue(name(), durable=True)
    other.fill(queue, ["a"])
    assert first.channel().get(queue, no_ack=False).body == b"a"
    first.drop()
    message = other.get_soon(queue)
    assert (message.body, message.redelivered) == (b"a", True)


def test_channel_flow_on_is_answered(channel):
    assert channel.call("channel.flow", active=True).active is True


def test_channel_flow_off_is_not_implemented(channel):
    with connection_error(540, "NOT_IMPLEMENTED - active=false", "channel.flow"):
        channel.call("channel.flow", active=False)


def test_access_request_is_answered_as_of_old(channel):
    assert channel.call("access.request").ticket == 1


def test_a_secret_may_be_renewed(connection):
    connection.zero.call("connection.update_secret", new_secret="guest", reason="renewed")
    connection.channel().fence()


def test_a_hundred_connections_at_once(connect, name):
    channels = [connect().channel() for _ in range(100)]
    queue = channels[0].queue(name(), durable=True)
    for n, one in enumerate(channels):
        one.confirms()
        one.publish(str(n), queue)
    for one in channels:
        assert one.settle(1) == ["ack"]
    assert sorted(map(int, channels[1].drain(queue))) == list(range(100))


def test_the_vhost_may_be_named_with_a_slash_only(connect):
    assert isinstance(connect(vhost="/"), Connection)
