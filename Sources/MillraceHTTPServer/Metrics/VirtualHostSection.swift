// VirtualHostSection: histograms of times in queues, one for each virtual host: as series of each queue they would make a look at
// ten thousand queues four times as large, and what is asked of a histogram is seldom about one queue.

import MillraceBase
import MillraceBroker

/// Virtual hosts: how long messages waited in their queues, and how long consumers had them.
final class VirtualHostSection {
  private let server: HTTPServer
  private let limit: Int
  private var entries = MetricsEntries<VirtualHostTimes>()

  init(_ server: HTTPServer, limit: Int) {
    self.server = server
    self.limit = limit
  }

  private static let families: [MetricsFamily<VirtualHostTimes>] = [
    .init(
      histogram: "millrace_vhost_waiting_seconds",
      "Time from a message's coming, or coming back, to its delivery, in all queues of a virtual host."
    ) { $0.waiting },
    .init(
      histogram: "millrace_vhost_processing_seconds",
      "Time from a delivery until it was settled, in all queues of a virtual host."
    ) { $0.processing },
  ]

  /// Looks at all virtual hosts: there are few.
  func gather() {
    let queues: QueueBroker = server.broker.queues
    var others: VirtualHostTimes?
    for name in queues.timedVirtualHosts {
      guard let times = queues.virtualHostTimes(name) else { continue }
      if entries.count < limit {
        entries.append(times, [("vhost", name)])
      } else if others == nil {
        others = times
      } else {
        others?.add(times)
      }
    }
    if let others { entries.append(others, [("vhost", "")]) }
  }

  func write(to writer: inout MetricsWriter) -> Bool { entries.write(VirtualHostSection.families, to: &writer) }
}
