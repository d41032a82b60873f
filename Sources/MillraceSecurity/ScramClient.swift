// ScramClient: the client's side of SCRAM, for commands that talk to a server that asks who they are.

import MillraceBase

/// One exchange with one server: send ``first``, then what ``answer(_:)`` returns, then hand the last message to ``finish(_:)``.
public struct ScramClient: Sendable {
  private enum State: Sendable {
    case start
    case answered(expected: Secret)
    case ended
  }

  /// The hash function.
  public let mechanism: ScramMechanism
  private let password: Secret
  private let bare: String
  private let nonce: String
  private var state = State.start

  /// An exchange that begins.
  /// - Parameter nonce: printable ASCII without a comma; 192 random bits unless given, which only tests do.
  public init(mechanism: ScramMechanism, user: String, password: Secret, nonce: String? = nil) {
    self.mechanism = mechanism
    self.password = password
    self.nonce = nonce ?? StrictBase64.encode(Secret.random(count: 24))
    bare = "n=\(SaslName.encode(user)),r=\(self.nonce)"
  }

  /// The first message.
  public var first: Bytes { Bytes("n,,\(bare)") }

  /// The answer to the server's challenge. Takes milliseconds.
  /// - Throws: `.malformed` for a challenge that is none, or iterations outside 4,096 to 1,000,000; `.unprovenServer` when it belongs to
  ///   another exchange; `.invalidCredentials` when it is an error instead.
  public mutating func answer(_ message: Bytes) throws(AuthenticationError) -> Bytes {
    guard case .start = state else { throw AuthenticationError(.outOfOrder, "SCRAM: a second challenge") }
    state = .ended
    try ScramClient.refuseError(message)
    let challenge = try ScramServerFirst(message)
    guard challenge.nonce.starts(with: nonce.utf8), challenge.nonce.count > nonce.utf8.count else {
      throw AuthenticationError(.unprovenServer, "SCRAM: the challenge is not for this exchange")
    }
    let salted = Cryptography.derive(
      mechanism, password: password, salt: challenge.salt, iterations: challenge.iterations)
    let clientKey = Cryptography.authenticate(mechanism, key: salted, Array("Client Key".utf8))
    let serverKey = Cryptography.authenticate(mechanism, key: salted, Array("Server Key".utf8))
    let withoutProof = "c=biws,r=\(String(decoding: challenge.nonce, as: UTF8.self))"
    // The server's text as it came, for it may hold extensions.
    let authentication = Array(bare.utf8) + [0x2c] + message.array + [0x2c] + Array(withoutProof.utf8)
    let signature = Cryptography.authenticate(
      mechanism, key: Cryptography.hash(mechanism, clientKey), authentication)
    let proof = clientKey.withBytes { key in signature.withBytes { zip(key, $0).map { $0 ^ $1 } } }
    state = .answered(expected: Cryptography.authenticate(mechanism, key: serverKey, authentication))
    return Bytes("\(withoutProof),p=\(StrictBase64.encode(proof))")
  }

  /// Takes the server's last message; when it returns, the server has proved to know the credential.
  /// - Throws: `.invalidCredentials` with the server's word; `.unprovenServer` when its proof is wrong; `.malformed`.
  public mutating func finish(_ message: Bytes) throws(AuthenticationError) {
    guard case .answered(let expected) = state else {
      throw AuthenticationError(.outOfOrder, "SCRAM: a last message without a challenge")
    }
    state = .ended
    try ScramClient.refuseError(message)
    var reader = try ScramReader(message)
    let proof = Secret(try reader.base64("v"))
    while reader.at <= reader.bytes.count { try reader.skipExtension() }
    guard proof == expected else {
      throw AuthenticationError(.unprovenServer, "SCRAM: the server does not know the credential")
    }
  }

  private static func refuseError(_ message: Bytes) throws(AuthenticationError) {
    var reader = try ScramReader(message)
    guard message.withBuffer({ $0.starts(with: "e=".utf8) }) else { return }
    let word = String(decoding: try reader.value("e").prefix(100), as: UTF8.self)
    throw AuthenticationError(
      .invalidCredentials,
      PrincipalName.containsControl(word) ? "the server refuses" : "the server refuses: \(word)")
  }
}
