// Doctor: looks at a machine as a server on it would find it.

import Glibc
import Millrace
import MillraceBase
import MillraceBroker
import MillraceIO

/// Everything that `millrace doctor` looks at. It changes nothing but a small file in the data directory, which it removes.
struct Doctor {
  private let configuration: ServerConfiguration
  private let files = LinuxFileSystem()
  /// The server that has the data directory open.
  private var holder: Int?
  private(set) var findings: [Finding] = []

  /// Looks at everything. Blocks, for a second or so.
  init(_ configuration: ServerConfiguration, _ problems: [ConfigurationProblem]) {
    self.configuration = configuration
    checkConfiguration(problems)
    let clocks = (wall: Timestamp.now, monotonic: MonotonicTime.now)
    checkDirectory()
    checkClock(clocks.wall, clocks.monotonic)
    checkPorts()
    checkOpenFiles()
    checkMemory()
    checkProcessors()
    checkRing()
  }

  private mutating func add(_ area: String, _ result: Finding.Result, _ text: String, advice: String = "") {
    findings.append(Finding(area, result, text, advice: advice))
  }

  private func number(_ name: String) -> Int64 { configuration.settings.text(name).flatMap { Int64($0) } ?? 0 }

  // MARK: Configuration

  private mutating func checkConfiguration(_ problems: [ConfigurationProblem]) {
    for problem in problems {
      // What a doctor is asked about need not be a whole configuration.
      if configuration.directory.isEmpty, problem.text.hasPrefix("the data directory is missing") { continue }
      add(
        "configuration", .warning, problem.description,
        advice: problem.isWarning ? "" : "no server starts with it; `millrace check-config` tells all that is wrong")
    }
    if let file = configuration.file, problems.isEmpty { add("configuration", .ok, file) }
  }

  // MARK: Where data lie

  private mutating func checkDirectory() {
    let path = configuration.directory
    guard !path.isEmpty else {
      return add(
        "data", .note, "no data directory is named: nothing was looked at that depends on it", advice: "--data DIR")
    }
    do throws(IOError) {
      guard try files.exists(path) else {
        return add(
          "data", .note, "\(path) is not there yet: its disk was not looked at", advice: "make it, and run this again")
      }
      try checkLock(path)
      let place = place(path)
      findings.append(FlushJudgement.kind(place))
      try checkSpace(path)
      guard SystemProbe.mayAccess(path, W_OK | X_OK) else {
        return add(
          "data", .warning, "this user may not write to \(path)", advice: "run this as the user that the server runs as"
        )
      }
      findings.append(FlushJudgement.flush(try FlushProbe.measure(in: path), place))
    } catch {
      add("data", .warning, error.description)
    }
  }

  private mutating func checkLock(_ path: String) throws(IOError) {
    let lock = "\(path)/lock"
    guard try files.exists(lock) else { return add("data", .ok, "\(path) holds no data yet") }
    holder = HeldLocks(ProcFile.text("/proc/locks")).holders[try FileIdentity(lock).inode]
    if holder == nil, SystemProbe.mayAccess(lock, R_OK | W_OK) {
      // The kernel's list holds what this process may see; whoever is elsewhere, in another container, holds the lock as well.
      do throws(IOError) {
        try files.lock(lock).release()
      } catch {
        guard error.code == .locked else { throw error }
        holder = 0
      }
    }
    guard let holder else { return add("data", .ok, "\(path) is not in use") }
    let who = holder > 0 ? "pid \(holder) (\(SocketOwner.name(holder)))" : "a process that cannot be seen from here"
    add("data", .note, "\(path) is in use by a running server, \(who)")
  }

  private func place(_ path: String) -> StoragePlace {
    var place = StoragePlace()
    guard let mount = MountTable(ProcFile.text("/proc/self/mountinfo")).mount(of: Doctor.resolved(path)) else {
      return place
    }
    place.type = mount.type
    place.options = mount.options
    // A partition's queue is that of its disk.
    for queue in ["/sys/dev/block/\(mount.device)/queue", "/sys/dev/block/\(mount.device)/../queue"] {
      let cache = ProcFile.text("\(queue)/write_cache")
      guard !cache.isEmpty else { continue }
      place.hasWriteCache = cache.hasPrefix("write back")
      place.isRotational = ProcFile.text("\(queue)/rotational").hasPrefix("1")
      break
    }
    return place
  }

  private static func resolved(_ path: String) -> String {
    guard let found = realpath(path, nil) else { return path }
    defer { free(found) }
    return String(cString: found)
  }

