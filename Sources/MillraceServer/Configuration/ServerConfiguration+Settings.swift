// ServerConfiguration+Settings: from settings to what a server is composed of.

import Glibc
import Millrace
import MillraceBase
import MillraceBroker
import MillraceIO

extension ServerConfiguration {
  /// What command line, environment and file say, and all that is wrong with it.
  ///
  /// The configuration holds what could be understood; a server may be started with it only when no problem is an error. May
  /// block. What is gathered anew when the file is to be read again is the same, with the file as it is then.
  static func gather(
    _ arguments: Arguments, environment: [String: String] = ServerConfiguration.environment(), readsFile: Bool,
    read: (_ path: String, _ limit: Int) throws(IOError) -> [UInt8] = GatheredConfiguration.contents
  ) -> (configuration: ServerConfiguration, problems: [ConfigurationProblem]) {
    var gathered = GatheredConfiguration(arguments, environment: environment, readsFile: readsFile, read: read)
    var configuration = ServerConfiguration(&gathered)
    configuration.file = gathered.file
    if gathered.file != nil {
      configuration.reread = {
        gather(arguments, environment: environment, readsFile: readsFile)
      }
    }
    return (configuration, gathered.problems)
  }

  /// Takes the program's settings apart, and adds what is wrong with them.
  private init(_ gathered: inout GatheredConfiguration) {
    let settings = gathered.settings
    func text(_ name: String) -> String? { settings.text(name).flatMap { $0.isEmpty ? nil : $0 } }
    self.init(directory: text("data") ?? "")
    self.settings = settings
    if directory.isEmpty {
      gathered.complain(["data"], "the data directory is missing: --data DIR, data=DIR in the file, or MILLRACE_DATA")
    }
    host = text("host") ?? host
    kafkaPort = text("kafka").flatMap { UInt16($0) } ?? kafkaPort
    amqpPort = text("amqp").flatMap { UInt16($0) }
    httpPort = text("http").flatMap { UInt16($0) }
    if let address = text("advertise") {
      advertised = SocketAddress(hostAndPort: address)
      if advertised == nil {
        gathered.complain(["advertise"], "advertise must be HOST:PORT, not \"\(address)\"")
      }
    }
    allowsInsecureListeners = text("insecure.listener") == "true"
    tlsFiles = TLSFiles(
      certificate: text("tls.certificate"), key: text("tls.key"), clientAuthority: text("tls.client.ca"),
      revocations: text("tls.crl"))
    encryptionKeyFile = text("encryption.key")
    logLevel = LogLevel.allCases.first { $0.name == text("log.level") } ?? .info
    logFormat = LogFormat.allCases.first { $0.name == text("log.format") } ?? .text
    usesRing = text("io.uring") != "off"
    recording = getenv("MILLRACE_RECORD_IO").map { String(cString: $0) }
    takeListeners(&gathered)
  }

  private mutating func takeListeners(_ gathered: inout GatheredConfiguration) {
    let settings = gathered.settings
    for url in ServerConfiguration.urls(settings.text("listeners") ?? "") {
      do throws(ListenerDefinition.Problem) {
        listeners.append(try ListenerDefinition(url))
      } catch {
        gathered.complain(["listeners"], error.text)
      }
    }
    if settings.isSet("listeners") {
      // Of another one that is given in a weaker way, such as by a file, nobody expects that it counts as well.
      let source = settings.values(of: "listeners")[0].source
      for other in ["host", "kafka", "amqp", "http"] where settings.values(of: other)[0].source <= source {
        gathered.complain(
          ["listeners", other], "listeners and \(other) exclude each other: listeners are those that are named")
      }
    } else if host != "localhost", !SocketAddress(host: host, port: 0).isNumeric {
      return gathered.complain(["host"], "\(host) is neither a numeric address nor localhost")
    }
    let names = settings.isSet("listeners") ? ["listeners"] : ["host", "kafka", "amqp", "http"]
    var ports: Set<String> = []
    for definition in definitions {
      let problem = definition.problem(
        allowsInsecure: allowsInsecureListeners, files: tlsFiles, tokenKeys: settings.tokenKeyFile)
      if let problem {
        gathered.complain(names, problem)
      }
      let isTaken = definition.addresses.map { !ports.insert("\($0) \(definition.port)").inserted }.contains(true)
      if definition.port != 0, isTaken {
        let address = SocketAddress(host: definition.host, port: definition.port)
        gathered.complain(names, "two listeners have the address \(address)")
      }
    }
  }

  /// Takes listeners' URLs apart. A comma stands between two URLs, and also inside of one: what holds no `://` belongs to the URL
  /// before it.
  static func urls(_ text: String) -> [String] {
    var urls: [String] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let part = String(part.drop { $0 == " " })
      // The mark of a URL stands before the ? that begins what it asks for.
      let isURL = part.prefix { $0 != "?" && $0 != "=" }.contains("://")
      if isURL || urls.isEmpty {
        if isURL || !part.isEmpty { urls.append(part) }
      } else {
        urls[urls.count - 1] += ",\(part)"
      }
    }
    return urls.map { String($0.reversed().drop { $0 == " " }.reversed()) }
  }

  /// The process's environment.
  static func environment() -> [String: String] {
    var all: [String: String] = [:]
    for entry in ProcFile.text("/proc/self/environ").split(separator: "\0") {
      guard let equals = entry.firstIndex(of: "=") else { continue }
      all[String(entry[..<equals])] = String(entry[entry.index(after: equals)...])
    }
    // Where /proc is not mounted, the names that are known can still be asked for.
    for name in BrokerSettings.table.map(\.environmentName) + ["MILLRACE_CONFIG"] where all[name] == nil {
      if let value = getenv(name) { all[name] = String(cString: value) }
    }
    return all
  }
}
