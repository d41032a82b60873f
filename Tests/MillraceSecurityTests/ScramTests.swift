// ScramTests: client against server, and everything that a server must not be fooled by.

import MillraceBase
import MillraceSecurity
import Testing

private let key = Secret("a key that outlives restarts")

/// Users by name, as a broker has them.
private typealias Users = [String: ScramCredential]

/// How an exchange ended, of which `change` may alter the messages: 0 the client's first to 3 the server's last.
private func exchange(
  _ client: ScramClient, _ users: Users, mechanism: ScramMechanism = .sha256, nonce: String? = nil,
  change: (Int, Bytes) -> Bytes = { $1 }
) throws -> String {
  var client = client
  var server = ScramServer(mechanism: mechanism, standInKey: key, standInIterations: 4096, nonce: nonce)
  guard case .findCredential(let user) = try server.respond(change(0, client.first)) else {
    throw AuthenticationError(.outOfOrder, "accepted at once")
  }
  let final = try client.answer(change(1, server.challenge(with: users[user])))
  guard case .accepted(let who, let answer) = try server.respond(change(2, final)) else {
    throw AuthenticationError(.outOfOrder, "asked twice")
  }
  try client.finish(change(3, answer))
  return who
}

/// What the server says of a first message.
private func refusalOfFirst(_ message: String) -> AuthenticationError.Code? {
  var server = ScramServer(mechanism: .sha256, standInKey: key)
  return refusal { _ = try server.respond(Bytes(message)) }
}

@Test("oracle: random users come in with their password and with no other", arguments: 0..<6)
func oracleRandomUsers(seed: UInt64) throws {
  var random = SeededRandom(seed: seed)
  let mechanism: ScramMechanism = random.oneIn(2) ? .sha256 : .sha512
  let letters = Array("ab,=2CD3 n\u{7e}é東😀")
  func word(_ longest: Int, ascii: Bool) -> String {
    String(
      (0..<Int.random(in: 1...longest, using: &random)).map { _ in letters.randomElement(using: &random)! }
        .filter { !ascii || $0.isASCII })
  }
  for _ in 0..<6 {
    let user = "u\(word(84, ascii: true))u"
    let password = word(60, ascii: false)
    let other = word(60, ascii: false)
    let users = [
      user: try ScramCredential(
        password: Secret(password), mechanism: mechanism, iterations: Int.random(in: 4096...5000, using: &random))
    ]
    func attempt(_ word: String) throws -> String {
      try exchange(
        ScramClient(mechanism: mechanism, user: user, password: Secret(word)), users, mechanism: mechanism)
    }
    #expect(try attempt(password) == user, "seed \(seed)")
    if other != password {
      #expect(refusal { _ = try attempt(other) } == .invalidCredentials, "seed \(seed): \(other)")
    }
  }
}

@Test("every changed byte of the first two messages ends the exchange", arguments: ScramMechanism.allCases)
func everyChangedByteOfTheFirst(mechanism: ScramMechanism) throws {
  let users = ["alice": try ScramCredential(password: Secret("pencil"), mechanism: mechanism, iterations: 4096)]
  // Challenges are made from the same nonces, so that lengths are known.
  let client = ScramClient(mechanism: mechanism, user: "alice", password: Secret("pencil"), nonce: "Clients0Nonce")
  var lengths: [Int] = []
  _ = try exchange(client, users, mechanism: mechanism, nonce: "Server1Nonce") {
    lengths.append($1.count)
    return $1
  }
  #expect(lengths.count == 4)
  for message in 0..<2 {
    for position in 0..<lengths[message] {
      var changed = false
      let code = refusal {
        _ = try exchange(client, users, mechanism: mechanism, nonce: "Server1Nonce") { number, bytes in
          guard number == message else { return bytes }
          var array = bytes.array
          // Each costs a derivation, so of the 255 changes each byte has one.
          array[position] ^= [1, 2, 0x20][position % 3]
          changed = true
          return Bytes(array)
        }
      }
      #expect(changed && code != nil, "message \(message), byte \(position)")
    }
  }
}

@Test("every change of every byte of the last two messages is refused", arguments: ScramMechanism.allCases)
func everyChangedByteOfTheLast(mechanism: ScramMechanism) throws {
  let credential = try ScramCredential(password: Secret("pencil"), mechanism: mechanism, iterations: 4096)
  var client = ScramClient(mechanism: mechanism, user: "alice", password: Secret("pencil"))
  var server = ScramServer(mechanism: mechanism, standInKey: key)
  _ = try server.respond(client.first)
  let final = try client.answer(server.challenge(with: credential))
  var untouched = server
  guard case .accepted(_, let answer) = try untouched.respond(final) else { throw AuthenticationError(.outOfOrder, "") }
  var accepted: [String] = []
  for (message, bytes) in [final, answer].enumerated() {
    for position in 0..<bytes.count {
      for change in 1...255 as ClosedRange<UInt8> {
        var array = bytes.array
        array[position] ^= change
        // Both are values: each change meets them in the same state.
        var server = server
        var client = client
        let code = refusal {
          if message == 0 { _ = try server.respond(Bytes(array)) } else { try client.finish(Bytes(array)) }
        }
        if code == nil { accepted.append("message \(message), byte \(position) changed by \(change)") }
      }
    }
  }
  #expect(accepted.isEmpty)
  try client.finish(answer)
}

