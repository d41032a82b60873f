// HTTPLimits: how much of a request is read before it is refused.

/// Sizes of a request's parts, in bytes.
public struct HTTPLimits: Sendable, Equatable {
  /// Longest request line, without its end; a longer one is refused with 414.
  public var requestLine = 8 << 10
  /// Most header fields, and most fields of a trailer; more are refused with 431.
  public var fields = 100
  /// Largest head: request line, fields and what ends them; also the largest trailer. A larger one is refused with 431.
  public var head = 64 << 10
  /// Longest line with a chunk's size, extensions included.
  public var chunkLine = 256

  /// 8 KiB, 100 fields, 64 KiB.
  public init() {}
}
