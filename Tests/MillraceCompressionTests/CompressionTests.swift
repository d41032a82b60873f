// Compression: what goes in comes out, other implementations' data is read, and damage and bombs end in errors.

import MillraceBase
import Testing

@testable import MillraceCompression

private let large = 1 << 26

private func random(_ count: Int, seed: UInt64) -> Bytes {
  var random = SeededRandom(seed: seed)
  return Bytes((0..<count).map { _ in UInt8.random(in: 0...255, using: &random) })
}

/// Words from a small vocabulary: compresses well, but not to nothing.
private func text(_ count: Int, seed: UInt64) -> Bytes {
  var random = SeededRandom(seed: seed)
  let words = ["mill", "race", "wheel", "water", "stone", "grain", "flour", "sluice "].map { Array($0.utf8) }
  var out: [UInt8] = []
  out.reserveCapacity(count + 8)
  while out.count < count { out += words[Int.random(in: 0..<words.count, using: &random)] }
  return Bytes(Array(out.prefix(count)))
}

@Test("what was compressed is decompressed to the same bytes", arguments: CompressionFormat.allCases)
func roundTrip(format: CompressionFormat) throws {
  let sizes = [0, 1, 2, 17, 4095, 4096, 4097, 32_767, 32_768, 32_769, 65_536, 300_000]
  for (index, size) in sizes.enumerated() {
    for data in [
      random(size, seed: UInt64(index)), text(size, seed: UInt64(index)), Bytes(Array(repeating: 7, count: size)),
    ] {
      let packed = try Compression.compress(data, format: format)
      #expect(try Compression.decompress(packed, format: format, limit: large) == data)
      #expect(try Compression.decompress(packed, format: format, limit: size) == data)
    }
  }
}

@Test("large data makes the round trip and text becomes smaller", arguments: CompressionFormat.allCases)
func largeRoundTrip(format: CompressionFormat) throws {
  let data = text(3_000_000, seed: 5)
  let packed = try Compression.compress(data, format: format)
  #expect(packed.count < data.count * 2 / 3)
  #expect(try Compression.decompress(packed, format: format, limit: large) == data)
}

@Test("levels of the format are honoured and others are refused")
func levels() throws {
  let data = text(100_000, seed: 6)
  for (format, low, high, refused) in [
    (CompressionFormat.gzip, 1, 9, 10), (.lz4, 1, 12, 13), (.zstd, -5, 19, 23), (.snappy, 0, 0, 1),
  ] {
    let fast = try Compression.compress(data, format: format, level: low)
    let small = try Compression.compress(data, format: format, level: high)
    #expect(format == .snappy || small.count < fast.count)
    #expect(try Compression.decompress(small, format: format, limit: large) == data)
    #expect {
      try Compression.compress(data, format: format, level: refused)
    } throws: {
      ($0 as? CompressionError)?.code == .unsupportedLevel
    }
  }
}

@Test("golden: data of other implementations is read", arguments: goldens)
func golden(_ golden: Golden) throws {
  let bytes = golden.bytes
  #expect(!bytes.isEmpty)
  #expect(try Compression.decompress(bytes, format: golden.format, limit: large) == goldenText)
  #expect(try Compression.decompress(bytes, format: golden.format, limit: goldenText.count) == goldenText)
}

@Test("one byte less than the output as limit is refused", arguments: goldens)
func limitIsExact(_ golden: Golden) {
  for limit in [0, 1, 700, goldenText.count - 1] {
    #expect {
      try Compression.decompress(golden.bytes, format: golden.format, limit: limit)
    } throws: {
      ($0 as? CompressionError)?.code == .limitExceeded
    }
  }
}

/// Where a prefix of a golden is itself complete: at the border of a member, frame or block.
private func isBorder(_ result: Bytes) -> Bool {
  goldenText.array.starts(with: result.array) && result.count < goldenText.count
}

