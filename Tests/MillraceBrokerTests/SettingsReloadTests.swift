// SettingsReloadTests: where values come from, which of several counts, and what a file that is read again may change.

import MillraceBase
import MillraceMetadata
import Testing

@testable import MillraceBroker

private func settings(_ given: (String, String, BrokerSettings.Source)...) throws -> BrokerSettings {
  var settings = BrokerSettings()
  for (name, value, source) in given { try settings.set(name, value, from: source, at: "\(source.name)") }
  return settings
}

@Test("of several values the strongest counts, whatever the order in which they were given")
func settingPrecedence() throws {
  let sources: [BrokerSettings.Source] = [.file, .commandLine, .start, .environment]
  for first in sources {
    for second in sources where first != second {
      let one = try settings(("num.partitions", "2", first), ("num.partitions", "3", second))
      #expect(one.partitions == (first < second ? 2 : 3))
      #expect(one.values(of: "num.partitions").map(\.source) == [min(first, second), max(first, second), .standard])
    }
  }
  var all = try settings(
    ("num.partitions", "2", .file), ("num.partitions", "3", .environment), ("num.partitions", "4", .commandLine))
  #expect(all.partitions == 4)
  all.setDynamic(cluster: ["num.partitions": "5"], node: [:])
  #expect(all.partitions == 5)
  all.setDynamic(cluster: ["num.partitions": "5"], node: ["num.partitions": "6"])
  #expect(all.values(of: "num.partitions").map(\.value) == ["6", "5", "4", "3", "2", "1"])
}

@Test("a second value from the same source takes the first one's place")
func sameSource() throws {
  let one = try settings(("num.partitions", "2", .commandLine), ("num.partitions", "3", .commandLine))
  #expect(one.values(of: "num.partitions").map(\.value) == ["3", "1"])
}

@Test("each setting has a variable of its own, a unit where its name tells one, and a standard value within its rule")
func tableIsSound() {
  let table = BrokerSettings.table
  #expect(Set(table.map(\.environmentName)).count == table.count)
  #expect(Set(table.compactMap(\.option)).count == table.compactMap(\.option).count)
  for setting in table {
    #expect(setting.environmentName.allSatisfy { $0 == "_" || $0.isNumber || ("A"..."Z").contains($0) })
    #expect(setting.standard.isEmpty || setting.problem(with: setting.standard) == nil, "\(setting.name)")
    #expect((setting.unit == .milliseconds) == setting.name.hasSuffix(".ms"), "\(setting.name)")
    if setting.option != nil { #expect(setting.isOfProgram, "\(setting.name)") }
  }
  #expect(BrokerSettings.setting("log.scrub.bytes.per.second")?.unit == .bytesPerSecond)
  #expect(BrokerSettings.setting("message.max.bytes")?.unit == .bytes)
  #expect(BrokerSettings.setting("group.max.size")?.unit == nil)
  #expect(BrokerSettings().contradictions.isEmpty)
}

@Test("what can change while the program runs is taken over from the file, and the rest is named")
func reloads() throws {
  var running = try settings(
    ("num.partitions", "2", .file), ("group.max.size", "50", .file), ("amqp.max.message.size", "1000", .file))
  let next = try settings(
    ("num.partitions", "3", .file), ("amqp.max.message.size", "2000", .file), ("max.connections", "7", .file))
  let reload = running.takeFile(of: next)
  #expect(
    reload.changed.map { "\($0.name)=\($0.value)" }.sorted()
      == ["group.max.size=10000", "max.connections=7", "num.partitions=3"])
  #expect(reload.needsRestart == ["amqp.max.message.size"] && reload.overridden.isEmpty)
  #expect(running.partitions == 3 && running.connections == 7 && running.largestGroup == 10_000)
  #expect(running.largestAMQPMessage == 1000, "fixed until the next start")
  let again = running.takeFile(of: next)
  #expect(again.changed.isEmpty && again.needsRestart == ["amqp.max.message.size"], "named as long as it is so")
  let back = running.takeFile(
    of: try settings(
      ("num.partitions", "3", .file), ("max.connections", "7", .file),
      ("amqp.max.message.size", "1000", .file)))
  #expect(back.isEmpty)
}

