// AclCommand: `millrace acl`: rules of access listed, added and removed.

import MillraceBase
import MillraceIO
import MillraceSecurity

extension Command {
  /// `millrace acl`
  static let acl = Command(
    "acl", "lists, adds and removes rules of who may do what",
    discussion: """
      A denial counts more than whatever is allowed. What no rule is about is allowed to everybody as long as all of the \
      server's listeners are on its own machine, and denied otherwise (allow.everyone.if.no.acl.found).
      """,
    subcommands: [.aclList, .aclAdd, .aclRemove])

  private static let resources: [CommandOption] = [
    CommandOption("--topic", "NAME", count: .repeated, "A topic; * for all."),
    CommandOption("--group", "NAME", count: .repeated, "A group; * for all."),
    CommandOption("--transactional-id", "NAME", count: .repeated, "A transactional id; * for all."),
    CommandOption(flag: "--cluster", "The server as a whole."),
    CommandOption("--queue", "NAME", count: .repeated, "A queue, %2F/NAME in virtual host /; * for all."),
    CommandOption("--exchange", "NAME", count: .repeated, "An exchange, named as queues are; * for all."),
    CommandOption("--vhost", "NAME", count: .repeated, "A virtual host; * for all."),
    CommandOption(flag: "--prefix", "Means all names that begin with those given."),
  ]

  private static let rule: [CommandOption] =
    [
      CommandOption(
        "--principal", "NAME", count: .repeated, isRequired: true, "The user whom it is about; * for everybody."),
      CommandOption(
        "--operation", "WORD", type: .word(AccessOperation.allCases.map(\.word)), count: .repeated, isRequired: true,
        "What is done: all, read, write, create, delete, alter, describe and so on."),
      CommandOption("--from", "ADDRESS", count: .repeated, "The address it comes from (default: any)."),
      CommandOption(flag: "--deny", "Denies it; otherwise it is allowed."),
    ] + resources + [.bootstrap]

  private static let aclAdd = Command(
    "add", "adds rules: one for each combination of what the options name", options: rule
  ) { (arguments) throws(CommandFailure) in
    let rules = try named(arguments)
    let client = try arguments.client()
    try CommandFailure.wrapping { () throws(ClientError) in try client.add(rules) }
    return .done
  }

  private static let aclRemove = Command(
    "remove", "removes the rules that `add` adds with the same options", options: rule
  ) { (arguments) throws(CommandFailure) in
    let rules = try named(arguments)
    let client = try arguments.client()
    let count = try CommandFailure.wrapping { () throws(ClientError) in try client.remove(rules) }
    guard count > 0 else { throw CommandFailure(.failed, "there is no such rule") }
    return .done
  }

  /// Most rules of one command.
  private static let mostRules = 10_000

  private static func named(_ arguments: Arguments) throws(CommandFailure) -> [AccessRule] {
    var patterns: [ResourcePattern] =
      arguments.has("--cluster") ? [ResourcePattern(.cluster, ResourceName.cluster)] : []
    // Not of users: --user is who the command is.
    for kind in [ResourceKind.topic, .group, .transactionalID, .queue, .exchange, .virtualHost] {
      for name in arguments.list("--\(kind.word)") {
        patterns.append(ResourcePattern(kind, name, isPrefix: arguments.has("--prefix")))
      }
    }
    guard !patterns.isEmpty else {
      throw CommandFailure(
        .usage, "name a resource: --topic, --group, --transactional-id, --cluster, --queue, --exchange or --vhost")
    }
    let principals = arguments.list("--principal").map { Principal(notation: $0) ?? Principal($0) }
    let hosts = arguments.has("--from") ? arguments.list("--from") : ["*"]
    let operations = arguments.list("--operation").compactMap { AccessOperation(word: $0) }
    let count = patterns.count * principals.count * hosts.count * operations.count
    guard count <= mostRules else {
      throw CommandFailure(.usage, "these are \(count) rules; \(mostRules) go at a time")
    }
    return patterns.flatMap { pattern in
      principals.flatMap { principal in
        hosts.flatMap { host in
          operations.map {
            AccessRule(pattern, principal, host: host, $0, isAllowed: !arguments.has("--deny"))
          }
        }
      }
    }
  }

  private static let aclList = Command(
    "list", "shows all rules", options: [CommandOption(flag: "--json", "Writes them as JSON, one line."), .bootstrap]
  ) { (arguments) throws(CommandFailure) in
    let client = try arguments.client()
    let rules = try CommandFailure.wrapping { () throws(ClientError) in
      try client.rules(about: ResourceKind.allCases)
    }
    guard arguments.has("--json") else {
      if rules.isEmpty { return .done }
      try OutputStream.standardOutput.print(
        Shown.table(
          [["rule", "principal", "operation", "resource", "host"]]
            + rules.map {
              [
                $0.isAllowed ? "allow" : "deny", $0.principal.description, $0.operation.word, $0.pattern.description,
                $0.host,
              ]
            }))
      return .done
    }
    var json = JSONWriter()
    json.array { json in
      for rule in rules {
        json.object { json in
          json.name("allow")
          json.bool(rule.isAllowed)
          json.name("principal")
          json.string(rule.principal.description)
          json.name("operation")
          json.string(rule.operation.word)
          json.name("resource")
          json.string(rule.pattern.kind.word)
          json.name("name")
          json.string(rule.pattern.name)
          json.name("prefix")
          json.bool(rule.pattern.isPrefix)
          json.name("host")
          json.string(rule.host)
        }
      }
    }
    try OutputStream.standardOutput.print(json.text + "\n")
    return .done
  }
}
