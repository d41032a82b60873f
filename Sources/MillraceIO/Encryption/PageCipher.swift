// PageCipher: the pages of an encrypted file: what each looks like on disk, and the way there and back.
//
// Behind the header (8,192 bytes) a file has whole pages; page n stands at byte 8,192 + n * page size, and holds the file's bytes from
// n * (page size - 32) on. Big endian:
//   0    nonce     12 bytes: 8 that are random for each opening of the file, and a counter of 4
//   12   tag       16 bytes
//   28   sectors   uint8  how many sectors of 512 bytes the page takes: page size / 512, or fewer when what is left out is zeros
//   29   zeros     3 bytes
//   32   encrypted bytes up to the end of the last sector taken; zeros behind it, which are checked
// The tag covers the encrypted bytes, the page's number (uint64), the page size (uint32) and the sectors (uint32).
//
// Invariants:
//  1. A nonce is never used twice with a file's key: a page that is written again gets another one, whoever writes it.
//  2. A page of a file that is not what was written, or that was written elsewhere, is never handed out: its tag is wrong.
//  3. A page that takes one sector and is overwritten by another such page is the old or the new one, whenever power is lost, because
//     devices write a sector whole or not at all. So formats may keep a small header in a page of zeros and write it in place.
//
// Of nonces: 2^32 pages may be written with one random part, then another is drawn; that two of n parts are the same has a chance of
// about n^2 / 2^65: 2^-45 for a thousand openings.

import COpenSSL
import MillraceBase
import Synchronization

/// Encrypts and decrypts pages with a file's key. Any thread may call.
final class PageCipher: Sendable {
  /// Bytes of a page that are not the file's.
  static let overhead = 32
  private static let sector = 512

  /// Bytes of a page on disk.
  let pageSize: Int
  /// Bytes of the file in a page.
  let contentSize: Int

  private let key: EncryptionKey
  private let state: Mutex<State>

  // Safety: a context is used by whoever has taken it out, and by nobody else.
  private struct State: @unchecked Sendable {
    var sealing: [OpaquePointer] = []
    var opening: [OpaquePointer] = []
    var prefix: UInt64 = 0
    /// Of the next page; 2^32 when there is no prefix.
    var counter: UInt64 = 1 << 32
  }

  init(_ key: EncryptionKey, pageSize: Int) {
    self.key = key
    self.pageSize = pageSize
    contentSize = pageSize - PageCipher.overhead
    state = Mutex(State())
  }

  deinit {
    state.withLock { state in
      for context in state.sealing + state.opening { EVP_CIPHER_CTX_free(context) }
    }
  }

  private func take(_ encrypts: Bool) -> OpaquePointer {
    if let kept = state.withLock({ encrypts ? $0.sealing.popLast() : $0.opening.popLast() }) { return kept }
    let made = key.bytes.withMemoryRebound(to: UInt8.self) { mr_gcm_context($0.baseAddress, encrypts ? 1 : 0) }
    guard let made else { preconditionFailure("out of memory: no context for AES-256-GCM") }
    return made
  }

  private func give(_ context: OpaquePointer, _ encrypts: Bool) {
    state.withLock { state in
      if encrypts { state.sealing.append(context) } else { state.opening.append(context) }
    }
  }

  /// Nonces for `count` pages: the random part and the first counter.
  private func nonces(_ count: Int) -> (prefix: UInt64, first: UInt64) {
    precondition(count <= 1 << 31, "\(count) pages in one write")
    return state.withLock { state in
      if state.counter + UInt64(count) > 1 << 32 {
        withUnsafeMutableBytes(of: &state.prefix) { EncryptionKey.randomBytes($0) }
        state.counter = 0
      }
      defer { state.counter += UInt64(count) }
      return (state.prefix, state.counter)
    }
  }

  /// Bytes of a page that the encrypted part takes, so that all behind it are zeros.
  private func used(_ content: UnsafeRawBufferPointer) -> Int {
    var end = content.count
    while end >= 8, content.loadUnaligned(fromByteOffset: end - 8, as: UInt64.self) == 0 { end -= 8 }
    let sectors = max(1, (end + PageCipher.overhead + PageCipher.sector - 1) / PageCipher.sector)
    return sectors * PageCipher.sector - PageCipher.overhead
  }

  private func besides(_ page: Int64, _ sectors: Int) -> (UInt64, UInt64) {
    (UInt64(page).bigEndian, (UInt64(pageSize) << 32 | UInt64(sectors)).bigEndian)
  }

