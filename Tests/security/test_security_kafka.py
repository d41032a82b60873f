"""Kafka's clients, unmodified, against listeners that ask who they are: each mechanism, what each is refused, and rules."""

import asyncio
import ssl
import time

import aiokafka
import pytest
from aiokafka.helpers import create_ssl_context
from confluent_kafka import Consumer, KafkaException, Producer
from confluent_kafka.admin import (
    AclBinding, AclBindingFilter, AclOperation, AclPermissionType, AdminClient, ResourcePatternType, ResourceType,
    ScramCredentialInfo, ScramMechanism, UserScramCredentialDeletion, UserScramCredentialUpsertion)
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError
from millrace_tests.secure import certs

MECHANISMS = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]


@pytest.fixture(scope="session")
def alice(secure):
    """A user who may do everything with topics and groups that begin with her name."""
    secure.add_user("alice", "wonderland")
    secure.allow("--principal", "alice", "--operation", "all", "--topic", "alice", "--group", "alice", "--prefix")
    return "alice", "wonderland"


class KafkaPython:
    """Sends a record and reads it back, or raises."""

    def trip(self, secure, scheme, topic, mechanism=None, user=None, password=None, pair=None, ca=None):
        options = {"bootstrap_servers": secure.address(scheme), "request_timeout_ms": 8000, "bootstrap_timeout_ms": 3000}
        options["security_protocol"] = ("SASL_" if mechanism else "") + ("SSL" if "tls" in scheme else "PLAINTEXT")
        if mechanism:
            options |= {"sasl_mechanism": mechanism, "sasl_plain_username": user, "sasl_plain_password": password}
        if "tls" in scheme:
            options |= {"ssl_cafile": ca or secure.certificates.ca}
            if pair:
                options |= {"ssl_certfile": pair[0], "ssl_keyfile": pair[1]}
        producer = KafkaProducer(**options, max_block_ms=8000)
        try:
            producer.send(topic, b"hello").get(8)
        finally:
            producer.close(1)
        consumer = KafkaConsumer(
            topic, group_id=f"{topic}-group", auto_offset_reset="earliest", consumer_timeout_ms=8000, **options)
        try:
            return next(consumer).value
        finally:
            consumer.close()


class Confluent:
    def options(self, secure, scheme, mechanism=None, user=None, password=None, pair=None, ca=None):
        options = {"bootstrap.servers": secure.address(scheme), "socket.timeout.ms": 8000,
                   "security.protocol": ("SASL_" if mechanism else "") + ("SSL" if "tls" in scheme else "PLAINTEXT")}
        if mechanism:
            options |= {"sasl.mechanisms": mechanism, "sasl.username": user, "sasl.password": password}
        if "tls" in scheme:
            options |= {"ssl.ca.location": ca or secure.certificates.ca}
            if pair:
                options |= {"ssl.certificate.location": pair[0], "ssl.key.location": pair[1]}
        return options

    def trip(self, secure, scheme, topic, **identity):
        errors = []
        options = {**self.options(secure, scheme, **identity), "error_cb": errors.append}
        producer = Producer({**options, "message.timeout.ms": 4000})
        outcome = []
        producer.produce(topic, b"hello", on_delivery=lambda error, _: outcome.append(error))
        producer.flush(5)
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


class AioKafka:
    def trip(self, secure, scheme, topic, mechanism=None, user=None, password=None, pair=None, ca=None):
        options = {"bootstrap_servers": secure.address(scheme), "request_timeout_ms": 8000,
                   "security_protocol": ("SASL_" if mechanism else "") + ("SSL" if "tls" in scheme else "PLAINTEXT")}
        if mechanism:
            options |= {"sasl_mechanism": mechanism, "sasl_plain_username": user, "sasl_plain_password": password}
        if "tls" in scheme:
            options["ssl_context"] = create_ssl_context(
                cafile=ca or secure.certificates.ca, certfile=pair and pair[0], keyfile=pair and pair[1])

        async def work():
            async with aiokafka.AIOKafkaProducer(**options) as producer:
                await producer.send_and_wait(topic, b"hello")
            async with aiokafka.AIOKafkaConsumer(
                    topic, group_id=f"{topic}-group", auto_offset_reset="earliest", **options) as consumer:
                return (await asyncio.wait_for(consumer.getone(), 10)).value

        return asyncio.run(asyncio.wait_for(work(), 30))


