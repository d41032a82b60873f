// FaultPlan: which faults and which clients a run has, drawn from its seed, so that runs differ in kind and not only in detail.

import MillraceBase
import MillraceCompression

/// What a run may suffer. Most runs have a few of these, so that each is also seen without the others.
struct FaultPlan {
  /// Formats that producers compress with; nil stands for none.
  var codecs: [CompressionFormat?] = [nil]
  /// Chance of an answer to be lost on its way: the connection is cut between the commit and its answer.
  var answerLoss = 0.0
  /// Clients give connections up that still carry what was sent, and send it again over another one.
  var leavesConnections = false
  /// Producers begin a new epoch, and an old instance goes on sending with the old one.
  var hasZombies = false
  /// Bytes that the disk has at first.
  var diskCapacity: Int64?
  /// Space comes back while the broker runs, not only when it starts.
  var spaceComesBack = false
  var failsWrites = false
  var failsFlushes = false
  var failsReads = false
  /// Disk operations take up to 50 ms.
  var hasSlowDisk = false
  /// The wall clock is set, forwards and backwards.
  var jumpsClock = false
  /// Chance of each delivery to find the connection cut, and to be held up.
  var cuts = 0.0
  var stalls = 0.0
  /// Members of a classic group; 0 for none.
  var members = 0
  /// Members of a group of the consumer protocol; 0 for none.
  var consumerMembers = 0
  /// Members of a share group; 0 for none.
  var sharers = 0
  /// Producers of transactions; 0 for none.
  var transactionalClients = 0
  /// Clients that read, write and commit offsets in transactions; 0 for none.
  var transformers = 0
  /// A stream job counts what producers write.
  var hasJob = false
  /// AMQP clients work on queues.
  var hasQueues = false
  /// A topic that is compacted or expires.
  var cleanup: CleanupPlan?

  init(_ random: inout SeededRandom) {
    if random.oneIn(3) { codecs = Array(CompressionFormat.allCases) + [nil] }
    if random.oneIn(4) { answerLoss = 0.02 }
    leavesConnections = random.oneIn(3)
    hasZombies = random.oneIn(4)
    if random.oneIn(8) {
      diskCapacity = Int64.random(in: 200_000...600_000, using: &random)
      spaceComesBack = random.oneIn(2)
    }
    switch Int.random(in: 0..<24, using: &random) {
    case 0...2: failsWrites = true
    case 3...4: failsFlushes = true
    case 5: failsReads = true
    case 6: hasSlowDisk = true
    default: break
    }
    jumpsClock = random.oneIn(4)
    if random.oneIn(4) { cuts = 0.002 }
    if random.oneIn(6) { stalls = 0.004 }
    if random.oneIn(3) { members = Int.random(in: 2...4, using: &random) }
    hasJob = random.oneIn(4)
    if random.oneIn(3) { transactionalClients = Int.random(in: 1...3, using: &random) }
    if random.oneIn(4) { consumerMembers = Int.random(in: 2...4, using: &random) }
    if random.oneIn(4) { transformers = Int.random(in: 1...2, using: &random) }
    if random.oneIn(4) {
      cleanup = CleanupPlan(&random)
      // A tombstone is given its time by a clock that may be far behind.
      if jumpsClock { cleanup?.rules.deleteRetention = 0 }
    }
    if random.oneIn(3) { sharers = Int.random(in: 1...4, using: &random) }
    hasQueues = random.oneIn(3)
    // Half of the worlds with queues have little else, so that there can be more of them.
    if hasQueues, random.oneIn(2) { leaveOutClients() }
  }

  private mutating func leaveOutClients() {
    members = 0
    consumerMembers = 0
    sharers = 0
    transactionalClients = 0
    transformers = 0
    hasJob = false
    cleanup = nil
  }

  /// Keeps the clients that a rule is about, and no faults of the disk.
  mutating func narrow(to rule: Rule, _ random: inout SeededRandom) {
    leaveOutClients()
    hasQueues = false
    failsReads = false
    hasSlowDisk = false
    switch rule {
    case .groupOwnership, .groupOffsets:
      if random.oneIn(2) { members = 3 } else { consumerMembers = 3 }
    case .delivery: consumerMembers = 3
    case .sharedOnce, .sharedDelivery: sharers = 3
    case .jobCounts: hasJob = true
    case .transactionHistory: transactionalClients = 2
    case .cleanupKeeps, .cleanupShows: cleanup = CleanupPlan(&random)
    case .transformations: transformers = 1
    case .queueMessages, .queueSettlements, .queueOrder, .queueDuplicates, .queueTransactions, .queueDelays,
      .queueDeadLetters, .queueDeliveryCounts, .queueGroups, .queueTopology:
      hasQueues = true
    case .acknowledgedRecords, .producerOrder, .fencedEpochs, .stableReads, .loneOffsets, .topics, .starting, .progress,
      .answers:
      break
    }
  }
}
