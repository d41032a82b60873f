// ServeCommand: `millrace serve`: a server in the foreground.

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
      Options but `--config` and `--no-amqp` stand for settings: `--tls-key FILE` for `tls.key`, each `--listener` for one of \
      `listeners`. Settings also come from variables of the environment, such as MILLRACE_TLS_KEY, and from the configuration file; \
      the command line counts more than the environment, and that more than the file. SIGHUP makes it read the file and the files of TLS \
      again; without either of them it stops. `millrace check-config` looks for all that is wrong.
      """,
    options: serveOptions
  ) { (arguments) throws(CommandFailure) in
    let configuration = try ServerConfiguration.checked(arguments, readsFile: true)
    let server = try starting { try ServerProcess(configuration) }
    server.announce()
    return server.run()
  }
}

extension Command {
  /// The options of `serve`, each of which but `--config`, `--set` and `--no-amqp` stands for a setting.
  static let serveOptions: [CommandOption] = [
    CommandOption(
      "--config", "FILE", "The configuration file: lines of NAME=VALUE (or MILLRACE_CONFIG; default: none)."),
    CommandOption(
      "--data", "DIR", "The data directory; made when missing, with the folders above it."),
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
    .encryptionKey,
    .advertise, .setting, .logLevel,
    CommandOption("--log-format", "FORMAT", "How lines are logged: text or json (default text)."),
  ]
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
    "A setting by its name, such as num.partitions=3.")
  static let logLevel = CommandOption(
    "--log-level", "LEVEL", "The least important lines to log: debug, info, warning or error (default info).")
}

extension ServerConfiguration {
  /// What the command line, the environment and, where there may be one, the configuration file say.
  /// - Throws: `.usage` with all that is wrong, each with its place.
  static func checked(_ arguments: Arguments, readsFile: Bool) throws(CommandFailure) -> ServerConfiguration {
    var (configuration, problems) = gather(arguments, readsFile: readsFile)
    let errors = problems.filter { !$0.isWarning }
    guard errors.isEmpty else {
      throw CommandFailure(.usage, errors.map(\.description).joined(separator: "\n"))
    }
    configuration.warnings = problems.map(\.description)
    return configuration
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
