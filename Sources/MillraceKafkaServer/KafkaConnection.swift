// KafkaConnection: one client: frames in, requests to their handlers, answers out in the order of the requests.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceKafkaProtocol
import MillraceSecurity

/// One client's connection. Answers leave in the order of the requests, whenever they are ready.
final class KafkaConnection: ConnectionHandler, RequestHolder, AdmittedConnection {
  let server: KafkaServer
  let listener: KafkaListener
  let connection: any Connection
  let number: UInt64
  /// Who the client is; nil until that is proved.
  var session: ClientSession?
  /// How it was proved, when it was by SASL.
  var sessionMechanism: SaslMechanism?
  /// When the client has to have proved it once more; nil when it need not.
  var sessionEnd: MonotonicTime?
  /// The proof under way.
  var proof: Proof?
  /// A message of the proof is being looked at, and nothing is read.
  var isAuthenticating = false
  var hasLookedAtCertificate = false
  var authenticationTimer: Timer?
  /// Requests that get an answer, in order.
  private var requests = Deque<PendingRequest>()
  /// Bytes of requests that are not done, with and without an answer to come.
  private var waitingRequestBytes = 0
  /// Produce requests that get no answer and are not done.
  private var silentRequests = 0
  /// Bytes of answers that wait for earlier ones.
  private var heldAnswerBytes = 0
  /// Bytes that the server's budget of answers counts for this connection.
  private var countedBytes = 0
  /// Bytes received that are not taken as requests yet, counted by the server's budget; few count as none.
  private(set) var inputBytes = 0
  /// When they began to count, or a request was taken of them.
  private(set) var inputSince = MonotonicTime(nanoseconds: 0)
  /// There is a whole request among them. What cannot be taken now is not the client's fault, and is answered in any case.
  private var holdsRequest = false
  /// Listed by the server, because the budget of requests is spent.
  var isStarved = false
  var isFetching = false
  /// The fetch under way, while it waits for records.
  var fetchWait: FetchWait?
  /// The same, when it is one of a member of a share group.
  var shareFetch: ShareFetch?
  /// A fetch, or request for queues, that came while another one was under way: the answers may be large, 50 MB each for a
  /// fetch. It waits, and nothing is read.
  var postponed: (frame: Bytes, request: PendingRequest)?
  /// What was taken from a queue and is not settled.
  var taken: TakenMessages?
  private var isReading = true
  /// The client sends no more, and may be gone: it is kept no longer than its requests need.
  private(set) var isPeerFinished = false
  /// Everything that the client sent was taken.
  private var isInputEnded = false
  /// When something was received or sent last, as far as is known, and what was unsent when that was looked at.
  private var activeAt: MonotonicTime
  private var unsentBefore = 0
  /// Took so many requests at once that it is others' turn.
  private var isYielding = false
  /// Requests taken, and bytes answered, since the reactor's clock moved on last, and when that was.
  private var takenAtOnce = 0
  private var answeredAtOnce = 0
  private var takenAt = MonotonicTime(nanoseconds: 0)
  /// Where it is counted among all connections.
  var place: ConnectionCensus.Place?
  /// Requests that were refused because of the storage, and whose answers have not left.
  var refusedRequests = 0
  /// The client has produced something, and has to wait when memory is short.
  var hasProduced = false
  /// Not served at all because its address makes connections too often; closed when its time is over.
  private var isTurnedAway = false
  /// Closed, or to be closed: nothing more is taken from it.
  private(set) var isOver = false
  /// Until when the client has to wait because of its quotas; nothing is read meanwhile.
  private(set) var mutedUntil: MonotonicTime?
  private var unmuteTimer: Timer?
  /// Whose request is in progress, and the thread's time up to which it has been charged; nil when nobody is charged.
  var requestTime: (clientID: String, since: Duration)?
  /// What is unsent will be counted again at the end of the turn.
  private var isRecounting = false
  /// Requests that may wait for their answers, and their bytes: beyond that the client has to wait.
  private static let mostWaitingRequests = 1000
  /// Requests taken in one go, however small: a read of 1 MiB may hold 50,000.
  private static let mostAtOnce = 1000
  /// Bytes of answers made in one go: 25 bytes may ask for all that is known of all topics.
  private static let mostAnsweredAtOnce = 1 << 20
  private static let mostWaitingBytes = 16 << 20
  /// The same while the journal is full: what one connection may hold then, besides the request it is reading.
  private static let mostWaitingBytesWhenCongested = 256 << 10
  /// Unsent bytes that are too few to be counted again.
  private static let fewUnsentBytes = 4 << 10

