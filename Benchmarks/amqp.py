"""Measures Millrace's AMQP 0-9-1 beside Debian's rabbitmq-server, with one client against both, and writes a table.

    amqp.py [--runs 3] [--write docs/benchmarks-amqp.md] [--only NAME …] [--quick]

A round starts both servers on empty data and free ports and gives every case to one server after the other, so that both see
the same machine; what is reported are medians of the rounds and ratios of medians. The client is Benchmarks/amqp/amqp_bench.c:
librabbitmq as it is, and prepared frames where librabbitmq itself would be what is measured. It fails when a message is
missing, double or out of order. Memory is measured once, by what it takes to fill it. Without --write the table goes to standard output.
"""

import argparse
import contextlib
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from run import TOOLS, Rows, figures, library, machine, put  # noqa: E402

from millrace_tests.rabbitmq import RabbitMQ  # noqa: E402
from millrace_tests.server import ROOT, Server  # noqa: E402

CLIENT = TOOLS / "amqp_bench"
WORK = ROOT / ".build" / "bench-amqp"
MIB = 1 << 20
# What a durable queue is published to and consumed from with: the window is the task's, the prefetch leaves room for a round trip.
DURABLE = {"durable": 1, "window": 200, "prefetch": 400}


class Peer:
    """A running server of either kind, measured from outside."""

    def __init__(self, name, server, pid, host, port):
        self.name, self.server, self.pid, self.host, self.port = name, server, pid, host, port
        self.made = 0

    def client(self, command, **options):
        words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        return [str(CLIENT), command, "--host", self.host, "--port", str(self.port), *words]

    def run(self, command, **options):
        """Runs the client; its figures, and the server's processor time as `server_cpu`."""
        before = self.cpu_seconds()
        got = figures(*self.client(command, **options))
        return {**got, "server_cpu": self.cpu_seconds() - before}

    def queue(self, durable=0, type=""):
        """A new queue's name."""
        self.made += 1
        name = f"bench.{self.made}"
        self.run("declare", queue=name, durable=durable, **({"type": type} if type else {}))
        return name

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self):
        """Resident MiB as a whole, and without what the kernel can take from files again."""
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if ":" in line)
        return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "RssAnon"))


@contextlib.contextmanager
def millrace():
    shutil.rmtree(WORK / "millrace", ignore_errors=True)
    server = Server(WORK / "millrace", amqp=True)
    try:
        server.start(timeout_seconds=120)
        yield Peer("Millrace", server, server.process.pid, server.amqp_host, server.amqp_port)
    finally:
        server.close()
        shutil.rmtree(WORK / "millrace", ignore_errors=True)


@contextlib.contextmanager
def rabbitmq():
    shutil.rmtree(WORK / "rabbitmq", ignore_errors=True)
    server = RabbitMQ(WORK / "rabbitmq")
    try:
        server.start(timeout_seconds=300)
        yield Peer("RabbitMQ", server, server.process.pid, server.host, server.port)
    finally:
        server.close()
        shutil.rmtree(WORK / "rabbitmq", ignore_errors=True)


def say(text):
    print(f"  {text}", flush=True)


# The queues of a case: who, the name in the samples, and how the queue is declared.
KINDS = {
    "transient": [("millrace", "Millrace", {}), ("rabbitmq", "RabbitMQ", {})],
    "durable": [("millrace", "Millrace", {"durable": 1}), ("rabbitmq", "RabbitMQ classic", {"durable": 1}),
                ("rabbitmq", "RabbitMQ quorum", {"durable": 1, "type": "quorum"})],
}
OPTIONS = {"transient": {}, "durable": DURABLE}