CLIENTS = [KafkaPython(), Confluent(), AioKafka()]


@pytest.fixture(params=CLIENTS, ids=lambda one: type(one).__name__)
def client(request):
    return request.param


@pytest.mark.parametrize("scheme", ["kafka+tls", "kafka"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_user_comes_in_by_each_mechanism(secure, alice, client, mechanism, scheme, topic):
    if (mechanism, scheme) == ("PLAIN", "kafka"):
        pytest.skip("the listener without TLS takes no passwords as they are")
    user, password = alice
    assert client.trip(secure, scheme, f"alice-{topic}", mechanism=mechanism, user=user, password=password) == b"hello"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password_is_refused_in_bounded_time(secure, alice, client, mechanism, topic):
    began = time.monotonic()
    with pytest.raises((KafkaError, KafkaException, aiokafka.errors.KafkaError)):
        client.trip(secure, "kafka+tls", f"alice-{topic}", mechanism=mechanism, user="alice", password="wrong")
    assert time.monotonic() - began < 40
    assert "login refused" in secure.server.log.read_text()


def test_a_mechanism_that_is_not_offered_is_refused(secure, alice, client, topic):
    with pytest.raises((KafkaError, KafkaException, aiokafka.errors.KafkaError)):
        client.trip(secure, "kafka", f"alice-{topic}", mechanism="PLAIN", user="alice", password="wonderland")


def test_a_client_without_tls_gets_nowhere_on_a_listener_with_it(secure, alice, topic):
    options = {"bootstrap.servers": secure.address("kafka+tls"), "security.protocol": "PLAINTEXT"}
    with pytest.raises(KafkaException):
        AdminClient(options).list_topics(timeout=3)


def test_a_server_of_another_authority_is_not_trusted(secure, alice, client, tmp_path, topic):
    certs(tmp_path, "make")
    with pytest.raises((KafkaError, KafkaException, aiokafka.errors.KafkaError, ssl.SSLError)):
        client.trip(secure, "kafka+tls", f"alice-{topic}", mechanism="PLAIN", user="alice", password="wonderland",
                    ca=str(tmp_path / "ca.pem"))


# The listener that takes certificates is the second one with TLS.
@pytest.fixture
def by_certificate(secure):
    address = secure.server.listeners[2].removeprefix("kafka+tls://").partition("?")[0]

    class Moved:
        certificates = secure.certificates

        def address(self, _):
            return address

    return Moved()


def test_a_certificate_says_who_a_client_is(secure, by_certificate, client, topic):
    secure.allow("--principal", "CN=carol", "--operation", "all", "--topic", "carol", "--group", "carol", "--prefix")
    pair = secure.certificates.pair("carol")
    assert client.trip(by_certificate, "kafka+tls", f"carol-{topic}", pair=pair) == b"hello"
    # Somebody else with a certificate of the same authority is somebody else.
    with pytest.raises((KafkaError, KafkaException, aiokafka.errors.KafkaError)):
        client.trip(by_certificate, "kafka+tls", f"carol-{topic}", pair=secure.certificates.pair("dave"))


def test_without_a_certificate_there_is_no_connection(by_certificate, client, topic):
    with pytest.raises((KafkaError, KafkaException, aiokafka.errors.KafkaError, ssl.SSLError, OSError)):
        client.trip(by_certificate, "kafka+tls", f"carol-{topic}")


def test_users_and_rules_are_managed_by_confluents_admin_client(secure, alice):
    options = Confluent().options(
        secure, "kafka+tls", mechanism="SCRAM-SHA-512", user="admin", password=secure.admin_password)
    admin = AdminClient(options)
    info = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_256, 8192)
    for future in admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion("erin", info, b"secret", b"salt-of-sixteen-")]).values():
        future.result(10)
    described = admin.describe_user_scram_credentials(["erin"])["erin"].result(10)
    assert [(one.mechanism, one.iterations) for one in described.scram_credential_infos] == [
        (ScramMechanism.SCRAM_SHA_256, 8192)]
    rule = AclBinding(
        ResourceType.TOPIC, "erin", ResourcePatternType.PREFIXED, "User:erin", "*", AclOperation.ALL, AclPermissionType.ALLOW)
    for future in admin.create_acls([rule]).values():
        future.result(10)
    erin = AdminClient(Confluent().options(
        secure, "kafka+tls", mechanism="SCRAM-SHA-256", user="erin", password="secret"))
    # She may not see rules. librdkafka passes over the error in the answer, and has no rules to tell of.
    assert erin.describe_acls(AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY)).result(10) == []
    found = admin.describe_acls(AclBindingFilter(
        ResourceType.TOPIC, "erin-1", ResourcePatternType.MATCH, None, None, AclOperation.ANY, AclPermissionType.ANY))
    assert [one.name for one in found.result(10)] == ["erin"]
    deleted = admin.delete_acls([AclBindingFilter(
        ResourceType.TOPIC, "erin", ResourcePatternType.PREFIXED, None, None, AclOperation.ANY, AclPermissionType.ANY)])
    for future in deleted.values():
        assert len(future.result(10)) == 1
    for future in admin.alter_user_scram_credentials(
            [UserScramCredentialDeletion("erin", ScramMechanism.SCRAM_SHA_256)]).values():
        future.result(10)
    with pytest.raises(KafkaException):
        admin.describe_user_scram_credentials(["erin"])["erin"].result(10)


