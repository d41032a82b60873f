"""A server whose listeners ask who their clients are, with users of each kind."""

import pytest
from millrace_tests.secure import Certificates, certs, start_secure
from millrace_tests.server import Server


def pytest_addoption(parser):
    parser.addoption("--attempts", type=int, default=4_000, help="failed logins that the attack tests make")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory):
    directory = tmp_path_factory.mktemp("certificates")
    certs(directory, "make")
    return Certificates(directory)


@pytest.fixture(scope="session")
def secure(tmp_path_factory, certificates):
    """One server for all tests that only need users and topics of their own.

    Rules are asked for everywhere, although all listeners are on this machine, as if they were not.
    """
    server = Server(tmp_path_factory.mktemp("secure"), arguments=["--set", "allow.everyone.if.no.acl.found=false"])
    try:
        yield start_secure(server, certificates)
    finally:
        server.close()


@pytest.fixture
def make_secure(make_server, certificates):
    """Starts servers of this test alone."""

    def make(**options):
        return start_secure(make_server(**options), certificates)

    return make
