// Plants: what every rule, and every promise of the disk that an invariant rests on, has to notice.
//
// In a release build, because each takes some runs of the whole broker: `Simulator plants`, part of `make simulate`.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import TransactionHistory

/// What is broken on purpose, to see that it is noticed.
public enum Plants {
  private static let allPartitions: [TopicPartition] = [
    .init("steady-0", 0), .init("steady-0", 1), .init("steady-1", 0),
  ]

  /// What is planted against each rule. A rule without anything does not compile.
  static func plants(_ rule: Rule) -> [(inout Sabotage) -> Void] {
    switch rule {
    case .acknowledgedRecords:
      [
        { $0.log = { _, log in if !log.isEmpty { log.removeLast() } } },
        { $0.log = { _, log in if log.count > 1 { log.swapAt(0, log.count - 1) } } },
        { $0.log = { _, log in if let last = log.last { log.insert(last, at: 0) } } },
        { sabotage in
          sabotage.ledger = {
            $0.acknowledged(allPartitions[0], producer: 0, number: 1_000_000, count: 1, at: 1_000_000)
          }
        },
      ]
    case .producerOrder: [{ $0.log = { _, log in if let last = log.last { log.append(last) } } }]
    case .fencedEpochs: [{ $0.log = { _, log in log.append(RecordName(producer: 1000, number: 1)) } }]
    case .stableReads: [{ $0.highWatermark = { $0 % 7 } }]
    case .loneOffsets: [{ $0.loneOffset = { _ in 123_456 } }]
    case .groupOwnership:
      [
        { sabotage in
          sabotage.assignment = { _ in
            ConsumerProtocolAssignment([ConsumerTopicPartitions(topic: "steady-0", partitions: [0, 1])]).encoded(
              version: 0)
          }
        },
        { $0.consumerAssignment = { _ in Set(allPartitions) } },
      ]
    case .groupOffsets:
      [
        { $0.committedOffset = { _ in -1 } }, { $0.committedOffset = { $0 > 0 ? $0 + 1 : $0 } },
        { $0.committedOffset = { $0 > 0 ? $0 - 1 : $0 } },
      ]
    case .delivery:
      [
        {
          $0.consumerAssignment = { $0.filter { $0.topic != "steady-1" } }
          $0.patience = 150_000
        }
      ]
    case .sharedOnce:
      [{ $0.acquired = { max(0, $0.lowerBound - 1)...$0.upperBound } }]
    case .sharedDelivery:
      [
        {
          $0.sharedEnd = { $0 + 1 }
          $0.patience = 150_000
        }
      ]
    case .topics: [{ $0.revivesTopics = true }]
    case .jobCounts: [{ $0.count = { $0 / 2 } }, { $0.count = { $0 + 1 } }]
    case .transactionHistory:
      [
        { $0.history = { history in for (list, values) in history.final { history.final[list] = values + values } } },
        { sabotage in
          sabotage.history = { history in
            for transaction in history.transactions where transaction.outcome == .committed {
              for append in transaction.appends { history.final[append.list]?.removeAll { $0 == append.value } }
            }
            history.observations = []
          }
        },
        { sabotage in
          sabotage.history = { history in
            for transaction in history.transactions where transaction.outcome == .aborted {
              for append in transaction.appends { history.final[append.list]?.append(append.value) }
            }
          }
        },
      ]
    case .cleanupKeeps:
      [
        { sabotage in
          sabotage.keyed = { _, reading in
            if let newest = reading.records.keys.max() { reading.records[newest] = nil }
          }
        }
      ]
    case .cleanupShows:
      [
        { sabotage in
          sabotage.keyed = { _, reading in
            for offset in reading.records.keys { reading.records[offset]?.key += 1 }
          }
        }
      ]
    case .transformations:
      [
        { $0.outputs = { outputs in for index in outputs.indices { _ = outputs[index].popLast() } } },
        { $0.outputs = { outputs in outputs[0] += outputs[0].suffix(1) } },
      ]
    case .queueMessages, .queueSettlements, .queueOrder, .queueDuplicates, .queueTransactions, .queueDelays,
      .queueDeadLetters, .queueDeliveryCounts, .queueGroups, .queueTopology:
      queuePlants(rule)
    case .starting: [{ $0.disk = { FaultyFileSystem($0, .flipsBits("")) } }]
    case .progress:
      [
        {
          $0.losesAllAnswers = true
          $0.patience = 20_000
        }
      ]
    case .answers: [{ $0.frame = { $0[0..<($0.count - 1)] } }]
    }
  }

  /// Promises of the disk that an invariant of ARCHITECTURE.md rests on, broken.
  static let lies: [(invariant: Int, lie: FaultyFileSystem.Lie)] = [
    (1, .losesUnflushed("")), (2, .tearsWrites), (4, .losesUnflushed(".segment")), (5, .swallowsFailures(every: 40)),
    (7, .flipsBits(".segment")),
  ]

  /// What one plant is called, and what is wrong when it is not noticed.
  public struct Plant: Sendable {
    /// The rule and the plant's number, or the invariant.
    public let name: String
    /// Plants it and runs the broker; why it was not noticed, nil when it was.
    public let problem: @Sendable () -> String?

    init(_ name: String, _ problem: @escaping @Sendable () -> String?) {
      self.name = name
      self.problem = problem
    }
  }

  /// All of them.
  public static var all: [Plant] {
    Rule.allCases.flatMap { rule in
      plants(rule).indices.map { number in
        Plant("\(rule.rawValue), plant \(number)") { isNoticed(rule, number) ? nil : "nobody notices it" }
      }
    } + lies.indices.map { index in Plant("invariant \(lies[index].invariant)") { brokenInvariant(index) } }
  }

  /// Whether the rule notices one of its plants, within 20 seeds.
  static func isNoticed(_ rule: Rule, _ number: Int) -> Bool {
    isNoticed(rule, plants(rule)[number])
  }

  /// Whether the rule notices what is planted, within 20 seeds.
  public static func isNoticed(_ rule: Rule, _ plant: (inout Sabotage) -> Void) -> Bool {
    var sabotage = Sabotage()
    sabotage.focus = rule
    plant(&sabotage)
    return (1...20).contains { seed in
      BrokerScenario(seed: seed, sabotage: sabotage).run().brokenRules.contains(rule)
    }
  }

  private static func brokenInvariant(_ index: Int) -> String? {
    var sabotage = Sabotage()
    sabotage.focus = .acknowledgedRecords
    let lie = lies[index].lie
    sabotage.disk = { FaultyFileSystem($0, lie) }
    var noticed: Set<Rule> = []
    for seed: UInt64 in 1...30 where noticed.isEmpty {
      noticed.formUnion(BrokerScenario(seed: seed, sabotage: sabotage).run().brokenRules)
    }
    if noticed.isEmpty { return "a disk under which it cannot hold is not noticed" }
    // What is read wrong is refused, never served.
    if lies[index].invariant == 7, !noticed.isSubset(of: [.answers, .starting, .progress, .delivery]) {
      return "what is read wrong is served: \(noticed)"
    }
    return nil
  }
}
