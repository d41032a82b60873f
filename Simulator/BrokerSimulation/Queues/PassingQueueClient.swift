// PassingQueueClient: makes, fills, empties, reads and deletes durable queues, so that queues come and go.

import MillraceAMQPProtocol
import MillraceBase

/// Each name is used twice: a queue that was made anew holds nothing of the one before, nor of what was purged.
final class PassingQueueClient: QueueClient {
  private enum Step {
    case declare, publish(purgesNext: Bool), purge, read, delete
  }

  static let id = 950

  private var rounds: Int
  private var generation = 0
  private var step = Step.declare
  private var next = 0
  private var unanswered: [UInt64: Int] = [:]
  private var nextTag: UInt64 = 1
  /// Numbers of messages that were confirmed since the queue was made or purged.
  private var confirmed: Set<Int> = []
  /// Numbers from this one on may be in the queue.
  private var first = 0
  /// The creation was promised.
  private var exists = false
  /// Asked for, and not answered.
  private var mayBeGone = false
  /// Deleted, as was promised, and not made again.
  private var gone: String?
  private var expectsNothing = false
  private var found: [Int] = []
  private var readings = 0

  init(_ workload: QueueWorkload, rounds: Int) {
    self.rounds = rounds
    super.init(workload)
  }

  var isDone: Bool { rounds == 0 }

  private var name: String { "passing-queue-\(generation / 2)" }

  override func begin(_ session: AMQPSession) {
    unanswered = [:]
    nextTag = 1
    expectsNothing = false
    session.send(ConfirmSelect())
    if let gone, random.oneIn(2) {
      lookFor(gone, session)
    } else if exists {
      session.send(QueueDeclare(queue: name, passive: true))
    } else {
      act()
    }
  }

  /// A queue that is gone must not be there: the channel is closed then.
  private func lookFor(_ gone: String, _ session: AMQPSession) {
    expectsNothing = true
    session.send(QueueDeclare(queue: gone, passive: true))
  }

  override func excuses(_ code: UInt16, _ text: String) -> Bool {
    guard code == 404 else { return false }
    if expectsNothing { return true }
    // The deletion may have succeeded unheard, and not be durable: it is asked for again.
    guard mayBeGone else { return false }
    exists = false
    return true
  }

  private func act() {
    guard let session, !session.isOver, rounds > 0 else { return }
    switch step {
    case .declare:
      gone = gone == name ? nil : gone
      var arguments: [(String, AMQPValue)] = []
      if generation % 4 == 1 { arguments = [("x-queue-type", "quorum")] }
      if generation % 4 == 2 { arguments = [("x-max-priority", 2)] }
      session.send(QueueDeclare(queue: name, durable: true, arguments: AMQPFieldTable(arguments)))
    case .publish: publish(session)
    case .purge: session.send(QueuePurge(queue: name))
    case .read:
      found = []
      session.send(BasicGet(queue: name))
    case .delete:
      mayBeGone = true
      if scenario.sabotage.deletesNothing {
        deleted()
        return act()
      }
      session.send(QueueDelete(queue: name))
    }
  }

  private func publish(_ session: AMQPSession) {
    var properties = BasicPropertiesBuilder()
    properties.deliveryMode = 2
    for _ in 0..<Int.random(in: 1...5, using: &random) where !session.isOver {
      let message = MessageName(publisher: PassingQueueClient.id, number: next)
      unanswered[nextTag] = next
      next += 1
      nextTag += 1
      session.publish(
        QueueMessage.body(message, size: Int.random(in: 0...2000, using: &random)), to: "", name, properties.build())
    }
  }

  override func received(_ method: AMQPMethod, _ properties: BasicProperties, _ body: Bytes) {
    switch method {
    case .queueDeclareOk(let answer): declared(answer)
    case .basicAck(let ack): settled(ack.deliveryTag, ack.multiple, isConfirmed: true)
    case .basicNack(let nack): settled(nack.deliveryTag, nack.multiple, isConfirmed: false)
    case .basicReturn: scenario.ledger.violate("\(name) was made, and a message to it came back", .queueTopology)
    case .queuePurgeOk:
      scenario.count("queues purged")
      confirmed = []
      first = next
      step = .publish(purgesNext: false)
      soon(10) { [self] in act() }
    case .basicGetOk:
      if let message = workload.name(in: body, from: name) { found.append(message.number) }
      session?.send(BasicGet(queue: name))
    case .basicGetEmpty: check()
    case .queueDeleteOk:
      deleted()
      if let gone, let session, random.oneIn(2) { lookFor(gone, session) } else { soon(20) { [self] in act() } }
    default: break
    }
  }

  private func declared(_ answer: QueueDeclareOk) {
    if expectsNothing {
      return scenario.ledger.violate("\(answer.queue) was deleted, and now it is there", .queueTopology)
    }
    if case .declare = step {
      exists = true
      // Numbers of an earlier attempt to make it cannot be there: nothing was published then.
      first = next
      confirmed = []
      if answer.messageCount > 0 {
        scenario.ledger.violate("\(name) was made anew and holds \(answer.messageCount) messages", .queueTopology)
      }
      step = .publish(purgesNext: random.oneIn(2))
    }
    soon(10) { [self] in act() }
  }

  private func settled(_ tag: UInt64, _ isMultiple: Bool, isConfirmed: Bool) {
    for one in unanswered.keys.sorted() where one == tag || isMultiple && one <= tag {
      guard let number = unanswered.removeValue(forKey: one), isConfirmed else { continue }
      confirmed.insert(number)
    }
    guard unanswered.isEmpty, case .publish(let purgesNext) = step else { return }
    step = purgesNext ? .purge : .read
    soon(60) { [self] in act() }
  }

  private func check() {
    let missing = confirmed.subtracting(found).sorted()
    // What an earlier session got may not be back yet.
    if !missing.isEmpty, readings < 5 {
      readings += 1
      session?.cut()
      return
    }
    readings = 0
    scenario.count("queues made anew and read")
    if let number = missing.first {
      scenario.ledger.violate("\(name): message \(number) was confirmed and is not there", .queueTopology)
    }
    if let old = found.first(where: { $0 < first }) {
      scenario.ledger.violate("\(name) holds message \(old), which was purged or deleted", .queueTopology)
    }
    if Set(found).count < found.count {
      scenario.ledger.violate("\(name) holds a message twice: \(found)", .queueTopology)
    }
    step = .delete
    act()
  }

  private func deleted() {
    scenario.count("queues deleted")
    gone = name
    mayBeGone = false
    exists = false
    found = []
    rounds -= 1
    generation += 1
    step = .declare
  }
}
