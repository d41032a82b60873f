"""Tokens: Kafka's clients by OAUTHBEARER, AMQP's by the password of PLAIN, HTTP by Bearer; who is refused, why, and until when."""

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import ssl
import struct
import time

import aiokafka
import pika
import pytest
from aiokafka.abc import AbstractTokenProvider as AioTokenProvider
from aiokafka.helpers import create_ssl_context
from confluent_kafka import Consumer, KafkaException, Producer
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError
from kafka.net.sasl.oauth import AbstractTokenProvider
from millrace_tests.secure import start_secure
from millrace_tests.server import Server
from millrace_tests.tokens import AUDIENCE, ISSUER, Issuer, Key

REFUSED = (KafkaError, KafkaException, aiokafka.errors.KafkaError)


@pytest.fixture(scope="session")
def issuer(tmp_path_factory):
    return Issuer(tmp_path_factory.mktemp("issuer"))


def start(server, certificates, issuer, *more):
    server.listeners = [
        "kafka+tls://127.0.0.1:0?auth=oauth,plain,scram", "amqps://127.0.0.1:0?auth=oauth,plain",
        "https://127.0.0.1:0?auth=oauth,plain"]
    for name, value in {
            "sasl.oauthbearer.jwks.endpoint.url": issuer.file, "sasl.oauthbearer.expected.issuer": ISSUER,
            "sasl.oauthbearer.expected.audience": AUDIENCE, "sasl.oauthbearer.clock.skew.seconds": 0,
            "allow.everyone.if.no.acl.found": "false"}.items():
        server.arguments += ["--set", f"{name}={value}"]
    server.arguments += more
    return start_secure(server, certificates)


@pytest.fixture(scope="session")
def oauth(tmp_path_factory, certificates, issuer):
    server = Server(tmp_path_factory.mktemp("oauth"))
    try:
        secure = start(server, certificates, issuer)
        secure.allow("--principal", "alice", "--operation", "all", "--topic", "alice", "--group", "alice", "--prefix")
        secure.allow("--principal", "alice", "--operation", "all", "--queue", "%2F/alice", "--prefix")
        secure.allow("--principal", "alice", "--operation", "write", "--exchange", "%2F/amq.default")
        secure.allow("--principal", "alice", "--operation", "describe", "--vhost", "/")
        yield secure
    finally:
        server.close()


@pytest.fixture
def make_oauth(make_server, certificates, issuer):
    return lambda issuer=issuer, *more: start(make_server(), certificates, issuer, *more)


class KafkaPython:
    def options(self, secure, token):
        class Provider(AbstractTokenProvider):
            def token(self):
                return token()

        return {"bootstrap_servers": secure.address("kafka+tls"), "security_protocol": "SASL_SSL",
                "ssl_cafile": secure.certificates.ca, "sasl_mechanism": "OAUTHBEARER",
                "sasl_oauth_token_provider": Provider(), "request_timeout_ms": 8000, "bootstrap_timeout_ms": 3000}

    def trip(self, secure, topic, token):
        producer = KafkaProducer(**self.options(secure, token), max_block_ms=8000)
        try:
            producer.send(topic, b"hello").get(8)
        finally:
            producer.close(1)
        consumer = KafkaConsumer(
            topic, group_id=f"{topic}-group", auto_offset_reset="earliest", consumer_timeout_ms=8000,
            **self.options(secure, token))
        try:
            return next(consumer).value
        finally:
            consumer.close()

    def chat(self, secure, topic, token, seconds):
        producer = KafkaProducer(**self.options(secure, token), max_block_ms=8000)
        try:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                producer.send(topic, b"still there").get(8)
                time.sleep(0.2)
        finally:
            producer.close(1)


