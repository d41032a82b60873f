// PrincipalMapping: which principal a certificate's subject is.
//
//   mapping  = "" | "DN" | "CN" | rule { "," rule }
//   rule     = "DEFAULT" | "RULE:" pattern "/" replacement "/" [ "L" | "U" ]
//
// Rules are tried in order; the first whose pattern is the whole name gives the principal. In pattern and replacement a backslash protects a
// slash. In the replacement `$0` to `$99` stand for groups; a `$` with a number that is none stands for itself, and loses digits from the
// right until it is one, as in Kafka.
// Source: Kafka, `ssl.principal.mapping.rules` and `SslPrincipalMapper` (KIP-371, KIP-492); RabbitMQ, `ssl_cert_login_from`.

import MillracePattern

/// Rules that make principals of certificates' subjects.
public struct PrincipalMapping: Sendable, Equatable {
  private enum Rule: Sendable, Equatable {
    case name
    case commonName
    case pattern(String, replacement: [Part], Letters)
  }

  private enum Letters: Sendable { case asTheyAre, lower, upper }

  private enum Part: Sendable, Equatable {
    case text(String)
    case group(Int)
  }

  /// Longest text of rules, in bytes.
  public static let longestText = 16 * 1024
  /// Most rules.
  public static let mostRules = 32

  /// The principal is the name as a whole, as in Kafka without rules.
  public static let distinguishedName = PrincipalMapping(rules: [.name], text: "DEFAULT")
  /// The principal is the common name, as in RabbitMQ with `ssl_cert_login_from = common_name`.
  public static let commonName = PrincipalMapping(rules: [.commonName], text: "CN")

  private let rules: [Rule]
  /// The setting that it came from.
  public let text: String

  private init(rules: [Rule], text: String) {
    self.rules = rules
    self.text = text
  }

  /// Reads a setting: rules of Kafka's, `DN`, `CN`, or nothing, which is `DN`.
  /// - Throws: what is wrong, and at which byte: no rule, a pattern that ``MillracePattern/Pattern`` refuses, a named group, more than 16 KiB or
  ///   32 rules.
  public init(_ text: String) throws(SecuritySettingError) {
    guard text.utf8.count <= PrincipalMapping.longestText else {
      throw SecuritySettingError("rules of \(text.utf8.count) bytes; \(PrincipalMapping.longestText) are allowed")
    }
    var parser = Parser(bytes: Array(text.utf8))
    let word = parser.word
    self.text = text
    switch word {
    case "", "DN": rules = [.name]
    case "CN": rules = [.commonName]
    default: rules = try parser.rules()
    }
    for case .pattern(let pattern, let replacement, _) in rules {
      let groups: Int
      do throws(PatternError) { groups = try Pattern(pattern, capturing: true).groupCount } catch {
        throw SecuritySettingError("\(error)")
      }
      _ = PrincipalMapping.resolved(replacement, groups)
    }
  }

  /// The principal of a certificate.
  /// - Parameter name: the subject as RFC 2253 writes it, characters beyond ASCII as they are, not escaped.
  /// - Throws: `.unmappedCertificate` when no rule fits, matching takes too long, or the result is a name that no principal can have:
  ///   empty, longer than 1,024 bytes, with control characters, `*` or `ANONYMOUS`.
  /// - Complexity: each rule's pattern is compiled anew, some 10 µs, and matched within ``MillracePattern/Pattern``'s limits.
  public func principal(of name: String) throws(AuthenticationError) -> Principal {
    guard name.utf8.count <= DistinguishedName.longest else {
      throw DistinguishedName.refusal("\(name.utf8.count) bytes; \(DistinguishedName.longest) are allowed")
    }
    for rule in rules {
      guard let result = try apply(rule, name) else { continue }
      guard PrincipalName.isValid(result) else {
        throw DistinguishedName.refusal("a name of \(result.utf8.count) bytes that no principal can have")
      }
      return Principal(result)
    }
    throw DistinguishedName.refusal("no rule fits")
  }

  private func apply(_ rule: Rule, _ name: String) throws(AuthenticationError) -> String? {
    switch rule {
    case .name: return name
    case .commonName: return try DistinguishedName(name).commonName()
    case .pattern(let pattern, let replacement, let letters):
      let groups: [String?]?
      do throws(PatternError) { groups = try Pattern(pattern, capturing: true).groups(in: name) } catch {
        throw DistinguishedName.refusal("\(error)")
      }
      guard let groups else { return nil }
      var result = ""
      for part in PrincipalMapping.resolved(replacement, groups.count - 1) {
        switch part {
        case .text(let text): result += text
        case .group(let number): result += groups[number] ?? ""
        }
      }
      return switch letters {
      case .asTheyAre: result
      case .lower: result.lowercased()
      case .upper: result.uppercased()
      }
    }
  }

