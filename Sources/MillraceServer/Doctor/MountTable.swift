// MountTable: which file system holds a path, as `/proc/self/mountinfo` tells. Source: proc(5).

/// The mounts that this process sees.
struct MountTable: Equatable {
  /// A mount.
  struct Mount: Equatable {
    /// Where.
    var point: String
    /// The kind of file system, such as ext4.
    var type: String
    /// What is mounted, such as /dev/sda1.
    var source: String
    /// Options of the mount and of the file system.
    var options: [String]
    /// Numbers of the device, `8:1`.
    var device: String
  }

  private(set) var mounts: [Mount] = []

  init(_ text: String) {
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      // Any number of optional fields stand before a dash.
      guard words.count >= 10, let dash = words[6...].firstIndex(of: "-"), words.count >= dash + 4 else { continue }
      mounts.append(
        Mount(
          point: MountTable.unescaped(words[4]), type: String(words[dash + 1]),
          source: MountTable.unescaped(words[dash + 2]),
          options: (words[5].split(separator: ",") + words[dash + 3].split(separator: ",")).map(String.init),
          device: String(words[2])))
    }
  }

  /// The mount that holds an absolute path without symbolic links; nil when none does.
  func mount(of path: String) -> Mount? {
    var best: Mount?
    for mount in mounts {
      let isAbove = mount.point == "/" || path == mount.point || path.hasPrefix(mount.point + "/")
      // Of two at one place the later one lies above.
      if isAbove, mount.point.utf8.count >= best?.point.utf8.count ?? 0 { best = mount }
    }
    return best
  }

  /// Blanks, tabs, ends of lines and backslashes stand there as octal numbers.
  private static func unescaped(_ text: Substring) -> String {
    guard text.contains("\\") else { return String(text) }
    var out: [UInt8] = []
    var rest = Array(text.utf8)[...]
    while let byte = rest.popFirst() {
      let digits = rest.prefix(3)
      let isEscape = byte == UInt8(ascii: "\\") && digits.count == 3 && digits.allSatisfy { (0x30...0x37).contains($0) }
      guard isEscape else {
        out.append(byte)
        continue
      }
      out.append(UInt8(truncatingIfNeeded: digits.reduce(0) { $0 * 8 + Int($1 - 0x30) }))
      rest = rest.dropFirst(3)
    }
    return String(decoding: out, as: UTF8.self)
  }
}
