// AdminWorld: a broker on a simulated machine that can lose power and start again.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceModel
import MillraceSimulation
import Testing

@testable import MillraceBroker

final class AdminWorld {
  let world = SimulatedWorld(seed: 3)
  private(set) var disk: SimulatedFileSystem
  private let configuration: LogConfiguration
  private(set) var broker: Broker!
  var settings = BrokerSettings()

  init(_ configuration: LogConfiguration = LogConfiguration(directory: "/data")) throws {
    self.configuration = configuration
    disk = SimulatedFileSystem(world: world)
    try open()
  }

  deinit { world.tearDown() }

  private func open() throws {
    broker = try Broker(
      log: configuration, settings: settings, fileSystem: disk,
      reactor: SimulatedReactor(world: world, name: "broker"), writer: SimulatedExecutor(world: world),
      background: SimulatedExecutor(world: world), logger: .silent, seed: 1)
  }

  /// Loses power and starts again on what was durable.
  func restart() throws {
    world.crash()
    world.restart()
    disk = disk.reopen()
    broker = nil
    try open()
  }

  /// Waits for an answer.
  func wait<Value>(_ call: (@escaping (Value) -> Void) -> Void) throws -> Value {
    var answer: Value?
    call { answer = $0 }
    try #require(world.run { answer != nil })
    return try #require(answer)
  }

  @discardableResult
  func createTopic(_ name: String = "t", partitions: Int = 1, configs: [String: String] = [:]) throws -> TopicMetadata {
    try wait { broker.createTopic(name, partitions: partitions, configs: configs, completion: $0) }.get()
  }

  func topic(_ name: String = "t") throws -> TopicMetadata { try #require(broker.topic(name)) }

  /// Sets or deletes (nil) a topic's settings.
  func configure(_ changes: (name: String, change: SettingChange)..., replacing: Bool = false) throws {
    let topic = try topic()
    let checked = try broker.check(changes, of: topic, replacing: replacing)
    let error = try wait { (done: @escaping (BrokerError??) -> Void) in
      broker.configure(topic, checked) { done(.some($0)) }
    }
    if let error = error ?? nil { throw error }
  }

  func configure(_ resource: ConfigResource, _ changes: (name: String, change: SettingChange)...) throws {
    let checked = try broker.check(changes, of: resource)
    let error = try wait { (done: @escaping (BrokerError??) -> Void) in
      broker.configure(resource, checked) { done(.some($0)) }
    }
    if let error = error ?? nil { throw error }
  }

  /// Appends a record; its offset.
  @discardableResult
  func produce(_ size: Int = 10, partition: Int32 = 0) throws -> Offset {
    var builder = RecordBatchBuilder()
    builder.append(
      Record(value: Bytes(Array(repeating: 7, count: size)), timestamp: Timestamp(milliseconds: 1)))
    let batch = builder.finish()
    let topic = try topic()
    return try wait { broker.produce(topic, partition, records: batch, completion: $0) }.get().baseOffset
  }

  func deleteRecords(before offset: Offset?) throws -> Offset {
    let topic = try topic()
    return try wait { broker.deleteRecords(topic, 0, before: offset, completion: $0) }.get()
  }
}

/// The code of the refusal that `body` ends with.
func refusal(_ body: () throws -> Void) -> BrokerError.Code? {
  do {
    try body()
    return nil
  } catch {
    return (error as? BrokerError)?.code
  }
}
