// Security: what strangers send to say who they are, and what is stored of users.

import FuzzHarness
import MillraceBase
@testable import MillraceSecurity

private let fuzzKey = Secret("a key that outlives restarts")
private let fuzzCredential: ScramCredential = {
  do throws(AuthenticationError) {
    return try ScramCredential(
      password: Secret("pencil"), mechanism: .sha256, iterations: 4096, salt: Array("saltsaltsaltsalt".utf8))
  } catch { preconditionFailure("\(error)") }
}()
/// A client that has answered a challenge and waits for the server's proof.
private let fuzzClient: ScramClient = {
  var client = ScramClient(mechanism: .sha256, user: "user", password: Secret("pencil"), nonce: "abc")
  do throws(AuthenticationError) { _ = try client.answer(Bytes("r=abcdef,s=c2FsdHNhbHQ=,i=4096")) } catch {
    preconditionFailure("\(error)")
  }
  return client
}()

/// Two bytes of length, a client's first message, and its last; the rest is read as the server's messages, too. Nobody comes in, for
/// no fuzzer finds a proof.
let scramMessages = FuzzTarget(
  name: "scram-messages",
  seeds: {
    func seed(_ first: String, _ last: String) -> [UInt8] {
      [UInt8(first.utf8.count >> 8), UInt8(first.utf8.count & 255)] + Array((first + last).utf8)
    }
    let proof = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    return [
      seed("n,,n=user,r=abc", "c=biws,r=abcserver,p=\(proof)"),
      seed("n,a=user,n=user,r=abc,ext=x", "c=bixhPXVzZXIs,r=abcserver,x=y,p=\(proof)"),
      seed("y,,n=us=2C=3Der,r=abc,tokenauth=true", "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="),
      seed("p=tls-unique,,m=x,n=user,r=abc", "e=other-error"),
      seed("n,,n=user,r=abc", "r=abcdef,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"),
    ]
  }
) { input in
  var choices = Choices(input)
  let first = choices.bytes(choices.number(below: 1 << 16))
  let rest = choices.rest()
  var server = ScramServer(mechanism: .sha256, standInKey: fuzzKey, nonce: "server")
  do throws(AuthenticationError) {
    guard case .findCredential(let user) = try server.respond(first) else { preconditionFailure("accepted at once") }
    precondition(UserName.isValid(user) && SaslName.decode(Array(SaslName.encode(user).utf8)[...]) == user, "\(user)")
    _ = server.challenge(with: user == "user" ? fuzzCredential : nil)
    guard case .findCredential = try server.respond(rest) else { preconditionFailure("\(user) came in") }
    preconditionFailure("a second user")
  } catch { precondition(error.reason.utf8.count <= 512, "a reason of \(error.reason.utf8.count) bytes") }
  do throws(AuthenticationError) {
    let challenge = try ScramServerFirst(rest)
    let again = try ScramServerFirst(Bytes(challenge.text))
    precondition(challenge == again, "a challenge changed when written")
  } catch {}
  var client = fuzzClient
  do throws(AuthenticationError) {
    try client.finish(rest)
    preconditionFailure("the server's proof was found")
  } catch { precondition(error.reason.utf8.count <= 512, "a reason of \(error.reason.utf8.count) bytes") }
}

/// A message of PLAIN; what is accepted is written and read again.
let plainMessages = FuzzTarget(
  name: "plain-messages", seeds: { ["\0user\0pencil", "user\0user\0pencil"].map { Array($0.utf8) } }
) { input in
  do throws(AuthenticationError) {
    let credentials = try PlainMechanism.read(input)
    let again = try PlainMechanism.read(
      PlainMechanism.message(user: credentials.user, password: credentials.password))
    precondition(again == credentials, "other credentials when written")
  } catch { precondition(error.reason.utf8.count <= 512, "a reason of \(error.reason.utf8.count) bytes") }
}

/// A stored credential; what is accepted is written as it was read.
let storedCredentials = FuzzTarget(
  name: "stored-credentials",
  seeds: {
    [
      fuzzCredential.encoded.array,
      ScramCredential.standIn(for: "user", mechanism: .sha512, key: fuzzKey).encoded.array,
    ]
  }
) { input in
  do throws(DecodingError) {
    let credential = try ScramCredential(encoded: input)
    precondition(credential.encoded == input, "another credential when written")
  } catch {
    precondition(error.position >= 0 && error.position <= input.count, "position \(error.position) of \(input.count)")
  }
}

