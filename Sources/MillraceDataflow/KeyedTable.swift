// KeyedTable: an operator's keyed state: an open-addressing table from key bytes to 64-bit values.
//
// Entries lie densely in an array and keep their place from insertion to deletion; a separate array of slots, probed
// linearly, holds (hash tag, entry number). So growing the slots never moves an entry, and a sweep that walks the entries
// goes on where it was, whatever was inserted, deleted or rehashed in between.
//
// Keys of up to 16 bytes lie in their entries, so that an update touches two places of memory: a slot and an entry. Longer ones lie
// in an arena, preceded by the bytes that stand before them in the state log (four, and what a table of a slice has in front
// of its keys).
//
// A table that is larger than the processor's caches waits for memory at both places. Who has many keys to look up says so with
// `approach`, so that the waits are for all of them at once; what is written for the state log does the same.
//
// Entry flags: live (holds a value), dirty (changed in this step, listed in `dirty`), parity (of the round that wrote it
// last), recent (used since the table last looked for what to put into a file), and the key group. An entry deleted in this step
// stays findable, not live, until its deletion was written.
//
// What a job's memory has no room for lies in files (KeyedTable+Spill.swift): a key that is not found here may be there.

import MillraceBase

/// Keyed state of one operator.
///
/// Safety: `@unchecked Sendable` because a table is handed to the job's worker thread once and used there only.
public final class KeyedTable: @unchecked Sendable {
  /// Half a line of the processor's cache.
  @usableFromInline
  struct Entry {
    /// The bytes of a short key; of a long one where the prefix lies, and behind it the key.
    @usableFromInline var key: (UInt64, UInt64)
    @usableFromInline var value: UInt64
    /// Of the key without prefix.
    @usableFromInline var length: UInt32
    @usableFromInline var flags: UInt32

    @inlinable var isShort: Bool { length <= KeyedTable.shortKey }
    /// Where the prefix of a long key lies.
    @usableFromInline var long: UnsafeMutableRawPointer {
      guard let memory = UnsafeMutableRawPointer(bitPattern: UInt(key.0)) else { preconditionFailure("no key at 0") }
      return memory
    }
  }

  /// The mutable part, behind a pointer: fields of a class would be checked for exclusive access at every use.
  @usableFromInline
  struct Core {
    @usableFromInline var slots: UnsafeMutablePointer<UInt64>
    @usableFromInline var mask: Int
    @usableFromInline var entries: UnsafeMutablePointer<Entry>
    var entryCapacity: Int
    /// Entries in use or free below this number.
    var entryCount = 0
    @usableFromInline var dirty: UnsafeMutablePointer<UInt32>
    @usableFromInline var dirtyCapacity: Int
    @usableFromInline var dirtyCount = 0
    /// Parity of the current sweep round.
    var parity: UInt32 = 0
    var cursor = 0
    var liveCount = 0
    var slotsUsed = 0
    /// Lookups wait for memory, mostly: it pays to ``KeyedTable/approach(_:_:)`` them.
    @usableFromInline var isLarge = false
    /// The flag that lookups set: ``KeyedTable/recent`` when entries may go into a file, nothing otherwise.
    @usableFromInline var readMark: UInt32 = 0
    /// Takes what was read only to have it near.
    var ignored: UInt64 = 0
    /// The highest event time since it was last taken.
    @usableFromInline var newestTime = Timestamp.none
  }

  @usableFromInline static var live: UInt32 { 1 }
  @usableFromInline static var isDirty: UInt32 { 2 }
  @usableFromInline static var parityBit: UInt32 { 4 }
  static var recent: UInt32 { 8 }
  /// Bits of the flags that hold the key group.
  static var groupShift: UInt32 { 8 }
  static var groupBits: UInt32 { 0xff00 }
  /// Longest key that lies in its entry, in bytes.
  @usableFromInline static var shortKey: Int { 16 }
  /// Slots from which on a table is large: with its entries 48 MiB, more than caches hold.
  static let largeSlots = 1 << 21
  /// Most entries; the slots hold entry numbers of 32 bits.
  static let maximumEntries = 1 << 30

  /// Stands in the state log before every key of this table.
  public let operatorID: UInt16
  let kind: UInt8
  /// Turns the bits of an entry into what stands in the state log; nil where that is the bits themselves.
  let codec: (any StateCodec)?
  let largeSlots: Int
  /// Stands between the four bytes and every key.
  let scope: [UInt8]
  /// Bytes before each key.
  @usableFromInline let keyOffset: Int
  // Safety: allocated in init, freed in deinit, used by the owner's thread only.
  @usableFromInline let core: UnsafeMutablePointer<Core>
  /// What stands before each key, with the group of the key that was written last.
  let head: UnsafeMutableRawBufferPointer
  var arena = KeyArena()
  var deadKeyBytes = 0
  /// Bytes of the keys in `dirty`.
  var changedKeyBytes = 0
  var free: [UInt32] = []
  /// Records of the state log that are about to be taken over.
  var restoring: RestoreQueue?
  /// What lies in files; nil while nothing may.
  var spilled: SpilledEntries?
  /// All workers of a job have the same table; see ``OperatorState/isShared``.
  var isShared = false

