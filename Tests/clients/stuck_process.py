"""A member of a classic group that gets its partitions and then polls no more, as a program that hangs: bootstrap, group, topic.

Prints `assigned N` once. It is a process of its own so that a test can kill it: a close of librdkafka that comes right after it left
its group by itself may never return.
"""

import sys
import time

from confluent_kafka import Consumer

bootstrap, group, topic = sys.argv[1:]
consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": group, "session.timeout.ms": 6000,
                     "max.poll.interval.ms": 6000, "auto.offset.reset": "earliest"})
consumer.subscribe([topic])
while not consumer.assignment():
    consumer.poll(0.1)
print("assigned", len(consumer.assignment()), flush=True)
# The client's own threads go on: librdkafka leaves by itself after max.poll.interval.ms.
time.sleep(600)
