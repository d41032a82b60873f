// InspectionTests: looking at data directories: sound, torn, damaged, and never changed by it.

import Foundation
import MillraceBase
import MillraceIO
import MillraceLog
import MillraceModel
import Testing

@testable import MillraceServer

/// Stops a server that got `values`, and returns its directory.
private func directory(
  _ values: [String], clean: Bool = true, configure: (inout LogConfiguration) -> Void = { _ in }
) throws -> TemporaryDirectory {
  let directory = try TemporaryDirectory()
  let server = try TestServer(directory: directory, configure: configure)
  let client = server.client()
  _ = try client.createTopic("t", partitions: 1, configs: [])
  for value in values {
    let sender = try RecordSender(client, topic: try client.topic("t"))
    try sender.add(Record(value: Bytes(value), timestamp: .now))
    try sender.flush()
  }
  server.stop()
  return directory
}

/// All files below a directory with their contents.
private func contents(_ path: String) throws -> [String: Data] {
  var out: [String: Data] = [:]
  let files = FileManager.default.enumerator(atPath: path)
  while let name = files?.nextObject() as? String {
    var isDirectory: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: "\(path)/\(name)", isDirectory: &isDirectory)
    out[name] = isDirectory.boolValue ? Data() : try Data(contentsOf: URL(filePath: "\(path)/\(name)"))
  }
  return out
}

private func inspect(_ directory: TemporaryDirectory) throws -> (found: LogInspection, commits: [InspectedCommit]) {
  var commits: [InspectedCommit] = []
  let found = try LogInspection.run(directory: directory.path, fileSystem: LinuxFileSystem()) { commits.append($0) }
  return (found, commits)
}

/// Changes one byte of the file.
private func flip(_ path: String, at position: UInt64) throws {
  let file = try FileHandle(forUpdating: URL(filePath: path))
  try file.seek(toOffset: position)
  let byte = try #require(try file.read(upToCount: 1)?.first)
  try file.seek(toOffset: position)
  try file.write(contentsOf: Data([byte ^ 0xff]))
  try file.close()
}

@Test("a sound directory is described and left as it was, interrupted files included")
func soundDirectory() throws {
  let directory = try directory(["a", "b", "c"])
  try Data(count: 100).write(to: URL(filePath: "\(directory.path)/journal/00000099.journal"))
  let before = try contents(directory.path)
  let (found, commits) = try inspect(directory)
  #expect(found.problems.isEmpty)
  #expect(found.records == 3)
  #expect(found.batches == 3)
  #expect(commits.count == found.commits)
  #expect(commits.map(\.sequence) == (1...UInt64(commits.count)).map { $0 })
  #expect(found.files.count == 2)
  #expect(found.files.last?.use.contains("interrupted") == true)
  #expect(found.snapshot != nil)
  #expect(try contents(directory.path) == before)
  #expect(InspectionReport.text(found).contains("sound"))
}

@Test("a changed byte in a commit that was durable is corruption, named with file and position")
func damagedCommit() throws {
  let directory = try directory(["a", "b", "c"])
  let commit = try #require(try inspect(directory).commits.first { $0.records > 0 })
  try flip(commit.file, at: UInt64(commit.position + 90))
  let found = try inspect(directory).found
  let problem = try #require(found.problems.first)
  #expect(problem.contains(commit.file))
  #expect(problem.contains("byte \(commit.position)"))
  #expect(InspectionReport.text(found).contains("damaged"))
}

@Test("a changed byte in the snapshot is corruption")
func damagedSnapshot() throws {
  let directory = try directory(["a"])
  try flip("\(directory.path)/snapshot.0", at: 20)
  let found = try inspect(directory).found
  #expect(found.problems.count == 1)
  #expect(found.problems.first?.contains("\(directory.path)/snapshot.0") == true)
}

@Test("every block of a segment is checked, and a changed byte in one is named")
func damagedSegment() throws {
  let large = String(repeating: "x", count: 100_000)
  let directory = try directory((0..<60).map { "\($0)" + large }) { $0.journalFileSize = 1 << 20 }
  let found = try inspect(directory).found
  #expect(found.problems.isEmpty)
  let segment = try #require(found.segments.first { $0.blocks > 0 }, "nothing was drained")
  #expect(segment.bytes > 100_000)
  try flip(segment.path, at: 5000)
  let damaged = try inspect(directory).found
  #expect(damaged.problems.first?.contains(segment.path) == true)
}

@Test("a directory without a journal is no data directory")
func noDataDirectory() throws {
  let directory = try TemporaryDirectory()
  for path in [directory.path, directory.path + "/absent"] {
    #expect {
      try LogInspection.run(directory: path, fileSystem: LinuxFileSystem())
    } throws: { error in
      "\(error)".contains("\(path) is no data directory")
    }
    #expect(MillraceCommand.run(["inspect", path], output: .standardOutput, errors: .standardError) == .failed)
  }
}

@Test("a directory that a server has open is refused with the exit code for data")
func directoryInUse() throws {
  try withServer { server in
    let code = MillraceCommand.run(
      ["inspect", server.directory.path], output: .standardOutput, errors: .standardError)
    #expect(code == .data)
  }
}
