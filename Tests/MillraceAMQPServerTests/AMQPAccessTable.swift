// AMQPAccessTable: for every method that a client can send, what it must be allowed to do, and how to ask.
//
// AMQPAccessTableTests.swift takes away, and gives, what a row says that it needs; docs/reference/permissions.md is made from the
// same rows. Texts are RabbitMQ's.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceSecurity

@testable import MillraceAMQPServer

/// Something that a client must be allowed to do, and what it is told when it is not.
struct AMQPNeed {
  let operation: AccessOperation
  let kind: ResourceKind
  /// As AMQP names it.
  let name: String

  static func queue(_ operation: AccessOperation, _ name: String = "q") -> AMQPNeed {
    AMQPNeed(operation: operation, kind: .queue, name: name)
  }
  static func exchange(_ operation: AccessOperation, _ name: String = "e") -> AMQPNeed {
    AMQPNeed(operation: operation, kind: .exchange, name: name)
  }
  static func topic(_ operation: AccessOperation, _ name: String = "t") -> AMQPNeed {
    AMQPNeed(operation: operation, kind: .topic, name: name)
  }
  static let defaultExchange = exchange(.write, "amq.default")

  /// The rule that gives it.
  var rule: AccessRule {
    let isOwn = kind == .queue || kind == .exchange
    return AccessRule(
      ResourcePattern(kind, isOwn ? ResourceName.inVirtualHost("/", name) : name), .anonymous, operation)
  }

  /// What a client without it is told.
  var refusal: String {
    if kind == .virtualHost { return "access to vhost '/' refused for user 'ANONYMOUS'" }
    let permission = [.create, .delete].contains(operation) ? "configure" : operation.word
    // A topic is a queue to AMQP.
    let what = kind == .exchange ? "exchange" : kind == .group ? "group" : "queue"
    return "\(permission) access to \(what) '\(name)' in vhost '/' refused for user 'ANONYMOUS'"
  }

  /// In the reference.
  var words: String {
    switch (kind, name) {
    case (.cluster, _): "`\(operation.word)` on the cluster"
    case (.virtualHost, _): "`\(operation.word)` on the virtual host"
    case (_, "amq.default"), (_, "amq.gen-"): "`\(operation.word)` on the \(kind.word) `\(name)`"
    case (_, "f"): "`\(operation.word)` on the other exchange"
    default: "`\(operation.word)` on the \(kind.word)"
    }
  }
}

/// One method.
struct AMQPAccessRow {
  let method: String
  /// How rows about the same method differ.
  let note: String
  /// Each list is enough by itself; one without members asks for nothing.
  let needs: [[AMQPNeed]]
  /// What is sent before, while everybody may do everything.
  let setup: [UInt8]
  let asked: [UInt8]
  /// The names of the answers to who is allowed to ask.
  let answers: [String]

  init(
    _ method: String, _ note: String = "", _ needs: [AMQPNeed]..., after setup: [UInt8] = [], sends asked: [UInt8],
    gets answers: [String]
  ) {
    self.method = method
    self.note = note
    self.needs = needs
    self.setup = setup
    self.asked = asked
    self.answers = answers
  }

  /// In names of tests, and in the reference.
  var label: String { note.isEmpty ? method : "\(method), \(note)" }
}

enum AMQPAccessTable {
  static var rows: [AMQPAccessRow] { opening + exchanges + queues + messages + free }

  /// Methods of the handshake, before which nobody is known; a connection that opens shows that they need nothing.
  static let handshake: Set<String> = [
    "connection.start-ok", "connection.secure-ok", "connection.tune-ok", "connection.open",
  ]

