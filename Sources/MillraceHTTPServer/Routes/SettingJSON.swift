// SettingJSON: settings as JSON, with their rules and where their values come from.

import MillraceBase
import MillraceBroker

enum SettingJSON {
  static let schema = HTTPSchema.object([
    .required("name", .string), .required("value", .string),
    .required("source", .words(["node", "cluster", "start", "standard", "topic"]), "Where the value comes from."),
    .required("standard", .string, "The value when nothing is set."),
    .required("changeable", .boolean, "It can be changed while the server runs."),
    .required("honoured", .boolean, "It changes anything in this version."), .required("description", .string),
  ])

  static func write(_ setting: Setting, value: String, source: String, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(setting.name)
      json.name("value")
      json.string(value)
      json.name("source")
      json.string(source)
      json.name("standard")
      json.string(setting.standard)
      json.name("changeable")
      json.bool(setting.isDynamic || source == "topic")
      json.name("honoured")
      json.bool(setting.isHonoured)
      json.name("description")
      json.string(setting.text)
    }
  }

  /// Changes from an object of texts and nulls.
  static func changes(_ value: JSONValue?) -> [(name: String, change: SettingChange)] {
    guard case .object(let members)? = value else { return [] }
    return members.map { ($0.name, $0.value.string.map { .set($0) } ?? .delete) }
  }
}
