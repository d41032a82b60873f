"""What the tests of HTTP use: a server that speaks it, and a client that hides nothing."""

import http.client
import json
import socket

import pytest


class Client:
    """Asks one server, a connection for each request."""

    def __init__(self, server):
        self.server = server

    @property
    def base(self):
        return f"http://127.0.0.1:{self.server.http_port}"

    def connect(self, timeout_seconds=20):
        return http.client.HTTPConnection("127.0.0.1", self.server.http_port, timeout=timeout_seconds)

    def raw(self):
        """A socket to it."""
        return socket.create_connection(("127.0.0.1", self.server.http_port), timeout=20)

    def ask(self, method, path, body=None, headers=None):
        """Status, fields and body of an answer."""
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection = self.connect()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def get(self, path):
        """The JSON at a path, which must be there."""
        status, _, body = self.ask("GET", path)
        assert status == 200, (path, status, body)
        return json.loads(body)

    def do(self, method, path, body=None, expect=None):
        """Does it, and gives the JSON of the answer, if there is any."""
        status, _, answer = self.ask(method, path, body)
        assert status == expect if expect else status < 300, (method, path, status, answer)
        return json.loads(answer) if answer else None


@pytest.fixture(scope="session")
def http_server(tmp_path_factory):
    """One server for all tests that only need names of their own."""
    from millrace_tests.server import Server

    one = Server(tmp_path_factory.mktemp("http"), amqp=True, http=True).start()
    yield one
    if one.running:
        one.stop()
    one.close()


@pytest.fixture
def client(http_server):
    return Client(http_server)
