// Storage: a small log's sizes, and files on a simulated disk.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceSimulation

/// Sizes of a log that is made anew for each input.
package var smallLog: LogConfiguration {
  var configuration = LogConfiguration(directory: "/data")
  configuration.journalFileSize = 32 << 10
  configuration.firstJournalFileSize = 16 << 10
  configuration.journalFileLimit = 3
  configuration.hotTailSize = 32 << 10
  configuration.commitSize = 8 << 10
  configuration.largestUnit = 16 << 10
  configuration.segmentBlockSize = 1024
  return configuration
}

/// Makes files with these contents, and the directories that they are in.
package func write(_ files: [(path: String, bytes: [UInt8])], to disk: SimulatedFileSystem) {
  do throws(IOError) {
    for (path, bytes) in files {
      var folder = ""
      for name in path.split(separator: "/").dropLast() {
        folder += "/" + name
        try disk.createDirectory(folder)
      }
      let file = try disk.open(path, [.write, .create, .truncate, .durableWrites])
      try Bytes(bytes).withBuffer { buffer throws(IOError) in try file.write(buffer, at: 0) }
      file.close()
    }
  } catch {
    preconditionFailure("\(error)")
  }
}
