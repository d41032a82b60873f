"""amqp-tools, Debian's command line on librabbitmq-c: declare, publish, get, consume, delete."""

import shutil
import subprocess

import pytest


@pytest.fixture
def tool(amqp_server):
    if shutil.which("amqp-publish") is None:
        pytest.fail("amqp-tools is not installed; `Scripts/setup test` does that")

    def run(command, *arguments, stdin="", expect=0):
        done = subprocess.run([f"amqp-{command}", "--url", amqp_server.uri, *arguments], input=stdin, capture_output=True,
                              text=True, timeout=30)
        assert done.returncode == expect, f"amqp-{command} ended with {done.returncode}: {done.stderr}"
        return done

    return run


def test_a_queues_life(tool, name):
    queue = name()
    assert tool("declare-queue", "--queue", queue, "--durable").stdout.strip() == queue
    for body in ("first", "second"):
        tool("publish", "--routing-key", queue, "--persistent", "--body", body)
    assert tool("get", "--queue", queue).stdout == "first"
    assert tool("delete-queue", "--queue", queue).stdout.strip() == "1"


def test_get_on_an_empty_queue_ends_with_2(tool, name):
    queue = name()
    tool("declare-queue", "--queue", queue)
    assert tool("get", "--queue", queue, expect=2).stdout == ""
    tool("delete-queue", "--queue", queue)


def test_consume_hands_messages_to_a_command(tool, name):
    queue = name()
    tool("declare-queue", "--queue", queue)
    tool("publish", "--routing-key", queue, "--line-buffered", stdin="one\ntwo\nthree\n")
    assert tool("consume", "--queue", queue, "--count", "3", "--prefetch-count", "1", "cat").stdout == "one\ntwo\nthree\n"
    tool("delete-queue", "--queue", queue, "--if-empty")


def test_a_large_body_and_headers(tool, connect, name):
    queue = name()
    tool("declare-queue", "--queue", queue)
    body = "0123456789" * 50_000
    tool("publish", "--routing-key", queue, "--content-type", "text/plain", "--header", "colour: green", stdin=body)
    message = connect().channel().get_soon(queue)
    assert (message.body.decode(), message.properties["content_type"]) == (body, "text/plain")
    assert message.headers == {"colour": "green"}


def test_errors_end_with_1_and_name_the_reason(tool):
    assert "NOT_FOUND - no queue 'missing' in vhost '/'" in tool("get", "--queue", "missing", expect=1).stderr
    assert "NOT_FOUND" in tool("consume", "--queue", "missing", "cat", expect=1).stderr
