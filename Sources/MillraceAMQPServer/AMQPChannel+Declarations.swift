// AMQPChannel+Declarations: the classes exchange and queue: what there is, and what is bound to what.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceRouting

extension AMQPChannel {
  // MARK: Exchanges

  func declare(_ fields: ExchangeDeclare) throws(AMQPError) {
    let name = AMQPChannel.stripped(fields.exchange)
    func answer() { if !fields.noWait { write(ExchangeDeclareOk()) } }
    if fields.passive {
      try permitted { access throws(RoutingError) in try access.requireExchange(.describe, name) }
      do throws(RoutingError) {
        try queues.checkExchange(name, in: virtualHost)
      } catch {
        throw AMQPError(error)
      }
      return answer()
    }
    let exchange: Exchange
    do throws(RoutingError) {
      exchange = try Exchange(
        name: name, type: fields.type, isDurable: fields.durable, isAutoDelete: fields.autoDelete,
        isInternal: fields.internal, arguments: RoutingTable(fields.arguments))
    } catch {
      throw AMQPError(error)
    }
    try permitted { access throws(RoutingError) in try access.requireDeclaration(of: exchange) }
    queues.declareExchange(exchange, in: virtualHost, completion: waiting(ExchangeDeclare.id, then: answer))
  }

  func delete(_ fields: ExchangeDelete) throws(AMQPError) {
    let name = AMQPChannel.stripped(fields.exchange)
    try permitted { access throws(RoutingError) in try access.requireExchange(.delete, name) }
    queues.deleteExchange(
      name, ifUnused: fields.ifUnused, in: virtualHost,
      completion: waiting(ExchangeDelete.id) { [self] in if !fields.noWait { write(ExchangeDeleteOk()) } })
  }

  func bind(_ fields: ExchangeBind) throws(AMQPError) {
    let binding = Binding(
      source: AMQPChannel.stripped(fields.source), destination: .exchange(AMQPChannel.stripped(fields.destination)),
      key: fields.routingKey, arguments: RoutingTable(fields.arguments))
    try permitted { access throws(RoutingError) in try access.requireBinding(binding) }
    queues.bind(
      binding, in: virtualHost, owner: connection.owner, by: connection.session.identity,
      completion: waiting(ExchangeBind.id) { [self] in if !fields.noWait { write(ExchangeBindOk()) } })
  }

  func unbind(_ fields: ExchangeUnbind) throws(AMQPError) {
    let binding = Binding(
      source: AMQPChannel.stripped(fields.source), destination: .exchange(AMQPChannel.stripped(fields.destination)),
      key: fields.routingKey, arguments: RoutingTable(fields.arguments))
    try permitted { access throws(RoutingError) in try access.requireBinding(binding) }
    queues.unbind(
      binding, in: virtualHost, owner: connection.owner, by: connection.session.identity,
      completion: waiting(ExchangeUnbind.id) { [self] in if !fields.noWait { write(ExchangeUnbindOk()) } })
  }

  // MARK: Queues

  func declare(_ fields: QueueDeclare) throws(AMQPError) {
    let name = AMQPChannel.stripped(fields.queue)
    if name.hasPrefix(ReplyConsumer.queue) { return try declareReplies(name, fields) }
    func answer(_ status: QueueStatus) {
      lastQueue = status.name
      guard !fields.noWait else { return }
      write(
        QueueDeclareOk(
          queue: status.name, messageCount: UInt32(clamping: status.messageCount),
          consumerCount: UInt32(clamping: status.consumerCount)))
    }
    if fields.passive {
      let queue = try queueName(name)
      try permitted { access throws(RoutingError) in try access.requireQueue(.describe, queue) }
      do throws(RoutingError) {
        answer(try queues.inspect(queue, in: virtualHost, owner: connection.owner))
      } catch {
        throw AMQPError(error)
      }
      return
    }
    if name.hasPrefix("amq.") {
      throw AMQPError(.accessRefused, "queue name '\(name)' contains reserved prefix 'amq.*'")
    }
    let declaration = QueueDeclaration(
      name: name, virtualHost: virtualHost, isDurable: fields.durable, isExclusive: fields.exclusive,
      isAutoDelete: fields.autoDelete, arguments: RoutingTable(fields.arguments))
    try permitted { access throws(RoutingError) in try access.requireDeclaration(of: declaration) }
    queues.declare(
      declaration, in: virtualHost, owner: connection.owner, completion: waiting(QueueDeclare.id, answer))
  }

