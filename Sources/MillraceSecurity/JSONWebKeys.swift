// JSONWebKeys: a file with the public keys of whoever signs tokens (RFC 7517, "JWK Set").
//
//   {"keys":[{"kty":"RSA","kid":"2026","alg":"RS256","use":"sig","n":"…","e":"AQAB"},
//            {"kty":"EC","crv":"P-256","x":"…","y":"…"},{"kty":"OKP","crv":"Ed25519","x":"…"}]}

import MillraceBase

/// Keys with which tokens are verified. A value; a file that changed is read anew, and what it says takes the place of the old.
public struct JSONWebKeys: Sendable {
  /// Longest text, in bytes.
  public static let longestText = 1 << 20
  /// Most keys.
  public static let mostKeys = 100
  /// Longest `kid`, in bytes.
  public static let longestName = 256

  struct Key: Sendable {
    var name: String?
    /// The one algorithm it is for, if it says so.
    var algorithm: SignatureAlgorithm?
    var key: VerificationKey

    func fits(_ wanted: SignatureAlgorithm) -> Bool {
      wanted.kind == key.kind && (algorithm == nil || algorithm == wanted)
    }
  }

  let keys: [Key]
  /// Why keys of the file are not used: another purpose, a kind that is not supported. For the log.
  public let skipped: [String]

  /// Keys that are used.
  public var count: Int { keys.count }
  /// Their names, as far as they have any.
  public var names: [String] { keys.compactMap(\.name) }

  /// Reads a file.
  ///
  /// Skipped, as RFC 7517 asks, are keys of kinds and curves that are not supported, shared keys (`oct`) among them, and those for another use
  /// than signatures. Certificates and addresses in it (`x5c`, `x5u`) are not looked at.
  /// - Throws: what is wrong, and with which key: no JSON, more than 1 MiB or 100 keys, a key of a known kind that is malformed or weak, two of one name and
  ///   kind, or none that can be used.
  public init(_ text: Bytes) throws(SecuritySettingError) {
    guard text.count <= JSONWebKeys.longestText else {
      throw SecuritySettingError("a key file of \(text.count) bytes; \(JSONWebKeys.longestText) are allowed")
    }
    let value: JSONValue
    do throws(DecodingError) {
      value = try text.withBuffer { buffer throws(DecodingError) in try JSONValue(buffer) }
    } catch { throw SecuritySettingError("a key file: \(error)") }
    guard let entries = value["keys"]?.array else { throw SecuritySettingError("a key file without \"keys\"") }
    guard entries.count <= JSONWebKeys.mostKeys else {
      throw SecuritySettingError("a key file with \(entries.count) keys; \(JSONWebKeys.mostKeys) are allowed")
    }
    var keys: [Key] = []
    var skipped: [String] = []
    for (number, entry) in entries.enumerated() {
      switch try JSONWebKeys.read(entry, "key \(number + 1)") {
      case .used(let key):
        if let name = key.name, keys.contains(where: { $0.name == name && $0.key.kind == key.key.kind }) {
          throw SecuritySettingError("a key file with two \(key.key.kind.rawValue) keys named \(name)")
        }
        keys.append(key)
      case .skipped(let why): skipped.append("key \(number + 1): \(why)")
      }
    }
    guard !keys.isEmpty else {
      throw SecuritySettingError("a key file without a usable key (\(skipped.joined(separator: "; ")))")
    }
    self.keys = keys
    self.skipped = skipped
  }

  /// The key for a token.
  ///
  /// A token without a name is good for the only key that fits alone: trying several would let strangers choose how much work a token is.
  /// - Throws: `.unknownKey`.
  func key(_ name: String?, for algorithm: SignatureAlgorithm) throws(AuthenticationError) -> VerificationKey {
    let fitting = keys.filter { (name == nil || $0.name == name) && $0.fits(algorithm) }
    guard fitting.count == 1 else {
      let named = name.map { "named \($0.forLog)" } ?? "without a name"
      throw AuthenticationError(.unknownKey, "\(fitting.count) keys fit a token \(named) with \(algorithm.rawValue)")
    }
    return fitting[0].key
  }

  private enum Entry {
    case used(Key)
    case skipped(String)
  }

  private static func read(_ entry: JSONValue, _ place: String) throws(SecuritySettingError) -> Entry {
    guard let kind = entry["kty"]?.string else { throw SecuritySettingError("\(place) has no \"kty\"") }
    if let use = entry["use"]?.string, use != "sig" { return .skipped("not for signatures") }
    if let operations = entry["key_ops"]?.array, !operations.contains(.string("verify")) {
      return .skipped("not for verifying")
    }
    var algorithm: SignatureAlgorithm?
    if let named = entry["alg"]?.string {
      guard let known = SignatureAlgorithm(rawValue: named) else { return .skipped("for \(named.forLog)") }
      algorithm = known
    }
    var name: String?
    if let given = entry["kid"] {
      guard let text = given.string, (1...longestName).contains(text.utf8.count), !PrincipalName.containsControl(text)
      else { throw SecuritySettingError("\(place) has a \"kid\" that is no name of 1 to \(longestName) bytes") }
      name = text
    }
    func bytes(_ member: String) throws(SecuritySettingError) -> [UInt8] {
      guard let text = entry[member]?.string, let bytes = StrictBase64.decodeURL(text.utf8) else {
        throw SecuritySettingError("\(place) has no \"\(member)\" in base 64 for URLs")
      }
      return bytes
    }
    let curve = entry["crv"]?.string.flatMap { VerificationKey.Kind(rawValue: $0) }
    let key: VerificationKey
    do throws(SecuritySettingError) {
      switch (kind, curve) {
      case ("RSA", _): key = try .rsa(modulus: bytes("n"), exponent: bytes("e"))
      case ("EC", let curve?) where curve != .rsa && curve != .ed25519:
        key = try .elliptic(curve, x: bytes("x"), y: bytes("y"))
      case ("OKP", .ed25519?): key = try .ed25519(bytes("x"))
      default: return .skipped("\(kind.forLog) \(entry["crv"]?.string?.forLog ?? "")")
      }
    } catch { throw SecuritySettingError("\(place): \(error)") }
    if let algorithm, algorithm.kind != key.kind {
      throw SecuritySettingError("\(place) is for \(algorithm.rawValue), but of kind \(key.kind.rawValue)")
    }
    return .used(Key(name: name, algorithm: algorithm, key: key))
  }
}

extension String {
  /// At most 64 characters of printable ASCII of a text by a stranger; others are question marks.
  var forLog: String {
    let short = utf8.prefix(64).map { (0x20...0x7e).contains($0) ? $0 : UInt8(ascii: "?") }
    return String(decoding: short, as: UTF8.self)
  }
}
