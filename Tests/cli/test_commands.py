"""The commands that talk to a running server, and `inspect`, which reads a stopped one's data."""

import json
import os
import pty
import re
import signal
import subprocess
import time

import pytest
from millrace_tests.server import BINARY, environment, run


@pytest.fixture
def cli(server):
    """Runs a command against the shared server and holds its exit code against the expected one."""

    def call(*arguments, stdin=None, expect=0):
        done = run(*arguments, "--bootstrap", server.bootstrap, stdin=stdin)
        assert done.returncode == expect, f"{arguments} ended with {done.returncode}: {done.stderr}"
        return done

    return call


def test_a_topics_life(cli, topic):
    cli("topic", "create", topic, "--partitions", "3")
    assert topic in cli("topic", "list").stdout.split()
    described = cli("topic", "describe", topic).stdout
    assert topic in described and re.search(r"\b3\b", described)
    cli("topic", "delete", topic)
    assert topic not in cli("topic", "list").stdout.split()


def test_a_topics_settings(cli, topic):
    cli("topic", "create", topic, "--config", "retention.ms=3600000")
    assert re.search(r"retention\.ms\W+3600000", cli("topic", "describe", topic).stdout)


def test_errors_name_the_topic_and_end_with_1(cli, topic):
    cli("topic", "create", topic)
    assert topic in cli("topic", "create", topic, expect=1).stderr
    for command in (["topic", "describe"], ["topic", "delete"], ["consume"]):
        assert "never.made" in cli(*command, "never.made", expect=1).stderr


def test_lines_go_in_and_come_out(cli, topic):
    cli("topic", "create", topic)
    cli("produce", topic, stdin="first\nsecond\nMühle\n")
    got = cli("consume", topic, "--from", "earliest", "--max", "3").stdout
    assert got == "first\nsecond\nMühle\n"


def test_consume_from_an_offset(cli, topic):
    cli("topic", "create", topic)
    cli("produce", topic, stdin="".join(f"line {n}\n" for n in range(10)))
    assert cli("consume", topic, "--from", "7", "--max", "2").stdout == "line 7\nline 8\n"


def test_json_holds_the_whole_record(cli, topic):
    cli("topic", "create", topic)
    cli("produce", topic, stdin='with "quotes" and \\ and \x01\n')
    one = json.loads(cli("consume", topic, "--from", "earliest", "--max", "1", "--json").stdout)
    assert one["value"] == 'with "quotes" and \\ and \x01'
    assert (one["topic"], one["partition"], one["offset"], one["key"]) == (topic, 0, 0, None)


def test_a_group_goes_on_where_it_left(cli, topic):
    cli("topic", "create", topic)
    cli("produce", topic, stdin="one\ntwo\nthree\n")
    consume = ["consume", topic, "--group", topic, "--from", "earliest", "--max"]
    assert cli(*consume, "2").stdout == "one\ntwo\n"
    assert cli(*consume, "1").stdout == "three\n"


def test_ten_thousand_lines(cli, topic):
    cli("topic", "create", topic)
    lines = "".join(f"line {n}\n" for n in range(10_000))
    cli("produce", topic, stdin=lines)
    assert cli("consume", topic, "--from", "earliest", "--max", "10000").stdout == lines


