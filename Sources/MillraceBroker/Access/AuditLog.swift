// AuditLog: who did what to which resource, allowed or denied: lines in the log, and records of the topic `__audit`.
//
// Told are: logins, whether they succeed or not; every denial; and what changes the server and was allowed (create, delete,
// alter, alter-configs, cluster-action), by clients that had to say who they are. Of HTTP, whose every request is a login, one that
// succeeds is told once a minute for each user, address and mechanism. Each record is one JSON object:
//   {"time":"2026-11-28T12:00:00.000Z","principal":"User:alice","host":"10.0.0.1","operation":"write",
//    "resource":"topic","name":"orders","allowed":false,"count":1}
// Of a binding that such a client made or took away, "operation" is "bind" or "unbind", the resource the exchange that it leads from, and
// "destination", "kind" (queue, exchange or topic) and "key" are its own. One that was there, or was not, is not told. A queue that
// is one connection's own has "exclusive":true in place of its name, so that a thousand of them are one record with its count.
// A configuration file that is read again is an alter-configs of the cluster without a principal and a host, with "file", the
// "settings" that changed, and "reason" when it was refused.
// A login has "operation":"authenticate", "mechanism" and "protocol" in place of resource and name, and of a refusal "reason".
// What happens more than once within a second is one record with its count. Of more than 1,000 different things a second the
// rest is one record without a resource, so that a flood of attempts fills neither memory nor disk.

import MillraceBase
import MillraceMetadata
import MillraceModel
import MillraceRouting
import MillraceSecurity

/// What was asked of the server by whom, kept for whoever has to know it. Belongs to the broker's reactor.
public final class AuditLog {
  /// Something that happened.
  enum Entry: Hashable {
    case decision(AccessControl.Decision)
    case login(String?, host: String, SaslMechanism, protocolName: String, reason: String?)
    /// A binding was made, or taken away.
    case binding(ClientIdentity, isMade: Bool, exchange: String, destination: String?, kind: String, key: String)
    /// The configuration file was read again.
    case reload(file: String, settings: String, reason: String?)
    /// What there was no room for.
    case others
  }

  /// The topic's name.
  public static let topic = "__audit"
  private static let mostEntries = 1000
  private static let interval = Duration.seconds(1)
  private static let longestName = 256

  private let broker: () -> Broker
  private var pending: [Entry: Int] = [:]
  private var order: [Entry] = []
  private var isWaiting = false
  private var isCreating = false
  /// Records that could not be written.
  public private(set) var lost = 0

  init(broker: @escaping () -> Broker) {
    self.broker = broker
  }

  /// Something was decided.
  func decided(_ decision: AccessControl.Decision) {
    let broker = broker()
    if !decision.isAllowed {
      broker.logger.logRarely(
        .info, "audit", "denied", "",
        [
          "principal": decision.principal.description, "host": decision.host, "operation": decision.operation.word,
          "resource": decision.kind.word, "name": decision.name,
        ],
        key: "\(decision.principal) \(decision.operation.word) \(decision.kind.word) \(decision.name)",
        now: broker.reactor.now)
    }
    add(.decision(decision))
  }

  /// Somebody said who it is.
  func loggedIn(
    _ principal: Principal?, from host: String, _ mechanism: SaslMechanism, _ protocolName: String,
    _ error: AuthenticationError?
  ) {
    add(
      .login(
        principal?.description, host: host, mechanism, protocolName: protocolName, reason: error?.code.rawValue))
  }

  /// A binding was made, or taken away. Told of clients who said who they are.
  /// - Parameter isExclusive: it leads to a queue that only its connection has.
  func bound(
    _ binding: Binding, in virtualHost: String, isMade: Bool, isExclusive: Bool, by client: ClientIdentity
  ) {
    guard client.principal != .anonymous else { return }
    add(
      .binding(
        client, isMade: isMade, exchange: ResourceName.inVirtualHost(virtualHost, binding.source),
        destination: isExclusive ? nil : binding.destination.name, kind: binding.destination.kind,
        key: binding.key.text))
  }

  /// The configuration file was read again by whoever runs the program.
  /// - Parameters:
  ///   - settings: names of settings that have changed.
  ///   - reason: why the file was refused; nil when it counts.
  public func reloaded(_ file: String, settings: [String], reason: String? = nil) {
    add(.reload(file: file, settings: settings.joined(separator: " "), reason: reason))
  }

