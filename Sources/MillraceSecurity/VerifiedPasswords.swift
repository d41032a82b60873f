// VerifiedPasswords: which passwords were found right lately, so that a client that comes back costs no key derivation.
//
// Kept is a keyed hash of user, credential and password; the key is random and of this process. A password that was changed has another
// credential, and so is not found. A wrong password is never kept.

import MillraceBase

/// A bounded memory of passwords that were right. Holds no password, and nothing to check guesses with but inside this process.
public struct VerifiedPasswords {
  private struct Mark: Hashable {
    var parts: (UInt64, UInt64, UInt64, UInt64)

    static func == (left: Mark, right: Mark) -> Bool { left.parts == right.parts }
    func hash(into hasher: inout Hasher) { hasher.combine(parts.0) }
  }

  /// Most entries; 100 bytes each.
  public let limit: Int
  /// How long an entry counts.
  public let lifetime: Duration
  private let key = Secret.random(count: 32)
  private var expiries: [Mark: MonotonicTime] = [:]
  /// In the order of their ends, which is that of their coming; of a mark that came again the last place counts.
  private var order = Deque<(mark: Mark, expiry: MonotonicTime)>()

  /// Nothing yet.
  public init(limit: Int = 10_000, lifetime: Duration = .seconds(600)) {
    precondition(limit > 0, "room for \(limit) passwords")
    self.limit = limit
    self.lifetime = lifetime
  }

  /// How many there are, with those whose time is over and that were not thrown away yet.
  public var count: Int { expiries.count }

  /// Whether this password of `user` was found right for this very credential, and that counts still.
  /// - Complexity: two keyed hashes, some microseconds.
  public func contains(_ credentials: PlainCredentials, for credential: ScramCredential, at now: MonotonicTime) -> Bool
  {
    guard let expiry = expiries[mark(credentials, credential)] else { return false }
    return now < expiry
  }

  /// Remembers that ``ScramCredential/verify(password:)`` said yes. The oldest entry makes room when there is none.
  public mutating func insert(_ credentials: PlainCredentials, for credential: ScramCredential, at now: MonotonicTime) {
    while let first = order.first, first.expiry <= now || order.count >= limit {
      order.removeFirst()
      if expiries[first.mark] == first.expiry { expiries[first.mark] = nil }
    }
    let mark = mark(credentials, credential)
    expiries[mark] = now + lifetime
    order.append((mark, now + lifetime))
  }

  /// Forgets everything.
  public mutating func removeAll() {
    expiries = [:]
    order = Deque()
  }

  private func mark(_ credentials: PlainCredentials, _ credential: ScramCredential) -> Mark {
    // The user's name cannot hold a zero byte, and all else has a fixed length or comes last.
    let identity =
      Array(credentials.user.utf8) + [0, credential.mechanism.rawValue] + credential.storedKey.copy + credential.salt
    let bound = Cryptography.authenticate(.sha256, key: key, identity)
    return Cryptography.authenticate(.sha256, key: bound, credentials.password).withBytes { bytes in
      func part(_ index: Int) -> UInt64 { bytes.loadUnaligned(fromByteOffset: 8 * index, as: UInt64.self) }
      return Mark(parts: (part(0), part(1), part(2), part(3)))
    }
  }
}
