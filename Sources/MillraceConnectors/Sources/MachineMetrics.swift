// MachineMetrics: what /proc tells of the machine, as text and as numbers.
//
// Read: the line `cpu` of stat (clock ticks by state, since the start), MemTotal and MemAvailable of meminfo (KiB), of
// diskstats the sectors of 512 bytes read and written by whole disks, of net/dev the bytes received and sent by all
// interfaces but the loopback. Source: Linux, Documentation/filesystems/proc.rst and
// Documentation/admin-guide/iostats.rst.

import MillraceBase
import MillraceIO
import MillraceStreams

/// A figure of the machine at a moment, as ``MachineMetricsSource`` hands it on.
public struct MachineMetric: TypedRecord, Equatable, Sendable {
  /// `cpu.busy` (part of all processors' time, 0 to 1), `memory.used` (bytes), `disk.read`, `disk.written`,
  /// `network.received`, `network.sent` (bytes a second).
  public var metric = ""
  /// Its value; rates are means since the reading before.
  public var value = 0.0

  /// A figure of nothing.
  public init() {}

  /// A figure.
  public init(metric: String, value: Double) {
    self.metric = metric
    self.value = value
  }

  /// Both fields.
  public static let schema = RecordSchema<MachineMetric>(.field("metric", \.metric), .field("value", \.value))
}

/// The machine's counters at a moment.
struct MachineCounters: Equatable {
  var busyTicks: UInt64 = 0
  var allTicks: UInt64 = 0
  var memoryUsed: UInt64 = 0
  var diskRead: UInt64 = 0
  var diskWritten: UInt64 = 0
  var received: UInt64 = 0
  var sent: UInt64 = 0

  /// Reads the counters from the texts of the four files. What is not there, or is no number, counts as 0.
  init(stat: String, memory: String, disks: String, network: String) {
    if let line = stat.split(separator: "\n").first(where: { $0.hasPrefix("cpu ") }) {
      // user nice system idle iowait irq softirq steal; guests are part of user.
      let ticks = line.split(separator: " ").dropFirst().prefix(8).map { UInt64($0) ?? 0 }
      allTicks = ticks.reduce(0, &+)
      busyTicks = allTicks &- (ticks.count > 4 ? ticks[3] &+ ticks[4] : 0)
    }
    let total = MachineCounters.kibibytes("MemTotal:", in: memory)
    let available = MachineCounters.kibibytes("MemAvailable:", in: memory)
    memoryUsed = total > available ? (total - available) &* 1024 : 0
    for line in disks.split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count >= 10, MachineCounters.isDisk(String(words[2])) else { continue }
      diskRead &+= (UInt64(words[5]) ?? 0) &* 512
      diskWritten &+= (UInt64(words[9]) ?? 0) &* 512
    }
    for line in network.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      let name = line[..<colon].trimming(" ")
      let words = line[line.index(after: colon)...].split(separator: " ")
      guard name != "lo", words.count >= 9 else { continue }
      received &+= UInt64(words[0]) ?? 0
      sent &+= UInt64(words[8]) ?? 0
    }
  }

  private static func kibibytes(_ name: String, in text: String) -> UInt64 {
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix(name) }) else { return 0 }
    let words = line.split(separator: " ")
    return words.count > 1 ? UInt64(words[1]) ?? 0 : 0
  }

  /// Whether a block device is a whole disk; its parts would count twice, and loops and memory are none.
  private static func isDisk(_ name: String) -> Bool {
    func isNumbered(_ prefix: String, _ part: Character?) -> Bool {
      guard name.hasPrefix(prefix) else { return false }
      let rest = name.dropFirst(prefix.count)
      return part.map { !rest.contains($0) } ?? rest.allSatisfy(\.isLetter)
    }
    return isNumbered("sd", nil) || isNumbered("vd", nil) || isNumbered("xvd", nil) || isNumbered("hd", nil)
      || isNumbered("nvme", "p") || isNumbered("mmcblk", "p")
  }

  /// The figures, with rates since `before`, `seconds` earlier; of counters that have begun anew, 0.
  func metrics(since before: MachineCounters, seconds: Double) -> [MachineMetric] {
    func rate(_ path: KeyPath<MachineCounters, UInt64>) -> Double {
      let (now, then) = (self[keyPath: path], before[keyPath: path])
      return now > then && seconds > 0 ? Double(now - then) / seconds : 0
    }
    let all = allTicks > before.allTicks ? allTicks - before.allTicks : 0
    let busy = busyTicks > before.busyTicks ? busyTicks - before.busyTicks : 0
    return [
      MachineMetric(metric: "cpu.busy", value: all > 0 ? min(1, Double(busy) / Double(all)) : 0),
      MachineMetric(metric: "memory.used", value: Double(memoryUsed)),
      MachineMetric(metric: "disk.read", value: rate(\.diskRead)),
      MachineMetric(metric: "disk.written", value: rate(\.diskWritten)),
      MachineMetric(metric: "network.received", value: rate(\.received)),
      MachineMetric(metric: "network.sent", value: rate(\.sent)),
    ]
  }
}

extension Substring {
  fileprivate func trimming(_ character: Character) -> Substring {
    var rest = self
    while rest.first == character { rest.removeFirst() }
    while rest.last == character { rest.removeLast() }
    return rest
  }
}
