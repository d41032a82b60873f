// VirtualHostPermission: one of RabbitMQ's permissions, what a user may configure, write and read in a virtual host, as rules and back.
//
//   the virtual host itself  describe on it
//   configure                create and delete on queues and exchanges
//   write, read              themselves on queues and exchanges
//
// A rule that allows a user something about queues or exchanges of one virtual host, from anywhere, belongs to that user's permission
// there; setting the permission replaces them all. Rules that deny, that are about several virtual hosts, or that name an address,
// say what RabbitMQ's permissions cannot: they stay, and are not shown.

import MillraceSecurity

/// What a user may do in a virtual host.
public struct VirtualHostPermission: Equatable, Sendable {
  /// Whom it is about.
  public var user: Principal
  /// Where.
  public var virtualHost: String
  /// What may be declared and deleted.
  public var configure: PermissionPattern
  /// What may be published to, and bound.
  public var write: PermissionPattern
  /// What may be consumed, and bound to.
  public var read: PermissionPattern

  /// A permission.
  public init(
    _ user: Principal, in virtualHost: String, configure: PermissionPattern, write: PermissionPattern,
    read: PermissionPattern
  ) {
    self.user = user
    self.virtualHost = virtualHost
    self.configure = configure
    self.write = write
    self.read = read
  }

  private static let kinds: [ResourceKind] = [.queue, .exchange]
  private static let configuring: [AccessOperation] = [.create, .delete]

  /// The rules that say the same.
  public var rules: [AccessRule] {
    var rules = [AccessRule(ResourcePattern(.virtualHost, virtualHost), user, .describe)]
    for (pattern, operations) in [(configure, VirtualHostPermission.configuring), (write, [.write]), (read, [.read])] {
      for part in pattern.parts {
        let name = ResourceName.inVirtualHost(virtualHost, part.text)
        for kind in VirtualHostPermission.kinds {
          for operation in operations {
            rules.append(AccessRule(ResourcePattern(kind, name, isPrefix: part.isPrefix), user, operation))
          }
        }
      }
    }
    return rules
  }

  /// Those of `rules` that belong to the permission of `user` in `virtualHost`: setting it replaces them.
  public static func replaced(in rules: [AccessRule], of user: Principal, in virtualHost: String) -> [AccessRule] {
    let beginning = ResourceName.inVirtualHost(virtualHost, "")
    return rules.filter { rule in
      guard rule.principal == user, rule.isAllowed, rule.host == "*" else { return false }
      switch rule.pattern.kind {
      case .virtualHost:
        return !rule.pattern.isPrefix && rule.pattern.name == virtualHost && rule.operation == .describe
      case .queue, .exchange: return rule.pattern.name.utf8.starts(with: beginning.utf8)
      default: return false
      }
    }
  }

  /// The permissions that rules amount to, by virtual host and user: of every user who is allowed into a virtual host.
  /// - Parameters:
  ///   - only: whose; nil for everybody's.
  ///   - virtualHosts: those that there are.
  /// - Complexity: O(rules of users), and of users in several virtual hosts once for each.
  public static func all(
    in rules: [AccessRule], only: Principal? = nil, virtualHosts: [String]
  ) -> [VirtualHostPermission] {
    var byUser: [Principal: [AccessRule]] = [:]
    for rule in rules where rule.isAllowed && rule.host == "*" && rule.principal != .everybody {
      guard only == nil || rule.principal == only else { continue }
      switch rule.pattern.kind {
      case .virtualHost, .queue, .exchange: byUser[rule.principal, default: []].append(rule)
      default: continue
      }
    }
    var found: [VirtualHostPermission] = []
    for (user, rules) in byUser {
      let entries = rules.filter {
        $0.pattern.kind == .virtualHost && [.describe, .delete, .all].contains($0.operation)
      }
      for host in virtualHosts where entries.contains(where: { isAbout($0.pattern, host) }) {
        func pattern(_ operations: [AccessOperation]) -> PermissionPattern {
          var common: PermissionPattern?
          for kind in kinds {
            for operation in operations {
              let one = names(rules, kind, operation, in: host)
              common = common?.intersection(one) ?? one
            }
          }
          return common ?? PermissionPattern([])
        }
        found.append(
          VirtualHostPermission(
            user, in: host, configure: pattern(configuring), write: pattern([.write]), read: pattern([.read])))
      }
    }
    return found.sorted { ($0.virtualHost, $0.user) < ($1.virtualHost, $1.user) }
  }

  private static func isAbout(_ pattern: ResourcePattern, _ name: String) -> Bool {
    pattern.isPrefix
      ? name.utf8.starts(with: pattern.name.utf8) : pattern.name == name || pattern.name == ResourceName.every
  }

  /// The names in a virtual host that rules allow an operation on.
  private static func names(
    _ rules: [AccessRule], _ kind: ResourceKind, _ operation: AccessOperation, in host: String
  ) -> PermissionPattern {
    let beginning = ResourceName.inVirtualHost(host, "")
    let parts = rules.compactMap { rule -> PermissionPattern.Part? in
      guard rule.pattern.kind == kind, rule.operation == operation || rule.operation == .all else { return nil }
      let (name, isPrefix) = (rule.pattern.name, rule.pattern.isPrefix)
      if name.utf8.starts(with: beginning.utf8) {
        return PermissionPattern.Part(String(name.dropFirst(beginning.count)), isPrefix: isPrefix)
      }
      // About everything, or about several virtual hosts.
      let isAll = isPrefix ? beginning.utf8.starts(with: name.utf8) : name == ResourceName.every
      return isAll ? PermissionPattern.Part("", isPrefix: true) : nil
    }
    return PermissionPattern(parts)
  }
}

extension PermissionPattern {
  /// The names that both mean.
  func intersection(_ other: PermissionPattern) -> PermissionPattern {
    PermissionPattern(
      parts.flatMap { part in
        other.parts.compactMap { one in part.covers(one) ? one : one.covers(part) ? part : nil }
      })
  }
}
