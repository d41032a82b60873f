// JobReport+Encoding: a report's bytes on the socket of workers, since version 2.
//
// Report:   thirteen numbers, quantiles of commits and of records, rates of a second and of ten, list of chains, list of inputs
// Numbers:  uint64; what may be missing has a flag in front, and is there in any case: as 0 when the flag is
// Chain:    list of operators, list of upstreams, keyed, figures in the order of ChainFigures
// Operator: number uint32, kind, name
// Input:    topic or source, partition int32, lag, time lag in ns

import MillraceBase
import MillraceDataflow

extension JobReport {
  func encode(to writer: inout ByteWriter) {
    for value in [
      recordsIn, recordsOut, bytesIn, bytesOut, lateRecords, failedRecords, steps, commits, stateKeys, lag, busy,
      waitedForCommits,
    ] { writer.uint64(value) }
    writer.optional(watermark.map { UInt64(bitPattern: $0) })
    commitLatency.encode(to: &writer)
    latency.encode(to: &writer)
    lastSecond.encode(to: &writer)
    lastTenSeconds.encode(to: &writer)
    writer.list(chains) { writer, figures in figures.encode(to: &writer) }
    writer.list(inputs) { writer, figures in figures.encode(to: &writer) }
  }

  init(from reader: inout ByteReader) throws(DecodingError) {
    recordsIn = try reader.uint64()
    recordsOut = try reader.uint64()
    bytesIn = try reader.uint64()
    bytesOut = try reader.uint64()
    lateRecords = try reader.uint64()
    failedRecords = try reader.uint64()
    steps = try reader.uint64()
    commits = try reader.uint64()
    stateKeys = try reader.uint64()
    lag = try reader.uint64()
    busy = try reader.uint64()
    waitedForCommits = try reader.uint64()
    watermark = try reader.optional().map { Int64(bitPattern: $0) }
    commitLatency = try Quantiles(from: &reader)
    latency = try Quantiles(from: &reader)
    lastSecond = try JobRates(from: &reader)
    lastTenSeconds = try JobRates(from: &reader)
    chains = try reader.list(ofSize: ChainFigures.smallestSize) { (reader) throws(DecodingError) in
      try ChainFigures(from: &reader)
    }
    inputs = try reader.list(ofSize: InputFigures.smallestSize) { (reader) throws(DecodingError) in
      try InputFigures(from: &reader)
    }
  }
}

extension ByteWriter {
  fileprivate mutating func optional(_ value: UInt64?) {
    bool(value != nil)
    uint64(value ?? 0)
  }

  fileprivate mutating func optional(_ value: Int?) { optional(value.map { UInt64(max(0, $0)) }) }

  fileprivate mutating func optional(_ time: Duration?) { optional(time.map { UInt64(max(0, $0.inNanoseconds)) }) }
}

extension ByteReader {
  fileprivate mutating func optional() throws(DecodingError) -> UInt64? {
    let isThere = try flag()
    let value = try uint64()
    return isThere ? value : nil
  }

  /// A number that fits into `Int64`.
  fileprivate mutating func optionalNumber() throws(DecodingError) -> Int64? {
    let at = position
    guard let value = try optional() else { return nil }
    guard let number = Int64(exactly: value) else { throw DecodingError("a number of \(value)", at: at) }
    return number
  }

  /// A rate: neither negative nor infinite.
  fileprivate mutating func rate() throws(DecodingError) -> Double {
    let at = position
    let value = try float64()
    guard value.isFinite, value >= 0 else { throw DecodingError("a rate of \(value)", at: at) }
    return value
  }
}

extension JobReport.Quantiles {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.uint64(p50)
    writer.uint64(p99)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    p50 = try reader.uint64()
    p99 = try reader.uint64()
  }
}

extension JobRates {
  fileprivate func encode(to writer: inout ByteWriter) {
    for value in [recordsIn, recordsOut, bytesIn, steps, commits, busy] { writer.float64(value) }
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    self.init()
    recordsIn = try reader.rate()
    recordsOut = try reader.rate()
    bytesIn = try reader.rate()
    steps = try reader.rate()
    commits = try reader.rate()
    busy = try reader.rate()
  }
}

extension InputPlace {
  fileprivate func encode(to writer: inout ByteWriter) {
    writer.text(input)
    writer.int32(partition)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    self.init(input: try reader.text(), partition: try reader.int32())
  }
}

extension OperatorLabel {
  fileprivate static let smallestSize = 12

  fileprivate func encode(to writer: inout ByteWriter) {
    writer.uint32(UInt32(number))
    writer.text(kind)
    writer.text(name)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    self.init(number: Int(try reader.uint32()), kind: try reader.text(), name: try reader.text())
  }
}

extension ChainFigures {
  fileprivate static let smallestSize = 105

  fileprivate func encode(to writer: inout ByteWriter) {
    writer.list(operators) { $1.encode(to: &$0) }
    writer.list(upstreams) { $0.uint32(UInt32($1)) }
    writer.bool(isKeyed)
    writer.uint64(recordsIn)
    writer.uint64(recordsOut)
    writer.optional(bytesIn)
    writer.optional(bytesOut)
    writer.uint64(lateRecords)
    writer.uint64(failedRecords)
    writer.optional(stateEntries)
    writer.optional(stateBytes)
    writer.optional(busy)
    writer.optional(timedWith)
    writer.optional(watermark.map { UInt64(bitPattern: $0.milliseconds) })
    writer.bool(watermarkHolder != nil)
    watermarkHolder?.encode(to: &writer)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    let at = reader.position
    self.init(
      try reader.list(ofSize: OperatorLabel.smallestSize) { (reader) throws(DecodingError) in
        try OperatorLabel(from: &reader)
      })
    guard !operators.isEmpty else { throw DecodingError("a chain without operators", at: at) }
    upstreams = try reader.list(ofSize: 4) { (reader) throws(DecodingError) in Int(try reader.uint32()) }
    isKeyed = try reader.flag()
    recordsIn = try reader.uint64()
    recordsOut = try reader.uint64()
    bytesIn = try reader.optional()
    bytesOut = try reader.optional()
    lateRecords = try reader.uint64()
    failedRecords = try reader.uint64()
    stateEntries = try reader.optionalNumber().map { Int($0) }
    stateBytes = try reader.optionalNumber().map { Int($0) }
    busy = try reader.optionalNumber().map { .nanoseconds($0) }
    timedWith = try reader.optionalNumber().map { Int($0) }
    watermark = try reader.optional().map { Timestamp(milliseconds: Int64(bitPattern: $0)) }
    watermarkHolder = try reader.flag() ? try InputPlace(from: &reader) : nil
  }
}

extension InputFigures {
  fileprivate static let smallestSize = 26

  fileprivate func encode(to writer: inout ByteWriter) {
    place.encode(to: &writer)
    writer.optional(lag.map { UInt64(max(0, $0)) })
    writer.optional(timeLag)
  }

  fileprivate init(from reader: inout ByteReader) throws(DecodingError) {
    self.init(place: try InputPlace(from: &reader))
    lag = try reader.optionalNumber()
    timeLag = try reader.optionalNumber().map { .nanoseconds($0) }
  }
}
