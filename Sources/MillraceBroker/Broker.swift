// Broker: topics, appending, fetching, groups and jobs over one log; what protocol servers and the library call.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel

/// A broker over one data directory. Everything belongs to its reactor.
public final class Broker {
  /// The reactor that owns all of this.
  public let reactor: any Reactor
  /// Settings: given at the start, and some of them changed since.
  public internal(set) var settings: BrokerSettings
  /// Receives what operators should know.
  public let logger: Logger
  let metadata: Metadata
  let log: LogStore
  var random: SeededRandom
  /// Groups and their members.
  public private(set) var groups: GroupCoordinator!
  /// Share groups and what they read.
  public private(set) var shares: ShareCoordinator!
  /// Transactional producers.
  public private(set) var transactions: TransactionCoordinator!
  /// Message queues with their exchanges.
  public private(set) var queues: QueueBroker!
  var waits = FetchWaits()
  var producerIDs: Range<Int64> = 0..<0
  var waitingForProducerIDs: [(Result<Int64, BrokerError>) -> Void] = []
  var traffic: [PartitionLogID: PartitionTraffic] = [:]
  var samples = FigureSamples()
  var jobRuns: [String: JobRun] = [:]
  /// Writes an array of what is known of jobs into the figures; nil without anybody who hosts them.
  public var writesJobs: ((inout JSONWriter) -> Void)?
  /// Who may do what.
  public private(set) var access: AccessControl!
  /// Whether clients are who they say.
  public private(set) var authentication: Authentication!
  /// Who did what.
  public private(set) var audit: AuditLog!
  /// Which connections are served.
  public private(set) var admission: ConnectionAdmission!
  /// Whether memory is short.
  public private(set) var memory: MemoryWatch!
  /// Limits of clients' use, and how far each client has used them.
  public var quotas = ClientQuotas()
  /// When the broker was opened.
  let started: MonotonicTime
  /// False once the broker is closed or its log has failed.
  public private(set) var isOpen = true
  /// Called once when a flush failed: the owner must stop the program or close the broker.
  public var onFailure: (BrokerError) -> Void = { _ in }

  /// Called when the broker's settings may have changed, after they have. On the reactor.
  public var onSettingsChange: () -> Void = {}

  /// Called when a topic's settings or number of partitions have changed, with the topic as it is then. On the reactor.
  public var onTopicChange: (TopicMetadata) -> Void = { _ in }

  /// Opens a broker; blocks while the log is replayed. Call on the reactor, or before it runs.
  ///
  /// - Parameters:
  ///   - log: sizes and the data directory.
  ///   - writer: makes commits durable.
  ///   - background: drains, snapshots, reads from disk.
  ///   - passwords: checks passwords, which takes milliseconds of a processor each; nil leaves them to `background`.
  ///   - seed: of identities; nil takes the operating system's entropy.
  /// - Throws: `.storage` when the directory is in use, cannot be read, or is damaged; `.invalidConfig` when settings
  ///   contradict each other.
  public init(
    log configuration: LogConfiguration, settings: BrokerSettings = BrokerSettings(), fileSystem: any FileSystem,
    reactor: any Reactor, writer: any BlockingExecutor, background: any BlockingExecutor,
    passwords: (any BlockingExecutor)? = nil, logger: Logger, seed: UInt64? = nil
  ) throws(BrokerError) {
    self.reactor = reactor
    self.settings = settings
    self.logger = logger
    try settings.checkTogether()
    random = seed.map { SeededRandom(seed: $0) } ?? .system()
    metadata = Metadata()
    started = reactor.now
    var configuration = configuration
    settings.configure(&configuration)
    do throws(LogError) {
      log = try LogStore(
        configuration: configuration, fileSystem: fileSystem, reactor: reactor, writer: writer,
        background: background, stateMachine: metadata, logger: logger, random: &random)
    } catch {
      throw BrokerError(error)
    }
    groups = GroupCoordinator(broker: self)
    shares = ShareCoordinator(broker: self)
    transactions = TransactionCoordinator(broker: self)
    access = AccessControl(metadata: metadata) { [unowned self] in self.settings }
    audit = AuditLog { [unowned self] in self }
    access.onDecision = { [unowned self] in self.audit.decided($0) }
    authentication = Authentication(reactor: reactor, executor: passwords ?? background) { [unowned self] in self }
    admission = ConnectionAdmission { [unowned self] in self }
    memory = MemoryWatch { [unowned self] in self }
    takeDynamicSettings()
    quotas.set(metadata.quotas)
    metadata.onChange = { [unowned self] in self.changed($0) }
    log.onAdvance = { [unowned self] in self.advanced($0) }
    log.onFailure = { [unowned self] error in
      self.isOpen = false
      self.logger.log(.error, "broker", "a flush failed; nothing is acknowledged any more", ["error": error.reason])
      self.onFailure(BrokerError(error))
    }
    producerIDs = metadata.reservedProducerIDs..<metadata.reservedProducerIDs
    let clusterID = metadata.clusterID.isEmpty ? TopicID.random(using: &random).description : metadata.clusterID
    record(.started(epoch: metadata.leaderEpoch + 1, clusterID: clusterID)) { _ in }
    transactions.open()
    queues = QueueBroker(broker: self)
    queues.open()
    startCleanup()
  }

  /// The cluster's name.
  public var clusterID: String { metadata.clusterID }
  /// Where everything is kept.
  public var dataDirectory: String { log.configuration.directory }
  /// Whether what lies there is encrypted.
  public var isEncrypted: Bool { log.isEncrypted }
  /// Leader epoch of this start.
  public var leaderEpoch: Int32 { metadata.leaderEpoch }

  /// Time from a commit's first entry until it was durable, since the start.
  public var commitLatency: Histogram { log.journalFigures.commitLatency }

  /// Appends an event; `completion` follows when it is durable.
  func record(_ event: MetadataEvent, completion: @escaping (BrokerError?) -> Void) {
    record(AppendUnit(event: event.encoded()), completion: completion)
  }

  func record(_ unit: AppendUnit, completion: @escaping (BrokerError?) -> Void) {
    log.append(unit) { result in
      switch result {
      case .success: completion(nil)
      case .failure(let error): completion(BrokerError(error))
      }
    }
  }

  private func changed(_ change: Metadata.Change) {
    switch change {
    case .resource(let resource):
      switch resource.kind {
      case .broker: takeDynamicSettings()
      case .group:
        groups.settingsChanged(resource.name)
        shares.settingsChanged(resource.name)
      case .clientMetrics: break
      }
    case .quotas: quotas.set(metadata.quotas)
    case .security: access.refresh()
    // Requests look topics up each time; this is for those who keep something of a topic.
    case .topic(let topic): onTopicChange(topic)
    }
  }

  /// Calls `body` when all that was appended so far is durable.
  public func whenDurable(_ body: @escaping (BrokerError?) -> Void) {
    log.whenDurable { error in body(error.map { BrokerError($0) }) }
  }

  /// Most bytes that become durable as one unit.
  public var largestUnit: Int { log.largestUnit }

  /// Whether appends wait for room in the journal: a server reads less from producers while this is so.
  public var isCongested: Bool { log.waitingUnits > 0 }

  /// Answers everyone who waits, makes everything durable, lets go of the directory.
  public func close(_ done: @escaping (BrokerError?) -> Void) {
    queues.close()
    shares.close()
    isOpen = false
    endAllWaits()
    groups.close()
    transactions.close()
    log.close { error in done(error.map { BrokerError($0) }) }
  }
}
