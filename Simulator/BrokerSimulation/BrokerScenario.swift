// BrokerScenario: one simulated life of a broker: clients at work, crashes, restarts, and the reckoning at the end.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaServer
import MillraceLog
import MillraceModel
import MillraceSimulation
import TransactionHistory

/// What a run came to.
public struct Outcome: Sendable {
  /// What it follows from.
  public var seed: UInt64
  /// Rules that were broken; none when all is well.
  public var violations: [String] = []
  /// What each violation is against.
  public var brokenRules: [Rule] = []
  /// Equal for two runs of the same seed.
  public var traceHash: UInt64 = 0
  /// The last things that happened.
  public var notes: [String] = []
  /// The broker's last warnings and errors.
  public var warnings: [String] = []
  /// What happened how often, to see that the runs reach what they should.
  public var counts: [String: Int] = [:]
}

/// One run. Everything in it follows from its seed.
public final class BrokerScenario {
  let seed: UInt64
  let world: SimulatedWorld
  let address = SocketAddress(host: "127.0.0.1", port: 9092)
  var random: SeededRandom
  var ledger = Ledger()
  var counts: [String: Int] = [:]
  let logLines = LogLines()
  let sabotage: Sabotage
  var plan: FaultPlan
  /// What the members of the run's group were told.
  var group = GroupLedger(group: GroupMember.group)
  /// The same for the group of the consumer protocol.
  var consumerGroup = GroupLedger(group: ConsumerMember.group)
  /// What the members of the share group were given.
  var share = ShareLedger()
  /// What the transformers were promised.
  var transform = TransformLedger()
  /// Names of the topics that were there from the beginning.
  private(set) var topicNames: [TopicID: String] = [:]
  /// Nothing fails any more, and no client does anything but its work.
  var isCalm = false
  private(set) var zombie: Zombie?
  private(set) var job: CountingJob?
  var members: [GroupMember] = []
  var consumerMembers: [ConsumerMember] = []
  var sharers: [SharingMember] = []
  let transactions = TransactionLedger()
  var transactionalClients: [TransactionalClient] = []
  private var committedReaders: [CommittedReader] = []
  var cleanup: CleanupState?
  var keyedClients: [KeyedClient] = []
  private var keyedReaders: [KeyedReader] = []
  var transformers: [TransformClient] = []
  var disk: SimulatedFileSystem
  var machine: BrokerMachine?
  private var producerIDs: Set<Int64> = []
  private var configuration: LogConfiguration
  /// What the data directory is encrypted with, if it is.
  private var keys: KeyRing?
  let partitions: [TopicPartition]
  var producers: [ProducingClient] = []
  private var consumers: [ConsumingClient] = []
  var topics: TopicClient?
  /// The AMQP side.
  private(set) var queues: QueueWorkload?
  /// How far the wall clock was set, in seconds.
  private var clockOffset = 0
  /// The latest that the wall clock was before it was set, in ms.
  private var latestBefore = Int64.min

  /// A run that has not begun.
  public init(seed: UInt64, sabotage: Sabotage = Sabotage()) {
    self.seed = seed
    self.sabotage = sabotage
    world = SimulatedWorld(seed: seed)
    random = SeededRandom(seed: seed ^ 0x5ce7_a210)
    disk = SimulatedFileSystem(world: world)
    configuration = LogConfiguration(directory: "/var/data")
    configuration.journalFileSize = [32, 64, 128][Int.random(in: 0..<3, using: &random)] << 10
    configuration.firstJournalFileSize = random.oneIn(2) ? 16 << 10 : 32 << 10
    configuration.journalFileLimit = Int.random(in: 2...9, using: &random)
    configuration.hotTailSize = [16, 64, 256][Int.random(in: 0..<3, using: &random)] << 10
    configuration.commitSize = [1, 8, 32][Int.random(in: 0..<3, using: &random)] << 10
    configuration.writeDepth = Int.random(in: 1...4, using: &random)
    configuration.largestUnit = 64 << 10
    configuration.segmentBlockSize = [512, 4096, 65536][Int.random(in: 0..<3, using: &random)]
    configuration.compactedSegmentSize = [4, 32, 1024][Int.random(in: 0..<3, using: &random)] << 10
    configuration.idleHeaderDelay = Int64.random(in: 1...100, using: &random)
    partitions = [0, 1, 2].flatMap { index in [TopicPartition("steady-\(index % 2)", Int32(index / 2))] }
    plan = FaultPlan(&random)
    if let focus = sabotage.focus { plan.narrow(to: focus, &random) }
    // Drawn apart, so that all else in a seed's run is what it would be without.
    var apart = SeededRandom(seed: seed ^ 0xe2c4_9f17)
    if apart.oneIn(4) {
      keys = KeyRing(.random())
      count("encrypted worlds")
    }
    world.network.cutProbability = plan.cuts
    world.network.stallProbability = plan.stalls
    if plan.hasQueues {
      queues = QueueWorkload(self, seed: seed)
      // What queues hand over at once must fit.
      configuration.largestUnit = 8 << 20
    }
    sabotage.configuration(&configuration)
  }

