// ServerConfiguration+Listeners: which listeners a server has, and what is wrong with them in the words of the command line.

import Millrace
import MillraceIO

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
  /// What is wrong with it as a whole, and the options that mend it; nil when nothing is.
  func problem(allowsInsecure: Bool, files: TLSFiles, tokenKeys: String? = nil) -> String? {
    guard let flaw = flaw(allowsInsecure: allowsInsecure, files: files, tokenKeys: tokenKeys) else { return nil }
    let remedy =
      switch flaw.remedy {
      case .numericHost: "a listener has one of them"
      case .certificate: "--tls-certificate FILE --tls-key FILE; `millrace certs` makes them for a test"
      case .clientAuthority: "--tls-client-ca FILE"
      case .encryption: "write \(encryptedScheme)://"
      case .otherMechanisms: "auth is plain, certificate, oauth, or several of them"
      case .clientCertificates: "client-certificates=requested"
      case .advertised: "advertise=HOST:PORT is for Kafka's clients"
      case .tokenKeys: "--set sasl.oauthbearer.jwks.endpoint.url=FILE"
      case .closing:
        "listen with --listener \(encryptedScheme)://\(SocketAddress(host: host, port: port))?auth="
          + "\(service == .kafka ? "scram" : "plain") --tls-certificate FILE --tls-key FILE, or say "
          + "--insecure-listener if everybody may read and write everything"
      }
    return "\(flaw.statement): \(remedy)"
  }
}

extension ServerStartError {
  /// Why listeners cannot be opened, and the options that mend it.
  init(_ error: ListenerError) {
    switch error.cause {
    case .files: self.init(description: error.reason, exitCode: .usage)
    case .address(let service):
      let hint =
        switch service {
        // AMQP's usual listener is the one that nobody asked for.
        case .amqp: "; --amqp takes another port, --no-amqp does without"
        case .http: "; --http takes another port"
        case .kafka: ""
        }
      self.init(description: error.reason + hint, exitCode: .failed)
    }
  }
}
