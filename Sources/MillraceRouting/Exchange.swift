// Exchange: an exchange's name, type and arguments, and the ones that every virtual host has.

import MillraceBase

/// How an exchange routes.
public enum ExchangeType: String, CaseIterable, Sendable {
  /// To the bindings of exactly this routing key.
  case direct
  /// To all bindings.
  case fanout
  /// To the bindings whose pattern fits: words between dots, `*` for one word, `#` for any number.
  case topic
  /// To the bindings whose arguments fit the message's headers.
  case headers
  /// To one binding, chosen by a hash; a binding's key is its weight.
  case consistentHash = "x-consistent-hash"
  /// To one destination, chosen by the hash of the routing key modulo their number.
  case modulusHash = "x-modulus-hash"
  /// To one destination, at random.
  case random = "x-random"
  /// To one destination, at random; RabbitMQ prefers local queues, and here all are.
  case localRandom = "x-local-random"
  /// As the type that `x-delayed-type` names, after the delay that the message's `x-delay` asks for.
  case delayed = "x-delayed-message"
}

/// What a consistent-hash exchange may hash instead of the routing key; the raw value is the argument `hash-property`.
public enum MessageProperty: String, CaseIterable, Sendable {
  /// The property correlation-id.
  case correlationID = "correlation_id"
  /// The property message-id.
  case messageID = "message_id"
  /// The property timestamp, as decimal digits.
  case timestamp
}

/// An exchange as it is declared.
public struct Exchange: Equatable, Sendable {
  /// Its name, at most 255 bytes; empty for the default exchange.
  public let name: String
  /// Its declared type.
  public let type: ExchangeType
  /// Survives a restart.
  public let isDurable: Bool
  /// Goes when the last binding from it goes.
  public let isAutoDelete: Bool
  /// Takes messages from other exchanges only.
  public let isInternal: Bool
  /// `alternate-exchange`, `hash-header`, `hash-property`, `x-delayed-type` and what else the client says.
  public let arguments: RoutingTable
  /// How it routes: the declared type, or the one that `x-delayed-type` names.
  public let routingType: ExchangeType

  /// Messages that pass through it may have to wait.
  public var isDelayed: Bool { type == .delayed }

  /// Where messages go that fit no binding, nil when they go nowhere.
  public var alternate: String? { arguments["alternate-exchange"]?.text }

  /// An exchange of the type that a client names.
  /// - Throws: 406 when there is no such type, or `x-delayed-type` does not name one that can be delayed.
  public init(
    name: String, type: String, isDurable: Bool = false, isAutoDelete: Bool = false, isInternal: Bool = false,
    arguments: RoutingTable = .empty
  ) throws(RoutingError) {
    guard let known = ExchangeType(rawValue: type) else {
      throw RoutingError(.preconditionFailed, "unknown exchange type '\(type)'")
    }
    var routingType = known
    if known == .delayed {
      guard let named = arguments["x-delayed-type"]?.text.flatMap(ExchangeType.init(rawValue:)), named != .delayed
      else {
        throw RoutingError(
          .preconditionFailed, "Invalid argument, 'x-delayed-type' must be an existing exchange type")
      }
      routingType = named
    }
    self.init(
      name: name, type: known, routingType: routingType, isDurable: isDurable, isAutoDelete: isAutoDelete,
      isInternal: isInternal, arguments: arguments)
  }

  init(
    name: String, type: ExchangeType, routingType: ExchangeType, isDurable: Bool, isAutoDelete: Bool, isInternal: Bool,
    arguments: RoutingTable
  ) {
    self.name = name
    self.type = type
    self.routingType = routingType
    self.isDurable = isDurable
    self.isAutoDelete = isAutoDelete
    self.isInternal = isInternal
    self.arguments = arguments
  }

  /// What every virtual host has from the start. Source: RabbitMQ, `rabbit_vhost`.
  static let predeclared: [Exchange] = [
    ("", .direct), ("amq.direct", .direct), ("amq.fanout", .fanout), ("amq.headers", .headers),
    ("amq.match", .headers), ("amq.rabbitmq.trace", .topic), ("amq.topic", .topic),
  ].map { (name: String, type: ExchangeType) in
    Exchange(
      name: name, type: type, routingType: type, isDurable: true, isAutoDelete: false,
      isInternal: name == "amq.rabbitmq.trace", arguments: .empty)
  }

  /// Whether the broker keeps the name for itself: it is empty or begins with `amq.`.
  public static func isReserved(_ name: String) -> Bool { name.isEmpty || name.hasPrefix("amq.") }

  /// The exchange with arguments in memory of their own.
  func detached() -> Exchange {
    Exchange(
      name: name, type: type, routingType: routingType, isDurable: isDurable, isAutoDelete: isAutoDelete,
      isInternal: isInternal, arguments: arguments.detached())
  }
}
