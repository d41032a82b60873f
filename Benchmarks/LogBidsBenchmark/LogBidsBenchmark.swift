// LogBidsBenchmark: bids of the Nexmark benchmark as JSON in a topic of the log, through jobs that decode them and write results
// exactly once to another topic.
//
// Arguments: runs (default 5), thousands of bids (default 4000: more than the log keeps in memory), data directory (a new one
// under the temporary directory), which is removed at the end. Prints one line of JSON.

import Foundation
import Millrace
import MillraceNexmark
import Synchronization

/// A bid, with its texts lent.
struct TextBid: TypedRecord {
  var auction: Int64 = 0
  var bidder: Int64 = 0
  var price: Int64 = 0
  var channel = BorrowedBytes()
  var url = BorrowedBytes()
  var dateTime = Timestamp.none
  var extra = BorrowedBytes()

  static let schema = RecordSchema<TextBid>(
    .field("auction", \.auction), .field("bidder", \.bidder), .field("price", \.price),
    .field("channel", \.channel), .field("url", \.url), .field("date_time", \.dateTime), .field("extra", \.extra))
}

/// What most queries want of a bid; the rest is passed over.
struct BidPrice: TypedRecord {
  var auction: Int64 = 0
  var price: Int64 = 0

  static let schema = RecordSchema<BidPrice>(.field("auction", \.auction), .field("price", \.price))
}

enum LogBidsBenchmark {
  static let partitions = 4
  static let bids = DataStream.topic("bids")

  /// The jobs, each to a topic of its own.
  static let jobs: [(name: String, output: @Sendable (String) -> StreamOutput)] = [
    (
      "2 fields of 7, one in 123 auctions written",
      { bids.decode(BidPrice.self, from: .json).filter { $0.auction % 123 == 0 }.to(topic: $0, as: .json) }
    ),
    (
      "all 7 fields, one in 123 auctions written",
      { bids.decode(TextBid.self, from: .json).filter { $0.auction % 123 == 0 }.to(topic: $0, as: .json) }
    ),
    (
      "counted by auction",
      {
        bids.decode(BidPrice.self, from: .json).keyBy { NumberKey($0.auction) }.count(name: "bids")
          .map { "\($0.key.number) \($0.value)" }.to(topic: $0)
      }
    ),
    ("all 7 fields, all written", { bids.decode(TextBid.self, from: .json).to(topic: $0, as: .json) }),
  ]

  static func main() async {
    let arguments = CommandLine.arguments
    let runs = arguments.count > 1 ? max(1, Int(arguments[1]) ?? 5) : 5
    let count = (arguments.count > 2 ? max(1, Int(arguments[2]) ?? 4000) : 4000) * 1000
    let directory = arguments.count > 3 ? arguments[3] : NSTemporaryDirectory() + "millrace-bids-\(UUID().uuidString)"
    do {
      let broker = try await EmbeddedBroker.open(directory: directory)
      try await broker.createTopic("bids", partitions: partitions)
      try await load(broker, count)
      var found: [[Figures]] = []
      for job in jobs {
        found.append([])
        for run in 0..<runs {
          let figures = try await measure(broker, "\(found.count)-\(run)", count, job.output)
          FileHandle.standardError.write(Data("\(job.name): \(figures)\n".utf8))
          found[found.count - 1].append(figures)
        }
      }
      try await broker.close()
      try FileManager.default.removeItem(atPath: directory)
      let lines = zip(jobs, found).map { job, figures in
        func median(_ value: (Figures) -> Double) -> Double { figures.map(value).sorted()[figures.count / 2] }
        return "{\"name\": \"\(job.name)\", \"per_core\": \(median(\.perCore)), "
          + "\"job_per_core\": \(median(\.jobPerCore)), \"per_second\": \(median(\.perSecond)), \"rows\": \(figures[0].rows)}"
      }
      print("{\"bids\": \(count), \"jobs\": [\(lines.joined(separator: ", "))]}")
    } catch {
      print("failed: \(error); the data are in \(directory)")
      exit(1)
    }
  }

  /// Bids per second of processor time, of the whole process and of the job's thread, and of the clock.
  struct Figures {
    var perCore = 0.0
    var jobPerCore = 0.0
    var perSecond = 0.0
    var rows: UInt64 = 0
  }

  /// A number that threads share.
  final class Latest: Sendable {
    private let content = Mutex(0.0)
    var value: Double {
      get { content.withLock { $0 } }
      set { content.withLock { $0 = newValue } }
    }
  }

  /// Runs a job over all bids.
  static func measure(
    _ broker: EmbeddedBroker, _ name: String, _ count: Int, _ output: (String) -> StreamOutput
  ) async throws -> Figures {
    try await broker.createTopic("results-\(name)", partitions: partitions)
    // The job asks for the time on its own thread, with each step.
    let threadTime = Latest()
    var options = JobOptions()
    options.clock = {
      threadTime.value = seconds(CLOCK_THREAD_CPUTIME_ID)
      return .now
    }
    let start = ContinuousClock.now
    let used = seconds(CLOCK_PROCESS_CPUTIME_ID)
    let job = try await broker.run(output("results-\(name)").job(named: "bids-\(name)"), options: options)
    while job.figures.recordsIn < UInt64(count) {
      if case .failed(let error) = job.state { throw error }
      try await Task.sleep(for: .milliseconds(1))
    }
    try await job.stop()
    let elapsed = (ContinuousClock.now - start) / .seconds(1)
    let whole = seconds(CLOCK_PROCESS_CPUTIME_ID) - used
    let figures = job.figures
    try await broker.deleteTopic("results-\(name)")
    return Figures(
      perCore: Double(count) / whole, jobPerCore: Double(count) / threadTime.value,
      perSecond: Double(count) / elapsed, rows: figures.recordsOut)
  }

  static func seconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
  }

  /// Fills `bids`, in runs of some thousand to each partition in turn.
  static func load(_ broker: EmbeddedBroker, _ count: Int) async throws {
    let producer = try await broker.producer(for: "bids")
    let generator = NexmarkGenerator()
    let encoder = try RecordEncoder<TextBid>(.json)
    var (number, made): (Int64, Int) = (0, 0)
    while made < count {
      guard case .bid(let bid) = generator.event(number) else {
        number += 1
        continue
      }
      number += 1
      let value = text(of: bid, encoder)
      try await producer.send(Record(value: value, timestamp: bid.dateTime), partition: Int32(made / 4096 % partitions))
      made += 1
    }
    try await producer.close()
  }

  static func text(of bid: Bid, _ encoder: RecordEncoder<TextBid>) -> Bytes {
    func lent(_ text: String, _ body: (BorrowedBytes) -> Bytes) -> Bytes {
      var text = text
      return text.withUTF8 { body(BorrowedBytes(UnsafeRawBufferPointer($0))) }
    }
    return lent(bid.channel) { channel in
      lent(bid.url) { url in
        lent(bid.extra) { extra in
          Bytes(
            encoder.text(
              of: TextBid(
                auction: bid.auction, bidder: bid.bidder, price: bid.price, channel: channel, url: url,
                dateTime: bid.dateTime, extra: extra)))
        }
      }
    }
  }
}