  private func add(_ entry: Entry) {
    guard broker().settings.writesAudit else { return }
    let kept = pending[entry] == nil && pending.count >= AuditLog.mostEntries ? Entry.others : entry
    if pending[kept] == nil { order.append(kept) }
    pending[kept, default: 0] += 1
    guard !isWaiting else { return }
    isWaiting = true
    broker().reactor.schedule(after: AuditLog.interval) { [weak self] in
      self?.isWaiting = false
      self?.write()
    }
  }

  /// Writes what has gathered.
  private func write() {
    let broker = broker()
    guard broker.isOpen, !order.isEmpty else { return }
    guard let topic = broker.topic(AuditLog.topic) else { return create() }
    let time = broker.reactor.wallClock
    var builder = RecordBatchBuilder()
    for entry in order {
      builder.append(Record(value: Bytes(text(entry, pending[entry] ?? 0, time)), timestamp: time))
    }
    let count = order.count
    order = []
    pending = [:]
    // Not as clients write, who may not write to internal topics.
    let bytes = builder.finish()
    let header: RecordBatchHeader
    do throws(RecordBatchError) {
      header = try RecordBatchHeader(bytes)
    } catch {
      preconditionFailure("a batch that was just made: \(error.reason)")
    }
    guard let partition = broker.partition(topic, 0) else { return lose(count, "the topic has no partition 0") }
    broker.append(bytes, header, to: partition) { [weak self] result in
      if case .failure(let error) = result { self?.lose(count, error.description) }
    }
  }

  private func lose(_ count: Int, _ reason: String) {
    lost += count
    broker().logger.logRarely(
      .error, "audit", "records lost", reason, ["records": "\(count)"], now: broker().reactor.now)
  }

  private func create() {
    guard !isCreating else { return }
    isCreating = true
    broker().createTopic(AuditLog.topic, partitions: 1, isInternal: true) { [weak self] result in
      guard let self else { return }
      isCreating = false
      switch result {
      case .success: write()
      case .failure(let error):
        lose(order.count, error.description)
        order = []
        pending = [:]
      }
    }
  }

  private func text(_ entry: Entry, _ count: Int, _ time: Timestamp) -> String {
    var json = JSONWriter()
    json.object { json in
      func string(_ name: String, _ value: String, _ json: inout JSONWriter) {
        json.name(name)
        json.string(value)
      }
      string("time", Logger.iso8601(time), &json)
      switch entry {
      case .decision(let decision):
        string("principal", decision.principal.description, &json)
        string("host", decision.host, &json)
        string("operation", decision.operation.word, &json)
        string("resource", decision.kind.word, &json)
        // A client may ask for names of any length.
        string("name", String(decision.name.prefix(AuditLog.longestName)), &json)
        json.name("allowed")
        json.bool(decision.isAllowed)
      case .login(let principal, let host, let mechanism, let protocolName, let reason):
        if let principal { string("principal", principal, &json) }
        string("host", host, &json)
        string("operation", "authenticate", &json)
        string("mechanism", mechanism.rawValue, &json)
        string("protocol", protocolName, &json)
        if let reason { string("reason", reason, &json) }
        json.name("allowed")
        json.bool(reason == nil)
      case .binding(let client, let isMade, let exchange, let destination, let kind, let key):
        string("principal", client.principal.description, &json)
        string("host", client.host, &json)
        string("operation", isMade ? "bind" : "unbind", &json)
        string("resource", ResourceKind.exchange.word, &json)
        string("name", String(exchange.prefix(AuditLog.longestName)), &json)
        if let destination {
          string("destination", String(destination.prefix(AuditLog.longestName)), &json)
        } else {
          json.name("exclusive")
          json.bool(true)
        }
        string("kind", kind, &json)
        string("key", String(key.prefix(AuditLog.longestName)), &json)
        json.name("allowed")
        json.bool(true)
      case .reload(let file, let settings, let reason):
        string("operation", AccessOperation.alterConfigs.word, &json)
        string("resource", ResourceKind.cluster.word, &json)
        string("name", ResourceName.cluster, &json)
        string("file", file, &json)
        string("settings", settings, &json)
        if let reason { string("reason", String(reason.prefix(AuditLog.longestName)), &json) }
        json.name("allowed")
        json.bool(reason == nil)
      case .others: string("operation", "others", &json)
      }
      json.name("count")
      json.number(count)
    }
    return json.text
  }
}
