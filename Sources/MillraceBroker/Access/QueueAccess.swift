// QueueAccess: what a client may do to queues, exchanges and bindings of a virtual host, whichever protocol it speaks.
//
// RabbitMQ's rules, in the terms of ours: configure is `create` or `delete`, read and write are themselves, and what RabbitMQ
// lets everybody do, looking at what is there, is `describe`. Resources are named as ``ResourceName/inVirtualHost(_:_:)`` says,
// the default exchange `amq.default`, a queue whose name the server chooses `amq.gen-` at its declaration.
//
// A topic that is used as a queue is a topic: rules about topics hold for it, and none about queues. That includes a publication
// to the default exchange whose key names a topic, and a binding to one. Source: RabbitMQ 4, `rabbit_channel`.

import MillraceBase
import MillraceRouting
import MillraceSecurity

/// One client's rights in one virtual host. Belongs to the broker's reactor.
public struct QueueAccess {
  private let session: ClientSession
  private let queues: QueueBroker
  private let virtualHost: String

  /// The name of the default exchange in rules. Source: RabbitMQ, `rabbit_access_control:check_resource_access`.
  public static let defaultExchange = "amq.default"
  /// What stands for the names that the server chooses for queues.
  public static let serverNamed = "amq.gen-"

  /// The rights of a client.
  public init(_ session: ClientSession, _ queues: QueueBroker, in virtualHost: String) {
    self.session = session
    self.queues = queues
    self.virtualHost = virtualHost
  }

  /// Whether the client may use the virtual host at all.
  public func allowsVirtualHost() -> Bool {
    session.isUnrestricted || session.allows(.describe, .virtualHost, virtualHost)
  }

  // MARK: One thing

  /// - Throws: 403 when the client may not do this to the queue, or to the topic that the name stands for.
  public func requireQueue(_ operation: AccessOperation, _ name: String) throws(RoutingError) {
    if session.isFree(operation) { return }
    let isTopic = queues.isTopic(name, in: virtualHost)
    let isAllowed =
      isTopic
      ? session.allows(operation, .topic, name)
      : session.allows(operation, .queue, ResourceName.inVirtualHost(virtualHost, name))
    guard isAllowed else { throw refusal(operation, "queue '\(name)'") }
  }

  /// Whether the client may do this to the queue, or the topic; for lists.
  public func seesQueue(_ operation: AccessOperation, _ name: String) -> Bool {
    if session.isUnrestricted { return true }
    return queues.isTopic(name, in: virtualHost)
      ? session.sees(operation, .topic, name)
      : session.sees(operation, .queue, ResourceName.inVirtualHost(virtualHost, name))
  }

  /// - Parameter name: empty for the default exchange.
  /// - Throws: 403 when the client may not do this to the exchange.
  public func requireExchange(_ operation: AccessOperation, _ name: String) throws(RoutingError) {
    if session.isFree(operation) { return }
    let name = name.isEmpty ? QueueAccess.defaultExchange : name
    guard session.allows(operation, .exchange, ResourceName.inVirtualHost(virtualHost, name)) else {
      throw refusal(operation, "exchange '\(name)'")
    }
  }

  /// Whether the client may do this to the exchange; for lists.
  public func seesExchange(_ operation: AccessOperation, _ name: String) -> Bool {
    session.isUnrestricted
      || session.sees(
        operation, .exchange,
        ResourceName.inVirtualHost(virtualHost, name.isEmpty ? QueueAccess.defaultExchange : name))
  }

  /// - Throws: 403 when the client may not read as a member of this share group.
  public func requireGroup(_ name: String) throws(RoutingError) {
    guard session.isUnrestricted || session.allows(.read, .group, name) else {
      throw refusal(.read, "group '\(name)'")
    }
  }

  // MARK: Declarations

