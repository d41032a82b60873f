// ExchangeValue: values that may go from one worker of a job to another.

import MillraceBase

/// A value that a job's workers can hand to each other inside a step.
///
/// What keyed operators are given goes to the worker that has the key, on another thread, and is used before the step ends. Types
/// that own what they hold need nothing but the conformance:
///
///     struct Click: ExchangeValue { let user: String; let page: String }
///
/// A type that holds lent memory (``BorrowedBytes``, buffers) copies it into the arena. Objects that a value refers to must be safe to
/// use on another thread.
public protocol ExchangeValue {
  /// Whether values have to be asked for ``kept(in:)`` at all.
  static var needsKeeping: Bool { get }
  /// The same value, which lends no memory but that of the step's input batches and of `arena`.
  func kept(in arena: ExchangeArena) -> Self
}

extension ExchangeValue {
  /// They are asked.
  public static var needsKeeping: Bool { true }
  /// The value itself.
  @inlinable public func kept(in arena: ExchangeArena) -> Self { self }
}

extension BorrowedBytes: ExchangeValue {
  /// A copy in the arena.
  @inlinable
  public func kept(in arena: ExchangeArena) -> BorrowedBytes { BorrowedBytes(arena.copy(buffer)) }
}

extension InputRecord: ExchangeValue {
  /// Lies in its batch, which stays until the step ends.
  public static var needsKeeping: Bool { false }
}

extension StateCodable {
  /// What can be read back from the state owns what it holds.
  public static var needsKeeping: Bool { false }
}

extension Optional: ExchangeValue where Wrapped: ExchangeValue {
  /// When what is there needs it.
  public static var needsKeeping: Bool { Wrapped.needsKeeping }
  /// Keeps what is there.
  @inlinable public func kept(in arena: ExchangeArena) -> Wrapped? { map { $0.kept(in: arena) } }
}

extension Array: ExchangeValue where Element: ExchangeValue {
  /// When its elements need it.
  public static var needsKeeping: Bool { Element.needsKeeping }
  /// Keeps each element.
  @inlinable public func kept(in arena: ExchangeArena) -> [Element] { map { $0.kept(in: arena) } }
}

extension Keyed: ExchangeValue where Key: ExchangeValue, Value: ExchangeValue {
  /// When one of them needs it.
  public static var needsKeeping: Bool { Key.needsKeeping || Value.needsKeeping }
  /// Keeps both.
  @inlinable
  public func kept(in arena: ExchangeArena) -> Keyed {
    Keyed(key: key.kept(in: arena), value: value.kept(in: arena))
  }
}

extension Windowed: ExchangeValue where Key: ExchangeValue, Value: ExchangeValue {
  /// When one of them needs it.
  public static var needsKeeping: Bool { Key.needsKeeping || Value.needsKeeping }
  /// Keeps both.
  @inlinable
  public func kept(in arena: ExchangeArena) -> Windowed {
    Windowed(key: key.kept(in: arena), window: window, value: value.kept(in: arena))
  }
}

/// Memory for the bytes of values on their way between workers; given back as a whole.
///
/// Safety: `@unchecked Sendable` because only the worker that sends writes, and those that receive have done so before it begins anew.
public final class ExchangeArena: @unchecked Sendable {
  /// Bytes of a block; what is larger gets a block of its own.
  static let blockSize = 64 * 1024
  /// Blocks that are kept for the next round.
  static let keptBlocks = 64

  @usableFromInline
  struct Place {
    @usableFromInline var next: UnsafeMutableRawPointer?
    @usableFromInline var room = 0
  }

  // Safety: allocated in init, freed in deinit, used by the sending worker only.
  @usableFromInline let place: UnsafeMutablePointer<Place>
  private var blocks: [UnsafeMutableRawPointer] = []
  private var used = 0
  private var large: [UnsafeMutableRawPointer] = []

  init() {
    place = .allocateOnOwnLines()
    place.initialize(to: Place())
  }

  deinit {
    for block in blocks + large { block.deallocate() }
    place.deallocate()
  }

  /// A copy of `bytes` that is valid until the values of the next round are sent. A buffer without memory stays one.
  @inlinable
  public func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeRawBufferPointer {
    guard let from = bytes.baseAddress else { return bytes }
    let count = bytes.count
    let to: UnsafeMutableRawPointer
    if count <= place.pointee.room, let next = place.pointee.next {
      to = next
      place.pointee.next = next + count
      place.pointee.room &-= count
    } else {
      to = allocate(count)
    }
    to.copyMemory(from: from, byteCount: count)
    return UnsafeRawBufferPointer(start: to, count: count)
  }

  @usableFromInline @inline(never)
  func allocate(_ count: Int) -> UnsafeMutableRawPointer {
    guard count <= ExchangeArena.blockSize / 4 else {
      let block = UnsafeMutableRawPointer.allocate(byteCount: count, alignment: 8)
      large.append(block)
      return block
    }
    if used == blocks.count { blocks.append(.allocate(byteCount: ExchangeArena.blockSize, alignment: 8)) }
    let block = blocks[used]
    used += 1
    place.pointee.next = block + count
    place.pointee.room = ExchangeArena.blockSize - count
    return block
  }

  /// What was copied is not needed any more.
  @usableFromInline
  func clear() {
    for block in large { block.deallocate() }
    large.removeAll()
    while blocks.count > ExchangeArena.keptBlocks { blocks.removeLast().deallocate() }
    used = 0
    place.pointee = Place()
  }
}
