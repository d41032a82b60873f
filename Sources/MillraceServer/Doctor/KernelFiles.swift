// KernelFiles: what the kernel's files about itself say, as values: processors, locks. Source: proc(5).

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
