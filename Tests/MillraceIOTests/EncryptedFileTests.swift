// EncryptedFileTests: what an encrypted file keeps, what it hides, and what it notices.

import MillraceBase
import MillraceSimulation
import Testing

@testable import MillraceIO

/// An encrypted file system over a simulated disk.
private struct EncryptedDisk {
  let disk: SimulatedFileSystem
  let keys: KeyRing
  let files: EncryptedFileSystem

  init(seed: UInt64 = 1, keys: KeyRing = KeyRing(.random()), _ disk: SimulatedFileSystem? = nil) throws {
    self.keys = keys
    self.disk = disk ?? SimulatedFileSystem(world: SimulatedWorld(seed: seed))
    files = EncryptedFileSystem(self.disk, keys: keys)
    try self.disk.createDirectory("/d")
  }

  func raw(_ path: String = "/d/f") throws -> [UInt8] {
    try #require(disk.contents().first { $0.path == path }).bytes
  }

  /// Changes bytes of the disk.
  func change(_ path: String = "/d/f", _ body: (inout [UInt8]) -> Void) throws {
    var bytes = try raw(path)
    body(&bytes)
    let file = try disk.open(path, [.read, .write])
    try file.resize(Int64(bytes.count))
    try bytes.withUnsafeBytes { try file.write($0, at: 0) }
    try file.flush()
    file.close()
  }
}

private func write(_ file: any File, _ bytes: [UInt8], at position: Int64) throws {
  try bytes.withUnsafeBytes { try file.write($0, at: position) }
}

private func read(_ file: any File, _ count: Int, at position: Int64, verified: Bool = true) throws -> [UInt8] {
  var out = [UInt8](repeating: 0xee, count: count)
  let got = try out.withUnsafeMutableBytes {
    try verified ? file.read(into: $0, at: position) : file.readUnverified(into: $0, at: position)
  }
  return Array(out[..<got])
}

private func noise(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
  var random = SeededRandom(seed: seed)
  return (0..<count).map { _ in UInt8.random(in: 1...255, using: &random) }
}

private let page = 4064

@Test("oracle: reads and writes anywhere in an encrypted file see what a plain one would hold", arguments: 1...20)
func oracleEncryptedFile(seed: UInt64) throws {
  var random = SeededRandom(seed: seed)
  let world = try EncryptedDisk(seed: seed)
  let options: OpenOptions = seed % 2 == 0 ? [.read, .write, .create] : [.read, .write, .create, .largePages]
  var file = try world.files.open("/d/f", options)
  let unit = file.pageSize
  #expect(unit == (seed % 2 == 0 ? 4064 : 16352))
  var plain: [UInt8] = []
  for step in 0..<60 {
    switch Int.random(in: 0..<6, using: &random) {
    case 0...2:
      let isWhole = random.oneIn(2)
      var at = Int.random(in: 0...(plain.count + 2 * unit), using: &random)
      var count = Int.random(in: 1...(3 * unit), using: &random)
      if isWhole { (at, count) = (at / unit * unit, max(1, count / unit) * unit) }
      let bytes =
        random.oneIn(4) ? [UInt8](repeating: 0, count: count) : noise(count, seed: random.next())
      try write(file, bytes, at: Int64(at))
      if plain.count < at + count {
        plain += [UInt8](repeating: 0, count: (at + count + unit - 1) / unit * unit - plain.count)
      }
      plain.replaceSubrange(at..<(at + count), with: bytes)
    case 3:
      let size = Int.random(in: 0...(plain.count + unit), using: &random)
      try file.resize(Int64(size))
      let whole = (size + unit - 1) / unit * unit
      if plain.count > size { plain.removeLast(plain.count - size) }
      plain += [UInt8](repeating: 0, count: whole - plain.count)
    case 4:
      try file.flush()
      file.close()
      file = try world.files.open("/d/f", [.read, .write])
    default:
      guard plain.count >= unit else { continue }
      let first = Int.random(in: 0..<(plain.count / unit), using: &random) * unit
      try plain[first..<(first + unit)].withUnsafeBytes { try file.rewrite($0, at: Int64(first)) }
    }
    #expect(try file.size() == Int64(plain.count), "seed \(seed), step \(step)")
    let at = Int.random(in: 0...(plain.count + 10), using: &random)
    let count = Int.random(in: 0...(2 * unit + 10), using: &random)
    let expected = at < plain.count ? Array(plain[at..<min(plain.count, at + count)]) : []
    #expect(try read(file, count, at: Int64(at)) == expected, "seed \(seed), step \(step)")
  }
  #expect(try read(file, plain.count, at: 0) == plain, "seed \(seed)")
}

