// TokenSigner: a key pair that OpenSSL makes, and tokens that are signed with it, as an issuer does.

import COpenSSL
import MillraceBase

@testable import MillraceSecurity

func base64URL(_ bytes: [UInt8]) -> String {
  let text = bytes.withUnsafeBytes { Base64.encode($0) }
  return String(
    text.compactMap { (character: Character) -> Character? in
      switch character {
      case "+": "-"
      case "/": "_"
      case "=": nil
      default: character
      }
    })
}

func base64URL(_ text: String) -> String { base64URL(Array(text.utf8)) }

/// A key pair.
final class TokenSigner: @unchecked Sendable {
  let kind: VerificationKey.Kind
  // Safety: made in `init`, never changed, freed in `deinit` alone.
  private let key: OpaquePointer

  init(_ kind: VerificationKey.Kind, bits: Int32 = 2048) {
    self.kind = kind
    let name = kind == .rsa ? "RSA" : kind == .ed25519 ? "ED25519" : "EC"
    let context = EVP_PKEY_CTX_new_from_name(nil, name, nil)
    defer { EVP_PKEY_CTX_free(context) }
    precondition(EVP_PKEY_keygen_init(context) == 1)
    if kind == .rsa { precondition(EVP_PKEY_CTX_set_rsa_keygen_bits(context, bits) == 1) }
    if name == "EC" { precondition(EVP_PKEY_CTX_set_group_name(context, kind.rawValue) == 1) }
    var made: OpaquePointer?
    precondition(EVP_PKEY_generate(context, &made) == 1)
    key = made!
  }

  deinit { EVP_PKEY_free(key) }

  private func number(_ name: String) -> [UInt8] {
    var value: OpaquePointer?
    precondition(EVP_PKEY_get_bn_param(key, name, &value) == 1)
    defer { BN_free(value) }
    var bytes = [UInt8](repeating: 0, count: Int(BN_num_bits(value) + 7) / 8)
    _ = BN_bn2bin(value, &bytes)
    return bytes
  }

  private func padded(_ bytes: [UInt8]) -> [UInt8] {
    [UInt8](repeating: 0, count: kind.coordinateLength! - bytes.count) + bytes
  }

  /// The public half as a member of a key file, with further members.
  func entry(_ more: String = "") -> String {
    switch kind {
    case .rsa: return #"{"kty":"RSA","n":"\#(base64URL(number("n")))","e":"\#(base64URL(number("e")))"\#(more)}"#
    case .ed25519:
      var bytes = [UInt8](repeating: 0, count: 32)
      var count = 32
      precondition(EVP_PKEY_get_raw_public_key(key, &bytes, &count) == 1 && count == 32)
      return #"{"kty":"OKP","crv":"Ed25519","x":"\#(base64URL(bytes))"\#(more)}"#
    default:
      let (x, y) = (base64URL(padded(number("qx"))), base64URL(padded(number("qy"))))
      return #"{"kty":"EC","crv":"\#(kind.rawValue)","x":"\#(x)","y":"\#(y)"\#(more)}"#
    }
  }

  /// A signature as JWS writes it.
  func sign(_ algorithm: SignatureAlgorithm, _ message: String) -> [UInt8] {
    let digest =
      switch algorithm.rawValue.suffix(3) {
      case "256": EVP_sha256()
      case "384": EVP_sha384()
      case "512": EVP_sha512()
      default: OpaquePointer?.none
      }
    let context = EVP_MD_CTX_new()
    defer { EVP_MD_CTX_free(context) }
    var settings: OpaquePointer?
    precondition(EVP_DigestSignInit(context, &settings, digest, nil, key) == 1)
    if algorithm.rawValue.hasPrefix("PS") {
      precondition(EVP_PKEY_CTX_set_rsa_padding(settings, RSA_PKCS1_PSS_PADDING) == 1)
      precondition(EVP_PKEY_CTX_set_rsa_pss_saltlen(settings, RSA_PSS_SALTLEN_DIGEST) == 1)
    }
    let bytes = Array(message.utf8)
    var count = 0
    precondition(EVP_DigestSign(context, nil, &count, bytes, bytes.count) == 1)
    var signature = [UInt8](repeating: 0, count: count)
    precondition(EVP_DigestSign(context, &signature, &count, bytes, bytes.count) == 1)
    signature.removeLast(signature.count - count)
    guard algorithm.rawValue.hasPrefix("ES") else { return signature }
    // DER: a sequence of two whole numbers.
    var at = signature[1] == 0x81 ? 3 : 2
    func integer() -> [UInt8] {
      let length = Int(signature[at + 1])
      defer { at += 2 + length }
      return padded(Array(signature[(at + 2)..<(at + 2 + length)].drop { $0 == 0 }))
    }
    let r = integer()
    return r + integer()
  }

  /// A token with these claims.
  func token(_ algorithm: SignatureAlgorithm, _ claims: String, header: String = "") -> String {
    let signed = "\(base64URL(#"{"alg":"\#(algorithm.rawValue)"\#(header)}"#)).\(base64URL(claims))"
    return "\(signed).\(base64URL(sign(algorithm, signed)))"
  }
}
