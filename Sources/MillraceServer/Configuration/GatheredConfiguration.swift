// GatheredConfiguration: what file, environment and command line say together, and everything that is wrong with it.
//
// Of one setting the command line counts more than the environment, that more than the file, and that more than the standard
// value. What was set while the server ran, by Kafka's clients or over HTTP, counts more than all of them, as in Kafka.

import MillraceBase
import MillraceBroker
import MillraceIO

/// Settings from all that a server is started with.
struct GatheredConfiguration: Sendable {
  private(set) var settings = BrokerSettings()
  /// In the order of the file, the environment and the options, then what does not go together.
  private(set) var problems: [ConfigurationProblem] = []
  /// The configuration file; nil without one.
  let file: String?

  /// Names that Kafka's configuration files hold, and the settings that stand for them here.
  private static let namesInKafka = [
    "log.dirs": "data", "log.dir": "data", "advertised.listeners": "advertise", "port": "kafka", "host.name": "host",
    "ssl.keystore.location": "tls.certificate", "ssl.keystore.certificate.chain": "tls.certificate",
    "ssl.keystore.key": "tls.key", "ssl.truststore.location": "tls.client.ca",
    "ssl.truststore.certificates": "tls.client.ca", "log.retention.hours": "log.retention.ms",
    "log.retention.minutes": "log.retention.ms", "listener.security.protocol.map": "listeners",
  ]

  /// Variables that are no settings.
  private static let otherVariables = [
    "MILLRACE_CONFIG", "MILLRACE_CA", "MILLRACE_USER", "MILLRACE_PASSWORD_FILE", "MILLRACE_CERTIFICATE",
    "MILLRACE_CERTIFICATE_KEY", "MILLRACE_RECORD_IO",
  ]

  /// Reads all of them.
  /// - Parameters:
  ///   - readsFile: whether `--config`, or `MILLRACE_CONFIG`, may name a file.
  ///   - read: the contents of a file of at most so many bytes. It may block.
  init(
    _ arguments: Arguments, environment: [String: String], readsFile: Bool,
    read: (_ path: String, _ limit: Int) throws(IOError) -> [UInt8] = GatheredConfiguration.contents
  ) {
    let variable = environment["MILLRACE_CONFIG"].flatMap { $0.isEmpty ? nil : $0 }
    file = readsFile ? arguments.text("--config") ?? variable : nil
    if let file { take(file: file, read) }
    take(environment)
    take(arguments)
    for contradiction in settings.contradictions { complain(contradiction.names, contradiction.text) }
  }

  /// Adds a problem with settings of these names, at the places where they were given.
  mutating func complain(_ names: [String], _ text: String, isWarning: Bool = false) {
    let places = names.compactMap { settings.values(of: $0).first?.place }.filter { !$0.isEmpty }
    var known: [String] = []
    for place in places where !known.contains(place) { known.append(place) }
    problems.append(
      ConfigurationProblem(place: known.joined(separator: ", "), text: text, isWarning: isWarning))
  }

  private mutating func take(
    file path: String, _ read: (_ path: String, _ limit: Int) throws(IOError) -> [UInt8]
  ) {
    let file: ConfigurationFile
    do throws(IOError) {
      file = ConfigurationFile(try read(path, ConfigurationFile.limit), path: path)
    } catch {
      return problems.append(ConfigurationProblem(place: path, text: "cannot be read: \(error.reason)"))
    }
    problems += file.problems
    for entry in file.entries { set(entry.name, entry.value, .file, file.place(entry.line)) }
    problems.sort { GatheredConfiguration.line($0.place) < GatheredConfiguration.line($1.place) }
  }

  private static func line(_ place: String) -> Int {
    place.lastIndex(of: ":").flatMap { Int(place[place.index(after: $0)...]) } ?? 0
  }

  private mutating func take(_ environment: [String: String]) {
    var known = Set(GatheredConfiguration.otherVariables)
    for setting in BrokerSettings.table {
      let variable = setting.environmentName
      known.insert(variable)
      // Where variables are passed on whether they are set or not, an empty one means that nothing is.
      guard let value = environment[variable], !value.isEmpty else { continue }
      set(setting.name, value, .environment, variable)
    }
    // Others may mean something to others, such as those that Kubernetes makes for a service called millrace; only what looks like
    // a slip of the finger is told.
    let prefix = "MILLRACE_"
    let names = known.sorted().map { String($0.dropFirst(prefix.count)) }
    for variable in environment.keys.sorted() where variable.hasPrefix(prefix) && !known.contains(variable) {
      guard let meant = NearestName.of(String(variable.dropFirst(prefix.count)), among: names) else { continue }
      problems.append(
        ConfigurationProblem(
          place: variable, text: "no setting is called so; is \(prefix)\(meant) meant?", isWarning: true))
    }
  }

  private mutating func take(_ arguments: Arguments) {
    for (name, value) in arguments.assignments("--set") { set(name, value, .commandLine, "--set") }
    for setting in BrokerSettings.table {
      guard let option = setting.option, arguments.has(option) else { continue }
      if arguments.assignments("--set").contains(where: { $0.name == setting.name }) {
        problems.append(ConfigurationProblem(place: option, text: "\(setting.name) is given by --set as well"))
      }
      let value = setting.type == .boolean ? "true" : arguments.list(option).joined(separator: ",")
      set(setting.name, value, .commandLine, option)
    }
    if arguments.has("--no-amqp") {
      if arguments.has("--amqp") {
        problems.append(ConfigurationProblem(place: "", text: "--amqp and --no-amqp exclude each other"))
      }
      set("amqp", "none", .commandLine, "--no-amqp")
    }
  }

  private mutating func set(_ name: String, _ value: String, _ source: BrokerSettings.Source, _ place: String) {
    guard BrokerSettings.setting(name) != nil else {
      return problems.append(ConfigurationProblem(place: place, text: GatheredConfiguration.unknown(name)))
    }
    do throws(BrokerError) {
      try settings.set(name, value, from: source, at: place)
    } catch {
      problems.append(ConfigurationProblem(place: place, text: LogRedaction.printable(error.reason)))
    }
  }

  private static func unknown(_ name: String) -> String {
    let shown = LogRedaction.printable(String(name.prefix(128)))
    if let ours = namesInKafka[name] { return "unknown setting \"\(shown)\"; here \(ours) stands for it" }
    guard let meant = NearestName.of(name, among: BrokerSettings.table.map(\.name)) else {
      return "unknown setting \"\(shown)\""
    }
    return "unknown setting \"\(shown)\"; is \(meant) meant?"
  }

  /// What is wrong so that no server can start.
  var errors: [ConfigurationProblem] { problems.filter { !$0.isWarning } }

  /// A file's bytes.
  static func contents(_ path: String, limit: Int) throws(IOError) -> [UInt8] {
    let bytes = try LinuxFileSystem().readAll(path, limit: limit)
    return bytes.withBuffer { Array($0) }
  }
}
