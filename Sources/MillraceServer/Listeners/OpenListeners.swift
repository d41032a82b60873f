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

  private let definitions: [(definition: ListenerDefinition, tls: TLSContext?)]
  /// The keys of whoever signs tokens, where a listener takes any.
  private let tokenKeys: (file: TokenKeyFile, first: JSONWebKeys)?
  private let logger: Logger
  /// Each that is open, by its first address.
  private(set) var bound: [Bound] = []

  /// Reads the files of TLS; nothing is opened yet.
  init(
    _ definitions: [ListenerDefinition], files: TLSFiles, settings: BrokerSettings, logger: Logger
  ) throws(ServerStartError) {
    self.logger = logger
    tokenKeys = try OpenListeners.tokenKeys(definitions, settings, logger)
    var contexts: [(ListenerDefinition, TLSContext?)] = []
    for definition in definitions {
      contexts.append((definition, try OpenListeners.context(definition, files)))
    }
    self.definitions = contexts
    warn()
  }

  private static func context(
    _ definition: ListenerDefinition, _ common: TLSFiles
  ) throws(ServerStartError) -> TLSContext? {
    guard definition.isEncrypted else { return nil }
    let files = definition.files.completed(by: common)
    let certificates = definition.effectiveClientCertificates
    do throws(TLSError) {
      return try TLSContext(
        TLSConfiguration(
          certificateFile: files.certificate ?? "", keyFile: files.key ?? "",
          clientAuthorityFile: certificates == .none ? nil : files.clientAuthority, clientCertificates: certificates,
          revocationFile: certificates == .none ? nil : files.revocations,
          applicationProtocols: definition.service == .http ? ["http/1.1"] : []))
    } catch {
      throw ServerStartError(description: "cannot listen with TLS: \(error)", exitCode: .usage)
    }
  }

  private static func tokenKeys(
    _ definitions: [ListenerDefinition], _ settings: BrokerSettings, _ logger: Logger
  ) throws(ServerStartError) -> (file: TokenKeyFile, first: JSONWebKeys)? {
    guard definitions.contains(where: { $0.effectiveMechanisms.contains(.bearer) }), let path = settings.tokenKeyFile
    else { return nil }
    let file = TokenKeyFile(path)
    do throws(SecuritySettingError) {
      let keys = try file.read()
      tell(keys, of: file, logger)
      if settings.bearerRules.audiences.isEmpty {
        logger.log(
          .warning, "security",
          "every token that the keys vouch for is taken, also one that was meant for another service: name this one's "
            + "audience in sasl.oauthbearer.expected.audience")
      }
      return (file, keys)
    } catch {
      throw ServerStartError(description: "cannot verify tokens: \(error)", exitCode: .usage)
    }
  }

  private static func tell(_ keys: JSONWebKeys, of file: TokenKeyFile, _ logger: Logger) {
    logger.log(
      .info, "security", "keys of tokens read",
      ["file": file.path, "keys": "\(keys.count)", "names": keys.names.joined(separator: " ")])
    for one in keys.skipped {
      logger.log(.warning, "security", "a key is not used", ["file": file.path, "reason": one])
    }
  }

  /// Every file that ``reload(on:)`` reads again: certificates, keys, lists of revocations, keys of tokens.
  var files: [String] {
    let tls = definitions.compactMap { $0.tls?.configuration }.flatMap {
      [$0.certificateFile, $0.keyFile, $0.clientAuthorityFile, $0.revocationFile].compactMap { $0 }
    }
    return Set(tls + [tokenKeys?.file.path].compactMap { $0 }).sorted()
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
    if let tokenKeys { parts.broker.take().authentication.use(tokenKeys.first) }
    for (definition, tls) in definitions {
      let security = ListenerSecurity(mechanisms: definition.effectiveMechanisms, tls: tls)
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
      one.tls.map { (listener: "\(bound.scheme)://\(bound.address)", context: $0) }
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

  /// Reads certificates, keys and lists again, also those of tokens, away from the reactor. What cannot be read leaves what was
  /// there.
  func reload(on parts: BrokerParts) {
    let contexts = definitions.compactMap(\.tls)
    let logger = logger
    let tokenKeys = tokenKeys?.file
    let (reactor, broker) = (parts.reactor, parts.broker)
    parts.background.submit {
      if let tokenKeys {
        do throws(SecuritySettingError) {
          let keys = try tokenKeys.read()
          OpenListeners.tell(keys, of: tokenKeys, logger)
          reactor.submit { broker.take().authentication.use(keys) }
        } catch {
          logger.log(
            .error, "security", "keys of tokens not read again; those that were read before stay in use",
            ["reason": "\(error)"])
        }
      }
      for context in contexts {
        do throws(TLSError) {
          try context.reload()
          logger.log(
            .info, "security", "certificate read again",
            [
              "file": context.configuration.certificateFile, "subject": context.certificate.subject,
              "until": Logger.iso8601(context.certificate.notAfter),
            ])
        } catch {
          logger.log(
            .error, "security", "certificate not read again; the one that was read before stays in use",
            ["reason": error.description])
        }
        OpenListeners.warn(context, logger)
      }
    }
  }

  private func warn() {
    for (_, tls) in definitions { if let tls { OpenListeners.warn(tls, logger) } }
    for (definition, _) in definitions where !definition.isLoopback {
      if !definition.isEncrypted || definition.effectiveMechanisms.isEmpty {
        logger.log(
          .warning, "security", "insecure listener: whoever can connect may read and write",
          ["listener": "\(definition.scheme)://\(SocketAddress(host: definition.host, port: definition.port))"])
      }
    }
  }

  private static func warn(_ context: TLSContext, _ logger: Logger) {
    for warning in context.warnings(at: .now) { logger.log(.warning, "security", warning.description) }
  }
}

extension ServerConfiguration {
  /// The listeners: those that were asked for, or the ones of this machine alone.
  func listenerDefinitions() throws(ServerStartError) -> [ListenerDefinition] {
    var all = listeners
    if all.isEmpty {
      guard host == "localhost" || SocketAddress(host: host, port: 0).isNumeric else {
        throw ServerStartError(description: "\(host) is neither a numeric address nor localhost", exitCode: .usage)
      }
      all.append(ListenerDefinition(.kafka, host: host, port: kafkaPort))
      if let amqpPort { all.append(ListenerDefinition(.amqp, host: host, port: amqpPort)) }
      if let httpPort { all.append(ListenerDefinition(.http, host: host, port: httpPort)) }
    }
    for definition in all {
      let problem = definition.problem(
        allowsInsecure: allowsInsecureListeners, files: tlsFiles, tokenKeys: settings.tokenKeyFile)
      if let problem {
        throw ServerStartError(description: problem, exitCode: .usage)
      }
    }
    return all
  }
}
