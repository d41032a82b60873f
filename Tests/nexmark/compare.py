"""Holds the results of `millrace nexmark QUERY` against what PostgreSQL gives for the same events, row by row.

    compare.py --events 1000000 [--rate R] [--crash-at N] [q0 q1 …]
"""

import argparse
import subprocess
import sys
import time

import oracle
from millrace_tests.server import BINARY, environment
from postgres import Postgres, PostgresFailed


class RunFailed(Exception):
    """The program ended with an error; the message has what it said."""


def run(query, *arguments):
    """The lines of a query's result without their line feeds, and what the program says about the run."""
    done = subprocess.run([str(BINARY), "nexmark", query, *map(str, arguments), "--output", "-"], capture_output=True,
                          env=environment())
    if done.returncode != 0:
        raise RunFailed(f"millrace nexmark {query} {arguments} ended with {done.returncode}: {done.stderr.decode()}")
    return done.stdout.splitlines(), done.stderr.decode().strip()


def difference(ours, theirs):
    """A few rows that only one of the two has, and how many rows each has; nil when they are the same."""
    if ours == theirs:
        return None
    only = {"only Millrace": sorted(set(ours) - set(theirs))[:3], "only SQL": sorted(set(theirs) - set(ours))[:3]}
    return f"{len(ours)} rows, {len(theirs)} by SQL: {only}"


def main():
    parser = argparse.ArgumentParser(description="compares the Nexmark queries of Millrace with those of PostgreSQL")
    parser.add_argument("queries", nargs="*", metavar="QUERY", help="all by default")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--crash-at", type=int)
    parser.add_argument("--workers", type=int, default=1)
    chosen = parser.parse_args()
    events = ["--events", chosen.events, "--rate", chosen.rate]
    differing = []
    with Postgres() as postgres:
        database = oracle.Oracle(postgres)
        with oracle.generated(*events) as lines:
            database.load(lines)
        for query in chosen.queries or oracle.QUERIES:
            begin = time.monotonic()
            theirs = database.answer(query)
            ours, told = run(query, *events, "--workers", chosen.workers, *(["--crash-at", chosen.crash_at] if chosen.crash_at else []))
            found = difference(ours, theirs)
            print(f"{query}: {found or f'{len(ours)} rows agree'}, {time.monotonic() - begin:.1f} s\n  {told}", flush=True)
            if found:
                differing.append(query)
    if differing:
        sys.exit(f"results differ: {' '.join(differing)}")


if __name__ == "__main__":
    try:
        main()
    except (oracle.OracleFailed, PostgresFailed, RunFailed, OSError) as problem:
        sys.exit(f"compare: {problem}")
