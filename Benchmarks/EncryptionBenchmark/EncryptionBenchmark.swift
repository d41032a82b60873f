// EncryptionBenchmark: records through the log of a data directory, encrypted and not: processor time of the process for each GB.

import Glibc
import MillraceBase
import MillraceIO
import MillraceLog
import MillraceModel

/// Keeps no state but one partition.
private final class OnePartition: LogStateMachine {
  func restore(_ snapshot: Bytes, log: LogStore) throws(LogError) {}
  func apply(_ event: Bytes, log: LogStore) throws(LogError) { log.createPartition(PartitionLogID(1)) }
  func skipNumbers(usedLeaderEpoch: Int32, usedProducerID: Int64, lostCommits: Int) {}
  func snapshot() -> Bytes { Bytes() }
}

/// What one run has taken.
private struct Taken {
  /// Processor seconds per 10^9 bytes of batches: of all threads, and of the reactor's alone.
  var processor = Double.infinity
  var reactor = Double.infinity

  mutating func best(_ other: Taken) {
    processor = min(processor, other.processor)
    reactor = min(reactor, other.reactor)
  }
}

/// Arguments: MB a run (default 1024), runs of which the best counts (default 3), where the directories are (default .).
///
/// Batches are appended at 150 MB a second, and drained into segments; the clock stops when all is durable and the log closed. Then the topic is read once from its start.
enum EncryptionBenchmark {
  static func main() {
    let arguments = CommandLine.arguments
    let bytes = max(1, arguments.count > 1 ? Int(arguments[1]) ?? 1024 : 1024) << 20
    let runs = max(1, arguments.count > 2 ? Int(arguments[2]) ?? 3 : 3)
    let folder = arguments.count > 3 ? arguments[3] : "."
    do {
      print(
        "batches of, CPU-seconds per GB plain, encrypted, added; of which on the reactor; read: added"
      )
      for size in [1 << 10, 16 << 10, 256 << 10] {
        var plain = (written: Taken(), read: Taken())
        var encrypted = plain
        for _ in 0..<runs {
          let first = try run(bytes, batch: size, in: folder, keys: nil)
          let second = try run(bytes, batch: size, in: folder, keys: KeyRing(.random()))
          plain.written.best(first.written)
          plain.read.best(first.read)
          encrypted.written.best(second.written)
          encrypted.read.best(second.read)
        }
        print(
          "\(size), \(rounded(plain.written.processor)), \(rounded(encrypted.written.processor)), "
            + "\(rounded(encrypted.written.processor - plain.written.processor)), "
            + "\(rounded(encrypted.written.reactor - plain.written.reactor)), "
            + "\(rounded(encrypted.read.processor - plain.read.processor))")
      }
    } catch {
      print("EncryptionBenchmark: \(error)")
      exit(1)
    }
  }

