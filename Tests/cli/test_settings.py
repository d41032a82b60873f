"""Settings of a server: the file, the environment, options and HTTP; `check-config`; what SIGHUP reads again."""

import json
import os
import re
import signal
import time
import urllib.request

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, ResourceType
from millrace_tests import wire
from millrace_tests.secure import certs, openssl
from millrace_tests.server import run


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("MILLRACE_") and name != "MILLRACE_BINARY"]:
        monkeypatch.delenv(name)


def http(server, path, method="GET", body=None):
    request = urllib.request.Request(
        f"http://{server.http_host}:{server.http_port}{path}", method=method,
        data=None if body is None else json.dumps(body).encode(), headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def settings(server):
    return {one["name"]: one for one in http(server, "/api/v1/settings")["settings"]}


def await_log(server, text, since=0, seconds=20):
    """The log behind `since` once `text` stands in it."""
    deadline = time.monotonic() + seconds
    while text not in server.log_text()[since:]:
        assert time.monotonic() < deadline, f"{text!r} is not in {server.log_text()[since:]}"
        time.sleep(0.01)
    return server.log_text()[since:]


def reload(server, text):
    """Sends SIGHUP and returns what the log says of it, up to `text`."""
    since = len(server.log_text())
    server.process.send_signal(signal.SIGHUP)
    return await_log(server, text, since)


def test_a_file_says_where_everything_is(make_server, tmp_path):
    file = tmp_path / "millrace.conf"
    file.write_text(f"# a server\ndata = {tmp_path}/elsewhere\nkafka=0\namqp=none\nhttp=0\n\nnum.partitions=3\n")

    server = make_server(http=True)
    server.command_line = lambda: [server.binary, "serve", "--config", str(file)]
    server.start()
    assert (tmp_path / "elsewhere" / "lock").exists()
    shown = settings(server)
    assert {key: shown["num.partitions"][key] for key in ("value", "source", "place", "type", "minimum", "environment")} == {
        "value": "3", "source": "file", "place": f"{file}:7", "type": "int", "minimum": 1,
        "environment": "MILLRACE_NUM_PARTITIONS"}
    assert shown["log.retention.ms"]["unit"] == "ms" and shown["log.retention.ms"]["source"] == "standard"
    assert shown["data"]["changeable"] is False and shown["max.connections"]["changeable"] is True
    with wire.Wire(server) as connection:
        assert wire.api_versions(connection)
    assert server.stop() == 0


def test_of_several_sources_the_strongest_counts_and_what_is_set_while_it_runs_counts_most(make_server, tmp_path, monkeypatch):
    file = tmp_path / "millrace.conf"
    file.write_text("num.partitions=2\nmax.connections=200\ngroup.max.size=20\noffset.metadata.max.bytes=2\n")
    monkeypatch.setenv("MILLRACE_NUM_PARTITIONS", "3")
    monkeypatch.setenv("MILLRACE_MAX_CONNECTIONS", "300")
    monkeypatch.setenv("MILLRACE_GROUP_MAX_SIZE", "30")
    server = make_server(http=True, arguments=["--config", file, "--set", "num.partitions=4", "--set", "max.connections=400"])
    server.start()

    def shown():
        all_settings = settings(server)
        names = ("num.partitions", "max.connections", "group.max.size", "offset.metadata.max.bytes")
        return [(all_settings[name]["value"], all_settings[name]["source"]) for name in names]

    start = [("4", "command-line"), ("400", "command-line"), ("30", "environment"), ("2", "file")]
    assert shown() == start
    http(server, "/api/v1/settings", "PATCH", {"settings": {"num.partitions": "5", "group.max.size": "50"}})
    changed = [("5", "node"), start[1], ("50", "node"), start[3]]
    assert shown() == changed
    server.stop()
    server.start()
    assert shown() == changed, "after a restart it still counts most"
    http(server, "/api/v1/settings", "PATCH", {"settings": {"num.partitions": None, "group.max.size": None}})
    assert shown() == start
    server.stop()


def test_a_server_with_a_wrong_configuration_does_not_start_and_tells_all_that_is_wrong(make_server, tmp_path):
    file = tmp_path / "millrace.conf"
    file.write_text("num.partition=3\nnum.partitions=0\nmax.connections=5\nmax.connections=6\npassword=hunter2\n")
    done = run("serve", "--config", file, "--data", tmp_path / "data", "--kafka", "0", "--no-amqp", "--set", "log.level=loud")
    assert done.returncode == 64 and done.stdout == ""
    for text in [f"{file}:1: unknown setting \"num.partition\"; is num.partitions meant?",
                 f"{file}:2: num.partitions must be between 1 and 10000, not 0",
                 f"{file}:4: max.connections stands in line 3 already", f"{file}:5: unknown setting \"password\"",
                 "--set: log.level must be one of"]:
        assert text in done.stderr
    assert "hunter2" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_hang_up_reads_the_file_again(make_server, tmp_path):
    file = tmp_path / "millrace.conf"
    file.write_text("num.partitions=2\namqp.max.message.size=1000\n")
    server = make_server(http=True, arguments=["--config", file, "--set", "max.connections=400"]).start()

    file.write_text("num.partitions=7\namqp.max.message.size=2000\nmax.connections=9\nlog.format=json\n")
    said = reload(server, "do not count")
    lines = said.splitlines()
    assert any("configuration read again" in line and "num.partitions=7" in line for line in lines), said
    assert any("count after a restart" in line and "amqp.max.message.size" in line for line in lines), said
    assert any("do not count" in line and "max.connections (--set)" in line for line in lines), said
    assert json.loads(lines[-1])["component"] == "settings", "the format changes with the file"
    shown = settings(server)
    assert (shown["num.partitions"]["value"], shown["amqp.max.message.size"]["value"]) == ("7", "1000")
    assert shown["max.connections"]["value"] == "400"
    with wire.Wire(server) as connection:
        assert wire.create_topic(connection, "t", partitions=-1) == 0
    assert len(http(server, "/api/v1/topics/t")["partitions"]) == 7

    file.write_text("num.partitions=8\nnum.partitons=3\n")
    said = reload(server, "num.partitons")
    assert "not read again" in said and f"{file}:2" in said and server.running
    assert settings(server)["num.partitions"]["value"] == "7", "of a file with an error nothing counts"

    file.unlink()
    assert "cannot be read" in reload(server, "not read again") and server.running
    file.write_text("num.partitions=8\namqp.max.message.size=1000\nlog.format=json\n")
    reload(server, "num.partitions=8")
    assert settings(server)["num.partitions"]["value"] == "8"
    audit = audited(server, 4)
    assert [(one["operation"], one["resource"], one["allowed"]) for one in audit] == [
        ("alter-configs", "cluster", True), ("alter-configs", "cluster", False), ("alter-configs", "cluster", False),
        ("alter-configs", "cluster", True)]
    assert "num.partitions" in audit[0]["settings"].split() and audit[0]["file"] == str(file)
    assert "num.partitons" in audit[1]["reason"]
    assert server.stop() == 0


def audited(server, count):
    """The first records of the audit that are about the file."""
    deadline = time.monotonic() + 20
    while True:
        done = run("consume", "__audit", "--from", "earliest", "--timeout", "1", "--bootstrap", server.bootstrap)
        found = [one for one in map(json.loads, done.stdout.splitlines()) if "file" in one]
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{done.stdout}{done.stderr}"


def test_without_a_file_and_without_tls_a_hang_up_stops_it(make_server):
    server = make_server().start()
    server.process.send_signal(signal.SIGHUP)
    assert server.process.wait(20) == 0


def check(*arguments):
    done = run("check-config", *arguments)
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_check_config_tells_all_that_is_wrong_with_its_place_and_changes_nothing(tmp_path):
    certs(tmp_path / "one", "make")
    certs(tmp_path / "two", "make")
    file = tmp_path / "millrace.conf"
    file.write_text(f"""\
data={tmp_path}/data
listeners=kafka+tls://127.0.0.1:9093,amqp://0.0.0.0:5672,http://127.0.0.1:9093
tls.certificate={tmp_path}/one/server.pem
tls.key={tmp_path}/two/server.key
group.consumer.session.timeout.ms=1
log.retention.msec=5
""")
    code, out, lines = check("--config", file, "--set", "num.partitions=many")
    assert code == 1 and out == ""
    assert f"{file}:6: error: unknown setting \"log.retention.msec\"; is log.retention.ms meant?" in lines
    assert "--set: error: num.partitions must be a whole number, not \"many\"" in lines
    joined = "\n".join(lines)
    for text in [f"{file}:5: error: group.consumer.session.timeout.ms is 1,",
                 "group.consumer.heartbeat.interval.ms must be below", f"{file}:2: error: amqp://0.0.0.0:5672 is open to other",
                 f"{file}:2: error: two listeners have the address 127.0.0.1:9093",
                 f"{file}:3: error: {tmp_path}/two/server.key: is not the key of"]:
        assert text in joined, f"{text} is not in {joined}"
    assert all(re.match(r"^(\S+( \S+)?: )?(error|warning): ", line) for line in lines), lines
    assert not (tmp_path / "data").exists()


def test_check_config_looks_at_files_and_folders(tmp_path):
    certs(tmp_path, "make")
    (tmp_path / "plain").write_text("")
    listener = "kafka+tls://127.0.0.1:0?auth=certificate"
    code, _, lines = check("--data", tmp_path / "plain", "--listener", listener, "--tls-certificate", tmp_path / "none.pem",
                           "--tls-key", tmp_path / "none.key", "--tls-client-ca", tmp_path / "ca.pem")
    assert code == 1
    assert lines == [f"--tls-certificate: error: {tmp_path}/none.pem cannot be read: No such file or directory",
                     f"--tls-key: error: {tmp_path}/none.key cannot be read: No such file or directory",
                     f"--data: error: {tmp_path}/plain is no directory"]
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=old", "-days", "1",
            "-keyout", tmp_path / "old.key", "-out", tmp_path / "old.pem")
    (tmp_path / "old.key").chmod(0o644)
    file = tmp_path / "millrace.conf"
    file.write_text("num.partitions=1\n")
    file.chmod(0o666)
    code, out, lines = check("--config", file, "--data", tmp_path / "data", "--listener", "kafka+tls://127.0.0.1:0",
                             "--tls-certificate", tmp_path / "old.pem", "--tls-key", tmp_path / "old.key")
    assert code == 0 and "2 warnings" in out, (out, lines)
    assert lines == [f"{file}: warning: everybody may write to this file",
                     f"--tls-certificate: warning: {tmp_path}/old.key: others than its owner and group may read this private key"]