@Test("every bit of a page that is flipped is noticed, with file and place, and nothing of the page is given out")
func everyFlippedBit() throws {
  for content in [noise(page), noise(100) + [UInt8](repeating: 0, count: page - 100)] {
    let cipher = PageCipher(.random(), pageSize: 4096)
    var sealed = [UInt8](repeating: 0, count: 4096)
    sealed.withUnsafeMutableBytes { out in
      content.withUnsafeBytes { cipher.seal($0, first: 7, into: out.baseAddress!) }
    }
    var plain = [UInt8](repeating: 0xee, count: page)
    func open(_ number: Int64 = 7) -> Int64? {
      plain.withUnsafeMutableBytes { out in
        sealed.withUnsafeBytes { cipher.open($0, first: number, into: out.baseAddress!)?.number }
      }
    }
    #expect(open() == nil && plain == content)
    for bit in 0..<(8 * 4096) {
      sealed[bit / 8] ^= 1 << (bit % 8)
      plain = content
      #expect(open() == 7, "bit \(bit)")
      #expect(plain.allSatisfy { $0 == 0 }, "bit \(bit)")
      sealed[bit / 8] ^= 1 << (bit % 8)
    }
    #expect(open() == nil && plain == content)
    // In another place it is another page.
    #expect(open(8) == 8)
  }
}

@Test(
  "damage to a file is an error that names it, or zeros for who verifies what it reads; the pages around it are served")
func damageIsNoticed() throws {
  let world = try EncryptedDisk()
  var file = try world.files.open("/d/f", [.read, .write, .create])
  let content = noise(3 * page)
  try write(file, content, at: 0)
  try world.change { $0[8192 + 4096 + 1000] ^= 4 }
  let error = #expect(throws: IOError.self) { try read(file, 3 * page, at: 0) }
  #expect(error?.code == .corrupt)
  #expect(error?.subject == "/d/f at byte 12288")
  #expect(try read(file, page, at: 0) == Array(content[..<page]))
  #expect(try read(file, page, at: Int64(2 * page)) == Array(content[(2 * page)...]))
  let known = try read(file, 3 * page, at: 0, verified: false)
  var readable = content
  readable.replaceSubrange(page..<(2 * page), with: [UInt8](repeating: 0, count: page))
  #expect(known == readable)
  // A part of a page that cannot be read is not replaced, which would make all of it look sound.
  #expect(#expect(throws: IOError.self) { try write(file, [1], at: Int64(page + 1)) }?.code == .corrupt)
  #expect(
    #expect(throws: IOError.self) {
      try content[page..<(2 * page)].withUnsafeBytes { try file.rewrite($0, at: Int64(page)) }
    }?.code == .corrupt)
  file.close()
  // Cut off in the middle of a page: what is whole is there.
  try world.change { $0.removeLast(100) }
  file = try world.files.open("/d/f", .read)
  #expect(try file.size() == Int64(2 * page))
}

@Test("pages that change places, or come from another file, are noticed")
func swappedPages() throws {
  let world = try EncryptedDisk()
  for name in ["f", "g"] {
    let file = try world.files.open("/d/\(name)", [.read, .write, .create])
    try write(file, noise(2 * page), at: 0)
    file.close()
  }
  let other = try world.raw("/d/g")
  try world.change { bytes in
    let first = bytes[8192..<12288]
    bytes.replaceSubrange(8192..<12288, with: bytes[12288..<16384])
    bytes.replaceSubrange(12288..<16384, with: first)
  }
  let file = try world.files.open("/d/f", .read)
  #expect(#expect(throws: IOError.self) { try read(file, page, at: 0) }?.code == .corrupt)
  #expect(#expect(throws: IOError.self) { try read(file, page, at: Int64(page)) }?.code == .corrupt)
  try world.change { $0.replaceSubrange(8192..<12288, with: other[8192..<12288]) }
  #expect(#expect(throws: IOError.self) { try read(file, page, at: 0) }?.code == .corrupt)
}

@Test("nothing of what is written can be found on the disk, zeros and small contents neither")
func nothingIsInTheClear() throws {
  let world = try EncryptedDisk()
  let file = try world.files.open("/d/f", [.read, .write, .create])
  let secret = Array("correct horse battery staple".utf8)
  try write(file, secret + [UInt8](repeating: 0, count: page - secret.count), at: 0)
  try write(file, (0..<(page / secret.count)).flatMap { _ in secret }, at: Int64(page))
  try write(file, [UInt8](repeating: 0, count: page), at: Int64(2 * page))
  let raw = try world.raw()
  for start in 0...(raw.count - secret.count) {
    #expect(!(raw[start] == secret[0] && raw[start..<(start + secret.count)].elementsEqual(secret)))
  }
  let own = world.keys.current.bytes.map { $0 }
  #expect(!(0...(raw.count - 32)).contains { raw[$0] == own[0] && Array(raw[$0..<($0 + 32)]) == own })
}

