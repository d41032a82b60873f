// ScramCredentialTests: what is stored of passwords: which are accepted, and the bytes they become.

import MillraceBase
import MillraceSecurity
import Testing

@Test("passwords that nobody could type again are refused, others are taken as they are")
func passwords() {
  for accepted in ["x", "pass word", "naïve", "e\u{301}", "東京😀", String(repeating: "a", count: 1024), " \"'\\"] {
    #expect(refusal { try ScramCredential.check(Secret(accepted)) } == nil, "\(accepted)")
  }
  for refused in ["", "a\n", "\u{7f}", "\u{85}", "a\0b", "\u{2028}", String(repeating: "a", count: 1025)] {
    #expect(refusal { try ScramCredential.check(Secret(refused)) } == .unacceptableCredential)
  }
  #expect(refusal { try ScramCredential.check(Secret([0xff, 0xfe])) } == .unacceptableCredential)
}

@Test("no normalization: letters that look the same are other passwords, as for Kafka's clients")
func noNormalization() throws {
  let credential = try ScramCredential(password: Secret("\u{e9}"), mechanism: .sha256, iterations: 4096)
  #expect(credential.verify(password: Secret("\u{e9}")))
  #expect(!credential.verify(password: Secret("e\u{301}")))
}

@Test("a new credential has 15,000 iterations and a salt of its own")
func defaults() throws {
  let first = try ScramCredential(password: Secret("x"), mechanism: .sha256)
  let second = try ScramCredential(password: Secret("x"), mechanism: .sha256)
  #expect(first.iterations == 15_000)
  #expect(first.salt.count == 24)
  #expect(first.salt != second.salt && first.storedKey != second.storedKey)
}

@Test("iterations, salts and salted passwords have bounds")
func bounds() throws {
  func make(_ iterations: Int, _ salt: Int) -> AuthenticationError.Code? {
    refusal {
      _ = try ScramCredential(
        password: Secret("x"), mechanism: .sha256, iterations: iterations, salt: Array(repeating: 1, count: salt))
    }
  }
  #expect(make(4096, 8) == nil && make(4096, 255) == nil)
  #expect(make(4095, 8) == .unacceptableCredential && make(1_000_001, 8) == .unacceptableCredential)
  #expect(make(4096, 7) == .unacceptableCredential && make(4096, 256) == .unacceptableCredential)
  func admin(_ length: Int, _ iterations: Int, _ mechanism: ScramMechanism) -> AuthenticationError.Code? {
    refusal {
      _ = try ScramCredential(
        saltedPassword: .random(count: length), mechanism: mechanism, iterations: iterations,
        salt: Array(repeating: 1, count: 26))
    }
  }
  #expect(admin(32, 4096, .sha256) == nil && admin(64, 16_384, .sha512) == nil)
  #expect(admin(32, 4095, .sha256) == .unacceptableCredential && admin(32, 16_385, .sha256) == .unacceptableCredential)
  #expect(admin(64, 4096, .sha256) == .unacceptableCredential && admin(32, 4096, .sha512) == .unacceptableCredential)
}

@Test("golden: the bytes of a credential")
func goldenBytes() throws {
  let credential = try ScramCredential(
    password: Secret("pencil"), mechanism: .sha256, iterations: 4096, salt: decoded(ScramVector.salt))
  let expected: [UInt8] =
    [1, 1, 0, 0, 16, 0, 16] + (try decoded(ScramVector.salt)) + (try decoded(ScramVector.all[0].stored))
    + (try decoded(ScramVector.all[0].server))
  #expect(credential.encoded.array == expected)
}

@Test(
  "a credential comes back from its bytes; cut, longer or out of bounds they are refused",
  arguments: ScramMechanism.allCases)
func coding(mechanism: ScramMechanism) throws {
  let credential = try ScramCredential(password: Secret("pencil"), mechanism: mechanism, iterations: 5000)
  let bytes = credential.encoded
  #expect(try ScramCredential(encoded: bytes) == credential)
  for length in 0..<bytes.count {
    #expect(throws: DecodingError.self) { try ScramCredential(encoded: bytes[0..<length]) }
  }
  #expect(throws: DecodingError.self) { try ScramCredential(encoded: Bytes(bytes.array + [0])) }
  // Version, mechanism, iterations below and above their bounds, a salt that is too short.
  for (position, value) in [(0, 2), (0, 0), (1, 0), (1, 3), (4, 0x0f), (2, 1), (6, 7)] as [(Int, UInt8)] {
    var array = bytes.array
    array[position] = value
    #expect(throws: DecodingError.self, "byte \(position)") { try ScramCredential(encoded: Bytes(array)) }
  }
  var reader = ByteReader(Bytes(bytes.array + [7]))
  #expect(try ScramCredential(reading: &reader) == credential)
  #expect(reader.remaining == 1)
}

@Test("no way of printing a credential shows its keys")
func printing() throws {
  let credential = try ScramCredential(password: Secret("pencil"), mechanism: .sha256, iterations: 4096)
  var dumped = ""
  dump(credential, to: &dumped)
  #expect(dumped.contains("(secret)") && !dumped.contains("pencil"))
  #expect("\(credential)".contains("storedKey: (secret)"))
}

@Test("PLAIN: who somebody is and with which password, or what is wrong")
func plain() throws {
  func read(_ text: String) -> AuthenticationError.Code? {
    refusal { _ = try PlainMechanism.read(Bytes(text)) }
  }
  let credentials = try PlainMechanism.read(Bytes("\0alice\0pässword"))
  #expect(try credentials == PlainCredentials(user: "alice", password: Secret("pässword")))
  #expect(try PlainMechanism.read(Bytes("alice\0alice\0x")).user == "alice")
  #expect(try PlainMechanism.read(PlainMechanism.message(user: "alice", password: Secret("x"))).user == "alice")
  #expect(read("bob\0alice\0x") == .foreignAuthorization)
  for name in ["*", "ANONYMOUS", "älice", "a\nb", " a"] { #expect(read("\0\(name)\0x") == .invalidCredentials) }
  for malformed in [
    "", "\0", "alice", "alice\0x", "\0\0x", "\0alice\0", "\0alice\0x\0", "\0alice\0x\0y",
    "\0\(String(repeating: "a", count: 256))\0x", "\0alice\0\(String(repeating: "a", count: 1025))",
    String(repeating: "a", count: 2000),
  ] { #expect(read(malformed) == .malformed, "\(malformed.prefix(20))") }
  #expect(refusal { _ = try PlainMechanism.read(Bytes([0, 0xff, 0, 0x61])) } == .malformed)
}

@Test("names of users and principals")
func names() {
  for valid in ["a", "alice@example.com", "CN=a,O=b", "a b", String(repeating: "x", count: 255)] {
    #expect(UserName.isValid(valid) && PrincipalName.isValid(valid))
  }
  for invalid in ["", "*", "ANONYMOUS", "a\nb", "a\u{7f}", String(repeating: "x", count: 1025)] {
    #expect(!UserName.isValid(invalid) && !PrincipalName.isValid(invalid))
  }
  #expect(!UserName.isValid("é") && PrincipalName.isValid("é"))
  #expect(!UserName.isValid(String(repeating: "x", count: 256)))
  #expect(!PrincipalName.isValid("a\u{2028}b"))
}
