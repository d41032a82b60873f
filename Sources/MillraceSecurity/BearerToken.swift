// BearerToken: what a signed token says, once its signature is right (RFC 7515, 7519, 8725).
//
//   base64url(header) "." base64url(claims) "." base64url(signature)

import MillraceBase

/// Who a token says that its bearer is.
public struct BearerIdentity: Sendable, Equatable {
  /// The principal, of the claim that the rules name.
  public let principal: Principal
  /// When the session must end: the token's end and the clock skew that is allowed. Later than when the token was verified.
  public let expires: Timestamp
  /// What the token allows, of the claim that the rules name; empty when there is none.
  public let scopes: [String]
  /// Who made the token, if it says so, for the audit.
  public let issuer: String?
}

/// What is asked of tokens.
public struct BearerTokenRules: Sendable, Equatable {
  /// The `iss` that a token must have; nil when any will do. Kafka: `sasl.oauthbearer.expected.issuer`.
  public var issuer: String?
  /// One of these must be among a token's `aud`; empty when any will do. Kafka: `sasl.oauthbearer.expected.audience`.
  public var audiences: [String] = []
  /// Scopes that a token must have, all of them.
  public var requiredScopes: [String] = []
  /// How much the clocks may differ. Kafka: `sasl.oauthbearer.clock.skew.seconds`, 30 s.
  public var clockSkew: Duration = .seconds(30)
  /// The claim that names the principal. Kafka: `sasl.oauthbearer.sub.claim.name`.
  public var subjectClaim = "sub"
  /// The claim with the scopes. Kafka: `sasl.oauthbearer.scope.claim.name`.
  public var scopeClaim = "scope"

  /// The defaults: any issuer and audience that the keys vouch for.
  public init() {}
}

/// Verifies tokens with local keys.
public struct BearerTokenVerifier: Sendable {
  /// Longest token, in bytes.
  public static let longestToken = 16 * 1024
  /// Most scopes of a token.
  public static let mostScopes = 256

  /// The keys.
  public let keys: JSONWebKeys
  /// What is asked.
  public let rules: BearerTokenRules

  /// A verifier.
  public init(keys: JSONWebKeys, rules: BearerTokenRules = BearerTokenRules()) {
    self.keys = keys
    self.rules = rules
  }

  /// Whether a secret has the form of a token, so that it can stand where others give a password: three parts, and a header that
  /// begins as one of JSON does.
  public static func isToken(_ secret: Secret) -> Bool {
    secret.withBytes { bytes in
      bytes.starts(with: "eyJ".utf8) && bytes.count { $0 == UInt8(ascii: ".") } == 2
    }
  }

  /// Who the token says that its bearer is. Most of the time is the signature's,
  /// 50 µs (RSA) to 0.9 ms (P-384), and at most one is tried.
  /// - Throws: `.malformed`, `.unsupportedAlgorithm`, `.unknownKey`, `.invalidSignature`, `.expired`, `.notYetValid`, `.wrongIssuer`,
  ///   `.wrongAudience`, `.insufficientScope`, or `.untrustedToken` for claims that are missing or of another type.
  public func verify(_ token: [UInt8], at now: Timestamp) throws(AuthenticationError) -> BearerIdentity {
    try identity(claims: BearerTokenVerifier.signedPart(token, keys), at: now)
  }

  /// The bytes that were signed, once the signature is right. No claim is looked at before.
  static func signedPart(_ token: [UInt8], _ keys: JSONWebKeys) throws(AuthenticationError) -> [UInt8] {
    guard token.count <= longestToken else {
      throw AuthenticationError(.malformed, "a token of \(token.count) bytes; \(longestToken) are allowed")
    }
    let parts = token.split(separator: UInt8(ascii: "."), maxSplits: 3, omittingEmptySubsequences: false)
    guard parts.count == 3, let header = StrictBase64.decodeURL(parts[0]),
      let claims = StrictBase64.decodeURL(parts[1]),
      let signature = StrictBase64.decodeURL(parts[2])
    else { throw AuthenticationError(.malformed, "a token that is not three parts in base 64 for URLs") }
    let fields = try object(header, "header")
    // Whoever does not know a critical extension must refuse (RFC 7515, section 4.1.11), and none is known here.
    guard fields["crit"] == nil else { throw AuthenticationError(.malformed, "a token with critical extensions") }
    guard let name = fields["alg"]?.string, let algorithm = SignatureAlgorithm(rawValue: name) else {
      throw AuthenticationError(
        .unsupportedAlgorithm, "a token with the algorithm \(fields["alg"]?.string?.forLog ?? "(none)")")
    }
    if let type = fields["typ"] {
      // Tokens for other purposes, signed by the same issuer, are no proof of who somebody is (RFC 8725, section 3.11).
      guard let text = type.string?.lowercased(), ["jwt", "at+jwt", "application/at+jwt"].contains(text) else {
        throw AuthenticationError(.untrustedToken, "a token of type \(type.string?.forLog ?? "(none)")")
      }
    }
    var key: String?
    if let given = fields["kid"] {
      guard let text = given.string else { throw AuthenticationError(.malformed, "a token whose kid is no text") }
      key = text
    }
    let verification = try keys.key(key, for: algorithm)
    let message = Array(token[..<parts[1].endIndex])
    guard verification.verify(algorithm, message, signature: signature) else {
      throw AuthenticationError(.invalidSignature, "a token whose \(algorithm.rawValue) signature is wrong")
    }
    return claims
  }

