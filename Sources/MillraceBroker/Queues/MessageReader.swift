// MessageReader: the messages of a lane, read from what its log gives. The bytes: MessageRecord.swift.
//
// Memory. The log gives slices of what it holds or has read, from a few KB to some MB, and a message may be in flight for
// long. So that a small one does not keep all that alive, a message shares the memory it was read into only when that is
// at most 4 KiB, or four times the bytes of its own; otherwise these are copied, small ones several to a page of 4 KiB.

import Glibc
import MillraceBase
import MillraceDelivery
import MillraceModel

/// Messages that were read.
public struct ReadMessages: Sendable {
  /// By rising offset.
  public var messages: [Message] = []
  /// How far was read: what lies below it, from the offset asked for on, and is not among the messages is not in the log.
  public var end: Offset
}

/// Reads messages of one lane.
public struct MessageReader {
  private let partition: PartitionLogID
  private let lane: UInt8
  private var memory = MessageMemory()
  private var exchange = RepeatedText()
  private var routingKey = RepeatedText()

  /// A reader of the lane with this number and log.
  public init(partition: PartitionLogID, lane: UInt8) {
    self.partition = partition
    self.lane = lane
  }

  /// The messages in `runs`, which are whole batches as `LogStore.read` gives them.
  ///
  /// Stops behind `count` messages, or when those taken count for `bytes` bytes or more; the first comes whatever its size.
  /// - Parameter offset: messages below it are passed over.
  /// - Throws: when a batch or record cannot be read and `offset` is not above it. What comes before such a one is
  ///   returned, up to it, so that it is the next read that throws.
  public mutating func read(
    _ runs: [Bytes], from offset: Offset, count: Int, bytes: Int
  ) throws(MessageRecordError) -> ReadMessages {
    var found = ReadMessages(end: offset)
    do throws(MessageRecordError) {
      try read(runs, from: offset, count: count, bytes: bytes, into: &found)
    } catch {
      guard error.offset > offset else { throw error }
      found.end = error.offset
    }
    return found
  }

  private mutating func read(
    _ runs: [Bytes], from offset: Offset, count: Int, bytes: Int, into found: inout ReadMessages
  ) throws(MessageRecordError) {
    var room = max(bytes, 1)
    // Where the next batch may begin.
    var next: Offset = 0
    for run in runs {
      memory.begin(run)
      var batches = RecordBatchRun(run)
      while let (batch, header) = try step(&batches, at: next) {
        try check(header, notBelow: next)
        next = header.nextOffset
        if next <= offset { continue }
        guard try read(batch, header, from: offset, count: count, room: &room, into: &found) else { return }
        found.end = next
      }
    }
  }

  private func step(
    _ batches: inout RecordBatchRun, at offset: Offset
  ) throws(MessageRecordError) -> (Bytes, RecordBatchHeader)? {
    do throws(RecordBatchError) {
      return try batches.next()
    } catch {
      throw MessageRecordError(partition: partition, offset: offset, reason: error.description)
    }
  }

  private func check(_ header: RecordBatchHeader, notBelow offset: Offset) throws(MessageRecordError) {
    let first = header.baseOffset
    guard first >= offset, header.lastOffsetDelta >= 0, first < Offset.max - Offset(header.lastOffsetDelta) else {
      throw MessageRecordError(
        partition: partition, offset: offset,
        reason: "a batch with offset \(first) and \(header.lastOffsetDelta) more")
    }
    guard header.codec == CompressionCodec.none, !header.isControl, header.recordCount >= 0 else {
      throw MessageRecordError(
        partition: partition, offset: first,
        reason: "a batch with attributes \(header.attributes) and \(header.recordCount) records")
    }
  }

