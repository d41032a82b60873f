// PreparedStates: what a worker makes of its own values before they go to the workers that have their keys.
//
// Where the order of a key's values does not matter, each worker folds those that it decodes into states of its own, and at the end of the
// step hands over one state a key in place of one value after the other. Of keys that hardly come twice in a step that would be
// work for nothing: then values go as they are for a while.

import MillraceBase

/// What came of a key's values on one worker: in one step, or of one slice of time in one batch.
@usableFromInline
struct PreparedState: ExchangeValue {
  /// Lies in memory of the worker that prepared it, until its next round begins.
  @usableFromInline let key: UnsafeRawBufferPointer
  @usableFromInline let bits: UInt64
  /// A time in the slice.
  @usableFromInline let slice: Timestamp
  /// Values of the slice that are not counted in another part of it.
  @usableFromInline let values: UInt64

  @usableFromInline
  init(key: UnsafeRawBufferPointer, bits: UInt64, slice: Timestamp = .none, values: UInt64 = 0) {
    self.key = key
    self.bits = bits
    self.slice = slice
    self.values = values
  }

  @usableFromInline static var needsKeeping: Bool { false }
}

/// Decides for one worker and operator whether preparing pays.
///
/// Safety: `@unchecked Sendable` because it is used by one worker, on whatever thread that is.
@usableFromInline
final class PreparationGauge: @unchecked Sendable {
  /// Values between two looks at how many of them were new keys.
  private static var window: UInt64 { 4096 }
  /// Windows in which values go as they are, once preparing did not pay.
  private static var pause: UInt64 { 15 }

  @usableFromInline struct State {
    /// Values before the next look.
    @usableFromInline var left = PreparationGauge.window
    @usableFromInline var isPreparing = true
    var keysBefore = 0
  }
  // Safety: allocated in init, freed in deinit, used by the worker only.
  @usableFromInline let state: UnsafeMutablePointer<State>

  init() {
    state = .allocateOnOwnLines()
    state.initialize(to: State())
  }

  deinit { state.deallocate() }

  /// Whether the next value is to be prepared. `keys` says how many keys were prepared so far.
  @inlinable @inline(__always)
  func preparesNext(_ keys: () -> Int) -> Bool {
    if state.pointee.left == 0 { look(keys()) }
    state.pointee.left &-= 1
    return state.pointee.isPreparing
  }

  @usableFromInline @inline(never)
  func look(_ keys: Int) {
    let fresh = UInt64(keys - state.pointee.keysBefore)
    let isWorthwhile = !state.pointee.isPreparing || fresh <= PreparationGauge.window / 2
    state.pointee.isPreparing = isWorthwhile
    state.pointee.left = isWorthwhile ? PreparationGauge.window : PreparationGauge.window * PreparationGauge.pause
    state.pointee.keysBefore = keys
  }

  /// The keys are counted from 0 again.
  func forgetKeys() { state.pointee.keysBefore = 0 }
}

/// One worker's prepared states of an operator, and its end of the lanes in which they go.
///
/// Safety: `@unchecked Sendable` because it is used by one worker, on whatever thread that is.
@usableFromInline
final class PreparedStates: @unchecked Sendable {
  @usableFromInline let table: KeyedTable
  @usableFromInline let end: ExchangeEnd<PreparedState>
  @usableFromInline let gauge = PreparationGauge()
  private var wasSent = false

  @usableFromInline
  init(_ end: ExchangeEnd<PreparedState>, codec: (any StateCodec)?) {
    self.end = end
    table = KeyedTable(operatorID: 0, kind: StateRecordKind.keyedValue, scope: [], codec: codec)
  }

  /// About the bytes that the commit will have because of what is prepared.
  var changedSize: Int { table.changedSize }

  /// A round begins: what was sent has been received.
  @usableFromInline
  func begin() {
    end.begin()
    guard wasSent else { return }
    table.removeAll()
    gauge.forgetKeys()
    wasSent = false
  }

  /// Whether the next value is to be prepared.
  @inlinable @inline(__always)
  func preparesNext() -> Bool { gauge.preparesNext { table.count } }

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