  /// The replacement for a pattern with so many groups: a number that is too high loses digits, or is text.
  private static func resolved(_ replacement: [Part], _ groups: Int) -> [Part] {
    var out: [Part] = []
    for part in replacement {
      guard case .group(var number) = part, number > groups else {
        out.append(part)
        continue
      }
      var rest = ""
      while number > groups, number >= 10 {
        rest = "\(number % 10)\(rest)"
        number /= 10
      }
      out += number > groups ? [.text("$\(number)\(rest)")] : [.group(number), .text(rest)]
    }
    return out
  }

  private struct Parser {
    let bytes: [UInt8]
    var at = 0

    /// The whole text without spaces around it.
    var word: String { String(decoding: bytes, as: UTF8.self).trimmed }

    private func starts(with text: String) -> Bool { bytes[at...].starts(with: text.utf8) }

    private func error(_ what: String) -> SecuritySettingError {
      SecuritySettingError("rules for certificates: \(what) at byte \(at)")
    }

    mutating func rules() throws(SecuritySettingError) -> [Rule] {
      var rules: [Rule] = []
      while true {
        skipSpace()
        if at < bytes.count, bytes[at] != UInt8(ascii: ",") {
          guard rules.count < PrincipalMapping.mostRules else {
            throw error("more than \(PrincipalMapping.mostRules) rules")
          }
          rules.append(try rule())
          skipSpace()
        }
        guard at < bytes.count else { break }
        guard bytes[at] == UInt8(ascii: ",") else { throw error("a comma or the end is expected") }
        at += 1
      }
      guard !rules.isEmpty else { throw error("no rule") }
      return rules
    }

    private mutating func skipSpace() {
      while at < bytes.count, bytes[at] == 0x20 || bytes[at] == 0x09 || bytes[at] == 0x0a || bytes[at] == 0x0d {
        at += 1
      }
    }

    private mutating func rule() throws(SecuritySettingError) -> Rule {
      if starts(with: "DEFAULT") {
        at += 7
        return .name
      }
      guard starts(with: "RULE:") else { throw error("DEFAULT or RULE: is expected") }
      at += 5
      let pattern = try untilSlash()
      let replacement = try PrincipalMapping.parts(try untilSlash()) { [at] in
        SecuritySettingError("rules for certificates: \($0) before byte \(at)")
      }
      var letters = Letters.asTheyAre
      if starts(with: "L") { letters = .lower } else if starts(with: "U") { letters = .upper }
      if letters != .asTheyAre { at += 1 }
      return .pattern(String(decoding: pattern, as: UTF8.self), replacement: replacement, letters)
    }

    /// What stands before the next slash without a backslash; passes over the slash.
    private mutating func untilSlash() throws(SecuritySettingError) -> ArraySlice<UInt8> {
      let start = at
      while at < bytes.count {
        if bytes[at] == UInt8(ascii: "/") {
          at += 1
          return bytes[start..<(at - 1)]
        }
        at += bytes[at] == UInt8(ascii: "\\") ? 2 : 1
      }
      at = start
      throw error("a slash is missing behind what begins")
    }
  }

  private static func parts(
    _ replacement: ArraySlice<UInt8>, _ refusal: (String) -> SecuritySettingError
  ) throws(SecuritySettingError) -> [Part] {
    var parts: [Part] = []
    var text: [UInt8] = []
    func flushed() -> [Part] { text.isEmpty ? [] : [.text(String(decoding: text, as: UTF8.self))] }
    var rest = replacement
    while let byte = rest.popFirst() {
      switch byte {
      case UInt8(ascii: "\\"):
        guard let protected = rest.popFirst() else { throw refusal("a backslash at the end of a replacement") }
        text.append(protected)
      case UInt8(ascii: "$"):
        let digits = rest.prefix { (0x30...0x39).contains($0) }
        if rest.first == UInt8(ascii: "{") { throw refusal("named groups are not supported") }
        guard !digits.isEmpty else { throw refusal("a $ without a number, which a backslash would protect") }
        guard digits.count <= 2, let number = Int(String(decoding: digits, as: UTF8.self)) else {
          throw refusal("a group's number with more than two digits")
        }
        parts += flushed() + [.group(number)]
        text = []
        rest = rest.dropFirst(digits.count)
      default: text.append(byte)
      }
    }
    return parts + flushed()
  }
}

extension String {
  /// Without spaces, tabs and line ends at both ends.
  fileprivate var trimmed: String {
    let isSpace: (Unicode.Scalar) -> Bool = { [" ", "\t", "\n", "\r"].contains($0) }
    var view = unicodeScalars[...]
    while let first = view.first, isSpace(first) { view.removeFirst() }
    while let last = view.last, isSpace(last) { view.removeLast() }
    return String(view)
  }
}
