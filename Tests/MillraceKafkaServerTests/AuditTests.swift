// AuditTests: what was asked by whom is told in the topic of the audit, once for many times, and cannot be written by clients.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceModel
import MillraceSecurity
import Testing

@testable import MillraceKafkaServer

extension ServerWorld {
  /// The audit's records.
  fileprivate func audit() throws -> [String] {
    guard let topic = broker.topic(AuditLog.topic) else { return [] }
    let client = AdminClient(self)
    let answer = try client.ask(
      FetchRequest(
        maxWaitMilliseconds: 0, minBytes: 0, maxBytes: 1 << 20,
        topics: [
          .init(topic: topic.name, partitions: [.init(partition: 0, fetchOffset: 0, partitionMaxBytes: 1 << 20)])
        ]),
      11)
    let pieces = try #require(answer.responses.first?.partitions.first).records
    var bytes: [UInt8] = []
    for piece in pieces { piece.withBuffer { bytes += $0 } }
    var found: [String] = []
    var run = RecordBatchRun(Bytes(bytes))
    while let (batch, header) = try run.next() {
      let body = batch[RecordBatchHeader.size..<batch.count]
      for record in try RecordReader.records(body, header: header) { found.append(record.value?.text ?? "") }
    }
    return found
  }
}

@Test("a denial is told once for many times, with who, what and how often")
func deniedOften() throws {
  var settings = BrokerSettings()
  try settings.set("allow.everyone.if.no.acl.found", "false")
  let world = try ServerWorld(settings: settings)
  let client = AdminClient(world)
  for _ in 0..<5 { _ = try client.ask(produce(), 9) }
  world.world.run(for: .seconds(2))
  world.broker.access.isExposed = false
  var opened = false
  world.broker.changeRules(adding: [
    AccessRule(.init(.topic, "*"), .everybody, .all),
    AccessRule(.init(.topic, "secret"), .anonymous, .write, isAllowed: false),
  ]) { _ in opened = true }
  try #require(world.world.run { opened })
  let records = try world.audit()
  #expect(records.count == 1)
  #expect(
    records[0].contains(
      #""principal":"User:ANONYMOUS","host":"127.0.0.1","operation":"write","resource":"topic","name":"t","allowed":false,"count":5"#
    ), "\(records)")
}

@Test("more different things than are kept become one record, and memory does not grow with them")
func flood() throws {
  let world = try ServerWorld()
  world.broker.access.isExposed = true
  let session = ClientSession(world.broker.access, Principal("mallory"), from: "10.0.0.1")
  for number in 0..<5000 { #expect(!session.allows(.read, .topic, "topic-\(number)")) }
  world.broker.access.isExposed = false
  world.world.run(for: .seconds(2))
  let records = try world.audit()
  #expect(records.count == 1001)
  #expect(records.last?.contains(#""operation":"others","count":4000"#) == true)
}

@Test("clients cannot write to the audit")
func clientsCannotWrite() throws {
  let world = try ServerWorld()
  world.broker.access.isExposed = true
  #expect(!ClientSession(world.broker.access, .anonymous, from: "h").allows(.read, .topic, "x"))
  world.world.run(for: .seconds(2))
  world.broker.access.isExposed = false
  try #require(world.broker.topic(AuditLog.topic) != nil)
  let answer = try AdminClient(world).ask(produce(topic: AuditLog.topic), 9)
  #expect(answer.responses[0].partitionResponses[0].errorCode == .invalidTopic)
  #expect(try world.audit().count == 1)
}