def measure_rounds(rows, runs, quick):
    """Rates and latencies, a round at a time."""
    seconds = 1 if quick else 4
    for number in range(runs):
        with millrace() as ours, rabbitmq() as theirs:
            peers = {"millrace": ours, "rabbitmq": theirs}
            for case, kinds in KINDS.items():
                for via in ("library", "raw"):
                    for who, name, declared in kinds:
                        peer = peers[who]
                        got = peer.run("flow", queue=peer.queue(**declared), seconds=seconds, via=via, **OPTIONS[case])
                        key = f"{case} {via} {name}"
                        rows.add(key, got["per_second"])
                        rows.add(f"{key} cpu", got["server_cpu"] / got["count"] * 1e6)
                        rows.add(f"{key} client", max(got["producing_cpu"], got["consuming_cpu"]) / got["seconds"])
                        say(f"round {number + 1}: {key}: {got['per_second']:,.0f} msg/s, server "
                            f"{got['server_cpu'] / got['count'] * 1e6:.2f} CPU-µs a message")
                for who, name, declared in kinds:
                    peer = peers[who]
                    got = peer.run("paced", queue=peer.queue(**declared), seconds=seconds, rate=10_000, **OPTIONS[case])
                    for percentile in ("p50", "p99"):
                        rows.add(f"{case} {percentile} {name}", got[f"{percentile}_ms"])
                    say(f"round {number + 1}: {case} paced {name}: p50 {got['p50_ms']:.2f}, p99 {got['p99_ms']:.2f} ms")
    titles = {"transient": "transient, automatic acknowledgement, 16 B", "durable": "durable, window 200, fsync, 16 B"}
    vias = {"library": "librabbitmq", "raw": "prepared frames"}
    for case, kinds in KINDS.items():
        others = [name for _, name, _ in kinds[1:]]
        for via in ("library", "raw"):
            key = f"{case} {via}"
            ours = rows.median(f"{key} Millrace")
            best = max(rows.median(f"{key} {name}") for name in others)
            rows.row(f"{titles[case]}, {vias[via]}", f"{ours:,.0f} msg/s",
                     "; ".join(f"{name} {rows.median(f'{key} {name}'):,.0f}" for name in others)
                     + f"; **{ours / best:.1f} times** the better")
            ours = rows.median(f"{key} Millrace cpu")
            least = min(rows.median(f"{key} {name} cpu") for name in others)
            rows.row("– server, CPU-µs a message", f"{ours:.2f}",
                     "; ".join(f"{name} {rows.median(f'{key} {name} cpu'):.1f}" for name in others)
                     + f"; a {least / ours:.1f}th of the least; the client's busier thread {rows.median(f'{key} Millrace client'):.0%} of a core")
    for case, kinds in KINDS.items():
        for percentile in ("p50", "p99"):
            ours = rows.median(f"{case} {percentile} Millrace")
            best = min(rows.median(f"{case} {percentile} {name}") for _, name, _ in kinds[1:])
            rows.row(f"{case}: publish to deliver at 10,000/s, {percentile}", f"{ours:.2f} ms",
                     "; ".join(f"{name} {rows.median(f'{case} {percentile} {name}'):.2f}" for _, name, _ in kinds[1:])
                     + f"; {ours / best:.2f} of the best")


def size(memory, before=(0, 0)):
    return f"{memory[0] - before[0]:.0f} MiB ({memory[1] - before[1]:.0f} anonymous)"


def backlog(rows, peer, count, short, **declared):
    """A backlog: memory, and the rate at which it is consumed beside that of short queues."""
    more = {"durable": declared.get("durable", 0), "via": "raw", "limit": 500}
    window = {"window": 5000} if declared else {}
    rates = []
    for _ in range(5):
        queue = peer.queue(**declared)
        peer.run("fill", queue=queue, count=short, **window, **more)
        rates.append(peer.run("drain", queue=queue, count=short, prefetch=2000, **more)["per_second"])
    queue = peer.queue(**declared)
    got = peer.run("fill", queue=queue, count=count, **window, **more)
    full = peer.memory()
    # Millrace gives memory back after five to ten seconds without a commit.
    time.sleep(12)
    memory = peer.memory()
    drained = peer.run("drain", queue=queue, count=count, prefetch=2000, **more)
    rates.sort()
    what = f"{peer.name}: {count / 1e6:g} M messages in {'a durable' if declared else 'a transient'} queue"
    rows.row(what, f"{size(memory)} resident at rest",
             f"{size(full)} at the end of publishing, at {got['per_second']:,.0f}/s; {size(peer.memory())} once all is consumed")
    rows.row("– consumed, prefetch 2,000", f"{drained['per_second']:,.0f} msg/s",
             f"{drained['per_second'] / rates[2]:.2f} of the rate from queues of {short:,}, {rates[2]:,.0f} msg/s; server "
             f"{drained['server_cpu'] / count * 1e6:.2f} CPU-µs a message")


