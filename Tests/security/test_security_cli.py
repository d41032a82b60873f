"""Commands against a server that asks who they are: users and rules managed, wrong input, certificates read again."""

import json
import os
import signal
import socket
import ssl
import time

import pytest
from millrace_tests.secure import Certificates, certs, openssl, start_secure
from millrace_tests.server import run


def test_users_are_set_listed_and_deleted(secure):
    made = secure.cli("user", "set", "grace", "--generate")
    assert made.returncode == 0 and len(made.stdout.strip()) == 26
    listed = json.loads(secure.cli("user", "list", "--json").stdout)
    grace = next(one for one in listed if one["name"] == "grace")
    assert [(one["mechanism"], one["iterations"]) for one in grace["credentials"]] == [
        ("SCRAM-SHA-256", 15000), ("SCRAM-SHA-512", 15000)]
    assert secure.cli("user", "delete", "grace").returncode == 0
    gone = secure.cli("user", "delete", "grace")
    assert gone.returncode == 1 and "grace" in gone.stderr


@pytest.mark.parametrize(("name", "password"), [("*", "x"), ("ANONYMOUS", "x"), ("henry", ""), ("h\u00e9", "x")])
def test_what_no_user_can_be_is_refused_with_a_reason(secure, name, password):
    done = secure.cli("user", "set", name, stdin=password + "\n")
    assert done.returncode == 1 and done.stderr.strip()


def test_rules_are_added_listed_and_removed(secure):
    rule = ["--principal", "ivan", "--operation", "read", "--operation", "write", "--topic", "ivan-", "--prefix",
            "--from", "10.0.0.1", "--deny"]
    assert secure.cli("acl", "add", *rule).returncode == 0
    assert secure.cli("acl", "add", "--principal", "ivan", "--operation", "read", "--queue", "%2F/q").returncode == 0
    mine = [one for one in json.loads(secure.cli("acl", "list", "--json").stdout) if one["principal"] == "User:ivan"]
    assert mine == [
        {"allow": False, "principal": "User:ivan", "operation": "read", "resource": "topic", "name": "ivan-", "prefix": True,
         "host": "10.0.0.1"},
        {"allow": False, "principal": "User:ivan", "operation": "write", "resource": "topic", "name": "ivan-", "prefix": True,
         "host": "10.0.0.1"},
        {"allow": True, "principal": "User:ivan", "operation": "read", "resource": "queue", "name": "%2F/q", "prefix": False,
         "host": "*"}]
    assert secure.cli("acl", "remove", *rule).returncode == 0
    again = secure.cli("acl", "remove", *rule)
    assert again.returncode == 1 and "no such rule" in again.stderr
    wrong = secure.cli("acl", "add", "--principal", "ivan", "--operation", "write", "--group", "g")
    assert wrong.returncode == 1 and "write" in wrong.stderr
    nothing = secure.cli("acl", "add", "--principal", "ivan", "--operation", "read")
    assert nothing.returncode == 64 and "--topic" in nothing.stderr


def test_commands_say_why_they_do_not_get_in(secure, tmp_path):
    wrong = tmp_path / "wrong"
    wrong.write_text("not the password\n")
    address, ca = secure.address("kafka+tls"), secure.certificates.ca

    def topics(*security):
        done = run("topic", "list", "--bootstrap", address, *security)
        assert done.returncode != 0
        return done.returncode, done.stderr

    assert topics("--user", "admin", "--password-file", wrong, "--ca", ca)[1].count("does not let admin in") == 1
    assert "--user" in topics("--password-file", wrong, "--ca", ca)[1]
    assert topics("--user", "admin", "--ca", ca)[0] == 64
    assert "nowhere" in topics("--user", "admin", "--password-file", tmp_path / "nowhere", "--ca", ca)[1]
    other = tmp_path / "other"
    certs(other, "make")
    assert "TLS" in topics("--user", "admin", "--password-file", secure.password_file, "--ca", other / "ca.pem")[1]
    assert topics("--user", "admin", "--password-file", secure.password_file)[0] == 1  # no TLS at all
    assert topics("--ca", ca)[0] == 1  # nobody


