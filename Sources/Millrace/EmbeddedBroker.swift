// EmbeddedBroker: a broker inside the embedding program: its threads, its files, its life from open to close.

import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceIO
import MillraceLog
import Synchronization

/// A durable message broker and stream processor in this process.
///
///     let broker = try await EmbeddedBroker.open(directory: "data")
///     try await broker.createTopic("greetings", partitions: 3)
///     try await broker.produce([Record(value: Bytes("hello"))], to: "greetings")
///     for try await record in broker.consume("greetings") { print(record.text) }
///
/// One thread of its own owns all data; a call costs one hop to it for each batch. Any task or thread may call. Threads are
/// not pinned to cores. The directory belongs to one broker at a time, in one process.
public final class EmbeddedBroker: Sendable {
  /// How a broker is opened.
  public struct Configuration: Sendable {
    /// Broker settings by Kafka's names, for example `num.partitions`.
    public var settings: [String: String] = [:]
    /// Recent batches kept in memory for readers, in bytes.
    public var hotTailSize = 64 << 20
    /// Size of a journal file, in bytes; a multiple of 4,096. At most eight are kept.
    public var journalFileSize = 64 << 20
    /// The file with the keys that the data directory is encrypted with; nil leaves it plain. `millrace key new` makes one.
    public var encryptionKeyFile: String?
    /// Receives what operators should know; nothing is logged unless set.
    public var logger = Logger.silent

    /// The defaults.
    public init() {}
  }

  private enum Life {
    case open
    case closing([CheckedContinuation<MillraceError?, Never>])
    case closed(MillraceError?)
  }

  private struct State {
    var life = Life.open
    var jobs: [ObjectIdentifier: RunningJob] = [:]
    var queues: [ObjectIdentifier: QueueLife] = [:]
  }

  /// The data directory.
  public let directory: String
  let parts: BrokerParts
  let listeners: ReactorBound<OpenListeners>
  let logger: Logger
  /// What is known of topics, so that a batch needs no hop to ask.
  let routes = Mutex<[String: TopicRoute]>([:])
  let createsTopics: Bool
  private let state = Mutex(State())

  private init(directory: String, _ configuration: Configuration) throws(MillraceError) {
    self.directory = directory
    logger = configuration.logger
    var settings = BrokerSettings()
    do throws(BrokerError) {
      for (name, value) in configuration.settings.sorted(by: { $0.key < $1.key }) {
        if let setting = BrokerSettings.setting(name), setting.isOfProgram {
          throw BrokerError(.invalidConfig, "\(name) is a setting of `millrace serve` alone")
        }
        try settings.set(name, value)
      }
    } catch {
      throw MillraceError(error)
    }
    createsTopics = settings.createsTopics
    var log = LogConfiguration(directory: directory)
    log.hotTailSize = configuration.hotTailSize
    log.journalFileSize = configuration.journalFileSize
    log.firstJournalFileSize = min(log.firstJournalFileSize, configuration.journalFileSize)
    var composition = BrokerParts.Configuration(
      log: log, settings: settings, logger: configuration.logger, threadName: "millrace")
    do throws(KeyFileError) {
      if let file = configuration.encryptionKeyFile { composition.keys = try KeyRing(file: file) }
    } catch {
      throw MillraceError(.invalidArgument, error.description)
    }
    do throws(BrokerParts.OpenError) {
      parts = try BrokerParts(composition)
    } catch {
      switch error {
      case .system(let error): throw MillraceError(error)
      case .data(let error): throw MillraceError(error)
      }
    }
    let listeners = OpenListeners(parts, logger: configuration.logger)
    // Those that clients have set, this time or earlier, among them.
    let opened = parts.broker.take()
    opened.onSettingsChange = { [weak listeners, unowned opened] in listeners?.take(opened.settings) }
    listeners.take(opened.settings)
    self.listeners = ReactorBound(listeners, on: parts.reactor)
    do throws(IOError) {
      try parts.reactor.start()
    } catch {
      parts.stopThreads()
      throw MillraceError(error)
    }
    // Before anything else is asked on the reactor, so that no route outlives the change that makes it wrong.
    let broker = parts.broker
    parts.reactor.submit { [weak self] in
      broker.take().onTopicChange = { [weak self] topic in self?.routes.withLock { $0[topic.name] = nil } }
    }
  }

