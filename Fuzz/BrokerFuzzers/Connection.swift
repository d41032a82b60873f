// Connection: bytes of a client that means harm, to a connection of the real server.
//
// The first byte chooses: even, the rest is sent as it is, in pieces; odd, it is cut into requests with right sizes and
// headers: API, version, two bytes of length, body. Whatever comes back must be whole frames in the order of the requests.

import FuzzHarness
import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceSimulation

let connection = FuzzTarget(
  name: "connection", allowance: 8 << 20,
  seeds: {
    [[0, 0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0, 0], [1, 3, 9, 0, 4, 1, 0, 0, 0, 18, 4, 0, 2, 0, 0]]
      + (0..<APIKey.allCases.count).map { [1, UInt8($0), 255, 0, 16] + [UInt8](repeating: 0, count: 16) }
  }
) { input in
  let machine: Machine
  do throws(BrokerError) {
    machine = try Machine()
  } catch {
    preconditionFailure("the broker does not start: \(error)")
  }
  defer { machine.end() }
  var made = false
  machine.broker.createTopic("t", partitions: 2) { _ in made = true }
  machine.world.run(atMost: 2000) { made }
  let client = machine.connect()
  var choices = Choices(input)
  var sent: [Int32] = []
  let mode = choices.byte()
  if mode % 2 == 0 {
    while !choices.isEmpty, !client.isClosed {
      client.write(choices.bytes(1 + choices.number(below: 600)))
      if mode % 4 == 0 { machine.world.run(for: .milliseconds(3)) }
    }
  } else {
    while !choices.isEmpty, sent.count < 50, !client.isClosed {
      let frame = request(&choices, correlation: Int32(sent.count))
      sent.append(Int32(sent.count))
      client.write(frame)
      if mode % 4 == 1 { machine.world.run(for: .milliseconds(3)) }
    }
  }
  machine.world.run(for: .milliseconds(40))
  checkAnswers(client, sent: mode % 2 == 0 ? nil : sent.count)
  client.close()
  machine.world.run(for: .milliseconds(5))
}

/// A request with a right size and header, and a body out of the input.
private func request(_ choices: inout Choices, correlation: Int32) -> Bytes {
  let api = APIKey.allCases[choices.number(below: APIKey.allCases.count)]
  let versions = api.advertisedVersions
  let version = versions.lowerBound + Int16(choices.byte()) % Int16(versions.count)
  let body = choices.bytes(choices.number(below: 1 << 16))
  var writer = ByteWriter()
  writer.int32(0)
  writer.int16(api.rawValue)
  writer.int16(version)
  writer.int32(correlation)
  writer.int16(-1)
  if api.isFlexible(version) { writer.uint8(0) }
  body.withBuffer { writer.copy($0) }
  writer.patchInt32(Int32(writer.count - 4), at: 0)
  return writer.finishJoined()
}

private func checkAnswers(_ client: SimulatedClientConnection, sent: Int?) {
  var reader = ByteReader(Bytes(client.received))
  var last: Int32 = -1
  do throws(DecodingError) {
    while reader.remaining >= 4 {
      let size = Int(try reader.int32())
      precondition(size >= 4, "an answer of \(size) bytes")
      // What a connection that was closed or is slow has not delivered yet.
      guard reader.remaining >= size else { return }
      var frame = ByteReader(try reader.slice(size))
      let correlation = try frame.int32()
      if let sent {
        precondition(correlation > last && correlation < sent, "answer \(correlation) after \(last), \(sent) were sent")
        last = correlation
      }
    }
  } catch {
    preconditionFailure("answers cannot be read: \(error)")
  }
}
