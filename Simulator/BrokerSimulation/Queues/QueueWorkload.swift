// QueueWorkload: the AMQP side of a run: its queues, the clients that work on them, and the reckoning with both.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceRouting
import MillraceSimulation

final class QueueWorkload {
  static let address = SocketAddress(host: "127.0.0.1", port: 5672)

  unowned let scenario: BrokerScenario
  let plan: QueuePlan
  var random: SeededRandom
  var ledger: QueueLedger
  var moves = MoveLedger()
  private(set) var isStopped = false
  private var clients: [QueueClient] = []
  private var publishers: [QueuePublisherClient] = []
  private var seeding: SeedingClient?
  private var passing: PassingQueueClient?
  private var carrier: QueueCarrier?
  private var lastTransaction = 0
  /// Everything is taken out before the last restart, and not behind it.
  private let drainsEarly: Bool

  init(_ scenario: BrokerScenario, seed: UInt64) {
    self.scenario = scenario
    random = SeededRandom(seed: seed ^ 0xa319_0901)
    plan = QueuePlan(&random, focus: scenario.sabotage.focus)
    ledger = QueueLedger(plan.families, jumpsClock: scenario.plan.jumpsClock)
    // What was published under another clock may wait for hours.
    drainsEarly = random.oneIn(2) && !scenario.plan.jumpsClock
  }

  /// Topics that it needs.
  var topics: [String] { plan.families.contains { $0.kind == .logged } ? [QueuePlan.topic] : [] }

  private var places: [String] {
    plan.families.flatMap { $0.kind == .logged ? [QueuePlan.topic] : $0.places }
      + (plan.movers > 0 ? MoveLedger.queues : [])
  }

  /// The log may refuse a publication, and nobody may hear of it.
  var mayRefuse: Bool {
    scenario.plan.diskCapacity != nil || scenario.plan.failsWrites || scenario.plan.failsFlushes
  }

  func newTransaction() -> Int {
    lastTransaction += 1
    return lastTransaction
  }

  func report(_ problems: [QueueProblem]) {
    for problem in problems { scenario.ledger.violate(problem.text, problem.rule) }
  }

  /// Who a body is from; a violation when it is not as it was sent.
  func name(in body: Bytes, from place: String) -> MessageName? {
    if let read = QueueMessage.read(body) { return read.name }
    scenario.ledger.violate("\(place): a message is not as it was sent", .queueMessages)
    return nil
  }

  // MARK: The beginning

  /// Declares everything, before anything fails.
  func declare(_ queues: QueueBroker) {
    var open = 1
    let noted: (RoutingError?) -> Void = { [self] error in
      open -= 1
      if let error { scenario.ledger.violate("what the AMQP clients need cannot be made: \(error)") }
    }
    func make(_ body: (@escaping (RoutingError?) -> Void) -> Void) {
      open += 1
      body(noted)
    }
    do throws(RoutingError) {
      let fan = try Exchange(name: QueuePlan.fanout, type: "fanout", isDurable: true)
      let log = try Exchange(name: QueuePlan.topicExchange, type: "fanout", isDurable: true)
      let later = try Exchange(
        name: QueuePlan.delayingExchange, type: "x-delayed-message", isDurable: true,
        arguments: ["x-delayed-type": .string("direct")])
      for exchange in [fan, log, later] { make { queues.declareExchange(exchange, in: "/", completion: $0) } }
    } catch {
      noted(error)
    }
    for family in plan.families where family.kind != .logged {
      for place in family.places {
        var declaration = QueueDeclaration(name: place, virtualHost: "/", isDurable: true)
        if place == family.name { declaration.arguments = QueueWorkload.table(family.arguments) }
        make { done in
          queues.declare(declaration, in: "/", owner: nil) { result in
            if case .failure(let error) = result { done(error) } else { done(nil) }
          }
        }
      }
    }
    if plan.movers > 0 {
      for queue in MoveLedger.queues {
        make { done in
          let declaration = QueueDeclaration(name: queue, virtualHost: "/", isDurable: true)
          queues.declare(declaration, in: "/", owner: nil) { result in
            if case .failure(let error) = result { done(error) } else { done(nil) }
          }
        }
      }
    }
    scenario.world.run { open == 1 }
    for family in plan.families where !family.exchange.isEmpty {
      let queue = family.kind == .logged ? QueuePlan.topic : family.name
      let binding = Binding(source: family.exchange, destination: .queue(queue), key: family.name)
      make { queues.bind(binding, in: "/", owner: nil, completion: $0) }
    }
    scenario.world.run { open == 1 }
    if open > 1 { scenario.ledger.violate("the AMQP clients' queues do not come into being", .progress) }
  }

