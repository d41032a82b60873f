// SelectionQueries: q0, q1 and q2, which need no state.

import MillraceStreams

extension NexmarkQuery {
  static let q0 = NexmarkQuery("q0", "every bid", "auction bidder price date_time extra") { events in
    events.bids
      .map { Row($0.auction, $0.bidder, $0.price, $0.dateTime, $0.extra) }
      .to(topic: results)
  }

  static let q1 = NexmarkQuery("q1", "every bid, its price times 0.908", "auction bidder price date_time extra") {
    events in
    events.bids
      .map { Row($0.auction, $0.bidder, Thousandths($0.price &* 908), $0.dateTime, $0.extra) }
      .to(topic: results)
  }

  static let q2 = NexmarkQuery("q2", "bids for auctions whose id 123 divides", "auction price") { events in
    events.bids
      .filter { $0.auction % 123 == 0 }
      .map { Row($0.auction, $0.price) }
      .to(topic: results)
  }
}
