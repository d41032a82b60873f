"""`millrace doctor`: what it finds on this machine, on memory, and beside a running server."""

import json
import shutil
import socket
import tempfile
from pathlib import Path

import pytest
from millrace_tests.server import run

RESULTS = {"ok", "note", "warning", "danger"}


def doctor(*arguments):
    done = run("doctor", "--json", "--set", "host=127.0.0.1", *arguments)
    assert done.stderr == ""
    findings = json.loads(done.stdout)["findings"]
    assert all(set(one) == {"area", "result", "text", "advice"} and one["result"] in RESULTS for one in findings)
    assert (done.returncode == 1) == any(one["result"] == "danger" for one in findings)
    return findings


def of(findings, area):
    return [one for one in findings if one["area"] == area]


def test_it_looks_at_everything_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "data").mkdir(mode=0o750)
    findings = doctor("--data", tmp_path / "data", "--kafka", "0", "--no-amqp")
    areas = {one["area"] for one in findings}
    assert {"data", "file system", "space", "flush", "clock", "open files", "memory", "processors", "io_uring"} <= areas
    assert list((tmp_path / "data").iterdir()) == []
    listed = run("doctor", "--data", tmp_path / "data", "--kafka", "0", "--no-amqp")
    assert all(line.split()[0] in RESULTS | {"→"} for line in listed.stdout.splitlines())


def test_memory_is_a_danger():
    if not Path("/dev/shm").is_dir() or " /dev/shm tmpfs " not in Path("/proc/mounts").read_text():
        pytest.skip("this machine has no tmpfs at /dev/shm")
    directory = tempfile.mkdtemp(dir="/dev/shm")
    try:
        found = of(doctor("--data", directory, "--kafka", "0", "--no-amqp"), "file system")
        assert found[0]["result"] == "danger" and "tmpfs" in found[0]["text"] and found[0]["advice"]
    finally:
        shutil.rmtree(directory)


def test_a_running_server_is_told_with_its_ports(make_server):
    server = make_server().start()
    findings = doctor("--data", server.data, "--kafka", server.port, "--no-amqp")
    assert any(f"in use by a running server, pid {server.process.pid} (" in one["text"] for one in of(findings, "data"))
    assert of(findings, "port") == [
        {"area": "port", "result": "ok", "text": f"kafka://127.0.0.1:{server.port} is the running server's", "advice": ""}]
    assert server.stop() == 0
    findings = doctor("--data", server.data, "--kafka", server.port, "--no-amqp")
    assert any("not in use" in one["text"] for one in of(findings, "data"))
    assert "free" in of(findings, "port")[0]["text"]
    server.start()
    assert server.stop() == 0


def test_a_port_that_another_program_has_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = of(doctor("--kafka", port, "--no-amqp"), "port")
    assert found[0]["result"] == "warning" and "python" in found[0]["text"] and "pid" in found[0]["text"]


def test_limits_and_settings_are_held_against_each_other(tmp_path):
    found = of(doctor("--kafka", "0", "--no-amqp", "--set", "max.connections=1000000"), "open files")
    assert "max.connections is 1000000" in found[0]["text"]
    (tmp_path / "data").mkdir()
    findings = doctor("--data", tmp_path / "data", "--kafka", "0", "--no-amqp", "--set", f"disk.low.bytes={1 << 60}")
    assert of(findings, "space")[0]["result"] == "warning" and "disk.low.bytes" in of(findings, "space")[0]["text"]


def test_a_configuration_that_is_wrong_is_told_with_its_place(tmp_path):
    file = tmp_path / "millrace.conf"
    file.write_text("num.partition=3\n")
    found = of(doctor("--config", file, "--kafka", "0", "--no-amqp"), "configuration")
    assert found[0]["result"] == "warning" and found[0]["text"].startswith(f"{file}:1: ")
