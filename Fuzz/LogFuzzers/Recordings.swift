// Recordings: recordings of file operations.

import FuzzHarness
import FuzzStorage
import MillraceBase
import MillraceSimulation

@testable import MillraceIO

/// Recordings: as they are behind the head, or made of operations with right checksums, and then replayed.
let recordings = FuzzTarget(
  name: "recordings", allowance: 8 << 20,
  seeds: { [[0, 0, 0, 0, 53, 0, 0, 0, 0]] + (0..<8).map { [1, 0, 1, 0, 0, 2, 97, 7, UInt8($0), 1, 0, 0, 2, 97, 1] } }
) { input in
  var choices = Choices(input)
  let isRaw = choices.byte() % 2 == 0
  var bytes = RecordedOperation.head.array
  if isRaw {
    bytes += choices.rest().array
  } else {
    var sequence: UInt64 = 0
    while !choices.isEmpty {
      sequence += 1
      bytes += operation(&choices, sequence).encoded().array
    }
  }
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  let disk = SimulatedFileSystem(world: world)
  write([("/recording", bytes)], to: disk)
  do throws(IOError) {
    let recording = try Recording("/recording", from: disk)
    guard !isRaw else { return }
    try recording.replay(
      prefix: recording.operations.count, into: "/out", of: disk, unflushed: .mixed(seed: UInt64(input.count)))
  } catch {
    return
  }
}

private func operation(_ choices: inout Choices, _ sequence: UInt64) -> RecordedOperation {
  let kinds = RecordedOperation.Kind.allCases
  var out = RecordedOperation(kinds[choices.number(below: kinds.count)])
  out.sequence = sequence
  out.file = UInt32(choices.byte())
  out.position = Int64(choices.number(below: 1 << 12)) - 1
  out.options = OpenOptions(rawValue: Int32(choices.byte()))
  out.path = "/" + String(decoding: choices.bytes(choices.byte() % 4).array, as: UTF8.self)
  out.target = "/" + String(decoding: choices.bytes(choices.byte() % 4).array, as: UTF8.self)
  out.bytes = choices.bytes(choices.byte())
  out.length = out.bytes.isEmpty ? Int64(choices.number(below: 1 << 12)) - 1 : Int64(out.bytes.count)
  return out
}
