// MixedGroupTests: a group with members inside the program and others over the protocol.

import Foundation
import Millrace
import MillraceBase
import MillraceIO
import MillraceModel
import Synchronization
import Testing

@testable import MillraceServer

/// Reads for a member over the protocol, on a thread of its own, until it has `count` records; then commits and leaves.
private func wireMember(
  _ address: ServerAddress, count: Int, joined: InProcessQueue<Int>, done: InProcessQueue<[Int]>
) throws {
  _ = try SystemThread(name: "wire") {
    do {
      let client = KafkaClient(address, timeout: .seconds(10))
      let member = GroupMember(client, group: "g", topic: "t")
      let mine = try member.join()
      let committed = try member.committed(mine)
      let fetcher = MillraceServer.RecordFetcher(client)
      fetcher.assign(
        Dictionary(uniqueKeysWithValues: mine.map { ($0, committed[$0] ?? 0) }), of: try client.topics())
      try joined.send(mine.count)
      var numbers: [Int] = []
      while numbers.count < count {
        if try member.mustRejoin() { throw ClientError(.malformed, "the group rebalanced meanwhile") }
        for record in try fetcher.fetch(wait: .milliseconds(20)).records {
          fetcher.took(record)
          if let number = Int(record.record.value?.text ?? "") { numbers.append(number) }
        }
      }
      #expect(try member.commit(fetcher.positions))
      try member.leave()
      try done.send(numbers)
    } catch {
      Issue.record("the member over the protocol failed: \(error)")
      joined.close()
      done.close()
    }
  }
}

@Test(
  "a member in the program and one over the protocol share a group, hand over both ways, and lose and repeat nothing")
func mixedGroup() async throws {
  let directory = try TemporaryDirectory()
  let broker = try await EmbeddedBroker.open(directory: directory.path)
  try await broker.createTopic("t", partitions: 4)
  let bound = try await broker.listen()
  let embedded = InProcessQueue<Int>(capacity: 1000)
  let consumer = Task {
    for try await record in broker.consume("t", group: "g") { try await embedded.send(Int(record.text) ?? -1) }
  }
  var sent = 0
  func produce() async throws {
    for partition in Int32(0)..<4 {
      for _ in 0..<10 {
        try await broker.produce([Record(value: Bytes("\(sent)"))], to: "t", partition: partition)
        sent += 1
      }
    }
  }
  var got: [Int] = []
  func receive(_ count: Int) async throws {
    for _ in 0..<count { got.append(try #require(try await embedded.receive())) }
  }
  try await produce()
  try await receive(40)

  let joined = InProcessQueue<Int>(capacity: 1)
  let done = InProcessQueue<[Int]>(capacity: 1)
  try wireMember(
    ServerAddress(host: bound.host, port: bound.port), count: 20, joined: joined, done: done)
  #expect(try await joined.receive() == 2)
  try await produce()
  try await receive(20)
  got += try #require(try await done.receive())

  // It has left: the member in the program has all partitions again.
  try await produce()
  try await receive(40)
  consumer.cancel()
  try await consumer.value
  #expect(got.sorted() == Array(0..<120))
  let committed = try await broker.committedOffsets(of: "g", topic: "t")
  #expect(committed == [0: 30, 1: 30, 2: 30, 3: 30])
  try await broker.close()
}
