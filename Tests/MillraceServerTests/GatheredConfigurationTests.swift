// GatheredConfigurationTests: options, environment and file together: what counts, what is refused, and where it stood.

import MillraceBase
import Millrace
import MillraceIO
import Testing

@testable import MillraceBroker
@testable import MillraceServer

private func arguments(_ words: [String]) throws -> Arguments {
  guard case .run(_, let arguments) = try MillraceCommand.choose(["serve"] + words) else {
    preconditionFailure("no command")
  }
  return arguments
}

private func gathered(
  _ words: [String] = [], _ environment: [String: String] = [:], file: String? = nil
) throws -> GatheredConfiguration {
  let words = file == nil ? words : words + ["--config", "f"]
  return GatheredConfiguration(try arguments(words), environment: environment, readsFile: true) {
    (path, limit) throws(IOError) -> [UInt8] in
    guard let file else { throw IOError(.failed, operation: "read", subject: path, reason: "is not there") }
    return Array(file.utf8)
  }
}

/// The configuration of a server, for which problems do not matter.
private func configuration(
  _ words: [String], _ environment: [String: String] = [:]
) throws -> (ServerConfiguration, [String]) {
  let (configuration, problems) = ServerConfiguration.gather(
    try arguments(words), environment: environment, readsFile: false)
  return (configuration, problems.map(\.description))
}

@Test("the command line counts more than the environment, that more than the file, that more than the standard value")
func sourcesCount() throws {
  let text = "num.partitions=2\nmax.connections=20\ngroup.max.size=200\n"
  let one = try gathered(
    ["--set", "num.partitions=4"], ["MILLRACE_NUM_PARTITIONS": "3", "MILLRACE_MAX_CONNECTIONS": "30"], file: text)
  #expect(one.problems.isEmpty)
  #expect(one.settings.partitions == 4 && one.settings.connections == 30 && one.settings.largestGroup == 200)
  #expect(
    one.settings.values(of: "num.partitions").map { "\($0.source.name) \($0.place) \($0.value)" }
      == ["command-line --set 4", "environment MILLRACE_NUM_PARTITIONS 3", "file f:1 2", "standard  1"])
}

@Test("a value is told without what it would do to a terminal")
func problemsAreText() throws {
  let (_, problems) = try configuration(["--data", "d"], ["MILLRACE_LISTENERS": "kafka://a\tb\u{1b}[2J:1"])
  #expect(problems.contains { $0.contains(#"a\u{9}b\u{1b}[2J"#) })
  #expect(problems.allSatisfy { $0.unicodeScalars.allSatisfy { $0.value >= 32 } })
}

@Test("each option of serve stands for the setting of its name")
func optionsAreSettings() throws {
  for option in Command.serveOptions where !["--config", "--set", "--no-amqp", "--listener"].contains(option.name) {
    let name = String(option.name.dropFirst(2).map { $0 == "-" ? "." : $0 })
    #expect(BrokerSettings.setting(name)?.option == option.name, "\(option.name)")
  }
  #expect(BrokerSettings.setting("listeners")?.option == "--listener")
  for setting in BrokerSettings.table {
    guard let option = setting.option else { continue }
    #expect(Command.serveOptions.contains { $0.name == option }, "\(option)")
  }
}

@Test("an option, a variable and a line of the file make the same server")
func wordsOfAllSources() throws {
  let values = [
    ("data", "d"), ("kafka", "0"), ("amqp", "5"), ("http", "6"), ("host", "127.0.0.1"), ("advertise", "a.b:7"),
    ("tls.key", "k"), ("tls.certificate", "c"), ("tls.client.ca", "a"), ("tls.crl", "r"), ("log.level", "debug"),
    ("log.format", "json"),
  ]
  func check(_ configuration: ServerConfiguration) {
    #expect(configuration.directory == "d" && configuration.kafkaPort == 0 && configuration.amqpPort == 5)
    #expect(configuration.httpPort == 6 && configuration.host == "127.0.0.1")
    #expect(configuration.advertised == SocketAddress(host: "a.b", port: 7))
    #expect(configuration.tlsFiles == TLSFiles(certificate: "c", key: "k", clientAuthority: "a", revocations: "r"))
    #expect(configuration.logLevel == .debug && configuration.logFormat == .json)
  }
  let options = values.flatMap { ["--" + $0.0.split(separator: ".").joined(separator: "-"), $0.1] }
  let (first, none) = try configuration(options)
  check(first)
  #expect(none.isEmpty)
  let variables = values.map { ("MILLRACE_" + $0.0.uppercased().split(separator: ".").joined(separator: "_"), $0.1) }
  check(try configuration([], Dictionary(uniqueKeysWithValues: variables)).0)
  let (usual, problems) = try configuration(["--data", "d"])
  #expect(problems.isEmpty && usual.kafkaPort == 9092 && usual.amqpPort == 5672 && usual.httpPort == nil)
  #expect(usual.host == "localhost" && usual.advertised == nil && usual.usesRing && !usual.allowsInsecureListeners)
  #expect(try configuration(["--data", "d", "--no-amqp"]).0.amqpPort == nil)
  #expect(try configuration(["--data", "d"], ["MILLRACE_IO_URING": "off"]).0.usesRing == false)
}

