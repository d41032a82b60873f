// EncryptedFile: an open file whose pages are encrypted: reads and writes at any place, in whole pages of the disk.

import MillraceBase
import Synchronization

/// An open encrypted file. Its size counts whole pages: what a write leaves of the last one is zeros.
///
/// Writes of whole pages inside the file go on side by side; those that make it grow, or change a part of a page, one after the other.
final class EncryptedFile: File {
  private let inner: any File
  /// Nil until the file has a header.
  private let known: Mutex<PageCipher?>
  /// Held by writes that make the file grow or change a part of a page.
  private let growing = Mutex(())
  private let keys: KeyRing
  private let newPageSize: Int
  /// Writes are durable when they return.
  private let isDurable: Bool

  /// Most bytes that are encrypted, or decrypted, at a time.
  private static let pieceSize = 2 << 20

  /// Takes `inner` over, which is open for reading and for what `options` say.
  /// - Parameter headers: held while the header of an existing file is written.
  init(
    _ inner: any File, options: OpenOptions, keys: KeyRing, newPageSize: Int, headers: borrowing Mutex<Void>
  ) throws(IOError) {
    self.inner = inner
    self.keys = keys
    self.newPageSize = newPageSize
    let isWritten = options.contains(.write)
    isDurable = options.contains(.durableWrites)
    if try inner.size() == 0 {
      let begun = isWritten ? try EncryptedFile.begin(inner, keys, newPageSize, isDurable: isDurable) : nil
      known = Mutex(begun)
      return
    }
    let start =
      isWritten
      ? try headers.withLock { _ throws(IOError) in
        try EncryptedFile.confirmedStart(inner, isDurable: options.contains(.durableWrites))
      } : try EncryptedFileStart.read(inner)
    switch start {
    case .unwritten: known = Mutex(nil)
    case .header(let header, _):
      let key = try EncryptedFileSystem.fileKey(header, keys, path: inner.path)
      known = Mutex(PageCipher(key, pageSize: header.pageSize))
    case .damaged:
      throw IOError(
        .corrupt, operation: "open", subject: "\(inner.path) at byte 0",
        reason: "neither copy of the header of an encrypted file can be read")
    case .plain:
      throw IOError(.corrupt, operation: "open", subject: "\(inner.path) at byte 0", reason: "it is not encrypted")
    }
  }

  /// Writes the header of a new file; it is durable before there is a page that needs it.
  private static func begin(
    _ file: any File, _ keys: KeyRing, _ pageSize: Int, isDurable: Bool
  ) throws(IOError) -> PageCipher {
    let key = EncryptionKey.random()
    var random = SystemRandomNumberGenerator()
    let header = EncryptedFileHeader(
      key, with: keys.current, identity: (random.next(), random.next()), pageSize: pageSize)
    try write(header, to: file, isDurable: isDurable)
    return PageCipher(key, pageSize: pageSize)
  }

  /// Reads the header, and makes it durable: it may be in the system's memory only, when the process before was killed, or its flush
  /// had failed, and pages that are written now would be lost with it. Of two copies of which one is damaged both become whole.
  private static func confirmedStart(_ file: any File, isDurable: Bool) throws(IOError) -> EncryptedFileStart {
    let start = try EncryptedFileStart.read(file)
    if case .header(let header, _) = start { try write(header, to: file, isDurable: isDurable) }
    return start
  }

