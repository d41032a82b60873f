"""The HTTP API of the real program, beside clients of Kafka and of AMQP."""

import base64
import json
import threading
import urllib.request

import kafka
import pika

from conftest import Client


def test_records_go_both_ways(client, http_server):
    """What HTTP appends a Kafka client reads, and the other way round."""
    client.do("PUT", "/api/v1/topics/both", {"partitions": 2}, expect=201)
    places = client.do("POST", "/api/v1/topics/both/records", {"records": [
        {"key": "k", "value": {"n": 1}, "headers": [{"key": "h", "value": "v"}]}, {"value": "text", "partition": 1}]})["records"]
    consumer = kafka.KafkaConsumer("both", bootstrap_servers=http_server.bootstrap, auto_offset_reset="earliest",
                                   consumer_timeout_ms=5000, group_id="both-group")
    seen = {}
    for record in consumer:
        seen[(record.partition, record.offset)] = (record.key, record.value, record.headers)
        if len(seen) == 2:
            break
    consumer.commit()
    consumer.close()
    assert seen[(places[0]["partition"], places[0]["offset"])] == (b"k", b'{"n":1}', [("h", b"v")])
    assert seen[(1, places[1]["offset"])][1] == b"text"
    group = client.get("/api/v1/groups/both-group")
    assert group["lag"] == 0 and {offset["topic"] for offset in group["offsets"]} == {"both"}
    client.do("POST", "/api/v1/groups/both-group/offsets", {"to": "earliest"})
    assert client.get("/api/v1/groups/both-group")["lag"] == 2
    producer = kafka.KafkaProducer(bootstrap_servers=http_server.bootstrap, compression_type="gzip")
    for number in range(50):
        producer.send("both", b"\xff%d" % number, partition=0)
    producer.flush()
    producer.close()
    page = client.get(f"/api/v1/topics/both/partitions/0/records?limit=50&offset={client_end(client, 'both', 0) - 50}")
    assert [base64.b64decode(record["valueBase64"]) for record in page["records"]] == [b"\xff%d" % n for n in range(50)]
    client.do("DELETE", "/api/v1/groups/both-group", expect=204)
    client.do("DELETE", "/api/v1/topics/both", expect=204)


def client_end(client, topic, partition):
    return client.get(f"/api/v1/topics/{topic}")["partitions"][partition]["endOffset"]


def test_long_poll_ends_with_a_record(client):
    client.do("PUT", "/api/v1/topics/poll", expect=201)
    found = []
    reader = threading.Thread(target=lambda: found.append(
        client.get("/api/v1/topics/poll/partitions/0/records?wait=20000&from=latest")))
    reader.start()
    while client_metric(client, "millrace_http_waiting_requests") < 1:
        pass
    client.do("POST", "/api/v1/topics/poll/records", {"records": [{"value": "now"}]})
    reader.join(10)
    assert [record["value"] for record in found[0]["records"]] == ["now"]


def client_metric(client, name):
    _, _, body = client.ask("GET", "/metrics")
    return next(float(line.split()[-1]) for line in body.decode().splitlines() if line.startswith(name + " "))


def test_events_stream_and_go_on(client):
    client.do("PUT", "/api/v1/topics/events", expect=201)
    client.do("POST", "/api/v1/topics/events/records", {"records": [{"value": str(n)} for n in range(5)]})
    request = urllib.request.Request(f"{client.base}/api/v1/topics/events/partitions/0/events", headers={"Last-Event-ID": "1"})
    with urllib.request.urlopen(request, timeout=20) as stream:
        assert stream.headers["Content-Type"] == "text/event-stream"
        ids, values = [], []
        while len(values) < 4:
            line = stream.readline().decode().rstrip("\n")
            if line.startswith("id: "):
                ids.append(int(line[4:]))
            elif line.startswith("data: "):
                values.append(json.loads(line[6:])["value"])
                if len(values) == 3:
                    client.do("POST", "/api/v1/topics/events/records", {"records": [{"value": "new"}]})
    assert ids == [2, 3, 4, 5] and values == ["2", "3", "4", "new"]


