// FileSinkWriter: writes a job's values into files that become visible with the commit of the step that ends them,
// each once.
//
// Values go into a hidden part. Before each commit what was written is flushed, and the commit remembers the part and
// its length (key `open`). A part that is large or old enough is closed at the end of a step: its commit remembers it
// as `done-NUMBER`, and once that is durable the part is renamed to its visible name. That it was renamed, the next
// commit says by forgetting it.
//
// Invariants:
// 1. What is visible was committed, whole: a name appears only after the commit that closed the part is durable.
// 2. Each number is given to one visible file: numbers go on from what the last commit says.
// 3. A run writes into parts of its own alone: an open part of the run before it is copied, up to the length that its
//    commit says, and removed once a commit remembers the copy. So a run that is fenced and has not noticed harms nothing.
// 4. A run begins with the renames that are owed, and removes hidden parts that the last commit does not remember.

import MillraceBase
import MillraceDataflow
import MillraceIO
import Synchronization

/// When a file sink ends a file and begins the next one: at the end of the first step that finds one of both.
public struct FileRolling: Sendable {
  /// Bytes of a file.
  public var size: Int64
  /// Age of a file since its first value; zero ends a file with every step.
  public var interval: Duration

  /// A file ends at `size` bytes (64 MiB) or after `interval` (1 minute).
  public init(size: Int64 = 64 << 20, interval: Duration = .seconds(60)) {
    self.size = size
    self.interval = interval
  }

  /// Each step's values are a file.
  public static let everyStep = FileRolling(interval: .zero)
}

/// Writes the files of one sink in one run of a job.
///
/// Safety: `@unchecked Sendable` because workers add lines under `lock`, and all else is called while none of them does.
final class FileSinkWriter: StepParticipant, @unchecked Sendable {
  private static let bufferSize = 256 << 10

  private let lock = Mutex(())
  private let names: PartNames
  private let rolling: FileRolling
  private let header: String?
  private let fileSystem: any FileSystem
  private let clock: @Sendable () -> MonotonicTime

  private var epoch: Int64 = 0
  private var number: Int64 = 0
  /// The part that is being written.
  private var file: (any File)?
  private var written: Int64 = 0
  private var began = MonotonicTime(nanoseconds: 0)
  private var buffer: [UInt8] = []
  /// An open part of the run before, to be copied when there is something to add, or it must end.
  private var inherited: PartNote?
  /// What the last commit that was handed over says of the open part.
  private var remembered: PartNote?
  /// Parts to be renamed, and hidden files to be removed, once a commit is durable.
  private var closed: [(commit: UInt64, part: PartNote)] = []
  private var obsolete: [(commit: UInt64, path: String)] = []
  /// Renamed, and still remembered by the last commit.
  private var renamed: [Int64] = []
  /// What went wrong where nothing can be thrown.
  private var failure: JobError?

  init(
    names: PartNames, rolling: FileRolling, header: String?, in fileSystem: any FileSystem,
    clock: @escaping @Sendable () -> MonotonicTime
  ) {
    self.names = names
    self.rolling = rolling
    self.header = header
    self.fileSystem = fileSystem
    self.clock = clock
  }

  deinit { file?.close() }

  // MARK: Values

  /// Adds a line.
  func append(_ line: UnsafeRawBufferPointer) { lock.withLock { _ in add(line) } }

  private func add(_ line: UnsafeRawBufferPointer) {
    guard failure == nil else { return }
    do throws(JobError) {
      if file == nil { try open() }
      buffer += line
      buffer.append(10)
      if buffer.count >= FileSinkWriter.bufferSize { try drain() }
    } catch {
      failure = error
    }
  }

  private func io<Value>(_ body: () throws(IOError) -> Value) throws(JobError) -> Value {
    do throws(IOError) { return try body() } catch { throw JobError(.sinkFailed, error.description) }
  }

  /// Begins a part of this run: empty, or with what was inherited.
  private func open() throws(JobError) {
    let path = names.hidden(PartNote(number: number, epoch: epoch, length: 0))
    let made = try io { () throws(IOError) in try fileSystem.open(path, [.write, .read, .create, .truncate]) }
    file = made
    written = 0
    guard let from = inherited else {
      began = clock()
      if let header { buffer += Array(header.utf8) + [10] }
      return
    }
    try io { () throws(IOError) in try copy(from, into: made) }
    written = from.length
  }

