"""Logs of a server with strangers at its doors: every line can be read by a program, and none tells a secret or what users keep."""

import base64
import json
import os
import socket
import ssl
import time
import urllib.error
import urllib.request

import pika
import pytest
from millrace_tests.secure import Certificates, certs, openssl, start_secure
from millrace_tests.server import run

SECRET = "hunter2-5f0c1e"
BODY = "what-users-keep-77ab"
HOSTILE = "a\nb\r\x1b[31m2026-01-01T00:00:00.000Z error log: forged\u2028\u202e\x00"


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_no_line_is_forged_and_no_secret_is_told(make_server, certificates, tmp_path, log_format):
    server = make_server(
        listeners=["kafka+tls://127.0.0.1:0?auth=plain,scram", "amqps://127.0.0.1:0?auth=plain", "https://127.0.0.1:0"],
        arguments=["--log-format", log_format, "--log-level", "debug",
                   "--set", "allow.everyone.if.no.acl.found=false"])
    secure = start_secure(server, certificates)
    secure.add_user("alice", SECRET)
    secure.allow("--principal", "alice", "--operation", "write", "--topic", "t")
    provoke(secure, certificates, tmp_path)
    assert server.stop() == 0
    lines = [line for line in server.log.read_text().split("\n") if line and not line.startswith("--- ")]
    assert len(lines) > 20
    secrets = [SECRET, secure.admin_password, BODY, base64.b64encode(f"alice:{SECRET}".encode()).decode(),
               base64.b64encode(f"\0alice\0{SECRET}".encode()).decode()]
    for line in lines:
        assert not any(secret in line for secret in secrets), line
        assert all(ord(character) >= 32 and character not in "\x7f\u2028\u202e" for character in line), repr(line)
        if log_format == "json":
            one = json.loads(line)
            assert set(one) - {"suppressed"} == {"time", "level", "component", "message", "fields"}, line
            assert one["level"] in ("debug", "info", "warning", "error")
            assert all(isinstance(value, str) for value in one["fields"].values())
        else:
            assert line[:4].isdigit() and line.split(" ")[1] in ("debug", "info", "warning", "error"), line
    said = "\n".join(lines)
    assert "login refused" in said and "denied" in said
    assert "forged" in said, "the name of the stranger stands there, made harmless"
    assert not any(line.startswith("2026-01-01T00:00:00.000Z error log: forged") for line in lines)


def provoke(secure, certificates, tmp_path):
    """Right and wrong logins, what is denied, and hostile names, over all protocols."""
    password = tmp_path / "password"
    password.write_text(SECRET + "\n")

    def cli(*arguments, user="alice", stdin=None):
        return run(*arguments, "--bootstrap", secure.address("kafka+tls"), "--ca", certificates.ca, "--user", user,
                   "--password-file", password, stdin=stdin)

    assert secure.cli("topic", "create", "t").returncode == 0
    assert cli("produce", "t", stdin=BODY + "\n").returncode == 0
    assert cli("topic", "list").returncode == 0
    assert cli("topic", "create", "denied").returncode != 0
    assert cli("topic", "list", user="nobody").returncode != 0
    context = ssl.create_default_context(cafile=certificates.ca)
    host, port = secure.server.addresses["https"]

    def http(path, user, secret, method="GET", body=None):
        credentials = base64.b64encode(f"{user}:{secret}".encode()).decode()
        request = urllib.request.Request(
            f"https://{host}:{port}{path}", method=method, data=body,
            headers={"Authorization": f"Basic {credentials}", "Content-Type": "application/json"})
        try:
            return urllib.request.urlopen(request, timeout=10, context=context).status
        except urllib.error.HTTPError as error:
            return error.code

    assert http("/api/v1/topics", "alice", SECRET) == 200
    assert http("/api/v1/topics", "alice", SECRET + "x") == 401
    assert http("/api/v1/topics", f"mallory{SECRET}", SECRET) == 401
    body = json.dumps({"records": [{"value": BODY}], "password": SECRET}).encode()
    http("/api/v1/topics/t/records", "alice", SECRET, "POST", body)
    http("/api/v1/topics/%0Aforged%1b[31m/records", "alice", SECRET, "POST", body)
    amqp_host, amqp_port = secure.server.addresses["amqps"]
    for user, secret in [("alice", SECRET), ("alice", SECRET + "y"), (HOSTILE.replace("\x00", ""), SECRET)]:
        parameters = pika.ConnectionParameters(
            amqp_host, amqp_port, credentials=pika.PlainCredentials(user, secret),
            ssl_options=pika.SSLOptions(context, amqp_host), connection_attempts=1, socket_timeout=10,
            blocked_connection_timeout=10)
        try:
            connection = pika.BlockingConnection(parameters)
            try:
                connection.channel().basic_publish("", HOSTILE.replace("\x00", "")[:100], BODY.encode())
            finally:
                connection.close()
        except pika.exceptions.AMQPError:
            pass
    # A client library that gives itself a hostile name: ApiVersions, version 3, before a login.
    with socket.create_connection(secure.server.addresses["kafka+tls"], 10) as plain, \
            context.wrap_socket(plain, server_hostname=host) as wrapped:
        name = HOSTILE.encode()
        request = (b"\x00\x12\x00\x03\x00\x00\x00\x07" + b"\xff\xff" + b"\x00" + bytes([len(name) + 1]) + name +
                   bytes([len(name) + 1]) + name + b"\x00")
        wrapped.sendall(len(request).to_bytes(4, "big") + request)
        assert len(wrapped.recv(4)) > 0


