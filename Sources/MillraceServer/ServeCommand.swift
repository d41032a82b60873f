// ServeCommand: `millrace serve`: a server in the foreground.

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
    options: [
      CommandOption("--data", "DIR", isRequired: true, "The data directory; made when missing."),
      CommandOption("--host", "ADDRESS", "The loopback address to listen on (default 127.0.0.1 and ::1)."),
      CommandOption("--kafka", "PORT", type: .integer(0...65535), "The port; 0 takes any free one (default 9092)."),
      CommandOption(
        "--advertise", "HOST:PORT", type: .address,
        "What clients are told to connect to (default: the address they have connected to)."),
    ]
  ) { (arguments) throws(CommandFailure) in
    var configuration = ServerConfiguration(directory: arguments.text("--data") ?? "")
    if let host = arguments.text("--host") { configuration.hosts = [host] }
    if let port = arguments.integer("--kafka") { configuration.kafkaPort = UInt16(port) }
    if let address = arguments.text("--advertise").flatMap({ ServerAddress($0) }) {
      configuration.advertised = SocketAddress(host: address.host, port: address.port)
    }
    configuration.recording = getenv("MILLRACE_RECORD_IO").map { String(cString: $0) }
    let server: ServerProcess
    do {
      server = try ServerProcess(configuration)
    } catch let error as ServerStartError {
      throw CommandFailure(ExitCode(rawValue: error.exitStatus) ?? .failed, error.description)
    } catch {
      throw CommandFailure(.failed, "\(error)")
    }
    server.announce()
    return ExitCode(rawValue: server.run()) ?? .failed
  }
}
