// SimulatedFile: an open file of a SimulatedFileSystem.

import MillraceBase
import MillraceIO

/// An open file.
///
/// Safety: as its world, used by one thread.
final class SimulatedFile: File, @unchecked Sendable {
  let path: String
  private let options: OpenOptions
  private let inode: SimulatedInode
  private let system: SimulatedFileSystem
  private var isClosed = false

  init(path: String, options: OpenOptions, inode: SimulatedInode, system: SimulatedFileSystem) {
    self.path = path
    self.options = options
    self.inode = inode
    self.system = system
  }

  func size() throws(IOError) -> Int64 {
    try requireOpen("measure")
    return Int64(inode.current.count)
  }

  func read(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    try requireOpen("read")
    try requireAligned("read", UnsafeRawBufferPointer(buffer), position)
    if let fault = system.fault(.read, path, at: position, buffer.count) { throw fault }
    let start = Int(position)
    let count = min(buffer.count, inode.current.count - start)
    guard count > 0 else { return 0 }
    inode.current.withUnsafeBytes {
      buffer.copyMemory(from: UnsafeRawBufferPointer(rebasing: $0[start..<(start + count)]))
    }
    return count
  }

  func write(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) {
    try requireOpen("write")
    precondition(options.contains(.write), "\(path) was not opened for writing")
    try requireAligned("write", buffer, position)
    let start = Int(position)
    let durable = options.contains(.durableWrites)
    let bytes = [UInt8](buffer)
    try system.mutate(
      .write, path, at: position, length: bytes.count,
      durable: { if durable { put(bytes, start, durably: true) } },
      failed: {
        for part in SimulatedInode.remains(of: bytes, at: start, &system.random) {
          put(part.bytes, part.position, durably: false)
        }
      },
      apply: { losesPower throws(IOError) in
        let growth = max(0, start + bytes.count - inode.current.count)
        let room = system.roomFor(growth)
        if room < growth {
          put(Array(bytes[..<max(0, bytes.count - (growth - room))]), start, durably: false)
          throw IOError(.noSpace, operation: "write", subject: path, number: 28, reason: "the simulated disk is full")
        }
        // A durable write becomes durable only if power holds until it returns; both ways the bytes are seen.
        if !durable || losesPower { put(bytes, start, durably: false) }
      })
  }

  func flush() throws(IOError) {
    try requireOpen("flush")
    try system.mutate(
      .flush, path, durable: { inode.flush() }, failed: { inode.failFlush(&system.random) })
  }

  func resize(_ size: Int64) throws(IOError) {
    try requireOpen("resize")
    try system.mutate(.resize, path, length: Int(size)) { _ throws(IOError) in
      let old = inode.current.count
      if system.roomFor(max(0, Int(size) - old)) < Int(size) - old {
        throw IOError(.noSpace, operation: "resize", subject: path, number: 28, reason: "the simulated disk is full")
      }
      inode.resize(Int(size))
      system.resized(inode, from: old)
    }
  }

  func close() { isClosed = true }

  private func put(_ bytes: [UInt8], _ position: Int, durably: Bool) {
    guard !bytes.isEmpty else { return }
    let old = inode.current.count
    inode.write(bytes, at: position, durably: durably)
    system.resized(inode, from: old)
  }

  private func requireOpen(_ operation: String) throws(IOError) {
    try system.requireAlive(operation, path)
    if isClosed { throw IOError(.failed, operation: operation, subject: path, number: 9, reason: "the file is closed") }
  }

  private func requireAligned(
    _ operation: String, _ buffer: UnsafeRawBufferPointer, _ position: Int64
  ) throws(IOError) {
    guard options.contains(.direct) else { return }
    let address = UInt(bitPattern: buffer.baseAddress)
    if (UInt(buffer.count) | UInt(bitPattern: Int(position)) | address) % 4096 != 0 {
      throw IOError(
        .failed, operation: operation, subject: path, number: 22,
        reason: "\(buffer.count) bytes at \(position), memory at \(address), are not aligned for direct access")
    }
  }
}
