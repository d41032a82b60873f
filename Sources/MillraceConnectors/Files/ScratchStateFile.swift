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
  /// - Throws: `.stateFileFailed`.
  public init(in directory: String, fileSystem: any FileSystem = LinuxFileSystem()) throws(JobError) {
    var random = SystemRandomNumberGenerator()
    let path = "\(directory)/state-\(String(random.next(), radix: 36))"
    do throws(IOError) {
      try fileSystem.createDirectory(directory)
      file = try fileSystem.open(path, [.read, .write, .create, .exclusive])
    } catch {
      throw JobError(.stateFileFailed, error.description)
    }
    // Whoever clears the directory may have been faster.
    try? fileSystem.remove(path)
  }

  /// Where files of jobs lie in a data directory, which the server clears when it starts.
  static func directory(of data: String) -> String { "\(data)/scratch" }

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
