// Broker+Rules: rules of access checked, added, removed and found.

import MillraceBase
import MillraceMetadata
import MillraceSecurity

/// Which rules are meant; nil stands for any.
public struct AccessRuleFilter: Equatable, Sendable {
  /// How a resource's name is compared.
  public enum NameMatch: Equatable, Sendable {
    /// Any pattern.
    case any
    /// Literal patterns with this name, or any when nil.
    case literal(String?)
    /// Prefix patterns with this name, or any when nil.
    case prefix(String?)
    /// Patterns that the resource of this name fits.
    case fitting(String)
    /// Patterns with this name, literal or prefix.
    case either(String)
  }

  /// What the rules are about.
  public var kind: ResourceKind?
  /// Its name.
  public var name = NameMatch.any
  /// Whom.
  public var principal: Principal?
  /// From where.
  public var host: String?
  /// What is done.
  public var operation: AccessOperation?
  /// Whether it is allowed.
  public var isAllowed: Bool?

  /// All rules.
  public init() {}

  /// Whether `rule` is meant.
  public func includes(_ rule: AccessRule) -> Bool {
    guard kind == nil || rule.pattern.kind == kind, principal == nil || rule.principal == principal,
      host == nil || rule.host == host, operation == nil || rule.operation == operation,
      isAllowed == nil || rule.isAllowed == isAllowed
    else { return false }
    let pattern = rule.pattern
    switch name {
    case .any: return true
    case .literal(let name): return !pattern.isPrefix && (name == nil || pattern.name == name)
    case .prefix(let name): return pattern.isPrefix && (name == nil || pattern.name == name)
    case .either(let name): return pattern.name == name
    case .fitting(let name):
      if pattern.isPrefix { return name.utf8.starts(with: pattern.name.utf8) }
      return pattern.name == name || pattern.name == ResourceName.every
    }
  }
}

extension Broker {
  /// Most rules there may be: they are all held in memory, and looked through when they are shown.
  public static let mostRules = 100_000
  /// Most bytes of a rule's names.
  static let longestRuleName = 1024

  /// All rules that a filter means, in order.
  public func rules(_ filter: AccessRuleFilter = AccessRuleFilter()) -> [AccessRule] {
    metadata.users.rules.sorted.filter(filter.includes)
  }

  /// Checks a rule that is to be added.
  /// - Throws: `.invalidRequest`, in the words of what is wrong.
  public func checkRule(_ rule: AccessRule) throws(BrokerError) {
    let pattern = rule.pattern
    guard !pattern.name.isEmpty else { throw BrokerError(.invalidRequest, "a rule needs the name of a resource") }
    for text in [pattern.name, rule.principal.name, rule.host] where text.utf8.count > Broker.longestRuleName {
      throw BrokerError(.invalidRequest, "a name of more than \(Broker.longestRuleName) bytes in a rule")
    }
    if pattern.kind == .cluster, pattern.isPrefix || pattern.name != ResourceName.cluster {
      throw BrokerError(
        .invalidRequest, "the cluster's one name is \(ResourceName.cluster), and literal; not \"\(pattern.name)\"")
    }
    guard !rule.principal.name.isEmpty else { throw BrokerError(.invalidRequest, "a rule needs a user") }
    guard rule.host == "*" || Broker.isAddress(rule.host) else {
      throw BrokerError(.invalidRequest, "\"\(rule.host)\" is no IP address and no *")
    }
    guard rule.operation == .all || pattern.kind.operations.contains(rule.operation) else {
      throw BrokerError(.invalidRequest, "a \(pattern.kind.word) knows no operation \(rule.operation.word)")
    }
  }

  /// Adds rules, and removes others, in one commit; `completion` follows when that is durable. They count from the call on.
  /// - Parameter added: checked by ``checkRule(_:)``.
  public func changeRules(
    adding added: [AccessRule], removing removed: [AccessRule] = [], completion: @escaping (BrokerError?) -> Void
  ) {
    let rules = metadata.users.rules
    let new = added.filter { !rules.contains($0) }
    let gone = removed.filter { rules.contains($0) }
    if new.isEmpty && gone.isEmpty { return whenDurable(completion) }
    guard rules.count + new.count - gone.count <= Broker.mostRules || new.isEmpty else {
      return completion(BrokerError(.policyViolation, "there may be \(Broker.mostRules) rules and no more"))
    }
    record(.security(.rulesChanged(added: new, removed: gone))) { [self] error in
      if error == nil {
        for rule in new { logger.log(.info, "security", "rule added", ["rule": rule.description]) }
        for rule in gone { logger.log(.info, "security", "rule removed", ["rule": rule.description]) }
      }
      completion(error)
    }
  }
}

extension ResourceKind {
  /// What can be done to resources of this kind. Source: Kafka, `AclEntry.supportedOperations`.
  public var operations: [AccessOperation] {
    switch self {
    case .topic: [.read, .write, .create, .describe, .delete, .alter, .describeConfigs, .alterConfigs]
    case .group: [.read, .describe, .delete, .describeConfigs, .alterConfigs]
    case .cluster:
      [.create, .clusterAction, .describeConfigs, .alterConfigs, .idempotentWrite, .alter, .describe]
    case .transactionalID: [.describe, .write, .twoPhaseCommit]
    case .delegationToken: [.describe]
    case .user: [.createTokens, .describeTokens]
    case .queue: [.read, .write, .create, .delete, .alter, .describe]
    case .exchange: [.read, .write, .create, .delete, .describe]
    case .virtualHost: [.describe, .create, .delete]
    }
  }
}
