// AnyMessage: handles a message of a type known only by name, as tests over all messages need it.

import MillraceBase
import MillraceKafkaProtocol

/// All message types by Kafka's name.
let messageTypes: [String: any KafkaMessage.Type] = {
  var types: [String: any KafkaMessage.Type] = [:]
  for api in APIKey.allCases {
    types[String(describing: api.requestType)] = api.requestType
    types[String(describing: api.responseType)] = api.responseType
  }
  return types
}()

/// What came of decoding bytes and encoding the value again.
struct Recoding {
  let value: any KafkaMessage
  let bytes: [UInt8]
  let unread: Int
  let isStable: Bool
}

/// Decodes `bytes`, encodes the value, and decodes that again.
func recode<Message: KafkaMessage>(
  _ type: Message.Type, _ bytes: [UInt8], version: Int16
) throws(DecodingError) -> Recoding {
  var reader = ByteReader(Bytes(bytes))
  let value = try Message(from: &reader, version: version)
  var writer = ByteWriter()
  value.encode(to: &writer, version: version)
  let encoded = writer.finishJoined()
  var second = ByteReader(encoded)
  let again = try Message(from: &second, version: version)
  // What is not a number differs from itself, but is described alike.
  let isStable = again == value || String(describing: again) == String(describing: value)
  return Recoding(value: value, bytes: encoded.array, unread: reader.remaining, isStable: isStable)
}

/// Decodes `bytes` and drops the value.
func decode<Message: KafkaMessage>(
  _ type: Message.Type, _ bytes: Bytes, version: Int16
) throws(DecodingError) {
  var reader = ByteReader(bytes)
  _ = try Message(from: &reader, version: version)
}

/// Bytes in hexadecimal.
func hex(_ bytes: [UInt8]) -> String {
  let digits = Array("0123456789abcdef")
  return String(bytes.flatMap { [digits[Int($0 >> 4)], digits[Int($0 & 15)]] })
}
