// ReadWindowsTests: what is kept of read blocks, what is read ahead, and that damage found on the way is told in time.

import MillraceBase
import MillraceIO
import MillraceModel
import Synchronization
import Testing

@testable import MillraceLog

private let key = IndexKey(segment: 1, position: 4096)
private let other = IndexKey(segment: 2, position: 4096)

/// Calls that change the windows, in a form that an expectation can hold.
private final class Held {
  var windows: ReadWindows
  init(budget: Int) { windows = ReadWindows(budget: budget) }

  var size: Int { windows.size }
  func add(_ window: ReadWindow) { windows.add([window]) }
  func addAhead(_ added: [ReadWindow]) { windows.add(added, isAhead: true) }
  func find(_ key: IndexKey, _ block: Int) -> ReadWindow? { windows.find(key, block) }
  func note(_ key: IndexKey, from start: Int, to end: Int) -> Bool { windows.note(key, from: start, to: end) }
  func continues(_ key: IndexKey, at block: Int) -> Bool { windows.continues(key, at: block) }
  func claim(_ key: IndexKey, after end: Int, blockCount: Int) -> Int? {
    windows.claim(key, after: end, blockCount: blockCount, windowSize: 64 << 10)
  }
  func claim(_ key: IndexKey, at offset: Offset, _ bytes: Int, isWanted: Bool) -> Bool {
    windows.claim(key, .offset(offset), bytes: bytes, isWanted: isWanted)
  }
  func wait(_ key: IndexKey, _ block: Int, _ waiter: @escaping @Sendable () -> Void) -> Bool {
    windows.wait(key, .block(block), waiter)
  }
  func loaded(_ key: IndexKey, _ block: Int) -> [@Sendable () -> Void] { windows.loaded(key, .block(block)) }
  func loaded(_ key: IndexKey, at offset: Offset) { _ = windows.loaded(key, .offset(offset)) }
  func forget(_ segment: UInt64) { windows.forget(segment) }
}

private func window(_ key: IndexKey, _ blocks: Range<Int>) -> ReadWindow {
  ReadWindow(key: key, blocks: blocks, position: 0, chunk: Chunk(capacity: 64 << 10))
}

@Test("windows are kept within the budget, those used last stay")
func windowBudget() {
  let windows = Held(budget: 3 * (64 << 10))
  for start in 0..<3 { windows.add(window(key, start..<(start + 1))) }
  #expect(windows.find(key, 0) != nil)
  windows.add(window(key, 3..<4))
  #expect(windows.find(key, 1) == nil, "not used for longest")
  for block in [0, 2, 3] { #expect(windows.find(key, block) != nil, "block \(block)") }
  #expect(windows.size == 3 * (64 << 10))
  windows.forget(1)
  #expect(windows.size == 0 && windows.find(key, 0) == nil)
}

@Test("a reader is in order when it begins where one ended, or goes on in the same block")
func sequentialReaders() {
  let windows = Held(budget: 1 << 20)
  #expect(!windows.note(key, from: 0, to: 4))
  #expect(windows.continues(key, at: 4) && !windows.continues(other, at: 4))
  #expect(windows.note(key, from: 4, to: 5))
  #expect(!windows.continues(key, at: 4), "the reader has gone on")
  #expect(windows.note(key, from: 4, to: 5), "part of a block after another part")
  #expect(!windows.note(key, from: 9, to: 10), "a jump")
}

@Test("two windows are read ahead, none twice, and at most half of the budget at a time")
func claims() {
  let size = 64 << 10
  let windows = Held(budget: 4 * size)
  windows.add(window(key, 0..<2))
  #expect(windows.claim(key, after: 2, blockCount: 8) == 2)
  #expect(windows.claim(key, after: 2, blockCount: 8) == nil, "it is being read")
  windows.add(window(key, 2..<4))
  _ = windows.loaded(key, 2)
  #expect(windows.claim(key, after: 2, blockCount: 8) == 4)
  windows.add(window(key, 4..<6))
  _ = windows.loaded(key, 4)
  #expect(windows.claim(key, after: 2, blockCount: 8) == nil, "two are there")
  #expect(windows.claim(key, after: 6, blockCount: 6) == nil, "there are no more blocks")
  for segment in 3...4 {
    #expect(
      windows.claim(IndexKey(segment: UInt64(segment), position: 0), after: 0, blockCount: 8) == 0)
  }
  #expect(windows.claim(other, after: 0, blockCount: 8) == nil, "half of the budget is under way")
}

