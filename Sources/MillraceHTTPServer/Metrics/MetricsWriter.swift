// MetricsWriter: lines of Prometheus' text format 0.0.4, written without an allocation for each.
//
//   # HELP name text
//   # TYPE name counter
//   name{label="value",…} 17

import MillraceBase
import MillraceQueueing

/// Writes into memory that is handed on piece by piece.
struct MetricsWriter {
  private var chunk = Chunk(capacity: MetricsWriter.usualCapacity)
  private(set) var count = 0
  private static let usualCapacity = 96 << 10
  /// From this size on a piece is handed on.
  static let pieceSize = 64 << 10

  var isFull: Bool { count >= MetricsWriter.pieceSize }

  /// What was written since the last time.
  mutating func take() -> Bytes {
    let piece = chunk.bytes(0..<count)
    chunk = Chunk(capacity: MetricsWriter.usualCapacity)
    count = 0
    return piece
  }

  private mutating func reserve(_ bytes: Int) {
    guard count + bytes > chunk.capacity else { return }
    let wider = Chunk(capacity: max(2 * chunk.capacity, count + bytes))
    wider.base.copyMemory(from: chunk.base, byteCount: count)
    chunk = wider
  }

  // Safety: every caller reserves the room first; the chunk belongs to this writer alone until `take`.
  private mutating func put(_ buffer: UnsafeRawBufferPointer) {
    guard let base = buffer.baseAddress else { return }
    (chunk.base + count).copyMemory(from: base, byteCount: buffer.count)
    count += buffer.count
  }

  private mutating func put(_ text: StaticString) {
    text.withUTF8Buffer { put(UnsafeRawBufferPointer($0)) }
  }

  private mutating func put(_ byte: UInt8) {
    chunk.base.storeBytes(of: byte, toByteOffset: count, as: UInt8.self)
    count += 1
  }

  private mutating func putText(_ text: String) {
    var text = text
    text.withUTF8 { bytes in
      reserve(bytes.count)
      put(UnsafeRawBufferPointer(bytes))
    }
  }

  private mutating func putNumber(_ value: UInt64) {
    var digits: (UInt64, UInt64, UInt32) = (0, 0, 0)
    withUnsafeMutableBytes(of: &digits) { digits in
      var at = digits.count
      var rest = value
      repeat {
        at -= 1
        digits[at] = UInt8(truncatingIfNeeded: rest % 10) + 0x30
        rest /= 10
      } while rest > 0
      put(UnsafeRawBufferPointer(rebasing: digits[at...]))
    }
  }

  /// What stands above the lines of a metric.
  mutating func head(_ name: StaticString, _ type: StaticString, _ help: StaticString) {
    reserve(2 * name.utf8CodeUnitCount + help.utf8CodeUnitCount + 64)
    put("# HELP ")
    put(name)
    put(0x20)
    put(help)
    put("\n# TYPE ")
    put(name)
    put(0x20)
    put(type)
    put(0x0a)
  }

  private mutating func begin(_ name: StaticString, _ suffix: StaticString, _ labels: UnsafeRawBufferPointer) {
    reserve(name.utf8CodeUnitCount + suffix.utf8CodeUnitCount + labels.count + 64)
    put(name)
    put(suffix)
    put(labels)
    put(0x20)
  }

  /// A line with a whole number.
  /// - Parameter labels: with their braces, as ``MetricsLabels`` makes them; empty for none.
  mutating func line(
    _ name: StaticString, _ suffix: StaticString = "", _ labels: UnsafeRawBufferPointer, _ value: UInt64
  ) {
    begin(name, suffix, labels)
    putNumber(value)
    put(0x0a)
  }

  /// A line with nanoseconds as seconds, exactly.
  mutating func seconds(
    _ name: StaticString, _ suffix: StaticString = "", _ labels: UnsafeRawBufferPointer, nanoseconds: UInt64
  ) {
    begin(name, suffix, labels)
    putNumber(nanoseconds / 1_000_000_000)
    var fraction = nanoseconds % 1_000_000_000
    if fraction > 0 {
      put(UInt8(ascii: "."))
      var digits = 9
      while fraction % 10 == 0 {
        fraction /= 10
        digits -= 1
      }
      var unit: UInt64 = 1
      for _ in 1..<digits { unit *= 10 }
      while unit > 0 {
        put(UInt8(truncatingIfNeeded: fraction / unit % 10) + 0x30)
        unit /= 10
      }
    }
    put(0x0a)
  }

  /// A line with a number of any kind.
  mutating func number(_ name: StaticString, _ value: Double) { number(name, MetricsText.none, value) }

  /// A line with a number of any kind.
  mutating func number(_ name: StaticString, _ labels: UnsafeRawBufferPointer, _ value: Double) {
    begin(name, "", labels)
    putNumber(value)
  }

  private mutating func putNumber(_ value: Double) {
    putText(value.isNaN ? "NaN" : value.isInfinite ? (value > 0 ? "+Inf" : "-Inf") : "\(value)")
    reserve(1)
    put(0x0a)
  }

  /// A metric that has one line.
  mutating func single(_ name: StaticString, _ type: StaticString, _ help: StaticString, _ value: some BinaryInteger) {
    head(name, type, help)
    line(name, "", UnsafeRawBufferPointer(start: nil, count: 0), UInt64(clamping: value))
  }

  /// A metric that has one line with seconds.
  mutating func single(_ name: StaticString, _ type: StaticString, _ help: StaticString, seconds: Duration) {
    head(name, type, help)
    self.seconds(
      name, "", UnsafeRawBufferPointer(start: nil, count: 0), nanoseconds: UInt64(max(0, seconds.inNanoseconds)))
  }

