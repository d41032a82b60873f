"""Runs the Nexmark queries in Apache Flink and in Millrace over the same files of JSON, in turn, and writes a table.

    flink.py [--events 4000000] [--runs 5] [--write docs/benchmarks-flink.md] [--queries q0 …] [--parallelism 1 2]
             [--samples FILE] [--check]

Flink is PyFlink's, in a virtual environment of its own that `Scripts/setup flink` makes: its mini cluster, in one Java process. What
counts is processor time: of the whole Java process less that of a run over a few events, and of the whole `millrace` process. Elapsed
time is that of Flink's job and of Millrace's, without the start of either. --samples keeps what is measured in a file, for a later call
with the same number of events, which reports all of it. With --check the results of both are compared instead, over fewer events.
"""

import argparse
import datetime
import json
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import run as bench
from millrace_tests.server import BINARY, ROOT, environment

QUERIES = ["q0", "q1", "q2", "q3", "q4", "q5", "q7", "q8", "q9", "q11", "q17", "q18", "q19", "q20"]
WORK = ROOT / ".build" / "bench-flink"
PYTHON = ROOT / ".build" / "flink-venv" / "bin" / "python"
SCRIPT = ROOT / "Benchmarks" / "flink" / "run_query.py"
FEW = 1000
TOLD = re.compile(r"(?P<events>[\d,]+) events in (?P<elapsed>[\d.]+) s, .* rows handed on; processor time (?P<job>[\d.]+) s .*"
                  r" with (?:reading|making) the events (?P<all>[\d.]+) s")


def events_in(name, count, files, rate=10_000):
    """A directory with events as lines of JSON, line after line in one file after the other; so many in a second of event time."""
    directory = WORK / name
    directory.mkdir(parents=True)
    whole = WORK / f"{name}.jsonl"
    subprocess.run([str(BINARY), "nexmark", "generate", "--events", str(count), "--rate", str(rate), "--output", str(whole)], check=True,
                   stdout=subprocess.DEVNULL, env=environment())
    if files == 1:
        whole.rename(directory / "events-0.jsonl")
        return directory
    parts = [open(directory / f"events-{index}.jsonl", "wb") for index in range(files)]
    with open(whole, "rb") as lines:
        for number, line in enumerate(lines):
            parts[number % files].write(line)
    for part in parts:
        part.close()
    whole.unlink()
    return directory


