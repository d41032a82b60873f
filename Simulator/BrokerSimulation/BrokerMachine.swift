// BrokerMachine: the real broker and its servers on a simulated machine, from one start to its end.

import MillraceAMQPServer
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaServer
import MillraceLog
import MillraceSimulation
import Synchronization

/// A running broker.
final class BrokerMachine {
  let broker: Broker
  private let server: KafkaServer
  private let amqp: AMQPServer?
  /// A write has failed; the owner must end the machine.
  private(set) var hasFailed = false

  /// Opens the broker and listens.
  /// - Throws: when the broker does not open, for example because power failed.
  init(
    _ scenario: BrokerScenario, _ configuration: LogConfiguration, _ fileSystem: any FileSystem, seed: UInt64
  ) throws(BrokerError) {
    let world = scenario.world
    let reactor = SimulatedReactor(world: world, name: "broker")
    let lines = scenario.logLines
    var settings = BrokerSettings()
    // Clocks are set forward and back here, and nothing is to expire by that.
    try settings.set("log.retention.ms", "-1")
    // Small disks are to fill up, too.
    try settings.set("disk.low.bytes", "8192")
    // Members of simulated groups have short lives.
    try settings.set("group.min.session.timeout.ms", "50")
    // Sessions are as short as the usual wait for the first members.
    try settings.set("group.initial.rebalance.delay.ms", "0")
    for (name, value) in [
      ("min.session.timeout", 50), ("session.timeout", ConsumerMember.session), ("min.heartbeat.interval", 10),
      ("heartbeat.interval", 60),
    ] { try settings.set("group.consumer.\(name).ms", "\(value)") }
    for (name, value) in [
      ("min.session.timeout", 50), ("session.timeout", SharingMember.session), ("min.heartbeat.interval", 10),
      ("heartbeat.interval", 60), ("min.record.lock.duration", 10), ("record.lock.duration", SharingMember.lock),
    ] { try settings.set("group.share.\(name).ms", "\(value)") }
    // Answers are lost, and what was never seen is not to be given up.
    try settings.set("group.share.delivery.count.limit", "50")
    // Some windows are to fill up.
    try settings.set("group.share.partition.max.record.locks", "100")
    try settings.set("log.retention.check.interval.ms", "15")
    try settings.set("log.cleaner.backoff.ms", "25")
    if let cleanup = scenario.plan.cleanup {
      try settings.set("log.cleaner.dedupe.buffer.size", "\(cleanup.mapSize)")
    }
    let delay: ClosedRange<Duration> =
      scenario.plan.hasSlowDisk ? .milliseconds(1) ... .milliseconds(50) : .microseconds(20) ... .milliseconds(1)
    broker = try Broker(
      log: configuration, settings: settings, fileSystem: fileSystem, reactor: reactor,
      writer: SimulatedExecutor(world: world, threads: 4, delay: delay),
      background: SimulatedExecutor(world: world, threads: 3, delay: delay),
      logger: Logger(minimum: .info) { lines.take($0, $1) }, seed: seed)
    server = KafkaServer(broker: broker, logger: .silent)
    broker.queues.register(AMQPMessageFormat.shared)
    if let plan = scenario.queues?.plan { broker.queues.sharedBodySize = plan.sharedBodySize }
    amqp = scenario.queues.map { [broker] _ in AMQPServer(broker: broker, logger: .silent, seed: seed) }
    broker.onFailure = { [unowned self] _ in hasFailed = true }
    do throws(IOError) {
      _ = try server.listen(scenario.address)
      _ = try amqp?.listen(QueueWorkload.address)
    } catch {
      scenario.ledger.violate("the server does not listen: \(error)")
    }
  }

  func close(_ done: @escaping (BrokerError?) -> Void) {
    server.stopAccepting()
    guard let amqp else { return broker.close(done) }
    // As the program does, so that nobody gets the broker's refusals for an answer.
    amqp.close { [broker] in broker.close(done) }
  }
}

/// Keeps the broker's log lines that matter, over all machines of a run.
final class LogLines: Sendable {
  private struct Lines {
    var tornTails = 0
    var warnings: [String] = []
  }
  private let lines = Mutex(Lines())

  /// Starts that cut something off.
  var tornTails: Int { lines.withLock { $0.tornTails } }
  /// The last warnings and errors.
  var warnings: [String] { lines.withLock { $0.warnings } }

  func take(_ level: LogLevel, _ line: String) {
    lines.withLock { lines in
      if line.contains("cut off a torn tail") { lines.tornTails += 1 }
      guard level >= .warning else { return }
      if lines.warnings.count == 20 { lines.warnings.removeFirst() }
      // Without the time, which is the real one.
      lines.warnings.append(String(line.drop { $0 != " " }.dropFirst()))
    }
  }
}
