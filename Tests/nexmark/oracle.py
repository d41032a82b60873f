"""The oracle of the Nexmark queries: what each gives over a finite input, computed by PostgreSQL.

    oracle.py --events 1000000 --output DIR [--rate R] [--from N] [--float-times] [q0 q1 …]

Writes DIR/q0.jsonl and so on: a row a line, as docs/reference/nexmark.md says, sorted by bytes. The events are those of
`millrace nexmark generate`; with `--input FILE` they are read from a file instead.
"""

import argparse
import contextlib
import csv
import json
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "harness"))

from millrace_tests.server import BINARY, environment  # noqa: E402

from postgres import Postgres, PostgresFailed  # noqa: E402

QUERIES = sorted((path.stem for path in (HERE / "queries").glob("q*.sql")), key=lambda name: int(name[1:]))


class OracleFailed(Exception):
    """The events could not be made or loaded; the message says why."""


@contextlib.contextmanager
def generated(*arguments):
    """The lines of `millrace nexmark generate`, as they come."""
    with subprocess.Popen([str(BINARY), "nexmark", "generate", *map(str, arguments)], stdout=subprocess.PIPE,
                          env=environment()) as process:
        yield process.stdout
        process.stdout.close()
        if process.wait() != 0:
            raise OracleFailed(f"millrace nexmark generate {arguments} ended with {process.returncode}")


class Oracle:
    """Tables of events in PostgreSQL, and the queries over them."""

    def __init__(self, postgres):
        self.postgres = postgres

    def load(self, lines):
        """Replaces the events by those that `lines` hold, each as JSON. Returns how many there are."""
        self.postgres.run((HERE / "schema.sql").read_text())
        copies, rows, count = {}, {}, 0
        for kind in ("Person", "Auction", "Bid"):
            # Nothing stands for null, so that an empty text is one.
            copies[kind] = self.postgres.copy_in(f"COPY {kind} FROM STDIN (FORMAT csv, NULL '\\N')")
            rows[kind] = csv.writer(copies[kind].stdin).writerow
        for line in lines:
            ((kind, fields),) = json.loads(line).items()
            rows[kind]([count, *fields.values()])
            count += 1
        for kind, process in copies.items():
            _, errors = process.communicate()
            if process.returncode != 0:
                raise OracleFailed(f"loading {kind}: {errors}")
        self.postgres.run("ANALYZE person; ANALYZE auction; ANALYZE bid;")
        return count

    def answer(self, query):
        """The lines of a query's result, sorted by bytes, each without its line feed."""
        sql = (HERE / "queries" / f"{query}.sql").read_text()
        return sorted(self.postgres.run(f"SELECT row_to_json(answer) FROM (\n{sql}) answer;").splitlines())


def main():
    parser = argparse.ArgumentParser(description="writes what the Nexmark queries give, computed by PostgreSQL")
    parser.add_argument("queries", nargs="*", metavar="QUERY", help=f"of {' '.join(QUERIES)}; all by default")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--from", type=int, default=0, dest="first")
    parser.add_argument("--float-times", action="store_true")
    parser.add_argument("--input", type=Path, help="lines of events, instead of generated ones")
    parser.add_argument("--output", type=Path, required=True, help="the folder to write to")
    chosen = parser.parse_args()
    unknown = set(chosen.queries) - set(QUERIES)
    if unknown:
        parser.error(f"no such query: {' '.join(sorted(unknown))}")
    chosen.output.mkdir(parents=True, exist_ok=True)
    if chosen.input:
        source = open(chosen.input, "rb")
    else:
        source = generated("--events", chosen.events, "--rate", chosen.rate, "--from", chosen.first,
                           *(["--float-times"] if chosen.float_times else []))
    with Postgres() as postgres:
        oracle = Oracle(postgres)
        began = time.monotonic()
        with source as lines:
            count = oracle.load(lines)
        print(f"{count} events loaded in {time.monotonic() - began:.1f} s", flush=True)
        for query in chosen.queries or QUERIES:
            began = time.monotonic()
            rows = oracle.answer(query)
            (chosen.output / f"{query}.jsonl").write_bytes(b"".join(row + b"\n" for row in rows))
            print(f"{query}: {len(rows)} rows in {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    try:
        main()
    except (OracleFailed, PostgresFailed, OSError) as problem:
        sys.exit(f"oracle: {problem}")
