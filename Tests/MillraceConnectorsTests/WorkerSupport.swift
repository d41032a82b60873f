// WorkerSupport: a broker that workers may join, and a peer that says to it what no worker would.

import CMillraceSystem
import Foundation
import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceIO
import MillraceModel
import Testing

@testable import MillraceConnectors

/// A running broker that listens for workers in its directory.
final class WorkerBroker: Sendable {
  let broker: RunningBroker
  let directory: String
  private let server: ReactorBound<WorkerServer>

  init(
    _ directory: String, patience: Duration = .seconds(30), settings: BrokerSettings = BrokerSettings()
  ) throws {
    self.directory = directory
    broker = try RunningBroker(directory, settings: settings)
    let reactor = broker.reactor
    let made: Result<ReactorBound<WorkerServer>, IOError> = broker.get { broker in
      let server = WorkerServer(broker: broker, logger: .silent, patience: patience)
      do throws(IOError) {
        try server.listen(WorkerProtocol.address(directory: directory))
        return .success(ReactorBound(server, on: reactor))
      } catch {
        return .failure(error)
      }
    }
    server = try made.get()
  }

  var connectionCount: Int { broker.get { [server] _ in server.take().connectionCount } }

  /// Waits, at most ten seconds, until so many connections are open.
  func awaitConnections(_ count: Int) -> Bool {
    let deadline = MonotonicTime.now + .seconds(10)
    while connectionCount != count {
      if MonotonicTime.now > deadline { return false }
      usleep(2000)
    }
    return true
  }

  func close() throws {
    broker.get { [server] _ in server.take().stopAccepting() }
    try broker.close()
  }

  func crash() { broker.crash() }
}

/// A peer that sends bytes as they are.
final class RawPeer {
  let socket: BlockingSocket

  init(_ directory: String) throws {
    socket = try BlockingSocket(
      connectingTo: WorkerProtocol.address(directory: directory), timeout: .seconds(10))
  }

  func send(_ number: UInt32, _ request: WorkerRequest) throws {
    try socket.send(WorkerProtocol.frame(number) { request.encode(to: &$0) })
  }

  func greet() throws { try send(1, .hello(version: WorkerProtocol.version, processID: 7)) }

  /// Whether the server ends the connection within ten seconds, whatever it sends before.
  func isEnded() throws -> Bool {
    var room = [UInt8](repeating: 0, count: 4096)
    while try socket.waitReadable(.seconds(10)) {
      let got = try room.withUnsafeMutableBytes { buffer throws(IOError) in try socket.receive(into: buffer) }
      if got == 0 { return true }
    }
    return false
  }
}

/// A batch of one record.
func oneRecord(key: String? = nil, _ value: Bytes) -> Bytes {
  var builder = RecordBatchBuilder()
  builder.append(Record(key: key.map { Bytes($0) }, value: value, timestamp: .now))
  return builder.finish()
}
