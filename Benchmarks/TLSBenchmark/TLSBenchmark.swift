// TLSBenchmark: bytes through a reactor's connections with TLS and without: processor time of the reactor's thread for each GB.

import Glibc
import MillraceBase
import MillraceIO
import Synchronization

/// One way that bytes go, in pieces of one size.
struct Stream {
  enum Direction: String { case toServer = "to the server", fromServer = "from the server" }
  let direction: Direction
  let pieceBytes: Int
}

/// Arguments: MB a stream (default 1024), runs of which the best counts (default 3), the one stream to run (1 to 6; default
/// all).
enum TLSBenchmark {
  static func main() {
    let arguments = CommandLine.arguments
    let bytes = max(1, arguments.count > 1 ? Int(arguments[1]) ?? 1024 : 1024) << 20
    let runs = max(1, arguments.count > 2 ? Int(arguments[2]) ?? 3 : 3)
    do {
      let folder = try Folder()
      defer { folder.remove() }
      let context = try TLSContext(folder.server)
      print(
        "stream, bytes a piece, CPU-seconds of the server per GB without TLS, with TLS, added, OpenSSL alone, GB/s with TLS"
      )
      let only = arguments.count > 3 ? Int(arguments[3]) : nil
      var number = 0
      for direction in [Stream.Direction.toServer, .fromServer] {
        for size in [1024, 16 << 10, 1 << 20] {
          number += 1
          guard only == nil || only == number else { continue }
          let stream = Stream(direction: direction, pieceBytes: size)
          var best: (plain: Double, tls: Double, alone: Double, rate: Double) = (.infinity, .infinity, .infinity, 0)
          for _ in 0..<runs {
            best.plain = min(best.plain, try measure(stream, bytes, nil, folder).processor)
            let (processor, wall) = try measure(stream, bytes, context, folder)
            best.tls = min(best.tls, processor)
            best.rate = max(best.rate, 1 / wall)
            guard direction == .toServer else { continue }
            best.alone = min(best.alone, try folder.openSSLAlone(min(bytes, 256 << 20), size: min(size, 16 << 10)))
          }
          let alone = best.alone.isFinite ? "\(rounded(best.alone))" : "-"
          print(
            "\(direction.rawValue), \(size), \(rounded(best.plain)), \(rounded(best.tls)), "
              + "\(rounded(best.tls - best.plain)), \(alone), \(rounded(best.rate))")
        }
      }
    } catch {
      print("TLSBenchmark: \(error)")
      exit(1)
    }
  }

  private static func rounded(_ value: Double) -> Double { (value * 1000).rounded() / 1000 }

  /// Seconds per 10^9 bytes: of the reactor's thread, and by the clock.
  private static func measure(_ stream: Stream, _ bytes: Int, _ context: TLSContext?, _ folder: Folder) throws
    -> (processor: Double, wall: Double)
  {
    let reactor = try EpollReactor(name: "bench", logger: .silent)
    let server = Server(stream, bytes)
    let listener = try reactor.listen(SocketAddress(host: "127.0.0.1", port: 0), tls: context, logger: .silent) {
      ServerHandler($0, server)
    }
    let address = listener.address
    try reactor.start()
    defer { reactor.stop() }
    let socket = try BlockingSocket(connectingTo: address, timeout: .seconds(30))
    let client: any BlockingStream =
      try context == nil ? socket : TLSClient(over: socket, folder.client, timeout: .seconds(30))
    let begin = MonotonicTime.now
    var left = bytes
    let piece = Chunk(capacity: max(stream.pieceBytes, 256 << 10))
    switch stream.direction {
    case .toServer:
      let bytes = piece.bytes(0..<stream.pieceBytes)
      let pieces = [Bytes](repeating: bytes, count: max(1, (256 << 10) / stream.pieceBytes))
      while left > 0 {
        try client.send(pieces)
        left -= pieces.count * stream.pieceBytes
      }
      // The answer says that all has arrived.
      _ = try client.receive(into: UnsafeMutableRawBufferPointer(start: piece.base, count: 1))
    case .fromServer:
      try client.send([Bytes([1])])
      while left > 0 {
        let got = try client.receive(into: UnsafeMutableRawBufferPointer(start: piece.base, count: 256 << 10))
        if got == 0 {
          throw IOError(.failed, operation: "receive", subject: "server", reason: "ended with \(left) left")
        }
        left -= got
      }
    }
    let wall = Double((MonotonicTime.now - begin).inMilliseconds) / 1000
    // The thread's time since the connection's first input.
    let processor = server.processorSeconds()
    return (processor * 1e9 / Double(bytes), wall * 1e9 / Double(bytes))
  }
}

