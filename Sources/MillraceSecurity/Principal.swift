// Principal: who a client is, by name.

/// A user, as rules and quotas name one. In Kafka's notation `User:alice`.
public struct Principal: Hashable, Comparable, Sendable, CustomStringConvertible {
  /// The user's name.
  public let name: String

  /// The user with this name.
  public init(_ name: String) { self.name = name }

  /// The principal in Kafka's notation, `User:alice`; nil for another type than `User`, or an empty name.
  public init?(notation: String) {
    guard notation.hasPrefix("User:"), notation.utf8.count > 5 else { return nil }
    name = String(notation.dropFirst(5))
  }

  /// Whoever did not have to say who they are. Source: Kafka, `KafkaPrincipal.ANONYMOUS`.
  public static let anonymous = Principal("ANONYMOUS")
  /// In rules alone: everybody.
  public static let everybody = Principal("*")

  /// `User:` and the name.
  public var description: String { "User:\(name)" }

  /// By name.
  public static func < (left: Principal, right: Principal) -> Bool { left.name < right.name }
}