  private static func object(_ bytes: [UInt8], _ what: String) throws(AuthenticationError) -> JSONValue {
    let value: JSONValue
    do throws(DecodingError) {
      value = try Bytes(bytes).withBuffer { buffer throws(DecodingError) in try JSONValue(buffer) }
    } catch { throw AuthenticationError(.malformed, "the \(what) of a token is no JSON, at byte \(error.position)") }
    guard case .object = value else { throw AuthenticationError(.malformed, "the \(what) of a token is no object") }
    return value
  }

  /// Who claims whose signature is right say that the bearer is.
  func identity(claims bytes: [UInt8], at now: Timestamp) throws(AuthenticationError) -> BearerIdentity {
    let claims = try BearerTokenVerifier.object(bytes, "part with claims")
    let skew = rules.clockSkew.inMilliseconds
    guard let end = try time(claims, "exp") else { throw untrusted("without exp") }
    guard now.milliseconds < end + skew else {
      throw AuthenticationError(.expired, "a token whose time ended \(now.milliseconds - end) ms ago")
    }
    for name in ["nbf", "iat"] {
      guard let begin = try time(claims, name) else { continue }
      guard begin <= now.milliseconds + skew else {
        throw AuthenticationError(.notYetValid, "a token whose \(name) is \(begin - now.milliseconds) ms ahead")
      }
    }
    let issuer = claims["iss"]?.string
    if let expected = rules.issuer {
      guard let issuer, issuer.utf8.elementsEqual(expected.utf8) else {
        throw AuthenticationError(.wrongIssuer, "a token of the issuer \(issuer?.forLog ?? "(none)")")
      }
    }
    if !rules.audiences.isEmpty {
      let given = try strings(claims, "aud") { [$0] }
      guard given.contains(where: { one in rules.audiences.contains { $0.utf8.elementsEqual(one.utf8) } }) else {
        throw AuthenticationError(
          .wrongAudience, "a token for \(given.first?.forLog ?? "nobody") and \(max(given.count - 1, 0)) more")
      }
    }
    guard let subject = claims[rules.subjectClaim]?.string, PrincipalName.isValid(subject) else {
      throw untrusted("without a \(rules.subjectClaim) that a principal can have")
    }
    let scopes = try strings(claims, rules.scopeClaim) { $0.split(separator: " ").map(String.init) }
    for needed in rules.requiredScopes where !scopes.contains(needed) {
      throw AuthenticationError(.insufficientScope, "a token of \(subject) without the scope \(needed)")
    }
    return BearerIdentity(
      principal: Principal(subject), expires: Timestamp(milliseconds: end + skew), scopes: scopes, issuer: issuer)
  }

  private func untrusted(_ what: String) -> AuthenticationError {
    AuthenticationError(.untrustedToken, "a token \(what)")
  }

  /// A claim in seconds since the epoch, in milliseconds; nil when it is not there. Times beyond the year 30,000 are the same.
  private func time(_ claims: JSONValue, _ name: String) throws(AuthenticationError) -> Int64? {
    guard let value = claims[name] else { return nil }
    guard let seconds = value.double else { throw untrusted("whose \(name) is no number") }
    return Int64((max(-1e12, min(1e12, seconds)) * 1000).rounded(.down))
  }

  /// A claim that is a text or a list of texts; empty when it is not there.
  private func strings(
    _ claims: JSONValue, _ name: String, _ split: (String) -> [String]
  ) throws(AuthenticationError) -> [String] {
    guard let value = claims[name] else { return [] }
    let found: [String]
    if let text = value.string {
      found = split(text)
    } else {
      guard let list = value.array, list.allSatisfy({ $0.string != nil }) else {
        throw untrusted("whose \(name) is neither a text nor a list of texts")
      }
      found = list.compactMap(\.string)
    }
    guard found.count <= BearerTokenVerifier.mostScopes else { throw untrusted("with \(found.count) parts in \(name)") }
    return found
  }
}
