// FuzzTarget: what one fuzzer is: a name, what it does with an input, inputs to begin with, and what an input may cost.

import MillraceBase

/// A fuzzer. What breaks a rule ends the program.
package struct FuzzTarget: Sendable {
  /// As on the command line and in docs/internals/fuzzing.md.
  package let name: String
  /// Bytes that an input may make the program hold, beyond 8 times its own size.
  package let allowance: Int
  /// Processor time that an input may take.
  package let limit: Duration
  /// Inputs to begin with, beside those that make-seeds.py writes.
  package let seeds: @Sendable () -> [[UInt8]]
  /// Does what the program does with such bytes.
  package let run: @Sendable (Bytes) -> Void

  package init(
    name: String, allowance: Int = 2 << 20, limit: Duration = .milliseconds(100),
    seeds: @escaping @Sendable () -> [[UInt8]] = { [] }, run: @escaping @Sendable (Bytes) -> Void
  ) {
    self.name = name
    self.allowance = allowance
    self.limit = limit
    self.seeds = seeds
    self.run = run
  }
}

/// A reader of an input that never fails: what is missing is 0.
package struct Choices {
  private var reader: ByteReader

  package init(_ input: Bytes) { reader = ByteReader(input) }

  package var isEmpty: Bool { reader.remaining == 0 }

  package mutating func byte() -> Int {
    guard reader.remaining > 0 else { return 0 }
    do throws(DecodingError) { return Int(try reader.uint8()) } catch { return 0 }
  }

  /// A number below `limit`, from as many bytes as it takes.
  package mutating func number(below limit: Int) -> Int {
    var value = byte()
    if limit > 1 << 8 { value = value << 8 | byte() }
    if limit > 1 << 16 { value = value << 8 | byte() }
    return limit > 0 ? value % limit : 0
  }

  /// The next `count` bytes, or what is left.
  package mutating func bytes(_ count: Int) -> Bytes {
    do throws(DecodingError) { return try reader.slice(min(count, reader.remaining)) } catch { return Bytes() }
  }

  /// Everything that is left, in memory of its own, so that the sanitizer sees a read past its end.
  package mutating func rest() -> Bytes { bytes(reader.remaining).withBuffer { Bytes(copying: $0) } }
}
