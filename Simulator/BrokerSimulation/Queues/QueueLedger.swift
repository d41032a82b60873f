// QueueLedger: what AMQP clients have sent, got and were promised, and what must not happen to it meanwhile.
//
// A message has a copy in each family of queues that it is published to. What clients do at the end of their work is held
// against what is left: QueueLedger+Check.swift.

import MillraceBase

/// What was noticed: the rule that is broken, and how.
typealias QueueProblem = (rule: Rule, text: String)

/// The histories of all messages of a run.
struct QueueLedger {
  /// What a client does to a delivery.
  enum Action {
    case acknowledged
    /// Goes back to its place; it was no failure.
    case returned
    /// Goes back to its place, as a failed delivery.
    case failed
    case rejected

    var label: StaticString {
      switch self {
      case .acknowledged: "acknowledged"
      case .returned: "returned"
      case .failed: "failed"
      case .rejected: "rejected"
      }
    }
  }

  /// A message in one family.
  struct CopyName: Hashable {
    let family: Int
    let name: MessageName
  }

  struct Publication {
    let families: [Int]
    /// Those of one lane, and of one publisher, keep their order.
    let lane: Int
    /// Not before that time.
    let due: MonotonicTime?
    let transaction: Int?
  }

  /// What happened to a copy, with the time in microseconds, for the report of a failure.
  struct Event: CustomStringConvertible {
    let what: StaticString
    let session: Int
    let at: MonotonicTime

    var description: String { "\(what) in \(session) at \(at.nanoseconds / 1000)" }
  }

  struct Copy {
    private(set) var events: [Event] = []
    mutating func note(_ what: StaticString, _ session: Int, _ at: MonotonicTime) {
      events.append(Event(what: what, session: session, at: at))
    }

    /// It was confirmed, in one of the ways there are.
    var isPromised = false
    /// The broker said that it does not have it, or its transaction was rolled back.
    var isRefused = false
    /// It was delivered, and so is durable.
    var isSeen = false
    /// The session that it was delivered to last, and what that did to it, and when.
    var holder = 0
    var action: Action?
    var actedAt = MonotonicTime(nanoseconds: 0)
    /// When the server wrote the delivery that came last.
    var sentAt = MonotonicTime(nanoseconds: 0)
    /// The session that had it before, and what that did to it.
    var before: (holder: Int, action: Action)?
    /// An acknowledgement or rejection of it is durable.
    var settled: Action?
    var wasRejected = false
    /// Failures that are durable.
    var promisedFailures = 0
    /// The delivery count that it came with last, and in which life of the machine.
    var count = 0
    var machine = -1
  }

  private struct Session {
    /// It is being closed: what it settles in an open transaction goes back at once.
    var isClosing = false
    var actions: [(copy: CopyName, action: Action)] = []
    /// The newest of each lane that was delivered for the first time.
    var newest: [LaneName: Int] = [:]
  }

  private struct LaneName: Hashable {
    let place: String
    let publisher: Int
    let lane: Int
  }

  let families: [QueueFamily]
  /// The clock is set: times of messages mean other ones after a restart.
  let jumpsClock: Bool
  private(set) var publications: [MessageName: Publication] = [:]
  /// What each session has published, in order.
  private(set) var published: [Int: [MessageName]] = [:]
  var copies: [CopyName: Copy] = [:]
  private var sessions: [Int: Session] = [:]
  private var lastSession = 0
  /// Messages of a key that were delivered in this life of the machine and not settled.
  private var undone: [LaneName: Set<MessageName>] = [:]
  private var undoneMachine = 0
  private(set) var counts: [String: Int] = [:]

  init(_ families: [QueueFamily], jumpsClock: Bool) {
    self.families = families
    self.jumpsClock = jumpsClock
  }

  private mutating func count(_ what: String) { counts[what, default: 0] += 1 }

  // MARK: Sessions

  mutating func newSession() -> Int {
    lastSession += 1
    sessions[lastSession] = Session()
    return lastSession
  }

  mutating func ended(session: Int) { sessions[session] = nil }

  /// The server ended a session: what it had not settled went back before the client heard of that, and another one may have
  /// had it already when it came.
  mutating func refused(session: Int) {
    for (name, copy) in copies where copy.holder == session && copy.action == nil {
      guard let before = copy.before else { continue }
      copies[name]?.holder = before.holder
      copies[name]?.action = before.action
    }
  }

