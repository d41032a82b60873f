// UserRoutesTests: users, rules and RabbitMQ's permissions over HTTP: what is made is there, what is kept of passwords is never shown, and
// what rules cannot say is refused.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity
import Testing

@testable import MillraceHTTPServer

extension HTTPWorld {
  fileprivate func ask(_ method: String, _ path: String, _ body: String? = nil) -> Response? {
    connect().ask(method, path, body)
  }

  /// Whether the user logs in with the password.
  fileprivate func knows(_ user: String, _ password: String) throws -> Bool {
    var answer: Bool?
    broker.authentication.check(try PlainCredentials(user: user, password: Secret(password)), from: "h") {
      answer = $0 == nil
    }
    try #require(world.run(until: { answer != nil }))
    return answer == true
  }
}

private func stored(_ password: String) throws -> (json: String, secrets: [String]) {
  func text(_ bytes: [UInt8]) -> String { bytes.withUnsafeBytes { Base64.encode($0) } }
  let one = try ScramCredential(password: Secret(password), mechanism: .sha256, iterations: 4096)
  let keys = [text(one.storedKey.copy), text(one.serverKey.copy)]
  return (
    #"{"mechanism":"SCRAM-SHA-256","iterations":4096,"salt":"\#(text(one.salt))","storedKey":"\#(keys[0])","serverKey":"\#(keys[1])"}"#,
    keys + [text(one.salt)]
  )
}

