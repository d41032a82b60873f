// QueueConsumerClient: takes messages and acknowledges, returns, rejects or keeps them; is quick or slow, and dies.

import MillraceAMQPProtocol
import MillraceBase

final class QueueConsumerClient: QueueClient {
  private struct Held {
    let tag: UInt64
    let name: MessageName
  }

  private let place: String
  private let familyIndex: Int
  /// Settlements until it has enough.
  private var left: Int
  private let longestThought: Int
  private var held: [Held] = []
  private var isClosing = false
  /// What was settled in the open transaction.
  private var gathered: [MessageName] = []
  private var isTransactional = false
  /// A commit is under way; nothing is settled meanwhile.
  private var isCommitting = false

  private var family: QueueFamily { workload.plan.families[familyIndex] }

  init(_ workload: QueueWorkload, _ place: String, of family: Int, messages: Int) {
    self.place = place
    familyIndex = family
    left = messages
    longestThought = workload.random.oneIn(4) ? 60 : 6
    super.init(workload)
  }

  override var wantsSession: Bool { left > 0 }

  override func begin(_ session: AMQPSession) {
    held = []
    gathered = []
    isClosing = false
    isCommitting = false
    isTransactional = workload.plan.usesTransactions && random.oneIn(2)
    if isTransactional { session.send(TxSelect()) }
    session.send(BasicQos(prefetchCount: [1, 3, 10, 50][Int.random(in: 0..<4, using: &random)]))
    session.send(BasicConsume(queue: place, consumerTag: "c"))
    scheduleEnd()
  }

  /// Sessions are ended in several ways after a while, whatever is under way.
  private func scheduleEnd() {
    soon(random.oneIn(3) ? 60 : 400) { [self] in
      guard let session, !isClosing else { return }
      switch Int.random(in: 0..<6, using: &random) {
      case 0: session.cut()
      case 1: session.leave()
      case 2:
        startClosing()
        session.send(ConnectionClose(replyCode: 200, classID: 0, methodID: 0), channel: 0)
      default: close(session)
      }
    }
  }

  private func startClosing() {
    isClosing = true
    if let session { workload.ledger.closes(session: session.number) }
  }

  private func close(_ session: AMQPSession) {
    startClosing()
    session.send(ChannelClose(replyCode: 200, classID: 0, methodID: 0))
  }

  override func received(_ method: AMQPMethod, _ properties: BasicProperties, _ body: Bytes) {
    guard let session else { return }
    switch method {
    case .basicDeliver(let delivery): take(delivery, properties, body, session)
    case .channelCloseOk, .connectionCloseOk:
      // What was gathered in a transaction and not committed has not happened.
      forgetGathered(session)
      workload.ledger.promised(session: session.number, now: world.now)
      session.leave()
    case .txCommitOk:
      gathered = []
      isCommitting = false
      workload.ledger.promised(session: session.number, now: world.now)
      if left <= 0, !isClosing { close(session) }
    case .txRollbackOk:
      forgetGathered(session)
      // They are still this session's, and nothing is said of them any more.
      close(session)
    case .basicCancel: scenario.ledger.violate("a consumer of \(place) was cancelled", .queueTopology)
    default: break
    }
  }

  override func ended(_ session: AMQPSession) {
    if !isCommitting { forgetGathered(session) }
  }

  private func forgetGathered(_ session: AMQPSession) {
    for name in gathered { workload.ledger.forgotten(name, of: familyIndex, in: session.number, now: world.now) }
    gathered = []
  }

  private func take(
    _ delivery: BasicDeliver, _ properties: BasicProperties, _ body: Bytes, _ session: AMQPSession
  ) {
    guard let name = workload.name(in: body, from: place) else { return }
    if isClosing { return workload.ledger.seen(name, of: familyIndex) }
    held.append(Held(tag: delivery.deliveryTag, name: name))
    soon(longestThought) { [self] in settleOne(delivery.deliveryTag) }
    // It was held up on its way, and another one has had the message since: this session is over, and does not know yet.
    if workload.ledger.isStale(name, of: familyIndex, in: session.number, sentAt: session.sentAt) {
      return workload.ledger.seen(name, of: familyIndex)
    }
    let other = workload.ledger.holder(of: name, in: familyIndex)
    let count = scenario.sabotage.deliveryCount(QueueHistory.deliveryCount(properties))
    let problems = workload.ledger.delivered(
      name, from: place, of: familyIndex, in: session.number, redelivered: delivery.redelivered, count: count,
      machine: session.machine, sentAt: session.sentAt, now: world.now)
    workload.report(problems)
    if let other, other != session.number { expectEnd(of: other, holding: name) }
  }

