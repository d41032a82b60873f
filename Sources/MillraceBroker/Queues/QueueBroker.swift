// QueueBroker: virtual hosts, exchanges and queues over the broker's log: what protocol servers and the library call.
//
// A turn of the reactor collects what is published and settled; at its end queues are pumped and everything that is to be
// durable goes to the log in at most three units, which share one flush:
//
//   publications   batches of the lanes; confirms follow it, and only then do queues see the messages
//   settlements    the queues' changes, and new start offsets of the lanes; given room also on a full disk
//   transfers      the changes that come with dead letters, together with those letters' batches
//
// Queues that are not durable, and exclusive ones, are kept in memory alone, under a common limit.

import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceRouting

/// Message queues of a broker. Everything belongs to the broker's reactor.
public final class QueueBroker {
  unowned let broker: Broker
  var queues: [QueueName: HostedQueue] = [:] {
    didSet {
      metered = nil
      queueListVersion &+= 1
    }
  }
  /// All of them for whoever measures; nil until somebody asks again after a change, so that none that is deleted is kept here.
  var metered: [MeteredQueue]?
  /// Changes with the queues that there are.
  public private(set) var queueListVersion: UInt64 = 0
  /// By the number under which credit pools know them.
  var byID: [Int: HostedQueue] = [:]
  var nextID = 1
  /// By virtual host.
  var times: [String: QueueTimes] = [:]
  /// Queues whose creation or deletion is on its way into the journal, and who waits for that.
  var changing: [QueueName: [() -> Void]] = [:]
  var formats: [UInt8: any MessageFormat] = [:]
  /// In which messages are made of topics' records.
  var recordFormat: (any MessageFormat)?
  /// Gives records without a key to one partition after the other.
  var keylessRecords = 0
  var random: SeededRandom
  private let clock: ClockReading
  /// The broker's. An unowned reference on the way to the time would be counted up and down with every message.
  let reactor: any Reactor
  var routes = RouteResult()
  var deliveries: [Delivery] = []
  // MARK: this turn
  var touchedQueues: [HostedQueue] = []
  /// Readers of topics, until they are closed.
  var readers: [ObjectIdentifier: StreamConsumer] = [:]
  /// Consumers of topics that belong to share groups.
  var sharers: [ObjectIdentifier: SharedConsumer] = [:]
  var touchedStreams: [StreamConsumer] = []
  var publishersToTell: [QueuePublisher] = []
  var publications = StagedUnit()
  var settlements = StagedUnit()
  var transfers = StagedUnit()
  private var isTurnPlanned = false
  /// Units that found no room and must not be lost.
  /// Bytes of units with dead letters that are on their way into the log.
  var transferBytes = 0
  /// Queues that read the ids they have seen, after a start.
  var rememberingQueues: [HostedQueue] = []
  /// Queues that have dead letters which wait to be read.
  var queuesWithLetters: [ObjectIdentifier: HostedQueue] = [:]
  var delayedUnits: [StagedUnit] = []
  /// Queues that wait for room for their letters; what was settled in them was not taken yet.
  var stillQueues: [ObjectIdentifier: HostedQueue] = [:]
  /// Units with the log, which may make them wait and then refuse them: those that are tried again then, and publications.
  var unitsUnderWay: [StagedUnit] = []
  var isRetrying = false
  // MARK: pressure
  var memoryUsed = 0
  /// A block is being written to disk.
  var isSpilling = false
  /// Another try has been planned.
  var isSpillPlanned = false
  /// Not before then is another one tried.
  var spillAgain = MonotonicTime(nanoseconds: .min)
  /// Bodies of so many bytes or more are written once, however many durable queues they go to; smaller ones are copied, so
  /// that a queue's messages lie together. The default is RabbitMQ's for its message store.
  public var sharedBodySize = 4 << 10
  var sharedBodies = SharedBodies()
  /// Most bytes of memory that queues which are not durable may hold before publishers have to wait. From half of it on
  /// their messages go to disk.
  public var memoryLimit = 512 << 20
  private var watchers: [ObjectIdentifier: (owner: QueueOwner, number: Int, body: (String?) -> Void)] = [:]
  private var nextWatcher = 0
  private var toldPressure: String?
  private var isWatchingPressure = false
  private(set) var isOpen = true