def test_certificates_that_are_replaced_are_used_without_a_signal(make_server, tmp_path):
    directory = tmp_path / "certificates"
    certs(directory, "make")
    server = make_server(listeners=["kafka+tls://127.0.0.1:0?auth=plain"],
                         arguments=["--set", "tls.watch.interval.ms=50", "--set", "max.connections=50"])
    start_secure(server, Certificates(directory))

    def shown():
        context = ssl.create_default_context(cafile=directory / "ca.pem")
        host, port = server.addresses["kafka+tls"]
        with socket.create_connection((host, port), 10) as plain, context.wrap_socket(plain, server_hostname=host) as wrapped:
            return wrapped.getpeercert()["serialNumber"]

    def await_serial(wanted):
        deadline = time.monotonic() + 20
        while (serial := shown()) != wanted:
            assert time.monotonic() < deadline, f"{serial} in place of {wanted}{server.log_tail()}"
            time.sleep(0.05)

    def await_lines(text, count):
        deadline = time.monotonic() + 20
        while (found := server.log_text().count(text)) != count:
            assert found < count and time.monotonic() < deadline, server.log_tail()
            time.sleep(0.02)

    first = shown()
    new = tmp_path / "new"
    new.mkdir()
    for name in ("ca.pem", "ca.key"):
        (new / name).write_bytes((directory / name).read_bytes())
    certs(new, "make")
    # Half of a pair, and half of a file: what was there stays in use, and one line says so for each.
    os.replace(new / "server.pem", directory / "server.pem")
    await_lines("certificate not read again", 1)
    assert shown() == first
    whole = (new / "server.key").read_bytes()
    (directory / "server.key").write_bytes(whole[:100])
    await_lines("certificate not read again", 2)
    assert shown() == first
    (directory / "server.key").write_bytes(whole)
    await_lines("certificate read again", 1)
    second = shown()
    assert second != first
    # As it is done in Kubernetes: the name is a symbolic link that is pointed elsewhere.
    certs(directory, "make", "--force")
    third_files = tmp_path / "third"
    third_files.mkdir()
    for name in ("server.pem", "server.key"):
        os.replace(directory / name, third_files / name)
        (directory / "link").symlink_to(third_files / name)
        os.replace(directory / "link", directory / name)
    await_serial(serial_of(third_files / "server.pem"))
    assert shown() not in (first, second)
    server.stop()


def serial_of(path):
    """A certificate's serial number as Python writes it."""
    return openssl("x509", "-in", path, "-noout", "-serial").stdout.strip().partition("=")[2]
