// EventLinesSource: events from lines of JSON, as the input of a job.

import MillraceBase
import MillraceDataflow
import MillraceModel
import MillraceNexmark
import MillraceStreams

/// Gives the events that another source has as lines of JSON, as `millrace nexmark generate` writes them, encoded as
/// ``NexmarkSource`` gives them. Positions are the other source's.
public final class EventLinesSource: ReplayableSource {
  private let lines: any ReplayableSource
  private let persons: RecordDecoder<PersonLine>
  private let auctions: RecordDecoder<AuctionLine>
  private let bids: RecordDecoder<BidLine>
  private let encoder = EventEncoder()

  /// Of the values of the records of `lines`.
  /// - Throws: what decoders throw when they are made.
  public init(_ lines: any ReplayableSource) throws(JobError) {
    self.lines = lines
    persons = try RecordDecoder(.json)
    auctions = try RecordDecoder(.json)
    bids = try RecordDecoder(.json)
  }

  /// Goes to a position of the other source.
  public func restore(_ position: Bytes?) throws(JobError) { try lines.restore(position) }

  /// The next events.
  /// - Throws: `.corruptInput` when a line holds no event, with the line.
  public func next(maxBytes: Int) throws(JobError) -> SourceBatch {
    let found = try lines.next(maxBytes: maxBytes)
    guard let batch = found.batch else { return found }
    var builder = RecordBatchBuilder()
    var failure: (error: DecodingError, line: String)?
    do throws(RecordBatchError) {
      let count = Int(try RecordBatchHeader(batch).recordCount)
      try batch.withBuffer { buffer throws(RecordBatchError) in
        let records = UnsafeRawBufferPointer(rebasing: buffer[RecordBatchHeader.size...])
        try RecordReader.forEach(in: records, count: count) { record in
          do throws(DecodingError) {
            let (event, time) = try encoded(record.value)
            builder.append(key: nil, value: event, timestamp: time)
          } catch {
            failure = failure ?? (error, String(decoding: record.value, as: UTF8.self))
          }
        }
      }
    } catch {
      throw JobError(.corruptInput, "lines of events: \(error)")
    }
    if let failure { throw JobError(.corruptInput, "this line is no event: \(failure.line): \(failure.error)") }
    return SourceBatch(batch: builder.finish(), position: found.position, isFinished: found.isFinished)
  }

  /// A line's event, lent until the next call, and its time.
  private func encoded(
    _ line: UnsafeRawBufferPointer
  ) throws(DecodingError) -> (event: UnsafeRawBufferPointer, time: Timestamp) {
    if let bid = try fields(of: "Bid", in: line, bids) {
      return (
        try encoder.bid(
          auction: bid.auction, bidder: bid.bidder, price: bid.price, channel: bid.channel, url: bid.url,
          dateTime: bid.dateTime, extra: bid.extra), bid.dateTime
      )
    }
    if let auction = try fields(of: "Auction", in: line, auctions) {
      return (
        try encoder.auction(
          id: auction.id, itemName: auction.itemName, description: auction.description, initialBid: auction.initialBid,
          reserve: auction.reserve, dateTime: auction.dateTime, expires: auction.expires, seller: auction.seller,
          category: auction.category, extra: auction.extra), auction.dateTime
      )
    }
    if let person = try fields(of: "Person", in: line, persons) {
      return (
        try encoder.person(
          id: person.id, name: person.name, emailAddress: person.emailAddress, creditCard: person.creditCard,
          city: person.city, state: person.state, dateTime: person.dateTime, extra: person.extra), person.dateTime
      )
    }
    throw DecodingError("it begins with no kind of event", at: 0)
  }

  /// The fields of an event; nil when the line is of another kind than `kind`.
  private func fields<Fields: TypedRecord>(
    of kind: StaticString, in line: UnsafeRawBufferPointer, _ decoder: RecordDecoder<Fields>
  ) throws(DecodingError) -> Fields? {
    // {"KIND":FIELDS}
    let size = kind.utf8CodeUnitCount
    guard line.count > size + 5, line[0] == UInt8(ascii: "{"), line[1] == UInt8(ascii: "\""),
      UnsafeRawBufferPointer(rebasing: line[2..<(2 + size)]).elementsEqual(
        UnsafeBufferPointer(start: kind.utf8Start, count: size)),
      line[2 + size] == UInt8(ascii: "\""), line[3 + size] == UInt8(ascii: ":"),
      line[line.count - 1] == UInt8(ascii: "}")
    else { return nil }
    return try decoder.decode(UnsafeRawBufferPointer(rebasing: line[(4 + size)..<(line.count - 1)]))
  }
}

/// The fields of a person.
private struct PersonLine: TypedRecord {
  var id: Int64 = 0
  var name = BorrowedBytes()
  var emailAddress = BorrowedBytes()
  var creditCard = BorrowedBytes()
  var city = BorrowedBytes()
  var state = BorrowedBytes()
  var dateTime = Timestamp.none
  var extra = BorrowedBytes()

  static let schema = RecordSchema<PersonLine>(
    .field("id", \.id), .field("name", \.name), .field("email_address", \.emailAddress),
    .field("credit_card", \.creditCard), .field("city", \.city), .field("state", \.state),
    .field("date_time", \.dateTime), .field("extra", \.extra))
}

/// The fields of an auction.
private struct AuctionLine: TypedRecord {
  var id: Int64 = 0
  var itemName = BorrowedBytes()
  var description = BorrowedBytes()
  var initialBid: Int64 = 0
  var reserve: Int64 = 0
  var dateTime = Timestamp.none
  var expires = Timestamp.none
  var seller: Int64 = 0
  var category: Int64 = 0
  var extra = BorrowedBytes()

  static let schema = RecordSchema<AuctionLine>(
    .field("id", \.id), .field("item_name", \.itemName), .field("description", \.description),
    .field("initial_bid", \.initialBid), .field("reserve", \.reserve), .field("date_time", \.dateTime),
    .field("expires", \.expires), .field("seller", \.seller), .field("category", \.category), .field("extra", \.extra))
}

/// The fields of a bid.
private struct BidLine: TypedRecord {
  var auction: Int64 = 0
  var bidder: Int64 = 0
  var price: Int64 = 0
  var channel = BorrowedBytes()
  var url = BorrowedBytes()
  var dateTime = Timestamp.none
  var extra = BorrowedBytes()

  static let schema = RecordSchema<BidLine>(
    .field("auction", \.auction), .field("bidder", \.bidder), .field("price", \.price), .field("channel", \.channel),
    .field("url", \.url), .field("date_time", \.dateTime), .field("extra", \.extra))
}
