// QuotaEntity and ConfigResource: whom quotas bind, and what besides topics has settings of its own.

import MillraceBase

/// Whom a quota binds: every part that is not `.any` must fit. Source: KIP-546.
public struct QuotaEntity: Hashable, Sendable, CustomStringConvertible {
  /// One part of an entity.
  public enum Part: Hashable, Sendable {
    /// The part is not looked at.
    case any
    /// Everybody for whom no name fits better.
    case standard
    /// This one only.
    case named(String)
  }

  /// The user; everybody is `ANONYMOUS` where nobody has to say who they are.
  public var user: Part
  /// What a client calls itself.
  public var clientID: Part
  /// The address that a client connects from.
  public var address: Part

  /// An entity with its parts.
  public init(user: Part = .any, clientID: Part = .any, address: Part = .any) {
    self.user = user
    self.clientID = clientID
    self.address = address
  }

  /// Its parts in words.
  public var description: String {
    let parts = [("user", user), ("client-id", clientID), ("ip", address)].compactMap { name, part in
      switch part {
      case .any: nil as String?
      case .standard: "\(name) <default>"
      case .named(let value): "\(name) \(value)"
      }
    }
    return parts.joined(separator: ", ")
  }

  /// An order for snapshots and answers.
  var sortKey: (String, String, String) { (user.sortKey, clientID.sortKey, address.sortKey) }
}

extension QuotaEntity.Part {
  fileprivate var sortKey: String {
    switch self {
    case .any: "0"
    case .standard: "1"
    case .named(let name): "2" + name
    }
  }
}

extension QuotaEntity: Comparable {
  /// An order that is the same in every run.
  public static func < (left: QuotaEntity, right: QuotaEntity) -> Bool { left.sortKey < right.sortKey }
}

/// What besides topics has settings that are changed while the program runs and kept durably.
public struct ConfigResource: Hashable, Comparable, Sendable {
  /// The kinds. Raw values are those of Kafka's `ConfigResource.Type`.
  public enum Kind: UInt8, Sendable, CaseIterable {
    /// The one node; without a name, all nodes.
    case broker = 4
    /// A subscription to clients' metrics.
    case clientMetrics = 16
    /// A consumer group.
    case group = 32
  }

  /// What it is.
  public var kind: Kind
  /// Its name.
  public var name: String

  /// A resource.
  public init(_ kind: Kind, _ name: String) {
    self.kind = kind
    self.name = name
  }

  /// An order that is the same in every run.
  public static func < (left: ConfigResource, right: ConfigResource) -> Bool {
    (left.kind.rawValue, left.name) < (right.kind.rawValue, right.name)
  }
}

extension ByteWriter {
  private mutating func part(_ part: QuotaEntity.Part) {
    switch part {
    case .any: uint8(0)
    case .standard: uint8(1)
    case .named(let name):
      uint8(2)
      text(name)
    }
  }

  mutating func entity(_ entity: QuotaEntity) {
    part(entity.user)
    part(entity.clientID)
    part(entity.address)
  }

  mutating func resource(_ resource: ConfigResource) {
    uint8(resource.kind.rawValue)
    text(resource.name)
  }

  /// Names with their new values; nil takes the name out.
  mutating func changes(_ changes: [String: String?]) {
    uint32(UInt32(changes.count))
    for (name, value) in changes.sorted(by: { $0.key < $1.key }) {
      text(name)
      optionalText(value)
    }
  }
}

extension ByteReader {
  private mutating func part() throws(DecodingError) -> QuotaEntity.Part {
    let kind = try uint8()
    switch kind {
    case 0: return .any
    case 1: return .standard
    case 2: return .named(try text())
    default: throw DecodingError("part of kind \(kind) of a quota's entity", at: position)
    }
  }

  mutating func entity() throws(DecodingError) -> QuotaEntity {
    QuotaEntity(user: try part(), clientID: try part(), address: try part())
  }

  mutating func resource() throws(DecodingError) -> ConfigResource {
    let kind = try uint8()
    guard let known = ConfigResource.Kind(rawValue: kind) else {
      throw DecodingError("settings of a resource of kind \(kind)", at: position)
    }
    return ConfigResource(known, try text())
  }

  mutating func changes() throws(DecodingError) -> [String: String?] {
    var changes: [String: String?] = [:]
    for _ in 0..<(try uint32()) {
      let name = try text()
      changes.updateValue(try optionalText(), forKey: name)
    }
    return changes
  }
}
