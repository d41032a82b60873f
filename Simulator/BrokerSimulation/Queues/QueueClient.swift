// QueueClient: what all AMQP clients of a simulation share: a session that is begun again whenever it ends.

import MillraceAMQPProtocol
import MillraceBase
import MillraceSimulation

/// A client that lives outside the machine, through all its crashes.
class QueueClient {
  /// What the server may say when it cannot do what is asked: it stops, has no room, or storage failed.
  private static let excuses: Set<UInt16> = [320, 506, 541]

  unowned let scenario: BrokerScenario
  unowned let workload: QueueWorkload
  private(set) var session: AMQPSession?
  private(set) var isStopped = false
  var random: SeededRandom

  init(_ workload: QueueWorkload) {
    self.workload = workload
    scenario = workload.scenario
    random = SeededRandom(seed: workload.random.next())
  }

  var world: SimulatedWorld { scenario.world }

  func start() { connect() }

  /// Stops for good.
  func stop() {
    isStopped = true
    guard let session else { return }
    session.abandon()
    self.session = nil
    workload.ledger.ended(session: session.number)
  }

  /// Runs `job` after a random time of at most `most` milliseconds unless the client has stopped.
  func later(_ most: Int, _ job: @escaping () -> Void) {
    world.schedule(after: .microseconds(Int.random(in: 0...(most * 1000), using: &random))) { [weak self] in
      if let self, !self.isStopped { job() }
    }
  }

  /// As ``later(_:_:)``, but not when the present session is over by then.
  func soon(_ most: Int, _ job: @escaping () -> Void) {
    let mine = session
    later(most) { [weak self] in
      if let self, let mine, self.session === mine, !mine.isOver { job() }
    }
  }

  private func connect() {
    guard !isStopped, session == nil, wantsSession else { return }
    let session = AMQPSession(world, to: QueueWorkload.address, number: workload.ledger.newSession()) { [weak self] in
      self?.sessionEnded()
    }
    self.session = session
    session.onCommand = { [weak self] in self?.received($0, $1, $2) }
    session.onProblem = { [weak self] in self?.scenario.ledger.violate($0, .answers) }
    session.losesAnswer = { [weak self] in self?.losesAnswer() ?? false }
    begin(session)
  }

  private func sessionEnded() {
    guard let over = session else { return }
    session = nil
    workload.ledger.ended(session: over.number)
    if over.refusal != nil { workload.ledger.refused(session: over.number) }
    if let refusal = over.refusal, !QueueClient.excuses.contains(refusal.code), !excuses(refusal.code, refusal.text) {
      scenario.ledger.violate("an AMQP client was refused: \(refusal.code) \(refusal.text)", .answers)
    }
    ended(over)
    later(30) { [weak self] in self?.connect() }
  }

  private func losesAnswer() -> Bool {
    let chance = scenario.plan.answerLoss
    guard chance > 0, Double.random(in: 0..<1, using: &random) < chance else { return false }
    scenario.count("answers lost")
    return true
  }

  /// Whether another session is to be begun.
  var wantsSession: Bool { true }

  /// A session begins; commands may be sent.
  func begin(_ session: AMQPSession) {}

  /// Something came.
  func received(_ method: AMQPMethod, _ properties: BasicProperties, _ body: Bytes) {}

  /// The session is over; answers that were waited for never come.
  func ended(_ session: AMQPSession) {}

  /// Whether the client knows why the server refused.
  func excuses(_ code: UInt16, _ text: String) -> Bool { false }
}
