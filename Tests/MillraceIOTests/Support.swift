// Support: a reactor, handlers and a blocking client for the tests of this target.

import CMillraceSystem
import Dispatch
import Foundation
import MillraceBase
import Synchronization
import Testing

@testable import MillraceIO

extension EpollReactor {
  /// Runs `job` on the reactor and waits for its result.
  func call<Result: Sendable>(_ job: @escaping @Sendable () -> Result) -> Result {
    let done = DispatchSemaphore(value: 0)
    let result = Mutex<Result?>(nil)
    submit {
      let value = job()
      result.withLock { $0 = value }
      done.signal()
    }
    done.wait()
    return result.withLock { $0! }
  }
}

/// Makes a reactor, lets `body` use it while it runs, and stops it.
func withReactor<Result>(
  logger: Logger = .silent, inputLimit: Int = 101 << 20, _ body: (EpollReactor) throws -> Result
) throws -> Result {
  let reactor = try EpollReactor(name: "test", logger: logger, inputLimit: inputLimit)
  try reactor.start()
  defer { reactor.stop() }
  return try body(reactor)
}

/// Counts and waits: what a handler on the reactor's thread tells the test's thread.
final class Ledger: Sendable {
  private let counts = Mutex<[String: Int]>([:])

  func add(_ name: String, _ amount: Int = 1) { counts.withLock { $0[name, default: 0] += amount } }
  func raise(_ name: String, to value: Int) { counts.withLock { $0[name] = max($0[name] ?? 0, value) } }
  subscript(name: String) -> Int { counts.withLock { $0[name] ?? 0 } }

  /// Waits until the count is reached; records an issue after ten seconds.
  func wait(_ name: String, atLeast amount: Int, sourceLocation: SourceLocation = #_sourceLocation) {
    let end = MonotonicTime.now + .seconds(10)
    while self[name] < amount {
      if MonotonicTime.now > end {
        Issue.record("\(name) is \(self[name]), not \(amount), after 10 s", sourceLocation: sourceLocation)
        return
      }
      usleep(200)
    }
  }
}

/// A handler made of closures.
final class ClosureHandler: ConnectionHandler {
  var received: (inout InputBuffer) -> Void = { _ = $0.take($0.count) }
  var drained: () -> Void = {}
  var closed: (IOError?) -> Void = { _ in }
  var peerFinished: () -> Void = {}
  var inputEnded: () -> Bool = { true }
  func connectionPeerFinished() { peerFinished() }
  func connectionInputEnded() -> Bool { inputEnded() }
  func connectionReceived(_ input: inout InputBuffer) { received(&input) }
  func connectionDrained() { drained() }
  func connectionClosed(_ error: IOError?) { closed(error) }
}

extension EpollReactor {
  /// Listens on a free port of 127.0.0.1.
  func serve(_ configure: @escaping @Sendable (any Connection, ClosureHandler) -> Void) -> SocketAddress {
    call { [self] in
      do {
        let listener = try listen(SocketAddress(host: "127.0.0.1", port: 0)) { connection in
          let handler = ClosureHandler()
          configure(connection, handler)
          return handler
        }
        return listener.address
      } catch {
        preconditionFailure("listen: \(error)")
      }
    }
  }
}

/// A blocking socket.
final class Client: @unchecked Sendable {
  // Safety: tests use one thread for sending and one for receiving at most, which the kernel allows.
  let descriptor: Int32

  init(_ address: SocketAddress) throws {
    var native = try address.native(for: "connect")
    descriptor = try IOError.check(mr_connect_blocking(&native, 5000), "connect", address.description)
    mr_set_receive_timeout(descriptor, 10_000)
  }

  func send(_ bytes: [UInt8]) throws {
    try bytes.withUnsafeBytes { buffer in
      var at = 0
      while at < buffer.count {
        var piece = mr_piece(base: buffer.baseAddress! + at, length: buffer.count - at)
        at += try IOError.check(mr_send_pieces(descriptor, &piece, 1), "send", "client")
      }
    }
  }

  /// At most `limit` bytes; empty at the end.
  func receive(_ limit: Int = 64 * 1024) throws -> [UInt8] {
    try [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
      count = try IOError.check(mr_receive(descriptor, buffer.baseAddress, limit), "receive", "client")
    }
  }

  func receiveExactly(_ count: Int) throws -> [UInt8] {
    var out: [UInt8] = []
    while out.count < count {
      let more = try receive(count - out.count)
      if more.isEmpty { break }
      out += more
    }
    return out
  }

  func receiveToEnd() throws -> [UInt8] {
    var out: [UInt8] = []
    while true {
      let more = try receive()
      if more.isEmpty { return out }
      out += more
    }
  }

  func shutdownWrite() { _ = mr_shutdown_write(descriptor) }
  func close() { _ = mr_close(descriptor) }
}

/// A directory that goes away with this object.
final class TemporaryDirectory {
  let path: String
  init() throws {
    path = FileManager.default.temporaryDirectory.appending(path: "millrace-io-\(UUID().uuidString)").path
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { _ = try? FileManager.default.removeItem(atPath: path) }
}
