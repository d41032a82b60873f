// AccessSettings: the settings of who may do what.

import MillraceSecurity

extension BrokerSettings {
  static let accessTable: [Setting] = [
    Setting(
      "super.users", .string, "", dynamic: true,
      "Users who are allowed everything, as User:NAME, with semicolons between them."),
    Setting(
      "allow.everyone.if.no.acl.found", .string, "auto", words: ["auto", "true", "false"], dynamic: true,
      "Whether everybody may do what no rule is about; auto: as long as all listeners are on this machine."),
    Setting(
      "ssl.principal.mapping.rules", .string, "DEFAULT", check: mappingProblem,
      "How certificates' subjects become users: rules RULE:pattern/replacement/[LU], DEFAULT or DN for the whole subject, CN for its common name."
    ),
    Setting(
      "audit.topic.enable", .boolean, "true", dynamic: true,
      "Keep who logged in, what was denied and what was changed as records of the topic __audit."),
    Setting(
      "authentication.timeout.ms", .int, "10000", range: 100...600_000, dynamic: true,
      "Time from its connection on in which a client must have said who it is, in ms."),
    Setting(
      "connection.failed.authentication.delay.ms", .int, "100", range: 0...60_000, dynamic: true,
      "How late a client hears that it is not let in, in ms."),
    Setting(
      "connections.max.reauth.ms", .long, "0", range: 0...Int64.max, dynamic: true,
      "Time after which a client must say again who it is, in ms; 0 for never."),
  ]

  private static func mappingProblem(_ value: String) -> String? {
    do throws(SecuritySettingError) {
      _ = try PrincipalMapping(value)
      return nil
    } catch {
      return "ssl.principal.mapping.rules: \(error)"
    }
  }

  /// `ssl.principal.mapping.rules`
  var principalMapping: PrincipalMapping {
    do throws(SecuritySettingError) {
      return try PrincipalMapping(text("ssl.principal.mapping.rules") ?? "")
    } catch {
      preconditionFailure("a setting that was checked: \(error)")
    }
  }

  /// `super.users`; what is no `User:NAME` stands for nobody.
  var superUsers: Set<Principal> {
    Set((text("super.users") ?? "").split(separator: ";").compactMap { Principal(notation: String($0)) })
  }

  /// `audit.topic.enable`
  var writesAudit: Bool { text("audit.topic.enable") == "true" }
  /// `authentication.timeout.ms`
  public var authenticationTime: Duration { .milliseconds(integer("authentication.timeout.ms")) }
  /// `connection.failed.authentication.delay.ms`
  public var failedAuthenticationDelay: Duration {
    .milliseconds(integer("connection.failed.authentication.delay.ms"))
  }
  /// `connections.max.reauth.ms`; nil for 0.
  public var longestSession: Duration? {
    let time = integer("connections.max.reauth.ms")
    return time == 0 ? nil : .milliseconds(min(time, 1 << 52))
  }

  /// `allow.everyone.if.no.acl.found`; nil for `auto`.
  var allowsWithoutRule: Bool? {
    switch text("allow.everyone.if.no.acl.found") {
    case "true": true
    case "false": false
    default: nil
    }
  }
}