  /// Methods that only servers send.
  static let servers: Set<String> = [
    "connection.start", "connection.secure", "connection.tune", "connection.open-ok", "connection.blocked",
    "connection.unblocked", "connection.update-secret-ok", "channel.open-ok", "access.request-ok",
    "exchange.declare-ok", "exchange.delete-ok", "exchange.bind-ok", "exchange.unbind-ok", "queue.declare-ok",
    "queue.bind-ok", "queue.purge-ok", "queue.delete-ok", "queue.unbind-ok", "basic.qos-ok", "basic.consume-ok",
    "basic.cancel-ok", "basic.return", "basic.deliver", "basic.get-ok", "basic.get-empty", "basic.recover-ok",
    "confirm.select-ok", "tx.select-ok", "tx.commit-ok", "tx.rollback-ok",
  ]

  /// The part of docs/reference/permissions.md that is made from the rows.
  static var reference: String {
    var text = "| Method | Needs |\n|---|---|\n"
    for row in rows {
      let needs = row.needs.map { list in
        list.isEmpty ? "nothing" : list.map(\.words).joined(separator: " and ")
      }
      text += "| \(row.label) | \(needs.joined(separator: "; or ")) |\n"
    }
    return text
  }

  static let opening = [
    AMQPAccessRow(
      "connection.open", "", [AMQPNeed(operation: .describe, kind: .virtualHost, name: "/")], sends: [],
      gets: ["connection.open-ok"])
  ]

  // MARK: Exchanges and queues

  private static let e = frames([.exchangeDeclare(ExchangeDeclare(exchange: "e", type: "fanout"))])
  private static let f = frames([.exchangeDeclare(ExchangeDeclare(exchange: "f", type: "fanout"))])
  private static let q = frames([.queueDeclare(QueueDeclare(queue: "q"))])
  private static let bound = q + e + frames([.queueBind(QueueBind(queue: "q", exchange: "e"))])

  private static func declaring(
    _ queue: String, passive: Bool = false, durable: Bool = false, _ arguments: AMQPFieldTable = [:]
  ) -> [UInt8] {
    frames([.queueDeclare(QueueDeclare(queue: queue, passive: passive, durable: durable, arguments: arguments))])
  }

  private static var exchanges: [AMQPAccessRow] {
    [
      AMQPAccessRow("exchange.declare", "", [.exchange(.create)], sends: e, gets: ["exchange.declare-ok"]),
      AMQPAccessRow(
        "exchange.declare", "passive", [.exchange(.describe)], after: e,
        sends: frames([.exchangeDeclare(ExchangeDeclare(exchange: "e", passive: true))]), gets: ["exchange.declare-ok"]),
      AMQPAccessRow(
        "exchange.declare", "with an alternate exchange",
        [.exchange(.create), .exchange(.read), .exchange(.write, "f")],
        sends: frames([
          .exchangeDeclare(ExchangeDeclare(exchange: "e", type: "fanout", arguments: ["alternate-exchange": "f"]))
        ]), gets: ["exchange.declare-ok"]),
      AMQPAccessRow(
        "exchange.delete", "", [.exchange(.delete)], after: e,
        sends: frames([.exchangeDelete(ExchangeDelete(exchange: "e"))]), gets: ["exchange.delete-ok"]),
      AMQPAccessRow(
        "exchange.bind", "", [.exchange(.write, "f"), .exchange(.read)], after: e + f,
        sends: frames([.exchangeBind(ExchangeBind(destination: "f", source: "e"))]), gets: ["exchange.bind-ok"]),
      AMQPAccessRow(
        "exchange.unbind", "", [.exchange(.write, "f"), .exchange(.read)],
        after: e + f + frames([.exchangeBind(ExchangeBind(destination: "f", source: "e"))]),
        sends: frames([.exchangeUnbind(ExchangeUnbind(destination: "f", source: "e"))]), gets: ["exchange.unbind-ok"]),
    ]
  }

