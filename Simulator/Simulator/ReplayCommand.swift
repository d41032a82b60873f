// ReplayCommand: rebuilds a data directory as a power loss may have left it, from what a server recorded.

import MillraceBase
import MillraceIO
import MillraceSimulation

/// `Simulator replay RECORDING PREFIX SEED DIRECTORY`
enum ReplayCommand {
  /// Runs the command.
  /// - Returns: the exit status.
  static func run(_ arguments: [String]) -> Int32 {
    guard arguments.count == 4, let prefix = Int(arguments[1]), let seed = UInt64(arguments[2]) else {
      Logger.standardError(.error, "usage: Simulator replay RECORDING PREFIX SEED DIRECTORY")
      return 2
    }
    let system = LinuxFileSystem()
    do throws(IOError) {
      let recording = try Recording(arguments[0], from: system)
      guard (0...recording.operations.count).contains(prefix) else {
        Logger.standardError(.error, "the recording has \(recording.operations.count) operations, not \(prefix)")
        return 2
      }
      // One in four loses everything that was not flushed, the others lose and tear parts of it.
      let unflushed: Recording.Unflushed = seed % 4 == 0 ? .lose : .mixed(seed: seed)
      try recording.replay(prefix: prefix, into: arguments[3], of: system, unflushed: unflushed)
      return 0
    } catch {
      Logger.standardError(.error, "\(error)")
      return 1
    }
  }
}
