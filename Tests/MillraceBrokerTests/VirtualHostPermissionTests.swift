// VirtualHostPermissionTests: permissions as rules and back, and rules that no permission can say.

import MillraceSecurity
import Testing

@testable import MillraceBroker

private let alice = Principal("alice")

private func pattern(_ text: String) throws -> PermissionPattern { try PermissionPattern(text) }

@Test("every permission comes back from its rules as it was")
func everyPermissionReturns() throws {
  let texts = ["^$", ".*", "^a$", "^a.*", #"^a\.b$|^c.*"#]
  for host in ["/", "v", "a%b"] {
    for configure in texts {
      for write in texts {
        for read in texts {
          let one = VirtualHostPermission(
            alice, in: host, configure: try pattern(configure), write: try pattern(write), read: try pattern(read))
          #expect(VirtualHostPermission.all(in: one.rules, virtualHosts: ["/", "v", "a%b", "other"]) == [one])
          #expect(
            Set(VirtualHostPermission.replaced(in: one.rules, of: alice, in: host)) == Set(one.rules),
            "\(host) \(configure) \(write) \(read)")
          #expect(VirtualHostPermission.replaced(in: one.rules, of: alice, in: "other").isEmpty)
        }
      }
    }
  }
}

@Test("what is shown is what all rules together allow on queues and exchanges alike, and no more")
func showsWhatIsAllowed() throws {
  func rule(
    _ kind: ResourceKind, _ name: String, _ operation: AccessOperation, isPrefix: Bool = false, host: String = "*",
    isAllowed: Bool = true
  ) -> AccessRule {
    AccessRule(
      ResourcePattern(kind, name, isPrefix: isPrefix), alice, host: host, operation, isAllowed: isAllowed)
  }
  let rules = [
    rule(.virtualHost, "*", .describe),
    // Of queues more than of exchanges.
    rule(.queue, "%2F/", .read, isPrefix: true), rule(.exchange, "%2F/a", .read, isPrefix: true),
    // Everywhere.
    rule(.queue, "*", .write), rule(.exchange, "%", .write, isPrefix: true),
    // Delete is missing.
    rule(.queue, "%2F/q", .create), rule(.exchange, "%2F/q", .all),
    // Not of permissions' kind.
    rule(.queue, "%2F/b", .read, host: "10.0.0.1"), rule(.exchange, "%2F/b", .read, isAllowed: false),
    rule(.topic, "%2F/b", .read),
  ]
  let found = VirtualHostPermission.all(in: rules, virtualHosts: ["/", "v"])
  #expect(
    found == [
      VirtualHostPermission(
        alice, in: "/", configure: try pattern(""), write: try pattern(".*"), read: try pattern(#"^a.*|^q$"#)),
      VirtualHostPermission(alice, in: "v", configure: try pattern(""), write: try pattern(""), read: try pattern("")),
    ])
  // Who is not let in has no permission.
  #expect(VirtualHostPermission.all(in: Array(rules.dropFirst()), virtualHosts: ["/"]).isEmpty)
}
