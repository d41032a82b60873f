// WinningQueries: q4 and q9, which look for the winning bid of each auction.

import MillraceBase
import MillraceDataflow
import MillraceNexmark
import MillraceStreams

extension NexmarkQuery {
  static let q4 = NexmarkQuery(
    "q4", "the average of the winning prices of each category", "category final"
  ) { events in
    events.bidding
      .table.fold(WinningPrice(), name: "winning")
      .changes()
      .keyBy { NumberKey($0.value.value.category) }
      .average(name: "averages") { $0.value.price }
      .flatMap { category, emit in
        guard let prices = category.new, prices.count > 0 else { return }
        emit(Keyed(key: category.key, value: Row(category.key.number, prices.sum / prices.count)))
      }
      .to(topic: results)
  }

  static let q9 = NexmarkQuery(
    "q9", "auctions, each with its winning bid",
    """
    id item_name description initial_bid reserve date_time expires seller category extra auction bidder price \
    bid_date_time bid_extra
    """
  ) { events in
    events.bidding
      .table.fold(WinningBid(), name: "winning")
      .flatMap { update, emit in
        guard let won = update.new else { return }
        won.left.with { auction in
          won.right.with { bid in
            emit(
              Keyed(
                key: update.key,
                value: Row(
                  auction.id, auction.itemName, auction.description, auction.initialBid, auction.reserve,
                  auction.dateTime, auction.expires, auction.seller, auction.category, auction.extra, bid.auction,
                  bid.bidder, bid.price, bid.dateTime, bid.extra)))
          }
        }
      }
      .to(topic: results)
  }
}

extension DataStream where Source == RecordInput {
  /// Auctions and bids, by auction.
  fileprivate var bidding: KeyedStream<Filter<ReadEvents<EncodedEvent>>, NumberKey> {
    events.filter { $0.auctionID != nil }.keyBy { NumberKey($0.auctionID ?? 0) }
  }
}

extension EncodedEvent {
  /// The auction that it is about; nil for a person.
  fileprivate var auctionID: Int64? {
    switch self {
    case .auction(let auction): auction.id
    case .bid(let bid): bid.auction
    case .person: nil
    }
  }
}

/// The highest price that was bid for an auction while it was open, and the auction's category. Bids that come before
/// their auction are kept until it is known when that is.
struct WinningPrice: TableFold {
  struct State: StateCodable {
    var isOpen = false
    var category: Int64 = 0
    var opens: Int64 = 0
    var expires: Int64 = 0
    var price: Int64?
    /// The time and the price of each bid before the auction.
    var early: [Int64] = []

    init() {}

    static var stateEncoding: String { "winning-price/1" }

    func encode(into writer: inout ByteWriter) {
      writer.bool(isOpen)
      for number in [category, opens, expires] { writer.int64(number) }
      price.encode(into: &writer)
      early.encode(into: &writer)
    }

    init(from reader: inout ByteReader) throws(DecodingError) {
      isOpen = try Bool(from: &reader)
      category = try reader.int64()
      opens = try reader.int64()
      expires = try reader.int64()
      price = try Int64?(from: &reader)
      early = try [Int64](from: &reader)
      guard early.count % 2 == 0 else { throw DecodingError("a time without a price", at: reader.position) }
    }

    mutating func bid(_ bidPrice: Int64, at time: Int64) {
      guard isOpen else { return early += [time, bidPrice] }
      guard time >= opens, time <= expires, bidPrice > price ?? .min else { return }
      price = bidPrice
    }

    mutating func open(_ auction: EncodedAuction) {
      isOpen = true
      category = auction.category
      opens = auction.dateTime.milliseconds
      expires = auction.expires.milliseconds
      for index in stride(from: 0, to: early.count, by: 2) { bid(early[index + 1], at: early[index]) }
      early = []
    }
  }

  struct Value: Equatable, ExchangeValue {
    /// It owns what it holds.
    static var needsKeeping: Bool { false }
    let category: Int64
    let price: Int64
  }

  func add(_ event: EncodedEvent, at time: Timestamp, to state: inout State?) {
    if state == nil { state = State() }
    switch event {
    case .auction(let auction): state?.open(auction)
    case .bid(let bid): state?.bid(bid.price, at: bid.dateTime.milliseconds)
    case .person: break
    }
  }

  func value(of state: State) -> Value? { state.price.map { Value(category: state.category, price: $0) } }
}

/// An auction with the bid with the highest price while it was open: of equal ones the earliest, and of those the first
/// to come.
struct WinningBid: TableFold {
  typealias Value = Joined<KeptEvent<EncodedAuction>, KeptEvent<EncodedBid>>

  struct State: StateCodable {
    var auction: KeptEvent<EncodedAuction>?
    var winner: KeptEvent<EncodedBid>?
    /// Bids before the auction.
    var early: [KeptEvent<EncodedBid>] = []

    init() {}

    static var stateEncoding: String { "winning-bid/1" }

    func encode(into writer: inout ByteWriter) {
      auction.encode(into: &writer)
      winner.encode(into: &writer)
      early.encode(into: &writer)
    }

    init(from reader: inout ByteReader) throws(DecodingError) {
      auction = try KeptEvent<EncodedAuction>?(from: &reader)
      winner = try KeptEvent<EncodedBid>?(from: &reader)
      early = try [KeptEvent<EncodedBid>](from: &reader)
    }

    mutating func bid(_ bid: EncodedBid) {
      guard let auction else { return early.append(KeptEvent(bid)) }
      let time = bid.dateTime
      guard auction.with({ time >= $0.dateTime && time <= $0.expires }) else { return }
      let wins = winner.map { kept in
        kept.with { bid.price > $0.price || bid.price == $0.price && time < $0.dateTime }
      }
      if wins ?? true { winner = KeptEvent(bid) }
    }

    mutating func open(_ auction: EncodedAuction) {
      self.auction = KeptEvent(auction)
      let before = early
      early = []
      for kept in before { kept.with { bid($0) } }
    }
  }

  func add(_ event: EncodedEvent, at time: Timestamp, to state: inout State?) {
    if state == nil { state = State() }
    switch event {
    case .auction(let auction): state?.open(auction)
    case .bid(let bid): state?.bid(bid)
    case .person: break
    }
  }

  func value(of state: State) -> Value? {
    guard let auction = state.auction, let winner = state.winner else { return nil }
    return Joined(auction, winner)
  }
}
