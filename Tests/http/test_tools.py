"""Tools that know nothing of Millrace: schemathesis, rabbitmqadmin, Flower."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Client

BIN = Path(sys.executable).parent


def test_schemathesis_finds_nothing(make_server):
    """No 5xx, and no answer that the document does not promise, for any request that can be made of it."""
    server = make_server(http=True, amqp=True).start()
    client = Client(server)
    client.do("PUT", "/api/v1/topics/t")
    client.do("PUT", "/api/v1/queues/q")
    done = subprocess.run(
        [BIN / "schemathesis", "run", f"{client.base}/api/v1/openapi.json", "--phases", "examples,coverage,fuzzing",
         "--max-examples", "5", "--seed", "1", "--workers", "1", "--request-timeout", "10", "--suppress-health-check", "all",
         "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,"
                     "response_headers_conformance,negative_data_rejection,unsupported_method",
         "--exclude-path-regex", "/events$"],
        capture_output=True, text=True, cwd=server.directory, timeout=300)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert client.get("/health/ready")["status"] == "ready"
    assert server.stop() == 0


def admin(client, *arguments):
    done = subprocess.run(
        [BIN / "rabbitmqadmin", "--port", str(client.server.http_port), *arguments], capture_output=True, text=True)
    assert done.returncode == 0, (arguments, done.stdout, done.stderr)
    return done.stdout


def test_rabbitmqadmin(client, tmp_path):
    admin(client, "declare", "queue", "name=ra", "durable=true", 'arguments={"x-max-length": 5}')
    admin(client, "declare", "exchange", "name=rx", "type=direct")
    admin(client, "declare", "binding", "source=rx", "destination=ra", "routing_key=a key")
    assert "Message published" in admin(
        client, "publish", "exchange=rx", "routing_key=a key", "payload=hello",
        'properties={"delivery_mode": 2, "headers": {"n": 1}}')
    assert "NOT" in admin(client, "publish", "exchange=rx", "routing_key=none", "payload=lost")
    assert "hello" in admin(client, "get", "queue=ra", "ackmode=ack_requeue_true")
    listed = json.loads(admin(client, "-f", "raw_json", "list", "queues", "name", "messages"))
    assert [one["messages"] for one in listed if one["name"] == "ra"] == [1]
    assert "hello" in admin(client, "get", "queue=ra", "ackmode=ack_requeue_false")
    admin(client, "publish", "exchange=amq.default", "routing_key=ra", "payload=again")
    admin(client, "purge", "queue", "name=ra")
    bindings = json.loads(admin(client, "-f", "raw_json", "list", "bindings"))
    key = next(one["properties_key"] for one in bindings if one["source"] == "rx")
    for what in ("exchanges", "vhosts", "nodes", "connections", "channels", "consumers"):
        admin(client, "list", what)
    admin(client, "show", "overview")
    path = tmp_path / "definitions.json"
    admin(client, "export", str(path))
    admin(client, "delete", "binding", "source=rx", "destination_type=queue", "destination=ra", f"properties_key={key}")
    admin(client, "delete", "exchange", "name=rx")
    admin(client, "delete", "queue", "name=ra")
    assert "ra" not in admin(client, "list", "queues", "name").split()
    admin(client, "import", str(path))
    assert "ra" in admin(client, "list", "queues", "name").split()
    client.do("DELETE", "/api/queues/%2F/ra", expect=204)
    client.do("DELETE", "/api/exchanges/%2F/rx", expect=204)
    refused = subprocess.run(
        [BIN / "rabbitmqadmin", "--port", str(client.server.http_port), "-u", "guest", "-p", "wrong", "list", "queues"], capture_output=True, text=True)
    assert refused.returncode != 0 and "Access refused" in refused.stdout + refused.stderr


def test_rabbitmqadmin_manages_users(make_server):
    server = make_server(http=True, amqp=True).start()
    client = Client(server)
    admin(client, "declare", "vhost", "name=v")
    admin(client, "declare", "user", "name=ann", "password=secret", "tags=monitoring,management")
    admin(client, "declare", "permission", "vhost=v", "user=ann", "configure=^ann.*", "write=^(ann|orders)$|^ann-.*", "read=.*")
    users = json.loads(admin(client, "-f", "raw_json", "list", "users"))
    assert users == [{"name": "ann", "tags": ["management", "monitoring"]}]
    assert "ann" in admin(client, "list", "users") and "secret" not in admin(client, "list", "users")
    permissions = json.loads(admin(client, "-f", "raw_json", "list", "permissions"))
    assert permissions == [
        {"user": "ann", "vhost": "v", "configure": "^ann.*", "write": "^ann$|^ann-.*|^orders$", "read": ".*"}]

    def amqp(password="secret"):
        import pika
        return pika.BlockingConnection(pika.ConnectionParameters(
            server.amqp_host, server.amqp_port, "v", pika.PlainCredentials("ann", password), connection_attempts=1))

    with amqp() as connection:
        import pika
        connection.channel().queue_declare("ann-q")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            connection.channel().queue_declare("bob-q")
        assert refused.value.reply_code == 403
    refused = subprocess.run(
        [BIN / "rabbitmqadmin", "--port", str(server.http_port), "declare", "permission", "vhost=v", "user=ann",
         "configure=[ab]", "write=", "read="], capture_output=True, text=True)
    assert refused.returncode != 0
    path = server.directory / "definitions.json"
    admin(client, "export", str(path))
    assert json.loads(path.read_text())["permissions"] == permissions
    admin(client, "delete", "permission", "vhost=v", "user=ann")
    admin(client, "delete", "user", "name=ann")
    assert json.loads(admin(client, "-f", "raw_json", "list", "users")) == []
    admin(client, "import", str(path))
    assert json.loads(admin(client, "-f", "raw_json", "list", "permissions")) == permissions
    # The document has no passwords.
    with pytest.raises(Exception):
        amqp()
    admin(client, "declare", "user", "name=ann", "password=new", "tags=")
    amqp("new").close()


def test_flower_sees_queues(client):
    broker = pytest.importorskip("flower.utils.broker")
    client.do("PUT", "/api/v1/queues/celery")
    client.do("POST", "/api/v1/queues/celery/messages", {"messages": [{"body": "x"}]})
    seen = asyncio.run(broker.RabbitMQ("amqp://guest:guest@localhost//", f"http://guest:guest@127.0.0.1:{client.server.http_port}/api/")
                       .queues(["celery"]))
    assert [(one["name"], one["messages"], one["messages_ready"], one["consumers"]) for one in seen] == [("celery", 1, 1, 0)]
    client.do("DELETE", "/api/v1/queues/celery")
