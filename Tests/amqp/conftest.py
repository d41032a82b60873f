"""The AMQP suite's server and connections. `--amqp-backend` (or AMQP_BACKEND) chooses millrace, the standard, or rabbitmq."""

import itertools

import pytest
from millrace_tests import amqp
from millrace_tests.amqp_backend import BACKENDS, RabbitMQBackend, millrace_speaks_amqp
from millrace_tests.server import BINARY, Server

NO_AMQP = "this millrace does not speak AMQP: `millrace serve --help` names no --amqp"
_session = {}


def _missing(config):
    """Why nothing can run, or None."""
    if config.getoption("--amqp-backend") == "millrace" and BINARY.exists() and not millrace_speaks_amqp():
        return NO_AMQP
    return None


def pytest_report_header(config):
    return f"AMQP backend: {config.getoption('--amqp-backend')}" + (f" (all skipped: {why})" if (why := _missing(config)) else "")


def pytest_collection_modifyitems(config, items):
    """Skips with a mark, which pytest sums up in a line for each file."""
    if why := _missing(config):
        for item in items:
            if {"amqp_server", "make_amqp_server"} & set(getattr(item, "fixturenames", ())):
                item.add_marker(pytest.mark.skip(reason=why))


@pytest.fixture(scope="session")
def amqp_server(request, tmp_path_factory):
    """One server for the whole session; tests use names of their own."""
    if why := _missing(request.config):
        pytest.skip(why)
    kind = BACKENDS[request.config.getoption("--amqp-backend")]
    if kind is RabbitMQBackend and not kind(tmp_path_factory.mktemp("probe")).server.installed():
        pytest.fail("rabbitmq-server is not installed; `Scripts/setup reference` does that")
    backend = kind(tmp_path_factory.mktemp("amqp"))
    _session["backend"] = backend
    backend.start()
    yield backend
    backend.close()


@pytest.fixture
def make_amqp_server(request, tmp_path):
    """Starts servers of this test alone."""
    if why := _missing(request.config):
        pytest.skip(why)
    made = []

    def make():
        made.append(BACKENDS[request.config.getoption("--amqp-backend")](tmp_path / f"server-{len(made)}"))
        return made[-1].start()

    yield make
    for one in made:
        one.close()


@pytest.fixture
def connect(amqp_server):
    """Opens connections that end with the test."""
    made = []

    def connect(**options):
        made.append(amqp.Connection(options.pop("server", amqp_server), **options))
        return made[-1]

    yield connect
    for one in made:
        one.close()


@pytest.fixture
def connection(connect):
    return connect()


@pytest.fixture
def channel(connection):
    return connection.channel()


@pytest.fixture
def name(request):
    """Makes names that no other test uses: name("orders")."""
    plain = "".join(c if c.isalnum() else "-" for c in request.node.originalname)[5:45]

    def make(what="queue"):
        return f"{plain}.{next(_numbers)}.{what}"

    return make


_numbers = itertools.count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    backend = _session.get("backend")
    if report.failed and backend is not None:
        report.sections.append((f"{backend.name}'s log {backend.log}", backend.log_tail(30)))
    return report


@pytest.fixture
def server(request, tmp_path):
    """A Millrace of this test alone, that may be killed: for what RabbitMQ has nothing like."""
    if request.config.getoption("--amqp-backend") != "millrace":
        pytest.skip("RabbitMQ has no stream jobs")
    with Server(tmp_path, amqp=True) as one:
        yield one.start()
        if one.running:
            one.stop()
