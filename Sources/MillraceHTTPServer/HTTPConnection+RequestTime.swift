// HTTPConnection+RequestTime: what a user's requests take of the reactor's time, for the quota `request_percentage`.
//
// That is the time of taking a request, of its handler, and of writing its answer, also when that comes later, and of each piece of
// a stream. Passwords are checked on other threads, and what the broker does for all at the end of a turn is nobody's. A request
// that is turned away with 429 costs nothing, so that one client that does not wait does not keep the others of its user away; nor
// do metrics, without which an operator could not see why.

import MillraceBase
import MillraceBroker

extension HTTPConnection {
  /// Runs `body` and charges the user of the request under way for the time. As long as nobody is limited in it no clock is read.
  func measured(_ body: () -> Void) {
    guard server.broker.quotas.isLimiting(.requestTime), timedSince == nil else { return body() }
    timedSince = server.processorTime()
    body()
    if call != nil { chargeTime() }
    timedSince = nil
  }

  /// Charges for what was done since this was called last, or since the beginning of what is ``measured(_:)``.
  /// What was done for a request that is nobody's is not the next one's either, whose user may be another.
  func chargeTime() {
    guard let since = timedSince else { return }
    let now = server.processorTime()
    timedSince = now
    guard let call, call.isTimed else { return }
    let seconds = max(0, Double((now - since).inNanoseconds) / 1e9)
    _ = server.broker.quotas.charge(
      .requestTime, user: call.principal.name, clientID: "", seconds, isUntilPaid: true, isCounted: false,
      now: reactor.now)
  }
}
