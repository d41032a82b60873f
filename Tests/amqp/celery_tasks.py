"""The Celery application of the tests, for the worker process (settings from the environment) and for the client."""

import os
import time
from pathlib import Path

from celery import Celery


def make_app(broker, queue, quorum=False):
    app = Celery("tests", broker=broker, backend="rpc://")
    app.conf.update(
        task_default_queue=queue, task_default_exchange=queue, task_default_routing_key=queue, task_acks_late=True,
        task_reject_on_worker_lost=True, worker_prefetch_multiplier=1, worker_cancel_long_running_tasks_on_connection_loss=True,
        broker_connection_retry_on_startup=True, broker_connection_timeout=20)
    if quorum:
        app.conf.update(task_default_queue_type="quorum", task_default_exchange_type="topic")

    @app.task(name="add", shared=False)
    def add(a, b):
        return a + b

    @app.task(name="fail", shared=False)
    def fail(text):
        raise ValueError(text)

    @app.task(name="flaky", bind=True, max_retries=3, shared=False)
    def flaky(self, fails, countdown=0.1):
        if self.request.retries < fails:
            raise self.retry(countdown=countdown)
        return self.request.retries

    @app.task(name="hold", shared=False)
    def hold(directory):
        """Says that it began, and goes on once it may."""
        folder = Path(directory)
        (folder / f"began-{len(list(folder.glob('began-*')))}").touch()
        while not (folder / "go").exists():
            time.sleep(0.02)
        return len(list(folder.glob("began-*")))

    return app


if "MILLRACE_TESTS_BROKER" in os.environ:
    app = make_app(os.environ["MILLRACE_TESTS_BROKER"], os.environ["MILLRACE_TESTS_QUEUE"],
                   "MILLRACE_TESTS_QUORUM" in os.environ)
