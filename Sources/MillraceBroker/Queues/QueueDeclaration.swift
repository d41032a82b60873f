// QueueDeclaration: what a client says of a queue that it declares, and whether a queue that is there is the same.
//
// Texts and their order are RabbitMQ 4's: `rabbit_amqqueue:assert_equivalence`, `rabbit_misc:assert_args_equivalence`.
// What the arguments mean: QueueArguments.swift.

import MillraceRouting

/// A queue as it is declared.
public struct QueueDeclaration: Equatable, Sendable {
  /// Name; empty when the server is to choose it.
  public var name: String
  /// Virtual host.
  public var virtualHost: String
  /// Survives a restart.
  public var isDurable: Bool
  /// Belongs to the connection, and goes with it.
  public var isExclusive: Bool
  /// Goes when its last consumer goes.
  public var isAutoDelete: Bool
  /// What else the client says.
  public var arguments: RoutingTable

  /// A declaration.
  public init(
    name: String, virtualHost: String, isDurable: Bool = false, isExclusive: Bool = false, isAutoDelete: Bool = false,
    arguments: RoutingTable = .empty
  ) {
    self.name = name
    self.virtualHost = virtualHost
    self.isDurable = isDurable
    self.isExclusive = isExclusive
    self.isAutoDelete = isAutoDelete
    self.arguments = arguments
  }

  /// The queue in the words of error texts: `queue 'q' in vhost '/'`.
  public var words: String { "queue '\(name)' in vhost '\(virtualHost)'" }

  /// Refuses to declare this queue again as something else. Whose exclusive queue it is, the caller looks at first.
  ///
  /// Compared are the flags and those arguments that mean something for the queue's type; a type that is left out is
  /// `classic`. Whole numbers of any width are equal by value.
  /// - Throws: 405 when one is exclusive and the other is not; 406 for any other difference.
  public func checkEquivalence(of asked: QueueDeclaration) throws(RoutingError) {
    if asked.isExclusive != isExclusive {
      throw RoutingError(
        .resourceLocked,
        "cannot obtain exclusive access to locked \(words). It could be originally declared on another connection or the "
          + "exclusive property value does not match that of the original declaration.")
    }
    if asked.isDurable != isDurable { throw inequivalent("durable", "'\(asked.isDurable)'", "'\(isDurable)'") }
    if asked.isAutoDelete != isAutoDelete {
      throw inequivalent("auto_delete", "'\(asked.isAutoDelete)'", "'\(isAutoDelete)'")
    }
    let type = QueueType(arguments) ?? .classic
    for argument in KnownArgument.all where argument.isCompared && argument.types.contains(type) {
      try checkEquivalence(of: asked, argument.name)
    }
  }

  private func checkEquivalence(of asked: QueueDeclaration, _ argument: String) throws(RoutingError) {
    switch (asked.arguments[argument], arguments[argument]) {
    case (let received?, let current?):
      if received != current { throw inequivalent(argument, "'\(received.words)'", "'\(current.words)'") }
    case (nil, nil): break
    case (let received, let current):
      if argument == QueueType.argument, (received ?? current)?.text == QueueType.classic.rawValue { return }
      func words(_ value: RoutingValue?) -> String {
        value.map { "the value '\($0.words)' of type '\($0.typeName)'" } ?? "none"
      }
      throw inequivalent(argument, words(received), words(current))
    }
  }

  private func inequivalent(_ argument: String, _ received: String, _ current: String) -> RoutingError {
    RoutingError(
      .preconditionFailed,
      "inequivalent arg '\(argument)' for \(words): received \(received) but current is \(current)")
  }
}