class Confluent:
    def options(self, secure, token):
        def refresh(_):
            text = token()
            expires = json.loads(__import__("base64").urlsafe_b64decode(text.split(".")[1] + "==="))["exp"] if text.count(".") == 2 else 0
            return text, expires if expires > time.time() + 1 else time.time() + 60

        return {"bootstrap.servers": secure.address("kafka+tls"), "security.protocol": "SASL_SSL",
                "ssl.ca.location": secure.certificates.ca, "sasl.mechanisms": "OAUTHBEARER", "oauth_cb": refresh,
                "socket.timeout.ms": 8000}

    def trip(self, secure, topic, token):
        errors = []
        options = {**self.options(secure, token), "error_cb": errors.append}
        producer = Producer({**options, "message.timeout.ms": 4000})
        outcome = []
        producer.produce(topic, b"hello", on_delivery=lambda error, _: outcome.append(error))
        producer.flush(6)
        if not outcome or outcome[0] is not None:
            raise KafkaException(errors[0] if errors else outcome[0])
        consumer = Consumer({**options, "group.id": f"{topic}-group", "auto.offset.reset": "earliest"})
        consumer.subscribe([topic])
        try:
            for _ in range(20):
                message = consumer.poll(0.5)
                if message is not None and message.error() is None:
                    return message.value()
            raise KafkaException(errors[0] if errors else "nothing came")
        finally:
            consumer.close()

    def chat(self, secure, topic, token, seconds):
        outcome = []
        producer = Producer({**self.options(secure, token), "message.timeout.ms": 6000})
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            producer.produce(topic, b"still there", on_delivery=lambda error, _: outcome.append(error))
            producer.flush(8)
            time.sleep(0.2)
        assert outcome and all(error is None for error in outcome), outcome


class AioKafka:
    def options(self, secure, token):
        class Provider(AioTokenProvider):
            async def token(self):
                return token()

        return {"bootstrap_servers": secure.address("kafka+tls"), "security_protocol": "SASL_SSL",
                "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_provider": Provider(), "request_timeout_ms": 8000,
                "ssl_context": create_ssl_context(cafile=secure.certificates.ca)}

    def trip(self, secure, topic, token):
        async def work():
            async with aiokafka.AIOKafkaProducer(**self.options(secure, token)) as producer:
                await producer.send_and_wait(topic, b"hello")
            async with aiokafka.AIOKafkaConsumer(
                    topic, group_id=f"{topic}-group", auto_offset_reset="earliest",
                    **self.options(secure, token)) as consumer:
                return (await asyncio.wait_for(consumer.getone(), 10)).value

        return asyncio.run(asyncio.wait_for(work(), 30))

    def chat(self, secure, topic, token, seconds):
        async def work():
            async with aiokafka.AIOKafkaProducer(**self.options(secure, token)) as producer:
                end = time.monotonic() + seconds
                while time.monotonic() < end:
                    await producer.send_and_wait(topic, b"still there")
                    await asyncio.sleep(0.2)

        asyncio.run(asyncio.wait_for(work(), seconds + 30))


CLIENTS = [KafkaPython(), Confluent(), AioKafka()]


@pytest.fixture(params=CLIENTS, ids=lambda one: type(one).__name__)
def client(request):
    return request.param


def audit(secure, reason):
    """What the log has of refusals for a reason."""
    return secure.server.log.read_text().count(reason)


def test_a_token_says_who_a_client_is(oauth, issuer, client, topic):
    assert client.trip(oauth, f"alice-{topic}", lambda: issuer.token("alice")) == b"hello"


def test_who_may_not_is_refused_by_the_rules(oauth, issuer, client, topic):
    with pytest.raises(REFUSED):
        client.trip(oauth, f"alice-{topic}", lambda: issuer.token("bob"))


FORGERIES = [
    "wrongIssuer", "wrongAudience", "expired", "notYetValid", "unsupportedAlgorithm", "unsupportedAlgorithm by HMAC",
    "unknownKey", "invalidSignature by a stranger", "invalidSignature of other claims", "untrustedToken", "malformed"]


@pytest.fixture(scope="session")
def forged(issuer):
    return issuer.forged("alice")


@contextlib.contextmanager
def kafka_wire(secure):
    """A connection over which Kafka's requests go byte by byte: a function of API key, version and body, and the stream of answers."""
    host, _, port = secure.address("kafka+tls").rpartition(":")
    context = ssl.create_default_context(cafile=secure.certificates.ca)
    with socket.create_connection((host, int(port)), timeout=10) as raw, context.wrap_socket(raw, server_hostname=host) as one:
        stream = one.makefile("rb")

        def ask(key, version, body):
            request = struct.pack(">hhih", key, version, 1, -1) + body
            one.sendall(struct.pack(">i", len(request)) + request)
            size = stream.read(4)
            return stream.read(struct.unpack(">i", size)[0])[4:] if size else None

        yield ask, stream


def wire(secure, token):
    """What the server says to a token, byte for byte: the mechanism's answer, then Kafka's error code and message."""
    with kafka_wire(secure) as (ask, stream):
        assert ask(17, 1, struct.pack(">h", 11) + b"OAUTHBEARER")[:2] == b"\0\0"
        message = b"n,,\x01auth=Bearer " + token.encode() + b"\x01\x01"
        answers = []
        for part in (message, b"\x01"):
            answer = ask(36, 0, struct.pack(">i", len(part)) + part)
            code, length = struct.unpack(">hh", answer[:4])
            text = answer[4:4 + max(0, length)]
            size = struct.unpack(">i", answer[4 + max(0, length):8 + max(0, length)])[0]
            answers.append((code, text.decode(), answer[8 + max(0, length):][:size].decode()))
        assert stream.read(1) == b""
        return answers


