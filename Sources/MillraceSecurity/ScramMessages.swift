// ScramMessages: the messages of SCRAM as text and back.
//
//   client first  gs2-header client-first-bare          n,,n=user,r=nonce
//   server first  r=nonce and more,s=salt,i=iterations
//   client final  c=gs2-header,r=nonce and more,p=proof
//   server final  v=signature, or e=error
//
// Source: RFC 5802, section 7; Kafka's `tokenauth` is KIP-48's. Bytes are base 64 with padding, in its one form.

import MillraceBase

/// Limits of messages.
public enum ScramLimits {
  /// Longest message, in bytes. The longest that a client needs: two names of 255 bytes, escaped threefold, and a nonce.
  public static let message = 4096
  /// Longest nonce of one side, in bytes.
  public static let nonce = 1024
}

/// Reads attributes of a message, in order.
struct ScramReader {
  let bytes: [UInt8]
  var at = 0

  init(_ message: Bytes) throws(AuthenticationError) {
    guard message.count <= ScramLimits.message else {
      throw AuthenticationError(
        .malformed, "a SCRAM message of \(message.count) bytes; \(ScramLimits.message) are allowed")
    }
    bytes = message.array
    guard String(validating: bytes, as: UTF8.self) != nil, !bytes.contains(0) else {
      throw AuthenticationError(.malformed, "a SCRAM message that is not UTF-8, or has a zero byte")
    }
  }

  var isAtEnd: Bool { at >= bytes.count }

  static func refusal(_ what: String) -> AuthenticationError { AuthenticationError(.malformed, "SCRAM: \(what)") }

  /// What stands before the next comma, or the end; passes over the comma.
  mutating func part() throws(AuthenticationError) -> ArraySlice<UInt8> {
    guard at <= bytes.count else { throw ScramReader.refusal("the message ends too early") }
    let end = bytes[at...].firstIndex(of: UInt8(ascii: ",")) ?? bytes.count
    defer { at = end + 1 }
    return bytes[at..<end]
  }

  /// The value of the attribute with this letter, which must come next.
  mutating func value(_ letter: Character) throws(AuthenticationError) -> ArraySlice<UInt8> {
    let part = try part()
    guard part.count >= 2, part.first == letter.asciiValue, part[part.startIndex + 1] == UInt8(ascii: "=") else {
      if part.starts(with: "m=".utf8) {
        throw AuthenticationError(.unsupportedExtension, "SCRAM: a mandatory extension")
      }
      throw ScramReader.refusal("attribute \(letter) is not where it belongs")
    }
    return part.dropFirst(2)
  }

  mutating func base64(_ letter: Character) throws(AuthenticationError) -> [UInt8] {
    guard let decoded = StrictBase64.decode(try value(letter)) else {
      throw ScramReader.refusal("attribute \(letter) is not base 64")
    }
    return decoded
  }

  /// Printable ASCII without a comma.
  mutating func nonce() throws(AuthenticationError) -> ArraySlice<UInt8> {
    let value = try value("r")
    guard (1...2 * ScramLimits.nonce).contains(value.count), value.allSatisfy({ (0x21...0x7e).contains($0) }) else {
      throw ScramReader.refusal("a nonce of \(value.count) bytes, or not of printable ASCII")
    }
    return value
  }

  /// Passes over an extension, of which Kafka's `tokenauth` alone is known.
  mutating func skipExtension() throws(AuthenticationError) {
    let part = try part()
    let name = part.prefix { ($0 | 0x20) >= UInt8(ascii: "a") && ($0 | 0x20) <= UInt8(ascii: "z") }
    guard !name.isEmpty, part.count > name.count + 1, part[name.endIndex] == UInt8(ascii: "=") else {
      throw ScramReader.refusal("an extension that is none")
    }
    if name.elementsEqual("m".utf8) {
      throw AuthenticationError(.unsupportedExtension, "SCRAM: a mandatory extension")
    }
    if name.elementsEqual("tokenauth".utf8),
      String(decoding: part[(name.endIndex + 1)...], as: UTF8.self).lowercased() == "true"
    {
      throw AuthenticationError(.unsupportedExtension, "SCRAM: delegation tokens are not supported")
    }
  }
}

/// Names in messages, in which `,` and `=` are `=2C` and `=3D`.
enum SaslName {
  static func encode(_ name: String) -> String {
    var out = ""
    for scalar in name.unicodeScalars {
      switch scalar {
      case ",": out += "=2C"
      case "=": out += "=3D"
      default: out.unicodeScalars.append(scalar)
      }
    }
    return out
  }

