// Setting: one named value of the broker or of a topic, with its rule; the tables that configuration is read from.

/// The type of a setting's value. Raw values are those of Kafka's DescribeConfigs.
public enum SettingType: Int8, Sendable {
  case boolean = 1
  case string = 2
  case int = 3
  case long = 5
  case double = 6
  case list = 7
}

extension SettingType {
  /// The word for it in references.
  public var name: String {
    switch self {
    case .boolean: "boolean"
    case .string: "string"
    case .int: "int"
    case .long: "long"
    case .double: "double"
    case .list: "list"
    }
  }
}

/// What a setting's number counts.
public enum SettingUnit: String, Sendable {
  case milliseconds = "ms"
  case bytes = "bytes"
  case bytesPerSecond = "bytes/s"

  /// The unit that Kafka's way to name settings tells; nil when it tells none.
  init?(nameOf setting: String) {
    if setting.hasSuffix(".ms") {
      self = .milliseconds
    } else if setting.hasSuffix(".bytes.per.second") {
      self = .bytesPerSecond
    } else if setting.hasSuffix(".bytes") {
      self = .bytes
    } else {
      return nil
    }
  }
}

/// One entry of a settings table.
public struct Setting: Sendable {
  /// Kafka's name.
  public let name: String
  /// Type of the value.
  public let type: SettingType
  /// Value when nothing is set, as text.
  public let standard: String
  /// Smallest and largest number allowed.
  public let range: ClosedRange<Int64>?
  /// Words allowed; for lists, each of them.
  public let words: [String]
  /// False when the name is accepted, but changes nothing in this version.
  public let isHonoured: Bool
  /// Whether it can be changed while the program runs; a topic's settings all can.
  public let isDynamic: Bool
  /// What its number counts; nil for words, for counts of things, and where there is no number.
  public let unit: SettingUnit?
  /// Its value is for nobody's eyes: it is neither shown nor logged.
  public let isSecret: Bool
  /// The program `millrace serve` has it; a broker that is embedded in another program has not.
  public let isOfProgram: Bool
  /// The option of `millrace serve` that stands for it, with its dashes; nil when `--set` is the only one.
  public let option: String?
  /// One sentence for people.
  public let text: String
  /// Says what is wrong with a value that fits all the rest; nil when nothing is.
  private let check: @Sendable (String) -> String?

  init(
    _ name: String, _ type: SettingType, _ standard: String, range: ClosedRange<Int64>? = nil, words: [String] = [],
    honoured: Bool = true, dynamic: Bool = false, unit: SettingUnit? = nil, isSecret: Bool = false,
    isOfProgram: Bool = false, option: String? = nil, check: @escaping @Sendable (String) -> String? = { _ in nil },
    _ text: String
  ) {
    self.check = check
    self.unit = unit ?? SettingUnit(nameOf: name)
    self.isSecret = isSecret
    self.isOfProgram = isOfProgram
    self.option = option
    self.name = name
    self.type = type
    self.standard = standard
    self.range = range
    self.words = words
    isHonoured = honoured
    isDynamic = dynamic
    self.text = text
  }

  /// The variable of the environment that stands for it: the name in capitals behind `MILLRACE_`, with `_` for dots.
  public var environmentName: String {
    "MILLRACE_" + String(name.uppercased().map { $0 == "." || $0 == "-" ? "_" : $0 })
  }

  /// What is wrong with `value`, nil when it is allowed. A secret value is not repeated.
  public func problem(with value: String) -> String? {
    guard let fault = fault(in: value) else { return nil }
    return isSecret ? "\(name) has a value that is not allowed" : fault
  }

