"""An unmodified Celery worker: tasks and results, retries, ETA, remote control, and its death in the middle of work."""

import datetime
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from celery import group
from celery.exceptions import TaskRevokedError
from celery_tasks import make_app

SECONDS = 40


class Worker:
    """One worker with its processes, in a session of its own so that all can be killed at once."""

    def __init__(self, broker, directory, quorum=False):
        self.directory = Path(directory)
        self.queue = f"celery.{uuid.uuid4().hex[:8]}"
        self.name = f"{self.queue}@localhost"
        self.log = self.directory / "worker.log"
        self.app = make_app(broker, self.queue, quorum)
        self.environment = os.environ | {"MILLRACE_TESTS_BROKER": broker, "MILLRACE_TESTS_QUEUE": self.queue,
                                         "PYTHONPATH": str(Path(__file__).parent)}
        if quorum:
            self.environment["MILLRACE_TESTS_QUORUM"] = "1"
        self.process = None

    def start(self):
        with open(self.log, "ab") as log:
            before = log.tell()
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "celery_tasks", "worker", "--concurrency", "2", "--hostname", self.name,
                 "--loglevel", "INFO"], cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True)
        self.wait(lambda: f"{self.name} ready.".encode() in self.log.read_bytes()[before:])
        return self

    def wait(self, condition):
        deadline = time.monotonic() + SECONDS
        while not condition():
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()[-3000:]
            time.sleep(0.02)

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def stop(self):
        """As an operator does; what is being worked on is finished first."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(SECONDS)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.kill()
        self.app.close()

    def send(self, task, *arguments, **options):
        return self.app.tasks[task].apply_async(arguments, **options)


@pytest.fixture(scope="module")
def worker(amqp_server, tmp_path_factory):
    one = Worker(amqp_server.uri, tmp_path_factory.mktemp("worker"))
    yield one.start()
    one.close()


@pytest.fixture(scope="module")
def quorum_worker(amqp_server, tmp_path_factory):
    one = Worker(amqp_server.uri, tmp_path_factory.mktemp("quorum"), quorum=True)
    yield one.start()
    one.close()


def test_tasks_are_done_and_their_results_come_back(worker):
    results = [worker.send("add", n, n) for n in range(30)]
    assert [one.get(timeout=SECONDS) for one in results] == [2 * n for n in range(30)]


def test_a_group_of_tasks(worker):
    add = worker.app.tasks["add"]
    assert group(add.s(n, 1) for n in range(10))().get(timeout=SECONDS) == list(range(1, 11))


def test_an_error_comes_back_as_itself(worker):
    with pytest.raises(ValueError, match="on purpose"):
        worker.send("fail", "on purpose").get(timeout=SECONDS)


def test_a_retry_with_countdown(worker):
    assert worker.send("flaky", 2).get(timeout=SECONDS) == 2


def test_countdown_and_eta(worker):
    eta = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=0.5)
    results = [worker.send("add", 1, 2, countdown=0.5), worker.send("add", 3, 4, eta=eta)]
    assert [one.get(timeout=SECONDS) for one in results] == [3, 7]


def test_an_expired_task_is_not_done(worker):
    past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(seconds=10)
    with pytest.raises(TaskRevokedError):
        worker.send("add", 1, 2, expires=past).get(timeout=SECONDS)


def test_priorities_of_tasks_do_no_harm(worker):
    results = [worker.send("add", n, 0, priority=n) for n in (0, 9, 5)]
    assert [one.get(timeout=SECONDS) for one in results] == [0, 9, 5]


def test_remote_control_answers(worker):
    control = worker.app.control
    assert control.ping(destination=[worker.name], timeout=SECONDS, limit=1) == [{worker.name: {"ok": "pong"}}]
    inspect = control.inspect(destination=[worker.name], timeout=SECONDS, limit=1)
    assert [one["name"] for one in inspect.active_queues()[worker.name]] == [worker.queue]
    assert "add" in inspect.registered()[worker.name]


def test_a_revoked_task_is_not_done(worker):
    task = str(uuid.uuid4())
    worker.app.control.revoke(task, destination=[worker.name], reply=True, timeout=SECONDS, limit=1)
    with pytest.raises(TaskRevokedError):
        worker.send("add", 1, 2, task_id=task).get(timeout=SECONDS)


def test_purge_counts(worker):
    worker.app.control.cancel_consumer(worker.queue, destination=[worker.name], reply=True, timeout=SECONDS, limit=1)
    for n in range(3):
        worker.send("add", n, n)
    with worker.app.connection_for_write() as connection:
        channel = connection.default_channel
        while channel.queue_declare(worker.queue, passive=True).message_count < 3:
            pass
    assert worker.app.control.purge() == 3
    worker.app.control.add_consumer(worker.queue, destination=[worker.name], reply=True, timeout=SECONDS, limit=1)
    assert worker.send("add", 1, 1).get(timeout=SECONDS) == 2


@pytest.mark.parametrize("kind", ["worker", "quorum_worker"])
def test_work_that_a_worker_died_over_is_done_by_the_next(request, tmp_path, kind):
    worker = request.getfixturevalue(kind)
    result = worker.send("hold", str(tmp_path))
    worker.wait((tmp_path / "began-0").exists)
    worker.kill()
    worker.start()
    worker.wait((tmp_path / "began-1").exists)
    (tmp_path / "go").touch()
    assert result.get(timeout=SECONDS) == 2


def test_quorum_queues_work_alike(quorum_worker):
    results = [quorum_worker.send("add", n, n) for n in range(10)]
    assert [one.get(timeout=SECONDS) for one in results] == [2 * n for n in range(10)]
    assert quorum_worker.send("flaky", 1, 1).get(timeout=SECONDS) == 1  # Celery delays by whole seconds there


def test_native_delayed_delivery_through_28_exchanges(quorum_worker):
    """A countdown of 3 s passes the levels of 2 s and of 1 s on its way to the queue."""
    began = time.monotonic()
    result = quorum_worker.send("add", 20, 22, countdown=3)
    assert result.get(timeout=SECONDS) == 42
    assert time.monotonic() - began >= 2  # Celery rounds its countdown down to whole seconds; never earlier


@pytest.mark.parametrize("kind", ["worker", "quorum_worker"])
def test_a_clean_stop_finishes_its_work(request, tmp_path, kind):
    worker = request.getfixturevalue(kind)
    result = worker.send("hold", str(tmp_path))
    worker.wait((tmp_path / "began-0").exists)
    later = worker.send("add", 1, 1)
    worker.process.send_signal(signal.SIGTERM)
    (tmp_path / "go").touch()
    assert worker.process.wait(SECONDS) == 0
    assert result.get(timeout=SECONDS) == 1
    worker.start()
    assert later.get(timeout=SECONDS) == 2
