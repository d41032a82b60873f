"""kcat, a program on Debian's librdkafka: records travel as text through its standard input and output."""

import json
import re
import signal
import subprocess
import threading
from itertools import groupby

from millrace_tests.batches import Record

from .base import Driver, Member


class KcatFailed(Exception):
    """kcat ended with an error; the message is what it said."""


def _bytes(text):
    return None if text is None else text.encode()


def _record(line):
    one = json.loads(line)
    flat = one.get("headers") or []
    headers = [(name, _bytes(value)) for name, value in zip(flat[::2], flat[1::2])]
    return Record(_bytes(one["key"]), _bytes(one["payload"]), headers, one["ts"], one["offset"], one["partition"])


def _run(arguments, stdin=None, timeout_seconds=40):
    done = subprocess.run(["kcat", *arguments], input=stdin, capture_output=True, timeout=timeout_seconds)
    if done.returncode != 0:
        raise KcatFailed(done.stderr.decode(errors="replace"))
    return done


class Kcat(Driver):
    name = "kcat"
    text_only = True
    null_headers = False
    # A record that its poll returns when the signal has come is committed but not printed (kcat.c, consume_cb).
    drops_at_exit = True

    def produce(self, bootstrap, topic, records, codec="none", acks="all", idempotent=False, partition=0):
        # Headers are given per run, so neighbours with the same headers go together.
        for headers, run in groupby(records, lambda one: one.headers):
            lines = b""
            for one in run:
                lines += (one.key + b"\x01" if one.key is not None else b"") + (one.value or b"") + b"\n"
            arguments = ["-P", "-b", bootstrap, "-t", topic, "-p", str(partition), "-K", "\\x01", "-Z", "-z", codec,
                         "-X", f"acks={acks}", "-X", f"enable.idempotence={str(idempotent).lower()}"]
            for name, value in headers:
                arguments += ["-H", f"{name}={value.decode()}"]
            _run(arguments, stdin=lines)
        return [None] * len(records)

    def read(self, bootstrap, topic, partition=0, first=0, count=1, timeout_seconds=20):
        done = _run(["-C", "-b", bootstrap, "-t", topic, "-p", str(partition), "-o", str(first), "-c", str(count), "-e",
                     "-J", "-q", "-X", "check.crcs=true"], timeout_seconds=timeout_seconds + 10)
        return [_record(line) for line in done.stdout.splitlines()]

    def offset_for_time(self, bootstrap, topic, partition, milliseconds):
        done = _run(["-Q", "-b", bootstrap, "-t", f"{topic}:{partition}:{milliseconds}"])
        offset = int(re.search(rb"offset (-?\d+)", done.stdout)[1])
        return None if offset < 0 else offset

    def member(self, bootstrap, group, topic, **options):
        return _Member(bootstrap, group, topic, **options).start()


class _Member(Member):
    def _run(self):
        options = {"auto.offset.reset": "earliest" if self.from_beginning else "latest",
                   "session.timeout.ms": self.session_timeout_ms, "heartbeat.interval.ms": 500,
                   "auto.commit.interval.ms": 200, "fetch.wait.max.ms": 100}
        if self.instance:
            options["group.instance.id"] = self.instance
        arguments = ["kcat", "-b", self.bootstrap, "-u", "-J"]
        for name, value in options.items():
            arguments += ["-X", f"{name}={value}"]
        process = subprocess.Popen([*arguments, "-G", self.group, self.topic], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        watcher = _start(self._watch, process.stderr)
        stopper = _start(self._stop, process)
        for line in process.stdout:
            if line.startswith("{"):
                self._received(_record(line))
        process.wait()
        watcher.join()
        self.stopping.set()
        stopper.join()
        process.stdout.close()
        process.stderr.close()

    def _watch(self, lines):
        """kcat says on standard error how its group is rebalanced: `assigned: topic [0], topic [1]`."""
        for line in lines:
            if "assigned:" in line:
                self._got_assignment(int(one) for one in re.findall(r"\[(\d+)\]", line.partition("assigned:")[2]))
            elif "revoked:" in line:
                self.assigned = None

    def _stop(self, process):
        self.stopping.wait()
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)


def _start(work, *arguments):
    thread = threading.Thread(target=work, args=arguments, daemon=True)
    thread.start()
    return thread
