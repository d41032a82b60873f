// UserJSON: users and rules as JSON, and what a body says of them.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceSecurity

enum UserJSON {
  /// A password that somebody else has salted and hashed.
  private static let credential = HTTPSchema.object([
    .required("mechanism", .words(ScramMechanism.allCases.map(\.name))),
    .required(
      "iterations",
      .integer(
        Int64(ScramCredential.allowedIterations.lowerBound)...Int64(ScramCredential.allowedIterations.upperBound))),
    .required("salt", .text(1...400), "Base 64, of 8 to 255 bytes."),
    .required("storedKey", .text(1...100), "Base 64, of 32 bytes (SHA-256) or 64 (SHA-512): RFC 5802's StoredKey."),
    .required("serverKey", .text(1...100), "The same of its ServerKey."),
  ])

  static let tags = HTTPSchema.list(.text(1...255), 0...32)

  /// What is set of a user.
  static let members: [HTTPMember] = [
    .optional(
      "password", .nullable(.text(1...ScramCredential.longestPassword)),
      "A new password; null for none, so that only a certificate or a token lets the user in."),
    .optional("credentials", .list(credential, 1...2), "In place of a password: what is kept of one."),
    .optional("tags", tags, "`administrator` is allowed everything; other words are kept, and give nothing."),
  ]

  static let user = HTTPSchema.object([
    .required("name", .string), .required("tags", .array(.string)),
    .required(
      "mechanisms", .array(.object([.required("name", .string), .required("iterations", .count)])),
      "What a password is kept for; empty without one."),
  ])

  static func write(_ name: String, _ user: User, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(name)
      json.name("tags")
      json.array { json in for tag in user.tags { json.string(tag) } }
      json.name("mechanisms")
      json.array { json in
        for (mechanism, credential) in user.credentials.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
          json.object { json in
            json.name("name")
            json.string(mechanism.name)
            json.name("iterations")
            json.number(credential.iterations)
          }
        }
      }
    }
  }

  /// What is kept of passwords, as a body says it.
  static func credentials(_ value: JSONValue?, at place: String) throws(HTTPProblem) -> [ScramCredential]? {
    guard let list = value?["credentials"]?.array else { return nil }
    var found: [ScramCredential] = []
    for (index, one) in list.enumerated() {
      func bytes(_ name: String) throws(HTTPProblem) -> [UInt8] {
        guard let bytes = Base64.decode(one[name]?.string ?? "") else {
          throw HTTPProblem(
            .badRequest, "invalid-value", "base 64 is expected", at: "\(place)/credentials/\(index)/\(name)")
        }
        return bytes.array
      }
      let mechanism = ScramMechanism.allCases.first { $0.name == one["mechanism"]?.string } ?? .sha256
      guard !found.contains(where: { $0.mechanism == mechanism }) else {
        throw HTTPProblem(
          .badRequest, "invalid-value", "two credentials for \(mechanism.name)", at: "\(place)/credentials/\(index)")
      }
      let (salt, storedKey, serverKey) = (try bytes("salt"), try bytes("storedKey"), try bytes("serverKey"))
      do throws(AuthenticationError) {
        found.append(
          try ScramCredential(
            stored: mechanism, salt: salt, storedKey: Secret(storedKey), serverKey: Secret(serverKey),
            iterations: Int(one["iterations"]?.integer ?? 0)))
      } catch {
        throw HTTPProblem(.badRequest, "invalid-value", error.reason, at: "\(place)/credentials/\(index)")
      }
    }
    return found
  }

  // MARK: Rules

  static let rule = HTTPSchema.object([
    .required("principal", .text(6...1029), "`User:NAME`, or `User:*` for everybody."),
    .required("resource", .words(ResourceKind.allCases.map(\.word))),
    .required("name", .text(1...1024), "The resource's; `*` for all, if literal."),
    .optional(
      "match", .words(["literal", "prefix"]),
      "Whether the name is meant, or all that begin with it (default `literal`)."),
    .required("operation", .words(AccessOperation.allCases.map(\.word))),
    .optional("host", .text(1...64), "The address that it is asked from; default `*`, any."),
    .optional("allow", .boolean, "Whether that is allowed (default), or denied, which wins."),
  ])

  static func write(_ rule: AccessRule, to json: inout JSONWriter) {
    json.object { json in
      for (name, text) in [
        ("principal", rule.principal.description), ("resource", rule.pattern.kind.word), ("name", rule.pattern.name),
        ("match", rule.pattern.isPrefix ? "prefix" : "literal"), ("operation", rule.operation.word),
        ("host", rule.host),
      ] {
        json.name(name)
        json.string(text)
      }
      json.name("allow")
      json.bool(rule.isAllowed)
    }
  }

  /// A rule that a body holds, of the shape above.
  static func rule(_ value: JSONValue, at place: String, _ broker: Broker) throws(HTTPProblem) -> AccessRule {
    guard let principal = Principal(notation: value["principal"]?.string ?? "") else {
      throw HTTPProblem(.badRequest, "invalid-value", "User:NAME is expected", at: "\(place)/principal")
    }
    let kind = ResourceKind(word: value["resource"]?.string ?? "") ?? .topic
    let operation = AccessOperation(word: value["operation"]?.string ?? "") ?? .all
    let isAllowed = if case .bool(let flag)? = value["allow"] { flag } else { true }
    let rule = AccessRule(
      ResourcePattern(kind, value["name"]?.string ?? "", isPrefix: value["match"]?.string == "prefix"), principal,
      host: value["host"]?.string ?? "*", operation, isAllowed: isAllowed)
    do throws(BrokerError) {
      try broker.checkRule(rule)
    } catch {
      throw HTTPProblem(.badRequest, "invalid-value", error.reason, at: place)
    }
    return rule
  }
}

extension HTTPCall {
  /// Streams an object with one list, so many entries a turn.
  func streamList<Entry>(
    _ name: String?, _ entries: [Entry], _ write: @escaping (Entry, inout JSONWriter) -> Void
  ) {
    var next = 0
    var isDone = false
    stream("application/json") {
      if isDone { return nil }
      var json = JSONWriter()
      let end = min(entries.count, next + 1000)
      json.array { json in for entry in entries[next..<end] { write(entry, &json) } }
      // Between pieces the brackets of a piece give way to a comma.
      var bytes = Array(json.bytes.dropFirst().dropLast())
      let opening = next == 0 ? (name.map { "{\"\($0)\":[" } ?? "[") : bytes.isEmpty ? "" : ","
      next = end
      isDone = next == entries.count
      if isDone { bytes += Array((name == nil ? "]" : "]}").utf8) }
      return Bytes(Array(opening.utf8) + bytes)
    }
  }
}
