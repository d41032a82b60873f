// OpenListeners: listeners from their definitions to open sockets, and their files of TLS read again while they are open.

import Millrace
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceSecurity

/// The listeners of one server. Belongs to the thread that runs the reactor.
struct OpenListeners {
  /// A listener with the port that was bound.
  struct Bound {
    var service: ListenerDefinition.Service
    var scheme: String
    var address: SocketAddress
  }

  private let definitions: [(definition: ListenerDefinition, tls: WatchedTLS?)]
  /// The keys of whoever signs tokens, where a listener takes any.
  private let tokenKeys: WatchedTokenKeys?
  private let logger: Logger
  /// Each that is open, by its first address.
  private(set) var bound: [Bound] = []

  /// Reads the files of TLS; nothing is opened yet.
  init(
    _ definitions: [ListenerDefinition], files: TLSFiles, settings: BrokerSettings, logger: Logger
  ) throws(ServerStartError) {
    self.logger = logger
    tokenKeys = try OpenListeners.tokenKeys(definitions, settings, logger)
    var contexts: [(ListenerDefinition, WatchedTLS?)] = []
    for definition in definitions {
      contexts.append((definition, try OpenListeners.context(definition, files, logger)))
    }
    self.definitions = contexts
    warn()
  }

  private static func context(
    _ definition: ListenerDefinition, _ common: TLSFiles, _ logger: Logger
  ) throws(ServerStartError) -> WatchedTLS? {
    guard definition.isEncrypted else { return nil }
    do throws(TLSError) {
      return try WatchedTLS(definition.tlsConfiguration(common), logger: logger)
    } catch {
      throw ServerStartError(description: "cannot listen with TLS: \(error)", exitCode: .usage)
    }
  }

  /// The files that are read again when they change.
  var watched: [any WatchedFiles] {
    let tls: [any WatchedFiles] = definitions.compactMap(\.tls)
    return tls + (tokenKeys.map { [$0] } ?? [])
  }

  private static func tokenKeys(
    _ definitions: [ListenerDefinition], _ settings: BrokerSettings, _ logger: Logger
  ) throws(ServerStartError) -> WatchedTokenKeys? {
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
      throw ServerStartError(description: "cannot verify tokens: \(error)", exitCode: .usage)
    }
  }

  /// Whether clients log in with passwords somewhere.
  var asksForPasswords: Bool {
    definitions.contains { definition, _ in
      definition.effectiveMechanisms.contains { $0 == .plain || $0.scram != nil }
    }
  }

  /// The address of the first listener of a service.
  func address(of service: ListenerDefinition.Service) -> SocketAddress? {
    bound.first { $0.service == service }?.address
  }

  /// Opens all.
  mutating func open(_ parts: BrokerParts, advertised: SocketAddress?) throws(ServerStartError) {
    tokenKeys?.begin(parts)
    for (definition, tls) in definitions {
      let security = ListenerSecurity(mechanisms: definition.effectiveMechanisms, tls: tls?.context)
      let advertised = definition.advertised ?? advertised
      let address = try bind(definition) { (address) throws(IOError) in
        switch definition.service {
        case .kafka: try parts.kafka.take().listen(address, security: security, advertised: advertised)
        case .amqp: try parts.amqp.take().listen(address, security: security)
        case .http: try parts.http.take().listen(address, security: security)
        }
      }
      bound.append(Bound(service: definition.service, scheme: definition.scheme, address: address))
    }
    let encrypted = zip(definitions, bound).compactMap { (one, bound) in
      one.tls.map { (listener: "\(bound.scheme)://\(bound.address)", context: $0.context) }
    }
    parts.http.take().handshakes = {
      encrypted.map { one in
        let figures = one.context.figures
        return (listener: one.listener, accepted: figures.handshakes, failed: figures.failures)
      }
    }
  }

  /// Listens on one port of all addresses.
  /// - Returns: the first address, with the port that was bound.
  private func bind(
    _ definition: ListenerDefinition, _ listen: (SocketAddress) throws(IOError) -> SocketAddress
  ) throws(ServerStartError) -> SocketAddress {
    var first: SocketAddress?
    for host in definition.addresses {
      do throws(IOError) {
        let address = try listen(SocketAddress(host: host, port: first?.port ?? definition.port))
        if first == nil { first = address }
      } catch {
        // A machine without IPv6 still has the other address.
        guard first != nil else {
          // AMQP's usual listener is the one that nobody asked for.
          let hint =
            switch definition.service {
            case .amqp: "; --amqp takes another port, --no-amqp does without"
            case .http: "; --http takes another port"
            case .kafka: ""
            }
          throw ServerStartError(description: "cannot listen: \(error)\(hint)", exitCode: .failed)
        }
        logger.log(.warning, "server", "not listening on this address", ["host": host, "error": error.description])
      }
    }
    return first ?? SocketAddress(host: definition.host, port: definition.port)
  }

  private func warn() {
    for (_, tls) in definitions { tls?.warn() }
    for (definition, _) in definitions where !definition.isLoopback {
      if !definition.isEncrypted || definition.effectiveMechanisms.isEmpty {
        logger.log(
          .warning, "security", "insecure listener: whoever can connect may read and write",
          ["listener": "\(definition.scheme)://\(SocketAddress(host: definition.host, port: definition.port))"])
      }
    }
  }
}

extension ServerConfiguration {
  /// The listeners: those that were asked for, or the ones of this machine alone.
  var definitions: [ListenerDefinition] {
    guard listeners.isEmpty else { return listeners }
    var all = [ListenerDefinition(.kafka, host: host, port: kafkaPort)]
    if let amqpPort { all.append(ListenerDefinition(.amqp, host: host, port: amqpPort)) }
    if let httpPort { all.append(ListenerDefinition(.http, host: host, port: httpPort)) }
    return all
  }

  /// The listeners, once more looked at: a configuration may also be made without settings.
  func listenerDefinitions() throws(ServerStartError) -> [ListenerDefinition] {
    if listeners.isEmpty {
      guard host == "localhost" || SocketAddress(host: host, port: 0).isNumeric else {
        throw ServerStartError(description: "\(host) is neither a numeric address nor localhost", exitCode: .usage)
      }
    }
    for definition in definitions {
      let problem = definition.problem(
        allowsInsecure: allowsInsecureListeners, files: tlsFiles, tokenKeys: settings.tokenKeyFile)
      if let problem {
        throw ServerStartError(description: problem, exitCode: .usage)
      }
    }
    return definitions
  }
}

extension ListenerDefinition {
  /// How it speaks TLS.
  func tlsConfiguration(_ common: TLSFiles) -> TLSConfiguration {
    let files = files.completed(by: common)
    let certificates = effectiveClientCertificates
    return TLSConfiguration(
      certificateFile: files.certificate ?? "", keyFile: files.key ?? "",
      clientAuthorityFile: certificates == .none ? nil : files.clientAuthority, clientCertificates: certificates,
      revocationFile: certificates == .none ? nil : files.revocations,
      applicationProtocols: service == .http ? ["http/1.1"] : [])
  }
}
