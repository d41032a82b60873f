// KernelFilesTests: what the kernel's files say, as they are on machines of several kinds.

import Millrace
import MillraceIO
import Testing

@testable import MillraceServer

@Test("memory in bytes, whatever order and lines")
func memoryFigures() {
  let memory = MemoryFigures(
    "MemTotal:       24684188 kB\nMemFree:        18 kB\nMemAvailable:   23959040 kB\nSwapTotal:       2097148 kB\n"
      + "SwapFree:        2097144 kB\nHugePages_Total:       3\n")
  #expect(memory.total == 24_684_188 * 1024 && memory.available == 23_959_040 * 1024)
  #expect(memory.swap == 2_097_148 * 1024 && memory.swapFree == 2_097_144 * 1024)
  for text in ["", "\n\n", "MemTotal", "MemTotal:", "MemTotal: x kB", "MemTotal: -1 kB"] {
    #expect(MemoryFigures(text).total == nil, "\(text)")
  }
  #expect(MemoryFigures("MemTotal: 9223372036854775807 kB").total == .max)
}

@Test("limits of control groups of both versions, from the process's own group upwards")
func controlGroups() {
  let second = ControlGroups("0::/system.slice/millrace.service\n")
  #expect(
    second.memoryFiles == [
      "/sys/fs/cgroup/system.slice/millrace.service/memory.max", "/sys/fs/cgroup/system.slice/memory.max",
      "/sys/fs/cgroup/memory.max",
    ])
  #expect(second.processorFiles.first == "/sys/fs/cgroup/system.slice/millrace.service/cpu.max")
  let first = ControlGroups("9:name=systemd:/\n4:cpu,cpuacct:/a\n3:memory:/docker/12\n0::/\nnonsense\n1:x\n")
  #expect(
    first.memoryFiles == [
      "/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/docker/12/memory.limit_in_bytes",
      "/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.limit_in_bytes",
    ])
  #expect(first.paths["cpuacct"] == "/a")
  #expect(ControlGroups("").memoryFiles.isEmpty)
  #expect(ControlGroups.bytes("536870912\n") == 536_870_912)
  for none in ["max\n", "", "9223372036854771712\n", "-1"] { #expect(ControlGroups.bytes(none) == nil, "\(none)") }
  #expect(ControlGroups.processors("150000 100000\n") == 1.5)
  for none in ["max 100000\n", "", "1", "5 0", "x y"] { #expect(ControlGroups.processors(none) == nil, "\(none)") }
}

@Test("instructions of x86 and ARM")
func processorFeatures() {
  let x86 = ProcessorFeatures(
    "processor\t: 0\nflags\t\t: fpu sse4_2 aes pclmulqdq\n\nprocessor\t: 1\nflags\t\t: fpu\n")
  #expect(x86.hasChecksum && x86.hasAES && x86.count == 2)
  let arm = ProcessorFeatures("processor\t: 0\nFeatures\t: fp asimd aes pmull sha1 crc32\n")
  #expect(arm.hasChecksum && arm.hasAES && arm.count == 1)
  let old = ProcessorFeatures("processor: 0\nflags: fpu aes\n")
  #expect(!old.hasChecksum && !old.hasAES && !old.isUnknown)
  #expect(ProcessorFeatures("").isUnknown)
}

@Test("who holds a lock, and who only waits for it")
func heldLocks() {
  let locks = HeldLocks(
    "1: FLOCK  ADVISORY  WRITE 6294 fe:00:16238046 0 EOF\n1: -> FLOCK  ADVISORY  WRITE 77 fe:00:16238046 0 EOF\n"
      + "2: POSIX  ADVISORY  WRITE 5 fe:00:12 0 EOF\n3: FLOCK  ADVISORY  WRITE -1 fe:00:13 0 EOF\nnonsense\n")
  #expect(locks.holders == [16_238_046: 6294, 13: 0])
}

@Test("the mount of a path is the deepest one above it, and the latest of several at one place")
func mounts() {
  let table = MountTable(
    """
    27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
    28 27 8:1 / /data rw,noatime shared:1 master:2 - xfs /dev/sda1 rw,nobarrier
    29 28 0:30 / /data/my\\040disk rw - tmpfs tmpfs rw
    30 27 8:2 / /data rw - btrfs /dev/sdb rw
    nonsense
    31 27 8:2 / /short rw - btrfs
    """)
  #expect(table.mounts.count == 4)
  #expect(table.mount(of: "/var/lib")?.type == "ext4" && table.mount(of: "/")?.device == "254:0")
  #expect(table.mount(of: "/data")?.type == "btrfs" && table.mount(of: "/data/x")?.source == "/dev/sdb")
  #expect(table.mount(of: "/data/my disk/x")?.type == "tmpfs", "blanks stand there as octal numbers")
  #expect(table.mount(of: "/database")?.type == "ext4", "a name that only begins alike is another one")
  #expect(table.mounts[1].options == ["rw", "noatime", "rw", "nobarrier"])
  #expect(MountTable("").mount(of: "/") == nil)
}

/// A line of `/proc/net/tcp`.
private func line(_ address: String, _ state: String, _ inode: Int) -> String {
  "   0: \(address) 00000000:0000 \(state) 00000000:00000000 00:00000000 00000000  1000        0 \(inode) 1 0 100 0\n"
}

@Test("a socket blocks its own address, and one for all addresses blocks all of them")
func listeningSockets() throws {
  let sockets = ListeningSockets(
    "  sl  local_address rem_address   st\n" + line("0100007F:2384", "0A", 7) + line("0100007F:1628", "01", 8)
      + line("00000000:0016", "0A", 9) + line("00000000000000000000000001000000:2385", "0A", 10)
      + line("00000000000000000000000000000000:2386", "0A", 11) + "nonsense\n")
  #expect(sockets.sockets.count == 4, "what is connected does not listen")
  #expect(sockets.blocking("127.0.0.1", 9092)?.inode == 7)
  #expect(sockets.blocking("127.0.0.2", 9092) == nil)
  #expect(sockets.blocking("0.0.0.0", 9092)?.inode == 7, "all addresses cannot be had while one is taken")
  #expect(sockets.blocking("127.0.0.1", 5672) == nil)
  #expect(sockets.blocking("10.0.0.1", 22)?.inode == 9)
  #expect(sockets.blocking("::1", 9093)?.inode == 10 && sockets.blocking("::1", 9092) == nil)
  #expect(sockets.blocking("127.0.0.1", 9094)?.inode == 11, "IPv6's any address takes those of IPv4 as well")
}

@Test("the word in brackets")
func bracketedWord() {
  #expect(chosenWord("always [madvise] never\n") == "madvise")
  for none in ["", "always", "[", "]x["] { #expect(chosenWord(none) == nil, "\(none)") }
}

@Test("memory and mounts that forget, and flushes that cannot be, are a danger")
func flushJudgement() {
  func kind(_ type: String?, _ options: [String] = []) -> Finding.Result {
    FlushJudgement.kind(StoragePlace(type: type, options: options)).result
  }
  #expect(kind("tmpfs") == .danger && kind("overlay") == .danger && kind("ext4", ["rw", "nobarrier"]) == .danger)
  #expect(kind("ext4", ["rw", "barrier=0"]) == .danger && kind("nfs4") == .warning && kind(nil) == .note)
  #expect(kind("ext4", ["rw"]) == .ok && kind("xfs") == .ok)
  func flush(_ microseconds: Int64, cache: Bool?, turns: Bool = false, type: String = "ext4") -> Finding.Result {
    let place = StoragePlace(type: type, options: [], hasWriteCache: cache, isRotational: turns)
    return FlushJudgement.flush(FlushTimes([microseconds * 1000, 1, 90_000_000]), place).result
  }
  #expect(flush(2, cache: true) == .danger && flush(2, cache: nil) == .danger)
  #expect(flush(2, cache: false) == .ok, "a device that says that it forgets nothing may be as fast as it likes")
  #expect(flush(60, cache: true) == .ok && flush(60, cache: true, turns: true) == .danger)
  #expect(flush(5000, cache: true, turns: true) == .ok && flush(30_000, cache: true) == .warning)
  #expect(flush(2, cache: nil, type: "tmpfs") == .note)
  #expect(FlushTimes([5, 1, 9]).median == 5 && FlushTimes([5, 1, 9]).longest == 9 && FlushTimes([4]).median == 4)
}

@Test("a clock that nothing keeps is told, and so is one that is far off")
func clockJudgement() {
  func result(_ isSynchronised: Bool, _ milliseconds: Int64) -> Finding.Result {
    ClockJudgement.finding(
      .init(
        isSynchronised: isSynchronised, offsetNanoseconds: milliseconds * 1_000_000, largestErrorMicroseconds: 5000)
    ).result
  }
  #expect(result(true, 0) == .ok && result(true, -400) == .ok)
  #expect(result(false, 0) == .warning && result(true, -501) == .warning && result(true, 501) == .warning)
}

@Test("memory is held against what requests may take, of the machine or of its control group")
func memoryJudgement() {
  let memory = MemoryFigures("MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\nSwapTotal: 0 kB\n")
  func findings(_ limit: Int64?, _ memory: MemoryFigures, _ overcommit: String = "0", _ huge: String? = "madvise")
    -> [String]
  {
    MemoryJudgement.findings(memory, limit: limit, requests: 256 << 20, overcommit: overcommit, hugePages: huge)
      .map { "\($0.area) \($0.result.rawValue)" }
  }
  #expect(findings(nil, memory) == ["memory ok", "swap ok", "huge pages ok"])
  #expect(findings(128 << 20, memory)[0] == "memory warning" && findings(2 << 30, memory)[0] == "memory ok")
  let swap = MemoryFigures("MemTotal: 8388608 kB\nSwapTotal: 1024 kB\nSwapFree: 1000 kB\n")
  #expect(findings(nil, swap, "2", "always") == ["memory ok", "memory note", "swap note", "huge pages note"])
  #expect(findings(nil, MemoryFigures(""), "0", nil).isEmpty)
}

@Test("findings are lines with advice below, and JSON")
func findingsAsText() {
  let findings = [
    Finding("flush", .danger, "too \u{1b}[31mfast", advice: "look"), Finding("open files", .ok, "65536"),
  ]
  #expect(
    FindingsText.list(findings)
      == "danger   flush       too \\u{1b}[31mfast\n                     → look\nok       open files  65536\n")
  #expect(
    FindingsText.json([Finding("a", .note, "b")])
      == "{\"findings\":[{\"area\":\"a\",\"result\":\"note\",\"text\":\"b\",\"advice\":\"\"}]}\n")
}

@Test("this machine's own files can be read")
func thisMachine() throws {
  #expect((MemoryFigures(ProcFile.text("/proc/meminfo")).total ?? 0) > 1 << 20)
  #expect(MountTable(ProcFile.text("/proc/self/mountinfo")).mount(of: "/") != nil)
  #expect(ProcessorFeatures(ProcFile.text("/proc/cpuinfo")).count > 0)
  #expect(ProcFile.text("/proc/no-such-file").isEmpty)
  #expect(SystemProbe.openFiles.now > 0 && SystemProbe.openFiles.most >= SystemProbe.openFiles.now)
}