  /// Opens the broker whose data lie in `directory`, which is made when missing (with the folders above it),
  /// and recovers them.
  ///
  /// - Throws: `.storage` when the directory is in use, cannot be read or is damaged; `.invalidArgument` for a setting.
  /// - Complexity: proportional to the part of the journal that no snapshot covers.
  public static func open(
    directory: String, configuration: Configuration = Configuration()
  ) async throws(MillraceError) -> EmbeddedBroker {
    // On a thread of its own, because recovery blocks.
    let result = await onThread("millrace-open") { () -> Result<EmbeddedBroker, MillraceError> in
      do throws(MillraceError) {
        return .success(try EmbeddedBroker(directory: directory, configuration))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  /// Runs `body`, which may block, on a thread of its own.
  static func onThread<Value: Sendable>(
    _ name: String, _ body: @escaping @Sendable () -> Result<Value, MillraceError>
  ) async -> Result<Value, MillraceError> {
    await withCheckedContinuation { continuation in
      do throws(IOError) {
        _ = try SystemThread(name: name) { continuation.resume(returning: body()) }
      } catch {
        continuation.resume(returning: .failure(MillraceError(error)))
      }
    }
  }

  /// Calls `body` on the reactor and suspends until it answers.
  func ask<Value: Sendable>(
    _ body: @escaping @Sendable (Broker, Answer<Value>) -> Void
  ) async throws(MillraceError) -> Value {
    try await parts.ask(body)
  }

  /// Lets workers of stream jobs join (``JobWorker``), and `millrace job`, through a socket in the data directory that belongs
  /// to this user alone. `millrace serve` does so by itself.
  /// - Throws: `.network` when the directory can hold no socket, `.closed`.
  public func listenForWorkers() async throws(MillraceError) {
    let workers = parts.workers
    let address = WorkerProtocol.address(directory: directory)
    try await ask { [self] (broker, answer: Answer<Void>) in
      guard isOpen, broker.isOpen else { return answer.give(.failure(.closed)) }
      do throws(IOError) {
        try workers.take().listen(address)
        answer.give(.success(()))
      } catch {
        answer.give(.failure(MillraceError(.network, error.description)))
      }
    }
  }

  /// Whether nobody has begun to close it. The broker behind it stays open for a while longer, until jobs and connections have ended.
  var isOpen: Bool {
    state.withLock { state in
      if case .open = state.life { true } else { false }
    }
  }

  // MARK: Jobs

  /// Keeps a job until it has ended; false when the broker is closing.
  func keep(_ job: RunningJob) -> Bool {
    state.withLock { state in
      guard case .open = state.life else { return false }
      state.jobs[ObjectIdentifier(job)] = job
      return true
    }
  }

  func forget(_ job: RunningJob) {
    state.withLock { $0.jobs[ObjectIdentifier(job)] = nil }
  }

  // MARK: Queues

  /// Remembers who has to hear of the end; false when the broker is closing.
  func keep(_ queue: QueueLife) -> Bool {
    state.withLock { state in
      guard case .open = state.life else { return false }
      state.queues[ObjectIdentifier(queue)] = queue
      return true
    }
  }

  func forget(_ queue: QueueLife) {
    _ = state.withLock { $0.queues.removeValue(forKey: ObjectIdentifier(queue)) }
  }

  // MARK: Closing

  /// Stops jobs, ends consumers, makes everything durable, closes listeners and lets go of the directory.
  ///
  /// Whoever waits for the broker gets `.closed`. Calling it again waits for the same end.
  /// - Throws: `.storage` when not everything could be made durable.
  public func close() async throws(MillraceError) {
    let error: MillraceError? = await withCheckedContinuation { continuation in
      let (begins, ended) = state.withLock { state -> (Bool, MillraceError??) in
        switch state.life {
        case .open:
          state.life = .closing([continuation])
          return (true, nil)
        case .closing(let waiting):
          state.life = .closing(waiting + [continuation])
          return (false, nil)
        case .closed(let error): return (false, .some(error))
        }
      }
      if let ended { continuation.resume(returning: ended) }
      if begins { Task { await self.end() } }
    }
    if let error { throw error }
  }

  private func end() async {
    let jobs = state.withLock { Array($0.jobs.values) }
    for job in jobs { await job.end() }
    let queues = state.withLock { Array($0.queues.values) }
    for queue in queues { queue.close(.closed, .closed) }
    let failure = await parts.close { for queue in queues { queue.stops() } }
    for queue in queues { queue.abandon() }
    let waiting = state.withLock { state -> [CheckedContinuation<MillraceError?, Never>] in
      guard case .closing(let waiting) = state.life else { return [] }
      state.life = .closed(failure)
      return waiting
    }
    for continuation in waiting { continuation.resume(returning: failure) }
  }

  deinit {
    // Nobody uses the broker any more, but nobody has closed it either.
    if case .open = state.withLock({ $0.life }) {
      let parts = parts
      Task { _ = await parts.close() }
    }
  }
}
