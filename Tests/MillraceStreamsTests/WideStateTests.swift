// WideStateTests: state of any size in keys, windows and sessions: over crashes, in the state log, and given back in the end.

import MillraceBase
import MillraceModel
import MillraceStreams
import Synchronization
import Testing

@testable import MillraceDataflow

/// How many there are now, over all tests of this file that use it, one at a time.
private let alive = Atomic<Int>(0)

/// The numbers that came, in order; tells when it is made and given back.
private struct Numbers: StateCodable, Sendable {
  final class Token: Sendable {
    init() { alive.add(1, ordering: .relaxed) }
    deinit { alive.subtract(1, ordering: .relaxed) }
  }
  var list: [Int64] = []
  let token = Token()

  static var stateEncoding: String { "numbers/1" }
  func encode(into writer: inout ByteWriter) { list.encode(into: &writer) }
  init() {}
  init(from reader: inout ByteReader) throws(DecodingError) { list = try [Int64](from: &reader) }
}

private struct Collecting: WideAggregation {
  var initial: Numbers { Numbers() }
  func add(_ input: InputRecord, to state: inout Numbers) { state.list.append(Int64(input.value.text) ?? 0) }
  func merge(_ other: Numbers, into state: inout Numbers) { state.list += other.list }
}

private enum Shape: CaseIterable { case keys, windows, sessions }

private func job(_ shape: Shape) -> JobDefinition {
  let keyed = DataStream.topic("in").keyBy { $0.key }
  @Sendable func text(_ numbers: Numbers) -> String { numbers.list.map { "\($0)" }.joined(separator: ",") }
  let output =
    switch shape {
    case .keys:
      keyed.aggregate(Collecting(), name: "n").map { "\($0.key.text)=\(text($0.value))" }.to(topic: "out")
    case .windows:
      keyed.window(.hopping(.milliseconds(30), every: .milliseconds(20))).aggregate(Collecting(), name: "n")
        .map { "\($0.key.text)@\($0.window.end.milliseconds)=\(text($0.value))" }.to(topic: "out")
    case .sessions:
      keyed.sessions(gap: .milliseconds(5)).aggregate(Collecting(), name: "n")
        .map { "\($0.key.text)@\($0.window.end.milliseconds)=\(text($0.value))" }.to(topic: "out")
    }
  return output.job(named: "wide")
}

/// What has to be there in the end, of values whose times never fall.
private func expected(_ shape: Shape, _ events: [(key: String, number: Int64, time: Int64)]) -> Set<String> {
  var groups: [String: [Int64]] = [:]
  let end = events.map(\.time).max() ?? 0
  func add(_ name: String, _ number: Int64) { groups[name, default: []].append(number) }
  switch shape {
  case .keys: for event in events { add(event.key, event.number) }
  case .windows:
    for event in events {
      for close in stride(from: Int64(-30), through: end, by: 1)
      where (close - 30) % 20 == 0 && close - 30 <= event.time && event.time < close {
        add("\(event.key)@\(close)", event.number)
      }
    }
  case .sessions:
    for (key, events) in Dictionary(grouping: events, by: \.key) {
      var session: [(key: String, number: Int64, time: Int64)] = []
      func close() {
        guard let last = session.last, last.time + 5 < end else { return }
        for event in session { add("\(key)@\(last.time + 5)", event.number) }
      }
      for event in events {
        if let last = session.last, event.time - last.time > 5 {
          close()
          session = []
        }
        session.append(event)
      }
      close()
    }
  }
  return Set(groups.map { "\($0.key)=\($0.value.map { "\($0)" }.joined(separator: ","))" })
}

@Suite(.serialized)
struct WideStateTests {
  @Test(
    "lists as state of keys, windows and sessions, over crashes; everything is given back", arguments: Shape.allCases)
  fileprivate func lists(_ shape: Shape) throws {
    var failures = 0
    for seed in UInt64(0)..<40 {
      var random = SeededRandom(seed: seed)
      var time: Int64 = 0
      let events = (0..<120).map { number -> (key: String, number: Int64, time: Int64) in
        time += .random(in: 0...4, using: &random)
        return ("k\(Int.random(in: 0..<4, using: &random))", Int64(number), time)
      }
      let host = MemoryHost { number in
        var luck = SeededRandom(seed: seed &* 1000 &+ number)
        return luck.oneIn(5) ? (luck.oneIn(2) ? .applied : .lost) : .acknowledged
      }
      host.createTopic("in", partitions: 1)
      host.createTopic("out", partitions: 1)
      for batch in stride(from: 0, to: events.count, by: 4) {
        var builder = RecordBatchBuilder()
        for event in events[batch..<batch + 4] {
          builder.append(
            Record(
              key: Bytes(event.key), value: Bytes("\(event.number)"), timestamp: Timestamp(milliseconds: event.time)))
        }
        try host.append(topic: "in", partition: 0, batch: builder.finish())
      }
      var options = JobOptions()
      options.idleWait = .zero
      options.briefWait = .zero
      options.readBytes = 300
      options.stepBytes = 1
      while true {
        do throws(JobError) {
          let executor = try JobExecutor(job(shape), host: host, options: options)
          while try executor.turn() == .progress {}
          try executor.settle()
          #expect(alive.load(ordering: .relaxed) > 0)
          break
        } catch {
          guard error.code == .commitFailed || error.code == .fenced else { throw error }
          failures += 1
        }
      }
      #expect(alive.load(ordering: .relaxed) == 0, "\(shape) seed \(seed)")
      let out = try host.records(topic: "out", partition: 0).compactMap { $0.value?.text }
      if shape == .keys {
        // The last of each key.
        let last = Dictionary(out.map { ($0.prefix(2), $0) }) { $1 }
        #expect(Set(last.values) == expected(shape, events), "seed \(seed)")
      } else {
        #expect(out.count == Set(out).count, "\(shape) seed \(seed)")
        #expect(Set(out) == expected(shape, events), "\(shape) seed \(seed)")
      }
    }
    #expect(failures > 40)
  }
}