def test_rules_are_managed_by_kafka_pythons_admin_client(secure):
    from kafka.admin import ACL, ACLFilter, ACLOperation, ACLPermissionType, ResourcePattern, ResourcePatternFilter
    from kafka.admin import ACLResourcePatternType, ResourceType as Type
    admin = KafkaAdminClient(
        bootstrap_servers=secure.address("kafka+tls"), security_protocol="SASL_SSL", ssl_cafile=secure.certificates.ca,
        sasl_mechanism="SCRAM-SHA-256", sasl_plain_username="admin", sasl_plain_password=secure.admin_password)
    try:
        rule = ACL("User:frank", "*", ACLOperation.READ, ACLPermissionType.ALLOW, ResourcePattern(Type.TOPIC, "frank"))
        assert not admin.create_acls([rule])["failed"]
        wanted = ACLFilter(
            "User:frank", None, ACLOperation.ANY, ACLPermissionType.ANY,
            ResourcePatternFilter(Type.ANY, None, ACLResourcePatternType.ANY))
        found, error = admin.describe_acls(wanted)
        assert [one.resource_pattern.resource_name for one in found] == ["frank"]
        admin.delete_acls([wanted])
        assert admin.describe_acls(wanted)[0] == []
    finally:
        admin.close()


def test_users_and_what_they_may_do_survive_a_restart(make_secure):
    secure = make_secure(arguments=["--set", "allow.everyone.if.no.acl.found=false"])
    secure.add_user("alice", "wonderland")
    secure.allow("--principal", "alice", "--operation", "all", "--topic", "a", "--group", "a", "--prefix")
    before = secure.cli("acl", "list").stdout, secure.cli("user", "list").stdout
    assert "alice" in before[1] and "topic a*" in before[0]
    secure.server.kill()
    secure.server.start()
    assert (secure.cli("acl", "list").stdout, secure.cli("user", "list").stdout) == before
    assert Confluent().trip(
        secure, "kafka+tls", "a-topic", mechanism="SCRAM-SHA-512", user="alice", password="wonderland") == b"hello"
    assert (secure.server.data / "administrator.secret").stat().st_mode & 0o777 == 0o600
