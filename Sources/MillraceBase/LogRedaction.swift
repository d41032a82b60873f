// LogRedaction: which fields of log lines may hold secrets, and what a text from outside may look like in a line.

/// Decides by names and by characters; it never looks for secrets in texts, which cannot be found there.
public enum LogRedaction {
  /// What stands in place of a secret.
  public static let mark = "(redacted)"
  /// Most bytes of UTF-8 of one value, or of the message, in a line.
  public static let longestText = 4096

  private static let words: Set<String> = [
    "password", "passwd", "passphrase", "pwd", "secret", "token", "key", "authorization", "credential", "credentials",
    "cookie", "jwt", "salt", "nonce", "signature", "bearer",
  ]

  /// Whether a field, or a setting, of this name may hold a secret: one of its words, which anything but letters and digits,
  /// and a capital behind a small letter, parts, is one for secrets: `password`, `api-key`, `accessToken`, `ssl.key.password`.
  ///
  /// - Complexity: O(bytes of the name).
  public static func isSecret(_ name: String) -> Bool {
    var word: [UInt8] = []
    var wasSmall = false
    for byte in name.utf8 {
      let isCapital = (0x41...0x5a).contains(byte)
      let isLetter = isCapital || (0x61...0x7a).contains(byte) || (0x30...0x39).contains(byte)
      if !isLetter || (isCapital && wasSmall) {
        if words.contains(String(decoding: word, as: UTF8.self)) { return true }
        word = []
      }
      if isLetter { word.append(isCapital ? byte | 0x20 : byte) }
      wasSmall = isLetter && !isCapital
    }
    return words.contains(String(decoding: word, as: UTF8.self))
  }

  /// A text as it may stand in a line: whatever ends a line, moves a terminal's cursor or turns the direction of what
  /// follows is written as `\u{…}`, so that no name from a client can forge a line; what is longer than ``longestText`` is cut.
  public static func printable(_ text: String) -> String {
    let isLong = text.utf8.count > longestText
    if !isLong, text.utf8.allSatisfy({ (32..<127).contains($0) }) { return text }
    var out = ""
    var size = 0
    for scalar in text.unicodeScalars {
      size += UTF8.width(scalar)
      if size > longestText { return out + "… (\(text.utf8.count) bytes)" }
      if isUnsafe(scalar) {
        out += "\\u{\(String(scalar.value, radix: 16))}"
      } else {
        out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  private static func isUnsafe(_ scalar: Unicode.Scalar) -> Bool {
    if scalar.isASCII { return scalar.value < 32 || scalar.value == 127 }
    switch scalar.properties.generalCategory {
    case .control, .format, .lineSeparator, .paragraphSeparator, .privateUse, .unassigned: return true
    default: return false
    }
  }
}
