// TLSConnection+Writing: plain pieces become records, no sooner than the lower connection has use for them.
//
// Pieces are collected until the lower connection sends at the end of a phase of the turn, or, where it does not call before
// that, until the end of the turn. Small ones share a record; full records are encrypted from where the piece lies. A handler
// counts on this: what has not left by the end of the turn had to wait, and it is told when that is gone (`owesDrained`).

import MillraceBase

extension TLSConnection {
  /// With so much unsent below, encrypting more is of no use yet. A backlog of the socket's own kind, which sends at once
  /// from there on, so that what then remains waits for room and ``connectionDrained()`` follows.
  private static let backlogBytes = 256 << 10
  /// Encrypted before the lower connection gets it: with what records add, a little less than 256 KiB.
  private static let batchBytes = 15 * TLSRules.recordBytes
  /// Encrypted for one connection in one go, a few milliseconds' worth, so that one answer does not keep the others waiting.
  private static let bytesPerTurn = 4 << 20

  /// Queues pieces, and sees to it that they are encrypted.
  func collect(_ pieces: [Bytes]) {
    // Small pieces that wait must not keep the larger memory alive that they were made in.
    let isBehind = plain.count >= TLSConnection.backlogBytes
    for piece in pieces where piece.count > 0 {
      plain.append(isBehind && piece.count <= 1024 ? piece.withBuffer { Bytes(copying: $0) } : piece)
    }
    guard isSecured, plain.count > 0 else { return }
    if plain.count >= TLSConnection.backlogBytes && !isStopped { encrypt() } else { announce() }
  }

  /// Encrypts what is collected when the lower connection sends next.
  func announce() {
    guard !isCollecting, !isStopped else { return }
    isCollecting = true
    if lower.callBeforeSending() { return }
    reactor.atEndOfTurn { [self] in
      isCollecting = false
      owesDrained = true
      encrypt()
      settleDrained()
    }
  }

  /// Encrypts all there is, unless the lower connection has a backlog.
  func encrypt() {
    guard isSecured, state != .leaving else { return }
    var budget = TLSConnection.bytesPerTurn
    while plain.count > 0 && budget > 0 && lower.pendingWriteBytes < TLSConnection.backlogBytes {
      let before = plain.count
      guard encryptBatch() else { return }
      budget -= before - plain.count
    }
    isStopped = plain.count > 0
    if isStopped {
      owesDrained = true
      if lower.pendingWriteBytes < TLSConnection.backlogBytes { continueLater() }
    } else if state == .finishing {
      session.sayEnd()
      leave(nil)
    }
  }

  private func encryptBatch() -> Bool {
    var left = min(plain.count, TLSConnection.batchBytes)
    session.pipe.reserve(left + (left / TLSRules.recordBytes + 2) * TLSRules.recordOverhead)
    while left > 0 {
      let outcome: TLSSession.Outcome
      let piece = plain.first
      if piece.count >= TLSRules.recordBytes || plain.isLastPiece {
        let part = min(piece.count, left)
        let whole = part >= TLSRules.recordBytes ? part / TLSRules.recordBytes * TLSRules.recordBytes : part
        outcome = piece.withBuffer { session.write(UnsafeRawBufferPointer(rebasing: $0[..<whole])) }
        plain.consume(whole)
        left -= whole
      } else {
        let size = min(left, TLSRules.recordBytes)
        outcome = withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { room in
          let filled = plain.gather(into: room)
          left -= filled
          return session.write(UnsafeRawBufferPointer(rebasing: room[..<filled]))
        }
      }
      if case .failed(let reason) = outcome {
        leave(error(reason))
        return false
      }
    }
    flush()
    return true
  }

  /// Others get their turn first.
  private func continueLater() {
    guard !isContinuing else { return }
    isContinuing = true
    reactor.atEndOfTurn { [self] in
      isContinuing = false
      encrypt()
      settleDrained()
    }
  }

  /// The lower connection's backlog is gone.
  func lowerDrained() {
    guard state != .leaving else { return }
    owesDrained = true
    encrypt()
    settleDrained()
  }

  /// Tells the handler once all that had to wait is gone.
  func settleDrained() {
    guard owesDrained, state == .open, plain.count == 0 else { return }
    if lower.pendingWriteBytes == 0 {
      owesDrained = false
      handler?.connectionDrained()
      return
    }
    // The lower connection sends before the end of this turn, and has not sent all by then only if it must wait for room: then
    // it says when it is done.
    guard !isSettling else { return }
    isSettling = true
    reactor.atEndOfTurn { [self] in
      isSettling = false
      if owesDrained && state == .open && plain.count == 0 && lower.pendingWriteBytes == 0 {
        owesDrained = false
        handler?.connectionDrained()
      }
    }
  }
}
