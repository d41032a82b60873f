// AMQPAccessTableTests: every method against what AMQPAccessTable says that it needs, and what rights mean beyond one method.

import Foundation
import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceSecurity
import Testing

@testable import MillraceAMQPServer

extension AMQPServerWorld {
  /// From now on everything is denied that no rule allows.
  func expose() { broker.access.isExposed = true }

  func changeRules(adding added: [AccessRule], removing removed: [AccessRule] = []) throws {
    var isDone = false
    broker.changeRules(adding: added, removing: removed) { _ in isDone = true }
    try #require(world.run { isDone })
  }

  func makeTopic(_ name: String) throws {
    var isMade = false
    broker.createTopic(name, partitions: 1) { if case .success = $0 { isMade = true } }
    try #require(world.run { isMade })
  }

  /// All that a method may have changed.
  var state: String {
    var lines: [String] = []
    for topic in broker.topics.values.sorted(by: { $0.name < $1.name }) {
      lines.append("topic \(topic.name) \(broker.partition(topic, 0)?.highWatermark ?? -1)")
    }
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

extension AMQPClient {
  /// What is answered to `bytes` until all of it is done: names of methods, and the text of a refusal.
  func ask(_ bytes: [UInt8]) throws -> [String] {
    commands.removeAll()
    send(bytes + frames([.channelFlow(ChannelFlow(active: true))]))
    var answers: [String] = []
    func isDone() -> Bool {
      connection.offer()
      read()
      return commands.contains { command in
        switch command.method {
        case .channelFlowOk, .connectionClose: true
        case .channelClose(let fields): fields.replyCode != 200
        default: false
        }
      }
    }
    try #require(world.world.run { isDone() }, "\(names)")
    // Confirms may follow what came after them.
    pass(.milliseconds(50))
    for command in commands {
      switch command.method {
      case .channelClose(let fields) where fields.replyCode == 403: answers.append("403 \(fields.replyText)")
      case .connectionClose(let fields): answers.append("\(fields.replyCode) \(fields.replyText)")
      default: answers.append(command.method.id.description)
      }
    }
    commands.removeAll()
    if let last = answers.lastIndex(of: "channel.flow-ok") { answers.remove(at: last) }
    return answers
  }
}

/// A server that denies what no rule allows, and a client whose method was prepared before it did.
private final class AMQPAccessWorld {
  let world: AMQPServerWorld
  let client: AMQPClient
  private let row: AMQPAccessRow
  private(set) var denials = 0

  init(_ row: AMQPAccessRow) throws {
    self.row = row
    world = try AMQPServerWorld()
    try world.makeTopic("t")
    client = try world.open()
    if !row.setup.isEmpty {
      let answers = try client.ask(row.setup)
      try #require(!answers.contains { $0.first?.isNumber == true }, "\(answers)")
    }
    world.expose()
    world.broker.access.onDecision = { [unowned self] _ in denials += 1 }
  }

  /// Sends the method with exactly these rights; the answers, or the text of the refusal.
  func ask(with needs: [AMQPNeed]) throws -> [String] {
    try world.changeRules(
      adding: needs.map(\.rule) + needs.map { AccessRule($0.rule.pattern, Principal("other"), .all) })
    guard row.method == "connection.open" else { return try client.ask(row.asked) }
    let opening = world.connect()
    opening.send(ProtocolHeader.bytes.array)
    opening.send(channel: 0, [.connectionStartOk(AMQPClient.login("guest"))])
    opening.send(
      channel: 0,
      [.connectionTuneOk(ConnectionTuneOk(channelMax: 10, frameMax: 131_072)), .connectionOpen(ConnectionOpen())])
    let answer = try #require(try opening.wait(3).last)
    if case .connectionClose(let fields) = answer { return ["\(fields.replyCode) \(fields.replyText)"] }
    return [answer.id.description]
  }

  /// Whether the answers are the refusal for want of `need`.
  func isRefusal(_ answers: [String], _ need: AMQPNeed) -> Bool {
    let code = need.kind == .virtualHost ? "530 NOT_ALLOWED - " : "403 ACCESS_REFUSED - "
    var refusal = need.refusal
    // What creates a topic asks for it under the name that was declared.
    if need.kind == .cluster { refusal = AMQPNeed.topic(.create, "s").refusal }
    return answers == [code + refusal]
  }
}

@Suite struct AMQPAccessTableTests {
  static let labels = AMQPAccessTable.rows.map(\.label)

  private func row(_ label: String) throws -> AMQPAccessRow {
    try #require(AMQPAccessTable.rows.first { $0.label == label })
  }

  @Test("a method without permission is refused in RabbitMQ's words, and changes nothing", arguments: labels)
  func everyMethodIsRefused(_ label: String) throws {
    let row = try row(label)
    for list in row.needs {
      guard let first = list.first else { continue }
      let world = try AMQPAccessWorld(row)
      let before = world.world.state
      let answers = try world.ask(with: [])
      #expect(world.isRefusal(answers, first), "\(answers)")
      #expect(world.world.state == before)
      #expect(world.denials > 0)
    }
  }

  @Test("a method with all that it needs, and no more, is served", arguments: labels)
  func everyMethodIsServed(_ label: String) throws {
    let row = try row(label)
    for list in row.needs {
      let world = try AMQPAccessWorld(row)
      #expect(try world.ask(with: list) == row.answers, "with \(list.map(\.words))")
      #expect(world.denials == 0)
    }
  }

  @Test("a method that needs several things is refused when one is missing", arguments: labels)
  func everyPartIsNeeded(_ label: String) throws {
    let row = try row(label)
    for list in row.needs where list.count > 1 {
      for (index, missing) in list.enumerated() {
        let world = try AMQPAccessWorld(row)
        var rest = list
        rest.remove(at: index)
        let answers = try world.ask(with: rest)
        #expect(world.isRefusal(answers, missing), "without \(missing.words): \(answers)")
      }
    }
  }

  @Test("every method that a client can send has a row")
  func everyMethodHasARow() {
    let methods = Set(AMQPAccessTable.rows.map(\.method))
    for id in MethodID.all.map(\.description) {
      let kinds = [
        methods, AMQPAccessTable.servers, AMQPAccessTable.ends, AMQPAccessTable.handshake.subtracting(methods),
      ]
      #expect(kinds.count { $0.contains(id) } == 1, "\(id)")
    }
    #expect(Set(Self.labels).count == Self.labels.count)
  }

  @Test("the reference page holds the table of methods and what they need")
  func methodsReferenceAgrees() throws {
    let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent()
    let page = root.appending(path: "docs/reference/permissions.md")
    let begin = "<!-- made by MILLRACE_WRITE_DOCS=1 swift test --filter methodsReferenceAgrees -->\n"
    let end = "<!-- end of AMQP's table -->"
    let text = try String(contentsOf: page, encoding: .utf8)
    let from = try #require(text.range(of: begin)?.upperBound)
    let to = try #require(text.range(of: end)?.lowerBound)
    if ProcessInfo.processInfo.environment["MILLRACE_WRITE_DOCS"] != nil {
      try (text[..<from] + AMQPAccessTable.reference + text[to...]).write(to: page, atomically: true, encoding: .utf8)
    } else {
      #expect(String(text[from..<to]) == AMQPAccessTable.reference)
    }
  }
}
