// ConnectionCensusTests: who is let in, who has to go, and that the counts stay right over long histories.

import MillraceBase
import Testing

@testable import MillraceBroker

private func at(_ seconds: Double) -> MonotonicTime { MonotonicTime(nanoseconds: Int64(seconds * 1e9)) }

private func limits(_ change: (inout ConnectionLimits) -> Void) -> ConnectionLimits {
  var limits = ConnectionLimits()
  change(&limits)
  return limits
}

extension ConnectionCensus.Decision {
  fileprivate var place: ConnectionCensus.Place? {
    switch self {
    case .admitted(let place), .admittedInsteadOf(let place, _): place
    case .refused: nil
    }
  }
}

@Suite struct ConnectionCensusTests {
  @Test("when all places are taken by those who are known, nobody comes in until one leaves")
  func full() throws {
    var census = ConnectionCensus()
    let two = limits { $0.all = 2 }
    let first = try #require(census.admit(from: "10.0.0.1", isStranger: false, within: two, now: at(0)).place)
    #expect(census.admit(from: "10.0.0.2", isStranger: false, within: two, now: at(0)).place != nil)
    #expect(census.admit(from: "10.0.0.3", isStranger: true, within: two, now: at(0)) == .refused(.tooMany))
    census.leave(first)
    #expect(census.admit(from: "10.0.0.3", isStranger: true, within: two, now: at(0)).place != nil)
    #expect(census.count == 2)
  }

