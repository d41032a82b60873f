// LargeMemoryTests: memory that grows keeps what is in it, and what is new is zero, whatever the sizes.

import MillraceBase
import Testing

@Test("memory that grows from size to size, below and above a huge page, keeps its contents and adds zeros")
func largeMemoryGrows() {
  var size = 64
  var memory = LargeMemory.allocate(size)
  memory.storeBytes(of: 1, as: UInt64.self)
  for larger in [64, 4096, 1 << 20, 2 << 20, 4 << 20, 12 << 20] {
    let before = size / 8
    memory = LargeMemory.grow(memory, size, to: larger)
    size = larger
    #expect(UInt(bitPattern: memory) % (size >= 2 << 20 ? 2 << 20 : 16) == 0, "\(size) bytes")
    // Filled with their own numbers, as far as it was there before; an odd distance comes to words of all pages.
    let words = memory.assumingMemoryBound(to: UInt64.self)
    let places = stride(from: 0, to: size / 8, by: 101)
    #expect(places.allSatisfy { words[$0] == ($0 < before ? UInt64($0) + 1 : 0) }, "\(size) bytes")
    for place in places { words[place] = UInt64(place) + 1 }
  }
  LargeMemory.free(memory, size)
}
