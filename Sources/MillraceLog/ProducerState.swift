// ProducerState: what a partition remembers of an idempotent producer, to refuse gaps and recognise repeats.

import MillraceBase
import MillraceModel

/// A batch that a producer wrote, as far as a repeat must be recognised.
struct ProducedBatch: Equatable, Sendable {
  var firstSequence: Int32
  var lastSequence: Int32
  var baseOffset: Offset
  var timestamp: Timestamp
}

/// The last batches of one producer in one partition.
struct ProducerState: Equatable, Sendable {
  /// How many batches are kept. Source: Kafka, `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`.
  static let retained = 5

  var epoch: Int16
  /// At most five, oldest first.
  var batches: [ProducedBatch] = []
  /// Wall-clock time of the last append, in ms.
  var lastAppend: Timestamp

  /// What to do with a batch.
  enum Verdict: Equatable {
    case append
    /// The same batch was appended already, at this offset.
    case duplicate(ProducedBatch)
  }

  /// Judges a batch against what is known of its producer.
  ///
  /// Without any knowledge (forgotten, or never seen) every sequence is accepted; a new epoch starts at 0; otherwise the
  /// batch follows the last one, or repeats one of the last five. Source: Kafka, `ProducerAppendInfo.checkSequence`.
  static func judge(_ state: ProducerState?, _ header: RecordBatchHeader) throws(LogError) -> Verdict {
    guard let state else { return .append }
    if header.producerEpoch < state.epoch {
      throw LogError(
        .invalidProducerEpoch,
        "producer \(header.producerID) wrote with epoch \(header.producerEpoch), epoch \(state.epoch) is current")
    }
    if header.producerEpoch > state.epoch {
      guard header.baseSequence == 0 else {
        throw LogError(
          .outOfOrderSequence,
          "producer \(header.producerID) starts epoch \(header.producerEpoch) with sequence \(header.baseSequence)")
      }
      return .append
    }
    for batch in state.batches
    where batch.firstSequence == header.baseSequence && batch.lastSequence == header.lastSequence {
      return .duplicate(batch)
    }
    // Without batches the epoch began with a transaction's end.
    let lastSequence = state.batches.last?.lastSequence ?? -1
    let expected = lastSequence == .max ? 0 : lastSequence + 1
    guard header.baseSequence == expected else {
      throw LogError(
        .outOfOrderSequence,
        "producer \(header.producerID) sent sequence \(header.baseSequence), \(expected) is next")
    }
    return .append
  }

  /// Accounts for the end of the producer's transaction: a higher epoch shuts out its older batches.
  mutating func ended(_ marker: TransactionMarker, now: Timestamp) {
    lastAppend = now
    guard marker.producerEpoch > epoch else { return }
    epoch = marker.producerEpoch
    batches = []
  }

  /// The state after appending `header` at `baseOffset`.
  static func appending(
    _ header: RecordBatchHeader, at baseOffset: Offset, to state: ProducerState?, now: Timestamp
  ) -> ProducerState {
    var next = state ?? ProducerState(epoch: header.producerEpoch, lastAppend: now)
    if header.producerEpoch != next.epoch {
      next.epoch = header.producerEpoch
      next.batches = []
    }
    next.lastAppend = now
    if next.batches.count == retained { next.batches.removeFirst() }
    next.batches.append(
      ProducedBatch(
        firstSequence: header.baseSequence, lastSequence: header.lastSequence, baseOffset: baseOffset,
        timestamp: header.maxTimestamp))
    return next
  }
}