@Test("what nobody has asked for is read ahead only while half of the budget holds that and all that was not used yet")
func unusedWindows() {
  let size = 64 << 10
  let windows = Held(budget: 8 * size)
  for segment in 1...2 {
    #expect(windows.claim(IndexKey(segment: UInt64(segment), position: 0), at: 5, 2 * size, isWanted: false))
  }
  #expect(!windows.claim(key, at: 5, size, isWanted: true), "half of the budget is under way")
  #expect(!windows.claim(IndexKey(segment: 1, position: 0), at: 5, 1, isWanted: true), "it is being read")
  for segment in 1...2 {
    let key = IndexKey(segment: UInt64(segment), position: 0)
    let chunk = Chunk(capacity: 2 * size)
    windows.addAhead((0..<2).map { ReadWindow(key: key, blocks: $0..<($0 + 1), position: 0, chunk: chunk) })
    windows.loaded(key, at: 5)
  }
  #expect(windows.size == 4 * size, "windows that lie in the same memory count once")
  #expect(!windows.claim(key, at: 5, size, isWanted: false), "nothing was used yet")
  #expect(windows.claim(key, at: 5, 4 * size, isWanted: true), "who waits gets memory all the same")
  windows.loaded(key, at: 5)
  #expect(windows.find(IndexKey(segment: 1, position: 0), 1) != nil)
  #expect(!windows.claim(key, at: 5, 3 * size, isWanted: false))
  #expect(windows.claim(key, at: 5, 2 * size, isWanted: false), "half of it was used")
  windows.loaded(key, at: 5)
  windows.forget(2)
  #expect(windows.claim(key, at: 5, 4 * size, isWanted: false), "nothing unused is left")
}

@Test("windows that lie in the same memory go together")
func sharedMemory() {
  let windows = Held(budget: 128 << 10)
  let chunk = Chunk(capacity: 64 << 10)
  windows.addAhead([key, other].map { ReadWindow(key: $0, blocks: 0..<1, position: 0, chunk: chunk) })
  windows.add(window(key, 1..<2))
  #expect(windows.find(other, 0) != nil)
  windows.add(window(key, 2..<3))
  #expect(windows.find(key, 0) != nil && windows.find(key, 1) == nil, "a use of one counts for all")
  windows.add(window(key, 3..<4))
  windows.add(window(key, 4..<5))
  #expect(windows.find(key, 0) == nil && windows.find(other, 0) == nil && windows.size == 128 << 10)
}

@Test("whoever wants a window that is being read ahead hears of its end, whatever that is")
func waiters() {
  let windows = Held(budget: 1 << 20)
  let told = Mutex(0)
  #expect(!windows.wait(key, 0) { told.withLock { $0 += 1 } }, "nothing is being read")
  #expect(windows.claim(key, after: 0, blockCount: 8) == 0)
  #expect(windows.wait(key, 0) { told.withLock { $0 += 1 } })
  #expect(!windows.wait(key, 1) { told.withLock { $0 += 1 } })
  for waiter in windows.loaded(key, 0) { waiter() }
  #expect(told.withLock { $0 } == 1)
  #expect(windows.loaded(key, 0).isEmpty)
}

@Test("a reader in order gets the same bytes from windows read ahead, in few reads")
func readsAhead() throws {
  let log = LogWorld {
    $0.journalFileSize = 4 << 20
    $0.hotTailSize = 1 << 20
  }
  try log.open()
  let partition = try log.create(1)
  let batches = try log.fill(partition, batches: 4000, size: 1000...3000)
  log.settle()
  try log.restart()
  let again = try log.partition(1)
  let drained = try #require(again.extents.last).nextOffset
  #expect(again.extents.reduce(0) { $0 + $1.bytes } > 5 << 20)
  let reads = readOperations(log)
  var offset: Offset = 0
  var got: [Bytes] = []
  while offset < drained {
    let runs = try log.read(again, from: offset, limit: 100_000).get()
    for run in runs {
      for (position, header) in try RecordBatchRun.headers(in: run) {
        got.append(run[position..<(position + header.totalSize)])
        offset = header.nextOffset
      }
    }
  }
  #expect(try got == Array(batches.stored().prefix(got.count)))
  // A window holds some twenty such reads; each extent costs one for its index and a few for its first blocks.
  #expect(reads() < 8 * again.extents.count + 10, "\(reads()) reads of \(again.extents.count) extents")
}

@Test("a damaged block fails only the reads that want it, also when it was met while reading ahead")
func damageReadAhead() throws {
  let log = LogWorld {
    $0.journalFileSize = 4 << 20
    $0.hotTailSize = 1 << 20
  }
  try log.open()
  let partition = try log.create(1)
  let batches = try log.fill(partition, batches: 3000, size: 1000...3000).stored()
  log.settle()
  try log.restart()
  let again = try log.partition(1)
  let extent = try #require(again.extents.first { $0.blockCount > 8 })
  let blocks = try log.store.segments.index(extent)
  let bad = blocks[6]
  let path = try #require(log.files(SegmentFormat.name(extent.segment)).first)
  try log.damage(path, at: Int(bad.position) + 100)
  var offset = extent.baseOffset
  while offset < bad.baseOffset {
    let runs = try log.read(again, from: offset, limit: 40_000).get()
    for run in runs {
      for (position, header) in try RecordBatchRun.headers(in: run) {
        #expect(batches.contains(run[position..<(position + header.totalSize)]))
        offset = header.nextOffset
      }
    }
  }
  #expect(offset == bad.baseOffset)
  guard case .failure(let error) = log.read(again, from: offset) else {
    Issue.record("a damaged block was served")
    return
  }
  #expect(error.code == .corruption && error.reason.contains("at byte \(bad.position)"), "\(error)")
  #expect(try !log.read(again, from: bad.lastOffset + 1).get().isEmpty, "what comes behind it can be read")
}
