// Bytes, readers and writers: what goes in comes out, and nothing is read past the end.

import Testing

@testable import MillraceBase

@Test("numbers written are read back")
func numbersRoundTrip() throws {
  var writer = ByteWriter(capacity: 64)
  writer.int8(-3)
  writer.int16(-300)
  writer.int32(-70_000)
  writer.int64(.min)
  writer.uint32(.max)
  writer.varint(-1)
  writer.varint(.max)
  writer.varlong(.min)
  writer.unsignedVarint(.max)
  writer.float64(1.5)
  writer.utf8("æ")
  var reader = ByteReader(writer.finishJoined())
  #expect(try reader.int8() == -3)
  #expect(try reader.int16() == -300)
  #expect(try reader.int32() == -70_000)
  #expect(try reader.int64() == .min)
  #expect(try reader.uint32() == .max)
  #expect(try reader.varint() == -1)
  #expect(try reader.varint() == .max)
  #expect(try reader.varlong() == .min)
  #expect(try reader.unsignedVarint() == .max)
  #expect(try reader.float64() == 1.5)
  #expect(try reader.string(2) == "æ")
  #expect(reader.remaining == 0)
}

@Test("reading past the end names what was wanted and where")
func readingPastTheEnd() throws {
  var reader = ByteReader(Bytes([1, 2, 3]))
  _ = try reader.int8()
  #expect(throws: DecodingError("int32 needs 4 bytes, 2 are left", at: 1)) { try reader.int32() }
  #expect(throws: DecodingError.self) { try reader.slice(3) }
  #expect(throws: DecodingError.self) { try reader.slice(-1) }
}

@Test("varints that are cut off or too long are refused")
func badVarints() {
  var cut = ByteReader(Bytes([0x80, 0x80]))
  #expect(throws: DecodingError.self) { try cut.unsignedVarint() }
  var long = ByteReader(Bytes(Array(repeating: 0x80, count: 11)))
  #expect(throws: DecodingError.self) { try long.unsignedVarlong() }
  var wide = ByteReader(Bytes([0xff, 0xff, 0xff, 0xff, 0x7f]))
  #expect(throws: DecodingError.self) { try wide.unsignedVarint() }
}

@Test("text that is not UTF-8 is refused")
func badText() {
  var reader = ByteReader(Bytes([0xff, 0x41]))
  #expect(throws: DecodingError.self) { try reader.string(2) }
}

@Test("large slices are spliced in, small ones copied, and the order is kept")
func splicing() {
  let large = Bytes(Array(repeating: 7, count: ByteWriter.spliceThreshold))
  var writer = ByteWriter(capacity: 64)
  writer.int32(0)
  writer.append(Bytes([1, 2]))
  writer.append(large)
  writer.int8(9)
  writer.patchInt32(0x0102_0304, at: 0)
  #expect(writer.count == 4 + 2 + large.count + 1)
  let pieces = writer.finish()
  #expect(pieces.count == 3)
  #expect(pieces[0].array == [1, 2, 3, 4, 1, 2])
  #expect(pieces[1].start == large.start)
  #expect(pieces[2].array == [9])
}

@Test("what is drained stays while writing goes on behind it, in the same memory while there is room")
func draining() {
  var writer = ByteWriter(capacity: 64)
  writer.fill(atMost: 8) { room in
    room.storeBytes(of: 0xAABB, as: UInt16.self)
    return 2
  }
  let first = writer.drain()
  #expect(writer.count == 0)
  writer.int32(0)
  let large = Bytes(Array(repeating: 7, count: ByteWriter.spliceThreshold))
  writer.append(large)
  writer.int32(0)
  writer.patchInt32(0x0102_0304, at: 4 + large.count)
  writer.patchInt32(0x0506_0708, at: 0)
  let second = writer.drain()
  #expect(first.map(\.array) == [[0xBB, 0xAA]])
  #expect(second.map(\.count) == [4, large.count, 4])
  #expect(second[0].array == [5, 6, 7, 8] && second[2].array == [1, 2, 3, 4])
  #expect(second[0].start == first[0].start + 2)
  // Memory does not grow from turn to turn.
  for turn in 0..<100 {
    writer.fill(atMost: 60) { room in
      room.initializeMemory(as: UInt8.self, repeating: UInt8(turn), count: 60)
      return 60
    }
    let piece = writer.drain()
    #expect(piece.count == 1 && piece[0].array == [UInt8](repeating: UInt8(turn), count: 60))
    #expect((piece[0].owner as? Chunk)?.capacity ?? 0 <= 128)
  }
  #expect(writer.drain().isEmpty)
}

