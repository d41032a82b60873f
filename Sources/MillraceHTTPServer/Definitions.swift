// Definitions: everything that is declared, as one JSON document: RabbitMQ's shape, with topics and settings beside it.
//
// {"product_name", "vhosts": [{"name"}], "exchanges": [{"name", "vhost", "type", "durable", "auto_delete", "internal", "arguments"}],
//  "queues": [{"name", "vhost", "durable", "auto_delete", "arguments"}],
//  "bindings": [{"source", "vhost", "destination", "destination_type", "routing_key", "arguments"}],
//  "topics": [{"name", "partitions", "settings"}], "settings": [{"name", "value"}], "users": [{"name", "tags"}],
//  "permissions": [{"user", "vhost", "configure", "write", "read"}], "rules": [as UserJSON.swift has them], and, always empty,
//  "topic_permissions", "parameters", "global_parameters", "policies"}
//
// Left out are what goes with a connection or a restart, what every server has from the start, and passwords with all that is kept of
// them. A document that is read may leave out any part; what is there already and the same stays. Users may have a "password" or
// "credentials"; of one with a "password_hash" of RabbitMQ's the password stays what it was, or there is none. Policies and
// parameters are not taken, and counted as skipped.

import MillraceBase
import MillraceBroker
import MillraceHTTPProtocol
import MillraceRouting

enum Definitions {
  static let skippedParts = [
    "topic_permissions", "parameters", "global_parameters", "policies",
  ]

  private static let flag = HTTPSchema.boolean
  private static let vhost = HTTPSchema.open([.required("name", .name)])
  private static let exchange = HTTPSchema.open([
    .required("name", .name), .optional("vhost", .name), .required("type", .text(1...64)), .optional("durable", flag),
    .optional("auto_delete", flag), .optional("internal", flag), .optional("arguments", .map(.anything)),
  ])
  private static let queue = HTTPSchema.open([
    .required("name", .name), .optional("vhost", .name), .optional("durable", flag), .optional("auto_delete", flag),
    .optional("arguments", .map(.anything)),
  ])
  private static let binding = HTTPSchema.open([
    .required("source", .text(0...255)), .optional("vhost", .name), .required("destination", .name),
    .required("destination_type", .words(["queue", "exchange", "topic"])), .optional("routing_key", .text(0...255)),
    .optional("arguments", .map(.anything)),
  ])
  private static let topic = HTTPSchema.object([
    .required("name", .text(1...249)), .optional("partitions", .integer(1...10_000)),
    .optional("settings", .map(.string)),
  ])
  private static let setting = HTTPSchema.object([.required("name", .string), .required("value", .string)])

  private static let user = HTTPSchema.open(
    [
      .required("name", .text(1...255)),
      .optional("tags", .anything, "Words with commas between them, or an array of words."),
      .optional("password_hash", .anything, "RabbitMQ's; not taken over."),
    ] + UserJSON.members.filter { $0.name != "tags" })
  private static let permission = HTTPSchema.open([
    .required("user", .text(1...1024)), .optional("vhost", .name), .required("configure", .string),
    .required("write", .string), .required("read", .string),
  ])

  static let schema = HTTPSchema.open([
    .optional("users", .array(user)), .optional("permissions", .array(permission)),
    .optional("rules", .array(UserJSON.rule)),
    .optional("vhosts", .array(vhost)), .optional("exchanges", .array(exchange)), .optional("queues", .array(queue)),
    .optional("bindings", .array(binding)), .optional("topics", .array(topic)), .optional("settings", .array(setting)),
  ])

  // MARK: Out

