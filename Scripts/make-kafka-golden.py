#!/usr/bin/env python3
"""Writes Tests/MillraceKafkaProtocolTests/GoldenMessages.swift: messages as kafka-python encodes them.

usage: pip install kafka-python==3.0.12; make-kafka-golden.py

Every message in every version with seeded random values, and a few with fixed values that tests check by name.
"""

import importlib
import pathlib
import random
import re
import textwrap
import uuid

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "Scripts" / "kafka-messages.txt"
OUTPUT = ROOT / "Tests" / "MillraceKafkaProtocolTests" / "GoldenMessages.swift"
MODULES = ("admin", "consumer", "metadata", "producer", "sasl")
# What kafka-python does not have; GoldenGroupMessages.swift and GoldenShareMessages.swift hold these instead.
LACKING = (
    "ConsumerGroupHeartbeatRequest",
    "ConsumerGroupHeartbeatResponse",
    "ConsumerGroupDescribeRequest",
    "ConsumerGroupDescribeResponse",
    *(
        f"{name}{kind}"
        for name in (
            "ShareGroupHeartbeat",
            "ShareGroupDescribe",
            "ShareFetch",
            "ShareAcknowledge",
            "DescribeShareGroupOffsets",
            "AlterShareGroupOffsets",
            "DeleteShareGroupOffsets",
        )
        for kind in ("Request", "Response")
    ),
)


def snake(name):
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def find(name):
    for module in MODULES:
        found = getattr(importlib.import_module(f"kafka.protocol.{module}"), name, None)
        if found is not None:
            if name in LACKING:
                raise SystemExit(f"kafka-python has {name}: take it out of LACKING")
            return found
    if name in LACKING:
        return None
    raise SystemExit(f"kafka-python has no {name}")


def contains(versions, version):
    if not versions or versions == "none":
        return False
    low, _, high = versions.rstrip("+").partition("-")
    return int(low) <= version and (versions.endswith("+") or version <= int(high or low))


class Sampler:
    """Random values for kafka-python's message classes, following its schemas."""

    def __init__(self, seed, shared):
        self.random = random.Random(seed)
        self.shared = {one["name"]: one["fields"] for one in shared}

    def scalar(self, kind):
        bits = {"int8": 8, "int16": 16, "int32": 32, "int64": 64, "uint16": 16}
        if kind in bits:
            return self.random.randrange(1, 1 << (bits[kind] - 1)) * self.random.choice((1, -1))
        if kind == "float64":
            return self.random.uniform(-1e9, 1e9)
        if kind == "bool":
            return True
        if kind == "bitfield":  # the client's own type for a set of operations, an int32 on the wire
            return {self.random.randrange(31) for _ in range(4)}
        if kind == "string":
            return "".join(self.random.choice("abcxyz019-_.äß日🙂") for _ in range(self.random.randrange(1, 9)))
        if kind == "uuid":
            return uuid.UUID(int=self.random.getrandbits(128))
        return bytes(self.random.randrange(256) for _ in range(self.random.randrange(1, 12)))

    def structure(self, owner, fields, version):
        values = {}
        for field in fields:
            if not contains(field["versions"], version):
                continue
            kind, nullable = field["type"], contains(field.get("nullableVersions"), version)
            tagged = "tag" in field and contains(field["taggedVersions"], version)
            element = kind.removeprefix("[]")
            # Millrace does not tell a fetch answer's null records from empty ones.
            if nullable and not tagged and element != "records" and self.random.random() < 0.2:
                value = None
            elif kind.startswith("[]"):
                value = [self.value(owner, field, element, version) for _ in range(self.random.choice((1, 1, 2)))]
            else:
                value = self.value(owner, field, element, version)
            if tagged and self.random.random() < 0.3:
                continue
            values[snake(field["name"])] = value
        return values

    def value(self, owner, field, element, version):
        fields = field.get("fields") or self.shared.get(element)
        if fields:
            inner = getattr(owner, element)
            return inner(**self.structure(inner, fields, version))
        return self.scalar(element)


def named():
    """Messages whose fields are checked one by one."""
    produce, fetch = find("ProduceRequest"), find("FetchResponse")
    topic = produce.TopicProduceData
    yield "ProduceRequest", 9, produce(
        transactional_id="tx", acks=-1, timeout_ms=1500,
        topic_data=[topic(name="lines", partition_data=[topic.PartitionProduceData(index=3, records=b"batch")])])
    answer = fetch.FetchableTopicResponse
    part = answer.PartitionData
    yield "FetchResponse", 13, fetch(
        throttle_time_ms=1, error_code=2, session_id=3, responses=[answer(
            topic_id=uuid.UUID(int=0x0102030405060708090A0B0C0D0E0F10), partitions=[part(
                partition_index=4, error_code=5, high_watermark=6, last_stable_offset=7, log_start_offset=8,
                diverging_epoch=part.EpochEndOffset(epoch=9, end_offset=10),
                aborted_transactions=[part.AbortedTransaction(producer_id=11, first_offset=12)],
                preferred_read_replica=13, records=b"slices")])])
    join = find("JoinGroupResponse")
    yield "JoinGroupResponse", 7, join(
        throttle_time_ms=1, error_code=0, generation_id=2, protocol_type="consumer", protocol_name="range",
        leader="a", member_id="b",
        members=[join.JoinGroupResponseMember(member_id="a", group_instance_id=None, metadata=b"\x00\x03")])
    metadata = find("MetadataResponse")
    entry = metadata.MetadataResponseTopic
    yield "MetadataResponse", 12, metadata(
        throttle_time_ms=0, brokers=[metadata.MetadataResponseBroker(node_id=1, host="h", port=9092, rack=None)],
        cluster_id="c", controller_id=1, topics=[entry(
            error_code=0, name="t", topic_id=uuid.UUID(int=5), is_internal=False,
            partitions=[entry.MetadataResponsePartition(
                error_code=9, partition_index=1, leader_id=2, leader_epoch=3, replica_nodes=[4], isr_nodes=[5],
                offline_replicas=[6])], authorized_operations={0, 1, 2})])


def main():
    lines = []

    def add(label, data):
        lines.append(label)
        lines.extend("  " + part for part in textwrap.wrap(data.hex(), 100))

    for name, valid in re.findall(r"(?m)^(\w+) key=\d+ valid=(\S+)", SCHEMA.read_text()):
        message = find(name)
        if message is None:
            continue
        low, _, high = valid.partition("-")
        for version in range(int(low), int(high or low) + 1):
            sampler = Sampler(f"{name} {version}", message.json.get("commonStructs", []))
            values = sampler.structure(message, message.json["fields"], version)
            add(f"{name} {version} random", bytes(message(**values).encode(version=version)))
    for name, version, message in named():
        add(f"{name} {version} named", bytes(message.encode(version=version)))

    text = [
        "// GoldenMessages: messages as kafka-python 3.0.12 encodes them.",
        "// Generated by Scripts/make-kafka-golden.py.",
        "",
        "/// Each message: its name, version and kind, then its bytes without header in hexadecimal.",
        'let goldenMessages = """',
        *("  " + line for line in lines),
        '  """',
        "",
    ]
    OUTPUT.write_text("\n".join(text))


if __name__ == "__main__":
    main()
