// AccessRulesTests: denials win, prefixes, implied operations, and random rules against a naive reading of them.

import MillraceSecurity
import Testing

private let alice = Principal("alice")

private func rules(_ list: AccessRule...) -> AccessRules {
  var all = AccessRules()
  for rule in list { all.insert(rule) }
  return all
}

@Test("what no rule is about is neither allowed nor denied")
func nothingSaid() {
  let some = rules(AccessRule(.init(.topic, "orders"), alice, .read))
  #expect(some.decide(.read, on: .topic, "orders", by: alice, from: "10.0.0.1") == .allowed)
  #expect(some.decide(.read, on: .topic, "orders", by: Principal("bob"), from: "10.0.0.1") == .notAllowed)
  #expect(some.decide(.write, on: .topic, "orders", by: alice, from: "10.0.0.1") == .notAllowed)
  #expect(some.decide(.read, on: .topic, "other", by: alice, from: "10.0.0.1") == .noRule)
  #expect(some.decide(.read, on: .group, "orders", by: alice, from: "10.0.0.1") == .noRule)
}

@Test("a denial wins over whatever is allowed, wherever it stands")
func denialWins() {
  let broad = AccessRule(.init(.topic, "*"), .everybody, .all)
  let narrow = AccessRule(.init(.topic, "secret-", isPrefix: true), alice, .read, isAllowed: false)
  for some in [rules(broad, narrow), rules(narrow, broad)] {
    #expect(some.decide(.read, on: .topic, "secret-1", by: alice, from: "::1") == .denied)
    #expect(some.decide(.write, on: .topic, "secret-1", by: alice, from: "::1") == .allowed)
    #expect(some.decide(.read, on: .topic, "secret", by: alice, from: "::1") == .allowed)
    #expect(some.decide(.read, on: .topic, "secret-1", by: Principal("bob"), from: "::1") == .allowed)
  }
}

@Test("being allowed to read, write, delete or alter allows to describe; a denial implies nothing")
func implied() {
  for operation in [AccessOperation.read, .write, .delete, .alter] {
    let some = rules(AccessRule(.init(.topic, "t"), alice, operation))
    #expect(some.decide(.describe, on: .topic, "t", by: alice, from: "h") == .allowed, "\(operation)")
    let denied = rules(
      AccessRule(.init(.topic, "t"), alice, .all), AccessRule(.init(.topic, "t"), alice, operation, isAllowed: false))
    #expect(denied.decide(.describe, on: .topic, "t", by: alice, from: "h") == .allowed, "\(operation)")
  }
  let configs = rules(AccessRule(.init(.topic, "t"), alice, .alterConfigs))
  #expect(configs.decide(.describeConfigs, on: .topic, "t", by: alice, from: "h") == .allowed)
  #expect(configs.decide(.describe, on: .topic, "t", by: alice, from: "h") == .notAllowed)
}

@Test("a star is every name in a literal rule, and a character in a prefix")
func stars() {
  let literal = rules(AccessRule(.init(.topic, "*"), alice, .read))
  #expect(literal.decide(.read, on: .topic, "anything", by: alice, from: "h") == .allowed)
  let prefix = rules(AccessRule(.init(.topic, "*", isPrefix: true), alice, .read))
  #expect(prefix.decide(.read, on: .topic, "anything", by: alice, from: "h") == .noRule)
  #expect(prefix.decide(.read, on: .topic, "*x", by: alice, from: "h") == .allowed)
}

@Test("a prefix that ends inside a character fits nothing")
func prefixInsideCharacter() {
  let some = rules(AccessRule(.init(.topic, "é", isPrefix: true), alice, .read))
  #expect(some.decide(.read, on: .topic, "éa", by: alice, from: "h") == .allowed)
  #expect(some.decide(.read, on: .topic, "aé", by: alice, from: "h") == .noRule)
}

@Test("names of virtual hosts with slashes stay apart")
func virtualHosts() {
  #expect(ResourceName.inVirtualHost("/", "q") == "%2F/q")
  #expect(ResourceName.inVirtualHost("a/b", "c") != ResourceName.inVirtualHost("a", "b/c"))
  #expect(ResourceName.inVirtualHost("a%2F", "c") != ResourceName.inVirtualHost("a/", "c"))
}