@Test("averages of keys, windows and sessions")
func averages() throws {
  let host = MemoryHost()
  host.createTopic("in", partitions: 1)
  host.createTopic("out", partitions: 1)
  var builder = RecordBatchBuilder()
  for (number, time) in [(1, 1), (2, 2), (6, 9), (100, 50)] {
    builder.append(
      Record(key: Bytes("x"), value: Bytes("\(number)"), timestamp: Timestamp(milliseconds: Int64(time))))
  }
  try host.append(topic: "in", partition: 0, batch: builder.finish())
  let keyed = DataStream.topic("in").keyBy { $0.key }
  @Sendable func number(_ record: InputRecord) -> Int64 { Int64(record.value.text) ?? 0 }
  let job = StreamOutput.job(
    named: "averages",
    [
      keyed.average(number).map { "all \($0.value.average)" }.to(topic: "out"),
      keyed.window(.tumbling(.milliseconds(10))).average(number).map { "window \($0.value.average)" }.to(topic: "out"),
      keyed.sessions(gap: .milliseconds(5)).average(number).map { "session \($0.value.average)" }.to(topic: "out"),
    ])
  var options = JobOptions()
  options.idleWait = .zero
  options.briefWait = .zero
  let executor = try JobExecutor(job, host: host, options: options)
  while try executor.turn() == .progress {}
  try executor.settle()
  let out = try host.records(topic: "out", partition: 0).compactMap { $0.value?.text }
  #expect(out.sorted() == ["all 27.25", "session 1.5", "session 6.0", "window 3.0"])
}

@Test("golden: encodings of state never change, because state on disk depends on them")
func goldenEncodings() {
  func bytes(_ value: some StateCodable) -> String {
    var writer = ByteWriter()
    value.encode(into: &writer)
    return writer.finishJoined().array.map { String($0, radix: 16) }.joined(separator: " ")
  }
  #expect(bytes(Int64(-2)) == "ff ff ff ff ff ff ff fe")
  #expect(bytes(1.5) == "3f f8 0 0 0 0 0 0")
  #expect(bytes(true) == "1")
  #expect(bytes("aé") == "3 61 c3 a9")
  #expect(bytes(Bytes([7, 8])) == "2 7 8")
  #expect(bytes(String?.none) == "0")
  #expect(bytes([Int64(1)] as [Int64]?) == "1 1 0 0 0 0 0 0 0 1")
  #expect(bytes(AverageState(sum: 3, count: 2)) == "0 0 0 0 0 0 0 3 0 0 0 0 0 0 0 2")
  #expect([String?].stateEncoding == "array<optional<string>>")
}

@Test("state of another type is refused, and so are bytes that are cut, too many, or none of the type")
func otherTypesAreRefused() throws {
  let codec = BoxCodec<[String]>()
  var writer = ByteWriter()
  let box = Boxed(["a", "bc"]).ownedStateBits()
  codec.write(box, into: &writer)
  codec.release(box)
  let good = writer.finishJoined()
  let read = try codec.read(good.buffer)
  #expect(Boxed<[String]>(stateBits: read).content == ["a", "bc"])
  codec.release(read)
  func problem<Content: StateCodable>(_ codec: BoxCodec<Content>, _ bytes: [UInt8]) -> String? {
    do throws(JobError) {
      codec.release(try Bytes(bytes).withBuffer { buffer throws(JobError) in try codec.read(buffer) })
      return nil
    } catch {
      return error.code == .corruptState ? error.reason : nil
    }
  }
  let array = good.array
  #expect(problem(codec, array) == nil)
  #expect(problem(BoxCodec<[Int64]>(), array)?.contains("no array<int64>: another type's, of fingerprint") == true)
  #expect(problem(codec, array + [0])?.contains("1 bytes too many") == true)
  for cut in 0..<array.count { #expect(problem(codec, Array(array[..<cut])) != nil, "cut at \(cut)") }
  // More elements than there are bytes.
  #expect(problem(codec, Array(array[..<4]) + [0xff, 0xff, 0xff, 0xff, 0x0f]) != nil)
  #expect(problem(BoxCodec<Bool>(), []) != nil)
}
