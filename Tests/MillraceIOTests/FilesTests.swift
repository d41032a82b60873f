// FilesTests: files, directories, locks and the thread pool on the real system.

import CMillraceSystem
import Dispatch
import Foundation
import MillraceBase
import Synchronization
import Testing

@testable import MillraceIO

private func expectError(
  _ code: IOError.Code, _ subject: String, sourceLocation: SourceLocation = #_sourceLocation, _ body: () throws -> Void
) {
  do {
    try body()
    Issue.record("no error", sourceLocation: sourceLocation)
  } catch let error as IOError {
    #expect(error.code == code, sourceLocation: sourceLocation)
    #expect(error.subject.contains(subject), "\(error)", sourceLocation: sourceLocation)
  } catch {
    Issue.record(error, sourceLocation: sourceLocation)
  }
}

@Test("what is written at a position is read there; reads end with the file; sizes follow")
func filesKeepBytes() throws {
  let directory = try TemporaryDirectory()
  let system = LinuxFileSystem()
  let path = directory.path + "/data"
  let file = try system.open(path, [.read, .write, .create, .exclusive])
  let text = Bytes("the miller's wheel")
  try text.withBuffer { try file.write($0, at: 100) }
  try file.flush()
  #expect(try file.size() == 118)
  let room = UnsafeMutableRawBufferPointer.allocate(byteCount: 64, alignment: 16)
  defer { room.deallocate() }
  #expect(try file.read(into: room, at: 100) == 18)
  #expect(Bytes(copying: UnsafeRawBufferPointer(rebasing: room[..<18])) == text)
  #expect(try file.read(into: room, at: 118) == 0)
  try file.resize(104)
  #expect(try file.size() == 104)
  #expect(try file.read(into: room, at: 96) == 8)
  file.close()
  file.close()
  expectError(.failed, path) { _ = try file.size() }
  #expect(try system.readAll(path, limit: 104).count == 104)
  expectError(.failed, path) { _ = try system.readAll(path, limit: 103) }
}

@Test("names appear, move and go; every error names its path and kind")
func directoriesAndErrors() throws {
  let directory = try TemporaryDirectory()
  let system = LinuxFileSystem()
  let base = directory.path
  try system.createDirectory(base + "/sub")
  try system.createDirectory(base + "/sub")
  try system.replace(base + "/sub/a", in: base + "/sub", with: Bytes("one"))
  try system.replace(base + "/sub/a", in: base + "/sub", with: Bytes("two"))
  #expect(try system.readAll(base + "/sub/a", limit: 10).text == "two")
  #expect(try system.list(base + "/sub") == ["a"])
  try system.rename(base + "/sub/a", to: base + "/sub/ü b")
  #expect(try system.list(base + "/sub") == ["ü b"])
  #expect(try system.exists(base + "/sub/ü b"))
  #expect(try system.exists(base + "/sub"))
  #expect(try !system.exists(base + "/sub/a"))
  try system.syncDirectory(base)
  #expect(try system.availableBytes(base) > 0)
  #expect(try system.totalBytes(base) >= system.availableBytes(base))

  expectError(.notFound, base + "/none") { _ = try system.open(base + "/none", .read) }
  expectError(.alreadyExists, "ü b") { _ = try system.open(base + "/sub/ü b", [.write, .create, .exclusive]) }
  expectError(.notFound, base + "/none") { try system.remove(base + "/none") }
  expectError(.notFound, base + "/none") { _ = try system.list(base + "/none") }
  expectError(.notFound, base + "/none") { try system.rename(base + "/none", to: base + "/other") }
  expectError(.notFound, base + "/none") { try system.syncDirectory(base + "/none") }
  expectError(.alreadyExists, "ü b") { try system.createDirectory(base + "/sub/ü b") }
  try system.remove(base + "/sub/ü b")
  #expect(try system.list(base + "/sub") == [])
  expectError(.noSpace, "/dev/full") {
    let full = try system.open("/dev/full", .write)
    try Bytes("x").withBuffer { try full.write($0, at: 0) }
  }
}

