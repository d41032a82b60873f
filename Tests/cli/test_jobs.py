"""`millrace job` against a running server. That jobs run, stop and go on under it, Tests/crash/worker_crash.py shows."""

import json
import stat
import time

import pytest
from millrace_tests.server import Server, run


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A server whose jobs run in its own process."""
    directory = tmp_path_factory.mktemp("jobs")
    text = directory / "text.txt"
    text.write_text("to be or not to be\n" * 100)
    with Server(directory, command="demo", arguments=["--input", text]) as server:
        server.start()
        yield server
        server.stop()


def job(server, *words, expect=0):
    done = run("job", *words, "--data", server.data)
    assert done.returncode == expect, done.stderr
    return done


def test_the_socket_is_its_users_alone(demo):
    mode = (demo.data / "jobs.sock").stat().st_mode
    assert stat.S_ISSOCK(mode) and stat.S_IMODE(mode) == 0o600


def test_jobs_are_listed(demo):
    expected = [("feeder", "embedded", 0), ("word-count", "embedded", 0)]
    for _ in range(200):  # the server is ready before its jobs are
        jobs = json.loads(job(demo, "list", "--json").stdout)
        if len(jobs) == len(expected):
            break
    assert [(one["name"], one["state"], one["process"]) for one in jobs] == expected
    assert job(demo, "list").stdout.splitlines()[0].split() == ["job", "state", "epoch", "process"]


def test_a_job_of_the_servers_own_process_is_shown_with_its_positions(demo):
    for _ in range(200):
        shown = json.loads(job(demo, "show", "word-count", "--json").stdout)
        if sum(one["end"] for one in shown["positions"]) == 100 and all(one["lag"] == 0 for one in shown["positions"]):
            break
    else:
        pytest.fail(f"the job has not read its input: {shown}")
    assert shown["stateBytes"] > 0
    text = job(demo, "show", "word-count").stdout
    assert text.startswith("job      word-count\nstate    embedded\nepoch    1\n")
    assert "topic  partition  position  end  lag" in text


def test_what_is_not_there_is_said(demo, tmp_path):
    for words in ["show", "stop", "resume"]:
        assert job(demo, words, "nothing", expect=1).stderr == "millrace: there is no job nothing\n"
    done = run("job", "list", "--data", tmp_path)
    assert done.returncode == 1
    assert f"no server runs on {tmp_path}" in done.stderr and f"millrace serve --data {tmp_path}" in done.stderr


def test_a_server_that_cannot_make_the_socket_serves_all_the_same(tmp_path):
    with Server(tmp_path) as server:
        server.data.mkdir()
        (server.data / "jobs.sock").write_text("mine")
        server.start()
        assert "no worker of stream jobs can join" in server.log_text()
        assert run("topic", "create", "t", "--bootstrap", server.bootstrap).returncode == 0
        assert run("job", "list", "--data", server.data).returncode == 1
        server.stop()
    assert (tmp_path / "data" / "jobs.sock").read_text() == "mine"


def names(chain):
    return [f"{one['number']} {one['kind']} {one['name']}".strip() for one in chain["operators"]]


def test_a_jobs_operators_are_shown_by_job_show_and_by_stats(demo):
    for _ in range(200):
        shown = json.loads(job(demo, "show", "word-count", "--json").stdout)
        chains = shown.get("chains", [])
        if chains and chains[0]["recordsIn"] == 100 and shown["commits"] == shown["steps"]:
            break
        time.sleep(0.05)
    else:
        pytest.fail(f"the job has not told that it has read its input: {shown}")
    # The numbers are those of explain(): what splits lines is one loop with what reads them.
    assert [names(chain) for chain in chains] == [
        ["0 RecordInput lines", "1 FlatMap"],
        ["2 KeyedAggregate words"],
        ["3 KeyedTopicSink counts"],
    ]
    source, count, sink = chains
    assert [source["upstreams"], count["upstreams"], sink["upstreams"]] == [[], [1], [2]]
    assert [chain["isKeyed"] for chain in chains] == [False, True, False]
    assert source["recordsIn"] == shown["recordsIn"] == 100
    assert source["recordsOut"] == count["recordsIn"] == 600
    assert source["bytesIn"] == shown["bytesIn"] > 100 * 18
    assert count["stateEntries"] == 4  # to be or not
    assert count["stateBytes"] == 4 * 12 + len("tobeornot")
    assert count["recordsOut"] == sink["recordsIn"] == sink["recordsOut"] == shown["recordsOut"] >= 4
    assert sink["bytesOut"] == shown["bytesOut"] > 61
    # One worker: the whole pipeline is one loop, whose time is at its end.
    assert [chain["timedWith"] for chain in chains] == [3, 3, None]
    assert 0 < sink["busySeconds"] <= shown["busySeconds"]
    assert shown["lag"] == 0
    assert [(one["input"], one["partition"], one["lag"]) for one in shown["inputs"]] == [("lines", 0, 0)]
    assert shown["watermark"] is None and source["watermarkHolder"] is None  # it asks for no event time
    for latency in shown["commit"], shown["latency"]:
        assert 0 < latency["p50"] <= latency["p99"]
    text = job(demo, "show", "word-count").stdout
    assert "\n+ 1: FlatMap" in text and "\n2: KeyedAggregate words" in text and "held back by" in text
    stats = run("stats", "--json", "--bootstrap", demo.bootstrap)
    jobs = {one["name"]: one for one in json.loads(stats.stdout)["jobs"]}
    assert set(jobs) == {"feeder", "word-count"}
    assert [chain["recordsIn"] for chain in jobs["word-count"]["chains"]][:2] == [100, 600]
    assert jobs["feeder"]["chains"][0]["operators"][0]["kind"] == "RecordInput"
    assert jobs["feeder"]["recordsOut"] == 100
    table = run("stats", "--bootstrap", demo.bootstrap).stdout
    assert "2: KeyedAggregate words" in table and "records/step" in table
