// BearerMechanismTests: OAUTHBEARER as Kafka's clients speak it.

import MillraceBase
import Testing

@testable import MillraceSecurity

private let now = Timestamp(milliseconds: 1_800_000_000_000)
private let signer = TokenSigner(.p256)
private let good = signer.token(.es256, #"{"sub":"alice","exp":1800000060}"#)

private func server() throws -> BearerServer {
  BearerServer(BearerTokenVerifier(keys: try JSONWebKeys(Bytes(#"{"keys":[\#(signer.entry())]}"#))))
}

/// Who comes in with a message.
private func accepted(_ message: String) throws -> (String, [String: String])? {
  var server = try server()
  guard case .accepted(let identity, let extensions) = try server.respond(Bytes(message), at: now) else { return nil }
  return (identity.principal.name, extensions)
}

@Test("messages of Kafka's clients come in, with and without extensions")
func acceptedMessages() throws {
  // As kafka-python, librdkafka and the Java client send them.
  for message in [
    "n,,\u{1}auth=Bearer \(good)\u{1}\u{1}", "n,a=alice,\u{1}auth=Bearer \(good)\u{1}\u{1}",
    "y,,\u{1}auth=bearer   \(good)\u{1}\u{1}",
  ] { #expect(try accepted(message)?.0 == "alice", "\(message.prefix(20))") }
  let with = try accepted("n,,\u{1}host=a.b\u{1}auth=Bearer \(good)\u{1}traceId=1 2=3\r\n\u{1}\u{1}")
  #expect(with?.1 == ["host": "a.b", "traceId": "1 2=3\r\n"])
  let own = BearerMechanism.message(token: Secret(good))
  #expect(try accepted(own.text)?.0 == "alice")
}

@Test("a bad token is answered with its status; then the client is refused, whatever it says")
func refusedToken() throws {
  for last in ["\u{1}", "", "n,,\u{1}auth=Bearer \(good)\u{1}\u{1}"] {
    var server = try server()
    let step = try server.respond(Bytes("n,,\u{1}auth=Bearer \(good)x\u{1}\u{1}"), at: now)
    guard case .refused(let answer, let error) = step else { throw AuthenticationError(.outOfOrder, "accepted") }
    #expect(answer.text == #"{"status":"invalid_token"}"#)
    #expect(error.code == .malformed || error.code == .invalidSignature)
    #expect(refusal { _ = try server.respond(Bytes(last), at: now) } == error.code)
    // And there is no way back.
    #expect(refusal { _ = try server.respond(BearerMechanism.message(token: Secret(good)), at: now) } == .outOfOrder)
  }
  #expect(
    BearerServer.answer(to: AuthenticationError(.insufficientScope, "")).text == #"{"status":"insufficient_scope"}"#)
}

@Test("whoever wants to act as somebody else is refused")
func foreign() throws {
  #expect(
    refusal { _ = try accepted("n,a=bob,\u{1}auth=Bearer \(good)\u{1}\u{1}") } == .foreignAuthorization)
}

@Test("messages that are none are refused at once")
func malformedMessages() throws {
  for malformed in [
    "", "\u{1}", "n,,", "n,,\u{1}", "n,,\u{1}\u{1}", "n,,\u{1}auth=Bearer \(good)", "n,,\u{1}auth=Bearer \(good)\u{1}",
    "n,,\u{1}auth=Bearer \(good)\u{1}\u{1}\u{1}", "n,,\u{1}auth=Bearer \(good)\u{1}\u{1}x",
    "x,,\u{1}auth=Bearer \(good)\u{1}\u{1}",
    "n,alice,\u{1}auth=Bearer \(good)\u{1}\u{1}", "n,a=,\u{1}auth=Bearer \(good)\u{1}\u{1}",
    "n,,\u{1}auth=Basic \(good)\u{1}\u{1}",
    "n,,\u{1}auth=Bearer\u{1}\u{1}", "n,,\u{1}auth=Bearer \u{1}\u{1}", "n,,\u{1}auth=\u{1}\u{1}",
    "n,,\u{1}host=a\u{1}\u{1}",
    "n,,\u{1}auth=Bearer \(good)\u{1}auth=Bearer \(good)\u{1}\u{1}",
    "n,,\u{1}auth=Bearer \(good)\u{1}a=1\u{1}a=2\u{1}\u{1}",
    "n,,\u{1}auth=Bearer \(good)\u{1}a1=1\u{1}\u{1}", "n,,\u{1}auth=Bearer \(good)\u{1}a=é\u{1}\u{1}",
    "n,,\u{1}auth=Bearer \(good)\u{1}a=\u{1}\u{1}", "n,,\u{1}auth=Bearer \(good)\u{1}=a\u{1}\u{1}",
    "n,,\u{1}auth=Bearer \(good)\u{1}" + (0..<33).map { "\(String(repeating: "a", count: $0 + 1))=1\u{1}" }.joined()
      + "\u{1}",
    "n,,\u{1}auth=Bearer \(String(repeating: "a", count: 25_000))\u{1}\u{1}",
  ] { #expect(refusal { _ = try accepted(malformed) } == .malformed, "\(malformed.prefix(40))") }
  #expect(refusal { _ = try accepted("p=x,,\u{1}auth=Bearer \(good)\u{1}\u{1}") } == .unsupportedChannelBinding)
}

@Test("what a client is told of a token says nothing of what was wrong with it")
func publicTexts() {
  let tokens: [AuthenticationError.Code] = [
    .expired, .notYetValid, .untrustedToken, .wrongIssuer, .wrongAudience, .unknownKey, .unsupportedAlgorithm,
    .invalidSignature,
  ]
  #expect(Set(tokens.map { AuthenticationError($0, "secret reason").publicText }).count == 1)
  for code in AuthenticationError.Code.allCases where code != .unacceptableCredential {
    #expect(!AuthenticationError(code, "secret reason").publicText.contains("reason"))
  }
}
