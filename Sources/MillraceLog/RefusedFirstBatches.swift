// RefusedFirstBatches: idempotent producers whose first batch in a partition had no room, until it comes again.
//
// Of a producer that a partition knows nothing of, any sequence is accepted, because what was known may have expired. A
// producer that pipelines has its second batch under way when the first is refused; if there is room again by then, the
// second would be taken for the first, and the first could never be appended any more.

import MillraceModel

struct RefusedFirstBatches {
  private var epochs: [Int64: Int16] = [:]
  /// Beyond this many producers the oldest knowledge is as good as any: one of them is forgotten.
  private static let most = 1000

  /// Notes that a batch was refused; only that of a producer without state, with its first sequence, matters.
  mutating func note(_ header: RecordBatchHeader, isKnown: Bool) {
    guard !isKnown, header.baseSequence == 0 else { return }
    if epochs.count >= RefusedFirstBatches.most, let one = epochs.keys.first { epochs[one] = nil }
    epochs[header.producerID] = header.producerEpoch
  }

  /// Whether `header` is of a batch behind one that was refused.
  func isBehindOne(_ header: RecordBatchHeader) -> Bool {
    !epochs.isEmpty && header.baseSequence != 0 && epochs[header.producerID] == header.producerEpoch
  }

  /// A batch of the producer was appended.
  mutating func forget(_ producer: Int64) {
    if !epochs.isEmpty { epochs[producer] = nil }
  }
}
