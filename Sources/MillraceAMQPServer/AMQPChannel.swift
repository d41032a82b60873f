// AMQPChannel: one channel of a connection: its commands, one at a time and in order.
//
// A command whose answer waits for the broker holds back those behind it: they wait in a queue, and the connection reads no
// further when many do. What a class of methods does lies in AMQPChannel+Declarations.swift, +Access.swift, +Publish.swift,
// +Transactions.swift, +Consume.swift, +Settle.swift and +Get.swift.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceDelivery
import MillraceRouting

/// A channel. Who has it may send commands; errors close it, or the connection.
final class AMQPChannel {
  /// What a publication is part of.
  enum Mode { case plain, confirming, transactional }

  private struct Command {
    let method: AMQPMethod
    let content: (ContentHeader, ContentBody)?
    let size: Int
  }

  let connection: AMQPConnection
  let number: UInt16
  private(set) var isOpen = true
  private var assembler: CommandAssembler
  /// Bytes of the body that is not there as a whole.
  private var tornBytes = 0
  private var isNotedTorn = false
  /// The broker has not answered the command under way.
  private var isWaiting = false
  private var isServing = false
  private var backlog = Deque<Command>()
  private var backlogBytes = 0
  /// The queue that was declared last; an empty name means it.
  var lastQueue = ""

  // Publishing.
  var mode = Mode.plain
  var window = PublicationWindow()
  var publisher: QueuePublisher?
  @exclusivity(unchecked) var publishRights = PublishRights()
  var isAnswering = false
  var transaction = ChannelTransaction()

  // Consuming.
  var consumers: [String: AMQPConsumer] = [:]
  var getters: [String: AMQPGetter] = [:]
  var replyConsumer: ReplyConsumer?
  var unacknowledged = Unacknowledged<QueueConsumer>()
  var lastTag: UInt64 = 0
  /// Deliveries that each consumer may have unsettled, 0 for no limit.
  var prefetch = 0
  /// Deliveries that all consumers may have unsettled together.
  let pool = CreditPool(limit: 0)

  init(connection: AMQPConnection, number: UInt16) {
    self.connection = connection
    self.number = number
    assembler = CommandAssembler(largestBody: connection.server.largestMessage)
  }

  var broker: Broker { connection.broker }
  var queues: QueueBroker { connection.broker.queues }
  var virtualHost: String { connection.virtualHost }
  /// Whether commands are under way or wait.
  var isBusy: Bool { isWaiting || !backlog.isEmpty }

  // MARK: Input

  /// Whether a publication may be taken as a whole: nothing waits, and none has begun frame by frame.
  var takesWholePublications: Bool {
    publisher != nil && mode != .transactional && !isBusy && !assembler.isInsideContent
  }

  /// Takes the channel's next frame.
  func receive(_ frame: AMQPFrame) throws(AMQPError) {
    let output: CommandAssembler.Output
    do throws(AMQPError) {
      output = try assembler.receive(frame)
    } catch {
      changeTorn(by: -tornBytes)
      throw error
    }
    switch output {
    case .incomplete:
      if frame.kind == .body { changeTorn(by: frame.payload.count) }
      if !isNotedTorn {
        isNotedTorn = true
        connection.note(torn: self)
      }
    case .method(let method): try take(method, nil)
    case .content(let method, let header, let body):
      changeTorn(by: -tornBytes)
      try take(method, (header, body))
    }
  }

  private func changeTorn(by bytes: Int) {
    guard bytes != 0 else { return }
    tornBytes += bytes
    connection.hold(bytes)
    connection.holdUnfinished(bytes)
  }

  /// The input has ended: what is there of a content must not keep the whole of it in memory.
  func detach() {
    isNotedTorn = false
    assembler.detach()
  }

  private func take(_ method: AMQPMethod, _ content: (ContentHeader, ContentBody)?) throws(AMQPError) {
    guard isBusy || mustWait(method) else { return try serve(method, content) }
    let size = 64 + (content.map { $0.0.properties.encoded.count + $0.1.count } ?? 0)
    var detached = content
    if let (header, body) = content {
      detached = (ContentHeader(bodySize: header.bodySize, properties: header.properties.detached), body.detached)
    }
    backlog.append(Command(method: method.detached, content: detached, size: size))
    backlogBytes += size
    connection.waitingCommands += 1
    connection.hold(size)
  }

  /// Whether a command has to wait for what was published before: who looks at a queue sees what it has published to it.
  private func mustWait(_ method: AMQPMethod) -> Bool {
    guard window.waiting > 0 else { return false }
    switch method {
    case .basicGet, .queueDeclare, .queuePurge, .queueDelete: return true
    default: return false
    }
  }

  /// Takes up the commands that waited.
  func serveBacklog() {
    guard !isServing else { return }
    isServing = true
    let since = backlog.isEmpty ? nil : connection.timeToCharge()
    while isOpen, !isWaiting, let next = backlog.first, !mustWait(next.method) {
      // Their answers would pile up.
      if connection.holdsBackCommands() { break }
      let command = backlog.removeFirst()
      backlogBytes -= command.size
      connection.waitingCommands -= 1
      connection.hold(-command.size)
      do throws(AMQPError) {
        try serve(command.method, command.content)
      } catch {
        connection.fail(error, on: self)
      }
    }
    isServing = false
    if let since { connection.chargeTaking(since: since) }
    if isOpen, !isBusy { connection.channelIsIdle() }
    connection.throttle()
  }

