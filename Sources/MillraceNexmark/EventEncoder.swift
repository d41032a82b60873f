// EventEncoder: encodes events whose fields are read in place somewhere else.

import MillraceBase
import MillraceDataflow

/// Lays events out as ``EncodedEvent`` reads them, in memory of its own. One owner.
public final class EventEncoder {
  private static let headSize = 64
  private let room: UnsafeMutableRawBufferPointer
  private let textLimit: Int

  /// An encoder of events whose texts have at most `textLimit` bytes together.
  public init(textLimit: Int = Int(UInt16.max)) {
    precondition(0...Int(UInt16.max) ~= textLimit, "a limit of \(textLimit) bytes")
    self.textLimit = textLimit
    room = .allocate(byteCount: EventEncoder.headSize + textLimit, alignment: 16)
  }

  deinit { room.deallocate() }

  /// The encoding of a person; lent until the next call.
  /// - Throws: when the texts are longer than the limit.
  /// - Complexity: O(bytes).
  public func person(
    id: Int64, name: BorrowedBytes, emailAddress: BorrowedBytes, creditCard: BorrowedBytes, city: BorrowedBytes,
    state: BorrowedBytes, dateTime: Timestamp, extra: BorrowedBytes
  ) throws(DecodingError) -> UnsafeRawBufferPointer {
    try check(name.count + emailAddress.count + creditCard.count + city.count + state.count + extra.count)
    var writer = begin(EventLayout.person, dateTime)
    writer.number(id)
    let texts = [name, emailAddress, creditCard, city, state, extra]
    for text in texts { writer.number(UInt16(text.count)) }
    for text in texts { writer.copy(text.buffer) }
    return end(writer)
  }

  /// The encoding of an auction; lent until the next call.
  /// - Throws: when the texts are longer than the limit.
  /// - Complexity: O(bytes).
  public func auction(
    id: Int64, itemName: BorrowedBytes, description: BorrowedBytes, initialBid: Int64, reserve: Int64,
    dateTime: Timestamp, expires: Timestamp, seller: Int64, category: Int64, extra: BorrowedBytes
  ) throws(DecodingError) -> UnsafeRawBufferPointer {
    try check(itemName.count + description.count + extra.count)
    var writer = begin(EventLayout.auction, dateTime)
    writer.number(id)
    writer.number(initialBid)
    writer.number(reserve)
    writer.number(expires.milliseconds)
    writer.number(seller)
    writer.number(category)
    writer.texts(itemName, description, extra)
    return end(writer)
  }

  /// The encoding of a bid; lent until the next call.
  /// - Throws: when the texts are longer than the limit.
  /// - Complexity: O(bytes).
  public func bid(
    auction: Int64, bidder: Int64, price: Int64, channel: BorrowedBytes, url: BorrowedBytes, dateTime: Timestamp,
    extra: BorrowedBytes
  ) throws(DecodingError) -> UnsafeRawBufferPointer {
    try check(channel.count + url.count + extra.count)
    var writer = begin(EventLayout.bid, dateTime)
    writer.number(auction)
    writer.number(bidder)
    writer.number(price)
    writer.texts(channel, url, extra)
    return end(writer)
  }

  private func check(_ size: Int) throws(DecodingError) {
    guard size <= textLimit else {
      throw DecodingError("an event's texts have \(size) bytes, more than \(textLimit)", at: 0)
    }
  }

  private func begin(_ kind: UInt8, _ time: Timestamp) -> EventWriter {
    var writer = EventWriter(room.baseAddress!)
    writer.byte(kind)
    writer.number(time.milliseconds)
    return writer
  }

  private func end(_ writer: EventWriter) -> UnsafeRawBufferPointer {
    UnsafeRawBufferPointer(start: room.baseAddress, count: writer.at - room.baseAddress!)
  }
}

extension EventWriter {
  /// Lengths, then texts.
  @inline(__always)
  fileprivate mutating func texts(_ first: BorrowedBytes, _ second: BorrowedBytes, _ third: BorrowedBytes) {
    number(UInt16(first.count))
    number(UInt16(second.count))
    number(UInt16(third.count))
    copy(first.buffer)
    copy(second.buffer)
    copy(third.buffer)
  }
}
