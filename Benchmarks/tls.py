"""Measures what TLS costs a server, with a client and the TLS layer alone, and writes a table.

    tls.py [--runs 5] [--write docs/benchmarks-tls.md] [--quick]

The client is librdkafka. One server has a listener without TLS and one with it; runs over the one and the other alternate, each over a
topic of its own, and what is reported are medians. A server's processor time is that of the whole process. Without --write the page goes
to standard output.
"""

import argparse
import datetime
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import ROOT, Rows, figures, machine, put, tool  # noqa: E402

from millrace_tests import wire  # noqa: E402
from millrace_tests.secure import Certificates, certs  # noqa: E402
from millrace_tests.server import Server  # noqa: E402

WORK = ROOT / ".build" / "bench-tls"
# What the issue allows TLS to add, in CPU-seconds per GB at 1 KB.
TARGET = 0.8


class Pair:
    """A server on empty data with both listeners, as each of which a client may call it."""

    def __enter__(self):
        shutil.rmtree(WORK, ignore_errors=True)
        self.server = Server(WORK)
        certs(WORK / "certificates", "make")
        certificates = Certificates(WORK / "certificates")
        certificate, key = certificates.pair("server")
        self.server.listeners = ["kafka://127.0.0.1:0", "kafka+tls://127.0.0.1:0?auth=none"]
        self.server.arguments = ["--tls-certificate", certificate, "--tls-key", key]
        self.server.start()
        self.options = {
            "plain": [],
            "tls": ["--properties", f"security.protocol=ssl,ssl.ca.location={certificates.ca}"],
        }
        return self

    def __exit__(self, *_):
        self.server.close()
        shutil.rmtree(WORK, ignore_errors=True)

    def topic(self, name):
        host, port = self.server.addresses["kafka"]
        with wire.Wire(SimpleNamespace(host=host, port=port)) as connection:
            error = wire.create_topic(connection, name, 1)
        if error:
            raise SystemExit(f"making a topic answered error {error}")

    def run(self, kind, mode, topic, *options):
        """A driver's figures, and the server's processor time meanwhile."""
        host, port = self.server.addresses["kafka" if kind == "plain" else "kafka+tls"]
        before = self.server.cpu_seconds()
        got = tool("librdkafka_bench", mode, "--bootstrap", f"{host}:{port}", "--topic", topic, *options, *self.options[kind])
        return {**got, "server_cpu": self.server.cpu_seconds() - before}


CASES = {
    "produced, 1 KB, as fast as it goes": ("produce", 1000, 1_000_000, []),
    "consumed, 1 KB": ("consume", 1000, 1_000_000, []),
    "produced, 100 B, as fast as it goes": ("produce", 100, 5_000_000, []),
    "consumed, 100 B": ("consume", 100, 5_000_000, []),
    "produced, 1 KB, 10,000 a second": ("paced", 1000, 80_000, ["--rate", 10_000, "--seconds", 8, "--linger", 5]),
}


def measure(rows, runs, quick):
    for number in range(runs):
        # The two take turns in beginning, and a round begins on empty data.
        for kind in ("plain", "tls") if number % 2 == 0 else ("tls", "plain"):
            with Pair() as pair:
                for name, (mode, size, count, options) in CASES.items():
                    topic = f"{'paced' if mode == 'paced' else 'whole'}-{size}"
                    if mode != "consume":
                        pair.topic(topic)
                    if quick:
                        count //= 10
                        options = [2 if word == 8 else word for word in options]
                    if mode == "paced":
                        count = 10_000 * options[3]
                    got = pair.run(kind, mode, topic, "--size", size, *(options or ["--count", count]))
                    # The figures stand on what was sent, not on what was asked for.
                    sent = (got["records"], got["bytes"] // got["records"] if mode == "consume" else got["size"])
                    assert sent == (count, size), f"{name}: {count} records of {size} bytes were meant, {sent} came of it"
                    gigabytes = count * size / 1e9
                    rows.add(f"{name} {kind}", got["server_cpu"] / gigabytes)
                    rows.add(f"{name} {kind} client", got["client_cpu_seconds"] / gigabytes)
                    rows.add(f"{name} {kind} rate", got["per_second"] * size / 1e6)


def table(rows):
    lines = ["| What a librdkafka client does | Server, CPU-seconds per GB | Over TLS | TLS adds | MB/s | Over TLS | Client, CPU-seconds per GB "
             "| Over TLS |", "|---|---|---|---|---|---|---|---|"]
    for name in CASES:
        plain, tls = rows.median(f"{name} plain"), rows.median(f"{name} tls")
        lines.append(
            f"| {name} | {plain:.2f} | {tls:.2f} | {tls - plain:.2f} | {rows.median(f'{name} plain rate'):.0f} | "
            f"{rows.median(f'{name} tls rate'):.0f} | {rows.median(f'{name} plain client'):.2f} | "
            f"{rows.median(f'{name} tls client'):.2f} |")
    return lines


def layer(runs, megabytes):
    """The TLS layer alone, as a table."""
    done = subprocess.run([str(ROOT / ".build" / "release" / "TLSBenchmark"), str(megabytes), str(runs)], capture_output=True,
                          text=True, check=True, timeout=900)
    lines = ["| Stream | Bytes a piece | CPU-seconds per GB without TLS | With TLS | TLS adds | OpenSSL alone |", "|---|---|---|---|---|---|"]
    for line in done.stdout.splitlines()[1:]:
        stream, size, plain, tls, added, alone, _ = (word.strip() for word in line.split(","))
        lines.append(f"| {stream} | {int(size):,} | {plain} | {tls} | {added} | {alone} |")
    return lines


def kept(path):
    """The part of the page that is written by hand, with a date of its own."""
    parts = path.read_text().partition("\n## Where the time goes\n") if path and path.exists() else ("", "", "")
    return "".join(parts[1:])


def page(rows, options):
    most = max(rows.median(f"{name} tls") - rows.median(f"{name} plain") for name, case in CASES.items() if case[1] == 1000)
    version = figures(ROOT / ".build" / "bench" / "librdkafka_bench", "produce", "--bootstrap", "mock", "--count", 1)["librdkafka"]
    return "\n".join([
        "# What TLS costs", "",
        f"Measured on {datetime.date.today().isoformat()} on {machine()}, load average at the end {os.getloadavg()[0]:.1f}. Command: `make bench-tls "
        f"RUNS={options.runs}`;", "medians. TLS 1.3 with AES-128-GCM, over loopback. Absolute figures drift with the machine; the difference between two columns less so.",
        "", "## With clients", "",
        f"Client: librdkafka {version}, on the same machine, one partition, acks=all. Processor time of the whole server, writing to disk included. What TLS",
        f"may add at 1 KB is {TARGET} CPU-seconds per GB; the most here is {most:.2f}.", "",
        *table(rows), "",
        "## The TLS layer alone", "",
        "One connection whose handler drops what it gets, or sends pieces from memory; the processor time is that of the server's thread.", "",
        *layer(options.runs, 64 if options.quick else 1024), "",
        "OpenSSL alone decrypts the same in memory, records of 16 KiB at most, with nothing around it: what no server that uses it can go below. A client that",
        "makes a TLS record of each small message, as librdkafka does in small requests, costs the server more than one that sends larger pieces.",
        "",
    ]) + kept(options.write)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, to try the driver")
    options = parser.parse_args()
    rows = Rows()
    measure(rows, options.runs, options.quick)
    text = page(rows, options)
    put(text, options.write)


if __name__ == "__main__":
    main()