@pytest.mark.parametrize("kind", FORGERIES)
def test_a_forged_token_is_refused_with_the_right_words_and_told_the_audit(oauth, forged, kind):
    code = kind.split()[0]
    before = audit(oauth, f"{code}:")
    (first, _, words), (second, text, _) = wire(oauth, forged[kind])
    assert first == 0 and json.loads(words) == {"status": "invalid_token"}
    assert second == 58 and text.startswith("Authentication failed") and "alice" not in text
    # Lines of a kind are put together; the topic has them all.
    deadline = time.monotonic() + 5
    while code not in audit_topic(oauth) and time.monotonic() < deadline:
        time.sleep(0.3)
    assert code in audit_topic(oauth)
    assert audit(oauth, f"{code}:") >= before


def audit_topic(secure):
    """Reasons of refused logins by tokens in the topic of the audit."""
    consumer = KafkaConsumer(
        "__audit", bootstrap_servers=secure.address("kafka+tls"), security_protocol="SASL_SSL",
        ssl_cafile=secure.certificates.ca, sasl_mechanism="PLAIN", sasl_plain_username="admin",
        sasl_plain_password=secure.admin_password, auto_offset_reset="earliest", consumer_timeout_ms=800,
        group_id=None)
    try:
        records = [json.loads(one.value) for one in consumer]
    finally:
        consumer.close()
    return {one["reason"] for one in records if one.get("mechanism") == "OAUTHBEARER" and not one["allowed"]}


@pytest.mark.parametrize("kind", ["wrongIssuer", "expired", "unsupportedAlgorithm by HMAC", "malformed"])
def test_clients_give_up_on_a_forged_token_in_bounded_time(oauth, forged, client, kind, topic):
    began = time.monotonic()
    with pytest.raises((*REFUSED, asyncio.TimeoutError)):
        client.trip(oauth, f"alice-{topic}", lambda: forged[kind])
    assert time.monotonic() - began < 40


def test_a_key_that_was_replaced_counts_no_more_after_the_files_are_read_again(make_oauth, client, tmp_path, topic):
    own = Issuer(tmp_path)
    secure = make_oauth(own)
    secure.allow("--principal", "alice", "--operation", "all", "--topic", "alice", "--group", "alice", "--prefix")
    old, new = own.key, Key(tmp_path, "two")
    assert client.trip(secure, f"alice-{topic}", lambda: own.token("alice")) == b"hello"
    own.publish(new)
    secure.server.process.send_signal(signal.SIGHUP)
    wait_for(secure, "keys of tokens read", 2)
    assert client.trip(secure, f"alice-{topic}", lambda: own.token("alice", key=new)) == b"hello"
    with pytest.raises((*REFUSED, asyncio.TimeoutError)):
        client.trip(secure, f"alice-{topic}", lambda: own.token("alice", key=old))
    # A file that cannot be used leaves what was there.
    own.file.write_text("{}")
    secure.server.process.send_signal(signal.SIGHUP)
    wait_for(secure, "keys of tokens not read again", 1)
    assert client.trip(secure, f"alice-{topic}", lambda: own.token("alice", key=new)) == b"hello"


def wait_for(secure, text, times):
    deadline = time.monotonic() + 10
    while secure.server.log.read_text().count(text) < times:
        assert time.monotonic() < deadline, secure.server.log.read_text()[-2000:]
        time.sleep(0.05)


def test_a_client_with_fresh_tokens_goes_on_beyond_the_first(oauth, issuer, client, topic):
    """Kafka's clients authenticate again (kafka-python, librdkafka), or come back (aiokafka)."""
    given = []

    def token():
        given.append(issuer.token("alice", lifetime_seconds=6))
        return given[-1]

    client.chat(oauth, f"alice-{topic}", token, 14)
    assert len(given) >= 2


def test_a_session_whose_token_has_expired_is_closed(oauth, issuer):
    with kafka_wire(oauth) as (ask, _):
        ask(17, 1, struct.pack(">h", 11) + b"OAUTHBEARER")
        message = b"n,,\x01auth=Bearer " + issuer.token("alice", lifetime_seconds=3).encode() + b"\x01\x01"
        answer = ask(36, 1, struct.pack(">i", len(message)) + message)
        lifetime = struct.unpack(">q", answer[-8:])[0]
        assert answer[:2] == b"\0\0" and 0 < lifetime <= 3000
        metadata = struct.pack(">i", 0)
        assert ask(3, 1, metadata) is not None
        time.sleep(lifetime / 1000 + 0.3)
        assert ask(3, 1, metadata) is None


