// PrincipalNames: which names users and principals may have, whatever way they came in.

/// The name of a user who has a password.
public enum UserName {
  /// Most bytes. Source: RFC 4616, section 2, which asks for 255 to be accepted.
  public static let longest = 255

  /// Whether a user may be called so: 1 to 255 printable ASCII characters, no space first or last, and neither `*` nor `ANONYMOUS`,
  /// which mean somebody else in rules.
  ///
  /// ASCII alone, as in Kafka's server: of other characters several byte sequences are the same name in Swift, while clients send
  /// whichever they like.
  public static func isValid(_ name: String) -> Bool {
    let bytes = name.utf8
    guard (1...longest).contains(bytes.count), bytes.allSatisfy({ (0x20...0x7e).contains($0) }) else { return false }
    guard bytes.first != 0x20, bytes.last != 0x20 else { return false }
    return name != Principal.everybody.name && name != Principal.anonymous.name
  }
}

/// The name of a principal that a certificate or a token tells of.
public enum PrincipalName {
  /// Most bytes.
  public static let longest = 1024

  /// Whether a principal may be called so: 1 to 1024 bytes without control characters, and neither `*` nor `ANONYMOUS`.
  public static func isValid(_ name: String) -> Bool {
    guard (1...longest).contains(name.utf8.count), !containsControl(name) else { return false }
    return name != Principal.everybody.name && name != Principal.anonymous.name
  }

  /// Whether there is a control character (U+0000…U+001F, U+007F…U+009F) or a line separator in it, which would make two lines of
  /// a line in the log.
  static func containsControl(_ text: String) -> Bool {
    text.unicodeScalars.contains {
      $0.value < 0x20 || (0x7f...0x9f).contains($0.value) || $0.value == 0x2028 || $0.value == 0x2029
    }
  }
}
