"""Exchanges and bindings: declaration and its errors, routing by every type, alternates, exchanges bound to exchanges."""

import pytest
from millrace_tests.amqp import channel_error, connection_error
from millrace_tests.differences import differs

PREDECLARED = [("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"), ("amq.headers", "headers"),
               ("amq.match", "headers")]


@pytest.fixture
def exchange(channel, name):
    """Declares an exchange that goes with the server only; returns its name."""

    def declare(type="direct", what="exchange", **options):
        made = name(what)
        channel.call("exchange.declare", exchange=made, type=type, **options)
        return made

    return declare


@pytest.fixture
def bound(channel, name):
    """Declares an exclusive queue with bindings: bound(exchange, key or (key, arguments), …)."""

    def declare(exchange, *keys):
        queue = channel.queue(name(), exclusive=True)
        for key in keys:
            key, arguments = key if isinstance(key, tuple) else (key, {})
            channel.call("queue.bind", queue=queue, exchange=exchange, routing_key=key, arguments=arguments)
        return queue

    return declare


def route(channel, exchange, *keys, **properties):
    """Publishes each key as a body and waits for the confirms, which come after the queues have the messages."""
    channel.fill_exchange(exchange, keys, **properties)


# What is there before anybody declares

@pytest.mark.parametrize("exchange, type", PREDECLARED)
def test_predeclared_exchanges_are_durable_and_of_their_type(channel, exchange, type):
    channel.call("exchange.declare", exchange=exchange, passive=True)
    channel.call("exchange.declare", exchange=exchange, type=type, durable=True)
    with channel_error(406, f"PRECONDITION_FAILED - inequivalent arg 'durable' for exchange '{exchange}' in vhost '/': "
                       "received 'false' but current is 'true'", "exchange.declare"):
        channel.call("exchange.declare", exchange=exchange, type=type, durable=False)


def test_the_default_exchange_routes_to_the_queue_of_that_name(channel, name):
    queue = channel.queue(name(), exclusive=True)
    channel.fill(queue, ["hello"])
    message = channel.get(queue)
    assert (message.exchange, message.routing_key, message.body) == ("", queue, b"hello")


@pytest.mark.parametrize("method, arguments", [
    ("exchange.declare", {"exchange": "", "durable": True}),
    ("exchange.delete", {"exchange": ""}),
    ("queue.bind", {"exchange": "", "routing_key": "x"}),
    ("queue.unbind", {"exchange": "", "routing_key": "x"}),
    ("exchange.bind", {"source": "", "destination": "amq.direct"}),
    ("exchange.bind", {"source": "amq.direct", "destination": ""}),
    ("exchange.unbind", {"source": "", "destination": "amq.direct"}),
])
def test_the_default_exchange_cannot_be_touched(channel, name, method, arguments):
    if method.startswith("queue."):
        arguments = arguments | {"queue": channel.queue(name(), exclusive=True)}
    with channel_error(403, "ACCESS_REFUSED - operation not permitted on the default exchange", method):
        channel.call(method, **arguments)