@Test(
  "a page that is written again, or by another opening, gets another nonce; one that is written once more stays the same"
)
func noncesAreNeverUsedTwice() throws {
  let world = try EncryptedDisk()
  var seen: Set<[UInt8]> = []
  let content = noise(2 * page)
  for opening in 0..<20 {
    let file = try world.files.open("/d/f", [.read, .write, .create])
    for _ in 0..<3 {
      try write(file, content, at: 0)
      let raw = try world.raw()
      for start in [8192, 12288] {
        #expect(seen.insert(Array(raw[start..<(start + 12)])).inserted, "opening \(opening)")
      }
      try content.withUnsafeBytes { try file.rewrite($0, at: 0) }
      #expect(try world.raw() == raw)
    }
    file.close()
  }
}

@Test("without the right key a file is refused by its name and the key's, and is left as it is")
func wrongKey() throws {
  let world = try EncryptedDisk()
  let file = try world.files.open("/d/f", [.read, .write, .create])
  try write(file, noise(page), at: 0)
  file.close()
  let raw = try world.raw()
  let stranger = try EncryptedDisk(keys: KeyRing(.random()), world.disk)
  let error = #expect(throws: IOError.self) { try stranger.files.open("/d/f", [.read, .write]) }
  #expect(error?.code == .wrongKey)
  #expect(error?.subject == "/d/f")
  #expect(error?.reason.contains("\(world.keys.current.id)") == true)
  #expect(error?.reason.contains("\(stranger.keys.current.id)") == true)
  // The header names a key that is there, but is not the one: no checksum is wrong, so it is no damage.
  let header = try #require(raw.withUnsafeBytes { EncryptedFileHeader($0) })
  let forged = Array(header.encoded()[..<32]) + stranger.forgedID() + Array(header.encoded()[40..<508])
  let crc = forged.withUnsafeBytes { CRC32C.checksum($0) }
  let copy = forged + withUnsafeBytes(of: crc.bigEndian) { Array($0) }
  try world.change { bytes in
    for start in [0, 4096] { bytes.replaceSubrange(start..<(start + 512), with: copy) }
  }
  #expect(#expect(throws: IOError.self) { try stranger.files.open("/d/f", .read) }?.code == .wrongKey)
}

extension EncryptedDisk {
  fileprivate func forgedID() -> [UInt8] {
    withUnsafeBytes(of: UInt64(keys.current.id.description, radix: 16)!.bigEndian) { Array($0) }
  }
}

@Test("every bit of a header is flipped: one copy is enough, two damaged ones are damage")
func damagedHeader() throws {
  let world = try EncryptedDisk()
  let file = try world.files.open("/d/f", [.read, .write, .create])
  let content = noise(page)
  try write(file, content, at: 0)
  file.close()
  var start = try world.raw()
  for bit in 0..<(8 * 512) {
    for copy in [0, 4096] {
      start[copy + bit / 8] ^= 1 << UInt8(bit % 8)
      guard case .header(_, let isWhole) = start.withUnsafeBytes({ EncryptedFileStart($0) }), !isWhole else {
        Issue.record("bit \(bit) of the copy at \(copy)")
        return
      }
      start[copy + bit / 8] ^= 1 << UInt8(bit % 8)
    }
  }
  for copy in [0, 4096] {
    try world.change { $0[copy + 20] ^= 1 }
    let opened = try world.files.open("/d/f", .read)
    #expect(try read(opened, page, at: 0) == content, "copy at \(copy)")
    try world.change { $0[copy + 20] ^= 1 }
  }
  for byte in stride(from: 0, to: 512, by: 37) {
    try world.change { bytes in for start in [0, 4096] { bytes[start + byte] ^= 0x40 } }
    let error = #expect(throws: IOError.self) { try world.files.open("/d/f", .read) }
    #expect(error?.code == .corrupt && error?.subject == "/d/f at byte 0", "byte \(byte)")
    try world.change { bytes in for start in [0, 4096] { bytes[start + byte] ^= 0x40 } }
  }
  // What is not encrypted is not read.
  try world.change { $0 = noise(20_000) }
  let error = #expect(throws: IOError.self) { try world.files.open("/d/f", .read) }
  #expect(error?.reason == "it is not encrypted")
}

