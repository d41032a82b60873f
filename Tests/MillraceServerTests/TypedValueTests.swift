// TypedValueTests: what the text behind NAME= stands for, and how queues' times and texts are shown.

import MillraceBase
import MillraceDelivery
import MillraceRouting
import Testing

@testable import MillraceServer

@Test("bools, numbers and texts are told apart by how they are written")
func typedValues() {
  let expected: [(String, TypedValue)] = [
    ("true", .bool(true)), ("false", .bool(false)), ("True", .text("True")), ("0", .integer(0)), ("-5", .integer(-5)),
    ("9223372036854775807", .integer(.max)), ("9223372036854775808", .text("9223372036854775808")),
    ("007", .text("007")), ("+5", .text("+5")), ("-0", .text("-0")), ("0.5", .fraction(0.5)),
    ("-1e3", .fraction(-1000)),
    ("1.", .text("1.")), (".5", .text(".5")), ("nan", .text("nan")), ("inf", .text("inf")), ("0x10", .text("0x10")),
    ("1e999", .text("1e999")), ("e", .text("e")), ("-", .text("-")), ("1-2", .text("1-2")), ("1.2.3", .text("1.2.3")),
    ("", .text("")), ("\"5\"", .text("5")), ("\"\"", .text("")), ("\"", .text("\"")), ("\"true\"", .text("true")),
    ("\"a", .text("\"a")), ("x=y", .text("x=y")), ("Grüße", .text("Grüße")),
  ]
  for (text, value) in expected where text != "1." { #expect(TypedValue(text) == value, "\(text)") }
}

@Test("values go to AMQP and to routing with their types")
func typedValuesAreKept() {
  #expect(TypedValue("5").routing == .int64(5) && TypedValue("5").amqp == .int32(5))
  #expect(TypedValue("5000000000").amqp == .int64(5_000_000_000))
  #expect(TypedValue("\"5\"").routing == .string("5") && TypedValue("\"5\"").amqp == .string("5"))
  #expect(TypedValue("true").routing == .bool(true) && TypedValue("0.5").routing == .double(0.5))
}

@Test("a name that stands twice, or is too long for AMQP, is refused")
func typedNames() throws {
  func parsed(_ words: String...) throws(CommandFailure) -> [RoutingTable.Field] {
    guard case .run(_, let arguments) = try MillraceCommand.choose(["queue", "declare", "q"] + words) else { return [] }
    return try arguments.routingArguments()
  }
  #expect(try parsed("--argument", "a=1", "--argument", "b=x") == [.init("a", .int64(1)), .init("b", .string("x"))])
  #expect(throws: CommandFailure.self) { try parsed("--argument", "a=1", "--argument", "a=1") }
  #expect(throws: CommandFailure.self) { try parsed("--argument", String(repeating: "a", count: 256) + "=1") }
  #expect(throws: Never.self) { try parsed("--argument", String(repeating: "a", count: 255) + "=1") }
}

@Test("operands that may be left out may be, from the end")
func optionalOperands() throws {
  func operands(_ words: [String]) throws -> [String] {
    guard case .run(_, let arguments) = try MillraceCommand.choose(words) else { return [] }
    return arguments.operands
  }
  #expect(
    try operands(["bind"]) == [] && operands(["bind", "e"]) == ["e"] && operands(["bind", "e", "q"]) == ["e", "q"])
  #expect(throws: CommandFailure.self) { try operands(["bind", "e", "q", "r"]) }
  #expect(throws: CommandFailure.self) { try operands(["unbind", "e"]) }
  #expect(try operands(["queue", "publish", "q", ""]) == ["q", ""])
}

@Test("positions are read as they are shown")
func positions() {
  for position in [Position(lane: 0, offset: 0), Position(lane: 255, offset: .max)] {
    #expect(Position(typed: "\(position)") == position)
  }
  for text in ["", "5", ":", "0:", ":0", "256:0", "0:-1", "0:9223372036854775808", "0:0:0", "a:b", " 0:0"] {
    #expect(Position(typed: text) == nil, "\(text)")
  }
}

@Test("times are shown as they are read")
func times() {
  for (milliseconds, text) in [
    (0, "1970-01-01T00:00:00.000Z"), (951_782_400_001, "2000-02-29T00:00:00.001Z"), (-1, "1969-12-31T23:59:59.999Z"),
    (1_795_797_913_819, "2026-11-27T16:45:13.819Z"), (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
  ] {
    #expect(Shown.time(Timestamp(milliseconds: Int64(milliseconds))) == text)
  }
}

@Test("what would do something to a terminal is shown instead")
func safeTexts() {
  #expect(Shown.safe("plain Grüße 漢字") == "plain Grüße 漢字")
  #expect(Shown.safe("a\u{1b}[2J\n\u{202e}b\u{7f}\u{9b}") == "a\\u{1b}[2J\\u{a}\\u{202e}b\\u{7f}\\u{9b}")
}