  /// Whether reading may fail because the disk was told to.
  var mayFailReads: Bool { plan.failsReads }

  /// The latest that the wall clock has been, in ms.
  var latestWallClock: Int64 { max(latestBefore, world.wallClock.milliseconds) }

  /// Notes what a history's check found.
  func note(_ problem: String?, _ rule: Rule) {
    if let problem { ledger.violate(problem, rule) }
  }

  func count(_ what: String, _ number: Int = 1) { counts[what, default: 0] += number }

  func gave(producerID: Int64) {
    if !producerIDs.insert(producerID).inserted {
      ledger.violate("producer id \(producerID) was given out twice", .fencedEpochs)
    }
  }

  /// Runs everything.
  public func run() -> Outcome {
    life()
    var outcome = Outcome(seed: seed)
    outcome.violations = ledger.violations
    outcome.brokenRules = ledger.brokenRules
    outcome.traceHash = world.traceHash
    outcome.notes = world.notes
    count("events", world.eventCount)
    count("disk operations", world.diskOperations)
    count("records acknowledged", ledger.acknowledgedRecords)
    count("records read", ledger.readRecords)
    count("offsets committed", ledger.acknowledgedCommits)
    count("torn tails", logLines.tornTails)
    count("deliveries held up", world.network.stallCount)
    count("offsets committed by members", group.acknowledgedCommits)
    count("clean hand-overs", group.cleanHandOvers)
    count("offsets committed by consumers", consumerGroup.acknowledgedCommits)
    count("clean hand-overs of consumers", consumerGroup.cleanHandOvers)
    count("records given to sharers", share.given)
    count("transformations committed", transform.acknowledgedCommits)
    outcome.counts = counts
    outcome.warnings = logLines.warnings
    for client in clients { client.stop() }
    queues?.stop()
    world.tearDown()
    machine = nil
    letGo()
    return outcome
  }

  /// Clients know their run: without this a run would never be given back, and many runs fill the memory.
  private func letGo() {
    producers = []
    consumers = []
    members = []
    consumerMembers = []
    sharers = []
    transactionalClients = []
    committedReaders = []
    keyedClients = []
    keyedReaders = []
    transformers = []
    cleanup = nil
    topics = nil
    zombie = nil
    job = nil
    queues = nil
  }

  var clients: [SimulatedClient] {
    producers as [SimulatedClient] + consumers + members + consumerMembers + sharers + transactionalClients
      + committedReaders
      + keyedClients + keyedReaders + transformers + [topics, zombie].compactMap { $0 }
  }

  var isBroken: Bool { !ledger.violations.isEmpty }

  private func life() {
    disk = prepared()
    guard start(crashing: false), createTopics() else { return }
    makeClients()
    for client in clients { client.start() }
    queues?.start()
    let crashes = Int.random(in: 1...4, using: &random)
    for _ in 0..<crashes where !isBroken {
      work()
      if isBroken { return }
      end()
      guard start(crashing: random.oneIn(3)) else { return }
    }
    reckon()
  }

  /// The directory that holds the data directory is there, durably, before the broker comes.
  private func prepared() -> SimulatedFileSystem {
    do throws(IOError) {
      try disk.createDirectory("/var")
      try disk.syncDirectory("/")
    } catch {
      ledger.violate("the disk cannot be prepared: \(error)", .starting)
    }
    if let capacity = plan.diskCapacity { disk.capacity = capacity }
    return disk
  }