  /// Upper edges of latencies, in nanoseconds, as labels say them.
  static let edges: [(nanoseconds: UInt64, label: StaticString)] = [
    (50_000, "0.00005"), (100_000, "0.0001"), (250_000, "0.00025"), (500_000, "0.0005"), (1_000_000, "0.001"),
    (2_500_000, "0.0025"), (5_000_000, "0.005"), (10_000_000, "0.01"), (25_000_000, "0.025"), (50_000_000, "0.05"),
    (100_000_000, "0.1"), (250_000_000, "0.25"), (500_000_000, "0.5"), (1_000_000_000, "1"), (2_500_000_000, "2.5"),
    (5_000_000_000, "5"), (10_000_000_000, "10"),
  ]

  private mutating func begin(
    _ name: StaticString, _ suffix: StaticString, _ labels: UnsafeRawBufferPointer, and label: StaticString,
    _ value: StaticString
  ) {
    reserve(name.utf8CodeUnitCount + labels.count + value.utf8CodeUnitCount + 64)
    put(name)
    put(suffix)
    if labels.count == 0 {
      put("{")
    } else {
      put(UnsafeRawBufferPointer(rebasing: labels.dropLast()))
      put(",")
    }
    put(label)
    put("=\"")
    put(value)
    put("\"} ")
  }

  /// A line of a histogram: how many values lie at or below `edge`.
  mutating func bucket(
    _ name: StaticString, _ labels: UnsafeRawBufferPointer, _ edge: StaticString, _ count: UInt64
  ) {
    begin(name, "_bucket", labels, and: "le", edge)
    putNumber(count)
    put(0x0a)
  }

  /// A line of a summary.
  mutating func quantile(
    _ name: StaticString, _ labels: UnsafeRawBufferPointer, _ quantile: StaticString, _ value: Double
  ) {
    begin(name, "", labels, and: "quantile", quantile)
    putNumber(value)
  }

  /// Upper edges of `TimeBuckets`, as labels say them.
  static let timeEdges: [StaticString] = [
    "0.001", "0.0025", "0.005", "0.01", "0.025", "0.05", "0.1", "0.25", "0.5", "1", "2.5", "5", "10", "30", "60", "300",
    "1800", "3600", "21600", "86400", "+Inf",
  ]

  /// The lines of a histogram of times, without its head.
  mutating func times(_ name: StaticString, _ labels: UnsafeRawBufferPointer, _ times: TimeBuckets) {
    var seen: UInt64 = 0
    for (edge, held) in zip(MetricsWriter.timeEdges, times.counts) {
      seen += held
      bucket(name, labels, edge, seen)
    }
    seconds(name, "_sum", labels, nanoseconds: times.sumNanoseconds)
    line(name, "_count", labels, seen)
  }

  /// A histogram of nanoseconds as seconds.
  mutating func histogram(_ name: StaticString, _ help: StaticString, _ histogram: Histogram) {
    head(name, "histogram", help)
    let counts = histogram.counts(upTo: MetricsWriter.edges.map(\.nanoseconds))
    let none = UnsafeRawBufferPointer(start: nil, count: 0)
    for (edge, count) in zip(MetricsWriter.edges, counts) { bucket(name, none, edge.label, count) }
    bucket(name, none, "+Inf", histogram.count)
    seconds(name, "_sum", none, nanoseconds: histogram.sum)
    line(name, "_count", none, histogram.count)
  }
}

/// Labels with their braces, escaped.
struct MetricsLabels {
  private(set) var bytes: [UInt8] = []

  init(_ labels: (name: StaticString, value: String)...) {
    guard !labels.isEmpty else { return }
    MetricsLabels.append(labels, to: &bytes)
  }

  /// Writes labels behind others.
  static func append(_ labels: [(name: StaticString, value: String)], to bytes: inout [UInt8]) {
    for (index, label) in labels.enumerated() {
      bytes.append(index == 0 ? UInt8(ascii: "{") : UInt8(ascii: ","))
      label.name.withUTF8Buffer { bytes.append(contentsOf: $0) }
      bytes.append(UInt8(ascii: "="))
      bytes.append(UInt8(ascii: "\""))
      var value = label.value
      value.withUTF8 { text in
        // Most names need no look at single bytes.
        guard text.contains(where: { $0 == 0x5c || $0 == 0x22 || $0 == 0x0a }) else {
          return bytes.append(contentsOf: text)
        }
        for byte in text {
          switch byte {
          case 0x5c, 0x22: bytes += [0x5c, byte]
          case 0x0a: bytes += [0x5c, UInt8(ascii: "n")]
          default: bytes.append(byte)
          }
        }
      }
      bytes.append(UInt8(ascii: "\""))
    }
    bytes.append(UInt8(ascii: "}"))
  }

  func withBytes(_ body: (UnsafeRawBufferPointer) -> Void) { bytes.withUnsafeBytes(body) }
}

/// Labels of very many lines in one run of memory.
struct MetricsLabelList {
  private var bytes: [UInt8] = []
  private var ends: [Int] = []

  var count: Int { ends.count }

  mutating func append(_ labels: [(name: StaticString, value: String)]) {
    MetricsLabels.append(labels, to: &bytes)
    ends.append(bytes.count)
  }

  func withBytes(_ index: Int, _ body: (UnsafeRawBufferPointer) -> Void) {
    bytes.withUnsafeBytes {
      body(UnsafeRawBufferPointer(rebasing: $0[(index == 0 ? 0 : ends[index - 1])..<ends[index]]))
    }
  }
}
