// ClientSecurity: how a command's connection is encrypted, and who the command says it is.

import Glibc
import MillraceBase
import MillraceIO
import MillraceKafkaProtocol
import MillraceSecurity

/// What a connection to a server that asks for it needs.
struct ClientSecurity: Sendable {
  /// A user and where the password is kept.
  struct Login: Sendable, Equatable {
    var user: String
    var passwordFile: String
  }

  /// Nil without TLS.
  var tls: TLSClientConfiguration?
  /// Nil where nobody asks, or a certificate says it.
  var login: Login?

  /// Nothing: for a server on this machine that asks for nothing.
  static let none = ClientSecurity(tls: nil, login: nil)
  /// Most bytes of a password's file.
  private static let passwordLimit = 4096

  /// The password: the file's first line, or what stands behind `USER:` in it.
  /// - Throws: `.unreachable` when the file cannot be read, or is empty.
  static func password(of login: Login) throws(ClientError) -> Secret {
    let bytes: Bytes
    do throws(IOError) {
      bytes = try LinuxFileSystem().readAll(login.passwordFile, limit: passwordLimit)
    } catch {
      throw ClientError(.unreachable, "cannot read the password: \(error)")
    }
    let line = bytes.withBuffer { buffer in Array(buffer.prefix { $0 != 0x0a && $0 != 0x0d }) }
    let prefix = Array("\(login.user):".utf8)
    let password = Secret(line.starts(with: prefix) ? Array(line.dropFirst(prefix.count)) : line)
    guard password.count > 0 else {
      throw ClientError(.unreachable, "cannot log in: \(login.passwordFile) begins with an empty line")
    }
    return password
  }
}

extension CommandOption {
  /// What each command takes that talks to a server.
  static let security: [CommandOption] = [
    CommandOption("--user", "NAME", "The user to log in as (default: what MILLRACE_USER says, else nobody)."),
    CommandOption(
      "--password-file", "FILE", "The file whose first line is the user's password (or MILLRACE_PASSWORD_FILE)."),
    CommandOption(flag: "--tls", "Encrypts the connection; what the system trusts is trusted."),
    CommandOption("--ca", "FILE", "Encrypts the connection, and trusts these authorities alone (or MILLRACE_CA)."),
    CommandOption("--certificate", "FILE", "The certificate to show (or MILLRACE_CERTIFICATE)."),
    CommandOption("--certificate-key", "FILE", "Its private key (or MILLRACE_CERTIFICATE_KEY)."),
  ]
}

extension Arguments {
  /// What the options and the environment say of the connection.
  func clientSecurity(_ address: ServerAddress) throws(CommandFailure) -> ClientSecurity {
    var security = ClientSecurity.none
    let user = value("--user", "MILLRACE_USER")
    let file = value("--password-file", "MILLRACE_PASSWORD_FILE")
    switch (user, file) {
    case (nil, nil): break
    case (let user?, let file?): security.login = ClientSecurity.Login(user: user, passwordFile: file)
    case (nil, _): throw CommandFailure(.usage, "--password-file needs --user")
    case (_, nil): throw CommandFailure(.usage, "--user needs --password-file")
    }
    let authority = value("--ca", "MILLRACE_CA")
    let certificate = value("--certificate", "MILLRACE_CERTIFICATE")
    let key = value("--certificate-key", "MILLRACE_CERTIFICATE_KEY")
    if has("--tls") || authority != nil || certificate != nil || key != nil {
      security.tls = TLSClientConfiguration(
        trust: authority.map { .authorities(file: $0) } ?? .system, serverName: address.host,
        certificateFile: certificate, keyFile: key)
    }
    return security
  }

  /// What an option says, or the environment.
  private func value(_ option: String, _ variable: String) -> String? {
    text(option) ?? getenv(variable).map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
  }
}

extension KafkaClient {
  /// Encrypts a new connection where that is wanted.
  func secured(_ socket: BlockingSocket) throws(ClientError) -> any BlockingStream {
    guard let tls = security.tls else { return socket }
    do throws(TLSError) {
      return try TLSClient(over: socket, tls, timeout: timeout)
    } catch {
      throw ClientError(.unreachable, "cannot speak TLS with \(address): \(error.reason)")
    }
  }

  /// Says who the command is, over a connection that was just made.
  /// - Returns: nil when that was done, or nobody has to; else the mechanism to try over a new connection, because the server
  ///   does not offer this one.
  func logIn(by mechanism: SaslMechanism) throws(ClientError) -> SaslMechanism? {
    guard let login = security.login else { return nil }
    let password = try ClientSecurity.password(of: login)
    let answer = try ask(SaslHandshakeRequest(mechanism: mechanism.rawValue), version: 1)
    if answer.errorCode == .unsupportedSaslMechanism {
      // A password as it is, only where nobody can listen.
      let known: [SaslMechanism] = [.scramSHA512, .scramSHA256] + (security.tls == nil ? [] : [.plain])
      if let other = known.first(where: { $0 != mechanism && answer.mechanisms.contains($0.rawValue) }) { return other }
      throw refusal(
        login,
        "it offers \(answer.mechanisms.joined(separator: ", "))\(security.tls == nil ? ", and there is no TLS" : "")")
    }
    guard answer.errorCode == .none else { throw refusal(login, "it does not ask who its clients are") }
    guard let scram = mechanism.scram else {
      _ = try prove(login, PlainMechanism.message(user: login.user, password: password))
      return nil
    }
    var client = ScramClient(mechanism: scram, user: login.user, password: password)
    let challenge = try prove(login, client.first)
    let proof: Result<Bytes, AuthenticationError> = Result { () throws(AuthenticationError) in
      try client.answer(challenge)
    }
    guard case .success(let message) = proof else { throw refusal(login, "its challenge makes no sense") }
    let signature = try prove(login, message)
    do throws(AuthenticationError) {
      try client.finish(signature)
    } catch {
      throw refusal(login, "it does not prove that it knows the password: \(error.reason)")
    }
    return nil
  }

  private func prove(_ login: ClientSecurity.Login, _ bytes: Bytes) throws(ClientError) -> Bytes {
    let answer = try ask(SaslAuthenticateRequest(authBytes: bytes), version: 1)
    guard answer.errorCode == .none else { throw refusal(login, answer.errorMessage ?? "\(answer.errorCode)") }
    return answer.authBytes
  }

  private func refusal(_ login: ClientSecurity.Login, _ reason: String) -> ClientError {
    close()
    return ClientError(.refused(.saslAuthenticationFailed), "\(address) does not let \(login.user) in: \(reason)")
  }
}