  init(broker: Broker) {
    self.broker = broker
    random = SeededRandom(seed: broker.random.next())
    reactor = broker.reactor
    // Of one moment and to the nanosecond: a run whose clock lay behind the wall clock would be followed by one that
    // delivers what it delayed too early.
    clock = reactor.clocks
  }

  /// Time for queues: it goes on evenly, whatever is done to the wall clock while the program runs.
  var now: Timestamp {
    Timestamp(milliseconds: exactNow.nanoseconds / 1_000_000)
  }

  /// The same time, as fine as the reactor's clock: for figures.
  var exactNow: MonotonicTime {
    exact(reactor.now)
  }

  // In whole numbers: a duration's arithmetic is of 128 bits, and this is asked for with every message.
  private func exact(_ time: MonotonicTime) -> MonotonicTime {
    MonotonicTime(nanoseconds: clock.wallNanoseconds + time.nanoseconds - clock.monotonic.nanoseconds)
  }

  /// The first time of this clock that is not before `delay` ms from now. The clock is read for it and rounded up: the
  /// turn's time may be older than the message that asks.
  func time(afterMilliseconds delay: Int64) -> Timestamp {
    let next = exact(reactor.clocks.monotonic).nanoseconds + 999_999
    return Timestamp(milliseconds: (next / 1_000_000).addingClamped(max(0, delay)))
  }

  /// A time of the wall clock on this clock; none when it has come.
  func due(atWall time: Timestamp) -> Timestamp {
    let wall = reactor.clocks.wallNanoseconds / 1_000_000
    let (wait, overflow) = time.milliseconds.subtractingReportingOverflow(wall)
    return !overflow && wait > 0 ? self.time(afterMilliseconds: wait) : .none
  }

  /// Makes a format known under its number, for messages that were published under it. Records of topics are read in the
  /// first that was registered.
  public func register(_ format: any MessageFormat) {
    formats[format.code] = format
    if recordFormat == nil { recordFormat = format }
  }

  /// The format of a number, nil when none was registered under it.
  public func format(_ code: UInt8) -> (any MessageFormat)? { formats[code] }

  // MARK: Opening and closing

  /// Takes up the durable queues where the last run left them.
  func open() {
    broker.memory.onChange.append { [unowned self] in lookAtPressure() }
    for number in broker.metadata.queues.allNumbers {
      guard let durable = broker.metadata.queues[number] else { continue }
      let definition = durable.definition
      var declaration = QueueDeclaration(
        name: definition.name, virtualHost: definition.virtualHost, isDurable: true,
        isAutoDelete: definition.isAutoDelete, arguments: definition.arguments)
      let arguments: QueueArguments
      do throws(RoutingError) {
        arguments = try QueueArguments(declaration)
      } catch {
        broker.logger.log(
          .error, "queues", "a queue's arguments are not understood; it works without them",
          ["queue": definition.name, "vhost": definition.virtualHost, "error": error.description])
        declaration.arguments = .empty
        arguments = QueueArguments()
      }
      remember(host(declaration, arguments, owner: nil, durable: durable))
    }
  }

  /// Makes a queue that clients can use from now on.
  @discardableResult
  func host(
    _ declaration: QueueDeclaration, _ arguments: QueueArguments, owner: QueueOwner?, durable: DurableQueue? = nil
  ) -> HostedQueue {
    let id = nextID
    nextID += 1
    var logs: [PartitionLog] = []
    var backlog: [LaneBacklog] = []
    for (lane, partition) in (durable?.definition.lanes ?? []).enumerated() {
      guard let log = broker.log.partition(partition) else { continue }
      logs.append(log)
      backlog.append(
        LaneBacklog(
          lane: UInt8(lane), end: log.highWatermark, bytes: durable?.publishedBytes[UInt8(lane)] ?? 0))
    }
    let queue = MessageQueue(
      id: id, options: arguments.options,
      state: durable?.state ?? QueueState(), backlog: backlog, now: now, seed: random.next())
    let hosted = HostedQueue(
      declaration: declaration, arguments: arguments, number: durable?.definition.number,
      logs: logs, owner: owner, queue: queue, times: times(of: declaration.virtualHost), now: exactNow)
    queues[QueueName(virtualHost: declaration.virtualHost, name: declaration.name)] = hosted
    byID[id] = hosted
    if let owner, hosted.isExclusive {
      owner.queues.removeAll { $0.isDeleted }
      owner.queues.append(hosted)
    }
    touched(hosted)
    return hosted
  }

