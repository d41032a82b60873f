// NexmarkEvent: what happens at the auction site of the Nexmark benchmark, as plain values.

import MillraceBase

/// Somebody who registers, to sell or to bid.
public struct Person: Equatable, Sendable {
  /// 1000 and up, in the order of registration.
  public var id: Int64
  /// First and last name.
  public var name: String
  /// Address for mail.
  public var emailAddress: String
  /// Four groups of four digits.
  public var creditCard: String
  /// One of ten cities.
  public var city: String
  /// Two letters; drawn by itself, so that it need not be the city's.
  public var state: String
  /// When it happened.
  public var dateTime: Timestamp
  /// Letters that bring the event to its size.
  public var extra: String

  /// A person.
  public init(
    id: Int64, name: String, emailAddress: String, creditCard: String, city: String, state: String,
    dateTime: Timestamp, extra: String
  ) {
    self.id = id
    self.name = name
    self.emailAddress = emailAddress
    self.creditCard = creditCard
    self.city = city
    self.state = state
    self.dateTime = dateTime
    self.extra = extra
  }
}

/// Something that is for sale until a moment.
public struct Auction: Equatable, Sendable {
  /// 1000 and up, in the order of opening.
  public var id: Int64
  /// 20 letters.
  public var itemName: String
  /// 100 letters.
  public var description: String
  /// Price that bids begin at, in cents.
  public var initialBid: Int64
  /// Price that the seller wants at least, in cents.
  public var reserve: Int64
  /// When it opened.
  public var dateTime: Timestamp
  /// Last moment at which a bid counts.
  public var expires: Timestamp
  /// The ``Person/id`` of the seller, who may register only later.
  public var seller: Int64
  /// 10 to 14.
  public var category: Int64
  /// Letters that bring the event to its size.
  public var extra: String

  /// An auction.
  public init(
    id: Int64, itemName: String, description: String, initialBid: Int64, reserve: Int64, dateTime: Timestamp,
    expires: Timestamp, seller: Int64, category: Int64, extra: String
  ) {
    self.id = id
    self.itemName = itemName
    self.description = description
    self.initialBid = initialBid
    self.reserve = reserve
    self.dateTime = dateTime
    self.expires = expires
    self.seller = seller
    self.category = category
    self.extra = extra
  }
}

/// An offer for an auction.
public struct Bid: Equatable, Sendable {
  /// The ``Auction/id``, of an auction that may open only later.
  public var auction: Int64
  /// The ``Person/id`` of who bids, and may register only later.
  public var bidder: Int64
  /// In cents.
  public var price: Int64
  /// Where the bidder came from.
  public var channel: String
  /// The page that the bidder came from.
  public var url: String
  /// When it happened.
  public var dateTime: Timestamp
  /// Letters that bring the event to its size.
  public var extra: String

  /// A bid.
  public init(
    auction: Int64, bidder: Int64, price: Int64, channel: String, url: String, dateTime: Timestamp, extra: String
  ) {
    self.auction = auction
    self.bidder = bidder
    self.price = price
    self.channel = channel
    self.url = url
    self.dateTime = dateTime
    self.extra = extra
  }
}

/// An event of the benchmark. Where many of them pass, ``EncodedEvent`` reads one in place instead.
public enum NexmarkEvent: Equatable, Sendable {
  /// Somebody registers.
  case person(Person)
  /// An auction opens.
  case auction(Auction)
  /// Somebody bids.
  case bid(Bid)

  /// When it happened.
  public var dateTime: Timestamp {
    switch self {
    case .person(let person): person.dateTime
    case .auction(let auction): auction.dateTime
    case .bid(let bid): bid.dateTime
    }
  }
}
