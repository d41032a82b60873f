// EncodedEvent+JSON: events as JSON lines: {"Bid":{"auction":1000,…}}, without spaces, fields in the order of the benchmark.

import MillraceBase
import MillraceDataflow

extension EncodedEvent {
  /// Most bytes of a line beside its texts, numbers of 20 digits included.
  private static let frameSize = 512
  /// Most bytes that a byte of text becomes: `\u00XX`.
  private static let escapeSize = 6

  /// Adds the event as a line of JSON, with its line feed. Texts that are not valid UTF-8 are mended with U+FFFD.
  public func writeJSONLine(into writer: inout ByteWriter) {
    writer.fill(atMost: EncodedEvent.frameSize + EncodedEvent.escapeSize * size) { room in
      var line = EventWriter(room)
      switch self {
      case .person(let person): person.write(&line)
      case .auction(let auction): auction.write(&line)
      case .bid(let bid): bid.write(&line)
      }
      line.text("}}\n")
      return line.at - room
    }
  }

  private var size: Int {
    switch self {
    case .person(let person): person.buffer.count
    case .auction(let auction): auction.buffer.count
    case .bid(let bid): bid.buffer.count
    }
  }
}

extension EncodedPerson {
  fileprivate func write(_ line: inout EventWriter) {
    line.member("{\"Person\":{\"id\":", id)
    line.member(",\"name\":\"", name)
    line.member("\",\"email_address\":\"", emailAddress)
    line.member("\",\"credit_card\":\"", creditCard)
    line.member("\",\"city\":\"", city)
    line.member("\",\"state\":\"", state)
    line.member("\",\"date_time\":", dateTime.milliseconds)
    line.member(",\"extra\":\"", extra)
    line.text("\"")
  }
}

extension EncodedAuction {
  fileprivate func write(_ line: inout EventWriter) {
    line.member("{\"Auction\":{\"id\":", id)
    line.member(",\"item_name\":\"", itemName)
    line.member("\",\"description\":\"", description)
    line.member("\",\"initial_bid\":", initialBid)
    line.member(",\"reserve\":", reserve)
    line.member(",\"date_time\":", dateTime.milliseconds)
    line.member(",\"expires\":", expires.milliseconds)
    line.member(",\"seller\":", seller)
    line.member(",\"category\":", category)
    line.member(",\"extra\":\"", extra)
    line.text("\"")
  }
}

extension EncodedBid {
  fileprivate func write(_ line: inout EventWriter) {
    line.member("{\"Bid\":{\"auction\":", auction)
    line.member(",\"bidder\":", bidder)
    line.member(",\"price\":", price)
    line.member(",\"channel\":\"", channel)
    line.member("\",\"url\":\"", url)
    line.member("\",\"date_time\":", dateTime.milliseconds)
    line.member(",\"extra\":\"", extra)
    line.text("\"")
  }
}

extension EventWriter {
  /// What stands before a number, and the number.
  @inline(__always)
  fileprivate mutating func member(_ before: StaticString, _ value: Int64) {
    text(before)
    decimal(value)
  }

  /// What stands before a text, and the text without its closing quote.
  @inline(__always)
  fileprivate mutating func member(_ before: StaticString, _ value: BorrowedBytes) {
    text(before)
    if value.buffer.allSatisfy({ $0 >= 32 && $0 < 127 && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\") }) {
      copy(value.buffer)
    } else {
      escape(value)
    }
  }

  @inline(never)
  private mutating func escape(_ value: BorrowedBytes) {
    var json = JSONWriter()
    json.string(value.text)
    json.bytes.withUnsafeBytes { copy(UnsafeRawBufferPointer(rebasing: $0[1..<($0.count - 1)])) }
  }
}