  private func encrypted(_ disk: any FileSystem) -> any FileSystem {
    keys.map { EncryptedFileSystem(disk, keys: $0) } ?? disk
  }

  /// Starts the machine; with `crashing`, power fails some disk operations into the start, perhaps again and again.
  /// - Returns: false when the broker refused to start.
  func start(crashing: Bool) -> Bool {
    var crashing = crashing
    while true {
      if crashing { world.crashAfterOperations(Int.random(in: 1...12, using: &random)) }
      let started: BrokerMachine
      do throws(BrokerError) {
        started = try BrokerMachine(self, configuration, encrypted(sabotage.disk(disk)), seed: random.next())
      } catch {
        guard world.isCrashed else {
          // A full disk may refuse the start in order; nothing else may.
          if plan.diskCapacity != nil, disk.capacity < 1 << 40, error.code == .storage {
            count("starts refused for want of space")
            disk.capacity = 1 << 40
            continue
          }
          ledger.violate("the broker does not start: \(error)", .starting)
          return false
        }
        count("crashes while starting")
        reboot()
        crashing = random.oneIn(2)
        continue
      }
      machine = started
      checkSizes("after a start")
      if crashing {
        // Power may fail a little later, in what the start has set going.
        world.run(for: .milliseconds(30))
        if world.isCrashed {
          count("crashes after starting")
          reboot()
          crashing = random.oneIn(2)
          continue
        }
        world.crashAfterOperations(nil)
      }
      return true
    }
  }

  private func reboot() {
    checkSizes("at the end of a life")
    job?.machineStops()
    world.restart()
    machine = nil
    disk = disk.reopen()
  }

  private func createTopics() -> Bool {
    guard let machine else { return false }
    var names = [("steady-0", 2), ("steady-1", 1)]
    if plan.hasJob { names.append((CountingJob.output, 2)) }
    if plan.transactionalClients > 0 { names.append((TransactionLedger.topic, TransactionLedger.partitions)) }
    if plan.transformers > 0 { names.append((TransformClient.output, TransformClient.outputs)) }
    if plan.cleanup != nil { names.append((CleanupPlan.topic, CleanupPlan.partitions)) }
    names += (queues?.topics ?? []).map { ($0, 1) }
    var left = names.count
    for (name, count) in names {
      // Whatever the clock says, nothing grows old.
      var configs = ["retention.ms": "-1"]
      if name == CleanupPlan.topic, let cleanup = plan.cleanup { configs = cleanup.configs }
      machine.broker.createTopic(name, partitions: count, configs: configs) { [self] result in
        switch result {
        case .success(let topic): topicNames[topic.id] = name
        case .failure(let error): ledger.violate("topic \(name) cannot be created: \(error)")
        }
        left -= 1
      }
    }
    if plan.sharers > 0 {
      left += 1
      machine.broker.configure(
        ConfigResource(.group, SharingMember.group), ["share.auto.offset.reset": "earliest"]
      ) { [self] error in
        if let error { ledger.violate("the share group cannot be configured: \(error)") }
        left -= 1
      }
    }
    world.run { left == 0 }
    if left == 0 { queues?.declare(machine.broker.queues) }
    return left == 0 && !isBroken
  }

  private func makeClients() {
    for id in 0..<Int.random(in: 1...3, using: &random) {
      let count = Int.random(in: 1...partitions.count, using: &random)
      producers.append(
        ProducingClient(
          self, id: id, partitions: Array(partitions.shuffled(using: &random).prefix(count)),
          batches: Int.random(in: 20...120, using: &random)))
    }
    for index in 0..<Int.random(in: 1...2, using: &random) {
      consumers.append(ConsumingClient(self, group: "group-\(index)", partitions: partitions))
    }
    if random.oneIn(2) { topics = TopicClient(self, id: 9, rounds: Int.random(in: 1...5, using: &random)) }
    if plan.hasZombies { zombie = Zombie(self) }
    for id in 0..<plan.members { members.append(GroupMember(self, id: id, partitions: partitions)) }
    for id in 0..<plan.consumerMembers {
      consumerMembers.append(ConsumerMember(self, id: id, partitions: partitions))
    }
    for id in 0..<plan.sharers { sharers.append(SharingMember(self, id: id, partitions: partitions)) }
    if plan.hasJob { job = CountingJob(self) }
    for index in 0..<plan.transactionalClients {
      // Two may share an id, and put each other out.
      let id = random.oneIn(2) ? "shared" : "own-\(index)"
      transactionalClients.append(
        TransactionalClient(
          self, id: id, ledger: transactions, transactions: Int.random(in: 3...15, using: &random)))
    }
    if plan.transactionalClients > 0 {
      for _ in 0..<2 { committedReaders.append(CommittedReader(self, ledger: transactions)) }
    }
    let isShared = random.oneIn(2)
    for index in 0..<plan.transformers {
      let own = partitions.indices.filter { $0 % plan.transformers == index }.map { partitions[$0] }
      transformers.append(
        TransformClient(
          self, id: isShared ? "transform" : "transform-\(index)", inputs: isShared ? partitions : own, all: partitions,
          yields: isShared && index > 0))
    }
    if let rules = plan.cleanup {
      let state = CleanupState(rules)
      cleanup = state
      for index in 0..<Int.random(in: 1...2, using: &random) {
        let batches = Int.random(in: 30...120, using: &random)
        keyedClients.append(KeyedClient(self, id: 3000 + index, state: state, batches: batches))
      }
      keyedReaders.append(KeyedReader(self, state: state))
    }
  }

