// LogStore+Space: watches the free space of the disk, and keeps producers out before there is none.

import MillraceBase
import MillraceIO
import MillraceModel

/// What is known of the disk's free space.
struct SpaceState {
  /// Records are refused until there is more room.
  var isLow = false
  /// Free bytes when last looked at, spare journal files included.
  var available = Int64.max
  /// The same without those.
  var free = Int64.max
  var isChecking = false
  var lastReport: MonotonicTime?
}

extension LogStore {
  /// How often the free space is looked at.
  static let spaceInterval = Duration.milliseconds(500)

  /// Whether records are refused because the disk is nearly full. Reading, deleting and everything without records go on.
  public var isSpaceLow: Bool { space.isLow }

  /// Free bytes of the disk and of spare journal files when last looked at.
  public var availableSpace: Int64 { space.available }

  /// Asks the file system for its size and for the bytes that may still be written to it.
  public func measureSpace(_ completion: @escaping (Result<(total: Int64, usable: Int64), LogError>) -> Void) {
    let fileSystem = fileSystem
    let directory = configuration.directory
    let box = ReactorBound(completion, on: reactor)
    let reactor = reactor
    background.submit {
      let result: Result<(total: Int64, usable: Int64), LogError>
      do throws(IOError) {
        result = .success((try fileSystem.totalBytes(directory), try fileSystem.availableBytes(directory)))
      } catch {
        result = .failure(LogError(error))
      }
      reactor.submit { box.take()(result) }
    }
  }

  func watchSpace() {
    guard configuration.lowSpace > 0 else { return }
    checkSpace()
  }

  private func checkSpace() {
    guard !drain.isClosing else { return }
    let fileSystem = fileSystem
    let directory = configuration.directory
    jobs.run { () -> Result<Int64, LogError> in
      do throws(IOError) {
        return .success(try fileSystem.availableBytes(directory))
      } catch {
        return .failure(LogError(error))
      }
    } completion: { [self] result in
      guard !drain.isClosing else { return }
      switch result {
      case .success(let available): found(available)
      case .failure(let error): report(.warning, "the free space cannot be measured", error.description)
      }
      reactor.schedule(after: LogStore.spaceInterval) { [self] in checkSpace() }
    }
  }

  private func found(_ available: Int64) {
    space.free = available
    // Spare journal files are room that was taken already.
    let available = available + journal.files.spareBytes
    space.available = available
    // A little more is asked for before records are taken again, so that it does not change with every check.
    let enough = space.isLow ? configuration.lowSpace + configuration.lowSpace / 8 : configuration.lowSpace
    let isLow = available < enough
    // What may go goes now, instead of waiting for more of its kind.
    if isLow { giveBack() }
    defer { if isLow { cleanNext() } }
    guard isLow != space.isLow else {
      if isLow { report(.warning, "still short of space: records are refused", "\(available) bytes are free") }
      return
    }
    space.isLow = isLow
    if isLow {
      space.lastReport = nil
      report(.error, "short of space: records are refused", "\(available) bytes are free")
      onLowSpace()
    } else {
      logger.log(.info, "log", "there is space again: records are taken", ["available": "\(available)"])
      cleanNext()
    }
  }

  private func giveBack() {
    if !drain.sealed.isEmpty {
      drain.isUrgent = true
      drainNext()
    }
    if !drain.drained.isEmpty || drain.segments.values.contains(where: { $0.extents == 0 }) { takeSnapshot {} }
  }

  /// Logs at most once a minute.
  private func report(_ level: LogLevel, _ message: String, _ reason: String) {
    if let last = space.lastReport, reactor.now - last < .seconds(60) { return }
    space.lastReport = reactor.now
    logger.log(
      level, "log", message,
      ["reason": reason, "directory": configuration.directory, "limit": "\(configuration.lowSpace)"])
  }
}
