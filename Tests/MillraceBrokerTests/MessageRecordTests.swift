// MessageRecordTests: messages come back from a lane's log as they went in; what is damaged is named and never trusted.

import MillraceBase
import MillraceDelivery
import MillraceModel
import Testing

@testable import MillraceBroker

private let lane = PartitionLogID(5)

private func batch(_ messages: [Message], at offset: Offset = 0) throws -> Bytes {
  var builder = RecordBatchBuilder()
  for message in messages { MessageRecord.append(message, to: &builder) }
  return placed(builder.finish(), at: offset)
}

/// The batch with another base offset, as the log writes it.
private func placed(_ batch: Bytes, at offset: Offset) -> Bytes {
  var bytes = batch.array
  bytes.withUnsafeMutableBytes { RecordBatchHeader.patch($0.baseAddress!, baseOffset: offset, leaderEpoch: 1) }
  return Bytes(bytes)
}

private func joined(_ batches: [Bytes]) -> Bytes { Bytes(batches.flatMap(\.array)) }

private func message(_ body: String, at offset: Offset = 0, size: Int? = nil) -> Message {
  Message(
    offset: offset, timestamp: Timestamp(milliseconds: 1000 + offset), exchange: "amq.topic", routingKey: "a.b",
    properties: Bytes("p"), body: Bytes(body), size: size)
}

private func read(
  _ runs: [Bytes], from offset: Offset = 0, count: Int = .max, bytes: Int = .max
) throws(MessageRecordError) -> ReadMessages {
  var reader = MessageReader(partition: lane, lane: 3)
  return try reader.read(runs, from: offset, count: count, bytes: bytes)
}

/// All that a message has, comparable.
private struct Fields: Equatable {
  var offset: Offset
  var priority: UInt8
  var flags: [Int]
  var times: [Timestamp]
  var texts: [String]
  var bytes: [Bytes?]

  init(_ message: Message, priority: UInt8? = nil, offset: Offset? = nil) {
    self.offset = offset ?? message.offset
    self.priority = priority ?? message.priority
    flags = [message.isDurable ? 1 : 0, Int(message.format), message.size]
    times = [message.timestamp, message.expiration, message.notBefore]
    texts = [message.exchange, message.routingKey]
    bytes = [message.groupKey, message.deduplicationID, message.properties, message.body]
  }
}

@Test("the bytes of a message's record stay what they are")
func goldenMessageRecord() throws {
  let message = Message(
    offset: 0, timestamp: Timestamp(milliseconds: 1), exchange: "x", routingKey: "key", properties: Bytes([0x80, 0]),
    body: Bytes("body"), size: 70, expiration: Timestamp(milliseconds: 258), notBefore: Timestamp(milliseconds: 3),
    groupKey: Bytes("g"), deduplicationID: Bytes("id"), isDurable: true, format: MessageRecord.amqpProperties)
  let record = try batch([message]).array[RecordBatchHeader.size...]
  let envelope: [UInt8] =
    [1, 1, 1, 0x8c, 0x01, 2, 0x78, 6, 0x6b, 0x65, 0x79, 4, 0x80, 0]
    + [1, 0, 0, 0, 0, 0, 0, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0, 3, 3, 2, 0x67, 4, 4, 0x69, 0x64]
  let expected: [UInt8] =
    [102, 0, 0, 0, 1, 8, 0x62, 0x6f, 0x64, 0x79, 2, 0, UInt8(2 * envelope.count)] + envelope
  #expect(Array(record) == expected)
  #expect(record.count <= MessageRecord.size(of: message))
}

@Test("oracle: random messages in random batches are read back from any offset, within count and bytes")
func oracleMessageRecords() throws {
  var random = SeededRandom(seed: 7)
  func bytes(_ limit: Int) -> Bytes {
    Bytes((0..<Int.random(in: 0...limit, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })
  }
  for _ in 0..<40 {
    var expected: [Fields] = []
    var runs: [Bytes] = []
    var offset = Offset(random.next() % 5)
    for _ in 0..<Int.random(in: 1...3, using: &random) {
      var batches: [Bytes] = []
      for _ in 0..<Int.random(in: 1...4, using: &random) {
        let messages = (0..<Int.random(in: 1...5, using: &random)).map { _ in
          let properties = bytes(40)
          let body = bytes(random.next() % 10 == 0 ? 9000 : 60)
          return Message(
            offset: 0, timestamp: Timestamp(milliseconds: Int64(random.next() % 1_000_000)),
            exchange: ["", "x", "Straße"].randomElement(using: &random)!,
            routingKey: ["", "a.b.c"].randomElement(using: &random)!, properties: properties, body: body,
            size: body.count + Int(random.next() % 300),
            expiration: random.next() % 2 == 0 ? .none : Timestamp(milliseconds: Int64(random.next() >> 1)),
            notBefore: random.next() % 2 == 0 ? .none : Timestamp(milliseconds: 0),
            groupKey: random.next() % 2 == 0 ? nil : bytes(9), deduplicationID: random.next() % 2 == 0 ? nil : bytes(9),
            isDurable: random.next() % 2 == 0, format: UInt8(random.next() % 256))
        }
        batches.append(try batch(messages, at: offset))
        for (index, message) in messages.enumerated() {
          expected.append(Fields(message, priority: 3, offset: offset + Offset(index)))
        }
        // Now and then a gap, as an export leaves it.
        offset += Offset(messages.count) + (random.next() % 4 == 0 ? 2 : 0)
      }
      runs.append(joined(batches))
    }
    let from = Offset.random(in: 0...offset, using: &random)
    let count = Int.random(in: 1...12, using: &random)
    let limit = Int.random(in: 1...2000, using: &random)
    let found = try read(runs, from: from, count: count, bytes: limit)
    var left = limit
    let wanted = expected.filter { $0.offset >= from }.prefix(count).prefix { one in
      defer { left -= one.flags[2] }
      return left > 0
    }
    #expect(found.messages.map { Fields($0) } == Array(wanted))
    #expect(try read(runs).messages.map { Fields($0) } == expected)
    // Reading on from where it ended finds the rest.
    #expect(
      try read(runs, from: found.end).messages.map { Fields($0) }
        == Array(expected.filter { $0.offset >= from }.dropFirst(wanted.count)))
  }
}

