// KeyCommand: `millrace key`: the keys that data directories are encrypted with: making, listing, and which are still needed.

import MillraceIO
import MillraceLog

extension Command {
  /// `millrace key`
  static let keys = Command(
    "key", "makes the keys that a data directory is encrypted with, and shows which are in use",
    discussion: """
      A key file has one key a line, 32 bytes in base 64. The first is the current one: what is written is encrypted under it. The others \
      only open what is there. Nothing shows a key itself; keys are named by ids that are made of them. Who loses the key file has lost the data.
      """,
    subcommands: [.keyNew, .keyList, .keyRemove, .keyUsage])

  private static let file = CommandOption("--file", "FILE", isRequired: true, "The key file.")

  private static let keyNew = Command(
    "new", "makes a key, the current one of the file from now on",
    discussion: """
      Makes the file, for its owner alone (mode 0600), or puts the key in front of those that are in it. A server takes it with its next \
      start, and wraps the keys of all files in the data directory with it.
      """,
    options: [file]
  ) { (arguments) throws(CommandFailure) in
    let path = arguments.text("--file") ?? ""
    let key = EncryptionKey.random()
    let isThere: Bool
    do throws(IOError) {
      isThere = try LinuxFileSystem().exists(path)
    } catch {
      throw CommandFailure(.failed, error.description)
    }
    let ring = isThere ? try Arguments.keys(path).adding(key) : KeyRing(key)
    try write(ring, path)
    try OutputStream.standardOutput.print("key \(key.id) is the current one of \(path)\n")
    return .done
  }

  private static let keyList = Command(
    "list", "lists the ids of a file's keys, the current one first", options: [file]
  ) { (arguments) throws(CommandFailure) in
    let ring = try Arguments.keys(arguments.text("--file") ?? "")
    let lines = ring.keys.map { "\($0.id)\($0.id == ring.current.id ? "  current" : "")\n" }
    try OutputStream.standardOutput.print(lines.joined())
    return .done
  }

  private static let keyRemove = Command(
    "remove", "takes a key that is not the current one out of a file",
    discussion:
      "What is still encrypted under it cannot be read any more: `millrace key usage` tells whether something is.",
    operands: [Operand("ID", "The key's id.")],
    options: [
      file,
      CommandOption(
        "--unused-in", "DIR", count: .list, isRequired: true,
        "Data directories that the file is used for; the key stays when one of them needs it."),
    ]
  ) { (arguments) throws(CommandFailure) in
    let path = arguments.text("--file") ?? ""
    let ring = try Arguments.keys(path)
    guard let id = EncryptionKeyID(arguments.operands[0]) else {
      throw CommandFailure(.usage, "ID must be sixteen hexadecimal digits")
    }
    guard ring.key(id) != nil else { throw CommandFailure(.failed, "key \(id) is not in \(path)") }
    guard id != ring.current.id else {
      throw CommandFailure(.failed, "key \(id) is the current one of \(path); `millrace key new` makes another")
    }
    for directory in arguments.list("--unused-in") {
      if let count = try usage(directory).keys[id] {
        throw CommandFailure(.failed, "key \(id) is needed: \(count) files in \(directory) are encrypted under it")
      }
    }
    try write(ring.removing(id), path)
    try OutputStream.standardOutput.print("removed key \(id) from \(path)\n")
    return .done
  }

  private static let keyUsage = Command(
    "usage", "shows which keys a data directory needs",
    discussion: """
      Needs no key, and may be asked while a server runs. A server that has been started with a new current key needs no older one from \
      then on.
      """,
    operands: [Operand("DIR", "The data directory.")]
  ) { (arguments) throws(CommandFailure) in
    let found = try usage(arguments.operands[0])
    var out = ""
    for (id, count) in found.keys.sorted(by: { $0.key < $1.key }) { out += "key \(id): \(count) files\n" }
    if !found.plain.isEmpty { out += "not encrypted: \(found.plain.count) files\n" }
    for path in found.halfDamaged { out += "one of two copies of the header is damaged: \(path)\n" }
    for path in found.damaged { out += "the header is damaged: \(path)\n" }
    if out.isEmpty { out = "nothing is there yet\n" }
    try OutputStream.standardOutput.print(out)
    if let path = found.damaged.first { throw CommandFailure(.data, "\(path) can be read with no key any more") }
    return .done
  }

  private static func usage(_ directory: String) throws(CommandFailure) -> DirectoryEncryption {
    let isThere: Bool
    do throws(IOError) {
      isThere = try LinuxFileSystem().exists("\(directory)/journal")
    } catch {
      throw CommandFailure(.failed, error.description)
    }
    guard isThere else { throw CommandFailure(.failed, "\(directory) is no data directory: there is no journal in it") }
    do throws(LogError) {
      return try DirectoryEncryption(of: directory, in: LinuxFileSystem())
    } catch {
      throw CommandFailure(.failed, error.reason)
    }
  }

  private static func write(_ ring: KeyRing, _ path: String) throws(CommandFailure) {
    do throws(KeyFileError) { try ring.write(path) } catch { throw CommandFailure(.failed, error.description) }
  }
}
