"""`millrace serve` and `millrace demo` as others script them: ready line, exit codes, signals, lock, addresses."""

import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer
from millrace_tests import wire
from millrace_tests.server import READY, Server, ServerFailed, environment, run
from millrace_tests.server import BINARY


def port_taken():
    """A bound port on loopback."""
    one = socket.socket()
    one.bind(("127.0.0.1", 0))
    one.listen()
    return one, one.getsockname()[1]


def test_the_ready_line_is_the_only_line_on_standard_output(make_server):
    server = make_server().start()
    with wire.Wire(server) as connection:
        assert wire.api_versions(connection)
    assert server.drain_output() == ""
    assert server.stop() == 0
    assert server.drain_output() == ""


def test_the_log_has_levels_and_goes_to_standard_error(make_server):
    server = make_server().start()
    server.stop()
    lines = [line for line in server.log_text().splitlines() if not line.startswith("---")]
    assert lines
    for line in lines:
        assert re.match(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug|info|warning|error) [\w.-]+: ", line), line


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_stops_it_cleanly(make_server, number):
    server = make_server().start()
    server.process.send_signal(number)
    assert server.process.wait(10) == 0


def test_a_second_signal_stops_it_at_once(make_server):
    server = make_server().start()
    # Both wait while the process is stopped, so that the second is there before the first has done its work.
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        server.process.send_signal(number)
    assert server.process.wait(10) in (128 + signal.SIGTERM, 128 + signal.SIGINT)
    assert "stopping at once" in server.log_text()
    server.start()
    assert server.stop() == 0


def test_without_options_it_listens_on_both_loopback_addresses_and_ports_9092_and_5672(tmp_path):
    for port in (9092, 5672):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                pytest.skip(f"port {port} is taken on this machine")
    process = subprocess.Popen([str(BINARY), "serve", "--data", str(tmp_path / "data")], stdout=subprocess.PIPE,
                               stderr=subprocess.DEVNULL, text=True, env=environment())
    try:
        assert process.stdout.readline() == (
            f"millrace ready kafka=127.0.0.1:9092 amqp=127.0.0.1:5672 pid={process.pid}\n")
        for host in ("127.0.0.1", "::1") if socket.has_ipv6 and Path("/proc/net/if_inet6").exists() else ("127.0.0.1",):
            for port in (9092, 5672):
                socket.create_connection((host, port), 5).close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0


def test_it_stops_with_clients_connected_and_waiting(make_server):
    server = make_server().start()
    with wire.Wire(server) as connection:
        assert wire.create_topic(connection, "t") == 0
        connection.send("Fetch", 11, wire.fetch_body([("t", 0, 0)], max_wait_ms=60_000))
        time.sleep(0.1)
        assert server.stop(10) == 0


def test_the_data_directory_is_made_when_absent(tmp_path, make_server):
    server = make_server(data="deep/down/here").start()
    assert server.data.is_dir() and server.data.name == "here"
    with wire.Wire(server) as connection:
        assert wire.create_topic(connection, "t") == 0
    assert server.stop() == 0
    server.start()
    with wire.Wire(server) as connection:
        assert wire.create_topic(connection, "t") == 36, "the topic is there already"


def test_a_data_path_below_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    done = run("serve", "--data", tmp_path / "file" / "below", "--kafka", "0")
    assert done.returncode > 0 and str(tmp_path / "file") in done.stderr


def test_a_second_server_on_the_same_data_is_refused(make_server):
    server = make_server().start()
    done = run("serve", "--data", server.data, "--kafka", "0")
    assert done.returncode not in (0, None) and done.returncode > 0
    assert "ready" not in done.stdout
    assert str(server.data) in done.stderr and re.search("lock|in use", done.stderr)
    with wire.Wire(server) as connection:
        assert wire.api_versions(connection)


def test_the_lock_dies_with_the_server(make_server):
    server = make_server().start()
    server.kill()
    server.start()
    assert server.stop() == 0


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.1", "10.0.0.1"])
def test_an_address_beyond_loopback_is_refused_with_a_reason(tmp_path, address):
    done = run("serve", "--data", tmp_path / "data", "--kafka", "0", "--host", address)
    assert done.returncode > 0 and "ready" not in done.stdout
    assert address in done.stderr and "open to other machines" in done.stderr
    for flag in ["--listener", "--tls-certificate", "--tls-key", "--insecure-listener"]:
        assert flag in done.stderr


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
def test_loopback_addresses_are_served(make_server, address):
    if address == "::1" and not _has_ipv6():
        pytest.skip("this machine has no IPv6 loopback")
    server = make_server(arguments=["--host", address]).start()
    with wire.Wire(server) as connection:
        assert wire.api_versions(connection)


def _has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
        return True
    except OSError:
        return False


def test_the_advertised_address_is_what_clients_are_told(make_server):
    server = make_server(arguments=["--advertise", "broker.example:19092"]).start()
    with wire.Wire(server) as connection:
        fields = connection.call("Metadata", 1, b"\0\0\0\0")
        assert fields.int32() == 1 and fields.int32() == 0
        assert (fields.string(), fields.int32()) == ("broker.example", 19092)


