"""The commands for queues, exchanges and bindings, with pika beside them as another client of the same queues."""

import decimal
import json
import re
import signal
import socket
import subprocess
import threading
import time

import pika
import pytest
from millrace_tests.server import BINARY, environment, run


@pytest.fixture(scope="module")
def amqp_server(tmp_path_factory):
    """A server that speaks AMQP beside Kafka's protocol."""
    from millrace_tests.server import Server

    one = Server(tmp_path_factory.mktemp("queues"), amqp=True).start()
    yield one
    one.stop()
    one.close()


@pytest.fixture
def cli(amqp_server):
    def call(*arguments, stdin=None, expect=0):
        done = run(*arguments, "--bootstrap", amqp_server.bootstrap, stdin=stdin)
        assert done.returncode == expect, f"{arguments} ended with {done.returncode}: {done.stdout}{done.stderr}"
        return done

    call.bootstrap = amqp_server.bootstrap
    return call


@pytest.fixture
def channel(amqp_server):
    connection = pika.BlockingConnection(pika.ConnectionParameters(amqp_server.amqp_host, amqp_server.amqp_port))
    yield connection.channel()
    if connection.is_open:
        connection.close()


@pytest.fixture
def queue(topic, cli):
    """The name of a durable queue of this test alone."""
    cli("queue", "declare", topic)
    return topic


def listed(cli, queue):
    return next(one for one in json.loads(cli("queue", "list", "--json").stdout) if one["name"] == queue)


def lines(cli, *arguments):
    return [json.loads(line) for line in cli(*arguments, "--json").stdout.splitlines()]


# Declaring, listing, deleting


def test_a_queues_life(cli, topic, channel):
    done = cli("queue", "declare", topic, "--type", "quorum", "--argument", "x-max-length=5", "--argument",
               "x-single-active-consumer=true", "--argument", 'x-dead-letter-routing-key="7"', "--argument",
               "x-dead-letter-exchange=amq.direct")
    assert topic in done.stdout
    one = listed(cli, topic)
    assert one["type"] == "quorum" and one["durable"] and not one["autoDelete"] and one["length"] == 0
    assert one["arguments"] == {"x-queue-type": "quorum", "x-max-length": 5, "x-single-active-consumer": True,
                                "x-dead-letter-routing-key": "7", "x-dead-letter-exchange": "amq.direct"}
    # pika finds the same queue under the same arguments, and refuses others.
    assert channel.queue_declare(topic, durable=True, arguments=one["arguments"]).method.message_count == 0
    assert re.search(rf"^{re.escape(topic)} +quorum +durable +0 ", cli("queue", "list").stdout, re.MULTILINE)
    error = cli("queue", "declare", topic, expect=1).stderr
    assert "PRECONDITION_FAILED - inequivalent arg" in error
    cli("queue", "delete", topic)
    assert topic not in cli("queue", "list").stdout
    assert f"NOT_FOUND - no queue '{topic}' in vhost '/'" in cli("queue", "delete", topic, expect=1).stderr


def test_transient_and_auto_delete(cli, topic):
    cli("queue", "declare", topic, "--transient", "--auto-delete")
    one = listed(cli, topic)
    assert not one["durable"] and one["autoDelete"]
    cli("queue", "delete", topic, "--if-unused", "--if-empty")


def test_delete_asks_whether_it_is_in_use_or_has_messages(cli, queue, channel):
    cli("queue", "publish", queue, "one")
    assert "not empty" in cli("queue", "delete", queue, "--if-empty", expect=1).stderr
    channel.basic_consume(queue, lambda *_: None)
    assert "in use" in cli("queue", "delete", queue, "--if-unused", expect=1).stderr
    one = listed(cli, queue)
    assert one["consumers"] == 1 and one["unacknowledged"] == 1


