// BrokerScenario+Reckoning: the end of a run: everybody gets on, then all is read and held against what was promised.

import MillraceBase
import MillraceBroker
import MillraceModel
import MillraceSimulation
import TransactionHistory

extension BrokerScenario {
  /// No more faults: everything that was sent gets acknowledged, then the machine ends once more and all is read.
  func reckon() {
    disk.capacity = 1 << 40
    isCalm = true
    world.network.cutProbability = 0
    world.network.stallProbability = 0
    plan.answerLoss = sabotage.losesAllAnswers ? 1 : 0
    plan.leavesConnections = false
    let isDone = world.run(atMost: sabotage.patience) { [self] in
      isBroken
        || producers.allSatisfy(\.isDone) && topics?.isDone != false
          && transactionalClients.allSatisfy(\.isDone) && keyedClients.allSatisfy(\.isDone) && queues?.isDone != false
    }
    if isBroken { return }
    if !isDone { return ledger.violate("producers do not get on any more at \(world.now.nanoseconds) ns", .progress) }
    deliver()
    if isBroken { return }
    // Time for tombstones to grow old, and for what is old to go.
    if cleanup != nil { world.run(for: .milliseconds(Int.random(in: 0...700, using: &random))) }
    if isBroken { return }
    for client in clients { client.stop() }
    queues?.stop()
    quieten()
    if let job, !isBroken { job.finish(machine?.broker) }
    if !isBroken { queues?.finishWork() }
    if isBroken { return }
    end()
    guard start(crashing: random.oneIn(4)) else { return }
    sabotage.ledger(&ledger)
    let reader = FinalReader(self, partitions: partitions)
    reader.start()
    world.run(atMost: 3_000_000) { [self] in isBroken || reader.isDone }
    if !isBroken, !reader.isDone { ledger.violate("the final reader does not get on any more", .progress) }
    reader.stop()
    if !transactionalClients.isEmpty, !isBroken { readTransactions() }
    if !isBroken { queues?.reckon() }
    if !isBroken { readCleaned() }
    if !transformers.isEmpty, !isBroken { readTransformed() }
    if let job, let broker = machine?.broker, !isBroken { job.check(broker) }
    for file in disk.contents() where file.path.hasSuffix(".segment") { count("segments at the end") }
  }

  /// Waits until what is still on its way, over connections that clients have left, has arrived: it is part of the input.
  private func quieten() {
    func ends() -> [Offset] {
      guard let broker = machine?.broker else { return [] }
      return partitions.map { partition in
        broker.topic(partition.topic).flatMap { broker.partition($0, partition.partition) }?.nextOffset ?? 0
      }
    }
    for _ in 0..<1000 {
      let before = ends()
      world.run(for: .milliseconds(100))
      if ends() == before { return }
    }
    ledger.violate("records are appended for ever, although nobody sends any", .progress)
  }

  /// Lets the groups go on until their members have processed everything.
  private func deliver() {
    // All producers are done, so these stay.
    let ends = partitions.map { (partition: $0, end: ledger.promisedEnd($0)) }
    for (histories, has) in [(\BrokerScenario.group, !members.isEmpty), (\.consumerGroup, !consumerMembers.isEmpty)]
    where has {
      let isDone = world.run(atMost: sabotage.patience) { [self] in
        isBroken || ends.allSatisfy { self[keyPath: histories].processedEnd($0.partition) >= $0.end }
      }
      if isDone { continue }
      let behind = ends.filter { self[keyPath: histories].processedEnd($0.partition) < $0.end }.map(\.partition)
      return ledger.violate("members of a group never get to records of \(behind), which nobody processes", .delivery)
    }
    if !sharers.isEmpty {
      let isDone = world.run(atMost: sabotage.patience) { [self] in
        isBroken || ends.allSatisfy { share.missing($0.partition, below: sabotage.sharedEnd($0.end)) == nil }
      }
      if !isDone {
        let behind = ends.compactMap { one in
          share.missing(one.partition, below: sabotage.sharedEnd(one.end)).map { "\(one.partition) at \($0)" }
        }
        return ledger.violate("the share group never gets the records of \(behind)", .sharedDelivery)
      }
    }
    guard !transformers.isEmpty else { return }
    let isDone = world.run(atMost: sabotage.patience) { [self] in
      isBroken || ends.allSatisfy { transform.acknowledgedEnd($0.partition) >= $0.end }
    }
    if !isDone { ledger.violate("transformers do not get on any more", .progress) }
  }

  /// Holds what retention takes for the size of each partition against what there is of it.
  func checkSizes(_ when: String) {
    guard let broker = machine?.broker else { return }
    for (_, topic) in broker.topics.sorted(by: { $0.key < $1.key }) {
      for index in topic.partitions.indices {
        guard let log = broker.partition(topic, Int32(index)), log.size != log.addedUpSize else { continue }
        ledger.violate(
          "\(topic.name)-\(index) \(when): its size is taken for \(log.size), its batches have \(log.addedUpSize)",
          .cleanupKeeps)
      }
    }
  }

  /// Reads what is left of the topic that is cleaned up, for both kinds of readers.
  private func readCleaned() {
    guard let cleanup else { return }
    let reader = KeyedReader(self, state: cleanup, isFinal: true)
    reader.start()
    world.run(atMost: 3_000_000) { [self] in isBroken || reader.isDone }
    if !isBroken, !reader.isDone { ledger.violate("reading the cleaned topic does not come to its end", .progress) }
    reader.stop()
  }

  /// Reads what the transformers have made of the input, and how far they say that they got.
  private func readTransformed() {
    let reader = TransformReader(self, inputs: partitions)
    reader.start()
    world.run(atMost: 3_000_000) { [self] in isBroken || reader.isDone }
    if !isBroken, !reader.isDone {
      ledger.violate("reading the transformers' outputs does not come to their end", .progress)
    }
    reader.stop()
  }

  /// Reads the lists to their ends and holds the history against them.
  private func readTransactions() {
    let reader = CommittedReader(self, ledger: transactions, isFinal: true)
    reader.start()
    world.run(atMost: 3_000_000) { [self] in isBroken || reader.isDone }
    if !isBroken, !reader.isDone {
      ledger.violate("reading committed records does not get to the end of the lists", .progress)
    }
    reader.stop()
    guard !isBroken else { return }
    sabotage.history(&transactions.history)
    count("transactions in histories", transactions.history.transactions.count)
    for anomaly in transactions.history.anomalies() { ledger.violate("transactions: \(anomaly)", .transactionHistory) }
  }
}
