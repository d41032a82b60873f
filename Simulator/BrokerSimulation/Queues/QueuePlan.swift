// QueuePlan: which queues a run has, and who works on them, drawn from its seed.

import MillraceAMQPProtocol
import MillraceBase

/// A queue with rules of its own, and where its messages may get to: each is in one of these places.
struct QueueFamily {
  /// What is special about it.
  enum Kind: String, CaseIterable {
    case plain
    /// Four priorities.
    case priorities
    /// Of type quorum, with a delivery limit and dead letters.
    case quorum
    /// One of two behind a fanout exchange; what goes past that into the first gives its messages other offsets.
    case fanned
    /// Behind an exchange that delays.
    case delayed
    /// Recognises what is published again.
    case deduplicating
    /// Refuses publications when it is full.
    case limited
    /// Drops its head when it is full, into its dead letters.
    case dropping
    /// Messages expire into its dead letters.
    case expiring
    /// One message of a key at a time.
    case grouped
    /// What is returned waits.
    case retrying
    /// A topic.
    case logged
  }

  let kind: Kind
  let name: String
  var exchange = ""
  var arguments: AMQPFieldTable
  /// Where rejected and other dead letters go.
  var dead: String?
  /// Where `move` takes messages, and takes them from.
  var parked: String?
  var deliveryLimit: Int?
  /// What is returned waits at least so long.
  var retryDelay: Duration?
  /// Dead letters are moved back.
  var isRedriven = false
  var consumers = 1

  /// Its queues, the one that is published to first.
  var places: [String] { [name] + [dead, parked].compactMap { $0 } }

  /// Whether what is delivered for the first time comes in the order of publication, within a lane.
  var isOrdered: Bool {
    switch kind {
    case .delayed, .retrying: false
    case .plain, .priorities, .quorum, .fanned, .deduplicating, .limited, .dropping, .expiring, .grouped, .logged:
      parked == nil && !isRedriven
    }
  }

  /// Reasons for which its messages may be dead.
  var reasons: Set<String> {
    switch kind {
    case .quorum: ["rejected", "delivery_limit"]
    case .dropping: ["rejected", "maxlen"]
    case .expiring: ["rejected", "expired"]
    case .limited: ["rejected", "maxlen"]
    default: ["rejected"]
    }
  }
}

/// What the AMQP side of a run consists of.
struct QueuePlan {
  /// How a publisher hears of what it has published.
  enum Promises: CaseIterable {
    case confirms, orderlyCloses, transactions
  }

  static let delayingExchange = "later"
  static let fanout = "fan"
  static let topicExchange = "to-topic"
  static let topic = "queue-log"

  private(set) var families: [QueueFamily] = []
  var publishers: [Promises] = []
  /// Movers between two queues in transactions.
  var movers = 0
  /// A client makes and deletes queues.
  var hasPassing = false
  /// Messages are moved through the library's calls.
  var hasCarrier = false
  /// Consumers settle in transactions.
  var usesTransactions = false
  /// Bodies of so many bytes or more are written once for all of their queues.
  var sharedBodySize = 1

  init(_ random: inout SeededRandom, focus: Rule? = nil) {
    var kinds = QueueFamily.Kind.allCases.filter { random.oneIn($0 == .fanned ? 2 : 4) }
    sharedBodySize = [1, 100, 4096][Int.random(in: 0..<3, using: &random)]
    hasCarrier = random.oneIn(3)
    usesTransactions = random.oneIn(4)
    movers = random.oneIn(3) ? Int.random(in: 1...3, using: &random) : 0
    hasPassing = random.oneIn(3)
    publishers = (0..<Int.random(in: 1...3, using: &random)).map { _ in
      Promises.allCases[min(2, Int.random(in: 0..<4, using: &random)) % 3]
    }
    if let focus { narrow(to: focus, &kinds) }
    if kinds.isEmpty, movers == 0, !hasPassing { kinds = [.plain] }
    if kinds.isEmpty { publishers = [] }
    for kind in kinds { add(kind, &random) }
  }