def test_a_taken_port_is_named(tmp_path):
    holder, port = port_taken()
    with holder:
        done = run("serve", "--data", tmp_path / "data", "--kafka", port)
    assert done.returncode > 0 and str(port) in done.stderr


def test_a_taken_amqp_port_is_named_with_the_way_around_it(tmp_path):
    holder, port = port_taken()
    with holder:
        done = run("serve", "--data", tmp_path / "data", "--kafka", "0", "--amqp", port)
    assert done.returncode > 0 and str(port) in done.stderr and "--no-amqp" in done.stderr
    assert "ready" not in done.stdout


def test_a_data_path_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a directory")
    done = run("serve", "--data", tmp_path / "file", "--kafka", "0")
    assert done.returncode > 0 and str(tmp_path / "file") in done.stderr


@pytest.mark.parametrize("arguments", [
    ["serve"], ["serve", "--data"], ["serve", "--data", "d", "--kafka", "many"],
    ["serve", "--data", "d", "--kafka", "70000"], ["serve", "--data", "d", "--unknown"], ["nonsense"], [],
    ["serve", "--data", "d", "--amqp", "5672", "--no-amqp"], ["topic", "nonsense"], ["consume"], ["demo"], ["inspect"],
])
def test_wrong_usage_exits_with_64(tmp_path, arguments):
    done = subprocess.run([str(BINARY), *arguments], capture_output=True, text=True, timeout=20, cwd=tmp_path,
                          env=environment())
    assert done.returncode == 64, done.stderr
    assert done.stdout == "" and done.stderr.strip()
    assert not list(tmp_path.iterdir()), "wrong usage leaves nothing behind"


@pytest.mark.parametrize("command", [[], ["serve"], ["demo"], ["topic"], ["topic", "create"], ["topic", "list"],
                                     ["topic", "describe"], ["topic", "delete"], ["produce"], ["consume"], ["stats"],
                                     ["inspect"], ["check-config"], ["doctor"]], ids=lambda one: " ".join(one) or "millrace")
def test_help_is_everywhere(command):
    done = run(*command, "--help")
    assert done.returncode == 0 and done.stderr == ""
    assert "millrace" in done.stdout and len(done.stdout.splitlines()) >= 3


def test_it_is_ready_quickly_on_empty_data(make_server):
    # The bound of the benchmark is 30 ms; here only that nothing is slow by an order of magnitude.
    assert make_server().start().ready_after_seconds < 1


def test_the_demo_counts_its_input_goes_on_serving_and_never_repeats(tmp_path, make_server):
    text = tmp_path / "input.txt"
    text.write_text("to be or not to be\nthat is the question\n")
    demo = make_server(command="demo", arguments=["--input", text]).start()
    expected = {"to": "2", "be": "2", "or": "1", "not": "1", "that": "1", "is": "1", "the": "1", "question": "1"}
    assert _counts(demo, expected) == expected
    assert demo.stop() == 0
    demo.start()
    time.sleep(0.5)
    assert _counts(demo, expected) == expected
    assert demo.running


def _counts(server, expected, timeout_seconds=20):
    """The latest value of each key in `counts`, once they are as expected or time is up."""
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": f"check-{time.monotonic_ns()}",
                         "auto.offset.reset": "earliest", "allow.auto.create.topics": False})
    consumer.subscribe(["counts"])
    latest, quiet_since, deadline = {}, time.monotonic(), time.monotonic() + timeout_seconds
    while time.monotonic() < deadline:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            latest[message.key().decode()] = message.value().decode()
            quiet_since = time.monotonic()
        elif latest == expected and time.monotonic() - quiet_since > 0.5:
            break
    consumer.close()
    return latest


def test_the_demo_says_how_to_join_in(tmp_path, make_server):
    text = tmp_path / "input.txt"
    text.write_text("hello\n")
    demo = make_server(command="demo", arguments=["--input", text]).start()
    deadline = time.monotonic() + 10
    said = ""
    while time.monotonic() < deadline and not ("kcat" in said and "KafkaConsumer" in said):
        time.sleep(0.05)
        said = demo.drain_output() + demo.log_text()
    assert "kcat" in said and "KafkaConsumer" in said and str(demo.port) in said


def test_the_demo_names_a_missing_input(tmp_path):
    done = run("demo", "--data", tmp_path / "data", "--kafka", "0", "--input", tmp_path / "absent.txt")
    assert done.returncode > 0 and "absent.txt" in done.stderr


def test_a_ready_line_has_the_promised_form():
    assert READY.match("millrace ready kafka=127.0.0.1:9092 pid=7")
    assert not READY.match("millrace ready kafka=127.0.0.1:9092")


def test_the_harness_reports_a_server_that_ends_at_once(tmp_path):
    with pytest.raises(ServerFailed, match="ended with"):
        Server(tmp_path / "s", arguments=["--no-such-option"]).start()
