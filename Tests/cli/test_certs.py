"""`millrace certs`: what it makes is good for another TLS library's clients and servers, and keys stay their owner's."""

import ssl
import stat

import pytest
from millrace_tests.server import run


@pytest.fixture
def certs(tmp_path):
    """Runs `millrace certs` in a directory of its own and holds its exit code against the expected one."""

    def call(*arguments, expect=0):
        done = run("certs", *arguments, *(() if arguments[0] == "show" else ("--directory", tmp_path)))
        assert done.returncode == expect, done.stderr
        return done

    call.path = tmp_path
    return call


def handshake(server, client, name):
    """Lets two contexts shake hands in memory; gives the client's certificate as the server has verified it."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(to_server, to_client, server_side=True), client.wrap_bio(to_client, to_server, server_hostname=name)]
    for _ in range(10):
        waiting = 0
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting += 1
        if not waiting:
            return ends[0].getpeercert()
    raise AssertionError("the handshake does not end")


def test_what_is_made_is_trusted_by_its_authority_and_names_its_hosts(certs):
    certs("make", "--host", "mill.example", "192.0.2.7")
    certs("client", "alice")
    for key in ("ca.key", "server.key", "alice.key"):
        assert stat.S_IMODE((certs.path / key).stat().st_mode) == 0o600
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certs.path / "server.pem", certs.path / "server.key")
    server.load_verify_locations(certs.path / "ca.pem")
    server.verify_mode = ssl.CERT_REQUIRED
    client = ssl.create_default_context(cafile=certs.path / "ca.pem")
    client.load_cert_chain(certs.path / "alice.pem", certs.path / "alice.key")
    for name in ("mill.example", "192.0.2.7"):
        peer = handshake(server, client, name)
        assert peer["subject"] == ((("commonName", "alice"),),)
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for 'other.example'"):
        handshake(server, client, "other.example")


def test_certificates_are_shown(certs):
    certs("make")
    shown = certs("show", certs.path / "server.pem").stdout
    assert "subject  CN=localhost\n" in shown and "names    localhost 127.0.0.1 ::1\n" in shown
    assert "authority" in certs("show", certs.path / "ca.pem").stdout
    assert "no certificate" in certs("show", certs.path / "server.key", expect=1).stderr


def test_nothing_is_replaced_and_a_disk_that_cannot_be_written_is_named(certs):
    certs("make")
    assert "--force" in certs("make", expect=1).stderr
    done = run("certs", "make", "--directory", "/proc/none")
    assert done.returncode == 1 and "/proc/none" in done.stderr
    done = run("certs", "make", "--directory", "/dev/full/certs")
    assert done.returncode == 1 and "/dev/full" in done.stderr