def test_an_exclusive_queue_is_listed_and_locked(cli, topic, channel):
    channel.queue_declare(topic, exclusive=True)
    assert listed(cli, topic)["exclusive"]
    for command in (["get"], ["purge"], ["delete"]):
        assert "RESOURCE_LOCKED" in cli("queue", command[0], topic, expect=1).stderr


def test_more_queues_than_a_page_holds(cli, channel):
    names = [f"page-{number:04}" for number in range(1100)]
    for name in names:
        channel.queue_declare(name)
    found = [one["name"] for one in json.loads(cli("queue", "list", "--json").stdout)]
    assert [name for name in found if name.startswith("page-")] == names
    for name in names:
        channel.queue_delete(name)


# Publishing


def test_pika_reads_what_the_command_publishes(cli, queue, channel):
    cli("queue", "publish", queue, "Grüße", "--header", "n=5", "--header", "big=5000000000", "--header", 's="5"',
        "--header", "b=true", "--header", "f=2.0", "--header", "t=x=y", "--header", "id=007", "--priority", "3",
        "--expiration", "60.5", "--message-id", "m-1", "--content-type", "text/plain", "--correlation-id", "c-1",
        "--reply-to", "answers", "--message-type", "greeting", "--app-id", "shell")
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    assert body.decode() == "Grüße" and method.routing_key == queue and method.exchange == ""
    # pika makes a whole number of every fraction.
    assert properties.headers == {"n": 5, "big": 5_000_000_000, "s": "5", "b": True, "f": 2, "t": "x=y", "id": "007"}
    assert (properties.delivery_mode, properties.priority, properties.expiration) == (2, 3, "60500")
    assert (properties.message_id, properties.content_type, properties.correlation_id) == ("m-1", "text/plain", "c-1")
    assert (properties.reply_to, properties.type, properties.app_id) == ("answers", "greeting", "shell")
    cli("queue", "publish", queue, "", "--transient")
    _, properties, body = channel.basic_get(queue, auto_ack=True)
    assert body == b"" and properties.delivery_mode == 1 and properties.headers is None


def test_the_command_reads_what_pika_publishes(cli, queue, channel):
    channel.confirm_delivery()
    headers = {"n": -5, "s": "text", "b": False, "f": decimal.Decimal("1.5"), "none": None, "list": [1, "two"], "table": {"deep": {"x": 1}},
               "raw": b"\xff\xfe"}
    channel.basic_publish("", queue, b"\x00\xff", pika.BasicProperties(
        headers=headers, content_type="application/octet-stream", delivery_mode=2, priority=9, correlation_id="c",
        reply_to="r", expiration="70000", message_id="m", timestamp=1_700_000_000, type="t", app_id="a"))
    (one,) = lines(cli, "queue", "get", queue)
    properties = one["properties"]
    assert one["body_base64"] == "AP8=" and "body" not in one and one["routingKey"] == queue and one["exchange"] == ""
    assert properties["headers"] == {**headers, "f": 1.5, "raw": {"base64": "//4="}}
    assert (properties["contentType"], properties["deliveryMode"], properties["priority"]) == ("application/octet-stream", 2, 9)
    assert (properties["correlationId"], properties["replyTo"], properties["expiration"]) == ("c", "r", "70000")
    assert (properties["messageId"], properties["timestamp"], properties["type"], properties["appId"]) == (
        "m", 1_700_000_000, "t", "a")


def test_lines_and_files(cli, queue, tmp_path):
    done = cli("queue", "publish", queue, stdin="first\n\nthird")
    assert "published 3 messages" in done.stdout
    assert cli("queue", "get", queue, "--count", "9").stdout == "first\n\nthird\n"
    body = bytes(range(256)) * 4000
    (tmp_path / "body").write_bytes(body)
    cli("queue", "publish", queue, "--file", str(tmp_path / "body"))
    got = subprocess.run([str(BINARY), "queue", "get", queue, "--raw", "--bootstrap", cli.bootstrap],
                         capture_output=True, timeout=60, env=environment(), check=True)
    assert got.stdout == body
    cli("queue", "publish", queue, "--file", "-", stdin="two\nlines\n")
    assert cli("queue", "get", queue, "--raw").stdout == "two\nlines\n"
    assert "absent" in cli("queue", "publish", queue, "--file", str(tmp_path / "absent"), expect=1).stderr


