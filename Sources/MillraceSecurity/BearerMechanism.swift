// BearerMechanism: OAUTHBEARER, in which a client shows a token (RFC 7628), with Kafka's extensions.
//
//   client: n,[a=user],^A auth=Bearer token ^A [name=value ^A]… ^A       where ^A is the byte 1
//   server: nothing, when the token is good; else {"status":"invalid_token"}, which the client answers with ^A, and then the failure
//
// Source: RFC 7628, section 3; KIP-255, KIP-342 (extensions), KIP-768.

import MillraceBase

/// What a client shows.
public struct BearerMessage: Sendable {
  /// Most extensions.
  public static let mostExtensions = 32
  /// Longest message, in bytes: a token, and 8 KiB for everything else.
  public static let longest = BearerTokenVerifier.longestToken + 8 * 1024

  /// As whom the client wants to act; nil when it does not say.
  public let authorization: String?
  /// The token, not yet looked at.
  public let token: Secret
  /// Names and values that the client adds.
  public let extensions: [String: String]

  /// Reads a client's first message.
  /// - Throws: `.malformed` when it is none, longer than 24 KiB, with another scheme than Bearer, a name twice or more than 32
  ///   extensions; `.unsupportedChannelBinding`.
  public init(_ message: Bytes) throws(AuthenticationError) {
    func refusal(_ what: String) -> AuthenticationError { AuthenticationError(.malformed, "OAUTHBEARER: \(what)") }
    guard message.count <= BearerMessage.longest else {
      throw refusal("\(message.count) bytes; \(BearerMessage.longest) are allowed")
    }
    let fields = message.withBuffer { $0.split(separator: 1, omittingEmptySubsequences: false).map { Array($0) } }
    // Header, pairs, and nothing twice: the last pair ends with one byte, and the message with another.
    guard fields.count >= 4, fields[fields.count - 1].isEmpty, fields[fields.count - 2].isEmpty else {
      throw refusal("not a header, pairs and their ends")
    }
    guard fields.count - 4 <= BearerMessage.mostExtensions else { throw refusal("\(fields.count - 4) extensions") }
    let header = fields[0].split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
    if header[0].starts(with: "p=".utf8) {
      throw AuthenticationError(.unsupportedChannelBinding, "OAUTHBEARER: channel binding is required by the client")
    }
    guard header.count == 3, header[2].isEmpty, header[0].elementsEqual("n".utf8) || header[0].elementsEqual("y".utf8)
    else { throw refusal("a header that is none") }
    if header[1].isEmpty {
      authorization = nil
    } else {
      guard header[1].starts(with: "a=".utf8), let name = SaslName.decode(header[1].dropFirst(2)),
        PrincipalName.isValid(name)
      else { throw refusal("an authorization id that is none") }
      authorization = name
    }
    var token: Secret?
    var extensions: [String: String] = [:]
    for field in fields[1..<(fields.count - 2)] {
      guard let equal = field.firstIndex(of: UInt8(ascii: "=")), equal > 0, equal + 1 < field.count,
        field[..<equal].allSatisfy({ (0x61...0x7a).contains($0 | 0x20) }),
        field[(equal + 1)...].allSatisfy({ (0x20...0x7e).contains($0) || [9, 10, 13].contains($0) })
      else { throw refusal("a pair that is none") }
      let name = String(decoding: field[..<equal], as: UTF8.self)
      let value = field[(equal + 1)...]
      if name == "auth" {
        guard token == nil else { throw refusal("two tokens") }
        let scheme = value.prefix { $0 != 0x20 }
        let rest = value.dropFirst(scheme.count).drop { $0 == 0x20 }
        guard String(decoding: scheme, as: UTF8.self).lowercased() == "bearer", !rest.isEmpty else {
          throw refusal("no token of the scheme Bearer")
        }
        token = Secret(rest)
      } else {
        guard extensions.updateValue(String(decoding: value, as: UTF8.self), forKey: name) == nil else {
          throw refusal("an extension that comes twice")
        }
      }
    }
    guard let token else { throw refusal("no token") }
    self.token = token
    self.extensions = extensions
  }

}

/// OAUTHBEARER. Belongs inside TLS.
public enum BearerMechanism {
  /// What a client sends.
  public static func message(token: Secret) -> Bytes {
    Bytes(Array("n,,\u{1}auth=Bearer ".utf8) + token.copy + [1, 1])
  }
}

/// One exchange with one client, as a state machine.
public struct BearerServer: Sendable {
  /// What to do next.
  public enum Step: Sendable {
    /// The client is who the token says; an empty answer is to be sent. Names and values are what the client added.
    case accepted(BearerIdentity, extensions: [String: String])
    /// `answer` is to be sent. Whatever the client says next, ``BearerServer/respond(_:at:)`` throws `error`.
    case refused(answer: Bytes, error: AuthenticationError)
  }

  private enum State: Sendable {
    case start
    case refused(AuthenticationError)
    case ended
  }

  private let verifier: BearerTokenVerifier
  private var state = State.start

  /// An exchange that begins.
  public init(_ verifier: BearerTokenVerifier) { self.verifier = verifier }

  /// Takes a message of the client's. As fast as ``BearerTokenVerifier/verify(_:at:)``.
  /// - Throws: `.malformed`, `.unsupportedChannelBinding`, `.foreignAuthorization` at once; what is wrong with a token after the client has
  ///   answered the refusal.
  public mutating func respond(_ message: Bytes, at now: Timestamp) throws(AuthenticationError) -> Step {
    let before = state
    state = .ended
    switch before {
    case .refused(let error): throw error
    case .ended: throw AuthenticationError(.outOfOrder, "OAUTHBEARER: a message that has no place in the exchange")
    case .start: break
    }
    let shown = try BearerMessage(message)
    let identity: BearerIdentity
    do throws(AuthenticationError) {
      identity = try verifier.verify(shown.token.copy, at: now)
    } catch {
      state = .refused(error)
      return .refused(answer: BearerServer.answer(to: error), error: error)
    }
    guard shown.authorization == nil || shown.authorization == identity.principal.name else {
      throw AuthenticationError(
        .foreignAuthorization, "OAUTHBEARER: \(identity.principal.name) wants to act as somebody else")
    }
    return .accepted(identity, extensions: shown.extensions)
  }

  /// The status that a client is told. Source: RFC 7628, section 3.2.2; words of RFC 6750, section 3.1.
  static func answer(to error: AuthenticationError) -> Bytes {
    Bytes(#"{"status":"\#(error.code == .insufficientScope ? "insufficient_scope" : "invalid_token")"}"#)
  }
}