  mutating func closes(session: Int) { sessions[session]?.isClosing = true }

  func isAlive(_ session: Int) -> Bool { sessions[session] != nil }

  // MARK: Publishing

  mutating func sent(_ name: MessageName, _ publication: Publication, in session: Int, now: MonotonicTime) {
    publications[name] = publication
    published[session, default: []].append(name)
    var copy = Copy()
    copy.note("sent", session, now)
    for family in publication.families { copies[CopyName(family: family, name: name)] = copy }
    count("messages published")
  }

  mutating func sentAgain(_ name: MessageName, in session: Int, now: MonotonicTime) {
    change(name) { $0.note("sent again", session, now) }
  }

  func isRefused(_ name: MessageName) -> Bool {
    publications[name]?.families.contains { copies[CopyName(family: $0, name: name)]?.isRefused == true } ?? false
  }

  /// It is durable, as `how` says.
  mutating func promised(_ name: MessageName, _ how: StaticString, in session: Int, now: MonotonicTime) {
    count("messages promised")
    change(name) {
      $0.isPromised = true
      $0.note(how, session, now)
    }
  }

  mutating func refused(_ name: MessageName, in session: Int, now: MonotonicTime) {
    count("messages refused")
    change(name) {
      $0.isRefused = true
      $0.note("refused", session, now)
    }
  }

  private mutating func change(_ name: MessageName, _ body: (inout Copy) -> Void) {
    for family in publications[name]?.families ?? [] {
      body(&copies[CopyName(family: family, name: name), default: Copy()])
    }
  }

  // MARK: Consuming

  /// A message came.
  /// - Parameter machine: the number of the machine's life.
  mutating func delivered(
    _ name: MessageName, from place: String, of family: Int, in session: Int, redelivered: Bool, count: Int,
    machine: Int, sentAt: MonotonicTime, now: MonotonicTime
  ) -> [QueueProblem] {
    let key = CopyName(family: family, name: name)
    guard let publication = publications[name], var copy = copies[key] else {
      return [(.queueMessages, "\(place): \(name) was delivered, nobody sent it")]
    }
    self.count("messages delivered")
    let kind = families[family]
    let isHome = place == kind.name
    var problems: [QueueProblem] = []
    func say(_ rule: Rule, _ text: String) {
      problems.append(
        (rule, "\(place): \(name) \(text); session \(session), \(now.nanoseconds / 1000) us, \(copy.events)"))
    }
    if copy.settled == .acknowledged { say(.queueSettlements, "came again after its acknowledgement was promised") }
    if copy.settled == .rejected, isHome, !kind.isRedriven {
      say(.queueSettlements, "came again after its rejection was promised")
    }
    if copy.holder == session, copy.action == nil, isHome {
      say(.queueDuplicates, "was delivered twice in one session, and not returned")
    }
    // What was moved meanwhile begins anew.
    if copy.holder == session, copy.action == .returned || copy.action == .failed, !redelivered, !kind.isRedriven,
      kind.parked == nil
    {
      say(.queueDuplicates, "was returned and came again without the mark redelivered")
    }
    // Times are whole milliseconds, at a start and for a message.
    let slack = Duration.milliseconds(2)
    if let due = publication.due, now + slack < due, !jumpsClock {
      say(.queueDelays, "came \((due - now).inMilliseconds) ms before its time")
    }
    if let wait = kind.retryDelay, sessions[copy.holder]?.isClosing == false,
      copy.action == .returned || copy.action == .failed,
      now + slack < copy.actedAt + wait
    {
      say(.queueDelays, "was returned and came again \((now - copy.actedAt).inMilliseconds) ms later")
    }
    if !redelivered, isHome, kind.isOrdered {
      let lane = LaneName(place: place, publisher: name.publisher, lane: publication.lane)
      if let newest = sessions[session]?.newest[lane], newest >= name.number {
        say(.queueOrder, "was delivered after \(name.publisher):\(newest)")
      }
      sessions[session]?.newest[lane] = name.number
    }
    if kind.kind == .quorum, isHome, !kind.isRedriven { check(count, of: copy, kind, machine, say) }
    if kind.kind == .grouped, isHome { takeKey(publication.lane, name, family, machine, say) }
    copy.isSeen = true
    copy.before = copy.action.map { (copy.holder, $0) }
    copy.note(isHome ? "delivered" : "delivered elsewhere", session, now)
    copy.holder = session
    copy.sentAt = sentAt
    copy.action = nil
    copy.count = count
    copy.machine = machine
    copies[key] = copy
    return problems
  }

