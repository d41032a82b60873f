// DecodeRecords: records as values of a user's struct, in a job.

import MillraceBase
import MillraceDataflow
import Synchronization

/// Counts records that were refused. Any thread may look; what a job reads again after a crash is counted again.
public final class RefusedRecords: Sendable {
  private let counter = Atomic<UInt64>(0)

  /// None yet.
  public init() {}

  /// How many there were.
  public var count: UInt64 { counter.load(ordering: .relaxed) }

  @usableFromInline
  func add() { counter.add(1, ordering: .relaxed) }
}

/// Hands on what a decoder makes of the values of records; what it refuses is counted and dropped.
public struct DecodeRecords<Upstream: Flow, Record: TypedRecord>: Flow where Upstream.Output == InputRecord {
  /// The user's struct.
  public typealias Output = Record
  @usableFromInline let upstream: Upstream
  @usableFromInline let format: TextFormat
  @usableFromInline let refused: RefusedRecords?
  @usableFromInline let decoder: RecordDecoder<Record>?

  /// Reads `format` behind `upstream`.
  @inlinable
  public init(_ upstream: Upstream, _ format: TextFormat, refused: RefusedRecords?) {
    self.init(upstream, format, refused, nil)
  }

  @usableFromInline
  init(_ upstream: Upstream, _ format: TextFormat, _ refused: RefusedRecords?, _ decoder: RecordDecoder<Record>?) {
    self.upstream = upstream
    self.format = format
    self.refused = refused
    self.decoder = decoder
  }

  /// A copy with a decoder of its own.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(try upstream.bound(to: &graph), format, refused, try RecordDecoder(format))
  }

  @inlinable @inline(__always)
  func decode(_ input: InputRecord, _ time: Timestamp, _ body: (Record, Timestamp) -> Void) {
    guard let decoder else { preconditionFailure("the decoder is not bound to a job") }
    do throws(DecodingError) {
      if try decoder.reader.read(
        key: input.keyBuffer, input.valueBuffer, into: UnsafeMutableRawPointer(decoder.place))
      {
        body(decoder.place.pointee, time)
      }
    } catch {
      refused?.add()
    }
  }

  /// Reads each record.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Record, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run) { decode($0, $1, body) }
  }

  /// Reads what event time sets free.
  @inlinable
  public func advance(_ body: (Record, Timestamp) -> Void) -> Timestamp { upstream.advance { decode($0, $1, body) } }

  /// Reads what was held back.
  @inlinable
  public func endStep(_ body: (Record, Timestamp) -> Void) { upstream.endStep { decode($0, $1, body) } }
}

/// Hands on what a decoder makes of the values of records, or why it refuses them.
public struct DecodeResults<Upstream: Flow, Record: TypedRecord>: Flow where Upstream.Output == InputRecord {
  /// The user's struct, or what was wrong, and where.
  public typealias Output = Result<Record, DecodingError>
  @usableFromInline let upstream: Upstream
  @usableFromInline let format: TextFormat
  @usableFromInline let decoder: RecordDecoder<Record>?

  /// Reads `format` behind `upstream`.
  @inlinable
  public init(_ upstream: Upstream, _ format: TextFormat) { self.init(upstream, format, nil) }

  @usableFromInline
  init(_ upstream: Upstream, _ format: TextFormat, _ decoder: RecordDecoder<Record>?) {
    self.upstream = upstream
    self.format = format
    self.decoder = decoder
  }

  /// A copy with a decoder of its own.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    Self(try upstream.bound(to: &graph), format, try RecordDecoder(format))
  }

  @inlinable @inline(__always)
  func decode(_ input: InputRecord, _ time: Timestamp, _ body: (Output, Timestamp) -> Void) {
    guard let decoder else { preconditionFailure("the decoder is not bound to a job") }
    do throws(DecodingError) {
      if let record = try decoder.decode(input.valueBuffer, key: input.keyBuffer) { body(.success(record), time) }
    } catch {
      body(.failure(error), time)
    }
  }

  /// Reads each record.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run) { decode($0, $1, body) }
  }

  /// Reads what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp { upstream.advance { decode($0, $1, body) } }

  /// Reads what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) { upstream.endStep { decode($0, $1, body) } }
}
