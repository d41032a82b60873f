// Routing+Checks: what may be declared, bound and deleted, and what a client is told that may not.
//
// Texts and their order are RabbitMQ 4's: `rabbit_channel`, `rabbit_exchange:assert_equivalence`, `rabbit_binding:add`.
// Two things are its caller's: permissions, and taking line feeds and carriage returns out of names.

import MillraceBase

extension Routing {
  /// Longest name or key, in bytes. Source: AMQP 0-9-1, short strings.
  public static let maximumNameLength = 255

  /// What a client that declares or binds asks for: something that is there, or a change.
  public enum Change: Equatable, Sendable {
    /// It is there, and nothing is to be done.
    case exists
    /// It is to be applied; `isDurable` tells whether an event has to carry it.
    case new(isDurable: Bool)
  }

  /// Whether the queue or topic that a binding is to lead to is there. Exchanges are looked up.
  public enum DestinationState: Sendable {
    /// It is not there.
    case missing
    /// It is there until the next restart.
    case transient
    /// It survives restarts.
    case durable
  }

  /// Whether an exchange may be declared.
  /// - Throws: 403 for the default exchange, and for a new one whose name begins with `amq.`; 406 when it is there with
  ///   another type, durability, auto-delete, internal or alternate exchange, or arguments make no sense; 530 when there is
  ///   no such virtual host.
  public func checkDeclare(_ exchange: Exchange, in virtualHost: String) throws(RoutingError) -> Change {
    let host = try host(virtualHost)
    if exchange.name.isEmpty { throw .defaultExchange }
    if let current = host.exchange(exchange.name) {
      try current.checkEquivalence(exchange, in: virtualHost)
      return .exists
    }
    if Exchange.isReserved(exchange.name) {
      throw RoutingError(.accessRefused, "exchange name '\(exchange.name)' contains reserved prefix 'amq.*'")
    }
    try Routing.checkLength(exchange.name.utf8.count, "exchange name")
    try exchange.checkArguments(in: virtualHost)
    return .new(isDurable: exchange.isDurable)
  }

  /// Whether an exchange is there, as a passive declaration asks; its type and arguments do not matter.
  /// - Throws: 403 for the default exchange; 404 when it is not there; 530 when there is no such virtual host.
  public func checkPassiveDeclare(_ name: String, in virtualHost: String) throws(RoutingError) {
    let host = try host(virtualHost)
    if name.isEmpty { throw .defaultExchange }
    if host.exchange(name) == nil { throw .noExchange(name, virtualHost) }
  }

  /// Whether an exchange may be deleted. When it is not there there is no error, and no removal either.
  /// - Parameter ifUnused: refuse when bindings lead from it.
  /// - Throws: 403 for the default exchange and those whose name begins with `amq.`; 406 when it is in use; 530 when there
  ///   is no such virtual host.
  public func checkDelete(_ name: String, ifUnused: Bool, in virtualHost: String) throws(RoutingError) {
    let host = try host(virtualHost)
    if name.isEmpty { throw .defaultExchange }
    if Exchange.isReserved(name) {
      throw RoutingError(
        .accessRefused, "deletion of system exchange '\(name)' in vhost '\(virtualHost)' not allowed")
    }
    let number = host.exchangeNames.find(name)
    if ifUnused && number >= 0 && !host.exchanges[Int(number)].outgoing.isEmpty {
      throw RoutingError(.preconditionFailed, "exchange '\(name)' in vhost '\(virtualHost)' in use")
    }
  }

  /// Whether a binding may be made. It is durable when both ends are.
  /// - Parameter state: of the queue or topic that it leads to; not looked at for exchanges.
  /// - Throws: 403 when either end is the default exchange; 404 when one is not there; 406 when key or arguments make no
  ///   sense to the source's type; 530 when there is no such virtual host.
  public func checkBind(
    _ binding: Binding, to state: DestinationState, in virtualHost: String
  ) throws(RoutingError) -> Change {
    let host = try host(virtualHost)
    try Routing.checkEnds(of: binding)
    guard let source = host.exchange(binding.source) else { throw .noExchange(binding.source, virtualHost) }
    var isDurable = source.isDurable
    if case .exchange(let name) = binding.destination {
      guard let destination = host.exchange(name) else { throw .noExchange(name, virtualHost) }
      isDurable = isDurable && destination.isDurable
    } else {
      if case .missing = state {
        throw RoutingError(
          .notFound, "no \(binding.destination.kind) '\(binding.destination.name)' in vhost '\(virtualHost)'")
      }
      if case .transient = state { isDurable = false }
    }
    try Routing.checkLength(binding.key.count, "routing key")
    try Routing.checkDepth(binding.arguments)
    switch source.routingType {
    case .headers: try HeadersRule.check(binding.arguments)
    case .consistentHash: _ = try WeightedChoice.weight(binding.key)
    default: break
    }
    return host.number(of: binding) >= 0 ? .exists : .new(isDurable: isDurable)
  }

