"""Encryption at rest with the real program: what lies on the disk, whose keys open it, rotation, kills and damage."""

import hashlib
import os
import random
import shutil
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import (
    AdminClient, NewTopic, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion)
from millrace_tests.server import Server, ServerFailed, run

DAMAGED = 4
#: Bytes of a page on disk, and of the file in it: of segments, and of all others.
PAGES = {True: (16384, 16352), False: (4096, 4064)}
HEADER = 8192


def new_key(path):
    """Makes a key the current one of a file; its id."""
    done = run("key", "new", "--file", path)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[1]


def usage(data):
    """{id: files} of a data directory."""
    done = run("key", "usage", data)
    assert done.returncode == 0, done.stdout + done.stderr
    return {line.split()[1].rstrip(":"): int(line.split()[2]) for line in done.stdout.splitlines() if line.startswith("key ")}


def files(data):
    return sorted(path for path in data.rglob("*") if path.is_file())


def image(data):
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files(data)}


def encrypted(directory, keys, **options):
    return Server(directory, arguments=["--encryption-key", keys], **options)


def send(server, topic, values, partition=0):
    """Produces, and returns what was acknowledged: [(offset, value)]."""
    done = []

    def delivered(error, message):
        if error is None:
            done.append((message.offset(), message.value()))

    producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 1, "log_level": 0})
    for number, value in enumerate(values):
        producer.produce(topic, value, key=f"key-of-{number}", partition=partition, on_delivery=delivered)
        if number % 100 == 0:
            producer.poll(0)
    producer.flush(30)
    return done


def read(server, topic, partition=0, seconds=60, ignores_errors=True):
    """Everything in a partition, or what comes before an error that is not ignored: {offset: value}."""
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "reader", "enable.auto.commit": False,
                         "enable.partition.eof": True, "auto.offset.reset": "earliest", "log_level": 0})
    consumer.assign([TopicPartition(topic, partition, 0)])
    found = {}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        message = consumer.poll(1)
        if message is None:
            continue
        if message.error() is not None:
            if message.error().name() == "_PARTITION_EOF" or not ignores_errors:
                break
            continue
        found[message.offset()] = message.value()
    consumer.close()
    return found


def fill(server):
    """Users' data of each kind; the words that nobody may find."""
    admin = AdminClient({"bootstrap.servers": server.bootstrap})
    for future in admin.create_topics([NewTopic("topic-of-secrets", 2, 1)]).values():
        future.result(10)
    send(server, "topic-of-secrets", [b"value-of-secrets " * 8 for _ in range(2000)])
    send(server, "topic-of-secrets", [os.urandom(900_000) + b"value-of-secrets" for _ in range(24)], partition=1)
    consumer = Consumer({"bootstrap.servers": server.bootstrap, "group.id": "group-of-secrets"})
    consumer.commit(offsets=[TopicPartition("topic-of-secrets", 0, 7)], asynchronous=False)
    consumer.close()
    user = UserScramCredentialUpsertion(
        "user-of-secrets", ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 4096), b"password-of-secrets")
    for future in admin.alter_user_scram_credentials([user]).values():
        future.result(10)
    assert run("queue", "declare", "queue-of-secrets", "--bootstrap", server.bootstrap).returncode == 0
    put = run("queue", "publish", "queue-of-secrets", "--file", "-", "--bootstrap", server.bootstrap, stdin="message-of-secrets\n")
    assert put.returncode == 0, put.stderr
    deadline = time.monotonic() + 30
    while not list((server.data / "segments").iterdir()):
        assert time.monotonic() < deadline, "no segment was written"
        time.sleep(0.05)


WORDS = ["topic-of-secrets", "value-of-secrets", "key-of-1", "group-of-secrets", "user-of-secrets", "queue-of-secrets",
         "message-of-secrets"]


def found_words(data):
    """Which of the words stand in some file."""
    contents = [path.read_bytes() for path in files(data)]
    return {word for word in WORDS if any(word.encode() in one for one in contents)}


def test_nothing_that_clients_have_said_lies_in_the_clear(tmp_path):
    keys = tmp_path / "keys"
    new_key(keys)
    # The search finds them where they are.
    with Server(tmp_path / "plain") as server:
        server.start()
        fill(server)
        server.stop()
        assert found_words(server.data) == set(WORDS)
    with encrypted(tmp_path / "encrypted", keys) as server:
        server.start()
        fill(server)
        server.kill()
        assert found_words(server.data) == set()
        server.start()
        assert set(read(server, "topic-of-secrets").values()) == {b"value-of-secrets " * 8}
        server.stop()
        assert found_words(server.data) == set()
        assert list(usage(server.data).values()) == [len(files(server.data)) - 1]  # all but the lock


