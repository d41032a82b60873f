// SmallMemory: memory of few bytes that lies in the object that owns it, so that it is one allocation.

/// Owns some bytes, written once. What a queue keeps of a message is mostly small, and a ``Chunk`` is two allocations.
public final class SmallMemory: ManagedBuffer<Int, UInt8> {
  /// Most bytes that are kept so.
  public static let limit = 1024

  /// Bytes that `write` lays out: all of `count`, which must be 1 to ``limit``.
  public static func bytes(count: Int, _ write: (UnsafeMutableRawPointer) -> Void) -> Bytes {
    precondition(count > 0 && count <= limit, "small memory of \(count) bytes")
    let made = SmallMemory.create(minimumCapacity: count) { _ in count }
    // Safety: nobody else has it yet, and it is never written again; the pointer is valid as long as the object lives.
    let start = made.withUnsafeMutablePointerToElements { UnsafeMutableRawPointer($0) }
    write(start)
    return Bytes(owner: made, start: UnsafeRawPointer(start), count: count)
  }
}

extension Bytes {
  /// How much memory is kept alive by these bytes; nil when that is not known.
  public var keptMemory: Int? {
    switch owner {
    case nil: 0
    case let chunk as Chunk: chunk.capacity
    case let small as SmallMemory: small.header
    default: nil
    }
  }
}
