// PermissionPatternTests: RabbitMQ's expressions as names and beginnings of names, and back; what has no counterpart is refused.

import Foundation
import MillraceBase
import Testing

@testable import MillraceBroker

private func parts(_ expression: String) throws -> [String] {
  try PermissionPattern(expression).parts.map { $0.text + ($0.isPrefix ? "*" : "") }
}

@Test("expressions that mean names and beginnings of names are read as those")
func readsExpressions() throws {
  for (expression, expected) in [
    ("", []), ("^$", []), (".*", ["*"]), (".*$", ["*"]), ("^.*$", ["*"]), ("^.*", ["*"]), ("^", ["*"]), ("|", ["*"]),
    ("^q$", ["q"]), ("^q", ["q*"]), ("^q.*", ["q*"]), ("^q.*$", ["q*"]), (#"^amq\.gen-.*"#, ["amq.gen-*"]),
    ("^(a|b)$", ["a", "b"]), ("^(?:a|b).*", ["a*", "b*"]), ("^a$|^b.*", ["a", "b*"]), ("^(a.*|b)$", ["a*", "b"]),
    ("^x(a|b(c|d))y$", ["xay", "xbcy", "xbdy"]), ("^(a|)$", ["a"]), ("^a.*|^ab$", ["a*"]), ("^a$|^$", ["a"]),
    (#"^a\$\|b$"#, ["a$|b"]), ("^()q$", ["q"]), ("^ü/ß$", ["ü/ß"]), ("^q$|^q$", ["q"]), ("^.*|^x$", ["*"]),
  ] as [(String, [String])] {
    #expect(try parts(expression) == expected, "\(expression)")
  }
}

@Test("what rules cannot say is refused with the place and the reason")
func refusesExpressions() {
  for expression in [
    "q", "q$", ".*q", "^.*q$", "^q.q$", "^[ab]$", "^a+$", "^a?$", "^a*$", "^a{2}$", "^(a)*$", #"^\d$"#, #"^a\"#,
    "^a|b$",
    "^(a", "^a)", "^(?i)a$", "^(?=a)", "^a^b", "^a$b", ".*.*", ".", "(^a$)", "^(a$|b)", "^.*?$", "^.*+", "^a\nb$",
    "^(a.*|b)c$", "^e\u{301}.$", String(repeating: "^a|", count: 100) + "^b", "^" + String(repeating: "a", count: 1024),
    "^(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)(a|b)$",
  ] {
    do throws(PermissionPattern.Refusal) {
      let read = try PermissionPattern(expression)
      Issue.record("\(expression) was read as \(read.parts)")
    } catch {
      #expect(!error.reason.isEmpty)
    }
  }
}

@Test("an expression that is written is read as what it was written of")
func everyExpressionReturns() throws {
  for parts in [
    [], [PermissionPattern.Part("", isPrefix: true)], [.init("q", isPrefix: false)], [.init("q", isPrefix: true)],
    [.init("a.b*c", isPrefix: false), .init("x[1]", isPrefix: true)], [.init(#"\^$|()?+{}"#, isPrefix: false)],
  ] {
    let pattern = PermissionPattern(parts)
    #expect(try PermissionPattern(pattern.expression) == pattern, "\(pattern.expression)")
  }
  #expect(PermissionPattern([]).expression == "^$")
  #expect(PermissionPattern([.init("a.b", isPrefix: false), .init("c", isPrefix: true)]).expression == #"^a\.b$|^c.*"#)
}

@Test("random expressions mean the same names as the regular expressions that they are")
func agreesWithRegularExpressions() throws {
  let seed = UInt64.random(in: .min ... .max)
  var random = SeededRandom(seed: seed)
  func pick(_ texts: [String]) -> String { texts[Int(random.next() % UInt64(texts.count))] }
  var read = 0
  for _ in 0..<3000 {
    let expression = (0..<Int(random.next() % 9)).map { _ in
      pick(["^", "$", "a", "b", ".*", "|", "(", ")", #"\."#, ".", "?:", "*", "^a", "b$"])
    }.joined()
    guard !expression.isEmpty, let pattern = try? PermissionPattern(expression) else { continue }
    let regex = try NSRegularExpression(pattern: expression)
    read += 1
    for name in ["a", "b", "ab", "ba", "a.", ".", "aab", "abc", "bb", "x", ".a"] {
      let isMeant = regex.firstMatch(in: name, range: NSRange(name.startIndex..., in: name)) != nil
      let isOurs = pattern.parts.contains { $0.isPrefix ? name.hasPrefix($0.text) : name == $0.text }
      #expect(isMeant == isOurs, "\(expression) and \(name), seed \(seed)")
    }
  }
  #expect(read > 100)
}
