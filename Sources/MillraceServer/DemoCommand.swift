// DemoCommand: `millrace demo`: the word count on real text, on a server of its own.

extension Command {
  /// `millrace demo`
  static let demo = Command(
    "demo", "counts the words of text files beside the log, live",
    discussion: """
      A server on loopback with a word count from topic `lines` to topic `counts`, fed with text files. Started again on \
      the same data it goes on where it was. It writes the same ready line as `serve`, then the commands to join in, and \
      goes on serving after the input has ended. On a terminal it shows a live table. Ctrl-C stops it cleanly.
      """,
    options: [
      .data, .kafkaPort, .advertise,
      CommandOption(
        "--input", "FILE", count: .list,
        "Files and folders to read (default: the text in /usr/share/common-licenses and /usr/share/doc)."),
      CommandOption(flag: "--repeat", "Read the files over and over, at a steady rate."),
      CommandOption(
        "--rate", "N", type: .integer(1...1_000_000), "Lines a second with --repeat (default 2000)."),
      CommandOption(
        "--workers", "N", type: .integer(1...256), "Threads that count, each its share of the words (default 1)."),
      .setting, .logLevel,
    ]
  ) { (arguments) throws(CommandFailure) in
    var server = try ServerConfiguration.checked(arguments, readsFile: false)
    if !server.settings.isSet("amqp") { server.amqpPort = nil }
    var configuration = DemoConfiguration(server: server)
    if arguments.has("--input") { configuration.inputs = arguments.list("--input") }
    configuration.repeats = arguments.has("--repeat")
    if let rate = arguments.integer("--rate") { configuration.linesPerSecond = Int(rate) }
    if let workers = arguments.integer("--workers") { configuration.workers = Int(workers) }
    let demo = try starting { try Demo(configuration) }
    return demo.run()
  }
}
