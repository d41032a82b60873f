"""aio-pika: a robust connection that publishes with confirms and mandatory, consumes, reads as an iterator, and calls by RPC."""

import asyncio

import aio_pika
import aio_pika.patterns
import pytest


@pytest.fixture
def run(amqp_server):
    """Runs a coroutine with an open connection, within a minute."""

    def run(work):
        async def whole():
            async with await aio_pika.connect_robust(amqp_server.uri, timeout=20) as connection:
                return await work(connection)

        return asyncio.run(asyncio.wait_for(whole(), 60))

    return run


def test_publishing_and_iterating(run, name):
    async def work(connection):
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=10)
        queue = await channel.declare_queue(name(), durable=True)
        for n in range(20):
            await channel.default_exchange.publish(
                aio_pika.Message(str(n).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT, headers={"n": n}),
                routing_key=queue.name)
        got = []
        async with queue.iterator() as messages:
            async for message in messages:
                async with message.process():
                    got.append((message.body.decode(), message.headers["n"]))
                if len(got) == 20:
                    break
        await queue.delete()
        return got

    assert run(work) == [(str(n), n) for n in range(20)]


def test_mandatory_is_its_standard(run, name):
    async def work(connection):
        channel = await connection.channel(on_return_raises=True)
        await channel.default_exchange.publish(aio_pika.Message(b"x"), routing_key=name("nowhere"))

    with pytest.raises(aio_pika.exceptions.PublishError):
        run(work)


def test_exchanges_get_and_reject(run, name):
    async def work(connection):
        channel = await connection.channel()
        exchange = await channel.declare_exchange(name("topic"), aio_pika.ExchangeType.TOPIC, auto_delete=True)
        queue = await channel.declare_queue("", exclusive=True)
        await queue.bind(exchange, "orders.#")
        await exchange.publish(aio_pika.Message(b"order"), "orders.new.eu")
        first = await queue.get(timeout=20)
        await first.reject(requeue=True)
        second = await queue.get(timeout=20)
        await second.ack()
        return first.body, first.redelivered, second.body, second.redelivered, await queue.get(fail=False)

    assert run(work) == (b"order", False, b"order", True, None)


def test_transactions(run, name):
    async def work(connection):
        channel = await connection.channel(publisher_confirms=False)
        queue = await channel.declare_queue(name(), exclusive=True)
        async with channel.transaction():
            await channel.default_exchange.publish(aio_pika.Message(b"committed"), routing_key=queue.name)
        with pytest.raises(ZeroDivisionError):
            async with channel.transaction():
                await channel.default_exchange.publish(aio_pika.Message(b"never"), routing_key=queue.name)
                raise ZeroDivisionError
        return (await queue.get()).body, await queue.get(fail=False)

    assert run(work) == (b"committed", None)


def test_rpc(run, name):
    async def work(connection):
        server = await aio_pika.patterns.RPC.create(await connection.channel())
        client = await aio_pika.patterns.RPC.create(await connection.channel())
        method = name("double")

        async def double(*, value):
            return value * 2

        await server.register(method, double, auto_delete=True)
        return await asyncio.gather(*(client.call(method, kwargs={"value": n}) for n in range(10)))

    assert run(work) == [n * 2 for n in range(10)]


def test_master_and_worker(run, name):
    async def work(connection):
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        master = aio_pika.patterns.Master(channel)
        seen, done, task = [], asyncio.Event(), name("task")

        async def worker(*, n):
            seen.append(n)
            if len(seen) == 10:
                done.set()

        await master.create_worker(task, worker, auto_delete=True)
        for n in range(10):
            await master.create_task(task, kwargs={"n": n})
        await done.wait()
        return seen

    assert run(work) == list(range(10))


def test_a_channel_error_is_raised_and_the_connection_stays(run):
    async def work(connection):
        channel = await connection.channel()
        with pytest.raises(aio_pika.exceptions.ChannelNotFoundEntity) as caught:
            await channel.declare_queue("missing", passive=True)
        other = await connection.channel()
        await other.declare_queue("", exclusive=True)
        return str(caught.value)

    assert "NOT_FOUND - no queue 'missing' in vhost '/'" in run(work)
