// SecretSettingTests: of a secret setting the HTTP API tells that it is set, and not to what.

import MillraceBase
import Testing

@testable import MillraceBroker
@testable import MillraceHTTPServer

@Test("the value of a secret setting is not in the API's JSON")
func secretSetting() {
  let setting = Setting("x.password", .string, "", isSecret: true, "A secret.")
  var json = JSONWriter()
  SettingJSON.write(setting, value: "hunter2", source: "file", place: "millrace.conf:3", to: &json)
  #expect(json.text.contains(#""value":"(redacted)""#) && !json.text.contains("hunter2"), "\(json.text)")
}
