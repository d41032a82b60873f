// CacheLines: memory that shares no cache line with anything else.

extension UnsafeMutablePointer {
  /// Memory for one value, on cache lines of its own: what one thread writes all the time must not lie beside what another
  /// thread writes or reads. Not initialised; given back with `deallocate()`.
  ///
  /// Lines are 64 bytes on most processors, and some fetch them in pairs.
  public static func allocateOnOwnLines() -> UnsafeMutablePointer<Pointee> {
    let lines = 128
    precondition(MemoryLayout<Pointee>.alignment <= lines, "\(Pointee.self) is aligned to more than a cache line")
    let size = (MemoryLayout<Pointee>.size + lines - 1) / lines * lines
    return UnsafeMutableRawPointer.allocate(byteCount: max(size, lines), alignment: lines)
      .bindMemory(to: Pointee.self, capacity: 1)
  }
}
