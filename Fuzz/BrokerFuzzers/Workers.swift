// Workers: the socket of workers: its bytes, and what a worker that means harm can ask of a running broker.

import FuzzHarness
import MillraceBase
import MillraceBroker
import MillraceDataflow
import MillraceModel
import MillraceRouting
import MillraceSimulation

@testable import MillraceConnectors

private func batch(_ key: [UInt8], _ value: [UInt8]) -> Bytes {
  var builder = RecordBatchBuilder()
  builder.append(Record(key: Bytes(key), value: Bytes(value), timestamp: Timestamp(milliseconds: 1)))
  return builder.finish()
}

private let position = batch([0, 0, 0, 0, 0, 0, 0, 0] + Array("topic:lines".utf8), [0, 0, 0, 0, 0, 0, 0, 1])
private let places = [
  InputPosition(topic: "lines", partition: 0, offset: 0), InputPosition(topic: "counts", partition: 0, offset: 0),
]

private func commit(_ epoch: Int64, start: Offset?, settled: ClosedRange<UInt64>? = nil) -> WorkerRequest {
  .commit(
    StepCommit(
      job: "j", epoch: epoch,
      outputs: [
        OutputBatch(topic: "counts", partition: 0, bytes: batch([1], [2])),
        OutputBatch(target: .queue("work"), bytes: batch([1], [2])),
      ],
      state: [position, batch([0, 1, 1, 9, 9], [0])], stateLogStart: start,
      settlements: settled.map {
        [QueueSettlement(queue: "work", after: $0.lowerBound, through: $0.upperBound)]
      } ?? []))
}

/// Declares a queue and puts two messages into it.
private func fillQueue(of machine: Machine) {
  let declaration = QueueDeclaration(name: "work", virtualHost: "/", isDurable: true)
  machine.broker.queues.declare(declaration, in: "/", owner: nil) { result in
    guard case .success = result, let format = machine.broker.queues.format(MessageRecord.amqpProperties) else {
      preconditionFailure("the queue cannot be made: \(result)")
    }
    var transaction = QueueTransaction()
    for body in ["one", "two"] {
      let properties = format.properties(of: Record(value: nil, headers: [RecordHeader("kind", Bytes(body))]))
      transaction.publications.append(
        Publication(
          virtualHost: "/", exchange: Bytes(), routingKey: Bytes("work"), format: format, properties: properties,
          body: Bytes(body), facts: format.facts(properties)))
    }
    machine.broker.queues.commit(transaction) { _ in }
  }
  machine.world.run(for: .milliseconds(10))
}

private func report() -> JobReport {
  var report = JobReport()
  report.watermark = 7
  var source = ChainFigures([OperatorLabel(number: 0, kind: "RecordInput", name: "lines")])
  source.bytesIn = 61
  source.watermarkHolder = InputPlace(input: "lines", partition: 1)
  source.timedWith = 1
  var count = ChainFigures([OperatorLabel(number: 1, kind: "KeyedAggregate", name: "words")])
  (count.upstreams, count.isKeyed, count.stateEntries, count.stateBytes) = ([0], true, 1, 13)
  report.chains = [source, count]
  report.inputs = [InputFigures(place: InputPlace(input: "lines", partition: 0))]
  return report
}

/// One of every kind, in an order in which a job runs.
private let calls: [WorkerRequest] = [
  .partitionCount(topic: "lines"), .partitionCount(topic: "counts"), .open(job: "j", owner: 3, mayTakeOver: true),
  .checkQueue("work"), .openQueue("work"), .takeMessages("work", maxBytes: 1), commit(1, start: nil, settled: 0...1),
  .state(job: "j", from: 0), .read(places, maxBytes: 1000, waitMilliseconds: 5), commit(1, start: nil),
  commit(1, start: 1), .read([], maxBytes: 1, waitMilliseconds: 2), .interrupt, .report(report()),
  .state(job: "j", from: 1), .showJob("j"), .listJobs(after: ""), .endOffsets(places),
  .open(job: "j", owner: 3, mayTakeOver: false), .openQueue("work"), .takeMessages("work", maxBytes: 1000),
  commit(2, start: nil, settled: 0...1), commit(2, start: nil), .stopJob("j", isForced: false),
  .read(places, maxBytes: 1, waitMilliseconds: 1000), .stopJob("j", isForced: true), .resumeJob("j"),
]

private func encoded(_ request: WorkerRequest) -> [UInt8] {
  var writer = ByteWriter()
  request.encode(to: &writer)
  return writer.finishJoined().array
}

private func frames() -> [WorkerFrame] {
  let entry = JobEntry(name: "j", state: .running, epoch: 1, processID: 2)
  let detail = JobDetail(
    entry: entry, stateStart: 0, stateEnd: 1, stateBytes: 2,
    positions: [JobPosition(topic: "lines", partition: 0, offset: 1, endOffset: 2)], report: report())
  let input = FetchedInput(
    position: 0, runs: [position], voids: [VoidRecords(producerID: 1, firstOffset: 0, lastOffset: 2)], endOffset: 3)
  let answers: [WorkerAnswer] = [
    .refused(JobError(.fenced, "over")), .hello(version: 2, largestCommit: 9), .opened(epoch: 1, start: 0, end: 2),
    .state([position], start: 0, end: 1), .partitionCount(2), .batches([input]), .committed(stateLogOffset: 1), .done,
    .jobs([entry], isMore: false), .job(detail), .endOffsets([1, -1]), .messages(position, through: 2),
  ]
  return answers.map { WorkerFrame(number: 1, isStopping: false, partitionAdditions: 0, answer: $0) }
}