@Test("direct and durable writes work where the file system allows them, and buffered where it does not")
func directFiles() throws {
  let directory = try TemporaryDirectory()
  let system = LinuxFileSystem()
  // /dev/shm is a tmpfs, which may refuse O_DIRECT.
  for base in [directory.path, "/dev/shm"] where mr_path_kind(base) == 2 {
    let path = base + "/millrace-direct-\(UUID().uuidString)"
    let file = try system.open(path, [.read, .write, .create, .direct, .durableWrites])
    defer { _ = mr_unlink(path) }
    let chunk = Chunk(capacity: 1 << 16)
    for index in 0..<chunk.capacity {
      chunk.base.storeBytes(of: UInt8(index & 0xff), toByteOffset: index, as: UInt8.self)
    }
    try file.write(UnsafeRawBufferPointer(start: chunk.base, count: chunk.capacity), at: 4096)
    let back = Chunk(capacity: 1 << 16)
    #expect(
      try file.read(into: UnsafeMutableRawBufferPointer(start: back.base, count: back.capacity), at: 4096) == 1 << 16)
    #expect(back.bytes(0..<back.capacity) == chunk.bytes(0..<chunk.capacity))
    file.close()
  }
}

@Test("a lock is refused while another holds it, and free once released")
func locksExclude() throws {
  let directory = try TemporaryDirectory()
  let system = LinuxFileSystem()
  let path = directory.path + "/lock"
  let held = try system.lock(path)
  expectError(.locked, path) { _ = try system.lock(path) }
  held.release()
  held.release()
  let again = try system.lock(path)
  again.release()
}

@Test("a pool runs every job, on all its threads, and starts jobs in order; stop waits for the last")
func poolRunsJobs() throws {
  let single = try ThreadPool(name: "one", threads: 1)
  let order = Mutex<[Int]>([])
  for index in 0..<10_000 { single.submit { order.withLock { $0.append(index) } } }
  single.stop()
  #expect(order.withLock { $0 } == Array(0..<10_000))

  let pool = try ThreadPool(name: "four", threads: 4)
  // Each of four jobs waits for the other three: they must overlap.
  let arrived = Mutex(0)
  let done = DispatchSemaphore(value: 0)
  for _ in 0..<4 {
    pool.submit {
      arrived.withLock { $0 += 1 }
      let end = MonotonicTime.now + .seconds(10)
      while arrived.withLock({ $0 }) < 4 && MonotonicTime.now < end { usleep(100) }
      done.signal()
    }
  }
  for _ in 0..<4 { #expect(done.wait(timeout: .now() + 20) == .success) }
  let count = Mutex(0)
  DispatchQueue.concurrentPerform(iterations: 4) { _ in
    for _ in 0..<10_000 { pool.submit { count.withLock { $0 += 1 } } }
  }
  pool.stop()
  #expect(count.withLock { $0 } == 40_000)
}

@Test("SIGTERM and SIGINT arrive on the reactor")
func signalsArrive() async throws {
  await #expect(processExitsWith: .success) {
    let signals = try Signals()
    let ledger = Ledger()
    try withReactor { reactor in
      reactor.call {
        do { try signals.watch(on: reactor) { ledger.add("signal \($0)") } } catch { preconditionFailure("\(error)") }
      }
      // Addressed to the reactor's thread, because the runner's threads were there before and do not block the signals.
      reactor.call {
        pthread_kill(pthread_self(), SIGTERM)
        pthread_kill(pthread_self(), SIGINT)
      }
      ledger.wait("signal \(SIGTERM)", atLeast: 1)
      ledger.wait("signal \(SIGINT)", atLeast: 1)
      precondition(ledger["signal \(SIGINT)"] == 1, "SIGINT did not arrive")
    }
  }
}
