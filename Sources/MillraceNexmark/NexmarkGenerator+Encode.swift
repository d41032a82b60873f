// NexmarkGenerator+Encode: draws an event and lays it out in one go, without allocating.
//
// The order of the draws is part of what an event is; the head, which stands before the texts, is written around them.

import Glibc
import MillraceBase

extension NexmarkGenerator {
  /// Writes event `number`, encoded as ``EncodedEvent`` reads it.
  ///
  /// Bytes of `room` behind the event may be overwritten.
  /// - Parameters:
  ///   - number: from 0, below ``eventLimit``.
  ///   - room: at least ``encodedSizeLimit`` bytes.
  /// - Returns: the event's size.
  /// - Complexity: O(size); no allocation.
  public func encode(_ number: Int64, into room: UnsafeMutableRawBufferPointer) -> Int {
    precondition(
      number >= 0 && number < NexmarkGenerator.eventLimit && room.count >= NexmarkGenerator.encodedSizeLimit,
      "event \(number) into \(room.count) bytes")
    let start = room.baseAddress!
    var random = EventRandom(seed: UInt64(number))
    switch number % NexmarkIDs.cycle {
    case 0: return person(number, start, &random)
    case 1...3: return auction(number, start, &random)
    default: return bid(number, start, &random)
    }
  }

  private static let firstNames: [StaticString] = [
    "peter", "paul", "luke", "john", "saul", "vicky", "kate", "julie", "sarah", "deiter", "walter",
  ]
  private static let lastNames: [StaticString] = [
    "shultz", "abrams", "spencer", "white", "bartels", "walton", "smith", "jones", "noris",
  ]
  private static let cities: [StaticString] = [
    "phoenix", "los angeles", "san francisco", "boise", "portland", "bend", "redmond", "seattle", "kent", "cheyenne",
  ]
  private static let states: [StaticString] = ["az", "ca", "id", "or", "wa", "wy"]

  private func person(_ number: Int64, _ start: UnsafeMutableRawPointer, _ random: inout EventRandom) -> Int {
    var head = EventWriter(start)
    head.byte(EventLayout.person)
    head.number(time(of: number).milliseconds)
    head.number(NexmarkIDs.lastPerson(number) + NexmarkIDs.first)
    let texts = start + EventLayout.personHead
    var writer = EventWriter(texts)
    var begin = texts
    /// The length of what was written since the last call.
    func end() {
      head.number(UInt16(truncatingIfNeeded: writer.at - begin))
      begin = writer.at
    }
    writer.text(NexmarkGenerator.firstNames[random.below32(11)])
    writer.byte(UInt8(ascii: " "))
    writer.text(NexmarkGenerator.lastNames[random.below32(9)])
    end()
    writer.letters(7, &random)
    writer.byte(UInt8(ascii: "@"))
    writer.letters(5, &random)
    writer.text(".com")
    end()
    for group in 0..<4 {
      if group > 0 { writer.byte(UInt8(ascii: " ")) }
      let digits = random.below32(10_000)
      for power in [1000, 100, 10, 1] { writer.byte(48 + UInt8(digits / power % 10)) }
    }
    end()
    writer.text(NexmarkGenerator.cities[random.below32(10)])
    end()
    writer.text(NexmarkGenerator.states[random.below32(6)])
    end()
    _ = writer.extra(size: 8 + (writer.at - texts), average: 200, &random)
    end()
    return writer.at - start
  }

  private func auction(_ number: Int64, _ start: UnsafeMutableRawPointer, _ random: inout EventRandom) -> Int {
    var writer = EventWriter(start + EventLayout.auctionHead)
    writer.letters(20, &random)
    writer.letters(100, &random)
    let initial = NexmarkGenerator.price(&random)
    let reserve = initial + NexmarkGenerator.price(&random)
    let opens = sinceBase(number)
    let horizon = sinceBase(number + NexmarkIDs.openEvents) - opens
    let expires = opens + 1 + Int64(random.below(UInt64(max(2 * horizon, 1))))
    let seller =
      random.below(4) > 0
      ? NexmarkIDs.lastPerson(number) / NexmarkIDs.popularity * NexmarkIDs.popularity
      : NexmarkIDs.somePerson(number, &random)
    let category = 10 + Int64(random.below(5))
    // Eight bytes for each number and the 120 letters; the time of expiry does not count.
    let extra = writer.extra(size: 168, average: 500, &random)
    var head = EventWriter(start)
    head.byte(EventLayout.auction)
    head.number(NexmarkGenerator.baseTime.milliseconds + opens)
    head.number(NexmarkIDs.lastAuction(number) + NexmarkIDs.first)
    head.number(initial)
    head.number(reserve)
    head.number(NexmarkGenerator.baseTime.milliseconds + expires)
    head.number(seller + NexmarkIDs.first)
    head.number(category)
    head.number(20 as UInt16)
    head.number(100 as UInt16)
    head.number(UInt16(truncatingIfNeeded: extra))
    return writer.at - start
  }

  private func bid(_ number: Int64, _ start: UnsafeMutableRawPointer, _ random: inout EventRandom) -> Int {
    let auction =
      random.below(2) > 0
      ? NexmarkIDs.lastAuction(number) / NexmarkIDs.popularity * NexmarkIDs.popularity
      : NexmarkIDs.someAuction(number, &random)
    let bidder =
      random.below(4) > 0
      ? NexmarkIDs.lastPerson(number) / NexmarkIDs.popularity * NexmarkIDs.popularity + 1
      : NexmarkIDs.somePerson(number, &random)
    let price = NexmarkGenerator.price(&random)
    let entry = ChannelTable.shared.entry(
      random.below(2) > 0
        ? ChannelTable.count + Int(random.below(4)) : random.below32(UInt32(ChannelTable.count)))
    let channelLength = entry.load(fromByteOffset: 14, as: UInt8.self)
    let urlLength = entry.load(fromByteOffset: 15, as: UInt8.self)
    let texts = start + EventLayout.bidHead
    // Fixed sizes are a few instructions; what is too much is overwritten by what follows.
    texts.copyMemory(from: entry, byteCount: 16)
    (texts + Int(channelLength)).copyMemory(from: entry + 16, byteCount: ChannelTable.entrySize - 16)
    var writer = EventWriter(texts + Int(channelLength) + Int(urlLength))
    let extra = writer.extra(size: 32, average: 100, &random)
    var head = EventWriter(start)
    head.byte(EventLayout.bid)
    head.number(time(of: number).milliseconds)
    head.number(auction + NexmarkIDs.first)
    head.number(bidder + NexmarkIDs.first)
    head.number(price)
    head.number(UInt16(channelLength))
    head.number(UInt16(urlLength))
    head.number(UInt16(truncatingIfNeeded: extra))
    return writer.at - start
  }

  /// 1 to 100,000,000 cents, evenly spread by magnitude.
  @inline(__always)
  private static func price(_ random: inout EventRandom) -> Int64 {
    rounded(powf(10, random.float() * 6) * 100)
  }
}
