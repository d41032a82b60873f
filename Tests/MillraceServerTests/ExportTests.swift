// ExportTests: what is sound of a damaged directory is served by a server on the exported one, at the offsets it had.

import Foundation
import MillraceBase
import MillraceBroker
import MillraceIO
import MillraceLog
import MillraceMetadata
import MillraceModel
import Testing

@testable import MillraceServer

/// A stopped server's directory with records in segments and in the journal, and what a client read from it.
private struct Original {
  let directory: TemporaryDirectory
  let served: [Int32: [Offset: String]]

  init(large: Int, small: Int) throws {
    directory = try TemporaryDirectory()
    let server = try TestServer(directory: directory) {
      $0.journalFileSize = 1 << 20
      $0.readWindowsSize = 0
    }
    let client = server.client()
    _ = try client.createTopic("t", partitions: 2, configs: [])
    _ = try client.createTopic("other", partitions: 1, configs: [])
    func send(_ topic: String, _ value: String) throws {
      let sender = try RecordSender(client, topic: try client.topic(topic))
      try sender.add(Record(value: Bytes(value), timestamp: .now))
      try sender.flush()
    }
    for index in 0..<large { try send("t", "\(index)" + String(repeating: "x", count: 70_000)) }
    for index in 0..<small { try send(index % 3 == 0 ? "other" : "t", "small \(index)") }
    served = try read(server, "t")
    server.stop()
  }

  /// Exports, and returns the report and what a server on the new directory serves of a topic.
  func export(_ topic: String = "t") throws -> (
    export: LogExport, text: String, served: [Int32: [Offset: String]], target: TemporaryDirectory
  ) {
    let before = try files(directory.path)
    let target = try TemporaryDirectory()
    var random = SystemRandomNumberGenerator()
    let metadata = Metadata()
    let export = try LogExport.run(
      from: directory.path, to: target.path, fileSystem: LinuxFileSystem(), stateMachine: metadata,
      reactor: try EpollReactor(name: "export", logger: .silent), logger: .silent, random: &random)
    #expect(try files(directory.path) == before, "the damaged directory is only read")
    #expect(try LogInspection.run(directory: target.path, fileSystem: LinuxFileSystem()).problems.isEmpty)
    let server = try TestServer(directory: target)
    let served = try read(server, topic)
    // It goes on like any other, and remembers.
    let client = server.client()
    let sender = try RecordSender(client, topic: try client.topic(topic))
    try sender.add(Record(value: Bytes("after"), timestamp: .now))
    try sender.flush()
    server.stop()
    let again = try TestServer(directory: target)
    let last = try read(again, topic)
    #expect(last.values.flatMap(\.values).count { $0 == "after" } == 1)
    again.stop()
    return (export, ExportCommand.text(export, metadata: metadata, target: target.path), served, target)
  }
}

/// All records of a topic, by partition and offset.
private func read(_ server: TestServer, _ name: String) throws -> [Int32: [Offset: String]] {
  let client = server.client()
  let topic = try client.topic(name)
  let fetcher = RecordFetcher(client)
  fetcher.assign(
    Dictionary(uniqueKeysWithValues: (0..<Int32(topic.partitions.count)).map { (TopicPartition(name, $0), Offset(0)) }),
    of: [topic])
  var out: [Int32: [Offset: String]] = [:]
  while true {
    let fetched = try fetcher.fetch(wait: .milliseconds(100))
    #expect(fetched.outOfRange.isEmpty)
    if fetched.ends.allSatisfy({ $0.value <= fetcher.positions[$0.key] ?? 0 }) { return out }
    for one in fetched.records {
      out[one.partition.partition, default: [:]][one.record.offset] = one.record.value?.text
    }
    fetcher.tookAll(of: fetched)
  }
}

private func files(_ path: String) throws -> [String: Data] {
  var out: [String: Data] = [:]
  let files = FileManager.default.enumerator(atPath: path)
  while let name = files?.nextObject() as? String {
    var isDirectory: ObjCBool = false
    _ = FileManager.default.fileExists(atPath: "\(path)/\(name)", isDirectory: &isDirectory)
    out[name] = isDirectory.boolValue ? Data() : try Data(contentsOf: URL(filePath: "\(path)/\(name)"))
  }
  return out
}

private func flip(_ path: String, at position: UInt64) throws {
  let file = try FileHandle(forUpdating: URL(filePath: path))
  try file.seek(toOffset: position)
  let byte = try #require(try file.read(upToCount: 1)?.first)
  try file.seek(toOffset: position)
  try file.write(contentsOf: Data([byte ^ 0xff]))
  try file.close()
}

private func inspect(_ path: String) throws -> (found: LogInspection, commits: [InspectedCommit]) {
  var commits: [InspectedCommit] = []
  let found = try LogInspection.run(directory: path, fileSystem: LinuxFileSystem()) { commits.append($0) }
  return (found, commits)
}

