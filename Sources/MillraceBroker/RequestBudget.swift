// RequestBudget: the memory that requests of all connections, received in part or waiting for answers, may hold together.

import MillraceBase

/// What all connections' requests hold, so that many clients together cannot hold more than one budget, although each may
/// send large requests and many of them.
///
/// While the budget is spent, a connection that holds more than a little is not read from: its client has to wait. Small
/// requests, which are most, still pass, up to twice the budget: requests of clients that are gone count as long as the broker
/// holds them, so that nobody gets around the budget by connecting again and again. Requests that wait for their answers leave
/// by themselves; what stays in a connection's input does not (a torn request, or whole ones behind a long poll or behind
/// answers that are not read), so the oldest of those are given up when others have waited long enough.
///
/// A pure state machine: time is an argument.
public struct RequestBudget: Sendable {
  /// Bytes that may be held.
  public let size: Int
  /// Bytes held now.
  public private(set) var held = 0
  /// Connections that hold more than a little have to wait.
  public private(set) var isSpent = false

  /// A budget of which nothing is held.
  public init(size: Int) { self.size = size }

  /// Bytes that a connection may hold in any case.
  public static let always = 64 << 10
  /// How long input may stay where it is while the budget is spent.
  public static let patience = Duration.seconds(10)
  /// How often that is looked at while the budget is spent.
  public static let checkInterval = Duration.seconds(1)

  /// Whether a connection that holds so much has to wait.
  public func mustWait(holding bytes: Int) -> Bool { isSpent && (bytes >= RequestBudget.always || held >= 2 * size) }

  /// Connections that may read on at once when there is room: each may take a read of 1 MiB before it is counted.
  public var openings: Int { isSpent ? 0 : max(1, (size - held) >> 20) }

  /// Counts what is held anew.
  /// - Returns: true when connections that wait may go on, or the budget was spent just now.
  public mutating func change(by bytes: Int) -> Bool {
    held += bytes
    precondition(held >= 0, "requests hold \(held) bytes")
    // A quarter has to be free again before anybody goes on, so that they do not all wake up for each answer.
    let spent = isSpent ? held > size / 4 * 3 : held >= size
    defer { isSpent = spent }
    return spent != isSpent
  }

  /// Of the connections whose input stays those to be given up: the oldest first, until enough is free.
  public func expired(
    _ staying: [(connection: UInt64, since: MonotonicTime, bytes: Int)], now: MonotonicTime
  ) -> [UInt64] {
    guard isSpent else { return [] }
    var left = held
    var out: [UInt64] = []
    for one in staying.sorted(by: { ($0.since, $0.connection) < ($1.since, $1.connection) }) {
      guard left > size / 2, now - one.since >= RequestBudget.patience else { break }
      out.append(one.connection)
      left -= one.bytes
    }
    return out
  }
}
