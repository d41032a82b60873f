// ScramCredential: what is stored of a password: enough to check it, not enough to log in with it.
//
// Bytes, version 1: version 1 | mechanism 1 | iterations 4 | length of the salt 1 | salt | stored key | server key, numbers big
// endian; both keys have the mechanism's length, 32 or 64.
// Source: RFC 5802, section 3; RFC 7677; Kafka, `ScramFormatter` and KIP-554.

import MillraceBase

/// A user's password for one mechanism, salted and hashed.
///
/// Who reads one can try passwords, and can make clients believe that it is the server; it cannot log in.
public struct ScramCredential: Sendable, Equatable {
  /// Iterations of new credentials unless told otherwise.
  public static let defaultIterations = 15_000
  /// Iterations that a credential may have. Fewer are refused by Kafka's brokers; more would take seconds to check.
  public static let allowedIterations = 4_096...1_000_000
  /// Iterations that Kafka's AlterUserScramCredentials may ask for. Source: KIP-554.
  public static let kafkaIterations = 4_096...16_384
  /// Lengths of salts, in bytes.
  public static let saltLengths = 8...255
  /// Longest password, in bytes of UTF-8.
  public static let longestPassword = 1024

  /// The hash function.
  public let mechanism: ScramMechanism
  /// Random bytes, known to whoever asks for this user's challenge.
  public let salt: [UInt8]
  /// The hash of the client's key.
  public let storedKey: Secret
  /// The key with which the server proves itself.
  public let serverKey: Secret
  /// How many times the password is hashed.
  public let iterations: Int

  /// A credential for a password. Takes milliseconds: not for a reactor.
  ///
  /// The password is taken as it is, as Kafka's clients do, which do not know SASLprep: no Unicode normalization. Control characters
  /// are refused, so that nobody stores a line end that a file had.
  /// - Parameter salt: 24 random bytes unless given.
  /// - Throws: `.unacceptableCredential` for a password that is empty, longer than 1024 bytes, not UTF-8 or with control characters, or for
  ///   iterations or a salt outside the bounds.
  public init(
    password: Secret, mechanism: ScramMechanism, iterations: Int = defaultIterations, salt: [UInt8]? = nil
  ) throws(AuthenticationError) {
    try ScramCredential.check(password)
    let salt = salt ?? Secret.random(count: 24).copy
    try ScramCredential.check(iterations, salt)
    self.init(
      trusted: Cryptography.derive(mechanism, password: password, salt: salt, iterations: iterations), mechanism, salt,
      iterations)
  }

  /// A credential for a password that the client has salted, as Kafka's AlterUserScramCredentials sends it.
  /// - Parameter saltedPassword: 32 bytes for SHA-256, 64 for SHA-512.
  /// - Throws: `.unacceptableCredential` for another length, a salt outside the bounds, or iterations that Kafka does not accept.
  public init(
    saltedPassword: Secret, mechanism: ScramMechanism, iterations: Int, salt: [UInt8]
  ) throws(AuthenticationError) {
    guard saltedPassword.count == mechanism.keyLength else {
      throw AuthenticationError(
        .unacceptableCredential,
        "a salted password of \(saltedPassword.count) bytes; \(mechanism.name) has \(mechanism.keyLength)")
    }
    guard ScramCredential.kafkaIterations.contains(iterations) else {
      throw ScramCredential.refusal(of: iterations, ScramCredential.kafkaIterations)
    }
    try ScramCredential.check(iterations, salt)
    self.init(trusted: saltedPassword, mechanism, salt, iterations)
  }

  /// A password as a client salts it for Kafka's AlterUserScramCredentials. Takes milliseconds.
  /// - Throws: as ``init(password:mechanism:iterations:salt:)`` does.
  public static func salted(
    _ password: Secret, mechanism: ScramMechanism, salt: [UInt8], iterations: Int = defaultIterations
  ) throws(AuthenticationError) -> Secret {
    try check(password)
    try check(iterations, salt)
    return Cryptography.derive(mechanism, password: password, salt: salt, iterations: iterations)
  }

  /// A credential that another server, or a file, has kept.
  /// - Throws: `.unacceptableCredential` for keys of another length than the mechanism's, or iterations or a salt outside the bounds.
  public init(
    stored mechanism: ScramMechanism, salt: [UInt8], storedKey: Secret, serverKey: Secret, iterations: Int
  ) throws(AuthenticationError) {
    try ScramCredential.check(iterations, salt)
    for key in [storedKey, serverKey] where key.count != mechanism.keyLength {
      throw AuthenticationError(
        .unacceptableCredential, "a key of \(key.count) bytes; \(mechanism.name) has \(mechanism.keyLength)")
    }
    self.init(
      mechanism: mechanism, salt: salt, storedKey: storedKey, serverKey: serverKey, iterations: iterations)
  }

  private init(trusted saltedPassword: Secret, _ mechanism: ScramMechanism, _ salt: [UInt8], _ iterations: Int) {
    let clientKey = Cryptography.authenticate(mechanism, key: saltedPassword, Array("Client Key".utf8))
    storedKey = Cryptography.hash(mechanism, clientKey)
    serverKey = Cryptography.authenticate(mechanism, key: saltedPassword, Array("Server Key".utf8))
    self.mechanism = mechanism
    self.salt = salt
    self.iterations = iterations
  }

