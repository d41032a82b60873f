// AccessControl: whether somebody may do something: rules, administrators, and what holds where no rule says anything.
//
// Who asks for permission, in this order; the first that has an answer gives it:
//   1. a super user (`super.users`) or a user with the tag `administrator` is allowed everything;
//   2. a rule that denies it; 3. a rule that allows it; 4. rules about the resource that allow it to others: denied;
//   5. `allow.everyone.if.no.acl.found`; when that is `auto`, allowed as long as all listeners are on this machine.
// 2 to 5 are Kafka's (`StandardAuthorizerData`), 5 but for `auto`.

import MillraceBase
import MillraceMetadata
import MillraceSecurity

/// The one place where permission is given. Belongs to the broker's reactor.
public final class AccessControl {
  /// Something that was asked for and decided.
  public struct Decision: Hashable, Sendable {
    /// Who asked.
    public var principal: Principal
    /// From where.
    public var host: String
    /// What was to be done.
    public var operation: AccessOperation
    /// To what.
    public var kind: ResourceKind
    /// Its name.
    public var name: String
    /// Whether it may be done.
    public var isAllowed: Bool
  }

  /// Clients on other machines can connect: what no rule is about is then denied, unless settings say otherwise.
  public var isExposed = false {
    didSet { refresh() }
  }
  // Both are looked at with every request, by the one thread that changes them.
  /// Counts changes of whatever decisions depend on.
  @exclusivity(unchecked) public private(set) var version: UInt64 = 0
  /// Nobody is denied anything: a look at this is all that a request costs while there are no rules.
  @exclusivity(unchecked) public private(set) var isOpen = true
  /// Called with each denial, and with what changes the server and was allowed to somebody who had to say who it is.
  public var onDecision: (Decision) -> Void = { _ in }
  /// Called when a decision may have become another one: in the middle of the change, so whoever has much to look at does that at
  /// the end of the turn.
  private var watchers: [() -> Void] = []

  private let metadata: Metadata
  private let settings: () -> BrokerSettings
  private var superUsers: Set<Principal> = []
  private var allowsWithoutRule = true

  init(metadata: Metadata, settings: @escaping () -> BrokerSettings) {
    self.metadata = metadata
    self.settings = settings
    refresh()
  }

  /// Takes over rules, users and settings that have changed.
  func refresh() {
    let settings = settings()
    superUsers = settings.superUsers
    allowsWithoutRule = settings.allowsWithoutRule ?? !isExposed
    isOpen = allowsWithoutRule && metadata.users.rules.isEmpty
    version &+= 1
    for watcher in watchers { watcher() }
  }

  /// Has `body` called at every change of rules, users and settings, for as long as the broker is there.
  public func watch(_ body: @escaping () -> Void) { watchers.append(body) }

  /// Whether this principal is allowed everything.
  public func isAdministrator(_ principal: Principal) -> Bool {
    superUsers.contains(principal) || metadata.users.byName[principal.name]?.isAdministrator == true
  }

  /// Operations that change the server.
  static let changing: Set<AccessOperation> = [.create, .delete, .alter, .alterConfigs, .clusterAction]

  /// Whether there is a user of this name.
  func isUser(_ principal: Principal) -> Bool { metadata.users.byName[principal.name] != nil }

  /// Whether somebody who need not be there any more may do this; nobody is told.
  func allows(_ operation: AccessOperation, _ kind: ResourceKind, _ name: String, by client: ClientIdentity) -> Bool {
    isOpen || isAdministrator(client.principal) || decide(operation, kind, name, client.principal, client.host)
  }

  func decide(
    _ operation: AccessOperation, _ kind: ResourceKind, _ name: String, _ principal: Principal, _ host: String
  ) -> Bool {
    switch metadata.users.rules.decide(operation, on: kind, name, by: principal, from: host) {
    case .allowed: true
    case .denied, .notAllowed: false
    case .noRule: allowsWithoutRule
    }
  }

  /// Whether an operation is allowed under some name. Source: KIP-679; where no rule is needed, every name but those with
  /// rules is allowed.
  func decideAny(_ operation: AccessOperation, _ kind: ResourceKind, _ principal: Principal, _ host: String) -> Bool {
    if metadata.users.rules.allowsAny(operation, kind, by: principal, from: host) { return true }
    // A name that no rule is about, and that a literal star could be about.
    return allowsWithoutRule
      && metadata.users.rules.decide(operation, on: kind, "*", by: principal, from: host) == .noRule
  }
}