  /// Makes what was settled so far part of the log; nothing happens any more afterwards.
  func close() {
    endTurn()
    isOpen = false
    for hosted in allQueues { hosted.timer?.timer.cancel() }
    watchers = [:]
  }

  // MARK: Turns

  /// The queue has something to do at the end of the turn.
  func touched(_ hosted: HostedQueue) {
    if hosted.isTouched { return }
    hosted.isTouched = true
    hosted.touchedAt = now
    touchedQueues.append(hosted)
    planTurn()
  }

  func planTurn() {
    guard !isTurnPlanned, isOpen else { return }
    isTurnPlanned = true
    broker.reactor.atEndOfTurn { [self] in
      isTurnPlanned = false
      endTurn()
    }
  }

  func tellAtEndOfTurn(_ publisher: QueuePublisher) {
    // The log still ends what it has begun when there are no turns any more.
    guard isOpen else { return publisher.tell() }
    publishersToTell.append(publisher)
    planTurn()
  }

  /// The limit of a pool was changed: the queues that wait for it go on if there is room now.
  public func creditChanged(_ pool: CreditPool) { gaveBack(pool) }

  /// A shared limit may have room again: the queues that waited for it go on.
  func gaveBack(_ pool: CreditPool?) {
    guard let pool else { return }
    for id in pool.takeWaiting() {
      if let hosted = byID[id] { touched(hosted) }
    }
  }

  // MARK: Pressure

  /// Why publishers have to wait, in words for them; nil when they need not.
  public var pressure: String? {
    if broker.log.isSpaceLow { return "low on disk" }
    if broker.memory.isLow { return "low on memory" }
    // Lower to end than to begin, so that it does not flutter.
    let limit = toldPressure == nil ? memoryLimit : memoryLimit / 4 * 3
    return memoryUsed > limit ? "low on memory" : nil
  }

  /// Calls `body` whenever ``pressure`` has changed; nil ends that.
  public func watchPressure(_ owner: QueueOwner, _ body: ((String?) -> Void)?) {
    nextWatcher += 1
    watchers[ObjectIdentifier(owner)] = body.map { (owner, nextWatcher, $0) }
    if body != nil { lookAtPressure() }
  }

  /// The disk's state changes on its own: while anyone wants to know, it is looked at every second.
  func lookAtPressure() {
    let current = pressure
    if current != toldPressure {
      toldPressure = current
      broker.logger.log(
        current == nil ? .info : .warning, "queues",
        current == nil ? "publishers go on" : "publishers have to wait", ["reason": current ?? ""])
      for watcher in watchers.values.sorted(by: { $0.number < $1.number }) { watcher.body(current) }
    }
    guard !watchers.isEmpty, !isWatchingPressure, isOpen else { return }
    isWatchingPressure = true
    broker.reactor.schedule(after: .seconds(1)) { [weak self] in
      guard let self else { return }
      isWatchingPressure = false
      lookAtPressure()
    }
  }

  // MARK: Looking up

  /// All queues, in the order of their making, so that what is done to them has an order.
  var allQueues: [HostedQueue] { byID.sorted { $0.key < $1.key }.map(\.value) }

  func find(_ name: String, in virtualHost: String) -> HostedQueue? {
    queues[QueueName(virtualHost: virtualHost, name: name)]
  }

  /// The queue, if `owner` may use it.
  /// - Throws: 404, 405, 530.
  func usable(_ name: String, in virtualHost: String, by owner: QueueOwner?) throws(RoutingError) -> HostedQueue {
    guard let hosted = find(name, in: virtualHost) else {
      guard hasVirtualHost(virtualHost) else {
        throw RoutingError.noVirtualHost(virtualHost)
      }
      throw RoutingError(.notFound, "no queue '\(name)' in vhost '\(virtualHost)'")
    }
    try checkOwner(of: hosted, owner)
    return hosted
  }

  func checkOwner(of hosted: HostedQueue, _ owner: QueueOwner?) throws(RoutingError) {
    guard hosted.isExclusive, hosted.owner == nil || hosted.owner !== owner else { return }
    throw RoutingError(
      .resourceLocked,
      "cannot obtain exclusive access to locked queue '\(hosted.name)' in vhost '\(hosted.virtualHost)'. It could be "
        + "originally declared on another connection or the exclusive property value does not match that of the "
        + "original declaration.")
  }
}
