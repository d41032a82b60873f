// SettingsReferenceTests: the page of settings says what the tables in the code say.

import Foundation
import MillraceBroker
import Testing

private func table(_ settings: [Setting]) -> String {
  var out = "| Name | Default | Allowed | What it does |\n|---|---|---|---|\n"
  for setting in settings {
    var allowed = setting.words.joined(separator: ", ")
    if let range = setting.range {
      allowed = range.upperBound == .max ? "from \(range.lowerBound)" : "\(range.lowerBound) to \(range.upperBound)"
    } else if setting.type == .boolean {
      allowed = "true, false"
    }
    let text = setting.isHonoured ? setting.text : "Accepted and shown, but without effect. \(setting.text)"
    let mark = setting.isDynamic ? " \\*" : ""
    out += "| `\(setting.name)`\(mark) | \(setting.standard) | \(allowed) | \(text) |\n"
  }
  return out
}

@Test("docs/reference/settings.md is what the tables say")
func settingsReferenceAgrees() throws {
  let page = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "docs/reference/settings.md")
  let expected = """
    # Settings

    Made from the tables in `Sources/MillraceBroker/Setting.swift` and `ResourceSettings.swift`;
    `MILLRACE_WRITE_DOCS=1 swift test --filter settingsReferenceAgrees` writes this page. Names are Kafka's.

    ## Broker

    `millrace serve --set NAME=VALUE`, shown by DescribeConfigs. Those marked with * can be changed while the server
    runs (IncrementalAlterConfigs, for the node `0` or for all nodes), durably; the others are fixed at the start.

    \(table(BrokerSettings.table))
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
