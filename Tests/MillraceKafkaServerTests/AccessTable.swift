// AccessTable: for every request, what a client must be allowed to do, what it is told otherwise, and how to ask.
//
// A row prepares its request while everybody may do everything, and gives back how to ask. AccessTableTests.swift takes away, and
// gives, what the row says that it needs; docs/reference/permissions.md is made from the same rows. Rows lie in
// AccessTable+Records.swift, +Groups.swift, +Transactions.swift, +Shares.swift, +Cluster.swift and +Queues.swift.

import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import MillraceRouting
import MillraceSecurity
import Testing

@testable import MillraceKafkaServer

/// What came of a request.
enum AccessReply: Equatable, CustomStringConvertible {
  case served
  /// With one of Kafka's codes for want of permission.
  case refused(KafkaErrorCode)
  /// With AMQP's reply code 403.
  case queuesRefused
  /// Without an error, but of what was asked nothing is told.
  case hidden
  /// Something else, which no row expects.
  case failed(String)

  /// - Parameter served: the code of an answer to who is allowed to ask.
  init(_ code: KafkaErrorCode, served: KafkaErrorCode = .none) {
    switch code {
    case served: self = .served
    case .topicAuthorizationFailed, .groupAuthorizationFailed, .clusterAuthorizationFailed,
      .transactionalIDAuthorizationFailed:
      self = .refused(code)
    default: self = .failed("\(code)")
    }
  }

  /// The first code that is another one than `served`.
  init(_ codes: [KafkaErrorCode?], served: KafkaErrorCode = .none) {
    let codes = codes.compactMap(\.self)
    self = codes.isEmpty ? .failed("no answer") : AccessReply(codes.first { $0 != served } ?? served, served: served)
  }

  var description: String {
    switch self {
    case .served: "served"
    case .refused(let code): code.name
    case .queuesRefused: "403"
    case .hidden: "left out"
    case .failed(let text): text
    }
  }
}

extension KafkaErrorCode {
  fileprivate var name: String {
    switch self {
    case .topicAuthorizationFailed: "TOPIC_AUTHORIZATION_FAILED"
    case .groupAuthorizationFailed: "GROUP_AUTHORIZATION_FAILED"
    case .clusterAuthorizationFailed: "CLUSTER_AUTHORIZATION_FAILED"
    case .transactionalIDAuthorizationFailed: "TRANSACTIONAL_ID_AUTHORIZATION_FAILED"
    default: description
    }
  }
}

/// Something that a client must be allowed to do, and what it is told when it is not.
struct AccessNeed {
  let operation: AccessOperation
  let kind: ResourceKind
  let name: String
  let refusal: AccessReply

  static func topic(_ operation: AccessOperation, _ name: String = "t", hides: Bool = false) -> AccessNeed {
    AccessNeed(
      operation: operation, kind: .topic, name: name, refusal: hides ? .hidden : .refused(.topicAuthorizationFailed))
  }
  static func group(_ operation: AccessOperation, hides: Bool = false) -> AccessNeed {
    AccessNeed(
      operation: operation, kind: .group, name: "g", refusal: hides ? .hidden : .refused(.groupAuthorizationFailed))
  }
  static func transaction(_ operation: AccessOperation, hides: Bool = false) -> AccessNeed {
    AccessNeed(
      operation: operation, kind: .transactionalID, name: "x",
      refusal: hides ? .hidden : .refused(.transactionalIDAuthorizationFailed))
  }
  static func cluster(
    _ operation: AccessOperation, _ refusal: AccessReply = .refused(.clusterAuthorizationFailed)
  ) -> AccessNeed {
    AccessNeed(operation: operation, kind: .cluster, name: ResourceName.cluster, refusal: refusal)
  }
  static func queue(_ operation: AccessOperation, _ name: String = "q", hides: Bool = false) -> AccessNeed {
    AccessNeed(
      operation: operation, kind: .queue, name: ResourceName.inVirtualHost("/", name),
      refusal: hides ? .hidden : .queuesRefused)
  }
  static func exchange(_ operation: AccessOperation, _ name: String = "e", hides: Bool = false) -> AccessNeed {
    AccessNeed(
      operation: operation, kind: .exchange, name: ResourceName.inVirtualHost("/", name),
      refusal: hides ? .hidden : .queuesRefused)
  }