  private static func table(_ arguments: AMQPFieldTable) -> RoutingTable {
    RoutingTable(
      arguments.map { field in
        RoutingTable.Field(
          field.key.text, field.value.integer.map { .int64($0) } ?? .string(field.value.text ?? ""))
      })
  }

  func start() {
    let routes = self.routes
    if !routes.isEmpty {
      for (id, promises) in plan.publishers.enumerated() {
        let publisher = QueuePublisherClient(
          self, id: id, promises, routes, messages: Int.random(in: 10...150, using: &random))
        publishers.append(publisher)
      }
    }
    clients += publishers
    for (index, family) in plan.families.enumerated() {
      for _ in 0..<family.consumers {
        let place = family.dead != nil && random.oneIn(4) ? family.dead ?? "" : family.name
        clients.append(
          QueueConsumerClient(self, place, of: index, messages: Int.random(in: 5...100, using: &random)))
      }
    }
    if plan.movers > 0 {
      let seeding = SeedingClient(self, messages: Int.random(in: 3...60, using: &random))
      self.seeding = seeding
      clients.append(seeding)
      for _ in 0..<plan.movers {
        clients.append(MovingClient(self, transactions: Int.random(in: 3...40, using: &random)))
      }
    }
    if plan.hasPassing {
      let passing = PassingQueueClient(self, rounds: Int.random(in: 1...4, using: &random))
      self.passing = passing
      clients.append(passing)
    }
    if plan.hasCarrier { carrier = QueueCarrier(self) }
    for client in clients { client.start() }
  }

  private var routes: [QueuePublisherClient.Route] {
    var routes: [QueuePublisherClient.Route] = []
    let fanned = plan.families.indices.filter { plan.families[$0].kind == .fanned }
    if let first = fanned.first {
      routes.append(.init(exchange: QueuePlan.fanout, key: "", families: fanned, kind: .fanned))
      routes.append(.init(exchange: "", key: plan.families[first].name, families: [first], kind: .fanned))
    }
    for (index, family) in plan.families.enumerated() where family.kind != .fanned {
      routes.append(.init(exchange: family.exchange, key: family.name, families: [index], kind: family.kind))
    }
    return routes
  }

  // MARK: Work

  var isDone: Bool {
    publishers.allSatisfy(\.isDone) && seeding?.isDone != false && passing?.isDone != false
  }

  func turn(_ broker: Broker?) { carrier?.turn(broker) }

  func stop() {
    isStopped = true
    for client in clients { client.stop() }
  }

  // MARK: The reckoning

  /// The clients are done. Perhaps takes everything out while the machine still runs.
  func finishWork() {
    if drainsEarly { drain(isAgain: false) }
    // Everything that was published under another clock is to be due.
    if scenario.plan.jumpsClock { scenario.setClock(to: 36_010) }
  }

  /// The machine has started once more.
  func reckon() { drain(isAgain: drainsEarly) }

  /// Takes everything out, and holds it against what is known.
  /// - Parameter isAgain: it was all taken out before, durably.
  private func drain(isAgain: Bool) {
    let places = places
    if places.isEmpty { return }
    let drain = QueueDrain(self, places)
    drain.start()
    scenario.world.run(atMost: scenario.sabotage.patience) { scenario.isBroken || drain.isDone }
    let isDone = drain.isDone
    drain.stop()
    if scenario.isBroken { return }
    guard isDone else { return scenario.ledger.violate("the queues cannot be emptied: \(drain.words)", .progress) }
    var left = drain.left
    if isAgain {
      for (place, messages) in left.sorted(by: { $0.key < $1.key }) where place != QueuePlan.topic && !messages.isEmpty
      {
        report([(.queueSettlements, "\(place): \(messages[0].name) is there again, the queue had been emptied")])
      }
      return
    }
    scenario.count("messages left in queues", left.values.reduce(0) { $0 + $1.count })
    left["logged"] = left[QueuePlan.topic]
    scenario.sabotage.left(&left, ledger)
    report(ledger.check(left, mayLose: mayRefuse))
    report(moves.check(MoveLedger.queues.map { left[$0] ?? [] }))
    for (what, count) in ledger.counts { scenario.count(what, count) }
    scenario.count("moves committed", moves.commits)
  }
}