  private static var queues: [AMQPAccessRow] {
    [
      AMQPAccessRow("queue.declare", "", [.queue(.create)], sends: q, gets: ["queue.declare-ok"]),
      AMQPAccessRow(
        "queue.declare", "its name left to the server", [.queue(.create, "amq.gen-")], sends: declaring(""),
        gets: ["queue.declare-ok"]),
      AMQPAccessRow(
        "queue.declare", "passive", [.queue(.describe)], after: q, sends: declaring("q", passive: true),
        gets: ["queue.declare-ok"]),
      AMQPAccessRow(
        "queue.declare", "passive, a topic", [.topic(.describe)], sends: declaring("t", passive: true),
        gets: ["queue.declare-ok"]),
      AMQPAccessRow(
        "queue.declare", "with a dead-letter exchange", [.queue(.create), .queue(.read), .exchange(.write)],
        sends: declaring("q", ["x-dead-letter-exchange": "e"]), gets: ["queue.declare-ok"]),
      AMQPAccessRow(
        "queue.declare", "dead letters to a topic",
        [.queue(.create), .queue(.read), .defaultExchange, .topic(.write)],
        sends: declaring("q", ["x-dead-letter-exchange": "", "x-dead-letter-routing-key": "t"]),
        gets: ["queue.declare-ok"]),
      AMQPAccessRow(
        "queue.declare", "of type stream", [.topic(.create, "s")],
        [AMQPNeed(operation: .create, kind: .cluster, name: ResourceName.cluster)],
        sends: declaring("s", durable: true, ["x-queue-type": "stream"]), gets: ["queue.declare-ok"]),
      AMQPAccessRow(
        "queue.declare", "that hides a topic", [.queue(.create, "t"), .topic(.create)], sends: declaring("t"),
        gets: ["queue.declare-ok"]),
      AMQPAccessRow(
        "queue.bind", "", [.queue(.write), .exchange(.read)], after: q + e,
        sends: frames([.queueBind(QueueBind(queue: "q", exchange: "e"))]), gets: ["queue.bind-ok"]),
      AMQPAccessRow(
        "queue.bind", "a topic", [.topic(.write), .exchange(.read)], after: e,
        sends: frames([.queueBind(QueueBind(queue: "t", exchange: "e"))]), gets: ["queue.bind-ok"]),
      AMQPAccessRow(
        "queue.unbind", "", [.queue(.write), .exchange(.read)], after: bound,
        sends: frames([.queueUnbind(QueueUnbind(queue: "q", exchange: "e"))]), gets: ["queue.unbind-ok"]),
      AMQPAccessRow(
        "queue.purge", "", [.queue(.read)], after: q + publication(key: "q"),
        sends: frames([.queuePurge(QueuePurge(queue: "q"))]), gets: ["queue.purge-ok"]),
      AMQPAccessRow(
        "queue.delete", "", [.queue(.delete)], after: q, sends: frames([.queueDelete(QueueDelete(queue: "q"))]),
        gets: ["queue.delete-ok"]),
      AMQPAccessRow(
        "queue.delete", "a topic", [.topic(.delete)], sends: frames([.queueDelete(QueueDelete(queue: "t"))]),
        gets: ["queue.delete-ok"]),
    ]
  }

  // MARK: Messages

  private static let qos = frames([.basicQos(BasicQos(prefetchCount: 10))])
  private static let confirms = frames([.confirmSelect(ConfirmSelect())])

  private static func consuming(_ queue: String, _ arguments: AMQPFieldTable = [:]) -> [UInt8] {
    frames([.basicConsume(BasicConsume(queue: queue, consumerTag: "c", arguments: arguments))])
  }

  private static func copied(_ header: String) -> BasicProperties {
    BasicProperties.build { $0.encodedHeaders = ([header: .array(AMQPFieldArray(["t"]))] as AMQPFieldTable).encoded }
  }

