// TransformReader: reads all outputs of the transformers at the end of a run, as committed, and the offsets beside them.

import MillraceBase
import MillraceKafkaProtocol
import MillraceModel
import MillraceSimulation

/// Reads to the end and has the outcome checked.
final class TransformReader: SimulatedClient {
  private let inputs: [TopicPartition]
  private var outputs: [[(input: TopicPartition, offset: Offset)]] = []
  private var ends: [Offset] = []
  private var position: Offset = 0
  private(set) var isDone = false

  init(_ scenario: BrokerScenario, inputs: [TopicPartition]) {
    self.inputs = inputs
    super.init(scenario)
  }

  override func connected() {
    outputs = [[]]
    ends = []
    position = 0
    askEnd()
  }

  private func askEnd() {
    guard ends.count < TransformClient.outputs else { return fetch() }
    let wish = ListOffsetsRequest.ListOffsetsPartition(partitionIndex: Int32(ends.count), timestamp: -1)
    let request = ListOffsetsRequest(replicaID: -1, topics: [.init(name: TransformClient.output, partitions: [wish])])
    channel?.send(request, version: 4) { [self] response in
      guard let answer = response.topics.first?.partitions.first, answer.errorCode == .none else { return reconnect() }
      ends.append(answer.offset)
      askEnd()
    }
  }

  private func fetch() {
    let index = outputs.count - 1
    guard position < ends[index] else {
      position = 0
      guard outputs.count < TransformClient.outputs else { return askOffsets() }
      outputs.append([])
      return fetch()
    }
    let partition = TopicPartition(TransformClient.output, Int32(index))
    let wish = FetchRequest.FetchPartition(
      partition: partition.partition, fetchOffset: position, partitionMaxBytes: 10_000)
    let request = FetchRequest(
      maxWaitMilliseconds: 5, minBytes: 1, maxBytes: 20_000, isolationLevel: 1, sessionEpoch: -1,
      topics: [.init(topic: partition.topic, partitions: [wish])])
    channel?.send(request, version: 11) { [self] response in
      guard let answer = response.responses.first?.partitions.first, answer.errorCode == .none else {
        return reconnect()
      }
      var filter = AbortedFilter(answer.abortedTransactions ?? [])
      do throws(RecordProblem) {
        try TestRecord.forEachBatch(answer.records, in: partition) { header, body throws(RecordProblem) in
          let isHidden = filter.hides(header, body)
          guard header.baseOffset >= position else { return }
          position = header.nextOffset
          if isHidden || header.isControl { return }
          for (_, name) in try TestRecord.names(of: body, header, in: partition) {
            let input = name.producer - TransformClient.producer
            guard inputs.indices.contains(input) else {
              throw RecordProblem(text: "\(partition): \(name) was never sent")
            }
            outputs[index].append((inputs[input], Int64(name.number)))
          }
        }
      } catch {
        return scenario.ledger.violate(error.text, .transformations)
      }
      fetch()
    }
  }

  private func askOffsets() {
    var request = OffsetFetchRequest(
      groupID: TransformClient.group,
      topics: inputs.map { .init(name: $0.topic, partitionIndexes: [$0.partition]) })
    request.requireStable = true
    channel?.send(request, version: 7) { [self] response in
      guard response.errorCode == .none, response.topics.count == inputs.count else { return reconnect() }
      var offsets: [TopicPartition: Offset] = [:]
      for (index, topic) in response.topics.enumerated() {
        guard let answer = topic.partitions.first, answer.errorCode == .none else { return reconnect() }
        let input = inputs[index]
        let told = scenario.sabotage.committedOffset(answer.committedOffset)
        scenario.note(
          scenario.transform.told(input, told, since: scenario.transform.acknowledgedEnd(input)), .transformations)
        offsets[input] = told
      }
      scenario.sabotage.outputs(&outputs)
      for problem in scenario.transform.check(offsets: offsets, outputs: outputs) {
        scenario.ledger.violate(problem, .transformations)
      }
      scenario.count("outputs checked", outputs.reduce(0) { $0 + $1.count })
      isDone = true
    }
  }
}