  private func fault(in value: String) -> String? {
    switch type {
    case .boolean:
      guard value == "true" || value == "false" else {
        return "\(name) must be true or false, not \"\(value)\""
      }
      return words.isEmpty || words.contains(value) ? nil : "\(name) must be \(words[0]) here"
    case .int, .long:
      guard let number = Int64(value) else { return "\(name) must be a whole number, not \"\(value)\"" }
      if let range, !range.contains(number) {
        return "\(name) must be between \(range.lowerBound) and \(range.upperBound), not \(number)"
      }
      return nil
    case .double:
      return Double(value) == nil ? "\(name) must be a number, not \"\(value)\"" : nil
    case .string:
      if words.isEmpty || words.contains(value) { return check(value) }
      return "\(name) must be one of \(words.joined(separator: ", ")), not \"\(value)\""
    case .list:
      for part in value.split(separator: ",") where !words.isEmpty && !words.contains(String(part)) {
        return "\(name) may hold \(words.joined(separator: ", ")), not \"\(part)\""
      }
      return nil
    }
  }
}

/// Settings of the broker by Kafka's names; what is not set has its standard value.
public struct BrokerSettings: Sendable {
  /// All that can be set.
  public static let table: [Setting] =
    programTable + generalTable + ShareSettings.brokerTable + storageTable + amqpTable + httpTable + connectionTable
    + accessTable + bearerTable

  private static let byName = Dictionary(uniqueKeysWithValues: table.map { ($0.name, $0) })

  /// The entry of a name; nil when there is no such setting.
  public static func setting(_ name: String) -> Setting? { byName[name] }

  private static let generalTable: [Setting] = [
    Setting(
      "num.partitions", .int, "1", range: 1...10_000, dynamic: true,
      "Partitions of a topic that is created without saying how many."),
    Setting(
      "auto.create.topics.enable", .boolean, "true", dynamic: true,
      "Create a topic when a client asks for one that does not exist."),
    Setting(
      "message.max.bytes", .int, "1048588", range: 1...33_000_000, dynamic: true,
      "Largest record batch, in bytes; a topic's max.message.bytes overrides it."),
    Setting(
      "socket.request.max.bytes", .int, "104857600", range: 1024...104_857_600, "Largest request, in bytes."),
    Setting(
      "queued.max.request.bytes", .long, "268435456", range: 1_048_576...1_099_511_627_776,
      "Memory that the requests of all connections may hold together; clients with large ones wait beyond it."),
    Setting(
      "fetch.max.bytes", .int, "57671680", range: 1024...104_857_600, dynamic: true,
      "Most bytes of records in one fetch answer."),
    Setting(
      "group.initial.rebalance.delay.ms", .int, "200", range: 0...300_000, dynamic: true,
      "How long the first member of a group without members waits for others, in ms."),
    Setting(
      "group.min.session.timeout.ms", .int, "6000", range: 1...86_400_000, dynamic: true,
      "Shortest session time-out, in ms."),
    Setting(
      "group.max.session.timeout.ms", .int, "1800000", range: 1...86_400_000, dynamic: true,
      "Longest session time-out, in ms."),
    Setting("group.max.size", .int, "10000", range: 1...1_000_000, dynamic: true, "Most members of a group."),
    Setting(
      "group.consumer.session.timeout.ms", .int, "45000", range: 1...86_400_000,
      "Silence after which a member of a consumer group is gone, in ms."),
    Setting(
      "group.consumer.min.session.timeout.ms", .int, "45000", range: 1...86_400_000,
      "Shortest group.consumer.session.timeout.ms, in ms."),
    Setting(
      "group.consumer.max.session.timeout.ms", .int, "60000", range: 1...86_400_000,
      "Longest group.consumer.session.timeout.ms, in ms."),
    Setting(
      "group.consumer.heartbeat.interval.ms", .int, "5000", range: 1...86_400_000,
      "How often members of a consumer group are told to report, in ms."),
    Setting(
      "group.consumer.min.heartbeat.interval.ms", .int, "5000", range: 1...86_400_000,
      "Shortest group.consumer.heartbeat.interval.ms, in ms."),
    Setting(
      "group.consumer.max.heartbeat.interval.ms", .int, "15000", range: 1...86_400_000,
      "Longest group.consumer.heartbeat.interval.ms, in ms."),
    Setting(
      "group.consumer.max.size", .int, "2147483647", range: 1...2_147_483_647, "Most members of a consumer group."),
    Setting(
      "group.consumer.assignors", .list, "uniform,range", words: ["uniform", "range"],
      "Assignors that members of consumer groups may ask for; the first is used when none is asked for."),
    Setting(
      "group.consumer.migration.policy", .string, "bidirectional",
      words: ["disabled", "upgrade", "downgrade", "bidirectional"],
      "Whether a group with members may change from the classic to the consumer protocol (upgrade) and back (downgrade)."
    ),
    Setting(
      "offset.metadata.max.bytes", .int, "4096", range: 0...1_000_000, dynamic: true,
      "Longest text committed with an offset."),
    Setting(
      "max.incremental.fetch.session.cache.slots", .int, "1000", range: 0...100_000, "Most fetch sessions held."),
    Setting(
      "connections.max.idle.ms", .int, "600000", range: 1000...Int64.max, dynamic: true,
      "A connection on which nothing has moved for this long, and which waits for no answer, is closed, in ms."),
    Setting(
      "producer.id.expiration.ms", .int, "86400000", range: 1...Int64.max,
      "A producer that was silent for this long is forgotten, in ms."),
    Setting(
      "transaction.max.timeout.ms", .int, "900000", range: 1...2_147_483_647,
      "Longest transaction time-out that a producer may ask for, in ms."),
    Setting(
      "transactional.id.expiration.ms", .int, "604800000", range: 1...Int64.max,
      "A transactional id that was not used for this long is forgotten, in ms."),
  ]