def test_ten_thousand_lines_in_order(cli, queue):
    text = "".join(f"line {number}\n" for number in range(10_000))
    assert "published 10,000 messages" in cli("queue", "publish", queue, stdin=text).stdout
    assert cli("queue", "get", queue, "--count", "20000").stdout == text
    assert listed(cli, queue)["length"] == 0


def test_what_no_queue_takes_is_reported(cli, topic):
    assert "1 message went to no queue" in cli("queue", "publish", topic, "lost", expect=1).stderr
    assert "2 messages went to no queue" in cli("queue", "publish", topic, stdin="a\nb\n", expect=1).stderr
    assert "NOT_FOUND - no exchange 'none'" in cli("queue", "publish", "--exchange", "none", "x", expect=1).stderr
    cli("queue", "declare", topic, "--argument", "x-max-length=2", "--argument", "x-overflow=reject-publish")
    done = cli("queue", "publish", topic, stdin="a\nb\nc\n", expect=1)
    assert "published 2 messages" in done.stdout and "1 message refused" in done.stderr


def test_a_message_that_is_too_large_is_named(cli, queue, tmp_path):
    (tmp_path / "large").write_bytes(b"x" * ((16 << 20) + 1))
    error = cli("queue", "publish", queue, "--file", str(tmp_path / "large"), expect=1).stderr
    assert "amqp.max.message.size" in error and "16777217" in error


# Getting


def test_browsing_leaves_messages_where_they_are(cli, queue):
    cli("queue", "publish", queue, stdin="a\nb\nc\n")
    for option in ("--browse", "--peek"):
        assert cli("queue", "get", queue, option, "--count", "2").stdout == "a\nb\n"
    one = lines(cli, "queue", "get", queue, "--browse")[0]
    assert (one["position"], one["redelivered"], one["failures"]) == ("0:0", False, 0)
    assert cli("queue", "get", queue).stdout == "a\n"
    assert cli("queue", "get", queue, "--count", "5").stdout == "b\nc\n"
    assert queue in cli("queue", "get", queue, expect=1).stderr
    assert cli("queue", "get", queue, "--browse").stdout == ""


def test_a_get_that_dies_before_it_has_written_loses_nothing(cli, queue, amqp_server):
    cli("queue", "publish", queue, stdin="".join(f"{number:06} {'x' * 500}\n" for number in range(400)))
    # Nobody reads the pipe, which holds less than what was taken.
    process = subprocess.Popen([str(BINARY), "queue", "get", queue, "--count", "400", "--bootstrap", amqp_server.bootstrap],
                               stdout=subprocess.PIPE, env=environment())
    try:
        deadline = time.monotonic() + 30
        while listed(cli, queue)["unacknowledged"] != 400:
            assert time.monotonic() < deadline
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        while listed(cli, queue)["unacknowledged"] != 0:
            assert time.monotonic() < deadline
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    got = lines(cli, "queue", "get", queue, "--count", "400")
    assert [one["body"][:6] for one in got] == [f"{number:06}" for number in range(400)]
    assert all(one["redelivered"] and one["failures"] == 1 for one in got)


def test_a_closed_pipe_gives_messages_back(cli, queue, amqp_server):
    cli("queue", "publish", queue, stdin="x\n" * 60_000)
    done = subprocess.run(
        f"'{BINARY}' queue get '{queue}' --count 60000 --bootstrap {amqp_server.bootstrap} | head -1",
        shell=True, capture_output=True, text=True, timeout=60, env=environment())
    assert done.stdout == "x\n" and done.stderr == ""
    one = listed(cli, queue)
    assert one["length"] > 0 and one["unacknowledged"] == 0
    assert not lines(cli, "queue", "get", queue, "--browse")[0]["failures"]


