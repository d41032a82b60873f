// ServerProcess: composes file system, reactor, broker and protocol servers into a running program.

import Glibc
import Millrace
import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceSecurity

/// What a server is started with.
public struct ServerConfiguration {
  /// The data directory; made when missing, with the folders above it.
  public var directory: String
  /// The address to listen on: a numeric one, or `localhost`, which is 127.0.0.1 and ::1.
  public var host = "localhost"
  /// Kafka's port; 0 takes any free one.
  public var kafkaPort: UInt16 = 9092
  /// AMQP's port; 0 takes any free one, nil does without AMQP.
  public var amqpPort: UInt16?
  /// HTTP's port; 0 takes any free one, nil does without HTTP.
  public var httpPort: UInt16?
  /// Listeners in place of the ones on this machine alone; empty keeps those.
  public var listeners: [ListenerDefinition] = []
  /// Files of TLS for listeners that name none of their own.
  var tlsFiles = TLSFiles()
  /// Others than this machine may connect without encryption or proof.
  public var allowsInsecureListeners = false
  /// What clients are told to connect to; nil tells each the address it has connected to.
  public var advertised: SocketAddress?
  /// Broker settings by Kafka's names.
  public var settings = BrokerSettings()
  /// Lines below this level are not logged.
  public var logLevel = LogLevel.info
  /// How lines are logged.
  public var logFormat = LogFormat.text
  /// The configuration file, for messages; nil without one.
  var file: String?
  /// Reads the configuration file and all the rest again, as a start now would. It may block.
  typealias Reread = @Sendable () -> (configuration: ServerConfiguration, problems: [ConfigurationProblem])
  /// Nil without a configuration file.
  var reread: Reread?
  /// What is odd about the configuration, to be said in the log.
  var warnings: [String] = []
  /// The file with the keys that the data directory is encrypted with; nil leaves it plain.
  public var encryptionKeyFile: String?
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
  private let listeners: OpenListeners
  private var certificates: CertificateWatch { listeners.certificates }
  private var reload: ConfigurationReload?
  /// The level and format of the log that settings ask for; a level that Kafka's clients set for the logger is no setting.
  private var logSettings: [String?]
  private var isStopping = false
  private var exitCode = ExitCode.done
  /// Called when the server begins to stop, before anything is closed; must call its argument when done.
  public var onStop: (_ done: @escaping () -> Void) -> Void = { $0() }

  /// Opens the data directory and listens; nothing is served before ``run()``.
  public init(_ configuration: ServerConfiguration) throws {
    let logger = Logger(minimum: configuration.logLevel, format: configuration.logFormat)
    self.logger = logger
    for warning in configuration.warnings { logger.log(.warning, "settings", warning) }
    let definitions = try configuration.listenerDefinitions()
    let prepared: PreparedListeners
    do throws(ListenerError) {
      prepared = try PreparedListeners(
        definitions, files: configuration.tlsFiles, settings: configuration.settings, logger: logger)
    } catch {
      throw ServerStartError(error)
    }
    logSettings = ServerProcess.logSettings(configuration.settings)
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
    do throws(KeyFileError) {
      if let file = configuration.encryptionKeyFile { composition.keys = try KeyRing(file: file) }
    } catch {
      throw ServerStartError(description: error.description, exitCode: .failed)
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
    listeners = OpenListeners(parts, logger: logger)
    broker.onFailure = { [unowned self] _ in self.fail() }
    if prepared.asksForPasswords { try makeAdministrator(configuration.directory) }
    do throws(ListenerError) {
      try listeners.open(prepared, advertised: configuration.advertised)
    } catch {
      throw ServerStartError(error)
    }
    kafkaAddress = listeners.address(of: .kafka) ?? kafkaAddress
    amqpAddress = listeners.address(of: .amqp)
    httpAddress = listeners.address(of: .http)
    listenForWorkers(configuration.directory)
    reload = ConfigurationReload(configuration, broker: broker, logger: logger, executor: parts.background)
    broker.onSettingsChange = { [unowned self] in self.settingsChanged() }
    settingsChanged()
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

  /// Says on standard output that the server accepts connections.
  public func announce() {
    let addresses = listeners.bound.map { " \($0.scheme)=\($0.address)" }.joined()
    ServerProcess.print("millrace ready\(addresses) pid=\(getpid())\n")
  }

  /// Makes the first user of a directory whose listeners ask for passwords, and keeps the password in a file that only the
  /// server's user can read. The file comes first: if the user is not durable when the program dies, both are made again.
  private func makeAdministrator(_ directory: String) throws(ServerStartError) {
    guard broker.users.isEmpty else { return }
    let name = "admin"
    let file = "\(directory)/administrator.secret"
    let password = Secret.readable()
    let text = password.withBytes { "\(name):\(String(decoding: $0, as: UTF8.self))\n" }
    do {
      let files = LinuxFileSystem()
      let out = try files.open(file, [.write, .create, .truncate, .ownerOnly])
      defer { out.close() }
      try Bytes(text).withBuffer { try out.write($0, at: 0) }
      try out.flush()
      try files.syncDirectory(directory)
      var credentials: [ScramCredential] = []
      for mechanism in ScramMechanism.allCases {
        credentials.append(try ScramCredential(password: password, mechanism: mechanism))
      }
      try broker.setUser(name, tags: [User.administratorTag], credentials: credentials) { _ in }
    } catch {
      throw ServerStartError(description: "cannot make the first user: \(error)", exitCode: .failed)
    }
    logger.log(
      .info, "security", "the first user was made, who is allowed everything; change the password, and remove the file",
      ["user": name, "file": file])
    // In a terminal somebody reads it once; where output is collected it would lie about.
    if OutputStream.standardOutput.isTerminal { ServerProcess.print("millrace administrator \(text)") }
  }

  /// Runs until a signal or a failed flush; returns what to exit with.
  public func run() -> ExitCode {
    reactor.run()
    parts.stopThreads()
    return exitCode
  }

  private static func logSettings(_ settings: BrokerSettings) -> [String?] {
    [settings.text("log.level"), settings.text("log.format")]
  }

  /// Takes over the settings that are the program's own and can change while it runs.
  private func settingsChanged() {
    let settings = broker.settings
    listeners.take(settings)
    let wanted = ServerProcess.logSettings(settings)
    guard wanted != logSettings else { return }
    logSettings = wanted
    logger.minimum = LogLevel.allCases.first { $0.name == wanted[0] } ?? logger.minimum
    logger.format = LogFormat.allCases.first { $0.name == wanted[1] } ?? logger.format
  }

  private func received(_ signal: Int32) {
    // Without files to read again, a hang-up is what it is for other programs: the terminal is gone.
    if signal == SIGHUP, !certificates.isEmpty || reload != nil {
      guard !isStopping else { return }
      certificates.reload()
      reload?.begin()
      return
    }
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
