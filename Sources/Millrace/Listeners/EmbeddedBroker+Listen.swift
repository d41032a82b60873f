// EmbeddedBroker+Listen: other programs let in: on this machine as they are, from others encrypted and asked who they are.

import MillraceBroker
import MillraceIO
import MillraceSecurity

extension EmbeddedBroker {
  /// Listens for clients, as `millrace serve --listener` does.
  ///
  ///     var listener = ListenerDefinition(.kafka, host: "0.0.0.0", port: 9093, isEncrypted: true)
  ///     listener.mechanisms = [.scramSHA256, .scramSHA512]
  ///     listener.files = TLSFiles(certificate: "server.pem", key: "server.key")
  ///     try await broker.setUser("alice", password: password)
  ///     try await broker.addRules([AccessRule(ResourcePattern(.topic, "orders"), Principal("alice"), .read)])
  ///     let address = try await broker.listen(listener)
  ///
  /// On return clients can connect. From the first listener on that other machines can reach, what no rule is about is denied to
  /// clients, unless the setting `allow.everyone.if.no.acl.found` says otherwise; calls of this object are never asked. Files of TLS
  /// are looked at every five seconds (`tls.watch.interval.ms`, which clients can set), and read again when they have changed. Whom
  /// a client's certificate stands for says `ssl.principal.mapping.rules`, and whose tokens are taken
  /// `sasl.oauthbearer.jwks.endpoint.url`, both settings of ``Configuration/settings``.
  /// - Parameter allowsInsecure: lets other machines connect without encryption, or without saying who they are.
  /// - Returns: the address with the real port; for `localhost` the first of two.
  /// - Throws: `.invalidArgument` for a definition that contradicts itself, or is open to other machines without being
  ///   encrypted and asking who clients are, and for files that cannot be used; `.network` when the address cannot be bound; `.closed`.
  @discardableResult
  public func listen(
    _ listener: ListenerDefinition, allowsInsecure: Bool = false
  ) async throws(MillraceError) -> SocketAddress {
    let settings = try await ask { [self] (broker, answer: Answer<BrokerSettings>) in
      answer.give(isOpen && broker.isOpen ? .success(broker.settings) : .failure(.closed))
    }
    if let flaw = listener.flaw(allowsInsecure: allowsInsecure, files: TLSFiles(), tokenKeys: settings.tokenKeyFile) {
      throw MillraceError(flaw)
    }
    // On a thread of its own, because it reads files.
    let prepared = try await EmbeddedBroker.onThread("millrace-listen") { [logger] in
      Result { () throws(ListenerError) in try PreparedListeners([listener], settings: settings, logger: logger) }
        .mapError { MillraceError(.invalidArgument, $0.reason) }
    }.get()
    return try await ask { [self] broker, answer in
      // One that opened while the broker is being closed would let clients into what is about to go.
      guard isOpen, broker.isOpen else { return answer.give(.failure(.closed)) }
      do throws(ListenerError) {
        answer.give(.success(try listeners.take().open(prepared)[0]))
      } catch {
        answer.give(.failure(MillraceError(.network, error.reason)))
      }
    }
  }

  /// Listens for Kafka clients on this machine, which are asked for nothing.
  ///
  /// - Parameters:
  ///   - host: a numeric loopback address or `localhost`, which is 127.0.0.1 and ::1. For others there is ``listen(_:allowsInsecure:)``.
  ///   - kafkaPort: 0 takes any free port.
  /// - Returns: the address with the real port.
  /// - Throws: `.invalidArgument` for another host, `.network` when the address cannot be bound, `.closed`.
  @discardableResult
  public func listen(
    host: String = "127.0.0.1", kafkaPort: UInt16 = 0
  ) async throws(MillraceError) -> SocketAddress {
    try await listen(ListenerDefinition(.kafka, host: host, port: kafkaPort, mechanisms: []))
  }

  /// Listens for AMQP 0-9-1 clients on this machine, which are asked for nothing; nothing else makes the broker do that.
  ///
  /// - Parameters:
  ///   - host: a numeric loopback address or `localhost`, which is 127.0.0.1 and ::1. For others there is ``listen(_:allowsInsecure:)``.
  ///   - amqpPort: 0 takes any free port; AMQP's own is 5672.
  /// - Returns: the address with the real port.
  /// - Throws: `.invalidArgument` for another host, `.network` when the address cannot be bound, `.closed`.
  @discardableResult
  public func listen(host: String = "127.0.0.1", amqpPort: UInt16) async throws(MillraceError) -> SocketAddress {
    try await listen(ListenerDefinition(.amqp, host: host, port: amqpPort, mechanisms: []))
  }
}

extension MillraceError {
  /// What is wrong with a listener, and what mends it in a program.
  init(_ flaw: ListenerFlaw) {
    let remedy =
      switch flaw.remedy {
      case .numericHost: "give it one of them"
      case .certificate: "name them in `files`"
      case .clientAuthority: "name them in `files.clientAuthority`"
      case .encryption: "set `isEncrypted`"
      case .otherMechanisms: "its clients know .plain, .external and .bearer"
      case .clientCertificates: "`clientCertificates` must be .requested or .required"
      case .advertised: "`advertised` is a host and a port that Kafka's clients can connect to"
      case .tokenKeys: "set sasl.oauthbearer.jwks.endpoint.url"
      case .closing: "set `isEncrypted` and `mechanisms`, or pass `allowsInsecure: true` if everybody may connect"
      }
    self.init(.invalidArgument, "\(flaw.statement): \(remedy)")
  }
}
