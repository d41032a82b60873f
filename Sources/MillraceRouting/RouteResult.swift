// RouteResult: where a message goes, and the memory that finding out takes.

import MillraceBase

/// Where a message goes: distinct destinations, never an exchange.
///
/// The order is the same for the same bindings made in the same order: those of the exchange that was published to first,
/// then of the exchanges behind it. Keep one value and hand it in again: its memory is used again.
public struct RouteResult: Sendable {
  /// One destination.
  public struct Route: Equatable, Sendable {
    /// A queue or a topic.
    public let destination: Destination
    /// The way there, the first that was found, leads through an exchange of type `x-delayed-message`: the message's
    /// `x-delay` counts.
    public let isDelayed: Bool
  }

  /// The routes.
  public internal(set) var routes: [Route] = []

  /// Nothing yet.
  public init() {}

  /// Whether the message goes nowhere.
  public var isEmpty: Bool { routes.isEmpty }
  /// The destinations, in order.
  public var destinations: [Destination] { routes.map(\.destination) }
}

/// Arrays that routing uses again and again.
struct RouteScratch: Sendable {
  /// The number of the newest route; what carries it has been seen by that route.
  var mark: UInt64 = 0
  var matched: [Int32] = []
  var work: [(exchange: Int32, isDelayed: Bool)] = []
}
