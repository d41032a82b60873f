"""What every Python suite under Tests/ uses: the path of the shared code, servers per session and per test, their logs."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "harness"))

from millrace_tests.server import BINARY, Server  # noqa: E402 (the path comes first)


def pytest_addoption(parser):
    parser.addoption("--amqp-backend", choices=("millrace", "rabbitmq"), default=os.environ.get("AMQP_BACKEND", "millrace"),
                     help="what Tests/amqp runs against: millrace, or Debian's rabbitmq-server, the reference")


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One server for all tests that only need topics of their own."""
    one = Server(tmp_path_factory.mktemp("shared"))
    _started.append(one)
    one.start()
    yield one
    if one.running:
        one.stop()
    one.close()


@pytest.fixture
def make_server(tmp_path):
    """Makes servers that belong to this test alone; the caller starts them."""
    made = []

    def make(name="server", **options):
        one = Server(tmp_path / name, **options)
        made.append(one)
        _started.append(one)
        return one

    yield make
    for one in made:
        one.close()


@pytest.fixture
def own_server(make_server):
    """A started server of this test alone."""
    return make_server().start()


@pytest.fixture
def topic(request):
    """A topic name that no other test uses."""
    _used.append(None)
    plain = "".join(c if c.isalnum() else "-" for c in request.node.name)[:150]
    return f"{plain}.{len(_used)}"


_started = []
_used = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows how the logs of the servers it could have used end."""
    report = yield
    if report.failed:
        for one in _started:
            if one.running or call.when == "call":
                report.sections.append((f"server log {one.log}", one.log_tail(30)))
    return report


def pytest_report_header():
    return f"millrace: {BINARY}" + ("" if BINARY.exists() else " (not built: run `make build`)")


def pytest_runtest_teardown(item, nextitem):
    del item
    if nextitem is None:
        return
    _started[:] = [one for one in _started if one.running]