  private mutating func checkSpace(_ path: String) throws(IOError) {
    let free = try files.availableBytes(path)
    let total = try files.totalBytes(path)
    let low = number("disk.low.bytes")
    let text = "\(Shown.bytes(Double(free))) free of \(Shown.bytes(Double(total)))"
    if low > 0, free < low {
      add(
        "space", .warning, "\(text), less than disk.low.bytes, \(Shown.bytes(Double(low))): producers are refused",
        advice: "make space, or keep less: log.retention.bytes, log.retention.ms")
    } else if free < 1 << 30 || free < total / 20 {
      add(
        "space", .warning, "\(text): when it is full, producers are refused",
        advice: "make space, or keep less: log.retention.bytes, log.retention.ms")
    } else if low == 0 {
      add(
        "space", .note, "\(text); disk.low.bytes is 0, so that a server goes on until the disk is full",
        advice: "set disk.low.bytes, to 1 GiB for example, when others write to this disk, too")
    } else {
      add("space", .ok, text)
    }
  }

  // MARK: The machine

  private mutating func checkClock(_ wall: Timestamp, _ monotonic: MonotonicTime) {
    let passed = (MonotonicTime.now - monotonic).inMilliseconds
    let jump = Timestamp.now.milliseconds - wall.milliseconds - passed
    if abs(jump) > 100 {
      add(
        "clock", .warning, "it jumped by \(jump) ms within \(passed) ms",
        advice: "let one program alone set the clock, by making it run faster or slower")
    }
    do throws(IOError) {
      findings.append(ClockJudgement.finding(try SystemProbe.clock()))
    } catch {
      add("clock", .note, "how it is kept cannot be found out: \(error.reason)")
    }
  }

  private mutating func checkPorts() {
    let sockets = ListeningSockets(ProcFile.text("/proc/net/tcp") + ProcFile.text("/proc/net/tcp6"))
    for definition in configuration.definitions where definition.port != 0 {
      let name = "\(definition.scheme)://\(SocketAddress(host: definition.host, port: definition.port))"
      let found = definition.addresses.lazy.compactMap { sockets.blocking($0, definition.port) }.first
      guard let found else {
        add("port", .ok, "\(name) is free")
        continue
      }
      let owner = SocketOwner.of(found.inode)
      if let holder, holder > 0, owner?.hasPrefix("pid \(holder) ") == true {
        add("port", .ok, "\(name) is the running server's")
      } else {
        add(
          "port", .warning, "\(name) is taken by \(owner ?? "a process that cannot be seen from here")",
          advice: "stop that, or listen on another port")
      }
    }
  }

  private mutating func checkOpenFiles() {
    let (now, most) = SystemProbe.openFiles
    let connections = UInt64(number("max.connections"))
    // Files of the log, beside connections.
    let wanted = connections + 1000
    let text = "\(now) may be open; max.connections is \(connections)"
    if now >= wanted { return add("open files", .ok, text) }
    add(
      "open files", .warning, text,
      advice: "ulimit -n \(wanted)\(most < wanted ? " (beyond this user's hard limit, \(most))" : ""), or "
        + "LimitNOFILE=\(wanted) in a systemd unit, or fewer max.connections")
  }

  private mutating func checkMemory() {
    let memory = MemoryFigures(ProcFile.text("/proc/meminfo"))
    findings += MemoryJudgement.findings(
      memory, limit: ControlGroups.memoryLimit, requests: number("queued.max.request.bytes"),
      overcommit: ProcFile.text("/proc/sys/vm/overcommit_memory").first.map(String.init),
      hugePages: chosenWord(ProcFile.text("/sys/kernel/mm/transparent_hugepage/enabled")))
  }

  private mutating func checkProcessors() {
    let features = ProcessorFeatures(ProcFile.text("/proc/cpuinfo"))
    let quota = ControlGroups(ProcFile.text("/proc/self/cgroup")).processorFiles.compactMap {
      ControlGroups.processors(ProcFile.text($0))
    }.min()
    var text = "\(features.count)"
    if let quota { text += ", of which a control group allows \(Shown.decimal(quota))" }
    add(
      "processors", (quota ?? 2) < 1 ? .warning : .ok, text,
      advice: (quota ?? 2) < 1
        ? "a whole processor at least: below that, the server stands still for part of each period" : "")
    guard !features.isUnknown else { return }
    let missing = [
      features.hasChecksum ? nil : "CRC-32C (checksums of all data)", features.hasAES ? nil : "AES and GCM (TLS)",
    ].compactMap(\.self)
    if missing.isEmpty {
      add("instructions", .ok, "CRC-32C, AES and GCM")
    } else {
      add(
        "instructions", .note, "there are none for \(missing.joined(separator: " and ")): more processor time",
        advice: "in a virtual machine, pass the host's processor through")
    }
  }

  private mutating func checkRing() {
    if configuration.settings.text("io.uring") == "off" { return add("io_uring", .note, "not used: io.uring=off") }
    guard let problem = SystemProbe.ringProblem() else { return add("io_uring", .ok, "small writes go through it") }
    add(
      "io_uring", .note, "not there (\(problem.reason)): every durable write goes through a thread",
      advice: "allow io_uring_setup and io_uring_enter in the container's seccomp profile")
  }
}
