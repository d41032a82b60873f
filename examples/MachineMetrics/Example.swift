// MachineMetrics: the machine's own processor, memory, disks and network, live: mean and highest value of every half
// second.
//
//   swift run --package-path examples MachineMetrics

import Foundation
import Millrace

/// A figure of one window.
struct Summary: TypedRecord {
  var metric = ""
  var mean = 0.0
  var highest = 0.0
  static let schema = RecordSchema<Summary>(
    .field("metric", \.metric), .field("mean", \.mean), .field("highest", \.highest))
}

enum Example {
  /// Each window keeps the sum, the number and the highest of a figure's values.
  static let job = DataStream.machineMetrics(every: .milliseconds(50))
    .decode(MachineMetric.self, from: .json)
    .keyBy { $0.metric }
    .window(.tumbling(.milliseconds(500)))
    .aggregate(
      Folding<MachineMetric, [Double]>(
        [0, 0, 0],
        adding: { state, metric in
          state = [state[0] + metric.value, state[1] + 1, max(state[2], metric.value)]
        },
        merging: { state, other in
          state = [state[0] + other[0], state[1] + other[1], max(state[2], other[2])]
        }),
      name: "half-seconds"
    )
    .map { Summary(metric: $0.key, mean: $0.value[0] / $0.value[1], highest: $0.value[2]) }
    .to(topic: "summaries", as: .json)
    .job(named: "machine-metrics")

  static func run() async throws {
    let directory = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let broker = try await EmbeddedBroker.open(directory: directory)
    let running = try await broker.run(job)
    let decoder = try RecordDecoder<Summary>(.json)
    var summaries: [Summary] = []
    for try await record in broker.consume("summaries") {
      if let value = record.value, let summary = try value.withBuffer({ try decoder.decode($0) }) {
        summaries.append(summary)
        print("\(summary.metric): mean \(summary.mean), highest \(summary.highest)")
      }
      // Six figures of two windows.
      if summaries.count == 12 { break }
    }
    try await running.stop()
    try await broker.close()
    try FileManager.default.removeItem(atPath: directory)
    let metrics = Set(summaries.map(\.metric))
    let busy = summaries.filter { $0.metric == "cpu.busy" }
    guard metrics.count == 6, busy.allSatisfy({ $0.mean >= 0 && $0.highest <= 1 && $0.mean <= $0.highest + 1e-9 }),
      summaries.contains(where: { $0.metric == "memory.used" && $0.mean > 0 })
    else {
      print("expected six figures, the processor's between 0 and 1")
      exit(1)
    }
  }
}
