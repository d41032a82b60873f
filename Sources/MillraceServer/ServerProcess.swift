// ServerProcess: composes file system, reactor, broker and protocol servers into a running program.

import Glibc
import Millrace
import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceIO
import MillraceLog

/// What a server is started with.
public struct ServerConfiguration {
  /// The data directory; made when missing, with the folders above it.
  public var directory: String
  /// Addresses to listen on: `localhost` or numeric loopback addresses.
  public var hosts = ["127.0.0.1", "::1"]
  /// Kafka's port; 0 takes any free one.
  public var kafkaPort: UInt16 = 9092
  /// AMQP's port; 0 takes any free one, nil does without AMQP.
  public var amqpPort: UInt16?
  /// HTTP's port; 0 takes any free one, nil does without HTTP.
  public var httpPort: UInt16?
  /// What clients are told to connect to; nil tells each the address it has connected to.
  public var advertised: SocketAddress?
  /// Broker settings by Kafka's names.
  public var settings = BrokerSettings()
  /// Lines below this level are not logged.
  public var logLevel = LogLevel.info
  /// Records every write and flush into this file, for tests of power loss.
  public var recording: String?
  /// Whether small durable writes may go through io_uring.
  var usesRing = true

  /// The defaults for a data directory.
  public init(directory: String) {
    self.directory = directory
  }
}

/// Why a server could not start.
public struct ServerStartError: Error, CustomStringConvertible {
  /// In words, with the values.
  public let description: String
  /// What the program should exit with.
  public let exitCode: ExitCode
}

/// A server in this process. Belongs to the thread that made it, which must be the main thread: it runs the reactor.
public final class ServerProcess {
  /// The broker behind the listeners.
  public let broker: Broker
  /// The reactor that owns everything.
  public var reactor: EpollReactor { parts.reactor }
  /// The Kafka listener's address with its real port.
  public private(set) var kafkaAddress = SocketAddress(host: "127.0.0.1", port: 0)
  /// The AMQP listener's address with its real port; nil without one.
  public private(set) var amqpAddress: SocketAddress?
  /// The HTTP listener's address with its real port; nil without one.
  public private(set) var httpAddress: SocketAddress?
  let logger: Logger
  private let parts: BrokerParts
  private let signals: Signals
  private var isStopping = false
  private var exitCode = ExitCode.done
  /// Called when the server begins to stop, before anything is closed; must call its argument when done.
  public var onStop: (_ done: @escaping () -> Void) -> Void = { $0() }

  /// Opens the data directory and listens; nothing is served before ``run()``.
  public init(_ configuration: ServerConfiguration) throws {
    let logger = Logger(minimum: configuration.logLevel)
    self.logger = logger
    let hosts = try ServerProcess.checked(configuration.hosts)
    // Before any thread is started, so that all threads leave the signals to the reactor.
    signals = try Signals()
    var composition = BrokerParts.Configuration(
      log: LogConfiguration(directory: configuration.directory), settings: configuration.settings, logger: logger,
      threadName: "millrace")
    composition.advertised = configuration.advertised
    composition.usesRing = configuration.usesRing
    if let recording = configuration.recording {
      composition.fileSystem = try RecordingFileSystem(
        composition.fileSystem, directory: configuration.directory, recording: recording)
    }
    do throws(BrokerParts.OpenError) {
      parts = try BrokerParts(composition)
    } catch {
      switch error {
      case .system(let error): throw ServerStartError(description: error.description, exitCode: .failed)
      case .data(let error): throw ServerStartError(description: error.reason, exitCode: .data)
      }
    }
    broker = parts.broker.take()
    broker.onFailure = { [unowned self] _ in self.fail() }
    broker.startSampling()
    let kafka = parts.kafka.take()
    kafkaAddress = try listen(hosts, configuration.kafkaPort) { (address) throws(IOError) in
      try kafka.listen(address)
    }
    if let port = configuration.amqpPort {
      let amqp = parts.amqp.take()
      amqpAddress = try listen(hosts, port, hint: "; --amqp takes another port, --no-amqp does without") {
        (address) throws(IOError) in
        try amqp.listen(address)
      }
    }
    if let port = configuration.httpPort {
      let http = parts.http.take()
      httpAddress = try listen(hosts, port, hint: "; --http takes another port") { (address) throws(IOError) in
        try http.listen(address)
      }
    }
    listenForWorkers(configuration.directory)
    _ = try signals.watch(on: reactor) { [unowned self] signal in self.received(signal) }
  }

