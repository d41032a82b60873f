// ExportCommand: `millrace inspect DIR --export NEWDIR`: what is sound of a damaged directory, in a new one.

import MillraceBase
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel

/// Writes what is sound of `directory` into `target`, and says what was left out.
/// - Throws: `.data` when something was left out, after all else was written.
struct ExportCommand {
  let directory: String
  let target: String
  /// What `directory` is read with.
  let fileSystem: any FileSystem
  /// What `target` is written with.
  let targetFileSystem: any FileSystem
  let output: OutputStream

  func run() throws(CommandFailure) {
    let metadata = Metadata()
    let export: LogExport
    var random = SystemRandomNumberGenerator()
    do throws(LogError) {
      let reactor = try makeReactor()
      export = try LogExport.run(
        from: directory, to: target, fileSystem: fileSystem, targetFileSystem: targetFileSystem, stateMachine: metadata,
        reactor: reactor, logger: .silent, random: &random)
      // It is worth nothing if it cannot be read again.
      let check = try LogInspection.run(directory: target, fileSystem: targetFileSystem)
      if let problem = check.problems.first { throw LogError(.io, "what was written cannot be read again: \(problem)") }
    } catch {
      throw CommandFailure(.failed, error.reason)
    }
    try output.print(ExportCommand.text(export, metadata: metadata, target: target))
    guard !export.losses.isEmpty else { return }
    throw CommandFailure(.data, "\(directory) is damaged: what is listed above is not in \(target)")
  }

  /// Only its clock is used.
  private func makeReactor() throws(LogError) -> EpollReactor {
    do throws(IOError) {
      return try EpollReactor(name: "export", logger: .silent, usesRing: false)
    } catch {
      throw LogError(error)
    }
  }

  /// What was written and what was not, for people.
  static func text(_ export: LogExport, metadata: Metadata, target: String) -> String {
    var names: [PartitionLogID: String] = [:]
    for topic in metadata.topics.values {
      for (index, partition) in topic.partitions.enumerated() { names[partition] = "\(topic.name)-\(index)" }
    }
    for number in metadata.queues.allNumbers {
      guard let queue = metadata.queues[number]?.definition else { continue }
      for (lane, partition) in queue.lanes.enumerated() {
        names[partition] = "queue '\(queue.name)' in vhost '\(queue.virtualHost)' lane \(lane)"
      }
    }
    let queues = metadata.queues.count > 0 ? " and \(Shown.count(metadata.queues.count)) queues" : ""
    var out = "exported to \(target): \(Shown.count(Int(export.records))) records in \(Shown.count(export.batches)) "
    out += "batches, \(Shown.bytes(Double(export.bytes))); \(Shown.count(metadata.topics.count)) topics\(queues) with "
    out += "\(Shown.count(export.partitions)) partitions\n"
    for loss in export.losses {
      out += "left out: "
      if let partition = loss.partition { out += (names[partition] ?? "partition number \(partition.number)") + " " }
      if let offsets = loss.offsets {
        out +=
          offsets.count == 1 ? "offset \(offsets.lowerBound)" : "offsets \(offsets.lowerBound) to \(offsets.upperBound)"
      }
      out += (loss.partition == nil ? "" : ": ") + loss.reason + "\n"
    }
    if export.losses.isEmpty { out += "nothing was left out\n" }
    return out
  }
}