  /// An empty table of the operator `operatorID`.
  public convenience init(operatorID: UInt16) {
    self.init(operatorID: operatorID, kind: StateRecordKind.keyedValue, scope: [])
  }

  /// An empty table whose state records are of `kind` and have `scope` before their keys.
  /// - Parameter largeSlots: slots from which on lookups are gathered.
  init(
    operatorID: UInt16, kind: UInt8, scope: [UInt8], codec: (any StateCodec)? = nil,
    largeSlots: Int = KeyedTable.largeSlots
  ) {
    self.operatorID = operatorID
    self.largeSlots = largeSlots
    self.codec = codec
    self.kind = kind
    self.scope = scope
    keyOffset = StateRecordKind.prefixSize + scope.count
    head = .allocate(byteCount: keyOffset, alignment: 8)
    head.storeBytes(of: operatorID.bigEndian, as: UInt16.self)
    head[2] = kind
    head[3] = 0
    for (index, byte) in scope.enumerated() { head[StateRecordKind.prefixSize + index] = byte }
    core = .allocateOnOwnLines()
    core.initialize(
      to: Core(
        slots: KeyedTable.memory(16), mask: 15, entries: KeyedTable.memory(8), entryCapacity: 8,
        dirty: .allocate(capacity: 8), dirtyCapacity: 8, isLarge: largeSlots <= 16))
  }

  deinit {
    if let codec { forEachEntry { codec.release($1) } }
    KeyedTable.free(core.pointee.slots, core.pointee.mask + 1)
    KeyedTable.free(core.pointee.entries, core.pointee.entryCapacity)
    core.pointee.dirty.deallocate()
    core.deallocate()
    head.deallocate()
  }

  /// Number of keys that hold a value.
  public var count: Int { core.pointee.liveCount + (spilled?.segments.count ?? 0) }

  /// Number of keys changed since the changes were last written.
  public var changedCount: Int { core.pointee.dirtyCount }

  /// About the bytes that the changes will take: each key once in the state log and once in what is handed on.
  var changedSize: Int { 2 * changedKeyBytes + KeyedTable.changeOverhead * changedCount }
  /// Two records' fields around the key: lengths, time, offset, the state's prefix, and the value as 64 bits or as text.
  private static let changeOverhead = 48

  /// Changes the value of `key`, which starts as `initial` when the key is new, and notes the change.
  /// - Complexity: O(bytes of the key), amortised.
  @inlinable @inline(__always)
  public func update(
    _ key: UnsafeRawBufferPointer, initial: @autoclosure () -> UInt64, _ body: (inout UInt64) -> Void
  ) {
    update(key, Hashing.stable(key), initial: initial(), body)
  }

  /// The same for a key whose hash is known.
  @inlinable @inline(__always)
  func update(
    _ key: UnsafeRawBufferPointer, _ hash: UInt64, initial: @autoclosure () -> UInt64, _ body: (inout UInt64) -> Void
  ) {
    let number = find(key, hash) ?? insert(key, hash)
    let entry = core.pointee.entries + number
    let flags = entry.pointee.flags
    if flags & (KeyedTable.live | KeyedTable.isDirty) != KeyedTable.live | KeyedTable.isDirty {
      touch(number, flags & KeyedTable.live == 0 ? initial() : 0)
    }
    body(&entry.pointee.value)
  }

  /// The value of `key`, nil when it has none.
  @inlinable
  public func value(_ key: UnsafeRawBufferPointer) -> UInt64? {
    liveEntry(key, Hashing.stable(key)).map { core.pointee.entries[$0].value }
  }

