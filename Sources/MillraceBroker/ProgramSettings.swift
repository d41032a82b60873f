// ProgramSettings: the settings of the program `millrace serve`: where its data and listeners are, TLS, the log. What most options stand
// for; a broker that is embedded in another program has none of them.
//
// An option's name, without its dashes in front and with dots for those inside, is its setting's: --tls-key, tls.key. But
// each --listener is one of the `listeners`.

extension BrokerSettings {
  private static func program(
    _ name: String, _ type: SettingType, _ standard: String, range: ClosedRange<Int64>? = nil, words: [String] = [],
    dynamic: Bool = false, option: String? = nil, check: @escaping @Sendable (String) -> String? = { _ in nil },
    _ text: String
  ) -> Setting {
    Setting(
      name, type, standard, range: range, words: words, dynamic: dynamic, isOfProgram: true, option: option,
      check: check, text)
  }

  static let programTable: [Setting] = [
    program("data", .string, "", option: "--data", "The data directory; made when missing, with the folders above it."),
    program(
      "host", .string, "localhost", option: "--host",
      "The address to listen on, a numeric one or localhost, which is 127.0.0.1 and ::1."),
    program(
      "kafka", .int, "9092", range: 0...65535, option: "--kafka", "The port of Kafka's protocol; 0 takes any free one."),
    program(
      "amqp", .string, "5672", option: "--amqp", check: portProblem("amqp"),
      "AMQP's port; 0 takes any free one, none does without AMQP."),
    program(
      "http", .string, "none", option: "--http", check: portProblem("http"),
      "The port of the HTTP API, metrics and health; 0 takes any free one, none does without HTTP."),
    program(
      "listeners", .list, "", option: "--listener",
      "Listeners in place of those of host, kafka, amqp and http: URLs as --listener takes them, with commas between them."
    ),
    program(
      "insecure.listener", .boolean, "false", option: "--insecure-listener",
      "Let listeners be open to other machines without encryption and authentication."),
    program(
      "advertise", .string, "", option: "--advertise",
      "HOST:PORT that clients of Kafka's protocol are told to connect to; unless given, the address they have connected to."
    ),
    program(
      "tls.certificate", .string, "", option: "--tls-certificate",
      "PEM file: the server's certificate, and those between it and its authority."),
    program("tls.key", .string, "", option: "--tls-key", "PEM file: the certificate's private key."),
    program(
      "tls.client.ca", .string, "", option: "--tls-client-ca",
      "PEM file: the authorities that clients' certificates come from."),
    program(
      "tls.crl", .string, "", option: "--tls-crl", "PEM file: lists of clients' certificates that are revoked."),
    program(
      "encryption.key", .string, "", option: "--encryption-key",
      "The file with the keys that the data directory is encrypted with; without one it is not encrypted."),
    program(
      "tls.watch.interval.ms", .int, "5000", range: 0...86_400_000, dynamic: true,
      "How often the files of TLS are looked at, in ms; those that have changed, and are the same at the next look, are read again. 0 for never."
    ),
    program(
      "log.level", .string, "info", words: ["debug", "info", "warning", "error"], dynamic: true, option: "--log-level",
      "The least important lines of the program's log."),
    program(
      "log.format", .string, "text", words: ["text", "json"], dynamic: true, option: "--log-format",
      "How lines of the program's log are written: as text, or each as a JSON object."),
    program(
      "io.uring", .string, "auto", words: ["auto", "off"],
      "Whether small durable writes may go through io_uring; auto: where the system has it."),
  ]

  private static func portProblem(_ name: String) -> @Sendable (String) -> String? {
    { value in
      value == "none" || UInt16(value) != nil ? nil : "\(name) must be none or between 0 and 65535, not \"\(value)\""
    }
  }
}
