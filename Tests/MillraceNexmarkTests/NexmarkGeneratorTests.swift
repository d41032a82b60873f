// NexmarkGeneratorTests: the golden events, and what holds of all.

import Foundation
import MillraceBase
import Testing

@testable import MillraceNexmark

private let base = NexmarkGenerator.baseTime.milliseconds

@Test(
  "golden: the first 100 events are those of nexmark-rs, byte for byte",
  arguments: [NexmarkGenerator.Times.exact, .float32])
func goldenEvents(_ times: NexmarkGenerator.Times) throws {
  let generator = NexmarkGenerator(times: times)
  var lines: [UInt8] = []
  for number in Int64(0)..<100 { lines += try line(encoded(number, by: generator)) }
  #expect(lines == (try goldenLines()))
}

/// Fields of a line of the golden file by their names, with the kind.
private func fields(_ line: Data) throws -> (kind: String, fields: [String: Any]) {
  let object = try #require(try JSONSerialization.jsonObject(with: line) as? [String: [String: Any]])
  let (kind, fields) = try #require(object.first)
  return (kind, fields)
}

@Test("golden: events as values have the fields of the lines")
func goldenValues() throws {
  let generator = NexmarkGenerator()
  let lines = try goldenLines().split(separator: UInt8(ascii: "\n"))
  #expect(lines.count == 100)
  for (number, line) in lines.enumerated() {
    let (kind, fields) = try fields(Data(line))
    func number64(_ name: String) -> Int64? { (fields[name] as? NSNumber)?.int64Value }
    func text(_ name: String) -> String? { fields[name] as? String }
    switch generator.event(Int64(number)) {
    case .person(let person):
      #expect(kind == "Person" && fields.count == 8)
      #expect(person.id == number64("id") && person.name == text("name"))
      #expect(person.emailAddress == text("email_address") && person.creditCard == text("credit_card"))
      #expect(person.city == text("city") && person.state == text("state") && person.extra == text("extra"))
      #expect(person.dateTime.milliseconds == number64("date_time"))
    case .auction(let auction):
      #expect(kind == "Auction" && fields.count == 10)
      #expect(auction.id == number64("id") && auction.itemName == text("item_name"))
      #expect(auction.description == text("description") && auction.extra == text("extra"))
      #expect(auction.initialBid == number64("initial_bid") && auction.reserve == number64("reserve"))
      #expect(auction.dateTime.milliseconds == number64("date_time"))
      #expect(auction.expires.milliseconds == number64("expires"))
      #expect(auction.seller == number64("seller") && auction.category == number64("category"))
    case .bid(let bid):
      #expect(kind == "Bid" && fields.count == 7)
      #expect(bid.auction == number64("auction") && bid.bidder == number64("bidder"))
      #expect(bid.price == number64("price") && bid.channel == text("channel") && bid.url == text("url"))
      #expect(bid.dateTime.milliseconds == number64("date_time") && bid.extra == text("extra"))
    }
  }
}

/// Numbers of events to look at: a run from the beginning, and places far from it.
private let samples: [Int64] =
  Array(0..<20_000) + Array(16_777_000..<16_778_000) + Array(5_000_000_000..<5_000_001_000)
  + Array((NexmarkGenerator.eventLimit - 1000)..<NexmarkGenerator.eventLimit)

@Test("of 50 events one is a person, three are auctions and 46 are bids, in this order")
func proportions() {
  let generator = NexmarkGenerator()
  for number in samples {
    let place = number % 50
    switch generator.event(number) {
    case .person: #expect(place == 0)
    case .auction: #expect(1...3 ~= place)
    case .bid: #expect(place > 3)
    }
  }
}

@Test("ids count from 1000 without gaps, and references lie around them")
func identifiers() {
  let generator = NexmarkGenerator()
  for number in samples {
    let persons = 1000 + number / 50
    let auctions = 1000 + number / 50 * 3 + min(number % 50, 3) - 1
    /// The last popular one, or one of those that are active, or soon will be.
    func isActive(_ id: Int64, _ last: Int64, _ active: Int64) -> Bool {
      id >= 1000 && id <= last + 10 && id >= last - active
    }
    switch generator.event(number) {
    case .person(let person): #expect(person.id == persons)
    case .auction(let auction):
      #expect(auction.id == auctions)
      #expect(isActive(auction.seller, persons, 1000))
      #expect(10...14 ~= auction.category)
    case .bid(let bid):
      #expect(isActive(bid.auction, auctions, 100), "event \(number): auction \(bid.auction) of \(auctions)")
      #expect(isActive(bid.bidder, persons, 1000))
    }
  }
}

@Test("half of the bids are for the popular auction, three quarters are from the popular bidder")
func popularity() {
  let generator = NexmarkGenerator()
  var (bids, auctions, bidders, sellers, opened, channels) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
  for number in Int64(1_000_000)..<1_050_000 {
    let person = 1000 + number / 50 / 100 * 100
    switch generator.event(number) {
    case .person: break
    case .auction(let auction):
      opened += 1
      if auction.seller == person { sellers += 1 }
    case .bid(let bid):
      bids += 1
      let auction = 1000 + (number / 50 * 3 + 2) / 100 * 100
      if bid.auction == auction { auctions += 1 }
      if bid.bidder == person + 1 { bidders += 1 }
      if !bid.channel.hasPrefix("channel-") { channels += 1 }
    }
  }
  #expect(0.49...0.52 ~= auctions / bids)
  #expect(0.74...0.76 ~= bidders / bids)
  #expect(0.48...0.52 ~= channels / bids)
  #expect(0.72...0.78 ~= sellers / opened)
}