  /// - Returns: whether there is room for more.
  private mutating func read(
    _ batch: Bytes, _ header: RecordBatchHeader, from offset: Offset, count: Int, room: inout Int,
    into found: inout ReadMessages
  ) throws(MessageRecordError) -> Bool {
    defer { extendLifetime(batch) }
    let base = batch.start + RecordBatchHeader.size
    var cursor = RecordCursor(base: base, end: batch.count - RecordBatchHeader.size)
    var next = header.baseOffset
    func failure(_ reason: String) -> MessageRecordError {
      MessageRecordError(partition: partition, offset: next, reason: reason)
    }
    for _ in 0..<header.recordCount {
      let length = cursor.length()
      let end = cursor.position &+ length
      guard !cursor.failed else { throw failure("a record that runs past the end of its batch") }
      _ = cursor.uint8()
      let timestamp = header.baseTimestamp.milliseconds &+ cursor.varint()
      // Two numbers of 64 bits from outside: compared before they are added.
      let delta = cursor.varint()
      guard !cursor.failed, delta >= next - header.baseOffset, delta <= Int64(header.lastOffsetDelta) else {
        throw failure("a record with offset \(delta) of its batch's \(header.lastOffsetDelta)")
      }
      next = header.baseOffset + delta
      if next < offset {
        cursor.position = end
        next += 1
        continue
      }
      if found.messages.count >= count || room <= 0 {
        found.end = next
        return false
      }
      let envelope = Envelope(&cursor, end: end)
      guard let envelope else { throw failure("a record that is no message of version \(MessageRecord.version)") }
      let time = header.hasLogAppendTime ? header.maxTimestamp.milliseconds : timestamp
      guard let message = message(envelope, base, offset: next, Timestamp(milliseconds: time)) else {
        throw failure("an exchange or routing key that is not valid UTF-8")
      }
      found.messages.append(message)
      room -= message.size
      next += 1
    }
    return true
  }

  private mutating func message(
    _ envelope: Envelope, _ base: UnsafeRawPointer, offset: Offset, _ timestamp: Timestamp
  ) -> Message? {
    func buffer(_ range: Range<Int>) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(start: base + range.lowerBound, count: range.count)
    }
    guard let exchange = exchange.text(buffer(envelope.exchange)),
      let routingKey = routingKey.text(buffer(envelope.routingKey))
    else { return nil }
    memory.reserve(envelope.keptBytes)
    return Message(
      offset: offset, priority: lane, timestamp: timestamp, exchange: exchange, routingKey: routingKey,
      properties: memory.keep(buffer(envelope.properties)), body: memory.keep(buffer(envelope.body)),
      size: envelope.size, expiration: envelope.expiration, notBefore: envelope.notBefore,
      groupKey: envelope.groupKey.map { memory.keep(buffer($0)) },
      deduplicationID: envelope.deduplicationID.map { memory.keep(buffer($0)) }, isDurable: envelope.isDurable,
      format: envelope.format)
  }
}

/// A message's parts as places in its batch's records.
private struct Envelope {
  var body: Range<Int>
  var isDurable = false
  var format: UInt8 = 0
  var size = 0
  var exchange = 0..<0
  var routingKey = 0..<0
  var properties = 0..<0
  var expiration = Timestamp.none
  var notBefore = Timestamp.none
  var groupKey: Range<Int>?
  var deduplicationID: Range<Int>?

  var keptBytes: Int { body.count + properties.count + (groupKey?.count ?? 0) + (deduplicationID?.count ?? 0) }

  /// Reads from a record's key up to its end; nil when anything is not as it is written.
  init?(_ cursor: inout RecordCursor, end: Int) {
    guard cursor.varint() == -1 else { return nil }
    body = cursor.range(below: end)
    guard cursor.varint() == 1, cursor.varint() == 0 else { return nil }
    let envelope = cursor.range(below: end)
    guard !cursor.failed, envelope.upperBound == end else { return nil }
    cursor.position = envelope.lowerBound
    let version = cursor.uint8()
    let flags = cursor.uint8()
    format = cursor.uint8()
    guard let size = UInt32(exactly: cursor.varint()), version == MessageRecord.version, flags < 2, size >= body.count
    else { return nil }
    isDurable = flags == 1
    self.size = Int(size)
    exchange = cursor.range(below: end)
    routingKey = cursor.range(below: end)
    properties = cursor.range(below: end)
    var last: UInt8 = 0
    while cursor.position < end, !cursor.failed {
      let number = cursor.uint8()
      guard number > last, let tag = MessageRecord.Tag(rawValue: number) else { return nil }
      last = number
      switch tag {
      case .expiration: expiration = Timestamp(milliseconds: cursor.int64())
      case .notBefore: notBefore = Timestamp(milliseconds: cursor.int64())
      case .groupKey: groupKey = cursor.range(below: end)
      case .deduplicationID: deduplicationID = cursor.range(below: end)
      }
    }
    guard !cursor.failed, cursor.position == end else { return nil }
  }
}