@Test("an unknown name is refused with the one that was meant, and so is Kafka's name for what has another one here")
func unknownNames() throws {
  let one = try gathered(
    ["--set", "num.partition=hunter2"],
    file: "\n\nlog.retention.mss=hunter2\nlog.dirs=/hunter2\nzookeeper.connect=hunter2\n")
  #expect(
    one.problems.map(\.description) == [
      "f:3: unknown setting \"log.retention.mss\"; is log.retention.ms meant?",
      "f:4: unknown setting \"log.dirs\"; here data stands for it", "f:5: unknown setting \"zookeeper.connect\"",
      "--set: unknown setting \"num.partition\"; is num.partitions meant?",
    ])
}

@Test("a variable that is nearly a setting's is a warning, others are nobody's business, empty ones say nothing")
func variables() throws {
  let one = try gathered(
    [],
    [
      "MILLRACE_NUM_PARTITION": "3", "MILLRACE_SERVICE_HOST": "10.0.0.1", "MILLRACE_PORT_9092_TCP_ADDR": "10.0.0.1",
      "MILLRACE_PORT": "tcp://10.0.0.1:9092", "MILLRACE_SERVICE_PORT": "9092",
      "MILLRACE_MAX_CONNECTIONS": "", "MILLRACE_PASSWORD_FILE": "x", "PATH": "/bin",
    ])
  #expect(
    one.problems == [
      ConfigurationProblem(
        place: "MILLRACE_NUM_PARTITION", text: "no setting is called so; is MILLRACE_NUM_PARTITIONS meant?",
        isWarning: true)
    ])
  #expect(one.errors.isEmpty && !one.settings.isSet("max.connections"))
}

@Test("all problems are told, each with its place")
func allProblems() throws {
  let text = """
    num.partitions=0
    nonsense
    group.consumer.session.timeout.ms=50000
    group.consumer.max.session.timeout.ms=46000
    log.level=loud
    amqp=65536
    num.partitions=7
    """
  let one = try gathered(["--set", "max.connections=many"], ["MILLRACE_LOG_FORMAT": "xml"], file: text)
  #expect(
    one.problems.map(\.description) == [
      "f:1: num.partitions must be between 1 and 10000, not 0", "f:2: NAME=VALUE is expected",
      "f:5: log.level must be one of debug, info, warning, error, not \"loud\"",
      "f:6: amqp must be none or between 0 and 65535, not \"65536\"", "f:7: num.partitions stands in line 1 already",
      "MILLRACE_LOG_FORMAT: log.format must be one of text, json, not \"xml\"",
      "--set: max.connections must be a whole number, not \"many\"",
      "f:3, f:4: group.consumer.session.timeout.ms is 50000, group.consumer.min.session.timeout.ms 45000, "
        + "group.consumer.max.session.timeout.ms 46000",
    ])
}

@Test("a file that cannot be read is an error, and MILLRACE_CONFIG names one, too")
func unreadableFile() throws {
  let one = try gathered([], ["MILLRACE_CONFIG": "g"])
  #expect(one.file == "g" && one.problems.map(\.description) == ["g: cannot be read: is not there"])
  let two = try gathered([], ["MILLRACE_CONFIG": "g"], file: "num.partitions=2\n")
  #expect(two.file == "f" && two.settings.partitions == 2, "the option counts more than the variable")
}

@Test("an option and --set for the same setting contradict each other, and so do --amqp and --no-amqp")
func contradictingOptions() throws {
  #expect(
    try gathered(["--kafka", "1", "--set", "kafka=2"]).problems.map(\.description)
      == ["--kafka: kafka is given by --set as well"])
  #expect(try gathered(["--amqp", "1", "--no-amqp"]).errors.map(\.text) == ["--amqp and --no-amqp exclude each other"])
}