  /// nil when an `=` is no escape, or the name is not UTF-8.
  static func decode(_ text: ArraySlice<UInt8>) -> String? {
    var out: [UInt8] = []
    var rest = text
    while let byte = rest.popFirst() {
      guard byte == UInt8(ascii: "=") else {
        out.append(byte)
        continue
      }
      if rest.starts(with: "2C".utf8) {
        out.append(UInt8(ascii: ","))
      } else if rest.starts(with: "3D".utf8) {
        out.append(UInt8(ascii: "="))
      } else {
        return nil
      }
      rest = rest.dropFirst(2)
    }
    return String(validating: out, as: UTF8.self)
  }
}

/// What a client says first.
struct ScramClientFirst: Equatable, Sendable {
  /// Flag and authorization id with both commas, which the client's last message repeats.
  var header: [UInt8]
  /// Everything behind the header.
  var bare: [UInt8]
  var user: String
  var nonce: [UInt8]

  /// - Throws: `.malformed`, `.unsupportedChannelBinding`, `.unsupportedExtension`, `.foreignAuthorization`.
  init(_ message: Bytes) throws(AuthenticationError) {
    var reader = try ScramReader(message)
    let flag = try reader.part()
    if flag.starts(with: "p=".utf8) {
      throw AuthenticationError(.unsupportedChannelBinding, "SCRAM: channel binding is required by the client")
    }
    guard flag.elementsEqual("n".utf8) || flag.elementsEqual("y".utf8) else {
      throw ScramReader.refusal("no flag of channel binding")
    }
    let authorization = try reader.part()
    guard !reader.isAtEnd else { throw ScramReader.refusal("nothing behind the header") }
    header = Array(reader.bytes[..<reader.at])
    bare = Array(reader.bytes[reader.at...])
    guard let user = SaslName.decode(try reader.value("n")), UserName.isValid(user) else {
      throw ScramReader.refusal("a user name that no user can have")
    }
    self.user = user
    nonce = Array(try reader.nonce())
    guard nonce.count <= ScramLimits.nonce else { throw ScramReader.refusal("a nonce of \(nonce.count) bytes") }
    while reader.at <= reader.bytes.count { try reader.skipExtension() }
    if !authorization.isEmpty {
      guard authorization.starts(with: "a=".utf8), let name = SaslName.decode(authorization.dropFirst(2)), !name.isEmpty
      else {
        throw ScramReader.refusal("an authorization id that is none")
      }
      guard name == user else {
        throw AuthenticationError(.foreignAuthorization, "SCRAM: \(user) wants to act as somebody else")
      }
    }
  }
}

/// What a client says at last.
struct ScramClientFinal: Equatable, Sendable {
  /// The header of the first message, repeated.
  var header: [UInt8]
  var nonce: [UInt8]
  /// Everything before the proof and its comma.
  var withoutProof: [UInt8]
  var proof: [UInt8]

  /// - Throws: `.malformed`, `.unsupportedExtension`.
  init(_ message: Bytes) throws(AuthenticationError) {
    var reader = try ScramReader(message)
    header = try reader.base64("c")
    nonce = Array(try reader.nonce())
    while reader.at <= reader.bytes.count, !reader.bytes[reader.at...].starts(with: "p=".utf8) {
      try reader.skipExtension()
    }
    guard reader.at <= reader.bytes.count else { throw ScramReader.refusal("no proof") }
    withoutProof = Array(reader.bytes[..<(reader.at - 1)])
    proof = try reader.base64("p")
    guard reader.at > reader.bytes.count else { throw ScramReader.refusal("something behind the proof") }
  }
}

/// A server's challenge.
struct ScramServerFirst: Equatable, Sendable {
  var nonce: [UInt8]
  var salt: [UInt8]
  var iterations: Int

  init(nonce: [UInt8], salt: [UInt8], iterations: Int) {
    self.nonce = nonce
    self.salt = salt
    self.iterations = iterations
  }

  /// - Throws: `.malformed`, also for iterations and salts outside a credential's bounds; `.unsupportedExtension`.
  init(_ message: Bytes) throws(AuthenticationError) {
    var reader = try ScramReader(message)
    nonce = Array(try reader.nonce())
    salt = try reader.base64("s")
    let digits = try reader.value("i")
    // RFC 5802 has no bound, but a server must not make a client compute for ever, nor give a password away cheaply.
    guard digits.count <= 7, digits.allSatisfy({ (0x30...0x39).contains($0) }), digits.first != 0x30,
      let iterations = Int(String(decoding: digits, as: UTF8.self)),
      ScramCredential.allowedIterations.contains(iterations), (1...255).contains(salt.count)
    else { throw ScramReader.refusal("iterations or a salt out of bounds") }
    self.iterations = iterations
    while reader.at <= reader.bytes.count { try reader.skipExtension() }
  }

  var text: [UInt8] {
    Array("r=\(String(decoding: nonce, as: UTF8.self)),s=\(StrictBase64.encode(salt)),i=\(iterations)".utf8)
  }
}
