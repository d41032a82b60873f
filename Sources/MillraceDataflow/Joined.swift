// Joined: two values that belong together.

import MillraceBase

/// A value of each side of a join.
public struct Joined<Left, Right> {
  /// Of the stream that the join is called on.
  public var left: Left
  /// Of the other one.
  public var right: Right

  /// Both.
  @inlinable
  public init(_ left: Left, _ right: Right) {
    self.left = left
    self.right = right
  }
}

extension Joined: Sendable where Left: Sendable, Right: Sendable {}
extension Joined: Equatable where Left: Equatable, Right: Equatable {}
extension Joined: Hashable where Left: Hashable, Right: Hashable {}

extension Joined: ExchangeValue where Left: ExchangeValue, Right: ExchangeValue {
  /// When one of them needs it.
  public static var needsKeeping: Bool { Left.needsKeeping || Right.needsKeeping }
  /// Keeps both.
  @inlinable
  public func kept(in arena: ExchangeArena) -> Joined { Joined(left.kept(in: arena), right.kept(in: arena)) }
}

extension Joined: StateCodable where Left: StateCodable, Right: StateCodable {
  /// Left, then right.
  public static var stateEncoding: String { "joined<\(Left.stateEncoding),\(Right.stateEncoding)>" }
  /// Writes both.
  public func encode(into writer: inout ByteWriter) {
    left.encode(into: &writer)
    right.encode(into: &writer)
  }
  /// Reads both.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    left = try Left(from: &reader)
    right = try Right(from: &reader)
  }
}