  /// Lets everybody work until it is time for the machine to end.
  private func work() {
    if random.oneIn(2) { world.crashAfterOperations(Int.random(in: 1...150, using: &random)) }
    if plan.failsWrites { disk.faults.writeFailureProbability = 0.01 }
    if plan.failsFlushes { disk.faults.flushFailureProbability = 0.05 }
    if plan.failsReads { disk.faults.readFailureProbability = 0.02 }
    // Members need time to fall silent, to be missed and to come back.
    let longest = plan.members + plan.consumerMembers > 0 && random.oneIn(2) ? 1500 : 400
    let until = world.now + .milliseconds(Int.random(in: 5...longest, using: &random))
    while world.now < until, goesOn {
      world.run(for: .milliseconds(5))
      checkSizes("at work")
      disturb()
      if goesOn { job?.turn(machine?.broker) }
      if goesOn { queues?.turn(machine?.broker) }
    }
    disk.faults = DiskFaults()
    world.crashAfterOperations(nil)
    if let capacity = plan.diskCapacity, random.oneIn(2) { disk.capacity += capacity }
  }

  private var goesOn: Bool { !world.isCrashed && !isBroken && machine?.hasFailed != true }

  /// What the surroundings do meanwhile.
  private func disturb() {
    if plan.jumpsClock, random.oneIn(10) {
      // Never by as much as a producer may be silent.
      setClock(to: Int.random(in: -36_000...36_000, using: &random))
      count("clock jumps")
    }
    if let capacity = plan.diskCapacity, plan.spaceComesBack, disk.capacity < 1 << 40, random.oneIn(20) {
      disk.capacity += capacity
      count("times space came back")
    }
  }

  /// Sets the wall clock, in seconds from what it would be.
  func setClock(to target: Int) {
    latestBefore = latestWallClock
    world.jumpWallClock(by: .seconds(target - clockOffset))
    clockOffset = target
  }

  /// Ends the machine: it has lost power already, or loses it now, or is killed, or stops in order.
  func end() {
    if world.isCrashed {
      count("power losses in a disk operation")
    } else if machine?.hasFailed == true {
      count("stops after a failed write")
      world.crash(.processKill)
    } else {
      switch Int.random(in: 0..<4, using: &random) {
      case 0, 1:
        count("power losses")
        world.crash(.powerLoss)
      case 2:
        count("kills")
        world.crash(.processKill)
      default: closeInOrder()
      }
    }
    reboot()
  }

  private func closeInOrder() {
    count("orderly stops")
    if random.oneIn(4) { world.crashAfterOperations(Int.random(in: 1...10, using: &random)) }
    job?.machineStops()
    var isClosed = false
    var problem: BrokerError?
    machine?.close { error in
      isClosed = true
      problem = error
    }
    world.run(atMost: 2_000_000) { isClosed }
    world.crashAfterOperations(nil)
    guard !world.isCrashed else { return }
    if !isClosed { ledger.violate("the broker does not stop", .progress) }
    if let problem { ledger.violate("the broker stops with an error: \(problem)", .starting) }
    if random.oneIn(2) { world.crash(.powerLoss) }
  }
}
