// SecretSettingTests: Kafka's clients are told of a secret that there is one, and never what it is.

import MillraceBase
import MillraceKafkaProtocol
import Testing

@testable import MillraceBroker
@testable import MillraceKafkaServer

@Test("of a secret setting DescribeConfigs tells that it is one, and no value of it, whatever is asked for")
func secretSetting() throws {
  let setting = Setting("x.password", .string, "standard-secret", isSecret: true, "A secret.")
  var request = DescribeConfigsRequest()
  request.includeSynonyms = true
  request.includeDocumentation = true
  let all: [ConfigValue] = [
    ("x.password", "hunter2", ConfigSource.node), ("x.password", "standard-secret", ConfigSource.standard),
  ]
  for isBroker in [true, false] {
    let entry = KafkaConnection.entry(setting, all, request, isBroker: isBroker)
    #expect(entry.isSensitive && entry.value == nil && entry.synonyms.count == 2)
    let text = String(reflecting: entry)
    #expect(!text.contains("hunter2") && !text.contains("standard-secret"), "\(text)")
  }
  let known = KafkaConnection.entry(
    Setting("x.y", .string, "", "No secret."), [("x.y", "seen", ConfigSource.node)], request, isBroker: true)
  #expect(!known.isSensitive && known.value == "seen" && known.synonyms.first?.value == "seen")
}
