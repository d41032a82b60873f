// AMQPConnection: one client: frames in, commands to their channels, frames out.
//
//   header ─▶ starting ─▶ authenticating ─▶ tuning ─▶ opening ─▶ running ──connection.close from the client──▶ draining ─▶ over
//      └──────────┴──────────────┴─────────────┴─────────┴──────────┴──────an error, told the client──▶ closing ──────────▶ over
//
// While draining, channels finish what they were asked before; while closing, everything but the client's `close-ok` is
// dropped. The parts that belong to one state: AMQPConnection+Handshake.swift, +Flow.swift, +Closing.swift.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO

/// One client's connection. Answers of a channel leave in the order of its commands.
final class AMQPConnection: ConnectionHandler, RequestHolder, AdmittedConnection {
  enum State { case header, starting, authenticating, tuning, opening, running, draining, closing, over }

  let server: AMQPServer
  let connection: any Connection
  /// What the listener asks of its clients.
  let security: ListenerSecurity
  let number: UInt64
  /// Who the connection's exclusive queues belong to.
  let owner: QueueOwner
  var state = State.header
  // Every message goes through it; writing a frame calls nothing that comes back here.
  @exclusivity(unchecked) var writer = FrameWriter(capacity: 512)

  // What was settled in the handshake.
  var frameMax = AMQPFrame.initialFrameMax
  var channelMax = 0
  var heartbeat = Duration.zero
  var user = ""
  /// Who the client is, for rules; nobody in particular until that is known. Looked at with every message.
  @exclusivity(unchecked) var session: ClientSession
  var virtualHost = ""
  var capabilities = ClientCapabilities()
  /// Of a client that has shown a token: when it ends.
  var tokenTimer: Timer?

  /// Draining, with nothing left to do but to wait for the journal.
  var isFinishing = false
  var drainTimer: Timer?
  /// Draining for so long that what channels still wait for is given up.
  var isDrainingLong = false
  private(set) var channels: [UInt16: AMQPChannel] = [:]
  /// The channel of the latest frame, which is mostly that of the next one.
  private var latest: AMQPChannel?
  /// Channels that were closed because of an error, until the client confirms it.
  private var closedChannels: Set<UInt16> = []
  /// Channels with confirms to be written.
  private var answering: [AMQPChannel] = []
  /// Channels in the middle of a content at the end of the input.
  private var torn: [AMQPChannel] = []
  private(set) var isReceiving = false
  private var isFlushing = false
  private var isReleased = false

  // Back-pressure; see AMQPConnection+Flow.swift.
  var isReading = true
  var isYielding = false
  var isStarved = false
  var isRecounting = false
  /// Deliveries are held back because the client does not read.
  var isPaused = false
  /// Commands are held back because the client does not read.
  var isHoldingBack = false
  /// Why publishers have to wait, while they have to.
  var pressure: String?
  var isToldBlocked = false
  /// The client has published something.
  var hasPublished = false
  /// The name that it gave its connection, for quotas.
  var clientID = ""
  /// It has published, or got, more than its quota; see AMQPConnection+Quotas.swift.
  var inputQuota = QuotaWait()
  var outputQuota = QuotaWait()
  /// The time of what is done now is charged.
  var isTimed = false
  /// Where it is counted among all connections.
  var place: ConnectionCensus.Place?
  /// Bytes of unsent output that the server's budget counts for this connection.
  var countedUnsent = 0
  /// Bytes that the client has sent and the broker is not done with.
  private(set) var heldBytes = 0
  /// Those of contents that are not there as a whole, and of transactions.
  private(set) var unfinishedBytes = 0
  /// When they began to count, or more of them came.
  private(set) var unfinishedSince: MonotonicTime
  /// Commands that wait for earlier ones of their channels.
  var waitingCommands = 0
  /// Publications that are not settled.
  var unsettledCount = 0
  var unsettledBytes = 0
  /// Bytes received and not taken, and those of them that are no whole frame.
  private var inputBytes = (all: 0, torn: 0)
  /// There is a whole frame among them, which want of memory is no reason to leave lying: only serving it gives that back.
  private(set) var holdsFrame = false
  /// Frames taken since the reactor's clock moved on last, and when that was.
  private var takenAtOnce = 0
  private var takenAt = MonotonicTime(nanoseconds: 0)

  // Time; see AMQPConnection+Closing.swift.
  var receivedAt: MonotonicTime
  var hasSent = false
  var timer: Timer?
  var movedAt: MonotonicTime
  var unsentBefore = 0
  var isPeerFinished = false
  var isInputEnded = false