  /// Whether a delivery to a session that the server wrote at `sentAt` is older than the one that came last, to another.
  func isStale(_ name: MessageName, of family: Int, in session: Int, sentAt: MonotonicTime) -> Bool {
    guard let copy = copies[CopyName(family: family, name: name)] else { return false }
    return copy.holder != session && sentAt < copy.sentAt
  }

  /// A message came to a session that is being closed: it is durable, and may be with another one already.
  mutating func seen(_ name: MessageName, of family: Int) {
    copies[CopyName(family: family, name: name)]?.isSeen = true
  }

  /// A message was taken out at the end.
  func drained(_ name: MessageName, from place: String, now: MonotonicTime) -> [QueueProblem] {
    guard let due = publications[name]?.due, now + .milliseconds(2) < due, !jumpsClock else { return [] }
    return [(.queueDelays, "\(place): \(name) came \((due - now).inMilliseconds) ms before its time")]
  }

  private func check(
    _ count: Int, of copy: Copy, _ family: QueueFamily, _ machine: Int, _ say: (Rule, String) -> Void
  ) {
    if let limit = family.deliveryLimit, count > limit {
      say(.queueDeliveryCounts, "has failed \(count) times, \(limit) is the limit")
    }
    var least = copy.promisedFailures
    // What a session that is being closed has failed may be part of a transaction that it does not commit.
    let hasFailed = copy.action == .failed && sessions[copy.holder]?.isClosing != true
    if copy.machine == machine { least = max(least, copy.count + (hasFailed ? 1 : 0)) }
    if count < least {
      say(.queueDeliveryCounts, "came with the delivery count \(count), it has failed \(least) times at least")
    }
  }

  private mutating func takeKey(
    _ key: Int, _ name: MessageName, _ family: Int, _ machine: Int, _ say: (Rule, String) -> Void
  ) {
    if machine != undoneMachine {
      undone = [:]
      undoneMachine = machine
    }
    let lane = LaneName(place: "", publisher: family, lane: key)
    if let other = undone[lane]?.first(where: { $0 != name }) {
      say(.queueGroups, "of key \(key) was delivered while \(other) of that key was not done")
    }
    undone[lane, default: []].insert(name)
  }

  /// What a client sends to settle its delivery.
  mutating func acted(
    _ action: Action, _ name: MessageName, of family: Int, in session: Int, now: MonotonicTime
  ) {
    let key = CopyName(family: family, name: name)
    // Another one has it by now: this one's connection is over and it does not know.
    guard copies[key]?.holder == session else { return }
    count("messages \(action)")
    sessions[session]?.actions.append((key, action))
    copies[key]?.action = action
    copies[key]?.actedAt = now
    copies[key]?.note(action.label, session, now)
    if action == .rejected { copies[key]?.wasRejected = true }
    guard families[family].kind == .grouped, action == .acknowledged || action == .rejected else { return }
    undone[LaneName(place: "", publisher: family, lane: publications[name]?.lane ?? 0)]?.remove(name)
  }

  /// Actions that were only gathered, in a transaction that was rolled back.
  mutating func forgotten(_ name: MessageName, of family: Int, in session: Int, now: MonotonicTime) {
    let key = CopyName(family: family, name: name)
    sessions[session]?.actions.removeAll { $0.copy == key }
    copies[key]?.note("not committed", session, now)
    if copies[key]?.holder == session { copies[key]?.action = nil }
  }

  /// All that was done in a session so far is durable.
  mutating func promised(session: Int, now: MonotonicTime) {
    for (key, action) in sessions[session]?.actions ?? [] {
      count("settlements promised")
      switch action {
      case .acknowledged, .rejected:
        // It is over only if it did not come again meanwhile.
        if copies[key]?.holder == session, copies[key]?.action == action { copies[key]?.settled = action }
        copies[key]?.note("promised", session, now)
      case .failed: copies[key]?.promisedFailures += 1
      case .returned: break
      }
    }
    sessions[session]?.actions = []
  }

  /// Who else has a message that was just delivered, as far as that client knows; it may be about to hear that its connection
  /// is over.
  func holder(of name: MessageName, in family: Int) -> Int? {
    guard let copy = copies[CopyName(family: family, name: name)], copy.action == nil, isAlive(copy.holder) else {
      return nil
    }
    return copy.holder
  }
}
