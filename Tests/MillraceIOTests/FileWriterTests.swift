// FileWriterTests: writes handed over by a reactor, through io_uring and on threads.

import Dispatch
import Foundation
import MillraceBase
import Synchronization
import Testing

@testable import MillraceIO

/// A reactor with a writer and a file of 1 MiB, written past the page cache where that is possible.
private final class WriterWorld: @unchecked Sendable {
  // Safety: the writer is used on the reactor only.
  let reactor: EpollReactor
  let pool: ThreadPool
  let file: any File
  let writer: any FileWriter
  let ledger = Ledger()
  private let directory: TemporaryDirectory

  init(usesRing: Bool) throws {
    directory = try TemporaryDirectory()
    reactor = try EpollReactor(name: "writer", logger: .silent, usesRing: usesRing)
    pool = try ThreadPool(name: "writer", threads: 2)
    file = try LinuxFileSystem().open(
      directory.path + "/data", [.read, .write, .create, .direct, .durableWrites])
    try file.resize(1 << 20)
    writer = reactor.fileWriter(pool)
    try reactor.start()
  }

  /// Blocks of 4 KiB, each filled with its byte.
  static func blocks(_ count: Int, _ byte: UInt8) -> Bytes {
    let chunk = Chunk(capacity: max(count * 4096, 64 << 10))
    chunk.base.initializeMemory(as: UInt8.self, repeating: byte, count: count * 4096)
    return chunk.bytes(0..<(count * 4096))
  }

  func write(_ bytes: Bytes, at position: Int64) {
    reactor.submit { [self] in
      writer.write(bytes, to: file, at: position) { [self] error in
        ledger.add(reactor.isCurrent ? "on the reactor" : "elsewhere")
        if error?.subject == "\(file.path) at byte \(position)" { ledger.add("named") }
        ledger.add(error == nil ? "written" : "failed")
      }
    }
  }

  func contents() throws -> [UInt8] {
    let chunk = Chunk(capacity: 1 << 20)
    let got = try file.read(into: UnsafeMutableRawBufferPointer(start: chunk.base, count: 1 << 20), at: 0)
    return chunk.bytes(0..<got).array
  }

  func stop() {
    reactor.stop()
    pool.stop()
  }
}

@Test("many writes of all sizes are there when their completions come, on the reactor", arguments: [true, false])
func writesComplete(usesRing: Bool) throws {
  let world = try WriterWorld(usesRing: usesRing)
  defer { world.stop() }
  // More at once than the ring takes, and one larger than it takes.
  for block in 0..<100 { world.write(WriterWorld.blocks(1, UInt8(block + 1)), at: Int64(block) * 4096) }
  world.write(WriterWorld.blocks(64, 201), at: 512 << 10)
  world.ledger.wait("written", atLeast: 101)
  #expect(world.ledger["on the reactor"] == 101 && world.ledger["failed"] == 0)
  let contents = try world.contents()
  for block in 0..<100 { #expect(contents[block * 4096 + 4095] == UInt8(block + 1)) }
  #expect(contents[(512 << 10)..<(768 << 10)].allSatisfy { $0 == 201 })
}

@Test("a write that fails is told with the file's name", arguments: [true, false])
func writeFails(usesRing: Bool) throws {
  let world = try WriterWorld(usesRing: usesRing)
  defer { world.stop() }
  world.file.close()
  world.write(WriterWorld.blocks(1, 1), at: 0)
  world.ledger.wait("failed", atLeast: 1)
  #expect(world.ledger["written"] == 0 && world.ledger["named"] == 1)
}

@Test("a reactor that stops waits for what is under way", arguments: [true, false])
func stopsAfterWrites(usesRing: Bool) throws {
  let world = try WriterWorld(usesRing: usesRing)
  for block in 0..<16 { world.write(WriterWorld.blocks(1, 7), at: Int64(block) * 4096) }
  world.reactor.stop()
  world.pool.stop()
  #expect(try world.contents()[..<(16 * 4096)].allSatisfy { $0 == 7 })
  if usesRing { #expect(world.ledger["written"] == 16) }
}

@Test("io_uring itself takes and completes a write where the system has it")
func ringIsUsed() throws {
  let world = try WriterWorld(usesRing: true)
  defer { world.stop() }
  world.write(WriterWorld.blocks(1, 3), at: 0)
  world.ledger.wait("written", atLeast: 1)
  let (isRing, throughRing) = world.reactor.call { () -> (Bool, Int) in
    let ring = world.writer as? RingFileWriter
    return (ring?.isOpen ?? false, ring?.completed ?? 0)
  }
  // A sandbox may forbid io_uring; then there is nothing to see here but that writing worked.
  if isRing { #expect(throughRing == 1) }
}

@Test(
  "a write that the kernel gave up, or did in part, is made again on a thread",
  arguments: [EAGAIN, EINTR, ECANCELED, 0])
func ringGivesUp(_ number: Int32) throws {
  let world = try WriterWorld(usesRing: true)
  defer { world.stop() }
  world.write(WriterWorld.blocks(1, 3), at: 0)
  world.ledger.wait("written", atLeast: 1)
  let isRing = world.reactor.call { () -> Bool in
    guard let ring = world.writer as? RingFileWriter, ring.isOpen else { return false }
    // The file is changed behind its back, as if nothing, or only a part, had been written.
    ring.fault = { result in
      world.ledger.add("given up")
      let nothing = WriterWorld.blocks(2, 0)
      do {
        try nothing[0..<8192].withBuffer { try world.file.write($0, at: 4096) }
      } catch {
        world.ledger.add("not undone")
      }
      return number == 0 ? 4096 : -number
    }
    return true
  }
  // A sandbox may forbid io_uring.
  guard isRing else { return }
  world.write(WriterWorld.blocks(2, 5), at: 4096)
  world.ledger.wait("written", atLeast: 2)
  #expect(world.ledger["given up"] == 1 && world.ledger["not undone"] == 0 && world.ledger["failed"] == 0)
  let contents = try world.contents()
  #expect(contents[..<4096].allSatisfy { $0 == 3 })
  #expect(contents[(number == 0 ? 8192 : 4096)..<12288].allSatisfy { $0 == 5 })
}
