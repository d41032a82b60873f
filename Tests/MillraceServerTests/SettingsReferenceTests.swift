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
    out += "| `\(setting.name)` | \(setting.standard) | \(allowed) | \(text) |\n"
  }
  return out
}

@Test("docs/reference/settings.md is what the tables say")
func settingsReferenceAgrees() throws {
  let page = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "docs/reference/settings.md")
  let expected = """
    # Settings

    Made from the tables in `Sources/MillraceBroker/Setting.swift`;
    `MILLRACE_WRITE_DOCS=1 swift test --filter settingsReferenceAgrees` writes this page. Names are Kafka's.

    ## Broker

    `millrace serve --set NAME=VALUE`, fixed at the start; shown by DescribeConfigs.

    \(table(BrokerSettings.table))
    ## Topic

    Given when a topic is created (`millrace topic create NAME --config NAME=VALUE`, or any Kafka client); an unknown name or a
    value outside its rule is refused.

    \(table(TopicSettings.table))
    """
  if ProcessInfo.processInfo.environment["MILLRACE_WRITE_DOCS"] != nil {
    try expected.write(to: page, atomically: true, encoding: .utf8)
  } else {
    #expect(try String(contentsOf: page, encoding: .utf8) == expected)
  }
}
