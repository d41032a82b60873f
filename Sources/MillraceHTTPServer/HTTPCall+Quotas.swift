// HTTPCall+Quotas: users who used more than their quota, and publishers while memory is short, are told to come again later.
//
// The limits are those of Kafka's clients, for the user; HTTP's clients have no ids. What was used is counted when it is known, and
// whoever owes then is answered 429 with `Retry-After`. A stream of events waits instead. What is said of bytes holds for routes that
// use them; of time all routes use some, except those that are for everybody, and metrics. Waits count in the metrics when a
// client is told of them, or a stream begins to wait.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol

extension HTTPCall {
  /// - Throws: 429 as long as the user owes something of the quotas that the route uses; 503 for what is to be kept while memory
  ///   is short.
  func checkUse(_ route: HTTPRoute) throws(HTTPProblem) {
    if route.isTimed { try checkOwed(.requestTime) }
    guard let use = route.use else { return }
    if use == .producerBytes, broker.memory.isLow {
      throw HTTPCall.later(
        HTTPProblem(.unavailable, "low-on-memory", "memory is short: nothing is taken for now"), after: .seconds(1))
    }
    try checkOwed(use)
  }

  private func checkOwed(_ use: ClientQuotas.Limit) throws(HTTPProblem) {
    let wait = owed(use)
    guard wait > .zero else { return }
    broker.quotas.countWait(use, wait)
    throw HTTPCall.later(
      HTTPProblem(
        .tooManyRequests, "quota-exceeded",
        "\(principal) used more than its quota \(use.rawValue), and has to wait \(wait.inMilliseconds) ms"), after: wait
    )
  }

  private static func later(_ problem: HTTPProblem, after wait: Duration) -> HTTPProblem {
    var problem = problem
    problem.fields.append(("Retry-After", "\(max(1, (wait.inMilliseconds + 999) / 1000))"))
    return problem
  }

  /// Time that the user still has to wait for what it used.
  func owed(_ use: ClientQuotas.Limit) -> Duration {
    broker.quotas.owed(use, user: principal.name, clientID: "", now: reactor.now)
  }

  /// Counts bytes for the quota that the route uses.
  func charge(_ bytes: Int) {
    guard let use = route?.use, broker.quotas.isLimiting(use) else { return }
    _ = broker.quotas.charge(
      use, user: principal.name, clientID: "", Double(bytes), isCounted: false, now: reactor.now)
  }
}
