// AnomalyDetector: readings that are far from what their sensor gave before, from JSON to files, each exactly once.
//
//   swift run --package-path examples AnomalyDetector

import Foundation
import Millrace

/// What a sensor says.
struct Reading: TypedRecord {
  var sensor = ""
  var celsius = 0.0
  static let schema = RecordSchema<Reading>(.field("sensor", \.sensor), .field("celsius", \.celsius))
}

/// A reading that is unlike those before it.
struct Anomaly: TypedRecord {
  var sensor = ""
  var celsius = 0.0
  var usual = 0.0
  static let schema = RecordSchema<Anomaly>(
    .field("sensor", \.sensor), .field("celsius", \.celsius), .field("usual", \.usual))
}

enum Example {
  /// Readings of a sensor before its mean and deviation say anything.
  static let warmUp = 10.0

  /// The state of a sensor: how many readings, their mean, and the sum of their squared distances from it (Welford
  /// 1962). A reading is an anomaly when it is more than 4 standard deviations away; it does not change what is usual.
  static func job(into directory: String, malformed: RefusedRecords) -> JobDefinition {
    DataStream.records(named: "readings", readings.map { Record(value: Bytes($0)) })
      .decode(Reading.self, from: .json, refused: malformed)
      .keyBy { $0.sensor }
      .process(state: [Double].self, name: "usual") {
        (reading: Reading, sensor: ProcessContext<String, [Double]>, emit: (Anomaly) -> Void) in
        var (count, mean, squares) = (0.0, 0.0, 0.0)
        if let state = sensor.state { (count, mean, squares) = (state[0], state[1], state[2]) }
        let distance = reading.celsius - mean
        if count >= warmUp, abs(distance) > 4 * (squares / count).squareRoot() {
          emit(Anomaly(sensor: sensor.key, celsius: reading.celsius, usual: (mean * 10).rounded() / 10))
          return
        }
        count += 1
        mean += distance / count
        squares += distance * (reading.celsius - mean)
        sensor.state = [count, mean, squares]
      }
      .to(directory: directory, as: .json, prefix: "anomalies")
      .job(named: "anomaly-detector")
  }

  /// Two sensors that swing a little, one reading that is far off, and a line that is no JSON.
  static let readings: [String] =
    (0..<100).flatMap { number -> [String] in
      let swing = Double(number % 5) / 2
      return [
        #"{"sensor":"cellar","celsius":\#(number == 60 ? 31.5 : 12 + swing)}"#,
        #"{"sensor":"roof","celsius":\#(25 + 4 * swing),"battery":0.9}"#,
      ]
    } + ["{\"sensor\":"]

  static func run() async throws {
    let data = NSTemporaryDirectory() + "millrace-example-\(UUID().uuidString)"
    let malformed = RefusedRecords()
    let broker = try await EmbeddedBroker.open(directory: data + "/broker")
    let running = try await broker.run(job(into: data + "/out", malformed: malformed))
    try await running.wait()
    try await broker.close()
    // The input has ended, so its files are whole; until then they are hidden.
    let files = try FileManager.default.contentsOfDirectory(atPath: data + "/out")
    let text = try String(contentsOfFile: data + "/out/anomalies-0000000000.jsonl", encoding: .utf8)
    print("\(files): \(text)malformed: \(malformed.count)")
    try FileManager.default.removeItem(atPath: data)
    guard files == ["anomalies-0000000000.jsonl"], malformed.count == 1,
      text == "{\"sensor\":\"cellar\",\"celsius\":31.5,\"usual\":13.0}\n"
    else {
      print("expected the reading of 31.5 degrees in the cellar, where 13.0 are usual")
      exit(1)
    }
  }
}
