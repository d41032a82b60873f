// SettingRoutes: the broker's settings with their sources, and changed while it runs.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceSecurity

enum SettingRoutes {
  static let all: [HTTPRoute] = [
    HTTPRoute(
      .get, "/api/v1/settings", "Settings", "Lists the broker's settings with their sources.",
      .needs([HTTPRequirement(.describeConfigs, .cluster, .cluster)]),
      response: .json(.object([.required("settings", .array(SettingJSON.schema))])), handler: list),
    HTTPRoute(
      .patch, "/api/v1/settings", "Settings",
      "Changes settings of the broker, durably; all or none. Those that can only be set at the start are refused.",
      .needs([HTTPRequirement(.alterConfigs, .cluster, .cluster)]),
      request: .json(
        .object([
          .required("settings", TopicRoutes.settings, "New values; null goes back to what was given at the start.")
        ])),
      response: .json(.object([.required("settings", .array(SettingJSON.schema))])), handler: change),
  ]

  static func list(_ call: HTTPCall) { answer(BrokerSettings.table.map(\.name), call) }

  private static func answer(_ names: [String], _ call: HTTPCall) {
    let settings = call.broker.settings
    call.answerObject { json in
      json.name("settings")
      json.array { json in
        for setting in BrokerSettings.table where names.contains(setting.name) {
          guard let first = settings.values(of: setting.name).first else { continue }
          SettingJSON.write(
            setting, value: first.value, source: first.source.name, place: first.place, to: &json)
        }
      }
    }
  }

  static func change(_ call: HTTPCall) throws(HTTPProblem) {
    let changes = SettingJSON.changes(try call.json()?["settings"])
    let node = ConfigResource(.broker, "0")
    let checked: [String: String?]
    do throws(BrokerError) {
      checked = try call.broker.check(changes, of: node)
    } catch {
      throw HTTPProblem(error)
    }
    call.broker.configure(node, checked) { error in call.answer(error) { answer(changes.map(\.name), call) } }
  }
}
