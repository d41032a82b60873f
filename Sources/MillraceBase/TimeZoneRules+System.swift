// TimeZoneRules+System: the zone files of the system.

import Glibc

/// Why there are no rules of a zone.
public struct TimeZoneError: Error, Equatable, CustomStringConvertible {
  /// What was wrong, with the names.
  public let description: String
}

extension TimeZoneRules {
  /// Where systems keep their zone files.
  public static let directories = [
    "/usr/share/zoneinfo", "/usr/lib/zoneinfo", "/usr/share/lib/zoneinfo", "/etc/zoneinfo",
  ]
  /// Zone files have some kilobytes.
  private static let largestFile = 1 << 20

  /// The rules of a zone by its name in the IANA database, such as `Europe/Berlin`; `UTC` is known without files.
  /// - Parameter directories: searched in order.
  /// - Throws: when there is no such file, or its content cannot be understood.
  public static func named(
    _ name: String, in directories: [String] = TimeZoneRules.directories
  ) throws(TimeZoneError) -> TimeZoneRules {
    guard isName(name) else { throw TimeZoneError(description: "\"\(name)\" is no name of a time zone") }
    for directory in directories {
      let path = "\(directory)/\(name)"
      guard let file = try contents(path) else { continue }
      do throws(DecodingError) {
        return try TimeZoneRules(file)
      } catch {
        throw TimeZoneError(description: "\(path): \(error)")
      }
    }
    if name == "UTC" { return .utc }
    throw TimeZoneError(
      description: "there is no time zone \"\(name)\" in \(directories.joined(separator: ", "))")
  }

  /// Whether a name stays below the directory: letters, digits, `_`, `-` and `+`, in parts.
  private static func isName(_ name: String) -> Bool {
    guard name.utf8.count < 256 else { return false }
    for part in name.split(separator: "/", omittingEmptySubsequences: false) {
      guard !part.isEmpty, part.utf8.allSatisfy(isSign) else { return false }
    }
    return true
  }

  private static func isSign(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
    case UInt8(ascii: "0")...UInt8(ascii: "9"): true
    case UInt8(ascii: "_"), UInt8(ascii: "-"), UInt8(ascii: "+"): true
    default: false
    }
  }

  /// The bytes of a file; nil when it is not there.
  private static func contents(_ path: String) throws(TimeZoneError) -> Bytes? {
    let descriptor = Glibc.open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
      if errno == ENOENT || errno == ENOTDIR { return nil }
      throw TimeZoneError(description: "\(path): \(String(cString: strerror(errno)))")
    }
    defer { Glibc.close(descriptor) }
    var bytes: [UInt8] = []
    let size = 16_384
    var part = [UInt8](repeating: 0, count: size)
    while bytes.count <= largestFile {
      let count = Glibc.read(descriptor, &part, size)
      guard count >= 0 else { throw TimeZoneError(description: "\(path): \(String(cString: strerror(errno)))") }
      if count == 0 { return Bytes(bytes) }
      bytes += part[..<count]
    }
    throw TimeZoneError(description: "\(path): more than \(largestFile) bytes")
  }
}
