// Compression: the four formats of Kafka's record batches, compressed and decompressed within a bound.
//
// Every decoder feeds a BoundedOutput: memory grows with what was really produced, and stops at the caller's limit. Sizes
// that the data announces are believed only to refuse earlier, or to reserve at most BoundedOutput.largestReservation.

import MillraceBase

/// A compression format, numbered as in the attributes of a Kafka record batch.
public enum CompressionFormat: UInt8, Sendable, CaseIterable {
  /// RFC 1952; several members follow each other.
  case gzip = 1
  /// Snappy: raw blocks, or the framing of xerial's snappy-java.
  case snappy = 2
  /// LZ4 frames.
  case lz4 = 3
  /// Zstandard frames.
  case zstd = 4
}

/// Why bytes could not be compressed or decompressed.
public struct CompressionError: Error, Equatable, CustomStringConvertible {
  /// The kinds that callers tell apart.
  public enum Code: Sendable {
    /// The data is not in the format, is damaged, or ends too early.
    case corrupt
    /// The output would exceed the limit.
    case limitExceeded
    /// The format has no such level.
    case unsupportedLevel
    /// The library refused for want of memory, or for a reason of its own.
    case failed
  }

  /// The kind.
  public let code: Code
  /// The format.
  public let format: CompressionFormat
  /// What was wrong, in words, with the values.
  public let reason: String

  /// An error with its explanation.
  public init(_ code: Code, _ format: CompressionFormat, _ reason: String) {
    self.code = code
    self.format = format
    self.reason = reason
  }

  /// Format and reason.
  public var description: String { "\(format): \(reason)" }
}

/// Compresses and decompresses whole runs of bytes. Any thread may call.
public enum Compression {
  /// The bytes that `bytes` stands for.
  /// - Parameters:
  ///   - bytes: one or several members or frames; nothing else may follow.
  ///   - limit: most bytes to produce.
  /// - Throws: `.corrupt`, `.limitExceeded`; `.failed` when the library has no memory.
  /// - Complexity: O(input and output); memory at most about twice the output, at most `limit` rounded up.
  public static func decompress(
    _ bytes: Bytes, format: CompressionFormat, limit: Int
  ) throws(CompressionError) -> Bytes {
    precondition(limit >= 0, "a limit of \(limit) bytes")
    var output = BoundedOutput(format: format, limit: limit)
    try bytes.withBuffer { input throws(CompressionError) in
      switch format {
      case .gzip: try Gzip.decompress(input, into: &output)
      case .snappy: try Snappy.decompress(input, into: &output)
      case .lz4: try LZ4.decompress(input, into: &output)
      case .zstd: try Zstandard.decompress(input, into: &output)
      }
    }
    return output.finish()
  }

  /// `bytes` in the format, as one member or frame, as Kafka's Java clients write it (snappy in xerial's framing).
  /// - Parameter level: as the format counts: gzip 1 to 9, lz4 1 to 12, zstd −131072 to 22, snappy none. Nil is the
  ///   format's usual one.
  /// - Throws: `.unsupportedLevel`; `.failed` when the library refuses.
  public static func compress(
    _ bytes: Bytes, format: CompressionFormat, level: Int? = nil
  ) throws(CompressionError) -> Bytes {
    if let level {
      let levels =
        switch format {
        case .gzip: 1...9
        case .snappy: 0...0
        case .lz4: 1...12
        case .zstd: -131_072...22
        }
      guard levels.contains(level) else {
        throw CompressionError(.unsupportedLevel, format, "level \(level) is not in \(levels)")
      }
    }
    return try bytes.withBuffer { input throws(CompressionError) in
      switch format {
      case .gzip: try Gzip.compress(input, level: level)
      case .snappy: try Snappy.compress(input)
      case .lz4: try LZ4.compress(input, level: level)
      case .zstd: try Zstandard.compress(input, level: level)
      }
    }
  }
}
