// MachineMemory: how much memory this process may have: what the machine has, and what its control groups leave of it. Sources: proc(5),
// cgroups(7).

import MillraceIO

/// Memory of the machine, and of this process's share of it.
package enum MachineMemory {
  /// Bytes that this process may have; nil when the system does not say. Blocks.
  package static var limit: Int64? {
    [MemoryFigures(ProcFile.text("/proc/meminfo")).total, ControlGroups.memoryLimit].compactMap(\.self).min()
  }
}

/// `/proc/meminfo`, in bytes.
package struct MemoryFigures: Equatable {
  private let values: [Substring: Int64]

  /// Reads the file's text; lines that make no sense are left out.
  package init(_ text: String) {
    var values: [Substring: Int64] = [:]
    for line in text.split(separator: "\n") {
      let words = line.split { $0 == " " || $0 == ":" || $0 == "\t" }
      guard words.count >= 2, let number = Int64(words[1]), number >= 0 else { continue }
      values[words[0]] = words.count > 2 && words[2] == "kB" ? number.multipliedClamped(1024) : number
    }
    self.values = values
  }

  /// All memory of the machine; nil when it is not told, as with the others.
  package var total: Int64? { values["MemTotal"] }
  /// What programs can still get without swapping.
  package var available: Int64? { values["MemAvailable"] }
  /// All room to swap to.
  package var swap: Int64? { values["SwapTotal"] }
  /// What is left of it.
  package var swapFree: Int64? { values["SwapFree"] }
}

extension Int64 {
  fileprivate func multipliedClamped(_ factor: Int64) -> Int64 {
    let (product, isTooLarge) = multipliedReportingOverflow(by: factor)
    return isTooLarge ? .max : product
  }
}

/// `/proc/self/cgroup`: where the process stands in control groups.
package struct ControlGroups: Equatable {
  /// Paths below the mount of version 2; nil where there is none.
  package private(set) var unified: String?
  /// Of version 1, by controller.
  package private(set) var paths: [String: String] = [:]

  /// Reads the file's text; lines that make no sense are left out.
  package init(_ text: String) {
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 2, omittingEmptySubsequences: false)
      guard parts.count == 3, parts[2].hasPrefix("/") else { continue }
      if parts[0] == "0", parts[1].isEmpty {
        unified = String(parts[2])
      } else {
        for controller in parts[1].split(separator: ",") { paths[String(controller)] = String(parts[2]) }
      }
    }
  }

  /// The files that may hold the limit of memory, from the process's own group upwards.
  package var memoryFiles: [String] {
    ControlGroups.upwards("/sys/fs/cgroup", unified, "memory.max")
      + ControlGroups.upwards("/sys/fs/cgroup/memory", paths["memory"], "memory.limit_in_bytes")
  }

  /// The files that may hold the quota of processors, likewise.
  package var processorFiles: [String] { ControlGroups.upwards("/sys/fs/cgroup", unified, "cpu.max") }

  private static func upwards(_ mount: String, _ path: String?, _ name: String) -> [String] {
    guard let path else { return [] }
    var parts = path.split(separator: "/")
    var files: [String] = []
    while true {
      files.append(([mount] + parts.map(String.init) + [name]).joined(separator: "/"))
      if parts.popLast() == nil { return files }
    }
  }

  /// The least limit of memory of this process's groups; nil without one. Blocks.
  package static var memoryLimit: Int64? {
    ControlGroups(ProcFile.text("/proc/self/cgroup")).memoryFiles.compactMap { bytes(ProcFile.text($0)) }.min()
  }

  /// A limit of bytes; nil for none, which version 2 writes as `max` and version 1 as a number near 2⁶³.
  package static func bytes(_ text: String) -> Int64? {
    guard let word = text.split(whereSeparator: \.isWhitespace).first, let number = Int64(word) else { return nil }
    return number >= 0 && number < 1 << 60 ? number : nil
  }

  /// Processors that `QUOTA PERIOD` stands for; nil for none.
  package static func processors(_ text: String) -> Double? {
    let words = text.split(whereSeparator: \.isWhitespace)
    guard words.count == 2, let quota = Double(words[0]), let period = Double(words[1]), period > 0, quota > 0 else {
      return nil
    }
    return quota / period
  }
}
