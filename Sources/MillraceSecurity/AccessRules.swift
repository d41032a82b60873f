// AccessRules: all rules, and what they say of one request.
//
// Invariants: 1. a denial that fits wins over every rule that allows; 2. what no rule is about is neither allowed nor denied;
// 3. the answer depends on the set of rules alone, not on the order in which they came.

/// What the rules say.
public enum AccessDecision: Equatable, Sendable {
  /// A rule allows it and none denies it.
  case allowed
  /// A rule denies it.
  case denied
  /// Rules are about the resource, but none of them allows it.
  case notAllowed
  /// No rule is about the resource.
  case noRule
}

/// A set of rules, indexed by what they are about.
public struct AccessRules: Sendable, Equatable {
  private struct Kind: Sendable {
    /// By the name, `*` among them.
    var literal: [String: [AccessRule]] = [:]
    /// By what the names begin with.
    var prefixed: [String: [AccessRule]] = [:]
    /// Lengths of prefixes in UTF-8 bytes, and how many prefixes have each.
    var prefixLengths: [Int: Int] = [:]
  }

  private var kinds: [ResourceKind: Kind] = [:]
  private var all: Set<AccessRule> = []

  /// No rules.
  public init() {}

  /// How many there are.
  public var count: Int { all.count }
  /// Whether there are none.
  public var isEmpty: Bool { all.isEmpty }
  /// All of them, in order.
  public var sorted: [AccessRule] { all.sorted() }
  /// Whether this very rule is there.
  public func contains(_ rule: AccessRule) -> Bool { all.contains(rule) }

  /// Adds a rule; false when it was there.
  @discardableResult
  public mutating func insert(_ rule: AccessRule) -> Bool {
    guard all.insert(rule).inserted else { return false }
    let name = rule.pattern.name
    if rule.pattern.isPrefix {
      if kinds[rule.pattern.kind, default: Kind()].prefixed[name, default: []].isEmpty {
        kinds[rule.pattern.kind, default: Kind()].prefixLengths[name.utf8.count, default: 0] += 1
      }
      kinds[rule.pattern.kind, default: Kind()].prefixed[name, default: []].append(rule)
    } else {
      kinds[rule.pattern.kind, default: Kind()].literal[name, default: []].append(rule)
    }
    return true
  }

  /// Takes a rule away; false when it was not there.
  @discardableResult
  public mutating func remove(_ rule: AccessRule) -> Bool {
    guard all.remove(rule) != nil, var kind = kinds[rule.pattern.kind] else { return false }
    let name = rule.pattern.name
    if rule.pattern.isPrefix {
      kind.prefixed[name]?.removeAll { $0 == rule }
      if kind.prefixed[name]?.isEmpty ?? true {
        kind.prefixed[name] = nil
        let left = (kind.prefixLengths[name.utf8.count] ?? 1) - 1
        kind.prefixLengths[name.utf8.count] = left == 0 ? nil : left
      }
    } else {
      kind.literal[name]?.removeAll { $0 == rule }
      if kind.literal[name]?.isEmpty ?? true { kind.literal[name] = nil }
    }
    kinds[rule.pattern.kind] = kind
    return true
  }

  /// What the rules say of `operation` on one resource.
  /// - Complexity: O(rules about the resource + different lengths of prefixes).
  public func decide(
    _ operation: AccessOperation, on kind: ResourceKind, _ name: String, by principal: Principal, from host: String
  ) -> AccessDecision {
    var verdict = Verdict(operation, principal, host)
    forEach(about: kind, name) { verdict.weigh($0) }
    return verdict.decision
  }

  /// Whether `operation` is allowed on a resource of this kind under any name at all. Source: KIP-679, `authorizeByResourceType`.
  ///
  /// A denial takes away what it is about: a name, what begins with a prefix, or everything.
  public func allowsAny(
    _ operation: AccessOperation, _ kind: ResourceKind, by principal: Principal, from host: String
  ) -> Bool {
    guard let rules = kinds[kind] else { return false }
    func fits(_ rule: AccessRule, _ isAllowed: Bool) -> Bool {
      rule.isAllowed == isAllowed && Verdict.isAbout(rule, principal, host)
        && (rule.operation == .all || (isAllowed ? operation.impliedBy : [operation]).contains(rule.operation))
    }
    func has(_ list: [AccessRule]?, _ isAllowed: Bool) -> Bool { list?.contains { fits($0, isAllowed) } ?? false }
    guard !has(rules.literal[ResourceName.every], false) else { return false }
    if has(rules.literal[ResourceName.every], true) { return true }
    func isUnderDeniedPrefix(_ name: String) -> Bool {
      var found = false
      forEachPrefix(of: name, rules) { if has($0, false) { found = true } }
      return found
    }
    return rules.prefixed.contains { has($0.value, true) && !isUnderDeniedPrefix($0.key) }
      || rules.literal.contains { has($0.value, true) && !has($0.value, false) && !isUnderDeniedPrefix($0.key) }
  }

  /// Whether both hold the same rules.
  public static func == (left: AccessRules, right: AccessRules) -> Bool { left.all == right.all }

  private func forEach(about kind: ResourceKind, _ name: String, _ body: (AccessRule) -> Void) {
    guard let rules = kinds[kind] else { return }
    rules.literal[name]?.forEach(body)
    if name != ResourceName.every { rules.literal[ResourceName.every]?.forEach(body) }
    forEachPrefix(of: name, rules) { $0.forEach(body) }
  }

  private func forEachPrefix(of name: String, _ rules: Kind, _ body: ([AccessRule]) -> Void) {
    guard !rules.prefixLengths.isEmpty else { return }
    let bytes = name.utf8
    for length in rules.prefixLengths.keys where length <= bytes.count {
      // A prefix that ends inside a character of the name is none.
      guard let prefix = String(bytes.prefix(length)), let found = rules.prefixed[prefix] else { continue }
      body(found)
    }
  }

  /// What the rules that were weighed so far say.
  private struct Verdict {
    let operation: AccessOperation
    let implying: [AccessOperation]
    let principal: Principal
    let host: String
    var isAllowed = false
    var isDenied = false
    var isKnown = false

    init(_ operation: AccessOperation, _ principal: Principal, _ host: String) {
      self.operation = operation
      self.principal = principal
      self.host = host
      implying = operation.impliedBy
    }

    static func isAbout(_ rule: AccessRule, _ principal: Principal, _ host: String) -> Bool {
      (rule.principal == principal || rule.principal == .everybody) && (rule.host == "*" || rule.host == host)
    }

    mutating func weigh(_ rule: AccessRule) {
      isKnown = true
      guard Verdict.isAbout(rule, principal, host) else { return }
      if rule.isAllowed {
        if rule.operation == .all || implying.contains(rule.operation) { isAllowed = true }
      } else if rule.operation == .all || rule.operation == operation {
        isDenied = true
      }
    }

    var decision: AccessDecision {
      isDenied ? .denied : isAllowed ? .allowed : isKnown ? .notAllowed : .noRule
    }
  }
}