  /// - Throws: 403 when the client may not declare this queue: it must be allowed to create it, and, for a new one with a
  ///   dead-letter exchange, to read it and to write to that one.
  public func requireDeclaration(of queue: QueueDeclaration) throws(RoutingError) {
    if session.isFree(.create) { return }
    let name = queue.name.isEmpty ? QueueAccess.serverNamed : queue.name
    if QueueType(queue.arguments) == .stream, !queues.has(name, in: virtualHost) {
      let isAllowed =
        session.sees(.create, .cluster, ResourceName.cluster) || session.allows(.create, .topic, name)
      guard isAllowed else { throw refusal(.create, "queue '\(name)'") }
      return
    }
    let resource = ResourceName.inVirtualHost(virtualHost, name)
    guard session.allows(.create, .queue, resource) else { throw refusal(.create, "queue '\(name)'") }
    // From then on the queue gets what was meant for the topic.
    if queues.isTopic(name, in: virtualHost) { try requireQueue(.create, name) }
    guard !queues.has(name, in: virtualHost), let exchange = queue.arguments["x-dead-letter-exchange"]?.text else {
      return
    }
    guard session.allows(.read, .queue, resource) else { throw refusal(.read, "queue '\(name)'") }
    try requireExchange(.write, exchange)
    if exchange.isEmpty, let key = queue.arguments["x-dead-letter-routing-key"]?.text { try requireTopic(key) }
  }

  /// - Throws: 403 when the client may not declare this exchange: it must be allowed to create it, and, for a new one with an
  ///   alternate exchange, to read it and to write to that one.
  public func requireDeclaration(of exchange: Exchange) throws(RoutingError) {
    if session.isFree(.create) { return }
    try requireExchange(.create, exchange.name)
    guard let alternate = exchange.alternate, !queues.hasExchange(exchange.name, in: virtualHost) else { return }
    try requireExchange(.read, exchange.name)
    try requireExchange(.write, alternate)
  }

  /// - Throws: 403 when the client may not bind, or unbind: it must be allowed to write to what is bound, and to read the exchange.
  public func requireBinding(_ binding: Binding) throws(RoutingError) {
    if session.isUnrestricted { return }
    switch binding.destination {
    case .exchange(let name): try requireExchange(.write, name)
    case .queue(let name), .topic(let name): try requireQueue(.write, name)
    }
    try requireExchange(.read, binding.source)
  }

  /// Whether the client may know of a binding: of what it leads from, and to.
  public func sees(_ binding: Binding) -> Bool {
    if session.isUnrestricted { return true }
    guard seesExchange(.describe, binding.source) else { return false }
    return switch binding.destination {
    case .exchange(let name): seesExchange(.describe, name)
    case .queue(let name), .topic(let name): seesQueue(.describe, name)
    }
  }

  // MARK: Publishing

  /// The exchange is to be checked by itself.
  /// - Throws: 403 when one of the keys of a publication to the default exchange names a topic that the client may not write to.
  public func requireTopics(_ key: Bytes, _ more: [Bytes]) throws(RoutingError) {
    if session.isUnrestricted { return }
    try requireTopic(key.text)
    for key in more { try requireTopic(key.text) }
  }

  private func requireTopic(_ key: String) throws(RoutingError) {
    guard queues.isTopic(key, in: virtualHost) else { return }
    try requireQueue(.write, key)
  }

  /// RabbitMQ's words. Source: `rabbit_access_control:check_resource_access`.
  private func refusal(_ operation: AccessOperation, _ what: String) -> RoutingError {
    let permission =
      switch operation {
      case .create, .delete, .alter: "configure"
      default: operation.word
      }
    return RoutingError(
      .accessRefused,
      "\(permission) access to \(what) in vhost '\(virtualHost)' refused for user '\(session.principal.name)'")
  }
}

extension QueueBroker {
  /// Whether a queue's name stands for a topic.
  func isTopic(_ name: String, in virtualHost: String) -> Bool {
    find(name, in: virtualHost) == nil && stream(name, in: virtualHost) != nil
  }

  /// Whether there is an exchange of this name.
  func hasExchange(_ name: String, in virtualHost: String) -> Bool {
    do throws(RoutingError) {
      try checkExchange(name, in: virtualHost)
      return true
    } catch {
      return false
    }
  }
}
