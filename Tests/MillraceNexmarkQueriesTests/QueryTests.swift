// QueryTests: queries over few events made for borders and ties, and the results of a run that crashes.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceNexmark
import MillraceStreams
import Testing

@testable import MillraceNexmarkQueries

/// Events by hand, a batch each `size` events.
private final class MadeSource: ReplayableSource {
  private var rest: ArraySlice<NexmarkEvent>
  private let size: Int

  init(_ events: [NexmarkEvent], by size: Int) {
    rest = events[...]
    self.size = size
  }

  func restore(_ position: Bytes?) throws(JobError) {}

  func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    guard !rest.isEmpty else { return SourceBatch(batch: nil, position: Bytes(), isFinished: true) }
    var builder = RecordBatchBuilder()
    for event in rest.prefix(size) { builder.append(Record(value: event.encoded, timestamp: event.dateTime)) }
    rest = rest.dropFirst(size)
    return SourceBatch(batch: builder.finish(), position: Bytes(), isFinished: rest.isEmpty)
  }
}

/// The lines of a query's result, by batches of every size, on one and on two workers.
private func lines(_ query: NexmarkQuery, _ events: [NexmarkEvent]) throws -> [String] {
  var all: Set<[String]> = []
  for (size, workers) in (1...events.count).flatMap({ [($0, 1), ($0, 2)] }) {
    let host = ResultHost(keepsOutputs: true)
    let source = NexmarkEvents.source("made") { MadeSource(events, by: size) }
    var options = JobOptions()
    options.workers = workers
    let executor = try JobExecutor(query.output(source).job(named: query.name), host: host, options: options)
    while try executor.turn() != .finished {}
    try executor.settle()
    var text = ""
    try ResultLines(host.outputs, columns: query.columns).write { text += String(decoding: $0, as: UTF8.self) }
    all.insert(text.split(separator: "\n").map(String.init))
  }
  #expect(all.count == 1, "\(query.name) depends on batches or workers: \(all)")
  return try #require(all.first)
}

private func bid(
  _ auction: Int64 = 1, bidder: Int64 = 1, price: Int64 = 10, at time: Int64 = 0, _ extra: String = ""
) -> NexmarkEvent {
  .bid(
    Bid(
      auction: auction, bidder: bidder, price: price, channel: "", url: "", dateTime: Timestamp(milliseconds: time),
      extra: extra))
}

private func person(_ id: Int64, at time: Int64, state: String = "or") -> NexmarkEvent {
  .person(
    Person(
      id: id, name: "n\(id)", emailAddress: "", creditCard: "", city: "c", state: state,
      dateTime: Timestamp(milliseconds: time), extra: ""))
}

private func auction(
  _ id: Int64, seller: Int64 = 1, at time: Int64 = 0, expires: Int64 = 1_000, category: Int64 = 10
) -> NexmarkEvent {
  .auction(
    Auction(
      id: id, itemName: "i", description: "", initialBid: 1, reserve: 2, dateTime: Timestamp(milliseconds: time),
      expires: Timestamp(milliseconds: expires), seller: seller, category: category, extra: ""))
}

@Test("q1 computes prices in thousandths, without error")
func pricesInThousandths() throws {
  #expect(
    try lines(.q1, [bid(price: 9_007_199_254_740), bid(price: 250)]).map { $0.split(separator: ",")[2] }
      == [#""price":227.000"#, #""price":8178536923303.920"#].sorted())
}

@Test("q5 keeps all auctions with the most bids of a window")
func tiesOfAWindow() throws {
  // Windows from 12, 14, 16 and 18 s: auction 1; from 20: 1 and 2; from 22, 24, 26 and 28: 2 and 3; from 30: 3.
  let rows = try lines(.q5, [bid(1, at: 20_000), bid(2, at: 29_999), bid(3, at: 30_000)])
  #expect(rows == (1...3).flatMap { auction in (0..<5).map { _ in "{\"auction\":\(auction),\"num\":1}" } })
}

@Test("q7 takes the bid at the very end of a window, however events lie in batches")
func bidAtTheEndOfAWindow() throws {
  let events = [bid(at: 9_999, "a"), bid(at: 10_000, "b"), bid(price: 9, at: 10_000, "d"), bid(at: 10_001, "c")]
  // a is the highest of the first window, b and c of the second; b is also at the first one's end.
  #expect(
    try lines(.q7, events).map { $0.suffix(4) }.sorted() == ["\"a\"}", "\"b\"}", "\"b\"}", "\"c\"}"])
}

