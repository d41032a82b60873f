// ScratchFiles: room on disk for what need not survive a restart: blocks that are written once, read and freed.

import MillraceBase
import MillraceIO
import Synchronization

/// A block of bytes in a scratch file.
public struct ScratchBlock: Sendable {
  fileprivate let file: ScratchFile
  fileprivate let position: Int64
  /// Bytes.
  public let size: Int
  fileprivate let checksum: UInt32
}

/// One file. Opened by the first that needs it, on whichever thread; closed when nobody can read from it any more.
private final class ScratchFile: @unchecked Sendable {
  let path: String
  private let fileSystem: any FileSystem
  /// The handle, and where the next block goes.
  private let state = Mutex<(handle: (any File)?, end: Int64)>((nil, 0))
  // MARK: the reactor's
  /// Blocks written or being written, and not freed.
  var blocks = 0
  /// Takes no more blocks.
  var isFull = false

  init(path: String, fileSystem: any FileSystem) {
    self.path = path
    self.fileSystem = fileSystem
  }

  deinit { state.withLock { $0.handle?.close() } }

  /// The file, made when it is not there, and room for `size` bytes in it.
  func reserve(_ size: Int) throws(IOError) -> (file: any File, position: Int64, end: Int64) {
    let result = state.withLock { state -> Result<(file: any File, position: Int64, end: Int64), IOError> in
      do throws(IOError) {
        let file: any File
        if let open = state.handle {
          file = open
        } else {
          file = try fileSystem.open(path, [.read, .write, .create, .truncate, .largePages])
          state.handle = file
        }
        let position = state.end
        state.end += Int64(size)
        return .success((file, position, state.end))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }

  func handle() throws(IOError) -> any File {
    guard let file = state.withLock({ $0.handle }) else {
      throw IOError(.failed, operation: "read", subject: path, reason: "it was never written")
    }
    return file
  }
}

/// The scratch files of one data directory, in its folder `scratch`; they are gone at the next start at the latest.
///
/// Belongs to the log's reactor. Nothing is flushed. What is read was written, or reading it fails: each block's CRC-32C is
/// kept in memory.
public final class ScratchFiles {
  private let directory: String
  private let fileSystem: any FileSystem
  private let jobs: BackgroundJobs
  private let logger: Logger
  private var current: ScratchFile?
  private var next = 1
  private var isMade = false
  private var isClosed = false

  /// A file takes no more blocks once it has come to so many bytes, and gives them back when all of them are freed.
  static let fileSize: Int64 = 64 << 20

  init(directory: String, fileSystem: any FileSystem, jobs: BackgroundJobs, logger: Logger) {
    self.directory = directory
    self.fileSystem = fileSystem
    self.jobs = jobs
    self.logger = logger
  }

  /// Removes what earlier runs or this one left. Blocks.
  func removeAll() {
    do throws(IOError) {
      guard try fileSystem.exists(directory) else { return }
      for name in try fileSystem.list(directory) { try fileSystem.remove("\(directory)/\(name)") }
    } catch {
      logger.log(.warning, "log", "scratch files cannot be removed", ["error": error.description])
    }
  }

  /// Nothing is written any more; what is there is removed. To be called when no job is under way. Blocks.
  func close() {
    isClosed = true
    current = nil
    removeAll()
  }

  /// Writes a block.
  /// - Parameter make: its bytes, at least one; called in the background.
  /// - Complexity: nothing on the reactor but the hand-over.
  public func write(
    _ make: @escaping @Sendable () -> Bytes, completion: @escaping (Result<ScratchBlock, LogError>) -> Void
  ) {
    guard !isClosed else { return completion(.failure(LogError(.stopped, "the log is closed"))) }
    let file = current ?? ScratchFile(path: "\(directory)/\(next)", fileSystem: fileSystem)
    if current == nil { next += 1 }
    current = file
    file.blocks += 1
    let mustMake = !isMade
    isMade = true
    jobs.run { [fileSystem, directory] () -> (Result<ScratchBlock, LogError>, end: Int64) in
      let bytes = make()
      do throws(IOError) {
        if mustMake { try fileSystem.createDirectory(directory) }
        let place = try file.reserve(bytes.count)
        let written = bytes.withBuffer { buffer -> IOError? in
          do throws(IOError) {
            try place.file.write(buffer, at: place.position)
            return nil
          } catch {
            return error
          }
        }
        if let written { throw written }
        return (
          .success(
            ScratchBlock(file: file, position: place.position, size: bytes.count, checksum: bytes.crc32c)), place.end
        )
      } catch {
        return (.failure(LogError(error)), 0)
      }
    } completion: { [self] result, end in
      if end >= ScratchFiles.fileSize { file.isFull = true }
      if case .failure = result {
        // Whatever the reason, the next one begins anew.
        file.isFull = true
        if mustMake { isMade = false }
        freed(file)
      }
      if file.isFull, current === file { current = nil }
      completion(result)
    }
  }

  /// Reads a block that is not freed.
  /// - Errors: `.corruption` when the bytes are not those that were written, `.io`.
  public func read(_ block: ScratchBlock, completion: @escaping (Result<Bytes, LogError>) -> Void) {
    guard !isClosed else { return completion(.failure(LogError(.stopped, "the log is closed"))) }
    jobs.run { () -> Result<Bytes, LogError> in
      do throws(IOError) {
        let chunk = Chunk(capacity: block.size)
        let got = try block.file.handle().read(
          into: UnsafeMutableRawBufferPointer(start: chunk.base, count: block.size), at: block.position)
        let bytes = chunk.bytes(0..<got)
        guard got == block.size, bytes.crc32c == block.checksum else {
          return .failure(
            LogError(
              .corruption,
              "\(block.file.path) at \(block.position): \(got) of \(block.size) bytes, which are not those written"))
        }
        return .success(bytes)
      } catch {
        return .failure(LogError(error))
      }
    } completion: {
      completion($0)
    }
  }

  /// A block will not be read again.
  public func free(_ block: ScratchBlock) { freed(block.file) }

  private func freed(_ file: ScratchFile) {
    file.blocks -= 1
    guard file.blocks == 0 else { return }
    // Also one that could take more: its bytes are given back.
    file.isFull = true
    if current === file { current = nil }
    guard !isClosed else { return }
    jobs.run { [fileSystem, path = file.path] () -> IOError? in
      do throws(IOError) {
        if try fileSystem.exists(path) { try fileSystem.remove(path) }
        return nil
      } catch {
        return error
      }
    } completion: { [logger] error in
      guard let error else { return }
      logger.log(.warning, "log", "a scratch file cannot be removed", ["error": error.description])
    }
  }
}
