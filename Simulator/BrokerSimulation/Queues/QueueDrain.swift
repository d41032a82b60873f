// QueueDrain: takes everything out of all queues at the end of a run.

import MillraceAMQPProtocol
import MillraceBase

final class QueueDrain: QueueClient {
  private static let between = 100

  private let places: [String]
  /// A channel whose commit found no room holds what it was delivered until that is tried again, a second later.
  private var calmRounds: Int { workload.mayRefuse ? 15 : 3 }
  private(set) var left: [String: [LeftMessage]] = [:]
  /// The answers of this round that are still to come, and what they say is left.
  private var missing = 0
  private var remaining: UInt32 = 0
  private var remainders: [String: UInt32] = [:]
  private var emptyRounds = 0
  /// What there was to be taken when the queues were asked last.
  var words: String {
    remainders.filter { $0.value > 0 }.sorted { $0.key < $1.key }.map { "\($0.value) in \($0.key)" }.joined(
      separator: ", ")
  }
  /// The queues are empty, durably.
  private(set) var isDone = false

  init(_ workload: QueueWorkload, _ places: [String]) {
    self.places = places
    super.init(workload)
  }

  override func begin(_ session: AMQPSession) {
    session.send(BasicQos(prefetchCount: .max))
    for place in places {
      let isTopic = place == QueuePlan.topic
      let arguments = isTopic ? AMQPFieldTable([("x-stream-offset", "first")]) : [:]
      session.send(BasicConsume(queue: place, consumerTag: place, noAck: !isTopic, arguments: arguments))
    }
    ask(session)
  }

  private func ask(_ session: AMQPSession) {
    missing = places.count
    remaining = 0
    for place in places { session.send(QueueDeclare(queue: place, passive: true)) }
  }

  override func received(_ method: AMQPMethod, _ properties: BasicProperties, _ body: Bytes) {
    switch method {
    case .basicDeliver(let delivery):
      emptyRounds = 0
      guard let (name, hops) = QueueMessage.read(body) else {
        return scenario.ledger.violate("\(delivery.consumerTag): a message is not as it was sent", .queueMessages)
      }
      let message = LeftMessage(name: name, hops: hops, deaths: QueueHistory.deaths(properties))
      left[delivery.consumerTag.text, default: []].append(message)
      workload.report(workload.ledger.drained(name, from: delivery.consumerTag.text, now: world.now))
    case .queueDeclareOk(let answer):
      // A topic keeps its messages.
      let taken = answer.queue == QueuePlan.topic ? left[answer.queue]?.count ?? 0 : 0
      let remainder = answer.messageCount - min(answer.messageCount, UInt32(taken))
      remaining += remainder
      remainders[answer.queue] = remainder
      missing -= 1
      if missing == 0 { roundEnded() }
    case .channelCloseOk: isDone = true
    default: break
    }
  }

  private func roundEnded() {
    emptyRounds = remaining == 0 ? emptyRounds + 1 : 0
    guard emptyRounds < calmRounds else {
      session?.send(ChannelClose(replyCode: 200, classID: 0, methodID: 0))
      return
    }
    let mine = session
    world.schedule(after: .milliseconds(QueueDrain.between)) { [weak self] in
      if let self, let mine, session === mine, !mine.isOver { ask(mine) }
    }
  }

  override func ended(_ session: AMQPSession) {
    if !isDone {
      scenario.ledger.violate("the session that empties the queues ends: \(session.refusal?.text ?? "")", .progress)
    }
  }
}
