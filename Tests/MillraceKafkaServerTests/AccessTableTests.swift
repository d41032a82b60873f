// AccessTableTests: every request against what AccessTable says that it needs: served with that, refused without any part of it.

import Foundation
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity
import Testing

@testable import MillraceKafkaServer

/// A server that denies what no rule allows, and a request that was prepared before it did.
private final class AccessWorld {
  let world: ServerWorld
  let client: AdminClient
  private let ask: AccessRow.Ask
  private var rules: [AccessRule] = []
  /// What was denied, as those who watch are told.
  private(set) var denials: [AccessControl.Decision] = []

  init(_ row: AccessRow) throws {
    world = try ServerWorld()
    let maker = AdminClient(world)
    ask = try row.prepare(maker)
    client = AdminClient(world)
    world.broker.access.isExposed = true
    world.broker.access.onDecision = { [unowned self] in denials.append($0) }
  }

  /// Asks with exactly these rights.
  func ask(with needs: [AccessNeed]) throws -> AccessReply {
    // Somebody else may do everything to the same things, which must not help.
    try client.changeRules(
      adding: needs.map(\.rule) + needs.map { AccessRule($0.rule.pattern, Principal("other"), .all) })
    return try ask(client)
  }

  /// All that a request may have changed.
  var state: String {
    let broker = world.broker
    var lines: [String] = []
    for topic in broker.topics.values.sorted(by: { $0.name < $1.name }) {
      lines.append("topic \(topic.name) \(topic.id) \(topic.configs.sorted { $0.key < $1.key })")
      for index in topic.partitions.indices {
        guard let log = broker.partition(topic, Int32(index)) else { continue }
        lines.append("  \(index): \(log.startOffset)-\(log.highWatermark) \(log.activeProducers.count)")
      }
    }
    for name in broker.groups.names.sorted() {
      let group = broker.groups.describe(name)
      lines.append("group \(name) \(group.state) \(group.members.map(\.id))")
      for (partition, offset) in broker.groups.offsets(name).sorted(by: { "\($0.key)" < "\($1.key)" }) {
        lines.append("  \(partition) \(offset.offset)")
      }
      for partition in broker.shares.partitions(of: name) {
        lines.append("  \(partition) \(String(describing: broker.shares.offset(of: partition, in: name)))")
      }
    }
    lines += broker.transactions.descriptions.map { "transaction \($0.id) \($0.state) \($0.producer) \($0.partitions)" }
    lines += broker.rules().map(\.description)
    lines += broker.users.map { "user \($0.name) \($0.user.tags) \($0.user.credentials.keys.map(\.name).sorted())" }
    lines += broker.quotaLimits.map { "quota \($0.entity) \($0.limits)" }
    lines += broker.configuredResources.map { "settings \($0) \(broker.configs(of: $0).sorted { $0.key < $1.key })" }
    do {
      lines += try broker.queues.list(in: "/", after: nil, limit: 100).map {
        "queue \($0.declaration.name) \($0.length) \($0.inFlight) \($0.consumers)"
      }
      lines += try broker.queues.exchanges(in: "/", after: nil, limit: 100).map { "exchange \($0.name)" }
      lines += try broker.queues.bindings(in: "/", from: nil, limit: 100).bindings.map { "binding \($0)" }
    } catch {
      Issue.record(error)
    }
    return lines.joined(separator: "\n")
  }
}

@Suite struct AccessTableTests {
  @Test(
    "a request without permission is refused with its code, told to those who watch, and changes nothing",
    arguments: AccessTable.rows.map(\.label))
  func everyRequestIsRefused(_ label: String) throws {
    let row = try AccessTable.row(label)
    for list in row.needs {
      guard let first = list.first else { continue }
      let world = try AccessWorld(row)
      // The rules of others are there before, so that only what the request does shows.
      _ = try world.client.changeRules(adding: [AccessRule(first.rule.pattern, Principal("other"), .all)])
      let before = world.state
      #expect(try world.ask(with: []) == first.refusal)
      #expect(world.state == before)
      if first.refusal == .hidden { continue }
      #expect(world.denials.contains { $0.principal == .anonymous && $0.host == "127.0.0.1" && !$0.isAllowed })
    }
  }

  @Test("a request with all that it needs, and no more, is served", arguments: AccessTable.rows.map(\.label))
  func everyRequestIsServed(_ label: String) throws {
    let row = try AccessTable.row(label)
    for list in row.needs {
      let world = try AccessWorld(row)
      #expect(try world.ask(with: list) == .served, "with \(list.map(\.words))")
      #expect(world.denials.isEmpty)
    }
  }

  @Test("a request that needs several things is refused when one is missing", arguments: AccessTable.rows.map(\.label))
  func everyPartIsNeeded(_ label: String) throws {
    let row = try AccessTable.row(label)
    for list in row.needs where list.count > 1 {
      for (index, missing) in list.enumerated() {
        let world = try AccessWorld(row)
        var rest = list
        rest.remove(at: index)
        #expect(try world.ask(with: rest) == missing.refusal, "without \(missing.words)")
      }
    }
  }

  @Test("a denial counts more than what allows it", arguments: AccessTable.rows.map(\.label))
  func everyDenialWins(_ label: String) throws {
    let row = try AccessTable.row(label)
    for list in row.needs where list.count == 1 && row.needs.count == 1 {
      let world = try AccessWorld(row)
      var denial = list[0].rule
      denial.isAllowed = false
      try world.client.changeRules(adding: [denial, AccessRule(denial.pattern, .anonymous, .all)])
      #expect(try world.ask(with: []) == list[0].refusal)
    }
  }

  @Test("every API of Kafka's protocol, and every request of Millrace's own, has a row, or is known not to be served")
  func everyRequestHasARow() throws {
    let subjects = Set(AccessTable.rows.map(\.subject))
    for api in APIKey.allCases {
      #expect(subjects.contains(.kafka(api)) != AccessTable.unserved.contains(api), "\(api)")
    }
    #expect(subjects.contains(.figures))
    for number in UInt8.min ... .max {
      #expect(subjects.contains(.queues(number)) == AccessTable.isKnown(number), "operation \(number) on queues")
    }
    let labels = AccessTable.rows.map(\.label)
    #expect(Set(labels).count == labels.count)
  }

  @Test("the reference page holds the table of requests and what they need")
  func permissionsReferenceAgrees() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let page = root.appending(path: "docs/reference/permissions.md")
    let begin = "<!-- made by MILLRACE_WRITE_DOCS=1 swift test --filter permissionsReferenceAgrees -->\n"
    let end = "<!-- end of Kafka's table -->"
    let text = try String(contentsOf: page, encoding: .utf8)
    let from = try #require(text.range(of: begin)?.upperBound)
    let to = try #require(text.range(of: end)?.lowerBound)
    if ProcessInfo.processInfo.environment["MILLRACE_WRITE_DOCS"] != nil {
      try (text[..<from] + AccessTable.reference + text[to...]).write(to: page, atomically: true, encoding: .utf8)
    } else {
      #expect(String(text[from..<to]) == AccessTable.reference)
    }
  }
}
