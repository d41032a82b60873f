// EncodedEvent: the binary encoding of an event with all its fields, read in place.
//
// Version 1. Numbers are big endian; times are milliseconds since the epoch; texts are UTF-8.
//
//   byte  field                                              type
//   0     version × 16 + kind (0 person, 1 auction, 2 bid)   uint8
//   1     date_time                                          int64
//
//   person                          auction                         bid
//   9   id                 int64    9   id                 int64    9   auction          int64
//   17  length of name     uint16   17  initial_bid        int64    17  bidder           int64
//   19    email_address    uint16   25  reserve            int64    25  price            int64
//   21    credit_card      uint16   33  expires            int64    33  length of channel uint16
//   23    city             uint16   41  seller             int64    35    url            uint16
//   25    state            uint16   49  category           int64    37    extra          uint16
//   27    extra            uint16   57  length of item_name uint16  39  the texts
//   29  the texts                   59    description      uint16
//                                   61    extra            uint16
//                                   63  the texts
//
// The texts follow one another in the order of their lengths, with nothing between them and nothing behind the last.
// A reader takes no other version, no other kind, and no length that does not fit exactly. Any number is a valid one. That texts
// are UTF-8 is checked where they become `String`s.

import MillraceBase
import MillraceDataflow

/// Fixed parts of the encoding.
@usableFromInline
enum EventLayout {
  @usableFromInline static let version: UInt8 = 1
  @usableFromInline static let person: UInt8 = version << 4
  @usableFromInline static let auction: UInt8 = version << 4 | 1
  @usableFromInline static let bid: UInt8 = version << 4 | 2
  @usableFromInline static let personHead = 29
  @usableFromInline static let auctionHead = 63
  @usableFromInline static let bidHead = 39
}

extension UnsafeRawBufferPointer {
  /// The number at a place that was checked to be there.
  @inlinable @inline(__always)
  func number(at position: Int) -> Int64 { Int64(bigEndian: loadUnaligned(fromByteOffset: position, as: Int64.self)) }

  /// The length at a place that was checked to be there.
  @inlinable @inline(__always)
  func length(at position: Int) -> Int {
    Int(UInt16(bigEndian: loadUnaligned(fromByteOffset: position, as: UInt16.self)))
  }

  /// The text whose length is the `index`th of those from `first` on; texts begin at `head`.
  @inlinable @inline(__always)
  func text(_ index: Int, lengthsAt first: Int, head: Int) -> BorrowedBytes {
    var start = head
    for before in 0..<index { start &+= length(at: first &+ 2 &* before) }
    return BorrowedBytes(
      UnsafeRawBufferPointer(rebasing: self[start..<(start &+ length(at: first &+ 2 &* index))]))
  }

  /// Checks that the head is whole and the texts fill the rest.
  @inlinable @inline(__always)
  func check(head: Int, lengthsAt first: Int) throws(DecodingError) {
    guard count >= head else { throw DecodingError("the head needs \(head) bytes, \(count) are there", at: count) }
    var end = head
    var at = first
    while at < head {
      end &+= length(at: at)
      at &+= 2
    }
    guard end == count else { throw DecodingError("texts end at \(end) of \(count) bytes", at: head) }
  }
}

/// A person, read in place. Valid only as long as the memory it was made of.
public struct EncodedPerson {
  @usableFromInline let buffer: UnsafeRawBufferPointer

  @inlinable
  init(checking buffer: UnsafeRawBufferPointer) throws(DecodingError) {
    try buffer.check(head: EventLayout.personHead, lengthsAt: 17)
    self.buffer = buffer
  }

  @inlinable
  func text(_ index: Int) -> BorrowedBytes { buffer.text(index, lengthsAt: 17, head: EventLayout.personHead) }

  /// When it happened.
  @inlinable public var dateTime: Timestamp { Timestamp(milliseconds: buffer.number(at: 1)) }
  /// See ``Person/id``.
  @inlinable public var id: Int64 { buffer.number(at: 9) }
  /// See ``Person/name``.
  @inlinable public var name: BorrowedBytes { text(0) }
  /// See ``Person/emailAddress``.
  @inlinable public var emailAddress: BorrowedBytes { text(1) }
  /// See ``Person/creditCard``.
  @inlinable public var creditCard: BorrowedBytes { text(2) }
  /// See ``Person/city``.
  @inlinable public var city: BorrowedBytes { text(3) }
  /// See ``Person/state``.
  @inlinable public var state: BorrowedBytes { text(4) }
  /// See ``Person/extra``.
  @inlinable public var extra: BorrowedBytes { text(5) }
}

