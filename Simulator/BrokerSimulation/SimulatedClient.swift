// SimulatedClient: what all clients of a simulation share: a connection that is made again whenever it ends.

import MillraceBase
import MillraceIO
import MillraceSimulation

/// A client that lives outside the machine, through all its crashes.
class SimulatedClient {
  let scenario: BrokerScenario
  private(set) var channel: ClientChannel?
  private(set) var isStopped = false
  var random: SeededRandom

  init(_ scenario: BrokerScenario) {
    self.scenario = scenario
    random = SeededRandom(seed: scenario.random.next())
  }

  var world: SimulatedWorld { scenario.world }

  func start() { connect() }

  /// Stops for good.
  func stop() {
    isStopped = true
    channel?.abandon()
    channel = nil
  }

  /// Runs `job` after a random time of at most `most` milliseconds unless the client has stopped.
  func later(_ most: Int, _ job: @escaping () -> Void) {
    let delay = Int.random(in: 0...(most * 1000), using: &random)
    world.schedule(after: .microseconds(delay)) { [weak self] in
      guard let self, !self.isStopped else { return }
      job()
    }
  }

  /// As ``later(_:_:)``, but not when the present connection has ended by then.
  func soon(_ most: Int, _ job: @escaping () -> Void) {
    let mine = channel
    later(most) { [weak self] in
      if let self, self.channel === mine { job() }
    }
  }

  private func connect() {
    guard !isStopped else { return }
    channel = ClientChannel(
      world, to: scenario.address, onProblem: { [weak self] in self?.scenario.ledger.violate($0) },
      onEnd: { [weak self] in self?.ended() })
    channel?.sabotage = scenario.sabotage.frame
    channel?.losesAnswer = { [weak self] in self?.losesAnswer() ?? false }
    connected()
  }

  private func ended() {
    channel = nil
    disconnected()
    later(30) { [weak self] in self?.connect() }
  }

  private func losesAnswer() -> Bool {
    let chance = scenario.plan.answerLoss
    guard chance > 0, Double.random(in: 0..<1, using: &random) < chance else { return false }
    scenario.count("answers lost")
    return true
  }

  /// Whether the client may leave a connection open on which requests are still under way, and send them again on
  /// another one. Only for requests whose repetition is harmless however late it comes.
  var leavesConnections: Bool { false }

  /// Called when a connection begins; requests may be sent.
  func connected() {}

  /// Called when the connection has ended; answers that were waited for never come.
  func disconnected() {}

  /// Gives the connection up and makes a new one, as clients do after an error that trying again may cure.
  func reconnect() {
    if leavesConnections, scenario.plan.leavesConnections, random.oneIn(2) {
      scenario.count("connections left open")
      channel?.leave(open: .milliseconds(Int.random(in: 0...40, using: &random)), in: world)
    } else {
      channel?.cut()
    }
  }
}