  /// Where a value comes from, the strongest first. Source of the order: Kafka, where what was set while brokers ran counts more
  /// than what they were started with.
  public enum Source: Int, Sendable, CaseIterable, Comparable {
    /// Set for this node while it ran.
    case node
    /// Set for all nodes while they ran.
    case cluster
    /// An option of the command line.
    case commandLine
    /// A variable of the environment.
    case environment
    /// The configuration file.
    case file
    /// Given by the program that the broker is embedded in.
    case start
    /// Nothing was set.
    case standard

    /// The word for it in the HTTP API.
    public var name: String {
      switch self {
      case .node: "node"
      case .cluster: "cluster"
      case .commandLine: "command-line"
      case .environment: "environment"
      case .file: "file"
      case .start: "start"
      case .standard: "standard"
      }
    }

    /// Stronger sources come first.
    public static func < (left: Source, right: Source) -> Bool { left.rawValue < right.rawValue }
  }

  /// A value that was set somewhere.
  public struct Given: Equatable, Sendable {
    /// Where.
    public var source: Source
    /// The value.
    public var value: String
    /// The exact place, such as `millrace.conf:12` or `--data`; empty where the source says all.
    public var place: String
  }

  /// By name, what was set at the start, one for each source, the strongest first.
  var given: [String: [Given]] = [:]
  private var clusterValues: [String: String] = [:]
  private var nodeValues: [String: String] = [:]
  /// The value that counts, of each name of which one is set.
  private var effective: [String: String] = [:]

  /// `message.max.bytes`; kept as a number, because every batch is compared with it.
  public private(set) var largestMessage = 0
  /// `socket.request.max.bytes`; kept as a number, because every request is compared with it.
  public private(set) var largestRequest = 0
  /// `queued.max.request.bytes`
  public var requestMemory: Int { number("queued.max.request.bytes") }
  /// `fetch.max.bytes`
  public private(set) var largestFetch = 0
  /// `max.connections.per.ip` and its like; kept, because every new connection is held against them.
  private(set) var connectionLimits = ConnectionLimits()

  /// All at their standard values.
  public init() { refresh() }

  mutating func refresh() {
    effective = given.compactMapValues { $0.first?.value }
    effective.merge(clusterValues) { _, new in new }
    effective.merge(nodeValues) { _, new in new }
    largestMessage = number("message.max.bytes")
    largestRequest = number("socket.request.max.bytes")
    largestFetch = number("fetch.max.bytes")
    connectionLimits = ConnectionLimits(self)
  }

