// PreparedStates: what a worker makes of its own values before they go to the workers that have their keys.
//
// Where the order of a key's values does not matter, each worker folds those that it decodes into states of its own, and at the end of the
// step hands over one state a key in place of one value after the other. Of keys that hardly come twice in a step that would be
// work for nothing: then values go as they are for a while.

import MillraceBase

/// What came of a key's values on one worker in one step.
@usableFromInline
struct PreparedState: ExchangeValue {
  /// The key lies in the table of the worker that prepared it, until the next round begins.
  @usableFromInline let key: UnsafeRawBufferPointer
  @usableFromInline let bits: UInt64

  @usableFromInline
  init(key: UnsafeRawBufferPointer, bits: UInt64) {
    self.key = key
    self.bits = bits
  }

  @usableFromInline static var needsKeeping: Bool { false }
}

/// One worker's prepared states of an operator, and its end of the lanes in which they go.
///
/// Safety: `@unchecked Sendable` because it is used by one worker, on whatever thread that is.
@usableFromInline
final class PreparedStates: @unchecked Sendable {
  /// Values between two looks at how many of them were new keys.
  private static var window: UInt64 { 4096 }
  /// Windows in which values go as they are, once preparing did not pay.
  private static var pause: UInt64 { 15 }

  @usableFromInline let table: KeyedTable
  @usableFromInline let end: ExchangeEnd<PreparedState>
  @usableFromInline struct Counters {
    /// Values before the next look.
    @usableFromInline var left: UInt64
    @usableFromInline var isPreparing = true
    /// Keys at the last look.
    var keysBefore = 0
  }
  // Safety: allocated in init, freed in deinit, used by the worker only.
  @usableFromInline let counters: UnsafeMutablePointer<Counters>
  private var wasSent = false

  @usableFromInline
  init(_ end: ExchangeEnd<PreparedState>, codec: (any StateCodec)?) {
    self.end = end
    table = KeyedTable(operatorID: 0, kind: StateRecordKind.keyedValue, scope: [], codec: codec)
    counters = .allocateOnOwnLines()
    counters.initialize(to: Counters(left: PreparedStates.window))
  }

  deinit { counters.deallocate() }

  /// About the bytes that the commit will have because of what is prepared.
  var changedSize: Int { table.changedSize }

  /// A round begins: what was sent has been received.
  @usableFromInline
  func begin() {
    end.begin()
    guard wasSent else { return }
    table.removeAll()
    counters.pointee.keysBefore = 0
    wasSent = false
  }

  /// Whether the next value is to be prepared.
  @inlinable @inline(__always)
  func preparesNext() -> Bool {
    if counters.pointee.left == 0 { look() }
    counters.pointee.left &-= 1
    return counters.pointee.isPreparing
  }

  @usableFromInline @inline(never)
  func look() {
    let keys = table.count
    let fresh = UInt64(keys - counters.pointee.keysBefore)
    let isWorthwhile = !counters.pointee.isPreparing || fresh <= PreparedStates.window / 2
    counters.pointee.isPreparing = isWorthwhile
    counters.pointee.left = isWorthwhile ? PreparedStates.window : PreparedStates.window * PreparedStates.pause
    counters.pointee.keysBefore = keys
  }

  /// Sends each key's state to the worker that has the key.
  @usableFromInline
  func send() {
    let time = table.takeNewestTime()
    table.forEachChange { key, bits in
      guard let bits else { return }
      end.send(PreparedState(key: key, bits: bits), time, hash: Hashing.stable(key), on: end.runs)
    }
    wasSent = true
  }
}
