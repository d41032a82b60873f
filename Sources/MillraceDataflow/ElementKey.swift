// ElementKey: how an element's record names it: the length of the key it belongs to, uint32 big endian, the key, and
// the element.

import MillraceBase

/// What stands behind the four bytes in the state log's key of an element.
enum ElementKey {
  /// Before the key.
  static let lengthSize = 4

  /// The group of the key: all elements of a key are in it.
  static func group(_ bytes: UnsafeRawBufferPointer) -> UInt8 {
    KeyGroup.of(split(bytes)?.key ?? UnsafeRawBufferPointer(start: nil, count: 0))
  }

  /// The key and the element; nil when the length is not that of a key.
  static func split(
    _ bytes: UnsafeRawBufferPointer
  ) -> (key: UnsafeRawBufferPointer, element: UnsafeRawBufferPointer)? {
    guard bytes.count >= lengthSize else { return nil }
    let length = Int(UInt32(bigEndian: bytes.loadUnaligned(as: UInt32.self)))
    guard length <= bytes.count - lengthSize else { return nil }
    return (
      UnsafeRawBufferPointer(rebasing: bytes[lengthSize..<lengthSize + length]),
      UnsafeRawBufferPointer(rebasing: bytes[(lengthSize + length)...])
    )
  }

  /// Whether two keys have the same bytes.
  static func isSame(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    guard left.count == right.count, let start = right.baseAddress else { return left.count == right.count }
    return KeyedTable.same(left, UnsafeMutableRawPointer(mutating: start))
  }

  /// Calls `body` with both put together.
  static func join<Result>(
    _ key: UnsafeRawBufferPointer, _ element: UnsafeRawBufferPointer, _ body: (UnsafeRawBufferPointer) -> Result
  ) -> Result {
    withUnsafeTemporaryAllocation(byteCount: lengthSize + key.count + element.count, alignment: 4) { memory in
      memory.storeBytes(of: UInt32(key.count).bigEndian, as: UInt32.self)
      UnsafeMutableRawBufferPointer(rebasing: memory[lengthSize...]).copyMemory(from: key)
      UnsafeMutableRawBufferPointer(rebasing: memory[(lengthSize + key.count)...]).copyMemory(from: element)
      return body(UnsafeRawBufferPointer(memory))
    }
  }
}
