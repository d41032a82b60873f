// QueueBroker+Unroutable: dead letters that no queue takes, of queues that must not lose them.
//
// With the strategy at-least-once a message leaves its queue only together with a copy in some other queue. As long as
// there is none it is done neither here nor there: the log has it as undone, so that a restart finds it in its queue again.
// Source: RabbitMQ, "At-least-once dead lettering".

import MillraceBase
import MillraceDelivery
import MillraceModel
import MillraceRouting

extension QueueBroker {
  /// Content of so many unroutable letters of a queue is held; that of more is read again when they can go.
  private static let unroutableInMemory = 1000
  private static let unroutableInterval = Duration.seconds(1)

  /// Takes letters that no queue would get out of a commit, and keeps them for later.
  func keepUnroutable(of hosted: HostedQueue, _ commit: QueueCommit) -> QueueCommit {
    guard hosted.arguments.deadLetterStrategy == .atLeastOnce else { return commit }
    let kept = commit.deadLetters.filter { letter in letter.message.map { !canPass($0, from: hosted) } ?? false }
    guard !kept.isEmpty else { return commit }
    for var letter in kept {
      if hosted.isDurable, hosted.unroutable.count >= QueueBroker.unroutableInMemory { letter.message = nil }
      hosted.unroutable.append(letter)
    }
    retryUnroutableLater(hosted)
    let positions = Set(kept.map(\.position))
    var rest = QueueCommit()
    rest.deadLetters = commit.deadLetters.filter { !positions.contains($0.position) }
    rest.changes = commit.changes.map { change in
      guard case .done(let lane, let ranges, let bytes) = change else { return change }
      let offsets = positions.filter { $0.lane == lane }.map(\.offset).sorted()
      let size = kept.reduce(0) { $0 + ($1.position.lane == lane ? Int64($1.message?.size ?? 0) : 0) }
      return .done(lane: lane, ranges: ranges.flatMap { $0.without(offsets) }, bytes: max(0, bytes - size))
    }
    return rest
  }

  private func retryUnroutableLater(_ hosted: HostedQueue) {
    guard !hosted.isRetryingUnroutable else { return }
    hosted.isRetryingUnroutable = true
    broker.reactor.schedule(after: QueueBroker.unroutableInterval) { [weak self, weak hosted] in
      guard let self, let hosted, !hosted.isDeleted, isOpen else { return }
      hosted.isRetryingUnroutable = false
      let letters = hosted.unroutable
      hosted.unroutable = []
      for letter in letters {
        if letter.message != nil { retry(letter, of: hosted) } else { readAndRetry(letter, of: hosted) }
      }
    }
  }

  private func readAndRetry(_ letter: DeadLetter, of hosted: HostedQueue) {
    readOne(letter.position, of: hosted) { [self] message in
      var letter = letter
      // What cannot be read now stays where it is until the next start.
      guard let message, !hosted.isDeleted else { return }
      letter.message = message
      retry(letter, of: hosted)
    }
  }

  private func retry(_ letter: DeadLetter, of hosted: HostedQueue) {
    let position = letter.position
    take(
      QueueCommit(
        changes: [
          .done(
            lane: position.lane, ranges: [position.offset..<(position.offset + 1)],
            bytes: Int64(letter.message?.size ?? 0))
        ], deadLetters: [letter]), of: hosted)
    planTurn()
  }
}

extension Range<Offset> {
  /// The parts that are left without `offsets`, which are in rising order.
  func without(_ offsets: [Offset]) -> [Range<Offset>] {
    var parts: [Range<Offset>] = []
    var start = lowerBound
    for offset in offsets where contains(offset) {
      if offset > start { parts.append(start..<offset) }
      start = offset + 1
    }
    if start < upperBound { parts.append(start..<upperBound) }
    return parts
  }
}
