// MovingClient: carries messages between two queues in transactions, and one that puts them there.

import MillraceAMQPProtocol
import MillraceBase

/// Publishes the messages that are moved.
final class SeedingClient: QueueClient {
  static let id = 900

  private var left: Int
  private var next = 0
  private var unanswered: [UInt64: MessageName] = [:]

  init(_ workload: QueueWorkload, messages: Int) {
    left = messages
    super.init(workload)
  }

  var isDone: Bool { left == 0 && unanswered.isEmpty }

  override var wantsSession: Bool { !isDone }

  override func begin(_ session: AMQPSession) {
    session.send(ConfirmSelect())
    var properties = BasicPropertiesBuilder()
    properties.deliveryMode = 2
    var tag: UInt64 = 1
    while left > 0, !session.isOver {
      left -= 1
      let name = MessageName(publisher: SeedingClient.id, number: next)
      next += 1
      unanswered[tag] = name
      tag += 1
      workload.moves.sent(name, now: world.now)
      session.publish(
        QueueMessage.body(name, size: name.number * 37 % 300), to: "", MoveLedger.queues[0], properties.build())
    }
  }

  override func ended(_ session: AMQPSession) { unanswered = [:] }

  override func received(_ method: AMQPMethod, _ properties: BasicProperties, _ body: Bytes) {
    switch method {
    case .basicAck(let ack):
      for tag in unanswered.keys.sorted() where tag == ack.deliveryTag || ack.multiple && tag <= ack.deliveryTag {
        if let name = unanswered.removeValue(forKey: tag) { workload.moves.promised(name, now: world.now) }
      }
    case .basicNack(let nack):
      for tag in unanswered.keys.sorted() where tag == nack.deliveryTag || nack.multiple && tag <= nack.deliveryTag {
        unanswered[tag] = nil
      }
    default: break
    }
    if isDone { session?.cut() }
  }
}

/// Moves what it gets to the other queue, publication and acknowledgement in one commit, or rolls that back.
final class MovingClient: QueueClient {
  private var left: Int
  private var held: [(tag: UInt64, place: MoveLedger.Place)] = []
  private var inCommit: (number: Int, count: Int)?
  private var isWaiting = false

  init(_ workload: QueueWorkload, transactions: Int) {
    left = transactions
    super.init(workload)
  }

  override var wantsSession: Bool { left > 0 }

  override func begin(_ session: AMQPSession) {
    held = []
    inCommit = nil
    isWaiting = false
    session.send(TxSelect())
    session.send(BasicQos(prefetchCount: UInt16.random(in: 1...8, using: &random)))
    for queue in MoveLedger.queues { session.send(BasicConsume(queue: queue, consumerTag: queue)) }
    move()
  }

  override func received(_ method: AMQPMethod, _ properties: BasicProperties, _ body: Bytes) {
    switch method {
    case .basicDeliver(let delivery):
      guard let (name, hops) = QueueMessage.read(body) else {
        return scenario.ledger.violate("a message that moves is not as it was sent", .queueMessages)
      }
      let place = MoveLedger.Place(name: name, hops: hops)
      workload.report(workload.moves.delivered(place, from: delivery.consumerTag == "move-0" ? 0 : 1, now: world.now))
      held.append((delivery.deliveryTag, place))
    case .txCommitOk:
      guard let inCommit else {
        return scenario.ledger.violate("a commit was answered that nobody asked for", .answers)
      }
      workload.moves.committed(inCommit.number, now: world.now)
      held.removeFirst(inCommit.count)
      self.inCommit = nil
      goOn()
    case .txRollbackOk: goOn()
    default: break
    }
  }

  private func goOn() {
    isWaiting = false
    left -= 1
    if left == 0 || random.oneIn(15) { session?.cut() } else { move() }
  }

  private func move() {
    soon(8) { [self] in
      guard let session, !isWaiting else { return }
      let count = min(held.count, Int.random(in: 1...5, using: &random))
      if count == 0 { return move() }
      isWaiting = true
      var properties = BasicPropertiesBuilder()
      properties.deliveryMode = 2
      for (tag, place) in held.prefix(count) {
        let body = QueueMessage.body(place.name, hops: place.hops + 1, size: place.name.number * 37 % 300)
        session.publish(body, to: "", MoveLedger.queues[(place.hops + 1) % 2], properties.build())
        session.send(BasicAck(deliveryTag: tag))
      }
      if random.oneIn(6) { return session.send(TxRollback()) }
      inCommit = (workload.moves.tries(held.prefix(count).map(\.place), now: world.now), count)
      session.send(TxCommit())
    }
  }
}
