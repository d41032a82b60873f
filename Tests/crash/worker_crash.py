"""Kills workers of a stream job, and their server, at random moments, and holds the counts against an independent count.

    worker_crash.py --cycles 200 [--seed N]

One `millrace serve`, one worker that counts words, and kafka-python, which produces lines all the time. Each cycle does one
thing to them, chosen at random: kill -9 of the worker, of the server, or of both; a second worker beside the first; a worker
that is stopped (SIGSTOP), is replaced, and wakes up; `millrace job stop` and `resume`. Where two workers were alive at once the
older one must end because it is fenced. A server that comes back must be found again by its worker. At the end an
unmodified consumer, which reads committed records, reads `counts` from its beginning: the latest value of every word
must equal the independent count, and the values of a word must grow from record to record.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "harness"))

from kafka import KafkaProducer  # noqa: E402

from count_crash import judge  # noqa: E402
from millrace_tests.server import ROOT, Server, environment, run  # noqa: E402
from words import corpus, count, write_awkward  # noqa: E402

WORKER = Path(os.environ.get("MILLRACE_CRASH_WORKER", ROOT / ".build" / "release" / "CrashWorker"))
FENCED, STOPPED = 3, 4


class Failed(Exception):
    """A worker or the server did not do what it should."""


class Worker:
    """One process that runs a job: the one that `arguments` name, or the word count."""

    def __init__(self, server, arguments=()):
        self.is_running = False
        self.log = server.directory / "worker.log"
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen([str(WORKER), str(server.data), *arguments], stdout=subprocess.PIPE, stderr=log,
                                            stdin=subprocess.DEVNULL, env=environment())

    def await_running(self):
        """Returns once the job has recovered and runs."""
        if self.is_running:
            return self
        timer = threading.Timer(60, self.process.kill)
        timer.start()
        line = self.process.stdout.readline()
        timer.cancel()
        if line != b"running\n":
            raise Failed(f"a worker said {line!r} and ended with {self.process.wait()}: {self.tail()}")
        self.is_running = True
        return self

    def expect_end(self, code, why):
        """The worker ends by itself with this code."""
        try:
            found = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed(f"a worker did not end although {why}: {self.tail()}") from None
        if found != code:
            raise Failed(f"a worker ended with {found}, not {code}, although {why}: {self.tail()}")
        self.process.stdout.close()

    def expect_alive(self):
        if self.process.poll() is not None:
            raise Failed(f"a worker ended by itself with {self.process.returncode}: {self.tail()}")

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def tail(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])


class Feeder:
    """Produces random lines until it is told to stop; `sent` is what was sent."""

    def __init__(self, server, lines, seed):
        self.producer = KafkaProducer(bootstrap_servers=server.bootstrap, acks="all", enable_idempotence=True,
                                      delivery_timeout_ms=300_000, reconnect_backoff_ms=10,
                                      reconnect_backoff_max_ms=100, linger_ms=2)
        self.sent, self.failed = [], []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, args=(lines, random.Random(seed)), daemon=True)
        self._thread.start()

    def _send(self, lines, choices):
        while not self._stop.is_set():
            line = choices.choice(lines)
            self.sent.append(line)
            self.producer.send("lines", line).add_errback(lambda error: self.failed.append(repr(error)))
            if len(self.sent) % 20 == 0:
                time.sleep(0.01)

    def finish(self):
        self._stop.set()
        self._thread.join(60)
        self.producer.flush(timeout=120)
        self.producer.close()


class Cycles:
    """What is done to the worker and to the server; `worker` is the one that should run the job."""

    def __init__(self, server, choices, job="word-count", arguments=()):
        self.server = server
        self.choices = choices
        self.job_name = job
        self.arguments = arguments
        self.worker = self.new_worker().await_running()
        self.done = dict.fromkeys(["kill worker", "kill server", "kill both", "two workers", "wake", "stop"], 0)

    def new_worker(self):
        return Worker(self.server, self.arguments)

    def moment(self, longest=0.6):
        time.sleep(0.01 * (longest / 0.01) ** self.choices.random())

    def cycle(self):
        kind = self.choices.choices(list(self.done), [4, 4, 2, 3, 3, 1])[0]
        self.moment()
        getattr(self, kind.replace(" ", "_"))()
        self.done[kind] += 1

    def restart(self):
        """A worker that is started may be killed before it has recovered."""
        self.worker = self.new_worker()
        if self.choices.random() < 0.7:
            self.worker.await_running()

    def kill_worker(self):
        self.worker.kill()
        self.moment(0.1)
        self.restart()

    def kill_server(self):
        self.worker.await_running()
        if self.choices.random() < 0.2:
            self.server.stop()
        else:
            self.server.kill()
        self.moment(0.2)
        self.server.start()
        self.moment(0.3)
        self.worker.expect_alive()

    def kill_both(self):
        for one in self.choices.sample([self.worker, self.server], 2):
            one.kill()
            self.moment(0.02)
        self.server.start()
        self.restart()

    def two_workers(self):
        older = self.worker.await_running()
        self.worker = self.new_worker().await_running()
        older.expect_end(FENCED, "another worker has taken over")

    def wake(self):
        older = self.worker.await_running()
        older.signal(signal.SIGSTOP)
        self.moment(0.1)
        self.worker = self.new_worker().await_running()
        if self.choices.random() < 0.3:
            # The server forgets the connection; the worker that wakes must not take the job back.
            self.server.kill()
            self.server.start()
        self.moment(0.3)
        older.signal(signal.SIGCONT)
        older.expect_end(FENCED, "another worker has taken over while it was stopped")

    def job(self, *words):
        done = run("job", *words, self.job_name, "--data", self.server.data)
        if done.returncode != 0:
            raise Failed(f"millrace job {words} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def stop(self):
        self.job("stop")
        self.worker.expect_end(STOPPED, "the job was stopped")
        self.new_worker().expect_end(STOPPED, "the job was stopped before")
        if "state    stopped" not in self.job("show"):
            raise Failed("the job does not say that it is stopped")
        self.job("resume")
        self.restart()

    def close(self):
        self.worker.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, default=10)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", type=Path, default=ROOT / ".build" / "crash" / "worker")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"worker crash test: seed={seed} (repeat with: make crash CYCLES={options.cycles} SEED={seed})", flush=True)
    choices = random.Random(seed)
    shutil.rmtree(options.directory, ignore_errors=True)
    files = corpus(1_000_000) + write_awkward(options.directory / "input")
    lines = [line for path in files for line in path.read_bytes().split(b"\n") if 0 < len(line) < 500][:20_000]

    problems, cycles, records = [], None, 0
    with Server(options.directory, arguments=["--set", "num.partitions=3"]) as server:
        server.start()
        feeder = Feeder(server, lines, choices.randrange(1 << 32))
        try:
            cycles = Cycles(server, choices)
            for _ in range(options.cycles):
                cycles.cycle()
            feeder.finish()
            problems, records = judge(server, count(feeder.sent))
            cycles.worker.expect_alive()
        except Failed as failure:
            problems = [str(failure)]
        finally:
            if cycles is not None:
                cycles.close()
        problems += [f"kafka-python: {feeder.failed.count(reason)} sends failed: {reason}"
                     for reason in sorted(set(feeder.failed))]
        server.stop()
    for line in problems:
        print(line)
    done = cycles.done if cycles is not None else {}
    what = ", ".join(f"{kind} {number}" for kind, number in done.items())
    print(f"CYCLES={sum(done.values())} ({what}) lines={len(feeder.sent)} count records={records} "
          f"wrong={len(problems)}", flush=True)
    if problems:
        print(f"FAILED; data and logs are in {options.directory}")
        return 1
    if not records:
        print("FAILED; nothing was counted")
        return 1
    shutil.rmtree(options.directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
