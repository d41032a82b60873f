// AuthenticationTests: what clients say of who they are.

import MillraceAMQPProtocol
import MillraceBase
import MillraceSecurity
import Testing

@testable import MillraceAMQPServer

private func plain(_ response: String) -> AMQPCredentials? {
  AuthenticationMechanism.plain.credentials(Bytes(response))
}

@Test("PLAIN is three texts with NULs between; whom to act as does not matter")
func plainResponses() {
  #expect(plain("\0guest\0secret") == AMQPCredentials(user: "guest", password: Secret("secret")))
  #expect(plain("other\0guest\0secret") == AMQPCredentials(user: "guest", password: Secret("secret")))
  #expect(plain("\0\0") == AMQPCredentials(user: "", password: Secret("")))
  for wrong in ["", "guest", "guest\0secret", "\0a\0b\0c"] { #expect(plain(wrong) == nil, "\(wrong)") }
  #expect(AuthenticationMechanism.plain.credentials(Bytes([0, 0xFF, 0, 0x61])) == nil)
}

@Test("AMQPLAIN is a table without its length")
func tableResponses() {
  let table: AMQPFieldTable = ["LOGIN": "guest", "PASSWORD": "secret"]
  #expect(
    AuthenticationMechanism.amqplain.credentials(table.encoded)
      == AMQPCredentials(user: "guest", password: Secret("secret")))
  for wrong: AMQPFieldTable in [["LOGIN": "guest"], ["LOGIN": 1, "PASSWORD": "secret"], [:]] {
    #expect(AuthenticationMechanism.amqplain.credentials(wrong.encoded) == nil)
  }
  #expect(AuthenticationMechanism.amqplain.credentials(Bytes("\u{5}LOGIN")) == nil)
}
