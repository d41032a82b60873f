// FilePositions: positions of the source of records that reads files.

import FuzzHarness
import FuzzStorage
import MillraceBase
import MillraceConnectors
import MillraceDataflow
import MillraceSimulation

/// A position of a file source, as the state log kept it, and then reading from there.
let filePositions = FuzzTarget(
  name: "file-positions", allowance: 4 << 20,
  seeds: {
    ["/a", "/b", "/c", ""].map { path in
      var writer = ByteWriter()
      writer.int64(0)
      writer.int64(path == "/b" ? -1 : 2)
      writer.int32(1)
      writer.utf8(path)
      return writer.finishJoined().array
    }
  }
) { input in
  let world = SimulatedWorld(seed: 1)
  defer { world.tearDown() }
  let disk = SimulatedFileSystem(world: world)
  write([("/a", Array("one\ntwo\n".utf8)), ("/b", Array("three".utf8))], to: disk)
  do throws(JobError) {
    let source = FileSource(files: ["/a", "/b"], in: disk, repeats: input.count % 2 == 0)
    try source.restore(input)
    for _ in 0..<4 {
      let batch = try source.next(maxBytes: 100)
      guard !batch.isFinished else { break }
      let again = FileSource(files: ["/a", "/b"], in: disk)
      try again.restore(batch.position)
    }
  } catch {
    return
  }
}
