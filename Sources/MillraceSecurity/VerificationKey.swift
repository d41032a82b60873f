// VerificationKey: a public key, and whether a signature was made with its other half.
//
// Source: RFC 7518, sections 3 and 6; RFC 8037.

import COpenSSL

/// An algorithm of signatures that is accepted. Those with a shared key (HS256 …) and `none` are not: who can check them can make them.
public enum SignatureAlgorithm: String, CaseIterable, Sendable {
  case rs256 = "RS256"
  case rs384 = "RS384"
  case rs512 = "RS512"
  case ps256 = "PS256"
  case ps384 = "PS384"
  case ps512 = "PS512"
  case es256 = "ES256"
  case es384 = "ES384"
  case es512 = "ES512"
  /// With Ed25519 alone.
  case edDSA = "EdDSA"

  /// What kind of key it takes.
  var kind: VerificationKey.Kind {
    switch self {
    case .rs256, .rs384, .rs512, .ps256, .ps384, .ps512: .rsa
    case .es256: .p256
    case .es384: .p384
    case .es512: .p521
    case .edDSA: .ed25519
    }
  }

  fileprivate var isPSS: Bool { self == .ps256 || self == .ps384 || self == .ps512 }

  fileprivate var digest: OpaquePointer? {
    switch self {
    case .rs256, .ps256, .es256: EVP_sha256()
    case .rs384, .ps384, .es384: EVP_sha384()
    case .rs512, .ps512, .es512: EVP_sha512()
    case .edDSA: nil
    }
  }
}

/// A public key.
final class VerificationKey: @unchecked Sendable {
  /// Its kind, with the curve.
  enum Kind: String, Sendable {
    case rsa = "RSA"
    case p256 = "P-256"
    case p384 = "P-384"
    case p521 = "P-521"
    case ed25519 = "Ed25519"

    /// Bytes of a coordinate; nil for a key without coordinates.
    var coordinateLength: Int? {
      switch self {
      case .rsa: nil
      case .p256, .ed25519: 32
      case .p384: 48
      case .p521: 66
      }
    }
  }

  /// Bits of RSA keys. RFC 7518 asks for 2048 at least; longer than 8192 take long to verify.
  static let rsaBits = 2048...8192

  let kind: Kind
  // Safety: never changed after `init`; OpenSSL lets several threads verify with one key. Freed in `deinit` alone.
  private let key: OpaquePointer

  private init(_ kind: Kind, _ key: OpaquePointer) {
    self.kind = kind
    self.key = key
  }

  deinit { EVP_PKEY_free(key) }

  /// An RSA key of its modulus and exponent, big endian.
  /// - Throws: when the modulus has fewer than 2048 or more than 8192 bits, or the exponent is even, below 3, or longer than 4 bytes.
  static func rsa(modulus: [UInt8], exponent: [UInt8]) throws(SecuritySettingError) -> VerificationKey {
    let modulus = Array(modulus.drop { $0 == 0 })
    let exponent = Array(exponent.drop { $0 == 0 })
    let bits = modulus.count * 8 - (modulus.first?.leadingZeroBitCount ?? 0)
    guard rsaBits.contains(bits), let low = modulus.last, low & 1 == 1 else {
      throw SecuritySettingError(
        "an RSA key of \(bits) bits; \(rsaBits.lowerBound) to \(rsaBits.upperBound) are allowed")
    }
    guard exponent.count <= 4, let last = exponent.last, last & 1 == 1, exponent != [1] else {
      throw SecuritySettingError("an RSA key with an exponent of \(exponent.count) bytes that is not allowed")
    }
    return try checked(
      .rsa, mr_rsa_public_key(modulus, Int32(modulus.count), exponent, Int32(exponent.count)))
  }

  /// A point of a curve.
  /// - Throws: when a coordinate has another length than the curve's, or the point is not on it.
  static func elliptic(_ kind: Kind, x: [UInt8], y: [UInt8]) throws(SecuritySettingError) -> VerificationKey {
    guard kind != .ed25519, let length = kind.coordinateLength, x.count == length, y.count == length else {
      throw SecuritySettingError("coordinates of \(x.count) and \(y.count) bytes for \(kind.rawValue)")
    }
    let point = [4] + x + y
    return try checked(kind, mr_ec_public_key(kind.rawValue, point, point.count))
  }

  /// A key of Ed25519.
  static func ed25519(_ bytes: [UInt8]) throws(SecuritySettingError) -> VerificationKey {
    defer { ERR_clear_error() }
    guard bytes.count == 32, let key = EVP_PKEY_new_raw_public_key_ex(nil, "ED25519", nil, bytes, bytes.count) else {
      throw SecuritySettingError("a key of \(bytes.count) bytes for Ed25519")
    }
    return VerificationKey(.ed25519, key)
  }

  private static func checked(_ kind: Kind, _ key: OpaquePointer?) throws(SecuritySettingError) -> VerificationKey {
    // What went wrong must not be found in the thread's queue of errors by whoever speaks TLS on it.
    defer { ERR_clear_error() }
    guard let key else { throw SecuritySettingError("a \(kind.rawValue) key that is none") }
    let made = VerificationKey(kind, key)
    // Of RSA the check is a search for factors that takes long and finds none in the keys of an honest issuer.
    guard kind != .rsa else { return made }
    let check = EVP_PKEY_CTX_new_from_pkey(nil, key, nil)
    defer { EVP_PKEY_CTX_free(check) }
    guard EVP_PKEY_public_check(check) == 1 else {
      throw SecuritySettingError("a \(kind.rawValue) key that does not pass its check")
    }
    return made
  }

  /// Whether `signature` of `message` was made with this key's other half. 50 µs with RSA of 2048 bits, 0.1 ms with P-256,
  /// 0.2 ms with Ed25519, 0.9 ms with P-384 and P-521.
  ///
  /// `algorithm` must be one of this key's kind.
  func verify(_ algorithm: SignatureAlgorithm, _ message: [UInt8], signature: [UInt8]) -> Bool {
    precondition(algorithm.kind == kind, "\(algorithm) with a key of \(kind)")
    defer { ERR_clear_error() }
    var signature = signature
    if kind != .rsa, kind != .ed25519 {
      guard let length = kind.coordinateLength, signature.count == 2 * length else { return false }
      signature = VerificationKey.sequence(signature[..<length], signature[length...])
    }
    let context = EVP_MD_CTX_new()
    defer { EVP_MD_CTX_free(context) }
    // Belongs to `context`.
    var settings: OpaquePointer?
    guard EVP_DigestVerifyInit(context, &settings, algorithm.digest, nil, key) == 1 else { return false }
    if algorithm.isPSS {
      guard EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) == 1,
        EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) == 1
      else { return false }
    }
    return EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
  }

  /// DER of two whole numbers, as OpenSSL wants a signature that JWS writes as one after the other.
  private static func sequence(_ r: ArraySlice<UInt8>, _ s: ArraySlice<UInt8>) -> [UInt8] {
    func integer(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
      var digits = Array(bytes.drop { $0 == 0 })
      if digits.first.map({ $0 >= 0x80 }) ?? true { digits.insert(0, at: 0) }
      return [2, UInt8(digits.count)] + digits
    }
    let body = integer(r) + integer(s)
    // At most 2 * (2 + 67) bytes, so one byte of length beyond 127.
    return [0x30] + (body.count < 0x80 ? [] : [0x81]) + [UInt8(body.count)] + body
  }
}