def test_what_check_config_prints_is_a_file_that_says_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("MILLRACE_MAX_CONNECTIONS", "77")
    file = tmp_path / "millrace.conf"
    file.write_text(f"data={tmp_path}/data\nlisteners=kafka://127.0.0.1:0,\\\n  amqp://127.0.0.1:0?auth=none\n")
    code, out, lines = check("--config", file, "--set", "num.partitions=3", "--print")
    assert code == 0 and lines == []
    assert f"# {file}:1\ndata={tmp_path}/data\n" in out and "# --set\nnum.partitions=3\n" in out
    assert "# MILLRACE_MAX_CONNECTIONS\nmax.connections=77\n" in out
    monkeypatch.delenv("MILLRACE_MAX_CONNECTIONS")
    again = tmp_path / "again.conf"
    again.write_text(out)

    def values(text):
        return sorted(line for line in text.splitlines() if line and not line.startswith("#"))

    code, printed, lines = check("--config", again, "--print")
    assert code == 0 and lines == [] and values(printed) == values(out)
    assert check("--config", again)[1] == "the configuration is sound\n"


def test_check_config_and_its_options(tmp_path):
    assert run("check-config", "--no-such-option").returncode == 64
    assert check("--config", tmp_path / "nowhere")[0] == 1
    code, _, lines = check()
    assert code == 1 and len(lines) == 1 and "--data DIR" in lines[0]


