// UpdateQueue: values on their way into a large table, so that many are looked up at a time.

import MillraceBase

/// Values that wait for their keys' places in a table to be fetched from memory, at most ``KeyedTable/stride``; see
/// ``KeyedTable/approach(_:_:)``. Nothing waits beyond the call that brought it.
///
/// Safety: `@unchecked Sendable` because it is used by the job's worker thread only.
@usableFromInline
final class UpdateQueue<Value>: @unchecked Sendable {
  /// The mutable part, behind a pointer: fields of a class would be checked for exclusive access at every use.
  @usableFromInline
  struct Core {
    @usableFromInline let values: UnsafeMutablePointer<Lane<Value>.Element>
    @usableFromInline let hashes: UnsafeMutablePointer<UInt64>
    @usableFromInline var count = 0
  }

  // Safety: allocated in init, freed in deinit.
  @usableFromInline let core: UnsafeMutablePointer<Core>
  @usableFromInline let keep: ((Value, ExchangeArena) -> Value)?
  @usableFromInline let arena = ExchangeArena()

  /// - Parameter keep: makes a value independent of memory that is lent for a call; nil when it is anyhow.
  @usableFromInline
  init(keep: ((Value, ExchangeArena) -> Value)?) {
    self.keep = keep
    core = .allocate(capacity: 1)
    core.initialize(
      to: Core(values: .allocate(capacity: KeyedTable.stride), hashes: .allocate(capacity: KeyedTable.stride)))
  }

  deinit {
    core.pointee.values.deinitialize(count: core.pointee.count)
    core.pointee.values.deallocate()
    core.pointee.hashes.deallocate()
    core.deallocate()
  }

  /// Adds a value.
  /// - Returns: whether there is room for no more.
  @inlinable @inline(__always)
  func append(_ value: Value, _ time: Timestamp, _ hash: UInt64) -> Bool {
    let count = core.pointee.count
    if let keep {
      (core.pointee.values + count).initialize(to: .init(value: keep(value, arena), time: time))
    } else {
      (core.pointee.values + count).initialize(to: .init(value: value, time: time))
    }
    core.pointee.hashes[count] = hash
    core.pointee.count = count &+ 1
    return count &+ 1 == KeyedTable.stride
  }

  /// Hands on the values, whose keys' places in `table` are fetched first.
  @inlinable @inline(__always)
  func empty(into table: KeyedTable, _ body: (Value, Timestamp, UInt64) -> Void) {
    let count = core.pointee.count
    table.approach(core.pointee.hashes, count)
    for index in 0..<count {
      let element = core.pointee.values + index
      body(element.pointee.value, element.pointee.time, core.pointee.hashes[index])
    }
    core.pointee.values.deinitialize(count: count)
    core.pointee.count = 0
    if keep != nil { arena.clear() }
  }
}

extension JobGraph {
  /// A queue before a table that takes values from an exchange; nil for values that cannot be kept beyond a call.
  @usableFromInline
  mutating func updateQueue<Value>() throws(JobError) -> UpdateQueue<Value>? {
    guard Value.self is any ExchangeValue.Type else { return nil }
    // What comes through lanes was kept there.
    return UpdateQueue(keep: workers > 1 ? nil : try keeper())
  }
}
