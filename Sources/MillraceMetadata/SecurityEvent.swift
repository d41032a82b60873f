// SecurityEvent: the events that change users and the rules of access, and their bytes in the journal.
//
// As MetadataEvent: kind uint8, version uint8 (1), then the fields, big endian; strings are uint32 length and UTF-8.
//
//   70 user set            name, tags: count uint32, each a string
//   71 user removed        name
//   72 credential set      user, credential as MillraceSecurity's ScramCredential writes it
//   73 credential removed  user, mechanism uint8 as in Kafka's SCRAM calls
//   74 rules changed       added: count uint32, rules; removed: the same
//   75 server key set      length uint32 and its bytes
//
// A rule is: kind of resource uint8, name string, prefix uint8, principal's name string, host string, operation uint8,
// allowed uint8.

import MillraceBase
import MillraceSecurity

/// One change of who there is, and of what they may do.
public enum SecurityEvent: Equatable, Sendable {
  /// The user is there, with these tags; credentials stay.
  case userSet(name: String, tags: [String])
  /// The user, their credentials and tags are gone. Rules about them stay.
  case userRemoved(name: String)
  /// What proves that somebody is the user; the user is made when there is none.
  case credentialSet(user: String, ScramCredential)
  /// A credential is gone; with the last one of a user without tags, the user.
  case credentialRemoved(user: String, ScramMechanism)
  /// Rules are added, and others removed.
  case rulesChanged(added: [AccessRule], removed: [AccessRule])
  /// What the server answers to strangers is derived of this.
  case serverKeySet(Secret)

  static let kinds: ClosedRange<UInt8> = 70...75

  func write(to writer: inout ByteWriter) {
    func begin(_ kind: UInt8) {
      writer.uint8(kind)
      writer.uint8(1)
    }
    switch self {
    case .userSet(let name, let tags):
      begin(70)
      writer.text(name)
      writer.uint32(UInt32(tags.count))
      for tag in tags { writer.text(tag) }
    case .userRemoved(let name):
      begin(71)
      writer.text(name)
    case .credentialSet(let user, let credential):
      begin(72)
      writer.text(user)
      credential.write(into: &writer)
    case .credentialRemoved(let user, let mechanism):
      begin(73)
      writer.text(user)
      writer.uint8(mechanism.rawValue)
    case .rulesChanged(let added, let removed):
      begin(74)
      for rules in [added, removed] {
        writer.uint32(UInt32(rules.count))
        for rule in rules { writer.rule(rule) }
      }
    case .serverKeySet(let key):
      begin(75)
      writer.secret(key)
    }
  }

  /// Reads what follows kind and version.
  init(_ kind: UInt8, _ reader: inout ByteReader) throws(DecodingError) {
    switch kind {
    case 70:
      let name = try reader.text()
      var tags: [String] = []
      for _ in 0..<(try reader.uint32()) { tags.append(try reader.text()) }
      self = .userSet(name: name, tags: tags)
    case 71: self = .userRemoved(name: try reader.text())
    case 72: self = .credentialSet(user: try reader.text(), try ScramCredential(reading: &reader))
    case 73: self = .credentialRemoved(user: try reader.text(), try reader.mechanism())
    case 74:
      var added: [AccessRule] = []
      for _ in 0..<(try reader.uint32()) { added.append(try reader.rule()) }
      var removed: [AccessRule] = []
      for _ in 0..<(try reader.uint32()) { removed.append(try reader.rule()) }
      self = .rulesChanged(added: added, removed: removed)
    case 75:
      guard let key = try reader.secret() else {
        throw DecodingError("a server key without bytes", at: reader.position)
      }
      self = .serverKeySet(key)
    default: throw DecodingError("kind \(kind) is no event of security", at: 0)
    }
  }
}

extension ByteWriter {
  mutating func secret(_ secret: Secret?) {
    uint32(UInt32(secret?.count ?? 0))
    for byte in secret?.copy ?? [] { uint8(byte) }
  }

  mutating func rule(_ rule: AccessRule) {
    uint8(rule.pattern.kind.rawValue)
    text(rule.pattern.name)
    bool(rule.pattern.isPrefix)
    text(rule.principal.name)
    text(rule.host)
    uint8(rule.operation.rawValue)
    bool(rule.isAllowed)
  }
}

extension ByteReader {
  /// Nil without bytes.
  mutating func secret() throws(DecodingError) -> Secret? {
    let bytes = try slice(Int(try uint32()))
    return bytes.count == 0 ? nil : bytes.withBuffer { Secret($0) }
  }

  mutating func mechanism() throws(DecodingError) -> ScramMechanism {
    let at = position
    let number = try uint8()
    guard let mechanism = ScramMechanism(rawValue: number) else {
      throw DecodingError("mechanism \(number), which this program does not know", at: at)
    }
    return mechanism
  }

  mutating func rule() throws(DecodingError) -> AccessRule {
    let at = position
    let number = try uint8()
    guard let kind = ResourceKind(rawValue: number) else {
      throw DecodingError("a rule about resources of kind \(number), which this program does not know", at: at)
    }
    let pattern = ResourcePattern(kind, try text(), isPrefix: try bool())
    let principal = Principal(try text())
    let host = try text()
    let place = position
    let code = try uint8()
    guard let operation = AccessOperation(rawValue: code) else {
      throw DecodingError("a rule about operation \(code), which this program does not know", at: place)
    }
    return AccessRule(pattern, principal, host: host, operation, isAllowed: try bool())
  }
}
