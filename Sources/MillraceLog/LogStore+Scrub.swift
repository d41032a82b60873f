// LogStore+Scrub: reads all segments slowly in the background, and says what is damaged before somebody needs it.

import MillraceBase
import MillraceIO
import MillraceModel

/// Figures of scrubbing since the start.
public struct ScrubFigures: Sendable {
  /// Rounds through all segments that have ended.
  public var rounds = 0
  /// Bytes whose checksums were found right.
  public var soundBytes: Int64 = 0
  /// Damaged blocks and index parts found.
  public var damaged = 0
}

/// A run to be read, and how far it was.
private struct ScrubTask: Sendable {
  var partition: PartitionLogID
  var extent: SegmentExtent
}

/// What scrubbing keeps track of.
struct ScrubState {
  var figures = ScrubFigures()
  var timer: Timer?
  /// Places that were reported, so that each is told once.
  var reported: Set<String> = []
}

/// Reads runs past the page cache, which may hold what the disk does not.
struct SegmentScrubber: Sendable {
  let directory: String
  let fileSystem: any FileSystem

  /// Reads one run: its index, then its blocks.
  /// - Returns: bytes that were right, and what was wrong, each with file and position.
  /// - Throws: `.io` when the file cannot be read at all.
  func scrub(_ extent: SegmentExtent) throws(LogError) -> (soundBytes: Int64, problems: [String]) {
    let path = "\(directory)/\(SegmentFormat.name(extent.segment))"
    let file = try LogError.wrapping { () throws(IOError) in try fileSystem.open(path, [.read, .direct]) }
    defer { file.close() }
    var sound: Int64 = 0
    var problems: [String] = []
    func check(_ position: Int64, _ length: Int, _ crc: UInt32, _ what: String) throws(LogError) -> Bytes? {
      do throws(LogError) {
        let bytes = try JournalReader.read(file, at: Int(position), length: length)
        if bytes.crc32c == crc {
          sound += Int64(length)
          return bytes
        }
        problems.append("\(path): \(what) of \(length) bytes at byte \(position) has a wrong checksum")
      } catch {
        guard error.code == .corruption else { throw error }
        problems.append(error.reason)
      }
      return nil
    }
    let size = extent.blockCount * SegmentFormat.indexEntrySize
    guard let index = try check(extent.indexPosition, size, extent.indexCRC, "index") else { return (sound, problems) }
    for number in 0..<extent.blockCount {
      let block = index.withBuffer { buffer in
        let start = number * SegmentFormat.indexEntrySize
        return SegmentBlock(UnsafeRawBufferPointer(rebasing: buffer[start..<(start + SegmentFormat.indexEntrySize)]))
      }
      _ = try check(block.position, block.length, block.crc, "block")
    }
    return (sound, problems)
  }
}

extension LogStore {
  /// Figures of scrubbing since the start.
  public var scrubFigures: ScrubFigures { scrubbing.figures }

  /// Plans the next round through all segments.
  func planScrub() {
    guard configuration.scrubBytesPerSecond > 0, !drain.isClosing else { return }
    scrubbing.timer = reactor.schedule(after: .milliseconds(configuration.scrubInterval)) { [self] in
      scrub()
    }
  }

  private func scrub() {
    var tasks: [ScrubTask] = []
    for log in partitions.values {
      for extent in log.extents { tasks.append(ScrubTask(partition: log.id, extent: extent)) }
    }
    // File by file, in the order in which they lie.
    tasks.sort { ($0.extent.segment, $0.extent.indexPosition) < ($1.extent.segment, $1.extent.indexPosition) }
    scrub(tasks[...])
  }

  private func scrub(_ tasks: ArraySlice<ScrubTask>) {
    guard !drain.isClosing else { return }
    guard let task = tasks.first else {
      scrubbing.figures.rounds += 1
      return planScrub()
    }
    // Merged or expired meanwhile.
    guard drain.segments[task.extent.segment] != nil else {
      return scrub(tasks.drop { $0.extent.segment == task.extent.segment })
    }
    let scrubber = SegmentScrubber(directory: "\(configuration.directory)/segments", fileSystem: fileSystem)
    jobs.run { () -> Result<(soundBytes: Int64, problems: [String]), LogError> in
      do throws(LogError) {
        return .success(try scrubber.scrub(task.extent))
      } catch {
        return .failure(error)
      }
    } completion: { [self] result in
      scrubbed(task, result)
      let pause = task.extent.bytes * 1000 / Int64(max(configuration.scrubBytesPerSecond, 1))
      scrubbing.timer = reactor.schedule(after: .milliseconds(pause)) { [self] in
        scrub(tasks.dropFirst())
      }
    }
  }

  private func scrubbed(_ task: ScrubTask, _ result: Result<(soundBytes: Int64, problems: [String]), LogError>) {
    // It may have been removed while it was read.
    guard drain.segments[task.extent.segment] != nil else { return }
    var problems: [String] = []
    switch result {
    case .success(let found):
      scrubbing.figures.soundBytes += found.soundBytes
      problems = found.problems
    case .failure(let error): problems = [error.reason]
    }
    for problem in problems where scrubbing.reported.insert(problem).inserted {
      scrubbing.figures.damaged += 1
      logger.log(
        .error, "log", "damage found", ["problem": problem, "partition": "\(task.partition)"])
    }
  }
}
