"""What a clean stop and a start leave: durable exchanges, bindings, queues and their messages, and nothing else."""

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
