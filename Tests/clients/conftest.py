"""Runs a test once per client: `client`, `writer` and `reader` are drivers."""

import pytest
from drivers import CLIENTS


def pytest_generate_tests(metafunc):
    for name in ("client", "writer", "reader"):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, CLIENTS, ids=[one.name for one in CLIENTS])


@pytest.fixture
def create_topic(server):
    """Creates a topic on the shared server over the raw protocol, so that no client is needed for it."""
    from millrace_tests import wire

    def create(name, partitions=1, configs=(), on=None):
        with wire.Wire(on or server) as connection:
            error = wire.create_topic(connection, name, partitions, configs)
        assert error == 0, f"creating {name} answered error {error}"
        return name

    return create
