// Positions: what sources and sinks that are no topics find in a job's state, and going on from there.

import FuzzHarness
import FuzzStorage
import MillraceBase
import MillraceDataflow
import MillraceIO
import MillraceModel
import MillraceSimulation
import MillraceStreams

@testable import MillraceConnectors

/// First byte: which source, or the sink of files. The rest is its position, or what a commit says of a part of a file.
let sourcePositions = FuzzTarget(
  name: "source-positions", allowance: 4 << 20,
  seeds: {
    let number = [UInt8](repeating: 0, count: 7) + [2]
    let done = [UInt8](repeating: 255, count: 8)
    return [
      [0] + number, [1] + number + number, [2] + number, [3] + number,
      [4] + done + [0, 0, 0, 1, 97] + number + [0, 0, 0, 1, 98],
      [5] + number + [0, 0, 0, 1, 99], [6] + number + number + number,
    ]
  }
) { input in
  guard input.count > 0 else { return }
  let position = input[1..<input.count]
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  let disk = SimulatedFileSystem(world: world)
  write([("/a", Array("x,y\n1,2\n".utf8)), ("/b", Array("x\n\"\n\"".utf8))], to: disk)
  do throws(JobError) {
    let source: any ReplayableSource
    switch input[0] % 7 {
    case 0: source = CollectionSource((0..<3).map { Record(value: Bytes("\($0)")) })
    case 1: source = TimerSource(every: .seconds(1), ticks: 5) { Timestamp(milliseconds: 3000) }
    case 2: return try StandardInputSource().restore(position)
    case 3: source = try MachineMetricsSource(in: disk)
    case 4: source = DirectorySource("/", rows: .csv, watches: false, in: disk)
    case 5: source = DirectorySource("/", watches: false, in: disk)
    default:
      let sink = FileSinkWriter(
        names: PartNames(directory: "/out", prefix: "p", suffix: "txt"), rolling: FileRolling(), header: nil, in: disk,
        clock: { MonotonicTime(nanoseconds: 0) })
      try sink.recover([["open", "next", "done-1"][input.count % 3]: position], epoch: 1)
      position.withBuffer { sink.append($0) }
      _ = try sink.prepare(commit: 1)
      return try sink.committed(1)
    }
    try source.restore(position)
    for _ in 0..<4 where try source.next(maxBytes: 100).isFinished { break }
  } catch {
    return
  }
}