  /// Sets one value, in place of one from the same source.
  /// - Parameter place: see ``Given/place``.
  /// - Throws: `.invalidConfig` for an unknown name or a value outside its rule.
  public mutating func set(
    _ name: String, _ value: String, from source: Source = .start, at place: String = ""
  ) throws(BrokerError) {
    guard let setting = BrokerSettings.setting(name) else {
      throw BrokerError(.invalidConfig, "unknown setting \"\(name)\"")
    }
    if let problem = setting.problem(with: value) { throw BrokerError(.invalidConfig, problem) }
    put(Given(source: source, value: value, place: place), name)
    refresh()
  }

  mutating func put(_ value: Given, _ name: String) {
    var all = given[name, default: []]
    all.removeAll { $0.source == value.source }
    all.append(value)
    given[name] = all.sorted { $0.source < $1.source }
  }

  /// Takes over what was set while the program ran: for all nodes, and for this one.
  ///
  /// Values that this version does not know, cannot change while it runs or does not allow are left out: they may come
  /// from another version's data.
  mutating func setDynamic(cluster: [String: String], node: [String: String]) {
    func fits(_ entry: (key: String, value: String)) -> Bool {
      guard let setting = BrokerSettings.setting(entry.key), setting.isDynamic else { return false }
      return setting.problem(with: entry.value) == nil
    }
    clusterValues = cluster.filter(fits)
    nodeValues = node.filter(fits)
    refresh()
  }

  /// The value as text, nil for an unknown name.
  public func text(_ name: String) -> String? { effective[name] ?? BrokerSettings.setting(name)?.standard }

  /// All values of a name, the one that counts first; the standard one last. Empty for an unknown name.
  public func values(of name: String) -> [Given] {
    var found: [Given] = []
    if let value = nodeValues[name] { found.append(Given(source: .node, value: value, place: "")) }
    if let value = clusterValues[name] { found.append(Given(source: .cluster, value: value, place: "")) }
    found += given[name] ?? []
    if let setting = BrokerSettings.setting(name) {
      found.append(Given(source: .standard, value: setting.standard, place: ""))
    }
    return found
  }

  /// Whether a value was set, at the start or later.
  public func isSet(_ name: String) -> Bool { effective[name] != nil }

  /// Whether a value was set while the program ran, which counts more than what it was started with.
  public func isSetWhileRunning(_ name: String) -> Bool { nodeValues[name] != nil || clusterValues[name] != nil }

  private func number(_ name: String) -> Int { integer(name) }

  /// The value of a setting that is a whole number.
  func integer(_ name: String) -> Int {
    guard let number = text(name).flatMap({ Int($0) }) else { preconditionFailure("no number setting \(name)") }
    return number
  }

  /// `num.partitions`
  public var partitions: Int { number("num.partitions") }
  /// `auto.create.topics.enable`
  public var createsTopics: Bool { text("auto.create.topics.enable") == "true" }
  /// `group.initial.rebalance.delay.ms`
  public var initialRebalanceDelay: Duration { .milliseconds(number("group.initial.rebalance.delay.ms")) }
  /// `group.min.session.timeout.ms` and `group.max.session.timeout.ms`
  public var sessionTimeouts: ClosedRange<Int> {
    let shortest = number("group.min.session.timeout.ms")
    return shortest...max(shortest, number("group.max.session.timeout.ms"))
  }
  /// `group.max.size`
  public var largestGroup: Int { number("group.max.size") }
  /// `group.consumer.migration.policy`
  var groupMigration: GroupMigration {
    text("group.consumer.migration.policy").flatMap { GroupMigration(rawValue: $0) } ?? .bidirectional
  }
  /// `group.consumer.min.NAME` and `group.consumer.max.NAME`.
  func consumerGroupRange(_ name: String) -> ClosedRange<Int> {
    let least = number("group.consumer.min.\(name)")
    return least...max(least, number("group.consumer.max.\(name)"))
  }
  /// What holds for groups of the consumer protocol; see ``contradictions``.
  var consumerGroups: ConsumerGroupRules {
    ConsumerGroupRules(
      sessionTimeout: .milliseconds(number("group.consumer.session.timeout.ms")),
      heartbeatInterval: .milliseconds(number("group.consumer.heartbeat.interval.ms")),
      largestSize: number("group.consumer.max.size"),
      assignors: (text("group.consumer.assignors") ?? "").split(separator: ",").compactMap {
        ServerAssignor(rawValue: String($0))
      })
  }