def certificate_of(secure):
    host, port = secure.server.addresses["kafka+tls"]
    context = ssl.create_default_context(cafile=secure.certificates.ca)
    with socket.create_connection((host, port), 8) as plain, context.wrap_socket(plain, server_hostname=host) as wrapped:
        return wrapped.getpeercert()["serialNumber"]


def until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to be in time"
        time.sleep(0.05)


def test_certificates_are_read_again_and_bad_ones_are_not(make_server, tmp_path):
    directory = tmp_path / "own"
    certs(directory, "make")
    secure = start_secure(make_server(listeners=["kafka+tls://127.0.0.1:0?auth=scram"]), Certificates(directory))
    before = certificate_of(secure)
    certs(directory, "make", "--force")
    assert certificate_of(secure) == before
    os.kill(secure.server.process.pid, signal.SIGHUP)
    until(lambda: certificate_of(secure) != before)
    after = certificate_of(secure)
    (directory / "server.pem").write_text("not a certificate\n")
    os.kill(secure.server.process.pid, signal.SIGHUP)
    until(lambda: "not read again" in secure.server.log.read_text())
    assert certificate_of(secure) == after
    assert secure.cli("topic", "list").returncode == 0


def test_expired_and_revoked_certificates_are_refused(make_server, tmp_path):
    """A client's certificate that is out of its time, and one that its authority has taken back."""
    directory = tmp_path / "own"
    certs(directory, "make")
    certificates = Certificates(directory)
    good, revoked = certificates.pair("good"), certificates.pair("revoked")
    # Made by openssl, because `millrace certs` makes none whose time is over.
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=late",
            "-keyout", directory / "late.key", "-out", directory / "late.csr")
    (directory / "index.txt").write_text("")
    (directory / "ca.cnf").write_text(
        f"[ca]\ndefault_ca=d\n[d]\ndatabase={directory}/index.txt\nserial={directory}/serial\nnew_certs_dir={directory}\n"
        f"certificate={directory}/ca.pem\nprivate_key={directory}/ca.key\ndefault_md=sha256\npolicy=p\ncopy_extensions=none\n"
        "default_crl_days=30\n[p]\ncommonName=supplied\n")
    openssl("ca", "-batch", "-config", directory / "ca.cnf", "-rand_serial", "-in", directory / "late.csr", "-out",
            directory / "late.pem", "-startdate", "200101000000Z", "-enddate", "200201000000Z")
    openssl("ca", "-config", directory / "ca.cnf", "-revoke", revoked[0])
    openssl("ca", "-config", directory / "ca.cnf", "-gencrl", "-out", directory / "crl.pem")
    secure = start_secure(
        make_server(listeners=["kafka+tls://127.0.0.1:0?auth=certificate"],
                    arguments=["--tls-crl", directory / "crl.pem", "--set", "super.users=User:CN=good"]), certificates)

    def served(pair):
        done = run("topic", "list", "--bootstrap", secure.address("kafka+tls"), "--ca", certificates.ca,
                   "--certificate", pair[0], "--certificate-key", pair[1])
        return done.returncode == 0

    assert served(good)
    assert not served(revoked)
    assert not served((str(directory / "late.pem"), str(directory / "late.key")))


def test_denials_and_logins_are_records_of_the_audit(secure):
    assert secure.cli("user", "set", "judy", stdin="secret\n").returncode == 0
    password = secure.server.directory / "judy"
    password.write_text("secret\n")

    def as_judy(*arguments):
        return run(*arguments, "--bootstrap", secure.address("kafka+tls"), "--ca", secure.certificates.ca,
                   "--user", "judy", "--password-file", password)

    assert as_judy("topic", "create", "judys").returncode != 0

    def records():
        done = secure.cli("consume", "__audit", "--from", "earliest", "--timeout", "1")
        return [json.loads(line) for line in done.stdout.splitlines()]

    def told():
        return any(one.get("principal") == "User:judy" and one["operation"] == "create" and not one["allowed"]
                   for one in records())

    until(told)
    assert any(one["operation"] == "authenticate" and one.get("principal") == "User:judy" and one["allowed"] for one in records())
    assert "User:judy" in secure.server.log.read_text()