def test_consume_waits_for_what_comes_and_ends_on_ctrl_c(server, cli, topic):
    cli("topic", "create", topic)
    process = subprocess.Popen([str(BINARY), "consume", topic, "--from", "earliest", "--bootstrap", server.bootstrap],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    try:
        cli("produce", topic, stdin="late\n")
        assert process.stdout.readline() == "late\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_a_closed_pipe_ends_consume_quietly(server, cli, topic):
    cli("topic", "create", topic)
    cli("produce", topic, stdin="x\n" * 200_000)  # more than a pipe holds
    done = subprocess.run(f"'{BINARY}' consume {topic} --from earliest --bootstrap {server.bootstrap} | head -1",
                          shell=True, capture_output=True, text=True, timeout=30, env=environment())
    assert done.stdout == "x\n" and "error" not in done.stderr.lower()


def test_stats_show_topics_groups_and_latencies(cli, topic):
    cli("topic", "create", topic)
    cli("produce", topic, stdin="a\nb\nc\n")
    cli("consume", topic, "--from", "earliest", "--max", "1", "--group", topic)
    shown = cli("stats").stdout
    for part in (topic, "lag", "commit", "flush", "memory"):
        assert part in shown, f"{part} is missing in:\n{shown}"


@pytest.mark.parametrize("command", [["topic", "list"], ["stats"], ["consume", "t", "--max", "1"], ["produce", "t"]],
                         ids=lambda one: one[0])
def test_no_server_at_the_address_is_said_soon(command):
    began = time.monotonic()
    done = run(*command, "--bootstrap", "127.0.0.1:1", stdin="x\n")
    assert done.returncode == 1 and "127.0.0.1:1" in done.stderr
    assert time.monotonic() - began < 15


def test_inspect_reads_a_stopped_servers_journal(make_server):
    server = make_server().start()
    for arguments, text in ((["topic", "create", "inspected"], None), (["produce", "inspected"], "a\nb\n")):
        assert run(*arguments, "--bootstrap", server.bootstrap, stdin=text).returncode == 0
    server.kill()
    shown = run("inspect", server.data)
    assert shown.returncode == 0, shown.stderr
    assert "commit" in shown.stdout
    server.start()  # reading left it as it was
    assert run("consume", "inspected", "--from", "earliest", "--max", "2", "--bootstrap",
               server.bootstrap).stdout == "a\nb\n"


def test_inspect_names_what_is_no_data_directory(tmp_path):
    done = run("inspect", tmp_path / "absent")
    assert done.returncode == 1 and "absent" in done.stderr


# Settings, partitions and groups


def test_a_topic_is_configured_and_grown(cli, topic):
    cli("topic", "create", topic, "--config", "segment.ms=5000")
    done = cli("topic", "configure", topic, "retention.ms=3600000", "cleanup.policy=compact", "--delete", "segment.ms")
    assert topic in done.stdout
    described = cli("topic", "describe", topic).stdout
    assert "retention.ms=3600000 *" in described and "cleanup.policy=compact *" in described
    assert "segment.ms=604800000\n" in described
    cli("topic", "configure", topic, "retention.ms=1", "--dry-run")
    assert "retention.ms=3600000 *" in cli("topic", "describe", topic).stdout
    cli("topic", "add-partitions", topic, "--total", "3")
    assert re.search(r"partitions +3", cli("topic", "describe", topic).stdout)


def test_what_cannot_be_configured_is_named_and_changes_nothing(cli, topic):
    cli("topic", "create", topic, "--partitions", "2")
    failed = cli("topic", "configure", topic, "retention.ms=5", "cleanup.policy=burn", expect=1)
    assert "burn" in failed.stderr and topic in failed.stderr
    assert "retention.ms=5" not in cli("topic", "describe", topic).stdout
    assert "no.such" in cli("topic", "configure", topic, "no.such=5", expect=1).stderr
    assert "never.made" in cli("topic", "configure", "never.made", "retention.ms=5", expect=1).stderr
    assert "2" in cli("topic", "add-partitions", topic, "--total", "2", expect=1).stderr
    cli("topic", "configure", topic, expect=64)
    cli("topic", "configure", topic, "nothing", expect=64)
    cli("topic", "add-partitions", topic, expect=64)


def test_a_groups_life(cli, topic):
    cli("topic", "create", topic)
    cli("produce", topic, stdin="one\ntwo\nthree\n")
    cli("consume", topic, "--group", topic, "--from", "earliest", "--max", "2")
    assert re.search(rf"^{re.escape(topic)} +Empty", cli("group", "list").stdout, re.MULTILINE)
    assert topic in [one["group"] for one in json.loads(cli("group", "list", "--json").stdout)]
    described = json.loads(cli("group", "describe", topic, "--json").stdout)
    assert described["offsets"] == [{"topic": topic, "partition": 0, "committed": 2, "end": 3, "lag": 1}]
    assert re.search(rf"{re.escape(topic)}-0 +2 +3 +1", cli("group", "describe", topic).stdout)
    dry = json.loads(cli("group", "reset", topic, "--to", "earliest", "--dry-run", "--json").stdout)
    assert dry["dryRun"] and dry["offsets"] == [{"topic": topic, "partition": 0, "before": 2, "after": 0}]
    assert cli("consume", topic, "--group", topic, "--max", "1").stdout == "three\n", "the dry run did nothing"
    cli("group", "reset", topic, "--to", "1", "--topic", f"{topic}:0")
    assert cli("consume", topic, "--group", topic, "--max", "2").stdout == "two\nthree\n"
    cli("group", "reset", topic, "--to", "2020-01-01T00:00:00Z")
    assert cli("consume", topic, "--group", topic, "--max", "1").stdout == "one\n"
    cli("group", "delete", topic)
    assert topic not in cli("group", "list").stdout


def test_a_group_that_is_not_there_or_positions_that_are_none(cli, topic):
    for command in (["describe"], ["delete"], ["reset", "--to", "earliest"]):
        assert "never.made" in cli("group", command[0], "never.made", *command[1:], expect=1).stderr
    assert "soon" in cli("group", "reset", "g", "--to", "soon", expect=64).stderr
    assert "2026-02-30" in cli("group", "reset", "g", "--to", "2026-02-30T00:00:00Z", expect=64).stderr
    assert "never.made" in cli("group", "reset", "g", "--to", "latest", "--topic", "never.made", expect=1).stderr
    cli("topic", "create", topic)
    assert "7" in cli("group", "reset", "g", "--to", "latest", "--topic", f"{topic}:7", expect=1).stderr


@pytest.mark.parametrize("is_terminal", [True, False])
def test_long_production_shows_its_progress_on_a_terminal_only(server, cli, topic, is_terminal):
    cli("topic", "create", topic)
    master, slave = pty.openpty() if is_terminal else os.pipe()
    process = subprocess.Popen(
        [str(BINARY), "produce", topic, "--bootstrap", server.bootstrap], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
        stderr=slave, env=environment())
    os.close(slave)
    # It takes a moment before a work counts as long.
    for number in range(8):
        process.stdin.write(b"line %d\n" % number)
        process.stdin.flush()
        time.sleep(0.1)
    process.stdin.close()
    assert process.wait(20) == 0
    shown = b""
    try:
        while part := os.read(master, 4096):
            shown += part
    except OSError:
        pass  # how a terminal says that nobody writes to it any more
    os.close(master)
    assert bool(re.search(rb"\d lines read, \d+ acknowledged", shown)) == is_terminal, shown


def test_a_share_groups_life(cli, server, topic):
    from confluent_kafka import ShareConsumer
    cli("topic", "create", topic, "--partitions", "1")
    cli("group", "reset", topic, "--to", "earliest", "--topic", topic, expect=0)
    # A group that does not exist is made as an ordinary one.
    cli("group", "delete", topic)
    consumer = ShareConsumer({"bootstrap.servers": server.bootstrap, "group.id": topic,
                              "share.acknowledgement.mode": "explicit"})
    consumer.subscribe([topic])
    consumer.poll(1.0)
    cli("produce", topic, stdin="one\ntwo\nthree\n")
    end = time.monotonic() + 30
    held = []
    while len(held) < 3 and time.monotonic() < end:
        messages = list(consumer.poll(1.0))
        held += messages
        for message in messages:
            consumer.acknowledge(message)
    consumer.commit_sync(30)
    assert [one.value() for one in held] == [b"one", b"two", b"three"]
    assert re.search(rf"^{re.escape(topic)} +Stable +share", cli("group", "list").stdout, re.MULTILINE)
    described = json.loads(cli("group", "describe", topic, "--json").stdout)
    assert described["type"] == "share" and described["members"][0]["partitions"] == [f"{topic}-0"]
    assert described["offsets"] == [{"topic": topic, "partition": 0, "start": 3, "end": 3, "lag": 0}]
    assert "members" in cli("group", "delete", topic, expect=1).stderr
    assert "members" in cli("group", "reset", topic, "--to", "earliest", expect=1).stderr
    consumer.close()
    cli("group", "reset", topic, "--to", "1")
    assert re.search(rf"{re.escape(topic)}-0 +1 +3 +2", cli("group", "describe", topic).stdout)
    cli("group", "delete", topic)
    assert topic not in cli("group", "list").stdout