/// An auction, read in place. Valid only as long as the memory it was made of.
public struct EncodedAuction {
  @usableFromInline let buffer: UnsafeRawBufferPointer

  @inlinable
  init(checking buffer: UnsafeRawBufferPointer) throws(DecodingError) {
    try buffer.check(head: EventLayout.auctionHead, lengthsAt: 57)
    self.buffer = buffer
  }

  @inlinable
  func text(_ index: Int) -> BorrowedBytes { buffer.text(index, lengthsAt: 57, head: EventLayout.auctionHead) }

  /// When it opened.
  @inlinable public var dateTime: Timestamp { Timestamp(milliseconds: buffer.number(at: 1)) }
  /// See ``Auction/id``.
  @inlinable public var id: Int64 { buffer.number(at: 9) }
  /// See ``Auction/initialBid``.
  @inlinable public var initialBid: Int64 { buffer.number(at: 17) }
  /// See ``Auction/reserve``.
  @inlinable public var reserve: Int64 { buffer.number(at: 25) }
  /// See ``Auction/expires``.
  @inlinable public var expires: Timestamp { Timestamp(milliseconds: buffer.number(at: 33)) }
  /// See ``Auction/seller``.
  @inlinable public var seller: Int64 { buffer.number(at: 41) }
  /// See ``Auction/category``.
  @inlinable public var category: Int64 { buffer.number(at: 49) }
  /// See ``Auction/itemName``.
  @inlinable public var itemName: BorrowedBytes { text(0) }
  /// See ``Auction/description``.
  @inlinable public var description: BorrowedBytes { text(1) }
  /// See ``Auction/extra``.
  @inlinable public var extra: BorrowedBytes { text(2) }
}

/// A bid, read in place. Valid only as long as the memory it was made of.
public struct EncodedBid {
  @usableFromInline let buffer: UnsafeRawBufferPointer

  @inlinable
  init(checking buffer: UnsafeRawBufferPointer) throws(DecodingError) {
    try buffer.check(head: EventLayout.bidHead, lengthsAt: 33)
    self.buffer = buffer
  }

  @inlinable
  func text(_ index: Int) -> BorrowedBytes { buffer.text(index, lengthsAt: 33, head: EventLayout.bidHead) }

  /// When it happened.
  @inlinable public var dateTime: Timestamp { Timestamp(milliseconds: buffer.number(at: 1)) }
  /// See ``Bid/auction``.
  @inlinable public var auction: Int64 { buffer.number(at: 9) }
  /// See ``Bid/bidder``.
  @inlinable public var bidder: Int64 { buffer.number(at: 17) }
  /// See ``Bid/price``.
  @inlinable public var price: Int64 { buffer.number(at: 25) }
  /// See ``Bid/channel``.
  @inlinable public var channel: BorrowedBytes { text(0) }
  /// See ``Bid/url``.
  @inlinable public var url: BorrowedBytes { text(1) }
  /// See ``Bid/extra``.
  @inlinable public var extra: BorrowedBytes { text(2) }
}

/// An event, read in place: nothing is copied, and a text is looked for when it is asked for. Valid only as long as the
/// memory it was made of.
public enum EncodedEvent {
  /// Somebody registers.
  case person(EncodedPerson)
  /// An auction opens.
  case auction(EncodedAuction)
  /// Somebody bids.
  case bid(EncodedBid)

  /// The event that `buffer` holds, and nothing else.
  /// - Throws: when it holds another version or kind, or more or fewer bytes than its lengths say.
  /// - Complexity: O(1).
  @inlinable
  public init(_ buffer: UnsafeRawBufferPointer) throws(DecodingError) {
    guard let tag = buffer.first else { throw DecodingError("no event in 0 bytes", at: 0) }
    switch tag {
    case EventLayout.bid: self = .bid(try EncodedBid(checking: buffer))
    case EventLayout.auction: self = .auction(try EncodedAuction(checking: buffer))
    case EventLayout.person: self = .person(try EncodedPerson(checking: buffer))
    default: throw DecodingError("version \(tag >> 4) and kind \(tag & 15) of an event are unknown", at: 0)
    }
  }

  /// When it happened.
  @inlinable
  public var dateTime: Timestamp {
    switch self {
    case .person(let person): person.dateTime
    case .auction(let auction): auction.dateTime
    case .bid(let bid): bid.dateTime
    }
  }
}
