// CertificateChangesTests: when files of TLS are read again.

import Foundation
import MillraceIO
import Testing

@testable import Millrace

/// Two files that can be replaced.
private final class Pair {
  private let folder = FileManager.default.temporaryDirectory.appending(path: "millrace-pair-\(UUID().uuidString)")
  private var count = 0

  init() throws {
    try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    try write("certificate")
    try write("key")
  }
  deinit { _ = try? FileManager.default.removeItem(at: folder) }

  /// Other contents under the same name, by renaming, as it is done where nobody may see half of a file.
  func write(_ name: String) throws {
    count += 1
    try Data(repeating: 0x41, count: count).write(to: folder.appending(path: name), options: .atomic)
  }
  func remove(_ name: String) throws { try FileManager.default.removeItem(at: folder.appending(path: name)) }

  var files: [FileIdentity?] {
    ["certificate", "key"].map { name in
      do throws(IOError) {
        return try FileIdentity(folder.appending(path: name).path)
      } catch {
        return nil
      }
    }
  }
}

@Test("files that have changed are read once, when they are the same at two looks")
func changedFilesAreRead() throws {
  let pair = try Pair()
  var changes = CertificateChanges(pair.files)
  #expect([changes.looked(pair.files), changes.looked(pair.files)] == [false, false])
  try pair.write("certificate")
  #expect(changes.looked(pair.files) == false, "the key may come a moment later")
  try pair.write("key")
  #expect(changes.looked(pair.files) == false)
  #expect(changes.looked(pair.files) == true)
  #expect(changes.looked(pair.files) == false, "once, whatever came of it")
}

@Test("what was not good is read again only when it changes again, also when a file is gone")
func onlyChangesAreRead() throws {
  let pair = try Pair()
  var changes = CertificateChanges(pair.files)
  try pair.remove("key")
  #expect([changes.looked(pair.files), changes.looked(pair.files)] == [false, true])
  #expect([changes.looked(pair.files), changes.looked(pair.files)] == [false, false])
  try pair.write("key")
  #expect([changes.looked(pair.files), changes.looked(pair.files)] == [false, true])
}

@Test("what was read for another reason is not read once more")
func readElsewhere() throws {
  let pair = try Pair()
  var changes = CertificateChanges(pair.files)
  try pair.write("certificate")
  #expect(changes.looked(pair.files) == false)
  changes.read(pair.files)
  #expect([changes.looked(pair.files), changes.looked(pair.files)] == [false, false])
}

@Test("a change that is taken back before it was read is none")
func takenBack() throws {
  let pair = try Pair()
  let before = pair.files
  var changes = CertificateChanges(before)
  try pair.write("certificate")
  #expect(changes.looked(pair.files) == false)
  #expect([changes.looked(before), changes.looked(before)] == [false, false])
}
