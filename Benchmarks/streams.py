"""Measures stream jobs on topics: how long a record takes through a job, and how many bids a core takes from the log; writes a table.

    streams.py [--runs 5] [--write docs/benchmarks-streams.md] [--only NAME …] [--quick]

Everything is the release binary with its standard settings. Each run starts on empty data. Without --write the table goes to
standard output.
"""

import argparse
import datetime
import os
import shutil
import subprocess
from pathlib import Path

import run as bench
from millrace_tests import wire
from millrace_tests.server import ROOT, Server, environment

WORK = ROOT / ".build" / "bench-streams"
WORKER = ROOT / ".build" / "release" / "CrashWorker"
BIDS = ROOT / ".build" / "release" / "LogBidsBenchmark"


class CountingServer:
    """A server whose own process counts words, as `millrace demo` does."""

    name = "in the server's process"

    def __enter__(self):
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        (WORK / "empty.txt").write_bytes(b"")
        self.server = Server(WORK, command="demo", arguments=["--input", WORK / "empty.txt"]).start()
        return self.server

    def __exit__(self, *_):
        self.server.close()
        shutil.rmtree(WORK, ignore_errors=True)


class CountingWorker:
    """A server, and a program of its own that counts words."""

    name = "in a worker"

    def __enter__(self):
        shutil.rmtree(WORK, ignore_errors=True)
        self.server = Server(WORK).start()
        with wire.Wire(self.server) as connection:
            for topic in ["lines", "counts"]:
                error = wire.create_topic(connection, topic, 1)
                if error:
                    raise SystemExit(f"making the topic {topic} answered error {error}")
        self.worker = subprocess.Popen([str(WORKER), str(self.server.data)], stdout=subprocess.PIPE, env=environment())
        if self.worker.stdout.readline() != b"running\n":
            raise SystemExit("the worker does not run")
        return self.server

    def __exit__(self, *_):
        self.worker.kill()
        self.worker.wait()
        self.worker.stdout.close()
        self.server.close()
        shutil.rmtree(WORK, ignore_errors=True)


def measure_latency(rows, runs, quick):
    """One record at a time through a word count, each behind a flush of the same disk."""
    hosts = [CountingServer, CountingWorker]
    for _ in range(runs):
        for host in hosts:
            with host() as server:
                got = bench.tool("job_latency", "--bootstrap", server.bootstrap, "--probe", WORK / "probe",
                                 "--count", 300 if quick else 3000)
            for what in ["flush", "acknowledged", "result"]:
                for percentile in ["p50", "p99"]:
                    rows.add(f"{host.name} {what} {percentile}", got[what][f"{percentile}_ms"])
    for host in hosts:
        for percentile in ["p50", "p99"]:
            flush, acknowledged, result = (rows.median(f"{host.name} {what} {percentile}")
                                           for what in ["flush", "acknowledged", "result"])
            rows.row(f"record to result, word count {host.name}, {percentile}", f"{result:.2f} ms",
                     f"{result - flush:+.2f} ms over a flush ({flush:.2f} ms); its acknowledgement took {acknowledged:.2f} ms")


def measure_bids(rows, runs, quick):
    """Bids as JSON from a topic in the log, through jobs in the embedding process, results exactly once to a topic."""
    got = bench.figures(BIDS, runs, 500 if quick else 4000, WORK, timeout=1200)
    for job in got["jobs"]:
        rows.row(f"bids in JSON: {job['name']}", f"{job['per_core'] / 1e6:.2f} M bids/s per core",
                 f"{job['job_per_core'] / 1e6:.2f} M/s of the job's thread alone; {job['per_second'] / 1e6:.2f} M/s by the clock; "
                 f"{job['rows']:,} records written")


MEASUREMENTS = {"latency": measure_latency, "bids": measure_bids}


def report(rows, options):
    return "\n".join([
        "# Benchmarks of stream jobs", "",
        f"Measured on {datetime.date.today().isoformat()} on {bench.machine()}. Load average at the end: {os.getloadavg()[0]:.1f}.",
        f"Command: `make bench-streams RUNS={options.runs}`. Each figure is the median of {options.runs} runs.", "",
        "Latency: librdkafka produces a record (100 B, `acks=all`, linger 0) to a topic, and the next one when it has read the job's",
        "result from another topic with `read_committed`. Both records, and the job's state between them, have been flushed by then: two",
        "flushes behind each other. Before each record the same program overwrites 4 KiB of a pre-written file on the same disk, and calls",
        "`fdatasync`.", "",
        "Bids: those of the Nexmark benchmark as JSON, 244 bytes each, in a topic of four partitions of which most is not in memory any",
        "more. Per core: by the processor time of the whole process, the broker that reads them from disk and commits included.", "",
        "| What | Measured | Beside |", "|---|---|---|",
        *(f"| {what} | {value} | {beside} |" for what, value, beside in rows.rows), "",
    ])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to try the driver")
    options = parser.parse_args()
    rows = bench.Rows()
    for name in options.only:
        MEASUREMENTS[name](rows, options.runs, options.quick)
    text = report(rows, options)
    bench.put(text, options.write)


if __name__ == "__main__":
    main()
