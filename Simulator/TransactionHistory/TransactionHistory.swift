// TransactionHistory: what clients did in transactions and what readers saw, as values, without a broker.
//
// Transactions append unique values to lists; a list is a partition, read by consumers that see committed records only.
// From a list that was read as a whole follows the order of its appends, and from that which histories cannot be. After
// Kingsbury and Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations", 2020.

/// How a transaction ended, as far as its client knows.
public enum TransactionOutcome: Sendable, Equatable {
  /// The commit was acknowledged.
  case committed
  /// The abort was acknowledged, or the client was fenced before it asked for a commit.
  case aborted
  /// The commit was asked for, and its answer never came.
  case unknown
}

/// A value appended to a list.
public struct Append: Hashable, Sendable {
  /// The list.
  public var list: String
  /// Unique in the whole history.
  public var value: Int

  /// An append.
  public init(_ list: String, _ value: Int) {
    self.list = list
    self.value = value
  }
}

/// One transaction.
public struct TransactionEntry: Sendable {
  /// Who ran it: a transactional id, whose transactions follow each other.
  public var process: String
  /// Its place among the transactions of its process.
  public var number: Int
  /// What it appended, in order; also what was refused or not answered.
  public var appends: [Append] = []
  /// The last value that it read of each list before it appended, for a transaction that processes what it reads.
  public var reads: [Append] = []
  /// How it ended.
  public var outcome = TransactionOutcome.unknown
  /// When the commit was asked for, in any time that grows; nil when it never was.
  public var commitAsked: Int?

  /// A transaction that has just begun.
  public init(process: String, number: Int) {
    self.process = process
    self.number = number
  }

  /// Process and number.
  public var name: String { "\(process)#\(number)" }
}

/// What a reader of committed records saw of one list from its start on.
public struct Observation: Sendable {
  /// The list.
  public var list: String
  /// Its values, from the first on.
  public var values: [Int]
  /// When the answer came, in the time of ``TransactionEntry/commitAsked``.
  public var time: Int

  /// What was seen at `time`.
  public init(_ list: String, _ values: [Int], time: Int) {
    self.list = list
    self.values = values
    self.time = time
  }
}

/// A rule that a history breaks.
public struct Anomaly: Sendable, Equatable, CustomStringConvertible {
  /// The kinds.
  public enum Kind: String, Sendable, CaseIterable {
    /// A value was read that nobody appended.
    case phantom
    /// A value stands in a list twice.
    case duplicate
    /// Two readers saw the same list in different orders.
    case order
    /// A value of a transaction was read that was aborted.
    case abortedRead = "G1a"
    /// A value was read before its transaction asked to be committed, or without others of the same list and transaction.
    case intermediateRead = "G1b"
    /// A committed value is not there at the end.
    case lost
    /// At the end some lists show a transaction, and others do not.
    case nonAtomic
    /// Transactions overwrite each other in a circle: appended before one another in different lists.
    case writeCycle = "G0"
    /// Transactions depend on each other in a circle of appends and reads.
    case dependencyCycle = "G1c"
  }
  /// The kind.
  public let kind: Kind
  /// What, in words.
  public let text: String

  /// Kind and text.
  public var description: String { "\(kind.rawValue): \(text)" }
}

/// A history and its check.
public struct TransactionHistory: Sendable {
  /// All transactions, in any order.
  public var transactions: [TransactionEntry] = []
  /// What was seen on the way.
  public var observations: [Observation] = []
  /// Each list as a whole, after the last transaction had ended.
  public var final: [String: [Int]] = [:]
  /// Whether transactions of different processes must be in the same order in all lists.
  ///
  /// Kafka promises that of one process's transactions only: those of others may interleave as they like.
  public var ordersAllProcesses = false

  /// Nothing happened yet.
  public init() {}
}
