"""What a clean stop and a start leave: durable exchanges, bindings, queues and their messages, and nothing else."""

import pytest
from millrace_tests.amqp import channel_error
from millrace_tests.differences import differs


@differs("messages of delivery mode 1 in a durable queue after a restart", "lost", "lost in a classic queue, kept in a quorum queue",
         "may be kept")
def test_what_is_durable_survives_a_restart(make_amqp_server, connect, name):
    server = make_amqp_server()
    channel = connect(server=server).channel()
    lasting, passing = name("lasting"), name("passing")
    channel.call("exchange.declare", exchange=lasting, type="topic", durable=True)
    channel.call("exchange.declare", exchange=passing)
    queues = [channel.queue(name("classic"), durable=True),
              channel.queue(name("quorum"), durable=True, arguments={"x-queue-type": "quorum"})]
    transient = channel.queue(name("transient"))
    inner = name("inner")
    channel.call("exchange.declare", exchange=inner, type="fanout", durable=True)
    channel.call("exchange.bind", source=lasting, destination=inner, routing_key="inner.#")
    for queue in queues:
        channel.call("queue.bind", queue=queue, exchange=lasting, routing_key="a.*")
        channel.call("queue.bind", queue=queue, exchange=inner)
        channel.fill(queue, "abc", delivery_mode=2, headers={"n": 1}, correlation_id="7")
        assert channel.get(queue, no_ack=False).body == b"a"  # delivered, not acknowledged
        gone = channel.get(queue, no_ack=False)
        channel.ack(gone.delivery_tag)
    channel.fence()
    channel.connection.close()
    server.restart()
    connection = connect(server=server)
    channel = connection.channel()
    for queue in queues:
        message = channel.get_soon(queue)
        assert (message.body, message.redelivered) == (b"a", True)
        assert (message.headers["n"], message.properties["correlation_id"]) == (1, "7")
        assert channel.drain(queue) == ["c"]
    channel.fill_exchange(lasting, ["a.b", "inner.x", "other"])
    for queue in queues:
        assert [channel.get_soon(queue).body for _ in range(2)] == [b"a.b", b"inner.x"]
        assert channel.get(queue) is None
    with channel_error(404, f"NOT_FOUND - no exchange '{passing}' in vhost '/'"):
        channel.call("exchange.declare", exchange=passing, passive=True)
    with channel_error(404, f"NOT_FOUND - no queue '{transient}' in vhost '/'"):
        connection.channel().counts(transient)


def test_a_large_body_for_many_queues_is_stored_once_and_survives_a_kill(make_amqp_server, connect, name):
    server = make_amqp_server()
    if not server.is_millrace:
        pytest.skip("looks into the data directory")
    channel = connect(server=server).channel()
    exchange = name("everybody")
    channel.call("exchange.declare", exchange=exchange, type="fanout", durable=True)
    queues = [channel.queue(name(str(number)), durable=True) for number in range(100)]
    for number, queue in enumerate(queues):
        channel.call("queue.bind", queue=queue, exchange=exchange)
        # So that it has another place in each of them.
        channel.fill(queue, ["small"] * (number % 5 + 1), delivery_mode=2)
    body = b"0123456789abcdef" * (1 << 20)
    channel.fill("", [body], exchange=exchange, delivery_mode=2)
    server.server.kill()
    # One body, in files that are made before they are needed.
    stored = sum(file.stat().st_blocks * 512 for file in server.server.data.rglob("*") if file.is_file())
    assert stored < 160 << 20, f"{stored} bytes are stored"
    server.start()
    for number, queue in enumerate(queues):
        channel = connect(server=server).channel()
        channel.consume(queue, no_ack=True)
        deliveries = channel.deliveries(number % 5 + 2)
        assert [one.body for one in deliveries] == [b"small"] * (number % 5 + 1) + [body], queue
        channel.connection.drop()
    assert server.server.resident_bytes() < 1 << 30
