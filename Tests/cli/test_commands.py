"""The commands that talk to a running server, and `inspect`, which reads a stopped one's data."""

import json
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
