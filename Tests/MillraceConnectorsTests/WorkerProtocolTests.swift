// WorkerProtocolTests: what goes over the workers' socket is read as it was written, and nothing else is.

import MillraceBase
import MillraceDataflow
import MillraceModel
import Testing

@testable import MillraceConnectors

private let places = [
  InputPosition(topic: "a", partition: 0, offset: 5), InputPosition(topic: "b", partition: 1, offset: 0),
  InputPosition(topic: "a", partition: 2, offset: 7),
]

private func report() -> JobReport {
  var report = JobReport()
  report.recordsIn = 1
  report.lateRecords = 2
  report.watermark = -5
  report.commitLatency.p99 = 9
  report.busy = 11
  report.lastTenSeconds.steps = 1.5
  report.latency.p50 = 12
  var source = ChainFigures([
    OperatorLabel(number: 0, kind: "RecordInput", name: "a"), OperatorLabel(number: 1, kind: "Map", name: ""),
  ])
  (source.recordsIn, source.recordsOut, source.bytesIn) = (7, 6, 500)
  source.watermark = Timestamp(milliseconds: -5)
  source.watermarkHolder = InputPlace(input: "a", partition: 3)
  source.timedWith = 2
  var count = ChainFigures([OperatorLabel(number: 2, kind: "KeyedAggregate", name: "words")])
  (count.upstreams, count.isKeyed) = ([1], true)
  (count.stateEntries, count.stateBytes, count.lateRecords, count.failedRecords) = (4, 52, 1, 2)
  count.busy = .microseconds(3)
  report.chains = [source, count]
  var input = InputFigures(place: InputPlace(input: "a", partition: 3))
  (input.lag, input.timeLag) = (8, .milliseconds(9))
  report.inputs = [input, InputFigures(place: InputPlace(input: "timer", partition: 0))]
  return report
}

private let requests: [WorkerRequest] = [
  .hello(version: 2, processID: 4), .open(job: "j", owner: 3, mayTakeOver: false), .state(job: "j", from: 8),
  .partitionCount(topic: "t"), .read(places, maxBytes: 100, waitMilliseconds: 5),
  .commit(
    StepCommit(
      job: "j", epoch: 2,
      outputs: [
        OutputBatch(topic: "t", partition: 1, bytes: Bytes("one")),
        OutputBatch(topic: "u", partition: 0, bytes: Bytes([UInt8](repeating: 7, count: 20_000))),
        OutputBatch(topic: "t", partition: 2, bytes: Bytes("three")),
        OutputBatch(target: .queue("t"), bytes: Bytes("four")),
      ], state: [Bytes("s"), Bytes()], stateLogStart: 4)),
  .commit(StepCommit(job: "j", epoch: 2, outputs: [], state: [Bytes("s")], stateLogStart: nil)),
  .report(report()), .interrupt, .listJobs(after: ""), .showJob("j"), .stopJob("j", isForced: true), .resumeJob("j"),
  .endOffsets(places), .checkQueue("q"), .openQueue("q"), .takeMessages("q", maxBytes: 7),
  .commit(
    StepCommit(
      job: "j", epoch: 2, outputs: [], state: [Bytes("s")], stateLogStart: nil,
      settlements: [QueueSettlement(queue: "q", after: 3, through: 9)])),
]

private let entry = JobEntry(name: "j", state: .stopping, epoch: 3, processID: 9)

private let answers: [WorkerAnswer] = [
  .refused(JobError(.fenced, "why")), .hello(version: 2, largestCommit: 5), .opened(epoch: 1, start: 2, end: 3),
  .state([Bytes("run")], start: 1, end: 9), .partitionCount(4),
  .batches([
    FetchedInput(
      position: 1, runs: [Bytes("x"), Bytes([UInt8](repeating: 1, count: 9000))],
      voids: [VoidRecords(producerID: 1, firstOffset: 2, lastOffset: 3)], endOffset: 8,
      endTime: Timestamp(milliseconds: 77))
  ]),
  .committed(stateLogOffset: 6), .done, .jobs([entry], isMore: true),
  .job(
    JobDetail(
      entry: entry, stateStart: 1, stateEnd: 2, stateBytes: 3,
      positions: [JobPosition(topic: "a", partition: 1, offset: 2, endOffset: -1)], report: report())),
  .endOffsets([1, -1]), .messages(Bytes("batch"), through: 12),
]

private func bytes(_ request: WorkerRequest) -> Bytes {
  var writer = ByteWriter()
  request.encode(to: &writer)
  return writer.finishJoined()
}

private func bytes(_ answer: WorkerAnswer) -> Bytes {
  let frame = WorkerFrame(number: 3, isStopping: true, partitionAdditions: 2, answer: answer)
  var writer = ByteWriter()
  for piece in frame.encoded() { writer.append(piece) }
  let whole = writer.finishJoined()
  return whole[4..<whole.count]
}

