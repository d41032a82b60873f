// GeneratorTests: the committed messages are what the generator writes.

import Foundation
import Testing

private let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
  .deletingLastPathComponent()

@Test("the generated messages that are committed equal a fresh run of the generator")
func committedMessages() throws {
  let fresh = FileManager.default.temporaryDirectory.appending(path: "kafka-messages-\(UUID().uuidString)")
  defer {
    do { try FileManager.default.removeItem(at: fresh) } catch { Issue.record(error) }
  }
  let generator = Process()
  generator.executableURL = URL(filePath: "/usr/bin/env")
  generator.arguments = ["python3", root.appending(path: "Scripts/generate-kafka-messages.py").path, fresh.path]
  try generator.run()
  generator.waitUntilExit()
  #expect(generator.terminationStatus == 0)
  let committed = root.appending(path: "Sources/MillraceKafkaProtocol/Messages")
  let names = try FileManager.default.contentsOfDirectory(atPath: fresh.path).sorted()
  #expect(names.count == 116)
  #expect(try FileManager.default.contentsOfDirectory(atPath: committed.path).sorted() == names)
  for name in names {
    let left = try String(contentsOf: fresh.appending(path: name), encoding: .utf8)
    let right = try String(contentsOf: committed.appending(path: name), encoding: .utf8)
    #expect(left == right, "\(name) differs: run Scripts/generate-kafka-messages.py")
  }
}
