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
