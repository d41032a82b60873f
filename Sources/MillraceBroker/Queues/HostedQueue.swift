// HostedQueue: one queue with what the broker keeps beside its rules: its logs, its consumers, its timer.

import MillraceBase
import MillraceDelivery
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel
import MillraceQueueing
import MillraceRouting

/// A queue that is there. Belongs to the broker's reactor.
final class HostedQueue {
  /// As it was declared, and what its arguments mean.
  let declaration: QueueDeclaration
  let arguments: QueueArguments
  /// The event's number when the queue is durable; nil when memory alone keeps it.
  let number: Int64?
  /// The log of each lane, when it is durable.
  let logs: [PartitionLog]
  /// Publications neither are refused nor recognised nor have keys, so that they need not be looked at.
  let isPlain: Bool
  /// A message becomes the same record here as in other such queues.
  let keepsContents: Bool
  /// The highest priority that counts.
  private let highestLane: UInt8
  /// Only for this one, when it is exclusive.
  weak var owner: QueueOwner?
  // What every message goes through is not checked for overlapping access: none of it calls anything that comes back to it.

  /// The rules, and the state in force.
  @exclusivity(unchecked) var queue: MessageQueue
  @exclusivity(unchecked) private var measured: QueueMeter
  /// What is counted for all queues of its virtual host.
  let times: QueueTimes
  /// Messages that came at one moment and are not measured yet.
  @exclusivity(unchecked) private var arrivals = 0
  @exclusivity(unchecked) private var arrivedAt = MonotonicTime(nanoseconds: 0)
  var consumers: [ConsumerID: HostedConsumer] = [:]
  private var lastConsumerNumber = 0
  /// Had a consumer: only then does auto-delete mean something.
  var hadConsumers = false
  var isDeleted = false
  /// Will be pumped at the end of the turn.
  var isTouched = false
  /// When it was touched. The turn's end is later, and a message that came in between must not expire before it was offered.
  var touchedAt = Timestamp.none
  /// Its messages, when no log keeps them.
  @exclusivity(unchecked) var memory = TransientLanes()
  /// What memory alone keeps, as the broker has counted it.
  var countedBytes = 0
  /// Those who asked for a message that is being read.
  var waitingGets: [HostedConsumer] = []
  /// Dead letters on their way, in order, with the bytes that they count for.
  var letters = Deque<(letter: DeadLetter, bytes: Int64)>()
  var isPassingLetters = false
  /// Who waits for them to be on their way.
  var afterLetters: [() -> Void] = []
  /// Dead letters that no queue takes yet, and that are not to be lost (`x-dead-letter-strategy` at-least-once).
  var unroutable: [DeadLetter] = []
  var isRetryingUnroutable = false
  /// While ids of earlier messages are read after a start: what is published meanwhile waits here.
  var isRemembering = false
  /// Called once what was held meanwhile is published.
  var afterRemembering: [() -> Void] = []
  var heldPublications: [(publication: Publication, isDelayed: Bool, confirm: SharedConfirm?)] = []
  var timer: (timer: Timer, due: Timestamp)?

  init(
    declaration: QueueDeclaration, arguments: QueueArguments, number: Int64?, logs: [PartitionLog], owner: QueueOwner?,
    queue: MessageQueue, times: QueueTimes, now: MonotonicTime
  ) {
    self.declaration = declaration
    self.arguments = arguments
    self.number = number
    self.logs = logs
    let options = arguments.options
    keepsContents = number != nil && options.deduplicationCount == 0 && arguments.groupHeader == nil
    isPlain = options.overflow == .dropHead && options.deduplicationCount == 0 && arguments.groupHeader == nil
    highestLane = options.lane(forPriority: .max)
    self.owner = owner
    self.queue = queue
    self.times = times
    measured = QueueMeter(now: now, backlog: queue.length)
  }

  /// The lane of messages with this priority.
  func lane(forPriority priority: UInt8) -> UInt8 { min(priority, highestLane) }

  var virtualHost: String { declaration.virtualHost }
  var name: String { declaration.name }
  var isAutoDelete: Bool { declaration.isAutoDelete }
  var isExclusive: Bool { declaration.isExclusive }
  /// The log keeps it, and it is there again after a restart.
  var isDurable: Bool { number != nil }

  /// What is measured.
  var meter: QueueMeter {
    get {
      tellArrivals()
      return measured
    }
    _modify {
      tellArrivals()
      yield &measured
    }
  }

  /// What was counted so far, read where it lies.
  var counts: QueueCounts {
    tellArrivals()
    return measured.counts
  }

  /// A message has come, received at the same moment. They come many at a time, and are measured together.
  func arrived(now: MonotonicTime) {
    if arrivedAt != now {
      tellArrivals()
      arrivedAt = now
    }
    arrivals += 1
  }

  private func tellArrivals() {
    guard arrivals > 0 else { return }
    measured.arrived(arrivals, receivedAt: arrivedAt, now: arrivedAt)
    arrivals = 0
  }

  func takeConsumerNumber() -> Int {
    lastConsumerNumber += 1
    return lastConsumerNumber
  }

  /// Nothing waits for a dead letter to be read any more, or ever again.
  func tellAfterLetters() {
    let waiting = afterLetters
    afterLetters = []
    for body in waiting { body() }
  }

  /// What is done with need not be kept any longer where no log keeps it.
  func forgetDone(_ changes: [QueueChange], free: (ScratchBlock) -> Void) {
    for change in changes {
      guard case .done(let lane, let ranges, _) = change else { continue }
      memory.change(lane) { memory in for range in ranges { memory.remove(range, free: free) } }
    }
  }

  /// Memory that only messages of this queue take, overhead included.
  var heldInMemory: Int { isDurable ? 0 : memory.bytes }
}
