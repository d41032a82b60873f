// SettingsReferenceTests: the page of settings says what the tables in the code say.

import Foundation
import MillraceBroker
import Testing

/// What a value may be.
private func allowed(_ setting: Setting) -> String {
  if let range = setting.range {
    return range.upperBound == .max ? "from \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
  }
  if !setting.words.isEmpty { return setting.words.joined(separator: ", ") }
  return setting.type == .boolean ? "true, false" : ""
}

private func text(_ setting: Setting) -> String {
  setting.isHonoured ? setting.text : "Accepted and shown, but without effect. \(setting.text)"
}

/// Settings that have a source of their own: topics', groups'.
private func table(_ settings: [Setting]) -> String {
  var out = "| Name | Type | Unit | Default | Allowed | What it does |\n|---|---|---|---|---|---|\n"
  for setting in settings {
    out += "| `\(setting.name)` | \(setting.type.name) | \(setting.unit?.rawValue ?? "") | \(setting.standard) | "
    out += "\(allowed(setting)) | \(text(setting)) |\n"
  }
  return out
}

/// Settings of the server.
private func serverTable(_ settings: [Setting]) -> String {
  var out = "| Name | Type | Unit | Default | Allowed | Changes | Variable | What it does |\n"
  out += "|---|---|---|---|---|---|---|---|\n"
  for setting in settings {
    let name = "`\(setting.name)`" + (setting.option.map { ", `\($0)`" } ?? "")
    out += "| \(name) | \(setting.type.name) | \(setting.unit?.rawValue ?? "") | \(setting.standard) | "
    out += "\(allowed(setting)) | \(setting.isDynamic ? "live" : "restart") | `\(setting.environmentName)` | "
    out += "\(text(setting)) |\n"
  }
  return out
}

@Test("docs/reference/settings.md is what the tables say")
func settingsReferenceAgrees() throws {
  let page = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "docs/reference/settings.md")
  let expected = """
    # Settings

    Made from the tables in `Sources/MillraceBroker` (`ProgramSettings.swift`, `Setting.swift` and others);
    `MILLRACE_WRITE_DOCS=1 swift test --filter settingsReferenceAgrees` writes this page. How settings are given, and which of
    several values counts, stands in [the guide](../guides/configuration.md).

    ## Program

    Where `millrace serve` finds and offers what. A broker that is embedded in another program has none of these.

    \(serverTable(BrokerSettings.table.filter(\.isOfProgram)))
    ## Broker

    By Kafka's names. Live ones can be changed while the server runs: in the configuration file, with SIGHUP; by
    IncrementalAlterConfigs, for the node `0` or for all nodes; and by `PATCH /api/v1/settings`.

    \(serverTable(BrokerSettings.table.filter { !$0.isOfProgram }))
    ## Topic

    Given when a topic is created (`millrace topic create NAME --config NAME=VALUE`, or any Kafka client) and changed at any
    time (`millrace topic configure NAME KEY=VALUE`); a change counts at once. An unknown name or a value outside its rule is
    refused.

    \(table(TopicSettings.table))
    ## Group

    Set by Kafka's clients for a group by its name (resource type 32), at any time.

    \(table(GroupSettings.table))
    ## Metrics subscription

    Set by Kafka's clients for a subscription by its name (resource type 16); kept and shown only.

    \(table(ClientMetricsSettings.table))
    """
  if ProcessInfo.processInfo.environment["MILLRACE_WRITE_DOCS"] != nil {
    try expected.write(to: page, atomically: true, encoding: .utf8)
  } else {
    #expect(try String(contentsOf: page, encoding: .utf8) == expected)
  }
}
