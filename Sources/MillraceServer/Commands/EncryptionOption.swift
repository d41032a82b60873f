// EncryptionOption: the option that names the keys of a data directory, of all commands that open one.

import Glibc
import MillraceBase
import MillraceIO
import MillraceLog

extension CommandOption {
  /// Of every command that opens a data directory.
  static let encryptionKey = CommandOption(
    "--encryption-key", "FILE", "The keys that the directory is encrypted with (or MILLRACE_ENCRYPTION_KEY).")
}

extension Arguments {
  /// What the option says, or the environment.
  var encryptionKeyFile: String? {
    text("--encryption-key")
      ?? getenv("MILLRACE_ENCRYPTION_KEY").map { String(cString: $0) }.flatMap { $0.isEmpty ? nil : $0 }
  }

  /// The keys of a file.
  static func keys(_ file: String) throws(CommandFailure) -> KeyRing {
    do throws(KeyFileError) {
      return try KeyRing(file: file)
    } catch {
      throw CommandFailure(.failed, error.description)
    }
  }

  /// The file system to read `directory` with, which nobody else has open.
  func fileSystem(for directory: String) throws(CommandFailure) -> any FileSystem {
    let keys = try encryptionKeyFile.map { (file) throws(CommandFailure) in try Arguments.keys(file) }
    do throws(LogError) {
      return try DirectoryEncryption.fileSystem(for: directory, keys: keys, in: LinuxFileSystem())
    } catch {
      throw CommandFailure(error.code == .corruption ? .data : .failed, error.reason)
    }
  }
}