/// Reads numbers and lengths from the records of a batch. `failed` stays set once something ran past the end.
private struct RecordCursor {
  private var numbers: VarintCursor
  // Safety: nothing is read at or above `end`, which the batch's owner keeps alive.
  private let base: UnsafeRawPointer
  private let end: Int

  init(base: UnsafeRawPointer, end: Int) {
    numbers = VarintCursor(base: base, end: end)
    self.base = base
    self.end = end
  }

  var position: Int {
    get { numbers.position }
    set { numbers.position = newValue }
  }

  var failed: Bool { numbers.failed }

  mutating func varint() -> Int64 { numbers.next() }

  /// A length, as long as so much follows.
  mutating func length() -> Int {
    let length = numbers.next()
    guard !failed, length >= 0, length <= end - position else {
      numbers.failed = true
      return 0
    }
    return Int(length)
  }

  /// The place of a field that ends at `limit` or before, behind its length.
  mutating func range(below limit: Int) -> Range<Int> {
    let length = numbers.next()
    guard !failed, length >= 0, length <= limit - position else {
      numbers.failed = true
      return 0..<0
    }
    let start = position
    position = start + Int(length)
    return start..<position
  }

  mutating func uint8() -> UInt8 {
    guard position < end else {
      numbers.failed = true
      return 0
    }
    defer { position += 1 }
    return base.load(fromByteOffset: position, as: UInt8.self)
  }

  mutating func int64() -> Int64 {
    guard end - position >= 8 else {
      numbers.failed = true
      return 0
    }
    defer { position += 8 }
    return Int64(bigEndian: base.loadUnaligned(fromByteOffset: position, as: Int64.self))
  }
}

/// Text that is mostly the same as the time before.
private struct RepeatedText {
  private var last = ""

  /// The text of `buffer`, nil when it is not valid UTF-8.
  mutating func text(_ buffer: UnsafeRawBufferPointer) -> String? {
    let isSame = last.withUTF8 { known in
      known.count == buffer.count
        && (buffer.isEmpty || memcmp(known.baseAddress!, buffer.baseAddress!, buffer.count) == 0)
    }
    if isSame { return last }
    guard let text = String(validating: buffer, as: UTF8.self) else { return nil }
    last = text
    return text
  }
}

/// Where the bytes of messages go: see the file's head.
private struct MessageMemory {
  private static let pageSize = 4096

  private var source: AnyObject?
  private var sourceSize = 0
  private var page: Chunk?
  private var used = 0
  private var shares = false

  /// What is kept from now on lies in `run`.
  mutating func begin(_ run: Bytes) {
    source = run.owner
    sourceSize = run.keptMemory ?? .max
  }

  /// One message needs `count` bytes.
  mutating func reserve(_ count: Int) {
    shares = sourceSize <= max(MessageMemory.pageSize, count > .max / 4 ? .max : 4 * count)
    if shares || count == 0 { return }
    if page == nil || page!.capacity - used < count {
      page = Chunk(capacity: max(count, MessageMemory.pageSize))
      used = 0
    }
  }

  /// Keeps bytes of the message that room was reserved for.
  mutating func keep(_ buffer: UnsafeRawBufferPointer) -> Bytes {
    guard let from = buffer.baseAddress, buffer.count > 0 else { return Bytes() }
    guard !shares, let page else { return Bytes(owner: source, start: from, count: buffer.count) }
    (page.base + used).copyMemory(from: from, byteCount: buffer.count)
    defer { used += buffer.count }
    return page.bytes(used..<used + buffer.count)
  }
}
