// Secret: bytes that must not be seen: they print as nothing, compare in constant time and are overwritten at the end.

import COpenSSL

/// A password, a key or what is derived of one.
///
/// It has no description of its contents, and a mirror of it is empty, so that no log line and no dump shows them. Copies share
/// the bytes, which are overwritten when the last one is gone.
public struct Secret: Sendable, Equatable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
  // Safety: the bytes are written in `init` and `deinit` only.
  private final class Storage: @unchecked Sendable {
    let bytes: UnsafeMutableRawBufferPointer

    init(_ source: UnsafeRawBufferPointer) {
      bytes = .allocate(byteCount: source.count, alignment: 1)
      bytes.copyMemory(from: source)
    }

    init(count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void) {
      bytes = .allocate(byteCount: count, alignment: 1)
      bytes.initializeMemory(as: UInt8.self, repeating: 0)
      fill(bytes)
    }

    deinit {
      // Unlike a plain loop, this is not optimized away.
      OPENSSL_cleanse(bytes.baseAddress, bytes.count)
      bytes.deallocate()
    }
  }

  private let storage: Storage

  /// A copy of `bytes`.
  public init(_ bytes: some Sequence<UInt8>) {
    var held = Array(bytes)
    storage = held.withUnsafeBytes { Storage($0) }
    held.withUnsafeMutableBytes { OPENSSL_cleanse($0.baseAddress, $0.count) }
  }

  /// The UTF-8 of `text`.
  public init(_ text: String) { self.init(text.utf8) }

  /// `count` bytes, zeros that `fill` overwrites.
  init(count: Int, _ fill: (UnsafeMutableRawBufferPointer) -> Void) { storage = Storage(count: count, fill) }

  /// Unpredictable bytes of the system.
  public static func random(count: Int) -> Secret {
    var bytes = [UInt8](repeating: 0, count: count)
    for index in bytes.indices { bytes[index] = .random(in: .min ... .max) }
    return Secret(bytes)
  }

  /// Length in bytes.
  public var count: Int { storage.bytes.count }

  /// Calls `body` with the bytes, which are valid only inside.
  public func withBytes<Result>(_ body: (UnsafeRawBufferPointer) throws -> Result) rethrows -> Result {
    try body(UnsafeRawBufferPointer(storage.bytes))
  }

  /// The bytes once more, for whoever must store or send them.
  public var copy: [UInt8] { withBytes { Array($0) } }

  /// Takes the same time wherever the two differ; lengths are no secret.
  public static func == (left: Secret, right: Secret) -> Bool {
    guard left.count == right.count else { return false }
    return CRYPTO_memcmp(left.storage.bytes.baseAddress, right.storage.bytes.baseAddress, left.count) == 0
  }

  /// Says that this is a secret, and nothing of it.
  public var description: String { "(secret)" }
  /// The same.
  public var debugDescription: String { description }
  /// Without children.
  public var customMirror: Mirror { Mirror(self, children: []) }
}