def test_keys_that_do_not_fit_are_refused_before_anything_is_changed(tmp_path):
    keys, others = tmp_path / "keys", tmp_path / "others"
    right, wrong = new_key(keys), new_key(others)
    server = encrypted(tmp_path, keys)
    with server:
        server.start()
        fill(server)
        server.kill()
    before = image(server.data)
    for arguments, needles in [
        (["--encryption-key", others], [right, wrong, str(server.data)]), ([], [right, "no key file", str(server.data)]),
    ]:
        with Server(tmp_path, arguments=arguments) as refused, pytest.raises(ServerFailed) as failure:
            refused.start()
        for needle in needles:
            assert needle in str(failure.value)
        assert "corrupt" not in str(failure.value) and "damaged" not in str(failure.value)
        inspected = run("inspect", server.data, *arguments)
        assert inspected.returncode == 1 and right in inspected.stderr, inspected.stderr
        assert image(server.data) == before
    sound = run("inspect", server.data, "--encryption-key", keys)
    assert sound.returncode == 0 and "sound" in sound.stdout, sound.stdout + sound.stderr
    assert image(server.data) == before
    # A directory that is not encrypted does not become so by the way.
    with Server(tmp_path / "plain") as plain:
        plain.start()
        send(plain, "topic", [b"x"])
        plain.stop()
    before = image(plain.data)
    with encrypted(tmp_path / "plain", keys) as refused, pytest.raises(ServerFailed) as failure:
        refused.start()
    assert "is not encrypted" in str(failure.value) and "--export-key" in str(failure.value)
    assert image(plain.data) == before


def test_key_files_are_for_their_owner_alone_and_errors_show_nothing_of_them(tmp_path):
    keys = tmp_path / "keys"
    first = new_key(keys)
    assert keys.stat().st_mode & 0o777 == 0o600
    line = next(line for line in keys.read_text().splitlines() if not line.startswith("#"))
    keys.chmod(0o640)
    with encrypted(tmp_path, keys) as server, pytest.raises(ServerFailed) as failure:
        server.start()
    assert "640" in str(failure.value) and "chmod 600" in str(failure.value)
    keys.chmod(0o600)
    second = new_key(keys)
    assert run("key", "list", "--file", keys).stdout.split() == [second, "current", first]
    text = keys.read_text()
    for broken in [line[:-4] + "\n", text + line + "\n", "", "#\n", line + " " + line + "\n"]:
        keys.write_text(broken)
        done = run("key", "list", "--file", keys)
        assert done.returncode == 1 and str(keys) in done.stderr and line[:20] not in done.stderr, done.stderr
    missing = run("key", "list", "--file", tmp_path / "nowhere")
    assert missing.returncode == 1 and "nowhere" in missing.stderr
    assert line not in server.log_text()


def test_keys_are_rotated_over_restarts_and_old_ones_are_not_needed_any_more(tmp_path):
    keys = tmp_path / "keys"
    old = new_key(keys)
    with encrypted(tmp_path, keys) as server:
        server.start()
        fill(server)
        server.kill()
        assert set(usage(server.data)) == {old}
        new = new_key(keys)
        server.start()
        assert set(usage(server.data)) == {new}
        log = server.log_text()
        assert new in log and old in log and "older ones are not needed" in log
        current = run("key", "remove", new, "--file", keys, "--unused-in", server.data)
        assert current.returncode == 1 and "current" in current.stderr
        send(server, "topic-of-secrets", [b"later"])
        server.kill()
        removed = run("key", "remove", old, "--file", keys, "--unused-in", server.data)
        assert removed.returncode == 0, removed.stderr
        server.start()
        assert b"later" in read(server, "topic-of-secrets").values()
        server.stop()
        # A key that is still needed stays.
        newest = new_key(keys)
        kept = run("key", "remove", new, "--file", keys, "--unused-in", server.data)
        assert kept.returncode == 1 and "needed" in kept.stderr
        assert run("key", "list", "--file", keys).stdout.split() == [newest, "current", new]


