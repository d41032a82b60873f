// AMQPConnection+Flow: when the client has to wait: back-pressure in both directions, and whose turn it is.
//
// Input stops while the broker holds too much of what the client published, while commands wait for earlier ones, while the
// client does not read its answers, and while memory or disk are short. Deliveries stop far earlier than input, when the
// client does not read: a client may send acknowledgements, and wait until they are taken, before it reads on.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO

extension AMQPConnection {
  /// Rights have changed.
  func recheckConsumers() {
    guard state == .running else { return }
    for channel in channels.values.sorted(by: { $0.number < $1.number }) { channel.recheckConsumers() }
    flush()
  }

  /// Frames taken before others get their turn.
  static let mostAtOnce = 3000
  /// Output of this size is handed over at once.
  static let largestBatch = 64 << 10
  /// Unsent bytes beyond which nothing is delivered.
  static let mostUndelivered = 1 << 20
  /// Bytes of publications that may be unsettled.
  static let mostUnsettledBytes = 16 << 20
  /// The same while the journal is full.
  static let mostUnsettledWhenCongested = 256 << 10
  /// Publications that may be unsettled.
  static let mostUnsettled = 100_000
  /// Commands that may wait for earlier ones of their channels.
  static let mostWaiting = 256
  /// Unsent bytes that are too few to be counted again.
  private static let fewUnsentBytes = 4 << 10

  var unsentBytes: Int { connection.pendingWriteBytes + writer.count }

  /// Whether the client has to wait, as far as the connection itself decides.
  var isFull: Bool {
    // What follows an error is dropped, but has to be read.
    if state == .closing { return isYielding }
    return isYielding || waitingCommands >= AMQPConnection.mostWaiting || unsettledCount >= AMQPConnection.mostUnsettled
      || unsettledBytes
        >= (broker.isCongested
          ? AMQPConnection.mostUnsettledWhenCongested : AMQPConnection.mostUnsettledBytes)
      || pressure != nil && hasPublished || unsentBytes >= server.answers.unsentLimit
      || isStarving || inputQuota.isWaiting
  }

  /// Whether waiting commands must wait on because the client does not read; they are taken up when it does.
  func holdsBackCommands() -> Bool {
    guard unsentBytes >= server.answers.unsentLimit else { return false }
    isHoldingBack = true
    return true
  }

  private func goOn() {
    guard isHoldingBack, unsentBytes < server.answers.unsentLimit else { return }
    isHoldingBack = false
    reactor.atEndOfTurn { [self] in
      for channel in channels.sorted(by: { $0.key < $1.key }) { channel.value.serveBacklog() }
    }
  }

  private var isStarving: Bool { !holdsFrame && server.requests.mustWait(holding: heldBytes) }

  /// Lets others have their turn. The rest of the input is offered in the next one.
  func yield() {
    guard !isYielding, !isOver else { return }
    isYielding = true
    throttle()
    reactor.atEndOfTurn { [self] in
      isYielding = false
      throttle()
    }
  }

  /// Reads on, or no further for now; delivers, or no more for now.
  func throttle() {
    guard !isOver else { return }
    let unsent = unsentBytes
    server.answers.change(by: unsent - countedUnsent)
    countedUnsent = unsent
    if isStarving { server.gate.starve(self) }
    let isFull = isFull
    if isFull == isReading {
      isReading = !isFull
      if isReading { receivedAt = reactor.now }
      connection.setReading(isReading)
    }
    goOn()
    setPaused(outputQuota.isWaiting || unsent >= min(AMQPConnection.mostUndelivered, server.answers.unsentLimit))
    if unsent >= AMQPConnection.fewUnsentBytes { recountAtEndOfTurn() }
  }

  /// Whether another delivery may be written.
  func checkDeliveries() {
    guard !isPaused else { return }
    if outputQuota.isWaiting || unsentBytes >= min(AMQPConnection.mostUndelivered, server.answers.unsentLimit) {
      setPaused(true)
    }
  }

  private func setPaused(_ paused: Bool) {
    guard paused != isPaused else { return }
    isPaused = paused
    for channel in channels.sorted(by: { $0.key < $1.key }) { channel.value.setPaused(paused) }
  }

  /// A connection collects output and sends it later in the turn, without a word unless the system had no room.
  private func recountAtEndOfTurn() {
    guard !isRecounting else { return }
    isRecounting = true
    reactor.atEndOfTurn { [self] in
      isRecounting = false
      // What did not leave by now waits for room, and connectionDrained follows.
      if unsentBytes != countedUnsent { throttle() }
    }
  }

  func connectionDrained() { throttle() }

  // MARK: Shortage

  /// Publishers have to wait, or need not any more.
  func pressureChanged(_ reason: String?) {
    pressure = reason
    guard state == .running else { return }
    tellWhetherBlocked()
    throttle()
  }

  /// Says that a shortage has begun, or that the client may go on.
  func tellWhetherBlocked() {
    if let pressure { return tellBlocked(pressure) }
    guard isToldBlocked, !inputQuota.isWaiting else { return }
    isToldBlocked = false
    write(ConnectionUnblocked(), channel: 0)
  }

  /// Only who publishes has to wait, and is told so.
  func tellBlocked(_ reason: String) {
    guard hasPublished, capabilities.blocked, !isToldBlocked else { return }
    isToldBlocked = true
    write(ConnectionBlocked(reason: reason), channel: 0)
  }
}
