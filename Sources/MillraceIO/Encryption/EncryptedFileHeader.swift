// EncryptedFileHeader: what stands at the beginning of an encrypted file: its own key, wrapped.
//
// An encrypted file begins with two blocks of 4,096 bytes, each with a copy of the header in its first 512 bytes and zeros behind it.
// Big endian:
//   0    magic           8 bytes "MRENCFIL"
//   8    version         uint32  1
//   12   page size       uint32  bytes of a page of the file on disk: 4,096 or 16,384
//   16   file identity   16 bytes, random
//   32   key id          uint64  of the key that wraps the file's own
//   40   nonce           12 bytes, random
//   52   wrapped key     32 bytes: the file's own key, encrypted by AES-256-GCM with the key `key id`; bytes 0..<40 are authenticated with it
//   84   tag             16 bytes
//   100  zeros
//   508  crc             uint32  CRC-32C of bytes 0..<508
// Pages follow (see PageCipher.swift).
//
// Invariants:
//  1. A file's own key is random, is made with the file and never changes. Emptying a file gives it a new one.
//  2. A copy lies in one sector, which devices write whole or not at all, and the second is written only once the first is durable. So
//     wrapping the key anew, wherever it is interrupted, leaves a copy that can be read.
//  3. A wrong checksum is damage. A right one with a tag that is wrong, or with a key id that is not known, is a wrong key. The two are
//     never taken for each other.

import COpenSSL
import MillraceBase

/// A header of an encrypted file.
struct EncryptedFileHeader: Equatable, Sendable {
  static let magic: UInt64 = 0x4d52_454e_4346_494c
  static let version: UInt32 = 1
  /// Bytes of a copy.
  static let size = 512
  /// Where the second copy stands.
  static let copyDistance = 4096
  /// Where the first page stands.
  static let totalSize = 8192
  /// Sizes that a page may have on disk.
  static let pageSizes = [4096, 16384]
  private static let authenticatedSize = 40

  let pageSize: Int
  let identity: (high: UInt64, low: UInt64)
  let keyID: EncryptionKeyID
  private let nonce: [UInt8]
  private let wrapped: [UInt8]
  private let tag: [UInt8]

  static func == (left: EncryptedFileHeader, right: EncryptedFileHeader) -> Bool { left.encoded() == right.encoded() }

  /// Wraps a file's key.
  init(_ fileKey: EncryptionKey, with key: EncryptionKey, identity: (high: UInt64, low: UInt64), pageSize: Int) {
    self.identity = identity
    self.pageSize = pageSize
    keyID = key.id
    var nonce = [UInt8](repeating: 0, count: 12)
    nonce.withUnsafeMutableBytes { EncryptionKey.randomBytes($0) }
    var wrapped = [UInt8](repeating: 0, count: EncryptionKey.size)
    var tag = [UInt8](repeating: 0, count: 16)
    let fields = EncryptedFileHeader.fields(pageSize, identity, key.id)
    let isDone = key.bytes.withMemoryRebound(to: UInt8.self) { keyBytes in
      fileKey.bytes.withMemoryRebound(to: UInt8.self) { plain in
        let context = mr_gcm_context(keyBytes.baseAddress, 1)
        defer { EVP_CIPHER_CTX_free(context) }
        return mr_gcm_seal(
          context, nonce, fields, Int32(fields.count), plain.baseAddress, Int32(plain.count), &wrapped, &tag)
      }
    }
    precondition(isDone == 1, "a key cannot be wrapped")
    self.nonce = nonce
    self.wrapped = wrapped
    self.tag = tag
  }

  /// The file's key; nil when `key` is not the one that it was wrapped with.
  func unwrap(with key: EncryptionKey) -> EncryptionKey? {
    let fields = EncryptedFileHeader.fields(pageSize, identity, keyID)
    return withUnsafeTemporaryAllocation(of: UInt8.self, capacity: EncryptionKey.size) { plain in
      let isRight = key.bytes.withMemoryRebound(to: UInt8.self) { keyBytes in
        let context = mr_gcm_context(keyBytes.baseAddress, 0)
        defer { EVP_CIPHER_CTX_free(context) }
        return mr_gcm_open(
          context, nonce, fields, Int32(fields.count), wrapped, Int32(wrapped.count), plain.baseAddress, tag)
      }
      defer { OPENSSL_cleanse(plain.baseAddress, plain.count) }
      return isRight == 1 ? EncryptionKey(UnsafeRawBufferPointer(plain)) : nil
    }
  }

