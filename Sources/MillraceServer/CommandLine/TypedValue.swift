// TypedValue: what the text behind `NAME=` stands for in arguments and headers: a bool, a number or a text.

import MillraceAMQPProtocol
import MillraceRouting

/// A value as it is typed.
///
/// `true` and `false` are bools, decimal numbers as they would be written are numbers, everything else is text. So is
/// what stands in double quotes, without them: `x-dead-letter-routing-key='"5"'`.
enum TypedValue: Equatable {
  case bool(Bool)
  case integer(Int64)
  case fraction(Double)
  case text(String)

  init(_ text: String) {
    if text == "true" || text == "false" {
      self = .bool(text == "true")
    } else if let number = Int64(text), String(number) == text {
      // An id such as 007 or +5 is no number.
      self = .integer(number)
    } else if text.contains(where: { ".eE".contains($0) }),
      text.utf8.allSatisfy({ "0123456789+-.eE".utf8.contains($0) }),
      text.utf8.first.map({ $0 == UInt8(ascii: "-") || (0x30...0x39).contains($0) }) ?? false,
      let number = Double(text), number.isFinite
    {
      self = .fraction(number)
    } else if text.count >= 2, text.hasPrefix("\""), text.hasSuffix("\"") {
      self = .text(String(text.dropFirst().dropLast()))
    } else {
      self = .text(text)
    }
  }

  var routing: RoutingValue {
    switch self {
    case .bool(let value): .bool(value)
    case .integer(let value): .int64(value)
    case .fraction(let value): .double(value)
    case .text(let text): .string(text)
    }
  }

  var amqp: AMQPValue {
    switch self {
    case .bool(let value): .bool(value)
    case .integer(let value): AMQPValue(integerLiteral: value)
    case .fraction(let value): .double(value)
    case .text(let text): .string(text)
    }
  }
}

extension Arguments {
  /// The values of an option of type `.assignment`, each name once.
  /// - Throws: `.usage`, naming the name that stands twice or is too long.
  func typed(_ option: String) throws(CommandFailure) -> [(name: String, value: TypedValue)] {
    var names: Set<String> = []
    var typed: [(String, TypedValue)] = []
    for (name, value) in assignments(option) {
      guard names.insert(name).inserted else { throw CommandFailure(.usage, "\(option) \(name) stands there twice") }
      guard name.utf8.count <= ShortString.limit else {
        throw CommandFailure(.usage, "\(option): a name of \(name.utf8.count) bytes, at most \(ShortString.limit) fit")
      }
      typed.append((name, TypedValue(value)))
    }
    return typed
  }

  /// `--argument`, as arguments of a declaration or binding.
  func routingArguments() throws(CommandFailure) -> [RoutingTable.Field] {
    try typed("--argument").map { RoutingTable.Field($0.name, $0.value.routing) }
  }
}
