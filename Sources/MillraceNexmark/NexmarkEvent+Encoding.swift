// NexmarkEvent+Encoding: events as values from and into the encoding of EncodedEvent.swift.

import MillraceBase
import MillraceDataflow

extension NexmarkEvent {
  /// A copy of an event that was read in place.
  /// - Throws: when a text is not valid UTF-8.
  public init(_ encoded: EncodedEvent) throws(DecodingError) {
    switch encoded {
    case .person(let person):
      self = .person(
        Person(
          id: person.id, name: try person.name.validText, emailAddress: try person.emailAddress.validText,
          creditCard: try person.creditCard.validText, city: try person.city.validText,
          state: try person.state.validText, dateTime: person.dateTime, extra: try person.extra.validText))
    case .auction(let auction):
      self = .auction(
        Auction(
          id: auction.id, itemName: try auction.itemName.validText, description: try auction.description.validText,
          initialBid: auction.initialBid, reserve: auction.reserve, dateTime: auction.dateTime,
          expires: auction.expires, seller: auction.seller, category: auction.category,
          extra: try auction.extra.validText))
    case .bid(let bid):
      self = .bid(
        Bid(
          auction: bid.auction, bidder: bid.bidder, price: bid.price, channel: try bid.channel.validText,
          url: try bid.url.validText, dateTime: bid.dateTime, extra: try bid.extra.validText))
    }
  }

  /// The event's encoding. Every text must have at most 65,535 bytes.
  public var encoded: Bytes {
    var writer = ByteWriter()
    func texts(_ texts: String...) {
      for text in texts {
        precondition(text.utf8.count <= Int(UInt16.max), "a text of \(text.utf8.count) bytes")
        writer.uint16(UInt16(text.utf8.count))
      }
      for text in texts { writer.utf8(text) }
    }
    switch self {
    case .person(let person):
      writer.uint8(EventLayout.person)
      writer.int64(person.dateTime.milliseconds)
      writer.int64(person.id)
      texts(person.name, person.emailAddress, person.creditCard, person.city, person.state, person.extra)
    case .auction(let auction):
      writer.uint8(EventLayout.auction)
      writer.int64(auction.dateTime.milliseconds)
      writer.int64(auction.id)
      writer.int64(auction.initialBid)
      writer.int64(auction.reserve)
      writer.int64(auction.expires.milliseconds)
      writer.int64(auction.seller)
      writer.int64(auction.category)
      texts(auction.itemName, auction.description, auction.extra)
    case .bid(let bid):
      writer.uint8(EventLayout.bid)
      writer.int64(bid.dateTime.milliseconds)
      writer.int64(bid.auction)
      writer.int64(bid.bidder)
      writer.int64(bid.price)
      texts(bid.channel, bid.url, bid.extra)
    }
    return writer.finishJoined()
  }
}

extension BorrowedBytes {
  fileprivate var validText: String {
    get throws(DecodingError) {
      guard let text = String(validating: buffer, as: UTF8.self) else {
        throw DecodingError("a text of \(count) bytes is not valid UTF-8", at: 0)
      }
      return text
    }
  }
}
