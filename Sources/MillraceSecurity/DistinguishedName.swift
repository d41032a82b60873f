// DistinguishedName: the subject of a certificate as text, and its parts.
//
//   CN=Duke\, the first,OU=Java+UID=7,O=Oracle,C=US
//
// Parts stand in the reverse order of the certificate, the most special one first; `+` joins attributes of one part.
// Source: RFC 2253.

/// A name as RFC 2253 writes it, taken apart.
public struct DistinguishedName: Sendable, Equatable {
  /// An attribute with its value.
  public struct Attribute: Sendable, Equatable {
    /// What it is, as it was written: `CN`, `O`, `1.2.840.113549.1.9.1`.
    public var type: String
    /// Its value without escapes.
    public var value: String
  }

  /// Longest name, in bytes.
  public static let longest = 4096
  /// Most attributes.
  public static let mostAttributes = 64

  /// All attributes, in order; which of them share a part is not told.
  public let attributes: [Attribute]

  /// Reads a name; an empty text is a name without attributes.
  ///
  /// Values in double quotes (RFC 1779) and encoded ones (`#04…`) are refused rather than guessed.
  /// - Throws: `.unmappedCertificate` when it is malformed, longer than 4,096 bytes, or has more than 64 attributes.
  public init(_ text: String) throws(AuthenticationError) {
    let bytes = Array(text.utf8)
    guard bytes.count <= DistinguishedName.longest else {
      throw DistinguishedName.refusal("\(bytes.count) bytes; \(DistinguishedName.longest) are allowed")
    }
    var parser = Parser(bytes: bytes)
    attributes = try parser.attributes()
  }

  /// The common name.
  /// - Throws: `.unmappedCertificate` when there is none, or more than one: then nobody can say which is meant.
  public func commonName() throws(AuthenticationError) -> String {
    let names = attributes.filter { $0.type.uppercased() == "CN" || $0.type == "2.5.4.3" }
    guard names.count == 1 else { throw DistinguishedName.refusal("\(names.count) common names") }
    return names[0].value
  }

  static func refusal(_ what: String) -> AuthenticationError {
    AuthenticationError(.unmappedCertificate, "subject of a certificate: \(what)")
  }

  private struct Parser {
    let bytes: [UInt8]
    var at = 0

    private var next: UInt8? { at < bytes.count ? bytes[at] : nil }

    mutating func attributes() throws(AuthenticationError) -> [Attribute] {
      var found: [Attribute] = []
      guard !bytes.isEmpty else { return found }
      while true {
        guard found.count < DistinguishedName.mostAttributes else {
          throw DistinguishedName.refusal("more than \(DistinguishedName.mostAttributes) attributes")
        }
        found.append(try attribute())
        guard let byte = next else { return found }
        // `value()` ends at a separator alone.
        precondition(
          byte == UInt8(ascii: ",") || byte == UInt8(ascii: "+") || byte == UInt8(ascii: ";"), "byte \(byte)")
        at += 1
      }
    }

    private mutating func attribute() throws(AuthenticationError) -> Attribute {
      skipSpace()
      let start = at
      while let byte = next, isOfType(byte) { at += 1 }
      let type = String(decoding: bytes[start..<at], as: UTF8.self)
      skipSpace()
      guard !type.isEmpty, next == UInt8(ascii: "=") else { throw DistinguishedName.refusal("no type at byte \(at)") }
      at += 1
      skipSpace()
      guard let value = String(validating: try value(), as: UTF8.self) else {
        throw DistinguishedName.refusal("the value of \(type) is not UTF-8")
      }
      return Attribute(type: type, value: value)
    }

    private func isOfType(_ byte: UInt8) -> Bool {
      switch byte {
      case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
        UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "."), UInt8(ascii: "-"):
        true
      default: false
      }
    }

    private mutating func skipSpace() { while next == 0x20 { at += 1 } }

    private mutating func value() throws(AuthenticationError) -> [UInt8] {
      if next == UInt8(ascii: "#") || next == UInt8(ascii: "\"") {
        throw DistinguishedName.refusal("an encoded or quoted value at byte \(at)")
      }
      var out: [UInt8] = []
      // Spaces before a separator are not part of the value, unless escaped.
      var kept = 0
      while let byte = next {
        switch byte {
        case UInt8(ascii: ","), UInt8(ascii: "+"), UInt8(ascii: ";"): return Array(out.prefix(kept))
        case UInt8(ascii: "\\"):
          out.append(try escaped())
          kept = out.count
        case UInt8(ascii: "\""), UInt8(ascii: "<"), UInt8(ascii: ">"):
          throw DistinguishedName.refusal("a character that must be escaped at byte \(at)")
        default:
          at += 1
          out.append(byte)
          if byte != 0x20 { kept = out.count }
        }
      }
      return Array(out.prefix(kept))
    }

    /// What a backslash and one special character, or two hexadecimal digits, stand for.
    private mutating func escaped() throws(AuthenticationError) -> UInt8 {
      guard at + 1 < bytes.count else { throw DistinguishedName.refusal("a backslash at the end") }
      let byte = bytes[at + 1]
      if Array(",=+<>#;\"\\ ".utf8).contains(byte) {
        at += 2
        return byte
      }
      guard at + 2 < bytes.count, let high = hex(byte), let low = hex(bytes[at + 2]) else {
        throw DistinguishedName.refusal("an unknown escape at byte \(at)")
      }
      at += 3
      return high << 4 | low
    }

    private func hex(_ byte: UInt8) -> UInt8? {
      switch byte {
      case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
      case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
      case UInt8(ascii: "A")...UInt8(ascii: "F"): byte - UInt8(ascii: "A") + 10
      default: nil
      }
    }
  }
}
