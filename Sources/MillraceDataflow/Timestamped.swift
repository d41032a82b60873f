// Timestamped: values together with their event times, for operators that keep several of them.

import MillraceBase

/// A value and its event time.
public struct Timestamped<Value> {
  /// The value.
  public var value: Value
  /// Its event time.
  public var time: Timestamp

  /// `value` at `time`.
  @inlinable
  public init(_ value: Value, at time: Timestamp) {
    self.value = value
    self.time = time
  }
}

extension Timestamped: Sendable where Value: Sendable {}
extension Timestamped: Equatable where Value: Equatable {}

extension Timestamped: ExchangeValue where Value: ExchangeValue {
  /// When the value needs it.
  public static var needsKeeping: Bool { Value.needsKeeping }
  /// Keeps the value.
  @inlinable public func kept(in arena: ExchangeArena) -> Timestamped { Timestamped(value.kept(in: arena), at: time) }
}

extension Timestamped: StateCodable where Value: StateCodable {
  /// Time, and the value.
  public static var stateEncoding: String { "timestamped<\(Value.stateEncoding)>/1" }
  /// Writes both.
  public func encode(into writer: inout ByteWriter) {
    writer.int64(time.milliseconds)
    value.encode(into: &writer)
  }
  /// Reads both.
  public init(from reader: inout ByteReader) throws(DecodingError) {
    time = Timestamp(milliseconds: try reader.int64())
    value = try Value(from: &reader)
  }
}

/// Hands each value on together with its event time.
public struct WithTime<Upstream: Flow>: Flow {
  /// The value and its time.
  public typealias Output = Timestamped<Upstream.Output>
  @usableFromInline let upstream: Upstream

  /// The values of `upstream`.
  @inlinable public init(_ upstream: Upstream) { self.upstream = upstream }

  /// Binds what lies before.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try upstream.bound(to: &graph)) }

  /// Hands each value on.
  @inlinable @inline(__always)
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try upstream.process(run) { body(Timestamped($0, at: $1), $1) }
  }

  /// Hands on what event time sets free.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    upstream.advance { body(Timestamped($0, at: $1), $1) }
  }

  /// Hands on what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) { upstream.endStep { body(Timestamped($0, at: $1), $1) } }
}

/// Takes the values alone.
public struct WithoutTimeSink<Value>: RecordSink {
  private let sink: any RecordSink<Value>

  /// Hands the values to `sink`.
  public init(_ sink: any RecordSink<Value>) { self.sink = sink }

  /// Binds the sink.
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self { Self(try sink.bound(to: &graph)) }

  /// Hands the value on.
  public func receive(_ input: Timestamped<Value>, _ time: Timestamp) { sink.receive(input.value, time) }
}
