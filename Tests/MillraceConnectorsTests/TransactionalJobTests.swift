// TransactionalJobTests: jobs beside transactions: what they read, and when readers of committed records see their results.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceConnectors
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Testing

/// A transactional producer of the first protocol, over the broker's own calls.
private struct TestProducer {
  let broker: RunningBroker
  let id: String
  let identity: ProducerIdentity
  private var sequences: [TopicPartition: Int32] = [:]

  init(_ broker: RunningBroker, _ id: String) throws {
    self.broker = broker
    self.id = id
    let result: Result<ProducerIdentity, BrokerError> = broker.ask { broker, answer in
      broker.transactions.initialise(id, timeoutMilliseconds: 60_000, expected: nil) { answer($0) }
    }
    identity = try result.get()
  }

  mutating func write(_ topic: String, _ lines: [String]) throws {
    let partition = TopicPartition(topic, 0)
    var builder = RecordBatchBuilder()
    for line in lines { builder.append(Record(value: Bytes(line), timestamp: .now)) }
    let sequence = sequences[partition] ?? 0
    sequences[partition] = sequence + Int32(lines.count)
    let batch = builder.finish(
      producerID: identity.id, producerEpoch: identity.epoch, baseSequence: sequence, isTransactional: true,
      compress: { $0 })
    let error: BrokerError? = broker.ask { [id, identity] broker, answer in
      broker.transactions.add([partition], to: id, identity) { error in
        guard error == nil, let found = broker.topic(topic) else { return answer(error) }
        broker.produce(found, 0, records: batch, transaction: TransactionalWrite(id: id, addsPartition: false)) {
          if case .failure(let error) = $0 { answer(error) } else { answer(nil) }
        }
      }
    }
    if let error { throw error }
  }

  func end(commit: Bool) throws {
    let result: Result<ProducerIdentity, BrokerError> = broker.ask { [id, identity] broker, answer in
      broker.transactions.end(id, identity, isCommit: commit, bumps: false) { answer($0) }
    }
    _ = try result.get()
  }
}

extension RunningBroker {
  /// Values that a reader of committed records sees in partition 0, and where it had to stop.
  fileprivate func committedValues(_ topic: String) throws -> (values: [String], end: Offset) {
    var out: [String] = []
    var offset: Offset = 0
    while true {
      let from = offset
      let result: Result<([Bytes], [AbortedTransaction], Offset), BrokerError> = ask { broker, answer in
        let log = broker.topic(topic).flatMap { broker.partition($0, 0) }
        broker.fetch(
          [FetchTarget(partition: log, offset: from, limit: 1 << 20, isCommittedOnly: true)], minimum: 0,
          limit: 1 << 20, wait: .zero
        ) { results in
          let one = results[0]
          answer(one.error.map { .failure($0) } ?? .success((one.batches, one.aborted, one.lastStableOffset)))
        }
      }
      let (runs, aborted, end) = try result.get()
      if runs.isEmpty { return (out, end) }
      for run in runs {
        var at = 0
        while at < run.count {
          let header = try RecordBatchHeader(run[at..<run.count])
          if aborted.letSee(header) {
            out += try Broker.records(of: run[at..<(at + header.totalSize)]).compactMap { $0.value?.text }
          }
          at += header.totalSize
          offset = header.nextOffset
        }
      }
    }
  }
}

private func drain(_ broker: RunningBroker) throws {
  var options = JobOptions()
  options.readBytes = 200
  options.stepBytes = 1
  options.idleWait = .zero
  options.briefWait = .zero
  let executor = try JobExecutor(WordCount.job(), host: broker.get { BrokerJobHost($0) }, options: options)
  while try executor.turn() == .progress {}
  try executor.settle()
}

@Suite("a job beside transactions")
struct TransactionalJobTests {
  @Test("reads what is committed, in its place, and gets no further than a transaction in progress")
  func readsCommitted() throws {
    try inTemporaryDirectory { directory in
      var broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      try broker.createTopic("counts", partitions: 1)
      var one = try TestProducer(broker, "one")
      var two = try TestProducer(broker, "two")
      try one.write("lines", ["a", "void"])
      try two.write("lines", ["b"])
      try one.end(commit: false)
      try two.end(commit: true)
      for _ in 0..<20 {
        try one.write("lines", ["void"])
        try one.end(commit: false)
      }
      try broker.produce("lines", 0, ["a b"])
      try one.write("lines", ["open"])
      try broker.produce("lines", 0, ["behind"])
      try drain(broker)
      #expect(try broker.committedValues("counts").values == ["1", "1", "2"])
      try one.end(commit: true)
      try broker.close()
      broker = try RunningBroker(directory)
      try drain(broker)
      #expect(try broker.committedValues("counts").values == ["1", "1", "2", "1", "1"])
      #expect(try broker.records("counts").map { $0.key?.text } == ["b", "a", "b", "open", "behind"])
      try broker.close()
    }
  }

  @Test("its results are visible with the commit of their step, unless an open transaction stands before them")
  func resultsAreVisible() throws {
    try inTemporaryDirectory { directory in
      let broker = try RunningBroker(directory)
      try broker.createTopic("lines", partitions: 1)
      try broker.createTopic("counts", partitions: 1)
      try broker.produce("lines", 0, ["x"])
      try drain(broker)
      #expect(try broker.committedValues("counts").values == ["1"])
      var other = try TestProducer(broker, "other")
      try other.write("counts", ["foreign"])
      try broker.produce("lines", 0, ["x"])
      try drain(broker)
      // The step is committed, but a reader of committed records waits for what stands before it, as with Kafka.
      let held = try broker.committedValues("counts")
      #expect(held.values == ["1"] && held.end == 1)
      try other.end(commit: false)
      #expect(try broker.committedValues("counts").values == ["1", "2"])
      try broker.close()
    }
  }
}
