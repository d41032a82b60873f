// MetricsText+Limits: what is limited, how far it is used, and who was turned away.

import MillraceBase
import MillraceBroker

extension MetricsText {
  func writeLimits(_ writer: inout MetricsWriter) {
    let broker = server.broker
    writer.single(
      "millrace_connections_limit", "gauge", "Connections that may be open at once: max.connections.",
      broker.settings.connections)
    let admission: ConnectionAdmission = broker.admission
    writer.single(
      "millrace_connections_unauthenticated", "gauge", "Open connections whose clients have still to say who they are.",
      admission.census.strangerCount)
    writer.single(
      "millrace_connections_displaced_total", "counter",
      "Connections that made room for others, because their clients had not said who they are.", admission.displaced)
    writer.head(
      "millrace_connections_refused_total", "counter", "Connections that were turned away, by the limit they met.")
    for protocolName in ["amqp", "http", "kafka"] {
      for reason in ConnectionRefusal.allCases {
        let kind = ConnectionAdmission.Refused(protocolName: protocolName, reason: reason)
        MetricsLabels(("protocol", protocolName), ("reason", reason.rawValue)).withBytes {
          writer.line("millrace_connections_refused_total", "", $0, admission.refusals[kind] ?? 0)
        }
      }
    }
    writer.head("millrace_quota_waits_total", "counter", "How often a client had to wait because of a quota.")
    for limit in ClientQuotas.Limit.allCases {
      MetricsLabels(("quota", limit.rawValue)).withBytes {
        writer.line("millrace_quota_waits_total", "", $0, broker.quotas.waits[limit]?.count ?? 0)
      }
    }
    writer.head(
      "millrace_quota_wait_seconds_total", "counter", "How long clients were told to wait because of a quota.")
    for limit in ClientQuotas.Limit.allCases {
      let time = broker.quotas.waits[limit]?.time ?? .zero
      MetricsLabels(("quota", limit.rawValue)).withBytes {
        writer.seconds(
          "millrace_quota_wait_seconds_total", "", $0, nanoseconds: UInt64(max(0, time.inNanoseconds)))
      }
    }
    let memory: MemoryWatch = broker.memory
    writer.single(
      "millrace_memory_low", "gauge", "1 while producers and publishers wait because memory is short.",
      memory.isLow ? 1 : 0)
    writer.single(
      "millrace_memory_low_total", "counter", "How often memory became short.", memory.timesLow)
    if let limit = memory.limit {
      writer.single("millrace_memory_limit_bytes", "gauge", "Memory that the process may have.", limit)
    }
    if let mark = memory.highWatermark {
      writer.single(
        "millrace_memory_high_watermark_bytes", "gauge", "Memory beyond which producers have to wait.", mark)
    }
    writer.head(
      "millrace_request_memory_bytes", "gauge",
      "Memory that requests hold until they are answered, and unfinished ones.")
    let held = server.heldMemory() + [(protocolName: "http", requests: server.heldBytes, answers: server.answers.held)]
    for one in held {
      MetricsLabels(("protocol", one.protocolName)).withBytes {
        writer.line("millrace_request_memory_bytes", "", $0, UInt64(clamping: one.requests))
      }
    }
    writer.single(
      "millrace_request_memory_limit_bytes", "gauge",
      "Memory of requests of one protocol beyond which clients with large ones wait: queued.max.request.bytes.",
      broker.settings.requestMemory)
    writer.head("millrace_unsent_bytes", "gauge", "Answers that clients have not read yet.")
    for one in held {
      MetricsLabels(("protocol", one.protocolName)).withBytes {
        writer.line("millrace_unsent_bytes", "", $0, UInt64(clamping: one.answers))
      }
    }
  }
}
