// QueueBroker+Unroutable: dead letters that no queue takes, of queues that must not lose them.
//
// With the strategy at-least-once a message leaves its queue only together with a copy in some other queue. As long as
// there is none it is done neither here nor there: the log has it as undone, so that a restart finds it in its queue again.
// Source: RabbitMQ, "At-least-once dead lettering".

import MillraceBase
import MillraceDelivery
import MillraceModel

extension QueueBroker {
  /// Content of so many unroutable letters of a queue is held; that of more is read again when it is their turn.
  private static let unroutableInMemory = 1000
  private static let unroutableInterval = Duration.seconds(1)
  /// Letters without content that are tried at once.
  private static let unroutableReads = 64

  /// No queue takes the letter now.
  func keepUnroutable(_ letter: DeadLetter, of hosted: HostedQueue) {
    var letter = letter
    if hosted.isDurable, hosted.unroutable.count >= QueueBroker.unroutableInMemory { letter.message = nil }
    hosted.unroutable.append(letter)
    guard !hosted.isRetryingUnroutable else { return }
    hosted.isRetryingUnroutable = true
    broker.reactor.schedule(after: QueueBroker.unroutableInterval) { [weak self, weak hosted] in
      guard let self, let hosted, !hosted.isDeleted, isOpen else { return }
      hosted.isRetryingUnroutable = false
      retryUnroutable(hosted)
    }
  }

  private func retryUnroutable(_ hosted: HostedQueue) {
    var reads = 0
    var later: [DeadLetter] = []
    let letters = hosted.unroutable
    hosted.unroutable = []
    for letter in letters {
      if letter.message == nil {
        reads += 1
        if reads > QueueBroker.unroutableReads {
          later.append(letter)
          continue
        }
      }
      hosted.letters.append((letter, Int64(letter.message?.size ?? 0)))
    }
    // Those that were not tried come first the next time.
    for letter in later { keepUnroutable(letter, of: hosted) }
    passLetters(of: hosted)
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