@Test("a file that was never finished is empty, and can be begun again", arguments: [0, 100, 4096, 20_000])
func unfinishedFile(size: Int) throws {
  let world = try EncryptedDisk()
  let raw = try world.disk.open("/d/f", [.read, .write, .create])
  try raw.resize(Int64(size))
  let file = try world.files.open("/d/f", [.read, .write])
  #expect(try file.size() == 0)
  #expect(try read(file, 100, at: 0).isEmpty)
  let content = noise(page)
  try write(file, content, at: 0)
  #expect(try read(file, page, at: 0) == content)
  let again = try world.files.open("/d/f", .read)
  #expect(try read(again, page, at: 0) == content)
}

@Test(
  "recovers: power that is lost in the write of a small header leaves the old one or the new one", arguments: 1...200)
func recoversSmallPages(seed: UInt64) throws {
  let world = SimulatedWorld(seed: seed)
  let disk = SimulatedFileSystem(world: world)
  let keys = KeyRing(.random())
  let encrypted = try EncryptedDisk(keys: keys, disk)
  func header(_ value: UInt8) -> [UInt8] {
    [UInt8](repeating: value, count: 480) + [UInt8](repeating: 0, count: page - 480)
  }
  let file = try encrypted.files.open("/d/f", [.read, .write, .create, .durableWrites])
  try write(file, header(1) + noise(page), at: 0)
  try file.flush()
  try disk.syncDirectory("/d")
  try disk.syncDirectory("/")
  // The write has happened, and nothing has made it durable.
  let buffered = try encrypted.files.open("/d/f", [.read, .write])
  try write(buffered, header(2), at: 0)
  world.crash(.powerLoss)
  world.restart()
  let after = try EncryptedDisk(keys: keys, disk.reopen())
  let opened = try after.files.open("/d/f", .read)
  let found = try read(opened, page, at: 0)
  #expect(found == header(1) || found == header(2), "seed \(seed)")
}

@Test("recovers: power that is lost while pages are written once more leaves them what they are", arguments: 1...100)
func recoversRewrittenPages(seed: UInt64) throws {
  let world = SimulatedWorld(seed: seed)
  let disk = SimulatedFileSystem(world: world)
  let keys = KeyRing(.random())
  let encrypted = try EncryptedDisk(keys: keys, disk)
  let content = noise(4 * page)
  let file = try encrypted.files.open("/d/f", [.read, .write, .create])
  try write(file, content, at: 0)
  try file.flush()
  try disk.syncDirectory("/d")
  try disk.syncDirectory("/")
  try content.withUnsafeBytes { try file.rewrite($0, at: 0) }
  world.crash(.powerLoss)
  world.restart()
  let opened = try EncryptedDisk(keys: keys, disk.reopen()).files.open("/d/f", .read)
  #expect(try read(opened, 4 * page, at: 0) == content, "seed \(seed)")
}

@Test("a part of a file that was never written is no sound page of zeros, and is told from damage")
func unwrittenPages() throws {
  let world = try EncryptedDisk()
  let file = try world.files.open("/d/f", [.read, .write, .create])
  try write(file, noise(2 * page), at: 0)
  try world.change { $0.replaceSubrange(8192..<12288, with: [UInt8](repeating: 0, count: 4096)) }
  #expect(#expect(throws: IOError.self) { try read(file, page, at: 0) }?.code == .unwritten)
  #expect(try read(file, page, at: Int64(page)) == Array(noise(2 * page)[page...]))
}

@Test("recovers: a header whose write ended early, wherever, is an unfinished file or a whole one")
func recoversHeader() throws {
  for size in 0...8200 {
    let header = EncryptedFileHeader(.random(), with: .random(), identity: (1, 2), pageSize: 4096).encoded()
    var bytes = header + [UInt8](repeating: 0, count: 4096 - 512) + header + [UInt8](repeating: 0, count: 5000)
    bytes.removeLast(bytes.count - size)
    switch bytes.withUnsafeBytes({ EncryptedFileStart($0) }) {
    case .unwritten: #expect(size < 512)
    case .header(_, let isWhole): #expect(size >= 512 && isWhole == (size >= 4096 + 512))
    case .damaged, .plain: Issue.record("\(size) bytes of a header")
    }
    guard size >= 16 else { continue }
    // The first copy is lost.
    bytes.replaceSubrange(0..<min(size, 512), with: [UInt8](repeating: 0, count: min(size, 512)))
    switch bytes.withUnsafeBytes({ EncryptedFileStart($0) }) {
    case .unwritten: #expect(size < 4096 + 512)
    case .header(_, let isWhole): #expect(size >= 4096 + 512 && !isWhole)
    case .damaged, .plain: Issue.record("\(size) bytes of a header without its first copy")
    }
  }
}