  init(server: AMQPServer, security: ListenerSecurity, connection: any Connection, number: UInt64) {
    self.server = server
    self.security = security
    self.connection = connection
    self.number = number
    session = ClientSession(server.broker.access, .anonymous, from: connection.remoteAddress.host)
    owner = QueueOwner(name: "\(connection.remoteAddress) -> \(connection.localAddress)")
    let now = server.broker.reactor.now
    unfinishedSince = now
    receivedAt = now
    movedAt = now
  }

  var broker: Broker { server.broker }
  var reactor: any Reactor { server.broker.reactor }
  /// Closed, or to be closed: nothing more is taken from it.
  var isOver: Bool { state == .over }

  // MARK: Input

  func connectionReceived(_ input: inout InputBuffer) {
    let since = timeToCharge()
    receive(&input)
    if let since { chargeTaking(since: since) }
  }

  private func receive(_ input: inout InputBuffer) {
    receivedAt = reactor.now
    if takenAt != receivedAt {
      takenAt = receivedAt
      takenAtOnce = 0
    }
    isReceiving = true
    holdsFrame = true
    let unread = input.unread
    var at = 0
    var needed = 0
    while isReading, !isOver, needed == 0 { takeNext(unread, &at, &needed) }
    isReceiving = false
    if at > 0 { _ = input.take(at) }
    if needed > 0 { input.expect(needed) }
    holdsFrame = needed == 0
    countInput(isOver ? 0 : input.count)
    for channel in torn { channel.detach() }
    torn.removeAll(keepingCapacity: true)
    flush()
    closeWhenDone()
  }

  /// Takes the header or a frame that begins at `position`; `needed` becomes the bytes that have to be there first.
  private func takeNext(_ unread: Bytes, _ position: inout Int, _ needed: inout Int) {
    if state == .header { return takeHeader(unread, &position, &needed) }
    if state == .running, let latest, latest.takesWholePublications,
      let found = WholePublication.read(unread, at: position, frameMax: frameMax), found.channel == latest.number,
      latest.publish(found, in: unread)
    {
      position = found.end
      takenAtOnce += 3
      return waitIfDue()
    }
    let frame: AMQPFrame
    do throws(AMQPError) {
      switch try AMQPFrame.read(unread, at: position, frameMax: frameMax) {
      case .needs(let count):
        needed = count
        return
      case .frame(let whole, let end):
        frame = whole
        position = end
      }
    } catch {
      return failUnreadably(error)
    }
    takenAtOnce += 1
    if frame.kind != .heartbeat { take(frame) }
    waitIfDue()
  }

  /// Lets others have their turn after so many frames, and stops when the connection holds enough.
  private func waitIfDue() {
    if takenAtOnce >= AMQPConnection.mostAtOnce {
      takenAtOnce = 0
      yield()
    } else if isFull {
      throttle()
    }
  }

  private func take(_ frame: AMQPFrame) {
    if state == .running, frame.channel != 0 { return take(channelFrame: frame) }
    if state == .draining { return }
    if state == .closing { return takeWhileClosing(frame) }
    do throws(AMQPError) {
      guard frame.channel == 0, frame.kind == .method else {
        throw AMQPError(.unexpectedFrame, "unexpected frame of type \(frame.kind.rawValue) on channel \(frame.channel)")
      }
      let method = try AMQPMethod.decode(frame.payload)
      do throws(AMQPError) {
        try takeConnectionMethod(method)
      } catch {
        throw error.method == .none ? AMQPError(error.code, error.reason, method.id) : error
      }
    } catch {
      fail(error)
    }
  }

  private func take(channelFrame frame: AMQPFrame) {
    let channel: AMQPChannel
    if let latest, latest.number == frame.channel {
      channel = latest
    } else if let known = channels[frame.channel] {
      latest = known
      channel = known
    } else {
      do throws(AMQPError) { try takeOnUnknownChannel(frame) } catch { fail(error) }
      return
    }
    do throws(AMQPError) { try channel.receive(frame) } catch { fail(error, on: channel) }
  }

  /// Says that the input ends within a content of `channel`, as far as is known.
  func note(torn channel: AMQPChannel) { torn.append(channel) }

  // MARK: Channels