def test_a_server_says_what_is_odd_about_its_environment(make_server, monkeypatch):
    monkeypatch.setenv("MILLRACE_NUM_PARTITION", "3")
    monkeypatch.setenv("MILLRACE_PORT", "tcp://10.0.0.1:9092")
    server = make_server().start()
    said = [line for line in server.log_text().splitlines() if "no setting is called so" in line]
    assert len(said) == 1 and "MILLRACE_NUM_PARTITIONS meant?" in said[0]
    server.stop()


def test_the_log_level_of_the_file_is_live_and_that_of_kafkas_logger_is_left_alone(make_server, tmp_path):
    file = tmp_path / "millrace.conf"
    file.write_text("log.level=info\n")
    server = make_server(http=True, arguments=["--config", file]).start()
    http(server, "/api/v1/topics", "GET")
    assert " debug " not in server.log_text()
    file.write_text("log.level=debug\n")
    reload(server, "configuration read again")
    since = len(server.log_text())
    http(server, "/api/v1/topics", "GET")
    await_log(server, " debug http: served", since)
    server.stop()


def test_kafkas_clients_see_the_programs_settings_and_where_values_come_from(make_server, tmp_path):
    file = tmp_path / "millrace.conf"
    file.write_text("num.partitions=3\n")
    server = make_server(arguments=["--config", file, "--set", "num.partitions=4"]).start()
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    (future,) = admin.describe_configs([ConfigResource(ResourceType.BROKER, "0")]).values()
    found = future.result(20)
    static = ConfigSource.STATIC_BROKER_CONFIG.value
    assert (found["data"].value, found["data"].is_read_only, found["data"].source) == (str(server.data), True, static)
    assert (found["num.partitions"].value, found["num.partitions"].is_read_only) == ("4", False)
    assert found["num.partitions"].source == static
    assert found["tls.key"].value == "" and found["tls.key"].source == ConfigSource.DEFAULT_CONFIG.value
    assert not any(entry.is_sensitive for entry in found.values())
    server.stop()
