// LargeMemory: memory for tables that may become large: from a huge page on in pages of its own.

import CMillraceSystem

/// Zeroed memory of any size. From 2 MiB on it begins at a huge page and asks the system for such pages, because what is looked up
/// at random places costs a walk through the page tables otherwise; the system gives pages as they are first used.
public enum LargeMemory {
  private static let hugePage = 2 << 20

  /// Memory of `size` bytes, all 0, aligned to 16 bytes at least and to 64 bytes from 2 MiB on.
  /// - Parameter size: a multiple of 4,096 from 2 MiB on.
  public static func allocate(_ size: Int) -> UnsafeMutableRawPointer {
    guard size >= hugePage else {
      let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
      memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
      return memory
    }
    precondition(size % 4096 == 0, "\(size) bytes are no whole pages")
    guard let memory = mr_allocate_pages(size) else {
      preconditionFailure("out of memory: no \(size) bytes for a table")
    }
    return memory
  }

  /// Memory of ``allocate(_:)`` with more behind it, which is all 0; it may lie somewhere else. Large memory is not copied.
  /// - Parameters:
  ///   - size: what it has.
  ///   - larger: what it is to have; as for ``allocate(_:)``.
  public static func grow(_ memory: UnsafeMutableRawPointer, _ size: Int, to larger: Int) -> UnsafeMutableRawPointer {
    precondition(larger >= size, "\(size) bytes do not grow to \(larger)")
    guard size >= hugePage else {
      let grown = allocate(larger)
      grown.copyMemory(from: memory, byteCount: size)
      memory.deallocate()
      return grown
    }
    precondition(larger % 4096 == 0, "\(larger) bytes are no whole pages")
    guard let grown = mr_grow_pages(memory, size, larger) else {
      preconditionFailure("out of memory: no \(larger) bytes for a table")
    }
    return grown
  }

  /// Gives memory of ``allocate(_:)`` or ``grow(_:_:to:)`` back.
  public static func free(_ memory: UnsafeMutableRawPointer, _ size: Int) {
    if size >= hugePage { mr_free_pages(memory, size) } else { memory.deallocate() }
  }
}