  /// `offset.metadata.max.bytes`
  public var largestOffsetMetadata: Int { number("offset.metadata.max.bytes") }
  /// `max.incremental.fetch.session.cache.slots`
  public var fetchSessions: Int { number("max.incremental.fetch.session.cache.slots") }
  /// `connections.max.idle.ms`
  public var longestIdleTime: Duration { .milliseconds(number("connections.max.idle.ms")) }
  /// `transaction.max.timeout.ms`
  public var longestTransaction: Int { number("transaction.max.timeout.ms") }
  /// `transactional.id.expiration.ms`
  public var transactionalIDExpiration: Int64 { Int64(number("transactional.id.expiration.ms")) }
  /// `producer.id.expiration.ms`
  public var producerExpiration: Int64 { Int64(number("producer.id.expiration.ms")) }
}

/// Settings of a topic by Kafka's names.
public enum TopicSettings {
  private static let any = 0...Int64.max
  private static let orNone = -1...Int64.max

  /// All that can be set. Names that are not honoured yet are accepted, kept and shown.
  public static let table: [Setting] = [
    Setting("max.message.bytes", .int, "1048588", range: 1...33_000_000, "Largest record batch, in bytes."),
    Setting(
      "message.timestamp.type", .string, "CreateTime", words: ["CreateTime", "LogAppendTime"],
      "Whether a record's time is the producer's or the broker's."),
    Setting(
      "cleanup.policy", .list, "delete", words: ["delete", "compact"],
      "How old records are removed: by age and size, all but the newest of each key, or both."),
    Setting(
      "compression.type", .string, "producer", words: ["producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"],
      honoured: false, "Batches are kept as the producer sent them."),
    Setting(
      "delete.retention.ms", .long, "86400000", range: any,
      "How long a tombstone is kept once it was compacted, in ms."),
    Setting("file.delete.delay.ms", .long, "60000", range: any, honoured: false, "Delay before a file is removed."),
    Setting(
      "flush.messages", .long, "9223372036854775807", range: 1...Int64.max, honoured: false,
      "Every acknowledged record is flushed already."),
    Setting(
      "flush.ms", .long, "9223372036854775807", range: any, honoured: false,
      "Every acknowledged record is flushed already."),
    Setting("index.interval.bytes", .int, "4096", range: any, honoured: false, "Distance of index entries."),
    Setting(
      "max.compaction.lag.ms", .long, "9223372036854775807", range: 1...Int64.max,
      "Compaction begins when a record has waited for this long, in ms."),
    Setting(
      "message.timestamp.after.max.ms", .long, "9223372036854775807", range: any,
      "How far a batch's newest time may lie ahead of the broker's clock, in ms."),
    Setting(
      "message.timestamp.before.max.ms", .long, "9223372036854775807", range: any,
      "How far a batch's first time may lie behind the broker's clock, in ms."),
    Setting(
      "min.cleanable.dirty.ratio", .double, "0.5", "Share of bytes not compacted yet that starts compaction."),
    Setting(
      "min.compaction.lag.ms", .long, "0", range: any, "Records younger than this are not compacted, in ms."),
    Setting("min.insync.replicas", .int, "1", range: 1...Int64.max, honoured: false, "There is one node."),
    Setting("preallocate", .boolean, "false", honoured: false, "Journal files are always allocated in advance."),
    Setting(
      "retention.bytes", .long, "-1", range: orNone,
      "The oldest records go as long as this many bytes of the partition are left; -1 for no limit."),
    Setting(
      "retention.ms", .long, "604800000", range: orNone,
      "Records go when they, and those they are stored with, are older than this, in ms; -1 for no limit."),
    Setting(
      "segment.bytes", .int, "1073741824", range: 14...Int64.max, honoured: false,
      "Records expire in the pieces that they are stored in, of 32 MiB at most."),
    Setting("segment.index.bytes", .int, "10485760", range: 4...Int64.max, honoured: false, "Size of an index."),
    Setting(
      "segment.jitter.ms", .long, "0", range: any, honoured: false, "Segments do not end by time."),
    Setting("segment.ms", .long, "604800000", range: 1...Int64.max, honoured: false, "Segments do not end by time."),
    Setting("unclean.leader.election.enable", .boolean, "false", honoured: false, "There is one node."),
    Setting(
      "compression.gzip.level", .int, "-1", range: -1...9, honoured: false,
      "Batches are kept as the producer sent them."),
    Setting(
      "compression.lz4.level", .int, "9", range: 1...17, honoured: false,
      "Batches are kept as the producer sent them."),
    Setting(
      "compression.zstd.level", .int, "3", range: -131_072...22, honoured: false,
      "Batches are kept as the producer sent them."),
    Setting(
      "leader.replication.throttled.replicas", .list, "", honoured: false, "There is one node."),
    Setting(
      "follower.replication.throttled.replicas", .list, "", honoured: false, "There is one node."),
    Setting("local.retention.bytes", .long, "-2", range: -2...Int64.max, honoured: false, "All storage is local."),
    Setting("local.retention.ms", .long, "-2", range: -2...Int64.max, honoured: false, "All storage is local."),
    Setting(
      "remote.storage.enable", .boolean, "false", words: ["false"], honoured: false,
      "There is no remote storage, so that only false is taken."),
    Setting("remote.log.copy.disable", .boolean, "false", honoured: false, "There is no remote storage."),
    Setting("remote.log.delete.on.disable", .boolean, "false", honoured: false, "There is no remote storage."),
    Setting(
      "message.downconversion.enable", .boolean, "true", honoured: false, "Records of older formats do not exist."),
    Setting(
      "message.format.version", .string, "3.0-IV1", honoured: false, "Records of older formats do not exist."),
    Setting(
      "message.timestamp.difference.max.ms", .long, "9223372036854775807", range: any, honoured: false,
      "Clock difference allowed."),
  ]

