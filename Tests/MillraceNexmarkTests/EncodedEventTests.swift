// EncodedEventTests: what is written can be read, as it was; what was not written so is refused.

import Foundation
import MillraceBase
import MillraceNexmark
import Testing

/// Events whose texts generated ones never have.
private let odd: [NexmarkEvent] = [
  .person(
    Person(
      id: .min, name: "", emailAddress: "\"\\\n\u{1}\u{7f}", creditCard: "Mühle ☃ 𝄞", city: "/", state: "a\tb",
      dateTime: Timestamp(milliseconds: -1), extra: String(repeating: "é", count: 30_000))),
  .auction(
    Auction(
      id: .max, itemName: "\\", description: "", initialBid: -1, reserve: 0, dateTime: Timestamp(milliseconds: .max),
      expires: Timestamp(milliseconds: .min), seller: 7, category: -10, extra: String(repeating: "x", count: 65_535))),
  .bid(
    Bid(
      auction: 1, bidder: -9_999_999_999_999_999, price: 10, channel: "\u{0}", url: "",
      dateTime: Timestamp(milliseconds: 0),
      extra: "")),
]

@Test("an event that is encoded and decoded is the same, and so are its bytes")
func roundTrip() throws {
  let generator = NexmarkGenerator()
  for number in Int64(0)..<2000 {
    let bytes = encoded(number)
    let event = try decoded(bytes)
    #expect(event == generator.event(number))
    #expect(event.encoded == bytes)
    #expect(event.dateTime == generator.time(of: number))
  }
  for event in odd { #expect(try decoded(event.encoded) == event) }
}

@Test("what is cut, longer, of another version or of another kind is refused")
func refusals() {
  for number in [0, 1, 4] as [Int64] {
    let bytes = encoded(number).array
    for length in 0..<bytes.count {
      #expect(throws: DecodingError.self) { try decoded(Bytes(Array(bytes[..<length]))) }
    }
    #expect(throws: DecodingError.self) { try decoded(Bytes(bytes + [0])) }
    for tag in UInt8.min...UInt8.max where tag >> 4 != 1 || tag & 15 > 2 {
      #expect(throws: DecodingError.self) { try decoded(Bytes([tag] + bytes.dropFirst())) }
    }
  }
}

@Test("a text that is not UTF-8 is refused as a string, and mended in a line")
func notUTF8() throws {
  var bytes = encoded(4).array
  bytes[bytes.count - 1] = 0xff
  #expect(throws: DecodingError.self) { try decoded(Bytes(bytes)) }
  #expect(String(decoding: try line(Bytes(bytes)), as: UTF8.self).hasSuffix("\u{fffd}\"}}\n"))
}

@Test("lines of texts that need it are escaped, and read back as they were")
func escapedLines() throws {
  for event in odd {
    let text = try line(event.encoded)
    #expect(text.last == UInt8(ascii: "\n") && !text.dropLast().contains(UInt8(ascii: "\n")))
    let object = try #require(try JSONSerialization.jsonObject(with: Data(text)) as? [String: [String: Any]])
    switch event {
    case .person(let person):
      let fields = try #require(object["Person"])
      #expect(fields["email_address"] as? String == person.emailAddress)
      #expect(fields["credit_card"] as? String == person.creditCard)
      #expect(fields["extra"] as? String == person.extra)
      #expect((fields["id"] as? NSNumber)?.int64Value == person.id)
      #expect((fields["date_time"] as? NSNumber)?.int64Value == -1)
    case .auction(let auction):
      let fields = try #require(object["Auction"])
      #expect(fields["item_name"] as? String == "\\")
      #expect((fields["expires"] as? NSNumber)?.int64Value == .min)
      #expect((fields["id"] as? NSNumber)?.int64Value == auction.id)
    case .bid(let bid):
      let fields = try #require(object["Bid"])
      #expect(fields["channel"] as? String == "\u{0}")
      #expect((fields["bidder"] as? NSNumber)?.int64Value == bid.bidder)
    }
  }
}
