// Encryption: encrypted files as bytes: their headers, their pages, and the file with the keys.

import FuzzHarness
import MillraceBase

@testable import MillraceIO

private let key = [UInt8](1...32).withUnsafeBytes { EncryptionKey($0) }
private let fileKey = [UInt8](33...64).withUnsafeBytes { EncryptionKey($0) }
private let cipher = PageCipher(fileKey, pageSize: 4096)

/// The beginning of a file, its checksum put right: what is taken for a header is written as it was read, and opens with the right key
/// only if nobody has changed it.
let encryptionHeaders = FuzzTarget(
  name: "encryption-headers",
  seeds: {
    let header = EncryptedFileHeader(fileKey, with: key, identity: (1, 2), pageSize: 4096)
    return [[0] + header.encoded(), [1] + header.encoded(), [0] + [UInt8](repeating: 0, count: 512)]
  }
) { input in
  var choices = Choices(input)
  let repairs = choices.byte() % 2 == 1
  var bytes = choices.rest().array
  if repairs {
    bytes += [UInt8](repeating: 0, count: max(0, EncryptedFileHeader.size - bytes.count))
    bytes.withUnsafeMutableBytes { memory in
      let end = EncryptedFileHeader.size - 4
      memory.storeBytes(of: EncryptedFileHeader.magic.bigEndian, as: UInt64.self)
      let crc = CRC32C.checksum(UnsafeRawBufferPointer(rebasing: memory[..<end]))
      memory.storeBytes(of: crc.bigEndian, toByteOffset: end, as: UInt32.self)
    }
  }
  let start = bytes.withUnsafeBytes { EncryptedFileStart($0) }
  guard case .header(let header, _) = start else { return }
  precondition([4096, 16384].contains(header.pageSize), "pages of \(header.pageSize) bytes")
  if let opened = header.unwrap(with: key) { precondition(opened.id == fileKey.id, "another key was unwrapped") }
  precondition(header.unwrap(with: fileKey) == nil, "a wrong key unwraps the file's")
}

/// Pages that nobody has encrypted, or one that somebody has with a change in it: none of them opens.
let encryptedPages = FuzzTarget(
  name: "encrypted-pages",
  seeds: { [[0] + [UInt8](repeating: 0, count: 64), [1, 0, 200, 4], [1, 15, 160, 0]] }
) { input in
  var choices = Choices(input)
  var page: [UInt8]
  var isChanged = true
  if choices.byte() % 2 == 0 {
    page = choices.bytes(4096).array
    page += [UInt8](repeating: 0, count: 4096 - page.count)
  } else {
    let place = choices.number(below: 4096)
    let mask = UInt8(choices.byte())
    var content = choices.bytes(4064).array
    content += [UInt8](repeating: 0, count: 4064 - content.count)
    page = [UInt8](repeating: 0xff, count: 4096)
    page.withUnsafeMutableBytes { out in
      content.withUnsafeBytes { cipher.seal($0, first: 3, into: out.baseAddress!) }
    }
    page[place] ^= mask
    isChanged = mask != 0
  }
  var plain = [UInt8](repeating: 0xee, count: 4064)
  let wrong = plain.withUnsafeMutableBytes { out in
    page.withUnsafeBytes { cipher.open($0, first: 3, into: out.baseAddress!) }
  }
  precondition((wrong != nil) == isChanged, "a changed page opens, or a sound one does not")
  if wrong != nil { precondition(plain.allSatisfy { $0 == 0 }, "something of a page that is wrong was given out") }
}

/// A key file; what is accepted has each key once, and errors do not repeat what is in the file.
let encryptionKeyFiles = FuzzTarget(
  name: "encryption-key-files",
  seeds: {
    let line = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
    return [line, "# keys\n\n\(line)\n", "\(line)\n\(line)", "AQID", "\u{feff}\(line)"].map { Array($0.utf8) }
  }
) { input in
  do throws(KeyFileError) {
    let ring = try KeyRing(text: input, path: "keys")
    precondition(!ring.keys.isEmpty && Set(ring.keys.map(\.id)).count == ring.keys.count, "no keys, or one twice")
  } catch { precondition(error.reason.utf8.count < 100, "a reason of \(error.reason.utf8.count) bytes") }
}
