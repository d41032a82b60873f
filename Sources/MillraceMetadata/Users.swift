// Users: who there is, what proves it, and what they may do: the part of the state machine that events of security change.

import MillraceBase
import MillraceSecurity

/// How a user is known by a password. Raw values are those of Kafka's SCRAM calls.
public enum UserMechanism: UInt8, CaseIterable, Comparable, Sendable {
  case scramSHA256 = 1
  case scramSHA512 = 2

  /// By number.
  public static func < (left: UserMechanism, right: UserMechanism) -> Bool { left.rawValue < right.rawValue }
}

/// A user.
public struct User: Equatable, Sendable {
  /// What proves that somebody is the user, encoded, by mechanism. None for those who show a certificate or a token.
  public internal(set) var credentials: [UserMechanism: Bytes] = [:]
  /// Words as in RabbitMQ; `administrator` is allowed everything. In order.
  public internal(set) var tags: [String] = []

  /// The tag of those who are allowed everything.
  public static let administratorTag = "administrator"
  /// Whether the user is allowed everything.
  public var isAdministrator: Bool { tags.contains(User.administratorTag) }
}

/// Users by name, and rules.
public struct Users: Equatable, Sendable {
  /// All users.
  public private(set) var byName: [String: User] = [:]
  /// All rules.
  public private(set) var rules = AccessRules()

  /// Nobody, and no rules.
  public init() {}

  var isEmpty: Bool { byName.isEmpty && rules.isEmpty }

  mutating func apply(_ event: SecurityEvent) {
    switch event {
    case .userSet(let name, let tags): byName[name, default: User()].tags = tags
    case .userRemoved(let name): byName[name] = nil
    case .credentialSet(let user, let mechanism, let credential):
      // Of its own, so that a few bytes do not keep a commit or a snapshot in memory.
      byName[user, default: User()].credentials[mechanism] = credential.withBuffer { Bytes(copying: $0) }
    case .credentialRemoved(let user, let mechanism):
      byName[user]?.credentials[mechanism] = nil
      if let left = byName[user], left.credentials.isEmpty, left.tags.isEmpty { byName[user] = nil }
    case .rulesChanged(let added, let removed):
      for rule in removed { rules.remove(rule) }
      for rule in added { rules.insert(rule) }
    }
  }

  /// Users: count uint32, each name, tags and credentials as in events; then rules: count uint32, each as in events.
  func snapshot() -> Bytes? {
    if isEmpty { return nil }
    var writer = ByteWriter(capacity: 1024)
    writer.uint32(UInt32(byName.count))
    for (name, user) in byName.sorted(by: { $0.key < $1.key }) {
      writer.text(name)
      writer.uint32(UInt32(user.tags.count))
      for tag in user.tags { writer.text(tag) }
      writer.uint32(UInt32(user.credentials.count))
      for (mechanism, credential) in user.credentials.sorted(by: { $0.key < $1.key }) {
        writer.uint8(mechanism.rawValue)
        writer.uint32(UInt32(credential.count))
        writer.append(credential)
      }
    }
    writer.uint32(UInt32(rules.count))
    for rule in rules.sorted { writer.rule(rule) }
    return writer.finishJoined()
  }

  init(_ reader: inout ByteReader) throws(DecodingError) {
    for _ in 0..<(try reader.uint32()) {
      let name = try reader.text()
      var tags: [String] = []
      for _ in 0..<(try reader.uint32()) { tags.append(try reader.text()) }
      for _ in 0..<(try reader.uint32()) {
        let mechanism = try reader.mechanism()
        apply(.credentialSet(user: name, mechanism, credential: try reader.slice(Int(try reader.uint32()))))
      }
      byName[name, default: User()].tags = tags
    }
    for _ in 0..<(try reader.uint32()) { rules.insert(try reader.rule()) }
  }
}