@Test("a reader stops behind its limits, and says how far it came")
func messageLimits() throws {
  let runs = [
    joined([try batch([message("a", size: 10), message("b", size: 10)]), try batch([message("c", size: 10)], at: 4)])
  ]
  #expect(try read(runs).end == 5)
  #expect(try read(runs, from: 5).end == 5)
  #expect(try read(runs, from: 2).messages.map(\.offset) == [4])
  let one = try read(runs, count: 1)
  #expect(one.messages.map(\.body.text) == ["a"] && one.end == 1)
  // The first comes whatever its size, and one that begins within the limit comes whole.
  #expect(try read(runs, bytes: 1).messages.count == 1)
  #expect(try read(runs, bytes: 11).messages.count == 2)
  let two = try read(runs, count: 2)
  #expect(two.end == 4 && two.messages.count == 2, "\(two.end)")
  #expect(try read([]).end == 0)
}

@Test("small messages do not keep the memory they were read into alive; a large one shares it")
func messageMemory() throws {
  let small = message("small")
  let large = message(String(repeating: "x", count: 100_000))
  let run = joined([try batch([small, small]), try batch([large], at: 2)])
  let found = try read([run]).messages
  let owners = found.map { $0.body.owner as? Chunk }
  #expect(owners[0] === owners[1] && owners[0] !== run.owner && owners[0]?.capacity == 4096)
  #expect(owners[2] === run.owner)
  #expect(found.allSatisfy { $0.properties.owner === $0.body.owner })
  // Memory that is small itself is shared.
  let one = try batch([small])
  #expect(try read([one]).messages[0].body.owner === one.owner)
}

@Test(
  "every cut-off or otherwise changed record is refused with partition and offset, and trusted in nothing")
func damagedRecords() throws {
  let whole = try batch([message("first"), message("second")], at: 7)
  // A batch of any bytes behind the header, whose length is put right.
  func mended(_ bytes: [UInt8]) -> Bytes {
    var bytes = bytes
    let length = Int32(bytes.count - RecordBatchHeader.lengthOverhead)
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: length.bigEndian, toByteOffset: 8, as: Int32.self) }
    return Bytes(bytes)
  }
  let bytes = whole.array
  for end in RecordBatchHeader.size..<bytes.count {
    let cut = mended(Array(bytes[..<end]))
    do throws(MessageRecordError) {
      let found = try read([cut])
      #expect(found.messages.count <= 1 && found.end <= 8)
    } catch {
      #expect(error.partition == lane && error.offset == 7)
    }
    // What was good is read first, and the next read throws.
    #expect(throws: MessageRecordError.self) { try read([cut], from: 8) }
  }
  for index in RecordBatchHeader.size..<bytes.count {
    for bit in 0..<8 {
      var changed = bytes
      changed[index] ^= 1 << bit
      guard let found = try? read([Bytes(changed)]) else { continue }
      for message in found.messages {
        #expect((7...8).contains(message.offset) && message.size >= message.body.count)
        #expect(message.body.count <= bytes.count && message.properties.count <= bytes.count)
      }
    }
  }
}

@Test("batches that no queue writes are refused: compressed, control, of impossible offsets, out of order")
func foreignBatches() throws {
  let good = try batch([message("a")])
  func changed(_ change: (inout [UInt8]) -> Void) -> Bytes {
    var bytes = good.array
    change(&bytes)
    return Bytes(bytes)
  }
  let bad = [
    changed { $0[22] = 4 }, changed { $0[22] = 0x20 }, changed { $0[0] = 0x80 }, changed { $0[23] = 0x80 },
    changed { $0.replaceSubrange(0..<8, with: [0x7f] + [UInt8](repeating: 0xff, count: 7)) },
    changed { $0[57] = 0x80 }, changed { $0[16] = 1 }, good[0..<good.count - 1],
    good[0..<20],
  ]
  for one in bad { #expect(throws: MessageRecordError.self) { try read([one]) } }
  // More records than there are: those that are there are read first.
  let short = changed { $0[60] = 2 }
  #expect(try read([short]).end == 1)
  #expect(try read([short, placed(good, at: 1)], from: 1).messages.map(\.offset) == [1])
  let error = #expect(throws: MessageRecordError.self) { try read([good, good], from: 1) }
  #expect(error?.description.hasPrefix("partition 5, offset 1: ") == true)
  // A record that some producer wrote.
  var builder = RecordBatchBuilder()
  builder.append(Record(key: Bytes("k"), value: Bytes("v"), timestamp: .none))
  #expect(throws: MessageRecordError.self) { try read([builder.finish()]) }
}
