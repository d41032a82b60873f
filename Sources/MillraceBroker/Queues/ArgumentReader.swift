// ArgumentReader: typed values out of the arguments of a declaration, or why one makes no sense.

import MillraceRouting

/// Reads arguments of one declaration. All errors are 406.
struct ArgumentReader {
  private let declaration: QueueDeclaration
  private var arguments: RoutingTable { declaration.arguments }

  init(_ declaration: QueueDeclaration) { self.declaration = declaration }

  func invalid(_ argument: String, _ problem: String) -> RoutingError {
    RoutingError(.preconditionFailed, "invalid arg '\(argument)' for \(declaration.words): \(problem)")
  }

  func has(_ argument: String) -> Bool { arguments[argument] != nil }

  /// The type that is asked for.
  func type() throws(RoutingError) -> QueueType {
    guard let name = try text(QueueType.argument) else { return .classic }
    guard let type = QueueType(rawValue: name) else {
      throw invalid(QueueType.argument, "unsupported queue type '\(name)'")
    }
    return type
  }

  /// What RabbitMQ looks at first.
  func checkFirst() throws(RoutingError) {
    let name = "x-dead-letter-exchange"
    guard let value = arguments[name], value.text == nil else { return }
    throw RoutingError(
      .preconditionFailed, "invalid type '\(value.typeName)' for arg '\(name)' in \(declaration.words)")
  }

  /// Refuses arguments that only other types of queues take.
  func checkKnown(_ type: QueueType) throws(RoutingError) {
    for argument in KnownArgument.all where has(argument.name) && !argument.types.contains(type) {
      throw RoutingError(
        .preconditionFailed, "invalid arg '\(argument.name)' for \(declaration.words) of queue type \(type.module)")
    }
  }

  /// Where a queue's leader is to be: checked and without effect, as there is one place.
  func checkLocator() throws(RoutingError) {
    _ = try choice("x-queue-leader-locator", as: LeaderLocator.self)
  }

  func integer(_ argument: String, _ range: ClosedRange<Int64>) throws(RoutingError) -> Int64? {
    guard let value = arguments[argument] else { return nil }
    guard case .int64(let number) = value else {
      throw invalid(argument, "expected integer, got \(value.typeName)")
    }
    if range.contains(number) { return number }
    if number < 0 { throw invalid(argument, "\(number) is negative") }
    throw invalid(
      argument,
      number > range.upperBound ? "\(number) exceeds \(range.upperBound)" : "\(number) is below \(range.lowerBound)")
  }

  /// A number of messages or bytes.
  func size(_ argument: String) throws(RoutingError) -> Int? {
    try integer(argument, 0...Int64.max).map { Int(clamping: $0) }
  }

  /// The longest time in ms. RabbitMQ limits most to 2³² − 1, but not the TTL: Celery's queues for delays ask for four years.
  static let longestTime: Int64 = 1 << 53

  /// A time.
  func milliseconds(_ argument: String, from lowest: Int64) throws(RoutingError) -> Duration? {
    try integer(argument, lowest...ArgumentReader.longestTime).map { .milliseconds($0) }
  }

  /// A time of Millrace's that RabbitMQ has another name for.
  func retryTime(_ argument: String, or other: String) throws(RoutingError) -> Duration? {
    let own = try milliseconds(argument, from: 0)
    let theirs = try milliseconds(other, from: 0)
    if own != nil, theirs != nil { throw invalid(argument, "\(other) says the same") }
    return own ?? theirs
  }

  func text(_ argument: String) throws(RoutingError) -> String? {
    guard let value = arguments[argument] else { return nil }
    guard let text = value.text else { throw invalid(argument, "expected longstr, got \(value.typeName)") }
    return text
  }

  func flag(_ argument: String) throws(RoutingError) -> Bool? {
    guard let value = arguments[argument] else { return nil }
    guard case .bool(let flag) = value else { throw invalid(argument, "expected bool, got \(value.typeName)") }
    return flag
  }

  /// A number from 0 to 1.
  func fraction(_ argument: String) throws(RoutingError) -> Double? {
    switch arguments[argument] {
    case nil: return nil
    case .double(let number)? where (0...1).contains(number): return number
    case .int64(let number)? where (0...1).contains(number): return Double(number)
    case let value?: throw invalid(argument, "a number from 0 to 1 is expected, not '\(value.words)'")
    }
  }

  func choice<Choice: RawRepresentable<String> & CaseIterable>(
    _ argument: String, as type: Choice.Type = Choice.self
  ) throws(RoutingError) -> Choice? {
    guard let text = try text(argument) else { return nil }
    guard let choice = Choice(rawValue: text) else {
      let names = Choice.allCases.map(\.rawValue).joined(separator: ", ")
      throw invalid(argument, "'\(text)' is none of \(names)")
    }
    return choice
  }

  /// A number and one of the units `Y`, `M`, `D`, `h`, `m`, `s`; a year has 365 days, a month 30.
  func age(_ argument: String) throws(RoutingError) -> Duration? {
    guard let text = try text(argument) else { return nil }
    let units: [Character: Int64] = ["Y": 31_536_000, "M": 2_592_000, "D": 86_400, "h": 3600, "m": 60, "s": 1]
    if let unit = text.last.flatMap({ units[$0] }), text.dropLast().allSatisfy({ ("0"..."9").contains($0) }),
      let count = Int64(text.dropLast()), count > 0
    {
      let (seconds, overflow) = count.multipliedReportingOverflow(by: unit)
      if !overflow { return .seconds(seconds) }
    }
    throw invalid(argument, "'\(text)' is no number above 0 with a unit of Y, M, D, h, m or s")
  }
}

private enum LeaderLocator: String, CaseIterable {
  case clientLocal = "client-local"
  case balanced
  case leastLeaders = "least-leaders"
  case random
}