  @Test("a stranger makes room, the oldest of an address with most of them, and who is known never does")
  func displacement() throws {
    var census = ConnectionCensus()
    let three = limits { $0.all = 3 }
    let known = try #require(census.admit(from: "a", isStranger: true, within: three, now: at(0)).place)
    let older = try #require(census.admit(from: "a", isStranger: true, within: three, now: at(0)).place)
    let newer = try #require(census.admit(from: "a", isStranger: true, within: three, now: at(0)).place)
    census.recognize(known)
    let third = census.admit(from: "b", isStranger: true, within: three, now: at(0))
    #expect(third == .admittedInsteadOf(try #require(third.place), stranger: older))
    census.recognize(try #require(third.place))
    let fourth = census.admit(from: "b", isStranger: false, within: three, now: at(0))
    #expect(fourth == .admittedInsteadOf(try #require(fourth.place), stranger: newer))
    #expect(census.admit(from: "b", isStranger: true, within: three, now: at(0)) == .refused(.tooMany))
    #expect(census.count == 3 && census.strangerCount == 0 && census.count(of: "a") == 1)
  }

  @Test("who is alone at an address stays while others come and go in thousands")
  func flood() throws {
    var census = ConnectionCensus()
    let few = limits { $0.all = 100 }
    let honest = try #require(census.admit(from: "10.1.1.1", isStranger: true, within: few, now: at(0)).place)
    for number in 0..<10_000 {
      let decision = census.admit(from: "10.0.0.\(number % 30)", isStranger: true, within: few, now: at(0))
      if case .admittedInsteadOf(_, let stranger) = decision { #expect(stranger != honest) }
    }
    #expect(census.count == 100 && census.count(of: "10.1.1.1") == 1)
    // Where all are alone at their addresses the oldest goes.
    var alone = ConnectionCensus()
    let first = try #require(alone.admit(from: "10.1.1.1", isStranger: true, within: few, now: at(0)).place)
    for number in 0..<99 { _ = alone.admit(from: "10.0.0.\(number)", isStranger: true, within: few, now: at(0)) }
    let next = alone.admit(from: "10.2.2.2", isStranger: true, within: few, now: at(0))
    #expect(next == .admittedInsteadOf(try #require(next.place), stranger: first))
  }

  @Test("an address has its own limit, IPv6 by its first 64 bits, and single ones others")
  func ofAddress() throws {
    var census = ConnectionCensus()
    let some = limits {
      $0.ofAddress = 1
      $0.ofNamed = ["10.0.0.9": 2, "10.0.0.8": 0]
    }
    let first = try #require(census.admit(from: "10.0.0.1", isStranger: false, within: some, now: at(0)).place)
    #expect(
      census.admit(from: "10.0.0.1", isStranger: false, within: some, now: at(0)) == .refused(.tooManyOfAddress))
    #expect(census.admit(from: "2001:db8::1", isStranger: false, within: some, now: at(0)).place != nil)
    #expect(
      census.admit(from: "2001:db8::2", isStranger: false, within: some, now: at(0)) == .refused(.tooManyOfAddress))
    #expect(census.admit(from: "2001:db8:0:1::1", isStranger: false, within: some, now: at(0)).place != nil)
    #expect(census.admit(from: "10.0.0.9", isStranger: false, within: some, now: at(0)).place != nil)
    #expect(census.admit(from: "10.0.0.9", isStranger: false, within: some, now: at(0)).place != nil)
    #expect(
      census.admit(from: "10.0.0.8", isStranger: false, within: some, now: at(0)) == .refused(.tooManyOfAddress))
    census.leave(first)
    #expect(census.admit(from: "10.0.0.1", isStranger: false, within: some, now: at(0)).place != nil)
  }

  @Test("no more come in a second than the rate, and nobody is sent away for one that is refused")
  func rate() {
    var census = ConnectionCensus()
    let ten = limits {
      $0.rate = 10
      $0.all = 100
    }
    var admitted = 0
    for step in 0..<1000 {
      if census.admit(from: "a", isStranger: true, within: ten, now: at(Double(step) / 100)).place != nil {
        admitted += 1
      }
    }
    // One second's worth at once, and ten seconds of ten.
    #expect((108...110).contains(admitted), "\(admitted)")
    let before = census.strangerCount
    for _ in 0..<10 { _ = census.admit(from: "a", isStranger: true, within: ten, now: at(9.995)) }
    #expect(census.strangerCount == before)
  }

  @Test("counts agree with a plain list over random histories", arguments: 0..<20 as Range<UInt64>)
  func random(seed: UInt64) {
    var random = SeededRandom(seed: seed)
    var census = ConnectionCensus()
    var there: [(place: ConnectionCensus.Place, address: String, isStranger: Bool)] = []
    for step in 0..<3000 {
      let bounds = limits {
        $0.all = 40
        $0.ofAddress = 15
      }
      switch Int.random(in: 0..<10, using: &random) {
      case 0..<6:
        let address = "10.0.0.\(Int.random(in: 0..<5, using: &random))"
        let isStranger = Bool.random(using: &random)
        let strangers = Dictionary(grouping: there.filter(\.isStranger), by: \.address).mapValues(\.count)
        let most = strangers.values.max() ?? 0
        let oldest = there.firstIndex { $0.isStranger && strangers[$0.address] == most }
        let ofAddress = there.count { $0.address == address }
        switch census.admit(from: address, isStranger: isStranger, within: bounds, now: at(Double(step))) {
        case .refused(let reason):
          #expect(
            reason == (ofAddress >= 15 ? .tooManyOfAddress : .tooMany), "seed \(seed), step \(step)")
          #expect(ofAddress >= 15 || there.count == 40 && oldest == nil, "seed \(seed), step \(step)")
        case .admitted(let place):
          #expect(there.count < 40 && ofAddress < 15, "seed \(seed), step \(step)")
          there.append((place, address, isStranger))
        case .admittedInsteadOf(let place, let stranger):
          #expect(there.count == 40, "seed \(seed), step \(step)")
          if let oldest {
            #expect(there[oldest].place == stranger, "seed \(seed), step \(step)")
            there.remove(at: oldest)
          } else {
            Issue.record("seed \(seed), step \(step): nobody was there to go")
          }
          there.append((place, address, isStranger))
        }
      case 6..<8 where !there.isEmpty:
        let index = Int.random(in: 0..<there.count, using: &random)
        census.leave(there.remove(at: index).place)
      case 8 where !there.isEmpty:
        let index = Int.random(in: 0..<there.count, using: &random)
        census.recognize(there[index].place)
        there[index].isStranger = false
      default: break
      }
      #expect(census.count == there.count && census.strangerCount == there.count { $0.isStranger })
    }
    for address in Set(there.map(\.address)) {
      #expect(census.count(of: address) == there.count { $0.address == address }, "seed \(seed)")
    }
  }

  @Test(
    "settings say the limits",
    arguments: [
      ("10.0.0.1=3, ::1=0", ["10.0.0.1": 3, "::1": 0]), ("10.0.0.1:7", ["10.0.0.1": 7]), ("", [:]),
    ])
  func settings(text: String, expected: [String: Int]) throws {
    var settings = BrokerSettings()
    #expect(settings.connectionLimits.ofAddress == Int(Int32.max) && settings.connectionLimits.rate == nil)
    try settings.set("max.connections.per.ip.overrides", text)
    try settings.set("max.connections.per.ip", "5")
    try settings.set("max.connection.creation.rate", "100")
    #expect(settings.connectionLimits.ofNamed == expected)
    #expect(settings.connectionLimits.ofAddress == 5 && settings.connectionLimits.rate == 100)
  }

  @Test("overrides that say nothing are refused", arguments: ["10.0.0.1", "10.0.0.1=", "=3", "host=1", "10.0.0.1=-1"])
  func wrongOverrides(text: String) {
    var settings = BrokerSettings()
    #expect(throws: BrokerError.self) { try settings.set("max.connections.per.ip.overrides", text) }
  }
}
