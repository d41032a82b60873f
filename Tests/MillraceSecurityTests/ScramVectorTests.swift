// ScramVectorTests: exchanges that others computed: RFC 7677, section 3, and Scripts/make-scram-vectors.py.

import MillraceBase
import MillraceSecurity
import Testing

struct ScramVector: Sendable, CustomTestStringConvertible {
  var mechanism: ScramMechanism
  var proof: String
  var signature: String
  var salted: String
  var stored: String
  var server: String

  static let clientNonce = "rOprNGfwEbeRWgbNEkqO"
  static let serverNonce = "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
  static let salt = "W22ZaJ0SNY7soEsUEjb6gQ=="
  static let first = "n,,n=user,r=\(clientNonce)"
  static let challenge = "r=\(clientNonce)\(serverNonce),s=\(salt),i=4096"
  var final: String { "c=biws,r=\(ScramVector.clientNonce)\(ScramVector.serverNonce),p=\(proof)" }
  var testDescription: String { mechanism.name }

  static let all = [
    // RFC 7677, section 3; the keys by Python's hashlib.
    ScramVector(
      mechanism: .sha256, proof: "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
      signature: "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
      salted: "xKSVEDI6tPlSysH6mUQZOeeOp01r6B3fcJbodRPcYV0=",
      stored: "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
      server: "wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="),
    // The same inputs, by Python's hashlib.
    ScramVector(
      mechanism: .sha512,
      proof: "gMGXRcevScNtxZ6/8lQYpGtnsNAc3mGcmNomv+xnoOMw+3R2xNJdMNnzMlTN8PPC6wdp6dybEmDYXYTxwnYPJQ==",
      signature: "ZQnYEgWQMFmmsM8aQMF0nDDCy/AgCzkwk8CmMZYcMg0vSVlKDanekLtifDSeVGT4+5ZxXnJq199RVG2rR7N7Zw==",
      salted: "8W7+G+Z/HQlQLr1e2SYv3f+6Wjd6tPC2h+XtW6D1Boa4pK4WZHbairO5UdL6kji2OZj0VGG8M6RkgUlJzsljHQ==",
      stored: "6AAub3065EYRmyFpM2RNwqK+eGnrkYuEWbXn19LsEmBqzu8QaCXNc1FwpnX9NhH2hK/60dzj9DoO5DvVkOHbvg==",
      server: "jZHbYjC1aHh0/hKbxyBuGFjDrgjgKTT1esA7awWiKcRZ0o/0b1yWEebBeSVkkCFewf91nLDfKF24mvD5nmE6rA=="),
  ]

  func credential() throws -> ScramCredential {
    try ScramCredential(
      password: Secret("pencil"), mechanism: mechanism, iterations: 4096, salt: decoded(ScramVector.salt))
  }
}

func decoded(_ base64: String) throws -> [UInt8] { try #require(Base64.decode(base64)).array }

@Test("golden: the server answers a published exchange with the published bytes", arguments: ScramVector.all)
func goldenServer(vector: ScramVector) throws {
  var server = ScramServer(
    mechanism: vector.mechanism, standInKey: Secret("0123456789abcdef"), nonce: ScramVector.serverNonce)
  #expect(try server.respond(Bytes(ScramVector.first)) == .findCredential(user: "user"))
  #expect(server.challenge(with: try vector.credential()).text == ScramVector.challenge)
  #expect(
    try server.respond(Bytes(vector.final)) == .accepted(user: "user", answer: Bytes("v=\(vector.signature)")))
}

@Test("golden: the client sends what a published exchange has", arguments: ScramVector.all)
func goldenClient(vector: ScramVector) throws {
  var client = ScramClient(
    mechanism: vector.mechanism, user: "user", password: Secret("pencil"), nonce: ScramVector.clientNonce)
  #expect(client.first.text == ScramVector.first)
  #expect(try client.answer(Bytes(ScramVector.challenge)).text == vector.final)
  try client.finish(Bytes("v=\(vector.signature)"))
}

@Test("golden: keys are those that hashlib derives, from a password and from a salted one", arguments: ScramVector.all)
func goldenKeys(vector: ScramVector) throws {
  let salted = try ScramCredential(
    saltedPassword: Secret(decoded(vector.salted)), mechanism: vector.mechanism, iterations: 4096,
    salt: decoded(ScramVector.salt))
  for credential in [try vector.credential(), salted] {
    #expect(credential.storedKey == Secret(try decoded(vector.stored)))
    #expect(credential.serverKey == Secret(try decoded(vector.server)))
    #expect(credential.verify(password: Secret("pencil")))
    #expect(!credential.verify(password: Secret("pencils")))
  }
}
