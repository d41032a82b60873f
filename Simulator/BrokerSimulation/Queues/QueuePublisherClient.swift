// QueuePublisherClient: publishes into queues, and is promised that by confirms, by orderly closes or by commits.

import MillraceAMQPProtocol
import MillraceBase

final class QueuePublisherClient: QueueClient {
  /// Where it publishes, and which families that leads to.
  struct Route {
    let exchange: String
    let key: String
    let families: [Int]
    let kind: QueueFamily.Kind
  }

  private let id: Int
  private let promises: QueuePlan.Promises
  private let routes: [Route]
  private let mostBytes: Int
  private var left: Int
  private var next = 0
  /// What is not answered yet, by its number in the session, which begins at 1.
  private var unanswered: [UInt64: MessageName] = [:]
  private var nextTag: UInt64 = 1
  /// What has to be published again, because a queue recognises it.
  private var again: [MessageName] = []
  private var isClosing = false
  private var transaction: [MessageName] = []

  private static let window = 60

  init(_ workload: QueueWorkload, id: Int, _ promises: QueuePlan.Promises, _ routes: [Route], messages: Int) {
    self.id = id
    self.promises = promises
    self.routes = routes
    left = messages
    mostBytes = workload.random.oneIn(6) ? 6000 : 200
    super.init(workload)
  }

  /// Whether everything was sent and answered.
  var isDone: Bool { left == 0 && unanswered.isEmpty && again.isEmpty }

  override var wantsSession: Bool { !isDone }

  override func begin(_ session: AMQPSession) {
    nextTag = 1
    isClosing = false
    switch promises {
    case .confirms: session.send(ConfirmSelect())
    case .transactions: session.send(TxSelect())
    case .orderlyCloses: break
    }
    for name in again {
      workload.ledger.sentAgain(name, in: session.number, now: world.now)
      publish(name)
    }
    again = []
    produce()
  }

  override func ended(_ session: AMQPSession) {
    for (_, name) in unanswered.sorted(by: { $0.key < $1.key }) where isRecognised(name) { again.append(name) }
    unanswered = [:]
    transaction = []
  }

  /// Whether publishing it a second time is harmless, and the broker's answer to that counts.
  private func isRecognised(_ name: MessageName) -> Bool {
    // Not when the broker forgets: by a clock that is set, or because it cannot read what there is.
    promises == .confirms && kind(of: name) == .deduplicating && !scenario.plan.jumpsClock && !scenario.plan.failsReads
  }

  private func kind(of name: MessageName) -> QueueFamily.Kind? {
    workload.ledger.publications[name]?.families.first.map { workload.plan.families[$0].kind }
  }

  private func produce() {
    guard let session, !session.isOver, !isClosing else { return }
    if left > 0, unanswered.count < QueuePublisherClient.window {
      let number = min(left, Int.random(in: 1...8, using: &random))
      let isTogether = promises == .transactions
      let group = isTogether ? workload.newTransaction() : nil
      for _ in 0..<number where !session.isOver {
        left -= 1
        let name = MessageName(publisher: id, number: next)
        next += 1
        make(name, routes[Int.random(in: routes.indices, using: &random)], group, session)
        publish(name)
      }
      if session.isOver { return }
      if isTogether { return finishTransaction(session) }
    }
    if promises == .orderlyCloses, left == 0 || random.oneIn(4) {
      isClosing = true
      return session.send(ChannelClose(replyCode: 200, classID: 0, methodID: 0))
    }
    // Now and then what was confirmed long ago is published once more.
    if promises == .confirms, next > 0, random.oneIn(5) {
      let old = MessageName(publisher: id, number: Int.random(in: 0..<next, using: &random))
      if isRecognised(old), !workload.ledger.isRefused(old), !unanswered.values.contains(old), !again.contains(old) {
        scenario.count("messages published again")
        workload.ledger.sentAgain(old, in: session.number, now: world.now)
        publish(old)
      }
    }
    if random.oneIn(60) { return session.cut() }
    if left > 0 { soon(8) { [self] in produce() } }
  }

