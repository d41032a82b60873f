// Consumers: who takes part in a queue, and whose turn it is.
//
// The turn goes to the highest priority that has a consumer with credit, and within it round. A consumer without credit is
// taken out of the round when its turn comes, and goes to its end when it has credit again: O(1) a turn.

import MillraceBase

/// A consumer of one queue; never used again for another.
public struct ConsumerID: Hashable, Sendable {
  let index: Int32
  let generation: UInt32

  /// Nobody: never the consumer of a queue.
  public static let none = ConsumerID(index: -1, generation: 0)
}

/// How a consumer takes messages.
public struct ConsumerOptions {
  /// Most unsettled deliveries, 0 for no limit.
  public var credit = 0
  /// The channel's limit; nil for none.
  public var pool: CreditPool?
  /// Higher ones are served first.
  public var priority: Int32 = 0
  /// Deliveries are settled as they go out; credit does not matter.
  public var isNoAck = false
  /// The only one.
  public var isExclusive = false
  /// It takes by ``MessageQueue/take(by:limit:now:into:)`` only: `basic.get`. Nothing is pushed to
  /// it, and it is no consumer to limits, to exclusiveness and to the single active consumer.
  public var isPassive = false
  /// Time after which an unsettled delivery is taken back; nil for the queue's.
  public var timeout: Duration?

  /// A consumer without limits.
  public init() {}
}

struct Consumer {
  var options: ConsumerOptions
  var generation: UInt32
  var isAlive = true
  /// Gets nothing more, still settles.
  var isCancelled = false
  var inFlight = 0
  /// Out of the round until it has credit.
  var isParked = false
  /// The host cannot take more for it now.
  var isPaused = false

  var hasCredit: Bool {
    !isPaused
      && (options.isNoAck
        || (options.credit == 0 || inFlight < options.credit) && (options.pool.map { $0.isOpen } ?? true))
  }
}

struct Consumers {
  private struct Level {
    let priority: Int32
    var round = Deque<Int32>()
  }

  private(set) var all: [Consumer] = []
  private var free: [Int32] = []
  /// Highest first.
  private var levels: [Level] = []
  /// Parked because of a pool, in the order of parking.
  private var waiting: [Int32] = []
  /// With single active consumer: the one that is served.
  private(set) var active: Int32?
  /// It is to be relieved as soon as it has nothing in flight.
  private(set) var isDraining = false
  /// Order of registration, of those that are pushed to.
  private var order: [Int32] = []

  /// Consumers that are pushed to.
  var count: Int { order.count }
  /// Whether nobody is there, passive consumers included.
  var isEmpty: Bool { all.count == free.count }
  var isExclusive: Bool { order.count == 1 && all[Int(order[0])].options.isExclusive }

  subscript(index: Int32) -> Consumer { all[Int(index)] }

  func index(_ id: ConsumerID) -> Int32? {
    guard id.index >= 0, id.index < all.count else { return nil }
    let consumer = all[Int(id.index)]
    return consumer.isAlive && consumer.generation == id.generation ? id.index : nil
  }

  func id(_ index: Int32) -> ConsumerID { ConsumerID(index: index, generation: all[Int(index)].generation) }

  // MARK: coming and going

  mutating func add(_ options: ConsumerOptions, isSingle: Bool) -> ConsumerID {
    let index: Int32
    if let reused = free.popLast() {
      index = reused
      all[Int(index)] = Consumer(options: options, generation: all[Int(index)].generation &+ 1)
    } else {
      index = Int32(all.count)
      all.append(Consumer(options: options, generation: 0))
    }
    if !options.isPassive {
      order.append(index)
      join(index)
      if isSingle { chooseActive() }
    }
    return id(index)
  }

  /// Takes the consumer out of the round; what is in flight stays with it.
  mutating func cancel(_ index: Int32, isSingle: Bool) {
    all[Int(index)].isCancelled = true
    order.removeAll { $0 == index }
    waiting.removeAll { $0 == index }
    for level in levels.indices where levels[level].priority == all[Int(index)].options.priority {
      var rest = Deque<Int32>()
      while let one = levels[level].round.popFirst() { if one != index { rest.append(one) } }
      levels[level].round = rest
    }
    levels.removeAll { $0.round.isEmpty }
    if active == index {
      active = nil
      isDraining = false
    }
    if isSingle { chooseActive() }
  }