  /// Lets workers of stream jobs join. A server whose directory can hold no socket serves everybody else.
  private func listenForWorkers(_ directory: String) {
    let address = WorkerProtocol.address(directory: directory)
    do throws(IOError) {
      try parts.workers.take().listen(address)
    } catch {
      logger.log(
        .warning, "server", "no worker of stream jobs can join, because the data directory can hold no socket",
        ["reason": error.description])
    }
  }

  /// Loopback addresses only: without encryption and authentication nothing else is safe to serve.
  private static func checked(_ hosts: [String]) throws(ServerStartError) -> [String] {
    var numeric: [String] = []
    for host in hosts {
      let addresses = BrokerParts.loopback(host)
      guard !addresses.isEmpty else {
        throw ServerStartError(
          description: "\(host) is not a loopback address: without encryption and authentication, which this version "
            + "does not have, only 127.0.0.0/8, ::1 and localhost may be listened on",
          exitCode: .usage)
      }
      numeric += addresses
    }
    return numeric
  }

  /// Listens on one port of all addresses.
  /// - Returns: the first address, with the port that was bound.
  private func listen(
    _ hosts: [String], _ port: UInt16, hint: String = "", _ bind: (SocketAddress) throws(IOError) -> SocketAddress
  ) throws -> SocketAddress {
    var first: SocketAddress?
    for host in hosts {
      do throws(IOError) {
        let address = try bind(SocketAddress(host: host, port: first?.port ?? port))
        if first == nil { first = address }
      } catch {
        // A machine without IPv6 still has the other address.
        guard first != nil else {
          throw ServerStartError(description: "cannot listen: \(error)\(hint)", exitCode: .failed)
        }
        logger.log(.warning, "server", "not listening on this address", ["host": host, "error": error.description])
      }
    }
    return first ?? SocketAddress(host: "127.0.0.1", port: 0)
  }

  /// Says on standard output that the server accepts connections.
  public func announce() {
    let amqp = amqpAddress.map { " amqp=\($0)" } ?? ""
    let http = httpAddress.map { " http=\($0)" } ?? ""
    ServerProcess.print("millrace ready kafka=\(kafkaAddress)\(amqp)\(http) pid=\(getpid())\n")
  }

  /// Runs until a signal or a failed flush; returns what to exit with.
  public func run() -> ExitCode {
    reactor.run()
    parts.stopThreads()
    return exitCode
  }

  private func received(_ signal: Int32) {
    logger.log(.info, "server", isStopping ? "stopping at once" : "stopping", ["signal": "\(signal)"])
    guard !isStopping else { _exit(128 + signal) }
    isStopping = true
    parts.http.take().prepareToClose()
    parts.kafka.take().stopAccepting()
    parts.amqp.take().stopAccepting()
    parts.workers.take().stopAccepting()
    onStop { [self] in
      parts.shutDown { [self] error in
        if let error {
          logger.log(.error, "server", "closing the log failed", ["error": error.description])
          exitCode = .failed
        }
        reactor.stop()
      }
    }
  }

  /// A flush failed: what was not acknowledged may or may not be on disk, and only a restart can tell.
  private func fail() {
    logger.log(
      .error, "server", "stopping at once, because the journal cannot be made durable; what was acknowledged is safe",
      ["exit-code": "\(ExitCode.diskFailed.rawValue)"])
    _exit(ExitCode.diskFailed.rawValue)
  }

  /// Writes to standard output, unbuffered.
  static func print(_ text: String) {
    var text = text
    text.withUTF8 { bytes in
      var rest = UnsafeRawBufferPointer(bytes)[...]
      while !rest.isEmpty {
        let written = write(1, UnsafeRawBufferPointer(rebasing: rest).baseAddress, rest.count)
        guard written > 0 else { return }
        rest = rest.dropFirst(written)
      }
    }
  }
}
