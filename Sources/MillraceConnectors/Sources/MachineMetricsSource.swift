// MachineMetricsSource: the machine's own figures, live, as the input of a job.
//
// Position: how many readings there were, int64, big endian. It only counts: what was measured cannot be measured
// again.

import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceModel
import MillraceStreams

/// Reads processor, memory, disks and network of the machine at an interval: each figure a record with its name as the
/// key, a ``MachineMetric`` as JSON, and the time of the reading. The first reading of a run is only what the next is
/// compared with.
///
/// Not replayable: readings whose step was not committed when a run ended are lost.
public final class MachineMetricsSource: ReplayableSource {
  private static let textLimit = 1 << 20

  private let interval: Duration
  private let fileSystem: any FileSystem
  private let clock: @Sendable () -> ClockReading
  private let encoder: RecordEncoder<MachineMetric>
  private var readings: Int64 = 0
  private var last: (at: MonotonicTime, counters: MachineCounters)?

  /// - Parameters:
  ///   - interval: between two readings.
  ///   - fileSystem: has `/proc`.
  ///   - clock: tells the time.
  public init(
    every interval: Duration = .seconds(1), in fileSystem: any FileSystem = LinuxFileSystem(),
    clock: @escaping @Sendable () -> ClockReading = { .now }
  ) throws(JobError) {
    self.interval = interval
    self.fileSystem = fileSystem
    self.clock = clock
    encoder = try RecordEncoder(.json)
  }

  /// Goes on counting from a position.
  /// - Throws: `.sourceFailed` when it is none.
  public func restore(_ position: Bytes?) throws(JobError) {
    guard let position else { return }
    var reader = ByteReader(position)
    do throws(DecodingError) {
      readings = try reader.int64()
      guard readings >= 0, reader.remaining == 0 else { throw DecodingError("\(readings) readings", at: 0) }
    } catch {
      throw JobError(.sourceFailed, "a position of the machine's figures: \(error)")
    }
  }

  /// The figures, when the interval is over.
  /// - Throws: `.sourceFailed` when they cannot be read.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    let now = clock()
    var batch: Bytes?
    if last.map({ now.monotonic - $0.at >= interval }) ?? true {
      let counters = MachineCounters(
        stat: try text("/proc/stat"), memory: try text("/proc/meminfo"), disks: try text("/proc/diskstats"),
        network: try text("/proc/net/dev"))
      if let last {
        batch = self.batch(
          counters.metrics(
            since: last.counters, seconds: Double((now.monotonic - last.at).inNanoseconds) / 1e9),
          Timestamp(milliseconds: now.wallNanoseconds / 1_000_000))
        readings &+= 1
      }
      last = (now.monotonic, counters)
    }
    var position = ByteWriter(capacity: 64)
    position.int64(readings)
    return SourceBatch(batch: batch, position: position.finishJoined())
  }

  private func batch(_ metrics: [MachineMetric], _ time: Timestamp) -> Bytes {
    var builder = RecordBatchBuilder()
    for metric in metrics {
      metric.metric.withBytes { key in
        encoder.withText(of: metric) { builder.append(key: key, value: $0, timestamp: time) }
      }
    }
    return builder.finish()
  }

  /// A file of the kernel's, which does not say its size; empty where there is none.
  private func text(_ path: String) throws(JobError) -> String {
    do throws(IOError) {
      let file = try fileSystem.open(path, .read)
      defer { file.close() }
      var text: [UInt8] = []
      let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 64 << 10, alignment: 16)
      defer { memory.deallocate() }
      while text.count < MachineMetricsSource.textLimit {
        let got = try file.read(into: memory, at: Int64(text.count))
        guard got > 0 else { break }
        text += memory[..<got]
      }
      return String(decoding: text, as: UTF8.self)
    } catch {
      if error.code == .notFound || error.code == .accessDenied { return "" }
      throw JobError(.sourceFailed, error.description)
    }
  }
}

extension DataStream where Source == RecordInput {
  /// The machine's processor, memory, disks and network at an interval, as ``MachineMetric`` in JSON; see
  /// ``MachineMetricsSource``.
  public static func machineMetrics(
    named name: String = "machine", every interval: Duration = .seconds(1)
  ) -> DataStream<RecordInput> {
    source(name) { () throws(JobError) in try MachineMetricsSource(every: interval) }
  }
}
