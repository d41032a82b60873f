// Finding: one thing that `millrace doctor` has looked at, and what it advises.

import MillraceBase

/// What is to be said of one thing.
struct Finding: Equatable, Sendable {
  /// How much it matters.
  enum Result: String, Sendable {
    case ok
    /// Worth knowing.
    case note
    /// Something should be done.
    case warning
    /// Something should be done, because acknowledged data may get lost.
    case danger
  }

  /// What was looked at, in a word or two.
  var area: String
  var result: Result
  /// What was found, with the figures.
  var text: String
  /// What to do; empty when nothing is to be done.
  var advice = ""

  init(_ area: String, _ result: Result, _ text: String, advice: String = "") {
    self.area = area
    self.result = result
    self.text = text
    self.advice = advice
  }
}

/// Findings as text and as JSON.
enum FindingsText {
  /// A line for each, and its advice below it.
  static func list(_ findings: [Finding]) -> String {
    let width = findings.map(\.area.count).max() ?? 0
    return findings.map { one in
      let result = one.result.rawValue.padded(7)
      let line = "\(result)  \(one.area.padded(width))  \(LogRedaction.printable(one.text))\n"
      guard !one.advice.isEmpty else { return line }
      return line + String(repeating: " ", count: width + 11) + "→ " + LogRedaction.printable(one.advice) + "\n"
    }.joined()
  }

  /// One line.
  static func json(_ findings: [Finding]) -> String {
    var json = JSONWriter()
    json.object { json in
      json.name("findings")
      json.array { json in
        for one in findings {
          json.object { json in
            json.name("area")
            json.string(one.area)
            json.name("result")
            json.string(one.result.rawValue)
            json.name("text")
            json.string(one.text)
            json.name("advice")
            json.string(one.advice)
          }
        }
      }
    }
    return json.text + "\n"
  }
}

extension String {
  fileprivate func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(0, width - count)) }
}