@Test("texts and numbers have the shapes and ranges that the benchmark gives them")
func shapes() throws {
  let generator = NexmarkGenerator()
  let page = /https:\/\/www\.nexmark\.com(\/[a-z_]{3,4}){3}\/item\.htm\?query=1(&channel_id=\d{1,10})?/
  for number in samples.prefix(5000) + samples.suffix(500) {
    switch generator.event(number) {
    case .person(let person):
      #expect(person.emailAddress.wholeMatch(of: /[a-z]{7}@[a-z]{5}\.com/) != nil)
      #expect(person.creditCard.wholeMatch(of: /\d{4} \d{4} \d{4} \d{4}/) != nil)
      #expect(person.name.wholeMatch(of: /[a-z]+ [a-z]+/) != nil)
      let size =
        8
        + [person.name, person.emailAddress, person.creditCard, person.city, person.state].reduce(0) {
          $0 + $1.utf8.count
        }
      let wanted = 200 - size
      let delta = (wanted + 2) / 5
      #expect((wanted - delta)..<(wanted + delta) ~= person.extra.utf8.count)
    case .auction(let auction):
      #expect(auction.itemName.utf8.count == 20 && auction.description.utf8.count == 100)
      #expect(100...100_000_000 ~= auction.initialBid)
      #expect(100...100_000_000 ~= auction.reserve - auction.initialBid)
      #expect(auction.expires > auction.dateTime)
      #expect(auction.expires.milliseconds - auction.dateTime.milliseconds <= 334)
      #expect(266..<398 ~= auction.extra.utf8.count)
    case .bid(let bid):
      #expect(100...100_000_000 ~= bid.price)
      #expect(bid.url.wholeMatch(of: page) != nil, "\(bid.url)")
      #expect(54..<82 ~= bid.extra.utf8.count)
      #expect(bid.channel.wholeMatch(of: /channel-\d{1,4}|Google|Facebook|Baidu|Apple/) != nil)
    }
  }
}

@Test(
  "times never go back, and follow the rate",
  arguments: [1, 3, 999, 1000, 10_000, 123_457, 1_000_000_000], [NexmarkGenerator.Times.exact, .float32])
func times(_ rate: Int64, _ times: NexmarkGenerator.Times) {
  let generator = NexmarkGenerator(rate: rate, times: times)
  var last = base
  for number in samples {
    let time = generator.time(of: number).milliseconds
    #expect(time >= last, "event \(number)")
    last = time
    let expected = Double(number) * 1000 / Double(rate)
    let allowed = times == .exact ? 0.5 : 0.5 + expected * 2e-7
    #expect(abs(Double(time - base) - expected) <= allowed + expected * 1e-15, "event \(number)")
  }
  #expect(generator.time(of: 0).milliseconds == base)
}

@Test("exact times and those in 32 bits are the same up to event 671,104, and then a millisecond apart at most")
func firstDifference() {
  let (exact, float) = (NexmarkGenerator(), NexmarkGenerator(times: .float32))
  var differing: [Int64] = []
  for number in Int64(0)..<2_000_000 {
    let difference = exact.time(of: number).milliseconds - float.time(of: number).milliseconds
    guard difference != 0 else { continue }
    #expect(abs(difference) == 1, "event \(number)")
    differing.append(number)
  }
  #expect(differing.first == 671_105)
  // An auction that lies before has its time of expiry from an event that lies behind.
  for number in (671_105 - 1700)..<(671_105 - 1666) where number % 50 < 4 {
    #expect(exact.event(Int64(number)) == float.event(Int64(number)))
  }
}

@Test("an odd number of cents above 2^23 is rounded to itself, where adding a half would round up")
func rounding() {
  for (value, expected) in [
    (0.0, 0), (0.49999997, 0), (0.5, 1), (1.4999999, 1), (2.5, 3), (8_388_609, 8_388_609), (13_982_877, 13_982_877),
  ] as [(Float, Int64)] {
    #expect(NexmarkGenerator.rounded(value) == expected)
    #expect(Int64(value.rounded(.toNearestOrAwayFromZero)) == expected)
  }
}

@Test("bytes behind the room that an event asks for stay as they are")
func staysInRoom() {
  let generator = NexmarkGenerator()
  let limit = NexmarkGenerator.encodedSizeLimit
  withUnsafeTemporaryAllocation(byteCount: limit + 64, alignment: 16) { memory in
    _ = memory.initializeMemory(as: UInt8.self, repeating: 0xa5)
    for number in samples {
      let size = generator.encode(number, into: UnsafeMutableRawBufferPointer(rebasing: memory[..<limit]))
      #expect(size < limit)
    }
    #expect(memory[limit...].allSatisfy { $0 == 0xa5 })
  }
}
