"""Replays what power losses would have left of a real run into the real program, and checks every promise.

    power_cut.py [--cuts 40] [--seed N] [--seconds 5]

A server runs under load and records its writes and flushes. Producers note for each acknowledgement how long the recording
was by then. Then, for cuts at random operations, the directory is rebuilt as a power loss at that moment may have left it
(what was not flushed is lost, or kept, lost and torn at random), the program starts on it, and the log is read: every record
acknowledged before the cut stands at its offset, none twice, no gaps. Exit code 0 only when all of it holds at every cut.
"""

import argparse
import os
import random
import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from confluent_kafka import Producer  # noqa: E402

from log_crash import TOPIC, create_topic, read_log  # noqa: E402
from millrace_tests.ledger import check  # noqa: E402
from millrace_tests.recording import RENAME, Disk, read_recording  # noqa: E402
from millrace_tests.server import ROOT, Server, ServerFailed  # noqa: E402

PARTITIONS = 3


def load(server, tape, seconds, choices):
    """Produces for a while; returns (id, partition, offset, length of the recording when it was acknowledged)."""
    acknowledged = []

    def delivered(error, message):
        if error is not None:
            raise SystemExit(f"a record failed: {error}")
        identity = message.value().split(b" ", 1)[0].decode()
        acknowledged.append((identity, message.partition(), message.offset(), os.stat(tape).st_size))

    producers = [Producer({"bootstrap.servers": server.bootstrap, "enable.idempotence": True, "linger.ms": linger,
                           "compression.type": codec}) for linger, codec in ((0, "none"), (5, "lz4"))]
    sequences = [0] * len(producers)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for index, producer in enumerate(producers):
            for _ in range(5):
                value = f"p{index}:{sequences[index]} ".encode() + choices.randbytes(int(choices.expovariate(1 / 1500)))
                producer.produce(TOPIC, value, partition=choices.randrange(PARTITIONS), on_delivery=delivered)
                sequences[index] += 1
            producer.poll(0.001)
    for producer in producers:
        producer.flush(60)
    return acknowledged


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "crash" / "power")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"power cut test: seed={seed}", flush=True)
    choices = random.Random(seed)
    shutil.rmtree(options.directory, ignore_errors=True)
    options.directory.mkdir(parents=True)

    tape = options.directory / "recording"
    os.environ["MILLRACE_RECORD_IO"] = str(tape)
    with Server(options.directory / "run") as server:
        server.start()
        create_topic(server.bootstrap, PARTITIONS)
        acknowledged = load(server, tape, options.seconds, choices)
        server.kill()
    del os.environ["MILLRACE_RECORD_IO"]

    operations = read_recording(tape)
    renames = [index for index, one in enumerate(operations) if one.kind == RENAME]
    cuts = set()
    while len(cuts) < min(options.cuts, len(operations)):
        # A third of the cuts fall near a rename, where segments and snapshots take effect.
        near = renames and choices.random() < 0.33
        at = choices.choice(renames) + choices.randrange(-5, 8) if near else choices.randrange(len(operations))
        cuts.add(min(max(at, 0), len(operations) - 1))
    print(f"{len(operations)} operations, {len(renames)} renames, {len(acknowledged)} records acknowledged", flush=True)

    disk, broken, promises = Disk(), [], 0
    for index, one in enumerate(operations):
        disk.apply(one)
        if index not in cuts:
            continue
        promised = [entry[:3] for entry in acknowledged if entry[3] <= one.end]
        promises += len(promised)
        mood = choices.choice([None, choices])
        place = options.directory / f"cut-{index + 1}"
        disk.lose_power(str(place / "data"), mood)
        problems = look(place, promised)
        if problems:
            broken.append(index + 1)
            print(f"cut after operation {index + 1} ({'mixed' if mood else 'all in doubt lost'}), {place}:", *problems,
                  sep="\n  ", flush=True)
        else:
            shutil.rmtree(place)
    print(f"CUTS={len(cuts)} promises={promises} broken={len(broken)}", flush=True)
    if broken:
        print(f"FAILED; directories and the recording are in {options.directory}")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


def look(place, promised):
    """What is wrong with the log that the program finds in a directory, as sentences."""
    with Server(place) as server:
        try:
            server.start()
            if not promised:
                return []
            verdict = check(promised, read_log(server.bootstrap, PARTITIONS), idempotent=lambda _: True)
            server.stop()
            return verdict.problems(5)
        except ServerFailed as error:
            return [str(error)]


if __name__ == "__main__":
    sys.exit(main())
