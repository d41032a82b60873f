// QueueRecords: messages in the logs of queues.

import FuzzHarness
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceModel

/// What the log of a lane holds, read as a queue reads it; first as it is, then with a header put right around it.
let queueRecords = FuzzTarget(
  name: "queue-records",
  seeds: {
    var builder = RecordBatchBuilder()
    for index in 0..<3 as Range<Int64> {
      let message = Message(
        offset: index, timestamp: Timestamp(milliseconds: 1000 + index), exchange: "amq.topic", routingKey: "a.b",
        properties: Bytes([0x80, 0, 1, 97]), body: Bytes("body \(index)"),
        expiration: Timestamp(milliseconds: index == 0 ? -1 : 5000), notBefore: Timestamp(milliseconds: index - 1),
        groupKey: index == 1 ? Bytes("g") : nil, deduplicationID: index == 2 ? Bytes("id") : nil,
        format: MessageRecord.amqpProperties)
      MessageRecord.append(message, to: &builder)
    }
    return [builder.finish().array]
  }
) { input in
  read(input)
  guard input.count >= RecordBatchHeader.size else { return }
  read(mended(input))
}

private func read(_ run: Bytes) {
  let run = run.withBuffer { Bytes(copying: $0) }
  var reader = MessageReader(partition: PartitionLogID(1), lane: 3)
  do throws(MessageRecordError) {
    let found = try reader.read([run], from: 0, count: .max, bytes: .max)
    guard let last = found.messages.last else { return }
    precondition(last.offset < found.end, "offset \(last.offset) behind \(found.end)")
    var builder = RecordBatchBuilder()
    for message in found.messages { MessageRecord.append(message, to: &builder) }
    let again = try reader.read([builder.finish()], from: 0, count: .max, bytes: .max).messages
    precondition(again.count == found.messages.count, "\(again.count) of \(found.messages.count) messages")
    for (message, copy) in zip(found.messages, again) {
      precondition(
        copy.body == message.body && copy.properties == message.properties && copy.size == message.size
          && copy.exchange == message.exchange && copy.routingKey == message.routingKey
          && copy.groupKey == message.groupKey && copy.deduplicationID == message.deduplicationID,
        "a message changes when written and read again")
    }
    // A queue takes them, whatever their numbers are.
    var queue = MessageQueue(id: 1, now: Timestamp(milliseconds: 0))
    for message in found.messages { queue.published(message) }
    _ = queue.purge()
    _ = queue.takeCommit()
  } catch {}
}
