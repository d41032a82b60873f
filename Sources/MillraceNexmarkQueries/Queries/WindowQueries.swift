// WindowQueries: q5, q7, q8 and q11.

import MillraceBase
import MillraceDataflow
import MillraceNexmark
import MillraceStreams

extension NexmarkQuery {
  static let q5 = NexmarkQuery(
    "q5", "the auctions with the most bids in each window of 10 s, one of which begins every 2 s", "auction num"
  ) { events in
    events.bids
      .keyBy { NumberKey($0.auction) }
      .window(.hopping(.seconds(10), every: .seconds(2)))
      .count(name: "bids")
      // The results of a window have the time of its end: of each, these windows hold all.
      .keyBy { _ in NumberKey(0) }
      .window(.tumbling(.seconds(2)))
      .aggregate(HottestAuctions(), name: "most")
      .flatMap { window, emit in
        for auction in window.value.auctions { emit(Row(auction, window.value.bids)) }
      }
      .to(topic: results)
  }

  static let q7 = NexmarkQuery(
    "q7", "bids with the highest price of a window of 10 s", "auction bidder price date_time extra"
  ) { events in
    events.bids
      .flatMap { (bid: EncodedBid, emit: (Contender) -> Void) in
        emit(Contender(bid: bid, time: bid.dateTime, isAtEnd: false))
        let ends = bid.dateTime.milliseconds % 10_000 == 0
        if ends {
          emit(Contender(bid: bid, time: Timestamp(milliseconds: bid.dateTime.milliseconds - 1), isAtEnd: true))
        }
      }
      .eventTime(.boundedOutOfOrderness(.milliseconds(1)), name: "contenders") { $0.time }
      .keyBy { _ in NumberKey(0) }
      .window(.tumbling(.seconds(10)))
      .aggregate(HighestBids(), name: "highest")
      .flatMap { window, emit in
        for kept in window.value.winners {
          kept.with { emit(Row($0.auction, $0.bidder, $0.price, $0.dateTime, $0.extra)) }
        }
      }
      .to(topic: results)
  }

  static let q8 = NexmarkQuery(
    "q8", "persons who opened an auction in the window of 10 s in which they registered", "id name stime"
  ) { events in
    events.events
      .flatMap { (event: EncodedEvent, emit: (Sighting) -> Void) in
        switch event {
        case .person(let person): emit(Sighting(person: person.id, name: person.name))
        case .auction(let auction): emit(Sighting(person: auction.seller, name: nil))
        case .bid: break
        }
      }
      .keyBy { NumberKey($0.person) }
      .window(.tumbling(.seconds(10)))
      .aggregate(NewSeller(), name: "sellers")
      .flatMap { seller, emit in
        guard let name = seller.value.name, seller.value.hasSold else { return }
        emit(Row(seller.key.number, name, seller.window.start))
      }
      .to(topic: results)
  }

  static let q11 = NexmarkQuery(
    "q11", "bids of each session of a bidder", "bidder bid_count starttime endtime"
  ) { events in
    events.bids
      .keyBy { NumberKey($0.bidder) }
      .sessions(gap: .seconds(10))
      .count(name: "sessions")
      .map { Row($0.key.number, $0.value, $0.window.start, $0.window.end) }
      .to(topic: results)
  }
}

/// The auctions with the most bids of a window.
struct HottestAuctions: WideAggregation {
  struct State: StateCodable {
    var bids: Int64 = 0
    var auctions: [Int64] = []

    init() {}

    static var stateEncoding: String { "hottest-auctions/1" }

    func encode(into writer: inout ByteWriter) {
      bids.encode(into: &writer)
      auctions.encode(into: &writer)
    }

    init(from reader: inout ByteReader) throws(DecodingError) {
      bids = try Int64(from: &reader)
      auctions = try [Int64](from: &reader)
    }
  }

  var initial: State { State() }

  func add(_ input: Windowed<NumberKey, Int64>, to state: inout State) {
    guard input.value >= state.bids else { return }
    if input.value > state.bids {
      state.bids = input.value
      state.auctions.removeAll(keepingCapacity: true)
    }
    state.auctions.append(input.key.number)
  }

  var isCommutative: Bool { true }

  func merge(_ other: State, into state: inout State) {
    if other.bids > state.bids { state = other } else if other.bids == state.bids { state.auctions += other.auctions }
  }
}

/// A bid in a window, or at the very end of one.
struct Contender: ExchangeValue {
  /// Its bid lies in the step's input.
  static var needsKeeping: Bool { false }
  let bid: EncodedBid
  let time: Timestamp
  let isAtEnd: Bool
}

/// The bids with the highest price of a window, and those at its end with no lower one.
struct HighestBids: WideAggregation {
  struct State: StateCodable {
    var price = Int64.min
    var within: [KeptEvent<EncodedBid>] = []
    var atEnd: [KeptEvent<EncodedBid>] = []

    var winners: [KeptEvent<EncodedBid>] { within + (within.isEmpty ? [] : atEnd.filter { $0.with(\.price) == price }) }

    init() {}

    static var stateEncoding: String { "highest-bids/1" }

    func encode(into writer: inout ByteWriter) {
      price.encode(into: &writer)
      within.encode(into: &writer)
      atEnd.encode(into: &writer)
    }

    init(from reader: inout ByteReader) throws(DecodingError) {
      price = try Int64(from: &reader)
      within = try [KeptEvent<EncodedBid>](from: &reader)
      atEnd = try [KeptEvent<EncodedBid>](from: &reader)
    }
  }

  var initial: State { State() }

  func add(_ input: Contender, to state: inout State) {
    guard input.bid.price >= state.price else { return }
    if input.isAtEnd { return state.atEnd.append(KeptEvent(input.bid)) }
    if input.bid.price > state.price {
      state.price = input.bid.price
      state.within = []
    }
    state.within.append(KeptEvent(input.bid))
  }

  var isCommutative: Bool { true }

  func merge(_ other: State, into state: inout State) {
    if other.price > state.price {
      state.price = other.price
      state.within = []
    }
    if other.price == state.price { state.within += other.within }
    state.atEnd += other.atEnd
  }
}

/// Somebody who registers, or who opens an auction.
struct Sighting: ExchangeValue {
  /// The name lies in the step's input.
  static var needsKeeping: Bool { false }
  let person: Int64
  let name: BorrowedBytes?
}

/// What is known of a person in a window.
struct NewSeller: WideAggregation {
  struct State: StateCodable {
    var name: String?
    var hasSold = false

    init() {}

    static var stateEncoding: String { "new-seller/1" }

    func encode(into writer: inout ByteWriter) {
      name.encode(into: &writer)
      hasSold.encode(into: &writer)
    }

    init(from reader: inout ByteReader) throws(DecodingError) {
      name = try String?(from: &reader)
      hasSold = try Bool(from: &reader)
    }
  }

  var initial: State { State() }

  func add(_ input: Sighting, to state: inout State) {
    if let name = input.name { state.name = name.text } else { state.hasSold = true }
  }

  var isCommutative: Bool { true }

  func merge(_ other: State, into state: inout State) {
    state.name = state.name ?? other.name
    state.hasSold = state.hasSold || other.hasSold
  }
}
