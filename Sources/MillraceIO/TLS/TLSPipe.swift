// TLSPipe: where OpenSSL reads ciphertext from and writes it to: memory of ours, without a copy in between.

import COpenSSL
import MillraceBase

/// The lower end of one TLS session. Its owner provides input and takes output; OpenSSL calls it through a BIO.
final class TLSPipe {
  /// What OpenSSL has not read yet. Safety: `inputOwner` keeps the memory alive.
  private var input = UnsafeRawPointer(bitPattern: 16)!
  private(set) var inputCount = 0
  private var inputOwner: AnyObject?
  private var chunk: Chunk?
  private var used = 0
  private var finished: [Bytes] = []

  private static let smallestChunk = 512

  /// Provides input, in place of what was left of the last.
  func provide(_ bytes: Bytes) {
    inputOwner = bytes.owner
    input = bytes.start
    inputCount = bytes.count
  }

  /// Forgets the input that was not read.
  func withdraw() { provide(Bytes()) }

  /// Makes room for `count` bytes of output in one run.
  func reserve(_ count: Int) {
    if let chunk, chunk.capacity - used >= count { return }
    seal()
    chunk = Chunk(capacity: max(count, TLSPipe.smallestChunk))
  }

  /// The output since the last call.
  func takeOutput() -> [Bytes] {
    seal()
    defer { finished = [] }
    return finished
  }

  private func seal() {
    if let chunk, used > 0 { finished.append(chunk.bytes(0..<used)) }
    chunk = nil
    used = 0
  }

  /// A BIO over this pipe, which must outlive it. The caller owns it.
  func makeBIO() -> OpaquePointer {
    guard let bio = BIO_new(TLSPipe.method) else { preconditionFailure("out of memory: no BIO") }
    BIO_set_data(bio, Unmanaged.passUnretained(self).toOpaque())
    BIO_set_init(bio, 1)
    return bio
  }

  // Safety: made once, and never changed afterwards; OpenSSL only reads it.
  nonisolated(unsafe) private static let method: OpaquePointer = {
    guard let method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "millrace") else {
      preconditionFailure("out of memory: no BIO method")
    }
    BIO_meth_set_read_ex(method) { bio, into, length, done in
      guard let bio, let into, let done, let data = BIO_get_data(bio) else { return 0 }
      done.pointee = Unmanaged<TLSPipe>.fromOpaque(data)._withUnsafeGuaranteedRef { $0.read(bio, into, length) }
      return done.pointee > 0 ? 1 : 0
    }
    BIO_meth_set_write_ex(method) { bio, from, length, done in
      guard let bio, let from, let done, let data = BIO_get_data(bio) else { return 0 }
      Unmanaged<TLSPipe>.fromOpaque(data)._withUnsafeGuaranteedRef { $0.write(from, length) }
      done.pointee = length
      return 1
    }
    BIO_meth_set_ctrl(method) { _, command, _, _ in command == BIO_CTRL_FLUSH ? 1 : 0 }
    return method
  }()

  private func read(_ bio: OpaquePointer, _ into: UnsafeMutablePointer<CChar>, _ length: Int) -> Int {
    BIO_clear_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
    guard inputCount > 0 else {
      BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY)
      return 0
    }
    let count = min(length, inputCount)
    UnsafeMutableRawPointer(into).copyMemory(from: input, byteCount: count)
    input += count
    inputCount -= count
    return count
  }

  private func write(_ from: UnsafePointer<CChar>, _ length: Int) {
    reserve(length)
    guard let chunk else { return }
    (chunk.base + used).copyMemory(from: from, byteCount: length)
    used += length
  }
}
