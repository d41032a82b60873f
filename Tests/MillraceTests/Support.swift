// Support: directories that last as long as a test, and a plain socket.

import Foundation
import Millrace
import Testing

/// A directory for one test, removed at its end.
func inTemporaryDirectory(_ body: (String) async throws -> Void) async throws {
  let directory = FileManager.default.temporaryDirectory.appending(path: "millrace-\(UUID().uuidString)").path
  defer {
    do { try FileManager.default.removeItem(atPath: directory) } catch { print("\(directory) stays: \(error)") }
  }
  try await body(directory)
}

/// A broker for one test, closed at its end.
func withBroker(
  settings: [String: String] = [:], _ body: (EmbeddedBroker) async throws -> Void
) async throws {
  try await inTemporaryDirectory { directory in
    var configuration = EmbeddedBroker.Configuration()
    configuration.settings = settings
    let broker = try await EmbeddedBroker.open(directory: directory, configuration: configuration)
    try await body(broker)
    try await broker.close()
  }
}

func record(_ value: String, key: String? = nil) -> Record {
  Record(key: key.map { Bytes($0) }, value: Bytes(value))
}

/// All values of a topic that are there now, in the order of a consumer.
func values(_ broker: EmbeddedBroker, _ topic: String, group: String? = nil) async throws -> [String] {
  var out: [String] = []
  for try await record in broker.consume(topic, group: group, until: .currentEnd) { out.append(record.text) }
  return out
}

/// Expects an error with this code.
func expectError(
  _ code: MillraceError.Code, sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Void
) async {
  do {
    try await body()
    Issue.record("no error, \(code) was expected", sourceLocation: sourceLocation)
  } catch {
    #expect((error as? MillraceError)?.code == code, "\(error)", sourceLocation: sourceLocation)
  }
}

/// A blocking connection to a port of this machine.
struct PlainSocket {
  private let descriptor: Int32

  init(port: UInt16) throws {
    descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = inet_addr("127.0.0.1")
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
      }
    }
    try #require(result == 0, "connect: error \(errno)")
  }

  /// Sends a frame and returns the answer's body.
  func call(_ body: [UInt8]) throws -> [UInt8] {
    let frame = bigEndian(Int32(body.count)) + body
    try #require(send(descriptor, frame, frame.count, 0) == frame.count)
    let length = try receive(4).reduce(0) { $0 << 8 | Int($1) }
    return try receive(length)
  }

  /// Sends bytes and returns the first `count` bytes of the answer.
  func exchange(_ bytes: [UInt8], for count: Int) throws -> [UInt8] {
    try #require(send(descriptor, bytes, bytes.count, 0) == bytes.count)
    return try receive(count)
  }

  private func receive(_ count: Int) throws -> [UInt8] {
    var out: [UInt8] = []
    while out.count < count {
      var part = [UInt8](repeating: 0, count: count - out.count)
      let got = recv(descriptor, &part, part.count, 0)
      try #require(got > 0, "the connection ended after \(out.count) of \(count) bytes")
      out += part[..<got]
    }
    return out
  }

  func close() { _ = Foundation.close(descriptor) }
}

func bigEndian<Number: FixedWidthInteger>(_ number: Number) -> [UInt8] {
  withUnsafeBytes(of: number.bigEndian) { Array($0) }
}