@Test("a sound directory is exported whole: segments, journal, topics")
func exportsAll() throws {
  let original = try Original(large: 60, small: 40)
  #expect(!(try inspect(original.directory.path)).found.segments.isEmpty, "nothing was drained")
  let (export, text, served, _) = try original.export()
  #expect(export.losses.isEmpty && text.contains("nothing was left out"))
  #expect(served == original.served && export.records == 100)
}

@Test(
  "a damaged commit costs its own records; those behind it keep their offsets, and the report names file and offset")
func exportsAroundCommit() throws {
  let original = try Original(large: 0, small: 30)
  let commits = try inspect(original.directory.path).commits.filter { $0.records > 0 }
  // One in the middle, of topic t.
  let commit = commits[10]
  try flip(commit.file, at: UInt64(commit.position + 100))
  #expect(throws: (any Error).self) { try TestServer(directory: original.directory) }
  let (export, text, served, _) = try original.export()
  let lost = export.losses.compactMap(\.offsets)
  #expect(text.contains("\(commit.file) at byte \(commit.position)") && text.contains("t-"))
  #expect(lost.count == 1 && export.records == 29)
  for (partition, records) in original.served {
    let kept = served[partition] ?? [:]
    #expect(kept.allSatisfy { records[$0.key] == $0.value })
    #expect(records.count - kept.count <= 1)
  }
  #expect(served.values.reduce(0) { $0 + $1.count } == 19)
}

@Test("a damaged newest snapshot is replaced by the one before it and the commits since")
func exportsWithoutNewestSnapshot() throws {
  let original = try Original(large: 0, small: 30)
  let newest = try #require(try inspect(original.directory.path).found.snapshot)
  // The newest is the one that stands for the later commit: damage one after the other, see which keeps a server off.
  for slot in 0...1 {
    let path = "\(original.directory.path)/snapshot.\(slot)"
    try flip(path, at: 4100)
    let isNewest = try inspect(original.directory.path).found.snapshot?.sequence != newest.sequence
    if !isNewest {
      try flip(path, at: 4100)
      continue
    }
    #expect(throws: (any Error).self) { try TestServer(directory: original.directory) }
    let (export, text, served, _) = try original.export()
    #expect(served == original.served && export.records == 30)
    #expect(text.contains(path) && text.contains("the state is that of snapshot"))
    return
  }
  Issue.record("neither snapshot is the newest")
}

@Test("a damaged block of a segment costs the records in it and no others, and the report names them")
func exportsAroundBlock() throws {
  let original = try Original(large: 60, small: 10)
  let segment = try #require(try inspect(original.directory.path).found.segments.first { $0.blocks > 2 })
  try flip(segment.path, at: 6000)
  let (export, text, served, _) = try original.export()
  #expect(text.contains(segment.path) && export.losses.count == 1)
  let offsets = try #require(export.losses.first?.offsets)
  #expect(export.records == 70 - Int64(offsets.count))
  let missing = original.served.flatMap { partition, records in
    records.keys.filter { served[partition]?[$0] == nil }
  }
  #expect(Set(missing) == Set(offsets))
}

@Test("a segment that is gone is left out, and all that is elsewhere is there")
func exportsWithoutSegment() throws {
  let original = try Original(large: 60, small: 10)
  let segment = try #require(try inspect(original.directory.path).found.segments.first)
  try FileManager.default.removeItem(atPath: segment.path)
  let (export, text, served, _) = try original.export()
  #expect(text.contains(segment.path) && !export.losses.isEmpty)
  #expect(!served.isEmpty)
  for (partition, records) in served { #expect(records.allSatisfy { original.served[partition]?[$0.key] == $0.value }) }
  let lost = export.losses.compactMap(\.offsets).reduce(0) { $0 + $1.count }
  #expect(export.records == 70 - Int64(lost))
}

@Test(
  "the command says what was left out and ends with the code for data; a directory with something in it is not written into"
)
func exportCommand() throws {
  let original = try Original(large: 0, small: 9)
  let target = try TemporaryDirectory()
  func run(_ directory: String) -> ExitCode {
    MillraceCommand.run(
      ["inspect", original.directory.path, "--export", directory], output: .standardOutput, errors: .standardError)
  }
  #expect(run(target.path + "/new") == .done)
  #expect(run(target.path) == .failed, "there is something in it")
  #expect(run(target.path + "/new") == .failed)
  let commit = try #require(try inspect(original.directory.path).commits.first { $0.records > 0 })
  try flip(commit.file, at: UInt64(commit.position + 100))
  #expect(run(target.path + "/second") == .data)
  #expect(try inspect(target.path + "/second").found.problems.isEmpty)
}