@Test("every message that is cut off or longer is refused")
func everyLength() throws {
  let users = ["alice": try ScramCredential(password: Secret("pencil"), mechanism: .sha256, iterations: 4096)]
  let client = ScramClient(mechanism: .sha256, user: "alice", password: Secret("pencil"), nonce: "Clients0Nonce")
  func ended(_ message: Int, _ change: (Bytes) -> Bytes) -> Bool {
    refusal { _ = try exchange(client, users, nonce: "Server1Nonce") { $0 == message ? change($1) : $1 } } != nil
  }
  for message in 0..<4 {
    for length in 0..<24 { #expect(ended(message) { $0[0..<($0.count * length / 24)] }, "\(message) \(length)") }
    for more in [",", "=", ",x", ",m=1", "A", ",=1"] {
      #expect(ended(message) { Bytes($0.text + more) }, "message \(message) with \(more) behind it")
    }
  }
}

@Test(
  "a user who does not exist is challenged as one who does, always in the same way, and refused for the same reason")
func unknownUsers() throws {
  func attempt(_ user: String, _ users: Users, key: Secret = key) throws -> (
    challenge: String, error: AuthenticationError?
  ) {
    var client = ScramClient(mechanism: .sha256, user: user, password: Secret("x"), nonce: "abc")
    var server = ScramServer(mechanism: .sha256, standInKey: key, standInIterations: 4096, nonce: "def")
    _ = try server.respond(client.first)
    let challenge = server.challenge(with: users[user])
    let final = try client.answer(challenge)
    do throws(AuthenticationError) {
      _ = try server.respond(final)
      return (challenge.text, nil)
    } catch { return (challenge.text, error) }
  }
  let users = ["alice": try ScramCredential(password: Secret("pencil"), mechanism: .sha256, iterations: 4096)]
  let known = try attempt("alice", users)
  let unknown = try attempt("bob", users)
  #expect(known.challenge.utf8.count == unknown.challenge.utf8.count)
  #expect(try attempt("bob", users).challenge == unknown.challenge)
  #expect(try attempt("carol", users).challenge != unknown.challenge)
  #expect(try attempt("bob", users, key: Secret("another key of the server")).challenge != unknown.challenge)
  #expect(known.error?.code == .invalidCredentials && unknown.error?.code == .invalidCredentials)
  #expect(known.error?.publicText == unknown.error?.publicText)
  #expect(ScramServer.answer(to: known.error!) == ScramServer.answer(to: unknown.error!))
  // And no password opens what stands in.
  let standIn = ScramCredential.standIn(for: "bob", mechanism: .sha256, key: key, iterations: 4096)
  #expect(!standIn.verify(password: Secret("x")) && !standIn.verify(password: Secret("")))
}

@Test("a last message is good for one exchange alone, and each exchange has one try")
func replay() throws {
  let users = ["alice": try ScramCredential(password: Secret("pencil"), mechanism: .sha256, iterations: 4096)]
  var client = ScramClient(mechanism: .sha256, user: "alice", password: Secret("pencil"))
  var server = ScramServer(mechanism: .sha256, standInKey: key)
  _ = try server.respond(client.first)
  let final = try client.answer(server.challenge(with: users["alice"]))
  _ = try server.respond(final)
  #expect(refusal { _ = try server.respond(final) } == .outOfOrder)
  // The same messages once more: the server's nonce is another.
  var again = ScramServer(mechanism: .sha256, standInKey: key)
  _ = try again.respond(client.first)
  _ = again.challenge(with: users["alice"])
  #expect(refusal { _ = try again.respond(final) } == .invalidCredentials)
  #expect(refusal { _ = try again.respond(final) } == .outOfOrder)
}

@Test("a header that was changed on the way is refused")
func changedHeader() throws {
  let users = ["alice": try ScramCredential(password: Secret("pencil"), mechanism: .sha256, iterations: 4096)]
  let client = ScramClient(mechanism: .sha256, user: "alice", password: Secret("pencil"))
  for header in ["y,,", "n,a=alice,"] {
    // The proof does not cover the first message's header; that the last one repeats it does.
    let code = refusal {
      _ = try exchange(client, users) { $0 == 0 ? Bytes(header + String($1.text.dropFirst(3))) : $1 }
    }
    #expect(code == .malformed, "\(header)")
  }
}

@Test("messages out of order are refused")
func order() throws {
  var server = ScramServer(mechanism: .sha256, standInKey: key)
  _ = try server.respond(Bytes("n,,n=alice,r=abc"))
  #expect(refusal { _ = try server.respond(Bytes("c=biws,r=abc,p=AAAA")) } == .outOfOrder)
  var client = ScramClient(mechanism: .sha256, user: "a", password: Secret("b"))
  #expect(refusal { try client.finish(Bytes("v=AAAA")) } == .outOfOrder)
}

@Test("first messages: what the header may say, and what no client may ask for")
func firstMessages() {
  for accepted in [
    "n,,n=alice,r=abc", "y,,n=alice,r=abc", "n,a=alice,n=alice,r=abc", "n,,n=a=2Cb=3Dc,r=!~",
    "n,,n=alice,r=abc,x=1,ext=a=b", "n,,n=alice,r=abc,tokenauth=false",
  ] { #expect(refusalOfFirst(accepted) == nil, "\(accepted)") }
  #expect(refusalOfFirst("p=tls-unique,,n=alice,r=abc") == .unsupportedChannelBinding)
  #expect(refusalOfFirst("p=tls-exporter,,n=alice,r=abc") == .unsupportedChannelBinding)
  #expect(refusalOfFirst("n,,m=ext,n=alice,r=abc") == .unsupportedExtension)
  #expect(refusalOfFirst("n,,n=alice,r=abc,m=ext") == .unsupportedExtension)
  #expect(refusalOfFirst("n,,n=alice,r=abc,tokenauth=true") == .unsupportedExtension)
  #expect(refusalOfFirst("n,,n=alice,r=abc,tokenauth=TRUE") == .unsupportedExtension)
  #expect(refusalOfFirst("n,a=bob,n=alice,r=abc") == .foreignAuthorization)
  for malformed in [
    "", ",", "n", "n,", "n,,", "n,,n=alice", "n,,n=,r=abc", "n,,n=alice,r=", "n,,r=abc,n=alice", "x,,n=alice,r=abc",
    "n,alice,n=alice,r=abc", "n,a=,n=alice,r=abc", "n,,n=al=2cice,r=abc", "n,,n=a=,r=abc", "n,,n=alice,r=a b",
    "n,,n=alice,r=é", "n,,n=älice,r=abc", "n,,n=*,r=abc", "n,,n=ANONYMOUS,r=abc", "n,,n=a\nb,r=abc",
    "n,,n=alice,r=abc,", "n,,n=alice,r=abc,x", "n,,n=alice,r=abc,x=", "n,,n=alice,r=abc,1=2", "n,,n=al\0ice,r=abc",
    "n,,n=\(String(repeating: "a", count: 256)),r=abc", "n,,n=alice,r=\(String(repeating: "a", count: 1025))",
    "n,,n=alice,r=abc,x=\(String(repeating: "a", count: 4096))",
  ] { #expect(refusalOfFirst(malformed) == .malformed, "\(malformed.prefix(60))") }
  var server = ScramServer(mechanism: .sha256, standInKey: key)
  #expect(
    refusal { _ = try server.respond(Bytes([0x6e, 0x2c, 0x2c, 0x6e, 0x3d, 0xff, 0x2c, 0x72, 0x3d, 0x61])) }
      == .malformed)
}

@Test("a client refuses challenges that are cheap, endless, or of another exchange, and tells the server's word")
func challenges() {
  func answer(_ challenge: String) -> AuthenticationError.Code? {
    var client = ScramClient(mechanism: .sha256, user: "alice", password: Secret("x"), nonce: "abc")
    return refusal { _ = try client.answer(Bytes(challenge)) }
  }
  #expect(answer("r=abcdef,s=AAAA,i=4096") == nil)
  #expect(answer("r=abcdef,s=AAAA,i=4096,x=y") == nil)
  for malformed in [
    "r=abcdef,s=AAAA,i=4095", "r=abcdef,s=AAAA,i=1000001", "r=abcdef,s=AAAA,i=99999999999999999999",
    "r=abcdef,s=AAAA,i=04096", "r=abcdef,s=AAAA,i=-1", "r=abcdef,s=AAA,i=4096", "r=abcdef,s=AAB=,i=4096",
    "r=abcdef,i=4096,s=AAAA", "",
  ] { #expect(answer(malformed) == .malformed, "\(malformed)") }
  #expect(answer("r=abc,s=AAAA,i=4096") == .unprovenServer)
  #expect(answer("r=xbcdef,s=AAAA,i=4096") == .unprovenServer)
  #expect(answer("m=x,r=abcdef,s=AAAA,i=4096") == .unsupportedExtension)
  #expect(answer("e=unknown-user") == .invalidCredentials)
}

@Test("what SCRAM sends of a refusal has the words of RFC 5802")
func errorWords() {
  let words: [AuthenticationError.Code: String] = [
    .invalidCredentials: "e=invalid-proof", .unsupportedChannelBinding: "e=channel-binding-not-supported",
    .unsupportedExtension: "e=extensions-not-supported", .malformed: "e=invalid-encoding",
    .foreignAuthorization: "e=other-error",
  ]
  for (code, word) in words { #expect(ScramServer.answer(to: AuthenticationError(code, "")).text == word) }
}
