// Support: a whole server in this process for the tests of this target, and temporary directories.

import Dispatch
import Foundation
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaServer
import MillraceLog
import Synchronization

@testable import MillraceServer

/// A directory that goes with the value.
final class TemporaryDirectory: Sendable {
  let path: String

  init() throws {
    let url = FileManager.default.temporaryDirectory.appending(path: "millrace-\(UUID().uuidString)")
    try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    path = url.path
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// A broker with a Kafka listener on a reactor of its own.
///
/// Safety: broker and server are touched on the reactor only, once it runs.
final class TestServer: @unchecked Sendable {
  let address: ServerAddress
  let directory: TemporaryDirectory
  private let reactor: EpollReactor
  private let writer: ThreadPool
  private let background: ThreadPool
  private let broker: Broker
  private let kafka: KafkaServer

  init(
    settings: [String: String] = [:], directory: TemporaryDirectory? = nil,
    configure: (inout LogConfiguration) -> Void = { _ in }
  ) throws {
    self.directory = try directory ?? TemporaryDirectory()
    reactor = try EpollReactor(name: "test", logger: .silent)
    writer = try ThreadPool(name: "journal", threads: 2)
    background = try ThreadPool(name: "background", threads: 1)
    var values = BrokerSettings()
    for (name, value) in settings { try values.set(name, value) }
    var log = LogConfiguration(directory: self.directory.path)
    configure(&log)
    broker = try Broker(
      log: log, settings: values, fileSystem: LinuxFileSystem(), reactor: reactor, writer: writer,
      background: background, logger: .silent)
    kafka = KafkaServer(broker: broker, logger: .silent)
    broker.startSampling()
    let bound = try kafka.listen(SocketAddress(host: "127.0.0.1", port: 0))
    address = ServerAddress(host: bound.host, port: bound.port)
    try reactor.start()
  }

  /// A client of this server.
  func client() -> KafkaClient { KafkaClient(address, timeout: .seconds(5)) }

  /// Runs `job` on the reactor and waits for its result.
  func call<Result: Sendable>(_ job: @escaping @Sendable (Broker) -> Result) -> Result {
    let done = DispatchSemaphore(value: 0)
    let result = Mutex<Result?>(nil)
    reactor.submit { [self] in
      let value = job(broker)
      result.withLock { $0 = value }
      done.signal()
    }
    done.wait()
    return result.withLock { $0! }
  }

  /// Closes the log and ends all threads.
  func stop() {
    let done = DispatchSemaphore(value: 0)
    reactor.submit { [self] in
      kafka.stopAccepting()
      broker.close { [self] _ in
        kafka.close()
        done.signal()
      }
    }
    done.wait()
    reactor.stop()
    writer.stop()
    background.stop()
  }
}

/// Runs `body` against a server that is stopped afterwards.
func withServer<Result>(
  settings: [String: String] = [:], _ body: (TestServer) throws -> Result
) throws -> Result {
  let server = try TestServer(settings: settings)
  defer { server.stop() }
  return try body(server)
}
