// RequestGate: which connections wait for the memory of requests, when they go on, and which of them are given up.

import MillraceBase
import MillraceIO

/// A connection whose requests count in a ``RequestBudget``.
public protocol RequestHolder: AnyObject {
  /// Its number, which no other connection of its server has.
  var number: UInt64 { get }
  /// It is closed.
  var isOver: Bool { get }
  /// It waits in a ``RequestGate``, which alone sets this.
  var isStarved: Bool { get set }
  /// What lies unused in its input and does not leave by itself, and since when; nil when nothing does.
  var stayingInput: (since: MonotonicTime, bytes: Int)? { get }
  /// Reads on, or no further for now.
  func throttle()
  /// Does without what it waits for, because others wait for the memory of its staying input.
  func giveUp()
}

/// The ``RequestBudget`` of one server, and those of its connections that wait until requests hold less.
///
/// Belongs to the reactor's thread, as the connections do.
public final class RequestGate {
  /// What requests hold.
  public private(set) var budget: RequestBudget
  private let reactor: any Reactor
  /// Connections that wait, in the order of their coming.
  private var starved = Deque<any RequestHolder>()
  private var isWaking = false
  private var isWatching = false
  /// All open connections.
  private let connections: () -> [any RequestHolder]
  /// Called each time when the budget has been spent.
  private let spent: () -> Void

  /// A gate of which nothing is held.
  /// - Parameters:
  ///   - size: bytes that requests may hold.
  ///   - connections: all open connections; asked for about once a second while the budget is spent.
  ///   - spent: called each time when the budget has been spent; to be told in the log.
  public init(
    size: Int, reactor: any Reactor, connections: @escaping () -> [any RequestHolder], spent: @escaping () -> Void
  ) {
    budget = RequestBudget(size: size)
    self.reactor = reactor
    self.connections = connections
    self.spent = spent
  }

  /// Counts what clients have sent; lets connections read on that had to wait, as far as there is room.
  public func change(by bytes: Int) {
    guard budget.change(by: bytes) else { return }
    if budget.isSpent {
      spent()
      watch()
    } else {
      wake()
    }
  }

  /// Remembers a connection that is not read from because the budget is spent.
  public func starve(_ connection: any RequestHolder) {
    guard !connection.isStarved else { return }
    connection.isStarved = true
    starved.append(connection)
  }

  /// To be called when a connection has been closed.
  /// - Parameter open: how many still are open.
  /// - Complexity: O(1) in the mean.
  public func closed(_ connection: any RequestHolder, open: Int) {
    guard connection.isStarved, starved.count > 2 * open else { return }
    // Clients that come and go while nobody is woken must not pile up.
    var left = Deque<any RequestHolder>()
    while let one = starved.popFirst() { if !one.isOver { left.append(one) } }
    starved = left
  }

  /// At the end of the turn, because a connection that reads on may be in the middle of its input.
  private func wake() {
    guard !isWaking, !starved.isEmpty else { return }
    isWaking = true
    reactor.atEndOfTurn { [self] in wakeSome() }
  }

  private func wakeSome() {
    isWaking = false
    var openings = budget.openings
    while openings > 0, let connection = starved.popFirst() {
      connection.isStarved = false
      connection.throttle()
      openings = min(openings - 1, budget.openings)
    }
    guard !budget.isSpent, !starved.isEmpty else { return }
    // The others follow when these have been read from, and were counted.
    isWaking = true
    reactor.schedule(after: .milliseconds(1)) { [self] in wakeSome() }
  }

  /// Gives up the connections whose input has kept the memory longest, while it is wanted.
  private func watch() {
    guard !isWatching else { return }
    isWatching = true
    reactor.schedule(after: RequestBudget.checkInterval) { [self] in
      isWatching = false
      guard budget.isSpent else { return }
      var staying: [UInt64: (connection: any RequestHolder, since: MonotonicTime, bytes: Int)] = [:]
      for connection in connections() {
        if let input = connection.stayingInput { staying[connection.number] = (connection, input.since, input.bytes) }
      }
      let expired = budget.expired(staying.map { ($0.key, $0.value.since, $0.value.bytes) }, now: reactor.now)
      for number in expired { staying[number]?.connection.giveUp() }
      watch()
    }
  }
}
