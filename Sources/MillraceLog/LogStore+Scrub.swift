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
  /// Where blocks that several partitions may have were read in the segment that comes next, so that each is read once.
  var shared: (segment: UInt64, positions: Set<Int64>) = (0, [])
}

/// What reading one run has come to.
struct ScrubbedRun: Sendable {
  /// Bytes that were right.
  var soundBytes: Int64 = 0
  /// Bytes that were asked for.
  var bytesRead: Int64 = 0
  /// What was wrong, each with file and position.
  var problems: [String] = []
  /// Where blocks that other partitions may have were read.
  var shared: Set<Int64> = []
}

/// Reads runs past the page cache, which may hold what the disk does not.
struct SegmentScrubber: Sendable {
  let directory: String
  let fileSystem: any FileSystem

  /// Reads one run: its index, then its blocks.
  /// - Parameter known: positions of blocks that were read already, with another partition's run.
  /// - Throws: `.io` when the file cannot be read at all.
  func scrub(_ extent: SegmentExtent, leavingOut known: Set<Int64>) throws(LogError) -> ScrubbedRun {
    let path = "\(directory)/\(SegmentFormat.name(extent.segment))"
    let file = try LogError.wrapping { () throws(IOError) in try fileSystem.open(path, [.read, .direct]) }
    defer { file.close() }
    var out = ScrubbedRun()
    func check(_ position: Int64, _ length: Int, _ crc: UInt32, _ what: String) throws(LogError) -> Bytes? {
      out.bytesRead += Int64(length)
      do throws(LogError) {
        let bytes = try JournalReader.read(file, at: Int(position), length: length)
        if bytes.crc32c == crc {
          out.soundBytes += Int64(length)
          return bytes
        }
        out.problems.append("\(path): \(what) of \(length) bytes at byte \(position) has a wrong checksum")
      } catch {
        guard error.code == .corruption else { throw error }
        out.problems.append(error.reason)
      }
      return nil
    }
    let size = extent.blockCount * SegmentFormat.indexEntrySize
    guard let index = try check(extent.indexPosition, size, extent.indexCRC, "index") else { return out }
    for number in 0..<extent.blockCount {
      let block = index.withBuffer { buffer in
        let start = number * SegmentFormat.indexEntrySize
        return SegmentBlock(UnsafeRawBufferPointer(rebasing: buffer[start..<(start + SegmentFormat.indexEntrySize)]))
      }
      if block.isShared, known.contains(block.position) || !out.shared.insert(block.position).inserted { continue }
      _ = try check(block.position, block.length, block.crc, "block")
    }
    return out
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
    scrubbing.shared = (0, [])
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
    if scrubbing.shared.segment != task.extent.segment { scrubbing.shared = (task.extent.segment, []) }
    let known = task.extent.sharedBytes > 0 ? scrubbing.shared.positions : []
    jobs.run { () -> Result<ScrubbedRun, LogError> in
      do throws(LogError) {
        return .success(try scrubber.scrub(task.extent, leavingOut: known))
      } catch {
        return .failure(error)
      }
    } completion: { [self] result in
      scrubbed(task, result)
      var bytes = task.extent.bytes
      if case .success(let run) = result {
        bytes = run.bytesRead
        scrubbing.shared.positions.formUnion(run.shared)
      }
      let pause = bytes * 1000 / Int64(max(configuration.scrubBytesPerSecond, 1))
      scrubbing.timer = reactor.schedule(after: .milliseconds(pause)) { [self] in
        scrub(tasks.dropFirst())
      }
    }
  }

  private func scrubbed(_ task: ScrubTask, _ result: Result<ScrubbedRun, LogError>) {
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
