// PatternSyntax: refuses what PCRE2 knows beyond RE2: back references, assertions about surroundings, recursion, verbs.
//
// One pass over the bytes. What is left to PCRE2 is malformed in both, or means the same in both for topic names.
// Source: RE2, "Syntax".

enum PatternSyntax {
  private static let escapes = Set("AbBdDsSwWpPQEzafnrtvx0".utf8)
  private static let letters = UInt8(ascii: "a")...UInt8(ascii: "z")
  private static let capitals = UInt8(ascii: "A")...UInt8(ascii: "Z")
  private static let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
  private static let flags = Set("imsU-".utf8)
  private static let repetitions = Set("*+?".utf8)

  /// - Throws: what RE2 does not know, with its position.
  static func check(_ text: [UInt8]) throws(PatternError) {
    var at = 0
    func byte(_ offset: Int) -> UInt8 { at + offset < text.count ? text[at + offset] : 0 }
    func refuse(_ what: String) -> PatternError {
      PatternError("\"\(String(decoding: text, as: UTF8.self))\" at byte \(at): \(what)")
    }
    while at < text.count {
      switch text[at] {
      case UInt8(ascii: "\\"):
        let next = byte(1)
        let isWord = letters.contains(next) || capitals.contains(next) || digits.contains(next)
        guard !isWord || escapes.contains(next) else {
          throw refuse("\\\(Character(UnicodeScalar(next))) is not supported")
        }
        at += next == UInt8(ascii: "Q") ? literalLength(text, at) : 2
      case UInt8(ascii: "["):
        at += classLength(text, at)
      case UInt8(ascii: "("):
        if byte(1) == UInt8(ascii: "*") { throw refuse("(* is not supported") }
        if byte(1) == UInt8(ascii: "?"), !isKnownGroup(text[(at + 2)...]) {
          throw refuse("this kind of group is not supported")
        }
        at += byte(1) == UInt8(ascii: "?") ? 2 : 1
      case let one where repetitions.contains(one) && byte(1) == UInt8(ascii: "+"):
        throw refuse("a repetition of a repetition")
      default: at += 1
      }
    }
  }

  /// `\Q…\E`, or to the end.
  private static func literalLength(_ text: [UInt8], _ start: Int) -> Int {
    var at = start + 2
    while at < text.count {
      if text[at] == UInt8(ascii: "\\"), at + 1 < text.count, text[at + 1] == UInt8(ascii: "E") {
        return at + 2 - start
      }
      at += 1
    }
    return at - start
  }

  /// `[…]`, in which only escapes, named classes and a first `]` are special; or to the end.
  private static func classLength(_ text: [UInt8], _ start: Int) -> Int {
    var at = start + 1
    if at < text.count, text[at] == UInt8(ascii: "^") { at += 1 }
    if at < text.count, text[at] == UInt8(ascii: "]") { at += 1 }
    while at < text.count, text[at] != UInt8(ascii: "]") {
      let isNamed = text[at] == UInt8(ascii: "[") && at + 1 < text.count && text[at + 1] == UInt8(ascii: ":")
      if isNamed, let end = text[(at + 2)...].firstIndex(of: UInt8(ascii: "]")) {
        at = end + 1
      } else {
        at += text[at] == UInt8(ascii: "\\") ? 2 : 1
      }
    }
    return min(at + 1, text.count) - start
  }

  /// What follows `(?`: flags, a group without capture, or a name.
  private static func isKnownGroup(_ rest: ArraySlice<UInt8>) -> Bool {
    let end = rest.firstIndex { !flags.contains($0) } ?? rest.endIndex
    if end < rest.endIndex, rest[end] == UInt8(ascii: ":") { return true }
    if end > rest.startIndex { return end < rest.endIndex && rest[end] == UInt8(ascii: ")") }
    let name = rest.first == UInt8(ascii: "P") ? rest.dropFirst() : rest
    guard name.first == UInt8(ascii: "<"), let second = name.dropFirst().first else { return false }
    return letters.contains(second) || capitals.contains(second) || second == UInt8(ascii: "_")
  }
}