  /// Whether a binding may be removed. When it, or one of its ends, is not there there is no error, and no removal either.
  /// - Throws: 403 when either end is the default exchange; 530 when there is no such virtual host.
  public func checkUnbind(_ binding: Binding, in virtualHost: String) throws(RoutingError) {
    _ = try host(virtualHost)
    try Routing.checkEnds(of: binding)
  }

  private static func checkEnds(of binding: Binding) throws(RoutingError) {
    if binding.source.isEmpty { throw .defaultExchange }
    if case .exchange("") = binding.destination { throw .defaultExchange }
  }

  static func checkLength(_ length: Int, _ what: String) throws(RoutingError) {
    if length > maximumNameLength {
      throw RoutingError(.preconditionFailed, "\(what) of \(length) bytes exceeds \(maximumNameLength)")
    }
  }

  static func checkDepth(_ arguments: RoutingTable) throws(RoutingError) {
    if arguments.depth > RoutingTable.maximumDepth {
      throw RoutingError(.preconditionFailed, "arguments nest deeper than \(RoutingTable.maximumDepth) levels")
    }
  }
}

extension Exchange {
  /// Refuses a declaration that differs from this exchange. Of the arguments only the alternate exchange is compared.
  func checkEquivalence(_ asked: Exchange, in virtualHost: String) throws(RoutingError) {
    func check(_ argument: String, _ received: String, _ current: String) throws(RoutingError) {
      if sameBytes(received, current) { return }
      throw RoutingError(
        .preconditionFailed,
        "inequivalent arg '\(argument)' for exchange '\(name)' in vhost '\(virtualHost)': "
          + "received \(received) but current is \(current)")
    }
    try check("type", asked.type.words, type.words)
    try check("durable", "'\(asked.isDurable)'", "'\(isDurable)'")
    try check("auto_delete", "'\(asked.isAutoDelete)'", "'\(isAutoDelete)'")
    try check("internal", "'\(asked.isInternal)'", "'\(isInternal)'")
    let key = "alternate-exchange"
    switch (asked.arguments[key], arguments[key]) {
    case (let received?, let current?):
      if received != current { try check(key, "'\(received.words)'", "'\(current.words)'") }
    case (let received, let current):
      func words(_ value: RoutingValue?) -> String {
        value.map { "the value '\($0.words)' of type '\($0.typeName)'" } ?? "none"
      }
      try check(key, words(received), words(current))
    }
  }

  /// Refuses arguments that make no sense.
  func checkArguments(in virtualHost: String) throws(RoutingError) {
    try Routing.checkDepth(arguments)
    try checkText("alternate-exchange", in: virtualHost)
    guard routingType == .consistentHash else { return }
    try checkText("hash-header", in: virtualHost)
    try checkText("hash-property", in: virtualHost)
    guard let property = arguments["hash-property"]?.text else { return }
    if arguments["hash-header"] != nil {
      throw RoutingError(.preconditionFailed, "hash-header and hash-property are mutually exclusive")
    }
    if MessageProperty(rawValue: property) == nil {
      throw RoutingError(.preconditionFailed, "Unsupported property: \(property)")
    }
  }

  private func checkText(_ argument: String, in virtualHost: String) throws(RoutingError) {
    guard let value = arguments[argument], value.text == nil else { return }
    throw RoutingError(
      .preconditionFailed,
      "invalid type '\(value.typeName)' for arg '\(argument)' in exchange '\(name)' in vhost '\(virtualHost)'")
  }
}

extension ExchangeType {
  /// As RabbitMQ prints it: a type is an Erlang atom, and one with a dash in it has quotes of its own.
  fileprivate var words: String { rawValue.contains("-") ? "''\(rawValue)''" : "'\(rawValue)'" }
}