@Test("listeners' URLs are parted at the commas between them, not at those inside")
func urls() {
  let scram = "kafka+tls://0.0.0.0:9093?auth=scram,plain"
  let amqp = "amqps://[::]:5671?auth=plain,certificate&key=/a,b"
  #expect(ServerConfiguration.urls("").isEmpty)
  #expect(ServerConfiguration.urls(scram) == [scram])
  #expect(ServerConfiguration.urls("\(scram),\(amqp)") == [scram, amqp])
  #expect(ServerConfiguration.urls(" \(scram) , \(amqp) ,kafka://127.0.0.1:1") == [scram, amqp, "kafka://127.0.0.1:1"])
  #expect(ServerConfiguration.urls("nonsense,kafka://127.0.0.1:1") == ["nonsense", "kafka://127.0.0.1:1"])
}

@Test("listeners exclude the usual ones, unless those are given in a weaker way")
func listenersExcludeOthers() throws {
  let url = "kafka://127.0.0.1:0"
  let (both, problems) = try configuration(["--data", "d", "--listener", url, "--kafka", "1"])
  #expect(
    problems == ["--listener, --kafka: listeners and kafka exclude each other: listeners are those that are named"])
  #expect(both.definitions.count == 1)
  let weaker = try configuration(["--data", "d", "--listener", url], ["MILLRACE_KAFKA": "1"])
  #expect(weaker.1.isEmpty && weaker.0.definitions.map(\.port) == [0])
  let stronger = try configuration(["--data", "d", "--kafka", "1"], ["MILLRACE_LISTENERS": url])
  #expect(stronger.1.count == 1 && stronger.1[0].hasPrefix("MILLRACE_LISTENERS, --kafka: "))
}

@Test("every listener that is wrong is told, and two on one address are")
func listenersAreChecked() throws {
  let (_, problems) = try configuration([
    "--data", "d", "--listener", "kafka://0.0.0.0:1", "--listener", "amqps://127.0.0.1:2", "--listener",
    "mqtt://127.0.0.1:3", "--listener", "http://127.0.0.1:4", "--listener", "amqp://localhost:4",
  ])
  #expect(problems.count == 4)
  #expect(problems.allSatisfy { $0.hasPrefix("--listener: ") })
  #expect(problems.contains { $0.contains("open to other machines") })
  #expect(problems.contains { $0.contains("needs a certificate") })
  #expect(problems.contains { $0.contains("\"mqtt\"") })
  #expect(problems.contains { $0.contains("two listeners have the address localhost:4") })
  let (_, free) = try configuration([
    "--data", "d", "--listener", "http://127.0.0.1:0", "--listener", "amqp://127.0.0.1:0",
  ])
  #expect(free.isEmpty, "any free port is another one for each")
}

@Test("without a data directory there is no server, and the ways to name one are told")
func dataIsNeeded() throws {
  let (_, problems) = try configuration([])
  #expect(problems.count == 1 && problems[0].contains("--data DIR") && problems[0].contains("MILLRACE_DATA"))
}

@Test("what is printed gives the same settings again")
func printedSettingsAgree() throws {
  let one = try gathered(
    ["--set", "num.partitions=4", "--data", "/d"], ["MILLRACE_MAX_CONNECTIONS": "30"],
    file: "super.users=User:a;User:b\n")
  let text = ConfigurationText.file(one.settings)
  #expect(text.contains("# --set\nnum.partitions=4\n") && text.contains("# f:1\nsuper.users=User:a;User:b\n"))
  #expect(text.contains("# MILLRACE_MAX_CONNECTIONS\nmax.connections=30\n"))
  let again = try gathered([], [:], file: text)
  #expect(again.problems.isEmpty, "\(again.problems)")
  for setting in BrokerSettings.table {
    #expect(again.settings.text(setting.name) == one.settings.text(setting.name), "\(setting.name)")
  }
}

@Test("what check-config prints has no value of a secret, wherever it was given, and its line is a comment")
func secretsAreComments() {
  let setting = Setting("x.password", .string, "standard-secret", isSecret: true, "A secret.")
  let given = BrokerSettings.Given(source: .file, value: "hunter2", place: "millrace.conf:3")
  #expect(ConfigurationText.line(setting, given) == "# millrace.conf:3\n#x.password=(redacted)\n")
  let standard = BrokerSettings.Given(source: .standard, value: "standard-secret", place: "")
  #expect(ConfigurationText.line(setting, standard) == "#x.password=(redacted)\n")
  let plain = Setting("x.y", .string, "", "No secret.")
  #expect(ConfigurationText.line(plain, given) == "# millrace.conf:3\nx.y=hunter2\n")
}
