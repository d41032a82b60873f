"""The test's own batch code, held against known bytes and against a client library."""

import pytest
from aiokafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder

from millrace_tests.batches import Record, crc32c, decode, encode


def test_crc32c_agrees_with_its_published_check_value():
    assert crc32c(b"123456789") == 0xE3069283


def test_a_batch_comes_back_as_it_went_in():
    records = [Record(b"k", b"v", [("h", b"x"), ("n", None)], 5), Record(None, None, [], 9)]
    (batch,) = decode(encode(records, base_offset=40, producer=(7, 1, 3)))
    assert (batch.base_offset, batch.last_offset, batch.magic) == (40, 41, 2)
    assert (batch.producer_id, batch.producer_epoch, batch.base_sequence) == (7, 1, 3)
    assert [(r.key, r.value, r.headers, r.offset) for r in batch.records] == [
        (b"k", b"v", [("h", b"x"), ("n", None)], 40), (None, None, [], 41)]


def test_a_client_library_reads_our_batches():
    batch = DefaultRecordBatch(encode([Record(b"k%d" % i, b"v" * i) for i in range(300)]))
    assert batch.validate_crc()
    assert [(r.key, len(r.value)) for r in batch] == [(b"k%d" % i, i) for i in range(300)]


def test_we_read_a_client_librarys_batches():
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 20)
    for i in range(200):
        builder.append(i, 1000 + i, b"key", b"value%d" % i, [("h", b"1")])
    (batch,) = decode(bytes(builder.build()))
    assert [r.value for r in batch.records] == [b"value%d" % i for i in range(200)]
    assert batch.records[7].timestamp == 1007


def test_a_flipped_bit_is_noticed():
    data = bytearray(encode([Record(b"k", b"v")]))
    data[-1] ^= 1
    with pytest.raises(ValueError, match="checksum"):
        decode(bytes(data))
