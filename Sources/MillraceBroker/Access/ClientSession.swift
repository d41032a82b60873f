// ClientSession: one authenticated client, and what it was found to be allowed to do.

import MillraceBase
import MillraceSecurity

/// Who a client is and where it comes from: what rules are about.
public struct ClientIdentity: Hashable, Sendable {
  /// Who it is.
  public let principal: Principal
  /// The address it comes from, as rules name it.
  public let host: String

  /// - Parameter address: the peer's numeric address.
  public init(_ principal: Principal, from address: String) {
    self.principal = principal
    host = ClientSession.host(address)
  }
}

/// Who is at the other end of a connection, from where, and what that one may do.
///
/// Answers are kept until rules, users or settings change, so that a request costs a look into a small table, and none while
/// nobody is denied anything. Belongs to the broker's reactor.
public final class ClientSession {
  private struct Key: Hashable {
    var operation: AccessOperation
    var kind: ResourceKind
    var name: String
  }

  /// Who it is.
  public let principal: Principal
  /// The address it comes from, as rules name it.
  public let host: String
  private let access: AccessControl
  private var knownVersion: UInt64
  private var isAdministrator: Bool
  /// A user of the broker's own, who can be removed.
  private let isStored: Bool
  /// The user is there no more, and is allowed nothing.
  private var isGone = false
  private var known: [Key: Bool] = [:]
  /// Answers that are kept; more, and all are forgotten.
  private static let mostKnown = 1000

  /// A session of `principal`, who has proved to be that.
  /// - Parameter address: the peer's numeric address; IPv4 in IPv6's notation is taken as IPv4.
  public convenience init(_ access: AccessControl, _ principal: Principal, from address: String) {
    self.init(access, AuthenticatedClient(principal, isStored: false), from: address)
  }

  /// A session of a client that has proved who it is. Whoever is a user of the broker's own is allowed nothing any more once
  /// that user is removed.
  public init(_ access: AccessControl, _ client: AuthenticatedClient, from address: String) {
    self.access = access
    principal = client.principal
    isStored = client.isStored
    host = ClientSession.host(address)
    knownVersion = access.version
    isAdministrator = access.isAdministrator(principal)
    isGone = isStored && !access.isUser(principal)
  }

  /// An address as rules name it.
  public static func host(_ address: String) -> String {
    let mapped = "::ffff:"
    return address.hasPrefix(mapped) && address.contains(".") ? String(address.dropFirst(mapped.count)) : address
  }

  /// Who it is, for whoever decides about it later, without its connection.
  public var identity: ClientIdentity { ClientIdentity(principal, from: host) }

  /// Changes whenever an answer may; at other times what was answered once need not be asked again.
  public var version: UInt64 { access.version }

  /// Whether nothing at all is denied to the client, so that nobody need ask.
  public var isUnrestricted: Bool {
    refresh()
    return !isGone && (access.isOpen || isAdministrator)
  }

  /// Whether the client may do this, and nobody has to be told: all that a request costs while nobody is denied anything.
  public func isFree(_ operation: AccessOperation) -> Bool {
    isUnrestricted && (principal == .anonymous || !AccessControl.changing.contains(operation))
  }

  /// Whether the client may do this; a denial is told to whoever watches them.
  public func allows(_ operation: AccessOperation, _ kind: ResourceKind, _ name: String) -> Bool {
    let isAllowed = mayDo(operation, kind, name)
    if !isAllowed || principal != .anonymous && AccessControl.changing.contains(operation) {
      access.onDecision(
        AccessControl.Decision(
          principal: principal, host: host, operation: operation, kind: kind, name: name, isAllowed: isAllowed))
    }
    return isAllowed
  }

  /// Whether the client may do this to the server as a whole.
  public func allowsCluster(_ operation: AccessOperation) -> Bool {
    allows(operation, .cluster, ResourceName.cluster)
  }

  /// As ``allows(_:_:_:)``, but nobody is told: for what is left out of a list.
  public func sees(_ operation: AccessOperation, _ kind: ResourceKind, _ name: String) -> Bool {
    mayDo(operation, kind, name)
  }

  /// Whether the client may do this under some name, though perhaps not under every one.
  public func allowsSome(_ operation: AccessOperation, _ kind: ResourceKind) -> Bool {
    refresh()
    if isGone { return false }
    return access.isOpen || isAdministrator || access.decideAny(operation, kind, principal, host)
  }

  private func mayDo(_ operation: AccessOperation, _ kind: ResourceKind, _ name: String) -> Bool {
    refresh()
    if isGone { return false }
    if access.isOpen || isAdministrator { return true }
    let key = Key(operation: operation, kind: kind, name: name)
    if let answer = known[key] { return answer }
    let answer = access.decide(operation, kind, name, principal, host)
    if known.count >= ClientSession.mostKnown { known.removeAll(keepingCapacity: true) }
    known[key] = answer
    return answer
  }

  private func refresh() {
    guard knownVersion != access.version else { return }
    knownVersion = access.version
    isAdministrator = access.isAdministrator(principal)
    isGone = isStored && !access.isUser(principal)
    known.removeAll(keepingCapacity: true)
  }
}