  private func takeOnUnknownChannel(_ frame: AMQPFrame) throws(AMQPError) {
    if closedChannels.contains(frame.channel) { return takeOnClosedChannel(frame) }
    guard channels.count < channelMax else {
      throw AMQPError(
        .notAllowed,
        "number of channels opened (\(channels.count)) has reached the negotiated channel_max (\(channelMax))")
    }
    guard frame.kind == .method else {
      throw AMQPError(.unexpectedFrame, "expected method frame, got non method frame instead")
    }
    let method = try AMQPMethod.decode(frame.payload)
    guard case .channelOpen = method else {
      throw AMQPError(.channelError, "expected 'channel.open'", method.id)
    }
    channels[frame.channel] = AMQPChannel(connection: self, number: frame.channel)
    write(ChannelOpenOk(), channel: frame.channel)
  }

  /// Only the end of the channel counts; what else the client sent before it heard of the error is dropped.
  private func takeOnClosedChannel(_ frame: AMQPFrame) {
    guard frame.kind == .method, frame.payload.count >= 4 else { return }
    let isClass20 = frame.payload[0] == 0 && frame.payload[1] == 20 && frame.payload[2] == 0
    if isClass20, frame.payload[3] == 41 { closedChannels.remove(frame.channel) }
    if isClass20, frame.payload[3] == 40 { write(ChannelCloseOk(), channel: frame.channel) }
  }

  /// The channel is gone from the list; a later one may have its number.
  func remove(_ channel: AMQPChannel) {
    guard channels[channel.number] === channel else { return }
    channels[channel.number] = nil
    if latest === channel { latest = nil }
    answering.removeAll { $0 === channel }
  }

  /// Ends a channel because of an error, or the connection if the error is a hard one.
  func fail(_ error: AMQPError, on channel: AMQPChannel) {
    guard error.code.severity == .channel else { return fail(error) }
    guard channel.isOpen, state == .running || state == .draining else { return }
    server.logger.logRarely(
      .info, "amqp", "channel closed", error.description,
      ["connection": "\(number)", "channel": "\(channel.number)", "method": error.method.description],
      key: "\(error.code)", now: reactor.now)
    channel.writeConfirms()
    channel.release(isFailure: true)
    remove(channel)
    closedChannels.insert(channel.number)
    write(ChannelClose(error), channel: channel.number)
    channelIsIdle()
  }

  /// Gives up all channels and what belongs to the connection. Once only.
  /// - Parameter isFailure: whether what was delivered and not settled counts as having failed.
  func release(isFailure: Bool) {
    guard !isReleased else { return }
    isReleased = true
    let gone = channels.values.sorted { $0.number < $1.number }
    channels = [:]
    latest = nil
    answering = []
    closedChannels = []
    for channel in gone { channel.release(isFailure: isFailure) }
    guard !virtualHost.isEmpty, broker.isOpen else { return }
    broker.queues.watchPressure(owner, nil)
    broker.queues.ownerClosed(owner)
  }

  // MARK: Output

  /// Writes a method; it leaves at the end of the input or of the turn.
  func write<Method: AMQPMethodFields>(_ method: Method, channel: UInt16) {
    guard !isOver else { return }
    writer.write(method, channel: channel)
    hasWritten()
  }

  /// Something was put into ``writer``, or will be when it is flushed.
  func hasWritten() {
    if writer.count >= AMQPConnection.largestBatch { return flush() }
    guard !isReceiving, !isFlushing else { return }
    isFlushing = true
    reactor.atEndOfTurn { [self] in
      isFlushing = false
      flush()
    }
  }

  /// Confirms of `channel` are to be written with the next output.
  func answerLater(_ channel: AMQPChannel) {
    answering.append(channel)
    hasWritten()
  }

  /// Hands over what was written.
  func flush() {
    if !answering.isEmpty {
      let channels = answering
      answering.removeAll(keepingCapacity: true)
      for channel in channels { channel.writeConfirms() }
    }
    if writer.count > 0 {
      hasSent = true
      connection.write(writer.take())
    }
    throttle()
  }

  // MARK: Memory

  /// Counts bytes that the broker is not done with.
  func hold(_ bytes: Int) {
    guard bytes != 0 else { return }
    heldBytes += bytes
    server.gate.change(by: bytes)
  }

  /// Counts what has been received and not taken, unless it is little.
  func countInput(_ bytes: Int) {
    let all = bytes < 4096 ? 0 : bytes
    let torn = holdsFrame ? 0 : all
    hold(all - inputBytes.all)
    if torn != inputBytes.torn { holdUnfinished(torn - inputBytes.torn) }
    inputBytes = (all, torn)
  }

  /// Counts bytes, already held, of what is not there as a whole.
  func holdUnfinished(_ bytes: Int) {
    if bytes > 0 { unfinishedSince = reactor.now }
    unfinishedBytes += bytes
  }
}