  private static func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }

  private static func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// A batch of records of 1 KB that do not compress, as a producer makes it.
  private static func batch(_ size: Int) -> Bytes {
    var random = SeededRandom(seed: UInt64(size))
    var builder = RecordBatchBuilder()
    for _ in 0..<max(1, size >> 10) {
      let value = (0..<(1 << 10)).map { _ in UInt8.random(in: 0...255, using: &random) }
      builder.append(Record(value: Bytes(value), timestamp: Timestamp(milliseconds: 1)))
    }
    return builder.finish(compress: { $0 })
  }

  /// What producers send: so much that drains keep up, and take what they write from memory, as on a server that is not at its limit.
  private static let bytesPerSecond = 150 << 20
  /// Bytes that are appended before anything is measured: more than the journal's files hold.
  private static let warmUp = 640 << 20

  private static func run(
    _ total: Int, batch size: Int, in folder: String, keys: KeyRing?
  ) throws -> (written: Taken, read: Taken) {
    let directory = "\(folder)/encryption-benchmark-\(getpid())"
    let disk = LinuxFileSystem()
    defer { remove(directory, disk) }
    let written = try withLog(directory, disk, keys) { log, reactor in
      let batch = batch(size)
      let header = try RecordBatchHeader.checked(batch)
      let measured = max(1, total / batch.count)
      // The journal's files are made first: that happens once in a directory's life.
      var left = measured + warmUp / batch.count
      var inFlight = 0
      log.append(AppendUnit(event: Bytes("partition"))) { _ in }
      var started = (0.0, 0.0)
      var taken = Taken()
      func ended(_ result: Result<[AppendedBatch], LogError>) {
        if case .failure(let error) = result { fatalError("\(error)") }
        inFlight -= 1
        guard inFlight == 0, left == 0 else { return }
        log.close { error in
          if let error { fatalError("\(error)") }
          let gigabytes = Double(measured * batch.count) / 1e9
          taken.processor = (seconds(CLOCK_PROCESS_CPUTIME_ID) - started.0) / gigabytes
          taken.reactor = (seconds(CLOCK_THREAD_CPUTIME_ID) - started.1) / gigabytes
          reactor.stop()
        }
      }
      let begin = seconds(CLOCK_MONOTONIC)
      var sent = 0
      func fill() {
        guard let partition = log.partition(PartitionLogID(1)) else { return }
        let due = Int((seconds(CLOCK_MONOTONIC) - begin) * Double(bytesPerSecond)) / batch.count
        // As many bytes in flight as a few clients keep there.
        while left > 0, sent < due, inFlight < max(4, (8 << 20) / size) {
          if left == measured {
            started = (seconds(CLOCK_PROCESS_CPUTIME_ID), seconds(CLOCK_THREAD_CPUTIME_ID))
          }
          left -= 1
          sent += 1
          inFlight += 1
          log.append(AppendUnit(partition, batch, header), completion: ended)
        }
        if left > 0 { reactor.schedule(after: .milliseconds(2)) { fill() } }
      }
      reactor.schedule(after: .zero) { fill() }
      reactor.run()
      return taken
    }
    let read = try withLog(directory, disk, keys) { log, reactor in
      guard let partition = log.partition(PartitionLogID(1)) else { fatalError("the partition is not there") }
      var next = partition.startOffset
      var bytes = 0
      var taken = Taken()
      let started = seconds(CLOCK_PROCESS_CPUTIME_ID)
      func step() {
        log.read(partition, from: next, limit: 1 << 20) { result in
          guard case .success(let runs) = result else { fatalError("a read failed") }
          for run in runs {
            bytes += run.count
            var at = 0
            while at < run.count, let header = try? RecordBatchHeader(run[at..<run.count]) {
              next = header.nextOffset
              at += header.totalSize
            }
          }
          guard next < partition.highWatermark else {
            taken.processor = (seconds(CLOCK_PROCESS_CPUTIME_ID) - started) / Double(bytes) * 1e9
            return log.close { _ in reactor.stop() }
          }
          reactor.submitLocally(step)
        }
      }
      reactor.schedule(after: .zero) { step() }
      reactor.run()
      return taken
    }
    return (written, read)
  }

  /// Opens the log on this thread's reactor; `body` runs the reactor.
  private static func withLog(
    _ directory: String, _ disk: LinuxFileSystem, _ keys: KeyRing?, _ body: (LogStore, EpollReactor) throws -> Taken
  ) throws -> Taken {
    let reactor = try EpollReactor(name: "bench", logger: .silent)
    let writer = try ThreadPool(name: "bench-journal", threads: 2)
    let background = try ThreadPool(name: "bench-back", threads: 3)
    defer {
      writer.stop()
      background.stop()
    }
    var random = SystemRandomNumberGenerator()
    let log = try LogStore(
      configuration: LogConfiguration(directory: directory),
      fileSystem: try DirectoryEncryption.fileSystem(for: directory, keys: keys, in: disk), reactor: reactor,
      writer: writer, background: background, stateMachine: OnePartition(), logger: .silent, random: &random)
    return try body(log, reactor)
  }

  private static func remove(_ directory: String, _ disk: LinuxFileSystem) {
    for folder in ["journal", "segments", "scratch", ""] {
      let path = folder.isEmpty ? directory : "\(directory)/\(folder)"
      for name in (try? disk.list(path)) ?? [] { try? disk.remove("\(path)/\(name)") }
      rmdir(path)
    }
  }
}

extension EpollReactor {
  /// Runs `job` in a later turn of this thread.
  fileprivate func submitLocally(_ job: @escaping () -> Void) { schedule(after: .zero) { job() } }
}