  /// Forgets a cancelled consumer that has nothing in flight any more.
  mutating func remove(_ index: Int32) {
    all[Int(index)].isAlive = false
    all[Int(index)].options.pool = nil
    free.append(index)
  }

  /// Makes the mode that of a queue with or without single active consumer.
  mutating func setSingle(_ isSingle: Bool) {
    active = nil
    isDraining = false
    if isSingle { chooseActive() }
    for index in order where all[Int(index)].isParked { unpark(index) }
  }

  /// The active one is the first registered of the highest priority. One of a higher priority relieves the active one
  /// when that has nothing in flight any more.
  private mutating func chooseActive() {
    var best: Int32?
    for index in order where best.map({ all[Int($0)].options.priority < all[Int(index)].options.priority }) ?? true {
      best = index
    }
    if let active, active != best {
      isDraining = true
      guard all[Int(active)].inFlight == 0 else { return }
    }
    isDraining = false
    active = best
    // Also the old one, which may have been parked while it was to be relieved by one that has left since.
    if let best, all[Int(best)].isParked { unpark(best) }
  }

  // MARK: turns

  private mutating func join(_ index: Int32) {
    let priority = all[Int(index)].options.priority
    var at = 0
    while at < levels.count, levels[at].priority > priority { at += 1 }
    if at == levels.count || levels[at].priority != priority { levels.insert(Level(priority: priority), at: at) }
    levels[at].round.append(index)
  }

  private mutating func unpark(_ index: Int32) {
    all[Int(index)].isParked = false
    join(index)
  }

  /// Whose turn it is; nil when nobody may have anything. `queue` is left with the pools that stood in the way.
  @inline(__always) mutating func next(queue: Int, isSingle: Bool) -> Int32? {
    for level in levels.indices {
      while let index = levels[level].round.first {
        if all[Int(index)].hasCredit, !isSingle || index == active && !isDraining { return index }
        levels[level].round.removeFirst()
        park(index, queue: queue)
      }
    }
    return nil
  }

  private mutating func park(_ index: Int32, queue: Int) {
    all[Int(index)].isParked = true
    guard let pool = all[Int(index)].options.pool, !pool.isOpen else { return }
    waiting.append(index)
    pool.wait(queue)
  }

  /// Brings back those whose pool has credit again.
  mutating func unparkWaiting(queue: Int) {
    guard !waiting.isEmpty else { return }
    let parked = waiting
    waiting = []
    for index in parked where all[Int(index)].isParked {
      if all[Int(index)].options.pool?.isOpen ?? true { unpark(index) } else { park(index, queue: queue) }
    }
  }

  /// The consumer at the head of its round got something: the next one's turn.
  @inline(__always) mutating func rotate(_ index: Int32) {
    for level in levels.indices where levels[level].round.first == index {
      if levels[level].round.count > 1 { levels[level].round.append(levels[level].round.removeFirst()) }
      return
    }
  }

  // MARK: credit

  @inline(__always) mutating func took(_ index: Int32) {
    all[Int(index)].inFlight += 1
    all[Int(index)].options.pool?.take()
  }

  /// A delivery to `index` is settled.
  @inline(__always) mutating func settled(_ index: Int32) {
    all[Int(index)].inFlight -= 1
    all[Int(index)].options.pool?.give()
    if all[Int(index)].isParked, !all[Int(index)].isCancelled { unpark(index) }
    guard all[Int(index)].inFlight == 0 else { return }
    if isDraining, active == index { chooseActive() }
    if all[Int(index)].isCancelled { remove(index) }
  }

  mutating func setPaused(_ index: Int32, _ isPaused: Bool) {
    all[Int(index)].isPaused = isPaused
    if !isPaused, all[Int(index)].isParked, !all[Int(index)].isCancelled { unpark(index) }
  }

  mutating func setCredit(_ index: Int32, _ credit: Int) {
    all[Int(index)].options.credit = credit
    if all[Int(index)].isParked, !all[Int(index)].isCancelled { unpark(index) }
  }
}
