// AdmissionTests: connections that make room, and producers that wait while memory is short.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSecurity
import MillraceSimulation
import Testing

@testable import MillraceKafkaServer

private let listener = KafkaListener(security: ListenerSecurity(mechanisms: [.plain]), advertised: nil)

extension PlayedConnection {
  /// The connection is gone.
  fileprivate func lose() {
    handler?.connectionClosed(nil)
    handler = nil
  }
}

@Suite struct AdmissionTests {
  @Test("a connection that says nothing makes room for another one, and who asks for nothing keeps its place")
  func displacement() throws {
    var settings = BrokerSettings()
    try settings.set("max.connections", "3")
    let world = try ServerWorld(settings: settings)
    func connect(_ listener: KafkaListener) -> PlayedConnection {
      let connection = PlayedConnection()
      connection.handler = world.server.accept(connection, listener)
      return connection
    }
    let known = connect(.open)
    let silent = connect(listener)
    let second = connect(listener)
    let third = connect(listener)
    #expect(silent.isClosing && !known.isClosing && !second.isClosing && !third.isClosing)
    silent.lose()
    #expect(world.server.connectionCount == 3 && world.broker.admission.census.count == 3)
    #expect(world.broker.admission.displaced == 1)
    let other = connect(.open)
    #expect(second.isClosing && !known.isClosing && !other.isClosing)
    second.lose()
    let last = connect(.open)
    third.lose()
    let refused = connect(listener)
    #expect(refused.isClosing && !last.isClosing)
    let kind = ConnectionAdmission.Refused(protocolName: "kafka", reason: .tooMany)
    #expect(world.broker.admission.refusals == [kind: 1])
    refused.lose()
    #expect(world.broker.admission.census.count == 3)
    known.lose()
    #expect(world.broker.admission.census.count == 2)
  }

  @Test("while memory is short producers are not read from, readers are, and all goes on when there is some again")
  func memory() throws {
    let world = try ServerWorld()
    var held: Int64 = 100
    var relieved = 0
    world.broker.memory.watch(limit: 1000, resident: { held }, relieve: { relieved += 1 })
    let producer = world.accept()
    let reader = world.accept()
    producer.receive(frame(produce(), 9, 1))
    try world.wait(producer, answers: 1)
    held = 800
    world.world.run(for: .seconds(2))
    #expect(world.broker.memory.isLow && !producer.isReading && reader.isReading)
    #expect(world.broker.queues.pressure == "low on memory")
    let late = world.accept()
    // Who has not produced yet is heard once more; then it waits, too.
    late.receive(frame(produce(), 9, 1))
    try world.wait(late, answers: 1)
    #expect(!late.isReading)
    reader.receive(frame(ApiVersionsRequest(), 3, 1))
    try world.wait(reader, answers: 1)
    // A little below the mark is not enough.
    held = 650
    world.world.run(for: .seconds(2))
    #expect(world.broker.memory.isLow && relieved > 0)
    held = 600
    world.world.run(for: .seconds(2))
    #expect(!world.broker.memory.isLow && producer.isReading && late.isReading)
    #expect(world.broker.queues.pressure == nil && world.broker.memory.timesLow == 1)
    producer.receive(frame(produce(), 9, 2))
    try world.wait(producer, answers: 2)
  }
}
