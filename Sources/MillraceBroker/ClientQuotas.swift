// ClientQuotas: how much each client may use, and how long it has to wait when it used more. Pure: time is an argument.
//
// One bucket for each client and kind of limit. A bucket fills at the limit's rate up to one second's worth and may be
// overdrawn: who overdraws it waits until it is filled to nothing again. So a burst of one second is free, and over time
// nobody gets more than the limit.
//
// Two kinds of waits are bounded, as in Kafka. A connection that comes too early costs nothing and is turned away, after a wait
// of a window at most: were it to be served later, those who come and go would push everybody's turn at their address (or
// behind it) further and further away. Who used too much time waits a window at most before each request, until no more is
// owed; what is owed beyond ten windows is forgiven, because one slow request is seldom its client's fault. (AMQP and HTTP, which
// need not say a wait in an answer, let the client wait until that is paid for.) Waits for bytes and mutations last until they
// are paid for. Source: Kafka, `QuotaUtils.boundedThrottleTime`, `ConnectionQuotas`,
// `ClientRequestQuotaManager`.
//
// Which limit holds for a client, the first that is set:
//   user and client id, user and default client id, user, default user and client id, default user and default client
//   id, default user, client id, default client id
// All clients of a limit without client id share one bucket for each user.
// Source: KIP-124, KIP-257, KIP-546, KIP-599, KIP-612.

import MillraceBase
import MillraceMetadata
import MillraceSecurity

/// All quotas and the use that was made of them.
public struct ClientQuotas {
  /// What can be limited. Raw values are Kafka's names.
  public enum Limit: String, CaseIterable, Sendable {
    /// Bytes of record batches produced, a second.
    case producerBytes = "producer_byte_rate"
    /// Bytes of record batches fetched, a second.
    case consumerBytes = "consumer_byte_rate"
    /// Time that requests take on the broker's thread, in per cent of it.
    case requestTime = "request_percentage"
    /// Partitions created and deleted, a second.
    case mutations = "controller_mutation_rate"
    /// Connections made, a second.
    case connections = "connection_creation_rate"

    /// Units that one second of a limit's value stands for.
    fileprivate func rate(_ value: Double) -> Double { self == .requestTime ? value / 100 : value }
  }

  /// Longest wait for a connection, or of one request for its time. Source: Kafka, `quota.window.size.seconds`, 1.
  public static let window = Duration.seconds(1)
  /// What may be owed of request time, in seconds' worth. Source: Kafka, `quota.window.num`, 11 with the window under way.
  static let mostOwedSeconds = 10.0
  /// Most buckets held. Full ones are forgotten then; if most are not full, all are.
  static let mostBuckets = 10_000

  private struct Key: Hashable {
    var limit: Limit
    var entity: QuotaEntity
  }

  private struct Bucket {
    /// Units that may be used at once; below zero, what has to be waited for.
    var balance: Double
    var time: MonotonicTime

    mutating func fill(_ rate: Double, until now: MonotonicTime) {
      let seconds = max(0, Double((now - time).inNanoseconds) / 1e9)
      balance = min(rate, balance + rate * seconds)
      time = max(time, now)
    }
  }

  private var values: [QuotaEntity: [String: Double]] = [:]
  private var limited: Set<Limit> = []
  private var buckets: [Key: Bucket] = [:]
  /// Charges that made a client wait, and how long in all, since the start.
  /// The time is what they were told; who goes on charging while it waits is told again. Where who owes something is told only
  /// when it asks next, it counts then.
  public private(set) var waits: [Limit: (count: UInt64, time: Duration)] = [:]

  /// No quotas.
  public init() {}

  /// Takes over all limits; what clients have used already still counts.
  public mutating func set(_ quotas: [QuotaEntity: [String: Double]]) {
    values = quotas
    limited = Set(quotas.values.flatMap { $0.keys.compactMap { Limit(rawValue: $0) } })
    buckets = buckets.filter { limited.contains($0.key.limit) }
  }

  /// Whether anybody is limited in this; when not, nothing needs to be charged.
  public func isLimiting(_ limit: Limit) -> Bool { !limited.isEmpty && limited.contains(limit) }

  /// Buckets held.
  var bucketCount: Int { buckets.count }

  /// The limit of a client, with whom it shares it.
  private func find(_ limit: Limit, user: String, clientID: String) -> (value: Double, entity: QuotaEntity)? {
    let both = QuotaEntity(user: .named(user), clientID: .named(clientID))
    let userOnly = QuotaEntity(user: .named(user))
    let clientOnly = QuotaEntity(clientID: .named(clientID))
    let order: [(set: QuotaEntity, shared: QuotaEntity)] = [
      (both, both), (QuotaEntity(user: .named(user), clientID: .standard), both), (userOnly, userOnly),
      (QuotaEntity(user: .standard, clientID: .named(clientID)), both),
      (QuotaEntity(user: .standard, clientID: .standard), both), (QuotaEntity(user: .standard), userOnly),
      (clientOnly, clientOnly), (QuotaEntity(clientID: .standard), clientOnly),
    ]
    for (set, shared) in order {
      if let value = values[set]?[limit.rawValue] { return (value, shared) }
    }
    return nil
  }

