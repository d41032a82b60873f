// Broker+Users: users made, changed, removed and shown.

import MillraceBase
import MillraceLog
import MillraceMetadata
import MillraceSecurity

/// A change of one user's credentials.
public enum CredentialChange: Sendable {
  /// This one stands from now on for its mechanism.
  case set(ScramCredential)
  /// The one of this mechanism is gone.
  case remove(ScramMechanism)
}

extension Broker {
  /// Most users there may be: they are all held in memory.
  public static let mostUsers = 100_000
  /// Most tags of a user, and bytes of one.
  static let mostTags = 32
  static let longestTag = 255

  /// All users, by name, in order.
  public var users: [(name: String, user: User)] {
    metadata.users.byName.sorted { $0.key < $1.key }.map { ($0.key, $0.value) }
  }

  /// The user of this name.
  public func user(_ name: String) -> User? { metadata.users.byName[name] }

  /// Checks the name of a user who is to be made.
  /// - Throws: `.invalidRequest` for a name that no user can have, `.policyViolation` when there are too many.
  public func checkNewUser(_ name: String) throws(BrokerError) {
    guard UserName.isValid(name) else {
      throw BrokerError(
        .invalidRequest,
        "a user's name is 1 to \(UserName.longest) printable ASCII characters without a space at its ends, and neither "
          + "* nor ANONYMOUS")
    }
    guard user(name) != nil || metadata.users.byName.count < Broker.mostUsers else {
      throw BrokerError(.policyViolation, "there may be \(Broker.mostUsers) users and no more")
    }
  }

  /// Changes a user's credentials in one commit; `completion` follows when that is durable. New logins count from the call
  /// on; clients that are connected stay.
  /// - Parameter name: checked by ``checkNewUser(_:)`` when a credential is set.
  public func changeCredentials(
    of name: String, _ changes: [CredentialChange], completion: @escaping (BrokerError?) -> Void
  ) {
    let events = changes.map { change -> SecurityEvent in
      switch change {
      case .set(let credential): .credentialSet(user: name, credential)
      case .remove(let mechanism): .credentialRemoved(user: name, mechanism)
      }
    }
    record(events, "credentials changed", of: name, completion)
  }

  /// Makes a user, or changes the tags and credentials of one; `completion` follows when that is durable.
  /// - Parameters:
  ///   - tags: words as in RabbitMQ; `administrator` is allowed everything.
  ///   - isReplacing: credentials that are not among these go.
  /// - Throws: `.invalidRequest` for tags that are too many or too long.
  public func setUser(
    _ name: String, tags: [String], credentials: [ScramCredential] = [], isReplacing: Bool = false,
    completion: @escaping (BrokerError?) -> Void
  ) throws(BrokerError) {
    try checkNewUser(name)
    let tags = Set(tags).sorted()
    guard tags.count <= Broker.mostTags,
      tags.allSatisfy({
        (1...Broker.longestTag).contains($0.utf8.count) && $0.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f }
      })
    else {
      throw BrokerError(
        .invalidRequest, "a user has at most \(Broker.mostTags) tags of 1 to \(Broker.longestTag) printable characters")
    }
    let gone = (isReplacing ? user(name)?.credentials.keys.map { $0 } ?? [] : []).filter { one in
      !credentials.contains { $0.mechanism == one }
    }
    record(
      // The user of a last credential goes with it, and comes again.
      gone.sorted { $0.rawValue < $1.rawValue }.map { .credentialRemoved(user: name, $0) }
        + [.userSet(name: name, tags: tags)] + credentials.map { .credentialSet(user: name, $0) }, "user set", of: name,
      completion)
  }

  /// Removes a user: nobody logs in as that any more, and whoever has is allowed nothing. Rules about the user stay.
  public func removeUser(_ name: String, completion: @escaping (BrokerError?) -> Void) {
    record([.userRemoved(name: name)], "user removed", of: name, completion)
  }

  private func record(
    _ events: [SecurityEvent], _ message: String, of name: String, _ completion: @escaping (BrokerError?) -> Void
  ) {
    var unit = AppendUnit()
    unit.events = events.map { MetadataEvent.security($0).encoded() }
    if unit.events.isEmpty { return whenDurable(completion) }
    record(unit) { [self] error in
      if error == nil { logger.log(.info, "security", message, ["user": name]) }
      completion(error)
    }
  }

  /// The bytes that stand for users who do not exist are derived of this; made when first asked for.
  func makeServerKey() -> Secret {
    if let key = metadata.users.serverKey { return key }
    let key = Secret.random(count: 32)
    record(.security(.serverKeySet(key))) { _ in }
    return key
  }
}