  /// The rule that gives it to whoever need not say who they are.
  var rule: AccessRule { AccessRule(ResourcePattern(kind, name), .anonymous, operation) }

  /// In the reference.
  var words: String {
    switch kind {
    case .cluster: "`\(operation.word)` on the cluster"
    case .transactionalID: "`\(operation.word)` on the transactional id"
    case .exchange where name.hasSuffix(QueueAccess.defaultExchange):
      "`\(operation.word)` on the exchange `\(QueueAccess.defaultExchange)`"
    case .queue where name.hasSuffix(QueueAccess.serverNamed):
      "`\(operation.word)` on the queue `\(QueueAccess.serverNamed)`"
    case .queue where name.hasSuffix("/other"), .exchange where name.hasSuffix("/f"):
      "`\(operation.word)` on the other \(kind.word)"
    default: "`\(operation.word)` on the \(kind.word)"
    }
  }
}

/// One request.
struct AccessRow {
  /// What is asked.
  enum Subject: Hashable {
    case kafka(APIKey)
    /// The live figures.
    case figures
    /// A request for queues, by the number of its operation.
    case queues(UInt8)
  }

  /// Asks, and says what came of it.
  typealias Ask = (AdminClient) throws -> AccessReply

  let subject: Subject
  /// How rows about the same request differ.
  let note: String
  /// Each list is enough by itself; one without members asks for nothing.
  let needs: [[AccessNeed]]
  /// Makes what the request is about.
  let prepare: (AdminClient) throws -> Ask

  init(_ api: APIKey, _ note: String = "", _ needs: [AccessNeed]..., prepare: @escaping (AdminClient) throws -> Ask) {
    subject = .kafka(api)
    self.note = note
    self.needs = needs
    self.prepare = prepare
  }

  init(
    _ subject: Subject, _ note: String, needs: [[AccessNeed]], prepare: @escaping (AdminClient) throws -> Ask
  ) {
    self.subject = subject
    self.note = note
    self.needs = needs
    self.prepare = prepare
  }

  /// In names of tests, and in the reference.
  var label: String {
    switch subject {
    case .kafka(let api): note.isEmpty ? "\(api)" : "\(api), \(note)"
    case .figures: "figures (31000)"
    case .queues: "queues (31001), \(note)"
    }
  }
}

enum AccessTable {
  /// All rows, in the order of the reference.
  static var rows: [AccessRow] {
    records + groups + transactions + shares + cluster + own
  }

  /// Requests that are answered whatever is allowed: those by which clients say who they are (SaslTests), and those that no
  /// handler answers.
  static let unserved: Set<APIKey> = APIKey.unserved.union([.saslHandshake, .saslAuthenticate])

  static func row(_ label: String) throws -> AccessRow {
    try #require(rows.first { $0.label == label })
  }

  /// The part of docs/reference/permissions.md that is made from the rows.
  static var reference: String {
    var text = "| Request | Needs | Told otherwise |\n|---|---|---|\n"
    for row in rows {
      let needs = row.needs.map { list in
        list.isEmpty ? "nothing" : list.map(\.words).joined(separator: " and ")
      }
      var refusals: [String] = []
      for need in row.needs.joined() where !refusals.contains(need.refusal.description) {
        refusals.append(need.refusal.description)
      }
      text += "| \(row.label) | \(needs.joined(separator: "; or ")) | \(refusals.joined(separator: ", ")) |\n"
    }
    return text
  }
}

extension AdminClient {
  /// Changes the rules of access, past the protocol.
  func changeRules(adding added: [AccessRule], removing removed: [AccessRule] = []) throws {
    var isDone = false
    world.broker.changeRules(adding: added, removing: removed) { _ in isDone = true }
    try #require(world.world.run { isDone })
  }

  /// Makes a topic besides `t`.
  func makeTopic(_ name: String) throws {
    var isMade = false
    world.broker.createTopic(name, partitions: 1) { if case .success = $0 { isMade = true } }
    try #require(world.world.run { isMade })
  }

  var topicID: TopicID { get throws { try #require(world.broker.topic("t")).id } }
}
