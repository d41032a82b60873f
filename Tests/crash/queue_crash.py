"""Kills the server while AMQP clients work on its queues, and holds what is left against what they were told.

    queue_crash.py --cycles 200 [--seed N]

pika publishes with confirms, one by one and pipelined, into a plain queue, through a fanout into two, into a priority
queue, a quorum queue, one that is dead-lettered and a delayed exchange, and without confirms into one more. Consumers
acknowledge in transactions or until an orderly close, return, and reject into a dead-letter queue. Two movers carry
messages back and forth between two queues, each publication with its acknowledgement in one transaction. Most lives of
the server end right behind a promise. At the end all queues are read; `queue_judge.py` says what must hold. Exit code 0
only when all of it does.
"""

import argparse
import multiprocessing
import random
import shutil
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

import pika  # noqa: E402

from millrace_tests.amqp_backend import millrace_speaks_amqp  # noqa: E402
from millrace_tests.killer import Trigger, TriggeredKiller  # noqa: E402
from millrace_tests.server import ROOT, Server, lasting_port  # noqa: E402
from queue_client import LONGEST_DELAY, MOVED, PROMISES, Work, body_of, declare, milliseconds, text_of  # noqa: E402
from queue_consumers import consume, move, reject  # noqa: E402
from queue_ledgers import QUEUES, judge, read_ledger, still_delayed  # noqa: E402
from queue_publishers import publish_one_by_one, publish_pipelined, publish_unconfirmed  # noqa: E402

WORKERS = {
    "p0": publish_pipelined, "p1": publish_one_by_one, "p2": publish_unconfirmed,
    "consumer": consume, "rejecter": reject,
    "forth": partial(move, source="in", target="out"), "back": partial(move, source="out", target="in"),
}


def run(name, *rest):
    """The whole life of one process."""
    WORKERS[name](Work(name, *rest))


def connect(server):
    return pika.BlockingConnection(pika.ConnectionParameters(server.amqp_host, server.amqp_port))


def set_up(server):
    """Declares everything, and puts the messages that are moved into the first of the two queues."""
    connection = connect(server)
    declare(connection)
    channel = connection.channel()
    channel.confirm_delivery()
    for number in range(MOVED):
        channel.basic_publish("", "in", body_of(f"m:{number}@0"), pika.BasicProperties(delivery_mode=2))
    connection.close()


def drain(server, queue, expected=frozenset(), seconds=30):
    """All that a queue holds, in order: [(text, headers, time in ms)]. Waits for what is expected and not due yet."""
    connection = connect(server)
    channel = connection.channel()
    found, missing = [], set(expected)
    deadline = time.monotonic() + seconds
    while True:
        for method, properties, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.3):
            if method is None:
                break
            text = text_of(body)
            found.append((text, properties.headers or {}, milliseconds()))
            missing.discard(text)
        count = channel.queue_declare(queue, passive=True).method.message_count
        if count == 0 and (not missing or time.monotonic() > deadline):
            break
    channel.cancel()
    connection.close()
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "crash" / "queues")
    options = parser.parse_args()
    if not millrace_speaks_amqp():
        print("queue crash test: skipped, this millrace does not speak AMQP: `millrace serve --help` names no --amqp")
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"queue crash test: seed={seed} (repeat with: make crash CYCLES={options.cycles} SEED={seed})", flush=True)
    choices = random.Random(seed)
    shutil.rmtree(options.directory, ignore_errors=True)

    broken = []
    with Server(options.directory, port=lasting_port(), amqp=True, amqp_port=lasting_port()) as server:
        server.start()
        set_up(server)
        context = multiprocessing.get_context("spawn")
        stop, trigger = context.Event(), Trigger(context, PROMISES)
        paths = {name: options.directory / f"ledger-{name}" for name in WORKERS}
        processes = {name: context.Process(target=run, daemon=True, args=(
            name, server.amqp_host, server.amqp_port, choices.randrange(1 << 32), path, stop, trigger))
            for name, path in paths.items()}
        for process in processes.values():
            process.start()
        while not all(path.exists() and path.stat().st_size for path in paths.values()):
            if not all(process.is_alive() for process in processes.values()):
                raise SystemExit("a client ended before its first line")
            time.sleep(0.05)
        server.kill()
        killer = TriggeredKiller(server, choices, trigger)
        for cycle in range(options.cycles):
            killer.cycle()
            if sys.stdout.isatty():
                print(f"\rcycle {cycle + 1} of {options.cycles}", end="", flush=True)
        server.start()
        time.sleep(1)  # a life without a kill: everybody is back, and ends in order
        stop.set()
        for name, process in processes.items():
            process.join(60)
            if process.exitcode != 0:
                how = "hangs" if process.exitcode is None else f"ended with {process.exitcode}"
                broken.append(f"{name}: end: {how}")
                process.kill()
        if sys.stdout.isatty():
            print()
        # A clean stop and a start change nothing.
        server.stop()
        server.start()
        ledgers = {name: read_ledger(path) for name, path in paths.items()}
        left = {queue: drain(server, queue) for queue in [*QUEUES, "dead", "in", "out"] if queue != "later"}
        left["later"] = drain(server, "later", still_delayed(ledgers), seconds=LONGEST_DELAY / 1000 + 20)
        server.stop()

    found, figures = judge(ledgers, left)
    broken += found
    for line in broken[:20]:
        print(line)
    if len(broken) > 20:
        print(f"… and {len(broken) - 20} more; in all {dict(Counter(line.split(': ')[1] for line in broken))}")
    behind = " ".join(f"{kind}={count}" for kind, count in killer.kills_behind.items())
    print(f"kills={killer.kills} (while starting: {killer.kills_while_starting}; behind a promise: {behind}) "
          f"clean stops={killer.clean_stops}")
    print(" ".join(f"{name}={count}" for name, count in figures.items()))
    print(f"CYCLES={options.cycles} broken={len(broken)}", flush=True)
    if broken or not all(count for name, count in figures.items() if name != "unanswered"):
        print(f"FAILED; data, ledgers and server log are in {options.directory}")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