  private mutating func narrow(to rule: Rule, _ kinds: inout [QueueFamily.Kind]) {
    movers = 0
    hasPassing = false
    hasCarrier = false
    usesTransactions = false
    publishers = [.confirms]
    kinds = [.plain]
    switch rule {
    case .queueTransactions:
      movers = 2
      publishers = [.confirms, .transactions]
    case .queueMessages:
      kinds = [.plain, .fanned]
      sharedBodySize = 1
    case .queueDeadLetters: kinds = [.quorum, .expiring]
    case .queueDeliveryCounts: kinds = [.quorum]
    case .queueDelays: kinds = [.delayed]
    case .queueDuplicates: kinds = [.deduplicating, .plain]
    case .queueGroups: kinds = [.grouped]
    case .queueOrder: kinds = [.priorities, .plain]
    case .queueTopology:
      hasPassing = true
      kinds = []
    default: break
    }
  }

  private mutating func add(_ kind: QueueFamily.Kind, _ random: inout SeededRandom) {
    if kind == .fanned {
      for name in ["fanned-a", "fanned-b"] {
        families.append(QueueFamily(kind: kind, name: name, exchange: QueuePlan.fanout, arguments: [:]))
      }
      return
    }
    var family = QueueFamily(kind: kind, name: kind.rawValue, arguments: [:])
    var arguments: [(String, AMQPValue)] = []
    func dies() {
      family.dead = "\(kind.rawValue)-dead"
      arguments += [
        ("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", .string("\(kind.rawValue)-dead")),
      ]
      if random.oneIn(2) { arguments.append(("x-dead-letter-strategy", "at-least-once")) }
      family.isRedriven = hasCarrier && random.oneIn(2)
    }
    switch kind {
    case .plain: if random.oneIn(2) { dies() }
    case .priorities: arguments.append(("x-max-priority", 3))
    case .quorum:
      let limit = Int.random(in: 0...4, using: &random)
      family.deliveryLimit = limit
      arguments += [("x-queue-type", "quorum"), ("x-delivery-limit", .int64(Int64(limit)))]
      dies()
    case .delayed: family.exchange = QueuePlan.delayingExchange
    case .deduplicating: arguments.append(("x-deduplication-count", 10_000))
    case .limited:
      arguments.append(("x-max-length", .int64(Int64.random(in: 1...20, using: &random))))
      let isLasting = random.oneIn(2)
      arguments.append(("x-overflow", isLasting ? "reject-publish-dlx" : "reject-publish"))
      if isLasting {
        family.dead = "limited-dead"
        arguments += [("x-dead-letter-exchange", ""), ("x-dead-letter-routing-key", "limited-dead")]
      }
    case .dropping:
      dies()
      arguments.append(("x-max-length", .int64(Int64.random(in: 1...30, using: &random))))
    case .expiring:
      dies()
      arguments.append(("x-message-ttl", .int64(Int64.random(in: 0...200, using: &random))))
    case .grouped: arguments.append(("x-group-by", "key"))
    case .retrying:
      let delay = Int64.random(in: 1...60, using: &random)
      family.retryDelay = .milliseconds(delay)
      arguments.append(("x-retry-delay", .int64(delay)))
      if random.oneIn(2) { arguments.append(("x-retry-growth", "exponential")) }
    case .logged: family.exchange = QueuePlan.topicExchange
    case .fanned: break
    }
    if hasCarrier, kind == .plain || kind == .priorities, random.oneIn(2) { family.parked = "\(kind.rawValue)-parked" }
    // Topics are read at the end alone.
    family.consumers = kind == .logged ? 0 : Int.random(in: random.oneIn(4) ? 0...0 : 1...3, using: &random)
    family.arguments = AMQPFieldTable(arguments)
    families.append(family)
  }
}
