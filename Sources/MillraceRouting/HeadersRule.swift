// HeadersRule: what a binding of a headers exchange asks of a message's headers.
//
// x-match: `all` (also when it is missing) asks for every argument, `any` for one of them; both look past arguments whose
// name begins with "x-". `all-with-x` and `any-with-x` look at those too, except x-match itself. An argument without a
// value asks only that the header is there. No argument at all: `all` fits every message, `any` none.
// Source: RabbitMQ 4, `rabbit_exchange_type_headers`.

import MillraceBase

struct HeadersRule {
  let binding: Int32
  private let needsAll: Bool
  private let fields: [RoutingTable.Field]

  init(_ arguments: RoutingTable, binding: Int32) {
    let mode = arguments["x-match"]?.text ?? "all"
    let withX = mode.hasSuffix("-with-x")
    self.binding = binding
    needsAll = !mode.hasPrefix("any")
    fields = arguments.fields.filter { withX ? $0.name != "x-match" : !$0.name.hasPrefix("x-") }
  }

  func fits(_ headers: RoutingTable) -> Bool {
    for field in fields where HeadersRule.fits(field, headers) != needsAll { return !needsAll }
    return needsAll
  }

  private static func fits(_ field: RoutingTable.Field, _ headers: RoutingTable) -> Bool {
    guard let value = headers[field.name] else { return false }
    return field.value == .null || field.value == value
  }

  /// Refuses an x-match that means nothing, in RabbitMQ's words.
  static func check(_ arguments: RoutingTable) throws(RoutingError) {
    switch arguments["x-match"] {
    case nil: return
    case .string(let bytes)?:
      if ["all", "any", "all-with-x", "any-with-x"].contains(bytes.text) { return }
      throw RoutingError(
        .preconditionFailed,
        "Invalid x-match field value <<\"\(bytes.text)\">>; expected all, any, all-with-x, or any-with-x")
    case let other?:
      throw RoutingError(
        .preconditionFailed,
        "Invalid x-match field type \(other.typeName) (value \(other.words)); expected longstr")
    }
  }
}
