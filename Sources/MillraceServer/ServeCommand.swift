// ServeCommand: `millrace serve` and `millrace demo`: a server in the foreground.

import Glibc
import MillraceIO

extension Command {
  /// `millrace serve`
  static let serve = Command(
    "serve", "serves the data in a directory to Kafka's clients",
    discussion: """
      When it accepts connections it writes one line to standard output: `millrace ready kafka=HOST:PORT pid=N`. Its log \
      goes to standard error. SIGTERM and SIGINT stop it cleanly, a second one stops it at once. The directory is locked \
      against a second server.
      """,
    options: serverOptions
  ) { (arguments) throws(CommandFailure) in
    try starting {
      let server = try ServerProcess(configuration(arguments))
      server.announce()
      return server.run()
    }
  }

  /// `millrace demo`
  static let demo = Command(
    "demo", "serves, and counts the words of text files from topic lines to topic counts",
    discussion: """
      It reads the files once, keeps what it has read with the records, so that a restart neither skips nor repeats a \
      line, and goes on serving when they have ended. On a terminal it shows a live table. It writes the same line as \
      `millrace serve` when it accepts connections, and how to join in with other clients.
      """,
    options: serverOptions + [
      CommandOption(
        "--input", "FILE", count: .list,
        "Files or folders to read (default: /usr/share/common-licenses and the texts under /usr/share/doc)."),
      CommandOption(flag: "--repeat", "Reads the files over and over, at a steady rate."),
    ]
  ) { (arguments) throws(CommandFailure) in
    try starting {
      var demo = DemoConfiguration(server: configuration(arguments))
      demo.repeats = arguments.has("--repeat")
      if arguments.has("--input") { demo.inputs = arguments.list("--input") }
      return try Demo(demo).run()
    }
  }

  private static let serverOptions = [
    CommandOption("--data", "DIR", isRequired: true, "The data directory; made when missing."),
    CommandOption("--host", "ADDRESS", "The loopback address to listen on (default 127.0.0.1 and ::1)."),
    CommandOption("--kafka", "PORT", type: .integer(0...65535), "The port; 0 takes any free one (default 9092)."),
    CommandOption(
      "--advertise", "HOST:PORT", type: .address,
      "What clients are told to connect to (default: the address they have connected to)."),
  ]

  private static func configuration(_ arguments: Arguments) -> ServerConfiguration {
    var configuration = ServerConfiguration(directory: arguments.text("--data") ?? "")
    if let host = arguments.text("--host") { configuration.hosts = [host] }
    if let port = arguments.integer("--kafka") { configuration.kafkaPort = UInt16(port) }
    if let address = arguments.text("--advertise").flatMap({ ServerAddress($0) }) {
      configuration.advertised = SocketAddress(host: address.host, port: address.port)
    }
    configuration.recording = getenv("MILLRACE_RECORD_IO").map { String(cString: $0) }
    return configuration
  }

  /// Runs `body`, turning a server that cannot start into the command's failure.
  private static func starting(_ body: () throws -> Int32) throws(CommandFailure) -> ExitCode {
    do {
      return ExitCode(rawValue: try body()) ?? .failed
    } catch let error as ServerStartError {
      throw CommandFailure(ExitCode(rawValue: error.exitStatus) ?? .failed, error.description)
    } catch {
      throw CommandFailure(.failed, "\(error)")
    }
  }
}
