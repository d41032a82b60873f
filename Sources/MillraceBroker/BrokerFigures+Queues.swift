// BrokerFigures+Queues: exchanges, bindings and queues in the live figures.
//
// [{"name", "exchanges": [{"name", "type", "durable", "autoDelete", "internal"}],
//   "bindings": [{"source", "destination", "kind", "key"}],
//   "queues": [{"name", "type", "durable", "exclusive", "autoDelete", and what QueueFigures.swift lists}]}]
//
// `kind` is that of the destination: queue, exchange or topic. The bindings of the default exchange, which every queue has,
// are not among them.

import MillraceBase
import MillraceQueueing
import MillraceRouting

extension QueueBroker {
  /// Writes all virtual hosts.
  /// - Complexity: O(exchanges + bindings + queues).
  func writeFigures(to json: inout JSONWriter) {
    let now = exactNow
    var byHost: [String: [HostedQueue]] = [:]
    for hosted in queues.values { byHost[hosted.virtualHost, default: []].append(hosted) }
    json.array { json in
      for host in virtualHosts {
        json.object { json in
          json.name("name")
          json.string(host)
          json.name("exchanges")
          json.array { json in
            for exchange in routing.exchanges(in: host) { write(exchange, to: &json) }
          }
          json.name("bindings")
          json.array { json in
            for binding in routing.bindings(in: host) { write(binding, to: &json) }
          }
          json.name("queues")
          json.array { json in
            for hosted in (byHost[host] ?? []).sorted(by: { $0.name < $1.name }) { write(hosted, now, to: &json) }
          }
        }
      }
    }
  }

  private func write(_ exchange: Exchange, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(exchange.name)
      json.name("type")
      json.string(exchange.type.rawValue)
      json.name("durable")
      json.bool(exchange.isDurable)
      json.name("autoDelete")
      json.bool(exchange.isAutoDelete)
      json.name("internal")
      json.bool(exchange.isInternal)
    }
  }

  private func write(_ binding: Binding, to json: inout JSONWriter) {
    json.object { json in
      json.name("source")
      json.string(binding.source)
      json.name("destination")
      json.string(binding.destination.name)
      json.name("kind")
      json.string(binding.destination.kind)
      json.name("key")
      json.string(binding.key.text)
    }
  }

  private func write(_ hosted: HostedQueue, _ now: MonotonicTime, to json: inout JSONWriter) {
    json.object { json in
      json.name("name")
      json.string(hosted.name)
      json.name("type")
      json.string(hosted.arguments.type.rawValue)
      json.name("durable")
      json.bool(hosted.isDurable)
      json.name("exclusive")
      json.bool(hosted.isExclusive)
      json.name("autoDelete")
      json.bool(hosted.isAutoDelete)
      hosted.figures(now: now).writeMembers(to: &json)
    }
  }
}
