// FlushProbe: how long the device takes to make a write durable, and whether it can be believed.

import Glibc
import MillraceBase
import MillraceIO

/// Times of flushes.
struct FlushTimes: Equatable {
  /// In ns, sorted; at least one.
  let nanoseconds: [Int64]

  init(_ times: [Int64]) {
    precondition(!times.isEmpty, "no times")
    nanoseconds = times.sorted()
  }

  var median: Int64 { nanoseconds[nanoseconds.count / 2] }
  var longest: Int64 { nanoseconds[nanoseconds.count - 1] }
}

/// Writes and flushes a small file, as the journal does.
enum FlushProbe {
  /// Flushes that are measured.
  static let count = 64

  /// Overwrites 4 KiB of a file that was written before, and flushes, ``count`` times. The file is gone on return. Blocks, for a second
  /// on a slow disk.
  static func measure(in directory: String) throws(IOError) -> FlushTimes {
    let files = LinuxFileSystem()
    let path = "\(directory)/.millrace-doctor-\(getpid())"
    let file = try files.open(path, [.write, .create, .exclusive, .ownerOnly])
    var times: [Int64] = []
    do throws(IOError) {
      defer { file.close() }
      try write(file, 1 << 20, at: 0)
      try file.flush()
      for number in 0..<count {
        let begin = MonotonicTime.now
        try write(file, 4096, at: Int64(number) * 4096)
        try file.flush()
        times.append((MonotonicTime.now - begin).inNanoseconds)
      }
    } catch {
      try files.remove(path)
      throw error
    }
    try files.remove(path)
    return FlushTimes(times)
  }

  private static func write(_ file: any File, _ size: Int, at position: Int64) throws(IOError) {
    let bytes = [UInt8](repeating: 0x4d, count: size)
    do {
      try bytes.withUnsafeBytes { try file.write($0, at: position) }
    } catch let error as IOError {
      throw error
    } catch {
      preconditionFailure("only writing fails: \(error)")
    }
  }
}

/// What is known of the place where data lie.
struct StoragePlace: Equatable {
  /// The kind of file system; nil when nobody knows.
  var type: String?
  var options: [String] = []
  /// The device has a cache that forgets, by its own account: `write back` in Linux' words. Nil when nobody knows.
  var hasWriteCache: Bool?
  /// It turns.
  var isRotational = false
}

/// Judges by what the place is and how long a flush takes.
enum FlushJudgement {
  /// File systems that forget everything when the machine stops.
  static let volatile: Set<String> = ["tmpfs", "ramfs", "devtmpfs"]
  /// File systems on other machines.
  static let remote: Set<String> = ["nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "ceph", "glusterfs"]
  /// No device that turns has written anything in this time: a turn takes 4 ms at least.
  static let shortestTurn: Int64 = 500_000
  /// No command reaches a device and is answered in this time, let alone one that empties a cache.
  static let shortestFlush: Int64 = 8_000

  static func kind(_ place: StoragePlace) -> Finding {
    guard let type = place.type else {
      return Finding("file system", .note, "its kind cannot be found out")
    }
    if volatile.contains(type) {
      return Finding(
        "file system", .danger, "\(type) lies in memory: all data are gone when the machine stops",
        advice: "put the data directory on a disk, unless it is for tests only")
    }
    if let option = place.options.first(where: { ["nobarrier", "barrier=0"].contains($0) }) {
      return Finding(
        "file system", .danger, "\(type) is mounted with \(option): flushes do not reach the device",
        advice: "mount it without \(option)")
    }
    if type == "overlay" || type == "aufs" {
      return Finding(
        "file system", .danger, "\(type) is a container's own layer: it goes with the container",
        advice: "mount a volume at the data directory")
    }
    if remote.contains(type) {
      return Finding(
        "file system", .warning, "\(type) lies on another machine, whose flushes and locks are its own business",
        advice: "use a disk of this machine, or a block device of the network")
    }
    return Finding("file system", .ok, type)
  }

  static func flush(_ times: FlushTimes, _ place: StoragePlace) -> Finding {
    let text =
      "\(microseconds(times.median)) for a flush of 4 KiB in the middle, \(microseconds(times.longest)) at most, of "
      + "\(times.nanoseconds.count)"
    if volatile.contains(place.type ?? "") { return Finding("flush", .note, text + "; in memory that means nothing") }
    let isTooFast =
      times.median < shortestFlush && place.hasWriteCache != false
      || place.isRotational && times.median < shortestTurn
    if isTooFast {
      return Finding(
        "flush", .danger, text + ": faster than a device can make anything durable",
        advice:
          "something between program and device answers too early: look for a virtual disk with an unsafe cache, a "
          + "controller without a battery, or a drive that lies")
    }
    if times.median > 20_000_000 {
      return Finding(
        "flush", .warning, text + ": every acknowledgement waits for one",
        advice: "use a faster disk, or none that others use")
    }
    return Finding("flush", .ok, text)
  }

  static func microseconds(_ nanoseconds: Int64) -> String { Shown.microseconds(Double(nanoseconds) / 1000) }
}