def flink(query, directory, parallelism, *arguments):
    """One query in a Java process of its own."""
    done = subprocess.run([str(PYTHON), str(SCRIPT), query, str(directory), str(parallelism), *map(str, arguments)],
                          capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise SystemExit(f"{query} in Flink: {done.stderr[-4000:]}{done.stdout}")
    return json.loads(done.stdout.splitlines()[-1])


def millrace(query, arguments):
    """One query in a process of its own: its processor time, and what it says of itself, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([str(BINARY), "nexmark", query, *map(str, arguments)], capture_output=True, text=True, timeout=900,
                          env=environment())
    if done.returncode != 0:
        raise SystemExit(f"{query} in Millrace: {done.stderr}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    told = TOLD.search(done.stderr)
    return {"cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
            "elapsed": float(told["elapsed"]), "job": float(told["job"])}


def measure(options, samples):
    """Adds runs to `samples`: seconds by what they are of, by query and parallelism."""
    for parallelism in options.parallelism:
        few = events_in(f"few-{parallelism}", FEW, parallelism)
        # Millrace reads one file after the other: the same events in the order of their numbers.
        many = events_in(f"many-{parallelism}", options.events, parallelism)
        whole = many if parallelism == 1 else events_in(f"whole-{parallelism}", options.events, 1)
        for query in options.queries:
            sample = samples.setdefault(f"{query} {parallelism}", {})
            for _ in range(options.runs):
                start = flink(query, few, parallelism)
                theirs = flink(query, many, parallelism)
                ours = millrace(query, ["--input", whole, "--workers", parallelism])
                encoded = millrace(query, ["--events", options.events, "--workers", parallelism, "--prepared"])
                for name, value in {"start": start["cpu"], "flink": theirs["cpu"], "flink elapsed": theirs["elapsed"],
                                    "json": ours["cpu"], "json elapsed": ours["elapsed"], "encoded": encoded["job"]}.items():
                    sample.setdefault(name, []).append(value)
            one = figures(sample, options.events)
            print(f"{query}, parallelism {parallelism}: Flink {one['flink']:.1f} CPU-s, of which start {one['start']:.1f}: "
                  f"{one['theirs']:.3f} M/CPU-s, {one['flink elapsed']:.1f} s; Millrace {one['json']:.2f} CPU-s: "
                  f"{one['ours']:.2f} M/CPU-s, {one['json elapsed']:.2f} s; {one['ours'] / one['theirs']:.1f} times", flush=True)
            if options.samples:
                options.samples.write_text(json.dumps({"events": options.events, "samples": samples}))
        shutil.rmtree(WORK)


def figures(sample, events):
    """Medians, and millions of events per second of processor time."""
    found = {name: statistics.median(values) for name, values in sample.items()}
    theirs = events / max(found["flink"] - found["start"], 0.01) / 1e6
    return found | {"theirs": theirs, "ours": events / found["json"] / 1e6, "runs": len(sample["json"])}


def earlier(options):
    """What earlier calls have left."""
    if not options.samples or not options.samples.exists():
        return {}
    kept = json.loads(options.samples.read_text())
    if kept["events"] != options.events:
        raise SystemExit(f"{options.samples} is of {kept['events']} events")
    return kept["samples"]


def rows_of(query, directory):
    """Results of both as sorted lists of rows, each value as text."""
    path = WORK / "rows"
    flink(query, directory, 1, "--rows", path)
    theirs = sorted(tuple(json.loads(line)) for line in path.read_text().splitlines())
    done = subprocess.run([str(BINARY), "nexmark", query, "--input", str(directory), "--output", "-"], capture_output=True,
                          text=True, timeout=900, env=environment(), check=True)
    ours = sorted(tuple(map(str, json.loads(line, parse_float=str).values())) for line in done.stdout.splitlines())
    return ours, theirs


def check(options):
    """Whether both give the same rows. Exits with 1 when they do not.

    Over few events, a minute and a half of event time: Flink hands each change of a result over to Python by itself.
    """
    directory = events_in("check", 9_000, 1, rate=100)
    wrong = 0
    for query in options.queries:
        ours, theirs = rows_of(query, directory)
        only = sorted(set(ours) - set(theirs))[:2], sorted(set(theirs) - set(ours))[:2]
        wrong += ours != theirs
        print(f"{query}: {len(ours)} rows, Flink {len(theirs)}, " + ("the same" if ours == theirs else f"different: {only}"), flush=True)
    shutil.rmtree(WORK)
    if wrong:
        sys.exit(f"{wrong} queries differ")


def report(samples, options, version, java):
    every = {name: figures(sample, options.events) for name, sample in samples.items()}
    runs = sorted({one["runs"] for one in every.values()})
    lines = [
        "# Nexmark beside Apache Flink", "",
        f"Measured on {datetime.date.today().isoformat()} on {bench.machine()}. PyFlink {version}, OpenJDK {java}. Load average at the end: "
        f"{os.getloadavg()[0]:.1f}.",
        f"Command: `make bench-flink EVENTS={options.events} RUNS={runs[-1]}`; medians of {' or '.join(map(str, runs))} runs, in turn.", "",
        f"Both read the same {options.events:,} events as lines of JSON from files (`millrace nexmark generate`) and give their results to nothing:",
        "Flink to its blackhole connector, Millrace as encoded rows that are counted. Flink runs in its mini cluster, in one Java process, with",
        "object reuse, mini-batches of 50,000 rows or 2 s, keyed state on the heap and without checkpoints; Millrace commits state and results",
        "step by step, to memory. The texts of the queries are in `Benchmarks/flink`. Flink's processor time is that of the whole Java process",
        f"less the start, which is a run over {FEW:,} events; Millrace's is that of its whole process, nothing taken off. \"Encoded\" is Millrace's job",
        "alone, over events that lie encoded in memory; the comparison does not use it.",
    ]
    for parallelism in sorted({int(name.split()[1]) for name in every}):
        lines += [
            "", f"## Parallelism {parallelism}", "",
            "| Query | Flink: CPU-s, start | Flink: M events per CPU-s | Millrace: CPU-s | Millrace: M events per CPU-s | Times | Elapsed, Flink and "
            "Millrace | Encoded: M events per CPU-s |", "|---|---|---|---|---|---|---|---|"]
        for query in QUERIES:
            one = every.get(f"{query} {parallelism}")
            if one is None:
                continue
            lines.append(
                f"| {query} | {one['flink']:.1f}, {one['start']:.1f} | {one['theirs']:.3f} | {one['json']:.2f} | {one['ours']:.2f} | "
                f"{one['ours'] / one['theirs']:.1f} | {one['flink elapsed']:.1f} s, {one['json elapsed']:.2f} s | "
                f"{options.events / one['encoded'] / 1e6:.2f} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=4_000_000)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--queries", nargs="*", choices=QUERIES, default=QUERIES)
    parser.add_argument("--parallelism", nargs="*", type=int, default=[1, 2])
    parser.add_argument("--samples", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    if not PYTHON.exists():
        raise SystemExit("PyFlink is not there; `Scripts/setup flink` installs it")
    shutil.rmtree(WORK, ignore_errors=True)
    if options.check:
        return check(options)
    began = time.monotonic()
    samples = earlier(options)
    measure(options, samples)
    version = subprocess.run([str(PYTHON), "-c", "import pyflink.version as v; print(v.__version__)"], capture_output=True, text=True,
                             check=True).stdout.strip()
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=True).stderr.split('"')[1]
    text = report(samples, options, version, java)
    print(f"took {time.monotonic() - began:.0f} s")
    bench.put(text, options.write)


if __name__ == "__main__":
    main()