/// What the handler and the measuring thread share.
///
/// Safety: the stream is constant; the clock is read once the reactor's thread has been named.
final class Server: Sendable {
  let stream: Stream
  let bytes: Int
  private let clock = Mutex<(clockid_t, Double)?>(nil)

  init(_ stream: Stream, _ bytes: Int) {
    self.stream = stream
    self.bytes = bytes
  }

  /// Called on the reactor's thread.
  func begin() {
    var id = clockid_t()
    pthread_getcpuclockid(pthread_self(), &id)
    let now = Server.read(id)
    let thread = id
    clock.withLock { $0 = $0 ?? (thread, now) }
  }

  func processorSeconds() -> Double {
    clock.withLock { $0.map { Server.read($0.0) - $0.1 } ?? 0 }
  }

  private static func read(_ id: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(id, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// Processor seconds of the calling thread.
  static func ownSeconds() -> Double { read(CLOCK_THREAD_CPUTIME_ID) }
}

/// Counts what comes, or sends as much as was asked for.
final class ServerHandler: ConnectionHandler {
  private let connection: any Connection
  private let server: Server
  private var left: Int
  private let chunk: Chunk

  init(_ connection: any Connection, _ server: Server) {
    self.connection = connection
    self.server = server
    left = server.bytes
    chunk = Chunk(capacity: max(4096, server.stream.pieceBytes))
  }

  func connectionReceived(_ input: inout InputBuffer) {
    server.begin()
    let got = input.take(input.count).count
    if server.stream.direction == .fromServer {
      send()
      return
    }
    left -= got
    if left <= 0 { connection.write([Bytes([1])]) }
  }

  func connectionDrained() { send() }
  func connectionClosed(_ error: IOError?) {}

  /// Keeps 4 MiB waiting.
  private func send() {
    guard server.stream.direction == .fromServer else { return }
    let piece = chunk.bytes(0..<server.stream.pieceBytes)
    while left > 0 && connection.pendingWriteBytes < 4 << 20 {
      let count = max(1, (64 << 10) / piece.count)
      connection.write([Bytes](repeating: piece, count: count))
      left -= count * piece.count
    }
  }
}

/// Certificates in a temporary directory.
struct Folder {
  private let path: String

  init() throws {
    var template = Array("/tmp/millrace-tls-XXXXXX".utf8CString)
    guard mkdtemp(&template) != nil else {
      throw IOError(.failed, operation: "make", subject: "/tmp", reason: "no temporary directory")
    }
    path = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    let authority = try CertificateMaker(new: CertificatePlan(.authority, commonName: "Benchmark", days: 1))
    try write("ca", authority.own)
    try write(
      "server", authority.issue(CertificatePlan(.server, commonName: "bench", hosts: ["127.0.0.1"], days: 1)))
  }

  private func write(_ name: String, _ pair: CertificateAndKey) throws {
    for (suffix, bytes) in [("pem", pair.certificate), ("key", pair.key)] {
      let file = try LinuxFileSystem().open("\(path)/\(name).\(suffix)", [.write, .create, .ownerOnly])
      defer { file.close() }
      try bytes.withBuffer { try file.write($0, at: 0) }
    }
  }

  var server: TLSConfiguration {
    TLSConfiguration(certificateFile: "\(path)/server.pem", keyFile: "\(path)/server.key")
  }
  var client: TLSClientConfiguration { TLSClientConfiguration(trust: .authorities(file: "\(path)/ca.pem")) }

  func openSSLAlone(_ bytes: Int, size: Int) throws -> Double {
    try OpenSSLAlone.decrypting(
      bytes, size: size, certificate: "\(path)/server.pem", key: "\(path)/server.key")
  }

  func remove() {
    for name in ["ca.pem", "ca.key", "server.pem", "server.key"] { unlink("\(path)/\(name)") }
    rmdir(path)
  }
}
