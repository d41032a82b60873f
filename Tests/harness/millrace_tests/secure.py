"""Servers whose listeners ask who their clients are, with certificates of their own authority."""

import socket
import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

from . import wire
from .server import run

ADMIN = "admin"


def openssl(*arguments, stdin=None):
    """Runs Debian's openssl, which makes what `millrace certs` has no wish to: expired and revoked certificates."""
    return subprocess.run(["openssl", *map(str, arguments)], input=stdin, check=True, capture_output=True, text=True)


def certs(directory, *arguments):
    done = run("certs", *arguments, "--directory", directory)
    assert done.returncode == 0, done.stderr


@dataclass
class Certificates:
    """Files of one authority."""

    directory: Path

    @property
    def ca(self):
        return str(self.directory / "ca.pem")

    def pair(self, name):
        """A certificate and its key; a client's is made when it is not there."""
        if not (self.directory / f"{name}.pem").exists():
            certs(self.directory, "client", name)
        return str(self.directory / f"{name}.pem"), str(self.directory / f"{name}.key")


class SecureWire(wire.Wire):
    """A raw connection to a Kafka listener with TLS, logged in by PLAIN."""

    def __init__(self, address, ca, user, password, timeout_seconds=30):
        plain = socket.create_connection(address, timeout=timeout_seconds)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = ssl.create_default_context(cafile=ca).wrap_socket(plain, server_hostname="localhost")
        self.correlation = 0
        error = wire.log_in(self, user, password)
        assert error == 0, f"the login was refused with error {error}"


class Secure:
    """A started server with its users' passwords."""

    def __init__(self, server, certificates):
        self.server, self.certificates = server, certificates
        self.password_file = server.data / "administrator.secret"
        if self.password_file.exists():  # only where somebody is asked for a password
            name, _, self.admin_password = self.password_file.read_text().strip().partition(":")
            assert name == ADMIN

    def address(self, scheme):
        host, port = self.server.addresses[scheme]
        return f"{host}:{port}"

    def wire(self):
        """A raw connection of the administrator's."""
        return SecureWire(self.server.addresses["kafka+tls"], self.certificates.ca, ADMIN, self.admin_password)

    def cli(self, *arguments, scheme="kafka+tls", stdin=None):
        """A command as the administrator."""
        security = ["--user", ADMIN, "--password-file", self.password_file]
        if scheme == "kafka+tls":
            security += ["--ca", self.certificates.ca]
        return run(*arguments, "--bootstrap", self.address(scheme), *security, stdin=stdin)

    def add_user(self, name, password):
        done = self.cli("user", "set", name, stdin=password + "\n")
        assert done.returncode == 0, done.stderr

    def allow(self, *arguments):
        done = self.cli("acl", "add", *arguments)
        assert done.returncode == 0, done.stderr


def start_secure(server, certificates):
    server.listeners = server.listeners or [
        "kafka+tls://127.0.0.1:0?auth=plain,scram", "kafka://127.0.0.1:0?auth=scram",
        "kafka+tls://127.0.0.1:0?auth=certificate", "amqps://127.0.0.1:0?auth=plain,certificate"]
    certificate, key = certificates.pair("server")
    server.arguments += ["--tls-certificate", certificate, "--tls-key", key, "--tls-client-ca", certificates.ca]
    server.start()
    return Secure(server, certificates)