  /// Two have the same message: the other one's connection must be over, even if it does not know yet.
  private func expectEnd(of other: Int, holding name: MessageName) {
    let (place, workload) = (place, workload)
    world.schedule(after: .seconds(1)) { [weak workload] in
      guard let workload, workload.ledger.isAlive(other), !workload.isStopped else { return }
      workload.report([(.queueDuplicates, "\(place): \(name) was delivered to two consumers that live")])
    }
  }

  private func settleOne(_ tag: UInt64) {
    guard let session, !isClosing, let index = held.firstIndex(where: { $0.tag == tag }) else { return }
    if isCommitting { return soon(5) { [self] in settleOne(tag) } }
    // One in a while stays with it until the session is over.
    if random.oneIn(12) { return }
    let one = held.remove(at: index)
    let rejects = family.dead != place && random.oneIn(family.dead == nil ? 12 : 4)
    switch Int.random(in: 0..<10, using: &random) {
    case 0:
      act(.returned, one.name, session)
      session.send(BasicNack(deliveryTag: tag, requeue: true))
    case 1, 2:
      act(.failed, one.name, session)
      session.send(BasicReject(deliveryTag: tag, requeue: true))
    case _ where rejects:
      act(.rejected, one.name, session)
      if random.oneIn(2) {
        session.send(BasicNack(deliveryTag: tag, requeue: false))
      } else {
        session.send(BasicReject(deliveryTag: tag, requeue: false))
      }
    case 3:
      // It and all before it.
      for older in held where older.tag < tag { act(.acknowledged, older.name, session) }
      held.removeAll { $0.tag < tag }
      act(.acknowledged, one.name, session)
      acknowledge(tag, multiple: true, session)
    default:
      act(.acknowledged, one.name, session)
      acknowledge(tag, multiple: false, session)
    }
    endTransaction(session)
    left -= 1
    if left <= 0, !isClosing, gathered.isEmpty { close(session) }
  }

  private func acknowledge(_ tag: UInt64, multiple: Bool, _ session: AMQPSession) {
    if !scenario.sabotage.losesAcknowledgements { session.send(BasicAck(deliveryTag: tag, multiple: multiple)) }
  }

  private func act(_ action: QueueLedger.Action, _ name: MessageName, _ session: AMQPSession) {
    workload.ledger.acted(action, name, of: familyIndex, in: session.number, now: world.now)
    if isTransactional { gathered.append(name) }
  }

  private func endTransaction(_ session: AMQPSession) {
    guard isTransactional, left <= 1 || random.oneIn(4) else { return }
    if random.oneIn(6) {
      // Nothing more is settled until the session is over.
      startClosing()
      session.send(TxRollback())
    } else {
      isCommitting = true
      session.send(TxCommit())
    }
  }
}

/// What a message's headers say of its past.
enum QueueHistory {
  static func headers(_ properties: BasicProperties) -> AMQPFieldTable? {
    do throws(AMQPError) {
      return try properties.headers()
    } catch {
      return nil
    }
  }

  static func deliveryCount(_ properties: BasicProperties) -> Int {
    Int(headers(properties)?["x-delivery-count"]?.integer ?? 0)
  }

  /// The queues it has left as a dead letter, the newest first.
  static func deaths(_ properties: BasicProperties) -> [(queue: String, reason: String, count: Int)] {
    (headers(properties)?["x-death"]?.array.map(Array.init) ?? []).compactMap { value in
      guard let table = value.table, let queue = table["queue"]?.text, let reason = table["reason"]?.text else {
        return nil
      }
      return (queue, reason, Int(table["count"]?.integer ?? 0))
    }
  }
}
