// ConnectionCensus: how many connections there are, of whom, and whether one more is let in. Pure: time is an argument.
//
// A stranger is a connection whose client has still to say who it is. When all places are taken, a stranger makes room for the
// newcomer: of those that have been there longest, one of the address that has most strangers. So those who open connections and
// say nothing keep each other out, and nobody else, however many they are and however fast they come: a client that is alone at
// its address, or nearly, has the time that it needs. Who has said who it is is never sent away.
//
// An address is an IPv4 address, or the first 64 bits of an IPv6 address, for whoever has one of those has all of them.
// Settings: `max.connections`, `max.connections.per.ip`, `max.connections.per.ip.overrides`, `max.connection.creation.rate`. Source: Kafka,
// `SocketServer.ConnectionQuotas`, of which the names come; in Kafka the oldest idle connection is closed, and new ones wait for
// the rate; here they are closed at once, because what waits takes places, too.

import MillraceBase
import MillraceSecurity

/// Why a connection is not served.
public enum ConnectionRefusal: String, CaseIterable, Sendable {
  /// `max.connections` are open, and all their clients are known.
  case tooMany = "max.connections"
  /// Its address has as many as it may.
  case tooManyOfAddress = "max.connections.per.ip"
  /// Connections come too fast.
  case tooFast = "max.connection.creation.rate"
  /// Its address makes connections too fast: the quota `connection_creation_rate`.
  case tooFastOfAddress = "connection_creation_rate"
}

/// The limits of a ``ConnectionCensus``.
public struct ConnectionLimits: Equatable, Sendable {
  /// Most connections.
  public var all = Int.max
  /// Most connections of one address.
  public var ofAddress = Int.max
  /// The same of single addresses.
  public var ofNamed: [String: Int] = [:]
  /// Most new connections in a second; nil without a limit.
  public var rate: Int?

  /// No limits.
  public init() {}
}

/// Counts connections.
public struct ConnectionCensus {
  /// A connection that was let in.
  public struct Place: Hashable, Sendable {
    /// Counts up.
    public let number: UInt64
    fileprivate let address: String
  }

  /// What becomes of a newcomer.
  public enum Decision: Equatable, Sendable {
    case refused(ConnectionRefusal)
    /// It is let in.
    case admitted(Place)
    /// It is let in instead of a stranger, who has to be closed and counts no more.
    case admittedInsteadOf(Place, stranger: Place)
  }

  /// Connections that are open.
  public private(set) var count = 0
  private var byAddress: [String: Int] = [:]
  private var strangers: Set<Place> = []
  private var strangersByAddress: [String: Int] = [:]
  /// The oldest strangers, from among whom one goes, and some who are none any more.
  private var oldest: [Place] = []
  /// The others by their coming, and some who are none any more.
  private var waiting = Deque<Place>()
  private var next: UInt64 = 0
  /// What may come at once, and when that was counted.
  private var allowance: (balance: Double, time: MonotonicTime)?

  /// How many of the oldest strangers are looked at to find the one who has to go.
  static let mostCandidates = 64

  /// Nobody is there.
  public init() {}

  /// Connections whose clients are not known.
  public var strangerCount: Int { strangers.count }

  /// Connections of an address.
  public func count(of address: String) -> Int { byAddress[AuthenticationThrottle.network(of: address)] ?? 0 }

  /// Looks at a newcomer.
  /// - Parameter isStranger: its client has to say who it is.
  /// - Complexity: O(1) in the mean, and ``mostCandidates`` where somebody has to go.
  public mutating func admit(
    from address: String, isStranger: Bool, within limits: ConnectionLimits, now: MonotonicTime
  ) -> Decision {
    let network = AuthenticationThrottle.network(of: address)
    guard byAddress[network] ?? 0 < limits.ofNamed[address] ?? limits.ofAddress else {
      return .refused(.tooManyOfAddress)
    }
    // Looked at before the rate is charged, and room is made after it.
    guard count < limits.all || !strangers.isEmpty else { return .refused(.tooMany) }
    guard isWithinRate(limits.rate, now) else { return .refused(.tooFast) }
    let leaving = count < limits.all ? nil : takeStranger()
    if let leaving { leave(leaving) }
    let place = Place(number: next, address: network)
    next += 1
    count += 1
    byAddress[network, default: 0] += 1
    if isStranger {
      strangers.insert(place)
      strangersByAddress[network, default: 0] += 1
      waiting.append(place)
    }
    if let leaving { return .admittedInsteadOf(place, stranger: leaving) }
    return .admitted(place)
  }

  /// The stranger who has to go; the oldest of several that would do.
  private mutating func takeStranger() -> Place? {
    oldest.removeAll { !strangers.contains($0) }
    while oldest.count < ConnectionCensus.mostCandidates, let place = waiting.popFirst() {
      if strangers.contains(place) { oldest.append(place) }
    }
    // Strictly more, so that of equal ones the first is taken.
    var found: (index: Int, count: Int)?
    for (index, place) in oldest.enumerated() {
      let count = strangersByAddress[place.address] ?? 0
      if count > found?.count ?? 0 { found = (index, count) }
    }
    return found.map { oldest.remove(at: $0.index) }
  }

  private mutating func isWithinRate(_ rate: Int?, _ now: MonotonicTime) -> Bool {
    guard let rate else {
      allowance = nil
      return true
    }
    let most = Double(rate)
    var (balance, time) = allowance ?? (most, now)
    balance = min(most, balance + max(0, Double((now - time).inNanoseconds) / 1e9) * most)
    time = max(time, now)
    defer { allowance = (balance, time) }
    guard balance >= 1 else { return false }
    balance -= 1
    return true
  }

  /// Its client is known now.
  public mutating func recognize(_ place: Place) {
    guard strangers.remove(place) != nil else { return }
    let others = (strangersByAddress[place.address] ?? 1) - 1
    strangersByAddress[place.address] = others == 0 ? nil : others
    // Those who are known leave their entries behind: never more than there are strangers, and some.
    if waiting.count > 2 * strangers.count + 64 {
      var left = Deque<Place>()
      while let one = waiting.popFirst() { if strangers.contains(one) { left.append(one) } }
      waiting = left
    }
  }

  /// It is closed. To be called once for each that was let in, except for strangers who had to go.
  public mutating func leave(_ place: Place) {
    recognize(place)
    count -= 1
    let left = (byAddress[place.address] ?? 0) - 1
    precondition(count >= 0 && left >= 0, "a connection was counted out twice")
    byAddress[place.address] = left == 0 ? nil : left
  }
}