@Suite("the workers' protocol")
struct WorkerProtocolTests {
  @Test("in JSON, times of which none was measured are null")
  func unmeasuredTimes() throws {
    var report = JobReport()
    report.latency.p50 = 3000
    report.latency.p99 = 5000
    var json = JSONWriter()
    json.object { report.writeMembers(to: &$0) }
    let value = try Bytes(json.bytes).withBuffer { try JSONValue($0) }
    #expect(value["commit"] == .null)
    #expect(value["latency"]?["p50"]?.double == 3 && value["latency"]?["p99"]?.double == 5)
  }

  @Test("every request is read as it was written, and refused when cut off anywhere or longer", arguments: 0..<18)
  func everyRequest(index: Int) throws {
    #expect(requests.count == 18)
    let written = bytes(requests[index])
    var reader = ByteReader(written)
    #expect(bytes(try WorkerRequest(from: &reader)) == written)
    for length in 0..<min(written.count, 1500) {
      var cut = ByteReader(written[0..<length])
      #expect(throws: DecodingError.self) { try WorkerRequest(from: &cut) }
    }
    var longer = ByteReader(Bytes(written.array + [0]))
    #expect(throws: DecodingError.self) { try WorkerRequest(from: &longer) }
  }

  @Test("every answer is read as it was written, and refused when cut off anywhere or longer", arguments: 0..<12)
  func everyAnswer(index: Int) throws {
    #expect(answers.count == 12)
    let written = bytes(answers[index])
    let frame = try WorkerFrame(written)
    #expect(frame.number == 3 && frame.isStopping && frame.partitionAdditions == 2)
    #expect(bytes(frame.answer) == written)
    for length in 0..<min(written.count, 1500) {
      #expect(throws: DecodingError.self) { try WorkerFrame(written[0..<length]) }
    }
    #expect(throws: DecodingError.self) { try WorkerFrame(Bytes(written.array + [0])) }
  }

  @Test("a list that announces more than is there is refused before anything is made for it")
  func refusesLongLists() {
    // Kind 4, a read: most bytes, wait, then 2^32 − 1 topics.
    var reader = ByteReader(Bytes([4, 0, 0, 0, 1, 0, 0, 0, 1, 255, 255, 255, 255]))
    #expect(throws: DecodingError.self) { try WorkerRequest(from: &reader) }
  }

  @Test("a position that names a topic which is not in the table is refused")
  func refusesUnknownTopics() {
    var reader = ByteReader(
      Bytes([12, 0, 0, 0, 1, 0, 0, 0, 1, 97, 0, 0, 0, 1, 0, 0, 0, 1] + [UInt8](repeating: 0, count: 12)))
    #expect(throws: DecodingError.self) { try WorkerRequest(from: &reader) }
  }

  @Test("the codes of refusals keep their numbers")
  func goldenCodes() {
    let codes: [JobError.Code] = [
      .fenced, .commitFailed, .unknownTopic, .corruptInput, .corruptState, .invalidJob, .stepTooLarge, .sourceFailed,
      .closed, .stopped, .noServer, .unknownQueue,
    ]
    #expect(codes.map(\.number) == Array(0..<12))
    #expect((0..<12).map { JobError.Code(number: $0) } == codes)
    #expect(JobError.Code(number: 12) == nil)
  }

  @Test("positions are found among a commit's state, and nothing else is taken for one")
  func findsPositions() {
    var positions = JobPositions()
    positions.begin(places)
    var builder = RecordBatchBuilder()
    func key(_ kind: UInt8, _ partition: UInt8, _ name: String) -> Bytes {
      Bytes([0, 0, kind, 0, 0, 0, 0, partition] + Array(name.utf8))
    }
    let nine = Bytes([0, 0, 0, 0, 0, 0, 0, 9])
    builder.append(Record(key: key(0, 2, "topic:a"), value: nine, timestamp: .now))
    builder.append(Record(key: key(0, 0, "source:a"), value: nine, timestamp: .now))
    builder.append(Record(key: key(1, 0, "topic:a"), value: nine, timestamp: .now))
    builder.append(Record(key: key(0, 0, "topic:b"), value: Bytes("no"), timestamp: .now))
    builder.append(Record(key: Bytes([0, 0, 0, 0]), value: nine, timestamp: .now))
    builder.append(Record(key: key(0, 0, "topic:c"), value: nine, timestamp: .now))
    positions.take(builder.finish())
    positions.take(Bytes("no batch"))
    // What a later read asks for is ahead of what is committed.
    positions.begin([InputPosition(topic: "a", partition: 0, offset: 99)])
    #expect(
      positions.all.map { "\($0.place.topic)\($0.place.partition)@\($0.offset)" } == ["a0@5", "a2@9", "b1@0", "c0@9"])
  }
}
