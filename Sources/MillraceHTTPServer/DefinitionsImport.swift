// DefinitionsImport: makes what a document of definitions says, part by part: what others need comes first.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceRouting

/// One import. Kept alive by what it waits for.
final class DefinitionsImport {
  private let call: HTTPCall
  private let document: JSONValue
  /// The virtual host of what names none.
  private let host: String
  private var counts: [(part: String, count: Int)] = []
  private var part = 0
  /// Users whose passwords could not be taken over, and who have none.
  private var withoutPassword: [String] = []
  private static let parts = [
    "vhosts", "settings", "topics", "exchanges", "queues", "bindings", "users", "permissions", "rules",
  ]

  init(_ call: HTTPCall, _ document: JSONValue, host: String) {
    self.call = call
    self.document = document
    self.host = host
  }

  /// What was made, and what was passed over.
  struct Outcome {
    var counts: [(part: String, count: Int)]
    var skipped: [(part: String, count: Int)]
    var withoutPassword: [String]
  }

  /// Makes everything; stops behind the part in which anything was refused. What was made until then stays.
  func run(_ completion: @escaping (Result<Outcome, HTTPProblem>) -> Void) {
    guard part < DefinitionsImport.parts.count else {
      let skipped = Definitions.skippedParts.compactMap { name in
        document[name]?.array.flatMap { $0.isEmpty ? nil : (part: name, count: $0.count) }
      }
      if !withoutPassword.isEmpty {
        call.broker.logger.log(
          .warning, "http",
          "users were made without their passwords, of which the document has hashes that cannot be used",
          ["users": withoutPassword.prefix(10).joined(separator: " "), "count": "\(withoutPassword.count)"])
      }
      return completion(.success(Outcome(counts: counts, skipped: skipped, withoutPassword: withoutPassword)))
    }
    let name = DefinitionsImport.parts[part]
    part += 1
    let entries = document[name]?.array ?? []
    guard !entries.isEmpty else { return run(completion) }
    var open = entries.count + 1
    var problem: HTTPProblem?
    let done: (Int, HTTPProblem?) -> Void = { [self] index, failure in
      open -= 1
      if var failure, problem == nil {
        failure.place = "/\(name)/\(index)"
        problem = failure
      }
      guard open == 0 else { return }
      if let problem { return completion(.failure(problem)) }
      counts.append((name, entries.count))
      run(completion)
    }
    for (index, entry) in entries.enumerated() {
      do throws(HTTPProblem) {
        try make(name, entry) { done(index, $0) }
      } catch {
        done(index, error)
      }
    }
    done(entries.count, nil)
  }

  private func make(
    _ part: String, _ entry: JSONValue, _ done: @escaping (HTTPProblem?) -> Void
  ) throws(HTTPProblem) {
    let broker = call.broker
    let queues: QueueBroker = broker.queues
    let name = entry["name"]?.string ?? ""
    let host = entry["vhost"]?.string ?? host
    let routed: (RoutingError?) -> Void = { done($0.map { HTTPProblem($0) }) }
    func flag(_ name: String, _ standard: Bool) -> Bool {
      if case .bool(let value)? = entry[name] { value } else { standard }
    }
    switch part {
    case "vhosts": queues.createVirtualHost(name, completion: routed)
    case "settings":
      try setting(name, entry["value"]?.string ?? "") { done($0.map { HTTPProblem($0) }) }
    case "topics": try topic(name, entry, done)
    case "exchanges":
      let exchange = try QueueRoutes.routing { () throws(RoutingError) in
        try Exchange(
          name: name, type: entry["type"]?.string ?? "", isDurable: flag("durable", true),
          isAutoDelete: flag("auto_delete", false), isInternal: flag("internal", false),
          arguments: RoutingTable(entry["arguments"]))
      }
      queues.declareExchange(exchange, in: host, completion: routed)
    case "users": try user(name, entry, done)
    case "permissions":
      guard queues.hasVirtualHost(host) else {
        throw HTTPProblem(.notFound, "unknown-vhost", "vhost '\(host)' not found")
      }
      let permission = try ManagementRoutes.permission(entry, of: entry["user"]?.string ?? "", in: host, at: "")
      ManagementRoutes.set(permission, broker, done)
    case "rules":
      broker.changeRules(adding: [try UserJSON.rule(entry, at: "", broker)]) { done($0.map { HTTPProblem($0) }) }
    case "queues":
      let declaration = QueueDeclaration(
        name: name, virtualHost: host, isDurable: flag("durable", true), isAutoDelete: flag("auto_delete", false),
        arguments: RoutingTable(entry["arguments"]))
      queues.declare(declaration, in: host, owner: nil) { result in
        switch result {
        case .success: done(nil)
        case .failure(let error): done(HTTPProblem(error))
        }
      }
    default:
      let destination = ExchangeRoutes.destination(
        entry["destination_type"]?.string, entry["destination"]?.string ?? "")
      queues.bind(
        Binding(
          source: entry["source"]?.string ?? "", destination: destination, key: entry["routing_key"]?.string ?? "",
          arguments: RoutingTable(entry["arguments"])), in: host, owner: nil, by: call.client,
        completion: routed)
    }
  }

  /// A user gets the tags, and the password, if there is any that can be used.
  private func user(_ name: String, _ entry: JSONValue, _ done: @escaping (HTTPProblem?) -> Void) throws(HTTPProblem) {
    let known = call.broker.user(name)
    let credentials = try UserJSON.credentials(entry, at: "")
    if let hash = entry["password_hash"]?.string, !hash.isEmpty, entry["password"]?.string == nil, credentials == nil,
      known?.credentials.isEmpty ?? true
    {
      withoutPassword.append(name)
    }
    UserRoutes.set(
      name, tags: try ManagementRoutes.tags(entry["tags"], at: "/tags") ?? known?.tags ?? [],
      password: entry["password"]?.string.map { .string($0) }, credentials: credentials ?? [], call.broker, done)
  }

  private func setting(
    _ name: String, _ value: String, _ done: @escaping (BrokerError?) -> Void
  ) throws(HTTPProblem) {
    let node = ConfigResource(.broker, "0")
    do throws(BrokerError) {
      call.broker.configure(node, try call.broker.check([(name, .set(value))], of: node), completion: done)
    } catch {
      throw HTTPProblem(error)
    }
  }

  /// A topic that is there gets what it lacks: partitions, and the settings that are named.
  private func topic(_ name: String, _ entry: JSONValue, _ done: @escaping (HTTPProblem?) -> Void) throws(HTTPProblem) {
    let broker = call.broker
    let settings = SettingJSON.changes(entry["settings"])
    let count = entry["partitions"]?.integer.map { Int($0) }
    guard let topic = broker.topic(name) else {
      var configs: [String: String] = [:]
      for (name, change) in settings { if case .set(let value) = change { configs[name] = value } }
      return broker.createTopic(name, partitions: count, configs: configs) { result in
        switch result {
        case .success: done(nil)
        case .failure(let error): done(HTTPProblem(error))
        }
      }
    }
    let checked: [String: String?]
    do throws(BrokerError) {
      checked = try broker.check(settings, of: topic)
      if let count, count != topic.partitions.count { try broker.checkPartitions(of: topic, total: count) }
    } catch {
      throw HTTPProblem(error)
    }
    broker.configure(topic, checked) { error in
      if let error { return done(HTTPProblem(error)) }
      guard let count, count != topic.partitions.count else { return done(nil) }
      broker.addPartitions(to: topic.id, total: count) { result in
        switch result {
        case .success: done(nil)
        case .failure(let error): done(HTTPProblem(error))
        }
      }
    }
  }
}
