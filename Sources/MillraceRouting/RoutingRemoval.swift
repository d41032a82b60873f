// RoutingRemoval: what goes together when a binding, a queue, a topic or an exchange goes.

/// A removal, with the auto-delete exchanges that lose their last binding by it.
///
/// What goes along depends on bindings that are not durable and are therefore not there when events are read again.
/// So it is worked out once, by ``Routing/removal(of:in:)``, and the event names it; applying it works nothing out.
public struct RoutingRemoval: Equatable, Sendable {
  /// What goes first.
  public enum Cause: Equatable, Sendable {
    /// One binding.
    case binding(Binding)
    /// All bindings to a queue, topic or exchange; the exchange itself stays.
    case destination(Destination)
    /// An exchange, with the bindings from it and to it.
    case exchange(String)
  }

  /// What goes first.
  public let cause: Cause
  /// The exchanges that go along, in the order in which they do.
  public let autoDeleted: [String]

  /// A removal.
  public init(cause: Cause, autoDeleted: [String]) {
    self.cause = cause
    self.autoDeleted = autoDeleted
  }
}