  /// The number of the entry of `key` when it holds a value.
  @inlinable @inline(__always)
  func liveEntry(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> Int? {
    guard let number = find(key, hash) ?? fetch(key, hash) else { return nil }
    let entry = core.pointee.entries + number
    guard entry.pointee.flags & KeyedTable.live != 0 else { return nil }
    if core.pointee.readMark != 0 { entry.pointee.flags |= core.pointee.readMark }
    return number
  }

  /// Takes the value of `key` away and notes the change; no-op when it has none.
  public func remove(_ key: UnsafeRawBufferPointer) {
    if let number = liveEntry(key, Hashing.stable(key)) { remove(entry: number) }
  }

  /// Takes the value of an entry away and notes the change; no-op when it has none.
  func remove(entry number: Int) {
    let flags = core.pointee.entries[number].flags
    guard flags & KeyedTable.live != 0 else { return }
    if flags & KeyedTable.isDirty == 0 { note(number) }
    codec?.release(core.pointee.entries[number].value)
    core.pointee.entries[number].flags = (flags | KeyedTable.isDirty) & ~KeyedTable.live
    core.pointee.liveCount -= 1
  }

  /// Calls `body` with each changed key and its value, nil when it was removed, in the order of first change.
  ///
  /// The memory of the key is valid inside `body` only; `body` must not change the table.
  @inlinable
  public func forEachChange(_ body: (UnsafeRawBufferPointer, UInt64?) -> Void) {
    for index in 0..<core.pointee.dirtyCount {
      if core.pointee.isLarge, index % KeyedTable.stride == 0 { approachChanges(from: index) }
      let entry = core.pointee.entries + Int(core.pointee.dirty[index])
      body(key(at: entry), entry.pointee.flags & KeyedTable.live != 0 ? entry.pointee.value : nil)
    }
  }

  /// Makes the entry of `key` live, with bits of `make` when it is not, and notes it as changed.
  /// - Returns: its number, which stays until the key is removed.
  func changeEntry(_ key: UnsafeRawBufferPointer, _ hash: UInt64, _ make: () -> UInt64) -> Int {
    let number = find(key, hash) ?? insert(key, hash)
    let isLive = isLive(number)
    touch(number, isLive ? 0 : make())
    return number
  }

  /// Notes the live entry as changed.
  func noteChange(_ number: Int) { touch(number, 0) }

  /// Whether the entry holds a value.
  func isLive(_ number: Int) -> Bool { core.pointee.entries[number].flags & KeyedTable.live != 0 }

  /// Whether the entry was changed since the changes were last written.
  func isChanged(_ number: Int) -> Bool { core.pointee.entries[number].flags & KeyedTable.isDirty != 0 }

  /// The bits of an entry.
  func bits(of number: Int) -> UInt64 { core.pointee.entries[number].value }

  /// The key of an entry. The memory is valid until the table is changed.
  func key(of number: Int) -> UnsafeRawBufferPointer { key(at: core.pointee.entries + number) }

  @inlinable @inline(__always)
  func key(at entry: UnsafeMutablePointer<Entry>) -> UnsafeRawBufferPointer {
    let length = Int(entry.pointee.length)
    return UnsafeRawBufferPointer(
      start: length <= KeyedTable.shortKey ? UnsafeMutableRawPointer(entry) : entry.pointee.long + keyOffset,
      count: length)
  }

  /// Calls `body` with the number and the bits of each entry in memory that holds a value.
  func forEachEntry(_ body: (Int, UInt64) -> Void) {
    for number in 0..<core.pointee.entryCount where isLive(number) { body(number, bits(of: number)) }
  }

  /// Calls `body` with each key that holds a value, in no particular order.
  public func forEach(_ body: (UnsafeRawBufferPointer, UInt64) -> Void) {
    for index in 0..<core.pointee.entryCount {
      let entry = core.pointee.entries + index
      if entry.pointee.flags & KeyedTable.live != 0 { body(key(at: entry), entry.pointee.value) }
    }
    forEachSpilled(body)
  }

  /// Notes the event time of a value that came in.
  @inlinable @inline(__always)
  func note(_ time: Timestamp) {
    if time > core.pointee.newestTime { core.pointee.newestTime = time }
  }

  /// The highest event time noted since the last call, `.none` without any.
  @inlinable
  func takeNewestTime() -> Timestamp {
    let time = core.pointee.newestTime
    core.pointee.newestTime = .none
    return time
  }

  /// The number of the entry of `key` in memory, live or not.
  @inlinable @inline(__always)
  func find(_ key: UnsafeRawBufferPointer, _ hash: UInt64) -> Int? {
    let slots = core.pointee.slots
    let mask = core.pointee.mask
    let tag = UInt32(truncatingIfNeeded: hash)
    var at = Int(truncatingIfNeeded: hash) & mask
    while true {
      let slot = slots[at]
      if slot == 0 { return nil }
      if UInt32(truncatingIfNeeded: slot >> 32) == tag {
        let number = Int(truncatingIfNeeded: slot & 0xffff_ffff) &- 1
        let entry = core.pointee.entries + number
        if Int(entry.pointee.length) == key.count {
          // Said of the key, because of some its length is known to the compiler.
          let known =
            key.count <= KeyedTable.shortKey ? UnsafeMutableRawPointer(entry) : entry.pointee.long + keyOffset
          if KeyedTable.same(key, known) { return number }
        }
      }
      at = (at &+ 1) & mask
    }
  }

  /// Whether `key` and the bytes at `other` are the same.
  @inlinable @inline(__always)
  static func same(_ key: UnsafeRawBufferPointer, _ other: UnsafeMutableRawPointer) -> Bool {
    let count = key.count
    guard let start = key.baseAddress, count > 0 else { return true }
    @inline(__always) func differ<T: FixedWidthInteger>(_ at: Int, _: T.Type) -> Bool {
      start.loadUnaligned(fromByteOffset: at, as: T.self) != other.loadUnaligned(fromByteOffset: at, as: T.self)
    }
    if count >= 8 {
      var at = 0
      while at &+ 8 <= count {
        if differ(at, UInt64.self) { return false }
        at &+= 8
      }
      return !differ(count &- 8, UInt64.self)
    }
    if count >= 4 { return !differ(0, UInt32.self) && !differ(count &- 4, UInt32.self) }
    if count >= 2 { return !differ(0, UInt16.self) && !differ(count &- 2, UInt16.self) }
    return !differ(0, UInt8.self)
  }
}
