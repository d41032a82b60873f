"""Metrics as promtool wants them, and what alert rules and the dashboard name."""

import json
import re
import subprocess
import time

import pytest

from conftest import Client
from millrace_tests.server import ROOT, Server, run

MONITORING = ROOT / "docs" / "monitoring"


def promtool(*arguments, text=None):
    done = subprocess.run(["promtool", *map(str, arguments)], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def scrape(client):
    status, headers, body = client.ask("GET", "/metrics")
    assert status == 200 and headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    return body.decode()


@pytest.fixture
def busy(client):
    """A server with some of everything, with names that need escaping."""
    assert client.ask("PUT", "/api/v1/topics/metric.topic", {"partitions": 2})[0] in (201, 409)
    client.do("POST", "/api/v1/topics/metric.topic/records", {"records": [{"value": "x"}] * 7})
    client.do("PUT", '/api/v1/queues/q%22%5C%C3%A9')
    client.do("POST", '/api/v1/queues/q%22%5C%C3%A9/messages', {"messages": [{"body": "a"}] * 3})
    client.do("POST", '/api/v1/queues/q%22%5C%C3%A9/get', {"settle": "now"})
    client.do("POST", "/api/v1/groups/metric.group/offsets", {"offset": 2, "partitions": [{"topic": "metric.topic"}]})
    return client


def test_promtool_finds_nothing(busy):
    text = scrape(busy)
    found = promtool("check", "metrics", text=text)
    assert not found.strip(), found


def test_the_numbers_are_right(busy):
    text = scrape(busy)

    def value(series):
        return next(float(line[len(series) + 1:]) for line in text.splitlines() if line.startswith(series + " "))

    queue = '{vhost="/",queue="q\\"\\\\é"}'
    assert value("millrace_queue_messages_ready" + queue) >= 2
    assert value("millrace_queue_messages_acknowledged_total" + queue) >= 1
    assert value("millrace_queue_waiting_seconds_count" + queue) >= 1
    waits = [int(line.split()[1]) for line in text.splitlines() if line.startswith('millrace_vhost_waiting_seconds_bucket{vhost="/",')]
    assert len(waits) == 21 and waits == sorted(waits)
    assert waits[-1] == value('millrace_vhost_waiting_seconds_count{vhost="/"}') >= 1
    records = sum(value(f'millrace_topic_records_in_total{{topic="metric.topic",partition="{n}"}}') for n in (0, 1))
    assert records % 7 == 0 and records > 0
    assert value('millrace_group_lag_records{group="metric.group",topic="metric.topic"}') >= 3
    assert value("millrace_ready") == 1 and value("millrace_uptime_seconds") > 0
    assert value("millrace_commit_latency_seconds_count") == value('millrace_commit_latency_seconds_bucket{le="+Inf"}') > 0
    assert value("process_cpu_seconds_total") > 0 and value("process_open_fds") > 5
    for family in re.findall(r"^# TYPE (\S+) ", text, re.M):
        assert text.count(f"# TYPE {family} ") == 1, family


def test_many_queues_are_summed_up(make_server):
    server = make_server(http=True, arguments=["--set", "metrics.max.entities=3"]).start()
    client = Client(server)
    for number in range(8):
        client.do("PUT", f"/api/v1/queues/q{number}")
        client.do("POST", f"/api/v1/queues/q{number}/messages", {"messages": [{"body": "x"}] * 2})
    text = scrape(client)
    lines = [line for line in text.splitlines() if line.startswith("millrace_queue_messages_ready{")]
    assert len(lines) == 4 and lines[-1] == 'millrace_queue_messages_ready{vhost="",queue=""} 10'
    assert "millrace_queues 8" in text
    promtool("check", "metrics", text=text)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A server whose jobs run in its own process, having counted its words."""
    directory = tmp_path_factory.mktemp("demo")
    (directory / "text.txt").write_text("to be or not to be\n" * 100)
    with Server(directory, command="demo", http=True, arguments=["--input", directory / "text.txt"]) as server:
        yield server.start()
        server.stop()


def test_a_jobs_state_is_as_large_as_job_show_says(demo):
    client = Client(demo)
    for _ in range(200):
        text = scrape(client)
        labels = 'stream_job="word-count",operator="2",kind="KeyedAggregate",name="words"'
        if f"millrace_job_operator_state_bytes{{{labels}}} {4 * 12 + len('tobeornot')}.0\n" in text:
            break
        time.sleep(0.05)
    else:
        pytest.fail(text)
    promtool("check", "metrics", text=text)
    shown = json.loads(run("job", "show", "word-count", "--data", demo.data, "--json").stdout)

    def value(name, labels='stream_job="word-count"'):
        return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name}{{{labels}}} "))

    assert value("millrace_job_state_bytes") == sum(chain["stateBytes"] or 0 for chain in shown["chains"])
    assert value("millrace_job_state_entries") == shown["stateKeys"]
    assert 0 < value("millrace_job_state_log_bytes") <= shown["stateBytes"]
    assert value("millrace_job_records_in_total") == shown["recordsIn"] == 100
    assert value("millrace_job_lag_records") == value("millrace_job_input_lag_records", 'stream_job="word-count",input="lines"') == 0
    assert 0 < value("millrace_job_commit_latency_seconds", 'stream_job="word-count",quantile="0.5"') < 60


def names_in(text):
    return set(re.findall(r"\b(?:millrace|process)_[a-z_]+", text))


def known(text):
    names = set()
    for name, kind in re.findall(r"^# TYPE (\S+) (\S+)$", text, re.M):
        names.add(name)
        if kind in ("histogram", "summary"):
            names |= {name + suffix for suffix in ("_bucket", "_sum", "_count")}
    return names


def test_rules_and_dashboard_name_metrics_that_there_are(busy, demo):
    found = known(scrape(busy)) | known(scrape(Client(demo)))
    # A family without a series yet is there all the same.
    assert "millrace_authentications_total" in found
    promtool("check", "rules", MONITORING / "alerts.yml")
    promtool("test", "rules", MONITORING / "alerts-test.yml")
    assert not names_in((MONITORING / "alerts.yml").read_text()) - found
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    assert len(expressions) > 15
    assert not names_in("\n".join(expressions)) - found
    rules = {"groups": [{"name": "panels", "rules": [
        {"record": f"panel:{n}", "expr": e.replace("$__rate_interval", "5m")} for n, e in enumerate(expressions)]}]}
    promtool("check", "rules", "/dev/stdin", text=json.dumps(rules))