def test_a_full_disk_gives_messages_back(cli, queue, amqp_server):
    cli("queue", "publish", queue, stdin="a\nb\n")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(BINARY), "queue", "get", queue, "--bootstrap", amqp_server.bootstrap], stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=30, env=environment())
    assert done.returncode == 1 and "standard output" in done.stderr
    assert cli("queue", "get", queue, "--count", "2").stdout == "a\nb\n"


def test_delayed_messages_are_listed_and_cancelled(cli, queue, channel):
    before = time.time()
    cli("queue", "publish", queue, "later", "--delay", "3600")
    cli("queue", "publish", queue, "tomorrow", "--delay", "86400")
    cli("queue", "publish", queue, "now")
    assert (listed(cli, queue)["length"], listed(cli, queue)["delayed"]) == (3, 2)
    waiting = lines(cli, "queue", "list-delayed", queue)
    assert [one["body"] for one in waiting] == ["later", "tomorrow"]
    assert before + 3599 < waiting[0]["due"] / 1000 < time.time() + 3601
    shown = cli("queue", "list-delayed", queue).stdout
    due = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(waiting[0]["due"] // 1000))
    assert re.search(rf"^0:0 +{due}\.\d{{3}}Z +5 B +\S+ +later$", shown, re.MULTILINE), shown
    assert len(lines(cli, "queue", "list-delayed", queue, "--count", "1")) == 1
    cli("queue", "cancel", queue, waiting[0]["position"])
    assert "0:0" in cli("queue", "cancel", queue, "0:0", expect=1).stderr
    assert [one["body"] for one in lines(cli, "queue", "list-delayed", queue)] == ["tomorrow"]
    assert channel.basic_get(queue, auto_ack=True)[2] == b"now"
    assert channel.basic_get(queue)[0] is None, "what is delayed is not delivered"
    assert queue in cli("queue", "get", queue, expect=1).stderr


def test_a_short_delay_ends(cli, queue):
    cli("queue", "publish", queue, "soon", "--delay", "0.3")
    deadline = time.monotonic() + 20
    while listed(cli, queue)["delayed"]:
        assert time.monotonic() < deadline
    while (done := run("queue", "get", queue, "--bootstrap", cli.bootstrap)).returncode == 1:
        assert time.monotonic() < deadline
    assert done.stdout == "soon\n"


# Moving


def test_messages_are_moved_with_their_properties(cli, queue, topic, channel):
    other = f"{topic}.other"
    cli("queue", "declare", other)
    cli("queue", "publish", queue, stdin="a\nb\nc\n")
    cli("queue", "publish", queue, "d", "--header", "n=1", "--message-id", "m")
    assert "moved 1 message " in cli("queue", "move", queue, other, "--count", "1").stdout
    assert "moved 3 messages" in cli("queue", "move", queue, other).stdout
    assert cli("queue", "get", other, "--count", "3").stdout == "a\nb\nc\n"
    _, properties, body = channel.basic_get(other, auto_ack=True)
    assert body == b"d" and properties.headers == {"n": 1} and properties.message_id == "m"
    assert "itself" in cli("queue", "move", queue, queue, expect=1).stderr
    assert "never.made" in cli("queue", "move", queue, "never.made", expect=1).stderr
    assert "never.made" in cli("queue", "move", "never.made", queue, expect=1).stderr


def test_dead_letters_go_back_where_they_came_from(cli, topic, channel):
    work, dead = topic, f"{topic}.dead"
    cli("queue", "declare", dead)
    cli("queue", "declare", work, "--argument", "x-dead-letter-exchange=", "--argument", f"x-dead-letter-routing-key={dead}")
    cli("queue", "publish", work, "fails", "--header", "own=1")
    cli("queue", "publish", dead, "no letter")
    method, _, _ = channel.basic_get(work)
    channel.basic_reject(method.delivery_tag, requeue=False)
    deadline = time.monotonic() + 20
    while listed(cli, dead)["length"] != 2:
        assert time.monotonic() < deadline
    assert "moved 1 dead letter " in cli("queue", "redrive", dead).stdout
    _, properties, body = channel.basic_get(work, auto_ack=True)
    assert body == b"fails" and properties.headers == {"own": 1}
    assert cli("queue", "get", dead, "--count", "5").stdout == "no letter\n"


def test_purge(cli, queue):
    cli("queue", "publish", queue, stdin="a\nb\n")
    cli("queue", "publish", queue, "c", "--delay", "3600")
    assert "removed 3 messages" in cli("queue", "purge", queue).stdout
    assert listed(cli, queue)["length"] == 0


# Exchanges and bindings


def test_exchanges_and_bindings(cli, queue, topic, channel):
    name, inner = f"{topic}.e", f"{topic}.inner"
    cli("exchange", "declare", name, "--type", "topic", "--argument", "alternate-exchange=amq.fanout")
    cli("exchange", "declare", inner, "--type", "headers", "--transient", "--internal", "--auto-delete")
    channel.exchange_declare(name, "topic", durable=True, arguments={"alternate-exchange": "amq.fanout"})
    every = {one["name"]: one for one in json.loads(cli("exchange", "list", "--json").stdout)}
    assert every[name] == {"name": name, "type": "topic", "durable": True, "autoDelete": False, "internal": False,
                           "arguments": {"alternate-exchange": "amq.fanout"}}
    assert every[inner]["internal"] and every[inner]["autoDelete"] and not every[inner]["durable"] and "" in every
    assert "(default)" in cli("exchange", "list").stdout
    cli("bind", name, queue, "--key", "a.#")
    cli("bind", name, inner, "--to", "exchange", "--key", "b")
    cli("bind", inner, queue, "--argument", "x-match=all", "--argument", "n=5")
    bindings = [one for one in json.loads(cli("bind", "--list", "--json").stdout) if one["source"] in (name, inner)]
    assert bindings == [
        {"source": name, "destination": queue, "kind": "queue", "key": "a.#", "arguments": {}},
        {"source": name, "destination": inner, "kind": "exchange", "key": "b", "arguments": {}},
        {"source": inner, "destination": queue, "kind": "queue", "key": "", "arguments": {"n": 5, "x-match": "all"}}]
    assert json.loads(cli("bind", name, "--list", "--json").stdout) == bindings[:2]
    assert re.search(rf"^{re.escape(name)} +queue +{re.escape(queue)} +a\.# +-$", cli("bind", "--list").stdout, re.MULTILINE)
    cli("queue", "publish", "--exchange", name, "--key", "a.b", "by topic")
    cli("queue", "publish", "--exchange", name, "--key", "b", "by header", "--header", "n=5")
    assert "no queue" in cli("queue", "publish", "--exchange", name, "--key", "b", "no header", expect=1).stderr
    assert [(one["body"], one["exchange"], one["routingKey"]) for one in lines(cli, "queue", "get", queue, "--count", "5")] == [
        ("by topic", name, "a.b"), ("by header", name, "b")]
    assert "in use" in cli("exchange", "delete", name, "--if-unused", expect=1).stderr
    cli("unbind", name, queue, "--key", "a.#")
    cli("unbind", name, queue, "--key", "a.#")
    assert "no queue" in cli("queue", "publish", "--exchange", name, "--key", "a.b", "x", expect=1).stderr
    cli("exchange", "delete", name)
    assert f"no exchange '{name}'" in cli("exchange", "delete", name, expect=1).stderr
    assert "no queue 'never.made'" in cli("bind", "amq.topic", "never.made", expect=1).stderr
    assert "ACCESS_REFUSED" in cli("exchange", "declare", "amq.mine", expect=1).stderr
    assert "unknown exchange type 'none'" in cli("exchange", "declare", name, "--type", "none", expect=1).stderr


# Wrong input


@pytest.mark.parametrize(("arguments", "word"), [
    (["queue"], "COMMAND|command"), (["queue", "declare"], "QUEUE"), (["queue", "declare", ""], "empty"),
    (["queue", "declare", "q", "--durable", "--transient"], "contradict"),
    (["queue", "declare", "q", "--type", "odd"], "classic or quorum"), (["queue", "declare", "q", "--argument", "x"], "NAME=VALUE"),
    (["queue", "declare", "q", "--argument", "a=1", "--argument", "a=2"], "twice"),
    (["queue", "declare", "q", "--type", "classic", "--argument", "x-queue-type=quorum"], "same"),
    (["queue", "declare", "q", "--argument", "x" * 300 + "=1"], "255"), (["queue", "delete"], "QUEUE"),
    (["queue", "get", "q", "--count", "0"], "count"), (["queue", "get", "q", "--raw", "--json"], "contradict"),
    (["queue", "publish"], "QUEUE"), (["queue", "publish", "q", "--key", "k", "x"], "--exchange"),
    (["queue", "publish", "q", "x", "y"], "unexpected"), (["queue", "publish", "--exchange", "e", "x", "y"], "unexpected"),
    (["queue", "publish", "q", "x", "--file", "f"], "contradict"), (["queue", "publish", "q", "x", "--priority", "256"], "255"),
    (["queue", "publish", "q", "x", "--delay", "-1"], "seconds"), (["queue", "publish", "q", "x", "--expiration", "nan"], "seconds"),
    (["queue", "publish", "q", "x", "--message-id", "m" * 256], "255"), (["queue", "publish", "q" * 256, "x"], "255"),
    (["queue", "publish", "q", "x", "--header", "=1"], "NAME=VALUE"), (["queue", "cancel", "q"], "POSITION"),
    (["queue", "cancel", "q", "5"], "LANE:OFFSET"), (["queue", "cancel", "q", "256:1"], "LANE:OFFSET"),
    (["queue", "cancel", "q", "0:-1"], "LANE:OFFSET"), (["queue", "move", "q"], "TO"), (["bind"], "EXCHANGE"),
    (["bind", "e"], "DESTINATION"), (["bind", "e", "q", "--to", "topic"], "queue or exchange"), (["bind", "e", "q", "r"], "unexpected"),
    (["bind", "--list", "e", "q"], "unexpected"), (["bind", "--list", "--key", "k"], "--list"), (["bind", "e", "q", "--json"], "--list"),
    (["unbind", "e"], "DESTINATION"), (["exchange", "declare"], "NAME"), (["top", "--sort", "odd"], "length or unacked"),
    (["top", "--interval", "0"], "seconds"), (["top", "now"], "unexpected"),
], ids=lambda one: " ".join(one)[:60] if isinstance(one, list) else "")
def test_wrong_usage_is_named(arguments, word):
    done = run(*arguments, "--bootstrap", "127.0.0.1:1", stdin="") if len(arguments) > 1 else run(*arguments)
    assert done.returncode == 64 and re.search(word, done.stderr), f"{done.returncode}: {done.stderr}"


def test_errors_of_the_server_are_passed_on(cli, topic):
    for command in (["get"], ["purge"], ["list-delayed"], ["get", "--browse"], ["redrive"], ["cancel"]):
        rest = ["0:0"] if command == ["cancel"] else command[1:]
        error = cli("queue", command[0], topic, *rest, expect=1).stderr
        assert f"NOT_FOUND - no queue '{topic}' in vhost '/'" in error, (command, error)
    for command in (["queue", "list"], ["exchange", "list"], ["bind", "--list"], ["queue", "declare", topic],
                    ["queue", "publish", topic, "x"], ["queue", "get", topic]):
        assert "NOT_ALLOWED - vhost 'none' not found" in cli(*command, "--vhost", "none", expect=1).stderr
    assert "reserved" in cli("queue", "declare", "amq.mine", expect=1).stderr
    assert "exceeds 255" in cli("queue", "declare", "q" * 300, expect=1).stderr
    assert "line breaks" in cli("queue", "declare", "two\nlines", expect=1).stderr
    assert "x-max-length" in cli("queue", "declare", topic, "--argument", "x-max-length=many", expect=1).stderr


def test_a_topic_is_no_queue_to_take_from(cli, topic):
    cli("queue", "declare", topic, "--type", "stream")
    cli("queue", "publish", topic, "as a record")
    assert cli("consume", topic, "--from", "earliest", "--max", "1").stdout == "as a record\n"
    assert "stream" in cli("queue", "get", topic, expect=1).stderr
    assert topic not in cli("queue", "list").stdout


@pytest.mark.parametrize("command", [["queue", "list"], ["queue", "get", "q"], ["queue", "publish", "q", "x"], ["exchange", "list"],
                                     ["bind", "--list"], ["top", "--once"]], ids=" ".join)
def test_no_server_at_the_address(command):
    done = run(*command, "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr


def test_control_characters_in_names_do_nothing_to_a_terminal(cli, topic, channel):
    channel.queue_declare(f"{topic}\x1b[2J", exclusive=True)
    channel.basic_publish("", f"{topic}\x1b[2J", b"\x1b[31m")
    shown = cli("queue", "list").stdout + cli("top", "--once").stdout
    assert "\x1b" not in shown and f"{topic}\\u{{1b}}[2J" in shown


def test_durable_messages_survive_a_kill(make_server, topic):
    server = make_server(amqp=True).start()
    address = ["--bootstrap", server.bootstrap]
    assert run("queue", "declare", topic, *address).returncode == 0
    assert run("queue", "publish", topic, *address, stdin="a\nb\nc\n").returncode == 0
    assert run("queue", "publish", topic, "late", "--delay", "3600", *address).returncode == 0
    assert run("queue", "get", topic, *address).stdout == "a\n"
    server.kill()
    server.start()
    assert run("queue", "get", topic, "--count", "9", *address).stdout == "b\nc\n", "what was acknowledged does not come back"
    assert run("queue", "cancel", topic, "0:3", *address).returncode == 0
    assert json.loads(run("queue", "list", "--json", *address).stdout)[0]["length"] == 0


class FakeServer:
    """Answers ApiVersions as any server of Kafka's protocol does, then hands the connection over."""

    def __init__(self, then):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.bootstrap = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.then = then
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        connection, _ = self.listener.accept()
        with connection:
            size = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
            correlation = connection.recv(size, socket.MSG_WAITALL)[4:8]
            # No error; ApiVersions itself in versions 0 to 3; not throttled.
            body = correlation + b"\0\0" + b"\x02" + b"\0\x12\0\0\0\x03\0" + b"\0\0\0\0" + b"\0"
            connection.sendall(len(body).to_bytes(4, "big") + body)
            self.then(connection)

    def close(self):
        self.thread.join(20)
        self.listener.close()
        assert not self.thread.is_alive()


def test_other_servers_do_not_have_this():
    """A server that closes the connection at the unknown key, as Kafka does."""
    fake = FakeServer(lambda connection: connection.recv(4096))
    done = run("queue", "list", "--bootstrap", fake.bootstrap)
    fake.close()
    assert done.returncode == 1 and "only a Millrace server has queues" in done.stderr, done.stderr


@pytest.mark.parametrize("command", [["publish", "q", "x"], ["get", "q"], ["list-delayed", "q"]], ids=lambda one: one[0])
def test_ctrl_c_ends_what_waits_for_an_answer(command):
    asked = threading.Event()

    def say_nothing(connection):
        connection.recv(4096)
        asked.set()
        connection.recv(4096)  # until the command is gone

    fake = FakeServer(say_nothing)
    process = subprocess.Popen([str(BINARY), "queue", *command, "--bootstrap", fake.bootstrap], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, env=environment())
    assert asked.wait(20)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    fake.close()
    assert process.returncode == 1 and "interrupted" in errors, errors
