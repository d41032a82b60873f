// StreamTableJoin: each value of a stream with what a table has for its key when the value comes. The values are not
// kept.
//
// The table is the operator's own: what the table's side brings takes effect value by value, not when the step ends, so
// that what a value finds depends on where it lies in the log and not on how batches were gathered into steps.

import MillraceBase

/// Joins a stream with a table. What is handed on has the time of the stream's value.
public struct StreamTableJoin<Stream: Flow, Source: Flow, Key: StreamKey, Fold: TableFold, Output>: Flow
where Fold.Input == Source.Output {
  /// Makes what is handed on of a value and of what the table has for its key; nil leaves it out.
  public typealias Combine = @Sendable (Stream.Output, Fold.Value?) -> Output?
  @usableFromInline typealias Cell = Boxed<TableCell<Fold.State, Fold.Value>>
  @usableFromInline let stream: Exchange<Stream, Key>
  @usableFromInline let source: Exchange<Source, Key>
  @usableFromInline let streamKey: @Sendable (Stream.Output) -> Key
  @usableFromInline let sourceKey: @Sendable (Source.Output) -> Key
  @usableFromInline let fold: Fold
  @usableFromInline let kind: String
  @usableFromInline let name: String?
  @usableFromInline let combine: Combine
  @usableFromInline let table: KeyedTable

  @usableFromInline
  init(
    _ stream: Exchange<Stream, Key>, _ streamKey: @escaping @Sendable (Stream.Output) -> Key,
    _ source: Exchange<Source, Key>, _ sourceKey: @escaping @Sendable (Source.Output) -> Key, fold: Fold, kind: String,
    name: String?, combine: @escaping Combine, table: KeyedTable
  ) {
    self.stream = stream
    self.source = source
    self.streamKey = streamKey
    self.sourceKey = sourceKey
    self.fold = fold
    self.kind = kind
    self.name = name
    self.combine = combine
    self.table = table
  }

  /// Joins `stream` by its key with `table`, whose state belongs to the join and has the table's name.
  @inlinable
  public init(
    _ stream: Stream, by streamKey: @escaping @Sendable (Stream.Output) -> Key,
    _ table: TableAggregate<Source, Key, Fold>, combine: @escaping Combine
  ) {
    self.init(
      Exchange(stream, by: streamKey), streamKey, table.upstream, table.key, fold: table.fold, kind: table.kind,
      name: table.name, combine: combine, table: KeyedTable(operatorID: 0))
  }

  /// Registers the table.
  @inlinable
  public func bound(to graph: inout JobGraph) throws(JobError) -> Self {
    let stream = try stream.bound(to: &graph)
    let source = try source.bound(to: &graph)
    return Self(
      stream, streamKey, source, sourceKey, fold: fold, kind: kind, name: name, combine: combine,
      table: try graph.addTable(kind: kind, name: name, codec: Cell.codec))
  }

  @inlinable
  func change(_ input: Source.Output, _ time: Timestamp) {
    sourceKey(input).withBytes { key in
      var isGone = false
      table.update(key, initial: Cell(TableCell()).ownedStateBits()) { bits in
        let cell = Cell(stateBits: bits)
        fold.add(input, at: time, to: &cell.content.state)
        isGone = cell.content.state == nil
      }
      if isGone { table.remove(key) }
    }
  }

  @inlinable
  func look(_ input: Stream.Output, _ time: Timestamp, _ body: (Output, Timestamp) -> Void) {
    streamKey(input).withBytes { key in
      let found = table.value(key).flatMap { Cell(stateBits: $0).content.state }.flatMap { fold.value(of: $0) }
      if let output = combine(input, found) { body(output, time) }
    }
  }

  /// Joins each value; of one batch that both sides read, the table's side comes first.
  @inlinable
  public func process(_ run: InputRun, _ body: (Output, Timestamp) -> Void) throws(JobError) {
    try source.process(run) { change($0, $1) }
    try stream.process(run) { look($0, $1, body) }
  }

  /// Joins what event time sets free. Event time is the stream's: what comes to the table late is taken as it comes.
  @inlinable
  public func advance(_ body: (Output, Timestamp) -> Void) -> Timestamp {
    _ = source.advance { change($0, $1) }
    return stream.advance { look($0, $1, body) }
  }

  /// Joins what was held back.
  @inlinable
  public func endStep(_ body: (Output, Timestamp) -> Void) {
    source.endStep { change($0, $1) }
    stream.endStep { look($0, $1, body) }
  }
}