  /// Replies to a direct request have no queue; whether somebody waits for one can be asked, as if they had.
  private func declareReplies(_ name: String, _ fields: QueueDeclare) throws(AMQPError) {
    let isThere = name == ReplyConsumer.queue || ShortString(name).map { connection.server.replies[$0] != nil } ?? false
    guard isThere else { throw AMQPError(.notFound, "no queue '\(name)' in vhost '\(virtualHost)'") }
    lastQueue = name
    if !fields.noWait { write(QueueDeclareOk(queue: name, messageCount: 0, consumerCount: 1)) }
  }

  func bind(_ fields: QueueBind) throws(AMQPError) {
    let binding = try binding(fields.queue, fields.exchange, fields.routingKey, fields.arguments)
    try permitted { access throws(RoutingError) in try access.requireBinding(binding) }
    queues.bind(
      binding, in: virtualHost, owner: connection.owner, by: connection.session.identity,
      completion: waiting(QueueBind.id) { [self] in if !fields.noWait { write(QueueBindOk()) } })
  }

  func unbind(_ fields: QueueUnbind) throws(AMQPError) {
    let binding = try binding(fields.queue, fields.exchange, fields.routingKey, fields.arguments)
    try permitted { access throws(RoutingError) in try access.requireBinding(binding) }
    queues.unbind(
      binding, in: virtualHost, owner: connection.owner, by: connection.session.identity,
      completion: waiting(QueueUnbind.id) { [self] in write(QueueUnbindOk()) })
  }

  /// Without queue and key, the key is the queue's name, too.
  private func binding(
    _ queue: String, _ exchange: String, _ key: String, _ arguments: AMQPFieldTable
  ) throws(AMQPError) -> Binding {
    let name = try queueName(AMQPChannel.stripped(queue))
    return Binding(
      source: AMQPChannel.stripped(exchange), destination: .queue(name),
      key: queue.isEmpty && key.isEmpty ? name : key, arguments: RoutingTable(arguments))
  }

  func purge(_ fields: QueuePurge) throws(AMQPError) {
    let queue = try queueName(fields.queue)
    try permitted { access throws(RoutingError) in try access.requireQueue(.read, queue) }
    queues.purge(
      queue, in: virtualHost, owner: connection.owner,
      completion: waiting(QueuePurge.id) { [self] (count: Int) in
        if !fields.noWait { write(QueuePurgeOk(messageCount: UInt32(clamping: count))) }
      })
  }

  func delete(_ fields: QueueDelete) throws(AMQPError) {
    let queue = try queueName(AMQPChannel.stripped(fields.queue))
    try permitted { access throws(RoutingError) in try access.requireQueue(.delete, queue) }
    queues.delete(
      queue, in: virtualHost, ifUnused: fields.ifUnused,
      ifEmpty: fields.ifEmpty, owner: connection.owner,
      completion: waiting(QueueDelete.id) { [self] (count: Int) in
        if !fields.noWait { write(QueueDeleteOk(messageCount: UInt32(clamping: count))) }
      })
  }

  // MARK: Names

  /// The queue that a method names; an empty name is that of the queue declared last.
  func queueName(_ name: String) throws(AMQPError) -> String {
    guard name.isEmpty else { return name }
    guard !lastQueue.isEmpty else { throw AMQPError(.notFound, "no previously declared queue") }
    return lastQueue
  }

  /// A name without line feeds and carriage returns. Source: RabbitMQ, `rabbit_channel:strip_cr_lf`.
  static func stripped(_ name: String) -> String {
    guard name.utf8.contains(where: { $0 == 10 || $0 == 13 }) else { return name }
    return String(decoding: name.utf8.filter { $0 != 10 && $0 != 13 }, as: UTF8.self)
  }
}
