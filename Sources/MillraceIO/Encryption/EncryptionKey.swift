// EncryptionKey: a key that files' own keys are wrapped with: 32 bytes that nothing prints, and the name that they are known by.

import COpenSSL
import MillraceBase

/// What a key is called in files and messages: eight bytes made of the key by a one-way function.
///
/// So two keys never share a name, nobody has to think of one, and nothing of the key can be told from it.
public struct EncryptionKeyID: Hashable, Sendable, CustomStringConvertible, Comparable {
  /// The eight bytes as a number, big endian.
  let number: UInt64

  /// The id that `text` stands for; nil when it is not sixteen hexadecimal digits.
  public init?(_ text: String) {
    guard text.utf8.count == 16, text.allSatisfy(\.isHexDigit), let number = UInt64(text, radix: 16) else { return nil }
    self.number = number
  }

  init(number: UInt64) { self.number = number }

  /// Sixteen hexadecimal digits.
  public var description: String {
    let digits = String(number, radix: 16)
    return String(repeating: "0", count: 16 - digits.count) + digits
  }

  /// By number.
  public static func < (left: EncryptionKeyID, right: EncryptionKeyID) -> Bool { left.number < right.number }
}

/// 32 secret bytes for AES-256. Overwritten when the last reference goes; it has no description of its contents.
///
/// Safety: the bytes are written in `init` and `deinit` only.
public final class EncryptionKey: @unchecked Sendable, CustomStringConvertible, CustomReflectable {
  /// Bytes of a key.
  public static let size = 32

  let bytes: UnsafeMutableRawBufferPointer
  /// What it is called.
  public let id: EncryptionKeyID

  /// A key of `bytes`, which must be 32; the caller wipes its own copy.
  public init(_ source: UnsafeRawBufferPointer) {
    precondition(source.count == EncryptionKey.size, "a key of \(source.count) bytes")
    bytes = .allocate(byteCount: EncryptionKey.size, alignment: 16)
    bytes.copyMemory(from: source)
    id = EncryptionKey.id(of: UnsafeRawBufferPointer(bytes))
  }

  /// A new key, of the cryptographic library's unpredictable bytes.
  public static func random() -> EncryptionKey {
    withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { room in
      randomBytes(room)
      defer { OPENSSL_cleanse(room.baseAddress, size) }
      return EncryptionKey(UnsafeRawBufferPointer(room))
    }
  }

  deinit {
    OPENSSL_cleanse(bytes.baseAddress, bytes.count)
    bytes.deallocate()
  }

  /// The key's name, and nothing of the key.
  public var description: String { "key \(id)" }
  /// Without children.
  public var customMirror: Mirror { Mirror(self, children: []) }

  private static func id(of key: UnsafeRawBufferPointer) -> EncryptionKeyID {
    guard OpenSSL.isReady else { preconditionFailure("the cryptographic library cannot be started") }
    let label: StaticString = "millrace encryption key id"
    return withUnsafeTemporaryAllocation(byteCount: Int(EVP_MAX_MD_SIZE), alignment: 8) { room in
      let out = room.baseAddress?.assumingMemoryBound(to: UInt8.self)
      var length: UInt32 = 0
      let made = HMAC(
        EVP_sha256(), key.baseAddress, Int32(key.count), label.utf8Start, label.utf8CodeUnitCount, out, &length)
      precondition(made != nil && length == 32, "no HMAC-SHA-256")
      return EncryptionKeyID(number: UInt64(bigEndian: room.load(as: UInt64.self)))
    }
  }

  /// Fills `room` with unpredictable bytes.
  static func randomBytes(_ room: UnsafeMutableRawBufferPointer) {
    guard OpenSSL.isReady else { preconditionFailure("the cryptographic library cannot be started") }
    let filled = RAND_bytes(room.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(room.count))
    precondition(filled == 1, "no unpredictable bytes")
  }
}