@Test("agrees: CRC-32C by instruction and by table, over all small lengths and alignments and some large ones")
func agreesCRC() {
  var random = SeededRandom(seed: 1)
  let data = (0..<60_000).map { _ in UInt8(truncatingIfNeeded: random.next()) }
  data.withUnsafeBytes { all in
    for start in 0..<9 {
      for length in Array(0..<300) + [767, 768, 769, 24_575, 24_576, 24_577, 50_000] {
        let part = UnsafeRawBufferPointer(rebasing: all[start..<(start + length)])
        #expect(CRC32C.checksum(part) == CRC32C.tableChecksum(part))
        let half = length / 2
        let first = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: part[0..<half]))
        let joined = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: part[half...]), continuing: first)
        #expect(joined == CRC32C.checksum(part))
        let second = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: part[half...]))
        #expect(CRC32C.combined(first, second, secondLength: length - half) == CRC32C.checksum(part))
      }
    }
  }
}

@Test("golden: CRC-32C of the check string")
func goldenCRC() {
  // Source: the catalogue of parametrised CRC algorithms, CRC-32/ISCSI.
  #expect(Bytes("123456789").crc32c == 0xe306_9283)
}

@Test("golden: murmur2 and the partition of known keys")
func goldenMurmur() {
  // Source: Kafka's own UtilsTest.
  let known: [(String, Int32)] = [
    ("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829), ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
  ]
  for (key, hash) in known {
    #expect(Bytes(key).withBuffer { Int32(bitPattern: Hashing.murmur2($0)) } == hash, "\(key)")
  }
}

@Test("golden: the stable hash never changes, because key groups on disk depend on it")
func goldenStableHash() {
  let known: [(String, UInt64)] = [
    ("", 6_727_275_488_240_365_865), ("a", 7_233_614_880_455_220_363), ("millrace", 16_692_819_611_157_772_510),
    ("a longer key, of 32 bytes or more", 17_087_294_963_131_915_836),
  ]
  for (key, hash) in known {
    #expect(Bytes(key).withBuffer { Hashing.stable($0) } == hash, "\(key)")
  }
  #expect(Hashing.stable(UnsafeRawBufferPointer(start: nil, count: 0)) == known[0].1)
}

@Test("a histogram's quantiles are within a sixteenth")
func histogramQuantiles() {
  var histogram = Histogram()
  for value in 1...100_000 { histogram.record(UInt64(value)) }
  for quantile in [0.01, 0.5, 0.9, 0.99, 0.999] {
    let exact = quantile * 100_000
    let got = Double(histogram.value(at: quantile))
    #expect(got >= exact && got <= exact * 17 / 16 + 1, "\(quantile): \(got)")
  }
  #expect(histogram.value(at: 1) == 100_000)
}

@Test("log lines quote what could be mistaken and escape control characters")
func logLines() {
  #expect(Logger.quoted("plain") == "plain")
  #expect(Logger.quoted("two words") == "\"two words\"")
  #expect(Logger.quoted("a\nb") == "a\\u{a}b")
  #expect(Logger.iso8601(Timestamp(milliseconds: 1_795_192_260_123)) == "2026-11-20T16:31:00.123Z")
  #expect(Logger.iso8601(Timestamp(milliseconds: 951_782_399_999)) == "2000-02-28T23:59:59.999Z")
}