# AMQP


def amqp_connect(secure, token, user=""):
    host, port = secure.server.addresses["amqps"]
    context = ssl.create_default_context(cafile=secure.certificates.ca)
    return pika.BlockingConnection(pika.ConnectionParameters(
        host, port, credentials=pika.PlainCredentials(user, token), ssl_options=pika.SSLOptions(context, host),
        socket_timeout=8, blocked_connection_timeout=8, connection_attempts=1))


def test_amqps_password_may_be_a_token(oauth, issuer):
    with amqp_connect(oauth, issuer.token("alice")) as connection:
        channel = connection.channel()
        channel.queue_declare("alice-q", durable=True)
        channel.basic_publish("", "alice-q", b"hello")
        assert channel.basic_get("alice-q", auto_ack=True)[2] == b"hello"
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            channel.queue_declare("bob-q", durable=True)
        assert refused.value.reply_code == 403 and "alice" in refused.value.reply_text
    with amqp_connect(oauth, issuer.token("alice"), user="whatever") as connection:
        assert connection.is_open
    with amqp_connect(oauth, oauth.admin_password, user="admin") as connection:
        assert connection.is_open


@pytest.mark.parametrize("kind", [one for one in FORGERIES if one != "malformed"])
def test_amqp_refuses_a_forged_token(oauth, forged, kind):
    with pytest.raises((pika.exceptions.ProbableAuthenticationError, pika.exceptions.AMQPConnectionError)):
        amqp_connect(oauth, forged[kind])


def test_an_amqp_connection_ends_with_its_token_unless_it_brings_the_next(oauth, issuer):
    kept, left = (amqp_connect(oauth, issuer.token("alice", lifetime_seconds=4)) for _ in range(2))
    kept.update_secret(issuer.token("alice", lifetime_seconds=60), "the old one ends")
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        for _ in range(30):
            left.process_data_events(0.3)
    assert closed.value.reply_code == 320 and "expired" in closed.value.reply_text
    kept.process_data_events(1)
    assert kept.is_open
    with pytest.raises(pika.exceptions.ConnectionClosedByBroker) as closed:
        kept.update_secret(issuer.token("bob"), "somebody else's")
        kept.process_data_events(1)
    assert closed.value.reply_code == 403


# HTTP


def ask(secure, path, authorization=None, method="GET", source="127.0.0.1"):
    host, port = secure.server.addresses["https"]
    context = ssl.create_default_context(cafile=secure.certificates.ca)
    connection = http.client.HTTPSConnection(host, port, timeout=10, context=context, source_address=(source, 0))
    try:
        connection.request(method, path, headers={"Authorization": authorization} if authorization else {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def test_https_bearer(oauth, issuer, forged):
    status, _, body = ask(oauth, "/api/whoami", f"Bearer {issuer.token('alice')}")
    assert status == 200 and json.loads(body)["name"] == "alice"
    assert ask(oauth, "/api/v1/topics/bob", f"Bearer {issuer.token('alice')}")[0] == 403
    status, headers, _ = ask(oauth, "/api/whoami")
    assert status == 401 and {one.split()[0] for one in headers.get_all("WWW-Authenticate")} == {"Basic", "Bearer"}
    # Each from an address of its own: one that fails often hears of it later each time.
    for number, kind in enumerate(FORGERIES, 2):
        status, headers, body = ask(oauth, "/api/whoami", f"Bearer {forged[kind]}", source=f"127.0.0.{number}")
        assert status == 401 and 'error="invalid_token"' in " ".join(headers.get_all("WWW-Authenticate")), kind
        assert b"alice" not in body


def test_a_server_that_takes_tokens_needs_keys_that_can_be_read(make_server, certificates, tmp_path):
    for value, words in [(None, "sasl.oauthbearer.jwks.endpoint.url"), (tmp_path / "none.json", "none.json"),
                         ("https://issuer.example/jwks", "not fetched")]:
        server = make_server()
        server.listeners = ["kafka://127.0.0.1:0?auth=oauth"]
        if value:
            server.arguments += ["--set", f"sasl.oauthbearer.jwks.endpoint.url={value}"]
        with pytest.raises(Exception):
            server.start()
        assert words in server.log.read_text()