def test_queues_beside_amqp(client, http_server):
    """What HTTP publishes an AMQP client gets, with properties; what is taken and not settled stays."""
    client.do("PUT", "/api/v1/queues/tasks", {"arguments": {"x-queue-type": "quorum"}}, expect=201)
    client.do("PUT", "/api/v1/exchanges/work", {"type": "topic"}, expect=201)
    client.do("POST", "/api/v1/exchanges/work/bindings", {"destination": "tasks", "kind": "queue", "key": "a.*"}, expect=201)
    outcomes = client.do("POST", "/api/v1/exchanges/work/messages", {"messages": [
        {"routingKey": "a.b", "body": "one", "properties": {"messageId": "m1", "headers": {"n": 1, "deep": {"x": [True, None]}}}},
        {"routingKey": "b", "body": "nowhere"}, {"routingKey": "a.c", "bodyBase64": "/w=="}]})["outcomes"]
    assert outcomes == ["confirmed", "unroutable", "confirmed"]
    connection = pika.BlockingConnection(pika.ConnectionParameters(http_server.amqp_host, http_server.amqp_port))
    channel = connection.channel()
    method, properties, body = channel.basic_get("tasks", auto_ack=True)
    assert body == b"one" and properties.message_id == "m1" and properties.delivery_mode == 2
    assert properties.headers == {"n": 1, "deep": {"x": [True, None]}}
    channel.basic_publish("", "tasks", b"from amqp", pika.BasicProperties(content_type="text/plain"))
    taken = client.do("POST", "/api/v1/queues/tasks/get", {"limit": 5})["messages"]
    while len(taken) < 2:
        taken += client.do("POST", "/api/v1/queues/tasks/get", {"limit": 5})["messages"]
    assert taken[0]["bodyBase64"] == "/w==" and taken[1]["properties"]["contentType"] == "text/plain"
    assert client.get("/api/v1/queues/tasks")["unacknowledged"] == 2
    path = "/api/v1/queues/tasks/deliveries/"
    client.do("POST", path + taken[0]["token"], {"settle": "ack"}, expect=204)
    client.do("POST", path + taken[0]["token"], {"settle": "ack"}, expect=404)
    client.do("POST", path + taken[1]["token"], {"settle": "requeue"}, expect=204)
    again = client.do("POST", "/api/v1/queues/tasks/get", {"settle": "now"})
    assert again["messages"][0]["body"] == "from amqp" and again["messages"][0]["redelivered"] and again["ready"] == 0
    connections = client.get("/api/connections")
    assert [one["user"] for one in connections] == ["guest"] and connections[0]["channels"] == 1
    connection.close()
    client.do("DELETE", "/api/v1/queues/tasks", expect=200)
    client.do("DELETE", "/api/v1/exchanges/work", expect=204)


def test_taken_messages_survive_the_server(make_server):
    """A message that was taken and not settled is there again after a restart; one that was settled is not."""
    server = make_server(http=True).start()
    client = Client(server)
    client.do("PUT", "/api/v1/queues/q", expect=201)
    client.do("POST", "/api/v1/queues/q/messages", {"messages": [{"body": "a"}, {"body": "b"}]})
    taken = client.do("POST", "/api/v1/queues/q/get", {"limit": 2})["messages"]
    client.do("POST", f"/api/v1/queues/q/deliveries/{taken[0]['token']}", {"settle": "ack"}, expect=204)
    server.kill()
    server.start()
    assert [one["body"] for one in client.do("POST", "/api/v1/queues/q/get", {"limit": 2})["messages"]] == ["b"]
    assert server.stop() == 0


def test_definitions_go_from_one_server_to_another(client, make_server):
    client.do("PUT", "/api/v1/topics/def", {"partitions": 3, "settings": {"cleanup.policy": "compact"}}, expect=201)
    client.do("PUT", "/api/vhosts/other", expect=201)
    client.do("PUT", "/api/v1/exchanges/dx?vhost=other", {"type": "headers", "arguments": {"alternate-exchange": "amq.fanout"}})
    client.do("PUT", "/api/v1/queues/dq?vhost=other", {"arguments": {"x-max-length": 10, "x-queue-type": "quorum"}})
    client.do("POST", "/api/v1/exchanges/dx/bindings?vhost=other",
              {"destination": "dq", "kind": "queue", "arguments": {"x-match": "any", "a": 1}})
    client.do("PATCH", "/api/v1/settings", {"settings": {"num.partitions": "2"}})
    document = client.get("/api/v1/definitions")
    copy = make_server(http=True).start()
    other = Client(copy)
    taken = other.do("POST", "/api/v1/definitions", {**document, "policies": [{"name": "x"}]})
    assert taken["skipped"] == {"policies": 1} and taken["taken"]["vhosts"] >= 2
    assert other.get("/api/v1/definitions") == document
    other.do("POST", "/api/v1/definitions", document)  # once more changes nothing
    assert other.get("/api/v1/definitions") == document
    copy.kill()
    copy.start()
    assert other.get("/api/v1/definitions") == document
    client.do("PATCH", "/api/v1/settings", {"settings": {"num.partitions": None}})
    client.do("DELETE", "/api/v1/topics/def")
    client.do("DELETE", "/api/vhosts/other")


def test_settings_tell_their_source(client):
    def source(name):
        return next(one for one in client.get("/api/v1/settings")["settings"] if one["name"] == name)

    assert source("num.partitions")["source"] == "standard"
    client.do("PATCH", "/api/v1/settings", {"settings": {"num.partitions": "4"}})
    assert (source("num.partitions")["source"], source("num.partitions")["value"]) == ("node", "4")
    client.do("PATCH", "/api/v1/settings", {"settings": {"num.partitions": None}})
    client.do("PATCH", "/api/v1/settings", {"settings": {"socket.request.max.bytes": "2000000"}}, expect=400)
    client.do("PATCH", "/api/v1/settings", {"settings": {"num.partitions": "0"}}, expect=400)


def test_a_stopping_server_answers_and_ends(make_server):
    """A request that waits is answered when the server goes; the program ends with 0."""
    server = make_server(http=True).start()
    client = Client(server)
    client.do("PUT", "/api/v1/topics/t", expect=201)
    connection = client.connect()
    connection.request("GET", "/api/v1/topics/t/partitions/0/records?wait=20000")
    while client_metric(client, "millrace_http_waiting_requests") < 1:
        pass
    assert server.stop() == 0
    answer = connection.getresponse()
    assert answer.status == 200 and json.loads(answer.read())["records"] == []