  private static func fields(
    _ pageSize: Int, _ identity: (high: UInt64, low: UInt64), _ key: EncryptionKeyID
  ) -> [UInt8] {
    var out: [UInt8] = []
    out.reserveCapacity(size)
    func add(_ number: some FixedWidthInteger) { withUnsafeBytes(of: number.bigEndian) { out += $0 } }
    add(magic)
    add(version)
    add(UInt32(pageSize))
    add(identity.high)
    add(identity.low)
    add(key.number)
    return out
  }

  /// One copy: 512 bytes.
  func encoded() -> [UInt8] {
    var out = EncryptedFileHeader.fields(pageSize, identity, keyID)
    out += nonce
    out += wrapped
    out += tag
    out += [UInt8](repeating: 0, count: EncryptedFileHeader.size - 4 - out.count)
    let crc = out.withUnsafeBytes { CRC32C.checksum($0) }
    withUnsafeBytes(of: crc.bigEndian) { out += $0 }
    return out
  }

  /// Whether bytes claim to be the beginning of an encrypted file, sound or not.
  static func hasMagic(_ buffer: UnsafeRawBufferPointer) -> Bool {
    buffer.count >= 8 && UInt64(bigEndian: buffer.loadUnaligned(as: UInt64.self)) == magic
  }

  /// Whether bytes are zeros, or the beginning of a copy whose write has ended early, as on a full disk.
  static func isBegun(_ buffer: UnsafeRawBufferPointer) -> Bool {
    let start = withUnsafeBytes(of: magic.bigEndian) { Array($0) }
    return buffer.allSatisfy { $0 == 0 } || buffer.prefix(start.count).elementsEqual(start.prefix(buffer.count))
  }

  /// Reads a copy; nil when the bytes are none, or are damaged.
  init?(_ buffer: UnsafeRawBufferPointer) {
    func number<T: FixedWidthInteger>(_ at: Int, _: T.Type) -> T {
      T(bigEndian: buffer.loadUnaligned(fromByteOffset: at, as: T.self))
    }
    let end = EncryptedFileHeader.size - 4
    guard buffer.count >= EncryptedFileHeader.size, EncryptedFileHeader.hasMagic(buffer),
      number(end, UInt32.self) == CRC32C.checksum(UnsafeRawBufferPointer(rebasing: buffer[..<end])),
      number(8, UInt32.self) == EncryptedFileHeader.version,
      EncryptedFileHeader.pageSizes.contains(Int(number(12, UInt32.self)))
    else { return nil }
    pageSize = Int(number(12, UInt32.self))
    identity = (number(16, UInt64.self), number(24, UInt64.self))
    keyID = EncryptionKeyID(number: number(32, UInt64.self))
    nonce = Array(buffer[40..<52])
    wrapped = Array(buffer[52..<84])
    tag = Array(buffer[84..<100])
  }
}

/// What the first 8,192 bytes of a file say.
enum EncryptedFileStart: Sendable {
  /// Nothing was written there, or all of it was lost: the file was never finished.
  case unwritten
  /// A sound copy of the header, and whether the other one is sound and the same.
  case header(EncryptedFileHeader, isWhole: Bool)
  /// It begins as an encrypted file, but neither copy is sound.
  case damaged
  /// It is something else.
  case plain

  init(_ buffer: UnsafeRawBufferPointer) {
    let copies = [0, EncryptedFileHeader.copyDistance].map { start -> UnsafeRawBufferPointer in
      let end = min(start + EncryptedFileHeader.size, buffer.count)
      return UnsafeRawBufferPointer(rebasing: buffer[min(start, end)..<end])
    }
    let headers = copies.map { EncryptedFileHeader($0) }
    if let header = headers[0] ?? headers[1] {
      self = .header(header, isWhole: headers[0] == headers[1])
    } else if buffer.count < EncryptedFileHeader.totalSize, copies.allSatisfy(EncryptedFileHeader.isBegun) {
      // It has no pages.
      self = .unwritten
    } else if copies.contains(where: EncryptedFileHeader.hasMagic) {
      self = .damaged
    } else if copies.allSatisfy({ $0.allSatisfy { $0 == 0 } }) {
      self = .unwritten
    } else {
      self = .plain
    }
  }

  /// Reads the beginning of an open file, which may be open past the page cache.
  static func read(_ file: any File) throws(IOError) -> EncryptedFileStart {
    let chunk = Chunk(capacity: 64 << 10)
    let room = UnsafeMutableRawBufferPointer(start: chunk.base, count: EncryptedFileHeader.totalSize)
    let got = try file.read(into: room, at: 0)
    return EncryptedFileStart(UnsafeRawBufferPointer(rebasing: room[..<got]))
  }
}
