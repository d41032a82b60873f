// ListeningSockets: who listens on which port, as `/proc/net/tcp` and `tcp6` tell. Source: proc(5).

import Glibc
import MillraceIO

/// Sockets that listen for TCP connections.
struct ListeningSockets: Equatable {
  /// One of them.
  struct Socket: Equatable {
    /// As hexadecimal digits, 8 or 32 of them, in the kernel's order of bytes.
    var address: String
    var port: UInt16
    var inode: UInt64

    /// Whether it takes connections to any address.
    var isForAll: Bool { address.allSatisfy { $0 == "0" } }
  }

  private(set) var sockets: [Socket] = []

  /// Reads one of the files, or both behind one another.
  init(_ text: String) {
    for line in text.split(separator: "\n") {
      let words = line.split(separator: " ")
      // 0A is LISTEN.
      guard words.count >= 10, words[3] == "0A", let inode = UInt64(words[9]) else { continue }
      let parts = words[1].split(separator: ":")
      guard parts.count == 2, parts[0].count == 8 || parts[0].count == 32, let port = UInt16(parts[1], radix: 16)
      else { continue }
      sockets.append(Socket(address: String(parts[0]), port: port, inode: inode))
    }
  }

  /// A socket that keeps others from listening on a numeric address; nil when none does.
  func blocking(_ address: String, _ port: UInt16) -> Socket? {
    let wanted = ListeningSockets.digits(address)
    let isForAll = wanted.allSatisfy { $0 == "0" }
    return sockets.first { one in
      guard one.port == port else { return false }
      if one.address.count != wanted.count {
        // A socket for any address of IPv6 takes those of IPv4 as well.
        return one.isForAll && one.address.count == 32
      }
      return one.isForAll || isForAll || one.address == wanted
    }
  }

  /// An address as the files write it: each 32 bits in the processor's order of bytes, which is little endian.
  private static func digits(_ address: String) -> String {
    var bytes = [UInt8](repeating: 0, count: 16)
    let isLong = address.contains(":")
    guard inet_pton(isLong ? AF_INET6 : AF_INET, address, &bytes) == 1 else { return "" }
    var out = ""
    for group in stride(from: 0, to: isLong ? 16 : 4, by: 4) {
      for byte in bytes[group..<(group + 4)].reversed() {
        out += (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
      }
    }
    return out
  }
}

/// Finds the process behind a socket, as far as this user may see it.
enum SocketOwner {
  /// `pid 12 (name)`; nil when no process that may be seen has it.
  static func of(_ inode: UInt64) -> String? {
    let wanted = "socket:[\(inode)]"
    guard let processes = opendir("/proc") else { return nil }
    defer { closedir(processes) }
    while let entry = readdir(processes) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      guard let process = Int(name), holds("/proc/\(process)/fd", wanted) else { continue }
      return "pid \(process) (\(self.name(process)))"
    }
    return nil
  }

  /// A process's name.
  static func name(_ process: Int) -> String {
    ProcFile.text("/proc/\(process)/comm").split(separator: "\n").first.map(String.init) ?? "?"
  }

  private static func holds(_ folder: String, _ wanted: String) -> Bool {
    guard let open = opendir(folder) else { return false }
    defer { closedir(open) }
    var target = [CChar](repeating: 0, count: 64)
    while let entry = readdir(open) {
      let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
      let length = readlink("\(folder)/\(name)", &target, target.count)
      guard length > 0 else { continue }
      if String(decoding: target[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self) == wanted { return true }
    }
    return false
  }
}
