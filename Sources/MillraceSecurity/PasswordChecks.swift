// PasswordChecks: which passwords are being checked beside the reactor: the same one once, not too many at a time.
//
//   ask ──> .verified, at once                 the password was right lately
//       ──> .check(id) ──> a thread verifies ──> end(id) gives back everybody who waits for it
//       ──> .waiting                           the same password is being checked for somebody else
//       ──> .busy                              too many are; the client may try again
//
// Invariants: 1. nobody is verified without that this very password was right for this very credential; 2. checks and waiters are bounded.

import MillraceBase

/// Checks under way, and what came out lately. `Waiter` names a client, for instance by its connection's number.
///
/// A client that goes away meanwhile is not taken out: its number comes back, and nobody has it any more.
public struct PasswordChecks<Waiter> {
  /// What to do with a client.
  public enum Answer: Equatable, Sendable {
    /// The password is right.
    case verified
    /// Call ``ScramCredential/verify(password:)`` on another thread, then ``end(_:isRight:at:)`` with this number.
    case check(Int)
    /// ``end(_:isRight:at:)`` will give it back.
    case waiting
    /// Refuse it for now: the server is busy with other passwords.
    case busy
  }

  private struct Check {
    var credentials: PlainCredentials
    var credential: ScramCredential
    /// What ``ScramCredential/standIn(for:mechanism:key:iterations:)`` made is checked for its time alone.
    var isKnown: Bool
    var waiters: [Waiter]
  }

  /// Most checks at a time.
  public let limit: Int
  /// Most clients that wait, over all checks.
  public let waiterLimit: Int
  private var verified: VerifiedPasswords
  private var checks: [Int: Check] = [:]
  private var next = 0
  private var waiterCount = 0

  /// None yet.
  /// - Parameter limit: checks that run or wait for a thread; at 8 ms each, 64 of them keep one core busy for half a second.
  public init(limit: Int = 64, waiterLimit: Int = 4096, verified: VerifiedPasswords = VerifiedPasswords()) {
    self.limit = limit
    self.waiterLimit = waiterLimit
    self.verified = verified
  }

  /// Checks under way.
  public var count: Int { checks.count }

  /// A client that says who it is.
  /// - Parameters:
  ///   - credential: the user's, or what stands in for it.
  ///   - isKnown: whether there is such a user; otherwise the check takes its time and says no.
  public mutating func ask(
    _ credentials: PlainCredentials, _ credential: ScramCredential, isKnown: Bool, _ waiter: Waiter,
    at now: MonotonicTime
  ) -> Answer {
    if isKnown, verified.contains(credentials, for: credential, at: now) { return .verified }
    guard waiterCount < waiterLimit else { return .busy }
    let same = checks.first {
      $0.value.credentials == credentials && $0.value.credential == credential && $0.value.isKnown == isKnown
    }
    if let same {
      waiterCount += 1
      checks[same.key]?.waiters.append(waiter)
      return .waiting
    }
    guard checks.count < limit else { return .busy }
    waiterCount += 1
    next += 1
    checks[next] = Check(credentials: credentials, credential: credential, isKnown: isKnown, waiters: [waiter])
    return .check(next)
  }

  /// What to verify, for the thread that does it.
  public func work(_ id: Int) -> (password: Secret, credential: ScramCredential)? {
    checks[id].map { ($0.credentials.password, $0.credential) }
  }

  /// A check has ended.
  /// - Returns: who waited for it, and whether they are who they say.
  public mutating func end(_ id: Int, isRight: Bool, at now: MonotonicTime) -> (waiters: [Waiter], isVerified: Bool) {
    guard let check = checks.removeValue(forKey: id) else { preconditionFailure("check \(id) is not under way") }
    waiterCount -= check.waiters.count
    let isVerified = isRight && check.isKnown
    if isVerified { verified.insert(check.credentials, for: check.credential, at: now) }
    return (check.waiters, isVerified)
  }
}