  /// The document, of one virtual host or of all with topics and settings.
  static func write(_ broker: Broker, only host: String? = nil, to json: inout JSONWriter) throws(HTTPProblem) {
    let hosts = host.map { [$0] } ?? broker.queues.virtualHosts
    var parts: [(host: String, exchanges: [Exchange], queues: [QueueDescription], bindings: [Binding])] = []
    for host in hosts {
      let found = try QueueRoutes.routing { () throws(RoutingError) in
        (
          try broker.queues.exchanges(in: host, after: nil, limit: .max),
          try broker.queues.list(in: host, after: nil, limit: .max),
          try broker.queues.bindings(in: host, from: nil, limit: .max).bindings
        )
      }
      let queues = found.1.filter(\.isDurable)
      let exchanges = found.0.filter { $0.isDurable && !Exchange.isReserved($0.name) }
      let queueNames = Set(queues.map(\.declaration.name))
      let exchangeNames = Set(found.0.filter(\.isDurable).map(\.name))
      let bindings = found.2.filter { binding in
        guard exchangeNames.contains(binding.source) else { return false }
        return switch binding.destination {
        case .queue(let name): queueNames.contains(name)
        case .exchange(let name): exchangeNames.contains(name)
        case .topic: true
        }
      }
      parts.append((host, exchanges, queues, bindings))
    }
    json.object { json in
      json.name("product_name")
      json.string("Millrace")
      json.name("rabbitmq_version")
      json.string(ManagementRoutes.rabbitVersion)
      if host == nil {
        json.name("vhosts")
        json.array { json in
          for host in hosts {
            json.object { json in
              json.name("name")
              json.string(host)
            }
          }
        }
      }
      json.name("exchanges")
      json.array { json in
        for part in parts { for one in part.exchanges { write(one, part.host, to: &json) } }
      }
      json.name("queues")
      json.array { json in
        for part in parts { for one in part.queues { write(one, part.host, to: &json) } }
      }
      json.name("bindings")
      json.array { json in
        for part in parts { for one in part.bindings { write(one, part.host, to: &json) } }
      }
      guard host == nil else { return }
      writeUsers(broker, to: &json)
      for name in skippedParts {
        json.name(name)
        json.array { _ in }
      }
      writeTopics(broker, to: &json)
    }
  }

  private static func write(_ exchange: Exchange, _ host: String, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(exchange.name)
      json.name("vhost")
      json.string(host)
      json.name("type")
      json.string(exchange.type.rawValue)
      json.name("durable")
      json.bool(exchange.isDurable)
      json.name("auto_delete")
      json.bool(exchange.isAutoDelete)
      json.name("internal")
      json.bool(exchange.isInternal)
      json.name("arguments")
      exchange.arguments.write(to: &json)
    }
  }

  private static func write(_ queue: QueueDescription, _ host: String, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(queue.declaration.name)
      json.name("vhost")
      json.string(host)
      json.name("durable")
      json.bool(true)
      json.name("auto_delete")
      json.bool(queue.declaration.isAutoDelete)
      json.name("arguments")
      queue.declaration.arguments.write(to: &json)
    }
  }

  private static func write(_ binding: Binding, _ host: String, to json: inout JSONWriter) {
    json.object { json in
      json.name("source")
      json.string(binding.source)
      json.name("vhost")
      json.string(host)
      json.name("destination")
      json.string(binding.destination.name)
      json.name("destination_type")
      json.string(binding.destination.kind)
      json.name("routing_key")
      json.string(binding.key.text)
      json.name("arguments")
      binding.arguments.write(to: &json)
    }
  }

  private static func writeUsers(_ broker: Broker, to json: inout JSONWriter) {
    json.name("users")
    json.array { json in for (name, user) in broker.users { ManagementRoutes.write(name, user, to: &json) } }
    let rules = broker.rules()
    json.name("permissions")
    json.array { json in
      for one in VirtualHostPermission.all(in: rules, virtualHosts: broker.queues.virtualHosts) {
        ManagementRoutes.write(one, to: &json)
      }
    }
    // All that the permissions mean, and what they cannot say.
    json.name("rules")
    json.array { json in for rule in rules { UserJSON.write(rule, to: &json) } }
  }

  private static func writeTopics(_ broker: Broker, to json: inout JSONWriter) {
    json.name("topics")
    json.array { json in
      for topic in broker.topics.values.sorted(by: { $0.name < $1.name }) where !topic.isInternal {
        json.object { json in
          json.name("name")
          json.string(topic.name)
          json.name("partitions")
          json.number(topic.partitions.count)
          json.name("settings")
          json.object { json in
            for (name, value) in topic.configs.sorted(by: { $0.key < $1.key }) {
              json.name(name)
              json.string(value)
            }
          }
        }
      }
    }
    json.name("settings")
    json.array { json in
      for (name, value) in broker.configs(of: ConfigResource(.broker, "0")).sorted(by: { $0.key < $1.key }) {
        json.object { json in
          json.name("name")
          json.string(name)
          json.name("value")
          json.string(value)
        }
      }
    }
  }
}