  init(mechanism: ScramMechanism, salt: [UInt8], storedKey: Secret, serverKey: Secret, iterations: Int) {
    self.mechanism = mechanism
    self.salt = salt
    self.storedKey = storedKey
    self.serverKey = serverKey
    self.iterations = iterations
  }

  /// What stands in for the credential of a user who does not exist, so that a stranger sees no difference: the same for the same
  /// user and `key`, never verified by any password.
  ///
  /// It looks like credentials with a salt of 24 bytes and these iterations; of users whose administrator chose others a stranger can tell that they
  /// exist.
  /// - Parameter key: a secret of this server, at least 16 bytes, that outlives restarts.
  public static func standIn(
    for user: String, mechanism: ScramMechanism, key: Secret, iterations: Int = defaultIterations
  ) -> ScramCredential {
    func derived(_ use: String) -> Secret {
      Cryptography.authenticate(mechanism, key: key, Array("\(use)\0\(mechanism.name)\0\(user)".utf8))
    }
    return ScramCredential(
      mechanism: mechanism, salt: Array(derived("salt").copy.prefix(24)), storedKey: derived("stored key"),
      serverKey: derived("server key"), iterations: iterations)
  }

  /// Whether `password` is the one. Takes milliseconds (8 ms for 15,000 iterations of SHA-256, 15 ms of SHA-512): not for a reactor.
  ///
  /// Takes as long for a wrong one as for the right one.
  public func verify(password: Secret) -> Bool {
    guard password.count <= ScramCredential.longestPassword else { return false }
    let salted = Cryptography.derive(mechanism, password: password, salt: salt, iterations: iterations)
    let clientKey = Cryptography.authenticate(mechanism, key: salted, Array("Client Key".utf8))
    return Cryptography.hash(mechanism, clientKey) == storedKey
  }

  /// Refuses passwords that are not stored.
  /// - Throws: `.unacceptableCredential`, see ``init(password:mechanism:iterations:salt:)``.
  public static func check(_ password: Secret) throws(AuthenticationError) {
    guard (1...longestPassword).contains(password.count) else {
      throw AuthenticationError(
        .unacceptableCredential, "a password of \(password.count) bytes; 1 to \(longestPassword) are allowed")
    }
    let problem: String? = password.withBytes { bytes in
      guard let text = String(validating: bytes, as: UTF8.self) else { return "a password that is not UTF-8" }
      return PrincipalName.containsControl(text) ? "a password with a control character" : nil
    }
    if let problem { throw AuthenticationError(.unacceptableCredential, problem) }
  }

  private static func check(_ iterations: Int, _ salt: [UInt8]) throws(AuthenticationError) {
    guard allowedIterations.contains(iterations) else { throw refusal(of: iterations, allowedIterations) }
    guard saltLengths.contains(salt.count) else {
      throw AuthenticationError(
        .unacceptableCredential,
        "a salt of \(salt.count) bytes; \(saltLengths.lowerBound) to \(saltLengths.upperBound) are allowed")
    }
  }

  private static func refusal(of iterations: Int, _ allowed: ClosedRange<Int>) -> AuthenticationError {
    AuthenticationError(
      .unacceptableCredential,
      "\(iterations) iterations; \(allowed.lowerBound) to \(allowed.upperBound) are allowed")
  }
}

extension ScramCredential {
  private static let version: UInt8 = 1

  /// Appends the bytes that stand for it; they tell their own length.
  public func write(into writer: inout ByteWriter) {
    writer.uint8(ScramCredential.version)
    writer.uint8(mechanism.rawValue)
    writer.uint32(UInt32(iterations))
    writer.uint8(UInt8(salt.count))
    salt.withUnsafeBytes { writer.copy($0) }
    storedKey.withBytes { writer.copy($0) }
    serverKey.withBytes { writer.copy($0) }
  }

  /// The bytes that stand for it.
  public var encoded: Bytes {
    var writer = ByteWriter(capacity: 256)
    write(into: &writer)
    return writer.finishJoined()
  }

  /// Reads one, and leaves the reader behind it.
  /// - Throws: for another version or mechanism, values outside their bounds, or bytes that are missing.
  public init(reading reader: inout ByteReader) throws(DecodingError) {
    let start = reader.position
    let version = try reader.uint8()
    guard version == ScramCredential.version else {
      throw DecodingError("version \(version) of a credential", at: start)
    }
    let number = try reader.uint8()
    guard let mechanism = ScramMechanism(rawValue: number) else {
      throw DecodingError("mechanism \(number) of a credential", at: start)
    }
    let iterations = Int(try reader.uint32())
    let length = Int(try reader.uint8())
    guard ScramCredential.allowedIterations.contains(iterations), ScramCredential.saltLengths.contains(length) else {
      throw DecodingError("\(iterations) iterations and a salt of \(length) bytes in a credential", at: start)
    }
    let salt = try reader.slice(length).array
    let storedKey = Secret(try reader.slice(mechanism.keyLength).array)
    let serverKey = Secret(try reader.slice(mechanism.keyLength).array)
    self.init(
      mechanism: mechanism, salt: salt, storedKey: storedKey, serverKey: serverKey, iterations: iterations)
  }

  /// Reads exactly one.
  public init(encoded: Bytes) throws(DecodingError) {
    var reader = ByteReader(encoded)
    try self.init(reading: &reader)
    guard reader.remaining == 0 else {
      throw DecodingError("\(reader.remaining) bytes behind a credential", at: reader.position)
    }
  }
}