  /// Writes both copies of a header; durable on return.
  private static func write(_ header: EncryptedFileHeader, to file: any File, isDurable: Bool) throws(IOError) {
    let chunk = Chunk(capacity: 64 << 10)
    chunk.base.initializeMemory(as: UInt8.self, repeating: 0, count: EncryptedFileHeader.totalSize)
    let copy = header.encoded()
    for start in [0, EncryptedFileHeader.copyDistance] {
      copy.withUnsafeBytes { (chunk.base + start).copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
    try file.write(UnsafeRawBufferPointer(start: chunk.base, count: EncryptedFileHeader.totalSize), at: 0)
    if !isDurable { try file.flush() }
  }

  var path: String { inner.path }
  /// The file's bytes in a page.
  var pageSize: Int { cipher?.contentSize ?? newPageSize - PageCipher.overhead }

  private var cipher: PageCipher? { known.withLock { $0 } }

  func size() throws(IOError) -> Int64 {
    guard let cipher else { return 0 }
    return try size(cipher)
  }

  private func size(_ cipher: PageCipher) throws(IOError) -> Int64 {
    try pages(cipher) * Int64(cipher.contentSize)
  }

  /// Whole pages that the file has.
  private func pages(_ cipher: PageCipher) throws(IOError) -> Int64 {
    max(0, try inner.size() - Int64(EncryptedFileHeader.totalSize)) / Int64(cipher.pageSize)
  }

  private static func place(_ page: Int64, _ cipher: PageCipher) -> Int64 {
    Int64(EncryptedFileHeader.totalSize) + page * Int64(cipher.pageSize)
  }

  // MARK: Reading

  func read(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    try read(into: buffer, at: position, isStrict: true)
  }

  func readUnverified(into buffer: UnsafeMutableRawBufferPointer, at position: Int64) throws(IOError) -> Int {
    try read(into: buffer, at: position, isStrict: false)
  }

  private func read(
    into buffer: UnsafeMutableRawBufferPointer, at position: Int64, isStrict: Bool
  ) throws(IOError) -> Int {
    precondition(position >= 0, "a read at \(position)")
    guard let cipher, let base = buffer.baseAddress else { return 0 }
    let content = Int64(cipher.contentSize)
    let end = min(position + Int64(buffer.count), try size(cipher))
    guard position < end else { return 0 }
    let count = Int(end - position)
    var page = position / content
    let last = (end - 1) / content
    let atOnce = Int64(max(1, EncryptedFile.pieceSize / cipher.pageSize))
    while page <= last {
      let pages = min(last - page + 1, atOnce)
      let from = page * content - position
      // Pages that are wanted whole are decrypted to where they are wanted.
      let isInside = from >= 0 && from + pages * content <= Int64(count)
      let plain = isInside ? nil : Chunk(capacity: Int(pages * content))
      let target = plain?.base ?? base + Int(from)
      var wrong = try readPages(page, Int(pages), cipher, into: target)
      if wrong != nil {
        // Somebody may have been changing another part of the page.
        wrong = try growing.withLock { _ throws(IOError) in try readPages(page, Int(pages), cipher, into: target) }
      }
      if isStrict, let wrong { throw damage(wrong, cipher) }
      if let plain {
        let skipped = max(0, Int(-from))
        let target = max(0, Int(from))
        let wanted = min(Int(pages * content) - skipped, count - target)
        (base + target).copyMemory(from: plain.base + skipped, byteCount: wanted)
      }
      page += pages
    }
    return count
  }

  private func damage(_ page: PageCipher.WrongPage, _ cipher: PageCipher) -> IOError {
    IOError(
      page.isUnwritten ? .unwritten : .corrupt, operation: "read",
      subject: "\(inner.path) at byte \(EncryptedFile.place(page.number, cipher))",
      reason: page.isUnwritten
        ? "page \(page.number) of the encrypted file was never written, or is lost"
        : "page \(page.number) of the encrypted file is not what was written")
  }

  /// Reads whole pages.
  /// - Returns: the first one that is not what was written.
  private func readPages(
    _ first: Int64, _ count: Int, _ cipher: PageCipher, into out: UnsafeMutableRawPointer
  ) throws(IOError) -> PageCipher.WrongPage? {
    let raw = try readRaw(first, count, cipher)
    return cipher.open(UnsafeRawBufferPointer(start: raw.base, count: count * cipher.pageSize), first: first, into: out)
  }

  /// Pages as they stand on disk.
  private func readRaw(_ first: Int64, _ count: Int, _ cipher: PageCipher) throws(IOError) -> Chunk {
    let length = count * cipher.pageSize
    // At least a mapping, so that the memory is aligned to pages.
    let raw = Chunk(capacity: max(length, 64 << 10))
    let place = EncryptedFile.place(first, cipher)
    let got = try inner.read(into: UnsafeMutableRawBufferPointer(start: raw.base, count: length), at: place)
    // The file was cut meanwhile: what is missing is not what was written.
    if got < length { (raw.base + got).initializeMemory(as: UInt8.self, repeating: 0, count: length - got) }
    return raw
  }

  // MARK: Writing

  func write(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) {
    precondition(position >= 0, "a write at \(position)")
    guard buffer.count > 0 else { return }
    if let cipher = cipher, isWhole(buffer.count, position, cipher),
      try position + Int64(buffer.count) <= size(cipher)
    {
      return try writePages(buffer, position / Int64(cipher.contentSize), cipher)
    }
    try exclusively { cipher throws(IOError) in try self.writeAnywhere(buffer, position, cipher) }
  }

  private func isWhole(_ count: Int, _ position: Int64, _ cipher: PageCipher) -> Bool {
    count % cipher.contentSize == 0 && position % Int64(cipher.contentSize) == 0
  }

  /// Runs `body` while nobody else makes the file grow or changes a part of a page.
  private func exclusively(_ body: (PageCipher) throws(IOError) -> Void) throws(IOError) {
    try growing.withLock { _ throws(IOError) in
      if let cipher { return try body(cipher) }
      let begun = try EncryptedFile.begin(inner, keys, newPageSize, isDurable: isDurable)
      known.withLock { $0 = begun }
      try body(begun)
    }
  }

  private func writeAnywhere(
    _ buffer: UnsafeRawBufferPointer, _ position: Int64, _ cipher: PageCipher
  ) throws(IOError) {
    let content = Int64(cipher.contentSize)
    let end = position + Int64(buffer.count)
    let there = try pages(cipher)
    let first = position / content
    if first > there { try writeZeros(there, Int(first - there), cipher) }
    // A whole middle, and parts of pages before and behind it.
    let middle = min(end, (position + content - 1) / content * content)
    let rest = max(middle, end / content * content)
    func part(_ range: Range<Int64>) -> UnsafeRawBufferPointer {
      UnsafeRawBufferPointer(rebasing: buffer[Int(range.lowerBound - position)..<Int(range.upperBound - position)])
    }
    if position < middle { try writePart(part(position..<middle), position, there, cipher) }
    if middle < rest { try writePages(part(middle..<rest), middle / content, cipher) }
    if rest < end { try writePart(part(rest..<end), rest, there, cipher) }
  }

  /// Writes a part of one page.
  private func writePart(
    _ buffer: UnsafeRawBufferPointer, _ position: Int64, _ there: Int64, _ cipher: PageCipher
  ) throws(IOError) {
    guard let bytes = buffer.baseAddress else { return }
    let page = position / Int64(cipher.contentSize)
    let plain = Chunk(capacity: cipher.contentSize)
    if page < there {
      if let wrong = try readPages(page, 1, cipher, into: plain.base) { throw damage(wrong, cipher) }
    } else {
      plain.base.initializeMemory(as: UInt8.self, repeating: 0, count: cipher.contentSize)
    }
    (plain.base + Int(position % Int64(cipher.contentSize))).copyMemory(from: bytes, byteCount: buffer.count)
    try writePages(UnsafeRawBufferPointer(start: plain.base, count: cipher.contentSize), page, cipher)
  }

  private func writeZeros(_ first: Int64, _ count: Int, _ cipher: PageCipher) throws(IOError) {
    let atOnce = min(count, max(1, EncryptedFile.pieceSize / cipher.pageSize))
    let zeros = Chunk(capacity: atOnce * cipher.contentSize)
    zeros.base.initializeMemory(as: UInt8.self, repeating: 0, count: atOnce * cipher.contentSize)
    var done = 0
    while done < count {
      let pages = min(atOnce, count - done)
      let buffer = UnsafeRawBufferPointer(start: zeros.base, count: pages * cipher.contentSize)
      try writePages(buffer, first + Int64(done), cipher)
      done += pages
    }
  }

  private func writePages(_ buffer: UnsafeRawBufferPointer, _ first: Int64, _ cipher: PageCipher) throws(IOError) {
    let pages = buffer.count / cipher.contentSize
    let atOnce = max(1, EncryptedFile.pieceSize / cipher.pageSize)
    var done = 0
    while done < pages {
      let count = min(atOnce, pages - done)
      let start = done * cipher.contentSize
      let part = UnsafeRawBufferPointer(rebasing: buffer[start..<(start + count * cipher.contentSize)])
      let raw = EncryptedFile.sealed(part, first + Int64(done), cipher)
      try inner.write(
        UnsafeRawBufferPointer(start: raw.base, count: count * cipher.pageSize),
        at: EncryptedFile.place(first + Int64(done), cipher))
      done += count
    }
  }

  private static func sealed(_ content: UnsafeRawBufferPointer, _ first: Int64, _ cipher: PageCipher) -> Chunk {
    let raw = Chunk(capacity: max(content.count / cipher.contentSize * cipher.pageSize, 64 << 10))
    cipher.seal(content, first: first, into: raw.base)
    return raw
  }

  /// What a write of whole pages inside the file is to the file below; nil when it is none. For who writes there by other means.
  func below(_ bytes: Bytes, at position: Int64) -> (file: any File, bytes: Bytes, position: Int64)? {
    guard let cipher, !bytes.isEmpty, isWhole(bytes.count, position, cipher), let size = try? size(cipher),
      position + Int64(bytes.count) <= size
    else { return nil }
    let first = position / Int64(cipher.contentSize)
    let raw = bytes.withBuffer { EncryptedFile.sealed($0, first, cipher) }
    let length = bytes.count / cipher.contentSize * cipher.pageSize
    return (inner, raw.bytes(0..<length), EncryptedFile.place(first, cipher))
  }

  func rewrite(_ buffer: UnsafeRawBufferPointer, at position: Int64) throws(IOError) {
    guard buffer.count > 0 else { return }
    guard let cipher, isWhole(buffer.count, position, cipher) else {
      preconditionFailure("a rewrite of \(buffer.count) bytes at \(position), which are no whole pages")
    }
    let atOnce = max(1, EncryptedFile.pieceSize / cipher.pageSize)
    let plain = Chunk(capacity: atOnce * cipher.contentSize)
    var done = 0
    while done < buffer.count {
      let count = min(atOnce, (buffer.count - done) / cipher.contentSize)
      let page = (position + Int64(done)) / Int64(cipher.contentSize)
      // The very bytes of the disk: encrypted anew, a page that is torn now would be lost.
      let raw = try readRaw(page, count, cipher)
      let pages = UnsafeRawBufferPointer(start: raw.base, count: count * cipher.pageSize)
      let length = count * cipher.contentSize
      if let wrong = cipher.open(pages, first: page, into: plain.base) { throw damage(wrong, cipher) }
      let isSame = UnsafeRawBufferPointer(start: plain.base, count: length)
        .elementsEqual(UnsafeRawBufferPointer(rebasing: buffer[done..<(done + length)]))
      guard isSame else { throw damage(PageCipher.WrongPage(number: page, isUnwritten: false), cipher) }
      try inner.write(pages, at: EncryptedFile.place(page, cipher))
      done += length
    }
  }

  func flush() throws(IOError) { try inner.flush() }

  /// Cuts or extends; a part of a page that is left keeps the rest of it as zeros.
  func resize(_ size: Int64) throws(IOError) {
    try exclusively { cipher throws(IOError) in
      let content = Int64(cipher.contentSize)
      let there = try self.pages(cipher)
      let pages = (size + content - 1) / content
      if pages > there { return try self.writeZeros(there, Int(pages - there), cipher) }
      let kept = Int(size % content)
      if kept > 0 {
        let zeros = Chunk(capacity: cipher.contentSize)
        zeros.base.initializeMemory(as: UInt8.self, repeating: 0, count: cipher.contentSize)
        let rest = UnsafeRawBufferPointer(start: zeros.base, count: cipher.contentSize - kept)
        try self.writePart(rest, size, there, cipher)
      }
      try self.inner.resize(EncryptedFile.place(pages, cipher))
    }
  }

  func close() { inner.close() }
}