  /// The broker's settings that count where a topic has none of its own, by the topic's name for them.
  public static let brokerNames = [
    "max.message.bytes": "message.max.bytes", "retention.ms": "log.retention.ms",
    "retention.bytes": "log.retention.bytes",
  ]

  /// Checks the settings that a topic is to have.
  /// - Throws: `.invalidConfig` for an unknown name or a value outside its rule.
  public static func check(_ configs: [String: String]) throws(BrokerError) {
    for (name, value) in configs.sorted(by: { $0.key < $1.key }) {
      guard let setting = table.first(where: { $0.name == name }) else {
        throw BrokerError(.invalidConfig, "unknown topic setting \"\(name)\"")
      }
      if let problem = setting.problem(with: value) { throw BrokerError(.invalidConfig, problem) }
    }
    let shortest = number("min.compaction.lag.ms", in: configs)
    let longest = number("max.compaction.lag.ms", in: configs)
    guard shortest <= longest else {
      throw BrokerError(
        .invalidConfig, "min.compaction.lag.ms would be \(shortest), more than max.compaction.lag.ms, \(longest)")
    }
  }

  private static func number(_ name: String, in configs: [String: String]) -> Int64 {
    let text = configs[name] ?? table.first { $0.name == name }?.standard
    guard let number = text.flatMap({ Int64($0) }) else { preconditionFailure("no number setting \(name)") }
    return number
  }
}
