// ScratchStateFile: a segment of a job's state on disk, for no longer than somebody uses it.

import MillraceBase
import MillraceDataflow
import MillraceIO

/// A file without a name: it is gone when it is closed, or when the process ends, however it ends.
///
/// Safety: `@unchecked Sendable` because a state file is used by one of a job's threads at a time.
public final class ScratchStateFile: StateFile, @unchecked Sendable {
  private let file: any File
  private var size: Int64 = 0

  /// Makes a file in `directory`, which is made when it is missing.
  /// - Parameter isEncrypted: what is written is encrypted with a key that is in this process's memory alone.
  /// - Throws: `.stateFileFailed`.
  public init(
    in directory: String, fileSystem disk: any FileSystem = LinuxFileSystem(), isEncrypted: Bool = false
  ) throws(JobError) {
    var random = SystemRandomNumberGenerator()
    let fileSystem: any FileSystem = isEncrypted ? EncryptedFileSystem(disk, keys: KeyRing(.random())) : disk
    let path = "\(directory)/state-\(String(random.next(), radix: 36))"
    do throws(IOError) {
      try fileSystem.createDirectory(directory)
      file = try fileSystem.open(path, [.read, .write, .create, .exclusive, .largePages])
    } catch {
      throw JobError(.stateFileFailed, error.description)
    }
    // Whoever clears the directory may have been faster.
    try? fileSystem.remove(path)
  }

  /// Where files of jobs lie in a data directory, which the server clears when it starts.
  static func directory(of data: String) -> String { "\(data)/scratch" }

  /// Whether the server of a data directory encrypts what it writes there, so that others who write there have to.
  static func isEncrypted(data: String, disk: any FileSystem = LinuxFileSystem()) throws(JobError) -> Bool {
    do throws(IOError) {
      for name in try disk.list("\(data)/journal") where name.hasSuffix(".journal") {
        do throws(IOError) {
          switch try KeyRing.state(of: "\(data)/journal/\(name)", in: disk) {
          case .encrypted, .damaged: return true
          case .plain, .unwritten: continue
          }
        } catch {
          // A file that has gone meanwhile says nothing.
          guard error.code == .notFound else { throw error }
        }
      }
      return false
    } catch {
      throw JobError(.stateFileFailed, error.description)
    }
  }

  deinit { file.close() }

  /// Writes at the end.
  public func append(_ bytes: UnsafeRawBufferPointer) throws(JobError) {
    do throws(IOError) {
      try file.write(bytes, at: size)
    } catch {
      throw JobError(.stateFileFailed, error.description)
    }
    size += Int64(bytes.count)
  }

  /// Reads.
  public func read(at position: Int, into buffer: UnsafeMutableRawBufferPointer) throws(JobError) {
    do throws(IOError) {
      let count = try file.read(into: buffer, at: Int64(position))
      guard count == buffer.count else {
        throw IOError(
          .failed, operation: "read", subject: file.path,
          reason: "\(buffer.count) bytes were written at \(position), \(count) are there")
      }
    } catch {
      throw JobError(.stateFileFailed, error.description)
    }
  }
}
