// AuthenticationThrottle: how long a refusal waits before it is sent, by how often its address failed.
//
// Delayed is the address that fails, never a user: whoever has the right password comes in at once, however many strangers try that
// user's name. Failures of users are counted so that somebody hears of it.

import Glibc
import MillraceBase

/// Failures of addresses and users, within bounds.
public struct AuthenticationThrottle: Sendable {
  /// Settings.
  public struct Limits: Sendable, Equatable {
    /// Delay of an address's first failures. Source: Kafka, `connection.failed.authentication.delay.ms`.
    public var firstDelay: Duration = .milliseconds(100)
    /// Failures with that delay; each further one doubles it.
    public var patience = 3
    /// Delay that no failure exceeds.
    public var longestDelay: Duration = .seconds(5)
    /// After so long without a failure an address, or a user, begins anew.
    public var memory: Duration = .seconds(600)
    /// Most addresses, and most users, that are remembered; 200 bytes each. Of more, those that failed longest ago are forgotten.
    public var entries = 10_000

    /// The defaults.
    public init() {}
  }

  /// Settings.
  public let limits: Limits
  private var addresses: FailureCounts
  private var users: FailureCounts

  /// No failures yet.
  public init(_ limits: Limits = Limits()) {
    precondition(limits.entries >= 2 && limits.patience >= 0, "\(limits)")
    self.limits = limits
    addresses = FailureCounts(limit: limits.entries, memory: limits.memory)
    users = FailureCounts(limit: limits.entries, memory: limits.memory)
  }

  /// Counts a failure.
  /// - Parameters:
  ///   - address: the client's, without its port. Of IPv6 the first 64 bits count, for whoever has one has all of them.
  ///   - user: the name it gave, if it came so far.
  /// - Returns: how long to wait before the refusal is sent. The connection takes no input meanwhile.
  public mutating func failed(address: String, user: String?, at now: MonotonicTime) -> Duration {
    if let user { users.add(user, at: now) }
    // Not inside the call of a method: `self` would be copied for that first, and the table with it.
    let failures = addresses.add(AuthenticationThrottle.network(of: address), at: now)
    return delay(after: failures)
  }

  /// Failures of an address, or its network, that are remembered.
  public func failures(ofAddress address: String, at now: MonotonicTime) -> Int {
    addresses.count(AuthenticationThrottle.network(of: address), at: now)
  }

  /// Failures of whoever gave this user's name, from all addresses: for metrics and the audit.
  public func failures(ofUser user: String, at now: MonotonicTime) -> Int { users.count(user, at: now) }

  /// Addresses and users that are remembered.
  public var entryCount: Int { addresses.entryCount + users.entryCount }

  private func delay(after failures: Int) -> Duration {
    let doublings = max(0, failures - max(limits.patience, 1))
    // Beyond 2^40 of any delay is longer than the longest; the shift must not overflow.
    guard doublings < 40 else { return limits.longestDelay }
    return min(limits.longestDelay, limits.firstDelay * (1 << doublings))
  }

  /// What counts as one address: all of IPv4, the first 64 bits of IPv6; another text stands for itself.
  public static func network(of address: String) -> String {
    var bytes = [UInt8](repeating: 0, count: 16)
    let plain = String(address.prefix { $0 != "%" })
    guard inet_pton(AF_INET6, plain, &bytes) == 1 else { return address }
    if bytes.prefix(12) == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff] {
      return bytes.suffix(4).map(String.init).joined(separator: ".")
    }
    return bytes.prefix(8).map { String($0, radix: 16) }.joined(separator: ":") + "/64"
  }
}

/// Counts by name, in two generations: the newer one takes what is counted, and becomes the older one when it holds half of the limit.
/// So there are never more than the limit, and those that were counted longest ago go, without a list in order.
private struct FailureCounts: Sendable {
  private struct Entry: Sendable {
    var count: Int
    var last: MonotonicTime
  }

  let limit: Int
  let memory: Duration
  private var newer: [String: Entry] = [:]
  private var older: [String: Entry] = [:]
  private var begin = MonotonicTime(nanoseconds: .min)

  init(limit: Int, memory: Duration) {
    self.limit = limit
    self.memory = memory
  }

  var entryCount: Int { newer.count + older.count }

  /// A name that a stranger gave must not take memory as it likes.
  private static func bounded(_ name: String) -> String {
    name.utf8.count <= 256 ? name : String(decoding: name.utf8.prefix(256), as: UTF8.self)
  }

  func count(_ name: String, at now: MonotonicTime) -> Int {
    let name = FailureCounts.bounded(name)
    if let entry = newer[name] { return now < entry.last + memory ? entry.count : 0 }
    if let entry = older[name] { return now < entry.last + memory ? entry.count : 0 }
    return 0
  }

  @discardableResult
  mutating func add(_ name: String, at now: MonotonicTime) -> Int {
    let name = FailureCounts.bounded(name)
    let count = min(count(name, at: now), Int.max - 1) + 1
    if newer[name] == nil, newer.count >= limit / 2 || now >= begin + memory {
      older = newer
      newer = [:]
      begin = now
    }
    newer[name] = Entry(count: count, last: now)
    return count
  }
}
