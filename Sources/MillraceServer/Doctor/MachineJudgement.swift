// MachineJudgement: what figures of clock and memory mean for a server.

import Millrace
import MillraceIO

/// Judges the clock.
enum ClockJudgement {
  static func finding(_ clock: SystemProbe.ClockState) -> Finding {
    guard clock.isSynchronised else {
      return Finding(
        "clock", .warning, "nothing keeps it by another clock",
        advice: "run chrony, systemd-timesyncd or ntpd: records expire by it")
    }
    let offset = abs(clock.offsetNanoseconds) / 1_000_000
    if offset > 500 {
      return Finding("clock", .warning, "synchronised, but \(offset) ms off", advice: "look at what keeps it")
    }
    return Finding(
      "clock", .ok, "synchronised, \(clock.largestErrorMicroseconds / 1000) ms off at most by its own account")
  }
}

/// Judges memory.
enum MemoryJudgement {
  /// What a server may take besides requests: recent records (64 MiB), runs that are read ahead (32 MiB), keys of a compaction
  /// (128 MiB), a segment that is being made (16 MiB), and the program.
  static let base: Int64 = 256 << 20

  /// - Parameters:
  ///   - limit: of the control group, in bytes; nil for none.
  ///   - requests: `queued.max.request.bytes`.
  ///   - overcommit: the kernel's way to promise memory, `0`, `1` or `2`.
  ///   - hugePages: `always`, `madvise` or `never`.
  static func findings(
    _ memory: MemoryFigures, limit: Int64?, requests: Int64, overcommit: String?, hugePages: String?
  ) -> [Finding] {
    var findings: [Finding] = []
    let most = [limit, memory.total].compactMap(\.self).min()
    let wanted = base + requests
    if let most {
      var text = "\(Shown.bytes(Double(most))) at most"
      if let limit, limit == most { text += ", by a control group" }
      if let available = memory.available {
        text += "; \(Shown.bytes(Double(available))) of the machine's are available"
      }
      if most < wanted {
        findings.append(
          Finding(
            "memory", .warning,
            text + "; requests alone may take \(Shown.bytes(Double(requests))) (queued.max.request.bytes)",
            advice: "more memory, or a smaller queued.max.request.bytes: whatever takes too much is ended by the kernel"
          ))
      } else {
        findings.append(Finding("memory", .ok, text))
      }
    }
    if overcommit == "2" {
      findings.append(
        Finding(
          "memory", .note, "the kernel promises no more than it has (vm.overcommit_memory=2)",
          advice: "leave it room: a server maps more than it uses"))
    }
    if let swap = memory.swap, swap > 0 {
      findings.append(
        Finding(
          "swap", .note,
          "\(Shown.bytes(Double(swap))), of which \(Shown.bytes(Double(swap - (memory.swapFree ?? swap)))) are used",
          advice: "a server that is swapped out answers late: swapoff, or vm.swappiness=1"))
    } else if memory.swap != nil {
      findings.append(Finding("swap", .ok, "none"))
    }
    if hugePages == "always" {
      findings.append(
        Finding(
          "huge pages", .note, "always: memory may be taken in pieces of 2 MiB",
          advice: "madvise, when less memory matters more than speed"))
    } else if let hugePages {
      findings.append(Finding("huge pages", .ok, hugePages))
    }
    return findings
  }
}