  private func copy(_ part: PartNote, into target: any File) throws(IOError) {
    let source = try fileSystem.open(names.hidden(part), .read)
    defer { source.close() }
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: FileSinkWriter.bufferSize, alignment: 16)
    defer { memory.deallocate() }
    var at: Int64 = 0
    while at < part.length {
      let wanted = UnsafeMutableRawBufferPointer(rebasing: memory[..<Int(min(Int64(memory.count), part.length - at))])
      let got = try source.read(into: wanted, at: at)
      guard got > 0 else {
        throw IOError(
          .failed, operation: "read", subject: source.path, reason: "it ends at \(at); a commit says \(part.length)")
      }
      try target.write(UnsafeRawBufferPointer(rebasing: memory[..<got]), at: at)
      at += Int64(got)
    }
  }

  private func drain() throws(JobError) {
    guard let file, !buffer.isEmpty else { return }
    let (bytes, at) = (Bytes(buffer), written)
    try io { () throws(IOError) in
      try bytes.withBuffer { (part: UnsafeRawBufferPointer) throws(IOError) in try file.write(part, at: at) }
    }
    written += Int64(buffer.count)
    buffer.removeAll(keepingCapacity: true)
  }

  // MARK: Commits

  func recover(_ entries: [String: Bytes], epoch: Int64) throws(JobError) {
    self.epoch = epoch
    began = clock()
    try io { () throws(IOError) in
      try fileSystem.createDirectories(names.directory)
      try fileSystem.syncIfAllowed(fileSystem.parentDirectory(of: names.directory))
    }
    var owed: [PartNote] = []
    for (key, value) in entries {
      let note = try PartNote(value)
      switch key {
      case "open": (inherited, remembered, number) = (note, note, max(number, note.number))
      case "next": number = max(number, note.number)
      default: owed.append(note)
      }
    }
    for note in owed.sorted(by: { $0.number < $1.number }) {
      try publish(note)
      renamed.append(note.number)
      number = max(number, note.number + 1)
    }
    let kept = inherited.map { names.hiddenName($0) }
    try io { () throws(IOError) in
      for name in try fileSystem.list(names.directory) where names.isHidden(name) && name != kept {
        try fileSystem.remove(names.directory + "/" + name)
      }
      try fileSystem.syncDirectory(names.directory)
    }
  }

  func prepare(commit: UInt64) throws(JobError) -> [(key: String, value: Bytes?)] {
    if let failure { throw failure }
    var changes: [(key: String, value: Bytes?)] = renamed.map { ("done-\($0)", nil) }
    renamed.removeAll()
    let mustEnd = isOld || isFinished
    if mustEnd, inherited != nil, file == nil { try open() }
    guard let file else { return changes }
    try drain()
    let note = PartNote(number: number, epoch: epoch, length: written)
    if note != remembered {
      try io { () throws(IOError) in
        try file.flush()
        // Its name, too, must be there when a commit remembers it.
        if remembered?.epoch != epoch || remembered?.number != number { try fileSystem.syncDirectory(names.directory) }
      }
    }
    if let old = inherited {
      obsolete.append((commit, names.hidden(old)))
      inherited = nil
    }
    guard mustEnd || written >= rolling.size else {
      if note != remembered { changes.append(("open", note.bytes)) }
      remembered = note
      return changes
    }
    file.close()
    self.file = nil
    closed.append((commit, note))
    changes.append(("done-\(number)", note.bytes))
    if remembered != nil { changes.append(("open", nil)) }
    remembered = nil
    number += 1
    changes.append(("next", PartNote(number: number, epoch: epoch, length: 0).bytes))
    return changes
  }

  func committed(_ commit: UInt64) throws(JobError) {
    while let first = closed.first, first.commit <= commit {
      try publish(first.part)
      renamed.append(first.part.number)
      closed.removeFirst()
    }
    while let first = obsolete.first, first.commit <= commit {
      try remove(first.path)
      obsolete.removeFirst()
    }
  }

  /// Makes a part visible, unless it is already: a run that was fenced may have done it, and somebody may have taken
  /// the file since.
  private func publish(_ note: PartNote) throws(JobError) {
    let (hidden, visible) = (names.hidden(note), names.visible(note.number))
    try io { () throws(IOError) in
      guard try fileSystem.exists(hidden) else { return }
      let file = try fileSystem.open(hidden, .read)
      let size = try file.size()
      file.close()
      guard size == note.length else {
        throw IOError(
          .failed, operation: "rename", subject: hidden, reason: "it has \(size) bytes; its commit says \(note.length)")
      }
      try fileSystem.rename(hidden, to: visible)
      try fileSystem.syncDirectory(names.directory)
    }
  }

  private func remove(_ path: String) throws(JobError) {
    do throws(IOError) {
      try fileSystem.remove(path)
    } catch {
      guard error.code == .notFound else { throw JobError(.sinkFailed, error.description) }
    }
  }

  /// All inputs have ended: the next step ends the last part.
  private var isFinished = false

  /// Whether the open part is old enough to end.
  private var isOld: Bool { (file != nil || inherited != nil) && clock() - began >= rolling.interval }

  func wantsStep(isFinished: Bool) -> Bool {
    self.isFinished = isFinished
    guard failure == nil else { return true }
    return isFinished ? file != nil || inherited != nil : isOld
  }
}
