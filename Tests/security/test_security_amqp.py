"""AMQP's clients, unmodified, over TLS: users by PLAIN and AMQPLAIN, certificates by EXTERNAL, and what each is refused."""

import asyncio
import ssl

import aio_pika
import amqp
import pika
import pytest


@pytest.fixture(scope="session")
def bob(secure):
    """A user who may do everything in the first virtual host with what begins with his name."""
    secure.add_user("bob", "builder")
    secure.allow(
        "--principal", "bob", "--principal", "CN=bob", "--operation", "all", "--queue", "%2F/bob", "--exchange", "%2F/bob",
        "--prefix")
    secure.allow("--principal", "bob", "--principal", "CN=bob", "--operation", "all", "--exchange", "%2F/amq.default")
    secure.allow("--principal", "bob", "--principal", "CN=bob", "--operation", "describe", "--vhost", "/")
    return "bob", "builder"


def context(secure, pair=None):
    made = ssl.create_default_context(cafile=secure.certificates.ca)
    if pair:
        made.load_cert_chain(*pair)
    return made


def connect(secure, credentials, pair=None):
    host, port = secure.server.addresses["amqps"]
    return pika.BlockingConnection(pika.ConnectionParameters(
        host, port, credentials=credentials, ssl_options=pika.SSLOptions(context(secure, pair), host),
        socket_timeout=8, blocked_connection_timeout=8, connection_attempts=1))


def trip(connection, queue):
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(queue, durable=True)
    channel.basic_publish("", queue, b"hello")
    _, _, body = channel.basic_get(queue, auto_ack=True)
    return body


def test_a_user_comes_in_by_plain(secure, bob):
    with connect(secure, pika.PlainCredentials(*bob)) as connection:
        assert trip(connection, "bob-plain") == b"hello"


def test_a_user_comes_in_by_amqplain(secure, bob):
    host, port = secure.server.addresses["amqps"]
    with amqp.Connection(
            f"{host}:{port}", *bob, login_method="AMQPLAIN", connect_timeout=8,
            ssl={"ca_certs": secure.certificates.ca, "server_hostname": host}) as connection:
        assert connection.channel().queue_declare("bob-amqplain").queue == "bob-amqplain"


def test_a_certificate_says_who_a_client_is(secure, bob):
    with connect(secure, pika.credentials.ExternalCredentials(), secure.certificates.pair("bob")) as connection:
        assert trip(connection, "bob-external") == b"hello"


def test_a_certificate_without_rules_comes_in_and_may_do_nothing(secure, bob):
    with pytest.raises(pika.exceptions.AMQPConnectionError) as refused:
        connect(secure, pika.credentials.ExternalCredentials(), secure.certificates.pair("eve"))
    assert "530" in str(refused.value) or "refused" in repr(refused.value).lower()


@pytest.mark.parametrize("credentials", [
    pika.PlainCredentials("bob", "wrong"), pika.PlainCredentials("guest", "guest"), pika.PlainCredentials("nobody", "builder"),
    pika.credentials.ExternalCredentials()], ids=["password", "guest", "unknown", "no-certificate"])
def test_others_are_refused(secure, bob, credentials):
    with pytest.raises(pika.exceptions.AMQPConnectionError) as refused:
        connect(secure, credentials)
    assert "ACCESS_REFUSED" in str(refused.value) or "403" in str(refused.value)


def test_what_no_rule_allows_is_refused_with_403(secure, bob):
    with connect(secure, pika.PlainCredentials(*bob)) as connection:
        channel = connection.channel()
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refused:
            channel.queue_declare("alices")
        assert refused.value.reply_code == 403
        assert "access to queue 'alices' in vhost '/' refused for user 'bob'" in refused.value.reply_text


def test_aio_pika_comes_in_by_plain(secure, bob):
    host, port = secure.server.addresses["amqps"]

    async def work():
        connection = await aio_pika.connect(
            host=host, port=port, login=bob[0], password=bob[1], ssl=True, ssl_context=context(secure), timeout=8)
        async with connection:
            channel = await connection.channel()
            queue = await channel.declare_queue("bob-aio", durable=True)
            await channel.default_exchange.publish(aio_pika.Message(b"hello"), routing_key="bob-aio")
            return (await queue.get(timeout=8)).body

    assert asyncio.run(asyncio.wait_for(work(), 30)) == b"hello"