  private static var messages: [AMQPAccessRow] {
    [
      AMQPAccessRow(
        "basic.publish", "", [.exchange(.write)], after: bound + confirms, sends: publication(exchange: "e", key: "k"),
        gets: ["basic.ack"]),
      AMQPAccessRow(
        "basic.publish", "to a queue by name", [.defaultExchange], after: q + confirms, sends: publication(key: "q"),
        gets: ["basic.ack"]),
      AMQPAccessRow(
        "basic.publish", "to a topic by name", [.defaultExchange, .topic(.write)], after: confirms,
        sends: publication(key: "t"), gets: ["basic.ack"]),
      AMQPAccessRow(
        "basic.publish", "to a topic by the header CC", [.defaultExchange, .topic(.write)], after: q + confirms,
        sends: publication(key: "q", properties: copied("CC")), gets: ["basic.ack"]),
      AMQPAccessRow(
        "basic.publish", "to a topic by the header BCC", [.defaultExchange, .topic(.write)], after: q + confirms,
        sends: publication(key: "q", properties: copied("BCC")), gets: ["basic.ack"]),
      AMQPAccessRow(
        "basic.get", "", [.queue(.read)], after: q + publication(key: "q"),
        sends: frames([.basicGet(BasicGet(queue: "q"))]), gets: ["basic.get-ok"]),
      AMQPAccessRow(
        "basic.consume", "", [.queue(.read)], after: q, sends: consuming("q"), gets: ["basic.consume-ok"]),
      AMQPAccessRow(
        "basic.consume", "a topic", [.topic(.read)], after: qos, sends: consuming("t"), gets: ["basic.consume-ok"]),
      AMQPAccessRow(
        "basic.consume", "a topic as one of a share group",
        [.topic(.read), AMQPNeed(operation: .read, kind: .group, name: "g")], after: qos,
        sends: consuming("t", ["x-share-group": "g"]), gets: ["basic.consume-ok"]),
    ]
  }

  // MARK: What needs nothing

  private static let got = q + publication(key: "q") + frames([.basicGet(BasicGet(queue: "q"))])

  private static func free(
    _ method: String, after setup: [UInt8] = [], _ asked: AMQPMethod, channel: UInt16 = 1, _ answers: String...
  ) -> AMQPAccessRow {
    AMQPAccessRow(method, "", [], after: setup, sends: frames(channel: channel, [asked]), gets: answers)
  }

  private static var free: [AMQPAccessRow] {
    [
      free("basic.ack", after: got, .basicAck(BasicAck(deliveryTag: 1))),
      free("basic.nack", after: got, .basicNack(BasicNack(deliveryTag: 1, requeue: true))),
      free("basic.reject", after: got, .basicReject(BasicReject(deliveryTag: 1, requeue: true))),
      free("basic.recover", .basicRecover(BasicRecover(requeue: true)), "basic.recover-ok"),
      free("basic.recover-async", .basicRecoverAsync(BasicRecoverAsync(requeue: true))),
      free("basic.qos", .basicQos(BasicQos(prefetchCount: 1)), "basic.qos-ok"),
      free("basic.cancel", after: q + consuming("q"), .basicCancel(BasicCancel(consumerTag: "c")), "basic.cancel-ok"),
      free("confirm.select", .confirmSelect(ConfirmSelect()), "confirm.select-ok"),
      free("tx.select", .txSelect(TxSelect()), "tx.select-ok"),
      free("tx.commit", after: frames([.txSelect(TxSelect())]), .txCommit(TxCommit()), "tx.commit-ok"),
      free("tx.rollback", after: frames([.txSelect(TxSelect())]), .txRollback(TxRollback()), "tx.rollback-ok"),
      free("access.request", .accessRequest(AccessRequest()), "access.request-ok"),
      free("channel.flow", .channelFlow(ChannelFlow(active: true)), "channel.flow-ok"),
      free("channel.open", .channelOpen(ChannelOpen()), channel: 2, "channel.open-ok"),
      free(
        "channel.close", after: frames(channel: 2, [.channelOpen(ChannelOpen())]),
        .channelClose(ChannelClose(replyCode: 200, classID: 0, methodID: 0)), channel: 2, "channel.close-ok"),
      free(
        "connection.update-secret",
        .connectionUpdateSecret(ConnectionUpdateSecret(newSecret: Bytes(), reason: "")), channel: 0,
        "connection.update-secret-ok"),
    ]
  }

  /// Ends, and answers to what a server asked: sent without anything to be denied.
  static let ends: Set<String> = [
    "connection.close", "connection.close-ok", "channel.close-ok", "channel.flow-ok",
  ]
}
