// SettingJSON: settings as JSON, with their rules and where their values come from.

import MillraceBase
import MillraceBroker

enum SettingJSON {
  static let schema = HTTPSchema.object([
    .required("name", .string), .required("value", .string),
    .required(
      "source", .words(BrokerSettings.Source.allCases.map(\.name) + ["topic"]),
      "Where the value comes from."),
    .optional("place", .string, "The exact place: the file and line, the variable or the option."),
    .required("type", .words(["boolean", "string", "int", "long", "double", "list"])),
    .optional("unit", .words(["ms", "bytes", "bytes/s"]), "What the number counts."),
    .optional("minimum", .number64), .optional("maximum", .number64),
    .optional("words", .array(.string), "The words that are allowed."),
    .optional("environment", .string, "The variable of the environment that stands for it at a start."),
    .required("standard", .string, "The value when nothing is set."),
    .required("changeable", .boolean, "It can be changed while the server runs."),
    .required("honoured", .boolean, "It changes anything in this version."), .required("description", .string),
  ])

  static func write(
    _ setting: Setting, value: String, source: String, place: String = "", to json: inout JSONWriter
  ) {
    json.object { json in
      json.name("name")
      json.string(setting.name)
      json.name("value")
      json.string(setting.shown(value))
      json.name("source")
      json.string(source)
      if !place.isEmpty {
        json.name("place")
        json.string(place)
      }
      writeRule(setting, to: &json)
      if BrokerSettings.setting(setting.name) != nil {
        json.name("environment")
        json.string(setting.environmentName)
      }
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

  private static func writeRule(_ setting: Setting, to json: inout JSONWriter) {
    json.name("type")
    json.string(setting.type.name)
    if let unit = setting.unit {
      json.name("unit")
      json.string(unit.rawValue)
    }
    if let range = setting.range {
      json.name("minimum")
      json.number(range.lowerBound)
      json.name("maximum")
      json.number(range.upperBound)
    }
    if !setting.words.isEmpty {
      json.name("words")
      json.array { json in for word in setting.words { json.string(word) } }
    }
  }

  /// Changes from an object of texts and nulls.
  static func changes(_ value: JSONValue?) -> [(name: String, change: SettingChange)] {
    guard case .object(let members)? = value else { return [] }
    return members.map { ($0.name, $0.value.string.map { .set($0) } ?? .delete) }
  }
}