@Test("q8 looks at windows and not at distances, and tells a person once")
func windowsAndNotDistances() throws {
  let events = [
    person(1, at: 9_999), auction(7, seller: 3, at: 9_999), person(2, at: 10_000), person(3, at: 10_000),
    auction(8, seller: 1, at: 10_000), auction(9, seller: 2, at: 10_000), auction(10, seller: 2, at: 19_999),
  ]
  #expect(try lines(.q8, events) == [#"{"id":2,"name":"n2","stime":10000}"#])
}

@Test("q11 ends a session when more than ten seconds pass")
func sessionsOfABidder() throws {
  let events = [bid(at: 0), bid(bidder: 2, at: 5), bid(at: 10_000), bid(at: 20_001), bid(at: 30_001), bid(at: 40_002)]
  #expect(
    try lines(.q11, events) == [
      #"{"bidder":1,"bid_count":1,"starttime":40002,"endtime":50002}"#,
      #"{"bidder":1,"bid_count":2,"starttime":0,"endtime":20000}"#,
      #"{"bidder":1,"bid_count":2,"starttime":20001,"endtime":40001}"#,
      #"{"bidder":2,"bid_count":1,"starttime":5,"endtime":10005}"#,
    ])
}

@Test("q17 divides days in UTC, ranks prices and drops the average's fraction")
func statisticsOfDays() throws {
  let midnight: Int64 = 86_400_000
  let events = [
    bid(price: 9_999, at: midnight - 1), bid(price: 10_000, at: midnight), bid(price: 999_999, at: midnight + 1),
    bid(price: 1_000_000, at: midnight + 2),
  ]
  let rest = #""total_bids":3,"rank1_bids":0,"rank2_bids":2,"rank3_bids":1,"min_price":10000,"max_price":1000000,"#
  #expect(
    try lines(.q17, events).last == #"{"auction":1,"day":"1970-01-02","# + rest
      + #""avg_price":669999,"sum_price":2009999}"#)
}

/// What stands in a column of each line.
private func column(_ name: String, _ lines: [String]) -> [String] {
  lines.map { line in
    let parts = line.split(separator: "\"\(name)\":", maxSplits: 1)
    return parts.count == 2 ? String(parts[1].prefix { $0 != "," && $0 != "}" }) : "no \(name)"
  }
}

@Test("q3 and q20 join whatever comes first")
func joinsWhateverComesFirst() throws {
  let events = [
    bid(1, at: 0, "first"), auction(1, seller: 4), person(4, at: 0, state: "id"), bid(1, at: 1, "last"),
    auction(2, seller: 4, category: 11), bid(2), person(5, at: 0, state: "wa"), auction(3, seller: 5),
    auction(6, seller: 4),
  ]
  #expect(column("bid_extra", try lines(.q20, events)) == [#""first""#, #""last""#])
  #expect(column("id", try lines(.q3, events)) == ["1", "6"])
}

@Test("q4 and q9 count bids from opening to expiry, inclusive, also those that come before their auction")
func bidsWhileAnAuctionIsOpen() throws {
  let events = [
    bid(1, price: 50, at: 99), bid(1, price: 7, at: 100), auction(1, at: 100, expires: 200),
    bid(1, price: 8, at: 200), bid(1, price: 60, at: 201), auction(2, at: 200, expires: 400),
    bid(2, price: 17, at: 300),
  ]
  let won = try lines(.q9, events)
  #expect(column("id", won) == ["1", "2"] && column("price", won) == ["8", "17"])
  // (8 + 17) / 2, without its fraction.
  #expect(try lines(.q4, events) == [#"{"category":10,"final":12}"#])
}