  /// The limit that holds for a client; nil when it has none.
  public func value(_ limit: Limit, user: String = Principal.anonymous.name, clientID: String) -> Double? {
    isLimiting(limit) ? find(limit, user: user, clientID: clientID)?.value : nil
  }

  /// How long a client has to wait for what it used before; zero when it owes nothing. Nothing is counted.
  public func owed(
    _ limit: Limit, user: String = Principal.anonymous.name, clientID: String, now: MonotonicTime
  ) -> Duration {
    guard isLimiting(limit), let (value, entity) = find(limit, user: user, clientID: clientID),
      var bucket = buckets[Key(limit: limit, entity: entity)]
    else { return .zero }
    let rate = limit.rate(value)
    bucket.fill(rate, until: now)
    return bucket.balance < 0 ? ClientQuotas.wait(-bucket.balance, rate) : .zero
  }

  /// Counts what a client has used.
  /// - Parameters:
  ///   - isUntilPaid: for time, the wait is as long as the client owes something, not a window at most.
  ///   - isCounted: the client is told to wait now; when not, ``countWait(_:_:isAnother:)`` follows when it is.
  /// - Returns: how long it has to wait before it may go on; zero when it is within its limit, or has none.
  public mutating func charge(
    _ limit: Limit, user: String = Principal.anonymous.name, clientID: String, _ amount: Double,
    isUntilPaid: Bool = false, isCounted: Bool = true, now: MonotonicTime
  ) -> Duration {
    guard isLimiting(limit), let (value, entity) = find(limit, user: user, clientID: clientID) else { return .zero }
    let key = Key(limit: limit, entity: entity)
    let rate = limit.rate(value)
    let mostOwed = limit == .requestTime ? rate * ClientQuotas.mostOwedSeconds : .infinity
    var wait = charge(key, rate, amount, mostOwed: mostOwed, now)
    if limit == .requestTime, !isUntilPaid { wait = min(wait, ClientQuotas.window) }
    return isCounted ? counted(limit, wait) : wait
  }

  /// Counts that a client was told to wait, or goes on waiting.
  public mutating func countWait(_ limit: Limit, _ wait: Duration, isAnother: Bool = true) {
    let before = waits[limit] ?? (0, .zero)
    waits[limit] = (before.count + (isAnother ? 1 : 0), before.time + wait)
  }

  /// Counts a connection from an address, unless it comes too early.
  /// - Returns: zero when it is to be served; otherwise it has to be closed after this time, at most ``window``, and was not
  ///   counted.
  public mutating func chargeConnection(from address: String, now: MonotonicTime) -> Duration {
    guard isLimiting(.connections) else { return .zero }
    let own = QuotaEntity(address: .named(address))
    let name = Limit.connections.rawValue
    guard let value = values[own]?[name] ?? values[QuotaEntity(address: .standard)]?[name] else { return .zero }
    let key = Key(limit: .connections, entity: own)
    let wait = charge(key, value, 1, now)
    guard wait > .zero else { return .zero }
    buckets[key]?.balance += 1
    return counted(.connections, min(wait, ClientQuotas.window))
  }

  private mutating func counted(_ limit: Limit, _ wait: Duration) -> Duration {
    if wait > .zero { countWait(limit, wait) }
    return wait
  }

  private mutating func charge(
    _ key: Key, _ rate: Double, _ amount: Double, mostOwed: Double = .infinity, _ now: MonotonicTime
  ) -> Duration {
    guard rate > 0 else { return .zero }
    if buckets[key] == nil, buckets.count >= ClientQuotas.mostBuckets { makeRoom(now) }
    var bucket = buckets[key] ?? Bucket(balance: rate, time: now)
    bucket.fill(rate, until: now)
    bucket.balance = max(bucket.balance - amount, -mostOwed)
    buckets[key] = bucket
    guard bucket.balance < 0 else { return .zero }
    return ClientQuotas.wait(-bucket.balance, rate)
  }

  /// The time in which a bucket gets so much; no longer than what a throttle time in milliseconds, 32 bits wide, can say.
  private static func wait(_ amount: Double, _ rate: Double) -> Duration {
    .milliseconds(Int64(min(amount / rate * 1000, Double(Int32.max)).rounded(.up)))
  }

  private mutating func makeRoom(_ now: MonotonicTime) {
    // A bucket is full again at the latest after a second in which nothing was owed.
    buckets = buckets.filter { now - $0.value.time < .seconds(1) || $0.value.balance < 0 }
    if buckets.count > ClientQuotas.mostBuckets / 2 { buckets = [:] }
  }
}
