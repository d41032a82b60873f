// KernelFiles: what the kernel's files about itself say, as values: memory, control groups, processors, locks. Sources: proc(5),
// cgroups(7).

/// `/proc/meminfo`, in bytes.
struct MemoryFigures: Equatable {
  private let values: [Substring: Int64]

  init(_ text: String) {
    var values: [Substring: Int64] = [:]
    for line in text.split(separator: "\n") {
      let words = line.split { $0 == " " || $0 == ":" || $0 == "\t" }
      guard words.count >= 2, let number = Int64(words[1]), number >= 0 else { continue }
      values[words[0]] = words.count > 2 && words[2] == "kB" ? number.multipliedClamped(1024) : number
    }
    self.values = values
  }

  var total: Int64? { values["MemTotal"] }
  var available: Int64? { values["MemAvailable"] }
  var swap: Int64? { values["SwapTotal"] }
  var swapFree: Int64? { values["SwapFree"] }
}

extension Int64 {
  fileprivate func multipliedClamped(_ factor: Int64) -> Int64 {
    let (product, isTooLarge) = multipliedReportingOverflow(by: factor)
    return isTooLarge ? .max : product
  }
}

/// `/proc/self/cgroup`: where the process stands in control groups.
struct ControlGroups: Equatable {
  /// Paths below the mount of version 2; nil where there is none.
  private(set) var unified: String?
  /// Of version 1, by controller.
  private(set) var paths: [String: String] = [:]

  init(_ text: String) {
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
  var memoryFiles: [String] {
    ControlGroups.upwards("/sys/fs/cgroup", unified, "memory.max")
      + ControlGroups.upwards("/sys/fs/cgroup/memory", paths["memory"], "memory.limit_in_bytes")
  }

  /// The files that may hold the quota of processors, likewise.
  var processorFiles: [String] { ControlGroups.upwards("/sys/fs/cgroup", unified, "cpu.max") }

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
  static var memoryLimit: Int64? {
    ControlGroups(ProcFile.text("/proc/self/cgroup")).memoryFiles.compactMap { bytes(ProcFile.text($0)) }.min()
  }

  /// A limit of bytes; nil for none, which version 2 writes as `max` and version 1 as a number near 2⁶³.
  static func bytes(_ text: String) -> Int64? {
    guard let word = text.split(whereSeparator: \.isWhitespace).first, let number = Int64(word) else { return nil }
    return number >= 0 && number < 1 << 60 ? number : nil
  }

  /// Processors that `QUOTA PERIOD` stands for; nil for none.
  static func processors(_ text: String) -> Double? {
    let words = text.split(whereSeparator: \.isWhitespace)
    guard words.count == 2, let quota = Double(words[0]), let period = Double(words[1]), period > 0, quota > 0 else {
      return nil
    }
    return quota / period
  }
}

/// `/proc/cpuinfo`: what the first processor can do.
struct ProcessorFeatures: Equatable {
  private let flags: Set<Substring>
  /// Processors that are listed.
  let count: Int

  init(_ text: String) {
    var flags: Set<Substring> = []
    var count = 0
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
      guard parts.count == 2 else { continue }
      let name = parts[0].split(whereSeparator: \.isWhitespace).first
      if name == "processor" { count += 1 }
      // x86 says flags, ARM says Features.
      if flags.isEmpty, name == "flags" || name == "Features" { flags = Set(parts[1].split(separator: " ")) }
    }
    self.flags = flags
    self.count = count
  }

  /// Whether nothing is known.
  var isUnknown: Bool { flags.isEmpty }
  /// An instruction for CRC-32C: SSE 4.2, or ARM's.
  var hasChecksum: Bool { flags.contains("sse4_2") || flags.contains("crc32") }
  /// Instructions for AES and for GCM's multiplication.
  var hasAES: Bool { flags.contains("aes") && (flags.contains("pclmulqdq") || flags.contains("pmull")) }
}

/// `/proc/locks`: who holds which file locks.
struct HeldLocks: Equatable {
  /// By inode, the processes; 0 for one that cannot be seen from here.
  private(set) var holders: [UInt64: Int] = [:]

  init(_ text: String) {
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      // `1: FLOCK  ADVISORY  WRITE 6294 fe:00:16238046 0 EOF`; those that wait have an arrow behind the number.
      guard words.count >= 6, words[1] == "FLOCK", let process = Int(words[4]),
        let inode = words[5].split(separator: ":").last.flatMap({ UInt64($0) })
      else { continue }
      holders[inode] = max(0, process)
    }
  }
}

/// The word in brackets of a file such as `/sys/kernel/mm/transparent_hugepage/enabled`.
func chosenWord(_ text: String) -> String? {
  guard let begin = text.firstIndex(of: "["), let end = text[begin...].firstIndex(of: "]") else { return nil }
  return String(text[text.index(after: begin)..<end])
}