@Test("data that ends too early is refused, unless it ends between two members, frames or blocks", arguments: goldens)
func everyTruncation(_ golden: Golden) {
  let bytes = golden.bytes
  var complete = 0
  for length in 0..<bytes.count {
    do throws(CompressionError) {
      let result = try Compression.decompress(bytes[0..<length], format: golden.format, limit: large)
      #expect(isBorder(result), "\(length) of \(bytes.count) bytes gave \(result.count)")
      complete += 1
    } catch { #expect(error.code == .corrupt, "\(length): \(error)") }
  }
  #expect(complete <= 3, "\(complete) truncations were accepted")
}

@Test("changed bytes give an error or other bytes within the limit, never a crash", arguments: goldens)
func everyFlip(_ golden: Golden) {
  let bytes = golden.bytes.array
  let limit = 4 * goldenText.count
  var refused = 0
  for index in bytes.indices {
    for bit in 0..<8 {
      var changed = bytes
      changed[index] ^= 1 << UInt8(bit)
      do throws(CompressionError) {
        let result = try Compression.decompress(Bytes(changed), format: golden.format, limit: limit)
        #expect(result.count <= limit)
      } catch { refused += 1 }
    }
  }
  #expect(refused > bytes.count / 4, "only \(refused) of \(8 * bytes.count) changes were noticed")
}

@Test("random bytes are refused or small, never a crash", arguments: CompressionFormat.allCases)
func noise(format: CompressionFormat) {
  for seed in 0..<500 {
    let data = random(Int(seed) % 90, seed: UInt64(seed))
    do throws(CompressionError) {
      #expect(try Compression.decompress(data, format: format, limit: 100_000).count <= 100_000)
    } catch { #expect(error.format == format) }
  }
}

@Test("bytes behind the end are refused", arguments: goldens)
func trailingBytes(_ golden: Golden) {
  #expect(throws: CompressionError.self) {
    try Compression.decompress(Bytes(golden.bytes.array + [1, 2, 3]), format: golden.format, limit: large)
  }
}

@Test("a bomb stops at the limit", arguments: CompressionFormat.allCases)
func bombs(format: CompressionFormat) throws {
  let zeros = try Compression.compress(Bytes(Array(repeating: 0, count: 20_000_000)), format: format)
  for limit in [0, 1000, 1 << 20] {
    #expect {
      try Compression.decompress(zeros, format: format, limit: limit)
    } throws: {
      ($0 as? CompressionError)?.code == .limitExceeded
    }
  }
}

@Test("an announced size reserves little, and one beyond the limit is refused at once")
func announcedSizes() throws {
  var output = BoundedOutput(format: .zstd, limit: .max)
  try output.expect(UInt64(Int.max))
  #expect(output.room().count <= 2 * BoundedOutput.largestReservation)
  var bounded = BoundedOutput(format: .zstd, limit: 1000)
  #expect(throws: CompressionError.self) { try bounded.expect(1001) }
  try bounded.expect(1000)
  #expect(bounded.room().count == 1001)
  // A raw snappy block that announces 1 GiB in six bytes.
  #expect {
    try Compression.decompress(
      Bytes([0x80, 0x80, 0x80, 0x80, 0x04, 0x00]), format: .snappy, limit: .max)
  } throws: {
    ($0 as? CompressionError)?.code == .corrupt
  }
}

@Test("snappy is written in the framing that Java clients read")
func xerialFraming() throws {
  let data = text(40_000, seed: 9)
  let packed = try Compression.compress(data, format: .snappy)
  #expect(packed[0..<16].array == [0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1])
  var reader = ByteReader(packed)
  try reader.skip(16)
  try reader.skip(Int(try reader.int32()))
  try reader.skip(Int(try reader.int32()))
  #expect(reader.remaining == 0)
  // Streams written one after the other.
  #expect(
    try Compression.decompress(Bytes(packed.array + packed.array), format: .snappy, limit: large)
      == Bytes(data.array + data.array))
  var later = packed.array
  later[15] = 2
  #expect(throws: CompressionError.self) { try Compression.decompress(Bytes(later), format: .snappy, limit: large) }
}

@Test("a few bytes of zstd cannot ask for a window of 128 MiB")
func zstandardWindow() {
  // A frame of two dozen bytes whose header asks for the largest window; found by the fuzzer.
  let bytes = Bytes([
    0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x88, 0x00, 0x00, 0x74, 0x7a, 0x65, 0x20, 0x73, 0x61, 0x6d, 0x65, 0x20, 0x61,
    0x2e,
  ])
  do throws(CompressionError) {
    _ = try Compression.decompress(bytes, format: .zstd, limit: 1 << 20)
    Issue.record("it was decompressed")
  } catch {
    #expect(error.code == .corrupt && error.reason.contains("memory"), "\(error)")
  }
}
