"""Measures what it costs a server when its metrics are scraped every second, by how many queues it has; writes a table.

    scrape.py [--queues 1000 10000] [--seconds 30] [--runs 3] [--write docs/benchmarks-scrape.md]

The release binary with its standard settings. Each queue has had three messages, of which one was delivered and settled, so that all
its figures are there. The cost is the server's processor time while it is scraped, less that of as long a time without, one behind
the other. Without --write the table goes to standard output.
"""

import argparse
import concurrent.futures
import datetime
import http.client
import json
import os
import shutil
import statistics
import time
from pathlib import Path

import run as bench
from millrace_tests.server import ROOT, Server

WORK = ROOT / ".build" / "bench-scrape"


class Caller:
    """One connection that is kept."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=60)

    def ask(self, method, path, body=None):
        headers = {} if body is None else {"Content-Type": "application/json"}
        self.connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"{method} {path}: {answer.status} {text[:500]!r}")
        return text


def fill(server, count):
    """Queues of two virtual hosts, each with something to show."""
    Caller(server).ask("PUT", "/api/vhosts/second")
    names = [("%2F" if number % 2 else "second", f"orders.region-{number % 50}.worker-{number}") for number in range(count)]

    def make(part):
        caller = Caller(server)
        for host, name in part:
            caller.ask("PUT", f"/api/v1/queues/{name}?vhost={host}", {"durable": False})
            caller.ask("POST", f"/api/v1/queues/{name}/messages?vhost={host}", {"messages": [{"body": "x" * 100}] * 3})
            caller.ask("POST", f"/api/v1/queues/{name}/get?vhost={host}", {"settle": "now"})

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        list(pool.map(make, (names[first::4] for first in range(4))))


def cpu_seconds(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def spend(server, seconds, scrapes):
    """Processor seconds of the server, and the size and time of an answer."""
    caller = Caller(server)
    caller.ask("GET", "/health/live")
    sizes, times = [0], [0.0]
    before, began = cpu_seconds(server.process.pid), time.monotonic()
    for number in range(seconds):
        if scrapes:
            asked = time.monotonic()
            sizes.append(len(caller.ask("GET", "/metrics")))
            times.append(time.monotonic() - asked)
        time.sleep(max(0, began + number + 1 - time.monotonic()))
    return cpu_seconds(server.process.pid) - before, max(sizes), statistics.median(times)


def measure(rows, count, options):
    shutil.rmtree(WORK, ignore_errors=True)
    with Server(WORK, http=True) as server:
        server.start()
        fill(server, count)
        for _ in range(options.runs):
            quiet, _, _ = spend(server, options.seconds, scrapes=False)
            scraped, size, took = spend(server, options.seconds, scrapes=True)
            rows.add(f"{count} cost", (scraped - quiet) / options.seconds)
            rows.add(f"{count} quiet", quiet / options.seconds)
            rows.add(f"{count} took", took)
        series = sum(1 for line in Caller(server).ask("GET", "/metrics").decode().splitlines() if not line.startswith("#"))
        server.stop()
    shutil.rmtree(WORK, ignore_errors=True)
    rows.row(f"{count:,}", f"{rows.median(f'{count} cost') * 100:.2f} %",
             f"{rows.median(f'{count} took') * 1000:.0f} ms | {series:,} | {size / 1e6:.2f} MB | {rows.median(f'{count} quiet') * 100:.2f} %")


def report(rows, options):
    return "\n".join([
        "# What being scraped costs", "",
        f"Measured on {datetime.date.today().isoformat()} on {bench.machine()}. Load average at the end: {os.getloadavg()[0]:.1f}.",
        f"Command: `make bench-scrape RUNS={options.runs} SECONDS={options.seconds}`; the median of {options.runs} runs of {options.seconds} s,",
        "in which `/metrics` is asked for once a second.", "",
        "Each queue has had three messages, of which one was delivered. The cost is the processor time of the whole server, as a share of one",
        "core, less that of as long a time in which nobody asks.", "",
        "| Queues | Cost | An answer takes | Series | Its size | The server without |", "|---|---|---|---|---|---|",
        *(f"| {what} | {value} | {beside} |" for what, value, beside in rows.rows), "",
    ])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queues", type=int, nargs="*", default=[0, 1000, 10000])
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows = bench.Rows()
    for count in options.queues:
        measure(rows, count, options)
    text = report(rows, options)
    bench.put(text, options.write)


if __name__ == "__main__":
    main()
