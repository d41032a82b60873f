"""A C program on Debian's librdkafka; `rdkafka_client.c` beside this file says how records travel."""

import functools
import signal
import subprocess
import threading
from pathlib import Path

from millrace_tests.batches import Record

from .base import Driver, Member

HERE = Path(__file__).parent
PROGRAM = HERE.parents[2] / ".build" / "clients" / "rdkafka_client"


class RdkafkaFailed(Exception):
    """The program ended with an error; the message is what it said."""


@functools.cache
def _program():
    """The program, built when it is missing or older than its source."""
    done = subprocess.run(["make", "-s", "-C", str(HERE)], capture_output=True, text=True)
    if done.returncode != 0:
        raise RdkafkaFailed(done.stderr)
    return str(PROGRAM)


def _text(value):
    return "-" if value is None else "x" + value.hex()


def _bytes(text):
    return None if text == "-" else bytes.fromhex(text[1:])


def _record(line):
    _, partition, offset, timestamp, key, value, *headers = line.split()
    names = [(_bytes(name).decode(), _bytes(content)) for name, content in zip(headers[::2], headers[1::2])]
    return Record(_bytes(key), _bytes(value), names, int(timestamp), int(offset), int(partition))


def _settings(**options):
    return [f"{name.replace('_', '.')}={value}" for name, value in options.items()]


def _run(*arguments, stdin="", timeout_seconds=60):
    done = subprocess.run([_program(), *map(str, arguments)], input=stdin, capture_output=True, text=True,
                          timeout=timeout_seconds)
    if done.returncode != 0:
        raise RdkafkaFailed(done.stderr)
    return done.stdout.splitlines()


class Rdkafka(Driver):
    name = "librdkafka"

    def produce(self, bootstrap, topic, records, codec="none", acks="all", idempotent=False, partition=0):
        lines = []
        for one in records:
            fields = [str(-1 if one.timestamp is None else one.timestamp), _text(one.key), _text(one.value)]
            for name, value in one.headers:
                fields += [_text(name.encode()), _text(value)]
            lines.append(" ".join(fields) + "\n")
        found = _run("produce", topic, partition, *_settings(
            bootstrap_servers=bootstrap, acks=acks, enable_idempotence=str(idempotent).lower(),
            compression_type=codec, linger_ms=5, message_timeout_ms=30_000), stdin="".join(lines))
        return [int(one) for one in found]

    def read(self, bootstrap, topic, partition=0, first=0, count=1, timeout_seconds=20):
        return [_record(line) for line in _run(
            "read", topic, partition, first, count, timeout_seconds * 1000, *_settings(
                bootstrap_servers=bootstrap, group_id="unused", enable_auto_commit="false", auto_offset_reset="error",
                check_crcs="true"))]

    def offset_for_time(self, bootstrap, topic, partition, milliseconds):
        (offset,) = _run("time", topic, partition, milliseconds,
                         *_settings(bootstrap_servers=bootstrap, group_id="unused"))
        return None if int(offset) < 0 else int(offset)

    def member(self, bootstrap, group, topic, **options):
        return _Member(bootstrap, group, topic, **options).start()


class _Member(Member):
    def _run(self):
        options = _settings(
            bootstrap_servers=self.bootstrap, group_id=self.group, enable_auto_commit="true",
            auto_commit_interval_ms=200, session_timeout_ms=self.session_timeout_ms, heartbeat_interval_ms=500,
            fetch_wait_max_ms=100, auto_offset_reset="earliest" if self.from_beginning else "latest")
        if self.instance:
            options.append(f"group.instance.id={self.instance}")
        process = subprocess.Popen([_program(), "member", self.topic, *options], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        stopper = threading.Thread(target=self._stop, args=[process], daemon=True)
        stopper.start()
        for line in process.stdout:
            kind, _, rest = line.strip().partition(" ")
            if kind == "record":
                self._received(_record(line))
            elif kind == "assigned":
                self._got_assignment(int(one) for one in rest.split(",") if one)
            elif kind == "revoked":
                self.assigned = None
        said = process.stderr.read()
        process.stdout.close()
        process.stderr.close()
        asked = self.stopping.is_set()
        self.stopping.set()
        stopper.join()
        if process.wait() != 0 or not asked:
            raise RdkafkaFailed(f"the member ended with {process.returncode}: {said}")

    def _stop(self, process):
        self.stopping.wait()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
