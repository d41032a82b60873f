// AMQPConnection+Closing: heartbeats, errors and every way in which a connection ends.

import MillraceAMQPProtocol
import MillraceBase
import MillraceBroker
import MillraceIO

extension AMQPConnection {
  /// How long the client has to confirm that the connection ends.
  static let closingTime = Duration.seconds(10)
  /// How long a client that sends no more is kept while it has to wait.
  static let longestFarewell = Duration.seconds(60)

  // MARK: Heartbeats

  /// Every half interval: says that the server lives when nothing else did, and ends a client that was silent for two.
  func tick() {
    guard heartbeat > .zero else { return }
    timer = reactor.schedule(after: heartbeat / 2) { [self] in
      timer = nil
      guard state == .running || state == .draining else { return }
      if isReading, reactor.now - receivedAt >= heartbeat * 2 {
        server.logger.logRarely(
          .info, "amqp", "connection closed", "its heartbeats are missing",
          ["peer": connection.remoteAddress.description, "connection": "\(number)"])
        return end()
      }
      if !hasSent {
        writer.heartbeat()
        flush()
      }
      hasSent = false
      tick()
    }
  }

  /// From time to time: ends a client that does not read or is gone, and gives memory back.
  func sweep() {
    let unsent = unsentBytes
    if unsent != unsentBefore || unsent == 0 && !(isPeerFinished && !isReading) {
      unsentBefore = unsent
      movedAt = reactor.now
    }
    let patience =
      isPeerFinished
      ? min(AMQPConnection.longestFarewell, broker.settings.longestIdleTime) : broker.settings.longestIdleTime
    if reactor.now - movedAt >= patience {
      server.logger.logRarely(
        .info, "amqp", "connection closed", "nothing moves", ["connection": "\(number)", "unsent": "\(unsent)"])
      return end()
    }
    if unsent == 0, !isOver {
      // Memory that a burst took goes.
      writer = FrameWriter(frameMax: writer.frameMax, capacity: 512)
    }
  }

  // MARK: Errors

  /// Ends the connection with an error that the client is told; it confirms it.
  func fail(_ error: AMQPError) {
    guard state != .over, state != .closing else { return }
    log(error)
    release(isFailure: true)
    write(ConnectionClose(error), channel: 0)
    state = .closing
    timer?.cancel()
    timer = reactor.schedule(after: AMQPConnection.closingTime) { [self] in end() }
    flush()
  }

  /// Ends the connection because of bytes behind which nothing can be read, not even the client's confirmation.
  func failUnreadably(_ error: AMQPError) {
    if state != .closing {
      log(error)
      release(isFailure: true)
      write(ConnectionClose(error), channel: 0)
    }
    finish()
  }

  private func log(_ error: AMQPError) {
    server.logger.logRarely(
      .warning, "amqp", "connection closed", error.description,
      ["peer": connection.remoteAddress.description, "connection": "\(number)", "method": error.method.description],
      key: "\(error.code)", now: reactor.now)
  }

  /// What its unfinished messages and transactions hold, and since when they have not grown.
  var stayingInput: (since: MonotonicTime, bytes: Int)? {
    unfinishedBytes > 0 ? (unfinishedSince, unfinishedBytes) : nil
  }

  /// Its unfinished messages or transactions keep memory that others wait for.
  func giveUp() {
    fail(
      AMQPError(
        .resourceError, "\(unfinishedBytes) bytes of unfinished messages stay while others wait for the memory"))
  }

  // MARK: The client's end

  /// The client closes: its channels first finish what they were asked.
  func clientCloses() {
    guard state == .running else {
      write(ConnectionCloseOk(), channel: 0)
      return finish()
    }
    state = .draining
    limitDraining()
    channelIsIdle()
  }

  /// A command that the broker cannot answer, such as to get a message that cannot be read, must not keep it for ever.
  private func limitDraining() {
    guard drainTimer == nil else { return }
    drainTimer = reactor.schedule(after: AMQPConnection.closingTime) { [self] in
      isDrainingLong = true
      channelIsIdle()
    }
  }

  /// A channel has nothing more to do, or is gone.
  func channelIsIdle() {
    if state == .draining, !isFinishing, isDrainingLong || channels.values.allSatisfy({ !$0.isBusy }) {
      isFinishing = true
      // What was published and acknowledged before an orderly end holds.
      return broker.queues.whenDurable { [self] error in
        guard state == .draining else { return }
        if let error { return fail(AMQPError(error, ConnectionClose.id)) }
        for channel in channels.values.sorted(by: { $0.number < $1.number }) { channel.writeConfirms() }
        release(isFailure: false)
        write(ConnectionCloseOk(), channel: 0)
        finish()
      }
    }
    closeWhenDone()
  }

  func takeWhileClosing(_ frame: AMQPFrame) {
    guard frame.channel == 0, frame.kind == .method, frame.payload.count >= 4 else { return }
    guard frame.payload[0] == 0, frame.payload[1] == 10, frame.payload[2] == 0 else { return }
    if frame.payload[3] == 51 { finish() }
    if frame.payload[3] == 50 { write(ConnectionCloseOk(), channel: 0) }
  }

  func connectionPeerFinished() {
    isPeerFinished = true
    movedAt = reactor.now
  }

  func connectionInputEnded() -> Bool {
    isInputEnded = true
    closeWhenDone()
    if !isOver { limitDraining() }
    return isOver
  }

  /// The client has gone without a word: once its channels have done what it asked, the connection ends.
  func closeWhenDone() {
    // An orderly end that is under way stays one: the client may have closed its side behind its close.
    if state == .draining, !isDrainingLong { return }
    guard isInputEnded, !isOver, isDrainingLong || channels.values.allSatisfy({ !$0.isBusy }) else { return }
    release(isFailure: true)
    finish()
  }

  func connectionClosed(_ error: IOError?) {
    state = .over
    endQuotaWaits()
    tokenTimer?.cancel()
    tokenTimer = nil
    drainTimer?.cancel()
    drainTimer = nil
    timer?.cancel()
    timer = nil
    release(isFailure: true)
    countInput(0)
    server.answers.change(by: -countedUnsent)
    countedUnsent = 0
    if let error {
      server.logger.log(
        .debug, "amqp", "connection lost", ["connection": "\(number)", "error": error.description])
    }
    server.closed(self)
  }

  // MARK: The server's end

  /// Closes once what is written has been sent.
  func finish() {
    guard !isOver else { return }
    flush()
    state = .over
    timer?.cancel()
    timer = nil
    connection.closeAfterWriting()
  }

  /// Closes at once.
  func end() {
    guard !isOver else { return }
    state = .over
    timer?.cancel()
    timer = nil
    connection.close()
  }

  /// Was never served.
  func refuse() {
    state = .over
    connection.close()
  }

  /// Others need its place, and its client has not said who it is.
  func giveWay() {
    place = nil
    end()
  }

  /// The server goes.
  func shutDown() {
    guard !isOver else { return }
    if state == .running || state == .draining {
      release(isFailure: false)
      write(
        ConnectionClose(
          AMQPError(.connectionForced, "broker forced connection closure with reason 'shutdown'")), channel: 0)
    }
    finish()
  }
}
