// PermissionPattern: RabbitMQ's regular expressions of permissions, as far as rules can say the same: names, and beginnings of names.
//
//   pattern      = branch *( "|" branch )                  empty: no name at all, as in RabbitMQ
//   branch       = "^" sequence [ "$" ]                    without "$" any name that begins so
//                / ".*" [ "$" ]
//   sequence     = *( character / "\" punctuation / group ) [ ".*" ]
//   group        = "(" sequence *( "|" sequence ) ")"      also "(?:"
//
// Everything else, `^a+`, `[ab]`, `a` without `^`, says something that no rule can, and is refused: a rule that says nearly the
// same would give more rights, or fewer. The translation is exact both ways: of names without line ends, which `$` and `.` treat
// in ways of their own, and which no queue of rules has.

/// Names as a permission of RabbitMQ's means them.
public struct PermissionPattern: Equatable, Sendable {
  /// One name, or all names that begin so.
  public struct Part: Hashable, Comparable, Sendable {
    /// The name or its beginning.
    public var text: String
    /// Whether more may follow.
    public var isPrefix: Bool

    /// A part.
    public init(_ text: String, isPrefix: Bool) {
      self.text = text
      self.isPrefix = isPrefix
    }

    /// By text, names first.
    public static func < (left: Part, right: Part) -> Bool {
      left.text == right.text ? !left.isPrefix && right.isPrefix : left.text < right.text
    }

    /// Whether every name that `other` means is one of this.
    func covers(_ other: Part) -> Bool {
      isPrefix ? other.text.utf8.starts(with: text.utf8) : self == other
    }
  }

  /// Why an expression has no counterpart.
  public struct Refusal: Error, Equatable {
    /// In words, with the place.
    public let reason: String
  }

  /// In order, none covered by another.
  public let parts: [Part]

  /// Longest expression, in bytes. Source: this server's limit on names in rules.
  public static let longest = 1024
  /// Most parts of one.
  public static let mostParts = 64

  /// The names of `parts`; what others cover is left out, and so is the name without a character, which nothing has.
  public init(_ parts: some Sequence<Part>) {
    let all = Set(parts).filter { $0.isPrefix || !$0.text.isEmpty }
    self.parts = all.filter { part in !all.contains { $0 != part && $0.covers(part) } }.sorted()
  }

  /// Reads an expression.
  /// - Throws: what in it no rule can say.
  public init(_ expression: String) throws(Refusal) {
    guard expression.utf8.count <= PermissionPattern.longest else {
      throw Refusal(reason: "an expression of more than \(PermissionPattern.longest) bytes")
    }
    var reader = Reader(expression)
    self.init(expression.isEmpty ? [] : try reader.pattern())
  }

  /// The expression that means the same: `.*` for everything, `^$` for nothing.
  public var expression: String {
    if parts.isEmpty { return "^$" }
    return parts.map { part in
      if part.isPrefix { return part.text.isEmpty ? ".*" : "^\(PermissionPattern.escaped(part.text)).*" }
      return "^\(PermissionPattern.escaped(part.text))$"
    }.joined(separator: "|")
  }

  private static let special: Set<Unicode.Scalar> = [
    "\\", "^", "$", ".", "[", "]", "|", "(", ")", "?", "*", "+", "{", "}",
  ]

  private static func escaped(_ text: String) -> String {
    var escaped = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
      if special.contains(scalar) { escaped.append("\\") }
      escaped.append(scalar)
    }
    return String(escaped)
  }

  // MARK: Reading

  private struct Reader {
    // Single code points, as for whoever compiles the expression: a mark that combines with a point hides none.
    private let characters: [Unicode.Scalar]
    private var at = 0

    init(_ text: String) { characters = Array(text.unicodeScalars) }

    private func refusal(_ what: String) -> Refusal {
      Refusal(
        reason:
          "\(what) at character \(at + 1): rules know whole names (^name$), beginnings (^name.*) and lists of those (^a$|^b.*)"
      )
    }

    private var next: Unicode.Scalar? { at < characters.count ? characters[at] : nil }

    private mutating func take(_ text: String) -> Bool {
      let wanted = Array(text.unicodeScalars)
      guard characters[at...].starts(with: wanted) else { return false }
      at += wanted.count
      return true
    }

    mutating func pattern() throws(Refusal) -> [Part] {
      var found: [Part] = []
      repeat {
        found += try branch()
        guard found.count <= PermissionPattern.mostParts else {
          throw Refusal(reason: "more than \(PermissionPattern.mostParts) alternatives")
        }
      } while take("|")
      guard next == nil else { throw refusal("\"\(characters[at])\" that has no place") }
      return found
    }

    private mutating func branch() throws(Refusal) -> [Part] {
      guard take("^") else {
        guard take(".*") else {
          // An empty branch is found in every name.
          if next == nil || next == "|" { return [Part("", isPrefix: true)] }
          throw refusal("a part that does not begin with ^")
        }
        _ = take("$")
        try mustEnd()
        return [Part("", isPrefix: true)]
      }
      var found = try sequence()
      if !take("$") { found = found.map { Part($0.text, isPrefix: true) } }
      try mustEnd()
      return found
    }

    private func mustEnd() throws(Refusal) {
      guard next == nil || next == "|" else { throw refusal("\"\(characters[at])\" behind the end of a part") }
    }

    /// Up to the end of a branch or a group.
    private mutating func sequence() throws(Refusal) -> [Part] {
      var found = [Part("", isPrefix: false)]
      while let character = next, character != "|", character != ")", character != "$" {
        let piece: [Part]
        switch character {
        case "(": piece = try group()
        case ".":
          guard take(".*") else { throw refusal("a . for any one character (a point is \\.)") }
          piece = [Part("", isPrefix: true)]
        case "\\":
          guard at + 1 < characters.count, characters[at + 1].isPunctuationOfASCII else {
            throw refusal("an escape that is none of punctuation")
          }
          piece = [Part(String(characters[at + 1]), isPrefix: false)]
          at += 2
        case "*", "+", "?", "{", "[", "^": throw refusal("\"\(character)\"")
        default:
          guard character.value >= 0x20 else { throw refusal("a control character") }
          piece = [Part(String(character), isPrefix: false)]
          at += 1
        }
        if let next, ["*", "+", "?", "{"].contains(next) { throw refusal("a repetition, \"\(next)\",") }
        found = try joined(found, piece)
      }
      return found
    }

    private mutating func group() throws(Refusal) -> [Part] {
      at += 1
      if next == "?", !take("?:") { throw refusal("a special group") }
      var found: [Part] = []
      repeat { found += try sequence() } while take("|")
      guard take(")") else {
        throw refusal(next == nil ? "a group that does not end" : "\"\(characters[at])\" inside a group")
      }
      return found
    }

    private func joined(_ left: [Part], _ right: [Part]) throws(Refusal) -> [Part] {
      guard left.count * right.count <= PermissionPattern.mostParts else {
        throw Refusal(reason: "more than \(PermissionPattern.mostParts) alternatives")
      }
      var found: [Part] = []
      for one in left {
        for other in right {
          guard !one.isPrefix || other.text.isEmpty else { throw refusal("something behind .*") }
          found.append(Part(one.text + other.text, isPrefix: one.isPrefix || other.isPrefix))
        }
      }
      return found
    }
  }
}

extension Unicode.Scalar {
  fileprivate var isPunctuationOfASCII: Bool {
    switch self {
    case "0"..."9", "A"..."Z", "a"..."z": false
    default: (0x21...0x7e).contains(value)
    }
  }
}
