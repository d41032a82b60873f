// Pattern: one compiled regular expression that names topics, or takes names apart, with bounded work for compiling and matching.
//
// Clients write RE2's syntax, whose matching time is linear. PCRE2 understands it and searches by backtracking, so what
// RE2 does not know is refused (PatternSyntax.swift), and every search has limits.
// Sources: RE2, "Syntax"; pcre2api(3), "The match context".

import CPCRE2

/// Why a regular expression was refused.
public struct PatternError: Error, Equatable, CustomStringConvertible {
  /// What is wrong, and where.
  public let description: String

  init(_ description: String) { self.description = description }
}

/// A compiled regular expression, matched against whole names.
///
/// May be used by one thread at a time.
public final class Pattern {
  /// Most bytes of an expression.
  public static let longestText = 4096
  /// Steps that nearly all searches end in.
  static let fewSteps: UInt32 = 1000
  /// Steps that a search may take at most; about a millisecond.
  static let mostSteps: UInt32 = 50_000
  /// Memory that a search may use at most, in KiB.
  static let mostMemory: UInt32 = 256
  /// Names in one call that may need more than ``fewSteps``.
  static let mostSlowNames = 100
  private static let deepestNesting: UInt32 = 50

  /// The expression.
  public let text: String
  // Safety: all three are made in `init`, never change, and are freed in `deinit` alone.
  private let code: OpaquePointer
  private let context: OpaquePointer
  private let match: OpaquePointer
  /// Groups in parentheses that ``groups(in:)`` tells of; 0 when the pattern does not capture.
  public let groupCount: Int

  /// Compiles an expression.
  /// - Parameters:
  ///   - text: RE2 syntax, at most ``longestText`` bytes.
  ///   - capturing: whether ``groups(in:)`` will be asked.
  /// - Throws: ``PatternError`` with the position, when the expression is malformed, too long, or needs more than RE2 has.
  public init(_ text: String, capturing: Bool = false) throws(PatternError) {
    self.text = text
    let bytes = Array(text.utf8)
    guard bytes.count <= Pattern.longestText else {
      throw PatternError("a regular expression of \(bytes.count) bytes; \(Pattern.longestText) are allowed")
    }
    try PatternSyntax.check(bytes)
    guard let compiling = pcre2_compile_context_create_8(nil), let context = pcre2_match_context_create_8(nil) else {
      throw PatternError("no memory for a regular expression")
    }
    defer { pcre2_compile_context_free_8(compiling) }
    pcre2_set_parens_nest_limit_8(compiling, Pattern.deepestNesting)
    let options =
      PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF | PCRE2_DOLLAR_ENDONLY | PCRE2_NEVER_BACKSLASH_C
      | (capturing ? 0 : PCRE2_NO_AUTO_CAPTURE)
    var error: Int32 = 0
    var position = 0
    let compiled = pcre2_compile_8(bytes, bytes.count, options, &error, &position, compiling)
    guard let compiled, let match = pcre2_match_data_create_from_pattern_8(compiled, nil) else {
      pcre2_match_context_free_8(context)
      if let compiled { pcre2_code_free_8(compiled) }
      throw PatternError("\"\(text)\" at byte \(position): \(Pattern.message(error))")
    }
    pcre2_set_heap_limit_8(context, Pattern.mostMemory)
    code = compiled
    var groups: UInt32 = 0
    pcre2_pattern_info_8(compiled, UInt32(PCRE2_INFO_CAPTURECOUNT), &groups)
    groupCount = Int(groups)
    self.context = context
    self.match = match
  }

  deinit {
    pcre2_code_free_8(code)
    pcre2_match_context_free_8(context)
    pcre2_match_data_free_8(match)
  }

  private static func message(_ error: Int32) -> String {
    var buffer = [UInt8](repeating: 0, count: 256)
    let length = pcre2_get_error_message_8(error, &buffer, buffer.count)
    return length < 0 ? "error \(error)" : String(decoding: buffer.prefix(Int(length)), as: UTF8.self)
  }

  /// Those of `names` that match as a whole, in their order.
  ///
  /// - Throws: ``PatternError`` when a search does not end within its limits, or too many are slow.
  /// - Complexity: at most ``fewSteps`` a name and ``mostSteps`` for each of ``mostSlowNames``.
  public func filter(_ names: some Sequence<String>) throws(PatternError) -> [String] {
    var found: [String] = []
    var slow = 0
    for name in names {
      var result = search(name, steps: Pattern.fewSteps)
      if result == PCRE2_ERROR_MATCHLIMIT {
        slow += 1
        guard slow <= Pattern.mostSlowNames else {
          throw PatternError("\"\(text)\" takes too long: more than \(Pattern.mostSlowNames) names are slow to match")
        }
        result = search(name, steps: Pattern.mostSteps)
      }
      if result >= 0 {
        found.append(name)
      } else if result != PCRE2_ERROR_NOMATCH {
        throw PatternError("\"\(text)\" against \"\(name)\": \(Pattern.message(result))")
      }
    }
    return found
  }

  /// What the groups of the expression hold when it is the whole of `name`; nil when it is not.
  /// - Returns: the name itself, then each group in the order of its opening parenthesis, nil for one that took no part.
  /// - Throws: ``PatternError`` when the search does not end within ``mostSteps``.
  public func groups(in name: String) throws(PatternError) -> [String?]? {
    let result = search(name, steps: Pattern.mostSteps)
    if result == PCRE2_ERROR_NOMATCH { return nil }
    guard result >= 0, let bounds = pcre2_get_ovector_pointer_8(match) else {
      throw PatternError("\"\(text)\" against \"\(name)\": \(Pattern.message(result))")
    }
    let bytes = Array(name.utf8)
    return (0...groupCount).map { group in
      let (start, end) = (bounds[2 * group], bounds[2 * group + 1])
      // A group that took no part has the largest `size_t`, which is -1 here.
      guard start >= 0 else { return nil }
      return String(decoding: bytes[start..<end], as: UTF8.self)
    }
  }

  private func search(_ name: String, steps: UInt32) -> Int32 {
    pcre2_set_match_limit_8(context, steps)
    var name = name
    return name.withUTF8 { bytes in
      // An empty buffer may have no address, which the library takes for a mistake.
      guard let start = bytes.baseAddress else { return pcre2_match_8(code, [0], 0, 0, 0, match, context) }
      return pcre2_match_8(code, start, bytes.count, 0, 0, match, context)
    }
  }
}