@Test("what something stronger gives goes on to count, and is named")
func reloadsAreOverridden() throws {
  var running = try settings(
    ("num.partitions", "9", .commandLine), ("max.connections", "8", .environment), ("data", "a", .commandLine))
  running.setDynamic(cluster: [:], node: ["group.max.size": "5"])
  let next = try settings(
    ("num.partitions", "3", .file), ("max.connections", "7", .file), ("group.max.size", "6", .file),
    ("data", "b", .file))
  let reload = running.takeFile(of: next)
  #expect(reload.changed.isEmpty && reload.needsRestart.isEmpty)
  #expect(reload.overridden.sorted() == ["data", "group.max.size", "max.connections", "num.partitions"])
  #expect(running.partitions == 9 && running.connections == 8 && running.largestGroup == 5)
  running.setDynamic(cluster: [:], node: [:])
  #expect(running.largestGroup == 6, "once nothing stronger is there, the file's value counts")
}

@Test("a line that has only moved is no change, and its new place is known")
func movedLines() throws {
  var running = BrokerSettings()
  try running.set("num.partitions", "2", from: .file, at: "f:1")
  try running.set("data", "d", from: .file, at: "f:2")
  var next = BrokerSettings()
  try next.set("num.partitions", "2", from: .file, at: "f:9")
  try next.set("data", "d", from: .file, at: "f:8")
  #expect(running.takeFile(of: next).isEmpty)
  #expect(running.values(of: "num.partitions")[0].place == "f:9" && running.values(of: "data")[0].place == "f:8")
}

@Test("all contradictions are named, not only the first")
func allContradictions() throws {
  let one = try settings(
    ("group.min.session.timeout.ms", "9000000", .file), ("group.consumer.session.timeout.ms", "1", .file),
    ("group.share.heartbeat.interval.ms", "86400000", .file))
  let texts = one.contradictions.map(\.text)
  #expect(texts.contains { $0.contains("group.min.session.timeout.ms would be 9000000") })
  #expect(texts.contains { $0.contains("group.consumer.session.timeout.ms is 1,") })
  #expect(texts.contains { $0.contains("group.consumer.heartbeat.interval.ms must be below") })
  #expect(texts.contains { $0.contains("group.share.heartbeat.interval.ms is 86400000") })
  for one in one.contradictions { #expect(one.names.allSatisfy { BrokerSettings.setting($0) != nil }) }
}

@Test("a secret is not shown")
func secretsAreNotShown() throws {
  let setting = Setting("x.y", .string, "", isSecret: true, "A secret.")
  #expect(setting.shown("hunter2") == "(redacted)" && setting.shown("").isEmpty)
  #expect(BrokerSettings.setting("num.partitions")?.shown("3") == "3")
  // Nor where it is refused, and where a line tells what was changed; what nobody knows may be one.
  let chosen = Setting("x.z", .string, "a", words: ["a", "b"], isSecret: true, "A secret.")
  #expect(chosen.problem(with: "a") == nil && chosen.problem(with: "hunter2") == "x.z has a value that is not allowed")
  let changes: [String: String?] = ["x.y": "hunter2", "num.partitions": "3", "gone": "hunter2", "y": nil]
  let table = [setting, try #require(BrokerSettings.setting("num.partitions"))]
  #expect(Broker.text(changes, of: table) == "gone=(redacted) num.partitions=3 x.y=(redacted) y=(standard)")
}

@Test("every setting whose name is one of a secret is marked as one, or names a file or says no secret")
func everySecretIsMarked() {
  // Of files the paths are shown: an administrator has to know which they are. What lies in them is nobody's.
  let harmless: Set<String> = ["tls.key", "encryption.key"]
  let tables = [BrokerSettings.table, TopicSettings.table] + ConfigResource.Kind.allCases.map(\.settings)
  for setting in tables.joined() where LogRedaction.isSecret(setting.name) && !harmless.contains(setting.name) {
    #expect(setting.isSecret, "\(setting.name)")
  }
  #expect(harmless.allSatisfy { BrokerSettings.setting($0)?.text.contains("file") == true })
}
