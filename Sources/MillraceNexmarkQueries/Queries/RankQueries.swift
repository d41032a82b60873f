// RankQueries: q18 and q19.

import MillraceBase
import MillraceDataflow
import MillraceNexmark
import MillraceStreams

extension NexmarkQuery {
  static let q18 = NexmarkQuery(
    "q18", "the last bid of each bidder for each auction", "auction bidder price channel url date_time extra"
  ) { events in
    events.bids
      .map { KeptEvent($0) }
      .keyBy { $0.with { NumberPairKey($0.bidder, $0.auction) } }
      .deduplicateLast(name: "last")
      .flatMap { last, emit in
        last.value.with { bid in
          emit(
            Keyed(
              key: last.key,
              value: Row(bid.auction, bid.bidder, bid.price, bid.channel, bid.url, bid.dateTime, bid.extra)))
        }
      }
      .to(topic: results)
  }

  static let q19 = NexmarkQuery(
    "q19", "the ten bids with the highest prices of each auction",
    "auction bidder price channel url date_time extra rank_number"
  ) { events in
    events.bids
      .keyBy { NumberKey($0.auction) }
      .select(HighestPrices(limit: 10), name: "top")
      .flatMap { top, emit in
        for (place, kept) in top.value.content.enumerated() {
          let rank = Int64(place + 1)
          kept.bid.with { bid in
            emit(
              Keyed(
                key: NumberPairKey(bid.auction, rank),
                value: Row(bid.auction, bid.bidder, bid.price, bid.channel, bid.url, bid.dateTime, bid.extra, rank)))
          }
        }
      }
      .to(topic: results)
  }
}

extension KeyedStream {
  /// What `fold` keeps of each key; a step hands on each key for which it is something else, once.
  func select<Fold: SelectiveAggregation>(
    _ fold: Fold, name: String
  ) -> DataStream<KeyedSelect<Source, Key, Fold>> where Fold.Input == Source.Output {
    DataStream<KeyedSelect<Source, Key, Fold>>(KeyedSelect(flow, key: key, fold: fold, kind: "select", name: name))
  }
}

/// The bids with the highest prices, the highest first; of equal ones the first to come stands first, which `top` does
/// not know. A bid is copied when it is one of them.
struct HighestPrices: SelectiveAggregation {
  struct Entry: StateCodable {
    let price: Int64
    let bid: KeptEvent<EncodedBid>

    init(_ bid: EncodedBid) {
      price = bid.price
      self.bid = KeptEvent(bid)
    }

    static var stateEncoding: String { KeptEvent<EncodedBid>.stateEncoding }
    func encode(into writer: inout ByteWriter) { bid.encode(into: &writer) }
    init(from reader: inout ByteReader) throws(DecodingError) {
      bid = try KeptEvent(from: &reader)
      price = bid.with(\.price)
    }
  }

  let limit: Int

  var initial: Boxed<[Entry]> { Boxed([]) }

  func change(_ state: inout Boxed<[Entry]>, by bid: EncodedBid, at time: Timestamp) -> Bool {
    let price = bid.price
    let count = state.content.count
    if count >= limit, price <= state.content[count - 1].price { return false }
    var place = count
    while place > 0, price > state.content[place - 1].price { place -= 1 }
    state.content.insert(Entry(bid), at: place)
    if count >= limit { state.content.removeLast() }
    return true
  }
}
