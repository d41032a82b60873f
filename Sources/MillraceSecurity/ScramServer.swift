// ScramServer: the server's side of SCRAM as a state machine: a message in, an answer or a refusal out.
//
//   start ── client first ──> asking ── challenge(with:) ──> challenged ── client final ──> ended
//
// Any refusal ends it. Invariants: 1. a user who does not exist is answered as one who does, and refused at the end for the same
// reason; 2. accepted is only who proved to know the client's key, in an exchange with this server's nonce; 3. whatever a client sends
// is an answer or an error.
// Source: RFC 5802, RFC 7677.

import MillraceBase

/// One exchange with one client.
///
/// No message takes more than a few keyed hashes, so it may run on a reactor.
public struct ScramServer: Sendable {
  /// What to do next.
  public enum Step: Equatable, Sendable {
    /// Look for this user's credential for ``mechanism`` and call ``challenge(with:)``.
    case findCredential(user: String)
    /// The client is this user. `answer` is to be sent: it proves to the client that the server knows the credential.
    case accepted(user: String, answer: Bytes)
  }

  private enum State: Sendable {
    case start
    case asking(ScramClientFirst)
    case challenged(ScramClientFirst, ScramServerFirst, ScramCredential, isKnown: Bool)
    case ended
  }

  /// The hash function.
  public let mechanism: ScramMechanism
  private let standInKey: Secret
  private let standInIterations: Int
  private let nonce: String
  private var state = State.start

  /// An exchange that begins.
  /// - Parameters:
  ///   - standInKey: for ``ScramCredential/standIn(for:mechanism:key:iterations:)``; at least 16 bytes, and the same after a restart.
  ///   - standInIterations: what most users' credentials have.
  ///   - nonce: printable ASCII without a comma; 192 random bits unless given, which only tests do.
  public init(
    mechanism: ScramMechanism, standInKey: Secret, standInIterations: Int = ScramCredential.defaultIterations,
    nonce: String? = nil
  ) {
    precondition(standInKey.count >= 16, "a key of \(standInKey.count) bytes")
    self.mechanism = mechanism
    self.standInKey = standInKey
    self.standInIterations = standInIterations
    self.nonce = nonce ?? StrictBase64.encode(Secret.random(count: 24))
  }

  /// Takes a message of the client's: the first or, after ``challenge(with:)``, the last.
  /// - Throws: a refusal, after which nothing is accepted any more. An unknown user and a wrong password give the same.
  public mutating func respond(_ message: Bytes) throws(AuthenticationError) -> Step {
    let before = state
    // Whatever goes wrong: there is no second try.
    state = .ended
    switch before {
    case .start:
      let first = try ScramClientFirst(message)
      state = .asking(first)
      return .findCredential(user: first.user)
    case .challenged(let first, let challenge, let credential, let isKnown):
      let answer = try finish(first, challenge, credential, isKnown, ScramClientFinal(message))
      return .accepted(user: first.user, answer: answer)
    case .asking, .ended:
      throw AuthenticationError(.outOfOrder, "SCRAM: a message that has no place in the exchange")
    }
  }

  /// Answers the client's first message.
  /// - Parameter credential: the user's, of ``mechanism``; nil when there is none.
  /// - Returns: the challenge to send.
  public mutating func challenge(with credential: ScramCredential?) -> Bytes {
    guard case .asking(let first) = state else { preconditionFailure("a challenge without a client's first message") }
    precondition(credential.map { $0.mechanism == mechanism } ?? true, "a credential of another mechanism")
    // Made for known users, too, so that both take the same time.
    let standIn = ScramCredential.standIn(
      for: first.user, mechanism: mechanism, key: standInKey, iterations: standInIterations)
    let used = credential ?? standIn
    let challenge = ScramServerFirst(
      nonce: first.nonce + Array(nonce.utf8), salt: used.salt, iterations: used.iterations)
    state = .challenged(first, challenge, used, isKnown: credential != nil)
    return Bytes(challenge.text)
  }

  private func finish(
    _ first: ScramClientFirst, _ challenge: ScramServerFirst, _ credential: ScramCredential, _ isKnown: Bool,
    _ final: ScramClientFinal
  ) throws(AuthenticationError) -> Bytes {
    guard final.header == first.header else { throw ScramReader.refusal("the header changed on the way") }
    guard final.nonce == challenge.nonce else {
      throw AuthenticationError(.invalidCredentials, "SCRAM: \(first.user) answers with the nonce of another exchange")
    }
    guard final.proof.count == mechanism.keyLength else {
      throw ScramReader.refusal("a proof of \(final.proof.count) bytes")
    }
    let message = first.bare + [0x2c] + challenge.text + [0x2c] + final.withoutProof
    let signature = Cryptography.authenticate(mechanism, key: credential.storedKey, message)
    let clientKey = Secret(count: mechanism.keyLength) { out in
      signature.withBytes { bytes in
        for index in out.indices { out[index] = bytes[index] ^ final.proof[index] }
      }
    }
    let isRight = Cryptography.hash(mechanism, clientKey) == credential.storedKey
    guard isRight, isKnown else {
      throw AuthenticationError(
        .invalidCredentials,
        isKnown ? "wrong password of \(first.user)" : "no \(mechanism.name) credential of \(first.user)")
    }
    let proof = Cryptography.authenticate(mechanism, key: credential.serverKey, message)
    return Bytes("v=\(StrictBase64.encode(proof))")
  }

  /// What SCRAM itself sends of a refusal, where a protocol has no errors of its own: `e=` and a word of RFC 5802.
  public static func answer(to error: AuthenticationError) -> Bytes {
    let word =
      switch error.code {
      case .invalidCredentials: "invalid-proof"
      case .unsupportedChannelBinding: "channel-binding-not-supported"
      case .unsupportedExtension: "extensions-not-supported"
      case .malformed: "invalid-encoding"
      default: "other-error"
      }
    return Bytes("e=\(word)")
  }
}
