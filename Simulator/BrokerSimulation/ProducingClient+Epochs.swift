// ProducingClient+Epochs: how a producer begins a new epoch, and what its old instance goes on sending.

import MillraceBase
import MillraceModel

extension ProducingClient {
  /// With everything acknowledged, a producer may raise its epoch itself and count sequences from 0 again, as Kafka's
  /// clients do after an error. Source: KIP-360.
  func maybeBeginEpoch() {
    guard scenario.plan.hasZombies, isIdempotent, producerEpoch >= 0, producerEpoch < 1000,
      lanes.allSatisfy({ $0.unanswered.isEmpty }), random.oneIn(3)
    else { return }
    scenario.count("epochs begun")
    producerEpoch += 1
    for index in lanes.indices {
      lanes[index].oldEpochEnd = lanes[index].nextNumber - lanes[index].epochStart
      lanes[index].epochStart = lanes[index].nextNumber
      lanes[index].awaitsZombie = lanes[index].oldEpochEnd > 0
    }
  }

  /// The new epoch has reached a partition: from now on the old one must be refused there.
  func wakeZombie(_ index: Int) {
    guard lanes[index].awaitsZombie else { return }
    lanes[index].awaitsZombie = false
    let partition = lanes[index].partition
    var builder = RecordBatchBuilder()
    zombieRecords += 1
    let name = RecordName(producer: Zombie.id(of: id), number: zombieRecords)
    builder.append(Record(value: TestRecord.value(name, partition, size: 40), timestamp: world.wallClock))
    // The sequence that would have come next.
    let bytes = builder.finish(
      producerID: producerID, producerEpoch: producerEpoch - 1, baseSequence: Int32(lanes[index].oldEpochEnd),
      compress: { $0 })
    scenario.zombie?.take(bytes, for: partition)
  }
}
