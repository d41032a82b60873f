// KeyQueries: q17.

import MillraceBase
import MillraceDataflow
import MillraceNexmark
import MillraceStreams

extension NexmarkQuery {
  static let q17 = NexmarkQuery(
    "q17", "bids of each auction and day: how many, below 10,000, below 1,000,000 and above, and prices",
    "auction day total_bids rank1_bids rank2_bids rank3_bids min_price max_price avg_price sum_price"
  ) { events in
    events.bids
      .keyBy { NumberPairKey($0.auction, Day(of: $0.dateTime).number) }
      .aggregate(BidStatistics(), name: "statistics")
      .map { day in
        let bids = day.value
        return Keyed(
          key: day.key,
          value: Row(
            day.key.first, Day(number: day.key.second), bids.count, bids.low, bids.middle, bids.high, bids.least,
            bids.most, bids.average, bids.sum))
      }
      .to(topic: results)
  }
}

/// How many bids there were, by magnitude, and what is to be known of their prices.
struct BidStatistics: WideAggregation {
  struct State: StateCodable {
    var low: Int64 = 0
    var middle: Int64 = 0
    var high: Int64 = 0
    var least = Int64.max
    var most = Int64.min
    var sum: Int64 = 0

    var count: Int64 { low &+ middle &+ high }
    /// Without its fraction.
    var average: Int64 { count > 0 ? sum / count : 0 }

    init() {}

    static var stateEncoding: String { "bid-statistics/1" }

    func encode(into writer: inout ByteWriter) {
      for number in [low, middle, high, least, most, sum] { writer.int64(number) }
    }

    init(from reader: inout ByteReader) throws(DecodingError) {
      low = try reader.int64()
      middle = try reader.int64()
      high = try reader.int64()
      least = try reader.int64()
      most = try reader.int64()
      sum = try reader.int64()
    }
  }

  var initial: State { State() }

  func add(_ bid: EncodedBid, to state: inout State) {
    let price = bid.price
    if price < 10_000 { state.low &+= 1 } else if price < 1_000_000 { state.middle &+= 1 } else { state.high &+= 1 }
    state.least = min(state.least, price)
    state.most = max(state.most, price)
    state.sum &+= price
  }

  var isCommutative: Bool { true }

  func merge(_ other: State, into state: inout State) {
    state.low &+= other.low
    state.middle &+= other.middle
    state.high &+= other.high
    state.least = min(state.least, other.least)
    state.most = max(state.most, other.most)
    state.sum &+= other.sum
  }
}
