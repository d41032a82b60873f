// SpilledStateEncryptionTests: what memory has no room for of a job's state lies in files that have no names; where the data directory
// is encrypted, nothing in them, nor in any other file of it, can be read.

import Foundation
import Millrace
import Testing

/// Where the job runs.
enum JobPlace: CaseIterable { case embedded, worker }

@Suite("state beyond memory, in a directory that is encrypted")
struct SpilledStateEncryptionTests {
  private static let keys = 6000
  /// Stands in every key, and so in the state.
  private static let mark = "users-secret-key"

  /// Bytes of all files below a directory that have names, and of those that this process has open without one.
  private func contents(of directory: String) throws -> (named: [Data], nameless: [Data]) {
    var named: [Data] = []
    for path in try FileManager.default.subpathsOfDirectory(atPath: directory) {
      // Some come and go while this looks, and some are folders or sockets.
      if let bytes = FileManager.default.contents(atPath: "\(directory)/\(path)") { named.append(bytes) }
    }
    var nameless: [Data] = []
    let open = "/proc/self/fd"
    for number in try FileManager.default.contentsOfDirectory(atPath: open) {
      guard let target = try? FileManager.default.destinationOfSymbolicLink(atPath: "\(open)/\(number)"),
        target.hasPrefix(directory), target.hasSuffix(" (deleted)"),
        let file = FileHandle(forReadingAtPath: "\(open)/\(number)")
      else { continue }
      nameless.append(try file.readToEnd() ?? Data())
    }
    return (named, nameless)
  }

  private func holds(_ files: [Data]) -> Bool {
    files.contains { $0.range(of: Data(SpilledStateEncryptionTests.mark.utf8)) != nil }
  }

  @Test(
    "a job's state in files can be read in a plain directory, and in no file of an encrypted one; counts are right in both",
    arguments: JobPlace.allCases, [false, true])
  func spills(_ place: JobPlace, isEncrypted: Bool) async throws {
    try await inTemporaryDirectory { directory in
      try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
      let data = "\(directory)/data"
      var configuration = EmbeddedBroker.Configuration()
      if isEncrypted {
        let path = "\(directory)/keys"
        let key = Data((0..<32).map { _ in UInt8.random(in: 0...255) }).base64EncodedString()
        #expect(
          FileManager.default.createFile(
            atPath: path, contents: Data("\(key)\n".utf8), attributes: [.posixPermissions: 0o600]))
        configuration.encryptionKeyFile = path
      }
      let broker = try await EmbeddedBroker.open(directory: data, configuration: configuration)
      try await broker.listenForWorkers()
      try await broker.createTopic("words", partitions: 2)
      let job = DataStream.topic("words").keyBy { $0.value.text }.sum { _ in 1 }.to(topic: "counts").job(named: "count")
      var options = JobOptions()
      options.stateMemory = 16 << 10
      let names = (0..<SpilledStateEncryptionTests.keys).map { "\(SpilledStateEncryptionTests.mark)-\($0)" }
      // Each comes twice, so that the second needs what the first has left in a file.
      for _ in 0..<2 { try await broker.produce(names.map { record($0) }, to: "words") }
      let figures: () -> JobFigures
      let stop: () async throws -> Void
      switch place {
      case .embedded:
        let running = try await broker.run(job, options: options)
        figures = { running.figures }
        stop = { try await running.stop() }
      case .worker:
        let worker = JobWorker(job, directory: data, options: options)
        let running = Task { try await worker.run() }
        figures = { worker.figures }
        stop = {
          worker.stop()
          try await running.value
        }
      }
      var counts: [String: Int] = [:]
      var twice = 0
      for try await record in broker.consume("counts") {
        let count = Int(record.text) ?? -1
        if counts.updateValue(count, forKey: record.key?.text ?? "") != 2, count == 2 { twice += 1 }
        if twice == names.count { break }
      }
      #expect(counts == Dictionary(uniqueKeysWithValues: names.map { ($0, 2) }))
      #expect(figures().stateFiles > 0, "the state fits into memory")
      let files = try contents(of: data)
      #expect(files.nameless.contains { $0.count > 4096 }, "a file without a name holds state")
      #expect(holds(files.named) == !isEncrypted && holds(files.nameless) == !isEncrypted)
      try await stop()
      try await broker.close()
      #expect(try holds(contents(of: data).named) == !isEncrypted)
    }
  }
}
