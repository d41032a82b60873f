"""Measures the release binary beside librdkafka's own mock cluster and the device's flush, and writes a table.

    run.py [--runs 5] [--write docs/benchmarks.md] [--only NAME …] [--quick]

Server runs and reference runs alternate, so that both see the same machine; what is reported are medians and the ratio of
medians. Every server run starts on empty data. Without --write the table goes to standard output.
"""

import argparse
import datetime
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "Tests" / "harness"))

from millrace_tests import wire  # noqa: E402
from millrace_tests.server import BINARY, ROOT, Server  # noqa: E402

TOOLS = ROOT / ".build" / "bench"
WORK = ROOT / ".build" / "bench-data"


def tool(name, *arguments):
    """Runs a driver and returns the figures it prints."""
    return figures(TOOLS / name, *arguments)


def figures(program, *arguments, timeout=600):
    """Runs a program and returns what stands as JSON in its last line."""
    done = subprocess.run([str(program), *map(str, arguments)], capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise SystemExit(f"{program} {' '.join(map(str, arguments))} failed: {done.stderr}{done.stdout}")
    return json.loads(done.stdout.splitlines()[-1])


class Fresh:
    """A started server on empty data, with the topic `bench`."""

    def __init__(self, partitions=1):
        self.partitions = partitions

    def __enter__(self):
        shutil.rmtree(WORK, ignore_errors=True)
        self.server = Server(WORK).start()
        with wire.Wire(self.server) as connection:
            error = wire.create_topic(connection, "bench", self.partitions)
            if error:
                raise SystemExit(f"making the topic answered error {error}")
        return self.server

    def __exit__(self, *_):
        self.server.close()
        shutil.rmtree(WORK, ignore_errors=True)


class Rows:
    """Collects samples by name; a row of the table is made from their medians."""

    def __init__(self):
        self.samples = {}
        self.rows = []

    def add(self, name, value):
        self.samples.setdefault(name, []).append(value)

    def median(self, name):
        return statistics.median(self.samples[name])

    def row(self, what, value, beside=""):
        self.rows.append((what, value, beside))
        print(f"{what}: {value}{' (' + beside + ')' if beside else ''}", flush=True)


def put(text, path):
    """Writes a page, or prints it where no path is given."""
    if path:
        path.write_text(text)
        print(f"written to {path}")
    else:
        print(text)


def measure_start(rows, runs, quick):
    """Time to the ready line and resident memory at rest, on empty data."""
    del quick
    for _ in range(runs):
        with Fresh() as server:
            rows.add("ready", server.ready_after_seconds * 1e3)
            time.sleep(1)
            rows.add("idle", server.resident_bytes() / (1 << 20))
    rows.row("start on empty data to the ready line", f"{rows.median('ready'):.1f} ms")
    rows.row("idle, resident", f"{rows.median('idle'):.1f} MiB")
    stripped = WORK.parent / "millrace.stripped"
    subprocess.run(["strip", "-o", str(stripped), str(BINARY)], check=True)
    rows.row("static binary, stripped", f"{stripped.stat().st_size / 1e6:.1f} MB")
    stripped.unlink()


def measure_produce(rows, runs, quick):
    """librdkafka as fast as it goes, acks=all, then the same topic consumed."""
    for size, count in ((100, 5_000_000), (1000, 2_200_000)):
        count //= 10 if quick else 1
        name = f"{size} B"
        for _ in range(runs):
            device(rows)
            with Fresh() as server:
                cpu = server.cpu_seconds()
                got = tool("librdkafka_bench", "produce", "--bootstrap", server.bootstrap, "--topic", "bench",
                           "--count", count, "--size", size)
                rows.add(f"produce {name}", got["per_second"])
                rows.add(f"produce cpu {name}", server.cpu_seconds() - cpu)
                cpu = server.cpu_seconds()
                got = tool("librdkafka_bench", "consume", "--bootstrap", server.bootstrap, "--topic", "bench",
                           "--count", count)
                rows.add(f"consume {name}", got["per_second"])
                rows.add(f"consume cpu {name}", server.cpu_seconds() - cpu)
                rows.add(f"resident after {name}", server.resident_bytes() / (1 << 20))
            got = tool("librdkafka_bench", "produce", "--bootstrap", "mock", "--topic", "bench", "--count", count,
                       "--size", size)
            rows.add(f"mock {name}", got["per_second"])
        ours, mock = rows.median(f"produce {name}"), rows.median(f"mock {name}")
        rows.row(f"produce {name}, acks=all, fsync", f"{ours / 1e6:.2f} M msg/s",
                 f"{ours / mock:.0%} of the mock cluster's {mock / 1e6:.2f} M")
        millions, gigabytes = count / 1e6, count * size / 1e9
        cpu = rows.median(f"produce cpu {name}")
        rows.row(f"server cost of producing {name}", f"{cpu / millions:.3f} CPU-s per million",
                 f"{cpu / gigabytes:.2f} CPU-s per GB")
        cpu = rows.median(f"consume cpu {name}")
        rows.row(f"consume {name}", f"{rows.median(f'consume {name}') / 1e6:.2f} M msg/s",
                 f"server {cpu / gigabytes:.2f} CPU-s per GB")
        rows.row(f"resident after {name}", f"{rows.median(f'resident after {name}'):.0f} MiB")
    # 1 KB: four times what the journal holds (8 files of 64 MiB), so it drains while it is written: each byte twice.
    rows.row("device, 256 KiB writes one at a time", f"{rows.median('device'):.0f} MB/s",
             f"sustained at 1 KB: {rows.median('produce 1000 B') * 1000 / 1e6:.0f} MB/s of records, written twice")


def measure_partitions(rows, runs, quick):
    """The same records to one partition and to 1,000, and memory and start with 100,000 that are idle."""
    for size, count in ((100, 3_000_000), (1000, 1_000_000)):
        count //= 10 if quick else 1
        for _ in range(runs):
            for partitions in (1, 1000):
                with Fresh(partitions) as server:
                    got = tool("librdkafka_bench", "produce", "--bootstrap", server.bootstrap, "--topic", "bench",
                               "--count", count, "--size", size, "--partitions", partitions)
                    rows.add(f"{partitions} partitions {size}", got["per_second"])
        one, many = rows.median(f"1 partitions {size}"), rows.median(f"1000 partitions {size}")
        rows.row(f"produce {size} B to 1,000 partitions", f"{many / 1e6:.2f} M msg/s",
                 f"{many / one:.0%} of one partition's")
    with Fresh() as server:
        with wire.Wire(server) as connection:
            for number in range(1 if quick else 10):
                error = wire.create_topic(connection, f"idle-{number}", 10_000)
                if error:
                    raise SystemExit(f"making an idle topic answered error {error}")
        resident = server.resident_bytes() / (1 << 20)
        server.stop()
        server.start()
        rows.row("100,000 idle partitions", f"{server.resident_bytes() / (1 << 20):.0f} MiB resident after a start",
                 f"ready after {server.ready_after_seconds:.2f} s; {resident:.0f} MiB after they were made")


def measure_latency(rows, runs, quick):
    """Open loop at 10,000 records/s of 100 B, linger 0, beside the flush probe."""
    seconds = 2 if quick else 8
    for _ in range(runs):
        probe(rows)
        with Fresh() as server:
            got = tool("librdkafka_bench", "paced", "--bootstrap", server.bootstrap, "--topic", "bench",
                       "--rate", 10_000, "--seconds", seconds)
        rows.add("paced p50", got["p50_ms"])
        rows.add("paced p99", got["p99_ms"])
        got = tool("librdkafka_bench", "paced", "--bootstrap", "mock", "--topic", "bench", "--rate", 10_000,
                   "--seconds", seconds)
        rows.add("mock p50", got["p50_ms"])
        rows.add("mock p99", got["p99_ms"])
    for percentile in ("p50", "p99"):
        ours, flush = rows.median(f"paced {percentile}"), rows.median(f"probe {percentile}")
        rows.row(f"acknowledgement at 10,000 records/s, {percentile}", f"{ours:.2f} ms",
                 f"{ours - flush:+.2f} ms over a flush ({flush:.2f} ms); mock, no disk: "
                 f"{rows.median(f'mock {percentile}'):.2f} ms")


def device(rows):
    got = tool("flush_probe", "--file", ROOT / ".build" / "flush-probe", "--mode", "direct", "--size", 256 << 10,
               "--count", 1000, "--megabytes", 64)
    rows.add("device", got["per_second"] * (256 << 10) / 1e6)


def probe(rows):
    got = tool("flush_probe", "--file", ROOT / ".build" / "flush-probe", "--mode", "fdatasync", "--count", 1000)
    rows.add("probe p50", got["p50_ms"])
    rows.add("probe p99", got["p99_ms"])
    rows.add("probe rate", got["per_second"])


def measure_window(rows, runs, quick):
    """One and 64 records in flight on one raw connection, beside the flush probe."""
    for _ in range(runs):
        probe(rows)
        with Fresh() as server:
            for window in (1, 64):
                got = tool("raw_produce", "--host", server.host, "--port", server.port, "--topic", "bench",
                           "--window", window, "--seconds", 1 if quick else 3)
                rows.add(f"window {window}", got["per_second"])
                rows.add(f"window {window} p50", got["p50_ms"])
    one, many = rows.median("window 1"), rows.median("window 64")
    flushes = rows.median("probe rate")
    rows.row("one record in flight", f"{one:,.0f} records/s",
             f"p50 {rows.median('window 1 p50'):.3f} ms; a record takes {flushes / one:.2f} flushes")
    rows.row("64 records in flight", f"{many:,.0f} records/s", f"{many / one:.1f} times the rate of one")


def library(name):
    """A benchmark program of the package Benchmarks/Library, which `make bench` has built."""
    return ROOT / ".build" / "library-benchmarks" / "release" / name


def measure_words(rows, runs, quick):
    """The word count of real text: from the log, and the engine alone."""
    megabytes = 20 if quick else 200
    got = figures(library("LogWordCountBenchmark"), runs, megabytes, WORK.parent / "bench-words")
    rows.row("word count from the log", f"{got['per_core'] / 1e6:.2f} M words/s per core",
             f"{got['per_second'] / 1e6:.2f} M words/s by the clock; processor time of the whole process, broker included")
    got = figures(ROOT / ".build" / "release" / "WordCountBenchmark", megabytes, runs)
    rows.row("word count, batches in memory", f"{got['per_core'] / 1e6:.2f} M words/s per core", "the job's thread alone")


def measure_fusion(rows, runs, quick):
    """A user's closures through the library's operators, across the border of the package."""
    del quick
    got = figures(library("FusionBenchmark"), runs)
    rows.row("nine maps and filters of a user's package", f"{got['chain_ns']:.1f} ns a record",
             f"{got['hand_ns']:.1f} ns written by hand in one closure; arithmetic alone {got['array_ns']:.1f} ns")


def measure_queue(rows, runs, quick):
    """The in-process queue beside what people write by hand."""
    del quick
    got = figures(library("QueueBenchmark"), runs)
    for name, rate in got.items():
        rows.row(name, f"{rate:.1f} M values/s", "16 bytes each")


MEASUREMENTS = {"start": measure_start, "produce": measure_produce, "partitions": measure_partitions,
                "latency": measure_latency, "window": measure_window, "words": measure_words, "fusion": measure_fusion,
                "queue": measure_queue}


def machine():
    model = next((line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
                  if line.startswith("model name")), platform.machine())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    return f"{os.cpu_count()} × {model}, {memory:.0f} GiB, Linux {'.'.join(platform.release().split('.')[:2])}"


def report(rows, options):
    version = tool("librdkafka_bench", "produce", "--bootstrap", "mock", "--count", 1)["librdkafka"]
    load = os.getloadavg()[0]
    lines = [
        "# Benchmarks", "",
        f"Measured on {datetime.date.today().isoformat()} on {machine()}; client: librdkafka {version}, on the same "
        f"machine. Load average at the end: {load:.1f}.",
        f"Command: `make bench RUNS={options.runs}`. Each figure is the median of {options.runs} runs; server runs and",
        "reference runs alternate. Absolute figures drift with the machine, the comparisons in the last column less so.",
        "The mock cluster is librdkafka's own (`test.mock.num.brokers`), in the client's process and without a disk: it",
        "shows what the client can reach at most. The flush probe overwrites 4 KiB of a pre-written file, `fdatasync`.",
        "", "| What | Measured | Beside |", "|---|---|---|",
        *(f"| {what} | {value} | {beside} |" for what, value, beside in rows.rows), "",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to try the driver")
    options = parser.parse_args()
    rows = Rows()
    for name in options.only:
        MEASUREMENTS[name](rows, options.runs, options.quick)
    text = report(rows, options)
    put(text, options.write)


if __name__ == "__main__":
    main()
