// StableOffsetsTests: a consumer of the library that reads what is committed begins behind what a transaction in progress
// has worked on for its group.

import MillraceBroker
import MillraceModel
import Testing

@testable import Millrace

/// A topic of ten records, and a transaction in progress that is about to commit offset 5 for group `g`.
private func withOpenTransaction(
  _ body: (EmbeddedBroker, _ end: @escaping @Sendable (_ isCommit: Bool) async throws -> Void) async throws -> Void
) async throws {
  let directory = try TemporaryDirectory()
  let broker = try await EmbeddedBroker.open(directory: directory.path)
  try await broker.createTopic("t", partitions: 1)
  try await broker.produce((0..<10).map { Record(value: Bytes("\($0)")) }, to: "t")
  let producer: ProducerIdentity = try await broker.ask { broker, answer in
    broker.transactions.initialise("tx", timeoutMilliseconds: 60_000, expected: nil) {
      answer.give($0.mapError { MillraceError($0) })
    }
  }
  try await broker.ask { (broker, answer: Answer<Void>) in
    let committed = CommittedOffset(offset: 5, leaderEpoch: -1, metadata: nil, time: broker.reactor.wallClock)
    broker.transactions.commit(
      [PartitionOffset(partition: TopicPartition("t", 0), committed: committed)], of: "g", memberID: "",
      instanceID: nil, generation: -1, in: "tx", producer, isImplicit: true
    ) { answer.give($0.map { .failure(MillraceError($0)) } ?? .success(())) }
  }
  try await body(broker) { isCommit in
    let _: ProducerIdentity = try await broker.ask { broker, answer in
      broker.transactions.end("tx", producer, isCommit: isCommit, bumps: false) {
        answer.give($0.mapError { MillraceError($0) })
      }
    }
  }
  try await broker.close()
}

private func first(_ records: ConsumedRecords) async throws -> Offset? {
  for try await record in records { return record.offset }
  return nil
}

@Test(
  "a group's reader waits for the transaction that is about to commit its offsets",
  arguments: [nil, [0]] as [[Int32]?], [true, false])
func waitsForStableOffsets(_ partitions: [Int32]?, _ isCommit: Bool) async throws {
  try await withOpenTransaction { broker, end in
    let reading = Task { try await first(broker.consume("t", partitions: partitions, group: "g")) }
    try await Task.sleep(for: .milliseconds(300))
    try await end(isCommit)
    #expect(try await reading.value == (isCommit ? 5 : 0))
  }
}

@Test("who reads what is not committed as well does not wait, and one that is cancelled waits no longer")
func waitsOnlyWhenAskedTo() async throws {
  try await withOpenTransaction { broker, end in
    #expect(try await first(broker.consume("t", partitions: [0], group: "g", isolation: .uncommitted)) == 0)
    let waiting = Task { try await first(broker.consume("t", group: "g")) }
    try await Task.sleep(for: .milliseconds(200))
    waiting.cancel()
    #expect(try await waiting.value == nil)
    try await end(false)
  }
}
