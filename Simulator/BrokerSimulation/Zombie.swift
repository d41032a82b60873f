// Zombie: an old instance of a producer that goes on sending with an epoch that is over.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// Sends batches of an old epoch; each must be refused, and none may ever be read.
final class Zombie: SimulatedClient {
  /// Stands in the names of a zombie's records for the producer that it was.
  static func id(of producer: Int) -> Int { 1000 + producer }

  private var batches: [(partition: TopicPartition, bytes: Bytes)] = []

  /// Gives the zombie something to send.
  func take(_ bytes: Bytes, for partition: TopicPartition) {
    batches.append((partition, bytes))
    soon(20) { [self] in send() }
  }

  override func connected() { soon(20) { [self] in send() } }

  private func send() {
    guard let channel, !batches.isEmpty else { return }
    let (partition, bytes) = batches.removeFirst()
    var request = ProduceRequest(acks: -1, timeoutMilliseconds: 30_000)
    let data = ProduceRequest.PartitionProduceData(index: partition.partition, records: bytes)
    request.topicData = [.init(name: partition.topic, partitionData: [data])]
    channel.send(request, version: 8) { [self] response in
      switch response.responses.first?.partitionResponses.first?.errorCode {
      case .invalidProducerEpoch: scenario.count("zombies refused")
      // The machine has no room or is about to stop.
      case .kafkaStorageError, .notLeaderOrFollower: break
      case let code:
        scenario.ledger.violate(
          "a batch of an epoch that is over was answered with \(code.map { "\($0)" } ?? "nothing") in \(partition)",
          .fencedEpochs)
      }
      soon(20) { [self] in send() }
    }
  }
}