private func joined(_ frame: WorkerFrame) -> Bytes {
  var writer = ByteWriter()
  for piece in frame.encoded() { writer.append(piece) }
  let whole = writer.finishJoined()
  return whole[4..<whole.count]
}

/// A request, or an answer as a worker reads it; what is accepted must survive writing and reading again, and what a worker does
/// with it must end.
let workerRequests = FuzzTarget(
  name: "worker-requests",
  seeds: { calls.map { [0] + encoded($0) } + frames().map { [1] + joined($0).array } }
) { input in
  var choices = Choices(input)
  let isRequest = choices.byte() % 2 == 0
  let bytes = choices.rest()
  do throws(DecodingError) {
    if isRequest {
      var reader = ByteReader(bytes)
      let request = try WorkerRequest(from: &reader)
      let once = encoded(request)
      var again = ByteReader(Bytes(once))
      let copy = try WorkerRequest(from: &again)
      precondition(encoded(copy) == once, "a request changes when written and read again")
      if case .commit(let commit) = request {
        var positions = JobPositions()
        for batch in commit.state { positions.take(batch) }
      }
    } else {
      let frame = try WorkerFrame(bytes)
      let once = joined(frame)
      let copy = try WorkerFrame(once)
      precondition(joined(copy) == once, "an answer changes when written and read again")
      guard case .batches(let inputs) = frame.answer else { return }
      // Batches that cannot be taken apart end the run.
      for input in inputs { do throws(JobError) { _ = try input.batches(from: 0) } catch {} }
    }
  } catch {
    precondition(error.position >= 0 && error.position <= input.count, "position \(error.position) of \(input.count)")
  }
}

/// Requests in right frames, out of the input: two bytes of length, body. Every answer must be one that a worker can read,
/// and each request gets one at most.
let workerCalls = FuzzTarget(
  name: "worker-calls", allowance: 8 << 20, limit: .milliseconds(400),
  seeds: {
    func piece(_ body: [UInt8]) -> [UInt8] { [UInt8(body.count >> 8), UInt8(body.count & 255)] + body }
    let all = calls.map { encoded($0) }
    return [[0] + all.flatMap(piece), [1] + all.flatMap(piece)] + all.map { [0] + piece($0) }
  }
) { input in
  let machine: Machine
  do throws(BrokerError) {
    machine = try Machine()
  } catch {
    preconditionFailure("the broker does not start: \(error)")
  }
  defer { machine.end() }
  fillQueue(of: machine)
  let client = machine.connectAsWorker()
  var choices = Choices(input)
  let isPiecewise = choices.byte() % 2 == 1
  func send(_ number: UInt32, _ body: [UInt8]) {
    for piece in WorkerProtocol.frame(number, { writer in body.withUnsafeBytes { writer.copy($0) } }) {
      client.write(piece)
    }
  }
  send(0, encoded(.hello(version: WorkerProtocol.version, processID: 1)))
  var sent: UInt32 = 0
  while !choices.isEmpty, sent < 50, !client.isClosed {
    sent += 1
    send(sent, choices.bytes(choices.number(below: 1 << 16)).array)
    if isPiecewise { machine.world.run(for: .milliseconds(3)) }
  }
  machine.world.run(for: .milliseconds(40))
  var reader = ByteReader(Bytes(client.received))
  var answered: Set<UInt32> = []
  do throws(DecodingError) {
    while reader.remaining >= 4 {
      let size = Int(try reader.int32())
      guard reader.remaining >= size else { break }
      let number = try WorkerFrame(try reader.slice(size)).number
      precondition(number <= sent && answered.insert(number).inserted, "answer \(number) of \(sent)")
    }
  } catch {
    preconditionFailure("an answer cannot be read: \(error)")
  }
  client.close()
  machine.world.run(for: .milliseconds(5))
}

/// A savepoint, read as a worker reads it; checksums of batches are as they are.
let savepoints = FuzzTarget(
  name: "savepoints",
  seeds: {
    var writer = ByteWriter()
    writer.append(SavepointReader.head(job: "j", epoch: 2))
    for batch in [batch([0, 1, 1, 9, 9], [0]), position] { writer.bytes(batch) }
    writer.uint32(0)
    writer.uint64(2)
    return [writer.finishJoined().array]
  }
) { input in
  let bytes = input.withBuffer { Bytes(copying: $0) }
  do throws(JobError) {
    let reader = try SavepointReader(size: Int64(bytes.count)) { (position, count) throws(JobError) in
      bytes[Int(position)..<(Int(position) + count)]
    }
    var count = 0
    var lasts = 0
    try reader.forEachBatch { (_, isLast) throws(JobError) in
      count += 1
      lasts += isLast ? 1 : 0
    }
    precondition(lasts == min(count, 1), "\(lasts) of \(count) batches are the last one")
  } catch {}
}
