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
  ]

  /// `super.users`; what is no `User:NAME` stands for nobody.
  var superUsers: Set<Principal> {
    Set((text("super.users") ?? "").split(separator: ";").compactMap { Principal(notation: String($0)) })
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
