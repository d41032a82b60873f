// QueuePublications: the broker's end of a QueueOutbox: takes what waits, a part of it each turn, and tells what became of it.

import MillraceBase
import MillraceBroker
import MillraceRouting

/// Publishes what comes through a ``QueueOutbox``. Belongs to the reactor.
final class QueuePublications {
  /// Messages of one turn: as many as a queue delivers, so that a fast publisher does not outrun the consumers.
  private static let messagesAtOnce = 256
  private static let bytesAtOnce = 1 << 20

  private let queues: QueueBroker
  private let outbox: QueueOutbox
  private let owner: QueueOwner
  private let underWay: PublicationsUnderWay
  private let publisher: QueuePublisher
  /// Whether the queue has messages only later, or may have seen or refuse them: then it is asked what became of each.
  private let asks: Bool
  private var run = QueueOutbox.Run()
  private var position = 0
  private var answered = 0

  init(_ outbox: QueueOutbox, of queue: QueueDescription, _ queues: QueueBroker) {
    self.queues = queues
    self.outbox = outbox
    asks = !queue.takesDirectly
    owner = QueueOwner(name: "queue \(queue.declaration.name)")
    // Not this object, which has the publisher: neither may keep the other.
    let underWay = PublicationsUnderWay(outbox, queues, refuses: queue.mayRefuse)
    self.underWay = underWay
    publisher = QueuePublisher(queues) { tags, isAccepted in underWay.settled(tags, isAccepted) }
    queues.watchPressure(owner) { reason in outbox.press(reason != nil) }
  }

  /// Nobody publishes any more.
  func close() { queues.watchPressure(owner, nil) }

  /// The broker is closed: whoever waits for an outcome gets none.
  func abandon() {
    while let answer = nextAnswer(below: .max) { answer.answer.give(.failure(.closed)) }
    underWay.abandon()
  }

  /// Publishes a part of what waits.
  /// - Returns: whether to call again in the next turn.
  func publish() -> Bool {
    if position == run.messages.count {
      position = 0
      answered = 0
      guard outbox.take(&run) else { return false }
    }
    let start = position
    var bytes = 0
    while position < run.messages.count, position - start < QueuePublications.messagesAtOnce,
      bytes < QueuePublications.bytesAtOnce
    {
      bytes += run.messages[position].sizeUnderWay
      position += 1
    }
    if asks { ask(start..<position) } else { hand(start..<position, bytes) }
    return true
  }

  private func hand(_ range: Range<Int>, _ bytes: Int) {
    let address = outbox.address
    var result = Result<Void, MillraceError>.success(())
    do throws(RoutingError) {
      try queues.publish(run.messages[range], to: address.name, in: address.virtualHost, format: address.format)
    } catch {
      let error = MillraceError(error)
      outbox.close(error)
      result = .failure(error)
    }
    var untold = range.count
    while let answer = nextAnswer(below: range.upperBound) {
      answer.answer.give(result)
      untold -= 1
    }
    var failure: MillraceError?
    if case .failure(let error) = result, untold > 0 { failure = error }
    outbox.ended(range.count, bytes: bytes, failure: failure)
  }

  private func nextAnswer(below end: Int) -> (index: Int, answer: Answer<Void>)? {
    guard answered < run.answers.count, run.answers[answered].index < end else { return nil }
    defer { answered += 1 }
    return run.answers[answered]
  }

  private func ask(_ range: Range<Int>) {
    let address = outbox.address
    var next = nextAnswer(below: range.upperBound)
    for index in range {
      let message = run.messages[index]
      var answer: Answer<Void>?
      if next?.index == index {
        answer = next?.answer
        next = nextAnswer(below: range.upperBound)
      }
      let tag = underWay.add(message.sizeUnderWay, answer)
      do throws(RoutingError) {
        guard try publisher.publish(address.publication(message), tag: tag) > 0 else {
          throw RoutingError(.notFound, "queue '\(address.name)' was deleted")
        }
      } catch {
        let error = MillraceError(error)
        if error.code == .unknownQueue { outbox.close(error) }
        underWay.end(tag, error)
      }
    }
    underWay.forgetEnded()
  }
}

/// Publications whose outcome is not known. Belongs to the reactor.
private final class PublicationsUnderWay {
  private struct Entry {
    var size: Int
    var answer: Answer<Void>?
    var isOver = false
  }

  private let queues: QueueBroker
  private let outbox: QueueOutbox
  private let refuses: Bool
  /// By their tags from `first` on.
  private var entries = Deque<Entry>()
  private var first: UInt64 = 1
  /// The first failure of a message without an answer, not told yet.
  private var failure: MillraceError?

  init(_ outbox: QueueOutbox, _ queues: QueueBroker, refuses: Bool) {
    self.outbox = outbox
    self.queues = queues
    self.refuses = refuses
  }

  /// A message is about to be published.
  /// - Returns: its tag.
  func add(_ size: Int, _ answer: Answer<Void>?) -> UInt64 {
    entries.append(Entry(size: size, answer: answer))
    return first + UInt64(entries.count - 1)
  }

  /// Its outcome is known.
  func end(_ tag: UInt64, _ error: MillraceError?) {
    guard tag >= first, tag - first < UInt64(entries.count) else { return }
    let index = Int(tag - first)
    if let answer = entries[index].answer {
      answer.give(error.map { .failure($0) } ?? .success(()))
      entries[index].answer = nil
    } else if failure == nil {
      failure = error
    }
    entries[index].isOver = true
  }

  /// Gives back the room of what is over, in order.
  func forgetEnded() {
    var (count, bytes) = (0, 0)
    while let oldest = entries.first, oldest.isOver {
      entries.removeFirst()
      first += 1
      count += 1
      bytes += oldest.size
    }
    guard count > 0 || failure != nil else { return }
    outbox.ended(count, bytes: bytes, failure: failure)
    failure = nil
  }

  func abandon() {
    for index in 0..<entries.count { end(first + UInt64(index), .closed) }
    forgetEnded()
  }

  func settled(_ tags: [UInt64], _ isAccepted: Bool) {
    var error: MillraceError?
    if !isAccepted {
      error =
        refuses && queues.pressure == nil
        ? MillraceError(.queueFull, "queue \(outbox.address.name) is full")
        : MillraceError(.storage, "a message for queue \(outbox.address.name) could not be kept")
    }
    for tag in tags { end(tag, error) }
    forgetEnded()
  }
}
