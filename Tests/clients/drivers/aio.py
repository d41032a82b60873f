"""aiokafka, its event loop hidden inside each call."""

import asyncio
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRebalanceListener, TopicPartition

from millrace_tests.batches import Record

from .base import Driver, Member


def _record(message):
    return Record(message.key, message.value, list(message.headers), message.timestamp, message.offset,
                  message.partition)


class AioKafka(Driver):
    name = "aiokafka"

    def produce(self, bootstrap, topic, records, codec="none", acks="all", idempotent=False, partition=0):
        async def run():
            producer = AIOKafkaProducer(
                bootstrap_servers=bootstrap, acks=acks, enable_idempotence=idempotent, linger_ms=5,
                compression_type=None if codec == "none" else codec)
            await producer.start()
            try:
                futures = [await producer.send(topic, one.value, key=one.key, partition=partition,
                                               headers=one.headers or None, timestamp_ms=one.timestamp or None)
                           for one in records]
                done = await asyncio.wait_for(asyncio.gather(*futures), 30)
                return [None if one is None else one.offset for one in done]
            finally:
                await producer.stop()

        return asyncio.run(run())

    def read(self, bootstrap, topic, partition=0, first=0, count=1, timeout_seconds=20):
        async def run():
            consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False,
                                        auto_offset_reset="none")
            await consumer.start()
            try:
                place = TopicPartition(topic, partition)
                consumer.assign([place])
                consumer.seek(place, first)
                found, deadline = [], time.monotonic() + timeout_seconds
                while len(found) < count and time.monotonic() < deadline:
                    for messages in (await consumer.getmany(timeout_ms=500, max_records=count - len(found))).values():
                        found += map(_record, messages)
                return found
            finally:
                await consumer.stop()

        return asyncio.run(run())

    def offset_for_time(self, bootstrap, topic, partition, milliseconds):
        async def run():
            consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap)
            await consumer.start()
            try:
                place = TopicPartition(topic, partition)
                found = (await consumer.offsets_for_times({place: milliseconds}))[place]
                return None if found is None else found.offset
            finally:
                await consumer.stop()

        return asyncio.run(run())

    def member(self, bootstrap, group, topic, **options):
        return _Member(bootstrap, group, topic, **options).start()


class _Member(Member):
    def _run(self):
        asyncio.run(self._consume())

    async def _consume(self):
        member = self

        class Listener(ConsumerRebalanceListener):
            async def on_partitions_revoked(self, revoked):
                member.assigned = None

            async def on_partitions_assigned(self, assigned):
                member._got_assignment(place.partition for place in assigned)

        consumer = AIOKafkaConsumer(
            bootstrap_servers=self.bootstrap, group_id=self.group, group_instance_id=self.instance,
            auto_offset_reset="earliest" if self.from_beginning else "latest", enable_auto_commit=True,
            auto_commit_interval_ms=200, session_timeout_ms=self.session_timeout_ms, heartbeat_interval_ms=500,
            fetch_max_wait_ms=100)
        consumer.subscribe([self.topic], listener=Listener())
        await consumer.start()
        try:
            while not self.stopping.is_set():
                for messages in (await consumer.getmany(timeout_ms=100)).values():
                    for message in messages:
                        self._received(_record(message))
        finally:
            await consumer.stop()