/// Rules for certificates, a line end, and a subject. What comes out is a name that a principal can have; the common name is the same
/// when it is written with every character escaped.
let principalRules = FuzzTarget(
  name: "principal-rules",
  seeds: {
    [
      "RULE:^CN=(.*?),OU=(.*?)$/$1@$2/L, DEFAULT\nCN=a b,OU=x", "CN\nCN=a\\,b\\C3\\A9+O= x \\ ,C=US",
      "RULE:(a)|(b)/\\$$2$10\\//U\nb", "DN\nCN=a",
    ].map { Array($0.utf8) }
  }
) { input in
  let parts = input.array.split(separator: 10, maxSplits: 1, omittingEmptySubsequences: false)
  guard let rules = String(validating: parts[0], as: UTF8.self),
    let name = String(validating: parts.last ?? [], as: UTF8.self)
  else { return }
  do throws(SecuritySettingError) {
    let mapping = try PrincipalMapping(rules)
    do throws(AuthenticationError) {
      let principal = try mapping.principal(of: name)
      precondition(PrincipalName.isValid(principal.name), "\(principal)")
    } catch { precondition(error.code == .unmappedCertificate, "\(error)") }
  } catch {}
  do throws(AuthenticationError) {
    let common = try DistinguishedName(name).commonName()
    let digits = Array("0123456789abcdef")
    let escaped = common.utf8.map { "\\\(digits[Int($0 >> 4)])\(digits[Int($0 & 15)])" }.joined()
    guard escaped.utf8.count < DistinguishedName.longest - 3 else { return }
    let again = try DistinguishedName("CN=\(escaped)").commonName()
    precondition(again == common, "\(again) instead of \(common)")
  } catch { precondition(error.code == .unmappedCertificate, "\(error)") }
}

/// RFC 7515's elliptic key, and RFC 8037's.
private let fuzzKeyFile =
  #"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","#
  + #""y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0","kid":"a","alg":"ES256","use":"sig"},"#
  + #"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","key_ops":["verify"]}]}"#
private let fuzzVerifier: BearerTokenVerifier = {
  var rules = BearerTokenRules()
  rules.issuer = "joe"
  rules.audiences = ["here"]
  rules.requiredScopes = ["read"]
  do throws(SecuritySettingError) {
    return BearerTokenVerifier(keys: try JSONWebKeys(Bytes(fuzzKeyFile)), rules: rules)
  } catch { preconditionFailure("\(error)") }
}()
private let fuzzNow = Timestamp(milliseconds: 1_300_819_000_000)

/// OAUTHBEARER's first message, and one that follows a refusal.
let bearerMessages = FuzzTarget(
  name: "bearer-messages",
  seeds: {
    [
      "n,,\u{1}auth=Bearer e30.e30.AAAA\u{1}\u{1}", "y,a=a=2Cb,\u{1}host=x\u{1}auth=bearer  a\u{1}b=c d\r\n\u{1}\u{1}",
      "p=x,,\u{1}auth=Bearer a\u{1}\u{1}",
    ].map { Array($0.utf8) }
  }
) { input in
  var server = BearerServer(fuzzVerifier)
  do throws(AuthenticationError) {
    guard case .refused(let answer, let first) = try server.respond(input, at: fuzzNow) else {
      preconditionFailure("a token without a signature came in")
    }
    precondition(answer.count < 100, "an answer of \(answer.count) bytes")
    do throws(AuthenticationError) {
      _ = try server.respond(Bytes([1]), at: fuzzNow)
      preconditionFailure("accepted after a refusal")
    } catch { precondition(error == first, "\(error) instead of \(first)") }
  } catch { precondition(error.reason.utf8.count <= 2048, "a reason of \(error.reason.utf8.count) bytes") }
}

/// A token, of which nobody has a signature, and the same bytes as claims whose signature is right.
let bearerTokens = FuzzTarget(
  name: "bearer-tokens",
  seeds: {
    [
      "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ."
        + "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
      "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc."
        + "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
      #"{"sub":"a","iss":"joe","aud":["x","here"],"exp":1300819380,"nbf":1.5e9,"iat":1300819000,"scope":"read write"}"#,
      #"{"sub":"a","iss":"joe","aud":"here","exp":1e300,"scope":["read"]}"#,
    ].map { Array($0.utf8) }
  }
) { input in
  do throws(AuthenticationError) { _ = try fuzzVerifier.verify(input.array, at: fuzzNow) } catch {
    precondition(error.reason.utf8.count <= 2048, "a reason of \(error.reason.utf8.count) bytes")
  }
  do throws(AuthenticationError) {
    let identity = try fuzzVerifier.identity(claims: input.array, at: fuzzNow)
    precondition(PrincipalName.isValid(identity.principal.name), "\(identity.principal)")
    precondition(identity.expires > fuzzNow && identity.scopes.contains("read"), "\(identity)")
  } catch { precondition(error.reason.utf8.count <= 2048, "a reason of \(error.reason.utf8.count) bytes") }
}

/// A file with keys. Each that is used must take a signature and refuse it.
let keyFiles = FuzzTarget(
  name: "key-files",
  seeds: {
    let n = String(repeating: "_", count: 342)
    return [
      fuzzKeyFile, #"{"keys":[{"kty":"RSA","kid":"b","n":"\#(n)","e":"AQAB"}]}"#,
      #"{"keys":[{"kty":"oct","k":"AA"},{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#,
    ].map { Array($0.utf8) }
  }
) { input in
  do throws(SecuritySettingError) {
    let keys = try JSONWebKeys(input)
    precondition(keys.count > 0, "no key")
    for key in keys.keys.prefix(4) {
      for algorithm in SignatureAlgorithm.allCases where key.fits(algorithm) {
        let length = key.key.kind.coordinateLength.map { 2 * $0 } ?? 256
        precondition(
          !key.key.verify(algorithm, [1, 2, 3], signature: [UInt8](repeating: 7, count: length)), "\(algorithm)")
      }
    }
  } catch { precondition(error.description.utf8.count <= 65_536, "a reason of \(error.description.utf8.count) bytes") }
}
