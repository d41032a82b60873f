"""Damaged files: every flipped bit and every cut that matters is noticed, named with its place, and never served.

One data directory with known contents is made: several topics, codecs, producers, a group, the state of jobs. Then single
bits are flipped and files cut, one at a time, in all kinds of files. `millrace inspect` reads every byte through the
server's own readers and must notice each; a sample goes through the real server, with a reader that compares every byte.
"""

import concurrent.futures
import os
import re
import shutil
import subprocess
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from millrace_tests.batches import HEADER
from millrace_tests.faults import copy_data, flip_bit
from millrace_tests.server import BINARY, Server, ServerFailed, environment, run
from millrace_tests.wire import Wire, create_topic, fetch

DAMAGED = 4
STORAGE_ERROR = 56
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
GROUP = "readers"


class Original:
    """The sound data directory, and all that a server on it serves."""

    def __init__(self, directory):
        self.directory = directory
        self.data = directory / "data"
        self._make()
        self.files = sorted(path for path in self.data.rglob("*") if path.is_file() and path.name != "lock")
        self.ranges = self._ranges()
        with Server(directory / "reference") as server:
            copy_data(self.data, server.data)
            server.start()
            topics = AdminClient({"bootstrap.servers": server.bootstrap}).list_topics(timeout=10).topics
            # Those that jobs keep their state in are read, too.
            assert any(name.startswith("__") for name in topics) and {"lines", "counts", "plain"} <= topics.keys()
            self.partitions = {(topic, partition) for topic, one in topics.items() for partition in one.partitions}
            self.served = {}
            self.ends = {}
            wire = Wire(server)
            for one in self.partitions:
                self.served[one], errors, self.ends[one] = read_partition(wire, *one)
                assert not errors
            self.committed = committed(server)

    def _make(self):
        source = self.directory / "text"
        source.write_text("the quick brown fox jumps over the lazy dog\n" * 200)
        # Jobs with state: the word count, and the feeder with its position.
        with Server(self.directory, command="demo", arguments=["--input", source]) as demo:
            demo.start()
            deadline = time.monotonic() + 20
            while "input has been read" not in demo.log_text() + demo.drain_output():
                assert time.monotonic() < deadline, demo.log_tail()
                time.sleep(0.05)
            time.sleep(0.5)
            demo.stop()
        server = Server(self.directory)
        with server:
            server.start()
            assert create_topic(Wire(server), "plain", 2) == 0
            for codec in CODECS:
                producer = Producer({"bootstrap.servers": server.bootstrap, "compression.type": codec,
                                     "enable.idempotence": codec != "none", "linger.ms": 1,
                                     "batch.num.messages": 50})
                for number in range(600):
                    # Half of it does not compress, so that the files fill up.
                    text = f"{number} ".encode() + os.urandom(200) + b"z" * 200
                    producer.produce(f"with-{codec}", text, key=str(number), partition=0)
                    if number % 50 == 0:
                        producer.produce("plain", text, partition=number // 50 % 2)
                        producer.flush(20)
                assert producer.flush(20) == 0
            # Enough for a segment, which a clean stop's snapshot then names.
            large = Producer({"bootstrap.servers": server.bootstrap, "message.max.bytes": 1_000_000})
            for number in range(28):
                large.produce("plain", os.urandom(900_000), partition=number % 2)
                assert large.flush(20) == 0
            deadline = time.monotonic() + 20
            while not list((self.data / "segments").iterdir()):
                assert time.monotonic() < deadline, "no segment was written"
                time.sleep(0.05)
            server.stop()
            server.start()
            for number in range(40):
                large.produce(f"with-{CODECS[number % len(CODECS)]}", os.urandom(700), partition=0)
                large.produce("plain", os.urandom(20_000), partition=number % 2)
                assert large.flush(20) == 0
            consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": GROUP})
            consumer.commit(offsets=[TopicPartition("with-gzip", 0, 123), TopicPartition("plain", 1, 3)],
                            asynchronous=False)
            consumer.close()
            time.sleep(0.3)  # an idle journal marks its end
            server.kill()

    def _ranges(self):
        """What `inspect` says is verified: [(path, start, length, use)]."""
        done = run("inspect", self.data, "--ranges")
        assert done.returncode == 0, done.stdout + done.stderr
        found = []
        for line in done.stdout.split("\n\n", 1)[0].splitlines():
            path, start, length, use = line.split("\t")
            found.append((path, int(start), int(length), use))
        return found


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    made = Original(tmp_path_factory.mktemp("damage"))
    # All kinds are there, or the rest proves little.
    assert {use for *_, use in made.ranges} == {
        "journal header", "commit", "end mark", "snapshot", "segment header", "index", "block"}
    return made


def committed(server):
    """The group's offsets."""
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": GROUP})
    found = consumer.committed([TopicPartition("with-gzip", 0), TopicPartition("plain", 1)], timeout=10)
    consumer.close()
    return [one.offset for one in found]


def batches_of(data):
    """(base offset, next offset, bytes) of each batch, without a look at checksums."""
    at = 0
    while at + HEADER.size <= len(data):
        base, length = HEADER.unpack_from(data, at)[:2]
        last_delta = HEADER.unpack_from(data, at)[6]
        if at + 12 + length > len(data):
            break
        yield base, base + last_delta + 1, data[at:at + 12 + length]
        at += 12 + length


def read_partition(wire, topic, partition, known=(), start=0):
    """Reads a partition from `start` to its end: {base offset: bytes}, [offsets that gave an error], its end.

    Behind an error reading goes on at the next base offset that `known` has.
    """
    found, errors, offset, end = {}, [], start, start + 1
    starts = sorted(known)
    while offset < end:
        error, _, answer = fetch(wire, [(topic, partition, offset)], max_bytes=8 << 20, partition_max_bytes=8 << 20)
        assert error == 0
        code, end, data = answer[topic, partition]
        if code != 0:
            assert code == STORAGE_ERROR, f"error {code} at {topic}-{partition}@{offset}"
            errors.append(offset)
            offset = next((start for start in starts if start > offset), end)
            continue
        before = offset
        for base, following, content in batches_of(data):
            found[base] = content
            offset = following
        assert offset > before, f"nothing comes at {topic}-{partition}@{offset}, the end is {end}"
    return found, errors, end


def inspect(data):
    return subprocess.run([str(BINARY), "inspect", str(data)], capture_output=True, text=True, timeout=60,
                          env=environment())


def use_of(original, path, position):
    """What `inspect` says stands at a byte; None when nothing does."""
    for name, start, length, use in original.ranges:
        if name == str(path) and start <= position < start + length:
            return use
    return None


def pick(original, choices):
    """A byte and a bit, each kind of file and use as likely as the next; one in eight somewhere in any file."""
    if choices.random() < 0.125:
        path = choices.choice(original.files)
        return path, choices.randrange(path.stat().st_size), choices.randrange(8)
    use = choices.choice(sorted({use for *_, use in original.ranges}))
    path, start, length, _ = choices.choice([one for one in original.ranges if one[3] == use])
    return type(original.data)(path), start + choices.randrange(length), choices.randrange(8)


def complaint(done, path):
    """The lines that name the damaged file with a place."""
    return [line for line in (done.stdout + done.stderr).splitlines()
            if str(path) in line and re.search(r"byte \d+|wrong checksum|missing", line)]


def check_inspect(original, data, path, position, bit):
    """Flips a bit in a copy, inspects it, flips it back. Returns the class of what happened, or raises."""
    target = data / path.relative_to(original.data)
    use = use_of(original, path, position)
    flip_bit(target, position, bit)
    try:
        done = inspect(data)
    finally:
        flip_bit(target, position, bit)
    where = f"{path.relative_to(original.data)} byte {position} bit {bit} ({use})"
    if use is None:
        assert done.returncode == 0, f"{where}: means nothing, but {done.stderr}"
        return "harmless"
    if use == "end mark":
        assert done.returncode == 0, f"{where}: {done.stderr}"
        return "end mark"
    assert done.returncode == DAMAGED, f"{where}: not noticed\n{done.stdout}"
    assert complaint(done, target), f"{where}: not named\n{done.stdout}{done.stderr}"
    return "noticed"


def in_parallel(original, directory, work):
    """Runs each of `work` (functions of a data directory) on one of two copies; returns how often each result came."""
    counts = {}
    copies = [directory / f"copy-{number}" for number in range(2)]
    for copy in copies:
        copy_data(original.data, copy)
    with concurrent.futures.ThreadPoolExecutor(len(copies)) as pool:
        parts = [work[number::len(copies)] for number in range(len(copies))]

        def run_part(copy, part):
            return [one(copy) for one in part]

        for results in pool.map(run_part, copies, parts):
            for result in results:
                counts[result] = counts.get(result, 0) + 1
    return counts


def test_every_flipped_bit_that_means_something_is_noticed(original, tmp_path, full, choices):
    count = 9000 if full else 250
    work = []
    for _ in range(count):
        path, position, bit = pick(original, choices)
        work.append(lambda data, p=path, at=position, b=bit: check_inspect(original, data, p, at, b))
    counts = in_parallel(original, tmp_path, work)
    print(f"{count} flips: {counts}")
    assert counts["noticed"] > count / 2


def check_cut(original, data, path, size):
    target = data / path.relative_to(original.data)
    os.truncate(target, size)
    done = inspect(data)
    shutil.copyfile(path, target)
    is_needed = any(name == str(path) for name, *_ in original.ranges)
    # Of a snapshot only what means something counts; the older one's body is not needed any more.
    if path.name.startswith("snapshot"):
        is_needed = size < max((start + length for name, start, length, _ in original.ranges if name == str(path)), default=0)
    where = f"{path.relative_to(original.data)} cut to {size} bytes"
    if not is_needed:
        assert done.returncode == 0, f"{where}: {done.stderr}"
        return "harmless"
    assert done.returncode == DAMAGED, f"{where}: not noticed\n{done.stdout}"
    return "noticed"


def test_every_cut_file_is_noticed(original, tmp_path, full, choices):
    count = 1000 if full else 50
    work = []
    for _ in range(count):
        path = choices.choice(original.files)
        size = path.stat().st_size
        kept = choices.choice([choices.randrange(size), 0, 1, 63, 64, 4096, size - 1, size - 4096, size // 2 & ~4095])
        kept = min(max(kept, 0), size - 1)
        work.append(lambda data, p=path, s=kept: check_cut(original, data, p, s))
    counts = in_parallel(original, tmp_path, work)
    print(f"{count} cuts: {counts}")
    assert counts["noticed"] > count / 3


def serve_damaged(original, directory, path, port):
    """Starts a server on a damaged copy and holds all it serves against the original. Returns what happened."""
    with Server(directory, port=port) as server:
        target = server.data / path.relative_to(original.data)
        try:
            server.start()
        except ServerFailed as failed:
            assert "ended with 4 " in str(failed), failed
            assert str(target) in str(failed) or "can be read" in str(failed) or "cannot be read" in str(failed), failed
            return "refused"
        wire = Wire(server)
        unreadable = 0
        for one in original.partitions:
            found, errors, end = read_partition(wire, *one, known=original.served[one])
            assert end == original.ends[one], f"{one} ends at {end} instead of {original.ends[one]}"
            for base, content in found.items():
                assert content == original.served[one].get(base), f"{one}@{base} is not what was written"
            missing = set(original.served[one]) - set(found)
            assert missing <= set(errors), f"{one} lost {sorted(missing - set(errors))} without an error"
            unreadable += len(missing)
        assert committed(server) == original.committed
        if unreadable:
            log = server.log_text()
            assert re.search(rf"{re.escape(str(target))}: .* at byte \d+", log), server.log_tail()
            return "served the rest"
        return "served all"


def test_a_server_never_serves_what_was_damaged(original, tmp_path, full, choices):
    count = 300 if full else 20
    counts = {}
    for number in range(count):
        path, position, bit = pick(original, choices)
        while choices.random() < 0.25 and use_of(original, path, position) is not None:
            # Where inspect says that nothing stands, it must not matter to the server either.
            path = choices.choice(original.files)
            position = choices.randrange(path.stat().st_size)
        directory = tmp_path / f"run-{number}"
        directory.mkdir()
        copy_data(original.data, directory / "data")
        flip_bit(directory / "data" / path.relative_to(original.data), position, bit)
        use = use_of(original, path, position)
        result = serve_damaged(original, directory, path, 0)
        where = f"{path.relative_to(original.data)} byte {position} bit {bit} ({use})"
        expected = {
            "journal header": {"refused"}, "commit": {"refused"}, "end mark": {"served all"}, "snapshot": {"refused"},
            "segment header": {"served all"}, "index": {"served the rest"}, "block": {"served the rest"},
            None: {"served all"},
        }[use]
        assert result in expected, f"{where}: {result}"
        counts[use, result] = counts.get((use, result), 0) + 1
        shutil.rmtree(directory)
    print(f"{count} flips served: {counts}")


def test_missing_files_are_noticed(original, tmp_path):
    needed = {name for name, *_ in original.ranges}
    for number, path in enumerate([*original.files, original.data / "journal", original.data / "segments"]):
        directory = tmp_path / f"run-{number}"
        directory.mkdir()
        copy_data(original.data, directory / "data")
        target = directory / "data" / path.relative_to(original.data)
        if path.is_dir():
            shutil.rmtree(target)
        else:
            target.unlink()
        result = serve_damaged(original, directory, path, 0)
        if path.is_dir() or str(path) in needed:
            assert result == "refused", f"{path.name} is missing: {result}"
        else:
            assert result == "served all", f"{path.name} is missing: {result}"
        # A refused start has removed nothing that is left.
        if result == "refused":
            for other in original.files:
                if other != path and path not in other.parents:
                    assert (directory / "data" / other.relative_to(original.data)).exists(), f"{other.name} was removed"


def test_a_second_server_on_the_same_directory_is_refused(make_server):
    first = make_server().start()
    with Server(first.directory / "second") as second:
        second.data = first.data
        with pytest.raises(ServerFailed, match="ended with 4 (.|\n)*held by another process"):
            second.start()
    inspected = run("inspect", first.data)
    assert inspected.returncode == 4 and "in use" in inspected.stderr
    assert Wire(first)


LEFT_OUT = re.compile(r"^left out: (?:(\S+)-(\d+) offsets? (\d+)(?: to (\d+))?: )?(.*)$", re.MULTILINE)


def export(data, target):
    return subprocess.run([str(BINARY), "inspect", str(data), "--export", str(target)], capture_output=True, text=True,
                          timeout=120, env=environment())


def serve_exported(original, directory, path):
    """Exports a damaged copy and holds what a server on the new directory serves against the original."""
    data = directory / "data"
    with Server(directory / "exported") as server:
        done = export(data, server.data)
        assert done.returncode in (0, DAMAGED), done.stderr
        lost = [(topic, int(partition or 0), int(first or 0), int(last or first or 0), reason)
                for topic, partition, first, last, reason in LEFT_OUT.findall(done.stdout)]
        assert bool(lost) == (done.returncode == DAMAGED), done.stdout
        # Losses that cannot be told by offsets: commits, whatever was in them, and snapshots.
        loses_state = any(not topic for topic, *_ in lost)
        if lost:
            assert str(data / path.relative_to(original.data)) in done.stdout, done.stdout
        server.start()
        wire = Wire(server)
        topics = AdminClient({"bootstrap.servers": server.bootstrap}).list_topics(timeout=10).topics
        watcher = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "watcher"})
        missing = 0
        for topic, partition in sorted(original.partitions):
            if topic not in topics or partition not in topics[topic].partitions:
                assert loses_state, f"{topic}-{partition} is gone\n{done.stdout}"
                continue
            # With all its records lost a partition is empty, and begins at its next offset.
            start, end = watcher.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
            found = {}
            if start < end:
                found, errors, end = read_partition(wire, topic, partition, start=start)
                assert not errors
            served = original.served[topic, partition]
            for base, content in found.items():
                assert content == served.get(base), f"{topic}-{partition}@{base} is not what was written"
            for base in set(served) - set(found):
                missing += 1
                is_listed = any((name, number) == (topic, partition) and first <= base <= last
                                for name, number, first, last, _ in lost if name)
                assert is_listed or (loses_state and base >= end), f"{topic}-{partition}@{base}\n{done.stdout}"
        watcher.close()
        if not loses_state:
            assert committed(server) == original.committed
        # It is a data directory like any other.
        producer = Producer({"bootstrap.servers": server.bootstrap})
        producer.produce("plain", b"after", partition=0)
        assert producer.flush(20) == 0
        server.stop()
        server.start()
        if "plain" in topics and 0 in topics["plain"].partitions:
            found, _, _ = read_partition(Wire(server), "plain", 0, known=original.served["plain", 0])
            assert any(content.endswith(b"after\x00") for content in found.values())
    return "exported all" if not lost else "exported the rest" if missing else "listed only"


def test_what_is_sound_of_a_damaged_directory_is_exported_and_served(original, tmp_path, full, choices):
    count = 120 if full else 10
    uses = ["commit", "block", "snapshot", "index", "journal header", None, "segment header"]
    counts = {}
    for number in range(count):
        wanted = uses[number % len(uses)]
        path, position, bit = pick(original, choices)
        while use_of(original, path, position) != wanted:
            path, position, bit = pick(original, choices)
            if wanted is None:
                path = choices.choice(original.files)
                position = choices.randrange(path.stat().st_size)
        directory = tmp_path / f"run-{number}"
        directory.mkdir()
        copy_data(original.data, directory / "data")
        flip_bit(directory / "data" / path.relative_to(original.data), position, bit)
        result = serve_exported(original, directory, path)
        where = f"{path.relative_to(original.data)} byte {position} bit {bit} ({wanted})"
        expected = {
            None: {"exported all"}, "segment header": {"exported all"}, "block": {"exported the rest"},
            "index": {"exported the rest"}, "journal header": {"exported all"},
        }.get(wanted)
        assert expected is None or result in expected, f"{where}: {result}"
        counts[wanted, result] = counts.get((wanted, result), 0) + 1
        shutil.rmtree(directory)
    print(f"{count} flips exported: {counts}")
