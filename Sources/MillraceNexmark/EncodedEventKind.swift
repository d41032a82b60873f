// EncodedEventKind: events of one kind, or of all, as a job reads them.

import MillraceBase
import MillraceDataflow
import MillraceModel

/// An event that is read in place: one of a kind, or any.
public protocol EncodedEventKind: ExchangeValue {
  /// The event that `buffer` holds, and nothing else; nil when it is of another kind.
  /// - Throws: when it holds another version or an unknown kind, or more or fewer bytes than its lengths say.
  /// - Complexity: O(1).
  static func read(_ buffer: UnsafeRawBufferPointer) throws(DecodingError) -> Self?

  /// The memory that it was read from: its encoding.
  var encoded: UnsafeRawBufferPointer { get }
}

extension EncodedEventKind {
  /// It lies in its batch, which stays until the step ends.
  public static var needsKeeping: Bool { false }
}

extension EncodedEvent: EncodedEventKind {
  /// Any event.
  @inlinable @inline(__always)
  public static func read(_ buffer: UnsafeRawBufferPointer) throws(DecodingError) -> EncodedEvent? {
    try EncodedEvent(buffer)
  }

  /// Its encoding.
  @inlinable public var encoded: UnsafeRawBufferPointer {
    switch self {
    case .person(let person): person.buffer
    case .auction(let auction): auction.buffer
    case .bid(let bid): bid.buffer
    }
  }
}

extension EncodedBid: EncodedEventKind {
  /// A bid.
  @inlinable @inline(__always)
  public static func read(_ buffer: UnsafeRawBufferPointer) throws(DecodingError) -> EncodedBid? {
    try EventLayout.isOf(EventLayout.bid, buffer) ? EncodedBid(checking: buffer) : nil
  }

  /// Its encoding.
  @inlinable public var encoded: UnsafeRawBufferPointer { buffer }
}

extension EncodedAuction: EncodedEventKind {
  /// An auction.
  @inlinable @inline(__always)
  public static func read(_ buffer: UnsafeRawBufferPointer) throws(DecodingError) -> EncodedAuction? {
    try EventLayout.isOf(EventLayout.auction, buffer) ? EncodedAuction(checking: buffer) : nil
  }

  /// Its encoding.
  @inlinable public var encoded: UnsafeRawBufferPointer { buffer }
}

extension EncodedPerson: EncodedEventKind {
  /// A person.
  @inlinable @inline(__always)
  public static func read(_ buffer: UnsafeRawBufferPointer) throws(DecodingError) -> EncodedPerson? {
    try EventLayout.isOf(EventLayout.person, buffer) ? EncodedPerson(checking: buffer) : nil
  }

  /// Its encoding.
  @inlinable public var encoded: UnsafeRawBufferPointer { buffer }
}

extension EventLayout {
  /// Whether an event is of the kind with this tag.
  @inlinable @inline(__always)
  static func isOf(_ tag: UInt8, _ buffer: UnsafeRawBufferPointer) throws(DecodingError) -> Bool {
    guard let first = buffer.first else { throw DecodingError("no event in 0 bytes", at: 0) }
    if first == tag { return true }
    guard first >= person, first <= bid else {
      throw DecodingError("version \(first >> 4) and kind \(first & 15) of an event are unknown", at: 0)
    }
    return false
  }
}

/// Hands on the events of one kind that an input's records hold as their values, read in place.
public struct ReadEvents<Event: EncodedEventKind>: Flow {
  /// An event; valid inside the call that receives it.
  public typealias Output = Event
  @usableFromInline let upstream: RecordInput

  /// Of the records of `upstream`.
  @inlinable
  public init(_ upstream: RecordInput) { self.upstream = upstream }

  /// Registers the input.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try upstream.bound(to: &graph)) }

  /// Reads each record.
  /// - Throws: `.corruptInput` when a record holds no event.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Event, Timestamp) -> Void) throws(JobError) {
    var failure: (error: DecodingError, offset: Offset)?
    try upstream.process(run) { record, time in
      do throws(DecodingError) {
        if let event = try Event.read(record.valueBuffer) { body(event, time) }
      } catch {
        failure = failure ?? (error, record.offset)
      }
    }
    if let failure {
      throw JobError(.corruptInput, "the record at offset \(failure.offset) is no event: \(failure.error)")
    }
  }

  /// Holds nothing back.
  @inlinable
  public func advance(_ body: (Event, Timestamp) -> Void) -> Timestamp { upstream.advance { _, _ in } }

  /// Holds nothing back.
  @inlinable
  public func endStep(_ body: (Event, Timestamp) -> Void) {}
}