@Test("a user is made with a password, changed part by part, and deleted")
func userLife() throws {
  let world = try HTTPWorld()
  let made = world.ask("PUT", "/api/v1/users/alice", #"{"password":"wonderland","tags":["monitoring","a"]}"#)
  #expect(made?.status == 200 && made?.json["tags"] as? [String] == ["a", "monitoring"])
  #expect((made?.json["mechanisms"] as? [[String: Any]])?.count == 2)
  #expect(try world.knows("alice", "wonderland"))
  #expect(world.ask("PUT", "/api/v1/users/alice", #"{"tags":[]}"#)?.json["tags"] as? [String] == [])
  #expect(try world.knows("alice", "wonderland"))
  #expect(world.ask("PUT", "/api/v1/users/alice", #"{"password":"mirror"}"#)?.status == 200)
  #expect(try world.knows("alice", "mirror") && !world.knows("alice", "wonderland"))
  #expect(
    (world.ask("PUT", "/api/v1/users/alice", #"{"password":null}"#)?.json["mechanisms"] as? [Any])?.isEmpty == true)
  #expect(try !world.knows("alice", "mirror"))
  #expect(world.ask("GET", "/api/v1/users/alice")?.status == 200)
  #expect(world.ask("DELETE", "/api/v1/users/alice")?.status == 204)
  for (method, body) in [("GET", nil), ("DELETE", nil)] as [(String, String?)] {
    #expect(world.ask(method, "/api/v1/users/alice", body)?.status == 404)
  }
}

@Test("a password that somebody else has hashed lets its user in, and nothing of it is ever shown")
func storedPassword() throws {
  let world = try HTTPWorld()
  let (credential, secrets) = try stored("wonderland")
  let answers = [
    world.ask("PUT", "/api/v1/users/alice", #"{"credentials":[\#(credential)]}"#),
    world.ask("GET", "/api/v1/users"), world.ask("GET", "/api/users"), world.ask("GET", "/api/v1/definitions"),
  ]
  #expect(try world.knows("alice", "wonderland"))
  for answer in answers {
    #expect(answer?.status == 200 && answer?.body.contains("alice") == true)
    for secret in secrets { #expect(answer?.body.contains(secret) == false) }
  }
  for wrong in [
    #"{"credentials":[\#(credential),\#(credential)]}"#, #"{"credentials":[\#(credential)],"password":"x"}"#,
    #"{"credentials":[\#(credential.replacingOccurrences(of: "4096", with: "10000000"))]}"#,
    #"{"credentials":[\#(credential.replacingOccurrences(of: "SHA-256", with: "SHA-512"))]}"#,
    #"{"credentials":[\#(credential.replacingOccurrences(of: #""salt":""#, with: #""salt":"!"#))]}"#,
    #"{"password":""}"#, #"{"password":"a\u0007b"}"#, #"{"passwort":"x"}"#, #"{"tags":["a b"]}"#, #"{"tags":[""]}"#,
  ] {
    #expect(world.ask("PUT", "/api/v1/users/alice", wrong)?.status == 400, "\(wrong)")
  }
  #expect(try world.knows("alice", "wonderland"))
  for name in ["ANONYMOUS", "*", "%20a", "%C3%BC"] {
    #expect(world.ask("PUT", "/api/v1/users/\(name)", "{}")?.status == 400, "\(name)")
  }
}

@Test("rules are added all or none, found, and deleted when the query says which")
func ruleLife() throws {
  let world = try HTTPWorld()
  func rule(_ name: String, _ operation: String = "read", _ more: String = "") -> String {
    #"{"principal":"User:alice","resource":"topic","name":"\#(name)","operation":"\#(operation)"\#(more)}"#
  }
  let added = world.ask(
    "POST", "/api/v1/rules",
    #"{"rules":[\#(rule("a")),\#(rule("b", "write", #","match":"prefix","host":"10.0.0.1","allow":false"#))]}"#)
  #expect(added?.status == 200 && (added?.json["rules"] as? [Any])?.count == 2)
  #expect(
    world.broker.rules() == [
      AccessRule(.init(.topic, "a"), Principal("alice"), .read),
      AccessRule(.init(.topic, "b", isPrefix: true), Principal("alice"), host: "10.0.0.1", .write, isAllowed: false),
    ])
  func found(_ query: String) -> Int? { (world.ask("GET", "/api/v1/rules?\(query)")?.json["rules"] as? [Any])?.count }
  #expect(found("") == 2 && found("name=a") == 1 && found("name=bcd&match=fitting") == 1 && found("match=prefix") == 1)
  #expect(found("allow=false") == 1 && found("principal=User:bob") == 0 && found("operation=write&host=10.0.0.1") == 1)
  for wrong in [
    #"{"rules":[\#(rule("c")),\#(rule("d", "idempotent-write"))]}"#, #"{"rules":[\#(rule("c", "fly"))]}"#,
    #"{"rules":[]}"#,
    #"{"rules":[\#(rule("c", "read", #","host":"home""#))]}"#,
    #"{"rules":[{"principal":"Group:a","resource":"topic","name":"a","operation":"read"}]}"#,
  ] { #expect(world.ask("POST", "/api/v1/rules", wrong)?.status == 400, "\(wrong)") }
  #expect(world.ask("DELETE", "/api/v1/rules")?.status == 400)
  #expect(world.ask("GET", "/api/v1/rules?match=fitting")?.status == 400)
  #expect(world.broker.rules().count == 2)
  #expect((world.ask("DELETE", "/api/v1/rules?principal=User:alice&name=a")?.json["rules"] as? [Any])?.count == 1)
  #expect(world.broker.rules().count == 1)
}

@Test("thousands of rules come whole, piece by piece")
func manyRules() throws {
  let world = try HTTPWorld()
  for count in [999, 1000, 1001, 2500] {
    var isDone = false
    world.broker.changeRules(
      adding: (0..<count).map { AccessRule(.init(.topic, "t\($0)"), Principal("alice"), .read) }
    ) { _ in isDone = true }
    try #require(world.world.run(until: { isDone }))
    #expect((world.ask("GET", "/api/v1/rules")?.json["rules"] as? [Any])?.count == count)
  }
}

@Test("a deleted user's rules stay, unless they are to go, and RabbitMQ's way takes the permissions along")
func deletedRules() throws {
  let world = try HTTPWorld()
  func make() {
    _ = world.ask("PUT", "/api/v1/users/alice", "{}")
    _ = world.ask("PUT", "/api/permissions/%2F/alice", #"{"configure":"","write":"","read":"^q$"}"#)
    _ = world.ask(
      "POST", "/api/v1/rules",
      #"{"rules":[{"principal":"User:alice","resource":"topic","name":"t","operation":"read"}]}"#)
  }
  make()
  #expect(world.broker.rules().count == 4)
  #expect(world.ask("DELETE", "/api/v1/users/alice")?.status == 204 && world.broker.rules().count == 4)
  make()
  #expect(world.ask("DELETE", "/api/v1/users/alice?rules=true")?.status == 204 && world.broker.rules().isEmpty)
  make()
  #expect(world.ask("DELETE", "/api/users/alice")?.status == 204)
  #expect(world.broker.rules() == [AccessRule(.init(.topic, "t"), Principal("alice"), .read)])
}

@Test("a permission becomes rules, and comes back as it was; setting it anew leaves nothing of the old one")
func permissionLife() throws {
  let world = try HTTPWorld()
  func set(_ configure: String, _ write: String, _ read: String) -> Int? {
    let quoted = [configure, write, read].map { $0.replacingOccurrences(of: "\\", with: "\\\\") }
    return world.ask(
      "PUT", "/api/permissions/%2F/alice",
      #"{"configure":"\#(quoted[0])","write":"\#(quoted[1])","read":"\#(quoted[2])"}"#)?.status
  }
  func shown() -> [String] {
    let json = world.ask("GET", "/api/permissions/%2F/alice")?.json ?? [:]
    return ["configure", "write", "read"].map { json[$0] as? String ?? "?" }
  }
  for texts in [
    [".*", ".*", ".*"], ["^$", "^$", "^$"], ["^a$|^b.*", #"^amq\.default$"#, "^c.*"], ["^$", ".*", "^x$"],
  ] {
    #expect(set(texts[0], texts[1], texts[2]) == 201)
    #expect(shown() == texts)
  }
  #expect(world.broker.rules().count == 1 + 2 + 2)
  let session = ClientSession(world.broker.access, Principal("alice"), from: "10.0.0.1")
  world.broker.access.isExposed = true
  #expect(session.sees(.write, .queue, "%2F/any") && session.sees(.read, .exchange, "%2F/x"))
  #expect(!session.sees(.read, .queue, "%2F/y") && !session.sees(.create, .queue, "%2F/x"))
  #expect(!session.sees(.write, .queue, "other/any") && session.sees(.describe, .virtualHost, "/"))
  world.broker.access.isExposed = false
  let before = world.broker.rules()
  for wrong in ["q", "^[ab]$", "^a+", "a$", ".*x"] { #expect(set(wrong, "", "") == 400, "\(wrong)") }
  let refusal = world.ask("PUT", "/api/permissions/%2F/alice", #"{"configure":"^a.c$","write":"","read":""}"#)
  #expect((refusal?.json["reason"] as? String)?.contains("configure: a . for any one character") == true)
  #expect(world.ask("PUT", "/api/permissions/none/alice", #"{"configure":"","write":"","read":""}"#)?.status == 404)
  #expect(world.broker.rules() == before)
  #expect(world.ask("GET", "/api/permissions")?.body.contains(#""vhost":"/""#) == true)
  #expect(world.ask("GET", "/api/vhosts/%2F/permissions")?.body.contains("alice") == true)
  #expect(world.ask("DELETE", "/api/permissions/%2F/alice")?.status == 204 && world.broker.rules().isEmpty)
  #expect(world.ask("DELETE", "/api/permissions/%2F/alice")?.status == 404)
}

@Test("RabbitMQ's users have tags in words or arrays; a hash of its own is refused, and no password is no password")
func managementUsers() throws {
  let world = try HTTPWorld()
  #expect(world.ask("PUT", "/api/users/alice", #"{"password":"w","tags":"administrator, monitoring"}"#)?.status == 201)
  #expect(world.broker.user("alice")?.tags == ["administrator", "monitoring"])
  #expect(try world.knows("alice", "w"))
  #expect(world.ask("GET", "/api/users/alice")?.json["tags"] as? [String] == ["administrator", "monitoring"])
  #expect(world.ask("PUT", "/api/users/alice", #"{"password_hash":"","tags":["x"]}"#)?.status == 201)
  #expect(world.broker.user("alice")?.tags == ["x"])
  #expect(try !world.knows("alice", "w"))
  let refused = world.ask(
    "PUT", "/api/users/bob", #"{"password_hash":"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR","tags":""}"#)
  #expect(refused?.status == 400 && refused?.body.contains("password_hash") == true && world.broker.user("bob") == nil)
  #expect(world.ask("PUT", "/api/users/bob", #"{"password":"x","tags":7}"#)?.status == 400)
  #expect(world.ask("GET", "/api/topic-permissions")?.body == "[]")
  let me = world.ask("GET", "/api/whoami")
  #expect(me?.json["name"] as? String == "ANONYMOUS" && me?.json["tags"] as? [String] == ["administrator"])
}

@Test("definitions carry users, permissions and rules from one server to another, and no passwords")
func definitionsOfUsers() throws {
  let world = try HTTPWorld()
  _ = world.ask("PUT", "/api/v1/users/alice", #"{"password":"wonderland","tags":["monitoring"]}"#)
  _ = world.ask("PUT", "/api/permissions/%2F/alice", #"{"configure":"^a.*","write":".*","read":"^$"}"#)
  _ = world.ask(
    "POST", "/api/v1/rules",
    #"{"rules":[{"principal":"User:alice","resource":"topic","name":"t","operation":"read","allow":false}]}"#)
  let document = try #require(world.ask("GET", "/api/v1/definitions")?.body)
  let other = try HTTPWorld()
  let taken = other.ask("POST", "/api/v1/definitions", document)
  #expect(taken?.status == 200, "\(taken?.body ?? "")")
  #expect(other.broker.rules() == world.broker.rules() && !other.broker.rules().isEmpty)
  #expect(other.broker.user("alice")?.tags == ["monitoring"] && other.broker.user("alice")?.credentials.isEmpty == true)
  // Taken once more where she has a password, that stays.
  #expect(world.ask("POST", "/api/v1/definitions", document)?.status == 200)
  #expect(try world.knows("alice", "wonderland"))
}

@Test("a document of RabbitMQ's makes its users; those whose hashes cannot be used are named")
func importsRabbitUsers() throws {
  let world = try HTTPWorld()
  let taken = world.ask(
    "POST", "/api/v1/definitions",
    #"{"users":[{"name":"ann","password_hash":"kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR","hashing_algorithm":"rabbit_password_hashing_sha256","tags":["administrator"],"limits":{}},{"name":"ben","password":"secret","tags":""}],"vhosts":[{"name":"v"}],"permissions":[{"user":"ann","vhost":"v","configure":".*","write":".*","read":".*"}]}"#
  )
  #expect(taken?.status == 200, "\(taken?.body ?? "")")
  #expect(taken?.json["withoutPassword"] as? [String] == ["ann"])
  #expect(world.broker.user("ann")?.tags == ["administrator"])
  #expect(try world.knows("ben", "secret"))
  #expect(world.ask("GET", "/api/permissions/v/ann")?.json["read"] as? String == ".*")
  let wrong = world.ask(
    "POST", "/api/v1/definitions",
    #"{"permissions":[{"user":"ann","vhost":"v","configure":"x","write":"","read":""}]}"#)
  #expect(wrong?.status == 400 && wrong?.json["at"] as? String == "/permissions/0")
}

@Test("metrics tell of logins by protocol, mechanism and result, and of handshakes by listener")
func securityMetrics() throws {
  let world = try HTTPWorld()
  world.broker.authentication.ended(
    .scramSHA512, "kafka", as: Principal("a"), from: .init(host: "10.0.0.1", port: 1), nil)
  for _ in 0..<3 {
    world.broker.authentication.ended(
      .plain, "amqp", from: .init(host: "10.0.0.1", port: 1), AuthenticationError(.invalidCredentials, "x"))
  }
  world.server.handshakes = { [(listener: "https://127.0.0.1:1", accepted: 7, failed: 2)] }
  let text = world.ask("GET", "/metrics")?.body ?? ""
  for line in [
    #"millrace_authentications_total{protocol="kafka",mechanism="SCRAM-SHA-512",result="accepted"} 1"#,
    #"millrace_authentications_total{protocol="amqp",mechanism="PLAIN",result="refused"} 3"#,
    "millrace_passwords_turned_away_total 0", "millrace_audit_lost_records_total 0",
    #"millrace_tls_handshakes_total{listener="https://127.0.0.1:1",result="accepted"} 7"#,
    #"millrace_tls_handshakes_total{listener="https://127.0.0.1:1",result="failed"} 2"#,
  ] { #expect(text.contains("\n\(line)\n"), "\(line)") }
}

@Test("who waits for records, or has a stream of them, gets none once the right is gone")
func lostRight() throws {
  let world = try HTTPWorld()
  try world.topic("t")
  let path = "/api/v1/topics/t/partitions/0"
  let (waiting, streaming) = (world.connect(), world.connect())
  waiting.send("GET \(path)/records?offset=0&wait=60000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
  streaming.send("GET \(path)/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
  #expect(streaming.output().hasPrefix("HTTP/1.1 200"))
  var isDone = false
  world.broker.changeRules(adding: [
    AccessRule(.init(.topic, "t"), .anonymous, .read, isAllowed: false),
    AccessRule(.init(.topic, "t"), .anonymous, .write),
  ]) { _ in isDone = true }
  try #require(world.world.run(until: { isDone }))
  let sent = world.ask("POST", "/api/v1/topics/t/records", #"{"records":[{"value":"secret"}]}"#)
  #expect(sent?.status == 201)
  #expect(waiting.response()?.status == 403)
  let rest = streaming.output(after: .seconds(1))
  #expect(!rest.contains("secret") && rest.hasSuffix("0\r\n\r\n"), "\(rest)")
}

@Test("bindings that are made and taken away over HTTP, by whichever route, are told to the audit with who did it")
func bindingsAreTold() throws {
  let world = try HTTPWorld()
  #expect(world.ask("PUT", "/api/v1/users/root", #"{"password":"secret","tags":["administrator"]}"#)?.status == 200)
  world.authenticator = BrokerAuthenticator(broker: world.broker, security: ListenerSecurity(mechanisms: [.plain]))
  let field = "Authorization: Basic \(Data("root:secret".utf8).base64EncodedString())\r\n"
  func ask(_ method: String, _ path: String, _ body: String? = nil) -> Response? {
    world.connect().ask(method, path, body, fields: field)
  }
  #expect(ask("PUT", "/api/v1/queues/q")?.status == 201)
  let v1 = "/api/v1/exchanges/amq.direct/bindings"
  #expect(ask("POST", v1, #"{"destination":"q","kind":"queue","key":"k"}"#)?.status == 201)
  #expect(ask("POST", v1, #"{"destination":"q","kind":"queue","key":"k"}"#)?.status == 201)
  #expect(ask("POST", "\(v1)/remove", #"{"destination":"q","kind":"queue","key":"k"}"#)?.status == 204)
  let management = "/api/bindings/%2F/e/amq.topic/q/q"
  #expect(ask("POST", management, #"{"routing_key":"m"}"#)?.status == 201)
  #expect(ask("DELETE", "\(management)/m")?.status == 204)
  let definitions = #"{"bindings":[{"source":"amq.fanout","vhost":"/","destination":"q","destination_type":"queue"}]}"#
  #expect(ask("POST", "/api/v1/definitions", definitions).map { $0.status < 300 } == true)
  world.world.run(for: .seconds(3))
  let audit = try #require(ask("GET", "/api/v1/topics/__audit/partitions/0/records?limit=1000"))
  let told = ((audit.json["records"] as? [[String: Any]]) ?? []).compactMap { record -> String? in
    guard
      let value = record["value"] as? String,
      let one = (try? JSONSerialization.jsonObject(with: Data(value.utf8))) as? [String: Any],
      let operation = one["operation"] as? String, operation.hasSuffix("bind")
    else { return nil }
    let names = ["principal", "host", "name", "destination", "kind", "key"].map { one[$0] as? String ?? "?" }
    return ([operation] + names).joined(separator: " ") + " \(one["allowed"] ?? "?") \(one["count"] ?? "?")"
  }
  #expect(
    told == [
      "bind User:root 127.0.0.1 %2F/amq.direct q queue k 1 1",
      "unbind User:root 127.0.0.1 %2F/amq.direct q queue k 1 1",
      "bind User:root 127.0.0.1 %2F/amq.topic q queue m 1 1",
      "unbind User:root 127.0.0.1 %2F/amq.topic q queue m 1 1",
      "bind User:root 127.0.0.1 %2F/amq.fanout q queue  1 1",
    ], "\(audit)")
}
