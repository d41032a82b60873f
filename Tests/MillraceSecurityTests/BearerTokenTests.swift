// BearerTokenTests: tokens of RFC 7515 and RFC 8037, tokens that OpenSSL signs, and whatever must be refused.

import MillraceBase
import Testing

@testable import MillraceSecurity

private let now = Timestamp(milliseconds: 1_800_000_000_000)
private let ec = TokenSigner(.p256)
private let rsa = TokenSigner(.rsa)
private let claims = #"{"sub":"alice","exp":1800000060}"#

private func keys(_ entries: String...) throws -> JSONWebKeys {
  try JSONWebKeys(Bytes(#"{"keys":[\#(entries.joined(separator: ","))]}"#))
}

/// What is said of a token with these claims, signed by `ec`.
private func said(_ claims: String, _ change: (inout BearerTokenRules) -> Void = { _ in }) -> AuthenticationError.Code?
{
  var rules = BearerTokenRules()
  change(&rules)
  return refusal {
    _ = try BearerTokenVerifier(keys: keys(ec.entry()), rules: rules).verify(
      Array(ec.token(.es256, claims).utf8), at: now)
  }
}

/// What is said of any text as a token.
private func said(token: String, _ entries: String...) -> AuthenticationError.Code? {
  refusal {
    let keys = try JSONWebKeys(Bytes(#"{"keys":[\#(entries.joined(separator: ","))]}"#))
    _ = try BearerTokenVerifier(keys: keys).verify(Array(token.utf8), at: now)
  }
}

// RFC 7515, appendices A.2 and A.3.
private let rfcClaims =
  "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
private let rfcRSA =
  #"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-y"#
  + #"RT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R"#
  + #"2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FR"#
  + #"WyuXpoQ","e":"AQAB"}"#
private let rfcEC =
  #"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#
private let rfcRSAToken: String =
  "eyJhbGciOiJSUzI1NiJ9.\(rfcClaims).cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5Y"
  + "Kt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZ"
  + "RmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWy"
  + "wlVmtVrBp0igcN_IoypGlUPQGe77Rw"
private let rfcECToken: String =
  "eyJhbGciOiJFUzI1NiJ9.\(rfcClaims).DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q"

@Test(
  "golden: the tokens of RFC 7515, appendix A, are verified",
  arguments: [(rfcRSA, rfcRSAToken), (rfcEC, rfcECToken)])
func goldenTokens(_ entry: String, _ token: String) throws {
  var rules = BearerTokenRules()
  rules.subjectClaim = "iss"
  let verifier = BearerTokenVerifier(keys: try keys(entry), rules: rules)
  let identity = try verifier.verify(Array(token.utf8), at: Timestamp(milliseconds: 1_300_819_000_000))
  #expect(identity.principal.name == "joe")
  #expect(identity.expires.milliseconds == 1_300_819_410_000)
  #expect(refusal { _ = try verifier.verify(Array(token.utf8), at: now) } == .expired)
}

@Test("golden: the signature of RFC 8037, appendix A.4, is verified")
func goldenEd25519() throws {
  let keys = try keys(#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#)
  let token =
    "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg"
  let signed = try BearerTokenVerifier.signedPart(Array(token.utf8), keys)
  #expect(String(decoding: signed, as: UTF8.self) == "Example of Ed25519 signing")
}

@Test(
  "a token with each algorithm is verified, and with no other key of its kind", arguments: SignatureAlgorithm.allCases)
func everyAlgorithm(algorithm: SignatureAlgorithm) throws {
  let signer = TokenSigner(algorithm.kind)
  let token = Array(signer.token(algorithm, claims, header: #","kid":"one""#).utf8)
  let verifier = BearerTokenVerifier(keys: try keys(signer.entry(#","kid":"one""#)))
  #expect(try verifier.verify(token, at: now).principal == Principal("alice"))
  let stranger = BearerTokenVerifier(keys: try keys(TokenSigner(algorithm.kind).entry(#","kid":"one""#)))
  #expect(refusal { _ = try stranger.verify(token, at: now) } == .invalidSignature)
  // The same algorithm family with another hash or padding, under the same key.
  for other in SignatureAlgorithm.allCases where other.kind == algorithm.kind && other != algorithm {
    let parts = String(decoding: token, as: UTF8.self).split(separator: ".")
    let changed = "\(base64URL(#"{"alg":"\#(other.rawValue)","kid":"one"}"#)).\(parts[1]).\(parts[2])"
    #expect(refusal { _ = try verifier.verify(Array(changed.utf8), at: now) } == .invalidSignature)
  }
}

@Test("every changed byte of a token is refused", arguments: [VerificationKey.Kind.rsa, .p256, .ed25519])
func everyChangedByte(kind: VerificationKey.Kind) throws {
  let signer = TokenSigner(kind)
  let token = Array(signer.token(kind == .rsa ? .rs256 : kind == .p256 ? .es256 : .edDSA, claims).utf8)
  let verifier = BearerTokenVerifier(keys: try keys(signer.entry()))
  _ = try verifier.verify(token, at: now)
  for position in token.indices {
    for change in [1, 2, 4, 0x20, 0x80] as [UInt8] {
      var changed = token
      changed[position] ^= change
      #expect(refusal { _ = try verifier.verify(changed, at: now) } != nil, "byte \(position) changed by \(change)")
    }
  }
  for length in token.indices {
    #expect(refusal { _ = try verifier.verify(Array(token[..<length]), at: now) } != nil, "cut at \(length)")
  }
}

@Test("times: what ended, what has not begun, and how far clocks may differ")
func times() {
  #expect(said(#"{"sub":"a","exp":1800000001}"#) == nil)
  // 30 s of skew.
  #expect(said(#"{"sub":"a","exp":1799999971}"#) == nil)
  #expect(said(#"{"sub":"a","exp":1799999970}"#) == .expired)
  #expect(said(#"{"sub":"a","exp":1799999971}"#) { $0.clockSkew = .zero } == .expired)
  #expect(said(#"{"sub":"a","exp":1800000000}"#) { $0.clockSkew = .zero } == .expired)
  #expect(said(#"{"sub":"a","exp":1800000000.001}"#) { $0.clockSkew = .zero } == nil)
  for name in ["nbf", "iat"] {
    #expect(said(#"{"sub":"a","exp":1800000060,"\#(name)":1800000030}"#) == nil)
    #expect(said(#"{"sub":"a","exp":1800000060,"\#(name)":1800000031}"#) == .notYetValid)
    #expect(said(#"{"sub":"a","exp":1800000060,"\#(name)":"x"}"#) == .untrustedToken)
  }
  for end in ["1e300", "9223372036854775807", "99999999999999999999"] {
    #expect(said(#"{"sub":"a","exp":\#(end)}"#) == nil, "\(end)")
  }
  for end in ["-1e300", "0", "-9223372036854775808"] {
    #expect(said(#"{"sub":"a","exp":\#(end)}"#) == .expired, "\(end)")
  }
  #expect(said(#"{"sub":"a"}"#) == .untrustedToken)
  #expect(said(#"{"sub":"a","exp":"1800000060"}"#) == .untrustedToken)
  #expect(said(#"{"sub":"a","exp":null}"#) == .untrustedToken)
}

@Test("a session ends with its token and the skew, so never at once")
func sessionEnd() throws {
  let verifier = BearerTokenVerifier(keys: try keys(ec.entry()))
  let identity = try verifier.verify(Array(ec.token(.es256, #"{"sub":"a","exp":1799999971,"iss":"i"}"#).utf8), at: now)
  #expect(identity.expires.milliseconds == 1_800_000_001_000 && identity.expires > now)
  #expect(identity.issuer == "i")
}

@Test("issuer, audience, subject and scopes are what the rules ask for")
func expectations() throws {
  func with(_ more: String) -> String { #"{"sub":"alice","exp":1800000060,\#(more)}"# }
  #expect(said(with(#""iss":"me""#)) { $0.issuer = "me" } == nil)
  #expect(said(with(#""iss":"you""#)) { $0.issuer = "me" } == .wrongIssuer)
  #expect(said(claims) { $0.issuer = "me" } == .wrongIssuer)
  #expect(said(with(#""aud":"here""#)) { $0.audiences = ["there", "here"] } == nil)
  #expect(said(with(#""aud":["x","here"]"#)) { $0.audiences = ["here"] } == nil)
  #expect(said(with(#""aud":["x","y"]"#)) { $0.audiences = ["here"] } == .wrongAudience)
  #expect(said(with(#""aud":"here and there""#)) { $0.audiences = ["here"] } == .wrongAudience)
  #expect(said(claims) { $0.audiences = ["here"] } == .wrongAudience)
  #expect(said(with(#""aud":7"#)) { $0.audiences = ["here"] } == .untrustedToken)
  #expect(said(with(#""scope":"read write""#)) { $0.requiredScopes = ["write", "read"] } == nil)
  #expect(said(with(#""scope":["read","write"]"#)) { $0.requiredScopes = ["write"] } == nil)
  #expect(
    said(with(#""scp":"write""#)) {
      $0.requiredScopes = ["write"]
      $0.scopeClaim = "scp"
    } == nil)
  #expect(said(with(#""scope":"read""#)) { $0.requiredScopes = ["write"] } == .insufficientScope)
  #expect(said(claims) { $0.requiredScopes = ["write"] } == .insufficientScope)
  #expect(said(with(#""azp":"svc""#)) { $0.subjectClaim = "azp" } == nil)
  #expect(said(claims) { $0.subjectClaim = "azp" } == .untrustedToken)
  for subject in [#""""#, #""*""#, #""ANONYMOUS""#, #""a\nb""#, "7", "null", #"["a"]"#] {
    #expect(said(#"{"sub":\#(subject),"exp":1800000060}"#) == .untrustedToken, "\(subject)")
  }
}

@Test("tokens without a signature, with a shared key, and with another algorithm's key are refused")
func downgrades() throws {
  func unsigned(_ algorithm: String) -> String {
    "\(base64URL(#"{"alg":"\#(algorithm)"}"#)).\(base64URL(claims))."
  }
  for algorithm in ["none", "None", "NONE", "nOnE", "HS256", "HS384", "HS512", "", "es256", "RS1", "ES256K", "dir"] {
    #expect(said(token: unsigned(algorithm), ec.entry()) == .unsupportedAlgorithm, "\(algorithm)")
    #expect(said(token: unsigned(algorithm) + "AAAA", ec.entry()) == .unsupportedAlgorithm, "\(algorithm)")
  }
  #expect(said(token: "\(base64URL(#"{"typ":"JWT"}"#)).\(base64URL(claims)).AAAA", ec.entry()) == .unsupportedAlgorithm)
  // A key of another kind than the algorithm's, and one that is for another algorithm.
  #expect(said(token: ec.token(.es256, claims), rsa.entry()) == .unknownKey)
  #expect(said(token: rsa.token(.rs256, claims), rsa.entry(#","alg":"PS256""#)) == .unknownKey)
  #expect(said(token: rsa.token(.ps256, claims), rsa.entry(#","alg":"PS256""#)) == nil)
  #expect(said(token: unsigned("ES256"), ec.entry()) == .invalidSignature)
  #expect(said(token: unsigned("ES256") + base64URL([UInt8](repeating: 0, count: 64)), ec.entry()) == .invalidSignature)
}

@Test("the key is the one that the token names, or the only one")
func keySelection() throws {
  let other = TokenSigner(.p256)
  let (one, two) = (ec.entry(#","kid":"one""#), other.entry(#","kid":"two""#))
  #expect(said(token: ec.token(.es256, claims, header: #","kid":"one""#), one, two) == nil)
  #expect(said(token: ec.token(.es256, claims, header: #","kid":"two""#), one, two) == .invalidSignature)
  #expect(said(token: ec.token(.es256, claims, header: #","kid":"three""#), one, two) == .unknownKey)
  #expect(said(token: ec.token(.es256, claims, header: #","kid":7"#), one, two) == .malformed)
  #expect(said(token: ec.token(.es256, claims), one, two) == .unknownKey)
  #expect(said(token: ec.token(.es256, claims), one, rsa.entry()) == nil)
  #expect(said(token: ec.token(.es256, claims, header: #","kid":"one""#), ec.entry()) == .unknownKey)
}

@Test("tokens that are none, too long, of another type, or with what nobody understands are refused")
func malformedTokens() {
  for malformed in [
    "", ".", "..", "...", "a.b.c", "e30.e30.e30.e30", "e30", String(repeating: "a", count: 16_385), "e30=.e30.AAAA",
    "\(base64URL("[]")).e30.AAAA", "\(base64URL("{")).e30.AAAA", "e3 0.e30.AAAA",
    "\(base64URL(#"{"alg":"ES256","alg":"ES256"}"#)).e30.AAAA",
  ] { #expect(said(token: malformed, ec.entry()) == .malformed, "\(malformed.prefix(30))") }
  #expect(said(token: ec.token(.es256, claims, header: #","crit":["exp"],"exp":1"#), ec.entry()) == .malformed)
  #expect(said(token: ec.token(.es256, claims, header: #","b64":false,"crit":["b64"]"#), ec.entry()) == .malformed)
  #expect(said(token: ec.token(.es256, "[]"), ec.entry()) == .malformed)
  #expect(said(token: ec.token(.es256, #"{"sub":"a","sub":"b","exp":1800000060}"#), ec.entry()) == .malformed)
  #expect(said(token: ec.token(.es256, claims, header: #","typ":"JWT""#), ec.entry()) == nil)
  #expect(said(token: ec.token(.es256, claims, header: #","typ":"at+jwt""#), ec.entry()) == nil)
  #expect(said(token: ec.token(.es256, claims, header: #","typ":"logout+jwt""#), ec.entry()) == .untrustedToken)
}

@Test("key files: what is skipped, what is refused")
func keyFiles() throws {
  let file = try keys(
    ec.entry(#","kid":"a","use":"sig","key_ops":["verify"],"alg":"ES256","x5c":["x"]"#), rsa.entry(#","use":"enc""#),
    rsa.entry(#","key_ops":["encrypt"]"#), #"{"kty":"oct","k":"AAAA"}"#, #"{"kty":"OKP","crv":"X25519","x":"AA"}"#,
    #"{"kty":"EC","crv":"secp256k1","x":"AA","y":"AA"}"#, #"{"kty":"new"}"#, rsa.entry(#","alg":"RSA-OAEP""#),
    rsa.entry(#","kid":"a""#))
  #expect(file.count == 2 && file.skipped.count == 7 && file.names == ["a", "a"])
  let n = base64URL([UInt8](repeating: 0xff, count: 256))
  for refused in [
    "", "{}", "[]", #"{"keys":{}}"#, #"{"keys":[]}"#, #"{"keys":[{}]}"#, #"{"keys":[{"kty":"oct","k":"AAAA"}]}"#,
    #"{"keys":[{"kty":"RSA","e":"AQAB"}]}"#, #"{"keys":[{"kty":"RSA","n":"\#(n)","e":"AQ"}]}"#,
    #"{"keys":[{"kty":"RSA","n":"\#(n)","e":"Ag"}]}"#, #"{"keys":[{"kty":"RSA","n":"\#(n)","e":"AQAAAAE"}]}"#,
    #"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#, #"{"keys":[{"kty":"RSA","n":"\#(n)=","e":"AQAB"}]}"#,
    #"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAAA"}]}"#,
    // A point that is not on the curve, and the coordinates of another one.
    #"{"keys":[\#(rfcEC.replacing("f83O", with: "f83P"))]}"#,
    #"{"keys":[\#(rfcEC.replacing("P-256", with: "P-384"))]}"#,
    #"{"keys":[\#(ec.entry(#","alg":"RS256""#))]}"#, #"{"keys":[\#(ec.entry(#","kid":"""#))]}"#,
    #"{"keys":[\#(ec.entry(#","kid":"a""#)),\#(TokenSigner(.p256).entry(#","kid":"a""#))]}"#,
    #"{"keys":[\#(Array(repeating: ec.entry(), count: 101).joined(separator: ","))]}"#,
    String(repeating: " ", count: 1 << 20) + "{}",
  ] { #expect(throws: SecuritySettingError.self, "\(refused.prefix(60))") { try JSONWebKeys(Bytes(refused)) } }
}

@Test("RSA keys below 2048 bits are refused")
func weakKeys() {
  #expect(throws: SecuritySettingError.self) { try keys(TokenSigner(.rsa, bits: 1024).entry()) }
}
