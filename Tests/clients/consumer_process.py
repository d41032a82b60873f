"""A member of a group of KIP-848's protocol as a process of its own, so that a test can kill it: bootstrap, group, topic.

Prints `assigned N` whenever that changes, and `record VALUE` for each record, before its commit.
"""

import sys

from confluent_kafka import Consumer

bootstrap, group, topic = sys.argv[1:]
held = set()


def report(places, change):
    change({place.partition for place in places})
    print("assigned", len(held), flush=True)


consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "group.protocol": "consumer",
                     "enable.auto.commit": False, "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100})
consumer.subscribe([topic], on_assign=lambda _, places: report(places, held.update),
                   on_revoke=lambda _, places: report(places, held.difference_update))
while True:
    message = consumer.poll(0.1)
    if message is not None and message.error() is None:
        print("record", message.value().decode(), flush=True)
        consumer.commit(message, asynchronous=False)
