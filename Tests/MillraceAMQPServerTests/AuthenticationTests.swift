// AuthenticationTests: what clients say of who they are.

import MillraceAMQPProtocol
import MillraceBase
import Testing

@testable import MillraceAMQPServer

private func plain(_ response: String) -> AMQPCredentials? {
  AuthenticationMechanism.plain.credentials(Bytes(response))
}

@Test("PLAIN is three texts with NULs between; whom to act as does not matter")
func plainResponses() {
  #expect(plain("\0guest\0secret") == AMQPCredentials(user: "guest", password: "secret"))
  #expect(plain("other\0guest\0secret") == AMQPCredentials(user: "guest", password: "secret"))
  #expect(plain("\0\0") == AMQPCredentials(user: "", password: ""))
  for wrong in ["", "guest", "guest\0secret", "\0a\0b\0c"] { #expect(plain(wrong) == nil, "\(wrong)") }
  #expect(AuthenticationMechanism.plain.credentials(Bytes([0, 0xFF, 0, 0x61])) == nil)
}

@Test("AMQPLAIN is a table without its length")
func tableResponses() {
  let table: AMQPFieldTable = ["LOGIN": "guest", "PASSWORD": "secret"]
  #expect(
    AuthenticationMechanism.amqplain.credentials(table.encoded)
      == AMQPCredentials(user: "guest", password: "secret"))
  for wrong: AMQPFieldTable in [["LOGIN": "guest"], ["LOGIN": 1, "PASSWORD": "secret"], [:]] {
    #expect(AuthenticationMechanism.amqplain.credentials(wrong.encoded) == nil)
  }
  #expect(AuthenticationMechanism.amqplain.credentials(Bytes("\u{5}LOGIN")) == nil)
}

@Test("addresses of this machine")
func loopback() {
  for host in ["127.0.0.1", "127.1.2.3", "::1", "::ffff:127.0.0.1"] { #expect(AMQPServer.isLoopback(host), "\(host)") }
  for host in ["10.0.0.1", "128.0.0.1", "::2", "1127.0.0.1", ""] { #expect(!AMQPServer.isLoopback(host), "\(host)") }
}
