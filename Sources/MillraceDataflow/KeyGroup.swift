// KeyGroup: the 256 groups into which all keys fall, by which state will be spread over workers.

import MillraceBase

/// A key group. The rule is part of the state log's format and never changes.
public enum KeyGroup {
  /// Number of groups.
  public static let count = 256

  /// The group of a key whose ``Hashing/stable(_:)`` is `hash`: its highest eight bits.
  ///
  /// The table probes with the lowest 32, so that groups and slots are independent.
  @inlinable
  public static func of(hash: UInt64) -> UInt8 { UInt8(truncatingIfNeeded: hash >> 56) }

  /// The worker that has the keys of `group`, of `workers` that are numbered from 0: groups side by side, as evenly as can be.
  @inlinable
  public static func worker(of group: UInt8, among workers: Int) -> Int { (Int(group) &* workers) >> 8 }

  /// The group of a key.
  @inlinable
  public static func of(_ key: UnsafeRawBufferPointer) -> UInt8 { of(hash: Hashing.stable(key)) }
}
