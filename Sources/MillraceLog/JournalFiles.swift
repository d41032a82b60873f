// JournalFiles: the pre-written files of a journal: which is spare, which holds what, and making new ones.

import MillraceBase
import MillraceIO

/// A pre-written file on disk, whatever it is used for.
final class JournalSlot: Sendable {
  let file: any File
  let size: Int
  var path: String { file.path }
  /// Bytes of a page of the file.
  var page: Int { file.pageSize }

  init(file: any File, size: Int) {
    self.file = file
    self.size = size
  }
}

/// One use of a slot: the commits from `firstSequence` on.
final class JournalFile {
  let slot: JournalSlot
  let number: UInt64
  let firstSequence: UInt64
  /// Sequence of the last commit once the file is sealed.
  var lastSequence: UInt64?

  init(slot: JournalSlot, number: UInt64, firstSequence: UInt64) {
    self.slot = slot
    self.number = number
    self.firstSequence = firstSequence
  }
}

/// Spare files and their making. Reactor thread only; the making itself runs on the background executor.
final class JournalFiles {
  private let directory: String
  private let fileSystem: any FileSystem
  /// Bytes of a page of the files.
  let page: Int
  private let reactor: any Reactor
  private let jobs: BackgroundJobs
  private let configuration: LogConfiguration
  private var spares: [JournalSlot] = []
  /// A spare is being made.
  private(set) var isPreparing = false
  private var nextName: Int
  private var nextSize: Int
  private var retryAt = MonotonicTime(nanoseconds: 0)
  /// Files there are, spare or not.
  private(set) var count: Int
  /// Why the last attempt to make a file failed; nil when it succeeded.
  private(set) var failure: LogError?
  /// Why files that are full cannot be emptied for now; nil when they can.
  var drainFailure: LogError?
  /// Called when a spare has appeared or the attempt to make one has failed.
  var onChange: () -> Void = {}
  var isClosed = false

  init(
    directory: String, fileSystem: any FileSystem, reactor: any Reactor, jobs: BackgroundJobs,
    configuration: LogConfiguration, existing: Int, nextName: Int, largest: Int
  ) {
    self.directory = directory
    self.fileSystem = fileSystem
    page = fileSystem.pageSize([])
    self.reactor = reactor
    self.jobs = jobs
    self.configuration = configuration
    self.count = existing
    self.nextName = nextName
    nextSize = min(max(largest * 4, configuration.firstJournalFileSize), configuration.journalFileSize)
  }

  /// Adds a file that holds nothing needed any more.
  func release(_ slot: JournalSlot) {
    if slot.size < configuration.journalFileSize, count > 1, !isClosed {
      // The small files of the beginning are not kept: seldom changes of file make longer segments.
      count -= 1
      slot.file.close()
      let path = slot.path
      let fileSystem = fileSystem
      jobs.run {
        // A left-over file is recognised as stale at the next start, so that failing to remove it harms nothing.
        do throws(IOError) { try fileSystem.remove(path) } catch {}
      } completion: { _ in
      }
    } else {
      spares.append(slot)
    }
    onChange()
  }

  /// There is no spare, and making one or emptying one has failed.
  var isExhausted: Bool { spares.isEmpty && (failure ?? drainFailure) != nil }

  /// Bytes of files that are spare.
  var spareBytes: Int64 { spares.reduce(0) { $0 + Int64($1.size) } }

  /// No file is spare, and none is being made.
  var isShort: Bool { spares.isEmpty && !isPreparing }

  /// Takes a spare with room for a commit of `size` bytes.
  func take(size: Int) -> JournalSlot? {
    let needed = size + page
    guard let index = spares.firstIndex(where: { $0.size >= needed }) else { return nil }
    return spares.remove(at: index)
  }

  /// Sees to it that a spare for a commit of `size` bytes is there or being made.
  func provide(size: Int) {
    let needed = (size + page).roundedUp(to: page)
    guard !isPreparing, !isClosed, !spares.contains(where: { $0.size >= needed }) else { return }
    guard count < configuration.journalFileLimit || needed > configuration.journalFileSize else { return }
    guard failure == nil || reactor.now >= retryAt else { return }
    isPreparing = true
    let size = max(nextSize, needed)
    let path = "\(directory)/\(JournalFiles.name(nextName))"
    nextName += 1
    let fileSystem = fileSystem
    let directory = directory
    jobs.run { () -> Result<JournalSlot, LogError> in
      do throws(LogError) {
        return .success(try JournalFiles.make(path, size: size, directory: directory, fileSystem: fileSystem))
      } catch {
        return .failure(error)
      }
    } completion: { [self] result in
      prepared(result)
    }
  }

  private func prepared(_ result: Result<JournalSlot, LogError>) {
    isPreparing = false
    switch result {
    case .success(let slot):
      failure = nil
      guard !isClosed else { return slot.file.close() }
      count += 1
      spares.append(slot)
      nextSize = min(slot.size * 4, configuration.journalFileSize)
    case .failure(let error):
      failure = error
      retryAt = reactor.now + .milliseconds(500)
    }
    onChange()
  }

  func close() {
    isClosed = true
    for spare in spares { spare.file.close() }
    spares = []
  }

  static func name(_ number: Int) -> String {
    let digits = String(number)
    return String(repeating: "0", count: max(0, 8 - digits.count)) + digits + ".journal"
  }

  /// Makes a file of `size` zero bytes, or what is left of its last page more, that are really on disk, so that overwriting them needs
  /// no metadata.
  static func make(
    _ path: String, size: Int, directory: String, fileSystem: any FileSystem
  ) throws(LogError) -> JournalSlot {
    try LogError.wrapping { () throws(IOError) in
      let file = try fileSystem.open(path, [.read, .write, .create, .truncate, .direct, .durableWrites])
      do throws(IOError) {
        let size = size.roundedUp(to: file.pageSize)
        // At least a mapping, so that the memory is aligned to blocks.
        let zeros = Chunk(capacity: max(min(size, 1 << 20), 64 * 1024))
        let atOnce = zeros.capacity.roundedDown(to: file.pageSize)
        zeros.base.initializeMemory(as: UInt8.self, repeating: 0, count: zeros.capacity)
        var at = 0
        while at < size {
          let length = min(atOnce, size - at)
          try file.write(UnsafeRawBufferPointer(start: zeros.base, count: length), at: Int64(at))
          at += length
        }
        try file.flush()
        try fileSystem.syncDirectory(directory)
      } catch {
        file.close()
        // Give the space back; the original error is the one to report.
        do throws(IOError) { try fileSystem.remove(path) } catch {}
        throw error
      }
      return JournalSlot(file: file, size: size.roundedUp(to: file.pageSize))
    }
  }
}
