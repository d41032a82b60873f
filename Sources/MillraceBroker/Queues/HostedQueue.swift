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
  /// Only for this one, when it is exclusive.
  weak var owner: QueueOwner?
  /// The rules, and the state in force.
  var queue: MessageQueue
  /// What is measured.
  var meter: QueueMeter
  var consumers: [ConsumerID: HostedConsumer] = [:]
  private var lastConsumerNumber = 0
  /// Had a consumer: only then does auto-delete mean something.
  var hadConsumers = false
  var isDeleted = false
  /// Will be pumped at the end of the turn.
  var isTouched = false
  /// Its messages, when no log keeps them.
  var memory: [UInt8: TransientLane] = [:]
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
  var heldPublications: [(publication: Publication, isDelayed: Bool, confirm: SharedConfirm?)] = []
  var timer: (timer: Timer, due: Timestamp)?

  init(
    declaration: QueueDeclaration, arguments: QueueArguments, number: Int64?, logs: [PartitionLog], owner: QueueOwner?,
    queue: MessageQueue, now: MonotonicTime
  ) {
    self.declaration = declaration
    self.arguments = arguments
    self.number = number
    self.logs = logs
    self.owner = owner
    self.queue = queue
    meter = QueueMeter(now: now, backlog: queue.length)
  }

  var virtualHost: String { declaration.virtualHost }
  var name: String { declaration.name }
  var isAutoDelete: Bool { declaration.isAutoDelete }
  var isExclusive: Bool { declaration.isExclusive }
  /// The log keeps it, and it is there again after a restart.
  var isDurable: Bool { number != nil }

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
      for range in ranges { memory[lane]?.remove(range, free: free) }
    }
  }

  /// Memory that only messages of this queue take, overhead included.
  var heldInMemory: Int { isDurable ? 0 : memory.values.reduce(0) { $0 + $1.bytes } }
}
