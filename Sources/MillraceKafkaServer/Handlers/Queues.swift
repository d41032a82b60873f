// Queues: Millrace's own request for queues, exchanges and bindings: what is declared, listed, bound and deleted.

import MillraceBase
import MillraceBroker
import MillraceKafkaProtocol
import MillraceRouting

extension KafkaConnection {
  typealias AnswerQueues = (QueueAnswer) -> Void

  /// One at a time, as fetches: an answer may hold a page of messages.
  func answerQueues(
    _ header: RequestHeader, _ reader: ByteReader, _ pending: PendingRequest
  ) throws(DecodingError) {
    guard header.apiVersion == QueueAPI.version else {
      return refuse("the request for queues has no version \(header.apiVersion)")
    }
    var reader = reader
    let call = try QueueCall(from: &reader)
    isFetching = true
    let send = reserve(pending)
    let answer: AnswerQueues = { [self] answer in
      isFetching = false
      send(QueueAPI.response(answer, correlationID: header.correlationID))
      goOn()
    }
    do throws(RoutingError) {
      try handle(call.request, in: call.virtualHost, answer)
    } catch {
      answer(.refused(QueueRefusal(error)))
    }
  }

  /// What the client may do to queues and exchanges.
  func queueAccess(in virtualHost: String) -> QueueAccess { QueueAccess(client, broker.queues, in: virtualHost) }

  private func handle(
    _ request: QueueRequest, in virtualHost: String, _ answer: @escaping AnswerQueues
  ) throws(RoutingError) {
    let access = queueAccess(in: virtualHost)
    let queues: QueueBroker = broker.queues
    func done(_ error: RoutingError?) { answer(error.map { .refused(QueueRefusal($0)) } ?? .done) }
    func counted(_ result: Result<Int, RoutingError>) {
      answer(KafkaConnection.answer(result) { .count(Int64($0)) })
    }
    switch request {
    case .declareQueue(let name, let isDurable, let isAutoDelete, let arguments):
      try KafkaConnection.check(name: name)
      let declaration = QueueDeclaration(
        name: name, virtualHost: virtualHost, isDurable: isDurable, isAutoDelete: isAutoDelete, arguments: arguments)
      try access.requireDeclaration(of: declaration)
      queues.declare(declaration, in: virtualHost, owner: nil) { result in
        answer(
          KafkaConnection.answer(result) {
            .declared(
              name: $0.name, messages: Int64($0.messageCount), consumers: Int32(clamping: $0.consumerCount))
          })
      }
    case .deleteQueue(let name, let ifUnused, let ifEmpty):
      try access.requireQueue(.delete, name)
      // A queue that is not there is none to AMQP's delete; who types its name wants to know.
      _ = try queues.inspect(name, in: virtualHost, owner: nil)
      queues.delete(
        name, in: virtualHost, ifUnused: ifUnused, ifEmpty: ifEmpty, owner: nil, completion: counted)
    case .purgeQueue(let name):
      try access.requireQueue(.read, name)
      queues.purge(name, in: virtualHost, owner: nil, completion: counted)
    case .listQueues(let after): answer(try listQueues(in: virtualHost, after: after))
    case .declareExchange(let name, let type, let isDurable, let isAutoDelete, let isInternal, let arguments):
      try KafkaConnection.check(name: name)
      let exchange = try Exchange(
        name: name, type: type, isDurable: isDurable, isAutoDelete: isAutoDelete, isInternal: isInternal,
        arguments: arguments)
      try access.requireDeclaration(of: exchange)
      queues.declareExchange(exchange, in: virtualHost, completion: done)
    case .deleteExchange(let name, let ifUnused):
      try access.requireExchange(.delete, name)
      try queues.checkExchange(name, in: virtualHost)
      queues.deleteExchange(name, ifUnused: ifUnused, in: virtualHost, completion: done)
    case .listExchanges(let after): answer(try listExchanges(in: virtualHost, after: after))
    case .bind(let binding):
      try access.requireBinding(binding)
      queues.bind(binding, in: virtualHost, owner: nil, by: client.identity, completion: done)
    case .unbind(let binding):
      try access.requireBinding(binding)
      queues.unbind(binding, in: virtualHost, owner: nil, by: client.identity, completion: done)
    case .listBindings(let after): answer(try listBindings(in: virtualHost, after: after))
    case .publish(let publication): try publish(publication, in: virtualHost, answer)
    case .take(let queue, let limit):
      try access.requireQueue(.read, queue)
      try take(queue, in: virtualHost, limit: limit, answer)
    case .settle(let isAcknowledged): settleTaken(isAcknowledged: isAcknowledged, answer)
    case .browse(let queue, let selection, let from, let limit):
      try access.requireQueue(.read, queue)
      queues.browse(
        queue, in: virtualHost, owner: nil, from: from, limit: KafkaConnection.pageSize(limit),
        bytes: QueueAPI.pageBytes
      ) { result in answer(KafkaConnection.answer(result) { KafkaConnection.page($0, selection) }) }
    case .remove(let queue, let position):
      try access.requireQueue(.read, queue)
      remove(position, from: queue, in: virtualHost, counted)
    case .move(let queue, let target, let limit):
      try access.requireQueue(.read, queue)
      if let target { try access.requireQueue(.write, target) }
      try move(from: queue, to: target, in: virtualHost, limit: limit, counted)
    }
  }

