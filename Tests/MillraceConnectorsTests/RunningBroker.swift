// RunningBroker: a real broker on a reactor thread over files in a temporary directory, for tests.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceCompression
import MillraceIO
import MillraceLog
import MillraceModel

struct TestFailure: Error, CustomStringConvertible {
  let description: String
}

/// A broker with its threads. `close` ends it in order, `crash` in the middle of what it does.
final class RunningBroker: Sendable {
  let reactor: EpollReactor
  let directory: String
  private let writer: ThreadPool
  private let background: ThreadPool
  private let broker: ReactorBound<Broker>

  init(
    _ directory: String, settings: BrokerSettings = BrokerSettings(), log: (inout LogConfiguration) -> Void = { _ in }
  )
    throws
  {
    self.directory = directory
    reactor = try EpollReactor(name: "broker", logger: .silent)
    writer = try ThreadPool(name: "writer", threads: 2)
    background = try ThreadPool(name: "background", threads: 1)
    var configuration = LogConfiguration(directory: directory)
    log(&configuration)
    let opened = try Broker(
      log: configuration, settings: settings, fileSystem: LinuxFileSystem(), reactor: reactor, writer: writer,
      background: background, logger: .silent)
    broker = ReactorBound(opened, on: reactor)
    try reactor.start()
  }

  /// Calls `body` on the reactor and waits for what it answers.
  func ask<Value: Sendable>(_ body: @escaping @Sendable (Broker, @escaping @Sendable (Value) -> Void) -> Void) -> Value
  {
    let answered = DispatchSemaphore(value: 0)
    let box = Box<Value>()
    let broker = broker
    reactor.submit {
      body(broker.take()) { value in
        box.value = value
        answered.signal()
      }
    }
    answered.wait()
    guard let value = box.value else { preconditionFailure("answered without a value") }
    return value
  }

  // Safety: written before the semaphore is signalled, read after it was waited for.
  private final class Box<Value>: @unchecked Sendable {
    var value: Value?
  }

  func get<Value: Sendable>(_ body: @escaping @Sendable (Broker) -> Value) -> Value {
    ask { broker, answer in answer(body(broker)) }
  }

  func createTopic(_ name: String, partitions: Int) throws {
    let error: BrokerError? = ask { broker, answer in
      broker.createTopic(name, partitions: partitions) { result in
        if case .failure(let error) = result { answer(error) } else { answer(nil) }
      }
    }
    if let error { throw error }
  }

  func addPartitions(_ name: String, total: Int) throws {
    let error: BrokerError? = ask { broker, answer in
      guard let topic = broker.topic(name) else { return answer(BrokerError(.unknownTopicOrPartition, name)) }
      broker.addPartitions(to: topic.id, total: total) { result in
        if case .failure(let error) = result { answer(error) } else { answer(nil) }
      }
    }
    if let error { throw error }
  }

  /// Appends one batch of lines and waits until it is durable.
  @discardableResult
  func produce(
    _ topic: String, _ partition: Int32, _ lines: [String], codec: CompressionCodec = .none
  ) throws -> Offset {
    var builder = RecordBatchBuilder()
    for line in lines { builder.append(Record(value: Bytes(line), timestamp: .now)) }
    let batch = try builder.finish(codec: codec) { plain throws(CompressionError) in
      guard let format = CompressionFormat(rawValue: codec.rawValue) else { return plain }
      return try Compression.compress(plain, format: format)
    }
    let result: Result<AppendedBatch, BrokerError> = ask { broker, answer in
      guard let found = broker.topic(topic) else {
        return answer(.failure(BrokerError(.unknownTopicOrPartition, topic)))
      }
      broker.produce(found, partition, records: batch) { answer($0) }
    }
    return try result.get().baseOffset
  }

  /// All durable records of a topic, partition after partition.
  func records(_ topic: String) throws -> [Record] {
    var out: [Record] = []
    let count = get { $0.topic(topic)?.partitions.count ?? 0 }
    for partition in 0..<Int32(count) {
      var offset: Offset = 0
      while true {
        let from = offset
        let result: Result<[Bytes], BrokerError> = ask { broker, answer in
          let log = broker.topic(topic).flatMap { broker.partition($0, partition) }
          broker.fetch(
            [FetchTarget(partition: log, offset: from, limit: 1 << 20)], minimum: 0, limit: 1 << 20, wait: .zero
          ) { results in answer(results[0].error.map { .failure($0) } ?? .success(results[0].batches)) }
        }
        let runs = try result.get()
        if runs.isEmpty { break }
        for run in runs {
          var at = 0
          while at < run.count {
            let header = try RecordBatchHeader(run[at..<run.count])
            out += try Broker.records(of: run[at..<(at + header.totalSize)]).filter { $0.offset >= from }
            at += header.totalSize
            offset = header.nextOffset
          }
        }
      }
    }
    return out
  }

  /// Closes in order.
  func close() throws {
    let error: BrokerError? = ask { broker, answer in broker.close { answer($0) } }
    end()
    if let error { throw error }
  }

  /// Stops the threads where they are: what is not on disk by then is lost, as when the process is killed.
  func crash() { end() }

  private func end() {
    reactor.stop()
    writer.stop()
    background.stop()
  }
}

/// A directory for one test, removed at its end.
func inTemporaryDirectory(_ body: (String) throws -> Void) throws {
  let directory = FileManager.default.temporaryDirectory.appending(path: "millrace-\(UUID().uuidString)").path
  try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
  defer {
    do { try FileManager.default.removeItem(atPath: directory) } catch { print("\(directory) stays: \(error)") }
  }
  try body(directory)
}
