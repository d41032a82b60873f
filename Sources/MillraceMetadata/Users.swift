// Users: who there is, what proves it, and what they may do: the part of the state machine that events of security change.

import MillraceBase
import MillraceSecurity

/// A user.
public struct User: Equatable, Sendable {
  /// What proves that somebody is the user. None for those who show a certificate or a token.
  public internal(set) var credentials: [ScramMechanism: ScramCredential] = [:]
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
  /// Random bytes that no client sees, the same after a restart; nil until somebody needed them.
  public private(set) var serverKey: Secret?

  /// Nobody, and no rules.
  public init() {}

  var isEmpty: Bool { byName.isEmpty && rules.isEmpty && serverKey == nil }

  mutating func apply(_ event: SecurityEvent) {
    switch event {
    case .userSet(let name, let tags): byName[name, default: User()].tags = tags
    case .userRemoved(let name): byName[name] = nil
    case .credentialSet(let user, let credential):
      byName[user, default: User()].credentials[credential.mechanism] = credential
    case .credentialRemoved(let user, let mechanism):
      byName[user]?.credentials[mechanism] = nil
      if let left = byName[user], left.credentials.isEmpty, left.tags.isEmpty { byName[user] = nil }
    case .rulesChanged(let added, let removed):
      for rule in removed { rules.remove(rule) }
      for rule in added { rules.insert(rule) }
    case .serverKeySet(let key): serverKey = key
    }
  }

  /// Users: count uint32, each name, tags and credentials as in events; rules: count uint32, each as in events; server key:
  /// length uint32, 0 for none, and its bytes.
  func snapshot() -> Bytes? {
    if isEmpty { return nil }
    var writer = ByteWriter(capacity: 1024)
    writer.uint32(UInt32(byName.count))
    for (name, user) in byName.sorted(by: { $0.key < $1.key }) {
      writer.text(name)
      writer.uint32(UInt32(user.tags.count))
      for tag in user.tags { writer.text(tag) }
      writer.uint32(UInt32(user.credentials.count))
      for (_, credential) in user.credentials.sorted(by: { $0.key.rawValue < $1.key.rawValue }) {
        credential.write(into: &writer)
      }
    }
    writer.uint32(UInt32(rules.count))
    for rule in rules.sorted { writer.rule(rule) }
    writer.secret(serverKey)
    return writer.finishJoined()
  }

  init(_ reader: inout ByteReader) throws(DecodingError) {
    for _ in 0..<(try reader.uint32()) {
      let name = try reader.text()
      var user = User()
      for _ in 0..<(try reader.uint32()) { user.tags.append(try reader.text()) }
      for _ in 0..<(try reader.uint32()) {
        let credential = try ScramCredential(reading: &reader)
        user.credentials[credential.mechanism] = credential
      }
      byName[name] = user
    }
    for _ in 0..<(try reader.uint32()) { rules.insert(try reader.rule()) }
    serverKey = try reader.secret()
  }
}
