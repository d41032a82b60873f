// BrokerParts: the one composition of a broker: reactor, threads, log, broker and protocol servers, opened and closed in order.

import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceHTTPServer
import MillraceIO
import MillraceKafkaServer
import MillraceLog

/// A broker with the threads it needs and the protocol servers in front of it, as the library and the program both run it.
///
/// The reactor belongs to the thread that opened the parts until it is started, or run.
package struct BrokerParts: Sendable {
  /// What a broker is opened with.
  package struct Configuration {
    /// The data directory and sizes.
    package var log: LogConfiguration
    /// Settings by Kafka's names.
    package var settings: BrokerSettings
    /// Receives what operators should know.
    package var logger: Logger
    /// Where the data lie.
    package var fileSystem: any FileSystem = LinuxFileSystem()
    /// The keys that the data directory is encrypted with; nil leaves it plain.
    package var keys: KeyRing?
    /// What clients are told to connect to; nil tells each the address it has connected to.
    package var advertised: SocketAddress?
    /// Whether small durable writes may go through io_uring, where the system has it.
    package var usesRing = true
    /// The reactor's thread is called so; the others have a word behind it.
    package var threadName: String

    /// A broker over `log`'s directory.
    package init(log: LogConfiguration, settings: BrokerSettings, logger: Logger, threadName: String) {
      self.log = log
      self.settings = settings
      self.logger = logger
      self.threadName = threadName
    }
  }

  /// Why a broker could not be opened.
  package enum OpenError: Error {
    /// The system has no descriptors or threads.
    case system(IOError)
    /// The directory cannot be used; the reason names it.
    case data(BrokerError)
  }

  /// Owns broker and server.
  package let reactor: EpollReactor
  /// The broker.
  package let broker: ReactorBound<Broker>
  /// The Kafka server, which listens nowhere yet.
  package let kafka: ReactorBound<KafkaServer>
  /// The AMQP server, which listens nowhere yet.
  package let amqp: ReactorBound<AMQPServer>
  /// The HTTP server, which listens nowhere yet.
  package let http: ReactorBound<HTTPServer>
  /// Serves workers of stream jobs; it listens nowhere yet.
  package let workers: ReactorBound<WorkerServer>
  /// Makes commits durable: two threads keep the device busy.
  package let writer: ThreadPool
  /// Drains, takes snapshots, reads from disk: three threads keep the device busy while one of them verifies what it has read.
  package let background: ThreadPool
  /// Checks passwords, one after the other: what that costs is no other work's time.
  let passwords: ThreadPool
  /// Bytes of memory that the process may have; nil when the system does not say.
  private let memoryLimit: Int64?

  /// Opens the broker; blocks while the log is replayed.
  ///
  /// When it throws, nothing is left running.
  package init(_ configuration: Configuration) throws(OpenError) {
    let name = configuration.threadName
    // Before anything is made or changed.
    let fileSystem = try BrokerParts.fileSystem(configuration)
    let reactor: EpollReactor
    let writer: ThreadPool
    let background: ThreadPool
    let passwords: ThreadPool
    do throws(IOError) {
      reactor = try EpollReactor(
        name: name, logger: configuration.logger,
        inputLimit: max(configuration.settings.largestRequest, configuration.log.largestUnit + (1 << 20)) + (1 << 20),
        usesRing: configuration.usesRing)
      writer = try ThreadPool(name: "\(name)-journal", threads: 2)
    } catch {
      throw .system(error)
    }
    do throws(IOError) {
      background = try ThreadPool(name: "\(name)-back", threads: 3)
    } catch {
      writer.stop()
      throw .system(error)
    }
    do throws(IOError) {
      passwords = try ThreadPool(name: "\(name)-login", threads: 1)
    } catch {
      writer.stop()
      background.stop()
      throw .system(error)
    }
    do throws(BrokerError) {
      let opened = try Broker(
        log: configuration.log, settings: configuration.settings, fileSystem: fileSystem,
        reactor: reactor, writer: writer, background: background, passwords: passwords, logger: configuration.logger)
      try BrokerParts.rewrap(configuration, fileSystem)
      opened.queues.register(AMQPMessageFormat.shared)
      broker = ReactorBound(opened, on: reactor)
      let workers = WorkerServer(broker: opened, logger: configuration.logger)
      let amqp = AMQPServer(broker: opened, logger: configuration.logger)
      let kafka = KafkaServer(broker: opened, logger: configuration.logger, advertised: configuration.advertised)
      let http = HTTPServer(broker: opened, logger: configuration.logger)
      http.stopsJob = { [unowned workers] in workers.endRun(ofStoppedJob: $0) }
      http.connectionCounts = { [unowned kafka, unowned amqp, unowned workers] in
        [
          ("kafka", kafka.connectionCount), ("amqp", amqp.connectionCount), ("workers", workers.connectionCount),
        ]
      }
      http.requestCounts = { [unowned kafka, unowned amqp] in
        [
          ("kafka", kafka.requests.served, kafka.requests.refused),
          ("amqp", amqp.publications.taken, amqp.publications.refused),
        ]
      }
      http.heldMemory = { [unowned kafka, unowned amqp] in
        [
          ("kafka", kafka.heldMemory.requests, kafka.heldMemory.answers),
          ("amqp", amqp.heldMemory.requests, amqp.heldMemory.answers),
        ]
      }
      http.managedClients = { [unowned amqp] in
        amqp.clients.map { client in
          ManagedClient(
            name: client.name, user: client.user, virtualHost: client.virtualHost, peerHost: client.peerHost,
            peerPort: client.peerPort,
            channels: client.channels.map {
              ManagedClient.Channel(number: $0.number, consumers: $0.consumers, unacknowledged: $0.unacknowledged)
            })
        }
      }
      if let host = configuration.advertised?.host { http.advertisedNames = [host.lowercased()] }
      self.workers = ReactorBound(workers, on: reactor)
      self.amqp = ReactorBound(amqp, on: reactor)
      self.kafka = ReactorBound(kafka, on: reactor)
      self.http = ReactorBound(http, on: reactor)
    } catch {
      writer.stop()
      background.stop()
      passwords.stop()
      throw .data(BrokerError(error.code, "cannot open \(configuration.log.directory): \(error.reason)"))
    }
    self.reactor = reactor
    self.writer = writer
    self.background = background
    self.passwords = passwords
    memoryLimit = MachineMemory.limit
  }

  /// The file system of the data directory, encrypted where keys are given and everything in it can be opened with them.
  private static func fileSystem(_ configuration: Configuration) throws(OpenError) -> any FileSystem {
    do throws(LogError) {
      return try DirectoryEncryption.fileSystem(
        for: configuration.log.directory, keys: configuration.keys, in: configuration.fileSystem)
    } catch {
      throw .data(BrokerError(BrokerError(error).code, "cannot open \(configuration.log.directory): \(error.reason)"))
    }
  }

  /// Wraps what older keys wrap with the current one, and says which keys are not needed any more. The directory is locked.
  private static func rewrap(
    _ configuration: Configuration, _ fileSystem: any FileSystem
  ) throws(BrokerError) {
    guard let encrypted = fileSystem as? EncryptedFileSystem else { return }
    let keys = encrypted.keys
    let directory = configuration.log.directory
    do throws(LogError) {
      let (count, before) = try DirectoryEncryption.rewrap(directory, in: encrypted)
      configuration.logger.log(
        .info, "log", "the data directory is encrypted", ["directory": directory, "current": "\(keys.current.id)"])
      for path in before.halfDamaged {
        configuration.logger.log(
          .warning, "log",
          "of two copies of a file's encryption header one was damaged or not finished; it was made anew",
          ["file": path])
      }
      guard count > 0 else { return }
      let old = before.keys.keys.filter { $0 != keys.current.id }.sorted().map(\.description)
      configuration.logger.log(
        .info, "log", "files' keys were wrapped with the current key; older ones are not needed here any more",
        ["files": "\(count)", "current": "\(keys.current.id)", "older": old.joined(separator: " ")])
    } catch {
      throw BrokerError(error)
    }
  }

  /// Begins what a broker with clients does every second: it takes the samples that rates are made from, and lets producers wait while
  /// the process holds more than its share of the memory that it may have. Does nothing when it has begun. Call it on the reactor,
  /// or before that runs.
  func beginWatching() {
    let broker = broker.take()
    broker.startSampling()
    guard broker.memory.limit == nil, let memoryLimit else { return }
    broker.memory.watch(
      limit: memoryLimit, resident: { ProcessMemory.resident },
      relieve: { [background] in background.submit { ProcessMemory.trim() } })
  }

  /// Calls `body` on the reactor and suspends until it answers.
  func ask<Value: Sendable>(
    _ body: @escaping @Sendable (Broker, Answer<Value>) -> Void
  ) async throws(MillraceError) -> Value {
    let result = await withCheckedContinuation { continuation in
      let answer = Answer<Value>(continuation)
      reactor.submit { body(broker.take(), answer) }
    }
    return try result.get()
  }

  /// Stops accepting, ends AMQP's connections, makes everything durable, closes the others once what they were answered
  /// has left. The reactor goes on. Call it on the reactor.
  /// - Parameter done: gets what could not be made durable.
  package func shutDown(_ done: @escaping (BrokerError?) -> Void) {
    let kafka = kafka.take()
    let amqp = amqp.take()
    let workers = workers.take()
    let http = http.take()
    kafka.stopAccepting()
    http.stopAccepting()
    http.giveBackDeliveries()
    workers.stopAccepting()
    // Before the broker goes, so that nobody gets its refusals for an answer.
    amqp.close {
      broker.take().close { error in
        kafka.close()
        http.close()
        workers.close()
        // Answers to clients still have a turn to leave.
        reactor.schedule(after: .milliseconds(1)) { done(error) }
      }
    }
  }

  /// Ends the threads that block, once the reactor has stopped.
  package func stopThreads() {
    writer.stop()
    background.stop()
    passwords.stop()
  }

  /// Closes all in order.
  /// - Parameter beforeStop: called when everything is durable; what it submits the reactor still runs.
  /// - Returns: what could not be made durable.
  func close(beforeStop: () -> Void = {}) async -> MillraceError? {
    var failure: MillraceError?
    do throws(MillraceError) {
      failure = try await ask { _, answer in
        shutDown { error in answer.give(.success(error.map { MillraceError($0) })) }
      }
    } catch {
      failure = error
    }
    beforeStop()
    let stopped: Result<Void, MillraceError> = await EmbeddedBroker.onThread("millrace-close") {
      reactor.stop()
      stopThreads()
      return .success(())
    }
    if case .failure(let error) = stopped, failure == nil { failure = error }
    return failure
  }
}
