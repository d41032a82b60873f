// RecordJSON: records as lines of JSON, out of `consume --json` and into `produce --json`.
//
//   {"topic":"t","partition":0,"offset":7,"timestamp":1700000000000,"key":null,"value":"text","headers":[…]}
//
// A header is {"key":"name","value":"text"}. Bytes that are not UTF-8 stand as base 64 under `key_base64` or
// `value_base64` instead. `produce` reads the same: `headers` may be an object of texts, too, `partition` chooses the
// partition, `timestamp` is kept, `topic` and `offset` are passed over.

import MillraceBase
import MillraceModel

/// Writes records as JSON and reads them.
enum RecordJSON {
  /// One record as an object.
  static func write(_ fetched: FetchedRecord, to json: inout JSONWriter) {
    let record = fetched.record
    json.object { json in
      json.name("topic")
      json.string(fetched.partition.topic)
      json.name("partition")
      json.number(fetched.partition.partition)
      json.name("offset")
      json.number(record.offset)
      json.name("timestamp")
      json.number(record.timestamp.milliseconds)
      write(record.key, "key", to: &json)
      write(record.value, "value", to: &json)
      json.name("headers")
      json.array { json in
        for header in record.headers {
          json.object { json in
            json.name("key")
            json.string(header.key)
            write(header.value, "value", to: &json)
          }
        }
      }
    }
  }

  private static func write(_ bytes: Bytes?, _ name: String, to json: inout JSONWriter) {
    guard let bytes else {
      json.name(name)
      return json.null()
    }
    if let text = bytes.withBuffer({ String(validating: $0, as: UTF8.self) }) {
      json.name(name)
      json.string(text)
    } else {
      json.name(name + "_base64")
      json.string(bytes.withBuffer { Base64.encode($0) })
    }
  }

  /// A record read from JSON, and the partition that it asks for.
  struct Wish: Equatable {
    var record: Record
    var partition: Int32?
  }

  /// Reads one object.
  /// - Throws: what is wrong, in words.
  static func read(_ line: UnsafeRawBufferPointer) throws(DecodingError) -> Wish {
    guard case .object(let members) = try JSONValue(line) else { throw DecodingError("an object is expected", at: 0) }
    var wish = Wish(record: Record(value: nil), partition: nil)
    for member in members {
      switch member.name {
      case "key": wish.record.key = try text(member)
      case "value": wish.record.value = try text(member)
      case "key_base64": wish.record.key = try base64(member)
      case "value_base64": wish.record.value = try base64(member)
      case "headers": wish.record.headers = try headers(member.value)
      case "partition":
        guard let number = member.value.integer, let partition = Int32(exactly: number), partition >= 0 else {
          if member.value == .null { break }
          throw DecodingError("partition must be a whole number from 0", at: 0)
        }
        wish.partition = partition
      case "timestamp":
        guard let time = member.value.integer else {
          throw DecodingError("timestamp must be a whole number of milliseconds", at: 0)
        }
        wish.record.timestamp = Timestamp(milliseconds: time)
      case "topic", "offset": break
      default: throw DecodingError("unknown member \"\(member.name)\"", at: 0)
      }
    }
    return wish
  }

  private static func text(_ member: JSONValue.Member) throws(DecodingError) -> Bytes? {
    switch member.value {
    case .null: return nil
    case .string(let text): return Bytes(text)
    default: throw DecodingError("\(member.name) must be a string or null", at: 0)
    }
  }

  private static func base64(_ member: JSONValue.Member) throws(DecodingError) -> Bytes? {
    guard let bytes = member.value.string.flatMap({ Base64.decode($0) }) else {
      throw DecodingError("\(member.name) must be a string in base 64", at: 0)
    }
    return bytes
  }

  private static func headers(_ value: JSONValue) throws(DecodingError) -> [RecordHeader] {
    var out: [RecordHeader] = []
    switch value {
    case .null: break
    case .object(let members):
      for member in members { out.append(RecordHeader(member.name, try text(member))) }
    case .array(let values):
      for value in values {
        guard case .object(let members) = value, let key = value["key"]?.string else {
          throw DecodingError("a header must be an object with a key", at: 0)
        }
        var header = RecordHeader(key, nil)
        for member in members {
          switch member.name {
          case "key": break
          case "value": header.value = try text(member)
          case "value_base64": header.value = try base64(member)
          default: throw DecodingError("unknown member \"\(member.name)\" of a header", at: 0)
          }
        }
        out.append(header)
      }
    default: throw DecodingError("headers must be an object or an array", at: 0)
    }
    return out
  }
}