  static func answer<Value>(_ result: Result<Value, RoutingError>, _ body: (Value) -> QueueAnswer) -> QueueAnswer {
    switch result {
    case .success(let value): body(value)
    case .failure(let error): .refused(QueueRefusal(error))
    }
  }

  static func pageSize(_ limit: Int32) -> Int { min(max(1, Int(limit)), QueueAPI.mostEntries) }

  /// AMQP's clients could not name it: line breaks are taken out of the names that they send.
  private static func check(name: String) throws(RoutingError) {
    guard !name.utf8.contains(where: { $0 == 10 || $0 == 13 }) else {
      throw RoutingError(.preconditionFailed, "a name must not contain line breaks")
    }
  }

  // MARK: Lists

  /// As many entries as a page takes, at least one.
  private static func fitting<Entry>(_ entries: [Entry], _ encode: (inout ByteWriter, Entry) -> Void) -> Int {
    var writer = ByteWriter(capacity: 4096)
    for (index, entry) in entries.enumerated() {
      if writer.count >= QueueAPI.pageBytes { return index }
      encode(&writer, entry)
    }
    return entries.count
  }

  /// A page of what the client may see: pages without any of that are passed over, because a list goes on behind the last entry
  /// that was shown.
  private static func visible<Entry>(
    after: String?, _ read: (_ after: String?, _ limit: Int) throws(RoutingError) -> [Entry], _ name: (Entry) -> String,
    _ isVisible: (Entry) -> Bool
  ) throws(RoutingError) -> (entries: [Entry], isMore: Bool) {
    var after = after
    while true {
      let page = try read(after, QueueAPI.mostEntries + 1)
      let entries = page.prefix(QueueAPI.mostEntries)
      let isMore = page.count > entries.count
      let shown = entries.filter(isVisible)
      guard shown.isEmpty, isMore, let last = entries.last else { return (Array(shown), isMore) }
      after = name(last)
    }
  }

  private func listQueues(in virtualHost: String, after: String?) throws(RoutingError) -> QueueAnswer {
    let access = queueAccess(in: virtualHost)
    let (page, isMore) = try KafkaConnection.visible(
      after: after,
      { after, limit throws(RoutingError) in try broker.queues.list(in: virtualHost, after: after, limit: limit) },
      \.declaration.name
    ) { access.seesQueue(.describe, $0.declaration.name) }
    let entries = page.map { QueueEntry($0) }
    let count = KafkaConnection.fitting(entries) { $1.encode(to: &$0) }
    return .queues(Array(entries.prefix(count)), isMore: isMore || count < entries.count)
  }

  private func listExchanges(in virtualHost: String, after: String?) throws(RoutingError) -> QueueAnswer {
    let access = queueAccess(in: virtualHost)
    let (entries, isMore) = try KafkaConnection.visible(
      after: after,
      { after, limit throws(RoutingError) in
        try broker.queues.exchanges(in: virtualHost, after: after, limit: limit)
      }, \.name
    ) { access.seesExchange(.describe, $0.name) }
    let count = KafkaConnection.fitting(entries) { $0.exchange($1) }
    return .exchanges(Array(entries.prefix(count)), isMore: isMore || count < entries.count)
  }

  private func listBindings(in virtualHost: String, after: BindingCursor?) throws(RoutingError) -> QueueAnswer {
    let access = queueAccess(in: virtualHost)
    var from = after.map { (exchange: $0.exchange, count: Int(clamping: $0.count)) }
    var limit = QueueAPI.mostEntries
    while true {
      let page = try broker.queues.bindings(in: virtualHost, from: from, limit: limit)
      let count = KafkaConnection.fitting(page.bindings) { $0.binding($1) }
      // A shorter page knows itself where it ends.
      if count < page.bindings.count {
        limit = count
        continue
      }
      let shown = page.bindings.filter { access.sees($0) }
      if shown.isEmpty, let next = page.next {
        from = next
        limit = QueueAPI.mostEntries
        continue
      }
      return .bindings(
        shown, next: page.next.map { BindingCursor(exchange: $0.exchange, count: Int64($0.count)) })
    }
  }
}

extension QueueEntry {
  fileprivate init(_ queue: QueueDescription) {
    self.init(
      name: queue.declaration.name, type: queue.arguments.type.rawValue, arguments: queue.declaration.arguments)
    isDurable = queue.isDurable
    isExclusive = queue.declaration.isExclusive
    isAutoDelete = queue.declaration.isAutoDelete
    length = Int64(queue.length)
    lengthBytes = queue.lengthBytes
    inFlight = Int64(queue.inFlight)
    delayed = Int64(queue.delayed)
    consumers = Int64(queue.consumers)
  }
}