/// What the rules say, read one by one.
private func naive(
  _ all: [AccessRule], _ operation: AccessOperation, _ kind: ResourceKind, _ name: String, _ who: Principal,
  _ host: String
) -> AccessDecision {
  let about = all.filter { rule in
    guard rule.pattern.kind == kind else { return false }
    return rule.pattern.isPrefix
      ? name.hasPrefix(rule.pattern.name) : rule.pattern.name == name || rule.pattern.name == "*"
  }
  let mine = about.filter {
    ($0.principal == who || $0.principal.name == "*") && ($0.host == host || $0.host == "*")
  }
  if mine.contains(where: { !$0.isAllowed && ($0.operation == operation || $0.operation == .all) }) { return .denied }
  let implying: Set<AccessOperation> =
    operation == .describe
    ? [.describe, .read, .write, .delete, .alter]
    : operation == .describeConfigs ? [.describeConfigs, .alterConfigs] : [operation]
  if mine.contains(where: { $0.isAllowed && ($0.operation == .all || implying.contains($0.operation)) }) {
    return .allowed
  }
  return about.isEmpty ? .noRule : .notAllowed
}

@Test("oracle: random rules, added and taken away, say what they say one by one", arguments: 0..<20)
func oracleRandomRules(seed: UInt64) {
  var random = Random(state: seed &* 0x9e37_79b9_7f4a_7c15 | 1)
  let names = ["a", "ab", "abc", "b", "*", "ba"]
  let people = [alice, Principal("bob"), .everybody]
  let hosts = ["*", "10.0.0.1", "10.0.0.2"]
  let operations: [AccessOperation] = [.all, .read, .write, .describe, .describeConfigs, .alterConfigs, .alter]
  var index = AccessRules()
  var list: [AccessRule] = []
  for _ in 0..<200 {
    if !list.isEmpty, random.next(3) == 0 {
      let gone = list.remove(at: random.next(list.count))
      let wasThere = index.remove(gone)
      let isStill = index.remove(gone)
      #expect(wasThere && !isStill)
    } else {
      let rule = AccessRule(
        ResourcePattern(
          random.next(2) == 0 ? .topic : .queue, names[random.next(names.count)], isPrefix: random.next(2) == 0),
        people[random.next(people.count)], host: hosts[random.next(hosts.count)],
        operations[random.next(operations.count)], isAllowed: random.next(3) > 0)
      let isNew = index.insert(rule)
      #expect(isNew == !list.contains(rule))
      if isNew { list.append(rule) }
    }
    #expect(index.sorted == list.sorted())
    for kind in [ResourceKind.topic, .queue] {
      for name in names + ["abcd", "c"] {
        let operation = operations[1 + random.next(operations.count - 1)]
        let who = people[random.next(2)]
        let host = hosts[1 + random.next(2)]
        #expect(
          index.decide(operation, on: kind, name, by: who, from: host)
            == naive(list, operation, kind, name, who, host),
          "seed \(seed): \(who) \(operation) \(kind) \(name)")
      }
      // Whatever is allowed under some name is found to be.
      let any = index.allowsAny(.write, kind, by: alice, from: "10.0.0.1")
      let some = (names.filter { $0 != "*" } + ["abcd", "c", "abx", "bax", "*x", "zz"]).contains {
        naive(list, .write, kind, $0, alice, "10.0.0.1") == .allowed
      }
      if some { #expect(any, "seed \(seed)") }
    }
  }
}

/// xorshift64
private struct Random {
  var state: UInt64
  mutating func next(_ bound: Int) -> Int {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    return Int(state % UInt64(bound))
  }
}

@Test("a denied prefix takes away what it allows under longer ones, but not what is beside it")
func anyName() {
  var some = rules(AccessRule(.init(.topic, "a", isPrefix: true), alice, .write))
  #expect(some.allowsAny(.write, .topic, by: alice, from: "h"))
  #expect(!some.allowsAny(.write, .group, by: alice, from: "h"))
  #expect(!some.allowsAny(.read, .topic, by: alice, from: "h"))
  some.insert(AccessRule(.init(.topic, "ab", isPrefix: true), alice, .write, isAllowed: false))
  #expect(some.allowsAny(.write, .topic, by: alice, from: "h"))
  some.insert(AccessRule(.init(.topic, "", isPrefix: true), alice, .write, isAllowed: false))
  #expect(!some.allowsAny(.write, .topic, by: alice, from: "h"))
}
