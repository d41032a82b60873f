// TokenKeyFile: the file with the public keys of whoever signs tokens, and how it is read.

import MillraceBase
import MillraceIO
import MillraceSecurity

/// A file of keys (RFC 7517, "JWK Set").
public struct TokenKeyFile: Sendable {
  /// Where it is.
  public let path: String
  private let files: any FileSystem

  /// The file at `path`; nothing is read yet.
  public init(_ path: String, files: any FileSystem = LinuxFileSystem()) {
    self.path = path
    self.files = files
  }

  /// What is in it now. Blocks.
  /// - Throws: what is wrong, with the file's name: it cannot be read, is longer than 1 MiB, or what ``JSONWebKeys/init(_:)`` says.
  public func read() throws(SecuritySettingError) -> JSONWebKeys {
    let text: Bytes
    do throws(IOError) {
      text = try files.readAll(path, limit: JSONWebKeys.longestText)
    } catch {
      throw SecuritySettingError("\(path): \(error)")
    }
    do throws(SecuritySettingError) {
      return try JSONWebKeys(text)
    } catch {
      throw SecuritySettingError("\(path): \(error)")
    }
  }
}
