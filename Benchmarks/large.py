"""Measures what takes minutes and much disk: a long load, a large directory, readers far behind, compaction.

    large.py [--minutes 10] [--rate 80000] [--updates 100000000] [--keys 1000000] [--only NAME …] [--write FILE]

`load` writes records of 1 KB at a steady rate and keeps what it wrote; `start` and `behind` use that and so need it. The others
begin on empty data. With the defaults it takes 50 GB of disk. Reference runs alternate with the runs they stand beside.
"""

import argparse
import datetime
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import TOOLS, Rows, figures, machine, tool, wire  # noqa: E402

from millrace_tests.server import ROOT, Server  # noqa: E402

WORK = ROOT / ".build" / "bench-large"
SIZE = 1000


def produce(server, topic, count, size=SIZE, **more):
    options = [word for name, value in more.items() for word in (f"--{name}", value)]
    return tool("librdkafka_bench", "produce", "--bootstrap", server.bootstrap, "--topic", topic, "--count", count, "--size",
                size, *options)


def consume(server, topic, count, partitions=1):
    return tool("librdkafka_bench", "consume", "--bootstrap", server.bootstrap, "--topic", topic, "--count", count,
                "--partitions", partitions)


def make_topic(server, name, partitions=1, configs=None):
    with wire.Wire(server) as connection:
        error = wire.create_topic(connection, name, partitions, configs=list((configs or {}).items()))
        if error:
            raise SystemExit(f"making {name} answered error {error}")


def stored(server):
    """Bytes that segments take on disk."""
    total = 0
    for file in (server.data / "segments").iterdir():
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            pass  # given back meanwhile
    return total


def settled(server, seconds=20):
    """Waits until what segments take has not changed for a while; returns it."""
    last, since = stored(server), time.monotonic()
    while time.monotonic() - since < seconds:
        time.sleep(1)
        now = stored(server)
        if now != last:
            last, since = now, time.monotonic()
    return last


def measure_load(rows, server, options):
    """1 KB at a steady rate for minutes: how long acknowledgements take at worst."""
    make_topic(server, "large")
    cpu = server.cpu_seconds()
    got = figures(TOOLS / "librdkafka_bench", "paced", "--bootstrap", server.bootstrap, "--topic", "large", "--rate",
                  options.rate, "--seconds", options.minutes * 60, "--size", SIZE, "--linger", 5,
                  timeout=options.minutes * 60 + 300)
    rows.row(f"{options.rate:,} records/s of 1 KB for {options.minutes} minutes",
             f"p50 {got['p50_ms']:.1f}, p99 {got['p99_ms']:.1f}, p99.9 {got['p999_ms']:.1f}, longest {got['max_ms']:.0f} ms",
             f"linger 5 ms; server {(server.cpu_seconds() - cpu) / (options.minutes * 60):.2f} cores, "
             f"{server.resident_bytes() / (1 << 20):.0f} MiB resident")


def measure_start(rows, server, options):
    """Kill -9 and start on all that."""
    size = stored(server)
    for _ in range(3):
        server.kill()
        server.start()
        rows.add("large start", server.ready_after_seconds)
    rows.row(f"start after kill -9 with {size / 1e9:.0f} GB", f"ready after {rows.median('large start'):.2f} s",
             f"{server.resident_bytes() / (1 << 20):.0f} MiB resident")


def measure_behind(rows, server, options):
    """Writers alone, and beside a reader that goes through old records."""
    make_topic(server, "busy")
    reading = [str(TOOLS / "librdkafka_bench"), "consume", "--bootstrap", server.bootstrap, "--topic", "large", "--count",
               str(options.minutes * 60 * options.rate)]
    writing = ["paced", "--bootstrap", server.bootstrap, "--topic", "busy", "--rate", 50_000, "--seconds", 10, "--size", SIZE,
               "--linger", 5]
    for _ in range(3):
        rows.add("alone", produce(server, "busy", 2_000_000)["per_second"])
        rows.add("alone p99", tool("librdkafka_bench", *writing)["p99_ms"])
        reader = subprocess.Popen(reading, stdout=subprocess.DEVNULL)
        try:
            time.sleep(1)
            rows.add("beside", produce(server, "busy", 2_000_000)["per_second"])
            rows.add("beside p99", tool("librdkafka_bench", *writing)["p99_ms"])
            if reader.poll() is not None:
                raise SystemExit("the reader ended before the writer")
        finally:
            reader.kill()
            reader.wait()
    alone, beside = rows.median("alone"), rows.median("beside")
    rows.row("produce 1 KB beside a reader of old records", f"{beside / 1e6:.2f} M msg/s",
             f"{beside / alone:.0%} of {alone / 1e6:.2f} M without it; both clients share the processor with the server")
    rows.row("50,000 records/s of 1 KB beside that reader, p99", f"{rows.median('beside p99'):.1f} ms",
             f"{rows.median('alone p99'):.1f} ms without it")