def measure_backlog(rows, runs, quick):
    """Many messages in one queue."""
    del runs
    part = 10 if quick else 1
    with millrace() as ours:
        backlog(rows, ours, 10_000_000 // part, 200_000 // part, durable=1)
    with millrace() as ours:
        backlog(rows, ours, 1_000_000 // part, 200_000 // part)
    with rabbitmq() as theirs:
        backlog(rows, theirs, 1_000_000 // part, 200_000 // part, durable=1)


@contextlib.contextmanager
def told(peer, command, **options):
    """A client that waits to be told to go on: the figures of its first line, and how to tell it."""
    process = subprocess.Popen(peer.client(command, **options), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line():
        text = process.stdout.readline()
        if not text:
            raise SystemExit(f"{command} against {peer.name} failed with {process.wait()}")
        return json.loads(text)

    def go_on():
        process.stdin.write("\n")
        process.stdin.flush()

    try:
        yield line, go_on
        if process.wait(300) != 0:
            raise SystemExit(f"{command} against {peer.name} failed with {process.returncode}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def measure_flood(rows, runs, quick):
    """A publisher without a consumer, on a transient queue, for a while or until it is held; then everything is consumed."""
    del runs, quick
    with millrace() as ours:
        with told(ours, "flood", queue=ours.queue(), via="raw", limit=300, seconds=10) as (line, go_on):
            got = line()
            memory = ours.memory()
            go_on()
            drained = line()
        held = "told connection.blocked and held" if got["is_stalled"] else "not held, as the disk takes what memory has no room for,"
        rows.row("a publisher without a consumer, transient", f"{size(memory)} resident",
                 f"{held} after {got['count'] / 1e6:.2f} M messages of 16 B in {got['seconds']:.1f} s; "
                 f"all {drained['count'] / 1e6:.2f} M consumed afterwards, in order")


def measure_connections(rows, runs, quick):
    """Idle connections, with a channel each, and queues."""
    del runs
    count = 1_000 if quick else 10_000
    for start in (millrace, rabbitmq):
        with start() as peer:
            before = peer.memory()
            with told(peer, "connections", count=count, limit=500) as (line, go_on):
                got = line()
                time.sleep(1)
                cpu = peer.cpu_seconds()
                time.sleep(2)
                cpu = (peer.cpu_seconds() - cpu) / 2
                memory = peer.memory()
                go_on()
            rows.row(f"{peer.name}: {count:,} idle connections, a channel each", f"+{size(memory, before)}",
                     f"{(memory[0] - before[0]) * 1024 / count:.1f} KiB each; opened in {got['seconds']:.1f} s; {cpu:.1%} of a core while idle")
    for start, durable in ((millrace, 0), (millrace, 1), (rabbitmq, 0)):
        with start() as peer:
            before = peer.memory()
            got = peer.run("queues", count=count, durable=durable, limit=500)
            time.sleep(1)
            memory = peer.memory()
            rows.row(f"{peer.name}: {count:,} {'durable' if durable else 'transient'} queues", f"+{size(memory, before)}",
                     f"{(memory[0] - before[0]) * 1024 / count:.1f} KiB each; declared one by one in {got['seconds']:.1f} s")


def measure_library(rows, runs, quick):
    """The in-process Queue of the library."""
    for name, rate in figures(library("BrokerQueueBenchmark"), 1 if quick else runs).items():
        rows.row(f"library, `Queue`: {name}", f"{rate:.2f} M msg/s", "16 B; in one process, without AMQP")


MEASUREMENTS = {"rounds": measure_rounds, "backlog": measure_backlog, "flood": measure_flood,
                "connections": measure_connections, "library": measure_library}


def versions():
    rabbit = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", "rabbitmq-server"], capture_output=True, text=True).stdout
    library_version = subprocess.run(["pkg-config", "--modversion", "librabbitmq"], capture_output=True, text=True).stdout.strip()
    return rabbit or "unknown", library_version or "unknown"


def report(rows, options):
    rabbit, librabbitmq = versions()
    lines = [
        "# AMQP 0-9-1 beside RabbitMQ", "",
        f"Measured on {datetime.date.today().isoformat()} on {machine()}; rabbitmq-server {rabbit}, client librabbitmq "
        f"{librabbitmq}, all on the same machine. Load average at the end: {os.getloadavg()[0]:.1f}.",
        f"Command: `make bench-amqp RUNS={options.runs}`. Rates, latencies and the library's figures are medians of {options.runs} runs, in which",
        "the servers take turns with each case; memory is measured once. One queue, one producer and one consumer, each a thread with a",
        "connection of its own; every message carries a number, and one that is missing, double or out of order fails the run.", "",
        "- *librabbitmq* is Debian's client library as it is: three system calls for each publication. *Prepared frames* are the same",
        "  frames on the same connection, up to 256 publications in one write, and received without the library: where librabbitmq's thread",
        "  is busy all the time, it is what is measured, and the second figure shows what the server does. The servers' processor time",
        "  does not depend on that.",
        "- Transient: queue and messages not durable, no confirms, automatic acknowledgement. Durable: queue and messages durable, 200",
        "  publications unconfirmed at most, 400 deliveries unacknowledged at most, acknowledged by hundreds. Millrace confirms after a flush.",
        "  RabbitMQ's classic queue confirms what is consumed and acknowledged before it is written without writing it.",
        "- Latency: open loop, 10,000 messages of 16 B a second by librabbitmq, from when a message was due to its delivery.",
        "- RabbitMQ runs with its defaults: two schedulers, no busy waiting.", "",
        "| What | Measured | Beside |", "|---|---|---|",
        *(f"| {what} | {value} | {beside} |" for what, value, beside in rows.rows), "",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--only", nargs="*", choices=MEASUREMENTS, default=list(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="a part of the work, to try the driver")
    options = parser.parse_args()
    if not RabbitMQ.installed():
        raise SystemExit("rabbitmq-server is not installed; `Scripts/setup amqp-bench` does that")
    rows = Rows()
    for name in options.only:
        MEASUREMENTS[name](rows, options.runs, options.quick)
    shutil.rmtree(WORK, ignore_errors=True)
    text = report(rows, options)
    put(text, options.write)


if __name__ == "__main__":
    main()
