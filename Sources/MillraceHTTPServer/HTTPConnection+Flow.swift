// HTTPConnection+Flow: back-pressure, and clients that are too slow.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceIO

extension HTTPConnection {
  /// Time for the head of a request, from its first byte, or from the connection's beginning.
  static let headTime = Duration.seconds(10)
  /// In this time a body must move on by ``leastProgress``, or be whole.
  static let bodyTime = Duration.seconds(20)
  /// See ``bodyTime``.
  static let leastProgress = 16 << 10
  /// How long a client may leave an answer unread.
  static let unreadTime = Duration.seconds(60)

  /// Reads on, or no further for now.
  func throttle() {
    guard !isOver else { return }
    let unsent = unsentBytes
    server.answers.change(by: unsent - countedUnsent)
    countedUnsent = unsent
    let isStarving = state == .receiving && server.gate.budget.mustWait(holding: heldBytes)
    if isStarving { server.gate.starve(self) }
    let isFull = isBusy || isYielding || isStarving || unsent >= server.answers.unsentLimit
    if isFull == isReading {
      isReading = !isFull
      connection.setReading(isReading)
    }
  }

  /// A connection collects output and sends it later in the turn.
  func recountAtEndOfTurn() {
    guard !isRecounting else { return }
    isRecounting = true
    reactor.atEndOfTurn { [self] in
      isRecounting = false
      if unsentBytes != countedUnsent { throttle() }
    }
  }

  /// What its body has kept, and since when it has not moved on.
  var stayingInput: (since: MonotonicTime, bytes: Int)? {
    state == .receiving && heldBytes > 0 ? (progress.since, heldBytes) : nil
  }

  /// Others wait for the memory.
  func giveUp() { timedOut("a body of \(heldBytes) bytes so far stays unfinished while others wait for the memory") }

  /// From time to time: ends what does not move.
  func sweep() {
    guard !isOver else { return }
    let now = reactor.now
    let unsent = unsentBytes
    if unsent != unsentBefore || unsent == 0 {
      unsentBefore = unsent
      movedAt = now
    }
    if now - movedAt >= HTTPConnection.unreadTime {
      log("its answers are not read")
      return end()
    }
    switch state {
    case .waiting:
      if let headSince, now - headSince >= HTTPConnection.headTime {
        return hasPartOfHead ? timedOut("the head of the request is not there in time") : end()
      }
      if headSince == nil, now - idleSince >= server.broker.settings.longestIdleTime { finish() }
    case .receiving:
      if now - progress.since >= HTTPConnection.bodyTime { timedOut("the body does not come") }
    case .serving:
      // A stream of events would go on for ever.
      if let expires = call?.expires, reactor.wallClock >= expires {
        log("the token that it began with has expired")
        return end()
      }
    case .identifying, .over: break
    }
  }

  private func timedOut(_ reason: String) {
    server.figures.timedOut += 1
    refuse(HTTPError(.requestTimeout, reason))
  }

  private func log(_ reason: String) {
    server.logger.logRarely(
      .info, "http", "connection closed", reason,
      ["peer": connection.remoteAddress.description, "connection": "\(number)"], key: nil, now: reactor.now)
  }
}