def measure_cold(rows, server, options):
    """The same records from memory and from segments."""
    count = 55_000  # what fits into the hot tail of 64 MiB
    for number in range(9):
        name = f"hot-{number}"
        make_topic(server, name)
        produce(server, name, count)
        rows.add("hot", consume(server, name, count)["per_second"])
    server.stop()
    server.start()
    settled(server, 3)
    for number in range(9):
        rows.add("cold", consume(server, f"hot-{number}", count)["per_second"])
    hot, cold = rows.median("hot"), rows.median("cold")
    rows.row("consume 1 KB from segments", f"{cold / 1e6:.2f} M msg/s", f"{cold / hot:.0%} of {hot / 1e6:.2f} M from memory")


def measure_mock(rows, server, options):
    """The same client against its own mock cluster: 200 partitions of 5 MB, since it keeps no more of each."""
    for size, count in ((100, 5_000_000), (1000, 800_000)):
        make_topic(server, f"wide-{size}", 200)
        produce(server, f"wide-{size}", count, size, partitions=200)
        for _ in range(5):
            cpu = server.cpu_seconds()
            rows.add(f"ours {size}", consume(server, f"wide-{size}", count, 200)["per_second"])
            rows.add(f"cpu {size}", server.cpu_seconds() - cpu)
            got = tool("librdkafka_bench", "consume", "--bootstrap", "mock", "--count", count, "--size", size, "--partitions", 200)
            rows.add(f"mock {size}", got["per_second"])
        ours, mock = rows.median(f"ours {size}"), rows.median(f"mock {size}")
        rows.row(f"consume {size} B from 200 partitions", f"{ours / 1e6:.2f} M msg/s",
                 f"{ours / mock:.0%} of the mock cluster's {mock / 1e6:.2f} M; "
                 f"server {rows.median(f'cpu {size}') / (count * size / 1e9):.2f} CPU-s per GB")


def measure_compaction(rows, server, options):
    """Many updates of few keys: what stays on disk."""
    make_topic(server, "table", configs={"cleanup.policy": "compact"})
    size = 100
    cpu, began, most = server.cpu_seconds(), time.monotonic(), 0
    left = options.updates
    while left > 0:
        part = min(left, 5_000_000)
        produce(server, "table", part, size, keys=options.keys)
        left -= part
        most = max(most, stored(server))
    produced = time.monotonic() - began
    # A pass over all of it is paced (log.cleaner.io.max.bytes.per.second) and changes nothing until it has read everything.
    pause = 400
    kept = settled(server, pause)
    live = options.keys * (size + 8 + 8)
    rows.row(f"{options.updates // 1_000_000} M updates of {options.keys / 1e6:g} M keys, compacted",
             f"{kept / 1e6:.0f} MB stay on disk, {kept / live:.1f} times the live records",
             f"{most / 1e9:.1f} GB at most; written in {produced:.0f} s, compacted after {time.monotonic() - began - pause:.0f} s, "
             f"server {server.cpu_seconds() - cpu:.0f} CPU-s, {server.resident_bytes() / (1 << 20):.0f} MiB resident")


MEASUREMENTS = {"load": measure_load, "start": measure_start, "behind": measure_behind, "cold": measure_cold,
                "mock": measure_mock, "compaction": measure_compaction}


def fresh(server):
    """A started server on empty data."""
    if server is not None:
        server.close()
    shutil.rmtree(WORK, ignore_errors=True)
    return Server(WORK, arguments=["--set", "log.cleaner.backoff.ms=2000"]).start()


def report(rows):
    return "\n".join([
        "# Large benchmarks", "",
        f"Measured on {datetime.date.today().isoformat()} on {machine()}, client and server on the same machine.",
        "Command: `make bench-large`. Beside [the usual benchmarks](benchmarks.md), which say what the words mean.", "",
        "| What | Measured | Beside |", "|---|---|---|",
        *(f"| {what} | {value} | {beside} |" for what, value, beside in rows.rows), "",
    ])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=10)
    parser.add_argument("--rate", type=int, default=80_000)
    parser.add_argument("--updates", type=int, default=100_000_000)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    rows = Rows()
    server = None
    try:
        for name in options.only:
            if server is None or name not in ("start", "behind"):
                server = fresh(server)
            MEASUREMENTS[name](rows, server, options)
    finally:
        if server is not None:
            server.close()
        shutil.rmtree(WORK, ignore_errors=True)
    text = report(rows)
    if options.write:
        options.write.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