  private func serve(_ method: AMQPMethod, _ content: (ContentHeader, ContentBody)?) throws(AMQPError) {
    do throws(AMQPError) {
      if let (header, body) = content, case .basicPublish(let fields) = method {
        try publish(fields, header.properties, body)
      } else {
        try handle(method)
      }
    } catch {
      throw error.method == .none ? AMQPError(error.code, error.reason, method.id) : error
    }
  }

  private func handle(_ method: AMQPMethod) throws(AMQPError) {
    switch method {
    case .basicAck(let fields): try acknowledge(fields)
    case .basicNack(let fields):
      try settle(fields.deliveryTag, multiple: fields.multiple, requeue: fields.requeue, isFailure: false)
    case .basicReject(let fields):
      try settle(fields.deliveryTag, multiple: false, requeue: fields.requeue, isFailure: true)
    case .basicGet(let fields): try get(fields)
    case .basicConsume(let fields): try consume(fields)
    case .basicCancel(let fields): cancel(fields)
    case .basicQos(let fields): try setPrefetch(fields)
    case .basicRecover(let fields):
      try recover(requeue: fields.requeue)
      write(BasicRecoverOk())
    case .basicRecoverAsync(let fields): try recover(requeue: fields.requeue)
    case .confirmSelect(let fields): try selectConfirms(fields)
    case .txSelect: try selectTransactions()
    case .txCommit: try commit()
    case .txRollback: try rollBack()
    case .queueDeclare(let fields): try declare(fields)
    case .queueBind(let fields): try bind(fields)
    case .queueUnbind(let fields): try unbind(fields)
    case .queuePurge(let fields): try purge(fields)
    case .queueDelete(let fields): try delete(fields)
    case .exchangeDeclare(let fields): try declare(fields)
    case .exchangeDelete(let fields): try delete(fields)
    case .exchangeBind(let fields): try bind(fields)
    case .exchangeUnbind(let fields): try unbind(fields)
    default: try handleOwn(method)
    }
  }

  /// The methods of the channel itself.
  private func handleOwn(_ method: AMQPMethod) throws(AMQPError) {
    switch method {
    case .channelOpen: throw AMQPError(.channelError, "second 'channel.open' seen")
    case .channelClose:
      // What was acknowledged before an orderly end never comes back.
      isWaiting = true
      queues.whenDurable { [self] error in
        isWaiting = false
        guard isOpen else { return }
        if let error { return connection.fail(AMQPError(error, method.id), on: self) }
        writeConfirms()
        release(isFailure: false)
        connection.remove(self)
        write(ChannelCloseOk())
        connection.channelIsIdle()
      }
    case .channelFlow(let fields):
      guard fields.active else { throw AMQPError(.notImplemented, "active=false") }
      write(ChannelFlowOk(active: true))
    case .accessRequest: write(AccessRequestOk())
    default: throw AMQPError(.commandInvalid, "clients do not send this method on a channel")
    }
  }

  // MARK: Output

  func write<Method: AMQPMethodFields>(_ method: Method) { connection.write(method, channel: number) }

  /// Holds back what follows until the result, which the broker is to be given, has been called; it calls `answer`, or
  /// closes the channel.
  func waiting<Value>(
    _ method: MethodID, _ answer: @escaping (Value) -> Void
  ) -> (Result<Value, RoutingError>) -> Void {
    isWaiting = true
    return { [self] result in
      isWaiting = false
      guard isOpen else { return }
      switch result {
      case .success(let value): answer(value)
      case .failure(let error): connection.fail(AMQPError(error, method), on: self)
      }
      serveBacklog()
    }
  }

  /// The same for what has no value.
  func waiting(_ method: MethodID, then answer: @escaping () -> Void) -> (RoutingError?) -> Void {
    let done: (Result<Void, RoutingError>) -> Void = waiting(method) { (_: Void) in answer() }
    return { error in done(error.map { .failure($0) } ?? .success(())) }
  }

  // MARK: End

  /// Gives up what the channel has: what was delivered and not settled goes back. Once only.
  func release(isFailure: Bool) {
    guard isOpen else { return }
    isOpen = false
    changeTorn(by: -tornBytes)
    connection.waitingCommands -= backlog.count
    connection.hold(-backlogBytes)
    backlog = Deque()
    backlogBytes = 0
    putBackSettlements()
    endTransaction()
    releaseConsumers(isFailure: isFailure)
    // Publications that are not settled count until they are.
    if window.waiting == 0 { publisher = nil }
  }
}

extension AMQPError {
  /// A refusal of the broker as an error for `method`.
  init(_ error: RoutingError, _ method: MethodID = .none) {
    self.init(ReplyCode(rawValue: error.code.replyCode) ?? .internalError, error.message, method)
  }
}
