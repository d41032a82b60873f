// RingFileWriter: small writes through io_uring, whose completions the reactor meets like any other event.

import CMillraceSystem
import Glibc
import MillraceBase

/// Writes of up to 64 KiB through io_uring, larger ones and those that the ring cannot take on threads.
///
/// A small write's own time is that of the device, and two hops between threads would add half of it again. Of a large one
/// most is the kernel's work on the calling thread, which is better done beside the reactor.
///
/// Safety of the memory: what is being written is held until its completion was seen, also when the reactor stops.
final class RingFileWriter: FileWriter, EventSource {
  private struct Write {
    let bytes: Bytes
    let file: LinuxFile
    let position: Int64
    let completion: (IOError?) -> Void
  }

  private let reactor: EpollReactor
  private let threads: ThreadFileWriter
  private var ring: OpaquePointer?
  private var state = State.untried
  private var token: UInt64 = 0
  private var writes: [Write?] = Array(repeating: nil, count: RingFileWriter.depth)
  private var free = Array((0..<RingFileWriter.depth).reversed())

  /// For tests: what the kernel is taken to have answered instead of what it did.
  var fault: (Int32) -> Int32 = { $0 }
  /// Writes that went through the ring.
  private(set) var completed = 0
  /// Whether there is a ring, once the first write was made.
  var isOpen: Bool { state == .open }

  private enum State {
    case untried
    case open
    /// There is no ring, or none any more: threads do everything.
    case unavailable
  }

  /// Writes under way at once; further ones go to threads.
  private static let depth = 32
  private static let largestWrite = 64 << 10
  /// What encryption adds to that at most.
  private static let encryptionRoom = 1 << 10

  init(reactor: EpollReactor, executor: any BlockingExecutor) {
    self.reactor = reactor
    threads = ThreadFileWriter(reactor: reactor, executor: executor)
  }

  /// Opens the ring. On the reactor's own thread, because the kernel completes writes on the thread that made them.
  private func open() {
    state = .unavailable
    var error: Int32 = 0
    guard let made = mr_ring_create(UInt32(RingFileWriter.depth), &error) else {
      reactor.logger.log(
        .info, "io", "no io_uring: every durable write goes through a thread",
        ["reactor": reactor.name, "error": IOError.system(-error, "create", "io_uring").reason])
      return
    }
    do throws(IOError) {
      token = try reactor.register(mr_ring_descriptor(made), UInt32(MR_READABLE), self, "io_uring")
      ring = made
      state = .open
    } catch {
      reactor.logger.log(.warning, "io", "io_uring cannot be watched", ["error": error.description])
      mr_ring_destroy(made)
    }
  }

  deinit {
    if let ring { mr_ring_destroy(ring) }
  }

  func write(
    _ bytes: Bytes, to file: any File, at position: Int64, completion: @escaping (IOError?) -> Void
  ) {
    if state == .untried, reactor.isRunning { open() }
    if let encrypted = file as? EncryptedFile, state == .open, bytes.count <= RingFileWriter.largestWrite,
      !free.isEmpty,
      let below = encrypted.below(bytes, at: position)
    {
      // Encrypting so little takes less than the hop to a thread that could do it.
      return write(below.bytes, to: below.file, at: below.position, completion: completion)
    }
    guard let ring, state == .open, bytes.count <= RingFileWriter.largestWrite + RingFileWriter.encryptionRoom,
      let linux = file as? LinuxFile,
      let slot = free.popLast()
    else {
      return threads.write(bytes, to: file, at: position, completion: completion)
    }
    writes[slot] = Write(bytes: bytes, file: linux, position: position, completion: completion)
    guard mr_ring_write(ring, linux.number, bytes.start, bytes.count, position, UInt64(slot)) < 0 else { return }
    writes[slot] = nil
    free.append(slot)
    threads.write(bytes, to: file, at: position, completion: completion)
  }

  // MARK: Events

  func ready(_ flags: UInt32) { reap(waiting: false) }

  /// Waits for what is under way, since the kernel reads from memory that is ours.
  func reactorStops() {
    guard let held = ring, state == .open else { return }
    state = .unavailable
    while free.count < RingFileWriter.depth { reap(waiting: true) }
    reactor.unregister(mr_ring_descriptor(held), token)
    mr_ring_destroy(held)
    ring = nil
  }

  private func reap(waiting: Bool) {
    guard let ring else { return }
    let capacity = RingFileWriter.depth
    withUnsafeTemporaryAllocation(of: mr_completion.self, capacity: capacity) { completions in
      let count = mr_ring_reap(ring, completions.baseAddress, Int32(capacity), waiting ? 1 : 0)
      precondition(count >= 0, "io_uring failed: error \(-count)")
      for index in 0..<Int(count) where completions[index].token != MR_RING_NOTHING {
        finished(Int(completions[index].token), fault(completions[index].result))
      }
    }
  }

  private func finished(_ slot: Int, _ result: Int32) {
    guard let write = writes[slot] else { preconditionFailure("io_uring completed a write that is not under way") }
    writes[slot] = nil
    free.append(slot)
    completed += 1
    // None of these says that the disk failed: the call is made again, where it may block.
    if [EAGAIN, EINTR, ECANCELED].contains(-result) {
      return threads.write(write.bytes, to: write.file, at: write.position, completion: write.completion)
    }
    if result < 0 {
      return write.completion(IOError.system(-result, "write", "\(write.file.path) at byte \(write.position)"))
    }
    let done = Int(result)
    guard done < write.bytes.count else { return write.completion(nil) }
    // A short write is nothing a disk does in normal life; the blocking call goes on, or says what is wrong.
    threads.write(
      write.bytes[done..<write.bytes.count], to: write.file, at: write.position + Int64(done),
      completion: write.completion)
  }
}
