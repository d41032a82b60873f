// VerifiedTokens: which tokens were found good lately, for protocols whose every request shows one.
//
// Kept is a keyed hash of each, with whom it stands for and when that ends; the key is random and of this process. What the keys or
// the rules say may change: whoever changes them makes a new memory.

import MillraceBase

/// A bounded memory of tokens that were good. Holds no token.
public struct VerifiedTokens {
  /// A keyed hash of 32 bytes, whose first 16 are enough to tell tokens apart that nobody can choose.
  private struct Mark: Hashable {
    var high: UInt64
    var low: UInt64
  }

  /// Most entries; 200 bytes each.
  public let limit: Int
  private let key = Secret.random(count: 32)
  private var identities: [Mark: BearerIdentity] = [:]

  /// Nothing yet.
  public init(limit: Int = 10_000) {
    precondition(limit > 0, "room for \(limit) tokens")
    self.limit = limit
  }

  /// How many there are, with those whose time is over and that were not thrown away yet.
  public var count: Int { identities.count }

  /// Whom the token was found to stand for, while that counts.
  /// - Complexity: a keyed hash, some microseconds.
  public func identity(of token: Secret, at now: Timestamp) -> BearerIdentity? {
    guard let identity = identities[mark(token)], now < identity.expires else { return nil }
    return identity
  }

  /// Remembers that ``BearerTokenVerifier/verify(_:at:)`` said yes. When there is no room, those whose time is over make it, and
  /// if there are none, all.
  public mutating func insert(_ token: Secret, _ identity: BearerIdentity, at now: Timestamp) {
    if identities.count >= limit { identities = identities.filter { now < $0.value.expires } }
    if identities.count >= limit { identities.removeAll(keepingCapacity: true) }
    identities[mark(token)] = identity
  }

  private func mark(_ token: Secret) -> Mark {
    Cryptography.authenticate(.sha256, key: key, token).withBytes { bytes in
      Mark(
        high: bytes.loadUnaligned(fromByteOffset: 0, as: UInt64.self),
        low: bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
    }
  }
}
