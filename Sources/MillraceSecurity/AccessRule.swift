// AccessRule: what may, or must not, be done by whom from where to what: the one form of permission for all protocols.

/// What a rule protects. Raw values up to 7 are those of Kafka's `ResourceType`; the others are Millrace's own.
public enum ResourceKind: UInt8, CaseIterable, Sendable {
  case topic = 2
  case group = 3
  /// The server as a whole; its one name is `kafka-cluster`.
  case cluster = 4
  case transactionalID = 5
  case delegationToken = 6
  case user = 7
  /// A message queue; named `HOST/NAME`, see ``ResourceName/inVirtualHost(_:_:)``.
  case queue = 100
  /// An exchange; named as queues are.
  case exchange = 101
  /// A virtual host.
  case virtualHost = 102

  /// The word in commands, settings and the HTTP API.
  public var word: String {
    switch self {
    case .topic: "topic"
    case .group: "group"
    case .cluster: "cluster"
    case .transactionalID: "transactional-id"
    case .delegationToken: "delegation-token"
    case .user: "user"
    case .queue: "queue"
    case .exchange: "exchange"
    case .virtualHost: "vhost"
    }
  }

  /// The kind with this word.
  public init?(word: String) {
    guard let kind = ResourceKind.allCases.first(where: { $0.word == word }) else { return nil }
    self = kind
  }
}

/// What is done. Raw values are those of Kafka's `AclOperation`.
public enum AccessOperation: UInt8, CaseIterable, Sendable {
  /// In rules alone: whatever can be done.
  case all = 2
  case read = 3
  case write = 4
  case create = 5
  case delete = 6
  case alter = 7
  case describe = 8
  case clusterAction = 9
  case describeConfigs = 10
  case alterConfigs = 11
  case idempotentWrite = 12
  case createTokens = 13
  case describeTokens = 14
  case twoPhaseCommit = 15

  /// The word in commands, settings and the HTTP API.
  public var word: String {
    switch self {
    case .all: "all"
    case .read: "read"
    case .write: "write"
    case .create: "create"
    case .delete: "delete"
    case .alter: "alter"
    case .describe: "describe"
    case .clusterAction: "cluster-action"
    case .describeConfigs: "describe-configs"
    case .alterConfigs: "alter-configs"
    case .idempotentWrite: "idempotent-write"
    case .createTokens: "create-tokens"
    case .describeTokens: "describe-tokens"
    case .twoPhaseCommit: "two-phase-commit"
    }
  }

  /// The operation with this word.
  public init?(word: String) {
    guard let operation = AccessOperation.allCases.first(where: { $0.word == word }) else { return nil }
    self = operation
  }

  /// Operations of which being allowed any one allows this one. Source: Kafka, `AclEntry`/`StandardAuthorizerData`: read,
  /// write, delete and alter imply describe; alterConfigs implies describeConfigs. A denial implies nothing.
  var impliedBy: [AccessOperation] {
    switch self {
    case .describe: [.describe, .read, .write, .delete, .alter]
    case .describeConfigs: [.describeConfigs, .alterConfigs]
    default: [self]
    }
  }
}

/// Names of resources.
public enum ResourceName {
  /// The name of the one resource of kind `.cluster`. Source: Kafka, `Resource.CLUSTER_NAME`.
  public static let cluster = "kafka-cluster"
  /// In rules alone, and literal: every name.
  public static let every = "*"

  /// The name of a queue or an exchange: its virtual host with `/` and `%` as in a URI, a slash, its own name. So nothing
  /// in one virtual host is named like something in another, and `%2F/` is a prefix of all that is in the first one.
  public static func inVirtualHost(_ virtualHost: String, _ name: String) -> String {
    var host = ""
    for scalar in virtualHost.unicodeScalars {
      switch scalar {
      case "/": host += "%2F"
      case "%": host += "%25"
      default: host.unicodeScalars.append(scalar)
      }
    }
    return "\(host)/\(name)"
  }
}

/// Resources that a rule is about.
public struct ResourcePattern: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// What they are.
  public var kind: ResourceKind
  /// The name, `*` for every one, or with ``isPrefix`` what the names begin with.
  public var name: String
  /// Whether all names that begin with ``name`` are meant; `*` is then no more than a character.
  public var isPrefix: Bool

  /// A pattern.
  public init(_ kind: ResourceKind, _ name: String, isPrefix: Bool = false) {
    self.kind = kind
    self.name = name
    self.isPrefix = isPrefix
  }

  /// The kind, and the name with a star behind a prefix.
  public var description: String { "\(kind.word) \(name)\(isPrefix ? "*" : "")" }

  /// An order that is the same in every run.
  public static func < (left: ResourcePattern, right: ResourcePattern) -> Bool {
    (left.kind.rawValue, left.name, left.isPrefix ? 1 : 0) < (right.kind.rawValue, right.name, right.isPrefix ? 1 : 0)
  }
}

/// One rule.
public struct AccessRule: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// What it is about.
  public var pattern: ResourcePattern
  /// Whom it is about; ``Principal/everybody`` for all.
  public var principal: Principal
  /// The address that clients come from, `*` for any. An address is compared as text, IPv6 in its shortest form.
  public var host: String
  /// What is done; `.all` for anything.
  public var operation: AccessOperation
  /// Whether that is allowed, or denied. A denial counts more than whatever is allowed.
  public var isAllowed: Bool

  /// A rule.
  public init(
    _ pattern: ResourcePattern, _ principal: Principal, host: String = "*", _ operation: AccessOperation,
    isAllowed: Bool = true
  ) {
    self.pattern = pattern
    self.principal = principal
    self.host = host
    self.operation = operation
    self.isAllowed = isAllowed
  }

  /// In words.
  public var description: String {
    "\(isAllowed ? "allow" : "deny") \(principal) \(operation.word) on \(pattern) from \(host)"
  }

  /// An order that is the same in every run.
  public static func < (left: AccessRule, right: AccessRule) -> Bool {
    if left.pattern != right.pattern { return left.pattern < right.pattern }
    return (left.principal, left.host, left.operation.rawValue, left.isAllowed ? 1 : 0)
      < (right.principal, right.host, right.operation.rawValue, right.isAllowed ? 1 : 0)
  }
}
