// Cryptography: hashes, keyed hashes and key derivation over secrets, as OpenSSL computes them.

import COpenSSL

/// Functions that cannot fail but for lack of memory, which ends the program.
enum Cryptography {
  /// SHA-256 or SHA-512 of `secret`.
  static func hash(_ mechanism: ScramMechanism, _ secret: Secret) -> Secret {
    Secret(count: mechanism.keyLength) { out in
      secret.withBytes { bytes in
        var length: UInt32 = 0
        let done = EVP_Digest(
          bytes.baseAddress, bytes.count, out.baseAddress?.assumingMemoryBound(to: UInt8.self), &length,
          mechanism.digest, nil)
        precondition(done == 1 && Int(length) == out.count, "a hash failed")
      }
    }
  }

  /// HMAC of `message` under `key`.
  static func authenticate(_ mechanism: ScramMechanism, key: Secret, _ message: [UInt8]) -> Secret {
    message.withUnsafeBytes { authenticate(mechanism, key: key, $0) }
  }

  /// HMAC of a secret under `key`.
  static func authenticate(_ mechanism: ScramMechanism, key: Secret, _ message: Secret) -> Secret {
    message.withBytes { authenticate(mechanism, key: key, $0) }
  }

  private static func authenticate(_ mechanism: ScramMechanism, key: Secret, _ message: UnsafeRawBufferPointer)
    -> Secret
  {
    Secret(count: mechanism.keyLength) { out in
      key.withBytes { keyBytes in
        var length: UInt32 = 0
        // An empty buffer may have no address, which the library takes for "go on with the last key".
        var nothing: UInt8 = 0
        let done = withUnsafePointer(to: &nothing) { nothing in
          HMAC(
            mechanism.digest, keyBytes.baseAddress ?? UnsafeRawPointer(nothing), Int32(keyBytes.count),
            message.baseAddress?.assumingMemoryBound(to: UInt8.self) ?? nothing, message.count,
            out.baseAddress?.assumingMemoryBound(to: UInt8.self), &length)
        }
        precondition(done != nil && Int(length) == out.count, "a keyed hash failed")
      }
    }
  }

  /// PBKDF2 with HMAC, which RFC 5802 calls Hi. Takes milliseconds: not for a reactor.
  static func derive(_ mechanism: ScramMechanism, password: Secret, salt: [UInt8], iterations: Int) -> Secret {
    Secret(count: mechanism.keyLength) { out in
      password.withBytes { bytes in
        var nothing: CChar = 0
        let done = withUnsafePointer(to: &nothing) { nothing in
          PKCS5_PBKDF2_HMAC(
            bytes.baseAddress?.assumingMemoryBound(to: CChar.self) ?? nothing, Int32(bytes.count), salt,
            Int32(salt.count), Int32(iterations), mechanism.digest, Int32(out.count),
            out.baseAddress?.assumingMemoryBound(to: UInt8.self))
        }
        precondition(done == 1, "a key derivation failed")
      }
    }
  }
}

extension ScramMechanism {
  fileprivate var digest: OpaquePointer? { self == .sha256 ? EVP_sha256() : EVP_sha512() }
}
