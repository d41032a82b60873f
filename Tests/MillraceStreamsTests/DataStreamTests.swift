// DataStreamTests: jobs written in the DSL, run on a host in memory.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceStreams
import Synchronization
import Testing

private func host(_ values: [(key: String?, value: String)]) throws -> MemoryHost {
  let host = MemoryHost()
  host.createTopic("lines", partitions: 2)
  host.createTopic("out", partitions: 4)
  host.createTopic("counts", partitions: 4)
  for (index, record) in values.enumerated() {
    var builder = RecordBatchBuilder()
    builder.append(
      Record(key: record.key.map { Bytes($0) }, value: Bytes(record.value), timestamp: Timestamp(milliseconds: 5)))
    try host.append(topic: "lines", partition: Int32(index % 2), batch: builder.finish())
  }
  return host
}

private func run(_ job: JobDefinition, _ host: MemoryHost) throws {
  var options = JobOptions()
  options.idleWait = .zero
  options.briefWait = .zero
  let executor = try JobExecutor(job, host: host, options: options)
  while try executor.turn() == .progress {}
  try executor.settle()
}

private func all(_ host: MemoryHost, _ topic: String) throws -> [(partition: Int32, record: Record)] {
  try (0..<Int32(4)).flatMap { partition in
    try host.records(topic: topic, partition: partition).map { (partition, $0) }
  }
}

@Test("the word count writes one record per changed word and step, into the partition Kafka's clients would choose")
func wordCountWrites() throws {
  let host = try host([(nil, "The cat, the DOG"), ("k", "the end")])
  try run(WordCount.job(), host)
  let records = try all(host, "counts")
  #expect(records.count == 4)
  var counts: [String: String] = [:]
  for (partition, record) in records {
    let key = try #require(record.key)
    #expect(Int(partition) == key.withBuffer { Hashing.kafkaPartition(key: $0, partitions: 4) })
    counts[key.text] = record.value?.text
  }
  #expect(counts == ["the": "3", "cat": "1", "dog": "1", "end": "1"])
}

@Test("map, filter and flatMap hand on in order; strings and numbers can be keys and values")
func chainOfOperators() throws {
  let host = try host([(nil, "3 x 40"), (nil, "-2 y 7")])
  let numbers = DataStream.topic("lines")
    .flatMap { (record: InputRecord, emit: (String) -> Void) in
      for part in record.value.text.split(separator: " ") { emit(String(part)) }
    }
    .map { Int64($0) ?? 0 }
    .filter { $0 != 0 }
  let sums = numbers.keyBy { $0 < 10 ? "small" : "large" }.sum { $0 }
  try run(StreamOutput.job(named: "sums", [numbers.to(topic: "out"), sums.to(topic: "counts")]), host)
  #expect(Set(try all(host, "out").map { $0.record.value?.text }) == ["3", "40", "-2", "7"])
  let counts = Dictionary(
    uniqueKeysWithValues: try all(host, "counts").map { ($0.record.key?.text ?? "", $0.record.value?.text ?? "") })
  #expect(counts == ["small": "8", "large": "40"])
}

@Test("a stream used by two jobs has state of its own in each")
func descriptionsShareNothing() throws {
  let host = try host([(nil, "a a")])
  let counts = DataStream.topic("lines").flatMap(Words()).keyBy(\.self).count()
  try run(counts.to(topic: "counts").job(named: "one"), host)
  try run(counts.to(topic: "counts").job(named: "two"), host)
  #expect(try all(host, "counts").map { $0.record.value?.text } == ["2", "2"])
}

@Test("records pass from topic to topic with key, value and time")
func recordsPassThrough() throws {
  let host = try host([("key", "value"), (nil, "")])
  try run(DataStream.topic("lines").to(topic: "out").job(named: "copy"), host)
  let records = try all(host, "out").map(\.record)
  #expect(records.count == 2)
  #expect(records.allSatisfy { $0.timestamp == Timestamp(milliseconds: 5) })
  #expect(Set(records.map { "\($0.key?.text ?? "nil")=\($0.value?.text ?? "nil")" }) == ["key=value", "nil="])
}

@Test("counts of counts: an aggregate feeds another one in the same step")
func aggregateOfAggregate() throws {
  let host = try host([(nil, "a b c a")])
  let perWord = DataStream.topic("lines").flatMap(Words()).keyBy(\.self).count()
  let byCount = perWord.keyBy { "seen \($0.value)" }.count()
  try run(byCount.to(topic: "counts").job(named: "twice"), host)
  let counts = Set(try all(host, "counts").map { "\($0.record.key?.text ?? ""): \($0.record.value?.text ?? "")" })
  #expect(counts == ["seen 1: 2", "seen 2: 1"])
}

@Test("two operators of one name are refused")
func equalNamesAreRefused() throws {
  let host = try host([])
  let words = DataStream.topic("lines").flatMap(Words()).keyBy(\.self)
  let job = StreamOutput.job(
    named: "j", [words.count(name: "n").to(topic: "counts"), words.count(name: "n").to(topic: "out")])
  let error = #expect(throws: JobError.self) { try run(job, host) }
  #expect(error == JobError(.invalidJob, "two operators are named \"n\""))
}

@Test("print and forEach see every value")
func forEachSees() throws {
  let host = try host([(nil, "x"), (nil, "y")])
  let seen = Mutex<[String]>([])
  try run(
    DataStream.topic("lines").map { $0.value.text }.forEach { text in seen.withLock { $0.append(text) } }.job(
      named: "see"),
    host)
  #expect(seen.withLock { $0.sorted() } == ["x", "y"])
}