  /// Encrypts whole pages of content.
  /// - Parameters:
  ///   - content: a multiple of ``contentSize`` bytes.
  ///   - first: the number of the first page.
  ///   - out: receives the pages as they stand on disk.
  func seal(_ content: UnsafeRawBufferPointer, first: Int64, into out: UnsafeMutableRawPointer) {
    guard let start = content.baseAddress else { return }
    let count = content.count / contentSize
    precondition(count * contentSize == content.count, "\(content.count) bytes are no whole pages of \(contentSize)")
    let context = take(true)
    defer { give(context, true) }
    let nonces = nonces(count)
    for index in 0..<count {
      let plain = UnsafeRawBufferPointer(start: start + index * contentSize, count: contentSize)
      let size = used(plain)
      let sectors = (size + PageCipher.overhead) / PageCipher.sector
      let page = out + index * pageSize
      page.storeBytes(of: nonces.prefix, as: UInt64.self)
      page.storeBytes(of: UInt32(nonces.first + UInt64(index)).bigEndian, toByteOffset: 8, as: UInt32.self)
      page.storeBytes(of: UInt32(sectors << 24).bigEndian, toByteOffset: 28, as: UInt32.self)
      let at = page.assumingMemoryBound(to: UInt8.self)
      let isDone = withUnsafeBytes(of: besides(first + Int64(index), sectors)) { besides in
        mr_gcm_seal(
          context, at, besides.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(besides.count),
          plain.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(size), at + PageCipher.overhead, at + 12)
      }
      precondition(isDone == 1, "AES-256-GCM failed")
      let end = sectors * PageCipher.sector
      if end < pageSize { (page + end).initializeMemory(as: UInt8.self, repeating: 0, count: pageSize - end) }
    }
  }

  /// A page that is not what was written.
  struct WrongPage: Equatable {
    let number: Int64
    /// There are zeros on the disk, as in a part of a file that was never written.
    let isUnwritten: Bool
  }

  /// Decrypts whole pages.
  /// - Parameters:
  ///   - pages: a multiple of ``pageSize`` bytes as they stand on disk.
  ///   - first: the number of the first page.
  ///   - out: receives the content; of pages that are not what was written, zeros.
  /// - Returns: the first such page, nil when all are right.
  func open(_ pages: UnsafeRawBufferPointer, first: Int64, into out: UnsafeMutableRawPointer) -> WrongPage? {
    guard let start = pages.baseAddress else { return nil }
    let count = pages.count / pageSize
    precondition(count * pageSize == pages.count, "\(pages.count) bytes are no whole pages of \(pageSize)")
    let context = take(false)
    defer { give(context, false) }
    var wrong: WrongPage?
    for index in 0..<count {
      let plain = out + index * contentSize
      let page = UnsafeRawBufferPointer(start: start + index * pageSize, count: pageSize)
      if !open(page, number: first + Int64(index), context, into: plain) {
        plain.initializeMemory(as: UInt8.self, repeating: 0, count: contentSize)
        wrong = wrong ?? WrongPage(number: first + Int64(index), isUnwritten: PageCipher.isZero(page, from: 0))
      }
    }
    return wrong
  }

  private func open(
    _ page: UnsafeRawBufferPointer, number: Int64, _ context: OpaquePointer, into plain: UnsafeMutableRawPointer
  ) -> Bool {
    let word = UInt32(bigEndian: page.loadUnaligned(fromByteOffset: 28, as: UInt32.self))
    let sectors = Int(word >> 24)
    let end = sectors * PageCipher.sector
    guard word & 0xff_ffff == 0, sectors > 0, end <= pageSize, PageCipher.isZero(page, from: end),
      let at = page.baseAddress?.assumingMemoryBound(to: UInt8.self)
    else { return false }
    let size = end - PageCipher.overhead
    let isRight = withUnsafeBytes(of: besides(number, sectors)) { besides in
      mr_gcm_open(
        context, at, besides.baseAddress?.assumingMemoryBound(to: UInt8.self), Int32(besides.count),
        at + PageCipher.overhead, Int32(size), plain.assumingMemoryBound(to: UInt8.self), at + 12)
    }
    guard isRight == 1 else { return false }
    (plain + size).initializeMemory(as: UInt8.self, repeating: 0, count: contentSize - size)
    return true
  }

  private static func isZero(_ page: UnsafeRawBufferPointer, from start: Int) -> Bool {
    for at in stride(from: start, to: page.count, by: 8)
    where page.loadUnaligned(fromByteOffset: at, as: UInt64.self) != 0 {
      return false
    }
    return true
  }
}
