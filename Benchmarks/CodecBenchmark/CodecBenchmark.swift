// CodecBenchmark: bids of the Nexmark benchmark as text through jobs on a host in memory: records per second of
// processor time.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceNexmark
import MillraceStreams

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

/// The two numbers of a bid that most queries want; the rest is passed over.
struct BidPrice: TypedRecord {
  var auction: Int64 = 0
  var price: Int64 = 0

  static let schema = RecordSchema<BidPrice>(.field("auction", \.auction), .field("price", \.price))
}

/// Adds numbers up, so that nothing is left out.
///
/// Safety: used by the thread that runs the job.
final class Total: @unchecked Sendable {
  var value: Int64 = 0
}

/// Arguments: thousands of bids (default 1000), runs (default 5).
enum CodecBenchmark {
  static func main() {
    let arguments = CommandLine.arguments
    let bids = max(1, arguments.count > 1 ? Int(arguments[1]) ?? 1000 : 1000) * 1000
    let runs = max(1, arguments.count > 2 ? Int(arguments[2]) ?? 5 : 5)
    do {
      let host = MemoryHost()
      for topic in ["json", "csv", "out"] { host.createTopic(topic, partitions: 1) }
      let size = try load(host, bids)
      print("\(bids) bids, \(size / bids) bytes of JSON each")
      let total = Total()
      let read = DataStream.topic("json").forEach { record in total.value &+= Int64(record.valueBuffer.count) }
      try measure("records alone", host, read, bids, runs)
      let json = DataStream.topic("json").decode(TextBid.self, from: .json)
      try measure(
        "JSON, all 7 fields", host,
        json.forEach { bid in total.value &+= bid.auction &+ bid.price &+ Int64(bid.extra.count) }, bids, runs)
      let prices = DataStream.topic("json").decode(BidPrice.self, from: .json)
      try measure(
        "JSON, 2 fields of 7", host, prices.forEach { bid in total.value &+= bid.auction &+ bid.price }, bids, runs)
      let csv = DataStream.topic("csv").decode(TextBid.self, from: .csv)
      try measure(
        "CSV, all 7 fields", host,
        csv.forEach { bid in total.value &+= bid.auction &+ bid.price &+ Int64(bid.extra.count) }, bids, runs)
      try measure("JSON, read and written", host, json.to(topic: "out", as: .json), bids, runs)
    } catch {
      fatalError("\(error)")
    }
  }

  private static func measure(
    _ what: String, _ host: MemoryHost, _ output: StreamOutput, _ bids: Int, _ runs: Int
  ) throws(JobError) {
    var rates: [Double] = []
    for run in 0..<runs {
      let executor = try JobExecutor(output.job(named: "\(what) \(run)"), host: host)
      let begin = ProcessorTime.thread
      while executor.figures.lag > 0 || executor.figures.steps == 0 { _ = try executor.turn() }
      try executor.settle()
      rates.append(Double(bids) / (Double((ProcessorTime.thread - begin).inNanoseconds) / 1e9))
      host.createTopic("out", partitions: 1)
    }
    rates.sort()
    func millions(_ rate: Double) -> String { "\((rate / 1e4).rounded() / 100)" }
    print(
      "\(what): \(millions(rates[rates.count / 2])) M bids/s per core (\(millions(rates[0])) to "
        + "\(millions(rates[rates.count - 1])))")
  }

  /// - Returns: bytes of JSON.
  private static func load(_ host: MemoryHost, _ bids: Int) throws(JobError) -> Int {
    let generator = NexmarkGenerator()
    let room = UnsafeMutableRawBufferPointer.allocate(byteCount: NexmarkGenerator.encodedSizeLimit, alignment: 16)
    defer { room.deallocate() }
    let encoder = try RecordEncoder<TextBid>(.json)
    let rows = try RecordEncoder<TextBid>(.csv)
    var json = RecordBatchBuilder()
    var csv = RecordBatchBuilder()
    var (number, made, size): (Int64, Int, Int) = (0, 0, 0)
    while made < bids {
      let count = generator.encode(number, into: room)
      number += 1
      let event: EncodedEvent
      do throws(DecodingError) {
        event = try EncodedEvent(UnsafeRawBufferPointer(rebasing: room[..<count]))
      } catch {
        fatalError("event \(number): \(error)")
      }
      guard case .bid(let bid) = event else { continue }
      let text = TextBid(
        auction: bid.auction, bidder: bid.bidder, price: bid.price, channel: bid.channel, url: bid.url,
        dateTime: bid.dateTime, extra: bid.extra)
      encoder.withText(of: text) {
        json.append(key: nil, value: $0, timestamp: bid.dateTime)
        size += $0.count
      }
      rows.withText(of: text) { csv.append(key: nil, value: $0, timestamp: bid.dateTime) }
      made += 1
      guard json.size > 500_000 || made == bids else { continue }
      try host.append(topic: "json", partition: 0, batch: json.finish())
      try host.append(topic: "csv", partition: 0, batch: csv.finish())
    }
    return size
  }
}