  init(server: KafkaServer, listener: KafkaListener, connection: any Connection, number: UInt64) {
    self.server = server
    self.listener = listener
    self.connection = connection
    self.number = number
    activeAt = server.broker.reactor.now
    if !listener.security.asksForIdentity {
      session = ClientSession(server.broker.access, .anonymous, from: connection.remoteAddress.host)
    }
  }

  var broker: Broker { server.broker }

  /// Who the client is, in requests that are served only once that is known.
  var client: ClientSession {
    guard let session else { preconditionFailure("a request was served before its client was known") }
    return session
  }

  /// Whether an answer has to say how long its client must wait, or may have to.
  var isThrottling: Bool { mutedUntil != nil || requestTime != nil }

  // MARK: ConnectionHandler

  func connectionReceived(_ input: inout InputBuffer) {
    activeAt = broker.reactor.now
    if takenAt != activeAt {
      takenAt = activeAt
      takenAtOnce = 0
      answeredAtOnce = 0
    }
    if session == nil { recognizeCertificate() }
    let before = inputBytes
    let hasTaken = takeRequests(&input)
    let held = isOver || input.count < RequestBudget.always ? 0 : input.count
    if held > 0, before == 0 || hasTaken { inputSince = broker.reactor.now }
    if held != inputBytes {
      let change = held - inputBytes
      inputBytes = held
      server.gate.change(by: change)
    }
    if held != before || server.requestBudget.isSpent { throttle() }
    closeWhenDone()
  }

  /// - Returns: whether any request was taken.
  private func takeRequests(_ input: inout InputBuffer) -> Bool {
    var hasTaken = false
    // Want of memory is no reason to leave a whole request lying: only serving it gives its memory back.
    holdsRequest = true
    while !isOver, let size = input.peekInt32() {
      let isPossible = size >= leastRequest && size <= largestRequest
      let isWhole = isPossible && input.count >= Int(size) + 4
      guard isReading else {
        holdsRequest = isWhole || !isPossible
        return hasTaken
      }
      guard isPossible else {
        refuse("a request of \(size) bytes; \(leastRequest) to \(largestRequest) are allowed")
        return hasTaken
      }
      guard isWhole else {
        input.expect(Int(size) + 4, isOnePiece: true)
        break
      }
      _ = input.take(4)
      let counted = min(inputBytes, Int(size) + 4)
      inputBytes -= counted
      dispatch(input.take(Int(size)), PendingRequest(server, size: Int(size), counted: counted))
      hasTaken = true
      takenAtOnce += 1
      let isMuch =
        takenAtOnce >= KafkaConnection.mostAtOnce || answeredAtOnce >= KafkaConnection.mostAnsweredAtOnce
      if isMuch { yield() } else { throttle() }
    }
    holdsRequest = false
    return hasTaken
  }

  /// Bytes of the smallest request: its header, or nothing in a message of SASL without one.
  private var leastRequest: Int { proof?.isRaw == true ? 0 : 8 }

  /// Lets others have their turn. The rest of the input is offered in the next one.
  private func yield() {
    guard !isYielding, !isOver else { return }
    isYielding = true
    takenAtOnce = 0
    answeredAtOnce = 0
    throttle()
    broker.reactor.atEndOfTurn { [self] in
      isYielding = false
      throttle()
    }
  }

  func connectionDrained() { throttle() }

  func connectionPeerFinished() {
    isPeerFinished = true
    activeAt = broker.reactor.now
    // Closed at once, because nobody was ever served here.
    if isTurnedAway { return connection.close() }
    endFetchWait()
    if let mutedUntil, mutedUntil > broker.reactor.now + ClientQuotas.window {
      mute(until: broker.reactor.now + ClientQuotas.window)
    }
  }

  func connectionInputEnded() -> Bool {
    isInputEnded = true
    return isDone
  }

  /// Whether the client sends no more and has all its answers.
  private var isDone: Bool { isInputEnded && requests.isEmpty && postponed == nil && !holdsRequest }

