"""Record batches, magic 2: written and read byte by byte, independent of any client library.

    baseOffset int64 · batchLength int32 · partitionLeaderEpoch int32 · magic int8 · crc uint32 (CRC-32C of what follows)
    attributes int16 · lastOffsetDelta int32 · baseTimestamp int64 · maxTimestamp int64
    producerId int64 · producerEpoch int16 · baseSequence int32 · recordCount int32 · records
"""

import struct
from dataclasses import dataclass, field

HEADER = struct.Struct(">qiibIhiqqqhii")
CODECS = {"none": 0, "gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def crc32c(data):
    """CRC-32C (Castagnoli). Source: RFC 3720, appendix B.4."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def varint(value):
    """Zig-zag LEB128."""
    value = (value << 1) ^ (value >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data, at):
    """The zig-zag number at `at`, and where the next field begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


@dataclass
class Record:
    """One record, with where it stands once it was read."""

    key: bytes | None = None
    value: bytes | None = None
    headers: list = field(default_factory=list)
    timestamp: int = 0
    offset: int = -1
    partition: int = -1


def _sized(data):
    return varint(-1) if data is None else varint(len(data)) + data


def encode(records, base_offset=0, producer=(-1, -1, -1), magic=2, attributes=0, timestamp=1_700_000_000_000):
    """An uncompressed batch of `records`; producer is (id, epoch, first sequence)."""
    body = bytearray()
    for delta, one in enumerate(records):
        entry = b"\0" + varint(one.timestamp) + varint(delta) + _sized(one.key) + _sized(one.value)
        entry += varint(len(one.headers))
        for name, value in one.headers:
            entry += _sized(name.encode()) + _sized(value)
        body += varint(len(entry)) + entry
    last = max((one.timestamp for one in records), default=0)
    checked = struct.pack(">hiqqqhii", attributes, len(records) - 1, timestamp, timestamp + last, *producer,
                          len(records)) + body
    return struct.pack(">qiibI", base_offset, 9 + len(checked), -1, magic, crc32c(checked)) + checked


@dataclass
class Batch:
    """A batch's header, and its records when they are not compressed."""

    base_offset: int
    leader_epoch: int
    magic: int
    attributes: int
    last_offset: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    record_count: int
    size: int
    records: list


def decode(data):
    """The whole batches in `data`; a cut last one is left out, as fetch responses may end with one.

    Raises ValueError where a checksum differs.
    """
    batches, at = [], 0
    while len(data) - at >= HEADER.size:
        (base, length, epoch, magic, crc, attributes, last_delta, first_time, _, producer, producer_epoch, sequence,
         count) = HEADER.unpack_from(data, at)
        end = at + 12 + length
        if end > len(data):
            break
        if crc32c(data[at + 21:end]) != crc:
            raise ValueError(f"batch at offset {base}: the checksum differs")
        records = []
        if attributes & 7 == 0:
            position = at + HEADER.size
            for _ in range(count):
                record, position = _decode_record(data, position, base, first_time)
                records.append(record)
        batches.append(Batch(base, epoch, magic, attributes, base + last_delta, producer, producer_epoch, sequence,
                             count, 12 + length, records))
        at = end
    return batches


def _decode_record(data, at, base, first_time):
    length, at = read_varint(data, at)
    end = at + length
    time_delta, at = read_varint(data, at + 1)
    offset_delta, at = read_varint(data, at)
    key, at = _decode_sized(data, at)
    value, at = _decode_sized(data, at)
    header_count, at = read_varint(data, at)
    headers = []
    for _ in range(header_count):
        name, at = _decode_sized(data, at)
        content, at = _decode_sized(data, at)
        headers.append((name.decode(), content))
    if at != end:
        raise ValueError(f"record at offset {base + offset_delta} ends {end - at} bytes early")
    return Record(key, value, headers, first_time + time_delta, base + offset_delta), end


def _decode_sized(data, at):
    length, at = read_varint(data, at)
    if length < 0:
        return None, at
    return bytes(data[at:at + length]), at + length
