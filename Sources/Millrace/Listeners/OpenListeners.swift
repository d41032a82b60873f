// OpenListeners: listeners from their definitions to open sockets, and their files of TLS read again while they are open.

import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity

/// Why listeners cannot be opened.
package struct ListenerError: Error {
  /// What is in the way.
  package enum Cause: Equatable, Sendable {
    /// A file of TLS, or of tokens' keys.
    case files
    /// The address cannot be listened on.
    case address(ListenerDefinition.Service)
  }

  package let cause: Cause
  package let reason: String
}

/// Listeners whose files were read. Nothing is opened yet.
package struct PreparedListeners: Sendable {
  let all: [(definition: ListenerDefinition, tls: WatchedTLS?)]
  /// The keys of whoever signs tokens, where a listener takes any.
  let tokenKeys: WatchedTokenKeys?

  /// Reads the files, and says in the log what is odd about them. Blocks.
  /// - Parameters:
  ///   - definitions: each without a flaw.
  ///   - files: in place of those that definitions do not name.
  package init(
    _ definitions: [ListenerDefinition], files: TLSFiles = TLSFiles(), settings: BrokerSettings, logger: Logger
  ) throws(ListenerError) {
    tokenKeys = try PreparedListeners.tokenKeys(definitions, settings, logger)
    var all: [(definition: ListenerDefinition, tls: WatchedTLS?)] = []
    for definition in definitions {
      all.append((definition, try PreparedListeners.context(definition, files, logger)))
    }
    self.all = all
    for (_, tls) in all { tls?.warn() }
    for definition in definitions where definition.isInsecure {
      logger.log(
        .warning, "security", "insecure listener: whoever can connect may read and write",
        ["listener": definition.url])
    }
  }

  /// Whether clients log in with passwords somewhere.
  package var asksForPasswords: Bool {
    all.contains { definition, _ in
      definition.effectiveMechanisms.contains { $0 == .plain || $0.scram != nil }
    }
  }

  private static func context(
    _ definition: ListenerDefinition, _ common: TLSFiles, _ logger: Logger
  ) throws(ListenerError) -> WatchedTLS? {
    guard definition.isEncrypted else { return nil }
    do throws(TLSError) {
      return try WatchedTLS(definition.tlsConfiguration(common), logger: logger)
    } catch {
      throw ListenerError(cause: .files, reason: "cannot listen with TLS: \(error)")
    }
  }

  private static func tokenKeys(
    _ definitions: [ListenerDefinition], _ settings: BrokerSettings, _ logger: Logger
  ) throws(ListenerError) -> WatchedTokenKeys? {
    guard definitions.contains(where: { $0.effectiveMechanisms.contains(.bearer) }), let path = settings.tokenKeyFile
    else { return nil }
    do throws(SecuritySettingError) {
      let keys = try WatchedTokenKeys(TokenKeyFile(path), logger: logger)
      if settings.bearerRules.audiences.isEmpty {
        logger.log(
          .warning, "security",
          "every token that the keys vouch for is taken, also one that was meant for another service: name this one's "
            + "audience in sasl.oauthbearer.expected.audience")
      }
      return keys
    } catch {
      throw ListenerError(cause: .files, reason: "cannot verify tokens: \(error)")
    }
  }
}

/// The listeners of one broker. Belongs to the thread that runs the reactor.
package final class OpenListeners {
  /// A listener with the port that was bound.
  package struct Bound {
    package let service: ListenerDefinition.Service
    package let scheme: String
    package let address: SocketAddress
    let tls: TLSContext?
  }

  /// Reads the files of all of them again, when it is told how often to look.
  package let certificates: CertificateWatch
  /// Each that is open, by its first address.
  package private(set) var bound: [Bound] = []
  private let parts: BrokerParts
  private let logger: Logger
  private var takesTokens = false

  /// No listeners yet.
  package init(_ parts: BrokerParts, logger: Logger) {
    self.parts = parts
    self.logger = logger
    certificates = CertificateWatch(reactor: parts.reactor, executor: parts.background)
    parts.http.take().handshakes = { [weak self] in
      (self?.bound ?? []).compactMap { one in
        guard let figures = one.tls?.figures else { return nil }
        return (
          listener: "\(one.scheme)://\(one.address)", accepted: figures.handshakes, failed: figures.failures
        )
      }
    }
  }

  /// The address of the first listener of a service.
  package func address(of service: ListenerDefinition.Service) -> SocketAddress? {
    bound.first { $0.service == service }?.address
  }

  /// Takes over the settings of a broker's listeners that can change while they are open.
  package func take(_ settings: BrokerSettings) {
    certificates.look(every: .milliseconds(settings.text("tls.watch.interval.ms").flatMap { Int($0) } ?? 0))
  }

  /// Opens them in order. With the first that other machines can reach, what no rule is about is denied from then on, unless
  /// settings say otherwise. With the first of all, the broker begins to watch its memory and to take samples.
  /// - Parameter advertised: what Kafka's clients are told where a listener does not say it.
  /// - Returns: the first address of each, with the port that was bound.
  /// - Throws: when one cannot be bound; those before it stay open.
  @discardableResult
  package func open(
    _ prepared: PreparedListeners, advertised: SocketAddress? = nil
  ) throws(ListenerError) -> [SocketAddress] {
    if let keys = prepared.tokenKeys, !takesTokens {
      takesTokens = true
      keys.begin(parts)
      certificates.add([keys])
    }
    var opened: [SocketAddress] = []
    for (definition, tls) in prepared.all {
      let security = ListenerSecurity(mechanisms: definition.effectiveMechanisms, tls: tls?.context)
      let advertised = definition.advertised ?? advertised
      let address = try bind(definition) { (address) throws(IOError) in
        switch definition.service {
        case .kafka: try parts.kafka.take().listen(address, security: security, advertised: advertised)
        case .amqp: try parts.amqp.take().listen(address, security: security)
        case .http: try parts.http.take().listen(address, security: security)
        }
      }
      if let tls { certificates.add([tls]) }
      bound.append(
        Bound(service: definition.service, scheme: definition.scheme, address: address, tls: tls?.context))
      opened.append(address)
    }
    return opened
  }

  /// Listens on one port of all addresses.
  /// - Returns: the first address, with the port that was bound.
  private func bind(
    _ definition: ListenerDefinition, _ listen: (SocketAddress) throws(IOError) -> SocketAddress
  ) throws(ListenerError) -> SocketAddress {
    var first: SocketAddress?
    for host in definition.addresses {
      do throws(IOError) {
        let address = try listen(SocketAddress(host: host, port: first?.port ?? definition.port))
        if first == nil { first = address }
        // Before anybody can have connected, because nothing else runs until this turn is over; and not before something is open,
        // because that would deny everything to the clients of this machine for nothing.
        if !definition.isLoopback { parts.broker.take().access.isExposed = true }
        parts.beginWatching()
      } catch {
        // A machine without IPv6 still has the other address. Where somebody else has it, clients that ask for localhost would be
        // led to that one; but which port is free on both cannot be known before.
        guard first != nil, error.code != .addressInUse || definition.port == 0 else {
          throw ListenerError(cause: .address(definition.service), reason: "cannot listen: \(error)")
        }
        logger.log(.warning, "server", "not listening on this address", ["host": host, "error": error.description])
      }
    }
    return first ?? SocketAddress(host: definition.host, port: definition.port)
  }
}