def test_everything_acknowledged_is_there_after_kills_and_rotations(tmp_path):
    keys = tmp_path / "keys"
    new_key(keys)
    choices = random.Random(7)
    acknowledged = {}
    with encrypted(tmp_path, keys) as server:
        for cycle in range(8):
            server.start()
            if cycle == 0:
                admin = AdminClient({"bootstrap.servers": server.bootstrap})
                for future in admin.create_topics([NewTopic("kills", 1, 1)]).values():
                    future.result(10)
            done = []
            producer = Producer({"bootstrap.servers": server.bootstrap, "linger.ms": 1, "log_level": 0,
                                 "message.timeout.ms": 3000})
            deadline = time.monotonic() + choices.uniform(0.2, 1.2)
            number = 0
            while time.monotonic() < deadline:
                size = choices.choice([10, 200, 60_000, 600_000])
                producer.produce("kills", f"{cycle}-{number} ".encode() + choices.randbytes(size),
                                 on_delivery=lambda error, one: done.append(one) if error is None else None)
                number += 1
                producer.poll(0.01)
            server.kill()
            producer.flush(10)
            for message in done:
                acknowledged[message.offset()] = message.value()
            if cycle % 2 == 1:
                new_key(keys)
        server.start()
        found = read(server, "kills")
        assert len(acknowledged) > 50
        for offset, value in acknowledged.items():
            assert found.get(offset) == value, f"offset {offset}"
        server.stop()
        assert len(usage(server.data)) == 1


def physical(path, position):
    """Where a byte of an encrypted file stands on disk."""
    page, content = PAGES[str(path).endswith(".segment")]
    return HEADER + position // content * page + 32 + position % content


def test_flipped_bits_are_named_and_never_served(tmp_path):
    keys = tmp_path / "keys"
    new_key(keys)
    with encrypted(tmp_path, keys) as server:
        server.start()
        fill(server)
        # The snapshot of a clean stop names the segments; what comes behind it is in the journal.
        server.stop()
        server.start()
        send(server, "topic-of-secrets", [b"value-of-secrets " * 8 for _ in range(500)])
        time.sleep(0.3)  # an idle journal marks its end
        server.kill()
        true = None
        done = run("inspect", server.data, "--ranges", "--encryption-key", keys)
        assert done.returncode == 0, done.stdout + done.stderr
        ranges = []
        for line in done.stdout.split("\n\n", 1)[0].splitlines():
            path, start, length, use = line.split("\t")
            ranges.append((path, int(start), int(length), use))
        assert {use for *_, use in ranges} >= {"journal header", "commit", "snapshot", "segment header", "index", "block"}
        choices = random.Random(11)
        served = 0
        for number in range(40):
            kind = choices.choice(sorted({one[3] for one in ranges}))
            path, start, length, use = choices.choice([one for one in ranges if one[3] == kind])
            if use == "end mark":
                continue
            place = physical(path, start + choices.randrange(length))
            bit = choices.randrange(8)

            def flip():
                with open(path, "r+b") as file:
                    file.seek(place)
                    byte = file.read(1)[0]
                    file.seek(place)
                    file.write(bytes([byte ^ 1 << bit]))

            flip()
            found = run("inspect", server.data, "--encryption-key", keys)
            where = f"{use}: bit {bit} of byte {place} of {path}"
            assert path in found.stdout, where + found.stdout
            assert found.returncode == DAMAGED or "damaged, but not needed" in found.stdout, where
            flip()
            if use == "block" and served < 3:
                if true is None:
                    with encrypted(tmp_path / "copy", keys) as reference:
                        copy(server.data, reference.data)
                        reference.start()
                        true = {one: read(reference, "topic-of-secrets", one) for one in (0, 1)}
                served += 1
                flip()
                with encrypted(tmp_path / f"served-{number}", keys) as damaged:
                    copy(server.data, damaged.data)
                    damaged.start()
                    for one in (0, 1):
                        got = read(damaged, "topic-of-secrets", one, seconds=5, ignores_errors=False)
                        for offset, value in got.items():
                            assert true[one][offset] == value, where
                flip()
        assert served > 0


def copy(source, target):
    for path in files(source):
        (target / path.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / path.relative_to(source))


def test_an_export_turns_encryption_on_and_off(tmp_path):
    keys = tmp_path / "keys"
    new_key(keys)
    with Server(tmp_path / "plain") as server:
        server.start()
        fill(server)
        server.stop()
        true = dict(read_again(server, "topic-of-secrets"))
    on = tmp_path / "on"
    done = run("inspect", server.data, "--export", on / "data", "--export-key", keys)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found_words(on) == set()
    with encrypted(on, keys) as moved:
        moved.start()
        assert read(moved, "topic-of-secrets") == true
        moved.stop()
    off = tmp_path / "off"
    both = run("inspect", on / "data", "--export", off / "data", "--export-plain", "--export-key", keys,
               "--encryption-key", keys)
    assert both.returncode == 64
    done = run("inspect", on / "data", "--export", off / "data", "--export-plain", "--encryption-key", keys)
    assert done.returncode == 0, done.stdout + done.stderr
    with Server(off) as back:
        back.start()
        assert read(back, "topic-of-secrets") == true


def read_again(server, topic):
    server.start()
    try:
        return read(server, topic)
    finally:
        server.stop()
