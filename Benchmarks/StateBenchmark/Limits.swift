// Limits: what the machine does at best, measured beside the figures in the same run.

import MillraceBase

enum Limits {
  /// Prints how many 64 bytes at random places of `size` bytes a core reads and writes in a second: places that are known in
  /// advance, and each place only when the one before was read.
  static func memory(size: Int) {
    let lines = size / 64
    let memory = UnsafeMutablePointer<UInt64>.allocate(capacity: lines * 8)
    defer { memory.deallocate() }
    memory.initialize(repeating: 0, count: lines * 8)
    let count = 20_000_000
    var begun = Report.processorSeconds()
    var place: UInt64 = 1
    for _ in 0..<count {
      place = place &* 0x5851_f42d_4c95_7f2d &+ 0x1405_7b7e_f767_814f
      memory[Int(place.multipliedFullWidth(by: UInt64(lines)).high) * 8] &+= 1
    }
    Report.say(
      "memory, \(size >> 20) MiB: \(Report.rate(count, Report.processorSeconds() - begun)) of random lines changed")
    begun = Report.processorSeconds()
    let chain = count / 4
    for _ in 0..<chain {
      let line = memory + Int(place.multipliedFullWidth(by: UInt64(lines)).high) * 8
      line.pointee &+= 1
      place = Hashing.mix(place &+ line.pointee)
    }
    let rate = Report.rate(chain, Report.processorSeconds() - begun)
    Report.say("memory, \(size >> 20) MiB: \(rate) one behind the other (\(place & 1))")
  }
}