def test_names_that_begin_with_amq_are_reserved(connection):
    with channel_error(403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'", "exchange.declare"):
        connection.channel().call("exchange.declare", exchange="amq.mine")
    for exchange in ("amq.mine", "amq.direct"):
        with channel_error(403, f"ACCESS_REFUSED - deletion of system exchange '{exchange}' in vhost '/' not allowed",
                           "exchange.delete"):
            connection.channel().call("exchange.delete", exchange=exchange)


# Declaration

@pytest.mark.parametrize("type", ["direct", "fanout", "topic", "headers"])
def test_declaring_again_alike_is_nothing_new(channel, name, type):
    made = name()
    for _ in range(2):
        channel.call("exchange.declare", exchange=made, type=type, durable=True)


@pytest.mark.parametrize("argument, changed, received, current", [
    ("type", {"type": "fanout"}, "fanout", "direct"),
    ("durable", {"durable": True}, "true", "false"),
    ("auto_delete", {"auto_delete": True}, "true", "false"),
    ("internal", {"internal": True}, "true", "false"),
])
def test_declaring_again_otherwise_is_refused_with_406(channel, exchange, argument, changed, received, current):
    made = exchange()
    with channel_error(406, f"PRECONDITION_FAILED - inequivalent arg '{argument}' for exchange '{made}' in vhost '/': "
                       f"received '{received}' but current is '{current}'", "exchange.declare"):
        channel.call("exchange.declare", exchange=made, **changed)


def test_another_alternate_exchange_is_not_equivalent(channel, exchange):
    made = exchange(arguments={"alternate-exchange": "one"})
    channel.call("exchange.declare", exchange=made, arguments={"alternate-exchange": "one"})
    with channel_error(406, f"PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange '{made}' in vhost '/': "
                       "received 'two' but current is 'one'", "exchange.declare"):
        channel.call("exchange.declare", exchange=made, arguments={"alternate-exchange": "two"})


def test_an_alternate_exchange_that_is_no_string_is_refused(channel, name):
    made = name()
    with channel_error(406, "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange "
                       f"'{made}' in vhost '/'", "exchange.declare"):
        channel.call("exchange.declare", exchange=made, arguments={"alternate-exchange": 7})


@differs("exchange.declare with an unknown type", "503 on the connection", "406 on the channel", "as 4")
def test_an_unknown_type_is_refused(channel, amqp_server, name):
    text = "unknown exchange type 'nonsense'"
    refused = amqp_server.either(three=connection_error(503, f"COMMAND_INVALID - {text}", "exchange.declare"),
                                 millrace=channel_error(406, f"PRECONDITION_FAILED - {text}", "exchange.declare"))
    with refused:
        channel.call("exchange.declare", exchange=name(), type="nonsense")


def test_a_passive_declaration_finds_or_answers_404(channel, exchange):
    channel.call("exchange.declare", exchange=exchange("topic"), type="direct", passive=True)
    with channel_error(404, "NOT_FOUND - no exchange 'missing' in vhost '/'", "exchange.declare"):
        channel.call("exchange.declare", exchange="missing", passive=True)


def test_nowait_declares_and_deletes_without_an_answer(channel, name):
    made = name()
    channel.send("exchange.declare", exchange=made, nowait=True)
    channel.call("exchange.declare", exchange=made, passive=True)
    channel.send("exchange.delete", exchange=made, nowait=True)
    assert channel.inbox == []
    with channel_error(404, f"NOT_FOUND - no exchange '{made}' in vhost '/'"):
        channel.call("exchange.declare", exchange=made, passive=True)


# Deletion

def test_deleting_what_is_not_there_is_no_error(channel, name):
    channel.call("exchange.delete", exchange=name())


def test_if_unused_keeps_an_exchange_with_bindings(channel, exchange, bound):
    made = exchange()
    bound(made, "k")
    with channel_error(406, f"PRECONDITION_FAILED - exchange '{made}' in vhost '/' in use", "exchange.delete"):
        channel.call("exchange.delete", exchange=made, if_unused=True)


def test_if_unused_deletes_an_exchange_without_bindings(channel, exchange):
    made = exchange()
    channel.call("exchange.delete", exchange=made, if_unused=True)
    with channel_error(404, f"NOT_FOUND - no exchange '{made}' in vhost '/'"):
        channel.call("exchange.declare", exchange=made, passive=True)


def test_deletion_takes_the_bindings(channel, exchange, bound):
    made = exchange()
    queue = bound(made, "k")
    channel.call("exchange.delete", exchange=made)
    channel.call("exchange.declare", exchange=made)
    route(channel, made, "k")
    assert channel.drain(queue) == []


def test_an_auto_delete_exchange_goes_with_its_last_binding(channel, exchange, bound):
    made = exchange(auto_delete=True)
    channel.call("exchange.declare", exchange=made, passive=True)
    one, two = bound(made, "k"), bound(made, "k")
    channel.call("queue.unbind", queue=one, exchange=made, routing_key="k")
    channel.call("exchange.declare", exchange=made, passive=True)
    channel.call("queue.delete", queue=two)
    with channel_error(404, f"NOT_FOUND - no exchange '{made}' in vhost '/'"):
        channel.call("exchange.declare", exchange=made, passive=True)


# Publishing to what is not there, or not for clients

def test_publishing_to_a_missing_exchange_closes_the_channel_with_404(channel):
    channel.publish("x", exchange="missing", key="k")
    with channel_error(404, "NOT_FOUND - no exchange 'missing' in vhost '/'", "basic.publish"):
        channel.fence()


def test_clients_cannot_publish_to_an_internal_exchange(channel, exchange):
    made = exchange(internal=True)
    channel.publish("x", exchange=made, key="k")
    with channel_error(403, f"ACCESS_REFUSED - cannot publish to internal exchange '{made}' in vhost '/'", "basic.publish"):
        channel.fence()


def test_an_internal_exchange_gets_what_other_exchanges_pass_on(channel, exchange, bound):
    outer, inner = exchange("fanout"), exchange("fanout", internal=True)
    channel.call("exchange.bind", source=outer, destination=inner)
    queue = bound(inner, "")
    route(channel, outer, "a")
    assert channel.drain(queue) == ["a"]


# Routing

def test_direct_routes_by_the_whole_key(channel, exchange, bound):
    made = exchange("direct")
    one, two = bound(made, "a", "b"), bound(made, "b", "")
    route(channel, made, "a", "b", "", "ab", "A")
    assert channel.drain(one) == ["a", "b"]
    assert channel.drain(two) == ["b", ""]


def test_fanout_ignores_the_key(channel, exchange, bound):
    made = exchange("fanout")
    one, two = bound(made, "x"), bound(made, "", "y")
    route(channel, made, "a", "")
    assert channel.drain(one) == channel.drain(two) == ["a", ""]


TOPICS = [
    ("*", ["a"], ["a.b", ""]),  # an empty key has no word, though "a." has two
    ("#", ["", "a", "a.b", "a..b"], []),
    ("a.*", ["a.b", "a."], ["a", "a.b.c", "b.a"]),
    ("a.#", ["a", "a.b", "a.b.c"], ["b", "ab"]),
    ("#.z", ["z", "a.z", "a.b.z"], ["z.a", "az"]),
    ("a.#.z", ["a.z", "a.b.z", "a.b.c.z", "a.z.z"], ["a", "z", "a.b"]),
    ("*.*", ["a.b", "."], ["a", "a.b.c"]),
    ("*.#", ["a", "a.b", "a.b.c"], []),
    ("#.*.#", ["a", "a.b"], []),
    ("a.b", ["a.b"], ["a", "a.b.c", "a.B"]),
    ("*.1.#", ["0.1", "0.1.x", "1.1.0.1"], ["1", "0.0.1"]),
    ("", [""], ["a"]),
    ("a.#.#", ["a", "a.b", "a.b.c"], ["b"]),
    ("a.**", ["a.**"], ["a.b"]),
]


@pytest.mark.parametrize("pattern, matching, others", TOPICS, ids=[one[0] or "empty" for one in TOPICS])
def test_topic_patterns(channel, exchange, bound, pattern, matching, others):
    made = exchange("topic")
    queue = bound(made, pattern)
    route(channel, made, *matching, *others)
    assert channel.drain(queue) == matching


def test_a_message_that_matches_twice_arrives_once(channel, exchange, bound):
    made = exchange("topic")
    queue = bound(made, "a.*", "*.b", "#")
    route(channel, made, "a.b")
    assert channel.drain(queue) == ["a.b"]


HEADERS = [
    ("all by default", {"a": 1, "b": "x"}, {"a": 1, "b": "x", "c": 0}, {"a": 1}),
    ("all", {"x-match": "all", "a": 1, "b": "x"}, {"a": 1, "b": "x"}, {"a": 1, "b": "y"}),
    ("any", {"x-match": "any", "a": 1, "b": "x"}, {"b": "x"}, {"a": 2, "b": "y"}),
    ("presence", {"x-match": "all", "a": None}, {"a": "whatever"}, {"b": 1}),
    ("x- is left out", {"x-match": "all", "x-a": 1, "b": 1}, {"b": 1}, {"x-a": 1}),
    ("all-with-x", {"x-match": "all-with-x", "x-a": 1, "b": 1}, {"x-a": 1, "b": 1}, {"b": 1}),
    ("any-with-x", {"x-match": "any-with-x", "x-a": 1}, {"x-a": 1}, {"b": 1}),
    ("strings are no numbers", {"a": "1"}, {"a": "1"}, {"a": 1}),
    ("true", {"a": True}, {"a": True}, {"a": False}),
]


@pytest.mark.parametrize("arguments, matching, other", [one[1:] for one in HEADERS], ids=[one[0] for one in HEADERS])
def test_headers_modes(channel, exchange, bound, arguments, matching, other):
    made = exchange("headers")
    queue = bound(made, ("", arguments))
    route(channel, made, "yes", headers=matching)
    route(channel, made, "no", headers=other)
    assert channel.drain(queue) == ["yes"]


def test_an_empty_all_matches_everything_and_an_empty_any_nothing(channel, exchange, bound):
    made = exchange("headers")
    everything, nothing = bound(made, ("", {"x-match": "all"})), bound(made, ("", {"x-match": "any"}))
    route(channel, made, "a")
    route(channel, made, "b", headers={"x": 1})
    assert channel.drain(everything) == ["a", "b"]
    assert channel.drain(nothing) == []


def test_a_wrong_x_match_is_refused(channel, exchange, name):
    made, queue = exchange("headers"), channel.queue(name(), exclusive=True)
    with channel_error(406, "PRECONDITION_FAILED - Invalid x-match field value <<\"some\">>; expected all, any, all-with-x, or "
                       "any-with-x", "queue.bind"):
        channel.call("queue.bind", queue=queue, exchange=made, arguments={"x-match": "some"})


# Bindings

def test_binding_twice_is_one_binding(channel, exchange, bound):
    made = exchange()
    queue = bound(made, "k", "k")
    route(channel, made, "k")
    assert channel.drain(queue) == ["k"]
    channel.call("queue.unbind", queue=queue, exchange=made, routing_key="k")
    route(channel, made, "k")
    assert channel.drain(queue) == []


def test_arguments_tell_bindings_apart(channel, exchange, bound):
    made = exchange()
    queue = bound(made, ("k", {}), ("k", {"a": 1}))
    channel.call("queue.unbind", queue=queue, exchange=made, routing_key="k")
    route(channel, made, "k")
    assert channel.drain(queue) == ["k"]


def test_binding_names_what_is_missing(connection, name):
    queue = connection.channel().queue(name(), exclusive=True)
    with channel_error(404, "NOT_FOUND - no exchange 'missing' in vhost '/'", "queue.bind"):
        connection.channel().call("queue.bind", queue=queue, exchange="missing")
    with channel_error(404, "NOT_FOUND - no queue 'missing' in vhost '/'", "queue.bind"):
        connection.channel().call("queue.bind", queue="missing", exchange="amq.direct")
    with channel_error(404, "NOT_FOUND - no exchange 'missing' in vhost '/'", "exchange.bind"):
        connection.channel().call("exchange.bind", source="missing", destination="amq.direct")
    with channel_error(404, "NOT_FOUND - no exchange 'missing' in vhost '/'", "exchange.bind"):
        connection.channel().call("exchange.bind", source="amq.direct", destination="missing")


def test_unbinding_what_is_not_bound_is_no_error(channel, name):
    queue = channel.queue(name(), exclusive=True)
    channel.call("queue.unbind", queue=queue, exchange="amq.direct", routing_key="never")
    channel.call("queue.unbind", queue="missing", exchange="amq.direct", routing_key="never")
    channel.call("queue.unbind", queue=queue, exchange="missing", routing_key="never")
    channel.call("exchange.unbind", source="missing", destination="amq.direct")


def test_an_empty_queue_name_means_the_channels_last(channel, exchange):
    made = exchange()
    queue = channel.queue(exclusive=True)
    channel.call("queue.bind", exchange=made)  # an empty key with an empty name means the queue's name too
    channel.call("queue.bind", exchange=made, routing_key="k")
    route(channel, made, queue, "k")
    assert channel.drain(queue) == [queue, "k"]


def test_an_empty_queue_name_without_a_declaration_is_refused(channel, exchange):
    made = exchange()
    with channel_error(404, "NOT_FOUND - no previously declared queue", "queue.bind"):
        channel.call("queue.bind", exchange=made)


# Exchanges bound to exchanges

def test_exchanges_pass_messages_on_by_key(channel, exchange, bound):
    first, second = exchange("topic"), exchange("topic")
    channel.call("exchange.bind", source=first, destination=second, routing_key="a.#")
    queue = bound(second, "*.b")
    route(channel, first, "a.b", "b.b", "a.c")
    message = channel.get(queue)
    assert (message.body, message.exchange) == (b"a.b", first)
    assert channel.get(queue) is None
    channel.call("exchange.unbind", source=first, destination=second, routing_key="a.#")
    route(channel, first, "a.b")
    assert channel.get(queue) is None


def test_a_circle_of_exchanges_delivers_once(channel, exchange, bound):
    one, two = exchange("fanout"), exchange("fanout")
    channel.call("exchange.bind", source=one, destination=two)
    channel.call("exchange.bind", source=two, destination=one)
    channel.call("exchange.bind", source=one, destination=one)
    queue = bound(one, "")
    channel.call("queue.bind", queue=queue, exchange=two)
    route(channel, one, "a")
    assert channel.drain(queue) == ["a"]


# Alternate exchanges

def test_what_is_not_routed_goes_to_the_alternate(channel, exchange, bound):
    last = exchange("fanout")
    middle = exchange("direct", arguments={"alternate-exchange": last})
    first = exchange("direct", arguments={"alternate-exchange": middle})
    one, two, three = bound(first, "1"), bound(middle, "2"), bound(last, "")
    route(channel, first, "1", "2", "3")
    assert [channel.drain(one), channel.drain(two), channel.drain(three)] == [["1"], ["2"], ["3"]]


def test_the_alternate_counts_as_routed_for_mandatory(channel, exchange, bound):
    last = exchange("fanout")
    first = exchange("direct", arguments={"alternate-exchange": last})
    channel.confirms()
    channel.publish("dropped there too", exchange=first, key="k", mandatory=True)
    assert channel.settle(1) == ["ack"]
    returned = channel.wait("basic.return")
    assert (returned.reply_code, returned.reply_text, returned.exchange) == (312, "NO_ROUTE", first)
    queue = bound(last, "")
    channel.publish("kept", exchange=first, key="k", mandatory=True)
    assert channel.settle(2) == ["ack"]
    assert channel.find("basic.return") is None
    assert channel.drain(queue) == ["kept"]


def test_an_alternate_that_does_not_exist_or_circles_drops(channel, name):
    one, two = name("one"), name("two")
    channel.call("exchange.declare", exchange=one, arguments={"alternate-exchange": two})
    route(channel, one, "a")
    channel.call("exchange.declare", exchange=two, arguments={"alternate-exchange": one})
    route(channel, one, "b")


# Other types

def test_a_consistent_hash_spreads_by_key_and_keeps_to_it(channel, amqp_server, exchange, bound):
    if not amqp_server.has_consistent_hash:
        pytest.skip(f"{amqp_server.name} has no x-consistent-hash")
    made = exchange("x-consistent-hash")
    queues = [bound(made, weight) for weight in ("1", "1", "2")]
    keys = [str(n) for n in range(300)]
    route(channel, made, *keys)
    first = [channel.drain(one) for one in queues]
    assert sorted(sum(first, []), key=int) == keys
    assert all(first)
    route(channel, made, *keys)
    assert [channel.drain(one) for one in queues] == first


def test_a_consistent_hash_may_go_by_a_header(channel, exchange, bound):
    made = exchange("x-consistent-hash", arguments={"hash-header": "customer"})
    queues = [bound(made, "1"), bound(made, "1")]
    for n in range(20):
        route(channel, made, f"key {n}", headers={"customer": "the same"})
    assert sorted(len(channel.drain(one)) for one in queues) == [0, 20]


def test_a_consistent_hashs_weight_must_be_a_number(channel, exchange, name):
    made, queue = exchange("x-consistent-hash"), channel.queue(name(), exclusive=True)
    with channel_error(406, "PRECONDITION_FAILED - The binding key must be an integer: <<\"heavy\">>", "queue.bind"):
        channel.call("queue.bind", queue=queue, exchange=made, routing_key="heavy")


@differs("x-delayed-message exchanges", "a plugin", "a plugin, archived in 2026", "built in")
def test_a_delayed_message_arrives_after_its_delay(channel, amqp_server, name):
    made, queue = name("delayed"), channel.queue(name(), exclusive=True)
    declare = {"exchange": made, "type": "x-delayed-message", "arguments": {"x-delayed-type": "direct"}}
    if not amqp_server.has_delayed_message:
        with connection_error(503, "COMMAND_INVALID - unknown exchange type 'x-delayed-message'"):
            channel.call("exchange.declare", **declare)
        return
    channel.call("exchange.declare", **declare)
    channel.call("queue.bind", queue=queue, exchange=made, routing_key="k")
    channel.confirms()
    for body, delay in (("last", 900), ("middle", 400), ("first", 0)):
        channel.publish(body, exchange=made, key="k", headers={"x-delay": delay})
    assert channel.settle(3) == ["ack"] * 3
    channel.consume(queue, no_ack=True)
    assert [one.body for one in channel.deliveries(3)] == [b"first", b"middle", b"last"]
