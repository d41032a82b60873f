// JoinQueries: q3 and q20, which join whatever comes first.

import MillraceDataflow
import MillraceNexmark
import MillraceStreams

extension NexmarkQuery {
  static let q3 = NexmarkQuery(
    "q3", "auctions of category 10 whose seller lives in or, id or ca", "name city state id"
  ) { events in
    let sellers = events.persons
      .filter { ["or", "id", "ca"].contains($0.state.text) }
      .map { KeptEvent($0) }
      .keyBy { $0.with { NumberKey($0.id) } }
    return events.auctions
      .filter { $0.category == 10 }
      .map { Keyed(key: $0.seller, value: $0.id) }
      .keyBy { NumberKey($0.key) }
      .join(sellers, name: "local")
      .flatMap { pair, emit in
        pair.right.with { emit(Row($0.name, $0.city, $0.state, pair.left.value)) }
      }
      .to(topic: results)
  }

  static let q20 = NexmarkQuery(
    "q20", "bids for auctions of category 10, each with its auction",
    """
    auction bidder price channel url bid_date_time bid_extra item_name description initial_bid reserve \
    auction_date_time expires seller category auction_extra
    """
  ) { events in
    let auctions = events.auctions
      .filter { $0.category == 10 }
      .map { KeptEvent($0) }
      .keyBy { $0.with { NumberKey($0.id) } }
    return events.bids
      .map { KeptEvent($0) }
      .keyBy { $0.with { NumberKey($0.auction) } }
      .join(auctions, name: "auctions")
      .flatMap { pair, emit in
        pair.left.with { bid in
          pair.right.with { auction in
            emit(
              Row(
                bid.auction, bid.bidder, bid.price, bid.channel, bid.url, bid.dateTime, bid.extra, auction.itemName,
                auction.description, auction.initialBid, auction.reserve, auction.dateTime, auction.expires,
                auction.seller, auction.category, auction.extra))
          }
        }
      }
      .to(topic: results)
  }
}