  private func make(_ name: MessageName, _ route: Route, _ group: Int?, _ session: AMQPSession) {
    var lane = 0
    var due: MonotonicTime?
    switch route.kind {
    case .priorities: lane = Int.random(in: 0...3, using: &random)
    case .grouped: lane = Int.random(in: 0...3, using: &random)
    case .delayed: due = world.now + .milliseconds(Int.random(in: 0...150, using: &random))
    default: break
    }
    workload.ledger.sent(
      name, .init(families: route.families, lane: lane, due: due, transaction: group), in: session.number,
      now: world.now)
  }

  private func publish(_ name: MessageName) {
    guard let session, !session.isOver, let publication = workload.ledger.publications[name],
      let family = publication.families.first
    else { return }
    let kind = workload.plan.families[family].kind
    guard let route = routes.first(where: { $0.families == publication.families }) else { return }
    var builder = BasicPropertiesBuilder()
    builder.deliveryMode = 2
    switch kind {
    case .priorities: builder.priority = UInt8(publication.lane)
    case .grouped:
      builder.encodedHeaders =
        AMQPFieldTable([("key", .string("key-\(scenario.sabotage.key(publication.lane))"))]).encoded
    case .delayed:
      let wait = publication.due.map { max(0, ($0 - world.now).inMilliseconds) } ?? 0
      builder.encodedHeaders = AMQPFieldTable([("x-delay", .int64(scenario.sabotage.delay(wait)))]).encoded
    case .deduplicating: builder.messageID = scenario.sabotage.hidesMessageIDs ? nil : ShortString("\(name)")
    default: break
    }
    // The same bytes each time.
    let size = (name.number &* 7919 &+ id &* 31) % (mostBytes + 1)
    unanswered[nextTag] = name
    nextTag += 1
    session.publish(QueueMessage.body(name, size: size), to: route.exchange, route.key, builder.build())
  }

  private func finishTransaction(_ session: AMQPSession) {
    isClosing = true
    if random.oneIn(6) {
      session.send(TxRollback())
    } else {
      session.send(TxCommit())
    }
  }

  override func received(_ method: AMQPMethod, _ properties: BasicProperties, _ body: Bytes) {
    switch method {
    case .basicAck(let ack): settle(ack.deliveryTag, multiple: ack.multiple) { promised($0, "confirmed") }
    case .basicNack(let nack): settle(nack.deliveryTag, multiple: nack.multiple) { refused($0) }
    case .txCommitOk:
      settleAll { promised($0, "committed") }
      isClosing = false
      soon(8) { [self] in produce() }
    case .txRollbackOk:
      settleAll { refused($0) }
      isClosing = false
      soon(8) { [self] in produce() }
    case .channelCloseOk:
      // Whoever asks for no confirms does not hear that a queue was full, or the log had no room.
      settleAll { if kind(of: $0) != .limited, !workload.mayRefuse { promised($0, "closed") } }
      session?.leave()
    case .basicReturn(let back):
      scenario.ledger.violate("a message to '\(back.exchange)' came back: \(back.replyText)", .queueTopology)
    default: break
    }
  }

  private func promised(_ name: MessageName, _ how: StaticString) {
    workload.ledger.promised(name, how, in: session?.number ?? 0, now: world.now)
  }

  private func refused(_ name: MessageName) {
    workload.ledger.refused(name, in: session?.number ?? 0, now: world.now)
  }

  private func settleAll(_ body: (MessageName) -> Void) {
    settle(.max, multiple: true, body)
  }

  private func settle(_ tag: UInt64, multiple: Bool, _ body: (MessageName) -> Void) {
    let tags = multiple ? unanswered.keys.filter { $0 <= tag }.sorted() : [tag]
    for tag in tags {
      guard let name = unanswered.removeValue(forKey: tag) else {
        return scenario.ledger.violate(
          "publisher \(id) is answered to publication \(tag), which it did not make", .answers)
      }
      body(name)
    }
  }

  /// A queue that is full refuses whole transactions.
  override func excuses(_ code: UInt16, _ text: String) -> Bool {
    code == 406 && promises == .transactions && text.contains("is full")
  }
}