@Test("q9 takes the earliest of equal bids, and of those the first to come")
func earliestOfEqualBids() throws {
  var events = [bid(at: 5, "before its auction"), auction(1, at: 0, expires: 9)]
  #expect(column("bid_extra", try lines(.q9, events)) == [#""before its auction""#])
  events += [bid(at: 6, "late"), bid(at: 4, "early"), bid(at: 4, "as early")]
  #expect(column("bid_extra", try lines(.q9, events)) == [#""early""#])
}

@Test("q18 takes the latest bid, and of equally late ones the last to come")
func latestBids() throws {
  let events = [bid(at: 5, "a"), bid(at: 5, "b"), bid(at: 4, "c"), bid(bidder: 2, at: 1, "d"), bid(2, at: 0, "e")]
  #expect(column("extra", try lines(.q18, events)) == [#""b""#, #""d""#, #""e""#])
}

@Test("q19 ranks ten bids, and equal prices in the order in which they came")
func ranksOfPrices() throws {
  let events = (0..<12).map { bid(price: $0 % 2 == 1 ? 7 : 5, at: Int64(100 - $0), "\($0)") }
  let rows = try lines(.q19, events)
  let ranked = zip(column("rank_number", rows), column("extra", rows)).sorted { Int($0.0) ?? 0 < Int($1.0) ?? 0 }
  #expect(ranked.map(\.0) == (1...10).map { "\($0)" })
  #expect(ranked.map(\.1) == [1, 3, 5, 7, 9, 11, 0, 2, 4, 6].map { "\"\($0)\"" })
}

@Test("a record that holds no event ends the job", arguments: NexmarkQuery.all.map(\.name))
func brokenEvents(_ name: String) throws {
  let query = try #require(NexmarkQuery.all.first { $0.name == name })
  final class Broken: ReplayableSource {
    func restore(_ position: Bytes?) throws(JobError) {}
    func next(maxBytes: Int) throws(JobError) -> SourceBatch {
      var builder = RecordBatchBuilder()
      builder.append(Record(value: Bytes([0x22, 1]), timestamp: Timestamp(milliseconds: 0)))
      return SourceBatch(batch: builder.finish(), position: Bytes(), isFinished: true)
    }
  }
  let source = NexmarkEvents.source("broken") { Broken() }
  let executor = try JobExecutor(query.output(source).job(named: name), host: ResultHost(keepsOutputs: true))
  #expect {
    while try executor.turn() != .finished {}
  } throws: {
    ($0 as? JobError)?.code == .corruptInput
  }
}

@Test("a crash loses what is in flight and changes no result", arguments: NexmarkQuery.all.map(\.name))
func recoversAfterACrash(_ name: String) throws {
  let query = try #require(NexmarkQuery.all.first { $0.name == name })
  func result(_ run: NexmarkRun) throws -> (String, NexmarkOutcome) {
    let outcome = try run.run()
    var text = ""
    try ResultLines(outcome.outputs, columns: query.columns).write { text += String(decoding: $0, as: UTF8.self) }
    return (text, outcome)
  }
  var run = NexmarkRun(query, NexmarkGenerator(rate: 200), events: 100..<9_100)
  let (expected, whole) = try result(run)
  #expect(!expected.isEmpty && whole.recoveredAt == nil)
  for (at, isPrepared) in [(1_000, false), (5_000, true), (9_000, false)] {
    run.crashAt = Int64(at)
    run.isPrepared = isPrepared
    let (text, outcome) = try result(run)
    #expect(text == expected, "\(name) after a crash at \(at)")
    let position = try #require(outcome.recoveredAt)
    #expect(position >= 100 && position < 100 + Int64(at))
    #expect(at < 5_000 || position > 100, "nothing was committed before the crash")
  }
}