  func closeWhenDone() {
    if isDone, !isOver { finish() }
  }

  func connectionClosed(_ error: IOError?) {
    isOver = true
    postponed = nil
    // Those that the broker holds stay counted until it drops them.
    requests = Deque()
    // A client that is gone wants no records.
    if let fetchWait { broker.cancel(fetchWait) }
    fetchWait = nil
    taken?.close(isFailure: true)
    taken = nil
    if let shareFetch { broker.shares.cancel(shareFetch) }
    shareFetch = nil
    unmuteTimer?.cancel()
    unmuteTimer = nil
    authenticationTimer?.cancel()
    authenticationTimer = nil
    server.budget.change(by: -countedBytes)
    countedBytes = 0
    server.gate.change(by: -inputBytes)
    inputBytes = 0
    if let error {
      server.logger.log(.debug, "kafka", "connection lost", ["connection": "\(number)", "error": error.description])
    }
    server.closed(self)
  }

  /// Closes once everything that is answered has been sent.
  func finish() {
    isOver = true
    connection.closeAfterWriting()
  }

  /// Closes because of what the client sent.
  /// - Parameter key: what makes refusals equal that may come with every request; nil for all others together.
  func refuse(_ reason: String, key: String? = nil) {
    guard !isOver else { return }
    isOver = true
    server.logger.logRarely(
      .warning, "kafka", "connection closed", reason,
      ["peer": connection.remoteAddress.description, "connection": "\(number)"], key: key, now: broker.reactor.now)
    connection.closeAfterWriting()
  }

  /// Others need its place, and its client has not said who it is.
  func giveWay() {
    place = nil
    isOver = true
    connection.close()
  }

  /// Leaves the client waiting for a time, then closes: its address makes connections too often.
  func turnAway(after time: Duration) {
    isOver = true
    isTurnedAway = true
    guard time > .zero else { return connection.close() }
    connection.setReading(false)
    unmuteTimer = broker.reactor.schedule(after: time) { [self] in connection.close() }
  }

  // MARK: Answers

  /// Takes the next place in the order of answers; the result fills it, once.
  ///
  /// Whoever answers holds the connection until then, as its request context does anyway. A weak reference would make
  /// every retain of the connection slower, for good.
  func reserve(_ request: PendingRequest) -> ([Bytes]) -> Void {
    requests.append(request)
    waitingRequestBytes += request.size
    return { [self] pieces in
      precondition(request.answer == nil, "a request was answered twice")
      request.answer = isOver ? [] : pieces
      // Nobody needs its frame any more, though its answer may have to wait long for those of earlier requests.
      request.settle()
      if isOver { return }
      waitingRequestBytes -= request.size
      let size = KafkaConnection.size(pieces)
      heldAnswerBytes += size
      answeredAtOnce += size
      sendReady()
    }
  }

  /// Counts a request that gets no answer; the result says that it is done, once.
  func reserveSilently(_ request: PendingRequest) -> ([Bytes]) -> Void {
    silentRequests += 1
    waitingRequestBytes += request.size
    return { [self] _ in
      silentRequests -= 1
      waitingRequestBytes -= request.size
      request.settle()
      throttle()
    }
  }

  private func countAnswer() {
    if refusedRequests > 0 {
      refusedRequests -= 1
      server.requests.refused += 1
    } else {
      server.requests.served += 1
    }
  }

  private static func size(_ pieces: [Bytes]) -> Int { pieces.reduce(0) { $0 + $1.count } }

  private func sendReady() {
    while let request = requests.first, let answer = request.answer {
      requests.removeFirst()
      heldAnswerBytes -= KafkaConnection.size(answer)
      connection.write(answer)
      countAnswer()
      activeAt = broker.reactor.now
    }
    throttle()
    closeWhenDone()
  }

  /// Reads nothing more from the client for a time; what it had to wait already counts.
  func mute(for time: Duration) {
    guard time > .zero, !isOver else { return }
    // A client that may be gone is not kept for hours.
    let end = broker.reactor.now + (isPeerFinished ? min(time, ClientQuotas.window) : time)
    if let mutedUntil, mutedUntil >= end { return }
    mute(until: end)
  }

