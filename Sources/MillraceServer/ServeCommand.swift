// ServeCommand: `millrace serve`: a server in the foreground.

import Glibc
import MillraceBase
import MillraceBroker
import MillraceIO

extension Command {
  /// `millrace serve`
  static let serve = Command(
    "serve", "serves a directory's data to clients of Kafka, AMQP 0-9-1 (RabbitMQ) and HTTP",
    discussion: """
      When it accepts connections it writes one line to standard output: `millrace ready kafka=HOST:PORT amqp=HOST:PORT \
      http=HOST:PORT pid=N`, with a word for each listener. Its log goes to standard error. SIGTERM and SIGINT stop it cleanly, a second one stops it at once. The directory is locked \
      against a second server.
      """,
    options: [
      .data,
      CommandOption("--host", "ADDRESS", "The address to listen on (default 127.0.0.1 and ::1)."),
      .kafkaPort,
      CommandOption(
        "--amqp", "PORT", type: .integer(0...65535), "AMQP's port; 0 takes any free one (default 5672)."),
      CommandOption(flag: "--no-amqp", "Does not listen for clients of AMQP."),
      CommandOption(
        "--http", "PORT", type: .integer(0...65535),
        "The port of the HTTP API, metrics and health; 0 takes any free one (default: none)."),
      CommandOption(
        "--listener", "URL", count: .repeated,
        "A listener in place of all of those: kafka, kafka+tls, amqp, amqps, http or https, ://HOST:PORT, and behind a ? what it asks for."
      ),
      CommandOption(
        flag: "--insecure-listener", "Lets listeners be open to other machines without encryption and authentication."),
      CommandOption(
        "--tls-certificate", "FILE", "PEM: the server's certificate, and those between it and its authority."),
      CommandOption("--tls-key", "FILE", "PEM: the certificate's private key."),
      CommandOption("--tls-client-ca", "FILE", "PEM: the authorities that clients' certificates come from."),
      CommandOption("--tls-crl", "FILE", "PEM: lists of clients' certificates that are revoked."),
      .encryptionKey, .advertise, .setting, .logLevel,
    ]
  ) { (arguments) throws(CommandFailure) in
    var configuration = try ServerConfiguration(arguments)
    if let host = arguments.text("--host") { configuration.host = host }
    if arguments.has("--no-amqp"), arguments.has("--amqp") {
      throw CommandFailure(.usage, "--amqp and --no-amqp exclude each other")
    }
    if !arguments.has("--no-amqp") { configuration.amqpPort = UInt16(arguments.integer("--amqp") ?? 5672) }
    if let port = arguments.integer("--http") { configuration.httpPort = UInt16(port) }
    try configuration.takeListeners(arguments)
    let server = try starting { try ServerProcess(configuration) }
    server.announce()
    return server.run()
  }
}

extension CommandOption {
  static let data = CommandOption(
    "--data", "DIR", isRequired: true, "The data directory; made when missing, with the folders above it.")
  static let kafkaPort = CommandOption(
    "--kafka", "PORT", type: .integer(0...65535), "Kafka's port; 0 takes any free one (default 9092).")
  static let advertise = CommandOption(
    "--advertise", "HOST:PORT", type: .address,
    "What clients are told to connect to (default: the address they have connected to).")
  static let setting = CommandOption(
    "--set", "NAME=VALUE", type: .assignment, count: .repeated,
    "A broker setting by Kafka's name, such as num.partitions=3.")
  static let logLevel = CommandOption(
    "--log-level", "LEVEL", "The least important lines to log: debug, info, warning or error (default info).")
}

extension ServerConfiguration {
  /// What the options say of listeners and TLS.
  fileprivate mutating func takeListeners(_ arguments: Arguments) throws(CommandFailure) {
    for text in arguments.list("--listener") {
      do throws(ListenerDefinition.Problem) {
        listeners.append(try ListenerDefinition(text))
      } catch {
        throw CommandFailure(.usage, "--listener: \(error.text)")
      }
    }
    if !listeners.isEmpty,
      let other = ["--host", "--kafka", "--amqp", "--no-amqp", "--http"].first(where: { arguments.has($0) })
    {
      throw CommandFailure(.usage, "--listener and \(other) exclude each other: listeners are those that are named")
    }
    allowsInsecureListeners = arguments.has("--insecure-listener")
    tlsFiles = TLSFiles(
      certificate: arguments.text("--tls-certificate"), key: arguments.text("--tls-key"),
      clientAuthority: arguments.text("--tls-client-ca"), revocations: arguments.text("--tls-crl"))
  }

  /// What the options that all servers share say.
  init(_ arguments: Arguments) throws(CommandFailure) {
    self.init(directory: arguments.text("--data") ?? "")
    if let port = arguments.integer("--kafka") { kafkaPort = UInt16(port) }
    if let address = arguments.text("--advertise").flatMap({ ServerAddress($0) }) {
      advertised = SocketAddress(host: address.host, port: address.port)
    }
    for (name, value) in arguments.assignments("--set") {
      do throws(BrokerError) {
        try settings.set(name, value)
      } catch {
        throw CommandFailure(.usage, "--set: \(error.reason)")
      }
    }
    if let word = arguments.text("--log-level") {
      guard let level = LogLevel.allCases.first(where: { $0.name == word }) else {
        throw CommandFailure(.usage, "--log-level must be debug, info, warning or error, not \"\(word)\"")
      }
      logLevel = level
    }
    encryptionKeyFile = arguments.encryptionKeyFile
    recording = getenv("MILLRACE_RECORD_IO").map { String(cString: $0) }
    usesRing = getenv("MILLRACE_IO_URING").map { String(cString: $0) } != "off"
  }
}

/// Runs `body`; why a server could not start ends the command.
func starting<Value>(_ body: () throws -> Value) throws(CommandFailure) -> Value {
  do {
    return try body()
  } catch let error as ServerStartError {
    throw CommandFailure(error.exitCode, error.description)
  } catch {
    throw CommandFailure(.failed, "\(error)")
  }
}