  private func mute(until end: MonotonicTime) {
    mutedUntil = end
    unmuteTimer?.cancel()
    unmuteTimer = broker.reactor.schedule(after: end - broker.reactor.now) { [self] in
      mutedUntil = nil
      unmuteTimer = nil
      goOn()
      throttle()
    }
    throttle()
  }

  /// Reads on, or no further for now.
  func throttle() {
    guard !isOver else { return }
    let unsent = connection.pendingWriteBytes + heldAnswerBytes
    server.budget.change(by: unsent - countedBytes)
    countedBytes = unsent
    let isStarving = !holdsRequest && server.requestBudget.mustWait(holding: waitingRequestBytes + inputBytes)
    if isStarving { server.gate.starve(self) }
    let mostBytes =
      broker.isCongested ? KafkaConnection.mostWaitingBytesWhenCongested : KafkaConnection.mostWaitingBytes
    let isFull =
      isStarving || isYielding || isAuthenticating || mutedUntil != nil || postponed != nil
      || hasProduced && broker.memory.isLow
      || requests.count + silentRequests >= KafkaConnection.mostWaitingRequests
      || waitingRequestBytes >= mostBytes || unsent >= server.budget.unsentLimit
    if isFull == isReading {
      isReading = !isFull
      connection.setReading(isReading)
    }
    if unsent >= KafkaConnection.fewUnsentBytes { recountAtEndOfTurn() }
  }

  // MARK: Giving up

  /// Ends the wait of the fetch under way, if there is one: it is answered with what there is.
  func endFetchWait() {
    if let fetchWait { broker.end(fetchWait) }
    if let shareFetch { broker.shares.end(shareFetch) }
  }

  /// How long a client that sends no more is kept for the answers that it has not got yet.
  static let longestFarewell = Duration.seconds(60)

  /// Whether nothing has moved for this long although nobody but the client is waited for: it asks nothing, or does not read
  /// its answers. What is sent moves unseen, so this has to be asked several times in that time.
  func isIdle(for time: Duration) -> Bool {
    let unsent = connection.pendingWriteBytes
    if unsent != unsentBefore {
      unsentBefore = unsent
      activeAt = broker.reactor.now
    }
    guard !isOver else { return false }
    // A client that sends no more still gets its answers, but what it waits for may be others' doing (the members of its
    // group), and it is most likely gone.
    if isPeerFinished { return broker.reactor.now - activeAt >= min(time, KafkaConnection.longestFarewell) }
    guard requests.isEmpty, silentRequests == 0, postponed == nil, mutedUntil == nil,
      !(hasProduced && broker.memory.isLow)
    else { return false }
    return (isReading || unsent > 0) && broker.reactor.now - activeAt >= time
  }

  /// What keeps the input that this connection holds from being used up.
  private enum Hold {
    /// A request that does not become whole.
    case torn
    /// A whole request behind a fetch that waits for records.
    case longPoll
    /// A whole request behind answers that the client does not read.
    case unread
  }

  /// Why the input that counts in the budget stays; nil when none does, or when it is sure to be used up soon.
  private var hold: Hold? {
    guard inputBytes > 0, !isOver else { return nil }
    guard holdsRequest || postponed != nil else { return .torn }
    if fetchWait != nil || shareFetch != nil { return .longPoll }
    return countedBytes >= server.budget.unsentLimit ? .unread : nil
  }

  /// What lies in the input that nothing is sure to use up, and since when.
  var stayingInput: (since: MonotonicTime, bytes: Int)? { hold.map { _ in (inputSince, inputBytes) } }

  /// Does without what it waits for, because others wait for the memory.
  func giveUp() {
    switch hold {
    case .torn:
      refuse("its request of \(inputBytes) bytes so far stays unfinished while others wait for the memory")
    case .longPoll: endFetchWait()
    case .unread:
      refuse("it does not read its answers while others wait for the memory of its \(inputBytes) bytes of requests")
    case nil: break
    }
  }

  /// A connection collects output and sends it later in the turn, without a word unless the system had no room.
  private func recountAtEndOfTurn() {
    guard !isRecounting else { return }
    isRecounting = true
    broker.reactor.atEndOfTurn { [self] in
      isRecounting = false
      // What did not leave by now waits for room, and connectionDrained follows.
      let unsent = connection.pendingWriteBytes + heldAnswerBytes
      if unsent != countedBytes { throttle() }
    }
  }
}
